//! Answers and documents that mean harm to whoever opens what came out.

use serde_json::{Value, json};

use super::{BATCH, assert_same, batch, note};
use crate::pipelines::Stage;
use crate::support::run;

const NASTY: &[&str] = &[
    "\u{1b}]0;owned\u{7}\u{1b}[2J\u{1b}[31mred",
    "=HYPERLINK(\"http://x\",\"y\")",
    "+1+1",
    "-2+3",
    "@SUM(A1)",
    "\t=1+1",
    "\r=1+1",
    "<script>alert(1)</script><img src=x onerror=y>",
    "![beacon](http://example.org/x.png)",
    "line\nline\r\nline\u{2028}line\u{2029}line",
    "nul\u{0}nul",
    "quote\" comma, semicolon; back\\slash",
    "\u{202e}reversed\u{2066}",
];

/// One note for each nasty answer, which the first step gives.
fn nasty() -> Stage {
    let rules: Vec<Value> = NASTY
        .iter()
        .enumerate()
        .map(|(n, answer)| json!({ "when": format!("Note {n}.\n"), "answer": answer }))
        .collect();
    let stage = Stage::new(BATCH, json!(rules));
    (0..NASTY.len()).for_each(|n| note(&stage, n));
    stage
}

#[test]
fn records_hold_what_was_said_one_line_each_and_tables_are_safe_to_open() {
    let stage = nasty();
    stage.run().exits(0);
    let records = stage.read("out/all.jsonl");
    assert_eq!(records.split('\n').filter(|line| !line.is_empty()).count(), NASTY.len());
    assert!(!records.chars().any(|c| c.is_control() && c != '\n'), "control characters are escaped");
    let said: Vec<String> = records
        .split('\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["first"].as_str().unwrap().to_owned())
        .collect();
    // An answer's blanks at its ends are nobody's.
    assert_eq!(said.len(), NASTY.len());
    for (said, meant) in said.iter().zip(NASTY) {
        assert!(said == meant || said == meant.trim(), "{said:?} of {meant:?}");
    }
    if let Ok(python) = std::process::Command::new("python3")
        .args(["-c", "import json,sys; print(sum(1 for l in open(sys.argv[1], newline='\\n') if json.loads(l)))"])
        .arg(stage.path("out/all.jsonl"))
        .output()
    {
        assert_eq!(String::from_utf8_lossy(&python.stdout).trim(), NASTY.len().to_string(), "a second parser");
    }
    let table = stage.read("out/rows.csv");
    let mut reader = csv::ReaderBuilder::new().from_reader(table.as_bytes());
    let cells: Vec<String> = reader.records().map(|r| r.unwrap()[1].to_owned()).collect();
    assert_eq!(cells.len(), 2 * NASTY.len());
    for cell in &cells {
        let is_formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r']);
        assert!(!is_formula && !cell.contains('\0'), "{cell:?} is run by a spreadsheet");
    }
    // Guarded with an apostrophe, and otherwise what was said.
    for meant in NASTY.iter().filter(|n| !n.contains('\0')) {
        let is_kept =
            |cell: &String| cell.trim_start_matches('\'') == *meant || cell.trim_start_matches('\'') == meant.trim();
        assert!(cells.iter().any(is_kept), "{meant:?} is not in {cells:?}");
    }
}

#[test]
fn a_terminal_is_told_nothing_that_it_obeys() {
    let stage = nasty();
    let told = run(&mut stage.runs(&["-v"])).exits(0);
    let reported = run(&mut stage.runs(&["--json", "--force"])).exits(0);
    let nasty = json!([{ "when": "JSON", "answer": [[]] }, { "answer": NASTY[0] }]);
    stage.write("script.json", nasty.to_string());
    let fields = ["extract", "-m", "scripted:script.json", "--field", "said=string", "in/000.txt"];
    let summarized = run(&mut stage.command(&["summarize", "-m", "scripted:script.json", "in/000.txt"]));
    let extracted = run(&mut stage.command(&fields));
    for ended in [&told, &reported, &summarized, &extracted] {
        let obeyed = |c: char| c.is_control() && c != '\n';
        assert!(!ended.stderr.contains(obeyed), "{ended}");
        assert!(!ended.stdout.contains(obeyed), "{ended}");
    }
}

#[test]
fn what_is_quarrys_own_is_readable_by_its_owner_only_and_logs_hold_no_text() {
    use std::os::unix::fs::PermissionsExt;
    let stage = batch(3, 0);
    stage.write("in/000.txt", "The key is sk-canary-4711.\n");
    let ended = run(&mut stage.runs(&["--events", "events.jsonl", "-v"])).exits(0);
    for text in [&ended.stdout, &ended.stderr, &stage.read("events.jsonl")] {
        assert!(!text.contains("canary") && !text.contains("It was said"), "{text}");
    }
    let mode = |name: &str| std::fs::metadata(stage.path(name)).unwrap().permissions().mode() & 0o077;
    assert_eq!((mode("out/.quarry/batch/journal.jsonl"), mode("events.jsonl")), (0, 0));
    assert!(!stage.read("out/.quarry/batch/run.json").contains("canary"));
}

#[test]
fn jobs_threads_and_interruptions_do_not_show() {
    let whole = batch(9, 1);
    run(&mut whole.runs(&["--jobs", "1"])).exits(0);
    for (jobs, threads) in [("1", "2"), ("2", "1"), ("8", "8")] {
        let stage = batch(9, 1);
        for limit in ["3", "6", "9"] {
            run(&mut stage.runs(&["--jobs", jobs, "--threads", threads, "--limit", limit])).exits(0);
        }
        assert_same(&stage, &whole.outputs(), &format!("{jobs} jobs, {threads} threads, in three runs"));
    }
}
