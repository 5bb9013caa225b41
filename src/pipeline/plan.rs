//! What a checked pipeline file is: everything resolved, typed and compiled. Only `check` makes one.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::inference::engine::Quantize;
use crate::steps::{GenerationDefaults, Step, StepKind};

/// A pipeline that is ready to run.
pub struct Plan {
    pub file: PathBuf,
    pub folder: PathBuf, // of the file; relative paths resolve against it
    pub name: String,
    pub params: Value, // an object, every parameter with its final value
    pub model: ModelPlan,
    pub sources: Vec<SourcePlan>, // of documents; what an index is made of stands with it
    pub indexes: Vec<IndexPlan>,
    pub steps: Vec<StepPlan>, // in the order they run
    pub outputs: Vec<OutputPlan>,
    pub run: RunPlan,
}

/// The `model` section.
#[derive(Clone, Debug, Default)]
pub struct ModelPlan {
    /// In order of preference; a later one is used only when an earlier one cannot be had, and that is said.
    pub preference: Vec<String>,
    pub defaults: GenerationDefaults,
    pub threads: Option<usize>, // `None`: every core
    pub quantize: Quantize,
}

pub struct SourcePlan {
    pub name: String,
    pub patterns: Vec<String>, // globs, absolute
    pub ignore: Vec<String>,   // globs, absolute
    /// How files are read: the `read` mapping with its defaults filled in.
    pub read: Value,
}

/// An index of passages, brought up to its source before the first step runs.
pub struct IndexPlan {
    pub name: String,
    pub source: SourcePlan,
    pub split: Value,             // as the chunker reads it
    pub embedder: Option<String>, // a model that embeds
}

pub struct StepPlan {
    pub id: String,
    pub kind: &'static StepKind,
    pub step: Arc<dyn Step>,
    pub when: Option<String>, // an expression; false leaves the step's value `none`
    pub on_error: OnError,
    /// The options as checked, defaults and the contents of the files they name included: what a cache key hashes.
    pub resolved: Value,
    /// Ids of the steps whose values this one can see in its templates and expressions.
    pub reads: Vec<String>,
}

pub struct OutputPlan {
    pub name: String,
    pub path: String, // a template over `doc`, `params` and `run`; resolved against the pipeline's folder
    pub format: OutputFormat,
    pub content: OutputContent,
    pub only: Option<String>, // an expression over the same names as `content`
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputFormat {
    Markdown,
    Text,
    Jsonl,
    Csv,
}

pub enum OutputContent {
    /// One file per document, holding the text this expression gives.
    Text(String),
    /// One file for all documents: a record per document, or per item of `explode`.
    Records {
        fields: Vec<(String, String)>, // name, expression
        key: Option<String>,           // an expression: a new record replaces the old one with the same key
        explode: Option<String>,       // an expression giving a list; fields then see `item`
    },
}

/// The `run` section.
#[derive(Clone, Debug)]
pub struct RunPlan {
    pub on_error: OnError,
    pub max_failed: MaxFailed,
    pub document_timeout: Option<Duration>,
    pub step_timeout: Option<Duration>,
    pub in_flight: usize, // documents at once
    pub quarantine: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    /// The run ends at once.
    Stop,
    /// The document fails and is listed with its reason; the run goes on.
    Quarantine,
    /// The step's value is `none`, the document goes on and ends `partial`.
    Skip,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MaxFailed {
    Count(usize),
    Share(f64), // 0.0..=1.0 of the inputs
}
