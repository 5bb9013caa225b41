//! Folders of safetensors, written byte by byte.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::{Bench, SPECIAL, Stage, assert_whole, small, vocabulary, weights};
use crate::support::run;

/// A folder to be written, with everything that can be wrong about it.
#[derive(Clone)]
struct Folder {
    config: Value,
    tokenizer: Value,
    header: Value,
    data: Vec<u8>,
}

impl Folder {
    /// A GraniteMoE model with a tokenizer.
    fn small() -> Self {
        use small::*;
        let config = json!({
            "model_type": "granitemoe", "hidden_size": HIDDEN, "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "intermediate_size": INNER,
            "num_local_experts": EXPERTS, "num_experts_per_tok": PER_TOKEN, "vocab_size": VOCABULARY,
            "max_position_embeddings": WINDOW, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
            "embedding_multiplier": 12.0, "residual_multiplier": 0.22, "attention_multiplier": 0.0625,
            "logits_scaling": 6.0, "tie_word_embeddings": true, "eos_token_id": 0, "bos_token_id": 0,
        });
        let byte_level =
            json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
        let vocab: serde_json::Map<String, Value> =
            vocabulary().into_iter().enumerate().map(|(id, text)| (text, json!(id))).collect();
        let added =
            |(id, text): (usize, &&str)| json!({"id": id, "content": text, "special": true, "normalized": false});
        let tokenizer = json!({
            "version": "1.0",
            "added_tokens": SPECIAL.iter().enumerate().map(added).collect::<Vec<_>>(),
            "normalizer": null,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": true}, byte_level.clone()]},
            "post_processor": byte_level.clone(),
            "decoder": byte_level,
            "model": {"type": "BPE", "vocab": vocab, "merges": []},
        });
        let mut folder = Self { config, tokenizer, header: json!({}), data: Vec::new() };
        folder.tensor("model.embed_tokens.weight", &[VOCABULARY, HIDDEN]);
        folder.tensor("model.norm.weight", &[HIDDEN]);
        for l in 0..LAYERS {
            let mut add =
                |name: &str, shape: &[usize]| folder.tensor(&format!("model.layers.{l}.{name}.weight"), shape);
            add("input_layernorm", &[HIDDEN]);
            add("self_attn.q_proj", &[HEADS * HEAD, HIDDEN]);
            add("self_attn.k_proj", &[KV_HEADS * HEAD, HIDDEN]);
            add("self_attn.v_proj", &[KV_HEADS * HEAD, HIDDEN]);
            add("self_attn.o_proj", &[HIDDEN, HEADS * HEAD]);
            add("post_attention_layernorm", &[HIDDEN]);
            add("block_sparse_moe.router.layer", &[EXPERTS, HIDDEN]);
            add("block_sparse_moe.input_linear", &[EXPERTS, 2 * INNER, HIDDEN]);
            add("block_sparse_moe.output_linear", &[EXPERTS, HIDDEN, INNER]);
        }
        folder
    }

    fn tensor(&mut self, name: &str, shape: &[usize]) {
        let start = self.data.len();
        let values = weights(shape.iter().product(), start as u64);
        self.data.extend(values.iter().flat_map(|x| x.to_le_bytes()));
        self.header[name] = json!({"dtype": "F32", "shape": shape, "data_offsets": [start, self.data.len()]});
    }

    fn weights(&self) -> Vec<u8> {
        framed(self.header.to_string().as_bytes(), &self.data)
    }

    /// Writes everything; the folder is a new one.
    fn write(&self, bench: &Bench) -> PathBuf {
        let path = bench.path("model");
        let _ = fs::remove_dir_all(&path); // the last one, if there was one
        fs::create_dir(&path).unwrap();
        fs::write(path.join("config.json"), self.config.to_string()).unwrap();
        fs::write(path.join("tokenizer.json"), self.tokenizer.to_string()).unwrap();
        fs::write(path.join("model.safetensors"), self.weights()).unwrap();
        path
    }
}

/// A safetensors file: the header's length, the header, the data.
fn framed(header: &[u8], data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header, data].concat()
}

const Q: &str = "model.layers.0.self_attn.q_proj.weight";

#[test]
fn a_sound_folder_is_inspected_computed_and_answers() {
    let bench = Bench::new();
    let path = Folder::small().write(&bench);
    for stage in [Stage::Header, Stage::Weights, Stage::Text] {
        run(&mut bench.command(stage, &path)).exits(0);
    }
    assert!(fs::metadata(bench.path("logits.npy")).unwrap().len() > 6 * 259 * 4);
}

#[test]
fn weights_cut_off_anywhere_are_refused() {
    let bench = Bench::new();
    let folder = Folder::small();
    let path = folder.write(&bench);
    let whole = folder.weights();
    let cuts = [0, 1, 7, 8, 9, 100, 500, 1000, 1500, 2000].into_iter();
    for cut in cuts.chain((1..8).map(|i| whole.len() * i / 8)).chain([whole.len() - 1]) {
        fs::write(path.join("model.safetensors"), &whole[..cut]).unwrap();
        bench.refused(&format!("cut at {cut} of {}", whole.len()), &path, "model.safetensors", Stage::Header, "");
    }
}

