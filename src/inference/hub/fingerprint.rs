//! SHA-256 of files, and the stamp that says whether a file may have changed since it was hashed.
//! One hash everywhere, because it is the one that model repositories publish. Knows bytes, no models.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What the file system says about a file without reading it. Equal stamps are taken to mean equal bytes; that is a
/// hint and no proof, which is why `verify` never looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    pub bytes: u64,
    pub modified_ns: u64, // since 1970; 0 where the file system does not say
    pub inode: u64,       // 0 where there is none
}

impl Stamp {
    pub(super) fn of(metadata: &Metadata) -> Self {
        let modified = metadata.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok());
        let modified_ns = modified.map_or(0, |d| u64::try_from(d.as_nanos()).unwrap_or(0));
        Self { bytes: metadata.len(), modified_ns, inode: inode(metadata) }
    }

    /// Returns true where a write just now could leave the stamp as it is: clocks of file systems tick coarsely,
    /// so a file that is younger than two seconds is hashed again rather than trusted.
    pub(super) fn is_too_young(self) -> bool {
        let modified = UNIX_EPOCH + Duration::from_nanos(self.modified_ns);
        SystemTime::now().duration_since(modified).map_or(true, |age| age < Duration::from_secs(2))
    }
}

#[cfg(unix)]
fn inode(metadata: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn inode(_metadata: &Metadata) -> u64 {
    0
}

/// A SHA-256 that grows with the bytes, and knows how many they were.
#[derive(Clone, Default)]
pub(super) struct Hasher {
    state: Sha256,
    bytes: u64,
}

impl Hasher {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.state.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn finish(self) -> String {
        hex(&self.state.finalize())
    }
}

/// Reads `reader` to its end into a hasher. `go_on` is asked between blocks; false ends it with `Interrupted`.
pub(super) fn hash(reader: &mut impl Read, go_on: &dyn Fn() -> bool) -> io::Result<Hasher> {
    let mut hasher = Hasher::default();
    let mut block = vec![0; BLOCK];
    loop {
        if !go_on() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        match reader.read(&mut block) {
            Ok(0) => return Ok(hasher),
            Ok(n) => hasher.update(&block[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// Returns length and SHA-256 of a file.
pub(super) fn hash_file(path: &Path, go_on: &dyn Fn() -> bool) -> io::Result<(u64, String)> {
    let hasher = hash(&mut File::open(path)?, go_on)?;
    Ok((hasher.bytes(), hasher.finish()))
}

/// Returns one digest for a model: of a single file its own SHA-256, so that it can be compared with what is
/// published; of several the SHA-256 over the lines `name sha256`, in the order of the names.
pub(super) fn digest_of<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut files: Vec<_> = files.into_iter().collect();
    if let [(_, sha256)] = files[..] {
        return sha256.to_owned();
    }
    files.sort_unstable();
    let mut hasher = Hasher::default();
    for (name, sha256) in files {
        hasher.update(format!("{name} {sha256}\n").as_bytes());
    }
    hasher.finish()
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Large enough that hashing is limited by the hash, small enough for the second-level cache.
pub(super) const BLOCK: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_published_one() {
        let hasher = hash(&mut &b"abc"[..], &|| true).unwrap();
        assert_eq!(hasher.bytes(), 3);
        assert_eq!(hasher.finish(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn one_file_keeps_its_own_hash_and_several_do_not_depend_on_their_order() {
        assert_eq!(digest_of([("a.gguf", "12ab")]), "12ab");
        assert_eq!(digest_of([("b", "2"), ("a", "1")]), digest_of([("a", "1"), ("b", "2")]));
        assert_ne!(digest_of([("b", "1"), ("a", "2")]), digest_of([("a", "1"), ("b", "2")]));
    }
}
