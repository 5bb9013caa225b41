//! Indexes on a disk: killed while they are built, damaged, asked. Needs no model; `QUARRY_KILLS=50` kills more often.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{quarry, root, run, start};

const KILLS: usize = 6;

fn command(stage: &Path, arguments: &[&str]) -> Command {
    let mut command = quarry(&stage.join("cache"));
    command.args(arguments).current_dir(stage);
    command
}

/// A folder of many small files about different things.
fn library(stage: &Path, files: usize) {
    let words = ["wing", "lift", "drag", "flow", "plate", "shock", "layer", "heat", "jet", "cone", "mach", "edge"];
    fs::create_dir_all(stage.join("docs")).unwrap();
    for i in 0..files {
        let sentence = |j: usize| {
            let pick = |k: usize| words[(i * 31 + j * 7 + k * (i % 5 + 1)) % words.len()];
            format!("The {} of the {} meets number{i} at the {}.", pick(0), pick(1), pick(2))
        };
        let text: Vec<String> = (0..60).map(sentence).collect();
        fs::write(stage.join("docs").join(format!("{i:04}.md")), format!("# File {i}\n\n{}\n", text.join(" ")))
            .unwrap();
    }
}

fn found(stage: &Path, index: &str, question: &str) -> Vec<(String, String)> {
    let hits = run(&mut command(stage, &["index", "search", index, question, "--json"])).exits(0).json();
    let hit = |h: &Value| (h["place"].as_str().unwrap().to_owned(), h["passage"]["text"].as_str().unwrap().to_owned());
    hits.as_array().unwrap().iter().map(hit).collect()
}

#[test]
fn a_build_that_is_killed_leaves_the_last_commit_and_goes_on_from_there() {
    let stage = tempfile::tempdir().unwrap();
    let stage = stage.path();
    library(stage, 1500);
    let whole = run(&mut command(stage, &["index", "build", "whole", "docs", "--json"])).exits(0);
    assert_eq!(whole.json()["report"]["added"], 1500);
    let questions = ["number77", "number1234 or number900", "number3 and number1499"];
    let expected: Vec<_> = questions.iter().map(|q| found(stage, "whole", q)).collect();

    let kills = std::env::var("QUARRY_KILLS").ok().map_or(KILLS, |n| n.parse().expect("a number of kills"));
    // Moments spread over a whole build, the same on each run of this test; the machine makes them different enough.
    let span = whole.took.as_millis() as u64;
    for kill in 0..kills as u64 {
        let mut build = start(&mut command(stage, &["index", "build", "killed", "docs", "--quiet"]));
        std::thread::sleep(Duration::from_millis(20 + span * kill / kills as u64));
        if build.is_running() {
            build.signal(9);
        }
        build.finish();
        // What is there is sound: nothing yet, or a commit.
        let health = run(&mut command(stage, &["index", "check", "killed"]));
        let is_new = health.code == Some(8) && health.stderr.contains("there is no index");
        assert!(health.code == Some(0) || is_new, "after kill {kill}: {health}");
        if kill % 2 == 1 {
            fs::remove_dir_all(stage.join("killed")).unwrap(); // half of them begin anew, half go on
        }
    }
    let done = run(&mut command(stage, &["index", "build", "killed", "docs", "--json"])).exits(0).json();
    let report = &done["report"];
    assert_eq!(report["added"].as_u64().unwrap() + report["unchanged"].as_u64().unwrap(), 1500, "{report}");
    run(&mut command(stage, &["index", "check", "killed"])).exits(0);
    for (question, expected) in questions.iter().zip(&expected) {
        assert_eq!(&found(stage, "killed", question), expected, "{question}");
    }
    let count = |folder: &str| fs::read_dir(stage.join("killed").join(folder)).unwrap().count();
    assert_eq!(count("files"), 1, "what killed builds left is tidied up");
}

#[test]
fn an_update_reads_what_has_changed_and_a_second_writer_is_turned_away() {
    let stage = tempfile::tempdir().unwrap();
    let stage = stage.path();
    library(stage, 200);
    run(&mut command(stage, &["index", "build", "index", "docs"])).exits(0);
    fs::write(stage.join("docs/0007.md"), "Zebras are counted in spring.").unwrap();
    let report = run(&mut command(stage, &["index", "update", "index", "--json"])).exits(0).json();
    let report = &report["report"];
    assert_eq!((&report["changed"], &report["unchanged"], &report["read"]), (&json!(1), &json!(199), &json!(1)));
    assert_eq!(found(stage, "index", "zebra")[0].0, "0007.md");
    assert!(found(stage, "index", "number7").is_empty());

    let lock = fs::File::options().write(true).open(stage.join("index/.lock")).unwrap();
    lock.lock().unwrap();
    run(&mut command(stage, &["index", "update", "index"])).exits(5);
    run(&mut command(stage, &["index", "search", "index", "zebra"])).exits(0);
    drop(lock);
    run(&mut command(stage, &["index", "update", "index"])).exits(0);
}

