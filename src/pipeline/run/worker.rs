//! The threads that take documents in order, and what one does with a document: read, name, walk, write, journal.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::Instant;

use super::ahead::Ahead;
use super::commit::Ledger;
use super::look;
use super::progress::Progress;
use super::results::{self, Wrote, failure_of, fill};
use super::standing::{self, Known, Standing};
use super::walk::{Halt, Walk, Walked};
use super::{Job, RunError, not_reached, time_left, whole};
use crate::corpus::document::Document;
use crate::inference::engine::GenerateError;
use crate::pipeline::events::{DocumentEvent, Event};
use crate::pipeline::hash::HashText;
use crate::pipeline::inputs::Input;
use crate::pipeline::journal::{Entry, History};
use crate::pipeline::keys;
use crate::pipeline::model::LazyModel;
use crate::pipeline::names::Names;
use crate::pipeline::panics;
use crate::pipeline::plan::{MaxFailed, OnError, Per};
use crate::pipeline::report::{DocumentReport, Failure, Outcome, Skip, State};
use crate::pipeline::shown::shown;
use crate::pipeline::sink::file_names::NameRegistry;
use crate::pipeline::sink::{Provenance, QUARRY_VERSION};
use crate::steps::Reason;

/// Templates and schemas recurse; the standard 2 MiB would end the process, not the document.
pub(super) const STACK_BYTES: usize = 16 << 20;

/// Everybody who works on a run.
pub(super) struct Crew<'a, 'm> {
    job: &'a Job<'a>,
    inputs: &'a [Input],
    selected: &'a [usize],
    standings: Vec<Standing>, // of the selected
    registry: NameRegistry,   // over all inputs
    ledger: Mutex<Ledger>,
    model: &'a LazyModel<'m>,
    ahead: Ahead<'a>,
    progress: Progress,
    next: AtomicUsize,
    stop: AtomicBool,
    num_failed: AtomicUsize, // in this run
    outcome: Mutex<Outcome>,
    fatal: Mutex<Option<RunError>>,
    reports: Mutex<Vec<Option<DocumentReport>>>, // of the selected
}

impl<'a, 'm> Crew<'a, 'm> {
    pub fn new(
        job: &'a Job<'a>,
        inputs: &'a [Input],
        selected: &'a [usize],
        ledger: Ledger,
        owned: Vec<(PathBuf, String)>, // names that are taken by what is done over all documents
        model: &'a LazyModel<'m>,
    ) -> Self {
        let options = &job.env.options;
        let (force, retry) = (options.force || options.from.is_some(), options.retry);
        let histories = ledger.journal.histories();
        let known = Known { plan: job.plan, pipeline_hash: job.pipeline_hash, histories, force, retry };
        let standings = standing::compare(&known, inputs, selected);
        let bytes =
            standings.iter().filter_map(|s| if let Standing::ToDo { bytes, .. } = s { Some(bytes) } else { None });
        let progress = Progress::new(bytes.clone().count(), bytes.sum());
        let to_read = standings.iter().zip(selected).filter_map(|(standing, index)| match standing {
            Standing::ToDo { bytes, .. } => Some((*index, *bytes)),
            _ => None,
        });
        let ahead = Ahead::new(job, inputs, to_read);
        let registry = NameRegistry::new(inputs.len(), ledger.owned_names(job).into_iter().chain(owned));
        let reports = standings.iter().zip(selected).map(|(standing, index)| {
            let entry = ledger.journal.get(&inputs[*index].document).and_then(History::last);
            match standing {
                Standing::Unchanged | Standing::FailedBefore => entry.map(|entry| standing.report(entry)),
                Standing::Unreadable(_) | Standing::ToDo { .. } => None,
            }
        });
        let reports: Vec<Option<DocumentReport>> = reports.collect();
        // What is not done takes no new name.
        let mut is_done = vec![false; inputs.len()];
        let done = selected.iter().zip(&reports).filter(|(_, report)| report.is_none());
        done.for_each(|(index, _)| is_done[*index] = true);
        registry.pass_all((0..inputs.len()).filter(|index| !is_done[*index]));
        Self {
            job,
            inputs,
            selected,
            standings,
            registry,
            ledger: Mutex::new(ledger),
            model,
            ahead,
            progress,
            next: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            num_failed: AtomicUsize::new(0),
            outcome: Mutex::new(Outcome::Finished),
            fatal: Mutex::new(None),
            reports: Mutex::new(reports),
        }
    }

