//! What typesetting and fonts did to the words of a page, undone: divided words, joined letters, letters of the wrong
//! alphabet. Knows text; no PDF.

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use unicode_normalization::UnicodeNormalization as _;

use super::super::turns::squeeze;

const HYPHENS: &[char] = &['-', '\u{AD}', '\u{2010}'];

/// Puts a word together that is divided at the end of a line, in the line where it begins. Where the page writes it with
/// its hyphen inside a line too, the hyphen stays.
pub(super) fn undivided(text: &str) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    let mut whole = String::with_capacity(text.len());
    for index in 0..lines.len() {
        let line = lines[index];
        let next = lines.get(index + 1).copied().unwrap_or_default();
        match divided(line, next) {
            Some((head, tail)) => {
                let end = next.find(char::is_whitespace).unwrap_or(next.len());
                let is_compound = is_written(text, &format!("{head}-{tail}"));
                whole.push_str(line.trim_end_matches(HYPHENS));
                whole.push_str(if is_compound { "-" } else { "" });
                whole.push_str(&next[..end]);
                lines[index + 1] = next[end..].trim_start();
                // A line that was no more than the rest of a word is gone.
                if !lines[index + 1].is_empty() {
                    whole.push('\n');
                }
            }
            None => {
                whole.push_str(line);
                if index + 1 < lines.len() {
                    whole.push('\n');
                }
            }
        }
    }
    whole
}

/// Returns the two parts of a word that is divided between two lines.
fn divided<'a>(line: &'a str, next: &'a str) -> Option<(&'a str, &'a str)> {
    let whole = line.strip_suffix(HYPHENS)?;
    let head = whole.rsplit(|c: char| !c.is_alphanumeric()).next()?;
    let tail = next.split(|c: char| !c.is_alphanumeric()).next()?;
    let is_word = |part: &str| part.chars().count() >= 2 && part.chars().all(char::is_alphabetic);
    let goes_on = head.ends_with(char::is_lowercase) && tail.starts_with(char::is_lowercase);
    // A third part, and an address: their hyphens are their own.
    let is_longer = whole.strip_suffix(head)?.ends_with(['-', '/', '@', '.', '_'])
        || next[tail.len()..].starts_with(['-', '/', '@', '_']);
    (is_word(head) && is_word(tail) && goes_on && !is_longer).then_some((head, tail))
}

fn is_written(text: &str, word: &str) -> bool {
    let is_letter = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let mut places = text.match_indices(word);
    places
        .any(|(at, _)| !is_letter(text[..at].chars().next_back()) && !is_letter(text[at + word.len()..].chars().next()))
}

/// Writes letters out that a font joins into one shape: Latin ligatures, and the shapes of Arabic letters.
pub(super) fn spelled_out(text: &str) -> String {
    let is_shape = |c: char| matches!(c, '\u{FB00}'..='\u{FB06}' | '\u{FB50}'..='\u{FDFF}' | '\u{FE70}'..='\u{FEFC}');
    if !text.contains(is_shape) {
        return text.to_owned();
    }
    let mut whole = String::with_capacity(text.len());
    for c in text.chars() {
        if is_shape(c) {
            whole.extend(std::iter::once(c).nfkc());
        } else {
            whole.push(c);
        }
    }
    whole
}

/// Whether many words are made of letters that no language writes together: the font's table of letters is wrong.
pub(super) fn mixes_scripts(text: &str) -> bool {
    let (mut mixed, mut all) = (0usize, 0usize);
    for word in text.split_whitespace() {
        let mut scripts: Vec<u32> = word.chars().filter(|c| c.is_alphabetic()).filter_map(script).collect();
        if scripts.len() < 3 {
            continue;
        }
        all += 1;
        scripts.sort_unstable();
        scripts.dedup();
        mixed += usize::from(scripts.len() > 1);
    }
    all >= 5 && mixed * 3 > all
}

/// Blocks of letters, about one for each script; `None` for Latin and Greek letters, which stand beside any other, and
/// for East Asian ones, which are written together.
fn script(c: char) -> Option<u32> {
    match c {
        '\0'..='\u{3FF}' | '\u{1100}'..='\u{11FF}' | '\u{1D00}'..='\u{2BFF}' | '\u{2E80}'.. => None,
        '\u{400}'..='\u{52F}' => Some(0x400),
        '\u{590}'..='\u{5FF}' => Some(0x590),
        '\u{600}'..='\u{8FF}' => Some(0x600),
        '\u{F00}'..='\u{FFF}' => Some(0xF00),
        '\u{1200}'..='\u{139F}' => Some(0x1200),
        c => Some(u32::from(c) / 0x80),
    }
}

