//! Models that the user has: a GGUF file or a safetensors folder, given by path. Nothing is copied or fetched; the
//! digest is computed once and remembered beside the cache as a hint.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::fingerprint::{self, Stamp};
use super::resolve::{ModelFiles, ModelKind, Provenance, digest};
use super::store::{FileRecord, hash_or_cancel, models_folder};
use super::{Event, HubError, Observer, Options};

/// What stands beside the weights and belongs to the model.
pub(super) const SIDE_FILES: &[&str] = &[
    "added_tokens.json",
    "chat_template.jinja",
    "config.json",
    "config_sentence_transformers.json",
    "generation_config.json",
    "merges.txt",
    "model.safetensors.index.json",
    "modules.json",
    "sentence_bert_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
];

/// Returns the model at `path`; its digest comes from the hint of an earlier call where the files are unchanged.
pub(super) fn resolve(
    name: &str,
    path: &Path,
    options: &Options,
    observer: &dyn Observer,
) -> Result<ModelFiles, HubError> {
    let found = find(name, path)?;
    let mut files = Vec::new();
    for file in &found.files {
        files.push(record(name, &found.folder, file, options, observer)?);
    }
    Ok(found.into_model(name, files))
}

/// Reads every file of a local model through, whatever the hints say. A file that has other bytes than the hint, with
/// the same stamp, is damaged.
pub(super) fn verify(
    name: &str,
    path: &Path,
    options: &Options,
    observer: &dyn Observer,
) -> Result<ModelFiles, HubError> {
    let found = find(name, path)?;
    let mut files = Vec::new();
    for file in &found.files {
        let path = found.folder.join(file);
        let stamp = stamp_of(name, &path)?;
        let record = hash(name, file, &path, observer)?;
        let hint = Hint::read(&options.cache, &path).filter(|h| h.stamp == stamp);
        if let Some(hint) = hint.filter(|h| h.sha256 != record.sha256) {
            Hint::forget(&options.cache, &path);
            let fact = format!("has SHA-256 {} and had {}, though its time did not change", record.sha256, hint.sha256);
            return Err(HubError::Damaged { model: name.into(), file: path, fact });
        }
        Hint { path, stamp, sha256: record.sha256.clone() }.write(&options.cache);
        files.push(record);
    }
    Ok(found.into_model(name, files))
}

/// Returns the path of a local model: of the GGUF, or of the folder.
pub(super) fn path(name: &str, path: &Path) -> Result<PathBuf, HubError> {
    let found = find(name, path)?;
    Ok(if found.is_gguf { found.folder.join(&found.files[0]) } else { found.folder })
}

/// A local model: where it is and what belongs to it.
struct Found {
    folder: PathBuf, // canonical
    files: Vec<String>,
    is_gguf: bool,
    source: &'static str,
}

impl Found {
    fn into_model(self, name: &str, files: Vec<FileRecord>) -> ModelFiles {
        let digest = digest(&files);
        let kind = if self.is_gguf {
            ModelKind::Gguf { path: self.folder.join(&self.files[0]) }
        } else {
            ModelKind::Safetensors { folder: self.folder, files: self.files.iter().map(PathBuf::from).collect() }
        };
        let provenance = Provenance { source: self.source.into(), revision: String::new(), files, fetched: None };
        ModelFiles { name: name.into(), kind, provenance, digest }
    }
}

fn find(name: &str, path: &Path) -> Result<Found, HubError> {
    let canonical = fs::canonicalize(path).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => HubError::LocalMissing { path: path.into() },
        _ => HubError::io(name, "find", path, e),
    })?;
    let metadata = fs::metadata(&canonical).map_err(|e| HubError::io(name, "look at", path, e))?;
    let unusable = |fact: &str| Err(HubError::LocalUnusable { path: path.into(), fact: fact.into() });
    if metadata.is_dir() {
        return find_in_folder(name, path, canonical);
    }
    if !metadata.is_file() {
        return unusable("is neither a file nor a folder");
    }
    // A link to `model.gguf` may lead to a blob without a suffix, and the other way round.
    let is_named_gguf = [path, &canonical].iter().any(|p| p.extension().is_some_and(|e| e == "gguf"));
    if !is_named_gguf && !starts_as_gguf(&canonical) {
        return unusable("is not a GGUF file; a safetensors model is given by its folder");
    }
    match (canonical.parent(), canonical.file_name().and_then(|n| n.to_str())) {
        (Some(folder), Some(file)) => {
            Ok(Found { folder: folder.into(), files: vec![file.into()], is_gguf: true, source: "local file" })
        }
        _ => unusable("has a name that is not Unicode"),
    }
}

