//! Templates and expressions of a section: compiled, and held against what they can name where they stand.

use crate::diagnostic::{Diagnostic, Place};
use crate::pipeline::references;
use crate::pipeline::scope::{Scope, Seat};
use crate::pipeline::shape::{Language, Shaper, Slot};
use crate::pipeline::tree::Position;

/// Tells every fault in the shaper's slots and returns the indices of the steps that they read.
pub fn check(shaper: &mut Shaper<'_>, scope: &Scope<'_>, seat: impl Fn(&Slot) -> Seat) -> Vec<usize> {
    let mut reads = Vec::new();
    for slot in std::mem::take(&mut shaper.slots) {
        let (step_reads, faults) = check_one(shaper, scope, &slot, seat(&slot));
        reads.extend(step_reads);
        shaper.faults.extend(faults);
    }
    reads.sort_unstable();
    reads.dedup();
    reads
}

fn check_one(shaper: &Shaper<'_>, scope: &Scope<'_>, slot: &Slot, seat: Seat) -> (Vec<usize>, Vec<Diagnostic>) {
    let name = shaper.name(&slot.path);
    let place = |at: Position| place_of(shaper, slot, at);
    let found = match slot.language {
        Language::Template => references::of_template(&slot.text),
        Language::Expression => references::of_expression(&slot.text),
    };
    let found = match found {
        Ok(found) => found,
        Err(fault) => {
            let is_wrapped = slot.language == Language::Expression && references::looks_like_template(&slot.text);
            let diagnostic = if is_wrapped {
                let message = format!("`{name}` is an expression, which stands without {{{{ }}}}");
                Diagnostic::error(message).at(place_of_value(shaper, slot))
            } else {
                let language = if slot.language == Language::Template { "template" } else { "expression" };
                let message = format!("`{name}` is no valid {language}: {}", fault.message);
                let hint = match slot.language {
                    Language::Template => {
                        "names stand in {{ }}, and each {% if %} and {% for %} has its {% endif %} or {% endfor %}"
                    }
                    Language::Expression => {
                        "an expression is such as: steps.kind.label == 'news' and doc.turns | length > 3"
                    }
                };
                let fault = Diagnostic::error(message).at(place(Position { line: fault.line, column: fault.column }));
                fault.hint(hint)
            };
            return (Vec::new(), vec![diagnostic]);
        }
    };
    let findings = scope.check(&found, seat);
    let faults = findings.faults.into_iter().map(|(diagnostic, at)| diagnostic.at(place(at))).collect();
    (findings.reads, faults)
}

fn place_of(shaper: &Shaper<'_>, slot: &Slot, at: Position) -> Place {
    match &slot.file {
        Some(file) => at.in_file(file),
        // A default that was filled in has no text of its own.
        None if slot.node.span.is_empty() => place_of_value(shaper, slot),
        None => {
            let source = shaper.around.source;
            slot.node.position_within(&source.text, at.line, at.column).in_file(&source.path)
        }
    }
}

fn place_of_value(shaper: &Shaper<'_>, slot: &Slot) -> Place {
    slot.node.at.in_file(&shaper.around.source.path)
}
