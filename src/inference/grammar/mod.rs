//! What an answer may look like, token by token: JSON Schema, regular expressions and Lark grammars as masks over the
//! vocabulary. The only door to llguidance. Knows a tokenizer; no logits, no prompt, no document.
//!
//! Read [`GrammarFactory`] first: one per model. It compiles a [`Constraint`] into a [`Matcher`], one per answer.

mod constraint;
mod factory;
mod fault;
mod finished;
mod limits;
mod mask;
mod matcher;

pub use constraint::Constraint;
pub use factory::GrammarFactory;
pub use fault::GrammarError;
pub use finished::check_text;
pub use mask::TokenMask;
pub use matcher::Matcher;

#[cfg(test)]
mod maskbench_tests;
