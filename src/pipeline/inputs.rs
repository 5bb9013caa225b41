//! Which files a run reads: globs walked in a fixed order, every file once, and whatever is passed over is said.
//! Read [`list`] first. Looks at names and kinds of files, never into them.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use globset::{GlobBuilder, GlobMatcher};

use super::plan::{SourceKind, SourcePlan};
use super::rows::{self, RowInput};
use super::shown::shown;

/// A file to be read.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    pub source: usize, // index into the plan's sources
    pub path: PathBuf,
    pub document: String, // its id: the path as shown
    /// Set where the file, or the folder it stands for, cannot even be looked at.
    pub unreadable: Option<String>,
    /// Set where it is a row of that file, and not the file.
    pub row: Option<Arc<RowInput>>,
}

/// What the sources of a plan hold.
#[derive(Debug, Default)]
pub struct Listing {
    pub inputs: Vec<Input>, // by source, then by path
    pub notes: Vec<String>, // what was passed over, and why
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    #[error("source \"{name}\" matches no file: {patterns}")]
    Nothing { name: String, patterns: String },
    #[error("source \"{name}\": `{pattern}` is no glob: {detail}")]
    Pattern { name: String, pattern: String, detail: String },
    #[error("source \"{name}\": {detail}")]
    Rows { name: String, detail: String },
    #[error("source \"{name}\" is read from standard input, and this command does not read it")]
    NoStdin { name: String },
}

