//! `quarry ask`: a question to a folder. The index beside the cache is brought up to the folder first; the answer comes
//! with the words that show it and where they stand.

use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use serde_json::{Value, json};

use super::answered;
use super::embedder::ResidentEmbedder;
use super::exit::Exit;
use super::index::{default_split, origins, show_hits};
use super::library::Shelves;
use super::models::EngineArgs;
use super::on_demand::OnDemand;
use super::options::{ModelArgs, ParamArgs, Settings, Verbosity};
use super::progress::Progress;
use super::{Failure, ask_file, print};
use crate::corpus::document::{Document, Format};
use crate::corpus::index::{self, Embed, Hit};
use crate::diagnostic::Diagnostic;
use crate::inference::engine::{CancelToken, Generator, Quantize};
use crate::pipeline::model::{ModelError, ModelSource};
use crate::steps::{BuildContext, GenerationDefaults, Reason, STEP_KINDS, Step, StepContext, StepError, StepOutput};

/// Ask a question of the documents in a folder
#[derive(Args, Debug)]
pub struct AskArgs {
    /// The folder, a file or a glob; or a pipeline over a table of questions, which is then asked the one
    #[arg(value_name = "FOLDER")]
    pub folder: String,
    /// The question; without one, questions are read line by line, and the conversation goes on
    #[arg(value_name = "QUESTION")]
    pub question: Option<String>,
    /// Passages that are looked at [default: 6]
    #[arg(long, value_name = "N", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=100))]
    pub top: Option<usize>,
    /// Have the model put four times as many passages in order first, for at most so long, as in 5s
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub rerank: Option<u64>, // milliseconds
    /// Search by the vectors of this model too, such as minilm
    #[arg(long, value_name = "MODEL")]
    pub embed: Option<String>,
    /// Only files whose name matches
    #[arg(long, value_name = "GLOB")]
    pub path: Vec<String>,
    /// Keep sentences that no passage supports, and mark them
    #[arg(long)]
    pub own_knowledge: bool,
    /// Write freely, without citations
    #[arg(long, conflicts_with = "own_knowledge")]
    pub no_citations: bool,
    /// Show the passages that were found, and why
    #[arg(long)]
    pub explain: bool,
    /// Build the index anew
    #[arg(long)]
    pub fresh: bool,
    /// Give each answer as a line of JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub params: ParamArgs,
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub engine: EngineArgs,
}

fn duration(text: &str) -> Result<u64, String> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let factor = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        _ => return Err("write a time such as 500ms, 5s or 1m".into()),
    };
    let number: u64 = digits.parse().map_err(|_| "write a time such as 500ms, 5s or 1m".to_owned())?;
    number.checked_mul(factor).ok_or_else(|| "is too long a time".into())
}

/// Further questions are put into the conversation with so many answers before them.
const REMEMBERED: usize = 3;
/// A shorter question in a conversation is most likely about the one before it.
const SHORT_WORDS: usize = 4;

/// Passages that an answer may be from.
const TOP: usize = 6;

impl AskArgs {
    /// An option that says how a folder is asked, where one is written.
    pub fn of_folders(&self) -> Option<&'static str> {
        let written = [
            ("--top", self.top.is_some()),
            ("--rerank", self.rerank.is_some()),
            ("--embed", self.embed.is_some()),
            ("--path", !self.path.is_empty()),
            ("--own-knowledge", self.own_knowledge),
            ("--no-citations", self.no_citations),
            ("--explain", self.explain),
            ("--fresh", self.fresh),
        ];
        written.into_iter().find(|(_, is_written)| *is_written).map(|(name, _)| name)
    }

    fn has_params(&self) -> bool {
        let p = &self.params;
        p.profile.is_some() || !(p.params.is_empty() && p.sets.is_empty() && p.sources.is_empty())
    }
}

