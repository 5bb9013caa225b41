//! The questions of an `extract` step and what comes back of them.

use serde_json::{Map, Value, json};

use super::cues::Candidate;
use super::record::Record;
use super::shape::Shape;
use super::source::Source;
use super::{Extract, Reading, field_names, items};
use crate::inference::engine::{Completion, Constraint, FinishReason, GenerateError};
use crate::steps::ask::{Asker, Question};
use crate::steps::prompt::texts;
use crate::steps::{Reason, StepContext, StepError, StepOutput, schema};

/// Tokens an answer may have beside its strings: braces, names of fields, numbers.
const TOKENS_PER_FIELD: usize = 12;
/// A quote with its key and braces.
const TOKENS_PER_QUOTE: usize = 48;
const MOST_ANSWER_TOKENS: usize = 1536;
/// Characters of free text per token, low so that the answer has room.
const CHARS_PER_TOKEN: usize = 3;
/// An answer about one candidate that runs longer is not a wording of it.
const MOST_CANDIDATE_TOKENS: usize = 96;
/// Items of one part at most: more in a few hundred tokens is a model going round in circles.
pub const MAX_ITEMS_PER_PART: u64 = 12;

/// One question about a reading: some fields of the schema, or all.
pub struct Asked {
    pub schema: Value,
    /// Where every value comes after its quote.
    pub shape: Option<Shape>,
    constraint: Constraint,
    max_tokens: usize,
}

impl Asked {
    pub fn plain(schema: Value, list: bool) -> Self {
        let whole = if list {
            json!({ "type": "array", "items": schema, "maxItems": MAX_ITEMS_PER_PART })
        } else {
            schema.clone()
        };
        let max_tokens = answer_tokens(&schema, list, false);
        Self { schema, shape: None, constraint: Constraint::JsonSchema(compact(whole)), max_tokens }
    }

    pub fn quoting(schema: Value, shape: Shape, source: &Source, list: bool) -> Self {
        let max_tokens = answer_tokens(&schema, list, true);
        let constraint = Constraint::Lark(shape.grammar(source));
        Self { schema, shape: Some(shape), constraint, max_tokens }
    }
}

/// What came back of one reading.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub records: Vec<Record>,
    /// The answers as they were written, for what else is asked about them.
    pub said: Vec<Said>,
}

#[derive(Clone, Debug)]
pub struct Said {
    pub prompt: String,
    pub asked: usize, // index into `Reading::asked`
    pub value: Value,
}

