//! What a run promises when nothing kills it.

use std::fs;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::*;
use crate::inference::engine::CancelToken;
use crate::pipeline::events::{DocumentEvent, Event, Observer};
use crate::pipeline::report::{Counts, Outcome};
use crate::steps::Coverage;

fn does(body: impl Fn(&StepContext<'_>) -> Result<StepOutput, StepError> + Send + Sync + 'static) -> Does {
    Does(Box::new(body))
}

fn gives(value: Value) -> Result<StepOutput, StepError> {
    Ok(StepOutput { value, ..StepOutput::default() })
}

fn fails(reason: Reason) -> Result<StepOutput, StepError> {
    Err(StepError { reason, detail: "because".into() })
}

#[test]
fn a_run_writes_pages_records_and_rows_in_the_order_of_the_inputs() {
    let stage = Stage::new(4);
    let report = stage.run();
    assert_eq!(states(&report), [State::Ok; 4]);
    assert_eq!(report.outcome, Outcome::Finished);
    assert!(stage.read("out/02.md").starts_with("ONE 2 TWO 2 THREE 2\n\n<!-- quarry: in/02.txt · sha256 "));
    let records: Vec<Value> = stage.read("out/all.jsonl").lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(records.len(), 4);
    assert_eq!(records[3]["text"], "ONE 3 TWO 3 THREE 3");
    assert_eq!(records[3]["state"], "ok");
    assert_eq!(records[3]["provenance"]["document"], "in/03.txt");
    assert_eq!(records[3]["provenance"]["model"]["name"], "shouter");
    let rows = stage.read("out/lines.csv");
    assert_eq!(rows.lines().next(), Some("doc,line,provenance"));
    assert!(rows.lines().nth(4).unwrap().starts_with("01,ONE 1,"), "{rows}");
    let manifest: Value = serde_json::from_str(&stage.read("out/.quarry/p/run.json")).unwrap();
    assert_eq!(manifest["counts"]["ok"], 4);
    assert_eq!(manifest["calls"]["made"], 12);
    assert!(manifest.get("documents").is_none());
    let written: Vec<_> = report.outputs.iter().map(|o| (o.path.as_str(), o.written)).collect();
    assert_eq!(written, [("out", 4), ("out/all.jsonl", 4), ("out/lines.csv", 12)]);
}

#[test]
fn a_second_run_does_nothing_and_opens_no_model() {
    let stage = Stage::new(4);
    stage.run();
    let before = stage.outputs();
    let start = Instant::now();
    let report = stage.run();
    assert!(start.elapsed() < Duration::from_secs(10));
    assert_eq!(states(&report), [State::Skipped; 4]);
    assert_eq!((report.counts.skipped, report.counts.not_reached), (4, 0));
    assert_eq!(stage.opened(), 1);
    assert_eq!(stage.outputs(), before);
    assert!(!report.is_incomplete());
}

#[test]
fn only_what_changed_is_done_again_and_every_cause_counts() {
    let mut stage = Stage::new(3);
    stage.run();
    stage.write("01.txt", "new\n");
    assert_eq!(states(&stage.run()), [State::Skipped, State::Ok, State::Skipped]);
    assert!(stage.read("out/01.md").starts_with("NEW\n"));
    fs::remove_file(stage.path("out/02.md")).unwrap();
    assert_eq!(states(&stage.run()), [State::Skipped, State::Skipped, State::Ok]);
    fs::write(stage.path("out/00.md"), "edited").unwrap();
    assert_eq!(states(&stage.run()), [State::Ok, State::Skipped, State::Skipped]);
    stage.plan.steps[0].resolved = json!({ "prompt": "other" });
    assert_eq!(states(&stage.run()), [State::Ok; 3]);
    stage.models.digest = "2";
    assert_eq!(states(&stage.run()), [State::Ok; 3]);
    stage.plan.params = json!({ "out": "out", "unused": 5 });
    stage.plan.run.in_flight = 1;
    assert_eq!(states(&stage.run()), [State::Skipped; 3]);
    assert_eq!(states(&stage.run_with(|env| env.options.force = true).unwrap()), [State::Ok; 3]);
}

#[test]
fn answers_are_kept_so_that_a_page_lost_costs_no_call() {
    let stage = Stage::new(2);
    stage.run();
    let calls = stage.calls();
    fs::remove_file(stage.path("out/00.md")).unwrap();
    let report = stage.run();
    assert_eq!(stage.calls(), calls);
    assert_eq!((report.calls.made, report.calls.from_cache), (0, 3));
    assert_eq!(report.tokens, Usage::default());
}

#[test]
fn a_table_that_was_edited_or_lost_is_built_again_from_the_journal() {
    let stage = Stage::new(3);
    stage.run();
    let before = stage.outputs();
    fs::remove_file(stage.path("out/all.jsonl")).unwrap();
    fs::write(stage.path("out/lines.csv"), "").unwrap();
    assert_eq!(states(&stage.run()), [State::Skipped; 3]);
    assert_eq!(stage.outputs(), before);
    assert_eq!(stage.opened(), 1);
}

#[test]
fn every_input_ends_in_one_state_and_the_run_goes_on() {
    let mut stage = Stage::new(6);
    stage.write("zz.txt", "x");
    fs::write(stage.path("in/zz.txt"), b"\xff\xfe").unwrap();
    let body = |cx: &StepContext<'_>| match cx.document.stem().as_str() {
        "01" => fails(Reason::SchemaNotMet),
        "02" => panic!("index out of range"),
        "03" => Ok(StepOutput { value: json!(1), partial: vec!["half".into()], ..StepOutput::default() }),
        "04" => gives(json!({ "abstained": true })),
        "05" => {
            let coverage = Coverage { unit: "turn".into(), read: 3, total: 4, unread: vec!["T4".into()] };
            Ok(StepOutput { coverage: Some(coverage), ..StepOutput::default() })
        }
        _ => gives(json!(1)),
    };
    stage.plan.steps.push(step("odd", &PLAIN, does(body)));
    let report = stage.run();
    let expected =
        [State::Ok, State::Failed, State::Failed, State::Partial, State::Abstained, State::Partial, State::Failed];
    assert_eq!(states(&report), expected);
    let counts = Counts { inputs: 7, ok: 1, partial: 2, abstained: 1, failed: 3, skipped: 0, not_reached: 0 };
    assert_eq!(report.counts, counts);
    let why: Vec<String> = report.documents.iter().filter_map(|d| d.failure.as_ref()).map(|f| f.to_string()).collect();
    assert_eq!(why[0], "step odd: schema not met: because");
    assert!(why[1].starts_with("step odd: engine failed: a bug: index out of range (at src/"), "{}", why[1]);
    assert!(why[2].starts_with("unreadable: "), "{}", why[2]);
    assert_eq!(report.documents[3].partial, ["step odd: half"]);
    assert_eq!(report.documents[5].partial, ["step odd: read 3 of 4 turns"]);
    assert!(report.is_incomplete());
    assert!(!stage.path("out/01.md").exists());
    let quarantine: Vec<Value> =
        stage.read("out/.quarry/p/quarantine.jsonl").lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(quarantine.len(), 3);
    assert_eq!(quarantine[0]["document"], "in/01.txt");
    assert_eq!((&quarantine[0]["reason"], &quarantine[0]["attempts"]), (&json!("schema-not-met"), &json!(1)));
    let states_in_records = stage.read("out/all.jsonl");
    assert_eq!(states_in_records.lines().filter(|l| l.contains("\"state\":\"partial\"")).count(), 2);
}

