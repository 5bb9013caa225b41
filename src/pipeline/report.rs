//! What a run did: one state per document, counts that add up to the inputs, and what it cost. Read [`RunReport`] first.
//! Facts only: which exit code they mean, and how they are printed, is the command line's affair.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::hash::HashText;
use super::model::ModelIdentity;
use crate::inference::engine::Usage;
use crate::steps::{Coverage, Reason};

/// Changes when a key of the JSON form changes its name or meaning.
pub const REPORT_SCHEMA_VERSION: u32 = 1;

/// What a run did.
#[derive(Clone, Debug, Serialize)]
pub struct RunReport {
    pub schema_version: u32,
    pub pipeline: String,
    pub pipeline_hash: String,
    pub quarry: &'static str,
    pub run: String,     // its id
    pub started: String, // RFC 3339
    pub outcome: Outcome,
    pub model: Option<ModelIdentity>,
    pub counts: Counts,
    pub documents: Vec<DocumentReport>, // in the order of the inputs
    /// What was done over groups and over all documents: no inputs, and not among the counts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub whole: Vec<DocumentReport>,
    pub outputs: Vec<OutputReport>,
    /// Worth a line, about no single document.
    pub notes: Vec<String>,
    pub calls: Calls,
    pub tokens: Usage, // of this run's own calls, without those found in the cache
    pub reading: Reading,
    pub seconds: Seconds,
    pub state_folder: String,
    pub quarantine: Option<String>, // the file, where any document stands in it
    /// By step, a hash of each of its options: what `diff` tells changes by.
    pub steps: BTreeMap<String, BTreeMap<String, String>>,
}

/// What it cost to read, in tokens of prompts: documents are read once for all the steps over them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Reading {
    pub computed: usize,
    /// Had every call been made by itself. Labels scored after one prompt are one call.
    pub separate: usize,
}

impl Reading {
    /// `computed` is what the model counted, where it counts.
    pub fn new(calls: Usage, computed: Option<usize>) -> Self {
        let computed = computed.unwrap_or(calls.prompt_tokens.saturating_sub(calls.cached_tokens));
        Self { computed, separate: calls.prompt_tokens }
    }
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum Outcome {
    Finished,
    /// More documents failed than `max_failed` allows.
    TooManyFailed {
        failed: usize,
        allowed: usize,
    },
    /// A step with `on_error: stop` failed.
    Stopped {
        document: String,
    },
    /// Cancelled from outside; what was finished is kept, and the next run goes on from there.
    Interrupted,
    /// `run.deadline` came first; the next run goes on from there.
    DeadlineReached,
}

/// The state of a document after a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Ok,
    /// Something is missing, and the report says what.
    Partial,
    /// A step declined to answer.
    Abstained,
    Failed,
    /// Nothing was done: it was done before, or the run ended first.
    Skipped,
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Partial => "partial",
            Self::Abstained => "abstained",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        })
    }
}

/// Why nothing was done for a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "because")]
pub enum Skip {
    /// Document, pipeline and model are those of an earlier run, and its outputs are intact.
    Unchanged { was: State },
    /// The run ended before its turn came, or while it was being worked on.
    NotReached,
}

/// Why a document failed, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub step: Option<String>, // `None`: before the first step, or in an output
    pub reason: Reason,
    pub detail: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.step {
            Some(step) => write!(f, "step {step}: {}: {}", self.reason, self.detail),
            None => write!(f, "{}: {}", self.reason, self.detail),
        }
    }
}

/// What became of one document.
#[derive(Clone, Debug, Serialize)]
pub struct DocumentReport {
    pub document: String,
    pub sha256: Option<HashText>, // of the bytes used; `None` where they could not be read
    pub state: State,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skip: Option<Skip>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Box<Failure>>,
    /// The failure is an earlier run's: document, pipeline and model have not changed since, so it was not tried again.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub failed_before: bool,
    pub partial: Vec<String>,
    pub notes: Vec<String>,
    pub coverage: Option<Coverage>,
    pub usage: Usage, // of its steps, calls found in the cache included
    pub seconds: f64,
    pub outputs: Vec<String>,
}

