//! What has been done, one sealed line per document, on the disk before it counts. Read [`Journal::open`] first.
//!
//! The journal is the truth about records: a table (JSONL, CSV) is only ever built from it. A line torn by a kill is
//! dropped, a damaged line is dropped and said; either way the document is done again, for nothing is believed that
//! does not open. Knows no pipeline and no output format.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::disk::{Appender, Disk};
use super::hash::HashText;
use super::report::{Failure, State};
use super::sealed;
use crate::inference::engine::Usage;
use crate::steps::Coverage;

/// One document's end in one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    pub document: String, // as shown
    #[serde(default = "nothing", skip_serializing_if = "is_nothing", with = "shared_text")]
    pub source: Arc<str>, // its name
    pub sha256: HashText, // of the bytes used; empty where they could not be read
    pub key: HashText,    // of document, pipeline and model together; empty where there is none
    #[serde(with = "shared_text")]
    pub pipeline: Arc<str>, // its hash
    #[serde(with = "shared_text")]
    pub run: Arc<str>, // its stamp: see [`Journal::stamp`]
    pub state: State,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Box<Failure>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partial: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    pub coverage: Option<Coverage>,
    /// The file names given to this document's pages, as shown: no other document gets them. Also kept for a document
    /// that failed, so that those after it are numbered as they would have been.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pages: Vec<PageMark>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rows: Vec<Rows>,
    /// By step, the values that `eval` measures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<Box<Map<String, Value>>>,
    /// What is done over all documents takes from this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<Box<Value>>,
    pub usage: Usage,
    pub seconds: f64,
    pub attempts: u32, // that failed, this one included, since the last that did not
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_failed: Option<String>, // RFC 3339
}

fn nothing() -> Arc<str> {
    Arc::from("")
}

fn is_nothing(text: &Arc<str>) -> bool {
    text.is_empty()
}

/// Text that many entries have in common.
mod shared_text {
    use super::{Arc, Deserialize};

    pub fn serialize<S: serde::Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(text)
    }

    pub fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Arc<str>, D::Error> {
        String::deserialize(deserializer).map(Arc::from)
    }
}

impl Entry {
    /// Gives back what it does not need: two hundred thousand of them are held at once. `known` holds what they share.
    fn trim(&mut self, known: &mut HashSet<Arc<str>>) {
        let tables = self.rows.iter_mut().map(|table| &mut table.path);
        for text in [&mut self.pipeline, &mut self.run, &mut self.source].into_iter().chain(tables) {
            match known.get(text) {
                Some(same) => *text = same.clone(),
                None => drop(known.insert(text.clone())),
            }
        }
        for table in &mut self.rows {
            table.rows.shrink_to_fit();
            table.rows.iter_mut().for_each(|row| row.text.shrink_to_fit()); // it grew while it was written
        }
        self.rows.shrink_to_fit();
        self.pages.shrink_to_fit();
        self.names.shrink_to_fit();
    }
}

/// A page as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageMark {
    pub output: String,
    pub path: String, // as shown
    pub bytes: u64,
    pub blake3: String,
}

/// What one document gives to one table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rows {
    #[serde(with = "shared_text")]
    pub path: Arc<str>, // of the table, as shown
    pub rows: Vec<Row>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    pub text: String, // the row as it stands in the file, without its line end
}

/// What the journal knows of one document.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The last time it did not fail: its outputs stand.
    pub good: Option<Box<Entry>>,
    /// Set where it has failed since.
    pub failed: Option<Box<Entry>>,
}

impl History {
    pub fn last(&self) -> Option<&Entry> {
        self.failed.as_deref().or(self.good.as_deref())
    }

    /// Returns the file names that belong to this document.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        [&self.failed, &self.good].into_iter().flatten().flat_map(|e| e.names.iter().map(String::as_str))
    }

    fn take(&mut self, entry: Entry) {
        if entry.state == State::Failed {
            self.failed = Some(Box::new(entry));
        } else {
            *self = Self { good: Some(Box::new(entry)), failed: None };
        }
    }
}

