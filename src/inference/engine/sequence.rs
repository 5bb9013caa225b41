//! One request while it is being worked on. A sequence needs work while `num_computed < len`, and a token is chosen
//! when its last one has been computed: that covers prefill, decoding, prefix reuse, forced tokens and preemption.

use super::block_pool::BlockHash;
use super::request::{CancelToken, FinishReason, GenerateError, Usage};
use super::speculation::Speculation;
use crate::ids::{BlockId, SequenceId, TokenId};
use crate::inference::grammar::{GrammarError, Matcher};
use crate::inference::model::BLOCK_TOKENS;
use crate::inference::sampler::{SampleError, Sampler, log_prob};

/// What the engine's core is asked to do, in tokens.
pub struct TokenRequest {
    pub prompt: Vec<TokenId>, // at least one
    pub goal: Goal,
    pub cancel: CancelToken,
}

pub enum Goal {
    /// Continue the prompt.
    Generate(Box<Decoding>),
    /// Give the log-probability of each prompt token from this index on, after those before it.
    Score { from: usize },
    /// Give the logits of every prompt token.
    Logits,
}

/// How an answer is decoded.
pub struct Decoding {
    pub max_tokens: usize,
    pub sampler: Sampler,
    pub matcher: Option<Matcher>,
    pub end_ids: Vec<TokenId>, // any of them ends the answer and is not part of it
    /// Told of each new token of the answer; true ends it. How stop strings are found.
    pub stop: Option<Box<dyn FnMut(TokenId) -> bool + Send>>,
}

/// What came of a request.
pub struct TokenResult {
    pub tokens: Vec<TokenId>, // generated
    pub finish: FinishReason,
    pub log_probs: Vec<f32>,   // of a `Score` goal
    pub logits: Vec<Vec<f32>>, // of a `Logits` goal: (prompt tokens, vocabulary)
    pub usage: Usage,
}

/// A request in progress.
pub(super) struct Sequence {
    pub id: SequenceId,
    pub tokens: Vec<TokenId>, // prompt, then answer
    pub prompt_len: usize,
    pub num_computed: usize, // tokens whose keys and values are in the blocks
    pub draft: Vec<TokenId>, // proposed to follow `tokens`, for the next step only
    pub speculation: Speculation,
    pub block_table: Vec<BlockId>,
    pub hashes: Vec<BlockHash>,  // of the prompt's full blocks
    pub pending: Vec<BlockHash>, // of those, announced and not yet computed
    pub goal: Goal,
    pub cancel: CancelToken,
    pub cached: usize, // prompt tokens found in the prefix cache when it was first admitted
    pub admitted: bool,
    pub looked_up: bool, // on disk
    pub log_probs: Vec<f32>,
    pub logits: Vec<Vec<f32>>,
}

/// What happened to a sequence in a step.
pub(super) enum Outcome {
    Going,
    Done(FinishReason),
    Failed(GenerateError),
}

impl Sequence {
    pub fn new(id: SequenceId, request: TokenRequest) -> Self {
        let hashes = super::block_pool::block_hashes(&request.prompt);
        Self {
            id,
            prompt_len: request.prompt.len(),
            tokens: request.prompt,
            num_computed: 0,
            draft: Vec::new(),
            speculation: Speculation::default(),
            block_table: Vec::new(),
            hashes,
            pending: Vec::new(),
            goal: request.goal,
            cancel: request.cancel,
            cached: 0,
            admitted: false,
            looked_up: false,
            log_probs: Vec::new(),
            logits: Vec::new(),
        }
    }

    /// Tokens that wait to be computed.
    pub fn num_waiting(&self) -> usize {
        self.tokens.len() - self.num_computed
    }

    /// Blocks missing for the next `rows` tokens.
    pub fn blocks_missing(&self, rows: usize) -> usize {
        (self.num_computed + rows).div_ceil(BLOCK_TOKENS).saturating_sub(self.block_table.len())
    }

    /// Token `index` of the sequence and what is proposed to follow it.
    pub fn token(&self, index: usize) -> TokenId {
        self.tokens.get(index).copied().unwrap_or_else(|| self.draft[index - self.tokens.len()])
    }

    /// Proposes at most `most` tokens for the next step, and fewer than the answer may still have: the last one of an
    /// answer needs no row.
    pub fn propose(&mut self, most: usize) {
        self.draft.clear();
        if let Goal::Generate(decoding) = &self.goal {
            let left = decoding.max_tokens.saturating_sub(self.tokens.len() - self.prompt_len);
            self.draft = self.speculation.propose(&self.tokens, most.min(left.saturating_sub(1)));
        }
    }

