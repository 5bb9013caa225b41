//! `answer`: an answer whose every sentence cites words that stand in a passage, or the word that there is none.
//!
//! Refusal is decided on evidence: first how much of the question the passages cover, then what the model says of
//! whether they hold the answer, against what it says without any. A citation cannot be made up: the decoder may write no
//! quote but one of `quotes`. Read [`quotes`] next, then [`sift`].

mod kind;
mod quotes;
mod sift;

pub use kind::KIND;

use std::collections::BTreeSet;

use serde_json::{Value, json};

use self::quotes::Quotes;
use self::sift::{Said, sift};
use super::ask::{Asker, Question, language_name, render_with};
use super::prompt::{Expression, Template, texts};
use super::{Step, StepContext, StepError, StepOutput, hits, schema};
use crate::corpus::index::{Hit, Language, language_of};
use crate::inference::engine::{ChatDocument, Constraint, FinishReason, Message, Role};

/// Sentences an answer may have.
const MOST_SENTENCES: usize = 4;
const SENTENCE_CHARS: usize = 240;
/// Tokens of an answer: so many sentences with their quotes, in languages that take a token for two letters.
const ANSWER_TOKENS: usize = 1024;

struct Answer {
    from: Expression,
    question: Template,
    cite: bool,
    least_score: f64,
    least_probability: f64,
    keep_unsupported: bool,
    quote_when_nothing_left: bool,
    refusal: Option<Template>,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    NothingFound,
    LowScore,
    Unlikely,
    NothingLeft,
}

impl Refused {
    fn describe(self) -> &'static str {
        match self {
            Self::NothingFound => "no passage was found",
            Self::LowScore => "no passage covers enough of the question",
            Self::Unlikely => "the model does not find the answer in the passages",
            Self::NothingLeft => "no sentence of the answer is supported",
        }
    }
}

impl Step for Answer {
    fn run(&self, cx: &StepContext<'_>) -> Result<StepOutput, StepError> {
        let question = render_with(cx, &self.question, &[])?.trim().to_owned();
        let found = hits::read(cx, &self.from)?;
        let language = language_of(&question).map(Language::code).unwrap_or("en");
        let mut out = StepOutput::default();
        let best = found.iter().map(evidence).fold(0.0, f64::max);
        let mut state = State { question: &question, language, best, probability: None };
        if found.is_empty() {
            return self.refuse(cx, out, &state, Refused::NothingFound);
        }
        if best < self.least_score {
            return self.refuse(cx, out, &state, Refused::LowScore);
        }
        let (asker, read) = self.show(cx, &question, &found, &mut out)?;
        let probability = self.probability(cx, &asker, &question, &mut out)?;
        state.probability = Some(probability);
        if probability < self.least_probability {
            return self.refuse(cx, out, &state, Refused::Unlikely);
        }
        let quotes = Quotes::of(&question, read);
        let said = if self.cite {
            self.cited(&asker, &state, &quotes, &mut out)?
        } else {
            self.free(&asker, &state, &mut out)?
        };
        let mut kept = if self.cite { sift(said, &quotes, &question, self.keep_unsupported, &mut out) } else { said };
        if kept.is_empty() && self.quote_when_nothing_left {
            kept.extend(quotes.best().map(|i| Said {
                text: quotes.text(i).to_owned(),
                quote: Some(i),
                supported: true,
            }));
        }
        if kept.is_empty() {
            return self.refuse(cx, out, &state, Refused::NothingLeft);
        }
        out.value = self.value(&kept, &quotes, &state);
        Ok(out)
    }
}

/// What was said before, where the question is one of a conversation.
fn history(cx: &StepContext<'_>) -> Vec<Message> {
    let turns = cx.names.get("history").and_then(Value::as_array).into_iter().flatten();
    let message = |role, text: &Value| Message { role, content: text.as_str().unwrap_or_default().to_owned() };
    turns.flat_map(|t| [message(Role::User, &t["question"]), message(Role::Assistant, &t["answer"])]).collect()
}

