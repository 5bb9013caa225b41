//! Where the text of a document stands in the prompts of the verbs that read one.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::StepKind;
use super::fakes::{self, Fake, meeting};

const SAID: &str = "The kiln machine stands still.";

/// Returns the prompts of a step over a meeting in which that is said.
fn prompts(kind: &'static StepKind, mut options: Value, layout: Option<&str>) -> Vec<String> {
    if let Some(layout) = layout {
        options["layout"] = layout.into();
    }
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (answers, odds) = (asked.clone(), asked.clone());
    let fake = Fake::answering(move |prompt| {
        answers.lock().unwrap().push(prompt.to_owned());
        r#"{"state": "still"}"#.into()
    });
    let fake = fake.with_odds(move |prompt, _| {
        odds.lock().unwrap().push(prompt.to_owned());
        -1.0
    });
    fakes::run(kind, options, &meeting(&[("Anna", SAID)]), &fake).unwrap();
    let asked = asked.lock().unwrap().clone();
    asked.into_iter().filter(|prompt| prompt.contains(SAID)).collect()
}

#[track_caller]
fn check(kind: &'static StepKind, options: Value, asked: &str, is_first_by_default: bool) {
    let is_first =
        |prompt: &String| prompt.find(SAID).unwrap() < prompt.find(asked).unwrap_or_else(|| panic!("{prompt}"));
    for (layout, expected) in
        [(None, is_first_by_default), (Some("text-first"), true), (Some("instruction-first"), false)]
    {
        let prompts = prompts(kind, options.clone(), layout);
        assert!(!prompts.is_empty() && prompts.iter().all(|p| is_first(p) == expected), "{layout:?}: {prompts:#?}");
    }
}

#[test]
fn the_text_stands_before_what_is_asked_of_it_or_after_it_as_layout_says() {
    let schema = json!({ "state": "string" });
    check(&super::extract::KIND, json!({ "schema": schema, "instruct": "Find the state." }), "Find the state.", true);
    check(&super::summarize::KIND, json!({ "length": { "n": 20, "unit": "words" } }), "Summarize the", true);
    // A short text stands behind the labels.
    check(&super::classify::KIND, json!({ "labels": { "a": "One", "b": "Two" } }), "These are kinds of text", false);
}

#[test]
fn the_words_of_a_prompt_say_where_the_text_stands() {
    let options = json!({ "length": { "n": 20, "unit": "words" } });
    let words = |layout| prompts(&super::summarize::KIND, options.clone(), layout).remove(0);
    assert!(words(None).contains("conversation above in"), "{}", words(None));
    assert!(words(Some("instruction-first")).contains("conversation below in"));
}
