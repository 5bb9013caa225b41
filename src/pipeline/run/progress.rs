//! How far a run is, reckoned in bytes of documents: a long one counts as its parts are done.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// What is left of a run.
pub(super) struct Progress {
    inner: Mutex<Inner>,
}

struct Inner {
    began: Option<Instant>,
    to_do: usize,
    done: usize,
    bytes: f64,
    bytes_done: f64,
    in_flight: HashMap<usize, f64>, // input -> bytes done of it
}

impl Progress {
    pub fn new(to_do: usize, bytes: u64) -> Self {
        let (bytes, bytes_done, in_flight) = (bytes.max(1) as f64, 0.0, HashMap::new());
        Self { inner: Mutex::new(Inner { began: None, to_do, done: 0, bytes, bytes_done, in_flight }) }
    }

    pub fn begin(&self) {
        self.inner.lock().unwrap_or_else(|e| e.into_inner()).began.get_or_insert_with(Instant::now);
    }

    /// Notes that `share` (0..=1) of a document is done.
    pub fn part(&self, input: usize, bytes: u64, share: f64) {
        let mut inner = self.inner.lock().unwrap_or_else(|e| e.into_inner());
        inner.in_flight.insert(input, bytes as f64 * share);
    }

    pub fn finish(&self, input: usize, bytes: u64) {
        let mut inner = self.inner.lock().unwrap_or_else(|e| e.into_inner());
        inner.in_flight.remove(&input);
        inner.bytes_done += bytes as f64;
        inner.done += 1;
    }

    /// Returns documents done, documents to do, and the time left as the time so far foretells it; `idle` seconds of
    /// that went into loading the model, which does not come again.
    pub fn now(&self, idle: f64) -> (usize, usize, Option<Duration>) {
        let inner = self.inner.lock().unwrap_or_else(|e| e.into_inner());
        let done = inner.bytes_done + inner.in_flight.values().sum::<f64>();
        let spent = inner.began.map(|b| (b.elapsed().as_secs_f64() - idle).max(0.0));
        let left = spent.filter(|_| done > 0.0).map(|s| s * ((inner.bytes - done).max(0.0) / done));
        (inner.done, inner.to_do, left.and_then(|s| Duration::try_from_secs_f64(s).ok()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_left_follows_the_bytes_done() {
        let progress = Progress::new(2, 300);
        assert_eq!(progress.now(0.0), (0, 2, None));
        progress.begin();
        assert_eq!(progress.now(0.0).2, None);
        progress.part(0, 200, 0.5);
        std::thread::sleep(Duration::from_millis(20));
        let (done, to_do, left) = progress.now(0.0);
        assert_eq!((done, to_do), (0, 2));
        assert!(left.is_some_and(|l| l >= Duration::from_millis(40)), "{left:?}");
        progress.finish(0, 200);
        progress.finish(1, 100);
        assert_eq!(progress.now(0.0), (2, 2, Some(Duration::ZERO)));
    }
}
