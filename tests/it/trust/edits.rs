//! A pipeline, its prompts, its model or its schema edited between a kill and the next run: what is affected is done
//! again, and nothing else.

use std::thread::sleep;
use std::time::Duration;

use serde_json::json;

use super::{assert_same, batch, script};
use crate::pipelines::{Stage, counts};

const SIGKILL: i32 = 9;

/// A run over ten notes that was killed when some of them were done. Returns how many were.
fn killed() -> (Stage, u64) {
    let stage = batch(10, 60);
    let mut running = stage.started();
    sleep(Duration::from_millis(150));
    assert!(running.is_running(), "the run was over before it was killed");
    running.signal(SIGKILL);
    running.finish();
    let done = stage.read("out/.quarry/batch/journal.jsonl").lines().count() as u64;
    assert!((1..10).contains(&done), "{done} were done");
    (stage, done)
}

#[test]
fn a_comment_or_another_layout_redoes_nothing() {
    let (stage, done) = killed();
    let text = stage
        .read("p.yaml")
        .replace("steps:", "# What is asked.\nsteps:")
        .replace("{ id: first, use", "{  id:  first,   use");
    stage.write("p.yaml", text.replace("in_flight: 2", "in_flight: 3"));
    assert_eq!(counts(&stage.report(0)), [10 - done, 0, done]);
}

#[test]
fn an_edited_prompt_redoes_every_document_and_asks_only_what_it_changes() {
    let (stage, done) = killed();
    let edited = stage.read("p.yaml").replace("Second?", "And Second?");
    stage.write("p.yaml", &edited);
    let report = stage.report(0);
    assert_eq!(counts(&report), [10, 0, 0]);
    // The first question of the documents that were done, or under way, is answered already.
    let calls = &report["calls"];
    assert!(calls["from_cache"].as_u64().unwrap() >= done && calls["made"].as_u64().unwrap() <= 20 - done, "{calls}");
    let fresh = batch(10, 0);
    fresh.write("p.yaml", &edited);
    fresh.write("script.json", stage.read("script.json"));
    fresh.run().exits(0);
    assert_same(&stage, &fresh.outputs(), "a prompt was edited");
}

#[test]
fn another_model_redoes_every_document_and_a_run_cut_short_says_which_records_are_old() {
    let (stage, done) = killed();
    let mut other = script(0);
    other[0]["answer"] = json!("Another model has said this.");
    stage.write("script.json", other.to_string());
    let one = crate::support::run(&mut stage.runs(&["--limit", "1", "--json"])).exits(0).json();
    assert_eq!(counts(&one), [1, 0, 0]);
    if done > 1 {
        let notes = one["notes"].to_string();
        assert!(notes.contains("records made by an earlier pipeline or model"), "{notes}");
    }
    assert_eq!(counts(&stage.report(0)), [9, 0, 1]);
    let fresh = batch(10, 0);
    fresh.write("script.json", other.to_string());
    fresh.run().exits(0);
    assert_same(&stage, &fresh.outputs(), "the model was replaced");
}

#[test]
fn an_output_that_is_added_is_filled_without_asking_again() {
    let (stage, _) = killed();
    stage.run().exits(0);
    let added = stage
        .read("p.yaml")
        .replace("outputs:\n", "outputs:\n  - { name: more, path: out/more.jsonl, fields: { said: steps.second } }\n");
    stage.write("p.yaml", added);
    let report = stage.report(0);
    assert_eq!((&report["calls"]["made"], &report["calls"]["from_cache"]), (&json!(0), &json!(20)), "{report}");
    assert_eq!(stage.read("out/more.jsonl").lines().count(), 10);
}
