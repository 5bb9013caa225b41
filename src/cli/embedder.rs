//! The model that embeds, from its name in the catalogue to the trait that an index asks for.

use super::Failure;
use super::exit::Exit;
use super::models::{self, Downloads};
use super::options::Settings;
use crate::corpus::index::Embed;
use crate::diagnostic::Diagnostic;
use crate::inference::embed::Embedder;
use crate::inference::hub;

/// A loaded embedder under the id that indexes know it by.
pub struct ResidentEmbedder {
    id: String,
    inner: Embedder,
}

impl ResidentEmbedder {
    /// Gets and loads a model: a name of the catalogue, a path, or `hf:owner/repo`.
    pub fn load(name: &str, settings: &Settings) -> Result<Self, Failure> {
        let files = hub::resolve(name, &models::hub_options(settings)?, &Downloads::new(settings))?;
        let wrong = |error: crate::inference::embed::EmbedError| {
            Failure::new(Exit::NoModel, Diagnostic::error(format!("{name} cannot embed: {error}")))
        };
        let inner = Embedder::load(models::path_of(&files)).map_err(wrong)?;
        for assumed in &inner.description().assumed {
            models::teller(settings)(&format!("{name}: taken for granted: {assumed}"));
        }
        Ok(Self { id: format!("{name}@{}", &files.digest[..files.digest.len().min(16)]), inner })
    }

    /// Loads the model of an id, and holds it against the id's digest.
    pub fn of_id(id: &str, settings: &Settings) -> Result<Self, Failure> {
        let name = id.rsplit_once('@').map_or(id, |(name, _)| name);
        let embedder = Self::load(name, settings)?;
        if embedder.id != id {
            let fact = format!("the index was made by {id}, and {name} now is {}", embedder.id);
            let hint = "`quarry index build --fresh` makes it anew, --words-only searches without vectors";
            return Err(Failure::new(Exit::NoModel, Diagnostic::error(fact).hint(hint)));
        }
        Ok(embedder)
    }
}

impl Embed for ResidentEmbedder {
    fn id(&self) -> &str {
        &self.id
    }

    fn dims(&self) -> usize {
        self.inner.dims()
    }

    fn passages(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, String> {
        self.inner.passages(texts).map_err(|e| e.to_string())
    }

    fn question(&self, text: &str) -> Result<Vec<f32>, String> {
        self.inner.question(text).map_err(|e| e.to_string())
    }
}
