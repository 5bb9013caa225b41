//! `quarry run` and `quarry check` with a model that answers from a script.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use quarry::steps::STEP_KINDS;
use serde_json::{Value, json};

use crate::support::{Ran, Running, files_below, quarry, root, run, skipped, start};

const SIGINT: i32 = 2;
const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

/// Each verb once, and each kind of output.
const VERBS: &str = r#"
version: 1
name: verbs
params:
  out: { type: path, default: out }
sources:
  docs: { files: "in/*.vtt" }
steps:
  - { id: chunks, use: split, size: 12 words }
  - { id: summary, use: summarize, length: 60 words }
  - id: tasks
    use: extract
    many: { evidence: turns, said: quote, task: string, owner: speaker? }
    instruct: List the tasks.
  - id: kind
    use: classify
    labels: { status: A round of news, decision: Something settled }
  - id: title
    use: generate
    prompt: |
      {{ doc.text }}
      Give it a title.
    max_tokens: 24
  - id: page
    use: render
    template: |
      # {{ steps.title }}
      {{ steps.kind.label }}, {{ steps.chunks.chunks | length }} chunks
      {{ steps.summary.cited }}
      {% for task in steps.tasks %}
      - {{ task.task }} ({{ task.owner }}, {{ task.evidence | join(" ") }}, {{ task.at }})
      {% endfor %}
outputs:
  - name: page
    path: "{{ params.out }}/{{ doc.stem }}.md"
    content: steps.page
  - name: record
    path: "{{ params.out }}/all.jsonl"
    fields:
      doc: doc.stem
      title: steps.title
      kind: steps.kind.label
      summary: steps.summary.text
      coverage: steps.summary.coverage
      state: doc.state
    key: doc.path
  - name: tasks
    path: "{{ params.out }}/tasks.csv"
    explode: steps.tasks
    fields: { doc: doc.stem, task: item.task, said: item.said }
run: { quarantine: "failed.jsonl" }
"#;

/// One answer per document.
pub const ECHO: &str = r#"
version: 1
name: echo
sources: { docs: "in/*.vtt" }
steps:
  - { id: answer, use: generate, prompt: "{{ doc.text }}", max_tokens: 50 }
outputs:
  - { path: "out/{{ doc.stem }}.md", content: steps.answer }
  - { name: all, path: out/all.jsonl, fields: { doc: doc.stem, answer: steps.answer }, key: doc.path }
run: { in_flight: 2 }
"#;

/// A folder with documents in `in/`, a pipeline and a script.
pub struct Stage {
    folder: tempfile::TempDir,
}

impl Stage {
    pub fn new(pipeline: &str, script: Value) -> Self {
        let stage = Self { folder: tempfile::tempdir().unwrap() };
        stage.write("p.yaml", pipeline);
        stage.write("script.json", script.to_string());
        fs::create_dir(stage.path("in")).unwrap();
        stage
    }

    /// Documents about an apple, a berry and a cherry machine, and answers of every verb about them.
    pub fn verbs() -> Self {
        let task = |thing: &str| {
            let said = format!("I will repair the {thing} machine on Friday.");
            json!([{ "evidence": ["T2"], "said": said, "task": format!("Repair the {thing} machine"), "owner": "Bo" }])
        };
        let script = json!([
            { "when": "/(?s)apple.*List the tasks/", "answer": [task("apple")] },
            { "when": "/(?s)berry.*List the tasks/", "answer": [task("berry")] },
            { "when": "List the tasks", "answer": [[]] },
            { "when": "/(?s)apple.*Give it a title/", "answer": "About apples" },
            { "when": "Give it a title", "answer": "About a machine" },
            { "when": "A round of news", "scores": { "status": 0.9, "decision": 0.1 } },
            { "answer": "Anna said that the machine stands still since Monday. Bo will repair the machine on Friday." },
        ]);
        let stage = Self::new(VERBS, script);
        ["apple", "berry", "cherry"].iter().for_each(|thing| stage.machine(thing));
        stage
    }

