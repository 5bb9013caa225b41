//! A set of tokens as bits. Knows no grammar.

use crate::ids::TokenId;

/// Which tokens may come next, over the whole width of the logits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenMask {
    words: Vec<u32>, // bit i of word w: token 32 w + i
    width: usize,
}

impl TokenMask {
    /// Returns the set of the tokens whose bit is set; bits from `width` on are dropped, missing words are empty.
    pub fn from_words(words: &[u32], width: usize) -> Self {
        let mut words = words.to_vec();
        words.resize(width.div_ceil(32), 0);
        if !width.is_multiple_of(32)
            && let Some(last) = words.last_mut()
        {
            *last &= (1 << (width % 32)) - 1;
        }
        Self { words, width }
    }

    pub fn from_tokens(tokens: &[TokenId], width: usize) -> Self {
        let mut mask = Self::from_words(&[], width);
        for token in tokens.iter().copied().filter(|token| (*token as usize) < width) {
            mask.words[token as usize / 32] |= 1 << (token % 32);
        }
        mask
    }

    pub fn allows(&self, token: TokenId) -> bool {
        self.words.get(token as usize / 32).is_some_and(|word| word >> (token % 32) & 1 == 1)
    }

    pub fn num_allowed(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Returns the allowed tokens in ascending order.
    pub fn tokens(&self) -> impl Iterator<Item = TokenId> + '_ {
        (0..self.width as TokenId).filter(|token| self.allows(*token))
    }

    /// Sets the logits of all other tokens to minus infinity, those past the mask's width too.
    pub fn apply_to(&self, logits: &mut [f32]) {
        for (chunk, word) in logits.chunks_mut(32).zip(self.words.iter().copied().chain(std::iter::repeat(0))) {
            match word {
                u32::MAX => {}
                0 => chunk.fill(f32::NEG_INFINITY),
                _ => {
                    let masked = chunk.iter_mut().enumerate().filter(|(bit, _)| word >> bit & 1 == 0);
                    masked.for_each(|(_, logit)| *logit = f32::NEG_INFINITY);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_allowed_logits_stay() {
        let mask = TokenMask::from_tokens(&[0, 33, 70], 68);
        let mut logits = vec![1.0; 100];
        mask.apply_to(&mut logits);
        let left: Vec<usize> = (0..100).filter(|i| logits[*i] == 1.0).collect();
        assert_eq!(left, [0, 33]);
        assert_eq!((mask.num_allowed(), mask.tokens().collect::<Vec<_>>()), (2, vec![0, 33]));
        assert!(!mask.allows(70) && !mask.allows(4_000_000_000));
    }

    #[test]
    fn bits_past_the_width_are_dropped() {
        let mask = TokenMask::from_words(&[u32::MAX, u32::MAX], 40);
        assert_eq!(mask.num_allowed(), 40);
        let mut logits = vec![0.0; 64];
        mask.apply_to(&mut logits);
        assert_eq!(logits.iter().filter(|l| l.is_finite()).count(), 40);
    }
}
