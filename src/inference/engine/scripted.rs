//! A [`Generator`] that answers from a script: for tests, demonstrations and dry runs. Knows no model.
//!
//! The script is JSON: a list of rules, or `{"name", "window", "rules", "default"}`. The first rule whose `when` fits the
//! rendered prompt answers.
//!
//! ```json
//! [
//!   {"when": "action items", "answer": {"items": []}},
//!   {"when": "/(?i)summar(y|ize)/", "answer": ["first call", "second and later calls"], "delay_ms": 20},
//!   {"when": "too long", "answer": "cut off he", "finish": "length"},
//!   {"when": "broken", "error": "the engine lost its thread"},
//!   {"when": "Is it a complaint?", "scores": {"yes": 0.9, "no": 0.1}}
//! ]
//! ```
//!
//! `when` is a part of the prompt, or a regular expression between slashes; without it a rule fits always. An `answer`
//! that is text is given as it is, any other value as JSON; of a list the next one each time, the last one for ever
//! (an answer that is itself a list stands in a list). Under a Lark grammar JSON is written as grammars have it, with a
//! blank after `,` and `:`. An answer must satisfy the request's constraint, or the call
//! fails. `scores` are probabilities of continuations, blanks at their ends aside; others are equally likely.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use regex::Regex;
use serde::Deserialize;
use serde_json::Value;

use super::scripted_tokens::PieceTable;
use super::{
    CancelToken, Chat, Completion, Constraint, FinishReason, GenerateError, GenerateRequest, Generator, ModelCard,
    Prompt, Role, ScoreRequest, Usage,
};
use crate::ids::TokenId;
use crate::inference::grammar::check_text;

const WINDOW: usize = 8192;
const FILE_BYTES_MAX: u64 = 16 << 20;
const DELAY_MS_MAX: u64 = 24 * 60 * 60 * 1000;
const CANCEL_CHECK: Duration = Duration::from_millis(5);

/// Answers from a script. Its tokens are words and punctuation marks, and can always be turned back into their text.
pub struct Scripted {
    card: ModelCard,
    rules: Vec<Rule>,
    pieces: PieceTable,
}

/// A script that cannot be used: where, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {fact}")]
pub struct ScriptError {
    pub place: String, // the file, or "script", and the rule: `answers.json: rule 2`
    pub fact: String,
}

struct Rule {
    number: usize, // 1-based; 0 is the default
    when: When,
    answers: Vec<String>, // empty where the rule only scores or fails
    next: AtomicUsize,
    delay: Duration,
    finish: Option<FinishReason>,
    error: Option<String>,
    scores: HashMap<String, f32>, // probabilities
}

