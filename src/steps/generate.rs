//! `generate`: a prompt of the author's own; the answer free, held to a schema, calls of functions, or code.

use serde_json::{Value, json};

use super::ask::{Asker, Question, render_with};
use super::options::Reader;
use super::parts::coverage_of_turns;
use super::prompt::Template;
use super::schema;
use super::{BuildContext, Coverage, OptionFault, Port, Reason, Step, StepContext, StepError, StepKind, StepOutput};
use crate::inference::engine::{CallChoice, Constraint, FinishReason, Tools};
use crate::spec::{KeySpec, ValueSpec};

pub static KIND: StepKind = StepKind {
    name: "generate",
    summary: "Sends a prompt of your own",
    guide: "The way out when no other verb fits. The prompt is a template over `params`, `doc`, `steps` and `run`; put \
            the document's text first and the instruction last, then steps over the same text share the work of \
            reading it. With a `schema` the answer is JSON that fits it. A prompt that does not fit the window is an \
            error: nothing is cut off. An answer that runs into `max_tokens` leaves the document `partial`.\n\n\
            With `tools`, functions are shown to the model in the words of its own chat template, and it answers with \
            calls: only of functions that are declared, with arguments that fit their schemas and no others. They come \
            back as `calls`, and are never carried out. With `call: auto` the model may answer in words instead, \
            which are then `text`. With `code`, the answer is one block of code in that language and nothing else.",
    needs_model: true,
    keys: &[
        KeySpec::required(
            "prompt",
            ValueSpec::OneOf(&[
                ValueSpec::Template,
                ValueSpec::Object(&[KeySpec::required(
                    "file",
                    ValueSpec::TemplateFile,
                    "A file that holds the prompt",
                )]),
            ]),
            "The user message, or `{file: …}` with a path",
        ),
        KeySpec::optional("system", ValueSpec::Template, "Replaces the system message that all steps share"),
        KeySpec::optional("schema", ValueSpec::Schema, "What the answer must look like, as JSON"),
        KeySpec::optional(
            "tools",
            ValueSpec::OneOf(&[
                ValueSpec::Object(&[KeySpec::required(
                    "file",
                    ValueSpec::File,
                    "A JSON file with the list of functions",
                )]),
                ValueSpec::List(&ValueSpec::Any),
            ]),
            "Functions that may be called, each `{name, description, parameters}` with a JSON Schema, or `{file: …}`",
        ),
        KeySpec::optional(
            "call",
            ValueSpec::Choice(&["required", "auto"]),
            "Whether at least one of `tools` must be called [default: required]",
        ),
        KeySpec::optional("code", ValueSpec::Setting, "The language of the one block of code that is wanted"),
        KeySpec::optional("stop", ValueSpec::List(&ValueSpec::Text), "The answer ends before the first of these"),
        KeySpec::default("max_tokens", ValueSpec::Integer { min: 1, max: 32_768 }, "512", "Tokens the answer may have"),
    ],
    outputs: &[Port {
        name: "",
        kind: "text",
        help: "The answer; with a schema, the object it describes; with `tools`, `{calls: [{name, arguments}], text}`",
    }],
    example: "id: title\nuse: generate\nprompt: |\n  {{ doc.text }}\n\n  Give the text above a title of at most six words.\nmax_tokens: 24\nstop: [\"\\n\"]\n",
    build,
};

struct Generate {
    prompt: Template,
    system: Option<Template>,
    form: Form,
    stop: Vec<String>,
    max_tokens: usize,
}

/// What the answer is.
enum Form {
    Free,
    Json(Value),
    Calls(Tools, CallChoice),
    /// In this language.
    Code(String),
}

fn build(cx: &BuildContext<'_>) -> Result<Box<dyn Step>, Vec<OptionFault>> {
    let mut read = Reader::new(cx);
    let form = form(cx, &mut read);
    let system = read.template(&["system"]);
    let stop = read.texts(&["stop"]).into_iter().map(str::to_owned).collect();
    let max_tokens = read.count(&["max_tokens"]).unwrap_or(512);
    let prompt = read.template(&["prompt"]);
    let step = prompt.map(|prompt| Box::new(Generate { prompt, system, form, stop, max_tokens }) as Box<dyn Step>);
    read.finish(step)
}

