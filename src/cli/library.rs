//! The indexes that steps can name, brought up to their files: of a pipeline, or of the folder that is asked.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;

use super::Failure;
use super::embedder::ResidentEmbedder;
use super::index::{Listed, Unbrought, bring, files, summary, tell_failed, tell_warnings};
use super::options::{Settings, Verbosity};
use super::print;
use crate::corpus::index::{self, DiskIndex, Embed, IndexError, Retriever, UpdateReport};
use crate::inference::engine::CancelToken;
use crate::pipeline::plan::Plan;
use crate::steps::{Library, Reason, StepError};

/// Indexes by name, each as of one commit.
#[derive(Default)]
pub struct Shelves {
    shelves: BTreeMap<String, Shelf>,
    /// Files that could not be read, over all indexes.
    pub num_failed: usize,
}

struct Shelf {
    index: DiskIndex,
    embedder: Option<ResidentEmbedder>,
}

impl Shelves {
    /// Brings every index of a plan up to its files and opens it.
    pub fn of_plan(plan: &Plan, cancel: &CancelToken, settings: &Settings) -> Result<Self, Failure> {
        let mut shelves = Self::default();
        for wanted in &plan.indexes {
            let loaded = wanted.embedder.as_deref().map(|n| ResidentEmbedder::load(n, settings)).transpose();
            let embedder = match loaded {
                // Said, and part of what documents depend on: with the vectors there they are done again.
                Err(failure) if wanted.when_available => {
                    let why = failure.diagnostics.iter().map(|d| d.message.as_str()).collect::<Vec<_>>().join("; ");
                    let note = format!("index {}: without vectors, found by words alone: {why}", wanted.name);
                    print::note(&print::shown(&note));
                    None
                }
                other => other?,
            };
            let source = &wanted.source;
            let file = std::path::absolute(&plan.file).unwrap_or_else(|_| plan.file.clone());
            let key = format!("{}\0{}", file.display(), wanted.name);
            let settings_of_index = index::Settings {
                read: source.read.clone(),
                split: wanted.split.clone(),
                embedder: embedder.as_ref().map(|e| e.id().to_owned()),
                fields: wanted.fields.clone(),
                from: json!({ "paths": source.patterns, "base": plan.folder }),
            };
            let listed = files(source.clone(), &plan.folder)?;
            shelves.add(&wanted.name, &key, settings_of_index, listed, embedder, false, cancel, settings)?;
        }
        Ok(shelves)
    }

    /// Brings one index up to date, in a folder of the cache that `key` names, and opens it.
    #[expect(clippy::too_many_arguments, reason = "two callers, and every one of them is a different thing")]
    pub fn add(
        &mut self,
        name: &str,
        key: &str,
        wanted: index::Settings,
        listed: Listed,
        embedder: Option<ResidentEmbedder>,
        fresh: bool,
        cancel: &CancelToken,
        settings: &Settings,
    ) -> Result<(), Failure> {
        let key = blake3::hash(key.as_bytes()).to_hex();
        let folder = settings.cache_dir()?.join("indexes").join(&key[..24]);
        let quiet = settings.verbosity == Verbosity::Quiet;
        let brought = match bring(&folder, &wanted, listed.clone(), embedder.as_ref(), fresh, cancel, settings) {
            // It is a copy of what its files hold: made anew without asking, and said.
            Err(Unbrought::Index(error @ (IndexError::Damaged { .. } | IndexError::Mismatch { .. }))) => {
                if !quiet {
                    print::note(&print::shown(&format!("{error}; made anew")));
                }
                bring(&folder, &wanted, listed, embedder.as_ref(), true, cancel, settings)?
            }
            other => other?,
        };
        let report = &brought.report;
        if report.stopped {
            return Err(IndexError::Cancelled.into());
        }
        if !quiet {
            tell(name, report, brought.seconds);
            tell_warnings(report);
            brought.notes.iter().for_each(|note| print::note(&print::shown(note)));
        }
        tell_failed(report);
        self.num_failed += report.failed.len();
        self.shelves.insert(name.to_owned(), Shelf { index: DiskIndex::open(Path::new(&folder))?, embedder });
        Ok(())
    }

    fn shelf(&self, name: &str) -> Result<&Shelf, StepError> {
        // Checked with the pipeline; another name is a bug of ours, but no reason to end a run.
        let missing = || StepError { reason: Reason::Missing, detail: format!("there is no index `{name}`") };
        self.shelves.get(name).ok_or_else(missing)
    }
}

fn tell(name: &str, report: &UpdateReport, seconds: f64) {
    if report.read > 0 || report.removed > 0 {
        print::note(&print::shown(&format!("index {name}: {}", summary(report, seconds))));
    }
}

impl Library for Shelves {
    fn digest(&self) -> String {
        self.shelves.iter().map(|(name, shelf)| format!("{name} {}\n", shelf.index.digest())).collect()
    }

    fn retriever(&self, name: &str) -> Result<&dyn Retriever, StepError> {
        Ok(&self.shelf(name)?.index)
    }

    fn question(&self, name: &str, text: &str) -> Result<Option<Vec<f32>>, StepError> {
        let failed = |detail| StepError { reason: Reason::EngineFailed, detail };
        self.shelf(name)?.embedder.as_ref().map(|e| e.question(text)).transpose().map_err(failed)
    }
}
