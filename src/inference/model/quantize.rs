//! From floats in a safetensors folder to a GGUF file in blocks, once: half the memory to stream, and the same model
//! within the error of its blocks. Reads one tensor after the other and holds a few megabytes of it.
//! Knows names, shapes and the order of rows; the metadata about text is handed in by whoever knows it.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::Path;

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use half::f16;
use rayon::prelude::*;

use super::config::{Architecture, ModelConfig};
use super::gguf_write::{Announced, Entry, GgufWriter};
use super::source::{Kind, ModelError, ModelSource, TensorInfo};
use super::weights::Role;
use crate::inference::kernels::blocks::{self, Format};

/// Weights that are read, quantized and written at a time; 16 MB as floats.
const WEIGHTS_AT_ONCE: usize = 4 << 20;

/// What the matrices become.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Quantization {
    /// Blocks of 32 with 8 bits and a scale: half of BF16, and all but the same answers.
    Q8_0,
    /// Blocks of 256 with 4 bits; embedding and logits in Q6_K, as llama.cpp's own small mix has them. Rows that are
    /// no whole number of 256 stay in Q8_0.
    Q4K,
    /// No loss: what the order of rows and the names are tested with.
    F32,
}

impl Quantization {
    /// Raised when the same weights would give another file, so that one made before is made again.
    pub const VERSION: u32 = 1;

    /// As it stands in options and in file names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Q8_0 => "q8_0",
            Self::Q4K => "q4_k",
            Self::F32 => "f32",
        }
    }

    /// As it is shown.
    pub fn shown(self) -> &'static str {
        match self {
            Self::Q8_0 => Format::Q8_0.name(),
            Self::Q4K => Format::Q4K.name(),
            Self::F32 => Format::F32.name(),
        }
    }

    /// llama.cpp's `llama_ftype`: all F32, mostly Q8_0, mostly Q4_K small.
    fn file_type(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::Q8_0 => 7,
            Self::Q4K => 14,
        }
    }

    fn format(self, role: Role, cols: usize) -> Format {
        let whole = |format: Format| format.row_bytes(cols).is_some();
        match (self, role) {
            _ if !role.is_matrix() => Format::F32,
            (Self::Q4K, Role::Embedding | Role::Head) if whole(Format::Q6K) => Format::Q6K,
            (Self::Q4K, _) if whole(Format::Q4K) => Format::Q4K,
            (Self::Q8_0 | Self::Q4K, _) if whole(Format::Q8_0) => Format::Q8_0,
            _ => Format::F32,
        }
    }
}

/// Why there is no quantized form: the model, or the place for it.
#[derive(Debug, thiserror::Error)]
pub enum QuantizeError {
    #[error(transparent)]
    Source(#[from] ModelError),
    #[error("the quantized model cannot be written: {0}")]
    Write(#[from] io::Error),
    #[error("quantizing was stopped")]
    Stopped,
}

impl Role {
    /// Whether it is quantized: norms are small, and the router decides too much.
    fn is_matrix(self) -> bool {
        !matches!(self, Self::Norm | Self::AttentionNorm | Self::FeedForwardNorm | Self::Router)
    }
}

/// How many matrices were written, and how many of them have rows that do not fit the blocks asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    pub matrices: usize,
    pub in_other_format: usize,
}

/// Writes the quantized form of a safetensors folder to `to`, which is created or emptied.
///
/// `more` is put behind the metadata of the model: its name and its tokenizer. `progress` is told of bytes written
/// (done, of) every few megabytes, and ends the work where it returns false. The file is on the disk when this returns; after an error what there is of it is of no use.
pub fn write_quantized(
    source: &ModelSource,
    quantization: Quantization,
    more: Vec<(String, Entry)>,
    to: &Path,
    progress: &dyn Fn(u64, u64) -> bool,
) -> Result<Written, QuantizeError> {
    if let Kind::Gguf(_) = source.kind {
        return Err(ModelError::new(source.path(), "it is a GGUF file, which is used as it is").into());
    }
    let parts = parts(source, quantization)?;
    let announced: Vec<_> = parts.iter().map(|p| p.announced.clone()).collect();
    let total = announced.iter().filter_map(Announced::bytes).sum();
    let mut metadata = metadata(source.config(), quantization);
    metadata.extend(more);

    let mut writer = GgufWriter::new(BufWriter::new(File::create(to)?), &metadata, &announced)?;
    let mut done = 0;
    for part in &parts {
        let rows_at_once = (WEIGHTS_AT_ONCE / part.info.cols()).max(1);
        let mut first = 0;
        while first < part.rows() {
            let count = rows_at_once.min(part.rows() - first);
            let bytes = part.encode(source, first, count)?;
            writer.write(&bytes)?;
            done += bytes.len() as u64;
            if !progress(done, total) {
                return Err(QuantizeError::Stopped);
            }
            first += count;
        }
        source.release(part.info);
    }
    let file = writer.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    let matrices = || parts.iter().filter(|p| p.role.is_matrix());
    let other = matrices().filter(|p| quantization.format(p.role, Format::Q4K.block_len()) != p.announced.format);
    Ok(Written { matrices: matrices().count(), in_other_format: other.count() })
}

/// A tensor of the new file, and where its rows come from.
struct Part<'a> {
    announced: Announced,
    info: &'a TensorInfo,
    name: String, // in the source
    role: Role,
    order: Order,
}

