//! The engine and the main job with the real starter model. It is fetched once, into the folder that
//! `QUARRY_TEST_CACHE` names or one in the target folder; without a network and without it, these tests are skipped aloud.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Ran, quarry, root, run, skipped};

const FRANCE: &str = "What is the capital of France?";

/// The cache that holds the starter, or `None` where it cannot be had.
fn cache() -> Option<&'static Path> {
    static CACHE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let fetched = CACHE.get_or_init(|| {
        let named = std::env::var_os("QUARRY_TEST_CACHE").map(PathBuf::from);
        let cache = named.unwrap_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).join("models"));
        let mut command = quarry(&cache);
        // Here the caller's own word counts: without it a run that must not connect would.
        if let Some(offline) = std::env::var_os("HF_HUB_OFFLINE") {
            command.env("HF_HUB_OFFLINE", offline);
        }
        let pulled = run(command.args(["model", "pull", "starter"]));
        if pulled.code == Some(0) { Ok(cache) } else { Err(pulled.stderr) }
    });
    match fetched {
        Ok(cache) => Some(cache),
        Err(why) => {
            skipped(&format!("the starter model cannot be had: {}", why.trim()));
            None
        }
    }
}

fn starter(cache: &Path, arguments: &[&str]) -> Command {
    let mut command = quarry(cache);
    command.args(["--offline"]).args(arguments);
    command
}

/// `quarry generate --json` with the starter.
#[track_caller]
fn generate(cache: &Path, prompt: &str, more: &[&str]) -> Value {
    let mut command = starter(cache, &["generate", "-m", "starter", "--json", prompt]);
    run(command.args(more)).exits(0).json()
}

#[test]
fn the_greedy_answer_knows_the_capital_and_the_json_tells_all() {
    let Some(cache) = cache() else { return };
    let answer = generate(cache, FRANCE, &["--max-tokens", "32"]);
    assert!(answer["text"].as_str().unwrap().contains("Paris"), "{answer}");
    assert_eq!(answer["finish"], "stop", "{answer}");
    let (ids, usage) = (answer["ids"].as_array().unwrap(), &answer["usage"]);
    assert!(ids.iter().all(Value::is_u64) && usage["prompt_tokens"].as_u64().unwrap() > 5, "{answer}");
    assert!(usage["completion_tokens"].as_u64().unwrap().abs_diff(ids.len() as u64) <= 1, "{answer}");
    assert!(answer["model"]["name"] == "starter" && answer["model"]["digest"].is_string(), "{answer}");

    let plain = run(&mut starter(cache, &["generate", "-m", "starter", FRANCE, "--max-tokens", "32"])).exits(0);
    assert_eq!(plain.stdout.trim_end(), answer["text"].as_str().unwrap().trim_end());
}

#[test]
fn threads_do_not_show_in_answers_and_logits() {
    let Some(cache) = cache() else { return };
    let ids = |threads: &str| generate(cache, FRANCE, &["--max-tokens", "16", "--threads", threads])["ids"].clone();
    assert_eq!(ids("1"), ids("2"));

    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("ids.json");
    fs::write(&tokens, json!((0..40).map(|i| (i * i * 37 + 5) % 49_000).collect::<Vec<_>>()).to_string()).unwrap();
    let logits = |threads: &str| {
        let out = folder.path().join(format!("{threads}.npy"));
        let mut command = starter(cache, &["model", "logits", "starter", "--threads", threads]);
        run(command.arg("--tokens").arg(&tokens).arg("--out").arg(&out)).exits(0);
        fs::read(out).unwrap()
    };
    let one = logits("1");
    assert!(one.starts_with(b"\x93NUMPY\x01\x00") && one.len() > 40 * 49_152 * 4, "{} bytes", one.len());
    assert!(one == logits("2"), "one thread and two give different logits");
}

#[test]
fn a_seed_gives_its_text_again_and_another_seed_another() {
    let Some(cache) = cache() else { return };
    let text = |seed: &str| {
        let more = ["--max-tokens", "24", "--temperature", "1", "--top-p", "0.95", "--seed", seed];
        generate(cache, "Tell me about the sea.", &more)["text"].clone()
    };
    let first = text("1");
    assert_eq!(first, text("1"));
    assert_ne!(first, text("2"));
}

