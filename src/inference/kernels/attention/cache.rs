//! Keys and values in blocks of 32 positions, laid out for the kernels.
//!
//! A block holds 32 positions of one layer and one key/value head, keys first. In f32: keys transposed, (head_dim, 32),
//! so that sixteen positions are sixteen lanes; values row by row, (32, head_dim). In bf16 the same in pairs, for dot
//! products of two: keys (head_dim / 2, 32, 2), values (16, head_dim, 2), a pair being two positions. In q8_0 the
//! pairs are signed bytes, and 32 f32 scales of the keys and 32 of the values follow, one for each position.

use super::super::isa::per_isa;
use super::super::lanes::{LANES, Lanes};
use super::super::pool::Disjoint;
use super::super::region::Region;
use super::super::{Isa, Pool, rows};
use crate::ids::BlockId;

/// Positions per block.
pub const BLOCK_TOKENS: usize = 32;

/// How keys and values are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KvKind {
    F32,
    Bf16,
    /// A signed byte each, with a scale per position and head.
    Q8_0,
}

impl KvKind {
    pub const ALL: [Self; 3] = [Self::F32, Self::Bf16, Self::Q8_0];

    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Q8_0 => "q8_0",
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
        self.layers * self.layer_bytes()
    }

    fn layer_bytes(&self) -> usize {
        self.kv_heads * self.head_bytes()
    }

    /// Bytes of the keys of one head in one block; the values take as many, without their scales.
    pub(super) fn key_bytes(&self) -> usize {
        let size = match self.kind {
            KvKind::F32 => 4,
            KvKind::Bf16 => 2,
            KvKind::Q8_0 => 1,
        };
        BLOCK_TOKENS * self.head_dim * size
    }

    /// Bytes of keys and values of one head in one block.
    pub(super) fn head_bytes(&self) -> usize {
        2 * self.key_bytes() + if self.kind == KvKind::Q8_0 { 2 * BLOCK_TOKENS * 4 } else { 0 }
    }
}

/// The bytes of all blocks. Memory is asked for once and becomes resident as blocks are written.
pub struct KvCache {
    shape: KvShape,
    blocks: usize,
    bytes: Region,
}

