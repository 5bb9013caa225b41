//! When a document need not be done again: a hash of its bytes and of everything that decides what becomes of them.
//! Reformatting the file changes nothing; threads, timeouts and places of folders are left out.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::cache::ENGINE_RESULT_VERSION;
use super::hash::HashText;
use super::model::ModelIdentity;
use super::names::RunNames;
use super::plan::{OnError, OutputContent, OutputPlan, Plan, RowsOf, SourcePlan, StepPlan};

/// Part of every key: goes up whenever a step or a reader may make something else of the same document and options.
pub const STEPS_RESULT_VERSION: u32 = 5;

/// Returns the hash of a plan's steps and outputs, with the parameters and names of the run that they mention.
///
/// Outputs may mention the run (`rows-{{ run.date }}.jsonl`) without every document being done again each day; a step
/// that mentions the run's date or id is done again when it changes.
///
/// `library` is what the indexes hold, where there are any: every document may depend on it.
pub fn pipeline_hash(plan: &Plan, model: Option<&ModelIdentity>, run: &RunNames, library: Option<&str>) -> String {
    hash_of(plan, false, model, run, library)
}

/// Returns the hash of what a plan does over all documents. Changing it leaves what was done for each as it is.
pub fn whole_hash(plan: &Plan, model: Option<&ModelIdentity>, run: &RunNames, library: Option<&str>) -> String {
    hash_of(plan, true, model, run, library)
}

fn hash_of(plan: &Plan, whole: bool, model: Option<&ModelIdentity>, run: &RunNames, library: Option<&str>) -> String {
    let steps: Vec<Value> = plan.steps.iter().filter(|s| s.rounds.per.is_whole() == whole).map(step_value).collect();
    let outputs: Vec<Value> = plan.outputs.iter().filter(|o| o.per.is_whole() == whole).map(output_value).collect();
    let mentions = format!("{}{}", json!(steps), json!(outputs));
    let run_used: Vec<&str> = run_used(&json!(steps).to_string(), run).into_iter().map(|(_, value)| value).collect();
    let mut hashed = json!({
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
        hashed["measured"] = json!(eval.steps());
    }
    if let Some(library) = library {
        hashed["library"] = json!(library);
    }
    if plan.has_whole() {
        // What is kept of a document is a part of what is done with it.
        hashed["kept"] = json!([plan.kept, format!("{:?}", plan.grouping)]);
    }
    blake3::hash(hashed.to_string().as_bytes()).to_hex().to_string()
}

/// A part of a pipeline's hash by itself: what `explain --why` compares. Only its hash is kept, never its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Component {
    pub name: String, // `step actions: options.instruct`, `params.words`, `model: digest`
    pub hash: String,
}

/// Returns all that [`pipeline_hash`] and [`document_key`] are made of but for the document, in the order in which an
/// author looks for it.
pub fn components(plan: &Plan, model: Option<&ModelIdentity>, run: &RunNames, library: Option<&str>) -> Vec<Component> {
    let mut found = Vec::new();
    for source in &plan.sources {
        take_apart(&format!("source {}: read", source.name), &source.read, &mut found);
    }
    if let Some(model) = model {
        take_apart("model: name", &json!(model.name), &mut found);
        take_apart("model: digest of weights, tokenizer, quantization and backend", &json!(model.digest), &mut found);
        take_apart("model: is a fallback", &json!(model.fallback.is_some()), &mut found);
    }
    take_apart("decoding", &json!(plan.model.defaults), &mut found);
    let steps: Vec<Value> = plan.steps.iter().map(step_value).collect();
    let outputs: Vec<Value> = plan.outputs.iter().map(output_value).collect();
    take_apart("params", &mentioned(&plan.params, &format!("{}{}", json!(steps), json!(outputs))), &mut found);
    if let Some(eval) = &plan.eval {
        take_apart("eval: the steps that are measured", &json!(eval.steps()), &mut found);
    }
    if let Some(library) = library {
        take_apart("indexes: what they hold", &json!(library), &mut found);
    }
    for (name, value) in run_used(&json!(steps).to_string(), run) {
        take_apart(name, &json!(value), &mut found);
    }
    for step in &plan.steps {
        let Value::Array(parts) = step_value(step) else { continue };
        let names = ["id", "verb", "when", "on_error", "", "per", "over", "foreach"];
        for (part, value) in names.iter().zip(&parts) {
            let prefix =
                if part.is_empty() { format!("step {}", step.id) } else { format!("step {}: {part}", step.id) };
            take_apart(&prefix, value, &mut found);
        }
    }
    for output in &plan.outputs {
        let Value::Array(parts) = output_value(output) else { continue };
        for (part, value) in ["name", "path", "format", "only", "content"].iter().zip(&parts) {
            take_apart(&format!("output {}: {part}", output.name), value, &mut found);
        }
    }
    take_apart("the pipeline's name", &json!(plan.name), &mut found);
    take_apart("the engine's result version", &json!(ENGINE_RESULT_VERSION), &mut found);
    take_apart("the steps' result version", &json!(STEPS_RESULT_VERSION), &mut found);
    found
}