#[test]
fn a_lasting_failure_is_told_again_but_not_tried_again_until_its_bytes_change() {
    let mut stage = Stage::new(2);
    let body = |cx: &StepContext<'_>| match cx.document.text.contains("one 1") {
        true => fails(Reason::SchemaNotMet),
        false => gives(json!(1)),
    };
    stage.plan.steps.push(step("odd", &PLAIN, does(body)));
    stage.run();
    let report = stage.run();
    assert_eq!(states(&report), [State::Skipped, State::Failed]);
    assert!(report.documents[1].failed_before && report.is_incomplete());
    assert_eq!(stage.opened(), 1);
    let forced = stage.run_with(|env| env.options.force = true).unwrap();
    assert!(!forced.documents[1].failed_before);
    assert!(stage.read("out/.quarry/p/quarantine.jsonl").contains("\"attempts\":2"));
    stage.write("01.txt", "mended");
    assert_eq!(states(&stage.run()), [State::Skipped, State::Ok]);
    assert_eq!(stage.read("out/.quarry/p/quarantine.jsonl"), "");
}

#[test]
fn a_document_that_fails_keeps_the_row_and_the_page_of_its_last_success() {
    let mut stage = Stage::new(1);
    stage.run();
    let before = stage.outputs();
    stage.write("00.txt", "broken");
    stage.plan.steps.push(step("odd", &PLAIN, does(|_| fails(Reason::EngineFailed))));
    let report = stage.run();
    assert_eq!(states(&report), [State::Failed]);
    assert_eq!(report.documents[0].notes, ["its outputs of an earlier run are kept"]);
    assert_eq!(stage.outputs(), before);
    assert!(report.notes.iter().any(|n| n.contains("earlier pipeline")), "{:?}", report.notes);
}

