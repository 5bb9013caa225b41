//! `quarry chat`, functions to call and code, with a model that answers from a script.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::{Ran, quarry, run, start};

/// A folder of its own for a test, with a script in it.
struct Bench(PathBuf);

impl Bench {
    fn new(name: &str, script: Value) -> Self {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("dialog").join(name);
        let _ = std::fs::remove_dir_all(&folder); // of an earlier run; there may be none
        std::fs::create_dir_all(&folder).expect("a folder for a test");
        let bench = Self(folder);
        bench.write("script.json", &script.to_string());
        bench
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.join(name), text).expect("a file for a test");
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    fn model(&self) -> String {
        format!("scripted:{}", self.0.join("script.json").display())
    }

    fn chat(&self, input: &str, more: &[&str]) -> Ran {
        let mut command = quarry(&self.0.join("cache"));
        command.current_dir(&self.0).args(["chat", &self.model()]).args(more);
        with_input(&mut command, input)
    }
}

fn with_input(command: &mut Command, input: &str) -> Ran {
    command.stdin(Stdio::piped());
    let mut running = start(command);
    running.stdin().write_all(input.as_bytes()).expect("the program reads");
    running.finish()
}

#[test]
fn a_dialog_goes_line_by_line_through_a_pipe_and_remembers_what_was_said() {
    let script = json!([
        { "when": "/My name is Ada\\.[\\s\\S]*Hello, Ada\\.[\\s\\S]*What is my name/", "answer": "Ada." },
        { "when": "My name is Ada.", "answer": "Hello, Ada." },
        { "when": "/two\\nlines/", "answer": "I see two lines." },
    ]);
    let bench = Bench::new("pipe", script);
    let input = "My name is Ada.\n\nWhat is my name?\n/save talk.json\n/clear\n\"\"\"two\nlines\"\"\"\n/save talk.md\n/exit\nnot read\n";
    let ran = bench.chat(input, &["--system", "Be brief."]).exits(0);
    assert_eq!(ran.stdout, "Hello, Ada.\nAda.\nI see two lines.\n", "{ran}");
    let saved: Value = serde_json::from_str(&bench.read("talk.json")).unwrap();
    let said: Vec<&str> =
        saved["messages"].as_array().unwrap().iter().map(|m| m["content"].as_str().unwrap()).collect();
    assert_eq!(said, ["Be brief.", "My name is Ada.", "Hello, Ada.", "What is my name?", "Ada."]);
    assert_eq!(bench.read("talk.md"), "**System:** Be brief.\n\n**You:** two\nlines\n\n**Model:** I see two lines.\n");
}

#[test]
fn what_goes_wrong_in_a_dialog_is_told_and_the_dialog_goes_on() {
    let script = json!([
        { "when": "/break.*\\n\\[assistant\\]/", "error": "the engine lost its thread" },
        { "answer": "Fine." },
    ]);
    let bench = Bench::new("wrong", script);
    bench.write("there.json", "mine");
    let ran = bench.chat("break it\n/nothing\n/save there.json\nAnd now?\n", &[]).exits(3);
    assert_eq!(ran.stdout, "Fine.\n", "{ran}");
    let errors = ran.errors();
    assert_eq!(errors.len(), 3, "{ran}");
    assert!(errors[0].contains("lost its thread") && errors[1].contains("/nothing"), "{ran}");
    assert!(errors[2].contains("there.json cannot be written") && bench.read("there.json") == "mine", "{ran}");
}

#[test]
fn an_interrupt_ends_a_dialog_from_a_pipe_only_between_answers() {
    let bench = Bench::new(
        "interrupt",
        json!([{ "when": "wait", "answer": "Late.", "delay_ms": 60_000 }, { "answer": "Next." }]),
    );
    let mut command = quarry(&bench.0.join("cache"));
    command.args(["chat", &bench.model()]).stdin(Stdio::piped());
    let mut running = start(&mut command);
    running.stdin().write_all(b"wait\nGo on.\n").expect("the program reads");
    // The answer takes a minute: it is stopped, and what comes after it is answered.
    std::thread::sleep(std::time::Duration::from_millis(1500));
    running.signal(2);
    let ran = running.finish().exits(0);
    assert_eq!(ran.stdout, "Next.\n", "{ran}");
    assert!(ran.stderr.contains("stopped; nothing was said") && ran.took.as_secs() < 50, "{ran}");
}

const PIPELINE: &str = r#"
version: 1
sources: { docs: "in/*.txt" }
steps:
  - id: booking
    use: generate
    prompt: "{{ doc.text }}"
    tools: { file: tools.json }
  - id: script
    use: generate
    prompt: Write a script that prints the text.
    code: python
outputs:
  - { name: calls, path: out/calls.jsonl, fields: { doc: doc.stem, calls: steps.booking.calls, script: steps.script } }
"#;

#[test]
fn a_pipeline_gets_calls_of_declared_functions_and_code_without_its_fence() {
    let script = json!([
        { "when": "[tool]", "answer": [[{ "name": "book", "arguments": { "room": "Elm" } }]] },
        { "when": "Write a script", "answer": "print('Elm')\n```\nThat is it." },
    ]);
    let bench = Bench::new("tools", script);
    std::fs::create_dir_all(bench.0.join("in")).unwrap();
    bench.write("in/mail.txt", "Please book the room Elm for Tuesday.");
    bench.write("pipeline.yaml", PIPELINE);
    let tool = json!({ "name": "book", "description": "Books a room", "parameters": {
        "properties": { "room": { "type": "string" } }, "required": ["room"],
    } });
    bench.write("tools.json", &json!([tool]).to_string());
    let run_it = || {
        let mut command = quarry(&bench.0.join("cache"));
        command.current_dir(&bench.0).args(["run", "pipeline.yaml", "--model", &bench.model()]);
        run(&mut command)
    };
    run_it().exits(0);
    let record: Value = serde_json::from_str(bench.read("out/calls.jsonl").trim()).unwrap();
    assert_eq!(record["calls"], json!([{ "name": "book", "arguments": { "room": "Elm" } }]));
    assert_eq!(record["script"], "print('Elm')");

    // Another declaration is another pipeline: what was done under the old one is done again.
    bench.write("tools.json", &json!([{ "name": "cancel" }]).to_string());
    let ran = run_it().exits(3);
    assert!(ran.stdout.contains("failed") || ran.stderr.contains("failed"), "{ran}");
}

#[test]
fn functions_that_cannot_be_called_are_refused_before_the_run() {
    let bench = Bench::new("refused", json!([]));
    std::fs::create_dir_all(bench.0.join("in")).unwrap();
    bench.write("in/mail.txt", "Hello.");
    bench.write("pipeline.yaml", PIPELINE);
    bench.write("tools.json", r#"[{"name": "book", "parameter": {}}]"#);
    let mut command = quarry(&bench.0.join("cache"));
    let ran = run(command.current_dir(&bench.0).args(["check", "pipeline.yaml"])).exits(2);
    assert!(ran.stderr.contains("tools.json: function 1: the key `parameter` is unknown"), "{ran}");
}
