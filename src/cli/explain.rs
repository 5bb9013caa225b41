//! `quarry explain`: a pipeline, a verb or a section of the file in plain words.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::check::load;
use super::exit::Exit;
use super::models::EngineArgs;
use super::options::{ModelArgs, ParamArgs, Settings};
use super::plan::with_environment;
use super::progress::Progress;
use super::run::model_of;
use super::{Failure, print};
use crate::diagnostic::{Diagnostic, suggest};
use crate::pipeline::explain;
use crate::pipeline::run::{Change, RunOptions, Why, why};
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
    /// Tell why this document of the pipeline would be done again, or would not: its path, its name or a part of it
    #[arg(long, value_name = "DOCUMENT", requires = "what")]
    pub why: Option<String>,
    /// Give the answer of --why as JSON
    #[arg(long, requires = "why")]
    pub json: bool,
    #[command(flatten)]
    pub engine: EngineArgs,
}

pub fn run(args: &ExplainArgs, settings: &Settings) -> Result<Exit, Failure> {
    let Some(what) = &args.what else {
        print::result(&verbs())?;
        return Ok(Exit::Done);
    };
    if let Some(document) = &args.why {
        return tell_why(args, what, document, settings);
    }
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

fn tell_why(args: &ExplainArgs, file: &Path, document: &str, settings: &Settings) -> Result<Exit, Failure> {
    let checked =
        load(file, &args.params, &args.model)?.map_err(|diagnostics| Failure { exit: Exit::Wrong, diagnostics })?;
    let progress = Progress::new(settings);
    let model = model_of(&checked.plan, &args.engine, settings, &progress);
    let why = with_environment(&checked.plan, &model, settings, RunOptions::default(), |env| {
        why(&checked.plan, env, document)
    })?;
    if args.json {
        print::json(&json!({ "schema_version": 1, "why": why }))?;
    } else {
        print::result(&print::shown(&reasons(&why)))?;
    }
    Ok(Exit::Done)
}

fn reasons(why: &Why) -> String {
    let done = match &why.done {
        None => "has not been done".to_owned(),
        Some(last) => format!("was done by the run {} and is {}", last.run, last.state),
    };
    let mut text = format!("{} {done}\n", why.document);
    match (&why.because, &why.stands_failed) {
        (Some(because), _) => text.push_str(&format!("it would be done: {}\n", super::plan::because(because, true))),
        (None, Some(failure)) => text.push_str(&format!(
            "it would not be tried again, for the same would come out: {failure}\nquarry retry does it all the same\n"
        )),
        (None, None) => text.push_str("it would be left as it is: nothing that it depends on is another now\n"),
    }
    let is = |change| match change {
        Change::Changed => "has changed",
        Change::New => "is new",
        Change::Gone => "is gone",
    };
    let mut differences = why.differences.iter();
    if let Some(first) = differences.next() {
        text.push_str(&format!("first difference: {} {}\n", first.component, is(first.is)));
    }
    differences.for_each(|d| text.push_str(&format!("      and then: {} {}\n", d.component, is(d.is))));
    if !why.is_known {
        text.push_str("what the pipeline was made of then is not known any more\n");
    }
    if !why.steps.is_empty() {
        text.push_str(&format!("may ask something else: {}\n", why.steps.join(", ")));
    }
    text
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
