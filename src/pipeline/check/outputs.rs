//! The section `outputs`: what is written, and where.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::slots;
use crate::diagnostic::Diagnostic;
use crate::pipeline::plan::{OutputContent, OutputFormat, OutputPlan};
use crate::pipeline::references;
use crate::pipeline::scope::{Scope, Seat};
use crate::pipeline::shape::{Shaper, Surroundings};
use crate::pipeline::tables::OUTPUT;
use crate::pipeline::tree::{Node, NodeValue, Position, quoted};

/// Returns the outputs that are without fault, and marks the steps that they read.
pub fn plan(
    around: &Surroundings<'_>,
    section: Option<&Node>,
    scope: &Scope<'_>,
    used: &mut [bool],
    faults: &mut Vec<Diagnostic>,
) -> Vec<OutputPlan> {
    let mut plans: Vec<OutputPlan> = Vec::new();
    let Some(section) = section else { return plans };
    let NodeValue::Seq(items) = &section.value else {
        let message = format!("`outputs` must be a list, not {}", section.describe());
        faults.push(
            Diagnostic::error(message)
                .at(section.at.in_file(&around.source.path))
                .hint("write: - { path: \"out/{{ doc.stem }}.md\", content: steps.minutes }"),
        );
        return plans;
    };
    let mut names = BTreeMap::new();
    let mut paths = BTreeMap::new();
    for (i, node) in items.iter().enumerate() {
        let mut shaper = Shaper::new(around, format!("outputs[{i}]"));
        let object = shaper.object(node, &OUTPUT.iter().collect::<Vec<_>>(), &mut Vec::new());
        let has_item = node.get("explode").is_some();
        let is_review = node.get("review").is_some();
        let has_document = node.get("fields").is_none() && !is_review;
        let reads = slots::check(&mut shaper, scope, |slot| match slot.path.first().map(String::as_str) {
            Some("path") => Seat::Path { has_document },
            Some("explode") => Seat::Output { has_item: false },
            _ if is_review => Seat::Review,
            _ => Seat::Output { has_item },
        });
        reads.iter().for_each(|r| used[*r] = true);
        let plan = object.and_then(|object| output(&mut shaper, node, &object, scope, &mut names, &mut paths));
        faults.append(&mut shaper.faults);
        plans.extend(plan);
    }
    plans
}

fn output(
    shaper: &mut Shaper<'_>,
    node: &Node,
    object: &Map<String, Value>,
    scope: &Scope<'_>,
    names: &mut BTreeMap<String, Position>,
    paths: &mut BTreeMap<String, Position>,
) -> Option<OutputPlan> {
    let text = |key: &str| object.get(key).and_then(Value::as_str).map(str::to_owned);
    let at = |key: &str| node.get(key).map_or(node.at, |n| n.at);
    let path = text("path");
    let is_review = node.get("review").is_some();
    let content = if is_review { review(shaper, node, object, scope) } else { content(shaper, node, object) };
    let format = match path.as_deref() {
        Some(path) if is_review => review_format(shaper, path, at("path"), node.get("format")),
        Some(path) => format(shaper, path, at("path"), text("format").as_deref()),
        None => None,
    };

    if let (Some(path), Some(content)) = (&path, &content) {
        path_faults(shaper, path, content, at("path"), paths);
    }
    let is_text = matches!(content, Some(OutputContent::Text(_)));
    if let (Some(format), Some(_), false) = (format, &content, is_review) {
        let fits = matches!(format, OutputFormat::Markdown | OutputFormat::Text) == is_text;
        if !fits {
            let (what, needs) = if is_text {
                ("`content` is written as", "markdown or text")
            } else {
                ("`fields` are written as", "jsonl or csv")
            };
            let message =
                format!("{what} {needs}, and `{}` is {}", path.as_deref().unwrap_or_default(), format_word(format));
            shaper.fault(at("path"), message);
        }
    }
    let name = match text("name") {
        Some(name) => {
            if let Some(first) = names.insert(name.clone(), at("name")) {
                let hint = format!("the first one stands at line {}", first.line);
                shaper.fault(at("name"), format!("two outputs are called {}", quoted(&name))).hints.push(hint);
            }
            name
        }
        None => free_name(path.as_deref()?, format?, names, node.at),
    };
    Some(OutputPlan { name, path: path?, format: format?, content: content?, only: text("only") })
}

fn content(shaper: &mut Shaper<'_>, node: &Node, object: &Map<String, Value>) -> Option<OutputContent> {
    let text = |key: &str| object.get(key).and_then(Value::as_str).map(str::to_owned);
    match (node.get("content"), node.get("fields")) {
        (Some(content), Some(_)) => {
            let message = format!("`{}` has both `content` and `fields`", shaper.base);
            shaper.fault(content.at, message).hints.push("one text per document, or one record: two outputs".into());
            None
        }
        (None, None) => {
            let message = format!("`{}` has neither `content` nor `fields`", shaper.base);
            let hint = "`content: steps.x` writes one text per document, `fields: { … }` one record, `review` one page";
            shaper.fault(node.at, message).hints.push(hint.into());
            None
        }
        (Some(_), None) => {
            for key in ["key", "explode"] {
                if let Some(written) = node.get(key) {
                    let message = format!("`{key}` goes with `fields`, and `{}` has `content`", shaper.base);
                    shaper.fault(written.at, message);
                }
            }
            text("content").map(OutputContent::Text)
        }
        (None, Some(fields)) => {
            if fields.value == NodeValue::Map(Vec::new()) {
                shaper.fault(fields.at, format!("`{}.fields` names no field", shaper.base));
            }
            let fields = object.get("fields")?.as_object()?;
            let fields = fields.iter().filter_map(|(name, e)| Some((name.clone(), e.as_str()?.to_owned())));
            Some(OutputContent::Records { fields: fields.collect(), key: text("key"), explode: text("explode") })
        }
    }
}

