//! What is done over all documents, or over groups of them, when all of them have their end. It takes what the journal
//! keeps of each, so that a run in which only one has changed does not do the others again.

use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::commit::Ledger;
use super::results::{self, Wrote, fill};
use super::standing::report_of;
use super::walk::{Halt, Walk, Walked};
use super::worker::STACK_BYTES;
use super::{Job, RunError};
use crate::corpus::document::{Document, Format};
use crate::pipeline::events::{DocumentEvent, Event};
use crate::pipeline::inputs::Input;
use crate::pipeline::model::LazyModel;
use crate::pipeline::names::Names;
use crate::pipeline::plan::{Grouping, Per, Plan, StepPlan};
use crate::pipeline::report::{DocumentReport, Failure, Outcome, Skip, State};
use crate::pipeline::scope::KEPT_OF_DOC;
use crate::pipeline::shown::shown;
use crate::pipeline::sink::file_names::NameRegistry;
use crate::pipeline::sink::{Provenance, QUARRY_VERSION, is_intact};
use crate::steps::Reason;

/// What stands in reports for all documents together.
pub(super) const ALL: &str = "all documents";

/// Returns what of a document's names is kept for what is done over all; `None` where nothing is.
pub(super) fn kept(plan: &Plan, names: &Value) -> Option<Value> {
    if !plan.has_whole() {
        return None;
    }
    let of = |under: &str, keys: &mut dyn Iterator<Item = &str>| -> Map<String, Value> {
        keys.map(|key| (key.to_owned(), names[under][key].clone())).collect()
    };
    let doc = of("doc", &mut KEPT_OF_DOC.iter().copied());
    let steps = of("steps", &mut plan.kept.iter().map(String::as_str));
    let mut kept = json!({ "doc": doc, "steps": steps });
    if let Some(row) = names.get("row") {
        kept["row"] = row.clone();
    }
    Some(kept)
}

/// What is kept of the documents, in the order of the inputs, and those of which nothing is.
#[derive(Default)]
pub(super) struct Material {
    pub documents: Vec<Value>, // `{doc, row, steps, state}`
    pub left_out: Vec<String>,
}

/// What came of a group, or of all documents.
pub(super) struct Done {
    pub id: String,
    pub per: Per,
    pub names: Names,
    pub walked: Walked,
    pub failure: Option<Failure>,
    pub stops: bool, // the run
}

impl Done {
    fn new(id: String, per: Per, names: Names) -> Self {
        Self { id, per, names, walked: Walked::default(), failure: None, stops: false }
    }

    /// Does one step on it, unless one has failed already.
    fn step(&mut self, walk: &Walk<'_, '_>, step: &StepPlan) -> Result<(), Halt> {
        if self.failure.is_some() {
            return Ok(());
        }
        let document = Document { path: self.id.clone().into(), ..Document::of(Format::Text, String::new()) };
        // Each step of each group has the time of a document.
        let walk = Walk { started: Instant::now(), ..*walk };
        let mut loading = Duration::ZERO;
        match walk.one(step, &document, &mut self.names, &mut self.walked, &mut loading) {
            Err(Halt::Failed(failure)) => self.failure = Some(failure),
            Err(Halt::Stop(failure)) => (self.failure, self.stops) = (Some(failure), true),
            Err(halt) => return Err(halt),
            Ok(()) => {}
        }
        Ok(())
    }

    fn value(&self, step: &StepPlan) -> Value {
        self.names.value()["steps"][&step.id].clone()
    }
}

