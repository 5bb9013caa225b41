//! `quarry explain`: a pipeline, a verb or a section of the file in plain words.

use std::path::{Path, PathBuf};

use clap::Args;

use super::check::load;
use super::exit::Exit;
use super::options::{ModelArgs, ParamArgs, Settings};
use super::{Failure, print};
use crate::diagnostic::{Diagnostic, suggest};
use crate::pipeline::explain;
use crate::steps::STEP_KINDS;

/// Explain a pipeline, a verb or a section in plain words, every default included
#[derive(Args, Debug)]
pub struct ExplainArgs {
    /// A pipeline file, a verb such as `summarize`, or a section: params, model, sources, read, outputs, run, eval, tests;
    /// without it, all verbs are listed
    #[arg(value_name = "FILE|VERB|SECTION")]
    pub what: Option<PathBuf>,
    #[command(flatten)]
    pub params: ParamArgs,
    #[command(flatten)]
    pub model: ModelArgs,
}

pub fn run(args: &ExplainArgs, _settings: &Settings) -> Result<Exit, Failure> {
    let Some(what) = &args.what else {
        print::result(&verbs())?;
        return Ok(Exit::Done);
    };
    let word = what.to_string_lossy();
    if let Some(kind) = STEP_KINDS.iter().find(|k| k.name == word) {
        print::result(&explain::verb(kind))?;
        return Ok(Exit::Done);
    }
    if let Some(text) = explain::section(&word).filter(|_| !what.exists()) {
        print::result(&text)?;
        return Ok(Exit::Done);
    }
    if !what.exists() && is_word(what) {
        return Err(Failure::from(unknown(&word)));
    }
    match load(what, &args.params, &args.model)? {
        Ok(checked) => {
            print::diagnostics(&checked.warnings);
            print::result(&print::shown(&explain::pipeline(&checked)))?;
            Ok(Exit::Done)
        }
        Err(faults) => {
            print::diagnostics(&faults);
            Ok(Exit::Wrong)
        }
    }
}

fn verbs() -> String {
    let width = STEP_KINDS.iter().map(|k| k.name.len()).max().unwrap_or(0);
    let lines = STEP_KINDS.iter().map(|k| format!("  {:width$}  {}\n", k.name, k.summary));
    format!("Verbs, for `use:` in a step:\n{}\n`quarry explain VERB` tells more.", lines.collect::<String>())
}

/// Whether this is a word rather than the path of a file.
fn is_word(path: &Path) -> bool {
    path.extension().is_none() && path.components().count() == 1
}

fn unknown(word: &str) -> Diagnostic {
    let fault = Diagnostic::error(format!("there is no verb, section or file called `{word}`"));
    match suggest(word, STEP_KINDS.iter().map(|k| k.name)) {
        Some(near) => fault.hint(format!("did you mean `{near}`?")),
        None => fault.hint("`quarry explain` lists the verbs"),
    }
}
