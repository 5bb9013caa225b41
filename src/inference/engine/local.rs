//! The engine on this machine: one thread runs the core, any number of callers wait for their answers.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;

use jiff::civil::Date;

use super::core::{Core, Metrics};
use super::request::{
    CancelToken, Chat, Completion, Constraint, GenerateError, GenerateRequest, Generator, ModelCard, Prompt,
    ScoreRequest,
};
use super::sequence::{Decoding, Goal, TokenRequest, TokenResult};
use crate::ids::{SequenceId, TokenId};
use crate::inference::grammar::GrammarFactory;
use crate::inference::sampler::Sampler;
use crate::inference::tokenizer::{ChatTemplate, TextDecoder, Tokenizer};

/// A loaded model that answers requests.
pub struct Engine {
    card: ModelCard,
    tokenizer: Arc<Tokenizer>,
    template: ChatTemplate,
    as_of: Date, // what a template takes for today
    logits_width: usize,
    grammars: OnceLock<Result<GrammarFactory, GenerateError>>,
    inbox: Mutex<Option<Sender<Submission>>>,
    metrics: Arc<Mutex<Metrics>>,
    thread: Option<JoinHandle<()>>,
}

/// The parts of a model that deal in text.
pub struct TextParts {
    pub tokenizer: Tokenizer,
    pub template: ChatTemplate,
    pub as_of: Date,
    pub logits_width: usize, // of the model: its vocabulary, padding included
}

struct Submission {
    request: TokenRequest,
    reply: Sender<Result<TokenResult, GenerateError>>,
}

impl Engine {
    /// Starts the thread that works on requests; it ends when the engine is dropped.
    pub fn start(card: ModelCard, core: Core, text: TextParts) -> Result<Self, GenerateError> {
        let (inbox, outbox) = channel();
        let metrics = Arc::new(Mutex::new(Metrics::default()));
        let shared = metrics.clone();
        let thread = std::thread::Builder::new()
            .name("engine".into())
            .spawn(move || work(core, &outbox, &shared))
            .map_err(|e| GenerateError::Engine(format!("its thread cannot be started: {e}")))?;
        Ok(Self {
            card,
            tokenizer: Arc::new(text.tokenizer),
            template: text.template,
            as_of: text.as_of,
            logits_width: text.logits_width,
            grammars: OnceLock::new(),
            inbox: Mutex::new(Some(inbox)),
            metrics,
            thread: Some(thread),
        })
    }

    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// What has been done so far.
    pub fn metrics(&self) -> Metrics {
        *self.metrics.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Hands a request to the engine's thread.
    fn submit(&self, request: TokenRequest) -> Receiver<Result<TokenResult, GenerateError>> {
        let (reply, answer) = channel();
        let inbox = self.inbox.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(inbox) = &*inbox {
            // A closed inbox drops the reply's sender, which the waiting caller sees.
            let _ = inbox.send(Submission { request, reply });
        }
        answer
    }

    fn decoding(&self, request: &GenerateRequest, told: Option<Sender<String>>) -> Result<Decoding, GenerateError> {
        let matcher = match &request.constraint {
            Constraint::None => None,
            constraint => {
                let factory = self.grammars.get_or_init(|| {
                    GrammarFactory::new(&self.tokenizer, self.logits_width)
                        .map_err(|e| GenerateError::Grammar(e.to_string()))
                });
                let factory = factory.as_ref().map_err(Clone::clone)?;
                Some(factory.compile(constraint).map_err(|e| GenerateError::Grammar(e.to_string()))?)
            }
        };
        Ok(Decoding {
            max_tokens: request.max_tokens,
            sampler: Sampler::new(&request.sampling).map_err(|e| GenerateError::Sampling(e.to_string()))?,
            matcher,
            end_ids: self.tokenizer.end_ids().to_vec(),
            stop: watch(self.tokenizer.clone(), request.stop.clone(), told),
        })
    }

    fn check_window(&self, prompt: usize, max_tokens: usize) -> Result<(), GenerateError> {
        let window = self.card.window;
        if prompt == 0 {
            Err(GenerateError::EmptyPrompt)
        } else if prompt.saturating_add(max_tokens) > window {
            Err(GenerateError::OverWindow { prompt, max_tokens, window })
        } else {
            Ok(())
        }
    }

    /// Hands over a request for each continuation; they share the prompt's keys and values.
    fn submit_scoring(
        &self,
        request: &ScoreRequest,
    ) -> Result<Vec<Receiver<Result<TokenResult, GenerateError>>>, GenerateError> {
        let submit = |continuation: &Vec<TokenId>| {
            if continuation.is_empty() {
                return Err(GenerateError::Engine("a continuation to score is empty".into()));
            }
            self.check_window(request.prompt.ids.len(), continuation.len())?;
            let prompt = [request.prompt.ids.as_slice(), continuation].concat();
            let goal = Goal::Score { from: request.prompt.ids.len() };
            Ok(self.submit(TokenRequest { prompt, goal, cancel: request.cancel.clone() }))
        };
        request.continuations.iter().map(submit).collect()
    }

    fn completion(&self, result: TokenResult, stop: &[String]) -> Completion {
        let mut text = self.tokenizer.decode(&result.tokens, true);
        if let Some(at) = stop.iter().filter(|s| !s.is_empty()).filter_map(|s| text.find(s.as_str())).min() {
            text.truncate(at);
        }
        Completion { ids: result.tokens, text, finish: result.finish, usage: result.usage }
    }
}

impl Generator for Engine {
    fn card(&self) -> &ModelCard {
        &self.card
    }

