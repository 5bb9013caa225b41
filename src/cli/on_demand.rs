//! What a run is handed: the model, resolved at once and loaded when the first document needs it, and the reader.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use jiff::civil::Date;
use serde_json::Value;

use super::exit::Exit;
use super::options::Settings;
use super::read::isolation;
use super::{Failure, models};
use crate::corpus::document::Document;
use crate::corpus::reader::{self, Isolation, ReadOptions, ReadReason};
use crate::inference::engine::{CancelToken, EngineOptions, Generator, Quantize, Scripted, card_digest};
use crate::inference::hub::{self, HubError, Preferred};
use crate::pipeline::events::{Event, ModelEvent, Observer};
use crate::pipeline::model::{ModelError, ModelErrorCause, ModelIdentity, ModelSource};
use crate::pipeline::run::DocumentReader;
use crate::steps::{Reason, StepError};

/// Names a scripted model: answers from a file, for tests.
const SCRIPTED: &str = "scripted:";

/// The model of a run.
pub struct OnDemand<'a> {
    pub preference: Vec<String>,
    pub settings: &'a Settings,
    pub engine: EngineOptions,
    pub quantize: Quantize,
    pub as_of: Date,
    pub observer: &'a dyn Observer,
    /// Ends what is done before the model is there.
    pub cancel: CancelToken,
    resolved: OnceLock<Result<Preferred, ModelError>>,
}

impl<'a> OnDemand<'a> {
    pub fn new(
        preference: Vec<String>,
        settings: &'a Settings,
        engine: EngineOptions,
        quantize: Quantize,
        as_of: Date,
        observer: &'a dyn Observer,
    ) -> Self {
        let (cancel, resolved) = (CancelToken::default(), OnceLock::new());
        Self { preference, settings, engine, quantize, as_of, observer, cancel, resolved }
    }

    fn resolved(&self) -> Result<&Preferred, ModelError> {
        let resolve = || {
            let options = models::hub_options(self.settings).map_err(told)?;
            hub::resolve_preferred(&self.preference, &options, &Heard(self.observer)).map_err(|e| from_hub(&e))
        };
        self.resolved.get_or_init(resolve).as_ref().map_err(Clone::clone)
    }

    /// The script's path, where the model is a scripted one.
    fn script(&self) -> Option<&Path> {
        match self.preference.as_slice() {
            [one] => one.strip_prefix(SCRIPTED).map(Path::new),
            _ => None,
        }
    }

    fn scripted(path: &Path) -> Result<Scripted, ModelError> {
        Scripted::from_file(path).map_err(|e| ModelError::new(e.to_string()))
    }
}

impl ModelSource for OnDemand<'_> {
    fn identity(&self) -> Result<ModelIdentity, ModelError> {
        if let Some(path) = self.script() {
            let card = Self::scripted(path)?.card().clone();
            return Ok(ModelIdentity { name: card.name, digest: card.digest, fallback: None });
        }
        let preferred = self.resolved()?;
        let fallback = models::fallback(preferred);
        if let Some(because) = &models::fallback_now(preferred) {
            let (from, to) = (preferred.skipped[0].name.as_str(), preferred.files.name.as_str());
            self.observer.on(&Event::Model(ModelEvent::FallingBack { from, to, because }));
        }
        let quantized = models::quantization(&preferred.files, self.quantize);
        let digest = card_digest(&preferred.files.digest, quantized, self.engine.kv, self.engine.backend);
        Ok(ModelIdentity { name: preferred.files.name.clone(), digest, fallback })
    }

    fn open(&self) -> Result<Arc<dyn Generator>, ModelError> {
        if let Some(path) = self.script() {
            return Ok(Arc::new(Self::scripted(path)?));
        }
        let files = &self.resolved()?.files;
        let tell = |text: &str| self.observer.on(&Event::Note(text));
        let (cancel, settings) = (&self.cancel, self.settings);
        let engine = models::load_unless(cancel, files, self.quantize, settings, self.as_of, &self.engine, &tell);
        Ok(Arc::new(engine.map_err(told)?))
    }
}

fn told(failure: Failure) -> ModelError {
    let message = failure.diagnostics.iter().map(|d| d.message.as_str()).collect::<Vec<_>>().join("; ");
    let cause = match failure.exit {
        Exit::OutOfResources => ModelErrorCause::Resources,
        Exit::Interrupted => ModelErrorCause::Cancelled,
        _ => ModelErrorCause::Model,
    };
    ModelError { message, cause, hints: failure.diagnostics.into_iter().flat_map(|d| d.hints).collect() }
}

fn from_hub(error: &HubError) -> ModelError {
    ModelError { hints: error.hint().into_iter().collect(), ..ModelError::new(error.to_string()) }
}

/// The hub's events as those of a run.
struct Heard<'a>(&'a dyn Observer);

impl hub::Observer for Heard<'_> {
    fn on(&self, event: &hub::Event<'_>) {
        use hub::Event as E;
        let note = |text: String| self.0.on(&Event::Note(&text));
        match event {
            E::Connecting { model, .. } => self.0.on(&Event::Model(ModelEvent::Resolving { name: model })),
            E::Downloading { file, done, total, .. } => {
                self.0.on(&Event::Model(ModelEvent::Downloading { file, bytes: *done, of: Some(*total) }));
            }
            E::Packaging { package, bytes, .. } => {
                self.0.on(&Event::Model(ModelEvent::Downloading { file: package, bytes: 0, of: *bytes }));
            }
            E::Verifying { .. } => {}
            E::Retrying { model, file, why, wait } => {
                note(format!("{model}: {file}: {why}; again in {:.0} s", wait.as_secs_f64()));
            }
            E::WaitingForLock { model, .. } => note(format!("{model}: another process is fetching it; waiting")),
            E::FallingBack { model, from, to, why } => {
                note(format!("{model}: {from} cannot give it ({why}); asking {to}"))
            }
            E::Replacing { model, file, fact } => note(format!("{model}: {file} is damaged ({fact}), fetched again")),
            E::Ready { model, source } => note(format!("{model}: ready, from {source}")),
        }
    }
}

/// The corpus' reader, with the child process that parses what is not plain text.
pub struct CorpusReader {
    isolation: Isolation,
}

impl CorpusReader {
    pub fn new() -> Result<Self, Failure> {
        Ok(Self { isolation: isolation()? })
    }
}

impl DocumentReader for CorpusReader {
    fn read(&self, path: &Path, options: &Value) -> Result<Document, StepError> {
        let wrong =
            |e: serde_json::Error| StepError { reason: Reason::Unreadable, detail: format!("read options: {e}") };
        let mut options: ReadOptions = serde_json::from_value(options.clone()).map_err(wrong)?;
        options.isolation = Some(self.isolation.clone());
        reader::read(path, &options).map_err(|e| StepError { reason: reason(e.reason), detail: e.detail })
    }
}

fn reason(reason: ReadReason) -> Reason {
    match reason {
        ReadReason::Unreadable => Reason::Unreadable,
        ReadReason::Encrypted => Reason::Encrypted,
        ReadReason::TooLarge => Reason::TooLarge,
        ReadReason::NoTextFound => Reason::NoTextFound,
        ReadReason::TimedOut => Reason::TimedOut,
        ReadReason::Permission => Reason::Permission,
        ReadReason::Missing => Reason::Missing,
    }
}
