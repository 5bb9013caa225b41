//! Bytes become text: byte order mark, else UTF-8, else what the file says, else a guess that is announced. Knows no
//! format.

mod code_pages;
mod ebcdic;
mod johab;
mod latin;

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Encoding, UTF_16BE, UTF_16LE};

/// The text of a file. Places "in the decoded file" are bytes of this text.
pub(super) struct Decoded {
    pub text: String,
    pub warnings: Vec<String>,
}

/// Decodes a whole file. Never fails: what is no character becomes U+FFFD and is counted.
pub(super) fn decode(bytes: &[u8]) -> Decoded {
    decode_as(bytes, None)
}

/// Decodes a file that may say what it is in. Its word counts for less than a byte order mark, and than text that is
/// UTF-8 beyond doubt.
pub(super) fn decode_as(bytes: &[u8], declared: Option<&'static Encoding>) -> Decoded {
    // UTF-32 first: its little-endian mark begins with that of UTF-16.
    if let Some(rest) = bytes.strip_prefix(&[0xFF, 0xFE, 0, 0]) {
        return with_warning(utf32(rest, u32::from_le_bytes), "UTF-32LE", None);
    }
    if let Some(rest) = bytes.strip_prefix(&[0, 0, 0xFE, 0xFF]) {
        return with_warning(utf32(rest, u32::from_be_bytes), "UTF-32BE", None);
    }
    if let Some((encoding, mark)) = Encoding::for_bom(bytes) {
        return with(encoding, &bytes[mark..], None);
    }
    if let Some(unit) = utf32_without_mark(bytes) {
        return with_warning(utf32(bytes, unit), "UTF-32", Some("it has no byte order mark"));
    }
    if let Some(euc) = from_iso_2022_kr(bytes) {
        let (text, _) = encoding_rs::EUC_KR.decode_without_bom_handling(&euc);
        return with_warning(text.into_owned(), "ISO-2022-KR", Some("it holds the escape sequence of Korean mail"));
    }
    if is_iso_2022_jp(bytes) {
        return with(encoding_rs::ISO_2022_JP, bytes, Some("it holds the escape sequences of Japanese mail"));
    }
    if let Ok(text) = std::str::from_utf8(bytes)
        && utf16_without_mark(bytes).is_none()
    {
        return Decoded { text: text.to_owned(), warnings: Vec::new() };
    }
    if let Some(encoding) = utf16_without_mark(bytes) {
        return with(encoding, bytes, Some("it has no byte order mark"));
    }
    if mostly_utf8(bytes) {
        let text = String::from_utf8_lossy(bytes).into_owned();
        return with_warning(text, "UTF-8", Some("it is not clean"));
    }
    // A page that says UTF-8 and is not has said nothing.
    if let Some(encoding) = declared.filter(|e| *e != encoding_rs::UTF_8 && !e.decode_without_bom_handling(bytes).1) {
        return with(encoding, bytes, None);
    }
    if let Some(text) = johab::guess(bytes) {
        return with_warning(text, "Johab", Some(NOT_UTF8));
    }
    if ebcdic::is_text(bytes) {
        let doubt = "it looks like a mainframe's; accented letters and brackets may be wrong, each country has its own";
        return with_warning(ebcdic::decode(bytes), "EBCDIC (code page 37)", Some(doubt));
    }
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Allow);
    detector.feed(bytes, true);
    let guess = detector.guess(None, Utf8Detection::Deny);
    match latin::guess(bytes, guess) {
        latin::Guess::Encoding(encoding) => with(encoding, bytes, Some(NOT_UTF8)),
        latin::Guess::CodePage(page) => with_warning(page.decode(bytes), page.name, Some(NOT_UTF8)),
    }
}

const NOT_UTF8: &str = "it is not UTF-8";

