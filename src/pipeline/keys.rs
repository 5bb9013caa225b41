//! When a document need not be done again: a hash of its bytes and of everything that decides what becomes of them.
//! Reformatting the file changes nothing; threads, timeouts and places of folders are left out.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::cache::ENGINE_RESULT_VERSION;
use super::model::ModelIdentity;
use super::names::RunNames;
use super::plan::{OnError, OutputContent, OutputPlan, Plan, SourcePlan, StepPlan};

/// Part of every key: goes up whenever a step or a reader may make something else of the same document and options.
pub const STEPS_RESULT_VERSION: u32 = 2;

/// Returns the hash of a plan's steps and outputs, with the parameters and names of the run that they mention.
///
/// Outputs may mention the run (`rows-{{ run.date }}.jsonl`) without every document being done again each day; a step
/// that mentions the run's date or id is done again when it changes.
///
/// `library` is what the indexes hold, where there are any: every document may depend on it.
pub fn pipeline_hash(plan: &Plan, model: Option<&ModelIdentity>, run: &RunNames, library: Option<&str>) -> String {
    let steps: Vec<Value> = plan.steps.iter().map(step_value).collect();
    let outputs: Vec<Value> = plan.outputs.iter().map(output_value).collect();
    let mentions = format!("{}{}", json!(steps), json!(outputs));
    let run_used: Vec<&str> = [("run.date", &run.date), ("run.started", &run.started), ("run.id", &run.id)]
        .into_iter()
        .filter(|(name, _)| json!(steps).to_string().contains(name))
        .map(|(_, value)| value.as_str())
        .collect();
    let mut whole = json!({
        "engine": ENGINE_RESULT_VERSION,
        "version": STEPS_RESULT_VERSION,
        "name": plan.name,
        "steps": steps,
        "outputs": outputs,
        "params": mentioned(&plan.params, &mentions),
        "run": run_used,

        // That it is a fallback stands in every output; the words for why may differ from one try to the next.
        "model": model.map(|m| json!([m.name, m.digest, m.fallback.is_some()])),
        "defaults": plan.model.defaults,
    });
    if let Some(eval) = &plan.eval {
        // A document keeps what is measured: where that is more than before, it is done again, from the answers kept.
        whole["measured"] = json!(eval.steps());
    }
    if let Some(library) = library {
        whole["library"] = json!(library);
    }
    blake3::hash(whole.to_string().as_bytes()).to_hex().to_string()
}

/// Returns, for each step, a hash of each of its options: what it was told, without telling it again.
pub fn step_hashes(plan: &Plan) -> BTreeMap<String, BTreeMap<String, String>> {
    let of = |step: &StepPlan| {
        let mut hashes = BTreeMap::new();
        let (resolved, rounds) = (&step.resolved, &step.rounds);
        let told = json!({
            "use": step.kind.name, "when": step.when, "per": rounds.per.name(), "over": rounds.over,
            "foreach": rounds.foreach, "options": resolved["options"], "files": resolved["files"],
            "schemas": resolved["schemas"],
        });
        leaves("", &told, &mut hashes);
        (step.id.clone(), hashes)
    };
    plan.steps.iter().map(of).collect()
}

fn leaves(path: &str, value: &Value, hashes: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
            map.iter().for_each(|(key, value)| leaves(&below(key), value, hashes));
        }
        other => {
            let hash = blake3::hash(other.to_string().as_bytes()).to_hex()[..12].to_owned();
            hashes.insert(path.to_owned(), hash);
        }
    }
}

/// Returns the key under which the journal knows a document that has been done.
pub fn document_key(pipeline_hash: &str, source: &SourcePlan, sha256: &str) -> String {
    let whole = json!([pipeline_hash, source.name, source.read, sha256]);
    blake3::hash(whole.to_string().as_bytes()).to_hex().to_string()
}

/// Returns the SHA-256 of a file's bytes as lower-case hex. File times are never looked at: clocks lie.
pub fn file_sha256(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            n => hasher.update(&buffer[..n]),
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn step_value(step: &StepPlan) -> Value {
    let on_error = match step.on_error {
        OnError::Stop => "stop",
        OnError::Quarantine => "quarantine",
        OnError::Skip => "skip",
        OnError::Mark => "mark",
    };
    let rounds = &step.rounds;
    json!([step.id, step.kind.name, step.when, on_error, step.resolved, rounds.per.name(), rounds.over, rounds.foreach])
}

fn output_value(output: &OutputPlan) -> Value {
    let content = match &output.content {
        OutputContent::Text(expression) => json!(expression),
        OutputContent::Records { fields, key, explode } => json!([fields, key, explode]),
        OutputContent::Review { steps } => json!({ "review": steps }),
    };
    json!([output.name, output.path, format!("{:?}", output.format), output.only, content])
}

/// Returns the parameters that `text` mentions as `params.name`; all of them where `params` stands by itself.
fn mentioned(params: &Value, text: &str) -> Value {
    let Some(all) = params.as_object() else { return params.clone() };
    let mut used = serde_json::Map::new();
    for (at, word) in text.match_indices("params") {
        let name: String = match text[at + word.len()..].strip_prefix('.') {
            Some(rest) => rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect(),
            None => return params.clone(),
        };
        match all.get(&name) {
            Some(value) => used.insert(name, value.clone()),
            None => return params.clone(),
        };
    }
    used.sort_keys(); // the order of mention does not matter
    Value::Object(used)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_parameters_that_are_mentioned_count() {
        let params = json!({ "in": "*.vtt", "words": 200, "out": "o" });
        assert_eq!(mentioned(&params, "{{ params.words }} {{params.out}}/x"), json!({ "out": "o", "words": 200 }));
        assert_eq!(mentioned(&params, "nothing"), json!({}));
        assert_eq!(mentioned(&params, "params | json"), params);
        assert_eq!(mentioned(&params, "params['in']"), params);
    }

    #[test]
    fn the_hash_of_a_file_is_that_of_its_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, "abc").unwrap();
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(file_sha256(&path).unwrap(), known);
    }
}
