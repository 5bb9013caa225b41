//! A plan cut down to some of its steps: those, what they read, and the outputs that these alone can fill.

use std::collections::BTreeSet;

use super::plan::{OutputContent, OutputPlan, Plan};
use super::references;
use super::tree::quoted;
use crate::diagnostic::{Diagnostic, suggest};

/// Cuts a plan down to the steps of these ids. Returns the names of the outputs that are left out.
pub fn select(plan: &mut Plan, ids: &[String]) -> Result<Vec<String>, Diagnostic> {
    if let Some(unknown) = ids.iter().find(|id| plan.steps.iter().all(|s| s.id != **id)) {
        let known = plan.steps.iter().map(|s| s.id.as_str());
        let fault = Diagnostic::error(format!("`--select {unknown}`: there is no step {}", quoted(unknown)));
        return Err(fault.hint(match suggest(unknown, known.clone()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("its steps: {}", known.collect::<Vec<_>>().join(", ")),
        }));
    }
    let mut kept: BTreeSet<String> = ids.iter().cloned().collect();
    // Steps read only steps before them: one pass from the last finds all.
    for step in plan.steps.iter().rev() {
        if kept.contains(&step.id) {
            kept.extend(step.reads.iter().cloned());
        }
    }
    plan.steps.retain(|step| kept.contains(&step.id));
    let (filled, left_out) = std::mem::take(&mut plan.outputs).into_iter().partition(|output| fits(output, &kept));
    plan.outputs = filled;
    let left_out: Vec<OutputPlan> = left_out;
    if plan.outputs.is_empty() {
        let fault = Diagnostic::error(format!("`--select {}` leaves no output that could be filled", ids.join(" ")));
        return Err(fault.hint("select the steps that an output reads"));
    }
    Ok(left_out.into_iter().map(|output| output.name).collect())
}

/// Whether an output reads no step but these.
fn fits(output: &OutputPlan, kept: &BTreeSet<String>) -> bool {
    let mut expressions: Vec<&str> = output.only.iter().map(String::as_str).collect();
    match &output.content {
        OutputContent::Text(expression) => expressions.push(expression),
        OutputContent::Review { steps } if steps.iter().any(|(id, _)| !kept.contains(id)) => return false,
        OutputContent::Review { .. } => {}
        OutputContent::Records { fields, key, explode } => {
            expressions.extend(fields.iter().map(|(_, expression)| expression.as_str()));
            expressions.extend(key.iter().chain(explode).map(String::as_str));
        }
    }
    let names = expressions.into_iter().filter_map(|e| references::of_expression(e).ok()).flat_map(|found| found.names);
    let mut of_steps = names.filter(|name| name.path[0] == "steps");
    of_steps.all(|name| name.path.get(1).is_some_and(|id| kept.contains(id)))
}