    fn encode_chat(&self, chat: &Chat) -> Result<Prompt, GenerateError> {
        let rendered = self.template.render(chat, self.as_of).map_err(|e| GenerateError::Template(e.to_string()))?;
        Ok(Prompt { ids: rendered.encode(&self.tokenizer) })
    }

    fn encode_text(&self, text: &str) -> Vec<TokenId> {
        self.tokenizer.encode_text(text)
    }

    fn token_ends(&self, text: &str) -> Vec<usize> {
        self.tokenizer.token_ends(text)
    }

    fn generate(&self, requests: Vec<GenerateRequest>) -> Vec<Result<Completion, GenerateError>> {
        let submitted: Vec<_> = requests
            .into_iter()
            .map(|request| {
                self.check_window(request.prompt.ids.len(), request.max_tokens)?;
                let goal = Goal::Generate(Box::new(self.decoding(&request, None)?));
                let answer = self.submit(TokenRequest { prompt: request.prompt.ids, goal, cancel: request.cancel });
                Ok((answer, request.stop))
            })
            .collect();
        let wait = |answer: Receiver<_>| answer.recv().unwrap_or_else(|_| Err(gone()));
        submitted.into_iter().map(|s| s.and_then(|(a, stop)| Ok(self.completion(wait(a)?, &stop)))).collect()
    }

    fn generate_telling(
        &self,
        request: GenerateRequest,
        tell: &mut dyn FnMut(&str),
    ) -> Result<Completion, GenerateError> {
        self.check_window(request.prompt.ids.len(), request.max_tokens)?;
        let (told, pieces) = channel();
        let goal = Goal::Generate(Box::new(self.decoding(&request, Some(told))?));
        let answer = self.submit(TokenRequest { prompt: request.prompt.ids, goal, cancel: request.cancel });
        // Ends when the sequence, and the sender with it, is dropped.
        let mut length = 0;
        for piece in pieces {
            length += piece.len();
            tell(&piece);
        }
        let result = answer.recv().unwrap_or_else(|_| Err(gone()))?;
        let completion = self.completion(result, &request.stop);
        // What a character cut in two, or a text that might have become a stop string, held back.
        if let Some(rest) = completion.text.get(length..).filter(|rest| !rest.is_empty()) {
            tell(rest);
        }
        Ok(completion)
    }

    fn score(&self, request: ScoreRequest) -> Result<Vec<Vec<f32>>, GenerateError> {
        scored(self.submit_scoring(&request)?)
    }

    fn score_all(&self, requests: Vec<ScoreRequest>) -> Vec<Result<Vec<Vec<f32>>, GenerateError>> {
        // All are submitted before the first is waited for: the engine then batches them.
        let submitted: Vec<_> = requests.iter().map(|request| self.submit_scoring(request)).collect();
        submitted.into_iter().map(|answers| scored(answers?)).collect()
    }

    fn prompt_tokens_computed(&self) -> Option<usize> {
        let metrics = self.metrics();
        Some(metrics.prompt_tokens - metrics.cached_tokens)
    }