fn form(cx: &BuildContext<'_>, read: &mut Reader<'_>) -> Form {
    let written: Vec<&str> = ["schema", "tools", "code"].into_iter().filter(|key| read.at(&[key]).is_some()).collect();
    if let [first, second, ..] = written.as_slice() {
        read.fault(&[second], format!("an answer has one form: `{first}` and `{second}` do not go together"));
        return Form::Free;
    }
    if read.at(&["call"]).is_some() && written != ["tools"] {
        read.fault(&["call"], "there is nothing to call without `tools`");
    }
    match written.first() {
        Some(&"schema") => match schema::from_options(cx, "schema") {
            Ok(schema) => schema.map_or(Form::Free, Form::Json),
            Err(faults) => {
                for fault in faults {
                    let path: Vec<&str> = fault.path.iter().map(String::as_str).collect();
                    read.fault_with_hint(&path, fault.message, fault.hints.into_iter().next());
                }
                Form::Free
            }
        },
        Some(&"tools") => {
            let choice = if read.text(&["call"]) == Some("auto") { CallChoice::Auto } else { CallChoice::Required };
            match tools(cx, read) {
                Ok(tools) => Form::Calls(tools, choice),
                Err(message) => {
                    read.fault(&["tools"], message);
                    Form::Free
                }
            }
        }
        Some(&"code") => match read.text(&["code"]).map(str::trim) {
            Some(language) if is_language(language) => Form::Code(language.to_owned()),
            _ => {
                read.fault(&["code"], "the language of code is one word, such as `python` or `c++`");
                Form::Free
            }
        },
        _ => Form::Free,
    }
}

fn tools(cx: &BuildContext<'_>, read: &Reader<'_>) -> Result<Tools, String> {
    let Some(file) = read.text(&["tools", "file"]) else {
        return Tools::parse(read.at(&["tools"]).unwrap_or(&Value::Null));
    };
    let text = (cx.read_file)(file)?;
    let written = serde_json::from_str(&text).map_err(|e| format!("{file} is not valid JSON: {e}"))?;
    Tools::parse(&written).map_err(|fact| format!("{file}: {fact}"))
}

/// Whether this can stand behind the fence of a block of code.
fn is_language(text: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '#' | '-' | '.' | '_');
    !text.is_empty() && text.len() <= 32 && text.chars().all(is_part)
}

const FENCE: &str = "```";

impl Step for Generate {
    fn run(&self, cx: &StepContext<'_>) -> Result<StepOutput, StepError> {
        let mut asker = Asker::new(cx)?;
        if let Some(system) = &self.system {
            asker = asker.with_system(render_with(cx, system, &[])?);
        }
        let user = render_with(cx, &self.prompt, &[])?;
        let mut question = Question::new(user.trim().to_owned(), self.max_tokens, asker.sampling());
        question.stop = self.stop.clone();
        let coverage = self.coverage(cx, &question.user);
        let mut out = StepOutput { coverage, ..StepOutput::default() };
        if let Form::Calls(tools, choice) = &self.form {
            let answer = asker.call(&question, tools, *choice)?;
            out.usage = answer.usage;
            self.tell_if_cut(&mut out, answer.finish);
            out.value = json!({ "calls": answer.calls, "text": answer.text });
            return Ok(out);
        }
        match &self.form {
            Form::Json(schema) => {
                let scope = schema::Scope::of_document(cx.document);
                let resolved = schema::resolve(schema, &scope);
                let not_met = |detail| StepError { reason: Reason::SchemaNotMet, detail };
                question.constraint = Constraint::JsonSchema(resolved.map_err(not_met)?);
            }
            Form::Code(language) => {
                // The fence is opened for the model: what follows, up to the fence that closes it, is code.
                question.opening = format!("{FENCE}{language}\n");
                question.stop.push(format!("\n{FENCE}"));
            }
            Form::Free | Form::Calls(..) => {}
        }
        let opening = question.opening.clone();
        let answer = asker.ask_one(question)?;
        out.usage = answer.usage;
        self.tell_if_cut(&mut out, answer.finish);
        out.value = match &self.form {
            Form::Json(_) => {
                let salvaged = schema::salvage(&answer.text).ok_or_else(|| StepError {
                    reason: Reason::SchemaNotMet,
                    detail: format!("the answer is no JSON: {}", super::text::clip(answer.text.trim(), 80)),
                })?;
                salvaged.value
            }
            Form::Code(_) => json!(code(answer.text.strip_prefix(&opening).unwrap_or(&answer.text))),
            Form::Free | Form::Calls(..) => json!(answer.text.trim()),
        };
        Ok(out)
    }
}

/// The code of an answer whose fence was opened before it. A model may open it once more all the same.
fn code(answer: &str) -> &str {
    let inside = match answer.trim_start().strip_prefix(FENCE) {
        Some(again) => again.split_once('\n').map_or("", |(_, rest)| rest),
        None => answer,
    };
    let end = if inside.starts_with(FENCE) { 0 } else { inside.find("\n```").unwrap_or(inside.len()) };
    inside[..end].trim_matches('\n').trim_end()
}

impl Generate {
    fn tell_if_cut(&self, out: &mut StepOutput, finish: FinishReason) {
        if finish == FinishReason::Length {
            out.partial.push(format!("the answer ran into its limit of {} tokens (`max_tokens`)", self.max_tokens));
        }
    }

