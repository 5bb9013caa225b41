//! Rows as documents, and as tables beside documents. Knows how a row becomes a document, not how a table is parsed.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::inputs::ListError;
use super::plan::{SourceKind, SourcePlan};
use super::shown::shown;
use crate::corpus::document::{Document, Format};
use crate::corpus::reader::read_rows;

/// A row that is a document of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct RowInput {
    pub stem: String, // what tells it from its neighbors
    pub fields: Value,
    pub sha256: String, // of its fields
}

/// Rows by the name of their source.
pub type Tables = BTreeMap<String, Vec<Value>>;

/// The column that tells rows apart where the source names none.
const ID: &str = "id";
/// Where `read` says nothing of it.
const MAX_BYTES: u64 = 50 << 20;

/// A row on its way to an input: what it is called, and its fields or why there are none.
pub struct Listed {
    pub document: String,
    pub row: Result<Arc<RowInput>, String>,
}

/// Returns the rows of a source, and what its reader doubted. A table that cannot be read at all is an error: nothing is
/// known of what is in it.
pub fn list(source: &SourcePlan, base: &Path) -> Result<(PathBuf, Vec<Listed>, Vec<String>), ListError> {
    let SourceKind::Rows { file, id, from_stdin, .. } = &source.kind else {
        return Ok((PathBuf::new(), Vec::new(), Vec::new()));
    };
    let wrong = |detail: String| ListError::Rows { name: source.name.clone(), detail };
    if *from_stdin && file.as_os_str().is_empty() {
        return Err(ListError::NoStdin { name: source.name.clone() });
    }
    let max_bytes = source.read.get("max_size").and_then(Value::as_u64).unwrap_or(MAX_BYTES);
    let called = if *from_stdin { "standard input".to_owned() } else { shown(file, base) };
    let table = read_rows(file, max_bytes).map_err(|e| wrong(format!("{called} {}", e.detail)))?;
    if table.rows.is_empty() {
        return Err(wrong(format!("{called} holds no row")));
    }
    let column =
        id_column(id.as_deref(), &table.rows.iter().filter_map(|r| r.fields.as_ref().ok()).collect::<Vec<_>>())
            .map_err(|e| wrong(format!("{called}: {e}")))?;
    let home = if *from_stdin { "stdin".to_owned() } else { called };
    let rows = table.rows.into_iter().map(|row| {
        let stem = match (&column, &row.fields) {
            (Some(column), Ok(fields)) => text_of(&fields[column.as_str()]),
            _ => row.number.to_string(),
        };
        let document = format!("{home}#{stem}");
        let input = row.fields.map(|fields| Arc::new(RowInput::new(stem, Value::Object(fields))));
        Listed { document, row: input }
    });
    Ok((file.clone(), rows.collect(), table.warnings))
}

/// Returns the rows of tables that stand beside the documents. A row that cannot be read is an error here: every
/// document would miss it.
pub fn tables(sources: &[SourcePlan], base: &Path) -> Result<Tables, ListError> {
    let mut tables = Tables::new();
    for source in sources {
        let (_, listed, _) = list(source, base)?;
        let row = |l: Listed| l.row.map(|r| r.fields.clone());
        let rows = listed.into_iter().map(row).collect::<Result<Vec<_>, _>>();
        let rows = rows.map_err(|detail| ListError::Rows { name: source.name.clone(), detail })?;
        tables.insert(source.name.clone(), rows);
    }
    Ok(tables)
}

/// Returns the column that tells rows apart: the one that was named, else `id` where there is one. Every row must have
/// another value in it.
fn id_column(named: Option<&str>, rows: &[&Map<String, Value>]) -> Result<Option<String>, String> {
    let column = match named {
        Some(named) => named,
        None if rows.iter().any(|r| r.contains_key(ID)) => ID,
        None => return Ok(None),
    };
    let mut seen = HashMap::new();
    for (at, row) in rows.iter().enumerate() {
        let value = match row.get(column) {
            Some(value) if !text_of(value).trim().is_empty() => text_of(value),
            _ => {
                return Err(format!(
                    "a row has nothing in the column `{column}`, which tells rows apart (row {})",
                    at + 1
                ));
            }
        };
        if let Some(first) = seen.insert(value.clone(), at) {
            return Err(format!("rows {} and {} both have `{column}` {value}", first + 1, at + 1));
        }
    }
    Ok(Some(column.to_owned()))
}

fn text_of(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

impl RowInput {
    pub fn new(stem: String, fields: Value) -> Self {
        let sha256 = Sha256::digest(fields.to_string().as_bytes()).iter().map(|b| format!("{b:02x}")).collect();
        Self { stem, fields, sha256 }
    }

    /// Returns the row as a document: each field on a line of its own.
    pub fn document(&self) -> Document {
        let line = |(name, value): (&String, &Value)| format!("{name}: {}", text_of(value));
        let lines: Vec<String> = self.fields.as_object().into_iter().flatten().map(line).collect();
        let text = lines.join("\n");
        Document { path: PathBuf::from(&self.stem), sha256: self.sha256.clone(), ..Document::of(Format::Text, text) }
    }

    /// Puts what a row is called under `doc`: the dots of an id are no extension.
    pub fn name(&self, doc: &mut Value) {
        doc["name"] = json!(self.stem);
        doc["stem"] = json!(self.stem);
        doc["ext"] = json!("");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(file: PathBuf, id: Option<&str>) -> SourcePlan {
        let kind = SourceKind::Rows { file, id: id.map(str::to_owned), columns: None, from_stdin: false };
        SourcePlan { name: "asked".into(), kind, ..SourcePlan::default() }
    }

    fn listed(text: &str, id: Option<&str>) -> Result<Vec<String>, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("asked.csv");
        std::fs::write(&file, text).unwrap();
        let listed = list(&source(file, id), folder.path()).map_err(|e| e.to_string())?;
        Ok(listed.1.into_iter().map(|l| l.document).collect())
    }

    #[test]
    fn rows_go_by_their_id_and_without_one_by_their_number() {
        assert_eq!(listed("id,q\nb,1\na,2\n", None).unwrap(), ["asked.csv#b", "asked.csv#a"]);
        assert_eq!(listed("k,q\nb,1\na,2\n", None).unwrap(), ["asked.csv#1", "asked.csv#2"]);
        assert_eq!(listed("k,q\nb,1\na,2\n", Some("k")).unwrap(), ["asked.csv#b", "asked.csv#a"]);
    }

    #[test]
    fn rows_that_cannot_be_told_apart_are_refused() {
        assert!(listed("id,q\na,1\na,2\n", None).unwrap_err().contains("rows 1 and 2 both have `id` a"));
        assert!(listed("id,q\na,1\n,2\n", None).unwrap_err().contains("nothing in the column `id`"));
        assert!(listed("id,q\n", None).unwrap_err().contains("holds no row"));
    }

    #[test]
    fn a_row_reads_as_its_fields_and_changes_with_them() {
        let row = |q: &str| RowInput::new("v1.2".into(), json!({ "id": "v1.2", "q": q }));
        assert_eq!(row("Why?").document().text, "id: v1.2\nq: Why?");
        assert_ne!(row("Why?").sha256, row("How?").sha256);
        let mut doc = row("Why?").document().doc_value();
        row("Why?").name(&mut doc);
        assert_eq!(doc["stem"], "v1.2");
    }
}
