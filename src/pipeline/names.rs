//! What templates and expressions of a run can name: `params`, `doc`, `steps` and `run`.

use serde_json::{Map, Value, json};

use super::model::ModelIdentity;
use super::report::State;
use crate::corpus::document::Document;

/// What of a run can be named in its templates.
#[derive(Clone, Debug)]
pub struct RunNames {
    pub id: String,
    pub date: String,    // of the run's start, `2026-01-31`
    pub started: String, // RFC 3339
    pub model: Option<ModelIdentity>,
}

impl RunNames {
    pub fn value(&self) -> Value {
        json!({ "id": self.id, "date": self.date, "started": self.started, "model": self.model })
    }
}

/// Returns what `doc` is: `path` as it is shown, and all that the reader found.
pub fn document_value(document: &Document, path: &str) -> Value {
    let mut value = document.doc_value();
    value["path"] = path.into();
    value
}

/// The names of one document while it is worked on.
pub struct Names(Value);

impl Names {
    pub fn new(params: &Value, document: Value, run: Value) -> Self {
        Self(json!({ "params": params, "doc": document, "steps": Map::new(), "run": run }))
    }

    pub fn value(&self) -> &Value {
        &self.0
    }

    pub fn set_step(&mut self, id: &str, value: Value) {
        self.0["steps"][id] = value;
    }

    /// Returns the values of some steps, by their ids; `null` where a step gave none.
    pub fn values_of(&self, ids: impl Iterator<Item = String>) -> Map<String, Value> {
        let value = |id: &String| self.0["steps"].get(id).cloned().unwrap_or_default();
        ids.map(|id| (id.clone(), value(&id))).collect()
    }

    /// Puts what is known only after the last step under `doc`: its state, why it is partial, and the line saying where
    /// a page comes from.
    pub fn set_end(&mut self, state: State, remarks: &[String], provenance: &str) {
        self.0["doc"]["state"] = json!(state);
        self.0["doc"]["remarks"] = json!(remarks);
        self.0["doc"]["provenance"] = json!(provenance);
    }
}
