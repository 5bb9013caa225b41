//! `quarry index build` and `update`: which files, how they are read and cut, and what was done.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};

use crate::cli::embedder::ResidentEmbedder;
use crate::cli::exit::Exit;
use crate::cli::options::{Settings as CliSettings, Verbosity};
use crate::cli::read::isolation;
use crate::cli::run::Signals;
use crate::cli::{Failure, print};
use crate::corpus::chunker::ChunkOptions;
use crate::corpus::document::Document;
use crate::corpus::index::update::{Content, How};
use crate::corpus::index::{
    DiskIndex, Embed, IndexError, Origin, Settings, UpdateReport, WordPieces, Writer, update as bring_up,
};
use crate::corpus::reader::{ReadOptions, read};
use crate::diagnostic::Diagnostic;
use crate::inference::engine::CancelToken;
use crate::pipeline::evaluate::Evaluator;
use crate::pipeline::inputs;
use crate::pipeline::plan::SourcePlan;

#[derive(Args, Debug)]
pub struct BuildArgs {
    /// The index's folder; it needs one of its own
    #[arg(value_name = "INDEX")]
    pub index: PathBuf,
    /// Folders, files or globs; a .jsonl file whose lines have `_id` and `text` is a corpus of such documents
    #[arg(value_name = "FROM", required = true)]
    pub from: Vec<String>,
    /// Add vectors by this model, such as minilm: searches then use both
    #[arg(long, value_name = "MODEL")]
    pub embed: Option<String>,
    /// The most tokens of a passage, about
    #[arg(long, default_value_t = PASSAGE_TOKENS, value_name = "TOKENS", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(32..=100_000))]
    pub size: usize,
    /// Tokens that a passage repeats of the one before
    #[arg(long, default_value_t = 0, value_name = "TOKENS")]
    pub overlap: usize,
    /// Remove what is there and build anew: also repairs a damaged index
    #[arg(long)]
    pub fresh: bool,
    /// Give the report as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub struct UpdateArgs {
    /// The index's folder
    #[arg(value_name = "INDEX")]
    pub index: PathBuf,
    /// Give the report as JSON
    #[arg(long)]
    pub json: bool,
}

/// A passage of about a paragraph or two: enough to answer from, little enough that its words are its own.
const PASSAGE_TOKENS: usize = 400;

/// How files are cut when nobody says otherwise.
pub fn default_split() -> Value {
    json!({ "size": PASSAGE_TOKENS, "overlap": 0 })
}

pub fn run(args: &BuildArgs, settings: &CliSettings) -> Result<Exit, Failure> {
    let split = json!({ "size": args.size, "overlap": args.overlap });
    let embedder = args.embed.as_deref().map(|name| ResidentEmbedder::load(name, settings)).transpose()?;
    let here =
        std::env::current_dir().map_err(|e| Failure::wrong(format!("the current folder cannot be read: {e}")))?;
    let from: Vec<String> = args.from.iter().map(|f| here.join(f).to_string_lossy().into_owned()).collect();
    // A single folder's files are named from there; of several sources, from where we are.
    let base = match from.as_slice() {
        [one] if Path::new(one).is_dir() => PathBuf::from(one),
        _ => here,
    };
    let from = json!({ "paths": from, "base": base });
    let embedded = embedder.as_ref().map(|e| e.id().to_owned());
    let wanted = Settings { read: json!({}), split, embedder: embedded, fields: Value::Null, from };
    watched(&args.index, &wanted, embedder.as_ref(), args.fresh, args.json, settings)
}

pub fn update(args: &UpdateArgs, settings: &CliSettings) -> Result<Exit, Failure> {
    let wanted = DiskIndex::open(&args.index)?.settings().clone();
    let embedder = wanted.embedder.as_deref().map(|id| resident(id, settings)).transpose()?;
    watched(&args.index, &wanted, embedder.as_ref(), false, args.json, settings)
}

