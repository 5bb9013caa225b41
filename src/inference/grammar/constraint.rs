//! What an answer must look like. Knows no vocabulary.

/// What an answer must look like while it is being decoded.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Constraint {
    #[default]
    None,
    JsonSchema(serde_json::Value),
    Regex(String),
    Lark(String),
}
