//! What is asked of the engine and what comes back. The contract between steps and whatever thinks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::ids::TokenId;
use crate::inference::sampler::SamplingParams;

// Owned by the rooms that consume them, so that nothing there imports the engine.
pub use crate::inference::grammar::Constraint;
pub use crate::inference::tokenizer::{Chat, ChatDocument, Message, Role};

/// Turns prompts into text. The engine is one; a scripted one serves tests.
///
/// All calls block, and may come from many threads at once: the engine batches what is waiting.
pub trait Generator: Send + Sync {
    fn card(&self) -> &ModelCard;

    /// Renders a conversation with the model's own template. Message and document text is data: strings in
    /// it that look like special tokens stay text. Ends with the opening of the assistant's turn.
    fn encode_chat(&self, chat: &Chat) -> Result<Prompt, GenerateError>;

    /// Encodes plain text, special tokens disabled.
    fn encode_text(&self, text: &str) -> Vec<TokenId>;

    /// Returns the byte offset at which each token of `text` ends, in order; its length is the token count.
    fn token_ends(&self, text: &str) -> Vec<usize>;

    fn count_tokens(&self, text: &str) -> usize {
        self.token_ends(text).len()
    }

    /// Answers all requests, batched together; results stand in the order of the requests.
    fn generate(&self, requests: Vec<GenerateRequest>) -> Vec<Result<Completion, GenerateError>>;

    /// Answers one request and tells of the text while it comes, in order; together the pieces are the answer's text,
    /// but for what a stop string takes back at its end. Whoever cannot tell earlier tells at the end.
    fn generate_telling(
        &self,
        request: GenerateRequest,
        tell: &mut dyn FnMut(&str),
    ) -> Result<Completion, GenerateError> {
        let missing = || Err(GenerateError::Engine("an answer is missing".into()));
        let completion = self.generate(vec![request]).pop().unwrap_or_else(missing)?;
        tell(&completion.text);
        Ok(completion)
    }

    /// Returns, for each continuation, the natural-log probability of each of its tokens after the prompt.
    fn score(&self, request: ScoreRequest) -> Result<Vec<Vec<f32>>, GenerateError>;

    /// Scores after several prompts, batched together where the engine can; results stand in the order of the requests.
    fn score_all(&self, requests: Vec<ScoreRequest>) -> Vec<Result<Vec<Vec<f32>>, GenerateError>> {
        requests.into_iter().map(|request| self.score(request)).collect()
    }

    /// Returns how many tokens of prompts have been computed so far, scoring included; those found in the prefix cache
    /// are not among them. `None` where nothing is computed.
    fn prompt_tokens_computed(&self) -> Option<usize> {
        None
    }

    /// The token with which the model begins to call functions, where its vocabulary has one.
    fn call_mark(&self) -> Option<TokenId> {
        None
    }
}

/// Who is answering: enough to key a cache and to stand in a record's provenance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelCard {
    pub name: String,   // as asked for: `starter`, a path, `hf:owner/repo`
    pub digest: String, // of weights, tokenizer, template, quantization and KV type; hex
    pub window: usize,  // tokens, prompt and answer together
}

/// A rendered prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    pub ids: Vec<TokenId>,
}

#[derive(Clone, Debug)]
pub struct GenerateRequest {
    pub prompt: Prompt,
    pub max_tokens: usize,
    pub sampling: SamplingParams,
    pub stop: Vec<String>, // the answer ends before the first of these, which is not part of it
    pub constraint: Constraint,
    pub cancel: CancelToken,
}

/// Asks how likely each continuation is after the same prompt.
#[derive(Clone, Debug)]
pub struct ScoreRequest {
    pub prompt: Prompt,
    pub continuations: Vec<Vec<TokenId>>, // each at least one token
    pub cancel: CancelToken,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Completion {
    pub ids: Vec<TokenId>, // without the end-of-text token
    pub text: String,
    pub finish: FinishReason,
    pub usage: Usage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FinishReason {
    /// The model ended its turn, or the grammar was complete.
    Stop,
    /// One of the stop strings came.
    StopString,
    /// `max_tokens` or the window was reached: the text is cut off.
    Length,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    pub prompt_tokens: usize,
    pub cached_tokens: usize, // of the prompt, found in the prefix cache
    pub completion_tokens: usize,
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.prompt_tokens += other.prompt_tokens;
        self.cached_tokens += other.cached_tokens;
        self.completion_tokens += other.completion_tokens;
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GenerateError {
    #[error("the prompt has {prompt} tokens and the answer may have {max_tokens}: more than the window of {window}")]
    OverWindow { prompt: usize, max_tokens: usize, window: usize },
    #[error("the prompt is empty")]
    EmptyPrompt,
    #[error("the chat template failed: {0}")]
    Template(String),
    #[error("the grammar cannot be compiled: {0}")]
    Grammar(String),
    #[error("the sampling settings are wrong: {0}")]
    Sampling(String),
    #[error("no scripted answer fits the prompt: {0}")]
    NoScriptedAnswer(String),
    #[error("the call was cancelled")]
    Cancelled,
    #[error("the call ran out of time")]
    TimedOut,
    #[error("the engine failed: {0}")]
    Engine(String),
}

/// Stops work that is no longer wanted: by hand, or when its time is over.
#[derive(Clone, Debug, Default)]
pub struct CancelToken {
    flag: Arc<AtomicBool>,
    deadline: Option<Instant>, // monotonic: setting the clock does not end a call
}

impl CancelToken {
    /// Returns a token that also ends at `deadline`; cancelling either one's flag cancels both.
    pub fn with_deadline(&self, deadline: Instant) -> Self {
        let deadline = self.deadline.map_or(deadline, |d| d.min(deadline));
        Self { flag: self.flag.clone(), deadline: Some(deadline) }
    }

    pub fn cancel(&self) {
        self.flag.store(true, Ordering::Relaxed);
    }

    /// Returns why to stop, if there is a reason.
    pub fn check(&self) -> Result<(), GenerateError> {
        if self.flag.load(Ordering::Relaxed) {
            Err(GenerateError::Cancelled)
        } else if self.deadline.is_some_and(|d| Instant::now() >= d) {
            Err(GenerateError::TimedOut)
        } else {
            Ok(())
        }
    }
}
