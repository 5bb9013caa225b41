//! Parsing in a child process of the same binary: what hangs, overflows or eats memory ends one document only.
//!
//! The child is started with the hidden argument `__read`. It reads one line of JSON and the file's bytes on its
//! standard input, limits itself, and answers one JSON value on its standard output. It opens no file and is given no
//! path: what was hashed is what is parsed. The parent holds the clock and the cap on the answer.

use std::io::{self, BufRead, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::options::{ReadOptions, size_text};
use super::{ReadReason, Refusal, pdf};
use crate::corpus::document::Document;

/// Where the child process comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Isolation {
    /// The running binary: it must call [`worker_main`] when its first argument is [`Isolation::ARGUMENT`].
    pub exe: PathBuf,
}

impl Isolation {
    /// The hidden subcommand that makes the binary a worker.
    pub const ARGUMENT: &'static str = "__read";
}

#[derive(Serialize, Deserialize)]
struct Request {
    options: ReadOptions,
    num_bytes: usize, // of the file, which follow the line of JSON
}

type Answer = Result<Document, Refusal>;

/// Has a child process parse a file's bytes.
pub(super) fn parse(isolation: &Isolation, bytes: &[u8], options: &ReadOptions) -> Answer {
    let failed = |what: &str, error: io::Error| {
        let detail = format!("was not parsed: {what} `{}`: {error}", isolation.exe.display());
        (ReadReason::Unreadable, detail)
    };
    let request = serde_json::to_string(&Request { options: options.clone(), num_bytes: bytes.len() })
        .map_err(|error| (ReadReason::Unreadable, format!("was not parsed: {error}")))?;
    let deadline = Instant::now() + options.timeout;
    let mut worker = Worker::start(isolation).map_err(|e| failed("cannot start", e))?;
    let (Some(mut stdin), Some(stdout), Some(stderr)) =
        (worker.0.stdin.take(), worker.0.stdout.take(), worker.0.stderr.take())
    else {
        return Err((ReadReason::Unreadable, "was not parsed: the worker has no pipes".into()));
    };
    // JSON writes a line break as two bytes and rarely anything longer.
    let cap = options.max_text.saturating_mul(2).saturating_add(16 << 20);
    std::thread::scope(|scope| {
        let (sender, answer) = mpsc::channel();
        scope.spawn(move || {
            // A worker that dies stops reading; its death is reported below.
            let _ = stdin.write_all(request.as_bytes()).and_then(|()| stdin.write_all(b"\n"));
            let _ = stdin.write_all(bytes);
        });
        scope.spawn(move || {
            let mut said = Vec::new();
            let _ = stdout.take(cap + 1).read_to_end(&mut said);
            let _ = sender.send(said);
        });
        let last_words = scope.spawn(move || last_words(stderr));

        let said = answer.recv_timeout(deadline.saturating_duration_since(Instant::now()));
        let over = said.as_ref().is_ok_and(|s| s.len() as u64 > cap);
        let status = if over || said.is_err() { None } else { worker.wait(deadline) };
        worker.kill();
        let last_words = last_words.join().unwrap_or_default();
        match (said, status) {
            _ if over => Err(too_much_text(options)),
            (Ok(said), Some(status)) => {
                serde_json::from_slice(&said).unwrap_or_else(|_| Err(cause_of_death(status, &last_words, options)))
            }
            _ => Err(timed_out(options)),
        }
    })
}

fn too_much_text(options: &ReadOptions) -> Refusal {
    (ReadReason::TooLarge, format!("gives more text than the {} of `max_text`", size_text(options.max_text)))
}

fn timed_out(options: &ReadOptions) -> Refusal {
    (ReadReason::TimedOut, format!("was not parsed within the {} of `timeout`", seconds_text(options.timeout)))
}

fn seconds_text(time: Duration) -> String {
    if time.subsec_millis() == 0 { format!("{} s", time.as_secs()) } else { format!("{:.1} s", time.as_secs_f64()) }
}

/// Says why a worker ended without an answer, from how it ended and from what the runtime wrote as it died.
fn cause_of_death(status: ExitStatus, last_words: &str, options: &ReadOptions) -> Refusal {
    if last_words.contains("memory allocation of") || last_words.contains("out of memory") {
        let limit = size_text(options.max_memory);
        return (ReadReason::TooLarge, format!("needs more memory than the {limit} of `max_memory`"));
    }
    if signal_of(status) == Some(24) {
        return timed_out(options); // SIGXCPU
    }
    let how = if last_words.contains("overflowed its stack") {
        "the parser ran out of stack".to_owned()
    } else if let Some(signal) = signal_of(status) {
        format!("the parser died of signal {signal}")
    } else {
        format!("the parser ended with exit code {} and no answer", status.code().unwrap_or(-1))
    };
    (ReadReason::Unreadable, format!("cannot be parsed: {how}"))
}

