use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering};

use safetensors::tensor::Dtype;
use serde_json::json;

use super::*;
use crate::inference::engine::{
    Backend, CancelToken, Chat, Constraint, Engine, EngineOptions, GenerateRequest, Generator, Message, Origin, Role,
    card_digest, load_engine,
};
use crate::inference::model::SmallFolder;
use crate::inference::sampler::SamplingParams;
use crate::inference::tokenizer::tests_support::small_json;

/// A small model with a tokenizer, and the place where its quantized form is kept.
fn model() -> (SmallFolder, PathBuf) {
    let folder = SmallFolder::new("granitemoe", 64, Dtype::BF16);
    std::fs::write(folder.path.join("tokenizer.json"), small_json().to_string()).unwrap();
    let config = json!({
        "bos_token": "<|im_start|>", "eos_token": "<|im_end|>",
        "chat_template": "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}",
    });
    std::fs::write(folder.path.join("tokenizer_config.json"), config.to_string()).unwrap();
    let kept = folder.path.join("kept/q.gguf");
    (folder, kept)
}

/// Keeps it and returns what was told, but for the progress.
fn keep(source: &Path, digest: &str, kept: &Path) -> Result<Vec<String>, LoadError> {
    keep_as(Quantization::Q8_0, source, digest, kept)
}

fn keep_as(quantization: Quantization, source: &Path, digest: &str, kept: &Path) -> Result<Vec<String>, LoadError> {
    let told = RefCell::new(Vec::new());
    let to_keep = ToKeep { name: "a/small", source, digest, quantization, kept, cancel: &CancelToken::default() };
    keep_quantized(&to_keep, &|event| match event {
        Quantizing::Progress { .. } => {}
        Quantizing::Done { .. } => told.borrow_mut().push("Done".into()),
        event => told.borrow_mut().push(format!("{event:?}")),
    })?;
    Ok(told.into_inner())
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn engine(path: &Path, quantized: Option<&Path>) -> Engine {
    let quantized = quantized.map(|kept| (Quantization::Q8_0, kept));
    let origin = Origin { name: "small", digest: "d1", path, quantized };
    let options = EngineOptions { threads: 1, window: Some(256), ..EngineOptions::default() };
    load_engine(&origin, jiff::civil::date(2025, 1, 1), &options, &|_, _| ()).unwrap()
}

fn answer(engine: &Engine) -> (Vec<u32>, Vec<u32>) {
    let message = Message { role: Role::User, content: "hello the 42 <|im_end|>".into() };
    let prompt = engine.encode_chat(&Chat { messages: vec![message], ..Chat::default() }).unwrap();
    let ids = prompt.ids.clone();
    let request = GenerateRequest {
        prompt,
        max_tokens: 8,
        sampling: SamplingParams::default(),
        stop: Vec::new(),
        constraint: Constraint::None,
        cancel: CancelToken::default(),
    };
    (ids, engine.generate(vec![request]).remove(0).unwrap().ids)
}

#[test]
fn it_is_made_once_and_again_when_the_source_is_another() {
    let (folder, kept) = model();
    assert_eq!(keep(&folder.path, "d1", &kept).unwrap(), ["Started", "Done"]);
    assert_eq!(keep(&folder.path, "d1", &kept).unwrap(), [""; 0]);
    let again = keep(&folder.path, "d2", &kept).unwrap();
    assert_eq!(again, ["Replacing { fact: \"it was made from other files\" }", "Started", "Done"]);
    assert_eq!(keep(&folder.path, "d2", &kept).unwrap(), [""; 0]);
}

#[test]
fn a_damaged_file_and_what_a_killed_process_left_are_replaced() {
    let (folder, kept) = model();
    keep(&folder.path, "d1", &kept).unwrap();
    let whole = fs::read(&kept).unwrap();
    fs::write(beside(&kept, "partial"), b"half").unwrap();
    for damage in [&whole[..whole.len() - 100], b"".as_slice(), b"GGUF".as_slice(), b"something else".as_slice()] {
        fs::write(&kept, damage).unwrap();
        let told = keep(&folder.path, "d1", &kept).unwrap();
        assert!(told[0].starts_with("Replacing") && told.ends_with(&["Done".into()]), "{told:?}");
        assert!(fs::read(&kept).unwrap() == whole);
    }
    assert_eq!(names(kept.parent().unwrap()), [".q.gguf.lock", "q.gguf"]);
}

#[test]
fn many_at_once_make_it_once() {
    let (folder, kept) = model();
    let started = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let (source, kept) = (folder.path.as_path(), kept.as_path());
                let cancel = &CancelToken::default();
                let to_keep =
                    ToKeep { name: "small", source, digest: "d", quantization: Quantization::Q8_0, kept, cancel };
                let tell = |event: &Quantizing<'_>| {
                    started.fetch_add(usize::from(*event == Quantizing::Started), Ordering::SeqCst);
                };
                keep_quantized(&to_keep, &tell).unwrap();
                assert_eq!(state(&to_keep), State::Current);
            });
        }
    });
    assert_eq!(started.load(Ordering::SeqCst), 1);
}

