//! GGUF files, written byte by byte.

use std::fs;
use std::path::PathBuf;

use candle_core::quantized::{GgmlDType, QTensor, gguf_file};
use candle_core::{Device, Tensor};
use serde_json::Value as Json;

use super::{Bench, SPECIAL, Stage, assert_whole, small, vocabulary, weights};
use crate::support::{quarry, run};

const F32: u32 = 0;
const Q8_0: u32 = 8;

/// A metadata value.
#[derive(Clone)]
enum Meta {
    U32(u32),
    U64(u64),
    F32(f32),
    Bool(bool),
    Text(String),
    Texts(Vec<String>),
    I32s(Vec<i32>),
    /// A type number and the bytes behind it.
    Raw(u32, Vec<u8>),
}

#[derive(Clone)]
struct Tensor32 {
    name: String,
    dims: Vec<u64>, // fastest first, as ggml counts
    kind: u32,
    data: Vec<u8>,
    offset: Option<u64>, // `None`: where it belongs
}

/// A file to be written, with everything that can be wrong about it.
#[derive(Clone)]
struct File {
    magic: [u8; 4],
    version: u32,
    num_tensors: Option<u64>,
    num_meta: Option<u64>,
    meta: Vec<(String, Meta)>,
    tensors: Vec<Tensor32>,
    alignment: u64,
}

impl File {
    /// A GraniteMoE model with a tokenizer.
    fn small() -> Self {
        use small::*;
        let mut file = Self {
            magic: *b"GGUF",
            version: 3,
            num_tensors: None,
            num_meta: None,
            meta: Vec::new(),
            tensors: Vec::new(),
            alignment: 32,
        };
        file.set("general.architecture", Meta::Text("granitemoe".into()));
        for (key, n) in [
            ("block_count", LAYERS),
            ("embedding_length", HIDDEN),
            ("attention.head_count", HEADS),
            ("attention.head_count_kv", KV_HEADS),
            ("feed_forward_length", INNER),
            ("expert_count", EXPERTS),
            ("expert_used_count", PER_TOKEN),
            ("context_length", WINDOW),
        ] {
            file.set(&format!("granitemoe.{key}"), Meta::U32(n as u32));
        }
        for (key, x) in [
            ("attention.layer_norm_rms_epsilon", 1e-6),
            ("rope.freq_base", 10_000.0),
            ("embedding_scale", 12.0),
            ("residual_scale", 0.22),
            ("attention.scale", 0.0625),
            ("logit_scale", 6.0),
        ] {
            file.set(&format!("granitemoe.{key}"), Meta::F32(x));
        }
        file.set("tokenizer.ggml.model", Meta::Text("gpt2".into()));
        file.set("tokenizer.ggml.pre", Meta::Text("refact".into()));
        file.set("tokenizer.ggml.tokens", Meta::Texts(vocabulary()));
        let kinds = (0..VOCABULARY).map(|i| if i < SPECIAL.len() { 3 } else { 1 }).collect();
        file.set("tokenizer.ggml.token_type", Meta::I32s(kinds));
        file.set("tokenizer.ggml.merges", Meta::Texts(vec!["h i".into()]));
        file.set("tokenizer.ggml.eos_token_id", Meta::U32(0));
        file.set("tokenizer.ggml.bos_token_id", Meta::U32(0));
        file.set("tokenizer.ggml.add_bos_token", Meta::Bool(false));
        // `h i` makes a token of its own.
        if let Some((_, Meta::Texts(tokens))) = file.meta.iter_mut().find(|(k, _)| k == "tokenizer.ggml.tokens") {
            tokens.pop();
            tokens.push("hi".into());
        }
        file.tensor("token_embd.weight", &[HIDDEN, VOCABULARY]);
        file.tensor("output_norm.weight", &[HIDDEN]);
        for l in 0..LAYERS {
            let mut add = |name: &str, dims: &[usize]| file.tensor(&format!("blk.{l}.{name}.weight"), dims);
            add("attn_norm", &[HIDDEN]);
            add("attn_q", &[HIDDEN, HEADS * HEAD]);
            add("attn_k", &[HIDDEN, KV_HEADS * HEAD]);
            add("attn_v", &[HIDDEN, KV_HEADS * HEAD]);
            add("attn_output", &[HEADS * HEAD, HIDDEN]);
            add("ffn_norm", &[HIDDEN]);
            add("ffn_gate_inp", &[HIDDEN, EXPERTS]);
            add("ffn_gate_exps", &[HIDDEN, INNER, EXPERTS]);
            add("ffn_up_exps", &[HIDDEN, INNER, EXPERTS]);
            add("ffn_down_exps", &[INNER, HIDDEN, EXPERTS]);
        }
        file
    }

