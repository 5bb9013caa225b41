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

/// Returns what `doc` is: `path` as it is shown, the file's own names, and all that the reader found.
pub fn document_value(document: &Document, path: &str) -> Value {
    let turns: Vec<Value> = document
        .turns
        .iter()
        .map(|turn| {
            json!({
                "id": turn.id.to_string(),
                "speaker": turn.speaker,
                "start_ms": turn.start_ms,
                "end_ms": turn.end_ms,
                "text": document.turn_text(turn),
            })
        })
        .collect();
    let pages: Vec<Value> = document
        .pages
        .iter()
        .map(|page| json!({ "number": page.number, "text": document.text.get(page.range.clone()).unwrap_or_default() }))
        .collect();
    let headings: Vec<Value> =
        document.headings.iter().map(|h| json!({ "level": h.level, "title": h.title })).collect();
    let file = |part: Option<&std::ffi::OsStr>| part.map(|p| p.to_string_lossy().into_owned()).unwrap_or_default();
    json!({
        "path": path,
        "name": file(document.path.file_name()),
        "stem": document.stem(),
        "ext": file(document.path.extension()),
        "sha256": document.sha256,
        "format": document.format,
        "text": document.text,
        "pages": pages,
        "headings": headings,
        "turns": turns,
        "speakers": document.speakers(),
        "meta": document.meta,
    })
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

    /// Puts what is known only after the last step under `doc`: its state and the line saying where a page comes from.
    pub fn set_end(&mut self, state: State, provenance: &str) {
        self.0["doc"]["state"] = json!(state);
        self.0["doc"]["provenance"] = json!(provenance);
    }
}
