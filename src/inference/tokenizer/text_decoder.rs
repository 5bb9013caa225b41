//! Tokens in, text out, as they come: never half a character.

use super::Tokenizer;
use crate::ids::TokenId;

/// Turns a stream of tokens into text.
///
/// What it has emitted, plus [`Self::finish`], equals [`Tokenizer::decode`] of all tokens pushed.
#[derive(Clone, Debug, Default)]
pub struct TextDecoder {
    pending: Vec<u8>, // the start of a character whose end has not come yet: at most 3 bytes
    skip_special: bool,
}

impl TextDecoder {
    /// Returns a decoder that leaves special tokens out if `skip_special`, else writes their names.
    pub fn new(skip_special: bool) -> Self {
        Self { pending: Vec::new(), skip_special }
    }

    /// Returns the text that `token` completes; empty where a character is still open.
    /// Bytes that can no longer become a character are given as U+FFFD.
    pub fn push(&mut self, tokenizer: &Tokenizer, token: TokenId) -> String {
        if !(self.skip_special && tokenizer.is_special(token)) {
            self.pending.extend_from_slice(tokenizer.token_bytes(token));
        }
        self.take_complete()
    }

    /// Returns what is left at the end of the stream: U+FFFD for an open character, else nothing.
    pub fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.pending)).into_owned()
    }

    fn take_complete(&mut self) -> String {
        let mut text = String::new();
        let mut rest = self.pending.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    rest = &[];
                    break;
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid));
                    let Some(bad) = error.error_len() else {
                        rest = after;
                        break;
                    };
                    text.push(char::REPLACEMENT_CHARACTER);
                    rest = &after[bad..];
                }
            }
        }
        self.pending = rest.to_vec();
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::tokenizer::gguf::tests::small_tokenizer;

    fn check_stream(ids: &[TokenId]) {
        let tokenizer = small_tokenizer();
        let mut decoder = TextDecoder::new(true);
        let mut streamed: String = ids.iter().map(|id| decoder.push(&tokenizer, *id)).collect();
        streamed += &decoder.finish();
        assert_eq!(streamed, tokenizer.decode(ids, true));
    }

    #[test]
    fn a_character_comes_out_whole_or_not_yet() {
        let tokenizer = small_tokenizer();
        let mut decoder = TextDecoder::new(true);
        let ids = tokenizer.encode_text("é");
        assert_eq!(ids.len(), 2, "the small vocabulary has no token for é");
        assert_eq!(decoder.push(&tokenizer, ids[0]), "");
        assert_eq!(decoder.push(&tokenizer, ids[1]), "é");
        assert_eq!(decoder.finish(), "");
    }

    #[test]
    fn streamed_equals_decoded_even_for_broken_bytes() {
        check_stream(&small_tokenizer().encode_text("Grüße, 世界! 👩‍👩‍👧"));
        let bytes = [0xE4u8, 0xB8, b'a', 0xFF, 0xF0, 0x9F, 0x98, 0xC3, 0x28, 0xED, 0xA0, 0x80, 0xF0];
        check_stream(&bytes.map(|b| small_tokenizer().byte_token(b).unwrap()));
    }

    #[test]
    fn special_tokens_are_skipped_or_named() {
        let tokenizer = small_tokenizer();
        let end = tokenizer.eos().unwrap();
        assert_eq!(TextDecoder::new(true).push(&tokenizer, end), "");
        assert_eq!(TextDecoder::new(false).push(&tokenizer, end), "<|im_end|>");
    }
}
