//! A prompt in which the template's own words and the words of others are still told apart.

use super::Tokenizer;
use super::vocabulary::Segment;
use crate::ids::TokenId;

/// What a chat template made of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    pub(super) pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// The template's own words: markup is looked for here.
    Template(String),
    /// The words of a message, a document or the answer's opening: never markup.
    Data(String),
}

impl Piece {
    pub(super) fn into_text(self) -> String {
        match self {
            Self::Template(text) | Self::Data(text) => text,
        }
    }
}

impl Rendered {
    /// Returns the prompt as text, for a reader's eyes: in it, markup and text that looks like it are the same.
    pub fn text(&self) -> String {
        self.pieces.iter().cloned().map(Piece::into_text).collect()
    }

    /// Returns the prompt's ids. Only the template's own words can become special tokens, and not even together with
    /// the words of others. Between two special tokens all text is encoded as one string, so a conversation without
    /// markup in it has exactly the ids of its rendered text.
    pub fn encode(&self, tokenizer: &Tokenizer) -> Vec<TokenId> {
        let segments = self.pieces.iter().flat_map(|piece| match piece {
            Piece::Template(text) => tokenizer.split_specials(text),
            Piece::Data(text) => vec![Segment::Text(text.clone())],
        });
        tokenizer.encode_segments(segments.collect())
    }
}
