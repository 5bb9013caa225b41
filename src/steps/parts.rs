//! Parts of a document that a model reads whole: what the chunker made of it, shown line by line, and how much of it has
//! been read. Every byte of every turn is in some part; what has been read is counted from the parts that were.

use std::collections::BTreeSet;

use super::Coverage;
use super::text::squeeze;
use crate::corpus::chunker::{ChunkBy, ChunkOptions, Overlap, TokenCounter, chunk};
use crate::corpus::document::Document;
use crate::inference::engine::Generator;

pub use crate::corpus::chunker::Piece;

/// Models with a smaller window, in tokens, read better without ids.
pub const IDS_FROM_WINDOW: usize = 16_000;

/// A run of pieces that is read in one prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub pieces: Vec<Piece>,
    pub num_tokens: usize, // of its lines
}

impl Part {
    /// Returns the indices of its turns, each once, in order.
    pub fn turns(&self) -> Vec<usize> {
        let mut turns: Vec<usize> = self.pieces.iter().filter_map(|p| p.turn).collect();
        turns.dedup();
        turns
    }

    /// Returns its text as a model reads it, a line per piece: `[T12] Anna: words`, or the paragraph alone.
    pub fn lines(&self, document: &Document) -> String {
        self.join(document, true)
    }

    /// Returns its text without the ids: `Anna: words`.
    pub fn speech(&self, document: &Document) -> String {
        self.join(document, false)
    }

    /// Returns its text as models of this window are shown it by every step, so that steps share the work of reading it:
    /// with the ids, which distract the smallest models.
    pub fn shown(&self, document: &Document, window: usize) -> String {
        if window < IDS_FROM_WINDOW { self.speech(document) } else { self.lines(document) }
    }

    fn join(&self, document: &Document, with_ids: bool) -> String {
        self.pieces.iter().map(|p| line(p, document, with_ids)).collect::<Vec<_>>().join("\n")
    }
}

fn line(piece: &Piece, document: &Document, with_id: bool) -> String {
    let words = squeeze(&document.text[piece.range.clone()]);
    let Some(turn) = piece.turn.map(|i| &document.turns[i]) else { return words };
    let id = if with_id { format!("[{}] ", turn.id) } else { String::new() };
    match &turn.speaker {
        Some(speaker) => format!("{id}{speaker}: {words}"),
        None => format!("{id}{words}"),
    }
}

/// Counts as the model behind a generator does.
pub struct ByModel<'a>(pub &'a dyn Generator);

impl TokenCounter for ByModel<'_> {
    fn token_ends(&self, text: &str) -> Vec<usize> {
        self.0.token_ends(text)
    }

    fn count(&self, text: &str) -> usize {
        self.0.count_tokens(text)
    }
}

/// Counts words, where no model is at hand.
pub struct ByWords;

impl TokenCounter for ByWords {
    fn token_ends(&self, text: &str) -> Vec<usize> {
        text.split_whitespace().map(|word| word.as_ptr() as usize - text.as_ptr() as usize + word.len()).collect()
    }
}

/// Packs a document into parts of at most `size` tokens, about equally full, each beginning with the last `overlap`
/// pieces of the one before as far as they fit into half of it: turns, or paragraphs where there are none. A single
/// word longer than `size` still is a part of its own.
pub fn pack(document: &Document, size: usize, overlap: usize, counter: &dyn TokenCounter) -> Vec<Part> {
    let by = if document.turns.is_empty() { ChunkBy::Paragraphs } else { ChunkBy::Turns };
    let overlap = Overlap::Units(overlap);
    let options = ChunkOptions { by, size: size.max(1), overlap, even: true, ..ChunkOptions::default() };
    let chunks = chunk(document, &options, counter);
    chunks.into_iter().map(|chunk| Part { pieces: chunk.pieces, num_tokens: chunk.tokens }).collect()
}

