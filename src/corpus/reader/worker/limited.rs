//! Other programs as child processes with limits: the clock and the cap on the answer are the parent's, memory and
//! processor time are limited by the child itself before it becomes the program.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::Isolation;

/// What a program may take.
#[derive(Clone, Copy)]
pub(in super::super) struct Allowance {
    pub memory: u64, // bytes of address space
    pub time: Duration,
    pub output: u64, // bytes
}

/// Why a program gave no answer.
#[derive(Debug, PartialEq)]
pub(in super::super) enum Stopped {
    CannotStart(String),
    TimedOut,
    TooMuchOutput,
    Failed(String), // what it said last
}

/// Runs a program with `input` on its standard input, and returns what it wrote on its standard output. Without an
/// `isolation` nothing limits its memory.
pub(in super::super) fn run(
    isolation: Option<&Isolation>,
    program: &Path,
    args: &[String],
    input: &[u8],
    allowance: Allowance,
) -> Result<Vec<u8>, Stopped> {
    let mut command = match isolation {
        Some(isolation) => {
            let mut command = Command::new(&isolation.exe);
            let seconds = allowance.time.as_secs().saturating_add(2);
            command.arg(Isolation::LIMITED).arg(allowance.memory.to_string()).arg(seconds.to_string()).arg(program);
            command
        }
        None => Command::new(program),
    };
    let deadline = Instant::now() + allowance.time;
    let mut child = command
        .args(args)
        .env("OMP_THREAD_LIMIT", "1") // documents are read side by side already
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| Stopped::CannotStart(error.to_string()))?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let is_over = &AtomicBool::new(false);
    thread::scope(|scope| {
        // A program that has enough stops reading; how it ended says whether that was right.
        scope.spawn(move || stdin.map(|mut pipe| pipe.write_all(input)));
        let answer = scope.spawn(move || {
            let answer = take(stdout, allowance.output.saturating_add(1));
            is_over.store(answer.len() as u64 > allowance.output, Ordering::Relaxed);
            answer
        });
        let words = scope.spawn(move || take(stderr, 64 << 10));
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break Some(status),
                Ok(None) if Instant::now() < deadline && !is_over.load(Ordering::Relaxed) => {
                    thread::sleep(Duration::from_millis(2));
                }
                _ => {
                    let _ = child.kill();
                    let _ = child.wait();
                    break None;
                }
            }
        };
        let answer = answer.join().unwrap_or_default();
        let words = words.join().unwrap_or_default();
        if answer.len() as u64 > allowance.output {
            return Err(Stopped::TooMuchOutput);
        }
        match status {
            None => Err(Stopped::TimedOut),
            Some(status) if status.success() => Ok(answer),
            Some(status) if status.code() == Some(CANNOT_START) => Err(Stopped::CannotStart(last_line(&words))),
            Some(status) => Err(Stopped::Failed(format!("{} ({status})", last_line(&words)).trim().to_owned())),
        }
    })
}

fn take(pipe: Option<impl Read>, most: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        // What was read before a fault counts; the way the program ended tells the rest.
        let _ = pipe.take(most).read_to_end(&mut bytes);
    }
    bytes
}

fn last_line(words: &[u8]) -> String {
    let words = String::from_utf8_lossy(words);
    words.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default().trim().to_owned()
}

/// The exit code of a shell, too, for a program that is not there.
const CANNOT_START: i32 = 127;

/// Limits this process and becomes the program. Arguments: memory in bytes, processor time in seconds, program, its
/// arguments.
pub(super) fn exec(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let mut number = || args.next()?.to_str()?.parse::<u64>().ok();
    let (Some(memory), Some(seconds)) = (number(), number()) else { return ExitCode::FAILURE };
    let Some(program) = args.next() else { return ExitCode::FAILURE };
    become_limited(memory, seconds).and_then(|()| become_program(&program, args)).unwrap_or_else(|error| {
        let _ = writeln!(io::stderr(), "{error}");
        ExitCode::from(CANNOT_START as u8)
    })
}

#[cfg(unix)]
fn become_limited(memory: u64, seconds: u64) -> io::Result<()> {
    use rlimit::Resource;
    let limits = [
        (Resource::CORE, 0),
        (Resource::FSIZE, 0),
        (Resource::NOFILE, 64),
        (Resource::AS, memory),
        (Resource::CPU, seconds),
    ];
    for (resource, limit) in limits {
        if resource.is_supported() {
            let (_, hard) = resource.get()?;
            resource.set(limit.min(hard), limit.min(hard))?;
        }
    }
    Ok(())
}

#[cfg(not(unix))]
fn become_limited(_: u64, _: u64) -> io::Result<()> {
    Ok(())
}

/// Returns only where the program cannot be started.
#[cfg(unix)]
fn become_program(program: &OsString, args: impl Iterator<Item = OsString>) -> io::Result<ExitCode> {
    Err(std::os::unix::process::CommandExt::exec(Command::new(program).args(args)))
}

/// Stands between the program and who asked for it, where a process cannot become another.
#[cfg(not(unix))]
fn become_program(program: &OsString, args: impl Iterator<Item = OsString>) -> io::Result<ExitCode> {
    let status = Command::new(program).args(args).status()?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    const ALLOWED: Allowance = Allowance { memory: 1 << 30, time: Duration::from_secs(20), output: 1000 };

    fn sh(script: &str, input: &[u8], allowance: Allowance) -> Result<Vec<u8>, Stopped> {
        run(None, Path::new("/bin/sh"), &["-c".into(), script.into()], input, allowance)
    }

    #[test]
    fn a_program_is_given_its_input_and_its_answer_is_whole() {
        assert_eq!(sh("cat", b"words", ALLOWED).unwrap(), b"words");
        assert_eq!(sh("echo done", &[b'x'; 1 << 20], ALLOWED).unwrap(), b"done\n", "it need not read");
    }

    #[test]
    fn a_program_that_fails_hangs_or_never_ends_its_answer_is_stopped() {
        let failed = sh("echo 'first' >&2; echo 'no such page' >&2; exit 3", b"", ALLOWED).unwrap_err();
        assert!(matches!(&failed, Stopped::Failed(why) if why.starts_with("no such page")), "{failed:?}");
        let short = Allowance { time: Duration::from_millis(200), ..ALLOWED };
        assert_eq!(sh("exec sleep 60", b"", short), Err(Stopped::TimedOut));
        assert_eq!(sh("exec cat /dev/zero", b"", ALLOWED), Err(Stopped::TooMuchOutput));
        let missing = run(None, Path::new("/nonexistent/program"), &[], b"", ALLOWED).unwrap_err();
        assert!(matches!(missing, Stopped::CannotStart(_)), "{missing:?}");
    }
}