/// Takes a value apart down to what is neither a list nor a mapping.
fn take_apart(name: &str, value: &Value, found: &mut Vec<Component>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let mark = if name.starts_with("step ") && !name.contains(": ") { ": " } else { "." };
                take_apart(&format!("{name}{mark}{key}"), value, found);
            }
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, item)| take_apart(&format!("{name}[{i}]"), item, found));
        }
        leaf => {
            let hash = blake3::hash(format!("quarry component\0{name}\0{leaf}").as_bytes());
            found.push(Component { name: name.to_owned(), hash: hash.to_hex()[..16].to_owned() });
        }
    }
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

/// Returns the names of the run that the steps mention.
fn run_used<'a>(steps: &str, run: &'a RunNames) -> Vec<(&'static str, &'a str)> {
    let all = [("run.date", &run.date), ("run.started", &run.started), ("run.id", &run.id)];
    all.into_iter().filter(|(name, _)| steps.contains(name)).map(|(name, value)| (name, value.as_str())).collect()
}

/// Returns the key under which the journal knows a document that has been done.
pub fn document_key(pipeline_hash: &str, source: &SourcePlan, sha256: &str) -> HashText {
    let (name, read) = (&source.name, &source.read);
    let whole = format!("[{},{},{read},{}]", json!(pipeline_hash), json!(name), json!(sha256));
    HashText::of_bytes(*blake3::hash(whole.as_bytes()).as_bytes())
}

/// Returns the SHA-256 of a file's bytes and how many they are. File times are never looked at: clocks lie.
pub fn file_hash(path: &Path) -> io::Result<(HashText, u64)> {
    let mut file = File::open(path)?;
    let (mut hasher, mut bytes) = (Sha256::new(), 0);
    let mut buffer = [0; 1 << 14]; // most files are small, and there may be very many
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            n => {
                hasher.update(&buffer[..n]);
                bytes += n as u64;
            }
        }
    }
    Ok((HashText::of_bytes(hasher.finalize().into()), bytes))
}

fn step_value(step: &StepPlan) -> Value {
    let on_error = match step.on_error {
        OnError::Stop => "stop",
        OnError::Quarantine => "quarantine",
        OnError::Skip => "skip",
        OnError::Mark => "mark",
    };
    let rounds = &step.rounds;
    let own = json!([
        step.id,
        step.kind.name,
        step.when,
        on_error,
        step.resolved,
        rounds.per.name(),
        rounds.over,
        rounds.foreach
    ]);
    if rounds.rows == RowsOf::Documents { own } else { json!([own, format!("{:?}", rounds.rows)]) }
}

fn output_value(output: &OutputPlan) -> Value {
    let content = match &output.content {
        OutputContent::Text(expression) => json!(expression),
        OutputContent::Records { fields, key, explode } => json!([fields, key, explode]),
        OutputContent::Review { steps } => json!({ "review": steps }),
    };
    let own = json!([output.name, output.path, format!("{:?}", output.format), output.only, content]);
    let own = if output.per.is_whole() { json!([own, output.per.name()]) } else { own };
    match (&output.contract, output.is_markup) {
        (None, false) => own,
        (contract, is_markup) => json!([own, contract.as_ref().map(|c| &c.schema), is_markup]),
    }
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
        assert_eq!(file_hash(&path).unwrap(), (known.into(), 3));
    }
}
