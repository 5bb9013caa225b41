//! How fast a model is on this machine, in a few seconds: forward passes of several sizes are timed, and what a pass of
//! any size takes is read off between them. Random tokens; knows no text.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::core::Core;
use super::request::{CancelToken, GenerateError};
use super::sequence::{Decoding, Goal, TokenRequest};
use crate::ids::TokenId;
use crate::inference::sampler::{Sampler, SamplingParams};

/// Rows of the forward passes that are timed, beside the largest one.
const ROWS: [usize; 5] = [1, 4, 16, 64, 192];

/// Tokens that a sequence is decoded for, and the sequences that are decoded together.
const DECODED: usize = 12;
const TOGETHER: usize = 4;

/// What forward passes take.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Speeds {
    /// (rows, seconds) of a pass over the first tokens of one prompt, by rows.
    pub rows: Vec<(usize, f64)>,
    /// Seconds for each further row whose logits are wanted, the choice of its token included.
    pub logits_row: f64,
    /// Seconds for each row of a prompt and each position that it looks back on.
    pub prompt_position: f64,
    /// The same of a row of an answer.
    pub answer_position: f64,
    pub tokens_per_step: usize,
}

/// One forward pass.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pass {
    pub rows: usize,
    pub logits_rows: usize,
    pub prompt_positions: f64, // looked back on, summed over the rows of prompts
    pub answer_positions: f64, // over the rows of answers
}

impl Speeds {
    /// Returns the seconds of a pass.
    pub fn seconds(&self, pass: Pass) -> f64 {
        let further = pass.logits_rows.saturating_sub(1) as f64;
        self.of_rows(pass.rows)
            + further * self.logits_row
            + pass.prompt_positions * self.prompt_position
            + pass.answer_positions * self.answer_position
    }

    /// On the line between the two sizes around it; beyond the largest, in proportion.
    fn of_rows(&self, rows: usize) -> f64 {
        let Some(&(most, seconds)) = self.rows.last() else { return 0.0 };
        let above = self.rows.partition_point(|(r, _)| *r < rows);
        match (above.checked_sub(1).map(|i| self.rows[i]), self.rows.get(above)) {
            (_, None) => seconds * rows as f64 / most.max(1) as f64,
            (None, Some((_, least))) => *least,
            (Some((r0, s0)), Some(&(r1, s1))) => s0 + (s1 - s0) * (rows - r0) as f64 / (r1 - r0) as f64,
        }
    }

    /// Tokens of a prompt per second, read from its start.
    pub fn prompt_tokens_per_s(&self) -> f64 {
        self.rows.last().map_or(0.0, |(rows, seconds)| *rows as f64 / seconds)
    }

    /// Tokens of one answer alone per second, after `position` others.
    pub fn answer_tokens_per_s(&self, position: usize) -> f64 {
        let pass = Pass { rows: 1, logits_rows: 1, answer_positions: position as f64, ..Pass::default() };
        1.0 / self.seconds(pass)
    }
}

/// Times forward passes for about `budget`: the least that is told of is told however long it takes.
pub fn measure(
    core: &mut Core,
    vocabulary: usize,
    window: usize,
    tokens_per_step: usize,
    budget: Duration,
) -> Result<Speeds, GenerateError> {
    let start = Instant::now();
    let mut bench = Bench { core, vocabulary, seed: 0 };
    bench.timed(1, 16, 1)?; // memory is touched and threads are woken
    let mut speeds = Speeds { tokens_per_step, ..Speeds::default() };
    let deepest = window.saturating_sub(DECODED).min(4 * tokens_per_step);
    // One long prompt first, pass by pass: what looking back costs is the difference between its first and its last.
    let passes = bench.prompt(deepest, tokens_per_step, start + budget / 2)?;
    let (Some(&first), Some(&last)) = (passes.first(), passes.last()) else { return Ok(speeds) };
    let back = ((passes.len() - 1) * tokens_per_step * tokens_per_step) as f64;
    if passes.len() > 1 {
        speeds.prompt_position = ((last - first) / back).max(0.0);
    }
    let rows = deepest.min(tokens_per_step);
    let of_itself = (rows * rows) as f64 / 2.0 * speeds.prompt_position;
    for size in ROWS.into_iter().filter(|size| *size < rows) {
        // The small ones are quick, and one time alone says little.
        let mut times = Vec::new();
        while times.is_empty() || (times.len() < 5 && start.elapsed() < budget * 3 / 4) {
            times.push(bench.timed(1, size, 1)?.0);
        }
        speeds.rows.push((size, median(times)));
    }
    speeds.rows.push((rows, (first - of_itself).max(first / 2.0)));
    let deep = (passes.len() * tokens_per_step).min(deepest);
    let (_, alone) = bench.timed(1, deep.min(tokens_per_step), DECODED)?;
    let (_, together) = bench.timed(TOGETHER, 16, DECODED)?;
    let position = deep.min(tokens_per_step) as f64;
    speeds.answer_position = ((alone - speeds.of_rows(1)) / position).max(0.0);
    let own = 16.0 * TOGETHER as f64 * speeds.answer_position;
    speeds.logits_row = ((together - own - speeds.of_rows(TOGETHER)) / (TOGETHER - 1) as f64).max(0.0);
    Ok(speeds)
}

