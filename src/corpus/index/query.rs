//! A question and what it looks for. Questions are no query language: every word of theirs may be there, none must.

use std::collections::BTreeMap;

use globset::{GlobBuilder, GlobMatcher};

use super::analysis::{Language, Word, analyse, terms_of};

/// What is looked for.
#[derive(Clone, Debug)]
pub struct Query<'a> {
    pub text: &'a str,
    /// The question's vector: words and vectors are then searched both and fused.
    pub vector: Option<&'a [f32]>,
    pub filter: &'a Filter,
    pub top: usize,
    /// Passages before and after each hit in its file that are joined to it; hits that meet become one.
    pub context: usize,
}

/// What a passage must be to be looked at: all of it, and for each field one of the values.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub fields: BTreeMap<String, Vec<String>>,
    pub paths: Vec<GlobMatcher>,
}

impl Filter {
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty() && self.paths.is_empty()
    }

    /// Adds a glob over file names, one of which must match; the error is one line.
    pub fn add_path(&mut self, glob: &str) -> Result<(), String> {
        let glob = GlobBuilder::new(glob).literal_separator(true).build().map_err(|e| e.to_string())?;
        self.paths.push(glob.compile_matcher());
        Ok(())
    }

    pub fn lets_path(&self, file: &str) -> bool {
        self.paths.is_empty() || self.paths.iter().any(|g| g.is_match(file))
    }

    pub fn lets_fields(&self, fields: &BTreeMap<String, String>) -> bool {
        self.fields.iter().all(|(name, values)| fields.get(name).is_some_and(|v| values.contains(v)))
    }
}

/// The fewest bytes that tell a language.
const TELLING_BYTES: usize = 24;

/// Returns each term a question looks for and how often it asks for it, in order of the terms.
///
/// Small words are left out, unless there are no others. A question whose language is clear is read in it; another is
/// read in every language there are passages of.
pub fn terms(question: &str, present: &[Option<Language>]) -> Vec<(String, u32)> {
    let told = language_of(question);
    let readings: Vec<Option<Language>> = match told.filter(|l| present.contains(&Some(*l))) {
        Some(language) => vec![Some(language)],
        None => present.to_vec(),
    };
    let mut best: BTreeMap<String, u32> = BTreeMap::new();
    for language in readings {
        let words = analyse(question, language);
        let small = |w: &Word| w.is_small;
        let has_content = words.iter().any(|w| !small(w));
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        for word in words.into_iter().filter(|w| !has_content || !small(w)) {
            *counts.entry(word.term).or_default() += 1;
        }
        for (term, count) in counts {
            let most = best.entry(term).or_default();
            *most = (*most).max(count);
        }
    }
    best.into_iter().collect()
}

/// Returns the share of a text's own words that others hold, in any form: 0 to 1, and 1 where it has none.
pub fn shared_terms(text: &str, others: &[&str], language: Option<Language>) -> f64 {
    let held: std::collections::HashSet<String> = others.iter().flat_map(|o| terms_of(o, language)).collect();
    let words = analyse(text, language);
    let has_content = words.iter().any(|w| !w.is_small);
    let own: std::collections::BTreeSet<String> =
        words.into_iter().filter(|w| !has_content || !w.is_small).map(|w| w.term).collect();
    if own.is_empty() { 1.0 } else { own.iter().filter(|t| held.contains(*t)).count() as f64 / own.len() as f64 }
}

/// Returns the language a text is surely in.
pub fn language_of(text: &str) -> Option<Language> {
    if text.len() < TELLING_BYTES {
        return None;
    }
    crate::corpus::reader::clear_language(text).and_then(Language::of_code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(question: &str, present: &[Option<Language>]) -> Vec<String> {
        terms(question, present).into_iter().map(|(t, _)| t).collect()
    }

    #[test]
    fn small_words_are_left_out_unless_there_are_no_others() {
        let english = [Some(Language::English)];
        assert_eq!(found("What is the lift of wings?", &english), ["lift", "wing"]);
        assert_eq!(found("to be or not to be", &english), ["be", "not", "or", "to"]);
        assert_eq!(terms("wing to wing", &english), [("wing".to_owned(), 2)]);
        assert_eq!(found("AND (NOT \"wing\")~2 title:x^3", &english), ["2", "3", "titl", "wing", "x"]);
        assert_eq!(found("?!", &english), [""; 0]);
    }

    #[test]
    fn a_doubtful_question_is_read_in_every_language_there_is() {
        let both = [Some(Language::English), Some(Language::German)];
        assert_eq!(found("running Verträge", &both), ["run", "running", "vertrag"]);
    }

    #[test]
    fn paths_and_fields_are_held_to_their_filters() {
        let mut filter = Filter::default();
        filter.add_path("hr/**").unwrap();
        assert!(filter.lets_path("hr/a/b.md") && !filter.lets_path("it/b.md"));
        filter.fields.insert("year".into(), vec!["2024".into(), "2025".into()]);
        let fields = |y: &str| BTreeMap::from([("year".to_owned(), y.to_owned())]);
        assert!(filter.lets_fields(&fields("2025")) && !filter.lets_fields(&fields("2023")));
        assert!(!filter.lets_fields(&BTreeMap::new()));
    }
}
