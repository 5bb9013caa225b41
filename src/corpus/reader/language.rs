//! Which language a document is in, as a hint: a short or mixed text gets none.

use whatlang::Lang;

use crate::corpus::document::Document;

/// Enough for a sure answer; the detector's time grows with the text.
const SAMPLE_BYTES: usize = 16 * 1024;

/// The detector is sure of a Dutch dictionary word; a couple of sentences are needed for its word to be worth having.
const MIN_BYTES: usize = 64;

/// Returns the language's two-letter code where it has one (else three letters), or `None` where the text does not tell.
pub(super) fn hint(document: &Document) -> Option<String> {
    let sample = sample(document);
    if sample.trim().len() < MIN_BYTES {
        return None;
    }
    let info = whatlang::detect(&sample)?;
    info.is_reliable().then(|| code(info.lang()).to_owned())
}

/// Returns the language a short text, such as a question, is clearly in.
pub fn clear_language(text: &str) -> Option<&'static str> {
    let info = whatlang::detect(text)?;
    info.is_reliable().then(|| code(info.lang()))
}

/// Returns the language a text is most likely in, however unsure.
pub fn likely_language(text: &str) -> Option<&'static str> {
    let end = text.floor_char_boundary(SAMPLE_BYTES);
    whatlang::detect_lang(&text[..end]).map(code)
}

/// Names of speakers say little about a language, so a transcript is judged by its words.
fn sample(document: &Document) -> String {
    if document.turns.is_empty() {
        let end = document.text.floor_char_boundary(SAMPLE_BYTES);
        return document.text[..end].to_owned();
    }
    let mut words = String::new();
    for turn in &document.turns {
        words.push_str(document.turn_text(turn));
        words.push('\n');
        if words.len() >= SAMPLE_BYTES {
            break;
        }
    }
    words.truncate(words.floor_char_boundary(SAMPLE_BYTES));
    words
}

fn code(lang: Lang) -> &'static str {
    match lang {
        Lang::Eng => "en",
        Lang::Deu => "de",
        Lang::Spa => "es",
        Lang::Fra => "fr",
        Lang::Jpn => "ja",
        Lang::Por => "pt",
        Lang::Ara => "ar",
        Lang::Ces => "cs",
        Lang::Ita => "it",
        Lang::Kor => "ko",
        Lang::Nld => "nl",
        Lang::Cmn => "zh",
        Lang::Pol => "pl",
        Lang::Rus => "ru",
        Lang::Ukr => "uk",
        Lang::Swe => "sv",
        Lang::Dan => "da",
        Lang::Fin => "fi",
        Lang::Tur => "tr",
        Lang::Ell => "el",
        Lang::Heb => "he",
        Lang::Hun => "hu",
        Lang::Ron => "ro",
        other => other.code(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::document::Format;

    fn check(text: &str, expected: Option<&str>) {
        assert_eq!(hint(&Document::of(Format::Text, text.into())).as_deref(), expected);
    }

    #[test]
    fn a_clear_language_is_named_and_a_doubtful_one_is_not() {
        check(
            "Wir haben gestern beschlossen, dass die neue Fassung erst nach der Prüfung veröffentlicht wird.",
            Some("de"),
        );
        check(
            "We agreed yesterday that the new version is only published after the review has been finished.",
            Some("en"),
        );
        check("ok", None);
        check("12:30 17.5 %", None);
    }
}
