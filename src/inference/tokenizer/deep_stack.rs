//! Runs recursive code of others where neither a deep nor an endless input can end the process or hold it up.
//! Knows nothing of what it runs.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// Enough for the deepest input that the limits of this floor let through, tried for templates (60,000 bytes of
/// `.a.a.a…`) and for schemas (a chain of 2,000 references). The pages are only touched when they are needed.
const STACK_BYTES: usize = 256 << 20;
const SLICE: Duration = Duration::from_millis(20);

/// Why the work has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::inference) enum DeepStackFault {
    #[error("it did not end within {0:?}")]
    TimedOut(Duration),
    #[error("it panicked: {0}")]
    Panicked(String),
    #[error("no thread could be started: {0}")]
    NoThread(String),
}

/// Runs `work` on a thread of its own with a deep stack, and waits for it no longer than `time_max`.
///
/// Work that takes longer is left behind: a thread cannot be ended from outside, so it goes on until it is done or the
/// process ends. Time in which the process was stopped does not count.
pub(in crate::inference) fn on_deep_stack<T: Send + 'static>(
    time_max: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, DeepStackFault> {
    let (sender, receiver) = mpsc::channel();
    let worker = thread::Builder::new()
        .name("deep-stack".into())
        .stack_size(STACK_BYTES)
        // The receiver is gone only when nobody waits any longer.
        .spawn(move || drop(sender.send(work())))
        .map_err(|e| DeepStackFault::NoThread(e.to_string()))?;
    // Slices, not one long wait: a stopped process (SIGSTOP) then loses one slice, not its whole time.
    for _ in 0..time_max.as_millis().div_ceil(SLICE.as_millis()) {
        match receiver.recv_timeout(SLICE) {
            Ok(result) => return Ok(result),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(DeepStackFault::Panicked(panic_text(worker.join()))),
        }
    }
    Err(DeepStackFault::TimedOut(time_max))
}

fn panic_text(joined: thread::Result<()>) -> String {
    let Err(panic) = joined else { return "nothing was sent".into() };
    let text = panic.downcast_ref::<&str>().map(|text| text.to_string());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "it gave no reason".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_back_and_endless_work_is_left_behind() {
        assert_eq!(on_deep_stack(Duration::from_secs(5), || 7), Ok(7));
        let short = Duration::from_millis(60);
        assert_eq!(
            on_deep_stack(short, || thread::sleep(Duration::from_secs(3))),
            Err(DeepStackFault::TimedOut(short))
        );
    }
}