/// Brings an index up to date, stops in order where a signal says so, and reports.
fn watched(
    index: &Path,
    wanted: &Settings,
    embedder: Option<&ResidentEmbedder>,
    fresh: bool,
    as_json: bool,
    settings: &CliSettings,
) -> Result<Exit, Failure> {
    let cancel = CancelToken::default();
    let signals = Signals::watch(cancel.clone())?;
    let listed = origins(&wanted.from, index)?;
    let brought = bring(index, wanted, listed, embedder, fresh, &cancel, settings)?;
    report(index, &brought, as_json, settings)?;
    Ok(match (brought.report.stopped, brought.report.failed.is_empty()) {
        (true, _) => signals.exit(),
        (false, false) => Exit::SomeFailed,
        (false, true) => Exit::Done,
    })
}

/// Loads the embedder of an id.
pub fn resident(id: &str, settings: &CliSettings) -> Result<ResidentEmbedder, Failure> {
    ResidentEmbedder::of_id(id, settings)
}

/// What bringing an index up to its files came to.
pub struct Brought {
    pub report: UpdateReport,
    pub notes: Vec<String>,
    pub seconds: f64,
}

/// Why an index could not be brought up to its files.
pub enum Unbrought {
    Index(IndexError),
    Other(Failure),
}

impl From<IndexError> for Unbrought {
    fn from(error: IndexError) -> Self {
        Self::Index(error)
    }
}

impl From<Failure> for Unbrought {
    fn from(failure: Failure) -> Self {
        Self::Other(failure)
    }
}

impl From<Unbrought> for Failure {
    fn from(why: Unbrought) -> Self {
        match why {
            Unbrought::Index(error) => error.into(),
            Unbrought::Other(failure) => failure,
        }
    }
}

/// What is read, and what was passed over on the way.
pub type Listed = (Vec<Origin>, Vec<String>);

/// Brings an index to what its files hold now, making it if there is none.
pub fn bring(
    index: &Path,
    wanted: &Settings,
    (origins, notes): Listed,
    embedder: Option<&ResidentEmbedder>,
    fresh: bool,
    cancel: &CancelToken,
    settings: &CliSettings,
) -> Result<Brought, Unbrought> {
    let started = Instant::now();
    let chunk = ChunkOptions::parse(&wanted.split).map_err(|faults| {
        let fault = |f: &crate::corpus::chunker::ChunkFault| Diagnostic::error(format!("--{}: {}", f.key, f.message));
        Failure { exit: Exit::Wrong, diagnostics: faults.iter().map(fault).collect() }
    })?;
    let mut options: ReadOptions = serde_json::from_value(wanted.read.clone())
        .map_err(|e| Failure::wrong(format!("the index's reading options: {e}")))?;
    let token = cancel.clone();
    options.isolation = Some(isolation()?.until(move || token.check().is_err()));

    let mut writer = if fresh { Writer::fresh(index, wanted)? } else { Writer::open(index, wanted)? };
    let meter = Meter::new(settings);
    let how = How {
        read: &|path| read(path, &options).map_err(|e| format!("{} ({})", e.detail, e.reason)),
        chunk: &chunk,
        counter: &WordPieces,
        embed: embedder.map(|e| e as &dyn Embed),
        fields: &|document| fields(document, &wanted.fields),
        stop: &|| cancel.check().is_err(),
        progress: &|done, of| meter.tell(done, of),
    };
    let report = bring_up(&mut writer, &origins, &how)?;
    writer.close()?;
    meter.end();
    Ok(Brought { report, notes, seconds: started.elapsed().as_secs_f64() })
}

/// What filters can ask for of every document.
fn fields(document: &Document, own: &Value) -> Vec<(String, String)> {
    let mut fields = vec![
        ("ext".to_owned(), document.ext()),
        ("format".to_owned(), document.format.name().to_owned()),
        ("stem".to_owned(), document.stem()),
    ];
    let scope = own.is_object().then(|| Evaluator::default().bind(&json!({ "doc": document.doc_value() })));
    for ((name, expression), scope) in own.as_object().into_iter().flatten().zip(scope.iter().cycle()) {
        // A document that lacks what the expression names does not have the field.
        match expression.as_str().and_then(|e| scope.evaluate(e).ok()) {
            None | Some(Value::Null) => {}
            Some(Value::String(text)) => fields.push((name.clone(), text)),
            Some(other) => fields.push((name.clone(), other.to_string())),
        }
    }
    fields.extend(document.meta.iter().filter(|(_, v)| v.len() <= 200).map(|(k, v)| (k.clone(), v.clone())));
    fields
}

