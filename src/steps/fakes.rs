//! Documents and a generator for the tests of this room.

use std::path::PathBuf;
use std::sync::Mutex;

use serde_json::{Value, json};

use super::{GenerationDefaults, Step, StepContext, StepError, StepOutput};
use crate::corpus::document::{Document, Format, Turn};
use crate::ids::{TokenId, TurnId};
use crate::inference::engine::{
    CancelToken, Chat, Completion, FinishReason, GenerateError, GenerateRequest, Generator, ModelCard, Prompt,
    ScoreRequest, Usage,
};

/// A transcript, a second of silence between turns of ten seconds each.
pub fn meeting(turns: &[(&str, &str)]) -> Document {
    let mut document = plain("");
    document.format = Format::Transcript;
    for (i, (speaker, words)) in turns.iter().enumerate() {
        let start = document.text.len();
        document.text.push_str(words);
        let range = start..document.text.len();
        document.text.push('\n');
        let start_ms = i as u64 * 11_000;
        document.turns.push(Turn {
            id: TurnId(i as u32 + 1),
            speaker: Some((*speaker).to_string()).filter(|s| !s.is_empty()),
            start_ms: Some(start_ms),
            end_ms: Some(start_ms + 10_000),
            range: range.clone(),
            source: range,
        });
    }
    document
}

pub fn plain(text: &str) -> Document {
    Document { path: PathBuf::from("notes/weekly.txt"), sha256: "00".into(), ..Document::of(Format::Text, text.into()) }
}

type Answer = dyn Fn(&str, &GenerateRequest) -> Result<(String, FinishReason), GenerateError> + Send + Sync;
type Odds = dyn Fn(&str, &str) -> f32 + Send + Sync;

/// Answers by a function of the prompt's text. A token is a byte, so that prompts can be read back.
pub struct Fake {
    card: ModelCard,
    answer: Box<Answer>,
    odds: Box<Odds>,
    pub prompts: Mutex<Vec<String>>,
}

impl Fake {
    pub fn answering(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        Self::new(move |prompt, _| Ok((answer(prompt), FinishReason::Stop)))
    }

    pub fn new(
        answer: impl Fn(&str, &GenerateRequest) -> Result<(String, FinishReason), GenerateError> + Send + Sync + 'static,
    ) -> Self {
        let card = ModelCard { name: "fake".into(), digest: "0".into(), window: 40_000 };
        Self { card, answer: Box::new(answer), odds: Box::new(|_, _| -1.0), prompts: Mutex::default() }
    }

    /// The log-probability of a continuation's every token after a prompt.
    pub fn with_odds(mut self, odds: impl Fn(&str, &str) -> f32 + Send + Sync + 'static) -> Self {
        self.odds = Box::new(odds);
        self
    }

    pub fn with_window(mut self, window: usize) -> Self {
        self.card.window = window;
        self
    }
}

fn text_of(ids: &[TokenId]) -> String {
    String::from_utf8(ids.iter().map(|&i| i as u8).collect()).unwrap()
}

impl Generator for Fake {
    fn card(&self) -> &ModelCard {
        &self.card
    }

    fn encode_chat(&self, chat: &Chat) -> Result<Prompt, GenerateError> {
        let documents = chat.documents.iter().map(|d| d.text.as_str());
        let messages: Vec<&str> = documents.chain(chat.messages.iter().map(|m| m.content.as_str())).collect();
        Ok(Prompt {
            ids: self.encode_text(&format!("{}\n<answer>{}", messages.join("\n---\n"), chat.assistant_prefix)),
        })
    }

    fn encode_text(&self, text: &str) -> Vec<TokenId> {
        text.bytes().map(TokenId::from).collect()
    }

    fn token_ends(&self, text: &str) -> Vec<usize> {
        (1..=text.len()).collect()
    }

    fn generate(&self, requests: Vec<GenerateRequest>) -> Vec<Result<Completion, GenerateError>> {
        let one = |request: GenerateRequest| {
            let prompt = text_of(&request.prompt.ids);
            self.prompts.lock().unwrap().push(prompt.clone());
            let (text, finish) = (self.answer)(&prompt, &request)?;
            let usage = Usage { prompt_tokens: prompt.len(), cached_tokens: 0, completion_tokens: text.len() };
            Ok(Completion { ids: self.encode_text(&text), text, finish, usage })
        };
        requests.into_iter().map(one).collect()
    }

    fn score(&self, request: ScoreRequest) -> Result<Vec<Vec<f32>>, GenerateError> {
        let prompt = text_of(&request.prompt.ids);
        self.prompts.lock().unwrap().push(prompt.clone());
        Ok(request.continuations.iter().map(|c| vec![(self.odds)(&prompt, &text_of(c)); c.len()]).collect())
    }
}

/// Builds a step from options in their normal form and runs it on a document.
pub fn run(
    kind: &super::StepKind,
    options: Value,
    document: &Document,
    generator: &Fake,
) -> Result<StepOutput, StepError> {
    let step = build(kind, options).unwrap_or_else(|faults| panic!("{faults:?}"));
    let names = json!({ "doc": document.doc_value(), "params": {}, "steps": {}, "run": {} });
    run_with(step.as_ref(), &names, document, generator)
}

pub fn build(kind: &super::StepKind, options: Value) -> Result<Box<dyn Step>, Vec<super::OptionFault>> {
    (kind.build)(&super::BuildContext {
        id: "it",
        options: &options,
        schemas: &Default::default(),
        indexes: &["library".to_owned()],
        read_file: &|path| Err(format!("{path}: not found")),
    })
}

pub fn run_with(
    step: &dyn Step,
    names: &Value,
    document: &Document,
    generator: &Fake,
) -> Result<StepOutput, StepError> {
    step.run(&StepContext {
        document,
        names,
        generator: Some(generator),
        defaults: &GenerationDefaults::default(),
        cancel: &CancelToken::default(),
        progress: &|_, _| {},
        library: None,
    })
}
