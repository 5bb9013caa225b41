//! The weights of a decoder, from either kind of file, in one order of rows.
//!
//! GGUF stores the rows of q and k so that rotary pairs are neighbours; they are put back to Hugging Face's order
//! (pairs half a head apart) while packing, so that one rotation serves both.

use super::config::{Architecture, ModelConfig};
use super::source::{Kind, ModelError, ModelSource, TensorInfo};
use crate::inference::kernels::blocks::{self, Format};
use crate::inference::kernels::experts::Expert;
use crate::inference::kernels::matrix::{Matrix, RowSource};

/// All weights of a decoder.
pub struct Weights {
    pub embedding: Matrix, // (vocabulary, hidden)
    pub layers: Vec<Layer>,
    pub norm: Vec<f32>,       // (hidden)
    pub head: Option<Matrix>, // (vocabulary, hidden); absent where the embedding serves
}

/// What computing tokens takes of the machine, without attention.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    shared_bytes: f64, // of weights that every step reads
    expert_bytes: f64, // of all experts
    expert_share: f64, // of the experts that a token is sent to
    layer_ops: f64,    // per token
    head_ops: f64,     // per row of logits
}

impl Cost {
    /// Bytes of weights that a step of one token for each of `sequences` reads, if their experts are chosen apart.
    pub fn step_bytes(&self, sequences: usize) -> f64 {
        let touched = 1.0 - (1.0 - self.expert_share).powi(i32::try_from(sequences).unwrap_or(i32::MAX));
        self.shared_bytes + touched * self.expert_bytes
    }

    /// Operations for `tokens` tokens and `logits` rows of logits; a multiply and an add are two.
    pub fn ops(&self, tokens: usize, logits: usize) -> f64 {
        tokens as f64 * self.layer_ops + logits as f64 * self.head_ops
    }
}

pub struct Layer {
    pub attention_norm: Vec<f32>,    // (hidden)
    pub q: Matrix,                   // (heads * head_dim, hidden)
    pub k: Matrix,                   // (kv_heads * head_dim, hidden)
    pub v: Matrix,                   // (kv_heads * head_dim, hidden)
    pub o: Matrix,                   // (hidden, heads * head_dim)
    pub feed_forward_norm: Vec<f32>, // (hidden)
    pub router: Option<Matrix>,      // (experts, hidden); absent where dense
    pub experts: Vec<Expert>,        // one where dense
}

/// Which order the rows of a tensor are wanted in.
#[derive(Clone, Copy)]
enum Order {
    AsStored,
    /// Rotary heads of this size.
    Rotary(usize),
}

impl Weights {
    /// Loads and packs everything; `progress` is told of finished layers (done, of).
    pub fn load(source: &ModelSource, progress: &dyn Fn(usize, usize)) -> Result<Self, ModelError> {
        let config = source.config();
        let loader = Loader { source, config };
        let embedding = loader.matrix(Role::Embedding, 0, (config.vocabulary, config.hidden), Order::AsStored)?;
        let head = match loader.find(Role::Head, 0) {
            Some(_) => Some(loader.matrix(Role::Head, 0, (config.vocabulary, config.hidden), Order::AsStored)?),
            None => None,
        };
        let mut layers = Vec::with_capacity(config.layers);
        for l in 0..config.layers {
            layers.push(loader.layer(l)?);
            loader.release(l);
            progress(l + 1, config.layers);
        }
        Ok(Self { embedding, layers, norm: loader.vector(Role::Norm, 0)?, head })
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        let layer = |l: &Layer| {
            let experts: usize = l.experts.iter().map(|e| e.gate.bytes() + e.up.bytes() + e.down.bytes()).sum();
            l.q.bytes() + l.k.bytes() + l.v.bytes() + l.o.bytes() + l.router.as_ref().map_or(0, Matrix::bytes) + experts
        };
        self.embedding.bytes()
            + self.head.as_ref().map_or(0, Matrix::bytes)
            + self.layers.iter().map(layer).sum::<usize>()
    }

    /// What a step costs, for the bounds that a benchmark gives.
    pub fn cost(&self, config: &ModelConfig) -> Cost {
        let matrix = |m: &Matrix| [m.bytes() as f64, 2.0 * (m.rows() * m.cols()) as f64];
        let sum = |all: &mut dyn Iterator<Item = [f64; 2]>| all.fold([0.0; 2], |a, b| [a[0] + b[0], a[1] + b[1]]);
        let rest = |l: &Layer| sum(&mut [&l.q, &l.k, &l.v, &l.o].into_iter().chain(l.router.as_ref()).map(matrix));
        let experts = |l: &Layer| sum(&mut l.experts.iter().flat_map(|e| [&e.gate, &e.up, &e.down]).map(matrix));
        let (rest, experts) = (sum(&mut self.layers.iter().map(rest)), sum(&mut self.layers.iter().map(experts)));
        let share = config.experts_per_token as f64 / config.experts.max(1) as f64;
        let head = matrix(self.output());
        Cost {
            shared_bytes: rest[0] + head[0],
            expert_bytes: experts[0],
            expert_share: share,
            layer_ops: rest[1] + share * experts[1],
            head_ops: head[1],
        }
    }

