//! Plain transcripts: `Name: words` lines, with or without a time. What makes a text one, and how it is read.
//!
//! A turn begins where a line begins with a speaker's label; lines without one go on with the turn. The forms read are
//! `Name: words`, `[0:12:03] Name: words`, `0:12:03 Name: words`, `Name (0:12): words`, and, with the words on the
//! lines below, `Name (0:12)`, `Name  0:12` and `[Name] 0:12:03`.
//!
//! Before the first turn, header lines (`Date: 2026-03-13`) become meta; other lines there are a turn of nobody, so
//! that nothing of the file goes unread.

use std::collections::BTreeMap;
use std::ops::Range;

use super::label::{self, Census};
use super::options::ReadOptions;
use super::time::{self, Stamp};
use super::turns::{Piece, TurnBuilder, count, line_ranges, squeeze, trimmed};
use super::{ReadReason, Refusal};
use crate::corpus::document::{Document, Format};

/// The beginning of a turn, by form.
struct Head<'a> {
    name: &'a str,
    stamp: Option<Stamp>,
    words_at: usize, // byte of the line
}

/// Whether a text is a transcript: names that come back at the beginning of many lines or paragraphs. Prose with
/// colons, forms, logs and records are none.
pub(super) fn looks_like(text: &str) -> bool {
    const SAMPLE_BYTES: usize = 1 << 20; // a transcript shows on its first pages, or it does not
    let survey = Survey::of(&text[..text.floor_char_boundary(SAMPLE_BYTES)]);
    let census = &survey.census;
    let names_come_back = census.num_names() >= 2
        && census.num_repeated(2) >= 1
        && census.num_labels >= 3
        && census.num_labels * 2 >= census.num_names() * 3;
    let written_as_names = survey.num_capitalized * 10 >= census.num_labels * 8;
    names_come_back && written_as_names && survey.labels_lead() && !survey.is_records()
}

/// Reads a plain transcript. Fails where no line begins with a label.
pub(super) fn parse(text: String, options: &ReadOptions) -> Result<Document, Refusal> {
    let survey = Survey::of(&text);
    if survey.census.num_labels == 0 {
        let detail = "has no line that begins with a speaker's name and a colon".to_owned();
        return Err((ReadReason::Unreadable, detail));
    }
    let mut meta = BTreeMap::new();
    let body = survey.read_header(&mut meta);
    let timing = survey.timing();
    let mut turns = TurnBuilder::new(options);
    let mut open = Open { speaker: None, start_ms: None, source: None };
    let mut doubtful = (0, None); // lines, and the first one's label
    for line in lines(&text).skip_while(|line| line.range.start < body) {
        let head = line.head.as_ref().filter(|head| {
            let speaks = survey.is_speaker(head, line.after_blank);
            if !speaks {
                doubtful.0 += 1;
                doubtful.1.get_or_insert(head.name);
            }
            speaks
        });
        let Some(head) = head else {
            open.extend(trimmed(&text, line.range));
            continue;
        };
        open.close(&text, &mut turns);
        let start_ms = head.stamp.filter(|_| timing == Timing::OfRecording).map(|s| s.ms);
        let words = trimmed(&text, line.range.start + head.words_at..line.range.end);
        open = Open { speaker: Some(head.name), start_ms, source: Some(words) };
    }
    open.close(&text, &mut turns);

    let num_empty = turns.num_empty();
    if turns.num_turns() == 0 {
        return Err((ReadReason::NoTextFound, "names speakers but holds none of their words".into()));
    }
    let mut document = turns.finish(Format::Transcript)?;
    document.meta = meta;
    if timing == Timing::OfDay {
        let warning = "its times may be times of day, so the turns carry none";
        document.warnings.push(warning.into());
    }
    if num_empty > 0 {
        let labels = count(num_empty, "label without words was", "labels without words were");
        document.warnings.push(format!("{labels} left out"));
    }
    if let (num_doubtful, Some(first)) = doubtful {
        let lines = count(num_doubtful, "line that begins", "lines that begin");
        document.warnings.push(format!("{lines} like `{}:` taken for words, not for a speaker's", squeeze(first)));
    }
    Ok(document)
}

/// The turn that is being read.
struct Open<'a> {
    speaker: Option<&'a str>,
    start_ms: Option<u64>,
    source: Option<Range<usize>>, // may be empty while its words are still to come
}

impl Open<'_> {
    fn extend(&mut self, line: Range<usize>) {
        if line.is_empty() {
            return;
        }
        match &mut self.source {
            Some(source) if source.start < source.end => source.end = line.end,
            _ => self.source = Some(line),
        }
    }

    fn close(&mut self, text: &str, turns: &mut TurnBuilder) {
        let Some(source) = self.source.take() else { return };
        let words = &text[source.clone()];
        turns.push(Piece { speaker: self.speaker, start_ms: self.start_ms, end_ms: None, words, source });
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Timing {
    None,
    OfRecording,
    OfDay,
}

struct Line<'a> {
    range: Range<usize>,
    head: Option<Head<'a>>,
    after_blank: bool,
}

