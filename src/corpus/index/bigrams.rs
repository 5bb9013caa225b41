//! Words, and bigrams where a script writes no spaces. No dictionary: nothing to drift and nothing to miss.

use tantivy::tokenizer::{Token, TokenStream, Tokenizer};
use unicode_normalization::char::is_combining_mark;

/// Cuts text into words at what is no letter and no digit; runs of Chinese, Japanese and Korean letters become
/// overlapping pairs, one letter by itself stays one.
#[derive(Clone, Default)]
pub struct WordsAndBigrams {
    token: Token,
}

pub struct Stream<'a> {
    text: &'a str,
    at: usize,      // byte to go on from
    pending: usize, // byte where the next pair of an open run begins; 0 is none, for a pair needs a letter before it
    token: &'a mut Token,
}

impl Tokenizer for WordsAndBigrams {
    type TokenStream<'a> = Stream<'a>;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> Stream<'a> {
        self.token.reset();
        Stream { text, at: 0, pending: 0, token: &mut self.token }
    }
}

/// Whether a letter belongs to a script that is cut into pairs.
pub fn is_paired(c: char) -> bool {
    matches!(c,
        '\u{3041}'..='\u{309F}' | '\u{30A0}'..='\u{30FF}' | '\u{31F0}'..='\u{31FF}' // kana
        | '\u{3400}'..='\u{4DBF}' | '\u{4E00}'..='\u{9FFF}' | '\u{F900}'..='\u{FAFF}' // Han
        | '\u{20000}'..='\u{323AF}'
        | '\u{AC00}'..='\u{D7AF}' | '\u{1100}'..='\u{11FF}' | '\u{3130}'..='\u{318F}') // Hangul
        && c != '・'
}

fn is_word(c: char) -> bool {
    (c.is_alphanumeric() || is_combining_mark(c)) && !is_paired(c)
}

impl Stream<'_> {
    fn give(&mut self, from: usize, to: usize) -> bool {
        self.token.position = self.token.position.wrapping_add(1);
        self.token.offset_from = from;
        self.token.offset_to = to;
        self.token.text.clear();
        self.token.text.push_str(&self.text[from..to]);
        true
    }

    /// The pair that begins at `from`, or the letter alone where the run had only it.
    fn pair(&mut self, from: usize, is_first: bool) -> Option<bool> {
        let mut letters = self.text[from..].char_indices();
        let (_, first) = letters.next()?;
        let second = from + first.len_utf8();
        match letters.next().filter(|(_, c)| is_paired(*c)) {
            Some((_, c)) => {
                self.pending = second;
                self.at = second + c.len_utf8();
                Some(self.give(from, self.at))
            }
            None => {
                self.pending = 0;
                self.at = second;
                is_first.then(|| self.give(from, second))
            }
        }
    }
}

impl TokenStream for Stream<'_> {
    fn advance(&mut self) -> bool {
        if self.pending > 0
            && let Some(given) = self.pair(self.pending, false)
        {
            return given;
        }
        loop {
            let Some((offset, c)) =
                self.text[self.at..].char_indices().find(|(_, c)| c.is_alphanumeric() || is_paired(*c))
            else {
                return false;
            };
            let from = self.at + offset;
            if is_paired(c) {
                if let Some(given) = self.pair(from, true) {
                    return given;
                }
                continue;
            }
            let rest = &self.text[from..];
            let to = from + rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            self.at = to;
            return self.give(from, to);
        }
    }

    fn token(&self) -> &Token {
        self.token
    }

    fn token_mut(&mut self) -> &mut Token {
        self.token
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let mut tokenizer = WordsAndBigrams::default();
        let mut stream = tokenizer.token_stream(text);
        let mut found = Vec::new();
        while stream.advance() {
            let token = stream.token();
            assert_eq!(token.text, text[token.offset_from..token.offset_to]);
            found.push(token.text.clone());
        }
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn words_are_words_and_letters_without_spaces_are_pairs() {
        check("Hello, tax-payer 42!", &["Hello", "tax", "payer", "42"]);
        check("我们的税", &["我们", "们的", "的税"]);
        check("税", &["税"]);
        check("第3章 税。法", &["第", "3", "章", "税", "法"]);
        check("GPU加速 ok", &["GPU", "加速", "ok"]);
        check("한국어 말", &["한국", "국어", "말"]);
        check("データベース", &["デー", "ータ", "タベ", "ベー", "ース"]);
        check("  …", &[]);
        check("", &[]);
    }
}