/// The journal of one pipeline's runs in one state folder, which the caller holds the lock of.
pub struct Journal {
    path: PathBuf,
    parts: PathBuf,
    disk: Disk,
    file: Appender,
    histories: BTreeMap<String, History>,
    texts: HashSet<Arc<str>>, // that its entries share
    lines: usize,             // in the file, superseded ones included
}

/// What opening a journal found to be wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    pub lines: usize, // that are not as they were written
    pub torn: bool,   // the last line had no end: a run was killed while writing it
}

impl Journal {
    /// Opens or begins the journal at `path`; `parts` takes half-written files. Every line that opens is believed,
    /// every other one is counted in the damage and gone from the file when this returns.
    pub fn open(path: &Path, parts: &Path, disk: &Disk) -> io::Result<(Self, Damage)> {
        let mut texts = HashSet::new();
        let (histories, mut lines, damage) = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Default::default(),
            file => read(BufReader::new(file?), &mut texts)?,
        };
        if damage != Damage::default() {
            // Otherwise the next line would be glued to the torn one.
            lines = write(&histories, disk, parts, path)?;
        }
        let file = disk.append_to(path)?;
        let (path, parts, disk) = (path.to_path_buf(), parts.to_path_buf(), disk.clone());
        Ok((Self { path, parts, disk, file, histories, texts, lines }, damage))
    }

    /// Returns what a journal knows without touching it: for those who only look. A file that is not there is an error.
    pub fn look(path: &Path) -> io::Result<(Histories, Damage)> {
        let (histories, _, damage) = read(BufReader::new(File::open(path)?), &mut HashSet::new())?;
        Ok((histories, damage))
    }

    /// Adds an entry and returns when it is on the disk.
    pub fn add(&mut self, mut entry: Entry) -> io::Result<()> {
        self.file.append(&line_of(&entry)?)?;
        self.lines += 1;
        entry.trim(&mut self.texts);
        self.histories.entry(entry.document.clone()).or_default().take(entry);
        Ok(())
    }

    /// Adds many entries with few syncs; after a kill some of them, from the first on, are there.
    pub fn add_all(&mut self, entries: impl IntoIterator<Item = Entry>) -> io::Result<()> {
        const AT_ONCE: usize = 500; // half a megabyte of lines
        let mut entries = entries.into_iter().peekable();
        while entries.peek().is_some() {
            let some: Vec<Entry> = entries.by_ref().take(AT_ONCE).collect();
            let lines = some.iter().map(line_of).collect::<io::Result<Vec<String>>>()?;
            self.file.append(&lines.join("\n"))?;
            self.lines += some.len();
            for mut entry in some {
                entry.trim(&mut self.texts);
                self.histories.entry(entry.document.clone()).or_default().take(entry);
            }
        }
        Ok(())
    }

    pub fn into_histories(self) -> BTreeMap<String, History> {
        self.histories
    }

    pub fn get(&self, document: &str) -> Option<&History> {
        self.histories.get(document)
    }

    /// Returns all that is known, by document.
    pub fn histories(&self) -> &BTreeMap<String, History> {
        &self.histories
    }

    /// Returns what the entries of a run are marked with: its id, which is a time, or where a clock was set back what sorts
    /// right behind the last of the journal. So of two entries for a document the later is the greater.
    pub fn stamp(&self, run: &str) -> String {
        let newest = live(&self.histories).map(|entry| &*entry.run).max();
        match newest.filter(|newest| *newest >= run) {
            None => run.to_owned(),
            Some(newest) => {
                let (time, number) = newest.split_once('+').unwrap_or((newest, "0"));
                format!("{time}+{:06}", number.parse::<u32>().unwrap_or(0).saturating_add(1))
            }
        }
    }

    /// Writes the journal anew without superseded lines, where they are more than half of it.
    pub fn compact(&mut self) -> io::Result<()> {
        if self.lines <= live(&self.histories).count() * 2 {
            return Ok(());
        }
        self.lines = write(&self.histories, &self.disk, &self.parts, &self.path)?;
        self.file = self.disk.append_to(&self.path)?;
        Ok(())
    }
}

