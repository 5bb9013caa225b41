//! A file as it is once profile, parameters and command line have had their say, each value with where it comes from.
//! Returns text, prints nothing.

use super::check::Checked;
use super::overlay::{Origin, Origins};
use super::params::ParamOrigin;
use super::tables::{MODEL, RUN};
use super::tree::{Node, NodeValue, Position, SourceText};
use crate::spec::{KeySpec, ValueSpec};

/// Returns the resolved file as YAML, a comment behind each value.
pub fn config(checked: &Checked) -> String {
    let mut page = Page { text: String::new(), origins: &checked.origins, source: &checked.source };
    let file = checked.source.path.display();
    page.text.push_str(&format!("# {file}, resolved; behind each value is where it comes from\n"));
    for entry in checked
        .root
        .entries()
        .iter()
        .filter(|e| !["profiles", "params", "include", "labels", "step_lists"].contains(&e.key.as_str()))
    {
        let table = match entry.key.as_str() {
            "model" => Some(MODEL),
            "run" => Some(RUN),
            _ => None,
        };
        page.entry(0, &entry.key, &entry.value, table, &mut vec![entry.key.clone()]);
    }
    for (section, table) in [("model", MODEL), ("run", RUN)] {
        if checked.root.get(section).is_none() {
            page.text.push_str(&format!("{section}:\n"));
            page.defaults(1, table, None);
        }
    }
    if !checked.params.is_empty() {
        page.text.push_str("# parameters, and what they are\nparams:\n");
    }
    for param in &checked.params {
        let value = if param.is_secret { "(secret)".into() } else { param.value.to_string() };
        let origin = match &param.origin {
            ParamOrigin::CommandLine => "-p".to_owned(),
            ParamOrigin::Environment(name) => format!("environment: {name}"),
            ParamOrigin::Default(_)
                if page.origin(&["params".into(), param.name.clone(), "default".into()]).is_some() =>
            {
                page.origin(&["params".into(), param.name.clone(), "default".into()]).unwrap_or_default()
            }
            ParamOrigin::Default(at) => format!("default, {}", page.line_of(*at)),
            ParamOrigin::Nothing => "left out".into(),
        };
        page.line(1, &format!("{}: {{ value: {value} }}", param.name), &origin);
    }
    page.text
}

struct Page<'a> {
    text: String,
    origins: &'a Origins,
    source: &'a SourceText,
}

impl Page<'_> {
    fn line(&mut self, indent: usize, text: &str, origin: &str) {
        self.text.push_str(&format!("{}{text}  # {origin}\n", "  ".repeat(indent)));
    }

    /// Where a value stands: `line 3`, or `house.yaml, line 3` where that is another file.
    fn line_of(&self, at: Position) -> String {
        let place = self.source.place(at);
        if place.file == self.source.path {
            return format!("line {}", place.line);
        }
        format!("{}, line {}", place.file.display(), place.line)
    }

    /// What is known of a path or of anything above it.
    fn origin(&self, path: &[String]) -> Option<String> {
        let of = |path: &[String]| self.origins.iter().rev().find(|(p, _)| p == path).map(|(_, origin)| origin);
        (1..=path.len()).rev().find_map(|n| of(&path[..n])).map(|origin| match origin {
            Origin::Profile(name) => format!("profile {name}"),
            Origin::Set => "--set".into(),
            Origin::Source => "--source".into(),
        })
    }

    fn entry(
        &mut self,
        indent: usize,
        key: &str,
        node: &Node,
        table: Option<&'static [KeySpec]>,
        path: &mut Vec<String>,
    ) {
        let origin = self.origin(path).unwrap_or_else(|| self.line_of(node.at));
        match &node.value {
            NodeValue::Map(entries) if !entries.is_empty() || table.is_some() => {
                self.text.push_str(&format!("{}{}:\n", "  ".repeat(indent), scalar(key)));
                for entry in entries {
                    path.push(entry.key.clone());
                    let below = table.and_then(|t| t.iter().find(|k| k.name == entry.key)).and_then(nested);
                    self.entry(indent + 1, &entry.key, &entry.value, below, path);
                    path.pop();
                }
                if let Some(table) = table {
                    self.defaults(indent + 1, table, Some(node));
                }
            }
            NodeValue::Seq(items) if !items.is_empty() => {
                self.text.push_str(&format!("{}{}:\n", "  ".repeat(indent), scalar(key)));
                for (index, item) in items.iter().enumerate() {
                    // A step goes by its id, as `--set` names it.
                    let name = ["id", "name"].iter().find_map(|key| item.get(key).and_then(Node::as_str));
                    path.push(name.map_or_else(|| index.to_string(), str::to_owned));
                    self.item(indent + 1, item, path);
                    path.pop();
                }
            }
            _ => self.line(indent, &format!("{}: {}", scalar(key), flow(node)), &origin),
        }
    }

    fn item(&mut self, indent: usize, item: &Node, path: &mut Vec<String>) {
        match &item.value {
            NodeValue::Map(entries) if !entries.is_empty() => {
                let before = self.text.len();
                for entry in entries {
                    path.push(entry.key.clone());
                    self.entry(indent + 1, &entry.key, &entry.value, None, path);
                    path.pop();
                }
                // The first key stands behind the dash.
                let at = before + 2 * indent;
                self.text.replace_range(at..at + 2, "- ");
            }
            _ => {
                let origin = self.origin(path).unwrap_or_else(|| self.line_of(item.at));
                self.line(indent, &format!("- {}", flow(item)), &origin);
            }
        }
    }

    /// The keys of a table that nobody wrote and that have a value all the same.
    fn defaults(&mut self, indent: usize, table: &'static [KeySpec], node: Option<&Node>) {
        for spec in table.iter().filter(|k| node.is_none_or(|n| n.get(k.name).is_none())) {
            match (spec.default, nested(spec)) {
                (Some("{}"), Some(keys)) => {
                    self.text.push_str(&format!("{}{}:\n", "  ".repeat(indent), spec.name));
                    self.defaults(indent + 1, keys, None);
                }
                (Some(default), _) => self.line(indent, &format!("{}: {default}", spec.name), "default"),
                (None, _) => {}
            }
        }
    }
}

fn nested(spec: &KeySpec) -> Option<&'static [KeySpec]> {
    match spec.value {
        ValueSpec::Object(keys) => Some(keys),
        _ => None,
    }
}

/// A value on one line; JSON is YAML.
fn flow(node: &Node) -> String {
    match &node.value {
        NodeValue::Str(text) => scalar(text),
        _ => super::shape::to_json(node).to_string(),
    }
}

/// Text as it can stand in YAML: bare where it is a plain word, else in quotes.
fn scalar(text: &str) -> String {
    let is_plain = !text.is_empty()
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/'))
        && !matches!(text, "true" | "false" | "null");
    if is_plain { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}
