//! What can be wrong with a vocabulary, as facts. Knows no advice.

use std::path::{Path, PathBuf};

use crate::ids::TokenId;

/// A tokenizer file that cannot be used: which file, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {fault}", path.display())]
pub struct TokenizerError {
    pub path: PathBuf,
    pub fault: TokenizerFault,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenizerFault {
    #[error("cannot be read: {0}")]
    Unreadable(String),
    #[error("{what}: {found} is more than the limit of {limit}")]
    OverLimit { what: &'static str, found: usize, limit: usize },
    #[error("is not a tokenizer in JSON: {0}")]
    NotJson(String),
    #[error("the tokenizer model \"{0}\" is not supported; \"gpt2\" (byte-level BPE) is")]
    UnknownModel(String),
    #[error("the pre-tokenizer \"{0}\" is not known, and guessing it would give wrong tokens")]
    UnknownPreTokenizer(String),
    #[error("the tokenizer has {0}, which is not supported")]
    Unsupported(String),
    #[error("the vocabulary is empty")]
    NoTokens,
    #[error("there are {tokens} tokens but {types} token types")]
    TypesMismatch { tokens: usize, types: usize },
    #[error("tokens {first} and {second} are both \"{text}\"")]
    DuplicateToken { first: TokenId, second: TokenId, text: String },
    #[error("\"{first}\" and \"{second}\" are both token {id}")]
    DuplicateId { id: TokenId, first: String, second: String },
    #[error("merge {index} (\"{merge}\") {fact}")]
    BadMerge { index: usize, merge: String, fact: &'static str },
    #[error("the {name} token is {id}, but the vocabulary ends at {last}")]
    IdOutOfRange { name: &'static str, id: TokenId, last: TokenId },
    #[error("the {name} token \"{text}\" is not in the vocabulary")]
    NotInVocabulary { name: &'static str, text: String },
    #[error("the added token \"{text}\" says it is {stated}, but by the vocabulary it is {found}")]
    AddedTokenId { text: String, stated: TokenId, found: TokenId },
    #[error("the tokenizer cannot be built: {0}")]
    Broken(String),
}

impl TokenizerFault {
    /// Names the file in which the fault was found.
    pub fn in_file(self, path: &Path) -> TokenizerError {
        TokenizerError { path: path.to_path_buf(), fault: self }
    }
}

/// Returns the fault if `found` is over the limit.
pub(super) fn within(what: &'static str, found: usize, limit: usize) -> Result<(), TokenizerFault> {
    if found > limit { Err(TokenizerFault::OverLimit { what, found, limit }) } else { Ok(()) }
}

/// Returns `text` short enough for one line of an error.
pub(super) fn brief(text: &str) -> String {
    const LONGEST: usize = 160; // characters
    let escaped: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if text.chars().nth(LONGEST).is_some() { escaped + "…" } else { escaped }
}
