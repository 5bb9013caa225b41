//! Two runs side by side: what they gave of each document, what they measured, and what was different about them. Reads
//! what runs leave (`run.json`, the journal, `eval.json`) or records as JSON lines; changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use super::journal::{Journal, Rows};
use super::places::STATE_FOLDER;

/// Changes when a key of the JSON form changes its name or meaning.
pub const SCHEMA_VERSION: u32 = 1;

/// What a run left.
#[derive(Clone, Debug, Default)]
pub struct Side {
    pub path: PathBuf,
    pub manifest: Value, // of run.json; null where there is none
    pub documents: BTreeMap<String, Left>,
    pub figures: BTreeMap<String, f64>,
    pub damaged: usize, // lines of the journal
}

/// What a run left of one document.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Left {
    pub state: String,
    pub sha256: String,
    pub why: Option<String>,
    pub fields: BTreeMap<String, Value>, // by table, row and field
    pub pages: BTreeMap<String, String>, // by output, the hash
}

#[derive(Debug, thiserror::Error)]
pub enum DiffError {
    #[error("{0}: there is no run here: no run.json, and no records")]
    NoRun(PathBuf),
    #[error("{path}: several runs are here: {runs}")]
    Several { path: PathBuf, runs: String },
    #[error("{path}: {detail}")]
    Unreadable { path: PathBuf, detail: String },
}

