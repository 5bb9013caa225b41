//! Against the reference, on a real vocabulary: runs where `QUARRY_TEST_TOKENIZER_DIR` names a folder, else says that
//! it does not.
//!
//! The folder holds `tokenizer.json`; `fields.json`, the GGUF's `tokenizer.ggml.*` as [`GgufTokenizerFields`]; a
//! folder `texts`; `lines.json`, a list of strings; and the reference's ids with special tokens disabled:
//! `text_ids.json` (by file name) and `line_ids.json`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::{GgufTokenizerFields, Tokenizer};
use crate::ids::TokenId;

fn read<T: DeserializeOwned>(folder: &Path, name: &str) -> T {
    serde_json::from_slice(&std::fs::read(folder.join(name)).unwrap()).unwrap()
}

fn check_text(tokenizer: &Tokenizer, text: &str, expected: &[TokenId]) -> bool {
    let ids = tokenizer.encode_text(text);
    let ends = tokenizer.token_ends(text);
    assert_eq!(ends.len(), ids.len());
    assert!(ends.is_sorted() && ends.iter().all(|end| text.is_char_boundary(*end)));
    if tokenizer.num_lost_bytes(text) == 0 {
        assert_eq!(tokenizer.decode(&ids, false), text);
    }
    ids == expected
}

#[test]
fn both_sources_of_the_starters_tokenizer_equal_the_reference() {
    let Some(folder) = std::env::var_os("QUARRY_TEST_TOKENIZER_DIR").map(PathBuf::from) else {
        eprintln!("SKIPPED: QUARRY_TEST_TOKENIZER_DIR names no folder with a real tokenizer");
        return;
    };
    let from_gguf = Tokenizer::from_gguf(&read::<GgufTokenizerFields>(&folder, "fields.json")).unwrap();
    let from_json = Tokenizer::from_json_file(&folder.join("tokenizer.json")).unwrap();
    let text_ids: BTreeMap<String, Vec<TokenId>> = read(&folder, "text_ids.json");
    let lines: Vec<String> = read(&folder, "lines.json");
    let line_ids: Vec<Vec<TokenId>> = read(&folder, "line_ids.json");
    assert_eq!(from_gguf.vocab_size(), from_json.vocab_size());

    let (mut num_texts, mut differences) = (0, Vec::new());
    for (source, tokenizer) in [("gguf", &from_gguf), ("json", &from_json)] {
        let files = text_ids
            .iter()
            .map(|(name, ids)| (name.clone(), std::fs::read_to_string(folder.join("texts").join(name)).unwrap(), ids));
        let lines =
            lines.iter().zip(&line_ids).enumerate().map(|(n, (line, ids))| (format!("line {n}"), line.clone(), ids));
        for (name, text, expected) in files.chain(lines) {
            num_texts += 1;
            if !check_text(tokenizer, &text, expected) {
                differences.push(format!("{source}: {name}"));
            }
        }
    }
    eprintln!("{num_texts} texts, {} differences", differences.len());
    assert!(differences.is_empty(), "{differences:?}");
}
