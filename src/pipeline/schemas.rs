//! The `schemas` section: each entry inline, in the short form, or in a file of its own -> a JSON Schema.
//! Knows how a schema is written, not what a grammar makes of it.

use serde_json::{Map, Value, json};

use super::file;
use super::files::{Files, read_text};
use super::shape::{Shaper, to_json};
use super::tree::{Node, NodeValue, quoted};
use crate::diagnostic::suggest;

/// Words that make a mapping a JSON Schema rather than the short form.
const KEYWORDS: &[&str] = &[
    "$schema",
    "$id",
    "$ref",
    "$defs",
    "definitions",
    "type",
    "properties",
    "required",
    "additionalProperties",
    "patternProperties",
    "items",
    "prefixItems",
    "minItems",
    "maxItems",
    "uniqueItems",
    "enum",
    "const",
    "anyOf",
    "oneOf",
    "allOf",
    "not",
    "if",
    "then",
    "else",
    "minLength",
    "maxLength",
    "pattern",
    "format",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "title",
    "description",
    "default",
    "examples",
    "minProperties",
    "maxProperties",
    "$comment",
];

/// The types of the short form.
const TYPES: &[&str] = &["string", "text", "integer", "number", "boolean", "date"];

/// Returns one entry of `schemas` as a JSON Schema, or tells what is wrong with it and returns nothing.
pub fn resolve(shaper: &mut Shaper<'_>, name: &str, node: &Node) -> Option<Value> {
    let path = [name.to_owned()];
    match &node.value {
        NodeValue::Map(entries) if entries.len() == 1 && entries[0].key == "file" => {
            let written = &entries[0].value;
            match written.as_str().filter(|s| !TYPES.contains(&s.trim_end_matches('?'))) {
                Some(file) => from_file(shaper, &path, written, file),
                None => from_value(shaper, &path, node, &to_json(node)),
            }
        }
        NodeValue::Map(_) => from_value(shaper, &path, node, &to_json(node)),
        _ => {
            let message = format!(
                "`{}` must be a JSON Schema, its short form or {{ file: … }}, not {}",
                shaper.name(&path),
                node.describe()
            );
            shaper.fault(node.at, message);
            None
        }
    }
}

fn from_file(shaper: &mut Shaper<'_>, path: &[String], node: &Node, file: &str) -> Option<Value> {
    let target = shaper.around.folder.join(file);
    match read(shaper.around.files, &target) {
        Ok(value) => from_value(shaper, path, node, &value),
        Err(reason) => {
            let message = format!("`{}` names the file {}, but {reason}", shaper.name(path), quoted(file));
            shaper.fault(node.at, message).hints.push(format!("looked for {}", target.display()));
            None
        }
    }
}

/// Reads JSON, or YAML where the name says so. The error is one line.
fn read(files: &dyn Files, path: &std::path::Path) -> Result<Value, String> {
    if !files.is_file(path) {
        return Err("it does not exist".into());
    }
    let text = read_text(files, path)?;
    if path.extension().is_some_and(|e| e == "yaml" || e == "yml") {
        return file::parse(path, text.as_bytes()).map(|(_, node, _)| to_json(&node)).map_err(|d| match d.place {
            Some(place) => format!("line {}, column {}: {}", place.line, place.column, d.message),
            None => d.message,
        });
    }
    serde_json::from_str(&text).map_err(|e| format!("it is not valid JSON: {e}"))
}

fn from_value(shaper: &mut Shaper<'_>, path: &[String], node: &Node, written: &Value) -> Option<Value> {
    match to_json_schema(written) {
        Ok(schema) => Some(schema),
        Err(Fault { message, hint }) => {
            let message = format!("`{}`: {message}", shaper.name(path));
            shaper.fault(node.at, message).hints.push(hint);
            None
        }
    }
}

/// What is wrong with a schema in the short form.
#[derive(Debug, PartialEq, Eq)]
pub struct Fault {
    pub message: String,
    pub hint: String,
}

