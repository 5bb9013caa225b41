//! Rows of activations on their way into a matrix: as floats, and as 8-bit blocks for packed matrices.

use super::isa::per_isa;
use super::lanes::{LANES, Lanes};
use super::pool::Disjoint;
use super::{Isa, Pool};

/// Columns of a quantized block.
pub(super) const BLOCK: usize = 32;

/// `rows` x `cols` activations. The quantized form is kept beside the floats when a packed matrix will read it.
pub struct Activations {
    cols: usize,
    rows: usize,
    quantized: bool,
    outlier: f32,                  // see `OUTLIER`
    pub(super) floats: Vec<f32>,   // (rows, cols)
    pub(super) blocks: Vec<Block>, // (rows, cols / 32)
    /// What eight bits could not hold of blocks with an outlier: a second, finer quantization of the remainder.
    ///
    /// One value much larger than its 31 neighbors makes their common step so coarse that they round to nothing.
    /// Small models have such values in every layer: with eight bits alone the starter's logits are off by 4 % on
    /// average, with the remainders by 1.7 %.
    pub(super) fine: Vec<Block>, // (rows, cols / 32); holds a remainder where `has_fine` says so
    pub(super) has_fine: Vec<u8>,  // (rows, cols / 32)
}

/// Thirty-two quantized activations with what belongs to them side by side, so that a kernel needs one pointer a row.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(super) struct Block {
    pub quants: [i8; BLOCK],
    pub scale: f32,
    pub scaled_sum: f32,      // scale * (sum of the quants)
    pub offset: i32,          // -128 * (sum of the quants): undoes the offset of weights stored unsigned
    pub offset_low_half: i32, // the same of the first sixteen
}

const _: () = assert!(size_of::<Block>() == 48);

impl Activations {
    /// Makes room for nothing yet; `quantized` says whether packed matrices will read the rows.
    pub fn new(cols: usize, quantized: bool) -> Self {
        assert!(!quantized || cols.is_multiple_of(BLOCK), "{cols} columns are not blocks of {BLOCK}");
        let (floats, blocks, fine, has_fine) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { cols, rows: 0, quantized, outlier: OUTLIER, floats, blocks, fine, has_fine }
    }

    /// Takes the values for sparse ones, of which fewer blocks get a remainder.
    pub fn sparse(self) -> Self {
        Self { outlier: OUTLIER_SPARSE, ..self }
    }

    /// Sets the number of rows; their values are unspecified until written.
    pub fn resize(&mut self, rows: usize) {
        self.rows = rows;
        self.floats.resize(rows * self.cols, 0.0);
        if self.quantized {
            let blocks = rows * self.cols / BLOCK;
            self.blocks.resize(blocks, Block::default());
            self.fine.resize(blocks, Block::default());
            self.has_fine.resize(blocks, 0);
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

    /// The remainders of `rows`: each block that has one in any of them, in order, with the index into `rows`.
    pub(super) fn fine_blocks(&self, rows: &[u32]) -> Vec<(usize, usize)> {
        const FLAGS: usize = 8; // looked at together: most blocks have none
        let blocks = self.cols / BLOCK;
        let flags = |r: &u32| &self.has_fine[*r as usize * blocks..(*r as usize + 1) * blocks];
        let mut found = Vec::new();
        for first in (0..blocks).step_by(FLAGS) {
            let range = first..blocks.min(first + FLAGS);
            let any = |r: &u32| match flags(r)[range.clone()].first_chunk::<FLAGS>() {
                Some(word) => u64::from_ne_bytes(*word) != 0,
                None => flags(r)[range.clone()].iter().any(|f| *f != 0),
            };
            if rows.iter().any(any) {
                let of_block =
                    |b: usize| (0..rows.len()).filter(move |i| flags(&rows[*i])[b] != 0).map(move |i| (b, i));
                found.extend(range.flat_map(of_block));
            }
        }
        found
    }

    /// Row `r`'s blocks.
    pub(super) fn row_blocks(&self, r: usize) -> &[Block] {
        let blocks = self.cols / BLOCK;
        &self.blocks[r * blocks..(r + 1) * blocks]
    }

    /// The remainders of row `r`'s blocks, where they are flagged.
    pub(super) fn row_fine(&self, r: usize) -> &[Block] {
        let blocks = self.cols / BLOCK;
        &self.fine[r * blocks..(r + 1) * blocks]
    }

    /// Lets `fill` write each row, then quantizes it, all rows in parallel.
    pub fn fill(&mut self, isa: Isa, pool: &Pool, fill: impl Fn(usize, &mut [f32]) + Sync) {
        let (rows, cols) = (self.rows, self.cols);
        let into = self.writer();
        super::rows::in_chunks(pool, rows, cols, |rows| {
            for r in rows {
                // SAFETY: each row belongs to one chunk; `self` is borrowed for the whole region.
                unsafe { into.with(isa, r, 0, cols, |row| fill(r, row)) };
            }
        });
    }

    /// Returns a way to write pieces of rows from several threads at once.
    pub(super) fn writer(&mut self) -> Writer<'_> {
        Writer {
            cols: self.cols,
            quantized: self.quantized,
            outlier: self.outlier,
            floats: Disjoint::new(&mut self.floats),
            blocks: Disjoint::new(&mut self.blocks),
            fine: Disjoint::new(&mut self.fine),
            has_fine: Disjoint::new(&mut self.has_fine),
            owner: std::marker::PhantomData,
        }
    }
}

/// Writes pieces of rows of [`Activations`], quantizing each as it comes.
pub(super) struct Writer<'a> {
    cols: usize,
    quantized: bool,
    outlier: f32,
    floats: Disjoint<f32>,
    blocks: Disjoint<Block>,
    fine: Disjoint<Block>,
    has_fine: Disjoint<u8>,
    owner: std::marker::PhantomData<&'a mut Activations>,
}

