//! Where a run writes, decided before anything is read: the folder of each output, the state folder, and their locks.
//!
//! An output's root is the part of its path that no document and no run decides. State stands in
//! `<root of the first output>/.quarry/<pipeline>/` unless a folder is given; every root has a `.quarry/` with the
//! lock and with the half-written files, which are thereby on the same file system and never among the outputs.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::disk::Disk;
use super::evaluate::Scope;
use super::plan::{OutputContent, OutputPlan, Plan};
use super::sink::file_names::safe_name;

/// Folders and locks of one run.
pub struct Places {
    pub state: PathBuf,
    pub targets: Vec<Target>, // one per output of the plan
    locks: Vec<File>,         // let go when this is dropped, or by the death of the process
}

/// Where one output goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub root: PathBuf,
    pub kind: TargetKind,
    /// The folder for half-written files, in the root's own state: one of its own for each shard.
    pub parts: String,
}

/// A part of the inputs that one of several processes does, which share nothing but the folders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    pub index: usize, // from 0
    pub of: usize,
}

impl Shard {
    /// Whether a document belongs to it: by its name alone, so that listing anew moves nothing.
    pub fn holds(self, document: &str) -> bool {
        let hash = blake3::hash(document.as_bytes());
        let mut first = [0; 8];
        first.copy_from_slice(&hash.as_bytes()[..8]);
        u64::from_le_bytes(first) % self.of as u64 == self.index as u64
    }

    fn folder(self) -> String {
        format!("shard-{}-of-{}", self.index + 1, self.of)
    }

