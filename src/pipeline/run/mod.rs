//! Runs a checked plan over its documents. Read [`run`] first, then `worker` for what happens to one document.
//!
//! Documents go document-major: a bounded number are in flight, each on a plain thread that walks its steps. The
//! journal says what is done; a run that was killed at any moment is gone on with by running again. Prints nothing.

mod ahead;
mod commit;
mod dry;
mod estimate;
mod look;
mod merge;
mod preview;
mod progress;
mod replay;
mod results;
mod rounds;
mod standing;
mod trial;
mod walk;
mod whole;
mod why;
mod worker;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::cache::{CACHE_BYTES_MAX, CachedGenerator, CallCache, Meter};
use super::disk::{Disk, is_exhausted};
use super::evaluate::Evaluator;
use super::events::{Event, Observer};
use super::inputs::{self, Input, ListError};
use super::journal::{History, Journal};
use super::keys;
use super::model::{LazyModel, ModelError, ModelIdentity, ModelSource, Wrapped};
use super::names::{RunNames, document_value};
use super::places::{PlaceError, Places, Shard};
use super::plan::{Deadline, Plan};
use super::report::{
    Counts, DocumentReport, Outcome, OutputReport, REPORT_SCHEMA_VERSION, Reading, RunReport, Seconds,
};
use super::rows::{self, Tables};
use super::shown::{from_shown, shown};
use super::sink::QUARRY_VERSION;
use crate::corpus::document::Document;
use crate::inference::engine::{CancelToken, Generator};
use crate::steps::{Library, StepError};

pub use estimate::{Estimate, Memory, StepEstimate, Time, estimate};
pub use merge::{MergeReport, merge};
pub use preview::{Preview, PreviewedCall, preview};
pub use standing::Because;
pub use trial::{TestReport, TrialEnvironment, test};
pub use why::{Change, Why, why};

use commit::Ledger;
use worker::Crew;

/// Reads a file into a document: the reader of `corpus`, or one of a test's own.
pub trait DocumentReader: Sync {
    /// Reads the file's bytes once. `options` is the source's `read` mapping.
    fn read(&self, path: &Path, options: &Value) -> Result<Document, StepError>;

    /// Returns what templates see as `doc`. Must be an object.
    fn names(&self, document: &Document, shown: &str) -> Value {
        document_value(document, shown)
    }
}

/// Everything a run needs from outside.
pub struct RunEnvironment<'a> {
    pub model: &'a dyn ModelSource,
    pub reader: &'a dyn DocumentReader,
    pub evaluator: &'a Evaluator,
    pub observer: &'a dyn Observer,
    /// The plan's indexes; `None` where it has none.
    pub library: Option<&'a dyn Library>,
    /// Ends the run early when cancelled; the run also cancels it itself when it aborts.
    pub cancel: CancelToken,
    pub disk: Disk,
    /// `None`: beside the outputs.
    pub state_folder: Option<PathBuf>,
    pub cache_folder: PathBuf,
    pub cache_bytes_max: u64,
    /// The clock is read once, by the caller: every date of the run comes from here.
    pub started: jiff::Zoned,
    pub options: RunOptions,
}

impl<'a> RunEnvironment<'a> {
    /// Returns an environment with no options, watched by nobody.
    pub fn new(
        model: &'a dyn ModelSource,
        reader: &'a dyn DocumentReader,
        evaluator: &'a Evaluator,
        cache_folder: PathBuf,
        started: jiff::Zoned,
    ) -> Self {
        Self {
            model,
            reader,
            evaluator,
            observer: &super::events::Unwatched,
            library: None,
            cancel: CancelToken::default(),
            disk: Disk::default(),
            state_folder: None,
            cache_folder,
            cache_bytes_max: CACHE_BYTES_MAX,
            started,
            options: RunOptions::default(),
        }
    }
}

