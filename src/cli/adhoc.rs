//! `quarry summarize`, `extract` and `classify`: one job without a file. Each is a pipeline that is put together from its
//! arguments; `--save-as` writes it down.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Map, Value, json};

use super::exit::Exit;
use super::models::EngineArgs;
use super::options::{ModelArgs, Settings, Verbosity};
use super::run::{RunArgs, perform};
use super::{Failure, check, print};
use crate::diagnostic::Diagnostic;

/// What all of them take.
#[derive(Args, Debug)]
pub struct JobArgs {
    /// Files and folders to read
    #[arg(value_name = "FILE|FOLDER", required = true)]
    pub inputs: Vec<PathBuf>,
    /// Write the pipeline that does the same to a file, and run nothing
    #[arg(long, value_name = "FILE")]
    pub save_as: Option<PathBuf>,
    /// Give one JSON line per document
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub engine: EngineArgs,
}

/// Summarize documents
#[derive(Args, Debug)]
pub struct SummarizeArgs {
    #[command(flatten)]
    pub job: JobArgs,
    /// How long a summary may be, in words
    #[arg(long, default_value_t = 200, value_name = "N")]
    pub words: usize,
    /// What it is about, in words for the model
    #[arg(long, value_name = "TEXT")]
    pub focus: Option<String>,
    /// A question that the summary is to answer
    #[arg(long, value_name = "TEXT")]
    pub query: Option<String>,
    /// How a long document is read: auto, stuff, notes, map-reduce, refine or tree
    #[arg(long, value_name = "NAME")]
    pub strategy: Option<String>,
    /// The language to write in, as a tag such as de [default: the document's own]
    #[arg(long, value_name = "TAG")]
    pub language: Option<String>,
}

/// Extract records of a shape that you say from documents
#[derive(Args, Debug)]
pub struct ExtractArgs {
    #[command(flatten)]
    pub job: JobArgs,
    /// A file with a JSON Schema
    #[arg(long, value_name = "FILE", required_unless_present = "field", conflicts_with = "field")]
    pub schema: Option<PathBuf>,
    /// A field and its type, such as total=number?; `?` may be null; may be given many times
    #[arg(long, short = 'f', value_name = "NAME=TYPE", value_parser = super::options::parse_pair)]
    pub field: Vec<(String, String)>,
    /// A list of records per document instead of one
    #[arg(long)]
    pub many: bool,
    /// What to find, in words for the model
    #[arg(long, value_name = "TEXT")]
    pub instruct: Option<String>,
}

/// Give each document one of several labels
#[derive(Args, Debug)]
pub struct ClassifyArgs {
    #[command(flatten)]
    pub job: JobArgs,
    /// A label and what it means, such as invoice="Asks for payment"; at least two
    #[arg(long, short = 'l', value_name = "NAME=MEANING", value_parser = super::options::parse_pair, required = true)]
    pub label: Vec<(String, String)>,
}

pub fn summarize(args: &SummarizeArgs, settings: &Settings) -> Result<Exit, Failure> {
    let mut step =
        json!({ "id": "result", "use": "summarize", "length": format!("{} words", args.words), "cite": "turns" });
    let given =
        [("focus", &args.focus), ("query", &args.query), ("strategy", &args.strategy), ("language", &args.language)];
    for (key, value) in given {
        if let Some(value) = value {
            step[key] = json!(value);
        }
    }
    let show = |record: &Value| record["result"]["cited"].as_str().unwrap_or_default().to_owned();
    job("summarize", &args.job, step, settings, &show)
}

pub fn extract(args: &ExtractArgs, settings: &Settings) -> Result<Exit, Failure> {
    let schema = match &args.schema {
        Some(path) => {
            let wrong = |what: String| Failure::wrong(format!("{}: {what}", path.display()));
            let text = fs::read_to_string(path).map_err(|e| wrong(e.to_string()))?;
            serde_json::from_str(&text).map_err(|e| wrong(format!("is no JSON: {e}")))?
        }
        None => Value::Object(args.field.iter().map(|(name, kind)| (name.clone(), json!(kind))).collect::<Map<_, _>>()),
    };
    let mut step = json!({ "id": "result", "use": "extract" });
    step[if args.many { "many" } else { "schema" }] = schema;
    if let Some(instruct) = &args.instruct {
        step["instruct"] = json!(instruct);
    }
    job("extract", &args.job, step, settings, &|record| record["result"].to_string())
}

pub fn classify(args: &ClassifyArgs, settings: &Settings) -> Result<Exit, Failure> {
    let labels: Map<String, Value> = args.label.iter().map(|(name, help)| (name.clone(), json!(help))).collect();
    let step = json!({ "id": "result", "use": "classify", "labels": labels });
    let show = |record: &Value| {
        let result = &record["result"];
        format!("{} ({})", result["label"].as_str().unwrap_or("none"), result["probability"])
    };
    job("classify", &args.job, step, settings, &show)
}

