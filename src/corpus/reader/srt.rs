//! SubRip files, of which there is no standard: an index, a line of times, words. Each part is found by the times.

use std::ops::Range;

use super::cues::{self, Cue, Segment};
use super::options::ReadOptions;
use super::turns::line_ranges;
use super::{Refusal, time, vtt};
use crate::corpus::document::{Document, Format};

/// Whether a text begins with a cue: a line of times, with an index before it or not.
pub(super) fn looks_like(text: &str) -> bool {
    let mut lines = line_ranges(text).map(|l| text[l].trim()).filter(|l| !l.is_empty());
    let first = lines.next().unwrap_or_default();
    let second = lines.next().unwrap_or_default();
    timing(first).is_some() || (is_index(first) && timing(second).is_some())
}

/// Reads a SubRip file. A cue's words go on to the next line of times, blank lines in them included; an index that no
/// times follow, and times that cannot be read, are malformed cues: left out, counted and said.
pub(super) fn parse(text: &str, options: &ReadOptions) -> Result<Document, Refusal> {
    let lines: Vec<Range<usize>> = line_ranges(text).collect();
    let line = |index: usize| lines.get(index).map_or("", |l| text[l.clone()].trim());
    let mut cues: Vec<Cue> = Vec::new();
    let mut malformed = Vec::new();
    let mut index = 0;
    while index < lines.len() {
        let head = if is_index(line(index)) && is_arrow(line(index + 1)) { index + 1 } else { index };
        let times = timing(line(head));
        let first = head + 1;
        let mut end = first;
        while end < lines.len() && !begins_block(end, &line) {
            end += 1;
        }
        match times {
            Some((start_ms, end_ms)) => {
                let (from, to) = words_of(&lines, first, end, &line);
                cues.push(Cue { start_ms, end_ms, segments: payload(text, from..to) });
            }
            None if (index..end).all(|i| line(i).is_empty()) => {}
            None => malformed.push(index + 1),
        }
        index = end;
    }
    cues::to_document(Format::Srt, cues, malformed, options)
}

/// Whether a new block begins at a line: times, an index with times below it, or, after a blank line, an index whose
/// times are missing.
fn begins_block<'a>(index: usize, line: &impl Fn(usize) -> &'a str) -> bool {
    let (this, next) = (line(index), line(index + 1));
    is_arrow(this) || (is_index(this) && (is_arrow(next) || (line(index - 1).is_empty() && !next.is_empty())))
}

/// Returns the bytes from the first to the last line with words.
fn words_of<'a>(lines: &[Range<usize>], first: usize, end: usize, line: &impl Fn(usize) -> &'a str) -> (usize, usize) {
    let mut filled = (first..end).filter(|i| !line(*i).is_empty());
    match filled.next() {
        Some(from) => (lines[from].start, lines[filled.last().unwrap_or(from)].end),
        None => (lines[first - 1].end, lines[first - 1].end),
    }
}

fn is_index(line: &str) -> bool {
    !line.is_empty() && line.len() <= 9 && line.bytes().all(|b| b.is_ascii_digit())
}

fn is_arrow(line: &str) -> bool {
    line.contains("-->") && line.starts_with(|c: char| c.is_ascii_digit() || c == '-')
}

/// Reads `00:00:01,000 --> 00:00:02,500 X1:40`; one or two digits of an hour, `,` or `.`, any spaces.
fn timing(line: &str) -> Option<(u64, u64)> {
    let (start, rest) = line.split_once("-->")?;
    let end = rest.split_whitespace().next()?;
    Some((time::parse_cue_time(start.trim())?, time::parse_cue_time(end)?))
}

/// Takes off the tags SubRip borrowed from HTML and the `{\an8}` of SubStation. Entities are not decoded: nothing says
/// that they are meant, and `&amp;` is what the viewer of such a file sees.
fn payload(text: &str, range: Range<usize>) -> Vec<Segment> {
    let mut segments = vtt::segments(text, range, false);
    for segment in &mut segments {
        while let Some(from) = segment.words.find("{\\")
            && let Some(len) = segment.words[from..].find('}')
        {
            segment.words.replace_range(from..=from + len, "");
        }
    }
    segments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Document {
        parse(text, &ReadOptions::default()).unwrap()
    }

    #[test]
    fn an_interview_labels_only_the_first_cue_of_a_turn() {
        let document = read(
            "1\n00:00:01,000 --> 00:00:03,000\nInterviewer: How did you\nstart?\n\n\
             2\n00:00:03,500 --> 00:00:05,000\nI was nineteen.\n\n\
             3\n00:00:05,200 --> 00:00:07,000\nMaria: That is my line!\n\n\
             4\n00:00:20,000 --> 00:00:22,000\nAnd then we moved.\n\n\
             5\n00:00:22,100 --> 00:00:23,000\nInterviewer: Where to?\n",
        );
        assert_eq!(
            document.text,
            "Interviewer: How did you start? I was nineteen.\nMaria: That is my line!\nMaria: And then we moved.\n\
             Interviewer: Where to?"
        );
        assert_eq!((document.turns[2].start_ms, document.turns[2].end_ms), (Some(20_000), Some(22_000)));
        assert_eq!(
            document.warnings,
            ["2 cues carry no name; each goes on with the speaker before it, as such files do"]
        );
    }

    #[test]
    fn indices_are_optional_and_dots_and_tags_are_understood() {
        let document = read(
            "0:00:01.5 --> 0:00:02.000\n<font color=\"red\">{\\an8}Hello</font> <i>there</i>\n\n\
             00:00:03,000 --> 00:00:04,000\nfirst part\n\nsecond part\n12\n",
        );
        assert_eq!(document.text, "Hello there\nfirst part second part 12");
        assert_eq!(document.turns[0].start_ms, Some(1500));
    }

    #[test]
    fn a_dash_changes_the_speaker_to_nobody_known() {
        let document = read(
            "1\n00:00:00,000 --> 00:00:01,000\nAnna: Hi\n\n2\n00:00:01,000 --> 00:00:02,000\n- Who is there?\n\n\
             3\n00:00:02,000 --> 00:00:03,000\nstill nobody\n\n4\n00:00:03,000 --> 00:00:04,000\nAnna: Me\n",
        );
        let speakers: Vec<_> = document.turns.iter().map(|t| t.speaker.as_deref()).collect();
        assert_eq!(speakers, [Some("Anna"), None, None, Some("Anna")]);
    }

    #[test]
    fn a_cue_without_times_is_counted_and_the_rest_survives() {
        let document = read(
            "1\n00:00:00,000 --> 00:00:01,000\none\n\n2\nlost\n\n3\n00:00:02,000 -> 00:00:03,000\nlost too\n\n\
             4\n00:00:04,000 --> 00:00:05,000\nfour\n",
        );
        assert_eq!(document.text, "one\nfour");
        assert_eq!(document.warnings, ["2 malformed cues were left out, the first at line 5"]);
    }

    #[test]
    fn a_text_is_srt_by_its_first_cue() {
        assert!(looks_like("\n1\n00:00:01,000 --> 00:00:02,000\nhi"));
        assert!(looks_like("00:00:01.000 --> 00:00:02.000\nhi"));
        assert!(!looks_like("1\nonce upon a time --> there was"));
        assert!(!looks_like("WEBVTT\n"));
    }
}
