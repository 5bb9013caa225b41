use super::*;
use crate::ids::BlockId;

const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const DIM: usize = 32;

fn wave(n: usize, seed: f32) -> Vec<f32> {
    (0..n).map(|i| ((i as f32 + seed) * 0.731).sin() * 1.5).collect()
}

fn available() -> impl Iterator<Item = Isa> {
    Isa::ALL.into_iter().filter(|i| i.is_available())
}

struct Sequence {
    dim: usize,
    len: usize,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
}

impl Sequence {
    fn new(len: usize, dim: usize) -> Self {
        let kv = len * KV_HEADS * dim;
        Self { dim, len, q: wave(len * HEADS * dim, 0.0), k: wave(kv, 5.0), v: wave(kv, 9.0) }
    }

    /// Attends over all positions in chunks of `chunk`, blocks in reverse order; gives the rows from `from` on.
    fn attend(&self, isa: Isa, kind: KvKind, threads: usize, chunk: usize, from: usize) -> Vec<f32> {
        let shape = KvShape { layers: 2, kv_heads: KV_HEADS, head_dim: self.dim, kind };
        let blocks = self.len.div_ceil(BLOCK_TOKENS);
        let table: Vec<BlockId> = (0..blocks as u32).rev().map(BlockId).collect();
        let mut cache = KvCache::new(shape, blocks);
        let pool = Pool::new(threads);
        let mut all = Vec::new();
        for first in (0..self.len).step_by(chunk) {
            let rows = chunk.min(self.len - first);
            let span = [Span { first_row: 0, rows, first_position: first, block_table: &table }];
            let (kv, q) = (KV_HEADS * self.dim, HEADS * self.dim);
            let mut keys = self.k[first * kv..(first + rows) * kv].to_vec();
            let mut queries = self.q[first * q..(first + rows) * q].to_vec();
            let values = &self.v[first * kv..(first + rows) * kv];
            write(isa, &pool, &mut cache, 1, &span, &mut queries, &mut keys, values, |_, _, _| ());
            if first + rows > from {
                let mut out = Activations::new(q, false);
                out.resize(rows);
                attend(isa, &pool, &cache, 1, &span, HEADS, 0.2, &queries, &mut out);
                all.extend_from_slice(&out.floats()[from.saturating_sub(first) * q..]);
            }
        }
        all
    }

    /// One row by the definition, in f64.
    fn exact(&self, r: usize, h: usize) -> Vec<f64> {
        let (dim, kv) = (self.dim, h / (HEADS / KV_HEADS));
        let q = &self.q[(r * HEADS + h) * dim..][..dim];
        let key = |p: usize| &self.k[(p * KV_HEADS + kv) * dim..][..dim];
        let score = |p| q.iter().zip(key(p)).map(|(a, b)| f64::from(a * b)).sum::<f64>() * 0.2;
        let weights: Vec<f64> = (0..=r).map(|p| score(p).exp()).collect();
        let sum: f64 = weights.iter().sum();
        let value = |p: usize, d: usize| f64::from(self.v[(p * KV_HEADS + kv) * dim + d]);
        (0..dim).map(|d| weights.iter().enumerate().map(|(p, w)| w / sum * value(p, d)).sum()).collect()
    }
}

#[test]
fn chunks_sets_and_threads_change_no_bit() {
    for kind in KvKind::ALL {
        for len in [1, 15, 16, 17, 31, 32, 33, 64, 65, 100, 129] {
            let sequence = Sequence::new(len, DIM);
            let truth = sequence.attend(Isa::Scalar, kind, 1, len, 0);
            for isa in available() {
                for chunk in [1, 7, 32, len] {
                    let got = sequence.attend(isa, kind, 2, chunk, 0);
                    let at = got.iter().zip(&truth).position(|(a, b)| a != b);
                    assert_eq!(at, None, "{isa}, {kind:?}, {len} positions in chunks of {chunk}");
                }
            }
        }
    }
}

#[test]
fn every_head_size_gives_the_scalar_bits() {
    for (kind, dim) in KvKind::ALL.into_iter().flat_map(|k| [16, 48, 64, 80, 128].map(|d| (k, d))) {
        let sequence = Sequence::new(70, dim);
        let truth = sequence.attend(Isa::Scalar, kind, 1, 70, 0);
        for isa in available() {
            assert!(sequence.attend(isa, kind, 1, 33, 0) == truth, "{isa}, {kind:?}, {dim} dimensions");
        }
    }
}

