//! What makes two calls the same call.

use super::ENGINE_RESULT_VERSION;
use crate::ids::TokenId;
use crate::inference::engine::{Constraint, GenerateRequest, ScoreRequest};

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

pub(in crate::pipeline) fn generate_key(digest: &str, request: &GenerateRequest) -> String {
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

pub(in crate::pipeline) fn score_key(digest: &str, request: &ScoreRequest) -> String {
    let mut hash = KeyHash::new("score", digest);
    hash.ids(&request.prompt.ids);
    request.continuations.iter().for_each(|ids| hash.ids(ids));
    hash.finish()
}
