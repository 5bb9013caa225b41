//! From a model's files to an engine: the decoder, its memory, its tokenizer and its template.

use std::io;
use std::path::{Path, PathBuf};

use jiff::civil::Date;

use super::core::Core;
use super::kv_disk::{KvDisk, KvFolder};
use super::local::{Engine, TextParts};
use super::quantized;
use super::request::{GenerateError, ModelCard};
use super::scheduler::Limits;
use crate::inference::kernels::Isa;
use crate::inference::model::{
    Architecture, BLOCK_TOKENS, CandleDecoder, CausalLm, Cost, CpuDecoder, Gguf, GgufValue, KvKind, KvShape,
    ModelError, ModelSource, Quantization, Weights,
};
use crate::inference::tokenizer::{ChatTemplate, GgufTokenizerFields, Tokenizer};

/// Raised when an engine change changes results, so that cached ones are not taken for new ones.
pub const RESULT_VERSION: u32 = 2;

/// The window used when none is asked for and the model's own is larger: memory for keys and values grows with it.
pub const DEFAULT_WINDOW: usize = 32_768;

/// How a model is run. Only `kv` and `backend` can change a result.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    pub backend: Backend,
    pub isa: Isa,
    pub threads: usize,
    pub kv: Option<KvKind>,    // `None`: bf16 for quantized weights, f32 for floats
    pub window: Option<usize>, // tokens
    /// Blocks for keys and values beyond two windows; memory is touched only as they are used.
    pub spare_blocks: usize,
    pub limits: Limits,
    /// Keys and values of long prompts are kept here from one run to the next.
    pub kv_folder: Option<KvFolder>,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            backend: Backend::Kernels,
            isa: Isa::detect(),
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            kv: None,
            window: None,
            spare_blocks: 512,
            limits: Limits::default(),
            kv_folder: None,
        }
    }
}

/// Which forward pass computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Our kernels on the CPU.
    Kernels,
    /// candle in f32: the reference.
    Candle,
}

/// What could not be loaded, and why.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error("{0}")]
    Tokenizer(String),
    #[error("{0}")]
    Engine(#[from] GenerateError),
    /// Nothing is wrong with the model: the machine is too small for it.
    #[error("{}: no memory for the keys and values of a window of {window} tokens: {bytes} bytes", model.display())]
    Memory { model: PathBuf, window: usize, bytes: usize },
    /// The quantized form has no place.
    #[error("the quantized model {} cannot be kept: {error}", path.display())]
    NotKept { path: PathBuf, error: io::Error },
    /// Cancelled from outside while the quantized form was being made; the next load begins anew.
    #[error("loading was stopped")]
    Stopped,
    #[error("keys and values cannot be kept in {}: {error}", path.display())]
    KvFolder { path: PathBuf, error: io::Error },
}

/// A model that can be stepped, without text.
pub struct LoadedCore {
    pub core: Core,
    pub window: usize, // tokens, prompt and answer together
    pub weight_bytes: usize,
    pub kv: KvKind,
    pub logits_width: usize,
    pub kv_shape: KvShape,
    pub cost: Option<Cost>, // of our kernels
}

/// Loads the weights and makes room for keys and values; needs no tokenizer.
pub fn load_core(
    source: &ModelSource,
    options: &EngineOptions,
    progress: &dyn Fn(usize, usize),
) -> Result<LoadedCore, LoadError> {
    let config = source.config();
    let window = window_of(source, options)?;
    let blocks = num_blocks_of(window, options);
    let kv = kv_of(source, options);
    let (mut weight_bytes, mut cost) = (0, None);
    let kv_shape = KvShape { layers: config.layers, kv_heads: config.kv_heads, head_dim: config.head_dim, kind: kv };
    let model: Box<dyn CausalLm> = match options.backend {
        Backend::Candle => Box::new(CandleDecoder::load(source, candle_core::Device::Cpu, blocks)?),
        Backend::Kernels => {
            let weights = Weights::load(source, progress)?;
            weight_bytes = weights.bytes();
            cost = Some(weights.cost(config));
            let bytes = kv_shape.block_bytes() * blocks;
            // Asked for and given back, untouched: the cache itself would end the program where there is no room.
            if Vec::<u8>::new().try_reserve_exact(bytes).is_err() {
                return Err(LoadError::Memory { model: source.path().to_owned(), window, bytes });
            }
            Box::new(CpuDecoder::new(config.clone(), weights, options.isa, options.threads, kv, blocks))
        }
    };
    let logits_width = config.vocabulary;
    Ok(LoadedCore { core: Core::new(model, options.limits), window, weight_bytes, kv, logits_width, kv_shape, cost })
}

