//! One file for all documents: JSONL or CSV, a row per document or per item, in the order of the inputs.
//!
//! A table is always written whole, from the journal, so it can be lost, torn or edited and comes back. Policy: a
//! document that fails keeps the row of its last success, which names the bytes it was made from; rows of documents
//! that are gone are kept behind the others, unless `on_removed` says otherwise; so are rows that no journal knows. Each is said.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::provenance::Provenance;
use super::removed;
use super::review;
use super::table_rows::{Hashed, document_of, for_each_row};
use crate::pipeline::disk::Disk;
use crate::pipeline::journal::{History, Row};
use crate::pipeline::plan::{OnRemoved, OutputFormat};

/// One table during a run.
pub struct Table {
    path: PathBuf,
    shown: String,
    format: OutputFormat,
    header: Option<String>,
    /// Rows found in the file that the journal does not know, by the document they name.
    adopted: BTreeMap<String, Vec<String>>,
    /// Rows found in the file that name no document we know of.
    foreign: Vec<String>,
    written: Option<blake3::Hash>, // of the file as it is
}

/// What a table holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filled {
    pub rows: usize,
    pub of_gone: usize,  // rows of documents that are no longer inputs
    pub replaced: usize, // rows left out because a later one has the same key
    pub foreign: usize,  // rows no journal knows
}

#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}")]
pub struct TableError {
    pub path: PathBuf,
    pub source: io::Error,
}

