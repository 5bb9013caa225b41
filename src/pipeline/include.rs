//! `include`: what other files say of `params`, `schemas`, `labels` and `step_lists` is put beside what this one says,
//! and step lists go where `insert` names them. Merged by name, never by depth: a name that stands twice is an error.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use super::file;
use super::files::Files;
use super::tree::{Entry, Node, NodeValue, Position, SourceText, quoted};
use crate::diagnostic::{Diagnostic, suggest};

/// Files that one pipeline may include, those of its includes too.
pub const MAX_INCLUDES: usize = 32;

/// Sections that a file can give to those that include it.
const SECTIONS: &[&str] = &["params", "schemas", "labels", "step_lists"];

/// Puts every included file's sections into `root`, its text behind that of `source`; `folder` is that of the pipeline.
pub fn apply(root: &mut Node, source: &mut SourceText, folder: &Path, files: &dyn Files, faults: &mut Vec<Diagnostic>) {
    let named = names(root, source, faults);
    if !named.is_empty() {
        let own = source.path.file_name().map(|n| folder.join(n)).unwrap_or_default();
        let mut reading = Reading { source, files, faults, folder, open: vec![plain(&own)], done: BTreeSet::new() };
        for (name, at) in named {
            reading.file(root, Path::new(""), &name, at);
        }
    }
    insert(root, source, faults);
    labels(root, source, faults);
}

/// The files that a tree names under `include`, and where.
fn names(root: &Node, source: &SourceText, faults: &mut Vec<Diagnostic>) -> Vec<(String, Position)> {
    let Some(section) = root.get("include") else { return Vec::new() };
    let items = match &section.value {
        NodeValue::Seq(items) => items.as_slice(),
        _ => std::slice::from_ref(section),
    };
    let mut named = Vec::new();
    for item in items {
        match item.as_str().filter(|name| !name.trim().is_empty() && !name.contains("{{")) {
            Some(name) => named.push((name.to_owned(), item.at)),
            None => {
                let message = format!("`include` must be a list of paths, not {}", item.describe());
                faults.push(Diagnostic::error(message).at(source.place(item.at)).hint("write: include: [house.yaml]"));
            }
        }
    }
    named
}

struct Reading<'a> {
    source: &'a mut SourceText,
    files: &'a dyn Files,
    faults: &'a mut Vec<Diagnostic>,
    folder: &'a Path,
    open: Vec<PathBuf>, // files that are being included, the pipeline first
    done: BTreeSet<PathBuf>,
}

