use serde_json::{Value, json};

use super::*;
use crate::inference::engine::{Constraint, FinishReason, GenerateError};
use crate::steps::fakes::{self, Fake, meeting, plain};

fn options(more: Value) -> Value {
    let mut options = json!({
        "around": { "n": 3, "unit": "turns" },
        "long": { "split": { "by": "turns", "overlap": { "n": 0, "unit": "turns" } }, "merge": { "conflict": "keep-both-and-mark" } },
        "ground": { "at_least": 0.5, "otherwise": "quote" },
    });
    options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    options
}

fn schema_of(request: &crate::inference::engine::GenerateRequest) -> Value {
    match &request.constraint {
        Constraint::JsonSchema(schema) => schema.clone(),
        other => panic!("asked without a schema: {other:?}"),
    }
}

#[test]
fn evidence_is_limited_to_the_turns_of_the_part_and_follows_the_quote() {
    let document = meeting(&[
        ("Anna", "I'll send the report by Friday."),
        ("Bo", "Thanks, that is kind."),
        ("Cy", "We talked about cake."),
    ]);
    let fake = Fake::new(|_, request| {
        let schema = schema_of(request);
        assert_eq!(schema["items"]["properties"]["evidence"]["items"]["enum"], json!(["T1", "T2", "T3"]));
        let answer = json!([{ "evidence": ["T2"], "said": "I'll send the report by Friday.", "task": "Send the report", "owner": "Anna" }]);
        Ok((answer.to_string(), FinishReason::Stop))
    });
    let many = json!({ "evidence": "turns", "said": "quote", "task": "string", "owner": "speaker?" });
    let out = fakes::run(&KIND, options(json!({ "many": many })), &document, &fake).unwrap();
    let item = &out.value[0];
    assert_eq!(item["evidence"], json!(["T1", "T2"]));
    assert_eq!(item["at"], "0:00:00");
    assert_eq!(out.coverage.unwrap().share(), 1.0);
}

#[test]
fn an_empty_list_is_an_answer_and_an_error_is_none() {
    let document = meeting(&[("Anna", "Hello everybody, nice weather.")]);
    let many = json!({ "many": { "said": "quote", "task": "string" } });
    let none = fakes::run(&KIND, options(many.clone()), &document, &Fake::answering(|_| "[]".into())).unwrap();
    assert_eq!((none.value, none.partial), (json!([]), Vec::<String>::new()));
    let fake = Fake::new(|_, _| Err(GenerateError::Engine("out of blocks".into())));
    assert_eq!(fakes::run(&KIND, options(many.clone()), &document, &fake).unwrap_err().reason, Reason::EngineFailed);
    let error = fakes::run(&KIND, options(many), &document, &Fake::answering(|_| "Sure!".into())).unwrap_err();
    assert_eq!(error.reason, Reason::SchemaNotMet);
}

