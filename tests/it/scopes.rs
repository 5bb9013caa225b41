//! Rows, standard input, groups and all documents together; includes; what outputs promise. With scripted answers.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::pipelines::{ECHO, Stage, counts};
use crate::support::{Ran, run, start};

fn lines(stage: &Stage, name: &str) -> Vec<Value> {
    stage.read(name).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Runs a command with something on standard input.
#[track_caller]
fn fed(stage: &Stage, more: &[&str], input: &str) -> Ran {
    let mut command = stage.runs(more);
    let path = stage.path("fed");
    fs::File::create(&path).unwrap().write_all(input.as_bytes()).unwrap();
    command.stdin(Stdio::from(fs::File::open(&path).unwrap()));
    start(&mut command).finish()
}

const ASKED: &str = r#"
version: 1
name: asked
sources: { asked: { rows: asked.csv } }
steps:
  - { id: reply, per: row, over: asked, use: generate, prompt: "{{ row.question }}", max_tokens: 20 }
outputs:
  - { name: answers, path: out/answers.jsonl, key: row.id, fields: { id: row.id, reply: steps.reply, state: doc.state } }
  - { name: page, path: "out/{{ row.id }}.md", content: steps.reply }
"#;

fn asked() -> Stage {
    let stage = Stage::new(ASKED, json!([{ "when": "kiln", "answer": "Seven." }, { "answer": "It is not said." }]));
    stage.write("asked.csv", "id,question\nq1,How many kilns?\nq2,How many berries?\nq3\n");
    stage
}

#[test]
fn rows_are_documents_and_only_the_changed_one_is_done_again() {
    let stage = asked();
    let ran = stage.run().exits(3);
    assert!(ran.stdout.contains("row 3 has 1 cells"), "a row that cannot be read fails alone: {ran}");
    stage.write("asked.csv", "question,id\nHow many kilns?,q1\nHow many berries?,q2\n");
    let report = stage.report(0);
    assert_eq!(counts(&report), [2, 0, 0], "the order of the columns is a part of a row: {report}");
    stage.write("asked.csv", "question,id\nHow many berries now?,q2\nHow many kilns?,q1\n");
    assert_eq!(counts(&stage.report(0)), [1, 0, 1]);
    let answers = lines(&stage, "out/answers.jsonl");
    assert_eq!(answers[1]["reply"], "Seven.");
    assert_eq!((answers.len(), &answers[0]["id"]), (2, &json!("q2")));
    assert!(stage.read("out/q1.md").starts_with("Seven."));
}

#[test]
fn rows_come_in_on_standard_input_too() {
    let stage = asked();
    let ran = fed(&stage, &["--source", "asked=-"], "{\"id\": \"a\", \"question\": \"A kiln?\"}\n").exits(0);
    assert!(ran.stdout.contains("1 document: 1 ok"), "{ran}");
    assert_eq!(lines(&stage, "out/answers.jsonl")[0]["reply"], "Seven.");
    let nothing = fed(&stage, &["--source", "asked=-"], "").exits(2);
    assert!(nothing.stderr.contains("nothing comes in on standard input"), "{nothing}");
}

#[test]
fn a_document_comes_in_on_standard_input() {
    let stage = Stage::new(ECHO, json!([{ "answer": "It was said." }]));
    let ran =
        fed(&stage, &["--source", "docs=-"], "WEBVTT\n\n00:00:01.000 --> 00:00:02.000\n<v Anna>Hello.</v>\n").exits(0);
    assert!(ran.stdout.contains("1 document: 1 ok"), "{ran}");
    assert!(stage.read("out/stdin.md").starts_with("It was said."));
    assert_eq!(
        counts(
            &run(&mut {
                stage.machine("kiln");
                stage.runs(&["--source", "docs=in", "--json"])
            })
            .exits(0)
            .json()
        )[0],
        1
    );
}

#[test]
fn rows_beside_files_are_asked_of_every_file() {
    let pipeline = r#"
version: 1
name: checklist
sources: { docs: "in/*.vtt", checks: { rows: checks.csv } }
steps:
  - { id: found, per: row, over: checks, use: generate, prompt: "{{ doc.text }}\n{{ row.ask }}", max_tokens: 20 }
outputs:
  - { name: all, path: out/all.jsonl, fields: { doc: doc.stem, found: steps.found } }
"#;
    let stage = Stage::new(pipeline, json!([{ "when": "Is there a price", "answer": "No." }, { "answer": "Yes." }]));
    stage.write("checks.csv", "ask\nIs there a date?\nIs there a price?\n");
    stage.machine("kiln");
    stage.run().exits(0);
    assert_eq!(lines(&stage, "out/all.jsonl")[0]["found"], json!(["Yes.", "No."]));
    assert_eq!(counts(&stage.report(0)), [0, 0, 1]);
    stage.write("checks.csv", "ask\nIs there a date?\n");
    assert_eq!(counts(&stage.report(0)), [1, 0, 0], "every document depends on the table");
}

/// A step for each document, for each speaker over all of them, and for all.
const WEEK: &str = r#"
version: 1
name: week
sources: { docs: "in/*.vtt" }
steps:
  - { id: title, use: generate, prompt: "{{ doc.text }}\nGive it a title.", max_tokens: 20 }
  - { id: who, use: set, values: { first: "doc.speakers[0]", said: "doc.turns[0].text" } }
  - { id: rows, use: set, per: corpus, foreach: corpus.documents, values: { who: "item.steps.who.first", doc: item.doc.stem } }
  - { id: by_person, use: group, per: corpus, list: steps.rows, by: item.who }
  - { id: person, per: group, group_by: steps.by_person, use: render, template: "{{ group.key }}: {{ group.items | map(attribute='doc') | join(', ') }}" }
  - { id: digest, per: corpus, use: generate, prompt: "{{ steps.title | join('; ') }}\nWrite the digest.", max_tokens: 40 }
  - { id: page, per: corpus, use: render, template: "{{ steps.digest }} ({{ corpus.count }})\n{{ steps.person | join('\n') }}" }
outputs:
  - { name: titles, path: out/titles.jsonl, fields: { doc: doc.stem, title: steps.title } }
  - { name: person, per: group, path: "out/{{ group.key }}.txt", content: steps.person }
  - { name: people, per: group, path: out/people.csv, fields: { who: group.key, count: group.count } }
  - { name: digest, per: corpus, path: out/digest.md, content: steps.page }
"#;

fn week() -> Stage {
    let script = json!([
        { "when": "/(?s)kiln.*Give it a title/", "answer": "The kiln" },
        { "when": "Give it a title", "answer": "A machine" },
        { "when": "Write the digest", "answer": "A week of machines." },
    ]);
    let stage = Stage::new(WEEK, script);
    stage.machine("kiln");
    stage.machine("oven");
    stage.transcript("in/zinc.vtt", "", &["<v Dora>The zinc is gone.</v>".to_owned()]);
    stage
}

#[test]
fn what_is_done_over_all_waits_for_all_and_is_done_again_only_when_one_changes() {
    let stage = week();
    let report = stage.report(0);
    assert_eq!(counts(&report), [3, 0, 0], "groups are no inputs: {report}");
    assert_eq!(report["whole"].as_array().unwrap().len(), 3, "two groups and all documents: {report}");
    assert!(stage.read("out/digest.md").starts_with("A week of machines. (3)\nAnna: kiln, oven\nDora: zinc"));
    assert_eq!(stage.read("out/Anna.txt"), "Anna: kiln, oven\n");
    assert!(
        stage.read("out/people.csv").starts_with("who,count,provenance\nAnna,2,"),
        "{}",
        stage.read("out/people.csv")
    );
    let before = stage.outputs();

    let again = stage.report(0);
    assert_eq!((&again["calls"]["made"], &again["seconds"]["model_load"]), (&json!(0), &json!(0.0)), "{again}");
    assert_eq!(stage.outputs(), before);
    fs::remove_file(stage.path("out/digest.md")).unwrap();
    stage.run().exits(0);
    assert_eq!(stage.outputs(), before, "what is gone comes back");

    // The group of the document that went is gone with its record and its page.
    fs::remove_file(stage.path("in/zinc.vtt")).unwrap();
    stage.run().exits(0);
    assert!(!stage.path("out/Dora.txt").exists() && !stage.read("out/people.csv").contains("Dora"));
    assert!(stage.read("out/digest.md").contains("(2)\nAnna: kiln, oven\n"));
}

#[test]
fn a_document_without_a_result_is_said_to_be_left_out() {
    let stage = week();
    let some = run(&mut stage.runs(&["--limit", "1"])).exits(3);
    assert!(some.stdout.contains("2 documents have no result and are not in it"), "{some}");
    assert!(stage.read("out/digest.md").contains("(1)"));
    stage.run().exits(0);
    assert!(stage.read("out/digest.md").contains("(3)"));
}

#[test]
fn shards_leave_what_is_done_over_all_to_the_run_after_they_are_merged() {
    let (whole, stage) = (week(), week());
    whole.run().exits(0);
    for shard in ["1/2", "2/2"] {
        let ran = run(&mut stage.runs(&["--shard", shard])).exits(0);
        assert!(!stage.path("out/digest.md").exists(), "{ran}");
    }
    run(&mut stage.command(&["merge", "p.yaml"])).exits(0);
    assert_eq!(counts(&stage.report(0)), [0, 0, 3]);
    assert_eq!(stage.outputs(), whole.outputs());
}

#[test]
fn from_a_step_on_the_model_is_asked_anew() {
    let stage = week();
    stage.run().exits(0);
    let report = run(&mut stage.runs(&["--from", "digest", "--json"])).exits(0).json();
    assert_eq!(report["calls"], json!({ "made": 1, "from_cache": 3, "damaged": 0 }), "{report}");
    let wrong = run(&mut stage.runs(&["--from", "digset"])).exits(2);
    assert!(wrong.stderr.contains("did you mean `digest`?"), "{wrong}");
}

#[test]
fn every_reference_across_scopes_is_checked() {
    let stage = Stage::new(
        r#"version: 1
sources: { docs: "in/*.vtt", asked: { rows: asked.csv } }
steps:
  - { id: a, use: set, values: { x: doc.stem, y: row.id, z: steps.all } }
  - { id: all, per: corpus, use: set, values: { x: steps.a.x, y: doc.stem, z: corpus.document } }
  - { id: g, per: group, use: render, template: "{{ group.kee }}" }
  - { id: s, per: corpus, use: summarize }
  - { id: r, per: row, over: askd, use: render, template: "{{ row.questoin }}" }
outputs:
  - { path: out/a.jsonl, fields: { a: steps.all.x, r: steps.r, s: steps.s } }
  - { path: out/g.md, per: group, content: steps.g }
"#,
        json!([]),
    );
    stage.write("asked.csv", "id,question\nq1,Why?\n");
    stage.machine("kiln");
    let told = run(&mut stage.command(&["check", "p.yaml"])).exits(2).stderr;
    for fault in [
        "`row` is known only in a step with `per: row`",
        "the step `a` uses `steps.all`, which runs after it",
        "`steps.a` is a list here, one value for each document, and has no field `x`",
        "`doc` is one document, and this is done over several",
        "`corpus` has no field `document`",
        "`group` has no field `kee`",
        "does not say what the documents of a group share",
        "`steps.s` is done over several documents and does not say what it reads",
        "names `askd`, which is no source with `rows`",
        "`row` has no column `questoin`",
        "`steps.all` is done over all documents, when all are done: one document cannot use it",
        "every group would write the same file",
    ] {
        assert!(told.contains(fault), "{fault}:\n{told}");
    }
}

#[test]
fn included_files_give_names_and_step_lists_and_their_mistakes_have_their_own_places() {
    let pipeline = r#"version: 1
name: included
include: [common/house.yaml]
sources: { docs: "in/*.vtt" }
steps:
  - { insert: opening }
  - { id: kind, use: classify, labels: papers }
outputs:
  - { name: all, path: out/all.jsonl, fields: { title: steps.title, kind: steps.kind.label, word: params.word } }
"#;
    let house = r#"version: 1
params: { word: { type: text, default: house } }
labels: { papers: { news: What is new, order: Something is wanted } }
step_lists:
  opening:
    - { id: title, use: generate, prompt: { file: prompts/title.md }, max_tokens: 20 }
"#;
    let script = json!([
        { "when": "A title, please", "answer": "About a machine" },
        { "when": "What is new", "scores": { "news": 0.9, "order": 0.1 } },
    ]);
    let stage = Stage::new(pipeline, script);
    fs::create_dir_all(stage.path("common/prompts")).unwrap();
    stage.write("common/house.yaml", house);
    stage.write("common/prompts/title.md", "{{ doc.text }}\nA title, please.\n");
    stage.machine("kiln");
    stage.run().exits(0);
    let record = &lines(&stage, "out/all.jsonl")[0];
    assert_eq!(
        (&record["title"], &record["kind"], &record["word"]),
        (&json!("About a machine"), &json!("news"), &json!("house"))
    );
    assert_eq!(counts(&stage.report(0)), [0, 0, 1]);
    stage.write("common/prompts/title.md", "{{ doc.text }}\nA title, please!\nA title, please.\n");
    assert_eq!(counts(&stage.report(0)), [1, 0, 0], "the prompt's file is a part of the key");
    let config = run(&mut stage.command(&["config", "p.yaml"])).exits(0).stdout;
    assert!(config.contains("# common/house.yaml, line 6"), "{config}");

    stage.write(
        "common/house.yaml",
        house.replace("use: generate", "use: generte").replace("prompts/title.md", "prompts/none.md"),
    );
    let told = run(&mut stage.command(&["check", "p.yaml"])).exits(2).stderr;
    assert!(told.contains("common/house.yaml:6:") && told.contains("did you mean `generate`?"), "{told}");
    stage.write("common/house.yaml", format!("{house}include: [../p.yaml]\nsources: {{}}\n"));
    let told = run(&mut stage.command(&["check", "p.yaml"])).exits(2).stderr;
    assert!(told.contains("include each other: p.yaml -> house.yaml -> p.yaml"), "{told}");
    assert!(told.contains("an included file cannot have `sources`"), "{told}");
    stage.write("common/house.yaml", house);
    stage.write(
        "p.yaml",
        pipeline
            .replace("sources:", "params: { word: { type: text, default: own } }\nsources:")
            .replace("id: kind,", "id: title,"),
    );
    let told = run(&mut stage.command(&["check", "p.yaml"])).exits(2).stderr;
    assert!(told.contains("`params.word` stands in two files") && told.contains("first at p.yaml:4:"), "{told}");
    assert!(told.contains("two steps are called `title`") && told.contains("common/house.yaml, line 6"), "{told}");
}

#[test]
fn a_record_that_breaks_its_contract_fails_its_document() {
    let contract = r#"
  - { name: held, path: out/held.jsonl, contract: row, fields: { doc: doc.stem, words: "steps.answer | length" } }
schemas:
  row:
    type: object
    properties: { doc: { type: string, pattern: "^[a-z]+$" }, words: { type: integer, maximum: 12 } }
    required: [doc, words]
    if: { properties: { doc: { const: kiln } } }
    then: { properties: { words: { minimum: 1 } } }
run: {"#;
    let script = json!([{ "when": "kiln", "answer": "It was said." }, { "answer": "It was said at length." }]);
    let stage = Stage::new(&ECHO.replace("run: {", contract.trim_start_matches('\n')), script);
    stage.machine("kiln");
    stage.machine("oven");
    let report = stage.report(3);
    assert_eq!(counts(&report), [1, 1, 0]);
    let failure = &report["documents"][1]["failure"];
    assert_eq!(failure["reason"], "schema-not-met");
    assert!(
        failure["detail"].as_str().unwrap().contains("breaks its contract `row`: /words: 22 is greater"),
        "{failure}"
    );
    assert_eq!(lines(&stage, "out/held.jsonl").len(), 1);
    assert!(!stage.path("out/oven.md").exists(), "no half of its outputs");
}

#[test]
fn outputs_of_documents_that_are_gone_go_or_leave_a_mark_as_the_source_says() {
    for (policy, page) in [("drop", None), ("tombstone", Some("Removed: in/oven.vtt is gone"))] {
        let source = format!("sources: {{ docs: {{ files: \"in/*.vtt\", on_removed: {policy} }} }}");
        let stage = Stage::new(
            &ECHO.replace("sources: { docs: \"in/*.vtt\" }", &source),
            json!([{ "answer": "It was said." }]),
        );
        stage.machine("kiln");
        stage.machine("oven");
        stage.run().exits(0);
        fs::remove_file(stage.path("in/oven.vtt")).unwrap();
        stage.run().exits(0);
        let rows = lines(&stage, "out/all.jsonl");
        match page {
            None => assert!(rows.len() == 1 && !stage.path("out/oven.md").exists(), "{rows:?}"),
            Some(mark) => {
                assert!(stage.read("out/oven.md").starts_with(mark));
                assert_eq!((&rows[1]["removed"], &rows[1]["key"]), (&json!(true), &json!("in/oven.vtt")), "{rows:?}");
                assert!(rows[1].get("answer").is_none());
            }
        }
        // It comes back from what is kept of it, without the model.
        stage.machine("oven");
        let report = stage.report(0);
        assert_eq!(report["calls"]["made"], 0, "{report}");
        assert!(stage.read("out/oven.md").starts_with("It was said."));
        assert_eq!(lines(&stage, "out/all.jsonl")[1]["answer"], "It was said.");
    }
}

#[test]
fn html_is_escaped_by_the_template_or_by_the_writer() {
    let pipeline = r#"
version: 1
name: html
sources: { docs: "in/*.vtt" }
steps:
  - { id: answer, use: generate, prompt: "{{ doc.text }}", max_tokens: 50 }
  - { id: page, use: render, escape: html, template: "<h1>{{ steps.answer }}</h1>" }
outputs:
  - { name: page, path: "out/{{ doc.stem }}.html", content: steps.page }
  - { name: plain, path: "out/{{ doc.stem }}-plain.html", content: steps.answer }
"#;
    let stage = Stage::new(pipeline, json!([{ "answer": "<script>alert(1)</script>" }]));
    stage.machine("kiln");
    stage.run().exits(0);
    let page = stage.read("out/kiln.html");
    assert!(page.starts_with("<h1>&lt;script&gt;") && page.contains("<!-- quarry: in/kiln.vtt"), "{page}");
    let plain = stage.read("out/kiln-plain.html");
    assert!(plain.contains("&lt;script&gt;alert(1)&lt;/script&gt;</pre>") && !plain.contains("<script"), "{plain}");
    stage.write("p.yaml", pipeline.replace("escape: html, ", ""));
    let told = run(&mut stage.command(&["check", "p.yaml"])).exits(2).stderr;
    assert!(told.contains("escape: html"), "{told}");
}

#[test]
fn a_filter_on_a_field_that_no_passage_has_is_a_mistake() {
    let pipeline = r#"
version: 1
name: filters
sources: { library: "in/*.vtt", docs: "in/*.vtt" }
indexes: { shelf: { from: library, text: bm25, fields: { desk: doc.meta.desk } } }
steps:
  - { id: found, use: retrieve, from: shelf, query: x, filter: { desk: a, stem: b, yaer: "2024" } }
outputs: [ { path: out/all.jsonl, fields: { hits: steps.found.hits } } ]
"#;
    let stage = Stage::new(pipeline, json!([]));
    stage.machine("kiln");
    let told = run(&mut stage.command(&["check", "p.yaml"])).exits(2);
    assert_eq!(told.errors().len(), 1, "{told}");
    assert!(told.stderr.contains("asks for `yaer`, a field that no passage of `shelf` has"), "{told}");
}

#[test]
fn tests_of_a_pipeline_see_rows_groups_and_all_documents() {
    let tests = r#"
tests:
  - name: one document beside all of them
    document: call.vtt
    text: "WEBVTT\n\n00:00:01.000 --> 00:00:02.000\n<v Anna>Hello.</v>\n"
    answers: [ { answer: A greeting } ]
    expect: [ "steps.title == 'A greeting'", "corpus.count == 1", "'Anna: call' in steps.page" ]
  - name: two documents
    documents:
      - { document: a.vtt, text: "WEBVTT\n\n00:00:01.000 --> 00:00:02.000\n<v Anna>Hello.</v>\n" }
      - { document: b.vtt, text: "WEBVTT\n\n00:00:01.000 --> 00:00:02.000\n<v Bo>Hello.</v>\n" }
    answers: [ { answer: A greeting } ]
    expect: [ "steps.title | length == 2", "steps.person == ['Anna: a', 'Bo: b']", "corpus.left_out == []" ]
"#;
    let stage = week();
    stage.write("p.yaml", format!("{WEEK}{tests}"));
    let held = run(&mut stage.command(&["test", "p.yaml"])).exits(0);
    assert!(held.stdout.contains("2 tests: 2 ok"), "{held}");
    let rows = "\ntests:\n  - { name: a row, row: { id: q1, question: A kiln? }, answers: [ { answer: Seven } ], expect: [ \"steps.reply == 'Seven' and row.id == doc.stem\" ] }\n";
    let stage = asked();
    stage.write("p.yaml", format!("{ASKED}{rows}"));
    run(&mut stage.command(&["test", "p.yaml"])).exits(0);
}

#[cfg(feature = "parquet")]
#[test]
fn records_are_a_parquet_file_that_is_written_anew_from_the_journal() {
    let pipeline = ECHO.replace("path: out/all.jsonl", "path: out/all.parquet");
    let stage = Stage::new(&pipeline, json!([{ "answer": "It was said." }]));
    stage.machine("kiln");
    stage.run().exits(0);
    let first = fs::read(stage.path("out/all.parquet")).unwrap();
    assert!(first.starts_with(b"PAR1") && first.ends_with(b"PAR1"));
    fs::remove_file(stage.path("out/all.parquet")).unwrap();
    stage.run().exits(0);
    assert_eq!(fs::read(stage.path("out/all.parquet")).unwrap(), first);
}
