//! Timed cues become turns: who speaks in a cue, and what is said of doubtful ones.
//!
//! Who speaks is decided once per file:
//! - Some cue has a voice tag (`<v Anna>`): voices are explicit. Words outside any voice are nobody's.
//! - Else, cues begin with `Anna: ` (Zoom, SubRip interviews): see [`labels_are_used`]. Such files label only the
//!   first cue of a turn, so a cue without a label goes on with the speaker before it, however long the silence: the
//!   convention knows no other way to go on. How many did is said. A cue that begins with a dash or `>>` marks a
//!   change of speaker without a name: it and what follows is nobody's, up to the next label.
//! - Else nobody is named, and every cue is a turn of its own.

use std::ops::Range;

use super::label::{self, Census, split_label};
use super::options::{ReadAs, ReadOptions};
use super::turns::{Piece, TurnBuilder, count};
use super::{ReadReason, Refusal};
use crate::corpus::document::{Document, Format};

/// One cue, in the order of the file.
pub(super) struct Cue {
    pub start_ms: u64,
    pub end_ms: u64,
    pub segments: Vec<Segment>,
}

/// A line of a cue, or the part of it that one voice speaks.
pub(super) struct Segment {
    pub voice: Option<String>,
    pub words: String,
    pub source: Range<usize>, // bytes of the decoded file, tags inside included
}

/// Makes a document of cues; `malformed` are the 1-based lines of blocks that were left out.
pub(super) fn to_document(
    format: Format,
    cues: Vec<Cue>,
    malformed: Vec<usize>,
    options: &ReadOptions,
) -> Result<Document, Refusal> {
    let mut turns = TurnBuilder::new(options);
    let style = Style::of(&cues);
    let num_carried = match &style {
        Style::Labels(census) => push_labeled(&mut turns, &cues, census),
        Style::Voices | Style::Nobody => push_voices(&mut turns, &cues),
    };
    let mut warnings = Vec::new();
    if let Some(first) = malformed.first() {
        let cues = count(malformed.len(), "malformed cue was", "malformed cues were");
        let which = if malformed.len() == 1 { "it stands" } else { "the first" };
        warnings.push(format!("{cues} left out, {which} at line {first}"));
    }
    if turns.num_turns() == 0 {
        let what = warnings.pop().map(|w| format!(": {w}")).unwrap_or_default();
        return Err((ReadReason::NoTextFound, format!("holds no cue with words{what}")));
    }
    if num_carried > 0 {
        let cues = count(num_carried, "cue carries no name; it goes", "cues carry no name; each goes");
        warnings.push(format!("{cues} on with the speaker before it, as such files do"));
    }
    warnings.extend(doubts(&cues));
    if options.as_ == ReadAs::Transcript && matches!(style, Style::Nobody) {
        warnings.push("names no speaker".into());
    }
    let mut document = turns.finish(format)?;
    document.warnings = warnings;
    Ok(document)
}

enum Style<'a> {
    Voices,
    Labels(Census<'a>),
    Nobody,
}

impl<'a> Style<'a> {
    fn of(cues: &'a [Cue]) -> Self {
        if cues.iter().flat_map(|c| &c.segments).any(|s| s.voice.is_some()) {
            return Self::Voices;
        }
        let mut census = Census::default();
        let mut num_labeled = 0;
        for cue in cues {
            let names = cue.segments.iter().filter_map(|s| split_label(without_dash(&s.words)).map(|l| l.name));
            let before = census.num_labels;
            names.for_each(|name| census.add(name));
            num_labeled += usize::from(census.num_labels > before);
        }
        if labels_are_used(&census, num_labeled, cues.len()) { Self::Labels(census) } else { Self::Nobody }
    }
}

/// Whether the labels of a file are speakers. One `Careful: wet paint` in a film makes no speaker: either nearly
/// every cue is labeled, or a label comes back and labels are not too rare: one cue in twenty where there are several
/// names, one in three where there is one.
fn labels_are_used(census: &Census<'_>, num_labeled: usize, num_cues: usize) -> bool {
    let nearly_all = num_labeled * 10 >= num_cues * 8 && num_labeled > 0;
    let one_in = if census.num_names() >= 2 { 20 } else { 3 };
    nearly_all || (census.num_repeated(2) >= 1 && num_labeled * one_in >= num_cues)
}

/// Whether a label of a file that uses them is a speaker: it comes back, or is written as a name is.
fn is_speaker(name: &str, census: &Census<'_>) -> bool {
    census.count(name) >= 2 || label::is_capitalized(name)
}