    /// Works until every document has its end, or the run has.
    pub fn work(self) -> Result<(Vec<DocumentReport>, Outcome, Ledger), RunError> {
        let env = self.job.env;
        let (_, to_do, _) = self.progress.now(0.0);
        env.observer.on(&Event::Started { inputs: self.selected.len(), to_do });
        let jobs = env.options.jobs.unwrap_or(self.job.plan.run.in_flight).clamp(1, to_do.max(1));
        let is_late = AtomicBool::new(false);
        let (done, waits) = mpsc::channel::<()>();
        std::thread::scope(|outer| {
            if let Some(left) = time_left(self.job.plan.run.deadline, &env.started) {
                let (is_late, this) = (&is_late, &self);
                // Nothing is sent: it waits until the deadline, or until the sender is gone.
                outer.spawn(move || {
                    if waits.recv_timeout(left) == Err(mpsc::RecvTimeoutError::Timeout) {
                        is_late.store(true, Ordering::Relaxed);
                        this.end();
                    }
                });
            }
            self.crew(jobs);
            drop(done);
        });
        if let Some(error) = self.fatal.into_inner().unwrap_or_else(|e| e.into_inner()) {
            return Err(error);
        }
        let reports = self.reports.into_inner().unwrap_or_else(|e| e.into_inner());
        let reports: Vec<DocumentReport> = reports
            .into_iter()
            .zip(self.selected)
            .map(|(report, index)| report.unwrap_or_else(|| not_reached(self.inputs, *index)))
            .collect();
        let mut outcome = self.outcome.into_inner().unwrap_or_else(|e| e.into_inner());
        let is_cut_short = reports.iter().any(|r| r.skip == Some(Skip::NotReached));
        if outcome == Outcome::Finished && is_cut_short {
            let is_late = is_late.load(Ordering::Relaxed);
            outcome = if is_late { Outcome::DeadlineReached } else { Outcome::Interrupted };
        }
        Ok((reports, outcome, self.ledger.into_inner().unwrap_or_else(|e| e.into_inner())))
    }

    /// Works with so many threads until nothing is left to do, and with others that read ahead of them.
    fn crew(&self, jobs: usize) {
        std::thread::scope(|scope| {
            for number in 1..=self.ahead.num_readers() {
                let thread = std::thread::Builder::new().name(format!("reader-{number}")).stack_size(STACK_BYTES);
                if thread.spawn_scoped(scope, || self.ahead.work(&|| self.is_over())).is_err() {
                    break; // each is read in its turn
                }
            }
            for number in 1..=jobs {
                let thread = std::thread::Builder::new().name(format!("document-{number}")).stack_size(STACK_BYTES);
                if let Err(source) = thread.spawn_scoped(scope, || self.take_documents()) {
                    if number == 1 {
                        self.end_with(RunError::Resource { path: PathBuf::from("a thread"), source });
                    }
                    break; // fewer at once will do
                }
            }
        });
    }

    fn take_documents(&self) {
        while !self.is_over() {
            let at = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(&index) = self.selected.get(at) else { return };
            if matches!(self.standings[at], Standing::Unchanged | Standing::FailedBefore) {
                continue; // told already
            }
            match panics::caught(|| self.document(index, &self.standings[at])) {
                Ok(Some(report)) => {
                    self.reports.lock().unwrap_or_else(|e| e.into_inner())[at] = Some(report);
                }
                Ok(None) => {} // the run is over, and this document was not reached
                Err(panic) => self.end_with(RunError::Bug(format!("{}: {panic}", self.inputs[index].document))),
            }
            self.registry.pass(index);
        }
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || matches!(self.job.env.cancel.check(), Err(GenerateError::Cancelled))
    }

    fn end_with(&self, error: RunError) {
        self.fatal.lock().unwrap_or_else(|e| e.into_inner()).get_or_insert(error);
        self.end();
    }

    fn end(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.job.env.cancel.cancel();
    }

    /// Returns the document's report, or `None` where the run ended first.
    fn document(&self, index: usize, standing: &Standing) -> Option<DocumentReport> {
        let input = &self.inputs[index];
        let done = match standing {
            Standing::Unchanged | Standing::FailedBefore => return None,
            Standing::Unreadable(error) => {
                let failure = failure_of(error.clone());
                self.close(self.failed(
                    input,
                    HashText::default(),
                    HashText::default(),
                    Walked::default(),
                    failure,
                    None,
                    0.0,
                ))
            }
            Standing::ToDo { sha256, bytes, .. } => {
                let started = Instant::now();
                self.progress.begin();
                self.tell(input, DocumentEvent::Started);
                let done = self.work_on(index, sha256, *bytes, started);
                self.progress.finish(index, *bytes);
                done.and_then(|entry| self.close(entry))
            }
        };
        if let Ok(report) = &done {
            let (state, seconds, usage) = (report.state, report.seconds, report.usage);
            let why = report.failure.as_ref().map(ToString::to_string).or_else(|| report.partial.first().cloned());
            self.tell(input, DocumentEvent::Finished { state, seconds, usage, why: why.as_deref() });
            let (done, to_do, left) = self.progress.now(self.model.load_seconds());
            self.job.env.observer.on(&Event::Progress { done, to_do, left });
        }
        match done {
            Ok(report) => Some(report),
            Err(End::NotReached) => None,
            Err(End::Fatal(error)) => {
                self.end_with(error);
                None
            }
        }
    }

