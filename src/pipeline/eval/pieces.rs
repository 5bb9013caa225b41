//! What one document gives to one measure, by verb.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::EvalPlan;
use super::calibration::Said;
use super::cited::{Cited, cited};
use super::compare::{self, Counts, Rules, likeness, plain, same};
use super::figures::Found;
use super::golden::{Golden, means};
use super::measures::{Kind, Measure};
use super::rouge::{rouge_lsum, rouge_n, tokens};
use crate::corpus::sentences::sentences;
use crate::pipeline::evidence::{Source, turn_id};
use crate::pipeline::sink::claims::claims;

/// What one document gives to one measure.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    Counts(Counts),
    /// A sum and what it is divided by.
    Mean(f64, f64),
    Label {
        wanted: Option<String>,
        found: Option<String>,
    },
    Said(Said),
}

/// What one document gives to one measure; empty where golden says nothing of it.
pub fn pieces(
    plan: &EvalPlan,
    verbs: &BTreeMap<String, &'static str>,
    measure: &Measure,
    golden: &Golden,
    found: &Found,
) -> Vec<Piece> {
    if let Kind::CitationsValid | Kind::CitationsSupport = measure.kind {
        return citations(verbs, measure, found);
    }
    let step = measure.steps.first().map(String::as_str).unwrap_or_default();
    let verb = verbs.get(step).copied().unwrap_or_default();
    let got = found.steps.get(step).unwrap_or(&Value::Null);
    if measure.kind == Kind::Coverage {
        let coverage = got.get("coverage").and_then(Value::as_f64);
        return vec![Piece::Mean(coverage.unwrap_or(0.0), 1.0)];
    }
    if measure.kind == Kind::Supported {
        let sentences = got.get("sentences").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let good = sentences.iter().filter(|s| s.get("supported") == Some(&Value::Bool(true))).count();
        return if sentences.is_empty() { Vec::new() } else { vec![Piece::Mean(good as f64, sentences.len() as f64)] };
    }
    if measure.kind == Kind::Abstained {
        let abstained = got.is_null() || got.get("abstained") == Some(&Value::Bool(true));
        return vec![Piece::Mean(f64::from(u8::from(abstained)), 1.0)];
    }
    let Some(wanted) = golden.steps.get(step) else { return Vec::new() };
    match verb {
        "classify" => labels(&measure.kind, wanted, got),
        "answer" => answers(&measure.kind, wanted, got),
        "retrieve" | "rerank" => hits(&measure.kind, wanted, got),
        _ if matches!(measure.kind, Kind::Rouge(_)) => rouge(&measure.kind, wanted, got),
        "summarize" => turns(&measure.kind, wanted, got),
        _ => records(&measure.kind, wanted, got, &plan.rules(step), verb),
    }
}

fn citations(verbs: &BTreeMap<String, &'static str>, measure: &Measure, found: &Found) -> Vec<Piece> {
    let Some(source) = &found.source else { return Vec::new() };
    let mut sum = Cited::default();
    for step in &measure.steps {
        let verb = verbs.get(step).copied().unwrap_or_default();
        sum += found.steps.get(step).map(|value| cited(verb, value, source)).unwrap_or_default();
    }
    let (good, all) = match measure.kind {
        Kind::CitationsValid => (sum.valid, sum.citations),
        _ => (sum.supported, sum.claims),
    };
    if all > 0.0 { vec![Piece::Mean(good, all)] } else { Vec::new() }
}

/// A label, or several, however golden writes them.
fn label_set(value: &Value) -> Vec<String> {
    let inner = value.get("labels").or_else(|| value.get("label")).unwrap_or(value);
    match inner {
        Value::String(label) if !label.is_empty() => vec![plain(label)],
        Value::Array(all) => all.iter().filter_map(Value::as_str).map(plain).collect(),
        Value::Bool(_) | Value::Number(_) => vec![inner.to_string()],
        _ => Vec::new(),
    }
}

