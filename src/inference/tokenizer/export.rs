//! What a GGUF file says of a tokenizer that came as `tokenizer.json`, for whoever writes one. The other way round is
//! `gguf`, and both must give the same ids.

use std::path::Path;

use serde_json::Value;

use super::assemble::TOKENS_MAX;
use super::fault::{TokenizerError, TokenizerFault, brief, within};
use super::gguf::{CONTROL, GgufTokenizerFields, NORMAL, UNUSED, USER_DEFINED};
use super::json_file::{self, TextFiles, TokenizerFile};

/// A tokenizer as a GGUF file can hold it, or why it cannot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exported {
    Fields(Box<GgufTokenizerFields>),
    /// The format has no word for something in it. Goes on after "the tokenizer".
    Impossible(String),
}

impl GgufTokenizerFields {
    /// Reads `tokenizer.json` and the files beside it, as [`super::Tokenizer::from_json_file`] does.
    ///
    /// Ids that stand for nothing are named `[PAD7]` and marked unused, as llama.cpp's converter does.
    pub fn export(path: &Path) -> Result<Exported, TokenizerError> {
        let TextFiles { file, roles, chat_template } = json_file::read_folder(path)?;
        if let Some(why) = impossible(&file) {
            return Ok(Exported::Impossible(why));
        }
        let vocab = json_file::vocabulary(file.model.vocab).map_err(|fault| fault.in_file(path))?;
        let (tokens, token_types) = by_id(&vocab, &file.added_tokens).map_err(|fault| fault.in_file(path))?;
        let merges = file.model.merges.into_iter().enumerate().map(json_file::pair);
        let merges = merges.collect::<Result<Vec<_>, _>>().map_err(|fault| fault.in_file(path))?;
        if merges.iter().any(|(left, right)| left.contains(' ') || right.contains(' ')) {
            return Ok(Exported::Impossible("has a merge with a space".into()));
        }
        Ok(Exported::Fields(Box::new(GgufTokenizerFields {
            model: "gpt2".into(),
            pre: split_name(&file.pre_tokenizer).unwrap_or_default().into(),
            tokens,
            token_types,
            merges: merges.into_iter().map(|(left, right)| format!("{left} {right}")).collect(),
            bos: roles.bos,
            eos: roles.eos,
            unk: roles.unk,
            pad: roles.pad,
            add_bos: roles.add_bos,
            chat_template,
        })))
    }
}

impl GgufTokenizerFields {
    /// Adds unused tokens up to `len`: embeddings are often rounded up.
    pub fn pad_to(&mut self, len: usize) {
        self.tokens.extend((self.tokens.len()..len).map(unused_name));
        self.token_types.resize(self.tokens.len(), UNUSED);
    }
}

fn unused_name(id: usize) -> String {
    format!("[PAD{id}]")
}

/// Tokens and their types, a place for every id up to the largest.
fn by_id(vocab: &[(String, u32)], added: &[json_file::AddedEntry]) -> Result<(Vec<String>, Vec<i32>), TokenizerFault> {
    let ids = vocab.iter().map(|(_, id)| *id).chain(added.iter().map(|entry| entry.id));
    let len = ids.max().map_or(0, |last| last as usize + 1);
    within("token id", len, TOKENS_MAX)?;
    let mut tokens: Vec<String> = (0..len).map(unused_name).collect();
    let mut types = vec![UNUSED; len];
    for (text, id) in vocab {
        (tokens[*id as usize], types[*id as usize]) = (text.clone(), NORMAL);
    }
    for entry in added {
        let kind = if entry.special { CONTROL } else { USER_DEFINED };
        (tokens[entry.id as usize], types[entry.id as usize]) = (entry.content.clone(), kind);
    }
    Ok((tokens, types))
}

fn impossible(file: &TokenizerFile) -> Option<String> {
    if !file.normalizer.is_null() {
        return Some("normalizes text".into());
    }
    if file.model.ignore_merges {
        return Some("takes whole words before merges".into());
    }
    split_name(&file.pre_tokenizer).is_none().then(|| {
        let kind = file.pre_tokenizer.get("type").and_then(Value::as_str).unwrap_or("none");
        format!("splits text in a way that has no name there ({})", brief(kind))
    })
}

/// The `pre` that means this split: every digit alone and GPT-2's split, or only the latter.
fn split_name(pre_tokenizer: &Value) -> Option<&'static str> {
    if !json_file::is_gpt2_split(pre_tokenizer) {
        return None;
    }
    let parts = json_file::components(pre_tokenizer);
    let digits: Vec<_> = parts.iter().filter(|part| json_file::kind(part) == "Digits").collect();
    match digits[..] {
        [] => Some("gpt-2"),
        // `refact` and `smollm` are two names of one split; the digits must come first, as there.
        [one] if one.get("individual_digits") == Some(&Value::Bool(true)) => {
            let order: Vec<_> = parts.iter().map(|p| json_file::kind(p)).filter(|kind| *kind != "Sequence").collect();
            (order == ["Digits", "ByteLevel"]).then_some("refact")
        }
        _ => None,
    }
}

#[cfg(test)]
#[path = "export_tests.rs"]
mod tests;