/// Decodes bytes in a code page by its number, as RTF and MSG files name it. An unknown one is taken for Western, which
/// the second value says by `false`.
pub(super) fn in_code_page(bytes: &[u8], number: u16) -> (String, bool) {
    let encoding = match number {
        37 | 1140 => return (ebcdic::decode(bytes), true),
        437 => return (code_pages::CP437.decode(bytes), true),
        850 => return (code_pages::CP850.decode(bytes), true),
        852 => return (code_pages::CP852.decode(bytes), true),
        866 => encoding_rs::IBM866,
        874 => encoding_rs::WINDOWS_874,
        932 => encoding_rs::SHIFT_JIS,
        936 => encoding_rs::GBK,
        949 => encoding_rs::EUC_KR,
        1361 => return (johab::decode(bytes), true),
        950 => encoding_rs::BIG5,
        1250 => encoding_rs::WINDOWS_1250,
        1251 => encoding_rs::WINDOWS_1251,
        1253 => encoding_rs::WINDOWS_1253,
        1254 => encoding_rs::WINDOWS_1254,
        1255 => encoding_rs::WINDOWS_1255,
        1256 => encoding_rs::WINDOWS_1256,
        1257 => encoding_rs::WINDOWS_1257,
        1258 => encoding_rs::WINDOWS_1258,
        10_000 => encoding_rs::MACINTOSH,
        20_127 => encoding_rs::WINDOWS_1252, // ASCII
        20_866 => encoding_rs::KOI8_R,
        20_932 | 51_932 => encoding_rs::EUC_JP,
        28_592 => encoding_rs::ISO_8859_2,
        28_591 => encoding_rs::WINDOWS_1252,
        28_605 => encoding_rs::ISO_8859_15,
        51_949 => encoding_rs::EUC_KR,
        54_936 => encoding_rs::GB18030,
        65_001 => encoding_rs::UTF_8,
        0 | 1252 => encoding_rs::WINDOWS_1252, // 0: that of the machine, which nobody knows
        _ => return (encoding_rs::WINDOWS_1252.decode_without_bom_handling(bytes).0.into_owned(), false),
    };
    (encoding.decode_without_bom_handling(bytes).0.into_owned(), true)
}

fn with(encoding: &'static Encoding, bytes: &[u8], doubt: Option<&str>) -> Decoded {
    let (text, _) = encoding.decode_without_bom_handling(bytes);
    with_warning(text.into_owned(), encoding.name(), doubt)
}

fn with_warning(text: String, name: &str, doubt: Option<&str>) -> Decoded {
    let replaced = text.matches('\u{FFFD}').count();
    let places = match replaced {
        0 => String::new(),
        1 => "; 1 place is no character of it and was replaced".to_owned(),
        n => format!("; {n} places are no characters of it and were replaced"),
    };
    let warning = match doubt {
        Some(doubt) => Some(format!("read as {name} because {doubt}{places}")),
        None if replaced > 0 => Some(format!("read as {name}{places}")),
        None => None,
    };
    Decoded { text, warnings: warning.into_iter().collect() }
}

fn utf32(bytes: &[u8], unit: fn([u8; 4]) -> u32) -> String {
    let units = bytes.chunks(4);
    units
        .map(|four| match four.try_into() {
            Ok(four) => char::from_u32(unit(four)).unwrap_or('\u{FFFD}'),
            Err(_) => '\u{FFFD}', // the file ends inside a character
        })
        .collect()
}

/// Seven-bit Japanese is valid UTF-8 to look at; what gives it away is its switch to two-byte characters.
fn is_iso_2022_jp(bytes: &[u8]) -> bool {
    let switches = bytes.windows(3).any(|w| matches!(w, [0x1B, b'$', b'@' | b'B']));
    switches && bytes.is_ascii() && !encoding_rs::ISO_2022_JP.decode_without_bom_handling(bytes).1
}

/// A unit of UTF-32 is a number under 0x110000, so that its first byte and most often its second are zero: no text in
/// another encoding looks so.
pub(super) fn utf32_without_mark(bytes: &[u8]) -> Option<fn([u8; 4]) -> u32> {
    const UNITS: usize = 1024;
    if bytes.len() < 8 || !bytes.len().is_multiple_of(4) {
        return None;
    }
    let is_text = |unit: fn([u8; 4]) -> u32| {
        let mut units = bytes.chunks_exact(4).take(UNITS).filter_map(|four| four.try_into().ok());
        units.all(|four| char::from_u32(unit(four)).is_some_and(|c| !c.is_control() || c.is_whitespace()))
    };
    [u32::from_le_bytes as fn([u8; 4]) -> u32, u32::from_be_bytes].into_iter().find(|unit| is_text(*unit))
}

/// Korean mail in seven bits (RFC 1557): between the shifts stand the bytes of EUC-KR without their high bits. Returns
/// those, or `None` where the text does not announce itself so.
pub(super) fn from_iso_2022_kr(bytes: &[u8]) -> Option<Vec<u8>> {
    const ANNOUNCEMENT: &[u8] = b"\x1B$)C";
    const HEAD_BYTES: usize = 1024;
    let head = &bytes[..bytes.len().min(HEAD_BYTES)];
    let at = head.windows(ANNOUNCEMENT.len()).position(|w| w == ANNOUNCEMENT).filter(|_| bytes.is_ascii())?;
    let mut euc = bytes[..at].to_vec();
    let mut is_shifted = false;
    for byte in &bytes[at + ANNOUNCEMENT.len()..] {
        match byte {
            0x0E => is_shifted = true,
            0x0F => is_shifted = false,
            0x21..=0x7E if is_shifted => euc.push(byte | 0x80),
            byte => euc.push(*byte),
        }
    }
    Some(euc)
}

