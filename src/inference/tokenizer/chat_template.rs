//! Renders conversations with the model's own chat template. The template may be hostile: it gets fuel, a depth and
//! an output limit, no clock, no file, and never the words of a message.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::civil::{Date, Time};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Error, ErrorKind, Value};
use serde_json::json;

use super::chat::{Chat, ChatDocument, Role};
use super::content_marks::{ContentMarks, is_mark};
use super::deep_stack::{DeepStackFault, on_deep_stack};
use super::rendered::{Piece, Rendered};
use super::template_json::tojson;

/// The longest template in common use has 14 KB.
const TEMPLATE_BYTES_MAX: usize = 64 << 10;
/// Of the template's own words; messages are limited by the window, not here.
const OUTPUT_BYTES_MAX: usize = 4 << 20;
const RECURSION_MAX: usize = 200;
/// One unit is an instruction or 64 bytes. A message costs the longest common template about 400.
const FUEL: u64 = 100_000;
const FUEL_PER_ITEM: u64 = 2_000;
const CONTROLS_BYTES_MAX: usize = 64 << 10;
const TOOLS_BYTES_MAX: usize = 256 << 10;

/// A conversation takes about a millisecond. Only values that hold themselves many times over get past the fuel, when
/// they are compared or joined as text: minijinja charges for a value after it is written. Such a template is left behind
/// on its thread, once, and what memory it takes there is not bounded.
const TIME_MAX: Duration = Duration::from_millis(1500);

const NAME: &str = "chat template";

/// A chat template, parsed and ready. Immutable; used from any number of threads at once.
///
/// Differences from the reference (Jinja2 with the hub's helpers), all so that the words of messages and documents stay
/// data: a template sees stand-ins for them, so a test of what a message *contains*, its length or a replacement
/// inside it does not see its words. `trim`, `strip`, joining, `| string` and `tojson` work as in the reference.
pub struct ChatTemplate {
    env: Environment<'static>,
    bos: String,
    eos: String,
    takes_documents: bool,
    takes_titles: bool,
    takes_tools: bool,
    /// A rendering did not end: its thread goes on and cannot be stopped, so there is to be no second one.
    is_stuck: AtomicBool,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error("the chat template has {found} bytes, more than the limit of {limit}")]
    TooLarge { found: usize, limit: usize },
    #[error("the chat template cannot be parsed: {0}")]
    Syntax(String),
    #[error("the chat template holds characters kept for stand-ins (U+10FF00 to U+10FF3F)")]
    ReservedCharacters,
    #[error("the chat template failed: {0}")]
    Failed(String),
    #[error("the chat template did more than {limit} units of work (the limit named fuel)")]
    OutOfFuel { limit: u64 },
    #[error("the chat template wrote more than {limit} bytes of its own")]
    OutputTooLarge { limit: usize },
    #[error("the chat template cannot be used with text kept as data: {0}")]
    CutsText(String),
    #[error("the chat template did not end the last time, and is not tried again")]
    Stuck,
    #[error("the controls hold {0}")]
    BadControls(String),
    #[error("the functions to call hold {0}")]
    BadTools(String),
    #[error("there are documents, the chat template takes none, and no user message can carry them")]
    NowhereForDocuments,
}

impl ChatTemplate {
    /// Parses `source`. `bos` and `eos` are the texts that it knows as `bos_token` and `eos_token`.
    pub fn new(source: &str, bos: &str, eos: &str) -> Result<Self, TemplateError> {
        if source.len() > TEMPLATE_BYTES_MAX {
            return Err(TemplateError::TooLarge { found: source.len(), limit: TEMPLATE_BYTES_MAX });
        }
        if [source, bos, eos].iter().any(|text| text.contains(is_mark)) {
            return Err(TemplateError::ReservedCharacters);
        }
        let owned = source.to_owned();
        let parsed = on_deep_stack(TIME_MAX, move || {
            let mut env = environment()?;
            env.add_template_owned(NAME, owned)?;
            let names = env.get_template(NAME)?.undeclared_variables(false);
            Ok((env, names))
        });
        let (env, names) = parsed
            .map_err(|fault| TemplateError::Syntax(fault.to_string()))?
            .map_err(|error: Error| TemplateError::Syntax(describe(&error)))?;
        Ok(Self {
            env,
            bos: bos.to_owned(),
            eos: eos.to_owned(),
            takes_documents: names.contains("documents"),
            takes_titles: source.contains("title"),
            takes_tools: names.contains("tools"),
            is_stuck: AtomicBool::new(false),
        })
    }

