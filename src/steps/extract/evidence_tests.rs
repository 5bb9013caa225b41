//! Evidence per field, through the scripted model: it takes no answer that the grammar would not let a model write.

use serde_json::{Value, json};

use super::*;
use crate::corpus::document::Document;
use crate::inference::engine::{CancelToken, Generator, Scripted};
use crate::steps::GenerationDefaults;
use crate::steps::fakes::{self, meeting, plain};

fn run(options: Value, document: &Document, script: Value) -> Result<StepOutput, StepError> {
    let mut whole = json!({
        "long": { "split": { "by": "turns" }, "merge": {} }, "ground": { "at_least": 0.5, "otherwise": "quote" },
        "evidence": "per-field",
    });
    whole.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    let step = fakes::build(&KIND, whole).unwrap_or_else(|f| panic!("{f:?}"));
    let model = Scripted::from_value(script).unwrap();
    step.run(&StepContext {
        document,
        names: &json!({ "doc": document.doc_value() }),
        generator: Some(&model as &dyn Generator),
        defaults: &GenerationDefaults::default(),
        cancel: &CancelToken::default(),
        progress: &|_, _| {},
        library: None,
    })
}

fn invoice() -> Document {
    let mut document = plain("Kiln \"Works\" Ltd\nInvoice  2026-0117\n\nTotal:   120.50 EUR\nThank you.");
    document.pages = vec![
        crate::corpus::document::Page { number: 1, range: 0..36 },
        crate::corpus::document::Page { number: 2, range: 36..document.text.len() },
    ];
    document
}

fn answer(value: Value) -> Value {
    json!([
        { "when": "Fields:", "answer": super::written::written(&value) },
        { "scores": { "yes": 0.8, "no": 0.1, "null": 0.1 } },
    ])
}

const SCHEMA: &str = "vendor: string, number: string?, total: number?, due: string?";

fn schema() -> Value {
    let fields = SCHEMA.split(", ").map(|f| f.split_once(": ").unwrap());
    fields.map(|(name, kind)| (name.to_owned(), json!(kind))).collect()
}

#[test]
fn a_value_comes_with_its_words_and_their_place() {
    let said = json!({
        "vendor": { "quote": "Kiln \"Works\" Ltd", "value": "Kiln Works Ltd" },
        "number": { "quote": "Invoice 2026-0117", "value": "2026-0117" },
        "total": { "quote": "Total: 120.50", "value": 120.5 },
        "due": null,
    });
    let document = invoice();
    let out = run(json!({ "schema": schema() }), &document, answer(said)).unwrap();
    let evidence = &out.value["evidence"];
    assert_eq!((&out.value["total"], &out.value["due"]), (&json!(120.5), &Value::Null));
    assert_eq!((&evidence["vendor"]["page"], &evidence["total"]["page"]), (&json!(1), &json!(2)));
    let at = |key: &str| evidence["total"][key].as_u64().unwrap() as usize;
    assert_eq!(&document.text[at("start")..at("end")], "Total:   120.50");
    assert!(evidence["due"].get("quote").is_none());
    assert!(evidence["due"]["p_null"].as_f64().is_some() && evidence["vendor"]["p_value"].as_f64().is_some());
    assert!(out.value["min_support"].as_f64().is_some());
    assert!(out.partial.is_empty(), "{:?}", out.partial);
}

#[test]
fn a_quote_that_the_text_does_not_hold_cannot_be_written() {
    for quote in ["Kiln Works Ltd", "Total: 999", "", " Total", "Kiln \"Works\" Ltd\nInvoice"] {
        let said = json!({ "vendor": { "quote": quote, "value": "x" }, "number": null, "total": null, "due": null });
        let error = run(json!({ "schema": schema() }), &invoice(), answer(said)).unwrap_err();
        assert!(error.detail.contains("does not fit"), "{quote}: {error}");
    }
}

#[test]
fn what_must_be_there_cannot_be_null_and_a_value_cannot_stand_alone() {
    for said in [
        json!({ "vendor": null, "number": null, "total": null, "due": null }),
        json!({ "vendor": "Kiln", "number": null, "total": null, "due": null }),
        json!({ "vendor": { "value": "Kiln", "quote": "Kiln" }, "number": null, "total": null, "due": null }),
    ] {
        assert!(run(json!({ "schema": schema() }), &invoice(), answer(said)).is_err());
    }
}

