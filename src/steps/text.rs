//! Words and how alike two texts are: what steps need to check a model's words against what was said.
//! Knows English and German by name; other languages get the rules that hold everywhere.

use std::collections::BTreeSet;

pub use crate::corpus::sentences::{is_finished, sentences};

/// Words that carry no content of their own, English and German.
static STOPWORDS: &str = include_str!("../../templates/words/stopwords.txt");

/// Returns the words of a text in lower case: letters, digits and the apostrophes inside them.
pub fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !(c.is_alphanumeric() || matches!(c, '\'' | '’')))
        .map(|w| w.trim_matches(['\'', '’']).replace('’', "'").to_lowercase())
        .filter(|w| !w.is_empty())
        .collect()
}

/// Returns the stems of the words that carry content; for scripts that write no spaces, or glue endings to words, the
/// pairs of neighboring characters.
pub fn content(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for word in words(text).iter().filter(|w| !is_stopword(w)) {
        if !word.chars().any(is_unspaced) {
            found.insert(stem(word));
            continue;
        }
        let chars: Vec<char> = word.chars().collect();
        match chars.len() {
            1 => found.extend([word.clone()]),
            _ => found.extend(chars.windows(2).map(|pair| pair.iter().collect::<String>())),
        }
    }
    found
}

/// Whether a character is of a script in which a run of letters is no word: Chinese, Japanese, Korean.
pub fn is_unspaced(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{ac00}'..='\u{d7af}' | '\u{f900}'..='\u{faff}')
}

/// Returns how many words a text has. Chinese and Japanese write no spaces: there two characters count as a word.
pub fn count_words(text: &str) -> usize {
    let is_han_or_kana = |c: char| is_unspaced(c) && !matches!(c, '\u{ac00}'..='\u{d7af}');
    let one = |word: &str| {
        let unspaced = word.chars().filter(|c| is_han_or_kana(*c)).count();
        let others = word.chars().any(|c| c.is_alphanumeric() && !is_han_or_kana(c));
        if unspaced == 0 { 1 } else { unspaced.div_ceil(2) + usize::from(others) }
    };
    text.split_whitespace().map(one).sum()
}

pub fn is_stopword(word: &str) -> bool {
    use std::collections::HashSet;
    use std::sync::LazyLock;
    static SET: LazyLock<HashSet<&str>> =
        LazyLock::new(|| STOPWORDS.lines().filter(|l| !l.starts_with('#')).flat_map(str::split_whitespace).collect());
    let one_letter = || word.chars().count() == 1 && word.chars().all(char::is_alphabetic);
    SET.contains(word) || one_letter()
}

/// Words by which someone speaks of himself, in languages other than English and German, each only where its language is
/// known: "je" is Dutch for "you" and Czech for "is".
pub fn first_person(language: &str) -> &'static [&'static str] {
    match language {
        "es" => &["yo", "mí", "mi", "mis", "conmigo"],
        "fr" => &["je", "j'ai", "j'étais", "moi", "mon", "mes"],
        "pt" => &["eu", "mim", "meu", "minha", "comigo"],
        "it" => &["io", "mio", "mia", "miei"],
        "nl" => &["ik", "mij", "mijn"],
        "cs" => &["já", "mě", "mně", "můj", "moje"],
        _ => &[],
    }
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

    #[test]
    fn likeness_ignores_small_words_and_endings() {
        assert!(similarity("They decided on the new ticket system", "A ticket system was decided") > 0.7);
        assert!(similarity("Beth reports the load test", "Nadia calls the pharmacy") < 0.1);
        let source = content("Wei-Ling Tan takes the hotfix and has it out before four.");
        assert!(carried_by("Wei-Ling takes the hotfix.", &source) > 0.9);
        assert!(carried_by("A freelance writer from Kenya takes out a loan.", &source) < 0.4);
    }

    #[test]
    fn words_are_found_where_no_spaces_are_written() {
        assert!(similarity("会議は三月に終わります", "会議は三月に終わる") > 0.6);
        assert!(carried_by("追跡ページは三月に終わる", &content("古い追跡ページは三月三十一日に終わる。")) > 0.7);
        assert!(carried_by("在庫を確認する", &content("古い追跡ページは三月に終わる。")) < 0.3);
        assert_eq!((count_words("two words"), count_words("会議は三月です"), count_words("회의는 끝났다")), (2, 4, 2));
    }

    #[test]
    fn a_clipped_text_says_so_and_keeps_its_words_whole() {
        assert_eq!(clip("write the guide, two pages", 18), "write the guide…");
        assert_eq!(clip("short", 10), "short");
    }
}
