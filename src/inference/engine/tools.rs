//! Functions that a model may call: as its template takes them, the constraint that holds a call to what was declared,
//! and what came back. A call is text that was written: nothing here or above carries it out.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::request::{
    CancelToken, Chat, Completion, Constraint, FinishReason, GenerateError, GenerateRequest, Generator, Prompt, Usage,
};
use crate::inference::sampler::SamplingParams;

const TOOLS_MAX: usize = 64;
const CALLS_MAX: usize = 8; // in one answer
const NAME_CHARS_MAX: usize = 64;

/// Declared functions, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Tools(Vec<Tool>);

#[derive(Clone, Debug, PartialEq)]
struct Tool {
    name: String,
    description: Option<String>,
    parameters: Value, // a JSON Schema of an object
}

/// A function called, and with what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    pub name: String,
    pub arguments: Value,
}

/// Whether the model must call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CallChoice {
    /// It calls or it answers in words.
    #[default]
    Auto,
    /// It calls at least one function.
    Required,
}

/// What is asked, and within which bounds.
#[derive(Clone, Debug)]
pub struct CallRequest {
    pub chat: Chat, // its tools are set here
    pub max_tokens: usize,
    pub sampling: SamplingParams,
    pub stop: Vec<String>, // of an answer in words
    pub cancel: CancelToken,
}

/// Calls, or words where nothing was called.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CallAnswer {
    pub calls: Vec<Call>,
    pub text: String,
    pub finish: FinishReason,
    pub usage: Usage,
}

impl Tools {
    /// Reads a list of functions, each as `{"name", "description", "parameters"}` or that in
    /// `{"type": "function", "function": …}`. The error names the function and the fact.
    pub fn parse(written: &Value) -> Result<Self, String> {
        let list = written.as_array().ok_or("the functions to call are a list")?;
        if list.is_empty() {
            return Err("the list of functions to call is empty".into());
        }
        if list.len() > TOOLS_MAX {
            return Err(format!("there are {} functions to call, more than the limit of {TOOLS_MAX}", list.len()));
        }
        let mut tools: Vec<Tool> = Vec::with_capacity(list.len());
        for (number, written) in (1..).zip(list) {
            let tool = Tool::parse(written).map_err(|fact| format!("function {number}: {fact}"))?;
            if tools.iter().any(|other| other.name == tool.name) {
                return Err(format!("function {number}: the name `{}` is taken", tool.name));
            }
            tools.push(tool);
        }
        Ok(Self(tools))
    }

    /// Returns the definitions as chat templates take them.
    pub fn definitions(&self) -> Vec<Value> {
        let one = |tool: &Tool| {
            let mut function = Map::from_iter([("name".to_owned(), json!(tool.name))]);
            if let Some(description) = &tool.description {
                function.insert("description".into(), json!(description));
            }
            function.insert("parameters".into(), tool.parameters.clone());
            json!({ "type": "function", "function": function })
        };
        self.0.iter().map(one).collect()
    }

    /// Returns what a list of calls must look like: at least `least`, each with the arguments of its own function.
    pub fn constraint(&self, least: usize) -> Constraint {
        let mut definitions = Map::new();
        let mut calls = Vec::new();
        for (index, tool) in self.0.iter().enumerate() {
            let name = format!("function_{index}");
            let root = format!("#/$defs/{name}");
            definitions.insert(name, moved(&tool.parameters, &root));
            calls.push(json!({
                "type": "object",
                "properties": { "name": { "const": tool.name }, "arguments": { "$ref": root } },
                "required": ["name", "arguments"],
                "additionalProperties": false,
            }));
        }
        Constraint::JsonSchema(json!({
            "type": "array", "minItems": least, "maxItems": CALLS_MAX,
            "items": { "anyOf": calls },
            "$defs": definitions,
        }))
    }

    /// Asks for calls. Whether to call at all is the model's choice under [`CallChoice::Auto`]: one that has a token to
    /// begin calls with chooses by writing it or not, any other by an empty list, and then answers in words.
    pub fn ask(
        &self,
        generator: &dyn Generator,
        request: &CallRequest,
        choice: CallChoice,
    ) -> Result<CallAnswer, GenerateError> {
        let chat = Chat { tools: self.definitions(), ..request.chat.clone() };
        let prompt = generator.encode_chat(&chat)?;
        let mut usage = Usage::default();
        let mut least = 1;
        let mark = generator.call_mark();
        if choice == CallChoice::Auto {
            match mark {
                None => least = 0,
                Some(mark) => {
                    let first = one(generator, request.with(prompt.clone(), 1, Constraint::None))?;
                    usage += first.usage;
                    if first.ids.first() != Some(&mark) {
                        return in_words(generator, request, prompt, usage);
                    }
                }
            }
        }
        let opened = Prompt { ids: prompt.ids.iter().copied().chain(mark).collect() };
        let answer = one(generator, request.with(opened, request.max_tokens, self.constraint(least)))?;
        usage += answer.usage;
        let calls = parse_calls(&answer.text).map_err(|fact| GenerateError::Grammar(format!("the calls {fact}")))?;
        if calls.is_empty() && answer.finish != FinishReason::Length {
            return in_words(generator, request, prompt, usage);
        }
        Ok(CallAnswer { calls, text: String::new(), finish: answer.finish, usage })
    }
}