pub fn run(args: &AskArgs, settings: &Settings) -> Result<Exit, Failure> {
    let path = Path::new(&args.folder);
    if let Some(found) = ask_file::of_file(path) {
        return ask_file::run(path, &found, args, settings);
    }
    if args.has_params() {
        return Err(Failure::wrong("-p, --profile, --set and --source are for pipelines, and this asks files"));
    }
    let quiet = settings.verbosity == Verbosity::Quiet;
    let (library, base) = shelf(args, settings)?;
    let mut exit = if library.num_failed > 0 { Exit::SomeFailed } else { Exit::Done };
    let progress = Progress::new(settings);
    let preference = match &args.model.model {
        Some(model) => vec![model.clone()],
        None => vec!["granite-3.1-1b-a400m-instruct".to_owned(), "starter".to_owned()],
    };
    let quantize = args.engine.quantize(Quantize::Auto);
    let as_of = super::generate::DEFAULT_AS_OF;
    let model = OnDemand::new(preference, settings, args.engine.options(), quantize, as_of, &progress);
    model.identity().map_err(no_model)?; // a fallback is told
    let steps = steps(args)?;
    let mut asked = Asked { args, library, base, steps, model: &model, generator: None, history: Vec::new(), quiet };

    if let Some(question) = &args.question {
        return Ok(if asked.answer(question)? { Exit::SomeFailed } else { exit });
    }
    let on_terminal = std::io::stdin().is_terminal();
    if on_terminal && !quiet {
        print::note("ask, or end with an empty line");
    }
    loop {
        if on_terminal {
            let mut err = std::io::stderr();
            // A prompt that cannot be written is no reason not to listen.
            let _ = write!(err, "> ").and_then(|()| err.flush());
        }
        let mut line = String::new();
        let read = std::io::stdin().lock().read_line(&mut line);
        let read = read.map_err(|e| Failure::wrong(format!("standard input cannot be read: {e}")))?;
        if read == 0 || (on_terminal && line.trim().is_empty()) {
            return Ok(exit);
        }
        if !line.trim().is_empty() {
            let is_partial = asked.answer(line.trim())?;
            exit = if is_partial { Exit::SomeFailed } else { exit };
        }
    }
}

fn no_model(error: ModelError) -> Failure {
    let diagnostic = error.hints.iter().fold(Diagnostic::error(error.to_string()), |d, h| d.hint(h.clone()));
    Failure::new(Exit::NoModel, diagnostic)
}

/// The one name that the steps below give the folder's index.
const SHELF: &str = "folder";

/// Brings the folder's index up to date and opens it. The second is what names in it are relative to.
fn shelf(args: &AskArgs, settings: &Settings) -> Result<(Shelves, PathBuf), Failure> {
    let embedder = args.embed.as_deref().map(|name| ResidentEmbedder::load(name, settings)).transpose()?;
    let here = std::env::current_dir().map_err(|e| Failure::wrong(format!("the current folder: {e}")))?;
    let from = here.join(&args.folder);
    let base = if from.is_dir() { from.clone() } else { here };
    let id = embedder.as_ref().map(|e| e.id().to_owned());
    // An index of its own for each folder and embedder: asking with another does not throw one away.
    let key = format!("{}\0{}", from.display(), id.as_deref().unwrap_or_default());
    let wanted = index::Settings {
        fields: Value::Null,
        read: json!({}),
        split: default_split(),
        embedder: id,
        from: json!({ "paths": [from.to_string_lossy()], "base": base }),
    };
    let listed = origins(&wanted.from, &from.join(".quarry"))?;
    let mut shelves = Shelves::default();
    shelves.add(SHELF, &key, wanted, listed, embedder, args.fresh, &CancelToken::default(), settings)?;
    Ok((shelves, base))
}

/// A step under its id.
type Named = (&'static str, Box<dyn Step>);

/// The steps of an answer, each under its id.
fn steps(args: &AskArgs) -> Result<Vec<Named>, Failure> {
    let top = args.top.unwrap_or(TOP);
    let candidates = if args.rerank.is_some() { top * 4 } else { top };
    let mut filter = serde_json::Map::new();
    if !args.path.is_empty() {
        filter.insert("path".into(), json!(args.path));
    }
    let mut wanted = vec![(
        "found",
        "retrieve",
        json!({ "from": SHELF, "query": "{{ looked_for }}", "top": candidates, "filter": filter, "context": 0 }),
    )];
    let mut from = "steps.found";
    if let Some(budget) = args.rerank {
        let options = json!({ "from": from, "question": "{{ question }}", "top": top, "budget": budget });
        wanted.push(("best", "rerank", options));
        from = "steps.best";
    }
    wanted.push((
        "reply",
        "answer",
        json!({
            "question": "{{ question }}", "from": from, "cite": if args.no_citations { "none" } else { "spans" },
            "refuse_when": {}, "own_knowledge": if args.own_knowledge { "mark" } else { "forbid" },
        }),
    ));
    let step = |(id, verb, options): (&'static str, &str, Value)| {
        let Some(kind) = STEP_KINDS.iter().find(|k| k.name == verb) else { panic!("there is no verb {verb}") };
        let read_file = |name: &str| Err(format!("{name}: no files here"));
        let context = BuildContext {
            id,
            options: &options,
            schemas: &Default::default(),
            indexes: &[SHELF.to_owned()],
            read_file: &read_file,
        };
        let built = (kind.build)(&context);
        let step = built.map_err(|faults| {
            let diagnostics = faults.into_iter().map(|f| Diagnostic::error(f.message)).collect();
            Failure { exit: Exit::Wrong, diagnostics }
        })?;
        Ok((id, step))
    };
    wanted.into_iter().map(step).collect()
}

/// A conversation about a folder.
struct Asked<'a> {
    args: &'a AskArgs,
    library: Shelves,
    base: PathBuf, // names in the index are relative to it
    steps: Vec<Named>,
    model: &'a OnDemand<'a>,
    generator: Option<Arc<dyn Generator>>, // loaded for the first question
    history: Vec<Value>,                   // `{question, answer}`
    quiet: bool,
}

