//! A weight matrix as the kernels read it: floats as they are, quants packed for the dot products.
//!
//! Packed: sixteen rows make a group, one per lane. Along the columns, a block of 32 is stored as eight runs of
//! 64 bytes, run `j` holding columns `4j..4j+4` of each of the sixteen rows; with four bits, four runs whose low
//! nibbles are columns `4j..` and high nibbles columns `16 + 4j..`. After a group's quants come its scales
//! (and mins): for each block sixteen f16 values. There is one copy of each weight, and it is this.

use half::f16;

use super::blocks::{self, Format, Packing};
use super::lanes::LANES;

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
    lines: Vec<Line>,
    group_lines: usize, // lines from one group to the next
}

/// A cache line, so that groups start on one.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line(#[expect(dead_code, reason = "read as bytes, by `Packed::group`")] [u8; 64]);

const _: () = assert!(size_of::<Line>() == 64);

/// Where the rows of a new matrix come from: the bytes of each, in one format.
pub struct RowSource<'a> {
    pub format: Format,
    pub rows: usize,
    pub cols: usize,
    /// Row `i`'s bytes; `Format::row_bytes(cols)` long.
    pub row: &'a (dyn Fn(usize) -> &'a [u8] + Sync),
}

impl Packed {
    fn group_bytes(packing: Packing, blocks: usize) -> usize {
        blocks * (Self::quant_bytes(packing) + Self::scale_bytes(packing))
    }

    /// Bytes of the quants of one block of a group.
    pub const fn quant_bytes(packing: Packing) -> usize {
        match packing {
            Packing::Signed8 | Packing::Signed8Halves | Packing::Unsigned8 => 32 * LANES,
            Packing::Unsigned4 => 16 * LANES,
        }
    }

    /// Bytes of the scales and mins of one block of a group.
    pub const fn scale_bytes(packing: Packing) -> usize {
        match packing {
            Packing::Signed8 => 2 * LANES,
            Packing::Signed8Halves | Packing::Unsigned8 | Packing::Unsigned4 => 4 * LANES,
        }
    }

    /// The bytes of group `g`: all its quants, then all its scales.
    pub fn group(&self, g: usize) -> &[u8] {
        let lines = &self.lines[g * self.group_lines..(g + 1) * self.group_lines];
        // SAFETY: a `Line` is 64 plain bytes, and the slice covers exactly `lines.len()` of them.
        unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), lines.len() * 64) }
    }
}

fn bytes_of(lines: &mut [Line]) -> &mut [u8] {
    // SAFETY: as in `Packed::group`; the borrow is exclusive.
    unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), lines.len() * 64) }
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
            Data::Packed(p) => p.lines.len() * 64,
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
    values
}

fn pack(source: &RowSource<'_>) -> Packed {
    use rayon::prelude::*;
    let packing = source.format.packing();
    let blocks = source.cols / 32;
    let group_lines = Packed::group_bytes(packing, blocks).div_ceil(64);
    let groups = source.rows.div_ceil(LANES);
    let mut lines = vec![Line([0; 64]); groups * group_lines];
    lines.par_chunks_exact_mut(group_lines).enumerate().for_each_init(
        || blocks::block_buffer(source.cols),
        |unpacked, (g, lines)| {
            let bytes = bytes_of(lines);
            for lane in 0..LANES.min(source.rows - g * LANES) {
                blocks::unpack_row(source.format, (source.row)(g * LANES + lane), unpacked);
                for (b, block) in unpacked.iter().enumerate() {
                    put_block(packing, bytes, blocks, b, lane, block);
                }
            }
        },
    );
    Packed { packing, lines, group_lines }
}

/// The index, inside a group's bytes, of the byte that holds column `i` of block `b` in `lane`.
fn quant_at(packing: Packing, b: usize, i: usize, lane: usize) -> usize {
    let column = if packing == Packing::Unsigned4 { i % 16 } else { i };
    b * Packed::quant_bytes(packing) + column / 4 * 64 + lane * 4 + column % 4
}

/// The index of the `which`-th f16 of block `b` in `lane`.
fn scale_at(packing: Packing, blocks: usize, b: usize, which: usize, lane: usize) -> usize {
    blocks * Packed::quant_bytes(packing) + b * Packed::scale_bytes(packing) + (which * LANES + lane) * 2
}

fn put_block(packing: Packing, bytes: &mut [u8], blocks: usize, b: usize, lane: usize, block: &blocks::Block32) {
    for (i, &q) in block.q.iter().enumerate() {
        let at = quant_at(packing, b, i, lane);
        if packing == Packing::Unsigned4 {
            bytes[at] |= if i < 16 { q } else { q << 4 };
        } else {
            bytes[at] = q;
        }
    }
    let scales: [f32; 2] = match packing {
        Packing::Signed8 | Packing::Signed8Halves => block.scale,
        Packing::Unsigned8 | Packing::Unsigned4 => [block.scale[0], block.min[0]],
    };
    for (which, scale) in scales.iter().take(Packed::scale_bytes(packing) / (2 * LANES)).enumerate() {
        let at = scale_at(packing, blocks, b, which, lane);
        bytes[at..at + 2].copy_from_slice(&f16::from_f32(*scale).to_le_bytes());
    }
}

fn read_packed(p: &Packed, row: usize, out: &mut [f32]) {
    let (bytes, lane, blocks) = (p.group(row / LANES), row % LANES, out.len() / 32);
    let scale = |b, which| {
        let at = scale_at(p.packing, blocks, b, which, lane);
        f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
    };
    for (b, out) in out.chunks_exact_mut(32).enumerate() {
        for (i, out) in out.iter_mut().enumerate() {
            let q = bytes[quant_at(p.packing, b, i, lane)];
            *out = match p.packing {
                Packing::Signed8 => scale(b, 0) * (f32::from(q) - 128.0),
                Packing::Signed8Halves => scale(b, i / 16) * (f32::from(q) - 128.0),
                Packing::Unsigned8 => scale(b, 0) * f32::from(q) + scale(b, 1),
                Packing::Unsigned4 => {
                    let q = if i < 16 { q & 0x0F } else { q >> 4 };
                    scale(b, 0) * f32::from(q) + scale(b, 1)
                }
            };
        }
    }
}