#[test]
fn a_list_that_was_cut_off_is_kept_as_far_as_it_goes_and_partial() {
    let document = meeting(&[("Anna", "Please paint the fence and mow the lawn.")]);
    let fake =
        Fake::new(|_, _| Ok((r#"[{"task": "Paint the fence"}, {"task": "Mow the"#.into(), FinishReason::Length)));
    let out = fakes::run(&KIND, options(json!({ "many": { "task": "string" } })), &document, &fake).unwrap();
    assert_eq!(out.value[0]["task"], "Paint the fence");
    assert!(out.partial[0].contains("T1"), "{:?}", out.partial);
}

#[test]
fn candidates_settle_turn_quote_speaker_and_date_and_only_the_rest_is_asked_for() {
    let mut document = meeting(&[
        ("Nadia", "And the load test?"),
        ("Beth", "I'll have the report with the graphs ready by next Friday."),
        ("Nadia", "Good."),
        ("Joaquim", "Would anyone like cake?"),
    ]);
    document.meta.insert("date".into(), "2026-03-12".into());
    let fake = Fake::new(|prompt, request| {
        let schema = schema_of(request);
        assert_eq!(schema["properties"].as_object().unwrap().keys().collect::<Vec<_>>(), ["task"]);
        assert!(prompt.contains("Beth said"), "{prompt}");
        Ok((json!({ "task": "Write the report with graphs about the load test" }).to_string(), FinishReason::Stop))
    });
    let more = json!({
        "many": { "evidence": "turns", "said": "quote", "task": "string", "owner": "speaker?", "due": "when?" },
        "candidates": "tasks", "verify": ["item.owner is none or item.owner in doc.speakers"],
    });
    let out = fakes::run(&KIND, options(more), &document, &fake).unwrap();
    assert_eq!(
        out.value,
        json!([{
            "evidence": ["T2"], "said": "I'll have the report with the graphs ready by next Friday.",
            "task": "Write the report with graphs about the load test", "owner": "Beth",
            "due": "next Friday", "due_date": "2026-03-20", "at": "0:00:11",
        }])
    );
    assert!(out.notes.iter().any(|n| n.contains("4 turns by their words, 1 candidate")), "{:?}", out.notes);
}

#[test]
fn made_up_text_is_replaced_by_what_was_said() {
    let document = meeting(&[("Beth", "I'll send the branch to Wei-Ling today."), ("Al", "Good.")]);
    let fake = Fake::answering(|_| json!({ "task": "Launch a rocket to Jupiter" }).to_string());
    let more = json!({ "many": { "task": "string" }, "candidates": "tasks" });
    let out = fakes::run(&KIND, options(more), &document, &fake).unwrap();
    assert_eq!(out.value[0]["task"], "Send the branch to Wei-Ling today");
    assert_eq!(out.value[0]["quoted"], json!(["task"]));
}

#[test]
fn a_decision_that_is_taken_back_is_left_out_where_the_last_counts() {
    let document = meeting(&[
        ("Helga", "Then we go with Gatewell for the tickets from June."),
        ("Tom", "The money is paid out thirty days late."),
        ("Helga", "Then we turn it round. We don't go with Gatewell for the tickets, we go with Ombra."),
    ]);
    let fake = Fake::answering(|prompt| {
        let said = prompt
            .rsplit_once("said: \"")
            .map(|(_, rest)| rest.split('"').next().unwrap_or_default())
            .unwrap_or_default();
        json!({ "decision": said }).to_string()
    });
    let more = || {
        json!({
            "many": { "evidence": "turns", "decision": "string" }, "candidates": "decisions",
            "long": { "split": { "by": "turns", "overlap": { "n": 0, "unit": "turns" } }, "merge": { "conflict": "last" } },
        })
    };
    let out = fakes::run(&KIND, options(more()), &document, &fake).unwrap();
    assert_eq!(out.value.as_array().unwrap().len(), 1, "{}", out.value);
    assert_eq!(out.value[0]["evidence"], json!(["T3"]));
    assert!(out.notes.iter().any(|n| n.contains("taken back")), "{:?}", out.notes);

    // What is said in the same breath to stay is not what is taken back.
    let document = meeting(&[
        ("Carys", "We decided: timed entry for the glass only, and everything else stays walk-in."),
        ("Helga", "Then we go with Gatewell for the tickets from June, so that a month is left with the old one."),
        (
            "Helga",
            "Then we turn it round. We don't go with Gatewell, we go with Ombra. June stays, everything else that we \
             said stays as well, the timed entry, the glass.",
        ),
    ]);
    let out = fakes::run(&KIND, options(more()), &document, &fake).unwrap();
    let said: Vec<&str> = out.value.as_array().unwrap().iter().map(|d| d["decision"].as_str().unwrap()).collect();
    assert!(said[0].contains("timed entry for the glass only"), "{said:?}");
    assert!(said.iter().any(|s| s.contains("Ombra")) && said.iter().all(|s| !s.contains("from June")), "{said:?}");
}

#[test]
fn support_is_the_models_yes_against_its_habit_of_saying_yes() {
    let document = meeting(&[("Beth", "I'll send the branch today."), ("Cy", "I'll buy the cake on Monday.")]);
    let fake = Fake::answering(|_| "{}".into()).with_odds(|prompt, answer| {
        let true_of_text = prompt.contains("Beth: I'll send") && prompt.contains("task: Send the branch today");
        let yes = answer.trim().eq_ignore_ascii_case("yes");
        if yes == true_of_text { -0.2 } else { -0.9 }
    });
    let more = json!({ "many": { "said": "quote", "owner": "speaker", "task": { "$ref": "builtin:quote" } }, "candidates": "tasks", "verify": [{ "support": 0.5 }] });
    let out = fakes::run(&KIND, options(more), &document, &fake).unwrap();
    for item in out.value.as_array().unwrap() {
        assert!(item["support"].as_f64().unwrap() >= 0.5);
    }
}

#[test]
fn one_object_is_read_from_all_parts_and_disagreement_is_said() {
    let document = plain("Invoice of Acme, total 12.\n\nIt is due on Friday.\n\nInvoice of Bolt, total 12.");
    let fake = Fake::answering(|prompt| {
        let vendor = if prompt.contains("Acme") {
            json!("Acme")
        } else if prompt.contains("Bolt") {
            json!("Bolt")
        } else {
            Value::Null
        };
        json!({ "vendor": vendor, "total": 12 }).to_string()
    });
    let more = json!({
        "schema": { "vendor": "string?", "total": "number?" },
        "long": { "split": { "by": "turns", "size": { "n": 30, "unit": "tokens" }, "overlap": { "n": 0, "unit": "turns" } }, "merge": {} },
    });
    let out = fakes::run(&KIND, options(more), &document, &fake).unwrap();
    assert_eq!((&out.value["vendor"], &out.value["total"]), (&json!("Acme"), &json!(12)));
    assert_eq!(out.value["conflicts"], json!([{ "vendor": "Bolt" }]));
    assert!(out.notes.iter().any(|n| n.contains("vendor")));
}

#[test]
fn faults_of_the_options_are_all_named_with_their_place() {
    let more = json!({
        "many": { "task": "strng" }, "schema": { "a": "string" }, "verify": ["item.owner =="],
    });
    let faults = fakes::build(&KIND, options(more)).err().unwrap();
    let paths: Vec<String> = faults.iter().map(|f| f.path.join(".")).collect();
    assert!(
        paths.contains(&"many.task".to_string())
            && paths.contains(&"verify.0".to_string())
            && paths.contains(&String::new()),
        "{faults:?}"
    );
    let more =
        json!({ "many": { "task": "string" }, "long": { "merge": { "same_when": ["similar(taks, 0.8)", "x y"] } } });
    let faults = fakes::build(&KIND, options(more)).err().unwrap();
    assert_eq!(faults.len(), 2, "{faults:?}");
    assert!(faults[0].hints[0].contains("task"));
}

#[test]
fn one_made_up_value_does_not_lose_the_others_of_the_one_record() {
    let document = meeting(&[("Anna", "Acme sent the bill from IT."), ("Bo", "Thanks.")]);
    let fake = Fake::answering(|_| json!({ "vendor": "Zorblax Widgets", "from": "IT", "total": 12 }).to_string());
    let asking = |vendor: &str| json!({ "schema": { "vendor": vendor, "from": "string?", "total": "number?" }, "long": { "merge": {} } });
    let out = fakes::run(&KIND, options(asking("string?")), &document, &fake).unwrap();
    assert_eq!(
        (&out.value["vendor"], &out.value["from"], &out.value["total"]),
        (&Value::Null, &json!("IT"), &json!(12))
    );
    assert!(out.notes.iter().any(|n| n.contains("`vendor` is null") && n.contains("Zorblax")), "{:?}", out.notes);

    // Where it may not be null, the schema is not met, and that is said.
    let out = fakes::run(&KIND, options(asking("string")), &document, &fake).unwrap();
    assert!(out.partial.iter().any(|p| p.contains("schema")), "{:?}", out.partial);
}