impl KvCache {
    pub fn new(shape: KvShape, blocks: usize) -> Self {
        assert!(shape.head_dim.is_multiple_of(LANES), "head size {} is not a multiple of {LANES}", shape.head_dim);
        Self { shape, blocks, bytes: Region::new(shape.block_bytes() * blocks) }
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
            let (from, to, len) = (self.at(layer, from, 0), self.at(layer, to, 0), self.shape.layer_bytes());
            self.bytes.copy_within(from..from + len, to);
        }
    }

    /// Appends the bytes of a block, layer by layer: `KvShape::block_bytes` of them.
    pub fn read_block(&self, block: BlockId, out: &mut Vec<u8>) {
        for layer in 0..self.shape.layers {
            let at = self.at(layer, block, 0);
            out.extend_from_slice(&self.bytes[at..at + self.shape.layer_bytes()]);
        }
    }

    /// Fills a block with what [`KvCache::read_block`] gave.
    pub fn write_block(&mut self, block: BlockId, bytes: &[u8]) {
        assert_eq!(bytes.len(), self.shape.block_bytes(), "the bytes of one block");
        for (layer, bytes) in bytes.chunks_exact(self.shape.layer_bytes()).enumerate() {
            let at = self.at(layer, block, 0);
            self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        }
    }

    /// Keys and values of one head in a block.
    pub(super) fn head(&self, layer: usize, block: BlockId, head: usize) -> &[u8] {
        &self.bytes[self.at(layer, block, head)..][..self.shape.head_bytes()]
    }

    /// The offset in `bytes` of a head of a block.
    fn at(&self, layer: usize, block: BlockId, head: usize) -> usize {
        assert!(layer < self.shape.layers && block.index() < self.blocks && head < self.shape.kv_heads);
        (layer * self.blocks + block.index()) * self.shape.layer_bytes() + head * self.shape.head_bytes()
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

/// Spans cover the rows one after the other: what makes the rows of different spans different memory.
pub(super) fn assert_spans(spans: &[Span<'_>], rows: usize) {
    let end = spans.iter().fold(0, |at, span| {
        assert_eq!(span.first_row, at, "spans follow each other");
        at + span.rows
    });
    assert_eq!(end, rows, "spans cover all rows");
}

/// Writes the keys and values of every row of the batch into `layer`'s blocks; `prepare` gets each row's queries and
/// keys first, with the row's index, and may change them (rotary positions).
///
/// `queries`: (rows, heads * head_dim); `keys` and `values`: (rows, kv_heads * head_dim). No block that is written may
/// be shared by two spans.
#[allow(clippy::too_many_arguments)]
pub fn write(
    isa: Isa,
    pool: &Pool,
    cache: &mut KvCache,
    layer: usize,
    spans: &[Span<'_>],
    queries: &mut [f32],
    keys: &mut [f32],
    values: &[f32],
    prepare: impl Fn(usize, &mut [f32], &mut [f32]) + Sync,
) {
    let (shape, dim) = (cache.shape, cache.shape.head_dim);
    let width = shape.kv_heads * dim;
    let places: Vec<(usize, usize, usize)> = spans // row, offset of its block's first head, slot in the block
        .iter()
        .flat_map(|s| (0..s.rows).map(move |i| (s, i)))
        .map(|(s, i)| {
            let position = s.first_position + i;
            (s.first_row + i, cache.at(layer, s.block_table[position / BLOCK_TOKENS], 0), position % BLOCK_TOKENS)
        })
        .collect();
    assert_spans(spans, places.len());
    assert_eq!((keys.len(), values.len()), (places.len() * width, places.len() * width), "keys and values of each row");
    let query_width = queries.len() / places.len().max(1);
    debug_assert!(
        places.iter().map(|(_, offset, slot)| (offset, slot)).collect::<std::collections::HashSet<_>>().len()
            == places.len(),
        "two rows are written to the same place"
    );
    let (bytes, queries, keys) = (Disjoint::new(&mut cache.bytes), Disjoint::new(queries), Disjoint::new(keys));
    rows::in_chunks(pool, places.len(), 2 * width, |range| {
        for &(row, offset, slot) in &places[range] {
            // SAFETY: each row is in one chunk; both vectors outlive the region.
            let (queries, keys) =
                unsafe { (queries.slice(row * query_width, query_width), keys.slice(row * width, width)) };
            prepare(row, queries, keys);
            for head in 0..shape.kv_heads {
                let (k, v) = (&keys[head * dim..][..dim], &values[row * width + head * dim..][..dim]);
                // SAFETY: slots of different rows differ, and the cache outlives the region. Only the elements of
                // this slot are touched, never the whole block.
                unsafe { write_head(isa, &shape, &bytes, offset + head * shape.head_bytes(), slot, k, v) };
            }
        }
    });
}

/// # Safety
/// - `isa` is available; no other thread writes slot `slot` of the head at `offset` meanwhile.
unsafe fn write_head(
    isa: Isa,
    shape: &KvShape,
    bytes: &Disjoint<u8>,
    offset: usize,
    slot: usize,
    k: &[f32],
    v: &[f32],
) {
    let dim = k.len();
    let keys = bytes.start(offset, shape.head_bytes());
    // SAFETY: the head's bytes are in range (asserted by `start`); below, each element of the slot is inside them, and
    // only those are written, so that threads that write other slots of the block touch other bytes.
    unsafe {
        let values = keys.add(shape.key_bytes());
        match shape.kind {
            KvKind::F32 => {
                for (d, (k, v)) in k.iter().zip(v).enumerate() {
                    keys.cast::<f32>().add(d * BLOCK_TOKENS + slot).write_unaligned(*k);
                    values.cast::<f32>().add(slot * dim + d).write_unaligned(*v);
                }
            }
            KvKind::Bf16 => {
                let mut halves = [0u16; 2 * LANES];
                for (part, (k, v)) in k.chunks_exact(LANES).zip(v.chunks_exact(LANES)).enumerate() {
                    to_bf16(isa, k.as_ptr(), halves.as_mut_ptr());
                    to_bf16(isa, v.as_ptr(), halves.as_mut_ptr().add(LANES));
                    for i in 0..LANES {
                        let d = part * LANES + i;
                        keys.cast::<u16>().add(key_at(d, slot)).write_unaligned(halves[i]);
                        values.cast::<u16>().add(value_at(d, slot, dim)).write_unaligned(halves[LANES + i]);
                    }
                }
            }
            KvKind::Q8_0 => {
                let scales = values.add(shape.key_bytes()).cast::<f32>().add(slot);
                for (which, (x, to)) in [(k, keys), (v, values)].into_iter().enumerate() {
                    let scale = x.iter().fold(0.0f32, |m, x| m.max(x.abs())) / 127.0;
                    let inverse = if scale > 1e-37 { 1.0 / scale } else { 0.0 };
                    scales.add(which * BLOCK_TOKENS).write_unaligned(scale);
                    for (d, x) in x.iter().enumerate() {
                        let at = if which == 0 { key_at(d, slot) } else { value_at(d, slot, dim) };
                        // Adding 1.5 * 2^23 leaves the nearest integer in the low bits, in two's complement.
                        *to.add(at) = (x * inverse + 12_582_912.0).to_bits() as u8;
                    }
                }
            }
        }
    }
}

/// The index of element `d` of the key in slot `slot`, where elements come in pairs.
fn key_at(d: usize, slot: usize) -> usize {
    (d / 2 * BLOCK_TOKENS + slot) * 2 + d % 2
}

/// The index of element `d` of the value in slot `slot`, where positions come in pairs.
fn value_at(d: usize, slot: usize, dim: usize) -> usize {
    (slot / 2 * dim + d) * 2 + slot % 2
}

per_isa! {
    /// # Safety
    /// - `isa` is available; both pointers are valid for sixteen values.
    unsafe fn to_bf16(x: *const f32, out: *mut u16) = to_bf16_body;
}

#[inline(always)]
unsafe fn to_bf16_body<L: Lanes>(x: *const f32, out: *mut u16) {
    // SAFETY: sixteen values each.
    unsafe { L::load(x).store_bf16(out) }
}
