//! The `tests:` of a pipeline: one document or several each, answers from a script, and what must hold of what comes out. Writes
//! nothing but the document, into a folder of the caller's.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use serde_json::Value;

use super::walk::{Halt, Walk, Walked};
use super::{DocumentReader, run_names_at, whole};
use crate::corpus::document::Document;
use crate::inference::engine::{CancelToken, Generator, Scripted};
use crate::pipeline::evaluate::Evaluator;
use crate::pipeline::events::{DocumentEvent, Unwatched};
use crate::pipeline::model::{LazyModel, ModelError, ModelIdentity, ModelSource};
use crate::pipeline::names::{Names, RunNames};
use crate::pipeline::plan::{Per, Plan, TestDocument, TestPlan, TestText};
use crate::pipeline::report::State;
use crate::pipeline::rows::{self, RowInput};
use crate::pipeline::sink::file_names::safe_name;
use crate::pipeline::sink::{self, Provenance, QUARRY_VERSION};
use crate::steps::Library;

/// What the tests of a plan need from outside.
pub struct TrialEnvironment<'a> {
    pub reader: &'a dyn DocumentReader,
    pub evaluator: &'a Evaluator,
    pub library: Option<&'a dyn Library>, // `None`: the plan has no indexes
    pub started: jiff::Zoned,
    pub scratch: &'a Path, // an empty folder
}

/// What came of one test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TestReport {
    pub name: String,
    pub ok: bool,
    pub state: State,        // of the document
    pub faults: Vec<String>, // what does not hold, or what went wrong; one line each
}

/// Runs every test of a plan, in the order of the file.
pub fn test(plan: &Plan, env: &TrialEnvironment<'_>) -> Vec<TestReport> {
    plan.tests.iter().enumerate().map(|(index, test)| one(plan, env, index, test)).collect()
}

/// What came of one document of a test.
struct Tried {
    names: Names,
    state: State,
    walked: Walked,
    provenance: Provenance,
    faults: Vec<String>,
}

fn one(plan: &Plan, env: &TrialEnvironment<'_>, index: usize, test: &TestPlan) -> TestReport {
    let failed = |state, faults| TestReport { name: test.name.clone(), ok: false, state, faults };
    let script = match Scripted::from_value(test.answers.clone()) {
        Ok(script) => Script(Arc::new(script)),
        Err(error) => return failed(State::Failed, vec![error.to_string()]),
    };
    let tables = match rows::tables(&plan.tables, &plan.folder) {
        Ok(tables) => tables,
        Err(error) => return failed(State::Failed, vec![error.to_string()]),
    };
    let run = run_names_at(&env.started, Some(script.id()));
    let model = LazyModel::new(&script, run.model.as_ref(), &Unwatched, |model| [model.clone(), model]);
    let (evaluator, cancel) = (env.evaluator, &CancelToken::default());
    let walk = Walk {
        plan,
        evaluator,
        model: &model,
        library: env.library,
        cancel,
        source: None,
        tables: &tables,
        from: None,
        started: Instant::now(),
        tell: &|_: DocumentEvent<'_>| (),
        goes_on: false,
    };
    let mut tried = Vec::new();
    for (at, document) in test.documents.iter().enumerate() {
        match try_one(&walk, env, &format!("{index}-{at}"), document, &run) {
            Ok(one) => tried.push(one),
            Err((state, fault)) => return failed(state, vec![fault]),
        }
    }
    let mut broken = Vec::new();
    for one in tried.iter().filter(|one| one.state != State::Failed) {
        broken.extend(output_faults(plan, Per::Document, evaluator, &one.names, &one.provenance));
    }
    let worst =
        tried.iter().find(|one| one.state == State::Failed).or_else(|| tried.iter().find(|o| o.state != State::Ok));
    let state = worst.map_or(State::Ok, |one| one.state);
    let mut faults: Vec<String> =
        tried.iter().flat_map(|one| one.faults.iter().chain(&one.walked.partial).cloned()).collect();
    let names = match over(&walk, test, &tried, &run.value(), &mut broken, &mut faults) {
        Ok(names) => names,
        Err(fault) => return failed(State::Failed, vec![fault]),
    };
    let scope = evaluator.bind(&names);
    let mut unmet = Vec::new();
    for expression in &test.expect {
        match scope.holds(expression) {
            Ok(true) => {}
            Ok(false) => unmet.push(format!("does not hold: {expression}")),
            Err(error) => unmet.push(error),
        }
    }
    unmet.append(&mut broken);
    let ok = unmet.is_empty();
    // A test may expect its document to fail: why it did is told only where something else is wrong too.
    let reasons = faults.into_iter().map(|fault| format!("the document: {fault}"));
    let faults = if ok { Vec::new() } else { unmet.into_iter().chain(reasons).collect() };
    TestReport { name: test.name.clone(), ok, state, faults }
}