/// The window asked for, where the model can have it; else the model's own.
pub(super) fn window_of(source: &ModelSource, options: &EngineOptions) -> Result<usize, ModelError> {
    let config = source.config();
    let window = options.window.unwrap_or(config.window.min(DEFAULT_WINDOW));
    if window > config.window {
        let fact = format!("a window of {window} tokens is asked for; the model was trained on {}", config.window);
        return Err(ModelError::new(source.path(), fact));
    }
    Ok(window)
}

/// One sequence of a full window, and as much again for others and for prefixes worth keeping.
pub(super) fn num_blocks_of(window: usize, options: &EngineOptions) -> usize {
    (2 * window).div_ceil(BLOCK_TOKENS) + options.spare_blocks
}

/// The kind of keys and values asked for, else what suits the weights.
pub(super) fn kv_of(source: &ModelSource, options: &EngineOptions) -> KvKind {
    let is_quantized = source.tensors().into_iter().any(|(_, t)| !t.format.is_float());
    options.kv.unwrap_or(if is_quantized { KvKind::Bf16 } else { KvKind::F32 })
}

/// Loads the tokenizer of a model, and none of its weights.
pub fn load_tokenizer(path: &Path) -> Result<Tokenizer, LoadError> {
    let source = ModelSource::open(path)?;
    tokenizer_of(path, source.gguf())
}

/// What an engine is loaded from, and who it is.
#[derive(Clone, Debug)]
pub struct Origin<'a> {
    pub name: &'a str,
    pub digest: &'a str, // of the files at `path`
    pub path: &'a Path,  // a GGUF file, or a safetensors folder
    /// What was made of these files, and where it is kept: its weights are loaded in place of theirs, which still
    /// give the tokenizer.
    pub quantized: Option<(Quantization, &'a Path)>,
}

/// Loads a model whole; `as_of` is the date its template may print.
pub fn load_engine(
    origin: &Origin<'_>,
    as_of: Date,
    options: &EngineOptions,
    progress: &dyn Fn(usize, usize),
) -> Result<Engine, LoadError> {
    let path = origin.path;
    let source = ModelSource::open(origin.quantized.map_or(path, |(_, kept)| kept))?;
    // Text first: a missing tokenizer is found before gigabytes are packed.
    let gguf = if origin.quantized.is_some() { None } else { source.gguf() };
    let tokenizer = tokenizer_of(path, gguf)?;
    let template = template_of(&source, &tokenizer)?;
    if tokenizer.vocab_size() > source.config().vocabulary {
        let (words, rows) = (tokenizer.vocab_size(), source.config().vocabulary);
        let fact = format!("its tokenizer has {words} tokens, its weights {rows}");
        return Err(ModelError::new(path, fact).into());
    }
    let loaded = load_core(&source, options, progress)?;
    let card = ModelCard {
        name: origin.name.to_owned(),
        digest: card_digest(origin.digest, origin.quantized.map(|(q, _)| q), options.kv, options.backend),
        window: loaded.window,
    };
    let text = TextParts { tokenizer, template, as_of, logits_width: loaded.logits_width };
    let core = match &options.kv_folder {
        None => loaded.core,
        Some(folder) => {
            // What is computed is said to be the same on every instruction set; what is kept need not rely on it.
            let model = format!("{} {} {}", card.digest, loaded.kv.name(), options.isa.name());
            let disk = KvDisk::open(folder, &model)
                .map_err(|error| LoadError::KvFolder { path: folder.path.clone(), error })?;
            loaded.core.with_disk(disk)
        }
    };
    Ok(Engine::start(card, core, text)?)
}