#[test]
fn a_false_condition_leaves_none_and_an_allowed_error_leaves_the_document_partial() {
    let mut stage = Stage::new(1);
    stage.plan.steps.insert(0, step("off", &PLAIN, does(|_| fails(Reason::CheckFailed))));
    stage.plan.steps[0].when = Some("doc.stem == 'nobody'".into());
    stage.plan.steps.push(step("may", &PLAIN, does(|_| fails(Reason::CheckFailed))));
    stage.plan.steps[2].on_error = OnError::Skip;
    let content = OutputContent::Text("'none' if steps.off is none and steps.may is none else 'there'".into());
    stage.plan.outputs.push(output("x", "out/x-{{ doc.stem }}.txt", OutputFormat::Text, content));
    let report = stage.run();
    assert_eq!(states(&report), [State::Partial]);
    assert_eq!(report.documents[0].partial, ["step may: check failed: because"]);
    assert_eq!(stage.read("out/x-00.txt"), "none\n");
}

#[test]
fn a_model_is_opened_only_when_a_document_comes_to_a_step_that_needs_it() {
    let mut stage = Stage::new(2);
    stage.plan.steps[0].when = Some("false".into());
    stage.plan.outputs.clear();
    stage.run();
    assert_eq!(stage.opened(), 0);
    stage.plan.steps[0].when = None;
    stage.models.missing = true;
    let error = stage.run_with(|_| {}).unwrap_err();
    assert!(matches!(&error, RunError::Model(e) if e.message == "shouter.gguf is missing"), "{error}");
}

#[test]
fn too_many_failures_end_the_run_and_what_is_finished_counts() {
    let mut stage = Stage::new(20);
    stage.plan.run.in_flight = 1;
    stage.plan.run.max_failed = MaxFailed::Share(0.1);
    let body = |cx: &StepContext<'_>| {
        if cx.document.stem().as_str() < "05" { fails(Reason::SchemaNotMet) } else { gives(json!(1)) }
    };
    stage.plan.steps = vec![step("odd", &PLAIN, does(body))];
    stage.plan.outputs.clear();
    let report = stage.run();
    assert_eq!(report.outcome, Outcome::TooManyFailed { failed: 3, allowed: 2 });
    assert_eq!((report.counts.failed, report.counts.not_reached, report.counts.inputs), (3, 17, 20));
    stage.plan.run.max_failed = MaxFailed::Count(2);
    let report = stage.run();
    assert_eq!((report.outcome, report.counts.ok, report.counts.failed), (Outcome::Finished, 15, 5));
}

#[test]
fn a_step_that_stops_the_run_stops_it() {
    let mut stage = Stage::new(5);
    stage.plan.run.in_flight = 1;
    stage.plan.steps.push(step("odd", &PLAIN, does(|_| fails(Reason::CheckFailed))));
    stage.plan.steps[1].on_error = OnError::Stop;
    let report = stage.run();
    assert_eq!(report.outcome, Outcome::Stopped { document: "in/00.txt".into() });
    assert_eq!((report.counts.failed, report.counts.not_reached), (1, 4));
}

#[test]
fn a_document_over_its_time_fails_and_names_the_limit() {
    let mut stage = Stage::new(1);
    stage.models.delay = Duration::from_millis(60);
    stage.plan.run.document_timeout = Some(Duration::from_millis(100));
    stage.plan.steps[0].on_error = OnError::Skip; // what it allows does not hold for the document's own time
    let report = stage.run();
    let failure = report.documents[0].failure.as_ref().unwrap();
    assert_eq!(failure.reason, Reason::TimedOut);
    assert!(failure.detail.contains("run.timeout.document"), "{failure}");
    // Answers given before the time was over are not asked for again, so it gets through in the end.
    assert!((0..3).any(|_| states(&stage.run()) == [State::Ok]));
    stage.plan.run.document_timeout = None;
    stage.plan.run.step_timeout = Some(Duration::from_millis(1));
    stage.plan.steps[0].on_error = OnError::Quarantine;
    stage.plan.model.defaults.sampling.seed = 5;
    let report = stage.run();
    let failure = report.documents[0].failure.as_ref().unwrap();
    assert!(failure.detail.contains("run.timeout.step"), "{failure}");
}