impl Table {
    /// Opens the table at `path` and sorts out rows that are in the file but not in the journal.
    pub fn open(
        path: &Path,
        shown: String,
        format: OutputFormat,
        header: Option<String>,
        histories: &BTreeMap<String, History>,
        is_input: &dyn Fn(&str) -> bool,
    ) -> Result<Self, TableError> {
        let fault = |source| TableError { path: path.to_path_buf(), source };
        let mut file = match fs::File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            other => Some(Hashed::new(other.map_err(fault)?)),
        };
        let mut table = Self {
            path: path.to_path_buf(),
            shown,
            format,
            header,
            adopted: BTreeMap::new(),
            foreign: Vec::new(),
            written: None,
        };
        if format == OutputFormat::Parquet {
            table.written = file.map(Hashed::finish).transpose().map_err(fault)?;
            return table.unless_foreign(histories).map_err(fault);
        }
        let journaled = histories.values().flat_map(|h| table.rows_of(h)).map(|r| r.text.as_str());
        let mut known: HashMap<&str, usize> = HashMap::new();
        journaled.for_each(|text| *known.entry(text).or_default() += 1);
        let mut unknown = Vec::new();
        let sort_out = &mut |row: &str| match known.get_mut(row) {
            Some(count) if *count > 0 => *count -= 1,
            _ if Some(row) == table.header.as_deref() => {}
            _ => unknown.push(row.to_owned()),
        };
        if let Some(file) = &mut file {
            for_each_row(file, format, sort_out).map_err(fault)?;
        }
        table.written = file.map(Hashed::finish).transpose().map_err(fault)?;
        for row in unknown {
            match document_of(&row, format) {
                Some(document) if is_input(&document) || histories.contains_key(&document) => {
                    table.adopted.entry(document).or_default().push(row);
                }
                _ => table.foreign.push(row),
            }
        }
        Ok(table)
    }

    /// What is in a Parquet file is not taken over row by row: one that the journal knows nothing of is left alone.
    fn unless_foreign(self, histories: &BTreeMap<String, History>) -> io::Result<Self> {
        let is_ours = histories.values().any(|h| h.good.iter().any(|e| e.rows.iter().any(|r| *r.path == *self.shown)));
        if self.written.is_some() && !is_ours {
            return Err(io::Error::other(
                "it holds records that no journal knows; move it away, or choose another path",
            ));
        }
        Ok(self)
    }

    fn rows_of<'h>(&self, history: &'h History) -> &'h [Row] {
        let good = history.good.as_ref();
        let rows = good.and_then(|e| e.rows.iter().find(|r| *r.path == *self.shown));
        rows.map_or(&[], |r| r.rows.as_slice())
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the path as shown, by which the journal knows the table.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// Writes the table as the journal has it, if the file is not already so. `order` are the inputs.
    pub fn write(
        &mut self,
        order: &[&str],
        histories: &BTreeMap<String, History>,
        on_removed: &dyn Fn(&str) -> OnRemoved,
        parts: &Path,
        disk: &Disk,
    ) -> Result<Filled, TableError> {
        let (rows, filled) = self.rows(order, histories, on_removed);
        if self.format == OutputFormat::Parquet {
            let fault = |source| TableError { path: self.path.clone(), source };
            let bytes = parquet_of(&rows).map_err(fault)?;
            let hash = blake3::hash(&bytes);
            if self.written != Some(hash) {
                disk.replace(parts, &self.path, &bytes).map_err(fault)?;
                self.written = Some(hash);
            }
            return Ok(filled);
        }
        let foot = (self.format == OutputFormat::Review).then(review::foot);
        let rows = || rows.iter().map(AsRef::as_ref);
        let lines = || self.header.as_deref().into_iter().chain(rows()).chain(foot.as_deref());
        let mut hasher = blake3::Hasher::new();
        lines().for_each(|line| {
            hasher.update(line.as_bytes()).update(b"\n");
        });
        let hash = hasher.finalize();
        if self.written != Some(hash) {
            // A table of many documents is larger than the memory that it should take to write it.
            let replaced = disk.replace_by(parts, &self.path, &mut |file| {
                lines().try_for_each(|line| file.write_all(line.as_bytes()).and_then(|()| file.write_all(b"\n")))
            });
            replaced.map_err(|source| TableError { path: self.path.clone(), source })?;
            self.written = Some(hash);
        }
        Ok(filled)
    }

    /// Returns every row, in the order of the file.
    fn rows<'a>(
        &'a self,
        order: &[&str],
        histories: &'a BTreeMap<String, History>,
        on_removed: &dyn Fn(&str) -> OnRemoved,
    ) -> (Vec<Cow<'a, str>>, Filled) {
        let mut filled = Filled { foreign: self.foreign.len(), ..Filled::default() };
        let mut rows: Vec<(Option<&'a str>, Cow<'a, str>)> = Vec::new(); // (key, text)
        let inputs: std::collections::HashSet<&str> = order.iter().copied().collect();
        for document in order {
            self.collect(document, histories.get(*document), &mut rows);
        }
        let num_live = rows.len();
        let gone = histories.keys().chain(self.adopted.keys()).map(String::as_str).filter(|d| !inputs.contains(d));
        for document in gone.collect::<std::collections::BTreeSet<_>>() {
            let first = rows.len();
            match on_removed(document) {
                OnRemoved::Drop if histories.contains_key(document) => {}
                OnRemoved::Drop | OnRemoved::Keep => self.collect(document, histories.get(document), &mut rows),
                OnRemoved::Tombstone => {
                    self.collect(document, histories.get(document), &mut rows);
                    for (key, row) in &mut rows[first..] {
                        *row = Cow::Owned(removed::row(self.format, row, *key));
                    }
                }
            }
        }
        // The last of the living keeps a key; a row of a document that is gone gives way to any of them.
        let mut keeper: HashMap<&str, usize> = HashMap::new();
        for (at, (key, _)) in rows.iter().enumerate() {
            if let Some(key) = key {
                let is_kept = |by: &usize| at >= num_live && *by < num_live;
                if !keeper.get(key).is_some_and(is_kept) {
                    keeper.insert(*key, at);
                }
            }
        }
        let mut kept = Vec::with_capacity(rows.len());
        for (at, (key, row)) in rows.into_iter().enumerate() {
            if key.is_some_and(|k| keeper.get(k) != Some(&at)) {
                filled.replaced += 1;
                continue;
            }
            filled.rows += 1;
            filled.of_gone += usize::from(at >= num_live);
            kept.push(row);
        }
        filled.rows += self.foreign.len();
        kept.extend(self.foreign.iter().map(|row| Cow::Borrowed(row.as_str())));
        (kept, filled)
    }

    fn collect<'a>(
        &'a self,
        document: &str,
        history: Option<&'a History>,
        rows: &mut Vec<(Option<&'a str>, Cow<'a, str>)>,
    ) {
        // Who reviews must see what failed, whatever it gave before.
        if let Some(failed) = history.and_then(|h| h.failed.as_ref()).filter(|_| self.format == OutputFormat::Review) {
            rows.push((None, Cow::Owned(review::failed_row(failed))));
            return;
        }
        match history.filter(|h| h.good.is_some()) {
            Some(history) => {
                rows.extend(self.rows_of(history).iter().map(|r| (r.key.as_deref(), r.text.as_str().into())))
            }
            None => {
                rows.extend(self.adopted.get(document).into_iter().flatten().map(|text| (None, text.as_str().into())))
            }
        }
    }
}

