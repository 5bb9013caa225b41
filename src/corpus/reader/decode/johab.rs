//! Johab (KS X 1001, annex 3), the Korean encoding of old word processors: a Hangul syllable is put together of its
//! three letters, five bits each; signs and Chinese characters are those of EUC-KR in other places.

/// By five bits: the index of a syllable's first letter.
#[rustfmt::skip]
const INITIAL: [Option<u32>; 32] = [
    None, None, Some(0), Some(1), Some(2), Some(3), Some(4), Some(5), Some(6), Some(7), Some(8), Some(9), Some(10),
    Some(11), Some(12), Some(13), Some(14), Some(15), Some(16), Some(17), Some(18), None, None, None, None, None, None,
    None, None, None, None, None,
];

#[rustfmt::skip]
const MEDIAL: [Option<u32>; 32] = [
    None, None, None, Some(0), Some(1), Some(2), Some(3), Some(4), None, None, Some(5), Some(6), Some(7), Some(8), Some(9),
    Some(10), None, None, Some(11), Some(12), Some(13), Some(14), Some(15), Some(16), None, None, Some(17), Some(18),
    Some(19), Some(20), None, None,
];

/// The first is that of a syllable without a last letter.
#[rustfmt::skip]
const FINAL: [Option<u32>; 32] = [
    None, Some(0), Some(1), Some(2), Some(3), Some(4), Some(5), Some(6), Some(7), Some(8), Some(9), Some(10), Some(11),
    Some(12), Some(13), Some(14), Some(15), Some(16), None, Some(17), Some(18), Some(19), Some(20), Some(21), Some(22),
    Some(23), Some(24), Some(25), Some(26), Some(27), None, None,
];

/// Decodes bytes; what is no character becomes U+FFFD.
pub fn decode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [first, tail @ ..] = rest {
        if first.is_ascii() {
            text.push(char::from(*first));
            rest = tail;
            continue;
        }
        let character = tail.first().and_then(|second| pair(*first, *second));
        text.push(character.unwrap_or('\u{FFFD}'));
        // A byte that is no second one stands for itself.
        let is_pair = character.is_some() || tail.first().is_some_and(|b| !b.is_ascii());
        rest = if is_pair { tail.get(1..).unwrap_or_default() } else { tail };
    }
    text
}

fn pair(first: u8, second: u8) -> Option<char> {
    if first < 0xD8 { syllable(first, second) } else { of_euc_kr(first, second) }
}

fn syllable(first: u8, second: u8) -> Option<char> {
    const HANGUL: u32 = 0xAC00;
    let bits = u16::from(first) << 8 | u16::from(second);
    let letter = |table: &[Option<u32>; 32], shift: u16| table[usize::from(bits >> shift & 31)];
    let (initial, medial, last) = (letter(&INITIAL, 10)?, letter(&MEDIAL, 5)?, letter(&FINAL, 0)?);
    char::from_u32(HANGUL + (initial * 21 + medial) * 28 + last)
}

/// Two rows of EUC-KR stand in one of Johab.
fn of_euc_kr(first: u8, second: u8) -> Option<char> {
    let row = match first {
        0xD9..=0xDE => u16::from(first - 0xD9) * 2,
        0xE0..=0xF9 => u16::from(first) * 2 - 0x197,
        _ => return None,
    };
    let place = match second {
        0x31..=0x7E => u16::from(second - 0x31),
        0x91..=0xFE => u16::from(second - 0x43),
        _ => return None,
    };
    let (row, place) = if place < 0x5E { (row, place) } else { (row + 1, place - 0x5E) };
    let euc = [u8::try_from(row + 0xA1).ok()?, u8::try_from(place + 0xA1).ok()?];
    let (text, is_broken) = encoding_rs::EUC_KR.decode_without_bom_handling(&euc);
    text.chars().next().filter(|_| !is_broken)
}

/// Returns the text where the bytes read as Korean in Johab and not in the encodings that are in use: nearly all of what
/// is not ASCII is syllables that Korean is written with, and none of it is no character.
pub fn guess(bytes: &[u8]) -> Option<String> {
    const MIN_SYLLABLES: usize = 8;
    const SAMPLE_BYTES: usize = 64 << 10;
    let sample = &bytes[..bytes.len().min(SAMPLE_BYTES)];
    let in_use = |text: &str| {
        let num = |is: fn(char) -> bool| text.chars().filter(|c| is(*c)).count();
        let (all, good, bad) = (num(|c| !c.is_ascii()), num(is_in_use), num(|c| c == '\u{FFFD}'));
        // The sample may end inside a character.
        good >= MIN_SYLLABLES && good * 100 >= all * 70 && bad <= 1
    };
    let euc = encoding_rs::EUC_KR.decode_without_bom_handling(sample).0;
    (in_use(&decode(sample)) && !in_use(&euc)).then(|| decode(bytes))
}

/// Whether a character is one of the 2,350 syllables of KS X 1001: those that are no longer used need the longer form.
fn is_in_use(c: char) -> bool {
    let mut utf8 = [0; 4];
    matches!(c, '가'..='힣')
        && matches!(*encoding_rs::EUC_KR.encode(c.encode_utf8(&mut utf8)).0, [0xB0..=0xC8, 0xA1..=0xFE])
}

#[cfg(test)]
mod tests {
    use super::*;

    // Made by another program.
    const JOHAB: &[u8] = b"\xd2A\xb7\x81\x93e \xadA \xaf\xa1\xb5A \xaf\xa1\xb8b\xd0s\x93\xa1\x94a. \xb8a\x9ea\x9fi \x88a\xb9a\xb5\xa1\xadA\xb6a. \xd9D\xb5\x81\xace\xd9E \xe4\xde\xf7\xdb\xe8U\xe2\xd0 100\xb6\xa5";
    const TEXT: &str = "회의는 세 시에 시작합니다. 자료를 가져오세요. 〈예산〉 大韓民國 100원";

    #[test]
    fn syllables_signs_and_chinese_characters_are_read() {
        assert_eq!(decode(JOHAB), TEXT);
        assert_eq!(decode(b"a\x88"), "a\u{FFFD}");
        assert_eq!(decode(b"\xff\xffb"), "\u{FFFD}b");
    }

    #[test]
    fn johab_is_told_from_the_korean_that_is_in_use() {
        assert_eq!(guess(JOHAB).as_deref(), Some(TEXT));
        assert_eq!(guess(&encoding_rs::EUC_KR.encode(TEXT).0), None);
        assert_eq!(guess(&encoding_rs::GBK.encode("会议在三点钟开始，请带上您的资料。我们将讨论预算。").0), None);
        assert_eq!(guess("Größe".as_bytes()), None);
    }
}
