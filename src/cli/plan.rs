//! `quarry plan`: what a run would do and take, before it.

use std::path::PathBuf;

use clap::Args;
use comfy_table::{CellAlignment, ContentArrangement, Table};

use super::exit::Exit;
use super::library::Shelves;
use super::models::EngineArgs;
use super::on_demand::CorpusReader;
use super::options::{ChoiceArgs, ModelArgs, ParamArgs, Settings, Verbosity};
use super::progress::Progress;
use super::run::{failure, model_of};
use super::{Failure, check, print};
use crate::inference::engine::Speeds;
use crate::pipeline::check::Checked;
use crate::pipeline::evaluate::Evaluator;
use crate::pipeline::events::{Event, Observer};
use crate::pipeline::plan::Plan;
use crate::pipeline::run::{Because, Estimate, RunEnvironment, RunOptions, StepEstimate, Time, estimate};
use crate::pipeline::select::select;
use crate::steps::Library;

/// Tell what a run would do and take: documents and why, exact prompt tokens, time on this machine, memory
#[derive(Args, Debug)]
pub struct PlanArgs {
    /// The pipeline file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    #[command(flatten)]
    pub params: ParamArgs,
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub choice: ChoiceArgs,
    /// Leave the time out: the model is not loaded, and nothing is measured
    #[arg(long)]
    pub no_time: bool,
    /// Give the estimate as JSON on standard output
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub engine: EngineArgs,
}

pub fn run(args: &PlanArgs, settings: &Settings) -> Result<Exit, Failure> {
    let Checked { mut plan, warnings, .. } = check::load(&args.file, &args.params, &args.model)?
        .map_err(|diagnostics| Failure { exit: Exit::Wrong, diagnostics })?;
    if settings.verbosity != Verbosity::Quiet {
        print::diagnostics(&warnings);
    }
    if !args.choice.select.is_empty() {
        select(&mut plan, &args.choice.select)?;
    }
    let progress = Progress::new(settings);
    let model = model_of(&plan, &args.engine, settings, &progress);
    let estimate = with_environment(&plan, &model, settings, args.choice.options(), |env| {
        let told = |done, to_do| progress.on(&Event::Progress { done, to_do, left: None });
        estimate(&plan, env, &model, !args.no_time, &told)
    })?;
    if args.json {
        print::json(&serde_json::to_value(&estimate).unwrap_or_default())?;
    } else {
        print::result(&print::shown(&page(&estimate, args.no_time)))?;
    }
    Ok(Exit::Done)
}

/// Calls `look` with all that looking at a plan needs.
pub(super) fn with_environment<T>(
    plan: &Plan,
    model: &super::on_demand::OnDemand<'_>,
    settings: &Settings,
    options: RunOptions,
    look: impl FnOnce(&RunEnvironment<'_>) -> Result<T, crate::pipeline::run::RunError>,
) -> Result<T, Failure> {
    let cancel = model.cancel.clone();
    let library = match plan.indexes.is_empty() {
        true => None,
        false => Some(Shelves::of_plan(plan, &cancel, settings)?),
    };
    let (reader, evaluator) = (CorpusReader::new()?, Evaluator::default());
    let answers = settings.cache_dir()?.join("answers");
    let mut environment = RunEnvironment::new(model, &reader, &evaluator, answers, jiff::Zoned::now());
    environment.cancel = cancel;
    environment.library = library.as_ref().map(|l| l as &dyn Library);
    environment.options = options;
    look(&environment).map_err(|error| failure(error, settings))
}

fn page(estimate: &Estimate, no_time: bool) -> String {
    let mut text = String::new();
    let counts = &estimate.counts;
    let others = [
        (counts.unchanged, "unchanged"),
        (counts.failed_before, "failed before and not tried again"),
        (counts.unreadable, "that cannot be read"),
    ];
    let others: String = others.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!(", {n} {what}")).collect();
    text.push_str(&format!("{}: {} to do{others}\n", plural(counts.inputs, "document"), counts.to_do));
    for (because, num) in reasons(estimate) {
        text.push_str(&format!("  {num} {because}\n"));
    }
    let failing: Vec<_> =
        estimate.documents.iter().filter_map(|d| Some((&d.document, d.will_fail.as_ref()?))).collect();
    for (document, why) in failing.iter().take(FEW) {
        text.push_str(&format!("  {document} will fail: {why}\n"));
    }
    if failing.len() > FEW {
        text.push_str(&format!("  and {} more will fail; --json tells them all\n", failing.len() - FEW));
    }
    if counts.to_do == 0 {
        text.push_str("nothing to do: no model would be loaded\n");
        return text;
    }
    text.push_str(&format!("\n{}\n\n", steps_table(&estimate.steps)));
    let calls = &estimate.calls;
    if let Some(model) = &estimate.model {
        text.push_str(&format!("model    {}\n", model.name));
        if let Some(fallback) = &model.fallback {
            text.push_str(&format!("         warning: {fallback}\n"));
        }
    }
    text.push_str(&format!(
        "prompts  {} tokens in {}, exact\n",
        grouped(calls.prompt_tokens),
        plural(calls.calls, "call")
    ));
    if calls.calls_guessed > 0 {
        text.push_str(&format!(
            "         and about {} in {} that only answers decide: a guess from answers that mean nothing, on the high \
             side\n         (over 20 meetings the starter's answers called for a sixth of what was guessed)\n",
            grouped(calls.prompt_tokens_guessed),
            plural(calls.calls_guessed, "call")
        ));
    }
    if calls.from_cache > 0 {
        text.push_str(&format!("cache    {} answered already\n", plural(calls.from_cache, "further call")));
    }
    if let Some(memory) = &estimate.memory {
        text.push_str(&format!(
            "memory   {} at most: {} weights, {} keys and values, {} the rest\n",
            mib(memory.total_bytes),
            mib(memory.weight_bytes),
            mib(memory.kv_bytes),
            mib(memory.other_bytes)
        ));
    }
    match &estimate.time {
        Some(time) => text.push_str(&time_lines(time)),
        None if no_time => text.push_str("time     not measured (--no-time)\n"),
        None if calls.calls + calls.calls_guessed == 0 => text.push_str("time     no call to a model\n"),
        None => text.push_str("time     that of the script\n"),
    }
    estimate.notes.iter().for_each(|note| text.push_str(&format!("note: {note}\n")));
    text
}

