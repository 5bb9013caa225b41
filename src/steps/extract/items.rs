//! An item on its way from the model's JSON to a record: evidence from the quote, times, dates, and free text held
//! against what was said.

use serde_json::{Map, Value, json};

use super::cues::Candidate;
use crate::steps::StepContext;
use crate::steps::grounding::{Dropped, Ground, is_first_person};
use crate::steps::parts::Part;
use crate::steps::prompt::{date_phrases, resolve_date};
use crate::steps::schema::{Builtin, builtin_fields};
use crate::steps::text::{carried_by, clip, content, similarity, squeeze, words};

/// From this likeness on a rewording is a copy.
const COPIED: f64 = 0.7;
/// The least share of the core's words that a rewording keeps.
const LEAST_POINT: f64 = 0.5;
/// A core may be so short that a plain rewording is longer.
const LEAST_LENGTH: usize = 50; // characters

/// What to do with free text that the turns read do not carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Otherwise {
    Quote,
    None,
    Drop,
}

/// An item with what is known of where it comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    pub fields: Map<String, Value>,
    pub turns: Vec<usize>,  // its evidence, ascending
    pub window: Vec<usize>, // the turns that were read for it
    /// Where it takes back something settled before: all that its turn says.
    pub takes_back: Option<String>,
}

impl Item {
    pub fn into_value(self) -> Value {
        Value::Object(self.fields)
    }
}

/// Finishes the items of one step.
pub struct Finisher<'a> {
    cx: &'a StepContext<'a>,
    ground: &'a Ground,
    schema: &'a Value,
    builtins: Vec<(String, Builtin)>,
    free_texts: Vec<(String, usize)>, // field, its longest length in characters
    least_carried: f64,
    otherwise: Otherwise,
    is_only: bool,
}

impl<'a> Finisher<'a> {
    pub fn new(
        cx: &'a StepContext<'a>,
        ground: &'a Ground,
        schema: &'a Value,
        least_carried: f64,
        otherwise: Otherwise,
    ) -> Self {
        Self {
            cx,
            ground,
            schema,
            builtins: builtin_fields(schema),
            free_texts: free_texts(schema),
            least_carried,
            otherwise,
            is_only: false,
        }
    }

    /// Finishes the one record of a document: it is never dropped.
    pub fn of_only(self) -> Self {
        Self { is_only: true, ..self }
    }

    /// Returns the finished item; `None` where it is dropped, which `notes` then says.
    pub fn finish(
        &self,
        mut raw: Map<String, Value>,
        part: &Part,
        candidate: Option<&Candidate>,
        notes: &mut Vec<String>,
    ) -> Option<Item> {
        let document = self.cx.document;
        let window = part.turns();
        let turns = self.evidence(&mut raw, &window);
        let said = self.said(&raw, candidate);
        let mut quoted = Vec::new();
        for (field, max_length) in &self.free_texts {
            let Some(Value::String(text)) = raw.get(field) else { continue };
            let text = squeeze(text);
            let worded = match candidate {
                Some(candidate) => self.rewording(&text, candidate, part, &window),
                None => self.is_carried(&text, part, &window).then(|| text.clone()),
            };
            if let Some(worded) = worded {
                raw.insert(field.clone(), json!(clip(&worded, *max_length)));
                continue;
            }
            let replacement = match (self.otherwise, &said) {
                (Otherwise::Quote, Some(said)) => {
                    quoted.push(field.clone());
                    json!(clip(said, *max_length))
                }
                (Otherwise::None, _) => Value::Null,
                // One value that the text does not hold is no reason to lose the others of the record.
                _ if self.is_only => {
                    notes.push(format!("`{field}` is null: the text does not hold {}", clip(&text, 60)));
                    Value::Null
                }
                _ => {
                    let shown = clip(&text, 60);
                    notes.push(format!("dropped an item whose `{field}` is not in the text: {shown}"));
                    return None;
                }
            };
            raw.insert(field.clone(), replacement);
        }

        // In the order of the schema, then what was added to it.
        let mut fields = Map::new();
        for name in super::field_names(self.schema) {
            if let Some(value) = raw.get(&name) {
                fields.insert(name.clone(), value.clone());
            }
            if let Some((_, Builtin::When)) = self.builtins.iter().find(|(n, _)| *n == name) {
                let words = raw.get(&name).and_then(Value::as_str);
                let date = words.zip(document.meta.get("date")).and_then(|(w, base)| resolve_date(w, base));
                fields.entry(format!("{name}_date")).or_insert(json!(date));
            }
        }
        fields.entry("at").or_insert(json!(crate::steps::moment(document, &turns)));
        if !quoted.is_empty() {
            fields.entry("quoted").or_insert(json!(quoted));
        }
        let takes_back =
            candidate.filter(|c| c.reverses).map(|c| document.turn_text(&document.turns[c.turn]).to_owned());
        Some(Item { fields, turns, window, takes_back })
    }

