//! `quarry check`: every mistake of a pipeline file at once, without a model.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::exit::Exit;
use super::options::{ModelArgs, ParamArgs, Settings, Verbosity};
use super::{Failure, print};
use crate::diagnostic::Diagnostic;
use crate::pipeline::check::{Checked, Request, check};
use crate::pipeline::files::OnDisk;
use crate::steps::STEP_KINDS;

/// Check a pipeline file without running it
#[derive(Args, Debug)]
pub struct CheckArgs {
    /// The pipeline file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    #[command(flatten)]
    pub params: ParamArgs,
    #[command(flatten)]
    pub model: ModelArgs,
    /// Give the result as JSON on standard output
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &CheckArgs, settings: &Settings) -> Result<Exit, Failure> {
    let outcome = load(&args.file, &args.params, &args.model)?;
    let told = match &outcome {
        Ok(checked) => &checked.warnings,
        Err(faults) => faults,
    };
    if args.json {
        let report = json!({
            "schema_version": 1, "ok": outcome.is_ok(), "file": args.file.to_string_lossy(),
            "diagnostics": print::diagnostics_json(told),
        });
        print::json(&report)?;
    } else {
        print::diagnostics(told);
    }
    match outcome {
        Err(_) => Ok(Exit::Wrong),
        Ok(checked) => {
            if !args.json && settings.verbosity > Verbosity::Quiet {
                print::result(&summary(&args.file, &checked))?;
            }
            Ok(Exit::Done)
        }
    }
}

fn summary(file: &Path, checked: &Checked) -> String {
    let count = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
    let plan = &checked.plan;
    let counts =
        [count(plan.sources.len(), "source"), count(plan.steps.len(), "step"), count(plan.outputs.len(), "output")];
    print::shown(&format!("{}: ok ({})", file.display(), counts.join(", ")))
}

/// Returns what a source is to be read from as a glob of the current folder: all of a folder, where it is one.
fn from_here(files: &str, current_folder: &Path) -> String {
    if files == "-" {
        return files.to_owned();
    }
    let path = current_folder.join(files);
    let folder = globset::escape(&current_folder.to_string_lossy());
    let glob = match Path::new(files).is_absolute() {
        true => files.to_owned(),
        false => format!("{}/{}", folder.trim_end_matches('/'), files.trim_start_matches("./")),
    };
    match path.is_dir() {
        true => format!("{}/**/*", glob.trim_end_matches('/')),
        false => glob,
    }
}

/// Returns a pipeline file as checked with the verbs of this program, or its mistakes: for every command that takes one.
pub fn load(file: &Path, params: &ParamArgs, model: &ModelArgs) -> Result<Result<Checked, Vec<Diagnostic>>, Failure> {
    let current_folder = std::env::current_dir()
        .map_err(|error| Failure::wrong(format!("the current folder cannot be found: {error}")))?;
    let sources: Vec<_> =
        params.sources.iter().map(|(name, files)| (name.clone(), from_here(files, &current_folder))).collect();
    Ok(check(&Request {
        file,
        kinds: STEP_KINDS,
        overrides: &params.params,
        profile: params.profile.as_deref(),
        sets: &params.sets,
        sources: &sources,
        environment: &super::options::variable,
        model: model.model.as_deref(),
        current_folder: &current_folder,
        files: &OnDisk,
    }))
}