/// Returns the lines of a text that are not blank.
fn lines(text: &str) -> impl Iterator<Item = Line<'_>> {
    let mut after_blank = true;
    line_ranges(text).filter_map(move |range| {
        let words = &text[range.clone()];
        let blank = words.trim().is_empty();
        let line = (!blank).then(|| Line { range, head: head(words), after_blank });
        after_blank = blank;
        line
    })
}

/// What the labels of a text say together. The lines themselves are not kept: a hostile file has millions.
struct Survey<'a> {
    text: &'a str,
    top: Vec<Line<'a>>,  // the first lines, where a header can stand
    names: Vec<&'a str>, // of the first labels, in order
    census: Census<'a>,
    num_capitalized: usize,
    num_lines: usize,      // not blank, no header field
    num_paragraphs: usize, // that begin with a label or with words, not with a header field
    num_led: usize,        // paragraphs that begin with a label
    stamps: Stamps,
}

/// The stamps of a text, in the order they stand.
#[derive(Default)]
struct Stamps {
    first: Option<Stamp>,
    last: Option<Stamp>,
    goes_back: bool,
    of_day: bool,
}

impl Stamps {
    fn add(&mut self, stamp: Stamp) {
        self.goes_back |= self.last.is_some_and(|last| stamp.ms < last.ms);
        self.of_day |= stamp.of_day;
        self.first.get_or_insert(stamp);
        self.last = Some(stamp);
    }
}

impl<'a> Survey<'a> {
    fn of(text: &'a str) -> Self {
        const MAX_TOP: usize = 200;
        const MAX_NAMES: usize = 10_000;
        let mut survey = Self {
            text,
            top: Vec::new(),
            names: Vec::new(),
            census: Census::default(),
            num_capitalized: 0,
            num_lines: 0,
            num_paragraphs: 0,
            num_led: 0,
            stamps: Stamps::default(),
        };
        for line in lines(text) {
            if let Some(head) = &line.head {
                survey.census.add(head.name);
                survey.num_capitalized += usize::from(label::is_capitalized(head.name));
                head.stamp.into_iter().for_each(|stamp| survey.stamps.add(stamp));
                if survey.names.len() < MAX_NAMES {
                    survey.names.push(head.name);
                }
            }
            if line.head.is_some() || label::header_line(&text[line.range.clone()]).is_none() {
                survey.num_lines += 1;
                survey.num_paragraphs += usize::from(line.after_blank);
                survey.num_led += usize::from(line.after_blank && line.head.is_some());
            }
            if survey.top.len() < MAX_TOP {
                survey.top.push(line);
            }
        }
        survey
    }

    /// Whether most lines begin turns, so that a line that looks like a turn is one.
    fn dense(&self) -> bool {
        self.census.num_labels * 2 >= self.num_lines
    }

    /// Whether labels stand where turns begin: on three lines of five, or, in wrapped text, at three paragraphs of
    /// five. Where two names come back often, three paragraphs of ten will do: people speak in paragraphs.
    fn labels_lead(&self) -> bool {
        let often = self.census.num_repeated(4) >= 2;
        let tenths = if often { 3 } else { 6 };
        let lines = self.census.num_labels * 10 >= self.num_lines * 6;
        let paragraphs = self.num_led * 10 >= self.num_paragraphs * tenths;
        lines || (paragraphs && self.census.num_labels * 10 >= self.num_lines)
    }

    /// Whether the labels of at least three names come round in the same order each time, as the fields of records do.
    fn is_records(&self) -> bool {
        let (names, round) = (&self.names, self.census.num_names());
        round >= 3 && names.len() >= round * 2 && names.iter().zip(&names[round..]).all(|(a, b)| a == b)
    }

    /// Whether a line that begins with a label begins a turn. A label that stands once may be a sentence with a colon:
    /// it must be written as a name, where turns are known to begin.
    fn is_speaker(&self, head: &Head<'_>, after_blank: bool) -> bool {
        self.census.count(head.name) >= 2
            || head.stamp.is_some()
            || label::is_capitalized(head.name) && (self.dense() || after_blank)
    }

