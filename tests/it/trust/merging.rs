//! Shards put together: what is missing, old or in another's way is told, with the exit code that says so.

use std::fs;

use serde_json::{Value, json};

use super::{assert_same, batch, note};
use crate::pipelines::{Stage, counts};
use crate::support::{Ran, root, run, skipped};

const SIGKILL: i32 = 9;

fn shard(stage: &Stage, number: &str) -> Ran {
    run(&mut stage.runs(&["--shard", number, "--quiet"]))
}

fn merged(stage: &Stage, code: i32) -> Value {
    run(&mut stage.command(&["merge", "p.yaml", "--json"])).exits(code).json()
}

#[test]
fn shards_give_the_bytes_of_one_run_and_a_run_afterwards_finds_nothing_to_do() {
    let whole = batch(30, 0);
    whole.run().exits(0);
    let stage = batch(30, 0);
    for number in ["3/4", "1/4", "4/4", "2/4"] {
        shard(&stage, number).exits(0);
        assert!(!stage.path("out/all.jsonl").exists(), "a shard writes no table");
    }
    let report = merged(&stage, 0);
    assert_eq!(
        (&report["done"], &report["missing"], report["shards"].as_array().unwrap().len()),
        (&json!(30), &json!([]), 4)
    );
    assert_same(&stage, &whole.outputs(), "merged from four");
    assert_eq!(counts(&stage.report(0)), [0, 0, 30]);
    assert_same(&stage, &whole.outputs(), "after a run without shards");
    // Merging again changes nothing.
    merged(&stage, 0);
    assert_same(&stage, &whole.outputs(), "merged twice");
}

#[test]
fn a_shard_that_was_killed_is_missed_and_done_again_merges() {
    let whole = batch(30, 20);
    whole.run().exits(0);
    let stage = batch(30, 20);
    shard(&stage, "1/2").exits(0);
    let running = crate::support::start(&mut stage.runs(&["--shard", "2/2"]));
    std::thread::sleep(std::time::Duration::from_millis(250));
    running.signal(SIGKILL);
    running.finish();
    let report = merged(&stage, 7);
    let missing = report["missing"].as_array().unwrap().len() as u64;
    assert!(missing > 0 && missing + report["done"].as_u64().unwrap() == 30, "{report}");
    let told = run(&mut stage.command(&["merge", "p.yaml", "--quiet"])).exits(7);
    assert!(told.stdout.contains("missing: in/"), "also where nothing else is to be said: {told}");
    shard(&stage, "2/2").exits(0);
    merged(&stage, 0);
    assert_same(&stage, &whole.outputs(), "merged after a kill");
}

#[test]
fn failed_documents_old_ones_and_clashing_pages_have_their_exit_codes() {
    // One that failed: 3, and it stands in the list.
    let stage = batch(6, 0);
    stage.write("in/broken.txt", b"\x00\xff\xfe\x00");
    let codes: Vec<_> = ["1/2", "2/2"].iter().map(|number| shard(&stage, number).code.unwrap()).collect();
    assert!(codes.contains(&3) && codes.contains(&0), "{codes:?}");
    let report = merged(&stage, 3);
    assert_eq!((&report["done"], &report["failed"]), (&json!(6), &json!(1)));
    assert!(report["quarantine"].is_string(), "{report}");

    // One shard done by another pipeline: 7, and the documents are named.
    let stage = batch(8, 0);
    shard(&stage, "1/2").exits(0);
    stage.write("p.yaml", stage.read("p.yaml").replace("Second?", "And Second?"));
    shard(&stage, "2/2").exits(0);
    let report = merged(&stage, 7);
    assert!(!report["outdated"].as_array().unwrap().is_empty(), "{report}");
    shard(&stage, "1/2").exits(0);
    merged(&stage, 0);

    // Two documents of different shards with one page: 7, and one run without shards settles it.
    let stage = batch(0, 0);
    for folder in (0..8).map(|n| format!("in/{n}")) {
        fs::create_dir(stage.path(&folder)).unwrap();
        stage.write(&format!("{folder}/note.txt"), format!("A note in {folder}.\n"));
    }
    ["1/2", "2/2"].iter().for_each(|number| drop(shard(&stage, number).exits(0)));
    let report = merged(&stage, 7);
    assert!(report["clashes"].as_array().unwrap().len() >= 2, "{report}");
    stage.run().exits(0);
    assert_eq!(stage.outputs().keys().filter(|name| name.ends_with(".md")).count(), 8, "{:?}", stage.outputs().keys());
}

