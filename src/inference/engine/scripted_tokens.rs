//! The tokens of a scripted generator: words and punctuation marks under numbers that lead back to them.

use std::collections::HashMap;
use std::sync::RwLock;

use crate::ids::TokenId;

/// A longer word is several tokens, about as a real vocabulary has it.
const WORD_CHARS_MAX: usize = 12;

/// Gives each piece of text an id, and remembers which. An id is the start of the piece's hash, so it is the same in
/// every run but where two hashes collide.
#[derive(Debug, Default)]
pub(super) struct PieceTable {
    pieces: RwLock<HashMap<TokenId, String>>,
}

impl PieceTable {
    /// Returns where each piece of `text` ends: a word of up to twelve letters and digits, or one other character,
    /// each with the blanks before it; blanks at the end are a piece.
    pub(super) fn ends(text: &str) -> Vec<usize> {
        let mut ends = Vec::new();
        let mut characters = text.char_indices().peekable();
        while let Some((at, character)) = characters.next() {
            let mut end = at + character.len_utf8();
            if character.is_whitespace() {
                if characters.peek().is_none() {
                    ends.push(end);
                }
                continue;
            }
            let mut num_chars = 1;
            while character.is_alphanumeric() && num_chars < WORD_CHARS_MAX {
                let Some((at, more)) = characters.next_if(|(_, next)| next.is_alphanumeric()) else { break };
                end = at + more.len_utf8();
                num_chars += 1;
            }
            ends.push(end);
        }
        ends
    }

    pub(super) fn ids(&self, text: &str) -> Vec<TokenId> {
        let mut start = 0;
        let mut pieces = self.pieces.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        let id = |end: usize| {
            let piece = &text[start..end];
            start = end;
            let hash = blake3::hash(piece.as_bytes());
            let [a, b, c, d, ..] = *hash.as_bytes();
            let mut id = TokenId::from_le_bytes([a, b, c, d]);
            while pieces.get(&id).is_some_and(|other| other != piece) {
                id = id.wrapping_add(1);
            }
            pieces.entry(id).or_insert_with(|| piece.to_owned());
            id
        };
        Self::ends(text).into_iter().map(id).collect()
    }

    /// Returns the text of ids that [`Self::ids`] gave; others stand for nothing.
    pub(super) fn text(&self, ids: &[TokenId]) -> String {
        let pieces = self.pieces.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        ids.iter().filter_map(|id| pieces.get(id)).map(String::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_comes_back_from_its_ids() {
        let table = PieceTable::default();
        for text in ["", " ", "Hello, wörld!\n\n  x ", "日本語のとても長い文章です。", "<|im_end|>", "a\0b"]
        {
            let ids = table.ids(text);
            assert_eq!(table.text(&ids), text);
            assert_eq!(PieceTable::ends(text).len(), ids.len());
        }
        assert_eq!(PieceTable::ends("Hi there, you"), [2, 8, 9, 13]);
        assert_eq!(table.ids("a b"), PieceTable::default().ids("a b"));
    }
}
