//! What an online softmax knows after some positions: the largest score, the sum, the weighted values.

use super::super::Isa;
use super::super::isa::per_isa;
use super::super::lanes::{LANES, Lanes};

/// Sixteen floats on a cache line of their own.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Line(pub [f32; LANES]);

pub(super) const ZEROS: Line = Line([0.0; LANES]);

/// What the online softmax knows of each row.
pub(super) struct State {
    rows: usize,
    pub largest: Vec<f32>, // score so far; padded to whole runs of sixteen
    pub sums: Vec<Line>,   // of the exponentials, in sixteen lanes
    pub out: Vec<Line>,    // (rows, dim)
}

impl State {
    pub fn new(rows: usize, dim: usize) -> Self {
        Self {
            rows,
            largest: vec![f32::NEG_INFINITY; rows.next_multiple_of(LANES)],
            sums: vec![ZEROS; rows],
            out: vec![ZEROS; rows * dim / LANES],
        }
    }

    pub fn clear(&mut self) {
        self.largest.fill(f32::NEG_INFINITY);
        self.sums.fill(ZEROS);
        self.out.fill(ZEROS);
    }

    /// Takes in what later positions gave.
    pub fn merge(&mut self, isa: Isa, later: &Self) {
        assert_eq!((self.rows, self.out.len()), (later.rows, later.out.len()), "states of the same tile");
        // SAFETY: `isa` is available; the states have the same sizes.
        unsafe { merge(isa, self, later) }
    }

    /// The values of row `r`, weighted.
    pub fn result(&self, isa: Isa, r: usize, out: &mut [f32]) {
        let lines = out.len() / LANES;
        // SAFETY: `isa` is available; the slices hold one row of `dim` values.
        unsafe { result(isa, &self.sums[r], &self.out[r * lines..(r + 1) * lines], out) }
    }
}

per_isa! {
    /// # Safety
    /// - `isa` is available; both states have the same sizes.
    unsafe fn merge(all: &mut State, later: &State) = merge_body;
}

#[inline(always)]
unsafe fn merge_body<L: Lanes>(all: &mut State, later: &State) {
    let lines = all.out.len() / all.rows;
    for r in 0..all.rows {
        let largest = all.largest[r].max(later.largest[r]);
        // SAFETY: register operations, and lines of sixteen values. A side that has seen nothing has the largest score
        // minus infinity, which `exp` clamps, and zeros to weigh.
        unsafe {
            let before = L::splat(all.largest[r]).sub(L::splat(largest)).exp();
            let after = L::splat(later.largest[r]).sub(L::splat(largest)).exp();
            macro_rules! add {
                ($x:expr, $y:expr) => {{
                    let sum = L::load($x.0.as_ptr()).mul(before);
                    L::load($y.0.as_ptr()).mul_add(after, sum).store($x.0.as_mut_ptr());
                }};
            }
            add!(all.sums[r], later.sums[r]);
            for i in r * lines..(r + 1) * lines {
                add!(all.out[i], later.out[i]);
            }
        }
        all.largest[r] = largest;
    }
}

per_isa! {
    /// # Safety
    /// - `isa` is available; `out` holds the sixteen values of each line.
    unsafe fn result(sums: &Line, lines: &[Line], out: &mut [f32]) = result_body;
}

#[inline(always)]
unsafe fn result_body<L: Lanes>(sums: &Line, lines: &[Line], out: &mut [f32]) {
    // SAFETY: sixteen values each.
    unsafe {
        let norm = L::splat(1.0 / L::load(sums.0.as_ptr()).sum());
        for (line, out) in lines.iter().zip(out.chunks_exact_mut(LANES)) {
            L::load(line.0.as_ptr()).mul(norm).store(out.as_mut_ptr());
        }
    }
}
