//! Checks the parts of a vocabulary and builds the tokenizer from them: the one way in, whatever the source.
//!
//! Everything here comes from a file. The tokenizers crate indexes out of bounds on a merge that is longer than
//! every token, so merges are checked before it sees them.

use std::collections::HashMap;

use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::{AddedToken, NormalizerWrapper, PreTokenizerWrapper};

use super::byte_alphabet::{byte_of, bytes_of};
use super::fault::{TokenizerFault, brief, within};
use super::vocabulary::{SpecialToken, TokenTable, Tokenizer};
use crate::ids::TokenId;

pub(super) const TOKENS_MAX: usize = 1_000_000;
pub(super) const MERGES_MAX: usize = 2_000_000;
const ADDED_MAX: usize = 20_000;
const TOKEN_BYTES_MAX: usize = 16 << 10;

/// What every source is brought to.
pub(super) struct Parts {
    pub vocab: Vec<(String, TokenId)>, // the BPE model's own; ids may leave gaps
    pub merges: Vec<(String, String)>, // in order of rank
    pub added: Vec<AddedPart>,
    pub unused: Vec<TokenId>, // ids that stand for no text
    pub normalizer: Option<NormalizerWrapper>,
    pub pre_tokenizer: PreTokenizerWrapper,
    /// The pre-tokenizer is GPT-2's split, with or without digits alone, and nothing is normalized.
    pub cuts_at_blanks: bool,
    pub ignore_merges: bool,
    pub bpe_unk: Option<String>,
    pub roles: Roles,
    pub chat_template: Option<String>,
}

/// A token matched in text before BPE.
#[derive(Clone)]
pub(super) struct AddedPart {
    pub id: TokenId,
    pub token: AddedToken,
}

/// Which tokens play which part; all are checked to exist.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Roles {
    pub bos: Option<TokenId>,
    pub eos: Option<TokenId>,
    pub unk: Option<TokenId>,
    pub pad: Option<TokenId>,
    pub add_bos: bool,
}

pub(super) fn assemble(mut parts: Parts) -> Result<Tokenizer, TokenizerFault> {
    within("tokens", parts.vocab.len(), TOKENS_MAX)?;
    within("merges", parts.merges.len(), MERGES_MAX)?;
    within("added tokens", parts.added.len(), ADDED_MAX)?;
    for part in &mut parts.added {
        // Some converters forget the flag; a document must not be able to write such a token either.
        part.token.special |= part.token.content.starts_with("<|") && part.token.content.ends_with("|>");
    }
    let ids = index_vocab(&parts.vocab)?;
    check_merges(&parts.merges, &ids)?;
    let table = token_table(&parts)?;
    check_roles(&parts, &ids, table.len())?;

    let hf = build(&mut parts)?;
    Ok(Tokenizer::new(hf, table, special_tokens(&parts.added), parts.roles, parts.chat_template, parts.cuts_at_blanks))
}

fn index_vocab(vocab: &[(String, TokenId)]) -> Result<HashMap<&str, TokenId>, TokenizerFault> {
    if vocab.is_empty() {
        return Err(TokenizerFault::NoTokens);
    }
    let mut ids = HashMap::with_capacity(vocab.len());
    for (text, id) in vocab {
        within("bytes of one token", text.len(), TOKEN_BYTES_MAX)?;
        within("token id", *id as usize, TOKENS_MAX)?;
        if let Some(first) = ids.insert(text.as_str(), *id) {
            return Err(TokenizerFault::DuplicateToken { first, second: *id, text: brief(text) });
        }
    }
    Ok(ids)
}

fn check_merges(merges: &[(String, String)], ids: &HashMap<&str, TokenId>) -> Result<(), TokenizerFault> {
    let mut joined = String::new();
    for (index, (left, right)) in merges.iter().enumerate() {
        joined.clear();
        joined.push_str(left);
        joined.push_str(right);
        let fact = if !ids.contains_key(left.as_str()) {
            "begins with a text that is no token"
        } else if !ids.contains_key(right.as_str()) {
            "ends with a text that is no token"
        } else if !ids.contains_key(joined.as_str()) {
            "makes a text that is no token"
        } else {
            continue;
        };
        return Err(TokenizerFault::BadMerge { index, merge: brief(&format!("{left} {right}")), fact });
    }
    Ok(())
}

