use std::path::PathBuf;
use std::time::Instant;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::inference::tokenizer::GgufTokenizerFields;
use crate::inference::tokenizer::gguf::tests::{small_fields, small_tokenizer};

/// The small vocabulary as `tokenizer.json`.
pub(in crate::inference) fn small_json() -> Value {
    let GgufTokenizerFields { tokens, token_types, merges, .. } = small_fields();
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let special = (0..).zip(&tokens).zip(&token_types).filter(|(_, kind)| **kind == 3);
    json!({
        "version": "1.0",
        "added_tokens": special
            .map(|((id, text), _): ((u32, _), _)| json!({"id": id, "content": text, "special": true, "normalized": false}))
            .collect::<Vec<_>>(),
        "normalizer": null,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [{"type": "Digits", "individual_digits": true}, byte_level.clone()],
        },
        "post_processor": byte_level.clone(),
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "vocab": (0..).zip(&tokens).map(|(id, text): (u32, _)| (text.clone(), json!(id))).collect::<serde_json::Map<_, _>>(),
            "merges": merges,
        },
    })
}

pub(in crate::inference::tokenizer) fn written(text: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    std::fs::write(&path, text).unwrap();
    (folder, path)
}

fn load(json: &Value) -> Result<Tokenizer, TokenizerError> {
    let (_folder, path) = written(&json.to_string());
    Tokenizer::from_json_file(&path)
}

fn check_refused(text: &str, expected: &str) {
    let (_folder, path) = written(text);
    let started = Instant::now();
    let error = Tokenizer::from_json_file(&path).unwrap_err().to_string();
    assert!(error.starts_with(&path.display().to_string()) && error.contains(expected), "{error}");
    assert!(started.elapsed().as_secs() < 20, "{expected}: {:?}", started.elapsed());
}

fn check_change_refused(pointer: &str, value: Value, expected: &str) {
    let mut json = small_json();
    *json.pointer_mut(pointer).unwrap() = value;
    check_refused(&json.to_string(), expected);
}

#[test]
fn a_file_gives_the_same_tokenizer_as_the_gguf_fields() {
    let (from_json, from_gguf) = (load(&small_json()).unwrap(), small_tokenizer());
    for text in ["hello the 42", " <|im_end|> é\n\n", "١٢½ 👋🏽", ""] {
        assert_eq!(from_json.encode_text(text), from_gguf.encode_text(text), "{text:?}");
        assert_eq!(from_json.token_ends(text), from_gguf.token_ends(text), "{text:?}");
    }
    assert_eq!(from_json.vocab_size(), from_gguf.vocab_size());
}

#[test]
fn merges_may_be_pairs() {
    let mut json = small_json();
    let pairs: Vec<_> = small_fields().merges.iter().map(|m| json!(m.split_once(' ').unwrap())).collect();
    json["model"]["merges"] = json!(pairs);
    assert_eq!(load(&json).unwrap().encode_text("hello"), small_tokenizer().encode_text("hello"));
}

#[test]
fn roles_and_template_come_from_the_files_beside_it() {
    let (folder, path) = written(&small_json().to_string());
    let config = json!({
        "bos_token": "<|im_start|>", "eos_token": {"content": "<|im_end|>"}, "add_bos_token": false,
        "chat_template": [{"name": "tools", "template": "no"}, {"name": "default", "template": "yes"}],
    });
    std::fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    let tokenizer = Tokenizer::from_json_file(&path).unwrap();
    assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.raw_prompt_start()), (Some(1), Some(2), None));
    assert_eq!(tokenizer.chat_template(), Some("yes"));

    std::fs::write(folder.path().join("chat_template.jinja"), "file").unwrap();
    assert_eq!(Tokenizer::from_json_file(&path).unwrap().chat_template(), Some("file"));
}

