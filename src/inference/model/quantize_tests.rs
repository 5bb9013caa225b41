use std::collections::HashMap;
use std::path::PathBuf;

use safetensors::tensor::{Dtype, TensorView};
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::ids::{BlockId, TokenId};
use crate::inference::kernels::Isa;
use crate::inference::model::{CausalLm, CpuDecoder, ForwardBatch, KvKind, Span, Weights};

/// Relative L2 distance of a position's logits, for all but one of forty. The kernels multiply blocks with activations in
/// 8 bits, which is part of it.
/// Measured with these seeds: 0.010 to 0.024 for Q8_0, 0.11 to 0.21 for Q4_K.
const Q8_0_ERROR_MAX: f32 = 0.05;
const Q4_K_ERROR_MAX: f32 = 0.3;

const HIDDEN: usize = 256;
const VOCABULARY: usize = 300;
const LAYERS: usize = 2;
const EXPERTS: usize = 4;

/// A folder as Hugging Face lays it out, with random weights in a float format.
pub(in crate::inference) struct Small {
    _folder: TempDir,
    pub path: PathBuf,
}

impl Small {
    pub fn new(architecture: &str, inner: usize, dtype: Dtype) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model");
        std::fs::create_dir(&path).unwrap();
        let config = json!({
            "model_type": architecture, "num_hidden_layers": LAYERS, "hidden_size": HIDDEN,
            "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": inner,
            "num_local_experts": EXPERTS, "num_experts_per_tok": 2, "vocab_size": VOCABULARY,
            "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
            "embedding_multiplier": 6.0, "residual_multiplier": 0.5, "attention_multiplier": 0.02, "logits_scaling": 3.0,
        });
        std::fs::write(path.join("config.json"), config.to_string()).unwrap();
        let mut tensors = Tensors { bytes: HashMap::new(), dtype, seed: 1 };
        tensors.add("model.embed_tokens", &[VOCABULARY, HIDDEN]);
        tensors.add("model.norm", &[HIDDEN]);
        if architecture == "llama" {
            tensors.add("lm_head", &[VOCABULARY, HIDDEN]);
        }
        for l in 0..LAYERS {
            let mut add = |part: &str, shape: &[usize]| tensors.add(&format!("model.layers.{l}.{part}"), shape);
            add("input_layernorm", &[HIDDEN]);
            add("post_attention_layernorm", &[HIDDEN]);
            add("self_attn.q_proj", &[HIDDEN, HIDDEN]);
            add("self_attn.k_proj", &[HIDDEN / 2, HIDDEN]);
            add("self_attn.v_proj", &[HIDDEN / 2, HIDDEN]);
            add("self_attn.o_proj", &[HIDDEN, HIDDEN]);
            if architecture == "granitemoe" {
                add("block_sparse_moe.router.layer", &[EXPERTS, HIDDEN]);
                add("block_sparse_moe.input_linear", &[EXPERTS, 2 * inner, HIDDEN]);
                add("block_sparse_moe.output_linear", &[EXPERTS, HIDDEN, inner]);
            } else {
                add("mlp.gate_proj", &[inner, HIDDEN]);
                add("mlp.up_proj", &[inner, HIDDEN]);
                add("mlp.down_proj", &[HIDDEN, inner]);
            }
        }
        tensors.write(&path.join("model.safetensors"));
        Self { _folder: folder, path }
    }

    fn open(&self) -> ModelSource {
        ModelSource::open(&self.path).unwrap()
    }

    fn quantized(&self, quantization: Quantization) -> PathBuf {
        let to = self.path.join(format!("{}.gguf", quantization.name()));
        write_quantized(&self.open(), quantization, Vec::new(), &to, &|_, _| true).unwrap();
        to
    }

    /// The relative L2 distance of the logits after quantizing, over all positions together.
    /// The distance of each position's logits, smallest first.
    fn errors(&self, quantization: Quantization) -> Vec<f32> {
        let expected = logits(&self.open());
        let got = logits(&ModelSource::open(&self.quantized(quantization)).unwrap());
        let rows = expected.chunks_exact(VOCABULARY).zip(got.chunks_exact(VOCABULARY));
        let mut errors: Vec<f32> = rows.map(|(e, g)| distance(e, g)).collect();
        errors.sort_by(f32::total_cmp);
        errors
    }

    fn error(&self, quantization: Quantization) -> f32 {
        let errors = self.errors(quantization);
        errors[errors.len() / 2]
    }
}

struct Tensors {
    bytes: HashMap<String, (Vec<usize>, Vec<u8>)>,
    dtype: Dtype,
    seed: u64,
}

