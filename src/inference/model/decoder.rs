//! The forward pass over our kernels. Reads like the paper's figure: norm, attention, norm, experts, logits.

use super::config::ModelConfig;
use super::weights::{Layer, Weights};
use super::{BlockBytes, CausalLm, ForwardBatch, ForwardError, Logits, check_tokens};
use crate::ids::BlockId;
use crate::inference::kernels::attention::{self, KvCache, KvKind, KvShape};
use crate::inference::kernels::experts::{self, Routing};
use crate::inference::kernels::matmul::{Product, Then, matmul};
use crate::inference::kernels::rows::{self, Rope};
use crate::inference::kernels::{Activations, Isa, Matrix, Pool};

/// A decoder on the CPU.
pub struct CpuDecoder {
    config: ModelConfig,
    weights: Weights,
    cache: KvCache,
    rope: Rope,
    isa: Isa,
    pool: Pool,
    buffers: Buffers,
}

/// Rows of logits whose memory is kept from step to step, at most.
const KEPT_LOGITS_MAX: usize = 64;

/// What one forward pass writes and the next one writes again.
struct Buffers {
    hidden: Vec<f32>,      // (rows, hidden): the residual stream
    normed: Activations,   // (rows, hidden)
    q: Vec<f32>,           // (rows, heads * head_dim)
    k: Vec<f32>,           // (rows, kv_heads * head_dim)
    v: Vec<f32>,           // (rows, kv_heads * head_dim)
    attended: Activations, // (rows, heads * head_dim), quantized where `o` is packed
    routed: Vec<f32>,      // (rows, experts): the router's logits
    routing: Routing,
    last: Activations, // (wanted rows, hidden)
    logits: Vec<f32>,  // (wanted rows, vocabulary), while nobody has them
}

impl CpuDecoder {
    /// `blocks` blocks of keys and values of `kind`, and a pool of `threads` threads.
    pub fn new(config: ModelConfig, weights: Weights, isa: Isa, threads: usize, kind: KvKind, blocks: usize) -> Self {
        let shape = KvShape { layers: config.layers, kv_heads: config.kv_heads, head_dim: config.head_dim, kind };
        let packed = |of: &dyn Fn(&Layer) -> bool| weights.layers.iter().any(of);
        let reads_hidden = |l: &Layer| {
            let experts = l.experts.iter().any(|e| e.gate.is_packed() || e.up.is_packed());
            let router = l.router.as_ref().is_some_and(Matrix::is_packed);
            l.q.is_packed() || l.k.is_packed() || l.v.is_packed() || router || experts
        };
        let buffers = Buffers {
            hidden: Vec::new(),
            normed: Activations::new(config.hidden, packed(&reads_hidden)),
            q: Vec::new(),
            k: Vec::new(),
            v: Vec::new(),
            attended: Activations::new(config.heads * config.head_dim, packed(&|l| l.o.is_packed())),
            routed: Vec::new(),
            routing: Routing::new(config.inner, packed(&|l| l.experts.iter().any(|e| e.down.is_packed()))),
            last: Activations::new(config.hidden, weights.output().is_packed()),
            logits: Vec::new(),
        };
        Self {
            rope: Rope::new(config.head_dim, config.rope_theta),
            cache: KvCache::new(shape, blocks),
            pool: Pool::new(threads),
            config,
            weights,
            isa,
            buffers,
        }
    }

    pub fn isa(&self) -> Isa {
        self.isa
    }

    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// Bytes of weights in memory.
    pub fn weight_bytes(&self) -> usize {
        self.weights.bytes()
    }

    /// The shape of its keys and values.
    pub fn kv_shape(&self) -> KvShape {
        self.cache.shape()
    }
}

impl CausalLm for CpuDecoder {
    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn num_blocks(&self) -> usize {
        self.cache.blocks()
    }

