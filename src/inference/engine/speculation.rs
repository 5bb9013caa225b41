//! Speculation by prompt lookup: what followed the same few tokens before is proposed to follow them now. Proposed
//! tokens are computed as rows behind the last one, and kept as far as the answer goes their way, so that they change
//! how many steps an answer takes and nothing else. Knows tokens and counts; no logits, no grammar.

use crate::ids::TokenId;

/// Rows that one forward pass may have while some of them are guesses, all sequences together: with more, a pass is
/// bound by arithmetic, and a wrong guess costs as much as a right one saves.
pub(super) const CHEAP_ROWS: usize = 8;

/// Tokens that must have stood together before, for what followed them to be proposed.
const MATCH_MIN: usize = 2;
/// Tokens beyond which a longer match is not looked for.
const MATCH_MAX: usize = 16;
/// Tokens proposed at once: at first, and after proposals that came true.
const LENGTH_START: usize = 3;
const LENGTH_MAX: usize = 15;
/// Steps without a proposal after one of which nothing came true: twice as many each time, up to this.
const REST_MAX: usize = 16;

/// How well proposals have done for one sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Speculation {
    length: usize,    // tokens of the next proposal, at most
    resting: usize,   // steps until the next one
    next_rest: usize, // steps to rest when the next one fails
}

impl Default for Speculation {
    fn default() -> Self {
        Self { length: LENGTH_START, resting: 0, next_rest: 1 }
    }
}

impl Speculation {
    /// Returns at most `most` tokens that may follow `tokens`.
    pub fn propose(&mut self, tokens: &[TokenId], most: usize) -> Vec<TokenId> {
        if most == 0 {
            return Vec::new();
        }
        if self.resting > 0 {
            self.resting -= 1;
            return Vec::new();
        }
        continuation(tokens, self.length.min(most))
    }

    /// Learns how many of the proposed tokens came true.
    pub fn learn(&mut self, proposed: usize, accepted: usize) {
        if proposed == 0 {
            return;
        }
        if accepted == proposed {
            self.length = (2 * self.length).min(LENGTH_MAX);
            self.next_rest = 1;
        } else if accepted == 0 {
            self.length = LENGTH_START;
            self.resting = self.next_rest;
            self.next_rest = (2 * self.next_rest).min(REST_MAX);
        } else {
            self.length = (accepted + 1).max(LENGTH_START);
        }
    }
}

/// Returns up to `most` tokens after the latest of the longest earlier places that end as `tokens` ends. A place that
/// reaches the end goes on with the tokens proposed: so a loop is followed.
fn continuation(tokens: &[TokenId], most: usize) -> Vec<TokenId> {
    let Some(last) = tokens.last() else { return Vec::new() };
    let mut best = (MATCH_MIN - 1, None); // tokens that agree, and where they end
    for end in (1..tokens.len()).rev() {
        if tokens[end - 1] != *last {
            continue;
        }
        let pairs = tokens[..end].iter().rev().zip(tokens.iter().rev());
        let same = pairs.take(MATCH_MAX).take_while(|(a, b)| a == b).count();
        if same > best.0 {
            best = (same, Some(end));
        }
        if same == MATCH_MAX {
            break;
        }
    }
    let Some(end) = best.1 else { return Vec::new() };
    let mut proposed: Vec<TokenId> = Vec::with_capacity(most);
    for at in end..end + most {
        proposed.push(tokens.get(at).copied().unwrap_or_else(|| proposed[at - tokens.len()]));
    }
    proposed
}

/// How many of the proposed tokens the answer has gone along with.
pub(super) fn agreed(proposed: &[TokenId], answer: &[TokenId]) -> usize {
    proposed.iter().zip(answer).take_while(|(p, a)| p == a).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_match_wins_and_among_equals_the_latest() {
        // 7 8 has come twice, with 6 before it once.
        assert_eq!(continuation(&[6, 7, 8, 1, 2, 7, 8, 3, 4, 6, 7, 8], 2), [1, 2]);
        assert_eq!(continuation(&[7, 8, 1, 2, 7, 8, 3, 4, 5, 7, 8], 3), [3, 4, 5]);
    }

    #[test]
    fn one_common_token_proposes_nothing() {
        assert_eq!(continuation(&[1, 8, 3, 4, 2, 8], 3), Vec::<TokenId>::new());
        assert_eq!(continuation(&[8], 3), Vec::<TokenId>::new());
        assert_eq!(continuation(&[], 3), Vec::<TokenId>::new());
    }

    #[test]
    fn a_loop_is_followed_round() {
        assert_eq!(continuation(&[5, 1, 2, 3, 1, 2, 3], 7), [1, 2, 3, 1, 2, 3, 1]);
        assert_eq!(continuation(&[9, 9, 9], 4), [9, 9, 9, 9]);
    }

    #[test]
    fn proposals_grow_with_success_and_rest_longer_after_each_failure() {
        let repeated = [1, 2].repeat(20);
        let mut speculation = Speculation::default();
        let mut lengths = Vec::new();
        for _ in 0..4 {
            let proposed = speculation.propose(&repeated, usize::MAX).len();
            speculation.learn(proposed, proposed);
            lengths.push(proposed);
        }
        assert_eq!(lengths, [3, 6, 12, 15]);
        let mut rests = Vec::new();
        for _ in 0..7 {
            speculation.learn(3, 0);
            let resting = (0..100).take_while(|_| speculation.propose(&repeated, 9).is_empty()).count();
            rests.push(resting);
        }
        assert_eq!(rests, [1, 2, 4, 8, 16, 16, 16]);
        speculation.learn(3, 3);
        speculation.learn(3, 0);
        assert!(speculation.propose(&repeated, 9).is_empty());
        assert_eq!(speculation.propose(&repeated, 9).len(), 3);
    }
}