/// Every other byte of Western text in UTF-16 is zero, and text in any other encoding has none at all.
fn utf16_without_mark(bytes: &[u8]) -> Option<&'static Encoding> {
    let head = &bytes[..bytes.len().min(4096) & !1];
    let zeros = |odd: usize| head.iter().skip(odd).step_by(2).filter(|b| **b == 0).count();
    let (even, odd, pairs) = (zeros(0), zeros(1), head.len() / 2);
    if pairs < 2 {
        None
    } else if odd * 10 > pairs * 4 && even * 20 < pairs {
        Some(UTF_16LE)
    } else if even * 10 > pairs * 4 && odd * 20 < pairs {
        Some(UTF_16BE)
    } else {
        None
    }
}

/// A file in UTF-8 with a few broken places stays UTF-8: guessing would spoil every other character beyond ASCII.
/// Legacy text hardly ever holds even two sequences that are valid UTF-8.
fn mostly_utf8(bytes: &[u8]) -> bool {
    let (mut valid, mut broken) = (0usize, 0usize);
    for chunk in bytes.utf8_chunks() {
        valid += chunk.valid().chars().filter(|c| !c.is_ascii()).count();
        broken += usize::from(!chunk.invalid().is_empty());
    }
    valid >= 2 && valid >= broken * 4
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], text: &str, warnings: usize) {
        let decoded = decode(bytes);
        assert_eq!(decoded.text, text);
        assert_eq!(decoded.warnings.len(), warnings, "{:?}", decoded.warnings);
    }

    #[test]
    fn marks_are_obeyed_and_are_not_text() {
        check(b"\xEF\xBB\xBFM\xC3\xBCller", "Müller", 0);
        check(b"\xFF\xFEM\0\xFC\0", "Mü", 0);
        check(b"\xFE\xFF\0M\0\xFC", "Mü", 0);
        check(b"\xFF\xFE\0\0M\0\0\0\xFC\0\0\0", "Mü", 0);
        check(b"\xEF\xBB\xBF", "", 0);
        check(b"\xFF\xFE\x00\xD8", "\u{FFFD}", 1); // a lone surrogate
    }

    #[test]
    fn legacy_text_is_guessed_and_the_guess_is_said() {
        let (bytes, _, _) = encoding_rs::WINDOWS_1252.encode("Die Bürgermeisterin hört zu. Größe über alles, schön!");
        check(&bytes, "Die Bürgermeisterin hört zu. Größe über alles, schön!", 1);
        let (bytes, _, _) = encoding_rs::SHIFT_JIS.encode("会議は三時に始まります。資料を持ってきてください。");
        check(&bytes, "会議は三時に始まります。資料を持ってきてください。", 1);
        let (bytes, _, _) = encoding_rs::ISO_2022_JP.encode("会議は三時");
        check(&bytes, "会議は三時", 1);
    }

    #[test]
    fn a_broken_place_does_not_spoil_the_rest_and_is_counted() {
        let decoded = decode(b"gr\xC3\xBC\xC3\x9Fe \xFF und sch\xC3\xB6nes Wetter \xC3\xA4 \xC3\xBC \xC3\xB6 \xC3\x9F");
        assert!(decoded.text.starts_with("grüße \u{FFFD} und schönes"));
        assert!(decoded.warnings[0].contains("1 place"), "{:?}", decoded.warnings);
    }

    #[test]
    fn rare_encodings_of_mail_and_of_old_programs_are_read() {
        check(b"\x1B$)Cab \x0EGQ1[\x0F!", "ab 한글!", 1);
        let wide: Vec<u8> = "Größe 会".chars().flat_map(|c| u32::from(c).to_be_bytes()).collect();
        check(&wide, "Größe 会", 1);
        let wide: Vec<u8> = "Größe".chars().flat_map(|c| u32::from(c).to_le_bytes()).collect();
        check(&wide, "Größe", 1);
    }

    #[test]
    fn johab_and_ebcdic_are_read_and_said() {
        let korean = decode(b"\xd2A\xb7\x81\x93e \xadA \xaf\xa1\xb5A \xaf\xa1\xb8b\xd0s\x93\xa1\x94a.");
        assert!(korean.warnings[0].contains("Johab"), "{:?} {:?}", korean.text, korean.warnings);
        let words: &[u8] =
            b"\xe3\x88\x85@\x83\x96\x95\xa3\x99\x81\x83\xa3@\x85\x95\x84\xa2@\x96\x95@\xd4\x81\xa8@\xf1K";
        let decoded = decode(words);
        assert_eq!(decoded.text, "The contract ends on May 1.");
        assert!(decoded.warnings[0].contains("EBCDIC"), "{:?}", decoded.warnings);
    }

    #[test]
    fn utf16_without_a_mark_is_seen() {
        let bytes: Vec<u8> = "Anna: hello there".encode_utf16().flat_map(u16::to_le_bytes).collect();
        check(&bytes, "Anna: hello there", 1);
    }
}
