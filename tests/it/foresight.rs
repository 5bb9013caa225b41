//! What is told before a run: `plan`, `preview`, `explain --why`, and what is shown while it goes on: `run --show`.

use serde_json::Value;

use crate::pipelines::Stage;
use crate::support::run;

fn json(stage: &Stage, arguments: &[&str]) -> Value {
    run(&mut stage.command(arguments)).exits(0).json()
}

fn scripted<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [more, &["-m", "scripted:script.json"]].concat()
}

#[test]
fn plan_counts_the_tokens_that_the_run_then_reads() {
    let stage = Stage::verbs();
    let plan = json(&stage, &scripted(&["plan", "p.yaml", "--json"]));
    assert_eq!((&plan["counts"]["inputs"], &plan["counts"]["to_do"]), (&3.into(), &3.into()));
    assert!(plan["documents"].as_array().unwrap().iter().all(|d| d["because"]["is"] == "new"), "{plan}");
    assert!(!stage.path("out").exists(), "a plan writes nothing");
    // One document at a time: two that ask the same at the same moment ask twice.
    let report = json(&stage, &scripted(&["run", "p.yaml", "--jobs", "1", "--json"]));
    assert_eq!(plan["calls"]["calls_guessed"], 0, "a script's answers are its own: {plan}");
    assert_eq!(plan["calls"]["prompt_tokens"], report["tokens"]["prompt_tokens"]);
    assert_eq!(plan["calls"]["calls"], report["calls"]["made"]);
    let again = json(&stage, &scripted(&["plan", "p.yaml", "--json"]));
    assert_eq!((&again["counts"]["unchanged"], &again["counts"]["to_do"]), (&3.into(), &0.into()));
    let text = run(&mut stage.command(&scripted(&["plan", "p.yaml"]))).exits(0).stdout;
    assert!(text.contains("nothing to do"), "{text}");
}

#[test]
fn plan_says_why_and_finds_the_calls_that_are_answered_already() {
    let stage = Stage::verbs();
    run(&mut stage.command(&scripted(&["run", "p.yaml"]))).exits(0);
    stage.write("p.yaml", stage.read("p.yaml").replace("Give it a title.", "Give it a short title. Give it a title."));
    std::fs::write(stage.path("in/berry.vtt"), stage.read("in/berry.vtt").replace("Monday", "Sunday")).unwrap();
    let plan = json(&stage, &scripted(&["plan", "p.yaml", "--json"]));
    let because: Vec<_> = plan["documents"].as_array().unwrap().iter().map(|d| &d["because"]["is"]).collect();
    assert_eq!(because, ["pipeline-changed", "document-changed", "pipeline-changed"]);
    let step = |id: &str| plan["steps"].as_array().unwrap().iter().find(|s| s["step"] == id).unwrap().clone();
    assert_eq!(step("title")["calls"], 3, "{plan}");
    assert_eq!((&step("summary")["calls"], &step("summary")["from_cache"]), (&1.into(), &2.into()), "{plan}");
    let text = run(&mut stage.command(&scripted(&["plan", "p.yaml"]))).exits(0).stdout;
    assert!(text.contains("2 done by another pipeline") || text.contains("done by another pipeline"), "{text}");
    let report = json(&stage, &scripted(&["run", "p.yaml", "--jobs", "1", "--json"]));
    assert_eq!(plan["calls"]["prompt_tokens"], report["tokens"]["prompt_tokens"]);
    assert_eq!(plan["calls"]["from_cache"], report["calls"]["from_cache"]);
}

