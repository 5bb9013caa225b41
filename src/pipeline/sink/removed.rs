//! What stays of a record whose document is gone, where its output says `tombstone`.

use serde_json::{Map, Value};

use super::tables::csv_line;
use crate::pipeline::plan::OutputFormat;

/// What tells a row whose document is gone.
const REMOVED: &str = " · removed";

/// Returns what stays of a row whose document is gone: its key, where it came from, and that it is gone.
pub(super) fn row(format: OutputFormat, row: &str, key: Option<&str>) -> String {
    if format == OutputFormat::Csv {
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(row.as_bytes());
        let Some(Ok(record)) = reader.records().next() else { return row.to_owned() };
        let last = record.len().saturating_sub(1);
        let cell = |(at, cell): (usize, &str)| if at == last { format!("{cell}{REMOVED}") } else { String::new() };
        return csv_line(record.iter().enumerate().map(cell)).unwrap_or_else(|_| row.to_owned());
    }
    let Ok(Value::Object(old)) = serde_json::from_str::<Value>(row) else { return row.to_owned() };
    let mut left = Map::from_iter([("removed".to_owned(), Value::Bool(true))]);
    if let Some(key) = key.and_then(|k| serde_json::from_str(k).ok()) {
        left.insert("key".into(), key);
    }
    let provenance = old.get("_provenance").or_else(|| old.get("provenance")).cloned().unwrap_or_default();
    left.insert("provenance".into(), provenance);
    Value::Object(left).to_string()
}
