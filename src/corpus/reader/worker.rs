//! Parsing in child processes of the same binary: what hangs, overflows or eats memory ends one document only.
//!
//! A child is started with the hidden argument `__read`. For each document it reads one line of JSON and the file's bytes
//! on its standard input, limits itself, and answers one line of JSON on its standard output. It opens no file and is
//! given no path: what was hashed is what is parsed. The parent holds the clock and the cap on the answer. A child that
//! answered waits for the next document; one that misbehaved is killed, and another takes its place.
//! `limited` starts other programs under the same kind of limits.

mod limited;

use std::ffi::OsString;
use std::fmt;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitCode, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::budget::{Around, Budget};
use super::options::{ReadOptions, size_text};
use super::{ReadReason, Refusal, dispatch};
use crate::corpus::document::Document;

/// Where child processes come from, and those that wait for work. Clones share them; the last one ends them.
#[derive(Clone)]
pub struct Isolation {
    exe: PathBuf,
    idle: Arc<Mutex<Vec<Worker>>>,
    is_over: Option<Arc<dyn Fn() -> bool + Send + Sync>>,
}

impl Isolation {
    /// The hidden subcommand that makes the binary a worker.
    pub const ARGUMENT: &'static str = "__read";

    /// The hidden subcommand that makes the binary another program, under limits.
    const LIMITED: &'static str = "__limited";

    /// `exe` is the running binary: it must call [`child_main`] before anything else.
    pub fn new(exe: PathBuf) -> Self {
        Self { exe, idle: Arc::default(), is_over: None }
    }

    /// Returns one whose parsing is given up as soon as `is_over` says so: nothing is said of the file then.
    pub fn until(self, is_over: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self { is_over: Some(Arc::new(is_over)), ..self }
    }

    /// Returns a worker that waits under the same limit of memory, which a process can set only once.
    fn idle_worker(&self, max_memory: u64) -> Option<Worker> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let index = idle.iter().rposition(|worker| worker.max_memory == max_memory)?;
        Some(idle.swap_remove(index))
    }

    fn keep(&self, worker: Worker) {
        // Memory that a parser did not give back adds up.
        const MAX_PARSED: u32 = 200;
        if worker.num_parsed < MAX_PARSED {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(worker);
        }
    }
}

impl PartialEq for Isolation {
    fn eq(&self, other: &Self) -> bool {
        self.exe == other.exe
    }
}

impl fmt::Debug for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Isolation").field("exe", &self.exe).finish_non_exhaustive()
    }
}

#[derive(Serialize, Deserialize)]
struct Request {
    options: ReadOptions,
    name: String,
    num_bytes: usize, // of the file, which follow the line of JSON
}

type Answer = Result<Document, Refusal>;

pub(super) use limited::{Allowance, Stopped, run};

/// Has a child process parse a file's bytes.
pub(super) fn parse(isolation: &Isolation, bytes: &[u8], name: &str, options: &ReadOptions) -> Answer {
    let deadline = Instant::now() + options.timeout;
    let request = Request { options: options.clone(), name: name.to_owned(), num_bytes: bytes.len() };
    let request = serde_json::to_string(&request)
        .map_err(|error| (ReadReason::Unreadable, format!("was not parsed: {error}")))?;
    if let Some(worker) = isolation.idle_worker(options.max_memory) {
        match ask(isolation, worker, &request, bytes, options, deadline) {
            // It may have died of something else while it waited: a fresh one is asked once more.
            Err(Fault::Died(..)) => {}
            answer => return answer.unwrap_or_else(|fault| Err(fault.told(options))),
        }
    }
    let worker = Worker::start(isolation, options.max_memory).map_err(|error| {
        let detail = format!("was not parsed: cannot start `{}`: {error}", isolation.exe.display());
        (ReadReason::ReadFailed, detail)
    })?;
    ask(isolation, worker, &request, bytes, options, deadline).unwrap_or_else(|fault| Err(fault.told(options)))
}

/// What a worker does wrong.
enum Fault {
    TimedOut,
    GivenUp,
    TooMuchText,
    Died(ExitStatus, String),
}

impl Fault {
    fn told(self, options: &ReadOptions) -> Refusal {
        match self {
            Self::TimedOut => timed_out(options),
            Self::GivenUp => (ReadReason::ReadFailed, "was not parsed: who asked for it is ending".into()),
            Self::TooMuchText => too_much_text(options),
            Self::Died(status, last_words) => cause_of_death(status, &last_words, options),
        }
    }
}

