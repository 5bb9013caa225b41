//! The feed-forward layer: SwiGLU experts, each reading the rows that chose it. A dense layer is one expert.
//!
//! Three regions: gate and up with SiLU fused, quantizing, down. Rows are grouped by expert, so an expert's weights
//! are read once per call; the weighted sum is taken in the router's order, whatever the grouping.

use super::isa::per_isa;
use super::lanes::{LANES, Lanes};
use super::matmul::{TILE, for_tiles, group_times_tile, groups_per_task};
use super::pool::Disjoint;
use super::{Activations, Isa, Matrix, Pool};

/// One SwiGLU block: `down(silu(gate(x)) * up(x))`.
pub struct Expert {
    pub gate: Matrix, // (inner, hidden)
    pub up: Matrix,   // (inner, hidden)
    pub down: Matrix, // (hidden, inner)
}

/// Which experts each row goes to, and buffers that live from call to call.
pub struct Routing {
    /// (rows, experts per row): the expert and its weight, in the router's order.
    pub choices: Vec<(usize, f32)>,
    by_expert: Vec<Vec<u32>>, // assignments of each expert: row * k + rank
    inner: Activations,       // (assignments, inner)
    out: Vec<f32>,            // (assignments, hidden)
}

impl Routing {
    pub fn new(inner: usize, quantized: bool) -> Self {
        Self { choices: Vec::new(), by_expert: Vec::new(), inner: Activations::new(inner, quantized), out: Vec::new() }
    }
}

/// Runs every row of `x` through its `k` experts; afterwards [`add_weighted`] gives the sums.
pub fn run(isa: Isa, pool: &Pool, experts: &[Expert], k: usize, x: &Activations, routing: &mut Routing) {
    let assignments = x.rows() * k;
    assert_eq!(routing.choices.len(), assignments, "{} choices for {} rows of {k}", routing.choices.len(), x.rows());
    group(routing, experts.len());
    let Some(first) = experts.first() else { return };
    let (inner, hidden) = (first.gate.rows(), first.down.rows());
    // The inner rows are filled out of order, by expert; quantizing them is a region of its own.
    let mut values = std::mem::take(&mut routing.out);
    values.resize(assignments * inner.max(hidden), 0.0);
    gate_up(isa, pool, experts, k, x, &routing.by_expert, &mut values[..assignments * inner]);
    routing.inner.resize(assignments);
    routing.inner.fill(isa, pool, |r, row| row.copy_from_slice(&values[r * inner..(r + 1) * inner]));
    values.resize(assignments * hidden, 0.0);
    down(isa, pool, experts, &routing.inner, &routing.by_expert, &mut values);
    routing.out = values;
}

/// Adds `factor` times the weighted sum of row `r`'s experts to `into`, in the router's order.
pub fn add_weighted(isa: Isa, routing: &Routing, k: usize, r: usize, factor: f32, into: &mut [f32]) {
    for rank in 0..k {
        let a = r * k + rank;
        let (_, weight) = routing.choices[a];
        super::rows::add_scaled(isa, into, factor * weight, &routing.out[a * into.len()..(a + 1) * into.len()]);
    }
}

fn group(routing: &mut Routing, experts: usize) {
    routing.by_expert.iter_mut().for_each(Vec::clear);
    routing.by_expert.resize(experts, Vec::new());
    for (a, (expert, _)) in routing.choices.iter().enumerate() {
        routing.by_expert[*expert].push(a as u32);
    }
}

/// (expert, first group, number of groups) of every task.
fn tasks(
    pool: &Pool,
    by_expert: &[Vec<u32>],
    matrix: impl Fn(usize) -> usize,
    per_task: impl Fn(&Pool, usize, usize) -> usize,
) -> Vec<(usize, usize, usize)> {
    let mut tasks = Vec::new();
    for (e, rows) in by_expert.iter().enumerate().filter(|(_, rows)| !rows.is_empty()) {
        let step = per_task(pool, e, rows.len());
        tasks.extend((0..matrix(e)).step_by(step).map(|g| (e, g, step)));
    }
    tasks
}

