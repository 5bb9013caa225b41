//! The reference forward pass: candle's tensors in f32, written for clarity, on any device that candle has.
//! Slow on the CPU; what the kernels are tested against.

use candle_core::{D, DType, Device, IndexOp, Tensor};
use candle_nn::ops::{silu, softmax_last_dim};
use candle_nn::rotary_emb::rope;

use super::config::{Architecture, ModelConfig};
use super::source::{Kind, ModelError, ModelSource};
use super::weights::Role;
use super::{BLOCK_TOKENS, CausalLm, ForwardBatch, ForwardError, Logits, check_tokens};
use crate::ids::BlockId;
use crate::inference::kernels::blocks;

/// A decoder on candle.
pub struct CandleDecoder {
    config: ModelConfig,
    device: Device,
    embedding: Tensor, // (vocabulary, hidden)
    head: Tensor,      // (vocabulary, hidden)
    norm: Tensor,
    layers: Vec<Layer>,
    /// Keys and values by layer and block: (2, kv_heads, BLOCK_TOKENS, head_dim).
    cache: Vec<Vec<Option<Tensor>>>,
}

struct Layer {
    attention_norm: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    o: Tensor,
    feed_forward_norm: Tensor,
    router: Option<Tensor>,
    gate: Tensor, // (experts, inner, hidden)
    up: Tensor,   // (experts, inner, hidden)
    down: Tensor, // (experts, hidden, inner)
}

impl CandleDecoder {
    /// Loads every weight as f32 onto `device`, with room for `blocks` blocks.
    pub fn load(source: &ModelSource, device: Device, blocks: usize) -> Result<Self, ModelError> {
        let c = source.config().clone();
        let load = |role, layer| tensor(source, role, layer, &device);
        let layers = (0..c.layers).map(|l| self::layer(source, &c, l, &device)).collect::<Result<_, _>>()?;
        let embedding = load(Role::Embedding, 0)?;
        let head = if source.tensor(&name(source, Role::Head, 0)).is_some() {
            load(Role::Head, 0)?
        } else {
            embedding.clone()
        };
        let norm = load(Role::Norm, 0)?;
        let cache = vec![vec![None; blocks]; c.layers];
        Ok(Self { config: c, device, embedding, head, norm, layers, cache })
    }

    fn rms_norm(&self, x: &Tensor, weight: &Tensor) -> candle_core::Result<Tensor> {
        let mean = x.sqr()?.mean_keepdim(D::Minus1)?;
        x.broadcast_div(&(mean + f64::from(self.config.norm_eps))?.sqrt()?)?.broadcast_mul(weight)
    }

    /// `x` is (rows, hidden) of all sequences; each span attends on its own.
    fn attention(&mut self, l: usize, x: &Tensor, batch: &ForwardBatch<'_>) -> candle_core::Result<Tensor> {
        let c = self.config.clone();
        let layer = &self.layers[l];
        let heads = |x: &Tensor, w: &Tensor, n: usize| -> candle_core::Result<Tensor> {
            x.matmul(&w.t()?)?.reshape((1, x.dim(0)?, n, c.head_dim))?.transpose(1, 2)?.contiguous()
        };
        let mut outs = Vec::new();
        for span in batch.spans {
            let x = x.narrow(0, span.first_row, span.rows)?;
            let (cos, sin) = self.angles(span.first_position, span.rows)?;
            let q = rope(&heads(&x, &layer.q, c.heads)?, &cos, &sin)?;
            let k = rope(&heads(&x, &layer.k, c.kv_heads)?, &cos, &sin)?;
            let v = heads(&x, &layer.v, c.kv_heads)?;
            let new = Tensor::stack(&[k.i(0)?, v.i(0)?], 0)?; // (2, kv_heads, rows, head_dim)
            let all = append(&mut self.cache[l], span.block_table, span.first_position, &new)?;
            let group = c.heads / c.kv_heads;
            let repeat = |x: Tensor| -> candle_core::Result<Tensor> {
                let (n, len, d) = x.dims3()?;
                x.unsqueeze(1)?.expand((n, group, len, d))?.reshape((n * group, len, d))
            };
            let (k, v) = (repeat(all.i(0)?)?, repeat(all.i(1)?)?);
            let scores = (q.i(0)?.matmul(&k.transpose(1, 2)?.contiguous()?)? * f64::from(c.attention_multiplier))?;
            let scores = scores.broadcast_add(&self.mask(span.first_position, span.rows)?)?;
            let out = softmax_last_dim(&scores)?.matmul(&v.contiguous()?)?; // (heads, rows, head_dim)
            outs.push(out.transpose(0, 1)?.reshape((span.rows, c.heads * c.head_dim))?);
        }
        Tensor::cat(&outs, 0)?.matmul(&layer.o.t()?)
    }

