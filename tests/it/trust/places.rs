//! Disks that are full and folders that cannot be written.

use std::fs;

use serde_json::json;

use super::{BATCH, Mount, assert_same, batch, is_slow, note};
use crate::pipelines::{Stage, counts};
use crate::support::run;

/// Notes whose answers fill a disk.
fn large(num: usize) -> Stage {
    let long = "It was said at great length. ".repeat(400);
    let stage = Stage::new(
        BATCH,
        json!([
            { "when": "Second?", "answer": "It was said a second time." },
            { "answer": long, "finish": "stop" },
        ]),
    );
    (0..num).for_each(|n| note(&stage, n));
    stage
}

#[test]
fn a_disk_that_fills_up_ends_the_run_and_room_lets_it_go_on() {
    let whole = large(60);
    whole.run().exits(0);
    let sizes: &[u64] = if is_slow() { &[1, 4, 16] } else { &[1] };
    for size in sizes {
        for place in ["out", "cache", "out/.quarry/batch"] {
            let stage = large(60);
            let Some(disk) = Mount::tmpfs(&stage.path(place), &format!("{size}m")) else { return };
            let when = format!("{place} on a disk of {size} MiB");
            // All but a little of it is taken.
            fs::write(disk.path.join("ballast"), vec![1; ((size << 20) - (400 << 10)) as usize]).unwrap();
            let full = stage.run();
            if place == "cache" {
                // Answers that cannot be kept are said, and the work goes on.
                let full = full.exits(0);
                assert!(
                    full.stderr.contains("cannot write the cache") && full.stderr.contains("space"),
                    "{when}: {full}"
                );
            } else {
                let full = full.exits(9);
                assert!(full.errors().len() == 1 && full.stderr.contains("No space left"), "{when}: {full}");
                assert!(full.errors()[0].contains(place.split('/').next().unwrap()), "{when}: {full}");
            }
            // What is there is whole.
            for (name, bytes) in stage.outputs().iter().filter(|(name, _)| name.ends_with(".md")) {
                assert_eq!(bytes, &whole.outputs()[name], "{when}: {name}");
            }
            fs::remove_file(disk.path.join("ballast")).unwrap();
            disk.again("size=64m");
            let resumed = run(&mut stage.runs(&["--json"])).exits(0).json();
            assert!(counts(&resumed)[2] > 0, "{when}: earlier results were kept: {resumed}");
            assert_same(&stage, &whole.outputs(), &when);
            for parts in ["out/.quarry/parts", "out/.quarry/batch/parts"] {
                assert_eq!(fs::read_dir(stage.path(parts)).unwrap().count(), 0, "{when}: half-written files are left");
            }
            stage.run().exits(0);
        }
    }
}

#[test]
fn a_full_disk_for_temporary_files_or_events_does_not_end_a_run() {
    let whole = large(6);
    whole.run().exits(0);
    let stage = large(6);
    let Some(disk) = Mount::tmpfs(&stage.path("elsewhere"), "64k") else { return };
    fs::write(disk.path.join("ballast"), vec![1; 60 << 10]).unwrap();
    let mut command = stage.runs(&["--events", "elsewhere/events.jsonl"]);
    let ended = run(command.env("TMPDIR", &disk.path)).exits(0);
    assert!(
        ended.stderr.contains("events can no longer be written") || disk.path.join("events.jsonl").exists(),
        "{ended}"
    );
    assert_same(&stage, &whole.outputs(), "temporary files on a full disk");
}

#[test]
fn an_index_on_a_full_disk_says_so_and_is_built_when_there_is_room() {
    let stage = Stage::new(BATCH, json!([]));
    for n in 0..200 {
        let text: String = (0..400).map(|i| format!("word{} ", i * 7919 * (n + 1) % 100_003)).collect();
        stage.write(&format!("in/{n:03}.txt"), text);
    }
    let Some(disk) = Mount::tmpfs(&stage.path("elsewhere"), "1m") else { return };
    fs::write(disk.path.join("ballast"), vec![1; 900 << 10]).unwrap();
    let build = ["index", "build", "elsewhere/library", "in"];
    let full = run(&mut stage.command(&build)).exits(9);
    assert!(full.errors().len() == 1 && full.stderr.contains("elsewhere/library"), "{full}");
    assert!(full.stderr.contains("No space left") || full.stderr.contains("space"), "{full}");
    fs::remove_file(disk.path.join("ballast")).unwrap();
    disk.again("size=64m");
    run(&mut stage.command(&build)).exits(0);
    run(&mut stage.command(&["index", "check", "elsewhere/library"])).exits(0);
    let found = run(&mut stage.command(&["index", "search", "elsewhere/library", "word7919", "--json"])).exits(0);
    assert!(!found.json().as_array().unwrap().is_empty(), "{found}");
}

#[test]
fn read_only_folders_are_known_before_a_model_is_loaded() {
    let stage = batch(3, 0);
    stage.run().exits(0);
    let expected = stage.outputs();
    for place in ["out", "cache", "in"] {
        let stage = batch(3, 0);
        let Some(disk) = Mount::tmpfs(&stage.path(place), "4m") else { return };
        if place == "in" {
            (0..3).for_each(|n| note(&stage, n));
        }
        disk.again("ro");
        let ended = stage.run();
        match place {
            "out" => {
                let ended = ended.exits(2);
                assert!(ended.errors().len() == 1 && ended.stderr.contains("out"), "{ended}");
                assert!(!ended.stderr.contains("loading"), "{ended}");
                disk.again("rw");
                stage.run().exits(0);
            }
            "cache" => {
                let ended = ended.exits(0);
                assert!(ended.stderr.contains("cannot write the cache"), "{ended}");
            }
            _ => drop(ended.exits(0)),
        }
        assert_same(&stage, &expected, &format!("{place} was read-only"));
    }
}
