//! Public transcripts that are not part of the project: `../shared`, or the folder that `QUARRY_SHARED` names.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{quarry, root, run, skipped};

fn shared(inside: &str) -> Option<PathBuf> {
    let named = std::env::var_os("QUARRY_SHARED").map(PathBuf::from);
    let folder = named.unwrap_or_else(|| root().join("../shared")).join(inside);
    if !folder.is_dir() {
        skipped(&format!("{} is not there; QUARRY_SHARED names another place", folder.display()));
        return None;
    }
    Some(fs::canonicalize(folder).unwrap())
}

#[test]
fn all_meetings_of_qmsum_are_read_to_the_last_turn() {
    let Some(meetings) = shared("data/meetings/qmsum-val") else { return };
    let stage = tempfile::tempdir().unwrap();
    let script = json!([
        { "when": "/(?i)json list/", "answer": [[]] },
        { "answer": "The speakers talked about the matter at hand and about what comes next." },
    ]);
    fs::write(stage.path().join("script.json"), script.to_string()).unwrap();
    let pipeline = format!(
        r#"
version: 1
name: qmsum
sources: {{ meetings: {{ files: "{}/*.json" }} }}
steps:
  - {{ id: chunks, use: split, size: 400 words }}
  - {{ id: summary, use: summarize, strategy: notes, length: 120 words }}
  - id: tasks
    use: extract
    many: {{ evidence: turns, said: quote, task: string }}
    instruct: List the tasks.
outputs:
  - name: all
    path: out/all.jsonl
    fields: {{ doc: doc.stem, turns: doc.turns | length, chunks: steps.chunks.chunks | map(attribute="turns") | list, coverage: steps.summary.coverage, read: steps.summary.turns_read, sentences: steps.summary.sentences }}
"#,
        meetings.display()
    );
    fs::write(stage.path().join("p.yaml"), pipeline).unwrap();
    let mut command = quarry(&stage.path().join("cache"));
    command.args(["run", "p.yaml", "-m", "scripted:script.json", "--json"]).current_dir(stage.path());
    let report = run(&mut command).exits(0).json();
    assert_eq!(
        (&report["counts"]["inputs"], &report["counts"]["ok"]),
        (&json!(35), &json!(35)),
        "{}",
        report["counts"]
    );
    for document in report["documents"].as_array().unwrap() {
        let coverage = &document["coverage"];
        assert!(coverage["read"] == coverage["total"] && coverage["unread"] == json!([]), "{document}");
    }

    let records = fs::read_to_string(stage.path().join("out/all.jsonl")).unwrap();
    for record in records.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        let num_turns = record["turns"].as_u64().unwrap();
        assert!(num_turns > 20, "{} has {num_turns} turns", record["doc"]);
        assert_eq!((&record["coverage"], record["read"].as_u64()), (&json!(1.0), Some(num_turns)), "{}", record["doc"]);
        let chunked = record["chunks"].as_array().unwrap().iter().flat_map(|c| c.as_array().unwrap());
        let chunked: BTreeSet<&str> = chunked.filter_map(Value::as_str).collect();
        assert_eq!(chunked.len() as u64, num_turns, "{}: every turn is in a chunk", record["doc"]);
        let cited = record["sentences"].as_array().unwrap().iter().flat_map(|s| s["turns"].as_array().unwrap());
        assert!(cited.into_iter().all(|id| chunked.contains(id.as_str().unwrap())), "{}", record["doc"]);
    }

    let again = run(&mut command).exits(0);
    assert_eq!(again.json()["counts"]["skipped"], 35);
    assert!(again.took < Duration::from_secs(10), "{again}");
}
