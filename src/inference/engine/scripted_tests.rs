use serde_json::json;

use super::*;
use crate::inference::engine::{ChatDocument, Constraint, Message};
use crate::inference::sampler::SamplingParams;

fn scripted(script: Value) -> Scripted {
    Scripted::from_value(script).unwrap()
}

fn request(scripted: &Scripted, prompt: &str) -> GenerateRequest {
    GenerateRequest {
        prompt: Prompt { ids: scripted.encode_text(prompt) },
        max_tokens: 100,
        sampling: SamplingParams::default(),
        stop: Vec::new(),
        constraint: Constraint::None,
        cancel: CancelToken::default(),
    }
}

fn ask(scripted: &Scripted, prompt: &str) -> Result<String, GenerateError> {
    scripted.generate(vec![request(scripted, prompt)]).remove(0).map(|completion| completion.text)
}

#[test]
fn the_first_rule_that_fits_answers() {
    let scripted = scripted(json!({
        "rules": [
            {"when": "weather", "answer": "sunny"},
            {"when": "/^Sum.*42$/", "answer": {"total": 42}},
        ],
        "default": "nothing",
    }));
    assert_eq!(ask(&scripted, "the weather?").unwrap(), "sunny");
    assert_eq!(ask(&scripted, "Sum is 42").unwrap(), "{\"total\":42}");
    assert_eq!(ask(&scripted, "else").unwrap(), "nothing");
}

#[test]
fn a_list_is_given_in_turn_and_its_last_for_ever() {
    let scripted = scripted(json!([{"answer": ["one", ["two"], "three"]}]));
    let said: Vec<String> = (0..4).map(|_| ask(&scripted, "?").unwrap()).collect();
    assert_eq!(said, ["one", "[\"two\"]", "three", "three"]);
}

#[test]
fn a_chat_is_rendered_with_its_roles_and_documents() {
    let scripted = scripted(
        json!([{"when": "[document] Lease\nThe tenant pays.\n[user]\nWho?\n[assistant]\nThe", "answer": "x"}]),
    );
    let chat = Chat {
        messages: vec![Message { role: Role::User, content: "Who?".into() }],
        documents: vec![ChatDocument { title: "Lease".into(), text: "The tenant pays.".into() }],
        assistant_prefix: "The".into(),
        ..Chat::default()
    };
    let prompt = scripted.encode_chat(&chat).unwrap();
    let request = GenerateRequest { prompt, ..request(&scripted, "?") };
    assert!(scripted.generate(vec![request]).remove(0).is_ok());
}

#[test]
fn stop_strings_and_the_token_limit_cut_the_answer() {
    let scripted = scripted(json!([{"answer": "one two. three"}]));
    let mut cut = request(&scripted, "?");
    cut.stop = vec!["three".into(), ".".into()];
    let completion = scripted.generate(vec![cut.clone()]).remove(0).unwrap();
    assert_eq!((completion.text.as_str(), completion.finish), ("one two", FinishReason::StopString));
    assert_eq!(completion.usage, Usage { prompt_tokens: 1, cached_tokens: 0, completion_tokens: 2 });
    cut.max_tokens = 1;
    let completion = scripted.generate(vec![cut]).remove(0).unwrap();
    assert_eq!((completion.text.as_str(), completion.finish), ("one", FinishReason::Length));
}

#[test]
fn an_answer_that_does_not_fit_the_constraint_is_an_error() {
    let scripted = scripted(json!([{"when": "cut", "answer": "{\"a", "finish": "length"}, {"answer": {"a": 1}}]));
    let mut constrained = request(&scripted, "?");
    constrained.constraint = Constraint::JsonSchema(json!({"required": ["a"]}));
    assert!(scripted.generate(vec![constrained.clone()]).remove(0).is_ok());
    constrained.constraint = Constraint::JsonSchema(json!({"required": ["b"]}));
    let error = scripted.generate(vec![constrained.clone()]).remove(0).unwrap_err();
    assert!(error.to_string().contains("the scripted answer of rule 2 does not fit"), "{error}");
    constrained.prompt = request(&scripted, "cut").prompt;
    assert_eq!(scripted.generate(vec![constrained]).remove(0).unwrap().finish, FinishReason::Length);
}