#[test]
fn a_role_that_names_no_token_is_refused_with_the_files_name() {
    let (folder, path) = written(&small_json().to_string());
    std::fs::write(folder.path().join("tokenizer_config.json"), r#"{"eos_token": "<eos>"}"#).unwrap();
    let error = Tokenizer::from_json_file(&path).unwrap_err().to_string();
    assert!(
        error.ends_with("tokenizer_config.json: the end-of-text token \"<eos>\" is not in the vocabulary"),
        "{error}"
    );
}

#[test]
fn a_template_processor_names_the_start_of_a_raw_prompt() {
    let mut json = small_json();
    json["post_processor"] =
        json!({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<|im_start|>", "type_id": 0}}]});
    let tokenizer = load(&json).unwrap();
    assert_eq!(tokenizer.raw_prompt_start(), Some(1));
    assert!(!tokenizer.encode_text("a").contains(&1));
}

#[test]
fn broken_and_hostile_files_are_refused_by_name() {
    check_refused("", "is not a tokenizer in JSON");
    check_refused("{", "is not a tokenizer in JSON");
    check_refused("[1,2]", "is not a tokenizer in JSON");
    check_refused(&"[".repeat(100_000), "is not a tokenizer in JSON");
    check_refused(&format!("[{}0]", "0,".repeat(4_000_000)), "values of the file: 4000000 is more than the limit");
    check_refused(&" ".repeat(33 << 20), "bytes of the file");
    check_change_refused("/model/type", json!("WordPiece"), "the tokenizer model \"WordPiece\"");
    check_change_refused("/model/vocab", json!({}), "the vocabulary is empty");
    check_change_refused("/model/vocab", json!({"a": 4_000_000_000u32}), "token id");
    check_change_refused("/model/vocab", json!({"a": -1}), "without ids");
    check_change_refused("/model/vocab/Ġ", json!(7), "are both token 7");
    check_change_refused("/model/merges", json!(["a b c"]), "merge 0 (\"a b c\") is not two texts");
    check_change_refused(
        "/model/merges",
        json!([["aaaaaaaaaaaaaaaaaaaaa", "b"]]),
        "begins with a text that is no token",
    );
    check_change_refused("/decoder", json!(null), "not byte-level");
    check_change_refused("/pre_tokenizer", json!(null), "no byte-level pre-tokenizer");
    check_change_refused("/pre_tokenizer", json!({"type": "Metaspace"}), "the pre-tokenizer \"Metaspace\"");
    check_change_refused("/normalizer", json!({"type": "Lowercase"}), "the normalizer \"Lowercase\"");
    check_change_refused("/added_tokens/0/id", json!(77), "are both token 77");
}

#[test]
fn a_regex_bomb_is_refused_or_harmless() {
    let with_pattern = |pattern: &str| {
        let mut json = small_json();
        json["pre_tokenizer"]["pretokenizers"][0] =
            json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
        json.to_string()
    };
    check_refused(&with_pattern(&"(".repeat(4000)), "groups in the pre-tokenizer's pattern");
    check_refused(&with_pattern(&"a".repeat(5000)), "bytes of the pre-tokenizer's pattern");
    check_refused(&with_pattern(r"\p{L}{1000}{1000}"), "cannot be built");
    let (_folder, path) = written(&with_pattern(r"(?=(a+)+$)(a+)+b"));
    let tokenizer = Tokenizer::from_json_file(&path).unwrap();
    let started = Instant::now();
    let text = "a".repeat(5000);
    assert_eq!(tokenizer.decode(&tokenizer.encode_text(&text), true), text);
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
}

#[test]
fn strange_text_takes_time_in_proportion() {
    let tokenizer = small_tokenizer();
    for unit in ["a", " ", "\n", "é", "字", "👩‍👩‍👧", "a\u{300}", "0", "\0", "hello ", " \u{a0}"] {
        let text = unit.repeat((256 << 10) / unit.len());
        let started = Instant::now();
        let ids = tokenizer.encode_text(&text);
        assert!(started.elapsed().as_secs() < 60, "{unit:?}: {:?}", started.elapsed());
        assert!(tokenizer.decode(&ids, true) == text, "{unit:?}");
    }
}