#[test]
fn an_interrupted_run_goes_on_where_it_was() {
    let mut stage = Stage::new(8);
    stage.models.delay = Duration::from_millis(5);
    let fresh = Stage::new(8);
    fresh.run();
    struct CancelAfter(CancelToken, Mutex<usize>);
    impl Observer for CancelAfter {
        fn on(&self, event: &Event<'_>) {
            if let Event::Document { event: DocumentEvent::Finished { .. }, .. } = event {
                let mut left = self.1.lock().unwrap();
                *left = left.saturating_sub(1);
                if *left == 0 {
                    self.0.cancel();
                }
            }
        }
    }
    let cancel = CancelToken::default();
    let observer = CancelAfter(cancel.clone(), Mutex::new(3));
    let evaluator = Evaluator::default();
    let started: jiff::Zoned = "2026-01-31T10:00:00+00:00[UTC]".parse().unwrap();
    let mut env = RunEnvironment::new(&stage.models, &PlainReader, &evaluator, stage.path("cache"), started);
    (env.cancel, env.observer) = (cancel, &observer);
    let report = run(&stage.plan, &env).unwrap();
    assert_eq!(report.outcome, Outcome::Interrupted);
    assert!(report.counts.not_reached > 0 && report.counts.failed == 0, "{:?}", report.counts);
    assert_eq!(report.counts.ok, stage.read("out/all.jsonl").lines().count());
    let report = stage.run();
    assert_eq!(report.counts.ok + report.counts.skipped, 8);
    assert_eq!(stage.outputs(), fresh.outputs());
    assert!(stage.calls() <= 24 + 3, "at most the calls in flight are made twice: {}", stage.calls());
}

#[test]
fn one_run_at_a_time_and_a_dead_one_leaves_no_lock() {
    let mut stage = Stage::new(3);
    stage.models.delay = Duration::from_millis(50);
    let (stage, locked) = (&stage, AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..4).map(|_| scope.spawn(|| stage.run_with(|_| {}))).collect();
        for run in runs {
            match run.join().unwrap() {
                Ok(report) => assert_eq!(report.counts.ok, 3),
                Err(RunError::Locked(folder)) => {
                    assert!(folder.starts_with(stage.path("out")));
                    locked.fetch_add(1, Ordering::Relaxed);
                }
                Err(other) => panic!("{other}"),
            }
        }
    });
    assert_eq!(locked.load(Ordering::Relaxed), 3);
    assert_eq!(stage.run().counts.skipped, 3);
}

#[test]
fn twins_get_a_page_each_and_keep_it() {
    let stage = Stage::new(0);
    for name in ["a/x.txt", "b/X.txt", "c/x.txt"] {
        stage.write(name, name);
    }
    stage.run();
    assert!(stage.read("out/x.md").starts_with("A/X.TXT"));
    assert!(stage.read("out/X-2.md").starts_with("B/X.TXT"));
    assert!(stage.read("out/x-3.md").starts_with("C/X.TXT"));
    stage.write("a/w/x.txt", "newcomer");
    stage.write("c/x.txt", "changed");
    stage.run();
    assert!(stage.read("out/x-3.md").starts_with("CHANGED"));
    assert!(stage.read("out/x-4.md").starts_with("NEWCOMER"));
    fs::remove_file(stage.path("in/b/X.txt")).unwrap();
    let report = stage.run();
    assert!(stage.path("out/X-2.md").exists());
    assert!(report.notes.iter().any(|n| n.contains("gone") && n.contains("in/b/X.txt")), "{:?}", report.notes);
}

#[test]
fn hostile_names_stay_inside_the_folder() {
    let mut stage = Stage::new(0);
    for (n, title) in ["../../x", "/etc/passwd", "a/../../b", "CON", ".", "", "-rf", "e\u{301}", "é"].iter().enumerate()
    {
        stage.write(&format!("{n}.txt"), title);
    }
    stage.plan.outputs.truncate(1);
    stage.plan.outputs[0].path = "out/{{ doc.text }}/{{ doc.text }}.md".into();
    let report = stage.run();
    assert_eq!(states(&report), [State::Ok; 9]);
    assert_eq!(stage.outputs().len(), 9);
    let above: Vec<_> = fs::read_dir(&stage.plan.folder).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(above.len(), 3, "in, out and cache: {above:?}");
}

