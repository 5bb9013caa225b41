//! `extract`: items that fit a schema, each with evidence that exists.
//!
//! Two ways to read: every part in full, asking for all items in it; or, with `candidates`, the sentences whose words
//! point to an item, one by one with the turns around them. Either way the answer is decoded under the schema, whose
//! turns, quotes, speakers and dates are those of the text at hand.

mod cues;
mod items;
mod kind;
mod merge;
mod phrases;
mod verify;

pub use self::kind::KIND;

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use self::cues::{Candidate, Topic};
use self::items::{Finisher, Otherwise};
use self::merge::Merge;
use self::verify::Verify;
use super::ask::{Asker, Question, language, render_with};
use super::grounding::Ground;
use super::parts::{ByModel, Part, coverage, coverage_of_turns, pack};
use super::prompt::{Template, texts};
use super::schema::{self, Builtin, Scope};
use super::{Reason, Step, StepContext, StepError, StepOutput};
use crate::inference::engine::{Constraint, FinishReason};

/// Tokens an answer may have beside its strings: braces, names of fields, numbers.
const TOKENS_PER_FIELD: usize = 12;
const MOST_ANSWER_TOKENS: usize = 1536;
/// Characters of free text per token, low so that the answer has room.
const CHARS_PER_TOKEN: usize = 3;

/// The items of one reading; `None` where it failed.
type Answered = Option<Vec<Map<String, Value>>>;

struct Extract {
    schema: Value, // of one item
    many: bool,
    instruct: Option<Template>,
    examples: Vec<Value>,
    topic: Option<Topic>,
    around: usize,       // turns
    size: Option<usize>, // tokens
    overlap: usize,      // turns
    merge: Merge,
    least_carried: f64,
    otherwise: Otherwise,
    verify: Verify,
}

fn field_names(schema: &Value) -> Vec<String> {
    schema.get("properties").and_then(Value::as_object).into_iter().flatten().map(|(name, _)| name.clone()).collect()
}

/// One thing to ask: a part in full, or a candidate with the turns around it.
struct Reading<'a> {
    part: &'a Part,
    candidate: Option<&'a Candidate>,
    /// What the candidate settles, by field.
    settled: Map<String, Value>,
    /// The schema of what is left to ask for; `None` where nothing is.
    asked: Option<Value>,
}

impl Step for Extract {
    fn run(&self, cx: &StepContext<'_>) -> Result<StepOutput, StepError> {
        let asker = Asker::new(cx)?;
        let instruct = self.instruct.as_ref().map(|t| render_with(cx, t, &[])).transpose()?.unwrap_or_default();
        let mut out = StepOutput::default();

        let found = self.topic.as_ref().map(|t| t.find(cx.document));
        let parts = match &found {
            Some(found) => self.windows(cx, &asker, &instruct, &found.candidates)?,
            None => self.parts(cx, &asker, &instruct)?,
        };
        let candidates = found.as_ref().map(|f| f.candidates.as_slice()).unwrap_or_default();
        let readings = parts
            .iter()
            .enumerate()
            .filter(|(_, part)| !part.pieces.is_empty())
            .map(|(i, part)| self.reading(cx, part, candidates.get(i)))
            .collect::<Result<Vec<_>, _>>()?;
        let answers = self.ask(cx, &asker, &instruct, &readings, &mut out)?;

        let ground = Ground::new(cx.document, &language(cx));
        let finisher = Finisher::new(cx, &ground, &self.schema, self.least_carried, self.otherwise);
        let mut items = Vec::new();
        let mut was_read = Vec::new();
        for (reading, answer) in readings.iter().zip(answers) {
            was_read.push(answer.is_some());
            for item in answer.into_iter().flatten() {
                if let Some(item) = finisher.finish(item, reading.part, reading.candidate, &mut out.notes) {
                    items.push(item);
                }
            }
        }
        let mut items = self.merge.merge(items, &mut out.notes);
        self.verify.apply(cx, &asker, &instruct, &mut items, &mut out)?;

        match &found {
            // Candidates were asked for: that the rest was searched by words alone is no gap, and the note says it.
            Some(found) => {
                out.notes.push(search_note(cx, found));
                let failed = parts.iter().zip(&was_read).filter(|(_, read)| !**read).flat_map(|(p, _)| p.turns());
                let failed: BTreeSet<_> = failed.collect();
                if !failed.is_empty() {
                    let unread = coverage_of_turns(cx.document, &failed);
                    out.partial.push(format!("did not read the candidates in {} {}s", unread.read, unread.unit));
                }
            }
            None => {
                let coverage = coverage(cx.document, &parts, &was_read);
                if coverage.read < coverage.total && !was_read.is_empty() {
                    out.partial.push(format!("did not read {} {}", coverage.unit, coverage.unread.join(", ")));
                }
                out.coverage = Some(coverage);
            }
        }
        out.value = if self.many {
            Value::Array(items.into_iter().map(items::Item::into_value).collect())
        } else {
            merge::one(items, &self.schema, &mut out.notes).ok_or_else(|| StepError {
                reason: Reason::NoTextFound,
                detail: "there is nothing to extract from".into(),
            })?
        };
        Ok(out)
    }
}

