//! One file per document, written whole or not at all, and never through a link that leaves the output's folder.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::provenance::Provenance;
use crate::pipeline::disk::Disk;
use crate::pipeline::journal::PageMark;
use crate::pipeline::places::Target;
use crate::pipeline::plan::OutputFormat;
use crate::pipeline::shown::{from_shown, shown};

#[derive(Debug, thiserror::Error)]
pub enum PageError {
    #[error("{0} is a link that leaves the output's folder")]
    LeavesFolder(PathBuf),
    #[error("cannot write {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
}

/// Adds the line saying where a Markdown page comes from, unless the page itself shows it (`doc.provenance`). A text
/// file is left as its author wants it: where it comes from stands in the journal.
pub(super) fn with_provenance(mut text: String, format: OutputFormat, provenance: &Provenance) -> String {
    let line = provenance.line();
    if matches!(format, OutputFormat::Markdown | OutputFormat::Html) && !text.contains(&line) {
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        // Two hyphens, or the bracket, would end the comment inside a file's name.
        text.push_str(&format!("\n<!-- quarry: {} -->\n", line.replace("--", "- -").replace('>', ")")));
    } else if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// Returns what stays of a page whose document is gone.
pub fn tombstone(format: OutputFormat, document: &str) -> String {
    let document: String = document.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    let said = format!("Removed: {document} is gone, and what was written of it with it.");
    match format {
        OutputFormat::Html => super::html::page(&said, &document),
        _ => format!("{said}\n"),
    }
}

/// Makes the folder of a page below `root`. `root` is where it really is; a link on the way
/// down may lead to another place in it, but not out of it.
fn make_folder(root: &Path, path: &Path, disk: &Disk) -> Result<(), PageError> {
    let folder = path.parent().unwrap_or(root);
    let io = |source| PageError::Io { path: folder.to_path_buf(), source };
    let below = folder.strip_prefix(root).map_err(|_| PageError::LeavesFolder(folder.to_path_buf()))?;
    let mut here = root.to_path_buf();
    for name in below.components() {
        here.push(name);
        match fs::symlink_metadata(&here) {
            Ok(meta) if meta.is_symlink() => {
                if !fs::canonicalize(&here).map_err(io)?.starts_with(root) {
                    return Err(PageError::LeavesFolder(here));
                }
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => disk.create_folder(&here).map_err(io)?,
            Err(error) => return Err(io(error)),
        }
    }
    Ok(())
}

/// Writes a page below its target's root and returns when it is on the disk.
pub fn write_page(path: &Path, target: &Target, text: &str, disk: &Disk) -> Result<(), PageError> {
    make_folder(&target.root, path, disk)?;
    let replaced = disk.replace(&target.parts(), path, text.as_bytes());
    replaced.map_err(|source| PageError::Io { path: path.to_path_buf(), source })
}

/// Returns the mark by which the journal knows a page.
pub fn mark(output: &str, path: &Path, base: &Path, text: &str) -> PageMark {
    let blake3 = blake3::hash(text.as_bytes()).to_hex().to_string();
    PageMark { output: output.to_owned(), path: shown(path, base), bytes: text.len() as u64, blake3 }
}

/// Whether a page is as it was written.
pub fn is_intact(mark: &PageMark, base: &Path) -> bool {
    let path = from_shown(&mark.path, base);
    let has_length = fs::symlink_metadata(&path).is_ok_and(|m| m.is_file() && m.len() == mark.bytes);
    has_length && fs::read(&path).is_ok_and(|bytes| blake3::hash(&bytes).to_hex().as_str() == mark.blake3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::places::TargetKind;

    fn provenance() -> Provenance {
        Provenance {
            document: "a--b>.vtt".into(),
            sha256: "0123456789abcdef".into(),
            model: None,
            pipeline: "p".into(),
            pipeline_hash: "fedcba9876543210".into(),
            quarry: "0.1.0",
        }
    }

    #[test]
    fn a_page_says_where_it_comes_from_exactly_once() {
        let line = provenance().line();
        let page = with_provenance("# A".into(), OutputFormat::Markdown, &provenance());
        let comment = "<!-- quarry: a- -b).vtt · sha256 0123456789ab · pipeline p fedcba987654 · quarry 0.1.0 -->";
        assert_eq!(page, format!("# A\n\n{comment}\n"));
        let shown = format!("# A\n{line}\n");
        assert_eq!(with_provenance(shown.clone(), OutputFormat::Markdown, &provenance()), shown);
        assert_eq!(with_provenance("x".into(), OutputFormat::Text, &provenance()), "x\n");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_out_of_the_folder_is_not_written_through() {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        let (out, elsewhere) = (root.join("out"), root.join("elsewhere"));
        fs::create_dir_all(out.join("inside")).unwrap();
        fs::create_dir(&elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, out.join("link")).unwrap();
        std::os::unix::fs::symlink(out.join("inside"), out.join("here")).unwrap();
        fs::create_dir_all(out.join(".quarry/parts")).unwrap();
        let target = Target { root: out.clone(), kind: TargetKind::Pages { names: Vec::new() }, parts: "parts".into() };
        let write = |path: &str| write_page(&out.join(path), &target, "x", &Disk::default());
        assert!(matches!(write("link/a.md"), Err(PageError::LeavesFolder(_))));
        assert!(fs::read_dir(&elsewhere).unwrap().next().is_none());
        write("here/new/a.md").unwrap();
        let mark = mark("page", &out.join("here/new/a.md"), &root, "x");
        assert!(is_intact(&mark, &root));
        fs::write(out.join("here/new/a.md"), "y").unwrap();
        assert!(!is_intact(&mark, &root));
    }
}
