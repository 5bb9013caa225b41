//! The section `sources`: files, rows of a table, standard input; and which of them are the documents.

use std::path::{Component, Path};

use serde_json::{Map, Value, json};

use super::{absolute, must_be_mapping, name_fault};
use crate::corpus::reader::{columns_of, roster_of};
use crate::diagnostic::Diagnostic;
use crate::pipeline::files;
use crate::pipeline::plan::{OnRemoved, SourceKind, SourcePlan};
use crate::pipeline::scope::RowSource;
use crate::pipeline::shape::{Shaper, Surroundings};
use crate::pipeline::tables::{PATTERNS, SOURCE, read_keys};
use crate::pipeline::tree::{Node, NodeValue, Position, quoted};
use crate::spec::ValueSpec;

static PATTERNS_SPEC: ValueSpec = PATTERNS;

/// What stands for standard input.
pub const STDIN: &str = "-";
/// What the document is called that comes in on it, where the file does not say.
const STDIN_NAME: &str = "stdin";

pub fn sources(around: &Surroundings<'_>, node: Option<&Node>, faults: &mut Vec<Diagnostic>) -> Vec<SourcePlan> {
    let mut shaper = Shaper::new(around, "sources");
    let mut plans: Vec<SourcePlan> = Vec::new();
    if let Some(node) = node {
        must_be_mapping(&mut shaper, node, "of names to files");
        if node.value == NodeValue::Map(Vec::new()) {
            shaper.fault(node.at, "`sources` names no source").hints.push("write: calls: \"calls/*.vtt\"".into());
        }
        for entry in node.entries() {
            name_fault(&mut shaper, "source", &entry.key, entry.key_at);
            let Some(plan) = source(&mut shaper, &entry.key, &entry.value) else { continue };
            if let Some(other) = plans.iter().find(|p| p.is_stdin() && plan.is_stdin()) {
                let message = format!("the sources `{}` and `{}` are both standard input", other.name, plan.name);
                shaper.fault(entry.key_at, message);
            }
            plans.push(plan);
        }
    }
    faults.append(&mut shaper.faults);
    plans
}

/// Takes the rows out that stand beside documents: where there are other sources, rows are tables. Returns them.
pub fn tables(sources: &mut Vec<SourcePlan>) -> Vec<SourcePlan> {
    let is_rows = |s: &SourcePlan| matches!(s.kind, SourceKind::Rows { .. });
    if sources.iter().all(is_rows) {
        return Vec::new();
    }
    let (tables, documents) = std::mem::take(sources).into_iter().partition(is_rows);
    *sources = documents;
    tables
}

/// Returns the sources of rows as templates may name them.
pub fn row_sources<'s>(sources: impl Iterator<Item = &'s SourcePlan>) -> Vec<RowSource> {
    let row = |s: &SourcePlan| match &s.kind {
        SourceKind::Rows { columns, .. } => Some(RowSource { name: s.name.clone(), columns: columns.clone() }),
        _ => None,
    };
    sources.filter_map(row).collect()
}