impl Extract {
    /// The document in parts that are read in full.
    fn parts(&self, cx: &StepContext<'_>, asker: &Asker<'_>, instruct: &str) -> Result<Vec<Part>, StepError> {
        let empty = self.prompt("", instruct, None)?;
        let room = asker.room(&empty, answer_tokens(&self.schema, self.many))?;
        let size = self.size.unwrap_or_else(|| super::summarize::part_size(asker.window())).min(room);
        Ok(pack(cx.document, size, self.overlap, &ByModel(asker.generator)))
    }

    /// The turns around each candidate, as many of them as fit: at least the candidate's own.
    fn windows(
        &self,
        cx: &StepContext<'_>,
        asker: &Asker<'_>,
        instruct: &str,
        candidates: &[Candidate],
    ) -> Result<Vec<Part>, StepError> {
        const AFTER: usize = 2;
        let empty = self.prompt("", instruct, None)?;
        let room = asker.room(&empty, answer_tokens(&self.schema, false))?;
        let document = cx.document;
        let window = |candidate: &Candidate| {
            let first = candidate.evidence.first().copied().unwrap_or(candidate.turn);
            let mut from = first.saturating_sub(self.around);
            let mut to = (candidate.turn + AFTER + 1).min(document.turns.len());
            loop {
                let pieces =
                    (from..to).map(|i| super::parts::Piece { turn: Some(i), range: document.turns[i].range.clone() });
                let mut part = Part { pieces: pieces.collect(), num_tokens: 0 };
                part.num_tokens = asker.generator.count_tokens(&part.lines(document));
                if part.num_tokens <= room || to - from <= 1 {
                    return part;
                }
                // The farther end goes first; the candidate itself stays.
                if candidate.turn - from > to - 1 - candidate.turn { from += 1 } else { to -= 1 }
            }
        };
        Ok(candidates.iter().map(window).collect())
    }