/// What is different.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Difference {
    pub schema_version: u32,
    /// About the runs themselves: model, quarry, parameters of steps.
    pub runs: Vec<Changed>,
    pub added: Vec<String>,
    pub removed: Vec<String>,
    pub documents: Vec<DocumentDifference>, // those that changed
    pub unchanged: usize,
    pub figures: Vec<FigureDifference>,
    pub notes: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Changed {
    pub what: String,
    pub before: Value,
    pub after: Value,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DocumentDifference {
    pub document: String,
    pub state: Option<(String, String)>, // where it changed
    pub source_changed: bool,            // the document's own bytes
    pub fields: Vec<Changed>,
    pub pages: Vec<String>, // outputs whose page changed
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FigureDifference {
    pub name: String,
    pub before: Option<f64>,
    pub after: Option<f64>,
}

impl Difference {
    /// Whether the two gave the same.
    pub fn is_none(&self) -> bool {
        let same_figures = self.figures.iter().all(|f| f.before == f.after);
        self.runs.is_empty()
            && self.added.is_empty()
            && self.removed.is_empty()
            && self.documents.is_empty()
            && same_figures
    }
}

impl Side {
    /// Reads what a run left: its state folder, its `run.json`, the folder of its outputs, or its records.
    pub fn read(path: &Path) -> Result<Self, DiffError> {
        let unreadable = |path: &Path, detail: String| DiffError::Unreadable { path: path.to_path_buf(), detail };
        if path.extension().is_some_and(|e| e == "jsonl") {
            let bytes = fs::read(path).map_err(|e| unreadable(path, e.to_string()))?;
            let documents = records(&String::from_utf8_lossy(&bytes)).map_err(|e| unreadable(path, e))?;
            return Ok(Self { path: path.to_path_buf(), documents, ..Self::default() });
        }
        let state = state_folder(path)?;
        let manifest =
            fs::read(state.join("run.json")).map_err(|e| unreadable(&state.join("run.json"), e.to_string()))?;
        let manifest =
            serde_json::from_slice(&manifest).map_err(|e| unreadable(&state.join("run.json"), e.to_string()))?;
        let journal = state.join("journal.jsonl");
        let (histories, damage) = Journal::look(&journal).map_err(|e| unreadable(&journal, e.to_string()))?;
        let mut documents = BTreeMap::new();
        for (document, history) in &histories {
            let Some(last) = history.last() else { continue };
            let mut left = Left {
                state: last.state.to_string(),
                sha256: last.sha256.to_string(),
                why: last.failure.as_ref().map(ToString::to_string).or_else(|| last.partial.first().cloned()),
                ..Left::default()
            };
            // A record of a review page holds nothing that is not told elsewhere.
            let is_page = |t: &&Rows| t.rows.iter().any(|row| row.text.starts_with('<'));
            let tables: Vec<&Rows> = last.rows.iter().filter(|t| !is_page(t)).collect();
            for table in &tables {
                let name = table.path.rsplit('/').next().unwrap_or(&table.path);
                for (i, row) in table.rows.iter().enumerate() {
                    let number = if table.rows.len() > 1 { format!("[{i}]") } else { String::new() };
                    let prefix = if tables.len() > 1 { format!("{name}{number}:") } else { number };
                    row_fields(&prefix, &row.text, &mut left.fields);
                }
            }
            if left.fields.is_empty() {
                last.values
                    .iter()
                    .flat_map(|v| v.iter())
                    .for_each(|(step, v)| flatten(&format!("steps.{step}"), v, &mut left.fields));
            }
            left.pages = last.pages.iter().map(|p| (p.output.clone(), p.blake3.clone())).collect();
            documents.insert(document.clone(), left);
        }
        let figures = figures(&state);
        Ok(Self { path: state, manifest, documents, figures, damaged: damage.lines })
    }
}

/// Returns the folder that holds the `run.json` meant by a path.
fn state_folder(path: &Path) -> Result<PathBuf, DiffError> {
    if path.file_name().is_some_and(|n| n == "run.json") {
        return Ok(path.parent().unwrap_or(Path::new(".")).to_path_buf());
    }
    if path.join("run.json").is_file() {
        return Ok(path.to_path_buf());
    }
    for folder in [path.to_path_buf(), path.join(STATE_FOLDER)] {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        let mut runs: Vec<PathBuf> =
            entries.filter_map(|e| Some(e.ok()?.path())).filter(|p| p.join("run.json").is_file()).collect();
        runs.sort();
        match runs.as_slice() {
            [] => {}
            [only] => return Ok(only.clone()),
            several => {
                let runs = several.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ");
                return Err(DiffError::Several { path: path.to_path_buf(), runs });
            }
        }
    }
    Err(DiffError::NoRun(path.to_path_buf()))
}

fn figures(state: &Path) -> BTreeMap<String, f64> {
    let read = || -> Option<Value> { serde_json::from_slice(&fs::read(state.join("eval.json")).ok()?).ok() };
    let report = read().unwrap_or_default();
    let all = report["figures"].as_array().into_iter().flatten();
    all.filter_map(|f| Some((f["name"].as_str()?.to_owned(), f["value"].as_f64()?))).collect()
}

/// Records that stand without a journal: each is of the document that its provenance names, or of its line.
fn records(text: &str) -> Result<BTreeMap<String, Left>, String> {
    let mut documents: BTreeMap<String, Left> = BTreeMap::new();
    for (number, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
        let value: Value = serde_json::from_str(line).map_err(|e| format!("line {}: {e}", number + 1))?;
        let from = value.get("_provenance").or_else(|| value.get("provenance"));
        let named = from.and_then(|p| p.get("document")).or_else(|| value.get("document")).and_then(Value::as_str);
        let document = named.map_or_else(|| format!("line {}", number + 1), str::to_owned);
        let left = documents.entry(document).or_default();
        if let Some(state) = value.get("state").and_then(Value::as_str) {
            left.state = state.to_owned();
        }
        if let Some(sha256) = from.and_then(|p| p.get("sha256")).and_then(Value::as_str) {
            left.sha256 = sha256.to_owned();
        }
        let rows =
            left.fields.keys().filter_map(|k| k.strip_prefix('[')?.split(']').next()?.parse::<usize>().ok()).max();
        let prefix = match (left.fields.is_empty(), rows) {
            (true, _) => String::new(),
            (false, None) => "[1]".into(),
            (false, Some(last)) => format!("[{}]", last + 1),
        };
        row_fields(&prefix, line, &mut left.fields);
    }
    Ok(documents)
}

/// A row of JSON lines by its fields, any other as it is; where it comes from is told apart.
fn row_fields(prefix: &str, text: &str, fields: &mut BTreeMap<String, Value>) {
    match serde_json::from_str(text) {
        Ok(Value::Object(map)) => {
            for (name, value) in map.iter().filter(|(name, _)| !["provenance", "_provenance"].contains(&name.as_str()))
            {
                flatten(&format!("{prefix}{name}"), value, fields);
            }
        }
        // A line of CSV, without the cell that says where it comes from.
        _ => {
            let cells = text.rsplit_once(',').map_or(text, |(cells, _)| cells);
            fields.insert(format!("{prefix}row"), cells.into());
        }
    }
}

fn flatten(path: &str, value: &Value, fields: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            map.iter().for_each(|(k, v)| flatten(&format!("{path}.{k}"), v, fields))
        }
        Value::Array(items) if items.iter().any(|i| i.is_object() || i.is_array()) => {
            items.iter().enumerate().for_each(|(i, v)| flatten(&format!("{path}[{i}]"), v, fields));
        }
        other => {
            fields.insert(path.to_owned(), other.clone());
        }
    }
}

/// Returns what is different between two runs.
pub fn diff(before: &Side, after: &Side) -> Difference {
    let mut found = Difference { schema_version: SCHEMA_VERSION, ..Difference::default() };
    found.runs = runs(&before.manifest, &after.manifest);
    for (document, left) in &before.documents {
        let Some(other) = after.documents.get(document) else {
            found.removed.push(document.clone());
            continue;
        };
        let changed = document_difference(document, left, other);
        if changed.state.is_none() && changed.fields.is_empty() && changed.pages.is_empty() && !changed.source_changed {
            found.unchanged += 1;
        } else {
            found.documents.push(changed);
        }
    }
    found.added = after.documents.keys().filter(|d| !before.documents.contains_key(*d)).cloned().collect();
    let names: BTreeSet<&String> = before.figures.keys().chain(after.figures.keys()).collect();
    let figure = |name: &String| FigureDifference {
        name: name.clone(),
        before: before.figures.get(name).copied(),
        after: after.figures.get(name).copied(),
    };
    found.figures = names.into_iter().map(figure).collect();
    for side in [before, after].into_iter().filter(|s| s.damaged > 0) {
        found.notes.push(format!(
            "{}: {} damaged lines of the journal were left out",
            side.path.display(),
            side.damaged
        ));
    }
    found
}

