//! The two forward passes against the logits that transformers computes for the fixture.

use std::path::PathBuf;

use super::{BLOCK_TOKENS, CandleDecoder, CausalLm, CpuDecoder, ForwardBatch, KvKind, ModelSource, Span, Weights};
use crate::ids::{BlockId, TokenId};
use crate::inference::kernels::Isa;

/// Relative L2 error per position. Two float32 implementations that add in different orders differ by about 1e-5 on
/// this model, whose wide weights amplify rounding.
const TOLERANCE: f64 = 1e-4;

fn fixture() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/models/tiny-granitemoe")
}

fn tokens() -> Vec<TokenId> {
    serde_json::from_str(&std::fs::read_to_string(fixture().join("tokens.json")).unwrap()).unwrap()
}

/// The rows of a NumPy file of float32.
fn reference(width: usize) -> Vec<Vec<f32>> {
    let bytes = std::fs::read(fixture().join("logits.npy")).unwrap();
    let header = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let values: Vec<f32> = bytes[10 + header..].as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    values.chunks_exact(width).map(<[f32]>::to_vec).collect()
}

fn check(model: &mut dyn CausalLm) {
    let (tokens, width) = (tokens(), model.config().vocabulary);
    let table: Vec<BlockId> = (0..tokens.len().div_ceil(BLOCK_TOKENS) as u32).map(BlockId).collect();
    let span = [Span { first_row: 0, rows: tokens.len(), first_position: 0, block_table: &table }];
    let all: Vec<usize> = (0..tokens.len()).collect();
    let logits = model.forward(&ForwardBatch { tokens: &tokens, spans: &span, logits_rows: &all }).unwrap();
    for (i, expected) in reference(width).iter().enumerate() {
        let square = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>();
        let error = square(&mut logits.row(i).iter().zip(expected).map(|(a, b)| f64::from(a - b)));
        let norm = square(&mut expected.iter().map(|v| f64::from(*v)));
        assert!((error / norm).sqrt() < TOLERANCE, "position {i}: {}", (error / norm).sqrt());
    }
}

#[test]
fn the_kernels_give_the_logits_of_transformers_on_every_instruction_set() {
    let source = ModelSource::open(&fixture()).unwrap();
    for isa in Isa::ALL.into_iter().filter(|i| i.is_available()) {
        let weights = Weights::load(&source, &|_, _| ()).unwrap();
        check(&mut CpuDecoder::new(source.config().clone(), weights, isa, 2, KvKind::F32, 4));
    }
}

#[test]
fn candle_gives_the_logits_of_transformers() {
    let source = ModelSource::open(&fixture()).unwrap();
    check(&mut CandleDecoder::load(&source, candle_core::Device::Cpu, 4).unwrap());
}
