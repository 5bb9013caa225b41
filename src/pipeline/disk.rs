//! Bytes onto the disk so that a kill at any moment leaves the old file or the new one, never a half.
//! Every write of a run goes through a [`Disk`], which a test can make fail, or die, at any one of them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// One thing that changes what is on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    CreateFolder,
    Write,
    Append,
    Truncate,
    Sync,
    Rename,
    SyncFolder,
    Remove,
}

/// What a [`Gate`] makes of an operation that is not to succeed.
#[derive(Debug)]
pub struct Fault {
    pub error: io::Error,
    /// Half of the bytes of a write or an append still reach the disk.
    pub half_written: bool,
}

/// Asked before every operation.
pub type Gate = dyn Fn(Operation, &Path) -> Result<(), Fault> + Send + Sync;

/// The only hand that writes files during a run.
#[derive(Clone, Default)]
pub struct Disk {
    gate: Option<Arc<Gate>>,
    parts: Arc<AtomicU64>,
}

impl Disk {
    /// Returns a disk whose operations must pass `gate` first: for tests.
    pub fn gated(gate: Arc<Gate>) -> Self {
        Self { gate: Some(gate), parts: Arc::default() }
    }

    pub fn create_folder(&self, folder: &Path) -> io::Result<()> {
        if folder.is_dir() {
            return Ok(());
        }
        self.pass(Operation::CreateFolder, folder)?;
        fs::create_dir_all(folder)
    }

    /// Replaces `target` by a file holding `bytes`: written in full under another name in `parts`, synced, renamed,
    /// and the folder synced. `parts` must be on the same file system. A link at `target` is replaced, not followed.
    pub fn replace(&self, parts: &Path, target: &Path, bytes: &[u8]) -> io::Result<()> {
        self.replace_by(parts, target, &mut |file| file.write_all(bytes))
    }

    /// The same for a file too large to be held: `fill` writes its bytes in order.
    pub fn replace_by(&self, parts: &Path, target: &Path, fill: &mut Fill<'_>) -> io::Result<()> {
        let part = parts.join(format!("part-{}", self.parts.fetch_add(1, Ordering::Relaxed)));
        let written = self.write_part(&part, fill).and_then(|()| {
            self.pass(Operation::Rename, target)?;
            fs::rename(&part, target)
        });
        if let Err(error) = written {
            let _ = self.remove(&part); // what is left is removed by the next run
            return Err(error);
        }
        self.sync_folder(target.parent().unwrap_or(Path::new(".")))
    }

    fn write_part(&self, part: &Path, fill: &mut Fill<'_>) -> io::Result<()> {
        let gated = Gated { disk: self, file: File::create(part)?, path: part };
        let mut buffered = BufWriter::with_capacity(BUFFER_BYTES, gated);
        fill(&mut buffered)?;
        let gated = buffered.into_inner().map_err(io::IntoInnerError::into_error)?;
        self.pass(Operation::Sync, part)?;
        gated.file.sync_all()
    }

    fn write(&self, operation: Operation, path: &Path, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        if let Some(fault) = self.gate.as_ref().and_then(|gate| gate(operation, path).err()) {
            if fault.half_written {
                file.write_all(&bytes[..bytes.len() / 2])?;
            }
            return Err(fault.error);
        }
        file.write_all(bytes)
    }

    pub fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.pass(Operation::SyncFolder, folder)?;
        // A folder can be opened and synced only on Unix; elsewhere the rename itself has to do.
        if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
    }

    /// Removes a file; one that is not there is no error.
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        self.pass(Operation::Remove, path)?;
        match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Opens a file for lines added at its end, readable by its owner only.
    pub fn append_to(&self, path: &Path) -> io::Result<Appender> {
        let mut options = OpenOptions::new();
        options.create(true).append(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(path)?;
        let len = file.metadata()?.len();
        Ok(Appender { disk: self.clone(), file, path: path.to_path_buf(), len, fault: None })
    }

    fn pass(&self, operation: Operation, path: &Path) -> io::Result<()> {
        match &self.gate {
            Some(gate) => gate(operation, path).map_err(|fault| fault.error),
            None => Ok(()),
        }
    }
}

/// What writes the bytes of a file, in order.
pub type Fill<'a> = dyn FnMut(&mut dyn Write) -> io::Result<()> + 'a;

const BUFFER_BYTES: usize = 1 << 20;

/// A new file whose every write must pass the gate.
struct Gated<'d> {
    disk: &'d Disk,
    file: File,
    path: &'d Path,
}