    /// Returns the built-in template in Granite 3.1's role format, for `granite` and `granitemoe` models that carry
    /// none: roles between `<|start_of_role|>` and `<|end_of_role|>`, documents before the conversation, controls in
    /// the assistant's role. Its system message is our own wording.
    pub fn granite(bos: &str, eos: &str) -> Result<Self, TemplateError> {
        Self::new(include_str!("granite.jinja"), bos, eos)
    }

    /// Returns whether documents are rendered by the template's own protocol.
    pub fn takes_documents(&self) -> bool {
        self.takes_documents
    }

    /// Returns whether functions to call are rendered by the template's own protocol.
    pub fn takes_tools(&self) -> bool {
        self.takes_tools
    }

    /// Renders the conversation up to the opening of the assistant's turn, and `assistant_prefix` after it.
    /// `strftime_now` in the template answers from `date`, at midnight.
    ///
    /// A template that takes no documents has them put before the first user message's own words, each as
    /// `Document N: TITLE`, a line break, its text and an empty line. One that takes documents without their titles
    /// gets a title as the first line of its text. One that takes no tools has them told in the system message.
    pub fn render(&self, chat: &Chat, date: Date) -> Result<Rendered, TemplateError> {
        if self.is_stuck.load(Ordering::Relaxed) {
            return Err(TemplateError::Stuck);
        }
        let mut marks = ContentMarks::default();
        let context = self.context(chat, &mut marks)?;
        let items = chat.messages.len() + chat.documents.len() + chat.tools.len();
        let fuel = FUEL + FUEL_PER_ITEM * items as u64;
        let env = self.env.clone();
        let text = on_deep_stack(TIME_MAX, move || run(env, context, date, fuel)).map_err(|fault| {
            if matches!(fault, DeepStackFault::TimedOut(_)) {
                self.is_stuck.store(true, Ordering::Relaxed);
            }
            TemplateError::Failed(fault.to_string())
        })??;
        let revealed = marks.reveal(&text, OUTPUT_BYTES_MAX);
        let mut pieces = revealed.map_err(|fault| TemplateError::CutsText(fault.to_string()))?;
        pieces.push(Piece::Data(chat.assistant_prefix.clone()));
        Ok(Rendered { pieces })
    }

    /// What the template sees: the names of the hub's `apply_chat_template`.
    fn context(&self, chat: &Chat, marks: &mut ContentMarks) -> Result<serde_json::Value, TemplateError> {
        let carrier = match chat.documents.is_empty() || self.takes_documents {
            true => None,
            false => Some(self.carrier(chat)?),
        };
        let told = (!chat.tools.is_empty() && !self.takes_tools).then(|| plain_tools(&chat.tools));
        let has_system = chat.messages.first().is_some_and(|message| message.role == Role::System);
        let mut messages: Vec<_> = (0..)
            .zip(&chat.messages)
            .map(|(index, message)| {
                let content = match (carrier == Some(index), &told) {
                    (true, _) => plain_documents(&chat.documents) + &message.content,
                    (false, Some(told)) if index == 0 && has_system => format!("{}\n\n{told}", message.content),
                    (false, _) => message.content.clone(),
                };
                json!({ "role": message.role, "content": marks.hide(&content) })
            })
            .collect();
        if let Some(told) = told.filter(|_| !has_system) {
            messages.insert(0, json!({ "role": Role::System, "content": marks.hide(&told) }));
        }
        let mut context = json!({
            "messages": messages,
            "add_generation_prompt": true,
            "bos_token": self.bos,
            "eos_token": self.eos,
            "tools": null,
            "documents": null,
        });
        if self.takes_documents && !chat.documents.is_empty() {
            context["documents"] = (1..).zip(&chat.documents).map(|(id, doc)| self.document(id, doc, marks)).collect();
        }
        if self.takes_tools && !chat.tools.is_empty() {
            let tools = serde_json::Value::Array(chat.tools.clone());
            self.check_data(&tools, TOOLS_BYTES_MAX).map_err(TemplateError::BadTools)?;
            context["tools"] = tools;
        }
        if let Some(controls) = &chat.controls {
            self.check_data(controls, CONTROLS_BYTES_MAX).map_err(TemplateError::BadControls)?;
            context["controls"] = controls.clone();
        }
        Ok(context)
    }

