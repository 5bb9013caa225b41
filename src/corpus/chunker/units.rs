//! What a document is cut by, as ranges that cover its text: sentences, sections, pages.

use std::ops::Range;

use icu_segmenter::SentenceSegmenter;
use icu_segmenter::options::SentenceBreakInvariantOptions;

use super::ChunkBy;
use crate::corpus::document::Document;

/// Returns ranges that cover the text, in order, none of them empty.
pub(super) fn units(document: &Document, by: ChunkBy) -> Vec<Range<usize>> {
    let text = &document.text;
    match by {
        ChunkBy::Headings => between(document.headings.iter().map(|h| h.range.start), text.len()),
        ChunkBy::Pages => between(document.pages.iter().map(|p| p.range.start), text.len()),
        ChunkBy::Sentences => sentences(text),
        // Turns are packed by themselves; `Auto` never comes here.
        ChunkBy::Tokens | ChunkBy::Turns | ChunkBy::Auto => between(std::iter::empty(), text.len()),
    }
}

/// Returns the ranges between ascending places, from 0 to `end`.
fn between(starts: impl Iterator<Item = usize>, end: usize) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let mut from = 0;
    for to in starts.chain([end]) {
        if to > from {
            ranges.push(from..to);
            from = to;
        }
    }
    ranges
}

/// Sentences by UAX #29, in which every line break ends one. In text that was wrapped by hand, a line that goes on in
/// small letters goes on with the sentence: there, the break is read as the space it stands for.
fn sentences(text: &str) -> Vec<Range<usize>> {
    let mut unwrapped = text.to_owned().into_bytes();
    for at in wraps(text) {
        unwrapped[at] = b' ';
    }
    // Spaces for line breaks, byte for byte: it stays UTF-8 of the same length.
    let unwrapped = String::from_utf8(unwrapped).unwrap_or_else(|_| text.to_owned());
    let segmenter = SentenceSegmenter::new(SentenceBreakInvariantOptions::default());
    between(segmenter.segment_str(&unwrapped), text.len())
}

/// Returns the places of line breaks with words before them and small letters after them.
fn wraps(text: &str) -> Vec<usize> {
    let bytes = text.as_bytes();
    let mut places = Vec::new();
    for (at, _) in text.match_indices('\n') {
        let goes_on = text[at + 1..].chars().next().is_some_and(char::is_lowercase);
        let from = if at > 0 && bytes[at - 1] == b'\r' { at - 1 } else { at };
        let after_words = from > 0 && !matches!(bytes[from - 1], b'\n' | b'\r');
        if goes_on && after_words {
            places.extend(from..=at);
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::document::{Format, Heading};

    fn check_sentences(text: &str, expected: &[&str]) {
        let found: Vec<&str> = sentences(text).into_iter().map(|r| &text[r]).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn sentences_end_where_readers_end_them() {
        check_sentences("One is 3.5 m long. Two? Three!", &["One is 3.5 m long. ", "Two? ", "Three!"]);
        check_sentences("会議は三時です。資料を見ます。", &["会議は三時です。", "資料を見ます。"]);
        check_sentences("a line\nthat goes on.\nNew", &["a line\nthat goes on.\n", "New"]);
        check_sentences("- Item\r\n- Item\r\n", &["- Item\r\n", "- Item\r\n"]);
    }

    #[test]
    fn sections_begin_at_headings_and_cover_what_stands_before_them() {
        let mut document = Document::of(Format::Markdown, "intro # A x # B y".into());
        let heading = |at: usize| Heading { level: 1, title: String::new(), range: at..at + 1 };
        document.headings = vec![heading(6), heading(12)];
        assert_eq!(units(&document, ChunkBy::Headings), [0..6, 6..12, 12..17]);
    }
}