/// What a user may ask of a single run.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// Do documents again that are unchanged, or that failed before and are unchanged.
    pub force: bool,
    /// Only the first so many of the inputs.
    pub limit: Option<usize>,
    /// Only inputs whose path or file name matches one of these globs.
    pub only: Vec<String>,
    /// Only so many of them, chosen by the seed: the same ones each time.
    pub sample: Option<(usize, u64)>, // (number, seed)
    /// Only those of one shard; tables are left to `merge`.
    pub shard: Option<Shard>,
    /// Documents are done again, and from this step on the model is asked anew.
    pub from: Option<String>,
    /// Only those that stand failed, whatever for.
    pub retry: bool,
    /// Documents in flight, instead of the plan's number.
    pub jobs: Option<usize>,
}

/// Why a run could not be, or could not go on. Facts; what to do about them is the command line's to say.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Nothing was started.
    #[error(transparent)]
    Inputs(#[from] ListError),
    #[error("--only {pattern}: {detail}")]
    Only { pattern: String, detail: String },
    #[error("the document {wanted} {detail}")]
    NoSuchDocument { wanted: String, detail: String },
    /// Nothing was started.
    #[error("output \"{output}\": {detail}")]
    Output { output: String, detail: String },
    /// Nothing was started.
    #[error("cannot write {path}: {source}")]
    NotWritable { path: PathBuf, source: io::Error },
    #[error("another run is working on {0}")]
    Locked(PathBuf),
    #[error(transparent)]
    Model(#[from] ModelError),
    /// What was finished is kept; the next run goes on from there.
    #[error("{path}: {source}")]
    Resource { path: PathBuf, source: io::Error },
    #[error("{0}")]
    Bug(String),
}

impl From<PlaceError> for RunError {
    fn from(error: PlaceError) -> Self {
        match error {
            PlaceError::Locked(folder) => Self::Locked(folder),
            PlaceError::NotWritable { path, source } if is_exhausted(&source) && !is_read_only(&source) => {
                Self::Resource { path, source }
            }
            PlaceError::NotWritable { path, source } => Self::NotWritable { path, source },
            PlaceError::Path { output, detail } => Self::Output { output, detail },
        }
    }
}

fn is_read_only(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ReadOnlyFilesystem
}

/// What stays the same during a run.
#[derive(Clone, Copy)]
struct Job<'a> {
    plan: &'a Plan,
    env: &'a RunEnvironment<'a>,
    places: &'a Places,
    pipeline_hash: &'a str,
    documents_hash: &'a str, // that of what is done for each document
    tables: &'a Tables,
    run: &'a RunNames,
    stamp: &'a str,    // of what is added to the journal
    num_inputs: usize, // of this run: what `max_failed` is a share of
}

impl<'a> Job<'a> {
    /// Returns a job of what is done for each document: `hash` is that of the pipeline.
    fn new(
        plan: &'a Plan,
        env: &'a RunEnvironment<'a>,
        places: &'a Places,
        (hash, stamp): (&'a str, &'a str),
        tables: &'a Tables,
        run: &'a RunNames,
        num_inputs: usize,
    ) -> Self {
        Self { plan, env, places, pipeline_hash: hash, documents_hash: hash, tables, run, stamp, num_inputs }
    }

    fn state_file(&self, name: &str) -> PathBuf {
        self.places.state.join(name)
    }
}

