//! Sentences, words and how alike two texts are: what steps need to check a model's words against what was said.
//! Knows English and German by name; other languages get the rules that hold everywhere.

use std::collections::BTreeSet;
use std::ops::Range;

/// Words that carry no content of their own, English and German.
static STOPWORDS: &str = include_str!("../../templates/words/stopwords.txt");

/// Abbreviations that end in a period without ending a sentence.
const ABBREVIATIONS: &[&str] = &[
    "mr", "mrs", "ms", "dr", "prof", "st", "vs", "etc", "e.g", "i.e", "approx", "no", "fig", "dept", "inc", "ltd",
    "co", "z.b", "d.h", "bzw", "ca", "nr", "str", "usw", "u.a", "evtl", "ggf", "inkl", "hr", "fr", "sog",
];

/// Returns the ranges of the sentences of a text, in order, trimmed, without empty ones. A line break ends a
/// sentence only where an empty line or a list mark follows.
pub fn sentences(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut start = 0;
    let chars: Vec<(usize, char)> = text.char_indices().collect();
    for (i, &(at, c)) in chars.iter().enumerate() {
        let next = |n: usize| chars.get(i + n).map(|&(_, c)| c);
        let ends = match c {
            '\n' => next(1).is_none_or(|c| c == '\n' || c == '-' || c == '*' || c.is_ascii_digit()),
            '.' | '!' | '?' | '…' => {
                let closes = |c: char| matches!(c, '"' | '\'' | '”' | '’' | '»' | ')');
                let after = (1..).map(next).find(|c| !c.is_some_and(closes)).flatten();
                after.is_none_or(char::is_whitespace) && (c != '.' || !is_abbreviation(&text[start..at]))
            }
            _ => false,
        };
        if ends {
            let mut end = at + c.len_utf8();
            while text[end..].starts_with(['"', '\'', '”', '’', '»', ')']) {
                end += text[end..].chars().next().map_or(0, char::len_utf8);
            }
            push_trimmed(text, start..end.max(start), &mut found);
            start = end.max(start);
        }
    }
    push_trimmed(text, start..text.len(), &mut found);
    found
}

/// Returns whether a text ends as a sentence does.
pub fn is_finished(sentence: &str) -> bool {
    sentence.trim_end_matches(['"', '\'', '”', '’', '»', ')']).ends_with(['.', '!', '?', '…'])
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

/// Returns the words of a text in lower case: letters, digits and the apostrophes inside them.
pub fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !(c.is_alphanumeric() || matches!(c, '\'' | '’')))
        .map(|w| w.trim_matches(['\'', '’']).replace('’', "'").to_lowercase())
        .filter(|w| !w.is_empty())
        .collect()
}

/// Returns the stems of the words that carry content.
pub fn content(text: &str) -> BTreeSet<String> {
    words(text).iter().filter(|w| !is_stopword(w)).map(|w| stem(w)).collect()
}

pub fn is_stopword(word: &str) -> bool {
    use std::collections::HashSet;
    use std::sync::LazyLock;
    static SET: LazyLock<HashSet<&str>> =
        LazyLock::new(|| STOPWORDS.lines().filter(|l| !l.starts_with('#')).flat_map(str::split_whitespace).collect());
    let one_letter = || word.chars().count() == 1 && word.chars().all(char::is_alphabetic);
    SET.contains(word) || one_letter()
}

/// A crude stem: endings off, then the first seven letters. It joins "decided" with "decides" and "reports" with
/// "reporting"; what it joins too much only makes a check more lenient.
fn stem(word: &str) -> String {
    const ENDINGS: &[&str] = &["'s", "ings", "ing", "edly", "ed", "ern", "en", "em", "er", "es", "e", "s", "n", "t"];
    let long_enough = |w: &str, ending: &str| w.chars().count() >= ending.chars().count() + 4;
    let base = ENDINGS.iter().find_map(|e| word.strip_suffix(e).filter(|_| long_enough(word, e))).unwrap_or(word);
    base.trim_end_matches("'s").chars().take(7).collect()
}

