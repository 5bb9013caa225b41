//! The kernels against what the machine allows: `cargo bench`. Each checks its answer against the scalar twin first.

use std::time::Instant;

use quarry::ids::BlockId;
use quarry::inference::kernels::attention::{BLOCK_TOKENS, KvCache, KvKind, KvShape, Span, attend, write};
use quarry::inference::kernels::blocks::Format;
use quarry::inference::kernels::matmul::{Product, Then, matmul};
use quarry::inference::kernels::matrix::RowSource;
use quarry::inference::kernels::{Activations, Isa, Matrix, Pool, limits};

const COLS: usize = 1024;
/// More weights than the last cache of most machines holds.
const MEMORY_ROWS: usize = 96 * 1024;

fn main() {
    let (isa, pool) = (Isa::detect(), Pool::new(std::thread::available_parallelism().map_or(1, usize::from)));
    let (ops, bytes) = (limits::int8_ops_per_s(isa, &pool), limits::read_bytes_per_s(isa, &pool));
    println!("{isa}, {} threads: {:.0} Gop/s in 8 bits, {:.1} GB/s", pool.threads(), ops / 1e9, bytes / 1e9);
    for (format, rows) in
        [Format::Q8_0, Format::Q4_0, Format::Q4K, Format::Q6K].into_iter().flat_map(|f| [(f, 1), (f, 4), (f, 512)])
    {
        products(isa, &pool, format, rows, ops, bytes);
    }
    for kind in KvKind::ALL {
        for (depth, rows) in [(0, 512), (8192, 512), (8192, 1)] {
            attention(isa, &pool, kind, depth, rows, bytes);
        }
    }
}

/// Values that look random, between -1 and 1.
fn values(n: usize) -> Vec<f32> {
    let mut state = 1u64;
    (0..n)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

fn fastest(mut run: impl FnMut()) -> f64 {
    let rounds = (0..7).map(|_| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    });
    rounds.fold(f64::INFINITY, f64::min)
}

/// One row of weights of a format: random quants, tame scales.
fn weights(format: Format) -> Vec<u8> {
    let block = format.block_bytes();
    // Where the high byte of each f16 scale stands in a block.
    let scales: &[usize] = match format {
        Format::Q4K => &[1, 3],
        Format::Q6K => &[209],
        _ => &[1],
    };
    let byte = |i: usize| if scales.contains(&(i % block)) { 0x1C } else { (i * 37 % 251) as u8 };
    (0..format.row_bytes(COLS).expect("whole blocks")).map(byte).collect()
}

fn activations(isa: Isa, pool: &Pool, rows: usize) -> Activations {
    let x = values(rows * COLS);
    let mut all = Activations::new(COLS, true);
    all.resize(rows);
    all.fill(isa, pool, |r, row| row.copy_from_slice(&x[r * COLS..(r + 1) * COLS]));
    all
}

fn products(isa: Isa, pool: &Pool, format: Format, rows: usize, ops_limit: f64, bytes_limit: f64) {
    let row = weights(format);
    let of = |rows| Matrix::from_rows(&RowSource { format, rows, cols: COLS, row: &|_| &row });
    let multiply = |isa, matrix: &Matrix, x: &Activations| {
        let mut out = vec![0.0; rows * matrix.rows()];
        matmul(isa, pool, x, &mut [Product { matrix, out: &mut out, then: Then::Write }]);
        out
    };
    let (small, x) = (of(40), activations(isa, pool, rows));
    let truth = multiply(Isa::Scalar, &small, &activations(Isa::Scalar, pool, rows));
    assert!(multiply(isa, &small, &x) == truth, "{} differs from its scalar twin", format.name());

    let matrix = of(if rows == 512 { 1024 } else { MEMORY_ROWS });
    let seconds = fastest(|| {
        multiply(isa, &matrix, &x);
    });
    let ops = 2.0 * (rows * matrix.rows() * COLS) as f64 / seconds;
    let bytes = matrix.bytes() as f64 / seconds;
    println!(
        "{:5} x {rows:3} rows: {:4.0} Gop/s ({:2.0} % of the peak), {:5.1} GB/s ({:2.0} % of the bandwidth)",
        format.name(),
        ops / 1e9,
        100.0 * ops / ops_limit,
        bytes / 1e9,
        100.0 * bytes / bytes_limit
    );
}

fn attention(isa: Isa, pool: &Pool, kind: KvKind, depth: usize, rows: usize, bytes_limit: f64) {
    const HEADS: usize = 16;
    let shape = KvShape { layers: 1, kv_heads: 8, head_dim: 64, kind };
    let (q_width, kv_width, len) = (HEADS * shape.head_dim, shape.kv_heads * shape.head_dim, depth + rows);
    let blocks = len.div_ceil(BLOCK_TOKENS);
    let table: Vec<BlockId> = (0..blocks as u32).map(BlockId).collect();
    let mut cache = KvCache::new(shape, blocks);
    let (k, v) = (values(len * kv_width), values(len * kv_width));
    let whole = [Span { first_row: 0, rows: len, first_position: 0, block_table: &table }];
    write(isa, pool, &mut cache, 0, &whole, &mut vec![0.0; len * q_width], &mut k.clone(), &v, |_, _, _| ());
    let queries = values(rows * q_width);
    let span = [Span { first_row: 0, rows, first_position: depth, block_table: &table }];
    let run = |isa, rows: usize| {
        let mut out = Activations::new(q_width, false);
        out.resize(rows);
        let span = [Span { rows, ..span[0] }];
        attend(isa, pool, &cache, 0, &span, HEADS, 0.125, &queries[..rows * q_width], &mut out);
        out
    };
    assert!(run(isa, 1).floats() == run(Isa::Scalar, 1).floats(), "attention in {} differs", kind.name());

    let seconds = fastest(|| {
        run(isa, rows);
    });
    let seen = (depth as f64 + rows as f64 / 2.0) * rows as f64;
    let bytes = len as f64 * shape.block_bytes() as f64 / BLOCK_TOKENS as f64 / seconds;
    println!(
        "attention {:4}, {rows:3} rows at a depth of {depth:4}: {:3.0} Gflop/s, {:5.1} GB/s ({:3.0} % of the bandwidth)",
        kind.name(),
        4.0 * (HEADS * shape.head_dim) as f64 * seen / seconds / 1e9,
        bytes / 1e9,
        100.0 * bytes / bytes_limit
    );
}
