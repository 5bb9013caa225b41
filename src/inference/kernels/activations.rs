//! Rows of activations on their way into a matrix: as floats, and as 8-bit blocks for packed matrices.

use super::isa::per_isa;
use super::lanes::{LANES, Lanes};
use super::pool::Disjoint;
use super::{Isa, Pool};

/// `rows` x `cols` activations. The quantized form is kept beside the floats when a packed matrix will read it.
pub struct Activations {
    cols: usize,
    rows: usize,
    quantized: bool,
    pub(super) floats: Vec<f32>,       // (rows, cols)
    pub(super) quants: Vec<i8>,        // (rows, cols)
    pub(super) blocks: Vec<BlockInfo>, // (rows, cols / 32)
    pub(super) fine: Fine,
}

/// What eight bits could not hold of blocks with an outlier: a second, finer quantization of the remainder.
///
/// One value much larger than its 31 neighbors makes their common step so coarse that they round to nothing. Small
/// models have such values in every layer: with eight bits alone the starter's logits are off by 4 % on average.
#[derive(Default)]
pub(super) struct Fine {
    pub quants: Vec<i8>,        // (rows, cols)
    pub blocks: Vec<BlockInfo>, // (rows, cols / 32)
    pub listed: Vec<u16>,       // (rows, cols / 32): the blocks that have a remainder, in order
    pub counts: Vec<u16>,       // (rows)
}

/// What belongs to 32 quantized activations.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(super) struct BlockInfo {
    pub scale: f32,
    pub scaled_sum: f32,     // scale * (sum of the 32 quants)
    pub half_sums: [i32; 2], // of the quants of each half
}

impl Activations {
    /// Makes room for nothing yet; `quantized` says whether packed matrices will read the rows.
    pub fn new(cols: usize, quantized: bool) -> Self {
        assert!(!quantized || cols.is_multiple_of(32), "{cols} columns are not blocks of 32");
        Self {
            cols,
            rows: 0,
            quantized,
            floats: Vec::new(),
            quants: Vec::new(),
            blocks: Vec::new(),
            fine: Fine::default(),
        }
    }

    /// Sets the number of rows; their values are unspecified until written.
    pub fn resize(&mut self, rows: usize) {
        self.rows = rows;
        self.floats.resize(rows * self.cols, 0.0);
        if self.quantized {
            self.quants.resize(rows * self.cols, 0);
            self.blocks.resize(rows * self.cols / 32, BlockInfo::default());
            self.fine.quants.resize(rows * self.cols, 0);
            self.fine.blocks.resize(rows * self.cols / 32, BlockInfo::default());
            self.fine.listed.resize(rows * self.cols / 32, 0);
            self.fine.counts.resize(rows, 0);
        }
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn cols(&self) -> usize {
        self.cols
    }

    pub fn is_quantized(&self) -> bool {
        self.quantized
    }

    /// The rows as floats, (rows, cols).
    pub fn floats(&self) -> &[f32] {
        &self.floats
    }

    /// Lets `fill` write each row, then quantizes it, all rows in parallel.
    pub fn fill(&mut self, isa: Isa, pool: &Pool, fill: impl Fn(usize, &mut [f32]) + Sync) {
        let (cols, quantized) = (self.cols, self.quantized);
        let floats = Disjoint::new(&mut self.floats);
        let quants = Disjoint::new(&mut self.quants);
        let infos = Disjoint::new(&mut self.blocks);
        let fine = Disjoint::new(&mut self.fine.quants);
        let fine_infos = Disjoint::new(&mut self.fine.blocks);
        let listed = Disjoint::new(&mut self.fine.listed);
        let counts = Disjoint::new(&mut self.fine.counts);
        super::rows::in_chunks(pool, self.rows, cols, |rows| {
            for r in rows {
                // SAFETY: each row belongs to one chunk, and the vectors outlive the region.
                let row = unsafe { floats.slice(r * cols, cols) };
                fill(r, row);
                if !quantized {
                    continue;
                }
                let (first, blocks) = (r * cols / 32, cols / 32);
                // SAFETY: as above, for the row's part of each vector.
                let (mut out, count) = unsafe {
                    let out = RowOut {
                        quants: quants.slice(r * cols, cols),
                        infos: infos.slice(first, blocks),
                        fine: fine.slice(r * cols, cols),
                        fine_infos: fine_infos.slice(first, blocks),
                        listed: listed.slice(first, blocks),
                    };
                    (out, counts.slice(r, 1))
                };
                // SAFETY: `isa` is available; all slices hold one row of `cols`.
                unsafe { quantize_row(isa, row, &mut out, &mut count[0]) };
            }
        });
    }
}

/// Where one row's quants go.
struct RowOut<'a> {
    quants: &'a mut [i8],
    infos: &'a mut [BlockInfo],
    fine: &'a mut [i8],
    fine_infos: &'a mut [BlockInfo],
    listed: &'a mut [u16],
}