fn find_in_folder(name: &str, path: &Path, folder: PathBuf) -> Result<Found, HubError> {
    let entries = fs::read_dir(&folder).map_err(|e| HubError::io(name, "list", path, e))?;
    let names = entries.flatten().filter_map(|e| e.file_name().into_string().ok());
    let mut names: Vec<_> = names.filter(|n| folder.join(n).is_file()).collect();
    names.sort();
    let has = |suffix: &str| names.iter().any(|n| n.ends_with(suffix));
    let unusable = |fact: String| HubError::LocalUnusable { path: path.into(), fact };
    if has(".safetensors") {
        if !names.iter().any(|n| n == "config.json") {
            return Err(unusable("has safetensors but no config.json".into()));
        }
        names.retain(|n| n.ends_with(".safetensors") || SIDE_FILES.contains(&n.as_str()));
        return Ok(Found { folder, files: names, is_gguf: false, source: "local folder" });
    }
    names.retain(|n| n.ends_with(".gguf"));
    match names.len() {
        0 => Err(unusable("holds neither safetensors nor a GGUF file".into())),
        1 => Ok(Found { folder, files: names, is_gguf: true, source: "local file" }),
        n => Err(unusable(format!("holds {n} GGUF files; name one of them, such as {}", names[0]))),
    }
}

fn starts_as_gguf(path: &Path) -> bool {
    let mut magic = [0; 4];
    File::open(path).and_then(|mut f| f.read_exact(&mut magic)).is_ok() && magic == *b"GGUF"
}

fn record(
    name: &str,
    folder: &Path,
    file: &str,
    options: &Options,
    observer: &dyn Observer,
) -> Result<FileRecord, HubError> {
    let path = folder.join(file);
    let stamp = stamp_of(name, &path)?;
    if let Some(hint) = Hint::read(&options.cache, &path).filter(|h| h.stamp == stamp) {
        return Ok(FileRecord { name: file.into(), bytes: stamp.bytes, sha256: hint.sha256 });
    }
    let record = hash(name, file, &path, observer)?;
    Hint { path, stamp, sha256: record.sha256.clone() }.write(&options.cache);
    Ok(record)
}

fn hash(name: &str, file: &str, path: &Path, observer: &dyn Observer) -> Result<FileRecord, HubError> {
    let bytes = stamp_of(name, path)?.bytes;
    observer.on(&Event::Verifying { model: name, file, bytes });
    let (bytes, sha256) = hash_or_cancel(name, path, observer)?;
    Ok(FileRecord { name: file.into(), bytes, sha256 })
}

fn stamp_of(name: &str, path: &Path) -> Result<Stamp, HubError> {
    fs::metadata(path).map(|m| Stamp::of(&m)).map_err(|e| HubError::io(name, "look at", path, e))
}

/// The hash of a file outside the cache, as of its stamp. Losing one costs a reading of the file.
#[derive(Serialize, Deserialize)]
struct Hint {
    path: PathBuf, // canonical
    stamp: Stamp,
    sha256: String,
}

impl Hint {
    fn read(cache: &Path, path: &Path) -> Option<Self> {
        let hint: Self = serde_json::from_slice(&fs::read(Self::place(cache, path)).ok()?).ok()?;
        (hint.path == path && hint.sha256.len() == 64).then_some(hint)
    }

    /// Not written where a change right now could leave the stamp as it is, and not where the cache is read-only.
    fn write(&self, cache: &Path) {
        if self.stamp.is_too_young() {
            return;
        }
        let place = Self::place(cache, &self.path);
        let written = || -> io::Result<()> {
            let folder = place.parent().unwrap_or(Path::new("."));
            fs::create_dir_all(folder)?;
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            file.write_all(&serde_json::to_vec(self)?)?;
            file.persist(&place).map_err(|e| e.error)?;
            Ok(())
        };
        let _ = written(); // a hint
    }

    fn forget(cache: &Path, path: &Path) {
        let _ = fs::remove_file(Self::place(cache, path)); // a hint
    }

