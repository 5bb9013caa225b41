//! The folder of answers: `v1/ab/<key>.json`, each sealed, each written under another name and renamed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::pipeline::events::{Event, Observer};
use crate::pipeline::report::Calls;
use crate::pipeline::sealed;

/// What an eviction leaves, so that not every run has to evict.
const KEPT_SHARE: f64 = 0.9;

/// Half-written entries of runs that were killed are removed when they are this old.
const STALE_PART: Duration = Duration::from_secs(24 * 3600);

/// A folder of answers, shared by any number of runs at once.
pub struct CallCache {
    folder: PathBuf, // `v1/` below the cache folder
    parts: AtomicU64,
    writable: AtomicBool,
    hits: AtomicUsize,
    misses: AtomicUsize,
    damaged: AtomicUsize,
    write_error: OnceLock<String>,
}

impl CallCache {
    /// Opens the cache in `folder`. Where it cannot be written, answers are still read from it, and the error says why.
    pub fn open(folder: &Path) -> (Self, Option<io::Error>) {
        let folder = folder.join("v1");
        let probe = || fs::create_dir_all(&folder).and_then(|()| tempfile::tempfile_in(&folder));
        let error = probe().err();
        let cache = Self {
            folder,
            parts: AtomicU64::new(0),
            writable: AtomicBool::new(error.is_none()),
            hits: AtomicUsize::new(0),
            misses: AtomicUsize::new(0),
            damaged: AtomicUsize::new(0),
            write_error: OnceLock::new(),
        };
        (cache, error)
    }

    /// Returns the cache in `folder` for reading alone: nothing is made and nothing is kept.
    pub fn look(folder: &Path) -> Self {
        Self {
            folder: folder.join("v1"),
            parts: AtomicU64::new(0),
            writable: AtomicBool::new(false),
            hits: AtomicUsize::new(0),
            misses: AtomicUsize::new(0),
            damaged: AtomicUsize::new(0),
            write_error: OnceLock::new(),
        }
    }

    pub fn calls(&self) -> Calls {
        let read = |n: &AtomicUsize| n.load(Ordering::Relaxed);
        Calls { made: read(&self.misses), from_cache: read(&self.hits), damaged: read(&self.damaged) }
    }

    pub(super) fn add_hits(&self, num: usize) {
        self.hits.fetch_add(num, Ordering::Relaxed);
    }

    pub(super) fn add_miss(&self) {
        self.misses.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn path(&self, key: &str) -> PathBuf {
        self.folder.join(&key[..2]).join(format!("{key}.json"))
    }

    pub(in crate::pipeline) fn find<T: for<'de> Deserialize<'de>>(
        &self,
        key: &str,
        observer: &dyn Observer,
    ) -> Option<T> {
        let bytes = fs::read(self.path(key)).ok()?; // not there, or not readable: asked for again
        let found = sealed::open(&bytes).and_then(|body| serde_json::from_str(body).ok());
        if found.is_none() {
            self.damaged.fetch_add(1, Ordering::Relaxed);
            let path = self.path(key);
            observer.on(&Event::Note(&format!("cache entry {} is damaged; the call is made again", path.display())));
        }
        found
    }

    /// Keeps an answer. A cache that cannot be written is said once, and the run goes on without.
    pub(super) fn keep<T: Serialize>(&self, key: &str, answer: &T, observer: &dyn Observer) {
        if !self.writable.load(Ordering::Relaxed) {
            return;
        }
        if let Err(error) = self.write(key, answer)
            && self.writable.swap(false, Ordering::Relaxed)
        {
            let line = format!("cannot write the cache in {}: {error}; going on without it", self.folder.display());
            observer.on(&Event::Note(&line));
            let _ = self.write_error.set(line);
        }
    }

    /// Returns why the cache could no longer be written, if that happened after it was opened.
    pub fn write_error(&self) -> Option<String> {
        self.write_error.get().cloned()
    }

    // Not synced: after a power cut an entry may be empty or short, and then does not open. A kill loses nothing.
    fn write<T: Serialize>(&self, key: &str, answer: &T) -> io::Result<()> {
        let path = self.path(key);
        let number = self.parts.fetch_add(1, Ordering::Relaxed);
        let part = path.with_file_name(format!("part-{}-{number}", std::process::id()));
        fs::create_dir_all(path.parent().unwrap_or(&self.folder))?;
        let text = sealed::seal(&serde_json::to_string(answer)?);
        let written = write_private(&part, text.as_bytes()).and_then(|()| fs::rename(&part, &path));
        if written.is_err() {
            let _ = fs::remove_file(&part);
        }
        written
    }

    /// Removes the oldest entries until the cache holds no more than `bytes_max`, and parts left by killed runs.
    /// Returns how many entries went.
    pub fn evict(&self, bytes_max: u64) -> io::Result<usize> {
        let mut entries = Vec::new(); // (written, bytes, path)
        for bin in fs::read_dir(&self.folder)? {
            let bin = bin?.path();
            if !bin.is_dir() {
                continue;
            }
            for file in fs::read_dir(bin)? {
                let file = file?;
                let Ok(meta) = file.metadata() else { continue }; // evicted by another run just now
                let written = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                let is_part = file.file_name().to_string_lossy().starts_with("part-");
                if is_part && written.elapsed().is_ok_and(|age| age > STALE_PART) {
                    let _ = fs::remove_file(file.path());
                } else if !is_part {
                    entries.push((written, meta.len(), file.path()));
                }
            }
        }
        let mut bytes: u64 = entries.iter().map(|e| e.1).sum();
        if bytes <= bytes_max {
            return Ok(0);
        }
        entries.sort();
        let mut gone = 0;
        for (_, size, path) in entries {
            if bytes as f64 <= bytes_max as f64 * KEPT_SHARE {
                break;
            }
            fs::remove_file(path)?;
            bytes -= size;
            gone += 1;
        }
        Ok(gone)
    }
}

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600); // answers quote documents
    io::Write::write_all(&mut options.open(path)?, bytes)
}
