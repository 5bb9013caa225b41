//! What a run is handed: the model, resolved at once and loaded when the first document needs it, and the reader.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use jiff::civil::Date;
use serde_json::Value;

use super::exit::Exit;
use super::options::Settings;
use super::read::isolation;
use super::{Failure, models};
use crate::corpus::document::Document;
use crate::corpus::reader::{self, Isolation, ReadOptions, ReadReason};
use crate::inference::engine::{
    CancelToken, EngineOptions, Footprint, Generator, Origin, Quantize, Scripted, card_digest, load_core,
    load_stand_in, measure,
};
use crate::inference::hub::{self, HubError, Preferred};
use crate::inference::model::ModelSource as Weights;
use crate::pipeline::events::{Event, ModelEvent, Observer};
use crate::pipeline::model::{Foresight, Measured, ModelError, ModelErrorCause, ModelIdentity, ModelSource, StandIn};
use crate::pipeline::plan::Written;
use crate::pipeline::run::DocumentReader;
use crate::steps::{Reason, StepError};

/// Names a scripted model: answers from a file, for tests.
const SCRIPTED: &str = "scripted:";

/// How long `plan` measures a model, loading it aside.
const MEASURING: Duration = Duration::from_secs(5);

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
    /// How the file names those of the preference that it names otherwise, and what their bytes are.
    pub written: BTreeMap<String, Written>,
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
        Self { preference, settings, engine, quantize, as_of, observer, cancel, written: BTreeMap::new(), resolved }
    }

    fn resolved(&self) -> Result<&Preferred, ModelError> {
        let resolve = || {
            let options = models::hub_options(self.settings).map_err(told)?;
            let found = hub::resolve_preferred(&self.preference, &options, &Heard(self.observer));
            let mut preferred = found.map_err(|e| from_hub(&e))?;
            if let Some(written) = self.written.get(&preferred.files.name) {
                is_the_one(&preferred, written)?;
                preferred.files.name.clone_from(&written.name);
            }
            Ok(preferred)
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

impl Foresight for OnDemand<'_> {
    fn stand_in(&self, seed: u64) -> Result<StandIn, ModelError> {
        if let Some(path) = self.script() {
            let script = Arc::new(Self::scripted(path)?);
            let texts = script.clone();
            return Ok(StandIn {
                generator: script,
                text_of: Box::new(move |ids| texts.text_of(ids)),
                num_passes: Box::new(|| 0),
                footprint: Footprint::default(),
                is_the_model: true,
            });
        }
        let files = &self.resolved()?.files;
        let cache = self.settings.cache_dir().map_err(|d| told(d.into()))?;
        let quantized = models::quantization(files, self.quantize).map(|q| (q, models::kept_path(files, q, &cache)));
        let origin = Origin {
            name: &files.name,
            digest: &files.digest,
            path: models::path_of(files),
            quantized: quantized.as_ref().map(|(q, kept)| (*q, kept.as_path())),
        };
        let loaded = load_stand_in(&origin, self.as_of, &self.engine, seed).map_err(|e| told(e.into()))?;
        let (engine, footprint) = (Arc::new(loaded.0), loaded.1);
        let (texts, passes) = (engine.clone(), engine.clone());
        Ok(StandIn {
            generator: engine,
            text_of: Box::new(move |ids| texts.tokenizer().decode(ids, false)),
            num_passes: Box::new(move || passes.metrics().steps),
            footprint,
            is_the_model: false,
        })
    }

    fn measure(&self) -> Result<Option<Measured>, ModelError> {
        if self.script().is_some() {
            return Ok(None);
        }
        let files = &self.resolved()?.files;
        let tell = |text: &str| self.observer.on(&Event::Note(text));
        let made = models::quantized(files, self.quantize, self.settings, &self.cancel, &tell).map_err(told)?;
        let path = made.as_ref().map_or_else(|| models::path_of(files), |(_, kept)| kept.as_path());
        let start = Instant::now();
        let source = Weights::open(path).map_err(|e| ModelError::new(e.to_string()))?;
        let vocabulary = source.config().vocabulary;
        let mut loaded = load_core(&source, &self.engine, &|_, _| ()).map_err(|e| told(e.into()))?;
        let load_seconds = start.elapsed().as_secs_f64();
        let (window, rows) = (loaded.window, self.engine.limits.tokens_per_step);
        let speeds = measure(&mut loaded.core, vocabulary, window, rows, MEASURING)
            .map_err(|e| ModelError::new(format!("measuring failed: {e}")))?;
        Ok(Some(Measured { speeds, load_seconds, weight_bytes: loaded.weight_bytes }))
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

/// A file that names a model by its bytes is never run with another.
fn is_the_one(preferred: &Preferred, written: &Written) -> Result<(), ModelError> {
    let files = &preferred.files;
    match &written.sha256 {
        Some(sha256) if *sha256 != files.digest => Err(ModelError {
            hints: vec![format!("`quarry model lock {}` prints what it is now", written.name)],
            ..ModelError::new(format!(
                "{} is not the model that the file names: its SHA-256 is {}, not {sha256}",
                written.name, files.digest
            ))
        }),
        _ => Ok(()),
    }
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

    /// Returns one that gives up what it reads when `cancel` is.
    pub fn until(self, cancel: CancelToken) -> Self {
        Self { isolation: self.isolation.until(move || cancel.check().is_err()) }
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
        ReadReason::ReadFailed => Reason::ReadFailed,
    }
}
