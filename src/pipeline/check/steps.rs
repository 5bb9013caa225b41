//! The section `steps`: verbs found, options checked, references followed, steps built.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::sections::on_error;
use super::whole::{self, Whole};
use super::{name_fault, slots};
use crate::diagnostic::{Diagnostic, suggest};
use crate::pipeline::files::read_text;
use crate::pipeline::plan::{OnError, Per, Rounds, RowsOf, StepPlan};
use crate::pipeline::references;
use crate::pipeline::scope::{KnownStep, Scope, Seat};
use crate::pipeline::shape::{Shaper, Surroundings};
use crate::pipeline::tables::STEP;
use crate::pipeline::tree::{Node, NodeValue, Position, quoted};
use crate::spec::KeySpec;
use crate::steps::{BuildContext, StepKind};

/// Every step may name every other: this bounds the work of checking that.
const MAX_STEPS: usize = 500;

/// A step whose name and verb have been read.
pub struct Draft<'n> {
    id: String,
    kind: Option<&'static StepKind>, // `None` where the verb is faulty
    node: &'n Node,
}

/// Returns every step of the section with its name and verb, and tells what is wrong with these.
pub fn drafts<'n>(
    around: &Surroundings<'_>,
    section: Option<&'n Node>,
    kinds: &[&'static StepKind],
    faults: &mut Vec<Diagnostic>,
) -> Vec<Draft<'n>> {
    let mut shaper = Shaper::new(around, "steps");
    let mut drafts: Vec<Draft<'n>> = Vec::new();
    let mut seen: BTreeMap<String, Position> = BTreeMap::new();
    if let Some(section) = section {
        let items = match &section.value {
            NodeValue::Seq(items) => items.as_slice(),
            _ => &[],
        };
        if items.is_empty() {
            let what =
                if matches!(section.value, NodeValue::Seq(_)) { "an empty one".into() } else { section.describe() };
            let fault = shaper.fault(section.at, format!("`steps` must be a list of steps, not {what}"));
            fault.hints.push("write: - { id: minutes, use: summarize }".into());
        }
        if let Some(first) = items.get(MAX_STEPS) {
            shaper.fault(first.at, format!("more than {MAX_STEPS} steps in one file (max_steps)"));
        }
        for (i, node) in items.iter().take(MAX_STEPS).enumerate() {
            let id = read_id(&mut shaper, node, &mut seen).unwrap_or_else(|| i.to_string());
            drafts.push(Draft { id, kind: read_verb(&mut shaper, node, kinds), node });
        }
    }
    faults.append(&mut shaper.faults);
    drafts
}

/// Missing and mistyped ids are told with the step's other keys.
fn read_id(shaper: &mut Shaper<'_>, node: &Node, seen: &mut BTreeMap<String, Position>) -> Option<String> {
    let written = node.get("id")?;
    let id = written.as_str()?;
    name_fault(shaper, "step", id, written.at);
    match seen.get(id) {
        Some(first) => {
            let first = shaper.around.source.place(*first);
            let file = if first.file == shaper.around.source.place(written.at).file {
                String::new()
            } else {
                format!("{}, ", first.file.display())
            };
            let hint = format!("the first one stands at {file}line {}", first.line);
            shaper.fault(written.at, format!("two steps are called {}", quoted(id))).hints.push(hint);
        }
        None => {
            seen.insert(id.to_owned(), written.at);
        }
    }
    Some(id.to_owned())
}

fn read_verb(shaper: &mut Shaper<'_>, node: &Node, kinds: &[&'static StepKind]) -> Option<&'static StepKind> {
    let written = node.get("use")?;
    let verb = written.as_str()?;
    if let Some(kind) = kinds.iter().find(|k| k.name == verb) {
        return Some(kind);
    }
    let hint = match suggest(verb, kinds.iter().map(|k| k.name)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("known verbs: {}", kinds.iter().map(|k| k.name).collect::<Vec<_>>().join(", ")),
    };
    shaper.fault(written.at, format!("there is no verb {}", quoted(verb))).hints.push(hint);
    None
}