    fn tell(&self, input: &Input, event: DocumentEvent<'_>) {
        self.job.env.observer.on(&Event::Document { document: &input.document, event });
    }

    /// Reads, names, walks and writes a document. Returns its line for the journal.
    fn work_on(&self, index: usize, sha256: &HashText, bytes: u64, started: Instant) -> Result<Entry, End> {
        let (job, input) = (self.job, &self.inputs[index]);
        let source = &job.plan.sources[input.source];
        let seconds = || started.elapsed().as_secs_f64();
        let document = match self.ahead.take(index, &|| self.is_over()).ok_or(End::NotReached)? {
            Ok(document) => document,
            // Who reads gives up where the run ends; nothing is known of the file.
            Err(error) if error.reason == Reason::ReadFailed && self.is_over() => return Err(End::NotReached),
            Err(error) => {
                let key = keys::document_key(job.pipeline_hash, source, &sha256.to_string());
                if look::passes_over(job.plan, input, &error) {
                    let mut entry = results::entry(job, &input.document, sha256.clone(), key);
                    entry.source = source.name.as_str().into();
                    (entry.state, entry.seconds) = (State::Abstained, seconds());
                    entry.notes.push(format!("{error}; passed over (read.no_text: skip)"));
                    return Ok(entry);
                }
                let failure = failure_of(error);
                return Ok(self.failed(input, sha256.clone(), key, Walked::default(), failure, None, seconds()));
            }
        };
        let key = keys::document_key(job.pipeline_hash, source, &document.sha256);
        let mut walked = Walked { notes: document.warnings.clone(), ..Walked::default() };
        if *sha256 != *document.sha256 {
            walked.notes.push("changed while the run was going on; what was read is what the hash says".into());
        }
        let mut names = look::names_of(job.plan, job.env, job.run, &document, input);
        let fail = |walked, failure, paths: Option<&[PathBuf]>| {
            self.failed(input, (&document.sha256).into(), key.clone(), walked, failure, paths, seconds())
        };
        let give_up = || self.is_over();
        let paths = match results::paths(job, &self.registry, index, (Per::Document, &input.document), &names, &give_up)
        {
            Ok(paths) => paths,
            Err(Halt::Failed(failure) | Halt::Stop(failure)) => return Ok(fail(walked, failure, None)),
            Err(Halt::Interrupted | Halt::Model(_)) => return Err(End::NotReached),
        };
        match self.walk(index, bytes, &document, &mut names, &mut walked, started) {
            Ok(()) => {}
            Err(Halt::Failed(failure)) => return Ok(fail(walked, failure, Some(&paths))),
            Err(Halt::Stop(failure)) => {
                let outcome = Outcome::Stopped { document: input.document.clone() };
                *self.outcome.lock().unwrap_or_else(|e| e.into_inner()) = outcome;
                return Ok(fail(walked, failure, Some(&paths)));
            }
            Err(Halt::Interrupted) => return Err(End::NotReached),
            Err(Halt::Model(error)) => return Err(End::Fatal(error.into())),
        }
        let provenance = Provenance {
            document: input.document.clone(),
            sha256: document.sha256.clone(),
            model: job.run.model.clone(),
            pipeline: job.plan.name.clone(),
            pipeline_hash: job.pipeline_hash.to_owned(),
            quarry: QUARRY_VERSION,
        };
        names.set_end(walked.state(), &walked.partial, &provenance.line());
        let mut entry = results::entry(job, &input.document, &document.sha256, key.clone());
        entry.source = source.name.as_str().into();
        entry.kept = whole::kept(job.plan, names.value()).map(Box::new);
        entry.names = paths.iter().map(|p| shown(p, &job.plan.folder)).collect();
        match results::write(job, Per::Document, &names, &provenance, &paths, &mut entry, &mut walked) {
            Ok(()) => {}
            Err(Wrote::Failed(failure)) => return Ok(fail(walked, failure, Some(&paths))),
            Err(Wrote::Fatal(error)) => return Err(End::Fatal(error)),
        }
        let values = names.values_of(job.plan.eval.iter().flat_map(|eval| eval.steps()));
        entry.values = (!values.is_empty()).then(|| Box::new(values));
        (entry.state, entry.seconds) = (walked.state(), seconds());
        fill(&mut entry, walked);
        Ok(entry)
    }