#[cfg(feature = "parquet")]
fn parquet_of(rows: &[Cow<'_, str>]) -> io::Result<Vec<u8>> {
    super::parquet::file_of(rows.iter().map(AsRef::as_ref))
}

/// `check` lets no such output through.
#[cfg(not(feature = "parquet"))]
fn parquet_of(_: &[Cow<'_, str>]) -> io::Result<Vec<u8>> {
    Err(io::Error::other("this quarry was built without Parquet"))
}

/// Returns a row as it stands in a file, without its line end.
pub(super) fn row_text(
    format: OutputFormat,
    values: Vec<(&str, Value)>,
    provenance: &Provenance,
) -> Result<String, String> {
    if format == OutputFormat::Csv {
        let cells = values.iter().map(|(_, value)| cell(value)).chain([provenance.line()]);
        return csv_line(cells.map(|text| guarded(&text)));
    }
    let mut object: Map<String, Value> = values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let name = if object.contains_key("provenance") { "_provenance" } else { "provenance" };
    object.insert(name.into(), provenance.value());
    serde_json::to_string(&object).map_err(|e| e.to_string())
}

pub(super) fn header_text<'n>(names: impl Iterator<Item = &'n str>) -> Result<String, String> {
    csv_line(names.chain(["provenance"]).map(guarded))
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.iter().all(|i| !i.is_array() && !i.is_object()) => {
            items.iter().map(cell).collect::<Vec<_>>().join("; ")
        }
        other => other.to_string(),
    }
}

/// A spreadsheet runs a cell that begins like a formula; an apostrophe before it makes it text. Numbers stay numbers.
fn guarded(text: &str) -> String {
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']) && text.parse::<f64>().is_err();
    if is_formula { format!("'{text}") } else { text.to_owned() }
}

