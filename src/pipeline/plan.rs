//! What a checked pipeline file is: everything resolved, typed and compiled. Only `check` makes one.

use std::collections::BTreeMap;
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
    pub tables: Vec<SourcePlan>,  // of rows that stand beside the documents, for steps with `per: row`
    pub indexes: Vec<IndexPlan>,
    pub steps: Vec<StepPlan>, // in the order they run
    pub outputs: Vec<OutputPlan>,
    /// Set where a step or an output is done per group.
    pub grouping: Option<Grouping>,
    /// Ids of the steps whose values of each document are kept for what is done over all of them.
    pub kept: Vec<String>,
    /// Something names `doc.tokens`, which the model counts.
    pub counts_tokens: bool,
    pub run: RunPlan,
    pub eval: Option<EvalPlan>,
    pub tests: Vec<TestPlan>,
}

impl Plan {
    /// Whether any step asks the model, or it is asked how many tokens a text has.
    pub fn needs_model(&self) -> bool {
        self.counts_tokens || self.steps.iter().any(StepPlan::needs_model)
    }

    /// Whether anything is done over all documents, or over groups of them.
    pub fn has_whole(&self) -> bool {
        self.steps.iter().any(|s| s.rounds.per.is_whole()) || self.outputs.iter().any(|o| o.per.is_whole())
    }
}

/// What `per: group` is done for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grouping {
    /// Documents for which this expression gives the same.
    By(String),
    /// The groups that this step, done over all documents, has made.
    Of(String),
}

/// The `model` section.
#[derive(Clone, Debug, Default)]
pub struct ModelPlan {
    /// In order of preference; a later one is used only when an earlier one cannot be had, and that is said.
    pub preference: Vec<String>,
    /// Of those that stand relative to the file, or are known by their bytes, how they were written.
    pub written: BTreeMap<String, Written>,
    pub defaults: GenerationDefaults,
    pub threads: Option<usize>, // `None`: every core
    pub quantize: Quantize,
}

/// A model as the file names it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    pub name: String,
    pub sha256: Option<String>, // of its bytes, where the file says it
}

#[derive(Clone, Debug, Default)]
pub struct SourcePlan {
    pub name: String,
    pub kind: SourceKind,
    pub patterns: Vec<String>, // globs, absolute
    pub ignore: Vec<String>,   // globs, absolute
    /// How files are read: the `read` mapping with its defaults filled in.
    pub read: Value,
    pub on_removed: OnRemoved,
}

/// What a source is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SourceKind {
    /// Files, one document each.
    #[default]
    Files,
    /// The rows of one table, one document each.
    Rows {
        file: PathBuf,      // absolute; where they come from standard input, the file that it was put into
        id: Option<String>, // the column that tells them apart
        columns: Option<Vec<String>>, // as `check` saw them; `None` where they are not known before the run
        from_stdin: bool,
    },
    /// What is read from standard input, one document.
    Stdin {
        name: String,
        held: Option<PathBuf>, // the file that it was put into, before the run
    },
}

impl SourcePlan {
    /// Whether it is what comes in on standard input.
    pub fn is_stdin(&self) -> bool {
        matches!(self.kind, SourceKind::Stdin { .. } | SourceKind::Rows { from_stdin: true, .. })
    }

    /// Puts a file in the place of standard input.
    pub fn hold(&mut self, path: PathBuf) {
        match &mut self.kind {
            SourceKind::Stdin { held, .. } => *held = Some(path),
            SourceKind::Rows { file, .. } => *file = path,
            SourceKind::Files => {}
        }
    }
}

/// What becomes of outputs whose document is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnRemoved {
    /// They stay as they are.
    #[default]
    Keep,
    /// Records and pages are removed.
    Drop,
    /// Records and pages stay, without their content, and say so.
    Tombstone,
}

impl OnRemoved {
    pub const WORDS: &'static [&'static str] = &["keep", "drop", "tombstone"];

    /// Returns the policy of that name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "keep" => Some(Self::Keep),
            "drop" => Some(Self::Drop),
            "tombstone" => Some(Self::Tombstone),
            _ => None,
        }
    }
}

/// An index of passages, brought up to its source before the first step runs.
pub struct IndexPlan {
    pub name: String,
    pub source: SourcePlan,
    pub split: Value,             // as the chunker reads it
    pub embedder: Option<String>, // a model that embeds
    pub when_available: bool,     // without it passages are found by words alone
    pub fields: Value,            // an object: names, and expressions over `doc`; null where there are none
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

impl StepPlan {
    /// Whether it asks the model.
    pub fn needs_model(&self) -> bool {
        self.kind.needs_model || self.step.needs_model()
    }