fn job(
    name: &str,
    args: &JobArgs,
    step: Value,
    settings: &Settings,
    show: &dyn Fn(&Value) -> String,
) -> Result<Exit, Failure> {
    let patterns = args.inputs.iter().map(|input| pattern(input)).collect::<Result<Vec<_>, _>>()?;
    if let Some(path) = &args.save_as {
        let text = pipeline(name, &patterns, &step, &format!("{name}.jsonl"));
        return save(path, &text);
    }
    let cannot = |error: std::io::Error| {
        Failure::new(Exit::OutOfResources, Diagnostic::error(format!("no folder to work in: {error}")))
    };
    let folder = tempfile::tempdir().map_err(cannot)?;
    let file = folder.path().join("pipeline.yaml");
    fs::write(&file, pipeline(name, &patterns, &step, "out/all.jsonl")).map_err(cannot)?;
    let run = RunArgs { file, model: args.model.clone(), engine: args.engine.clone(), ..RunArgs::default() };
    let checked = check::load(&run.file, &run.params, &run.model)?
        .map_err(|diagnostics| Failure { exit: Exit::Wrong, diagnostics: as_of_arguments(diagnostics) })?;
    let (report, exit) = perform(&checked.plan, &run, settings, false)?;
    let results = folder.path().join("out/all.jsonl");
    let records = match fs::read_to_string(&results) {
        Ok(records) => records,
        // Nothing is written where no document came to an end.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => {
            let fault = Diagnostic::error(format!("the results in {} cannot be read: {error}", results.display()));
            return Err(Failure::new(Exit::OutOfResources, fault));
        }
    };
    for line in records.lines() {
        let record: Value = serde_json::from_str(line).unwrap_or_default();
        if args.json {
            print::result(line)?;
        } else if report.documents.len() == 1 {
            print::result(&print::shown(&show(&record)))?;
        } else {
            let document = record["document"].as_str().unwrap_or_default();
            print::result(&print::shown(&format!("{document}: {}", show(&record))))?;
        }
    }
    for document in &report.documents {
        let why =
            document.failure.as_ref().map(ToString::to_string).into_iter().chain(document.partial.iter().cloned());
        why.for_each(|why| print::note(&print::shown(&format!("{} is {}: {why}", document.document, document.state))));
        if settings.verbosity != Verbosity::Quiet {
            let notes = document.notes.iter().map(|note| format!("note: {}: {note}", document.document));
            notes.for_each(|note| print::note(&print::shown(&note)));
        }
    }
    Ok(exit)
}

/// The file that was checked is ours: its lines would tell a caller nothing.
fn as_of_arguments(diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
    diagnostics.into_iter().map(|d| Diagnostic { place: None, ..d }).collect()
}

/// Returns a glob that matches a file, or every file below a folder.
fn pattern(input: &Path) -> Result<String, Failure> {
    let path = fs::canonicalize(input)
        .map_err(|error| Failure::wrong(format!("{} cannot be read: {error}", input.display())))?;
    let literal = globset::escape(&path.to_string_lossy());
    Ok(if path.is_dir() { format!("{literal}/**") } else { literal })
}

/// JSON is YAML; a key on each line is what people write.
fn pipeline(name: &str, patterns: &[String], step: &Value, output: &str) -> String {
    let mut text = format!("version: 1\nname: {name}\n\nsources:\n  documents:\n    files:\n");
    patterns.iter().for_each(|pattern| text.push_str(&format!("      - {}\n", json!(pattern))));
    text.push_str("\nmodel:\n  use: [granite-3.1-1b-a400m-instruct, starter]\n\nsteps:\n");
    for (index, (key, value)) in step.as_object().into_iter().flatten().enumerate() {
        text.push_str(&format!("  {} {key}: {value}\n", if index == 0 { "-" } else { " " }));
    }
    text.push_str(&format!(
        "\noutputs:\n  - name: results\n    path: {}\n    key: doc.path\n    fields: {{ document: doc.path, result: steps.result, state: doc.state }}\n",
        json!(output)
    ));
    text
}

fn save(path: &Path, text: &str) -> Result<Exit, Failure> {
    use std::io::Write;
    let written =
        fs::File::options().write(true).create_new(true).open(path).and_then(|mut f| f.write_all(text.as_bytes()));
    written.map_err(|error| Failure::wrong(format!("{} cannot be written: {error}", path.display())))?;
    print::result(&print::shown(&format!("{} is written; quarry run {0} does it", path.display())))?;
    Ok(Exit::Done)
}
