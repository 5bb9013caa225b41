//! Where the tokens of a text end, found once and asked often.

use std::ops::Range;

use rayon::prelude::*;

use super::TokenCounter;
use super::pieces::blocks;

/// The token ends of a range of a text.
pub(super) struct Tokens {
    ends: Vec<usize>, // bytes of the text, ascending
}

impl Tokens {
    /// Tokenizes block by block, on all cores: some tokenizers take more than linear time on one long run of characters.
    pub fn of(text: &str, range: Range<usize>, counter: &dyn TokenCounter) -> Self {
        const BLOCK_BYTES: usize = 64 << 10;
        let blocks = blocks(text, range, BLOCK_BYTES);
        let ends = blocks.into_par_iter().flat_map_iter(|block| {
            counter.token_ends(&text[block.clone()]).into_iter().map(move |end| block.start + end)
        });
        Self { ends: ends.collect() }
    }

    /// Returns how many tokens a range touches. Alone, the range may make a token more or less at each of its ends.
    pub fn count(&self, range: &Range<usize>) -> usize {
        if range.is_empty() {
            return 0;
        }
        let first = self.ends.partition_point(|end| *end <= range.start);
        let last = self.ends.partition_point(|end| *end < range.end);
        (last + 1).min(self.ends.len()).saturating_sub(first)
    }

    /// Returns where the last `num_tokens` tokens before `at` begin.
    pub fn back(&self, at: usize, num_tokens: usize) -> usize {
        let index = self.ends.partition_point(|end| *end <= at);
        match index.checked_sub(num_tokens + 1) {
            Some(before) => self.ends[before],
            None => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Pairs;

    impl TokenCounter for Pairs {
        fn token_ends(&self, text: &str) -> Vec<usize> {
            (1..=text.len().div_ceil(2)).map(|n| (n * 2).min(text.len())).collect()
        }
    }

    #[test]
    fn a_range_counts_every_token_it_touches() {
        let tokens = Tokens::of("abcdefg", 0..7, &Pairs); // ab cd ef g
        let count = |range| tokens.count(&range);
        assert_eq!((count(0..7), count(0..2), count(1..3), count(2..2), count(6..7)), (4, 1, 2, 0, 1));
        assert_eq!((tokens.back(6, 1), tokens.back(6, 2), tokens.back(6, 9)), (4, 2, 0));
    }
}
