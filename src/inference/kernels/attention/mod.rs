//! Causal attention over keys and values in blocks. Read [`KvCache`] first, then [`attend`].
//!
//! A tile of query rows walks its positions in order, 64 at a time, with an online softmax that starts anew every
//! 2048 positions; the parts are merged in order. All of that depends on positions only, so whole and chunked
//! prefill, alone and batched, one thread and many give the same bits. Each key and value is read once for all query
//! heads that share it and for all rows of a tile.
//! Bound: 4 * heads * head_dim * depth operations per row against the bf16 (or f32) peak, or the bytes of the keys
//! and values against the memory's bandwidth where a tile holds one token.

mod cache;
mod tile;

pub use cache::{BLOCK_TOKENS, KvCache, KvKind, KvShape, Span, write};

use self::tile::{State, Tile};
use super::activations::{BLOCK, Writer};
use super::pool::Disjoint;
use super::{Activations, Isa, Pool};

/// Query rows (tokens x query heads per key/value head) that share one walk over the blocks: 64 of 64 dimensions are
/// 48 KiB with their scores and sums. Half as many were 6 % slower at a depth of 8192.
const TILE_ROWS: usize = 64;
/// Positions whose softmax is taken together, before it is merged with that of the positions before.
const SEGMENT: usize = 2048;

/// Attends from every row of the batch to its own and all earlier positions of its sequence.
///
/// `queries`: (rows, heads * head_dim); `heads` is a multiple of the cache's kv_heads. `out` gets as many values.
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
    out: &mut Activations,
) {
    let shape = cache.shape();
    assert!(heads.is_multiple_of(shape.kv_heads), "{heads} query heads over {} key/value heads", shape.kv_heads);
    assert_eq!((queries.len(), out.cols()), (out.rows() * heads * shape.head_dim, heads * shape.head_dim));
    cache::assert_spans(spans, out.rows());
    let work = Work { isa, cache, layer, spans, group: heads / shape.kv_heads, scale, queries };
    // A task's columns are quantized by the task where they are whole blocks, and all together afterwards where not.
    let apart = out.is_quantized() && !(work.group * shape.head_dim).is_multiple_of(BLOCK);
    let writer = out.writer();
    work.run(pool, &if apart { writer.floats_only() } else { writer });
    if apart {
        out.fill(isa, pool, |_, _| ());
    }
}

/// What all tasks of one call share.
struct Work<'a> {
    isa: Isa,
    cache: &'a KvCache,
    layer: usize,
    spans: &'a [Span<'a>],
    group: usize, // query heads per key/value head
    scale: f32,
    queries: &'a [f32],
}

/// Some tokens of a span and one key/value head.
struct Task {
    span: usize,
    first: usize, // token in the span
    tokens: usize,
    kv_head: usize,
    positions: usize, // that its last token sees
}

impl Task {
    fn rows(&self, group: usize) -> usize {
        group * self.tokens
    }
}

