//! `extract`: items that fit a schema, each with evidence that exists.
//!
//! Two ways to read: every part in full, asking for all items in it; or, with `candidates`, the sentences whose words
//! point to an item, one by one with the turns around them. Either way the answer is decoded under the schema, whose
//! turns, quotes, speakers and dates are those of the text at hand. With `evidence: per-field` each value comes after
//! the words it is read from.

mod asking;
mod cues;
mod held;
mod items;
mod kind;
mod meant;
mod merge;
mod phrases;
mod proof;
mod record;
mod shape;
mod source;
mod verify;
mod written;

pub use self::kind::KIND;

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use self::asking::{Answer, Asked, answer_tokens};
use self::cues::{Candidate, Topic};
use self::items::{Finisher, Item, Otherwise};
use self::merge::Merge;
use self::record::{Record, Rules};
use self::shape::Shape;
use self::source::Source;
use self::verify::Verify;
use super::ask::{Asker, language, render_with};
use super::grounding::Ground;
use super::parts::{ByModel, Part, Piece, coverage, coverage_of_turns, pack};
use super::prompt::Template;
use super::schema::{self, Builtin, Scope};
use super::{Reason, Step, StepContext, StepError, StepOutput};
use crate::corpus::chunker::{ChunkBy, ChunkOptions, Overlap, chunk};

struct Extract {
    schema: Value, // of one item, every keyword of it
    /// What of the schema can be enforced while decoding.
    decoded: Value,
    /// The keywords that cannot: the finished value is held against them.
    afterwards: Vec<String>,
    many: bool,
    instruct: Option<Template>,
    examples: Vec<Value>,
    topic: Option<Topic>,
    around: usize,          // turns
    size: Option<usize>,    // tokens
    overlap: Option<usize>, // of what the document is cut by
    by: Option<ChunkBy>,    // `None`: turns, or paragraphs where there are none
    with_headings: bool,
    merge: Merge,
    rules: Rules,
    least_carried: f64,
    otherwise: Otherwise,
    verify: Verify,
    evidence: bool,
    text_last: bool, // in the prompt
    fields_per_call: Option<usize>,
    repairs: usize,
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
    /// The headings that the part stands under.
    heading: String,
    source: Source,
    /// What is left to ask for, in groups of fields; empty where nothing is.
    asked: Vec<Asked>,
}

impl Step for Extract {
    fn run(&self, cx: &StepContext<'_>) -> Result<StepOutput, StepError> {
        let asker = Asker::new(cx)?;
        let instruct = self.instruct.as_ref().map(|t| render_with(cx, t, &[])).transpose()?.unwrap_or_default();
        let mut out = StepOutput::default();

        let found = self.topic.as_ref().map(|t| t.find(cx.document));
        let (parts, headings) = match &found {
            Some(found) => (self.windows(cx, &asker, &instruct, &found.candidates)?, Vec::new()),
            None => self.parts(cx, &asker, &instruct)?,
        };
        let candidates = found.as_ref().map(|f| f.candidates.as_slice()).unwrap_or_default();
        let readings = parts
            .iter()
            .enumerate()
            .filter(|(_, part)| !part.pieces.is_empty())
            .map(|(i, part)| self.reading(cx, part, candidates.get(i), headings.get(i).cloned().unwrap_or_default()))
            .collect::<Result<Vec<_>, _>>()?;
        let mut answers = self.ask(cx, &asker, &instruct, &readings, &[], &mut out)?;
        if self.evidence {
            proof::prove(cx, &asker, &readings, &mut answers, &mut out)?;
            held::hold(&self.schema, self.least_carried, &mut answers, &mut out);
        }
        let was_read: Vec<bool> = answers.iter().map(Option::is_some).collect();
        out.value = if self.many {
            self.list(cx, &asker, &instruct, &readings, answers, &mut out)?
        } else {
            self.one(cx, &asker, &instruct, &readings, answers, &mut out)?
        };
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
        Ok(out)
    }