fn ask(
    isolation: &Isolation,
    mut worker: Worker,
    request: &str,
    bytes: &[u8],
    options: &ReadOptions,
    deadline: Instant,
) -> Result<Answer, Fault> {
    // JSON writes a line break as two bytes and rarely anything longer; places take more room than the words they are of.
    let cap = options.max_text.saturating_mul(4).saturating_add(16 << 20);
    worker.cap.store(cap, Ordering::Relaxed);
    worker.last_words.lock().unwrap_or_else(PoisonError::into_inner).clear();
    worker.num_parsed += 1;
    let Some(mut stdin) = worker.stdin.take() else { return Err(Fault::TimedOut) };
    let (said, stdin) = std::thread::scope(|scope| {
        let writer = scope.spawn(move || {
            // A worker that dies stops reading; its death is reported below.
            let sent = stdin.write_all(request.as_bytes()).and_then(|()| stdin.write_all(b"\n"));
            let sent = sent.and_then(|()| stdin.write_all(bytes)).and_then(|()| stdin.flush());
            sent.is_ok().then_some(stdin)
        });
        let said = worker.answer(deadline, isolation);
        if !said.as_ref().is_ok_and(|line| line.ends_with(b"\n")) {
            // Ends the writer too.
            worker.status = match &said {
                Ok(line) if line.len() as u64 <= cap => worker.wait(deadline),
                _ => None,
            };
            if worker.status.is_none() {
                worker.kill();
            }
        }
        (said, writer.join().ok().flatten())
    });
    match said {
        Ok(line) if line.ends_with(b"\n") => match serde_json::from_slice(&line) {
            Ok(answer) => {
                worker.stdin = stdin;
                if worker.stdin.is_some() {
                    isolation.keep(worker);
                }
                Ok(answer)
            }
            Err(_) => {
                worker.status = worker.wait(deadline);
                Err(worker.death())
            }
        },
        Ok(line) if line.len() as u64 > cap => Err(Fault::TooMuchText),
        Ok(_) => Err(worker.death()),
        Err(_) if Instant::now() < deadline => Err(Fault::GivenUp),
        Err(_) => Err(Fault::TimedOut),
    }
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
    if signal_of(status) == Some(9) {
        // Not quarry's doing: a system short of memory kills like this, and so does a person.
        return (ReadReason::ReadFailed, "cannot be parsed: the parser was killed (signal 9)".into());
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

/// A child process that does not outlive its parent's interest.
struct Worker {
    child: Child,
    stdin: Option<ChildStdin>,
    answers: mpsc::Receiver<Vec<u8>>, // one for each line; one without a line end is the last
    last_words: Arc<Mutex<Vec<u8>>>,
    cap: Arc<AtomicU64>, // bytes of an answer
    max_memory: u64,
    num_parsed: u32,
    status: Option<ExitStatus>,
}

impl Worker {
    fn start(isolation: &Isolation, max_memory: u64) -> io::Result<Self> {
        let mut child = Command::new(&isolation.exe)
            .arg(Isolation::ARGUMENT)
            // Every heap arena of another thread would take 64 MiB of the address space that is limited.
            .env("MALLOC_ARENA_MAX", "1")
            .env("RAYON_NUM_THREADS", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (sender, answers) = mpsc::channel();
        let cap = Arc::new(AtomicU64::new(0));
        let last_words = Arc::<Mutex<Vec<u8>>>::default();
        let (cap_of_thread, words) = (Arc::clone(&cap), Arc::clone(&last_words));
        // Both threads end with the child's end of their pipe.
        std::thread::spawn(move || stdout.into_iter().for_each(|pipe| hear_answers(pipe, &cap_of_thread, &sender)));
        std::thread::spawn(move || stderr.into_iter().for_each(|pipe| hear_last_words(pipe, &words)));
        Ok(Self { child, stdin, answers, last_words, cap, max_memory, num_parsed: 0, status: None })
    }

    /// Waits for the next answer until the deadline, or until nobody wants it.
    fn answer(&self, deadline: Instant, isolation: &Isolation) -> Result<Vec<u8>, mpsc::RecvTimeoutError> {
        const PATIENCE: Duration = Duration::from_millis(50);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.answers.recv_timeout(left.min(PATIENCE)) {
                Err(mpsc::RecvTimeoutError::Timeout)
                    if left > PATIENCE && !isolation.is_over.as_ref().is_some_and(|is_over| is_over()) => {}
                answer => return answer,
            }
        }
    }

    /// Waits for a worker that has closed its output; `None` at the deadline.
    fn wait(&mut self, deadline: Instant) -> Option<ExitStatus> {
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(1)),
                _ => return None,
            }
        }
    }

    /// Says how a worker ended that gave no answer; one that has not ended was too slow.
    fn death(&mut self) -> Fault {
        let Some(status) = self.status.take() else { return Fault::TimedOut };
        // What it wrote as it died may still be on its way.
        let patience = Instant::now() + Duration::from_millis(200);
        while Arc::strong_count(&self.last_words) > 1 && Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(1));
        }
        let words = self.last_words.lock().unwrap_or_else(PoisonError::into_inner);
        Fault::Died(status, String::from_utf8_lossy(&words).into_owned())
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Sends each line of a worker's output, up to the cap that is set for it.
fn hear_answers(pipe: impl Read, cap: &AtomicU64, sender: &mpsc::Sender<Vec<u8>>) {
    let mut pipe = BufReader::new(pipe);
    loop {
        // Waits for the first byte, so that the cap is that of the request which it answers.
        if pipe.fill_buf().is_err() {
            return;
        }
        let mut line = Vec::new();
        let cap = cap.load(Ordering::Relaxed);
        let read = pipe.by_ref().take(cap.saturating_add(1)).read_until(b'\n', &mut line);
        let ended = read.is_err() || !line.ends_with(b"\n");
        if sender.send(line).is_err() || ended {
            return;
        }
    }
}

