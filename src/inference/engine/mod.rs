//! Requests in, completions out: the one place where work for the model is put in order.
//! Read [`Generator`] first, then `core` and `scheduler`. Knows no document and no template of ours.

mod block_pool;
mod core;
mod kv_disk;
mod load;
mod local;
mod quantized;
mod request;
mod scheduler;
mod scripted;
mod scripted_tokens;
mod sequence;
mod speculation;
mod speed;
mod stand_in;
mod tools;

#[cfg(test)]
mod kv_disk_tests;
#[cfg(test)]
mod speculation_tests;
#[cfg(test)]
mod tests;

pub use core::{Core, Metrics};
pub use kv_disk::{KV_DISK_BYTES_MAX, KvDisk, KvFolder};
pub use load::{
    Backend, DEFAULT_WINDOW, EngineOptions, LoadError, LoadedCore, Origin, card_digest, load_core, load_engine,
    load_tokenizer,
};
pub use local::{Engine, TextParts, run_alone};
pub use quantized::{Quantize, Quantizing, ToKeep, keep_quantized, label as quantization_label};
pub use request::{
    CancelToken, Chat, ChatDocument, Completion, Constraint, FinishReason, GenerateError, GenerateRequest, Generator,
    Message, ModelCard, Prompt, Role, ScoreRequest, Usage,
};
pub use scheduler::Limits;
pub use scripted::{ScriptError, Scripted};
pub use sequence::{Decoding, Goal, TokenRequest, TokenResult};
pub use speed::{Pass, Speeds, measure};
pub use stand_in::{Footprint, load_stand_in};
pub use tools::{Call, CallAnswer, CallChoice, CallRequest, Tools};

/// What a model's weights are quantized to; part of what an engine is asked for.
pub use crate::inference::model::{BLOCK_TOKENS, Quantization};