    fn walk(
        &self,
        index: usize,
        bytes: u64,
        document: &Document,
        names: &mut Names,
        walked: &mut Walked,
        started: Instant,
    ) -> Result<(), Halt> {
        let (job, input) = (self.job, &self.inputs[index]);
        let num_steps = job.plan.steps.len().max(1) as f64;
        let steps_done = AtomicUsize::new(0);
        let tell = |event: DocumentEvent<'_>| {
            let share = match &event {
                DocumentEvent::StepDone { .. } => (steps_done.fetch_add(1, Ordering::Relaxed) + 1) as f64,
                DocumentEvent::PartDone { done, of, .. } => {
                    steps_done.load(Ordering::Relaxed) as f64 + *done as f64 / (*of).max(1) as f64
                }
                _ => steps_done.load(Ordering::Relaxed) as f64,
            };
            self.progress.part(index, bytes, share / num_steps);
            self.tell(input, event);
            let (done, to_do, left) = self.progress.now(self.model.load_seconds());
            job.env.observer.on(&Event::Progress { done, to_do, left });
        };
        let (plan, evaluator, cancel) = (job.plan, job.env.evaluator, &job.env.cancel);
        let source = Some(job.plan.sources[input.source].name.as_str());
        let (library, tables, from) = (job.env.library, job.tables, job.env.options.from.as_deref());
        let model = self.model;
        Walk { plan, evaluator, model, cancel, library, source, tables, from, started, tell: &tell, goes_on: false }
            .run(document, names, walked)
    }

    #[expect(clippy::too_many_arguments, reason = "one line of the journal, put together where it is needed")]
    fn failed(
        &self,
        input: &Input,
        sha256: HashText,
        key: HashText,
        walked: Walked,
        failure: Failure,
        paths: Option<&[PathBuf]>,
        seconds: f64,
    ) -> Entry {
        let mut entry = results::entry(self.job, &input.document, sha256, key);
        entry.source = self.job.plan.sources[input.source].name.as_str().into();
        let ledger = self.ledger.lock().unwrap_or_else(|e| e.into_inner());
        let before = ledger.journal.get(&input.document).and_then(|h| h.failed.as_ref());
        entry.attempts = before.map_or(0, |b| b.attempts) + 1;
        entry.first_failed = before.and_then(|b| b.first_failed.clone()).or_else(|| Some(self.job.run.started.clone()));
        entry.names = match paths {
            Some(paths) => paths.iter().map(|p| shown(p, &self.job.plan.folder)).collect(),
            None => before.map(|b| b.names.clone()).unwrap_or_default(),
        };
        (entry.state, entry.failure, entry.seconds) = (State::Failed, Some(Box::new(failure)), seconds);
        fill(&mut entry, walked);
        entry
    }

    /// Puts a document's end into the journal, and ends the run where that was one failure too many.
    fn close(&self, mut entry: Entry) -> Result<DocumentReport, End> {
        let job = self.job;
        {
            let mut ledger = self.ledger.lock().unwrap_or_else(|e| e.into_inner());
            let good = ledger.journal.get(&entry.document).and_then(|h| h.good.as_ref());
            if let Some(good) = good.filter(|g| !g.pages.is_empty() || !g.rows.is_empty()) {
                if entry.state == State::Failed {
                    entry.notes.push("its outputs of an earlier run are kept".into());
                } else {
                    let is_left = |page: &str| !entry.pages.iter().any(|p| p.path == page);
                    let left: Vec<_> = good.pages.iter().map(|p| p.path.clone()).filter(|p| is_left(p)).collect();
                    entry.notes.extend(left.into_iter().map(|p| format!("its earlier page {p} is kept as it was")));
                }
            }
            ledger.add(job, entry.clone()).map_err(End::Fatal)?;
        }
        if entry.state == State::Failed {
            let failed = self.num_failed.fetch_add(1, Ordering::Relaxed) + 1;
            let allowed = match job.plan.run.max_failed {
                MaxFailed::Count(count) => count,
                MaxFailed::Share(share) => (share * job.num_inputs as f64).floor() as usize,
            };
            let mut outcome = self.outcome.lock().unwrap_or_else(|e| e.into_inner());
            let in_no_step = entry.failure.as_deref().filter(|f| f.step.is_none());
            let stops = |failure: &Failure| {
                let source = job.plan.sources.iter().find(|s| *s.name == *entry.source);
                let no_text =
                    failure.reason == Reason::NoTextFound && source.is_some_and(|s| s.read["no_text"] == "stop");
                job.plan.run.on_error == OnError::Stop || no_text
            };
            if *outcome == Outcome::Finished && in_no_step.is_some_and(stops) {
                *outcome = Outcome::Stopped { document: entry.document.clone() };
            }
            if *outcome == Outcome::Finished && failed > allowed {
                *outcome = Outcome::TooManyFailed { failed, allowed };
            }
            if *outcome != Outcome::Finished {
                self.end();
            }
        }
        Ok(standing::report_of(&entry))
    }
}

/// Why a document has no end in this run.
enum End {
    NotReached,
    Fatal(RunError),
}