/// Returns a JSON Schema as it is, and the short form as the JSON Schema it stands for: every field is required, `?`
/// allows null, `[string]` is a list, a mapping is a record, and nothing else may be there.
pub fn to_json_schema(written: &Value) -> Result<Value, Fault> {
    match written {
        Value::Object(keys) if !keys.is_empty() && keys.keys().all(|k| KEYWORDS.contains(&k.as_str())) => {
            Ok(written.clone())
        }
        Value::Object(fields) if !fields.is_empty() => record(fields),
        Value::Bool(_) => Ok(written.clone()),
        _ => Err(Fault { message: "a schema is a mapping of fields".into(), hint: "write { vendor: string }".into() }),
    }
}

fn record(fields: &Map<String, Value>) -> Result<Value, Fault> {
    let properties: Map<String, Value> =
        fields.iter().map(|(name, kind)| Ok((name.clone(), field(name, kind)?))).collect::<Result<_, Fault>>()?;
    let required: Vec<&String> = fields.keys().collect();
    Ok(json!({
        "type": "object", "additionalProperties": false, "required": required, "properties": properties,
    }))
}

fn field(name: &str, kind: &Value) -> Result<Value, Fault> {
    match kind {
        Value::String(word) => word_type(name, word),
        Value::Array(items) if items.len() == 1 => Ok(json!({ "type": "array", "items": field(name, &items[0])? })),
        Value::Object(_) => to_json_schema(kind),
        _ => Err(unknown_type(name, &kind.to_string())),
    }
}

fn word_type(name: &str, word: &str) -> Result<Value, Fault> {
    let (base, nullable) = word.strip_suffix('?').map_or((word, false), |base| (base, true));
    let schema = match base.trim() {
        "string" | "text" => json!({ "type": "string" }),
        "date" => json!({ "type": "string", "format": "date" }),
        "integer" | "number" | "boolean" => json!({ "type": base.trim() }),
        _ => return Err(unknown_type(name, word)),
    };
    Ok(if nullable { json!({ "anyOf": [schema, { "type": "null" }] }) } else { schema })
}

fn unknown_type(field: &str, found: &str) -> Fault {
    let hint = match suggest(found.trim_end_matches('?'), TYPES.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => {
            format!("types of the short form: {}; `?` behind one allows null, [string] is a list", TYPES.join(", "))
        }
    };
    Fault { message: format!("the field `{field}` has the type {}, which there is not", quoted(found)), hint }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_form_becomes_a_closed_record_in_the_order_of_its_fields() {
        let schema = to_json_schema(&json!({ "vendor": "string", "total": "number?", "lines": [{ "n": "integer" }] }));
        let schema = schema.unwrap();
        assert_eq!(schema["required"], json!(["vendor", "total", "lines"]));
        assert_eq!(schema["additionalProperties"], json!(false));
        assert_eq!(schema["properties"]["total"], json!({ "anyOf": [{ "type": "number" }, { "type": "null" }] }));
        assert_eq!(schema["properties"]["lines"]["items"]["required"], json!(["n"]));
    }

    #[test]
    fn a_json_schema_stays_as_it_is() {
        let written = json!({ "type": "object", "properties": { "a": { "type": "string" } } });
        assert_eq!(to_json_schema(&written), Ok(written.clone()));
        // A record whose field happens to be called `type` is told from a schema by its other fields.
        assert_eq!(to_json_schema(&json!({ "type": "string", "vendor": "string" })).unwrap()["type"], json!("object"));
    }

    #[test]
    fn an_unknown_type_is_named_with_the_one_that_was_meant() {
        let fault = to_json_schema(&json!({ "vendor": "strng" })).unwrap_err();
        assert_eq!(fault.message, "the field `vendor` has the type `strng`, which there is not");
        assert_eq!(fault.hint, "did you mean `string`?");
    }
}
