//! Activations times weights: `out[r][n] = sum over k of x[r][k] * w[n][k]`.
//!
//! Packed matrices: for each block of 32 columns an exact integer dot product in sixteen lanes (one per row of the
//! matrix), then one conversion and one fused multiply-add. Every output is summed block by block in order, whatever
//! the tile, so a row's result does not depend on its neighbours. Bound: 2 * rows * cols operations per activation row
//! against the int8 peak, or the matrix's bytes once per call against the memory's bandwidth.

use super::activations::BlockInfo;
use super::blocks::Packing;
use super::isa::per_isa;
use super::lanes::{LANES, Lanes};
use super::matrix::{Data, Packed};
use super::pool::Disjoint;
use super::{Activations, Isa, Matrix, Pool};

/// Activation rows that share one pass over a group: 6 integer and 6 float accumulators, a scale and a weight fit
/// thirty-two registers.
pub(super) const TILE: usize = 6;
/// Multiply-adds a task should have at least.
const WORK_PER_TASK_MIN: usize = 1 << 17;

/// One matrix to multiply with, and where its results go.
pub struct Product<'a> {
    pub matrix: &'a Matrix,
    pub out: &'a mut [f32], // (rows of x, rows of the matrix)
}

/// Multiplies all rows of `x` with each matrix, in one parallel region.
pub fn matmul(isa: Isa, pool: &Pool, x: &Activations, products: &mut [Product<'_>]) {
    let rows: Vec<u32> = (0..x.rows() as u32).collect();
    let outs: Vec<_> = products
        .iter_mut()
        .map(|p| {
            assert_eq!(
                p.matrix.cols(),
                x.cols(),
                "the matrix reads {} values, the rows have {}",
                p.matrix.cols(),
                x.cols()
            );
            assert_eq!(p.out.len(), x.rows() * p.matrix.rows(), "room for {} results", p.out.len());
            (p.matrix, Disjoint::new(p.out))
        })
        .collect();
    let tasks: Vec<(usize, usize, usize)> = outs
        .iter()
        .enumerate()
        .flat_map(|(which, (matrix, _))| {
            let per_task = groups_per_task(pool, matrix, rows.len());
            (0..matrix.groups()).step_by(per_task).map(move |g| (which, g, per_task))
        })
        .collect();
    pool.run(tasks.len(), |t| {
        let (which, first, count) = tasks[t];
        let (matrix, out) = &outs[which];
        for g in first..matrix.groups().min(first + count) {
            let lanes = LANES.min(matrix.rows() - g * LANES);
            for_tiles(isa, matrix, g, x, &rows, |r, values| {
                // SAFETY: group `g` of row `r` is written by this task only; the output outlives the region.
                let out = unsafe { out.slice(r * matrix.rows() + g * LANES, lanes) };
                out.copy_from_slice(&values[..lanes]);
            });
        }
    });
}

/// How many groups of sixteen rows make a task: enough work, and several tasks per thread to even out.
pub(super) fn groups_per_task(pool: &Pool, matrix: &Matrix, rows: usize) -> usize {
    let group_work = rows * matrix.cols() * LANES;
    let for_work = WORK_PER_TASK_MIN.div_ceil(group_work.max(1));
    let for_balance = matrix.groups().div_ceil(pool.threads() * 8);
    for_work.max(for_balance).max(1)
}

/// Multiplies the chosen rows of `x` with group `g`; `put` gets the index into `rows` and sixteen results.
pub(super) fn for_tiles(
    isa: Isa,
    matrix: &Matrix,
    g: usize,
    x: &Activations,
    rows: &[u32],
    mut put: impl FnMut(usize, &[f32; LANES]),
) {
    let mut out = [[0.0f32; LANES]; TILE];
    for (t, tile) in rows.chunks(TILE).enumerate() {
        group_times_tile(isa, matrix, g, x, tile, &mut out);
        for (i, values) in out.iter().take(tile.len()).enumerate() {
            put(t * TILE + i, values);
        }
    }
}

/// Multiplies up to [`TILE`] rows of `x` with the sixteen rows of group `g`.
pub(super) fn group_times_tile(
    isa: Isa,
    matrix: &Matrix,
    g: usize,
    x: &Activations,
    tile: &[u32],
    out: &mut [[f32; LANES]; TILE],
) {
    assert!(tile.len() <= TILE && matrix.cols() == x.cols());
    assert!(tile.iter().all(|r| (*r as usize) < x.rows()), "rows {tile:?} of {}", x.rows());
    let cols = matrix.cols();
    match &matrix.data {
        Data::Packed(packed) => {
            assert!(x.is_quantized(), "a packed matrix reads quantized rows");
            let group = packed.group(g);
            assert!(
                group.len() >= cols / 32 * (Packed::quant_bytes(packed.packing) + Packed::scale_bytes(packed.packing))
            );
            let quants: [*const i8; TILE] = std::array::from_fn(|i| match tile.get(i) {
                Some(r) => x.quants[*r as usize * cols..].as_ptr(),
                None => std::ptr::null(),
            });
            let infos: [*const BlockInfo; TILE] = std::array::from_fn(|i| match tile.get(i) {
                Some(r) => x.blocks[*r as usize * (cols / 32)..].as_ptr(),
                None => std::ptr::null(),
            });
            // SAFETY: the first `tile.len()` pointers are rows of `cols` quants and `cols / 32` blocks; the group holds
            // that many blocks of this packing (asserted); `isa` is available.
            unsafe { packed_tile(isa, packed.packing, group.as_ptr(), cols / 32, tile.len(), &quants, &infos, out) };
            for (r, out) in tile.iter().zip(out) {
                let (r, blocks) = (*r as usize, cols / 32);
                let listed = &x.fine.listed[r * blocks..][..usize::from(x.fine.counts[r])];
                if listed.is_empty() {
                    continue;
                }
                let (fine, infos) = (x.fine.quants[r * cols..].as_ptr(), x.fine.blocks[r * blocks..].as_ptr());
                // SAFETY: as above, for one row; the listed blocks are blocks of the row.
                unsafe { packed_remainder(isa, packed.packing, group.as_ptr(), blocks, fine, infos, listed, out) };
            }
        }
        Data::F32(w) => float_group(isa, FloatKind::F32, w.as_ptr().cast(), matrix, g, x, tile, out),
        Data::F16(w) => float_group(isa, FloatKind::F16, w.as_ptr().cast(), matrix, g, x, tile, out),
        Data::Bf16(w) => float_group(isa, FloatKind::Bf16, w.as_ptr().cast(), matrix, g, x, tile, out),
    }
}

per_isa! {
    /// # Safety
    /// - `isa` is available; `group` holds `blocks` blocks of `packing`, quants then scales;
    /// - the first `rows <= TILE` pointers of `quants` and `infos` are valid for `32 * blocks` and `blocks` elements.
    unsafe fn packed_tile(
        packing: Packing,
        group: *const u8,
        blocks: usize,
        rows: usize,
        quants: &[*const i8; TILE],
        infos: &[*const BlockInfo; TILE],
        out: &mut [[f32; LANES]; TILE],
    ) = packed_tile_body;
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn packed_tile_body<L: Lanes>(
    packing: Packing,
    group: *const u8,
    blocks: usize,
    rows: usize,
    quants: &[*const i8; TILE],
    infos: &[*const BlockInfo; TILE],
    out: &mut [[f32; LANES]; TILE],
) {
    macro_rules! tile {
        ($n:literal) => {{
            let mut sums = [L::splat(0.0); $n];
            // The packing is settled outside the loop over blocks.
            match packing {
                Packing::Signed8 => {
                    (0..blocks).for_each(|b| signed8::<L, $n>(group, blocks, b, quants, infos, &mut sums))
                }
                Packing::Signed8Halves => {
                    (0..blocks).for_each(|b| signed8_halves::<L, $n>(group, blocks, b, quants, infos, &mut sums))
                }
                Packing::Unsigned8 => {
                    (0..blocks).for_each(|b| unsigned8::<L, $n>(group, blocks, b, quants, infos, &mut sums))
                }
                Packing::Unsigned4 => {
                    (0..blocks).for_each(|b| unsigned4::<L, $n>(group, blocks, b, quants, infos, &mut sums))
                }
            }
            for t in 0..$n {
                sums[t].store(out[t].as_mut_ptr());
            }
        }};
    }
    // SAFETY: the caller's obligations, passed on.
    unsafe {
        match rows {
            1 => tile!(1),
            2 => tile!(2),
            3 => tile!(3),
            4 => tile!(4),
            5 => tile!(5),
            6 => tile!(6),
            _ => {}
        }
    }
}

per_isa! {
    /// Adds to `out` what the listed blocks' remainders give.
    ///
    /// # Safety
    /// - As for `packed_tile`, with one row of quants and infos; every listed block is below `blocks`.
    unsafe fn packed_remainder(
        packing: Packing,
        group: *const u8,
        blocks: usize,
        quants: *const i8,
        infos: *const BlockInfo,
        listed: &[u16],
        out: &mut [f32; LANES],
    ) = packed_remainder_body;
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn packed_remainder_body<L: Lanes>(
    packing: Packing,
    group: *const u8,
    blocks: usize,
    quants: *const i8,
    infos: *const BlockInfo,
    listed: &[u16],
    out: &mut [f32; LANES],
) {
    let (quants, infos) = ([quants; TILE], [infos; TILE]);
    // SAFETY: the caller's obligations, passed on; `out` holds sixteen values.
    unsafe {
        let mut sums = [L::load(out.as_ptr())];
        for b in listed.iter().map(|b| usize::from(*b)) {
            match packing {
                Packing::Signed8 => signed8::<L, 1>(group, blocks, b, &quants, &infos, &mut sums),
                Packing::Signed8Halves => signed8_halves::<L, 1>(group, blocks, b, &quants, &infos, &mut sums),
                Packing::Unsigned8 => unsigned8::<L, 1>(group, blocks, b, &quants, &infos, &mut sums),
                Packing::Unsigned4 => unsigned4::<L, 1>(group, blocks, b, &quants, &infos, &mut sums),
            }
        }
        sums[0].store(out.as_mut_ptr());
    }
}

/// Reads the four activations of run `j` of block `b` as one integer.
#[inline(always)]
unsafe fn four(q: *const i8, b: usize, j: usize) -> i32 {
    // SAFETY: the block lies inside the row; any alignment will do.
    unsafe { q.add(b * 32 + j * 4).cast::<i32>().read_unaligned() }
}

// The four block kernels add block `b` of a group to the sums of N rows.
// SAFETY of all: see `packed_tile`; `b < blocks` and `j < 8` keep every offset inside the group and the rows.

#[inline(always)]
unsafe fn signed8<L: Lanes, const N: usize>(
    group: *const u8,
    blocks: usize,
    b: usize,
    quants: &[*const i8; TILE],
    infos: &[*const BlockInfo; TILE],
    sums: &mut [L; N],
) {
    // SAFETY: as said above.
    unsafe {
        // Weights are stored with an offset of 128: start from -128 times the sum of the activations.
        let mut acc: [L::Ints; N] = std::array::from_fn(|t| {
            let halves = (*infos[t].add(b)).half_sums;
            L::ints_splat(-128 * (halves[0] + halves[1]))
        });
        for j in 0..8 {
            let w = L::load_bytes(group.add(b * 512 + j * 64));
            for t in 0..N {
                acc[t] = L::dot(acc[t], w, four(quants[t], b, j));
            }
        }
        let scale = L::load_f16(group.add(blocks * 512).cast::<u16>().add(b * LANES));
        for t in 0..N {
            let both = scale.mul(L::splat((*infos[t].add(b)).scale));
            sums[t] = L::ints_to_f32(acc[t]).mul_add(both, sums[t]);
        }
    }
}

#[inline(always)]
unsafe fn signed8_halves<L: Lanes, const N: usize>(
    group: *const u8,
    blocks: usize,
    b: usize,
    quants: &[*const i8; TILE],
    infos: &[*const BlockInfo; TILE],
    sums: &mut [L; N],
) {
    // SAFETY: as said above; the scales are two runs of sixteen per block.
    unsafe {
        for half in 0..2 {
            let mut acc: [L::Ints; N] =
                std::array::from_fn(|t| L::ints_splat(-128 * (*infos[t].add(b)).half_sums[half]));
            for j in half * 4..half * 4 + 4 {
                let w = L::load_bytes(group.add(b * 512 + j * 64));
                for t in 0..N {
                    acc[t] = L::dot(acc[t], w, four(quants[t], b, j));
                }
            }
            let scale = L::load_f16(group.add(blocks * 512).cast::<u16>().add((b * 2 + half) * LANES));
            for t in 0..N {
                let both = scale.mul(L::splat((*infos[t].add(b)).scale));
                sums[t] = L::ints_to_f32(acc[t]).mul_add(both, sums[t]);
            }
        }
    }
}

#[inline(always)]
unsafe fn unsigned8<L: Lanes, const N: usize>(
    group: *const u8,
    blocks: usize,
    b: usize,
    quants: &[*const i8; TILE],
    infos: &[*const BlockInfo; TILE],
    sums: &mut [L; N],
) {
    // SAFETY: as said above; scales and mins are two runs of sixteen per block.
    unsafe {
        let mut acc: [L::Ints; N] = std::array::from_fn(|_| L::ints_splat(0));
        for j in 0..8 {
            let w = L::load_bytes(group.add(b * 512 + j * 64));
            for t in 0..N {
                acc[t] = L::dot(acc[t], w, four(quants[t], b, j));
            }
        }
        with_min::<L, N>(group.add(blocks * 512).cast(), b, &acc, infos, sums);
    }
}

#[inline(always)]
unsafe fn unsigned4<L: Lanes, const N: usize>(
    group: *const u8,
    blocks: usize,
    b: usize,
    quants: &[*const i8; TILE],
    infos: &[*const BlockInfo; TILE],
    sums: &mut [L; N],
) {
    // SAFETY: as said above, with four runs of 64 bytes per block.
    unsafe {
        let mut acc: [L::Ints; N] = std::array::from_fn(|_| L::ints_splat(0));
        for j in 0..4 {
            let both = L::load_bytes(group.add(b * 256 + j * 64));
            let (low, high) = (L::low_nibbles(both), L::high_nibbles(both));
            for t in 0..N {
                acc[t] = L::dot(acc[t], low, four(quants[t], b, j));
                acc[t] = L::dot(acc[t], high, four(quants[t], b, j + 4));
            }
        }
        with_min::<L, N>(group.add(blocks * 256).cast(), b, &acc, infos, sums);
    }
}

/// Adds one block of a packing with mins: `scale * dot + min * (sum of the activations)`.
#[inline(always)]
unsafe fn with_min<L: Lanes, const N: usize>(
    scales: *const u16,
    b: usize,
    acc: &[L::Ints; N],
    infos: &[*const BlockInfo; TILE],
    sums: &mut [L; N],
) {
    // SAFETY: block `b` has 32 f16 values at `scales`, and its info in each row.
    unsafe {
        let scale = L::load_f16(scales.add(b * 2 * LANES));
        let min = L::load_f16(scales.add((b * 2 + 1) * LANES));
        for t in 0..N {
            let info = *infos[t].add(b);
            sums[t] = L::ints_to_f32(acc[t]).mul_add(scale.mul(L::splat(info.scale)), sums[t]);
            sums[t] = min.mul_add(L::splat(info.scaled_sum), sums[t]);
        }
    }
}

#[derive(Clone, Copy)]
enum FloatKind {
    F32,
    F16,
    Bf16,
}

/// Sixteen rows of a float matrix, each a dot product along the columns.
#[allow(clippy::too_many_arguments)]
fn float_group(
    isa: Isa,
    kind: FloatKind,
    weights: *const u8,
    matrix: &Matrix,
    g: usize,
    x: &Activations,
    tile: &[u32],
    out: &mut [[f32; LANES]; TILE],
) {
    let cols = matrix.cols();
    let xs: [*const f32; TILE] = std::array::from_fn(|i| match tile.get(i) {
        Some(r) => x.floats[*r as usize * cols..].as_ptr(),
        None => std::ptr::null(),
    });
    let rows = LANES.min(matrix.rows() - g * LANES);
    // SAFETY: the matrix holds `rows` rows of `cols` values of this kind from row `16 g` on; the first `tile.len()`
    // pointers are rows of `cols` floats; `isa` is available.
    unsafe { float_tile(isa, kind, weights, g * LANES, rows, cols, tile.len(), &xs, out) }
}

per_isa! {
    /// # Safety
    /// - `isa` is available; `weights` holds rows `first..first + rows` (at most 16) of `cols` values of `kind`;
    /// - the first `n <= TILE` pointers of `xs` are valid for `cols` values.
    unsafe fn float_tile(
        kind: FloatKind,
        weights: *const u8,
        first: usize,
        rows: usize,
        cols: usize,
        n: usize,
        xs: &[*const f32; TILE],
        out: &mut [[f32; LANES]; TILE],
    ) = float_tile_body;
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn float_tile_body<L: Lanes>(
    kind: FloatKind,
    weights: *const u8,
    first: usize,
    rows: usize,
    cols: usize,
    n: usize,
    xs: &[*const f32; TILE],
    out: &mut [[f32; LANES]; TILE],
) {
    // SAFETY: the caller's obligations, passed on.
    unsafe {
        match kind {
            FloatKind::F32 => {
                float_rows::<L, f32>(weights.cast(), first, rows, cols, n, xs, out, |p| L::load(p), |v| v)
            }
            FloatKind::F16 => float_rows::<L, u16>(
                weights.cast(),
                first,
                rows,
                cols,
                n,
                xs,
                out,
                |p| L::load_f16(p),
                |v| half::f16::from_bits(v).to_f32(),
            ),
            FloatKind::Bf16 => float_rows::<L, u16>(
                weights.cast(),
                first,
                rows,
                cols,
                n,
                xs,
                out,
                |p| L::load_bf16(p),
                |v| half::bf16::from_bits(v).to_f32(),
            ),
        }
    }
}

/// Two rows of the matrix times up to six of `x` at a time: twelve accumulators, each summed in sixteen lanes along
/// the columns and then as a tree, so that the order is the same in every tile.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn float_rows<L: Lanes, T: Copy>(
    weights: *const T,
    first: usize,
    rows: usize,
    cols: usize,
    n: usize,
    xs: &[*const f32; TILE],
    out: &mut [[f32; LANES]; TILE],
    load: impl Fn(*const T) -> L + Copy,
    widen: impl Fn(T) -> f32 + Copy,
) {
    macro_rules! rows_of {
        ($m:literal, $r:expr) => {
            match n {
                1 => float_dots::<L, T, $m, 1>(weights, first, $r, cols, xs, out, load, widen),
                2 => float_dots::<L, T, $m, 2>(weights, first, $r, cols, xs, out, load, widen),
                3 => float_dots::<L, T, $m, 3>(weights, first, $r, cols, xs, out, load, widen),
                4 => float_dots::<L, T, $m, 4>(weights, first, $r, cols, xs, out, load, widen),
                5 => float_dots::<L, T, $m, 5>(weights, first, $r, cols, xs, out, load, widen),
                6 => float_dots::<L, T, $m, 6>(weights, first, $r, cols, xs, out, load, widen),
                _ => {}
            }
        };
    }
    // SAFETY: rows `first + r` (and `+ 1` in pairs) exist; see `float_tile`.
    unsafe {
        let mut r = 0;
        while r + 2 <= rows {
            rows_of!(2, r);
            r += 2;
        }
        if r < rows {
            rows_of!(1, r);
        }
    }
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn float_dots<L: Lanes, T: Copy, const M: usize, const N: usize>(
    weights: *const T,
    first: usize,
    r: usize,
    cols: usize,
    xs: &[*const f32; TILE],
    out: &mut [[f32; LANES]; TILE],
    load: impl Fn(*const T) -> L,
    widen: impl Fn(T) -> f32,
) {
    let whole = cols / LANES * LANES;
    // SAFETY: row `first + r + m` has `cols` values at `w[m]`; each of the N rows of x too; offsets stay below `cols`.
    unsafe {
        let w: [*const T; M] = std::array::from_fn(|m| weights.add((first + r + m) * cols));
        let mut acc = [[L::splat(0.0); N]; M];
        for k in (0..whole).step_by(LANES) {
            let w: [L; M] = std::array::from_fn(|m| load(w[m].add(k)));
            for t in 0..N {
                let x = L::load(xs[t].add(k));
                for m in 0..M {
                    acc[m][t] = w[m].mul_add(x, acc[m][t]);
                }
            }
        }
        for m in 0..M {
            for t in 0..N {
                let mut sum = acc[m][t].sum();
                for k in whole..cols {
                    sum = widen(*w[m].add(k)).mul_add(*xs[t].add(k), sum);
                }
                out[t][r + m] = sum;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::blocks::{self, Format};
    use super::super::matrix::RowSource;
    use super::*;

    fn values(n: usize, seed: u64) -> Vec<f32> {
        let mut state = seed;
        (0..n)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let value = (state >> 40) as f32 / (1 << 23) as f32 - 1.0;
                // Some outliers, so that remainders are part of every test.
                if state.is_multiple_of(53) { value * 30.0 } else { value }
            })
            .collect()
    }

    /// Random bytes are valid blocks of every quantized format, once their f16 scales are tame.
    fn random_rows(format: Format, rows: usize, cols: usize) -> Vec<Vec<u8>> {
        use candle_core::quantized::{GgmlDType, QTensor};
        use candle_core::{Device, Tensor};
        let dtype = match format {
            Format::F32 => GgmlDType::F32,
            Format::F16 => GgmlDType::F16,
            Format::Bf16 => GgmlDType::BF16,
            Format::Q8_0 => GgmlDType::Q8_0,
            Format::Q4_0 => GgmlDType::Q4_0,
            Format::Q4_1 => GgmlDType::Q4_1,
            Format::Q5_0 => GgmlDType::Q5_0,
            Format::Q5_1 => GgmlDType::Q5_1,
            Format::Q4K => GgmlDType::Q4K,
            Format::Q5K => GgmlDType::Q5K,
            Format::Q6K => GgmlDType::Q6K,
        };
        let tensor = Tensor::from_vec(values(rows * cols, 7), (rows, cols), &Device::Cpu).unwrap();
        let quantized = QTensor::quantize(&tensor, dtype).unwrap();
        let data = quantized.data().unwrap();
        data.chunks(format.row_bytes(cols).unwrap()).map(<[u8]>::to_vec).collect()
    }

    const FORMATS: [Format; 11] = [
        Format::F32,
        Format::F16,
        Format::Bf16,
        Format::Q8_0,
        Format::Q4_0,
        Format::Q4_1,
        Format::Q5_0,
        Format::Q5_1,
        Format::Q4K,
        Format::Q5K,
        Format::Q6K,
    ];

    fn matrix(format: Format, rows: &[Vec<u8>], cols: usize) -> Matrix {
        Matrix::from_rows(&RowSource { format, rows: rows.len(), cols, row: &|i| &rows[i] })
    }

    fn multiply(isa: Isa, threads: usize, m: &Matrix, x: &[f32]) -> Vec<f32> {
        let pool = Pool::new(threads);
        let mut acts = Activations::new(m.cols(), m.is_packed());
        acts.resize(x.len() / m.cols());
        acts.fill(isa, &pool, |r, row| row.copy_from_slice(&x[r * m.cols()..(r + 1) * m.cols()]));
        let mut out = vec![f32::NAN; acts.rows() * m.rows()];
        matmul(isa, &pool, &acts, &mut [Product { matrix: m, out: &mut out }]);
        out
    }

    #[test]
    fn every_set_and_thread_count_gives_the_scalar_bits() {
        let (n, k, rows) = (49, 512, 13);
        let x = values(rows * k, 3);
        for format in FORMATS {
            let m = matrix(format, &random_rows(format, n, k), k);
            let truth = multiply(Isa::Scalar, 1, &m, &x);
            for isa in Isa::ALL.into_iter().filter(|i| i.is_available()) {
                assert!(multiply(isa, 3, &m, &x) == truth, "{isa} differs from scalar on {}", format.name());
            }
        }
    }

    #[test]
    fn a_row_does_not_depend_on_its_neighbours() {
        let (n, k, rows) = (35, 256, 11);
        let x = values(rows * k, 5);
        for format in FORMATS {
            let m = matrix(format, &random_rows(format, n, k), k);
            let together = multiply(Isa::detect(), 2, &m, &x);
            for r in 0..rows {
                let alone = multiply(Isa::detect(), 1, &m, &x[r * k..(r + 1) * k]);
                assert!(alone == together[r * n..(r + 1) * n], "{} row {r}", format.name());
            }
        }
    }

    #[test]
    fn products_are_within_the_activations_rounding_of_the_exact_ones() {
        let (n, k, rows) = (32, 512, 4);
        let x = values(rows * k, 9);
        for format in FORMATS {
            let data = random_rows(format, n, k);
            let m = matrix(format, &data, k);
            let got = multiply(Isa::detect(), 2, &m, &x);
            let (mut error, mut norm) = (0.0f64, 0.0f64);
            let mut row = vec![0.0; k];
            for j in 0..n {
                blocks::dequantize_row(format, &data[j], &mut row);
                for r in 0..rows {
                    let exact: f64 = row.iter().zip(&x[r * k..]).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
                    error += (f64::from(got[r * n + j]) - exact).powi(2);
                    norm += exact.powi(2);
                }
            }
            // 8-bit activations: uniform rounding to 1/127 of a block's largest value is about 0.5 % of its norm.
            let tolerance = if format.is_float() { 1e-6 } else { 0.01 };
            assert!((error / norm).sqrt() < tolerance, "{}: {}", format.name(), (error / norm).sqrt());
        }
    }

    #[test]
    fn a_packed_matrix_reads_back_its_rows() {
        for format in FORMATS {
            let data = random_rows(format, 21, 256);
            let m = matrix(format, &data, 256);
            let (mut got, mut expected) = (vec![0.0; 256], vec![0.0; 256]);
            for (i, row) in data.iter().enumerate() {
                m.read_row(i, &mut got);
                blocks::dequantize_row(format, row, &mut expected);
                for (g, e) in got.iter().zip(&expected) {
                    // K-quants' products of two scales are rounded to f16 when packed: 2^-11 of a scale and of a min,
                    // which an outlier makes as large as 30.
                    assert!(
                        (g - e).abs() <= 30.0 / 1024.0 * e.abs().max(1.0),
                        "{} row {i}: {g} is not {e}",
                        format.name()
                    );
                }
            }
        }
    }
}
