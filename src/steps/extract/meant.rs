//! What a sentence speaks of that names nothing itself: the question that is left open, what was decided, what counts
//! instead.

use std::collections::BTreeSet;

use super::cues::{Cues, LEAST_CONTENT, STANDS_ALONE, sentences_of};
use crate::corpus::document::Document;
use crate::steps::text::content;

/// How a question begins that asks for nothing: "And if she hears it from somebody else?"
const RHETORICAL: &[&[&str]] = &[&["if"], &["and", "if"], &["what", "if"], &["but", "if"], &["wenn"], &["und", "wenn"]];

/// Words that say that something is open, and not what.
pub const OPEN: &str =
    "open stays stay leave question thing know think guess want well today settle decide head offen bleibt";

/// The question that is left open, and the turn it was asked in.
///
/// A sentence that names something means the last question that shares a word with it, or was asked just before. "I don't
/// know" (`is_reply`) means the latter; "we don't settle that today" the question of the last turns that says most.
pub fn question_before(document: &Document, turn: usize, said: &str, is_reply: bool) -> Option<(usize, String)> {
    const NAMED: usize = 4; // turns to look back
    const UNNAMED: usize = 8;
    let about: BTreeSet<String> = content(said).difference(&content(OPEN)).cloned().collect();
    let names = is_reply || !about.is_empty();
    let mut questions = Vec::new();
    for i in turn.saturating_sub(if names { NAMED } else { UNNAMED })..=turn {
        for (sentence, spoken) in sentences_of(document, i) {
            if sentence.ends_with('?') && spoken.len() >= 5 && !is_rhetorical(&spoken) {
                questions.push((i, sentence));
            }
        }
    }
    if names {
        let fits = |(i, question): &&(usize, String)| i + 1 >= turn || !about.is_disjoint(&content(question));
        questions.iter().rev().find(fits).cloned()
    } else {
        questions.into_iter().max_by_key(|(_, question)| content(question).len())
    }
}

fn is_rhetorical(spoken: &[String]) -> bool {
    RHETORICAL
        .iter()
        .any(|start| spoken.len() >= start.len() && start.iter().zip(spoken).all(|(a, b)| *a == b.as_str()))
}

/// Whether a sentence says itself what is not known: "I don't know whether the kiosk is ours or the council's."
pub fn asks_itself(spoken: &[String], said: &str) -> bool {
    const ASKS: &[&str] =
        &["whether", "what", "how", "who", "where", "when", "which", "ob", "was", "wie", "wer", "wo", "wann", "welche"];
    content(said).len() >= LEAST_CONTENT && spoken.iter().any(|w| ASKS.contains(&w.as_str()))
}

/// What counts instead of what is taken back: the next sentence of the turn that settles something.
pub fn sentence_instead(cues: &Cues, after: &[(String, Vec<String>)]) -> Option<String> {
    const NEGATIONS: &[&str] = &["not", "isn't", "don't", "won't", "doesn't", "nicht", "kein", "keine"];
    let telling: Vec<_> = after.iter().take(3).filter(|(said, _)| content(said).len() >= STANDS_ALONE).collect();
    let affirms = |(_, spoken): &&&(String, Vec<String>)| {
        cues.has_own(spoken) || !spoken.iter().any(|w| NEGATIONS.contains(&w.as_str()))
    };
    telling.iter().find(affirms).or(telling.first()).map(|(said, _)| said.clone())
}

/// The sentence that "that's decided" is about: the one before it in its turn, else the next one there, else the one
/// that says most in the turn before.
pub fn sentence_meant(
    document: &Document,
    turn: usize,
    sentences: &[(String, Vec<String>)],
    at: usize,
) -> Option<(usize, String)> {
    let tells = |s: &&(String, Vec<String>)| content(&s.0).len() >= LEAST_CONTENT && !s.0.ends_with('?');
    let (before, after) = (&sentences[..at], &sentences[at + 1..]);
    if let Some((said, _)) = before.iter().rev().find(tells).or_else(|| after.iter().take(1).find(tells)) {
        return Some((turn, said.clone()));
    }
    let previous = turn.checked_sub(1)?;
    let sentences = sentences_of(document, previous);
    sentences.iter().filter(tells).max_by_key(|(said, _)| content(said).len()).map(|(said, _)| (previous, said.clone()))
}
