//! The promises of the engine, bit for bit: batch = alone, chunked prefill = whole, prefix hit = miss, preempted = not,
//! one thread = many. On a toy whose logits tell every position it has read, and on the tiny GraniteMoE fixture.

use std::path::PathBuf;

use super::core::Core;
use super::request::{CancelToken, FinishReason};
use super::scheduler::Limits;
use super::sequence::{Decoding, Goal, TokenRequest, TokenResult};
use crate::ids::{BlockId, SequenceId, TokenId};
use crate::inference::kernels::Isa;
use crate::inference::model::{
    Architecture, BLOCK_TOKENS, CausalLm, CpuDecoder, ForwardBatch, ForwardError, KvKind, Logits, ModelConfig,
    ModelSource, Weights,
};
use crate::inference::sampler::{Sampler, SamplingParams};

pub(super) const TOY_VOCABULARY: usize = 61;

/// Keeps the tokens themselves in its blocks; the logits of a row are a hash of all tokens it can reach through its
/// block table, so any mix-up of blocks changes what is generated.
pub(super) struct Toy {
    config: ModelConfig,
    blocks: Vec<[TokenId; BLOCK_TOKENS]>,
    repeats: bool, // mostly the last two tokens alone decide, so that answers repeat themselves, and then do not
}

impl Toy {
    pub fn new(blocks: usize) -> Box<Self> {
        Self::with(blocks, TOY_VOCABULARY, false)
    }

    pub fn with(blocks: usize, vocabulary: usize, repeats: bool) -> Box<Self> {
        let config = ModelConfig {
            architecture: Architecture::Llama,
            layers: 1,
            hidden: 16,
            heads: 1,
            kv_heads: 1,
            head_dim: 16,
            inner: 16,
            experts: 1,
            experts_per_token: 1,
            vocabulary,
            window: 4096,
            norm_eps: 1e-6,
            rope_theta: 1e4,
            embedding_multiplier: 1.0,
            residual_multiplier: 1.0,
            attention_multiplier: 1.0,
            logits_divisor: 1.0,
        };
        Box::new(Self { config, blocks: vec![[TokenId::MAX; BLOCK_TOKENS]; blocks], repeats })
    }
}

impl CausalLm for Toy {
    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn num_blocks(&self) -> usize {
        self.blocks.len()
    }

    fn forward(&mut self, batch: &ForwardBatch<'_>) -> Result<Logits, ForwardError> {
        let mut values = Vec::new();
        for span in batch.spans {
            for i in 0..span.rows {
                let position = span.first_position + i;
                let block = span.block_table[position / BLOCK_TOKENS];
                self.blocks[block.index()][position % BLOCK_TOKENS] = batch.tokens[span.first_row + i];
                if !batch.logits_rows.contains(&(span.first_row + i)) {
                    continue;
                }
                let mut hash = 17u64;
                let mut last = [0; 2];
                for p in 0..=position {
                    let token = self.blocks[span.block_table[p / BLOCK_TOKENS].index()][p % BLOCK_TOKENS];
                    assert_ne!(token, TokenId::MAX, "position {p} was never computed");
                    hash = hash.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(u64::from(token) + 1);
                    last = [last[1], u64::from(token)];
                }
                if self.repeats && !hash.is_multiple_of(11) {
                    hash = (last[0] * 1009 + last[1] + 1).wrapping_mul(6_364_136_223_846_793_005);
                }
                let score = |t: u64| (hash ^ t.wrapping_mul(0x9E37_79B9_7F4A_7C15)).rotate_left(t as u32) % 1009;
                values.extend((0..self.config.vocabulary as u64).map(|t| score(t) as f32));
            }
        }
        Ok(Logits { width: self.config.vocabulary, values })
    }

    fn copy_block(&mut self, from: BlockId, to: BlockId) -> Result<(), ForwardError> {
        self.blocks[to.index()] = self.blocks[from.index()];
        Ok(())
    }
}

fn generate(max_tokens: usize) -> Goal {
    let sampling = SamplingParams { temperature: 0.8, seed: 5, ..SamplingParams::default() };
    let sampler = Sampler::new(&sampling).unwrap();
    Goal::Generate(Box::new(Decoding { max_tokens, sampler, matcher: None, end_ids: Vec::new(), stop: None }))
}

pub(super) fn prompt(seed: u32, len: usize, vocabulary: usize) -> Vec<TokenId> {
    (0..len as u32).map(|i| (seed.wrapping_mul(7919) + i * i * 31 + i * 17) % vocabulary as u32).collect()
}

/// Runs all requests together and returns their results in order.
pub(super) fn together(core: &mut Core, requests: Vec<(Vec<TokenId>, Goal)>) -> Vec<TokenResult> {
    let submit = |(prompt, goal)| core.submit(TokenRequest { prompt, goal, cancel: CancelToken::default() }).unwrap();
    let ids: Vec<SequenceId> = requests.into_iter().map(submit).collect();
    let mut results: Vec<Option<TokenResult>> = ids.iter().map(|_| None).collect();
    while !core.is_idle() {
        for (id, result) in core.step() {
            let at = ids.iter().position(|i| *i == id).unwrap();
            results[at] = Some(result.unwrap());
        }
    }
    results.into_iter().map(Option::unwrap).collect()
}

