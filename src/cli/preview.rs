//! `quarry preview`: the prompts of one document, word for word, without the model's weights.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::exit::Exit;
use super::models::EngineArgs;
use super::options::{ModelArgs, ParamArgs, Settings, Verbosity};
use super::plan::{plural, with_environment};
use super::progress::Progress;
use super::run::model_of;
use super::{Failure, check, print};
use crate::diagnostic::{Diagnostic, suggest};
use crate::pipeline::check::Checked;
use crate::pipeline::run::{Preview, PreviewedCall, RunOptions, preview};

/// Show the exact prompts, their token counts and grammars for one document; loads no weights
#[derive(Args, Debug)]
pub struct PreviewArgs {
    /// The pipeline file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The document: its path, its name or a part of it
    #[arg(long, value_name = "DOCUMENT")]
    pub document: String,
    /// Show every prompt of this step, instead of the first of each; may be given many times
    #[arg(long, value_name = "ID")]
    pub step: Vec<String>,
    #[command(flatten)]
    pub params: ParamArgs,
    #[command(flatten)]
    pub model: ModelArgs,
    /// Give every prompt as JSON on standard output
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub engine: EngineArgs,
}

pub fn run(args: &PreviewArgs, settings: &Settings) -> Result<Exit, Failure> {
    let Checked { plan, warnings, .. } = check::load(&args.file, &args.params, &args.model)?
        .map_err(|diagnostics| Failure { exit: Exit::Wrong, diagnostics })?;
    if settings.verbosity != Verbosity::Quiet {
        print::diagnostics(&warnings);
    }
    for id in &args.step {
        let known = || plan.steps.iter().map(|s| s.id.as_str());
        let fault = match plan.steps.iter().find(|s| s.id == *id) {
            None => {
                Diagnostic::error(format!("`--step {id}`: there is no step `{id}`")).hint(match suggest(id, known()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("its steps: {}", known().collect::<Vec<_>>().join(", ")),
                })
            }
            Some(step) if !step.needs_model() => {
                let asking: Vec<_> = plan.steps.iter().filter(|s| s.needs_model()).map(|s| s.id.as_str()).collect();
                let fault = Diagnostic::error(format!("`{id}` is a {} and asks no model", step.kind.name));
                fault.hint(format!("steps that do: {}", asking.join(", ")))
            }
            Some(_) => continue,
        };
        return Err(fault.into());
    }
    let progress = Progress::new(settings);
    let model = model_of(&plan, &args.engine, settings, &progress);
    let found = with_environment(&plan, &model, settings, RunOptions::default(), |env| {
        preview(&plan, env, &model, &args.document, &args.step)
    })?;
    let preview = found.map_err(|error| Failure::wrong(format!("{}: {error}", args.document)))?;
    if args.json {
        print::json(&json!({ "schema_version": 1, "preview": preview }))?;
    } else {
        print::result(&print::shown(&page(&preview, !args.step.is_empty())))?;
    }
    Ok(Exit::Done)
}

fn page(preview: &Preview, all: bool) -> String {
    let mut text = format!("{}: {}", preview.document, plural(preview.calls.len(), "call"));
    if let Some(model) = &preview.model {
        text.push_str(&format!(" to {}, whose window has {}", model.name, plural(preview.window, "token")));
    }
    text.push('\n');
    if preview.calls.is_empty() {
        text.push_str("no step asks a model about it\n");
    }
    let mut at = 0;
    while let Some(first) = preview.calls.get(at) {
        let of_step = preview.calls[at..].iter().take_while(|c| c.step == first.step).count();
        for (number, call) in preview.calls[at..at + of_step].iter().enumerate() {
            if all || number == 0 {
                text.push_str(&in_full(call, number + 1, of_step));
            } else if number == 1 {
                let tokens: usize = preview.calls[at + 1..at + of_step].iter().map(|c| c.prompt_tokens).sum();
                let (more, tokens) = (plural(of_step - 1, "further call"), plural(tokens, "token"));
                text.push_str(&format!("… {more} of {}, {tokens}; --step {} shows them\n", first.step, first.step));
            }
        }
        at += of_step;
    }
    preview.faults.iter().for_each(|fault| {
        text.push_str(&format!("\nnote: with made-up answers in the place of the model's, a run would say: {fault}\n"))
    });
    text
}

fn in_full(call: &PreviewedCall, number: usize, of: usize) -> String {
    let mut facts = vec![plural(call.prompt_tokens, "token")];
    facts.extend(call.max_tokens.map(|n| format!("an answer of at most {n}")));
    if call.from_cache {
        facts.push("answered already".into());
    }
    if !call.exact {
        facts.push("not exact: it depends on earlier answers, for which others stand here".into());
    }
    let mut text = format!("\n── {}, call {number} of {of}: {}\n{}\n", call.step, facts.join("; "), call.prompt);
    match &call.grammar {
        Some(grammar) => text.push_str(&format!("── grammar\n{grammar:#}\n")),
        None => text.push_str("── no grammar: free text\n"),
    }
    text
}
