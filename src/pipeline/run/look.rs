//! How things stand before a run, looked at without making, locking or mending anything: what `plan`, `preview` and
//! `explain --why` begin with.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use serde_json::json;

use super::standing::{self, Known, Standing};
use super::{RunEnvironment, RunError, held_digest, run_names_at, select, written};
use crate::corpus::document::Document;
use crate::pipeline::inputs::{self, Input};
use crate::pipeline::journal::{History, Journal};
use crate::pipeline::keys::{self, Component};
use crate::pipeline::names::{Names, RunNames};
use crate::pipeline::places::Places;
use crate::pipeline::plan::Plan;
use crate::pipeline::rows::{self, Tables};
use crate::steps::{Reason, StepError};

/// What a run would find.
pub(super) struct Look {
    pub inputs: Vec<Input>,
    pub selected: Vec<usize>,
    pub names: RunNames,
    pub tables: Tables,
    pub pipeline_hash: String,
    pub components: Vec<Component>,
    pub histories: BTreeMap<String, History>,
    pub state: PathBuf,
    pub notes: Vec<String>,
}

pub(super) fn look(plan: &Plan, env: &RunEnvironment<'_>) -> Result<Look, RunError> {
    let mut listing = inputs::list(&plan.sources, &plan.folder)?;
    let needs_model = plan.needs_model();
    let model = if needs_model { Some(env.model.identity()?) } else { None };
    let names = run_names_at(&env.started, model);
    let scope = env.evaluator.bind(&json!({ "params": plan.params, "run": names.value() }));
    let state = match &env.state_folder {
        Some(folder) => folder.clone(),
        None => Places::state_of(plan, &scope)?,
    };
    let state = env.options.shard.map_or_else(|| state.clone(), |shard| state.join(shard.folder()));
    let tables = rows::tables(&plan.tables, &plan.folder)?;
    let held = held_digest(env.library, &tables);
    let (model, held) = (names.model.as_ref(), held.as_deref());
    let pipeline_hash = keys::pipeline_hash(plan, model, &names, held);
    let components = keys::components(plan, model, &names, held);
    let histories = match Journal::look(&state.join("journal.jsonl")) {
        Ok((histories, _)) => histories,
        Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
        Err(source) => return Err(RunError::Resource { path: state, source }),
    };
    listing.leave_out(&written(&histories, &plan.folder));
    let mut selected = select(&listing.inputs, &env.options)?;
    if env.options.retry {
        selected.retain(|i| histories.get(&listing.inputs[*i].document).is_some_and(|h| h.failed.is_some()));
    }
    let (inputs, notes) = (listing.inputs, listing.notes);
    Ok(Look { inputs, selected, names, tables, pipeline_hash, components, histories, state, notes })
}

/// Reads the document of an input: a file, or a row of a table.
pub(super) fn read(plan: &Plan, env: &RunEnvironment<'_>, input: &Input) -> Result<Document, StepError> {
    match &input.row {
        Some(row) => Ok(row.document()),
        None => env.reader.read(&input.path, &plan.sources[input.source].read),
    }
}

/// Whether a file that has no text is passed over and is no failure: its source says so.
pub(super) fn passes_over(plan: &Plan, input: &Input, error: &StepError) -> bool {
    error.reason == Reason::NoTextFound && plan.sources[input.source].read["no_text"] == "skip"
}

/// Returns the names that the steps of an input's document see before the first of them.
pub(super) fn names_of(
    plan: &Plan,
    env: &RunEnvironment<'_>,
    run: &RunNames,
    document: &Document,
    input: &Input,
) -> Names {
    let mut view = env.reader.names(document, &input.document);
    if let Some(row) = &input.row {
        row.name(&mut view);
    }
    let mut names = Names::new(&plan.params, view, run.value());
    if let Some(row) = &input.row {
        names.set("row", row.fields.clone());
    }
    names
}

impl Look {
    /// Returns how each of the selected inputs stands.
    pub fn standings(&self, plan: &Plan, env: &RunEnvironment<'_>) -> Vec<Standing> {
        standing::compare(&self.known(plan, env), &self.inputs, &self.selected)
    }

    pub fn known<'a>(&'a self, plan: &'a Plan, env: &RunEnvironment<'_>) -> Known<'a> {
        let (force, retry) = (env.options.force || env.options.from.is_some(), env.options.retry);
        Known { plan, pipeline_hash: &self.pipeline_hash, histories: &self.histories, force, retry }
    }

    /// Returns the one input that is meant by a path, a name or a part of one.
    pub fn find(&self, wanted: &str) -> Result<&Input, RunError> {
        let no = |detail: String| RunError::NoSuchDocument { wanted: wanted.to_owned(), detail };
        let is_named = |input: &&Input| {
            let name = input.path.file_name().unwrap_or_default().to_string_lossy();
            input.document == wanted || name == wanted || input.path.ends_with(wanted)
        };
        let real = std::fs::canonicalize(wanted).ok();
        let is_it = |input: &&Input| real.is_some() && std::fs::canonicalize(&input.path).ok() == real;
        let holds = |input: &&Input| input.document.contains(wanted);
        let tries: [&dyn Fn(&&Input) -> bool; 3] = [&is_it, &is_named, &holds];
        for is_meant in tries {
            let found: Vec<&Input> = self.inputs.iter().filter(is_meant).collect();
            match found.as_slice() {
                [] => {}
                [one] => return Ok(one),
                [first, second, ..] => {
                    let (first, second) = (&first.document, &second.document);
                    return Err(no(format!("is {} documents: {first}, {second}, …", found.len())));
                }
            }
        }
        Err(no(format!("is none of the {} documents of the pipeline", self.inputs.len())))
    }
}