impl Reading<'_> {
    fn fault(&mut self, at: Position, message: String) -> &mut Diagnostic {
        let place = self.source.place(at);
        self.faults.push(Diagnostic::error(message).at(place));
        let last = self.faults.len() - 1;
        &mut self.faults[last]
    }

    /// Takes in one file. `from` is the folder of the file that names it, relative to the pipeline's.
    fn file(&mut self, root: &mut Node, from: &Path, name: &str, at: Position) {
        let relative = from.join(name);
        let path = plain(&self.folder.join(&relative));
        if let Some(first) = self.open.iter().position(|open| *open == path) {
            let round: Vec<String> = self.open[first..].iter().chain([&path]).map(|p| file_name(p)).collect();
            let message = format!("the files include each other: {}", round.join(" -> "));
            let hint = "take one of them out; what both need can stand in a third file";
            self.fault(at, message).hints.push(hint.into());
            return;
        }
        if self.done.contains(&path) {
            return; // by way of another file: it is in already
        }
        if self.done.len() + self.open.len() > MAX_INCLUDES {
            self.fault(at, format!("more than {MAX_INCLUDES} files are included (max_includes)"));
            return;
        }
        let bytes = match self.files.read(&path) {
            Ok(bytes) => bytes,
            Err(error) => {
                let message = format!("the file {} cannot be included: {error}", quoted(name));
                self.fault(at, message).hints.push(format!("looked for {}", path.display()));
                return;
            }
        };
        let shown = self.source.path.parent().unwrap_or(Path::new("")).join(&relative);
        let (text, mut tree, repeated) = match file::parse(&shown, &bytes) {
            Ok(parsed) => parsed,
            Err(fault) => return self.faults.push(fault),
        };
        self.faults.extend(repeated);
        let (lines, length) = self.source.append(shown, &text.text);
        tree.shift(lines, length);
        self.open.push(path.clone());
        let below = relative.parent().unwrap_or(Path::new("")).to_path_buf();
        for (name, at) in names(&tree, self.source, self.faults) {
            self.file(root, &below, &name, at);
        }
        self.merge(root, tree, &below);
        self.open.pop();
        self.done.insert(path);
    }

    fn merge(&mut self, root: &mut Node, mut tree: Node, below: &Path) {
        if !matches!(tree.value, NodeValue::Map(_)) {
            let message =
                format!("an included file must be a mapping with {}, not {}", SECTIONS.join(", "), tree.describe());
            self.fault(tree.at, message);
            return;
        }
        reach(&mut tree, below);
        let NodeValue::Map(entries) = tree.value else { return };
        for section in entries {
            match section.key.as_str() {
                "include" => {}
                "version" if section.value.value == NodeValue::Int(1) => {}
                "version" => {
                    self.fault(section.value.at, format!("`version` must be 1, not {}", section.value.describe()));
                }
                key if SECTIONS.contains(&key) => self.section(root, section),
                key => {
                    let message = format!("an included file cannot have {}", quoted(key));
                    let hint = match suggest(key, SECTIONS.iter().copied()) {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => format!("it gives {} to the file that includes it", SECTIONS.join(", ")),
                    };
                    self.fault(section.key_at, message).hints.push(hint);
                }
            }
        }
    }

    fn section(&mut self, root: &mut Node, section: Entry) {
        let NodeValue::Map(theirs) = section.value.value else {
            let message = format!("`{}` must be a mapping of names, not {}", section.key, section.value.describe());
            self.fault(section.value.at, message);
            return;
        };
        let NodeValue::Map(sections) = &mut root.value else { return };
        let at = sections.iter().position(|e| e.key == section.key).unwrap_or_else(|| {
            let value = Node { value: NodeValue::Map(Vec::new()), ..section.value };
            sections.push(Entry { key: section.key.clone(), key_at: section.key_at, value });
            sections.len() - 1
        });
        let NodeValue::Map(ours) = &mut sections[at].value.value else { return }; // told with the section
        for entry in theirs {
            match ours.iter().find(|e| e.key == entry.key) {
                Some(first) => {
                    let first = self.source.place(first.key_at);
                    let message = format!("`{}.{}` stands in two files", section.key, entry.key);
                    let place = self.source.place(entry.key_at);
                    let hint = format!("first at {}:{}:{}", first.file.display(), first.line, first.column);
                    self.faults.push(Diagnostic::error(message).at(place).hint(hint));
                }
                None => ours.push(entry),
            }
        }
    }
}

