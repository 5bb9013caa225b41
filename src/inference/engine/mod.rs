//! Requests in, completions out: the one place where work for the model is put in order.
//! Read [`Generator`] first, then `scheduler`. Knows no document and no template of ours.

mod request;
mod scripted;
mod scripted_tokens;

pub use request::{
    CancelToken, Chat, ChatDocument, Completion, Constraint, FinishReason, GenerateError, GenerateRequest, Generator,
    Message, ModelCard, Prompt, Role, ScoreRequest, Usage,
};
pub use scripted::{ScriptError, Scripted};
