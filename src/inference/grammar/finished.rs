//! Judges a finished answer by its constraint, whatever vocabulary wrote it.

use std::time::Duration;

use llguidance::toktrie::ApproximateTokEnv;
use serde_json::Value;

use super::limits::check_schema;
use super::{Constraint, GrammarError, GrammarFactory};
use crate::ids::TokenId;
use crate::inference::tokenizer::on_deep_stack;

const TIME_MAX: Duration = Duration::from_secs(10);

/// Returns an error if `text` is not a complete answer under `constraint`.
///
/// For a JSON Schema the text must be one JSON value that validates, blanks allowed anywhere and every keyword
/// counted; for a regular expression or a grammar the whole text must match.
pub fn check_text(constraint: &Constraint, text: &str) -> Result<(), GrammarError> {
    match constraint {
        Constraint::None => Ok(()),
        Constraint::JsonSchema(schema) => check_json(schema, text),
        Constraint::Regex(_) | Constraint::Lark(_) => check_match(constraint, text),
    }
}

fn check_json(schema: &Value, text: &str) -> Result<(), GrammarError> {
    check_schema(schema)?;
    let value: Value = serde_json::from_str(text).map_err(|e| GrammarError::DoesNotFit(format!("not JSON: {e}")))?;
    let schema = schema.clone();
    on_deep_stack(TIME_MAX, move || {
        let validator = jsonschema::validator_for(&schema).map_err(|e| GrammarError::Invalid(e.to_string()))?;
        match validator.iter_errors(&value).next() {
            None => Ok(()),
            Some(error) => Err(GrammarError::DoesNotFit(format!("{error} (at \"{}\")", error.instance_path()))),
        }
    })
    .map_err(|fault| GrammarError::Endless(fault.to_string()))?
}

fn check_match(constraint: &Constraint, text: &str) -> Result<(), GrammarError> {
    let env = ApproximateTokEnv::single_byte_env();
    let width = env.tok_trie().vocab_size();
    let mut matcher = GrammarFactory::with_env(&env, width)?.compile(constraint)?;
    for (at, byte) in text.bytes().enumerate() {
        matcher.consume(&[TokenId::from(byte)]).map_err(|error| match error {
            GrammarError::NotAllowed { .. } => GrammarError::DoesNotFit(format!("byte {at} cannot stand there")),
            other => other,
        })?;
    }
    if matcher.is_accepting() { Ok(()) } else { Err(GrammarError::DoesNotFit("it ends too early".into())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fits(constraint: &Constraint, text: &str) -> bool {
        check_text(constraint, text).is_ok()
    }

    #[test]
    fn a_finished_answer_is_judged_by_any_constraint() {
        let schema = Constraint::JsonSchema(json!({"type": "object", "required": ["a"], "not": {"required": ["b"]}}));
        assert!(fits(&schema, "{ \"a\":1 }") && !fits(&schema, "{}") && !fits(&schema, "{\"a\":1,\"b\":2}"));
        assert!(!fits(&schema, "{\"a\":"));
        let regex = Constraint::Regex("[a-z]+[0-9]?".into());
        assert!(fits(&regex, "ab1") && !fits(&regex, "ab12") && !fits(&regex, ""));
        let lark = Constraint::Lark("start: \"yes\" | \"no\"".into());
        assert!(fits(&lark, "no") && !fits(&lark, "n") && !fits(&lark, "nope"));
        assert!(fits(&Constraint::None, "anything"));
    }
}
