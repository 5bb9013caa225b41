//! The dot products of packed weights: a group of sixteen matrix rows times a few rows of quantized activations.
//!
//! For each block of 32 columns an exact integer dot product in sixteen lanes (one per row of the matrix), then one
//! conversion and one fused multiply-add. Every output is summed block by block in order, whatever the tile, so a
//! row's result does not depend on its neighbours.
//!
//! Bound: on Zen 4 a 512-bit dot, multiply or multiply-add takes one cycle of the same two pipes, so a block costs
//! eight dots and two more operations per row, 80 % of the int8 peak.

use super::activations::Block;
use super::blocks::Packing;
use super::isa::per_isa;
use super::lanes::{LANES, Lanes};
use super::matmul::TILE;
use super::matrix::{K_BLOCKS, Layout};

per_isa! {
    /// Multiplies the first `n` of `rows` with a group; `out` gets sixteen results for each. Meanwhile the lines of the
    /// group at `next`, as long as this one, are asked for, unless it is null.
    ///
    /// # Safety
    /// - `isa` is available; `group` holds `blocks` blocks of `packing` (`Packed::holds`);
    /// - `n` is a tile size of [`super::matmul::tile_len`], and the first `n` pointers are valid for `blocks` blocks.
    pub unsafe fn tile(
        packing: Packing,
        group: *const u8,
        blocks: usize,
        n: usize,
        rows: &[*const Block; TILE],
        next: *const u8,
        out: &mut [[f32; LANES]; TILE],
    ) = tile_body;
}

#[inline(always)]
unsafe fn tile_body<L: Lanes>(
    packing: Packing,
    group: *const u8,
    blocks: usize,
    n: usize,
    rows: &[*const Block; TILE],
    next: *const u8,
    out: &mut [[f32; LANES]; TILE],
) {
    macro_rules! rows {
        ($n:literal) => {{
            let rows: &[*const Block; $n] = rows.first_chunk().unwrap_unchecked();
            let mut sums = [L::splat(0.0); $n];
            // The packing is settled outside the loop over blocks.
            macro_rules! each {
                ($packing:ident, $kernel:ident) => {{
                    const AT: Layout = Layout::of(Packing::$packing);
                    let mut first = 0;
                    while first < blocks {
                        let n = K_BLOCKS.min(blocks - first);
                        let run = group.add(first / K_BLOCKS * AT.run_bytes);
                        let (scales, units) = (run.add(n * AT.quants), run.add(n * (AT.quants + AT.scales)));
                        for i in 0..n {
                            if !next.is_null() {
                                let share = AT.run_bytes / K_BLOCKS;
                                ask_for::<L>(next.wrapping_add((first + i) * share), share);
                            }
                            let rows = at(rows, first + i);
                            $kernel::<L, $n>(run.add(i * AT.quants), scales.add(i * AT.scales), units, rows, &mut sums);
                        }
                        first += n;
                    }
                }};
            }
            match packing {
                Packing::Signed8 => each!(Signed8, signed8),
                Packing::SixK => each!(SixK, six_k),
                Packing::Unsigned8 => each!(Unsigned8, unsigned8),
                Packing::Unsigned4 => each!(Unsigned4, unsigned4),
                Packing::FourK => each!(FourK, four_k),
            }
            for t in 0..$n {
                sums[t].store(out[t].as_mut_ptr());
            }
        }};
    }
    // SAFETY: the caller's obligations, passed on.
    unsafe {
        match n {
            1 => rows!(1),
            2 => rows!(2),
            3 => rows!(3),
            4 => rows!(4),
            5 => rows!(5),
            6 => rows!(6),
            7 => rows!(7),
            8 => rows!(8),
            12 => rows!(12),
            _ => unreachable!("{n} is no tile size"),
        }
    }
}

/// Asks for the lines of a block's share of the next group.
///
/// A group ahead is about a microsecond ahead of its use, and the second cache has room for it: one core reads weights
/// of Q4_K for one row at 32 GB/s, where asking a kilobyte ahead for the first cache gave 17; for sixteen rows over 32
/// experts it does 238 Gop/s of 300, and did 150.
#[inline(always)]
unsafe fn ask_for<L: Lanes>(from: *const u8, len: usize) {
    let mut line = 0;
    while line < len {
        // SAFETY: an address to ask for need not be valid.
        unsafe { L::prefetch(from.wrapping_add(line)) };
        line += 64;
    }
}

/// Block `b` of each row.
#[inline(always)]
unsafe fn at<const N: usize>(rows: &[*const Block; N], b: usize) -> [*const Block; N] {
    let mut at = *rows;
    for row in &mut at {
        // SAFETY: the rows have a block `b`.
        *row = unsafe { row.add(b) };
    }
    at
}

per_isa! {
    /// Adds to `out` what the listed blocks' remainders give.
    ///
    /// Values that are large for one token are large for its neighbours too, in the same columns: the rows of a tile
    /// are taken together, so that a block's weights are unpacked once and no sum waits for another.
    ///
    /// # Safety
    /// - As for `tile`; `listed` has blocks below `blocks`, in order, each with the index of a row whose pointer is valid.
    pub unsafe fn remainders(
        packing: Packing,
        group: *const u8,
        blocks: usize,
        rows: &[*const Block; TILE],
        listed: &[(usize, usize)],
        out: &mut [[f32; LANES]; TILE],
    ) = remainders_body;
}

