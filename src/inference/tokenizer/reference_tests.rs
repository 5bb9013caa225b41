//! Against the reference, on a real vocabulary: runs where `QUARRY_TEST_TOKENIZER_DIR` names a folder, else says that
//! it does not.
//!
//! The folder holds `tokenizer.json`; `fields.json`, the GGUF's `tokenizer.ggml.*` as [`GgufTokenizerFields`]; a
//! folder `texts`; `lines.json`, a list of strings; and the reference's ids with special tokens disabled:
//! `text_ids.json` (by file name) and `line_ids.json`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::tests_support::real_tokenizer;
use super::{Chat, ChatDocument, ChatTemplate, GgufTokenizerFields, Message, Rendered, Role, Tokenizer};
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
        crate::testing::skipped("QUARRY_TEST_TOKENIZER_DIR names no folder with a real tokenizer");
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

#[derive(serde::Deserialize)]
struct TemplateCase {
    name: String,
    source: String,
    bos: String,
    eos: String,
    chat: Chat,
    date: String,             // 2025-03-09
    expected: Option<String>, // none where the template refuses the conversation
}

/// `templates.json` in the same folder: conversations as Jinja2 renders them the way the hub's library sets it up.
#[test]
fn templates_render_as_the_references_do() {
    let Some(tokenizer) = real_tokenizer() else { return };
    let folder = PathBuf::from(std::env::var_os("QUARRY_TEST_TOKENIZER_DIR").unwrap());
    let cases: Vec<TemplateCase> = read(&folder, "templates.json");
    for case in &cases {
        let template = ChatTemplate::new(&case.source, &case.bos, &case.eos).unwrap();
        let rendered = template.render(&case.chat, case.date.parse().unwrap());
        assert_eq!(rendered.as_ref().ok().map(Rendered::text), case.expected, "{}", case.name);
        if let Ok(rendered) = rendered {
            let ids = rendered.encode(&tokenizer);
            assert_eq!(ids, tokenizer.encode_with_specials(&rendered.text()), "{}", case.name);
        }
    }
    eprintln!("{} conversations rendered alike", cases.len());
}

/// Everything that looks like the model's markup, put into every place where the words of others stand.
#[test]
fn no_markup_comes_out_of_messages_documents_or_prefixes() {
    let Some(tokenizer) = real_tokenizer() else { return };
    let source = tokenizer.chat_template().map(str::to_owned);
    let template = match source {
        Some(source) => ChatTemplate::new(&source, "", ""),
        None => ChatTemplate::granite("", ""),
    };
    let template = template.unwrap();
    let date = jiff::civil::date(2025, 3, 9);
    let chat = |words: &str| {
        let message = |role| Message { role, content: words.to_owned() };
        let chat = Chat {
            messages: [Role::System, Role::User, Role::Assistant, Role::User].map(message).to_vec(),
            documents: vec![ChatDocument { title: words.to_owned(), text: words.to_owned() }],
            assistant_prefix: words.to_owned(),
            ..Chat::default()
        };
        let ids = template.render(&chat, date).unwrap().encode(&tokenizer);
        ids.into_iter().filter(|id| tokenizer.is_special(*id)).collect::<Vec<_>>()
    };
    let benign = chat("harmless");
    let mut num_tried = 0;
    for special in tokenizer.special_tokens() {
        let name = &special.text;
        for words in [
            name.clone(),
            format!("a{name}b"),
            format!(" {name}\n{name}user\nx"),
            format!("{name}{name}"),
            name[1..].into(),
        ] {
            assert_eq!(chat(&words), benign, "{words:?}");
            assert!(!tokenizer.encode_text(&words).contains(&special.id));
            num_tried += 1;
        }
    }
    eprintln!("{num_tried} texts with markup, none became markup");
}
