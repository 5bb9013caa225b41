//! Where a run gets its model from: who it is, told at once, and the model itself, loaded only when a document needs it.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::events::{Event, ModelEvent, Observer};
use super::panics;
use crate::ids::TokenId;
use crate::inference::engine::{Footprint, Generator, Speeds};

/// Gives a run its model.
pub trait ModelSource: Sync {
    /// Returns which model it will be. Cheap: reads no weights. Called once per run, before anything is compared.
    fn identity(&self) -> Result<ModelIdentity, ModelError>;

    /// Loads the model. Called at most once per run, and only when a document comes to a step that needs it.
    fn open(&self) -> Result<Arc<dyn Generator>, ModelError>;
}

/// Which model answers: what keys are made of and what stands in every record's provenance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelIdentity {
    pub name: String,
    pub digest: String, // that of `ModelCard::digest`
    /// Set where another model was asked for first: which, and why it could not be had. One line.
    pub fallback: Option<String>,
}

/// A model that cannot be had: missing, damaged, not the one it should be, or too much for this machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ModelError {
    pub message: String,
    pub hints: Vec<String>,
    pub cause: ModelErrorCause,
}

/// What it is that keeps a model away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ModelErrorCause {
    #[default]
    Model,
    /// Disk or memory of this machine.
    Resources,
    /// It was given up from outside.
    Cancelled,
}

impl ModelError {
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hints: Vec::new(), cause: ModelErrorCause::default() }
    }
}

/// Tells what a run will ask and take, before its model is loaded.
pub trait Foresight: ModelSource {
    /// Returns what stands in for the model: the same tokenizer, template and window, and answers that mean nothing,
    /// another set of them for each seed. Reads no weights.
    fn stand_in(&self, seed: u64) -> Result<StandIn, ModelError>;

    /// Loads the model and measures it for a few seconds; `None` for a model that has no speed of its own.
    fn measure(&self) -> Result<Option<Measured>, ModelError>;
}

/// What stands in for a model.
pub struct StandIn {
    pub generator: Arc<dyn Generator>,
    /// The text of tokens, special ones by name.
    pub text_of: Box<dyn Fn(&[TokenId]) -> String + Send + Sync>,
    /// Forward passes so far.
    pub num_passes: Box<dyn Fn() -> usize + Send + Sync>,
    pub footprint: Footprint,
    /// Whether its answers are the model's own: a script's.
    pub is_the_model: bool,
}

/// How fast a model was.
#[derive(Clone, Debug)]
pub struct Measured {
    pub speeds: Speeds,
    pub load_seconds: f64,
    pub weight_bytes: usize,
}

type Wrap<'a> = dyn Fn(Arc<dyn Generator>) -> Arc<dyn Generator + 'a> + Sync + 'a;

/// A model that is loaded by the first document that asks for it; the others wait.
pub(super) struct LazyModel<'a> {
    source: &'a dyn ModelSource,
    identity: Option<&'a ModelIdentity>,
    observer: &'a dyn Observer,
    wrap: Box<Wrap<'a>>,
    opened: OnceLock<Result<Arc<dyn Generator + 'a>, ModelError>>,
    load_seconds: Mutex<f64>,
}

impl<'a> LazyModel<'a> {
    /// `wrap` is put around the model when it has been loaded.
    pub fn new(
        source: &'a dyn ModelSource,
        identity: Option<&'a ModelIdentity>,
        observer: &'a dyn Observer,
        wrap: impl Fn(Arc<dyn Generator>) -> Arc<dyn Generator + 'a> + Sync + 'a,
    ) -> Self {
        let (opened, load_seconds) = (OnceLock::new(), Mutex::new(0.0));
        Self { source, identity, observer, wrap: Box::new(wrap), opened, load_seconds }
    }

    pub fn get(&self) -> Result<&(dyn Generator + 'a), ModelError> {
        self.opened.get_or_init(|| self.load()).as_ref().map(AsRef::as_ref).map_err(Clone::clone)
    }

    /// Returns how many tokens of prompts the model has computed; `None` where it was not needed or does not say.
    pub fn prompt_tokens_computed(&self) -> Option<usize> {
        self.opened.get()?.as_ref().ok()?.prompt_tokens_computed()
    }

    /// Returns 0 where no document needed the model.
    pub fn load_seconds(&self) -> f64 {
        *self.load_seconds.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn load(&self) -> Result<Arc<dyn Generator + 'a>, ModelError> {
        let name = self.identity.map_or("the model", |i| i.name.as_str());
        self.observer.on(&Event::Model(ModelEvent::Loading { name }));
        let start = Instant::now();
        let model = panics::caught(|| self.source.open())
            .map_err(|panic| ModelError::new(format!("loading {name} failed, a bug: {panic}")))??;
        if let Some(promised) = self.identity.filter(|i| i.digest != model.card().digest) {
            // Every key of this run was made with the promised digest.
            return Err(ModelError::new(format!(
                "{name} is not the model it was said to be: its digest is {}, not {}",
                model.card().digest,
                promised.digest
            )));
        }
        let seconds = start.elapsed().as_secs_f64();
        *self.load_seconds.lock().unwrap_or_else(|e| e.into_inner()) = seconds;
        self.observer.on(&Event::Model(ModelEvent::Loaded { name, seconds }));
        Ok((self.wrap)(model))
    }
}