fn in_words(
    generator: &dyn Generator,
    request: &CallRequest,
    prompt: Prompt,
    mut usage: Usage,
) -> Result<CallAnswer, GenerateError> {
    let mut asked = request.with(prompt, request.max_tokens, Constraint::None);
    asked.stop = request.stop.clone();
    let answer = one(generator, asked)?;
    usage += answer.usage;
    Ok(CallAnswer { calls: Vec::new(), text: answer.text.trim().to_owned(), finish: answer.finish, usage })
}

fn one(generator: &dyn Generator, request: GenerateRequest) -> Result<Completion, GenerateError> {
    let missing = || Err(GenerateError::Engine("an answer is missing".into()));
    generator.generate(vec![request]).pop().unwrap_or_else(missing)
}

impl CallRequest {
    fn with(&self, prompt: Prompt, max_tokens: usize, constraint: Constraint) -> GenerateRequest {
        let (sampling, cancel) = (self.sampling.clone(), self.cancel.clone());
        GenerateRequest { prompt, max_tokens, sampling, stop: Vec::new(), constraint, cancel }
    }
}

impl Tool {
    fn parse(written: &Value) -> Result<Self, String> {
        let function = match (written.get("type"), written.get("function")) {
            (Some(kind), Some(function)) if kind == "function" => {
                only(written, &["type", "function"])?;
                function
            }
            (None, None) => written,
            _ => return Err("it is no function: `type` is to be \"function\", beside `function`".into()),
        };
        if !function.is_object() {
            return Err("a function is an object with a name, a description and parameters".into());
        }
        only(function, &["name", "description", "parameters", "strict"])?;
        let name = function.get("name").and_then(Value::as_str).ok_or("it has no name")?;
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if name.is_empty() || name.len() > NAME_CHARS_MAX || !name.chars().all(is_part) {
            return Err(format!(
                "a name has 1 to {NAME_CHARS_MAX} letters, digits, `_`, `-` and `.`, and this is `{name}`"
            ));
        }
        let description = match function.get("description") {
            None => None,
            Some(Value::String(text)) => Some(text.clone()),
            Some(_) => return Err(format!("the description of `{name}` is no text")),
        };
        let parameters = match function.get("parameters") {
            None => json!({ "properties": {} }),
            Some(Value::Object(schema)) => Value::Object(schema.clone()),
            Some(_) => return Err(format!("the parameters of `{name}` are no JSON Schema of an object")),
        };
        let parameters = closed(parameters).map_err(|fact| format!("the parameters of `{name}` {fact}"))?;
        Ok(Self { name: name.to_owned(), description, parameters })
    }
}

fn only(written: &Value, known: &[&str]) -> Result<(), String> {
    let unknown = written.as_object().into_iter().flatten().find(|(key, _)| !known.contains(&key.as_str()));
    match unknown {
        Some((key, _)) => Err(format!("the key `{key}` is unknown; known are {}", known.join(", "))),
        None => Ok(()),
    }
}

/// The parameters of a function are an object, and those that are declared and no others.
fn closed(mut schema: Value) -> Result<Value, String> {
    match schema.get("type") {
        None => schema["type"] = json!("object"),
        Some(kind) if kind == "object" => {}
        Some(kind) => return Err(format!("have the type {kind}, and an object is needed")),
    }
    let is_open = ["additionalProperties", "patternProperties", "unevaluatedProperties"];
    if is_open.iter().all(|key| schema.get(*key).is_none()) {
        schema["additionalProperties"] = json!(false);
    }
    Ok(schema)
}

/// Returns a schema that is to stand at `root` of another, its own references along.
fn moved(schema: &Value, root: &str) -> Value {
    match schema {
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| match value.as_str().and_then(|r| r.strip_prefix('#')) {
                Some(inside) if key == "$ref" => (key.clone(), json!(format!("{root}{inside}"))),
                _ => (key.clone(), moved(value, root)),
            })
            .collect::<Map<_, _>>()
            .into(),
        Value::Array(list) => list.iter().map(|item| moved(item, root)).collect(),
        other => other.clone(),
    }
}

/// Reads a list of calls; of one that was cut off, the calls that are whole.
fn parse_calls(text: &str) -> Result<Vec<Call>, String> {
    let mut rest = text.trim().strip_prefix('[').ok_or("are no list")?.trim_start();
    let mut calls = Vec::new();
    while !rest.is_empty() && !rest.starts_with(']') {
        let mut read = serde_json::Deserializer::from_str(rest).into_iter::<Call>();
        match read.next() {
            Some(Ok(call)) => calls.push(call),
            Some(Err(error)) if !error.is_eof() => return Err(format!("are no JSON: {error}")),
            _ => break, // cut off
        }
        rest = rest[read.byte_offset()..].trim_start().trim_start_matches(',').trim_start();
    }
    Ok(calls)
}

#[cfg(test)]
#[path = "tools_tests.rs"]
mod tests;
