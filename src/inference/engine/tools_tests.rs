use super::*;
use crate::inference::engine::{Message, Role, Scripted};
use crate::inference::grammar::check_text;

fn weather() -> Value {
    json!([
        {
            "name": "weather", "description": "The weather of a day",
            "parameters": {
                "properties": { "city": { "type": "string" }, "unit": { "$ref": "#/$defs/unit" } },
                "required": ["city"],
                "$defs": { "unit": { "enum": ["celsius", "kelvin"] } },
            },
        },
        { "type": "function", "function": { "name": "now" } },
    ])
}

fn request() -> CallRequest {
    let message = Message { role: Role::User, content: "What is the weather in Paris?".into() };
    CallRequest {
        chat: Chat { messages: vec![message], ..Chat::default() },
        max_tokens: 60,
        sampling: SamplingParams::default(),
        stop: Vec::new(),
        cancel: CancelToken::default(),
    }
}

fn ask(script: Value, choice: CallChoice) -> Result<CallAnswer, GenerateError> {
    let model = Scripted::from_value(script).unwrap();
    Tools::parse(&weather()).unwrap().ask(&model, &request(), choice)
}

#[test]
fn a_call_is_held_to_the_declared_functions_and_their_parameters() {
    let constraint = Tools::parse(&weather()).unwrap().constraint(1);
    let fits = |text: &str| check_text(&constraint, text).is_ok();
    assert!(fits(r#"[{"name": "weather", "arguments": {"city": "Paris", "unit": "kelvin"}}]"#));
    assert!(fits(r#"[{"name": "now", "arguments": {}}, {"name": "weather", "arguments": {"city": "Lyon"}}]"#));
    for wrong in [
        "[]",
        r#"[{"name": "delete", "arguments": {}}]"#,
        r#"[{"name": "now", "arguments": {"city": "Paris"}}]"#,
        r#"[{"name": "weather", "arguments": {}}]"#,
        r#"[{"name": "weather", "arguments": {"city": "Paris", "unit": "rankine"}}]"#,
        r#"[{"name": "weather", "arguments": {"city": 7}}]"#,
        r#"[{"name": "now", "arguments": {}, "extra": 1}]"#,
    ] {
        assert!(!fits(wrong), "{wrong}");
    }
}

#[test]
fn a_call_comes_back_parsed() {
    let script = json!([{ "when": "weather", "answer": [[{ "name": "weather", "arguments": { "city": "Paris" } }]] }]);
    let answer = ask(script, CallChoice::Required).unwrap();
    assert_eq!(answer.calls, [Call { name: "weather".into(), arguments: json!({ "city": "Paris" }) }]);
    assert!(answer.text.is_empty() && answer.usage.completion_tokens > 0);
}

#[test]
fn a_function_that_was_not_declared_cannot_be_called() {
    let script = json!([{ "answer": [[{ "name": "delete", "arguments": {} }]] }]);
    assert!(matches!(ask(script, CallChoice::Required), Err(GenerateError::Grammar(_))));
}

#[test]
fn where_nothing_is_called_the_answer_is_words() {
    let script = json!([{ "answer": ["[]", "It is a city in France."] }]);
    let answer = ask(script, CallChoice::Auto).unwrap();
    assert_eq!((answer.calls.len(), answer.text.as_str()), (0, "It is a city in France."));
}

#[test]
fn of_calls_that_were_cut_off_the_whole_ones_are_kept() {
    let cut = r#"[{"name": "now", "arguments": {}}, {"name": "weather", "arguments": {"city": "Pa"#;
    let answer = ask(json!([{ "answer": cut, "finish": "length" }]), CallChoice::Required).unwrap();
    assert_eq!(answer.finish, FinishReason::Length);
    assert_eq!(answer.calls.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["now"]);
}

#[test]
fn a_declaration_that_cannot_be_used_says_why() {
    let check = |written: Value, part: &str| {
        let error = Tools::parse(&written).unwrap_err();
        assert!(error.contains(part), "{error}");
    };
    check(json!({}), "a list");
    check(json!([]), "empty");
    check(json!([{ "description": "x" }]), "function 1: it has no name");
    check(json!([{ "name": "a b" }]), "`a b`");
    check(json!([{ "name": "a" }, { "name": "a" }]), "function 2: the name `a` is taken");
    check(json!([{ "name": "a", "parameter": {} }]), "`parameter` is unknown");
    check(json!([{ "name": "a", "parameters": { "type": "array" } }]), "an object is needed");
    check(json!([{ "type": "retrieval", "function": {} }]), "no function");
}