impl DocumentReport {
    /// Returns a report of nothing done yet.
    pub fn new(document: String, state: State) -> Self {
        Self {
            document,
            sha256: None,
            state,
            skip: None,
            failure: None,
            failed_before: false,
            partial: Vec::new(),
            notes: Vec::new(),
            coverage: None,
            usage: Usage::default(),
            seconds: 0.0,
            outputs: Vec::new(),
        }
    }

    /// Returns a report of a document whose turn did not come.
    pub fn not_reached(document: String) -> Self {
        Self { skip: Some(Skip::NotReached), ..Self::new(document, State::Skipped) }
    }

    /// The state its outputs are in: a skipped document stands as it was left.
    pub fn standing(&self) -> State {
        match self.skip {
            Some(Skip::Unchanged { was }) => was,
            _ => self.state,
        }
    }
}

/// How many documents ended in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub inputs: usize,
    pub ok: usize,
    pub partial: usize,
    pub abstained: usize,
    pub failed: usize,
    pub skipped: usize,
    /// Of the skipped: those the run did not get to.
    pub not_reached: usize,
}

impl Counts {
    pub fn of(documents: &[DocumentReport]) -> Self {
        let mut counts = Self { inputs: documents.len(), ..Self::default() };
        for document in documents {
            *match document.state {
                State::Ok => &mut counts.ok,
                State::Partial => &mut counts.partial,
                State::Abstained => &mut counts.abstained,
                State::Failed => &mut counts.failed,
                State::Skipped => &mut counts.skipped,
            } += 1;
            counts.not_reached += usize::from(document.skip == Some(Skip::NotReached));
        }
        let sum = counts.ok + counts.partial + counts.abstained + counts.failed + counts.skipped;
        assert_eq!(sum, counts.inputs, "every input ends in exactly one state");
        counts
    }
}

/// Where an output stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OutputReport {
    pub name: String,
    pub path: String,   // the file, or the folder of the files
    pub written: usize, // pages, or records, that the output holds after this run
}

/// Calls to the model: those answered by it, and those found in the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Calls {
    pub made: usize,
    pub from_cache: usize,
    /// Entries of the cache that were not as they had been written; their calls were made again.
    pub damaged: usize,
}

/// Where the time went.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Seconds {
    pub total: f64,
    pub model_load: f64,
    /// Of the model answering, summed over documents: more than `total` where several wait at once.
    pub model_calls: f64,
}

impl RunReport {
    /// Returns the report without its documents, as it stands in `run.json`.
    pub fn manifest(&self) -> Value {
        // Of a run over many documents these are nearly all of the report: they are not even copied.
        let without = Self {
            documents: Vec::new(),
            whole: self.whole.clone(),
            pipeline: self.pipeline.clone(),
            pipeline_hash: self.pipeline_hash.clone(),
            run: self.run.clone(),
            started: self.started.clone(),
            outcome: self.outcome.clone(),
            model: self.model.clone(),
            steps: self.steps.clone(),
            outputs: self.outputs.clone(),
            notes: self.notes.clone(),
            state_folder: self.state_folder.clone(),
            quarantine: self.quarantine.clone(),
            ..*self
        };
        let mut manifest = serde_json::to_value(without).unwrap_or_default();
        if let Some(map) = manifest.as_object_mut() {
            map.shift_remove("documents");
        }
        manifest
    }

    /// Whether any document stands failed or partial, in this run or as an earlier one left it.
    pub fn is_incomplete(&self) -> bool {
        let mut all = self.documents.iter().chain(&self.whole);
        all.any(|d| matches!(d.standing(), State::Failed | State::Partial))
    }
}
