//! Golden files: what should come out, written by people. YAML or JSON with one document each, JSON lines and CSV with
//! one in each line.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};

use crate::pipeline::file;
use crate::pipeline::shape::to_json;

/// What should come out of one document.
#[derive(Clone, Debug, PartialEq)]
pub struct Golden {
    pub document: String, // its path, name, stem or id
    pub from: String,     // the file, and its line
    pub steps: BTreeMap<String, Value>,
}

/// Bytes of a golden file.
pub const GOLDEN_BYTES_MAX: usize = 64 << 20;

/// Keys that name the document, in the order in which they are looked for.
const NAMES: &[&str] = &["document", "doc", "path", "file", "id", "stem"];

/// Reads one golden file for these steps. Where an entry names no step, all of it is of the one step there is.
pub fn read(path: &Path, shown: &str, bytes: &[u8], steps: &[String]) -> Result<Vec<Golden>, String> {
    if bytes.len() > GOLDEN_BYTES_MAX {
        return Err(format!("{shown}: it has {} bytes, more than {GOLDEN_BYTES_MAX} (golden_bytes_max)", bytes.len()));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| format!("{shown}: it is not UTF-8"))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
    let mut all = Vec::new();
    match extension.as_str() {
        "csv" => {
            let mut reader = csv::Reader::from_reader(text.as_bytes());
            let header = reader.headers().map_err(|e| format!("{shown}: {e}"))?.clone();
            for (row, record) in reader.records().enumerate() {
                let from = format!("{shown}:{}", row + 2);
                let record = record.map_err(|e| format!("{from}: {e}"))?;
                let cells = header.iter().zip(record.iter()).map(|(name, cell)| (name.trim().to_owned(), cell));
                all.push(entry(of_cells(cells), None, from, steps)?);
            }
        }
        "jsonl" | "ndjson" => {
            for (number, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
                let from = format!("{shown}:{}", number + 1);
                let value: Value = serde_json::from_str(line).map_err(|e| format!("{from}: {e}"))?;
                all.push(entry(value, None, from, steps)?);
            }
        }
        "json" | "yaml" | "yml" => {
            let value = if extension == "json" {
                serde_json::from_str(text).map_err(|e| format!("{shown}: {e}"))?
            } else {
                let (_, node, faults) = file::parse(path, bytes).map_err(|fault| told(shown, &fault))?;
                if let Some(fault) = faults.first() {
                    return Err(told(shown, fault));
                }
                to_json(&node)
            };
            match value {
                Value::Array(items) => {
                    for (i, item) in items.into_iter().enumerate() {
                        all.push(entry(item, None, format!("{shown}[{i}]"), steps)?);
                    }
                }
                one => all.push(entry(one, Some(stem), shown.to_owned(), steps)?),
            }
        }
        _ => return Err(format!("{shown}: a golden file ends in .yaml, .json, .jsonl or .csv")),
    }
    Ok(all)
}

fn told(shown: &str, fault: &crate::diagnostic::Diagnostic) -> String {
    let line = fault.place.as_ref().map(|p| format!(":{}", p.line)).unwrap_or_default();
    format!("{shown}{line}: {}", fault.message)
}

/// `a.b` is the field `b` of `a`. An empty cell is not stated; lists and mappings are written as JSON.
fn of_cells<'a>(cells: impl Iterator<Item = (String, &'a str)>) -> Value {
    let mut whole = Map::new();
    for (name, cell) in cells {
        let value = match cell.trim() {
            "" => Value::Null,
            json if json.starts_with(['[', '{']) => serde_json::from_str(json).unwrap_or_else(|_| cell.into()),
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            text => text.into(),
        };
        match name.split_once('.') {
            Some((step, field)) => {
                let fields = whole.entry(step).or_insert_with(|| Value::Object(Map::new()));
                if let Some(fields) = fields.as_object_mut() {
                    fields.insert(field.to_owned(), value);
                }
            }
            None => {
                whole.insert(name, value);
            }
        }
    }
    Value::Object(whole)
}