#[test]
fn damage_is_found_by_name_and_repaired_by_a_fresh_build() {
    let stage = tempfile::tempdir().unwrap();
    let stage = stage.path();
    library(stage, 30);
    run(&mut command(stage, &["index", "build", "index", "docs"])).exits(0);
    let expected = found(stage, "index", "lift of number12");
    let mut num_damaged = 0;
    for entry in fs::read_dir(stage.join("index/text")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with('.') || name == "meta.json" {
            continue; // locks and lists; the other tests of the index look at these
        }
        let whole = fs::read(&path).unwrap();
        let mut bytes = whole.clone();
        bytes[whole.len() / 3] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let told = run(&mut command(stage, &["index", "check", "index"])).exits(8);
        assert!(told.stderr.contains(&name) && told.stderr.contains("--fresh"), "{name}: {told}");
        fs::write(&path, &whole).unwrap();
        num_damaged += 1;
    }
    assert!(num_damaged >= 5, "{num_damaged}");
    fs::write(stage.join("index/text/meta.json"), "{").unwrap();
    run(&mut command(stage, &["index", "search", "index", "lift"])).exits(8);
    run(&mut command(stage, &["index", "build", "index", "docs", "--fresh"])).exits(0);
    assert_eq!(found(stage, "index", "lift of number12"), expected);
    // Somebody's folder is neither used nor removed.
    run(&mut command(stage, &["index", "build", "docs", "docs", "--fresh"])).exits(2);
    assert_eq!(fs::read_dir(stage.join("docs")).unwrap().count(), 30);
}

#[test]
fn figures_are_those_of_the_judgements_in_both_formats() {
    let stage = tempfile::tempdir().unwrap();
    let stage = stage.path();
    library(stage, 20);
    run(&mut command(stage, &["index", "build", "index", "docs"])).exits(0);
    fs::write(stage.join("q.jsonl"), "{\"_id\":\"a\",\"text\":\"number3\"}\n{\"_id\":\"b\",\"text\":\"number4\"}\n")
        .unwrap();
    fs::write(stage.join("q.tsv"), "a\tnumber3\nb\tnumber4\n").unwrap();
    fs::write(stage.join("r.tsv"), "query-id\tcorpus-id\tscore\na\t0003\t1\nb\t0009\t1\n").unwrap();
    fs::write(stage.join("r.trec"), "a 0 0003.md 1\nb 0 0009.md 1\n").unwrap();
    let eval = |queries: &str, qrels: &str| {
        let arguments = ["index", "eval", "index", "--queries", queries, "--qrels", qrels, "--json"];
        run(&mut command(stage, &arguments)).exits(0).json()["measures"].clone()
    };
    let beir = eval("q.jsonl", "r.tsv");
    assert_eq!(beir, eval("q.tsv", "r.trec"));
    assert_eq!((&beir["nDCG@10"]["mean"], &beir["recall@1"]["mean"]), (&json!(0.5), &json!(0.5)), "{beir}");
}

/// Answers with the words of the passage that it is shown.
fn script(stage: &Path) {
    let says = "Payroll records are kept for seven years.";
    let quote = "Payroll records are kept for seven years after the end of the year that they are about.";
    let ill = "Whoever is ill tells the team lead before nine in the morning.";
    let script = json!([
        { "when": "/payroll/", "answer": [[{ "quote": quote, "says": says }]] },
        { "answer": [[{ "quote": ill, "says": "The team lead is told before nine in the morning." }]] },
    ]);
    fs::write(stage.join("script.json"), script.to_string()).unwrap();
}

#[test]
fn a_folder_is_asked_and_every_citation_stands_in_its_file() {
    let stage = tempfile::tempdir().unwrap();
    let stage = stage.path();
    script(stage);
    let handbook = root().join("fixtures/handbook");
    let handbook = handbook.to_str().unwrap();
    let ask = |question: &str| {
        run(&mut command(stage, &["ask", handbook, question, "-m", "scripted:script.json", "--json"])).exits(0).json()
    };
    let answer = ask("How long are payroll records kept?");
    assert_eq!(answer["answer"]["state"], "answered", "{answer}");
    let citation = &answer["answer"]["citations"][0];
    let file = fs::read_to_string(root().join("fixtures/handbook").join(citation["file"].as_str().unwrap())).unwrap();
    assert!(file.contains(citation["quote"].as_str().unwrap()), "{citation}");
    let none = ask("Who may use the swimming pool on Sundays?");
    assert_eq!(
        (&none["answer"]["state"], &none["answer"]["text"]),
        (&json!("abstained"), &json!("Not found in the documents."))
    );
}

#[test]
fn the_pipeline_that_asks_a_folder_writes_pages_with_marked_quotes() {
    let stage = tempfile::tempdir().unwrap();
    let stage = stage.path();
    script(stage);
    let pipeline = root().join("pipelines/ask-folder.yaml");
    let out = stage.join("answers");
    let out = format!("out={}", out.display());
    let pipeline = pipeline.to_str().unwrap();
    let mut runs = command(stage, &["run", pipeline, "-m", "scripted:script.json", "-p", &out, "--json"]);
    let report = run(&mut runs).exits(0).json();
    let counts = &report["counts"];
    assert_eq!((&counts["ok"], &counts["abstained"]), (&json!(2), &json!(1)), "{counts}");
    let page = fs::read_to_string(stage.join("answers/payroll.html")).unwrap();
    assert!(page.contains("<mark>Payroll records are kept for seven years after the end"), "{page}");
    assert!(fs::read_to_string(stage.join("answers/pool.html")).unwrap().contains("Not found in the documents."));
    let again = run(&mut runs).exits(0).json();
    assert_eq!(again["counts"]["skipped"], 3, "nothing has changed: {}", again["counts"]);
}
