//! The feed-forward layer: SwiGLU experts, each reading the rows that chose it. A dense layer is one expert.
//!
//! Two regions. The first multiplies gate and up, applies SiLU and quantizes, a block of 32 inner values at a time.
//! The second multiplies down and adds each row's weighted sum to the residual stream, experts in their own order,
//! whatever the grouping: rows are gathered by expert, so an expert's weights are read once per call.

use super::isa::per_isa;
use super::lanes::{LANES, Lanes};
use super::matmul::{TILE, TileRows, add_scaled, for_tiles, group_times_tile, groups_per_task};
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
    sums: Vec<[f32; LANES]>,  // (groups of hidden, rows)
}

impl Routing {
    pub fn new(inner: usize, quantized: bool) -> Self {
        Self {
            choices: Vec::new(),
            by_expert: Vec::new(),
            inner: Activations::new(inner, quantized).sparse(),
            sums: Vec::new(),
        }
    }
}

/// Runs every row of `x` through its `k` experts and adds `factor` times their weighted sum to `into`, (rows, hidden).
#[allow(clippy::too_many_arguments)]
pub fn add(
    isa: Isa,
    pool: &Pool,
    experts: &[Expert],
    k: usize,
    x: &Activations,
    routing: &mut Routing,
    factor: f32,
    into: &mut [f32],
) {
    let assignments = x.rows() * k;
    assert_eq!(routing.choices.len(), assignments, "{} choices for {} rows of {k}", routing.choices.len(), x.rows());
    group(routing, experts.len());
    routing.inner.resize(assignments);
    gate_up(isa, pool, experts, k, x, &routing.by_expert, &mut routing.inner);
    down(isa, pool, experts, k, routing, factor, into);
}

fn group(routing: &mut Routing, experts: usize) {
    routing.by_expert.iter_mut().for_each(Vec::clear);
    routing.by_expert.resize(experts, Vec::new());
    for (a, (expert, _)) in routing.choices.iter().enumerate() {
        routing.by_expert[*expert].push(a as u32);
    }
}

/// Groups of sixteen inner rows that are computed together: their values are whole blocks for the quantizer.
const GROUPS_PER_BLOCK: usize = 2;
/// Rows of an expert in one task of the first region: enough tiles to be worth reading the weights again.
const ROWS_PER_TASK: usize = 256;

fn gate_up(
    isa: Isa,
    pool: &Pool,
    experts: &[Expert],
    k: usize,
    x: &Activations,
    by_expert: &[Vec<u32>],
    inner: &mut Activations,
) {
    let mut tasks = Vec::new(); // (expert, first assignment, first group, number of groups)
    for (e, assigned) in by_expert.iter().enumerate().filter(|(_, assigned)| !assigned.is_empty()) {
        let gate = &experts[e].gate;
        for first in (0..assigned.len()).step_by(ROWS_PER_TASK) {
            let rows = ROWS_PER_TASK.min(assigned.len() - first);
            let step = groups_per_task(pool, gate.groups(), 2 * rows * gate.cols() * LANES);
            let step = step.next_multiple_of(GROUPS_PER_BLOCK);
            tasks.extend((0..gate.groups()).step_by(step).map(|g| (e, first, g, step)));
        }
    }
    let width = inner.cols();
    let inner = inner.writer();
    pool.run(tasks.len(), |t| {
        let (e, first, first_group, num_groups) = tasks[t];
        let expert = &experts[e];
        let assigned = &by_expert[e][first..by_expert[e].len().min(first + ROWS_PER_TASK)];
        let last_group = expert.gate.groups().min(first_group + num_groups);
        // The task that this thread is likely to take next.
        let after = tasks.get(t + pool.threads()).map_or(std::ptr::null(), |t| experts[t.0].gate.group_address(t.2));
        let mut fresh = true; // the weights have not been read yet
        let mut values = [[0.0f32; GROUPS_PER_BLOCK * LANES]; TILE];
        for_tiles(assigned, |tile| {
            let mut rows = [0u32; TILE];
            rows.iter_mut().zip(tile).for_each(|(r, a)| *r = a / k as u32);
            let rows = TileRows::new(x, &rows[..tile.len()]);
            for g in (first_group..last_group).step_by(GROUPS_PER_BLOCK) {
                for part in 0..GROUPS_PER_BLOCK.min(last_group - g) {
                    let next = if !fresh {
                        [std::ptr::null(); 2]
                    } else {
                        let more = g + part + 1 < last_group;
                        let gate = if more { expert.gate.group_address(g + part + 1) } else { after };
                        [expert.up.group_address(g + part), gate]
                    };
                    gate_up_tile(isa, expert, g + part, &rows, next, |i, v| {
                        values[i][part * LANES..(part + 1) * LANES].copy_from_slice(v);
                    });
                }
                let (column, lanes) = (g * LANES, (GROUPS_PER_BLOCK * LANES).min(width - g * LANES));
                for (a, values) in tile.iter().zip(&values) {
                    // SAFETY: these columns of assignment `a` are written by this task only; `isa` is available.
                    unsafe { inner.with(isa, *a as usize, column, lanes, |out| out.copy_from_slice(&values[..lanes])) };
                }
            }
            fresh = false;
        });
    });
}