#[test]
fn an_answer_ends_at_a_stop_string_and_at_its_limit() {
    let Some(cache) = cache() else { return };
    let stopped = generate(cache, FRANCE, &["--max-tokens", "32", "--stop", "Paris"]);
    assert!(!stopped["text"].as_str().unwrap().contains("Paris"), "{stopped}");
    assert!(stopped["finish"].as_str().unwrap().starts_with("stop-string"), "{stopped}");
    let cut = generate(cache, FRANCE, &["--max-tokens", "3"]);
    assert_eq!((&cut["finish"], cut["ids"].as_array().unwrap().len()), (&json!("length"), 3), "{cut}");
    let told = run(&mut starter(cache, &["generate", "-m", "starter", FRANCE, "--max-tokens", "3"])).exits(0);
    assert!(told.stderr.contains("cut off at 3 tokens"), "{told}");
    run(&mut starter(cache, &["generate", "-m", "starter", FRANCE, "--max-tokens", "0"])).exits(2);
    let over = run(&mut starter(cache, &["generate", "-m", "starter", FRANCE, "--max-tokens", "100000"])).exits(2);
    assert!(over.errors().len() == 1 && over.stderr.contains("--max-tokens"), "{over}");
}

#[test]
fn an_answer_under_a_schema_fits_it() {
    let Some(cache) = cache() else { return };
    let schema = json!({
        "type": "object",
        "properties": {
            "capital": { "type": "string", "maxLength": 24 },
            "continent": { "enum": ["Africa", "America", "Asia", "Europe", "Oceania"] },
            "millions": { "type": "integer", "minimum": 1, "maximum": 200 },
        },
        "required": ["capital", "continent", "millions"],
        "additionalProperties": false,
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("schema.json");
    fs::write(&path, schema.to_string()).unwrap();
    let prompt = "Describe France as JSON: its capital, its continent, its people in millions.";
    for more in [&["--temperature", "0"][..], &["--temperature", "1.5", "--seed", "4"]] {
        let more = [more, &["--max-tokens", "80", "--schema", path.to_str().unwrap()]].concat();
        let answer = generate(cache, prompt, &more);
        let item: Value =
            serde_json::from_str(answer["text"].as_str().unwrap()).unwrap_or_else(|e| panic!("{e}: {answer}"));
        assert!(jsonschema::is_valid(&schema, &item), "{answer}");
    }
    fs::write(&path, "{\"type\": 7}").unwrap();
    let mut wrong = starter(cache, &["generate", "-m", "starter", "x", "--schema"]);
    assert_eq!(run(wrong.arg(&path)).exits(2).errors().len(), 1);
}

#[test]
fn offline_works_on_a_filled_cache_and_says_so_on_an_empty_one() {
    let Some(cache) = cache() else { return };
    run(&mut starter(cache, &["model", "verify", "starter"])).exits(0);
    let path = run(&mut starter(cache, &["model", "path", "starter"])).exits(0);
    assert!(Path::new(path.stdout.trim()).exists(), "{path}");
    let inspected = run(&mut starter(cache, &["model", "inspect", "starter", "--json"])).exits(0).json();
    assert_eq!((&inspected["architecture"], &inspected["layers"]), (&json!("llama"), &json!(30)));
    let listed = run(&mut starter(cache, &["model", "list", "--json"])).exits(0).json();
    let entry = listed["models"].as_array().unwrap().iter().find(|m| m["name"] == "starter").unwrap();
    assert!(entry["cached"].as_array().is_some_and(|c| !c.is_empty()), "{listed}");

    let empty = tempfile::tempdir().unwrap();
    let missing = run(&mut starter(empty.path(), &["generate", "-m", "starter", "hi"])).exits(8);
    assert!(missing.errors().len() == 1 && missing.stderr.contains("starter"), "{missing}");
    assert!(missing.stderr.contains("network") && missing.took < Duration::from_secs(5), "{missing}");
    let unknown = run(&mut starter(empty.path(), &["generate", "-m", "strater", "hi"])).exits(8);
    assert!(unknown.errors()[0].contains("strater") && unknown.stderr.contains("starter"), "{unknown}");
}

#[test]
fn a_bench_has_every_figure_it_promises() {
    let Some(cache) = cache() else { return };
    let bench = |threads: &str| {
        let sizes = ["--prompt", "16", "--gen", "4", "--batch", "2", "--depth", "8", "--repeat", "1", "--json"];
        let mut command = starter(cache, &["bench", "--model", "starter", "--threads", threads]);
        run(command.args(sizes)).exits(0).json()
    };
    let one = bench("1");
    for figure in ["prefill_tokens_per_s", "decode_tokens_per_s", "load_s", "peak_rss_bytes"] {
        assert!(one[figure].as_f64().is_some_and(|x| x > 0.0), "{figure}: {one}");
    }
    assert!(one["logits_hash"].as_str().is_some_and(|hash| !hash.is_empty()), "{one}");
    assert_eq!(one["logits_hash"], bench("2")["logits_hash"]);
}

/// What was said in the fixture, its cues joined and without tags, and who said it.
fn standup() -> (String, BTreeSet<String>) {
    let text = fs::read_to_string(root().join("fixtures/meetings/standup.vtt")).unwrap();
    let (mut said, mut speakers) = (Vec::new(), BTreeSet::new());
    for line in text.lines() {
        if let Some((speaker, words)) = line.strip_prefix("<v ").and_then(|l| l.split_once('>')) {
            speakers.insert(speaker.to_owned());
            said.push(words.trim_end_matches("</v>"));
        } else if !said.is_empty() && !line.contains("-->") && !line.starts_with("NOTE") {
            said.push(line.trim_end_matches("</v>"));
        }
    }
    (words_of(&said.join(" ")), speakers)
}

fn words_of(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The numbers of turns that a text names as `T12`.
fn turns_in(text: &str) -> Vec<usize> {
    let words = text.split(|c: char| !c.is_alphanumeric());
    words.filter_map(|word| word.strip_prefix('T')?.parse().ok()).collect()
}

#[test]
fn the_minutes_of_a_meeting_hold_nothing_that_is_not_in_it() {
    let Some(cache) = cache() else { return };
    let out = tempfile::tempdir().unwrap();
    let minutes = || -> Ran {
        let mut command =
            starter(cache, &["run", "pipelines/meeting-minutes.yaml", "-m", "starter", "--only", "standup.vtt"]);
        run(command.arg("-p").arg(format!("out={}", out.path().display())).current_dir(root()))
    };
    let first = minutes().exits(0);
    assert!(first.stdout.contains("1 document: 1 ok"), "{first}");

    let page = fs::read_to_string(out.path().join("standup.md")).unwrap();
    for section in ["# ", "## Summary", "## Decisions", "## Action items", "## Open questions", "Written by starter"] {
        assert!(page.lines().any(|line| line.starts_with(section)), "{section} is missing:\n{page}");
    }
    let (said, speakers) = standup();
    let read = page.lines().find_map(|l| l.strip_prefix("Read ")).expect("the page says what was read");
    let numbers: Vec<usize> = read.split_whitespace().filter_map(|w| w.parse().ok()).collect();
    let num_turns = numbers[1];
    assert!(numbers[0] == num_turns && num_turns > 10, "{read}");
    let named = turns_in(&page);
    assert!(!named.is_empty() && named.iter().all(|n| (1..=num_turns).contains(n)), "{named:?} of {num_turns}");

    let records = fs::read_to_string(out.path().join("minutes.jsonl")).unwrap();
    let record: Value = serde_json::from_str(records.trim()).unwrap();
    assert_eq!(
        (&record["meeting"], &record["coverage"], &record["date"]),
        (&json!("standup"), &json!(1.0), &json!("2026-03-13"))
    );
    assert_eq!(record["provenance"]["model"]["name"], "starter");
    for list in ["decisions", "actions", "questions"] {
        for item in record[list].as_array().unwrap() {
            let quote = words_of(item["said"].as_str().unwrap());
            assert!(!quote.is_empty() && said.contains(&quote), "nobody said {quote:?}");
            assert!(item["evidence"].as_array().is_some_and(|e| !e.is_empty()), "{item}");
            let owner = item["owner"].as_str();
            assert!(owner.is_none_or(|owner| speakers.contains(owner)), "{item}");
            for id in item["evidence"].as_array().unwrap() {
                let number = turns_in(id.as_str().unwrap());
                assert!(number.len() == 1 && (1..=num_turns).contains(&number[0]), "{item}");
            }
        }
    }
    for sentence in record["sentences"].as_array().unwrap() {
        assert!(sentence["turns"].as_array().is_some_and(|t| !t.is_empty()), "{sentence}");
    }
    let num_actions = record["actions"].as_array().unwrap().len();
    let table = fs::read_to_string(out.path().join("actions.csv")).unwrap();
    assert_eq!(table.lines().count(), 1 + num_actions, "{table}");

    let files = crate::support::files_below(out.path());
    let second = minutes().exits(0);
    assert!(second.stdout.contains("1 skipped") && !second.stderr.contains("loading"), "{second}");
    assert!(second.took < Duration::from_secs(5), "{second}");
    assert_eq!(crate::support::files_below(out.path()), files);
}