/// Puts step lists where `- { insert: name }` stands among the steps.
fn insert(root: &mut Node, source: &SourceText, faults: &mut Vec<Diagnostic>) {
    let lists: Vec<Entry> = root.get("step_lists").map(Node::entries).unwrap_or_default().to_vec();
    for list in &lists {
        let NodeValue::Seq(items) = &list.value.value else {
            let message = format!("`step_lists.{}` must be a list of steps, not {}", list.key, list.value.describe());
            faults.push(Diagnostic::error(message).at(source.place(list.value.at)));
            continue;
        };
        for item in items.iter().filter_map(|i| i.get("insert")) {
            let fault = Diagnostic::error("a step list cannot insert another");
            faults.push(fault.at(source.place(item.at)).hint("insert both where the steps are"));
        }
    }
    let NodeValue::Map(sections) = &mut root.value else { return };
    let Some(steps) = sections.iter_mut().find(|e| e.key == "steps") else { return };
    let NodeValue::Seq(items) = &mut steps.value.value else { return };
    for at in (0..items.len()).rev() {
        let Some(name) = items[at].get("insert").cloned() else { continue };
        let place = source.place(name.at);
        let wanted = name.as_str().unwrap_or_default();
        let inserted = match lists.iter().find(|l| l.key == wanted).map(|l| &l.value.value) {
            Some(NodeValue::Seq(inserted)) => inserted.clone(),
            Some(_) => Vec::new(), // told above
            None => {
                let known = lists.iter().map(|l| l.key.as_str());
                let hint = match suggest(wanted, known.clone()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None if lists.is_empty() => "no file has `step_lists`".into(),
                    None => format!("there are: {}", known.collect::<Vec<_>>().join(", ")),
                };
                faults.push(
                    Diagnostic::error(format!("there is no step list {}", quoted(wanted))).at(place.clone()).hint(hint),
                );
                Vec::new()
            }
        };
        if let Some(other) = items[at].entries().iter().find(|e| e.key != "insert") {
            let message =
                format!("a step that inserts a list has no other key, and this one has {}", quoted(&other.key));
            faults.push(Diagnostic::error(message).at(source.place(other.key_at)));
        }
        items.splice(at..=at, inserted.into_iter().filter(|i| i.get("insert").is_none()));
    }
}

/// Puts sets of labels where a `classify` names one.
fn labels(root: &mut Node, source: &SourceText, faults: &mut Vec<Diagnostic>) {
    let sets: Vec<Entry> = root.get("labels").map(Node::entries).unwrap_or_default().to_vec();
    let NodeValue::Map(sections) = &mut root.value else { return };
    let Some(NodeValue::Seq(steps)) = sections.iter_mut().find(|e| e.key == "steps").map(|e| &mut e.value.value) else {
        return;
    };
    for step in steps.iter_mut().filter(|s| s.get("use").and_then(Node::as_str) == Some("classify")) {
        let NodeValue::Map(keys) = &mut step.value else { continue };
        let Some(labels) = keys.iter_mut().find(|e| e.key == "labels").map(|e| &mut e.value) else { continue };
        let Some(name) = labels.as_str() else { continue };
        match sets.iter().find(|s| s.key == name) {
            Some(set) => *labels = set.value.clone(),
            None => {
                let known = sets.iter().map(|s| s.key.as_str());
                let hint = match suggest(name, known.clone()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None if sets.is_empty() => {
                        "there are none: write the labels here, or put a `labels` section".into()
                    }
                    None => format!("known sets: {}", known.collect::<Vec<_>>().join(", ")),
                };
                let message = format!("there is no set of labels {} under `labels`", quoted(name));
                faults.push(Diagnostic::error(message).at(source.place(labels.at)).hint(hint));
                labels.value = NodeValue::Map(Vec::new());
            }
        }
    }
}

/// Makes the paths of an included file those of the pipeline's folder: of `file`, and of parameters that are paths.
fn reach(node: &mut Node, below: &Path) {
    if below.as_os_str().is_empty() {
        return;
    }
    let kind = node.get("type").and_then(Node::as_str);
    let is_path = kind.is_some_and(|k| k == "path" || k == "glob");
    match &mut node.value {
        NodeValue::Seq(items) => items.iter_mut().for_each(|n| reach(n, below)),
        NodeValue::Map(entries) => {
            for entry in entries {
                let is_file = entry.key == "file" || (is_path && entry.key == "default");
                match &mut entry.value.value {
                    NodeValue::Str(path) if is_file && is_relative(path) => {
                        *path = below.join(path.as_str()).to_string_lossy().into_owned();
                    }
                    _ => reach(&mut entry.value, below),
                }
            }
        }
        _ => {}
    }
}

/// Whether a text is a path of the file it stands in; a word without a dot may be a type of a schema's short form.
fn is_relative(path: &str) -> bool {
    Path::new(path).is_relative() && !path.contains("{{") && path.contains(['.', '/'])
}

/// A path without `.` and `..`, as far as names alone can tell.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if plain.file_name().is_some() => {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    plain
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