#[test]
fn the_file_is_a_whole_model_by_itself() {
    let (folder, kept) = model();
    keep(&folder.path, "d1", &kept).unwrap();
    let (with_folder, alone) = (answer(&engine(&folder.path, Some(&kept))), answer(&engine(&kept, None)));
    assert_eq!(with_folder, alone);
    assert_eq!(with_folder.0, answer(&engine(&folder.path, None)).0, "the prompt of the floats");
    let gguf = ModelSource::open(&kept).unwrap();
    let tokens = gguf.gguf().unwrap().get("tokenizer.ggml.tokens").unwrap().as_array().unwrap().len();
    assert_eq!(tokens, gguf.config().vocabulary, "a token for every row");
    assert_eq!(gguf.gguf().unwrap().text("general.name"), Some("small"));
}

#[test]
fn a_tokenizer_that_the_format_has_no_word_for_is_told_and_stays_in_use() {
    let (folder, kept) = model();
    let path = folder.path.join("tokenizer.json");
    let mut tokenizer = small_json();
    tokenizer["normalizer"] = json!({"type": "NFC"});
    fs::write(&path, tokenizer.to_string()).unwrap();
    let told = keep(&folder.path, "d1", &kept).unwrap();
    assert_eq!(told, ["Started", "WithoutTokenizer { why: \"normalizes text\" }", "Done"]);
    answer(&engine(&folder.path, Some(&kept)));
    fs::remove_file(&path).unwrap();
    assert_eq!(keep(&folder.path, "d2", &kept).unwrap()[1..], ["Started", "Done"], "there is nothing to leave out");
}

#[test]
fn rows_that_do_not_fit_the_blocks_are_told() {
    let (folder, kept) = model();
    let told = keep_as(Quantization::Q4K, &folder.path, "d1", &kept).unwrap();
    // Of two layers q, k, v, o, gate, up and down, and the embedding; the rows of down are 64.
    assert_eq!(told, ["Started", "OtherFormat { tensors: 2, of: 15 }", "Done"]);
}

#[test]
fn a_place_that_cannot_be_written_is_named() {
    let (folder, _) = model();
    let blocked = folder.path.join("config.json/q.gguf");
    let error = keep(&folder.path, "d1", &blocked).unwrap_err();
    assert!(matches!(&error, LoadError::NotKept { path, .. } if *path == blocked), "{error}");
    assert!(error.to_string().contains("config.json/q.gguf cannot be kept: "), "{error}");
}

#[test]
fn answers_of_other_weights_have_another_digest() {
    let digest = |quantized| card_digest("d", quantized, None, Backend::Kernels);
    let all = [None, Some(Quantization::Q8_0), Some(Quantization::Q4K)].map(digest);
    assert!(all[0] != all[1] && all[1] != all[2] && all[0] != all[2]);
    let (folder, kept) = model();
    keep(&folder.path, "d1", &kept).unwrap();
    let card = engine(&folder.path, Some(&kept)).card().clone();
    assert_eq!(card.digest, card_digest("d1", Some(Quantization::Q8_0), None, Backend::Kernels));
}

#[test]
fn a_cancelled_load_keeps_nothing_and_the_next_one_begins_anew() {
    let (folder, kept) = model();
    let cancel = CancelToken::default();
    cancel.cancel();
    let (source, quantization) = (folder.path.as_path(), Quantization::Q8_0);
    let to_keep = ToKeep { name: "a/small", source, digest: "d1", quantization, kept: &kept, cancel: &cancel };
    assert!(matches!(keep_quantized(&to_keep, &|_| ()), Err(LoadError::Stopped)));
    assert_eq!(names(kept.parent().unwrap()), [".q.gguf.lock"]);
    keep(&folder.path, "d1", &kept).unwrap();
    assert!(kept.exists());
}
