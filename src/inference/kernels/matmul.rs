//! Activations times weights: `out[r][n] = sum over k of x[r][k] * w[n][k]`.
//!
//! Bound: 2 * rows * cols operations per activation row against the int8 peak, or the matrix's bytes once per call
//! against the memory's bandwidth. Each task asks for weights a group ahead (see `packed`); reached with two threads on
//! a Zen 4: 109 tokens a second of one sequence in Q4_K_M and 65 in Q8_0, 58 % of what the memory gave at that time.

use super::activations::Block;
use super::floats::{self, FloatKind};
use super::lanes::LANES;
use super::matrix::Data;
use super::pool::Disjoint;
use super::{Activations, Isa, Matrix, Pool, packed};

/// Activation rows that share one pass over a group, at most: 12 integer and 12 float accumulators, a scale, a min
/// and the unpacked weights fit thirty-two registers.
pub(super) const TILE: usize = 12;
/// Multiply-adds a task should have at least: about 10 us on one core.
const WORK_PER_TASK_MIN: usize = 1 << 20;

/// Returns how many of `left` rows the next tile takes. Results do not depend on it.
fn tile_len(left: usize) -> usize {
    match left {
        0..=8 => left,
        9..=11 => left.div_ceil(2), // two of about equal length
        _ => TILE,
    }
}

/// One matrix to multiply with, and where its results go.
pub struct Product<'a> {
    pub matrix: &'a Matrix,
    pub out: &'a mut [f32], // (rows of x, rows of the matrix)
    pub then: Then,
}

/// What is done with a result.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Then {
    Write,
    /// Multiplied by the factor and added to what is there: a residual connection.
    Add(f32),
}

/// Multiplies all rows of `x` with each matrix, in one parallel region.
pub fn matmul(isa: Isa, pool: &Pool, x: &Activations, products: &mut [Product<'_>]) {
    let all: Vec<u32> = (0..x.rows() as u32).collect();
    let outs: Vec<_> = products
        .iter_mut()
        .map(|p| {
            let (reads, has) = (p.matrix.cols(), x.cols());
            assert_eq!(reads, has, "the matrix reads {reads} values, the rows have {has}");
            assert_eq!(p.out.len(), x.rows() * p.matrix.rows(), "room for {} results", p.out.len());
            (p.matrix, Disjoint::new(p.out), p.then)
        })
        .collect();
    let tasks: Vec<(usize, usize, usize)> = outs
        .iter()
        .enumerate()
        .flat_map(|(which, (matrix, _, _))| {
            let per_task = groups_per_task(pool, matrix.groups(), all.len() * matrix.cols() * LANES);
            (0..matrix.groups()).step_by(per_task).map(move |g| (which, g, per_task))
        })
        .collect();
    pool.run(tasks.len(), |t| {
        let (which, first, count) = tasks[t];
        let (matrix, out, then) = &outs[which];
        // The task that this thread is likely to take next.
        let after = tasks.get(t + pool.threads()).map_or(std::ptr::null(), |(w, g, _)| outs[*w].0.group_address(*g));
        let end = matrix.groups().min(first + count);
        let mut values = [[0.0f32; LANES]; TILE];
        // Tile by tile, so that its rows stay in the nearest cache while the weights stream past them, and results
        // are written side by side.
        for_tiles(&all, |tile| {
            let rows = TileRows::new(x, tile);
            for g in first..end {
                let next = if tile[0] > 0 {
                    std::ptr::null() // here already
                } else if g + 1 < end {
                    matrix.group_address(g + 1)
                } else {
                    after
                };
                group_times_tile(isa, matrix, g, &rows, next, &mut values);
                let lanes = LANES.min(matrix.rows() - g * LANES);
                for (r, values) in tile.iter().zip(&values) {
                    // SAFETY: group `g` of row `r` is written by this task only; the output outlives the region.
                    let out = unsafe { out.slice(*r as usize * matrix.rows() + g * LANES, lanes) };
                    match then {
                        Then::Write => put(out, values),
                        Then::Add(factor) => add_scaled(out, *factor, values),
                    }
                }
            }
        });
    });
}

/// Copies a group's results, of which the last group of a matrix may have fewer than sixteen.
fn put(out: &mut [f32], values: &[f32; LANES]) {
    match <&mut [f32; LANES]>::try_from(&mut *out) {
        // Of a length that the compiler knows: a call of `memmove` for each row and group is a tenth of prefill.
        Ok(out) => *out = *values,
        Err(_) => out.copy_from_slice(&values[..out.len()]),
    }
}

/// `out += factor * values`, rounded after each operation; as for `put`.
pub(super) fn add_scaled(out: &mut [f32], factor: f32, values: &[f32; LANES]) {
    match <&mut [f32; LANES]>::try_from(&mut *out) {
        Ok(out) => out.iter_mut().zip(values).for_each(|(x, y)| *x += factor * y),
        Err(_) => out.iter_mut().zip(values).for_each(|(x, y)| *x += factor * y),
    }
}

/// How many groups of sixteen rows make a task: enough work, and several tasks per thread to even out.
pub(super) fn groups_per_task(pool: &Pool, groups: usize, work_per_group: usize) -> usize {
    let for_work = WORK_PER_TASK_MIN.div_ceil(work_per_group.max(1));
    let for_balance = groups.div_ceil(pool.threads() * 8);
    // Never so many that a thread is left without work that is worth waking it for.
    let for_threads = groups.div_ceil(pool.threads());
    for_work.min(for_threads).max(for_balance).max(1)
}

/// Cuts rows into tiles.
pub(super) fn for_tiles(rows: &[u32], mut task: impl FnMut(&[u32])) {
    let mut first = 0;
    while first < rows.len() {
        let tile = &rows[first..first + tile_len(rows.len() - first)];
        task(tile);
        first += tile.len();
    }
}

/// The rows of a tile, looked up once for all groups that they are multiplied with.
pub(super) struct TileRows<'a> {
    x: &'a Activations,
    rows: [u32; TILE],
    n: usize,
    blocks: [*const Block; TILE], // where each row's blocks begin; null without
    fine: [*const Block; TILE],   // and its remainders
    listed: Vec<(usize, usize)>,  // the remainders there are: which block, which row of the tile
}

