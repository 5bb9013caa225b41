//! Units are packed into chunks, in order, as many as fit.
//!
//! Sums of parts choose where a chunk ends, and a count of the whole decides: a tokenizer may make more of two parts side
//! by side than of each alone, so a chunk that is over after all gives up its last unit.

use std::ops::Range;

use rayon::prelude::*;

use super::counts::Counts;
use super::pieces::Cutter;
use super::tokens::Tokens;
use super::units::units;
use super::{Chunk, ChunkBy, ChunkOptions, Overlap, Piece, TokenCounter};
use crate::corpus::document::{Document, Turn};

/// A turn, or a piece of one that is too long for a chunk.
struct TurnUnit {
    turn: usize,         // index
    range: Range<usize>, // covers the text, label and line break before the words included
    words: Range<usize>,
    bare: bool,    // the label is too long to be shown
    tokens: usize, // as shown, alone
}

/// Packs turns, each shown as its label and its words on a line.
pub(super) fn turns(document: &Document, options: &ChunkOptions, counter: &dyn TokenCounter) -> Vec<Chunk> {
    let units = turn_units(document, options, counter);
    let show = |units: &[TurnUnit]| {
        let lines: Vec<String> = units.iter().map(|unit| turn_line(document, options, unit)).collect();
        lines.join("\n")
    };
    let all = units.iter().map(|unit| unit.tokens + 1).sum();
    let fair = fair_share(all, options.size, options.even);
    let mut paths = HeadingPaths::new(document);
    let mut chunks: Vec<Chunk> = Vec::new();
    let mut fresh = 0;
    while fresh < units.len() {
        let mut start = overlap_start(&units, fresh, options);
        let (end, text, tokens) = loop {
            let mut end = fill(&units, start, fresh, options.size, fair).max(fresh + 1);
            let mut text = show(&units[start..end]);
            let mut tokens = counter.count(&text);
            while tokens > options.size && end > fresh + 1 {
                end -= 1;
                text = show(&units[start..end]);
                tokens = counter.count(&text);
            }
            if tokens <= options.size || start == fresh {
                break (end, text, tokens);
            }
            start += 1; // the overlap leaves no room
        };
        let range = units[start].range.start..units[end - 1].range.end;
        let first_turn = &document.turns[units[start].turn];
        let last_turn = &document.turns[units[end - 1].turn];
        chunks.push(Chunk {
            index: chunks.len(),
            fresh: units[fresh].range.start..range.end,
            text,
            tokens,
            turns: Some(first_turn.id..=last_turn.id),
            pages: document.pages_of(&range),
            heading_path: paths.at(units[fresh].words.start),
            pieces: units[start..end].iter().map(|u| Piece { turn: Some(u.turn), range: u.words.clone() }).collect(),
            range,
        });
        fresh = end;
    }
    chunks
}

fn turn_line(document: &Document, options: &ChunkOptions, unit: &TurnUnit) -> String {
    let label = if unit.bare { String::new() } else { (options.label)(&document.turns[unit.turn]) };
    label + &on_one_line(&document.text[unit.words.clone()])
}