/// Lists the files of all sources. A source that matches nothing is an error; one of its patterns alone is a note.
///
/// `*` does not cross folders, `**` does. Names beginning with a dot are matched only by patterns that write the dot.
/// Links are followed, but for those that lead back up; devices, FIFOs and sockets are passed over.
pub fn list(sources: &[SourcePlan], base: &Path) -> Result<Listing, ListError> {
    let mut listing = Listing::default();
    let mut seen = Seen::default();
    for (index, source) in sources.iter().enumerate() {
        match &source.kind {
            SourceKind::Files => {}
            SourceKind::Rows { .. } => {
                listing.take_rows(index, source, base)?;
                continue;
            }
            SourceKind::Stdin { name, held } => {
                let Some(path) = held.clone() else { return Err(ListError::NoStdin { name: source.name.clone() }) };
                listing.inputs.push(Input { source: index, path, document: name.clone(), unreadable: None, row: None });
                continue;
            }
        }
        let named = |pattern: &str, detail: String| ListError::Pattern {
            name: source.name.clone(),
            pattern: pattern.to_owned(),
            detail,
        };
        let ignore: Vec<GlobMatcher> =
            source.ignore.iter().map(|p| matcher(p).map_err(|e| named(p, e))).collect::<Result<_, _>>()?;
        let mut found = Vec::new();
        for pattern in &source.patterns {
            let walk = Walk::new(pattern).map_err(|e| named(pattern, e))?;
            let before = found.len();
            walk.run(&mut found, &mut listing.notes);
            if found.len() == before && source.patterns.len() > 1 {
                listing.notes.push(format!("source \"{}\": `{pattern}` matches no file", source.name));
            }
        }
        let matched = found.len();
        found.retain(|f| !ignore.iter().any(|glob| glob.is_match(&f.path)));
        if found.is_empty() {
            let mut patterns = source.patterns.join(", ");
            if matched > 0 {
                patterns.push_str(&format!(" ({matched} matched, and all of them are ignored)"));
            }
            return Err(ListError::Nothing { name: source.name.clone(), patterns });
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        for file in found {
            if !seen.is_new(&file) {
                continue;
            }
            let document = shown(&file.path, base);
            let (path, unreadable) = (file.path, file.unreadable);
            listing.inputs.push(Input { source: index, path, document, unreadable, row: None });
        }
    }
    Ok(listing)
}

impl Listing {
    /// Adds the rows of a source, each an input of its own; one that cannot be read is one that fails.
    fn take_rows(&mut self, index: usize, source: &SourcePlan, base: &Path) -> Result<(), ListError> {
        let (path, listed, warnings) = rows::list(source, base)?;
        self.notes.extend(warnings.into_iter().map(|w| format!("source \"{}\": {w}", source.name)));
        for one in listed {
            let (row, unreadable) = match one.row {
                Ok(row) => (Some(row), None),
                Err(detail) => (None, Some(detail)),
            };
            self.inputs.push(Input { source: index, path: path.clone(), document: one.document, unreadable, row });
        }
        Ok(())
    }

    /// Takes out the files that this pipeline has written itself.
    pub fn leave_out(&mut self, written: &HashSet<PathBuf>) {
        let (notes, inputs) = (&mut self.notes, &mut self.inputs);
        inputs.retain(|input| {
            let is_output = written.contains(&input.path);
            if is_output {
                notes.push(format!("{} is an output of this pipeline and is not read", input.document));
            }
            !is_output
        });
    }
}

struct Found {
    path: PathBuf,
    via_link: bool,
    unreadable: Option<String>,
}

/// Files already listed; one reached through links is known by where it really is.
#[derive(Default)]
struct Seen(HashSet<PathBuf>);

impl Seen {
    fn is_new(&mut self, file: &Found) -> bool {
        let real = if file.via_link { fs::canonicalize(&file.path).ok() } else { None };
        let is_new = real.as_ref().is_none_or(|r| *r == file.path || !self.0.contains(r));
        if let Some(real) = real {
            self.0.insert(real);
        }
        self.0.insert(file.path.clone()) && is_new
    }
}

/// One pattern on its way through the folders below its literal beginning.
struct Walk {
    root: PathBuf, // the part of the pattern before its first wildcard
    matcher: GlobMatcher,
    depth_max: usize, // folders below `root` that can hold a match
    dot_names: bool,
}

const WILDCARDS: &[char] = &['*', '?', '[', '{'];

impl Walk {
    fn new(pattern: &str) -> Result<Self, String> {
        let matcher = matcher(pattern)?;
        let is_wild = |c: &Component<'_>| c.as_os_str().to_string_lossy().contains(WILDCARDS);
        let parts: Vec<Component<'_>> = Path::new(pattern).components().collect();
        let literal = parts.iter().position(is_wild).unwrap_or(parts.len());
        let root: PathBuf = parts[..literal].iter().collect();
        let rest = &parts[literal..];
        // `{a/b,c}` splits into more names than it has separators.
        let is_deep = pattern.contains("**") || pattern.contains('{');
        let depth_max = if is_deep { usize::MAX } else { rest.len() };
        let dot_names = rest.iter().any(|c| c.as_os_str().to_string_lossy().starts_with('.'));
        Ok(Self { root, matcher, depth_max, dot_names })
    }

    fn run(&self, found: &mut Vec<Found>, notes: &mut Vec<String>) {
        let is_literal = self.depth_max == 0;
        match fs::metadata(&self.root) {
            Ok(meta) if meta.is_dir() && is_literal => {
                notes.push(format!("{} is a folder; {0}/** matches the files in it", self.root.display()));
            }
            Ok(meta) if meta.is_dir() => {
                let mut above = Vec::from_iter(fs::canonicalize(&self.root).ok());
                self.folder(&self.root, 1, false, &mut above, found, notes);
            }
            Ok(meta) => self.file(&self.root, meta.file_type(), self.root.is_symlink(), found, notes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => self.unreadable(&self.root, &error, found),
        }
    }

    /// `above` holds the real places of the folders from the root down to this one.
    fn folder(
        &self,
        folder: &Path,
        depth: usize,
        via_link: bool,
        above: &mut Vec<PathBuf>,
        found: &mut Vec<Found>,
        notes: &mut Vec<String>,
    ) {
        let names = fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let entries = match names {
            Ok(entries) => entries,
            Err(error) => return self.unreadable(folder, &error, found),
        };
        for entry in entries {
            let path = entry.path();
            if !self.dot_names && entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let own = entry.file_type();
            let is_link = own.as_ref().is_ok_and(fs::FileType::is_symlink);
            let kind = if is_link { fs::metadata(&path).map(|meta| meta.file_type()) } else { own };
            match kind {
                Ok(kind) if kind.is_dir() && depth >= self.depth_max => {}
                Ok(kind) if kind.is_dir() && is_link => match fs::canonicalize(&path) {
                    Ok(real) if above.iter().any(|a| a.starts_with(&real)) => {
                        notes.push(format!("{} is a link that leads back up and is not followed", path.display()));
                    }
                    Ok(real) => {
                        above.push(real);
                        self.folder(&path, depth + 1, true, above, found, notes);
                        above.pop();
                    }
                    Err(error) => self.unreadable(&path, &error, found),
                },
                Ok(kind) if kind.is_dir() => {
                    above.push(above.last().map(|a| a.join(entry.file_name())).unwrap_or_else(|| path.clone()));
                    self.folder(&path, depth + 1, via_link, above, found, notes);
                    above.pop();
                }
                Ok(kind) => self.file(&path, kind, via_link || is_link, found, notes),
                Err(error) => self.unreadable(&path, &error, found),
            }
        }
    }

    fn file(&self, path: &Path, kind: fs::FileType, via_link: bool, found: &mut Vec<Found>, notes: &mut Vec<String>) {
        if !self.matcher.is_match(path) {
            return;
        }
        if kind.is_file() {
            found.push(Found { path: path.to_path_buf(), via_link, unreadable: None });
        } else {
            notes.push(format!("{} is a device, FIFO or socket and is not read", path.display()));
        }
    }

    /// A folder that cannot be listed may hide files: it stands for them as one input that fails.
    fn unreadable(&self, path: &Path, error: &io::Error, found: &mut Vec<Found>) {
        let is_gone_link = error.kind() == io::ErrorKind::NotFound;
        if is_gone_link && !self.matcher.is_match(path) {
            return;
        }
        found.push(Found { path: path.to_path_buf(), via_link: false, unreadable: Some(error.to_string()) });
    }
}

/// Compiles a glob whose `*` does not cross folders.
pub fn matcher(pattern: &str) -> Result<GlobMatcher, String> {
    let glob = GlobBuilder::new(pattern).literal_separator(true).build();
    glob.map(|g| g.compile_matcher()).map_err(|e| e.kind().to_string())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::os::unix::fs::symlink;

    fn source(folder: &Path, patterns: &[&str], ignore: &[&str]) -> SourcePlan {
        let absolute = |p: &&str| folder.join(p).to_string_lossy().into_owned();
        SourcePlan {
            name: "s".into(),
            patterns: patterns.iter().map(absolute).collect(),
            ignore: ignore.iter().map(absolute).collect(),
            read: Value::Null,
            ..SourcePlan::default()
        }
    }

    fn listed(folder: &Path, patterns: &[&str], ignore: &[&str]) -> (Vec<String>, Vec<String>) {
        let listing = list(&[source(folder, patterns, ignore)], folder).unwrap();
        (listing.inputs.into_iter().map(|i| i.document).collect(), listing.notes)
    }

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        folder
    }

    #[test]
    fn files_come_sorted_once_and_without_the_ignored() {
        let folder = tree(&["b.txt", "a.txt", "sub/c.txt", "sub/d.md", ".hidden.txt", ".git/x.txt"]);
        assert_eq!(listed(folder.path(), &["*.txt", "a*"], &[]).0, ["a.txt", "b.txt"]);
        assert_eq!(listed(folder.path(), &["**/*.{txt,md}"], &["sub/*.md"]).0, ["a.txt", "b.txt", "sub/c.txt"]);
        assert_eq!(listed(folder.path(), &["b.txt"], &[]).0, ["b.txt"]);
        assert_eq!(listed(folder.path(), &[".*.txt"], &[]).0, [".hidden.txt"]);
    }

    #[test]
    fn a_source_that_matches_nothing_names_its_pattern() {
        let folder = tree(&["a.txt"]);
        let error = list(&[source(folder.path(), &["*.vtt"], &[])], folder.path()).unwrap_err();
        assert!(error.to_string().contains("*.vtt") && error.to_string().contains("\"s\""), "{error}");
        let error = list(&[source(folder.path(), &["*.txt"], &["*.txt"])], folder.path()).unwrap_err();
        assert!(error.to_string().contains("1 matched"), "{error}");
        assert!(listed(folder.path(), &["*.txt", "*.vtt"], &[]).1[0].contains("*.vtt"));
    }

    #[test]
    fn link_loops_are_cut_and_special_files_are_said() {
        let folder = tree(&["in/a.txt", "in/sub/b.txt", "other/c.txt"]);
        let inside = folder.path().join("in");
        symlink(&inside, inside.join("sub/loop")).unwrap();
        symlink("/", inside.join("root")).unwrap();
        symlink(folder.path().join("other"), inside.join("other")).unwrap();
        symlink(inside.join("a.txt"), inside.join("z.txt")).unwrap();
        symlink("/dev/null", inside.join("null.txt")).unwrap();
        symlink("nowhere", inside.join("gone.txt")).unwrap();
        let listing = list(&[source(folder.path(), &["in/**/*.txt"], &[])], folder.path()).unwrap();
        let names: Vec<_> = listing.inputs.iter().map(|i| (i.document.as_str(), i.unreadable.is_some())).collect();
        let expected = [("in/a.txt", false), ("in/gone.txt", true), ("in/other/c.txt", false), ("in/sub/b.txt", false)];
        assert_eq!(names, expected);
        for part in ["sub/loop", "in/root", "null.txt"] {
            assert!(listing.notes.iter().any(|n| n.contains(part)), "{part}: {:?}", listing.notes);
        }
    }

    #[test]
    fn outputs_of_the_pipeline_are_no_inputs() {
        let folder = tree(&["a.md", "out/a.md"]);
        let mut listing = list(&[source(folder.path(), &["**/*.md"], &[])], folder.path()).unwrap();
        listing.leave_out(&HashSet::from([folder.path().join("out/a.md")]));
        assert_eq!(listing.inputs.len(), 1);
        assert!(listing.notes[0].contains("out/a.md"));
    }
}
