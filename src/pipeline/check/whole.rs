//! What is done over all documents, or over groups of them: how they are grouped, and what of each document it takes.

use std::collections::BTreeSet;

use crate::pipeline::plan::{Grouping, Per};
use crate::pipeline::scope::{KnownStep, Scope};
use crate::pipeline::shape::{Shaper, Slot};
use crate::pipeline::tree::{Node, Position, quoted};

/// Verbs that read the text of a document: over several, they must be told which.
const READS_TEXT: &[&str] = &["summarize", "extract", "classify", "split"];

/// What has been found so far.
#[derive(Default)]
pub struct Whole {
    grouping: Option<(String, Position)>,
    first_group: Option<Position>, // of a `per: group`
    texts: Vec<String>,            // templates and expressions over several documents
    reads: BTreeSet<usize>,
}

impl Whole {
    /// Takes in a step or an output: its grouping, and what its templates and expressions say.
    pub fn take(&mut self, shaper: &mut Shaper<'_>, node: &Node, per: Per) {
        let written = node.get("group_by");
        match (per, written) {
            (Per::Group, Some(by)) => match (&self.grouping, by.as_str()) {
                (Some((known, first)), Some(text)) if known.trim() != text.trim() => {
                    let first = shaper.around.source.place(*first);
                    let message = format!(
                        "`{}` groups by {}, and the file already by {}",
                        shaper.base,
                        quoted(text),
                        quoted(known)
                    );
                    let hint = format!("a file has one grouping, said at line {}", first.line);
                    shaper.fault(by.at, message).hints.push(hint);
                }
                (None, Some(text)) => self.grouping = Some((text.to_owned(), by.at)),
                _ => {}
            },
            (Per::Group, None) => {
                let at = node.get("per").map_or(node.at, |n| n.at);
                self.first_group.get_or_insert(at);
            }
            (_, Some(by)) => {
                let message = format!("`{}` has `group_by`, and is not `per: group`", shaper.base);
                shaper.fault(by.at, message);
            }
            _ => {}
        }
        if per.is_whole() {
            self.texts.extend(shaper.slots.iter().map(|slot| slot.text.clone()));
        }
    }

    /// Notes the steps that something over several documents reads.
    pub fn read(&mut self, steps: &[usize]) {
        self.reads.extend(steps);
    }

    /// Returns the grouping, and the ids of the steps whose values are kept of each document.
    pub fn finish(self, shaper: &mut Shaper<'_>, scope: &Scope<'_>) -> (Option<Grouping>, Vec<String>) {
        if let (Some(at), None) = (self.first_group, &self.grouping) {
            shaper
                .fault(at, "`per: group` does not say what the documents of a group share")
                .hints
                .push("write: group_by: doc.meta.customer, or group_by: steps.<id of a group>".into());
        }
        let grouping = self.grouping.map(|(text, _)| match group_step(&text, scope.steps) {
            Some(index) => Grouping::Of(scope.steps[index].id.clone()),
            None => Grouping::By(text),
        });
        let is_kept = |(index, step): &(usize, &KnownStep)| {
            !step.per.is_whole() && (self.reads.contains(index) || self.texts.iter().any(|t| mentions(t, &step.id)))
        };
        let kept = scope.steps.iter().enumerate().filter(is_kept).map(|(_, s)| s.id.clone()).collect();
        (grouping, kept)
    }
}

/// Returns the step over all documents whose groups an expression names: `steps.<id>` and nothing else.
pub fn group_step(expression: &str, steps: &[KnownStep]) -> Option<usize> {
    let id = expression.trim().strip_prefix("steps.")?;
    steps.iter().position(|s| s.id == id && s.per == Per::Corpus && s.kind.is_some_and(|k| k.name == "group"))
}

/// Whether a slot is a `group_by` that names such a step: it is no expression over a document.
pub fn is_group_step(slot: &Slot, steps: &[KnownStep]) -> bool {
    slot.path.first().is_some_and(|key| key == "group_by") && group_step(&slot.text, steps).is_some()
}

/// Whether a text may take a step's value from a document of the corpus: better one too many than one that is missing.
fn mentions(text: &str, id: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices("steps").any(|(at, word)| {
        let rest = text[at + word.len()..].trim_start();
        match rest.strip_prefix('.') {
            Some(name) => name.strip_prefix(id).is_some_and(|after| !after.starts_with(is_word)),
            None => rest.starts_with('[') || rest.is_empty() || !rest.starts_with(is_word),
        }
    })
}

/// Tells what is wrong with a step's `per`, `over` and `foreach` together.
pub fn per_faults(shaper: &mut Shaper<'_>, node: &Node, scope: &Scope<'_>) {
    let Some(per) = node.get("per") else { return };
    let Some(word) = per.as_str() else { return };
    let over = node.get("over");
    match word {
        "chunk" if over.is_none() => {
            let message = format!("`{}` is done per chunk and does not say of which chunks", shaper.base);
            shaper.fault(per.at, message).hints.push("write: over: steps.<id of a split>.chunks".into());
        }
        "row" if scope.rows.is_empty() => {
            let message = format!("`{}` is done per row, and no source has `rows`", shaper.base);
            shaper.fault(per.at, message).hints.push("write under `sources`: asked: { rows: asked.csv }".into());
        }
        "row" => row_faults(shaper, per, over, scope),
        "group" | "corpus" => {
            let verb = node.get("use").and_then(Node::as_str).unwrap_or_default();
            if READS_TEXT.contains(&verb) && over.is_none() {
                let message =
                    format!("`{}` is done over several documents and does not say what it reads", shaper.base);
                shaper.fault(per.at, message).hints.push("write: over: steps.<id>, the texts it reads".into());
            }
        }
        _ => {}
    }
    let is_once = ["document", "group", "corpus"].contains(&word);
    if let Some(foreach) = node.get("foreach").filter(|_| !is_once) {
        let message = format!("`{}` is done both per {word} and for each item of a list", shaper.base);
        shaper.fault(foreach.at, message).hints.push("one of `per` and `foreach` is meant".into());
    }
}

fn row_faults(shaper: &mut Shaper<'_>, per: &Node, over: Option<&Node>, scope: &Scope<'_>) {
    let names = || scope.rows.iter().map(|r| r.name.as_str());
    match over {
        None if scope.row_documents => {}
        None => {
            let message = format!("`{}` is done per row and does not say of which source", shaper.base);
            shaper.fault(per.at, message).hints.push(format!("write: over: {}", names().next().unwrap_or("asked")));
        }
        Some(over) => {
            let name = over.as_str().unwrap_or_default().trim();
            if !names().any(|n| n == name) {
                let message = format!("`{}.over` names {}, which is no source with `rows`", shaper.base, quoted(name));
                let near = crate::diagnostic::suggest(name, names());
                let hint = match near {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("sources with rows: {}", names().collect::<Vec<_>>().join(", ")),
                };
                shaper.fault(over.at, message).hints.push(hint);
            }
        }
    }
}