    fn set(&mut self, key: &str, value: Meta) {
        match self.meta.iter_mut().find(|(k, _)| k == key) {
            Some((_, old)) => *old = value,
            None => self.meta.push((key.into(), value)),
        }
    }

    fn tensor(&mut self, name: &str, dims: &[usize]) {
        let values = weights(dims.iter().product(), self.tensors.len() as u64);
        let data = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        let dims = dims.iter().map(|d| *d as u64).collect();
        self.tensors.push(Tensor32 { name: name.into(), dims, kind: F32, data, offset: None });
    }

    fn find(&mut self, name: &str) -> &mut Tensor32 {
        self.tensors.iter_mut().find(|t| t.name == name).unwrap()
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = self.magic.to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend(self.num_tensors.unwrap_or(self.tensors.len() as u64).to_le_bytes());
        out.extend(self.num_meta.unwrap_or(self.meta.len() as u64).to_le_bytes());
        for (key, value) in &self.meta {
            put_text(&mut out, key);
            put_meta(&mut out, value);
        }
        let mut at = 0u64;
        for t in &self.tensors {
            put_text(&mut out, &t.name);
            out.extend((t.dims.len() as u32).to_le_bytes());
            t.dims.iter().for_each(|d| out.extend(d.to_le_bytes()));
            out.extend(t.kind.to_le_bytes());
            out.extend(t.offset.unwrap_or(at).to_le_bytes());
            at = (at + t.data.len() as u64).next_multiple_of(self.alignment);
        }
        for t in &self.tensors {
            out.resize(out.len().next_multiple_of(self.alignment as usize), 0);
            out.extend(&t.data);
        }
        out
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn put_meta(out: &mut Vec<u8>, value: &Meta) {
    let mut put = |kind: u32, bytes: &[u8]| {
        out.extend(kind.to_le_bytes());
        out.extend(bytes);
    };
    match value {
        Meta::U32(n) => put(4, &n.to_le_bytes()),
        Meta::U64(n) => put(10, &n.to_le_bytes()),
        Meta::F32(x) => put(6, &x.to_le_bytes()),
        Meta::Bool(b) => put(7, &[u8::from(*b)]),
        Meta::Text(text) => {
            put(8, &[]);
            put_text(out, text);
        }
        Meta::Texts(texts) => {
            put(9, &[&8u32.to_le_bytes()[..], &(texts.len() as u64).to_le_bytes()].concat());
            texts.iter().for_each(|text| put_text(out, text));
        }
        Meta::I32s(all) => {
            put(9, &[&5u32.to_le_bytes()[..], &(all.len() as u64).to_le_bytes()].concat());
            all.iter().for_each(|n| out.extend(n.to_le_bytes()));
        }
        Meta::Raw(kind, bytes) => put(*kind, bytes),
    }
}

fn write(bench: &Bench, bytes: &[u8]) -> PathBuf {
    let path = bench.path("model.gguf");
    fs::write(&path, bytes).unwrap();
    path
}

/// An array's element type and count, without its elements.
fn array_of(kind: u32, count: u64) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &count.to_le_bytes()].concat()
}

fn key(suffix: &str) -> String {
    format!("granitemoe.{suffix}")
}