#[test]
fn shards_run_beside_each_other_and_nobody_else_does() {
    let stage = batch(24, 60);
    let mut first = crate::support::start(&mut stage.runs(&["--shard", "1/2"]));
    while stage.outputs().is_empty() {
        assert!(first.is_running());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    shard(&stage, "1/2").exits(5);
    stage.run().exits(5);
    run(&mut stage.command(&["merge", "p.yaml"])).exits(5);
    shard(&stage, "2/2").exits(0);
    first.finish().exits(0);
    merged(&stage, 0);
}

#[test]
fn a_scheduler_says_which_shard_and_what_is_no_shard_is_refused() {
    let whole = batch(12, 0);
    whole.run().exits(0);
    let stage = batch(12, 0);
    for task in ["11", "12", "13"] {
        let mut command = stage.runs(&["--shard", "auto", "--quiet"]);
        command.env("SLURM_ARRAY_TASK_ID", task).env("SLURM_ARRAY_TASK_MIN", "11").env("SLURM_ARRAY_TASK_COUNT", "3");
        run(&mut command).exits(0);
    }
    merged(&stage, 0);
    assert_same(&stage, &whole.outputs(), "an array job of three");
    for wrong in ["0/4", "5/4", "x", "auto"] {
        let mut command = stage.runs(&["--shard", wrong]);
        for name in ["SLURM_ARRAY_TASK_ID", "JOB_COMPLETION_INDEX"] {
            command.env_remove(name);
        }
        run(&mut command).exits(2);
    }
}

#[test]
fn the_slurm_script_that_comes_with_the_program_merges_to_the_bytes_of_one_run() {
    if std::env::var_os("QUARRY_SLURM").is_none() {
        skipped("an array job on a Slurm of one's own needs root, slurm-wlm and munge; QUARRY_SLURM=1 runs it");
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let mut script = std::process::Command::new("bash");
    script.arg(root().join("tests/slurm/one_node.sh")).arg(env!("CARGO_BIN_EXE_quarry")).arg(scratch.path());
    let ran = run(&mut script).exits(0);
    assert!(ran.stdout.contains("the same bytes"), "{ran}");
}

/// What an index could not read, or read with a doubt, is told by whatever is built on it.
#[test]
fn what_an_index_could_not_read_is_told_and_ends_with_three() {
    let stage = Stage::new("", json!([]));
    note(&stage, 1);
    stage.write("in/broken.pdf", b"%PDF-1.7\nnothing more");
    let built = run(&mut stage.command(&["index", "build", "library", "in"])).exits(3);
    assert!(built.stderr.contains("broken.pdf") || built.stdout.contains("broken.pdf"), "{built}");
    let again = run(&mut stage.command(&["index", "build", "library", "in", "--json"])).exits(3).json();
    assert_eq!(again["report"]["failed"].as_array().unwrap().len(), 1, "{again}");
    fs::remove_file(stage.path("in/broken.pdf")).unwrap();
    run(&mut stage.command(&["index", "build", "library", "in"])).exits(0);
    // An index that is gone or damaged: 8.
    let missing = run(&mut stage.command(&["index", "search", "gone", "machine"])).exits(8);
    assert!(missing.stderr.contains("gone"), "{missing}");
}
