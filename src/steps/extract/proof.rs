//! What speaks for a value: where its quote stands, how likely the model found a value against null, and whether it
//! finds that the quote says so.

use serde_json::{Map, Value, json};

use super::asking::Answer;
use super::source::Source;
use super::{Reading, Shape};
use crate::steps::ask::Asker;
use crate::steps::prompt::texts;
use crate::steps::text::clip;
use crate::steps::{StepContext, StepError, StepOutput, moment};

/// How an answer goes on after a field's colon, with null and with a value.
const NULL: &[&str] = &[" null"];
const VALUE: &[&str] = &[" {\"", " {"];
/// Of a value, as much as a question can show.
const SHOWN_MAX: usize = 200; // characters

/// Completes the evidence of all answers.
pub fn prove(
    cx: &StepContext<'_>,
    asker: &Asker<'_>,
    readings: &[Reading<'_>],
    answers: &mut [Option<Answer>],
    out: &mut StepOutput,
) -> Result<(), StepError> {
    let work = || readings.iter().zip(0..);
    for (reading, i) in work() {
        for record in answers[i].iter_mut().flat_map(|a: &mut Answer| &mut a.records) {
            for entry in record.evidence.values_mut() {
                each_quote_mut(entry, &mut |entry| place(cx, &reading.source, entry));
            }
        }
    }
    weigh_null(asker, readings, answers, out)?;
    weigh_support(asker, answers, out)
}

/// Says where a quote stands: bytes of the document's text, and its page, or its turn and moment.
fn place(cx: &StepContext<'_>, source: &Source, entry: &mut Map<String, Value>) {
    let quote = entry.get("quote").and_then(Value::as_str).unwrap_or_default();
    let Some((range, times)) = source.locate(quote) else { return };
    let document = cx.document;
    entry.insert("start".into(), json!(range.start));
    entry.insert("end".into(), json!(range.end));
    if times > 1 {
        entry.insert("times".into(), json!(times)); // the place is that of the first
    }
    if let Some((page, _)) = document.pages_of(&range) {
        entry.insert("page".into(), json!(page));
    }
    let turn = document.turns.iter().position(|t| t.range.start <= range.start && range.end <= t.range.end);
    if let Some(turn) = turn {
        entry.insert("turn".into(), json!(document.turns[turn].id.to_string()));
        entry.insert("speaker".into(), json!(document.turns[turn].speaker));
        if let Some(at) = moment(document, &[turn]) {
            entry.insert("at".into(), json!(at));
        }
    }
}

/// Scores, for each field, null against a value at the place where the answer chose between them.
fn weigh_null(
    asker: &Asker<'_>,
    readings: &[Reading<'_>],
    answers: &mut [Option<Answer>],
    out: &mut StepOutput,
) -> Result<(), StepError> {
    let ways: Vec<&str> = NULL.iter().chain(VALUE).copied().collect();
    let mut asked: Vec<(&str, String)> = Vec::new();
    let mut found: Vec<(usize, Vec<String>)> = Vec::new(); // answer, path of the field
    for (i, (reading, answer)) in readings.iter().zip(answers.iter()).enumerate() {
        for said in answer.iter().flat_map(|a| &a.said) {
            let shape = reading.asked[said.asked].shape.as_ref();
            for decision in shape.map(|s: &Shape| s.decisions(&said.value)).unwrap_or_default() {
                asked.push((&said.prompt, decision.before));
                found.push((i, decision.path));
            }
        }
    }
    let requests: Vec<(&str, &str, &[&str])> =
        asked.iter().map(|(user, before)| (*user, before.as_str(), ways.as_slice())).collect();
    let (scores, usage) = asker.score_all(&requests)?;
    out.usage += usage;
    drop(requests);
    let weighed: Vec<f64> =
        scores.iter().map(|scores| null_share(&scores[..NULL.len()], &scores[NULL.len()..])).collect();
    drop(asked);
    for ((answer, path), null) in found.into_iter().zip(weighed) {
        let Some(answer) = answers[answer].as_mut() else { continue };
        let is_index = |s: &String| s.bytes().all(|b| b.is_ascii_digit());
        let (record, path) = match path.split_first() {
            // In a list of items the path begins with the item's place.
            Some((first, rest)) if answer.records.len() > 1 && is_index(first) && !rest.is_empty() => {
                (first.parse::<usize>().ok().and_then(|i| answer.records.get_mut(i)), rest)
            }
            Some((first, rest)) if is_index(first) && !rest.is_empty() => (answer.records.first_mut(), rest),
            _ => (answer.records.first_mut(), path.as_slice()),
        };
        if let Some(entry) = record.and_then(|r| entry_at(&mut r.evidence, path)) {
            entry.insert("p_null".into(), json!(round(null)));
            entry.insert("p_value".into(), json!(round(1.0 - null)));
        }
    }
    Ok(())
}

/// The probability of null among null and a value. Of a value only its first token counts: the rest depends on it.
fn null_share(null: &[Vec<f32>], value: &[Vec<f32>]) -> f64 {
    let whole: f64 = null.iter().map(|t| t.iter().map(|p| f64::from(*p)).sum::<f64>().exp()).sum();
    let begun: f64 = value.iter().filter_map(|t| t.first()).map(|p| f64::from(*p).exp()).sum();
    if whole + begun > 0.0 { whole / (whole + begun) } else { 0.5 }
}

fn entry_at<'a>(evidence: &'a mut Map<String, Value>, path: &[String]) -> Option<&'a mut Map<String, Value>> {
    let (first, rest) = path.split_first()?;
    let below = evidence.entry(first.clone()).or_insert_with(|| json!({})).as_object_mut()?;
    if rest.is_empty() { Some(below) } else { entry_at(below, rest) }
}