impl Work<'_> {
    fn run(&self, pool: &Pool, out: &Writer<'_>) {
        let (tasks, dim) = (self.tasks(), self.cache.shape().head_dim);
        let segments = |t: &Task| t.positions.div_ceil(SEGMENT);
        let most = tasks.iter().map(segments).max().unwrap_or(0);
        if most <= 1 || tasks.len() >= 2 * pool.threads() {
            pool.run(tasks.len(), |t| {
                let task = &tasks[t];
                let mut tile = self.tile(task);
                let mut all = State::new(task.rows(self.group), dim);
                for s in 0..segments(task) {
                    self.segment(task, s, &mut tile);
                    all.merge(self.isa, &tile.state);
                }
                self.put(task, &all, out);
            });
            return;
        }
        // Few rows far into long sequences: their segments are tasks of their own, merged in the same order.
        let parts: Vec<(usize, usize)> =
            tasks.iter().enumerate().flat_map(|(t, task)| (0..segments(task)).map(move |s| (t, s))).collect();
        let mut states: Vec<Option<State>> = parts.iter().map(|_| None).collect();
        let slots = Disjoint::new(&mut states);
        pool.run(parts.len(), |p| {
            let (t, s) = parts[p];
            let mut tile = self.tile(&tasks[t]);
            self.segment(&tasks[t], s, &mut tile);
            // SAFETY: each part has its own slot, and the slots outlive the region.
            let slot = unsafe { slots.slice(p, 1) };
            slot[0] = Some(tile.state);
        });
        let mut states = states.into_iter().flatten();
        for task in &tasks {
            let mut all = State::new(task.rows(self.group), dim);
            states.by_ref().take(segments(task)).for_each(|part| all.merge(self.isa, &part));
            self.put(task, &all, out);
        }
    }

    fn tasks(&self) -> Vec<Task> {
        let per_tile = (TILE_ROWS / self.group).max(1);
        let mut tasks = Vec::new();
        for (s, span) in self.spans.iter().enumerate() {
            // Head by head, so that tiles that are worked on together read the same keys; later tokens see more
            // positions and go first, so that the last task to end is a short one.
            for kv_head in 0..self.cache.shape().kv_heads {
                tasks.extend((0..span.rows).step_by(per_tile).rev().map(|first| {
                    let tokens = per_tile.min(span.rows - first);
                    Task { span: s, first, tokens, kv_head, positions: span.first_position + first + tokens }
                }));
            }
        }
        tasks
    }

    /// The index of token `i`'s values in the queries, for the task's query heads.
    fn row(&self, task: &Task, i: usize) -> (usize, usize) {
        let (shape, width) = (self.cache.shape(), self.group * self.cache.shape().head_dim);
        debug_assert!(task.kv_head < shape.kv_heads);
        (self.spans[task.span].first_row + task.first + i, task.kv_head * width)
    }

    fn tile(&self, task: &Task) -> Tile {
        let dim = self.cache.shape().head_dim;
        let mut tile = Tile::new(task.rows(self.group), dim, self.cache.shape().kind);
        let row_width = self.cache.shape().kv_heads * self.group * dim;
        for i in 0..task.tokens {
            let (row, column) = self.row(task, i);
            let position = self.spans[task.span].first_position + task.first + i;
            for h in 0..self.group {
                let at = row * row_width + column + h * dim;
                tile.set_query(self.isa, i * self.group + h, position, self.scale, &self.queries[at..at + dim]);
            }
        }
        tile
    }

    /// Walks the task's positions in segment `s`.
    fn segment(&self, task: &Task, s: usize, tile: &mut Tile) {
        tile.state.clear();
        let table = self.spans[task.span].block_table;
        let blocks = s * SEGMENT / BLOCK_TOKENS..task.positions.min((s + 1) * SEGMENT).div_ceil(BLOCK_TOKENS);
        for first in blocks.clone().step_by(tile::BLOCKS_PER_STEP) {
            let end = blocks.end.min(first + tile::BLOCKS_PER_STEP);
            let next = &table[end..blocks.end.min(end + tile::BLOCKS_PER_STEP)];
            tile.step(self.isa, self.cache, self.layer, task.kv_head, first * BLOCK_TOKENS, &table[first..end], next);
        }
    }

    /// Writes the task's results.
    fn put(&self, task: &Task, state: &State, out: &Writer<'_>) {
        let dim = self.cache.shape().head_dim;
        for i in 0..task.tokens {
            let (row, column) = self.row(task, i);
            // SAFETY: these heads of this row are the task's alone; `isa` is available.
            unsafe {
                out.with(self.isa, row, column, self.group * dim, |out| {
                    for (h, out) in out.chunks_exact_mut(dim).enumerate() {
                        state.result(self.isa, i * self.group + h, out);
                    }
                });
            }
        }
    }
}

#[cfg(test)]
mod tests;
