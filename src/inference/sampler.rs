//! Logits, mask, parameters and seed -> one token. Knows no model and no text.
//!
//! The order is that of the reference (transformers): repetition penalty, mask, temperature, top-k, top-p, min-p, and
//! one draw from what is left. (llama.cpp applies the temperature last; with temperature 1 the two agree.)
//!
//! A choice depends on the seed, the position and the logits, and on nothing else: not on what was drawn before, nor
//! on the other sequences of a batch. So a sequence that was preempted or resumed goes on as it would have.

use serde::{Deserialize, Serialize};

use crate::ids::TokenId;
use crate::inference::grammar::TokenMask;

/// How a token is chosen. The default is greedy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SamplingParams {
    pub temperature: f32,         // 0 is greedy
    pub top_k: usize,             // 0 is off
    pub top_p: f32,               // 1 is off
    pub min_p: f32,               // 0 is off
    pub repetition_penalty: f32,  // 1 is off
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

impl SamplingParams {
    /// Returns the first parameter that is out of its range.
    pub fn check(&self) -> Result<(), SampleError> {
        let ranges = [
            ("temperature", self.temperature, 0.0..=100.0),
            ("top_p", self.top_p, f32::MIN_POSITIVE..=1.0),
            ("min_p", self.min_p, 0.0..=1.0),
            ("repetition_penalty", self.repetition_penalty, 0.01..=100.0),
        ];
        match ranges.into_iter().find(|(_, value, range)| !range.contains(value)) {
            Some((name, value, range)) => {
                Err(SampleError::BadParam { name, value: value.to_string(), min: *range.start(), max: *range.end() })
            }
            None => Ok(()),
        }
    }
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SampleError {
    #[error("{name} is {value}, but must be from {min} to {max}")]
    BadParam { name: &'static str, value: String, min: f32, max: f32 },
    #[error("the logit of token {token} is {value}: the model's output is broken")]
    BadLogit { token: TokenId, value: String },
    #[error("no token is left to choose from")]
    NothingAllowed,
    #[error("token {token} is outside the {width} logits")]
    OutsideLogits { token: TokenId, width: usize },
}

/// Chooses the tokens of one sequence.
#[derive(Clone, Debug)]
pub struct Sampler {
    params: SamplingParams,
    candidates: Vec<Candidate>, // kept for its memory only
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    token: TokenId,
    weight: f64, // exp((logit - max) / temperature), so at most 1
}

impl Sampler {
    /// Returns a sampler, or the parameter that is out of its range.
    pub fn new(params: &SamplingParams) -> Result<Self, SampleError> {
        params.check()?;
        Ok(Self { params: params.clone(), candidates: Vec::new() })
    }

    /// Returns the next token after `history`, which is the whole sequence, prompt included: its length is the position
    /// the draw depends on. `logits` are changed by penalty and mask.
    ///
    /// Among equal logits the lowest id wins: in a greedy choice, and at the borders of top-k, top-p and min-p.
    pub fn sample(
        &mut self,
        logits: &mut [f32],
        history: &[TokenId],
        mask: Option<&TokenMask>,
    ) -> Result<TokenId, SampleError> {
        check_logits(logits)?;
        self.penalize(logits, history);
        if let Some(mask) = mask {
            mask.apply_to(logits);
        }
        let best = argmax(logits).ok_or(SampleError::NothingAllowed)?;
        if self.params.temperature == 0.0 {
            return Ok(best);
        }
        self.weigh(logits, logits[best as usize]);
        self.narrow();
        Ok(self.draw(uniform(self.params.seed, history.len() as u64)).unwrap_or(best))
    }

    /// Makes tokens of the window less likely, each once however often it stands there (Keskar et al. 2019).
    fn penalize(&self, logits: &mut [f32], history: &[TokenId]) {
        let penalty = self.params.repetition_penalty;
        if penalty == 1.0 {
            return;
        }
        let mut seen = history[history.len().saturating_sub(self.params.repetition_window)..].to_vec();
        seen.sort_unstable();
        seen.dedup();
        for token in seen {
            if let Some(logit) = logits.get_mut(token as usize) {
                *logit = if *logit < 0.0 { *logit * penalty } else { *logit / penalty };
            }
        }
    }

    fn weigh(&mut self, logits: &[f32], best: f32) {
        let temperature = f64::from(self.params.temperature);
        let weight = |logit: f32| ((f64::from(logit) - f64::from(best)) / temperature).exp();
        let candidates = (0..).zip(logits).map(|(token, logit)| Candidate { token, weight: weight(*logit) });
        self.candidates.clear();
        // A weight of 0 has underflowed or was masked: it could only be drawn by accident.
        self.candidates.extend(candidates.filter(|candidate| candidate.weight > 0.0));
    }

    fn narrow(&mut self) {
        let SamplingParams { top_k, top_p, min_p, .. } = self.params;
        if top_k > 0 && top_k < self.candidates.len() {
            self.candidates.select_nth_unstable_by(top_k, by_rank);
            self.candidates.truncate(top_k);
        }
        if top_p < 1.0 {
            let kept = self.nucleus(f64::from(top_p));
            self.candidates.truncate(kept);
        }
        // The best weight is 1, before and after the others.
        self.candidates.retain(|candidate| candidate.weight >= f64::from(min_p));
    }

    /// Sorts the likeliest candidates to the front, and returns how many of them reach the share `top_p` of the whole.
    fn nucleus(&mut self, top_p: f64) -> usize {
        // In the order of ids, so that the sum does not depend on how the selection left them.
        self.candidates.sort_unstable_by_key(|candidate| candidate.token);
        let goal = top_p * self.candidates.iter().map(|candidate| candidate.weight).sum::<f64>();
        // Sorting 49,155 candidates takes 3 ms; the nucleus is nearly always among the first few dozen.
        let mut sorted = 64;
        loop {
            let all = sorted >= self.candidates.len();
            if all {
                self.candidates.sort_unstable_by(by_rank);
            } else {
                self.candidates.select_nth_unstable_by(sorted, by_rank);
                self.candidates[..sorted].sort_unstable_by(by_rank);
            }
            let mut sum = 0.0;
            let front = &self.candidates[..sorted.min(self.candidates.len())];
            let reached = front.iter().position(|candidate| {
                sum += candidate.weight;
                sum >= goal
            });
            match reached {
                Some(last) => return last + 1,
                None if all => return self.candidates.len(),
                None => sorted *= 8,
            }
        }
    }

    /// Returns the token at the share `at` of the candidates' weights, laid end to end in the order of their ids.
    fn draw(&mut self, at: f64) -> Option<TokenId> {
        self.candidates.sort_unstable_by_key(|candidate| candidate.token);
        let goal = at * self.candidates.iter().map(|candidate| candidate.weight).sum::<f64>();
        let mut sum = 0.0;
        let drawn = self.candidates.iter().find(|candidate| {
            sum += candidate.weight;
            sum > goal
        });
        drawn.or(self.candidates.last()).map(|candidate| candidate.token)
    }
}

/// Returns the natural-log probability of `token` under the softmax of `logits`.
pub fn log_prob(logits: &[f32], token: TokenId) -> Result<f32, SampleError> {
    let logit = *logits.get(token as usize).ok_or(SampleError::OutsideLogits { token, width: logits.len() })?;
    Ok((f64::from(logit) - log_sum_exp(logits)?) as f32)
}

/// Returns the natural-log probabilities of all tokens.
pub fn log_softmax(logits: &[f32]) -> Result<Vec<f32>, SampleError> {
    let sum = log_sum_exp(logits)?;
    Ok(logits.iter().map(|logit| (f64::from(*logit) - sum) as f32).collect())
}

fn log_sum_exp(logits: &[f32]) -> Result<f64, SampleError> {
    check_logits(logits)?;
    let best = f64::from(logits[argmax(logits).ok_or(SampleError::NothingAllowed)? as usize]);
    Ok(best + logits.iter().map(|logit| (f64::from(*logit) - best).exp()).sum::<f64>().ln())
}

/// Logits that are looked at together.
const RUN: usize = 1024;

/// Minus infinity is a masked token; anything else that is not finite is a fault of the model.
fn check_logits(logits: &[f32]) -> Result<(), SampleError> {
    let is_bad = |logit: &f32| logit.is_nan() || *logit == f32::INFINITY;
    // A run at a time, without a way out of it, so that the compiler can look at several at once.
    let runs = logits.chunks(RUN).enumerate();
    let bad_run =
        runs.filter(|(_, run)| run.iter().fold(false, |bad, logit| bad | is_bad(logit))).map(|(i, _)| i).next();
    match bad_run.and_then(|i| logits.iter().skip(i * RUN).position(is_bad).map(|at| i * RUN + at)) {
        Some(at) => Err(SampleError::BadLogit { token: at as TokenId, value: logits[at].to_string() }),
        None => Ok(()),
    }
}

fn argmax(logits: &[f32]) -> Option<TokenId> {
    // The largest of each lane first: one after the other, the comparisons of 49,155 logits wait for each other, and
    // sixteen sequences for 1.5 ms.
    let mut largest = [f32::NEG_INFINITY; 16];
    let (runs, rest) = logits.as_chunks::<16>();
    for run in runs {
        for (largest, logit) in largest.iter_mut().zip(run) {
            *largest = if *logit > *largest { *logit } else { *largest };
        }
    }
    let largest =
        largest.iter().chain(rest).fold(f32::NEG_INFINITY, |all, logit| if *logit > all { *logit } else { all });
    if largest == f32::NEG_INFINITY {
        return None;
    }
    logits.iter().position(|logit| *logit == largest).map(|at| at as TokenId)
}

fn by_rank(a: &Candidate, b: &Candidate) -> std::cmp::Ordering {
    b.weight.total_cmp(&a.weight).then(a.token.cmp(&b.token))
}

/// Returns a number in 0.0..1.0 that seed and position determine: SplitMix64 (Steele et al. 2014) at a place of its own.
fn uniform(seed: u64, position: u64) -> f64 {
    let mix = |value: u64| {
        let mut z = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    };
    // Mixed twice, or seed 1 at position 2 would be seed 2 at position 1.
    (mix(mix(seed) ^ position) >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
#[path = "sampler_tests.rs"]
mod tests;