/// Asks of each value whether its quote says so. The odds of yes against no are taken against the same odds without
/// a quote, so that a model that likes to say yes gains nothing by it.
fn weigh_support(asker: &Asker<'_>, answers: &mut [Option<Answer>], out: &mut StepOutput) -> Result<(), StepError> {
    let mut users = Vec::new();
    for record in answers.iter().flatten().flat_map(|a| &a.records) {
        for (name, value, quote) in record.quoted_values() {
            for quote in [quote.as_str(), ""] {
                let names = json!({ "quote": quote, "field": name, "value": clip(&value, SHOWN_MAX) });
                users.push(texts::render(&texts::SAYS, &names)?);
            }
        }
    }
    let (odds, usage) = asker.odds_of_yes_all(&users)?;
    out.usage += usage;
    let mut pairs = odds.chunks_exact(2);
    for record in answers.iter_mut().flatten().flat_map(|a| &mut a.records) {
        for entry in record.evidence.values_mut() {
            each_quote_mut(entry, &mut |entry| {
                if let Some([with, without]) = pairs.next() {
                    entry.insert("support".into(), json!(round(1.0 / (1.0 + (without - with).exp()))));
                }
            });
        }
    }
    Ok(())
}

/// Visits the entries of an evidence that have a quote, in order.
pub fn each_quote(evidence: &Value, visit: &mut dyn FnMut(&Map<String, Value>)) {
    match evidence {
        Value::Object(map) if map.get("quote").is_some_and(Value::is_string) => visit(map),
        Value::Object(map) => map.values().for_each(|v| each_quote(v, visit)),
        Value::Array(list) => list.iter().for_each(|v| each_quote(v, visit)),
        _ => {}
    }
}

fn each_quote_mut(evidence: &mut Value, visit: &mut dyn FnMut(&mut Map<String, Value>)) {
    match evidence {
        Value::Object(map) if map.get("quote").is_some_and(Value::is_string) => visit(map),
        Value::Object(map) => map.values_mut().for_each(|v| each_quote_mut(v, visit)),
        Value::Array(list) => list.iter_mut().for_each(|v| each_quote_mut(v, visit)),
        _ => {}
    }
}

fn round(p: f64) -> f64 {
    (p * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_is_weighed_against_the_beginning_of_a_value() {
        let ln = |p: f32| p.ln();
        // Null as one token of 0.3; a value begins with `{"` at 0.5 or `{` at 0.1, whatever comes after.
        let share = null_share(&[vec![ln(0.3)]], &[vec![ln(0.5)], vec![ln(0.1), ln(0.01)]]);
        assert!((share - 0.3 / 0.9).abs() < 1e-6, "{share}");
        assert_eq!(null_share(&[vec![f32::NEG_INFINITY]], &[vec![f32::NEG_INFINITY]]), 0.5);
    }
}
