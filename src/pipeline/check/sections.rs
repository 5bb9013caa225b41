//! The sections `model`, `indexes` and `run`: from a checked table to the plan's own types.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value};

use super::{models, must_be_mapping, name_fault, slots};
use crate::corpus::chunker::ChunkOptions;
use crate::diagnostic::Diagnostic;
use crate::inference::engine::{Quantization, Quantize};
use crate::inference::sampler::SamplingParams;
use crate::pipeline::plan::{
    Deadline, IndexPlan, MaxFailed, ModelPlan, OnError, RetryPlan, RunPlan, SourceKind, SourcePlan,
};
use crate::pipeline::quantity;
use crate::pipeline::scope::{Scope, Seat};
use crate::pipeline::shape::{Shaper, Surroundings};
use crate::pipeline::tables::{INDEX, MODEL, RUN};
use crate::pipeline::tree::{Node, NodeValue, Position, quoted};
use crate::spec::KeySpec;
use crate::steps::{GenerationDefaults, Reason};

/// Returns a section that may be left out, with its defaults.
fn section(
    around: &Surroundings<'_>,
    name: &str,
    node: Option<&Node>,
    table: &'static [KeySpec],
    faults: &mut Vec<Diagnostic>,
) -> Map<String, Value> {
    let mut shaper = Shaper::new(around, name);
    let object = shaped(&mut shaper, node, table);
    faults.append(&mut shaper.faults);
    object
}

fn shaped(shaper: &mut Shaper<'_>, node: Option<&Node>, table: &'static [KeySpec]) -> Map<String, Value> {
    let nothing = Node { at: Position::START, span: 0..0, value: NodeValue::Map(Vec::new()) };
    let table: Vec<_> = table.iter().collect();
    shaper.object(node.unwrap_or(&nothing), &table, &mut Vec::new()).unwrap_or_default()
}

pub fn model(
    around: &Surroundings<'_>,
    node: Option<&Node>,
    instead: Option<&str>,
    faults: &mut Vec<Diagnostic>,
) -> ModelPlan {
    let model = section(around, "model", node, MODEL, faults);
    let number = |key: &str, or: f32| model.get(key).and_then(Value::as_f64).map_or(or, |n| n as f32);
    let count = |key: &str| model.get(key).and_then(Value::as_u64);
    let off = SamplingParams::default();
    let (preference, written) = match (instead, model.get("use")) {
        (Some(model), _) => (vec![model.to_owned()], BTreeMap::new()),
        (None, Some(Value::Array(names))) => models::named(around, names, node, faults),
        (None, Some(one)) => models::named(around, std::slice::from_ref(one), node, faults),
        _ => Default::default(),
    };
    if preference.is_empty()
        && node.is_some_and(|n| n.get("use").is_some_and(|u| u.value == NodeValue::Seq(Vec::new())))
    {
        let at = node.and_then(|n| n.get("use")).map_or(Position::START, |n| n.at);
        faults.push(Diagnostic::error("`model.use` names no model").at(at.in_file(&around.source.path)));
    }
    ModelPlan {
        preference,
        written,
        defaults: GenerationDefaults {
            sampling: SamplingParams {
                temperature: number("temperature", off.temperature),
                top_k: count("top_k").map_or(off.top_k, |n| n as usize),
                top_p: number("top_p", off.top_p),
                min_p: number("min_p", off.min_p),
                repetition_penalty: number("repetition_penalty", off.repetition_penalty),
                repetition_window: off.repetition_window,
                seed: count("seed").unwrap_or(off.seed),
            },
            window: count("window").map(|n| n as usize),
        },
        threads: count("threads").map(|n| n as usize),
        quantize: match model.get("quantize").and_then(Value::as_str) {
            Some("q8_0") => Quantize::To(Quantization::Q8_0),
            Some("q4_k") => Quantize::To(Quantization::Q4K),
            Some(_) => Quantize::Never,
            None => Quantize::Auto,
        },
    }
}

