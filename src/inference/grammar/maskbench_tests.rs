//! Against MaskBench, whose instances say whether they are valid: runs where `QUARRY_TEST_MASKBENCH` names its file, one
//! JSON object per line with `id`, `schema` and `tests`, else says that it does not.

use std::sync::Arc;

use serde_json::Value;

use super::{Constraint, GrammarError, GrammarFactory};
use crate::inference::tokenizer::tests_support::small_tokenizer;

/// Writes `value` as our grammars do: a blank after `,` and `:`.
fn written(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(written).collect::<Vec<_>>().join(", ")),
        Value::Object(members) => {
            let member =
                |(name, value): (&String, &Value)| format!("{}: {}", Value::from(name.as_str()), written(value));
            format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

#[test]
fn no_invalid_instance_is_accepted_and_hardly_a_valid_one_refused() {
    let Some(path) = std::env::var_os("QUARRY_TEST_MASKBENCH") else {
        crate::testing::skipped("QUARRY_TEST_MASKBENCH names no file");
        return;
    };
    let tokenizer = Arc::new(small_tokenizer());
    let factory = GrammarFactory::new(&tokenizer, tokenizer.vocab_size()).unwrap();
    let (mut num_compiled, mut num_unsupported, mut num_refused) = (0, 0, 0);
    let (mut num_valid, mut valid_refused, mut num_invalid, mut invalid_accepted) = (0, 0, 0, Vec::new());
    for line in std::fs::read_to_string(path).unwrap().lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let compiled = match factory.compile(&Constraint::JsonSchema(row["schema"].clone())) {
            Ok(matcher) => matcher,
            Err(GrammarError::Unsupported(_)) => {
                num_unsupported += 1;
                continue;
            }
            Err(GrammarError::Endless(why)) => panic!("{}: {why}", row["id"]),
            Err(_) => {
                num_refused += 1;
                continue;
            }
        };
        num_compiled += 1;
        for instance in row["tests"].as_array().into_iter().flatten() {
            let mut matcher = compiled.clone();
            let ids = tokenizer.encode_text(&written(&instance["data"]));
            let accepted = matcher.consume(&ids).is_ok() && matcher.is_accepting();
            if instance["valid"] == true {
                num_valid += 1;
                valid_refused += usize::from(!accepted);
            } else {
                num_invalid += 1;
                invalid_accepted.extend(accepted.then(|| row["id"].clone()));
            }
        }
    }
    eprintln!("{num_compiled} schemas compiled, {num_unsupported} unsupported, {num_refused} refused");
    eprintln!(
        "{valid_refused} of {num_valid} valid instances refused, {} of {num_invalid} invalid accepted",
        invalid_accepted.len()
    );
    assert!(invalid_accepted.is_empty(), "{invalid_accepted:?}");
    assert!(valid_refused * 100 <= num_valid, "more than 1 % of the valid instances were refused");
}
