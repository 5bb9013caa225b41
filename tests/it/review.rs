//! Review pages in a real browser, and `quarry eval` and `quarry diff` on what came of them.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::browser::Browser;
use crate::pipelines::Stage;
use crate::support::{run, skipped};

const PIPELINE: &str = r#"
version: 1
name: review
sources: { docs: "in/*.vtt" }
steps:
  - id: kind
    use: classify
    labels: { status: A round of news, decision: Something settled }
  - id: tasks
    use: extract
    many: { evidence: turns, said: quote, task: string, owner: speaker? }
    instruct: List the tasks.
outputs:
  - { name: machines, path: out/review.html, review: [steps.kind, steps.tasks] }
  - { name: weak, path: out/weak.html, review: [steps.tasks], only: "doc.state != 'ok' or min_support < 0.6" }
  - { name: all, path: out/all.jsonl, fields: { doc: doc.stem, kind: steps.kind.label, tasks: steps.tasks } }
eval:
  golden: golden/*.yaml
  measure: [tasks.f1, tasks.owner_accuracy, kind.accuracy, kind.ece, citations.valid]
  gate: { tasks.f1: ">= 0.60" }
"#;

/// Two documents with a task each, a third that fails, and one that would like to be a script.
fn stage() -> Stage {
    let task = |thing: &str| {
        let said = format!("I will repair the {thing} machine on Friday.");
        json!([{ "evidence": ["T2"], "said": said, "task": format!("Repair the {thing} machine"), "owner": "Bo" }])
    };
    let script = json!([
        { "when": "/(?s)apple.*List the tasks/", "answer": [task("apple")] },
        { "when": "/(?s)berry.*List the tasks/", "answer": [task("berry")] },
        { "when": "/(?s)cherry.*List the tasks/", "error": "lost" },
        { "when": "List the tasks", "answer": [[]] },
        { "when": "A round of news", "scores": { "status": 0.9, "decision": 0.1 } },
    ]);
    let stage = Stage::new(PIPELINE, script);
    ["apple", "berry", "cherry"].iter().for_each(|thing| stage.machine(thing));
    let words = "</script><script>window.owned=1</script><!-- <img src=x onerror=\"window.owned=2\">";
    stage.write("in/nasty.vtt", format!("WEBVTT\n\n00:00:01.000 --> 00:00:04.000\n<v Eve>Hello. {words}\n"));
    fs::create_dir(stage.path("golden")).unwrap();
    stage.write("golden/apple.yaml", "kind: status\ntasks:\n  - { task: Repair the apple machine, owner: Bo }\n");
    stage.write(
        "golden/berry.yaml",
        "kind: { label: decision }\ntasks:\n  - { task: repair the berry machine, owner: Cem }\n  - { task: Dance, owner: Anna }\n",
    );
    stage
}

#[test]
fn a_page_for_all_documents_holds_what_failed_and_no_script_but_its_own() {
    let stage = stage();
    stage.run().exits(3);
    let page = stage.read("out/review.html");
    assert_eq!(page.matches("class=\"record\">").count(), 4, "{page}");
    assert!(page.contains("\"state\":\"failed\"") && page.contains("lost"));
    assert!(!page.contains("<img") && !page.contains("window.owned=1</script>"));
    assert!(page.contains("default-src 'none'"));
    // Only what failed: no task has a support to be weak.
    assert_eq!(stage.read("out/weak.html").matches("class=\"record\">").count(), 1);
    stage.run().exits(3);
    assert_eq!(stage.read("out/review.html"), page, "a second run writes the same page");
}

#[test]
fn a_review_in_the_browser_becomes_a_golden_file() {
    let stage = stage();
    stage.run().exits(3);
    let folder = tempfile::tempdir().unwrap();
    let Some(mut browser) = Browser::start(folder.path()) else {
        return skipped("the review page in a browser: there is no chromium");
    };
    let ready = "document.documentElement.dataset.ready === '4'";
    browser.open(&stage.path("out/review.html"), ready);
    let ms: u64 = browser.value("document.documentElement.dataset.ms").as_str().unwrap().parse().unwrap();
    assert!(ms < 1000, "{ms} ms");
    assert_eq!(browser.value("window.owned"), Value::Null);
    assert_eq!(browser.value("document.querySelectorAll('#list button').length"), 4);
    let current = "document.querySelector('#list [aria-current=true] .name').textContent";
    assert_eq!(browser.value(current), "apple.vtt");

    // The words that show the task are marked in their turn.
    browser.press("n");
    let marked = "document.querySelector('mark.on').textContent";
    assert_eq!(browser.value(marked), "I will repair the apple machine on Friday.");
    let value = "document.querySelector('.claim.on .value').textContent";
    assert_eq!(browser.value(value), "Repair the apple machine");

    // The task is right; its owner is another.
    browser.press("n");
    assert_eq!(browser.value(value), "Bo");
    browser.press("e");
    browser.insert("Cem <b>");
    browser.press("Enter");
    assert_eq!(browser.value(value), "Cem <b>");
    assert_eq!(browser.value("document.querySelectorAll('.claim.changed').length"), 1);

    // The next document is right as it is, and the one after it failed.
    browser.press("j");
    assert_eq!(browser.value(current), "berry.vtt");
    browser.press("a");
    browser.press("j");
    assert_eq!(browser.value(current), "cherry.vtt");
    assert!(browser.value("document.querySelector('#record .notice').textContent").as_str().unwrap().contains("lost"));
    browser.press("j");
    assert_eq!(browser.value("document.querySelector('#source').textContent.includes('window.owned=1')"), true);

    // A search narrows the list; letters in it are no commands.
    browser.press("/");
    browser.insert("berry");
    assert_eq!(browser.value("document.querySelectorAll('#list button').length"), 1);
    browser.press("Enter");
    assert_eq!(browser.value(current), "berry.vtt");

    // What was corrected is still there when the page is opened again.
    browser.reload(ready);
    assert!(browser.value("document.querySelector('#progress').textContent").as_str().unwrap().starts_with("2 of 4"));
    assert_eq!(browser.value("document.querySelectorAll('.claim.changed').length"), 1);
    browser.press("?");
    assert_eq!(browser.value("document.querySelector('#help').open"), true);
    browser.value("document.querySelector('#help').close()");

    let downloads = folder.path().join("downloads");
    browser.download_into(&downloads);
    browser.press("s");
    let saved = downloads.join("machines.golden.jsonl");
    let started = Instant::now();
    while !saved.exists() && started.elapsed() < Duration::from_secs(60) {
        sleep(Duration::from_millis(20));
    }
    let text = fs::read_to_string(&saved).unwrap();
    let lines: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert_eq!((&lines[0]["document"], &lines[0]["review"]["status"]), (&json!("in/apple.vtt"), &json!("corrected")));
    assert_eq!(lines[0]["steps"]["tasks"][0]["owner"], "Cem <b>");
    assert_eq!(
        (&lines[1]["review"]["status"], &lines[1]["steps"]["kind"]),
        (&json!("right"), &json!({ "label": "status" }))
    );

    // The file is one that `eval` reads: one owner of two is not what people say.
    let mut eval = stage.command(&["eval", "p.yaml", "--json", "--against"]);
    let report = run(eval.arg(&saved)).exits(0).json();
    assert_eq!(figure(&report, "tasks.owner_accuracy"), 0.5);
    assert_eq!((figure(&report, "tasks.f1"), figure(&report, "kind.accuracy")), (1.0, 1.0));
}

fn figure(report: &Value, name: &str) -> f64 {
    let figure = report["figures"].as_array().unwrap().iter().find(|f| f["name"] == name);
    figure.unwrap()["value"].as_f64().unwrap_or_else(|| panic!("{name}: {report}"))
}

#[test]
fn figures_are_told_and_a_gate_that_fails_ends_with_its_code() {
    let stage = stage();
    let early = run(&mut stage.command(&["eval", "p.yaml"])).exits(2);
    assert!(early.stderr.contains("nothing was run yet") && early.stderr.contains("--run"), "{early}");
    let arguments = ["eval", "p.yaml", "--run", "-m", "scripted:script.json", "--json", "--html", "eval.html"];
    let report = run(&mut stage.command(&arguments)).exits(0).json();
    // Two of three tasks, and nothing made up.
    assert!((figure(&report, "tasks.f1") - 0.8).abs() < 1e-9, "{report}");
    assert_eq!(figure(&report, "kind.accuracy"), 0.5);
    assert_eq!(figure(&report, "citations.valid"), 1.0);
    let page = stage.read("eval.html");
    assert!(page.contains("polyline") && page.contains("tasks.f1") && !page.contains("<script"), "{page}");

    let table = run(&mut stage.command(&["eval", "p.yaml"])).exits(0);
    assert!(table.stdout.contains("tasks.f1") && table.stdout.contains(">= 0.60 passes"), "{table}");

    // A document that failed has found nothing, and a document nobody ran is no pass.
    stage.write("golden/cherry.yaml", "kind: status\ntasks: [{ task: x, owner: Bo }, { task: y, owner: Bo }]\n");
    let lower = run(&mut stage.command(&["eval", "p.yaml"])).exits(7);
    assert!(lower.stdout.contains("FAILS") && lower.stdout.contains("1 of them failed"), "{lower}");
    stage.write("golden/cherry.yaml", "document: never.vtt\nkind: status\n");
    let missing = run(&mut stage.command(&["eval", "p.yaml"])).exits(7);
    assert!(missing.stdout.contains("not run: never.vtt"), "{missing}");
}

#[test]
fn a_measure_that_does_not_exist_has_a_suggestion() {
    let stage = stage();
    let wrong = PIPELINE
        .replace("kind.accuracy,", "kind.acuracy,")
        .replace("tasks.f1: \">= 0.60\"", "tasks.f: \"0.6\"")
        .replace("review: [steps.tasks]", "review: [steps.task]");
    stage.write("p.yaml", wrong);
    let told = run(&mut stage.command(&["check", "p.yaml"])).exits(2).stderr;
    assert!(told.contains("did you mean `kind.accuracy`?"), "{told}");
    assert!(told.contains("did you mean `tasks.f1`?"), "{told}");
    assert!(told.contains("there is no step `task`") || told.contains("there is no step \"task\""), "{told}");
    stage.write("p.yaml", PIPELINE.replace("out/weak.html", "out/weak.md"));
    let told = run(&mut stage.command(&["check", "p.yaml"])).exits(2).stderr;
    assert!(told.contains("does not end in .html"), "{told}");
    let explained = run(&mut stage.command(&["explain", "eval"])).exits(0).stdout;
    assert!(explained.contains("macro_f1") && explained.contains("golden"), "{explained}");
}

#[test]
fn two_runs_are_held_side_by_side() {
    let stage = stage();
    stage.run().exits(3);
    run(&mut stage.command(&["eval", "p.yaml"])).exits(0);
    run(&mut stage.command(&["diff", "out", "out", "--exit-code"])).exits(0);
    let script = stage.read("script.json").replace("Repair the berry machine", "Mend the berry machine");
    stage.write("script.json", script.replace("\"error\":\"lost\"", "\"answer\":[[]]"));
    stage.write("p.yaml", PIPELINE.replace("out/", "later/").replace("List the tasks.", "List the tasks. All."));
    stage.run().exits(0);
    let found = run(&mut stage.command(&["diff", "out", "later", "--json", "--exit-code"])).exits(7).json();
    let named = |value: &Value, key: &str| {
        value.as_array().unwrap().iter().map(|v| v[key].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(named(&found["documents"], "document"), ["in/berry.vtt", "in/cherry.vtt"], "{found}");
    assert_eq!(found["documents"][1]["state"], json!(["failed", "ok"]));
    assert!(named(&found["documents"][0]["fields"], "what").contains(&"tasks[0].task".to_owned()), "{found}");
    assert!(named(&found["runs"], "what").contains(&"steps.tasks.options.instruct".to_owned()), "{found}");
    let told = run(&mut stage.command(&["diff", "out", "later"])).exits(0).stdout;
    assert!(told.contains("failed -> ok") && told.contains("2 documents are the same, 2 changed"), "{told}");
    let nowhere = run(&mut stage.command(&["diff", "out", "in"])).exits(2);
    assert!(nowhere.stderr.contains("there is no run here"), "{nowhere}");
}
