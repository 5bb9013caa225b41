//! A hash in half the room that its digits take: of two hundred thousand documents several are held at once.
//! It is written, read and compared as its text; what is no hash is held as it is.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};

const BYTES: usize = 32;

/// 64 lower-case hexadecimal digits, or another text.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct HashText(Held);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Held {
    Bytes([u8; BYTES]),
    Text(Box<str>), // never 64 lower-case hexadecimal digits: equal texts are held alike
}

impl HashText {
    pub fn of_bytes(bytes: [u8; BYTES]) -> Self {
        Self(Held::Bytes(bytes))
    }

    pub fn is_empty(&self) -> bool {
        matches!(&self.0, Held::Text(text) if text.is_empty())
    }

    /// Shows `each` the text.
    fn with<T>(&self, each: impl FnOnce(&str) -> T) -> T {
        let mut digits = [0; 2 * BYTES];
        let text = match &self.0 {
            Held::Text(text) => text,
            Held::Bytes(bytes) => {
                for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
                    pair[0] = DIGITS[usize::from(byte >> 4)];
                    pair[1] = DIGITS[usize::from(byte & 15)];
                }
                std::str::from_utf8(&digits).unwrap_or_default()
            }
        };
        each(text)
    }
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

impl From<&str> for HashText {
    fn from(text: &str) -> Self {
        let mut bytes = [0; BYTES];
        let value = |digit: u8| match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        };
        let is_hash = text.len() == 2 * BYTES
            && bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)).all(|(byte, pair)| {
                let both = value(pair[0]).zip(value(pair[1]));
                *byte = both.map_or(0, |(high, low)| high << 4 | low);
                both.is_some()
            });
        Self(if is_hash { Held::Bytes(bytes) } else { Held::Text(text.into()) })
    }
}

impl From<String> for HashText {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<&String> for HashText {
    fn from(text: &String) -> Self {
        Self::from(text.as_str())
    }
}

impl Default for HashText {
    fn default() -> Self {
        Self::from("")
    }
}

impl PartialEq<str> for HashText {
    fn eq(&self, other: &str) -> bool {
        self.with(|text| text == other)
    }
}

impl fmt::Display for HashText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with(|text| f.pad(text))
    }
}

impl fmt::Debug for HashText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with(|text| fmt::Debug::fmt(text, f))
    }
}

impl Serialize for HashText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.with(|text| serializer.serialize_str(text))
    }
}

impl<'de> Deserialize<'de> for HashText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = HashText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_str<E>(self, text: &str) -> Result<HashText, E> {
                Ok(text.into())
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_comes_back_as_it_was() {
        let hash = "0123456789abcdef".repeat(4);
        for text in
            ["", "aa", &hash, &hash.to_uppercase(), &hash[1..], &format!("{}g", &hash[1..]), "ä".repeat(32).as_str()]
        {
            let held = HashText::from(text);
            assert_eq!((held.to_string(), held.is_empty(), &held == text), (text.to_owned(), text.is_empty(), true));
            let written = serde_json::to_string(&held).unwrap();
            assert_eq!(serde_json::from_str::<HashText>(&written).unwrap(), held);
        }
        assert_eq!(
            HashText::from(hash.as_str()),
            HashText::of_bytes([0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef].repeat(4).try_into().unwrap())
        );
        assert!(size_of::<HashText>() <= 40);
    }
}
