//! A generator in front of a generator: the same promises, fewer questions.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::keys::{generate_key, score_key};
use super::store::CallCache;
use crate::ids::TokenId;
use crate::inference::engine::{
    Chat, Completion, GenerateError, GenerateRequest, Generator, ModelCard, Prompt, ScoreRequest, Usage,
};
use crate::pipeline::events::{Event, Observer};

/// A generator that asks the model only what the cache does not know.
pub struct CachedGenerator<'o> {
    inner: Arc<dyn Generator>,
    cache: Arc<CallCache>,
    meter: Arc<Meter>,
    observer: &'o dyn Observer,
    anew: bool,
}

/// What the model itself has been asked in this run.
#[derive(Default)]
pub struct Meter {
    prompt: AtomicUsize,
    cached: AtomicUsize,
    completion: AtomicUsize,
    micros: AtomicU64,
}

impl Meter {
    pub fn usage(&self) -> Usage {
        Usage {
            prompt_tokens: self.prompt.load(Ordering::Relaxed),
            cached_tokens: self.cached.load(Ordering::Relaxed),
            completion_tokens: self.completion.load(Ordering::Relaxed),
        }
    }

    pub fn seconds(&self) -> f64 {
        self.micros.load(Ordering::Relaxed) as f64 / 1e6
    }

    fn add(&self, usage: Usage, time: Duration) {
        self.prompt.fetch_add(usage.prompt_tokens, Ordering::Relaxed);
        self.cached.fetch_add(usage.cached_tokens, Ordering::Relaxed);
        self.completion.fetch_add(usage.completion_tokens, Ordering::Relaxed);
        self.micros.fetch_add(time.as_micros() as u64, Ordering::Relaxed);
    }
}

impl<'o> CachedGenerator<'o> {
    pub fn new(
        inner: Arc<dyn Generator>,
        cache: Arc<CallCache>,
        meter: Arc<Meter>,
        observer: &'o dyn Observer,
    ) -> Self {
        Self { inner, cache, meter, observer, anew: false }
    }

    /// Asks the model also what the cache knows, and keeps what it says now.
    pub fn anew(self) -> Self {
        Self { anew: true, ..self }
    }
}

impl CachedGenerator<'_> {
    fn find<T: for<'de> serde::Deserialize<'de>>(&self, key: &str) -> Option<T> {
        if self.anew { None } else { self.cache.find(key, self.observer) }
    }
}

impl Generator for CachedGenerator<'_> {
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

    fn call_mark(&self) -> Option<TokenId> {
        self.inner.call_mark()
    }

    fn prompt_tokens_computed(&self) -> Option<usize> {
        self.inner.prompt_tokens_computed()
    }

    /// Completions found in the cache carry the usage they had when they were made.
    fn generate(&self, requests: Vec<GenerateRequest>) -> Vec<Result<Completion, GenerateError>> {
        let digest = &self.inner.card().digest;
        let keys: Vec<String> = requests.iter().map(|r| generate_key(digest, r)).collect();
        let mut answers: Vec<Option<Result<Completion, GenerateError>>> =
            keys.iter().map(|key| self.find(key).map(Ok)).collect();
        let (asked, missing): (Vec<usize>, Vec<GenerateRequest>) =
            requests.into_iter().enumerate().filter(|(i, _)| answers[*i].is_none()).unzip();
        self.cache.add_hits(keys.len() - asked.len());
        if !missing.is_empty() {
            let start = Instant::now();
            let made = self.inner.generate(missing);
            assert_eq!(made.len(), asked.len(), "one answer per request");
            let mut usage = Usage::default();
            for (at, answer) in asked.into_iter().zip(made) {
                if let Ok(completion) = &answer {
                    usage += completion.usage;
                    self.cache.add_miss();
                    self.cache.keep(&keys[at], completion, self.observer);
                }
                answers[at] = Some(answer);
            }
            self.meter.add(usage, start.elapsed());
            self.observer.on(&Event::Tokens(usage));
        }
        answers.into_iter().flatten().collect()
    }

    fn score(&self, request: ScoreRequest) -> Result<Vec<Vec<f32>>, GenerateError> {
        let key = score_key(&self.inner.card().digest, &request);
        // As bits: a decimal that is parsed back may differ in its last place, and a rerun with it.
        if let Some(bits) = self.find::<Vec<Vec<u32>>>(&key) {
            self.cache.add_hits(1);
            return Ok(bits.into_iter().map(|row| row.into_iter().map(f32::from_bits).collect()).collect());
        }
        let tokens = request.prompt.ids.len() + request.continuations.iter().map(Vec::len).sum::<usize>();
        let start = Instant::now();
        let scores = self.inner.score(request)?;
        let usage = Usage { prompt_tokens: tokens, ..Usage::default() };
        self.meter.add(usage, start.elapsed());
        self.observer.on(&Event::Tokens(usage));
        self.cache.add_miss();
        let bits: Vec<Vec<u32>> = scores.iter().map(|row| row.iter().map(|s| s.to_bits()).collect()).collect();
        self.cache.keep(&key, &bits, self.observer);
        Ok(scores)
    }
}