/// Does every step over all documents, in the order of the file. Returns the groups in their order, then all documents.
/// Of groups, so many are worked on at once.
pub(super) fn over_all(
    walk: &Walk<'_, '_>,
    run: &Value,
    material: &Material,
    at_once: usize,
) -> Result<Vec<Done>, Halt> {
    let plan = walk.plan;
    let corpus = json!({
        "documents": material.documents, "count": material.documents.len(), "left_out": material.left_out,
    });
    let names =
        Names::over_all(&plan.params, &[("corpus", corpus.clone())], lists(plan, &material.documents), run.clone());
    let mut all = Done::new(ALL.to_owned(), Per::Corpus, names);
    if !material.left_out.is_empty() {
        let few = super::commit::first_few(&material.left_out.iter().map(String::as_str).collect::<Vec<_>>());
        let line = format!("{} documents have no result and are not in it: {few}", material.left_out.len());
        all.walked.partial.push(line);
    }
    let mut groups: Option<Vec<Done>> = None;
    for step in plan.steps.iter().filter(|s| s.rounds.per.is_whole()) {
        if step.rounds.per == Per::Corpus {
            all.step(walk, step)?;
            let value = all.value(step);
            groups.iter_mut().flatten().for_each(|g| g.names.set_step(&step.id, value.clone()));
        } else if all.failure.is_none() {
            let groups = groups.get_or_insert_with(|| groups_of(walk, run, &corpus, &mut all, material));
            on_groups(walk, step, groups, at_once)?;
            let values = groups.iter().map(|g| g.value(step)).collect();
            all.names.set_step(&step.id, values);
        }
        if all.stops || groups.iter().flatten().any(|g| g.stops) {
            break;
        }
    }
    let has_pages = plan.outputs.iter().any(|o| o.per == Per::Group);
    if has_pages && groups.is_none() && all.failure.is_none() {
        groups = Some(groups_of(walk, run, &corpus, &mut all, material));
    }
    let mut done = groups.unwrap_or_default();
    if let Some(failure) = &all.failure {
        done.iter_mut().for_each(|g| g.failure = g.failure.take().or_else(|| Some(failure.clone())));
    }
    done.push(all);
    Ok(done)
}