/// Runs a plan. Inputs, folders and the lock come first, then the comparison with the journal, and only when a
/// document comes to a step that needs it, the model.
///
/// Returns a report also where documents failed or the run was cut short: its outcome says so. After an error, what was
/// finished is on the disk, and the same call goes on from there.
pub fn run(plan: &Plan, env: &RunEnvironment<'_>) -> Result<RunReport, RunError> {
    let start = Instant::now();
    let mut listing = inputs::list(&plan.sources, &plan.folder)?;
    let needs_model = plan.needs_model();
    let model = if needs_model { Some(env.model.identity()?) } else { None };
    let names = run_names_at(&env.started, model);
    let scope = env.evaluator.bind(&json!({ "params": plan.params, "run": names.value() }));
    let places = open_places(plan, env, &scope)?;
    let tables = rows::tables(&plan.tables, &plan.folder)?;
    let held = held_digest(env.library, &tables);
    let pipeline_hash = keys::pipeline_hash(plan, names.model.as_ref(), &names, held.as_deref());

    let state_fault = |source| RunError::Resource { path: places.state.clone(), source };
    let journal_path = places.state.join("journal.jsonl");
    let (journal, damage) = Journal::open(&journal_path, &places.parts(), &env.disk).map_err(state_fault)?;
    let mut notes = Notes { observer: env.observer, lines: Vec::new() };
    if damage.lines > 0 {
        let lines = damage.lines;
        notes.say(format!("{}: {lines} damaged lines; what they told of is done again", journal_path.display()));
    }
    listing.leave_out(&written(journal.histories(), &plan.folder));
    listing.notes.drain(..).for_each(|note| notes.say(note));
    let mut selected = select(&listing.inputs, &env.options)?;
    if env.options.retry {
        let stands_failed = |i: &usize| journal.get(&listing.inputs[*i].document).is_some_and(|h| h.failed.is_some());
        selected.retain(stands_failed);
    }
    if selected.len() < listing.inputs.len() {
        match env.options.retry && selected.is_empty() {
            true => notes
                .say(format!("none of {} documents stands failed: there is nothing to retry", listing.inputs.len())),
            false => notes.say(format!("{} of {} documents chosen", selected.len(), listing.inputs.len())),
        }
    }

    // Of those that stand failed alone, a share would be of failures.
    let num_inputs = if env.options.retry { listing.inputs.len() } else { selected.len() };
    let stamp = journal.stamp(&names.id);
    let job = Job::new(plan, env, &places, (&pipeline_hash, &stamp), &tables, &names, num_inputs);
    let (cache, unwritable) = CallCache::open(&env.cache_folder);
    if let Some(error) = unwritable {
        notes.say(format!("cannot write the cache in {}: {error}; going on without it", env.cache_folder.display()));
    }
    let (cache, meter) = (Arc::new(cache), Arc::new(Meter::default()));
    let wrap = |inner: Arc<dyn Generator>| -> Wrapped<'_> {
        let cached = |inner| CachedGenerator::new(inner, cache.clone(), meter.clone(), env.observer);
        [Arc::new(cached(inner.clone())), Arc::new(cached(inner).anew())]
    };
    let components = keys::components(plan, names.model.as_ref(), &names, held.as_deref());
    why::keep(&job, components, journal.histories()).map_err(state_fault)?;
    let lazy = LazyModel::new(env.model, names.model.as_ref(), env.observer, wrap);
    let ledger = Ledger::open(&job, journal, &listing.inputs)?;

    let whole_hash = keys::whole_hash(plan, names.model.as_ref(), &names, held.as_deref());
    let whole_job = Job { pipeline_hash: &whole_hash, ..job };
    let whole_ledger = match plan.has_whole() && env.options.shard.is_none() {
        true => {
            let (journal, damage) =
                Journal::open(&places.state.join("whole.jsonl"), &places.parts(), &env.disk).map_err(state_fault)?;
            if damage.lines > 0 {
                notes.say("what was done over all documents is done again: its journal is damaged".into());
            }
            Some(Ledger::open_whole(&whole_job, journal)?)
        }
        false => None,
    };
    let owned = whole_ledger.iter().flat_map(|l| l.all_names(&job)).collect();
    let crew = Crew::new(&job, &listing.inputs, &selected, ledger, owned, &lazy);
    let (documents, mut outcome, mut ledger) = crew.work()?;
    let mut filled = ledger.finish(&job)?;
    ledger.notes(&job).into_iter().for_each(|note| notes.say(note));
    if env.options.shard.is_none() {
        ledger.clear_gone(&job)?.into_iter().for_each(|note| notes.say(note));
    }
    let mut whole = None;
    match whole_ledger {
        Some(whole_ledger) if outcome == Outcome::Finished => {
            let mut done = whole::work(&whole_job, &listing.inputs, &ledger, whole_ledger, &lazy)?;
            for (of_documents, of_all) in filled.iter_mut().zip(done.ledger.finish(&whole_job)?) {
                *of_documents = of_documents.take().or(of_all);
            }
            done.notes.drain(..).chain(done.ledger.clear_gone(&whole_job)?).for_each(|note| notes.say(note));
            done.ledger.compact().map_err(state_fault)?;
            outcome = done.outcome.clone().unwrap_or(outcome);
            whole = Some(done);
        }
        Some(_) => notes.say("what is done over all documents waits until all have their end".into()),
        None if plan.has_whole() => {
            notes.say("what is done over all documents waits for a run without --shard, after `quarry merge`".into());
        }
        None => {}
    }
    let whole_ledger = whole.as_ref().map(|w| &w.ledger);
    notes.lines.extend(cache.write_error()); // told when it happened
    let quarantine = ledger.write_quarantine(&job, whole_ledger)?;
    ledger.compact().map_err(state_fault)?;
    if cache.calls().made > 0
        && let Err(error) = cache.evict(env.cache_bytes_max)
    {
        notes.say(format!("cannot tidy the cache in {}: {error}", env.cache_folder.display()));
    }
    let report = RunReport {
        schema_version: REPORT_SCHEMA_VERSION,
        pipeline: plan.name.clone(),
        pipeline_hash: pipeline_hash.clone(),
        quarry: QUARRY_VERSION,
        run: names.id.clone(),
        started: names.started.clone(),
        outcome,
        model: names.model.clone(),
        counts: Counts::of(&documents),
        outputs: outputs(&job, &ledger, whole_ledger, &filled),
        whole: whole.map(|w| w.reports).unwrap_or_default(),
        documents,
        notes: notes.lines,
        calls: cache.calls(),
        tokens: meter.usage(),
        reading: Reading::new(meter.usage(), lazy.prompt_tokens_computed()),
        seconds: Seconds {
            total: start.elapsed().as_secs_f64(),
            model_load: lazy.load_seconds(),
            model_calls: meter.seconds(),
        },
        state_folder: places.state.display().to_string(),
        quarantine,
        steps: keys::step_hashes(plan),
    };
    let manifest = format!("{:#}\n", report.manifest());
    let written = env.disk.replace(&places.parts(), &job.state_file("run.json"), manifest.as_bytes());
    written.map_err(state_fault)?;
    env.observer.on(&Event::Finished(&report));
    Ok(report)
}

