//! A tile of query rows on its way over the blocks of one head: scores, softmax, weighted values.

use super::super::Isa;
use super::super::isa::per_isa;
use super::super::lanes::{LANES, Lanes};
use super::cache::{BLOCK_TOKENS, KvCache, KvKind};
use crate::ids::BlockId;

/// Blocks that are taken in together, so that the running sums are rescaled half as often.
pub(super) const BLOCKS_PER_STEP: usize = 2;
/// Positions of a step.
const STEP: usize = BLOCKS_PER_STEP * BLOCK_TOKENS;
/// Runs of sixteen positions in a step.
const RUNS: usize = STEP / LANES;
/// Two bfloat16 ones.
const ONES: u32 = 0x3F80_3F80;

/// Sixteen floats on a cache line of their own.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; LANES]);

const ZEROS: Line = Line([0.0; LANES]);

/// What the online softmax knows of each row.
pub(super) struct State {
    rows: usize,
    largest: Vec<f32>, // score so far; padded to whole runs of sixteen
    sums: Vec<Line>,   // of the exponentials, in sixteen lanes
    out: Vec<Line>,    // (rows, dim)
}

impl State {
    pub fn new(rows: usize, dim: usize) -> Self {
        Self {
            rows,
            largest: vec![f32::NEG_INFINITY; rows.next_multiple_of(LANES)],
            sums: vec![ZEROS; rows],
            out: vec![ZEROS; rows * dim / LANES],
        }
    }

    pub fn clear(&mut self) {
        self.largest.fill(f32::NEG_INFINITY);
        self.sums.fill(ZEROS);
        self.out.fill(ZEROS);
    }

    /// Takes in what later positions gave.
    pub fn merge(&mut self, isa: Isa, later: &Self) {
        assert_eq!((self.rows, self.out.len()), (later.rows, later.out.len()), "states of the same tile");
        // SAFETY: `isa` is available; the states have the same sizes.
        unsafe { merge(isa, self, later) }
    }

    /// The values of row `r`, weighted.
    pub fn result(&self, isa: Isa, r: usize, out: &mut [f32]) {
        let lines = out.len() / LANES;
        // SAFETY: `isa` is available; the slices hold one row of `dim` values.
        unsafe { result(isa, &self.sums[r], &self.out[r * lines..(r + 1) * lines], out) }
    }
}

per_isa! {
    /// # Safety
    /// - `isa` is available; both states have the same sizes.
    unsafe fn merge(all: &mut State, later: &State) = merge_body;
}

#[inline(always)]
unsafe fn merge_body<L: Lanes>(all: &mut State, later: &State) {
    let lines = all.out.len() / all.rows;
    for r in 0..all.rows {
        let largest = all.largest[r].max(later.largest[r]);
        // SAFETY: register operations, and lines of sixteen values. A side that has seen nothing has the largest score
        // minus infinity, which `exp` clamps, and zeros to weigh.
        unsafe {
            let before = L::splat(all.largest[r]).sub(L::splat(largest)).exp();
            let after = L::splat(later.largest[r]).sub(L::splat(largest)).exp();
            macro_rules! add {
                ($x:expr, $y:expr) => {{
                    let sum = L::load($x.0.as_ptr()).mul(before);
                    L::load($y.0.as_ptr()).mul_add(after, sum).store($x.0.as_mut_ptr());
                }};
            }
            add!(all.sums[r], later.sums[r]);
            for i in r * lines..(r + 1) * lines {
                add!(all.out[i], later.out[i]);
            }
        }
        all.largest[r] = largest;
    }
}

per_isa! {
    /// # Safety
    /// - `isa` is available; `out` holds the sixteen values of each line.
    unsafe fn result(sums: &Line, lines: &[Line], out: &mut [f32]) = result_body;
}

#[inline(always)]
unsafe fn result_body<L: Lanes>(sums: &Line, lines: &[Line], out: &mut [f32]) {
    // SAFETY: sixteen values each.
    unsafe {
        let norm = L::splat(1.0 / L::load(sums.0.as_ptr()).sum());
        for (line, out) in lines.iter().zip(out.chunks_exact_mut(LANES)) {
            L::load(line.0.as_ptr()).mul(norm).store(out.as_mut_ptr());
        }
    }
}

