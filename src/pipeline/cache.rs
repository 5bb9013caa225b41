//! Answers of the model, kept by what was asked: a run that was interrupted goes on after its last finished call.
//! Read [`CachedGenerator`] first. A key is made of token ids, never of text; a damaged entry is asked for again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use super::events::{Event, Observer};
use super::report::Calls;
use super::sealed;
use crate::ids::TokenId;
use crate::inference::engine::{
    Chat, Completion, Constraint, GenerateError, GenerateRequest, Generator, ModelCard, Prompt, ScoreRequest, Usage,
};

/// Part of every key: goes up whenever the engine may give another answer to the same question.
pub const ENGINE_RESULT_VERSION: u32 = 1;

/// Bytes the cache may hold before its oldest entries go. An answer of 500 tokens takes about 5 kB.
pub const CACHE_BYTES_MAX: u64 = 2 << 30;

/// What an eviction leaves, so that not every run has to evict.
const KEPT_SHARE: f64 = 0.9;

/// Half-written entries of runs that were killed are removed when they are this old.
const STALE_PART: Duration = Duration::from_secs(24 * 3600);

/// A folder of answers, shared by any number of runs at once.
pub struct CallCache {
    folder: PathBuf, // `v1/` below the cache folder
    parts: AtomicU64,
    writable: AtomicBool,
    hits: AtomicUsize,
    misses: AtomicUsize,
    damaged: AtomicUsize,
}

impl CallCache {
    /// Opens the cache in `folder`. Where it cannot be written, answers are still read from it, and the error says why.
    pub fn open(folder: &Path) -> (Self, Option<io::Error>) {
        let folder = folder.join("v1");
        let probe = || fs::create_dir_all(&folder).and_then(|()| tempfile::NamedTempFile::new_in(&folder));
        let error = probe().err();
        let cache = Self {
            folder,
            parts: AtomicU64::new(0),
            writable: AtomicBool::new(error.is_none()),
            hits: AtomicUsize::new(0),
            misses: AtomicUsize::new(0),
            damaged: AtomicUsize::new(0),
        };
        (cache, error)
    }

    pub fn calls(&self) -> Calls {
        let read = |n: &AtomicUsize| n.load(Ordering::Relaxed);
        Calls { made: read(&self.misses), from_cache: read(&self.hits), damaged: read(&self.damaged) }
    }

    fn path(&self, key: &str) -> PathBuf {
        self.folder.join(&key[..2]).join(format!("{key}.json"))
    }

    fn find<T: for<'de> Deserialize<'de>>(&self, key: &str, observer: &dyn Observer) -> Option<T> {
        let bytes = fs::read(self.path(key)).ok()?; // not there, or not readable: asked for again
        let found = sealed::open(&bytes).and_then(|body| serde_json::from_str(body).ok());
        if found.is_none() {
            self.damaged.fetch_add(1, Ordering::Relaxed);
            let path = self.path(key);
            observer.on(&Event::Note(&format!("cache entry {} is damaged; the call is made again", path.display())));
        }
        found
    }

    /// Keeps an answer. A cache that cannot be written is said once, and the run goes on without.
    fn keep<T: Serialize>(&self, key: &str, answer: &T, observer: &dyn Observer) {
        if !self.writable.load(Ordering::Relaxed) {
            return;
        }
        if let Err(error) = self.write(key, answer)
            && self.writable.swap(false, Ordering::Relaxed)
        {
            let path = self.folder.display();
            observer.on(&Event::Note(&format!("cannot write the cache in {path}: {error}; going on without it")));
        }
    }

    // Not synced: after a power cut an entry may be empty or short, and then does not open. A kill loses nothing.
    fn write<T: Serialize>(&self, key: &str, answer: &T) -> io::Result<()> {
        let path = self.path(key);
        let number = self.parts.fetch_add(1, Ordering::Relaxed);
        let part = path.with_file_name(format!("part-{}-{number}", std::process::id()));
        fs::create_dir_all(path.parent().unwrap_or(&self.folder))?;
        let text = sealed::seal(&serde_json::to_string(answer)?);
        let written = write_private(&part, text.as_bytes()).and_then(|()| fs::rename(&part, &path));
        if written.is_err() {
            let _ = fs::remove_file(&part);
        }
        written
    }