impl Writer<'_> {
    /// The same, leaving the quantized form as it was.
    pub fn floats_only(self) -> Self {
        Self { quantized: false, ..self }
    }

    /// Lets `fill` write columns `first..first + len` of row `r`, then quantizes them: whole blocks, where quantized.
    ///
    /// # Safety
    /// - `isa` is available; no other thread writes these columns meanwhile.
    pub unsafe fn with(&self, isa: Isa, r: usize, first: usize, len: usize, fill: impl FnOnce(&mut [f32])) {
        assert!(first + len <= self.cols, "columns {first}+{len} of {}", self.cols);
        // SAFETY: these columns are this call's alone by the caller's obligation.
        let row = unsafe { self.floats.slice(r * self.cols + first, len) };
        fill(row);
        if !self.quantized {
            return;
        }
        assert!(first.is_multiple_of(BLOCK) && len.is_multiple_of(BLOCK), "columns {first}+{len} are not whole blocks");
        let (at, count) = ((r * self.cols + first) / BLOCK, len / BLOCK);
        // SAFETY: as above, for the blocks of these columns; `isa` is available and all slices hold `count` blocks.
        unsafe {
            let (blocks, fine) = (self.blocks.slice(at, count), self.fine.slice(at, count));
            quantize(isa, self.outlier, row, blocks, fine, self.has_fine.slice(at, count));
        }
    }
}

/// A block whose largest value is more than this many times its root mean square gets a remainder. For values of a
/// normal distribution that is one block in 250. At most it can be 5.7 times.
///
/// The starter's logits over 400 tokens of a meeting, against candle's in f32, are off by 2.9 % on average without
/// remainders, 1.8 % at 5.2, 1.4 % at 4.8, 1.0 % at 3.6; 0.4 % with a remainder for every block.
const OUTLIER: f32 = 3.6;
/// The same for values that are sparse by their nature, products of a gate: two thirds of what the others gain
/// (1.2 %, and 1.5 % without), for few of the blocks.
const OUTLIER_SPARSE: f32 = 5.0;

per_isa! {
    /// Quantizes values in blocks of 32: scale = largest magnitude / 127, quants rounded to nearest, ties to even;
    /// blocks with an outlier get their remainder quantized likewise, and are flagged.
    ///
    /// # Safety
    /// - `isa` is available; `x` holds a block of values for each of `blocks`, `fine` and `has_fine`.
    unsafe fn quantize(
        outlier: f32,
        x: &[f32],
        blocks: &mut [Block],
        fine: &mut [Block],
        has_fine: &mut [u8],
    ) = quantize_body;
}