/// Which row of the source a row of the new file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    AsStored,
    /// Heads of this size: pairs that are half a head apart become neighbors.
    Rotary(usize),
    /// Of every `of` rows the `count` from `first` on: one half of what is fused.
    Share {
        first: usize,
        count: usize,
        of: usize,
    },
}

impl Order {
    fn source_row(self, row: usize) -> usize {
        match self {
            Self::AsStored => row,
            Self::Rotary(dim) => {
                let (head, within) = (row / dim, row % dim);
                head * dim + within % 2 * (dim / 2) + within / 2
            }
            Self::Share { first, count, of } => row / count * of + first + row % count,
        }
    }
}

/// Every tensor of the new file, checked against the configuration, in llama.cpp's order.
fn parts(source: &ModelSource, quantization: Quantization) -> Result<Vec<Part<'_>>, ModelError> {
    let c = source.config();
    let moe = c.architecture == Architecture::GraniteMoe;
    let (hidden, inner, q_rows, kv_rows) = (c.hidden, c.inner, c.heads * c.head_dim, c.kv_heads * c.head_dim);
    let part = |role: Role, layer: usize, stored: &[usize], shape: &[usize], order: Order| {
        let name = role.safetensors_name(layer, moe);
        let about = |file: &Path, fact: String| ModelError::new(file, fact);
        let info = source.tensor(&name).ok_or_else(|| about(source.path(), format!("the tensor {name} is missing")))?;
        if info.shape != stored {
            let fact = format!("tensor {name} has the shape {:?}; the configuration asks for {stored:?}", info.shape);
            return Err(about(source.file_of(info), fact));
        }
        let format = quantization.format(role, info.cols());
        let announced = Announced { name: role.gguf_name(layer, moe), format, shape: shape.to_vec() };
        Ok(Part { announced, info, name, role, order })
    };
    let plain = |role: Role, layer: usize, shape: &[usize]| part(role, layer, shape, shape, Order::AsStored);
    let rotary = |role: Role, layer: usize, shape: &[usize]| part(role, layer, shape, shape, Order::Rotary(c.head_dim));

    let mut parts = vec![plain(Role::Embedding, 0, &[c.vocabulary, hidden])?, plain(Role::Norm, 0, &[hidden])?];
    if source.tensor(&Role::Head.safetensors_name(0, moe)).is_some() {
        parts.push(plain(Role::Head, 0, &[c.vocabulary, hidden])?);
    }
    for l in 0..c.layers {
        parts.push(plain(Role::AttentionNorm, l, &[hidden])?);
        parts.push(rotary(Role::Q, l, &[q_rows, hidden])?);
        parts.push(rotary(Role::K, l, &[kv_rows, hidden])?);
        parts.push(plain(Role::V, l, &[kv_rows, hidden])?);
        parts.push(plain(Role::O, l, &[hidden, q_rows])?);
        parts.push(plain(Role::FeedForwardNorm, l, &[hidden])?);
        if moe {
            let fused = [c.experts, 2 * inner, hidden];
            let half = |first| Order::Share { first, count: inner, of: 2 * inner };
            parts.push(plain(Role::Router, l, &[c.experts, hidden])?);
            parts.push(part(Role::Gate, l, &fused, &[c.experts, inner, hidden], half(0))?);
            parts.push(part(Role::Up, l, &fused, &[c.experts, inner, hidden], half(inner))?);
            parts.push(plain(Role::Down, l, &[c.experts, hidden, inner])?);
        } else {
            parts.push(plain(Role::Gate, l, &[inner, hidden])?);
            parts.push(plain(Role::Up, l, &[inner, hidden])?);
            parts.push(plain(Role::Down, l, &[hidden, inner])?);
        }
    }
    Ok(parts)
}