impl<'a> TileRows<'a> {
    /// `rows`: at most [`TILE`] of them, of `x`.
    pub fn new(x: &'a Activations, rows: &[u32]) -> Self {
        assert!(rows.len() <= TILE && rows.iter().all(|r| (*r as usize) < x.rows()), "rows {rows:?} of {}", x.rows());
        let none = [std::ptr::null(); TILE];
        let mut tile = Self { x, rows: [0; TILE], n: rows.len(), blocks: none, fine: none, listed: Vec::new() };
        tile.rows[..rows.len()].copy_from_slice(rows);
        if x.is_quantized() {
            for (i, r) in rows.iter().enumerate() {
                tile.blocks[i] = x.row_blocks(*r as usize).as_ptr();
                tile.fine[i] = x.row_fine(*r as usize).as_ptr();
            }
            tile.listed = x.fine_blocks(rows);
        }
        tile
    }

    pub fn len(&self) -> usize {
        self.n
    }

    fn rows(&self) -> &[u32] {
        &self.rows[..self.n]
    }
}

/// Multiplies the rows of a tile with the sixteen rows of group `g`, and asks for the group at `next` meanwhile.
pub(super) fn group_times_tile(
    isa: Isa,
    matrix: &Matrix,
    g: usize,
    tile: &TileRows<'_>,
    next: *const u8,
    out: &mut [[f32; LANES]; TILE],
) {
    let x = tile.x;
    assert_eq!(matrix.cols(), x.cols());
    match &matrix.data {
        Data::Packed(weights) => {
            assert!(x.is_quantized(), "a packed matrix reads quantized rows");
            let blocks = matrix.cols() / 32;
            assert!(weights.holds(blocks), "a group of {} has no {blocks} blocks", matrix.cols());
            let group = weights.group(g).as_ptr();
            // SAFETY: the first `n` pointers are rows of `blocks` blocks that `x` lends, the group holds as many
            // (asserted); `isa` is available.
            unsafe { packed::tile(isa, weights.packing, group, blocks, tile.n, &tile.blocks, next, out) };
            if !tile.listed.is_empty() {
                // SAFETY: as above, for the remainders; the listed blocks are of rows of the tile.
                unsafe { packed::remainders(isa, weights.packing, group, blocks, &tile.fine, &tile.listed, out) };
            }
        }
        Data::F32(w) => floats::group(isa, FloatKind::F32, w.as_ptr().cast(), matrix, g, x, tile.rows(), out),
        Data::F16(w) => floats::group(isa, FloatKind::F16, w.as_ptr().cast(), matrix, g, x, tile.rows(), out),
        Data::Bf16(w) => floats::group(isa, FloatKind::Bf16, w.as_ptr().cast(), matrix, g, x, tile.rows(), out),
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

    /// Rows as candle quantizes them.
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
        matmul(isa, &pool, &acts, &mut [Product { matrix: m, out: &mut out, then: Then::Write }]);
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
    fn every_number_of_rows_is_cut_into_tiles_that_the_kernels_have() {
        let (n, k) = (17, 256);
        for format in FORMATS {
            let m = matrix(format, &random_rows(format, n, k), k);
            let x = values(26 * k, 11);
            let all = multiply(Isa::detect(), 1, &m, &x);
            for rows in 1..=26 {
                assert!(multiply(Isa::detect(), 2, &m, &x[..rows * k]) == all[..rows * n], "{} {rows}", format.name());
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
                    // Only Q5_K's products of two scales are rounded to f16 when packed: 2^-11 of a scale and of a
                    // min, which an outlier makes as large as 30.
                    let tolerance =
                        if format == Format::Q5K { 30.0 / 1024.0 * e.abs().max(1.0) } else { 1e-6 * e.abs() };
                    assert!((g - e).abs() <= tolerance, "{} row {i}: {g} is not {e}", format.name());
                }
            }
        }
    }
}
