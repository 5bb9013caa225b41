//! Logits, mask, parameters and seed -> one token. Knows no model and no text.

use serde::{Deserialize, Serialize};

/// How a token is chosen. The default is greedy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SamplingParams {
    pub temperature: f32, // 0 is greedy
    pub top_k: usize,     // 0 is off
    pub top_p: f32,       // 1 is off
    pub min_p: f32,       // 0 is off
    pub repetition_penalty: f32, // 1 is off
    pub repetition_window: usize, // tokens looked back on, prompt included
    pub seed: u64,
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            repetition_window: 64,
            seed: 0,
        }
    }
}