fn on_one_line(words: &str) -> String {
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn turn_units(document: &Document, options: &ChunkOptions, counter: &dyn TokenCounter) -> Vec<TurnUnit> {
    let mut units: Vec<TurnUnit> = Vec::new();
    let mut covered = 0;
    let line = |said: &Turn| (options.label)(said) + &on_one_line(document.turn_text(said));
    let lines: Vec<usize> = document.turns.par_iter().map(|said| counter.count(&line(said))).collect(); // tokens
    for (turn, (said, line_tokens)) in document.turns.iter().zip(lines).enumerate() {
        if document.turn_text(said).trim().is_empty() {
            continue; // nothing was said: its bytes go with the next turn's
        }
        if line_tokens <= options.size {
            let range = covered..said.range.end;
            covered = range.end;
            units.push(TurnUnit { turn, range, words: said.range.clone(), bare: false, tokens: line_tokens });
            continue;
        }
        let label = (options.label)(said);
        let label_tokens = counter.count(&label);
        let bare = label_tokens * 2 > options.size;
        let shown = |words: &str| if bare { on_one_line(words) } else { label.clone() + &on_one_line(words) };
        let cutter = Cutter {
            text: &document.text,
            tokens: &Tokens::of(&document.text, said.range.clone(), counter),
            markdown: false,
            limit: if bare { options.size } else { options.size - label_tokens },
            fits: &|words| counter.count(&shown(&document.text[words.clone()])) <= options.size,
        };
        for words in cutter.pieces(said.range.clone()) {
            let tokens = counter.count(&shown(&document.text[words.clone()]));
            units.push(TurnUnit { turn, range: covered..words.end, words: words.clone(), bare, tokens });
            covered = words.end;
        }
    }
    if let Some(last) = units.last_mut() {
        last.range.end = document.text.len();
    }
    units
}

/// Returns the tokens at which a chunk is full enough: the size itself, or what each gets where all get the same.
fn fair_share(all: usize, size: usize, even: bool) -> usize {
    if even { all.div_ceil(all.div_ceil(size).max(1)) } else { size }
}

/// Returns the end of the longest run of units from `start` whose tokens, and the line breaks between them, fit; it
/// ends behind `fresh` as soon as it has the fair share.
fn fill(units: &[TurnUnit], start: usize, fresh: usize, size: usize, fair: usize) -> usize {
    let mut sum = 0;
    for (index, unit) in units.iter().enumerate().skip(start) {
        let is_full = index > fresh && sum >= fair;
        sum += unit.tokens + 1; // the line break
        if is_full || sum > size + 1 {
            return index;
        }
    }
    units.len()
}

/// Returns the first unit that comes again before `fresh`. An overlap is never over half the size, so that every chunk
/// brings much that is new, and the sum of all chunks stays in proportion to the text.
fn overlap_start(units: &[TurnUnit], fresh: usize, options: &ChunkOptions) -> usize {
    let (max_units, max_tokens) = match options.overlap {
        Overlap::Units(n) => (n, options.size / 2),
        Overlap::Tokens(n) => (usize::MAX, n.min(options.size / 2)),
    };
    let mut start = fresh;
    let mut sum = 0;
    while start > 0 && fresh - start < max_units {
        sum += units[start - 1].tokens + 1;
        if sum > max_tokens {
            break;
        }
        start -= 1;
    }
    start
}

/// Packs sentences, sections or pages, or cuts the whole text at its best breaks.
pub(super) fn text(document: &Document, by: ChunkBy, options: &ChunkOptions, counter: &dyn TokenCounter) -> Vec<Chunk> {
    let text = document.text.as_str();
    let tokens = Tokens::of(text, 0..text.len(), counter);
    let counts = Counts::new(text, counter);
    let repeated = match options.overlap {
        Overlap::Tokens(n) => n.min(options.size / 2),
        Overlap::Units(_) => 0,
    };
    let limit = options.size - repeated;
    let cutter = Cutter {
        text,
        tokens: &tokens,
        markdown: document.format.is_markdown(),
        limit,
        fits: &|words| counts.of(words) <= limit,
    };
    let mut parts: Vec<Range<usize>> = Vec::new();
    for unit in units(document, by) {
        // Near the limit the estimate from the whole text does not decide.
        let sure = tokens.count(&unit) + 2 <= limit;
        if sure || (tokens.count(&unit) <= limit + 2 && (cutter.fits)(&unit)) {
            parts.push(unit);
        } else {
            parts.extend(cutter.pieces(unit));
        }
    }
    let fair = fair_share(tokens.count(&(0..text.len())), limit, options.even);
    let mut paths = HeadingPaths::new(document);
    let mut chunks: Vec<Chunk> = Vec::new();
    let mut fresh = 0;
    while fresh < parts.len() {
        let mut start = match options.overlap {
            Overlap::Units(n) => repeated_parts(&parts, &tokens, fresh, n, options.size / 2),
            Overlap::Tokens(_) => fresh,
        };
        let end = loop {
            let mut end = fresh + 1;
            let held = |end: usize| tokens.count(&(parts[start].start..parts[end - 1].end));
            while end < parts.len() && held(end) < fair && held(end + 1) + 2 <= limit {
                end += 1;
            }
            let over = |end: usize| counts.of(&(parts[start].start..parts[end - 1].end)) > limit;
            while end > fresh + 1 && over(end) {
                end -= 1;
            }
            if start == fresh || !over(end) {
                break end;
            }
            start += 1; // the overlap leaves no room
        };
        let fresh_range = parts[fresh].start..parts[end - 1].end;
        let from = parts[start].start.min(repeat_from(text, &tokens, fresh_range.start, repeated));
        let range = within(from, &fresh_range, |range| counts.of(range) <= options.size, text);
        fresh = end;
        let words = counts.shown(&range);
        let is_blank = |part: &&Range<usize>| text[(*part).clone()].trim().is_empty();
        let pieces = parts[start..end].iter().filter(|part| !is_blank(part));
        let pieces = pieces.map(|part| Piece { turn: None, range: part.clone() }).collect();
        match chunks.last_mut() {
            // White space alone is nothing to show: it belongs to what stands before it.
            Some(last) if text[fresh_range.clone()].trim().is_empty() => {
                last.range.end = fresh_range.end;
                last.fresh.end = fresh_range.end;
            }
            _ if words.is_empty() => {}
            last => {
                let first = last.is_none();
                let lead = if first { 0 } else { fresh_range.start };
                let first_word = fresh_range.start + leading_space(&text[fresh_range.clone()]);
                chunks.push(Chunk {
                    index: chunks.len(),
                    fresh: lead..fresh_range.end,
                    text: words.to_owned(),
                    tokens: counts.of(&range),
                    turns: None,
                    pages: document.pages_of(&range),
                    heading_path: paths.at(first_word),
                    pieces,
                    range: if first { 0..range.end } else { range },
                });
            }
        }
    }
    chunks
}

fn leading_space(text: &str) -> usize {
    text.len() - text.trim_start().len()
}

/// Returns the first of at most `max_parts` parts before `fresh` that come again, within `max_tokens`.
fn repeated_parts(parts: &[Range<usize>], tokens: &Tokens, fresh: usize, max_parts: usize, max_tokens: usize) -> usize {
    let end = parts[fresh].start;
    let mut start = fresh;
    while start > 0 && fresh - start < max_parts && tokens.count(&(parts[start - 1].start..end)) <= max_tokens {
        start -= 1;
    }
    start
}

/// Returns where an overlap of so many tokens before `at` begins: with a word, where there are spaces.
fn repeat_from(text: &str, tokens: &Tokens, at: usize, num_tokens: usize) -> usize {
    if num_tokens == 0 {
        return at;
    }
    let from = text.ceil_char_boundary(tokens.back(at, num_tokens)).min(at);
    if from == 0 || text[..from].ends_with(char::is_whitespace) {
        return from;
    }
    text[from..at].find(char::is_whitespace).map_or(from, |space| from + space)
}

/// Returns the fresh range with as much of the overlap before it as fits.
fn within(mut from: usize, fresh: &Range<usize>, fits: impl Fn(&Range<usize>) -> bool, text: &str) -> Range<usize> {
    while from < fresh.start && !fits(&(from..fresh.end)) {
        from = text.ceil_char_boundary(from + (fresh.start - from).div_ceil(2)).min(fresh.start);
    }
    from..fresh.end
}

/// Heading paths of ascending places, each heading looked at once.
struct HeadingPaths<'a> {
    document: &'a Document,
    next: usize,       // index of the first heading not passed
    above: Vec<usize>, // indices of the headings that stand above the last place
}

impl<'a> HeadingPaths<'a> {
    fn new(document: &'a Document) -> Self {
        Self { document, next: 0, above: Vec::new() }
    }

    fn at(&mut self, place: usize) -> Vec<String> {
        let headings = &self.document.headings;
        while let Some(heading) = headings.get(self.next).filter(|h| h.range.start <= place) {
            self.above.retain(|index| headings[*index].level < heading.level);
            self.above.push(self.next);
            self.next += 1;
        }
        self.above.iter().map(|index| headings[*index].title.clone()).collect()
    }
}