#[test]
fn hostile_weights_are_refused_with_file_and_fact() {
    let bench = Bench::new();
    let raw = |what: &str, bytes: Vec<u8>| {
        let path = Folder::small().write(&bench);
        fs::write(path.join("model.safetensors"), bytes).unwrap();
        bench.refused(what, &path, "model.safetensors", Stage::Header, "");
    };
    let data = vec![0; 4096];
    for n in [0, 1 << 32, 1 << 63, u64::MAX, 5000, 17 << 20] {
        raw(&format!("a header of {n} bytes"), [&u64::to_le_bytes(n)[..], &data].concat());
    }
    raw("no JSON", framed(b"{\"a\": ", &data));
    raw("bytes", framed(&[0xff; 64], &data));
    raw("a list", framed(b"[]", &data));
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let deep = format!("{{\"x\": {}1{}}}", open.repeat(100_000), close.repeat(100_000));
        raw("100,000 deep", framed(deep.as_bytes(), &data));
    }
    let text = Folder::small().header.to_string();
    raw("a header of 20 MB", framed(format!("{{\"x\": \"{}\"}}", "y".repeat(20 << 20)).as_bytes(), &data));
    let doubled = format!("{},{}", &text[..text.len() - 1], &text[1..]);
    raw(
        "every tensor twice",
        framed(doubled.as_bytes(), &[Folder::small().data.clone(), Folder::small().data].concat()),
    );
    raw("a GGUF file", b"GGUF\x03\0\0\0\x01\0\0\0\0\0\0\0".to_vec());

    let check = |what: &str, stage: Stage, fact: &str, change: &dyn Fn(&mut Folder)| {
        let mut folder = Folder::small();
        change(&mut folder);
        let path = folder.write(&bench);
        bench.refused(what, &path, "model", stage, fact);
    };
    use Stage::{Header, Weights};
    let len = Folder::small().data.len() as u64;
    for (what, offsets) in [
        ("an end before the start", json!([4096, 0])),
        ("past the end", json!([len, len + 4096])),
        ("offsets of 2^63", json!([1u64 << 63, (1u64 << 63) + 4096])),
        ("offsets of u64::MAX", json!([0, u64::MAX])),
        ("an offset below zero", json!([-4096, 0])),
        ("offsets that are fractions", json!([0.5, 4096.5])),
        ("one tensor on another", json!([0, 4096])),
        ("no offsets", json!([])),
    ] {
        check(what, Header, "", &|f| f.header[Q]["data_offsets"] = offsets.clone());
    }
    for shape in [
        json!([1u64 << 32, 1u64 << 32]),
        json!([u64::MAX, 2]),
        json!([-1, 32]),
        json!([32]),
        json!("32x32"),
        json!([0, 32]),
    ] {
        check(&format!("the shape {shape}"), Header, "", &|f| f.header[Q]["shape"] = shape.clone());
    }
    for dtype in ["F64", "I64", "BOOL", "F8_E4M3", "Q9", ""] {
        check(&format!("numbers of type {dtype}"), Header, "", &|f| f.header[Q]["dtype"] = json!(dtype));
    }
    check("a hole before the last tensor", Header, "", &|f| f.data.extend([0; 64]));
    check("no tensors", Header, "no tensors", &|f| {
        f.header = json!({});
        f.data.clear();
    });
    check("a tensor missing", Weights, Q, &|f| {
        let info = f.header.as_object_mut().unwrap().shift_remove(Q).unwrap();
        f.header["another"] = info;
    });
    check("a tensor of another shape", Weights, Q, &|f| f.header[Q]["shape"] = json!([16, 64]));
    check("a vector for a matrix", Weights, Q, &|f| f.header[Q]["shape"] = json!([1024]));
    let num_cases = bench.num_cases.into_inner();
    assert!(num_cases >= 35, "{num_cases} cases");
}

#[test]
fn hostile_configurations_are_refused_with_file_and_fact() {
    let bench = Bench::new();
    let check = |what: &str, stage: Stage, fact: &str, change: &dyn Fn(&mut Value)| {
        let mut folder = Folder::small();
        change(&mut folder.config);
        let path = folder.write(&bench);
        bench.refused(what, &path, if stage == Stage::Header { "config.json" } else { "model" }, stage, fact);
    };
    use Stage::{Header, Weights};
    check("no model type", Header, "model_type", &|c| c["model_type"] = Value::Null);
    for name in ["qwen2", "", "llama\u{1b}[31m"] {
        check("an unknown architecture", Header, "not supported", &|c| c["model_type"] = json!(name));
    }
    check("biases", Header, "attention_bias", &|c| c["attention_bias"] = json!(true));
    check("rope scaling", Header, "rope scaling", &|c| c["rope_scaling"] = json!({"type": "yarn", "factor": 4}));
    for key in [
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "intermediate_size",
        "num_local_experts",
        "max_position_embeddings",
        "vocab_size",
    ] {
        for value in
            [Value::Null, json!(0), json!(-1), json!("many"), json!(1u64 << 63), json!(1e300), json!(0.5), json!([32])]
        {
            check(&format!("{key}: {value}"), Header, "", &|c| c[key] = value.clone());
        }
    }
    check("heads that do not divide", Header, "key/value heads", &|c| c["num_key_value_heads"] = json!(3));
    check("an epsilon of 0", Header, "epsilon", &|c| c["rms_norm_eps"] = json!(0));
    check("theta in words", Header, "rope_theta", &|c| c["rope_theta"] = json!("ten"));
    check("a layer more than there are", Weights, "layers.2.", &|c| c["num_hidden_layers"] = json!(3));
    check("another vocabulary", Weights, "embed_tokens", &|c| c["vocab_size"] = json!(300));
    check("a huge model that is not there", Weights, "embed_tokens", &|c| {
        c["hidden_size"] = json!(65_536);
        c["num_attention_heads"] = json!(64);
        c["vocab_size"] = json!(4_000_000);
        c["num_hidden_layers"] = json!(1024);
    });
}

