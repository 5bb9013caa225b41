//! The section `tests`: documents, scripted answers and what must hold, checked with everything else.

use std::path::PathBuf;

use serde_json::{Map, Value};

use super::slots;
use crate::diagnostic::Diagnostic;
use crate::inference::engine::Scripted;
use crate::pipeline::files::read_text;
use crate::pipeline::plan::{TestDocument, TestPlan, TestText};
use crate::pipeline::scope::{Scope, Seat};
use crate::pipeline::shape::{Shaper, Surroundings, to_json};
use crate::pipeline::tables::TEST;
use crate::pipeline::tree::{Node, NodeValue, quoted};

/// Returns the tests that are without fault.
pub fn plan(
    around: &Surroundings<'_>,
    section: Option<&Node>,
    scope: &Scope<'_>,
    faults: &mut Vec<Diagnostic>,
) -> Vec<TestPlan> {
    let mut plans = Vec::new();
    let Some(section) = section else { return plans };
    let NodeValue::Seq(items) = &section.value else {
        let message = format!("`tests` must be a list, not {}", section.describe());
        faults.push(Diagnostic::error(message).at(section.at.in_file(&around.source.path)));
        return plans;
    };
    for (i, node) in items.iter().enumerate() {
        let mut shaper = Shaper::new(around, format!("tests[{i}]"));
        let object = shaper.object(node, &TEST.iter().collect::<Vec<_>>(), &mut Vec::new());
        // What must hold is asked at the end, as an output would be.
        let seat = match node.get("documents").is_some() || scope.steps.iter().any(|s| s.per.is_whole()) {
            true => Seat::Trial { over_all: node.get("documents").is_some() },
            false => Seat::Output { has_item: false },
        };
        slots::check(&mut shaper, scope, |_| seat);
        let plan = object.and_then(|object| test(&mut shaper, node, &object));
        if let Some(twin) = plan.as_ref().and_then(|p| plans.iter().position(|q: &TestPlan| q.name == p.name)) {
            let message = format!("two tests are called {}: tests[{twin}] and tests[{i}]", quoted(&plans[twin].name));
            shaper.fault(node.at, message);
        }
        faults.append(&mut shaper.faults);
        plans.extend(plan);
    }
    plans
}

fn test(shaper: &mut Shaper<'_>, node: &Node, object: &Map<String, Value>) -> Option<TestPlan> {
    let at = |key: &str| node.get(key).map_or(node.at, |n| n.at);
    let (documents, is_corpus) = match node.get("documents") {
        None => (vec![document(shaper, node, object)?], false),
        Some(list) => (documents(shaper, list)?, true),
    };
    if let Some(written) =
        node.get("documents").and_then(|_| ["file", "text", "row", "document"].into_iter().find_map(|k| node.get(k)))
    {
        let message = format!("`{}` has `documents`, and a document beside them", shaper.base);
        shaper.fault(written.at, message);
    }
    let answers = match object.get("answers") {
        Some(Value::String(file)) => {
            let path = shaper.around.folder.join(file);
            let read = read_text(shaper.around.files, &path);
            let parsed = read.and_then(|text| serde_json::from_str(&text).map_err(|e| format!("it is not JSON: {e}")));
            match parsed {
                Ok(value) => value,
                Err(reason) => {
                    let message = format!("`{}.answers` names the file {}, but {reason}", shaper.base, quoted(file));
                    shaper.fault(at("answers"), message);
                    return None;
                }
            }
        }
        Some(answers) => answers.clone(),
        None => Value::Array(Vec::new()),
    };
    if let Err(error) = Scripted::from_value(answers.clone()) {
        shaper.fault(at("answers"), format!("`{}.answers`: {error}", shaper.base));
        return None;
    }
    let expect = object.get("expect")?.as_array()?.iter().filter_map(|e| e.as_str().map(str::to_owned)).collect();
    Some(TestPlan { name: object.get("name")?.as_str()?.to_owned(), documents, is_corpus, answers, expect })
}

/// The keys of one document of several.
static DOCUMENT: &[&str] = &["file", "text", "row", "document"];

/// Returns the documents of a list, each as one alone would be written.
fn documents(shaper: &mut Shaper<'_>, list: &Node) -> Option<Vec<TestDocument>> {
    let NodeValue::Seq(items) = &list.value else {
        let message = format!("`{}.documents` must be a list, not {}", shaper.base, list.describe());
        shaper.fault(list.at, message);
        return None;
    };
    let table: Vec<_> = TEST.iter().filter(|k| DOCUMENT.contains(&k.name)).collect();
    let mut found: Vec<TestDocument> = Vec::new();
    for (i, item) in items.iter().enumerate() {
        let object = shaper.object(item, &table, &mut vec!["documents".into(), i.to_string()])?;
        let mut document = document(shaper, item, &object)?;
        if found.iter().any(|d| d.name == document.name) {
            document.name = format!("{}-{}", i + 1, document.name);
        }
        found.push(document);
    }
    Some(found)
}

fn document(shaper: &mut Shaper<'_>, node: &Node, object: &Map<String, Value>) -> Option<TestDocument> {
    let text = |key: &str| object.get(key).and_then(Value::as_str);
    let text = match (text("file"), node.get("text"), node.get("row")) {
        (Some(file), None, None) => TestText::File(PathBuf::from(file)),
        (None, Some(Node { value: NodeValue::Str(words), .. }), None) => TestText::Inline(words.clone()),
        (None, Some(other), None) => {
            let message = format!("`{}.text` must be text, not {}", shaper.base, other.describe());
            shaper.fault(other.at, message);
            return None;
        }
        (None, None, Some(row)) if matches!(row.value, NodeValue::Map(_)) => TestText::Row(to_json(row)),
        (None, None, Some(row)) => {
            let message =
                format!("`{}.row` must be a mapping of columns to values, not {}", shaper.base, row.describe());
            shaper.fault(row.at, message);
            return None;
        }
        _ => {
            let message = format!("`{}` needs either `file`, `text` or `row`", shaper.base);
            shaper.fault(node.at, message).hints.push("the document the pipeline is tried on".into());
            return None;
        }
    };
    let name = match (&text, object.get("document").and_then(Value::as_str)) {
        (_, Some(name)) => name.to_owned(),
        (TestText::File(path), None) => path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        (TestText::Inline(_), None) => "document.txt".into(),
        (TestText::Row(row), None) => row.get("id").and_then(Value::as_str).unwrap_or("row").to_owned(),
    };
    Some(TestDocument { name, text })
}
