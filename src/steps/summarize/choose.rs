//! Chooses among notes when there are more than the summary may hold. No model: the same notes give the same choice.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use crate::steps::grounding::{Grounded, SAME};
use crate::steps::text::{content, similarity};

/// What a note is worth more for being about something already known, such as a decision or a task.
const GIVEN_BONUS: f64 = 1.0;
/// How much a note loses for saying again what a chosen one says.
const REDUNDANCY: f64 = 0.8;
/// How much a stretch of the document loses for each note already chosen from it.
const CROWDING: f64 = 0.15;

/// Returns the notes that fit into `num_words`, in their order; at least one. A note is worth what it has in common
/// with the others, more when it cites a turn among `given`, less when a chosen note says the same or is near by.
pub fn choose(notes: &[(usize, &Grounded)], given: &BTreeSet<usize>, num_words: usize) -> Vec<Grounded> {
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
            central * note.score * if note.turns.iter().any(|t| given.contains(t)) { 1.0 + GIVEN_BONUS } else { 1.0 }
        })
        .collect();

    let mut chosen: Vec<usize> = Vec::new();
    let mut left = num_words + num_words / 10; // a summary may run a tenth over rather than stop short
    loop {
        let value = |i: usize| {
            let alike = chosen.iter().map(|&c| similarity(&notes[c].1.text, &notes[i].1.text)).fold(0.0, f64::max);
            let crowd = chosen.iter().filter(|&&c| notes[c].0 == notes[i].0).count() as f64;
            let value = worth[i] * (1.0 - REDUNDANCY * alike) / (1.0 + CROWDING * crowd);
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
    note.text.split_whitespace().count()
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
        let chosen = choose(&numbered, &BTreeSet::new(), 20);
        let turns: Vec<usize> = chosen.iter().flat_map(|n| n.turns.clone()).collect();
        assert!(turns.is_sorted() && !(turns.contains(&0) && turns.contains(&1)), "{turns:?}");
        assert!(chosen.iter().map(num_words_of).sum::<usize>() <= 22);
        let about_the_queue = choose(&numbered, &BTreeSet::from([2]), 6);
        assert_eq!(about_the_queue[0].turns, [2]);
    }

    #[test]
    fn one_note_that_is_too_long_is_better_than_none() {
        let long = note(&"word ".repeat(50), 0);
        assert_eq!(choose(&[(0, &long)], &BTreeSet::new(), 10).len(), 1);
    }
}
