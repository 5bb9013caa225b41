//! A tiny encoder with made-up weights: what holds of any weights holds of these.

use std::collections::HashMap;
use std::fs;

use candle_core::{Device, Tensor};

use super::*;

const WIDTH: usize = 8;

fn tiny(max_tokens: usize) -> (tempfile::TempDir, Embedder) {
    let folder = tempfile::tempdir().unwrap();
    let words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "wing", "lift", "flow", "heat", "the", "of"];
    let vocabulary: serde_json::Map<String, serde_json::Value> =
        words.iter().enumerate().map(|(i, w)| (w.to_string(), i.into())).collect();
    let special = |id: u32, content: &str| {
        serde_json::json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true})
    };
    let tokenizer = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [special(0, "[PAD]"), special(1, "[UNK]"), special(2, "[CLS]"), special(3, "[SEP]")],
        "normalizer": {"type": "Lowercase"}, "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}, "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"},
    });
    fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    let config = serde_json::json!({
        "model_type": "bert", "vocab_size": words.len(), "hidden_size": WIDTH, "num_hidden_layers": 2,
        "num_attention_heads": 2, "intermediate_size": 16, "hidden_act": "gelu", "hidden_dropout_prob": 0.0,
        "max_position_embeddings": 64, "type_vocab_size": 2, "initializer_range": 0.02, "layer_norm_eps": 1e-12,
        "pad_token_id": 0,
    });
    fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    fs::write(folder.path().join("sentence_bert_config.json"), format!("{{\"max_seq_length\":{max_tokens}}}")).unwrap();
    let mut weights: HashMap<String, Tensor> = HashMap::new();
    let mut seed = 1u32;
    let mut add = |name: String, shape: &[usize]| {
        let values: Vec<f32> = (0..shape.iter().product::<usize>())
            .map(|_| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                match name.contains("LayerNorm") {
                    true => f32::from(u8::from(name.ends_with("weight"))),
                    false => (seed >> 8) as f32 / (1 << 24) as f32 - 0.5,
                }
            })
            .collect();
        weights.insert(name, Tensor::from_vec(values, shape, &Device::Cpu).unwrap());
    };
    add("embeddings.word_embeddings.weight".into(), &[words.len(), WIDTH]);
    add("embeddings.position_embeddings.weight".into(), &[64, WIDTH]);
    add("embeddings.token_type_embeddings.weight".into(), &[2, WIDTH]);
    let mut norm = |name: &str| ["weight", "bias"].iter().for_each(|p| add(format!("{name}.{p}"), &[WIDTH]));
    norm("embeddings.LayerNorm");
    for layer in 0..2 {
        norm(&format!("encoder.layer.{layer}.attention.output.LayerNorm"));
        norm(&format!("encoder.layer.{layer}.output.LayerNorm"));
    }
    for layer in 0..2 {
        let mut linear = |name: &str, out: usize, inner: usize| {
            add(format!("encoder.layer.{layer}.{name}.weight"), &[out, inner]);
            add(format!("encoder.layer.{layer}.{name}.bias"), &[out]);
        };
        for name in ["query", "key", "value"] {
            linear(&format!("attention.self.{name}"), WIDTH, WIDTH);
        }
        linear("attention.output.dense", WIDTH, WIDTH);
        linear("intermediate.dense", 16, WIDTH);
        linear("output.dense", WIDTH, 16);
    }
    candle_core::safetensors::save(&weights, folder.path().join("model.safetensors")).unwrap();
    let embedder = Embedder::load(folder.path()).unwrap();
    (folder, embedder)
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

#[test]
fn a_text_has_one_vector_in_any_company() {
    // Padding adds nothing but the rounding of longer sums.
    const NEAR: f32 = 1e-5;
    let (_folder, embedder) = tiny(32);
    let texts = ["wing", "the lift of the wing", "heat flow", "", "wing flow heat lift of the wing the lift"];
    let together = embedder.passages(&texts).unwrap();
    for (text, vector) in texts.iter().zip(&together) {
        let alone = embedder.passages(&[text]).unwrap().remove(0);
        assert!((cosine(vector, &alone) - 1.0).abs() < NEAR, "{text}");
        assert_eq!(vector.len(), embedder.dims());
    }
    assert!(cosine(&together[0], &together[2]) < 0.999_9);
}

#[test]
fn a_long_text_is_read_to_its_end() {
    let (_folder, embedder) = tiny(8);
    let start = "wing lift wing lift wing lift";
    let long = |end: &str| format!("{start} {}", [end; 12].join(" "));
    let vectors = embedder.passages(&[&long("heat"), &long("flow")]).unwrap();
    assert!(cosine(&vectors[0], &vectors[1]) < 0.999, "what differs only behind the first window is seen");
}

#[test]
fn marks_of_the_model_in_a_text_are_text() {
    let (_folder, embedder) = tiny(32);
    let windows = embedder.windows(&["wing [SEP] lift"], "").unwrap();
    assert_eq!(windows[0].ids.iter().filter(|id| **id == 3).count(), 1, "{:?}", windows[0].ids);
}

#[test]
fn a_model_of_another_family_or_without_weights_is_refused_by_name() {
    let (folder, _) = tiny(32);
    let config = fs::read_to_string(folder.path().join("config.json")).unwrap();
    fs::write(folder.path().join("config.json"), config.replace("\"bert\"", "\"t5\"")).unwrap();
    assert!(Embedder::load(folder.path()).err().unwrap().to_string().contains("t5"));
    fs::write(folder.path().join("config.json"), config).unwrap();
    fs::write(folder.path().join("model.safetensors"), b"\xff\xff\xff\xff\xff\xff\xff\xff{}").unwrap();
    assert!(Embedder::load(folder.path()).err().unwrap().to_string().contains("model.safetensors"));
}