impl Tensors {
    fn add(&mut self, name: &str, shape: &[usize]) {
        let scale = if shape.len() == 1 { 0.2 } else { 1.7 / (shape[shape.len() - 1] as f32).sqrt() };
        let around = if shape.len() == 1 { 1.0 } else { 0.0 };
        let mut bytes = Vec::new();
        for _ in 0..shape.iter().product() {
            self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let weight = around + ((self.seed >> 40) as f32 / (1 << 23) as f32 - 1.0) * scale;
            match self.dtype {
                Dtype::BF16 => bytes.extend(half::bf16::from_f32(weight).to_le_bytes()),
                _ => bytes.extend(weight.to_le_bytes()),
            }
        }
        self.bytes.insert(format!("{name}.weight"), (shape.to_vec(), bytes));
    }

    fn write(&self, path: &Path) {
        let views: Vec<_> = self
            .bytes
            .iter()
            .map(|(name, (shape, bytes))| (name.clone(), TensorView::new(self.dtype, shape.clone(), bytes).unwrap()))
            .collect();
        safetensors::serialize_to_file(views, None, path).unwrap();
    }
}

fn logits(source: &ModelSource) -> Vec<f32> {
    let tokens: Vec<TokenId> = (0..40).map(|i| (i * 37 + 5) % VOCABULARY as TokenId).collect();
    let rows: Vec<usize> = (0..tokens.len()).collect();
    let table: Vec<BlockId> = vec![BlockId(0), BlockId(1)];
    let spans = [Span { first_row: 0, rows: tokens.len(), first_position: 0, block_table: &table }];
    let weights = Weights::load(source, &|_, _| ()).unwrap();
    let mut model = CpuDecoder::new(source.config().clone(), weights, Isa::detect(), 1, KvKind::F32, 2);
    model.forward(&ForwardBatch { tokens: &tokens, spans: &spans, logits_rows: &rows }).unwrap().values
}

fn distance(expected: &[f32], got: &[f32]) -> f32 {
    assert_eq!(expected.len(), got.len());
    let square = |values: &mut dyn Iterator<Item = f32>| values.map(|v| f64::from(v).powi(2)).sum::<f64>();
    let off = square(&mut expected.iter().zip(got).map(|(e, g)| e - g));
    (off / square(&mut expected.iter().copied())).sqrt() as f32
}

#[test]
fn names_order_of_rows_and_metadata_lose_nothing() {
    for architecture in ["llama", "granite", "granitemoe"] {
        let small = Small::new(architecture, 64, Dtype::BF16);
        let float = small.open();
        let gguf = ModelSource::open(&small.quantized(Quantization::F32)).unwrap();
        assert_eq!(gguf.config(), float.config(), "{architecture}");
        assert!(logits(&gguf) == logits(&float), "{architecture}: the same weights give other logits");
    }
}

#[test]
fn eight_bits_are_within_their_error() {
    for architecture in ["llama", "granite", "granitemoe"] {
        for dtype in [Dtype::BF16, Dtype::F32] {
            let errors = Small::new(architecture, 64, dtype).errors(Quantization::Q8_0);
            println!("{architecture} {dtype:?}: {errors:?}");
            // A position whose router is torn between two experts may take the other one: at most one in forty here.
            let within = errors[errors.len() - 2];
            assert!(errors[0] > 0.0 && within < Q8_0_ERROR_MAX, "{architecture}: {errors:?}");
        }
    }
}

#[test]
fn four_bits_are_within_their_error() {
    for (architecture, inner) in [("llama", 256), ("granitemoe", 256), ("granitemoe", 96)] {
        let error = Small::new(architecture, inner, Dtype::BF16).error(Quantization::Q4K);
        println!("{architecture} {inner}: {error}");
        assert!(error > Q8_0_ERROR_MAX && error < Q4_K_ERROR_MAX, "{architecture}: {error}");
    }
}

#[test]
fn each_tensor_has_the_format_of_its_part() {
    let small = Small::new("granitemoe", 96, Dtype::BF16);
    let formats = |quantization| {
        let source = ModelSource::open(&small.quantized(quantization)).unwrap();
        ["token_embd", "output_norm", "blk.0.attn_q", "blk.1.ffn_gate_inp", "blk.1.ffn_up_exps", "blk.1.ffn_down_exps"]
            .map(|name| source.tensor(&format!("{name}.weight")).unwrap().format)
    };
    use Format::{F32, Q4K, Q6K, Q8_0};
    assert_eq!(formats(Quantization::Q8_0), [Q8_0, F32, Q8_0, F32, Q8_0, Q8_0]);
    assert_eq!(formats(Quantization::Q4K), [Q6K, F32, Q4K, F32, Q4K, Q8_0], "rows of 96 are no block of 256");
}

