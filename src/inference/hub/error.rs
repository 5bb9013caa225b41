//! Why a model cannot be had: one line each, naming model, file and fact; the hint stands beside it.
//! Knows no exit code.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// A failure to have a model.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    #[error("there is no model named {name:?}")]
    Unknown { name: String, suggestion: Option<&'static str> },

    #[error("{reference:?} does not name a model: {fact}")]
    BadReference { reference: String, fact: String },

    #[error("model {path:?}: there is no such file or folder")]
    LocalMissing { path: PathBuf },

    #[error("model {path:?}: {fact}")]
    LocalUnusable { path: PathBuf, fact: String },

    /// Not in the cache, and no connection is allowed.
    #[error("model {model:?} is not in the cache, and the network is not to be used")]
    NotCached { model: String },

    /// Every source was asked and none gave it.
    #[error("model {model:?} cannot be had: {}", Attempts(.attempts))]
    Unavailable { model: String, attempts: Vec<Attempt> },

    /// The hub answered that what was named is not there, or not for this user.
    #[error("model {model:?}: {source_name}: {fact}")]
    NotThere { model: String, source_name: String, fact: String },

    /// A file of the cache is not what was put there.
    #[error("model {model:?}: {}: {fact}", .file.display())]
    Damaged { model: String, file: PathBuf, fact: String },

    /// A source sent something else than what was promised; it has been removed.
    #[error("model {model:?}: {file} from {source_name}: {fact}")]
    Mismatch { model: String, source_name: String, file: String, fact: String },

    #[error("the hub's address {endpoint:?} is refused: {fact}")]
    Endpoint { endpoint: String, fact: String },

    #[error("model {model:?}: cannot {action} {}: {source}", .path.display())]
    Io { model: String, action: &'static str, path: PathBuf, source: io::Error },

    #[error("model {model:?}: the download was cancelled")]
    Cancelled { model: String },

    /// None of a list of preferred models could be had.
    #[error("none of the models can be had: {}", Each(.0))]
    NonePreferred(Vec<HubError>),
}

/// One source that was asked, and its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    pub source: String,
    pub why: String,
}

impl HubError {
    /// Returns what the user can do about it, if anything.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Unknown { suggestion: Some(name), .. } => format!("did you mean {name:?}?"),
            Self::Unknown { suggestion: None, .. } => {
                "`quarry model list` shows the models by name; a path or hf:owner/repo also names one".into()
            }
            Self::BadReference { .. } => {
                "name a model of the catalogue, a path to a GGUF file or a safetensors folder, or \
                 hf:owner/repo[/file][@revision]"
                    .into()
            }
            Self::LocalMissing { path } if looks_like_repo(path) => {
                format!("a model of the hub is written hf:{}", path.display())
            }
            Self::LocalMissing { .. } => "a path is resolved against the current folder".into(),
            Self::LocalUnusable { .. } => {
                "a model is a .gguf file, or a folder with config.json and .safetensors files".into()
            }
            Self::NotCached { model } => format!("run `quarry model pull {model}` once where the network may be used"),
            Self::Unavailable { .. } => {
                "check the connection and the proxy, name another model, or give the path of a file you have".into()
            }
            Self::NotThere { .. } => {
                "check the spelling; a private or gated model needs a token in HF_TOKEN and its terms accepted".into()
            }
            Self::Damaged { .. } => "the next use of the model removes the file and fetches it again".into(),
            Self::Mismatch { .. } => {
                "the file was removed; try again, and if it stays so do not trust this source".into()
            }
            Self::Endpoint { .. } => "set HF_ENDPOINT to an https:// address, or remove it".into(),
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                "free some space, or choose another cache folder".into()
            }
            Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "check who owns the folder, or choose another cache folder".into()
            }
            Self::Io { .. } => return None,
            Self::Cancelled { .. } => "what has come so far is kept; the next time it goes on from there".into(),
            Self::NonePreferred(errors) => return errors.first().and_then(Self::hint),
        })
    }

    /// Returns why in a few words, for a place where the model has been named already.
    pub fn brief(&self) -> String {
        match self {
            Self::NotCached { .. } => "it is not in the cache, and the network is not to be used".into(),
            Self::Unavailable { attempts, .. } => {
                let brief = |a: &Attempt| a.why.split(": ").next().unwrap_or(&a.why).to_owned();
                attempts.iter().map(brief).collect::<Vec<_>>().join("; ")
            }
            other => other.to_string(),
        }
    }

    /// Returns true where the model merely cannot be had here and now, so that another may be used in its place.
    /// Damage, a bad name and an unusable cache are never such a reason.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::NotCached { .. } | Self::Unavailable { .. })
    }

    pub(super) fn io(model: &str, action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { model: model.into(), action, path: path.into(), source }
    }
}

/// Returns `text` as one line without control characters, cut to a length that still fits a message.
pub(super) fn one_line(text: &str) -> String {
    const LONGEST: usize = 300; // characters
    let flat = text.split(|c: char| c.is_control() || c.is_whitespace()).filter(|w| !w.is_empty());
    let flat = flat.collect::<Vec<_>>().join(" ");
    match flat.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &flat[..end]),
        None => flat,
    }
}

fn looks_like_repo(path: &Path) -> bool {
    let parts: Vec<_> = path.components().collect();
    parts.len() == 2 && parts.iter().all(|p| matches!(p, std::path::Component::Normal(_)))
}

struct Attempts<'a>(&'a [Attempt]);

impl fmt::Display for Attempts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, attempt) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { "; " };
            write!(f, "{separator}{}: {}", attempt.source, attempt.why)?;
        }
        Ok(())
    }
}

struct Each<'a>(&'a [HubError]);

impl fmt::Display for Each<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { "; " };
            write!(f, "{separator}{error}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_however_long_its_cause() {
        let cause = format!("ERROR: no\n\x1b[31mmatching\tdistribution {}", "x".repeat(5000));
        let line = one_line(&cause);
        assert!(line.starts_with("ERROR: no [31mmatching distribution xxx"), "{line}");
        assert!(line.chars().count() <= 301 && !line.contains('\n'));
    }

    #[test]
    fn a_repository_written_as_a_path_is_met_with_the_way_to_write_it() {
        let error = HubError::LocalMissing { path: "ibm-granite/granite-3.1-1b-a400m-instruct".into() };
        assert_eq!(error.hint().unwrap(), "a model of the hub is written hf:ibm-granite/granite-3.1-1b-a400m-instruct");
    }

    #[test]
    fn only_what_cannot_be_had_lets_another_model_take_its_place() {
        assert!(HubError::NotCached { model: "starter".into() }.is_unavailable());
        assert!(HubError::Unavailable { model: "starter".into(), attempts: Vec::new() }.is_unavailable());
        assert!(!HubError::Unknown { name: "strater".into(), suggestion: Some("starter") }.is_unavailable());
        let damaged = HubError::Damaged { model: "m".into(), file: "f".into(), fact: "short".into() };
        assert!(!damaged.is_unavailable());
    }
}
