//! What a summary is asked to be about, held against the document: which turns have to do with it. No model.

use std::collections::{BTreeMap, BTreeSet};

use crate::corpus::document::Document;
use crate::steps::text::{content, words};

/// BM25's usual constants.
const K1: f64 = 1.2;
const B: f64 = 0.75;
/// What a turn has of its neighbours' relevance: an answer seldom repeats the words of its question.
const NEIGHBOURS: [f64; 3] = [0.5, 0.3, 0.2];
/// A turn with less of the most relevant one's weight has nothing to do with it.
const LEAST: f64 = 0.15;

/// Words of asking for a summary, which say nothing of what it is to be about.
const ASKING: &[&str] = &[
    "summarize",
    "summarise",
    "summary",
    "whole",
    "meeting",
    "meetings",
    "discuss",
    "discussion",
    "discussed",
    "about",
    "opinion",
    "opinions",
    "team",
    "group",
    "members",
    "member",
    "describe",
    "explain",
    "zusammenfassung",
    "besprechung",
    "resumen",
    "reunión",
    "résumé",
    "réunion",
    "resumo",
    "reunião",
    "riassunto",
    "riunione",
    "samenvatting",
    "vergadering",
    "shrnutí",
    "schůzka",
];

/// How much each turn has to do with what is asked: 0 to 1.
#[derive(Debug, Default)]
pub struct Relevance(Vec<f64>);

impl Relevance {
    /// `None` where no turn shares a word with what is asked, as with "what changed": then all count alike.
    pub fn new(document: &Document, asked: &str) -> Option<Self> {
        let asked: BTreeSet<String> = words(asked)
            .iter()
            .filter(|word| !ASKING.contains(&word.as_str()))
            .flat_map(|word| content(word))
            .collect();
        let turns: Vec<BTreeMap<String, f64>> = document
            .turns
            .iter()
            .map(|turn| {
                let text = document.turn_text(turn);
                let mut counts = BTreeMap::new();
                let spoken = words(text).into_iter().chain(turn.speaker.iter().flat_map(|s| words(s)));
                for stem in spoken.flat_map(|word| content(&word)) {
                    *counts.entry(stem).or_insert(0.0) += 1.0;
                }
                counts
            })
            .collect();
        let lengths: Vec<f64> = turns.iter().map(|t| t.values().sum()).collect();
        let mean = (lengths.iter().sum::<f64>() / lengths.len().max(1) as f64).max(1.0);
        let count = turns.len() as f64;
        let own: Vec<f64> = turns
            .iter()
            .zip(&lengths)
            .map(|(counts, length)| {
                let of_word = |word: &String| {
                    let Some(n) = counts.get(word) else { return 0.0 };
                    let holding = turns.iter().filter(|t| t.contains_key(word)).count() as f64;
                    let rarity = (1.0 + (count - holding + 0.5) / (holding + 0.5)).ln();
                    rarity * n * (K1 + 1.0) / (n + K1 * (1.0 - B + B * length / mean))
                };
                asked.iter().map(of_word).sum()
            })
            .collect();
        let spread = |i: usize| {
            let near = |distance: usize, share: &f64| {
                let before = i.checked_sub(distance).and_then(|at| own.get(at)).copied().unwrap_or(0.0);
                share * before.max(own.get(i + distance).copied().unwrap_or(0.0))
            };
            own[i] + NEIGHBOURS.iter().enumerate().map(|(d, share)| near(d + 1, share)).sum::<f64>()
        };
        let spread: Vec<f64> = (0..own.len()).map(spread).collect();
        let most = spread.iter().copied().fold(0.0, f64::max);
        (most > 0.0).then(|| {
            let share = |r: f64| if r < LEAST * most { 0.0 } else { r / most };
            Self(spread.into_iter().map(share).collect())
        })
    }

    /// Returns the relevance of the turn among these that has the most.
    pub fn of(&self, turns: &[usize]) -> f64 {
        turns.iter().filter_map(|&i| self.0.get(i)).copied().fold(0.0, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steps::fakes::meeting;

    #[test]
    fn turns_about_what_is_asked_and_their_neighbours_count() {
        let document = meeting(&[
            ("Anna", "The banner goes up on Monday."),
            ("Bo", "How large is the battery of the remote?"),
            ("Anna", "Four cells, if they fit."),
            ("Bo", "Lunch is at noon."),
            ("Anna", "Good."),
            ("Bo", "See you there."),
            ("Anna", "Fine."),
        ]);
        let relevance = Relevance::new(&document, "Summarize the discussion about the battery.").unwrap();
        assert_eq!(relevance.of(&[1]), 1.0);
        assert!(relevance.of(&[2]) > 0.4 && relevance.of(&[6]) == 0.0, "{relevance:?}");
        assert!(Relevance::new(&document, "Summarize the whole meeting.").is_none());
    }
}