    /// Moves the header fields before the first turn to `meta` and returns the byte where the lines after them begin.
    ///
    /// In a block of lines at the top that holds at least one known field, a label that stands only once is a field
    /// too: `Client: Acme`.
    fn read_header(&self, meta: &mut BTreeMap<String, String>) -> usize {
        let words = |line: &Line<'_>| &self.text[line.range.clone()];
        let ends = |(index, line): (usize, &Line<'a>)| {
            (index > 0 && line.after_blank) || line.head.as_ref().is_some_and(|h| self.census.count(h.name) >= 2)
        };
        let block = &self.top[..self.top.iter().enumerate().position(ends).unwrap_or(self.top.len())];
        if !block.iter().any(|l| label::header_line(words(l)).is_some() || list_field(words(l)).is_some()) {
            return 0;
        }
        let mut index = 0;
        while let Some(line) = block.get(index) {
            let field = words(line);
            index += 1;
            if let Some((key, value)) = label::header_line(field) {
                meta.insert(key.into(), squeeze(value));
            } else if let Some(key) = list_field(field) {
                let items: Vec<String> = block[index..].iter().map_while(|l| list_item(words(l))).collect();
                index += items.len();
                meta.insert(key.into(), items.join(", "));
            } else if let Some(head) = &line.head {
                meta.insert(head.name.to_lowercase(), squeeze(&field[head.words_at..]));
            } else {
                // Words among the fields: they and what follows are read as text.
                return line.range.start;
            }
        }
        block.last().map_or(0, |line| line.range.end)
    }

    /// Whether the stamps count from the start of the recording. `10:01` and `14:30:00` may be times of day: stamps are
    /// believed only when they never go back and begin as recordings do, or run past what a clock shows.
    fn timing(&self) -> Timing {
        const LATEST_FIRST_MS: u64 = 6 * 3_600_000; // of `H:MM:SS`: few recordings are longer, few meetings earlier
        const LATEST_FIRST_SHORT_MS: u64 = 6 * 60_000; // of `M:SS`, which reads as `H:MM` too
        const CLOCK_ENDS_MS: u64 = 24 * 60_000;
        let (Some(first), Some(last)) = (self.stamps.first, self.stamps.last) else { return Timing::None };
        let begins = match first.long {
            true => first.ms < LATEST_FIRST_MS,
            false => first.ms < LATEST_FIRST_SHORT_MS || last.ms >= CLOCK_ENDS_MS,
        };
        let believed = begins && !self.stamps.goes_back && !self.stamps.of_day;
        if believed { Timing::OfRecording } else { Timing::OfDay }
    }
}

/// Returns the key of a field whose values stand on the lines below: `Attendees:`.
fn list_field(line: &str) -> Option<&'static str> {
    label::header_key(line.trim().strip_suffix([':', '：'])?.trim_matches(['*', '#', ' ']))
}

fn list_item(line: &str) -> Option<String> {
    line.trim_start().strip_prefix(['-', '*', '•']).map(squeeze).filter(|item| !item.is_empty())
}

/// Reads the beginning of a turn.
fn head(line: &str) -> Option<Head<'_>> {
    stamp_first(line).or_else(|| stamp_inside(line)).or_else(|| stamp_last(line)).or_else(|| {
        let label = label::split_label(line)?;
        Some(Head { name: label.name, stamp: None, words_at: label.words_at })
    })
}

/// `[0:12:03] Name: words`, `(0:12) Name: words`, `0:12:03 - Name: words`.
fn stamp_first(line: &str) -> Option<Head<'_>> {
    let (stamp, rest) = match line.strip_prefix(['[', '(']) {
        Some(inner) => inner.split_once([']', ')'])?,
        None if line.starts_with(|c: char| c.is_ascii_digit()) => line.split_once(char::is_whitespace)?,
        None => return None,
    };
    let stamp = time::parse_stamp(stamp)?;
    let rest = rest.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, '-' | '–' | '|'));
    let label = label::split_label(rest)?;
    Some(Head { name: label.name, stamp: Some(stamp), words_at: line.len() - rest.len() + label.words_at })
}

/// `Name (0:12): words`, and `Name (0:12)` or `Name [0:12]` with the words below.
fn stamp_inside(line: &str) -> Option<Head<'_>> {
    let window = line.floor_char_boundary(96.min(line.len()));
    let open = line[..window].find(['(', '['])?;
    let close = open + line[open..window].find([')', ']'])?;
    let stamp = time::parse_stamp(&line[open + 1..close])?;
    let name = line[..open].trim_end().trim_end_matches(':');
    let rest = line[close + 1..].trim_start();
    let words = if rest.is_empty() { rest } else { rest.strip_prefix([':', '：'])? };
    let words_at = line.len() - words.trim_start().len();
    label::may_be_name(name).then_some(Head { name, stamp: Some(stamp), words_at })
}

/// `Name  0:12` and `[Name] 0:12:03`, with the words below.
fn stamp_last(line: &str) -> Option<Head<'_>> {
    if line.len() > 96 || !line.trim_end().ends_with(|c: char| c.is_ascii_digit() || matches!(c, 'M' | 'm' | '.')) {
        return None;
    }
    let (name, stamp) = match line.strip_prefix('[') {
        Some(inner) => inner.split_once(']')?,
        None => {
            let gap = line.find("  ").or_else(|| line.find('\t'))?;
            line.split_at(gap)
        }
    };
    let stamp = time::parse_stamp(stamp)?;
    label::may_be_name(name).then_some(Head { name: name.trim_end(), stamp: Some(stamp), words_at: line.len() })
}

#[cfg(test)]
mod tests;