/// Reads East Asian text that a font calls Latin: the bytes of each character stand as two accented letters. Returns the
/// text and the name of its encoding; `None` where it is anything else.
pub(super) fn east_asian(words: &str) -> Option<(String, &'static str)> {
    let mut bytes = Vec::with_capacity(words.len());
    let mut is_open = false; // a first byte waits for its second
    for c in words.chars() {
        let byte = match (c, u8::try_from(u32::from(c))) {
            // What extractors make of a soft hyphen, which is a second byte like others.
            ('-', _) if is_open => 0xAD,
            (_, Ok(byte)) => byte,
            (c, Err(_)) => {
                *encoding_rs::WINDOWS_1252.encode(c.encode_utf8(&mut [0; 4])).0.first().filter(|b| **b > 0x7F)?
            }
        };
        is_open = byte > 0x7F && !is_open;
        bytes.push(byte);
    }
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Deny);
    detector.feed(&bytes, true);
    let encoding = detector.guess(None, Utf8Detection::Deny);
    let (text, is_broken) = encoding.decode_without_bom_handling(&bytes);
    let wide = text.chars().filter(|c| is_wide(*c)).count();
    // Signs such as dashes and dots are at home everywhere.
    let other = text.chars().filter(|c| matches!(c, '\u{80}'..='\u{1FFF}')).count();
    if encoding.is_single_byte() || is_broken || wide < 4 || other * 2 > wide {
        return None;
    }
    let lines: Vec<String> = text.lines().map(close_up).collect();
    Some((lines.join("\n"), encoding.name()))
}

fn is_wide(c: char) -> bool {
    c >= '\u{2E80}'
}

/// Takes out the spaces between East Asian characters, which are written without.
fn close_up(line: &str) -> String {
    let chars: Vec<char> = squeeze(line).chars().collect();
    let beside = |at: usize| at > 0 && at + 1 < chars.len() && !chars[at - 1].is_ascii() && !chars[at + 1].is_ascii();
    chars.iter().enumerate().filter(|(at, c)| **c != ' ' || !beside(*at)).map(|(_, c)| *c).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_is_divided_is_put_together_where_it_begins() {
        let check = |text: &str, whole: &str| assert_eq!(undivided(text), whole);
        check("a founda-\ntional, new\nword", "a foundational,\nnew\nword");
        check("a founda\u{AD}\ntional", "a foundational");
        check("well-known, and well-\nknown again", "well-known, and well-known\nagain");
        check("Anna-\nMaria, 2019-\n2020, x-\nray, the -\nend", "Anna-\nMaria, 2019-\n2020, x-\nray, the -\nend");
        check("see www.a-long-\nname.org", "see www.a-long-\nname.org");
        check("one-\n\nnew", "one-\n\nnew");
        check("pre-\nfix", "prefix");
    }

    #[test]
    fn joined_letters_are_written_out() {
        assert_eq!(spelled_out("di\u{FB00}erent \u{FB02}avor \u{FEB3}\u{FEFC}\u{FEE1} x²"), "different flavor سلام x²");
    }

    #[test]
    fn letters_that_no_language_writes_together_are_seen() {
        assert!(mixes_scripts("̽ଋҨǥƹ̽ୡȥ ဎഁୡ͢¢ʸͱ ဌҨࣧฏʤҨ ဏഝ୳ဎ ".repeat(2).as_str()));
        for text in [
            "The length λ of Größe is 5 µm, and so on and on it goes.",
            "会議は三時です。資料を見ます。 はい そうです ええ",
            "القطر المصري يكون الزاوية الشمالية من أفريقية",
            "Договор между сторонами вступает в силу",
        ] {
            assert!(!mixes_scripts(text), "{text}");
        }
    }

    #[test]
    fn east_asian_bytes_that_a_font_calls_latin_are_read() {
        let (bytes, _, _) = encoding_rs::GBK.encode("关于红军作战的原则：一九三七年八月一日");
        let latin: String = bytes.iter().map(|b| if *b == 0xAD { '-' } else { char::from(*b) }).collect();
        let (text, name) = east_asian(&latin).expect("Chinese");
        assert_eq!((text.as_str(), name), ("关于红军作战的原则：一九三七年八月一日", "GBK"));
        assert_eq!(east_asian("Größe für später, œuvre d'été à l'hôtel"), None);
        assert_eq!(east_asian("plain"), None);
        assert_eq!(east_asian("会議"), None);
    }
}
