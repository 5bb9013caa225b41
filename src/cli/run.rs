//! `quarry run`: a pipeline over its documents. Decides what a run's end means for whoever started it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::Args;
use comfy_table::{CellAlignment, ContentArrangement, Table};
use serde_json::Value;

use super::exit::Exit;
use super::library::Shelves;
use super::models::EngineArgs;
use super::on_demand::{CorpusReader, OnDemand};
use super::options::{ChoiceArgs, ModelArgs, ParamArgs, Settings, Verbosity};
use super::progress::Progress;
use super::{Failure, check, print};
use crate::diagnostic::Diagnostic;
use crate::inference::engine::CancelToken;
use crate::pipeline::check::Checked;
use crate::pipeline::evaluate::Evaluator;
use crate::pipeline::event_log::EventLog;
use crate::pipeline::events::{DocumentEvent, Event, Observer};
use crate::pipeline::metrics::metrics;
use crate::pipeline::model::ModelErrorCause;
use crate::pipeline::plan::Plan;
use crate::pipeline::report::{DocumentReport, Outcome, RunReport, Skip, State};
use crate::pipeline::run::{RunEnvironment, RunError, RunOptions, file_of, run as run_pipeline};
use crate::pipeline::select;
use crate::steps::Library;

/// Run a pipeline over its documents
#[derive(Args, Debug, Default)]
pub struct RunArgs {
    /// The pipeline file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    #[command(flatten)]
    pub params: ParamArgs,
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub choice: ChoiceArgs,
    /// Do this step and those after it again, asking the model anew; those they read answer from what is kept
    #[arg(long, value_name = "STEP", conflicts_with = "select")]
    pub from: Option<String>,
    /// Show what each step made of each document, on standard output as it is made
    #[arg(long, conflicts_with = "json")]
    pub show: bool,
    /// Give the report as JSON on standard output
    #[arg(long)]
    pub json: bool,
    /// Add what happens to a file, one JSON line each
    #[arg(long, value_name = "FILE")]
    pub events: Option<PathBuf>,
    /// Write the figures of the run to a file, for Prometheus' textfile collector
    #[arg(long, value_name = "FILE")]
    pub metrics_file: Option<PathBuf>,
    /// Exit codes that are 0 for the caller, such as 3,6: what happened is still told. Never 1 and 2, which are a bug and a
    /// mistake
    #[arg(long, value_name = "CODES", value_delimiter = ',', value_parser = clap::value_parser!(u8).range(3..))]
    pub ok: Vec<u8>,
    #[command(flatten)]
    pub engine: EngineArgs,
}

/// Do the documents of a pipeline again that stand failed, and no others
#[derive(Args, Debug)]
pub struct RetryArgs {
    #[command(flatten)]
    pub run: RunArgs,
}

pub fn retry(args: &RetryArgs, settings: &Settings) -> Result<Exit, Failure> {
    allowed(&args.run, settings, work(&args.run, settings, true))
}

pub fn run(args: &RunArgs, settings: &Settings) -> Result<Exit, Failure> {
    allowed(args, settings, work(args, settings, false))
}

/// Makes 0 of the ends that the caller asks nothing about; an error among them is told first.
fn allowed(args: &RunArgs, settings: &Settings, ended: Result<Exit, Failure>) -> Result<Exit, Failure> {
    let is_ok = |exit: Exit| args.ok.contains(&(exit as u8));
    match ended {
        Ok(exit) if is_ok(exit) => Ok(Exit::Done),
        Err(failure) if is_ok(failure.exit) => {
            if settings.verbosity != Verbosity::Quiet {
                print::diagnostics(&failure.diagnostics);
            }
            Ok(Exit::Done)
        }
        other => other,
    }
}

