//! The files that a pipeline names, as `check` reads them: the one way in which it touches the disk.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use ignore::WalkBuilder;

use super::file::MAX_FILE_BYTES;

/// Reads what a pipeline names. `check` touches the disk through this alone.
pub trait Files {
    fn read(&self, path: &Path) -> std::io::Result<Vec<u8>>;
    fn is_file(&self, path: &Path) -> bool;
    /// Whether the globs match any file at all; both lists are absolute.
    fn any_match(&self, patterns: &[String], ignore: &[String]) -> bool;
}

/// The files of this machine.
pub struct OnDisk;

impl Files for OnDisk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        use io::Read;
        // One byte more than is allowed is enough to be refused: a huge file, or a device, is never read whole.
        let mut bytes = Vec::new();
        fs::File::open(path)?.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn is_file(&self, path: &Path) -> bool {
        path.is_file()
    }

    fn any_match(&self, patterns: &[String], ignored: &[String]) -> bool {
        let (Some(wanted), Some(unwanted)) = (glob_set(patterns), glob_set(ignored)) else { return false };
        patterns.iter().any(|pattern| {
            WalkBuilder::new(literal_prefix(pattern))
                .standard_filters(false)
                .build()
                .filter_map(Result::ok)
                .any(|e| e.path().is_file() && wanted.is_match(e.path()) && !unwanted.is_match(e.path()))
        })
    }
}

/// Returns a glob that the matcher understands: `*` stays within one folder, `{a,b}` is a choice.
pub fn glob(pattern: &str) -> Result<globset::Glob, String> {
    let built = GlobBuilder::new(pattern).literal_separator(true).backslash_escape(true).build();
    built.map_err(|e| e.kind().to_string())
}

fn glob_set(patterns: &[String]) -> Option<GlobSet> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        set.add(glob(pattern).ok()?);
    }
    set.build().ok()
}

/// Returns the folder below which everything that a pattern can match lies, or the file itself.
fn literal_prefix(pattern: &str) -> PathBuf {
    let is_literal = |c: &Component| !c.as_os_str().to_string_lossy().contains(['*', '?', '[', '{', '\\']);
    Path::new(pattern).components().take_while(is_literal).collect()
}

/// Reads a text that a pipeline names. The error is one line.
pub fn read_text(files: &dyn Files, path: &Path) -> Result<String, String> {
    let bytes = files.read(path).map_err(|e| format!("it cannot be read: {e}"))?;
    if bytes.len() > MAX_FILE_BYTES {
        return Err(format!("it is longer than the limit of {} bytes (max_file_bytes)", MAX_FILE_BYTES));
    }
    let text =
        String::from_utf8(bytes).map_err(|e| format!("it is not UTF-8 at byte {}", e.utf8_error().valid_up_to()))?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glob_finds_files_below_its_folder_and_leaves_out_what_is_ignored() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("calls/old")).unwrap();
        fs::write(folder.path().join("calls/old/a.vtt"), "x").unwrap();
        let at = |glob: &str| vec![format!("{}/{glob}", folder.path().display())];
        assert!(OnDisk.any_match(&at("calls/**/*.{vtt,srt}"), &[]));
        assert!(OnDisk.any_match(&at("calls/old/a.vtt"), &[]));
        assert!(!OnDisk.any_match(&at("calls/*.vtt"), &[]));
        assert!(!OnDisk.any_match(&at("calls/**/*.vtt"), &at("**/old/**")));
        assert!(!OnDisk.any_match(&at("nowhere/*.vtt"), &[]));
    }
}
