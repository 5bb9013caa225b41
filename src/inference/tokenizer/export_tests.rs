use serde_json::json;

use super::*;
use crate::inference::tokenizer::Tokenizer;
use crate::inference::tokenizer::gguf::tests::small_fields;
use crate::inference::tokenizer::json_file::tests::{small_json, written};

const TEXT: &str = "hello the 42 <|im_end|> é 👋🏽\n\n  the";

fn export(json: &Value) -> Exported {
    let (_folder, path) = written(&json.to_string());
    GgufTokenizerFields::export(&path).unwrap()
}

fn check_impossible(pointer: &str, value: Value, why: &str) {
    let mut json = small_json();
    *json.pointer_mut(pointer).unwrap() = value;
    assert_eq!(export(&json), Exported::Impossible(why.into()));
}

#[test]
fn what_is_exported_is_the_same_tokenizer() {
    let (folder, path) = written(&small_json().to_string());
    let config = json!({
        "bos_token": "<|im_start|>", "eos_token": {"content": "<|im_end|>"}, "unk_token": "<|endoftext|>",
        "pad_token": "<|im_end|>", "add_bos_token": false, "chat_template": "{{ messages[0].content }}",
    });
    std::fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    let Exported::Fields(fields) = GgufTokenizerFields::export(&path).unwrap() else { panic!("not exported") };
    let template = Some("{{ messages[0].content }}".to_owned());
    assert_eq!(*fields, GgufTokenizerFields { pre: "refact".into(), chat_template: template, ..small_fields() });

    let (from_json, from_gguf) = (Tokenizer::from_json_file(&path).unwrap(), Tokenizer::from_gguf(&fields).unwrap());
    assert_eq!(from_gguf.encode_text(TEXT), from_json.encode_text(TEXT));
    assert_eq!(from_gguf.encode_with_specials(TEXT), from_json.encode_with_specials(TEXT));
    assert_eq!(from_gguf.end_ids(), from_json.end_ids());
}

#[test]
fn an_id_without_a_text_is_unused() {
    let mut json = small_json();
    let len = small_fields().tokens.len();
    let token = json!({"id": len + 1, "content": "<|late|>", "special": true});
    json["added_tokens"].as_array_mut().unwrap().push(token);
    // The vocabulary must hold it, as transformers writes it where ids leave gaps.
    json["model"]["vocab"]["<|late|>"] = json!(len + 1);
    let Exported::Fields(fields) = export(&json) else { panic!("not exported") };
    assert_eq!(fields.tokens[len..], [format!("[PAD{len}]"), "<|late|>".into()]);
    assert_eq!(fields.token_types[len..], [UNUSED, CONTROL]);
    let tokenizer = Tokenizer::from_gguf(&fields).unwrap();
    assert!(!tokenizer.is_text(len as u32) && tokenizer.is_special(len as u32 + 1));
}

#[test]
fn what_the_format_has_no_word_for_is_said() {
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
    let regex = json!({"type": "Split", "pattern": {"Regex": "\\p{N}{1,3}"}, "behavior": "Isolated", "invert": false});
    check_impossible(
        "/pre_tokenizer",
        json!({"type": "Sequence", "pretokenizers": [regex, byte_level]}),
        "splits text in a way that has no name there (Sequence)",
    );
    check_impossible("/normalizer", json!({"type": "NFC"}), "normalizes text");
    let in_threes = json!({"type": "Digits", "individual_digits": false});
    check_impossible(
        "/pre_tokenizer/pretokenizers/0",
        in_threes,
        "splits text in a way that has no name there (Sequence)",
    );
}