#[test]
fn a_delay_ends_when_the_call_is_cancelled() {
    let scripted = scripted(json!([{"answer": "late", "delay_ms": 60_000}]));
    let started = Instant::now();
    let mut slow = request(&scripted, "?");
    slow.cancel = slow.cancel.with_deadline(started + Duration::from_millis(30));
    assert_eq!(scripted.generate(vec![slow]).remove(0), Err(GenerateError::TimedOut));
    let cancelled = request(&scripted, "?");
    cancelled.cancel.cancel();
    assert_eq!(scripted.generate(vec![cancelled]).remove(0), Err(GenerateError::Cancelled));
    assert!(started.elapsed() < Duration::from_secs(60));
}

#[test]
fn what_the_engine_would_refuse_is_refused() {
    let scripted =
        scripted(json!({"window": 5, "rules": [{"when": "x", "answer": "y"}, {"when": "fail", "error": "lost"}]}));
    assert_eq!(ask(&scripted, ""), Err(GenerateError::EmptyPrompt));
    assert_eq!(ask(&scripted, "x"), Err(GenerateError::OverWindow { prompt: 1, max_tokens: 100, window: 5 }));
    let small = |prompt: &str| GenerateRequest { max_tokens: 2, ..request(&scripted, prompt) };
    let mut results = scripted.generate(vec![small("x"), small("z"), small("fail")]);
    assert_eq!(results.pop(), Some(Err(GenerateError::Engine("lost".into()))));
    assert_eq!(results.pop(), Some(Err(GenerateError::NoScriptedAnswer("z".into()))));
    assert_eq!(results.remove(0).unwrap().text, "y");
}

#[test]
fn scores_are_those_given_or_equal() {
    let scripted = scripted(json!([{"when": "complaint", "scores": {"yes": 0.9, "not at all": 0.1}}]));
    let score = |prompt: &str| {
        let continuations = ["yes", " not at all"].map(|text| scripted.encode_text(text)).to_vec();
        let prompt = Prompt { ids: scripted.encode_text(prompt) };
        scripted.score(ScoreRequest { prompt, continuations, cancel: CancelToken::default() }).unwrap()
    };
    assert_eq!(score("a complaint?"), [vec![0.9f32.ln()], vec![0.1f32.ln(), 0.0, 0.0]]);
    assert_eq!(score("else")[0], [0.5f32.ln()]);
}

#[test]
fn a_broken_script_is_refused_with_its_place() {
    let fault = |script: Value| Scripted::from_value(script).map(drop).unwrap_err().to_string();
    assert!(
        fault(json!([{"answer": "a"}, {"wehn": "x", "answer": "a"}]))
            .starts_with("script: rule 2: unknown field `wehn`")
    );
    assert_eq!(fault(json!([{"when": "x"}])), "script: rule 1: has no answer, no error and no scores");
    assert!(
        fault(json!([{"when": "/(/", "answer": "x"}])).starts_with("script: rule 1: `when` is no regular expression")
    );
    assert!(fault(json!(7)).starts_with("script: "));
    let missing = Scripted::from_file(Path::new("no/such/script.json")).map(drop).unwrap_err().to_string();
    assert!(missing.starts_with("no/such/script.json: cannot be read"), "{missing}");
}

#[test]
fn the_digest_is_that_of_the_script() {
    let digest = |answer: &str| scripted(json!([{ "answer": answer }])).card().digest.clone();
    assert_eq!(digest("a"), digest("a"));
    assert_ne!(digest("a"), digest("b"));
}