fn gate_up(
    isa: Isa,
    pool: &Pool,
    experts: &[Expert],
    k: usize,
    x: &Activations,
    by_expert: &[Vec<u32>],
    out: &mut [f32],
) {
    let out = Disjoint::new(out);
    let tasks =
        tasks(pool, by_expert, |e| experts[e].gate.groups(), |p, e, n| groups_per_task(p, &experts[e].gate, 2 * n));
    pool.run(tasks.len(), |t| {
        let (e, first, count) = tasks[t];
        let (expert, assigned) = (&experts[e], &by_expert[e]);
        let (inner, groups) = (expert.gate.rows(), expert.gate.groups());
        let (mut gate, mut up) = ([[0.0; LANES]; TILE], [[0.0; LANES]; TILE]);
        for g in first..groups.min(first + count) {
            let lanes = LANES.min(inner - g * LANES);
            for tile in assigned.chunks(TILE) {
                let mut rows = [0u32; TILE];
                rows.iter_mut().zip(tile).for_each(|(r, a)| *r = a / k as u32);
                let rows = &rows[..tile.len()];
                group_times_tile(isa, &expert.gate, g, x, rows, &mut gate);
                group_times_tile(isa, &expert.up, g, x, rows, &mut up);
                for (i, a) in tile.iter().enumerate() {
                    // SAFETY: `isa` is available; both arrays hold sixteen values.
                    unsafe { silu_mul(isa, gate[i].as_mut_ptr(), up[i].as_ptr()) };
                    // SAFETY: group `g` of assignment `a` is written by this task only; `out` outlives the region.
                    let out = unsafe { out.slice(*a as usize * inner + g * LANES, lanes) };
                    out.copy_from_slice(&gate[i][..lanes]);
                }
            }
        }
    });
}

fn down(isa: Isa, pool: &Pool, experts: &[Expert], inner: &Activations, by_expert: &[Vec<u32>], out: &mut [f32]) {
    let out = Disjoint::new(out);
    let tasks = tasks(pool, by_expert, |e| experts[e].down.groups(), |p, e, n| groups_per_task(p, &experts[e].down, n));
    pool.run(tasks.len(), |t| {
        let (e, first, count) = tasks[t];
        let (matrix, assigned) = (&experts[e].down, &by_expert[e]);
        for g in first..matrix.groups().min(first + count) {
            let lanes = LANES.min(matrix.rows() - g * LANES);
            for_tiles(isa, matrix, g, inner, assigned, |i, values| {
                // SAFETY: group `g` of assignment `a` is written by this task only; `out` outlives the region.
                let out = unsafe { out.slice(assigned[i] as usize * matrix.rows() + g * LANES, lanes) };
                out.copy_from_slice(&values[..lanes]);
            });
        }
    });
}

per_isa! {
    /// `gate = silu(gate) * up`, sixteen values; silu(x) = x / (1 + e^-x).
    ///
    /// # Safety
    /// - `isa` is available; both pointers are valid for sixteen values.
    unsafe fn silu_mul(gate: *mut f32, up: *const f32) = silu_mul_body;
}

#[inline(always)]
unsafe fn silu_mul_body<L: Lanes>(gate: *mut f32, up: *const f32) {
    // SAFETY: sixteen values each.
    unsafe {
        let g = L::load(gate);
        let one = L::splat(1.0);
        let sigmoid = one.div(one.add(L::splat(0.0).sub(g).exp()));
        g.mul(sigmoid).mul(L::load(up)).store(gate);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(n: usize, seed: f32) -> Vec<f32> {
        (0..n).map(|i| ((i as f32 + seed) * 0.37).sin()).collect()
    }

    #[test]
    fn sets_threads_and_neighbours_change_no_bit() {
        let (hidden, inner, k) = (64, 48, 2);
        let experts: Vec<Expert> = (0..5)
            .map(|e| Expert {
                gate: Matrix::from_f32(wave(inner * hidden, e as f32), hidden),
                up: Matrix::from_f32(wave(inner * hidden, 10.0 + e as f32), hidden),
                down: Matrix::from_f32(wave(inner * hidden, 20.0 + e as f32), inner),
            })
            .collect();
        let choices: Vec<(usize, f32)> = (0..26).map(|i| ((i * 3 + i / 7) % 5, 0.1 + i as f32 / 30.0)).collect();
        let run = |isa, threads, first: usize, rows: usize| {
            let pool = Pool::new(threads);
            let mut x = Activations::new(hidden, false);
            x.resize(rows);
            x.fill(isa, &pool, |r, row| row.copy_from_slice(&wave(hidden, (first + r) as f32)));
            let mut routing = Routing::new(inner, false);
            routing.choices = choices[first * k..(first + rows) * k].to_vec();
            super::run(isa, &pool, &experts, k, &x, &mut routing);
            let mut out = vec![0.0; rows * hidden];
            for (r, out) in out.chunks_exact_mut(hidden).enumerate() {
                add_weighted(isa, &routing, k, r, 0.22, out);
            }
            out
        };
        let truth = run(Isa::Scalar, 1, 0, 13);
        for isa in Isa::ALL.into_iter().filter(|i| i.is_available()) {
            assert!(run(isa, 3, 0, 13) == truth, "{isa}");
            for r in 0..13 {
                assert!(run(isa, 2, r, 1) == truth[r * hidden..(r + 1) * hidden], "{isa} row {r} alone");
            }
        }
    }
}