    fn feed_forward(&self, l: usize, x: &Tensor) -> candle_core::Result<Tensor> {
        let (c, layer) = (&self.config, &self.layers[l]);
        let expert = |e: usize, x: &Tensor| -> candle_core::Result<Tensor> {
            let inner = (silu(&x.matmul(&layer.gate.i(e)?.t()?)?)? * x.matmul(&layer.up.i(e)?.t()?)?)?;
            inner.matmul(&layer.down.i(e)?.t()?)
        };
        let Some(router) = &layer.router else { return expert(0, x) };
        let logits = x.matmul(&router.t()?)?.to_vec2::<f32>()?;
        let mut rows = Vec::new();
        for (r, logits) in logits.iter().enumerate() {
            let mut order: Vec<usize> = (0..c.experts).collect();
            order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]));
            order.truncate(c.experts_per_token);
            let picked: Vec<f32> = order.iter().map(|e| logits[*e]).collect();
            let weights = softmax_last_dim(&Tensor::new(picked.as_slice(), &self.device)?)?.to_vec1::<f32>()?;
            let x = x.narrow(0, r, 1)?;
            let mut sum = x.zeros_like()?;
            for (e, w) in order.into_iter().zip(weights) {
                sum = (sum + (expert(e, &x)? * f64::from(w))?)?;
            }
            rows.push(sum);
        }
        Tensor::cat(&rows, 0)
    }

    fn angles(&self, first: usize, rows: usize) -> candle_core::Result<(Tensor, Tensor)> {
        let half = self.config.head_dim / 2;
        let angle = |i: usize| {
            let frequency = self.config.rope_theta.powf(-2.0 * (i % half) as f64 / self.config.head_dim as f64);
            (first + i / half) as f64 * frequency
        };
        let table = |f: fn(f64) -> f64| {
            let values: Vec<f32> = (0..rows * half).map(|i| f(angle(i)) as f32).collect();
            Tensor::from_vec(values, (rows, half), &self.device)
        };
        Ok((table(f64::cos)?, table(f64::sin)?))
    }

    /// (rows, first + rows): minus infinity where a key lies after its query.
    fn mask(&self, first: usize, rows: usize) -> candle_core::Result<Tensor> {
        let len = first + rows;
        let values: Vec<f32> =
            (0..rows * len).map(|i| if i % len > first + i / len { f32::NEG_INFINITY } else { 0.0 }).collect();
        Tensor::from_vec(values, (rows, len), &self.device)
    }

    fn run(&mut self, batch: &ForwardBatch<'_>) -> candle_core::Result<Logits> {
        let c = self.config.clone();
        let ids = Tensor::new(batch.tokens, &self.device)?;
        let mut h = (self.embedding.index_select(&ids, 0)? * f64::from(c.embedding_multiplier))?;
        for l in 0..c.layers {
            let x = self.rms_norm(&h, &self.layers[l].attention_norm)?;
            h = (h + (self.attention(l, &x, batch)? * f64::from(c.residual_multiplier))?)?;
            let x = self.rms_norm(&h, &self.layers[l].feed_forward_norm)?;
            h = (h + (self.feed_forward(l, &x)? * f64::from(c.residual_multiplier))?)?;
        }
        if batch.logits_rows.is_empty() {
            return Ok(Logits { width: c.vocabulary, values: Vec::new() });
        }
        let wanted: Vec<u32> = batch.logits_rows.iter().map(|r| *r as u32).collect();
        let h = h.index_select(&Tensor::new(wanted.as_slice(), &self.device)?, 0)?;
        let logits = (self.rms_norm(&h, &self.norm)?.matmul(&self.head.t()?)? / f64::from(c.logits_divisor))?;
        Ok(Logits { width: c.vocabulary, values: logits.flatten_all()?.to_vec1()? })
    }
}

impl CausalLm for CandleDecoder {
    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn num_blocks(&self) -> usize {
        self.cache.first().map_or(0, Vec::len)
    }

    fn forward(&mut self, batch: &ForwardBatch<'_>) -> Result<Logits, ForwardError> {
        check_tokens(batch.tokens, self.config.vocabulary)?;
        Ok(self.run(batch)?)
    }