fn labels(kind: &Kind, wanted: &Value, got: &Value) -> Vec<Piece> {
    let (wanted, found) = (label_set(wanted), label_set(got));
    match kind {
        Kind::Accuracy | Kind::MacroF1 => {
            vec![Piece::Label { wanted: joined(&wanted), found: joined(&found) }]
        }
        Kind::F1 | Kind::Precision | Kind::Recall => {
            let right = found.iter().filter(|l| wanted.contains(l)).count() as f64;
            let (extra, missed) = (found.len() as f64 - right, wanted.len() as f64 - right);
            vec![Piece::Counts(Counts { right, extra, missed })]
        }
        _ => {
            // The likeliest label, also where the step was not sure enough to give it.
            let all = got.get("probabilities").and_then(Value::as_object).into_iter().flatten();
            let best =
                all.filter_map(|(l, p)| Some((l, p.as_f64()?))).fold(None, |best: Option<(&String, f64)>, (l, p)| {
                    if best.is_none_or(|(_, most)| p > most) { Some((l, p)) } else { best }
                });
            best.map(|(label, p)| Piece::Said(Said { p, right: wanted.contains(&plain(label)) })).into_iter().collect()
        }
    }
}

fn joined(labels: &[String]) -> Option<String> {
    let mut sorted = labels.to_vec();
    sorted.sort();
    (!sorted.is_empty()).then(|| sorted.join("; "))
}

