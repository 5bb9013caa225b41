//! What happens during a run as JSON lines, for whoever watches from outside. A log that cannot be written is said once
//! and the run goes on.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Mutex;

use serde_json::{Value, json};

use super::events::{DocumentEvent, Event, ModelEvent};

/// Changes when a key of a line changes its name or meaning.
pub const EVENTS_SCHEMA_VERSION: u32 = 1;

/// A file that events are added to, each whole and at once.
pub struct EventLog {
    file: Mutex<Option<File>>, // `None` once it could not be written
}

impl EventLog {
    /// Opens the file, readable by its owner only: events name documents.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.create(true).append(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        Ok(Self { file: Mutex::new(Some(options.open(path)?)) })
    }

    /// Adds an event; the error is that of the first line that could not be written.
    pub fn add(&self, event: &Event<'_>) -> io::Result<()> {
        let Some(mut line) = line_of(event) else { return Ok(()) };
        line["at"] = jiff::Timestamp::now().to_string().into();
        line["schema_version"] = EVENTS_SCHEMA_VERSION.into();
        let mut file = self.file.lock().unwrap_or_else(|e| e.into_inner());
        let Some(open) = file.as_mut() else { return Ok(()) };
        let written = open.write_all(format!("{line}\n").as_bytes());
        if written.is_err() {
            *file = None;
        }
        written
    }
}

/// Returns an event as JSON; `None` for what happens too often to be worth a line.
fn line_of(event: &Event<'_>) -> Option<Value> {
    Some(match event {
        Event::Started { inputs, to_do } => json!({ "event": "started", "inputs": inputs, "to_do": to_do }),
        Event::Model(event) => match event {
            ModelEvent::FallingBack { from, to, because } => {
                json!({ "event": "model-fallback", "from": from, "to": to, "because": because })
            }
            ModelEvent::Loading { name } => json!({ "event": "model-loading", "model": name }),
            ModelEvent::Loaded { name, seconds } => {
                json!({ "event": "model-loaded", "model": name, "seconds": seconds })
            }
            ModelEvent::Resolving { .. } | ModelEvent::Downloading { .. } => return None,
        },
        Event::Document { document, event } => match event {
            DocumentEvent::Started => json!({ "event": "document-started", "document": document }),
            DocumentEvent::StepDone { step, .. } => json!({ "event": "step-done", "document": document, "step": step }),
            DocumentEvent::Finished { state, seconds, usage, why } => json!({
                "event": "document-finished", "document": document, "state": state, "seconds": seconds,
                "tokens": usage, "why": why,
            }),
            DocumentEvent::StepStarted { .. } | DocumentEvent::PartDone { .. } => return None,
        },
        Event::Note(text) => json!({ "event": "note", "text": text }),
        Event::Finished(report) => json!({
            "event": "finished", "run": report.run, "outcome": report.outcome, "counts": report.counts,
            "calls": report.calls, "seconds": report.seconds,
        }),
        Event::Tokens(_) | Event::Progress { .. } => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::engine::Usage;
    use crate::pipeline::report::State;

    #[test]
    fn every_line_is_json_whatever_a_document_is_called() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        let log = EventLog::open(&path).unwrap();
        let finished =
            DocumentEvent::Finished { state: State::Failed, seconds: 1.0, usage: Usage::default(), why: Some("a\nb") };
        log.add(&Event::Started { inputs: 1, to_do: 1 }).unwrap();
        log.add(&Event::Tokens(Usage::default())).unwrap();
        log.add(&Event::Document { document: "a\"\n.txt", event: finished }).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!((&lines[1]["document"], &lines[1]["state"]), (&json!("a\"\n.txt"), &json!("failed")));
    }
}
