//! A message with its place and hints: the author's mistake, never an item's failure.
//! Knows files, lines and columns; prints nothing.

use std::path::PathBuf;

/// A place in a text file as an editor shows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub file: PathBuf,
    pub line: u32,   // 1-based
    pub column: u32, // 1-based, in characters
}

/// How bad it is: an error stops the run before it starts, a warning does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Error,
    Warning,
}

/// One mistake of an author: the thing, the fact and the place; hints are separate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    pub severity: Severity,
    pub message: String,
    pub place: Option<Place>,
    pub hints: Vec<String>,
}

impl Diagnostic {
    pub fn error(message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, message: message.into(), place: None, hints: Vec::new() }
    }

    pub fn warning(message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(message) }
    }

    pub fn at(mut self, place: Place) -> Self {
        self.place = Some(place);
        self
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
}

/// Returns the candidate that `word` was most likely meant to be, if one is near enough to suggest.
pub fn suggest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // 0.8 Jaro-Winkler keeps "overlp" -> "overlap" and "sumarize" -> "summarize", and refuses "x" -> "text".
    const NEAR: f64 = 0.8;
    candidates
        .into_iter()
        .map(|c| (strsim::jaro_winkler(word, c), c))
        .filter(|(score, _)| *score >= NEAR)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, c)| c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_finds_its_word_and_noise_finds_none() {
        assert_eq!(suggest("overlp", ["overlap", "size"]), Some("overlap"));
        assert_eq!(suggest("sumarize", ["summarize", "split"]), Some("summarize"));
        assert_eq!(suggest("zzz", ["summarize", "split"]), None);
    }
}