    /// Whether it gives HTML, with everything put into it escaped.
    pub fn is_markup(&self) -> bool {
        self.kind.name == "render" && self.resolved["options"]["escape"] == "html"
    }
}

/// How often a step is done for a document, and over what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rounds {
    pub per: Per,
    /// An expression: the units it is done for, or, once per document, those that it reads.
    pub over: Option<String>,
    /// An expression: the step is done for each `item` of it.
    pub foreach: Option<String>,
    /// With `per: row`, which rows.
    pub rows: RowsOf,
}

/// Which rows a step with `per: row` is done for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RowsOf {
    /// The rows are the documents: once for each, of this source or of any.
    #[default]
    Documents,
    Source(String),
    /// Every row of this table, for each document.
    Table(String),
}

/// What a step is done for, once each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Per {
    #[default]
    Document,
    Chunk,
    Turn,
    Page,
    Row,
    Group,
    Corpus,
}

impl Per {
    /// Whether it is wider than a document: such a step waits for all of them.
    pub fn is_whole(self) -> bool {
        matches!(self, Self::Group | Self::Corpus)
    }

    /// Returns the scope of that name, if a step can have it.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "row" => Self::Row,
            "group" => Self::Group,
            "corpus" => Self::Corpus,
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
            Self::Row => "row",
            Self::Group => "group",
            Self::Corpus => "corpus",
        }
    }
}

impl Rounds {
    /// Returns the name under which a step finds what it is done for; `None` where it is done once.
    pub fn local(&self) -> Option<&'static str> {
        match (self.per, &self.foreach) {
            (Per::Document | Per::Group | Per::Corpus, None) => None,
            (Per::Row, _) => matches!(self.rows, RowsOf::Table(_)).then_some("row"),
            (Per::Document | Per::Group | Per::Corpus, Some(_)) => Some("item"),
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
    pub per: Per,             // document, group or corpus
    /// Ids of the steps whose values it can see.
    pub reads: Vec<String>,
    pub on_removed: Option<OnRemoved>, // instead of that of its documents' sources
    pub contract: Option<Contract>,
    /// The content is HTML already; any other text is made HTML by escaping it.
    pub is_markup: bool,
}

/// A schema that every record must fit.
#[derive(Clone, Debug)]
pub struct Contract {
    pub name: String,
    pub schema: Value,
    pub validator: Arc<jsonschema::Validator>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputFormat {
    Markdown,
    Text,
    Html,
    Jsonl,
    Csv,
    Review,
    Parquet,
}

impl OutputFormat {
    /// Whether it is written as one text per document, and not as records.
    pub fn is_text(self) -> bool {
        matches!(self, Self::Markdown | Self::Text | Self::Html)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Markdown => "markdown",
            Self::Text => "text",
            Self::Html => "html",
            Self::Jsonl => "jsonl",
            Self::Csv => "csv",
            Self::Review => "review",
            Self::Parquet => "parquet",
        }
    }
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
    pub documents: Vec<TestDocument>,
    /// They were written as a list: what must hold is then asked over all of them.
    pub is_corpus: bool,
    pub answers: Value,      // a script that can be used
    pub expect: Vec<String>, // expressions
}

#[derive(Clone, Debug)]
pub struct TestDocument {
    pub name: String,
    pub text: TestText,
}

#[derive(Clone, Debug)]
pub enum TestText {
    Inline(String),
    /// The fields of a row, where the documents are rows.
    Row(Value),
    File(PathBuf), // relative to the pipeline's folder
}

/// The `run` section.
#[derive(Clone, Debug)]
pub struct RunPlan {
    pub on_error: OnError,
    pub max_failed: MaxFailed,
    pub document_timeout: Option<Duration>,
    pub step_timeout: Option<Duration>,
    pub in_flight: usize,           // documents at once
    pub read_ahead_bytes: u64,      // of documents that wait for their turn
    pub quarantine: Option<String>, // a template over `params` and `run`, relative to the pipeline's folder
    pub retry: Option<RetryPlan>,
    pub deadline: Option<Deadline>,
    pub events: Option<String>, // likewise
    pub lock_wait: Duration,
    pub nice: Option<i32>,
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
