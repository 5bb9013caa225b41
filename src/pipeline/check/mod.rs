//! File as written -> [`Plan`]: a function from texts, which names every mistake of an author at once.
//! Loads no model, prints nothing, and reads the disk only through [`Files`].

mod contracts;
mod eval_section;
mod models;
mod outputs;
mod sections;
mod slots;
mod sources;
mod steps;
mod tests_section;
mod whole;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::file;
use super::files::Files;
use super::include;
use super::overlay::{self, Origins};
use super::params::{Given, Params, ResolvedParam};
use super::plan::{Grouping, Plan, SourceKind};
use super::schemas;
use super::scope::Scope;
use super::shape::{Shaper, Surroundings};
use super::tables::{PARAM, ROOT};
use super::tree::{Node, NodeValue, Position, SourceText, quoted};
use crate::diagnostic::{Diagnostic, Severity};
use crate::spec::ValueSpec;
use crate::steps::StepKind;

/// What is to be checked, and what was said on the command line.
pub struct Request<'a> {
    pub file: &'a Path, // as the caller names it, and as it stands in every message
    pub kinds: &'a [&'static StepKind],
    pub overrides: &'a [(String, String)], // -p name=value, as typed
    pub profile: Option<&'a str>,
    pub sets: &'a [(String, String)],    // --set path=value, as typed
    pub sources: &'a [(String, String)], // --source name=files; `-` is standard input
    /// Returns an environment variable that a parameter names.
    pub environment: &'a dyn Fn(&str) -> Option<String>,
    pub model: Option<&'a str>,   // takes the place of the file's own preference
    pub current_folder: &'a Path, // absolute
    pub files: &'a dyn Files,
}

/// A pipeline without a mistake.
pub struct Checked {
    pub plan: Plan,
    pub warnings: Vec<Diagnostic>,
    /// As written, for `explain`.
    pub source: SourceText,
    pub root: Node,
    /// What a profile and the command line have changed in it.
    pub origins: Origins,
    pub params: Vec<ResolvedParam>,
}

/// Returns the plan of a file, or every mistake in it in the order of the text.
pub fn check(request: &Request<'_>) -> Result<Checked, Vec<Diagnostic>> {
    let path = request.current_folder.join(request.file);
    let bytes = request.files.read(&path).map_err(|error| {
        vec![Diagnostic::error(format!(
            "the pipeline {} cannot be read: {error}",
            quoted(&request.file.to_string_lossy())
        ))]
    })?;
    let (mut source, mut root, repeated) = file::parse(request.file, &bytes).map_err(|fault| vec![fault])?;
    let folder = path.parent().map(Path::to_path_buf).unwrap_or_else(|| request.current_folder.to_path_buf());

    let mut faults = repeated;
    include::apply(&mut root, &mut source, &folder, request.files, &mut faults);
    let changes = overlay::Changes { profile: request.profile, sets: request.sets, sources: request.sources };
    let origins = overlay::apply(&mut root, &source, &changes, &mut faults);
    let plan = plan(request, &source, &root, &folder, &mut faults);
    for fault in &mut faults {
        changes.tell_of(fault, &source);
        fault.place = fault.place.take().map(|place| source.resolve(place));
    }
    faults.sort_by(|a, b| a.place.cmp(&b.place));
    faults.dedup();
    let has_errors = faults.iter().any(|f| f.severity == Severity::Error);
    match plan {
        Some((plan, params)) if !has_errors => Ok(Checked { plan, warnings: faults, source, root, origins, params }),
        _ => Err(faults),
    }
}