    /// `num` documents whose answers take `delay_ms` each.
    pub fn slow(num: usize, delay_ms: u64) -> Self {
        let stage = Self::new(ECHO, json!([{ "answer": "It was said.", "delay_ms": delay_ms }]));
        (0..num).for_each(|n| stage.machine(&format!("kiln{n:02}")));
        stage
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(name), text).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// Writes a transcript of three turns about a machine.
    pub fn machine(&self, thing: &str) {
        let cues = [
            format!("<v Anna>The {thing} machine stands still since Monday.</v>"),
            format!("<v Bo>I will repair the {thing} machine on Friday.</v>"),
            format!("<v Cem>Good, then the {thing} order can leave the house.</v>"),
        ];
        self.transcript(&format!("in/{thing}.vtt"), "", &cues);
    }

    pub fn transcript(&self, name: &str, title: &str, cues: &[String]) {
        let mut text = "WEBVTT\n".to_owned();
        if !title.is_empty() {
            text.push_str(&format!("\nNOTE Title: {title}\n"));
        }
        for (i, cue) in cues.iter().enumerate() {
            text.push_str(&format!("\n00:00:{:02}.000 --> 00:00:{:02}.000\n{cue}\n", 5 * i, 5 * i + 4));
        }
        self.write(name, text);
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = quarry(&self.path("cache"));
        command.args(arguments).current_dir(self.folder.path());
        command
    }

    pub fn runs(&self, more: &[&str]) -> Command {
        let mut command = self.command(&["run", "p.yaml", "-m", "scripted:script.json"]);
        command.args(more);
        command
    }

    #[track_caller]
    pub fn run(&self) -> Ran {
        run(&mut self.runs(&[]))
    }

    /// The report of a run that ends with `code`.
    #[track_caller]
    pub fn report(&self, code: i32) -> Value {
        let report = run(&mut self.runs(&["--json"])).exits(code).json();
        let count = |name: &str| report["counts"][name].as_u64().unwrap();
        let sum: u64 = ["ok", "partial", "abstained", "failed", "skipped"].iter().map(|n| count(n)).sum();
        assert_eq!(sum, count("inputs"), "{report}");
        assert_eq!(report["documents"].as_array().unwrap().len() as u64, sum, "{report}");
        report
    }

    pub fn outputs(&self) -> BTreeMap<String, Vec<u8>> {
        files_below(&self.path("out"))
    }

    /// Starts a slow run, and returns when it works on documents: its folder is there and so is the first page.
    pub fn started(&self) -> Running {
        let mut running = start(&mut self.runs(&[]));
        let since = Instant::now();
        while !self.outputs().keys().any(|name| name.ends_with(".md")) {
            assert!(running.is_running() && since.elapsed() < Duration::from_secs(60), "{}", running.finish());
            sleep(Duration::from_millis(5));
        }
        running
    }
}

pub fn counts(report: &Value) -> [u64; 3] {
    ["ok", "failed", "skipped"].map(|name| report["counts"][name].as_u64().unwrap())
}

