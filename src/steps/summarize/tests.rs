//! Every strategy and what goes wrong with it, with a model that is a function of its prompt.

use super::*;
use crate::inference::engine::{FinishReason, GenerateError};
use crate::steps::fakes::{self, Fake, meeting};

fn options(more: Value) -> Value {
    let mut options = json!({ "strategy": "auto", "length": { "n": 60, "unit": "words" }, "cite": "turns", "language": "auto", "about": false });
    options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    options
}

/// Sixty turns on twenty things, so that each part is about something.
fn long() -> crate::corpus::document::Document {
    let things = ["printer", "van", "depot", "label", "cake", "banner", "hotfix", "queue", "replica", "pharmacy"];
    let turns: Vec<(String, String)> = (0..60)
        .map(|i| (["Anna", "Bo"][i % 2].to_string(), format!("The {} needs repair number {i} soon.", things[i / 6])))
        .collect();
    meeting(&turns.iter().map(|(s, t)| (s.as_str(), t.as_str())).collect::<Vec<_>>())
}

/// Repeats the first line it was shown in the third person.
fn honest(prompt: &str) -> String {
    let line = prompt.split("---\n").nth(1).unwrap_or_default().lines().next().unwrap_or_default();
    let line = line.split_once("] ").map_or(line, |(_, rest)| rest);
    let (speaker, words) = line.split_once(": ").unwrap_or(("Someone", line));
    format!("{speaker} said that {}", words.to_lowercase())
}

#[test]
fn every_turn_is_read_and_every_sentence_cites_turns_that_exist() {
    let document = long();
    let fake = Fake::answering(honest);
    let out = fakes::run(&KIND, options(json!({ "size": { "n": 300, "unit": "tokens" } })), &document, &fake).unwrap();
    assert_eq!(out.value["coverage"], 1.0);
    assert_eq!(out.value["turns_read"], 60);
    assert!(out.value["parts"].as_u64().unwrap() > 5);
    let shown = fake.prompts.lock().unwrap().join("\n");
    for turn in &document.turns {
        assert!(shown.contains(document.turn_text(turn)), "{} was not shown", turn.id);
    }
    let sentences = out.value["sentences"].as_array().unwrap();
    assert!(!sentences.is_empty());
    for sentence in sentences {
        assert!(!sentence["turns"].as_array().unwrap().is_empty(), "{sentence}");
    }
    assert!(out.value["text"].as_str().unwrap().split_whitespace().count() <= 60);
    assert!(out.value["cited"].as_str().unwrap().contains("[T"));
    assert_eq!(out.partial, Vec::<String>::new());
}

#[test]
fn what_a_model_makes_up_is_not_written() {
    let fake = Fake::answering(|_| "Here is a summary. Kenneth Freelance took out a loan of 5000 dollars.".into());
    let out = fakes::run(&KIND, options(json!({})), &long(), &fake).unwrap();
    let text = out.value["text"].as_str().unwrap();
    assert!(!text.contains("Kenneth") && !text.contains("summary"), "{text}");
    assert!(text.contains("repair"), "nothing was quoted instead: {text}");
    assert!(out.notes.iter().any(|n| n.contains("quoted")), "{:?}", out.notes);
}

#[test]
fn a_summary_that_is_empty_says_so_and_why() {
    let fake = Fake::answering(|_| "the kiln that stands still.".into());
    let document = fakes::plain("The kiln stands still. Please send somebody by tomorrow.");
    let out = fakes::run(&KIND, options(json!({})), &document, &fake).unwrap();
    assert_eq!(out.value["text"], "");
    assert!(out.partial.iter().any(|why| why.contains("the summary is empty")), "{:?}", out.partial);
    assert!(out.notes.iter().any(|note| note.contains("saying too little")), "{:?}", out.notes);
}

#[test]
fn a_failed_part_leaves_the_document_partial_with_its_turns_named() {
    let fake = Fake::new(|prompt, _| {
        if prompt.contains("number 31 soon") {
            return Err(GenerateError::Engine("out of blocks".into()));
        }
        Ok((honest(prompt), FinishReason::Stop))
    });
    let out = fakes::run(&KIND, options(json!({ "size": { "n": 300, "unit": "tokens" } })), &long(), &fake).unwrap();
    assert!(out.value["coverage"].as_f64().unwrap() < 1.0);
    assert!(out.partial[0].contains("T32") && out.partial[0].contains("out of blocks"), "{:?}", out.partial);
    assert!(out.coverage.unwrap().unread.contains(&"T32".to_string()));
}

