//! Where one answer stands in its grammar.

use llguidance::TokenParser;

use super::fault::fact;
use super::{GrammarError, TokenMask};
use crate::ids::TokenId;

/// Follows one answer token by token. Cloning gives an independent matcher at the same place: keep one compiled and
/// clone it for each answer.
///
/// In a loop: while not [`Self::is_stopped`], append [`Self::forced_tokens`] without asking the model, else sample one
/// token from [`Self::allowed`]; [`Self::consume`] what was appended.
pub struct Matcher {
    inner: llguidance::Matcher,
    width: usize,
}

impl Clone for Matcher {
    /// Shares nothing: a limit that one answer reaches in a shared lexer would depend on its neighbours in the batch.
    fn clone(&self) -> Self {
        Self { inner: self.inner.deep_clone(), width: self.width }
    }
}

impl Matcher {
    pub(super) fn new(parser: TokenParser, width: usize) -> Self {
        Self { inner: llguidance::Matcher::new(Ok(parser)), width }
    }

    /// Returns the tokens that may come next. The end tokens are among them where the answer may end, and alone once
    /// it must.
    pub fn allowed(&mut self) -> Result<TokenMask, GrammarError> {
        let set = self.inner.compute_mask_or_eos().map_err(|e| GrammarError::Matcher(fact(e)))?;
        Ok(TokenMask::from_words(set.as_slice(), self.width))
    }

    /// Returns the tokens that must come next whatever the model says, as the tokenizer would write them; empty where
    /// there is a choice, and at the end. They are not consumed.
    pub fn forced_tokens(&mut self) -> Vec<TokenId> {
        if self.is_stopped() { Vec::new() } else { self.inner.compute_ff_tokens() }
    }

    /// Moves past `tokens`. At one that is not allowed the matcher stays before it, and the error names it.
    /// An end token is allowed where the answer may end, and stops the matcher.
    pub fn consume(&mut self, tokens: &[TokenId]) -> Result<(), GrammarError> {
        for &token in tokens {
            let taken = !self.is_stopped()
                && self.inner.try_consume_tokens(&[token]).map_err(|e| GrammarError::Matcher(fact(e)))? == 1;
            if !taken {
                return Err(GrammarError::NotAllowed { token });
            }
        }
        Ok(())
    }

    /// Moves back over the last `num_tokens` consumed.
    pub fn rollback(&mut self, num_tokens: usize) -> Result<(), GrammarError> {
        self.inner.rollback(num_tokens).map_err(|e| GrammarError::Matcher(fact(e)))
    }

    /// Returns whether the answer is complete as it stands.
    pub fn is_accepting(&mut self) -> bool {
        self.inner.is_accepting().unwrap_or(false)
    }

    /// Returns whether nothing more can come: the answer is complete, or the matcher gave up ([`Self::failure`]).
    pub fn is_stopped(&self) -> bool {
        self.inner.is_stopped()
    }

    /// Returns why the matcher gave up, if it did.
    pub fn failure(&self) -> Option<GrammarError> {
        let reason = self.inner.stop_reason();
        if self.inner.is_error() || !reason.is_ok() {
            Some(GrammarError::Matcher(self.inner.get_error().map(fact).unwrap_or_else(|| reason.to_string())))
        } else {
            None
        }
    }
}
