//! A weight matrix as the kernels read it: floats as they are, quants packed for the dot products.
//!
//! Packed: sixteen rows make a group, one per lane. Along the columns, a block of 32 is stored as eight runs of
//! 64 bytes, run `j` holding columns `4j..4j+4` of each of the sixteen rows; with four bits, four runs whose low
//! nibbles are columns `4j..` and high nibbles columns `16 + 4j..`; six bits add two runs, in which run `h` holds the
//! high bits of the quants in runs `4h..4h+4`, two at a time from the low end. Every eight blocks, after their quants,
//! come sixteen scales (and mins) for each, f16 values or the steps of a K-block, and then its units: a group is read
//! from front to back. There is one copy of each weight, and it is this.

use std::sync::Arc;

use half::f16;

use super::blocks::{self, Format, Packing};
use super::lanes::LANES;
use super::region::Region;

/// Rows of weights, `rows` x `cols`.
pub struct Matrix {
    rows: usize,
    cols: usize,
    pub(super) data: Data,
}

pub(super) enum Data {
    /// (rows, cols), row by row.
    F32(Vec<f32>),
    F16(Vec<u16>),
    Bf16(Vec<u16>),
    Packed(Packed),
}

pub(super) struct Packed {
    pub packing: Packing,
    region: Arc<Region>, // shared by the matrices of one tensor
    start: usize,        // of the first group in it
    group_bytes: usize,  // whole cache lines
    stride: usize,       // from one group to the next
}

/// Where the rows of a new matrix come from: the bytes of each, in one format.
pub struct RowSource<'a> {
    pub format: Format,
    pub rows: usize,
    pub cols: usize,
    /// Row `i`'s bytes; `Format::row_bytes(cols)` long.
    pub row: &'a (dyn Fn(usize) -> &'a [u8] + Sync),
}

/// Blocks of 32 whose scales stand together: those of a K-block.
pub(super) const K_BLOCKS: usize = 8;

/// Sizes of a packing's parts in a group, in bytes.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    pub quants: usize,    // of a block
    pub scales: usize,    // and mins, or their steps, of a block
    pub units: usize,     // of a K-block
    pub run_bytes: usize, // of eight blocks
}

impl Layout {
    pub const fn of(packing: Packing) -> Self {
        let (quants, scales, units) = match packing {
            Packing::Signed8 => (32 * LANES, 2 * LANES, 0),
            Packing::SixK => (24 * LANES, 2 * LANES, 2 * LANES),
            Packing::Unsigned8 => (32 * LANES, 4 * LANES, 0),
            Packing::Unsigned4 => (16 * LANES, 4 * LANES, 0),
            Packing::FourK => (16 * LANES, 2 * LANES, 4 * LANES),
        };
        Self { quants, scales, units, run_bytes: (K_BLOCKS * (quants + scales) + units).next_multiple_of(64) }
    }

    /// Bytes of a group of `blocks` blocks.
    fn group_bytes(&self, blocks: usize) -> usize {
        let rest = blocks % K_BLOCKS;
        let last = if rest == 0 { 0 } else { rest * (self.quants + self.scales) + self.units };
        blocks / K_BLOCKS * self.run_bytes + last
    }

    /// Where the quants, the scales and the units of block `b` of `blocks` begin in a group.
    pub fn block(&self, blocks: usize, b: usize) -> (usize, usize, usize) {
        let (run, i) = (b / K_BLOCKS, b % K_BLOCKS);
        let (start, n) = (run * self.run_bytes, K_BLOCKS.min(blocks - run * K_BLOCKS));
        let scales = start + n * self.quants;
        (start + i * self.quants, scales + i * self.scales, scales + n * self.scales)
    }
}

impl Packed {
    /// Whether a group holds `blocks` blocks: what the kernels rely on.
    pub fn holds(&self, blocks: usize) -> bool {
        let layout = Layout::of(self.packing);
        self.group_bytes >= layout.group_bytes(blocks) && (layout.units == 0 || blocks.is_multiple_of(K_BLOCKS))
    }

