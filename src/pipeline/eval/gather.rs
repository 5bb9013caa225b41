//! From a plan and what its last run left to a report: golden files found and read, values taken from the journal,
//! sources read again. Loads no model.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;

use serde_json::Value;

use super::figures::{Found, few, score};
use super::golden::{self, Golden};
use super::measures::Kind;
use super::report::EvalReport;
use crate::pipeline::evaluate::Evaluator;
use crate::pipeline::evidence::Source;
use crate::pipeline::inputs::{self, ListError};
use crate::pipeline::journal::{Entry, Journal};
use crate::pipeline::keys::file_hash;
use crate::pipeline::names::document_value;
use crate::pipeline::places::{PlaceError, Places};
use crate::pipeline::plan::{Plan, SourcePlan};
use crate::pipeline::report::State;
use crate::pipeline::run::{DocumentReader, run_names_at};
use crate::pipeline::shown::shown;

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    #[error("{0} has no `eval` section")]
    NoSection(String),
    #[error("{0}")]
    Golden(String),
    #[error("no golden file matches {0}")]
    NoGolden(String),
    #[error(transparent)]
    Inputs(#[from] ListError),
    #[error(transparent)]
    Place(#[from] PlaceError),
    #[error("nothing was run yet: {0} is not there")]
    NotRun(PathBuf),
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("the last run kept no values of {0}")]
    NothingKept(String),
}

/// Scores what the last run of a plan left. `against` takes the place of the plan's golden files. Returns the state
/// folder too.
pub fn evaluate(
    plan: &Plan,
    against: &[PathBuf],
    reader: &dyn DocumentReader,
    evaluator: &Evaluator,
    now: &jiff::Zoned,
) -> Result<(EvalReport, PathBuf), EvalError> {
    let eval = plan.eval.as_ref().ok_or_else(|| EvalError::NoSection(plan.file.display().to_string()))?;
    let steps = eval.steps();
    let golden = golden_of(plan, against, &steps)?;
    let names = serde_json::json!({ "params": plan.params, "run": run_names_at(now, None).value() });
    let state = Places::state_of(plan, &evaluator.bind(&names))?;
    let journal = state.join("journal.jsonl");
    let (histories, damage) = Journal::look(&journal).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => EvalError::NotRun(journal.clone()),
        _ => EvalError::Io { path: journal.clone(), source },
    })?;
    let entries: Vec<&Entry> = histories.values().filter_map(|h| h.last()).collect();
    let has_values = |e: &&&Entry| {
        e.state != State::Failed && steps.iter().all(|s| e.values.as_ref().is_some_and(|v| v.contains_key(s)))
    };
    let (kept, without): (Vec<&Entry>, Vec<&Entry>) =
        entries.iter().filter(|e| e.state != State::Failed).partition(has_values);
    if kept.is_empty() && !without.is_empty() {
        return Err(EvalError::NothingKept(steps.join(", ")));
    }
    let needs_source = eval.measures.iter().any(|m| matches!(m.kind, Kind::CitationsValid | Kind::CitationsSupport));
    let listing = inputs::list(&plan.sources, &plan.folder)?;
    let is_golden = |e: &Entry| golden.iter().any(|g| golden::means(&g.document, &e.document));
    let mut found = Vec::new();
    for entry in kept.iter().chain(entries.iter().filter(|e| e.state == State::Failed)).filter(|e| is_golden(e)) {
        let input = listing.inputs.iter().find(|i| i.document == entry.document).filter(|_| needs_source);
        // Only bytes that are still those of the run can be held against what it gave.
        let intact = input.filter(|i| file_hash(&i.path).is_ok_and(|(hash, _)| hash == entry.sha256));
        let read = intact.and_then(|i| reader.read(&i.path, &plan.sources[i.source].read).ok());
        let source = read.map(|document| Source::of_document(&document_value(&document, &entry.document)));
        let is_failed = entry.state == State::Failed;
        let steps =
            if is_failed { serde_json::Map::new() } else { entry.values.as_deref().cloned().unwrap_or_default() };
        found.push(Found { document: entry.document.clone(), state: entry.state.to_string(), steps, source });
    }
    let verbs: BTreeMap<String, &'static str> = plan.steps.iter().map(|s| (s.id.clone(), s.kind.name)).collect();
    let mut report = score(eval, &verbs, &golden, &found).map_err(EvalError::Golden)?;
    report.pipeline.clone_from(&plan.name);
    report.run = run_of(&state);
    if !without.is_empty() {
        let names: Vec<&str> = without.iter().map(|e| e.document.as_str()).collect();
        report.notes.push(format!(
            "{} documents were run before they were measured, and count as not run: {}",
            names.len(),
            few(&names)
        ));
    }
    if damage.lines > 0 {
        report
            .notes
            .push(format!("{} lines of the journal are damaged; what they told of counts as not run", damage.lines));
    }
    let hashes: std::collections::BTreeSet<&str> = kept.iter().map(|e| &*e.pipeline).collect();
    if hashes.len() > 1 {
        report
            .notes
            .push("the documents were done by different pipelines or models: run it again to measure one".into());
    }
    Ok((report, state))
}

fn run_of(state: &std::path::Path) -> Option<String> {
    let manifest: Value = serde_json::from_slice(&fs::read(state.join("run.json")).ok()?).ok()?;
    manifest.get("run")?.as_str().map(str::to_owned)
}

fn golden_of(plan: &Plan, against: &[PathBuf], steps: &[String]) -> Result<Vec<Golden>, EvalError> {
    let eval = plan.eval.as_ref();
    let paths: Vec<PathBuf> = if against.is_empty() {
        let patterns = eval.map(|e| e.golden.clone()).unwrap_or_default();
        let source = SourcePlan { name: "golden".into(), patterns: patterns.clone(), ..SourcePlan::default() };
        let listing = inputs::list(std::slice::from_ref(&source), &plan.folder)?;
        if listing.inputs.is_empty() {
            return Err(EvalError::NoGolden(patterns.join(", ")));
        }
        listing.inputs.into_iter().map(|i| i.path).collect()
    } else {
        against.to_vec()
    };
    let mut all = Vec::new();
    for path in paths {
        let bytes = fs::read(&path).map_err(|source| EvalError::Io { path: path.clone(), source })?;
        let name = shown(&path, &plan.folder);
        all.extend(golden::read(&path, &name, &bytes, steps).map_err(EvalError::Golden)?);
    }
    Ok(all)
}
