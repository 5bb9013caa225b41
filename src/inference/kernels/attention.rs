//! Keys and values in blocks of positions, and causal attention over them.
//!
//! A block holds 32 positions of one layer and one key/value head: the keys transposed, so that sixteen positions
//! are sixteen lanes, then the values row by row. Attention walks a row's blocks in order with an online softmax;
//! the order depends on positions only, so whole and chunked prefill, alone and batched give the same bits.
//! Each key and value is read once for all query heads that share it and for up to `TILE_ROWS` query rows.
//! Bound: 4 * heads * head_dim * depth operations per row against the f32 peak.

use half::f16;

use super::isa::per_isa;
use super::lanes::{LANES, Lanes};
use super::pool::Disjoint;
use super::{Isa, Pool};
use crate::ids::BlockId;

/// Positions per block.
pub const BLOCK_TOKENS: usize = 32;
/// Query rows (tokens x query heads per key/value head) that share one walk over the blocks.
const TILE_ROWS: usize = 32;
/// Query rows whose accumulators are in registers together.
const REGISTER_ROWS: usize = 4;

/// How keys and values are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KvKind {
    F32,
    F16,
}

impl KvKind {
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
        }
    }

    fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
        }
    }
}

/// The sizes of a model's cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvShape {
    pub layers: usize,
    pub kv_heads: usize,
    pub head_dim: usize, // a multiple of 16
    pub kind: KvKind,
}

impl KvShape {
    /// Bytes of one block over all layers and heads.
    pub fn block_bytes(&self) -> usize {
        self.layers * self.kv_heads * self.head_bytes()
    }

    /// Bytes of keys and values of one head in one block.
    fn head_bytes(&self) -> usize {
        2 * BLOCK_TOKENS * self.head_dim * self.kind.bytes()
    }
}

/// The bytes of all blocks. Memory is asked for once and becomes resident as blocks are written.
pub struct KvCache {
    shape: KvShape,
    blocks: usize,
    bytes: Vec<u8>,
    start: usize, // of the first cache line in `bytes`
}

impl KvCache {
    pub fn new(shape: KvShape, blocks: usize) -> Self {
        assert!(shape.head_dim.is_multiple_of(LANES), "head size {} is not a multiple of {LANES}", shape.head_dim);
        // A zeroed Vec comes from fresh pages that cost nothing until touched; it is aligned by hand.
        let bytes = vec![0u8; shape.block_bytes() * blocks + 64];
        let start = bytes.as_ptr().align_offset(64);
        Self { shape, blocks, bytes, start }
    }

    pub fn shape(&self) -> KvShape {
        self.shape
    }

    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// Copies a whole block: what copy-on-write does.
    pub fn copy_block(&mut self, from: BlockId, to: BlockId) {
        for layer in 0..self.shape.layers {
            let (from, to, len) = (self.at(layer, from, 0), self.at(layer, to, 0), self.layer_bytes());
            self.bytes.copy_within(from..from + len, to);
        }
    }

    fn layer_bytes(&self) -> usize {
        self.shape.kv_heads * self.shape.head_bytes()
    }

    /// The offset in `bytes` of a head of a block.
    fn at(&self, layer: usize, block: BlockId, head: usize) -> usize {
        assert!(layer < self.shape.layers && block.index() < self.blocks && head < self.shape.kv_heads);
        self.start + (layer * self.blocks + block.index()) * self.layer_bytes() + head * self.shape.head_bytes()
    }
}

/// Consecutive positions of one sequence among the rows of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Span<'a> {
    pub first_row: usize, // index of the span's first row in the batch
    pub rows: usize,
    pub first_position: usize,      // of that row in its sequence
    pub block_table: &'a [BlockId], // block `p / 32` holds position `p`
}

