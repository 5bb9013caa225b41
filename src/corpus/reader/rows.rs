//! Tables of separated values and JSON Lines, row by row: for those who ask something of each row. A row that cannot be
//! read is a row that says so; the others are read.

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Map, Value};

use super::csv::separator;
use super::decode::decode;
use super::{ReadError, ReadReason, Refusal, load};

/// A table as its rows.
#[derive(Clone, Debug, Default)]
pub struct RowTable {
    /// The names in the first line; `None` for JSON Lines, whose rows name their own fields.
    pub columns: Option<Vec<String>>,
    pub rows: Vec<Row>,
    pub warnings: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct Row {
    pub number: usize,                              // from 1, without the line of names
    pub fields: Result<Map<String, Value>, String>, // or why it cannot be read, in one line
}

/// Rows of one table: more would be a list in memory that nobody planned for.
pub const MAX_ROWS: usize = 2_000_000;

/// Reads the rows of a file of at most `max_bytes`. The error is of the file as a whole.
pub fn read_rows(path: &Path, max_bytes: u64) -> Result<RowTable, ReadError> {
    let refused = |(reason, detail)| ReadError { reason, path: path.to_owned(), detail };
    let bytes = load(path, max_bytes).map_err(refused)?;
    parse_rows(&bytes, path).map_err(refused)
}

/// Reads rows that are in memory: JSON Lines where the name or the first character says so, else separated values.
pub(super) fn parse_rows(bytes: &[u8], name: &Path) -> Result<RowTable, Refusal> {
    let decoded = decode(bytes);
    let ext = name.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
    let is_lines = match ext.as_str() {
        "jsonl" | "ndjson" => true,
        "csv" | "tsv" => false,
        _ => decoded.text.trim_start().starts_with('{'),
    };
    let mut table = if is_lines { json_lines(&decoded.text) } else { separated(&decoded.text, ext == "tsv")? };
    if table.rows.len() > MAX_ROWS {
        return Err((ReadReason::TooLarge, format!("has more than {MAX_ROWS} rows (max_rows)")));
    }
    table.warnings.extend(decoded.warnings);
    Ok(table)
}

/// Returns the names of the columns that a table begins with, as far as `beginning` shows them.
pub fn columns_of(beginning: &[u8], name: &Path) -> Option<Vec<String>> {
    let whole_lines = beginning.iter().rposition(|b| *b == b'\n').map_or(beginning, |end| &beginning[..end]);
    parse_rows(whole_lines, name).ok()?.columns
}

fn json_lines(text: &str) -> RowTable {
    let mut table = RowTable::default();
    for line in text.lines().filter(|l| !l.trim().is_empty()) {
        let number = table.rows.len() + 1;
        let fields = match serde_json::from_str::<Value>(line) {
            Ok(Value::Object(fields)) => Ok(fields),
            Ok(_) => Err(format!("row {number} is no JSON object")),
            Err(error) => Err(format!("row {number} is no JSON: {error}")),
        };
        table.rows.push(Row { number, fields });
    }
    table
}

fn separated(text: &str, is_tabs: bool) -> Result<RowTable, Refusal> {
    let separator = if is_tabs { b'\t' } else { separator(text) };
    let mut reader =
        csv::ReaderBuilder::new().has_headers(false).flexible(true).delimiter(separator).from_reader(text.as_bytes());
    let unreadable = |detail: String| (ReadReason::Unreadable, detail);
    let mut records = reader.records();
    let columns: Vec<String> = match records.next() {
        Some(first) => first
            .map_err(|e| unreadable(format!("is a table that cannot be read: {e}")))?
            .iter()
            .map(|name| name.trim().to_owned())
            .collect(),
        None => Vec::new(),
    };
    let mut seen = HashMap::new();
    for (at, name) in columns.iter().enumerate() {
        if name.is_empty() {
            return Err(unreadable(format!("has no name for its column {}", at + 1)));
        }
        if let Some(first) = seen.insert(name.as_str(), at) {
            let (a, b) = (first + 1, at + 1);
            return Err(unreadable(format!("has two columns called `{name}`: {a} and {b}")));
        }
    }
    let mut rows = Vec::new();
    for record in records {
        let record = record.map_err(|e| unreadable(format!("is a table that cannot be read: {e}")))?;
        if record.iter().all(|cell| cell.trim().is_empty()) {
            continue;
        }
        let number = rows.len() + 1;
        let fields = if record.len() == columns.len() {
            let cells = columns.iter().cloned().zip(record.iter().map(|cell| Value::String(cell.to_owned())));
            Ok(cells.collect())
        } else {
            Err(format!("row {number} has {} cells, and the first line names {}", record.len(), columns.len()))
        };
        rows.push(Row { number, fields });
    }
    Ok(RowTable { columns: Some(columns), rows, warnings: Vec::new() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parsed(text: &str, name: &str) -> RowTable {
        parse_rows(text.as_bytes(), Path::new(name)).unwrap()
    }

    fn fields(table: &RowTable) -> Vec<Result<Value, String>> {
        table.rows.iter().map(|r| r.fields.clone().map(Value::Object)).collect()
    }

    #[test]
    fn rows_are_told_by_their_columns_and_a_ragged_one_says_so() {
        let table = parsed("id;question\nq1;\"Why; how?\"\n;\nq2\nq3;When?\n", "asked.csv");
        assert_eq!(table.columns.as_deref(), Some(&["id".to_owned(), "question".to_owned()][..]));
        let expected = [
            Ok(json!({ "id": "q1", "question": "Why; how?" })),
            Err("row 2 has 1 cells, and the first line names 2".to_owned()),
            Ok(json!({ "id": "q3", "question": "When?" })),
        ];
        assert_eq!(fields(&table), expected);
    }

    #[test]
    fn json_lines_keep_their_types_and_a_bad_line_is_one_bad_row() {
        let table = parsed("{\"id\": 1, \"tags\": [\"a\"]}\n\n[1]\n{oops\n", "x.jsonl");
        let found = fields(&table);
        assert_eq!(found[0], Ok(json!({ "id": 1, "tags": ["a"] })));
        assert_eq!(found[1], Err("row 2 is no JSON object".into()));
        assert!(found[2].as_ref().unwrap_err().starts_with("row 3 is no JSON: "), "{found:?}");
        assert_eq!(parsed("{\"id\": 1}\n", "stdin").rows.len(), 1);
    }

    #[test]
    fn a_table_without_names_for_its_columns_is_refused() {
        for (text, told) in [("a,\n1,2\n", "column 2"), ("a,b,a\n1,2,3\n", "two columns called `a`: 1 and 3")] {
            let (_, detail) = parse_rows(text.as_bytes(), Path::new("t.csv")).unwrap_err();
            assert!(detail.contains(told), "{detail}");
        }
    }

    #[test]
    fn the_beginning_of_a_table_tells_its_columns() {
        assert_eq!(columns_of(b"id,question\nq1,wh", Path::new("t.csv")).unwrap(), ["id", "question"]);
        assert_eq!(columns_of(b"{\"id\":1}\n", Path::new("t.jsonl")), None);
    }
}
