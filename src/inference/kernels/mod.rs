//! Slices in, slices out: the arithmetic of the forward pass on the CPU.
//! Knows no tensor type, no model and no file. Read `lanes` first, then `matmul`.
//!
//! Every kernel is written once over `lanes::Lanes` (sixteen f32 lanes) and instantiated per instruction set.
//! All sets do the same operations in the same order, so their results are equal bit for bit; the scalar one is
//! the truth. No result depends on how many rows are computed together or on how work is spread over threads.

pub mod activations;
// Register tiles are arrays of a constant length, indexed alike in several arrays at once.
#[allow(clippy::needless_range_loop)]
pub mod attention;
pub mod blocks;
pub mod experts;
mod floats;
pub mod isa;
mod lanes;
pub mod limits;
pub mod matmul;
pub mod matrix;
mod packed;
pub mod pool;
mod region;
pub mod rows;

pub use activations::Activations;
pub use isa::Isa;
pub use matrix::Matrix;
pub use pool::Pool;
