//! One document through its steps, in straight synchronous code. Writes nothing.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::rounds;
use crate::corpus::document::Document;
use crate::inference::engine::{CancelToken, GenerateError, Generator, Usage};
use crate::pipeline::evaluate::Evaluator;
use crate::pipeline::events::DocumentEvent;
use crate::pipeline::model::{LazyModel, ModelError, ModelErrorCause};
use crate::pipeline::names::Names;
use crate::pipeline::panics;
use crate::pipeline::plan::{OnError, Plan, RowsOf, StepPlan};
use crate::pipeline::report::{Failure, State};
use crate::pipeline::rows::Tables;
use crate::steps::{Coverage, Library, Reason, StepContext, StepError, StepOutput};

/// What the steps made of a document; their values stand in the names.
#[derive(Debug, Default)]
pub(super) struct Walked {
    pub partial: Vec<String>,
    pub notes: Vec<String>,
    pub coverage: Option<Coverage>, // the least of the steps'
    pub usage: Usage,
    pub abstained: bool,
}

impl Walked {
    pub fn state(&self) -> State {
        match (self.partial.is_empty(), self.abstained) {
            (false, _) => State::Partial,
            (true, true) => State::Abstained,
            (true, false) => State::Ok,
        }
    }
}

/// Why a document did not come through.
#[derive(Debug)]
pub(super) enum Halt {
    Failed(Failure),
    /// A step that is to stop the run has failed.
    Stop(Failure),
    /// The run was cancelled: nothing can be said of the document.
    Interrupted,
    Model(ModelError),
}

/// What a walk needs beside the document.
pub(super) struct Walk<'a, 'm> {
    pub plan: &'a Plan,
    pub evaluator: &'a Evaluator,
    pub model: &'a LazyModel<'m>,
    pub cancel: &'a CancelToken,
    pub library: Option<&'a dyn Library>,
    pub source: Option<&'a str>, // the document's; `None` over all documents
    pub tables: &'a Tables,
    /// Calls of this step and of those after it are made anew.
    pub from: Option<&'a str>,
    /// Since when the document's time runs.
    pub started: Instant,
    pub tell: &'a (dyn Fn(DocumentEvent<'_>) + Sync),
    /// Whether the steps after one that failed are walked too, whatever the failure allows: to see what they ask.
    pub goes_on: bool,
}

impl Walk<'_, '_> {
    /// Takes a document through every step; `walked` holds what came of it also where it fails.
    pub fn run(&self, document: &Document, names: &mut Names, walked: &mut Walked) -> Result<(), Halt> {
        let mut loading = Duration::ZERO; // the model's, which is no time of this document
        // Only where it is named: it wants the model loaded, also where no step of the document would ask it.
        if self.plan.counts_tokens {
            names.set_tokens(self.model(false, &mut loading)?.count_tokens(&document.text));
        }
        for step in self.plan.steps.iter().filter(|s| !s.rounds.per.is_whole()) {
            self.one(step, document, names, walked, &mut loading)?;
        }
        Ok(())
    }

    /// Does one step, as often as it is tried, and puts its value into the names.
    pub fn one(
        &self,
        step: &StepPlan,
        document: &Document,
        names: &mut Names,
        walked: &mut Walked,
        loading: &mut Duration,
    ) -> Result<(), Halt> {
        let mut attempt = 0;
        let done = loop {
            match self.step(step, attempt, document, names, loading) {
                Err(Halt::Failed(failure)) if self.is_tried_again(step, &failure, attempt) => {
                    attempt += 1;
                    walked.notes.push(format!("{failure}; tried again"));
                }
                other => break other,
            }
        };
        let value = match done {
            Ok(None) => Value::Null,
            Ok(Some(output)) => walked.take(step, output),
            Err(Halt::Failed(failure)) if self.may_skip(step, &failure) => {
                walked.partial.push(failure.to_string());
                Value::Null
            }
            Err(Halt::Failed(failure)) if step.on_error == OnError::Stop => return Err(Halt::Stop(failure)),
            Err(halt) => return Err(halt),
        };
        (self.tell)(DocumentEvent::StepDone { step: &step.id, value: &value });
        names.set_step(&step.id, value);
        Ok(())
    }

    /// Whether what a step asks is asked anew.
    fn is_fresh(&self, step: &StepPlan) -> bool {
        let at = |id: &str| self.plan.steps.iter().position(|s| s.id == id);
        self.from.is_some_and(|from| at(from).is_some_and(|from| at(&step.id) >= Some(from)))
    }

    /// Only what asks the model can come out otherwise the next time.
    fn is_tried_again(&self, step: &StepPlan, failure: &Failure, attempt: usize) -> bool {
        let Some(retry) = self.plan.run.retry.as_ref().filter(|_| step.needs_model()) else { return false };
        let is_over = self.plan.run.document_timeout.is_some_and(|limit| self.started.elapsed() >= limit);
        attempt < retry.times && retry.on.contains(&failure.reason) && !is_over && !is_bug(failure)
    }

    /// A document whose own time is over, or that met a bug, fails whatever its steps allow.
    fn may_skip(&self, step: &StepPlan, failure: &Failure) -> bool {
        let is_over = self.plan.run.document_timeout.is_some_and(|limit| self.started.elapsed() >= limit);
        self.goes_on
            || matches!(step.on_error, OnError::Skip | OnError::Mark)
                && !(failure.reason == Reason::TimedOut && is_over)
                && !is_bug(failure)
    }