/// Query rows and the buffers of a step.
pub(super) struct Tile {
    kind: KvKind,
    dim: usize,
    positions: Vec<usize>,
    queries: Vec<Line>,       // (rows, dim) as floats, or (rows, dim / 2) pairs of bfloat16; scaled
    scores: Vec<Line>,        // (rows, STEP), then the exponentials where they stay floats
    probs: Vec<Line>,         // (rows, STEP) in bfloat16, two positions a pair
    highest: Vec<f32>,        // largest score with this step; padded as in the state
    decay: Vec<f32>,          // what the earlier sums are scaled by; padded
    unpacked: Vec<Line>,      // keys, then values of a step in bfloat16, where they are kept in bytes
    scales: [Line; 2 * RUNS], // of the keys, then of the values, where they are kept in bytes
    ask: [*const u8; BLOCKS_PER_STEP], // heads of the next step's blocks, to ask for meanwhile; null: nothing
    pub state: State,
}

impl Tile {
    pub fn new(rows: usize, dim: usize, kind: KvKind) -> Self {
        let halves = kind != KvKind::F32;
        let query_lines = if halves { dim.div_ceil(2 * LANES) } else { dim / LANES };
        let step_lines = |used: bool| if used { rows * RUNS } else { 0 };
        Self {
            kind,
            dim,
            positions: vec![0; rows],
            queries: vec![ZEROS; rows * query_lines],
            scores: vec![ZEROS; step_lines(true)],
            probs: vec![ZEROS; step_lines(halves).div_ceil(2)],
            highest: vec![f32::NEG_INFINITY; rows.next_multiple_of(LANES)],
            decay: vec![1.0; rows.next_multiple_of(LANES)],
            unpacked: vec![ZEROS; if kind == KvKind::Q8_0 { STEP * dim / LANES } else { 0 }],
            scales: [ZEROS; 2 * RUNS],
            ask: [std::ptr::null(); BLOCKS_PER_STEP],
            state: State::new(rows, dim),
        }
    }

    fn rows(&self) -> usize {
        self.positions.len()
    }

    /// What rows from `r` on ask for while they are at block `b` of a step: the first rows for all.
    fn to_ask(&self, r: usize, b: usize) -> *const u8 {
        // Bytes are asked for where they are widened.
        if r == 0 && self.kind == KvKind::Bf16 { self.ask[b] } else { std::ptr::null() }
    }

    /// Lines of a query row.
    fn query_lines(&self) -> usize {
        self.queries.len() / self.rows()
    }

    /// Sets row `r`: its position, and its query times `scale`.
    pub fn set_query(&mut self, isa: Isa, r: usize, position: usize, scale: f32, query: &[f32]) {
        assert_eq!(query.len(), self.dim);
        self.positions[r] = position;
        let lines = self.query_lines();
        let to = self.queries[r * lines..(r + 1) * lines].as_mut_ptr();
        // SAFETY: `isa` is available; the row's lines hold `dim` values of its kind.
        unsafe { scale_query(isa, self.kind, query, scale, to.cast()) }
    }

    /// Takes in the keys and values of `blocks`, the first of which holds position `first_position` and more; those of
    /// `next`, which come after them, are asked for meanwhile.
    pub fn step(
        &mut self,
        isa: Isa,
        cache: &KvCache,
        layer: usize,
        head: usize,
        first_position: usize,
        blocks: &[BlockId],
        next: &[BlockId],
    ) {
        assert!(!blocks.is_empty() && blocks.len() <= BLOCKS_PER_STEP, "{} blocks in a step", blocks.len());
        assert_eq!((cache.shape().kind, cache.shape().head_dim), (self.kind, self.dim), "the tile's kind of cache");
        let mut bytes = [std::ptr::null(); BLOCKS_PER_STEP];
        for (bytes, block) in bytes.iter_mut().zip(blocks) {
            *bytes = cache.head(layer, *block, head).as_ptr();
        }
        self.ask = [std::ptr::null(); BLOCKS_PER_STEP];
        for (ask, block) in self.ask.iter_mut().zip(next) {
            *ask = cache.head(layer, *block, head).as_ptr();
        }
        // SAFETY: each pointer is to a head of a block of this kind and size; `isa` is available.
        unsafe { step(isa, self, &bytes, blocks.len(), first_position) }
    }
}