/// Lays out the bytes of every id, and finds two texts that claim the same one.
fn token_table(parts: &Parts) -> Result<TokenTable, TokenizerFault> {
    let added = parts.added.iter().map(|part| (part.token.content.as_str(), part.id));
    let texts = || parts.vocab.iter().map(|(text, id)| (text.as_str(), *id)).chain(added.clone());
    let last = texts().map(|(_, id)| id as usize).max().unwrap_or(0);
    within("token id", last, TOKENS_MAX)?;
    let mut by_id: Vec<Option<&str>> = vec![None; last + 1];
    for (text, id) in texts() {
        match by_id[id as usize] {
            Some(first) if first != text => {
                return Err(TokenizerFault::DuplicateId { id, first: brief(first), second: brief(text) });
            }
            _ => by_id[id as usize] = Some(text),
        }
    }
    let mut table = TokenTable::default();
    for text in &by_id {
        table.push(&text.map(bytes_of).unwrap_or_default(), text.is_some());
    }
    for (text, id) in &parts.vocab {
        let mut characters = text.chars();
        if let (Some(byte), None) = (characters.next().and_then(byte_of), characters.next()) {
            table.set_byte_token(byte, *id);
        }
    }
    for part in parts.added.iter().filter(|part| part.token.special) {
        table.set_special(part.id);
    }
    for id in &parts.unused {
        table.set_unused(*id);
    }
    Ok(table)
}

fn check_roles(parts: &Parts, ids: &HashMap<&str, TokenId>, len: usize) -> Result<(), TokenizerFault> {
    let Roles { bos, eos, unk, pad, .. } = parts.roles;
    for (name, id) in [("beginning-of-text", bos), ("end-of-text", eos), ("unknown", unk), ("padding", pad)] {
        if let Some(id) = id.filter(|id| *id as usize >= len) {
            return Err(TokenizerFault::IdOutOfRange { name, id, last: (len - 1) as TokenId });
        }
    }
    match &parts.bpe_unk {
        Some(text) if !ids.contains_key(text.as_str()) => {
            Err(TokenizerFault::NotInVocabulary { name: "unknown", text: brief(text) })
        }
        _ => Ok(()),
    }
}

fn build(parts: &mut Parts) -> Result<tokenizers::Tokenizer, TokenizerFault> {
    let broken = |e: tokenizers::Error| TokenizerFault::Broken(brief(&e.to_string()));
    let vocab: Vocab = std::mem::take(&mut parts.vocab).into_iter().collect();
    let mut bpe =
        BPE::builder().vocab_and_merges(vocab, std::mem::take(&mut parts.merges)).ignore_merges(parts.ignore_merges);
    if let Some(unk) = parts.bpe_unk.take() {
        bpe = bpe.unk_token(unk);
    }
    let mut hf = tokenizers::Tokenizer::new(bpe.build().map_err(broken)?);
    hf.with_normalizer(parts.normalizer.take()).map_err(broken)?;
    hf.with_pre_tokenizer(Some(parts.pre_tokenizer.clone()));
    // No post-processor: nothing is ever added to text, and offsets stay those of the text.
    hf.add_tokens(parts.added.iter().map(|part| part.token.clone())).map_err(broken)?;
    for part in &parts.added {
        let text = &part.token.content;
        match hf.token_to_id(text) {
            Some(found) if found == part.id => {}
            Some(found) => {
                return Err(TokenizerFault::AddedTokenId { text: brief(text), stated: part.id, found });
            }
            None => return Err(TokenizerFault::NotInVocabulary { name: "added", text: brief(text) }),
        }
    }
    // Special tokens are found by us, and only in a template's own words; here they are never looked for.
    hf.set_encode_special_tokens(true);
    Ok(hf)
}

fn special_tokens(added: &[AddedPart]) -> Vec<SpecialToken> {
    let mut special: Vec<SpecialToken> = added
        .iter()
        .filter(|part| part.token.special && !part.token.content.is_empty())
        .map(|part| SpecialToken {
            id: part.id,
            text: part.token.content.clone(),
            strips_left: part.token.lstrip,
            strips_right: part.token.rstrip,
        })
        .collect();
    // The longest match wins, as in the reference.
    special.sort_by(|a, b| b.text.len().cmp(&a.text.len()).then(a.id.cmp(&b.id)));
    special
}