fn answers(kind: &Kind, wanted: &Value, got: &Value) -> Vec<Piece> {
    let is_true = |value: &Value, key: &str| value.get(key) == Some(&Value::Bool(true));
    let answer = wanted.get("answer").or_else(|| wanted.get("answers")).unwrap_or(&Value::Null);
    let unanswerable = is_true(wanted, "unanswerable")
        || [answer, wanted].iter().any(|v| v.as_str().is_some_and(|t| t.trim() == "unanswerable"));
    let refused = got.is_null() || is_true(got, "abstained");
    let text = got.get("text").and_then(Value::as_str).filter(|_| !refused).unwrap_or_default();
    let expected: Vec<&str> = match (answer, wanted) {
        (Value::String(one), _) | (Value::Null, Value::String(one)) => vec![one],
        (Value::Array(all), _) => all.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let best = |score: &dyn Fn(&str) -> f64| {
        let most =
            expected.iter().map(|one| score(one)).fold(None, |m: Option<f64>, s| Some(m.map_or(s, |m| m.max(s))));
        most.filter(|_| !unanswerable).map(|s| Piece::Mean(s, 1.0)).into_iter().collect::<Vec<_>>()
    };
    match kind {
        Kind::RefusalF1 | Kind::RefusalPrecision | Kind::RefusalRecall => {
            let of = |yes: bool| f64::from(u8::from(yes));
            vec![Piece::Counts(Counts {
                right: of(refused && unanswerable),
                extra: of(refused && !unanswerable),
                missed: of(!refused && unanswerable),
            })]
        }
        Kind::CalibrationError => {
            let p = got.get("probability").and_then(Value::as_f64);
            p.map(|p| Piece::Said(Said { p, right: !unanswerable })).into_iter().collect()
        }
        Kind::TokenF1 => best(&|one| likeness(one, text)),
        Kind::ExactMatch => best(&|one| f64::from(u8::from(plain(one) == plain(text)))),
        Kind::Rouge(n) => best(&|one| rouge_of(*n, one, text)),
        Kind::Facts => {
            let facts = wanted.get("facts").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            let facts: Vec<&str> = facts.iter().filter_map(Value::as_str).collect();
            let said = plain(text);
            let held = facts.iter().filter(|f| said.contains(&plain(f))).count();
            if facts.is_empty() { Vec::new() } else { vec![Piece::Mean(held as f64, facts.len() as f64)] }
        }
        _ => Vec::new(),
    }
}

/// Ranks of files: the hits of one file count once.
fn hits(kind: &Kind, wanted: &Value, got: &Value) -> Vec<Piece> {
    let inner = ["source", "sources", "files"].iter().find_map(|k| wanted.get(*k)).unwrap_or(wanted);
    let sources: Vec<&str> = match inner {
        Value::String(one) => vec![one],
        Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if sources.is_empty() {
        return Vec::new();
    }
    let mut files: Vec<&str> = Vec::new();
    let hits = got.get("hits").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    // A depth is one of passages: what a reader would have looked through.
    let within = if let Kind::RecallAt(k) = kind { *k as usize } else { usize::MAX };
    for file in hits.iter().take(within).filter_map(|h| h.get("file").and_then(Value::as_str)) {
        if !files.contains(&file) {
            files.push(file);
        }
    }
    let is_found = |source: &&&str| files.iter().any(|file| means(source, file));
    match kind {
        Kind::RecallAt(_) => {
            vec![Piece::Mean(sources.iter().filter(is_found).count() as f64 / sources.len() as f64, 1.0)]
        }
        _ => {
            let rank = files.iter().position(|file| sources.iter().any(|s| means(s, file)));
            vec![Piece::Mean(rank.map_or(0.0, |r| 1.0 / (r + 1) as f64), 1.0)]
        }
    }
}

fn text_of(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| ["text", "summary", "reference"].iter().find_map(|k| value.get(*k)?.as_str()))
}

/// One sentence to a line, as ROUGE-Lsum wants them; a text that has lines keeps them.
fn lines(text: &str) -> String {
    if text.trim().contains('\n') {
        return text.to_owned();
    }
    sentences(text).into_iter().map(|r| &text[r]).collect::<Vec<_>>().join("\n")
}

fn rouge_of(n: u8, wanted: &str, found: &str) -> f64 {
    if n == 0 { rouge_lsum(&lines(wanted), &lines(found)).f1 } else { rouge_n(n.into(), wanted, found).f1 }
}

fn rouge(kind: &Kind, wanted: &Value, got: &Value) -> Vec<Piece> {
    // ROUGE knows a-z and 0-9: of a reference in another script it can say nothing.
    let Some(reference) = text_of(wanted).filter(|t| !tokens(t).is_empty()) else { return Vec::new() };
    let Kind::Rouge(n) = kind else { return Vec::new() };
    vec![Piece::Mean(rouge_of(*n, reference, text_of(got).unwrap_or_default()), 1.0)]
}

fn turns(kind: &Kind, wanted: &Value, got: &Value) -> Vec<Piece> {
    let ids = |value: &Value| value.as_array().into_iter().flatten().filter_map(turn_id).collect::<BTreeSet<_>>();
    let wanted = wanted.get("turns").map(ids).unwrap_or_default();
    if wanted.is_empty() || !matches!(kind, Kind::TurnsPrecision | Kind::TurnsRecall) {
        return Vec::new();
    }
    let sentences = got.get("sentences").and_then(Value::as_array).into_iter().flatten();
    let cited: BTreeSet<String> = sentences.filter_map(|s| s.get("turns")).flat_map(ids).collect();
    let right = cited.intersection(&wanted).count() as f64;
    vec![Piece::Counts(Counts { right, extra: cited.len() as f64 - right, missed: wanted.len() as f64 - right })]
}

fn records(kind: &Kind, wanted: &Value, got: &Value, rules: &Rules, verb: &str) -> Vec<Piece> {
    let (Value::Array(items), empty) = (wanted, Vec::new()) else {
        return record(kind, wanted, got, rules, verb);
    };
    let others = got.as_array().unwrap_or(&empty);
    let pairs = compare::pair(items, others, rules);
    match kind {
        Kind::F1 | Kind::Precision | Kind::Recall => {
            let right = pairs.len() as f64;
            let (extra, missed) = (others.len() as f64 - right, items.len() as f64 - right);
            vec![Piece::Counts(Counts { right, extra, missed })]
        }
        Kind::AccuracyOf(field) => {
            let stated = pairs
                .iter()
                .filter_map(|(i, j)| Some((items[*i].get(field)?, others[*j].get(field).unwrap_or(&Value::Null))));
            let how = rules.how.get(field).copied().unwrap_or_default();
            stated.map(|(a, b)| Piece::Mean(f64::from(u8::from(same(a, b, how))), 1.0)).collect()
        }
        Kind::F1Of(field) => {
            let only = |list: &[Value]| Value::Array(list.to_vec());
            let mut narrow = rules.clone();
            let fields = items.iter().chain(others).filter_map(Value::as_object).flat_map(|o| o.keys());
            // Items are still matched by all they hold; only this field is then counted.
            if narrow.match_by.is_empty() {
                narrow.match_by = fields.clone().filter(|f| !rules.beside.contains(*f)).cloned().collect();
            }
            let mut counts = Counts::default();
            for (i, j) in &pairs {
                counts += compare::count(
                    items[*i].get(field).unwrap_or(&Value::Null),
                    others[*j].get(field).unwrap_or(&Value::Null),
                    field,
                    &narrow,
                );
            }
            let left = |list: &[Value], taken: &dyn Fn(usize) -> bool| {
                let rest: Vec<Value> = list
                    .iter()
                    .enumerate()
                    .filter(|(i, _)| !taken(*i))
                    .filter_map(|(_, v)| v.get(field).cloned())
                    .collect();
                only(&rest)
            };
            counts +=
                compare::count(&left(items, &|i| pairs.iter().any(|(a, _)| *a == i)), &Value::Null, field, &narrow);
            let made_up =
                compare::count(&left(others, &|j| pairs.iter().any(|(_, b)| *b == j)), &Value::Null, field, &narrow);
            counts.extra += made_up.missed;
            vec![Piece::Counts(counts)]
        }
        Kind::Exact | Kind::FieldF1 | Kind::FieldPrecision | Kind::FieldRecall => {
            let counts = compare::count(wanted, &Value::Array(others.clone()), "", rules);
            vec![counted(kind, counts)]
        }
        _ => Vec::new(),
    }
}

/// One record per document: its fields are what is counted.
fn record(kind: &Kind, wanted: &Value, got: &Value, rules: &Rules, verb: &str) -> Vec<Piece> {
    let how = |field: &str| rules.how.get(field).copied().unwrap_or_default();
    match kind {
        Kind::AccuracyOf(field) => {
            let Some(stated) = wanted.get(field) else { return Vec::new() };
            let right = same(stated, got.get(field).unwrap_or(&Value::Null), how(field));
            vec![Piece::Mean(f64::from(u8::from(right)), 1.0)]
        }
        Kind::F1Of(field) => {
            let Some(stated) = wanted.get(field) else { return Vec::new() };
            vec![Piece::Counts(compare::count(stated, got.get(field).unwrap_or(&Value::Null), field, rules))]
        }
        Kind::CalibrationError | Kind::RiskArea | Kind::AccuracyAt(_) => {
            let mut blocks = Vec::new();
            let all = claims(verb, got, &mut blocks, &Source::default());
            let said = all.iter().filter_map(|c| {
                let stated = wanted.get(&c.label)?;
                Some(Piece::Said(Said { p: c.p?, right: same(stated, &c.value, how(&c.label)) }))
            });
            said.collect()
        }
        _ => vec![counted(kind, compare::count(wanted, got, "", rules))],
    }
}

fn counted(kind: &Kind, counts: Counts) -> Piece {
    match kind {
        Kind::Exact => Piece::Mean(f64::from(u8::from(counts.extra + counts.missed == 0.0)), 1.0),
        _ => Piece::Counts(counts),
    }
}
