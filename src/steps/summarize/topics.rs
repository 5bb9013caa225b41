//! What was talked about when: the document cut where its words change. No model; the same document gives the same cuts.
//!
//! After Hearst's TextTiling (1997): how alike the turns before and after each gap are, and a cut where that dips deepest.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::corpus::document::Document;
use crate::steps::grounding::Ground;
use crate::steps::text::content;

const MOST: usize = 12;
/// Fewer turns than this are no topic.
const LEAST_TURNS: usize = 4;
/// Turns on either side of a gap that are compared.
const SIDE: usize = 6;
const WORDS: usize = 4; // that name a topic

/// A stretch of turns about one thing.
#[derive(Debug, PartialEq)]
pub struct Topic {
    pub first: usize, // index into `Document::turns`
    pub last: usize,
    pub words: Vec<String>, // the most telling first
}

/// Cuts a transcript into topics, all turns in one of them, in order. A document without turns has none.
pub fn topics(document: &Document, ground: &Ground) -> Vec<Topic> {
    let turns: Vec<BTreeSet<String>> = document.turns.iter().map(|t| content(document.turn_text(t))).collect();
    if turns.is_empty() {
        return Vec::new();
    }
    let mut starts = vec![0];
    starts.extend(cuts(&turns));
    let ends = starts.iter().skip(1).copied().chain([turns.len()]);
    let stretches: Vec<(usize, usize)> = starts.iter().copied().zip(ends).collect();
    let held: Vec<BTreeSet<&String>> = stretches.iter().map(|&(a, b)| turns[a..b].iter().flatten().collect()).collect();
    let name = |(first, end): (usize, usize)| {
        let mut counts: BTreeMap<&String, f64> = BTreeMap::new();
        for word in turns[first..end].iter().flatten() {
            *counts.entry(word).or_default() += 1.0;
        }
        let weigh = |stem: &String| {
            let n = counts.get(stem).copied().unwrap_or(0.0);
            let elsewhere = held.iter().filter(|words| words.contains(stem)).count() as f64;
            n * (1.0 + held.len() as f64 / elsewhere.max(1.0)).ln()
        };
        Topic { first, last: end - 1, words: ground.named(document, first..end, &weigh, WORDS) }
    };
    stretches.into_iter().map(name).collect()
}

/// The turns, ascending, with which something new begins.
fn cuts(turns: &[BTreeSet<String>]) -> Vec<usize> {
    if turns.len() < 2 * LEAST_TURNS {
        return Vec::new();
    }
    let count = turns.len() as f64;
    let mut holding: BTreeMap<&String, f64> = BTreeMap::new();
    for word in turns.iter().flatten() {
        *holding.entry(word).or_default() += 1.0;
    }
    let bag = |range: std::ops::Range<usize>| {
        let mut bag: BTreeMap<&String, f64> = BTreeMap::new();
        for word in turns[range].iter().flatten() {
            *bag.entry(word).or_default() += (count / holding[word]).ln();
        }
        bag
    };
    // How alike the two sides of the gap before each turn are.
    let alike: Vec<f64> = (1..turns.len())
        .map(|at| {
            let before = bag(at.saturating_sub(SIDE)..at);
            let after = bag(at..(at + SIDE).min(turns.len()));
            let norm = |bag: &BTreeMap<&String, f64>| bag.values().map(|w| w * w).sum::<f64>().sqrt();
            let dot: f64 = before.iter().filter_map(|(word, w)| Some(w * after.get(word)?)).sum();
            let norms = norm(&before) * norm(&after);
            if norms == 0.0 { 0.0 } else { dot / norms }
        })
        .collect();
    // How deep each dip is below the peaks on both sides of it.
    let depth = |at: usize| {
        let climb = |range: &mut dyn Iterator<Item = usize>| {
            let mut peak = alike[at];
            for i in range {
                if alike[i] < peak {
                    break;
                }
                peak = alike[i];
            }
            peak - alike[at]
        };
        climb(&mut (0..at).rev()) + climb(&mut (at + 1..alike.len()))
    };
    let depths: Vec<f64> = (0..alike.len()).map(depth).collect();
    let mean = depths.iter().sum::<f64>() / depths.len() as f64;
    let deviation = (depths.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / depths.len() as f64).sqrt();
    let mut order: Vec<usize> = (0..depths.len()).filter(|&i| depths[i] > mean + deviation / 2.0).collect();
    order.sort_by(|&a, &b| depths[b].total_cmp(&depths[a]).then(a.cmp(&b)));
    let mut chosen: Vec<usize> = Vec::new();
    for at in order.into_iter().map(|i| i + 1) {
        let is_apart = |other: usize| at.abs_diff(other) >= LEAST_TURNS;
        if is_apart(0) && is_apart(turns.len()) && chosen.iter().all(|&c| is_apart(c)) && chosen.len() + 1 < MOST {
            chosen.push(at);
        }
    }
    chosen.sort_unstable();
    chosen
}

/// As it stands under `steps.<id>.sections`.
pub fn value(document: &Document, topic: &Topic) -> Value {
    let id = |i: usize| document.turns[i].id.to_string();
    let time = |ms: Option<u64>| ms.map(crate::steps::clock);
    let until = (topic.first..=topic.last).rev().find_map(|i| document.turns[i].end_ms);
    let at = (topic.first..=topic.last).find_map(|i| document.turns[i].start_ms);
    json!({
        "words": topic.words, "turns": [id(topic.first), id(topic.last)],
        "num_turns": topic.last + 1 - topic.first, "at": time(at), "until": time(until),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steps::fakes::{meeting, plain};

    fn talk() -> Document {
        let about = |thing: &str, i: usize| match i % 3 {
            0 => format!("The {thing} is late, and the {thing} costs more."),
            1 => format!("Who looks after the {thing} now?"),
            _ => format!("I saw the {thing} at the depot."),
        };
        let turns: Vec<(&str, String)> =
            (0..27).map(|i| (["Anna", "Bo"][i % 2], about(["printer", "banner", "replica"][i / 9], i))).collect();
        meeting(&turns.iter().map(|(s, t)| (*s, t.as_str())).collect::<Vec<_>>())
    }

    #[test]
    fn topics_are_cut_where_the_words_change_and_cover_every_turn() {
        let document = talk();
        let ground = Ground::new(&document, "en");
        let found = topics(&document, &ground);
        assert_eq!(found.iter().map(|t| (t.first, t.last)).collect::<Vec<_>>(), [(0, 8), (9, 17), (18, 26)]);
        let names: Vec<&str> = found.iter().map(|t| t.words[0].as_str()).collect();
        assert_eq!(names, ["printer", "banner", "replica"]);
        let first = value(&document, &found[0]);
        assert_eq!(
            (&first["turns"], &first["at"], &first["until"]),
            (&json!(["T1", "T9"]), &json!("0:00:00"), &json!("0:01:38"))
        );
    }

    #[test]
    fn a_short_meeting_is_one_topic_and_a_text_without_turns_has_none() {
        let document = meeting(&[("Anna", "The printer is late."), ("Bo", "It is.")]);
        assert_eq!(topics(&document, &Ground::new(&document, "en")).len(), 1);
        let text = plain("One paragraph.");
        assert_eq!(topics(&text, &Ground::new(&text, "en")), []);
    }
}
