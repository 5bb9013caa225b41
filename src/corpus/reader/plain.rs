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
    let survey = Survey::of(text);
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
    let mut turns = TurnBuilder::new(options.merge_gap_ms);
    let mut open = Open { speaker: None, start_ms: None, source: None };
    let mut doubtful = Vec::new();
    for line in &survey.lines[body..] {
        let Some(head) = &line.head else {
            open.extend(trimmed(&text, line.range.clone()));
            continue;
        };
        if !survey.is_speaker(line) {
            doubtful.push(head.name);
            open.extend(trimmed(&text, line.range.clone()));
            continue;
        }
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
    let mut document = turns.finish(Format::Transcript);
    document.meta = meta;
    if timing == Timing::OfDay {
        let warning = "its times may be times of day, so the turns carry none";
        document.warnings.push(warning.into());
    }
    if num_empty > 0 {
        let labels = count(num_empty, "label without words was", "labels without words were");
        document.warnings.push(format!("{labels} left out"));
    }
    if let Some(first) = doubtful.first() {
        let lines = count(doubtful.len(), "line that begins", "lines that begin");
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

/// Every line of the text that is not blank, and what the labels say together.
struct Survey<'a> {
    text: &'a str,
    lines: Vec<Line<'a>>,
    census: Census<'a>,
    num_capitalized: usize,
    num_lines: usize,      // not blank, no header field
    num_paragraphs: usize, // that begin with a label or with words, not with a header field
    num_led: usize,        // paragraphs that begin with a label
}

impl<'a> Survey<'a> {
    fn of(text: &'a str) -> Self {
        let mut survey = Self {
            text,
            lines: Vec::new(),
            census: Census::default(),
            num_capitalized: 0,
            num_lines: 0,
            num_paragraphs: 0,
            num_led: 0,
        };
        let mut after_blank = true;
        for range in line_ranges(text) {
            let line = &text[range.clone()];
            if line.trim().is_empty() {
                after_blank = true;
                continue;
            }
            let head = head(line);
            if let Some(head) = &head {
                survey.census.add(head.name);
                survey.num_capitalized += usize::from(label::is_capitalized(head.name));
            }
            if head.is_some() || label::header_line(line).is_none() {
                survey.num_lines += 1;
                survey.num_paragraphs += usize::from(after_blank);
                survey.num_led += usize::from(after_blank && head.is_some());
            }
            survey.lines.push(Line { range, head, after_blank });
            after_blank = false;
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
        let names: Vec<&str> = self.lines.iter().filter_map(|l| Some(l.head.as_ref()?.name)).collect();
        let round = self.census.num_names();
        round >= 3 && names.len() >= round * 2 && names.iter().zip(&names[round..]).all(|(a, b)| a == b)
    }

    /// Whether a line that begins with a label begins a turn. A label that stands once may be a sentence with a colon:
    /// it must be written as a name, where turns are known to begin.
    fn is_speaker(&self, line: &Line<'_>) -> bool {
        line.head.as_ref().is_some_and(|head| {
            self.census.count(head.name) >= 2
                || head.stamp.is_some()
                || label::is_capitalized(head.name) && (self.dense() || line.after_blank)
        })
    }

    /// Moves the header fields before the first turn to `meta` and returns the index of the first line after them.
    ///
    /// In a block of lines at the top that holds at least one known field, a label that stands only once is a field
    /// too: `Client: Acme`.
    fn read_header(&self, meta: &mut BTreeMap<String, String>) -> usize {
        let line = |l: &Line<'_>| &self.text[l.range.clone()];
        let turns_begin = |l: &&Line<'_>| l.head.as_ref().is_some_and(|h| self.census.count(h.name) >= 2);
        let top = self.lines.iter().take_while(|l| !turns_begin(l)).count();
        let top = match self.lines[1.min(top)..top].iter().position(|l| l.after_blank) {
            Some(index) => index + 1,
            None => top,
        };
        let mut index = 0;
        let known = self.lines[..top].iter().any(|l| label::header_line(line(l)).is_some() || list_field(line(l)).is_some());
        while known && index < top {
            let words = line(&self.lines[index]);
            index += 1;
            if let Some((key, value)) = label::header_line(words) {
                meta.insert(key.into(), squeeze(value));
            } else if let Some(key) = list_field(words) {
                let items: Vec<String> = self.lines[index..top].iter().map_while(|l| list_item(line(l))).collect();
                index += items.len();
                meta.insert(key.into(), items.join(", "));
            } else if let Some(head) = &self.lines[index - 1].head {
                meta.insert(head.name.to_lowercase(), squeeze(&words[head.words_at..]));
            } else {
                // Words among the fields: they and what follows are read as text.
                return index - 1;
            }
        }
        index
    }

    /// Whether the stamps count from the start of the recording. `10:01` and `14:30:00` may be times of day: stamps are
    /// believed only when they never go back and begin as recordings do, or run past what a clock shows.
    fn timing(&self) -> Timing {
        const LATEST_FIRST_MS: u64 = 6 * 3_600_000; // of `H:MM:SS`: few recordings are longer, few meetings earlier
        const LATEST_FIRST_SHORT_MS: u64 = 6 * 60_000; // of `M:SS`, which reads as `H:MM` too
        const CLOCK_ENDS_MS: u64 = 24 * 60_000;
        let stamps: Vec<Stamp> = self.lines.iter().filter_map(|l| l.head.as_ref()?.stamp).collect();
        let (Some(first), Some(last)) = (stamps.first(), stamps.last()) else { return Timing::None };
        let ordered = stamps.windows(2).all(|s| s[0].ms <= s[1].ms);
        let begins = match first.long {
            true => first.ms < LATEST_FIRST_MS,
            false => first.ms < LATEST_FIRST_SHORT_MS || last.ms >= CLOCK_ENDS_MS,
        };
        let believed = ordered && begins && stamps.iter().all(|s| !s.of_day);
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
