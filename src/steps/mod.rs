//! One file per verb: what the author of a pipeline can name. Read [`StepKind`] first.
//!
//! Steps do no I/O and own no threads: they are handed a [`Generator`] and a document.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::corpus::document::Document;
use crate::corpus::index::Retriever;
use crate::inference::engine::{CancelToken, GenerateError, Generator, Usage};
use crate::spec::KeySpec;

mod answer;
mod check;
mod classify;
mod extract;
mod generate;
mod lists;
mod render;
mod rerank;
mod retrieve;
mod set;
mod split;
mod summarize;

use lists::{dedupe, filter, group, sort};

mod ask;
mod grounding;
mod hits;
mod options;
mod parts;
pub mod text;

pub mod prompt;
pub mod schema;

#[cfg(test)]
mod fakes;
#[cfg(test)]
mod layout_tests;

/// A verb, defined once: `check`, `explain`, help, the editor's schema and the docs all read this.
pub struct StepKind {
    pub name: &'static str,
    pub summary: &'static str, // one line, third person
    pub guide: &'static str,   // a few sentences of Markdown: when to use it, what it promises
    pub needs_model: bool,
    pub keys: &'static [KeySpec], // the verb's own keys, without id, use, per, when, over, on_error
    pub outputs: &'static [Port], // what stands under `steps.<id>`
    pub example: &'static str,    // a step as written in a file; the suite checks it
    pub build: Build,
}

/// Makes a step of checked options, or says what only the step itself can see is wrong with them.
pub type Build = fn(&BuildContext<'_>) -> Result<Box<dyn Step>, Vec<OptionFault>>;

/// One field under `steps.<id>`; a port with an empty name says that the value itself is of that type.
pub struct Port {
    pub name: &'static str,
    pub kind: &'static str, // "text", "list", "number", "object"
    pub help: &'static str,
}

/// What a step is built from. `options` passed the kind's key table and has its defaults filled in.
pub struct BuildContext<'a> {
    pub id: &'a str,
    pub options: &'a Value,
    /// The `schemas` section, each resolved to a JSON Schema.
    pub schemas: &'a BTreeMap<String, Value>,
    /// The names under `indexes`.
    pub indexes: &'a [String],
    /// Reads a text file named in the options, relative to the pipeline file. The error is one line.
    pub read_file: &'a dyn Fn(&str) -> Result<String, String>,
}

/// A mistake in a step's options that only the step itself can see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionFault {
    pub path: Vec<String>, // keys and list indices below the step: ["long", "split", "size"]
    pub message: String,
    pub hints: Vec<String>,
}

/// A checked step, ready to run on any document, from any thread.
pub trait Step: Send + Sync {
    fn run(&self, cx: &StepContext<'_>) -> Result<StepOutput, StepError>;

    /// Whether it asks the model although others of its kind do not.
    fn needs_model(&self) -> bool {
        false
    }

    /// Returns what an author should know of the step before it runs, a line each; `check` says it.
    fn notices(&self) -> Vec<String> {
        Vec::new()
    }
}

/// What a step may see and use while it runs on one document.
pub struct StepContext<'a> {
    pub document: &'a Document,
    /// `params`, `doc`, `steps` and `run`, as templates and expressions see them.
    pub names: &'a Value,
    pub generator: Option<&'a dyn Generator>, // present where the kind needs a model
    pub defaults: &'a GenerationDefaults,
    pub cancel: &'a CancelToken,
    /// Told of finished parts: (done, of).
    pub progress: &'a (dyn Fn(usize, usize) + Sync),
    /// The pipeline's indexes; `None` where it has none.
    pub library: Option<&'a dyn Library>,
}

/// The indexes that steps can name.
pub trait Library: Sync {
    /// Changes whenever an index may answer otherwise: part of what a document's result depends on.
    fn digest(&self) -> String;

    /// Returns the passages of an index; the index is brought up to its files before the first step asks.
    fn retriever(&self, name: &str) -> Result<&dyn Retriever, StepError>;

