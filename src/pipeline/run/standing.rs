//! What has to be done: every input is hashed and compared with the journal, before anything is read or loaded.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Job;
use crate::pipeline::inputs::Input;
use crate::pipeline::journal::{Entry, Journal};
use crate::pipeline::keys;
use crate::pipeline::report::{DocumentReport, Skip, State};
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
        sha256: String,
        bytes: u64,
    },
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
pub(super) fn compare(job: &Job<'_>, inputs: &[Input], selected: &[usize], journal: &Journal) -> Vec<Standing> {
    const THREADS: usize = 4; // hashing waits for the disk as much as for the processor
    let next = AtomicUsize::new(0);
    let found: Mutex<Vec<Option<Standing>>> = Mutex::new(selected.iter().map(|_| None).collect());
    std::thread::scope(|scope| {
        for _ in 0..THREADS.min(selected.len()) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(&index) = selected.get(at) else { break };
                    let standing = of(job, &inputs[index], journal);
                    found.lock().unwrap_or_else(|e| e.into_inner())[at] = Some(standing);
                }
            });
        }
    });
    found.into_inner().unwrap_or_else(|e| e.into_inner()).into_iter().flatten().collect()
}

fn of(job: &Job<'_>, input: &Input, journal: &Journal) -> Standing {
    if let Some(detail) = &input.unreadable {
        return Standing::Unreadable(StepError { reason: Reason::Permission, detail: detail.clone() });
    }
    let sha256 = match keys::file_sha256(&input.path) {
        Ok(sha256) => sha256,
        Err(error) => return Standing::Unreadable(reading_failed(&error)),
    };
    let bytes = std::fs::metadata(&input.path).map_or(0, |m| m.len());
    let todo = Standing::ToDo { sha256: sha256.clone(), bytes };
    if job.env.options.force {
        return todo;
    }
    let key = keys::document_key(job.pipeline_hash, &job.plan.sources[input.source], &sha256);
    let history = journal.get(&input.document);
    match history.and_then(|h| h.last()).filter(|entry| entry.key == key) {
        Some(entry) => match &entry.failure {
            Some(failure) if is_lasting(failure.reason) && !job.env.options.retry => Standing::FailedBefore,
            Some(_) => todo,
            None if entry.pages.iter().all(|page| is_intact(page, &job.plan.folder)) => Standing::Unchanged,
            None => todo,
        },
        None => todo,
    }
}

/// Whether the same document, pipeline and model will fail in the same way again.
fn is_lasting(reason: Reason) -> bool {
    use Reason::{Cancelled, EngineFailed, Missing, Permission, TimedOut};
    !matches!(reason, TimedOut | Cancelled | Permission | Missing | EngineFailed)
}

fn reading_failed(error: &io::Error) -> StepError {
    let reason = match error.kind() {
        io::ErrorKind::NotFound => Reason::Missing,
        io::ErrorKind::PermissionDenied => Reason::Permission,
        _ => Reason::Unreadable,
    };
    StepError { reason, detail: error.to_string() }
}
