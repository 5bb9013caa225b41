//! How a text becomes terms, by its language: words or pairs of letters, in small letters, stemmed, accents off.

use std::sync::LazyLock;

use tantivy::tokenizer::{
    AsciiFoldingFilter, Language as Snowball, LowerCaser, RemoveLongFilter, Stemmer, StopWordFilter, TextAnalyzer,
    TextAnalyzerBuilder, Tokenizer,
};
use unicode_normalization::UnicodeNormalization;

use super::bigrams::WordsAndBigrams;
use super::czech::CzechStemmer;
use crate::corpus::sentences::sentences;

/// Goes up whenever the same text may give other terms: an index of another analysis is built again.
pub const ANALYSIS: u32 = 2;

/// A longer word is no word: a key, a hash, a line of dots.
const LONGEST_WORD: usize = 80; // bytes

macro_rules! languages {
    ($($name:ident $code:literal $stemmer:expr,)*) => {
        /// A language whose words are known to have endings or whose small words are known.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Language { $($name,)* }

        impl Language {
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The two-letter code.
            pub fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            fn stemmer(self) -> Option<Snowball> {
                match self { $(Self::$name => $stemmer,)* }
            }
        }
    };
}

languages! {
    English "en" Some(Snowball::English),
    German "de" Some(Snowball::German),
    Spanish "es" Some(Snowball::Spanish),
    French "fr" Some(Snowball::French),
    Portuguese "pt" Some(Snowball::Portuguese),
    Italian "it" Some(Snowball::Italian),
    Dutch "nl" Some(Snowball::Dutch),
    Czech "cs" None, // by a stemmer of our own
    Arabic "ar" Some(Snowball::Arabic),
    Russian "ru" Some(Snowball::Russian),
    Swedish "sv" Some(Snowball::Swedish),
    Danish "da" Some(Snowball::Danish),
    Finnish "fi" Some(Snowball::Finnish),
    Hungarian "hu" Some(Snowball::Hungarian),
    Romanian "ro" Some(Snowball::Romanian),
    Turkish "tr" Some(Snowball::Turkish),
    Greek "el" Some(Snowball::Greek),
    Chinese "zh" None, // pairs of letters need no stemming
    Japanese "ja" None,
    Korean "ko" None,
}

impl Language {
    /// Returns the language of a code such as `en`, `en-GB` or `EN`; `None` for one that has no analysis of its own.
    pub fn of_code(code: &str) -> Option<Self> {
        let short = code.split(['-', '_']).next().unwrap_or_default().to_lowercase();
        Self::ALL.iter().copied().find(|l| l.code() == short)
    }
}

/// What is added to the engine's own lists of small words, by language.
static MORE_STOPWORDS: &str = include_str!("../../../templates/words/search-stopwords.txt");

/// A word of a text: what the index knows it by, and whether it carries content of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    pub term: String,
    pub is_small: bool,
}

/// Returns the terms of a text in order, those of its small words included.
pub fn terms_of(text: &str, language: Option<Language>) -> Vec<String> {
    let text = one_form(text);
    let mut terms = Vec::new();
    chain(language).token_stream(&text).process(&mut |token| terms.push(token.text.clone()));
    terms
}

/// Returns the terms of a text in order, each with the number of the sentence it stands in, from 0.
pub fn terms_in_sentences(text: &str, language: Option<Language>) -> Vec<(u32, String)> {
    let mut chain = chain(language);
    let mut terms = Vec::new();
    for (number, range) in (0..).zip(sentences(text)) {
        let sentence = one_form(&text[range]);
        chain.token_stream(&sentence).process(&mut |token| terms.push((number, token.text.clone())));
    }
    terms
}

/// One form for one letter, wide and narrow, composed and not; what Arabic may leave out is left out.
fn one_form(text: &str) -> String {
    text.nfkc().filter(|c| !is_optional(*c)).collect()
}

/// Returns the words of a text in order, each with its term in one language.
pub fn analyse(text: &str, language: Option<Language>) -> Vec<Word> {
    let text = one_form(text);
    let mut whole = chain(language);
    let mut stream = whole.token_stream(&text);
    let mut words = Vec::new();
    let mut places = Vec::new();
    while stream.advance() {
        words.push(Word { term: stream.token().text.clone(), is_small: false });
        places.push(stream.token().offset_from);
    }
    if let Some(mut content) = language.and_then(content_chain) {
        // Both cut the same words in the same order; the second leaves out the small ones.
        let mut stream = content.token_stream(&text);
        let mut next = stream.advance().then(|| stream.token().offset_from);
        for (word, place) in words.iter_mut().zip(places) {
            word.is_small = next != Some(place);
            if !word.is_small {
                next = stream.advance().then(|| stream.token().offset_from);
            }
        }
    }
    words
}