fn work(args: &RunArgs, settings: &Settings, retry: bool) -> Result<Exit, Failure> {
    let Checked { mut plan, warnings, .. } = check::load(&args.file, &args.params, &args.model)?
        .map_err(|diagnostics| Failure { exit: Exit::Wrong, diagnostics })?;
    if settings.verbosity != Verbosity::Quiet {
        print::diagnostics(&warnings);
    }
    let left_out = match &args.from {
        Some(step) => select::from(&mut plan, step)?,
        None if !args.choice.select.is_empty() => select::select(&mut plan, &args.choice.select)?,
        None => Vec::new(),
    };
    for output in left_out {
        print::note(&print::shown(&format!("note: the output {output} is left out: it reads other steps")));
    }
    let _held = super::stdin::hold(&mut plan)?;
    if let Some(nice) = plan.run.nice {
        give_way(nice);
    }
    let (report, exit) = perform(&plan, args, settings, retry)?;
    if args.json {
        print::json_of(&report)?;
    } else if settings.verbosity != Verbosity::Quiet {
        print::result(&summary(&report, &plan, settings.verbosity >= Verbosity::Verbose))?;
    }
    Ok(exit)
}

/// Returns the model of a plan as it is run here.
pub fn model_of<'a>(
    plan: &Plan,
    args: &EngineArgs,
    settings: &'a Settings,
    observer: &'a dyn Observer,
) -> OnDemand<'a> {
    let mut engine = args.options();
    if args.threads.is_none()
        && let Some(threads) = plan.model.threads
    {
        engine.threads = threads;
    }
    engine.window = engine.window.or(plan.model.defaults.window);
    // The template's date is the run's only where a template prints it; ours never do, so that answers stay cached.
    let as_of = super::generate::DEFAULT_AS_OF;
    let quantize = args.quantize(plan.model.quantize);
    let mut model = OnDemand::new(plan.model.preference.clone(), settings, engine, quantize, as_of, observer);
    model.written.clone_from(&plan.model.written);
    model
}

/// Runs a checked plan as it is asked for; prints nothing but how far it is.
pub fn perform(plan: &Plan, args: &RunArgs, settings: &Settings, retry: bool) -> Result<(RunReport, Exit), Failure> {
    let started = jiff::Zoned::now();
    let progress = Progress::new(settings);
    let model = model_of(plan, &args.engine, settings, &progress);
    let cancel = model.cancel.clone();
    let signals = Signals::watch(cancel.clone())?;
    let library = match plan.indexes.is_empty() {
        true => None,
        false => Some(Shelves::of_plan(plan, &cancel, settings)?),
    };
    let reader = CorpusReader::new()?.until(cancel.clone());
    let evaluator = Evaluator::default();
    let wrong = |detail: String| Failure::wrong(format!("run.events: {detail}"));
    let of_file = plan.run.events.as_ref().filter(|_| args.events.is_none());
    let of_file = of_file.map(|template| file_of(plan, &evaluator, &started, template)).transpose().map_err(wrong)?;
    let log = match args.events.as_ref().or(of_file.as_ref()) {
        Some(path) => Some(EventLog::open(path).map_err(|error| cannot_write(path, &error))?),
        None => None,
    };
    let mut environment =
        RunEnvironment::new(&model, &reader, &evaluator, settings.cache_dir()?.join("answers"), started);
    let observer = Logged { log, told: &progress, show: args.show };
    environment.observer = &observer;
    environment.cancel = cancel;
    environment.library = library.as_ref().map(|l| l as &dyn Library);
    environment.options = RunOptions { from: args.from.clone(), retry, ..args.choice.options() };
    let outcome = run_pipeline(plan, &environment);
    let mut report = outcome.map_err(|error| failure(error, settings))?;
    let num_unread = library.as_ref().map_or(0, |l| l.num_failed);
    if num_unread > 0 {
        let files = if num_unread == 1 { "1 file" } else { &format!("{num_unread} files") };
        let note = format!("{files} of the indexes could not be read: nothing in them was found");
        observer.on(&Event::Note(&note));
        report.notes.push(note);
    }
    if let Some(path) = &args.metrics_file {
        write_metrics(path, &report).map_err(|error| cannot_write(path, &error))?;
    }
    let exit = match exit(&report, &signals) {
        Exit::Done if num_unread > 0 => Exit::SomeFailed,
        exit => exit,
    };
    Ok((report, exit))
}

