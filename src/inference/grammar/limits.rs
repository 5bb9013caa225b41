//! What a constraint may weigh, checked before llguidance sees it: its schema compiler recurses, and a deep or
//! long-chained schema would end the process. Iterative throughout.

use std::collections::HashSet;

use serde_json::Value;

use super::GrammarError;

const DEPTH_MAX: usize = 128; // of the JSON; what serde_json reads at most
const VALUES_MAX: usize = 200_000;
const TEXT_BYTES_MAX: usize = 4 << 20;
/// Of schemas inside schemas, references followed: what llguidance would recurse.
const CHAIN_MAX: usize = 2_000;
const PATTERN_BYTES_MAX: usize = 64 << 10;
const LARK_BYTES_MAX: usize = 256 << 10;
const BRACKETS_DEPTH_MAX: usize = 200;

pub(super) fn check_schema(schema: &Value) -> Result<(), GrammarError> {
    if !schema.is_object() && !schema.is_boolean() {
        return Err(GrammarError::Invalid("a schema is an object, true or false".into()));
    }
    check_weight(schema)?;
    check_references(schema)
}

pub(super) fn check_regex(pattern: &str) -> Result<(), GrammarError> {
    within("bytes of the pattern", pattern.len(), PATTERN_BYTES_MAX)?;
    within("nesting of the pattern", brackets_depth(pattern), BRACKETS_DEPTH_MAX)
}

pub(super) fn check_lark(grammar: &str) -> Result<(), GrammarError> {
    within("bytes of the grammar", grammar.len(), LARK_BYTES_MAX)?;
    within("nesting of the grammar", brackets_depth(grammar), BRACKETS_DEPTH_MAX)
}

fn within(what: &'static str, found: usize, limit: usize) -> Result<(), GrammarError> {
    if found > limit { Err(GrammarError::OverLimit { what, found, limit }) } else { Ok(()) }
}

/// An upper bound: closing brackets inside texts count as well.
fn brackets_depth(text: &str) -> usize {
    let (mut depth, mut deepest) = (0usize, 0);
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

fn check_weight(schema: &Value) -> Result<(), GrammarError> {
    let (mut num_values, mut text_bytes) = (0, 0);
    let mut waiting = vec![(schema, 1)];
    while let Some((value, depth)) = waiting.pop() {
        num_values += 1;
        within("nesting of the schema", depth, DEPTH_MAX)?;
        within("values of the schema", num_values, VALUES_MAX)?;
        match value {
            Value::String(text) => text_bytes += text.len(),
            Value::Array(items) => waiting.extend(items.iter().map(|item| (item, depth + 1))),
            Value::Object(members) => {
                text_bytes += members.keys().map(String::len).sum::<usize>();
                waiting.extend(members.values().map(|member| (member, depth + 1)));
            }
            _ => {}
        }
        within("bytes of text in the schema", text_bytes, TEXT_BYTES_MAX)?;
    }
    Ok(())
}

/// Walks the schemas in the order in which llguidance compiles them: a reference is entered where it is first met.
fn check_references(schema: &Value) -> Result<(), GrammarError> {
    let mut entered: HashSet<&str> = HashSet::new();
    let mut waiting = vec![(schema, 1)];
    while let Some((value, depth)) = waiting.pop() {
        within("schemas inside schemas, references followed", depth, CHAIN_MAX)?;
        if let Some(reference) = value.get("$ref").and_then(Value::as_str) {
            let inside = reference == "#" || reference.starts_with("#/");
            if !inside {
                return Err(GrammarError::RemoteRef(reference.chars().take(200).collect()));
            }
            if entered.insert(reference)
                && let Some(target) = schema.pointer(reference.trim_start_matches('#').trim_end_matches('/'))
            {
                waiting.push((target, depth + 1));
            }
        }
        // Last first, so that the first is walked first.
        waiting.extend(subschemas(value).into_iter().rev().map(|inner| (inner, depth + 1)));
    }
    Ok(())
}

/// Returns the schemas that `schema` applies, in the order of its keywords.
fn subschemas(schema: &Value) -> Vec<&Value> {
    let Some(keywords) = schema.as_object() else { return Vec::new() };
    let mut inner = Vec::new();
    for (keyword, value) in keywords {
        match (keyword.as_str(), value) {
            ("properties" | "patternProperties" | "dependentSchemas", Value::Object(named)) => {
                inner.extend(named.values());
            }
            ("allOf" | "anyOf" | "oneOf" | "prefixItems" | "items", Value::Array(list)) => inner.extend(list),
            (
                "items"
                | "additionalItems"
                | "additionalProperties"
                | "not"
                | "if"
                | "then"
                | "else"
                | "contains"
                | "propertyNames"
                | "unevaluatedItems"
                | "unevaluatedProperties",
                one,
            ) => inner.push(one),
            _ => {}
        }
    }
    inner
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_property_may_be_called_ref() {
        let schema =
            json!({"type": "object", "properties": {"$ref": {"type": "string"}}, "enum": [{"$ref": "http://x"}]});
        assert_eq!(check_schema(&schema), Ok(()));
    }

    #[test]
    fn remote_references_are_refused_unfetched() {
        for reference in ["http://example.com/s.json", "file:///etc/passwd", "other.json#/a", "#anchor"] {
            let schema = json!({"items": {"$ref": reference}});
            assert_eq!(check_schema(&schema), Err(GrammarError::RemoteRef(reference.into())));
        }
    }

    #[test]
    fn a_long_chain_of_references_is_refused() {
        let chain = |n: usize| {
            let links = (0..n).map(|i| (format!("d{i}"), json!({"items": {"$ref": format!("#/$defs/d{}", i + 1)}})));
            let mut defs: serde_json::Map<String, Value> = links.collect();
            defs.insert(format!("d{n}"), json!({}));
            json!({"$ref": "#/$defs/d0", "$defs": defs})
        };
        assert_eq!(check_schema(&chain(500)), Ok(()));
        assert!(matches!(check_schema(&chain(5000)), Err(GrammarError::OverLimit { limit: CHAIN_MAX, .. })));
    }

    #[test]
    fn depth_is_counted_without_recursion() {
        let mut deep = json!({});
        for _ in 0..200 {
            deep = json!({ "items": deep });
        }
        assert!(matches!(check_schema(&deep), Err(GrammarError::OverLimit { limit: DEPTH_MAX, .. })));
        assert!(check_lark(&"(".repeat(100_000)).is_err() && check_regex(&"(".repeat(300)).is_err());
    }
}
