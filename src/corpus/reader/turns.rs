//! Pieces of speech become turns, and turns become the text of a document. Knows no format.

use std::ops::Range;

use super::options::ReadOptions;
use super::{ReadReason, Refusal};
use crate::corpus::document::{Document, Format, Turn};
use crate::ids::TurnId;

/// What one cue, line or object of a transcript says.
pub(super) struct Piece<'a> {
    pub speaker: Option<&'a str>,
    pub start_ms: Option<u64>,
    pub end_ms: Option<u64>,
    pub words: &'a str,
    pub source: Range<usize>, // bytes of the decoded file
}

/// Collects pieces in the order of the file.
///
/// A piece joins the turn before it when both are known to be of one speaker and nothing stands between them:
/// cues, when the second starts no earlier than the turn and at most `merge_gap_ms` after its end (the turn keeps
/// its first start and gets the last end); pieces without times, always. A piece that has a start and no end is a turn
/// of its own, so that no written time is lost. Pieces of nobody known never join: that they are of one
/// person would be a guess.
pub(super) struct TurnBuilder {
    merge_gap_ms: Option<u64>, // `None`: nothing joins
    max_turns: usize,          // one more is kept, to be seen to be over
    text: String,
    turns: Vec<Turn>,
    interrupted: bool,
    num_empty: usize,
}

impl TurnBuilder {
    pub fn new(options: &ReadOptions) -> Self {
        Self {
            merge_gap_ms: options.merge_gap_ms,
            max_turns: options.max_turns as usize,
            text: String::new(),
            turns: Vec::new(),
            interrupted: false,
            num_empty: 0,
        }
    }

    /// Adds a piece; white space in its words becomes single spaces. A piece without words makes no turn, but
    /// keeps two turns apart when it is of someone else.
    pub fn push(&mut self, piece: Piece<'_>) {
        if self.turns.len() > self.max_turns {
            return;
        }
        let speaker = piece.speaker.map(squeeze).filter(|name| !name.is_empty());
        let words = squeeze(piece.words);
        if words.is_empty() {
            self.num_empty += 1;
            let last = self.turns.last().and_then(|t| t.speaker.as_deref());
            self.interrupted |= speaker.is_some() && speaker.as_deref() != last;
            return;
        }
        let joins = !self.interrupted && self.turns.last().is_some_and(|t| self.joins(t, speaker.as_deref(), &piece));
        self.interrupted = false;
        match self.turns.last_mut() {
            Some(turn) if joins => {
                self.text.push(' ');
                self.text.push_str(&words);
                turn.range.end = self.text.len();
                turn.source.end = piece.source.end;
                turn.end_ms = turn.end_ms.max(piece.end_ms);
            }
            _ => self.open(speaker, &words, &piece),
        }
    }

    fn joins(&self, turn: &Turn, speaker: Option<&str>, piece: &Piece<'_>) -> bool {
        let Some(gap) = self.merge_gap_ms else { return false };
        if speaker.is_none() || turn.speaker.as_deref() != speaker {
            return false;
        }
        match (turn.start_ms, turn.end_ms, piece.start_ms, piece.end_ms) {
            (Some(from), Some(to), Some(start), Some(_)) => start >= from && start <= to.saturating_add(gap),
            (None, _, None, _) => true,
            _ => false,
        }
    }

    fn open(&mut self, speaker: Option<String>, words: &str, piece: &Piece<'_>) {
        if !self.turns.is_empty() {
            self.text.push('\n');
        }
        if let Some(name) = &speaker {
            self.text.push_str(name);
            self.text.push_str(": ");
        }
        let from = self.text.len();
        self.text.push_str(words);
        self.turns.push(Turn {
            id: TurnId(self.turns.len() as u32 + 1),
            speaker,
            start_ms: piece.start_ms,
            end_ms: piece.end_ms,
            range: from..self.text.len(),
            source: piece.source.clone(),
        });
    }

    pub fn num_turns(&self) -> usize {
        self.turns.len()
    }

    /// Returns the pieces that held no words.
    pub fn num_empty(&self) -> usize {
        self.num_empty
    }

    /// Returns the document: one line per turn, `Name: words`, or the words alone where nobody is named.
    /// Fails where there are more turns than the limit.
    pub fn finish(self, format: Format) -> Result<Document, Refusal> {
        if self.turns.len() > self.max_turns {
            let detail = format!("has more turns than the {} of `max_turns`", self.max_turns);
            return Err((ReadReason::TooLarge, detail));
        }
        Ok(Document { turns: self.turns, ..Document::of(format, self.text) })
    }
}