    /// Returns `None` where `when` does not hold.
    fn step(
        &self,
        step: &StepPlan,
        attempt: usize, // from 0
        document: &Document,
        names: &Names,
        loading: &mut Duration,
    ) -> Result<Option<StepOutput>, Halt> {
        let failed = |reason, detail: String| {
            Halt::Failed(Failure { step: Some(step.id.clone()), reason, detail: detail.replace('\n', " ") })
        };
        if let (RowsOf::Source(wanted), Some(source)) = (&step.rounds.rows, self.source)
            && wanted != source
        {
            return Ok(None);
        }
        if let Some(when) = &step.when {
            let holds = self.evaluator.bind(names.value()).holds(when);
            if !holds.map_err(|e| failed(Reason::TemplateFailed, format!("when: {e}")))? {
                return Ok(None);
            }
        }
        (self.tell)(DocumentEvent::StepStarted { step: &step.id });
        let generator = if step.needs_model() { Some(self.model(self.is_fresh(step), loading)?) } else { None };
        let cancel = self.deadline(*loading);
        let progress = |done, of| (self.tell)(DocumentEvent::PartDone { step: &step.id, done, of });
        let mut defaults = self.plan.model.defaults.clone();
        if let Some(retry) = self.plan.run.retry.as_ref().filter(|_| attempt > 0) {
            defaults.sampling.temperature = retry.temperature;
            defaults.sampling.seed = defaults.sampling.seed.wrapping_add(attempt as u64);
        }
        let context = StepContext {
            document,
            names: names.value(),
            generator,
            defaults: &defaults,
            cancel: &cancel,
            progress: &progress,
            library: self.library,
        };
        let rounds = rounds::Rounds::of(step, document, &self.evaluator.bind(names.value()), self.tables);
        let rounds = rounds.map_err(|e| failed(Reason::TemplateFailed, e))?;
        let run = || cancel.check().map_err(StepError::from).and_then(|()| rounds.run(step, &context));
        let step_started = Instant::now();
        match panics::caught(run) {
            Ok(Ok(output)) => Ok(Some(output)),
            Ok(Err(error)) if error.reason == Reason::Cancelled && self.is_cancelled() => Err(Halt::Interrupted),
            Ok(Err(error)) if error.reason == Reason::TimedOut => {
                Err(failed(Reason::TimedOut, self.which_limit(step_started, *loading).unwrap_or(error.detail)))
            }
            Ok(Err(error)) => Err(failed(error.reason, error.detail)),
            Err(panic) => Err(failed(Reason::EngineFailed, format!("{BUG}{panic}"))),
        }
    }

    /// Returns the model, loaded; `anew` is the one that answers without what is kept.
    fn model(&self, anew: bool, loading: &mut Duration) -> Result<&dyn Generator, Halt> {
        let start = Instant::now();
        let model = if anew { self.model.get_anew() } else { self.model.get() };
        *loading += start.elapsed();
        let model = model.map_err(|error| match error.cause {
            ModelErrorCause::Cancelled if self.is_cancelled() => Halt::Interrupted,
            _ => Halt::Model(error),
        })?;
        Ok(model as &dyn Generator)
    }

    fn is_cancelled(&self) -> bool {
        matches!(self.cancel.check(), Err(GenerateError::Cancelled))
    }

    /// Returns a token that ends with the time of the step or of the document, whichever is over first.
    fn deadline(&self, loading: Duration) -> CancelToken {
        let limits = &self.plan.run;
        let document = limits.document_timeout.map(|limit| self.started + limit + loading);
        let step = limits.step_timeout.map(|limit| Instant::now() + limit);
        [document, step].into_iter().flatten().fold(self.cancel.clone(), |token, at| token.with_deadline(at))
    }

    fn which_limit(&self, step_started: Instant, loading: Duration) -> Option<String> {
        let limits = &self.plan.run;
        let over = |limit: Option<Duration>, since: Instant| limit.filter(|l| since.elapsed() >= *l);
        if let Some(limit) = over(limits.document_timeout, self.started + loading) {
            return Some(format!("more than {}s for the document (run.timeout.document)", limit.as_secs_f64()));
        }
        let limit = over(limits.step_timeout, step_started)?;
        Some(format!("more than {}s for the step (run.timeout.step)", limit.as_secs_f64()))
    }
}

const BUG: &str = "a bug: ";

fn is_bug(failure: &Failure) -> bool {
    failure.reason == Reason::EngineFailed && failure.detail.starts_with(BUG)
}

impl Walked {
    /// Takes in what a step has to say and returns its value.
    fn take(&mut self, step: &StepPlan, output: StepOutput) -> Value {
        let say = |line: &String| format!("step {}: {}", step.id, line.replace('\n', " "));
        self.partial.extend(output.partial.iter().map(say));
        self.notes.extend(output.notes.iter().map(say));
        self.usage += output.usage;
        if let Some(coverage) = output.coverage {
            if coverage.read < coverage.total && output.partial.is_empty() {
                let (read, total, unit) = (coverage.read, coverage.total, &coverage.unit);
                self.partial.push(format!("step {}: read {read} of {total} {unit}s", step.id));
            }
            if self.coverage.as_ref().is_none_or(|least| coverage.share() < least.share()) {
                self.coverage = Some(coverage);
            }
        }
        // A step that declines to answer says so in its value.
        self.abstained |= output.value.get("abstained").and_then(Value::as_bool).unwrap_or(false);
        output.value
    }
}
