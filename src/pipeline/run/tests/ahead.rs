//! Documents are read before their turn, within a bound, and a run that ends does not wait for what is being read.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{DocumentReader, Does, PLAIN, PlainReader, Stage, states, step};
use crate::corpus::document::Document;
use crate::pipeline::report::{Outcome, State};
use crate::steps::{Reason, StepError, StepOutput};

/// Counts what has been read, and wakes who waits for a number.
#[derive(Default)]
struct Counting {
    num_read: Mutex<usize>,
    more: Condvar,
}

impl Counting {
    /// Returns whether so many were read within a time that no slow machine exceeds.
    fn reaches(&self, number: usize, within: Duration) -> bool {
        let num_read = self.num_read.lock().unwrap();
        let (_guard, waited) = self.more.wait_timeout_while(num_read, within, |n| *n < number).unwrap();
        !waited.timed_out()
    }
}

impl DocumentReader for Counting {
    fn read(&self, path: &Path, options: &Value) -> Result<Document, StepError> {
        let document = PlainReader.read(path, options);
        *self.num_read.lock().unwrap() += 1;
        self.more.notify_all();
        document
    }
}

static READER: std::sync::LazyLock<Counting> = std::sync::LazyLock::new(Counting::default);

#[test]
fn documents_are_read_while_the_first_is_worked_on() {
    let mut stage = Stage::new(6);
    stage.plan.run.in_flight = 1;
    let echo = stage.plan.steps.remove(0);
    // The first document's first step waits until all six have been read: nobody else could have read them.
    let all_read = Box::new(|_: &crate::steps::StepContext<'_>| {
        assert!(READER.reaches(6, Duration::from_secs(60)), "the others were not read");
        Ok(StepOutput::default())
    });
    stage.plan.steps = vec![step("wait", &PLAIN, Does(all_read)), echo];
    let report = stage.run_with(|env| env.reader = &*READER).unwrap();
    assert_eq!(states(&report), [State::Ok; 6]);
    assert_eq!(*READER.num_read.lock().unwrap(), 6, "each was read once");
    let ahead = stage.outputs();
    stage.plan.run.read_ahead_bytes = 0;
    let in_turn = stage.run_with(|env| (env.options.force, env.reader) = (true, &*READER)).unwrap();
    assert_eq!(states(&in_turn), [State::Ok; 6]);
    assert_eq!((stage.outputs(), *READER.num_read.lock().unwrap()), (ahead, 12), "what comes out is the same");
}

#[test]
fn what_is_read_ahead_is_bounded() {
    static BOUNDED: std::sync::LazyLock<Counting> = std::sync::LazyLock::new(Counting::default);
    let mut stage = Stage::new(8);
    stage.plan.run.in_flight = 1;
    stage.plan.run.read_ahead_bytes = 3 * 4096; // three small documents
    let few = Box::new(|cx: &crate::steps::StepContext<'_>| {
        if cx.document.path.ends_with("00.txt") {
            assert!(BOUNDED.reaches(3, Duration::from_secs(60)));
            assert!(!BOUNDED.reaches(5, Duration::from_millis(200)), "more than the bound was read");
        }
        Ok(StepOutput::default())
    });
    stage.plan.steps = vec![step("echo", &PLAIN, Does(few))];
    stage.plan.outputs.clear();
    assert_eq!(states(&stage.run_with(|env| env.reader = &*BOUNDED).unwrap()), [State::Ok; 8]);
}

/// Hangs on one file until it is told to give up, as a worker that parses a hostile file does.
#[derive(Default)]
struct Hanging {
    gave_up: AtomicBool,
    begun: AtomicUsize,
}

struct Until<'a>(&'a Hanging, crate::inference::engine::CancelToken);

impl DocumentReader for Until<'_> {
    fn read(&self, path: &Path, options: &Value) -> Result<Document, StepError> {
        if path.ends_with("01.txt") {
            self.0.begun.fetch_add(1, Ordering::Relaxed);
            let started = Instant::now();
            while self.1.check().is_ok() && started.elapsed() < Duration::from_secs(60) {
                std::thread::sleep(Duration::from_millis(2));
            }
            self.0.gave_up.store(self.1.check().is_err(), Ordering::Relaxed);
            return Err(StepError { reason: Reason::ReadFailed, detail: "was not parsed: the run ended".into() });
        }
        PlainReader.read(path, options)
    }
}

#[test]
fn a_deadline_ends_what_is_being_read_ahead() {
    let mut stage = Stage::new(3);
    stage.plan.run.deadline = Some(crate::pipeline::plan::Deadline::After(Duration::from_millis(300)));
    stage.plan.run.in_flight = 1;
    let cancel = crate::inference::engine::CancelToken::default();
    let hanging = Hanging::default();
    let reader = Until(&hanging, cancel.clone());
    let started = Instant::now();
    let evaluator = crate::pipeline::evaluate::Evaluator::default();
    let now: jiff::Zoned = "2026-01-31T10:00:00+00:00[UTC]".parse().unwrap();
    let cache = stage.path("cache");
    let mut env = super::RunEnvironment::new(&stage.models, &reader, &evaluator, cache, now);
    env.cancel = cancel;
    let report = super::run(&stage.plan, &env).unwrap();
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    assert_eq!((report.outcome, hanging.gave_up.load(Ordering::Relaxed)), (Outcome::DeadlineReached, true));
    assert_eq!(hanging.begun.load(Ordering::Relaxed), 1);
    assert_eq!(report.documents[0].state, State::Ok);
    assert_eq!(report.documents[1].failure, None, "it was not reached: nothing is known of it");
    stage.plan.run.deadline = None;
    assert_eq!(stage.run().documents[1].state, State::Ok, "the next run does it");
}