pub fn run(around: &Surroundings<'_>, node: Option<&Node>, scope: &Scope<'_>, faults: &mut Vec<Diagnostic>) -> RunPlan {
    let mut shaper = Shaper::new(around, "run");
    let run = shaped(&mut shaper, node, RUN);
    slots::check(&mut shaper, scope, |_| Seat::Path { has_document: false });
    faults.append(&mut shaper.faults);
    let timeout = |key: &str| run.get("timeout")?.get(key)?.as_u64().map(Duration::from_millis);
    let max_failed = run.get("max_failed").map_or(MaxFailed::Share(1.0), |value| {
        match (value.get("count").and_then(Value::as_u64), value.get("share").and_then(Value::as_f64)) {
            (Some(count), _) => MaxFailed::Count(count as usize),
            (None, share) => MaxFailed::Share(share.unwrap_or(1.0)),
        }
    });
    RunPlan {
        on_error: run.get("on_error").and_then(on_error).unwrap_or(OnError::Quarantine),
        max_failed,
        document_timeout: timeout("document"),
        step_timeout: timeout("step"),
        in_flight: run.get("in_flight").and_then(Value::as_u64).unwrap_or(1) as usize,
        read_ahead_bytes: run.get("read_ahead").and_then(Value::as_u64).unwrap_or(0),
        quarantine: run.get("quarantine").and_then(Value::as_str).map(str::to_owned),
        retry: run.get("retry").map(retry),
        deadline: run.get("deadline").and_then(Value::as_str).and_then(|text| {
            let at = node.and_then(|n| n.get("deadline")).map_or(Position::START, |n| n.at);
            let deadline = deadline(text);
            if deadline.is_none() {
                let message = format!("`run.deadline` must be a time such as 06:00, or +5h, not {}", quoted(text));
                faults.push(Diagnostic::error(message).at(at.in_file(&around.source.path)));
            }
            deadline
        }),
        events: run.get("events").and_then(Value::as_str).map(str::to_owned),
        lock_wait: Duration::from_millis(run.get("lock").and_then(|l| l.get("wait")?.as_u64()).unwrap_or(0)),
        nice: run.get("nice").and_then(Value::as_i64).map(|n| n as i32),
    }
}

fn retry(value: &Value) -> RetryPlan {
    let reason = |word: &Value| match word.as_str() {
        Some("invalid-output") => vec![Reason::SchemaNotMet, Reason::EvidenceMissing],
        Some("timeout") => vec![Reason::TimedOut],
        Some("engine") => vec![Reason::EngineFailed],
        _ => Vec::new(),
    };
    RetryPlan {
        times: value.get("times").and_then(Value::as_u64).unwrap_or(1) as usize,
        on: value.get("on").and_then(Value::as_array).into_iter().flatten().flat_map(reason).collect(),
        temperature: value["change"]["temperature"].as_f64().unwrap_or(0.2) as f32,
    }
}

/// Returns `06:00` or `+5h` as a deadline; a time that is over already is one of tomorrow.
fn deadline(text: &str) -> Option<Deadline> {
    match text.strip_prefix('+') {
        Some(after) => Some(Deadline::After(Duration::from_millis(quantity::duration(after)?))),
        None => jiff::fmt::strtime::parse("%H:%M", text).ok()?.to_time().ok().map(Deadline::At),
    }
}

pub fn on_error(value: &Value) -> Option<OnError> {
    match value.as_str()? {
        "stop" => Some(OnError::Stop),
        "quarantine" => Some(OnError::Quarantine),
        "skip" => Some(OnError::Skip),
        "mark" => Some(OnError::Mark),
        _ => None,
    }
}

