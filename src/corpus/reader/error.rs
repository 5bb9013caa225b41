//! Why a file could not be read: a closed list of reasons, and one line that names the file and the fact.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A file that gave no document. The run goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadError {
    pub reason: ReadReason,
    pub path: PathBuf,
    /// What is the matter, as the end of a sentence that begins with the file's name. One line.
    pub detail: String,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A line break in a file's name must not make two lines of one error.
        let path = self.path.to_string_lossy().replace(char::is_control, "\u{FFFD}");
        write!(f, "{path} {}", self.detail)
    }
}

impl std::error::Error for ReadError {}

/// The reasons a reader can give, a part of the closed list of the reasons a document can fail for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReadReason {
    Unreadable,
    Encrypted,
    TooLarge,
    NoTextFound,
    TimedOut,
    Permission,
    Missing,
    /// The machine failed and not the file: no descriptor or process was left, a disk erred, a program is missing.
    /// Nothing is known of the file, and it is tried again.
    ReadFailed,
}

impl fmt::Display for ReadReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreadable => "unreadable",
            Self::Encrypted => "encrypted",
            Self::TooLarge => "too large",
            Self::NoTextFound => "no text found",
            Self::TimedOut => "timed out",
            Self::Permission => "permission",
            Self::Missing => "missing",
            Self::ReadFailed => "read failed",
        })
    }
}