/// Lines for the report, told as they come.
struct Notes<'a> {
    observer: &'a dyn Observer,
    lines: Vec<String>,
}

impl Notes<'_> {
    fn say(&mut self, line: String) {
        self.observer.on(&Event::Note(&line));
        self.lines.push(line);
    }
}

/// What of a run that began then can be named.
pub(super) fn run_names_at(started: &jiff::Zoned, model: Option<ModelIdentity>) -> RunNames {
    RunNames {
        id: started.timestamp().strftime("%Y%m%dT%H%M%S%.3fZ").to_string(),
        date: started.date().to_string(),
        started: started.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
        model,
    }
}

/// Returns the file that a template of the `run` section names in a run that began then.
pub fn file_of(plan: &Plan, evaluator: &Evaluator, started: &jiff::Zoned, template: &str) -> Result<PathBuf, String> {
    place_of(plan, evaluator, &run_names_at(started, None), template)
}

fn place_of(plan: &Plan, evaluator: &Evaluator, run: &RunNames, template: &str) -> Result<PathBuf, String> {
    let scope = evaluator.bind(&json!({ "params": plan.params, "run": run.value() }));
    Ok(plan.folder.join(scope.render(template)?))
}

/// Returns every file that the journal says this pipeline has written.
fn written(histories: &BTreeMap<String, History>, folder: &Path) -> HashSet<PathBuf> {
    let entries = || histories.values().filter_map(|h| h.good.as_ref());
    let pages = entries().flat_map(|e| &e.pages).map(|p| p.path.as_str());
    let tables: HashSet<&str> = entries().flat_map(|e| &e.rows).map(|r| &*r.path).collect();
    pages.chain(tables).map(|path| from_shown(path, folder)).collect()
}