per_isa! {
    /// # Safety
    /// - `isa` is available; `to` is valid for the query's values as floats, or in bfloat16 unless `kind` is f32.
    unsafe fn scale_query(kind: KvKind, query: &[f32], scale: f32, to: *mut f32) = scale_query_body;
}

#[inline(always)]
unsafe fn scale_query_body<L: Lanes>(kind: KvKind, query: &[f32], scale: f32, to: *mut f32) {
    for (i, query) in query.chunks_exact(LANES).enumerate() {
        // SAFETY: sixteen values each, inside the query and inside `to`.
        unsafe {
            let scaled = L::load(query.as_ptr()).mul(L::splat(scale));
            match kind {
                KvKind::F32 => scaled.store(to.add(i * LANES)),
                KvKind::Bf16 | KvKind::Q8_0 => scaled.store_bf16(to.cast::<u16>().add(i * LANES)),
            }
        }
    }
}

per_isa! {
    /// # Safety
    /// - `isa` is available; the first `n` pointers are to heads of blocks of the tile's kind and size.
    unsafe fn step(tile: &mut Tile, blocks: &[*const u8; BLOCKS_PER_STEP], n: usize, first_position: usize) = step_body;
}

#[inline(always)]
unsafe fn step_body<L: Lanes>(tile: &mut Tile, blocks: &[*const u8; BLOCKS_PER_STEP], n: usize, first_position: usize) {
    let (dim, rows) = (tile.dim, tile.rows());
    /// Calls a kernel for all rows, as many at a time as the registers hold.
    macro_rules! for_rows {
        ($kernel:ident($($arg:expr),*)) => {{
            let mut r = 0;
            while r < rows {
                r += match rows - r {
                    1 => { $kernel::<L, 1>(tile, r, $($arg),*); 1 }
                    2 | 3 => { $kernel::<L, 2>(tile, r, $($arg),*); 2 }
                    4..=7 => { $kernel::<L, 4>(tile, r, $($arg),*); 4 }
                    _ => { $kernel::<L, 8>(tile, r, $($arg),*); 8 }
                };
            }
        }};
    }
    // SAFETY: keys come first in a head, then as many values, then the scales of bytes; rows `r..r + N` exist.
    unsafe {
        match tile.kind {
            KvKind::F32 => {
                let keys = blocks.map(|b| b.cast::<f32>());
                for_rows!(scores_f32(&keys, n));
                soften::<L>(tile, n, first_position);
                let values = keys.map(|k| k.wrapping_add(dim * BLOCK_TOKENS));
                for_rows!(weigh_f32(&values, n));
            }
            KvKind::Bf16 => {
                for_rows!(scores_bf16(blocks, n));
                soften::<L>(tile, n, first_position);
                let values = blocks.map(|k| k.wrapping_add(dim * BLOCK_TOKENS * 2));
                for_rows!(weigh_bf16(&values, n));
            }
            KvKind::Q8_0 => {
                let (keys, values) = unpack::<L>(tile, blocks, n);
                for_rows!(scores_bf16(&keys, n));
                soften::<L>(tile, n, first_position);
                for_rows!(weigh_bf16(&values, n));
            }
        }
    }
}

