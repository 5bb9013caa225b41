//! What this machine allows, measured: the yardstick beside every figure of a benchmark.

use std::hint::black_box;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Instant;

use super::isa::per_isa;
use super::lanes::{LANES, Lanes};
use super::region::Region;
use super::{Isa, Pool};

/// Bytes that are read to measure bandwidth: several times the last cache of most machines.
const READ_BYTES: usize = 128 << 20;
/// Rounds of which the fastest counts.
const ROUNDS: usize = 5;
/// Turns of the loop of dot products: some milliseconds.
const TURNS: usize = 400_000;
/// Accumulators of that loop: enough to hide the latency of each.
const CHAINS: usize = 16;

/// Operations per second of 8-bit dot products in registers, all threads together; a multiply and an add are two.
pub fn int8_ops_per_s(isa: Isa, pool: &Pool) -> f64 {
    let sink = AtomicI32::new(0);
    let seconds = fastest(|| {
        pool.run(pool.threads(), |t| {
            // SAFETY: `isa` is available.
            let sum = unsafe { dots(isa, TURNS, t as i32 + 1) };
            sink.fetch_add(sum, Ordering::Relaxed);
        });
    });
    black_box(sink.into_inner());
    (pool.threads() * TURNS * CHAINS * LANES * 8) as f64 / seconds
}

/// Bytes per second read from memory, all threads together.
pub fn read_bytes_per_s(isa: Isa, pool: &Pool) -> f64 {
    let mut region = Region::new(READ_BYTES);
    region.fill(1);
    let piece = READ_BYTES / (pool.threads() * 8) / 64 * 64;
    let pieces = READ_BYTES / piece;
    let sink = AtomicI32::new(0);
    let seconds = fastest(|| {
        pool.run(pieces, |p| {
            let bytes = &region[p * piece..(p + 1) * piece];
            // SAFETY: `isa` is available; the piece is whole lines.
            let sum = unsafe { read(isa, bytes.as_ptr(), bytes.len()) };
            sink.fetch_add(sum, Ordering::Relaxed);
        });
    });
    black_box(sink.into_inner());
    (pieces * piece) as f64 / seconds
}

fn fastest(mut run: impl FnMut()) -> f64 {
    let once = |run: &mut dyn FnMut()| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    };
    (0..ROUNDS).map(|_| once(&mut run)).fold(f64::INFINITY, f64::min)
}

per_isa! {
    /// # Safety
    /// - `isa` is available.
    unsafe fn dots(turns: usize, seed: i32) -> i32 = dots_body;
}

#[inline(always)]
unsafe fn dots_body<L: Lanes>(turns: usize, seed: i32) -> i32 {
    // SAFETY: register operations, and one load of 64 bytes.
    unsafe {
        let weights = L::load_bytes([3u8; 64].as_ptr());
        let mut acc = [L::ints_splat(seed); CHAINS];
        for _ in 0..turns {
            for acc in &mut acc {
                *acc = L::dot(*acc, weights, seed);
            }
        }
        let mut sum = 0i32;
        for acc in acc {
            sum = sum.wrapping_add(L::ints_sum(acc));
        }
        sum
    }
}

per_isa! {
    /// # Safety
    /// - `isa` is available; `bytes` is valid for `len`, a multiple of 64.
    unsafe fn read(bytes: *const u8, len: usize) -> i32 = read_body;
}

#[inline(always)]
unsafe fn read_body<L: Lanes>(bytes: *const u8, len: usize) -> i32 {
    // SAFETY: lines of the range.
    unsafe {
        let mut acc = [L::ints_splat(0); 4];
        let mut at = 0;
        while at + 256 <= len {
            for (i, acc) in acc.iter_mut().enumerate() {
                *acc = L::dot(*acc, L::load_bytes(bytes.add(at + i * 64)), 1);
            }
            at += 256;
        }
        let mut sum = 0i32;
        for acc in acc {
            sum = sum.wrapping_add(L::ints_sum(acc));
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_finite_and_more_than_nothing() {
        let pool = Pool::new(2);
        for limit in [int8_ops_per_s(Isa::detect(), &pool), read_bytes_per_s(Isa::detect(), &pool)] {
            assert!(limit.is_finite() && limit > 1e6, "{limit}");
        }
    }
}
