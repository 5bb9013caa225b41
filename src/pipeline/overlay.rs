//! What a profile and the command line change in a file before it is checked: values of its tree are replaced, and it is
//! remembered which. Knows no key of a section by name, but for `profiles` itself and the ids of steps.

use super::file;
use super::tree::{Entry, Node, NodeValue, Position, SourceText, quoted};
use crate::diagnostic::{Diagnostic, Place, suggest};

/// Sections that a profile may change; names and steps are the pipeline's own.
const OF_PROFILES: &[&str] = &["params", "model", "sources", "schemas", "run"];

/// Keys that `--set` reaches below each other.
const DEPTH_MAX: usize = 16;

/// Where a value comes from that does not stand where it would in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Profile(String),
    Set,
    Source,
}

/// Values that were replaced or added, by their path in the tree.
pub type Origins = Vec<(Vec<String>, Origin)>;

/// What is said beside the file.
#[derive(Clone, Copy, Default)]
pub struct Changes<'a> {
    pub profile: Option<&'a str>,
    pub sets: &'a [(String, String)],    // path, value
    pub sources: &'a [(String, String)], // name, files or `-`
}

impl Changes<'_> {
    /// Tells of a fault in what was said beside the file where it was said: it has no line.
    pub fn tell_of(&self, fault: &mut Diagnostic, source: &SourceText) {
        let Some(Place { file, line: 0, column }) = &fault.place else { return };
        let number = *column as usize;
        let told = match (self.sets.get(number), number.checked_sub(self.sets.len())) {
            (Some((path, value)), _) => Some(format!("--set {path}={value}")),
            (None, Some(number)) => self.sources.get(number).map(|(name, files)| format!("--source {name}={files}")),
            (None, None) => None,
        };
        if let Some(told) = told.filter(|_| *file == source.path) {
            fault.message = format!("`{told}`: {}", fault.message);
            fault.place = None;
        }
    }
}

/// Applies a profile, then each `--set` and `--source`, to the tree of a file.
pub fn apply(root: &mut Node, source: &SourceText, changes: &Changes<'_>, faults: &mut Vec<Diagnostic>) -> Origins {
    let mut origins = Vec::new();
    profiles(root, source, faults);
    if let Some(name) = changes.profile {
        let profiles = root.get("profiles").cloned();
        match profiles.as_ref().and_then(|p| p.get(name)) {
            Some(node) => merge(root, node, &mut Vec::new(), name, &mut origins),
            None => {
                let names = profiles.as_ref().map(Node::entries).unwrap_or_default().iter().map(|e| e.key.as_str());
                let fault = Diagnostic::error(format!("`--profile {name}` names no profile of the file"));
                faults.push(fault.hint(match suggest(name, names.clone()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None if names.clone().count() == 0 => "the file has no `profiles`".into(),
                    None => format!("its profiles: {}", names.collect::<Vec<_>>().join(", ")),
                }));
            }
        }
    }
    for (number, (name, files)) in changes.sources.iter().enumerate() {
        let at = Position::beside_the_file(changes.sets.len() + number);
        match set_source(root, name, files, at) {
            Ok(at) => origins.push((at, Origin::Source)),
            Err(detail) => faults.push(Diagnostic::error(format!("`--source {name}={files}`: {detail}"))),
        }
    }
    for (number, (path, value)) in changes.sets.iter().enumerate() {
        match set(root, path, value, Position::beside_the_file(number)) {
            Ok(at) => origins.push((at, Origin::Set)),
            Err(detail) => faults.push(Diagnostic::error(format!("`--set {path}={value}`: {detail}"))),
        }
    }
    origins
}

/// Tells what is wrong with the section, whichever profile is in use.
fn profiles(root: &Node, source: &SourceText, faults: &mut Vec<Diagnostic>) {
    let Some(section) = root.get("profiles") else { return };
    let mut fault = |at: Position, message: String, hint: &str| {
        let fault = Diagnostic::error(message).at(at.in_file(&source.path));
        faults.push(if hint.is_empty() { fault } else { fault.hint(hint) });
    };
    if !matches!(section.value, NodeValue::Map(_)) {
        fault(section.at, format!("`profiles` must be a mapping of names, not {}", section.describe()), "");
    }
    for profile in section.entries() {
        if !matches!(profile.value.value, NodeValue::Map(_)) {
            let message = format!("`profiles.{}` must be a mapping, not {}", profile.key, profile.value.describe());
            fault(profile.value.at, message, "write what it changes: run: { max_failed: 0 }");
        }
        for entry in profile.value.entries().iter().filter(|e| !OF_PROFILES.contains(&e.key.as_str())) {
            let message = format!("`profiles.{}` cannot change {}", profile.key, quoted(&entry.key));
            fault(entry.key_at, message, "a profile can change params, model, sources, schemas and run");
        }
    }
}