    /// Read is what stands in the prompt word for word; a prompt without document text has no coverage.
    fn coverage(&self, cx: &StepContext<'_>, user: &str) -> Option<Coverage> {
        let reads_text =
            self.prompt.references().iter().any(|r| r == "doc" || r == "doc.text" || r.starts_with("doc.turns"));
        if !reads_text {
            return None;
        }
        if cx.document.turns.is_empty() {
            let total = cx.document.text.len();
            let read = if user.contains(cx.document.text.trim()) { total } else { 0 };
            let unread = if read == total { Vec::new() } else { vec![format!("0..{total}")] };
            return Some(Coverage { unit: "byte".into(), read, total, unread });
        }
        let shown = cx.document.turns.iter().enumerate().filter(|(_, t)| user.contains(cx.document.turn_text(t)));
        Some(coverage_of_turns(cx.document, &shown.map(|(i, _)| i).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steps::fakes::{self, Fake, meeting};

    #[test]
    fn a_prompt_over_the_window_is_an_error_and_never_cut() {
        let document = meeting(&[("Anna", &"word ".repeat(500))]);
        let fake = Fake::answering(|_| "A title".into()).with_window(1000);
        let options = json!({ "prompt": "{{ doc.text }}", "max_tokens": 20 });
        let error = fakes::run(&KIND, options, &document, &fake).unwrap_err();
        assert_eq!(error.reason, Reason::OverTheWindow);
    }

    #[test]
    fn an_answer_cut_at_the_limit_is_partial_and_json_is_salvaged() {
        let document = meeting(&[("Anna", "Hello.")]);
        let fake = Fake::new(|_, request| {
            assert!(matches!(&request.constraint, Constraint::JsonSchema(s) if s["additionalProperties"] == false));
            Ok((r#"{"title": "Hello", "tags": ["a", "b"#.into(), FinishReason::Length))
        });
        let options =
            json!({ "prompt": "{{ doc.text }}", "schema": { "title": "string", "tags": ["string"] }, "max_tokens": 9 });
        let out = fakes::run(&KIND, options, &document, &fake).unwrap();
        assert_eq!(out.value, json!({ "title": "Hello", "tags": ["a"] }));
        assert_eq!(out.partial.len(), 1);
        assert_eq!(out.coverage.unwrap().read, 1);
    }

    fn weather() -> Value {
        json!([{ "name": "weather", "parameters": { "properties": { "city": "string" }, "required": ["city"] } }])
    }

    #[test]
    fn calls_come_back_parsed_and_are_held_to_what_was_declared() {
        let tools = json!([{ "name": "book", "description": "Books a room", "parameters": {
            "properties": { "room": { "type": "string" } }, "required": ["room"],
        } }]);
        let fake = Fake::new(|_, request| {
            let Constraint::JsonSchema(schema) = &request.constraint else { panic!("{:?}", request.constraint) };
            assert_eq!(schema["items"]["anyOf"][0]["properties"]["name"]["const"], "book");
            Ok((r#"[{"name": "book", "arguments": {"room": "Elm"}}]"#.into(), FinishReason::Stop))
        });
        let options = json!({ "prompt": "{{ doc.text }}", "tools": tools, "call": "required", "max_tokens": 40 });
        let out = fakes::run(&KIND, options, &meeting(&[("Anna", "Book Elm, please.")]), &fake).unwrap();
        assert_eq!(out.value["calls"], json!([{ "name": "book", "arguments": { "room": "Elm" } }]));
        assert_eq!((&out.value["text"], out.coverage.unwrap().read), (&json!(""), 1));
    }

    #[test]
    fn what_cannot_go_together_is_said_before_the_run() {
        let check = |options: Value, path: &str| {
            let faults = fakes::build(&KIND, options).err().unwrap();
            assert_eq!(faults[0].path, [path], "{faults:?}");
        };
        check(json!({ "prompt": "x", "schema": { "a": "string" }, "tools": [] }), "tools");
        check(json!({ "prompt": "x", "call": "auto" }), "call");
        check(json!({ "prompt": "x", "code": "two words" }), "code");
        check(json!({ "prompt": "x", "tools": [{ "name": "a", "args": {} }] }), "tools");
        assert!(fakes::build(&KIND, json!({ "prompt": "x", "tools": weather(), "call": "auto" })).is_ok());
    }

    #[test]
    fn code_is_what_stands_between_the_fences() {
        let check = |answer: &'static str, expected: &str| {
            let fake = Fake::new(move |prompt, request| {
                assert!(prompt.ends_with("```python\n") && request.stop == ["\n```"], "{prompt}");
                Ok((answer.into(), FinishReason::StopString))
            });
            let options = json!({ "prompt": "Write it.", "code": "python", "max_tokens": 40 });
            let out = fakes::run(&KIND, options, &meeting(&[("Anna", "Hello.")]), &fake).unwrap();
            assert_eq!(out.value, json!(expected));
        };
        check("def f():\n    return 1", "def f():\n    return 1");
        check("    x = 1\n    y = 2\n", "    x = 1\n    y = 2");
        check("```python\nprint(1)\n```\nThat is all.", "print(1)");
    }
}