impl Write for Gated<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.disk.write(Operation::Write, self.path, &mut self.file, bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file that only grows.
pub struct Appender {
    disk: Disk,
    file: File,
    path: PathBuf,
    len: u64,                 // bytes of whole lines
    fault: Option<io::Error>, // of the line that could not be added
}

impl Appender {
    /// Adds a line, or several with line ends between them, and returns when they are on the disk. After an error nothing more is added: what is left of the line
    /// is taken back, and a later line must not be glued to it where that fails too.
    pub fn append(&mut self, line: &str) -> io::Result<()> {
        if let Some(fault) = &self.fault {
            return Err(again(fault)); // whoever comes next may be the one who tells it
        }
        let bytes = format!("{line}\n").into_bytes(); // one write: a kill tears at most one line
        let added = self.add(&bytes);
        match &added {
            Ok(()) => self.len += bytes.len() as u64,
            Err(error) => {
                self.fault = Some(again(error));
                let _ = self.take_back(); // where it cannot be, opening the file drops the torn line
            }
        }
        added
    }

    fn add(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.disk.write(Operation::Append, &self.path, &mut self.file, bytes)?;
        self.disk.pass(Operation::Sync, &self.path)?;
        self.file.sync_data()
    }

    fn take_back(&self) -> io::Result<()> {
        self.disk.pass(Operation::Truncate, &self.path)?;
        self.file.set_len(self.len)?;
        self.file.sync_data()
    }
}

/// Returns the same error once more.
fn again(error: &io::Error) -> io::Error {
    let other = || io::Error::new(error.kind(), error.to_string());
    error.raw_os_error().map_or_else(other, io::Error::from_raw_os_error)
}

/// Whether an error says that the machine, not one document, is at its end: going on would only repeat it.
pub fn is_exhausted(error: &io::Error) -> bool {
    use io::ErrorKind::{OutOfMemory, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    // ENFILE and EMFILE have no stable kind.
    matches!(error.kind(), StorageFull | QuotaExceeded | ReadOnlyFilesystem | OutOfMemory)
        || (cfg!(unix) && matches!(error.raw_os_error(), Some(libc::ENFILE | libc::EMFILE | libc::EIO)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn a_write_that_dies_half_way_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("page.md");
        Disk::default().replace(folder.path(), &target, b"old").unwrap();
        for step in 0..3 {
            let count = AtomicUsize::new(0);
            let gate = move |_: Operation, _: &Path| {
                let n = count.fetch_add(1, Ordering::Relaxed);
                let dead = || Fault { error: io::Error::other("dead"), half_written: n == step };
                if n >= step { Err(dead()) } else { Ok(()) }
            };
            let disk = Disk::gated(Arc::new(gate));
            assert!(disk.replace(folder.path(), &target, b"something new").is_err(), "step {step}");
            assert_eq!(fs::read(&target).unwrap(), b"old", "step {step}");
        }
    }

    #[test]
    fn after_a_line_that_could_not_be_written_nothing_is_glued_to_its_half() {
        for can_truncate in [true, false] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("journal");
            let count = AtomicUsize::new(0);
            let gate = move |operation: Operation, _: &Path| {
                let error = || io::Error::from(io::ErrorKind::StorageFull);
                let fault = || Err(Fault { error: error(), half_written: true });
                match operation {
                    Operation::Append if count.fetch_add(1, Ordering::Relaxed) == 1 => fault(),
                    Operation::Truncate if !can_truncate => fault(),
                    _ => Ok(()),
                }
            };
            let mut file = Disk::gated(Arc::new(gate)).append_to(&path).unwrap();
            file.append("first").unwrap();
            let kinds = [file.append("second").unwrap_err().kind(), file.append("third").unwrap_err().kind()];
            assert_eq!(kinds, [io::ErrorKind::StorageFull; 2]);
            let left = if can_truncate { "first\n" } else { "first\nsec" };
            assert_eq!(fs::read_to_string(&path).unwrap(), left);
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_link_at_the_target_is_replaced_and_not_written_through() {
        let folder = tempfile::tempdir().unwrap();
        let (outside, target) = (folder.path().join("outside"), folder.path().join("page.md"));
        fs::write(&outside, "precious").unwrap();
        std::os::unix::fs::symlink(&outside, &target).unwrap();
        Disk::default().replace(folder.path(), &target, b"page").unwrap();
        assert_eq!(fs::read(&outside).unwrap(), b"precious");
        assert!(!fs::symlink_metadata(&target).unwrap().is_symlink());
    }
}
