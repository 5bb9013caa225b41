//! Holds a finished value against its schema, every keyword of it. Fetches nothing.

use serde_json::Value;

use super::builtins::{Scope, resolve_openly};

/// A schema made ready for many values.
pub struct Validator {
    inner: jsonschema::Validator,
    fields: Vec<String>,
    /// Whether the schema itself names every field; others are then ours, and are not looked at.
    is_closed: bool,
}

impl Validator {
    /// Dynamic types are what the document holds. The error is one line.
    pub fn new(schema: &Value, scope: &Scope) -> Result<Self, String> {
        let schema = resolve_openly(schema, scope);
        let inner = jsonschema::validator_for(&schema).map_err(|e| format!("the schema cannot be used: {e}"))?;
        let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
        let is_closed = schema.get("additionalProperties").is_some_and(|a| a == false);
        Ok(Self { inner, fields: properties.map(|(name, _)| name.clone()).collect(), is_closed })
    }

    /// The fields that the schema names.
    pub fn fields(&self) -> impl Iterator<Item = String> + '_ {
        self.fields.iter().cloned()
    }

    /// Returns the first thing that is wrong with an object, and where.
    pub fn fault(&self, value: &Value) -> Option<String> {
        let mut value = value.clone();
        if let (Value::Object(map), true) = (&mut value, self.is_closed) {
            map.retain(|name, _| self.fields.contains(name));
        }
        let error = self.inner.iter_errors(&value).next()?;
        let place = error.instance_path().to_string();
        let at = if place.is_empty() { String::new() } else { format!(" (at {place})") };
        Some(format!("the schema: {error}{at}"))
    }
}

/// Returns whether a field of a schema may be null; `None` where it must have a value, `Some(false)` where it may be
/// left out.
pub fn may_be_missing(schema: &Value, field: &str) -> Option<bool> {
    let has_null = |s: &Value| {
        let is = |t: &Value| t == "null" || t.as_array().is_some_and(|l| l.iter().any(|t| t == "null"));
        let options = ["anyOf", "oneOf"].iter().filter_map(|k| s.get(*k)?.as_array()).flatten();
        s.get("type").is_some_and(is)
            || s.get("enum").and_then(Value::as_array).is_some_and(|l| l.contains(&Value::Null))
            || options.filter_map(|o| o.get("type")).any(is)
    };
    let is_required =
        schema.get("required").and_then(Value::as_array).is_some_and(|list| list.iter().any(|name| name == field));
    match schema.get("properties")?.get(field).map(has_null)? {
        true => Some(true),
        false if is_required => None,
        false => Some(false),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::steps::schema::{decodable, expand_for_validation};

    #[test]
    fn what_cannot_be_enforced_while_decoding_is_named_and_held_against_the_value() {
        let written = json!({
            "type": "object", "required": ["a"],
            "properties": {
                "a": { "type": "array", "items": { "type": "integer" }, "uniqueItems": true },
                "b": { "type": "string", "format": "iri" },
                "c": { "oneOf": [{ "type": "string" }, { "type": "integer" }] },
            },
            "not": { "required": ["c"] },
        });
        let schema = expand_for_validation(&written).unwrap();
        let (decoded, afterwards) = decodable(&schema);
        assert_eq!(afterwards, ["format: iri", "not", "uniqueItems"]);
        assert_eq!(
            decoded["properties"]["c"],
            json!({ "anyOf": [{ "type": "string", "maxLength": 200 }, { "type": "integer" }] })
        );
        assert!(decoded.get("not").is_none() && decoded["properties"]["a"].get("uniqueItems").is_none());
        let validator = Validator::new(&schema, &Scope::default()).unwrap();
        assert_eq!(validator.fault(&json!({ "a": [1, 2], "evidence": {} })), None);
        assert!(validator.fault(&json!({ "a": [1, 1] })).unwrap().contains("/a"));
        assert!(validator.fault(&json!({ "a": [], "c": "x" })).is_some());
    }

    #[test]
    fn a_field_is_missing_as_null_or_not_at_all() {
        let schema = json!({ "required": ["a", "b"], "properties": { "a": { "type": "string" }, "b": { "type": ["string", "null"] }, "c": {} } });
        assert_eq!(["a", "b", "c"].map(|f| may_be_missing(&schema, f)), [None, Some(true), Some(false)]);
    }
}