#[test]
fn items_of_a_list_have_their_quotes_and_a_quote_is_of_one_turn() {
    let document = meeting(&[("Anna", "I buy two lamps."), ("Bo", "And three chairs please.")]);
    let many = json!({ "thing": "string", "buyer": "speaker?" });
    let said = json!([
        { "thing": { "quote": "two lamps", "value": "lamps" }, "buyer": { "quote": "I buy", "value": "Anna" } },
        { "thing": { "quote": "three chairs", "value": "chairs" }, "buyer": null },
    ]);
    let out = run(json!({ "many": many }), &document, answer(said)).unwrap();
    assert_eq!(out.value[1]["thing"], "chairs");
    let evidence = &out.value[1]["evidence"];
    assert_eq!((&evidence["thing"]["turn"], &evidence["thing"]["speaker"]), (&json!("T2"), &json!("Bo")));
    assert!(evidence["buyer"]["p_null"].as_f64().is_some(), "{evidence}");
    assert_eq!(out.value[0]["evidence"]["thing"]["at"], "0:00:00");
    for wrong in [
        json!([{ "thing": { "quote": "lamps. And", "value": "lamps" }, "buyer": null }]),
        json!([{ "thing": { "quote": "two lamps", "value": "lamps" }, "buyer": { "quote": "I", "value": "Cy" } }]),
    ] {
        assert!(run(json!({ "many": many }), &document, answer(wrong)).is_err());
    }
}

#[test]
fn nested_fields_and_lists_are_quoted_each() {
    let schema = json!({
        "seller": { "name": "string", "city": "string?" }, "lines": [{ "what": "string" }], "tags": ["string"],
    });
    let document = plain("Acme of Bonn sells nails and screws.");
    let said = json!({
        "seller": { "name": { "quote": "Acme", "value": "Acme" }, "city": null },
        "lines": [{ "quote": "nails", "value": { "what": "nails" } }, { "quote": "screws", "value": { "what": "screws" } }],
        "tags": [],
    });
    let out = run(json!({ "schema": schema }), &document, answer(said)).unwrap();
    assert_eq!(out.value["lines"], json!([{ "what": "nails" }, { "what": "screws" }]));
    assert_eq!(out.value["evidence"]["lines"][1]["quote"], "screws");
    assert_eq!(out.value["evidence"]["seller"]["name"]["quote"], "Acme");
    assert!(out.value["evidence"]["seller"]["city"]["p_null"].as_f64().is_some());
    assert!(out.partial.is_empty(), "{:?}", out.partial);
}

#[test]
fn a_large_schema_is_asked_for_in_groups() {
    let script = json!([
        { "when": "Fields: vendor, number.", "answer": "{\"vendor\": {\"quote\": \"Kiln\", \"value\": \"Kiln\"}, \"number\": null}" },
        { "when": "Fields: total, due.", "answer": "{\"total\": {\"quote\": \"120.50\", \"value\": 120.5}, \"due\": null}" },
        { "scores": { "yes": 0.5 } },
    ]);
    let out = run(json!({ "schema": schema(), "fields_per_call": 2 }), &invoice(), script).unwrap();
    assert_eq!((&out.value["vendor"], &out.value["total"]), (&json!("Kiln"), &json!(120.5)));
    assert_eq!(out.value["evidence"]["total"]["quote"], "120.50");
}

#[test]
fn a_failed_check_is_shown_and_the_better_answer_kept() {
    let first = json!({ "vendor": { "quote": "Kiln", "value": "Kiln" }, "number": null, "total": { "quote": "2026", "value": 2026 }, "due": null });
    let second = json!({ "vendor": { "quote": "Kiln", "value": "Kiln" }, "number": null, "total": { "quote": "120.50 EUR", "value": 120.5 }, "due": null });
    let script = json!([
        { "when": "- out.total < 1000", "answer": super::written::written(&second) },
        { "when": "Fields:", "answer": super::written::written(&first) },
        { "scores": { "yes": 0.5 } },
    ]);
    let verify = json!(["out.total < 1000", "out.due is none"]);
    let options = json!({ "schema": schema(), "verify": verify, "repair": { "times": 1, "show": "failed-checks" } });
    let out = run(options.clone(), &invoice(), script.clone()).unwrap();
    assert_eq!((&out.value["total"], out.partial.len()), (&json!(120.5), 0));
    assert!(out.notes.iter().any(|n| n.contains("0 of 1 still fail")), "{:?}", out.notes);
    // Without repair the record is kept, marked, and the document partial.
    let out = run(json!({ "schema": schema(), "verify": verify }), &invoice(), script).unwrap();
    assert_eq!((&out.value["total"], &out.value["failed"]), (&json!(2026), &json!(["out.total < 1000"])));
    assert!(out.partial[0].contains("out.total < 1000"));
}

