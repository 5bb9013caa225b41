//! The folder where fetched models are kept: `<cache>/models/<name>/<version>/` with the files and a `manifest.json`
//! that is written last, so that a folder without one holds nothing that may be used.
//! Knows names, lengths and digests; fetches nothing.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::fingerprint::{self, Stamp};
use super::{Event, HubError, Observer};

const MANIFEST: &str = "manifest.json";

/// A file of a model: its name relative to the model's folder, with `/`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    pub name: String,
    pub bytes: u64,
    pub sha256: String, // lower-case hex
}

/// What a folder of the store holds, and where it came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub format: u32,
    pub name: String,
    pub source: String,   // as shown: `model hub owner/repo`
    pub revision: String, // the commit or the package's version
    pub files: Vec<StoredFile>,
    pub fetched: String, // RFC 3339
    /// Set when a file was found not to be what was fetched; cleared by fetching it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damage: Option<Damage>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredFile {
    #[serde(flatten)]
    pub record: FileRecord,
    pub stamp: Stamp,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Damage {
    pub file: String,
    pub fact: String,
}

impl Manifest {
    pub(super) const FORMAT: u32 = 1;

    pub(super) fn digest(&self) -> String {
        fingerprint::digest_of(self.files.iter().map(|f| (f.record.name.as_str(), f.record.sha256.as_str())))
    }

    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|f| f.record.bytes).sum()
    }
}

/// The shelf of one model: all its versions, and the lock that lets one process at a time fetch it.
#[derive(Clone, Debug)]
pub(super) struct Shelf {
    pub model: String,
    pub folder: PathBuf,
}

impl Shelf {
    pub(super) fn new(cache: &Path, model: &str) -> Self {
        Self { model: model.into(), folder: models_folder(cache).join(folder_name(model)) }
    }

    /// The folder of one version, whether it exists or not.
    pub(super) fn version(&self, version: &str) -> PathBuf {
        self.folder.join(folder_name(version))
    }

    /// Where unfinished downloads wait; swept when one has succeeded.
    pub(super) fn partial(&self) -> PathBuf {
        self.folder.join(".partial")
    }

    /// Returns what a version's folder holds; a manifest that cannot be read counts as none, and is fetched anew.
    pub(super) fn manifest(&self, version: &str) -> Option<Manifest> {
        let manifest = read_manifest(&self.version(version))?;
        (manifest.name == self.model).then_some(manifest)
    }

    /// Checks each file's length, and its SHA-256 where its stamp has changed since it was fetched.
    /// Damage is written down, so that the next fetch replaces the file, and returned.
    pub(super) fn check(
        &self,
        version: &str,
        mut manifest: Manifest,
        observer: &dyn Observer,
    ) -> Result<Manifest, HubError> {
        let folder = self.version(version);
        let mut restamped = false;
        for i in 0..manifest.files.len() {
            let file = &manifest.files[i];
            let path = folder.join(&file.record.name);
            let stamp = fs::metadata(&path).map(|m| Stamp::of(&m));
            match stamp {
                Ok(stamp) if stamp == file.stamp => {}
                Ok(stamp) if stamp.bytes == file.record.bytes => {
                    if let Some(fact) = self.rehash(&path, &file.record, observer)? {
                        return Err(self.damaged(version, manifest, i, fact));
                    }
                    manifest.files[i].stamp = stamp;
                    restamped = true;
                }
                Ok(stamp) => {
                    let fact = format!("has {} bytes instead of {}", stamp.bytes, file.record.bytes);
                    return Err(self.damaged(version, manifest, i, fact));
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    return Err(self.damaged(version, manifest, i, "is missing".into()));
                }
                Err(e) => return Err(HubError::io(&self.model, "look at", &path, e)),
            }
        }
        if restamped {
            // Only a hint for next time: a read-only cache is as good, but slower.
            let _ = write_manifest(&folder, &manifest);
        }
        Ok(manifest)
    }

    /// Reads every file through. Damage is written down and returned.
    pub(super) fn verify(
        &self,
        version: &str,
        manifest: Manifest,
        observer: &dyn Observer,
    ) -> Result<Manifest, HubError> {
        let manifest = self.check(version, manifest, observer)?;
        for i in 0..manifest.files.len() {
            let record = &manifest.files[i].record;
            if let Some(fact) = self.rehash(&self.version(version).join(&record.name), record, observer)? {
                return Err(self.damaged(version, manifest, i, fact));
            }
        }
        Ok(manifest)
    }