/// Does one step on every group, several at once: the model answers them together.
fn on_groups(walk: &Walk<'_, '_>, step: &StepPlan, groups: &mut [Done], at_once: usize) -> Result<(), Halt> {
    let num_threads = at_once.min(groups.len());
    let (queue, halted) = (Mutex::new(groups.iter_mut()), Mutex::new(None));
    let work = || {
        while lock(&halted).is_none() {
            let Some(group) = lock(&queue).next() else { break };
            if let Err(halt) = group.step(walk, step) {
                lock(&halted).get_or_insert(halt);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..num_threads {
            let thread = std::thread::Builder::new().name("group".into()).stack_size(STACK_BYTES);
            if thread.spawn_scoped(scope, work).is_err() {
                break; // fewer at once will do
            }
        }
        work();
    });
    let halted = halted.into_inner().unwrap_or_else(|e| e.into_inner());
    halted.map_or(Ok(()), Err)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

/// The values of each step that is kept, a list with one for each document.
fn lists(plan: &Plan, documents: &[Value]) -> Value {
    let of = |id: &String| documents.iter().map(|d| d["steps"][id].clone()).collect::<Vec<_>>();
    plan.kept.iter().map(|id| (id.clone(), Value::from(of(id)))).collect::<Map<_, _>>().into()
}

/// Returns the groups; where there can be none that is a failure of all.
fn groups_of(walk: &Walk<'_, '_>, run: &Value, corpus: &Value, all: &mut Done, material: &Material) -> Vec<Done> {
    let plan = walk.plan;
    let found: Result<Vec<(Value, Value)>, String> = match &plan.grouping {
        Some(Grouping::By(expression)) => by(walk, run, expression, &material.documents),
        Some(Grouping::Of(id)) => Ok(match &all.names.value()["steps"][id] {
            Value::Array(groups) => groups.iter().map(|g| (g["key"].clone(), g["items"].clone())).collect(),
            _ => Vec::new(), // its `when` did not hold
        }),
        None => Ok(Vec::new()),
    };
    let found = match found {
        Ok(found) => found,
        Err(detail) => {
            all.failure =
                Some(Failure { step: None, reason: Reason::TemplateFailed, detail: format!("group_by: {detail}") });
            return Vec::new();
        }
    };
    let is_of_documents = matches!(plan.grouping, Some(Grouping::By(_)));
    let mut groups: Vec<Done> = Vec::new();
    for (key, items) in found {
        let count = items.as_array().map_or(0, Vec::len);
        let own = match items.as_array() {
            Some(documents) if is_of_documents => lists(plan, documents),
            _ => lists(plan, &material.documents),
        };
        let group = json!({ "key": key, "count": count, "items": items });
        let under = [("corpus", corpus.clone()), ("group", group)];
        let mut names = Names::over_all(&plan.params, &under, own, run.clone());
        for step in plan.steps.iter().filter(|s| s.rounds.per == Per::Corpus) {
            if let Some(value) = all.names.value()["steps"].get(&step.id) {
                names.set_step(&step.id, value.clone());
            }
        }
        let called = match &key {
            Value::String(text) => text.clone(),
            Value::Null => "none".to_owned(),
            other => other.to_string(),
        };
        let id = format!("group {called}");
        let twins = groups.iter().filter(|g| g.id == id || g.id.starts_with(&format!("{id} ("))).count();
        let id = if twins == 0 { id } else { format!("{id} ({})", twins + 1) }; // the number 1 and the text "1"
        groups.push(Done::new(id, Per::Group, names));
    }
    groups
}

/// Groups documents by what an expression gives for each, in the order in which the keys come up.
fn by(walk: &Walk<'_, '_>, run: &Value, expression: &str, documents: &[Value]) -> Result<Vec<(Value, Value)>, String> {
    let mut groups: Vec<(Value, Vec<Value>)> = Vec::new();
    let mut places = std::collections::HashMap::<String, usize>::new();
    for document in documents {
        let mut names = document.clone();
        names["params"] = walk.plan.params.clone();
        names["run"] = run.clone();
        let key = walk.evaluator.bind(&names).evaluate(expression)?;
        let at = *places.entry(key.to_string()).or_insert(groups.len());
        if at == groups.len() {
            groups.push((key, Vec::new()));
        }
        groups[at].1.push(document.clone());
    }
    Ok(groups.into_iter().map(|(key, items)| (key, Value::Array(items))).collect())
}

/// What is done over all documents, in a run.
pub(super) struct Whole {
    pub ledger: Ledger,
    pub reports: Vec<DocumentReport>,
    pub outcome: Option<Outcome>, // where it ends the run
    pub notes: Vec<String>,
}

/// Does what there is to be done over all documents; `documents` is the ledger of what was done for each.
pub(super) fn work(
    job: &Job<'_>,
    inputs: &[Input],
    documents: &Ledger,
    mut ledger: Ledger,
    model: &LazyModel<'_>,
) -> Result<Whole, RunError> {
    let (material, key) = material(job, inputs, documents);
    if material.documents.is_empty() {
        let notes = vec!["no document has a result: nothing is done over all of them".to_owned()];
        ledger.set_order(order_before(&ledger));
        return Ok(Whole { ledger, reports: Vec::new(), outcome: None, notes });
    }
    if let Some(reports) = unchanged(job, &mut ledger, &key) {
        return Ok(Whole { ledger, reports, outcome: None, notes: Vec::new() });
    }
    let tell = |event: DocumentEvent<'_>| job.env.observer.on(&Event::Document { document: ALL, event });
    let walk = Walk {
        plan: job.plan,
        evaluator: job.env.evaluator,
        model,
        cancel: &job.env.cancel,
        library: job.env.library,
        source: None,
        tables: job.tables,
        from: job.env.options.from.as_deref(),
        goes_on: false,
        started: Instant::now(),
        tell: &tell,
    };
    let started = Instant::now();
    tell(DocumentEvent::Started);
    let run = job.run.value();
    let at_once = job.env.options.jobs.unwrap_or(job.plan.run.in_flight);
    let done = match over_all(&walk, &run, &material, at_once) {
        Ok(done) => done,
        Err(Halt::Model(error)) => return Err(error.into()),
        Err(_) => {
            ledger.set_order(order_before(&ledger));
            let report = DocumentReport::not_reached(ALL.to_owned());
            return Ok(Whole { ledger, reports: vec![report], outcome: Some(Outcome::Interrupted), notes: Vec::new() });
        }
    };
    let order: Vec<String> = done.iter().map(|d| d.id.clone()).collect();
    let owned = documents.owned_names(job).into_iter().chain(ledger.all_names(job));
    let registry = NameRegistry::new(done.len(), owned);
    let (mut reports, mut outcome) = (Vec::new(), None);
    ledger.set_order(order.clone());
    for (index, one) in done.into_iter().enumerate() {
        if one.stops {
            outcome = Some(Outcome::Stopped { document: one.id.clone() });
        }
        let seconds = started.elapsed().as_secs_f64();
        reports.push(close(job, &mut ledger, &registry, index, one, &key, &order, seconds)?);
    }
    if let Some(last) = reports.last() {
        let (state, usage) = (last.state, last.usage);
        let why = last.failure.as_ref().map(ToString::to_string).or_else(|| last.partial.first().cloned());
        tell(DocumentEvent::Finished { state, seconds: last.seconds, usage, why: why.as_deref() });
    }
    Ok(Whole { ledger, reports, outcome, notes: Vec::new() })
}

/// Returns what the journal keeps of the documents as they are now, and the key of it all.
fn material(job: &Job<'_>, inputs: &[Input], documents: &Ledger) -> (Material, String) {
    let mut material = Material::default();
    for input in inputs {
        let history = documents.journal.get(&input.document).filter(|h| h.failed.is_none());
        let good = history.and_then(|h| h.good.as_deref()).filter(|e| *e.pipeline == *job.documents_hash);
        match good.and_then(|e| Some((e.kept.as_deref().cloned()?, e.state))) {
            Some((mut values, state)) => {
                values["state"] = json!(state);
                material.documents.push(values);
            }
            // It has no text, and was passed over as its source says.
            None if good.is_some_and(|e| e.state == State::Abstained) => {}
            None => material.left_out.push(input.document.clone()),
        }
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(job.pipeline_hash.as_bytes());
    for value in &material.documents {
        hasher.update(value.to_string().as_bytes());
    }
    hasher.update(json!(material.left_out).to_string().as_bytes());
    (material, hasher.finalize().to_hex().to_string())
}

/// The groups of the last time, and all documents.
fn order_before(ledger: &Ledger) -> Vec<String> {
    let entry = ledger.journal.get(ALL).and_then(|h| h.last());
    let order = entry.and_then(|e| e.kept.as_ref()?.get("order")?.as_array());
    order.into_iter().flatten().filter_map(|id| id.as_str().map(str::to_owned)).collect()
}

/// Returns the reports where nothing has changed and everything that was written is still there.
fn unchanged(job: &Job<'_>, ledger: &mut Ledger, key: &str) -> Option<Vec<DocumentReport>> {
    let options = &job.env.options;
    if options.force || options.from.is_some() {
        return None;
    }
    let order = order_before(ledger);
    let mut reports = Vec::new();
    for id in &order {
        let entry = ledger.journal.get(id)?.last().filter(|e| e.key == *key && e.failure.is_none())?;
        if !entry.pages.iter().all(|page| is_intact(page, &job.plan.folder)) {
            return None;
        }
        let skip = Some(Skip::Unchanged { was: entry.state });
        reports.push(DocumentReport { skip, state: State::Skipped, ..report_of(entry) });
    }
    ledger.set_order(order);
    (!reports.is_empty()).then_some(reports)
}

/// Writes what a group, or all documents together, give, and puts it into the journal.
#[expect(clippy::too_many_arguments, reason = "one caller, and every one of them is a different thing")]
fn close(
    job: &Job<'_>,
    ledger: &mut Ledger,
    registry: &NameRegistry,
    index: usize,
    mut one: Done,
    key: &str,
    order: &[String],
    seconds: f64,
) -> Result<DocumentReport, RunError> {
    let mut entry = results::entry(job, &one.id, key, key);
    if one.per == Per::Corpus {
        entry.kept = Some(Box::new(json!({ "order": order })));
    }
    entry.seconds = seconds;
    let provenance = Provenance {
        document: one.id.clone(),
        sha256: key.to_owned(),
        model: job.run.model.clone(),
        pipeline: job.plan.name.clone(),
        pipeline_hash: job.pipeline_hash.to_owned(),
        quarry: QUARRY_VERSION,
    };
    if one.failure.is_none() {
        one.names.set_end_of(one.per.name(), one.walked.state(), &one.walked.partial, &provenance.line());
        let paths = results::paths(job, registry, index, (one.per, &one.id), &one.names, &|| false);
        match paths {
            Ok(paths) => {
                entry.names = paths.iter().map(|p| shown(p, &job.plan.folder)).collect();
                match results::write(job, one.per, &one.names, &provenance, &paths, &mut entry, &mut one.walked) {
                    Ok(()) => {}
                    Err(Wrote::Failed(failure)) => one.failure = Some(failure),
                    Err(Wrote::Fatal(error)) => return Err(error),
                }
            }
            Err(Halt::Failed(failure) | Halt::Stop(failure)) => one.failure = Some(failure),
            Err(Halt::Interrupted | Halt::Model(_)) => {}
        }
    }
    registry.pass(index);
    entry.state = if one.failure.is_some() { State::Failed } else { one.walked.state() };
    if one.failure.is_some() {
        let before = ledger.journal.get(&one.id).and_then(|h| h.failed.as_ref());
        entry.attempts = before.map_or(0, |b| b.attempts) + 1;
        entry.first_failed = before.and_then(|b| b.first_failed.clone()).or_else(|| Some(job.run.started.clone()));
        entry.pages.clear();
        entry.rows.clear();
    }
    entry.failure = one.failure.take().map(Box::new);
    fill(&mut entry, one.walked);
    let report = report_of(&entry);
    ledger.add(job, entry)?;
    Ok(report)
}