/// Lists what an index is made of, and what was passed over.
pub fn origins(from: &Value, index: &Path) -> Result<Listed, Failure> {
    let paths: Vec<&str> = from["paths"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let base = PathBuf::from(from["base"].as_str().unwrap_or_default());
    let mut found = Vec::new();
    let mut patterns = Vec::new();
    for path in paths {
        let as_path = Path::new(path);
        match std::fs::metadata(as_path) {
            Ok(meta) if meta.is_dir() => {
                patterns.push(format!("{}/**/*", globset::escape(path.trim_end_matches('/'))));
            }
            Ok(_) if as_path.extension().is_some_and(|e| e == "jsonl") && is_corpus(as_path)? => {
                found.extend(rows(as_path)?);
            }
            Ok(_) => patterns.push(globset::escape(path)),
            Err(_) => patterns.push(path.to_owned()),
        }
    }
    let mut notes = Vec::new();
    if !patterns.is_empty() {
        let ignore = std::path::absolute(index).map(|i| format!("{}/**", globset::escape(&i.to_string_lossy())));
        let read = json!({});
        let ignore = ignore.into_iter().collect();
        let source = SourcePlan { name: "files".into(), patterns, ignore, read, ..SourcePlan::default() };
        let (files, passed_over) = files(source, &base)?;
        notes = passed_over;
        found.extend(files);
    }
    refuse_twins(&found)?;
    Ok((found, notes))
}

/// A name stands for one document: of two, the later would take the other's place without a word.
fn refuse_twins(origins: &[Origin]) -> Result<(), Failure> {
    let mut seen = HashSet::new();
    match origins.iter().find(|o| !seen.insert(o.name.as_str())) {
        None => Ok(()),
        Some(twin) => {
            let fault = Diagnostic::error(format!("two of the documents to be indexed are called `{}`", twin.name));
            Err(fault.hint("give each another `_id`, or build an index for each source").into())
        }
    }
}

/// Lists the files of a source under their names from `base`.
pub fn files(source: SourcePlan, base: &Path) -> Result<Listed, Failure> {
    let listing = inputs::list(&[source], base).map_err(|e| Failure::wrong(e.to_string()))?;
    let origin = |i: inputs::Input| Origin { name: i.document, content: Content::File(i.path) };
    Ok((listing.inputs.into_iter().map(origin).collect(), listing.notes))
}

/// Whether a file of JSON lines is a corpus: its first line has `_id` and `text`.
fn is_corpus(path: &Path) -> Result<bool, Failure> {
    use std::io::{BufRead, Read};
    const LONGEST_FIRST_LINE: u64 = 16 << 20;
    let cannot = |e: std::io::Error| Failure::wrong(format!("{} cannot be read: {e}", path.display()));
    let file = std::fs::File::open(path).map_err(cannot)?;
    let mut line = Vec::new();
    std::io::BufReader::new(file.take(LONGEST_FIRST_LINE)).read_until(b'\n', &mut line).map_err(cannot)?;
    let first: Value = serde_json::from_slice(&line).unwrap_or_default();
    Ok(first.get("_id").is_some() && first.get("text").is_some())
}

/// The documents of a corpus, each a line. A line that is none is an error with its number.
fn rows(path: &Path) -> Result<Vec<Origin>, Failure> {
    use std::io::BufRead;
    let cannot = |e: std::io::Error| Failure::wrong(format!("{} cannot be read: {e}", path.display()));
    let file = std::io::BufReader::new(std::fs::File::open(path).map_err(cannot)?);
    let mut found = Vec::new();
    let mut lines = HashMap::new();
    for (number, line) in file.lines().enumerate() {
        let line = line.map_err(cannot)?;
        if line.trim().is_empty() {
            continue;
        }
        let row: Value = serde_json::from_str(&line).unwrap_or_default();
        let text = |name: &str| row.get(name).and_then(Value::as_str).map(str::to_owned);
        let (Some(name), Some(body)) = (text("_id"), text("text")) else {
            return Err(Failure::wrong(format!("{}:{}: a document has `_id` and `text`", path.display(), number + 1)));
        };
        if let Some(first) = lines.insert(name.clone(), number + 1) {
            let place = format!("{}:{}", path.display(), number + 1);
            return Err(Failure::wrong(format!("{place}: the `_id` `{name}` is already that of line {first}")));
        }
        let title = text("title").unwrap_or_default();
        found.push(Origin { name, content: Content::Text { title, text: body } });
    }
    Ok(found)
}

fn report(index: &Path, brought: &Brought, as_json: bool, settings: &CliSettings) -> Result<(), Failure> {
    let Brought { report, notes, seconds } = brought;
    if as_json {
        print::json(&json!({ "index": index, "report": report, "notes": notes, "seconds": seconds }))?;
    } else if settings.verbosity != Verbosity::Quiet {
        print::result(&print::shown(&summary(report, *seconds)))?;
    }
    if !as_json {
        notes.iter().for_each(|note| print::note(&print::shown(note)));
        tell_failed(report);
        if settings.verbosity != Verbosity::Quiet {
            tell_warnings(report);
        }
    }
    Ok(())
}

pub fn summary(report: &UpdateReport, seconds: f64) -> String {
    let counts = [
        (report.added, "added"),
        (report.changed, "changed"),
        (report.removed, "removed"),
        (report.unchanged, "unchanged"),
        (report.failed.len(), "could not be read"),
    ];
    let counts: Vec<String> = counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    let counts = if counts.is_empty() { "no files".to_owned() } else { counts.join(", ") };
    let stopped = if report.stopped { "stopped early; what is done is kept; " } else { "" };
    let written = match report.passages {
        0 => String::new(),
        n => format!("; {n} passages of {} written", size(report.text_bytes)),
    };
    format!("{stopped}{counts}{written}; {seconds:.1} s")
}

fn size(bytes: u64) -> String {
    match bytes {
        0..100_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

/// Names the files that could not be read, not endlessly many.
pub fn tell_failed(report: &UpdateReport) {
    tell(&report.failed, "warning: ", "could not be read");
}

/// Says what was dropped, repaired or doubted of files that were read, not endlessly often.
pub fn tell_warnings(report: &UpdateReport) {
    tell(&report.warnings, "note: ", "remarks of the reader");
}

fn tell(of_files: &[(String, String)], before: &str, what: &str) {
    const MOST: usize = 20;
    for (file, why) in of_files.iter().take(MOST) {
        print::note(&print::shown(&format!("{before}{file}: {why}")));
    }
    if of_files.len() > MOST {
        let more = of_files.len() - MOST;
        print::note(&format!("and {more} more {what}; `quarry index build --json` gives them all"));
    }
}

/// A bar on a terminal, a line now and then elsewhere.
struct Meter {
    quiet: bool,
    bar: Option<indicatif::ProgressBar>,
    last: Mutex<Instant>,
}

impl Meter {
    const PAUSE: Duration = Duration::from_secs(10);

    fn new(settings: &CliSettings) -> Self {
        use std::io::IsTerminal;
        let quiet = settings.verbosity == Verbosity::Quiet;
        let bar = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let style = indicatif::ProgressStyle::with_template("reading [{bar:30}] {pos}/{len} files, {eta} left");
            let bar = indicatif::ProgressBar::new(0);
            if let Ok(style) = style { bar.with_style(style.progress_chars("=> ")) } else { bar }
        });
        Self { quiet, bar, last: Mutex::new(Instant::now()) }
    }

    fn tell(&self, done: usize, of: usize) {
        if let Some(bar) = &self.bar {
            bar.set_length(of as u64);
            bar.set_position(done as u64);
            return;
        }
        let mut last = self.last.lock().unwrap_or_else(|e| e.into_inner());
        if !self.quiet && last.elapsed() >= Self::PAUSE {
            *last = Instant::now();
            print::note(&format!("{done} of {of} files read"));
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
