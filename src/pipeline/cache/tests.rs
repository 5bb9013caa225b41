//! What the cache promises.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use super::keys::generate_key;
use super::*;
use crate::ids::TokenId;
use crate::inference::engine::{
    CancelToken, Chat, Completion, Constraint, FinishReason, GenerateError, GenerateRequest, Generator, ModelCard,
    Prompt, ScoreRequest, Usage,
};
use crate::inference::sampler::SamplingParams;
use crate::pipeline::events::Unwatched;
use crate::pipeline::report::Calls;

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
