//! The table of files: what the index holds of each, and what it could not read.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::IndexError;
use super::analysis::Language;
use super::layout::write_durably;

/// Every file that was met, by its name in the index.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FileTable {
    pub files: BTreeMap<String, FileEntry>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FileEntry {
    pub sha256: String, // of the bytes that were read
    pub bytes: u64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub language: String,
    pub first_row: u64, // rows are numbers of passages, each given out once
    pub num_passages: u64,
    /// What the reader dropped, repaired or doubted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    #[serde(flatten)]
    pub state: FileState,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum FileState {
    Indexed,
    /// It holds nothing that can be found, and why.
    Failed {
        why: String,
    },
}

impl FileTable {
    pub fn num_passages(&self) -> u64 {
        self.files.values().map(|f| f.num_passages).sum()
    }

    /// Returns how many passages there are in each language, the commonest first; `None` stands for all others.
    pub fn languages(&self) -> Vec<(Option<Language>, u64)> {
        let mut counts: BTreeMap<Option<Language>, u64> = BTreeMap::new();
        for file in self.files.values().filter(|f| f.num_passages > 0) {
            *counts.entry(Language::of_code(&file.language)).or_default() += file.num_passages;
        }
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by_key(|(language, n)| (std::cmp::Reverse(*n), *language));
        counts
    }

    /// Writes the table under the hash of its bytes and returns its name.
    pub(super) fn write(&self, folder: &Path) -> Result<String, IndexError> {
        let bytes = serde_json::to_vec(self).map_err(|e| IndexError::damaged(folder, e.to_string()))?;
        let name = format!("{}.json", blake3::hash(&bytes).to_hex());
        let path = folder.join(&name);
        if !path.exists() {
            write_durably(&path, |file| std::io::Write::write_all(file, &bytes))?;
        }
        Ok(name)
    }

    /// Reads a table and holds its bytes against its name.
    pub(super) fn read(folder: &Path, name: &str) -> Result<Self, IndexError> {
        let path = folder.join(name);
        let bytes = fs::read(&path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => IndexError::damaged(folder, format!("files/{name} is missing")),
            _ => IndexError::io(&path, e),
        })?;
        if format!("{}.json", blake3::hash(&bytes).to_hex()) != name {
            return Err(IndexError::damaged(folder, format!("files/{name} is not what was written")));
        }
        serde_json::from_slice(&bytes).map_err(|e| IndexError::damaged(folder, format!("files/{name}: {e}")))
    }
}
