//! Texts become vectors of length 1, near for texts of like meaning. The only user of candle's encoders.
//! Read [`Embedder`] first. Knows no index and no document: a folder of model files in, rows of numbers out.
//!
//! Pooling and the longest input are read from the model's own files, and said where these are silent. A text longer
//! than the model takes is embedded in windows: nothing is left unread. A text gives the same vector in any company,
//! to within the rounding of its padding.

mod pooling;

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config};
use serde::Deserialize;
use tokenizers::Tokenizer;

pub use pooling::{Description, Pooling};

/// Token positions computed at once, padding included: enough to keep every core busy, little enough for the caches and
/// for the allocator, which gives larger pieces back at once and has each page made anew. 358 abstracts on two cores:
/// 52 s with 4096, 34 s with 1024, 32 s with 512.
const BATCH_POSITIONS: usize = 512;

/// What cannot be embedded with, or could not be embedded, and why.
#[derive(Debug, thiserror::Error)]
pub enum EmbedError {
    #[error("{}: {fact}", path.display())]
    Model { path: PathBuf, fact: String },
    #[error("the encoder failed: {0}")]
    Encoder(#[from] candle_core::Error),
    #[error("the text cannot be tokenized: {0}")]
    Tokenizer(String),
}

/// A loaded encoder.
pub struct Embedder {
    description: Description,
    dims: usize,
    tokenizer: Tokenizer,
    start: Vec<u32>, // what stands before and after every input
    end: Vec<u32>,
    model: BertModel,
}

/// The part of a text that is encoded in one row.
struct Window {
    text: usize, // whose
    ids: Vec<u32>,
    weight: f32, // tokens of the text in it
}

impl Embedder {
    /// Loads the model in a folder: `config.json`, `tokenizer.json`, `model.safetensors` and what says how to pool.
    pub fn load(folder: &Path) -> Result<Self, EmbedError> {
        let wrong = |name: &str, fact: String| EmbedError::Model { path: folder.join(name), fact };
        let read = |name: &str| fs::read(folder.join(name)).map_err(|e| wrong(name, format!("cannot be read: {e}")));
        #[derive(Deserialize)]
        struct Family {
            #[serde(default)]
            model_type: String,
        }
        let config = read("config.json")?;
        let family: Family = serde_json::from_slice(&config).map_err(|e| wrong("config.json", e.to_string()))?;
        if family.model_type != "bert" {
            let fact = format!("is of the family `{}`; this version embeds with `bert`", family.model_type);
            return Err(wrong("config.json", fact));
        }
        let config: Config = serde_json::from_slice(&config).map_err(|e| wrong("config.json", e.to_string()))?;
        if config.hidden_size == 0
            || config.num_attention_heads == 0
            || !config.hidden_size.is_multiple_of(config.num_attention_heads)
        {
            return Err(wrong("config.json", "its heads do not divide its width".into()));
        }
        let description = Description::read(folder, config.max_position_embeddings)?;
        let mut tokenizer =
            Tokenizer::from_bytes(read("tokenizer.json")?).map_err(|e| wrong("tokenizer.json", e.to_string()))?;
        // Long texts are cut by us, so that nothing is lost; rows are padded by us.
        tokenizer.with_truncation(None).map_err(|e| wrong("tokenizer.json", e.to_string()))?;
        tokenizer.with_padding(None);
        // What looks like a mark of the model in a text is text.
        tokenizer.set_encode_special_tokens(true);
        let frame = tokenizer.encode("", true).map_err(|e| wrong("tokenizer.json", e.to_string()))?;
        let (start, end) = match frame.get_ids() {
            [] => (Vec::new(), Vec::new()),
            [first, rest @ ..] => (vec![*first], rest.to_vec()),
        };
        if tokenizer.get_vocab_size(true) > config.vocab_size {
            let fact = format!("has {} tokens, the model {}", tokenizer.get_vocab_size(true), config.vocab_size);
            return Err(wrong("tokenizer.json", fact));
        }
        let weights = VarBuilder::from_buffered_safetensors(read("model.safetensors")?, DType::F32, &Device::Cpu);
        let weights = weights.map_err(|e| wrong("model.safetensors", e.to_string()))?;
        let model = BertModel::load(weights, &config).map_err(|e| wrong("model.safetensors", e.to_string()))?;
        Ok(Self { description, dims: config.hidden_size, tokenizer, start, end, model })
    }

    pub fn description(&self) -> &Description {
        &self.description
    }