pub(super) fn limits(tokens_per_step: usize) -> Limits {
    Limits { tokens_per_step, ..Limits::default() }
}

/// What each prompt gives alone, whole, on a fresh engine.
fn toy_truth(prompts: &[Vec<TokenId>], max_tokens: usize) -> Vec<Vec<TokenId>> {
    let alone = |p: &Vec<TokenId>| {
        let mut core = Core::new(Toy::new(64), limits(4096));
        together(&mut core, vec![(p.clone(), generate(max_tokens))]).remove(0).tokens
    };
    prompts.iter().map(alone).collect()
}

fn toy_prompts() -> Vec<Vec<TokenId>> {
    // Two share their first 100 tokens, one is a whole number of blocks, one is a single token.
    let mut shared = prompt(1, 150, TOY_VOCABULARY);
    shared[100..].iter_mut().for_each(|t| *t = (*t + 3) % TOY_VOCABULARY as u32);
    let mut all = vec![prompt(1, 130, TOY_VOCABULARY), shared, prompt(2, 64, TOY_VOCABULARY), vec![9]];
    all.extend((3..9).map(|s| prompt(s, 20 + s as usize * 13, TOY_VOCABULARY)));
    all
}

#[test]
fn batching_and_chunks_and_prefixes_change_no_token() {
    let prompts = toy_prompts();
    let truth = toy_truth(&prompts, 40);
    for tokens_per_step in [1, 7, 33, 64, 512] {
        let mut core = Core::new(Toy::new(256), limits(tokens_per_step));
        for round in 0..2 {
            let requests = prompts.iter().map(|p| (p.clone(), generate(40))).collect();
            let results = together(&mut core, requests);
            for (result, truth) in results.iter().zip(&truth) {
                assert_eq!(&result.tokens, truth, "{tokens_per_step} tokens per step, round {round}");
                assert_eq!(result.finish, FinishReason::Length);
            }
            // The second round finds every full block of every prompt but the one that gives the first token.
            let cached: usize = results.iter().map(|r| r.usage.cached_tokens).sum();
            let full = |p: &Vec<TokenId>| (p.len() - 1) / BLOCK_TOKENS * BLOCK_TOKENS;
            let expected = if round == 1 { prompts.iter().map(full).sum() } else { 96 };
            assert_eq!(cached, expected, "round {round}: the shared 96 tokens are computed once");
        }
    }
}

#[test]
fn prompts_that_share_nothing_give_the_same_tokens() {
    let prompts = toy_prompts();
    let mut core = Core::new(Toy::new(256), Limits { share_prefixes: false, ..limits(64) });
    let requests = prompts.iter().chain(&prompts).map(|p| (p.clone(), generate(40))).collect();
    let results = together(&mut core, requests);
    let tokens: Vec<_> = results.iter().map(|r| r.tokens.clone()).collect();
    let truth = toy_truth(&prompts, 40);
    assert_eq!(tokens, [truth.clone(), truth].concat());
    assert_eq!(core.metrics().cached_tokens, 0);
}

#[test]
fn what_follows_an_answer_shares_its_blocks_and_changes_no_token() {
    let mut core = Core::new(Toy::new(64), limits(64));
    let mut said = prompt(1, 45, TOY_VOCABULARY);
    for turn in 0..3 {
        let before = said.len();
        said.extend(together(&mut core, vec![(said.clone(), generate(70))]).remove(0).tokens);
        said.extend(prompt(turn + 2, 20, TOY_VOCABULARY));
        let next = together(&mut core, vec![(said.clone(), generate(30))]).remove(0);
        // All that had been computed: the prompt and the answer, but for the last token of it.
        let expected = (before + 69) / BLOCK_TOKENS * BLOCK_TOKENS;
        assert_eq!(next.usage.cached_tokens, expected, "turn {turn}");
        assert_eq!(next.tokens, toy_truth(std::slice::from_ref(&said), 30)[0]);
    }
}

#[test]
fn four_steps_over_one_document_read_it_once() {
    let document = prompt(1, 1500, TOY_VOCABULARY);
    let after = |question: u32| [document.clone(), prompt(question + 2, 30, TOY_VOCABULARY)].concat();
    let goals = |question: u32| match question {
        3 => Goal::Score { from: 1530 },
        _ => generate(20),
    };
    let asked = |question: u32| match question {
        3 => (0..5).map(|label| [after(3), vec![label, label + 1]].concat()).collect(),
        question => vec![after(question)],
    };
    let run = |core: &mut Core, question: u32| {
        let requests = asked(question).into_iter().map(|p| (p, goals(question))).collect();
        together(core, requests).into_iter().map(|r| (r.tokens, r.log_probs)).collect::<Vec<_>>()
    };
    let computed = |core: &Core| core.metrics().prompt_tokens - core.metrics().cached_tokens;
    let mut one = Core::new(Toy::new(128), limits(256));
    let mut separate = 0;
    for question in 0..4 {
        let mut own = Core::new(Toy::new(128), limits(256));
        assert_eq!(run(&mut one, question), run(&mut own, question), "question {question}");
        separate += computed(&own);
    }
    let together = computed(&one);
    assert!(separate >= 3 * together, "{together} tokens computed together, {separate} apart");
}