/// Returns the steps as others may name them.
pub fn known(drafts: &[Draft<'_>], row_documents: bool) -> Vec<KnownStep> {
    let per = |node: &Node| node.get("per").and_then(Node::as_str).and_then(Per::named).unwrap_or_default();
    let local = |node: &Node| {
        let rows = if row_documents { RowsOf::Documents } else { RowsOf::Table(String::new()) };
        Rounds { per: per(node), over: None, foreach: node.get("foreach").map(|_| String::new()), rows }.local()
    };
    let known = |d: &Draft<'_>| {
        let is_object = ["schema", "tools"].iter().any(|key| d.node.get(key).is_some());
        KnownStep { id: d.id.clone(), kind: d.kind, local: local(d.node), is_object, per: per(d.node) }
    };
    drafts.iter().map(known).collect()
}

/// Returns the steps that are without fault, and marks those that a step reads.
pub fn plan(
    around: &Surroundings<'_>,
    drafts: Vec<Draft<'_>>,
    scope: &Scope<'_>,
    schemas: &BTreeMap<String, Value>,
    run_on_error: OnError,
    (used, whole): (&mut [bool], &mut Whole),
    faults: &mut Vec<Diagnostic>,
) -> Vec<StepPlan> {
    let mut plans = Vec::new();
    for (index, draft) in drafts.iter().enumerate() {
        let mut shaper = Shaper::new(around, format!("steps.{}", draft.id));
        let mut reads = Vec::new();
        let plan = match draft.kind {
            Some(kind) => {
                let options = shaper.object(draft.node, &table(kind), &mut Vec::new());
                reads = named(&mut shaper, draft, index, scope, whole);
                // A fault in another step does not keep this one from being built, and so from telling its own.
                let sound = shaper.faults.is_empty();
                options.filter(|_| sound).and_then(|options| {
                    build(&mut shaper, draft, kind, options, schemas, run_on_error, scope, index, &mut reads)
                })
            }
            None => {
                check_common(&mut shaper, draft.node);
                reads.extend(named(&mut shaper, draft, index, scope, whole));
                None
            }
        };
        reads.iter().for_each(|r| used[*r] = true);
        plans.extend(plan);
        faults.append(&mut shaper.faults);
    }
    plans
}

/// Tells what is wrong with what a step names, and returns the steps that it reads.
fn named(shaper: &mut Shaper<'_>, draft: &Draft<'_>, index: usize, scope: &Scope<'_>, whole: &mut Whole) -> Vec<usize> {
    let per = scope.steps[index].per;
    whole::per_faults(shaper, draft.node, scope);
    if per == Per::Row {
        shaper.slots.retain(|slot| slot.path != ["over"]); // the name of a source
    }
    whole.take(shaper, draft.node, per);
    shaper.slots.retain(|slot| !whole::is_group_step(slot, scope.steps));
    let reads = slots::check(shaper, scope, |slot| match slot.path.first().map(String::as_str) {
        Some("group_by") => Seat::Kept,
        _ => Seat::Step(index),
    });
    if per.is_whole() {
        whole.read(&reads);
    }
    reads
}