pub(super) fn csv_line(cells: impl Iterator<Item = String>) -> Result<String, String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(cells.map(|c| c.replace('\0', "\u{fffd}"))).map_err(|e| e.to_string())?;
    let bytes = writer.into_inner().map_err(|e| e.to_string())?;
    let text = String::from_utf8(bytes).map_err(|e| e.to_string())?;
    Ok(text.strip_suffix('\n').map(str::to_owned).unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::engine::Usage;
    use crate::pipeline::journal::{Entry, Rows};
    use crate::pipeline::report::State;
    use serde_json::json;

    fn provenance(document: &str) -> Provenance {
        Provenance {
            document: document.into(),
            sha256: "aa".into(),
            model: None,
            pipeline: "p".into(),
            pipeline_hash: "h".into(),
            quarry: "0.1.0",
        }
    }

    fn row(format: OutputFormat, document: &str, value: Value, key: Option<&str>) -> Row {
        let text = row_text(format, vec![("a", value)], &provenance(document)).unwrap();
        Row { key: key.map(str::to_owned), text }
    }

    fn history(document: &str, rows: Vec<Row>) -> (String, History) {
        let entry = Entry {
            document: document.into(),
            sha256: "aa".into(),
            key: "k".into(),
            pipeline: "h".into(),
            run: "r".into(),
            state: State::Ok,
            failure: None,
            partial: Vec::new(),
            notes: Vec::new(),
            coverage: None,
            names: Vec::new(),
            pages: Vec::new(),
            rows: vec![Rows { path: "t".into(), rows }],
            values: None,
            source: "".into(),
            kept: None,
            usage: Usage::default(),
            seconds: 0.0,
            attempts: 0,
            first_failed: None,
        };
        (document.into(), History { good: Some(Box::new(entry)), failed: None })
    }

    fn check_table(
        format: OutputFormat,
        before: &str,
        histories: Vec<(String, History)>,
        order: &[&str],
    ) -> (String, Filled) {
        check_removed(format, before, histories, order, OnRemoved::Keep)
    }

    fn check_removed(
        format: OutputFormat,
        before: &str,
        histories: Vec<(String, History)>,
        order: &[&str],
        policy: OnRemoved,
    ) -> (String, Filled) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t");
        fs::write(&path, before).unwrap();
        let histories = histories.into_iter().collect();
        let header = (format == OutputFormat::Csv).then(|| header_text(["a"].into_iter()).unwrap());
        let is_input = |d: &str| order.contains(&d);
        let mut table = Table::open(&path, "t".into(), format, header, &histories, &is_input).unwrap();
        let filled = table.write(order, &histories, &|_| policy, folder.path(), &Disk::default()).unwrap();
        (fs::read_to_string(&path).unwrap(), filled)
    }

    const J: OutputFormat = OutputFormat::Jsonl;

    #[test]
    fn rows_stand_in_the_order_of_inputs_with_the_gone_behind() {
        let make = |d: &str| history(d, vec![row(J, d, json!(d), None)]);
        let (text, filled) = check_table(J, "", vec![make("a"), make("b"), make("c")], &["c", "a"]);
        let names: Vec<Value> = text.lines().map(|l| serde_json::from_str::<Value>(l).unwrap()["a"].clone()).collect();
        assert_eq!(names, [json!("c"), json!("a"), json!("b")]);
        assert_eq!((filled.rows, filled.of_gone), (3, 1));
    }

    #[test]
    fn rows_of_the_gone_are_dropped_or_leave_a_mark_where_that_is_said() {
        for format in [J, OutputFormat::Csv] {
            let make = |d: &str| history(d, vec![row(format, d, json!("words"), Some("\"k\""))]);
            let both = || vec![make("a"), (make("gone").0, make("gone").1)];
            let (text, filled) = check_removed(format, "", vec![make("gone")], &["a"], OnRemoved::Drop);
            assert_eq!((filled.rows, text.contains("words")), (0, false), "{text}");
            let (text, filled) = check_removed(format, "", vec![make("gone")], &["a"], OnRemoved::Tombstone);
            assert!(filled.rows == 1 && text.contains("gone") && !text.contains("words"), "{text}");
            let marked = if format == J { "{\"removed\":true,\"key\":\"k\",\"provenance\":" } else { " · removed" };
            assert!(text.contains(marked), "{text}");
            // A living row with the same key wins over the mark.
            let (text, _) = check_removed(format, "", both(), &["a"], OnRemoved::Tombstone);
            assert!(text.contains("words") && !text.contains(marked), "{text}");
        }
    }

    #[test]
    fn a_key_is_kept_once_and_the_living_win() {
        let make = |d: &str, key| history(d, vec![row(J, d, json!(d), Some(key))]);
        let histories = vec![make("a", "1"), make("b", "1"), make("gone", "1"), make("c", "2")];
        let (text, filled) = check_table(J, "", histories, &["a", "b", "c"]);
        assert_eq!(text.lines().count(), 2);
        assert!(text.lines().next().unwrap().contains("\"a\":\"b\""), "{text}");
        assert_eq!(filled.replaced, 2);
    }

    #[test]
    fn rows_that_no_journal_knows_are_kept_until_their_document_has_a_new_one() {
        for format in [J, OutputFormat::Csv] {
            let old = |d: &str| row(format, d, json!("old"), None).text;
            let stranger = if format == J { "{\"x\":1}" } else { "\"by, hand\",2" };
            let before = format!("{}\n{}\n{stranger}\n", old("a"), old("b"));
            let (text, filled) = check_table(
                format,
                &before,
                vec![history("a", vec![row(format, "a", json!("new"), None)])],
                &["a", "b"],
            );
            let rows = text.lines().skip(usize::from(format == OutputFormat::Csv)).collect::<Vec<_>>();
            assert_eq!(rows, [row(format, "a", json!("new"), None).text, old("b"), stranger.to_owned()]);
            assert_eq!(filled.foreign, 1);
        }
    }

    #[test]
    fn csv_is_guarded_against_formulas_and_reads_back() {
        let nasty = ["=1+1", "+x", "-x", "@x", "\tx", "\rx", "a,\"b\"\nc", "-5", "plain"];
        let rows: Vec<Row> = nasty.iter().map(|n| row(OutputFormat::Csv, "a", json!(n), None)).collect();
        let (text, _) = check_table(OutputFormat::Csv, "", vec![history("a", rows)], &["a"]);
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        assert_eq!(reader.headers().unwrap(), vec!["a", "provenance"]);
        let cells: Vec<String> = reader.records().map(|r| r.unwrap()[0].to_owned()).collect();
        assert_eq!(cells, ["'=1+1", "'+x", "'-x", "'@x", "'\tx", "'\rx", "a,\"b\"\nc", "-5", "plain"]);
    }

    #[test]
    fn jsonl_has_one_line_per_record_whatever_is_in_it() {
        let nasty = json!("a\nb\r\u{0}\u{1b}]0;x\u{7}\u{2028}");
        let (text, _) = check_table(J, "", vec![history("a", vec![row(J, "a", nasty.clone(), None)])], &["a"]);
        assert_eq!(text.lines().count(), 1);
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["a"], nasty);
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn cells_read_as_people_write_them() {
        assert_eq!(cell(&json!(["a", 1, null])), "a; 1; ");
        assert_eq!(cell(&json!({ "a": [1] })), "{\"a\":[1]}");
        assert_eq!(cell(&Value::Null), "");
    }
}
