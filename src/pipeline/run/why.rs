//! Why a document would be done again: what its key is made of, now and when it was done, compared part by part.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::look::{Look, look};
use super::standing::{self, Because, Standing};
use super::{Job, RunEnvironment, RunError};
use crate::pipeline::hash::HashText;
use crate::pipeline::journal::{Entry, History};
use crate::pipeline::keys::Component;
use crate::pipeline::plan::Plan;
use crate::pipeline::report::{Failure, State};

const FILE: &str = "keys.json";

/// What has come of a document, and what of it would be done now.
#[derive(Clone, Debug, Serialize)]
pub struct Why {
    pub document: String,
    pub done: Option<LastTime>,
    /// `None`: nothing would be done.
    pub because: Option<Because>,
    /// It failed for a reason that trying again would not change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stands_failed: Option<Failure>,
    /// What of its key is another one now, first things first. Empty where that is not known.
    pub differences: Vec<Difference>,
    /// Whether the parts of the key at that time are known.
    pub is_known: bool,
    /// Steps that would ask the model something else; the others find their answers in the cache.
    pub steps: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct LastTime {
    pub run: String,
    pub state: State,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    pub component: String,
    pub is: Change,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    Changed,
    New,
    Gone,
}

/// Compares what is known of `document` with how things stand. Loads no model and writes nothing.
pub fn why(plan: &Plan, env: &RunEnvironment<'_>, document: &str) -> Result<Why, RunError> {
    let look = look(plan, env)?;
    let input = look.find(document)?;
    let standing = standing::of(&look.known(plan, env), input);
    let entry = look.histories.get(&input.document).and_then(History::last);
    let mut why = Why {
        document: input.document.clone(),
        done: entry.map(|e| LastTime { run: e.run.to_string(), state: e.state }),
        because: None,
        stands_failed: None,
        differences: Vec::new(),
        is_known: true,
        steps: Vec::new(),
    };
    match standing {
        Standing::Unchanged => {}
        Standing::FailedBefore => why.stands_failed = entry.and_then(|e| e.failure.as_deref().cloned()),
        Standing::Unreadable(error) => {
            let failure = Box::new(Failure { step: None, reason: error.reason, detail: error.detail });
            why.because = Some(Because::FailedBefore { failure });
        }
        Standing::ToDo { because, sha256, .. } => {
            if let Some(entry) = entry.filter(|e| e.key.is_empty() || !matches!(because, Because::New)) {
                compare(&mut why, &look, plan, entry, &sha256);
            }
            why.because = Some(because);
        }
    }
    Ok(why)
}

fn compare(why: &mut Why, look: &Look, plan: &Plan, entry: &Entry, sha256: &HashText) {
    let is_other = entry.sha256 != *sha256;
    if is_other {
        why.differences.push(Difference { component: "the document's bytes".into(), is: Change::Changed });
    }
    if *entry.pipeline != *look.pipeline_hash || !is_other {
        match read(&look.state).remove(&*entry.pipeline) {
            Some(then) => why.differences.extend(differences(&then, &look.components)),
            None => why.is_known = *entry.pipeline == *look.pipeline_hash,
        }
    }
    let for_all = |d: &Difference| !d.component.starts_with("step ") && !d.component.starts_with("output ");
    let every = why.differences.iter().any(for_all);
    for step in &plan.steps {
        let own = |d: &Difference| d.component.starts_with(&format!("step {}:", step.id));
        let reads = step.reads.iter().any(|id| why.steps.contains(id));
        if step.needs_model() && every || reads || why.differences.iter().any(own) {
            why.steps.push(step.id.clone());
        }
    }
    let asks = |id: &String| plan.steps.iter().any(|s| s.id == *id && s.needs_model());
    why.steps.retain(asks);
}

fn differences(then: &[Component], now: &[Component]) -> Vec<Difference> {
    let map = |list: &[Component]| -> BTreeMap<String, String> {
        list.iter().map(|c| (c.name.clone(), c.hash.clone())).collect()
    };
    let (before, after) = (map(then), map(now));
    let is = |c: &Component| match before.get(&c.name) {
        None => Some(Change::New),
        Some(hash) if *hash != c.hash => Some(Change::Changed),
        Some(_) => None,
    };
    let found = now.iter().filter_map(|c| Some(Difference { component: c.name.clone(), is: is(c)? }));
    let gone = then.iter().filter(|c| !after.contains_key(&c.name));
    found.chain(gone.map(|c| Difference { component: c.name.clone(), is: Change::Gone })).collect()
}

/// The parts of the hashes of pipelines, by hash. What cannot be read is not known: nothing else depends on it.
fn read(state: &Path) -> BTreeMap<String, Vec<Component>> {
    let bytes = std::fs::read(state.join(FILE)).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

/// Keeps the parts of this run's hash beside those of the hashes that the journal still names.
pub(super) fn keep(
    job: &Job<'_>,
    components: Vec<Component>,
    histories: &BTreeMap<String, History>,
) -> std::io::Result<()> {
    let mut kept = read(&job.places.state);
    if kept.get(job.pipeline_hash) == Some(&components) {
        return Ok(());
    }
    let is_named = |hash: &String| {
        let entries = histories.values().flat_map(|h| [&h.good, &h.failed]).flatten();
        entries.into_iter().any(|e| *e.pipeline == **hash)
    };
    kept.retain(|hash, _| is_named(hash));
    kept.insert(job.pipeline_hash.to_owned(), components);
    let text = serde_json::to_string(&kept)? + "\n";
    job.env.disk.replace(&job.places.parts(), &job.state_file(FILE), text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_the_first_in_the_order_of_the_key() {
        let component = |name: &str, hash: &str| Component { name: name.into(), hash: hash.into() };
        let then = [component("a", "1"), component("b", "1"), component("gone", "1")];
        let now = [component("new", "1"), component("a", "1"), component("b", "2")];
        let found: Vec<_> = differences(&then, &now).into_iter().map(|d| (d.component, d.is)).collect();
        let expected = [("new", Change::New), ("b", Change::Changed), ("gone", Change::Gone)];
        assert_eq!(found, expected.map(|(name, is)| (name.to_owned(), is)));
        assert!(differences(&now, &now).is_empty());
    }
}