/// The steps of a review page: each stands by its name alone, so that a correction has a place in a golden file.
fn review(
    shaper: &mut Shaper<'_>,
    node: &Node,
    object: &Map<String, Value>,
    scope: &Scope<'_>,
) -> Option<OutputContent> {
    for key in ["content", "fields", "key", "explode"] {
        if let Some(written) = node.get(key) {
            let message = format!("`{}` has `review`, which stands without `{key}`", shaper.base);
            shaper.fault(written.at, message).hints.push("write two outputs".into());
            return None;
        }
    }
    let written = node.get("review")?;
    let mut steps = Vec::new();
    for expression in object.get("review")?.as_array()?.iter().filter_map(Value::as_str) {
        let step = expression.trim().strip_prefix("steps.").and_then(|id| scope.steps.iter().find(|s| s.id == id));
        match step {
            Some(step) => steps.push((step.id.clone(), step.kind.map_or("", |k| k.name))),
            // A step that does not exist has been told.
            None if expression.starts_with("steps.") && !expression[6..].contains(|c: char| !is_word(c)) => {}
            None => {
                let message =
                    format!("`{}.review` lists steps such as `steps.x`, not {}", shaper.base, quoted(expression));
                shaper.fault(written.at, message);
            }
        }
    }
    if object["review"] == Value::Array(Vec::new()) {
        shaper.fault(written.at, format!("`{}.review` names no step", shaper.base));
    }
    (!steps.is_empty()).then_some(OutputContent::Review { steps })
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn review_format(shaper: &mut Shaper<'_>, path: &str, at: Position, word: Option<&Node>) -> Option<OutputFormat> {
    if let Some(word) = word {
        let message = format!("`{}.format` has no choice here: `review` is an HTML page", shaper.base);
        shaper.fault(word.at, message).hints.push("leave it out".into());
        return None;
    }
    if !path.ends_with(".html") && !path.ends_with(".htm") {
        let message = format!("`review` is an HTML page, and the path {} does not end in .html", quoted(path));
        shaper.fault(at, message);
        return None;
    }
    Some(OutputFormat::Review)
}

/// One text per document needs a path per document, and no two outputs may share theirs.
fn path_faults(
    shaper: &mut Shaper<'_>,
    path: &str,
    content: &OutputContent,
    at: Position,
    paths: &mut BTreeMap<String, Position>,
) {
    let names_document =
        references::of_template(path).is_ok_and(|found| found.names.iter().any(|n| n.path[0] == "doc"));
    if matches!(content, OutputContent::Text(_)) && !names_document {
        let message = format!("every document would write the same file {}", quoted(path));
        shaper.fault(at, message).hints.push("name the document in it: {{ doc.stem }}".into());
    }
    if let Some(first) = paths.insert(path.to_owned(), at) {
        let hint = format!("the first one stands at line {}", first.line);
        shaper.fault(at, format!("two outputs write {}", quoted(path))).hints.push(hint);
    }
}

fn format(shaper: &mut Shaper<'_>, path: &str, at: Position, word: Option<&str>) -> Option<OutputFormat> {
    let extension = path.rsplit('/').next().and_then(|file| file.rsplit_once('.')).map(|(_, e)| e.to_ascii_lowercase());
    match (word, extension.as_deref()) {
        (Some("markdown"), _) | (None, Some("md" | "markdown")) => Some(OutputFormat::Markdown),
        (Some("text"), _) | (None, Some("txt")) => Some(OutputFormat::Text),
        (Some("jsonl"), _) | (None, Some("jsonl")) => Some(OutputFormat::Jsonl),
        (Some("csv"), _) | (None, Some("csv")) => Some(OutputFormat::Csv),
        _ => {
            let message = format!("the path {} does not say its format", quoted(path));
            let hint = "end it in .md, .txt, .jsonl or .csv, or add `format`";
            shaper.fault(at, message).hints.push(hint.into());
            None
        }
    }
}

fn format_word(format: OutputFormat) -> &'static str {
    match format {
        OutputFormat::Markdown => "markdown",
        OutputFormat::Text => "text",
        OutputFormat::Jsonl => "jsonl",
        OutputFormat::Csv => "csv",
        OutputFormat::Review => "review",
    }
}

/// Returns a name for an output that has none: that of its file, or what it is.
fn free_name(path: &str, format: OutputFormat, names: &mut BTreeMap<String, Position>, at: Position) -> String {
    let file = path.rsplit('/').next().unwrap_or_default();
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    let plain = !stem.is_empty() && !references::looks_like_template(path.rsplit('/').next().unwrap_or_default());
    let base = if plain {
        stem
    } else if format == OutputFormat::Markdown {
        "page"
    } else {
        format_word(format)
    };
    let mut name = base.to_owned();
    for n in 2.. {
        if !names.contains_key(&name) {
            break;
        }
        name = format!("{base}-{n}");
    }
    names.insert(name.clone(), at);
    name
}
