//! Transcripts that a meeting program saved as a document: the paragraphs of a word processor hold cues or labeled lines.

use std::ops::Range;

use crate::corpus::document::{Document, Part};
use crate::corpus::reader::cues::{self, Cue, Segment};
use crate::corpus::reader::label;
use crate::corpus::reader::options::{ReadAs, ReadOptions};
use crate::corpus::reader::turns::{line_ranges, trimmed};
use crate::corpus::reader::{Refusal, plain, time};

/// Returns the document with its turns, where it is a transcript; else as it is.
pub fn found(document: Document, options: &ReadOptions) -> Result<Document, Refusal> {
    if options.as_ == ReadAs::Text {
        return Ok(document);
    }
    // Notes, headers and footers stand behind the body, and are nobody's words.
    let body_end = document.parts.get(1).map_or(document.text.len(), |p| p.range.start);
    let body = &document.text[..body_end];
    let blocks = blocks(body);
    let timed = blocks.len() >= 2 && blocks.iter().map(|b| b.lines.len()).sum::<usize>() * 2 > num_lines(body);
    let mut read = if timed {
        cues::to_document(document.format, cues_of(body, blocks), Vec::new(), options)?
    } else if options.as_ == ReadAs::Transcript || plain::looks_like(body) {
        Document { format: document.format, ..plain::parse(body.to_owned(), options)? }
    } else {
        return Ok(document);
    };
    let notes = document.text[body_end..].trim();
    if !notes.is_empty() {
        read.meta.insert("notes".into(), notes.to_owned());
    }
    Ok(placed(read, document))
}

/// Gives turns that were found in the text of a document the places that this text has in the file.
fn placed(mut read: Document, from: Document) -> Document {
    let mut part = 0;
    for turn in &mut read.turns {
        if let Some((of, source)) = from.source_of(&turn.source) {
            (part, turn.source) = (of, source);
        }
    }
    let all = 0..read.text.len();
    read.parts = from.parts.get(part as usize).map(|p| Part { name: p.name.clone(), range: all }).into_iter().collect();
    read.meta.extend(from.meta);
    read.warnings.splice(0..0, from.warnings);
    read
}

fn num_lines(text: &str) -> usize {
    text.lines().filter(|l| !l.trim().is_empty()).count()
}

/// A line of times and the lines that belong to it.
struct Block {
    start_ms: u64,
    end_ms: u64,
    lines: Vec<Range<usize>>, // without the line of times
}

/// Returns the cues of a text; lines before the first are a cue of nobody at its start.
fn blocks(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut head = Vec::new();
    for line in line_ranges(text).map(|l| trimmed(text, l)).filter(|l| !l.is_empty()) {
        let times = text[line.clone()].split_once("-->");
        let times = times.and_then(|(a, b)| Some((moment(a)?, moment(b)?)));
        match (times, blocks.last_mut()) {
            (Some((start_ms, end_ms)), _) => blocks.push(Block { start_ms, end_ms, lines: Vec::new() }),
            (None, Some(block)) => block.lines.push(line),
            (None, None) => head.push(line),
        }
    }
    if let Some(first) = blocks.first().map(|b| b.start_ms).filter(|_| !head.is_empty()) {
        blocks.insert(0, Block { start_ms: first, end_ms: first, lines: head });
    }
    blocks
}

/// Reads a time as Teams writes it in documents: `0:0:1.8`, each part with as few digits as it has.
fn moment(text: &str) -> Option<u64> {
    let (whole, fraction) = text.trim().split_once('.').unwrap_or((text.trim(), "0"));
    let padded: Vec<String> = whole.split(':').map(|part| format!("{part:0>2}")).collect();
    time::parse_cue_time(&format!("{}.{}", padded.join(":"), fraction.get(..3).unwrap_or(fraction)))
}

/// The first line below the times is the speaker's name, where nearly all are written as names and some come back.
fn cues_of(text: &str, blocks: Vec<Block>) -> Vec<Cue> {
    let names: Vec<&str> = blocks.iter().filter(|b| b.lines.len() >= 2).map(|b| &text[b.lines[0].clone()]).collect();
    let written = names.iter().filter(|n| label::may_be_name(n) && label::is_capitalized(n)).count();
    let mut distinct = names.clone();
    distinct.sort_unstable();
    distinct.dedup();
    let are_names = written * 10 >= names.len() * 8 && (distinct.len() < names.len() || names.len() < 4);
    let cue = |block: Block| {
        let is_named = are_names && block.lines.len() >= 2 && label::may_be_name(&text[block.lines[0].clone()]);
        let voice = is_named.then(|| text[block.lines[0].clone()].to_owned());
        let lines = block.lines.into_iter().skip(usize::from(is_named));
        let segments =
            lines.map(|l| Segment { voice: voice.clone(), words: text[l.clone()].to_owned(), source: l }).collect();
        Cue { start_ms: block.start_ms, end_ms: block.end_ms, segments }
    };
    blocks.into_iter().map(cue).collect()
}