fn source(shaper: &mut Shaper<'_>, name: &str, node: &Node) -> Option<SourcePlan> {
    let before = shaper.faults.len();
    let path = &mut vec![name.to_owned()];
    let mut object = match &node.value {
        NodeValue::Map(_) => shaper.object(node, &SOURCE.iter().collect::<Vec<_>>(), path)?,
        NodeValue::Str(text) if text == STDIN => Map::from_iter([("stdin".to_owned(), STDIN_NAME.into())]),
        _ => Map::from_iter(shaper.value(node, &PATTERNS_SPEC, path).map(|files| ("files".to_owned(), files))),
    };
    let nothing = Node { at: node.at, span: 0..0, value: NodeValue::Map(Vec::new()) };
    path.push("read".into());
    let read_node = node.get("read").unwrap_or(&nothing);
    let mut read = shaper.object(read_node, &read_keys().iter().collect::<Vec<_>>(), path)?;
    roster(shaper, name, read_node, &mut read);
    if shaper.faults.len() > before {
        return None;
    }
    let ways: Vec<&str> = ["files", "rows", "stdin"].into_iter().filter(|key| object.contains_key(*key)).collect();
    if ways.len() != 1 {
        let message = match ways.as_slice() {
            [] => format!("`sources.{name}` needs `files`, `rows` or `stdin`"),
            many => format!("`sources.{name}` has both `{}` and `{}`", many[0], many[1]),
        };
        shaper.fault(node.at, message).hints.push("a source is files, the rows of a table, or standard input".into());
        return None;
    }
    for (key, with) in [("ignore", "files"), ("id", "rows")] {
        if let (Some(written), false) = (node.get(key), ways[0] == with) {
            let message = format!("`sources.{name}.{key}` goes with `{with}`, and the source has `{}`", ways[0]);
            shaper.fault(written.at, message);
        }
    }
    let on_removed = object.get("on_removed").and_then(Value::as_str).and_then(OnRemoved::named).unwrap_or_default();
    let mut text = |key: &str| object.remove(key).and_then(|v| v.as_str().map(str::to_owned));
    let plan = SourcePlan { name: name.to_owned(), read: Value::Object(read), on_removed, ..SourcePlan::default() };
    let kind = match ways[0] {
        "rows" => {
            let (file, id) = (text("rows")?, text("id"));
            rows(shaper, name, &file, id, node)
        }
        "stdin" => SourceKind::Stdin { name: text("stdin")?, held: None },
        _ => {
            let (files, ignore) = (object.remove("files")?, object.remove("ignore"));
            let (patterns, ignore) = patterns(shaper, name, node, files, ignore);
            return (shaper.faults.iter().skip(before).all(|f| f.severity != crate::diagnostic::Severity::Error))
                .then_some(SourcePlan { patterns, ignore, ..plan });
        }
    };
    (shaper.faults.len() == before || ways[0] == "rows").then_some(SourcePlan { kind, ..plan })
}

/// Puts what the roster holds in the place of its path: a reader opens no file but the document, and a change of the
/// roster is one of what documents are made of.
fn roster(shaper: &mut Shaper<'_>, source: &str, node: &Node, read: &mut Map<String, Value>) {
    let Some(speakers) = read.get_mut("speakers").and_then(Value::as_object_mut) else { return };
    let Some(written) = speakers.get("roster").and_then(Value::as_str).map(str::to_owned) else {
        speakers.insert("roster".into(), json!([]));
        return;
    };
    let at = node.get("speakers").and_then(|n| n.get("roster")).map_or(node.at, |n| n.at);
    let path = absolute(shaper.around.folder, &written);
    let name = format!("`sources.{source}.read.speakers.roster` names the file {}", quoted(&written));
    match files::read_text(shaper.around.files, &path) {
        Ok(text) => match roster_of(&text) {
            Ok(people) => drop(speakers.insert("roster".into(), json!(people))),
            Err(reason) => {
                let hint = "a roster is CSV such as: name,alias";
                shaper.fault(at, format!("{name}, which is no roster: {reason}")).hints.push(hint.into());
            }
        },
        Err(reason) => {
            let hint = format!("looked for {}", path.display());
            shaper.fault(at, format!("{name}, but {reason}")).hints.push(hint);
        }
    }
}

fn patterns(
    shaper: &mut Shaper<'_>,
    name: &str,
    node: &Node,
    files: Value,
    ignore: Option<Value>,
) -> (Vec<String>, Vec<String>) {
    let before = shaper.faults.len();
    let files_at = node.get("files").unwrap_or(node);
    let patterns = globs(shaper, files, files_at, name, false);
    let ignore_at = node.get("ignore").unwrap_or(node);
    let ignore = globs(shaper, ignore.unwrap_or(Value::Array(Vec::new())), ignore_at, name, true);
    if patterns.is_empty() && shaper.faults.len() == before {
        shaper.fault(files_at.at, format!("`sources.{name}` names no file"));
    }
    let around = shaper.around;
    if shaper.faults.len() == before && !around.files.any_match(&patterns, &ignore) {
        let message = format!("the source `{name}` matches no file");
        warn(shaper, message, files_at.at, format!("looked for {}", patterns.join(", ")));
    }
    (patterns, ignore)
}

