//! `quarry test`: the `tests` of a pipeline, with scripted answers and no model.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::exit::Exit;
use super::library::Shelves;
use super::on_demand::CorpusReader;
use super::options::{ModelArgs, ParamArgs, Settings, Verbosity};
use super::{Failure, check, print};
use crate::diagnostic::Diagnostic;
use crate::inference::engine::CancelToken;
use crate::pipeline::check::Checked;
use crate::pipeline::evaluate::Evaluator;
use crate::pipeline::run::{TestReport, TrialEnvironment, test};
use crate::steps::Library;

/// Run the tests of a pipeline file, with scripted answers
#[derive(Args, Debug)]
pub struct TestArgs {
    /// The pipeline file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    #[command(flatten)]
    pub params: ParamArgs,
    /// Give the result as JSON on standard output
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &TestArgs, settings: &Settings) -> Result<Exit, Failure> {
    let Checked { plan, .. } = check::load(&args.file, &args.params, &ModelArgs::default())?
        .map_err(|diagnostics| Failure { exit: Exit::Wrong, diagnostics })?;
    if plan.tests.is_empty() {
        let fault = Diagnostic::error(format!("{} has no tests", args.file.display()));
        return Err(fault.hint("write: tests: [{ name: …, text: …, answers: […], expect: […] }]").into());
    }
    let cannot = |error| Diagnostic::error(format!("no folder for the documents of the tests: {error}"));
    let scratch = tempfile::tempdir().map_err(|error| Failure::new(Exit::OutOfResources, cannot(error)))?;
    let (reader, evaluator) = (CorpusReader::new()?, Evaluator::default());
    let started = jiff::Zoned::now();
    let library = match plan.indexes.is_empty() {
        true => None,
        false => Some(Shelves::of_plan(&plan, &CancelToken::default(), settings)?),
    };
    let environment = TrialEnvironment {
        reader: &reader,
        evaluator: &evaluator,
        library: library.as_ref().map(|l| l as &dyn Library),
        started,
        scratch: scratch.path(),
    };
    let reports = test(&plan, &environment);
    let num_failed = reports.iter().filter(|r| !r.ok).count();
    if args.json {
        print::json(&json!({ "schema_version": 1, "ok": num_failed == 0, "tests": reports }))?;
    } else if settings.verbosity > Verbosity::Quiet || num_failed > 0 {
        print::result(&print::shown(&summary(&reports, num_failed)))?;
    }
    Ok(if num_failed == 0 { Exit::Done } else { Exit::CheckFailed })
}

fn summary(reports: &[TestReport], num_failed: usize) -> String {
    let mut text = String::new();
    for report in reports {
        text.push_str(&format!("{} {}\n", if report.ok { "ok    " } else { "failed" }, report.name));
        report.faults.iter().for_each(|fault| text.push_str(&format!("       {fault}\n")));
    }
    let plural = if reports.len() == 1 { "test" } else { "tests" };
    text.push_str(&format!("{} {plural}: {} ok, {num_failed} failed\n", reports.len(), reports.len() - num_failed));
    text
}
