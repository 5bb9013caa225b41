//! What happens during a run, as it happens, for whoever watches. Nothing here changes what a run does.

use std::time::Duration;

use serde_json::Value;

use super::report::{RunReport, State};
use crate::inference::engine::Usage;

/// Watches a run. Called from many threads at once, so it must be quick.
pub trait Observer: Sync {
    fn on(&self, event: &Event<'_>);
}

/// Watches nothing.
pub struct Unwatched;

impl Observer for Unwatched {
    fn on(&self, _: &Event<'_>) {}
}

#[derive(Debug)]
pub enum Event<'a> {
    /// The inputs are listed and compared with the journal; nothing has been read yet.
    Started {
        inputs: usize,
        to_do: usize,
    },
    Model(ModelEvent<'a>),
    Document {
        document: &'a str,
        event: DocumentEvent<'a>,
    },
    /// The model has answered some calls: (prompt, of these cached, completion) tokens.
    Tokens(Usage),
    /// How far the run is; `left` as soon as there is something to reckon it from.
    Progress {
        done: usize,
        to_do: usize,
        left: Option<Duration>,
    },
    /// Worth a line while the run goes on.
    Note(&'a str),
    Finished(&'a RunReport),
}

/// Getting hold of a model: told by whoever makes the [`ModelSource`](super::model::ModelSource).
#[derive(Debug)]
pub enum ModelEvent<'a> {
    Resolving {
        name: &'a str,
    },
    Downloading {
        file: &'a str,
        bytes: u64,
        of: Option<u64>,
    },
    /// A model asked for first cannot be had, and a later one of the list takes its place.
    FallingBack {
        from: &'a str,
        to: &'a str,
        because: &'a str,
    },
    Loading {
        name: &'a str,
    },
    Loaded {
        name: &'a str,
        seconds: f64,
    },
}

#[derive(Debug)]
pub enum DocumentEvent<'a> {
    Started,
    StepStarted { step: &'a str },
    PartDone { step: &'a str, done: usize, of: usize },
    StepDone { step: &'a str, value: &'a Value },
    Finished { state: State, seconds: f64, usage: Usage, why: Option<&'a str> },
}