#[test]
fn every_verb_gives_its_part_of_the_page_the_record_and_the_rows() {
    let stage = Stage::verbs();
    assert_eq!(counts(&stage.report(0)), [3, 0, 0]);
    let page = stage.read("out/apple.md");
    assert!(page.starts_with("# About apples\nstatus, 3 chunks\n"), "{page}");
    assert!(page.contains("- Repair the apple machine (Bo, T2, 0:00:05)"), "{page}");
    assert!(page.contains("[T1") && page.contains("still since Monday"), "{page}");
    assert!(page.contains("\n<!-- quarry: in/apple.vtt · sha256 "), "{page}");
    assert!(!stage.read("out/cherry.md").contains("- Repair"));

    let records: Vec<Value> = stage.read("out/all.jsonl").lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let docs: Vec<_> = records.iter().map(|r| r["doc"].as_str().unwrap()).collect();
    assert_eq!(docs, ["apple", "berry", "cherry"]);
    for record in &records {
        assert_eq!(
            (&record["kind"], &record["coverage"], &record["state"]),
            (&json!("status"), &json!(1.0), &json!("ok"))
        );
        assert_eq!(record["provenance"]["model"]["name"], "scripted", "{record}");
    }
    let table = stage.read("out/tasks.csv");
    let rows: Vec<&str> = table.lines().collect();
    assert_eq!(rows.len(), 3, "{table}");
    assert!(rows[0].starts_with("doc,task,said,"), "{table}");
    assert!(
        rows[1].starts_with("apple,Repair the apple machine,I will repair the apple machine on Friday.,"),
        "{table}"
    );
    assert!(!stage.path("failed.jsonl").exists());
}

#[test]
fn a_second_run_loads_nothing_and_changes_nothing() {
    let stage = Stage::verbs();
    stage.run().exits(0);
    let before = stage.outputs();
    let again = stage.run().exits(0);
    assert!(again.stdout.contains("3 documents: 3 skipped"), "{again}");
    assert!(!again.stderr.contains("loading") && again.took < Duration::from_secs(5), "{again}");
    assert_eq!(stage.outputs(), before);
    let report = stage.report(0);
    assert_eq!((&report["calls"]["made"], &report["seconds"]["model_load"]), (&json!(0), &json!(0.0)), "{report}");
}

#[test]
fn a_changed_document_is_done_again_and_alone() {
    let stage = Stage::verbs();
    stage.run().exits(0);
    let before = stage.outputs();
    let changed = stage.read("in/berry.vtt").replace("Monday", "Tuesday");
    stage.write("in/berry.vtt", changed);
    let report = stage.report(0);
    assert_eq!(counts(&report), [1, 0, 2]);
    assert_eq!(
        (&report["documents"][1]["document"], &report["documents"][1]["state"]),
        (&json!("in/berry.vtt"), &json!("ok"))
    );
    let after = stage.outputs();
    assert_eq!(after["apple.md"], before["apple.md"]);
    assert_ne!(after["berry.md"], before["berry.md"]);
    assert_eq!(stage.read("out/all.jsonl").lines().count(), 3);
    assert_eq!(stage.read("out/tasks.csv").lines().count(), 3);
}

#[test]
fn a_document_removed_keeps_its_outputs_and_a_new_one_is_done_alone() {
    let stage = Stage::verbs();
    stage.run().exits(0);
    stage.machine("damson");
    assert_eq!(counts(&stage.report(0)), [1, 0, 3]);
    fs::remove_file(stage.path("in/apple.vtt")).unwrap();
    assert_eq!(counts(&stage.report(0)), [0, 0, 3]);
    assert!(stage.path("out/apple.md").exists());
}

#[test]
fn a_broken_document_fails_alone_with_its_reason() {
    let stage = Stage::verbs();
    stage.write("in/broken.vtt", b"\xff\xfe\0\0\x01");
    stage.write("in/empty.vtt", b"");
    let first = stage.run().exits(3);
    assert!(first.stdout.contains("5 documents: 3 ok, 2 failed"), "{first}");
    assert!(first.stdout.contains("failed documents are listed in failed.jsonl"), "{first}");
    let listed: Vec<Value> = stage.read("failed.jsonl").lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let documents: Vec<_> = listed.iter().map(|l| l["document"].as_str().unwrap()).collect();
    assert_eq!(documents, ["in/broken.vtt", "in/empty.vtt"]);
    assert!(listed.iter().all(|l| l["reason"].is_string() && l["detail"].is_string()), "{listed:?}");
    assert!(!stage.path("out/broken.md").exists());
    // What failed stays failed: an exit of 0 would say that all is well.
    let report = stage.report(3);
    assert_eq!(counts(&report), [0, 2, 3]);
    assert!([2, 4].iter().all(|&i| report["documents"][i]["failed_before"] == true), "{report}");
    fs::remove_file(stage.path("in/empty.vtt")).unwrap();
    stage.machine("broken");
    assert_eq!(counts(&stage.report(0)), [1, 0, 3]);
    assert!(!stage.path("failed.jsonl").exists() || stage.read("failed.jsonl").is_empty());
}

