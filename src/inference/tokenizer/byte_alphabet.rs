//! GPT-2's byte-level alphabet: each of the 256 bytes as one printable character. Knows no vocabulary.
//!
//! Bytes that print in Latin-1 stand for themselves; the other 68 are moved to U+0100 and up, in order.

/// Returns the byte that `character` stands for, or `None` outside the alphabet.
pub(super) fn byte_of(character: char) -> Option<u8> {
    let code = character as usize;
    if code < FIRST_MOVED { prints(code as u8).then_some(code as u8) } else { MOVED.get(code - FIRST_MOVED).copied() }
}

/// Returns the bytes a token of a byte-level vocabulary stands for. A token with a character outside the alphabet
/// was written as plain text, and is taken whole as such: the same rule as the reference's decoder.
pub(super) fn bytes_of(token: &str) -> Vec<u8> {
    token.chars().map(byte_of).collect::<Option<Vec<u8>>>().unwrap_or_else(|| token.as_bytes().to_vec())
}

const FIRST_MOVED: usize = 256;
const NUM_MOVED: usize = 68;

const fn prints(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF)
}

const MOVED: [u8; NUM_MOVED] = {
    let mut bytes = [0u8; NUM_MOVED];
    let (mut byte, mut moved) = (0usize, 0usize);
    while byte < 256 {
        if !prints(byte as u8) {
            bytes[moved] = byte as u8;
            moved += 1;
        }
        byte += 1;
    }
    assert!(moved == NUM_MOVED);
    bytes
};

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Returns the character that stands for `byte` in a byte-level vocabulary.
    pub(in crate::inference::tokenizer) fn char_of(byte: u8) -> char {
        let mut alphabet = ('\0'..='ſ').filter(|character| byte_of(*character) == Some(byte));
        alphabet.next().unwrap()
    }

    #[test]
    fn every_byte_has_its_own_character_and_comes_back() {
        for byte in 0..=255u8 {
            assert_eq!(byte_of(char_of(byte)), Some(byte));
        }
        assert_eq!((char_of(b' '), char_of(b'\n'), char_of(0xAD)), ('Ġ', 'Ċ', 'Ń'));
    }

    #[test]
    fn a_token_outside_the_alphabet_is_plain_text() {
        assert_eq!(bytes_of("Ġa"), b" a");
        assert_eq!(bytes_of("two words"), b"two words");
    }
}
