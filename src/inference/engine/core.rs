//! The engine without text: token requests in, token results out, one step at a time.
//!
//! A step: schedule rows within the budget -> one forward pass over all of them -> take in the logits -> append.

use std::collections::HashMap;

use super::block_pool::{BlockPool, block_hashes};
use super::kv_disk::{KvDisk, is_worth_keeping};
use super::request::{FinishReason, GenerateError};
use super::scheduler::{Limits, Scheduler, Work};
use super::sequence::{Outcome, Sequence, TokenRequest, TokenResult};
use super::speculation::{CHEAP_ROWS, agreed};
use crate::ids::SequenceId;
use crate::inference::model::{BLOCK_TOKENS, CausalLm, ForwardBatch, Logits, Span};

/// What the engine has done since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    pub steps: usize,
    pub rows: usize, // computed and kept, prompt and answer
    pub prompt_tokens: usize,
    pub cached_tokens: usize, // of the prompts, not computed again
    pub completion_tokens: usize,
    pub preemptions: usize,
    pub proposed_tokens: usize, // by speculation: computed on trial
    pub accepted_tokens: usize, // of those, the ones that the answers have
}

/// A model, its blocks, and the sequences in progress.
pub struct Core {
    model: Box<dyn CausalLm>,
    pool: BlockPool,
    scheduler: Scheduler,
    sequences: HashMap<SequenceId, Sequence>,
    limits: Limits,
    next_id: u64,
    metrics: Metrics,
    disk: Option<KvDisk>,
}

impl Core {
    pub fn new(model: Box<dyn CausalLm>, limits: Limits) -> Self {
        Self {
            pool: BlockPool::new(model.num_blocks()),
            model,
            scheduler: Scheduler::default(),
            sequences: HashMap::new(),
            limits,
            next_id: 0,
            metrics: Metrics::default(),
            disk: None,
        }
    }

    /// Keeps keys and values of long prompts on disk, and takes them from there; a model that cannot give them does not.
    pub fn with_disk(self, disk: KvDisk) -> Self {
        Self { disk: Some(disk), ..self }
    }

    /// Positions that the cache holds, all sequences together.
    pub fn capacity(&self) -> usize {
        self.pool.num_blocks() * BLOCK_TOKENS
    }

    pub fn metrics(&self) -> Metrics {
        Metrics { preemptions: self.scheduler.preemptions, ..self.metrics }
    }

    /// Takes a request on; its result comes from a later [`Core::step`].
    pub fn submit(&mut self, request: TokenRequest) -> Result<SequenceId, GenerateError> {
        if request.prompt.is_empty() {
            return Err(GenerateError::EmptyPrompt);
        }
        self.next_id += 1;
        let id = SequenceId(self.next_id);
        self.sequences.insert(id, Sequence::new(id, request));
        self.scheduler.add(id);
        Ok(id)
    }

    pub fn is_idle(&self) -> bool {
        self.scheduler.is_idle()
    }

    /// Does one step and returns the requests that ended in it.
    pub fn step(&mut self) -> Vec<(SequenceId, Result<TokenResult, GenerateError>)> {
        let mut ended = self.drop_cancelled();
        self.restore();
        self.propose();
        let (plan, refused) = self.scheduler.plan(&mut self.sequences, &mut self.pool, self.limits);
        for (id, error) in refused {
            self.end(id, Err(error), &mut ended);
        }
        if plan.is_empty() {
            return ended;
        }
        self.metrics.steps += 1;
        match self.forward(&plan) {
            Ok((logits, wanted)) => self.take_in(&plan, logits, &wanted, &mut ended),
            // A forward pass fails for all its rows: each request is told, none is left waiting.
            Err(error) => plan.iter().for_each(|w| self.end(w.sequence, Err(error.clone()), &mut ended)),
        }
        ended
    }