/// Lets other programs go first. Where the system does not let us, the run is as it would have been.
fn give_way(nice: i32) {
    let process = std::process::id().to_string();
    let mut renice = std::process::Command::new("renice");
    let told = renice.args(["-n", &nice.to_string(), "-p", &process]).stdin(Stdio::null()).output();
    let why = match told {
        Ok(output) if output.status.success() => return,
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => format!("renice: {error}"),
    };
    print::note(&print::shown(&format!("note: run.nice has no effect: {why}")));
}

/// Tells what happens, and keeps it where that was asked for.
struct Logged<'a> {
    log: Option<EventLog>,
    told: &'a Progress,
    show: bool,
}

impl Observer for Logged<'_> {
    fn on(&self, event: &Event<'_>) {
        if let Some(Err(error)) = self.log.as_ref().map(|log| log.add(event)) {
            self.told.on(&Event::Note(&format!("events can no longer be written: {error}")));
        }
        if let Event::Document { document, event: DocumentEvent::StepDone { step, value } } = event
            && self.show
        {
            self.told.aside(|| {
                // A reader that has gone is told of when the summary is printed.
                let _ = print::result(&print::shown(&made(document, step, value)));
            });
        }
        self.told.on(event);
    }
}

/// What a step made, as people read it: text as it is, the `text` of what has one, anything else as JSON.
fn made(document: &str, step: &str, value: &Value) -> String {
    let text = value.as_str().or_else(|| value.get("cited").or_else(|| value.get("text"))?.as_str());
    let body = match (value, text) {
        (Value::Null, _) => "none".to_owned(),
        (_, Some(text)) => text.trim_end().to_owned(),
        (other, None) => format!("{other:#}"),
    };
    let indented: String = body.lines().map(|line| format!("  {line}\n")).collect();
    format!("{document}: {step}\n{indented}")
}

