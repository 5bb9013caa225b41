//! WebVTT as the W3C's recommendation reads it, more forgiving where a stricter reading would lose words.
//! Section numbers are those of <https://www.w3.org/TR/webvtt1/>.

use std::collections::BTreeMap;
use std::ops::Range;

use super::cues::{self, Cue, Segment};
use super::options::ReadOptions;
use super::turns::{line_ranges, squeeze};
use super::{Refusal, label, time};
use crate::corpus::document::{Document, Format};

/// Reads a WebVTT file. Cues keep the order of the file; blocks that are no cue (a broken time, words without a time)
/// are left out, counted and said; comments are kept under `notes` in the document's meta, and those such as
/// `NOTE Date: 2026-03-13` under their own name.
pub(super) fn parse(text: &str, options: &ReadOptions) -> Result<Document, Refusal> {
    let mut file = Blocks::default();
    let mut lines = line_ranges(text).enumerate().map(|(index, line)| (index + 1, line)).peekable();
    let arrow = |line: &Range<usize>| text[line.clone()].contains("-->");
    if text.starts_with("WEBVTT") {
        if let Some((_, first)) = lines.next() {
            file.note(text[first].trim_start_matches("WEBVTT").trim_start_matches([' ', '\t', '-']).trim());
        }
        // Section 6.1, step 9: metadata goes on to the first blank line, or to a cue that follows without one.
        while let Some((_, line)) = lines.next_if(|(_, line)| !line.is_empty() && !arrow(line)) {
            file.header(&text[line]);
        }
    } else {
        file.warnings.push("has no `WEBVTT` line; read as WebVTT by its cues".into());
    }
    let mut block: Vec<(usize, Range<usize>)> = Vec::new();
    for (index, line) in lines {
        // Times below an identifier belong to it; anywhere later they begin a cue of their own, blank line or not.
        let begins = arrow(&line) && (block.len() > 1 || block.iter().any(|(_, l)| arrow(l)));
        if begins || line.is_empty() {
            file.block(text, std::mem::take(&mut block));
        }
        if !line.is_empty() {
            block.push((index, line));
        }
    }
    file.block(text, block);

    let mut document = cues::to_document(Format::Vtt, file.cues, file.malformed, options)?;
    document.meta = file.meta;
    if !file.notes.is_empty() {
        document.meta.insert("notes".into(), file.notes.join("\n"));
    }
    document.warnings.splice(0..0, file.warnings);
    Ok(document)
}

#[derive(Default)]
struct Blocks {
    cues: Vec<Cue>,
    malformed: Vec<usize>, // 1-based lines
    meta: BTreeMap<String, String>,
    notes: Vec<String>,
    warnings: Vec<String>,
}

impl Blocks {
    /// Takes the lines between two blank ones (section 6.2), each with its 1-based index.
    fn block(&mut self, text: &str, lines: Vec<(usize, Range<usize>)>) {
        let Some((first_index, first)) = lines.first() else { return };
        let opening = &text[first.clone()];
        let Some(at) = lines.iter().take(2).position(|(_, l)| text[l.clone()].contains("-->")) else {
            let keyword = opening.trim_end();
            if keyword == "NOTE" || opening.starts_with("NOTE ") || opening.starts_with("NOTE\t") {
                let end = lines.last().map_or(first.end, |(_, l)| l.end);
                self.note(text[first.start + 4..end].trim());
            } else if keyword != "STYLE" && keyword != "REGION" && !opening.trim().is_empty() {
                self.malformed.push(*first_index);
            }
            return;
        };
        let (index, timing) = &lines[at];
        let Some((start_ms, end_ms)) = parse_timing(&text[timing.clone()]) else {
            self.malformed.push(*index);
            return;
        };
        let payload = &lines[at + 1..];
        let range = match (payload.first(), payload.last()) {
            (Some((_, from)), Some((_, to))) => from.start..to.end,
            _ => timing.end..timing.end,
        };
        self.cues.push(Cue { start_ms, end_ms, segments: segments(text, range, true) });
    }

    fn header(&mut self, line: &str) {
        let (word, value) = line.split_once([':', '=']).unwrap_or(("", line));
        match label::header_key(word) {
            Some(key) => drop(self.meta.insert(key.into(), squeeze(value))),
            None => self.note(line.trim()),
        }
    }

    fn note(&mut self, note: &str) {
        match label::header_line(note) {
            Some((key, value)) if !note.contains(['\n', '\r']) => drop(self.meta.insert(key.into(), squeeze(value))),
            _ if note.is_empty() => {}
            _ => self.notes.push(note.to_owned()),
        }
    }
}