    /// The matrix that turns hidden states into logits.
    pub fn output(&self) -> &Matrix {
        self.head.as_ref().unwrap_or(&self.embedding)
    }
}

/// What a tensor is for, whatever its file calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Embedding,
    Norm,
    Head,
    AttentionNorm,
    Q,
    K,
    V,
    O,
    FeedForwardNorm,
    Router,
    Gate,
    Up,
    Down,
}

impl Role {
    const OF_LAYERS: [Self; 10] = [
        Self::AttentionNorm,
        Self::Q,
        Self::K,
        Self::V,
        Self::O,
        Self::FeedForwardNorm,
        Self::Router,
        Self::Gate,
        Self::Up,
        Self::Down,
    ];

    pub(super) fn gguf_name(self, layer: usize, moe: bool) -> String {
        let part = match self {
            Self::Embedding => return "token_embd.weight".into(),
            Self::Norm => return "output_norm.weight".into(),
            Self::Head => return "output.weight".into(),
            Self::AttentionNorm => "attn_norm",
            Self::Q => "attn_q",
            Self::K => "attn_k",
            Self::V => "attn_v",
            Self::O => "attn_output",
            Self::FeedForwardNorm => "ffn_norm",
            Self::Router => "ffn_gate_inp",
            Self::Gate if moe => "ffn_gate_exps",
            Self::Up if moe => "ffn_up_exps",
            Self::Down if moe => "ffn_down_exps",
            Self::Gate => "ffn_gate",
            Self::Up => "ffn_up",
            Self::Down => "ffn_down",
        };
        format!("blk.{layer}.{part}.weight")
    }

    pub(super) fn safetensors_name(self, layer: usize, moe: bool) -> String {
        let part = match self {
            Self::Embedding => return "model.embed_tokens.weight".into(),
            Self::Norm => return "model.norm.weight".into(),
            Self::Head => return "lm_head.weight".into(),
            Self::AttentionNorm => "input_layernorm",
            Self::Q => "self_attn.q_proj",
            Self::K => "self_attn.k_proj",
            Self::V => "self_attn.v_proj",
            Self::O => "self_attn.o_proj",
            Self::FeedForwardNorm => "post_attention_layernorm",
            Self::Router => "block_sparse_moe.router.layer",
            Self::Gate | Self::Up if moe => "block_sparse_moe.input_linear",
            Self::Down if moe => "block_sparse_moe.output_linear",
            Self::Gate => "mlp.gate_proj",
            Self::Up => "mlp.up_proj",
            Self::Down => "mlp.down_proj",
        };
        format!("model.layers.{layer}.{part}.weight")
    }
}

struct Loader<'a> {
    source: &'a ModelSource,
    config: &'a ModelConfig,
}

impl<'a> Loader<'a> {
    fn moe(&self) -> bool {
        self.config.architecture == Architecture::GraniteMoe
    }

    fn name(&self, role: Role, layer: usize) -> String {
        match self.source.kind {
            Kind::Gguf(_) => role.gguf_name(layer, self.moe()),
            Kind::Safetensors(_) => role.safetensors_name(layer, self.moe()),
        }
    }

