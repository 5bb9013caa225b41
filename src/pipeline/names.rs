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

    /// Puts something beside `params`, `doc`, `steps` and `run`.
    pub fn set(&mut self, name: &str, value: Value) {
        self.0[name] = value;
    }

    /// The names of what is done over all documents, or a group of them: `under` is what they are found under.
    pub fn over_all(params: &Value, under: &[(&str, Value)], steps: Value, run: Value) -> Self {
        let mut names = json!({ "params": params, "steps": steps, "run": run });
        for (name, value) in under {
            names[*name] = value.clone();
        }
        Self(names)
    }

    /// Puts how many tokens the document's text has.
    pub fn set_tokens(&mut self, count: usize) {
        self.0["doc"]["tokens"] = count.into();
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
        self.set_end_of("doc", state, remarks, provenance);
    }

    /// The same under `group` or `corpus`.
    pub fn set_end_of(&mut self, name: &str, state: State, remarks: &[String], provenance: &str) {
        self.0[name]["state"] = json!(state);
        self.0[name]["remarks"] = json!(remarks);
        self.0[name]["provenance"] = json!(provenance);
    }
}