#[test]
fn an_engine_that_fails_on_one_document_leaves_the_others_whole() {
    let stage = Stage::verbs();
    let script = stage.read("script.json");
    stage.write(
        "script.json",
        script.replacen('[', r#"[{"when": "/(?s)berry.*Give it a title/", "error": "lost its thread"}, "#, 1),
    );
    let report = stage.report(3);
    assert_eq!(counts(&report), [2, 1, 0]);
    let failure = &report["documents"][1]["failure"];
    assert_eq!((&failure["step"], &failure["reason"]), (&json!("title"), &json!("engine-failed")));
    assert!(failure["detail"].as_str().unwrap().contains("lost its thread"));
}

#[test]
fn too_many_failures_give_up() {
    let stage = Stage::verbs();
    stage.write("in/broken.vtt", b"");
    stage.write("p.yaml", VERBS.replace("run: {", "run: { max_failed: 0,"));
    let given_up = stage.run().exits(4);
    assert!(given_up.stdout.contains("max_failed"), "{given_up}");
}

#[test]
fn an_answer_that_is_cut_off_leaves_the_document_partial_and_says_so() {
    let stage = Stage::new(ECHO, json!([{ "answer": "It was said", "finish": "length" }]));
    stage.machine("apple");
    let partial = stage.run().exits(3);
    assert!(partial.stdout.contains("partial") && partial.stdout.contains("max_tokens"), "{partial}");
}

#[test]
fn two_runs_at_once_are_one_run_and_a_refusal() {
    let stage = Stage::slow(8, 600);
    let first = stage.started();
    let second = stage.run().exits(5);
    assert_eq!(second.errors().len(), 1, "{second}");
    assert!(second.errors()[0].contains("another run") && second.took < Duration::from_secs(5), "{second}");
    assert!(first.finish().exits(0).stdout.contains("8 ok"));
    assert_eq!(stage.outputs().len(), 9);
}

#[test]
fn interrupted_it_says_so_and_goes_on_to_the_same_bytes() {
    let whole = Stage::slow(10, 250);
    whole.run().exits(0);
    for (signal, code) in [(SIGINT, 130), (SIGTERM, 143)] {
        let stage = Stage::slow(10, 250);
        let running = stage.started();
        running.signal(signal);
        let stopped = running.finish().exits(code);
        assert!(stopped.took < Duration::from_secs(30), "{stopped}");
        assert!(stopped.stdout.contains("interrupted") && stopped.stdout.contains("skipped"), "{stopped}");
        assert!(stage.outputs().len() < 11, "nothing was left to do");
        let resumed = stage.run().exits(0);
        assert!(resumed.stdout.contains("skipped"), "{resumed}");
        assert_eq!(stage.outputs(), whole.outputs());
    }
}

#[test]
fn killed_at_several_moments_it_goes_on_to_the_same_bytes() {
    let whole = Stage::slow(10, 40);
    whole.run().exits(0);
    for wait in [0, 15, 30, 60, 90] {
        let stage = Stage::slow(10, 40);
        let mut running = stage.started();
        sleep(Duration::from_millis(wait));
        if running.is_running() {
            running.signal(SIGKILL);
        }
        let killed = running.finish();
        assert!(killed.signal == Some(SIGKILL) || killed.code == Some(0), "{killed}");
        stage.run().exits(0);
        assert_eq!(stage.outputs(), whole.outputs(), "killed after {wait} ms");
    }
}

#[test]
fn check_tells_every_mistake_with_its_place_and_its_hint() {
    let stage = Stage::new(
        r#"version: 1
nmae: typo
sources: { docs: "in/*.vtt" }
steps:
  - { id: a, use: sumarize }
  - { id: b, use: summarize, lenght: 20 words }
  - { id: b, use: split, size: 20 parsecs }
  - { id: c, use: render, template: "{{ steps.nothing }} {{ doc.stem" }
  - { id: d, use: classify, labels: { only: one } }
outputs:
  - { path: "out/x.md", content: steps.gone }
run: { on_error: explode }
"#,
        json!([{ "answer": "x" }]),
    );
    let checked = run(&mut stage.command(&["check", "p.yaml", "--json"])).exits(2).json();
    assert_eq!(checked["ok"], false);
    let diagnostics = checked["diagnostics"].as_array().unwrap();
    let lines: Vec<u64> = diagnostics.iter().map(|d| d["line"].as_u64().unwrap_or(0)).collect();
    for line in [2, 5, 6, 7, 8, 9, 11, 12] {
        assert!(lines.contains(&line), "line {line} is not told of: {checked:#}");
    }
    assert!(diagnostics.iter().all(|d| d["column"].as_u64().is_some_and(|c| c > 0)), "{checked:#}");
    let hints = checked.to_string();
    assert!(hints.contains("`name`") && hints.contains("summarize") && hints.contains("length"), "{checked:#}");

    let told = run(&mut stage.command(&["check", "p.yaml"])).exits(2);
    assert!(told.stderr.contains("p.yaml:2:1") && told.stdout.is_empty(), "{told}");
    let refused = stage.run().exits(2);
    assert!(refused.stderr.contains("p.yaml:2:1") && !stage.path("out").exists(), "{refused}");
}

#[test]
fn what_is_no_pipeline_is_refused_in_a_moment() {
    let stage = Stage::new("", json!([{ "answer": "x" }]));
    let bombs = "a: &a [x,x,x,x,x,x,x,x,x]\n".to_owned()
        + &(b'b'..=b'j')
            .map(|c| {
                let (c, p) = (c as char, (c - 1) as char);
                format!("{c}: &{c} [*{p},*{p},*{p},*{p},*{p},*{p},*{p},*{p},*{p}]\n")
            })
            .collect::<String>();
    let cases: [(&str, Vec<u8>); 8] = [
        ("empty", Vec::new()),
        ("a list", b"- 1\n- 2\n".to_vec()),
        ("bytes", vec![0xff, 0xfe, 0x00, 0x9f]),
        ("tabs", b"version: 1\nsteps:\n\t- x\n".to_vec()),
        ("twice", b"version: 1\nversion: 1\nsources: {}\nsteps: []\n".to_vec()),
        ("deep", [b"x: ".to_vec(), vec![b'['; 20_000]].concat()),
        ("aliases", bombs.into_bytes()),
        ("a tag", b"version: 1\nsources: !!python/object:os.system x\nsteps: []\n".to_vec()),
    ];
    for (what, bytes) in cases {
        stage.write("p.yaml", bytes);
        let refused = run(&mut stage.command(&["check", "p.yaml"])).exits(2);
        assert!(!refused.errors().is_empty() && refused.stderr.contains("p.yaml"), "{what}: {refused}");
        assert!(refused.took < Duration::from_secs(5), "{what}: {refused}");
    }
    let missing = run(&mut stage.command(&["check", "gone.yaml"])).exits(2);
    assert!(missing.errors()[0].contains("gone.yaml"), "{missing}");
}

#[test]
fn without_inputs_nothing_is_started() {
    let stage = Stage::new(ECHO, json!([{ "answer": "x" }]));
    let none = stage.run().exits(2);
    assert!(none.errors().len() == 1 && none.stderr.contains("in/*.vtt"), "{none}");
    assert!(!stage.path("out").exists());
}

#[test]
fn a_script_that_cannot_be_used_is_a_missing_model() {
    let stage = Stage::slow(1, 0);
    stage.write("script.json", "[{]");
    let damaged = stage.run().exits(8);
    assert!(damaged.errors().len() == 1 && damaged.stderr.contains("script.json"), "{damaged}");
    let gone = run(&mut stage.command(&["run", "p.yaml", "-m", "scripted:gone.json"])).exits(8);
    assert!(gone.stderr.contains("gone.json"), "{gone}");
}

#[test]
fn a_folder_that_cannot_be_written_is_known_before_anything_starts() {
    use std::os::unix::fs::PermissionsExt;
    let stage = Stage::slow(1, 0);
    stage.write("out", "a file in the way");
    let blocked = stage.run().exits(2);
    assert!(blocked.errors().len() == 1 && blocked.stderr.contains("out"), "{blocked}");
    fs::remove_file(stage.path("out")).unwrap();
    fs::create_dir(stage.path("out")).unwrap();
    fs::set_permissions(stage.path("out"), fs::Permissions::from_mode(0o555)).unwrap();
    if fs::write(stage.path("out/probe"), "").is_ok() {
        skipped("a read-only folder is no hindrance for this user");
        return;
    }
    let read_only = stage.run().exits(2);
    assert!(read_only.errors().len() == 1 && !read_only.stderr.contains("loading"), "{read_only}");
    fs::set_permissions(stage.path("out"), fs::Permissions::from_mode(0o755)).unwrap();
    stage.run().exits(0);
}

#[test]
fn names_from_documents_stay_inside_the_folder() {
    let pipeline = ECHO.replace("{{ doc.stem }}.md", "{{ doc.meta.title }}/{{ doc.meta.title }}.md");
    let stage = Stage::new(&pipeline, json!([{ "answer": "x" }]));
    let long = "long".repeat(200);
    let titles =
        ["../../x", "/etc/x", "a/../../b", "CON", "..", "-rf", "$(touch y)", "trailing. ", &long, "e\u{301}", "é"];
    for (i, title) in titles.iter().enumerate() {
        stage.transcript(&format!("in/{i:02}.vtt"), title, &["<v Anna>Hello there.</v>".into()]);
    }
    assert_eq!(counts(&stage.report(0)), [titles.len() as u64, 0, 0]);
    let first = stage.outputs();
    assert_eq!(first.len(), titles.len() + 1, "{:?}", first.keys());
    let beside: Vec<_> = fs::read_dir(stage.folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(beside.len(), 5, "cache, in, out, p.yaml and script.json: {beside:?}");
    assert_eq!(counts(&stage.report(0)), [0, 0, titles.len() as u64]);
    assert_eq!(stage.outputs(), first);
}

#[test]
fn text_of_documents_and_answers_stays_data() {
    let stage = Stage::new(
        &ECHO
            .replace("answer: steps.answer }", "answer: steps.answer, said: \"doc.turns[0].text\" }")
            .replace("all.jsonl", "all.csv"),
        json!([{ "answer": "=HYPERLINK(\"x\") {{ 7*7 }}" }]),
    );
    stage.transcript("in/a.vtt", "", &["<v Anna>@SUM(A1) {{ 6*7 }} <|end_of_text|></v>".into()]);
    stage.run().exits(0);
    let (page, table) = (stage.read("out/a.md"), stage.read("out/all.csv"));
    assert!(page.contains("{{ 7*7 }}") && table.contains("{{ 6*7 }}"), "{page}\n{table}");
    assert!(!table.contains(",=HYPER") && !table.contains(",\"=HYPER") && !table.contains(",@SUM"), "{table}");
}

#[test]
fn a_reader_that_has_gone_is_quiet() {
    let stage = Stage::verbs();
    for arguments in [&["check", "p.yaml"][..], &["model", "list"], &["run", "p.yaml", "-m", "scripted:script.json"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = stage.command(arguments);
        let output = command.stdout(writer).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(!stderr.contains("error") && !stderr.contains("panicked"), "{arguments:?}: {stderr}");
        assert_eq!(output.status.code(), Some(141), "{arguments:?}: {stderr}");
    }
    // The work was done all the same.
    assert_eq!(counts(&stage.report(0)), [0, 0, 3]);
}

#[test]
fn only_and_limit_choose_and_the_rest_follows() {
    let stage = Stage::verbs();
    let chosen = run(&mut stage.runs(&["--only", "b*.vtt", "--json"])).exits(0).json();
    assert_eq!(counts(&chosen), [1, 0, 0]);
    let limited = run(&mut stage.runs(&["--limit", "2", "--json"])).exits(0).json();
    assert_eq!(counts(&limited), [1, 0, 1]);
    let wrong = run(&mut stage.runs(&["--only", "nothing*"])).exits(2);
    assert!(wrong.errors()[0].contains("nothing*"), "{wrong}");
    let elsewhere = run(&mut stage.runs(&["-p", "out=elsewhere", "--json"])).exits(0).json();
    assert_eq!(counts(&elsewhere), [3, 0, 0]);
    assert!(stage.path("elsewhere/apple.md").exists());
    let unknown = run(&mut stage.runs(&["-p", "uot=x"])).exits(2);
    assert!(unknown.stderr.contains("uot") && unknown.stderr.contains("hint: known parameters: out"), "{unknown}");
}

#[test]
fn threads_and_documents_in_flight_do_not_show_in_the_outputs() {
    let mut seen = Vec::new();
    for jobs in ["1", "2", "8"] {
        let stage = Stage::verbs();
        run(&mut stage.runs(&["--jobs", jobs])).exits(0);
        seen.push(stage.outputs());
    }
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn every_example_of_a_verb_passes_check() {
    let stage = Stage::new("", json!([{ "answer": "x" }]));
    stage.machine("apple");
    for kind in STEP_KINDS {
        let step = kind.example.trim_end().replace('\n', "\n    ");
        let id = kind.example.lines().find_map(|line| line.strip_prefix("id: ")).unwrap();
        let pipeline = format!(
            "version: 1\nsources: {{ docs: \"in/*.vtt\", files: \"in/*\" }}\n\
             indexes: {{ library: {{ from: files }} }}\nsteps:\n  - {step}\n\
             outputs:\n  - {{ path: out/all.jsonl, fields: {{ value: steps.{id} }} }}\n"
        );
        stage.write("p.yaml", &pipeline);
        let checked = run(&mut stage.command(&["check", "p.yaml"]));
        assert_eq!(checked.code, Some(0), "the example of {}:\n{pipeline}\n{checked}", kind.name);
        assert!(checked.stderr.is_empty(), "the example of {}: {checked}", kind.name);
    }
}

#[test]
fn every_pipeline_that_comes_with_the_program_passes_check() {
    let stage = Stage::new("", json!([]));
    let mut num_checked = 0;
    for entry in fs::read_dir(root().join("pipelines")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "yaml") {
            let checked = run(stage.command(&["check"]).arg(&path)).exits(0);
            assert!(checked.stderr.is_empty(), "{checked}");
            num_checked += 1;
        }
    }
    assert!(num_checked > 0);
}

#[test]
fn explain_and_help_know_every_verb_and_every_exit_code() {
    let stage = Stage::new("", json!([]));
    for kind in STEP_KINDS {
        let told = run(&mut stage.command(&["explain", kind.name])).exits(0);
        assert!(told.stdout.contains(kind.summary), "{told}");
    }
    let unknown = run(&mut stage.command(&["explain", "sumarize"])).exits(2);
    assert!(unknown.stderr.contains("summarize"), "{unknown}");
    let help = run(&mut stage.command(&["--help"])).exits(0);
    assert!(help.stdout.contains("130") && help.stdout.contains("another run holds the lock"), "{help}");
    run(&mut stage.command(&["no-such-command"])).exits(2);
}
