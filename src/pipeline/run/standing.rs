//! What has to be done: every input is hashed and compared with the journal, before anything is read or loaded.

use std::collections::BTreeMap;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::Serialize;

use crate::pipeline::hash::HashText;
use crate::pipeline::inputs::Input;
use crate::pipeline::journal::{Entry, History};
use crate::pipeline::keys;
use crate::pipeline::plan::{Plan, SourceKind};
use crate::pipeline::report::{DocumentReport, Failure, Skip, State};
use crate::pipeline::sink::is_intact;
use crate::steps::{Reason, StepError};

/// How an input stands before the run.
pub(super) enum Standing {
    /// Done, and all that was written is still there: the journal has its entry.
    Unchanged,
    /// Failed for a reason that trying again would not change: the journal has its entry.
    FailedBefore,
    Unreadable(StepError),
    ToDo {
        sha256: HashText,
        bytes: u64,
        because: Because,
    },
}

/// Why a document is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum Because {
    /// It has not been done before.
    New,
    /// The bytes of the document are not those that were read.
    DocumentChanged,
    /// The pipeline, a parameter, the model or how files are read is another one.
    PipelineChanged,
    /// It failed for a reason that may be gone.
    FailedBefore { failure: Box<Failure> },
    /// A page that it wrote is gone or has been changed.
    PageGone { page: String },
    /// Asked for.
    Forced,
}

/// What inputs are compared with.
pub(super) struct Known<'a> {
    pub plan: &'a Plan,
    pub pipeline_hash: &'a str,
    pub histories: &'a BTreeMap<String, History>,
    pub force: bool,
    pub retry: bool,
}

impl Standing {
    /// Returns the report of a document for which nothing is done.
    pub fn report(&self, entry: &Entry) -> DocumentReport {
        let mut report = report_of(entry);
        match self {
            Self::Unchanged => {
                report.skip = Some(Skip::Unchanged { was: report.state });
                report.state = State::Skipped;
            }
            Self::FailedBefore => report.failed_before = true,
            Self::Unreadable(_) | Self::ToDo { .. } => {}
        }
        report
    }
}

/// Returns a document's end as the report tells it.
pub(super) fn report_of(entry: &Entry) -> DocumentReport {
    DocumentReport {
        sha256: (!entry.sha256.is_empty()).then(|| entry.sha256.clone()),
        failure: entry.failure.clone(),
        partial: entry.partial.clone(),
        notes: entry.notes.clone(),
        coverage: entry.coverage.clone(),
        usage: entry.usage,
        seconds: entry.seconds,
        outputs: entry.pages.iter().map(|p| p.path.clone()).collect(),
        ..DocumentReport::new(entry.document.clone(), entry.state)
    }
}

/// Compares the inputs `selected` with the journal, several at once; results stand in their order.
pub(super) fn compare(known: &Known<'_>, inputs: &[Input], selected: &[usize]) -> Vec<Standing> {
    const THREADS: usize = 4; // hashing waits for the disk as much as for the processor
    const AT_ONCE: usize = 64; // with one lock
    let next = AtomicUsize::new(0);
    let some: Vec<&[usize]> = selected.chunks(AT_ONCE).collect();
    let found: Mutex<Vec<Vec<Standing>>> = Mutex::new(some.iter().map(|_| Vec::new()).collect());
    std::thread::scope(|scope| {
        for _ in 0..THREADS.min(some.len()) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(indices) = some.get(at) else { break };
                    let standings = indices.iter().map(|index| of(known, &inputs[*index])).collect();
                    found.lock().unwrap_or_else(|e| e.into_inner())[at] = standings;
                }
            });
        }
    });
    found.into_inner().unwrap_or_else(|e| e.into_inner()).into_iter().flatten().collect()
}

pub(super) fn of(known: &Known<'_>, input: &Input) -> Standing {
    if let Some(detail) = &input.unreadable {
        let source = &known.plan.sources[input.source];
        let is_row = matches!(source.kind, SourceKind::Rows { .. });
        let reason = if is_row { Reason::Unreadable } else { Reason::Permission };
        return Standing::Unreadable(StepError { reason, detail: detail.clone() });
    }
    let (sha256, bytes) = match &input.row {
        Some(row) => (HashText::from(&row.sha256), row.fields.to_string().len() as u64),
        None => match keys::file_hash(&input.path) {
            Ok(found) => found,
            Err(error) => return Standing::Unreadable(reading_failed(&error)),
        },
    };
    let key = keys::document_key(known.pipeline_hash, &known.plan.sources[input.source], &sha256.to_string());
    let todo = |because| Standing::ToDo { sha256: sha256.clone(), bytes, because };
    if known.force {
        return todo(Because::Forced);
    }
    let Some(entry) = known.histories.get(&input.document).and_then(History::last) else { return todo(Because::New) };
    if entry.key != key {
        return todo(if entry.sha256 == sha256 { Because::PipelineChanged } else { Because::DocumentChanged });
    }
    match &entry.failure {
        Some(failure) if is_lasting(failure.reason) && !known.retry => Standing::FailedBefore,
        Some(failure) => todo(Because::FailedBefore { failure: failure.clone() }),
        None => match entry.pages.iter().find(|page| !is_intact(page, &known.plan.folder)) {
            None => Standing::Unchanged,
            Some(page) => todo(Because::PageGone { page: page.path.clone() }),
        },
    }
}

/// Whether the same document, pipeline and model will fail in the same way again.
fn is_lasting(reason: Reason) -> bool {
    use Reason::{Cancelled, EngineFailed, Missing, Permission, ReadFailed, TimedOut};
    !matches!(reason, TimedOut | Cancelled | Permission | Missing | ReadFailed | EngineFailed)
}

fn reading_failed(error: &io::Error) -> StepError {
    let reason = match error.kind() {
        io::ErrorKind::NotFound => Reason::Missing,
        io::ErrorKind::PermissionDenied => Reason::Permission,
        _ => Reason::ReadFailed,
    };
    StepError { reason, detail: error.to_string() }
}