/// Returns a plan as far as there is one; it is whole when nothing has been told.
fn plan(
    request: &Request<'_>,
    source: &SourceText,
    root: &Node,
    folder: &Path,
    faults: &mut Vec<Diagnostic>,
) -> Option<(Plan, Vec<ResolvedParam>)> {
    let at = |position: Position| position.in_file(&source.path);
    if matches!(root.value, NodeValue::Null) {
        faults.push(
            Diagnostic::error("the file is empty")
                .at(at(Position::START))
                .hint("it needs `version`, `sources` and `steps`"),
        );
        return None;
    }
    let unsettled = Params::default();
    let before = Surroundings { source, folder, params: &unsettled, schemas: &[], indexes: &[], files: request.files };

    let mut top = Shaper::new(&before, "");
    let known = top.keys(root, &ROOT.iter().collect::<Vec<_>>(), &[]).is_some();
    let mut text = |key: &str| {
        let node = root.get(key)?;
        top.value(node, &ValueSpec::Text, &mut vec![key.into()])?.as_str().map(str::to_owned)
    };
    let name = text("name").unwrap_or_else(|| stem(request.file));
    text("description");
    version(&mut top, root);
    faults.append(&mut top.faults);
    if !known {
        return None;
    }

    let params = params(request, &before, root, faults);
    let schema_names: Vec<String> =
        root.get("schemas").map(Node::entries).unwrap_or_default().iter().map(|e| e.key.clone()).collect();
    let index_names: Vec<String> =
        root.get("indexes").map(Node::entries).unwrap_or_default().iter().map(|e| e.key.clone()).collect();
    let (schemas, indexes) = (&schema_names, &index_names);
    let around = Surroundings { source, folder, params: &params, schemas, indexes, files: request.files };
    let schemas = schemas_of(&around, root, faults);

    let model = sections::model(&around, root.get("model"), request.model, faults);
    labels(&around, root.get("labels"), faults);
    let nothing = Scope::new(&[], &params, &[], false);
    let mut sources = sources::sources(&around, root.get("sources"), faults);
    let indexes =
        sections::indexes(&around, root.get("indexes"), (root.get("sources"), &mut sources), &nothing, faults);
    sections::filters(&around, root, faults);
    let tables = sources::tables(&mut sources);
    let row_documents = tables.is_empty() && sources.iter().any(|s| matches!(s.kind, SourceKind::Rows { .. }));
    let rows = sources::row_sources(sources.iter().chain(&tables));
    let run = sections::run(&around, root.get("run"), &nothing, faults);

    let drafts = steps::drafts(&around, root.get("steps"), request.kinds, faults);
    let known = steps::known(&drafts, row_documents);
    let scope = Scope::new(&known, &params, &rows, row_documents);
    let (mut used, mut whole) = (vec![false; known.len()], whole::Whole::default());
    let written = contracts::schemas_of(root);
    let steps = steps::plan(&around, drafts, &scope, &schemas, run.on_error, (&mut used, &mut whole), faults);
    let outputs =
        outputs::plan(&around, root.get("outputs"), &scope, (&written, &steps), (&mut used, &mut whole), faults);
    let mut shaper = Shaper::new(&around, "");
    let (grouping, kept) = whole.finish(&mut shaper, &scope);
    for id in &kept {
        known.iter().zip(&mut used).filter(|(step, _)| step.id == *id).for_each(|(_, used)| *used = true);
    }
    if let Some(Grouping::Of(id)) = &grouping {
        known.iter().zip(&mut used).filter(|(step, _)| step.id == *id).for_each(|(_, used)| *used = true);
    }
    faults.append(&mut shaper.faults);

    let eval = eval_section::plan(&around, root.get("eval"), &scope, faults);
    for id in eval.iter().flat_map(|e| e.steps()) {
        // What is measured is of use, also where no output holds it.
        known.iter().zip(&mut used).filter(|(step, _)| step.id == id).for_each(|(_, used)| *used = true);
    }
    let tests = tests_section::plan(&around, root.get("tests"), &scope, faults);
    warn(&around, root, &scope, &used, faults);
    let plan = Plan {
        file: request.file.to_path_buf(),
        folder: folder.to_path_buf(),
        name,
        params: params.values().clone(),
        model,
        sources,
        tables,
        indexes,
        steps,
        outputs,
        grouping,
        kept,
        counts_tokens: scope.counts_tokens(),
        run,
        eval,
        tests,
    };
    Some((plan, params.resolved()))
}

fn stem(file: &Path) -> String {
    file.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default()
}

fn version(top: &mut Shaper<'_>, root: &Node) {
    let Some(node) = root.get("version") else { return };
    if node.value != NodeValue::Int(1) {
        let message = format!("`version` must be 1, the only one this quarry reads, not {}", node.describe());
        top.fault(node.at, message).hints.push("write: version: 1".into());
    }
}

static PARAMS: ValueSpec = ValueSpec::Map(&ValueSpec::Object(PARAM));

fn params(request: &Request<'_>, before: &Surroundings<'_>, root: &Node, faults: &mut Vec<Diagnostic>) -> Params {
    let section = root.get("params");
    let mut shaper = Shaper::new(before, "params");
    let shaped = section.and_then(|node| shaper.value(node, &PARAMS, &mut Vec::new()));
    for entry in section.map(Node::entries).unwrap_or_default() {
        name_fault(&mut shaper, "parameter", &entry.key, entry.key_at);
    }
    faults.append(&mut shaper.faults);
    let empty = Map::new();
    let shaped = shaped.as_ref().and_then(Value::as_object).unwrap_or(&empty);
    let given = Given { overrides: request.overrides, environment: request.environment };
    Params::resolve(before.source, section, shaped, &given, request.current_folder, faults)
}

