//! What is told while a model is being had. Knows facts and numbers; whoever listens decides what is shown.

use std::path::Path;
use std::time::Duration;

/// Something that happened; strings are ready to be shown.
#[derive(Clone, Debug, PartialEq)]
pub enum Event<'a> {
    /// A source is being asked.
    Connecting { model: &'a str, source: &'a str },
    /// Bytes of `file` so far; the first call of a resumed download says where it goes on.
    Downloading { model: &'a str, file: &'a str, done: u64, total: u64 },
    /// The package client is running and does not say how far it is.
    Packaging { model: &'a str, package: &'a str, bytes: Option<u64>, elapsed: Duration },
    /// A file is being read through to compute its SHA-256.
    Verifying { model: &'a str, file: &'a str, bytes: u64 },
    /// A failure that is not the end of the download.
    Retrying { model: &'a str, file: &'a str, why: &'a str, wait: Duration },
    /// Another process is fetching the same model; this one waits for it.
    WaitingForLock { model: &'a str, lock: &'a Path },
    /// A source of this model could not give it; the next one is asked.
    FallingBack { model: &'a str, from: &'a str, to: &'a str, why: &'a str },
    /// A damaged file of the cache is removed and fetched again.
    Replacing { model: &'a str, file: &'a str, fact: &'a str },
    /// All files are in place.
    Ready { model: &'a str, source: &'a str },
}

/// Listens to a download, and may end it. Called from the thread that called the hub.
pub trait Observer {
    fn on(&self, event: &Event<'_>);

    /// Returns true once the work is no longer wanted; asked several times a second.
    fn cancelled(&self) -> bool {
        false
    }
}

/// Hears nothing.
pub struct Silent;

impl Observer for Silent {
    fn on(&self, _event: &Event<'_>) {}
}
