//! A model from the hub: which of a repository's files it is made of, and each of them brought or kept.

use std::fs::{self, File};
use std::path::Path;

use super::catalogue::CatalogueFile;
use super::download::{DownloadError, SourceError, Wanted, download};
use super::error::one_line;
use super::fetch::{finish, hub_name, keep, record_of};
use super::local::SIDE_FILES;
use super::remote::{ConnectError, Remote, RemoteFile};
use super::resolve::Recipe;
use super::store::{self, FileRecord, Manifest, Shelf, StoredFile};
use super::{Event, HubError, Observer, Options};

/// Brings all files of the recipe into the store, from the commit that the revision stands for right now.
pub(super) fn fetch(
    shelf: &Shelf,
    recipe: &Recipe<'_>,
    repo: &str,
    revision: &str,
    options: &Options,
    observer: &dyn Observer,
) -> Result<Manifest, DownloadError> {
    let remote = Remote::new(options).map_err(|e| match e {
        ConnectError::Refused(error) => DownloadError::Final(error),
        ConnectError::Failed(error) => DownloadError::Source(error),
    })?;
    let commit = remote.commit(repo, revision, observer)?;
    let files = match (recipe.pins, recipe.file) {
        ([], None) => choose(repo, remote.listing(repo, &commit, observer)?)?,
        ([], Some(file)) => remote.describe(repo, &commit, &[file], observer)?,
        (pins, _) => {
            let names: Vec<_> = pins.iter().map(|p| p.name).collect();
            let files = remote.describe(repo, &commit, &names, observer)?;
            files.iter().zip(pins).try_for_each(|(file, pin)| agree(file, pin))?;
            files
        }
    };
    store::create_folder(&shelf.model, &shelf.partial())?;
    let mut stored = Vec::new();
    for file in &files {
        let pin = recipe.pins.iter().find(|p| p.name == file.name).and_then(|p| p.sha256);
        stored.push(bring(shelf, revision, &remote, repo, &commit, file, pin, options, observer)?);
    }
    Ok(finish(shelf, revision, &hub_name(repo), &commit, stored)?)
}

/// Brings one file, or keeps the one that an interrupted fetch has left in place.
#[expect(clippy::too_many_arguments, reason = "what, whence, whither, and under which conditions")]
fn bring(
    shelf: &Shelf,
    version: &str,
    remote: &Remote,
    repo: &str,
    commit: &str,
    file: &RemoteFile,
    pin: Option<&str>,
    options: &Options,
    observer: &dyn Observer,
) -> Result<StoredFile, DownloadError> {
    let model = &shelf.model;
    let place = shelf.version(version).join(&file.name);
    if fs::metadata(&place).is_ok_and(|m| m.len() == file.bytes) {
        observer.on(&Event::Verifying { model, file: &file.name, bytes: file.bytes });
        let (bytes, sha256) = store::hash_or_cancel(model, &place, observer)?;
        if bytes == file.bytes && is_right(model, file, pin, &sha256, &place)? {
            return Ok(record_of(model, FileRecord { name: file.name.clone(), bytes, sha256 }, &place)?);
        }
    }
    let part = shelf.partial().join(format!("{}.part", file.id()));
    let mut source = remote.source(repo, commit, file);
    let wanted = Wanted { model, file: &file.name, bytes: file.bytes, sha256: pin };
    let sha256 = download(&mut source, &wanted, &part, &options.limits, observer)?;
    if !is_right(model, file, pin, &sha256, &part)? {
        fs::remove_file(&part).map_err(|e| HubError::io(model, "remove", &part, e))?;
        return Err(DownloadError::Final(HubError::Mismatch {
            model: model.clone(),
            source_name: hub_name(repo),
            file: file.name.clone(),
            fact: format!("is not the file that commit {commit} names (its SHA-256 is {sha256})"),
        }));
    }
    let record = FileRecord { name: file.name.clone(), bytes: file.bytes, sha256 };
    Ok(keep(shelf, version, record, &part)?)
}

/// A pin decides where there is one; else the id that git has for the content.
fn is_right(model: &str, file: &RemoteFile, pin: Option<&str>, sha256: &str, path: &Path) -> Result<bool, HubError> {
    if let Some(pin) = pin {
        return Ok(pin == sha256);
    }
    let checked = File::open(path).and_then(|mut bytes| file.is_content(sha256, &mut bytes));
    checked.map_err(|e| HubError::io(model, "read", path, e))
}

/// A repository whose file is not the one of the catalogue cannot give it; that is known before the first byte.
fn agree(file: &RemoteFile, pin: &CatalogueFile) -> Result<(), SourceError> {
    if file.bytes != pin.bytes {
        let (name, found, expected) = (pin.name, file.bytes, pin.bytes);
        return Err(SourceError::NotThere(format!("its {name} has {found} bytes instead of {expected}")));
    }
    match pin.sha256.and_then(|sha256| file.agrees_with(sha256)) {
        Some(false) => Err(SourceError::NotThere(format!("its {} is another file than the one known", pin.name))),
        _ => Ok(()),
    }
}

/// Chooses the files of a model from all that a repository holds at its top.
fn choose(repo: &str, listing: Vec<RemoteFile>) -> Result<Vec<RemoteFile>, SourceError> {
    let has = |name: &str| listing.iter().any(|f| f.name == name);
    let is_weights = |f: &RemoteFile| match has("model.safetensors.index.json") {
        true => is_shard(&f.name),
        false => f.name == "model.safetensors",
    };
    if has("config.json") && listing.iter().any(is_weights) {
        let is_side = |f: &RemoteFile| SIDE_FILES.contains(&f.name.as_str());
        let mut files: Vec<_> = listing.iter().filter(|f| is_side(f) || is_weights(f)).cloned().collect();
        files.sort_by(|a, b| a.name.cmp(&b.name));
        return Ok(files);
    }
    let mut gguf: Vec<_> = listing.into_iter().filter(|f| f.name.ends_with(".gguf")).collect();
    match gguf.len() {
        0 => Err(SourceError::NotThere("it holds neither a GGUF file nor config.json with safetensors".into())),
        1 => Ok(gguf),
        _ => {
            gguf.sort_by_key(|f| f.bytes);
            let names: Vec<_> = gguf.iter().map(|f| f.name.as_str()).collect();
            let first = names[0];
            let names = one_line(&names.join(", "));
            Err(SourceError::NotThere(format!("name one of its GGUF files, as in hf:{repo}/{first}: {names}")))
        }
    }
}

/// Returns true for the name of one piece of weights in several files: `model-00001-of-00002.safetensors`.
fn is_shard(name: &str) -> bool {
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    let numbers = name.strip_prefix("model-").and_then(|n| n.strip_suffix(".safetensors"));
    numbers.and_then(|n| n.split_once("-of-")).is_some_and(|(i, n)| digits(i) && digits(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_is_told_from_other_weights() {
        assert!(is_shard("model-00001-of-00002.safetensors"));
        assert!(!is_shard("model.safetensors"));
        assert!(!is_shard("consolidated-00001-of-00002.safetensors"));
        assert!(!is_shard("model-a-of-b.safetensors"));
    }
}