    /// Removes the oldest entries until the cache holds no more than `bytes_max`, and parts left by killed runs.
    /// Returns how many entries went.
    pub fn evict(&self, bytes_max: u64) -> io::Result<usize> {
        let mut entries = Vec::new(); // (written, bytes, path)
        for bin in fs::read_dir(&self.folder)? {
            let bin = bin?.path();
            if !bin.is_dir() {
                continue;
            }
            for file in fs::read_dir(bin)? {
                let file = file?;
                let Ok(meta) = file.metadata() else { continue }; // evicted by another run just now
                let written = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                let is_part = file.file_name().to_string_lossy().starts_with("part-");
                if is_part && written.elapsed().is_ok_and(|age| age > STALE_PART) {
                    let _ = fs::remove_file(file.path());
                } else if !is_part {
                    entries.push((written, meta.len(), file.path()));
                }
            }
        }
        let mut bytes: u64 = entries.iter().map(|e| e.1).sum();
        if bytes <= bytes_max {
            return Ok(0);
        }
        entries.sort();
        let mut gone = 0;
        for (_, size, path) in entries {
            if bytes as f64 <= bytes_max as f64 * KEPT_SHARE {
                break;
            }
            fs::remove_file(path)?;
            bytes -= size;
            gone += 1;
        }
        Ok(gone)
    }
}

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600); // answers quote documents
    io::Write::write_all(&mut options.open(path)?, bytes)
}

