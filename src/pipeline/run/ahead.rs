//! Documents are read before their turn: on all cores, in the order of the run, while the engine works on those before
//! them. What waits to be taken is bounded in bytes. Knows no step and no output; who takes a document that nobody has
//! begun to read reads it.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Job, look};
use crate::corpus::document::{Document, Place, Turn};
use crate::pipeline::inputs::Input;
use crate::pipeline::panics;
use crate::steps::{Reason, StepError};

/// A document, or why there is none.
pub(super) type Answer = Result<Document, StepError>;

/// What is read before it is asked for.
pub(super) struct Ahead<'a> {
    job: &'a Job<'a>,
    inputs: &'a [Input],
    queue: Vec<(usize, u64)>, // (index of the input, bytes of its file)
    bytes_max: u64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    next: usize, // in the queue
    slots: HashMap<usize, Slot>,
    bytes: u64, // of what is read and not taken, and of the files that are being read
}

enum Slot {
    Reading,
    Read { answer: Box<Answer>, bytes: u64 },
    Taken, // before anybody began to read it
}

/// A document costs so much at least, however little it says: the number that waits is bounded too.
const BYTES_MIN: u64 = 4 << 10;

/// How long nobody looks whether the run is over.
const PATIENCE: Duration = Duration::from_millis(50);

impl<'a> Ahead<'a> {
    /// `queue` holds the files to be read, in the order of the run, with their sizes. A file of more than
    /// `run.read_ahead` is left to its turn.
    pub fn new(job: &'a Job<'a>, inputs: &'a [Input], queue: impl Iterator<Item = (usize, u64)>) -> Self {
        let bytes_max = job.plan.run.read_ahead_bytes;
        let is_read = |(index, bytes): &(usize, u64)| *bytes <= bytes_max && inputs[*index].row.is_none();
        let queue = queue.map(|(index, bytes)| (index, bytes.max(BYTES_MIN))).filter(is_read).collect();
        Self { job, inputs, queue, bytes_max, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Returns how many threads find something to do.
    pub fn num_readers(&self) -> usize {
        std::thread::available_parallelism().map_or(1, usize::from).min(self.queue.len())
    }

    /// Reads one document after the other, as room is made, until there are no more or the run is over.
    pub fn work(&self, is_over: &dyn Fn() -> bool) {
        while let Some((index, bytes)) = self.claim(is_over) {
            let answer = self.read(index);
            let held = answer.as_ref().map_or(BYTES_MIN, held_bytes);
            let mut state = self.lock();
            state.bytes = state.bytes - bytes + held;
            state.slots.insert(index, Slot::Read { answer: Box::new(answer), bytes: held });
            self.changed.notify_all();
        }
    }

    /// Waits for room and returns the next document; `None` where there is nothing left to read.
    fn claim(&self, is_over: &dyn Fn() -> bool) -> Option<(usize, u64)> {
        let mut state = self.lock();
        while !is_over() {
            let (index, bytes) = *self.queue.get(state.next)?;
            if state.slots.remove(&index).is_some() {
                state.next += 1; // it was taken
            } else if state.bytes + bytes <= self.bytes_max {
                state.next += 1;
                state.bytes += bytes;
                state.slots.insert(index, Slot::Reading);
                return Some((index, bytes));
            } else {
                state = self.wait(state);
            }
        }
        None
    }

    /// Returns a document, read now if it is not there; `None` where the run is over first.
    pub fn take(&self, index: usize, is_over: &dyn Fn() -> bool) -> Option<Answer> {
        let mut state = self.lock();
        loop {
            match state.slots.remove(&index) {
                Some(Slot::Read { answer, bytes }) => {
                    state.bytes -= bytes;
                    self.changed.notify_all();
                    return Some(*answer);
                }
                Some(Slot::Reading) => {
                    state.slots.insert(index, Slot::Reading);
                    if is_over() {
                        return None;
                    }
                    state = self.wait(state);
                }
                Some(Slot::Taken) | None => {
                    state.slots.insert(index, Slot::Taken);
                    drop(state);
                    return Some(self.read(index));
                }
            }
        }
    }

    fn read(&self, index: usize) -> Answer {
        panics::caught(|| look::read(self.job.plan, self.job.env, &self.inputs[index])).unwrap_or_else(|panic| {
            Err(StepError { reason: Reason::Unreadable, detail: format!("the reader has a bug: {panic}") })
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'s>(&self, state: MutexGuard<'s, State>) -> MutexGuard<'s, State> {
        self.changed.wait_timeout(state, PATIENCE).unwrap_or_else(PoisonError::into_inner).0
    }
}

/// Returns about how much memory a document takes.
fn held_bytes(document: &Document) -> u64 {
    let places = document.places.len() * size_of::<Place>();
    let turns = document.turns.len() * size_of::<Turn>();
    ((document.text.len() + places + turns) as u64).max(BYTES_MIN)
}
