//! What a checked pipeline file is: everything resolved, typed and compiled. Only `check` makes one.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::eval::EvalPlan;
use crate::inference::engine::Quantize;
use crate::steps::{GenerationDefaults, Reason, Step, StepKind};

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
    pub eval: Option<EvalPlan>,
    pub tests: Vec<TestPlan>,
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
    pub rounds: Rounds,
    pub on_error: OnError,
    /// The options as checked, defaults and the contents of the files they name included: what a cache key hashes.
    pub resolved: Value,
    /// Ids of the steps whose values this one can see in its templates and expressions.
    pub reads: Vec<String>,
}

/// How often a step is done for a document, and over what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rounds {
    pub per: Per,
    /// An expression: the units it is done for, or, once per document, those that it reads.
    pub over: Option<String>,
    /// An expression: the step is done for each `item` of it.
    pub foreach: Option<String>,
}

/// What a step is done for, once each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Per {
    #[default]
    Document,
    Chunk,
    Turn,
    Page,
}

impl Per {
    /// Returns the scope of that name, if a step can have it.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "document" => Self::Document,
            "chunk" => Self::Chunk,
            "turn" => Self::Turn,
            "page" => Self::Page,
            _ => return None,
        })
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Document => "document",
            Self::Chunk => "chunk",
            Self::Turn => "turn",
            Self::Page => "page",
        }
    }
}

impl Rounds {
    /// Returns the name under which a step finds what it is done for; `None` where it is done once.
    pub fn local(&self) -> Option<&'static str> {
        match (self.per, &self.foreach) {
            (Per::Document, None) => None,
            (Per::Document, Some(_)) => Some("item"),
            (per, _) => Some(per.name()),
        }
    }
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
    Review,
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
    /// One page for all documents: what these steps say, beside its source.
    Review { steps: Vec<(String, &'static str)> }, // id, verb
}

/// A test of the pipeline itself.
#[derive(Clone, Debug)]
pub struct TestPlan {
    pub name: String,
    pub document: String, // its name
    pub text: TestText,
    pub answers: Value,      // a script that can be used
    pub expect: Vec<String>, // expressions
}

#[derive(Clone, Debug)]
pub enum TestText {
    Inline(String),
    File(PathBuf), // relative to the pipeline's folder
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
    pub retry: Option<RetryPlan>,
    pub deadline: Option<Deadline>,
    pub events: Option<PathBuf>,
}

/// Whether a step that failed is tried again.
#[derive(Clone, Debug, PartialEq)]
pub struct RetryPlan {
    pub times: usize,
    pub on: Vec<Reason>,
    pub temperature: f32,
}

/// When a run ends, whatever is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deadline {
    After(Duration),
    At(jiff::civil::Time), // of the day, the next time it comes
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    /// The run ends at once.
    Stop,
    /// The document fails and is listed with its reason; the run goes on.
    Quarantine,
    /// The step's value is `none`, the document goes on and ends `partial`.
    Skip,
    /// As `Skip`; a check keeps its value and says what does not hold.
    Mark,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MaxFailed {
    Count(usize),
    Share(f64), // 0.0..=1.0 of the inputs
}