/// What is known, by document.
pub type Histories = BTreeMap<String, History>;

/// Reads some lines at a time, on several threads: of a long journal only what counts is held.
fn read(mut file: impl BufRead, texts: &mut HashSet<Arc<str>>) -> io::Result<(Histories, usize, Damage)> {
    const BYTES_AT_ONCE: usize = 4 << 20;
    let (mut histories, mut lines, mut damage) = (Histories::new(), 0, Damage::default());
    let mut block = Vec::with_capacity(BYTES_AT_ONCE);
    loop {
        block.clear();
        let mut ends = Vec::new();
        while block.len() < BYTES_AT_ONCE && file.read_until(b'\n', &mut block)? > 0 {
            ends.push(block.len());
        }
        if ends.is_empty() {
            return Ok((histories, lines, damage));
        }
        damage.torn |= block.last() != Some(&b'\n');
        let starts = std::iter::once(0).chain(ends.iter().copied());
        let whole: Vec<&[u8]> =
            starts.zip(&ends).filter_map(|(start, end)| block[start..*end].strip_suffix(b"\n")).collect();
        for entry in entries(&whole) {
            match entry {
                None => damage.lines += 1,
                Some(mut entry) => {
                    lines += 1;
                    entry.trim(texts);
                    histories.entry(entry.document.clone()).or_default().take(entry);
                }
            }
        }
    }
}