    /// Fails everything in progress, for when the engine cannot go on.
    pub fn fail_all(&mut self, error: &GenerateError) -> Vec<(SequenceId, Result<TokenResult, GenerateError>)> {
        let mut ended = Vec::new();
        for id in self.scheduler.all().collect::<Vec<_>>() {
            self.end(id, Err(error.clone()), &mut ended);
        }
        ended
    }

    fn drop_cancelled(&mut self) -> Vec<(SequenceId, Result<TokenResult, GenerateError>)> {
        let mut ended = Vec::new();
        for id in self.scheduler.all().collect::<Vec<_>>() {
            let why = self.sequences.get(&id).map(|s| s.cancel.check());
            if let Some(Err(error)) = why {
                self.end(id, Err(error), &mut ended);
            }
        }
        ended
    }

    /// Fetches from disk what the sequences that are admitted next can share, as if it had been computed before.
    fn restore(&mut self) {
        let Some((disk, model)) = self.disk.as_ref().zip(self.model.block_bytes()) else { return };
        let mut room = self.pool.num_available();
        for id in self.scheduler.waiting() {
            let Some(sequence) = self.sequences.get_mut(&id) else { continue };
            let needed = sequence.tokens.len().div_ceil(BLOCK_TOKENS);
            if needed > room {
                break;
            }
            room -= needed;
            if !std::mem::replace(&mut sequence.looked_up, true) && is_worth_keeping(sequence.prompt_len) {
                let reusable = (sequence.reusable_tokens() / BLOCK_TOKENS).min(sequence.hashes.len());
                disk.restore(&sequence.hashes[..reusable], &mut self.pool, model);
            }
        }
    }

    /// Lets the running sequences propose tokens, in the rows that the step has free.
    fn propose(&mut self) {
        if !self.limits.speculate {
            return;
        }
        let waiting = |id: SequenceId| self.sequences.get(&id).map_or(0, Sequence::num_waiting);
        let busy: usize = self.scheduler.running().map(waiting).sum();
        let free = CHEAP_ROWS.min(self.limits.tokens_per_step).saturating_sub(busy);
        let each = free / self.scheduler.running().len().max(1);
        for id in self.scheduler.running() {
            if let Some(sequence) = self.sequences.get_mut(&id) {
                sequence.propose(each);
            }
        }
    }

    /// Computes the planned rows; returns the logits and, for each of their rows, (work, token index).
    fn forward(&mut self, plan: &[Work]) -> Result<(Logits, Vec<(usize, usize)>), GenerateError> {
        let (mut tokens, mut wanted, mut logits_rows) = (Vec::new(), Vec::new(), Vec::new());
        let mut spans = Vec::new();
        for (w, work) in plan.iter().enumerate() {
            let sequence = &self.sequences[&work.sequence];
            let first = sequence.num_computed;
            spans.push(Span {
                first_row: tokens.len(),
                rows: work.rows,
                first_position: first,
                block_table: &sequence.block_table,
            });
            for index in first..first + work.rows {
                if sequence.wants_logits(index) {
                    logits_rows.push(tokens.len());
                    wanted.push((w, index));
                }
                tokens.push(sequence.token(index));
            }
        }
        let batch = ForwardBatch { tokens: &tokens, spans: &spans, logits_rows: &logits_rows };
        let logits = self.model.forward(&batch).map_err(|e| GenerateError::Engine(e.to_string()))?;
        Ok((logits, wanted))
    }