/// Widens a step's keys and values, and collects their scales; returns where the widened ones are.
#[inline(always)]
unsafe fn unpack<L: Lanes>(
    tile: &mut Tile,
    blocks: &[*const u8; BLOCKS_PER_STEP],
    n: usize,
) -> ([*const u8; BLOCKS_PER_STEP], [*const u8; BLOCKS_PER_STEP]) {
    let elements = tile.dim * BLOCK_TOKENS; // of a block's keys, and of its values
    let to = tile.unpacked.as_mut_ptr().cast::<u8>();
    // SAFETY: the buffer holds a step of keys and values, two bytes each; a block holds both and 64 scales.
    unsafe {
        let keys = std::array::from_fn(|b| to.add(b * elements * 2).cast_const());
        let values = std::array::from_fn(|b| to.add((BLOCKS_PER_STEP + b) * elements * 2).cast_const());
        for (b, block) in blocks.iter().enumerate().take(n) {
            for (offset, to) in [(0, keys[b]), (elements, values[b])] {
                let from = block.add(offset);
                for i in (0..elements).step_by(2 * LANES) {
                    if !tile.ask[b].is_null() {
                        L::prefetch(tile.ask[b].wrapping_add(offset + i));
                    }
                    L::store_bytes(L::load_i8_as_bf16(from.add(i).cast()), to.cast_mut().add(i * 2));
                }
            }
            let scales = block.add(2 * elements).cast::<f32>();
            for run in 0..2 {
                let run_of_step = b * 2 + run;
                L::load(scales.add(run * LANES)).store(tile.scales[run_of_step].0.as_mut_ptr());
                let of_values = scales.add(BLOCK_TOKENS + run * LANES);
                L::load(of_values).store(tile.scales[RUNS + run_of_step].0.as_mut_ptr());
            }
        }
        (keys, values)
    }
}

/// `scores = queries . keys` for N rows.
#[inline(always)]
unsafe fn scores_f32<L: Lanes, const N: usize>(
    tile: &mut Tile,
    r: usize,
    keys: &[*const f32; BLOCKS_PER_STEP],
    n: usize,
) {
    let dim = tile.dim;
    // SAFETY: `dim` rows of 32 keys in each of `n` blocks; N rows of `dim` queries and of a step's scores from `r` on.
    unsafe {
        let queries = tile.queries.as_ptr().cast::<f32>().add(r * dim);
        for (b, keys) in keys.iter().enumerate().take(n) {
            let mut acc = [[L::splat(0.0); 2]; N];
            for d in 0..dim {
                let k = [L::load(keys.add(d * BLOCK_TOKENS)), L::load(keys.add(d * BLOCK_TOKENS + LANES))];
                for t in 0..N {
                    let q = L::splat(*queries.add(t * dim + d));
                    acc[t][0] = k[0].mul_add(q, acc[t][0]);
                    acc[t][1] = k[1].mul_add(q, acc[t][1]);
                }
            }
            store_scores(tile, r, b, &acc);
        }
    }
}

/// `scores = queries . keys` for N rows, in pairs of bfloat16.
#[inline(always)]
unsafe fn scores_bf16<L: Lanes, const N: usize>(
    tile: &mut Tile,
    r: usize,
    keys: &[*const u8; BLOCKS_PER_STEP],
    n: usize,
) {
    let (pairs, row_pairs) = (tile.dim / 2, tile.query_lines() * LANES);
    // SAFETY: `pairs` rows of 32 pairs of keys in each of `n` blocks; N rows of `pairs` query pairs from `r` on.
    unsafe {
        let mut queries = [tile.queries.as_ptr().cast::<u32>(); N];
        for t in 0..N {
            queries[t] = queries[t].add((r + t) * row_pairs);
        }
        for (b, keys) in keys.iter().enumerate().take(n) {
            let mut acc = [[L::splat(0.0); 2]; N];
            let ask = tile.to_ask(r, b);
            for i in 0..pairs {
                if !ask.is_null() {
                    L::prefetch(ask.wrapping_add(i * 128));
                    L::prefetch(ask.wrapping_add(i * 128 + 64));
                }
                let k = [L::load_bytes(keys.add(i * 128)), L::load_bytes(keys.add(i * 128 + 64))];
                for t in 0..N {
                    let q = *queries[t].add(i);
                    acc[t][0] = acc[t][0].dot_bf16(k[0], q);
                    acc[t][1] = acc[t][1].dot_bf16(k[1], q);
                }
            }
            store_scores(tile, r, b, &acc);
        }
    }
}