#[test]
fn limits_and_choices_leave_the_others_alone() {
    let stage = Stage::new(5);
    let report = stage.run_with(|env| env.options.limit = Some(2)).unwrap();
    assert_eq!(states(&report), [State::Ok; 2]);
    assert!(report.notes.iter().any(|n| n == "2 of 5 documents chosen"), "{:?}", report.notes);
    let report = stage.run_with(|env| env.options.only = vec!["04.*".into(), "in/00.txt".into()]).unwrap();
    assert_eq!(states(&report), [State::Skipped, State::Ok]);
    assert_eq!(stage.read("out/all.jsonl").lines().count(), 3);
    let error = stage.run_with(|env| env.options.only = vec!["nothing".into()]).unwrap_err();
    assert_eq!(error.to_string(), "--only nothing: matches none of the 5 documents");
}

#[test]
fn bytes_in_flight_threads_and_order_of_finishing_do_not_show() {
    let mut outputs = Vec::new();
    for jobs in [1, 2, 8] {
        let mut stage = Stage::new(12);
        stage.models.delay = Duration::from_millis(jobs as u64 % 3);
        stage.run_with(|env| env.options.jobs = Some(jobs)).unwrap();
        outputs.push(stage.outputs());
    }
    assert!(outputs.windows(2).all(|pair| pair[0] == pair[1]));
}

#[cfg(unix)]
#[test]
fn outputs_that_cannot_be_written_are_known_before_any_model() {
    let stage = Stage::new(1);
    fs::write(stage.path("out"), "a file").unwrap();
    assert!(matches!(stage.run_with(|_| {}), Err(RunError::NotWritable { .. })));
    fs::remove_file(stage.path("out")).unwrap();
    fs::create_dir(stage.path("out")).unwrap();
    fs::write(stage.path("precious"), "x").unwrap();
    std::os::unix::fs::symlink(stage.path("precious"), stage.path("out/all.jsonl")).unwrap();
    let error = stage.run_with(|_| {}).unwrap_err();
    assert!(error.to_string().contains("link"), "{error}");
    assert_eq!((stage.read("precious").as_str(), stage.opened()), ("x", 0));
}

#[test]
fn inputs_that_vanish_or_change_are_told_with_the_bytes_used() {
    struct Meddler;
    impl DocumentReader for Meddler {
        fn read(&self, path: &Path, options: &Value) -> Result<Document, StepError> {
            if path.ends_with("00.txt") {
                fs::remove_file(path).unwrap();
            } else if path.ends_with("01.txt") {
                fs::write(path, "meddled").unwrap();
            }
            PlainReader.read(path, options)
        }
    }
    let stage = Stage::new(2);
    let report = stage.run_with(|env| env.reader = &Meddler).unwrap();
    assert_eq!(report.documents[0].failure.as_ref().map(|f| f.reason), Some(Reason::Missing));
    assert!(report.documents[1].notes[0].contains("changed"), "{:?}", report.documents[1].notes);
    let sha: String = Sha256::digest(b"meddled").iter().map(|b| format!("{b:02x}")).collect();
    assert!(stage.read("out/all.jsonl").contains(&sha));
    assert_eq!(states(&stage.run()), [State::Skipped]);
}

#[test]
fn a_text_of_a_document_is_never_a_template() {
    let stage = Stage::new(0);
    stage.write("a.txt", "{{ 7*7 }}");
    stage.run();
    assert!(stage.read("out/a.md").starts_with("{{ 7*7 }}"));
}

#[test]
fn a_table_named_by_the_date_holds_what_was_done_that_day() {
    let mut stage = Stage::new(2);
    stage.plan.outputs.truncate(2);
    stage.plan.outputs[1].path = "out/rows-{{ run.date }}.jsonl".into();
    stage.run();
    stage.write("99.txt", "tomorrow");
    let tomorrow = |env: &mut RunEnvironment<'_>| env.started = "2026-02-01T10:00:00+00:00[UTC]".parse().unwrap();
    assert_eq!(states(&stage.run_with(tomorrow).unwrap()), [State::Skipped, State::Skipped, State::Ok]);
    assert_eq!(stage.read("out/rows-2026-01-31.jsonl").lines().count(), 2);
    assert_eq!(stage.read("out/rows-2026-02-01.jsonl").lines().count(), 1);
}

#[test]
fn a_lost_journal_costs_the_work_but_not_the_records() {
    let stage = Stage::new(3);
    stage.run();
    let before = stage.outputs();
    fs::remove_file(stage.path("in/02.txt")).unwrap();
    fs::remove_file(stage.path("out/.quarry/p/journal.jsonl")).unwrap();
    assert_eq!(states(&stage.run()), [State::Ok, State::Ok]);
    assert_eq!(stage.outputs(), before);
}
