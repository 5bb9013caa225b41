//! `quarry generate`: one prompt, one answer. Shows the engine as it is.

use std::io::{IsTerminal, Read};
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::exit::Exit;
use super::models::{self, Downloads, EngineArgs};
use super::options::{ModelArgs, Settings, Verbosity};
use super::{Failure, print};
use crate::diagnostic::Diagnostic;
use crate::inference::engine::{
    CallAnswer, CallChoice, CallRequest, CancelToken, Chat, Completion, Constraint, Engine, FinishReason,
    GenerateRequest, Generator, Message, Prompt, Quantize, Role, Tools,
};
use crate::inference::sampler::SamplingParams;

/// Largest prompt read from a file or from standard input, in bytes.
const PROMPT_BYTES_MAX: u64 = 50 << 20;

/// Answer one prompt
#[derive(Args, Debug)]
pub struct GenerateArgs {
    /// The prompt; `-` reads it from standard input
    #[arg(value_name = "PROMPT", required_unless_present = "file", conflicts_with = "file")]
    pub prompt: Option<String>,
    /// Read the prompt from a file
    #[arg(long, short, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Give the prompt to the model as it is, without its chat template
    #[arg(long, conflicts_with = "system")]
    pub raw: bool,
    /// A system message before the prompt
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    /// Most tokens of the answer
    #[arg(long, default_value_t = 256, value_name = "N", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    pub max_tokens: usize,
    /// 0 takes the likeliest token each time
    #[arg(long, default_value_t = 0.0, value_name = "T")]
    pub temperature: f32,
    /// Choose among the K likeliest tokens; 0 is off
    #[arg(long, default_value_t = 0, value_name = "K")]
    pub top_k: usize,
    /// Choose among the likeliest tokens that have this probability together; 1 is off
    #[arg(long, default_value_t = 1.0, value_name = "P")]
    pub top_p: f32,
    /// Leave out tokens less likely than this share of the likeliest; 0 is off
    #[arg(long, default_value_t = 0.0, value_name = "P")]
    pub min_p: f32,
    /// Make tokens that were just used less likely; 1 is off
    #[arg(long, default_value_t = 1.0, value_name = "F")]
    pub repetition_penalty: f32,
    /// The same seed gives the same answer
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub seed: u64,
    /// End the answer before this text; may be given many times
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
    /// Hold the answer to the JSON Schema in this file
    #[arg(long, value_name = "FILE")]
    pub schema: Option<PathBuf>,
    /// Functions that may be called: a JSON file with a list of {name, description, parameters}. The calls are printed as
    /// JSON, held to what is declared there, and never carried out
    #[arg(long, value_name = "FILE", conflicts_with_all = ["schema", "raw"])]
    pub tools: Option<PathBuf>,
    /// Whether one of the functions must be called
    #[arg(long, value_enum, default_value = "required", value_name = "WHEN", requires = "tools")]
    pub call: CallName,
    /// Answer with one block of code in this language, such as python, and print the code alone
    #[arg(long, value_name = "LANGUAGE", conflicts_with_all = ["schema", "raw", "tools"], value_parser = language)]
    pub code: Option<String>,
    /// The date that the model's template may print, as 2026-01-31 [default: 2024-12-31]
    #[arg(long, value_name = "DATE")]
    pub as_of: Option<jiff::civil::Date>,
    /// Give ids, text, finish reason and usage as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub engine: EngineArgs,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallName {
    Required,
    /// The model may answer in words instead
    Auto,
}

fn language(text: &str) -> Result<String, String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "+#-._".contains(c);
    let fits = !text.is_empty() && text.len() <= 32 && text.chars().all(is_part);
    if fits { Ok(text.to_owned()) } else { Err("the language is one word, such as python or c++".into()) }
}

/// What a template takes for today when nobody says otherwise: the same prompt gives the same ids on any day.
pub const DEFAULT_AS_OF: jiff::civil::Date = jiff::civil::date(2024, 12, 31);

