//! A document cut into parts that a model reads whole: packed turns, or packed paragraphs where there are no turns.
//! Every byte of every turn is in some part; what has been read is counted from the parts that were.

use std::collections::BTreeSet;
use std::ops::Range;

use super::Coverage;
use super::text::sentences;
use crate::corpus::document::Document;

/// A run of pieces that is read in one prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub pieces: Vec<Piece>,
    pub num_tokens: usize, // of its lines
}

/// A turn or a paragraph, whole; or a run of sentences of one that is too long for a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    pub turn: Option<usize>, // index into `Document::turns`
    pub range: Range<usize>, // bytes of `Document::text`
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

    fn join(&self, document: &Document, with_ids: bool) -> String {
        self.pieces.iter().map(|p| p.line(document, with_ids)).collect::<Vec<_>>().join("\n")
    }
}

impl Piece {
    fn line(&self, document: &Document, with_id: bool) -> String {
        let words = super::text::squeeze(&document.text[self.range.clone()]);
        let Some(turn) = self.turn.map(|i| &document.turns[i]) else { return words };
        let id = if with_id { format!("[{}] ", turn.id) } else { String::new() };
        match &turn.speaker {
            Some(speaker) => format!("{id}{speaker}: {words}"),
            None => format!("{id}{words}"),
        }
    }
}

/// Packs a document into parts of at most `size` tokens, about equally full, each beginning with the last `overlap`
/// pieces of the one before where they fit into a quarter of it. `count` counts a line's tokens. A single word longer
/// than `size` still is a part of its own.
pub fn pack(document: &Document, size: usize, overlap: usize, count: &dyn Fn(&str) -> usize) -> Vec<Part> {
    let size = size.max(1);
    let pieces: Vec<(Piece, usize)> = units(document)
        .into_iter()
        .flat_map(|unit| fit(document, unit, size, count))
        .map(|p| {
            let num_tokens = count(&p.line(document, true)) + 1; // the line break
            (p, num_tokens)
        })
        .collect();
    let total: usize = pieces.iter().map(|(_, n)| n).sum();
    let fair = total.div_ceil(total.div_ceil(size).max(1)); // so that the last part is no stub
    let mut parts: Vec<Part> = Vec::new();
    let mut part = Part { pieces: Vec::new(), num_tokens: 0 };
    let mut num_new = 0; // pieces of `part` that are not overlap
    for (i, (piece, tokens)) in pieces.iter().enumerate() {
        if num_new > 0 && (part.num_tokens + tokens > size || part.num_tokens >= fair) {
            parts.push(part);
            let kept = &pieces[i.saturating_sub(overlap.min(num_new))..i];
            let kept_tokens: usize = kept.iter().map(|(_, n)| n).sum();
            let fits = kept_tokens <= size / 4 && kept_tokens + tokens <= size;
            let kept = if fits { kept } else { &[] };
            part = Part {
                pieces: kept.iter().map(|(p, _)| p.clone()).collect(),
                num_tokens: kept.iter().map(|(_, n)| n).sum(),
            };
            num_new = 0;
        }
        part.pieces.push(piece.clone());
        part.num_tokens += tokens;
        num_new += 1;
    }
    if num_new > 0 {
        parts.push(part);
    }
    parts
}

/// Turns, or paragraphs where there are none; blank ones are nothing to read.
fn units(document: &Document) -> Vec<Piece> {
    let text = &document.text;
    if !document.turns.is_empty() {
        let turns = document.turns.iter().enumerate();
        return turns
            .map(|(i, t)| Piece { turn: Some(i), range: t.range.clone() })
            .filter(|p| p.has_words(text))
            .collect();
    }
    let mut found = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        found.push(Piece { turn: None, range: start..start + line.len() });
        start += line.len();
    }
    found.retain(|p| p.has_words(text));
    found
}

impl Piece {
    fn has_words(&self, text: &str) -> bool {
        !text[self.range.clone()].trim().is_empty()
    }
}

/// Cuts a piece that is too long at sentences, then at words.
fn fit(document: &Document, piece: Piece, size: usize, count: &dyn Fn(&str) -> usize) -> Vec<Piece> {
    let fits = |p: &Piece| count(&p.line(document, true)) < size;
    if fits(&piece) {
        return vec![piece];
    }
    let text = &document.text[piece.range.clone()];
    let whole = |r: Range<usize>| piece.range.start + r.start..piece.range.start + r.end;
    let mut cuts: Vec<Range<usize>> = Vec::new();
    for sentence in sentences(text) {
        let sentence_piece = Piece { turn: piece.turn, range: whole(sentence.clone()) };
        if fits(&sentence_piece) {
            cuts.push(sentence);
        } else {
            let words = text[sentence.clone()].split_inclusive(char::is_whitespace);
            cuts.extend(words.scan(sentence.start, |at, w| {
                let range = *at..*at + w.len();
                *at += w.len();
                Some(range)
            }));
        }
    }
    // Joined again as far as they fit, doubling first so that a long text costs few counts.
    let mut pieces: Vec<Piece> = Vec::new();
    let mut at = 0;
    while at < cuts.len() {
        let joined = |n: usize| Piece { turn: piece.turn, range: whole(cuts[at].start..cuts[at + n - 1].end) };
        let room = cuts.len() - at;
        let mut low = 1;
        while low * 2 <= room && fits(&joined(low * 2)) {
            low *= 2;
        }
        let mut high = room.min(low * 2 - 1);
        while low < high {
            let middle = (low + high).div_ceil(2);
            if fits(&joined(middle)) { low = middle } else { high = middle - 1 }
        }
        pieces.push(joined(low));
        at += low;
    }
    pieces
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

    fn count(text: &str) -> usize {
        text.split_whitespace().count()
    }

    fn check_all_there(document: &Document, size: usize, overlap: usize) -> Vec<Part> {
        let parts = pack(document, size, overlap, &count);
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
        assert_eq!(pack(&plain(" \n"), 5, 0, &count), []);
    }

    #[test]
    fn an_overlap_repeats_turns_and_always_moves_on() {
        let turns: Vec<(&str, &str)> = (0..40).map(|_| ("A", "x y")).collect();
        let parts = pack(&meeting(&turns), 25, 1, &count);
        assert!(parts.windows(2).all(|w| w[0].turns().last() == w[1].turns().first()));
        assert_eq!(parts.last().and_then(|p| p.turns().last().copied()), Some(39));
    }

    #[test]
    fn a_part_that_failed_leaves_its_turns_unread_by_id() {
        let document = meeting(&[("A", "a b c d"), ("B", "e f g h"), ("C", "i j k l")]);
        let parts = pack(&document, 8, 0, &count);
        let coverage = coverage(&document, &parts, &[true, false, true]);
        assert_eq!((coverage.read, coverage.total, coverage.unread), (2, 3, vec!["T2".to_string()]));
    }
}
