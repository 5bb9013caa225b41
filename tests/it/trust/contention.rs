//! Many runs at once, and one after the other: each input is done once, and nothing grows.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use super::{BATCH, assert_same, assert_tidy, batch, note, tries};
use crate::pipelines::{Stage, counts};
use crate::support::{run, start};

#[test]
fn of_many_runs_started_at_once_exactly_one_proceeds() {
    let stage = batch(10, 300);
    let starts = tries(12, 50);
    let running: Vec<_> = (0..starts).map(|_| start(&mut stage.runs(&["--events", "events.jsonl"]))).collect();
    let ended: Vec<_> = running.into_iter().map(|r| r.finish()).collect();
    let (done, refused): (Vec<_>, Vec<_>) = ended.iter().partition(|r| r.code == Some(0));
    // On a machine with few cores the last may begin when the first has ended: it then finds nothing to do.
    let worked = done.iter().filter(|r| r.stdout.contains("10 ok")).count();
    assert_eq!(worked, 1, "{}", done[0]);
    for refusal in &refused {
        assert_eq!(refusal.code, Some(5), "{refusal}");
        assert!(refusal.errors().len() == 1 && refusal.stderr.contains("another run"), "{refusal}");
    }
    assert!(refused.len() * 2 > starts, "{} of {starts} were refused", refused.len());
    println!("{} of {starts} refused, the slowest in {:?}", refused.len(), refused.iter().map(|r| r.took).max());
    let begun = super::events(&stage).iter().filter(|e| e["event"] == "document-started").count();
    assert_eq!(begun, 10, "each document was done once");
    let alone = batch(10, 0);
    alone.write("script.json", stage.read("script.json"));
    alone.run().exits(0);
    assert_same(&stage, &alone.outputs(), "many at once");
    assert_tidy(&stage, "many at once");
}

#[test]
fn two_runs_on_different_outputs_share_a_cache_and_are_both_right() {
    let whole = batch(8, 5);
    whole.run().exits(0);
    for round in 0..tries(2, 20) {
        let stage = batch(8, 5);
        stage.write("q.yaml", BATCH.replace("out/", "elsewhere/"));
        let other = ["run", "q.yaml", "-m", "scripted:script.json", "--json"];
        let running = [start(&mut stage.runs(&["--json"])), start(&mut stage.command(&other))];
        for ended in running.map(|r| r.finish().exits(0).json()) {
            assert_eq!(counts(&ended), [8, 0, 0], "round {round}");
            assert_eq!(ended["calls"]["damaged"], 0, "round {round}: {}", ended["calls"]);
        }
        assert_same(&stage, &whole.outputs(), "beside another");
        let elsewhere = crate::support::files_below(&stage.path("elsewhere"));
        for (name, bytes) in whole.outputs() {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).split(" · pipeline").next().unwrap().to_owned();
            if name.ends_with(".md") {
                assert_eq!(text(&elsewhere[&name]), text(&bytes), "round {round}: {name}");
            }
        }
    }
}

/// Rules that are asked by notes; no model answers.
const SHELF: &str = r#"
version: 1
name: shelf
sources: { library: "lib/*.md", notes: "in/*.txt" }
indexes: { shelf: { from: library } }
steps:
  - { id: found, use: retrieve, from: shelf, query: "{{ doc.text }}", top: 3 }
outputs:
  - { name: all, path: out/all.jsonl, fields: { doc: doc.stem, files: "steps.found.hits | map(attribute='file') | list" } }
"#;

#[test]
fn two_runs_share_an_index_and_are_both_right() {
    for round in 0..tries(2, 20) {
        let stage = Stage::new(SHELF, json!([]));
        stage.write("q.yaml", SHELF.replace("name: shelf", "name: other").replace("out/", "elsewhere/"));
        fs::create_dir(stage.path("lib")).unwrap();
        for n in 0..12 {
            stage.write(&format!("lib/{n}.md"), format!("# Rule {n}\nThe kiln number{n} is mended on Friday.\n"));
            stage.write(&format!("in/{n:02}.txt"), format!("Who mends number{n}?\n"));
        }
        let running = [start(&mut stage.command(&["run", "p.yaml"])), start(&mut stage.command(&["run", "q.yaml"]))];
        for one in running {
            one.finish().exits(0);
        }
        for folder in ["out", "elsewhere"] {
            let text = stage.read(&format!("{folder}/all.jsonl"));
            let records: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            assert_eq!(records.len(), 12, "round {round}: {folder}");
            for (n, record) in records.iter().enumerate() {
                assert_eq!(record["files"][0], format!("lib/{n}.md"), "round {round}: {folder}: {record}");
            }
        }
    }
}

#[test]
fn runs_again_and_again_on_a_growing_folder_do_each_input_once_and_leave_nothing_behind() {
    let stage = batch(1, 0);
    let scratch = tempfile::tempdir().unwrap();
    let runs = tries(6, 100);
    let logged = |json: &[&str]| {
        let mut command = stage.runs(&[&["--events", "events.jsonl"], json].concat());
        command.env("TMPDIR", scratch.path());
        command
    };
    let mut slowest = Duration::ZERO;
    for n in 1..=runs {
        note(&stage, n);
        let report = run(&mut logged(&["--json"])).exits(0).json();
        assert_eq!(counts(&report), if n == 1 { [2, 0, 0] } else { [1, 0, n as u64] });
        let nothing = run(&mut logged(&[])).exits(0);
        assert!(!nothing.stderr.contains("loading"), "{nothing}");
        slowest = slowest.max(nothing.took);
    }
    println!("nothing to do: {slowest:?} at most");
    assert!(slowest < Duration::from_secs(10), "{slowest:?}"); // a second where nothing else runs
    let begun = super::events(&stage).iter().filter(|e| e["event"] == "document-started").count();
    assert_eq!(begun, runs + 1);
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0, "temporary files are left");
    let state: Vec<String> = fs::read_dir(stage.path("out/.quarry/batch"))
        .unwrap()
        .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(state.len(), 5, "journal, lock, parts, parts of keys and the manifest: {state:?}");
    let lines = stage.read("out/.quarry/batch/journal.jsonl").lines().count();
    assert_eq!(lines, runs + 1, "a line for each document");
    assert_tidy(&stage, "after many runs");
}

#[test]
fn descriptors_of_a_long_run_do_not_grow() {
    let stage = batch(tries(60, 400), 5);
    let mut running = start(&mut stage.runs(&["--events", "events.jsonl"]));
    let mut most = 0;
    while running.is_running() {
        most = most.max(running.num_descriptors());
        std::thread::sleep(Duration::from_millis(10));
    }
    let ended = running.finish().exits(0);
    assert!((3..40).contains(&most), "{most} descriptors: {ended}");
    let manifest: Value = serde_json::from_str(&stage.read("out/.quarry/batch/run.json")).unwrap();
    assert_eq!(manifest["outcome"]["is"], "finished");
}
