//! What is too long for a chunk is cut at its best breaks: paragraphs, sentences, words, characters.
//! The one place that names text-splitter.

use std::ops::Range;

use rayon::prelude::*;
use text_splitter::{ChunkConfig, ChunkSizer, MarkdownSplitter, TextSplitter};

use super::tokens::Tokens;

/// What a range is cut with.
pub(super) struct Cutter<'a> {
    pub text: &'a str,
    pub tokens: &'a Tokens, // of at least the range
    pub markdown: bool,
    pub limit: usize, // tokens of a piece, about: `fits` decides
    /// Whether a piece is within its limit as it will be shown.
    pub fits: &'a (dyn Fn(&Range<usize>) -> bool + Sync),
}

impl Cutter<'_> {
    /// Cuts a range into pieces that cover it, in order, each of which fits unless it is a single character. Blocks are
    /// cut on all cores.
    pub fn pieces(&self, range: Range<usize>) -> Vec<Range<usize>> {
        let blocks = blocks(self.text, range.clone(), self.block_bytes(&range));
        blocks.into_par_iter().flat_map_iter(|block| self.cut_block(block)).collect()
    }

    /// The splitter looks at all breaks of what it is given for every chunk it makes, so its time is the number of
    /// chunks times the length: it is given a few chunks' worth at once, which keeps the whole linear.
    fn block_bytes(&self, range: &Range<usize>) -> usize {
        const CHUNKS_AT_ONCE: usize = 8;
        let bytes_per_token = range.len() / self.tokens.count(range).max(1) + 1;
        (self.limit.saturating_mul(bytes_per_token).saturating_mul(CHUNKS_AT_ONCE)).clamp(8 << 10, 4 << 20)
    }

    fn cut_block(&self, block: Range<usize>) -> Vec<Range<usize>> {
        let mut pieces = Vec::new();
        let words = &self.text[block.clone()];
        // A piece alone may make a token more at each of its ends than it does in its place.
        let capacity = self.limit.saturating_sub(2).max(1);
        let sizer = Sizer { tokens: self.tokens, base: words.as_ptr() as usize, at: block.start };
        let config = ChunkConfig::new(capacity).with_sizer(sizer).with_trim(false);
        let starts: Vec<usize> = match self.markdown {
            true => MarkdownSplitter::new(config).chunk_indices(words).map(|(at, _)| block.start + at).collect(),
            false => TextSplitter::new(config).chunk_indices(words).map(|(at, _)| block.start + at).collect(),
        };
        // Only the places of the cuts are taken, so that whatever the splitter leaves out stays covered.
        let mut from = block.start;
        for to in starts.into_iter().skip(1).chain([block.end]) {
            self.halve(from..to, &mut pieces);
            from = to;
        }
        pieces
    }

    /// Adds a piece, in halves as long as it does not fit.
    fn halve(&self, piece: Range<usize>, pieces: &mut Vec<Range<usize>>) {
        let words = &self.text[piece.clone()];
        let middle = self.text.floor_char_boundary(piece.start + piece.len() / 2);
        let middle = if middle > piece.start {
            middle
        } else {
            piece.start + words.chars().next().map_or(piece.len(), char::len_utf8)
        };
        if middle >= piece.end || (self.fits)(&piece) {
            if !piece.is_empty() {
                pieces.push(piece);
            }
            return;
        }
        self.halve(piece.start..middle, pieces);
        self.halve(middle..piece.end, pieces);
    }
}

/// Answers sizes from the token ends of the whole text: every slice it is asked about is a slice of that text, so its
/// address tells its place.
struct Sizer<'a> {
    tokens: &'a Tokens,
    base: usize, // address of the block's first byte
    at: usize,   // its place in the text
}

impl ChunkSizer for Sizer<'_> {
    fn size(&self, chunk: &str) -> usize {
        let from = self.at + (chunk.as_ptr() as usize).wrapping_sub(self.base);
        self.tokens.count(&(from..from + chunk.len()))
    }
}

/// Returns blocks of at most `max_bytes` that cover a range, cut where [`cut_before`] says.
pub(super) fn blocks(text: &str, range: Range<usize>, max_bytes: usize) -> Vec<Range<usize>> {
    let mut blocks = Vec::new();
    let mut from = range.start;
    while from < range.end {
        let to = cut_before(text, from..range.end, max_bytes);
        blocks.push(from..to);
        from = to;
    }
    blocks
}

/// Returns where to cut a range at most `max_bytes` long from its start: after the last blank line of the second half,
/// else after its last line, else its last space, else between two characters.
fn cut_before(text: &str, range: Range<usize>, max_bytes: usize) -> usize {
    if range.len() <= max_bytes {
        return range.end;
    }
    let end = text.floor_char_boundary(range.start + max_bytes);
    let half = text.ceil_char_boundary(range.start + max_bytes / 2);
    let window = text.get(half..end).unwrap_or_default();
    let after = |found: Option<usize>, len: usize| found.map(|at| half + at + len);
    after(window.rfind("\n\n"), 2)
        .or_else(|| after(window.rfind('\n'), 1))
        .or_else(|| after(window.rfind(' '), 1))
        .unwrap_or(if end > range.start { end } else { text.ceil_char_boundary(range.start + 1) })
}
