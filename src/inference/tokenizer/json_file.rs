//! `tokenizer.json` and the small files beside it. Knows their format; they may be hostile.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use tokenizers::{AddedToken, NormalizerWrapper, PreTokenizerWrapper};

use super::Tokenizer;
use super::assemble::{AddedPart, Parts, Roles, assemble};
use super::fault::{TokenizerError, TokenizerFault, brief, within};
use crate::ids::TokenId;

/// The largest byte-level tokenizer in use (Llama 3) is 17 MB.
const FILE_BYTES_MAX: usize = 32 << 20;
const SIDE_FILE_BYTES_MAX: usize = 4 << 20;
/// Commas, which bound the values of the file: a JSON value costs 32 bytes and more once it is read.
const VALUES_MAX: usize = 3_000_000;
const PATTERN_BYTES_MAX: usize = 4 << 10;
const PATTERN_DEPTH_MAX: usize = 50;

impl Tokenizer {
    /// Reads `tokenizer.json`, and beside it `tokenizer_config.json` and `chat_template.jinja` where they exist:
    /// those name the special tokens' roles and hold the chat template.
    ///
    /// Only byte-level BPE is taken; anything else is refused by name. A token that the configuration gives a role
    /// must exist.
    pub fn from_json_file(path: &Path) -> Result<Self, TokenizerError> {
        let TextFiles { file, roles, chat_template } = read_folder(path)?;
        parts(file, roles, chat_template).and_then(assemble).map_err(|fault| fault.in_file(path))
    }
}

/// `tokenizer.json` and what the files beside it say.
pub(super) struct TextFiles {
    pub file: TokenizerFile,
    pub roles: Roles,
    pub chat_template: Option<String>,
}

pub(super) fn read_folder(path: &Path) -> Result<TextFiles, TokenizerError> {
    let parsed = parse(&read(path, FILE_BYTES_MAX).map_err(|fault| fault.in_file(path))?);
    let file = parsed.map_err(|fault| fault.in_file(path))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let config_path = folder.join("tokenizer_config.json");
    let config = side_file(&config_path)?.map_or(Ok(Value::Null), |text| {
        serde_json::from_str(&text).map_err(|e| TokenizerFault::NotJson(e.to_string()).in_file(&config_path))
    })?;
    let template = side_file(&folder.join("chat_template.jinja"))?;
    let roles = roles(&file, &config).map_err(|fault| fault.in_file(&config_path))?;
    let chat_template = template.or_else(|| template_in(&config));
    Ok(TextFiles { file, roles, chat_template })
}

#[derive(Deserialize)]
pub(super) struct TokenizerFile {
    #[serde(default)]
    pub added_tokens: Vec<AddedEntry>,
    #[serde(default)]
    pub normalizer: Value,
    #[serde(default)]
    pub pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    #[serde(default)]
    decoder: Value,
    pub model: ModelEntry,
}

#[derive(Deserialize)]
pub(super) struct AddedEntry {
    pub id: TokenId,
    pub content: String,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    #[serde(default)]
    normalized: bool,
    #[serde(default)]
    pub special: bool,
}

#[derive(Deserialize)]
pub(super) struct ModelEntry {
    #[serde(rename = "type", default)]
    kind: Option<String>,
    dropout: Option<f32>,
    unk_token: Option<String>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default)]
    pub ignore_merges: bool,
    #[serde(default)]
    pub vocab: VocabEntry,
    #[serde(default)]
    pub merges: Vec<MergeEntry>,
}

/// A Unigram model's vocabulary is a list: read so far that the model can be refused by its name.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum VocabEntry {
    Ids(HashMap<String, TokenId>),
    Other(serde::de::IgnoredAny),
}

