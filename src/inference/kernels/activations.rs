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
        Self { cols, rows: 0, quantized, floats: Vec::new(), quants: Vec::new(), blocks: Vec::new() }
    }

    /// Sets the number of rows; their values are unspecified until written.
    pub fn resize(&mut self, rows: usize) {
        self.rows = rows;
        self.floats.resize(rows * self.cols, 0.0);
        if self.quantized {
            self.quants.resize(rows * self.cols, 0);
            self.blocks.resize(rows * self.cols / 32, BlockInfo::default());
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
        super::rows::in_chunks(pool, self.rows, cols, |rows| {
            for r in rows {
                // SAFETY: each row belongs to one chunk, and the vectors outlive the region.
                let row = unsafe { floats.slice(r * cols, cols) };
                fill(r, row);
                if quantized {
                    // SAFETY: as above, for the row's quants and its blocks.
                    let (q, b) = unsafe { (quants.slice(r * cols, cols), infos.slice(r * cols / 32, cols / 32)) };
                    // SAFETY: `isa` is available; the three slices hold one row of `cols`.
                    unsafe { quantize_row(isa, row.as_ptr(), q.as_mut_ptr(), b.as_mut_ptr(), cols / 32) };
                }
            }
        });
    }
}

per_isa! {
    /// Quantizes `blocks` blocks of 32: scale = largest magnitude / 127, quants rounded to nearest, ties to even.
    ///
    /// # Safety
    /// - `isa` is available; `x` and `q` are valid for `32 * blocks` elements, `info` for `blocks`.
    unsafe fn quantize_row(x: *const f32, q: *mut i8, info: *mut BlockInfo, blocks: usize) = quantize_body;
}

#[inline(always)]
unsafe fn quantize_body<L: Lanes>(x: *const f32, q: *mut i8, info: *mut BlockInfo, blocks: usize) {
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding and subtracting it rounds to the nearest integer
    for b in 0..blocks {
        // SAFETY: `b < blocks`, so block `b` lies inside the three arrays; register operations otherwise.
        unsafe {
            let (lo, hi) = (L::load(x.add(b * 32)), L::load(x.add(b * 32 + LANES)));
            let zero = L::splat(0.0);
            let magnitude = lo.max(zero.sub(lo)).max(hi.max(zero.sub(hi))).largest();
            let scale = magnitude / 127.0;
            // A block of zeros, or of values so small that the inverse overflows, quantizes to zeros.
            let inverse = if scale > 1e-37 { 1.0 / scale } else { 0.0 };
            let mut ints = [0.0f32; 32];
            for (half, v) in [lo, hi].into_iter().enumerate() {
                let rounded = v.mul_add(L::splat(inverse), L::splat(ROUND)).sub(L::splat(ROUND));
                rounded.max(L::splat(-127.0)).min(L::splat(127.0)).store(ints.as_mut_ptr().add(half * LANES));
            }
            let mut sums = [0i32; 2];
            for (i, v) in ints.iter().enumerate() {
                let v = *v as i32;
                *q.add(b * 32 + i) = v as i8;
                sums[i / LANES] += v;
            }
            *info.add(b) = BlockInfo { scale, scaled_sum: scale * (sums[0] + sums[1]) as f32, half_sums: sums };
        }
    }
}
