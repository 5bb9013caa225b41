//! What a command ends with, in the one place that knows the numbers.

use std::process::ExitCode;

/// Why quarry ends. The numbers are part of the command line's contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All done, or nothing to do.
    Done = 0,
    /// A bug in quarry.
    Bug = 1,
    /// The file, the parameters or the inputs are wrong; nothing was started.
    Wrong = 2,
    /// Finished, and some documents failed or are partial, within `max_failed`.
    SomeFailed = 3,
    /// Given up: too many failures.
    TooManyFailed = 4,
    /// Another run holds the lock.
    Locked = 5,
    /// A deadline was reached; the run can be resumed.
    Deadline = 6,
    /// A check or a gate failed.
    CheckFailed = 7,
    /// The model or an index is missing, damaged or not the one it should be.
    NoModel = 8,
    /// Out of disk, memory or another resource.
    OutOfResources = 9,
    /// SIGINT; the run can be resumed.
    Interrupted = 130,
    /// Whoever read the output has gone, as in `quarry … | head`: what SIGPIPE would have ended with.
    OutputClosed = 141,
    /// SIGTERM; the run can be resumed.
    Terminated = 143,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// The numbers, for help and the manual.
pub const TABLE: &str = "\
Exit codes:
  0    all done, or nothing to do
  1    a bug in quarry
  2    the file, the parameters or the inputs are wrong; nothing was started
  3    finished, some documents failed or are partial, within max_failed
  4    given up: too many failures
  5    another run holds the lock
  6    deadline reached; resumable
  7    a check or a gate failed
  8    model or index missing, damaged or mismatched
  9    out of disk, memory or another resource
  130  interrupted (SIGINT); resumable
  141  the reader of the output has gone
  143  terminated (SIGTERM); resumable";