    /// Returns the shard whose state stands in a folder of that name.
    pub fn of_folder(name: &str) -> Option<Self> {
        let (index, of) = name.strip_prefix("shard-")?.split_once("-of-")?;
        let (index, of) = (index.parse::<usize>().ok()?.checked_sub(1)?, of.parse().ok()?);
        (index < of).then_some(Self { index, of })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetKind {
    /// A file per document: the templates of the folders below `root`, and of the file, each one name.
    Pages { names: Vec<String> },
    /// One file for all documents.
    Table { path: PathBuf },
}

impl Target {
    /// Returns the folder for half-written files of this output.
    pub fn parts(&self) -> PathBuf {
        self.root.join(STATE_FOLDER).join(&self.parts)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    #[error("another run is working on {0}")]
    Locked(PathBuf),
    #[error("cannot write {path}: {source}")]
    NotWritable { path: PathBuf, source: io::Error },
    #[error("output \"{output}\": {detail}")]
    Path { output: String, detail: String },
}

/// The folder beside outputs that holds what quarry needs to know and nobody else has to.
pub const STATE_FOLDER: &str = ".quarry";

const PARTS: &str = "parts";
const LOCK: &str = "lock";

impl Places {
    /// Makes the folders, sees that they can be written, and locks them: the outputs' for everybody else, or, for a shard,
    /// for everybody who is none. `scope` knows `params` and `run` only.
    pub fn open(
        plan: &Plan,
        state: Option<&Path>,
        scope: &Scope,
        disk: &Disk,
        shard: Option<Shard>,
    ) -> Result<Self, PlaceError> {
        let parts = shard.map_or_else(|| PARTS.to_owned(), |shard| format!("{PARTS}-{}", shard.folder()));
        let mut targets = Vec::new();
        for output in &plan.outputs {
            let mut target = target(output, &plan.folder, scope)?;
            target.root = make_writable(&target.root, Some(STATE_FOLDER), &parts, disk)?;
            target.parts.clone_from(&parts);
            if let TargetKind::Table { path } = &target.kind {
                let path = table_path(&target.root, path, disk)?;
                target.kind = TargetKind::Table { path: path.clone() };
                if let Some(twin) = targets.iter().position(|t: &Target| t.kind == target.kind) {
                    let detail =
                        format!("{} is also written by output \"{}\"", path.display(), plan.outputs[twin].name);
                    return Err(PlaceError::Path { output: output.name.clone(), detail });
                }
            }
            targets.push(target);
        }
        let state = match (state, targets.first()) {
            (Some(given), _) => given.to_path_buf(),
            (None, Some(first)) => first.root.join(STATE_FOLDER).join(state_name(&plan.name)),
            (None, None) => plan.folder.join(STATE_FOLDER).join(state_name(&plan.name)),
        };
        let state = shard.map_or_else(|| state.clone(), |shard| state.join(shard.folder()));
        let state = make_writable(&state, None, PARTS, disk)?;
        let mut homes: Vec<PathBuf> =
            targets.iter().map(|t| t.root.join(STATE_FOLDER)).chain([state.clone()]).collect();
        homes.sort();
        homes.dedup();
        let locks = homes.iter().map(|home| lock(home, shard.is_some() && *home != state)).collect::<Result<_, _>>()?;
        // Only now: a part may belong to the run that held the lock until a moment ago.
        for home in &homes {
            let parts = if *home == state { PARTS } else { &parts };
            clear(&home.join(parts), disk).map_err(not_writable(home))?;
        }
        Ok(Self { state, targets, locks })
    }

    /// Returns where a plan's state stands, without making or locking anything. `scope` is as for [`Places::open`].
    pub fn state_of(plan: &Plan, scope: &Scope) -> Result<PathBuf, PlaceError> {
        let root = match plan.outputs.first() {
            Some(first) => target(first, &plan.folder, scope)?.root,
            None => plan.folder.clone(),
        };
        Ok(root.join(STATE_FOLDER).join(state_name(&plan.name)))
    }

    /// Returns the folder for half-written files of the state.
    pub fn parts(&self) -> PathBuf {
        self.state.join(PARTS)
    }

    pub fn num_locks(&self) -> usize {
        self.locks.len()
    }
}

/// A pipeline may be called as a file of our own beside its state is.
fn state_name(pipeline: &str) -> String {
    let name = safe_name(pipeline);
    let is_ours = name == LOCK || name == PARTS || name.starts_with(&format!("{PARTS}-"));
    if is_ours { format!("{name}-state") } else { name }
}

fn not_writable(path: &Path) -> impl Fn(io::Error) -> PlaceError {
    move |source| PlaceError::NotWritable { path: path.to_path_buf(), source }
}

/// Splits an output's path into its root and what is decided later.
fn target(output: &OutputPlan, folder: &Path, scope: &Scope) -> Result<Target, PlaceError> {
    let wrong = |detail: String| PlaceError::Path { output: output.name.clone(), detail };
    let names = split_path(&output.path);
    let Some((file, folders)) = names.split_last().filter(|(file, _)| !file.is_empty()) else {
        return Err(wrong(format!("`{}` names no file", output.path)));
    };
    let is_later = |name: &str| ["doc", "run", "steps", "item"].iter().any(|n| names_in_braces(name, n));
    let num_fixed = folders.iter().take_while(|name| !is_later(name)).count();
    let mut root = folder.to_path_buf();
    for name in &folders[..num_fixed] {
        root.push(if name.is_empty() { "/".to_owned() } else { scope.render(name).map_err(wrong)? });
    }
    let later = || folders[num_fixed..].iter().chain([file]).map(|n| (*n).to_owned());
    let kind = match output.content {
        OutputContent::Text(_) => TargetKind::Pages { names: later().collect() },
        OutputContent::Records { .. } | OutputContent::Review { .. } => {
            let mut path = PathBuf::new();
            for name in later() {
                path.push(safe_name(&scope.render(&name).map_err(wrong)?));
            }
            TargetKind::Table { path }
        }
    };
    Ok(Target { root, kind, parts: PARTS.to_owned() })
}

/// Splits a path template at the slashes outside its placeholders.
fn split_path(template: &str) -> Vec<&str> {
    let (mut names, mut start, mut depth) = (Vec::new(), 0, 0_usize);
    let bytes = template.as_bytes();
    for at in 0..bytes.len() {
        match &bytes[at..bytes.len().min(at + 2)] {
            b"{{" | b"{%" | b"{#" => depth += 1,
            b"}}" | b"%}" | b"#}" => depth = depth.saturating_sub(1),
            [b'/', ..] if depth == 0 => {
                names.push(&template[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    names.push(&template[start..]);
    names
}

/// Whether `word` stands in a placeholder of `template`.
fn names_in_braces(template: &str, word: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    template.split("{").skip(1).any(|part| part.split(|c| !is_word(c)).any(|w| w == word))
}

/// Makes a folder, with the place for parts in it or in its `inner` folder, and proves that it can be written: before
/// a model is loaded, not after an hour. Returns where it really is.
fn make_writable(folder: &Path, inner: Option<&str>, parts: &str, disk: &Disk) -> Result<PathBuf, PlaceError> {
    let prove = || {
        disk.create_folder(folder)?;
        let folder = fs::canonicalize(folder)?;
        let home = inner.map_or_else(|| folder.clone(), |inner| folder.join(inner));
        if home.is_symlink() {
            return Err(io::Error::other(format!("{} is a link", home.display())));
        }
        disk.create_folder(&home.join(parts))?;
        tempfile::tempfile_in(&folder)?; // without a name where the system can: a kill leaves nothing behind
        Ok(folder)
    };
    prove().map_err(not_writable(folder))
}

/// Returns the whole path of a table below its root; a link there is refused, for it may lead out of the folder.
fn table_path(root: &Path, path: &Path, disk: &Disk) -> Result<PathBuf, PlaceError> {
    let path = root.join(path);
    let folder = path.parent().unwrap_or(root);
    disk.create_folder(folder).map_err(not_writable(folder))?;
    let real = fs::canonicalize(folder).map_err(not_writable(folder))?;
    if !real.starts_with(root) || path.is_symlink() || path.is_dir() {
        let detail = format!("it is a folder, or a link, which quarry does not write through ({})", root.display());
        return Err(not_writable(&path)(io::Error::other(detail)));
    }
    Ok(path)
}

/// Shards share the lock of a folder that all of them write into; nobody else may have it meanwhile.
fn lock(home: &Path, is_shared: bool) -> Result<File, PlaceError> {
    let path = home.join(LOCK);
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(not_writable(&path))?;
    match if is_shared { file.try_lock_shared() } else { file.try_lock() } {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(PlaceError::Locked(home.to_path_buf())),
        Err(TryLockError::Error(source)) => Err(PlaceError::NotWritable { path, source }),
    }
}

/// Removes what killed runs left half-written.
fn clear(parts: &Path, disk: &Disk) -> io::Result<()> {
    for part in fs::read_dir(parts)? {
        disk.remove(&part?.path())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::evaluate::Evaluator;
    use crate::pipeline::plan::OutputFormat;
    use serde_json::json;

    fn target_of(path: &str, records: bool) -> Result<Target, PlaceError> {
        let content = if records {
            OutputContent::Records { fields: Vec::new(), key: None, explode: None }
        } else {
            OutputContent::Text("x".into())
        };
        let format = OutputFormat::Markdown;
        let output = OutputPlan { name: "o".into(), path: path.into(), format, content, only: None };
        let evaluator = Evaluator::default();
        let names = json!({ "params": { "out": "a/b" }, "run": { "date": "2026-01-31" } });
        target(&output, Path::new("/p"), &evaluator.bind(&names))
    }

    #[test]
    fn the_root_ends_where_documents_or_the_run_decide() {
        let pages = |root: &str, names: &[&str]| Target {
            root: root.into(),
            kind: TargetKind::Pages { names: names.iter().map(|n| n.to_string()).collect() },
            parts: PARTS.into(),
        };
        let of = |path| target_of(path, false).unwrap();
        assert_eq!(of("out/{{ doc.stem }}.md"), pages("/p/out", &["{{ doc.stem }}.md"]));
        assert_eq!(of("{{ params.out }}/x/{{ doc.stem }}.md"), pages("/p/a/b/x", &["{{ doc.stem }}.md"]));
        assert_eq!(of("/abs/{{ run.date }}/y/{{doc.stem}}"), pages("/abs", &["{{ run.date }}", "y", "{{doc.stem}}"]));
        assert_eq!(of("out/{{ doc.meta['a/b'] }}/doc.md"), pages("/p/out", &["{{ doc.meta['a/b'] }}", "doc.md"]));
        let table = TargetKind::Table { path: "rows-2026-01-31.jsonl".into() };
        assert_eq!(target_of("{{ params.out }}/rows-{{ run.date }}.jsonl", true).unwrap().kind, table);
    }

    #[test]
    fn a_table_whose_path_names_a_document_is_refused() {
        assert!(target_of("out/{{ doc.stem }}.jsonl", true).unwrap_err().to_string().contains("doc.stem"));
        assert!(target_of("out/", true).is_err());
    }
}
