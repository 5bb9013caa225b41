//! A document through its steps with a stand-in for the model: which calls there will be, and what they ask. A call that
//! is asked in the same words whatever was answered before depends on the document alone.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use super::RunEnvironment;
use super::look::{Look, names_of};
use super::walk::{Halt, Walk, Walked};
use crate::corpus::document::Document;
use crate::ids::TokenId;
use crate::inference::engine::{
    BLOCK_TOKENS, Chat, Completion, Constraint, GenerateError, GenerateRequest, Generator, ModelCard, Prompt,
    ScoreRequest,
};
use crate::pipeline::cache::{CallCache, generate_key, score_key};
use crate::pipeline::events::{DocumentEvent, Unwatched};
use crate::pipeline::inputs::Input;
use crate::pipeline::model::{LazyModel, ModelError, ModelIdentity, ModelSource, StandIn, Wrapped};
use crate::pipeline::names::RunNames;
use crate::pipeline::plan::Plan;
use crate::pipeline::report::Failure;
use crate::pipeline::rows::Tables;

/// One call to the model.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub step: String,
    pub key: String, // that of the cache
    pub prompt: Vec<TokenId>,
    pub asks: Asks,
    pub prompt_tokens: usize, // as a report counts them
    pub shared_tokens: usize, // of these, computed for an earlier call of the document
    pub answer_tokens: usize,
    pub from_cache: bool,
    /// What the engine computes for it; nothing where it is in the cache.
    pub sequences: Vec<Computed>,
    pub group: usize,      // calls that are asked at once have the same
    pub num_passes: usize, // of the group: forward passes that the stand-in made
}

#[derive(Clone, Debug)]
pub(super) enum Asks {
    Answer {
        max_tokens: usize,
        constraint: Constraint,
    },
    /// How likely each of these is.
    Odds {
        of: Vec<Vec<TokenId>>,
    },
}

/// A sequence of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Computed {
    pub shared: usize, // tokens that are there already
    pub fresh: usize,  // tokens of the prompt that are computed
    pub answer: usize,
    pub logits_rows: usize, // of the prompt
}

/// What came of a dry walk.
pub(super) struct Dry {
    pub calls: Vec<Call>,
    /// What went wrong, in the words of a run.
    pub faults: Vec<String>,
    /// Steps whose `when` held, or that have none.
    pub steps: Vec<String>,
    pub own_seconds: f64, // without those of the stand-in
}

/// Walks documents with one stand-in.
pub(super) struct DryRun<'a> {
    plan: &'a Plan,
    env: &'a RunEnvironment<'a>,
    run: &'a RunNames,
    tables: &'a Tables,
    cache: Arc<CallCache>,
    answers: Arc<Mutex<Answers>>,
    pub stand_in: Option<StandIn>, // `None`: no step asks a model
}

/// What was answered in these walks: a run finds it in its cache the next time. Two documents that ask the same at the
/// same moment ask twice; that is not foreseen.
#[derive(Default)]
struct Answers {
    completions: HashMap<String, Completion>,
    scores: HashMap<String, Vec<Vec<f32>>>,
}

impl<'a> DryRun<'a> {
    pub fn new(plan: &'a Plan, env: &'a RunEnvironment<'a>, look: &'a Look, stand_in: Option<StandIn>) -> Self {
        let (cache, answers) = (Arc::new(CallCache::look(&env.cache_folder)), Arc::default());
        Self { plan, env, run: &look.names, tables: &look.tables, cache, answers, stand_in }
    }

