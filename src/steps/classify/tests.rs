use super::*;
use crate::steps::fakes::{self, Fake, meeting};

fn options(abstain_below: f64) -> Value {
    json!({
        "labels": { "standup": "A status round", "a-very-long-decision-label": "Something settled" },
        "abstain_below": abstain_below, "size": { "n": 120, "unit": "tokens" },
    })
}

/// Likes "standup" for its sound, and the long label where the text decides something.
fn odds(prompt: &str, label: &str) -> f32 {
    let decides = prompt.contains("We decided");
    if label.trim() == "standup" {
        -0.5
    } else if decides {
        -0.4
    } else {
        -1.5
    }
}

#[test]
fn the_text_decides_and_not_the_sound_or_length_of_a_label() {
    let document = meeting(&[("Anna", "We decided on the small one."), ("Bo", &"Good. ".repeat(40))]);
    let fake = Fake::answering(|_| String::new()).with_odds(odds);
    let out = fakes::run(&KIND, options(0.5), &document, &fake).unwrap();
    assert_eq!(out.value["label"], "a-very-long-decision-label");
    assert!(out.value["probability"].as_f64().unwrap() > 0.7);
    let coverage = out.coverage.unwrap();
    assert!(coverage.read < coverage.total, "the second turn does not fit and is said to be unread");
}

#[test]
fn a_close_call_abstains_and_says_what_it_would_have_been() {
    let document = meeting(&[("Anna", "Hello there.")]);
    let fake = Fake::answering(|_| String::new()).with_odds(odds);
    let out = fakes::run(&KIND, options(0.9), &document, &fake).unwrap();
    assert_eq!((&out.value["label"], &out.value["abstained"]), (&Value::Null, &json!(true)));
    assert!(out.notes[0].contains("standup"), "{:?}", out.notes);
}

#[test]
fn one_label_is_no_choice() {
    assert_eq!(fakes::build(&KIND, json!({ "labels": { "a": "b" } })).err().unwrap()[0].path, ["labels"]);
}

#[test]
fn with_multi_each_label_that_applies_is_given() {
    let document = meeting(&[("Anna", "The rent is late and the roof leaks.")]);
    let fake = Fake::answering(|_| String::new()).with_odds(|prompt, answer| {
        let about = |word: &str| prompt.contains("roof leaks") && prompt.contains(word);
        let yes = about("- money: ") || about("- repairs: ");
        if answer.trim().eq_ignore_ascii_case("yes") == yes { -0.1 } else { -3.0 }
    });
    let options = json!({
        "labels": { "money": "Pay", "repairs": "Mend", "food": "Eat" }, "multi": true,
        "size": { "n": 500, "unit": "tokens" },
    });
    let out = fakes::run(&KIND, options, &document, &fake).unwrap();
    assert_eq!(out.value["labels"], json!(["money", "repairs"]));
    assert_eq!(out.value["abstained"], false);
    assert!(out.value["probabilities"]["food"].as_f64().unwrap() <= 0.5);
}

#[test]
fn the_likest_examples_are_shown_and_only_with_the_text() {
    let document = meeting(&[("", "Where is my new card?")]);
    let fake = Fake::answering(|_| String::new()).with_odds(|prompt, label| {
        let shown = format!("Kind:{label}\n");
        if prompt.contains(&shown) { -0.1 } else { -1.0 }
    });
    let examples: Vec<Value> = (0..6)
        .map(|i| json!({ "text": format!("refund number {i}"), "label": "refund" }))
        .chain([json!({ "text": "my card has not come", "label": "card" })])
        .collect();
    let options = json!({
        "labels": { "refund": "Money back", "card": "A card" }, "examples": examples,
        "size": { "n": 500, "unit": "tokens" },
    });
    let out = fakes::run(&KIND, options, &document, &fake).unwrap();
    let prompts = fake.prompts.lock().unwrap();
    let (with_text, habit): (Vec<_>, Vec<_>) = prompts.iter().partition(|p| p.contains("new card"));
    assert!(with_text[0].contains("Text: my card has not come\nKind: card\n"), "{}", with_text[0]);
    assert_eq!(with_text[0].matches("Text: ").count(), SHOTS + 1);
    assert!(habit.iter().all(|p| p.matches("Text: ").count() == 1));
    assert_eq!(out.value["labels"].as_array().unwrap().len(), 1);
}

