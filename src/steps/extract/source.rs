//! The text a quote is taken from, as a quote shows it, and the way back to its place in the document.

use std::ops::Range;

use crate::corpus::document::Document;
use crate::steps::parts::Part;

/// Stands between turns: a quote is what one of them said. No grammar of ours lets it through.
pub const BREAK: char = '\u{1}';

/// The words of a part with single spaces between them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    text: String,
    words: Vec<(usize, usize)>, // where a word begins: byte of `text`, byte of `Document::text`
}

impl Source {
    pub fn of(document: &Document, part: &Part) -> Self {
        let mut source = Self::default();
        let mut last_turn = None;
        for piece in &part.pieces {
            let text = &document.text[piece.range.clone()];
            for (i, word) in text.split_whitespace().enumerate() {
                if !source.text.is_empty() {
                    let starts_turn = i == 0 && piece.turn.is_some() && piece.turn != last_turn;
                    source.text.push(if starts_turn { BREAK } else { ' ' });
                }
                let at = piece.range.start + (word.as_ptr() as usize - text.as_ptr() as usize);
                source.words.push((source.text.len(), at));
                source.text.push_str(word);
            }
            last_turn = piece.turn;
        }
        source
    }

    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// Returns the pieces at whose bounds a quote may begin and end: words, blanks, and each mark or sign by itself.
    /// Put together they are the text.
    pub fn chunks(&self) -> Vec<&str> {
        let mut chunks: Vec<&str> = Vec::new();
        let (mut start, mut in_word) = (0, false);
        for (at, c) in self.text.char_indices() {
            let joins = c.is_alphanumeric() && !is_written_without_blanks(c);
            if at > 0 && !(in_word && joins) {
                chunks.push(&self.text[start..at]);
                start = at;
            }
            in_word = joins;
        }
        if start < self.text.len() {
            chunks.push(&self.text[start..]);
        }
        chunks
    }

    /// Returns where a quote first stands in the document's text, and how often the source holds it.
    pub fn locate(&self, quote: &str) -> Option<(Range<usize>, usize)> {
        let at = self.text.find(quote).filter(|_| !quote.is_empty())?;
        let start = self.place_of(at)?;
        let last = quote.char_indices().next_back()?;
        let end = self.place_of(at + last.0)? + last.1.len_utf8();
        Some((start..end, self.text.matches(quote).count()))
    }

    fn place_of(&self, at: usize) -> Option<usize> {
        let word = self.words.partition_point(|(begins, _)| *begins <= at).checked_sub(1)?;
        let (begins, place) = self.words[word];
        Some(place + (at - begins))
    }
}

/// Chinese, Japanese and Thai put no blanks between words: a quote may begin at any sign.
fn is_written_without_blanks(c: char) -> bool {
    matches!(c, '\u{0e00}'..='\u{0eff}' | '\u{1780}'..='\u{17ff}' | '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steps::fakes::{meeting, plain};
    use crate::steps::parts::{ByWords, pack};

    fn source(document: &Document) -> Source {
        Source::of(document, &pack(document, 500, 0, &ByWords)[0])
    }

    #[test]
    fn a_quote_leads_back_to_its_bytes_whatever_blanks_stand_between() {
        let document = plain("Müller  &\n\tSöhne\n\nTotal:   12,50 EUR. Total: 9");
        let source = source(&document);
        let (range, count) = source.locate("Müller & Söhne Total").unwrap();
        assert_eq!((&document.text[range], count), ("Müller  &\n\tSöhne\n\nTotal", 1));
        let (range, count) = source.locate("Total:").unwrap();
        assert_eq!((range.start, count), (document.text.find("Total").unwrap(), 2));
        assert_eq!(source.locate("Total: 13"), None);
        assert_eq!(source.locate(""), None);
    }

    #[test]
    fn chunks_put_together_are_the_text_and_turns_stand_apart() {
        let source = source(&meeting(&[("A", "Pay 12.50 now"), ("B", "合計は三")]));
        let chunks = source.chunks();
        assert_eq!(chunks.concat(), "Pay 12.50 now\u{1}合計は三");
        assert_eq!(chunks[..5], ["Pay", " ", "12", ".", "50"]);
        assert_eq!(chunks[7..], ["\u{1}", "合", "計", "は", "三"][..]);
        assert_eq!(source.locate("now 合"), None);
    }
}