/// Reads `00:01.000 --> 00:02.500 align:start`; what follows the second time is for the screen.
///
/// A comma for the point is forgiven: files converted from SRT have it, and the words would be lost.
fn parse_timing(line: &str) -> Option<(u64, u64)> {
    let (start, rest) = line.split_once("-->")?;
    let end = rest.trim_start().split([' ', '\t', '\u{c}']).next()?;
    Some((strict_time(start.trim())?, strict_time(end)?))
}

/// Section 6.3, "collect a WebVTT timestamp": two digits each, three for the fraction; hours may be left out.
fn strict_time(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once(['.', ','])?;
    let parts_ok = whole.split(':').all(|part| part.len() >= 2);
    if fraction.len() == 3 && parts_ok { time::parse_cue_time(text) } else { None }
}

/// Splits the words of a cue (section 6.4) into one segment per line and per voice, tags taken off.
///
/// Unlike the recommendation, which lets an unclosed `<` swallow the rest of the cue, a `<` that opens no tag stays a
/// character: "a < b" is something people say. Entities are decoded where `entities` says so.
pub(super) fn segments(text: &str, range: Range<usize>, entities: bool) -> Vec<Segment> {
    let mut all: Vec<Segment> = Vec::new();
    let mut voice: Option<String> = None;
    let mut open: Option<Segment> = None;
    let mut at = range.start;
    while at < range.end {
        let rest = &text[at..range.end];
        let Some(c) = rest.chars().next() else { break };
        let tag = if c == '<' { tag(rest) } else { None };
        if let Some((len, tag)) = tag {
            match tag {
                Tag::Voice(name) => {
                    all.extend(open.take());
                    voice = Some(name).filter(|n| !n.is_empty());
                }
                Tag::VoiceEnd => {
                    all.extend(open.take());
                    voice = None;
                }
                Tag::Other => {}
            }
            at += len;
        } else if matches!(c, '\n' | '\r') {
            all.extend(open.take());
            at += 1;
        } else {
            let (len, shown) = if entities && c == '&' { entity(rest) } else { (c.len_utf8(), c) };
            let segment =
                open.get_or_insert_with(|| Segment { voice: voice.clone(), words: String::new(), source: at..at });
            segment.words.push(shown);
            segment.source.end = at + len;
            at += len;
        }
    }
    all.extend(open);
    all
}

enum Tag {
    Voice(String),
    VoiceEnd,
    Other,
}

/// Reads a tag at the beginning of `rest` and returns its length.
fn tag(rest: &str) -> Option<(usize, Tag)> {
    // No tag of a real file is longer; the bound keeps a cue of a million `<` linear.
    const MAX_TAG_BYTES: usize = 1024;
    let window = &rest.as_bytes()[1..rest.len().min(MAX_TAG_BYTES)];
    let close = 1 + window.iter().position(|b| matches!(b, b'>' | b'<')).filter(|n| window[*n] == b'>')?;
    let inner = &rest[1..close];
    let first = inner.chars().next();
    if !first.is_none_or(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '.')) {
        return None;
    }
    let (head, annotation) = inner.split_once(char::is_whitespace).unwrap_or((inner, ""));
    let kind = head.split('.').next().unwrap_or_default();
    let tag = match kind {
        "v" => Tag::Voice(squeeze(&decoded(annotation))),
        "/v" => Tag::VoiceEnd,
        _ => Tag::Other,
    };
    Some((close + 1, tag))
}

fn decoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let (len, shown) = if c == '&' { entity(rest) } else { (c.len_utf8(), c) };
        out.push(shown);
        rest = &rest[len..];
    }
    out
}

/// Reads an entity at the beginning of `rest`; an unknown one is an ampersand.
fn entity(rest: &str) -> (usize, char) {
    const NAMED: &[(&str, char)] = &[
        ("&amp;", '&'),
        ("&lt;", '<'),
        ("&gt;", '>'),
        ("&nbsp;", '\u{a0}'),
        ("&lrm;", '\u{200e}'),
        ("&rlm;", '\u{200f}'),
        ("&quot;", '"'),
        ("&apos;", '\''),
    ];
    if let Some((name, c)) = NAMED.iter().find(|(name, _)| rest.starts_with(name)) {
        return (name.len(), *c);
    }
    numeric_entity(rest).unwrap_or((1, '&'))
}

