//! From a name to files that may be read: the cache first, then the sources in their order.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::catalogue::{CatalogueFile, Source};
use super::fetch;
use super::fingerprint;
use super::local;
use super::package::Package;
use super::store::{FileRecord, Manifest, Shelf};
use super::unavailable;
use super::{HubError, Network, Observer, Options, Reference};

/// A model that is there: its files checked, and where they came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelFiles {
    pub name: String, // as it was asked for
    pub kind: ModelKind,
    pub provenance: Provenance,
    /// Of a single file its SHA-256; of several the SHA-256 over the lines `name sha256`, names in order.
    pub digest: String,
}

impl ModelFiles {
    /// Returns true for files that the user has, false for those that were fetched into the cache.
    pub fn is_local(&self) -> bool {
        self.provenance.fetched.is_none()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelKind {
    Gguf {
        path: PathBuf,
    },
    /// `files` are all files of the model, relative to `folder`.
    Safetensors {
        folder: PathBuf,
        files: Vec<PathBuf>,
    },
}

/// Where a model came from, for a record's provenance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    pub source: String, // `model hub owner/repo`, `Python package name==version`, `local file`, `local folder`
    pub revision: String, // a commit or a version; empty for what is local
    pub files: Vec<FileRecord>,
    pub fetched: Option<String>, // RFC 3339
}

/// Returns the files of the model named by `reference`, fetching them if they are not in the cache.
///
/// A cached model is given out after a `stat` of each file, without any connection. A damaged file of the cache is an
/// error that names it; the next call removes it and fetches it again. A branch of the hub stays at the commit that
/// was fetched first: to follow it, name a commit. That the model could not be had a moment ago plays no part here,
/// and is forgotten.
pub fn resolve(reference: &str, options: &Options, observer: &dyn Observer) -> Result<ModelFiles, HubError> {
    let parsed = Reference::parse(reference)?;
    if options.network == Network::Allowed {
        unavailable::forget(options, reference);
    }
    let recipe = match &parsed {
        Reference::Local(path) => return local::resolve(reference, path, options, observer),
        parsed => Recipe::of(reference, parsed),
    };
    let shelf = Shelf::new(&options.cache, &recipe.name);
    match (cached(&shelf, &recipe, observer)?, options.network) {
        (Found::Good(version, manifest), _) => Ok(model_files(&shelf, &version, manifest)),
        (Found::Damaged(error), Network::Forbidden) => Err(error),
        (Found::Nothing, Network::Forbidden) => Err(HubError::NotCached { model: recipe.name }),
        (Found::Damaged(_) | Found::Nothing, Network::Allowed) => fetch::fetch(&shelf, &recipe, options, observer),
    }
}

/// What is to be fetched, and from where, whether it has a name in the catalogue or not.
pub(super) struct Recipe<'a> {
    pub name: String,
    pub origins: Vec<Origin<'a>>,  // in the order they are asked
    pub pins: &'a [CatalogueFile], // empty: what the hub says the repository holds
    #[cfg_attr(not(feature = "hub"), allow(dead_code, reason = "only the hub has files without pins"))]
    pub file: Option<&'a str>, // without pins: this one alone
}

/// A place to ask.
pub(super) enum Origin<'a> {
    Hub { repo: &'a str, revision: &'a str },
    Package(Package<'a>),
}

impl<'a> Recipe<'a> {
    /// Returns what to do for a reference that is not local.
    pub(super) fn of(text: &str, reference: &'a Reference) -> Self {
        match reference {
            Reference::Catalogue(entry) => Self {
                name: entry.name.into(),
                origins: entry.sources.iter().map(Origin::of).collect(),
                pins: entry.files,
                file: None,
            },
            Reference::Hub(hub) => Self {
                name: text.into(),
                origins: vec![Origin::Hub { repo: &hub.repo, revision: hub.revision.as_deref().unwrap_or("main") }],
                pins: &[],
                file: hub.file.as_deref(),
            },
            Reference::Local(path) => unreachable!("{} is local and needs no fetching", path.display()),
        }
    }

    /// Returns true where the manifest holds exactly the files that are pinned, as a newer catalogue may no longer.
    fn accepts(&self, manifest: &Manifest) -> bool {
        let records = || manifest.files.iter().map(|f| &f.record);
        let is_pinned = |pin: &CatalogueFile| {
            let found = records().find(|r| r.name == pin.name);
            found.is_some_and(|r| r.bytes == pin.bytes && pin.sha256.is_none_or(|s| s == r.sha256))
        };
        self.pins.is_empty() || (records().count() == self.pins.len() && self.pins.iter().all(is_pinned))
    }
}

impl Origin<'static> {
    fn of(source: &Source) -> Self {
        match *source {
            Source::Hub { repo, revision } => Self::Hub { repo, revision },
            Source::Package { name, version, folder, wheel_bytes } => {
                Self::Package(Package { name, version, folder, wheel_bytes })
            }
        }
    }
}

impl Origin<'_> {
    /// The name of the folder in the store.
    pub(super) fn version(&self) -> String {
        match self {
            Self::Hub { revision, .. } => (*revision).into(),
            Self::Package(package) => format!("{}-{}", package.name, package.version),
        }
    }

    /// The source as it is shown.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Hub { repo, .. } => fetch::hub_name(repo),
            Self::Package(package) => package.shown(),
        }
    }
}

/// What the cache holds.
pub(super) enum Found {
    Good(String, Manifest), // the version's name
    Damaged(HubError),      // known from an earlier look
    Nothing,
}

/// Looks through the cache, in the order of the sources. Damage that is found only now is an error.
pub(super) fn cached(shelf: &Shelf, recipe: &Recipe<'_>, observer: &dyn Observer) -> Result<Found, HubError> {
    let mut found = Found::Nothing;
    for version in recipe.origins.iter().map(Origin::version) {
        match shelf.manifest(&version).filter(|m| recipe.accepts(m)) {
            Some(Manifest { damage: Some(damage), .. }) => {
                let file = shelf.version(&version).join(&damage.file);
                found = Found::Damaged(HubError::Damaged { model: shelf.model.clone(), file, fact: damage.fact });
            }
            Some(manifest) => return Ok(Found::Good(version.clone(), shelf.check(&version, manifest, observer)?)),
            None => {}
        }
    }
    Ok(found)
}

pub(super) fn model_files(shelf: &Shelf, version: &str, manifest: Manifest) -> ModelFiles {
    let folder = shelf.version(version);
    let digest = manifest.digest();
    let files: Vec<_> = manifest.files.into_iter().map(|f| f.record).collect();
    ModelFiles {
        name: manifest.name,
        kind: kind_of(folder, &files),
        provenance: Provenance {
            source: manifest.source,
            revision: manifest.revision,
            files,
            fetched: Some(manifest.fetched),
        },
        digest,
    }
}

/// One GGUF is a model by itself; everything else is a folder.
pub(super) fn kind_of(folder: PathBuf, files: &[FileRecord]) -> ModelKind {
    match files {
        [file] if file.name.ends_with(".gguf") => ModelKind::Gguf { path: folder.join(&file.name) },
        files => ModelKind::Safetensors { folder, files: files.iter().map(|f| PathBuf::from(&f.name)).collect() },
    }
}

/// Returns the digest of a model from its files.
pub(super) fn digest(files: &[FileRecord]) -> String {
    fingerprint::digest_of(files.iter().map(|f| (f.name.as_str(), f.sha256.as_str())))
}