    /// Waits until this process alone may fetch the model. The lock is the system's: a process that dies lets go.
    pub(super) fn lock(&self, observer: &dyn Observer) -> Result<Lock, HubError> {
        const LOOK_AGAIN: Duration = Duration::from_millis(100);
        let path = self.folder.join(".lock");
        create_folder(&self.model, &self.folder)?;
        let file = File::options().create(true).append(true).open(&path);
        let file = file.map_err(|e| HubError::io(&self.model, "open", &path, e))?;
        let mut told = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Lock { _file: file }),
                Err(TryLockError::WouldBlock) => {
                    if !told {
                        observer.on(&Event::WaitingForLock { model: &self.model, lock: &path });
                        told = true;
                    }
                    if observer.cancelled() {
                        return Err(HubError::Cancelled { model: self.model.clone() });
                    }
                    thread::sleep(LOOK_AGAIN);
                }
                Err(TryLockError::Error(e)) => return Err(HubError::io(&self.model, "lock", &path, e)),
            }
        }
    }

    fn rehash(&self, path: &Path, record: &FileRecord, observer: &dyn Observer) -> Result<Option<String>, HubError> {
        observer.on(&Event::Verifying { model: &self.model, file: &record.name, bytes: record.bytes });
        let (bytes, sha256) = hash_or_cancel(&self.model, path, observer)?;
        Ok(if bytes != record.bytes {
            Some(format!("has {bytes} bytes instead of {}", record.bytes))
        } else if sha256 != record.sha256 {
            Some(format!("has SHA-256 {sha256} instead of {}", record.sha256))
        } else {
            None
        })
    }

    fn damaged(&self, version: &str, mut manifest: Manifest, index: usize, fact: String) -> HubError {
        let folder = self.version(version);
        let name = manifest.files[index].record.name.clone();
        let file = folder.join(&name);
        manifest.damage = Some(Damage { file: name, fact: fact.clone() });
        // Where this cannot be written the file is found damaged again next time, which is as true.
        let _ = write_manifest(&folder, &manifest);
        HubError::Damaged { model: self.model.clone(), file, fact }
    }
}

/// Returns length and SHA-256 of a file, unless the observer ends it.
pub(super) fn hash_or_cancel(model: &str, path: &Path, observer: &dyn Observer) -> Result<(u64, String), HubError> {
    fingerprint::hash_file(path, &|| !observer.cancelled()).map_err(|e| match e.kind() {
        io::ErrorKind::Interrupted => HubError::Cancelled { model: model.into() },
        _ => HubError::io(model, "read", path, e),
    })
}

/// Held while a model is being fetched.
pub(super) struct Lock {
    _file: File,
}

pub(super) fn models_folder(cache: &Path) -> PathBuf {
    cache.join("models")
}

/// Returns every finished manifest of the store with its folder, in the order of the folders' names.
pub(super) fn manifests(cache: &Path) -> Vec<(PathBuf, Manifest)> {
    let folders = |path: &Path| {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        let mut paths: Vec<_> = entries.map(|e| e.path()).filter(|p| p.is_dir()).collect();
        paths.sort();
        paths
    };
    let versions = folders(&models_folder(cache)).into_iter().flat_map(|model| folders(&model));
    versions.filter_map(|folder| read_manifest(&folder).map(|m| (folder, m))).collect()
}

pub(super) fn create_folder(model: &str, path: &Path) -> Result<(), HubError> {
    fs::create_dir_all(path).map_err(|e| HubError::io(model, "create", path, e))
}

/// Writes the manifest whole or not at all.
pub(super) fn write_manifest(folder: &Path, manifest: &Manifest) -> io::Result<()> {
    let mut text = serde_json::to_vec_pretty(manifest)?;
    text.push(b'\n');
    let mut file = tempfile::Builder::new().prefix(".manifest-").tempfile_in(folder)?;
    file.write_all(&text)?;
    file.as_file().sync_all()?;
    file.persist(folder.join(MANIFEST)).map_err(|e| e.error)?;
    sync_folder(folder)
}