    /// The bytes of group `g`: all its quants, then all its scales.
    pub fn group(&self, g: usize) -> &[u8] {
        &self.region[self.start + g * self.stride..][..self.group_bytes]
    }
}

impl Matrix {
    /// Builds a matrix from its rows, packing quantized ones; rows are spread over rayon's threads.
    pub fn from_rows(source: &RowSource<'_>) -> Self {
        let (rows, cols) = (source.rows, source.cols);
        let data = match source.format {
            Format::F32 => Data::F32(collect_rows(source, |b: &[u8; 4]| f32::from_le_bytes(*b))),
            Format::F16 => Data::F16(collect_rows(source, |b: &[u8; 2]| u16::from_le_bytes(*b))),
            Format::Bf16 => Data::Bf16(collect_rows(source, |b: &[u8; 2]| u16::from_le_bytes(*b))),
            _ => Data::Packed(pack(source)),
        };
        Self { rows, cols, data }
    }

    /// Builds `count` matrices of equal height from the rows of each of some tensors, so that they lie in memory as
    /// they are read together: matrix by matrix, and in it a group of the first tensor, of the second, and so on.
    pub fn together<const N: usize>(sources: [&RowSource<'_>; N], count: usize) -> [Vec<Self>; N] {
        let alike =
            |s: &&RowSource<'_>| (s.format, s.rows, s.cols) == (sources[0].format, sources[0].rows, sources[0].cols);
        let (format, all_rows, cols) = (sources[0].format, sources[0].rows, sources[0].cols);
        assert!(count > 0 && all_rows.is_multiple_of(count), "{all_rows} rows in {count} matrices");
        let rows = all_rows / count;
        if format.is_float() || !rows.is_multiple_of(LANES) || !sources.iter().all(alike) {
            return sources.map(|source| {
                let part = |i: usize| {
                    let row = |r: usize| (source.row)(i * rows + r);
                    Self::from_rows(&RowSource { format: source.format, rows, cols: source.cols, row: &row })
                };
                (0..count).map(part).collect()
            });
        }
        // Row `r` of the whole is in group `r / 16`, and groups take turns between the tensors.
        let row = |r: usize| {
            let (group, lane) = (r / LANES, r % LANES);
            (sources[group % N].row)(group / N * LANES + lane)
        };
        let all = pack(&RowSource { format, rows: N * all_rows, cols, row: &row });
        let matrix = |which: usize, i: usize| {
            let start = (i * rows / LANES * N + which) * all.group_bytes;
            let packed = Packed { region: all.region.clone(), start, stride: N * all.group_bytes, ..all };
            Self { rows, cols, data: Data::Packed(packed) }
        };
        std::array::from_fn(|which| (0..count).map(|i| matrix(which, i)).collect())
    }

    /// Builds a float matrix from values in row order.
    pub fn from_f32(values: Vec<f32>, cols: usize) -> Self {
        assert!(cols > 0 && values.len().is_multiple_of(cols), "{} values in rows of {cols}", values.len());
        Self { rows: values.len() / cols, cols, data: Data::F32(values) }
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Whether the kernels multiply it with quantized activations.
    pub fn is_packed(&self) -> bool {
        matches!(self.data, Data::Packed(_))
    }

    /// Bytes held in memory.
    pub fn bytes(&self) -> usize {
        match &self.data {
            Data::F32(v) => v.len() * 4,
            Data::F16(v) | Data::Bf16(v) => v.len() * 2,
            Data::Packed(p) => self.groups() * p.group_bytes,
        }
    }

    /// Where group `g` begins, to ask for it ahead of its use; null for floats.
    pub(super) fn group_address(&self, g: usize) -> *const u8 {
        match &self.data {
            Data::Packed(p) if g < self.groups() => p.group(g).as_ptr(),
            _ => std::ptr::null(),
        }
    }

    /// Groups of sixteen rows; the last may be padded with rows of zeros.
    pub(super) fn groups(&self) -> usize {
        self.rows.div_ceil(LANES)
    }

    /// Widens row `i` to f32: how a token's embedding is read.
    pub fn read_row(&self, i: usize, out: &mut [f32]) {
        assert!(i < self.rows && out.len() == self.cols, "row {i} of {}, {} of {}", self.rows, out.len(), self.cols);
        let range = i * self.cols..(i + 1) * self.cols;
        match &self.data {
            Data::F32(v) => out.copy_from_slice(&v[range]),
            Data::F16(v) => out.iter_mut().zip(&v[range]).for_each(|(o, b)| *o = f16::from_bits(*b).to_f32()),
            Data::Bf16(v) => out.iter_mut().zip(&v[range]).for_each(|(o, b)| *o = half::bf16::from_bits(*b).to_f32()),
            Data::Packed(p) => read_packed(p, i, out),
        }
    }
}

fn collect_rows<const N: usize, T: Copy>(source: &RowSource<'_>, read: impl Fn(&[u8; N]) -> T) -> Vec<T> {
    let mut values = Vec::with_capacity(source.rows * source.cols);
    for i in 0..source.rows {
        values.extend((source.row)(i).as_chunks::<N>().0.iter().map(&read));
    }
    assert_eq!(values.len(), source.rows * source.cols, "the values of {} rows of {}", source.rows, source.cols);
    values
}

fn pack(source: &RowSource<'_>) -> Packed {
    use rayon::prelude::*;
    let packing = source.format.packing();
    let blocks = source.cols / 32;
    let group_bytes = Layout::of(packing).group_bytes(blocks).next_multiple_of(64);
    let mut region = Region::new(source.rows.div_ceil(LANES) * group_bytes);
    region.par_chunks_exact_mut(group_bytes.max(1)).enumerate().for_each_init(
        || blocks::block_buffer(source.cols),
        |unpacked, (g, bytes)| {
            for lane in 0..LANES.min(source.rows - g * LANES) {
                blocks::unpack_row(source.format, (source.row)(g * LANES + lane), unpacked);
                for (b, block) in unpacked.iter().enumerate() {
                    put_block(packing, bytes, blocks, b, lane, block);
                }
            }
        },
    );
    Packed { packing, region: Arc::new(region), start: 0, group_bytes, stride: group_bytes }
}

/// The index, inside a group's bytes, of the byte that holds column `i` of block `b` in `lane`: its low bits, where
/// it is cut in two.
fn quant_at(packing: Packing, blocks: usize, b: usize, i: usize, lane: usize) -> usize {
    let layout = Layout::of(packing);
    let column = if layout.quants < 32 * LANES { i % 16 } else { i };
    layout.block(blocks, b).0 + column / 4 * 64 + lane * 4 + column % 4
}

/// Where the two high bits of a six-bit quant are: the byte, and how far from its low end.
fn high_bits_at(blocks: usize, b: usize, i: usize, lane: usize) -> (usize, usize) {
    let run = i / 4;
    let quants = Layout::of(Packing::SixK).block(blocks, b).0;
    (quants + (4 + run / 4) * 64 + lane * 4 + i % 4, run % 4 * 2)
}

/// The index of the `which`-th f16 of block `b` in `lane`, or of the step.
fn scale_at(packing: Packing, blocks: usize, b: usize, which: usize, lane: usize) -> usize {
    let layout = Layout::of(packing);
    let wide = if layout.units == 0 { 2 } else { 1 };
    layout.block(blocks, b).1 + (which * LANES + lane) * wide
}

/// The index of the `which`-th unit of the K-block that block `b` belongs to.
fn unit_at(packing: Packing, blocks: usize, b: usize, which: usize, lane: usize) -> usize {
    Layout::of(packing).block(blocks, b).2 + (which * LANES + lane) * 2
}

fn put_block(packing: Packing, bytes: &mut [u8], blocks: usize, b: usize, lane: usize, block: &blocks::Block32) {
    let quants = Layout::of(packing).block(blocks, b).0;
    // Four columns at a time: they stand side by side in every layout.
    let four =
        |j: usize| u32::from_le_bytes([block.q[4 * j], block.q[4 * j + 1], block.q[4 * j + 2], block.q[4 * j + 3]]);
    let mut put_four = |run: usize, value: u32| {
        let at = quants + run * 64 + lane * 4;
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    };
    match packing {
        Packing::Signed8 | Packing::Unsigned8 => (0..8).for_each(|j| put_four(j, four(j))),
        Packing::Unsigned4 | Packing::FourK => (0..4).for_each(|j| put_four(j, four(j) | four(j + 4) << 4)),
        Packing::SixK => {
            const LOW: u32 = 0x0F0F_0F0F;
            const HIGH: u32 = 0x0303_0303;
            (0..4).for_each(|j| put_four(j, (four(j) & LOW) | (four(j + 4) & LOW) << 4));
            for h in 0..2 {
                put_four(4 + h, (0..4).fold(0, |high, s| high | ((four(4 * h + s) >> 4) & HIGH) << (2 * s)));
            }
        }
    }
    let mut put = |at: usize, half: u16| bytes[at..at + 2].copy_from_slice(&half.to_le_bytes());
    match packing {
        Packing::Signed8 => put(scale_at(packing, blocks, b, 0, lane), f16::from_f32(block.scale[0]).to_bits()),
        Packing::Unsigned8 | Packing::Unsigned4 => {
            put(scale_at(packing, blocks, b, 0, lane), f16::from_f32(block.scale[0]).to_bits());
            put(scale_at(packing, blocks, b, 1, lane), f16::from_f32(block.min[0]).to_bits());
        }
        Packing::SixK | Packing::FourK => {
            for which in 0..Layout::of(packing).units / (2 * LANES) {
                put(unit_at(packing, blocks, b, which, lane), block.parts.units[which]);
            }
            for (which, step) in block.parts.steps.iter().enumerate() {
                bytes[scale_at(packing, blocks, b, which, lane)] = *step;
            }
        }
    }
}

fn read_packed(p: &Packed, row: usize, out: &mut [f32]) {
    let (bytes, lane, blocks) = (p.group(row / LANES), row % LANES, out.len() / 32);
    let half = |at: usize| f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32();
    let offset = f32::from(p.packing.offset());
    for (b, out) in out.chunks_exact_mut(32).enumerate() {
        let at = |which| scale_at(p.packing, blocks, b, which, lane);
        let unit = |which| half(unit_at(p.packing, blocks, b, which, lane));
        let (scales, min) = match p.packing {
            Packing::Signed8 => ([half(at(0)); 2], 0.0),
            Packing::Unsigned8 | Packing::Unsigned4 => ([half(at(0)); 2], half(at(1))),
            Packing::SixK => ([0, 1].map(|h| unit(0) * f32::from(bytes[at(h)] as i8)), 0.0),
            Packing::FourK => ([unit(0) * f32::from(bytes[at(0)]); 2], -(unit(1) * f32::from(bytes[at(1)]))),
        };
        for (i, out) in out.iter_mut().enumerate() {
            let stored = bytes[quant_at(p.packing, blocks, b, i, lane)];
            let nibble = if i < 16 { stored & 0x0F } else { stored >> 4 };
            let q = match p.packing {
                Packing::Signed8 | Packing::Unsigned8 => stored,
                Packing::Unsigned4 | Packing::FourK => nibble,
                Packing::SixK => {
                    let (at, shift) = high_bits_at(blocks, b, i, lane);
                    nibble | (bytes[at] >> shift & 3) << 4
                }
            };
            *out = scales[i / 16] * (f32::from(q) - offset) + min;
        }
    }
}
