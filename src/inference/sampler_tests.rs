use std::collections::BTreeMap;

use super::*;

fn params(change: impl FnOnce(&mut SamplingParams)) -> SamplingParams {
    let mut params = SamplingParams { temperature: 1.0, ..SamplingParams::default() };
    change(&mut params);
    params
}

/// How often each token is drawn over 4,000 positions, in thousandths.
fn shares(params: &SamplingParams, logits: &[f32]) -> BTreeMap<TokenId, usize> {
    const DRAWS: usize = 4000;
    let mut sampler = Sampler::new(params).unwrap();
    let history = vec![TokenId::MAX; DRAWS];
    let mut counts = BTreeMap::new();
    for position in 0..DRAWS {
        let token = sampler.sample(&mut logits.to_vec(), &history[..position], None).unwrap();
        *counts.entry(token).or_insert(0) += 1;
    }
    counts.values_mut().for_each(|count| *count = *count * 1000 / DRAWS);
    counts
}

fn greedy(logits: &[f32], history: &[TokenId], params: &SamplingParams) -> Result<TokenId, SampleError> {
    Sampler::new(params)?.sample(&mut logits.to_vec(), history, None)
}

fn check_near(found: usize, expected: usize) {
    assert!(found.abs_diff(expected) <= 25, "{found} is not near {expected}"); // 3 sigma of 4,000 draws
}

#[test]
fn greedy_takes_the_highest_and_of_equals_the_first() {
    assert_eq!(greedy(&[1.0, 3.0, 3.0, -1.0], &[], &SamplingParams::default()), Ok(1));
    assert_eq!(greedy(&[f32::NEG_INFINITY, -9.0], &[], &SamplingParams::default()), Ok(1));
}

#[test]
fn draws_follow_the_softmax() {
    let shares = shares(&params(|_| {}), &[0.0, 2f32.ln(), 5f32.ln(), f32::NEG_INFINITY]);
    check_near(shares[&0], 125);
    check_near(shares[&1], 250);
    check_near(shares[&2], 625);
    assert_eq!(shares.len(), 3);
}

#[test]
fn temperature_sharpens_and_flattens() {
    let logits = [0.0, 2f32.ln()];
    check_near(shares(&params(|p| p.temperature = 0.5), &logits)[&1], 800);
    check_near(shares(&params(|p| p.temperature = 2.0), &logits)[&1], 586);
}

#[test]
fn top_k_top_p_and_min_p_cut_where_they_say() {
    let logits = [8f32.ln(), 4f32.ln(), 2f32.ln(), 1f32.ln(), 1f32.ln()]; // 0.5 0.25 0.125 0.0625 0.0625
    let kept =
        |change: &dyn Fn(&mut SamplingParams)| shares(&params(|p| change(p)), &logits).into_keys().collect::<Vec<_>>();
    assert_eq!(kept(&|p| p.top_k = 1), [0]);
    assert_eq!(kept(&|p| p.top_k = 4), [0, 1, 2, 3], "of equals the lower id stays");
    assert_eq!(kept(&|p| p.top_p = 0.5), [0]);
    assert_eq!(kept(&|p| p.top_p = 0.6), [0, 1], "the token that crosses the border stays");
    assert_eq!(kept(&|p| (p.top_k, p.top_p) = (2, 0.6)), [0], "top-p counts what top-k left: 0.67");
    assert_eq!(kept(&|p| p.min_p = 0.2), [0, 1, 2]);
    assert_eq!(kept(&|p| p.top_p = 1e-30), [0]);
}

#[test]
fn a_wide_nucleus_is_found_in_a_large_vocabulary() {
    let mut logits = vec![0.0; 5000];
    logits[4000] = 1.0;
    let shares = shares(&params(|p| p.top_p = 0.5), &logits);
    assert!(shares.keys().all(|token| *token == 4000 || *token < 2501), "equals are kept from the lowest id on");
    assert!(shares.len() > 1000);
}