    fn reading<'a>(
        &self,
        cx: &StepContext<'_>,
        part: &'a Part,
        candidate: Option<&'a Candidate>,
    ) -> Result<Reading<'a>, StepError> {
        let scope = if cx.document.turns.is_empty() {
            let text = part.speech(cx.document);
            Scope { quotes: schema::quotes(&text), when: schema::when(&text), ..Scope::default() }
        } else {
            Scope::of_turns(cx.document, &part.turns())
        };
        let settled = candidate.map(|c| settle(cx, &self.schema, c)).unwrap_or_default();
        let mut left = self.schema.clone();
        if let Some(fields) = left.get_mut("properties").and_then(Value::as_object_mut) {
            fields.retain(|name, _| !settled.contains_key(name));
        }
        if let Some(required) = left.get_mut("required").and_then(Value::as_array_mut) {
            required.retain(|name| name.as_str().is_none_or(|n| !settled.contains_key(n)));
        }
        let something_left = !field_names(&left).is_empty();
        let asked = if something_left {
            let resolved = schema::resolve(&left, &scope);
            // A part without anything to quote, such as one "Hm." alone, holds no item.
            match (resolved, self.many) {
                (Ok(schema), _) => Some(schema),
                (Err(_), true) => None,
                (Err(detail), false) => return Err(StepError { reason: Reason::SchemaNotMet, detail }),
            }
        } else {
            None
        };
        Ok(Reading { part, candidate, settled, asked })
    }

    /// Asks all readings. An inner `None` is a reading that failed; why is in `out.partial`.
    fn ask(
        &self,
        cx: &StepContext<'_>,
        asker: &Asker<'_>,
        instruct: &str,
        readings: &[Reading<'_>],
        out: &mut StepOutput,
    ) -> Result<Vec<Answered>, StepError> {
        let mut questions = Vec::new();
        for reading in readings {
            let Some(schema) = &reading.asked else { continue };
            let text = match reading.candidate {
                Some(_) => reading.part.speech(cx.document),
                None => reading.part.lines(cx.document),
            };
            let list = self.many && reading.candidate.is_none();
            let prompt = self.prompt(&text, instruct, reading.candidate.map(|c| (cx, c)))?;
            let mut question = Question::new(prompt, answer_tokens(schema, list), asker.sampling());
            let whole = if list {
                json!({ "type": "array", "items": schema, "maxItems": MAX_ITEMS_PER_PART })
            } else {
                schema.clone()
            };
            question.constraint = Constraint::JsonSchema(compact(whole));
            if reading.candidate.is_some() {
                question.max_tokens = question.max_tokens.min(MOST_CANDIDATE_TOKENS);
            }
            questions.push(question);
        }
        let mut answers = asker.ask(&questions, 0, questions.len())?.into_iter();
        let mut first_error = None;
        let mut results = Vec::new();
        for reading in readings {
            if reading.asked.is_none() {
                // Nothing was left to ask: a candidate stands as it was found, a part without quotes has no items.
                results.push(Some(reading.candidate.map(|_| reading.settled.clone()).into_iter().collect()));
                continue;
            }
            let answer = answers
                .next()
                .unwrap_or_else(|| Err(crate::inference::engine::GenerateError::Engine("an answer is missing".into())));
            let place = place_of(cx, reading);
            match answer {
                Ok(answer) => {
                    out.usage += answer.usage;
                    match schema::salvage(&answer.text) {
                        Some(salvaged) if reading.candidate.is_none() || !salvaged.cut => {
                            if salvaged.cut || answer.finish == FinishReason::Length {
                                out.partial
                                    .push(format!("the items of {place} were cut off at the answer's token limit"));
                            }
                            results.push(Some(objects(salvaged.value, &reading.settled)));
                        }
                        // A candidate stands without the model's words for it: those said take their place.
                        _ if reading.candidate.is_some() => results.push(Some(vec![self.unworded(reading)])),
                        _ => {
                            out.partial.push(format!("the answer about {place} is no JSON"));
                            results.push(None);
                        }
                    }
                }
                Err(error) => {
                    out.partial.push(format!("{place} could not be asked about: {error}"));
                    first_error.get_or_insert(error);
                    results.push(None);
                }
            }
        }
        match first_error {
            Some(error) if results.iter().all(Option::is_none) => Err(error.into()),
            _ if !results.is_empty() && results.iter().all(Option::is_none) => {
                Err(StepError { reason: Reason::SchemaNotMet, detail: out.partial.join("; ") })
            }
            _ => Ok(results),
        }
    }

    /// A candidate with what its words settle, its free texts empty.
    fn unworded(&self, reading: &Reading<'_>) -> Map<String, Value> {
        let mut item = reading.settled.clone();
        for (field, _) in items::free_texts(&self.schema) {
            item.entry(field).or_insert(json!(""));
        }
        item
    }

    fn prompt(
        &self,
        text: &str,
        instruct: &str,
        about: Option<(&StepContext<'_>, &Candidate)>,
    ) -> Result<String, StepError> {
        let names = json!({
            "text": text, "instruct": instruct, "examples": self.examples, "many": self.many,
            "fields": field_names(&self.schema).join(", "),
            "said": about.map(|(_, c)| c.said.as_str()),
            "speaker": about.and_then(|(cx, c)| cx.document.turns[c.turn].speaker.as_deref()),
        });
        let prompt = if about.is_some() { &texts::EXTRACT_ONE } else { &texts::EXTRACT };
        Ok(texts::render(prompt, &names)?)
    }
}

/// An answer about one candidate that runs longer is not a wording of it.
const MOST_CANDIDATE_TOKENS: usize = 96;
/// Items of one part at most: more in a few hundred tokens is a model going round in circles.
const MAX_ITEMS_PER_PART: usize = 12;

/// What the words of a candidate settle: a field of each dynamic type. Of several speakers in a schema it is the first.
fn settle(cx: &StepContext<'_>, schema: &Value, candidate: &Candidate) -> Map<String, Value> {
    let mut settled = Map::new();
    let mut speaker_settled = false;
    for (field, builtin) in schema::builtin_fields(schema) {
        let value = match builtin {
            Builtin::Turns => {
                json!(candidate.evidence.iter().map(|&i| cx.document.turns[i].id.to_string()).collect::<Vec<_>>())
            }
            Builtin::Quote => json!(candidate.said),
            Builtin::When => json!(candidate.when),
            Builtin::Speaker => match candidate.people.as_slice() {
                [one] if !speaker_settled => {
                    speaker_settled = true;
                    json!(one)
                }
                _ => continue,
            },
        };
        settled.insert(field, value);
    }
    settled
}

/// The objects of an answer, each with what was settled beforehand.
fn objects(answer: Value, settled: &Map<String, Value>) -> Vec<Map<String, Value>> {
    let list = if let Value::Array(list) = answer { list } else { vec![answer] };
    let with_settled = |item: Value| match item {
        Value::Object(mut map) => {
            map.extend(settled.clone());
            Some(map)
        }
        _ => None,
    };
    list.into_iter().filter_map(with_settled).collect()
}

/// Tokens enough for an answer of a schema whose strings are full.
fn answer_tokens(schema: &Value, list: bool) -> usize {
    fn walk(schema: &Value) -> usize {
        let Value::Object(map) = schema else { return 1 };
        let longest =
            |list: &[Value]| list.iter().map(|v| v.as_str().map_or(4, str::len)).max().unwrap_or(0) / CHARS_PER_TOKEN;
        let times = |key: &str| map.get(key).and_then(Value::as_u64).unwrap_or(1).min(8) as usize;
        let own = map.get("maxLength").and_then(Value::as_u64).unwrap_or(0) as usize / CHARS_PER_TOKEN
            + map.get("enum").and_then(Value::as_array).map_or(0, |l| longest(l));
        let fields: usize = map
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .map(|(_, f)| TOKENS_PER_FIELD + walk(f))
            .sum();
        let items = map.get("items").map_or(0, walk) * times("maxItems");
        let options =
            ["anyOf", "oneOf"].iter().filter_map(|k| map.get(*k)?.as_array()).flatten().map(walk).max().unwrap_or(0);
        own + fields + items + options + 4
    }
    (walk(schema) * if list { 4 } else { 1 }).clamp(48, MOST_ANSWER_TOKENS)
}

/// JSON as models write it, without white space that only costs tokens.
fn compact(mut schema: Value) -> Value {
    schema["x-guidance"] = json!({ "item_separator": ", ", "key_separator": ": ", "whitespace_flexible": false });
    schema
}

fn place_of(cx: &StepContext<'_>, reading: &Reading<'_>) -> String {
    let turns = reading.part.turns();
    let id = |i: usize| cx.document.turns[i].id;
    match (reading.candidate, turns.first(), turns.last()) {
        (Some(candidate), _, _) => format!("turn {}", id(candidate.turn)),
        (None, Some(&first), Some(&last)) => format!("turns {} to {}", id(first), id(last)),
        _ => "the text".into(),
    }
}

fn search_note(cx: &StepContext<'_>, found: &cues::Found) -> String {
    let ids =
        |turns: &[usize]| turns.iter().map(|&i| cx.document.turns[i].id.to_string()).collect::<Vec<_>>().join(", ");
    let declined = match found.declined.as_slice() {
        [] => String::new(),
        turns => format!("; left out as turned down: {}", ids(turns)),
    };
    format!(
        "searched {} turns by their words, {} candidates{declined}",
        cx.document.turns.len(),
        found.candidates.len()
    )
}

#[cfg(test)]
mod tests;