/// Returns how alike two texts are: the share of their content words that both have, 0 to 1.
pub fn similarity(a: &str, b: &str) -> f64 {
    let (a, b) = (content(a), content(b));
    let both = a.intersection(&b).count();
    let all = a.union(&b).count();
    if all == 0 { 1.0 } else { both as f64 / all as f64 }
}

/// Returns the share of a text's content words that `source` holds, 1 where it has none.
pub fn carried_by(text: &str, source: &BTreeSet<String>) -> f64 {
    let content = content(text);
    if content.is_empty() {
        return 1.0;
    }
    content.iter().filter(|w| source.contains(*w)).count() as f64 / content.len() as f64
}

/// Returns a text with its white space made single spaces.
pub fn squeeze(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Returns at most `max` characters of a text, cut between words and marked with an ellipsis where it was cut.
pub fn clip(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    let cut: String = text.chars().take(max.saturating_sub(1)).collect();
    let at = cut.rfind(char::is_whitespace).filter(|at| *at > cut.len() / 2).unwrap_or(cut.len());
    format!("{}…", cut[..at].trim_end_matches([',', ';', ':', ' ']))
}

/// Takes "So," and "And then" off the beginning, and gives it a capital letter.
pub fn without_fillers(said: &str) -> String {
    const FILLERS: &[&str] = &[
        "so", "and", "but", "then", "well", "okay", "ok", "right", "yes", "yeah", "now", "good", "decided", "agreed",
        "also", "und", "aber", "gut", "ja", "okay", "alles", "klar",
    ];
    let mut rest = said.trim();
    while let Some(first) = rest.split_whitespace().next() {
        let bare = first.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
        let left = rest[first.len()..].trim_start();
        if !FILLERS.contains(&bare.as_str()) || left.split_whitespace().count() < 3 {
            break;
        }
        rest = left;
    }
    let mut letters = rest.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_sentences(text: &str, expected: &[&str]) {
        let found: Vec<&str> = sentences(text).into_iter().map(|r| &text[r]).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn sentences_end_where_a_reader_would_end_them() {
        check_sentences("One. Two! \"Three?\" Four", &["One.", "Two!", "\"Three?\"", "Four"]);
        check_sentences(
            "Mr. Fairlie paid 4.50 on e.g. Monday. Good.",
            &["Mr. Fairlie paid 4.50 on e.g. Monday.", "Good."],
        );
        check_sentences("Wir gehen am 13. April live. Gut.", &["Wir gehen am 13. April live.", "Gut."]);
        check_sentences("- a\n- b", &["- a", "- b"]);
        check_sentences(" \n ", &[]);
    }

    #[test]
    fn every_range_of_odd_text_is_valid() {
        for text in ["…\"”’é.", "a.\u{301}b.\n\n.", "。你好。", "\n1", ".)))"] {
            for range in sentences(text) {
                assert!(!text[range].trim().is_empty(), "{text}");
            }
        }
    }

    #[test]
    fn likeness_ignores_small_words_and_endings() {
        assert!(similarity("They decided on the new ticket system", "A ticket system was decided") > 0.7);
        assert!(similarity("Beth reports the load test", "Nadia calls the pharmacy") < 0.1);
        let source = content("Wei-Ling Tan takes the hotfix and has it out before four.");
        assert!(carried_by("Wei-Ling takes the hotfix.", &source) > 0.9);
        assert!(carried_by("A freelance writer from Kenya takes out a loan.", &source) < 0.4);
    }

    #[test]
    fn a_clipped_text_says_so_and_keeps_its_words_whole() {
        assert_eq!(clip("write the guide, two pages", 18), "write the guide…");
        assert_eq!(clip("short", 10), "short");
    }
}
