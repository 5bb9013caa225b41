//! What came of a document, or of all of them together: file names, outputs, the journal's line, the report's.

use std::path::PathBuf;

use super::walk::{Halt, Walked};
use super::{Job, RunError};
use crate::pipeline::disk::is_exhausted;
use crate::pipeline::hash::HashText;
use crate::pipeline::journal::{Entry, Rows};
use crate::pipeline::names::Names;
use crate::pipeline::places::TargetKind;
use crate::pipeline::plan::Per;
use crate::pipeline::report::{Failure, State};
use crate::pipeline::shown::shown;
use crate::pipeline::sink::file_names::{NameRegistry, safe_name};
use crate::pipeline::sink::{self, Output, OutputFault, PageError, Provenance};
use crate::steps::{Reason, StepError};

/// Why outputs could not be written.
pub(super) enum Wrote {
    Failed(Failure),
    Fatal(RunError),
}

/// Returns the file of each page that a document, or a group, may write, in the order of the outputs. `index` is its
/// place in the registry.
pub(super) fn paths(
    job: &Job<'_>,
    registry: &NameRegistry,
    index: usize,
    (per, called): (Per, &str),
    names: &Names,
    give_up: &dyn Fn() -> bool,
) -> Result<Vec<PathBuf>, Halt> {
    let scope = job.env.evaluator.bind(names.value());
    let mut wanted = Vec::new();
    for (output, target) in job.plan.outputs.iter().zip(&job.places.targets).filter(|(o, _)| o.per == per) {
        let TargetKind::Pages { names } = &target.kind else { continue };
        let mut path = target.root.clone();
        for template in names {
            let name = scope.render(template).map_err(|e| {
                let detail = format!("output {}: path: {e}", output.name);
                Halt::Failed(Failure { step: None, reason: Reason::TemplateFailed, detail })
            })?;
            // What the author wrote in full is theirs; what a document says is not to be trusted.
            path.push(if template.contains('{') { safe_name(&name) } else { name });
        }
        wanted.push(path);
    }
    registry.settle(index, called, &wanted, give_up).ok_or(Halt::Interrupted)
}

/// Writes the outputs of a document, or of a group: pages onto the disk, rows into its entry.
pub(super) fn write(
    job: &Job<'_>,
    per: Per,
    names: &Names,
    provenance: &Provenance,
    paths: &[PathBuf],
    entry: &mut Entry,
    walked: &mut Walked,
) -> Result<(), Wrote> {
    let base = &job.plan.folder;
    let mut scope = job.env.evaluator.bind(names.value());
    let mut paths = paths.iter();
    let mut pages = Vec::new();
    for (output, target) in job.plan.outputs.iter().zip(&job.places.targets).filter(|(o, _)| o.per == per) {
        let path = match &target.kind {
            TargetKind::Pages { .. } => paths.next(),
            TargetKind::Table { path } => Some(path),
        };
        let Some(path) = path else { continue };
        let failed = |fault: OutputFault| {
            let detail = format!("output {}: {}", output.name, fault.detail);
            Wrote::Failed(Failure { step: None, reason: fault.reason, detail })
        };
        match sink::evaluate(output, &mut scope, provenance).map_err(failed)? {
            Output::Nothing => {}
            Output::Missing(e) => {
                walked.notes.push(format!("output {}: nothing to write, `{e}` is none", output.name));
            }
            Output::Rows(rows) => entry.rows.push(Rows { path: shown(path, base).into(), rows }),
            Output::Page(text) => pages.push((output, target, path, text)),
        }
    }
    // Only when every output could be made: a failed document leaves no half of its outputs behind.
    for (output, target, path, text) in pages {
        sink::write_page(path, target, &text, &job.env.disk).map_err(|error| match error {
            PageError::Io { path, source } if is_exhausted(&source) => {
                Wrote::Fatal(RunError::Resource { path, source })
            }
            error => {
                let detail = format!("output {}: {error}", output.name);
                Wrote::Failed(Failure { step: None, reason: Reason::Permission, detail })
            }
        })?;
        entry.pages.push(sink::mark(&output.name, path, base, &text));
    }
    Ok(())
}

/// Returns an entry in which nothing has happened yet.
pub(super) fn entry(job: &Job<'_>, document: &str, sha256: impl Into<HashText>, key: impl Into<HashText>) -> Entry {
    Entry {
        document: document.to_owned(),
        source: "".into(),
        sha256: sha256.into(),
        key: key.into(),
        pipeline: job.pipeline_hash.into(),
        run: job.stamp.into(),
        state: State::Ok,
        failure: None,
        partial: Vec::new(),
        notes: Vec::new(),
        coverage: None,
        names: Vec::new(),
        pages: Vec::new(),
        rows: Vec::new(),
        values: None,
        kept: None,
        usage: Default::default(),
        seconds: 0.0,
        attempts: 0,
        first_failed: None,
    }
}

pub(super) fn failure_of(error: StepError) -> Failure {
    Failure { step: None, reason: error.reason, detail: error.detail.replace('\n', " ") }
}

pub(super) fn fill(entry: &mut Entry, walked: Walked) {
    (entry.partial, entry.notes) = (walked.partial, walked.notes);
    (entry.coverage, entry.usage) = (walked.coverage, walked.usage);
}
