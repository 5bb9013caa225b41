//! What the specification of the pipeline file writes, tried as it is written.

use std::fs;

use serde_json::{Value, json};

use crate::pipelines::{Stage, counts};
use crate::support::run;

fn records(stage: &Stage) -> Vec<Value> {
    stage.read("out/all.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

const SPEAKERS: &str = r#"version: 1
params: { roster: { type: path, default: roster.csv } }
sources:
  calls: { files: "in/*.txt", read: { as: transcript, speakers: { roster: "{{ params.roster }}", unknown: keep-label } } }
steps:
  - { id: who, use: set, values: { all: doc.speakers, title: "doc.title | default('none', true)" } }
outputs: [ { path: out/all.jsonl, key: doc.path, fields: { who: steps.who.all, notes: doc.warnings } } ]
"#;

#[test]
fn speakers_have_the_names_of_the_roster_and_a_change_of_it_is_one_of_every_document() {
    let stage = Stage::new(SPEAKERS, json!([]));
    stage.write("in/a.txt", "Anna: Hello.\nSpeaker 2: Hello.\nAnna: Bye.\n");
    stage.write("roster.csv", "name,alias,team\nAnna Berg,Anna,ops\n");
    assert_eq!(counts(&stage.report(0)), [1, 0, 0]);
    assert_eq!(records(&stage)[0]["who"], json!(["Anna Berg", "Speaker 2"]));
    assert!(records(&stage)[0]["notes"].to_string().contains("does not know, kept as they are written: Speaker 2"));
    assert_eq!(counts(&stage.report(0)), [0, 0, 1]);
    stage.write("roster.csv", "name,alias,team\nAnna Berg,Anna,shop\n");
    assert_eq!(counts(&stage.report(0)), [0, 0, 1], "a column that is not used");
    stage.write("roster.csv", "name,alias,team\nAnna Berg,Anna; Speaker 2,ops\n");
    assert_eq!(counts(&stage.report(0)), [1, 0, 0]);
    assert_eq!(records(&stage)[0]["who"], json!(["Anna Berg"]));
    stage.write("roster.csv", "who,alias\n");
    let told = run(&mut stage.command(&["check", "p.yaml"])).exits(2).stderr;
    assert!(told.contains("no roster: it has no column `name`") && told.contains("p.yaml:4:"), "{told}");
}

#[test]
fn a_file_without_text_is_set_aside_passed_over_or_ends_the_run_as_its_source_says() {
    let pipeline = |no_text: &str| {
        format!(
            "version: 1\nname: texts\nsources: {{ notes: {{ files: \"in/*.txt\", read: {{ no_text: {no_text} }} }} }}\n\
             steps: [ {{ id: page, use: render, template: \"{{{{ doc.text }}}}\" }} ]\n\
             outputs: [ {{ path: out/all.jsonl, key: doc.path, fields: {{ page: steps.page }} }} ]\nrun: {{ in_flight: 1 }}\n"
        )
    };
    let states = |no_text: &str, code: i32| {
        let stage = Stage::new(&pipeline(no_text), json!([]));
        stage.write("in/a.txt", " \n");
        stage.write("in/b.txt", "Words.\n");
        let report = stage.report(code);
        let documents = report["documents"].as_array().unwrap().clone();
        (stage, documents.iter().map(|d| d["state"].as_str().unwrap().to_owned()).collect::<Vec<_>>(), documents)
    };
    let (_, found, documents) = states("quarantine", 3);
    assert_eq!(found, ["failed", "ok"]);
    assert_eq!(documents[0]["failure"]["reason"], "no-text-found", "{documents:?}");
    let (stage, found, documents) = states("skip", 0);
    assert_eq!(found, ["abstained", "ok"]);
    assert!(documents[0]["notes"][0].as_str().unwrap().contains("passed over"), "{documents:?}");
    assert_eq!(counts(&stage.report(0)), [0, 0, 2], "and is not looked at again");
    assert_eq!(records(&stage).len(), 1);
    let (_, found, _) = states("stop", 4);
    assert_eq!(found, ["failed", "skipped"]);
}

#[test]
fn a_model_that_is_named_by_its_bytes_is_used_only_if_they_are_its() {
    let pipeline = |sum: &str| {
        format!(
            "version: 1\nmodel: {{ use: {{ path: models/m.gguf, sha256: \"{sum}\" }} }}\nsources: {{ notes: \"in/*.txt\" }}\n\
             steps: [ {{ id: said, use: generate, prompt: x, max_tokens: 5 }} ]\n\
             outputs: [ {{ path: out/all.jsonl, fields: {{ said: steps.said }} }} ]\n"
        )
    };
    let stage = Stage::new(&pipeline("<pinned by `quarry model lock`>"), json!([]));
    stage.write("in/a.txt", "Words.\n");
    fs::create_dir(stage.path("models")).unwrap();
    stage.write("models/m.gguf", "GGUF, and not one");
    let told = run(&mut stage.command(&["check", "p.yaml"])).exits(2).stderr;
    assert!(told.contains("p.yaml:2:46") && told.contains("quarry model lock models/m.gguf"), "{told}");
    let locked = run(&mut stage.command(&["model", "lock", "models/m.gguf"])).exits(0).stdout;
    let sum = locked.split("sha256: ").nth(1).and_then(|s| s.split(' ').next()).unwrap();
    assert!(sum.len() == 64 && locked.starts_with("use: { path: \"models/m.gguf\", sha256: "), "{locked}");
    // From another folder: a path of the file stands relative to the file.
    let elsewhere = || {
        let mut command = stage.command(&["run", stage.path("p.yaml").to_str().unwrap()]);
        command.current_dir(stage.path("in"));
        command
    };
    stage.write("p.yaml", pipeline(sum));
    let told = run(&mut elsewhere()).exits(8).stderr;
    assert!(!told.contains("is not the model that the file names") && told.contains("models/m.gguf"), "{told}");
    stage.write("p.yaml", pipeline(&"0".repeat(64)));
    let told = run(&mut elsewhere()).exits(8).stderr;
    let expected = format!("models/m.gguf is not the model that the file names: its SHA-256 is {sum}, not 0000");
    assert!(told.contains(&expected), "{told}");
    assert!(!stage.path("out/all.jsonl").exists());
}

#[test]
fn events_and_quarantine_may_be_named_by_the_day_and_by_parameters() {
    let pipeline = r#"version: 1
params: { out: { type: path, default: out } }
sources: { notes: "in/*.txt" }
steps: [ { id: sane, use: check, assert: ["doc.text | length > 9"] } ]
outputs: [ { path: out/all.jsonl, fields: { ok: steps.sane } } ]
run: { quarantine: "{{ params.out }}/failed-{{ run.date }}.jsonl", events: "{{ params.out }}/events-{{ run.date }}.jsonl" }
"#;
    let stage = Stage::new(pipeline, json!([]));
    stage.write("in/a.txt", "Words.\n");
    fs::create_dir(stage.path("out")).unwrap();
    let report = stage.report(3);
    let day = &report["started"].as_str().unwrap()[..10];
    assert_eq!(report["quarantine"], format!("out/failed-{day}.jsonl"));
    for name in ["failed", "events"] {
        assert!(stage.path(&format!("out/{name}-{day}.jsonl")).is_file(), "{name}");
    }
    stage.write("p.yaml", pipeline.replace("events-{{ run.date }}", "{{ doc.stem }}"));
    let told = run(&mut stage.command(&["check", "p.yaml"])).exits(2).stderr;
    assert!(told.contains("cannot name `doc`") && told.contains("p.yaml:6:"), "{told}");
}

#[test]
fn one_fault_is_told_and_not_what_follows_from_it() {
    let pipeline = r#"version: 1
sources: { library: { files: "in/*.txt", read: { pges: keep } }, notes: "in/*.txt" }
indexes: { shelf: { from: library, split: { by: headings, context: heading-path }, fields: { title: doc.title } } }
steps:
  - { id: found, use: retrieve, from: shelf, query: "{{ doc.text }}", top: 24, fuse: rrf, rerank: { top: 6, budget: 5s } }
  - { id: cut, use: split, by: tokens, size: 300 tokens }
  - { id: parts, use: split, by: topics, size: 300 tokens }
outputs: [ { path: out/all.jsonl, fields: { hits: steps.found.hits, cut: steps.cut, parts: steps.parts } } ]
"#;
    let stage = Stage::new(pipeline, json!([]));
    stage.write("in/a.txt", "Words.\n");
    let told = run(&mut stage.command(&["check", "p.yaml"])).exits(2);
    assert_eq!(told.errors().len(), 1, "{told}");
    assert!(told.stderr.contains("did you mean `pages`?"), "{told}");
    stage.write("p.yaml", pipeline.replace("pges", "pages"));
    run(&mut stage.command(&["check", "p.yaml"])).exits(0);
    stage.write("p.yaml", pipeline.replace("pges: keep", "no_text: skip"));
    let told = run(&mut stage.command(&["check", "p.yaml"])).exits(2).stderr;
    assert!(told.contains("`sources.library.read.no_text` is of documents"), "{told}");
}

#[test]
fn whoever_started_a_run_says_which_ends_are_all_right() {
    let pipeline = r#"version: 1
sources: { notes: "in/*.txt" }
steps: [ { id: page, use: render, template: "{{ doc.text }}" } ]
outputs: [ { path: out/all.jsonl, key: doc.path, fields: { page: steps.page } } ]
run: { max_failed: 50% }
"#;
    let stage = Stage::new(pipeline, json!([]));
    stage.write("in/a.txt", " ");
    stage.write("in/b.txt", "Words.\n");
    let ends =
        |arguments: &[&str], code: i32| run(&mut stage.command(&[&["run", "p.yaml"], arguments].concat())).exits(code);
    ends(&["--quiet"], 3);
    let told = ends(&["--ok", "3,6"], 0);
    assert!(told.stdout.contains("1 failed"), "what happened is told: {told}");
    ends(&["--ok", "4", "--quiet"], 3);
    ends(&["--set", "run.deadline=+0s", "--force", "--ok", "3,6", "--quiet"], 0);
    for never in ["1", "2", "x"] {
        ends(&["--ok", never], 2);
    }
    // A share is one of all inputs, also where only the failed are done again.
    let again = run(&mut stage.command(&["retry", "p.yaml"])).exits(3);
    assert!(again.stdout.contains("1 document: 1 failed"), "{again}");
}
