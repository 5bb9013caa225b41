//! The section `outputs`: what is written, and where.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::whole::{self, Whole};
use super::{contracts, slots};
use crate::diagnostic::Diagnostic;
use crate::pipeline::plan::{OnRemoved, OutputContent, OutputFormat, OutputPlan, Per, StepPlan};
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
    (schemas, steps): (&contracts::Schemas<'_>, &[StepPlan]),
    (used, whole): (&mut [bool], &mut Whole),
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
        let per = node.get("per").and_then(Node::as_str).and_then(Per::named).unwrap_or_default();
        whole.take(&mut shaper, node, per);
        shaper.slots.retain(|slot| !whole::is_group_step(slot, scope.steps));
        let reads = slots::check(&mut shaper, scope, |slot| match (slot.path.first().map(String::as_str), per) {
            (Some("group_by"), _) => Seat::Kept,
            (Some("path"), Per::Document) => Seat::Path { has_document },
            (Some("path"), per) => Seat::WholePath { per: if has_document { per } else { Per::Document } },
            (Some("explode"), Per::Document) => Seat::Output { has_item: false },
            (Some("explode"), per) => Seat::Whole { per, has_item: false },
            (_, Per::Document) if is_review => Seat::Review,
            (_, Per::Document) => Seat::Output { has_item },
            (_, per) => Seat::Whole { per, has_item },
        });
        reads.iter().for_each(|r| used[*r] = true);
        if per.is_whole() {
            whole.read(&reads);
        }
        if is_review && per.is_whole() {
            let at = node.get("per").map_or(node.at, |n| n.at);
            shaper.fault(at, "a review is of each document: it has no `per`");
        }
        let plan = object.and_then(|object| output(&mut shaper, node, &object, scope, &mut names, &mut paths));
        let plan = plan.and_then(|plan| {
            let contract = contracts::read(&mut shaper, node, schemas)?;
            let is_markup = is_markup(&mut shaper, node, &plan, steps)?;
            let reads = reads.iter().map(|r| scope.steps[*r].id.clone()).collect();
            Some(OutputPlan { per, reads, contract, is_markup, ..plan })
        });
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
        let per = text("per").as_deref().and_then(Per::named).unwrap_or_default();
        path_faults(shaper, path, content, per, at("path"), paths);
    }
    let is_text = matches!(content, Some(OutputContent::Text(_)));
    parquet_fault(shaper, format, at("path"));
    if let (Some(format), Some(_), false) = (format, &content, is_review) {
        let fits = format.is_text() == is_text;
        if !fits {
            let (what, needs) = if is_text {
                ("`content` is written as", "markdown, text or html")
            } else {
                ("`fields` are written as", "jsonl, csv or parquet")
            };
            let message = format!("{what} {needs}, and `{}` is {}", path.as_deref().unwrap_or_default(), format.name());
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
    Some(OutputPlan {
        name,
        path: path?,
        format: format?,
        content: content?,
        only: text("only"),
        per: Per::Document,
        reads: Vec::new(),
        on_removed: text("on_removed").as_deref().and_then(OnRemoved::named),
        contract: None,
        is_markup: false,
    })
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
            for key in ["key", "explode", "contract"] {
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
    per: Per,
    at: Position,
    paths: &mut BTreeMap<String, Position>,
) {
    let names =
        |root: &str| references::of_template(path).is_ok_and(|found| found.names.iter().any(|n| n.path[0] == root));
    let is_text = matches!(content, OutputContent::Text(_));
    if is_text && per == Per::Document && !names("doc") && !names("row") {
        let message = format!("every document would write the same file {}", quoted(path));
        shaper.fault(at, message).hints.push("name the document in it: {{ doc.stem }}".into());
    }
    if is_text && per == Per::Group && !names("group") {
        let message = format!("every group would write the same file {}", quoted(path));
        shaper.fault(at, message).hints.push("name the group in it: {{ group.key }}".into());
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
        (Some("html"), _) | (None, Some("html" | "htm")) => Some(OutputFormat::Html),
        (Some("parquet"), _) | (None, Some("parquet")) => Some(OutputFormat::Parquet),
        _ => {
            let message = format!("the path {} does not say its format", quoted(path));
            let hint = "end it in .md, .txt, .html, .jsonl, .csv or .parquet, or add `format`";
            shaper.fault(at, message).hints.push(hint.into());
            None
        }
    }
}

/// Whether the content of an HTML page is HTML already: what a `render` gives that escapes. Where one writes tags and does
/// not escape, that is told: its tags would be escaped, or the words of a document would not.
fn is_markup(shaper: &mut Shaper<'_>, node: &Node, plan: &OutputPlan, steps: &[StepPlan]) -> Option<bool> {
    let (OutputFormat::Html, OutputContent::Text(content)) = (plan.format, &plan.content) else { return Some(false) };
    let Some(step) = content.trim().strip_prefix("steps.").and_then(|id| steps.iter().find(|s| s.id == id)) else {
        return Some(false);
    };
    if step.kind.name != "render" {
        return Some(false);
    }
    if step.is_markup() {
        return Some(true);
    }
    if step.resolved.to_string().contains("</") {
        let at = node.get("content").map_or(node.at, |n| n.at);
        let message =
            format!("the page is HTML, and `steps.{}` writes tags without escaping what it puts between them", step.id);
        shaper.fault(at, message).hints.push(format!("add to `{}`: escape: html", step.id));
        return None;
    }
    Some(false)
}

/// Parquet is a part of the program only where it was built with it.
fn parquet_fault(shaper: &mut Shaper<'_>, format: Option<OutputFormat>, at: Position) {
    if format == Some(OutputFormat::Parquet) && !cfg!(feature = "parquet") {
        let message = "this quarry was built without Parquet";
        shaper.fault(at, message).hints.push("build it with --features parquet, or write .jsonl".into());
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
        format.name()
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
