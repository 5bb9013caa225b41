//! Answers of the model, kept by what was asked: a run that was interrupted goes on after its last finished call.
//! Read [`CachedGenerator`] first. A key is made of token ids, never of text; a damaged entry is asked for again.
//! Knows no document and no step.

mod generator;
mod keys;
mod store;

#[cfg(test)]
mod tests;

pub(in crate::pipeline) use keys::{generate_key, score_key};

pub use generator::{CachedGenerator, Meter};
pub use store::CallCache;

/// Part of every key: goes up whenever the engine may give another answer to the same question.
pub const ENGINE_RESULT_VERSION: u32 = 1;

/// Bytes the cache may hold before its oldest entries go. An answer of 500 tokens takes about 5 kB.
pub const CACHE_BYTES_MAX: u64 = 2 << 30;