impl Extract {
    /// Asks all readings. An inner `None` is a reading that failed; why is in `out.partial`. `complaints` holds for
    /// each reading what was wrong with its answer before; empty at first, and a reading without one is not asked.
    pub(super) fn ask(
        &self,
        cx: &StepContext<'_>,
        asker: &Asker<'_>,
        instruct: &str,
        readings: &[Reading<'_>],
        complaints: &[Option<String>],
        out: &mut StepOutput,
    ) -> Result<Vec<Option<Answer>>, StepError> {
        let complaint = |i: usize| complaints.get(i).and_then(Option::as_deref);
        let is_asked = |i: usize| complaints.is_empty() || complaint(i).is_some();
        let mut questions = Vec::new();
        for (i, reading) in readings.iter().enumerate().filter(|(i, _)| is_asked(*i)) {
            let text = match reading.candidate {
                Some(_) => reading.part.speech(cx.document),
                None => reading.part.lines(cx.document),
            };
            let text = if reading.heading.is_empty() { text } else { format!("{}\n\n{text}", reading.heading) };
            for asked in &reading.asked {
                let about = reading.candidate.map(|c| (cx, c));
                let prompt = self.prompt(&text, instruct, &asked.schema, about, complaint(i))?;
                let mut question = Question::new(prompt, asked.max_tokens, asker.sampling());
                question.constraint = asked.constraint.clone();
                if reading.candidate.is_some() {
                    question.max_tokens = question.max_tokens.min(MOST_CANDIDATE_TOKENS);
                }
                questions.push(question);
            }
        }
        let answers = asker.ask(&questions, 0, questions.len())?;
        let mut answers = questions.into_iter().zip(answers);
        let mut first_error = None;
        let mut results = Vec::new();
        for (i, reading) in readings.iter().enumerate() {
            if !is_asked(i) {
                results.push(None);
                continue;
            }
            let own = answers.by_ref().take(reading.asked.len()).collect::<Vec<_>>();
            results.push(self.take_in(cx, reading, own, &mut first_error, out));
        }
        match first_error {
            Some(error) if results.iter().all(Option::is_none) => Err(error.into()),
            _ if complaints.is_empty() && !results.is_empty() && results.iter().all(Option::is_none) => {
                Err(StepError { reason: Reason::SchemaNotMet, detail: out.partial.join("; ") })
            }
            _ => Ok(results),
        }
    }

    /// Reads the answers about one reading, one for each group of fields.
    fn take_in(
        &self,
        cx: &StepContext<'_>,
        reading: &Reading<'_>,
        answers: Vec<(Question, Result<Completion, GenerateError>)>,
        first_error: &mut Option<GenerateError>,
        out: &mut StepOutput,
    ) -> Option<Answer> {
        let mut taken = Answer::default();
        if reading.asked.is_empty() {
            // Nothing was left to ask: a candidate stands as it was found, a part without quotes has no items.
            taken.records.extend(reading.candidate.map(|_| Record::of(reading.settled.clone())));
            return Some(taken);
        }
        let place = place_of(cx, reading);
        let mut lost = 0;
        for (asked, (question, answer)) in answers.into_iter().enumerate() {
            match answer {
                Ok(answer) => {
                    out.usage += answer.usage;
                    match schema::salvage(&answer.text) {
                        Some(salvaged) if reading.candidate.is_none() || !salvaged.cut => {
                            if salvaged.cut || answer.finish == FinishReason::Length {
                                out.partial
                                    .push(format!("the items of {place} were cut off at the answer's token limit"));
                            }
                            self.add(&mut taken, reading, asked, &salvaged.value);
                            taken.said.push(Said { prompt: question.user, asked, value: salvaged.value });
                        }
                        // A candidate stands without the model's words for it: those said take their place.
                        _ if reading.candidate.is_some() => taken.records.push(Record::of(self.unworded(reading))),
                        _ => {
                            out.partial.push(format!("the answer about {place} is no JSON"));
                            lost += 1;
                        }
                    }
                }
                Err(error) => {
                    out.partial.push(format!("{place} could not be asked about: {error}"));
                    first_error.get_or_insert(error);
                    lost += 1;
                }
            }
        }
        (lost < reading.asked.len()).then_some(taken)
    }

    /// Adds the objects of an answer, each with what was settled beforehand; for one object, the fields of a group.
    fn add(&self, taken: &mut Answer, reading: &Reading<'_>, asked: usize, value: &Value) {
        let (value, evidence) = match &reading.asked[asked].shape {
            Some(shape) => shape.split(value),
            None => (value.clone(), Value::Null),
        };
        let list = |value: Value| if let Value::Array(list) = value { list } else { vec![value] };
        let mut evidence = list(evidence).into_iter();
        for item in list(value) {
            let evidence = evidence.next();
            let Value::Object(mut fields) = item else { continue };
            fields.extend(reading.settled.clone());
            let evidence = if let Some(Value::Object(evidence)) = evidence { evidence } else { Map::new() };
            match taken.records.first_mut() {
                Some(first) if !self.many => {
                    first.fields.extend(fields);
                    first.evidence.extend(evidence);
                }
                _ => taken.records.push(Record { fields, evidence, ..Record::default() }),
            }
        }
    }

    /// A candidate with what its words settle, its free texts empty.
    fn unworded(&self, reading: &Reading<'_>) -> Map<String, Value> {
        let mut item = reading.settled.clone();
        for (field, _) in items::free_texts(&self.decoded) {
            item.entry(field).or_insert(json!(""));
        }
        item
    }

    pub(super) fn prompt(
        &self,
        text: &str,
        instruct: &str,
        schema: &Value,
        about: Option<(&StepContext<'_>, &Candidate)>,
        complaint: Option<&str>,
    ) -> Result<String, StepError> {
        let fields = if about.is_some() { field_names(&self.decoded) } else { field_names(schema) };
        let examples: Vec<Value> = self.examples.iter().map(|e| self.example(e, &fields)).collect();
        let names = json!({
            "text": text, "text_last": self.text_last, "instruct": instruct, "examples": examples, "many": self.many,
            "fields": fields.join(", "), "quoting": self.evidence, "complaint": complaint,
            "said": about.map(|(_, c)| c.said.as_str()),
            "speaker": about.and_then(|(cx, c)| cx.document.turns[c.turn].speaker.as_deref()),
        });
        let prompt = if about.is_some() { &texts::EXTRACT_ONE } else { &texts::EXTRACT };
        Ok(texts::render(prompt, &names)?)
    }

    /// An example as the prompt shows it: `{text, out}`, the fields of the group asked for, quoted where answers quote.
    fn example(&self, example: &Value, fields: &[String]) -> Value {
        let (text, shown) = match (example.get("text"), example.get("out")) {
            (Some(Value::String(text)), Some(out)) => (text.as_str(), out),
            _ => ("", example),
        };
        let one = |item: &Value| match item {
            Value::Object(map) => {
                let kept = map.iter().filter(|(name, _)| fields.contains(name) || self.fields_per_call.is_none());
                let field = |(name, value): (&String, &Value)| {
                    let value = if self.evidence { quoted(value, text) } else { value.clone() };
                    (name.clone(), value)
                };
                Value::Object(kept.map(field).collect())
            }
            other => other.clone(),
        };
        let shown = if let Value::Array(list) = shown { list.iter().map(one).collect() } else { one(shown) };
        json!({ "text": text, "out": super::written::written(&shown) })
    }
}

/// A value of an example beside the line of its text that holds it; as it is where no line does.
fn quoted(value: &Value, text: &str) -> Value {
    let words = match value {
        Value::Null => return Value::Null,
        Value::Array(list) => return list.iter().map(|v| quoted(v, text)).collect(),
        Value::String(words) => words.clone(),
        other => other.to_string(),
    };
    let line = text.lines().find(|l| l.contains(&words)).map_or(words.as_str(), str::trim);
    json!({ "quote": line, "value": value })
}

/// Tokens enough for an answer of a schema whose strings are full.
pub fn answer_tokens(schema: &Value, list: bool, quotes: bool) -> usize {
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
    let quotes = if quotes { TOKENS_PER_QUOTE * field_names(schema).len() } else { 0 };
    ((walk(schema) + quotes) * if list { 4 } else { 1 }).clamp(48, MOST_ANSWER_TOKENS)
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