#[test]
fn preview_shows_what_is_asked_with_its_grammar() {
    let stage = Stage::verbs();
    let shown = run(&mut stage.command(&scripted(&["preview", "p.yaml", "--document", "apple"]))).exits(0).stdout;
    for part in [
        "in/apple.vtt",
        "I will repair the apple machine",
        "List the tasks.",
        "json_schema",
        "Give it a title",
        "no grammar",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let step = scripted(&["preview", "p.yaml", "--document", "apple.vtt", "--step", "tasks", "--json"]);
    let calls = json(&stage, &step)["preview"]["calls"].as_array().unwrap().clone();
    assert!(!calls.is_empty() && calls.iter().all(|c| c["step"] == "tasks" && c["exact"] == true), "{calls:?}");
    assert!(calls[0]["prompt_tokens"].as_u64().unwrap() > 20);
    assert!(!stage.path("out").exists());
    let wrong =
        |more: &[&str]| run(&mut stage.command(&scripted(&[&["preview", "p.yaml"], more].concat()))).exits(2).stderr;
    assert!(wrong(&["--document", "pear"]).contains("none of the 3 documents"));
    assert!(wrong(&["--document", "in"]).contains("is 3 documents"));
    assert!(wrong(&["--document", "apple", "--step", "task"]).contains("did you mean `tasks`?"));
    assert!(wrong(&["--document", "apple", "--step", "page"]).contains("asks no model"));
}

#[test]
fn why_names_the_first_difference_of_a_key() {
    let stage = Stage::verbs();
    let why = |more: &[&str]| {
        let all = [&["explain", "p.yaml", "--why", "apple"], more].concat();
        run(&mut stage.command(&scripted(&all))).exits(0).stdout
    };
    assert!(why(&[]).contains("has not been done"), "{}", why(&[]));
    run(&mut stage.command(&scripted(&["run", "p.yaml"]))).exits(0);
    assert!(why(&[]).contains("it would be left as it is"), "{}", why(&[]));
    let pipeline = stage.read("p.yaml");
    let first = || {
        let text = why(&[]);
        let line = text.lines().find(|l| l.starts_with("first difference: ")).unwrap_or_else(|| panic!("{text}"));
        line.trim_start_matches("first difference: ").to_owned()
    };
    stage.write("p.yaml", format!("# a comment\n{pipeline}"));
    assert!(why(&[]).contains("it would be left as it is"), "a comment changes nothing");
    stage.write("p.yaml", pipeline.replace("instruct: List the tasks.", "instruct: List the tasks, all."));
    assert_eq!(first(), "step tasks: options.instruct has changed");
    assert!(why(&[]).contains("may ask something else: tasks\n"), "{}", why(&[]));
    stage.write("p.yaml", pipeline.replace("max_tokens: 24", "max_tokens: 25"));
    assert_eq!(first(), "step title: options.max_tokens has changed");
    stage.write("p.yaml", pipeline.replace("version: 1", "version: 1\nmodel: { seed: 4 }"));
    assert_eq!(first(), "decoding.sampling.seed has changed");
    stage.write("p.yaml", pipeline.replace("said: quote, task", "said: quote, what: string?, task"));
    assert!(first().starts_with("step tasks: "), "{}", first());
    stage.write("p.yaml", &pipeline);
    stage.write("script.json", stage.read("script.json").replace("About apples", "On apples"));
    assert!(first().starts_with("model: digest"), "{}", first());
    let json = json(&stage, &scripted(&["explain", "p.yaml", "--why", "apple", "--json"]));
    assert_eq!(json["why"]["because"]["is"], "pipeline-changed");
    std::fs::write(stage.path("in/apple.vtt"), stage.read("in/apple.vtt").replace("Monday", "Sunday")).unwrap();
    assert_eq!(first(), "the document's bytes has changed");
    assert!(stage.read("out/.quarry/verbs/keys.json").len() > 100);
}

#[test]
fn a_page_that_was_removed_is_why() {
    let stage = Stage::verbs();
    run(&mut stage.command(&scripted(&["run", "p.yaml"]))).exits(0);
    std::fs::remove_file(stage.path("out/apple.md")).unwrap();
    let told = run(&mut stage.command(&scripted(&["explain", "p.yaml", "--why", "apple"]))).exits(0).stdout;
    assert!(told.contains("its page out/apple.md is gone"), "{told}");
}

#[test]
fn show_prints_what_each_step_made() {
    let stage = Stage::verbs();
    let told = run(&mut stage.command(&scripted(&["run", "p.yaml", "--limit", "1", "--show"]))).exits(0).stdout;
    for part in [
        "in/apple.vtt: title\n  About apples\n",
        "in/apple.vtt: tasks\n",
        "\"Repair the apple machine\"",
        "1 document: 1 ok",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(!told.contains("berry"), "{told}");
}
