//! Shards come together: what each has in its journal goes into that of the whole, and the tables are written from it.
//! An ordinary run afterwards finds every document done. Nothing is believed that is not as its shard left it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::json;

use super::commit::Ledger;
use super::{Job, RunEnvironment, RunError, outputs, run_names_at};
use crate::pipeline::inputs;
use crate::pipeline::journal::{Entry, History, Journal};
use crate::pipeline::places::{Places, Shard};
use crate::pipeline::plan::Plan;
use crate::pipeline::report::{OutputReport, State};
use crate::pipeline::sink::is_intact;

/// What came of putting shards together.
#[derive(Clone, Debug, Serialize)]
pub struct MergeReport {
    pub shards: Vec<String>, // their folders
    pub inputs: usize,
    pub done: usize,   // inputs that stand with their outputs
    pub failed: usize, // inputs that stand failed
    /// Inputs that no shard has an end for, or whose pages are no longer as they were written.
    pub missing: Vec<String>,
    /// Documents of different shards that wrote the same page: both have to be done again, in one run.
    pub clashes: Vec<String>,
    /// Inputs that were done by another pipeline, model or index than the last run's: to be done again.
    pub outdated: Vec<String>,
    pub outputs: Vec<OutputReport>,
    pub quarantine: Option<String>,
}

impl MergeReport {
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.clashes.is_empty() && self.outdated.is_empty()
    }
}

/// Merges every shard beside the outputs of a plan. Refuses while a shard, or a run, is still at work.
pub fn merge(plan: &Plan, env: &RunEnvironment<'_>) -> Result<MergeReport, RunError> {
    let listing = inputs::list(&plan.sources, &plan.folder)?;
    let run = run_names_at(&env.started, None);
    let scope = env.evaluator.bind(&json!({ "params": plan.params, "run": run.value() }));
    let places = Places::open(plan, env.state_folder.as_deref(), &scope, &env.disk, None)?;
    let state_fault = |source| RunError::Resource { path: places.state.clone(), source };
    let journal_path = places.state.join("journal.jsonl");
    let (mut journal, _) = Journal::open(&journal_path, &places.parts(), &env.disk).map_err(state_fault)?;

    let shards = shard_folders(&places.state).map_err(state_fault)?;
    let mut found: BTreeMap<String, History> = BTreeMap::new();
    for folder in &shards {
        let (shard, _) = Journal::open(&folder.join("journal.jsonl"), &folder.join("parts"), &env.disk)
            .map_err(|source| RunError::Resource { path: folder.clone(), source })?;
        for (document, history) in shard.into_histories() {
            // Cut into other shards before, a document may stand in two: its last run is the one that counts.
            if found.get(&document).is_none_or(|other| last_run(other) < last_run(&history)) {
                found.insert(document, history);
            }
        }
    }
    let clashes = clashes(&found);
    // What has been done anew since, without shards, stays.
    let is_news = |entry: &Entry| journal.get(&entry.document).and_then(last_run) < Some(&*entry.run);
    let found = found.into_iter().filter(|(document, _)| !clashes.contains(document));
    let entries = found.flat_map(|(_, history)| [history.good, history.failed]).flatten().map(|entry| *entry);
    let news: Vec<Entry> = entries.filter(is_news).collect();
    journal.add_all(news).map_err(state_fault)?;

    let mut report = MergeReport {
        shards: shards.iter().filter_map(|s| Some(s.file_name()?.to_string_lossy().into_owned())).collect(),
        inputs: listing.inputs.len(),
        done: 0,
        failed: 0,
        missing: Vec::new(),
        clashes: clashes.into_iter().collect(),
        outdated: Vec::new(),
        outputs: Vec::new(),
        quarantine: None,
    };
    let standing = || listing.inputs.iter().filter_map(|i| journal.get(&i.document)?.last());
    let pipeline_hash = standing().max_by_key(|entry| &entry.run).map(|e| e.pipeline.to_string()).unwrap_or_default();
    let outdated = standing().filter(|entry| *entry.pipeline != *pipeline_hash);
    report.outdated = outdated.map(|entry| entry.document.clone()).collect();
    let is_whole = |entry: &Entry| entry.pages.iter().all(|page| is_intact(page, &plan.folder));
    for input in &listing.inputs {
        match journal.get(&input.document).and_then(History::last) {
            Some(entry) if entry.state == State::Failed => report.failed += 1,
            Some(entry) if is_whole(entry) => report.done += 1,
            _ if report.clashes.contains(&input.document) => {}
            _ => report.missing.push(input.document.clone()),
        }
    }
    let num_inputs = listing.inputs.len();
    let (stamp, tables) = (journal.stamp(&run.id), Default::default());
    let job = Job::new(plan, env, &places, (&pipeline_hash, &stamp), &tables, &run, num_inputs);
    let mut ledger = Ledger::open(&job, journal, &listing.inputs)?;
    let filled = ledger.finish(&job)?;
    report.quarantine = ledger.write_quarantine(&job, None)?;
    ledger.compact().map_err(state_fault)?;
    report.outputs = outputs(&job, &ledger, None, &filled);
    Ok(report)
}

/// The stamp of a document's last run: it sorts by time, and never before an earlier one of the same folder.
fn last_run(history: &History) -> Option<&str> {
    history.last().map(|entry| &*entry.run)
}

/// The state folders of shards, by their names.
fn shard_folders(state: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(state)? {
        let path = entry?.path();
        let is_shard = path.file_name().and_then(|n| Shard::of_folder(&n.to_string_lossy())).is_some();
        if is_shard && path.is_dir() {
            folders.push(path);
        }
    }
    folders.sort();
    Ok(folders)
}

/// Returns the documents whose pages another document has written too.
fn clashes(found: &BTreeMap<String, History>) -> BTreeSet<String> {
    let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
    let mut clashing = BTreeSet::new();
    for (document, history) in found {
        for page in history.good.iter().flat_map(|entry| &entry.pages) {
            if let Some(other) = owners.insert(&page.path, document).filter(|other| *other != document) {
                clashing.extend([other.to_owned(), document.clone()]);
            }
        }
    }
    clashing
}