impl Default for VocabEntry {
    fn default() -> Self {
        Self::Ids(HashMap::new())
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum MergeEntry {
    Pair(String, String),
    Joined(String),
}

fn read(path: &Path, limit: usize) -> Result<String, TokenizerFault> {
    let unreadable = |e: std::io::Error| TokenizerFault::Unreadable(e.to_string());
    let file = File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(limit as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    within("bytes of the file", bytes.len(), limit)?;
    String::from_utf8(bytes).map_err(|e| TokenizerFault::NotJson(e.to_string()))
}

/// Returns the text of a file that need not exist.
fn side_file(path: &Path) -> Result<Option<String>, TokenizerError> {
    if !path.exists() {
        return Ok(None);
    }
    read(path, SIDE_FILE_BYTES_MAX).map(Some).map_err(|fault| fault.in_file(path))
}

fn parse(text: &str) -> Result<TokenizerFile, TokenizerFault> {
    within("values of the file", text.bytes().filter(|byte| *byte == b',').count(), VALUES_MAX)?;
    serde_json::from_str(text).map_err(|e| TokenizerFault::NotJson(brief(&e.to_string())))
}

fn parts(file: TokenizerFile, roles: Roles, chat_template: Option<String>) -> Result<Parts, TokenizerFault> {
    let unsupported = |what: String| Err(TokenizerFault::Unsupported(what));
    let model = file.model;
    match model.kind.as_deref() {
        None | Some("BPE") => {}
        Some(other) => return Err(TokenizerFault::UnknownModel(brief(other))),
    }
    if model.byte_fallback || !holds(&file.decoder, "ByteLevel") {
        return unsupported("a vocabulary that is not byte-level".into());
    }
    if model.dropout.is_some_and(|p| p != 0.0) {
        return unsupported("merge dropout".into());
    }
    for (name, part) in [("prefix", &model.continuing_subword_prefix), ("suffix", &model.end_of_word_suffix)] {
        if part.as_deref().is_some_and(|text| !text.is_empty()) {
            return unsupported(format!("a subword {name}"));
        }
    }
    check_kinds(&file.pre_tokenizer, "pre-tokenizer", &["Sequence", "ByteLevel", "Digits", "Split"])?;
    check_kinds(&file.normalizer, "normalizer", &["Sequence", "NFC", "NFD", "NFKC", "NFKD"])?;
    if !holds(&file.pre_tokenizer, "ByteLevel") {
        return unsupported("no byte-level pre-tokenizer".into());
    }
    Ok(Parts {
        vocab: vocabulary(model.vocab)?,
        merges: model.merges.into_iter().enumerate().map(pair).collect::<Result<_, _>>()?,
        added: file.added_tokens.into_iter().map(added).collect(),
        unused: Vec::new(),
        cuts_at_blanks: file.normalizer.is_null() && is_gpt2_split(&file.pre_tokenizer),
        normalizer: component::<Option<NormalizerWrapper>>("normalizer", file.normalizer)?,
        pre_tokenizer: component::<PreTokenizerWrapper>("pre-tokenizer", file.pre_tokenizer)?,
        ignore_merges: model.ignore_merges,
        bpe_unk: model.unk_token,
        roles,
        chat_template,
    })
}

fn component<T: serde::de::DeserializeOwned>(name: &str, value: Value) -> Result<T, TokenizerFault> {
    serde_json::from_value(value).map_err(|e| TokenizerFault::Broken(format!("{name}: {}", brief(&e.to_string()))))
}

/// Returns the vocabulary in the order of its ids, so that errors do not depend on a hash.
pub(super) fn vocabulary(entry: VocabEntry) -> Result<Vec<(String, TokenId)>, TokenizerFault> {
    let VocabEntry::Ids(vocab) = entry else {
        return Err(TokenizerFault::Unsupported("a vocabulary without ids".into()));
    };
    let mut vocab: Vec<_> = vocab.into_iter().collect();
    vocab.sort_unstable_by(|a, b| a.1.cmp(&b.1).then_with(|| a.0.cmp(&b.0)));
    match vocab.windows(2).find(|pair| pair[0].1 == pair[1].1) {
        Some(twins) => {
            let (first, second) = (brief(&twins[0].0), brief(&twins[1].0));
            Err(TokenizerFault::DuplicateId { id: twins[0].1, first, second })
        }
        None => Ok(vocab),
    }
}

pub(super) fn pair((index, entry): (usize, MergeEntry)) -> Result<(String, String), TokenizerFault> {
    match entry {
        MergeEntry::Pair(left, right) => Ok((left, right)),
        MergeEntry::Joined(text) => match text.split_once(' ') {
            Some((left, right)) if !right.contains(' ') => Ok((left.to_owned(), right.to_owned())),
            _ => Err(TokenizerFault::BadMerge { index, merge: brief(&text), fact: "is not two texts and one space" }),
        },
    }
}

fn added(entry: AddedEntry) -> AddedPart {
    let token = AddedToken::from(entry.content, entry.special)
        .single_word(entry.single_word)
        .lstrip(entry.lstrip)
        .rstrip(entry.rstrip)
        .normalized(entry.normalized);
    AddedPart { id: entry.id, token }
}

/// Every component inside `value`, itself included.
pub(super) fn components(value: &Value) -> Vec<&Value> {
    let inner = ["pretokenizers", "normalizers", "decoders", "processors"];
    let parts = inner.iter().filter_map(|key| value.get(key)).filter_map(Value::as_array).flatten();
    // serde_json reads at most 128 levels, which bounds this recursion.
    std::iter::once(value).chain(parts.flat_map(components)).collect()
}

pub(super) fn kind(component: &Value) -> &str {
    component.get("type").and_then(Value::as_str).unwrap_or("")
}

fn holds(value: &Value, name: &str) -> bool {
    components(value).into_iter().any(|component| kind(component) == name)
}

fn check_kinds(value: &Value, what: &str, known: &[&str]) -> Result<(), TokenizerFault> {
    for component in components(value).into_iter().filter(|component| !component.is_null()) {
        if !known.contains(&kind(component)) {
            return Err(TokenizerFault::Unsupported(format!("the {what} \"{}\"", brief(kind(component)))));
        }
        if let Some(pattern) = component.pointer("/pattern/Regex").and_then(Value::as_str) {
            within("bytes of the pre-tokenizer's pattern", pattern.len(), PATTERN_BYTES_MAX)?;
            // The regex parser recurses, so depth is bounded before it starts.
            let depth = pattern.bytes().filter(|byte| matches!(byte, b'(' | b'[')).count();
            within("groups in the pre-tokenizer's pattern", depth, PATTERN_DEPTH_MAX)?;
        }
    }
    Ok(())
}

pub(super) fn is_gpt2_split(pre_tokenizer: &Value) -> bool {
    components(pre_tokenizer).into_iter().all(|component| match kind(component) {
        "Sequence" => true,
        "Digits" => true,
        "ByteLevel" => {
            component.get("add_prefix_space") == Some(&Value::Bool(false))
                && component.get("use_regex").is_none_or(|use_regex| use_regex == &Value::Bool(true))
        }
        _ => false,
    })
}

fn roles(file: &TokenizerFile, config: &Value) -> Result<Roles, TokenizerFault> {
    let id_of = |text: &str| {
        let added = file.added_tokens.iter().find(|entry| entry.content == text).map(|entry| entry.id);
        added.or_else(|| match &file.model.vocab {
            VocabEntry::Ids(vocab) => vocab.get(text).copied(),
            VocabEntry::Other(_) => None,
        })
    };
    let role = |key: &str, name: &'static str| {
        let entry = &config[key];
        match entry.as_str().or_else(|| entry["content"].as_str()) {
            None => Ok(None),
            Some(text) => {
                id_of(text).map(Some).ok_or_else(|| TokenizerFault::NotInVocabulary { name, text: brief(text) })
            }
        }
    };
    let processors = components(&file.post_processor);
    let start = processors.iter().find_map(|part| part.pointer("/single/0/SpecialToken/id").and_then(Value::as_str));
    let bos = role("bos_token", "beginning-of-text")?;
    Ok(Roles {
        bos: bos.or_else(|| start.and_then(id_of)),
        eos: role("eos_token", "end-of-text")?,
        unk: role("unk_token", "unknown")?,
        pad: role("pad_token", "padding")?,
        add_bos: config["add_bos_token"].as_bool().unwrap_or(start.is_some()),
    })
}

/// The template itself, or the one named `default` of several.
fn template_in(config: &Value) -> Option<String> {
    let entry = config.get("chat_template")?;
    let named = || entry.as_array()?.iter().find(|named| named["name"] == "default")?["template"].as_str();
    entry.as_str().or_else(named).map(str::to_owned)
}

#[cfg(test)]
#[path = "json_file_tests.rs"]
pub(in crate::inference) mod tests;