/// Another reader of the format finds the same tensors, and the same weights in them.
#[test]
fn candle_reads_what_is_written() {
    let small = Small::new("granitemoe", 64, Dtype::BF16);
    let path = small.quantized(Quantization::Q8_0);
    let ours = ModelSource::open(&path).unwrap();
    let mut file = File::open(&path).unwrap();
    let content = candle_core::quantized::gguf_file::Content::read(&mut file).unwrap();
    assert_eq!(content.tensor_infos.len(), ours.tensors().len());
    assert_eq!(content.metadata["general.architecture"].to_string().unwrap(), "granitemoe");
    assert_eq!(content.metadata["granitemoe.expert_used_count"].to_u32().unwrap(), 2);
    assert_eq!(content.metadata["granitemoe.logit_scale"].to_f32().unwrap(), 3.0);
    for (name, info) in ours.tensors() {
        let tensor = content.tensor(&mut file, name, &Device::Cpu).unwrap();
        assert_eq!(tensor.shape().dims(), info.shape, "{name}");
        assert!(*tensor.data().unwrap() == *ours.bytes(info), "{name}");
    }
}

/// Ours rounds as candle's own quantizer does, which follows ggml's.
#[test]
fn blocks_of_eight_bits_are_ggmls() {
    let mut weights: Vec<f32> =
        (0..1024).map(|i| ((i * 7919 % 1009) as f32 / 504.5 - 1.0) * (0.01 + i as f32)).collect();
    weights[64..96].fill(0.0);
    let mut ours = vec![0; Format::Q8_0.row_bytes(weights.len()).unwrap()];
    encode_row(Format::Q8_0, &weights, &mut ours).unwrap();
    let tensor = Tensor::from_vec(weights, (1, 1024), &Device::Cpu).unwrap();
    let theirs = QTensor::quantize(&tensor, GgmlDType::Q8_0).unwrap();
    assert!(ours == *theirs.data().unwrap());
}

#[test]
fn the_same_model_gives_the_same_bytes() {
    let small = Small::new("granitemoe", 64, Dtype::BF16);
    let first = std::fs::read(small.quantized(Quantization::Q8_0)).unwrap();
    assert!(first == std::fs::read(small.quantized(Quantization::Q8_0)).unwrap());
}

#[test]
fn progress_ends_at_the_whole() {
    let small = Small::new("llama", 64, Dtype::BF16);
    let told = std::cell::Cell::new((0, 0));
    let to = small.path.join("x.gguf");
    write_quantized(&small.open(), Quantization::Q8_0, Vec::new(), &to, &|done, of| {
        assert!(done > told.get().0);
        told.set((done, of));
        true
    })
    .unwrap();
    let (done, of) = told.get();
    assert!(done == of && done > 0);
}

#[test]
fn quantizing_stops_when_it_is_told_to() {
    let small = Small::new("llama", 64, Dtype::BF16);
    let to = small.path.join("x.gguf");
    let stopped = write_quantized(&small.open(), Quantization::Q8_0, Vec::new(), &to, &|_, _| false);
    assert!(matches!(stopped, Err(QuantizeError::Stopped)), "{stopped:?}");
}

#[test]
fn a_weight_that_is_no_number_is_named_with_its_place() {
    let small = Small::new("llama", 64, Dtype::F32);
    let source = small.open();
    let at = source.tensor("model.layers.1.mlp.up_proj.weight").unwrap().bytes.start + (3 * HIDDEN + 7) * 4;
    drop(source);
    let path = small.path.join("model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    for (weight, fact) in
        [(f32::NAN, "a weight is NaN"), (3e38, "a weight of 300000000000000000000000000000000000000 is")]
    {
        bytes[at..at + 4].copy_from_slice(&weight.to_le_bytes());
        std::fs::write(&path, &bytes).unwrap();
        let to = small.path.join("x.gguf");
        let error = write_quantized(&small.open(), Quantization::Q8_0, Vec::new(), &to, &|_, _| true).unwrap_err();
        let error = error.to_string();
        let place = "model.safetensors: tensor model.layers.1.mlp.up_proj.weight, row 3: ";
        assert!(error.contains(&format!("{place}{fact}")), "{error}");
    }
}

#[test]
fn a_gguf_file_is_not_quantized_again() {
    let small = Small::new("llama", 64, Dtype::F32);
    let path = small.quantized(Quantization::Q8_0);
    let to = small.path.join("x.gguf");
    let error = write_quantized(&ModelSource::open(&path).unwrap(), Quantization::Q4K, Vec::new(), &to, &|_, _| true);
    assert!(error.unwrap_err().to_string().contains("it is a GGUF file") && !to.exists());
}
