//! Against MaskBench and the official suite of JSON Schema, whose instances say whether they are valid: runs where
//! `QUARRY_TEST_MASKBENCH` names the file of the one (an object per line with `id`, `schema` and `tests`), and
//! `QUARRY_TEST_SCHEMA_SUITE` the folder `tests` of the other; else says that it does not. With
//! `QUARRY_TEST_TOKENIZER_DIR`, the vocabulary is the one of its `tokenizer.json`, and the times mean something.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Constraint, GrammarError, GrammarFactory};
use crate::inference::tokenizer::Tokenizer;
use crate::inference::tokenizer::tests_support::small_tokenizer;

/// Writes `value` as our grammars do: a blank after `,` and `:`.
fn written(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(written).collect::<Vec<_>>().join(", ")),
        Value::Object(members) => {
            let member =
                |(name, value): (&String, &Value)| format!("{}: {}", Value::from(name.as_str()), written(value));
            format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

#[derive(Default)]
struct Counts {
    compiled: usize,
    unsupported: usize,
    refused: usize,
    /// Compiled, every valid instance accepted and every invalid one not.
    passed: usize,
    valid: usize,
    valid_refused: Vec<String>,
    invalid: usize,
    invalid_accepted: Vec<String>,
    to_first_mask: Vec<Duration>,
    masks: Vec<Duration>,
}

/// Compiles and walks every schema of `rows`: its name, the schema, and instances with whether they are valid.
fn judge(rows: impl Iterator<Item = (String, Value, Vec<(Value, bool)>)>) -> Counts {
    let folder = std::env::var_os("QUARRY_TEST_TOKENIZER_DIR");
    let tokenizer = Arc::new(match &folder {
        Some(folder) => Tokenizer::from_json_file(&Path::new(folder).join("tokenizer.json")).unwrap(),
        None => small_tokenizer(),
    });
    let factory = GrammarFactory::new(&tokenizer, tokenizer.vocab_size()).unwrap();
    let mut counts = Counts::default();
    for (name, schema, instances) in rows {
        let begun = Instant::now();
        let mut compiled = match factory.compile(&Constraint::JsonSchema(schema)) {
            Ok(matcher) => matcher,
            Err(GrammarError::Unsupported(_)) => {
                counts.unsupported += 1;
                continue;
            }
            Err(GrammarError::Endless(why)) => panic!("{name}: {why}"),
            Err(_) => {
                counts.refused += 1;
                continue;
            }
        };
        counts.compiled += 1;
        compiled.allowed().unwrap();
        counts.to_first_mask.push(begun.elapsed());
        let wrong_before = counts.valid_refused.len() + counts.invalid_accepted.len();
        for (instance, is_valid) in instances {
            let mut matcher = compiled.clone();
            let ids = tokenizer.encode_text(&written(&instance));
            let takes = |id: &u32| {
                if folder.is_some() && !matcher.is_stopped() {
                    let begun = Instant::now();
                    let allowed = matcher.allowed().unwrap().allows(*id);
                    counts.masks.push(begun.elapsed());
                    let taken = matcher.consume(&[*id]).is_ok();
                    // Forced text is masked to its usual tokens; the matcher takes others for it as well.
                    assert!(taken || !allowed, "{name}: the mask allows what the matcher refuses");
                    return taken;
                }
                matcher.consume(&[*id]).is_ok()
            };
            let accepted = ids.iter().all(takes) && matcher.is_accepting();
            if is_valid {
                counts.valid += 1;
                counts.valid_refused.extend((!accepted).then(|| name.clone()));
            } else {
                counts.invalid += 1;
                counts.invalid_accepted.extend(accepted.then(|| name.clone()));
            }
        }
        counts.passed += usize::from(counts.valid_refused.len() + counts.invalid_accepted.len() == wrong_before);
    }
    counts
}

impl Counts {
    fn tell(&mut self, what: &str) {
        let (compiled, unsupported, refused) = (self.compiled, self.unsupported, self.refused);
        let all = compiled + unsupported + refused;
        eprintln!("{what}: {all} schemas: {compiled} compiled, {unsupported} unsupported, {refused} refused");
        let (valid, invalid) = (self.valid, self.invalid);
        let (lost, wrong) = (self.valid_refused.len(), self.invalid_accepted.len());
        eprintln!("{lost} of {valid} valid instances refused, {wrong} of {invalid} invalid accepted");
        eprintln!("{} schemas pass", self.passed);
        for (what, times) in [("to the first mask", &mut self.to_first_mask), ("for a mask", &mut self.masks)] {
            times.sort_unstable();
            let at = |share: f64| times.get(((times.len() as f64 - 1.0) * share) as usize).copied().unwrap_or_default();
            eprintln!("{what}: median {:?}, p99 {:?}, most {:?} of {}", at(0.5), at(0.99), at(1.0), times.len());
        }
    }
}

#[test]
fn no_invalid_instance_is_accepted_and_hardly_a_valid_one_refused() {
    let Some(path) = std::env::var_os("QUARRY_TEST_MASKBENCH") else {
        crate::testing::skipped("QUARRY_TEST_MASKBENCH names no file");
        return;
    };
    let text = std::fs::read_to_string(path).unwrap();
    let mut counts = judge(text.lines().map(|line| {
        let row: Value = serde_json::from_str(line).unwrap();
        let instances = row["tests"].as_array().into_iter().flatten();
        let instances = instances.map(|t| (t["data"].clone(), t["valid"] == true)).collect();
        (row["id"].to_string(), row["schema"].clone(), instances)
    }));
    counts.tell("MaskBench");
    assert!(counts.invalid_accepted.is_empty(), "{:?}", counts.invalid_accepted);
    assert!(counts.valid_refused.len() * 100 <= counts.valid, "more than 1 % of the valid instances were refused");
}

#[test]
fn the_official_suites_invalid_instances_are_not_accepted() {
    let Some(folder) = std::env::var_os("QUARRY_TEST_SCHEMA_SUITE") else {
        crate::testing::skipped("QUARRY_TEST_SCHEMA_SUITE names no folder");
        return;
    };
    for draft in ["draft7", "draft2020-12"] {
        let mut files: Vec<_> =
            std::fs::read_dir(Path::new(&folder).join(draft)).unwrap().map(|f| f.unwrap().path()).collect();
        files.sort();
        let mut rows = Vec::new();
        for file in files.iter().filter(|f| f.extension().is_some_and(|e| e == "json")) {
            let groups: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
            for group in groups {
                let name = format!("{}: {}", file.file_stem().unwrap().display(), group["description"]);
                let tests = group["tests"].as_array().into_iter().flatten();
                let tests = tests.map(|t| (t["data"].clone(), t["valid"] == true)).collect();
                rows.push((name, group["schema"].clone(), tests));
            }
        }
        let mut counts = judge(rows.into_iter());
        counts.tell(draft);
        counts.valid_refused.dedup();
        eprintln!("valid refused in {:#?}", counts.valid_refused);
        assert!(counts.invalid_accepted.is_empty(), "{draft}: {:#?}", counts.invalid_accepted);
    }
}