#[inline(always)]
unsafe fn remainders_body<L: Lanes>(
    packing: Packing,
    group: *const u8,
    blocks: usize,
    rows: &[*const Block; TILE],
    listed: &[(usize, usize)],
    out: &mut [[f32; LANES]; TILE],
) {
    macro_rules! each {
        ($packing:ident, $kernel:ident) => {{
            const AT: Layout = Layout::of(Packing::$packing);
            let mut rest = listed;
            while let Some(&(b, _)) = rest.first() {
                let mut n = 1;
                while n < rest.len() && rest[n].0 == b {
                    n += 1;
                }
                let (quants, scales, units) = AT.block(blocks, b);
                let (quants, scales, units) = (group.add(quants), group.add(scales), group.add(units));
                macro_rules! rows {
                    ($n:literal) => {{
                        let mut row = [std::ptr::null(); $n];
                        let mut sums = [L::splat(0.0); $n];
                        for t in 0..$n {
                            row[t] = rows[rest[t].1].add(b);
                            sums[t] = L::load(out[rest[t].1].as_ptr());
                        }
                        $kernel::<L, $n>(quants, scales, units, row, &mut sums);
                        for t in 0..$n {
                            sums[t].store(out[rest[t].1].as_mut_ptr());
                        }
                        rest = &rest[$n..];
                    }};
                }
                match n {
                    1 => rows!(1),
                    2 => rows!(2),
                    3 | 5 => rows!(3),
                    4 => rows!(4),
                    _ => rows!(6),
                }
            }
        }};
    }
    // SAFETY: the caller's obligations, passed on; each of `out` holds sixteen values.
    unsafe {
        match packing {
            Packing::Signed8 => each!(Signed8, signed8),
            Packing::SixK => each!(SixK, six_k),
            Packing::Unsigned8 => each!(Unsigned8, unsigned8),
            Packing::Unsigned4 => each!(Unsigned4, unsigned4),
            Packing::FourK => each!(FourK, four_k),
        }
    }
}

// No closure and no iterator stands between these loops and the register operations: only what is inlined into a
// function that has the instruction set becomes its code, and what the compiler leaves as a call costs a hundredfold.

/// Writes a body once for each value, as a constant. Left to itself the compiler keeps the loop over the runs of a
/// block, and reloads every row's pointer from the stack in each turn.
macro_rules! unrolled {
    ($name:ident in $($value:literal),* => $body:block) => {
        $({
            const $name: usize = $value;
            $body
        })*
    };
}

/// The four activations of run `j` of a block as one integer.
#[inline(always)]
unsafe fn four(block: *const Block, j: usize) -> i32 {
    // SAFETY: `j < 8`, so the four bytes are quants of the block; any alignment will do.
    unsafe { (&raw const (*block).quants).cast::<i8>().add(j * 4).cast::<i32>().read_unaligned() }
}

// The kernels add a block of a group, whose parts are given, to the sums of N rows, whose blocks are given.
// SAFETY of all: see `tile`; the pointers are to a block's parts as `Layout` places them, and `J < 8`.

#[inline(always)]
unsafe fn signed8<L: Lanes, const N: usize>(
    quants: *const u8,
    scales: *const u8,
    _units: *const u8,
    rows: [*const Block; N],
    sums: &mut [L; N],
) {
    // SAFETY: as said above.
    unsafe {
        // Weights are stored with an offset of 128: start from -128 times the sum of the activations.
        let mut acc = [L::ints_splat(0); N];
        for t in 0..N {
            acc[t] = L::ints_splat((*rows[t]).offset);
        }
        unrolled!(J in 0, 1, 2, 3, 4, 5, 6, 7 => {
            let w = L::load_bytes(quants.add(J * 64));
            for t in 0..N {
                acc[t] = L::dot(acc[t], w, four(rows[t], J));
            }
        });
        let scale = L::load_f16(scales.cast());
        for t in 0..N {
            let both = scale.mul(L::splat((*rows[t]).scale));
            sums[t] = L::ints_to_f32(acc[t]).mul_add(both, sums[t]);
        }
    }
}

