//! Speculation changes no token and no reason to end, whatever an answer is bound by and whoever else runs: on a toy
//! that repeats itself now and then, and on the tiny GraniteMoE fixture.

use std::sync::Arc;

use serde_json::json;

use super::core::{Core, Metrics};
use super::request::{Constraint, FinishReason};
use super::scheduler::Limits;
use super::sequence::{Decoding, Goal};
use super::tests::{TOY_VOCABULARY, Toy, limits, prompt, tiny, tiny_decoder, together};
use crate::ids::TokenId;
use crate::inference::grammar::{GrammarFactory, Matcher};
use crate::inference::model::{CausalLm, KvKind};
use crate::inference::sampler::{Sampler, SamplingParams};
use crate::inference::tokenizer::tests_support::small_tokenizer;

/// A prompt and how its answer is decoded; made anew for each run.
type Ask<'a> = Box<dyn Fn() -> (Vec<TokenId>, Goal) + 'a>;

/// What came of a request: the answer and why it ended.
type Answers = Vec<(Vec<TokenId>, FinishReason)>;

fn decoding(max_tokens: usize) -> Decoding {
    sampled(max_tokens, &SamplingParams::default())
}

fn sampled(max_tokens: usize, sampling: &SamplingParams) -> Decoding {
    let sampler = Sampler::new(sampling).unwrap();
    Decoding { max_tokens, sampler, matcher: None, end_ids: Vec::new(), stop: None }
}

fn goal(decoding: Decoding) -> Goal {
    Goal::Generate(Box::new(decoding))
}

fn run(model: Box<dyn CausalLm>, limits: Limits, asks: &[Ask]) -> (Answers, Metrics) {
    let mut core = Core::new(model, limits);
    let results = together(&mut core, asks.iter().map(|ask| ask()).collect());
    (results.into_iter().map(|r| (r.tokens, r.finish)).collect(), core.metrics())
}

/// Asks with and without speculation, together under several budgets and alone, and returns the answers and what was
/// done with speculation, all added up.
fn check(model: &dyn Fn() -> Box<dyn CausalLm>, asks: &[Ask]) -> (Answers, Metrics) {
    let plain = |per_step| Limits { speculate: false, ..limits(per_step) };
    let (truth, without) = run(model(), plain(512), asks);
    assert_eq!(without.proposed_tokens, 0);
    let mut total = Metrics::default();
    let mut add = |m: Metrics| {
        assert!(m.accepted_tokens <= m.proposed_tokens);
        total.proposed_tokens += m.proposed_tokens;
        total.accepted_tokens += m.accepted_tokens;
        total.preemptions += m.preemptions;
        total.steps += m.steps;
    };
    for tokens_per_step in [1, 5, 64] {
        let (answers, metrics) = run(model(), limits(tokens_per_step), asks);
        assert_eq!(answers, truth, "{tokens_per_step} tokens per step");
        add(metrics);
    }
    for (ask, truth) in asks.iter().zip(&truth) {
        let (answers, metrics) = run(model(), limits(64), std::slice::from_ref(ask));
        assert_eq!(&answers[0], truth, "alone");
        add(metrics);
    }
    (truth, total)
}

fn repeating() -> Box<dyn CausalLm> {
    Toy::with(256, TOY_VOCABULARY, true)
}

#[test]
fn proposed_tokens_change_no_answer() {
    for temperature in [0.0, 0.3] {
        for repetition_penalty in [1.0, 1.02] {
            let sampling = SamplingParams { temperature, repetition_penalty, seed: 3, ..SamplingParams::default() };
            let asks: Vec<Ask> = (0..5u32)
                .map(|s| -> Ask {
                    let sampling = sampling.clone();
                    Box::new(move || (prompt(s, 10 + 27 * s as usize, TOY_VOCABULARY), goal(sampled(150, &sampling))))
                })
                .collect();
            let (answers, metrics) = check(&repeating, &asks);
            assert!(answers.iter().all(|(tokens, finish)| tokens.len() == 150 && *finish == FinishReason::Length));
            // Some proposals come true and some do not, or nothing was tried here.
            assert!(0 < metrics.accepted_tokens && metrics.accepted_tokens < metrics.proposed_tokens, "{metrics:?}");
        }
    }
}

#[test]
fn an_answer_that_repeats_takes_fewer_steps() {
    let ask: [Ask; 1] = [Box::new(|| (prompt(1, 40, TOY_VOCABULARY), goal(decoding(300))))];
    let (_, with) = run(repeating(), limits(512), &ask);
    let (_, without) = run(repeating(), Limits { speculate: false, ..limits(512) }, &ask);
    assert_eq!(without.steps, 300);
    assert!(with.steps < 270, "{with:?}");
    assert_eq!(with.rows, without.rows, "rows that were refuted do not count as work done");
}

#[test]
fn an_answer_ends_at_the_same_token_by_length_end_and_stop() {
    let (alone, _) = run(repeating(), limits(64), &[Box::new(|| (prompt(2, 50, 61), goal(decoding(200))))]);
    let answer = &alone[0].0;
    // Every length up to there, and the third coming of each of the answer's last tokens as its end.
    let mut asks: Vec<Ask> =
        (1..40).map(|n| -> Ask { Box::new(move || (prompt(2, 50, 61), goal(decoding(n)))) }).collect();
    for token in answer[190..].iter().copied() {
        asks.push(Box::new(move || {
            let mut seen = 0;
            let stop = move |t: TokenId| {
                seen += usize::from(t == token);
                seen == 3
            };
            (prompt(2, 50, 61), goal(Decoding { stop: Some(Box::new(stop)), ..decoding(200) }))
        }));
        asks.push(Box::new(move || (prompt(2, 50, 61), goal(Decoding { end_ids: vec![token], ..decoding(200) }))));
    }
    let (answers, metrics) = check(&repeating, &asks);
    assert!(metrics.accepted_tokens > 0);
    for finish in [FinishReason::Length, FinishReason::Stop, FinishReason::StopString] {
        assert!(answers.iter().any(|(_, f)| *f == finish), "none ended by {finish:?}");
    }
}

