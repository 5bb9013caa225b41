//! How many tokens a range of a text makes by itself, as it is shown: counted once, however often it is asked.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::TokenCounter;

/// Counts ranges of one text without the white space at their ends.
pub(super) struct Counts<'a> {
    text: &'a str,
    counter: &'a dyn TokenCounter,
    known: Mutex<HashMap<(usize, usize), usize>>, // first and last byte of the words
}

impl<'a> Counts<'a> {
    pub fn new(text: &'a str, counter: &'a dyn TokenCounter) -> Self {
        Self { text, counter, known: Mutex::default() }
    }

    /// Returns the words of a range.
    pub fn shown(&self, range: &Range<usize>) -> &'a str {
        self.text[range.clone()].trim()
    }

    pub fn of(&self, range: &Range<usize>) -> usize {
        let words = self.shown(range);
        let from = words.as_ptr() as usize - self.text.as_ptr() as usize;
        let key = (from, from + words.len());
        let known = |counts: &Self| counts.known.lock().unwrap_or_else(PoisonError::into_inner).get(&key).copied();
        known(self).unwrap_or_else(|| {
            let count = self.counter.count(words);
            self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(key, count);
            count
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Default)]
    struct Letters(AtomicUsize);

    impl TokenCounter for Letters {
        fn token_ends(&self, text: &str) -> Vec<usize> {
            self.0.fetch_add(1, Ordering::Relaxed);
            (1..=text.len()).collect()
        }
    }

    #[test]
    fn the_same_words_are_counted_once() {
        let letters = Letters::default();
        let counts = Counts::new(" ab  cd ", &letters);
        assert_eq!((counts.of(&(0..3)), counts.of(&(1..5)), counts.of(&(0..8)), counts.of(&(3..5))), (2, 2, 6, 0));
        assert_eq!(letters.0.load(Ordering::Relaxed), 3);
    }
}