/// A generator that asks the model only what the cache does not know.
pub struct CachedGenerator<'o> {
    inner: Arc<dyn Generator>,
    cache: Arc<CallCache>,
    meter: Arc<Meter>,
    observer: &'o dyn Observer,
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
        Self { inner, cache, meter, observer }
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

    /// Completions found in the cache carry the usage they had when they were made.
    fn generate(&self, requests: Vec<GenerateRequest>) -> Vec<Result<Completion, GenerateError>> {
        let digest = &self.inner.card().digest;
        let keys: Vec<String> = requests.iter().map(|r| generate_key(digest, r)).collect();
        let mut answers: Vec<Option<Result<Completion, GenerateError>>> =
            keys.iter().map(|key| self.cache.find(key, self.observer).map(Ok)).collect();
        let (asked, missing): (Vec<usize>, Vec<GenerateRequest>) =
            requests.into_iter().enumerate().filter(|(i, _)| answers[*i].is_none()).unzip();
        self.cache.hits.fetch_add(keys.len() - asked.len(), Ordering::Relaxed);
        if !missing.is_empty() {
            let start = Instant::now();
            let made = self.inner.generate(missing);
            assert_eq!(made.len(), asked.len(), "one answer per request");
            let mut usage = Usage::default();
            for (at, answer) in asked.into_iter().zip(made) {
                if let Ok(completion) = &answer {
                    usage += completion.usage;
                    self.cache.misses.fetch_add(1, Ordering::Relaxed);
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
        if let Some(bits) = self.cache.find::<Vec<Vec<u32>>>(&key, self.observer) {
            self.cache.hits.fetch_add(1, Ordering::Relaxed);
            return Ok(bits.into_iter().map(|row| row.into_iter().map(f32::from_bits).collect()).collect());
        }
        let tokens = request.prompt.ids.len() + request.continuations.iter().map(Vec::len).sum::<usize>();
        let start = Instant::now();
        let scores = self.inner.score(request)?;
        let usage = Usage { prompt_tokens: tokens, ..Usage::default() };
        self.meter.add(usage, start.elapsed());
        self.observer.on(&Event::Tokens(usage));
        self.cache.misses.fetch_add(1, Ordering::Relaxed);
        let bits: Vec<Vec<u32>> = scores.iter().map(|row| row.iter().map(|s| s.to_bits()).collect()).collect();
        self.cache.keep(&key, &bits, self.observer);
        Ok(scores)
    }
}

/// A hash over parts that cannot run into each other: each is preceded by its length.
struct KeyHash(blake3::Hasher);

impl KeyHash {
    fn new(kind: &str, digest: &str) -> Self {
        let mut hash = Self(blake3::Hasher::new());
        hash.bytes(kind.as_bytes());
        hash.bytes(&ENGINE_RESULT_VERSION.to_le_bytes());
        hash.bytes(digest.as_bytes());
        hash
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    fn ids(&mut self, ids: &[TokenId]) {
        self.bytes(&ids.iter().flat_map(|id| id.to_le_bytes()).collect::<Vec<u8>>());
    }

    fn finish(self) -> String {
        self.0.finalize().to_hex().to_string()
    }
}

fn generate_key(digest: &str, request: &GenerateRequest) -> String {
    let mut hash = KeyHash::new("generate", digest);
    hash.ids(&request.prompt.ids);
    let s = &request.sampling;
    for float in [s.temperature, s.top_p, s.min_p, s.repetition_penalty] {
        hash.bytes(&float.to_bits().to_le_bytes());
    }
    for number in [s.top_k as u64, s.repetition_window as u64, s.seed, request.max_tokens as u64] {
        hash.bytes(&number.to_le_bytes());
    }
    hash.bytes(&(request.stop.len() as u64).to_le_bytes());
    request.stop.iter().for_each(|stop| hash.bytes(stop.as_bytes()));
    let (kind, text) = match &request.constraint {
        Constraint::None => ("none", String::new()),
        Constraint::JsonSchema(schema) => ("schema", schema.to_string()),
        Constraint::Regex(pattern) => ("regex", pattern.clone()),
        Constraint::Lark(grammar) => ("lark", grammar.clone()),
    };
    hash.bytes(kind.as_bytes());
    hash.bytes(text.as_bytes());
    hash.finish()
}

fn score_key(digest: &str, request: &ScoreRequest) -> String {
    let mut hash = KeyHash::new("score", digest);
    hash.ids(&request.prompt.ids);
    request.continuations.iter().for_each(|ids| hash.ids(ids));
    hash.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::engine::{CancelToken, FinishReason};
    use crate::inference::sampler::SamplingParams;
    use crate::pipeline::events::Unwatched;

    struct Counting {
        card: ModelCard,
        calls: AtomicUsize,
    }

    impl Generator for Counting {
        fn card(&self) -> &ModelCard {
            &self.card
        }
        fn encode_chat(&self, _: &Chat) -> Result<Prompt, GenerateError> {
            Err(GenerateError::EmptyPrompt)
        }
        fn encode_text(&self, text: &str) -> Vec<TokenId> {
            text.bytes().map(TokenId::from).collect()
        }
        fn token_ends(&self, text: &str) -> Vec<usize> {
            (1..=text.len()).collect()
        }
        fn generate(&self, requests: Vec<GenerateRequest>) -> Vec<Result<Completion, GenerateError>> {
            self.calls.fetch_add(requests.len(), Ordering::Relaxed);
            let answer = |r: GenerateRequest| match r.prompt.ids.as_slice() {
                [] => Err(GenerateError::EmptyPrompt),
                ids => Ok(Completion {
                    ids: ids.to_vec(),
                    text: format!("{ids:?}"),
                    finish: FinishReason::Stop,
                    usage: Usage { prompt_tokens: ids.len(), cached_tokens: 0, completion_tokens: 1 },
                }),
            };
            requests.into_iter().map(answer).collect()
        }
        fn score(&self, request: ScoreRequest) -> Result<Vec<Vec<f32>>, GenerateError> {
            self.calls.fetch_add(1, Ordering::Relaxed);
            Ok(request.continuations.iter().map(|c| vec![-0.1_f32 / 3.0; c.len()]).collect())
        }
    }

    fn request(ids: &[TokenId]) -> GenerateRequest {
        GenerateRequest {
            prompt: Prompt { ids: ids.to_vec() },
            max_tokens: 8,
            sampling: SamplingParams::default(),
            stop: Vec::new(),
            constraint: Constraint::None,
            cancel: CancelToken::default(),
        }
    }

    fn cached(folder: &Path) -> (CachedGenerator<'static>, Arc<Counting>, Arc<CallCache>) {
        let card = ModelCard { name: "m".into(), digest: "d".into(), window: 100 };
        let inner = Arc::new(Counting { card, calls: AtomicUsize::new(0) });
        let cache = Arc::new(CallCache::open(folder).0);
        (CachedGenerator::new(inner.clone(), cache.clone(), Arc::default(), &Unwatched), inner, cache)
    }

    #[test]
    fn a_question_is_asked_once_and_mixed_batches_keep_their_order() {
        let folder = tempfile::tempdir().unwrap();
        let first = cached(folder.path()).0.generate(vec![request(&[1]), request(&[2])]);
        let (model, inner, cache) = cached(folder.path());
        let again = model.generate(vec![request(&[2]), request(&[3]), request(&[1])]);
        assert_eq!((&again[0], &again[2]), (&first[1], &first[0]));
        assert_eq!(again[1].as_ref().unwrap().text, "[3]");
        assert_eq!(inner.calls.load(Ordering::Relaxed), 1);
        assert_eq!(cache.calls(), Calls { made: 1, from_cache: 2, damaged: 0 });
    }

    #[test]
    fn everything_that_can_change_an_answer_changes_the_key() {
        let base = request(&[1, 2]);
        let with = |change: &dyn Fn(&mut GenerateRequest)| {
            let mut r = base.clone();
            change(&mut r);
            generate_key("d", &r)
        };
        let mut keys = vec![
            generate_key("d", &base),
            generate_key("e", &base),
            with(&|r| r.prompt.ids = vec![1, 3]),
            with(&|r| r.max_tokens = 9),
            with(&|r| r.stop = vec!["ab".into()]),
            with(&|r| r.stop = vec!["a".into(), "b".into()]),
            with(&|r| r.constraint = Constraint::Regex("a".into())),
            with(&|r| r.constraint = Constraint::Lark("a".into())),
            with(&|r| r.sampling.temperature = 0.5),
            with(&|r| r.sampling.top_p = 0.5),
            with(&|r| r.sampling.min_p = 0.5),
            with(&|r| r.sampling.top_k = 5),
            with(&|r| r.sampling.seed = 5),
            with(&|r| r.sampling.repetition_penalty = 1.5),
            with(&|r| r.sampling.repetition_window = 5),
        ];
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), 15);
    }

    #[test]
    fn a_damaged_entry_is_said_and_asked_for_again() {
        let folder = tempfile::tempdir().unwrap();
        let (model, _, cache) = cached(folder.path());
        let answer = model.generate(vec![request(&[1])]);
        let path = cache.path(&generate_key("d", &request(&[1])));
        let whole = fs::read(&path).unwrap();
        for broken in [&b""[..], &whole[..whole.len() / 2], b"{\"sum\":0}"] {
            fs::write(&path, broken).unwrap();
            assert_eq!(model.generate(vec![request(&[1])]), answer);
        }
        assert_eq!(cache.calls(), Calls { made: 4, from_cache: 0, damaged: 3 });
        assert_eq!(fs::read(&path).unwrap(), whole);
    }

    #[test]
    fn errors_are_not_kept_and_scores_come_back_bit_for_bit() {
        let folder = tempfile::tempdir().unwrap();
        let (model, inner, _) = cached(folder.path());
        assert!(model.generate(vec![request(&[])])[0].is_err());
        assert!(model.generate(vec![request(&[])])[0].is_err());
        let ask = || ScoreRequest {
            prompt: Prompt { ids: vec![1] },
            continuations: vec![vec![2], vec![3, 4]],
            cancel: CancelToken::default(),
        };
        let (first, second) = (model.score(ask()).unwrap(), model.score(ask()).unwrap());
        let bits = |s: &Vec<Vec<f32>>| s.iter().flatten().map(|f| f.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&first), bits(&second));
        assert_eq!(inner.calls.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn the_oldest_answers_go_first() {
        let folder = tempfile::tempdir().unwrap();
        let (model, _, cache) = cached(folder.path());
        for id in 0..20 {
            let _ = model.generate(vec![request(&[id])]);
            let path = cache.path(&generate_key("d", &request(&[id])));
            let written = SystemTime::UNIX_EPOCH + Duration::from_secs(1000 + u64::from(id));
            fs::File::options().write(true).open(path).unwrap().set_modified(written).unwrap();
        }
        assert_eq!(cache.evict(CACHE_BYTES_MAX).unwrap(), 0);
        let size = fs::metadata(cache.path(&generate_key("d", &request(&[0])))).unwrap().len();
        assert!(cache.evict(size * 10).unwrap() >= 10);
        assert!(!cache.path(&generate_key("d", &request(&[0]))).exists());
        assert!(cache.path(&generate_key("d", &request(&[19]))).exists());
    }

    #[cfg(unix)]
    #[test]
    fn a_cache_that_cannot_be_written_is_done_without() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        let (cache, error) = CallCache::open(&folder.path().join("file"));
        assert!(error.is_some());
        let card = ModelCard { name: "m".into(), digest: "d".into(), window: 100 };
        let inner = Arc::new(Counting { card, calls: AtomicUsize::new(0) });
        let model = CachedGenerator::new(inner, Arc::new(cache), Arc::default(), &Unwatched);
        assert!(model.generate(vec![request(&[1])])[0].is_ok());
    }
}