fn push_voices(turns: &mut TurnBuilder, cues: &[Cue]) -> usize {
    for cue in cues {
        push_runs(turns, cue, cue.segments.iter().map(|s| (s.voice.as_deref(), s.words.as_str(), s.source.clone())));
    }
    0
}

/// Returns how many cues carried no label and went on with the speaker before them.
fn push_labeled(turns: &mut TurnBuilder, cues: &[Cue], census: &Census<'_>) -> usize {
    let mut current: Option<&str> = None;
    let mut num_carried = 0;
    for cue in cues {
        let mut runs = Vec::new();
        for (index, segment) in cue.segments.iter().enumerate() {
            let words = without_dash(&segment.words);
            let dashed = words.len() < segment.words.trim_start().len();
            match split_label(words).filter(|l| is_speaker(l.name, census)) {
                Some(label) => {
                    current = Some(label.name);
                    let source = after_label(segment, &words[label.words_at..]);
                    runs.push((current, &words[label.words_at..], source));
                }
                None => {
                    if dashed {
                        current = None;
                    }
                    num_carried += usize::from(index == 0 && current.is_some() && !words.trim().is_empty());
                    runs.push((current, segment.words.as_str(), segment.source.clone()));
                }
            }
        }
        push_runs(turns, cue, runs.into_iter());
    }
    num_carried
}

/// Neighboring segments of one speaker are one piece: a cue's line break is the screen's, not the speaker's.
fn push_runs<'a>(
    turns: &mut TurnBuilder,
    cue: &Cue,
    segments: impl Iterator<Item = (Option<&'a str>, &'a str, Range<usize>)>,
) {
    let mut run: Option<(Option<&str>, String, Range<usize>)> = None;
    let mut push = |(speaker, words, source): (Option<&str>, String, Range<usize>)| {
        // An end before its start tells nothing: the cue is kept as a moment.
        let end_ms = cue.end_ms.max(cue.start_ms);
        turns.push(Piece { speaker, start_ms: Some(cue.start_ms), end_ms: Some(end_ms), words: &words, source });
    };
    for (speaker, words, source) in segments.filter(|(_, words, _)| !words.trim().is_empty()) {
        match &mut run {
            Some((of, said, range)) if *of == speaker => {
                said.push(' ');
                said.push_str(words);
                range.end = source.end;
            }
            _ => run.replace((speaker, words.to_owned(), source)).into_iter().for_each(&mut push),
        }
    }
    run.into_iter().for_each(push);
}

/// Returns the place of the words behind a label. Tags and entities make the file longer than the words, so where the
/// two differ the place is the whole line, label included.
fn after_label(segment: &Segment, words: &str) -> Range<usize> {
    let plain = segment.source.len() == segment.words.len();
    let from = if plain { segment.source.end - words.len() } else { segment.source.start };
    from..segment.source.end
}

fn without_dash(words: &str) -> &str {
    let words = words.trim_start();
    words.trim_start_matches(['>', '-', '–', '—']).trim_start()
}

fn doubts(cues: &[Cue]) -> Vec<String> {
    let pairs = || cues.windows(2);
    let backward = pairs().filter(|p| p[1].start_ms < p[0].start_ms).count();
    let overlapping = pairs().filter(|p| p[1].start_ms >= p[0].start_ms && p[1].start_ms < p[0].end_ms).count();
    let reversed = cues.iter().filter(|c| c.end_ms < c.start_ms).count();
    let mut doubts = Vec::new();
    if backward > 0 {
        let cues = count(backward, "cue starts", "cues start");
        doubts.push(format!("{cues} before the cue above; the order of the file is kept"));
    }
    if overlapping > 0 {
        doubts.push(format!("{} with the cue above", count(overlapping, "cue overlaps", "cues overlap")));
    }
    if reversed > 0 {
        let cues = count(reversed, "cue ends before it starts; its", "cues end before they start; their");
        doubts.push(format!("{cues} start is taken for the end"));
    }
    doubts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn census<'a>(names: &[&'a str]) -> Census<'a> {
        let mut census = Census::default();
        names.iter().for_each(|n| census.add(n));
        census
    }

    #[test]
    fn a_film_with_a_few_colons_names_nobody() {
        assert!(!labels_are_used(&census(&["Careful"]), 1, 100));
        assert!(!labels_are_used(&census(&["Careful", "Careful"]), 2, 100));
        assert!(labels_are_used(&census(&["Anna", "Ben", "Anna"]), 3, 40));
        assert!(labels_are_used(&census(&["Anna", "Ben"]), 2, 2));
        assert!(!labels_are_used(&census(&[]), 0, 0));
    }
}