/// What is known while a question is answered.
struct State<'a> {
    question: &'a str,
    language: &'static str,
    best: f64,
    probability: Option<f64>,
}

/// How much a hit speaks for there being an answer, 0 to 1: the words of the question that it holds, or its nearness.
fn evidence(hit: &Hit) -> f64 {
    hit.found.covers.max(hit.found.vectors.map_or(0.0, |(_, cosine)| cosine))
}

impl Answer {
    /// Shows as many passages as fit, the best of them; returns those shown.
    fn show<'a, 'h>(
        &self,
        cx: &'a StepContext<'a>,
        question: &str,
        found: &'h [Hit],
        out: &mut StepOutput,
    ) -> Result<(Asker<'a>, &'h [Hit]), StepError> {
        // No system message of ours: the model's own says how it treats documents.
        let asker = Asker::new(cx)?.with_system(String::new());
        let names = json!({ "question": question, "language_name": "English", "cite": true, "own_knowledge": true });
        let room = asker.room(&texts::render(&texts::ANSWER, &names)?, ANSWER_TOKENS)?;
        const FRAME_TOKENS: usize = 16; // what a template puts around a document
        let mut used = 0;
        let fits = found.iter().take_while(|h| {
            used += asker.generator.count_tokens(&h.passage.text) + FRAME_TOKENS;
            used <= room
        });
        let num_read = fits.count().max(1);
        if num_read < found.len() {
            out.notes.push(format!("read {num_read} of {} passages: the window holds no more", found.len()));
        }
        let read = &found[..num_read];
        let document = |h: &Hit| ChatDocument { title: h.passage.place(), text: h.passage.text.trim().to_owned() };
        let asker = asker.with_documents(read.iter().map(document).collect());
        Ok((asker.with_history(history(cx)), read))
    }

    /// How likely it is that the passages hold the answer: the model's odds with them against its odds without, so that
    /// a model that likes to say yes gains nothing by it.
    fn probability(
        &self,
        cx: &StepContext<'_>,
        asker: &Asker<'_>,
        question: &str,
        out: &mut StepOutput,
    ) -> Result<f64, StepError> {
        let prompt = texts::render(&texts::ANSWERABLE, &json!({ "question": question }))?;
        let (with, used) = asker.odds_of_yes(&prompt)?;
        out.usage += used;
        let none = vec![ChatDocument { title: String::new(), text: "-".into() }];
        let (without, used) = Asker::new(cx)?.with_system(String::new()).with_documents(none).odds_of_yes(&prompt)?;
        out.usage += used;
        Ok(1.0 / (1.0 + (without - with).exp()))
    }

    fn prompt(&self, state: &State<'_>) -> Result<String, StepError> {
        let names = json!({
            "question": state.question, "language_name": language_name(state.language), "cite": self.cite,
            "own_knowledge": self.keep_unsupported,
        });
        Ok(texts::render(&texts::ANSWER, &names)?)
    }

    /// Sentences, each after the words that show it: the decoder can write no others.
    fn cited(
        &self,
        asker: &Asker<'_>,
        state: &State<'_>,
        quotes: &Quotes,
        out: &mut StepOutput,
    ) -> Result<Vec<Said>, StepError> {
        let mut question = Question::new(self.prompt(state)?, ANSWER_TOKENS, asker.sampling());
        let one_of = json!({ "enum": quotes.texts() });
        let quote = if self.keep_unsupported { json!({ "anyOf": [one_of, { "type": "null" }] }) } else { one_of };
        question.constraint = Constraint::JsonSchema(json!({
            "type": "array", "minItems": 1, "maxItems": MOST_SENTENCES,
            "items": {
                "type": "object", "additionalProperties": false, "required": ["quote", "says"],
                "properties": { "quote": quote, "says": { "type": "string", "minLength": 1, "maxLength": SENTENCE_CHARS } },
            },
            "x-guidance": { "whitespace_flexible": false },
        }));
        let answer = asker.ask_one(question)?;
        out.usage += answer.usage;
        let salvaged = schema::salvage(&answer.text);
        if answer.finish == FinishReason::Length {
            out.partial.push(format!("the answer was cut off at {ANSWER_TOKENS} tokens"));
        }
        let items = salvaged.map(|s| s.value).and_then(|v| v.as_array().cloned()).unwrap_or_default();
        let mut said = Vec::new();
        for item in &items {
            let quote = item.get("quote").and_then(Value::as_str).and_then(|q| quotes.find(q));
            let text = item.get("says").and_then(Value::as_str).unwrap_or_default();
            // A string may hold more than one sentence: each stands by the same words, and is held against them.
            let ranges = super::text::sentences(text);
            said.extend(ranges.into_iter().map(|r| Said {
                text: super::text::squeeze(&text[r]),
                quote,
                supported: false,
            }));
        }
        Ok(said)
    }