    /// Takes the document of an input through every step of its own. An error is one that ends the whole, not one of
    /// the document's.
    pub fn walk(&self, document: &Document, input: &Input) -> Result<Dry, ModelError> {
        let started = Instant::now();
        let log = Arc::new(Mutex::new(Log::default()));
        let source = Stands(self.stand_in.as_ref().map(|s| s.generator.clone()));
        let stand_in = self.stand_in.as_ref();
        let wrap = |inner: Arc<dyn Generator>| -> Wrapped<'_> {
            let num_passes: &(dyn Fn() -> usize + Send + Sync) = stand_in.map_or(&|| 0, |s| &*s.num_passes);
            let (cache, answers, log) = (self.cache.clone(), self.answers.clone(), log.clone());
            let recorder: Arc<dyn Generator + '_> = Arc::new(Recorder { inner, cache, answers, log, num_passes });
            [recorder.clone(), recorder]
        };
        let model = LazyModel::new(&source, None, &Unwatched, wrap);
        let tell = |event: DocumentEvent<'_>| {
            if let DocumentEvent::StepStarted { step } = event {
                lock(&log).step_started(step);
            }
        };
        let mut names = names_of(self.plan, self.env, self.run, document, input);
        let mut walked = Walked::default();
        let walk = Walk {
            plan: self.plan,
            evaluator: self.env.evaluator,
            model: &model,
            cancel: &self.env.cancel,
            library: self.env.library,
            source: Some(self.plan.sources[input.source].name.as_str()),
            tables: self.tables,
            from: None,
            started,
            tell: &tell,
            goes_on: true,
        };
        let ended = walk.run(document, &mut names, &mut walked);
        let failed = |failure: Failure| failure.to_string();
        let mut faults = walked.partial;
        match ended {
            Ok(()) => {}
            Err(Halt::Failed(failure) | Halt::Stop(failure)) => faults.push(failed(failure)),
            Err(Halt::Interrupted) => {
                let cause = crate::pipeline::model::ModelErrorCause::Cancelled;
                return Err(ModelError { cause, ..ModelError::new("stopped") });
            }
            Err(Halt::Model(error)) => return Err(error),
        }
        let own_seconds = started.elapsed().as_secs_f64();
        let log = std::mem::take(&mut *lock(&log));
        Ok(Dry { calls: log.calls, faults, steps: log.steps, own_seconds: (own_seconds - log.seconds).max(0.0) })
    }
}

/// Returns, for each call of `first`, whether `second`, another walk over the same document with other answers, has
/// asked the same.
pub(super) fn is_certain(first: &[Call], second: &[Call]) -> Vec<bool> {
    let mut there: HashMap<(&str, &str), usize> = HashMap::new();
    for call in second {
        *there.entry((call.step.as_str(), call.key.as_str())).or_default() += 1;
    }
    let mut found = Vec::with_capacity(first.len());
    for call in first {
        let left = there.get_mut(&(call.step.as_str(), call.key.as_str())).filter(|left| **left > 0);
        found.push(left.is_some());
        if let Some(left) = left {
            *left -= 1;
        }
    }
    found
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

#[derive(Default)]
struct Log {
    steps: Vec<String>,
    calls: Vec<Call>,
    num_groups: usize,
    prefixes: Prefixes,
    seconds: f64, // that the stand-in took
}

impl Log {
    fn step_started(&mut self, step: &str) {
        // A step that is tried again is started again.
        if self.steps.last().is_none_or(|last| last != step) {
            self.steps.push(step.to_owned());
        }
    }

    fn step(&self) -> String {
        self.steps.last().cloned().unwrap_or_default()
    }
}

/// The blocks that an engine would find computed: those of earlier prompts of the document.
#[derive(Default)]
struct Prefixes(HashSet<[u8; 32]>);

impl Prefixes {
    /// Returns how many tokens of `ids` are there already, and puts all of them there. The last token is always computed.
    fn take(&mut self, ids: &[TokenId]) -> usize {
        let mut parent = [0; 32];
        let (mut num_shared, mut is_shared) = (0, true);
        for block in ids.chunks_exact(BLOCK_TOKENS) {
            let mut hasher = blake3::Hasher::new();
            hasher.update(&parent);
            block.iter().for_each(|id| {
                hasher.update(&id.to_le_bytes());
            });
            parent = *hasher.finalize().as_bytes();
            is_shared &= !self.0.insert(parent);
            num_shared += if is_shared { BLOCK_TOKENS } else { 0 };
        }
        if num_shared == ids.len() { num_shared.saturating_sub(BLOCK_TOKENS) } else { num_shared }
    }
}

/// A stand-in as the source of a model.
struct Stands(Option<Arc<dyn Generator>>);

impl ModelSource for Stands {
    fn identity(&self) -> Result<ModelIdentity, ModelError> {
        Err(ModelError::new("a stand-in is nobody"))
    }

    fn open(&self) -> Result<Arc<dyn Generator>, ModelError> {
        self.0.clone().ok_or_else(|| ModelError::new("a step asks a model, and its kind says that it does not"))
    }
}

/// Writes down what is asked; what the cache knows is answered from there.
struct Recorder<'a> {
    inner: Arc<dyn Generator>,
    cache: Arc<CallCache>,
    answers: Arc<Mutex<Answers>>,
    log: Arc<Mutex<Log>>,
    num_passes: &'a (dyn Fn() -> usize + Send + Sync),
}