/// Under another name first: a collector never reads half a file.
fn write_metrics(path: &Path, report: &RunReport) -> std::io::Result<()> {
    let folder = path.parent().filter(|f| !f.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut part = tempfile::Builder::new().prefix(".quarry-metrics").tempfile_in(folder)?;
    part.write_all(metrics(report, jiff::Timestamp::now().as_second()).as_bytes())?;
    #[cfg(unix)]
    {
        // The collector is another user.
        use std::os::unix::fs::PermissionsExt;
        part.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
    }
    part.persist(path).map(drop).map_err(|error| error.error)
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Failure {
    Failure::wrong(format!("{} cannot be written: {error}", path.display()))
}

/// What a finished report means for the caller.
fn exit(report: &RunReport, signals: &Signals) -> Exit {
    let unwell = report.is_incomplete();
    match &report.outcome {
        Outcome::Interrupted => signals.exit(),
        Outcome::DeadlineReached => Exit::Deadline,
        Outcome::TooManyFailed { .. } | Outcome::Stopped { .. } => Exit::TooManyFailed,
        Outcome::Finished if unwell => Exit::SomeFailed,
        Outcome::Finished => Exit::Done,
    }
}

pub fn failure(error: RunError, settings: &Settings) -> Failure {
    let diagnostic = Diagnostic::error(error.to_string());
    let (exit, diagnostic) = match &error {
        RunError::Inputs(_) | RunError::Only { .. } | RunError::NoSuchDocument { .. } | RunError::Output { .. } => {
            (Exit::Wrong, diagnostic)
        }
        RunError::NotWritable { .. } => {
            (Exit::Wrong, diagnostic.hint("nothing was started; choose another folder, or make this one writable"))
        }
        RunError::Locked(_) => (Exit::Locked, diagnostic.hint("wait for it to end; its lock goes with it")),
        RunError::Model(error) if error.cause == ModelErrorCause::Resources => {
            (Exit::OutOfResources, error.hints.iter().fold(diagnostic, |d, h| d.hint(h.clone())))
        }
        RunError::Model(error) => {
            let mut diagnostic = error.hints.iter().fold(diagnostic, |d, h| d.hint(h.clone()));
            if settings.offline {
                diagnostic = diagnostic.hint("no connection is allowed (--offline or HF_HUB_OFFLINE)");
            }
            (Exit::NoModel, diagnostic)
        }
        RunError::Resource { .. } => (
            Exit::OutOfResources,
            diagnostic.hint("what was finished is kept; run the same command again when there is room"),
        ),
        RunError::Bug(_) => (Exit::Bug, diagnostic),
    };
    Failure::new(exit, diagnostic)
}

/// The table of documents, the totals, and where everything is.
fn summary(report: &RunReport, plan: &Plan, with_notes: bool) -> String {
    let mut text = String::new();
    let (mut shown, more) = notable(&report.documents);
    shown.extend(&report.whole);
    if !shown.is_empty() {
        text.push_str(&documents_table(&shown).to_string());
        text.push_str("\n\n");
    }
    if more > 0 {
        text.push_str(&format!("and {more} more documents; --json gives them all\n"));
    }
    if with_notes {
        for d in report.documents.iter().chain(&report.whole).filter(|d| !d.notes.is_empty()) {
            text.push_str(&format!("{}\n", d.document));
            d.notes.iter().for_each(|note| text.push_str(&format!("  {note}\n")));
        }
    }
    let c = &report.counts;
    let states = [
        (c.ok, "ok"),
        (c.partial, "partial"),
        (c.abstained, "abstained"),
        (c.failed, "failed"),
        (c.skipped, "skipped"),
    ];
    let states: Vec<String> = states.iter().filter(|(n, _)| *n > 0).map(|(n, s)| format!("{n} {s}")).collect();
    let inputs = number(c.inputs, "document");
    let ended = if states.is_empty() { String::new() } else { format!(": {}", states.join(", ")) };
    text.push_str(&format!("{inputs}{ended}; {:.1} s\n", report.seconds.total));
    if let Some(model) = report.model.as_ref().filter(|_| report.calls.made + report.calls.from_cache > 0) {
        let t = &report.tokens;
        text.push_str(&format!(
            "{}: {} and {} from the cache; {} tokens computed to read {}, {} written\n",
            model.name,
            number(report.calls.made, "call"),
            report.calls.from_cache,
            report.reading.computed,
            report.reading.separate,
            t.completion_tokens
        ));
    }
    if let Some(fallback) = report.model.as_ref().and_then(|m| m.fallback.as_ref()) {
        text.push_str(&format!("warning: {fallback}\n"));
    }
    for output in &report.outputs {
        text.push_str(&format!("{}: {} in {}\n", output.name, output.written, output.path));
    }
    if let Some(quarantine) = &report.quarantine {
        text.push_str(&format!("failed documents are listed in {quarantine}\n"));
    }
    match &report.outcome {
        Outcome::Finished => {}
        Outcome::TooManyFailed { failed, allowed } => text.push_str(&format!(
            "given up: {} failed, {allowed} allowed by run.max_failed of {}; what is finished is kept\n",
            number(*failed, "document"),
            plan.name
        )),
        Outcome::Stopped { document } => {
            text.push_str(&format!("stopped: {document} failed at a step with on_error: stop\n"));
        }
        Outcome::DeadlineReached => text
            .push_str("the deadline came first: what is finished is kept, and the same command goes on from there\n"),
        Outcome::Interrupted => {
            text.push_str("interrupted: what is finished is kept, and the same command goes on from there\n");
        }
    }
    print::shown(&text)
}

fn number(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// The documents worth a row: all of a small run; of a large one those that did not end well, then the first others.
fn notable(documents: &[DocumentReport]) -> (Vec<&DocumentReport>, usize) {
    const ROWS_MAX: usize = 40;
    let (unwell, well): (Vec<_>, Vec<_>) =
        documents.iter().partition(|d| matches!(d.standing(), State::Failed | State::Partial));
    if documents.len() <= ROWS_MAX {
        return (documents.iter().collect(), 0);
    }
    let shown: Vec<_> = unwell.into_iter().chain(well).take(ROWS_MAX).collect();
    let more = documents.len() - shown.len();
    (shown, more)
}

fn documents_table(documents: &[&DocumentReport]) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["DOCUMENT", "STATE", "READ", "TOKENS", "SECONDS", "REMARKS"]);
    for d in documents {
        let read = d.coverage.as_ref().map(|c| format!("{}/{} {}s", c.read, c.total, c.unit)).unwrap_or_default();
        let tokens = d.usage.prompt_tokens + d.usage.completion_tokens;
        let state = match &d.skip {
            Some(Skip::Unchanged { was: State::Ok }) => "skipped".to_owned(),
            Some(Skip::Unchanged { was }) => format!("skipped, was {was}"),
            _ => d.state.to_string(),
        };
        let worked = d.skip.is_none();
        table.add_row([
            print::shown(&d.document),
            state,
            read,
            if worked { tokens.to_string() } else { String::new() },
            if worked { format!("{:.1}", d.seconds) } else { String::new() },
            print::shown(&remarks(d)),
        ]);
    }
    for column in [3, 4] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Why a document is in its state, and what else is worth a line.
fn remarks(d: &DocumentReport) -> String {
    let skip = match d.skip {
        Some(Skip::Unchanged { .. }) => Some("unchanged".to_owned()),
        Some(Skip::NotReached) => Some("not reached".to_owned()),
        None => None,
    };
    let as_before = if d.failed_before { " (as before; not tried again, --force does)" } else { "" };
    let failure = d.failure.as_ref().map(|f| format!("{f}{as_before}"));
    let notes = match d.notes.len() {
        0 => None,
        1 => Some("1 note (-v)".to_owned()),
        n => Some(format!("{n} notes (-v)")),
    };
    let all: Vec<String> = skip.into_iter().chain(failure).chain(d.partial.iter().cloned()).chain(notes).collect();
    all.join("; ")
}

/// SIGINT and SIGTERM: the first ends the run in order, the second at once.
pub(super) struct Signals {
    last: Arc<AtomicUsize>,
}

impl Signals {
    pub(super) fn watch(cancel: CancelToken) -> Result<Self, Failure> {
        use signal_hook::consts::{SIGINT, SIGTERM};
        let last = Arc::new(AtomicUsize::new(0));
        let seen = last.clone();
        let cannot = |e: std::io::Error| {
            Failure::new(Exit::OutOfResources, Diagnostic::error(format!("signals cannot be watched: {e}")))
        };
        let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM]).map_err(cannot)?;
        let watch = move || {
            for signal in signals.forever() {
                let before = seen.swap(signal as usize, Ordering::SeqCst);
                if before != 0 {
                    std::process::exit(128 + signal);
                }
                print::note(
                    "stopping; what is finished is kept, and running again goes on from there (once more to stop at once)",
                );
                cancel.cancel();
            }
        };
        std::thread::Builder::new().name("signals".into()).spawn(watch).map_err(cannot)?;
        Ok(Self { last })
    }

    pub(super) fn exit(&self) -> Exit {
        match self.last.load(Ordering::SeqCst) as i32 {
            signal_hook::consts::SIGTERM => Exit::Terminated,
            _ => Exit::Interrupted,
        }
    }
}