/// A block whose largest value is more than this many times its root mean square gets a remainder. For values of a
/// normal distribution that is one block in 250.
const OUTLIER: f32 = 3.6;

per_isa! {
    /// Quantizes a row in blocks of 32: scale = largest magnitude / 127, quants rounded to nearest, ties to even;
    /// blocks with an outlier get their remainder quantized likewise, and are listed.
    ///
    /// # Safety
    /// - `isa` is available; `x` is a whole number of blocks, and `out` has room for exactly that many.
    unsafe fn quantize_row(x: &mut [f32], out: &mut RowOut<'_>, count: &mut u16) = quantize_body;
}

#[inline(always)]
unsafe fn quantize_body<L: Lanes>(x: &mut [f32], out: &mut RowOut<'_>, count: &mut u16) {
    *count = 0;
    for (b, x) in x.chunks_exact(32).enumerate() {
        let mut left = [0.0f32; 32];
        // SAFETY: `x` and `left` hold 32 values; the quants of block `b` lie inside the row.
        unsafe {
            let at = b * 32..b * 32 + 32;
            let (info, outlier) = quantize_block::<L>(x.as_ptr(), &mut out.quants[at.clone()], &mut left);
            out.infos[b] = info;
            if outlier {
                out.fine_infos[b] = quantize_block::<L>(left.as_ptr(), &mut out.fine[at], &mut [0.0; 32]).0;
                out.listed[usize::from(*count)] = b as u16;
                *count += 1;
            }
        }
    }
}

/// Quantizes 32 values; `left` gets what rounding took away. The flag tells an outlier.
#[inline(always)]
unsafe fn quantize_block<L: Lanes>(x: *const f32, q: &mut [i8], left: &mut [f32; 32]) -> (BlockInfo, bool) {
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding and subtracting it rounds to the nearest integer
    // SAFETY: `x` is valid for 32 values by the caller's obligation; register operations otherwise.
    unsafe {
        let (lo, hi) = (L::load(x), L::load(x.add(LANES)));
        let zero = L::splat(0.0);
        let magnitude = lo.max(zero.sub(lo)).max(hi.max(zero.sub(hi))).largest();
        let square = hi.mul_add(hi, lo.mul(lo)).sum() / 32.0;
        let scale = magnitude / 127.0;
        // A block of zeros, or of values so small that the inverse overflows, quantizes to zeros.
        let inverse = if scale > 1e-37 { 1.0 / scale } else { 0.0 };
        let mut ints = [0.0f32; 32];
        for (half, v) in [lo, hi].into_iter().enumerate() {
            let rounded = v.mul_add(L::splat(inverse), L::splat(ROUND)).sub(L::splat(ROUND));
            let rounded = rounded.max(L::splat(-127.0)).min(L::splat(127.0));
            rounded.store(ints.as_mut_ptr().add(half * LANES));
            zero.sub(rounded).mul_add(L::splat(scale), v).store(left.as_mut_ptr().add(half * LANES));
        }
        let mut sums = [0i32; 2];
        for (i, (v, q)) in ints.iter().zip(q).enumerate() {
            let v = *v as i32;
            *q = v as i8;
            sums[i / LANES] += v;
        }
        let info = BlockInfo { scale, scaled_sum: scale * (sums[0] + sums[1]) as f32, half_sums: sums };
        (info, magnitude * magnitude > OUTLIER * OUTLIER * square)
    }
}
