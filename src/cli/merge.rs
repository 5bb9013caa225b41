//! `quarry merge`: what shards have done becomes one result.

use std::path::PathBuf;

use clap::Args;

use super::exit::Exit;
use super::on_demand::{CorpusReader, OnDemand};
use super::options::{ModelArgs, ParamArgs, Settings, Verbosity};
use super::progress::Progress;
use super::{Failure, check, print};
use crate::inference::engine::{EngineOptions, Quantize};
use crate::pipeline::check::Checked;
use crate::pipeline::evaluate::Evaluator;
use crate::pipeline::run::{MergeReport, RunEnvironment, merge};

/// Put together what `quarry run --shard` has done, and say what is missing
#[derive(Args, Debug)]
pub struct MergeArgs {
    /// The pipeline file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    #[command(flatten)]
    pub params: ParamArgs,
    /// Give the result as JSON on standard output
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &MergeArgs, settings: &Settings) -> Result<Exit, Failure> {
    let Checked { plan, .. } = check::load(&args.file, &args.params, &ModelArgs::default())?
        .map_err(|diagnostics| Failure { exit: Exit::Wrong, diagnostics })?;
    let (progress, reader, evaluator) = (Progress::new(settings), CorpusReader::new()?, Evaluator::default());
    // No step is done here, so the model is never asked for.
    let (engine, as_of) = (EngineOptions::default(), super::generate::DEFAULT_AS_OF);
    let model = OnDemand::new(Vec::new(), settings, engine, Quantize::Auto, as_of, &progress);
    let cache = settings.cache_dir()?.join("answers");
    let environment = RunEnvironment::new(&model, &reader, &evaluator, cache, jiff::Zoned::now());
    let report = merge(&plan, &environment).map_err(|error| super::run::failure(error, settings))?;
    if args.json {
        print::json_of(&report)?;
    } else if settings.verbosity > Verbosity::Quiet || !report.is_complete() {
        print::result(&print::shown(&summary(&report)))?;
    }
    Ok(match (report.is_complete(), report.failed) {
        (false, _) => Exit::CheckFailed,
        (true, 0) => Exit::Done,
        (true, _) => Exit::SomeFailed,
    })
}

fn summary(report: &MergeReport) -> String {
    const FEW: usize = 10;
    let mut text = format!(
        "{} shards, {} documents: {} done, {} failed, {} missing\n",
        report.shards.len(),
        report.inputs,
        report.done,
        report.failed,
        report.missing.len()
    );
    let mut list = |what: &str, names: &[String]| {
        names.iter().take(FEW).for_each(|name| text.push_str(&format!("{what}: {name}\n")));
        if names.len() > FEW {
            text.push_str(&format!("and {} more; --json gives them all\n", names.len() - FEW));
        }
    };
    list("missing", &report.missing);
    list("wrote the page of another document, to be done again without shards", &report.clashes);
    list("done by another pipeline, model or index than the last run, to be run again", &report.outdated);
    for output in &report.outputs {
        text.push_str(&format!("{}: {} in {}\n", output.name, output.written, output.path));
    }
    if let Some(quarantine) = &report.quarantine {
        text.push_str(&format!("failed documents are listed in {quarantine}\n"));
    }
    text
}
