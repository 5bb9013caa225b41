//! What a document is cut by, as ranges that cover its text: paragraphs, sentences, sections, pages.

use std::ops::Range;

use super::ChunkBy;
use crate::corpus::document::Document;
use crate::corpus::sentences::sentences;

/// Returns ranges that cover the text, in order, none of them empty.
pub(super) fn units(document: &Document, by: ChunkBy) -> Vec<Range<usize>> {
    let text = &document.text;
    match by {
        ChunkBy::Headings => between(document.headings.iter().map(|h| h.range.start), text.len()),
        ChunkBy::Pages => between(document.pages.iter().map(|p| p.range.start), text.len()),
        ChunkBy::Paragraphs => lines(text),
        ChunkBy::Sentences => covering_sentences(text),
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

/// Lines, each with its break.
fn lines(text: &str) -> Vec<Range<usize>> {
    between(text.match_indices('\n').map(|(at, _)| at + 1), text.len())
}

/// Sentences, each with the white space behind it.
fn covering_sentences(text: &str) -> Vec<Range<usize>> {
    between(sentences(text).into_iter().skip(1).map(|s| s.start), text.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::document::{Format, Heading};

    fn check_sentences(text: &str, expected: &[&str]) {
        let found: Vec<&str> = covering_sentences(text).into_iter().map(|r| &text[r]).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn sentences_cover_the_text() {
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
