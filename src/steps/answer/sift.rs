//! Holds each sentence of an answer against the words it cites.

use super::quotes::Quotes;
use crate::corpus::index::shared_terms;
use crate::steps::StepOutput;
use crate::steps::grounding::goes_round;
use crate::steps::text::clip;

/// A sentence that shares less of its own words with its passage and the question was not read there.
const LEAST_SHARED: f64 = 0.6;

/// A sentence of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    pub text: String,
    pub quote: Option<usize>,
    pub supported: bool,
}

/// Keeps what its quote's passage supports; the rest is dropped, or kept without its citation where that is asked for.
pub fn sift(
    said: Vec<Said>,
    quotes: &Quotes,
    question: &str,
    keep_unsupported: bool,
    out: &mut StepOutput,
) -> Vec<Said> {
    let mut kept: Vec<Said> = Vec::new();
    let mut dropped = Vec::new();
    for mut sentence in said {
        if kept.iter().any(|k| k.text == sentence.text) {
            continue; // said before
        }
        sentence.supported = sentence.quote.is_some_and(|quote| supports(quotes, quote, question, &sentence.text));
        if sentence.supported {
            kept.push(sentence);
        } else if keep_unsupported {
            kept.push(Said { quote: None, ..sentence });
        } else {
            dropped.push(sentence.text);
        }
    }
    if let Some(first) = dropped.first() {
        let count = dropped.len();
        out.notes.push(format!("dropped {count} sentences that no passage supports, such as \"{}\"", clip(first, 80)));
    }
    kept
}

fn supports(quotes: &Quotes, quote: usize, question: &str, sentence: &str) -> bool {
    // Of a model that is caught in a loop: its numbers and words are all in the passage.
    const ROUNDS: usize = 3;
    if goes_round(sentence, ROUNDS) {
        return false;
    }
    let (passage, language) = quotes.passage(quote);
    let numbers_are_there = numbers(sentence).all(|n| numbers(passage).chain(numbers(question)).any(|m| m == n));
    numbers_are_there && shared_terms(sentence, &[passage, question], language) >= LEAST_SHARED
}

/// The runs of digits of a text.
fn numbers(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_digit()).filter(|n| !n.is_empty())
}