    fn find(&self, role: Role, layer: usize) -> Option<&'a TensorInfo> {
        self.source.tensor(&self.name(role, layer))
    }

    fn expect(&self, role: Role, layer: usize, shape: &[usize]) -> Result<&'a TensorInfo, ModelError> {
        let name = self.name(role, layer);
        let info = self
            .source
            .tensor(&name)
            .ok_or_else(|| ModelError::new(self.source.path(), format!("the tensor {name} is missing")))?;
        if info.shape != shape {
            let fact = format!("tensor {name} has the shape {:?}; the configuration asks for {shape:?}", info.shape);
            return Err(ModelError::new(self.source.file_of(info), fact));
        }
        Ok(info)
    }

    fn layer(&self, l: usize) -> Result<Layer, ModelError> {
        let c = self.config;
        let (hidden, q_rows, kv_rows) = (c.hidden, c.heads * c.head_dim, c.kv_heads * c.head_dim);
        let rotary = Order::Rotary(c.head_dim);
        let router = match self.moe() {
            true => Some(self.matrix(Role::Router, l, (c.experts, hidden), Order::AsStored)?),
            false => None,
        };
        Ok(Layer {
            attention_norm: self.vector(Role::AttentionNorm, l)?,
            q: self.matrix(Role::Q, l, (q_rows, hidden), rotary)?,
            k: self.matrix(Role::K, l, (kv_rows, hidden), rotary)?,
            v: self.matrix(Role::V, l, (kv_rows, hidden), Order::AsStored)?,
            o: self.matrix(Role::O, l, (hidden, q_rows), Order::AsStored)?,
            feed_forward_norm: self.vector(Role::FeedForwardNorm, l)?,
            router,
            experts: self.experts(l)?,
        })
    }

    fn experts(&self, l: usize) -> Result<Vec<Expert>, ModelError> {
        let c = self.config;
        let (n, hidden, inner) = (c.experts, c.hidden, c.inner);
        if !self.moe() {
            return Ok(vec![Expert {
                gate: self.matrix(Role::Gate, l, (inner, hidden), Order::AsStored)?,
                up: self.matrix(Role::Up, l, (inner, hidden), Order::AsStored)?,
                down: self.matrix(Role::Down, l, (hidden, inner), Order::AsStored)?,
            }]);
        }
        // One fused tensor (gate rows first) in safetensors, two in GGUF.
        let fused = matches!(self.source.kind, Kind::Safetensors(_));
        let input_rows = if fused { 2 * inner } else { inner };
        let gate = self.expect(Role::Gate, l, &[n, input_rows, hidden])?;
        let up = self.expect(Role::Up, l, &[n, input_rows, hidden])?;
        let down = self.expect(Role::Down, l, &[n, hidden, inner])?;
        let up_from = if fused { inner } else { 0 };
        let [gate, up, down] = if fused {
            [(gate, 0, inner), (up, up_from, inner), (down, 0, hidden)].map(|(info, from, rows)| {
                let each = info.rows() / n;
                (0..n).map(|e| self.rows(info, e * each + from, rows)).collect::<Vec<_>>()
            })
        } else {
            let (g_row, u_row, d_row) = (|i| self.row(gate, i), |i| self.row(up, i), |i| self.row(down, i));
            let gate = RowSource { format: gate.format, rows: gate.rows(), cols: gate.cols(), row: &g_row };
            let up = RowSource { format: up.format, rows: up.rows(), cols: up.cols(), row: &u_row };
            let down = RowSource { format: down.format, rows: down.rows(), cols: down.cols(), row: &d_row };
            let ([gate, up], [down]) = (Matrix::together([&gate, &up], n), Matrix::together([&down], n));
            [gate, up, down]
        };
        let experts = gate.into_iter().zip(up).zip(down);
        Ok(experts.map(|((gate, up), down)| Expert { gate, up, down }).collect())
    }

    fn matrix(&self, role: Role, layer: usize, shape: (usize, usize), order: Order) -> Result<Matrix, ModelError> {
        let info = self.expect(role, layer, &[shape.0, shape.1])?;
        match (order, &self.source.kind) {
            (Order::Rotary(dim), Kind::Gguf(_)) => Ok(self.rows_by(info, shape.0, |i| {
                let (head, within) = (i / dim, i % dim);
                head * dim + 2 * (within % (dim / 2)) + within / (dim / 2)
            })),
            _ => Ok(self.rows(info, 0, shape.0)),
        }
    }

    fn rows(&self, info: &TensorInfo, first: usize, count: usize) -> Matrix {
        self.rows_by(info, count, |i| first + i)
    }

    /// A matrix whose row `i` is row `place(i)` of the tensor.
    fn rows_by(&self, info: &TensorInfo, count: usize, place: impl Fn(usize) -> usize + Sync) -> Matrix {
        let row = |i: usize| self.row(info, place(i));
        Matrix::from_rows(&RowSource { format: info.format, rows: count, cols: info.cols(), row: &row })
    }

    /// The bytes of row `i` of a tensor.
    fn row(&self, info: &TensorInfo, i: usize) -> &'a [u8] {
        let bytes = self.source.bytes(info);
        let len = bytes.len() / info.rows();
        &bytes[i * len..(i + 1) * len]
    }

    /// Gives back what a layer's tensors hold of the file: the packed form is all that is read from now on.
    fn release(&self, layer: usize) {
        for role in Role::OF_LAYERS {
            if let Some(info) = self.find(role, layer) {
                self.source.release(info);
            }
        }
    }

    fn vector(&self, role: Role, layer: usize) -> Result<Vec<f32>, ModelError> {
        let info = self.expect(role, layer, &[self.config.hidden])?;
        if !info.format.is_float() {
            let fact =
                format!("tensor {} is {}; floats are expected", self.name(role, layer), Format::name(info.format));
            return Err(ModelError::new(self.source.file_of(info), fact));
        }
        let mut values = vec![0.0; info.cols()];
        blocks::dequantize_row(info.format, self.source.bytes(info), &mut values);
        Ok(values)
    }
}
