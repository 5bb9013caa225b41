//! Where an index lies: one folder with a marker, text, vectors and the table of files. Names and locks, no content.
//!
//! ```text
//! INDEX/quarry-index.json   what it is, and how it was made
//! INDEX/.lock               held by the one writer; its lock dies with the process
//! INDEX/text/               tantivy's
//! INDEX/vectors/*.qvec      written before the commit that names them
//! INDEX/files/*.json        the table of files, named by its hash, likewise
//! ```

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::IndexError;
use super::analysis::ANALYSIS;

/// The layout of folder and files: goes up when an older quarry could not read them.
pub const FORMAT: u32 = 1;

/// What the reader and the chunker make of a file's bytes: goes up when an older quarry would have made other passages
/// of them, for files are read again only when their bytes change.
const READING: u32 = 1;

const MARKER: &str = "quarry-index.json";

/// How an index is made: with other settings it is another index.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    pub read: Value,              // how files are read
    pub split: Value,             // how they are cut
    pub embedder: Option<String>, // name and digest
    /// What filters can ask for beside what every document has: names, and what they are of a document.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub fields: Value,
    /// What is read: kept for whoever updates the index without saying it again.
    #[serde(default)]
    pub from: Value,
}

impl Settings {
    /// Returns what differs in a way that makes old passages unlike new ones.
    fn difference(&self, other: &Self) -> Option<&'static str> {
        if self.read != other.read {
            Some("was made with other reading options")
        } else if self.split != other.split {
            Some("was cut in another way")
        } else if self.embedder != other.embedder {
            Some("has the vectors of another model, or none")
        } else if self.fields != other.fields {
            Some("has other fields for filters")
        } else {
            None
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Marker {
    quarry_index: u32, // the format
    analysis: u32,
    #[serde(default)]
    reading: u32,
    settings: Settings,
}

pub(super) struct Layout {
    pub folder: PathBuf,
}

impl Layout {
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    pub fn text(&self) -> PathBuf {
        self.folder.join("text")
    }

    pub fn vectors(&self) -> PathBuf {
        self.folder.join("vectors")
    }

    pub fn files(&self) -> PathBuf {
        self.folder.join("files")
    }

    /// Returns how the index was made, if there is one that this version reads.
    pub fn settings(&self) -> Result<Settings, IndexError> {
        let path = self.folder.join(MARKER);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(IndexError::Missing { path: self.folder.clone() });
            }
            Err(error) => return Err(IndexError::io(&path, error)),
        };
        let marker: Marker =
            serde_json::from_str(&text).map_err(|e| IndexError::damaged(&self.folder, format!("{MARKER}: {e}")))?;
        let mismatch = |fact: String| Err(IndexError::Mismatch { path: self.folder.clone(), fact });
        if marker.quarry_index != FORMAT {
            return mismatch(format!("has the format {}, this quarry reads {FORMAT}", marker.quarry_index));
        }
        if marker.analysis != ANALYSIS {
            return mismatch(format!("was made by analysis {}, this quarry has {ANALYSIS}", marker.analysis));
        }
        if marker.reading != READING {
            return mismatch(format!("was read by reading {}, this quarry has {READING}", marker.reading));
        }
        Ok(marker.settings)
    }

    /// Makes the folder an index, or checks that it is the one meant. A folder that holds anything else is refused.
    pub fn prepare(&self, settings: &Settings) -> Result<(), IndexError> {
        match self.settings() {
            Ok(old) => match old.difference(settings) {
                Some(fact) => {
                    return Err(IndexError::Mismatch { path: self.folder.clone(), fact: fact.to_owned() });
                }
                None if old == *settings => {}
                None => self.write_marker(settings)?,
            },
            Err(IndexError::Missing { .. }) => {
                self.refuse_strangers()?;
                self.write_marker(settings)?;
            }
            Err(error) => return Err(error),
        }
        for folder in [self.text(), self.vectors(), self.files()] {
            fs::create_dir_all(&folder).map_err(|e| IndexError::io(&folder, e))?;
        }
        Ok(())
    }

