//! Paths as text that leads back to the file: relative to the pipeline's folder where they lie in it or near it, `/`
//! between names, bytes that are no UTF-8 written as `\xNN`. The journal, records and the report name files this way, so
//! that a project can be moved to another folder or machine without being done again.

use std::path::{Path, PathBuf};

/// Folders that a relative path climbs at most: from `project/pipelines` to anything in the project, not to `/etc`.
const CLIMB_MAX: usize = 3;

/// Returns `path` as text, relative to `base` where it lies below it or below a folder at most `CLIMB_MAX` above it,
/// the root excepted. Both are absolute. A backslash is written as `\\`.
pub fn shown(path: &Path, base: &Path) -> String {
    for (climb, above) in base.ancestors().take(CLIMB_MAX + 1).enumerate() {
        let is_root = above.parent().is_none();
        let below = path.strip_prefix(above).ok().filter(|p| !p.as_os_str().is_empty() && (climb == 0 || !is_root));
        if let Some(below) = below {
            return "../".repeat(climb) + &escape(&bytes_of(below));
        }
    }
    escape(&bytes_of(path))
}

/// Returns the path that [`shown`] gave as `text`.
pub fn from_shown(text: &str, base: &Path) -> PathBuf {
    let (mut base, mut text) = (base, text);
    while let (Some(rest), Some(above)) = (text.strip_prefix("../"), base.parent()) {
        (base, text) = (above, rest);
    }
    base.join(path_of(unescape(text)))
}

fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for part in bytes.utf8_chunks() {
        out.push_str(&part.valid().replace('\\', "\\\\"));
        for byte in part.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        let after = &rest[at + 1..];
        let byte = after.strip_prefix('x').and_then(|h| h.get(..2)).and_then(|h| u8::from_str_radix(h, 16).ok());
        if let Some(byte) = byte {
            out.push(byte);
            rest = &after[3..];
        } else {
            out.push(b'\\');
            rest = after.strip_prefix('\\').unwrap_or(after);
        }
    }
    out.extend_from_slice(rest.as_bytes());
    out
}

#[cfg(unix)]
fn bytes_of(path: &Path) -> Vec<u8> {
    use std::os::unix::ffi::OsStrExt;
    path.as_os_str().as_bytes().to_vec()
}

#[cfg(unix)]
fn path_of(bytes: Vec<u8>) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

#[cfg(not(unix))]
fn bytes_of(path: &Path) -> Vec<u8> {
    path.to_string_lossy().replace('\\', "/").into_bytes()
}

#[cfg(not(unix))]
fn path_of(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn every_name_leads_back_to_its_file() {
        let base = Path::new("/project");
        for name in [&b"calls/a.vtt"[..], b"a\\b.txt", b"caf\xc3\xa9", b"bad\xff\xfename", b"\\x41", b"line\nbreak"] {
            let path = base.join(path_of(name.to_vec()));
            let text = shown(&path, base);
            assert!(!text.starts_with('/'), "{text}");
            assert_eq!(from_shown(&text, base), path, "{text}");
        }
        assert_eq!(shown(Path::new("/project/bad\u{e9}"), base), "bad\u{e9}");
        assert_eq!(shown(&path_of(b"/project/x\xff".to_vec()), base), "x\\xff");
    }

    #[test]
    fn a_file_outside_the_project_keeps_its_whole_path() {
        assert_eq!(shown(Path::new("/elsewhere/a"), Path::new("/project")), "/elsewhere/a");
        assert_eq!(from_shown("/elsewhere/a", Path::new("/project")), Path::new("/elsewhere/a"));
    }
}