#[test]
fn a_preempted_answer_with_proposals_is_what_it_would_have_been() {
    let asks: Vec<Ask> = (0..6u32)
        .map(|s| -> Ask { Box::new(move || (prompt(s, 10 + 20 * s as usize, 61), goal(decoding(120)))) })
        .collect();
    let (truth, _) = run(repeating(), Limits { speculate: false, ..limits(64) }, &asks);
    let (answers, metrics) = run(Toy::with(14, TOY_VOCABULARY, true), limits(64), &asks);
    assert!(metrics.preemptions > 0 && metrics.accepted_tokens > 0, "{metrics:?}");
    assert_eq!(answers, truth);
}

#[test]
fn a_guess_takes_no_block_that_an_answer_needs() {
    // Both answers fit exactly; a proposal that reached for one more block would preempt the other.
    let asks: Vec<Ask> =
        (0..2u32).map(|s| -> Ask { Box::new(move || (prompt(s, 40, 61), goal(decoding(120)))) }).collect();
    let (_, metrics) = run(Toy::with(10, TOY_VOCABULARY, true), limits(64), &asks);
    assert!(metrics.preemptions == 0 && metrics.accepted_tokens > 0, "{metrics:?}");
}

#[test]
fn nothing_is_proposed_while_many_run() {
    let asks: Vec<Ask> =
        (0..8u32).map(|s| -> Ask { Box::new(move || (prompt(s, 40, 61), goal(decoding(120)))) }).collect();
    let (_, metrics) = run(repeating(), limits(512), &asks);
    assert_eq!(metrics.proposed_tokens, 0);
}

/// A grammar of many choices and much that is forced between them.
fn matcher() -> Matcher {
    let schema = json!({"type": "array", "minItems": 6, "maxItems": 9, "items": {
        "type": "object", "additionalProperties": false, "required": ["name", "total"], "properties": {
            "name": {"enum": ["hello the end", "hello the hello", "other"]}, "total": {"type": "integer"}}}});
    compiled(&Constraint::JsonSchema(schema))
}

fn compiled(constraint: &Constraint) -> Matcher {
    GrammarFactory::new(&Arc::new(small_tokenizer()), WIDTH).unwrap().compile(constraint).unwrap()
}

const WIDTH: usize = 512; // of the logits; that of the fixture too

#[test]
fn a_grammar_sees_the_same_tokens_with_proposals() {
    let tokenizer = small_tokenizer();
    let matcher = matcher();
    let text = r#"[{"name": "hello the end", "total": 12}, {"name": "other", "total": 4}, "#;
    let asks: Vec<Ask> = [50, 200, 201]
        .into_iter()
        .map(|max_tokens| -> Ask {
            let (tokenizer, matcher) = (&tokenizer, &matcher);
            Box::new(move || {
                let ids = tokenizer.encode_text(&text.repeat(1 + max_tokens % 3));
                let end_ids = tokenizer.end_ids().to_vec();
                (ids, goal(Decoding { matcher: Some(matcher.clone()), end_ids, ..decoding(max_tokens) }))
            })
        })
        .collect();
    let source = tiny();
    let toy = || -> Box<dyn CausalLm> { Toy::with(256, WIDTH, true) };
    let granite = || -> Box<dyn CausalLm> { Box::new(tiny_decoder(&source, 1, KvKind::Bf16, 256)) };
    for model in [&toy as &dyn Fn() -> Box<dyn CausalLm>, &granite] {
        let (answers, metrics) = check(model, &asks);
        assert!(0 < metrics.accepted_tokens && metrics.accepted_tokens < metrics.proposed_tokens, "{metrics:?}");
        assert!(tokenizer.decode(&answers[0].0, true).starts_with(r#"[{"name": ""#));
    }
}

#[test]
fn the_decoder_gives_the_same_tokens_with_proposals() {
    let source = tiny();
    // Two letters: few enough ways to go on that an untrained model comes back to some.
    let matcher = compiled(&Constraint::Regex("[xz]{40}".into()));
    for kv in KvKind::ALL {
        let model = || -> Box<dyn CausalLm> { Box::new(tiny_decoder(&source, 2, kv, 64)) };
        let asks: Vec<Ask> = (0..3u32)
            .map(|s| -> Ask {
                let matcher = &matcher;
                Box::new(move || {
                    let decoding = Decoding { matcher: Some(matcher.clone()), ..decoding(40) };
                    (prompt(s, 20 + 31 * s as usize, WIDTH), goal(decoding))
                })
            })
            .collect();
        let (_, metrics) = check(&model, &asks);
        assert!(
            0 < metrics.accepted_tokens && metrics.accepted_tokens < metrics.proposed_tokens,
            "{kv:?}: {metrics:?}"
        );
    }
}

#[test]
fn a_prompt_is_found_again_whole_after_proposals_behind_it() {
    let ask = || (prompt(4, 70, 61), goal(decoding(150)));
    let mut core = Core::new(repeating(), limits(64));
    let first = together(&mut core, vec![ask()]).remove(0);
    let second = together(&mut core, vec![ask()]).remove(0);
    assert!(core.metrics().accepted_tokens > 0);
    assert_eq!((first.usage.cached_tokens, second.usage.cached_tokens), (0, 64));
    assert_eq!(first.tokens, second.tokens);
}