/// Mappings are merged key by key; anything else takes the place of what stood there.
fn merge(into: &mut Node, from: &Node, path: &mut Vec<String>, profile: &str, origins: &mut Origins) {
    for entry in from.entries() {
        path.push(entry.key.clone());
        let is_mapping = matches!(entry.value.value, NodeValue::Map(_));
        match entry_of(into, &entry.key) {
            Some(old) if is_mapping && matches!(old.value, NodeValue::Map(_)) => {
                merge(old, &entry.value, path, profile, origins);
            }
            Some(old) => {
                *old = entry.value.clone();
                origins.push((path.clone(), Origin::Profile(profile.to_owned())));
            }
            None => {
                if let NodeValue::Map(entries) = &mut into.value {
                    entries.push(entry.clone());
                    origins.push((path.clone(), Origin::Profile(profile.to_owned())));
                }
            }
        }
        path.pop();
    }
}

fn entry_of<'n>(node: &'n mut Node, key: &str) -> Option<&'n mut Node> {
    match &mut node.value {
        NodeValue::Map(entries) => entries.iter_mut().find(|e| e.key == key).map(|e| &mut e.value),
        _ => None,
    }
}

/// Puts files, a table of rows or standard input in the place of a source's own.
fn set_source(root: &mut Node, name: &str, files: &str, at: Position) -> Result<Vec<String>, String> {
    let sources = entry_of(root, "sources").ok_or("the file has no `sources`")?;
    let names: Vec<String> = sources.entries().iter().map(|e| e.key.clone()).collect();
    let Some(source) = entry_of(sources, name) else {
        let known = names.iter().map(String::as_str);
        let near = suggest(name, known.clone()).map(|n| format!("; did you mean {}?", quoted(n)));
        let known = near.unwrap_or_else(|| format!("; its sources: {}", known.collect::<Vec<_>>().join(", ")));
        return Err(format!("there is no source {}{known}", quoted(name)));
    };
    let value = Node { at, span: 0..0, value: NodeValue::Str(files.to_owned()) };
    let NodeValue::Map(entries) = &mut source.value else {
        *source = value;
        return Ok(vec!["sources".into(), name.to_owned()]);
    };
    let (key, value) = match (entries.iter().any(|e| e.key == "rows"), files) {
        (true, _) => ("rows", value),
        (false, "-") => {
            let named = entries.iter().find(|e| e.key == "stdin").map(|e| e.value.clone());
            let stdin = Node { value: NodeValue::Str("stdin".into()), ..value };
            ("stdin", named.unwrap_or(stdin))
        }
        (false, _) => ("files", value),
    };
    let of_files = |key: &str| ["files", "stdin", "rows"].contains(&key) || (files == "-" && key == "ignore");
    entries.retain(|e| !of_files(&e.key));
    entries.push(Entry { key: key.to_owned(), key_at: at, value });
    Ok(vec!["sources".into(), name.to_owned(), key.to_owned()])
}

/// Puts a scalar at a dotted path; steps and outputs of a list go by their id, their name, or their place from 0.
fn set(root: &mut Node, path: &str, value: &str, at: Position) -> Result<Vec<String>, String> {
    let parts: Vec<String> = path.split('.').map(str::to_owned).collect();
    if parts.iter().any(String::is_empty) || parts.len() > DEPTH_MAX {
        return Err("write the keys with dots between them: run.max_failed".into());
    }
    let text = |_| Node { at, span: 0..0, value: NodeValue::Str(value.to_owned()) };
    let mut value = file::parse_fragment(value).unwrap_or_else(text);
    put(&mut value, at);
    let mut node = root;
    for part in &parts {
        let described = node.describe();
        if matches!(node.value, NodeValue::Null) {
            node.value = NodeValue::Map(Vec::new());
        }
        node = match &mut node.value {
            NodeValue::Map(entries) => {
                let index = entries.iter().position(|e| e.key == *part).unwrap_or_else(|| {
                    let value = Node { at, span: 0..0, value: NodeValue::Null };
                    entries.push(Entry { key: part.clone(), key_at: at, value });
                    entries.len() - 1
                });
                &mut entries[index].value
            }
            NodeValue::Seq(items) => {
                let is_it = |n: &Node| ["id", "name"].iter().any(|key| n.get(key).and_then(Node::as_str) == Some(part));
                let index = items.iter().position(is_it).or_else(|| part.parse().ok().filter(|i| *i < items.len()));
                let index = index.ok_or_else(|| format!("there is nothing called {} in that list", quoted(part)))?;
                &mut items[index]
            }
            _ => return Err(format!("{} stands below {}", quoted(part), described)),
        };
    }
    *node = value;
    Ok(parts)
}

