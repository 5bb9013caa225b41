//! Which of the encodings of Latin letters a text is in. The detector in use knows those of the web only; files of DOS
//! and of old Macs, and the letters that ISO 8859-15 changed, are told here, by what letters stand between letters.

use encoding_rs::Encoding;

use super::code_pages::{CP850, CP852, CodePage};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guess {
    Encoding(&'static Encoding),
    CodePage(&'static CodePage),
}

/// Enough for a sure answer.
const SAMPLE_BYTES: usize = 64 << 10;

/// Returns the detector's guess, or a better one where the text is Latin and reads better otherwise.
pub fn guess(bytes: &[u8], detected: &'static Encoding) -> Guess {
    let sample = &bytes[..bytes.len().min(SAMPLE_BYTES)];
    if !detected.is_single_byte() || !is_latin(sample) {
        return Guess::Encoding(detected);
    }
    let others = [
        Guess::Encoding(encoding_rs::WINDOWS_1252),
        Guess::Encoding(encoding_rs::ISO_8859_15),
        Guess::Encoding(encoding_rs::WINDOWS_1250),
        Guess::Encoding(encoding_rs::ISO_8859_2),
        Guess::CodePage(&CP850),
        Guess::CodePage(&CP852),
        Guess::Encoding(encoding_rs::MACINTOSH),
    ];
    let mut best = (score(&Guess::Encoding(detected).decode(sample)), Guess::Encoding(detected));
    for other in others {
        // Only a reading that is better by far: a point for each fifty characters may be chance.
        let points = score(&other.decode(sample));
        if points > best.0 + (num_upper(sample) / 50) as i64 {
            best = (points, other);
        }
    }
    best.1
}

impl Guess {
    fn decode(self, bytes: &[u8]) -> String {
        match self {
            Self::Encoding(encoding) => encoding.decode_without_bom_handling(bytes).0.into_owned(),
            Self::CodePage(page) => page.decode(bytes),
        }
    }
}

fn num_upper(bytes: &[u8]) -> usize {
    bytes.iter().filter(|b| !b.is_ascii()).count()
}

/// In Latin text, what is not ASCII mostly stands beside ASCII letters; in other scripts, beside more of its kind.
fn is_latin(bytes: &[u8]) -> bool {
    let letter = |at: Option<&u8>| at.is_some_and(u8::is_ascii_alphabetic);
    let beside = |(at, _): &(usize, &u8)| {
        letter(at.checked_sub(1).and_then(|before| bytes.get(before))) || letter(bytes.get(at + 1))
    };
    let upper: Vec<(usize, &u8)> = bytes.iter().enumerate().filter(|(_, b)| !b.is_ascii()).collect();
    upper.iter().filter(|u| beside(u)).count() * 2 > upper.len()
}

/// Letters of the languages of Western and Central Europe that are not ASCII.
const LETTERS: &str = "äöüßéèêëàâçîïôûùœæáíóúñãõìòåøčďěňřšťůýžąćęłńśźżőű";

/// Returns how well a decoded text reads.
fn score(text: &str) -> i64 {
    let mut points = 0;
    let (mut before, mut chars) = (' ', text.chars().peekable());
    while let Some(c) = chars.next() {
        if !c.is_ascii() {
            let after = chars.peek().copied().unwrap_or(' ');
            points += points_of(before, c, after);
        }
        before = c;
    }
    points
}

fn points_of(before: char, c: char, after: char) -> i64 {
    let in_word = before.is_alphabetic() || after.is_alphabetic();
    match c {
        _ if LETTERS.contains(c) => 2,
        _ if c.is_uppercase() && c.to_lowercase().all(|lower| LETTERS.contains(lower)) => {
            // Inside a word in small letters, a capital is no letter of that word.
            if before.is_lowercase() { -3 } else { 1 }
        }
        '«' | '»' | '¿' | '¡' | '’' | '‘' | '“' | '”' | '„' | '–' | '—' | '…' | '\u{a0}' => 1,
        '€' | '£' | '§' | '°' | '·' | '•' => i64::from(!in_word),
        '\u{80}'..='\u{9f}' | '\u{FFFD}' => -6,
        '\u{2500}'..='\u{25ff}' => -4,
        _ if c.is_alphabetic() => -1,
        _ if in_word => -3,
        _ => -1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GERMAN: &str =
        "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Größe für später, Öl über Fuß";
    const CZECH: &str = "Všichni lidé se rodí svobodní a sobě rovní co do důstojnosti a práv. Příliš žluťoučký kůň";

    fn check(bytes: &[u8], text: &str) {
        assert_eq!(super::super::decode(bytes).text, text);
    }

    fn in_page(text: &str, page: &CodePage) -> Vec<u8> {
        let upper: Vec<char> = page.decode(&(128..=255).collect::<Vec<u8>>()).chars().collect();
        let byte = |c: char| upper.iter().position(|u| *u == c).map(|i| i as u8 + 128);
        text.chars().map(|c| if c.is_ascii() { c as u8 } else { byte(c).unwrap() }).collect()
    }

    #[test]
    fn dos_and_mac_texts_are_told_from_those_of_windows() {
        check(&in_page(GERMAN, &CP850), GERMAN);
        check(&in_page(CZECH, &CP852), CZECH);
        for (text, encoding) in [
            (GERMAN, encoding_rs::MACINTOSH),
            (GERMAN, encoding_rs::WINDOWS_1252),
            (CZECH, encoding_rs::WINDOWS_1250),
            (CZECH, encoding_rs::ISO_8859_2),
            ("Le cœur de la sœur bat : l’œuvre est à vendre 5 €", encoding_rs::WINDOWS_1252),
            ("Le coeur et l'œuf de la sœur, une œuvre d'été à l'hôtel", encoding_rs::ISO_8859_15),
        ] {
            let (bytes, _, lossy) = encoding.encode(text);
            assert!(!lossy);
            check(&bytes, text);
        }
    }

    #[test]
    fn other_scripts_are_left_to_the_detector() {
        let text = "Все люди рождаются свободными и равными в своем достоинстве и правах.";
        let (bytes, _, _) = encoding_rs::WINDOWS_1251.encode(text);
        check(&bytes, text);
    }
}