#[test]
fn a_sound_model_of_any_writer_is_inspected_computed_and_answers() {
    let bench = Bench::new();
    let path = write(&bench, &File::small().bytes());
    let mut inspect = quarry(&bench.path("cache"));
    let inspected = run(inspect.args(["model", "inspect", "--json"]).arg(&path)).exits(0).json();
    assert_eq!((&inspected["architecture"], &inspected["experts"]), (&Json::from("granitemoe"), &Json::from(4)));
    for stage in [Stage::Header, Stage::Weights, Stage::Text] {
        run(&mut bench.command(stage, &path)).exits(0);
    }
    let ours = logits(&bench);
    assert!(ours.iter().all(|x| x.is_finite()) && ours.iter().any(|x| *x != ours[0]));

    // The same weights as candle writes them.
    let path = bench.path("candle.gguf");
    candle_writes(&File::small(), &path, GgmlDType::F32);
    run(&mut bench.command(Stage::Weights, &path)).exits(0);
    assert_eq!(logits(&bench), ours);
    run(&mut bench.command(Stage::Text, &path)).exits(0);
    candle_writes(&File::small(), &path, GgmlDType::Q8_0);
    run(&mut bench.command(Stage::Weights, &path)).exits(0);
    let quantized = logits(&bench);
    let (error, norm) = ours.iter().zip(&quantized).fold((0.0, 0.0), |(e, n), (a, b)| (e + (a - b).powi(2), n + a * a));
    assert!((error / norm).sqrt() < 0.05, "relative error {}", (error / norm).sqrt());
}

fn logits(bench: &Bench) -> Vec<f32> {
    let bytes = fs::read(bench.path("logits.npy")).unwrap();
    let header = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    assert!(String::from_utf8_lossy(&bytes[..header]).contains("'shape': (6, 259)"));
    bytes[header..].chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

fn candle_writes(file: &File, path: &std::path::Path, kind: GgmlDType) {
    let meta: Vec<(&str, gguf_file::Value)> = file.meta.iter().map(|(k, v)| (k.as_str(), candle_value(v))).collect();
    let meta: Vec<(&str, &gguf_file::Value)> = meta.iter().map(|(k, v)| (*k, v)).collect();
    let tensors: Vec<(&str, QTensor)> = file
        .tensors
        .iter()
        .map(|t| {
            let values: Vec<f32> = t.data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
            let shape: Vec<usize> = t.dims.iter().rev().map(|d| *d as usize).collect();
            let kind = if shape.len() > 1 { kind } else { GgmlDType::F32 };
            let tensor = Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
            (t.name.as_str(), QTensor::quantize(&tensor, kind).unwrap())
        })
        .collect();
    let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(n, t)| (*n, t)).collect();
    gguf_file::write(&mut fs::File::create(path).unwrap(), &meta, &tensors).unwrap();
}

fn candle_value(value: &Meta) -> gguf_file::Value {
    use gguf_file::Value;
    match value {
        Meta::U32(n) => Value::U32(*n),
        Meta::U64(n) => Value::U64(*n),
        Meta::F32(x) => Value::F32(*x),
        Meta::Bool(b) => Value::Bool(*b),
        Meta::Text(text) => Value::String(text.clone()),
        Meta::Texts(texts) => Value::Array(texts.iter().map(|t| Value::String(t.clone())).collect()),
        Meta::I32s(all) => Value::Array(all.iter().map(|n| Value::I32(*n)).collect()),
        Meta::Raw(..) => panic!("not of a sound file"),
    }
}

#[test]
fn a_file_cut_off_anywhere_is_refused() {
    let bench = Bench::new();
    let whole = File::small().bytes();
    let in_header = [0, 1, 3, 4, 7, 8, 15, 16, 23, 24, 31, 40, 60, 100, 500, 1000, 2000, 3000, 4000];
    let in_data = (1..12).map(|i| whole.len() * i / 12).chain([whole.len() - 4096, whole.len() - 33, whole.len() - 1]);
    for cut in in_header.into_iter().chain(in_data) {
        let path = write(&bench, &whole[..cut]);
        let fact = if cut == 0 { "empty" } else { "" };
        bench.refused(&format!("cut at {cut} of {}", whole.len()), &path, "model.gguf", Stage::Header, fact);
    }
}