struct Bench<'a> {
    core: &'a mut Core,
    vocabulary: usize,
    seed: u64,
}

impl Bench<'_> {
    /// Returns the seconds of each pass over a prompt, and stops the first time it is late after two of them.
    fn prompt(&mut self, tokens: usize, step: usize, late: Instant) -> Result<Vec<f64>, GenerateError> {
        let cancel = CancelToken::default();
        self.submit(tokens, 1, &cancel)?;
        let mut times = Vec::new();
        while !self.core.is_idle() {
            let start = Instant::now();
            self.step()?;
            times.push(start.elapsed().as_secs_f64());
            if times.len() >= 2 && Instant::now() > late {
                cancel.cancel();
                self.core.step(); // takes the cancelled one off; that it was cancelled is no error here
                break;
            }
        }
        times.truncate(tokens / step.max(1)); // a last pass that is not full says something else
        Ok(times)
    }

    /// Returns the seconds of the pass over `sequences` prompts, and of one of those that decode them.
    fn timed(&mut self, sequences: usize, tokens: usize, answer: usize) -> Result<(f64, f64), GenerateError> {
        let cancel = CancelToken::default();
        for _ in 0..sequences {
            self.submit(tokens, answer, &cancel)?;
        }
        let start = Instant::now();
        self.step()?;
        let prompt = start.elapsed().as_secs_f64();
        let mut times = Vec::new();
        while !self.core.is_idle() {
            let start = Instant::now();
            self.step()?;
            times.push(start.elapsed().as_secs_f64());
        }
        Ok((prompt, if times.is_empty() { prompt } else { median(times) }))
    }

    fn submit(&mut self, tokens: usize, answer: usize, cancel: &CancelToken) -> Result<(), GenerateError> {
        let sampler = Sampler::new(&SamplingParams::default()).map_err(|e| GenerateError::Sampling(e.to_string()))?;
        let decoding = Decoding { max_tokens: answer, sampler, matcher: None, end_ids: Vec::new(), stop: None };
        self.seed += 1;
        let prompt = random_tokens(tokens, self.vocabulary, self.seed);
        let goal = Goal::Generate(Box::new(decoding));
        self.core.submit(TokenRequest { prompt, goal, cancel: cancel.clone() }).map(drop)
    }

    fn step(&mut self) -> Result<(), GenerateError> {
        self.core.step().into_iter().try_for_each(|(_, result)| result.map(drop))
    }
}

/// Tokens that look random and are the same on every machine: a 64-bit linear congruential generator.
fn random_tokens(count: usize, vocabulary: usize, seed: u64) -> Vec<TokenId> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(1);
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) % vocabulary as u64) as TokenId
    };
    (0..count).map(|_| next()).collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::super::tests::{TOY_VOCABULARY, Toy, limits};
    use super::*;

    #[test]
    fn a_pass_between_two_measured_ones_takes_a_time_between_theirs() {
        let rows = vec![(1, 0.01), (64, 0.1), (512, 0.4)];
        let speeds = Speeds { rows, logits_row: 0.001, tokens_per_step: 512, ..Speeds::default() };
        let seconds = |rows, logits_rows| speeds.seconds(Pass { rows, logits_rows, ..Pass::default() });
        assert_eq!((seconds(1, 1), seconds(64, 1), seconds(1024, 1)), (0.01, 0.1, 0.8));
        assert!(seconds(32, 1) > 0.01 && seconds(32, 1) < 0.1);
        assert!((seconds(1, 11) - 0.02).abs() < 1e-9);
        assert_eq!(speeds.prompt_tokens_per_s(), 1280.0);
    }

    #[test]
    fn measuring_tells_every_size_and_leaves_the_core_idle() {
        let mut core = Core::new(Toy::new(64), limits(32));
        let speeds = measure(&mut core, TOY_VOCABULARY, 256, 32, Duration::ZERO).unwrap();
        assert_eq!(speeds.rows.iter().map(|(rows, _)| *rows).collect::<Vec<_>>(), [1, 4, 16, 32]);
        assert!(speeds.rows.iter().all(|(_, seconds)| *seconds > 0.0));
        assert!(core.is_idle() && speeds.answer_tokens_per_s(100) > 0.0);
    }
}
