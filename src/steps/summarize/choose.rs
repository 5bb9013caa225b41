//! Chooses among notes when there are more than the summary may hold. No model: the same notes give the same choice.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use crate::steps::grounding::{Grounded, SAME};
use crate::steps::text::{content, count_words, similarity};

use super::focus::Relevance;

/// What a note is worth more for being about something already known, such as a decision or a task.
const GIVEN_BONUS: f64 = 1.0;
/// How much a note loses for saying again what a chosen one says.
const REDUNDANCY: f64 = 0.8;
/// What is held by nothing but names and numbers still counts for something.
const LEAST_SCORE: f64 = 0.3;
/// How much a stretch of the document loses for each note already chosen from it.
const CROWDING: f64 = 0.15;

/// How much a note gains by being about what the summary is to look at.
const FOCUS_BONUS: f64 = 2.0;
/// What a note is worth, where a question is asked, that has nothing to do with it.
const BESIDE_THE_QUESTION: f64 = 0.02;

/// How long a summary may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    pub words: usize,
    pub sentences: usize,
}

impl Limit {
    pub fn words(words: usize) -> Self {
        Self { words, sentences: usize::MAX }
    }

    pub fn holds<'n>(&self, notes: impl IntoIterator<Item = &'n Grounded>) -> bool {
        let (words, sentences) = notes.into_iter().fold((0, 0), |(words, n), note| (words + num_words_of(note), n + 1));
        words <= self.words && sentences <= self.sentences
    }
}

/// What makes a note worth more than another.
#[derive(Default)]
pub struct Taste {
    pub given: BTreeSet<usize>, // turns about something already known, such as a decision or a task
    pub relevance: Option<Relevance>,
    /// The relevance is to a question, and not only to what is to be looked at.
    pub is_asked: bool,
}

impl Taste {
    fn factor(&self, note: &Grounded) -> f64 {
        let known = if note.turns.iter().any(|t| self.given.contains(t)) { 1.0 + GIVEN_BONUS } else { 1.0 };
        let relevance = self.relevance.as_ref().map(|r| r.of(&note.turns));
        known
            * match relevance {
                None => 1.0,
                Some(relevance) if self.is_asked => BESIDE_THE_QUESTION + relevance,
                Some(relevance) => 1.0 + FOCUS_BONUS * relevance,
            }
    }
}

/// Returns the notes that fit the limit, in their order; at least one. A note is worth what it has in common with the
/// others, more by `taste`, less when a chosen note says the same or is near by.
pub fn choose(notes: &[(usize, &Grounded)], taste: &Taste, limit: Limit) -> Vec<Grounded> {
    let stems: Vec<BTreeSet<String>> = notes.iter().map(|(_, n)| content(&n.text)).collect();
    let mut frequency: BTreeMap<&str, f64> = BTreeMap::new();
    for word in stems.iter().flatten() {
        *frequency.entry(word).or_default() += 1.0;
    }
    let worth: Vec<f64> = notes
        .iter()
        .zip(&stems)
        .map(|((_, note), stems)| {
            let shared: f64 = stems.iter().map(|w| frequency[w.as_str()].ln_1p()).sum();
            let central = shared / (stems.len().max(1) as f64).sqrt();
            central * note.score.max(LEAST_SCORE) * taste.factor(note)
        })
        .collect();

    let mut chosen: Vec<usize> = Vec::new();
    let mut left = limit.words;
    // Among what answers a question, being near another answer is no fault.
    let crowding = if taste.is_asked { 0.0 } else { CROWDING };
    while chosen.len() < limit.sentences.max(1) {
        let value = |i: usize| {
            let alike = chosen.iter().map(|&c| similarity(&notes[c].1.text, &notes[i].1.text)).fold(0.0, f64::max);
            let crowd = chosen.iter().filter(|&&c| notes[c].0 == notes[i].0).count() as f64;
            let value = worth[i] * (1.0 - REDUNDANCY * alike) / (1.0 + crowding * crowd);
            if alike >= SAME { f64::NEG_INFINITY } else { value }
        };
        let next = (0..notes.len())
            .filter(|i| !chosen.contains(i) && (chosen.is_empty() || num_words_of(notes[*i].1) <= left))
            .map(|i| (i, value(i)))
            .filter(|(_, v)| v.is_finite())
            // The earlier of equals.
            .fold(None, |best: Option<(usize, f64)>, (i, v)| match best {
                Some((_, most)) if most >= v => best,
                _ => Some((i, v)),
            });
        let Some((i, _)) = next else { break };
        left = left.saturating_sub(num_words_of(notes[i].1));
        chosen.push(i);
    }
    chosen.sort_unstable();
    chosen.into_iter().map(|i| notes[i].1.clone()).collect()
}

pub fn num_words_of(note: &Grounded) -> usize {
    count_words(&note.text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(text: &str, turn: usize) -> Grounded {
        Grounded { text: text.into(), turns: vec![turn], score: 1.0 }
    }

    #[test]
    fn the_choice_fits_keeps_order_and_says_nothing_twice() {
        let notes = [
            note("The tracking page goes off in March.", 0),
            note("The tracking page is going off in March.", 1),
            note("Beth tested the queue under load.", 2),
            note("The pharmacy uses the tracking page.", 3),
        ];
        let numbered: Vec<(usize, &Grounded)> = notes.iter().enumerate().collect();
        let chosen = choose(&numbered, &Taste::default(), Limit::words(20));
        let turns: Vec<usize> = chosen.iter().flat_map(|n| n.turns.clone()).collect();
        assert!(turns.is_sorted() && !(turns.contains(&0) && turns.contains(&1)), "{turns:?}");
        assert!(chosen.iter().map(num_words_of).sum::<usize>() <= 20);
        let taste = Taste { given: BTreeSet::from([2]), ..Taste::default() };
        let about_the_queue = choose(&numbered, &taste, Limit::words(6));
        assert_eq!(about_the_queue[0].turns, [2]);
        assert_eq!(choose(&numbered, &taste, Limit { words: 500, sentences: 2 }).len(), 2);
    }

    #[test]
    fn one_note_that_is_too_long_is_better_than_none() {
        let long = note(&"word ".repeat(50), 0);
        assert_eq!(choose(&[(0, &long)], &Taste::default(), Limit::words(10)).len(), 1);
    }
}
