//! The section `eval`: measures that exist, of steps that do, and gates on what is measured.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::absolute;
use crate::diagnostic::{Diagnostic, suggest};
use crate::pipeline::eval::EvalPlan;
use crate::pipeline::eval::compare::How;
use crate::pipeline::eval::measures::{Gate, Measure, parse};
use crate::pipeline::scope::Scope;
use crate::pipeline::shape::{Shaper, Surroundings};
use crate::pipeline::tables::EVAL;
use crate::pipeline::tree::{Node, NodeValue, Position, quoted};

/// Returns the section, if it is written and without fault.
pub fn plan(
    around: &Surroundings<'_>,
    section: Option<&Node>,
    scope: &Scope<'_>,
    faults: &mut Vec<Diagnostic>,
) -> Option<EvalPlan> {
    let node = section?;
    let mut shaper = Shaper::new(around, "eval");
    let object = shaper.object(node, &EVAL.iter().collect::<Vec<_>>(), &mut Vec::new());
    let plan = object.map(|object| eval(&mut shaper, node, &object, scope));
    let is_sound = shaper.faults.is_empty();
    faults.append(&mut shaper.faults);
    plan.filter(|_| is_sound)
}

fn eval(shaper: &mut Shaper<'_>, node: &Node, object: &Map<String, Value>, scope: &Scope<'_>) -> EvalPlan {
    let steps: Vec<(String, &'static str)> =
        scope.steps.iter().map(|s| (s.id.clone(), s.kind.map_or("", |k| k.name))).collect();
    let golden = match object.get("golden") {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    };
    let folder = shaper.around.folder;
    let golden = golden.iter().map(|g| absolute(folder, g).to_string_lossy().into_owned()).collect();
    let measures = measures(shaper, node, &steps);
    let gates = gates(shaper, node, &measures);
    let mut plan = EvalPlan { golden, measures, gates, ..EvalPlan::default() };
    for (step, fields) in section(object, "compare") {
        known_step(shaper, node, "compare", step, &steps);
        let how = |(field, word): (&String, &Value)| Some((field.clone(), How::named(word.as_str()?)?));
        let fields: BTreeMap<String, How> = fields.as_object().into_iter().flatten().filter_map(how).collect();
        plan.compare.insert(step.clone(), fields);
    }
    for (step, fields) in section(object, "match") {
        known_step(shaper, node, "match", step, &steps);
        let fields = fields.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned);
        plan.match_by.insert(step.clone(), fields.collect());
    }
    plan
}

fn section<'o>(object: &'o Map<String, Value>, key: &str) -> impl Iterator<Item = (&'o String, &'o Value)> {
    object.get(key).and_then(Value::as_object).into_iter().flatten()
}

fn known_step(shaper: &mut Shaper<'_>, node: &Node, key: &str, step: &str, steps: &[(String, &'static str)]) {
    if steps.iter().any(|(id, _)| id == step) {
        return;
    }
    let at = place(node, key, step);
    let hint = suggest(step, steps.iter().map(|(id, _)| id.as_str())).map(|near| format!("did you mean `{near}`?"));
    shaper.fault(at, format!("`eval.{key}`: there is no step {}", quoted(step))).hints.extend(hint);
}

/// Returns where a key of a mapping below the section stands.
fn place(node: &Node, section: &str, key: &str) -> Position {
    let section = node.get(section);
    let entry = section.and_then(|s| s.entries().iter().find(|e| e.key == key));
    entry.map(|e| e.key_at).or_else(|| section.map(|s| s.at)).unwrap_or(node.at)
}

fn measures(shaper: &mut Shaper<'_>, node: &Node, steps: &[(String, &'static str)]) -> Vec<Measure> {
    let Some(written) = node.get("measure") else { return Vec::new() };
    let NodeValue::Seq(items) = &written.value else { return Vec::new() }; // told already
    let mut measures: Vec<Measure> = Vec::new();
    if items.is_empty() {
        shaper.fault(written.at, "`eval.measure` names nothing to measure");
    }
    for item in items {
        let Some(name) = item.as_str() else { continue };
        match parse(name, steps) {
            Ok(measure) if measures.contains(&measure) => {
                shaper.fault(item.at, format!("`eval.measure` names {} twice", quoted(name)));
            }
            Ok(measure) => measures.push(measure),
            Err(unknown) => {
                shaper.fault(item.at, format!("`eval.measure`: {}", unknown.message)).hints.extend(unknown.hint);
            }
        }
    }
    measures
}

fn gates(shaper: &mut Shaper<'_>, node: &Node, measures: &[Measure]) -> Vec<Gate> {
    let mut gates = Vec::new();
    for entry in node.get("gate").map(Node::entries).unwrap_or_default() {
        if !measures.iter().any(|m| m.name == entry.key) {
            let hint = match suggest(&entry.key, measures.iter().map(|m| m.name.as_str())) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "a gate is on something that `measure` lists".into(),
            };
            shaper.fault(entry.key_at, format!("`eval.gate`: {} is not measured", quoted(&entry.key))).hints.push(hint);
            continue;
        }
        let Some(condition) = entry.value.as_str() else { continue }; // told already
        match Gate::parse(&entry.key, condition) {
            Some(gate) => gates.push(gate),
            None => {
                let message = format!("`eval.gate.{}` must be a comparison, not {}", entry.key, quoted(condition));
                shaper.fault(entry.value.at, message).hints.push("write: \">= 0.60\" or \"< 5%\"".into());
            }
        }
    }
    gates
}