    fn call_mark(&self) -> Option<TokenId> {
        CALL_MARKS.iter().find_map(|mark| self.tokenizer.special_id(mark))
    }
}

/// Waits for the continuations of one prompt.
fn scored(answers: Vec<Receiver<Result<TokenResult, GenerateError>>>) -> Result<Vec<Vec<f32>>, GenerateError> {
    answers.into_iter().map(|a| Ok(a.recv().unwrap_or_else(|_| Err(gone()))?.log_probs)).collect()
}

/// How models that were trained to call functions begin to: Granite, and those that follow Hermes.
const CALL_MARKS: &[&str] = &["<|tool_call|>", "<tool_call>"];

impl Drop for Engine {
    fn drop(&mut self) {
        // Closing the inbox ends the thread once what was submitted is done; callers hold a borrow until then.
        *self.inbox.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn gone() -> GenerateError {
    GenerateError::Engine("its thread has ended".into())
}

/// Watches the text of an answer for the first of the stop strings, and tells of it as far as it can not become part of
/// one. `None` where there is nothing to watch for.
fn watch(
    tokenizer: Arc<Tokenizer>,
    stop: Vec<String>,
    told: Option<Sender<String>>,
) -> Option<Box<dyn FnMut(TokenId) -> bool + Send>> {
    let longest = stop.iter().map(String::len).max().unwrap_or(0);
    if longest == 0 && told.is_none() {
        return None;
    }
    let mut decoder = TextDecoder::new(true);
    let mut tail = String::new();
    Some(Box::new(move |token| {
        tail.push_str(&decoder.push(&tokenizer, token));
        let found = stop.iter().filter(|s| !s.is_empty()).filter_map(|s| tail.find(s.as_str())).min();
        // Only the end can still become part of a stop string.
        let keep = if longest == 0 { tail.len() } else { tail.len().saturating_sub(longest) };
        let cut = found.unwrap_or_else(|| (0..=keep).rev().find(|i| tail.is_char_boundary(*i)).unwrap_or(0));
        if let Some(told) = told.as_ref().filter(|_| cut > 0) {
            let _ = told.send(tail[..cut].to_owned()); // the caller may have gone away
        }
        tail.drain(..cut);
        found.is_some()
    }))
}

/// The engine's thread: takes in what was submitted, steps while there is work, sleeps when there is none.
fn work(mut core: Core, inbox: &Receiver<Submission>, metrics: &Mutex<Metrics>) {
    let mut replies: HashMap<SequenceId, Sender<Result<TokenResult, GenerateError>>> = HashMap::new();
    let mut open = true;
    while open || !core.is_idle() {
        loop {
            let next = if core.is_idle() && open { inbox.recv().ok() } else { inbox.try_recv().ok() };
            match next {
                Some(submission) => take_on(&mut core, submission, &mut replies),
                None if core.is_idle() => {
                    open = false;
                    break;
                }
                None => break,
            }
        }
        let ended = match catch_unwind(AssertUnwindSafe(|| core.step())) {
            Ok(ended) => ended,
            Err(_) => core.fail_all(&GenerateError::Engine("a bug in quarry: the forward pass panicked".into())),
        };
        // Before the answers: who has one finds it counted.
        *metrics.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = core.metrics();
        for (id, result) in ended {
            if let Some(reply) = replies.remove(&id) {
                let _ = reply.send(result); // the caller may have gone away
            }
        }
    }
}

fn take_on(
    core: &mut Core,
    submission: Submission,
    replies: &mut HashMap<SequenceId, Sender<Result<TokenResult, GenerateError>>>,
) {
    match core.submit(submission.request) {
        Ok(id) => {
            replies.insert(id, submission.reply);
        }
        Err(error) => {
            let _ = submission.reply.send(Err(error));
        }
    }
}

/// Runs one request alone on a core, outside any engine: what `model logits` and `bench` do.
pub fn run_alone(core: &mut Core, prompt: Vec<TokenId>, goal: Goal) -> Result<TokenResult, GenerateError> {
    let wanted = core.submit(TokenRequest { prompt, goal, cancel: CancelToken::default() })?;
    while !core.is_idle() {
        for (id, result) in core.step() {
            if id == wanted {
                return result;
            }
        }
    }
    Err(GenerateError::Engine("the request ended without a result".into()))
}