/// Stores the scores of N rows for block `b` of the step, times the keys' scales where they have some.
#[inline(always)]
unsafe fn store_scores<L: Lanes, const N: usize>(tile: &mut Tile, r: usize, b: usize, acc: &[[L; 2]; N]) {
    for t in 0..N {
        for half in 0..2 {
            let run = b * 2 + half;
            // SAFETY: sixteen values each.
            unsafe {
                let score = match tile.kind {
                    KvKind::Q8_0 => acc[t][half].mul(L::load(tile.scales[run].0.as_ptr())),
                    KvKind::F32 | KvKind::Bf16 => acc[t][half],
                };
                score.store(tile.scores[(r + t) * RUNS + run].0.as_mut_ptr());
            }
        }
    }
}

/// Turns all rows' scores into exponentials relative to the largest so far; positions that a row does not see weigh
/// nothing, and a row that sees none of the step stays as it is.
#[inline(always)]
unsafe fn soften<L: Lanes>(tile: &mut Tile, n: usize, first_position: usize) {
    let (rows, runs) = (tile.rows(), n * 2);
    let visible = |tile: &Tile, r: usize| (tile.positions[r] + 1).saturating_sub(first_position).min(runs * LANES);
    // SAFETY: every row has a line of scores and half a line of weights for each run; the padded vectors hold whole
    // runs of sixteen rows.
    unsafe {
        let hidden = L::splat(f32::NEG_INFINITY);
        for r in 0..rows {
            let seen = visible(tile, r);
            let mut largest = hidden;
            for run in 0..runs {
                let scores = L::load(tile.scores[r * RUNS + run].0.as_ptr());
                largest = largest.max(if seen >= (run + 1) * LANES {
                    scores
                } else {
                    scores.keep_first(seen.saturating_sub(run * LANES), hidden)
                });
            }
            tile.highest[r] = tile.state.largest[r].max(largest.largest());
        }
        for first in (0..rows).step_by(LANES) {
            let before = L::load(tile.state.largest.as_ptr().add(first));
            let now = L::load(tile.highest.as_ptr().add(first));
            // Nothing seen before: minus infinity is clamped by `exp`, and scales zeros. Nothing at all: not a number
            // becomes a number by the clamp, and scales zeros too.
            before.sub(now).exp().store(tile.decay.as_mut_ptr().add(first));
            now.store(tile.state.largest.as_mut_ptr().add(first));
        }
        for r in 0..rows {
            let seen = visible(tile, r);
            let largest = L::splat(tile.highest[r]);
            let mut sum = L::load(tile.state.sums[r].0.as_ptr()).mul(L::splat(tile.decay[r]));
            let probs = tile.probs.as_mut_ptr().cast::<u16>().wrapping_add(r * STEP);
            for run in 0..runs {
                let scores = &mut tile.scores[r * RUNS + run].0;
                let mut weights = L::load(scores.as_ptr()).sub(largest).exp();
                if seen < (run + 1) * LANES {
                    weights = weights.keep_first(seen.saturating_sub(run * LANES), L::splat(0.0));
                }
                match tile.kind {
                    KvKind::F32 => {
                        sum = sum.add(weights);
                        weights.store(scores.as_mut_ptr());
                    }
                    KvKind::Bf16 => weights.store_bf16(probs.add(run * LANES)),
                    KvKind::Q8_0 => {
                        sum = sum.add(weights);
                        let scale = L::load(tile.scales[RUNS + run].0.as_ptr());
                        weights.mul(scale).store_bf16(probs.add(run * LANES));
                    }
                }
            }
            if tile.kind == KvKind::Bf16 {
                // What is summed is what will weigh: the rounded weights.
                for pair in 0..n {
                    sum = sum.dot_bf16(L::load_bytes(probs.add(pair * 2 * LANES).cast()), ONES);
                }
            }
            sum.store(tile.state.sums[r].0.as_mut_ptr());
        }
    }
}

