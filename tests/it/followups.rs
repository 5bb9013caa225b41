//! What the command line says of itself: mistakes in `--set`, what `doc.tokens` counts, and what `init` leaves to fill in.

use serde_json::json;

use crate::pipelines::Stage;
use crate::support::run;

const PIPELINE: &str = r#"
version: 1
sources: { notes: "in/*.txt" }
steps:
  - { id: brief, use: generate, prompt: "{{ doc.text }} ({{ doc.tokens }})", when: doc.tokens > 4 }
outputs:
  - { path: out/all.jsonl, fields: { doc: doc.stem, tokens: doc.tokens, brief: steps.brief }, key: doc.path }
"#;

fn stage() -> Stage {
    let stage = Stage::new(PIPELINE, json!([{ "when": "(6)", "answer": "Long." }, { "answer": "Not counted." }]));
    std::fs::create_dir_all(stage.path("in")).unwrap();
    stage.write("in/long.txt", "one two three four five six");
    stage.write("in/short.txt", "one two");
    stage
}

#[test]
fn a_mistake_in_set_is_told_with_what_was_typed_and_not_with_a_line_of_the_file() {
    let stage = stage();
    let sets = ["run.max_failed=lots", "run.foo=1", "steps.brief.promptt=x", "steps.brief.when=docc.x"];
    let mut command = stage.command(&["check", "p.yaml"]);
    sets.iter().for_each(|set| {
        command.args(["--set", set]);
    });
    let told = run(command.arg("--source").arg("notes=")).exits(2);
    for set in sets {
        assert!(told.stderr.contains(&format!("`--set {set}`: ")), "{told}");
    }
    assert!(!told.stderr.contains("p.yaml:"), "{told}");
}

#[test]
fn a_schema_whose_file_is_missing_is_told_once() {
    let stage = stage();
    stage.write(
        "q.yaml",
        r#"
version: 1
sources: { notes: "in/*.txt" }
schemas: { invoice: { file: nope.json } }
steps: [ { id: x, use: extract, schema: invoice } ]
outputs: [ { path: out/a.jsonl, fields: { v: steps.x } } ]
"#,
    );
    let told = run(&mut stage.command(&["check", "q.yaml"])).exits(2);
    assert!(told.stderr.contains("`nope.json`, but it does not exist"), "{told}");
    assert_eq!(told.stderr.matches("error: ").count(), 1, "{told}");
}