/// Takes one document through its steps. The error is a state and a line.
fn try_one(
    walk: &Walk<'_, '_>,
    env: &TrialEnvironment<'_>,
    folder: &str,
    tested: &TestDocument,
    run: &RunNames,
) -> Result<Tried, (State, String)> {
    let plan = walk.plan;
    let (document, row) = read(plan, env, folder, tested).map_err(|fault| (State::Failed, fault))?;
    let mut view = env.reader.names(&document, &tested.name);
    if let Some(row) = &row {
        row.name(&mut view);
    }
    let mut names = Names::new(&plan.params, view, run.value());
    if let Some(row) = &row {
        names.set("row", row.fields.clone());
    }
    let (mut walked, mut faults) = (Walked::default(), Vec::new());
    let walk = Walk { started: Instant::now(), ..*walk };
    let state = match walk.run(&document, &mut names, &mut walked) {
        Ok(()) => walked.state(),
        Err(Halt::Failed(failure) | Halt::Stop(failure)) => {
            faults.push(failure.to_string());
            State::Failed
        }
        Err(Halt::Interrupted) => return Err((State::Skipped, "interrupted".into())),
        Err(Halt::Model(error)) => return Err((State::Failed, error.to_string())),
    };
    let provenance = provenance(plan, &tested.name, &document.sha256, run.model.clone());
    names.set_end(state, &walked.partial, &provenance.line());
    Ok(Tried { names, state, walked, provenance, faults })
}

fn provenance(plan: &Plan, document: &str, sha256: &str, model: Option<ModelIdentity>) -> Provenance {
    Provenance {
        document: document.to_owned(),
        sha256: sha256.to_owned(),
        model,
        pipeline: plan.name.clone(),
        pipeline_hash: String::new(),
        quarry: QUARRY_VERSION,
    }
}

fn output_faults(plan: &Plan, per: Per, evaluator: &Evaluator, names: &Names, provenance: &Provenance) -> Vec<String> {
    let mut scope = evaluator.bind(names.value());
    let outputs = plan.outputs.iter().filter(|o| o.per == per);
    let faults = outputs.filter_map(|output| {
        let fault = sink::evaluate(output, &mut scope, provenance).err()?;
        Some(format!("output {}: {}", output.name, fault.detail))
    });
    faults.collect()
}

/// Does what is done over all documents, and returns the names that the test's expectations see.
fn over(
    walk: &Walk<'_, '_>,
    test: &TestPlan,
    tried: &[Tried],
    run: &Value,
    broken: &mut Vec<String>,
    faults: &mut Vec<String>,
) -> Result<Value, String> {
    let plan = walk.plan;
    let single = || tried.first().map(|one| one.names.value().clone()).unwrap_or_default();
    if !plan.has_whole() && !test.is_corpus {
        return Ok(single());
    }
    let mut material = whole::Material::default();
    for one in tried {
        match whole::kept(plan, one.names.value()).filter(|_| one.state != State::Failed) {
            Some(mut values) => {
                values["state"] = serde_json::json!(one.state);
                material.documents.push(values);
            }
            None => material.left_out.push(one.provenance.document.clone()),
        }
    }
    let mut done =
        whole::over_all(walk, run, &material, 1).map_err(|_| "what is done over all documents was cut short")?;
    for one in &mut done {
        let provenance = provenance(plan, &one.id, "", None);
        let state = if one.failure.is_some() { State::Failed } else { one.walked.state() };
        one.names.set_end_of(one.per.name(), state, &one.walked.partial, &provenance.line());
        match &one.failure {
            Some(failure) => faults.push(format!("{}: {failure}", one.id)),
            None => broken.extend(output_faults(plan, one.per, walk.evaluator, &one.names, &provenance)),
        }
        faults.append(&mut one.walked.partial);
    }
    let Some(all) = done.pop() else { return Ok(single()) };
    if test.is_corpus {
        return Ok(all.names.value().clone());
    }
    // With one document its own values stay what they are; those over all stand beside them.
    let mut names = single();
    names["corpus"] = all.names.value()["corpus"].clone();
    for step in plan.steps.iter().filter(|s| s.rounds.per.is_whole()) {
        names["steps"][&step.id] = all.names.value()["steps"].get(&step.id).cloned().unwrap_or_default();
    }
    Ok(names)
}

/// A document, and the row that it is, where it is one.
fn read(
    plan: &Plan,
    env: &TrialEnvironment<'_>,
    folder: &str,
    tested: &TestDocument,
) -> Result<(Document, Option<RowInput>), String> {
    let path = match &tested.text {
        TestText::Row(fields) => {
            let row = RowInput::new(tested.name.clone(), fields.clone());
            return Ok((row.document(), Some(row)));
        }
        TestText::File(path) => plan.folder.join(path),
        TestText::Inline(text) => {
            let folder = env.scratch.join(folder);
            let path = folder.join(safe_name(&tested.name));
            let written = fs::create_dir_all(&folder).and_then(|()| fs::write(&path, text));
            written.map_err(|error| format!("{}: {error}", path.display()))?;
            path
        }
    };
    let options = plan.sources.first().map_or(&Value::Null, |source| &source.read);
    env.reader.read(&path, options).map(|document| (document, None)).map_err(|error| error.to_string())
}

/// A script as the model of a run.
struct Script(Arc<Scripted>);

impl Script {
    fn id(&self) -> ModelIdentity {
        let card = self.0.card();
        ModelIdentity { name: card.name.clone(), digest: card.digest.clone(), fallback: None }
    }
}

impl ModelSource for Script {
    fn identity(&self) -> Result<ModelIdentity, ModelError> {
        Ok(self.id())
    }

    fn open(&self) -> Result<Arc<dyn Generator>, ModelError> {
        Ok(self.0.clone())
    }
}
