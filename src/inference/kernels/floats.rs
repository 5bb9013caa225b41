//! The dot products of weights that stay floats: sixteen rows of a matrix times a few rows of activations.

use super::isa::per_isa;
use super::lanes::{LANES, Lanes};
use super::matmul::TILE;
use super::{Activations, Isa, Matrix};

#[derive(Clone, Copy)]
pub(super) enum FloatKind {
    F32,
    F16,
    Bf16,
}

/// Sixteen rows of a float matrix, each a dot product along the columns.
#[allow(clippy::too_many_arguments)]
pub(super) fn group(
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

/// Two rows of the matrix times up to twelve of `x` at a time: 24 accumulators, each summed in sixteen lanes along
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
                7 => float_dots::<L, T, $m, 7>(weights, first, $r, cols, xs, out, load, widen),
                8 => float_dots::<L, T, $m, 8>(weights, first, $r, cols, xs, out, load, widen),
                12 => float_dots::<L, T, $m, 12>(weights, first, $r, cols, xs, out, load, widen),
                _ => unreachable!("{n} is no tile size"),
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
