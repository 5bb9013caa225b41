//! Values on their way into templates and back: `serde_json` outside, minijinja inside.

use std::collections::BTreeMap;
use std::sync::Arc;

use minijinja::value::{Enumerator, Object, ObjectRepr, Serde, Value as Inner, ValueKind};
use serde_json::{Map, Value};

/// JSON deeper than this is refused rather than walked: no step makes any.
const MAX_DEPTH: usize = 200;

/// A step that did not run: false, empty, `none` in output, and so is each of its fields.
#[derive(Debug)]
pub struct Absent;

impl Object for Absent {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Iterable
    }

    fn get_value(self: &Arc<Self>, _key: &Inner) -> Option<Inner> {
        Some(Inner::from_object(Absent))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Empty
    }

    fn is_true(self: &Arc<Self>) -> bool {
        false
    }
}

/// Returns whether a value is `none`, or belongs to a step that did not run.
pub fn is_none(value: &Inner) -> bool {
    value.is_none() || value.downcast_object_ref::<Absent>().is_some()
}

/// Returns `names` as the root of a template, each null under `steps` made [`Absent`].
pub fn context(names: &Value) -> Inner {
    match names {
        Value::Object(root) => mapping(root.iter().map(|(key, value)| (key.clone(), named(key, value)))),
        other => Inner::from(Serde(other)),
    }
}

/// Returns what stands under the name `key` at the root.
pub fn named(key: &str, value: &Value) -> Inner {
    match value {
        Value::Object(steps) if key == "steps" => mapping(steps.iter().map(|(id, step)| {
            (id.clone(), if step.is_null() { Inner::from_object(Absent) } else { Inner::from(Serde(step)) })
        })),
        other => Inner::from(Serde(other)),
    }
}

/// Collecting pairs into a value directly would make a list of pairs.
fn mapping(entries: impl Iterator<Item = (String, Inner)>) -> Inner {
    Inner::from_object(entries.collect::<BTreeMap<String, Inner>>())
}

/// Returns a template's value as JSON. The error is one line.
pub fn to_json(value: &Inner) -> Result<Value, String> {
    json_within(value, MAX_DEPTH)
}

fn json_within(value: &Inner, depth: usize) -> Result<Value, String> {
    if is_none(value) {
        return Ok(Value::Null);
    }
    let deeper = depth.checked_sub(1).ok_or_else(|| format!("a value is nested deeper than {MAX_DEPTH}"))?;
    let walk =
        |items: minijinja::value::ValueIter| items.map(|i| json_within(&i, deeper)).collect::<Result<Vec<_>, _>>();
    match value.kind() {
        ValueKind::Undefined => Err("a part of the value is not defined".into()),
        ValueKind::Seq | ValueKind::Iterable => walk(value.try_iter().map_err(|e| e.to_string())?).map(Value::Array),
        ValueKind::Map => {
            let mut object = Map::new();
            for key in value.try_iter().map_err(|e| e.to_string())? {
                let item = value.get_item(&key).map_err(|e| e.to_string())?;
                object.insert(key.to_string(), json_within(&item, deeper)?);
            }
            Ok(Value::Object(object))
        }
        _ => serde_json::to_value(value).map_err(|e| e.to_string()),
    }
}