    fn free(&self, asker: &Asker<'_>, state: &State<'_>, out: &mut StepOutput) -> Result<Vec<Said>, StepError> {
        let answer = asker.ask_one(Question::new(self.prompt(state)?, ANSWER_TOKENS, asker.sampling()))?;
        out.usage += answer.usage;
        if answer.finish == FinishReason::Length {
            out.partial.push(format!("the answer was cut off at {ANSWER_TOKENS} tokens"));
        }
        let text = super::text::squeeze(&answer.text);
        Ok(Some(Said { text, quote: None, supported: false }).filter(|s| !s.text.is_empty()).into_iter().collect())
    }

    fn refuse(
        &self,
        cx: &StepContext<'_>,
        mut out: StepOutput,
        state: &State<'_>,
        why: Refused,
    ) -> Result<StepOutput, StepError> {
        let text = match &self.refusal {
            Some(template) => render_with(cx, template, &[])?.trim().to_owned(),
            None => not_found(state.language).to_owned(),
        };
        out.value = json!({
            "text": text, "cited": text, "state": "abstained", "abstained": true, "because": why.describe(),
            "probability": rounded(state.probability), "best": state.best, "language": state.language,
            "sentences": [], "citations": [],
        });
        Ok(out)
    }

    fn value(&self, kept: &[Said], quotes: &Quotes, state: &State<'_>) -> Value {
        let mut numbers: Vec<usize> = Vec::new(); // quotes in the order they are cited
        let mut cited = Vec::new();
        let mut sentences = Vec::new();
        for said in kept {
            let number = said.quote.map(|quote| match numbers.iter().position(|n| *n == quote) {
                Some(at) => at + 1,
                None => {
                    numbers.push(quote);
                    numbers.len()
                }
            });
            let mark = match number {
                Some(n) => format!(" [{n}]"),
                None if self.cite => " [not in the documents]".into(),
                None => String::new(),
            };
            cited.push(format!("{}{mark}", said.text));
            sentences.push(json!({ "text": said.text, "citation": number, "supported": said.supported }));
        }
        let citations: Vec<Value> =
            numbers.iter().enumerate().map(|(i, quote)| quotes.citation(*quote, i + 1)).collect();
        let places: BTreeSet<&str> = citations.iter().filter_map(|c| c["place"].as_str()).collect();
        json!({
            "text": kept.iter().map(|s| s.text.as_str()).collect::<Vec<_>>().join(" "), "cited": cited.join(" "),
            "state": "answered", "abstained": false, "because": null, "probability": rounded(state.probability),
            "best": state.best, "language": state.language, "sentences": sentences, "citations": citations,
            "places": places,
        })
    }
}

fn rounded(probability: Option<f64>) -> Value {
    json!(probability.map(|p| (p * 1000.0).round() / 1000.0))
}

/// What is said where there is no answer, in the language of the question.
fn not_found(language: &str) -> &'static str {
    static WORDS: &str = include_str!("../../../templates/words/not-found.txt");
    let said = |code: &str| WORDS.lines().find_map(|l| l.strip_prefix(code)?.strip_prefix(' '));
    said(language).or_else(|| said("en")).unwrap_or_default()
}

#[cfg(test)]
mod tests;
