//! What a run takes, reckoned: the engine's schedule is played through with the calls of a dry walk and the measured times
//! of its passes. Knows no document and no text.

use crate::inference::engine::{Pass, Speeds};

/// Calls that are asked at once, and waited for together.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Group {
    pub sequences: Vec<super::dry::Computed>,
    pub pace: f64, // tokens of an answer per pass: a grammar may leave no choice for several
}

/// What a run takes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Replayed {
    pub seconds: f64,
    pub prompt_seconds: f64,   // of these, in passes that read prompts
    pub tokens_at_once: usize, // the most that the engine holds for running sequences
}

struct Running {
    document: usize,
    position: usize, // tokens that are there
    fresh: usize,    // of the prompt, still to come
    passes: usize,   // of the answer, still to come
    pace: f64,
    logits_rows: usize,
}

/// Plays the groups of each document in turn, `jobs` documents at a time.
pub(super) fn replay(documents: &[Vec<Group>], jobs: usize, speeds: &Speeds) -> Replayed {
    let mut result = Replayed::default();
    let mut next_group = vec![0; documents.len()];
    let mut running: Vec<Running> = Vec::new();
    let mut waiting = 0..documents.len();
    let mut free: Vec<usize> = waiting.by_ref().take(jobs.max(1)).collect(); // documents that ask next
    loop {
        // A document that has all answers asks again, and one that has no more to ask makes room for the next.
        while let Some(document) = free.pop() {
            match documents[document].get(next_group[document]) {
                Some(group) => {
                    next_group[document] += 1;
                    running.extend(group.sequences.iter().map(|s| Running {
                        document,
                        position: s.shared,
                        fresh: s.fresh,
                        passes: (s.answer as f64 / group.pace.max(1.0)).ceil() as usize,
                        pace: group.pace.max(1.0),
                        logits_rows: s.logits_rows,
                    }));
                    if group.sequences.is_empty() {
                        free.push(document);
                    }
                }
                None => free.extend(waiting.next()),
            }
        }
        if running.is_empty() {
            return result;
        }
        let (pass, num_passes) = step(&mut running, speeds.tokens_per_step);
        let seconds = speeds.seconds(pass) * num_passes as f64;
        result.seconds += seconds;
        result.prompt_seconds += if pass.prompt_positions > 0.0 { seconds } else { 0.0 };
        result.tokens_at_once = result.tokens_at_once.max(running.iter().map(|r| r.position).sum());
        let done: Vec<usize> = running.iter().filter(|r| r.fresh == 0 && r.passes == 0).map(|r| r.document).collect();
        running.retain(|r| r.fresh > 0 || r.passes > 0);
        for document in done {
            let waits = running.iter().any(|r| r.document == document);
            if !waits && !free.contains(&document) {
                free.push(document);
            }
        }
    }
}

/// Plays one pass, or, while only answers are written, as many as are alike. Returns the pass and how often it comes.
fn step(running: &mut [Running], tokens_per_step: usize) -> (Pass, usize) {
    let mut pass = Pass::default();
    let reads = running.iter().any(|r| r.fresh > 0);
    let shortest = running.iter().filter(|r| r.fresh == 0).map(|r| r.passes).min().unwrap_or(1).max(1);
    let num_passes = if reads { 1 } else { shortest };
    for r in running.iter_mut().filter(|r| r.fresh == 0) {
        let rows = r.pace * num_passes as f64;
        pass.rows += r.pace.round() as usize;
        pass.logits_rows += 1;
        pass.answer_positions += r.pace * (r.position as f64 + rows / 2.0);
        r.position += rows as usize;
        r.passes -= num_passes;
    }
    let mut budget = tokens_per_step.saturating_sub(pass.rows);
    for r in running.iter_mut().filter(|r| r.fresh > 0) {
        let rows = r.fresh.min(budget);
        if rows == 0 {
            continue;
        }
        budget -= rows;
        pass.rows += rows;
        pass.prompt_positions += rows as f64 * (r.position as f64 + rows as f64 / 2.0);
        r.position += rows;
        r.fresh -= rows;
        if r.fresh == 0 {
            pass.logits_rows += r.logits_rows;
            r.passes = r.passes.saturating_sub(1); // the first token comes with the last of the prompt
        }
    }
    (pass, num_passes)
}

#[cfg(test)]
mod tests {
    use super::super::dry::Computed;
    use super::*;

    fn speeds() -> Speeds {
        let rows = vec![(1, 0.01), (100, 1.0)];
        Speeds { rows, tokens_per_step: 100, ..Speeds::default() }
    }

    fn group(fresh: usize, answer: usize, num: usize) -> Group {
        let sequence = Computed { shared: 0, fresh, answer, logits_rows: 1 };
        Group { sequences: vec![sequence; num], pace: 1.0 }
    }

    #[test]
    fn a_prompt_and_its_answer_take_their_passes() {
        let replayed = replay(&[vec![group(100, 11, 1)]], 1, &speeds());
        assert!((replayed.seconds - 1.1).abs() < 1e-9, "{replayed:?}");
        assert!((replayed.prompt_seconds - 1.0).abs() < 1e-9);
        assert_eq!(replayed.tokens_at_once, 110);
    }

    #[test]
    fn answers_that_are_written_together_share_their_passes() {
        let flat = Speeds { rows: vec![(1, 0.01), (100, 0.01)], tokens_per_step: 100, ..Speeds::default() };
        let one_by_one = replay(&[vec![group(1, 101, 1), group(1, 101, 1)]], 1, &flat);
        let together = replay(&[vec![group(1, 101, 2)]], 1, &flat);
        let side_by_side = replay(&[vec![group(1, 101, 1)], vec![group(1, 101, 1)]], 2, &flat);
        assert!((one_by_one.seconds - 2.0 * together.seconds).abs() < 1e-9);
        assert_eq!(together.seconds, side_by_side.seconds);
        assert_eq!(replay(&[], 4, &flat), Replayed::default());
    }
}