#[test]
fn the_tokens_of_a_document_decide_and_are_written() {
    let stage = stage();
    run(&mut stage.command(&["run", "p.yaml", "-m", "scripted:script.json", "-q"])).exits(0);
    let rows: Vec<serde_json::Value> =
        stage.read("out/all.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<_> = rows.iter().map(|r| (&r["doc"], &r["tokens"], &r["brief"])).collect();
    assert_eq!(
        told,
        [(&json!("long"), &json!(6), &json!("Long.")), (&json!("short"), &json!(2), &json!(null))],
        "{rows:?}"
    );
    let plan = run(&mut stage.command(&["plan", "p.yaml", "-m", "scripted:script.json", "--force", "--json"]));
    assert_eq!(plan.exits(0).json()["steps"][0]["documents"], 1);
}

#[test]
fn tokens_are_not_counted_where_no_step_asks_the_model() {
    let stage = stage();
    stage.write("q.yaml", "version: 1\nsources: { notes: \"in/*.txt\" }\nsteps: [ { id: n, use: set, values: { n: doc.tokens } } ]\noutputs: [ { path: out/a.jsonl, fields: { n: steps.n.n } } ]\n");
    let told = run(&mut stage.command(&["check", "q.yaml"])).exits(2);
    assert!(told.stderr.contains("no step here asks the model"), "{told}");
}

#[test]
fn a_retry_of_nothing_says_that_nothing_stands_failed() {
    let stage = stage();
    run(&mut stage.command(&["run", "p.yaml", "-m", "scripted:script.json", "-q"])).exits(0);
    let nothing = run(&mut stage.command(&["retry", "p.yaml", "-m", "scripted:script.json"])).exits(0);
    assert!(nothing.stderr.contains("none of 2 documents stands failed: there is nothing to retry"), "{nothing}");
}

#[test]
fn a_starter_comes_with_a_golden_file_that_its_eval_measures_against() {
    let stage = Stage::new("", json!([]));
    std::fs::create_dir_all(stage.path("inbox")).unwrap();
    stage.write("inbox/example.txt", "Kiln Works Ltd. Invoice 7. Total 120.50 EUR.");
    let right = json!({ "vendor": "Kiln Works Ltd", "number": "7", "total": 120.5, "currency": "EUR", "due": null });
    stage.write("script.json", json!([{ "answer": right }]).to_string());
    run(&mut stage.command(&["init", "extract"])).exits(0);
    run(&mut stage.command(&["run", "extract.yaml", "-m", "scripted:script.json", "-q"])).exits(0);
    let report = run(&mut stage.command(&["eval", "extract.yaml", "--json"])).exits(0).json();
    let figures = report["figures"].as_array().unwrap();
    for name in ["invoice.f1", "invoice.exact"] {
        assert_eq!(figures.iter().find(|f| f["name"] == name).unwrap()["value"], json!(1.0), "{report}");
    }
    let golden = stage.read("golden/extract/example.yaml");
    stage.write("golden/extract/example.yaml", golden.replace("120.5", "99"));
    let worse = run(&mut stage.command(&["eval", "extract.yaml", "--json"])).exits(0).json();
    let figure = worse["figures"].as_array().unwrap().iter().find(|f| f["name"] == "invoice.exact").unwrap();
    assert_eq!(figure["value"], json!(0.0), "{worse}");
}

#[test]
fn a_document_that_is_not_there_is_told_by_its_name_and_no_other_option() {
    let stage = stage();
    let mut command = stage.command(&["preview", "p.yaml", "-m", "scripted:script.json", "--document", "receipt"]);
    let told = run(&mut command).exits(2);
    assert!(told.stderr.contains("the document receipt is none of the 2 documents of the pipeline"), "{told}");
}

#[test]
fn a_pipeline_over_questions_is_asked_one_and_writes_nothing() {
    let stage = Stage::new("", json!([]));
    std::fs::create_dir_all(stage.path("docs")).unwrap();
    let quote = "Payroll records are kept for seven years.";
    stage.write("docs/records.md", format!("# Records\n\n{quote}\n"));
    let answer = json!([{ "answer": [[{ "quote": quote, "says": quote }]] }]);
    stage.write("script.json", answer.to_string());
    stage.write(
        "ask.yaml",
        r#"
version: 1
params: { docs: { type: path, default: nowhere } }
sources: { library: "{{ params.docs }}/*.md", questions: { rows: asked.csv } }
indexes: { shelf: { from: library } }
steps:
  - { id: found, use: retrieve, per: row, over: questions, from: shelf, query: "{{ row.question }}" }
  - { id: reply, use: answer, per: row, over: questions, question: "{{ row.question }}", from: steps.found }
outputs:
  - { path: out/all.jsonl, fields: { answer: steps.reply.text, id: row.id } }
run: { events: out/events.jsonl }
"#,
    );
    let ask = |more: &[&str]| {
        let mut command = stage.command(&["ask", "ask.yaml", "-m", "scripted:script.json", "-p", "docs=docs"]);
        command.args(more);
        run(&mut command)
    };
    let told = ask(&["How long are payroll records kept?"]).exits(0);
    assert!(told.stdout.contains(quote) && told.stdout.contains("records.md"), "{told}");
    let record = ask(&["How long are payroll records kept?", "--json"]).exits(0).json();
    assert_eq!((&record["state"], &record["reply"]["state"]), (&json!("ok"), &json!("answered")), "{record}");
    assert!(!stage.path("out").exists(), "what the file would write is not written");
    assert!(ask(&["x", "--top", "3"]).exits(2).stderr.contains("--top is for folders"));
    assert!(ask(&[]).exits(2).stderr.contains("is asked one question"));
    let folder =
        run(&mut stage.command(&["ask", "docs", "x", "-p", "docs=docs", "-m", "scripted:script.json"])).exits(2);
    assert!(folder.stderr.contains("are for pipelines"), "{folder}");
}
