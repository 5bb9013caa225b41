//! Starts the program and holds what it said.

use std::fmt;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// No command of this suite takes longer, even on a slow machine that does other things too.
const PATIENCE: Duration = Duration::from_secs(420);

/// The root of the project.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The program without anything of the caller's environment that changes what it does. It keeps models and answers in
/// `cache`.
pub fn quarry(cache: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quarry"));
    for name in ["QUARRY_ISA", "HF_HUB_OFFLINE", "HF_HOME", "CLICOLOR_FORCE", "FORCE_COLOR"] {
        command.env_remove(name);
    }
    command.env("QUARRY_CACHE_DIR", cache).env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

/// What a command ended with and what it said.
pub struct Ran {
    pub line: String,
    pub code: Option<i32>, // `None`: ended by a signal
    pub signal: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = |text: &str| text.chars().rev().take(4000).collect::<Vec<_>>().into_iter().rev().collect::<String>();
        writeln!(f, "{}", self.line)?;
        writeln!(f, "exit {:?}, signal {:?}, {:.1} s", self.code, self.signal, self.took.as_secs_f64())?;
        write!(f, "stdout:\n{}\nstderr:\n{}", end(&self.stdout), end(&self.stderr))
    }
}

impl Ran {
    /// Fails unless the command ended with `code`, and never lets a panic pass.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self}");
        assert!(!self.stderr.contains("panicked") && !self.stderr.contains("a bug in quarry"), "{self}");
        self
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self}"))
    }

    /// The lines on standard error that are errors.
    pub fn errors(&self) -> Vec<&str> {
        self.stderr.lines().filter(|l| l.starts_with("error")).collect()
    }
}

/// Runs a command to its end.
#[track_caller]
pub fn run(command: &mut Command) -> Ran {
    start(command).finish()
}

/// Starts a command.
pub fn start(command: &mut Command) -> Running {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
    Running { line: format!("{command:?}"), child, started: Instant::now() }
}

/// A command that has been started.
pub struct Running {
    line: String,
    child: Child,
    started: Instant,
}

impl Running {
    pub fn signal(&self, signal: i32) {
        // The child has not been waited for, so its number is still its own.
        let status = Command::new("kill").arg(format!("-{signal}")).arg(self.child.id().to_string()).status();
        assert!(status.expect("kill runs").success(), "{}", self.line);
    }

    /// Where its standard input is a pipe; closed when what is returned goes.
    pub fn stdin(&mut self) -> std::process::ChildStdin {
        self.child.stdin.take().expect("standard input is a pipe")
    }

    /// Open descriptors; 0 where the command has ended, or the system has no /proc.
    pub fn num_descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).map_or(0, Iterator::count)
    }

    /// Waits until the command ends, and returns the most memory it was seen to hold, in bytes; 0 without /proc.
    pub fn peak_memory_while_running(&mut self) -> u64 {
        let mut peak = 0;
        while self.is_running() {
            let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
            let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
            let kilobytes = line.and_then(|l| l.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
            peak = peak.max(kilobytes.unwrap_or(0) << 10);
            thread::sleep(Duration::from_millis(5));
        }
        peak
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child can be waited for").is_none()
    }

    #[track_caller]
    pub fn finish(mut self) -> Ran {
        let stdout = drain(self.child.stdout.take());
        let stderr = drain(self.child.stderr.take());
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                break status;
            }
            if self.started.elapsed() > PATIENCE {
                self.child.kill().expect("a child can be killed");
                panic!("{} did not end in {PATIENCE:?}", self.line);
            }
            thread::sleep(Duration::from_millis(3));
        };
        let took = self.started.elapsed();
        let text = |reader: thread::JoinHandle<Vec<u8>>| {
            String::from_utf8(reader.join().expect("a reader ends")).expect("quarry writes UTF-8")
        };
        let (code, signal) = (status.code(), status.signal());
        Ran { line: self.line, code, signal, stdout: text(stdout), stderr: text(stderr), took }
    }
}

fn drain(stream: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream {
            stream.read_to_end(&mut bytes).expect("a pipe can be read");
        }
        bytes
    })
}

/// Every file below `folder` but for what is quarry's own state, by its path from there.
pub fn files_below(folder: &Path) -> std::collections::BTreeMap<String, Vec<u8>> {
    let mut files = std::collections::BTreeMap::new();
    collect(folder, folder, &mut files);
    files
}

fn collect(root: &Path, folder: &Path, files: &mut std::collections::BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("an entry").path();
        if path.ends_with(".quarry") {
            continue;
        }
        if path.is_dir() {
            collect(root, &path, files);
        } else {
            let name = path.strip_prefix(root).expect("below the root").display().to_string();
            files.insert(name, std::fs::read(&path).expect("a file can be read"));
        }
    }
}

/// Says that a test was not made, and why: past the harness, which keeps what `eprintln!` of a passing test says.
pub fn skipped(what: &str) {
    writeln!(std::io::stderr(), "SKIPPED: {what}").expect("standard error can be written");
}