    /// The rows to compute next within a budget: what waits, and what is proposed as far as it costs nobody a block
    /// that is not available. The proposal is cut to that.
    pub fn rows_within(&mut self, budget: usize, blocks_available: usize) -> usize {
        let waiting = self.num_waiting().min(budget);
        let rows = (self.num_waiting() + self.draft.len()).min(budget);
        let fits = self.blocks_missing(rows) <= blocks_available;
        let rows = if fits { rows } else { waiting };
        self.draft.truncate(rows - waiting);
        rows
    }

    /// Whether the logits of token `index` are wanted once it is computed.
    pub fn wants_logits(&self, index: usize) -> bool {
        match self.goal {
            Goal::Generate(_) => index + 1 >= self.tokens.len(), // of a proposed one too
            Goal::Score { from } => index + 1 >= from && index + 1 < self.tokens.len(),
            Goal::Logits => true,
        }
    }

    /// The first prompt token that must be computed even if its block is cached: some logits are always needed.
    pub fn reusable_tokens(&self) -> usize {
        match self.goal {
            Goal::Generate(_) => self.tokens.len() - 1,
            Goal::Score { from } => from - 1,
            Goal::Logits => 0,
        }
    }

    /// Takes in the logits of token `index`. Those before a token that is there already, as a grammar forces it, choose
    /// nothing.
    pub fn observe(&mut self, index: usize, logits: &mut [f32]) -> Outcome {
        match &mut self.goal {
            Goal::Score { .. } => {
                match log_prob(logits, self.tokens[index + 1]) {
                    Ok(log_prob) => self.log_probs.push(log_prob),
                    Err(error) => return Outcome::Failed(sampling(error)),
                }
                Outcome::Going
            }
            Goal::Logits => {
                self.logits.push(logits.to_vec());
                Outcome::Going
            }
            Goal::Generate(_) if index + 1 < self.tokens.len() => Outcome::Going,
            Goal::Generate(decoding) => match decoding.next(logits, &mut self.tokens, self.prompt_len) {
                Ok(None) => Outcome::Going,
                Ok(Some(finish)) => Outcome::Done(finish),
                Err(error) => Outcome::Failed(error),
            },
        }
    }

    /// After a step that computed its last token: whether a goal without an answer is reached.
    pub fn is_complete(&self) -> bool {
        !matches!(self.goal, Goal::Generate(_)) && self.num_waiting() == 0
    }

    pub fn into_result(mut self, finish: FinishReason) -> TokenResult {
        let tokens = self.tokens.split_off(self.prompt_len);
        let usage =
            Usage { prompt_tokens: self.prompt_len, cached_tokens: self.cached, completion_tokens: tokens.len() };
        TokenResult { tokens, finish, log_probs: self.log_probs, logits: self.logits, usage }
    }
}

impl Decoding {
    /// Chooses the next token, then appends what the grammar forces behind it. `Some` ends the answer.
    fn next(
        &mut self,
        logits: &mut [f32],
        tokens: &mut Vec<TokenId>,
        prompt_len: usize,
    ) -> Result<Option<FinishReason>, GenerateError> {
        let mask = match &mut self.matcher {
            Some(matcher) => Some(matcher.allowed().map_err(grammar)?),
            None => None,
        };
        let token = self.sampler.sample(logits, tokens, mask.as_ref()).map_err(sampling)?;
        if self.end_ids.contains(&token) {
            return Ok(Some(FinishReason::Stop));
        }
        if let Some(finish) = self.append(token, tokens, prompt_len) {
            return Ok(Some(finish));
        }
        let Some(matcher) = &mut self.matcher else { return Ok(None) };
        matcher.consume(&[token]).map_err(grammar)?;
        if matcher.is_stopped() {
            return Ok(Some(FinishReason::Stop));
        }
        let forced = matcher.forced_tokens();
        if forced.is_empty() {
            return Ok(None);
        }
        matcher.consume(&forced).map_err(grammar)?;
        let stopped = matcher.is_stopped();
        for token in forced {
            if self.end_ids.contains(&token) {
                return Ok(Some(FinishReason::Stop));
            }
            if let Some(finish) = self.append(token, tokens, prompt_len) {
                return Ok(Some(finish));
            }
        }
        Ok(stopped.then_some(FinishReason::Stop))
    }

    fn append(&mut self, token: TokenId, tokens: &mut Vec<TokenId>, prompt_len: usize) -> Option<FinishReason> {
        tokens.push(token);
        if self.stop.as_mut().is_some_and(|stop| stop(token)) {
            return Some(FinishReason::StopString);
        }
        (tokens.len() - prompt_len >= self.max_tokens).then_some(FinishReason::Length)
    }
}

fn grammar(error: GrammarError) -> GenerateError {
    GenerateError::Grammar(error.to_string())
}

fn sampling(error: SampleError) -> GenerateError {
    GenerateError::Engine(error.to_string())
}
