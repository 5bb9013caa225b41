//! Decides which rows are computed next: running sequences first, then waiting ones, within a budget of tokens.
//! Knows counts, hashes and ids; no logits, no text.

use std::collections::{HashMap, VecDeque};

use super::block_pool::BlockPool;
use super::request::GenerateError;
use super::sequence::Sequence;
use crate::ids::SequenceId;
use crate::inference::model::BLOCK_TOKENS;

/// How much one step may do.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub tokens_per_step: usize,   // rows of one forward pass, all sequences together
    pub sequences_running: usize, // at once
    pub speculate: bool,          // propose tokens by prompt lookup; changes no answer
    pub share_prefixes: bool,     // compute once what prompts have in common; changes no answer
}

impl Default for Limits {
    fn default() -> Self {
        Self { tokens_per_step: 512, sequences_running: 64, speculate: true, share_prefixes: true }
    }
}

/// `rows` tokens of a sequence, from its first uncomputed one; what is proposed comes last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Work {
    pub sequence: SequenceId,
    pub rows: usize,
}

/// Who runs and who waits.
#[derive(Default)]
pub(super) struct Scheduler {
    running: VecDeque<SequenceId>, // in the order they were admitted
    waiting: VecDeque<SequenceId>,
    pub preemptions: usize,
}

impl Scheduler {
    pub fn add(&mut self, id: SequenceId) {
        self.waiting.push_back(id);
    }

    pub fn is_idle(&self) -> bool {
        self.running.is_empty() && self.waiting.is_empty()
    }

    /// Everyone who runs or waits.
    pub fn all(&self) -> impl Iterator<Item = SequenceId> + '_ {
        self.running.iter().chain(&self.waiting).copied()
    }

    pub fn running(&self) -> impl ExactSizeIterator<Item = SequenceId> + '_ {
        self.running.iter().copied()
    }

    pub fn waiting(&self) -> impl Iterator<Item = SequenceId> + '_ {
        self.waiting.iter().copied()
    }

    /// Forgets a sequence that has ended, and gives its blocks back.
    pub fn remove(&mut self, sequence: &mut Sequence, pool: &mut BlockPool) {
        self.running.retain(|id| *id != sequence.id);
        self.waiting.retain(|id| *id != sequence.id);
        release(sequence, pool);
    }

    /// Plans a step. Sequences that can never run are returned with the reason.
    pub fn plan(
        &mut self,
        sequences: &mut HashMap<SequenceId, Sequence>,
        pool: &mut BlockPool,
        limits: Limits,
    ) -> (Vec<Work>, Vec<(SequenceId, GenerateError)>) {
        let mut budget = limits.tokens_per_step;
        let mut plan = Vec::new();
        let mut refused = Vec::new();
        self.running.retain(|id| sequences.contains_key(id));
        for id in self.in_turn(sequences) {
            let available = pool.num_available();
            let Some(rows) = sequences.get_mut(&id).map(|s| s.rows_within(budget, available)) else { continue };
            if rows == 0 || !self.running.contains(&id) {
                continue; // the budget is spent, or an older one took its blocks
            }
            if self.make_room(id, rows, sequences, pool) {
                budget -= rows;
                plan.push(Work { sequence: id, rows });
            } else if self.running.len() > 1 {
                self.preempt(id, sequences, pool);
            } else {
                let blocks = pool.num_blocks();
                refused.push((id, GenerateError::Engine(format!("a sequence needs more than all {blocks} KV blocks"))));
            }
        }
        // A sequence that was preempted while the running ones made room has no work in this step.
        plan.retain(|w| self.running.contains(&w.sequence));
        if self.preempted_none(&plan) {
            self.admit(sequences, pool, limits, &mut budget, &mut plan);
        }
        (plan, refused)
    }

    /// Admits waiting ones only while no running one was left without work.
    fn preempted_none(&self, plan: &[Work]) -> bool {
        plan.len() == self.running.len()
    }

    fn admit(
        &mut self,
        sequences: &mut HashMap<SequenceId, Sequence>,
        pool: &mut BlockPool,
        limits: Limits,
        budget: &mut usize,
        plan: &mut Vec<Work>,
    ) {
        let mut i = 0;
        while i < self.waiting.len() && *budget > 0 && self.running.len() < limits.sequences_running {
            let id = self.waiting[i];
            let Some(sequence) = sequences.get_mut(&id) else {
                self.waiting.remove(i);
                continue;
            };
            // Somebody running is about to compute what this one could share: wait for it instead of computing twice.
            if limits.share_prefixes && awaits_another(sequence, pool) {
                i += 1;
                continue;
            }
            if limits.share_prefixes {
                adopt_prefix(sequence, pool);
            }
            let rows = sequence.num_waiting().min(*budget);
            // The whole prompt must fit beside the others, or admitting it would only preempt it again.
            if sequence.blocks_missing(sequence.num_waiting()) > pool.num_available() && !self.running.is_empty() {
                release(sequence, pool);
                return;
            }
            if !take_blocks(sequence, rows, pool) {
                release(sequence, pool);
                return;
            }
            if !sequence.admitted {
                sequence.admitted = true;
                sequence.cached = sequence.num_computed;
            }
            let mine = sequence.num_computed / BLOCK_TOKENS..sequence.hashes.len();
            sequence.pending = sequence.hashes[mine].to_vec();
            sequence.pending.iter().for_each(|h| pool.add_pending(*h));
            *budget -= rows;
            plan.push(Work { sequence: id, rows });
            self.running.push_back(id);
            self.waiting.remove(i);
        }
    }

    /// Running ones in the order they get rows: those that decode first, so that a long prefill does not stop them.
    fn in_turn(&self, sequences: &HashMap<SequenceId, Sequence>) -> Vec<SequenceId> {
        const DECODING_ROWS_MAX: usize = 16; // one token, or a few that a grammar forced
        let decodes = |id: &&SequenceId| sequences.get(id).is_some_and(|s| s.num_waiting() <= DECODING_ROWS_MAX);
        let (mut first, rest): (Vec<_>, Vec<_>) = self.running.iter().partition(decodes);
        first.extend(rest);
        first
    }

    fn preempt(&mut self, id: SequenceId, sequences: &mut HashMap<SequenceId, Sequence>, pool: &mut BlockPool) {
        self.running.retain(|r| *r != id);
        if let Some(sequence) = sequences.get_mut(&id) {
            release(sequence, pool);
            self.preemptions += 1;
            self.waiting.push_front(id);
        }
    }

    /// Gets `id` the blocks for `rows` more tokens, preempting the youngest others if it must.
    fn make_room(
        &mut self,
        id: SequenceId,
        rows: usize,
        sequences: &mut HashMap<SequenceId, Sequence>,
        pool: &mut BlockPool,
    ) -> bool {
        loop {
            let Some(sequence) = sequences.get_mut(&id) else { return false };
            if take_blocks(sequence, rows, pool) {
                return true;
            }
            // Youngest first: it has the least computed work to lose.
            let Some(victim) = self.running.back().copied().filter(|v| *v != id) else { return false };
            self.preempt(victim, sequences, pool);
        }
    }
}