    pub fn dims(&self) -> usize {
        self.dims
    }

    /// Returns a vector for each passage, in order.
    pub fn passages(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, EmbedError> {
        self.embed(texts, &self.description.passage_prefix)
    }

    /// Returns a question's vector.
    pub fn question(&self, text: &str) -> Result<Vec<f32>, EmbedError> {
        let mut vectors = self.embed(&[text], &self.description.question_prefix)?;
        Ok(vectors.pop().unwrap_or_default())
    }

    fn embed(&self, texts: &[&str], prefix: &str) -> Result<Vec<Vec<f32>>, EmbedError> {
        let mut windows = self.windows(texts, prefix)?;
        // Rows of like length share a batch, so that little is padding. The sort is stable: same texts, same batches.
        windows.sort_by_key(|w| w.ids.len());
        let mut sums = vec![vec![0f32; self.dims]; texts.len()];
        let mut rest = windows.as_slice();
        while !rest.is_empty() {
            let fits = (1..=rest.len()).take_while(|n| n * rest[n - 1].ids.len() <= BATCH_POSITIONS).last();
            let (batch, later) = rest.split_at(fits.unwrap_or(1));
            rest = later;
            for (window, vector) in batch.iter().zip(self.encode(batch)?) {
                sums[window.text].iter_mut().zip(vector).for_each(|(sum, v)| *sum += v * window.weight);
            }
        }
        sums.iter_mut().for_each(|v| normalize(v));
        Ok(sums)
    }

    /// Cuts every text into windows that the model takes whole.
    fn windows(&self, texts: &[&str], prefix: &str) -> Result<Vec<Window>, EmbedError> {
        let encode = |text: &str| {
            let encoding = self.tokenizer.encode(text, false).map_err(|e| EmbedError::Tokenizer(e.to_string()))?;
            Ok::<_, EmbedError>(encoding.get_ids().to_vec())
        };
        let prefix = if prefix.is_empty() { Vec::new() } else { encode(prefix)? };
        let frame = self.start.len() + self.end.len() + prefix.len();
        let room = self.description.max_tokens.saturating_sub(frame).max(1);
        let mut windows = Vec::new();
        for (text, words) in texts.iter().enumerate() {
            let ids = encode(words)?;
            // Windows of about equal length: a last one of three words would weigh little and mean less.
            let count = ids.len().div_ceil(room).max(1);
            let size = ids.len().div_ceil(count).max(1);
            let parts: Vec<&[u32]> = if ids.is_empty() { vec![&[]] } else { ids.chunks(size).collect() };
            for part in parts {
                let ids = [&self.start, prefix.as_slice(), part, &self.end].concat();
                windows.push(Window { text, ids, weight: part.len().max(1) as f32 });
            }
        }
        Ok(windows)
    }

    /// Returns the pooled vector of each window, of length 1.
    fn encode(&self, batch: &[Window]) -> Result<Vec<Vec<f32>>, EmbedError> {
        let width = batch.iter().map(|w| w.ids.len()).max().unwrap_or(0);
        if width == 0 {
            return Ok(vec![vec![0.0; self.dims]; batch.len()]);
        }
        let mut ids = vec![0u32; batch.len() * width];
        let mut mask = vec![0u32; batch.len() * width];
        for (row, window) in batch.iter().enumerate() {
            ids[row * width..][..window.ids.len()].copy_from_slice(&window.ids);
            mask[row * width..][..window.ids.len()].fill(1);
        }
        let shape = (batch.len(), width);
        let ids = Tensor::from_vec(ids, shape, &Device::Cpu)?;
        let mask = Tensor::from_vec(mask, shape, &Device::Cpu)?;
        let states = self.model.forward(&ids, &ids.zeros_like()?, Some(&mask))?; // (rows, width, dims)
        let states: Vec<f32> = states.flatten_all()?.to_vec1()?;
        let row = |(row, window): (usize, &Window)| {
            let states = &states[row * width * self.dims..][..window.ids.len() * self.dims];
            let mut vector = self.description.pooling.pool(states, self.dims);
            normalize(&mut vector);
            vector
        };
        Ok(batch.iter().enumerate().map(row).collect())
    }
}

/// Makes a vector's length 1; nothing stays nothing.
fn normalize(vector: &mut [f32]) {
    let length = vector.iter().map(|v| v * v).sum::<f32>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|v| *v /= length);
    }
}

#[cfg(test)]
mod tests;
