//! What an answer may look like, token by token.
mod constraint;
pub use constraint::Constraint;
