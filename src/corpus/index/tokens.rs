//! Counts tokens where no model is at hand: an index is built without one.

use crate::corpus::chunker::TokenCounter;

use super::bigrams::is_paired;

/// About as a tokenizer of bytes would: a word is a token for each six of its letters, a letter of a script without
/// spaces is one, so is a mark. Near enough to cut by, and the same on every machine.
pub struct WordPieces;

const LETTERS: usize = 6;

impl TokenCounter for WordPieces {
    fn token_ends(&self, text: &str) -> Vec<usize> {
        let mut ends = Vec::new();
        let mut letters = 0;
        for (at, c) in text.char_indices() {
            let end = at + c.len_utf8();
            if c.is_alphanumeric() && !is_paired(c) {
                letters += 1;
                match ends.last_mut() {
                    Some(last) if letters > 1 => *last = end,
                    _ => ends.push(end),
                }
                letters %= LETTERS;
                continue;
            }
            letters = 0;
            match ends.last_mut() {
                // White space goes with the token before it.
                Some(last) if c.is_whitespace() => *last = end,
                _ => ends.push(end),
            }
        }
        ends
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_end_where_the_text_does() {
        for (text, count) in [("one two", 2), ("internationalization!", 5), ("我们 ok", 3), ("", 0), (" a", 2)] {
            let ends = WordPieces.token_ends(text);
            assert_eq!((ends.len(), ends.last().copied().unwrap_or(0)), (count, text.len()), "{text}: {ends:?}");
            assert!(ends.windows(2).all(|w| w[0] < w[1]));
        }
    }
}