    fn forward(&mut self, batch: &ForwardBatch<'_>) -> Result<Logits, ForwardError> {
        let Self { config: c, weights, cache, rope, isa, pool, buffers: b } = self;
        let isa = *isa;
        check_tokens(batch.tokens, c.vocabulary)?;
        let rows = batch.tokens.len();
        b.resize(c, rows, batch.logits_rows.len());

        rows::for_each(pool, &mut b.hidden, c.hidden, |r, row| {
            weights.embedding.read_row(batch.tokens[r] as usize, row);
            row.iter_mut().for_each(|x| *x *= c.embedding_multiplier);
        });
        let angles = angles(rope, batch);
        for (l, layer) in weights.layers.iter().enumerate() {
            // Attention: h += residual * o(attend(rope(q(norm h)), rope(k(norm h)), v(norm h))).
            b.normed.fill(isa, pool, |r, out| {
                rows::rms_norm(isa, row(&b.hidden, r, c.hidden), &layer.attention_norm, c.norm_eps, out)
            });
            matmul(
                isa,
                pool,
                &b.normed,
                &mut [
                    Product { matrix: &layer.q, out: &mut b.q, then: Then::Write },
                    Product { matrix: &layer.k, out: &mut b.k, then: Then::Write },
                    Product { matrix: &layer.v, out: &mut b.v, then: Then::Write },
                ],
            );
            attention::write(isa, pool, cache, l, batch.spans, &mut b.q, &mut b.k, &b.v, |r, q, k| {
                let angles = &angles[r * c.head_dim / 2..(r + 1) * c.head_dim / 2];
                rows::rotate_heads(q, c.head_dim, angles);
                rows::rotate_heads(k, c.head_dim, angles);
            });
            attention::attend(isa, pool, cache, l, batch.spans, c.heads, c.attention_multiplier, &b.q, &mut b.attended);
            let residual = Then::Add(c.residual_multiplier);
            matmul(isa, pool, &b.attended, &mut [Product { matrix: &layer.o, out: &mut b.hidden, then: residual }]);

            // Experts: h += residual * sum of weight * expert(norm h).
            b.normed.fill(isa, pool, |r, out| {
                rows::rms_norm(isa, row(&b.hidden, r, c.hidden), &layer.feed_forward_norm, c.norm_eps, out)
            });
            route(isa, pool, c, layer.router.as_ref(), &b.normed, &mut b.routed, &mut b.routing);
            let (k, factor) = (c.experts_per_token, c.residual_multiplier);
            experts::add(isa, pool, &layer.experts, k, &b.normed, &mut b.routing, factor, &mut b.hidden);
        }
        let wanted = batch.logits_rows;
        b.last.fill(isa, pool, |i, out| {
            rows::rms_norm(isa, row(&b.hidden, wanted[i], c.hidden), &weights.norm, c.norm_eps, out)
        });
        let mut logits = Logits { width: c.vocabulary, values: std::mem::take(&mut b.logits) };
        logits.values.resize(wanted.len() * c.vocabulary, 0.0);
        matmul(
            isa,
            pool,
            &b.last,
            &mut [Product { matrix: weights.output(), out: &mut logits.values, then: Then::Write }],
        );
        if c.logits_divisor != 1.0 {
            rows::for_each(pool, &mut logits.values, c.vocabulary, |_, row| {
                row.iter_mut().for_each(|x| *x /= c.logits_divisor);
            });
        }
        Ok(logits)
    }

    fn take_back(&mut self, logits: Logits) {
        // A whole prompt's are too many to hold on to.
        if logits.values.len() <= KEPT_LOGITS_MAX * logits.width {
            self.buffers.logits = logits.values;
        }
    }

    fn copy_block(&mut self, from: BlockId, to: BlockId) -> Result<(), ForwardError> {
        self.cache.copy_block(from, to);
        Ok(())
    }

    fn block_bytes(&mut self) -> Option<&mut dyn BlockBytes> {
        Some(&mut self.cache)
    }
}

impl BlockBytes for KvCache {
    fn block_bytes(&self) -> usize {
        self.shape().block_bytes()
    }

    fn read_block(&self, block: BlockId, out: &mut Vec<u8>) {
        KvCache::read_block(self, block, out);
    }

    fn write_block(&mut self, block: BlockId, bytes: &[u8]) {
        KvCache::write_block(self, block, bytes);
    }
}

impl Buffers {
    fn resize(&mut self, c: &ModelConfig, rows: usize, wanted: usize) {
        self.hidden.resize(rows * c.hidden, 0.0);
        self.normed.resize(rows);
        self.q.resize(rows * c.heads * c.head_dim, 0.0);
        self.k.resize(rows * c.kv_heads * c.head_dim, 0.0);
        self.v.resize(rows * c.kv_heads * c.head_dim, 0.0);
        self.attended.resize(rows);
        self.last.resize(wanted);
    }
}

fn row(values: &[f32], r: usize, cols: usize) -> &[f32] {
    &values[r * cols..(r + 1) * cols]
}

/// (rows, head_dim / 2): cosine and sine of every rotary pair of every row.
fn angles(rope: &Rope, batch: &ForwardBatch<'_>) -> Vec<(f32, f32)> {
    let mut all = Vec::new();
    let mut one = Vec::new();
    for position in batch.positions() {
        rope.at(position, &mut one);
        all.extend_from_slice(&one);
    }
    all
}

/// Chooses each row's experts; a dense layer's one expert takes every row whole.
fn route(
    isa: Isa,
    pool: &Pool,
    c: &ModelConfig,
    router: Option<&Matrix>,
    x: &Activations,
    logits: &mut Vec<f32>,
    routing: &mut Routing,
) {
    routing.choices.clear();
    let Some(router) = router else {
        routing.choices.resize(x.rows(), (0, 1.0));
        return;
    };
    logits.resize(x.rows() * c.experts, 0.0);
    matmul(isa, pool, x, &mut [Product { matrix: router, out: logits, then: Then::Write }]);
    routing.choices.resize(x.rows() * c.experts_per_token, (0, 0.0));
    rows::top_softmax(pool, logits, c.experts, c.experts_per_token, &mut routing.choices);
}