    /// Returns a question's vector for an index, or `None` where the index has no vectors.
    fn question(&self, name: &str, text: &str) -> Result<Option<Vec<f32>>, StepError>;
}

/// The `model` section's decoding settings, which a step may narrow.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GenerationDefaults {
    pub sampling: crate::inference::sampler::SamplingParams,
    /// Tokens, prompt and answer together; never over the model's own.
    pub window: Option<usize>,
}

/// What a step made of a document.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepOutput {
    pub value: Value, // stands under `steps.<id>`
    /// Why the document is `partial`; empty when all is well. One line each.
    pub partial: Vec<String>,
    /// Worth a line in the report, without changing the state.
    pub notes: Vec<String>,
    pub coverage: Option<Coverage>,
    pub usage: Usage,
}

/// How much of the document a model step has read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Coverage {
    pub unit: String, // "turn" or "byte"
    pub read: usize,
    pub total: usize,
    /// Ids or ranges not read; empty when `read == total`.
    pub unread: Vec<String>,
}

impl Coverage {
    /// The share read, 1.0 for an empty document.
    pub fn share(&self) -> f64 {
        if self.total == 0 { 1.0 } else { self.read as f64 / self.total as f64 }
    }
}

/// Why a step gave up on a document. The run goes on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct StepError {
    pub reason: Reason,
    pub detail: String,
}

/// The closed list of reasons a document can fail for, in plain words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    Unreadable,
    Encrypted,
    TooLarge,
    NoTextFound,
    OverTheWindow,
    SchemaNotMet,
    EvidenceMissing,
    TimedOut,
    ContradictionBetweenParts,
    TemplateFailed,
    CheckFailed,
    Permission,
    Missing,
    /// The machine failed and not the document: tried again by the next run.
    ReadFailed,
    Cancelled,
    EngineFailed,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unreadable => "unreadable",
            Self::Encrypted => "encrypted",
            Self::TooLarge => "too large",
            Self::NoTextFound => "no text found",
            Self::OverTheWindow => "over the window",
            Self::SchemaNotMet => "schema not met",
            Self::EvidenceMissing => "evidence missing",
            Self::TimedOut => "timed out",
            Self::ContradictionBetweenParts => "contradiction between parts",
            Self::TemplateFailed => "template failed",
            Self::CheckFailed => "check failed",
            Self::Permission => "permission",
            Self::Missing => "missing",
            Self::ReadFailed => "read failed",
            Self::Cancelled => "cancelled",
            Self::EngineFailed => "engine failed",
        })
    }
}

impl From<GenerateError> for StepError {
    fn from(error: GenerateError) -> Self {
        let reason = match error {
            GenerateError::OverWindow { .. } => Reason::OverTheWindow,
            GenerateError::TimedOut => Reason::TimedOut,
            GenerateError::Cancelled => Reason::Cancelled,
            GenerateError::Template(_) => Reason::TemplateFailed,
            GenerateError::Grammar(_) => Reason::SchemaNotMet,
            GenerateError::EmptyPrompt
            | GenerateError::Sampling(_)
            | GenerateError::NoScriptedAnswer(_)
            | GenerateError::Engine(_) => Reason::EngineFailed,
        };
        Self { reason, detail: error.to_string() }
    }
}

/// Every verb. The order is the one in which a newcomer meets them.
pub static STEP_KINDS: &[&StepKind] = &[
    &summarize::KIND,
    &extract::KIND,
    &classify::KIND,
    &retrieve::KIND,
    &rerank::KIND,
    &answer::KIND,
    &generate::KIND,
    &split::KIND,
    &render::KIND,
    &set::KIND,
    &filter::KIND,
    &sort::KIND,
    &dedupe::KIND,
    &group::KIND,
    &check::KIND,
];

/// Returns when the first of these turns that has a time began, as `0:03:12`.
fn moment(document: &Document, turns: &[usize]) -> Option<String> {
    let ms = turns.iter().find_map(|&i| document.turns.get(i)?.start_ms)?;
    Some(clock(ms))
}

/// Returns a time from the beginning as `0:03:12`.
fn clock(ms: u64) -> String {
    let s = ms / 1000;
    format!("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
}