/// Names that templates use must be words that templates can hold.
fn name_fault(shaper: &mut Shaper<'_>, what: &str, name: &str, at: Position) {
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if begins && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return;
    }
    let message = format!("the {what} {} cannot be named in a template", quoted(name));
    let word: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let hint = if word.starts_with(|c: char| c.is_ascii_alphabetic()) {
        format!("letters, digits and `_` are possible: {word}")
    } else {
        "letters, digits and `_` are possible, with a letter first".into()
    };
    shaper.fault(at, message).hints.push(hint);
}

static LABELS: ValueSpec = ValueSpec::Map(&ValueSpec::Map(&ValueSpec::Text));

/// Tells what is wrong with the sets of labels, those that no step names too.
fn labels(around: &Surroundings<'_>, section: Option<&Node>, faults: &mut Vec<Diagnostic>) {
    let mut shaper = Shaper::new(around, "labels");
    if let Some(node) = section {
        shaper.value(node, &LABELS, &mut Vec::new());
    }
    faults.append(&mut shaper.faults);
}

/// The schemas that outputs name as their contract and no step names: those need not be ones that a model can be held to.
fn only_contracts(root: &Node) -> Vec<&str> {
    let items = |key: &str| match root.get(key).map(|n| &n.value) {
        Some(NodeValue::Seq(items)) => items.as_slice(),
        _ => &[],
    };
    let contracts = items("outputs").iter().filter_map(|o| o.get("contract")?.as_str());
    contracts.filter(|name| !items("steps").iter().any(|step| has_text(step, name))).collect()
}

fn has_text(node: &Node, text: &str) -> bool {
    match &node.value {
        NodeValue::Str(own) => own == text,
        NodeValue::Seq(items) => items.iter().any(|n| has_text(n, text)),
        NodeValue::Map(entries) => entries.iter().any(|e| has_text(&e.value, text)),
        _ => false,
    }
}

/// What stands in the place of a schema that is faulty, which has been told of: what its steps say of it is not told too.
fn faulty_schema() -> Value {
    json!({ "$comment": "faulty" })
}

/// Returns every schema, a faulty one as [`faulty_schema`].
fn schemas_of(around: &Surroundings<'_>, root: &Node, faults: &mut Vec<Diagnostic>) -> BTreeMap<String, Value> {
    let mut shaper = Shaper::new(around, "schemas");
    let mut resolved = BTreeMap::new();
    let only_contracts = only_contracts(root);
    if let Some(section) = root.get("schemas") {
        must_be_mapping(&mut shaper, section, "of names to schemas");
        for entry in section.entries() {
            if only_contracts.contains(&entry.key.as_str()) {
                continue; // told with the output
            }
            let schema = schemas::resolve(&mut shaper, &entry.key, &entry.value).unwrap_or_else(faulty_schema);
            resolved.insert(entry.key.clone(), schema);
        }
    }
    faults.append(&mut shaper.faults);
    resolved
}

fn must_be_mapping(shaper: &mut Shaper<'_>, node: &Node, of_what: &str) {
    if !matches!(node.value, NodeValue::Map(_)) {
        let message = format!("`{}` must be a mapping {of_what}, not {}", shaper.name(&[]), node.describe());
        shaper.fault(node.at, message);
    }
}

/// Tells what is allowed and yet hardly meant.
fn warn(around: &Surroundings<'_>, root: &Node, scope: &Scope<'_>, used: &[bool], faults: &mut Vec<Diagnostic>) {
    let place = |position: Position| position.in_file(&around.source.path);
    if root.get("outputs").is_none() {
        let warning = Diagnostic::warning("the file has no `outputs`: nothing will be written");
        faults.push(warning.at(place(Position::START)));
        return; // of course nothing uses the steps then
    }
    if faults.iter().any(|f| f.severity == Severity::Error) {
        return; // what is faulty may be what would have used them
    }
    let key_at =
        |section: &str, key: &str| root.get(section)?.entries().iter().find(|e| e.key == key).map(|e| place(e.key_at));
    for name in around.params.unused() {
        let warning = Diagnostic::warning(format!("nothing uses the parameter `{name}`"));
        faults.push(Diagnostic { place: key_at("params", name), ..warning });
    }
    let Some(NodeValue::Seq(items)) = root.get("steps").map(|n| &n.value) else { return };
    for ((step, item), _) in scope.steps.iter().zip(items).zip(used).filter(|(_, used)| !**used) {
        faults.push(Diagnostic::warning(format!("nothing uses `steps.{}`", step.id)).at(place(item.at)));
    }
}

/// Returns a path of the file as an absolute one.
fn absolute(folder: &Path, path: &str) -> PathBuf {
    folder.join(path)
}

#[cfg(test)]
mod tests;