fn numeric_entity(rest: &str) -> Option<(usize, char)> {
    let digits = rest.strip_prefix("&#")?;
    let end = digits.bytes().take(8).position(|b| b == b';')?;
    let code = match digits[..end].strip_prefix(['x', 'X']) {
        Some(hex) => u32::from_str_radix(hex, 16).ok()?,
        None => digits[..end].parse().ok()?,
    };
    Some((2 + end + 1, char::from_u32(code).filter(|c| *c != '\0').unwrap_or('\u{FFFD}')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Document {
        parse(text, &ReadOptions::default()).unwrap()
    }

    #[test]
    fn a_teams_file_gives_named_turns_with_times() {
        let document = read(
            "WEBVTT\n\nNOTE Date: 2026-03-13\n\nNOTE a comment\n\nSTYLE\n::cue { color: red }\n\n\
             1a2b/12-0\n00:00:03.000 --> 00:00:05.000\n<v Anna Schmidt>Good morning,\neveryone.</v>\n\n\
             1a2b/13-0\n00:00:05.500 --> 00:00:06.000\n<v Anna Schmidt>Shall we?</v>\n\n\
             00:06.500 --> 00:08.000 align:start\n<v.loud Ben &amp; Co><i>Yes</i> &lt;please&gt;.</v>\n",
        );
        assert_eq!(document.text, "Anna Schmidt: Good morning, everyone. Shall we?\nBen & Co: Yes <please>.");
        assert_eq!((document.turns[0].start_ms, document.turns[0].end_ms), (Some(3000), Some(6000)));
        assert_eq!(document.meta["date"], "2026-03-13");
        assert_eq!(document.meta["notes"], "a comment");
        assert!(document.warnings.is_empty(), "{:?}", document.warnings);
    }

    #[test]
    fn a_zoom_file_labels_its_cues_and_an_unlabeled_cue_goes_on() {
        let document = read(
            "WEBVTT\r\n\r\n1\r\n00:00:00.000 --> 00:00:01.000\r\nAnna Lee: Is it decided?\r\n\r\n\
             2\r\n00:00:01.500 --> 00:00:02.000\r\nI mean, today?\r\n\r\n\
             3\r\n00:00:02.000 --> 00:00:03.000\r\nBen: Not yet.\r\n\r\n\
             4\r\n00:00:03.000 --> 00:00:04.000\r\nAnna Lee: OK.\r\n",
        );
        assert_eq!(document.text, "Anna Lee: Is it decided? I mean, today?\nBen: Not yet.\nAnna Lee: OK.");
        assert!(document.warnings[0].contains("1 cue carries no name"), "{:?}", document.warnings);
    }

    #[test]
    fn two_voices_in_one_cue_are_two_turns_and_words_outside_are_nobodys() {
        let document = read("WEBVTT\n\n00:00.000 --> 00:02.000\n<v Anna>Hi</v> <v Ben>Hey</v> laughter\n");
        assert_eq!(document.text, "Anna: Hi\nBen: Hey\nlaughter");
        assert_eq!(document.turns[2].speaker, None);
    }

    #[test]
    fn malformed_cues_are_counted_and_the_rest_survives() {
        let document = read(
            "WEBVTT\n\n00:00.000 --> soon\nlost\n\nno time at all\n\n00:61.000 --> 00:62.000\nlost\n\n\
             00:03.000 --> 00:04.000\nkept\n00:05.000 --> 00:06.000\nalso kept\n",
        );
        assert_eq!(document.text, "kept\nalso kept");
        assert_eq!(document.warnings, ["3 malformed cues were left out, the first at line 3"]);
    }

    #[test]
    fn lone_carriage_returns_nul_and_unclosed_tags_lose_no_words() {
        let document = read("WEBVTT\r\r00:00.000 --> 00:01.000\ra < b and\0c <i\r\r");
        assert_eq!(document.text, "a < b and\u{FFFD}c <i");
    }

    #[test]
    fn overlapping_and_out_of_order_cues_keep_the_order_of_the_file_and_are_counted() {
        let document = read(
            "WEBVTT\n\n00:05.000 --> 00:07.000\n<v A>one\n\n00:06.000 --> 00:08.000\n<v B>two\n\n\
             00:01.000 --> 00:02.000\n<v A>three\n",
        );
        assert_eq!(document.text, "A: one\nB: two\nA: three");
        assert_eq!(document.warnings.len(), 2, "{:?}", document.warnings);
    }
}
