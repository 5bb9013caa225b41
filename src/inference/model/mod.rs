//! Token ids in, logits out: configuration, weights, keys and values, the forward passes.
//! Knows no text, no request and no file name of ours. Read [`CausalLm`] first, then `decoder`.

mod config;
mod decoder;
mod gguf;
mod gguf_write;
mod quantize;
mod reference;
mod safetensors;
mod source;
mod weights;

#[cfg(test)]
mod tests;

pub use config::{Architecture, ModelConfig};
pub use decoder::CpuDecoder;
pub use gguf::{Gguf, Value as GgufValue};
pub use gguf_write::Entry as GgufEntry;
pub use quantize::{Quantization, QuantizeError, write_quantized};
pub use reference::CandleDecoder;
pub use source::{ModelError, ModelSource, TensorInfo};
pub use weights::{Cost, Weights};

use crate::ids::{BlockId, TokenId};
pub use crate::inference::kernels::attention::{BLOCK_TOKENS, KvKind, KvShape, Span};

/// A small model in a folder, for the tests of this floor.
#[cfg(test)]
pub(in crate::inference) use quantize::tests::Small as SmallFolder;

/// A decoder-only language model with its keys and values in blocks.
///
/// Two kinds: [`CpuDecoder`] over our kernels, [`CandleDecoder`] as the reference (and for other devices).
pub trait CausalLm: Send {
    fn config(&self) -> &ModelConfig;

    /// Blocks of [`BLOCK_TOKENS`] positions that its cache holds.
    fn num_blocks(&self) -> usize;

    /// Computes all rows of the batch, writing their keys and values into the blocks of their spans.
    fn forward(&mut self, batch: &ForwardBatch<'_>) -> Result<Logits, ForwardError>;

    /// Takes back what [`CausalLm::forward`] gave, for its memory only: fresh pages for the logits of sixteen sequences
    /// cost a millisecond a step.
    fn take_back(&mut self, logits: Logits) {
        drop(logits);
    }

    /// Copies a block of keys and values: what copy-on-write does.
    fn copy_block(&mut self, from: BlockId, to: BlockId) -> Result<(), ForwardError>;

    /// The blocks as bytes, where they can be had as such.
    fn block_bytes(&mut self) -> Option<&mut dyn BlockBytes> {
        None
    }
}

/// Blocks of keys and values that can be taken out and put back, bit for bit.
pub trait BlockBytes {
    /// Bytes of one block over all layers and heads.
    fn block_bytes(&self) -> usize;

    /// Appends the bytes of a block.
    fn read_block(&self, block: BlockId, out: &mut Vec<u8>);

    /// Fills a block with what [`BlockBytes::read_block`] gave.
    fn write_block(&mut self, block: BlockId, bytes: &[u8]);
}

/// Rows of several sequences that are computed together.
#[derive(Clone, Copy, Debug)]
pub struct ForwardBatch<'a> {
    pub tokens: &'a [TokenId],    // (rows)
    pub spans: &'a [Span<'a>],    // cover all rows, in order
    pub logits_rows: &'a [usize], // rows whose logits are wanted
}

impl ForwardBatch<'_> {
    /// The position of each row in its sequence.
    pub fn positions(&self) -> Vec<u32> {
        self.spans.iter().flat_map(|s| (0..s.rows).map(|i| (s.first_position + i) as u32)).collect()
    }
}

/// One row of scores over the vocabulary for each wanted row.
#[derive(Clone, Debug, PartialEq)]
pub struct Logits {
    pub width: usize,     // the model's vocabulary
    pub values: Vec<f32>, // (wanted rows, width)
}

impl Logits {
    pub fn row(&self, i: usize) -> &[f32] {
        &self.values[i * self.width..(i + 1) * self.width]
    }

    pub fn row_mut(&mut self, i: usize) -> &mut [f32] {
        &mut self.values[i * self.width..(i + 1) * self.width]
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForwardError {
    #[error("token {token} is not in the vocabulary of {vocabulary}")]
    TokenOutOfRange { token: TokenId, vocabulary: usize },
    #[error("candle failed: {0}")]
    Candle(String),
}

impl From<candle_core::Error> for ForwardError {
    fn from(error: candle_core::Error) -> Self {
        Self::Candle(error.to_string())
    }
}

/// Refuses token ids that the embedding does not have.
fn check_tokens(tokens: &[TokenId], vocabulary: usize) -> Result<(), ForwardError> {
    match tokens.iter().find(|t| **t as usize >= vocabulary) {
        Some(&token) => Err(ForwardError::TokenOutOfRange { token, vocabulary }),
        None => Ok(()),
    }
}