/// Returns the indexes, each with the source that it is made of: taken out of `sources`, for its files are no documents.
pub fn indexes(
    around: &Surroundings<'_>,
    node: Option<&Node>,
    (written, sources): (Option<&Node>, &mut Vec<SourcePlan>),
    scope: &Scope<'_>,
    faults: &mut Vec<Diagnostic>,
) -> Vec<IndexPlan> {
    let mut shaper = Shaper::new(around, "indexes");
    let mut plans: Vec<IndexPlan> = Vec::new();
    if let Some(node) = node {
        must_be_mapping(&mut shaper, node, "of names to indexes");
        for entry in node.entries() {
            name_fault(&mut shaper, "index", &entry.key, entry.key_at);
            let path = &mut vec![entry.key.clone()];
            let Some(index) = shaper.object(&entry.value, &INDEX.iter().collect::<Vec<_>>(), path) else { continue };
            slots::check(&mut shaper, scope, |_| Seat::Path { has_document: true });
            let from = index.get("from").and_then(Value::as_str).unwrap_or_default();
            let at = entry.value.get("from").map_or(entry.value.at, |n| n.at);
            if let Some(taken) = plans.iter().find(|p| p.source.name == from) {
                shaper.fault(at, format!("the source {} is that of the index `{}`", quoted(from), taken.name));
                continue;
            }
            let Some(position) = sources.iter().position(|s| s.name == from) else {
                if written.is_some_and(|w| w.get(from).is_some()) {
                    continue; // it is faulty, and that has been told
                }
                let message = format!("there is no source {} for the index `{}`", quoted(from), entry.key);
                let known = sources.iter().map(|s| s.name.as_str());
                let near = crate::diagnostic::suggest(from, known).map(|n| format!("did you mean `{n}`?"));
                shaper.fault(at, message).hints.extend(near);
                continue;
            };
            if sources[position].kind != SourceKind::Files {
                let message = format!("the source {} of the index `{}` has no files", quoted(from), entry.key);
                shaper.fault(at, message).hints.push("an index is made of `files`".into());
                continue;
            }
            if sources[position].read["no_text"] != "quarantine" {
                let message =
                    format!("`sources.{from}.read.no_text` is of documents, and the source is that of an index");
                let hint = "leave it out: a file without text is said, and the index goes on";
                shaper.fault(at, message).hints.push(hint.into());
            }
            let split = split_text(index.get("split").unwrap_or(&Value::Null));
            if let Err(found) = ChunkOptions::parse(&split) {
                for fault in found {
                    let at = entry.value.get("split").map_or(entry.value.at, |n| n.at);
                    shaper.fault(at, format!("`indexes.{}.split.{}` {}", entry.key, fault.key, fault.message));
                }
            }
            plans.push(IndexPlan {
                name: entry.key.clone(),
                source: sources.remove(position),
                split,
                embedder: index
                    .get("vectors")
                    .and_then(|v| v.as_str().or_else(|| v.get("model")?.as_str()))
                    .map(str::to_owned),
                when_available: index.get("vectors").is_some_and(|v| v.get("when").is_some_and(|w| w == "available")),
                fields: index.get("fields").cloned().unwrap_or_default(),
            });
        }
        if sources.is_empty() && !plans.is_empty() && shaper.faults.is_empty() {
            let message = "every source is that of an index: the steps have no document left to be done for";
            shaper.fault(node.at, message).hints.push("add a source, such as of files with a question in each".into());
        }
    }
    faults.append(&mut shaper.faults);
    plans
}

/// Fields that every document of an index can have without being asked; `path` takes a glob.
const FIELDS: &[&str] = &["path", "ext", "format", "stem", "title", "author", "date", "language", "notes", "needs_ocr"];

/// Tells of filters that ask for a field no passage can have: they would find nothing, and say nothing.
pub fn filters(around: &Surroundings<'_>, root: &Node, faults: &mut Vec<Diagnostic>) {
    let Some(NodeValue::Seq(steps)) = root.get("steps").map(|n| &n.value) else { return };
    for step in steps.iter().filter(|s| s.get("use").and_then(Node::as_str) == Some("retrieve")) {
        let (Some(filter), Some(from)) = (step.get("filter"), step.get("from").and_then(Node::as_str)) else {
            continue;
        };
        let index = root.get("indexes").and_then(|indexes| indexes.get(from));
        let declared = index.and_then(|i| i.get("fields")).map(Node::entries).unwrap_or_default();
        let known = || FIELDS.iter().copied().chain(declared.iter().map(|e| e.key.as_str()));
        for entry in filter.entries().iter().filter(|e| !known().any(|k| k == e.key)) {
            let id = step.get("id").and_then(Node::as_str).unwrap_or_default();
            let message =
                format!("`steps.{id}.filter` asks for {}, a field that no passage of `{from}` has", quoted(&entry.key));
            let fault = Diagnostic::error(message).at(entry.key_at.in_file(&around.source.path));
            faults.push(match crate::diagnostic::suggest(&entry.key, known()) {
                Some(near) => fault.hint(format!("did you mean `{near}`?")),
                None => fault.hint(format!("write under `indexes.{from}`: fields: {{ {0}: doc.meta.{0} }}", entry.key)),
            });
        }
    }
}

/// Amounts in the form that the chunker reads: `400 tokens`.
fn split_text(split: &Value) -> Value {
    let text = |value: &Value| match (value.get("n"), value.get("unit").and_then(Value::as_str)) {
        (Some(n), Some(unit)) => Value::String(format!("{n} {unit}")),
        _ => value.clone(),
    };
    match split.as_object() {
        // The headings are kept in any case: an index that was made before that could be written stays as it is.
        Some(keys) => {
            Value::Object(keys.iter().filter(|(k, _)| *k != "context").map(|(k, v)| (k.clone(), text(v))).collect())
        }
        None => split.clone(),
    }
}