    fn copy_block(&mut self, from: BlockId, to: BlockId) -> Result<(), ForwardError> {
        for layer in &mut self.cache {
            layer[to.index()] = layer[from.index()].clone();
        }
        Ok(())
    }
}

/// Puts new keys and values behind the earlier positions of a sequence; returns all of them,
/// (2, kv_heads, positions, head_dim).
fn append(blocks: &mut [Option<Tensor>], table: &[BlockId], first: usize, new: &Tensor) -> candle_core::Result<Tensor> {
    let mut parts = Vec::new();
    for (b, block) in table.iter().take(first.div_ceil(BLOCK_TOKENS)).enumerate() {
        let len = (first - b * BLOCK_TOKENS).min(BLOCK_TOKENS);
        let Some(tensor) = &blocks[block.index()] else {
            candle_core::bail!("{block} was never written");
        };
        parts.push(tensor.narrow(2, 0, len)?);
    }
    parts.push(new.clone());
    let all = Tensor::cat(&parts, 2)?;
    let len = all.dim(2)?;
    for b in first / BLOCK_TOKENS..len.div_ceil(BLOCK_TOKENS) {
        let rows = (len - b * BLOCK_TOKENS).min(BLOCK_TOKENS);
        blocks[table[b].index()] = Some(all.narrow(2, b * BLOCK_TOKENS, rows)?.contiguous()?);
    }
    Ok(all)
}

fn name(source: &ModelSource, role: Role, layer: usize) -> String {
    let moe = source.config().architecture == Architecture::GraniteMoe;
    match source.kind {
        Kind::Gguf(_) => role.gguf_name(layer, moe),
        Kind::Safetensors(_) => role.safetensors_name(layer, moe),
    }
}

/// A tensor as f32 in its stored shape.
fn tensor(source: &ModelSource, role: Role, layer: usize, device: &Device) -> Result<Tensor, ModelError> {
    let name = name(source, role, layer);
    let info =
        source.tensor(&name).ok_or_else(|| ModelError::new(source.path(), format!("the tensor {name} is missing")))?;
    let bytes = source.bytes(info);
    let mut values = vec![0.0f32; info.rows().max(1) * info.cols()];
    let row_bytes = bytes.len() / (values.len() / info.cols());
    for (row, out) in bytes.chunks_exact(row_bytes).zip(values.chunks_exact_mut(info.cols())) {
        blocks::dequantize_row(info.format, row, out);
    }
    Tensor::from_vec(values, info.shape.as_slice(), device)
        .and_then(|t| t.to_dtype(DType::F32))
        .map_err(|e| ModelError::new(source.path(), format!("{name}: {e}")))
}

fn layer(source: &ModelSource, c: &ModelConfig, l: usize, device: &Device) -> Result<Layer, ModelError> {
    let load = |role| tensor(source, role, l, device);
    let gguf = matches!(source.kind, Kind::Gguf(_));
    let candle = |r: candle_core::Result<Tensor>| {
        r.map_err(|e| ModelError::new(source.path(), format!("layer {l} has unexpected shapes: {e}")))
    };
    // GGUF interleaves the two halves of each rotary head; undo it.
    let unrotate = |w: Tensor, heads: usize| {
        if !gguf {
            return Ok(w);
        }
        candle(
            w.reshape((heads, c.head_dim / 2, 2, c.hidden))
                .and_then(|w| w.transpose(1, 2)?.reshape((heads * c.head_dim, c.hidden))),
        )
    };
    let moe = c.architecture == Architecture::GraniteMoe;
    let (gate, up, down) = match (moe, gguf) {
        (false, _) => {
            let one = |role| load(role).and_then(|w| candle(w.unsqueeze(0)));
            (one(Role::Gate)?, one(Role::Up)?, one(Role::Down)?)
        }
        (true, true) => (load(Role::Gate)?, load(Role::Up)?, load(Role::Down)?),
        (true, false) => {
            let input = load(Role::Gate)?;
            (candle(input.narrow(1, 0, c.inner))?, candle(input.narrow(1, c.inner, c.inner))?, load(Role::Down)?)
        }
    };
    Ok(Layer {
        attention_norm: load(Role::AttentionNorm)?,
        q: unrotate(load(Role::Q)?, c.heads)?,
        k: unrotate(load(Role::K)?, c.kv_heads)?,
        v: load(Role::V)?,
        o: load(Role::O)?,
        feed_forward_norm: load(Role::FeedForwardNorm)?,
        router: if moe { Some(load(Role::Router)?) } else { None },
        gate,
        up,
        down,
    })
}
