//! The language of the pipeline file and the batch contract, with a model that answers from a script.

use std::time::Duration;

use serde_json::{Value, json};

use crate::pipelines::{Stage, counts};
use crate::support::run;

fn records(stage: &Stage) -> Vec<Value> {
    stage.read("out/all.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn the_smallest_pipeline_runs_as_it_is_printed() {
    let smallest = r#"version: 1
sources: { calls: "calls/*.vtt" }
steps:
  - { id: minutes, use: summarize, length: 200 words, cite: turns }
outputs: [ { path: "out/{{ doc.stem }}.md", content: steps.minutes } ]
"#;
    let answer =
        "Anna said that the kiln machine stands still since Monday. Bo will repair the kiln machine on Friday.";
    let stage = Stage::new(smallest, json!([{ "answer": answer }]));
    std::fs::create_dir(stage.path("calls")).unwrap();
    stage.machine("kiln");
    std::fs::rename(stage.path("in/kiln.vtt"), stage.path("calls/kiln.vtt")).unwrap();
    let checked = run(&mut stage.command(&["check", "p.yaml"])).exits(0);
    assert!(checked.stderr.is_empty(), "{checked}");
    stage.run().exits(0);
    let page = stage.read("out/kiln.md");
    assert!(page.contains("still since Monday") && page.contains("[T1"), "a page with its citations: {page}");
}

/// Verbs over lists, and steps that are done more than once.
const LISTS: &str = r#"
version: 1
name: lists
sources: { docs: "in/*.vtt" }
steps:
  - { id: loud, use: set, per: turn, values: { who: turn.speaker, words: "turn.text | upper" } }
  - { id: about, use: generate, foreach: doc.speakers, prompt: "Who is {{ item }}?", max_tokens: 20 }
  - { id: chunks, use: split, size: 12 words }
  - { id: notes, use: generate, per: chunk, over: steps.chunks.chunks, prompt: "{{ doc.text }}\nNote {{ chunk.index }}", max_tokens: 20 }
  - { id: first, use: render, over: "doc.turns[:1]", template: "{{ doc.turns | length }}" }
  - { id: short, use: filter, list: doc.turns, keep: "'Friday' in item.text" }
  - { id: sorted, use: sort, list: doc.turns, by: [item.speaker], descending: true }
  - { id: voices, use: dedupe, list: doc.turns, by: item.speaker }
  - { id: groups, use: group, list: doc.turns, by: item.speaker }
  - { id: sane, use: check, assert: ["steps.voices | length == 3", "steps.short | length == 2"], on_error: mark }
outputs:
  - name: all
    path: out/all.jsonl
    fields:
      loud: steps.loud
      about: steps.about
      notes: steps.notes
      short: 'steps.short | map(attribute="id") | list'
      sorted: 'steps.sorted | map(attribute="speaker") | list'
      voices: 'steps.voices | map(attribute="speaker") | list'
      groups: 'steps.groups | map(attribute="count") | list'
      sane: steps.sane
      state: doc.state
"#;

#[test]
fn lists_are_made_of_lists_and_steps_are_done_for_each_of_them() {
    let script = json!([
        { "when": "Who is Bo", "answer": "The one who repairs." },
        { "when": "Who is", "answer": "A colleague." },
        { "when": "Note 1", "answer": "a repair" },
        { "answer": "a note" },
    ]);
    let stage = Stage::new(LISTS, script);
    stage.machine("kiln");
    let ran = run(&mut stage.runs(&["-v"])).exits(3);
    assert!(ran.stdout.contains("does not hold: steps.short | length == 2"), "{ran}");
    let record = &records(&stage)[0];
    assert_eq!(record["loud"][1], json!({ "who": "Bo", "words": "I WILL REPAIR THE KILN MACHINE ON FRIDAY." }));
    assert_eq!(record["about"], json!(["A colleague.", "The one who repairs.", "A colleague."]));
    assert_eq!(record["notes"], json!(["a note", "a repair", "a note"]));
    assert_eq!((&record["short"], &record["sorted"]), (&json!(["T2"]), &json!(["Cem", "Bo", "Anna"])));
    assert_eq!((&record["voices"], &record["groups"]), (&json!(["Anna", "Bo", "Cem"]), &json!([1, 1, 1])));
    assert_eq!((&record["sane"]["ok"], &record["state"]), (&json!(false), &json!("partial")));
}

#[test]
fn a_value_that_is_a_list_has_no_fields_and_units_are_known_only_where_they_are() {
    let stage = Stage::new(
        r#"version: 1
sources: { docs: "in/*.vtt" }
steps:
  - { id: a, use: set, per: turn, values: { x: turn.text } }
  - { id: b, use: set, values: { y: steps.a.x, z: chunk.text } }
  - { id: c, use: set, per: chunk, values: { x: chunk.text } }
outputs: [ { path: out/all.jsonl, fields: { b: steps.b.y, c: steps.c } } ]
"#,
        json!([{ "answer": "x" }]),
    );
    stage.machine("kiln");
    let told = run(&mut stage.command(&["check", "p.yaml"])).exits(2).stderr;
    assert!(told.contains("`steps.a` is a list, one value for each turn, and has no field `x`"), "{told}");
    assert!(told.contains("`chunk` is known only in a step with `per: chunk`"), "{told}");
    assert!(told.contains("does not say of which chunks"), "{told}");
}

/// One answer per document, with everything that can be changed from outside.
const CONFIG: &str = r#"
version: 1
name: config
params:
  out: { type: path, default: out, env: QUARRY_TEST_OUT }
  word: { type: text, default: plain }
  key: { type: text, optional: true, env: QUARRY_TEST_KEY, secret: true }
sources: { docs: "in/*.vtt" }
steps:
  - { id: answer, use: generate, prompt: "{{ params.word }} {{ params.key }} {{ doc.text }}", max_tokens: 50 }
outputs:
  - { name: all, path: "{{ params.out }}/all.jsonl", fields: { doc: doc.stem, answer: steps.answer }, key: doc.path }
profiles:
  ci: { params: { word: { default: profiled } }, run: { max_failed: 0, in_flight: 1 } }
"#;

#[test]
fn config_says_what_every_value_is_and_where_it_comes_from() {
    let stage = Stage::new(CONFIG, json!([{ "answer": "x" }]));
    stage.machine("kiln");
    let arguments = ["config", "p.yaml", "--profile", "ci", "--set", "run.in_flight=3", "-p", "out=elsewhere"];
    let mut command = stage.command(&arguments);
    let told = run(command.env("QUARRY_TEST_OUT", "nowhere").env("QUARRY_TEST_KEY", "hush")).exits(0).stdout;
    for line in [
        "  max_failed: 0  # profile ci",
        "  in_flight: 3  # --set",
        "  on_error: quarantine  # default",
        "  temperature: 0  # default",
        "  key: { value: (secret) }  # environment: QUARRY_TEST_KEY",
        "  word: { value: \"profiled\" }  # profile ci",
        "name: config  # line 3",
    ] {
        assert!(told.contains(line), "{line}:\n{told}");
    }
    assert!(told.contains("/elsewhere\" }  # -p"), "{told}");
    assert!(!told.contains("hush"), "{told}");
    let wrong = run(&mut stage.command(&["check", "p.yaml", "--set", "run.max_faild=0"])).exits(2);
    assert!(wrong.stderr.contains("max_failed"), "{wrong}");
    let wrong = run(&mut stage.command(&["check", "p.yaml", "--profile", "cii"])).exits(2);
    assert!(wrong.stderr.contains("did you mean `ci`?"), "{wrong}");
}

#[test]
fn the_command_line_wins_over_the_environment_and_that_over_the_profile() {
    let stage = Stage::new(CONFIG, json!([{ "when": "profiled", "answer": "profiled" }, { "answer": "plain" }]));
    stage.machine("kiln");
    run(stage.runs(&["--profile", "ci"]).env("QUARRY_TEST_OUT", "env")).exits(0);
    assert!(stage.read("env/all.jsonl").contains("\"answer\":\"profiled\""));
    run(stage.runs(&["-p", "out=line", "--profile", "ci", "-p", "word=mine"]).env("QUARRY_TEST_OUT", "env2")).exits(0);
    assert!(stage.read("line/all.jsonl").contains("\"answer\":\"plain\"") && !stage.path("env2").exists());
}

#[test]
fn a_sample_is_the_same_documents_each_time() {
    let stage = Stage::slow(9, 0);
    let chosen = |seed: &str| {
        let report = run(&mut stage.runs(&["--sample", "3", "--seed", seed, "--json"])).exits(0).json();
        let names = report["documents"].as_array().unwrap().iter().map(|d| d["document"].to_string());
        names.collect::<Vec<_>>()
    };
    let first = chosen("1");
    assert_eq!((first.len(), chosen("1")), (3, first.clone()));
    assert!((2..6).any(|seed| chosen(&seed.to_string()) != first));
}

#[test]
fn at_the_deadline_a_run_ends_and_the_next_one_goes_on() {
    let stage = Stage::slow(12, 400);
    let late = run(&mut stage.runs(&["--set", "run.deadline=+1s"])).exits(6);
    assert!(late.took < Duration::from_secs(20) && late.stdout.contains("deadline"), "{late}");
    stage.run().exits(0);
    assert_eq!(stage.outputs().len(), 13);
}

#[test]
fn what_failed_is_done_again_by_retry_and_nothing_else() {
    let stage = Stage::slow(3, 0);
    stage
        .write("script.json", json!([{ "when": "kiln01", "error": "lost" }, { "answer": "It was said." }]).to_string());
    stage.run().exits(3);
    stage.write("script.json", json!([{ "answer": "It was said." }]).to_string());
    let report =
        run(stage.command(&["retry", "p.yaml", "-m", "scripted:script.json", "--json"]).arg("-q")).exits(0).json();
    assert_eq!(report["documents"].as_array().unwrap().len(), 1, "{report}");
    assert_eq!(counts(&report), [1, 0, 0]);
    let nothing = run(&mut stage.command(&["retry", "p.yaml", "-m", "scripted:script.json", "--json"])).exits(0).json();
    assert_eq!(nothing["counts"]["inputs"], 0, "{nothing}");
}

#[test]
fn a_step_is_tried_again_with_another_seed_where_the_run_says_so() {
    let pipeline = r#"
version: 1
name: again
sources: { docs: "in/*.vtt" }
steps:
  - { id: answer, use: generate, prompt: "{{ doc.text }}", schema: { n: integer }, max_tokens: 50 }
outputs:
  - { name: all, path: out/all.jsonl, fields: { n: steps.answer.n } }
run: { retry: { times: 2 } }
"#;
    let stage = Stage::new(pipeline, json!([{ "answer": ["no", "neither", { "n": 7 }] }]));
    stage.machine("kiln");
    let ran = run(&mut stage.runs(&["-v"])).exits(0);
    assert!(ran.stdout.matches("tried again").count() == 2, "{ran}");
    assert_eq!(records(&stage)[0]["n"], 7);
}

#[test]
fn events_and_figures_are_written_for_those_who_watch() {
    let stage = Stage::slow(2, 0);
    run(&mut stage.runs(&["--events", "events.jsonl", "--metrics-file", "quarry.prom", "-q"])).exits(0);
    let events: Vec<Value> =
        stage.read("events.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let finished = events.iter().filter(|e| e["event"] == "document-finished" && e["state"] == "ok");
    assert_eq!((finished.count(), &events.last().unwrap()["event"]), (2, &json!("finished")));
    let figures = stage.read("quarry.prom");
    assert!(figures.contains("quarry_documents{pipeline=\"echo\",state=\"ok\"} 2\n"), "{figures}");
    assert!(figures.contains("quarry_complete{pipeline=\"echo\"} 1\n"), "{figures}");
}

#[test]
fn the_tests_of_a_pipeline_hold_or_say_what_does_not() {
    let tests = r#"
tests:
  - name: a title is found
    document: call.vtt
    text: "WEBVTT\n\n00:00:01.000 --> 00:00:02.000\n<v Anna>Hello.</v>\n"
    answers: [ { when: Hello, answer: "A greeting" } ]
    expect: [ "steps.answer == 'A greeting'", "doc.turns | length == 1", "doc.state == 'ok'" ]
  - name: an engine that fails
    text: Nothing
    answers: [ { error: lost } ]
    expect: [ "doc.state == 'failed'" ]
"#;
    let stage = Stage::new(&format!("{}{tests}", crate::pipelines::ECHO), json!([]));
    stage.machine("kiln");
    let held = run(&mut stage.command(&["test", "p.yaml"])).exits(0);
    assert!(held.stdout.contains("2 tests: 2 ok, 0 failed"), "{held}");
    stage.write("p.yaml", format!("{}{tests}", crate::pipelines::ECHO).replace("== 'ok'", "== 'partial'"));
    let broken = run(&mut stage.command(&["test", "p.yaml"])).exits(7);
    assert!(broken.stdout.contains("does not hold: doc.state == 'partial'"), "{broken}");
    stage.write(
        "p.yaml",
        format!("{}{tests}", crate::pipelines::ECHO)
            .replace("answers: [ { error: lost } ]", "answers: [ { eror: x } ]"),
    );
    let wrong = run(&mut stage.command(&["check", "p.yaml"])).exits(2);
    assert!(wrong.stderr.contains("tests[1].answers"), "{wrong}");
}

#[test]
fn the_pipelines_that_come_with_the_program_pass_their_own_tests() {
    let stage = Stage::new("", json!([]));
    let mut num_tested = 0;
    for entry in std::fs::read_dir(crate::support::root().join("pipelines")).unwrap() {
        let path = entry.unwrap().path();
        let has_tests = std::fs::read_to_string(&path).is_ok_and(|text| text.contains("\ntests:"));
        if path.extension().is_some_and(|e| e == "yaml") && has_tests {
            run(stage.command(&["test"]).arg(&path)).exits(0);
            num_tested += 1;
        }
    }
    assert!(num_tested > 0);
}

#[test]
fn every_starter_passes_check_and_its_own_tests_and_is_never_written_over() {
    let stage = Stage::new("", json!([]));
    std::fs::create_dir(stage.path("documents")).unwrap();
    stage.write("documents/a.md", "# Rules\n\nThe archive is in the cellar.\n");
    for kind in ["minutes", "extract", "classify", "summarize", "qa"] {
        let file = format!("{kind}.yaml");
        run(&mut stage.command(&["init", kind])).exits(0);
        run(&mut stage.command(&["check", &file])).exits(0);
        run(&mut stage.command(&["test", &file])).exits(0);
        let again = run(&mut stage.command(&["init", kind])).exits(2);
        assert!(again.stderr.contains(&file), "{again}");
    }
    let schema: Value = serde_json::from_str(&stage.read("pipeline.schema.json")).unwrap();
    assert_eq!(schema, run(&mut stage.command(&["schema"])).exits(0).json());
}

#[test]
fn doctor_tells_what_there_is_and_what_to_do() {
    let stage = Stage::new("", json!([]));
    let told = run(&mut stage.command(&["doctor", "--json"])).exits(0).json();
    let models = told["findings"].as_array().unwrap().iter().find(|f| f["what"] == "models").unwrap();
    assert!(models["advice"].as_str().unwrap().contains("quarry model pull"), "{told}");
    assert!(run(&mut stage.command(&["doctor"])).exits(0).stdout.contains("cores, "));
}

#[test]
fn shards_come_together_to_what_one_run_would_have_written() {
    let (whole, stage) = (Stage::slow(9, 0), Stage::slow(9, 0));
    whole.run().exits(0);
    let shard = |which: &str| run(&mut stage.runs(&["--shard", which, "--json"])).exits(0).json();
    let (first, third) = (shard("1/3"), shard("3/3"));
    let early = run(&mut stage.command(&["merge", "p.yaml"])).exits(7);
    assert!(early.stdout.contains("missing: in/kiln"), "{early}");
    let mut command = stage.runs(&["--shard", "auto", "--json"]);
    let second = run(command.env("SLURM_ARRAY_TASK_ID", "1").env("SLURM_ARRAY_TASK_COUNT", "3")).exits(0).json();
    let sum: u64 = [&first, &second, &third].iter().map(|r| r["counts"]["ok"].as_u64().unwrap()).sum();
    assert_eq!(sum, 9, "each document in one shard");
    let merged = run(&mut stage.command(&["merge", "p.yaml", "--json"])).exits(0).json();
    assert_eq!((&merged["done"], &merged["missing"]), (&json!(9), &json!([])));
    assert_eq!(stage.outputs(), whole.outputs());
    assert_eq!(counts(&stage.report(0)), [0, 0, 9]);
    // A document that was done anew since is not put back to what its shard made of it.
    stage.machine("kiln00");
    let changed = stage.read("in/kiln00.vtt").replace("Monday", "Tuesday");
    stage.write("in/kiln00.vtt", changed);
    assert_eq!(counts(&stage.report(0)), [1, 0, 8]);
    let outputs = stage.outputs();
    run(&mut stage.command(&["merge", "p.yaml"])).exits(0);
    assert_eq!(stage.outputs(), outputs);
}

#[test]
fn a_step_can_be_run_without_the_others_and_the_outputs_they_fill() {
    let pipeline = r#"
version: 1
name: parts
sources: { docs: "in/*.vtt" }
steps:
  - { id: a, use: set, values: { n: doc.turns | length } }
  - { id: b, use: set, values: { n: steps.a.n + 1 } }
  - { id: c, use: generate, prompt: "{{ doc.text }}", max_tokens: 20 }
outputs:
  - { name: numbers, path: out/all.jsonl, fields: { a: steps.a.n, b: steps.b.n } }
  - { name: answers, path: out/answers.jsonl, fields: { c: steps.c } }
"#;
    let stage = Stage::new(pipeline, json!([{ "error": "not to be asked" }]));
    stage.machine("kiln");
    let ran = run(&mut stage.runs(&["--select", "b"])).exits(0);
    assert!(ran.stderr.contains("the output answers is left out"), "{ran}");
    assert_eq!((&records(&stage)[0]["a"], &records(&stage)[0]["b"]), (&json!(3), &json!(4)));
    assert!(!stage.path("out/answers.jsonl").exists());
    let wrong = run(&mut stage.runs(&["--select", "bb"])).exits(2);
    assert!(wrong.stderr.contains("did you mean `b`?"), "{wrong}");
}

#[test]
fn one_job_needs_no_file_and_can_be_saved_as_one() {
    let script = json!([
        { "when": "Answer with one JSON object", "answer": { "machine": "kiln machine", "day": null } },
        { "when": "/(?s)kiln.*Which of these/", "scores": { "repair": 0.9, "order": 0.1 } },
        { "answer": "Anna said that the kiln machine stands still since Monday." },
    ]);
    let stage = Stage::new("", script);
    stage.machine("kiln");
    let model = ["-m", "scripted:script.json", "-q"];
    let does = |arguments: &[&str]| run(stage.command(arguments).args(model));
    let summary = does(&["summarize", "in/kiln.vtt"]).exits(0);
    assert!(summary.stdout.contains("still since Monday") && summary.stdout.contains("[T1"), "{summary}");
    let fields = ["-f", "machine=string", "-f", "day=string?"];
    let record = does(&[&["extract", "in/kiln.vtt", "--json"], &fields[..]].concat()).exits(0).json();
    assert_eq!((&record["result"]["machine"], &record["result"]["day"]), (&json!("kiln machine"), &Value::Null));
    let label =
        does(&["classify", "in", "-l", "repair=Something is broken", "-l", "order=Something is wanted"]).exits(0);
    assert!(label.stdout.starts_with("repair (0."), "{label}");
    does(&["classify", "in", "-l", "only=One"]).exits(2);

    does(&["summarize", "in", "--words", "80", "--save-as", "mine.yaml"]).exits(0);
    run(&mut stage.command(&["check", "mine.yaml"])).exits(0);
    run(stage.command(&["run", "mine.yaml"]).args(model)).exits(0);
    assert!(stage.read("summarize.jsonl").contains("still since Monday"));
}