/// Returns the rows of a file; its columns, where the file is there to be looked into.
fn rows(shaper: &mut Shaper<'_>, name: &str, file: &str, id: Option<String>, node: &Node) -> SourceKind {
    let at = node.get("rows").map_or(node.at, |n| n.at);
    if file == STDIN {
        return SourceKind::Rows { file: Default::default(), id, columns: None, from_stdin: true };
    }
    let path = absolute(shaper.around.folder, file);
    let mut columns = None;
    match shaper.around.files.read(&path) {
        Ok(beginning) => columns = columns_of(&beginning, &path),
        Err(_) => {
            let message = format!("the source `{name}` has no file to read rows from");
            warn(shaper, message, at, format!("looked for {}", path.display()));
        }
    }
    if let (Some(id), Some(columns)) = (&id, &columns)
        && !columns.contains(id)
    {
        let at = node.get("id").map_or(node.at, |n| n.at);
        let near = crate::diagnostic::suggest(id, columns.iter().map(String::as_str));
        let hint = match near {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("its columns: {}", columns.join(", ")),
        };
        shaper
            .fault(at, format!("`sources.{name}.id` names {}, which is no column of the file", quoted(id)))
            .hints
            .push(hint);
    }
    SourceKind::Rows { file: path, id, columns, from_stdin: false }
}

fn warn(shaper: &mut Shaper<'_>, message: String, at: Position, hint: String) {
    let place = at.in_file(&shaper.around.source.path);
    shaper.faults.push(Diagnostic::warning(message).at(place).hint(hint));
}

/// Returns one glob or a list of them, absolute; tells those that are none.
fn globs(shaper: &mut Shaper<'_>, value: Value, node: &Node, source: &str, anywhere: bool) -> Vec<String> {
    let written = match value {
        Value::String(one) => vec![one],
        Value::Array(many) => many.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    };
    let mut globs = Vec::new();
    for (i, pattern) in written.iter().enumerate() {
        let at = match &node.value {
            NodeValue::Seq(items) => items.get(i).map_or(node.at, |n| n.at),
            _ => node.at,
        };
        // What is left out in any folder is left out wherever the files are.
        let is_anywhere = anywhere && pattern.starts_with("**/");
        let glob = if is_anywhere { pattern.clone() } else { absolute_glob(shaper.around.folder, pattern) };
        match files::glob(&glob) {
            Ok(_) if !pattern.trim().is_empty() => globs.push(glob),
            Ok(_) => {
                shaper.fault(at, format!("`sources.{source}` holds an empty glob"));
            }
            Err(reason) => {
                shaper.fault(at, format!("`sources.{source}` holds {}, which is no glob: {reason}", quoted(pattern)));
            }
        }
    }
    globs
}

/// Returns a glob relative to a folder as an absolute one; brackets in the folder's own name are no pattern. Leading
/// `./` and `../` are resolved here, for a glob is matched against paths without them.
fn absolute_glob(folder: &Path, pattern: &str) -> String {
    if Path::new(pattern).is_absolute() {
        return pattern.to_owned();
    }
    let mut folder = folder.to_path_buf();
    let mut rest = Path::new(pattern).components().peekable();
    while let Some(Component::CurDir | Component::ParentDir) = rest.peek() {
        if rest.next() == Some(Component::ParentDir) {
            folder.pop();
        }
    }
    let rest = rest.map(|c| c.as_os_str().to_string_lossy().into_owned()).collect::<Vec<_>>().join("/");
    format!("{}/{rest}", globset::escape(&folder.to_string_lossy()).trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_glob_is_one_of_the_files_folder() {
        let glob = |pattern| absolute_glob(Path::new("/work/[a]/p"), pattern);
        assert_eq!(glob("calls/**/*.vtt"), "/work/[[]a[]]/p/calls/**/*.vtt");
        assert_eq!(glob("./x.txt"), "/work/[[]a[]]/p/x.txt");
        assert_eq!(glob("../../x/*.txt"), "/work/x/*.txt");
        assert_eq!(glob("/else/*.txt"), "/else/*.txt");
    }
}