#[inline(always)]
unsafe fn quantize_body<L: Lanes>(
    outlier: f32,
    x: &[f32],
    blocks: &mut [Block],
    fine: &mut [Block],
    has_fine: &mut [u8],
) {
    for (((x, block), fine), flag) in x.as_chunks::<BLOCK>().0.iter().zip(blocks).zip(fine).zip(has_fine) {
        // SAFETY: `x` holds two runs of sixteen values.
        unsafe {
            let halves = [L::load(x.as_ptr()), L::load(x.as_ptr().add(LANES))];
            let (magnitude, square) = size::<L>(halves);
            let left = quantize_block::<L>(halves, (magnitude, square), block);
            *flag = u8::from(magnitude * magnitude > outlier * outlier * square);
            if *flag != 0 {
                quantize_block::<L>(left, size::<L>(left), fine);
            }
        }
    }
}

/// The largest magnitude and the mean square of 32 values.
#[inline(always)]
unsafe fn size<L: Lanes>([low, high]: [L; 2]) -> (f32, f32) {
    // SAFETY: register operations only.
    unsafe { (low.abs().max(high.abs()).largest(), high.mul_add(high, low.mul(low)).sum() / BLOCK as f32) }
}

/// Quantizes 32 values of this largest magnitude and mean square; returns what rounding took away.
#[inline(always)]
unsafe fn quantize_block<L: Lanes>(halves: [L; 2], (magnitude, square): (f32, f32), out: &mut Block) -> [L; 2] {
    let scale = magnitude / 127.0;
    let finite = square.is_finite(); // the largest of lanes may skip what is not a number; their squares do not
    // A block of zeros, or of values so small that the inverse overflows, quantizes to zeros.
    let inverse = if scale > 1e-37 { 1.0 / scale } else { 0.0 };
    // SAFETY: each half stores sixteen bytes of the 32.
    unsafe {
        let low = halves[0].mul(L::splat(inverse)).round_to_ints();
        let high = halves[1].mul(L::splat(inverse)).round_to_ints();
        L::ints_store_i8(low, out.quants.as_mut_ptr());
        L::ints_store_i8(high, out.quants.as_mut_ptr().add(LANES));
        // What is not finite has no quants: the integers are any, and wrap. The scale carries it on, so that the sampler
        // sees it and says so.
        let low_sum = L::ints_sum(low);
        let sum = low_sum.wrapping_add(L::ints_sum(high));
        out.scale = if finite { scale } else { f32::NAN };
        out.scaled_sum = out.scale * sum as f32;
        out.offset = sum.wrapping_mul(-128);
        out.offset_low_half = low_sum.wrapping_mul(-128);
        let minus = L::splat(-scale);
        [L::ints_to_f32(low).mul_add(minus, halves[0]), L::ints_to_f32(high).mul_add(minus, halves[1])]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_finite_stays_so_and_stops_nothing() {
        for isa in Isa::ALL.into_iter().filter(|i| i.is_available()) {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut all = Activations::new(64, true);
                all.resize(1);
                all.fill(isa, &Pool::new(1), |_, row| {
                    row.fill(1.0);
                    row[5] = bad;
                });
                assert!(all.blocks[0].scale.is_nan() && all.blocks[0].scaled_sum.is_nan(), "{isa}, {bad}");
                assert_eq!(all.blocks[1].scale, 1.0 / 127.0, "{isa}, {bad}");
            }
        }
    }

    #[test]
    fn an_outlier_leaves_a_remainder_that_holds_what_was_lost() {
        let mut all = Activations::new(32, true);
        all.resize(1);
        let value = |i: usize| if i == 3 { 100.0 } else { (i as f32 * 0.7).sin() };
        all.fill(Isa::detect(), &Pool::new(1), |_, row| row.iter_mut().enumerate().for_each(|(i, x)| *x = value(i)));
        assert_eq!(all.fine_blocks(&[0]), [(0, 0)]);
        for i in 0..32 {
            let part = |b: &Block| b.scale * f32::from(b.quants[i]);
            assert!((part(&all.blocks[0]) + part(&all.fine[0]) - value(i)).abs() < 0.002, "value {i}");
        }
    }
}