/// Cuts words and leaves out the small ones; `None` where none are known.
fn content_chain(language: Language) -> Option<TextAnalyzer> {
    type Lists = Vec<(Option<StopWordFilter>, StopWordFilter)>;
    static LISTS: LazyLock<Lists> = LazyLock::new(|| {
        let of = |language: &Language| {
            let lines = MORE_STOPWORDS.lines().filter_map(|l| l.split_once(' '));
            let own = lines.filter(|(code, _)| *code == language.code()).flat_map(|(_, words)| words.split(' '));
            let engine = language.stemmer().and_then(StopWordFilter::new);
            (engine, StopWordFilter::remove(own.map(str::to_owned)))
        };
        Language::ALL.iter().map(of).collect()
    });
    if matches!(language, Language::Chinese | Language::Japanese | Language::Korean) {
        return None; // small words are letters inside pairs there
    }
    let (engine, own) = LISTS[language as usize].clone();
    let words = words().filter(own);
    Some(match engine {
        Some(engine) => words.filter(engine).build(),
        None => words.build(),
    })
}

fn words() -> TextAnalyzerBuilder<impl Tokenizer> {
    TextAnalyzer::builder(WordsAndBigrams::default()).filter(RemoveLongFilter::limit(LONGEST_WORD)).filter(LowerCaser)
}

fn chain(language: Option<Language>) -> TextAnalyzer {
    let words = words();
    match (language, language.and_then(Language::stemmer)) {
        (Some(Language::Czech), _) => words.filter(CzechStemmer).filter(AsciiFoldingFilter).build(),
        (_, Some(stemmer)) => words.filter(Stemmer::new(stemmer)).filter(AsciiFoldingFilter).build(),
        _ => words.filter(AsciiFoldingFilter).build(),
    }
}

/// Marks of Arabic that writers put or leave out as they like: short vowels and the stretching line.
fn is_optional(c: char) -> bool {
    matches!(c, '\u{064B}'..='\u{0652}' | '\u{0670}' | '\u{0640}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_and_its_forms_have_one_term() {
        let same = |language: Language, a: &str, b: &str| {
            assert_eq!(terms_of(a, Some(language)), terms_of(b, Some(language)), "{a} {b}");
        };
        same(Language::English, "Retention of payrolls", "retention OF payroll");
        same(Language::German, "Verträge", "Vertrages");
        same(Language::Spanish, "información", "informacion");
        same(Language::Arabic, "مُحَمَّد", "محمد");
        same(Language::Japanese, "ﾃﾞｰﾀ", "データ");
        assert_eq!(terms_of("Café CAFÉ", None), ["cafe", "cafe"]);
    }

    #[test]
    fn sentences_are_counted_and_cut_no_word() {
        let text = "Dr. Smith's wing. It lifts!\n\n我们的税。税法";
        let terms = terms_in_sentences(text, Some(Language::English));
        let words: Vec<String> = terms.iter().map(|(_, term)| term.clone()).collect();
        assert_eq!(words, terms_of(text, Some(Language::English)));
        let numbers: Vec<u32> = terms.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, [0, 0, 0, 0, 1, 1, 2, 2, 2, 3]);
    }

    #[test]
    fn small_words_are_known_by_their_language() {
        let content = |text: &str, language: Language| {
            let words = analyse(text, Some(language)).into_iter();
            words.filter(|w| !w.is_small).map(|w| w.term).collect::<Vec<_>>()
        };
        assert_eq!(content("What is the lift of a wing? Don't tell.", Language::English), ["lift", "wing"]);
        assert_eq!(content("Wer hat das Haus gebaut?", Language::German), ["haus", "gebaut"]);
        assert_eq!(content("Kolik je hodin?", Language::Czech), ["hodin"]);
        assert_eq!(content("我们", Language::Chinese), ["我们"]);
        assert_eq!(content("the", Language::English), [""; 0]);
    }

    #[test]
    fn codes_are_read_as_files_write_them() {
        assert_eq!(Language::of_code("en-GB"), Some(Language::English));
        assert_eq!(Language::of_code("DE"), Some(Language::German));
        assert_eq!(Language::of_code("xx"), None);
    }
}