#[test]
fn when_no_part_can_be_read_the_step_fails_with_the_reason() {
    let fake = Fake::new(|_, _| Err(GenerateError::Engine("out of blocks".into())));
    let error = fakes::run(&KIND, options(json!({})), &long(), &fake).unwrap_err();
    assert_eq!(error.reason, Reason::EngineFailed);
    let fake = Fake::answering(honest);
    let nothing = fakes::run(&KIND, options(json!({})), &meeting(&[("A", " ")]), &fake).unwrap_err();
    assert_eq!(nothing.reason, Reason::NoTextFound);
}

#[test]
fn stuff_refuses_what_does_not_fit_instead_of_cutting_it() {
    let fake = Fake::answering(honest).with_window(2600);
    let error = fakes::run(&KIND, options(json!({ "strategy": "stuff" })), &long(), &fake).unwrap_err();
    assert_eq!(error.reason, Reason::OverTheWindow);
    assert!(error.detail.contains("notes"), "{error}");
}

#[test]
fn map_reduce_ends_however_the_model_behaves() {
    let fake = Fake::answering(honest);
    let more = json!({ "strategy": "map-reduce", "size": { "n": 300, "unit": "tokens" }, "length": { "n": 20, "unit": "words" } });
    let out = fakes::run(&KIND, options(more), &long(), &fake).unwrap();
    assert!(out.value["text"].as_str().unwrap().split_whitespace().count() <= 20);
}

fn run(more: Value, fake: &Fake) -> Result<StepOutput, StepError> {
    fakes::run(&KIND, options(more), &long(), fake)
}

fn small(strategy: &str, words: usize) -> Value {
    json!({
        "strategy": strategy, "size": { "n": 300, "unit": "tokens" }, "length": { "n": words, "unit": "words" },
    })
}

fn text(out: &StepOutput) -> &str {
    out.value["text"].as_str().unwrap()
}

#[test]
fn every_strategy_reads_all_turns_cites_what_exists_and_keeps_to_the_length() {
    for strategy in ["notes", "map-reduce", "refine", "tree", "auto"] {
        let fake = Fake::answering(honest);
        let out = run(small(strategy, 40), &fake).unwrap();
        assert_eq!((&out.value["coverage"], &out.value["turns_read"]), (&json!(1.0), &json!(60)), "{strategy}");
        let shown = fake.prompts.lock().unwrap().join("\n");
        assert!((1..=60).all(|n| shown.contains(&format!("[T{n}] "))), "{strategy}");
        assert!(!text(&out).is_empty() && text(&out).split_whitespace().count() <= 40, "{strategy}: {}", text(&out));
        for sentence in out.value["sentences"].as_array().unwrap() {
            let turns = sentence["turns"].as_array().unwrap();
            let exists = |id: &Value| id.as_str().unwrap()[1..].parse::<usize>().is_ok_and(|n| (1..=60).contains(&n));
            assert!(!turns.is_empty() && turns.iter().all(exists), "{strategy}: {sentence}");
        }
        assert_eq!(out.partial, Vec::<String>::new(), "{strategy}");
    }
}

#[test]
fn with_every_strategy_a_failed_part_names_its_turns_and_the_others_stand() {
    for strategy in ["notes", "map-reduce", "refine", "tree"] {
        let fake = Fake::new(|prompt, _| {
            if prompt.contains("number 31 soon") {
                return Err(GenerateError::Engine("out of blocks".into()));
            }
            Ok((honest(prompt), FinishReason::Stop))
        });
        let out = run(small(strategy, 40), &fake).unwrap();
        assert!(out.value["coverage"].as_f64().unwrap() < 1.0, "{strategy}");
        assert!(out.partial[0].contains("T32") && out.partial[0].contains("out of blocks"), "{:?}", out.partial);
        assert!(out.coverage.as_ref().unwrap().unread.contains(&"T32".to_string()));
        assert!(!text(&out).is_empty() && !text(&out).contains("31"), "{strategy}: {}", text(&out));
    }
}

#[test]
fn with_every_strategy_what_is_made_up_is_replaced_by_what_was_said() {
    for strategy in ["notes", "map-reduce", "refine", "tree"] {
        let fake = Fake::answering(|_| "Kenneth Freelance took out a loan of 5000 dollars.".into());
        let out = run(small(strategy, 60), &fake).unwrap();
        assert!(!text(&out).contains("Kenneth") && text(&out).contains("repair"), "{strategy}: {}", text(&out));
        assert_eq!(out.value["written"], "notes", "{strategy}");
        assert!(out.value["quoted"].as_u64().unwrap() > 0, "{strategy}");
    }
}

