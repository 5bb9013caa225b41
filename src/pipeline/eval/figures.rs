//! From documents to figures: each document gives pieces to each measure, and a measure is made of the pieces of all
//! documents, or of a sample of them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::EvalPlan;
use super::calibration::{self, Said};
use super::compare::Counts;
use super::golden::{Golden, means};
use super::measures::Kind;
use super::pieces::{Piece, pieces};
use super::report::{Curve, EvalReport, Figure, GateReport, NotRun, Scored};
use crate::corpus::index::bootstrap;
use crate::pipeline::evidence::Source;

/// Samples of the documents that an interval is drawn from.
const SAMPLES: usize = 1000;

/// What a run gave of one document.
#[derive(Clone, Debug, Default)]
pub struct Found {
    pub document: String,
    pub state: String,
    pub steps: Map<String, Value>, // empty where it failed
    /// Its text; `None` where it cannot be read as it was.
    pub source: Option<Source>,
}

/// Scores what was found. `verbs` says what each step is; `names` the steps in the order of the file.
pub fn score(
    plan: &EvalPlan,
    verbs: &BTreeMap<String, &'static str>,
    golden: &[Golden],
    found: &[Found],
) -> Result<EvalReport, String> {
    let (pairs, not_run) = pairs(golden, found)?;
    let mut report = EvalReport { schema_version: super::report::SCHEMA_VERSION, ..EvalReport::default() };
    report.golden = golden.len();
    report.documents = pairs.len();
    report.failed = pairs.iter().filter(|(_, f)| f.state == "failed").map(|(_, f)| f.document.clone()).collect();
    report.not_run = not_run;
    report.notes = notes(plan, verbs, &pairs);
    let mut scored: Vec<Scored> = pairs
        .iter()
        .map(|(_, f)| Scored { document: f.document.clone(), state: f.state.clone(), figures: BTreeMap::new() })
        .collect();
    for measure in &plan.measures {
        let pieces: Vec<Vec<Piece>> = pairs.iter().map(|(g, f)| pieces(plan, verbs, measure, g, f)).collect();
        let counted: Vec<usize> = (0..pieces.len()).filter(|i| !pieces[*i].is_empty()).collect();
        let of = |at: &[usize]| fold(&measure.kind, at.iter().flat_map(|i| &pieces[counted[*i]]));
        let value = of(&(0..counted.len()).collect::<Vec<_>>());
        let interval = value.and_then(|_| bootstrap::interval(counted.len(), SAMPLES, of));
        report.figures.push(Figure {
            name: measure.name.clone(),
            value,
            interval,
            documents: counted.len(),
            is_cost: measure.kind.is_cost(),
        });
        for i in &counted {
            if let Some(own) = fold(&measure.kind, pieces[*i].iter()) {
                scored[*i].figures.insert(measure.name.clone(), own);
            }
        }
        let said: Vec<Said> =
            pieces.iter().flatten().filter_map(|p| if let Piece::Said(s) = p { Some(*s) } else { None }).collect();
        let step = measure.steps.first().cloned().unwrap_or_default();
        if said.len() > 1 && !report.curves.iter().any(|c| c.step == step) {
            report.curves.push(Curve {
                step,
                num: said.len(),
                bins: calibration::bins(&said),
                risks: thinned(calibration::risks(&said)),
            });
        }
    }
    report.scored = scored;
    report.gates = plan
        .gates
        .iter()
        .map(|gate| {
            let value = report.figures.iter().find(|f| f.name == gate.measure).and_then(|f| f.value);
            GateReport {
                measure: gate.measure.clone(),
                condition: gate.condition.clone(),
                value,
                // What cannot be computed, or not of every golden document, is no pass.
                ok: report.not_run.is_empty() && value.is_some_and(|v| gate.holds(v)),
            }
        })
        .collect();
    Ok(report)
}

/// A curve of at most so many points is as good to look at.
const POINTS_MAX: usize = 200;

fn thinned(risks: Vec<f64>) -> Vec<(f64, f64)> {
    let n = risks.len();
    let step = n.div_ceil(POINTS_MAX).max(1);
    let is_kept = |i: &usize| (i + 1).is_multiple_of(step) || i + 1 == n;
    (0..n).filter(is_kept).map(|i| ((i + 1) as f64 / n as f64, risks[i])).collect()
}

/// A golden document and what was found of it.
type Pair<'a> = (&'a Golden, &'a Found);

/// Returns each golden document with what was found of it, and those of which nothing was.
fn pairs<'a>(golden: &'a [Golden], found: &'a [Found]) -> Result<(Vec<Pair<'a>>, Vec<NotRun>), String> {
    let (mut pairs, mut not_run) = (Vec::new(), Vec::new());
    let mut taken: BTreeMap<&str, &str> = BTreeMap::new();
    for one in golden {
        let exact: Vec<&Found> = found.iter().filter(|f| f.document == one.document).collect();
        let meant: Vec<&Found> = match exact.is_empty() {
            true => found.iter().filter(|f| means(&one.document, &f.document)).collect(),
            false => exact,
        };
        match meant.as_slice() {
            [] => not_run.push(NotRun { document: one.document.clone(), from: one.from.clone() }),
            [only] => {
                if let Some(other) = taken.insert(&only.document, &one.from) {
                    return Err(format!("{} and {other} are both of {}", one.from, only.document));
                }
                pairs.push((one, *only));
            }
            [first, second, ..] => {
                return Err(format!(
                    "{}: `{}` may be {} or {}: write its whole path",
                    one.from, one.document, first.document, second.document
                ));
            }
        }
    }
    Ok((pairs, not_run))
}