/// Returns the indices of the inputs that a run is to look at.
fn select(inputs: &[Input], options: &RunOptions) -> Result<Vec<usize>, RunError> {
    let wrong = |pattern: &str, detail: String| RunError::Only { pattern: pattern.to_owned(), detail };
    let globs: Vec<_> =
        options.only.iter().map(|p| inputs::matcher(p).map_err(|e| wrong(p, e))).collect::<Result<_, _>>()?;
    let matches = |input: &Input| {
        let name = input.path.file_name().unwrap_or_default();
        globs.is_empty() || globs.iter().any(|g| g.is_match(&input.document) || g.is_match(name))
    };
    let selected: Vec<usize> = (0..inputs.len()).filter(|i| matches(&inputs[*i])).collect();
    if selected.is_empty() && !globs.is_empty() {
        let detail = format!("matches none of the {} documents", inputs.len());
        return Err(wrong(&options.only.join(" --only "), detail));
    }
    let selected = match options.shard {
        Some(shard) => selected.into_iter().filter(|i| shard.holds(&inputs[*i].document)).collect(),
        None => selected,
    };
    let selected = match options.sample {
        Some((number, seed)) => sample(inputs, selected, number, seed),
        None => selected,
    };
    Ok(selected.into_iter().take(options.limit.unwrap_or(usize::MAX)).collect())
}

/// Returns `number` of the selected, in their order: those whose names have the least hash with the seed. A document that
/// comes or goes changes no more than itself.
fn sample(inputs: &[Input], mut selected: Vec<usize>, number: usize, seed: u64) -> Vec<usize> {
    let hash = |i: &usize| *blake3::hash(format!("{seed} {}", inputs[*i].document).as_bytes()).as_bytes();
    selected.sort_by_cached_key(hash);
    selected.truncate(number);
    selected.sort_unstable();
    selected
}

/// How long a run that began then may go on.
fn time_left(deadline: Option<Deadline>, started: &jiff::Zoned) -> Option<Duration> {
    match deadline? {
        Deadline::After(time) => Some(time),
        Deadline::At(time) => {
            let today = started.with().time(time).build().ok()?;
            let next = if today > *started { today } else { today.checked_add(jiff::Span::new().days(1)).ok()? };
            Duration::try_from(next.timestamp().duration_since(started.timestamp())).ok()
        }
    }
}

/// Opens the folders and takes the locks, waiting for another run as long as the plan says.
fn open_places(plan: &Plan, env: &RunEnvironment<'_>, scope: &super::evaluate::Scope) -> Result<Places, RunError> {
    const LOOK_UP: Duration = Duration::from_millis(200);
    let since = Instant::now();
    loop {
        match Places::open(plan, env.state_folder.as_deref(), scope, &env.disk, env.options.shard) {
            Err(PlaceError::Locked(_)) if since.elapsed() < plan.run.lock_wait && env.cancel.check().is_ok() => {
                std::thread::sleep(LOOK_UP.min(plan.run.lock_wait));
            }
            other => return Ok(other?),
        }
    }
}

/// Returns what documents depend on beside themselves: indexes, and tables of rows; `None` where there are neither.
pub fn held_digest(library: Option<&dyn Library>, tables: &Tables) -> Option<String> {
    let library = library.map(Library::digest);
    if tables.is_empty() {
        return library;
    }
    let tables = blake3::hash(json!(tables).to_string().as_bytes()).to_hex();
    Some(format!("{}tables {tables}", library.unwrap_or_default()))
}

fn outputs(
    job: &Job<'_>,
    ledger: &Ledger,
    whole: Option<&Ledger>,
    filled: &[Option<super::sink::Filled>],
) -> Vec<OutputReport> {
    let plan = job.plan;
    let report = |(index, output): (usize, &super::plan::OutputPlan)| {
        let target = &job.places.targets[index];
        let (path, written) = match (&target.kind, &filled[index]) {
            (super::places::TargetKind::Table { path }, filled) => (path, filled.map_or(0, |f| f.rows)),
            (super::places::TargetKind::Pages { .. }, _) => {
                let whole = whole.map_or(0, |l| l.num_pages(&output.name));
                (&target.root, ledger.num_pages(&output.name) + whole)
            }
        };
        OutputReport { name: output.name.clone(), path: shown(path, &plan.folder), written }
    };
    plan.outputs.iter().enumerate().map(report).collect()
}

fn not_reached(inputs: &[Input], index: usize) -> DocumentReport {
    DocumentReport::not_reached(inputs[index].document.clone())
}
