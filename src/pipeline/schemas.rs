//! The `schemas` section: each entry inline, in the short form, or in a file of its own -> a JSON Schema.
//! Knows how a schema is written, not what a grammar makes of it.

use serde_json::Value;

use super::file;
use super::files::{Files, read_text};
use super::shape::{Shaper, to_json};
use super::tree::{Node, NodeValue, quoted};
use crate::steps::schema::{expand, is_json_schema};

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

/// Returns an entry of `schemas` without the limits that a model needs: the short form written out, anything else as it is.
/// The error is one line, without the name.
pub fn plain(shaper: &Shaper<'_>, node: &Node) -> Result<Value, String> {
    let written = match node.entries() {
        [only] if only.key == "file" => match only.value.as_str().filter(|s| !TYPES.contains(&s.trim_end_matches('?')))
        {
            Some(file) => read(shaper.around.files, &shaper.around.folder.join(file))
                .map_err(|reason| format!("names the file {}, but {reason}", quoted(file)))?,
            None => to_json(node),
        },
        _ => to_json(node),
    };
    if is_json_schema(&written) {
        return Ok(written);
    }
    let mut expanded =
        expand(&written).map_err(|faults| faults.into_iter().map(|f| f.message).collect::<Vec<_>>().join("; "))?;
    without_limits(&mut expanded);
    Ok(expanded)
}

/// The short form states no limit: each one in it is the model's.
fn without_limits(schema: &mut Value) {
    match schema {
        Value::Object(keys) => {
            for limit in ["maxLength", "maxItems"] {
                if keys.get(limit).is_some_and(Value::is_number) {
                    keys.shift_remove(limit);
                }
            }
            keys.values_mut().for_each(without_limits);
        }
        Value::Array(items) => items.iter_mut().for_each(without_limits),
        _ => {}
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
    match expand(written) {
        Ok(schema) => Some(schema),
        Err(faults) => {
            for fault in faults {
                let mut below = path.to_vec();
                below.extend(fault.path);
                let message = format!("`{}`: {}", shaper.name(&below), fault.message);
                let hint =
                    "an answer is held to it word by word: types, properties, items, enum, anyOf, patterns, bounds";
                shaper.fault(node.at, message).hints.push(hint.into());
            }
            None
        }
    }
}
