//! Where sentences end: the one set of rules, for chunks and for what steps hold against the text.
//! Knows by name the common abbreviations of the model's languages that write them with a period.

use std::ops::Range;

/// Abbreviations that end in a period without ending a sentence.
#[rustfmt::skip]
const ABBREVIATIONS: &[&str] = &[
    // English, German, Dutch
    "mr", "mrs", "ms", "dr", "prof", "st", "vs", "etc", "e.g", "i.e", "approx", "no", "fig", "dept", "inc", "ltd",
    "co", "z.b", "d.h", "bzw", "ca", "nr", "str", "usw", "u.a", "evtl", "ggf", "inkl", "hr", "fr", "sog",
    "dhr", "mevr", "mw", "drs", "bijv", "d.w.z", "o.a", "blz", "i.p.v", "m.b.t", "t.a.v", "incl",
    // French, Italian, Spanish, Portuguese
    "mm", "p.ex", "c.-à-d", "env", "art", "cf", "éd", "sig", "sig.ra", "sigg", "dott", "dott.ssa", "avv", "ing", "pag",
    "es", "sr", "sra", "srta", "dra", "ud", "uds", "pág", "págs", "núm", "aprox", "ee.uu", "p.ej", "av", "profa",
    "exmo", "exma", "ltda",
    // Czech
    "např", "tj", "tzn", "tzv", "č", "mgr", "bc", "mudr", "judr", "phdr", "rndr", "doc", "sv", "ul", "nám", "resp", "popř",
];

/// Marks that end a sentence where white space, or nothing, follows.
const ENDS_BEFORE_SPACE: &[char] = &['.', '!', '?', '…', '؟', '۔', '।'];
/// Marks that end a sentence whatever follows: the scripts that write them put no spaces.
const ENDS: &[char] = &['。', '！', '？', '｡'];
/// Marks that belong to the sentence before them.
const CLOSERS: &[char] = &['"', '\'', '”', '’', '»', ')', '」', '』', '）'];

/// Returns the ranges of the sentences of a text, in order, trimmed, without empty ones. A line break ends a
/// sentence only where an empty line or a list mark follows.
pub fn sentences(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut start = 0;
    for (at, c) in text.char_indices() {
        let mut behind = text[at + c.len_utf8()..].chars();
        let ends = if c == '\n' {
            behind.next().is_none_or(|c| c == '\n' || c == '-' || c == '*' || c.is_ascii_digit())
        } else if ENDS_BEFORE_SPACE.contains(&c) {
            let after = behind.find(|c| !CLOSERS.contains(c));
            after.is_none_or(char::is_whitespace) && (c != '.' || !is_abbreviation(&text[start..at]))
        } else {
            ENDS.contains(&c)
        };
        if ends && at >= start {
            let mut end = at + c.len_utf8();
            while text[end..].starts_with(CLOSERS) {
                end += text[end..].chars().next().map_or(0, char::len_utf8);
            }
            push_trimmed(text, start..end, &mut found);
            start = end;
        }
    }
    push_trimmed(text, start..text.len(), &mut found);
    found
}

/// Returns whether a text ends as a sentence does.
pub fn is_finished(sentence: &str) -> bool {
    sentence.trim_end_matches(CLOSERS).ends_with(|c| ENDS.contains(&c) || matches!(c, '.' | '!' | '?' | '…' | '؟'))
}

fn push_trimmed(text: &str, range: Range<usize>, found: &mut Vec<Range<usize>>) {
    let part = &text[range.clone()];
    let start = range.start + part.len() - part.trim_start().len();
    let end = start + part.trim().len();
    if end > start {
        found.push(start..end);
    }
}

/// Whether the period after `before` belongs to its last word: "Dr", an initial, or a short number ("13. April").
fn is_abbreviation(before: &str) -> bool {
    let last = before.rsplit(char::is_whitespace).next().unwrap_or_default().trim_start_matches(['(', '"', '“', '„']);
    let one_letter = last.chars().count() == 1 && last.chars().all(char::is_alphabetic) && last != "I";
    let number = !last.is_empty() && last.len() <= 2 && last.chars().all(|c| c.is_ascii_digit());
    one_letter || number || ABBREVIATIONS.contains(&last.to_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[&str]) {
        let found: Vec<&str> = sentences(text).into_iter().map(|r| &text[r]).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn sentences_end_where_a_reader_would_end_them() {
        check("One. Two! \"Three?\" Four", &["One.", "Two!", "\"Three?\"", "Four"]);
        check("Mr. Fairlie paid 4.50 on e.g. Monday. Good.", &["Mr. Fairlie paid 4.50 on e.g. Monday.", "Good."]);
        check("Wir gehen am 13. April live. Gut.", &["Wir gehen am 13. April live.", "Gut."]);
        check("- a\n- b", &["- a", "- b"]);
        check("El Sr. Ruiz llegó. ¿Y la Sra. Díaz? No.", &["El Sr. Ruiz llegó.", "¿Y la Sra. Díaz?", "No."]);
        check("Il sig. Rossi paga. Bene.", &["Il sig. Rossi paga.", "Bene."]);
        check("Veuillez cf. le plan. Merci.", &["Veuillez cf. le plan.", "Merci."]);
        check("A Dra. Lima falou (pág. 3). Fim.", &["A Dra. Lima falou (pág. 3).", "Fim."]);
        check("De dhr. Smit komt, bijv. morgen. Ja.", &["De dhr. Smit komt, bijv. morgen.", "Ja."]);
        check("Přijde Mgr. Novák, tj. zítra 13. dubna. Dobře.", &["Přijde Mgr. Novák, tj. zítra 13. dubna.", "Dobře."]);
        check("회의는 세 시입니다. 자료가 있나요? 네.", &["회의는 세 시입니다.", "자료가 있나요?", "네."]);
        check("الاجتماع غدا. هل حضرت؟ نعم.", &["الاجتماع غدا.", "هل حضرت؟", "نعم."]);
        check("会议在三点。你来吗？好！", &["会议在三点。", "你来吗？", "好！"]);
        check("会議は三時です。「資料を見ます。」はい", &["会議は三時です。", "「資料を見ます。」", "はい"]);
        check("a line\nthat goes on.\nNew", &["a line\nthat goes on.", "New"]);
        check(" \n ", &[]);
    }

    #[test]
    fn every_range_of_odd_text_is_valid() {
        for text in ["…\"”’é.", "a.\u{301}b.\n\n.", "。你好。", "\n1", ".)))", "？」！」"] {
            for range in sentences(text) {
                assert!(!text[range].trim().is_empty(), "{text}");
            }
        }
    }
}