/// Documents named in full before the rest is only counted.
const FEW: usize = 5;

/// Why documents are to be done, and how many for each reason.
fn reasons(estimate: &Estimate) -> Vec<(String, usize)> {
    let mut counted: Vec<(String, usize)> = Vec::new();
    for document in &estimate.documents {
        let because = because(&document.because, false);
        match counted.iter_mut().find(|(b, _)| *b == because) {
            Some((_, num)) => *num += 1,
            None => counted.push((because, 1)),
        }
    }
    counted
}

/// Why a document is to be done, in words.
pub(super) fn because(because: &Because, in_full: bool) -> String {
    match because {
        Because::New => "not done before".into(),
        Because::DocumentChanged => "its bytes have changed".into(),
        Because::PipelineChanged => {
            "done by another pipeline, parameter or model (quarry explain FILE --why DOCUMENT tells which)".into()
        }
        Because::FailedBefore { failure } if in_full => format!("failed before, and it may go well now: {failure}"),
        Because::FailedBefore { .. } => "failed before, and may go well now".into(),
        Because::PageGone { page } if in_full => format!("its page {page} is gone or has been changed"),
        Because::PageGone { .. } => "their page is gone or has been changed".into(),
        Because::Forced => "asked for with --force".into(),
    }
}

fn steps_table(steps: &[StepEstimate]) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["STEP", "VERB", "DOCUMENTS", "CALLS", "PROMPT TOKENS", "GUESSED", "SHARED", "CACHED CALLS"]);
    let some = |n: usize| if n == 0 { String::new() } else { grouped(n) };
    for step in steps {
        let c = &step.calls;
        let guessed = match c.calls_guessed {
            0 => String::new(),
            n => format!("~{} in {n}", grouped(c.prompt_tokens_guessed)),
        };
        table.add_row([
            step.step.clone(),
            step.verb.to_owned(),
            step.documents.to_string(),
            some(c.calls),
            some(c.prompt_tokens),
            guessed,
            some(c.shared_tokens),
            some(c.from_cache),
        ]);
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn time_lines(time: &Time) -> String {
    let Speeds { rows, .. } = &time.speeds;
    let sizes = rows.last().map_or(0, |(rows, _)| *rows);
    format!(
        "time     about {}: {} to load, {} to read prompts, {} to write answers, {} for the rest\n         measured here: \
         {:.0} tokens read and {:.1} written per second, one after the other, in passes of up to {sizes}; how long \
         answers are is a guess\n",
        duration(time.seconds),
        duration(time.load_seconds),
        duration(time.prompt_seconds),
        duration(time.answer_seconds),
        duration(time.other_seconds),
        time.speeds.prompt_tokens_per_s(),
        time.speeds.answer_tokens_per_s(sizes),
    )
}

/// `3 h 05 min`, `4 min 10 s`, `12.3 s`.
fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..=59 => format!("{seconds:.1} s"),
        60..=3599 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

fn mib(bytes: usize) -> String {
    format!("{} MiB", grouped(bytes.div_ceil(1 << 20)))
}

pub(super) fn plural(number: usize, word: &str) -> String {
    format!("{} {word}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// `12,345,678`.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let head = digits.len() % 3;
    let mut text = digits[..head].to_owned();
    for (i, digit) in digits[head..].chars().enumerate() {
        if i % 3 == 0 && !text.is_empty() {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_are_written_for_people() {
        assert_eq!([0, 7, 999, 1000, 1_234_567].map(grouped), ["0", "7", "999", "1,000", "1,234,567"]);
        assert_eq!([4.26, 75.0, 11_100.0].map(duration), ["4.3 s", "1 min 15 s", "3 h 05 min"]);
        assert_eq!((plural(1, "call"), plural(0, "call")), ("1 call".into(), "0 calls".into()));
    }
}
