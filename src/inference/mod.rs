//! What thinks: prompts in, tokens out. Knows no document, no pipeline and no step.
//!
//! engine -> sampler -> grammar -> tokenizer; engine -> model -> kernels; embed by itself; nothing runs back up.

pub mod embed;
pub mod engine;
pub mod grammar;
pub mod hub;
pub mod kernels;
pub mod model;
pub mod sampler;
pub mod tokenizer;
