//! Where an output comes from: in every record, at the foot of every page. Nothing in it depends on the run, so that
//! a run that was killed and resumed writes the same bytes as one that was not.

use serde::Serialize;
use serde_json::Value;

use crate::pipeline::model::ModelIdentity;

/// The version of quarry that stands in every output.
pub const QUARRY_VERSION: &str = env!("CARGO_PKG_VERSION");

/// Where one document's outputs come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Provenance {
    pub document: String, // as shown
    pub sha256: String,   // of the bytes used
    pub model: Option<ModelIdentity>,
    pub pipeline: String,
    pub pipeline_hash: String,
    pub quarry: &'static str,
}

/// What separates the document from the rest in a provenance line.
const MARK: &str = " · sha256 ";

impl Provenance {
    /// Returns it as one line: `calls/a.vtt · sha256 3f2a… · model starter 9c1d… · pipeline minutes · quarry 0.1.0`.
    pub fn line(&self) -> String {
        let short = |hex: &str| hex.chars().take(12).collect::<String>();
        let document: String = self.document.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        let mut line = format!("{document}{MARK}{}", short(&self.sha256));
        if let Some(model) = &self.model {
            line.push_str(&format!(" · model {} {}", model.name, short(&model.digest)));
            if let Some(fallback) = &model.fallback {
                line.push_str(&format!(" (fallback: {fallback})"));
            }
        }
        line.push_str(&format!(
            " · pipeline {} {} · quarry {}",
            self.pipeline,
            short(&self.pipeline_hash),
            self.quarry
        ));
        line
    }

    pub fn value(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    /// Returns the document that a provenance line names.
    pub fn document_of(line: &str) -> Option<&str> {
        line.rsplit_once(MARK).map(|(document, _)| document)
    }
}