pub(super) fn remove_manifest(folder: &Path) -> io::Result<()> {
    match fs::remove_file(folder.join(MANIFEST)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Makes a finished file visible under its name, durably. Both must be on one file system.
pub(super) fn put_in_place(from: &Path, to: &Path) -> io::Result<()> {
    let folder = to.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    fs::rename(from, to)?;
    sync_folder(folder)
}

#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_folder: &Path) -> io::Result<()> {
    Ok(()) // a folder cannot be opened there; the rename is as durable as the system makes it
}

fn read_manifest(folder: &Path) -> Option<Manifest> {
    const LONGEST: u64 = 4 << 20; // bytes; a manifest of a thousand files is a quarter of a megabyte
    let path = folder.join(MANIFEST);
    if fs::metadata(&path).ok()?.len() > LONGEST {
        return None;
    }
    let manifest: Manifest = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    let names_stay_inside = manifest.files.iter().all(|f| super::reference::is_safe_relative(&f.record.name));
    (manifest.format == Manifest::FORMAT && !manifest.files.is_empty() && names_stay_inside).then_some(manifest)
}

/// Returns a folder's name for a model or a version: readable, and safe on every file system.
pub(super) fn folder_name(text: &str) -> String {
    let mut name = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '/' | ':' => name.push_str("--"),
            c if c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-') => name.push(c),
            c => name.extend(c.to_string().bytes().map(|b| format!("%{b:02X}"))),
        }
    }
    // A leading dot is reserved for what is no version, and "." and ".." are no names at all.
    if let Some(rest) = name.strip_prefix('.') { format!("%2E{rest}") } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::hub::Silent;

    /// A shelf with one model of one file, as a fetch leaves it.
    fn shelf_with(bytes: &[u8]) -> (tempfile::TempDir, Shelf, PathBuf) {
        let cache = tempfile::tempdir().unwrap();
        let shelf = Shelf::new(cache.path(), "m");
        let folder = shelf.version("v1");
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("a.gguf");
        fs::write(&path, bytes).unwrap();
        let (bytes, sha256) = fingerprint::hash_file(&path, &|| true).unwrap();
        let record = FileRecord { name: "a.gguf".into(), bytes, sha256 };
        let manifest = Manifest {
            format: Manifest::FORMAT,
            name: "m".into(),
            source: "test".into(),
            revision: "v1".into(),
            files: vec![StoredFile { record, stamp: Stamp::of(&fs::metadata(&path).unwrap()) }],
            fetched: "2025-01-01T00:00:00Z".into(),
            damage: None,
        };
        write_manifest(&folder, &manifest).unwrap();
        (cache, shelf, path)
    }

    fn check(shelf: &Shelf) -> Result<Manifest, HubError> {
        shelf.check("v1", shelf.manifest("v1").unwrap(), &Silent)
    }

    #[test]
    fn a_truncated_file_is_found_and_written_down() {
        let (_cache, shelf, path) = shelf_with(b"weights");
        check(&shelf).unwrap();
        fs::write(&path, b"weig").unwrap();
        let error = check(&shelf).unwrap_err();
        assert!(error.to_string().ends_with("a.gguf: has 4 bytes instead of 7"), "{error}");
        assert_eq!(shelf.manifest("v1").unwrap().damage.unwrap().file, "a.gguf");
    }

    #[test]
    fn a_file_of_the_same_length_written_later_is_hashed_again() {
        let (_cache, shelf, path) = shelf_with(b"weights");
        std::thread::sleep(Duration::from_millis(20));
        fs::write(&path, b"weighty").unwrap();
        let error = check(&shelf).unwrap_err();
        assert!(error.to_string().contains("has SHA-256 "), "{error}");
    }

    #[test]
    fn a_restored_cache_is_hashed_once_and_trusted_again() {
        let (_cache, shelf, path) = shelf_with(b"weights");
        std::thread::sleep(Duration::from_millis(20));
        fs::write(&path, b"weights").unwrap(); // same bytes, new stamp
        let checked = check(&shelf).unwrap();
        assert_eq!(checked.files[0].stamp, Stamp::of(&fs::metadata(&path).unwrap()));
        assert_eq!(shelf.manifest("v1").unwrap(), checked);
    }

    #[test]
    fn verifying_finds_a_bit_that_no_stamp_shows() {
        let (_cache, shelf, path) = shelf_with(b"weights");
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        (&file).write_all(b"xeights").unwrap();
        file.set_modified(modified).unwrap();
        check(&shelf).unwrap();
        let error = shelf.verify("v1", shelf.manifest("v1").unwrap(), &Silent).unwrap_err();
        assert!(matches!(error, HubError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains("a.gguf: has SHA-256 "), "{error}");
    }

    #[test]
    fn a_manifest_that_was_tampered_with_is_no_manifest() {
        let (_cache, shelf, _) = shelf_with(b"weights");
        let path = shelf.version("v1").join(MANIFEST);
        let good = fs::read_to_string(&path).unwrap();
        for bad in
            ["", "{", "[]", &good.replace("a.gguf", "../a.gguf"), &good.replace("\"format\": 1", "\"format\": 9")]
        {
            fs::write(&path, bad).unwrap();
            assert!(shelf.manifest("v1").is_none(), "{bad}");
        }
    }

    #[test]
    fn folder_names_are_safe_everywhere() {
        assert_eq!(folder_name("granite:q8_0"), "granite--q8_0");
        assert_eq!(folder_name("hf:o/r"), "hf--o--r");
        assert_eq!(folder_name(".."), "%2E.");
        assert_eq!(folder_name("a b\u{fc}"), "a%20b%C3%BC");
    }

    #[test]
    fn the_second_of_two_waits_says_so_and_goes_on() {
        struct Told(std::sync::mpsc::Sender<()>);
        impl Observer for Told {
            fn on(&self, event: &Event<'_>) {
                if matches!(event, Event::WaitingForLock { .. }) {
                    self.0.send(()).unwrap();
                }
            }
        }
        let cache = tempfile::tempdir().unwrap();
        let shelf = Shelf::new(cache.path(), "m");
        let first = shelf.lock(&Silent).unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let second = {
            let shelf = shelf.clone();
            thread::spawn(move || shelf.lock(&Told(tell)).map(|_| ()))
        };
        told.recv_timeout(Duration::from_secs(10)).unwrap();
        drop(first);
        second.join().unwrap().unwrap();
    }
}
