//! `quarry ask FILE.yaml "question"`: a pipeline over a table of questions is asked one, and its answer printed. Nothing
//! that the file would write is written.

use std::path::Path;

use serde_json::{Value, json};

use super::ask::AskArgs;
use super::exit::Exit;
use super::options::{ParamArgs, Settings, Verbosity};
use super::run::{RunArgs, perform};
use super::{Failure, answered, check, print};
use crate::diagnostic::Diagnostic;
use crate::pipeline::file;
use crate::pipeline::select::select;
use crate::pipeline::tree::{Node, NodeValue};

/// A pipeline that answers: the names that its author gave.
pub struct Answering {
    rows: Vec<String>,    // sources of rows
    answers: Vec<String>, // steps with the verb `answer`
}

/// Returns what is known of a pipeline file before it is checked; `None` where the path is no pipeline.
pub fn of_file(path: &Path) -> Option<Answering> {
    let is_yaml = path.extension().is_some_and(|e| e == "yaml" || e == "yml");
    let bytes = if is_yaml { std::fs::read(path).ok()? } else { return None };
    let (_, root, _) = file::parse(path, &bytes).ok()?;
    let (sources, steps) = (root.get("sources")?, root.get("steps")?);
    let has_rows = |source: &Node| source.get("rows").is_some();
    let rows = sources.entries().iter().filter(|e| has_rows(&e.value)).map(|e| e.key.clone()).collect();
    let NodeValue::Seq(steps) = &steps.value else { return None };
    let is_answer = |step: &&Node| step.get("use").and_then(Node::as_str) == Some("answer");
    let id = |step: &Node| step.get("id").and_then(Node::as_str).map(str::to_owned);
    let answers = steps.iter().filter(is_answer).filter_map(id).collect();
    Some(Answering { rows, answers })
}

/// Asks the one question.
pub fn run(path: &Path, found: &Answering, args: &AskArgs, settings: &Settings) -> Result<Exit, Failure> {
    let Some(question) = &args.question else {
        return Err(Failure::wrong(format!("a pipeline is asked one question: quarry ask {} \"…\"", path.display())));
    };
    if let Some(option) = args.of_folders() {
        let message = format!("{option} is for folders: {} says itself how it answers", path.display());
        return Err(Failure::wrong(message));
    }
    let source = only(path, &found.rows, "source of rows", "the question takes the place of its table")?;
    let step = only(path, &found.answers, "step with `use: answer`", "its answer is printed")?;
    let cannot = |error: std::io::Error| {
        Failure::new(
            Exit::OutOfResources,
            Diagnostic::error(format!("the answer cannot be kept in a folder of its own: {error}")),
        )
    };
    let folder = tempfile::tempdir().map_err(cannot)?;
    let table = folder.path().join("question.jsonl");
    std::fs::write(&table, json!({ "id": "question", "question": question }).to_string()).map_err(cannot)?;
    let answer = folder.path().join("answer.jsonl");
    let output = json!([{
        "name": "answer", "path": answer.to_string_lossy(), "key": "row.id",
        "fields": { "question": "row.question", "reply": format!("steps.{step}"), "state": "doc.state" },
    }]);
    let mut params: ParamArgs = args.params.clone();
    params.sources.push((source.to_owned(), table.to_string_lossy().into_owned()));
    params.sets.push(("outputs".into(), output.to_string()));
    let mut plan = check::load(path, &params, &args.model)?
        .map_err(|diagnostics| Failure { exit: Exit::Wrong, diagnostics })?
        .plan;
    select(&mut plan, &[step.to_owned()])?;
    (plan.run.events, plan.run.quarantine) = (None, None);
    let run =
        RunArgs { file: path.to_owned(), model: args.model.clone(), engine: args.engine.clone(), ..RunArgs::default() };
    let (report, exit) = perform(&plan, &run, settings, false)?;
    match std::fs::read_to_string(&answer) {
        Ok(line) if args.json => print::result(line.trim_end())?,
        Ok(line) => {
            let record: Value = serde_json::from_str(&line).map_err(|error| cannot(error.into()))?;
            print::result(&answered::text(&record["reply"], &plan.folder, answered::columns()))?;
        }
        // Nothing is written where there was no answer: the report says why.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(cannot(error)),
    }
    for document in &report.documents {
        let why = document.failure.iter().map(ToString::to_string).chain(document.partial.iter().cloned());
        why.for_each(|why| print::note(&print::shown(&format!("{}: {why}", document.state))));
        if settings.verbosity != Verbosity::Quiet {
            document.notes.iter().for_each(|note| print::note(&print::shown(&format!("note: {note}"))));
        }
    }
    Ok(exit)
}

fn only<'n>(path: &Path, names: &'n [String], what: &str, why: &str) -> Result<&'n str, Failure> {
    match names {
        [one] => Ok(one),
        _ => Err(Failure::wrong(format!(
            "{} has {} and is to have one {what}: {why}",
            path.display(),
            if names.is_empty() { "none".to_owned() } else { names.join(", ") }
        ))),
    }
}
