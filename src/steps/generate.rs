//! `generate`: a prompt of the author's own, free or held to a schema.

use serde_json::{Value, json};

use super::ask::{Asker, Question, render_with};
use super::options::Reader;
use super::parts::coverage_of_turns;
use super::prompt::Template;
use super::schema;
use super::{BuildContext, Coverage, OptionFault, Port, Reason, Step, StepContext, StepError, StepKind, StepOutput};
use crate::inference::engine::{Constraint, FinishReason};
use crate::spec::{KeySpec, ValueSpec};

pub static KIND: StepKind = StepKind {
    name: "generate",
    summary: "Sends a prompt of your own",
    guide: "The way out when no other verb fits. The prompt is a template over `params`, `doc`, `steps` and `run`; put \
            the document's text first and the instruction last, then steps over the same text share the work of \
            reading it. With a `schema` the answer is JSON that fits it. A prompt that does not fit the window is an \
            error: nothing is cut off. An answer that runs into `max_tokens` leaves the document `partial`.",
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
        KeySpec::optional("stop", ValueSpec::List(&ValueSpec::Text), "The answer ends before the first of these"),
        KeySpec::default("max_tokens", ValueSpec::Integer { min: 1, max: 32_768 }, "512", "Tokens the answer may have"),
    ],
    outputs: &[Port { name: "", kind: "text", help: "The answer; with a schema, the object it describes" }],
    example: "id: title\nuse: generate\nprompt: |\n  {{ doc.text }}\n\n  Give the text above a title of at most six words.\nmax_tokens: 24\nstop: [\"\\n\"]\n",
    build,
};

struct Generate {
    prompt: Template,
    system: Option<Template>,
    schema: Option<Value>,
    stop: Vec<String>,
    max_tokens: usize,
}

fn build(cx: &BuildContext<'_>) -> Result<Box<dyn Step>, Vec<OptionFault>> {
    let mut read = Reader::new(cx);
    let schema = match schema::from_options(cx, "schema") {
        Ok(schema) => schema,
        Err(faults) => {
            faults
                .into_iter()
                .for_each(|f| read.fault(&f.path.iter().map(String::as_str).collect::<Vec<_>>(), f.message));
            None
        }
    };
    let system = read.template(&["system"]);
    let stop = read.texts(&["stop"]).into_iter().map(str::to_owned).collect();
    let max_tokens = read.count(&["max_tokens"]).unwrap_or(512);
    let prompt = read.template(&["prompt"]);
    let step = prompt.map(|prompt| Box::new(Generate { prompt, system, schema, stop, max_tokens }) as Box<dyn Step>);
    read.finish(step)
}

impl Step for Generate {
    fn run(&self, cx: &StepContext<'_>) -> Result<StepOutput, StepError> {
        let mut asker = Asker::new(cx)?;
        if let Some(system) = &self.system {
            asker = asker.with_system(render_with(cx, system, &[])?);
        }
        let user = render_with(cx, &self.prompt, &[])?;
        let mut question = Question::new(user.trim().to_owned(), self.max_tokens, asker.sampling());
        question.stop = self.stop.clone();
        if let Some(schema) = &self.schema {
            let scope = schema::Scope::of_document(cx.document);
            let resolved =
                schema::resolve(schema, &scope).map_err(|detail| StepError { reason: Reason::SchemaNotMet, detail })?;
            question.constraint = Constraint::JsonSchema(resolved);
        }
        let coverage = self.coverage(cx, &question.user);
        let answer = asker.ask_one(question)?;
        let cut = answer.finish == FinishReason::Length;
        let mut out = StepOutput { usage: answer.usage, coverage, ..StepOutput::default() };
        out.value = match &self.schema {
            None => json!(answer.text.trim()),
            Some(_) => {
                let salvaged = schema::salvage(&answer.text).ok_or_else(|| StepError {
                    reason: Reason::SchemaNotMet,
                    detail: format!("the answer is no JSON: {}", super::text::clip(answer.text.trim(), 80)),
                })?;
                salvaged.value
            }
        };
        if cut {
            out.partial.push(format!("the answer ran into its limit of {} tokens (`max_tokens`)", self.max_tokens));
        }
        Ok(out)
    }
}

impl Generate {
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
}