impl Part<'_> {
    fn rows(&self) -> usize {
        self.announced.shape.split_last().map_or(0, |(_, outer)| outer.iter().product())
    }

    /// The bytes of `count` rows from `first` on.
    fn encode(&self, source: &ModelSource, first: usize, count: usize) -> Result<Vec<u8>, ModelError> {
        let (format, cols, stored) = (self.announced.format, self.info.cols(), source.bytes(self.info));
        let stored_row = stored.len() / self.info.rows();
        let about = |row: usize, fact: String| {
            ModelError::new(source.file_of(self.info), format!("tensor {}, row {row}: {fact}", self.name))
        };
        let row_bytes = format.row_bytes(cols).unwrap_or_else(|| unreachable!("{cols} weights in {}", format.name()));
        let mut out = vec![0; count * row_bytes];
        out.par_chunks_mut(row_bytes).enumerate().try_for_each_init(
            || vec![0.0; cols],
            |weights, (i, out)| {
                let row = self.order.source_row(first + i);
                blocks::dequantize_row(self.info.format, &stored[row * stored_row..][..stored_row], weights);
                if let Some(bad) = weights.iter().find(|w| !w.is_finite()) {
                    return Err(about(row, format!("a weight is {bad}")));
                }
                encode_row(format, weights, out).map_err(|fact| about(row, fact))
            },
        )?;
        Ok(out)
    }
}

/// Writes one row of finite weights in a format.
fn encode_row(format: Format, weights: &[f32], out: &mut [u8]) -> Result<(), String> {
    let by_candle = |dtype, out: &mut [u8]| {
        let tensor = Tensor::from_slice(weights, (1, weights.len()), &Device::Cpu);
        let quantized = tensor.and_then(|t| QTensor::quantize(&t, dtype)).map_err(|e| e.to_string())?;
        out.copy_from_slice(&quantized.data().map_err(|e| e.to_string())?);
        Ok(())
    };
    match format {
        Format::F32 => {
            weights.iter().zip(out.as_chunks_mut::<4>().0).for_each(|(w, out)| *out = w.to_le_bytes());
            Ok(())
        }
        Format::Q8_0 => {
            let blocks = weights.as_chunks::<32>().0.iter().zip(out.chunks_exact_mut(Format::Q8_0.block_bytes()));
            for (weights, out) in blocks {
                q8_0(weights, out)?;
            }
            Ok(())
        }
        Format::Q4K => by_candle(GgmlDType::Q4K, out),
        Format::Q6K => by_candle(GgmlDType::Q6K, out),
        other => unreachable!("{} is never written", other.name()),
    }
}

/// ggml's `quantize_row_q8_0_ref`: the scale is rounded to 16 bits only where it is stored.
fn q8_0(weights: &[f32; 32], out: &mut [u8]) -> Result<(), String> {
    let largest = weights.iter().fold(0.0f32, |a, w| a.max(w.abs()));
    let scale = largest / 127.0;
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    let stored = f16::from_f32(scale);
    if !stored.is_finite() {
        return Err(format!("a weight of {largest} is too large for Q8_0"));
    }
    out[..2].copy_from_slice(&stored.to_le_bytes());
    out[2..].iter_mut().zip(weights).for_each(|(q, w)| *q = (w * inverse).round() as i8 as u8);
    Ok(())
}

/// What llama.cpp asks of these architectures, in its types.
fn metadata(c: &ModelConfig, quantization: Quantization) -> Vec<(String, Entry)> {
    let name = c.architecture.name();
    let mut all = vec![
        ("general.architecture".to_owned(), Entry::Text(name.into())),
        ("general.type".to_owned(), Entry::Text("model".into())),
        ("general.file_type".to_owned(), Entry::U32(quantization.file_type())),
    ];
    if quantization != Quantization::F32 {
        all.push(("general.quantization_version".to_owned(), Entry::U32(2)));
    }
    let mut count = |key: &str, value: usize| {
        // ModelConfig has been checked: no size is above 2^24.
        all.push((format!("{name}.{key}"), Entry::U32(value as u32)));
    };
    count("block_count", c.layers);
    count("context_length", c.window);
    count("embedding_length", c.hidden);
    count("feed_forward_length", c.inner);
    count("attention.head_count", c.heads);
    count("attention.head_count_kv", c.kv_heads);
    count("rope.dimension_count", c.head_dim);
    count("vocab_size", c.vocabulary);
    if c.head_dim * c.heads != c.hidden {
        count("attention.key_length", c.head_dim);
        count("attention.value_length", c.head_dim);
    }
    if c.architecture == Architecture::GraniteMoe {
        count("expert_count", c.experts);
        count("expert_used_count", c.experts_per_token);
    }
    let mut number = |key: &str, value: f32| all.push((format!("{name}.{key}"), Entry::F32(value)));
    number("rope.freq_base", c.rope_theta as f32);
    number("attention.layer_norm_rms_epsilon", c.norm_eps);
    if c.architecture != Architecture::Llama {
        number("attention.scale", c.attention_multiplier);
        number("embedding_scale", c.embedding_multiplier);
        number("residual_scale", c.residual_multiplier);
        number("logit_scale", c.logits_divisor);
    }
    all
}

#[cfg(test)]
#[path = "quantize_tests.rs"]
pub(in crate::inference) mod tests;