enum When {
    Always,
    Holds(String),
    Matches(Regex),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScriptEntry {
    #[serde(default = "default_name")]
    name: String,
    #[serde(default = "default_window")]
    window: usize,
    #[serde(default)]
    rules: Vec<Value>,
    default: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleEntry {
    when: Option<String>,
    answer: Option<Value>,
    #[serde(default)]
    delay_ms: u64,
    finish: Option<FinishReason>,
    error: Option<String>,
    #[serde(default)]
    scores: HashMap<String, f32>,
}

fn default_name() -> String {
    "scripted".into()
}

fn default_window() -> usize {
    WINDOW
}

impl Scripted {
    pub fn from_file(path: &Path) -> Result<Self, ScriptError> {
        let place = path.display().to_string();
        let fault = |fact: String| ScriptError { place: place.clone(), fact };
        let size = std::fs::metadata(path).map_err(|e| fault(format!("cannot be read: {e}")))?.len();
        if size > FILE_BYTES_MAX {
            return Err(fault(format!("has {size} bytes, more than the limit of {FILE_BYTES_MAX}")));
        }
        let bytes = std::fs::read(path).map_err(|e| fault(format!("cannot be read: {e}")))?;
        let script = serde_json::from_slice(&bytes).map_err(|e| fault(format!("is not JSON: {e}")))?;
        Self::build(script, &place)
    }

    pub fn from_value(script: Value) -> Result<Self, ScriptError> {
        Self::build(script, "script")
    }

    fn build(script: Value, place: &str) -> Result<Self, ScriptError> {
        let fault = |fact: String| ScriptError { place: place.to_owned(), fact };
        let digest = blake3::hash(script.to_string().as_bytes()).to_hex().to_string();
        let entry: ScriptEntry = match script {
            Value::Array(rules) => ScriptEntry { name: default_name(), window: WINDOW, rules, default: None },
            other => serde_json::from_value(other).map_err(|e| fault(e.to_string()))?,
        };
        let mut rules = Vec::new();
        for (number, rule) in (1..).zip(entry.rules) {
            let place = format!("{place}: rule {number}");
            rules.push(Rule::build(number, rule).map_err(|fact| ScriptError { place, fact })?);
        }
        if let Some(answer) = entry.default {
            let rule = serde_json::json!({ "answer": answer });
            rules.push(Rule::build(0, rule).map_err(|fact| fault(format!("default: {fact}")))?);
        }
        let card = ModelCard { name: entry.name, digest, window: entry.window };
        Ok(Self { card, rules, pieces: PieceTable::default() })
    }

    /// Returns the text that tokens of this script stand for.
    pub fn text_of(&self, ids: &[TokenId]) -> String {
        self.pieces.text(ids)
    }

    fn rule_for(&self, prompt: &str, can: impl Fn(&Rule) -> bool) -> Result<&Rule, GenerateError> {
        let fitting = self.rules.iter().find(|rule| can(rule) && rule.when.fits(prompt));
        fitting.ok_or_else(|| {
            let start: String = prompt.chars().take(120).flat_map(char::escape_debug).collect();
            GenerateError::NoScriptedAnswer(start)
        })
    }

    fn answer(&self, request: &GenerateRequest, started: Instant) -> Result<Completion, GenerateError> {
        let prompt_tokens = request.prompt.ids.len();
        if prompt_tokens == 0 {
            return Err(GenerateError::EmptyPrompt);
        }
        let (window, max_tokens) = (self.card.window, request.max_tokens);
        if prompt_tokens.saturating_add(max_tokens) > window {
            return Err(GenerateError::OverWindow { prompt: prompt_tokens, max_tokens, window });
        }
        request.cancel.check()?;
        let prompt = self.pieces.text(&request.prompt.ids);
        let rule = self.rule_for(&prompt, |rule| rule.error.is_some() || !rule.answers.is_empty())?;
        wait_until(started + rule.delay, &request.cancel)?;
        if let Some(error) = &rule.error {
            return Err(GenerateError::Engine(error.clone()));
        }
        let answer = rule.next_answer();
        let as_written = matches!(request.constraint, Constraint::Lark(_)).then(|| spaced(answer)).flatten();
        let (text, finish) = self.cut(as_written.as_deref().unwrap_or(answer), request);
        let finish = rule.finish.unwrap_or(finish);
        if finish == FinishReason::Stop {
            check_text(&request.constraint, &text).map_err(|error| {
                GenerateError::Grammar(format!("the scripted answer of {} does not fit: {error}", rule.name()))
            })?;
        }
        let ids = self.pieces.ids(&text);
        let usage = Usage { prompt_tokens, cached_tokens: 0, completion_tokens: ids.len() };
        Ok(Completion { ids, text, finish, usage })
    }

    /// Ends the answer before a stop string and at the token limit, whichever comes first.
    fn cut(&self, answer: &str, request: &GenerateRequest) -> (String, FinishReason) {
        let stops = request.stop.iter().filter(|stop| !stop.is_empty()).filter_map(|stop| answer.find(stop.as_str()));
        let (text, finish) = match stops.min() {
            Some(at) => (&answer[..at], FinishReason::StopString),
            None => (answer, FinishReason::Stop),
        };
        match PieceTable::ends(text).get(request.max_tokens..) {
            None | Some([]) => (text.to_owned(), finish),
            Some(_) => {
                let ids = self.pieces.ids(text);
                (self.pieces.text(&ids[..request.max_tokens]), FinishReason::Length)
            }
        }
    }
}

impl Generator for Scripted {
    fn card(&self) -> &ModelCard {
        &self.card
    }

    /// Renders each role on a line of its own in square brackets, tools and documents before the messages.
    fn encode_chat(&self, chat: &Chat) -> Result<Prompt, GenerateError> {
        let mut text = String::new();
        for tool in &chat.tools {
            text += &format!("[tool] {tool}\n");
        }
        for document in &chat.documents {
            text += &format!("[document] {}\n{}\n", document.title, document.text);
        }
        for message in &chat.messages {
            let role = match message.role {
                Role::System => "system",
                Role::User => "user",
                Role::Assistant => "assistant",
            };
            text += &format!("[{role}]\n{}\n", message.content);
        }
        text += &format!("[assistant]\n{}", chat.assistant_prefix);
        Ok(Prompt { ids: self.pieces.ids(&text) })
    }

    fn encode_text(&self, text: &str) -> Vec<TokenId> {
        self.pieces.ids(text)
    }

    fn token_ends(&self, text: &str) -> Vec<usize> {
        PieceTable::ends(text)
    }

    /// Delays run side by side, as in a batch.
    fn generate(&self, requests: Vec<GenerateRequest>) -> Vec<Result<Completion, GenerateError>> {
        let started = Instant::now();
        requests.iter().map(|request| self.answer(request, started)).collect()
    }

    /// The whole probability of a continuation stands on its first token.
    fn score(&self, request: ScoreRequest) -> Result<Vec<Vec<f32>>, GenerateError> {
        if request.prompt.ids.is_empty() {
            return Err(GenerateError::EmptyPrompt);
        }
        request.cancel.check()?;
        let prompt = self.pieces.text(&request.prompt.ids);
        let rule = self.rule_for(&prompt, |rule| !rule.scores.is_empty()).ok();
        if let Some(rule) = rule {
            wait_until(Instant::now() + rule.delay, &request.cancel)?;
        }
        let equal = 1.0 / request.continuations.len() as f32;
        let score = |continuation: &Vec<TokenId>| {
            let text = self.pieces.text(continuation);
            let given = rule.and_then(|rule| rule.scores.get(text.trim()));
            let mut scores = vec![0.0; continuation.len()];
            if let Some(first) = scores.first_mut() {
                *first = given.copied().unwrap_or(equal).ln();
            }
            scores
        };
        Ok(request.continuations.iter().map(score).collect())
    }
}

impl Rule {
    fn build(number: usize, rule: Value) -> Result<Self, String> {
        let entry: RuleEntry = serde_json::from_value(rule).map_err(|e| e.to_string())?;
        if entry.answer.is_none() && entry.error.is_none() && entry.scores.is_empty() {
            return Err("has no answer, no error and no scores".into());
        }
        if let Some((text, p)) = entry.scores.iter().find(|(_, p)| !(0.0..=1.0).contains(*p)) {
            return Err(format!("the probability of \"{text}\" is {p}, but must be from 0 to 1"));
        }
        if entry.delay_ms > DELAY_MS_MAX {
            return Err(format!("delay_ms is {}, more than the limit of {DELAY_MS_MAX}", entry.delay_ms));
        }
        let answers = match entry.answer {
            None => Vec::new(),
            Some(Value::Array(list)) if list.is_empty() => return Err("its list of answers is empty".into()),
            Some(Value::Array(list)) => list.iter().map(as_text).collect(),
            Some(one) => vec![as_text(&one)],
        };
        Ok(Self {
            number,
            when: When::parse(entry.when)?,
            answers,
            next: AtomicUsize::new(0),
            delay: Duration::from_millis(entry.delay_ms),
            finish: entry.finish,
            error: entry.error,
            scores: entry.scores,
        })
    }

    fn name(&self) -> String {
        if self.number == 0 { "the default".into() } else { format!("rule {}", self.number) }
    }

    fn next_answer(&self) -> &str {
        let turn = self.next.fetch_add(1, Ordering::Relaxed).min(self.answers.len() - 1);
        &self.answers[turn]
    }
}

impl When {
    fn parse(when: Option<String>) -> Result<Self, String> {
        let Some(text) = when else { return Ok(Self::Always) };
        match text.strip_prefix('/').and_then(|rest| rest.strip_suffix('/')) {
            Some(pattern) if !pattern.is_empty() => {
                Regex::new(pattern).map(Self::Matches).map_err(|e| format!("`when` is no regular expression: {e}"))
            }
            _ => Ok(Self::Holds(text)),
        }
    }

    fn fits(&self, prompt: &str) -> bool {
        match self {
            Self::Always => true,
            Self::Holds(text) => prompt.contains(text.as_str()),
            Self::Matches(regex) => regex.is_match(prompt),
        }
    }
}

/// JSON as grammars have it, with a blank after `,` and `:`; `None` where a text is none.
fn spaced(text: &str) -> Option<String> {
    fn write(value: &Value) -> String {
        match value {
            Value::Array(items) => format!("[{}]", items.iter().map(write).collect::<Vec<_>>().join(", ")),
            Value::Object(members) => {
                let member =
                    |(name, value): (&String, &Value)| format!("{}: {}", Value::from(name.as_str()), write(value));
                format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(", "))
            }
            other => other.to_string(),
        }
    }
    serde_json::from_str(text).ok().map(|value| write(&value))
}

fn as_text(answer: &Value) -> String {
    answer.as_str().map(str::to_owned).unwrap_or_else(|| answer.to_string())
}

fn wait_until(end: Instant, cancel: &CancelToken) -> Result<(), GenerateError> {
    loop {
        cancel.check()?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        sleep(left.min(CANCEL_CHECK));
    }
}

#[cfg(test)]
#[path = "scripted_tests.rs"]
mod tests;
