//! EBCDIC, as mainframes write it: code page 37, whose letters, digits and most signs are those of every country's page.

/// Code page 37 as characters, in the order of its bytes; the line ends of mainframes are line breaks.
const CP037: &str = "\
    \u{0}\u{1}\u{2}\u{3}\u{9c}\u{9}\u{86}\u{7f}\u{97}\u{8d}\u{8e}\u{b}\u{c}\u{d}\u{e}\u{f}\u{10}\u{11}\
    \u{12}\u{13}\u{9d}\n\u{8}\u{87}\u{18}\u{19}\u{92}\u{8f}\u{1c}\u{1d}\u{1e}\u{1f}\u{80}\u{81}\u{82}\
    \u{83}\u{84}\n\u{17}\u{1b}\u{88}\u{89}\u{8a}\u{8b}\u{8c}\u{5}\u{6}\u{7}\u{90}\u{91}\u{16}\u{93}\
    \u{94}\u{95}\u{96}\u{4}\u{98}\u{99}\u{9a}\u{9b}\u{14}\u{15}\u{9e}\u{1a} \u{a0}âäàáãåçñ¢.<(+|&éêëèíîï\
    ìß!$*);¬-/ÂÄÀÁÃÅÇÑ¦,%_>?øÉÊËÈÍÎÏÌ`:#@'=\"Øabcdefghi«»ðýþ±°jklmnopqrªºæ¸Æ¤µ~stuvwxyz¡¿ÐÝÞ®^£¥·©§¶¼½¾[\
    ]¯¨´×{ABCDEFGHI\u{ad}ôöòóõ}JKLMNOPQR¹ûüùúÿ\\÷STUVWXYZ²ÔÖÒÓÕ0123456789³ÛÜÙÚ\u{9f}\
";

pub fn decode(bytes: &[u8]) -> String {
    let characters: Vec<char> = CP037.chars().collect();
    bytes.iter().map(|byte| characters[usize::from(*byte)]).collect()
}

/// Whether bytes are such a text: spaces where ASCII has `@`, and nearly nothing but letters, digits and common signs.
pub fn is_text(bytes: &[u8]) -> bool {
    const SAMPLE_BYTES: usize = 64 << 10;
    const MIN_BYTES: usize = 16;
    let sample = &bytes[..bytes.len().min(SAMPLE_BYTES)];
    let num = |is: fn(&u8) -> bool| sample.iter().filter(|b| is(b)).count();
    let spaces = num(|b| *b == 0x40);
    let ascii = num(|b| matches!(b, b' ' | b'\n'));
    let is_common = |c: char| c.is_ascii_alphanumeric() || " \n\r\t.,;:'\"()-/&%*=+?!#$@".contains(c);
    let text = decode(sample);
    let common = text.chars().filter(|c| is_common(*c)).count();
    let letters = text.chars().filter(char::is_ascii_alphanumeric).count();
    let all = sample.len();
    all >= MIN_BYTES && spaces * 20 > all && letters * 2 > all && ascii * 50 < all && common * 10 >= all * 9
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: &[u8] = b"\xc3\xe4\xe2\xe3\xd6\xd4\xc5\xd9@\xf0\xf0\xf0\xf4\xf2z@\xd4\xa4\x85\x93\x93\x85\x99k@\xf1\xf2K\xf5\xf0@\xc5\xe4\xd9@M\x97\x81\x89\x84]K\x15\xd5\x85\xa7\xa3@\x93\x89\x95\x85@\x88\x85\x99\x85K";

    #[test]
    fn records_of_a_mainframe_are_known_and_read() {
        assert_eq!(CP037.chars().count(), 256);
        assert!(is_text(RECORD));
        assert_eq!(decode(RECORD), "CUSTOMER 00042: Mueller, 12.50 EUR (paid).\nNext line here.");
        for text in ["An address: a@b.example and more words, 12.", "@@@@@@@@@@@@@@@@@@@@@@@@", "Größe für später"]
        {
            assert!(!is_text(text.as_bytes()) && !is_text(&encoding_rs::WINDOWS_1252.encode(text).0), "{text}");
        }
    }
}