/// Opens lines, in their order; `None` is one that is not as it was written.
fn entries(lines: &[&[u8]]) -> Vec<Option<Entry>> {
    const THREADS_MAX: usize = 4;
    const LINES_MIN: usize = 200; // of a thread
    let open = |lines: &[&[u8]]| -> Vec<Option<Entry>> {
        lines.iter().map(|line| serde_json::from_str(sealed::open(line)?).ok()).collect()
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
    let each = lines.len().div_ceil(cores).max(LINES_MIN);
    if lines.len() <= each {
        return open(lines);
    }
    std::thread::scope(|scope| {
        let threads: Vec<_> = lines
            .chunks(each)
            .map(|some| (some, std::thread::Builder::new().spawn_scoped(scope, move || open(some))))
            .collect();
        let opened = threads.into_iter().map(|(some, thread)| {
            // Where there can be no thread, or it broke, the lines are opened here.
            thread.ok().and_then(|t| t.join().ok()).unwrap_or_else(|| open(some))
        });
        opened.flatten().collect()
    })
}

fn live(histories: &Histories) -> impl Iterator<Item = &Entry> {
    histories.values().flat_map(|h| [h.good.as_deref(), h.failed.as_deref()]).flatten()
}

/// Writes a journal without superseded lines and returns how many it has.
fn write(histories: &Histories, disk: &Disk, parts: &Path, path: &Path) -> io::Result<usize> {
    disk.replace_by(parts, path, &mut |file| {
        live(histories).try_for_each(|entry| file.write_all((line_of(entry)? + "\n").as_bytes()))
    })?;
    Ok(live(histories).count())
}

fn line_of(entry: &Entry) -> io::Result<String> {
    Ok(sealed::seal(&serde_json::to_string(entry)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(document: &str, state: State) -> Entry {
        Entry {
            document: document.into(),
            sha256: "aa".into(),
            key: "k".into(),
            pipeline: "h".into(),
            run: "r".into(),
            state,
            failure: None,
            partial: Vec::new(),
            notes: Vec::new(),
            coverage: None,
            names: vec![format!("out/{document}.md")],
            pages: Vec::new(),
            rows: vec![Rows { path: "t".into(), rows: vec![Row { key: None, text: "{\"a\":\"\\n\"}".into() }] }],
            values: None,
            source: "".into(),
            kept: None,
            usage: Usage::default(),
            seconds: 0.25,
            attempts: 0,
            first_failed: None,
        }
    }

    fn written(folder: &Path, entries: &[Entry]) -> PathBuf {
        let path = folder.join("journal.jsonl");
        let (mut journal, _) = Journal::open(&path, folder, &Disk::default()).unwrap();
        entries.iter().for_each(|e| journal.add(e.clone()).unwrap());
        path
    }

    #[test]
    fn a_failure_keeps_the_last_good_entry_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = written(folder.path(), &[entry("a", State::Ok), entry("a", State::Failed)]);
        let (journal, damage) = Journal::open(&path, folder.path(), &Disk::default()).unwrap();
        assert_eq!(damage, Damage::default());
        let history = journal.get("a").unwrap();
        assert_eq!(history.last().unwrap().state, State::Failed);
        assert_eq!(history.good.as_ref().unwrap().state, State::Ok);
    }

    #[test]
    fn a_journal_cut_anywhere_keeps_its_whole_lines_and_can_be_added_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = written(folder.path(), &[entry("a", State::Ok), entry("b", State::Ok)]);
        let whole = std::fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let (mut journal, damage) = Journal::open(&path, folder.path(), &Disk::default()).unwrap();
            let lines = whole[..cut].iter().filter(|b| **b == b'\n').count();
            assert_eq!((journal.histories().len(), damage.lines), (lines, 0), "cut at {cut}");
            journal.add(entry("c", State::Ok)).unwrap();
            let (journal, damage) = Journal::open(&path, folder.path(), &Disk::default()).unwrap();
            assert_eq!((journal.histories().len(), damage), (lines + 1, Damage::default()), "cut at {cut}");
        }
    }

    #[test]
    fn a_bent_bit_or_garbage_is_never_believed() {
        let folder = tempfile::tempdir().unwrap();
        let path = written(folder.path(), &[entry("a", State::Ok), entry("b", State::Ok)]);
        let whole = std::fs::read(&path).unwrap();
        for at in (0..whole.len()).step_by(7) {
            let mut bent = whole.clone();
            bent[at] ^= 1 << (at % 8);
            std::fs::write(&path, &bent).unwrap();
            let (journal, damage) = Journal::open(&path, folder.path(), &Disk::default()).unwrap();
            assert!(journal.histories().len() < 2 && (damage.lines > 0 || damage.torn), "byte {at}");
        }
        std::fs::write(&path, [&whole[..], b"\0\0garbage\n\n"].concat()).unwrap();
        let (journal, damage) = Journal::open(&path, folder.path(), &Disk::default()).unwrap();
        assert_eq!((journal.histories().len(), damage.lines), (2, 2));
    }

    #[test]
    fn what_is_added_later_has_the_greater_stamp_whatever_the_clock_says() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        let (mut journal, _) = Journal::open(&path, folder.path(), &Disk::default()).unwrap();
        let mut before = String::new();
        for run in ["20260102T000000.000Z", "20260101T000000.000Z", "20260102T000000.000Z", "20260103T000000.000Z"] {
            let stamp = journal.stamp(run);
            assert!(stamp > before && (stamp == run || stamp.starts_with("20260102T000000.000Z+")), "{stamp}");
            journal.add(Entry { run: stamp.as_str().into(), ..entry(run, State::Ok) }).unwrap();
            before = stamp;
        }
    }

    #[test]
    fn compacting_keeps_what_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        let (mut journal, _) = Journal::open(&path, folder.path(), &Disk::default()).unwrap();
        (0..5).for_each(|_| journal.add(entry("a", State::Ok)).unwrap());
        journal.compact().unwrap();
        journal.add(entry("b", State::Ok)).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 2);
        let (journal, damage) = Journal::open(&path, folder.path(), &Disk::default()).unwrap();
        assert_eq!((journal.histories().len(), damage), (2, Damage::default()));
    }
}