#[test]
fn the_penalty_counts_each_token_of_the_window_once() {
    let penalized = SamplingParams { repetition_penalty: 2.0, repetition_window: 3, ..SamplingParams::default() };
    assert_eq!(greedy(&[4.0, 3.0, -1.0], &[0, 0, 0], &penalized), Ok(1));
    assert_eq!(greedy(&[4.0, 3.0, -1.0], &[0, 2, 2, 2], &penalized), Ok(0), "token 0 is out of the window");
    assert_eq!(greedy(&[-3.0, -2.0], &[1], &penalized), Ok(0), "a negative logit is made more negative");
    assert_eq!(greedy(&[1.0], &[7_000_000], &penalized), Ok(0));
}

#[test]
fn the_mask_decides_before_all_else() {
    let mask = TokenMask::from_tokens(&[2], 4);
    for params in [SamplingParams::default(), params(|p| p.top_k = 1), params(|p| p.top_p = 0.1)] {
        let token = Sampler::new(&params).unwrap().sample(&mut [9.0, 9.0, -50.0, 9.0], &[], Some(&mask));
        assert_eq!(token, Ok(2));
    }
    let none = TokenMask::from_tokens(&[], 2);
    let result = Sampler::new(&params(|_| {})).unwrap().sample(&mut [1.0, 1.0], &[], Some(&none));
    assert_eq!(result, Err(SampleError::NothingAllowed));
}

#[test]
fn a_choice_depends_on_seed_position_and_logits_only() {
    let logits: Vec<f32> = (0..300).map(|i| (i % 17) as f32 / 4.0).collect();
    let params = params(|p| (p.top_p, p.seed) = (0.9, 42));
    let history: Vec<TokenId> = (0..50).collect();
    let at = |sampler: &mut Sampler, n: usize| sampler.sample(&mut logits.clone(), &history[..n], None).unwrap();
    let mut used = Sampler::new(&params).unwrap();
    let in_order: Vec<_> = (0..50).map(|n| at(&mut used, n)).collect();
    let backwards: Vec<_> = (0..50).rev().map(|n| at(&mut used, n)).collect();
    let fresh: Vec<_> = (0..50).map(|n| at(&mut Sampler::new(&params).unwrap(), n)).collect();
    assert!(in_order.iter().eq(backwards.iter().rev()) && in_order == fresh);
    let other = SamplingParams { seed: 43, ..params };
    assert_ne!(in_order, (0..50).map(|n| at(&mut Sampler::new(&other).unwrap(), n)).collect::<Vec<_>>());
}

#[test]
fn broken_logits_and_parameters_are_errors() {
    let nan = greedy(&[0.0, f32::NAN], &[], &SamplingParams::default()).unwrap_err();
    assert_eq!(nan.to_string(), "the logit of token 1 is NaN: the model's output is broken");
    assert!(greedy(&[f32::INFINITY], &[], &SamplingParams::default()).is_err());
    assert_eq!(greedy(&[], &[], &SamplingParams::default()), Err(SampleError::NothingAllowed));
    let bad = Sampler::new(&params(|p| p.top_p = f32::NAN)).unwrap_err().to_string();
    assert!(bad.starts_with("top_p is NaN, but must be from"), "{bad}");
    assert!(Sampler::new(&params(|p| p.temperature = -1.0)).is_err());
}

#[test]
fn log_probabilities_are_those_of_the_softmax() {
    let logits = [1f32.ln(), 3f32.ln(), f32::NEG_INFINITY];
    assert!((log_prob(&logits, 1).unwrap() - 0.75f32.ln()).abs() < 1e-6);
    assert_eq!(log_prob(&logits, 2), Ok(f32::NEG_INFINITY));
    assert_eq!(log_softmax(&logits).unwrap()[0], log_prob(&logits, 0).unwrap());
    assert!(log_prob(&logits, 3).is_err() && log_prob(&[f32::NAN], 0).is_err());
    assert_eq!(log_prob(&[1000.0, -1000.0], 0), Ok(0.0));
}