/// Everything that can change a result, in one hash: files, what was made of them, engine version, kind of keys and
/// values, backend.
pub fn card_digest(files: &str, quantized: Option<Quantization>, kv: Option<KvKind>, backend: Backend) -> String {
    let kv = kv.map_or("auto", KvKind::name); // auto follows from the files
    let weights = quantized.map_or("as they are".to_owned(), quantized::label);
    let all = format!("engine {RESULT_VERSION}\nfiles {files}\nweights {weights}\nkv {kv}\nbackend {backend:?}");
    blake3::hash(all.as_bytes()).to_hex().to_string()
}

/// The tokenizer beside the weights: the fields of a GGUF file, or `tokenizer.json` in a folder.
pub(super) fn tokenizer_of(path: &Path, gguf: Option<&Gguf>) -> Result<Tokenizer, LoadError> {
    match gguf {
        Some(gguf) => {
            let fields = gguf_fields(gguf).map_err(|fact| ModelError::new(path, fact))?;
            Tokenizer::from_gguf(&fields).map_err(|e| LoadError::Tokenizer(e.in_file(path).to_string()))
        }
        None => {
            let path = path.join("tokenizer.json");
            Tokenizer::from_json_file(&path).map_err(|e| LoadError::Tokenizer(e.to_string()))
        }
    }
}

/// The model's own chat template; Granite's where it has none and is one.
pub(super) fn template_of(source: &ModelSource, tokenizer: &Tokenizer) -> Result<ChatTemplate, LoadError> {
    let text_of = |id: Option<u32>| id.map(|id| tokenizer.decode(&[id], false)).unwrap_or_default();
    let (bos, eos) = (text_of(tokenizer.bos()), text_of(tokenizer.eos()));
    let about = |e: String| LoadError::Model(ModelError::new(source.path(), e));
    if let Some(own) = tokenizer.chat_template() {
        return ChatTemplate::new(own, &bos, &eos).map_err(|e| about(e.to_string()));
    }
    match source.config().architecture {
        Architecture::Granite | Architecture::GraniteMoe => {
            ChatTemplate::granite(&bos, &eos).map_err(|e| about(e.to_string()))
        }
        Architecture::Llama => Err(about("it carries no chat template".into())),
    }
}

/// `tokenizer.ggml.*` as plain data.
fn gguf_fields(gguf: &Gguf) -> Result<GgufTokenizerFields, String> {
    let texts = |key: &str| -> Result<Vec<String>, String> {
        let values = gguf
            .get(key)
            .and_then(GgufValue::as_array)
            .ok_or_else(|| format!("{key} is missing: there is no tokenizer"))?;
        values
            .iter()
            .map(|v| v.as_text().map(str::to_owned).ok_or_else(|| format!("{key} holds more than text")))
            .collect()
    };
    let types = match gguf.get("tokenizer.ggml.token_type").and_then(GgufValue::as_array) {
        None => Vec::new(),
        Some(values) => values
            .iter()
            .map(|v| v.as_f64().map(|t| t as i32).ok_or("tokenizer.ggml.token_type holds more than numbers"))
            .collect::<Result<_, _>>()?,
    };
    let id = |key: &str| gguf.get(key).and_then(GgufValue::as_u64).and_then(|v| u32::try_from(v).ok());
    Ok(GgufTokenizerFields {
        model: gguf
            .text("tokenizer.ggml.model")
            .ok_or("tokenizer.ggml.model is missing: there is no tokenizer")?
            .into(),
        pre: gguf.text("tokenizer.ggml.pre").unwrap_or("default").into(),
        tokens: texts("tokenizer.ggml.tokens")?,
        token_types: types,
        merges: texts("tokenizer.ggml.merges")?,
        bos: id("tokenizer.ggml.bos_token_id"),
        eos: id("tokenizer.ggml.eos_token_id"),
        unk: id("tokenizer.ggml.unknown_token_id"),
        pad: id("tokenizer.ggml.padding_token_id"),
        add_bos: gguf.get("tokenizer.ggml.add_bos_token").and_then(GgufValue::as_bool).unwrap_or(false),
        chat_template: gguf.text("tokenizer.chat_template").map(str::to_owned),
    })
}