fn table(kind: &'static StepKind) -> Vec<&'static KeySpec> {
    STEP.iter().chain(kind.keys).collect()
}

/// Without a verb nothing is known of its keys: only the common ones are checked.
fn check_common(shaper: &mut Shaper<'_>, node: &Node) {
    if !matches!(node.value, NodeValue::Map(_)) {
        shaper.keys(node, &STEP.iter().collect::<Vec<_>>(), &[]);
        return;
    }
    for spec in STEP {
        let path = &mut vec![spec.name.to_owned()];
        match node.get(spec.name) {
            Some(value) if !matches!(spec.value, crate::spec::ValueSpec::Later) => {
                shaper.value(value, &spec.value, path);
            }
            None if spec.required => {
                let message = format!("`{}` is missing in `{}`", spec.name, shaper.base);
                shaper.fault(node.at, message).hints.push(spec.help.into());
            }
            _ => {}
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "one caller, and every one of them is a different thing")]
fn build(
    shaper: &mut Shaper<'_>,
    draft: &Draft<'_>,
    kind: &'static StepKind,
    mut options: Map<String, Value>,
    schemas: &BTreeMap<String, Value>,
    run_on_error: OnError,
    scope: &Scope<'_>,
    index: usize,
    reads: &mut Vec<usize>,
) -> Option<StepPlan> {
    let when = options.remove("when").and_then(|w| w.as_str().map(str::to_owned));
    // It stays among the options: a check does by it.
    let on_error = options.get("on_error").and_then(on_error).unwrap_or(run_on_error);
    if on_error == OnError::Mark {
        options.insert("on_error".into(), "mark".into()); // also where the run says so
    }
    let mut expression = |key: &str| options.remove(key).and_then(|e| e.as_str().map(str::to_owned));
    let (over, foreach) = (expression("over"), expression("foreach"));
    let per = options.get("per").and_then(Value::as_str).and_then(Per::named).unwrap_or_default();
    let rounds = match (per, over) {
        (Per::Row, Some(name)) if scope.row_documents => {
            Rounds { per, rows: RowsOf::Source(name.trim().to_owned()), over: None, foreach }
        }
        (Per::Row, Some(name)) => Rounds { per, rows: RowsOf::Table(name.trim().to_owned()), over: None, foreach },
        (per, over) => Rounds { per, over, foreach, rows: RowsOf::Documents },
    };
    for key in ["id", "use", "per", "group_by"] {
        options.remove(key);
    }
    let options = Value::Object(options);
    let files = RefCell::new(BTreeMap::<String, String>::new());
    let around = shaper.around;
    let read_file = |name: &str| {
        let text = read_text(around.files, &around.folder.join(name))
            .map_err(|reason| format!("the file {} cannot be used: {reason}", quoted(name)))?;
        files.borrow_mut().insert(name.to_owned(), text.clone());
        Ok(text)
    };
    let context =
        BuildContext { id: &draft.id, options: &options, schemas, indexes: around.indexes, read_file: &read_file };
    let step = match (kind.build)(&context) {
        Ok(step) => step,
        Err(option_faults) => {
            let faulty = super::faulty_schema();
            let is_told = |name: &str| schemas.get(name) == Some(&faulty);
            let named = |key: &String| context.options.get(key).and_then(Value::as_str);
            for fault in option_faults {
                if fault.path.first().and_then(named).is_some_and(is_told) {
                    continue;
                }
                let at = shaper.place_of(&fault.path).unwrap_or(draft.node.at);
                let message = format!("`{}`: {}", shaper.name(&fault.path), fault.message);
                shaper.fault(at, message).hints = fault.hints;
            }
            return None;
        }
    };
    for notice in step.notices() {
        let warning = Diagnostic::warning(format!("`{}`: {notice}", shaper.base));
        shaper.faults.push(warning.at(draft.node.at.in_file(&shaper.around.source.path)));
    }
    let files = files.into_inner();
    // A file that a step reads as a template may name steps: better a reference too many than a stale result.
    for text in files.values() {
        if let Ok(found) = references::of_template(text) {
            reads.extend(scope.check(&found, Seat::Step(index)).reads);
        }
    }
    reads.sort_unstable();
    reads.dedup();
    Some(StepPlan {
        id: draft.id.clone(),
        kind,
        step: Arc::from(step),
        when,
        rounds,
        on_error,
        resolved: resolved(kind, &options, files, schemas),
        reads: reads.iter().map(|r| scope.steps[*r].id.clone()).collect(),
    })
}

/// Returns all that a step's result depends on beside the document and the steps it reads.
fn resolved(
    kind: &StepKind,
    options: &Value,
    files: BTreeMap<String, String>,
    schemas: &BTreeMap<String, Value>,
) -> Value {
    let named: Map<String, Value> =
        schemas.iter().filter(|(name, _)| mentions(options, name)).map(|(n, s)| (n.clone(), s.clone())).collect();
    json!({ "use": kind.name, "options": options, "files": files, "schemas": named })
}

/// Whether a text anywhere in the options is that name.
fn mentions(value: &Value, name: &str) -> bool {
    match value {
        Value::String(text) => text == name,
        Value::Array(items) => items.iter().any(|i| mentions(i, name)),
        Value::Object(entries) => entries.values().any(|v| mentions(v, name)),
        _ => false,
    }
}
