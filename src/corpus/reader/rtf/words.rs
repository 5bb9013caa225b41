//! The tokens of RTF: groups, control words with their numbers, bytes.

pub enum Token<'a> {
    Open,
    Close,
    /// A control word or symbol, without its backslash.
    Word(&'a [u8], Option<i32>),
    /// A byte of text, and whether it was written as `\'xx` or behind a backslash.
    Byte(u8, bool),
}

pub struct Tokens<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Tokens<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Returns where the next token begins.
    pub fn at(&self) -> usize {
        self.at
    }

    /// Passes over bytes that are no RTF.
    pub fn pass(&mut self, num_bytes: usize) {
        self.at = self.at.saturating_add(num_bytes).min(self.bytes.len());
    }

    /// Returns the control word that comes next, if one does.
    pub fn peek_word(&self) -> Option<&'a [u8]> {
        let rest = self.bytes.get(self.at..)?.trim_ascii_start().strip_prefix(b"\\")?;
        let letters = rest.iter().take_while(|b| b.is_ascii_alphabetic()).count();
        Some(&rest[..letters])
    }

    fn word(&mut self) -> Token<'a> {
        let rest = &self.bytes[self.at..];
        let letters = rest.iter().take_while(|b| b.is_ascii_alphabetic()).count();
        if letters == 0 {
            return self.symbol();
        }
        let digits_at = letters + usize::from(rest.get(letters) == Some(&b'-'));
        let digits = rest[digits_at..].iter().take_while(|b| b.is_ascii_digit()).count();
        let value = if digits > 0 { std::str::from_utf8(&rest[letters..digits_at + digits]).ok() } else { None };
        let end = if digits > 0 { digits_at + digits } else { letters };
        self.at += end + usize::from(rest.get(end) == Some(&b' '));
        Token::Word(&rest[..letters], value.and_then(|v| v.parse().ok()))
    }

    fn symbol(&mut self) -> Token<'a> {
        let Some(&symbol) = self.bytes.get(self.at) else { return Token::Word(b"", None) };
        self.at += 1;
        match symbol {
            b'\'' => {
                let hex = self.bytes.get(self.at..self.at + 2).and_then(|h| std::str::from_utf8(h).ok());
                match hex.and_then(|h| u8::from_str_radix(h, 16).ok()) {
                    Some(byte) => {
                        self.at += 2;
                        Token::Byte(byte, true)
                    }
                    None => Token::Word(b"", None),
                }
            }
            b'\\' | b'{' | b'}' => Token::Byte(symbol, true),
            b'\r' | b'\n' => Token::Word(b"par", None),
            _ => Token::Word(&self.bytes[self.at - 1..self.at], None),
        }
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(match byte {
            b'{' => Token::Open,
            b'}' => Token::Close,
            b'\\' => self.word(),
            byte => Token::Byte(byte, false),
        })
    }
}

/// The code page of a font's character set.
pub fn code_page_of_charset(charset: i32) -> Option<u16> {
    Some(match charset {
        0 => 1252,
        77 => 10_000,
        128 => 932,
        129 => 949,
        134 => 936,
        136 => 950,
        161 => 1253,
        162 => 1254,
        163 => 1258,
        177 => 1255,
        178 => 1256,
        186 => 1257,
        204 => 1251,
        222 => 874,
        238 => 1250,
        254 => 437,
        255 => 850,
        _ => return None, // 1 and 2: the file's own, and symbols
    })
}