#[inline(always)]
unsafe fn six_k<L: Lanes, const N: usize>(
    quants: *const u8,
    scales: *const u8,
    units: *const u8,
    rows: [*const Block; N],
    sums: &mut [L; N],
) {
    // SAFETY: as said above; six runs of 64 bytes, two runs of sixteen steps, a unit per K-block.
    unsafe {
        let (steps, unit) = (scales.cast::<i8>(), L::load_f16(units.cast()));
        let mut acc = [L::ints_splat(0); N];
        macro_rules! dot {
            ($j:literal, $left:literal, $low:expr, $high:expr) => {{
                let w = L::six_bits::<$left>($low, $high);
                for t in 0..N {
                    acc[t] = L::dot(acc[t], w, four(rows[t], $j));
                }
            }};
        }
        macro_rules! scale {
            ($half:literal) => {{
                let scale = L::ints_to_f32(L::ints_load_i8(steps.add($half * LANES))).mul(unit);
                for t in 0..N {
                    let both = scale.mul(L::splat((*rows[t]).scale));
                    sums[t] = L::ints_to_f32(acc[t]).mul_add(both, sums[t]);
                }
            }};
        }
        // The offset is 32 here: a quarter of what the rows hold, and exact, for that is a multiple of 128.
        for t in 0..N {
            acc[t] = L::ints_splat((*rows[t]).offset_low_half >> 2);
        }
        let high = L::load_bytes(quants.add(4 * 64));
        dot!(0, 4, L::load_bytes(quants), high);
        dot!(1, 2, L::load_bytes(quants.add(64)), high);
        dot!(2, 0, L::load_bytes(quants.add(128)), high);
        dot!(3, -2, L::load_bytes(quants.add(192)), high);
        scale!(0);
        for t in 0..N {
            acc[t] = L::ints_splat(((*rows[t]).offset - (*rows[t]).offset_low_half) >> 2);
        }
        let high = L::load_bytes(quants.add(5 * 64));
        dot!(4, 4, L::high_nibbles(L::load_bytes(quants)), high);
        dot!(5, 2, L::high_nibbles(L::load_bytes(quants.add(64))), high);
        dot!(6, 0, L::high_nibbles(L::load_bytes(quants.add(128))), high);
        dot!(7, -2, L::high_nibbles(L::load_bytes(quants.add(192))), high);
        scale!(1);
    }
}

#[inline(always)]
unsafe fn unsigned8<L: Lanes, const N: usize>(
    quants: *const u8,
    scales: *const u8,
    _units: *const u8,
    rows: [*const Block; N],
    sums: &mut [L; N],
) {
    // SAFETY: as said above; scales and mins are two runs of sixteen per block.
    unsafe {
        let mut acc = [L::ints_splat(0); N];
        unrolled!(J in 0, 1, 2, 3, 4, 5, 6, 7 => {
            let w = L::load_bytes(quants.add(J * 64));
            for t in 0..N {
                acc[t] = L::dot(acc[t], w, four(rows[t], J));
            }
        });
        let scales = scales.cast::<u16>();
        with_min(L::load_f16(scales), L::load_f16(scales.add(LANES)), &acc, rows, sums);
    }
}

#[inline(always)]
unsafe fn unsigned4<L: Lanes, const N: usize>(
    quants: *const u8,
    scales: *const u8,
    _units: *const u8,
    rows: [*const Block; N],
    sums: &mut [L; N],
) {
    // SAFETY: as said above; scales and mins are two runs of sixteen per block.
    unsafe {
        let acc = nibble_dots::<L, N>(quants, rows);
        let scales = scales.cast::<u16>();
        with_min(L::load_f16(scales), L::load_f16(scales.add(LANES)), &acc, rows, sums);
    }
}

#[inline(always)]
unsafe fn four_k<L: Lanes, const N: usize>(
    quants: *const u8,
    scales: *const u8,
    units: *const u8,
    rows: [*const Block; N],
    sums: &mut [L; N],
) {
    // SAFETY: as said above; two runs of sixteen steps per block, two of units per K-block.
    unsafe {
        let acc = nibble_dots::<L, N>(quants, rows);
        let units = units.cast::<u16>();
        let scale = L::ints_to_f32(L::ints_load_u8(scales)).mul(L::load_f16(units));
        let min = L::ints_to_f32(L::ints_load_u8(scales.add(LANES))).mul(L::load_f16(units.add(LANES)));
        with_min(scale, L::splat(0.0).sub(min), &acc, rows, sums);
    }
}

/// The dot products of a block of four-bit quants, in four runs of 64 bytes.
#[inline(always)]
unsafe fn nibble_dots<L: Lanes, const N: usize>(quants: *const u8, rows: [*const Block; N]) -> [L::Ints; N] {
    // SAFETY: as said above.
    unsafe {
        let mut acc = [L::ints_splat(0); N];
        unrolled!(J in 0, 1, 2, 3 => {
            let both = L::load_bytes(quants.add(J * 64));
            let (low, high) = (L::low_nibbles(both), L::high_nibbles(both));
            for t in 0..N {
                acc[t] = L::dot(acc[t], low, four(rows[t], J));
                acc[t] = L::dot(acc[t], high, four(rows[t], J + 4));
            }
        });
        acc
    }
}

/// Adds one block of a packing with mins: `scale * dot + min * (sum of the activations)`.
#[inline(always)]
unsafe fn with_min<L: Lanes, const N: usize>(
    scale: L,
    min: L,
    acc: &[L::Ints; N],
    rows: [*const Block; N],
    sums: &mut [L; N],
) {
    // SAFETY: the rows point at blocks; register operations otherwise.
    unsafe {
        for t in 0..N {
            sums[t] = L::ints_to_f32(acc[t]).mul_add(scale.mul(L::splat((*rows[t]).scale)), sums[t]);
            sums[t] = min.mul_add(L::splat((*rows[t]).scaled_sum), sums[t]);
        }
    }
}
