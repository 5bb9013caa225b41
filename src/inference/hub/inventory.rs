//! What the store holds, without asking any network: for `quarry model list`, `path` and `verify`.

use std::fs;
use std::path::{Path, PathBuf};

use super::catalogue::{CATALOGUE, CatalogueEntry, ModelUse};
use super::local;
use super::resolve::{Found, ModelKind, Recipe, cached, model_files};
use super::store::{self, FileRecord, Manifest, Shelf};
use super::{HubError, Observer, Options, Reference, Silent};

/// A model of the catalogue, or one of the store that is not in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub name: String,
    pub entry: Option<&'static CatalogueEntry>,
    pub cached: Vec<Cached>, // one for each source it was had from
}

impl Listed {
    pub fn usage(&self) -> Option<ModelUse> {
        self.entry.map(|e| e.usage)
    }
}

/// A model as it lies in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cached {
    pub folder: PathBuf,
    pub bytes: u64,
    pub source: String,
    pub revision: String,
    pub fetched: String,        // RFC 3339
    pub damage: Option<String>, // file and fact, as far as lengths and earlier checks show it
}

/// A model whose every byte has been read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verification {
    pub name: String,
    pub path: PathBuf, // of the GGUF, or of the folder
    pub source: String,
    pub files: Vec<FileRecord>,
    pub digest: String,
}

/// Returns the catalogue in its order, then what else is in the store by name.
pub fn list(cache: &Path) -> Vec<Listed> {
    let stored = store::manifests(cache);
    let cached_of = |name: &str| {
        let of_name = stored.iter().filter(|(_, m)| m.name == name);
        of_name.map(|(folder, manifest)| describe(folder, manifest)).collect()
    };
    let of_catalogue =
        CATALOGUE.iter().map(|e| Listed { name: e.name.into(), entry: Some(e), cached: cached_of(e.name) });
    let mut others: Vec<_> = stored.iter().map(|(_, m)| m.name.as_str()).collect();
    others.retain(|name| CATALOGUE.iter().all(|e| e.name != *name));
    others.sort_unstable();
    others.dedup();
    let others = others.into_iter().map(|n| Listed { name: n.into(), entry: None, cached: cached_of(n) });
    of_catalogue.chain(others).collect()
}

/// Returns where a model lies: its GGUF, or its folder. It must be there already: nothing is fetched.
pub fn path(reference: &str, options: &Options) -> Result<PathBuf, HubError> {
    let parsed = Reference::parse(reference)?;
    if let Reference::Local(path) = &parsed {
        return local::path(reference, path);
    }
    let (shelf, version, manifest) = in_store(reference, &parsed, options, &Silent)?;
    Ok(path_of(model_files(&shelf, &version, manifest).kind))
}

/// Reads every file of a model and compares it with what was fetched. Nothing is fetched; a damaged file is an error,
/// and the next `resolve` replaces it.
pub fn verify(reference: &str, options: &Options, observer: &dyn Observer) -> Result<Verification, HubError> {
    let parsed = Reference::parse(reference)?;
    let model = if let Reference::Local(path) = &parsed {
        local::verify(reference, path, options, observer)?
    } else {
        let (shelf, version, manifest) = in_store(reference, &parsed, options, observer)?;
        let manifest = shelf.verify(&version, manifest, observer)?;
        model_files(&shelf, &version, manifest)
    };
    Ok(Verification {
        name: model.name,
        path: path_of(model.kind),
        source: model.provenance.source,
        files: model.provenance.files,
        digest: model.digest,
    })
}

fn in_store(
    reference: &str,
    parsed: &Reference,
    options: &Options,
    observer: &dyn Observer,
) -> Result<(Shelf, String, Manifest), HubError> {
    let recipe = Recipe::of(reference, parsed);
    let shelf = Shelf::new(&options.cache, &recipe.name);
    match cached(&shelf, &recipe, observer)? {
        Found::Good(version, manifest) => Ok((shelf, version, manifest)),
        Found::Damaged(error) => Err(error),
        Found::Nothing => Err(HubError::NotCached { model: recipe.name }),
    }
}

fn path_of(kind: ModelKind) -> PathBuf {
    match kind {
        ModelKind::Gguf { path } => path,
        ModelKind::Safetensors { folder, .. } => folder,
    }
}

fn describe(folder: &Path, manifest: &Manifest) -> Cached {
    let shown = |file: &str, fact: &str| format!("{file} {fact}");
    let known = manifest.damage.as_ref().map(|d| shown(&d.file, &d.fact));
    let has_length = |r: &FileRecord| fs::metadata(folder.join(&r.name)).is_ok_and(|m| m.len() == r.bytes);
    let short = manifest.files.iter().find(|f| !has_length(&f.record));
    Cached {
        folder: folder.into(),
        bytes: manifest.bytes(),
        source: manifest.source.clone(),
        revision: manifest.revision.clone(),
        fetched: manifest.fetched.clone(),
        damage: known.or_else(|| short.map(|f| shown(&f.record.name, "is missing or has another length"))),
    }
}