/// Counts what has been read, given for each part whether it was.
pub fn coverage(document: &Document, parts: &[Part], was_read: &[bool]) -> Coverage {
    let unread_pieces = || parts.iter().zip(was_read).filter(|(_, read)| !**read).flat_map(|(part, _)| &part.pieces);
    let read_pieces = || parts.iter().zip(was_read).filter(|(_, read)| **read).flat_map(|(part, _)| &part.pieces);
    if document.turns.is_empty() {
        let read: BTreeSet<usize> = read_pieces().map(|p| p.range.start).collect();
        let unread: Vec<&Piece> = unread_pieces().filter(|p| !read.contains(&p.range.start)).collect();
        let missing: usize = unread.iter().map(|p| p.range.len()).sum();
        let total = document.text.len();
        let ranges = unread.iter().map(|p| format!("{}..{}", p.range.start, p.range.end)).collect();
        return Coverage { unit: "byte".into(), read: total - missing, total, unread: ranges };
    }
    // A turn counts as read when each of its pieces was read in some part.
    let read: BTreeSet<(Option<usize>, usize)> = read_pieces().map(|p| (p.turn, p.range.start)).collect();
    let unread: BTreeSet<usize> =
        unread_pieces().filter(|p| !read.contains(&(p.turn, p.range.start))).filter_map(|p| p.turn).collect();
    let total = document.turns.len();
    let ids = unread.iter().map(|&i| document.turns[i].id.to_string()).collect();
    Coverage { unit: "turn".into(), read: total - unread.len(), total, unread: ids }
}

/// Returns the coverage of a step that has shown the model these turns and no others.
pub fn coverage_of_turns(document: &Document, shown: &BTreeSet<usize>) -> Coverage {
    let unread = document
        .turns
        .iter()
        .enumerate()
        .filter(|(i, t)| !shown.contains(i) && !document.text[t.range.clone()].trim().is_empty());
    let unread: Vec<String> = unread.map(|(_, t)| t.id.to_string()).collect();
    let total = document.turns.len();
    Coverage { unit: "turn".into(), read: total - unread.len(), total, unread }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steps::fakes::{meeting, plain};

    fn check_all_there(document: &Document, size: usize, overlap: usize) -> Vec<Part> {
        let parts = pack(document, size, overlap, &ByWords);
        assert_eq!(coverage(document, &parts, &vec![true; parts.len()]).unread, Vec::<String>::new());
        let said: String = parts.iter().map(|p| p.speech(document)).collect::<Vec<_>>().join(" ");
        for word in document.text.split_whitespace() {
            assert!(said.contains(word), "{word} is in no part");
        }
        for part in &parts {
            assert!(part.num_tokens <= size.max(4), "{part:?}");
        }
        parts
    }

    #[test]
    fn every_word_is_in_a_part_and_no_part_is_too_large() {
        let long = "one two three four. five six seven eight nine ten eleven twelve. ".repeat(9);
        let document = meeting(&[("Anna", "Hello there."), ("Bo", long.trim()), ("Anna", "Bye.")]);
        for size in [6, 11, 20, 50, 500] {
            check_all_there(&document, size, 0);
            check_all_there(&document, size, 2);
        }
        assert_eq!(check_all_there(&document, 500, 0).len(), 1);
    }

    #[test]
    fn a_document_without_turns_is_packed_by_paragraphs() {
        let document = plain("First line.\n\nSecond one here.\nThird.");
        assert_eq!(check_all_there(&document, 7, 0).len(), 2);
        assert_eq!(pack(&plain(" \n"), 5, 0, &ByWords), []);
    }

    #[test]
    fn an_overlap_repeats_turns_and_always_moves_on() {
        let turns: Vec<(&str, &str)> = (0..40).map(|_| ("A", "x y")).collect();
        let parts = pack(&meeting(&turns), 25, 1, &ByWords);
        assert!(parts.windows(2).all(|w| w[0].turns().last() == w[1].turns().first()));
        assert_eq!(parts.last().and_then(|p| p.turns().last().copied()), Some(39));
    }

    #[test]
    fn a_part_that_failed_leaves_its_turns_unread_by_id() {
        let document = meeting(&[("A", "a b c d"), ("B", "e f g h"), ("C", "i j k l")]);
        let parts = pack(&document, 8, 0, &ByWords);
        let coverage = coverage(&document, &parts, &[true, false, true]);
        assert_eq!((coverage.read, coverage.total, coverage.unread), (2, 3, vec!["T2".to_string()]));
    }
}