/// Writes the keys and values of every row of the batch into `layer`'s blocks.
///
/// `keys` and `values`: (rows, kv_heads * head_dim). No block that is written may be shared by two spans.
pub fn write(
    isa: Isa,
    pool: &Pool,
    cache: &mut KvCache,
    layer: usize,
    spans: &[Span<'_>],
    keys: &[f32],
    values: &[f32],
) {
    let (heads, dim, kind) = (cache.shape.kv_heads, cache.shape.head_dim, cache.shape.kind);
    let places: Vec<(usize, usize, usize)> = spans // row, offset of its block's first head, slot in the block
        .iter()
        .flat_map(|s| (0..s.rows).map(move |i| (s, i)))
        .map(|(s, i)| {
            let position = s.first_position + i;
            (s.first_row + i, cache.at(layer, s.block_table[position / BLOCK_TOKENS], 0), position % BLOCK_TOKENS)
        })
        .collect();
    let head_bytes = cache.shape.head_bytes();
    let bytes = Disjoint::new(&mut cache.bytes);
    super::rows::in_chunks(pool, places.len(), 2 * heads * dim, |range| {
        for &(row, offset, slot) in &places[range] {
            for head in 0..heads {
                let at = (row * heads + head) * dim;
                let (k, v) = (&keys[at..at + dim], &values[at..at + dim]);
                // SAFETY: the pieces below are the elements of this row's slot: slots of different rows differ, and
                // the cache outlives the region. Only these elements are touched, never the whole block.
                unsafe { write_head(isa, kind, &bytes, offset + head * head_bytes, slot, k, v) };
            }
        }
    });
}

/// # Safety
/// No other thread writes slot `slot` of the head at `offset` meanwhile.
unsafe fn write_head(isa: Isa, kind: KvKind, bytes: &Disjoint<u8>, offset: usize, slot: usize, k: &[f32], v: &[f32]) {
    let (dim, size) = (k.len(), kind.bytes());
    let values_at = offset + (dim * BLOCK_TOKENS + slot * dim) * size;
    // SAFETY: the slot's elements only, by the caller's obligation.
    unsafe {
        match kind {
            KvKind::F32 => {
                for (d, x) in k.iter().enumerate() {
                    bytes.slice(offset + (d * BLOCK_TOKENS + slot) * 4, 4).copy_from_slice(&x.to_le_bytes());
                }
                for (out, x) in bytes.slice(values_at, dim * 4).as_chunks_mut::<4>().0.iter_mut().zip(v) {
                    *out = x.to_le_bytes();
                }
            }
            KvKind::F16 => {
                let mut halves = [0u16; 256];
                for (part, k) in k.chunks(halves.len()).enumerate() {
                    to_f16(isa, k.as_ptr(), halves.as_mut_ptr(), k.len() / LANES);
                    for (d, h) in halves.iter().take(k.len()).enumerate() {
                        let d = part * halves.len() + d;
                        bytes.slice(offset + (d * BLOCK_TOKENS + slot) * 2, 2).copy_from_slice(&h.to_le_bytes());
                    }
                }
                let out = bytes.slice(values_at, dim * 2);
                to_f16(isa, v.as_ptr(), out.as_mut_ptr().cast(), dim / LANES);
            }
        }
    }
}

per_isa! {
    /// # Safety
    /// - `isa` is available; both pointers are valid for `16 * lanes` values, the output at any alignment.
    unsafe fn to_f16(x: *const f32, out: *mut u16, lanes: usize) = to_f16_body;
}

#[inline(always)]
unsafe fn to_f16_body<L: Lanes>(x: *const f32, out: *mut u16, lanes: usize) {
    for i in 0..lanes {
        // SAFETY: `i < lanes`.
        unsafe { L::load(x.add(i * LANES)).store_f16(out.add(i * LANES)) };
    }
}

/// Attends from every row of the batch to its own and all earlier positions of its sequence.
///
/// `queries` and `out`: (rows, heads * head_dim); `heads` is a multiple of the cache's kv_heads.
#[allow(clippy::too_many_arguments)]
pub fn attend(
    isa: Isa,
    pool: &Pool,
    cache: &KvCache,
    layer: usize,
    spans: &[Span<'_>],
    heads: usize,
    scale: f32,
    queries: &[f32],
    out: &mut [f32],
) {
    let (kv_heads, dim) = (cache.shape.kv_heads, cache.shape.head_dim);
    assert!(heads.is_multiple_of(kv_heads), "{heads} query heads over {kv_heads} key/value heads");
    assert_eq!(queries.len(), out.len());
    let group = heads / kv_heads;
    let per_tile = (TILE_ROWS / group).max(1);
    let tasks: Vec<(usize, usize, usize)> = spans // span, first row in it, kv head
        .iter()
        .enumerate()
        .flat_map(|(s, span)| (0..span.rows).step_by(per_tile).map(move |first| (s, first)))
        // Later rows of a span see more positions: longest first, so that the last task to end is a short one.
        .rev()
        .flat_map(|(s, first)| (0..kv_heads).map(move |head| (s, first, head)))
        .collect();
    let out = Disjoint::new(out);
    pool.run(tasks.len(), |t| {
        let (s, first, kv_head) = tasks[t];
        let span = &spans[s];
        let tokens = per_tile.min(span.rows - first);
        let mut tile = Tile::new(group * tokens, dim);
        let row_of = |i: usize| (span.first_row + first + i / group) * heads + kv_head * group + i % group;
        for i in 0..group * tokens {
            tile.positions[i] = span.first_position + first + i / group;
            tile.queries[i * dim..(i + 1) * dim].copy_from_slice(&queries[row_of(i) * dim..(row_of(i) + 1) * dim]);
        }
        let blocks = (span.first_position + first + tokens).div_ceil(BLOCK_TOKENS);
        for (b, block) in span.block_table[..blocks].iter().enumerate() {
            let bytes = &cache.bytes[cache.at(layer, *block, kv_head)..][..cache.shape.head_bytes()];
            // SAFETY: the slice holds one head of a block of this kind and size; the tile has `rows` rows of `dim`;
            // `isa` is available.
            unsafe { block_step(isa, cache.shape.kind, bytes.as_ptr(), b * BLOCK_TOKENS, dim, scale, &mut tile) };
        }
        for i in 0..group * tokens {
            // SAFETY: one head of one row, written by this task only; `out` outlives the region.
            let out = unsafe { out.slice(row_of(i) * dim, dim) };
            let norm = 1.0 / tile.sums[i];
            out.iter_mut().zip(&tile.out[i * dim..(i + 1) * dim]).for_each(|(o, x)| *o = x * norm);
        }
    });
}

/// The running state of up to [`TILE_ROWS`] query rows (more when one token has more heads than that).
struct Tile {
    positions: Vec<usize>,
    queries: Vec<f32>, // (rows, dim)
    weights: Vec<f32>, // (rows, BLOCK_TOKENS): scores, then their exponentials
    decay: Vec<f32>,   // what the earlier sum is scaled by
    largest: Vec<f32>, // score so far
    sums: Vec<f32>,    // of the exponentials
    out: Vec<f32>,     // (rows, dim)
}

impl Tile {
    fn new(rows: usize, dim: usize) -> Self {
        Self {
            positions: vec![0; rows],
            queries: vec![0.0; rows * dim],
            weights: vec![0.0; rows * BLOCK_TOKENS],
            decay: vec![1.0; rows],
            largest: vec![f32::NEG_INFINITY; rows],
            sums: vec![0.0; rows],
            out: vec![0.0; rows * dim],
        }
    }
}

per_isa! {
    /// Takes one block of keys and values into the tile.
    ///
    /// # Safety
    /// - `isa` is available; `block` holds `BLOCK_TOKENS * dim` keys (transposed) and as many values of `kind`;
    /// - the tile's vectors have the lengths that `Tile::new` gave them for this `dim`, a multiple of 16.
    unsafe fn block_step(
        kind: KvKind,
        block: *const u8,
        first_position: usize,
        dim: usize,
        scale: f32,
        tile: &mut Tile,
    ) = block_step_body;
}

#[inline(always)]
unsafe fn block_step_body<L: Lanes>(
    kind: KvKind,
    block: *const u8,
    first_position: usize,
    dim: usize,
    scale: f32,
    tile: &mut Tile,
) {
    // SAFETY: the caller's obligations, passed on.
    unsafe {
        match kind {
            KvKind::F32 => step::<L, f32>(block.cast(), first_position, dim, scale, tile, |p| L::load(p)),
            KvKind::F16 => step::<L, u16>(block.cast(), first_position, dim, scale, tile, |p| L::load_f16(p)),
        }
    }
}

#[inline(always)]
unsafe fn step<L: Lanes, T>(
    block: *const T,
    first_position: usize,
    dim: usize,
    scale: f32,
    tile: &mut Tile,
    load: impl Fn(*const T) -> L + Copy,
) {
    let rows = tile.positions.len();
    let mut r = 0;
    macro_rules! in_register_rows {
        ($kernel:ident, $pointer:expr) => {
            while r < rows {
                let n = REGISTER_ROWS.min(rows - r);
                match n {
                    1 => $kernel::<L, T, 1>($pointer, dim, scale, r, tile, load),
                    2 => $kernel::<L, T, 2>($pointer, dim, scale, r, tile, load),
                    3 => $kernel::<L, T, 3>($pointer, dim, scale, r, tile, load),
                    _ => $kernel::<L, T, 4>($pointer, dim, scale, r, tile, load),
                }
                r += n;
            }
        };
    }
    // SAFETY: rows `r..r + n` exist; the block's keys come first, its values after `dim * BLOCK_TOKENS` elements.
    unsafe {
        in_register_rows!(scores, block);
        for r in 0..rows {
            let visible = (tile.positions[r] + 1).saturating_sub(first_position).min(BLOCK_TOKENS);
            soften::<L>(tile, r, visible);
        }
        r = 0;
        in_register_rows!(weigh, block.add(dim * BLOCK_TOKENS));
    }
}

/// `weights = scale * (queries . keys)` for N rows and the block's 32 positions.
#[inline(always)]
unsafe fn scores<L: Lanes, T, const N: usize>(
    keys: *const T,
    dim: usize,
    scale: f32,
    r: usize,
    tile: &mut Tile,
    load: impl Fn(*const T) -> L,
) {
    // SAFETY: `d < dim` rows of 32 keys; N rows of `dim` queries and of 32 weights from row `r` on.
    unsafe {
        let queries = tile.queries.as_ptr().add(r * dim);
        let mut acc = [[L::splat(0.0); 2]; N];
        for d in 0..dim {
            let (k0, k1) = (load(keys.add(d * BLOCK_TOKENS)), load(keys.add(d * BLOCK_TOKENS + LANES)));
            for n in 0..N {
                let q = L::splat(*queries.add(n * dim + d));
                acc[n][0] = k0.mul_add(q, acc[n][0]);
                acc[n][1] = k1.mul_add(q, acc[n][1]);
            }
        }
        let weights = tile.weights.as_mut_ptr().add(r * BLOCK_TOKENS);
        for n in 0..N {
            acc[n][0].mul(L::splat(scale)).store(weights.add(n * BLOCK_TOKENS));
            acc[n][1].mul(L::splat(scale)).store(weights.add(n * BLOCK_TOKENS + LANES));
        }
    }
}

/// Turns row `r`'s scores into exponentials relative to the largest so far; positions from `visible` on weigh nothing.
#[inline(always)]
unsafe fn soften<L: Lanes>(tile: &mut Tile, r: usize, visible: usize) {
    // SAFETY: row `r` has 32 weights.
    unsafe {
        let weights = tile.weights.as_mut_ptr().add(r * BLOCK_TOKENS);
        if visible == 0 {
            tile.decay[r] = 1.0;
            L::splat(0.0).store(weights);
            L::splat(0.0).store(weights.add(LANES));
            return;
        }
        let hidden = L::splat(f32::NEG_INFINITY);
        let low = L::load(weights).keep_first(visible.min(LANES), hidden);
        let high = L::load(weights.add(LANES)).keep_first(visible.saturating_sub(LANES), hidden);
        let largest = tile.largest[r].max(low.max(high).largest());
        let zero = L::splat(0.0);
        let low = low.sub(L::splat(largest)).exp().keep_first(visible.min(LANES), zero);
        let high = high.sub(L::splat(largest)).exp().keep_first(visible.saturating_sub(LANES), zero);
        low.store(weights);
        high.store(weights.add(LANES));
        // The first block has nothing to decay: -inf minus a number is clamped by `exp`, and scales zeros.
        let decay = L::splat(tile.largest[r]).sub(L::splat(largest)).exp().largest();
        tile.sums[r] = tile.sums[r] * decay + low.add(high).sum();
        tile.decay[r] = decay;
        tile.largest[r] = largest;
    }
}

/// `out = decay * out + weights . values` for N rows.
#[inline(always)]
unsafe fn weigh<L: Lanes, T, const N: usize>(
    values: *const T,
    dim: usize,
    _scale: f32,
    r: usize,
    tile: &mut Tile,
    load: impl Fn(*const T) -> L,
) {
    // SAFETY: 32 rows of `dim` values, in pieces of sixteen; N rows of weights and of `dim` outputs from row `r` on.
    unsafe {
        let weights = tile.weights.as_ptr().add(r * BLOCK_TOKENS);
        let out = tile.out.as_mut_ptr().add(r * dim);
        for piece in (0..dim).step_by(LANES) {
            let mut acc: [L; N] = std::array::from_fn(|_| L::splat(0.0));
            for n in 0..N {
                acc[n] = L::load(out.add(n * dim + piece)).mul(L::splat(tile.decay[r + n]));
            }
            for j in 0..BLOCK_TOKENS {
                let v = load(values.add(j * dim + piece));
                for n in 0..N {
                    acc[n] = v.mul_add(L::splat(*weights.add(n * BLOCK_TOKENS + j)), acc[n]);
                }
            }
            for n in 0..N {
                acc[n].store(out.add(n * dim + piece));
            }
        }
    }
}

/// Reads one value back, for tests and for keeping blocks elsewhere: key or value `d` of `head` at `slot`.
pub fn read_back(cache: &KvCache, layer: usize, block: BlockId, head: usize, slot: usize, d: usize, key: bool) -> f32 {
    let dim = cache.shape.head_dim;
    let element = if key { d * BLOCK_TOKENS + slot } else { dim * BLOCK_TOKENS + slot * dim + d };
    let at = cache.at(layer, block, head) + element * cache.shape.kind.bytes();
    let bytes = &cache.bytes[at..];
    match cache.shape.kind {
        KvKind::F32 => f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
        KvKind::F16 => f16::from_le_bytes([bytes[0], bytes[1]]).to_f32(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADS: usize = 4;
    const KV_HEADS: usize = 2;
    const DIM: usize = 32;

    fn wave(n: usize, seed: f32) -> Vec<f32> {
        (0..n).map(|i| ((i as f32 + seed) * 0.731).sin() * 1.5).collect()
    }

    /// Attends over `len` positions in chunks of `chunk`, blocks in reverse order.
    fn attend_in_chunks(isa: Isa, kind: KvKind, len: usize, chunk: usize) -> Vec<f32> {
        let shape = KvShape { layers: 2, kv_heads: KV_HEADS, head_dim: DIM, kind };
        let blocks = len.div_ceil(BLOCK_TOKENS);
        let table: Vec<BlockId> = (0..blocks as u32).rev().map(BlockId).collect();
        let mut cache = KvCache::new(shape, blocks);
        let pool = Pool::new(2);
        let (q, k, v) =
            (wave(len * HEADS * DIM, 0.0), wave(len * KV_HEADS * DIM, 5.0), wave(len * KV_HEADS * DIM, 9.0));
        let mut all = Vec::new();
        for first in (0..len).step_by(chunk) {
            let rows = chunk.min(len - first);
            let span = [Span { first_row: 0, rows, first_position: first, block_table: &table }];
            let kv = first * KV_HEADS * DIM..(first + rows) * KV_HEADS * DIM;
            write(isa, &pool, &mut cache, 1, &span, &k[kv.clone()], &v[kv]);
            let q = &q[first * HEADS * DIM..(first + rows) * HEADS * DIM];
            let mut out = vec![0.0; q.len()];
            attend(isa, &pool, &cache, 1, &span, HEADS, 0.2, q, &mut out);
            all.extend(out);
        }
        all
    }

    #[test]
    fn chunks_sets_and_threads_change_no_bit() {
        for kind in [KvKind::F32, KvKind::F16] {
            for len in [1, 15, 16, 17, 31, 32, 33, 100] {
                let truth = attend_in_chunks(Isa::Scalar, kind, len, len);
                for isa in Isa::ALL.into_iter().filter(|i| i.is_available()) {
                    for chunk in [1, 7, 32, len] {
                        let got = attend_in_chunks(isa, kind, len, chunk);
                        let at = got.iter().zip(&truth).position(|(a, b)| a != b);
                        assert_eq!(at, None, "{isa}, {kind:?}, {len} positions in chunks of {chunk}");
                    }
                }
            }
        }
    }

    #[test]
    fn attention_is_the_softmax_of_the_scores_over_the_values() {
        let len = 70;
        let (q, k, v) =
            (wave(len * HEADS * DIM, 0.0), wave(len * KV_HEADS * DIM, 5.0), wave(len * KV_HEADS * DIM, 9.0));
        let got = attend_in_chunks(Isa::detect(), KvKind::F32, len, 13);
        for r in 0..len {
            for h in 0..HEADS {
                let kv = h / (HEADS / KV_HEADS);
                let q = &q[(r * HEADS + h) * DIM..][..DIM];
                let key = |p: usize| &k[(p * KV_HEADS + kv) * DIM..][..DIM];
                let score = |p| q.iter().zip(key(p)).map(|(a, b)| f64::from(a * b)).sum::<f64>() * 0.2;
                let weights: Vec<f64> = (0..=r).map(|p| score(p).exp()).collect();
                let sum: f64 = weights.iter().sum();
                for d in 0..DIM {
                    let value = |p: usize| f64::from(v[(p * KV_HEADS + kv) * DIM + d]);
                    let exact: f64 = weights.iter().enumerate().map(|(p, w)| w / sum * value(p)).sum();
                    let got = f64::from(got[(r * HEADS + h) * DIM + d]);
                    assert!((got - exact).abs() < 1e-5, "row {r} head {h}: {got} is not {exact}");
                }
            }
        }
    }

    #[test]
    fn a_copied_block_reads_as_its_original() {
        let shape = KvShape { layers: 2, kv_heads: 1, head_dim: 16, kind: KvKind::F16 };
        let mut cache = KvCache::new(shape, 3);
        let span = [Span { first_row: 0, rows: 3, first_position: 0, block_table: &[BlockId(2)] }];
        write(Isa::detect(), &Pool::new(1), &mut cache, 1, &span, &wave(48, 0.3), &wave(48, 1.0));
        cache.copy_block(BlockId(2), BlockId(0));
        for (slot, d, key) in [(0, 0, true), (2, 15, true), (1, 7, false)] {
            let of = |b| read_back(&cache, 1, BlockId(b), 0, slot, d, key);
            assert_eq!(of(0), of(2));
            assert!(of(2) != 0.0);
        }
    }
}