fn changes(before: &BTreeMap<String, Value>, after: &BTreeMap<String, Value>) -> Vec<Changed> {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let of = |side: &BTreeMap<String, Value>, name: &String| side.get(name).cloned().unwrap_or_default();
    let all = names.into_iter().map(|n| Changed { what: n.clone(), before: of(before, n), after: of(after, n) });
    all.filter(|c| c.before != c.after).collect()
}

/// Model, program and steps; of a step's options only hashes are known, so that it is told which changed and not how.
fn runs(before: &Value, after: &Value) -> Vec<Changed> {
    if before.is_null() || after.is_null() {
        return Vec::new();
    }
    let plain = |manifest: &Value| {
        let mut told = BTreeMap::new();
        for key in ["pipeline", "quarry", "model"] {
            flatten(key, manifest.get(key).unwrap_or(&Value::Null), &mut told);
        }
        flatten("steps", manifest.get("steps").unwrap_or(&Value::Null), &mut told);
        told
    };
    changes(&plain(before), &plain(after))
}

fn document_difference(document: &str, before: &Left, after: &Left) -> DocumentDifference {
    let fields = changes(&before.fields, &after.fields);
    let outputs: BTreeSet<&String> = before.pages.keys().chain(after.pages.keys()).collect();
    let pages = outputs.into_iter().filter(|o| before.pages.get(*o) != after.pages.get(*o)).cloned().collect();
    let state = (before.state != after.state).then(|| (before.state.clone(), after.state.clone()));
    let known = !before.sha256.is_empty() && !after.sha256.is_empty();
    DocumentDifference {
        document: document.to_owned(),
        state,
        source_changed: known && before.sha256 != after.sha256,
        fields,
        pages,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn side(records_text: &str, manifest: Value) -> Side {
        Side { documents: records(records_text).unwrap(), manifest, ..Side::default() }
    }

    #[test]
    fn documents_fields_and_states_are_told_by_name() {
        let before = "{\"document\":\"a\",\"x\":{\"y\":1,\"z\":[{\"w\":1}]},\"state\":\"ok\"}\n{\"document\":\"b\",\"x\":1}\n{\"document\":\"c\",\"x\":1}\n";
        let after = "{\"document\":\"a\",\"x\":{\"y\":2,\"z\":[{\"w\":1}]},\"state\":\"partial\"}\n{\"document\":\"b\",\"x\":1}\n{\"document\":\"d\",\"x\":1}\n";
        let found = diff(&side(before, Value::Null), &side(after, Value::Null));
        assert_eq!((found.added.as_slice(), found.removed.as_slice()), (&["d".to_owned()][..], &["c".to_owned()][..]));
        assert_eq!((found.unchanged, found.documents.len()), (1, 1));
        let changed = &found.documents[0];
        assert_eq!(changed.state, Some(("ok".into(), "partial".into())));
        let names: Vec<&str> = changed.fields.iter().map(|c| c.what.as_str()).collect();
        assert_eq!(names, ["state", "x.y"]);
        assert!(!found.is_none() && diff(&side(before, Value::Null), &side(before, Value::Null)).is_none());
    }

    #[test]
    fn runs_differ_by_their_model_and_by_the_options_of_their_steps() {
        let manifest = |model: &str, prompt: &str| json!({ "model": { "name": model, "digest": "d" }, "quarry": "1", "run": model, "steps": { "s": { "options.prompt": prompt, "use": "x" } } });
        let found = diff(&side("", manifest("m", "1")), &side("", manifest("n", "2")));
        let names: Vec<&str> = found.runs.iter().map(|c| c.what.as_str()).collect();
        assert_eq!(names, ["model.name", "steps.s.options.prompt"]);
    }

    #[test]
    fn several_records_of_a_document_are_counted() {
        let left =
            &records("{\"document\":\"a\",\"x\":1}\n{\"document\":\"a\",\"x\":2}\n{\"document\":\"a\",\"x\":3}\n")
                .unwrap()["a"];
        assert_eq!(
            left.fields.keys().map(String::as_str).collect::<Vec<_>>(),
            ["[1]document", "[1]x", "[2]document", "[2]x", "document", "x"]
        );
        assert!(records("{").unwrap_err().contains("line 1"));
    }
}
