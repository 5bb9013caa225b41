//! Names of files made from documents' titles and models' words: always one file, always inside the folder, and two
//! documents that want the same name are numbered the same way on every run. Touches no file.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use unicode_normalization::UnicodeNormalization;

/// Bytes of a name: file systems take 255, and a number has to fit behind it.
const NAME_BYTES_MAX: usize = 200;

const RESERVED: &[&str] = &[
    "CON", "PRN", "AUX", "NUL", "COM1", "COM2", "COM3", "COM4", "COM5", "COM6", "COM7", "COM8", "COM9", "LPT1", "LPT2",
    "LPT3", "LPT4", "LPT5", "LPT6", "LPT7", "LPT8", "LPT9",
];

/// Returns `name` as one file name that every system takes: no separator, no control or direction character, no
/// reserved or hidden name, NFC, at most 200 bytes. A name that is already so comes back unchanged.
pub fn safe_name(name: &str) -> String {
    let replaced: String = name.nfc().map(|c| if is_risky(c) { '_' } else { c }).collect();
    let mut name = replaced.trim().trim_end_matches(['.', ' ']).to_owned();
    let stem = name.split('.').next().unwrap_or_default();
    if name.is_empty() || name.starts_with(['.', '-', '~']) || RESERVED.contains(&stem.to_uppercase().as_str()) {
        name.insert(0, '_');
    }
    if name.len() > NAME_BYTES_MAX { shorten(&name) } else { name }
}

fn is_risky(c: char) -> bool {
    let turns_direction = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control()
        || turns_direction
        || matches!(c, '/' | '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|' | '\u{2028}' | '\u{2029}')
}

/// Keeps the beginning and the extension, with a hash between: two long names that differ late stay different.
fn shorten(name: &str) -> String {
    let hash = &blake3::hash(name.as_bytes()).to_hex()[..8];
    let ext = name.rfind('.').filter(|dot| name.len() - dot <= 16).map_or("", |dot| &name[dot..]);
    let mut end = NAME_BYTES_MAX - ext.len() - hash.len() - 1;
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}-{hash}{ext}", &name[..end])
}

/// Returns `path` with a number before its extension: `a/b.md`, 2 -> `a/b-2.md`. Number 1 is the path itself.
fn numbered(path: &Path, number: usize) -> PathBuf {
    if number < 2 {
        return path.to_path_buf();
    }
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let ext = path.extension().map(|e| format!(".{}", e.to_string_lossy())).unwrap_or_default();
    path.with_file_name(format!("{stem}-{number}{ext}"))
}

/// What two names have in common that some file system takes for the same: case and Unicode form.
fn folded(path: &Path) -> String {
    path.to_string_lossy().nfkc().collect::<String>().to_lowercase().nfc().collect()
}

/// Gives file names to documents in the order of the inputs, whichever of them is ready first.
pub struct NameRegistry {
    inner: Mutex<Inner>,
    moved: Condvar,
}

struct Inner {
    owners: HashMap<String, String>, // folded path -> document
    settled: Vec<bool>,              // by input
    next: usize,                     // the first input that is not settled
}

impl NameRegistry {
    /// Begins with the names that documents have from earlier runs; they keep them.
    pub fn new(num_inputs: usize, owned: impl IntoIterator<Item = (PathBuf, String)>) -> Self {
        let owners = owned.into_iter().map(|(path, document)| (folded(&path), document)).collect();
        let inner = Inner { owners, settled: vec![false; num_inputs], next: 0 };
        Self { inner: Mutex::new(inner), moved: Condvar::new() }
    }

    /// Waits until every input before `index` is settled, and then takes a free name for each path wanted. Returns
    /// `None` where `give_up` says to stop waiting. Settles the input.
    pub fn settle(
        &self,
        index: usize,
        document: &str,
        wanted: &[PathBuf],
        give_up: &dyn Fn() -> bool,
    ) -> Option<Vec<PathBuf>> {
        const LOOK_UP: Duration = Duration::from_millis(50);
        let mut inner = self.inner.lock().unwrap_or_else(|e| e.into_inner());
        while inner.next < index {
            if give_up() {
                return None;
            }
            inner = self.moved.wait_timeout(inner, LOOK_UP).unwrap_or_else(|e| e.into_inner()).0;
        }
        let mut names = Vec::with_capacity(wanted.len());
        for path in wanted {
            let name = inner.free_name(document, path, &names);
            inner.owners.insert(folded(&name), document.to_owned());
            names.push(name);
        }
        inner.settle(index);
        self.moved.notify_all();
        Some(names)
    }

    /// Settles an input that takes no new name. Calling it again changes nothing.
    pub fn pass(&self, index: usize) {
        self.inner.lock().unwrap_or_else(|e| e.into_inner()).settle(index);
        self.moved.notify_all();
    }
}