#[test]
fn a_flipped_bit_is_read_or_refused_and_nothing_else() {
    let bench = Bench::new();
    let whole = File::small().bytes();
    for i in 0..60 {
        // Most of them in the header, some in the weights.
        let bit = if i < 50 { i * 677 % 36_000 } else { 40_000 + i * 9973 } % (whole.len() * 8);
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let path = write(&bench, &bytes);
        for stage in [Stage::Weights, Stage::Text] {
            let ran = run(&mut bench.command(stage, &path));
            assert_whole(&format!("bit {bit}"), &ran);
            assert!(matches!(ran.code, Some(0 | 2 | 8)), "bit {bit}: {ran}");
        }
    }
}

#[test]
fn hostile_headers_are_refused_with_file_and_fact() {
    let bench = Bench::new();
    let check = |what: &str, stage: Stage, fact: &str, change: &dyn Fn(&mut File)| {
        let mut file = File::small();
        change(&mut file);
        let path = write(&bench, &file.bytes());
        bench.refused(what, &path, "model.gguf", stage, fact);
    };
    use Stage::{Header, Text, Weights};

    check("another magic", Header, "GGUF", &|f| f.magic = *b"GGML");
    check("version 1", Header, "version 1", &|f| f.version = 1);
    check("version 4", Header, "version 4", &|f| f.version = 4);
    check("big-endian", Header, "version", &|f| f.version = 3u32.swap_bytes());
    for n in [1 << 32, 1 << 63, u64::MAX, 1_000_000] {
        check(&format!("{n} tensors"), Header, "tensors", &|f| f.num_tensors = Some(n));
        check(&format!("{n} entries"), Header, "metadata entries", &|f| f.num_meta = Some(n));
    }
    check("more tensors than there are", Header, "", &|f| f.num_tensors = Some(60));
    check("no tensors", Header, "token_embd.weight", &|f| f.tensors.clear());
    for n in [1u64 << 32, 1 << 63, u64::MAX] {
        let text = |n: u64| Meta::Raw(8, n.to_le_bytes().to_vec());
        check(&format!("a text of {n} bytes"), Header, "longer", &|f| f.set("x", text(n)));
        for kind in [0, 4, 8, 12] {
            let array = move || Meta::Raw(9, array_of(kind, n));
            check(&format!("{n} elements of type {kind}"), Header, "no room", &|f| f.set("x", array()));
        }
    }
    check("an unknown type", Header, "unknown type 99", &|f| f.set("x", Meta::Raw(99, vec![0; 8])));
    check("an array of an unknown type", Header, "unknown type 99", &|f| {
        f.set("x", Meta::Raw(9, [array_of(99, 1), vec![0; 64]].concat()))
    });
    for depth in [6usize, 100_000] {
        let nested = (0..depth).flat_map(|_| array_of(9, 1)).collect::<Vec<_>>();
        check(&format!("arrays {depth} deep"), Header, "deeper", &|f| f.set("x", Meta::Raw(9, nested.clone())));
    }
    check("a key twice", Header, "twice", &|f| f.meta.push(("general.architecture".into(), Meta::Bool(true))));
    for alignment in [0, 3, 1 << 63, 1 << 31, 48] {
        check(&format!("alignment {alignment}"), Header, "alignment", &|f| {
            f.set("general.alignment", Meta::U64(alignment))
        });
    }
    check("alignment in words", Header, "alignment", &|f| f.set("general.alignment", Meta::Text("32".into())));
    check("alignment -1", Header, "alignment", &|f| {
        f.set("general.alignment", Meta::Raw(11, (-1i64).to_le_bytes().to_vec()))
    });

    let q = "blk.0.attn_q.weight";
    for (dims, fact) in [
        (vec![], "0 dimensions"),
        (vec![2; 5], "5 dimensions"),
        (vec![0, 32], "shape"),
        (vec![u64::MAX, 2], "shape"),
        (vec![1 << 32, 1 << 32], "shape"),
        (vec![1 << 63, 1, 1, 2], "shape"),
        (vec![1 << 40, 4], ""),
    ] {
        check(&format!("dimensions {dims:?}"), Header, fact, &|f| f.find(q).dims = dims.clone());
    }
    check("rows that are no whole blocks", Header, "shape", &|f| {
        f.find(q).kind = Q8_0;
        f.find(q).dims = vec![33, 2];
    });
    for kind in [4, 9, 16, 24, 99, u32::MAX] {
        check(&format!("weights of type {kind}"), Header, "unsupported type", &|f| f.find(q).kind = kind);
    }
    check("an offset off the alignment", Header, "alignment", &|f| f.find(q).offset = Some(31));
    for offset in [1 << 40, 1 << 62, u64::MAX - 31] {
        check(&format!("offset {offset}"), Header, "cut off", &|f| f.find(q).offset = Some(offset));
    }
    check("one tensor on another", Header, "overlaps", &|f| f.find(q).offset = Some(32));
    check("a tensor twice", Header, "twice", &|f| f.find("blk.1.attn_q.weight").name = q.into());
    check("a name of 70,000 bytes", Header, "longer", &|f| f.find(q).name = "x".repeat(70_000));

    check("no architecture", Header, "general.architecture", &|f| f.meta.retain(|(k, _)| k != "general.architecture"));
    for name in ["qwen2", "", "granitemoe\u{1b}[31m", &"x".repeat(5000)] {
        let fact = if name.len() < 20 { "not supported" } else { "" };
        check("an unknown architecture", Header, fact, &|f| f.set("general.architecture", Meta::Text(name.into())));
    }
    for suffix in [
        "block_count",
        "embedding_length",
        "attention.head_count",
        "feed_forward_length",
        "expert_count",
        "context_length",
    ] {
        check(&format!("no {suffix}"), Header, suffix, &|f| f.meta.retain(|(k, _)| *k != key(suffix)));
        check(&format!("{suffix} in words"), Header, suffix, &|f| f.set(&key(suffix), Meta::Text("many".into())));
        check(&format!("{suffix} 0"), Header, "", &|f| f.set(&key(suffix), Meta::U32(0)));
        check(&format!("{suffix} 2^63"), Header, "", &|f| f.set(&key(suffix), Meta::U64(1 << 63)));
        check(&format!("{suffix} -1"), Header, suffix, &|f| {
            f.set(&key(suffix), Meta::Raw(5, (-1i32).to_le_bytes().to_vec()))
        });
    }
    check("key/value heads that do not divide", Header, "key/value heads", &|f| {
        f.set(&key("attention.head_count_kv"), Meta::U32(3))
    });
    check("more experts at once than there are", Header, "experts per token", &|f| {
        f.set(&key("expert_used_count"), Meta::U32(5))
    });
    check("an epsilon of no number", Header, "epsilon", &|f| {
        f.set(&key("attention.layer_norm_rms_epsilon"), Meta::F32(f32::NAN))
    });
    check("a logits scale of 0", Header, "logits scale", &|f| f.set(&key("logit_scale"), Meta::F32(0.0)));
    check("rope scaling", Header, "rope scaling", &|f| f.set(&key("rope.scaling.type"), Meta::Text("yarn".into())));
    check("rope over a part of a head", Header, "rope", &|f| f.set(&key("rope.dimension_count"), Meta::U32(8)));
    check("no embedding", Header, "token_embd.weight", &|f| f.tensors.retain(|t| t.name != "token_embd.weight"));

    check("a layer more than there are", Weights, "blk.2.", &|f| f.set(&key("block_count"), Meta::U32(3)));
    check("a tensor missing", Weights, q, &|f| f.tensors.retain(|t| t.name != q));
    check("a tensor of another shape", Weights, q, &|f| f.find(q).dims = vec![16, 64]);
    check("experts of another number", Weights, "ffn_gate_inp", &|f| f.set(&key("expert_count"), Meta::U32(3)));
    check("another hidden size", Weights, "token_embd.weight", &|f| f.set(&key("embedding_length"), Meta::U32(64)));
    check("a quantized norm", Weights, "output_norm.weight", &|f| {
        f.find("output_norm.weight").kind = Q8_0;
        f.find("output_norm.weight").data.truncate(34);
    });

    let tokens = "tokenizer.ggml.tokens";
    check("no tokenizer", Text, "there is no tokenizer", &|f| f.meta.retain(|(k, _)| !k.starts_with("tokenizer.")));
    check("no tokens", Text, tokens, &|f| f.meta.retain(|(k, _)| k != tokens));
    check("an empty vocabulary", Text, "", &|f| f.set(tokens, Meta::Texts(Vec::new())));
    check("tokens that are numbers", Text, tokens, &|f| f.set(tokens, Meta::I32s(vec![1; 259])));
    check("a tokenizer of another kind", Text, "llama", &|f| f.set("tokenizer.ggml.model", Meta::Text("llama".into())));
    check("another way to split", Text, "mystery", &|f| f.set("tokenizer.ggml.pre", Meta::Text("mystery".into())));
    check("types for other tokens", Text, "types", &|f| f.set("tokenizer.ggml.token_type", Meta::I32s(vec![1; 7])));
    check("a merge of nothing", Text, "merge", &|f| f.set("tokenizer.ggml.merges", Meta::Texts(vec!["hi".into()])));
    check("an end that is no token", Text, "", &|f| f.set("tokenizer.ggml.eos_token_id", Meta::U32(1 << 30)));
    check("more tokens than rows", Text, "its weights 259", &|f| {
        let Some((_, Meta::Texts(own))) = f.meta.iter().find(|(k, _)| k == tokens) else { panic!("no tokens") };
        let more = [own.clone(), (0..50).map(|i| format!("more{i}")).collect()].concat();
        f.set("tokenizer.ggml.token_type", Meta::I32s(vec![1; more.len()]));
        f.set(tokens, Meta::Texts(more));
    });
    for template in ["{% if %}", &"{% if x %}".repeat(50_000)] {
        check("a template that is none", Text, "", &|f| f.set("tokenizer.chat_template", Meta::Text(template.into())));
    }
    let num_cases = bench.num_cases.into_inner();
    assert!(num_cases >= 90, "{num_cases} cases");
}

