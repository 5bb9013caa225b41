use serde_json::{Value, json};

use super::*;
use crate::inference::engine::Constraint;
use crate::steps::fakes::{self, Fake, plain};

const RULES: &str = "Payroll records are kept for seven years. The archive is in the cellar. Lunch is at noon.";

fn options(more: Value) -> Value {
    let mut options = json!({
        "question": "How long are payroll records kept?", "from": "doc.list", "cite": "spans",
        "refuse_when": { "best_score_below": 0.3, "probability_below": 0.2, "nothing_left": "refuse" },
        "own_knowledge": "forbid",
    });
    options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    options
}

fn run(fake: &Fake, more: Value, list: &[&str]) -> StepOutput {
    let step = fakes::build(&KIND, options(more)).unwrap_or_else(|f| panic!("{f:?}"));
    fakes::run_with(step.as_ref(), &json!({ "doc": { "list": list } }), &plain("x"), fake).unwrap()
}

/// Says what it is told and finds the answer likelier with passages than without.
fn saying(answer: impl Into<String>) -> Fake {
    let answer = answer.into();
    Fake::answering(move |_| answer.clone()).with_odds(|prompt, word| {
        let yes = word.trim().eq_ignore_ascii_case("yes");
        if prompt.contains("Payroll records are kept") == yes { -0.1 } else { -2.0 }
    })
}

#[test]
fn every_sentence_cites_words_that_stand_in_its_passage() {
    let fake = Fake::new(|prompt, request| {
        assert!(prompt.contains(RULES), "the passage is shown: {prompt}");
        let Constraint::JsonSchema(schema) = &request.constraint else { panic!("held to a schema") };
        let allowed = schema["items"]["properties"]["quote"]["enum"].as_array().unwrap();
        assert!(allowed.iter().all(|q| RULES.contains(q.as_str().unwrap())), "{allowed:?}");
        let answer = json!([{ "quote": allowed[0], "says": "Payroll records are kept for seven years." }]);
        Ok((answer.to_string(), FinishReason::Stop))
    })
    .with_odds(
        |prompt, word| if prompt.contains(RULES) == word.trim().eq_ignore_ascii_case("yes") { -0.1 } else { -2.0 },
    );
    let out = run(&fake, json!({}), &[RULES]);
    assert_eq!(out.value["state"], "answered");
    assert_eq!(out.value["cited"], "Payroll records are kept for seven years. [1]");
    let citation = &out.value["citations"][0];
    let (text, start, end) = (&citation["text"], &citation["start"], &citation["end"]);
    let at = start.as_u64().unwrap() as usize..end.as_u64().unwrap() as usize;
    assert_eq!(&text.as_str().unwrap()[at], citation["quote"].as_str().unwrap());
}

#[test]
fn a_sentence_that_goes_round_in_circles_is_dropped_though_all_its_words_are_there() {
    let says = format!("Payroll records are {}", "kept for seven years, ".repeat(4));
    let looping = json!([{ "quote": "Payroll records are kept for seven years.", "says": says }]).to_string();
    let out = run(&saying(looping), json!({}), &[RULES]);
    assert_eq!(out.value["state"], "abstained");
    assert!(out.notes[0].contains("dropped 1 sentences"), "{:?}", out.notes);
}

#[test]
fn a_sentence_with_a_number_or_words_of_its_own_is_dropped_and_nothing_left_is_a_refusal() {
    let nine =
        r#"[{"quote":"Payroll records are kept for seven years.","says":"Payroll records are kept for 9 years."}]"#;
    let out = run(&saying(nine), json!({}), &[RULES]);
    assert_eq!((&out.value["state"], &out.value["abstained"]), (&json!("abstained"), &json!(true)));
    assert_eq!(out.value["text"], "Not found in the documents.");
    assert!(out.notes[0].contains("dropped 1 sentences"), "{:?}", out.notes);
    let quoted = run(
        &saying(nine),
        json!({ "refuse_when": { "nothing_left": "quote", "best_score_below": 0.3, "probability_below": 0.2 } }),
        &[RULES],
    );
    assert_eq!(quoted.value["cited"], "Payroll records are kept for seven years. [1]");
    let marked = run(&saying(nine), json!({ "own_knowledge": "mark" }), &[RULES]);
    assert_eq!(marked.value["cited"], "Payroll records are kept for 9 years. [not in the documents]");
}

#[test]
fn refusal_is_decided_before_the_model_writes() {
    let never = || Fake::new(|_, _| panic!("nothing is to be written")).with_odds(|_, _| -1.0);
    let out = run(&never(), json!({}), &[]);
    assert_eq!(out.value["because"], "no passage was found");
    // The same odds with passages as without: a half.
    let out = run(
        &never(),
        json!({ "refuse_when": { "best_score_below": 0.3, "probability_below": 0.6, "nothing_left": "refuse" } }),
        &[RULES],
    );
    assert_eq!(
        (&out.value["probability"], out.value["because"].as_str().unwrap().contains("model")),
        (&json!(0.5), true)
    );
    let german = run(&never(), json!({ "question": "Wie lange werden die Unterlagen aufbewahrt?" }), &[]);
    assert_eq!(german.value["text"], "In den Dokumenten nicht gefunden.");
}

#[test]
fn without_citations_the_answer_is_free() {
    let out = run(&saying("Seven years."), json!({ "cite": "none" }), &[RULES]);
    assert_eq!((&out.value["text"], &out.value["cited"]), (&json!("Seven years."), &json!("Seven years.")));
    assert_eq!(out.value["citations"], json!([]));
}

#[test]
fn a_citation_cannot_be_words_of_no_passage() {
    let made_up = r#"[{"quote":"Records are kept for ever.","says":"Payroll records are kept for seven years."}]"#;
    let out = run(&saying(made_up), json!({}), &[RULES]);
    assert_eq!(out.value["state"], "abstained", "a quote that is not offered is none: {}", out.value);
}