impl Recorder<'_> {
    /// Runs `work` and adds its calls as one group; `sequences` of a call are counted here.
    fn add(&self, mut calls: Vec<Call>, passes_before: usize, seconds: f64) {
        let mut log = lock(&self.log);
        log.num_groups += 1;
        log.seconds += seconds;
        for call in &mut calls {
            (call.group, call.num_passes) = (log.num_groups, (self.num_passes)() - passes_before);
            let continuations = match &call.asks {
                Asks::Answer { .. } => vec![Vec::new()],
                Asks::Odds { of } => of.clone(),
            };
            let num_scored = !matches!(call.asks, Asks::Answer { .. });
            let mut shared_tokens = None;
            for continuation in continuations {
                let ids = [call.prompt.as_slice(), &continuation].concat();
                if call.from_cache {
                    continue;
                }
                let shared = log.prefixes.take(&ids);
                // Those after the first find the whole prompt there, and a report counts it once.
                shared_tokens.get_or_insert(shared);
                let logits_rows = if num_scored { continuation.len() } else { 1 };
                let fresh = ids.len() - shared;
                call.sequences.push(Computed { shared, fresh, answer: call.answer_tokens, logits_rows });
            }
            call.shared_tokens = shared_tokens.unwrap_or(0);
        }
        log.calls.append(&mut calls);
    }

    fn call(&self, key: String, prompt: &Prompt, asks: Asks, from_cache: bool) -> Call {
        let continuations = match &asks {
            Asks::Answer { .. } => 0,
            Asks::Odds { of } => of.iter().map(Vec::len).sum(),
        };
        Call {
            step: lock(&self.log).step(),
            key,
            prompt: prompt.ids.clone(),
            prompt_tokens: prompt.ids.len() + continuations,
            asks,
            shared_tokens: 0,
            answer_tokens: 0,
            from_cache,
            sequences: Vec::new(),
            group: 0,
            num_passes: 0,
        }
    }
}