impl NameRegistry {
    /// The same for many, before anybody waits.
    pub fn pass_all(&self, indices: impl Iterator<Item = usize>) {
        let mut inner = self.inner.lock().unwrap_or_else(|e| e.into_inner());
        indices.for_each(|index| inner.settle(index));
        self.moved.notify_all();
    }
}

impl Inner {
    fn settle(&mut self, index: usize) {
        self.settled[index] = true;
        while self.settled.get(self.next) == Some(&true) {
            self.next += 1;
        }
    }

    /// The document's own name from an earlier run where it has one of this family, else the first that is free.
    fn free_name(&self, document: &str, path: &Path, taken_now: &[PathBuf]) -> PathBuf {
        let mut free = None;
        // An own number may stand behind a free one: its neighbor is gone, and a page should not move for that.
        for number in 1.. {
            let name = numbered(path, number);
            match self.owners.get(&folded(&name)) {
                Some(owner) if owner == document && !taken_now.contains(&name) => return name,
                Some(_) => {}
                None if free.is_none() => free = Some(name),
                None => break,
            }
        }
        free.unwrap_or_else(|| path.to_path_buf())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_become_one_harmless_name() {
        let long = "x".repeat(10_000);
        for name in [
            "../../x",
            "/abs",
            "a/../../b",
            "a\0b",
            "CON",
            "con.md",
            "nul",
            ".",
            "..",
            "",
            " ",
            "-rf",
            "a.",
            "a. ",
            "$(x)",
            "a\nb",
            "C:\\x",
            "..\\x",
            "\u{202e}dm.x",
            "e\u{301}",
            "🦀.md",
            ".quarry",
            "~x",
            &long,
        ] {
            let safe = safe_name(name);
            let components: Vec<_> = Path::new(&safe).components().collect();
            assert!(matches!(components[..], [std::path::Component::Normal(_)]), "{name:?} -> {safe:?}");
            assert!(safe.len() <= NAME_BYTES_MAX && !safe.starts_with(['.', '-']), "{name:?} -> {safe:?}");
            assert!(!safe.contains(['/', '\\', '\0', '\n']) && !safe.ends_with(['.', ' ']), "{name:?} -> {safe:?}");
            assert_eq!(safe_name(&safe), safe, "safe names stay");
        }
        assert_eq!(safe_name("Q1 report (final).md"), "Q1 report (final).md");
        assert_ne!(safe_name(&format!("{long}a.md")), safe_name(&format!("{long}b.md")));
        assert!(safe_name(&format!("{long}.md")).ends_with(".md"));
    }

    fn settle(registry: &NameRegistry, index: usize, document: &str, path: &str) -> String {
        let names = registry.settle(index, document, &[path.into()], &|| false).unwrap();
        names[0].to_string_lossy().into_owned()
    }

    #[test]
    fn twins_are_numbered_by_the_order_of_inputs_and_not_of_work() {
        let registry = NameRegistry::new(3, []);
        std::thread::scope(|scope| {
            let later = scope.spawn(|| settle(&registry, 2, "c", "out/É.md"));
            std::thread::sleep(Duration::from_millis(20));
            assert_eq!(settle(&registry, 0, "a", "out/e\u{301}.md"), "out/e\u{301}.md");
            assert_eq!(settle(&registry, 1, "b", "out/E\u{301}.MD"), "out/E\u{301}-2.MD");
            assert_eq!(later.join().unwrap(), "out/É-3.md");
        });
    }

    #[test]
    fn names_of_earlier_runs_are_kept() {
        let owned = [("o/x.md".into(), "a".to_owned()), ("o/x-3.md".into(), "c".to_owned())];
        let registry = NameRegistry::new(3, owned);
        assert_eq!(settle(&registry, 0, "b", "o/x.md"), "o/x-2.md");
        assert_eq!(settle(&registry, 1, "c", "o/x.md"), "o/x-3.md");
        assert_eq!(settle(&registry, 2, "a", "o/x.md"), "o/x.md");
    }

    #[test]
    fn two_outputs_of_one_document_do_not_share_a_file() {
        let registry = NameRegistry::new(1, [("o/x.md".into(), "a".to_owned())]);
        let names = registry.settle(0, "a", &["o/x.md".into(), "o/x.md".into()], &|| false).unwrap();
        assert_eq!(names, [PathBuf::from("o/x.md"), PathBuf::from("o/x-2.md")]);
    }

    #[test]
    fn waiting_ends_when_the_run_does() {
        let registry = NameRegistry::new(2, []);
        assert_eq!(registry.settle(1, "b", &["o/x.md".into()], &|| true), None);
    }
}