/// Puts a tree at a place that is none of the file's.
fn put(node: &mut Node, at: Position) {
    (node.at, node.span) = (at, 0..0);
    match &mut node.value {
        NodeValue::Seq(items) => items.iter_mut().for_each(|n| put(n, at)),
        NodeValue::Map(entries) => entries.iter_mut().for_each(|e| {
            e.key_at = at;
            put(&mut e.value, at);
        }),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::shape::to_json;
    use serde_json::{Value, json};

    const TEXT: &str = "run: { max_failed: 5%, in_flight: 2 }\nsteps:\n  - { id: a, use: split }\nprofiles:\n  ci: { run: { max_failed: 0 }, model: { seed: 3 } }\n";

    fn applied(profile: Option<&str>, sets: &[(&str, &str)]) -> (Value, Origins, Vec<String>) {
        let (source, mut root, _) = file::parse(std::path::Path::new("p.yaml"), TEXT.as_bytes()).unwrap();
        let sets: Vec<_> = sets.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let mut faults = Vec::new();
        let changes = Changes { profile, sets: &sets, sources: &[] };
        let origins = apply(&mut root, &source, &changes, &mut faults);
        (
            to_json(&root),
            origins,
            faults.into_iter().map(|f| format!("{} | {}", f.message, f.hints.join(" "))).collect(),
        )
    }

    #[test]
    fn the_command_line_wins_over_the_profile_and_the_profile_over_the_file() {
        let (root, origins, faults) = applied(Some("ci"), &[("run.in_flight", "8"), ("steps.a.size", "40 words")]);
        assert_eq!(faults, [""; 0]);
        assert_eq!(root["run"], json!({ "max_failed": 0, "in_flight": 8 }));
        assert_eq!((&root["model"]["seed"], &root["steps"][0]["size"]), (&json!(3), &json!("40 words")));
        let told: Vec<_> = origins.iter().map(|(path, origin)| (path.join("."), origin.clone())).collect();
        assert!(told.contains(&("run.max_failed".into(), Origin::Profile("ci".into()))), "{told:?}");
        assert!(told.contains(&("run.in_flight".into(), Origin::Set)), "{told:?}");
    }

    #[test]
    fn a_source_is_given_on_the_command_line_whatever_form_it_has_in_the_file() {
        let text = "sources: { a: \"x/*.txt\", b: { files: y, ignore: z }, c: { rows: q.csv }, d: { stdin: d.vtt } }\n";
        let (source, mut root, _) = file::parse(std::path::Path::new("p.yaml"), text.as_bytes()).unwrap();
        let given = ["a=-", "b=-", "c=-", "d=/f/*", "e=-"].map(|g| g.split_once('=').unwrap());
        let given: Vec<_> = given.iter().map(|(n, f)| (n.to_string(), f.to_string())).collect();
        let mut faults = Vec::new();
        apply(&mut root, &source, &Changes { sources: &given, ..Changes::default() }, &mut faults);
        let expected = json!({ "a": "-", "b": { "stdin": "stdin" }, "c": { "rows": "-" }, "d": { "files": "/f/*" } });
        assert_eq!(to_json(&root)["sources"], expected);
        assert!(faults[0].message.contains("there is no source `e`; its sources: a, b, c, d"), "{faults:?}");
    }

    #[test]
    fn what_is_not_there_is_said() {
        assert_eq!(applied(Some("cii"), &[]).2, ["`--profile cii` names no profile of the file | did you mean `ci`?"]);
        let faults = applied(None, &[("steps.b.size", "1"), ("run.max_failed.x", "1"), ("run..x", "1")]).2;
        assert!(faults[0].contains("nothing called `b`") && faults[1].contains("`x` stands below"), "{faults:?}");
        assert_eq!(faults.len(), 3);
    }
}