    fn place(cache: &Path, path: &Path) -> PathBuf {
        let mut hasher = fingerprint::Hasher::default();
        hasher.update(path.as_os_str().as_encoded_bytes());
        models_folder(cache).join(".local").join(format!("{}.json", hasher.finish()))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::{Duration, SystemTime};

    use super::*;

    /// Counts how often a file is read through.
    #[derive(Default)]
    struct Readings(Cell<u32>);

    impl Observer for Readings {
        fn on(&self, event: &Event<'_>) {
            if matches!(event, Event::Verifying { .. }) {
                self.0.set(self.0.get() + 1);
            }
        }
    }

    fn write_old(path: &Path, bytes: &[u8]) {
        fs::write(path, bytes).unwrap();
        let hour_ago = SystemTime::now() - Duration::from_secs(3600);
        File::options().write(true).open(path).unwrap().set_modified(hour_ago).unwrap();
    }

    fn resolve_at(path: &Path, cache: &Path, observer: &dyn Observer) -> Result<ModelFiles, HubError> {
        resolve("mine", path, &Options::new(cache), observer)
    }

    #[test]
    fn a_file_is_hashed_once_and_again_when_it_has_changed() {
        let folder = tempfile::tempdir().unwrap();
        let (model, cache) = (folder.path().join("a.gguf"), folder.path().join("cache"));
        write_old(&model, b"GGUF abc");
        let readings = Readings::default();
        let first = resolve_at(&model, &cache, &readings).unwrap();
        assert_eq!(resolve_at(&model, &cache, &readings).unwrap(), first);
        assert_eq!(readings.0.get(), 1);
        assert!(matches!(&first.kind, ModelKind::Gguf { path } if path.ends_with("a.gguf")));
        assert_eq!(first.digest, first.provenance.files[0].sha256);

        fs::write(&model, b"GGUF abd").unwrap();
        let second = resolve_at(&model, &cache, &readings).unwrap();
        assert_ne!(second.digest, first.digest);
        // Just written: the hint is not trusted, so it is read again.
        resolve_at(&model, &cache, &readings).unwrap();
        assert_eq!(readings.0.get(), 3);
    }

    #[test]
    fn a_folder_is_its_weights_and_what_belongs_to_them() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["config.json", "tokenizer.json", "model.safetensors", "notes.txt", "optimizer.pt"] {
            write_old(&folder.path().join(name), name.as_bytes());
        }
        let cache = tempfile::tempdir().unwrap();
        let found = resolve_at(folder.path(), cache.path(), &Readings::default()).unwrap();
        let ModelKind::Safetensors { files, .. } = &found.kind else { panic!("{found:?}") };
        assert_eq!(files, &["config.json", "model.safetensors", "tokenizer.json"].map(PathBuf::from));
        fs::write(folder.path().join("notes.txt"), "more notes").unwrap();
        assert_eq!(resolve_at(folder.path(), cache.path(), &Readings::default()).unwrap().digest, found.digest);
    }

    #[test]
    fn what_is_no_model_is_refused_by_name_and_fact() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("cache");
        let refused = |path: &Path| resolve_at(path, &cache, &Readings::default()).unwrap_err().to_string();
        assert!(refused(&folder.path().join("none.gguf")).ends_with("none.gguf\": there is no such file or folder"));
        assert!(refused(folder.path()).ends_with("holds neither safetensors nor a GGUF file"));
        fs::write(folder.path().join("model.safetensors"), b"x").unwrap();
        assert!(refused(folder.path()).ends_with("has safetensors but no config.json"));
        assert!(refused(&folder.path().join("model.safetensors")).contains("given by its folder"));
    }

    #[test]
    fn a_read_only_cache_costs_only_time() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("a.gguf");
        write_old(&model, b"GGUF abc");
        fs::write(folder.path().join("cache"), b"a file where the folder should be").unwrap();
        let readings = Readings::default();
        for _ in 0..2 {
            resolve_at(&model, &folder.path().join("cache"), &readings).unwrap();
        }
        assert_eq!(readings.0.get(), 2);
    }

    #[test]
    fn verifying_finds_a_change_that_kept_the_time() {
        let folder = tempfile::tempdir().unwrap();
        let (model, cache) = (folder.path().join("a.gguf"), folder.path().join("cache"));
        write_old(&model, b"GGUF abc");
        resolve_at(&model, &cache, &Readings::default()).unwrap();
        let modified = fs::metadata(&model).unwrap().modified().unwrap();
        let file = File::options().write(true).open(&model).unwrap();
        (&file).write_all(b"GGUF abd").unwrap();
        file.set_modified(modified).unwrap();
        let check = || verify("mine", &model, &Options::new(&cache), &Readings::default());
        let error = check().unwrap_err();
        assert!(error.to_string().contains("though its time did not change"), "{error}");
        check().unwrap(); // the hint is gone: these are the bytes from now on
    }
}