/// `silu(gate) * up` of group `g` for the rows of a tile; `put` gets the index into the tile.
fn gate_up_tile(
    isa: Isa,
    expert: &Expert,
    g: usize,
    rows: &TileRows<'_>,
    next: [*const u8; 2], // groups to ask for
    mut put: impl FnMut(usize, &[f32; LANES]),
) {
    let (mut gate, mut up) = ([[0.0; LANES]; TILE], [[0.0; LANES]; TILE]);
    group_times_tile(isa, &expert.gate, g, rows, next[0], &mut gate);
    group_times_tile(isa, &expert.up, g, rows, next[1], &mut up);
    // SAFETY: `isa` is available.
    unsafe { silu_mul(isa, &mut gate[..rows.len()], &up[..rows.len()]) };
    gate.iter().take(rows.len()).enumerate().for_each(|(i, values)| put(i, values));
}

fn down(isa: Isa, pool: &Pool, experts: &[Expert], k: usize, routing: &mut Routing, factor: f32, into: &mut [f32]) {
    let Some(first) = experts.first() else { return };
    let Routing { choices, by_expert, inner, sums } = routing;
    let (hidden, groups, rows) = (first.down.rows(), first.down.groups(), choices.len() / k);
    let step = groups_per_task(pool, groups, choices.len() * first.down.cols() * LANES);
    sums.resize(groups * rows, [0.0; LANES]);
    let used: Vec<usize> = (0..by_expert.len()).filter(|e| !by_expert[*e].is_empty()).collect();
    let (into, sums) = (Disjoint::new(into), Disjoint::new(sums));
    pool.run(groups.div_ceil(step), |t| {
        let range = t * step..groups.min((t + 1) * step);
        // Summed apart and added once: rows of `into` lie a power of two apart, in the same few sets of the caches.
        // SAFETY: each task has the sums of its own groups, and they outlive the region.
        let sums = unsafe { sums.slice(range.start * rows, range.len() * rows) };
        sums.fill([0.0; LANES]);
        let mut values = [[0.0f32; LANES]; TILE];
        for (i, e) in used.iter().enumerate() {
            let (assigned, matrix) = (&by_expert[*e], &experts[*e].down);
            let after = used.get(i + 1).map_or(std::ptr::null(), |e| experts[*e].down.group_address(range.start));
            for_tiles(assigned, |tile| {
                let tile_rows = TileRows::new(inner, tile);
                for (g, sums) in range.clone().zip(sums.chunks_exact_mut(rows)) {
                    let next = if tile[0] != assigned[0] {
                        std::ptr::null() // here already
                    } else if g + 1 < range.end {
                        matrix.group_address(g + 1)
                    } else {
                        after
                    };
                    group_times_tile(isa, matrix, g, &tile_rows, next, &mut values);
                    for (a, values) in tile.iter().zip(&values) {
                        add_scaled(&mut sums[*a as usize / k], choices[*a as usize].1, values);
                    }
                }
            });
        }
        for (g, sums) in range.zip(sums.chunks_exact(rows)) {
            let lanes = LANES.min(hidden - g * LANES);
            for (r, sums) in sums.iter().enumerate() {
                // SAFETY: group `g` of row `r` is written by this task only; `into` outlives the region.
                let into = unsafe { into.slice(r * hidden + g * LANES, lanes) };
                add_scaled(into, factor, sums);
            }
        }
    });
}

per_isa! {
    /// `gate = silu(gate) * up`; silu(x) = x / (1 + e^-x).
    ///
    /// # Safety
    /// - `isa` is available.
    unsafe fn silu_mul(gate: &mut [[f32; LANES]], up: &[[f32; LANES]]) = silu_mul_body;
}

#[inline(always)]
unsafe fn silu_mul_body<L: Lanes>(gate: &mut [[f32; LANES]], up: &[[f32; LANES]]) {
    for (gate, up) in gate.iter_mut().zip(up) {
        // SAFETY: sixteen values each.
        unsafe {
            let g = L::load(gate.as_ptr());
            let one = L::splat(1.0);
            let sigmoid = one.div(one.add(L::splat(0.0).sub(g).exp()));
            g.mul(sigmoid).mul(L::load(up.as_ptr())).store(gate.as_mut_ptr());
        }
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
            let mut out = vec![0.5; rows * hidden];
            super::add(isa, &pool, &experts, k, &x, &mut routing, 0.22, &mut out);
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