/// Returns a text on one line, with single spaces, and with U+FFFD in place of NUL.
pub(super) fn squeeze(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    if line.contains('\0') { line.replace('\0', "\u{FFFD}") } else { line }
}

/// Returns `1 cue was` or `3 cues were`.
pub(super) fn count(n: usize, one: &str, many: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {many}") }
}

/// Lines of a text as ranges, without their ends; `\n`, `\r\n` and `\r` each end one.
pub(super) fn line_ranges(text: &str) -> impl Iterator<Item = Range<usize>> + '_ {
    let bytes = text.as_bytes();
    let mut next = 0;
    std::iter::from_fn(move || {
        if next >= bytes.len() {
            return None;
        }
        let from = next;
        let end = bytes[from..].iter().position(|b| matches!(b, b'\n' | b'\r')).map_or(bytes.len(), |n| from + n);
        next = if bytes[end..].starts_with(b"\r\n") { end + 2 } else { end + 1 };
        Some(from..end)
    })
}

/// Returns a range without the white space at its ends.
pub(super) fn trimmed(text: &str, range: Range<usize>) -> Range<usize> {
    let slice = &text[range.clone()];
    let from = range.start + (slice.len() - slice.trim_start().len());
    from..from + slice.trim().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn say(builder: &mut TurnBuilder, speaker: Option<&str>, times: Option<(u64, u64)>, words: &str) {
        let (start_ms, end_ms) = (times.map(|t| t.0), times.map(|t| t.1));
        builder.push(Piece { speaker, start_ms, end_ms, words, source: 0..0 });
    }

    #[test]
    fn cues_of_one_speaker_join_within_the_gap_and_keep_first_start_and_last_end() {
        let mut turns = TurnBuilder::new(&ReadOptions::default());
        say(&mut turns, Some("Anna"), Some((0, 1000)), "one");
        say(&mut turns, Some("Anna"), Some((3000, 4000)), "two");
        say(&mut turns, Some("Anna"), Some((6001, 7000)), "three");
        say(&mut turns, Some("Ben"), Some((7000, 8000)), "four");
        let document = turns.finish(Format::Vtt).unwrap();
        assert_eq!(document.text, "Anna: one two\nAnna: three\nBen: four");
        assert_eq!((document.turns[0].start_ms, document.turns[0].end_ms), (Some(0), Some(4000)));
    }

    #[test]
    fn nobody_is_not_one_person() {
        let mut turns = TurnBuilder::new(&ReadOptions::default());
        say(&mut turns, None, Some((0, 1000)), "one");
        say(&mut turns, None, Some((1000, 2000)), "two");
        assert_eq!(turns.num_turns(), 2);
    }

    #[test]
    fn an_earlier_cue_never_joins_a_later_turn() {
        let mut turns = TurnBuilder::new(&ReadOptions::default());
        say(&mut turns, Some("Anna"), Some((5000, 6000)), "late");
        say(&mut turns, Some("Anna"), Some((1000, 2000)), "early");
        let document = turns.finish(Format::Vtt).unwrap();
        assert_eq!(document.turns.iter().map(|t| t.start_ms).collect::<Vec<_>>(), [Some(5000), Some(1000)]);
    }

    #[test]
    fn silence_of_another_speaker_keeps_two_turns_apart() {
        let mut turns = TurnBuilder::new(&ReadOptions::default());
        say(&mut turns, Some("Anna"), None, "one");
        say(&mut turns, Some("Ben"), None, " \u{a0} ");
        say(&mut turns, Some("Anna"), None, "two");
        assert_eq!((turns.num_turns(), turns.num_empty()), (2, 1));
    }

    #[test]
    fn more_turns_than_the_limit_are_refused_by_name() {
        let mut turns = TurnBuilder::new(&ReadOptions { max_turns: 2, ..Default::default() });
        for n in 0..9 {
            say(&mut turns, None, Some((n, n + 1)), "word");
        }
        let (reason, detail) = turns.finish(Format::Vtt).unwrap_err();
        assert_eq!((reason, detail.contains("`max_turns`")), (ReadReason::TooLarge, true));
    }

    #[test]
    fn every_kind_of_line_end_ends_a_line() {
        let text = "a\r\nb\rc\n\nd";
        let lines: Vec<_> = line_ranges(text).map(|r| &text[r]).collect();
        assert_eq!(lines, ["a", "b", "c", "", "d"]);
    }
}