pub fn run(args: &GenerateArgs, settings: &Settings) -> Result<Exit, Failure> {
    let text = prompt_text(args)?;
    let constraint = match &args.schema {
        Some(path) => Constraint::JsonSchema(read_schema(path)?),
        None => Constraint::None,
    };
    let tools = args.tools.as_ref().map(read_tools).transpose()?;
    let engine = load(args.model.model.as_deref(), &args.engine, args.as_of, settings)?;
    if let Some(tools) = &tools {
        let answer = call(args, &engine, text, tools)?;
        return report_calls(args, settings, &engine, &answer);
    }
    let prompt = encode(args, &engine, text)?;
    let completion = answer(args, &engine, prompt, constraint)?;
    report(args, settings, &engine, &completion)
}

/// Loads the model that is named, or the one that can be had; a fallback is told loudly.
pub(super) fn load(
    model: Option<&str>,
    engine: &EngineArgs,
    as_of: Option<jiff::civil::Date>,
    settings: &Settings,
) -> Result<Engine, Failure> {
    let preference = match model {
        Some(model) => vec![model.to_owned()],
        None => vec!["granite-3.1-1b-a400m-instruct".to_owned(), "starter".to_owned()],
    };
    let preferred = models::resolve(&preference, settings, &Downloads::new(settings))?;
    if let Some(line) = models::fallback_now(&preferred) {
        print::note(&format!("warning: {line}"));
    }
    models::load(
        &preferred.files,
        engine.quantize(Quantize::Auto),
        settings,
        as_of.unwrap_or(DEFAULT_AS_OF),
        &engine.options(),
        &models::teller(settings),
    )
}

fn prompt_text(args: &GenerateArgs) -> Result<String, Failure> {
    let cannot = |what: &str, e: std::io::Error| Failure::wrong(format!("{what} cannot be read: {e}"));
    let mut bytes = Vec::new();
    let what = match (&args.file, args.prompt.as_deref()) {
        (Some(path), _) => {
            let file = std::fs::File::open(path).map_err(|e| cannot(&path.to_string_lossy(), e))?;
            file.take(PROMPT_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|e| cannot(&path.to_string_lossy(), e))?;
            path.to_string_lossy().into_owned()
        }
        (None, Some("-")) => {
            let read = std::io::stdin().lock().take(PROMPT_BYTES_MAX + 1).read_to_end(&mut bytes);
            read.map_err(|e| cannot("standard input", e))?;
            "standard input".to_owned()
        }
        (None, prompt) => return Ok(prompt.unwrap_or_default().to_owned()),
    };
    if bytes.len() as u64 > PROMPT_BYTES_MAX {
        return Err(Failure::wrong(format!("{what} is longer than the limit of {PROMPT_BYTES_MAX} bytes")));
    }
    String::from_utf8(bytes).map_err(|e| Failure::wrong(format!("{what} is not UTF-8: {e}")))
}

fn read_schema(path: &PathBuf) -> Result<serde_json::Value, Failure> {
    let text =
        std::fs::read_to_string(path).map_err(|e| Failure::wrong(format!("{} cannot be read: {e}", path.display())))?;
    serde_json::from_str(&text).map_err(|e| Failure::wrong(format!("{} is not valid JSON: {e}", path.display())))
}

fn read_tools(path: &PathBuf) -> Result<Tools, Failure> {
    Tools::parse(&read_schema(path)?).map_err(|fact| Failure::wrong(format!("{}: {fact}", path.display())))
}

fn encode(args: &GenerateArgs, engine: &Engine, text: String) -> Result<Prompt, Failure> {
    if args.raw {
        let tokenizer = engine.tokenizer();
        let mut ids: Vec<_> = tokenizer.raw_prompt_start().into_iter().collect();
        // A raw prompt is the user's own markup: here special tokens are meant.
        ids.extend(tokenizer.encode_with_specials(&text));
        return Ok(Prompt { ids });
    }
    let mut chat = chat(args, text);
    if let Some(language) = &args.code {
        // The fence is opened for the model, so that what follows is code.
        chat.assistant_prefix = format!("```{language}\n");
    }
    engine.encode_chat(&chat).map_err(engine_failure)
}

