//! YouTube's SubViewer files: a line of two times, then words, then a blank line.

use super::cues::{self, Cue};
use super::options::ReadOptions;
use super::turns::line_ranges;
use super::{Refusal, time, vtt};
use crate::corpus::document::{Document, Format};

/// Whether a text begins with a line of two times with a comma between them.
pub(super) fn looks_like(text: &str) -> bool {
    line_ranges(text).map(|l| text[l].trim()).find(|l| !l.is_empty()).is_some_and(|first| timing(first).is_some())
}

/// Reads a file. Words before the first times are left out, counted and said.
pub(super) fn parse(text: &str, options: &ReadOptions) -> Result<Document, Refusal> {
    let mut cues: Vec<Cue> = Vec::new();
    let mut malformed = Vec::new();
    let mut open: Option<(u64, u64, usize, usize)> = None; // times, and bytes of the words
    let close = |open: &mut Option<(u64, u64, usize, usize)>, cues: &mut Vec<Cue>| {
        if let Some((start_ms, end_ms, from, to)) = open.take() {
            cues.push(Cue { start_ms, end_ms, segments: vtt::segments(text, from..to.max(from), false) });
        }
    };
    for (index, line) in line_ranges(text).enumerate() {
        let words = text[line.clone()].trim();
        match (timing(words), &mut open) {
            (Some((start_ms, end_ms)), _) => {
                close(&mut open, &mut cues);
                open = Some((start_ms, end_ms, line.end + 1, 0));
            }
            _ if words.is_empty() => {}
            (None, Some((.., from, to))) => {
                if *to == 0 {
                    *from = line.start;
                }
                *to = line.end;
            }
            (None, None) => malformed.push(index + 1),
        }
    }
    if let Some((.., from, to)) = &mut open {
        *from = (*from).min(text.len());
        *to = (*to).min(text.len());
    }
    close(&mut open, &mut cues);
    cues::to_document(Format::Sbv, cues, malformed, options)
}

fn timing(line: &str) -> Option<(u64, u64)> {
    let (start, end) = line.split_once(',')?;
    let is_time = |t: &str| t.matches(':').count() == 2 && t.contains('.');
    if !is_time(start) || !is_time(end) {
        return None;
    }
    Some((time::parse_cue_time(start.trim())?, time::parse_cue_time(end.trim())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cues_go_on_to_the_next_times() {
        let text = "0:00:00.100,0:00:02.000\nHello\nthere\n\n0:00:02.000,0:00:03.000\n>> Anna: Yes\n";
        assert!(looks_like(text) && !looks_like("1,2\n") && !looks_like("12:00,13:00\n"));
        let document = parse(text, &ReadOptions::default()).unwrap();
        assert_eq!(document.turns.len(), 2);
        assert_eq!((document.turns[0].start_ms, document.turns[0].end_ms), (Some(100), Some(2000)));
        assert_eq!(document.turn_text(&document.turns[0]), "Hello there");
    }
}
