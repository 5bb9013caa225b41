//! The tokenizer itself: text to ids and back.

use std::collections::HashSet;

use super::assemble::Roles;
use super::pieces::pieces;
use crate::ids::TokenId;

/// A byte-level BPE vocabulary, checked and ready. Made by [`Tokenizer::from_json_file`] or
/// [`Tokenizer::from_gguf`]; immutable, and used from any number of threads at once.
#[derive(Debug)]
pub struct Tokenizer {
    hf: tokenizers::Tokenizer,
    table: TokenTable,
    special: Vec<SpecialToken>, // longest text first
    end_ids: Vec<TokenId>,      // sorted
    roles: Roles,
    chat_template: Option<String>,
    cuts_at_blanks: bool,
}

/// A token that is markup, and never comes from text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecialToken {
    pub id: TokenId,
    pub text: String,
    pub(super) strips_left: bool, // blanks before it belong to it
    pub(super) strips_right: bool,
}

/// What chat models end a turn or a text with. A model's own end-of-text token comes on top.
const END_TEXTS: [&str; 8] =
    ["<|end_of_text|>", "<|endoftext|>", "<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<end_of_turn>", "</s>"];

impl Tokenizer {
    pub(super) fn new(
        hf: tokenizers::Tokenizer,
        table: TokenTable,
        special: Vec<SpecialToken>,
        roles: Roles,
        chat_template: Option<String>,
        cuts_at_blanks: bool,
    ) -> Self {
        let named = special.iter().filter(|token| END_TEXTS.contains(&token.text.as_str())).map(|token| token.id);
        let mut end_ids: Vec<TokenId> = roles.eos.into_iter().chain(named).collect();
        end_ids.sort_unstable();
        end_ids.dedup();
        Self { hf, table, special, end_ids, roles, chat_template, cuts_at_blanks }
    }

    /// Returns the number of ids, special and unused ones included: one more than the largest.
    pub fn vocab_size(&self) -> usize {
        self.table.len()
    }

    /// Returns the ids after which an answer is over, in ascending order: the model's end-of-text token and every
    /// special token by which chat models are known to end a turn (`<|im_end|>`, `<|end_of_text|>`, …).
    pub fn end_ids(&self) -> &[TokenId] {
        &self.end_ids
    }

    pub fn is_end(&self, id: TokenId) -> bool {
        self.end_ids.binary_search(&id).is_ok()
    }

    pub fn bos(&self) -> Option<TokenId> {
        self.roles.bos
    }

    pub fn eos(&self) -> Option<TokenId> {
        self.roles.eos
    }

    pub fn unk(&self) -> Option<TokenId> {
        self.roles.unk
    }

    pub fn pad(&self) -> Option<TokenId> {
        self.roles.pad
    }

    /// Returns the token that a raw prompt must begin with, where the model asks for one. Chat templates write
    /// theirs themselves, and nothing here adds it.
    pub fn raw_prompt_start(&self) -> Option<TokenId> {
        self.roles.bos.filter(|_| self.roles.add_bos)
    }

    /// Returns the chat template that the model carries.
    pub fn chat_template(&self) -> Option<&str> {
        self.chat_template.as_deref()
    }

    /// Returns every special token, longest text first.
    pub fn special_tokens(&self) -> &[SpecialToken] {
        &self.special
    }

    pub fn special_id(&self, text: &str) -> Option<TokenId> {
        self.special.iter().find(|token| token.text == text).map(|token| token.id)
    }

    pub fn is_special(&self, id: TokenId) -> bool {
        self.table.special.contains(&id)
    }

    /// Returns whether `id` stands for text: neither special, nor unused, nor outside the vocabulary.
    pub fn is_text(&self, id: TokenId) -> bool {
        (id as usize) < self.table.len() && !self.is_special(id) && !self.table.unused.contains(&id)
    }

    /// Returns the bytes `id` stands for: of a special token its name, of an id outside the vocabulary none.
    /// They may begin or end inside a character.
    pub fn token_bytes(&self, id: TokenId) -> &[u8] {
        self.table.bytes(id)
    }

    /// Returns the token that stands for this one byte.
    pub fn byte_token(&self, byte: u8) -> Option<TokenId> {
        self.table.byte_tokens[byte as usize]
    }

    /// Returns the ids of `text`, in which special tokens stay text. Nothing is added at either end.
    ///
    /// Bytes the vocabulary has no token for are left out, as the reference does; [`Self::num_lost_bytes`] counts them.
    pub fn encode_text(&self, text: &str) -> Vec<TokenId> {
        let mut ids = Vec::with_capacity(text.len() / 3);
        for piece in pieces(text, self.cuts_at_blanks) {
            match self.hf.encode_fast(&text[piece.clone()], false) {
                Ok(encoding) => encoding.get_ids().iter().for_each(|id| self.push_as_text(*id, |id| ids.push(id))),
                // No part that the room lets in can fail on valid text; if one does, no text is lost.
                Err(_) => ids.extend(text[piece].bytes().filter_map(|byte| self.byte_token(byte))),
            }
        }
        ids
    }

    /// Returns the ids of `text` with special tokens recognized: only for text that an operator wrote as a raw prompt.
    pub fn encode_with_specials(&self, text: &str) -> Vec<TokenId> {
        self.encode_segments(self.split_specials(text))
    }