fn chat(args: &GenerateArgs, text: String) -> Chat {
    let system = args.system.iter().map(|s| Message { role: Role::System, content: s.clone() });
    let messages = system.chain([Message { role: Role::User, content: text }]).collect();
    Chat { messages, ..Chat::default() }
}

fn call(args: &GenerateArgs, engine: &Engine, text: String, tools: &Tools) -> Result<CallAnswer, Failure> {
    let choice = if args.call == CallName::Auto { CallChoice::Auto } else { CallChoice::Required };
    let request = CallRequest {
        chat: chat(args, text),
        max_tokens: args.max_tokens,
        sampling: sampling(args),
        stop: args.stop.clone(),
        cancel: CancelToken::default(),
    };
    tools.ask(engine, &request, choice).map_err(engine_failure)
}

fn answer(args: &GenerateArgs, engine: &Engine, prompt: Prompt, constraint: Constraint) -> Result<Completion, Failure> {
    let mut stop = args.stop.clone();
    if args.code.is_some() {
        stop.push("\n```".into());
    }
    let request = GenerateRequest {
        prompt,
        max_tokens: args.max_tokens,
        sampling: sampling(args),
        stop,
        constraint,
        cancel: CancelToken::default(),
    };
    match engine.generate(vec![request]).pop() {
        Some(result) => result.map_err(engine_failure),
        None => Err(Failure::new(Exit::Bug, Diagnostic::error("the engine gave no answer"))),
    }
}

fn sampling(args: &GenerateArgs) -> SamplingParams {
    SamplingParams {
        temperature: args.temperature,
        top_k: args.top_k,
        top_p: args.top_p,
        min_p: args.min_p,
        repetition_penalty: args.repetition_penalty,
        seed: args.seed,
        ..SamplingParams::default()
    }
}

pub(super) fn engine_failure(error: crate::inference::engine::GenerateError) -> Failure {
    use crate::inference::engine::GenerateError as E;
    match error {
        E::OverWindow { .. } => Failure::from(
            Diagnostic::error(error.to_string()).hint("ask for fewer tokens with --max-tokens, or a larger --window"),
        ),
        E::EmptyPrompt | E::Sampling(_) | E::Grammar(_) | E::Template(_) => Failure::wrong(error.to_string()),
        _ => Failure::new(Exit::Bug, Diagnostic::error(error.to_string())),
    }
}

fn report(args: &GenerateArgs, settings: &Settings, engine: &Engine, c: &Completion) -> Result<Exit, Failure> {
    if args.json {
        print::json(&json!({
            "model": engine.card(),
            "ids": c.ids,
            "text": c.text,
            "finish": c.finish,
            "usage": c.usage,
        }))?;
        return Ok(Exit::Done);
    }
    print_text(&c.text)?;
    tell_if_cut(args, settings, c.finish);
    Ok(Exit::Done)
}

fn report_calls(
    args: &GenerateArgs,
    settings: &Settings,
    engine: &Engine,
    answer: &CallAnswer,
) -> Result<Exit, Failure> {
    if args.json {
        print::json(&json!({
            "model": engine.card(),
            "calls": answer.calls,
            "text": answer.text,
            "finish": answer.finish,
            "usage": answer.usage,
        }))?;
    } else if answer.calls.is_empty() {
        print_text(&answer.text)?;
    } else {
        print::json(&json!(answer.calls))?;
    }
    tell_if_cut(args, settings, answer.finish);
    Ok(Exit::Done)
}

/// Answers may hold escapes of a terminal; a pipe gets them as they are.
fn print_text(text: &str) -> Result<(), Failure> {
    Ok(print::result(&if std::io::stdout().is_terminal() { print::shown(text) } else { text.to_owned() })?)
}

fn tell_if_cut(args: &GenerateArgs, settings: &Settings, finish: FinishReason) {
    if finish == FinishReason::Length && !args.json && settings.verbosity != Verbosity::Quiet {
        print::note(&format!("warning: the answer is cut off at {} tokens (--max-tokens)", args.max_tokens));
    }
}
