//! Requests in, completions out: the one place where work for the model is put in order.
//! Read [`Generator`] first, then `core` and `scheduler`. Knows no document and no template of ours.

mod block_pool;
mod core;
mod request;
mod scheduler;
mod sequence;

pub use core::{Core, Metrics};
pub use request::{
    CancelToken, Chat, ChatDocument, Completion, Constraint, FinishReason, GenerateError, GenerateRequest, Generator,
    Message, ModelCard, Prompt, Role, ScoreRequest, Usage,
};
pub use scheduler::Limits;
pub use sequence::{Decoding, Goal, TokenRequest, TokenResult};