#[test]
fn a_value_whose_quote_does_not_say_it_is_left_out() {
    let said = json!({ "vendor": { "quote": "Kiln", "value": "Kiln" }, "number": { "quote": "Thank you", "value": "7" }, "total": null, "due": null });
    let script = json!([
        { "when": "Fields:", "answer": super::written::written(&said) },
        { "when": "Text: \"Thank you\"", "scores": { "yes": 0.1, "no": 0.9 } },
        { "when": "Text: \"Kiln\"", "scores": { "yes": 0.9, "no": 0.1 } },
        { "scores": { "yes": 0.5, "no": 0.5 } },
    ]);
    let out = run(json!({ "schema": schema(), "verify": [{ "support": 0.5 }] }), &invoice(), script).unwrap();
    assert_eq!((&out.value["number"], &out.value["vendor"]), (&Value::Null, &json!("Kiln")));
    assert!(out.notes.iter().any(|n| n.contains("left out `number`")), "{:?}", out.notes);
}

#[test]
fn keywords_that_cannot_be_enforced_are_named_and_held_against_the_record() {
    let schema = json!({
        "type": "object", "required": ["tags"],
        "properties": { "tags": { "type": "array", "items": { "type": "string" }, "uniqueItems": true } },
    });
    let options = json!({ "schema": schema, "long": { "split": {}, "merge": {} }, "ground": {} });
    let step = fakes::build(&KIND, options.clone()).unwrap_or_else(|f| panic!("{f:?}"));
    assert!(step.notices()[0].contains("`uniqueItems`"), "{:?}", step.notices());
    let said = json!({ "tags": [{ "quote": "nails", "value": "a" }, { "quote": "nails", "value": "a" }] });
    let out = run(json!({ "schema": schema }), &plain("We sell nails."), answer(said)).unwrap();
    assert!(out.partial.iter().any(|p| p.contains("schema")), "{:?}", out.partial);
}

#[test]
fn an_answer_that_was_cut_off_keeps_what_was_complete() {
    let script = json!([
        { "when": "Fields:", "finish": "length",
          "answer": "{\"vendor\": {\"quote\": \"Kiln\", \"value\": \"Kiln\"}, \"number\": {\"quote\": \"Invoice 20" },
        { "scores": { "yes": 0.5 } },
    ]);
    let out = run(json!({ "schema": schema() }), &invoice(), script).unwrap();
    assert_eq!(out.value["vendor"], "Kiln");
    assert!(out.value.get("number").is_none() && !out.partial.is_empty());
}

#[test]
fn a_value_that_its_own_quote_does_not_hold_is_null_where_it_may_be() {
    let said = json!({
        "vendor": { "quote": "Thank you", "value": "Acme Ltd" },
        "number": { "quote": "Thank you", "value": "INV-99 of Acme" },
        "total": { "quote": "2026-0117", "value": 120.5 },
        "due": null,
    });
    let out = run(json!({ "schema": schema() }), &invoice(), answer(said.clone())).unwrap();
    let of = |key: &str| (out.value[key].clone(), out.value["evidence"][key]["withheld"].clone());
    assert_eq!(of("number"), (Value::Null, json!("INV-99 of Acme")));
    assert_eq!(of("total"), (Value::Null, json!(120.5)));
    assert_eq!(of("vendor"), (json!("Acme Ltd"), Value::Null));
    for note in ["left out `number`", "left out `total`", "`vendor` may not be null"] {
        assert!(out.notes.iter().any(|n| n.contains(note)), "{note}: {:?}", out.notes);
    }
    let lenient = json!({ "schema": schema(), "ground": { "at_least": 0.0 } });
    assert_eq!(run(lenient, &invoice(), answer(said)).unwrap().value["total"], 120.5);
}
