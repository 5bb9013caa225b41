//! Texts with their labels: read from the options or a CSV file, and found again by their words.

use serde_json::Value;

use crate::corpus::index::{Filter, Passage, Query, RamIndex, Retriever};
use crate::steps::options::Reader;
use crate::steps::text::{clip, squeeze};
use crate::steps::{Reason, StepError};

/// Of an example, as much as is shown.
const SHOWN_MAX: usize = 400; // characters
const ROWS_MAX: usize = 20_000;
/// Faults of one file that are told; the rest is counted.
const FAULTS_MAX: usize = 5;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labelled {
    pub text: String,
    pub labels: Vec<usize>, // indices, in the order of the step's labels
}

/// Reads the labelled texts under a key: a list, or a mapping with `file`. `None` where the key is off.
pub fn read(
    read: &mut Reader<'_>,
    key: &str,
    names: &[&str],
    multi: bool,
    read_file: &dyn Fn(&str) -> Result<String, String>,
) -> Option<Vec<Labelled>> {
    let written = read.at(&[key])?;
    let mut rows: Vec<(String, String, Vec<String>)> = Vec::new(); // where, text, labels
    if let Some(file) = written.get("file").and_then(Value::as_str) {
        match read_file(file).and_then(|text| of_csv(file, &text)) {
            Ok(found) => rows = found,
            Err(fault) => read.fault(&[key, "file"], fault),
        }
    }
    for (i, item) in written.as_array().into_iter().flatten().enumerate() {
        let label = item.get("label");
        let labels = label.and_then(Value::as_array).into_iter().flatten().chain(label).filter_map(Value::as_str);
        let text = item.get("text").and_then(Value::as_str).unwrap_or_default();
        rows.push((format!("example {}", i + 1), text.to_owned(), labels.map(str::to_owned).collect()));
    }
    let mut faults = Vec::new();
    let mut labelled = Vec::new();
    for (place, text, labels) in rows {
        let known: Vec<Option<usize>> = labels.iter().map(|l| names.iter().position(|n| n == l)).collect();
        if let Some(unknown) = labels.iter().zip(&known).find(|(_, i)| i.is_none()).map(|(l, _)| l) {
            let near = crate::diagnostic::suggest(unknown, names.iter().copied());
            let hint = near.map(|n| format!(": did you mean `{n}`?")).unwrap_or_default();
            faults.push(format!("{place} has the label `{unknown}`, which is not among `labels`{hint}"));
        } else if !multi && labels.len() != 1 {
            faults.push(format!("{place} has {} labels; several go with `multi`", labels.len()));
        } else {
            let mut labels: Vec<usize> = known.into_iter().flatten().collect();
            labels.sort_unstable();
            labelled.push(Labelled { text, labels });
        }
    }
    let more = faults.len().saturating_sub(FAULTS_MAX);
    for fault in faults.into_iter().take(FAULTS_MAX) {
        read.fault(&[key], fault);
    }
    if more > 0 {
        read.fault(&[key], format!("{more} more rows have such labels"));
    }
    Some(labelled)
}

/// Returns the rows of a CSV file with the columns `text` and `label`. The error is one line.
fn of_csv(file: &str, text: &str) -> Result<Vec<(String, String, Vec<String>)>, String> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(text.as_bytes());
    let header = reader.headers().map_err(|e| format!("{file}: {e}"))?.clone();
    let column = |name: &str| {
        let at = header.iter().position(|h| h.trim().trim_start_matches('\u{feff}').eq_ignore_ascii_case(name));
        at.ok_or_else(|| {
            format!("{file} has no column `{name}`; it has {}", header.iter().collect::<Vec<_>>().join(", "))
        })
    };
    let (text_at, label_at) = (column("text")?, column("label")?);
    let mut rows = Vec::new();
    for (i, row) in reader.records().enumerate() {
        let row = row.map_err(|e| format!("{file}: {e}"))?;
        if rows.len() >= ROWS_MAX {
            return Err(format!("{file} has more than the limit of {ROWS_MAX} rows"));
        }
        let cell = |at: usize| row.get(at).unwrap_or_default().trim();
        let labels = cell(label_at).split('|').map(str::trim).filter(|l| !l.is_empty()).map(str::to_owned).collect();
        rows.push((format!("{file}, row {},", i + 2), cell(text_at).to_owned(), labels));
    }
    Ok(rows)
}