    fn notices(&self) -> Vec<String> {
        if self.afterwards.is_empty() {
            return Vec::new();
        }
        let keywords = self.afterwards.iter().map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", ");
        vec![format!(
            "{keywords} of the schema cannot be enforced while decoding: answers are held against it afterwards"
        )]
    }
}

impl Extract {
    /// The items of all parts as one list.
    fn list(
        &self,
        cx: &StepContext<'_>,
        asker: &Asker<'_>,
        instruct: &str,
        readings: &[Reading<'_>],
        answers: Vec<Option<Answer>>,
        out: &mut StepOutput,
    ) -> Result<Value, StepError> {
        let ground = Ground::new(cx.document, &language(cx));
        let finisher = Finisher::new(cx, &ground, &self.decoded, self.least_carried, self.otherwise);
        let validator = self.validator(cx)?;
        let mut items = Vec::new();
        let mut invalid = Vec::new();
        for (reading, answer) in readings.iter().zip(answers) {
            for record in answer.into_iter().flat_map(|a| a.records) {
                if let Some(fault) = validator.as_ref().and_then(|v| v.fault(&Value::Object(record.fields.clone()))) {
                    invalid.push(fault);
                } else if self.evidence {
                    items.push(quoted_item(cx, record, reading.part));
                } else if let Some(item) =
                    finisher.finish(record.fields, reading.part, reading.candidate, &mut out.notes)
                {
                    items.push(item);
                }
            }
        }
        if let Some(first) = invalid.first() {
            out.notes
                .push(format!("dropped {} items that do not fit the schema, such as one where {first}", invalid.len()));
        }
        let mut items = self.merge.merge(items, &mut out.notes);
        self.verify.apply(cx, asker, instruct, &mut items, out)?;
        Ok(Value::Array(items.into_iter().map(Item::into_value).collect()))
    }

    /// The one object of a document, held against the checks, and asked for again where they fail.
    fn one(
        &self,
        cx: &StepContext<'_>,
        asker: &Asker<'_>,
        instruct: &str,
        readings: &[Reading<'_>],
        mut answers: Vec<Option<Answer>>,
        out: &mut StepOutput,
    ) -> Result<Value, StepError> {
        let validator = schema::Validator::new(&self.schema, &Scope::of_document(cx.document))
            .map_err(|detail| StepError { reason: Reason::SchemaNotMet, detail })?;
        let mut notes = Vec::new();
        let mut record = self.joined(cx, readings, &answers, &mut notes)?;
        let mut failed = self.verify.failed(cx, &validator, &record.fields)?;
        for time in 0..self.repairs {
            if failed.is_empty() {
                break;
            }
            let complaints: Vec<Option<String>> =
                answers.iter().map(|answer| answer.as_ref().map(|a| record::complaint(a, &failed))).collect();
            let mut dropped = StepOutput::default();
            let mut again = self.ask(cx, asker, instruct, readings, &complaints, &mut dropped)?;
            if self.evidence {
                proof::prove(cx, asker, readings, &mut again, &mut dropped)?;
                held::hold(&self.schema, self.least_carried, &mut again, &mut dropped);
            }
            out.usage += dropped.usage;
            // A part that could not be asked again keeps what it said.
            for (new, old) in again.iter_mut().zip(&answers) {
                if new.is_none() {
                    new.clone_from(old);
                }
            }
            let mut new_notes = Vec::new();
            let repaired = self.joined(cx, readings, &again, &mut new_notes)?;
            let still = self.verify.failed(cx, &validator, &repaired.fields)?;
            let (before, after) = (failed.len(), still.len());
            if after < before && dropped.partial.is_empty() {
                out.notes.push(format!("asked again with the failed checks shown: {after} of {before} still fail"));
                (answers, record, failed, notes) = (again, repaired, still, new_notes);
            } else {
                let kept = "the first answer is kept";
                out.notes.push(format!("asked again (time {}) with the failed checks shown: {kept}", time + 1));
            }
        }
        out.notes.append(&mut notes);
        self.verify.withhold(&mut record, &self.schema, out);
        out.partial.extend(failed.iter().map(|f| format!("does not hold: {f}")));
        Ok(record.into_value(self.evidence, failed))
    }

    /// What all parts say, as one record.
    fn joined(
        &self,
        cx: &StepContext<'_>,
        readings: &[Reading<'_>],
        answers: &[Option<Answer>],
        notes: &mut Vec<String>,
    ) -> Result<Record, StepError> {
        let ground = Ground::new(cx.document, &language(cx));
        let finisher = Finisher::new(cx, &ground, &self.decoded, self.least_carried, self.otherwise).of_only();
        let mut records = Vec::new();
        for (reading, answer) in readings.iter().zip(answers) {
            for record in answer.iter().flat_map(|a| a.records.iter().cloned()) {
                if self.evidence {
                    records.push(record);
                } else if let Some(item) = finisher.finish(record.fields, reading.part, None, notes) {
                    records.push(Record { fields: item.fields, ..Record::default() });
                }
            }
        }
        self.rules
            .join(records, &self.schema, notes)
            .ok_or_else(|| StepError { reason: Reason::NoTextFound, detail: "there is nothing to extract from".into() })
    }

    /// Holds items against what could not be enforced; `None` where all was.
    fn validator(&self, cx: &StepContext<'_>) -> Result<Option<schema::Validator>, StepError> {
        if self.afterwards.is_empty() {
            return Ok(None);
        }
        schema::Validator::new(&self.schema, &Scope::of_document(cx.document))
            .map(Some)
            .map_err(|detail| StepError { reason: Reason::SchemaNotMet, detail })
    }

    /// The document in parts that are read in full, and the headings that each stands under.
    fn parts(
        &self,
        cx: &StepContext<'_>,
        asker: &Asker<'_>,
        instruct: &str,
    ) -> Result<(Vec<Part>, Vec<String>), StepError> {
        let empty = self.prompt("", instruct, &self.decoded, None, None)?;
        let most = self.groups().iter().map(|g| answer_tokens(g, self.many, self.evidence)).max().unwrap_or(0);
        let room = asker.room(&empty, most * if self.repairs > 0 { 2 } else { 1 })?;
        let usual = if self.many { super::summarize::part_size(asker.window()) } else { one_size(asker.window()) };
        let size = self.size.unwrap_or(usual).min(room);
        let counter = ByModel(asker.generator);
        let Some(by) = self.by else {
            let parts = pack(cx.document, size, self.overlap.unwrap_or(if self.many { 2 } else { 0 }), &counter);
            return Ok((parts, Vec::new()));
        };
        let overlap = Overlap::Units(self.overlap.unwrap_or(0));
        let options = ChunkOptions { by, size: size.max(1), overlap, even: true, ..ChunkOptions::default() };
        let chunks = chunk(cx.document, &options, &counter);
        let heading = |path: &[String]| if self.with_headings { path.join(" > ") } else { String::new() };
        Ok(chunks
            .into_iter()
            .map(|c| {
                let pieces = c.pieces.iter().flat_map(|p| lines_of(cx, p)).collect();
                (Part { pieces, num_tokens: c.tokens }, heading(&c.heading_path))
            })
            .unzip())
    }

    /// The schemas of the groups of fields that are asked for one after the other.
    fn groups(&self) -> Vec<Value> {
        let names = field_names(&self.decoded);
        match self.fields_per_call {
            Some(n) => names.chunks(n.max(1)).map(|group| subset(&self.decoded, |name| group.contains(name))).collect(),
            None => vec![self.decoded.clone()],
        }
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
        let empty = self.prompt("", instruct, &self.decoded, None, None)?;
        let room = asker.room(&empty, answer_tokens(&self.decoded, false, false))?;
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
        heading: String,
    ) -> Result<Reading<'a>, StepError> {
        let scope = if cx.document.turns.is_empty() {
            let text = part.speech(cx.document);
            Scope { quotes: schema::quotes(&text), when: schema::when(&text), ..Scope::default() }
        } else {
            Scope::of_turns(cx.document, &part.turns())
        };
        let settled = candidate.map(|c| settle(cx, &self.decoded, c)).unwrap_or_default();
        let source = if self.evidence { Source::of(cx.document, part) } else { Source::default() };
        let mut asked = Vec::new();
        for group in self.groups() {
            let left = subset(&group, |name| !settled.contains_key(name));
            if field_names(&left).is_empty() {
                continue;
            }
            match schema::resolve(&left, &scope) {
                Ok(schema) => asked.push(self.asked(schema, &left, &source, candidate.is_some())),
                // A part without anything to quote, such as one "Hm." alone, holds no item.
                Err(_) if self.many => {}
                Err(detail) => return Err(StepError { reason: Reason::SchemaNotMet, detail }),
            }
        }
        Ok(Reading { part, candidate, settled, heading, source, asked })
    }

    fn asked(&self, schema: Value, unresolved: &Value, source: &Source, is_candidate: bool) -> Asked {
        let list = self.many && !is_candidate;
        if !self.evidence {
            return Asked::plain(schema, list);
        }
        let builtins = schema::builtin_fields(unresolved);
        let is_evidence = |b: &Builtin| matches!(b, Builtin::Turns | Builtin::Quote);
        let plain = builtins.iter().filter(|(_, b)| is_evidence(b)).map(|(n, _)| n.as_str()).collect();
        let shape = Shape::of(&schema, &plain);
        Asked::quoting(schema, if list { shape.list_of(asking::MAX_ITEMS_PER_PART) } else { shape }, source, list)
    }
}

/// A schema with some of its fields.
fn subset(schema: &Value, keep: impl Fn(&String) -> bool) -> Value {
    let mut left = schema.clone();
    if let Some(fields) = left.get_mut("properties").and_then(Value::as_object_mut) {
        fields.retain(|name, _| keep(name));
    }
    let kept = field_names(&left);
    if let Some(required) = left.get_mut("required").and_then(Value::as_array_mut) {
        required.retain(|name| name.as_str().is_none_or(|n| kept.iter().any(|k| k == n)));
    }
    left
}

/// The tokens of a document read at once for its one record: a record is spread over all of it, so a part is as large
/// as leaves room for an answer.
fn one_size(window: usize) -> usize {
    (window / 3).clamp(200, 6000)
}

/// The lines of a piece that is no turn: a model reads a page or a section as it is set.
fn lines_of(cx: &StepContext<'_>, piece: &Piece) -> Vec<Piece> {
    if piece.turn.is_some() {
        return vec![piece.clone()];
    }
    let text = &cx.document.text[piece.range.clone()];
    let mut lines = Vec::new();
    for line in text.split_inclusive('\n').filter(|l| !l.trim().is_empty()) {
        let start = piece.range.start + (line.as_ptr() as usize - text.as_ptr() as usize);
        lines.push(Piece { turn: None, range: start..start + line.len() });
    }
    lines
}

/// An item whose fields have their quotes: its turns are theirs.
fn quoted_item(cx: &StepContext<'_>, record: Record, part: &Part) -> Item {
    let window = part.turns();
    let mut ids = Vec::new();
    proof::each_quote(&Value::Object(record.evidence.clone()), &mut |entry| {
        ids.extend(entry.get("turn").and_then(Value::as_str).map(str::to_owned));
    });
    let turns = window.iter().copied().filter(|&i| ids.contains(&cx.document.turns[i].id.to_string())).collect();
    let mut fields = record.fields;
    fields.insert("evidence".into(), Value::Object(record.evidence));
    Item { fields, turns, window, takes_back: None }
}

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
mod evidence_tests;
#[cfg(test)]
mod tests;