fn entry(value: Value, stem: Option<String>, from: String, steps: &[String]) -> Result<Golden, String> {
    let Value::Object(mut map) = value else { return Err(format!("{from}: it is no mapping")) };
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let named = NAMES.iter().filter(|n| !steps.iter().any(|s| s == *n)).find_map(|n| text(map.get(*n)?));
    let Some(document) = named.or(stem) else {
        return Err(format!("{from}: it does not say of which document it is: `document` is missing"));
    };
    let inner = match map.shift_remove("steps") {
        Some(Value::Object(inner)) => inner,
        _ => map,
    };
    let mut found: BTreeMap<String, Value> =
        inner.iter().filter(|(key, _)| steps.contains(key)).map(|(k, v)| (k.clone(), v.clone())).collect();
    if found.is_empty() {
        let [only] = steps else {
            return Err(format!("{from}: it names none of the steps that are measured: {}", steps.join(", ")));
        };
        let fields = inner.into_iter().filter(|(key, _)| !NAMES.contains(&key.as_str()) && key != "sha256");
        found.insert(only.clone(), Value::Object(fields.collect()));
    }
    Ok(Golden { document, from, steps: found })
}

/// Whether a name in a golden file means this document: its path, the end of it, its name, its stem, or what follows `#`.
pub fn means(name: &str, document: &str) -> bool {
    let file = document.rsplit('/').next().unwrap_or(document);
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    let row = document.rsplit_once('#').map(|(_, row)| row);
    name == document || name == file || name == stem || Some(name) == row || document.ends_with(&format!("/{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn steps(names: &[&str]) -> Vec<String> {
        names.iter().map(|n| n.to_string()).collect()
    }

    #[test]
    fn a_golden_file_is_yaml_json_lines_or_csv() {
        let yaml =
            read(Path::new("g/call.yaml"), "g/call.yaml", b"title: x\nkind: { label: a }\n", &steps(&["kind", "y"]));
        let expected = Golden {
            document: "call".into(),
            from: "g/call.yaml".into(),
            steps: [("kind".to_owned(), json!({ "label": "a" }))].into(),
        };
        assert_eq!(yaml.unwrap(), [expected.clone()]);
        let csv =
            read(Path::new("g.csv"), "g.csv", b"document,kind.label,kind.n\ncall,a,\n", &steps(&["kind"])).unwrap();
        assert_eq!(csv[0].steps["kind"], json!({ "label": "a", "n": null }));
        let csv = read(Path::new("g.csv"), "g.csv", b"document,label\ncall,a\n", &steps(&["kind"])).unwrap();
        assert_eq!((csv[0].steps.clone(), csv[0].from.as_str()), (expected.steps.clone(), "g.csv:2"));
        let line = br#"{"document":"call","sha256":"ab","steps":{"kind":{"label":"a"}},"review":{}}"#;
        let lines = read(Path::new("g.jsonl"), "g.jsonl", line, &steps(&["kind", "y"])).unwrap();
        assert_eq!(lines[0].steps, expected.steps);
    }

    #[test]
    fn what_cannot_be_used_says_where_it_stands() {
        let lines =
            |text: &str| read(Path::new("g.jsonl"), "g.jsonl", text.as_bytes(), &steps(&["a", "b"])).unwrap_err();
        assert!(lines("{}\n{").contains("g.jsonl:1"));
        assert!(lines("{\"a\":1}").contains("of which document"));
        assert!(lines("{\"document\":\"x\",\"c\":1}").contains("none of the steps"));
        assert!(read(Path::new("g.txt"), "g.txt", b"", &steps(&["a"])).unwrap_err().contains(".yaml"));
        assert!(read(Path::new("g.yaml"), "g.yaml", b"a: [", &steps(&["a"])).unwrap_err().contains("g.yaml:1"));
    }

    #[test]
    fn a_document_is_known_by_its_path_its_name_or_its_stem() {
        for name in ["in/b/call.vtt", "call.vtt", "call", "b/call.vtt"] {
            assert!(means(name, "in/b/call.vtt"), "{name}");
        }
        assert!(means("q1", "questions.csv#q1") && !means("all.vtt", "in/b/call.vtt") && !means("b", "in/b/call.vtt"));
    }
}