/// Says what is left out of the figures.
fn notes(plan: &EvalPlan, verbs: &BTreeMap<String, &'static str>, pairs: &[Pair<'_>]) -> Vec<String> {
    let mut notes = Vec::new();
    let cites = plan.measures.iter().any(|m| matches!(m.kind, Kind::CitationsValid | Kind::CitationsSupport));
    let unread: Vec<&str> = pairs
        .iter()
        .filter(|(_, f)| f.source.is_none() && f.state != "failed")
        .map(|(_, f)| f.document.as_str())
        .collect();
    if cites && !unread.is_empty() {
        notes.push(format!(
            "citations are not measured of {} documents that are no longer as they were: {}",
            unread.len(),
            few(&unread)
        ));
    }
    for step in plan.steps() {
        let rules = plan.rules(&step);
        let wanted = items(pairs.iter().filter_map(|(g, _)| g.steps.get(&step)));
        let has = items(pairs.iter().filter_map(|(_, f)| f.steps.get(&step)));
        let known: BTreeSet<&String> = has.iter().flat_map(|o| o.keys()).collect();
        let is_record = matches!(verbs.get(&step), Some(&("extract" | "generate" | "set")));
        let unknown: BTreeSet<&String> =
            wanted.iter().flat_map(|o| o.keys()).filter(|k| !known.contains(k) && !rules.beside.contains(*k)).collect();
        if is_record && !unknown.is_empty() && !known.is_empty() {
            let names = unknown.iter().map(|n| n.as_str()).collect::<Vec<_>>();
            notes.push(format!(
                "golden has fields of {step} that the step never gives, which count as missed: {}",
                few(&names)
            ));
        }
        let without: Vec<&str> =
            pairs.iter().filter(|(g, _)| !g.steps.contains_key(&step)).map(|(g, _)| g.from.as_str()).collect();
        if !without.is_empty() && without.len() < pairs.len() {
            notes.push(format!("{} golden documents say nothing of {step}: {}", without.len(), few(&without)));
        }
    }
    notes
}

fn items<'a>(values: impl Iterator<Item = &'a Value>) -> Vec<&'a Map<String, Value>> {
    let mut all = Vec::new();
    for value in values {
        match value {
            Value::Object(map) => all.push(map),
            Value::Array(list) => all.extend(list.iter().filter_map(Value::as_object)),
            _ => {}
        }
    }
    all
}

pub(super) fn few(names: &[&str]) -> String {
    const FEW: usize = 5;
    format!("{}{}", names[..names.len().min(FEW)].join(", "), if names.len() > FEW { ", …" } else { "" })
}

/// Returns a measure of pieces; `None` where they say nothing.
fn fold<'a>(kind: &Kind, pieces: impl Iterator<Item = &'a Piece>) -> Option<f64> {
    let mut counts = Counts::default();
    let (mut sum, mut of) = (0.0, 0.0);
    let mut said = Vec::new();
    let mut pairs: Vec<(Option<&str>, Option<&str>)> = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Counts(c) => counts += *c,
            Piece::Mean(a, b) => (sum, of) = (sum + a, of + b),
            Piece::Said(s) => said.push(*s),
            Piece::Label { wanted, found } => pairs.push((wanted.as_deref(), found.as_deref())),
        }
    }
    match kind {
        Kind::F1 | Kind::FieldF1 | Kind::F1Of(_) | Kind::RefusalF1 => counts.f1(),
        Kind::Precision | Kind::FieldPrecision | Kind::RefusalPrecision | Kind::TurnsPrecision => counts.precision(),
        Kind::Recall | Kind::FieldRecall | Kind::RefusalRecall | Kind::TurnsRecall => counts.recall(),
        Kind::Accuracy => {
            (!pairs.is_empty()).then(|| pairs.iter().filter(|(a, b)| a == b).count() as f64 / pairs.len() as f64)
        }
        Kind::MacroF1 => macro_f1(&pairs),
        Kind::CalibrationError => calibration::calibration_error(&said),
        Kind::RiskArea => calibration::area_under_risk(&said),
        Kind::AccuracyAt(k) => calibration::accuracy_at(&said, f64::from(*k) / 100.0),
        _ => (of > 0.0).then(|| sum / of),
    }
}

/// The mean F1 over the labels that are expected or given, each counting alike. "None" is a label where it is expected.
fn macro_f1(pairs: &[(Option<&str>, Option<&str>)]) -> Option<f64> {
    let mut labels: BTreeSet<Option<&str>> = pairs.iter().map(|(wanted, _)| *wanted).collect();
    labels.extend(pairs.iter().map(|(_, found)| *found).filter(Option::is_some));
    let f1 = |label: &Option<&str>| {
        let right = pairs.iter().filter(|(a, b)| a == label && b == label).count() as f64;
        let wanted = pairs.iter().filter(|(a, _)| a == label).count() as f64;
        let given = pairs.iter().filter(|(_, b)| b == label).count() as f64;
        2.0 * right / (wanted + given)
    };
    (!labels.is_empty()).then(|| labels.iter().map(f1).sum::<f64>() / labels.len() as f64)
}
