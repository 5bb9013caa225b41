//! A document becomes chunks that fit a number of tokens: by turns, paragraphs, sentences, headings, pages, or tokens
//! alone. Counts tokens through [`TokenCounter`] and knows no model. Read [`chunk`] first, then [`Chunk`].
//!
//! Promises, each kept by a test: every byte of the text is in some chunk; chunks keep the order of the text; no chunk is
//! over its size, counted as it is shown, labels included; no cut falls inside a character; time grows with the
//! text, whatever the text is.

mod counts;
mod options;
mod pack;
mod pieces;
mod tokens;
mod units;

use std::ops::{Range, RangeInclusive};

use serde::{Deserialize, Serialize};

use crate::corpus::document::Document;
use crate::ids::TurnId;

pub use options::{CHUNK_KEYS, ChunkBy, ChunkFault, ChunkOptions, MIN_SIZE, Overlap, turn_label};

/// Counts tokens as the model will. A tokenizer is one; tests bring their own. Several threads ask it at once.
pub trait TokenCounter: Sync {
    /// Returns the byte offset at which each token of `text` ends, in order; its length is the token count.
    fn token_ends(&self, text: &str) -> Vec<usize>;

    fn count(&self, text: &str) -> usize {
        self.token_ends(text).len()
    }
}

/// A part of a document that fits its size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    pub index: usize,
    /// What the chunk holds, overlap included; labels of turns and white space at its ends are part of it.
    pub range: Range<usize>, // bytes of `Document::text`
    /// What it holds that no chunk before it does; over all chunks these cover the text once.
    pub fresh: Range<usize>, // bytes of `Document::text`
    /// As a model is shown it: labeled turns, one on a line, or the words of the range without white space at its ends.
    pub text: String,
    pub tokens: usize, // of `text`
    /// First and last, overlap included; `None` where the document has no turns.
    pub turns: Option<RangeInclusive<TurnId>>,
    /// First and last; `None` where the document has no pages.
    pub pages: Option<(u32, u32)>,
    /// The headings that the first fresh byte stands under, outermost first.
    pub heading_path: Vec<String>,
    /// What it is packed of, an overlap of whole units included, without what is blank.
    #[serde(default)]
    pub pieces: Vec<Piece>,
}

/// A turn, a paragraph, a sentence, a section or a page, whole; or a piece of one that is too long for a chunk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    pub turn: Option<usize>, // index into `Document::turns`
    pub range: Range<usize>, // bytes of `Document::text`: its words, without a turn's label
}

/// Cuts a document into chunks. A document without words has none.
///
/// What is asked for and not there (turns in a book, headings in a letter) gives way as
/// [`ChunkOptions::by_for`] says, which a caller can ask too.
pub fn chunk(document: &Document, options: &ChunkOptions, counter: &dyn TokenCounter) -> Vec<Chunk> {
    debug_assert!(options.size > 0, "a chunk of no tokens holds nothing");
    match options.by_for(document) {
        ChunkBy::Turns => pack::turns(document, options, counter),
        by => pack::text(document, by, options, counter),
    }
}

#[cfg(test)]
mod tests;
