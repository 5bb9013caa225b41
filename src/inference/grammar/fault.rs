//! Why a constraint cannot be used, as facts.

use crate::ids::TokenId;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrammarError {
    #[error("there is no constraint to compile")]
    NoConstraint,
    #[error("{what}: {found} is more than the limit of {limit}")]
    OverLimit { what: &'static str, found: usize, limit: usize },
    #[error("the schema refers to \"{0}\": only references inside the schema (#/…) are followed")]
    RemoteRef(String),
    /// Keywords that cannot be enforced while decoding, each once, in alphabetical order; a format as `format: NAME`.
    #[error("cannot be enforced while decoding: {}", .0.join(", "))]
    Unsupported(Vec<String>),
    #[error("{0}")]
    Invalid(String),
    #[error("compiling did not end: {0}")]
    Endless(String),
    #[error("the vocabulary cannot serve grammars: {0}")]
    Vocabulary(String),
    #[error("token {token} is not allowed here")]
    NotAllowed { token: TokenId },
    #[error("the grammar's matcher gave up: {0}")]
    Matcher(String),
    #[error("the answer does not fit: {0}")]
    DoesNotFit(String),
}

/// Returns the fact of an llguidance error: its first line, without state dumps and traces.
pub(super) fn fact(error: impl std::fmt::Display) -> String {
    const LONGEST: usize = 300; // characters
    let text = error.to_string();
    let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or("no reason given");
    line.chars().take(LONGEST).collect()
}