    /// Returns the byte offset at which each token of `text` ends: as many as [`Self::encode_text`] gives ids,
    /// never decreasing, the last one at most `text.len()`.
    ///
    /// A token that ends inside a character has the offset of that character's end, so every offset is a place
    /// where `text` may be cut, and text up to it holds every token counted so far.
    pub fn token_ends(&self, text: &str) -> Vec<usize> {
        let mut ends = Vec::with_capacity(text.len() / 3);
        let mut last = 0;
        for piece in pieces(text, self.cuts_at_blanks) {
            let start = piece.start;
            match self.hf.encode(&text[piece.clone()], false) {
                Ok(encoding) => {
                    for (id, (_, end)) in encoding.get_ids().iter().zip(encoding.get_offsets()) {
                        last = last.max(text.ceil_char_boundary(start + end));
                        self.push_as_text(*id, |_| ends.push(last));
                    }
                }
                Err(_) => {
                    let known = text[piece].bytes().enumerate().filter(|(_, byte)| self.byte_token(*byte).is_some());
                    ends.extend(known.map(|(at, _)| text.ceil_char_boundary(start + at + 1)));
                    last = ends.last().copied().unwrap_or(last);
                }
            }
        }
        ends
    }

    /// Returns how many bytes of `text` the vocabulary has no token for: rare control characters in some.
    pub fn num_lost_bytes(&self, text: &str) -> usize {
        if self.table.byte_tokens.iter().all(Option::is_some) {
            return 0;
        }
        text.bytes().filter(|byte| self.byte_token(*byte).is_none()).count()
    }

    /// Returns the text of `ids`; bytes that make no character become U+FFFD. Special tokens are left out if
    /// `skip_special`, else they appear by name. Ids outside the vocabulary stand for nothing.
    pub fn decode(&self, ids: &[TokenId], skip_special: bool) -> String {
        let shown = ids.iter().filter(|id| !(skip_special && self.is_special(**id)));
        let bytes: Vec<u8> = shown.flat_map(|id| self.token_bytes(*id)).copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Cuts `text` at its special tokens, the longest first at each place.
    pub(super) fn split_specials(&self, text: &str) -> Vec<Segment> {
        let mut segments = Vec::new();
        let (mut start, mut at) = (0, 0);
        while at < text.len() {
            if let Some(token) = self.special.iter().find(|token| text[at..].starts_with(&token.text)) {
                segments.push(Segment::Text(text[start..at].to_owned()));
                segments.push(Segment::Special(token.clone()));
                at += token.text.len();
                start = at;
            } else {
                at = text.ceil_char_boundary(at + 1);
            }
        }
        segments.push(Segment::Text(text[start..].to_owned()));
        segments
    }

    /// Encodes each run of text between special tokens as one string.
    pub(super) fn encode_segments(&self, segments: Vec<Segment>) -> Vec<TokenId> {
        let mut ids = Vec::new();
        let mut text = String::new();
        let mut strips_right = false;
        for segment in segments {
            match segment {
                Segment::Text(more) => text.push_str(&more),
                Segment::Special(token) => {
                    let run = if strips_right { text.trim_start() } else { &text };
                    let run = if token.strips_left { run.trim_end() } else { run };
                    ids.extend(self.encode_text(run));
                    ids.push(token.id);
                    strips_right = token.strips_right;
                    text.clear();
                }
            }
        }
        ids.extend(self.encode_text(if strips_right { text.trim_start() } else { &text }));
        ids
    }

    /// Passes on `id`, or the bytes of its name where BPE itself arrived at a special token: possible only in a
    /// vocabulary that holds a special token as an ordinary word.
    fn push_as_text(&self, id: TokenId, mut push: impl FnMut(TokenId)) {
        if self.is_special(id) && self.roles.unk != Some(id) {
            self.token_bytes(id).iter().filter_map(|byte| self.byte_token(*byte)).for_each(push);
        } else {
            push(id);
        }
    }
}

/// A part of a prompt: markup or text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    Text(String),
    Special(SpecialToken),
}

/// The bytes behind each id.
#[derive(Debug)]
pub(super) struct TokenTable {
    bytes: Vec<u8>,
    ends: Vec<usize>, // in `bytes`, by id
    byte_tokens: [Option<TokenId>; 256],
    special: HashSet<TokenId>,
    unused: HashSet<TokenId>,
}

impl Default for TokenTable {
    fn default() -> Self {
        Self {
            bytes: Vec::new(),
            ends: Vec::new(),
            byte_tokens: [None; 256],
            special: HashSet::new(),
            unused: HashSet::new(),
        }
    }
}

impl TokenTable {
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn push(&mut self, bytes: &[u8], used: bool) {
        if !used {
            self.unused.insert(self.ends.len() as TokenId);
        }
        self.bytes.extend_from_slice(bytes);
        self.ends.push(self.bytes.len());
    }

    pub(super) fn set_byte_token(&mut self, byte: u8, id: TokenId) {
        self.byte_tokens[byte as usize] = Some(id);
    }

    pub(super) fn set_special(&mut self, id: TokenId) {
        self.special.insert(id);
    }

    pub(super) fn set_unused(&mut self, id: TokenId) {
        self.unused.insert(id);
    }

    fn bytes(&self, id: TokenId) -> &[u8] {
        let id = id as usize;
        let Some(end) = self.ends.get(id).copied() else { return &[] };
        let start = if id == 0 { 0 } else { self.ends[id - 1] };
        &self.bytes[start..end]
    }
}