/// `out = decay * out + weights . values` for N rows.
#[inline(always)]
unsafe fn weigh_f32<L: Lanes, const N: usize>(
    tile: &mut Tile,
    r: usize,
    values: &[*const f32; BLOCKS_PER_STEP],
    n: usize,
) {
    let dim = tile.dim;
    // SAFETY: 32 rows of `dim` values in each of `n` blocks; N rows of a step's weights and of `dim` sums from `r` on.
    unsafe {
        let weights = tile.scores.as_ptr().cast::<f32>().add(r * STEP);
        let out = tile.state.out.as_mut_ptr().cast::<f32>().add(r * dim);
        for piece in (0..dim).step_by(LANES) {
            let mut acc = [L::splat(0.0); N];
            for t in 0..N {
                acc[t] = L::load(out.add(t * dim + piece)).mul(L::splat(tile.decay[r + t]));
            }
            for (b, values) in values.iter().enumerate().take(n) {
                for j in 0..BLOCK_TOKENS {
                    let v = L::load(values.add(j * dim + piece));
                    for t in 0..N {
                        acc[t] = v.mul_add(L::splat(*weights.add(t * STEP + b * BLOCK_TOKENS + j)), acc[t]);
                    }
                }
            }
            for t in 0..N {
                acc[t].store(out.add(t * dim + piece));
            }
        }
    }
}

/// The same in pairs of bfloat16.
#[inline(always)]
unsafe fn weigh_bf16<L: Lanes, const N: usize>(
    tile: &mut Tile,
    r: usize,
    values: &[*const u8; BLOCKS_PER_STEP],
    n: usize,
) {
    let mut piece = 0;
    // SAFETY: as for `weigh_pieces`; `dim` is a multiple of sixteen.
    unsafe {
        while piece + 2 * LANES <= tile.dim {
            weigh_pieces::<L, N, 2>(tile, r, values, n, piece);
            piece += 2 * LANES;
        }
        if piece < tile.dim {
            weigh_pieces::<L, N, 1>(tile, r, values, n, piece);
        }
    }
}

/// Sums `16 * V` dimensions from `piece` on, for N rows.
#[inline(always)]
unsafe fn weigh_pieces<L: Lanes, const N: usize, const V: usize>(
    tile: &mut Tile,
    r: usize,
    values: &[*const u8; BLOCKS_PER_STEP],
    n: usize,
    piece: usize,
) {
    let dim = tile.dim;
    // SAFETY: sixteen rows of `dim` pairs of values in each of `n` blocks; N rows of a step's weights in pairs and of
    // `dim` sums from `r` on.
    unsafe {
        let mut weights = [tile.probs.as_ptr().cast::<u32>(); N];
        let mut out = [tile.state.out.as_mut_ptr().cast::<f32>(); N];
        let mut acc = [[L::splat(0.0); V]; N];
        for t in 0..N {
            weights[t] = weights[t].add((r + t) * STEP / 2);
            out[t] = out[t].add((r + t) * dim + piece);
            for v in 0..V {
                acc[t][v] = L::load(out[t].add(v * LANES)).mul(L::splat(tile.decay[r + t]));
            }
        }
        for (b, values) in values.iter().enumerate().take(n) {
            let ask = tile.to_ask(r, b);
            for j in 0..BLOCK_TOKENS / 2 {
                let at = values.add((j * dim + piece) * 4);
                if !ask.is_null() {
                    for v in 0..V {
                        // Behind the keys, which take as many bytes.
                        L::prefetch(ask.wrapping_add((BLOCK_TOKENS / 2 * dim + j * dim + piece) * 4 + v * 64));
                    }
                }
                let mut pairs = [L::load_bytes(at); V];
                for v in 1..V {
                    pairs[v] = L::load_bytes(at.add(v * 64));
                }
                for t in 0..N {
                    let p = *weights[t].add(b * BLOCK_TOKENS / 2 + j);
                    for v in 0..V {
                        acc[t][v] = acc[t][v].dot_bf16(pairs[v], p);
                    }
                }
            }
        }
        for t in 0..N {
            for v in 0..V {
                acc[t][v].store(out[t].add(v * LANES));
            }
        }
    }
}