    /// Returns the turns of the item's evidence. A quote's own turn is added to them: it is where the words stand,
    /// whatever the model pointed to.
    fn evidence(&self, raw: &mut Map<String, Value>, window: &[usize]) -> Vec<usize> {
        let document = self.cx.document;
        let of_kind = |kind| self.builtins.iter().filter(move |(_, b)| *b == kind).map(|(n, _)| n.as_str());
        let mut turns: Vec<usize> = Vec::new();
        for field in of_kind(Builtin::Turns) {
            let ids: Vec<&str> =
                raw.get(field).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
            turns.extend(window.iter().filter(|&&i| ids.contains(&document.turns[i].id.to_string().as_str())));
        }
        for field in of_kind(Builtin::Quote) {
            let Some(quote) = raw.get(field).and_then(Value::as_str) else { continue };
            let holds = |i: &&usize| squeeze(document.turn_text(&document.turns[**i])).contains(quote);
            turns.extend(window.iter().find(holds));
        }
        turns.sort_unstable();
        turns.dedup();
        for field in of_kind(Builtin::Turns) {
            let ids: Vec<String> = turns.iter().map(|&i| document.turns[i].id.to_string()).collect();
            raw.insert(field.to_owned(), json!(ids));
        }
        turns
    }

    /// The words that stand in for free text: the candidate's, else the item's quote.
    fn said(&self, raw: &Map<String, Value>, candidate: Option<&Candidate>) -> Option<String> {
        let quote = || {
            self.builtins
                .iter()
                .find(|(_, b)| *b == Builtin::Quote)
                .and_then(|(n, _)| raw.get(n)?.as_str().map(str::to_owned))
        };
        candidate.map(|c| c.core.clone()).or_else(quote)
    }

    /// Returns the words for a candidate: the model's own where they put what was said another way, shorter and
    /// without losing its point; the sentence's core where they only repeat it; `None` where they say something else.
    fn rewording(&self, text: &str, candidate: &Candidate, part: &Part, window: &[usize]) -> Option<String> {
        if similarity(text, &candidate.core) >= COPIED {
            return Some(candidate.core.clone());
        }
        // The day is a field of its own, and a wording may leave it out.
        let mut undated = candidate.core.clone();
        for range in date_phrases(&candidate.core).into_iter().rev() {
            undated.replace_range(range, "");
        }
        // "Ask him today": nothing to reword.
        if content(&undated).is_empty() {
            return Some(candidate.core.clone());
        }
        let point = carried_by(&undated, &content(text));
        let too_long = text.chars().count() > candidate.core.chars().count().max(LEAST_LENGTH) * 3 / 2;
        let reports = words(text).iter().any(|w| matches!(w.as_str(), "said" | "says" | "asked" | "sagte"));
        let speaks = reports || is_first_person(text) || text.contains(": ");
        let fits = point >= LEAST_POINT && !too_long && !speaks && self.is_carried(text, part, window);
        fits.then(|| text.trim_end_matches(['.', ',']).to_owned())
    }

    fn is_carried(&self, text: &str, part: &Part, window: &[usize]) -> bool {
        let speech = part.speech(self.cx.document);
        if content(text).is_empty() {
            // A name such as "It" or "US" may be a field's whole value; as the wording of an item it says nothing.
            return self.is_only && !text.is_empty() && squeeze(&speech).contains(text);
        }
        if carried_by(text, &content(&speech)) < self.least_carried {
            return false;
        }
        // Names and numbers are held to the whole document, talk about the task to nothing.
        !matches!(self.ground.hold(text, window, &speech, ""), Err(Dropped::UnknownName | Dropped::MetaTalk))
    }
}

/// The fields that are text of the model's own, alone or as one of several choices, with their longest length.
pub fn free_texts(schema: &Value) -> Vec<(String, usize)> {
    let length = |field: &Value| {
        let is_free = field.get("type").is_some_and(|t| t == "string")
            && ["enum", "const", "format", "pattern"].iter().all(|k| field.get(*k).is_none());
        is_free.then(|| field.get("maxLength").and_then(Value::as_u64).unwrap_or(200) as usize)
    };
    let options =
        |field: &Value| ["anyOf", "oneOf"].iter().filter_map(|k| field.get(*k)?.as_array()).flatten().find_map(length);
    let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    properties.filter_map(|(name, field)| Some((name.clone(), length(field).or_else(|| options(field))?))).collect()
}
