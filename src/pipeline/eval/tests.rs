//! Figures of whole evaluations, held against those of other scorers.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::golden::Golden;
use super::measures::{Gate, parse};
use super::report::EvalReport;
use super::{EvalPlan, Found, score};

const STEPS: &[(&str, &str)] = &[
    ("kind", "classify"),
    ("actions", "extract"),
    ("invoice", "extract"),
    ("summary", "summarize"),
    ("reply", "answer"),
    ("found", "retrieve"),
];

fn evaluate(measures: &[&str], documents: &[(&str, Value, Value)]) -> EvalReport {
    let steps: Vec<(String, &'static str)> = STEPS.iter().map(|(id, verb)| (id.to_string(), *verb)).collect();
    let plan =
        EvalPlan { measures: measures.iter().map(|m| parse(m, &steps).unwrap()).collect(), ..EvalPlan::default() };
    run(&plan, documents).unwrap()
}

fn run(plan: &EvalPlan, documents: &[(&str, Value, Value)]) -> Result<EvalReport, String> {
    let verbs: BTreeMap<String, &'static str> = STEPS.iter().map(|(id, verb)| (id.to_string(), *verb)).collect();
    let map = |value: &Value| value.as_object().cloned().unwrap_or_default();
    let golden: Vec<Golden> = documents
        .iter()
        .map(|(name, wanted, _)| Golden {
            document: name.to_string(),
            from: format!("g:{name}"),
            steps: map(wanted).into_iter().collect(),
        })
        .collect();
    let found: Vec<Found> = documents
        .iter()
        .filter(|(_, _, got)| !got.is_null())
        .map(|(name, _, got)| Found {
            document: format!("in/{name}.txt"),
            state: if got == "failed" { "failed".into() } else { "ok".into() },
            steps: map(got),
            source: None,
        })
        .collect();
    score(plan, &verbs, &golden, &found)
}

#[track_caller]
fn near(report: &EvalReport, name: &str, expected: f64) {
    let figure = report.figures.iter().find(|f| f.name == name).unwrap();
    let value = figure.value.unwrap_or_else(|| panic!("{name} has no value"));
    assert!((value - expected).abs() < 1e-4, "{name}: {value}, not {expected}");
}

fn kind(wanted: &str, probabilities: Value, abstained: bool) -> (Value, Value) {
    let best = probabilities
        .as_object()
        .unwrap()
        .iter()
        .max_by(|a, b| a.1.as_f64().unwrap().total_cmp(&b.1.as_f64().unwrap()));
    let (label, p) = best.unwrap();
    let label = if abstained { Value::Null } else { json!(label) };
    let got =
        json!({ "kind": { "label": label, "probability": p, "probabilities": probabilities, "abstained": abstained } });
    (json!({ "kind": { "label": wanted } }), got)
}

/// accuracy_score and f1_score(average="macro") of scikit-learn 1.9.1 on
/// y = [a, a, b, b, c], ŷ = [a, b, b, b, a]: 0.6 and (0.5 + 0.8 + 0) / 3.
#[test]
fn labels_score_as_scikit_learn_has_it() {
    let all = [
        kind("a", json!({ "a": 0.9, "b": 0.1 }), false),
        kind("a", json!({ "a": 0.4, "b": 0.6 }), false),
        kind("B", json!({ "a": 0.2, "b": 0.8 }), false),
        kind("b", json!({ "a": 0.3, "b": 0.7 }), false),
        kind("c", json!({ "a": 0.55, "b": 0.45 }), false),
    ];
    let names = ["1", "2", "3", "4", "5"];
    let documents: Vec<(&str, Value, Value)> =
        names.iter().zip(&all).map(|(n, (w, g))| (*n, w.clone(), g.clone())).collect();
    let measures = ["kind.accuracy", "kind.macro_f1", "kind.ece", "kind.aurc", "kind.accuracy@60", "kind.abstained"];
    let report = evaluate(&measures, &documents);
    near(&report, "kind.accuracy", 0.6);
    near(&report, "kind.macro_f1", (0.5 + 0.8) / 3.0);
    // Right: .9 .8 .7; wrong: .6 .55. Each in a bin of its own but .55 and .6, which share (8/15, 9/15].
    near(&report, "kind.ece", (0.1 + 0.2 + 0.3 + 0.6 + 0.55) / 5.0);
    near(&report, "kind.aurc", (0.25 + 0.4) / 5.0);
    near(&report, "kind.accuracy@60", 1.0);
    near(&report, "kind.abstained", 0.0);
    let curve = &report.curves[0];
    assert_eq!((curve.step.as_str(), curve.num, curve.risks.len()), ("kind", 5, 5));
    let (low, high) = report.figures[0].interval.unwrap();
    assert!(low < 0.6 && high > 0.6, "{low} {high}");
}

#[test]
fn abstaining_is_no_answer_and_is_still_calibrated() {
    let (wanted, got) = kind("a", json!({ "a": 0.6, "b": 0.4 }), true);
    let report = evaluate(
        &["kind.accuracy", "kind.precision", "kind.recall", "kind.accuracy@100", "kind.abstained"],
        &[("1", wanted, got)],
    );
    near(&report, "kind.accuracy", 0.0);
    near(&report, "kind.recall", 0.0);
    near(&report, "kind.accuracy@100", 1.0);
    near(&report, "kind.abstained", 1.0);
    assert_eq!(report.figures[1].value, None, "nothing was said, so that none of it is right or wrong");
}

#[test]
fn items_are_matched_and_a_document_that_failed_counts_as_missed() {
    let task = |task: &str, owner: &str| json!({ "task": task, "owner": owner });
    let documents = [
        (
            "a",
            json!({ "actions": [task("repair the kiln", "Bo"), task("buy flour", "Anna")] }),
            json!({ "actions": [task("buy the flour", "Anna"), task("Repair the kiln.", "Cem"), task("dance", "Bo")] }),
        ),
        ("b", json!({ "actions": [task("call the bank", "Bo")] }), json!("failed")),
    ];
    let measures = [
        "actions.f1",
        "actions.precision",
        "actions.recall",
        "actions.owner_accuracy",
        "actions.owner_f1",
        "actions.exact",
    ];
    let report = evaluate(&measures, &documents);
    near(&report, "actions.precision", 2.0 / 3.0);
    near(&report, "actions.recall", 2.0 / 3.0);
    near(&report, "actions.f1", 2.0 / 3.0);
    near(&report, "actions.owner_accuracy", 0.5);
    // Right: Anna. Made up: Cem, and Bo of the dance. Missed: Bo, and Bo of the bank.
    near(&report, "actions.owner_f1", 2.0 / (2.0 + 2.0 + 2.0));
    near(&report, "actions.exact", 0.0);
    assert_eq!(report.failed, ["in/b.txt"]);
}

#[test]
fn fields_of_one_record_are_counted_with_what_is_not_stated() {
    let documents = [(
        "a",
        json!({ "invoice": { "total": 120.5, "due": "2026-02-16", "tax": null, "vendor": "Kiln Works" } }),
        json!({ "invoice": { "total": "120,50 EUR", "due": "17 Feb 2026", "tax": 20, "vendor": null,
            "evidence": { "total": { "quote": "120,50", "support": 0.9 }, "due": { "quote": "17 Feb", "support": 0.8 } } } }),
    )];
    let report = evaluate(
        &["invoice.f1", "invoice.precision", "invoice.recall", "invoice.total_accuracy", "invoice.accuracy@50"],
        &documents,
    );
    near(&report, "invoice.precision", 1.0 / 3.0);
    near(&report, "invoice.recall", 1.0 / 3.0);
    near(&report, "invoice.total_accuracy", 1.0);
    near(&report, "invoice.accuracy@50", 1.0);
}

#[test]
fn answers_refusals_and_hits_have_measures_of_their_own() {
    let hit = |file: &str| json!({ "file": file });
    let reply = |text: &str, refused: bool, p: f64| {
        json!({ "reply": { "text": text, "abstained": refused, "probability": p, "sentences": [{ "supported": true }] },
        "found": { "hits": [hit("a.md"), hit("a.md"), hit("docs/b.md"), hit("c.md")] } })
    };
    let documents = [
        (
            "1",
            json!({ "reply": { "answer": ["Ten years", "10 years"], "facts": ["ten", "years", "eleven"] }, "found": { "source": "b.md" } }),
            reply("Ten years.", false, 0.9),
        ),
        (
            "2",
            json!({ "reply": { "unanswerable": true }, "found": { "source": ["c.md", "d.md"] } }),
            reply("x", false, 0.6),
        ),
        ("3", json!({ "reply": { "unanswerable": true } }), reply("No.", true, 0.1)),
        ("4", json!({ "reply": { "answer": "Six" } }), reply("No.", true, 0.1)),
    ];
    let measures = [
        "reply.refusal_f1",
        "reply.refusal_precision",
        "reply.exact_match",
        "reply.token_f1",
        "reply.facts",
        "reply.supported",
        "found.recall@2",
        "found.recall@4",
        "found.mrr",
        "reply.ece",
    ];
    let report = evaluate(&measures, &documents);
    near(&report, "reply.refusal_f1", 0.5);
    near(&report, "reply.refusal_precision", 0.5);
    near(&report, "reply.exact_match", 0.5);
    near(&report, "reply.token_f1", 0.5);
    near(&report, "reply.facts", 2.0 / 3.0);
    near(&report, "reply.supported", 1.0);
    near(&report, "found.recall@2", 0.0);
    near(&report, "found.recall@4", 0.75);
    near(&report, "found.mrr", (0.5 + 1.0 / 3.0) / 2.0);
    near(&report, "reply.ece", (0.1 + 0.6 + 2.0 * 0.4) / 4.0);
}

#[test]
fn summaries_are_held_against_text_and_turns() {
    let got = json!({ "summary": { "text": "Bo repairs the kiln. Anna waits.", "coverage": 0.5,
        "sentences": [{ "text": "Bo repairs the kiln.", "turns": ["T2", "T3"] }] } });
    let wanted = json!({ "summary": { "text": "Bo repairs the kilns. Anna waits.", "turns": ["T2", 4] } });
    let measures = [
        "summary.rouge1",
        "summary.rouge2",
        "summary.rougeLsum",
        "summary.coverage",
        "summary.turns_precision",
        "summary.turns_recall",
    ];
    let report = evaluate(&measures, &[("a", wanted, got)]);
    for name in ["summary.rouge1", "summary.rouge2", "summary.rougeLsum"] {
        near(&report, name, 1.0);
    }
    for name in ["summary.coverage", "summary.turns_precision", "summary.turns_recall"] {
        near(&report, name, 0.5);
    }
}

#[test]
fn a_golden_document_that_was_not_run_is_named_and_no_gate_passes() {
    let (wanted, got) = kind("a", json!({ "a": 0.9, "b": 0.1 }), false);
    let steps: Vec<(String, &'static str)> = STEPS.iter().map(|(id, verb)| (id.to_string(), *verb)).collect();
    let plan = EvalPlan {
        measures: vec![parse("kind.accuracy", &steps).unwrap()],
        gates: vec![Gate::parse("kind.accuracy", ">= 0.9").unwrap()],
        ..EvalPlan::default()
    };
    let whole = run(&plan, &[("1", wanted.clone(), got.clone())]).unwrap();
    assert!(whole.passes());
    let part = run(&plan, &[("1", wanted.clone(), got.clone()), ("2", wanted.clone(), Value::Null)]).unwrap();
    assert_eq!((part.not_run.len(), part.documents, part.passes()), (1, 1, false));
    let twice = run(&plan, &[("1", wanted.clone(), got.clone()), ("1", wanted, got)]);
    assert!(twice.unwrap_err().contains("may be"), "two documents of one name");
}

/// A file of lines `{wanted, found, rouge1, rouge2, rougeLsum}` as `rouge_score` has them:
/// precision, recall and F1 are equal to the last digits. Lines `{word, stem}` are of NLTK.
#[test]
fn rouge_is_that_of_rouge_score_on_data() {
    use super::rouge::{Score, rouge_lsum, rouge_n};
    let Ok(path) = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/target/rouge-pairs.path")) else {
        return crate::testing::skipped("ROUGE on data: target/rouge-pairs.path names no file");
    };
    let text = std::fs::read_to_string(path.trim()).unwrap();
    let mut counts = [0, 0];
    for line in text.lines() {
        let value: Value = serde_json::from_str(line).unwrap();
        if let Some(word) = value["word"].as_str() {
            assert_eq!(super::porter::stem(word), value["stem"], "{word}");
            counts[1] += 1;
            continue;
        }
        let (wanted, found) = (value["wanted"].as_str().unwrap(), value["found"].as_str().unwrap());
        let near = |name: &str, score: Score| {
            for (i, got) in [score.precision, score.recall, score.f1].into_iter().enumerate() {
                let expected = value[name][i].as_f64().unwrap();
                assert!((got - expected).abs() < 1e-9, "{name}: {got} {expected}: {wanted}");
            }
        };
        near("rouge1", rouge_n(1, wanted, found));
        near("rouge2", rouge_n(2, wanted, found));
        near("rougeLsum", rouge_lsum(wanted, found));
        counts[0] += 1;
    }
    assert!(counts[0] > 0, "{counts:?}");
}