#[test]
fn a_preempted_sequence_gives_what_it_would_have_given() {
    let prompts = toy_prompts();
    let truth = toy_truth(&prompts, 60);
    let mut core = Core::new(Toy::new(14), limits(64));
    let results = together(&mut core, prompts.iter().map(|p| (p.clone(), generate(60))).collect());
    assert!(core.metrics().preemptions > 0, "14 blocks are too few for all of them at once");
    for (result, truth) in results.iter().zip(&truth) {
        assert_eq!(&result.tokens, truth);
    }
}

#[test]
fn a_sequence_that_can_never_fit_is_refused_and_the_others_go_on() {
    let mut core = Core::new(Toy::new(4), limits(64));
    let long =
        core.submit(TokenRequest { prompt: prompt(1, 200, 61), goal: generate(4), cancel: CancelToken::default() });
    let short =
        core.submit(TokenRequest { prompt: prompt(2, 20, 61), goal: generate(4), cancel: CancelToken::default() });
    let mut ended = Vec::new();
    while !core.is_idle() {
        ended.extend(core.step());
    }
    let of = |id| ended.iter().find(|(e, _)| Ok(*e) == id).map(|(_, r)| r.is_ok());
    assert_eq!((of(long), of(short)), (Some(false), Some(true)));
}

#[test]
fn a_cancelled_request_ends_and_gives_its_blocks_back() {
    let mut core = Core::new(Toy::new(64), limits(16));
    let cancel = CancelToken::default();
    core.submit(TokenRequest { prompt: prompt(1, 200, 61), goal: generate(500), cancel: cancel.clone() }).unwrap();
    core.step();
    cancel.cancel();
    assert!(core.step().iter().any(|(_, r)| r.is_err()));
    assert!(core.is_idle());
}

pub(super) fn tiny() -> ModelSource {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/models/tiny-granitemoe");
    ModelSource::open(&path).unwrap()
}

fn tiny_core(source: &ModelSource, threads: usize, kv: KvKind, blocks: usize, tokens_per_step: usize) -> Core {
    Core::new(Box::new(tiny_decoder(source, threads, kv, blocks)), limits(tokens_per_step))
}

pub(super) fn tiny_decoder(source: &ModelSource, threads: usize, kv: KvKind, blocks: usize) -> CpuDecoder {
    let weights = Weights::load(source, &|_, _| ()).unwrap();
    CpuDecoder::new(source.config().clone(), weights, Isa::detect(), threads, kv, blocks)
}

/// The logits of every prompt under the given circumstances, as bits.
fn bits(results: &[TokenResult]) -> Vec<Vec<u32>> {
    results.iter().map(|r| r.logits.iter().flatten().map(|x| x.to_bits()).collect()).collect()
}

#[test]
fn logits_of_the_decoder_are_bit_equal_whatever_happens_around_them() {
    let source = tiny();
    let prompts: Vec<_> = (0..5).map(|s| prompt(s, 20 + 17 * s as usize, 512)).collect();
    for kv in KvKind::ALL {
        let truth: Vec<Vec<u32>> = prompts
            .iter()
            .flat_map(|p| bits(&together(&mut tiny_core(&source, 1, kv, 64, 4096), vec![(p.clone(), Goal::Logits)])))
            .collect();
        for (threads, tokens_per_step) in [(1, 4096), (3, 4096), (2, 13), (1, 32)] {
            let mut core = tiny_core(&source, threads, kv, 64, tokens_per_step);
            let results = together(&mut core, prompts.iter().map(|p| (p.clone(), Goal::Logits)).collect());
            assert!(bits(&results) == truth, "{kv:?}, {threads} threads, {tokens_per_step} tokens per step");
        }
    }
}

#[test]
fn generation_and_scores_are_the_same_with_a_prefix_hit_and_without() {
    let source = tiny();
    let long = prompt(3, 100, 512);
    let fresh = |goal: Goal, prompt: &[TokenId]| {
        let mut core = tiny_core(&source, 2, KvKind::Bf16, 64, 512);
        together(&mut core, vec![(prompt.to_vec(), goal)]).remove(0)
    };
    let mut warm = tiny_core(&source, 2, KvKind::Bf16, 64, 512);
    together(&mut warm, vec![(long.clone(), generate(2))]);
    let hit = together(&mut warm, vec![(long.clone(), generate(24)), (long.clone(), Goal::Score { from: 97 })]);
    assert_eq!((hit[0].usage.cached_tokens, hit[1].usage.cached_tokens), (96, 96));
    assert_eq!(hit[0].tokens, fresh(generate(24), &long).tokens);
    let scores = |r: &TokenResult| r.log_probs.iter().map(|p| p.to_bits()).collect::<Vec<_>>();
    assert_eq!(scores(&hit[1]), scores(&fresh(Goal::Score { from: 97 }, &long)));
    assert_eq!(hit[1].log_probs.len(), 3);
}