impl Asked<'_> {
    /// Answers, and returns whether a step left something out.
    fn answer(&mut self, question: &str) -> Result<bool, Failure> {
        let started = Instant::now();
        let generator = match &self.generator {
            Some(generator) => generator.clone(),
            None => self.generator.insert(self.model.open().map_err(no_model)?).clone(),
        };
        // "And on Sundays?" is looked for with the words of what it follows.
        let before = self.history.last().and_then(|h| h["question"].as_str());
        let looked_for = match before.filter(|_| question.split_whitespace().count() <= SHORT_WORDS) {
            Some(before) => format!("{question} {before}"),
            None => question.to_owned(),
        };
        let mut names = json!({
            "params": {}, "steps": {}, "run": {}, "question": question, "looked_for": looked_for,
            "history": self.history,
        });
        let document = Document::of(Format::Text, question.to_owned());
        let (mut notes, mut left_out) = (Vec::new(), Vec::new());
        for (id, step) in &self.steps {
            let context = StepContext {
                document: &document,
                names: &names,
                generator: Some(generator.as_ref()),
                defaults: &GenerationDefaults::default(),
                cancel: &CancelToken::default(),
                progress: &|_, _| {},
                library: Some(&self.library),
            };
            let StepOutput { value, notes: said, partial, .. } = step.run(&context).map_err(step_failure)?;
            notes.extend(said);
            left_out.extend(partial);
            names["steps"][*id] = value;
        }
        let reply = &names["steps"]["reply"];
        self.history.push(json!({ "question": question, "answer": reply["text"] }));
        let first = self.history.len().saturating_sub(REMEMBERED);
        self.history.drain(..first);
        let seconds = started.elapsed().as_secs_f64();
        if self.args.json {
            let passages = &names["steps"]["found"]["explain"];
            let judged = names["steps"]["best"]["explain"].clone();
            print::json(&json!({ "question": question, "answer": reply, "found": passages, "rerank": judged,
                "notes": notes, "partial": left_out, "seconds": seconds, "model": generator.card() }))?;
        } else {
            self.show(reply, &names["steps"]["found"])?;
        }
        if !self.quiet {
            let notes = notes.iter().map(|note| format!("note: {note}"));
            let told = notes.chain(left_out.iter().map(|what| format!("warning: the answer is partial: {what}")));
            told.for_each(|line| print::note(&print::shown(&line)));
        }
        Ok(!left_out.is_empty())
    }

    fn show(&self, reply: &Value, found: &Value) -> Result<(), Failure> {
        let mut text = answered::text(reply, &self.base, answered::columns());
        if self.args.explain {
            let hits: Vec<Hit> = found["hits"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|h| serde_json::from_value(h["hit"].clone()).ok())
                .collect();
            text.push_str(&format!("\n\n{}", print::shown(&show_hits(&hits, true))));
            if let Some(because) = reply["because"].as_str() {
                text.push_str(&format!("\n\nno answer: {because}"));
            }
            text.push_str(&format!("\nprobability that the passages hold the answer: {}", reply["probability"]));
        }
        print::result(&text)?;
        Ok(())
    }
}

fn step_failure(error: StepError) -> Failure {
    let exit = match error.reason {
        Reason::Cancelled => Exit::Interrupted,
        Reason::Missing | Reason::Unreadable | Reason::EngineFailed => Exit::NoModel,
        _ => Exit::Wrong,
    };
    Failure::new(exit, Diagnostic::error(error.to_string()))
}
