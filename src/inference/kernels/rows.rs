//! Work on rows of floats: root-mean-square norm, rotary positions, softmax, weighted sums.

use std::ops::Range;

use super::isa::per_isa;
use super::lanes::{LANES, Lanes};
use super::pool::Disjoint;
use super::{Isa, Pool};

/// Values a task should have at least: fewer, and handing it out costs more than doing it.
const VALUES_PER_TASK_MIN: usize = 8192;

/// Splits `rows` rows of `cols` values over the pool, in chunks worth a task.
pub fn in_chunks(pool: &Pool, rows: usize, cols: usize, task: impl Fn(Range<usize>) + Sync) {
    let per_task = (VALUES_PER_TASK_MIN / cols.max(1)).max(rows.div_ceil(4 * pool.threads())).max(1);
    let tasks = rows.div_ceil(per_task);
    pool.run(tasks, |t| task(t * per_task..rows.min((t + 1) * per_task)));
}

/// Lets `fill` rewrite each row of `data`, (rows, cols), in parallel.
pub fn for_each(pool: &Pool, data: &mut [f32], cols: usize, fill: impl Fn(usize, &mut [f32]) + Sync) {
    let rows = data.len() / cols;
    let data = Disjoint::new(data);
    in_chunks(pool, rows, cols, |range| {
        for r in range {
            // SAFETY: each row belongs to one chunk; `data` outlives the region.
            fill(r, unsafe { data.slice(r * cols, cols) });
        }
    });
}

/// Root-mean-square norm: `out = x / sqrt(mean(x^2) + eps) * weight`.
pub fn rms_norm(isa: Isa, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    assert!(x.len() == weight.len() && x.len() == out.len(), "{} {} {}", x.len(), weight.len(), out.len());
    // SAFETY: the three slices have the same length; `isa` is available.
    unsafe { rms_norm_isa(isa, x.as_ptr(), weight.as_ptr(), eps, out.as_mut_ptr(), x.len()) }
}

per_isa! {
    /// # Safety
    /// - `isa` is available; the pointers are valid for `len` values.
    unsafe fn rms_norm_isa(x: *const f32, weight: *const f32, eps: f32, out: *mut f32, len: usize) = rms_norm_body;
}

#[inline(always)]
unsafe fn rms_norm_body<L: Lanes>(x: *const f32, weight: *const f32, eps: f32, out: *mut f32, len: usize) {
    let whole = len / LANES * LANES;
    // SAFETY: all offsets are below `len`.
    unsafe {
        let mut sum = L::splat(0.0);
        for i in (0..whole).step_by(LANES) {
            let v = L::load(x.add(i));
            sum = v.mul_add(v, sum);
        }
        let mut sum = sum.sum();
        for i in whole..len {
            sum += *x.add(i) * *x.add(i);
        }
        let scale = 1.0 / (sum / len as f32 + eps).sqrt();
        for i in (0..whole).step_by(LANES) {
            L::load(x.add(i)).mul(L::splat(scale)).mul(L::load(weight.add(i))).store(out.add(i));
        }
        for i in whole..len {
            *out.add(i) = *x.add(i) * scale * *weight.add(i);
        }
    }
}

/// Cosines and sines of the rotary angles, computed once per position that is used.
pub struct Rope {
    frequencies: Vec<f64>, // (head_dim / 2)
}

impl Rope {
    /// `theta^(-2i/d)` for each pair of a head of `dim` values.
    pub fn new(dim: usize, theta: f64) -> Self {
        Self { frequencies: (0..dim / 2).map(|i| theta.powf(-2.0 * i as f64 / dim as f64)).collect() }
    }

    /// Writes (cos, sin) of every pair at `position`; f64 angles, so that 131,072 positions stay exact to f32.
    pub fn at(&self, position: u32, out: &mut Vec<(f32, f32)>) {
        out.clear();
        out.extend(self.frequencies.iter().map(|f| {
            let (sin, cos) = (f64::from(position) * f).sin_cos();
            (cos as f32, sin as f32)
        }));
    }
}

/// Rotates each head of a row in place: pair `i` is (`i`, `i + dim / 2`), as in safetensors checkpoints.
pub fn rotate_heads(row: &mut [f32], head_dim: usize, angles: &[(f32, f32)]) {
    for head in row.chunks_exact_mut(head_dim) {
        let (first, second) = head.split_at_mut(head_dim / 2);
        for ((a, b), (cos, sin)) in first.iter_mut().zip(second).zip(angles) {
            (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
        }
    }
}

/// Picks the `count` largest of each row of `cols` logits, ties to the lowest index; writes (index, softmax over the
/// picked), largest first. `out`: (rows, count).
pub fn top_softmax(pool: &Pool, logits: &[f32], cols: usize, count: usize, out: &mut [(usize, f32)]) {
    let rows = logits.len() / cols;
    assert_eq!(out.len(), rows * count, "room for {count} of each of {rows} rows");
    let out = Disjoint::new(out);
    // Sorting a row takes about as long as reading thirty-two times as many values.
    in_chunks(pool, rows, 32 * cols, |range| {
        let mut all = Vec::with_capacity(cols);
        for r in range {
            all.clear();
            all.extend(logits[r * cols..(r + 1) * cols].iter().copied().enumerate());
            all.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            let largest = all.first().map_or(0.0, |t| t.1);
            // SAFETY: each row belongs to one chunk; `out` outlives the region.
            let out = unsafe { out.slice(r * count, count) };
            let mut sum = 0.0;
            for (out, (i, v)) in out.iter_mut().zip(&all) {
                *out = (*i, (*v - largest).exp());
                sum += out.1;
            }
            out.iter_mut().for_each(|(_, v)| *v /= sum);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_gives_the_scalar_bits_at_every_length() {
        for len in 1..=70 {
            let x: Vec<f32> = (0..len).map(|i| (i as f32 * 0.37).sin() * 3.0).collect();
            let w: Vec<f32> = (0..len).map(|i| 1.0 + i as f32 / 50.0).collect();
            let run = |isa| {
                let mut out = vec![0.0; len];
                rms_norm(isa, &x, &w, 1e-6, &mut out);
                out
            };
            let truth = run(Isa::Scalar);
            for isa in Isa::ALL.into_iter().filter(|i| i.is_available()) {
                assert_eq!(run(isa), truth, "{isa} at {len}");
            }
        }
    }

    #[test]
    fn exp_is_close_to_the_library_everywhere_it_is_used() {
        for i in -870..=880 {
            let x = i as f32 / 10.0;
            // SAFETY: the scalar set needs nothing, and the buffer holds sixteen values.
            let got = unsafe {
                let mut out = [0.0f32; LANES];
                super::super::lanes::Scalar::splat(x).exp().store(out.as_mut_ptr());
                out[0]
            };
            assert!((got / x.exp() - 1.0).abs() < 4e-7, "exp({x}) = {got}");
        }
    }

    #[test]
    fn the_router_prefers_the_lower_expert_on_a_tie() {
        let mut out = [(0, 0.0); 2];
        top_softmax(&Pool::new(1), &[1.0, 3.0, 3.0, 0.0], 4, 2, &mut out);
        assert_eq!(out, [(1, 0.5), (2, 0.5)]);
    }
}
