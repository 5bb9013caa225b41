//! A light stemmer for Czech, after Ljiljana Dolamic and Jacques Savoy, "Indexing and stemming approaches for the Czech
//! language" (2009): endings of case and of possession come off, nothing of derivation. Knows words in lower case.

use tantivy::tokenizer::{Token, TokenFilter, TokenStream, Tokenizer};

/// Endings by length, the longest first; each leaves a stem of at least so many letters.
const CASES: &[(&[&str], usize)] = &[
    (&["atech"], 3),
    (&["ětem", "etem", "atům"], 3),
    (
        &[
            "ech", "ich", "ích", "ého", "ěmi", "emi", "ému", "ete", "eti", "iho", "ího", "ími", "imu", "ách", "ata",
            "aty", "ých", "ama", "ami", "ové", "ovi", "ými",
        ],
        3,
    ),
    (&["em", "es", "ém", "ím", "ům", "at", "ám", "os", "us", "ým", "mi", "ou"], 3),
    (&["a", "e", "i", "o", "u", "y", "á", "é", "í", "ý", "ě", "ů"], 3),
];
const POSSESSIVES: &[&str] = &["ov", "in", "ův"];

/// Returns a word without its endings.
pub fn stem(word: &str) -> String {
    let mut stem = without_case(word).to_owned();
    if let Some(base) = POSSESSIVES.iter().find_map(|e| stem.strip_suffix(e)).filter(|b| b.chars().count() >= 4) {
        stem = base.to_owned();
    }
    // A softened end is the hard one: "matce" and "matka", "Praze" and "Praha" meet.
    for (soft, hard) in [("čt", "ck"), ("št", "sk"), ("c", "k"), ("č", "k"), ("z", "h"), ("ž", "h")] {
        if let Some(base) = stem.strip_suffix(soft) {
            return format!("{base}{hard}");
        }
    }
    stem
}

fn without_case(word: &str) -> &str {
    for (endings, least) in CASES {
        let found = endings.iter().find_map(|e| word.strip_suffix(e)).filter(|s| s.chars().count() >= *least);
        if let Some(stem) = found {
            return stem;
        }
    }
    word
}

#[derive(Clone)]
pub struct CzechStemmer;

#[derive(Clone)]
pub struct Stemming<T>(T);

pub struct Stream<T>(T);

impl TokenFilter for CzechStemmer {
    type Tokenizer<T: Tokenizer> = Stemming<T>;

    fn transform<T: Tokenizer>(self, tokenizer: T) -> Stemming<T> {
        Stemming(tokenizer)
    }
}

impl<T: Tokenizer> Tokenizer for Stemming<T> {
    type TokenStream<'a> = Stream<T::TokenStream<'a>>;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> Self::TokenStream<'a> {
        Stream(self.0.token_stream(text))
    }
}

impl<T: TokenStream> TokenStream for Stream<T> {
    fn advance(&mut self) -> bool {
        if !self.0.advance() {
            return false;
        }
        let token = self.0.token_mut();
        token.text = stem(&token.text);
        true
    }

    fn token(&self) -> &Token {
        self.0.token()
    }

    fn token_mut(&mut self) -> &mut Token {
        self.0.token_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_a_czech_word_meet() {
        for forms in [
            &["hrad", "hradu", "hradem", "hrady", "hradech"][..],
            &["žena", "ženy", "ženou", "ženám", "ženách"],
            &["matka", "matce", "matky"],
            &["praha", "praze", "prahy"],
        ] {
            let stems: Vec<String> = forms.iter().map(|f| stem(f)).collect();
            assert!(stems.windows(2).all(|w| w[0] == w[1]), "{forms:?}: {stems:?}");
        }
        assert_eq!(stem("já"), "já");
    }
}