/// Examples that can be found by their words.
pub struct Shots {
    examples: Vec<Labelled>,
    index: RamIndex,
    top: usize,
}

impl Shots {
    pub fn new(examples: Vec<Labelled>, top: usize) -> Self {
        let passage = |(index, e): (usize, &Labelled)| Passage::given("examples", index, &e.text);
        let index = RamIndex::new(examples.iter().enumerate().map(passage).collect());
        let shown = |e: Labelled| Labelled { text: clip(&squeeze(&e.text), SHOWN_MAX), ..e };
        Self { examples: examples.into_iter().map(shown).collect(), index, top }
    }

    /// Returns the examples likest a text in words, the likest last: what stands nearest to the answer counts most.
    /// Where fewer share a word with it, the first of the others make up for them. `own` is a text that is left out.
    pub fn near(&self, text: &str, own: Option<&str>) -> Result<Vec<&Labelled>, StepError> {
        let filter = Filter::default();
        let query = Query { text, vector: None, filter: &filter, top: self.top + 1, context: 0 };
        let hits = self.index.retrieve(&query).map_err(|e| StepError {
            reason: Reason::EngineFailed,
            detail: format!("the examples cannot be searched: {e}"),
        })?;
        let own = own.map(|o| clip(&squeeze(o), SHOWN_MAX));
        let mut found: Vec<usize> = hits.iter().map(|h| h.passage.index).collect();
        let rest: Vec<usize> = (0..self.examples.len()).filter(|i| !found.contains(i)).collect();
        found.extend(rest);
        found.retain(|&i| own.as_ref().is_none_or(|o| &self.examples[i].text != o));
        found.truncate(self.top);
        Ok(found.into_iter().rev().map(|i| &self.examples[i]).collect())
    }

    /// Returns the most tokens that examples can have together.
    pub fn tokens_max(&self, count: &dyn Fn(&str) -> usize) -> usize {
        const AROUND: usize = 16; // "Text: ", "Kind: " and the label
        let mut longest: Vec<usize> = self.examples.iter().map(|e| e.text.len()).collect();
        longest.sort_unstable_by(|a, b| b.cmp(a));
        longest.truncate(self.top);
        // Counting all of a large file would take longer than classifying: the longest in bytes bound the rest.
        let bytes = longest.first().copied().unwrap_or(0);
        let dearest = self.examples.iter().filter(|e| e.text.len() * 2 >= bytes).take(64).map(|e| count(&e.text)).max();
        longest.len() * (dearest.unwrap_or(0) + AROUND)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likest_examples_come_last_and_a_text_is_not_its_own() {
        let example = |text: &str, label| Labelled { text: text.into(), labels: vec![label] };
        let shots = Shots::new(
            vec![example("The card was lost", 0), example("A refund is due", 1), example("My card was lost abroad", 0)],
            2,
        );
        let texts =
            |own| shots.near("my card was lost", own).unwrap().iter().map(|e| e.text.as_str()).collect::<Vec<_>>();
        assert_eq!(texts(None), ["The card was lost", "My card was lost abroad"]);
        assert_eq!(texts(Some("My card was  lost abroad")), ["A refund is due", "The card was lost"]);
    }

    #[test]
    fn a_file_is_read_by_its_columns_and_names_what_is_missing() {
        let rows = of_csv("g.csv", "id,Label,text\n1,a|b,\"x, y\"\n2,b,z\n").unwrap();
        assert_eq!(rows[0], ("g.csv, row 2,".into(), "x, y".into(), vec!["a".into(), "b".into()]));
        assert!(of_csv("g.csv", "a,b\n1,2\n").unwrap_err().contains("no column `text`"));
    }
}
