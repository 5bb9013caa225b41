//! The `contract` of an output: a schema that its records are held to. Unlike the schema of a step it may use all of JSON
//! Schema, for no model has to write by it, and nothing is limited that its author has not limited.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::pipeline::plan::Contract;
use crate::pipeline::schemas;
use crate::pipeline::shape::Shaper;
use crate::pipeline::tree::{Node, NodeValue, quoted};

/// The `schemas` section as it is written.
pub type Schemas<'n> = BTreeMap<String, &'n Node>;

/// Returns the section as it is written.
pub fn schemas_of(root: &Node) -> Schemas<'_> {
    root.get("schemas").map(Node::entries).unwrap_or_default().iter().map(|e| (e.key.clone(), &e.value)).collect()
}

/// Returns the contract of an output, `Some(None)` where it has none, and `None` where it is faulty, which is told.
pub fn read(shaper: &mut Shaper<'_>, node: &Node, schemas: &Schemas<'_>) -> Option<Option<Contract>> {
    let Some(written) = node.get("contract") else { return Some(None) };
    let (name, schema) = match &written.value {
        NodeValue::Str(name) => (name.as_str(), *schemas.get(name)?), // an unknown name has been told
        _ => ("contract", written),
    };
    let whole = match schemas::plain(shaper, schema) {
        Ok(whole) => whole,
        Err(reason) => {
            shaper.fault(written.at, format!("the contract {} {reason}", quoted(name)));
            return None;
        }
    };
    match validator(&whole) {
        Ok(validator) => Some(Some(Contract { name: name.to_owned(), schema: whole, validator: Arc::new(validator) })),
        Err(reason) => {
            shaper.fault(written.at, format!("the contract {} is no JSON Schema: {reason}", quoted(name)));
            None
        }
    }
}

fn validator(schema: &Value) -> Result<jsonschema::Validator, String> {
    if schema.to_string().contains("\"builtin:") {
        return Err("turns, quotes and speakers are those of one document, and a record is of any".into());
    }
    jsonschema::validator_for(schema).map_err(|e| e.to_string().replace('\n', " "))
}