#[test]
fn a_template_that_never_ends_is_ended() {
    let bench = Bench::new();
    for template in [
        "{% for i in range(1000000000) %}x{% endfor %}",
        "{{ 'x' * 100000000000 }}",
        "{{ [0] * 1073741824 }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    ] {
        let mut file = File::small();
        file.set("tokenizer.chat_template", Meta::Text(template.into()));
        let ran = run(&mut bench.command(Stage::Text, &write(&bench, &file.bytes())));
        assert_whole(template, &ran);
        assert!(matches!(ran.code, Some(2 | 8)) && ran.errors().len() == 1, "{template}: {ran}");
    }
}

#[test]
fn a_million_tensors_are_refused_before_they_are_read() {
    let bench = Bench::new();
    let mut file = File::small();
    file.tensors = (0..1_000_000u64)
        .map(|i| Tensor32 { name: format!("t{i}"), dims: vec![1], kind: F32, data: Vec::new(), offset: Some(0) })
        .collect();
    bench.refused("a million tensors", &write(&bench, &file.bytes()), "model.gguf", Stage::Header, "1000000 tensors");
}

#[test]
fn memory_for_keys_and_values_that_is_not_there_is_said() {
    let bench = Bench::new();
    let mut file = File::small();
    // A megabyte for each of thousands of positions, from a file of a few.
    for (key_, n) in [
        ("attention.head_count", 64),
        ("attention.head_count_kv", 64),
        ("attention.key_length", 1024),
        ("context_length", 1 << 20),
    ] {
        file.set(&key(key_), Meta::U32(n));
    }
    for l in 0..small::LAYERS {
        for (name, dims) in [
            ("attn_q", [32, 65_536]),
            ("attn_k", [32, 65_536]),
            ("attn_v", [32, 65_536]),
            ("attn_output", [65_536, 32]),
        ] {
            let tensor = file.find(&format!("blk.{l}.{name}.weight"));
            tensor.kind = Q8_0;
            tensor.dims = dims.to_vec();
            tensor.data = vec![0; 65_536 * 34];
        }
    }
    let path = write(&bench, &file.bytes());
    run(&mut bench.command(Stage::Header, &path)).exits(0);
    for stage in [Stage::Weights, Stage::Text] {
        let ran = run(&mut bench.command(stage, &path));
        assert_whole("too much memory", &ran);
        assert!(ran.code == Some(9) && ran.errors().len() == 1, "{ran}");
        assert!(ran.errors()[0].contains("model.gguf") && ran.errors()[0].contains("window"), "{ran}");
    }
}