impl Generator for Recorder<'_> {
    fn card(&self) -> &ModelCard {
        self.inner.card()
    }

    fn encode_chat(&self, chat: &Chat) -> Result<Prompt, GenerateError> {
        self.inner.encode_chat(chat)
    }

    fn encode_text(&self, text: &str) -> Vec<TokenId> {
        self.inner.encode_text(text)
    }

    fn token_ends(&self, text: &str) -> Vec<usize> {
        self.inner.token_ends(text)
    }

    fn count_tokens(&self, text: &str) -> usize {
        self.inner.count_tokens(text)
    }

    /// A prompt of functions ends with it.
    fn call_mark(&self) -> Option<TokenId> {
        self.inner.call_mark()
    }

    fn generate(&self, requests: Vec<GenerateRequest>) -> Vec<Result<Completion, GenerateError>> {
        let (passes, started) = ((self.num_passes)(), Instant::now());
        let digest = &self.inner.card().digest;
        let mut answers: Vec<Option<Result<Completion, GenerateError>>> = Vec::new();
        let mut calls = Vec::new();
        let mut missing = Vec::new();
        for request in requests {
            let key = generate_key(digest, &request);
            let known = lock(&self.answers).completions.get(&key).cloned();
            let found: Option<Completion> = known.or_else(|| self.cache.find(&key, &Unwatched));
            let asks = Asks::Answer { max_tokens: request.max_tokens, constraint: request.constraint.clone() };
            calls.push(self.call(key, &request.prompt, asks, found.is_some()));
            if found.is_none() {
                missing.push(request);
            }
            answers.push(found.map(Ok));
        }
        let mut made = if missing.is_empty() { Vec::new() } else { self.inner.generate(missing) }.into_iter();
        let missing = || Err(GenerateError::Engine("an answer is missing".into()));
        let answers: Vec<_> =
            answers.into_iter().map(|a| a.unwrap_or_else(|| made.next().unwrap_or_else(missing))).collect();
        for (call, answer) in calls.iter_mut().zip(&answers) {
            call.answer_tokens = answer.as_ref().map_or(0, |a| a.ids.len());
            if let Ok(answer) = answer {
                lock(&self.answers).completions.insert(call.key.clone(), answer.clone());
            }
        }
        self.add(calls, passes, started.elapsed().as_secs_f64());
        answers
    }

    fn score(&self, request: ScoreRequest) -> Result<Vec<Vec<f32>>, GenerateError> {
        let missing = || Err(GenerateError::Engine("a score is missing".into()));
        self.score_all(vec![request]).pop().unwrap_or_else(missing)
    }

    /// Those that are not known are asked together, as the cache in front of the model asks them.
    fn score_all(&self, requests: Vec<ScoreRequest>) -> Vec<Result<Vec<Vec<f32>>, GenerateError>> {
        let (passes, started) = ((self.num_passes)(), Instant::now());
        let digest = &self.inner.card().digest;
        let floats = |row: Vec<u32>| row.into_iter().map(f32::from_bits).collect();
        let kept = |bits: Vec<Vec<u32>>| bits.into_iter().map(floats).collect();
        let mut found: Vec<Option<Vec<Vec<f32>>>> = Vec::new();
        let (mut calls, mut unknown) = (Vec::new(), Vec::new());
        for request in requests {
            let key = score_key(digest, &request);
            let known = lock(&self.answers).scores.get(&key).cloned();
            let known = known.or_else(|| self.cache.find(&key, &Unwatched).map(kept));
            let asks = Asks::Odds { of: request.continuations.clone() };
            calls.push(self.call(key, &request.prompt, asks, known.is_some()));
            if known.is_none() {
                unknown.push(request);
            }
            found.push(known);
        }
        let mut made = if unknown.is_empty() { Vec::new() } else { self.inner.score_all(unknown) }.into_iter();
        let missing = || Err(GenerateError::Engine("a score is missing".into()));
        let scores: Vec<_> =
            found.into_iter().map(|f| f.map_or_else(|| made.next().unwrap_or_else(missing), Ok)).collect();
        for (call, scores) in calls.iter().zip(&scores) {
            if let Ok(scores) = scores {
                lock(&self.answers).scores.insert(call.key.clone(), scores.clone());
            }
        }
        self.add(calls, passes, started.elapsed().as_secs_f64());
        scores
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_blocks_of_an_earlier_prompt_are_shared_and_the_last_token_never_is() {
        let mut prefixes = Prefixes::default();
        let prompt: Vec<TokenId> = (0..3 * BLOCK_TOKENS as TokenId + 2).collect();
        assert_eq!(prefixes.take(&prompt), 0);
        assert_eq!(prefixes.take(&prompt), 3 * BLOCK_TOKENS);
        assert_eq!(prefixes.take(&prompt[..3 * BLOCK_TOKENS]), 2 * BLOCK_TOKENS);
        let mut other = prompt.clone();
        other[BLOCK_TOKENS] = 9;
        assert_eq!(prefixes.take(&other), BLOCK_TOKENS);
    }
}