#[test]
fn where_no_part_can_be_read_every_strategy_fails_with_the_reason() {
    for strategy in ["notes", "refine", "tree"] {
        let fake = Fake::new(|_, _| Err(GenerateError::Engine("out of blocks".into())));
        assert_eq!(run(small(strategy, 40), &fake).unwrap_err().reason, Reason::EngineFailed, "{strategy}");
    }
}

#[test]
fn a_length_in_sentences_is_kept_and_what_is_left_out_is_said() {
    let more = json!({ "length": { "n": 2, "unit": "sentences" }, "size": { "n": 300, "unit": "tokens" } });
    let out = run(more, &Fake::answering(honest)).unwrap();
    assert!(out.value["sentences"].as_array().unwrap().len() <= 2, "{}", out.value["sentences"]);
    assert!(out.notes.iter().any(|n| n.contains("to be no longer than 2 sentences")), "{:?}", out.notes);
}

#[test]
fn one_sentence_longer_than_the_length_is_kept_whole_and_said() {
    let out = run(small("notes", 3), &Fake::answering(honest)).unwrap();
    assert_eq!(out.value["sentences"].as_array().unwrap().len(), 1);
    assert!(out.notes.iter().any(|n| n.contains("more than 3 words")), "{:?}", out.notes);
}

#[test]
fn a_query_brings_what_was_said_about_it() {
    let fake = Fake::answering(|_| "Kenneth Freelance took out a loan.".into());
    let mut more = small("notes", 30);
    more["query"] = json!("What about the banner?");
    let out = run(more, &fake).unwrap();
    assert!(text(&out).contains("banner") && !text(&out).contains("printer"), "{}", text(&out));
    assert_eq!(out.value["coverage"], 1.0);
    assert!(fake.prompts.lock().unwrap().iter().all(|p| p.contains("It is to answer this: What about the banner?")));
    let mut nothing = small("notes", 30);
    nothing["query"] = json!("What about the unicorns?");
    let out = run(nothing, &fake).unwrap();
    assert!(out.notes.iter().any(|n| n.contains("no turn shares a word")), "{:?}", out.notes);
}

#[test]
fn a_focus_leads_to_the_turns_it_is_about() {
    let mut more = small("notes", 24);
    more["focus"] = json!("The pharmacy and the replica.");
    let out = run(more, &Fake::answering(honest)).unwrap();
    assert!(text(&out).contains("pharmacy") || text(&out).contains("replica"), "{}", text(&out));
}

#[test]
fn in_another_language_names_and_numbers_are_held_and_it_is_said() {
    let fake = Fake::answering(|prompt| {
        let made_up = prompt.contains("number 31 soon");
        if made_up { "Karl kam mit 99 Leuten.".into() } else { "Anna sprach über die Sache 12.".into() }
    });
    let mut document = long();
    document.meta.insert("language".into(), "en".into());
    let mut more = small("notes", 60);
    more["language"] = json!("de");
    let out = fakes::run(&KIND, options(more), &document, &fake).unwrap();
    assert!(text(&out).contains("Anna sprach über die Sache 12.") && !text(&out).contains("99"), "{}", text(&out));
    assert!(out.notes.iter().any(|n| n.contains("another language")), "{:?}", out.notes);
    assert!(fake.prompts.lock().unwrap()[0].contains("Write in German."));
}

#[test]
fn what_was_talked_about_when_covers_all_turns() {
    let out = run(small("notes", 40), &Fake::answering(honest)).unwrap();
    let sections = out.value["sections"].as_array().unwrap();
    let turns: u64 = sections.iter().map(|s| s["num_turns"].as_u64().unwrap()).sum();
    assert!(turns == 60 && sections.len() > 1, "{sections:?}");
    assert_eq!((&sections[0]["turns"][0], &sections[0]["at"]), (&json!("T1"), &json!("0:00:00")));
}

#[test]
fn steps_over_one_document_are_shown_it_in_the_same_words() {
    let document = long();
    let shown = |options: Value, kind: &StepKind| {
        let fake = Fake::answering(|_| "[]".into());
        fakes::run(kind, options, &document, &fake).unwrap();
        let prompts = fake.prompts.lock().unwrap().clone();
        prompts.into_iter().map(|p| p.split("\n\n").next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let size = json!({ "n": 900, "unit": "tokens" });
    let summary = shown(options(json!({ "size": size })), &KIND);
    let many = json!({ "many": { "thing": "string" }, "long": { "split": { "size": size, "overlap": { "n": 2, "unit": "turns" } } } });
    let items = shown(many, &crate::steps::extract::KIND);
    let parts = items.len();
    assert!(parts > 2 && summary[..parts] == items[..], "each part is one prefix for both steps");
}
