//! Looks for damage: every file against its checksum, and what the parts say of each other.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::disk::{DiskIndex, open_text};
use super::layout::Layout;
use super::{IndexError, Stats};

/// What a look through an index has found.
#[derive(Clone, Debug, Serialize)]
pub struct Health {
    pub damage: Vec<String>, // a line for each finding; empty when all is sound
    pub stats: Option<Stats>,
}

/// Reads an index through. Damage is no error here: it is what was asked for.
pub fn check(folder: &Path) -> Result<Health, IndexError> {
    let layout = Layout::new(folder);
    let mut damage = Vec::new();
    match layout.settings() {
        Ok(_) => {}
        Err(IndexError::Damaged { fact, .. }) => damage.push(fact),
        Err(error) => return Err(error),
    }
    // A damaged file may make the engine stumble: the checksums come first, and a stumble is a finding too.
    let caught =
        |what: &str, look: &dyn Fn() -> Result<Vec<String>, IndexError>| match catch_unwind(AssertUnwindSafe(look)) {
            Ok(Ok(found)) => found,
            Ok(Err(IndexError::Damaged { fact, .. })) => vec![fact],
            Ok(Err(error)) => vec![error.to_string()],
            Err(_) => vec![format!("{what} cannot be read")],
        };
    damage.extend(caught("text", &|| text_damage(&layout)));
    let mut stats = None;
    if damage.is_empty() {
        match catch_unwind(AssertUnwindSafe(|| DiskIndex::open(folder))) {
            Ok(Ok(index)) => {
                damage.extend(caught("vectors", &|| Ok(consistency(&index))));
                stats = Some(index.stats());
            }
            Ok(Err(IndexError::Damaged { fact, .. })) => damage.push(fact),
            Ok(Err(error)) => return Err(error),
            Err(_) => damage.push("it cannot be opened".into()),
        }
    }
    damage.sort();
    damage.dedup();
    Ok(Health { damage, stats })
}

fn text_damage(layout: &Layout) -> Result<Vec<String>, IndexError> {
    let (index, ..) = open_text(layout)?;
    let metas = index.load_metas().map_err(|e| IndexError::text(&layout.folder, e))?;
    // What a killed writer left beside the segments of the commit is nobody's, and may be half written.
    let living: HashSet<String> = metas.segments.iter().map(|s| s.id().uuid_string()).collect();
    let deletions: HashSet<String> = metas
        .segments
        .iter()
        .filter_map(|s| Some(format!("{}.{}.del", s.id().uuid_string(), s.delete_opstamp()?)))
        .collect();
    let folder = layout.text();
    let io = |e| IndexError::io(&folder, e);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&folder).map_err(io)? {
        let path = PathBuf::from(entry.map_err(io)?.file_name());
        let name = path.to_string_lossy().into_owned();
        let is_of_commit = match name.ends_with(".del") {
            true => deletions.contains(&name),
            false => living.contains(name.split('.').next().unwrap_or_default()),
        };
        if is_of_commit {
            files.push(path);
        }
    }
    let is_damaged = |path: &PathBuf| {
        // One flip may hit what the check itself reads: it then fails, or stumbles.
        let checked = catch_unwind(AssertUnwindSafe(|| index.directory().validate_checksum(path)));
        !matches!(checked, Ok(Ok(true)))
    };
    let damaged = files.iter().filter(|path| is_damaged(path));
    Ok(damaged.map(|path| format!("text/{} is not what was written", path.display())).collect())
}

/// What the parts of a sound index say of each other.
fn consistency(index: &DiskIndex) -> Vec<String> {
    let mut found = Vec::new();
    let (listed, held) = (index.table().num_passages(), index.num_documents());
    if listed != held {
        found.push(format!("the table of files tells of {listed} passages, the text holds {held}"));
    }
    for segment in index.segments().iter().filter(|s| !s.verify()) {
        found.push(format!("vectors/{} is not what was written", segment.name()));
    }
    if let Some(missing) = index.without_vectors().filter(|n| *n > 0) {
        found.push(format!("{missing} passages have no vector"));
    }
    found
}