#[test]
fn segments_on_many_threads_give_the_bits_of_one() {
    let len = 2 * SEGMENT + 70;
    let sequence = Sequence::new(len, 16);
    for kind in KvKind::ALL {
        let whole = sequence.attend(Isa::detect(), kind, 1, len, len - 3);
        // One row at a time is two tasks: on sixteen threads their segments are computed apart.
        assert!(sequence.attend(Isa::detect(), kind, 16, len - 3, len - 3) == whole, "{kind:?}");
        let exact = sequence.exact(len - 1, 1);
        let got = &whole[2 * HEADS * 16 + 16..][..16];
        for (g, e) in got.iter().zip(&exact) {
            assert!((f64::from(*g) - e).abs() < 0.02, "{kind:?}: {g} is not {e}");
        }
    }
}

#[test]
fn attention_is_the_softmax_of_the_scores_over_the_values() {
    let sequence = Sequence::new(140, DIM);
    // f32 rounds in the last places; bfloat16 keeps eight bits of keys, queries, weights and values; bytes seven.
    for (kind, tolerance) in [(KvKind::F32, 1e-5), (KvKind::Bf16, 0.012), (KvKind::Q8_0, 0.02)] {
        let got = sequence.attend(Isa::detect(), kind, 2, 13, 0);
        for r in 0..sequence.len {
            for h in 0..HEADS {
                for (g, e) in got[(r * HEADS + h) * DIM..].iter().zip(sequence.exact(r, h)) {
                    assert!((f64::from(*g) - e).abs() < tolerance, "{kind:?} row {r} head {h}: {g} is not {e}");
                }
            }
        }
    }
}

#[test]
fn rows_for_a_packed_matrix_are_quantized_whole_whatever_the_head() {
    // A group of heads is 32, 160 or 96 columns: whole blocks or not, the blocks are those of the finished row.
    for (heads, dim) in [(4, 16), (2, 80), (4, 48)] {
        let shape = KvShape { layers: 1, kv_heads: 2, head_dim: dim, kind: KvKind::Bf16 };
        let (isa, pool, table) = (Isa::detect(), Pool::new(2), [BlockId(0)]);
        let mut cache = KvCache::new(shape, 1);
        let span = [Span { first_row: 0, rows: 5, first_position: 0, block_table: &table }];
        let (mut q, mut k) = (wave(5 * heads * dim, 2.0), wave(10 * dim, 0.3));
        write(isa, &pool, &mut cache, 0, &span, &mut q, &mut k, &wave(10 * dim, 1.0), |_, _, _| ());
        let mut got = Activations::new(heads * dim, true);
        got.resize(5);
        attend(isa, &pool, &cache, 0, &span, heads, 0.2, &q, &mut got);
        let mut expected = Activations::new(heads * dim, true);
        expected.resize(5);
        expected.fill(isa, &pool, |r, row| row.copy_from_slice(&got.floats()[r * heads * dim..(r + 1) * heads * dim]));
        for (g, e) in got.blocks.iter().zip(&expected.blocks) {
            assert!(g.quants == e.quants && g.scale == e.scale && g.offset == e.offset, "{heads} heads of {dim}");
        }
    }
}

#[test]
fn a_block_copied_or_read_and_written_reads_as_its_original() {
    for kind in KvKind::ALL {
        let shape = KvShape { layers: 2, kv_heads: 1, head_dim: 16, kind };
        let mut cache = KvCache::new(shape, 3);
        let span = [Span { first_row: 0, rows: 3, first_position: 0, block_table: &[BlockId(2)] }];
        let (mut q, mut k) = (wave(48, 2.0), wave(48, 0.3));
        let (isa, pool) = (Isa::detect(), Pool::new(1));
        write(isa, &pool, &mut cache, 1, &span, &mut q, &mut k, &wave(48, 1.0), |_, _, _| ());
        let bytes = |cache: &KvCache, b| {
            let mut bytes = Vec::new();
            cache.read_block(BlockId(b), &mut bytes);
            bytes
        };
        let original = bytes(&cache, 2);
        assert!(original.len() == shape.block_bytes() && original.iter().any(|b| *b != 0));
        cache.copy_block(BlockId(2), BlockId(0));
        assert_eq!(bytes(&cache, 0), original);
        cache.write_block(BlockId(1), &original);
        assert_eq!(bytes(&cache, 1), original);
    }
}
