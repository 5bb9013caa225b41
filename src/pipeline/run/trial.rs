//! The `tests:` of a pipeline: one document each, answers from a script, and what must hold of what comes out. Writes
//! nothing but the document, into a folder of the caller's.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use serde_json::Value;

use super::walk::{Halt, Walk, Walked};
use super::{DocumentReader, run_names_at};
use crate::corpus::document::Document;
use crate::inference::engine::{CancelToken, Generator, Scripted};
use crate::pipeline::evaluate::Evaluator;
use crate::pipeline::events::{DocumentEvent, Unwatched};
use crate::pipeline::model::{LazyModel, ModelError, ModelIdentity, ModelSource};
use crate::pipeline::names::Names;
use crate::pipeline::plan::{Plan, TestPlan, TestText};
use crate::pipeline::report::State;
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

fn one(plan: &Plan, env: &TrialEnvironment<'_>, index: usize, test: &TestPlan) -> TestReport {
    let failed = |state, faults| TestReport { name: test.name.clone(), ok: false, state, faults };
    let document = match read(plan, env, index, test) {
        Ok(document) => document,
        Err(fault) => return failed(State::Failed, vec![fault]),
    };
    let script = match Scripted::from_value(test.answers.clone()) {
        Ok(script) => Script(Arc::new(script)),
        Err(error) => return failed(State::Failed, vec![error.to_string()]),
    };
    let run = run_names_at(&env.started, Some(script.id()));
    let view = env.reader.names(&document, &test.document);
    let mut names = Names::new(&plan.params, view, run.value());
    let mut walked = Walked::default();
    let model = LazyModel::new(&script, run.model.as_ref(), &Unwatched, |model| model);
    let (evaluator, cancel) = (env.evaluator, &CancelToken::default());
    let walk = Walk {
        plan,
        evaluator,
        model: &model,
        library: env.library,
        cancel,
        started: Instant::now(),
        tell: &|_: DocumentEvent<'_>| (),
    };
    let mut faults = Vec::new();
    let state = match walk.run(&document, &mut names, &mut walked) {
        Ok(()) => walked.state(),
        Err(Halt::Failed(failure) | Halt::Stop(failure)) => {
            faults.push(failure.to_string());
            State::Failed
        }
        Err(Halt::Interrupted) => return failed(State::Skipped, vec!["interrupted".into()]),
        Err(Halt::Model(error)) => return failed(State::Failed, vec![error.to_string()]),
    };
    let provenance = Provenance {
        document: test.document.clone(),
        sha256: document.sha256.clone(),
        model: run.model.clone(),
        pipeline: plan.name.clone(),
        pipeline_hash: String::new(),
        quarry: QUARRY_VERSION,
    };
    names.set_end(state, &walked.partial, &provenance.line());
    let mut scope = evaluator.bind(names.value());
    let mut broken = Vec::new();
    for expression in &test.expect {
        match scope.holds(expression) {
            Ok(true) => {}
            Ok(false) => broken.push(format!("does not hold: {expression}")),
            Err(error) => broken.push(error),
        }
    }
    if state != State::Failed {
        for output in &plan.outputs {
            let evaluated = sink::evaluate(output, &mut scope, &provenance);
            broken.extend(evaluated.err().map(|error| format!("output {}: {error}", output.name)));
        }
    }
    let ok = broken.is_empty();
    // A test may expect its document to fail: why it did is told only where something else is wrong too.
    let reasons = faults.into_iter().chain(walked.partial).map(|fault| format!("the document: {fault}"));
    let faults = if ok { Vec::new() } else { broken.into_iter().chain(reasons).collect() };
    TestReport { name: test.name.clone(), ok, state, faults }
}

fn read(plan: &Plan, env: &TrialEnvironment<'_>, index: usize, test: &TestPlan) -> Result<Document, String> {
    let path = match &test.text {
        TestText::File(path) => plan.folder.join(path),
        TestText::Inline(text) => {
            let folder = env.scratch.join(index.to_string());
            let path = folder.join(safe_name(&test.document));
            let written = fs::create_dir_all(&folder).and_then(|()| fs::write(&path, text));
            written.map_err(|error| format!("{}: {error}", path.display()))?;
            path
        }
    };
    let options = plan.sources.first().map_or(&Value::Null, |source| &source.read);
    env.reader.read(&path, options).map_err(|error| error.to_string())
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