#[cfg(unix)]
fn signal_of(status: ExitStatus) -> Option<i32> {
    std::os::unix::process::ExitStatusExt::signal(&status)
}

#[cfg(not(unix))]
fn signal_of(_: ExitStatus) -> Option<i32> {
    None
}

/// Returns the first 64 KiB of what a worker writes to its standard error, and reads the rest, so that it never waits.
fn last_words(mut stderr: impl Read) -> String {
    let mut head = Vec::new();
    let _ = stderr.by_ref().take(64 << 10).read_to_end(&mut head);
    let _ = io::copy(&mut stderr, &mut io::sink());
    String::from_utf8_lossy(&head).into_owned()
}

/// A child process that does not outlive its parent's interest.
struct Worker(Child);

impl Worker {
    fn start(isolation: &Isolation) -> io::Result<Self> {
        Command::new(&isolation.exe)
            .arg(Isolation::ARGUMENT)
            // Every heap arena of another thread would take 64 MiB of the address space that is limited.
            .env("MALLOC_ARENA_MAX", "1")
            .env("RAYON_NUM_THREADS", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map(Self)
    }

    /// Waits for a worker that has closed its output; `None` at the deadline.
    fn wait(&mut self, deadline: Instant) -> Option<ExitStatus> {
        loop {
            match self.0.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(1)),
                _ => return None,
            }
        }
    }

    fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The whole life of a worker: to be called first thing by a binary whose first argument is [`Isolation::ARGUMENT`],
/// its exit code returned from `main`.
pub fn worker_main() -> ExitCode {
    // A panic is answered, not printed.
    std::panic::set_hook(Box::new(|_| {}));
    let (mut stdin, mut stdout) = (io::stdin().lock(), io::stdout().lock());
    match serve(&mut stdin, &mut stdout, limit_self) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Answers one request.
fn serve(
    from: &mut impl BufRead,
    to: &mut impl Write,
    limit: impl Fn(&ReadOptions) -> io::Result<()>,
) -> io::Result<()> {
    const MAX_REQUEST: u64 = 64 << 10;
    let mut line = String::new();
    from.take(MAX_REQUEST).read_line(&mut line)?;
    let request: Request = serde_json::from_str(&line)?;
    limit(&request.options)?;
    let mut bytes = Vec::with_capacity(request.num_bytes);
    from.take(request.num_bytes as u64).read_to_end(&mut bytes)?;
    let answer = if bytes.len() == request.num_bytes {
        parse_with_stack(&bytes, &request.options)
    } else {
        Err((ReadReason::Unreadable, "did not reach the parser whole".into()))
    };
    serde_json::to_writer(&mut *to, &answer)?;
    to.flush()
}

/// Parses on a thread with a big stack: PDF objects nest, and the parsers recurse.
fn parse_with_stack(bytes: &[u8], options: &ReadOptions) -> Answer {
    const STACK_BYTES: u64 = 64 << 20;
    let stack = STACK_BYTES.min(options.max_memory / 4) as usize;
    std::thread::scope(|scope| {
        let parser = std::thread::Builder::new().stack_size(stack).spawn_scoped(scope, || pdf::parse(bytes, options));
        match parser.map(|thread| thread.join()) {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err((ReadReason::Unreadable, "cannot be parsed: the parser failed".into())),
            Err(error) => Err((ReadReason::TooLarge, format!("cannot be parsed: no memory for a stack: {error}"))),
        }
    })
}

/// Limits this process: memory, processor time, open files, and no core dump.
#[cfg(unix)]
fn limit_self(options: &ReadOptions) -> io::Result<()> {
    use rlimit::Resource;
    // A second more than the parent's clock allows: it ends a worker whose parent was killed.
    let cpu_seconds = options.timeout.as_secs() + 1;
    for (resource, limit) in
        [(Resource::CORE, 0), (Resource::CPU, cpu_seconds), (Resource::NOFILE, 16), (Resource::AS, options.max_memory)]
    {
        if resource.is_supported() {
            let (_, hard) = resource.get()?;
            let limit = limit.min(hard);
            resource.set(limit, limit)?;
        }
    }
    Ok(())
}

#[cfg(not(unix))]
fn limit_self(_: &ReadOptions) -> io::Result<()> {
    Ok(()) // the parent's clock and cap still hold
}

#[cfg(test)]
mod tests;