    fn write_marker(&self, settings: &Settings) -> Result<(), IndexError> {
        let marker = Marker { quarry_index: FORMAT, analysis: ANALYSIS, reading: READING, settings: settings.clone() };
        let text =
            serde_json::to_string_pretty(&marker).map_err(|e| IndexError::damaged(&self.folder, e.to_string()))?;
        write_durably(&self.folder.join(MARKER), |file| file.write_all(text.as_bytes()))
    }

    /// Our own names are all that may be there.
    fn refuse_strangers(&self) -> Result<(), IndexError> {
        const OURS: &[&str] = &[".lock", "text", "vectors", "files"];
        let io = |e| IndexError::io(&self.folder, e);
        for entry in fs::read_dir(&self.folder).map_err(io)? {
            let name = entry.map_err(io)?.file_name();
            let name = name.to_string_lossy();
            if !OURS.contains(&name.as_ref()) && !name.starts_with(MARKER) {
                let fact = format!("it holds {name}; an index needs a folder of its own");
                return Err(IndexError::NotAnIndex { path: self.folder.clone(), fact });
            }
        }
        Ok(())
    }

    /// Removes the index's content and its marker; a folder of somebody else's is refused.
    pub fn clear(&self) -> Result<(), IndexError> {
        if !self.folder.join(MARKER).exists() {
            return self.refuse_strangers();
        }
        // The marker last: a killed removal leaves a folder that still says what it is.
        for folder in [self.text(), self.vectors(), self.files()] {
            match fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(IndexError::io(&folder, error)),
                _ => {}
            }
        }
        let marker = self.folder.join(MARKER);
        fs::remove_file(&marker).map_err(|e| IndexError::io(&marker, e))
    }

    /// Takes the writer's lock, making the folder if need be.
    pub fn lock(&self) -> Result<File, IndexError> {
        fs::create_dir_all(&self.folder).map_err(|e| IndexError::io(&self.folder, e))?;
        let path = self.folder.join(".lock");
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|e| IndexError::io(&path, e))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(IndexError::Locked { path: self.folder.clone() }),
            Err(TryLockError::Error(error)) => Err(IndexError::io(&path, error)),
        }
    }
}

/// Writes a file so that it is either there whole or not at all, also after the power went.
pub(super) fn write_durably(
    path: &Path,
    write: impl FnOnce(&mut io::BufWriter<&File>) -> io::Result<()>,
) -> Result<(), IndexError> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        panic!("{} has no folder or no name", path.display());
    };
    let part = folder.join(format!("{}.part", name.to_string_lossy()));
    let written = (|| {
        let file = File::create(&part)?;
        let mut buffer = io::BufWriter::with_capacity(1 << 16, &file);
        write(&mut buffer)?;
        buffer.flush()?;
        drop(buffer);
        file.sync_all()?;
        fs::rename(&part, path)?;
        File::open(folder)?.sync_all()
    })();
    written.map_err(|source| IndexError::io(path, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_somebodys_is_neither_used_nor_cleared() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("thesis.txt"), "mine").unwrap();
        let layout = Layout::new(folder.path());
        assert!(matches!(layout.prepare(&Settings::default()), Err(IndexError::NotAnIndex { .. })));
        assert!(matches!(layout.clear(), Err(IndexError::NotAnIndex { .. })));
        assert!(folder.path().join("thesis.txt").exists());
    }

    #[test]
    fn other_settings_and_other_versions_are_said() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        layout.prepare(&Settings::default()).unwrap();
        let other = Settings { embedder: Some("minilm".into()), ..Settings::default() };
        assert!(layout.prepare(&other).unwrap_err().to_string().contains("vectors"));
        let marker = fs::read_to_string(folder.path().join(MARKER)).unwrap();
        fs::write(folder.path().join(MARKER), marker.replace("\"quarry_index\": 1", "\"quarry_index\": 99")).unwrap();
        assert!(layout.settings().unwrap_err().to_string().contains("format 99"));
        // One from before readings were counted, too.
        fs::write(folder.path().join(MARKER), marker.replace("\"reading\": 1,", "")).unwrap();
        assert!(layout.settings().unwrap_err().to_string().contains("read by reading 0"));
        layout.clear().unwrap();
        assert!(matches!(layout.settings(), Err(IndexError::Missing { .. })));
    }
}