    fn take_in(
        &mut self,
        plan: &[Work],
        mut logits: Logits,
        wanted: &[(usize, usize)],
        ended: &mut Vec<(SequenceId, Result<TokenResult, GenerateError>)>,
    ) {
        let mut next = 0;
        for (w, work) in plan.iter().enumerate() {
            let first = next;
            next += wanted[first..].iter().take_while(|(of, _)| *of == w).count();
            let Some(sequence) = self.sequences.get_mut(&work.sequence) else { continue };
            let draft = std::mem::take(&mut sequence.draft);
            let known = sequence.tokens.len(); // from here on the rows were proposed ones
            sequence.num_computed += work.rows - draft.len();
            publish(sequence, &mut self.pool);
            let mut outcome = Outcome::Going;
            for (i, (_, index)) in wanted.iter().enumerate().take(next).skip(first) {
                // The logits of a proposed token hold only if the answer has come all the way to it.
                if *index >= known + agreed(&draft, &sequence.tokens[known..]) {
                    break;
                }
                outcome = sequence.observe(*index, logits.row_mut(i));
                if !matches!(outcome, Outcome::Going) {
                    break;
                }
            }
            // What was computed after another token than the one chosen is computed again, over it.
            let accepted = agreed(&draft, &sequence.tokens[known..]);
            sequence.num_computed += accepted;
            sequence.speculation.learn(draft.len(), accepted);
            self.metrics.rows += work.rows - draft.len() + accepted;
            self.metrics.proposed_tokens += draft.len();
            self.metrics.accepted_tokens += accepted;
            match outcome {
                Outcome::Going if sequence.is_complete() => self.end(work.sequence, Ok(FinishReason::Stop), ended),
                Outcome::Going => {}
                Outcome::Done(finish) => self.end(work.sequence, Ok(finish), ended),
                Outcome::Failed(error) => self.end(work.sequence, Err(error), ended),
            }
        }
        self.model.take_back(logits);
    }

    fn end(
        &mut self,
        id: SequenceId,
        how: Result<FinishReason, GenerateError>,
        ended: &mut Vec<(SequenceId, Result<TokenResult, GenerateError>)>,
    ) {
        let Some(mut sequence) = self.sequences.remove(&id) else { return };
        // The scheduler gives the blocks back, which also clears what was collected: take that out first.
        let log_probs = std::mem::take(&mut sequence.log_probs);
        let logits = std::mem::take(&mut sequence.logits);
        if how.is_ok()
            && is_worth_keeping(sequence.prompt_len)
            && let Some((disk, model)) = self.disk.as_mut().zip(self.model.block_bytes())
        {
            let full = (sequence.num_computed / BLOCK_TOKENS).min(sequence.hashes.len());
            disk.keep(&sequence.hashes[..full], &sequence.block_table[..full], model);
        }
        if how.is_ok() {
            publish_answer(&sequence, &mut self.pool);
        }
        self.scheduler.remove(&mut sequence, &mut self.pool);
        let result = how.map(|finish| TokenResult { log_probs, logits, ..sequence.into_result(finish) });
        if let Ok(result) = &result {
            self.metrics.prompt_tokens += result.usage.prompt_tokens;
            self.metrics.cached_tokens += result.usage.cached_tokens;
            self.metrics.completion_tokens += result.usage.completion_tokens;
        }
        ended.push((id, result));
    }
}

/// Lets what comes next in a dialog share the blocks of an answer: it stands in the next prompt.
fn publish_answer(sequence: &Sequence, pool: &mut BlockPool) {
    let full = sequence.num_computed.min(sequence.tokens.len()) / BLOCK_TOKENS;
    if full <= sequence.hashes.len() {
        return;
    }
    let hashes = block_hashes(&sequence.tokens[..full * BLOCK_TOKENS]);
    for (hash, block) in hashes.iter().zip(&sequence.block_table).skip(sequence.hashes.len()) {
        pool.mark_computed(*block, *hash);
    }
}

/// Lets others share the prompt blocks that are full and computed by now.
fn publish(sequence: &mut Sequence, pool: &mut BlockPool) {
    let full = (sequence.num_computed / BLOCK_TOKENS).min(sequence.hashes.len());
    for b in 0..full {
        let hash = sequence.hashes[b];
        if let Some(at) = sequence.pending.iter().position(|h| *h == hash) {
            pool.mark_computed(sequence.block_table[b], hash);
            sequence.pending.swap_remove(at);
            pool.remove_pending(&hash);
        }
    }
}
