//! `quarry eval`: what a run gave against golden files, as a table, as JSON, or as a page with plots.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use comfy_table::{CellAlignment, Table};

use super::exit::Exit;
use super::models::EngineArgs;
use super::on_demand::CorpusReader;
use super::options::{ModelArgs, ParamArgs, Settings, Verbosity};
use super::run::RunArgs;
use super::{Failure, check, print};
use crate::diagnostic::Diagnostic;
use crate::pipeline::check::Checked;
use crate::pipeline::eval::report::{EvalReport, number};
use crate::pipeline::eval::{EvalError, evaluate};
use crate::pipeline::evaluate::Evaluator;

/// Measure what a pipeline gives against golden files
#[derive(Args, Debug)]
pub struct EvalArgs {
    /// The pipeline file, with an `eval` section
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Run the pipeline first; what is unchanged is not done again
    #[arg(long)]
    pub run: bool,
    /// Golden files, instead of the pipeline's own; may be given many times
    #[arg(long, value_name = "GOLDEN")]
    pub against: Vec<PathBuf>,
    /// Write the report as a page with plots
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Give the report as JSON on standard output
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub params: ParamArgs,
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub engine: EngineArgs,
}

pub fn run(args: &EvalArgs, settings: &Settings) -> Result<Exit, Failure> {
    let Checked { plan, .. } = check::load(&args.file, &args.params, &args.model)?
        .map_err(|diagnostics| Failure { exit: Exit::Wrong, diagnostics })?;
    if plan.eval.is_none() {
        return Err(failure(EvalError::NoSection(args.file.display().to_string()), &args.file));
    }
    if args.run {
        let run = RunArgs {
            file: args.file.clone(),
            params: args.params.clone(),
            model: args.model.clone(),
            engine: args.engine.clone(),
            ..RunArgs::default()
        };
        match super::run::perform(&plan, &run, settings, false)?.1 {
            // Documents that failed are measured, too.
            Exit::Done | Exit::SomeFailed => {}
            other => return Ok(other),
        }
    }
    let (reader, evaluator) = (CorpusReader::new()?, Evaluator::default());
    let (report, state) = evaluate(&plan, &args.against, &reader, &evaluator, &jiff::Zoned::now())
        .map_err(|error| failure(error, &args.file))?;
    let json = serde_json::to_value(&report).unwrap_or_default();
    // Beside the run's own report, where `diff` looks for it.
    let kept = state.join("eval.json");
    write(&kept, &format!("{json:#}\n"))?;
    if let Some(path) = &args.html {
        write(path, &report.html())?;
    }
    if args.json {
        print::json(&json)?;
    } else if settings.verbosity > Verbosity::Quiet || !report.passes() {
        print::result(&print::shown(&summary(&report)))?;
    }
    Ok(if report.passes() { Exit::Done } else { Exit::CheckFailed })
}

/// Under another name first: whoever reads it never reads half of it.
fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let folder = path.parent().filter(|f| !f.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let written = tempfile::Builder::new().prefix(".quarry-eval").tempfile_in(folder).and_then(|mut part| {
        part.write_all(text.as_bytes())?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            part.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
        }
        part.persist(path).map(drop).map_err(|error| error.error)
    });
    written.map_err(|error| Failure::wrong(format!("{} cannot be written: {error}", path.display())))
}

fn failure(error: EvalError, file: &Path) -> Failure {
    let diagnostic = Diagnostic::error(error.to_string());
    let file = file.display();
    Failure::from(match &error {
        EvalError::NoSection(_) => diagnostic
            .hint("write: eval: { golden: golden/*.yaml, measure: [actions.f1] }; `quarry explain eval` tells more"),
        EvalError::NotRun(_) => diagnostic.hint(format!("`quarry eval {file} --run` runs it first")),
        EvalError::NothingKept(_) => diagnostic.hint(format!(
            "it was run before they were measured: `quarry eval {file} --run` does it again, from the answers kept"
        )),
        EvalError::NoGolden(_) => diagnostic.hint("the review page of an output saves golden files"),
        _ => diagnostic,
    })
}

fn summary(report: &EvalReport) -> String {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["MEASURE", "VALUE", "95 % INTERVAL", "DOCUMENTS", "GATE"]);
    for figure in &report.figures {
        let interval = figure.interval.map(|(a, b)| format!("{} to {}", number(a), number(b))).unwrap_or_default();
        let gate = report
            .gates
            .iter()
            .find(|g| g.measure == figure.name)
            .map(|g| format!("{} {}", g.condition, if g.ok { "passes" } else { "FAILS" }));
        table.add_row([
            figure.name.clone(),
            figure.value.map_or("-".into(), number),
            interval,
            figure.documents.to_string(),
            gate.unwrap_or_default(),
        ]);
    }
    for column in [1, 3] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut text = format!("{table}\n\n{}\n", report.summary());
    for missing in &report.not_run {
        text.push_str(&format!("not run: {} ({})\n", missing.document, missing.from));
    }
    report.notes.iter().for_each(|note| text.push_str(&format!("note: {note}\n")));
    if !report.gates.is_empty() && !report.not_run.is_empty() {
        text.push_str("a gate passes only where every golden document was run\n");
    }
    text
}