/// Whether the next prompt block it would have to compute is already being computed by another.
fn awaits_another(sequence: &Sequence, pool: &BlockPool) -> bool {
    let reusable = sequence.reusable_tokens() / BLOCK_TOKENS;
    sequence.hashes.iter().take(reusable).find(|h| !pool.is_computed(h)).is_some_and(|h| pool.is_pending(h))
}

/// Takes over the computed blocks that begin with the same tokens.
fn adopt_prefix(sequence: &mut Sequence, pool: &mut BlockPool) {
    let reusable = sequence.reusable_tokens() / BLOCK_TOKENS;
    for hash in sequence.hashes.iter().take(reusable) {
        let Some(block) = pool.share(hash) else { break };
        sequence.block_table.push(block);
    }
    sequence.num_computed = sequence.block_table.len() * BLOCK_TOKENS;
}

fn take_blocks(sequence: &mut Sequence, rows: usize, pool: &mut BlockPool) -> bool {
    let missing = sequence.blocks_missing(rows);
    if missing > pool.num_available() {
        return false;
    }
    for _ in 0..missing {
        let Some(block) = pool.take() else { return false };
        sequence.block_table.push(block);
    }
    true
}

/// Gives all blocks back; the sequence starts over when it is admitted again.
fn release(sequence: &mut Sequence, pool: &mut BlockPool) {
    pool.release(&sequence.block_table);
    sequence.block_table.clear();
    sequence.num_computed = 0;
    sequence.draft.clear();
    sequence.log_probs.clear();
    sequence.logits.clear();
    sequence.pending.drain(..).for_each(|h| pool.remove_pending(&h));
}
