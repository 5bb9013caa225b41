//! What can be wrong with an index: facts, each with its place.

use std::io;
use std::path::{Path, PathBuf};

use tantivy::TantivyError;
use tantivy::directory::error::{OpenDirectoryError, OpenReadError, OpenWriteError};

#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    #[error("there is no index in {}", path.display())]
    Missing { path: PathBuf },
    /// Nothing in the folder may be touched: it is somebody's.
    #[error("{} is no index: {fact}", path.display())]
    NotAnIndex { path: PathBuf, fact: String },
    #[error("another process is writing the index in {}", path.display())]
    Locked { path: PathBuf },
    #[error("the index in {} is damaged: {fact}", path.display())]
    Damaged { path: PathBuf, fact: String },
    /// Sound, and not what was asked for: of another version, or made with other settings.
    #[error("the index in {} {fact}", path.display())]
    Mismatch { path: PathBuf, fact: String },
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("embedding failed: {0}")]
    Embedding(String),
    #[error("the call was cancelled")]
    Cancelled,
}

impl IndexError {
    pub(super) fn damaged(path: &Path, fact: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), fact: fact.into() }
    }

    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }

    /// What the text engine says, put in our words; `path` is the index's folder.
    pub(super) fn text(path: &Path, error: TantivyError) -> Self {
        if let TantivyError::InternalError(fact) = &error
            && let Some(source) = os_error(fact)
        {
            return Self::io(path, source);
        }
        match error {
            TantivyError::LockFailure(..) => Self::Locked { path: path.to_owned() },
            TantivyError::IoError(source)
            | TantivyError::OpenReadError(OpenReadError::IoError { io_error: source, .. })
            | TantivyError::OpenWriteError(OpenWriteError::IoError { io_error: source, .. })
            | TantivyError::OpenDirectoryError(OpenDirectoryError::IoError { io_error: source, .. }) => {
                Self::Io { path: path.to_owned(), source: io::Error::new(source.kind(), source.to_string()) }
            }
            other => Self::damaged(path, one_line(&other.to_string())),
        }
    }
}

/// Where a disk is full, the text engine gives the system's error as words.
fn os_error(fact: &str) -> Option<io::Error> {
    let number = fact.rsplit_once("(os error ")?.1.split(')').next()?;
    number.parse::<i32>().ok().map(io::Error::from_raw_os_error)
}

pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
