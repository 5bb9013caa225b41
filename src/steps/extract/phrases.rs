//! Phrases with gaps, as the lists of cue words are written, found among the words of a sentence.

/// A phrase: `^` binds it to the beginning of the sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Phrase {
    at_start: bool,
    words: Vec<String>,        // `*` up to three words, `~e` a word with that ending
    core_after: Option<usize>, // words of the phrase before what is to be done
}

impl Phrase {
    pub fn parse(text: &str) -> Self {
        let at_start = text.starts_with('^');
        let mut words: Vec<String> =
            text.trim_start_matches('^').to_lowercase().split_whitespace().map(str::to_owned).collect();
        let core_after = words.iter().position(|w| w == "|");
        words.retain(|w| w != "|");
        Self { at_start, words, core_after }
    }

    /// Returns where in `said` the words begin that say what is to be done: after the mark, else at the beginning.
    fn core_in(&self, said: &[String]) -> Option<usize> {
        let end = self.end_in(said)?;
        Some(self.core_after.map_or(0, |mark| end - (self.words.len() - mark)))
    }

    /// Returns where in `said` the phrase ends, counted in words.
    fn end_in(&self, said: &[String]) -> Option<usize> {
        let starts = if self.at_start { 0..said.len().min(1) } else { 0..said.len() };
        starts.into_iter().find_map(|from| Self::rest(&self.words, said, from))
    }

    fn rest(phrase: &[String], said: &[String], from: usize) -> Option<usize> {
        let Some((first, rest)) = phrase.split_first() else { return Some(from) };
        if first == "*" {
            return (0..=3).find_map(|skip| Self::rest(rest, said, from + skip));
        }
        let word = said.get(from)?;
        let fits = match first.strip_prefix('~') {
            Some(ending) => word.ends_with(ending) && word.chars().count() > ending.chars().count() + 2,
            // Where no spaces are written, or endings are glued on, a phrase stands inside a word.
            None if is_unspaced(first) => word.contains(first.as_str()),
            None => word == first,
        };
        if fits { Self::rest(rest, said, from + 1) } else { None }
    }
}

/// Where the core begins for the first phrase of the sentence.
pub fn core_start(phrases: &[Phrase], said: &[String]) -> Option<usize> {
    let found = phrases.iter().filter_map(|p| Some((p.end_in(said)?, p.core_in(said)?)));
    found.min_by_key(|(end, _)| *end).map(|(_, core)| core)
}

pub fn any(phrases: &[Phrase], said: &[String]) -> bool {
    phrases.iter().any(|p| p.end_in(said).is_some())
}

fn is_unspaced(word: &str) -> bool {
    word.chars().any(crate::steps::text::is_unspaced)
}