#[test]
fn files_that_are_missing_or_something_else_are_named() {
    let bench = Bench::new();
    let with = |what: &str, file: &str, stage: Stage, fact: &str, bytes: Option<&[u8]>| {
        let path = Folder::small().write(&bench);
        match bytes {
            Some(bytes) => fs::write(path.join(file), bytes).unwrap(),
            None => fs::remove_file(path.join(file)).unwrap(),
        }
        bench.refused(what, &path, if bytes.is_some() { file } else { "model" }, stage, fact);
    };
    use Stage::{Header, Text};
    let deep = "[".repeat(100_000);
    with("no config", "config.json", Header, "config.json", None);
    with("an empty config", "config.json", Header, "JSON", Some(b""));
    with("a deep config", "config.json", Header, "JSON", Some(deep.as_bytes()));
    with("a config of bytes", "config.json", Header, "JSON", Some(&[0xff; 100]));
    with("a config of 5 MB", "config.json", Header, "at most", Some(format!("\"{}\"", "x".repeat(5 << 20)).as_bytes()));
    with("a list for a config", "config.json", Header, "model_type", Some(b"[]"));
    with("no weights", "model.safetensors", Header, "safetensors", None);
    with("no tokenizer", "tokenizer.json", Text, "tokenizer.json", None);
    with("an empty tokenizer", "tokenizer.json", Text, "", Some(b""));
    with("a deep tokenizer", "tokenizer.json", Text, "", Some(deep.as_bytes()));
    with(
        "a tokenizer of another kind",
        "tokenizer.json",
        Text,
        "",
        Some(br#"{"model": {"type": "Unigram", "vocab": []}}"#),
    );
    with(
        "a tokenizer without a vocabulary",
        "tokenizer.json",
        Text,
        "",
        Some(br#"{"model": {"type": "BPE", "vocab": {}, "merges": []}}"#),
    );
    let index = "model.safetensors.index.json";
    with("an index of bytes", index, Header, "JSON", Some(&[0xff; 10]));
    with("an index without a map", index, Header, "weight_map", Some(b"{}"));
    for name in ["../model/model.safetensors", "/etc/passwd", "..", ".hidden"] {
        let text = json!({"weight_map": {"a": name}}).to_string();
        with(&format!("an index that names {name}"), index, Header, "leaves the folder", Some(text.as_bytes()));
    }
    with("an index of numbers", index, Header, "no text", Some(br#"{"weight_map": {"a": 7}}"#));

    let path = Folder::small().write(&bench);
    fs::write(path.join(index), r#"{"weight_map": {"a": "gone.safetensors"}}"#).unwrap();
    bench.refused("an index that names what is not there", &path, "gone.safetensors", Header, "");
    fs::write(path.join(index), r#"{"weight_map": {"a": "model.safetensors", "b": "two.safetensors"}}"#).unwrap();
    fs::copy(path.join("model.safetensors"), path.join("two.safetensors")).unwrap();
    bench.refused("every tensor in two files", &path, "safetensors", Header, "two files");
    bench.refused("a file for a folder", &path.join("two.safetensors"), "two.safetensors", Header, "folder");
    let empty = bench.path("nothing");
    fs::create_dir(&empty).unwrap();
    bench.refused("an empty folder", &empty, "nothing", Header, "");
    bench.refused("no file at all", &bench.path("gone.gguf"), "gone.gguf", Header, "");
}

#[test]
fn a_flipped_bit_of_a_header_is_read_or_refused_and_nothing_else() {
    let bench = Bench::new();
    let folder = Folder::small();
    let path = folder.write(&bench);
    let whole = folder.weights();
    for i in 0..50 {
        let bit = if i < 8 { i * 8 + i } else { 64 + i * 353 % 14_000 };
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        fs::write(path.join("model.safetensors"), bytes).unwrap();
        let ran = run(&mut bench.command(Stage::Weights, &path));
        assert_whole(&format!("bit {bit}"), &ran);
        assert!(matches!(ran.code, Some(0 | 8)), "bit {bit}: {ran}");
    }
}