/// A model that leans to `a` and is right in the order of its scores.
fn leaning(prompt: &str, label: &str) -> f32 {
    let says_b = prompt.contains("bbb");
    match (label.trim(), says_b, prompt.contains("aaa")) {
        ("a", false, true) => -0.1,
        ("a", true, _) => -0.2,
        ("b", true, _) => -0.8,
        ("b", false, true) => -1.6,
        _ => -0.5,
    }
}

#[test]
fn calibration_is_fitted_once_to_the_labelled_file_and_sets_the_threshold() {
    let rows: String = (0..20).map(|i| if i % 2 == 0 { "x aaa,a\n" } else { "x bbb,b\n" }).collect();
    let file = format!("text,label\n{rows}");
    let options = json!({
        "labels": { "a": "First", "b": "Second" }, "size": { "n": 500, "unit": "tokens" },
        "calibrate": { "file": "golden.csv", "target": "precision 0.9" },
    });
    let step = (KIND.build)(&BuildContext {
        id: "it",
        options: &options,
        schemas: &Default::default(),
        indexes: &[],
        read_file: &|_| Ok(file.clone()),
    })
    .unwrap_or_else(|f| panic!("{f:?}"));
    let fake = Fake::answering(|_| String::new()).with_odds(leaning);
    let document = meeting(&[("", "it says bbb")]);
    let names = json!({ "doc": document.doc_value() });
    let first = fakes::run_with(step.as_ref(), &names, &document, &fake).unwrap();
    assert_eq!(first.value["label"], "b", "uncalibrated it would be a: {}", first.value);
    assert!(first.value["probability"].as_f64().unwrap() > 0.6);
    assert!(first.notes.iter().any(|n| n.contains("calibrated on 20 texts")), "{:?}", first.notes);
    let asked = fake.prompts.lock().unwrap().len();
    let second = fakes::run_with(step.as_ref(), &names, &document, &fake).unwrap();
    assert_eq!((second.value, fake.prompts.lock().unwrap().len()), (first.value, asked + 2));
}

#[test]
fn faults_of_labelled_files_name_the_row_and_the_label() {
    let options = json!({
        "labels": { "spam": "x", "ham": "y" },
        "examples": [{ "text": "t", "label": "spma" }, { "text": "t", "label": ["spam", "ham"] }],
        "calibrate": { "file": "missing.csv", "target": "recall 1" },
    });
    let faults = fakes::build(&KIND, options).err().unwrap();
    let told: Vec<String> = faults.iter().map(|f| format!("{} {}", f.path.join("."), f.message)).collect();
    assert!(told.iter().any(|t| t.starts_with("examples example 1") && t.contains("did you mean `spam`")), "{told:?}");
    assert!(told.iter().any(|t| t.contains("example 2 has 2 labels")), "{told:?}");
    assert!(told.iter().any(|t| t.starts_with("calibrate.file missing.csv: not found")), "{told:?}");
    assert!(told.iter().any(|t| t.starts_with("calibrate.target")), "{told:?}");
}

#[test]
fn a_long_text_stands_first_so_that_its_reading_is_shared_and_a_short_one_after_the_labels() {
    let begins = |words: usize| {
        let document = meeting(&[("Anna", &"We decided. ".repeat(words))]);
        let fake = Fake::answering(|_| String::new()).with_odds(odds).with_window(40_000);
        let mut options = options(0.0);
        options["size"]["n"] = json!(30_000);
        let out = fakes::run(&KIND, options, &document, &fake).unwrap();
        assert_eq!(out.value["label"], "a-very-long-decision-label");
        let prompts = fake.prompts.lock().unwrap();
        let asked = prompts.iter().find(|p| p.contains("We decided")).unwrap();
        asked.find("We decided").unwrap() < asked.find("Something settled").unwrap()
    };
    assert!(!begins(20)); // a token of the fake is a byte
    assert!(begins(400));
}