    fn carrier(&self, chat: &Chat) -> Result<usize, TemplateError> {
        let first = chat.messages.iter().position(|message| message.role == Role::User);
        first.ok_or(TemplateError::NowhereForDocuments)
    }

    fn document(&self, id: usize, document: &ChatDocument, marks: &mut ContentMarks) -> serde_json::Value {
        let ChatDocument { title, text } = document;
        let text = match self.takes_titles || title.is_empty() {
            true => marks.hide(text),
            false => marks.hide(&format!("{title}\n{text}")),
        };
        json!({ "doc_id": id, "title": marks.hide(title), "text": text })
    }

    /// Controls and tools are the author's, and shown to the template as they are: so they may hold no markup.
    fn check_data(&self, data: &serde_json::Value, bytes_max: usize) -> Result<(), String> {
        let text = data.to_string();
        if text.len() > bytes_max {
            Err(format!("more than {bytes_max} bytes"))
        } else if text.contains("<|") || text.contains(is_mark) {
            Err("text that looks like markup (`<|`) or private-use characters".into())
        } else if [&self.bos, &self.eos].iter().any(|token| !token.is_empty() && text.contains(token.as_str())) {
            Err("a special token".into())
        } else {
            Ok(())
        }
    }
}

fn run(
    mut env: Environment<'static>,
    context: serde_json::Value,
    date: Date,
    fuel: u64,
) -> Result<String, TemplateError> {
    env.set_fuel(Some(fuel));
    env.add_function("strftime_now", move |format: &str| {
        jiff::fmt::strtime::format(format, date.to_datetime(Time::midnight())).map_err(|e| refusal(e.to_string()))
    });
    let mut out = Limited { text: Vec::new(), over: false };
    let template = env.get_template(NAME).map_err(|error| TemplateError::Syntax(describe(&error)))?;
    let result = template.render_captured_to(Value::from(Serde(context)), &mut out).map(drop);
    match result {
        Ok(()) => String::from_utf8(out.text).map_err(|e| TemplateError::Failed(e.to_string())),
        Err(_) if out.over => Err(TemplateError::OutputTooLarge { limit: OUTPUT_BYTES_MAX }),
        Err(error) if out_of_fuel(&error) => Err(TemplateError::OutOfFuel { limit: fuel }),
        Err(error) => Err(TemplateError::Failed(describe(&error))),
    }
}

fn environment() -> Result<Environment<'static>, Error> {
    let mut env = Environment::new();
    env.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    env.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    env.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    env.set_recursion_limit(RECURSION_MAX);
    env.set_fuel(Some(FUEL));
    env.add_filter("tojson", tojson);
    env.add_function("raise_exception", |message: String| -> Result<Value, Error> { Err(refusal(message)) });
    Ok(env)
}

fn refusal(message: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

fn plain_documents(documents: &[ChatDocument]) -> String {
    let one = |(number, ChatDocument { title, text }): (usize, &ChatDocument)| match title.is_empty() {
        true => format!("Document {number}\n{text}\n\n"),
        false => format!("Document {number}: {title}\n{text}\n\n"),
    };
    (1..).zip(documents).map(one).collect()
}

/// What a model is told of functions by a template that has no words for them.
fn plain_tools(tools: &[serde_json::Value]) -> String {
    let lines: Vec<String> = tools.iter().map(|tool| tool.get("function").unwrap_or(tool).to_string()).collect();
    format!(
        "These functions can be called:\n{}\nTo call functions, answer with a JSON list of calls, each as \
         {{\"name\": …, \"arguments\": {{…}}}}, and nothing else.",
        lines.join("\n")
    )
}

fn out_of_fuel(error: &Error) -> bool {
    let mut source: Option<&dyn std::error::Error> = Some(error);
    while let Some(current) = source {
        if current.downcast_ref::<Error>().is_some_and(|e| e.kind() == ErrorKind::OutOfFuel) {
            return true;
        }
        source = current.source();
    }
    false
}

/// One line: the fact, and the line of the template.
fn describe(error: &Error) -> String {
    let fact = match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    };
    let fact = super::fault::brief(&fact);
    error.line().map(|line| format!("line {line}: {fact}")).unwrap_or(fact)
}

/// Takes what the template writes until there is too much of it.
struct Limited {
    text: Vec<u8>,
    over: bool,
}

impl io::Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.text.len() + bytes.len() > OUTPUT_BYTES_MAX {
            self.over = true;
            return Err(io::Error::other("over the output limit"));
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[path = "chat_template_tests.rs"]
mod tests;