/// Keeps the first 64 KiB of what a worker writes to its standard error, and reads the rest, so that it never waits.
fn hear_last_words(mut pipe: impl Read, words: &Mutex<Vec<u8>>) {
    const MAX_KEPT: usize = 64 << 10;
    let mut block = [0; 4096];
    while let Ok(read @ 1..) = pipe.read(&mut block) {
        let mut words = words.lock().unwrap_or_else(PoisonError::into_inner);
        let room = MAX_KEPT.saturating_sub(words.len());
        words.extend_from_slice(&block[..read.min(room)]);
    }
}

/// The whole life of a child process that a reader started, known by its first argument: to be called first thing, and
/// its exit code returned from `main`. `None` in a process that a user started.
pub fn child_main(mut args: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    let first = args.next()?;
    if first == Isolation::ARGUMENT {
        return Some(worker_main());
    }
    (first == Isolation::LIMITED).then(|| limited::exec(args))
}

fn worker_main() -> ExitCode {
    // A panic is answered, not printed.
    std::panic::set_hook(Box::new(|_| {}));
    let (mut stdin, mut stdout) = (io::stdin().lock(), BufWriter::new(io::stdout().lock()));
    match serve(&mut stdin, &mut stdout, limit_self, parse_here) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn parse_here(bytes: &[u8], name: &str, options: &ReadOptions) -> Answer {
    dispatch::parse(bytes, name, &Around::new(options, &Budget::new(options)))
}

/// Answers requests until there are no more, or until a parser failed: what it left behind is not trusted.
fn serve(
    from: &mut impl BufRead,
    to: &mut impl Write,
    limit: impl Fn(&ReadOptions) -> io::Result<()>,
    parse: impl Fn(&[u8], &str, &ReadOptions) -> Answer + Sync,
) -> io::Result<()> {
    const MAX_REQUEST: u64 = 64 << 10;
    loop {
        let mut line = String::new();
        if from.by_ref().take(MAX_REQUEST).read_line(&mut line)? == 0 {
            return Ok(());
        }
        let request: Request = serde_json::from_str(&line)?;
        limit(&request.options)?;
        let mut bytes = Vec::with_capacity(request.num_bytes);
        from.by_ref().take(request.num_bytes as u64).read_to_end(&mut bytes)?;
        let parsed = if bytes.len() == request.num_bytes {
            with_stack(request.options.max_memory, || parse(&bytes, &request.name, &request.options))
        } else {
            Ok(Err((ReadReason::ReadFailed, "did not reach the parser whole".into())))
        };
        drop(bytes);
        let is_sound = parsed.is_ok();
        let answer = parsed.unwrap_or_else(Err);
        serde_json::to_writer(&mut *to, &answer)?;
        to.write_all(b"\n")?;
        to.flush()?;
        if !is_sound {
            return Ok(());
        }
    }
}

/// Parses on a thread with a big stack: PDF objects nest, and the parsers recurse. `Err` where the parser failed.
fn with_stack(max_memory: u64, parse: impl FnOnce() -> Answer + Send) -> Result<Answer, Refusal> {
    const STACK_BYTES: u64 = 64 << 20;
    let stack = STACK_BYTES.min(max_memory / 4) as usize;
    std::thread::scope(|scope| {
        let parser = std::thread::Builder::new().stack_size(stack).spawn_scoped(scope, parse);
        match parser.map(|thread| thread.join()) {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err((ReadReason::Unreadable, "cannot be parsed: the parser failed".into())),
            Err(error) => Err((ReadReason::TooLarge, format!("cannot be parsed: no memory for a stack: {error}"))),
        }
    })
}

/// Limits this process: memory, processor time for the next document, open files, no core dump, and no byte to any file.
#[cfg(unix)]
fn limit_self(options: &ReadOptions) -> io::Result<()> {
    use rlimit::Resource;
    use rustix::time::{ClockId, clock_gettime};
    let limits =
        [(Resource::CORE, 0), (Resource::FSIZE, 0), (Resource::NOFILE, 16), (Resource::AS, options.max_memory)];
    for (resource, limit) in limits {
        if resource.is_supported() {
            let (_, hard) = resource.get()?;
            let limit = limit.min(hard);
            resource.set(limit, limit)?;
        }
    }
    // A second more than the parent's clock allows: it ends a worker whose parent was killed.
    let used = u64::try_from(clock_gettime(ClockId::ProcessCPUTime).tv_sec).unwrap_or(0);
    if Resource::CPU.is_supported() {
        let (_, hard) = Resource::CPU.get()?;
        Resource::CPU.set(options.timeout.as_secs().saturating_add(used).saturating_add(2).min(hard), hard)?;
    }
    Ok(())
}

#[cfg(not(unix))]
fn limit_self(_: &ReadOptions) -> io::Result<()> {
    Ok(()) // the parent's clock and cap still hold
}

#[cfg(test)]
mod tests;
