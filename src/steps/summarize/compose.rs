//! One text from notes: written by the model where the notes carry what it writes, chosen from the notes where not.

use std::collections::BTreeSet;

use serde_json::Value;

use super::choose::{Limit, Taste, choose, num_words_of};
use super::notes::{Notes, WORDS_PER_SENTENCE, max_tokens, topic_only};
use super::{Grounded, Strategy, Work};
use crate::inference::engine::{FinishReason, Usage};
use crate::steps::ask::Question;
use crate::steps::prompt::texts;
use crate::steps::{Reason, StepError};

/// A text of the model's is kept when the notes carry at least this share of its sentences.
const LEAST_KEPT: f64 = 0.75;
/// And when it is at least this share of what was asked for, so that a stub does not replace notes.
const LEAST_LENGTH: f64 = 0.4;
/// Nodes of the tree that become one.
const FAN: usize = 4;

pub struct Composed {
    pub sentences: Vec<Grounded>,
    pub written_by_model: bool,
    pub rounds: usize, // in which notes were made shorter before the text was written
    pub remarks: Vec<String>,
    pub usage: Usage,
}

#[derive(Default)]
pub struct About {
    pub text: Option<String>,
    pub usage: Usage,
}

/// A note and the part that it is about.
type Note = (usize, Grounded);

/// Composes the summary. `map-reduce` first condenses the notes to half, and half again; `tree` makes one text of four
/// neighbouring ones, and one of four of those. The number of rounds is known beforehand, and each one shrinks.
pub fn compose(work: &Work<'_>, notes: &Notes, strategy: Strategy) -> Result<Composed, StepError> {
    let nodes: Vec<Vec<Note>> = notes
        .kept
        .iter()
        .enumerate()
        .map(|(part, kept)| kept.iter().map(|n| (part, n.clone())).collect::<Vec<_>>())
        .filter(|node| !node.is_empty())
        .collect();
    let mut usage = Usage::default();
    let mut rounds = 0;
    let current: Vec<Note> = match strategy {
        Strategy::MapReduce => condense_in_rounds(work, nodes.concat(), &mut usage, &mut rounds)?,
        Strategy::Tree => climb(work, nodes, &mut usage, &mut rounds)?,
        Strategy::Auto | Strategy::Stuff | Strategy::Notes | Strategy::Refine => nodes.concat(),
    };
    let mut remarks = Vec::new();
    // A text is written from the notes that matter: twice what it will hold, and no more than the window takes.
    let mut written = None;
    if !fits(work, &current) && notes.are_trusted() {
        let source = choose(&numbered(&current), &work.taste, Limit::words(work.num_words * 2));
        written = write(work, &source, work.limit, &mut usage)?;
        if written.is_none() {
            let made_of = "the summary is made of the notes themselves";
            remarks.push(format!("{made_of}: the model's own text was not carried by them"));
        }
    }
    let written_by_model = written.is_some();
    let sentences = match written {
        Some(sentences) => sentences,
        None => {
            let chosen = choose(&numbered(&current), &work.taste, work.limit);
            if chosen.len() < current.len() {
                let (kept, of) = (chosen.len(), current.len());
                remarks.push(format!("kept {kept} of {of} notes, to be no longer than {}", work.length));
            }
            chosen
        }
    };
    remarks.extend(too_long(work, &sentences));
    Ok(Composed { sentences, written_by_model, rounds, remarks, usage })
}

/// One sentence may be longer than the summary is to be: it is kept whole, and said.
pub fn too_long(work: &Work<'_>, sentences: &[Grounded]) -> Option<String> {
    let words: usize = sentences.iter().map(num_words_of).sum();
    (words > work.limit.words)
        .then(|| format!("the one sentence that is left has {words} words, more than {}", work.length))
}

fn fits(work: &Work<'_>, notes: &[Note]) -> bool {
    work.limit.holds(notes.iter().map(|(_, note)| note))
}

/// Says in one sentence what it all was about; none where nothing that the model says is carried by the notes.
pub fn about(work: &Work<'_>, sentences: &[Grounded]) -> Result<About, StepError> {
    let prompt = texts::render(&texts::ABOUT, &work.write_names(sentences, 25))?;
    let mut question = Question::new(prompt, max_tokens(1), work.asker.sampling());
    question.opening = texts::render(&texts::ABOUT_OPENING, &work.write_names(&[], 25))?;
    let opening = question.opening.clone();
    let answer = work.asker.ask_one(question)?;
    let turns = turns_of(sentences);
    let source: String = Work::note_lines(sentences);
    let cut = answer.finish == FinishReason::Length;
    let said = if opening.is_empty() { answer.text } else { topic_only(&answer.text, &opening) };
    let (kept, _) = work.ground.sift(&said, &turns, &source, "", cut);
    let text = kept.into_iter().next().map(|s| s.text);
    Ok(About { text, usage: answer.usage })
}

fn condense_in_rounds(
    work: &Work<'_>,
    mut notes: Vec<Note>,
    usage: &mut Usage,
    rounds: &mut usize,
) -> Result<Vec<Note>, StepError> {
    let planned = rounds_of(num_words(&notes), work.num_words);
    while *rounds < planned && !fits(work, &notes) {
        let before = num_words(&notes);
        let mut condensed = Vec::new();
        for group in by_words(&notes, (super::part_size(work.asker.window()) / 2).max(2 * WORDS_PER_SENTENCE)) {
            let half = num_words(&group).div_ceil(2);
            condensed.extend(shorten(work, &group, half, usage)?);
        }
        *rounds += 1;
        ensure_shrunk((*rounds, planned), before, num_words(&condensed))?;
        notes = condensed;
    }
    Ok(notes)
}

/// The rounds of halving after which there is twice what is asked for, of which the text is then written.
fn rounds_of(num_words: usize, wanted: usize) -> usize {
    (num_words as f64 / (2 * wanted.max(1)) as f64).log2().ceil().max(0.0) as usize
}

/// Makes one of neighbouring nodes, level by level, until there is one. A node of several has at most half their words.
fn climb(
    work: &Work<'_>,
    mut nodes: Vec<Vec<Note>>,
    usage: &mut Usage,
    rounds: &mut usize,
) -> Result<Vec<Note>, StepError> {
    let planned = levels_of(nodes.len());
    while *rounds < planned {
        let before: usize = nodes.iter().map(|n| num_words(n)).sum();
        if nodes.iter().flatten().count() <= 1 || fits(work, &nodes.concat()) {
            break;
        }
        let mut above = Vec::with_capacity(nodes.len().div_ceil(FAN));
        for group in nodes.chunks(FAN) {
            let joined = group.concat();
            above.push(match group.len() {
                1 => joined,
                _ => shorten(work, &joined, num_words(&joined).div_ceil(2).max(work.num_words), usage)?,
            });
        }
        *rounds += 1;
        let after: usize = above.iter().map(|n| num_words(n)).sum();
        // What is no longer than a summary each, is left for the level above.
        if above.len() == 1 || after < before {
            nodes = above;
            continue;
        }
        let still_joins = above.len() < nodes.len();
        nodes = above;
        if !still_joins {
            ensure_shrunk((*rounds, planned), before, after)?;
        }
    }
    Ok(nodes.concat())
}

/// The levels above `nodes` leaves.
fn levels_of(nodes: usize) -> usize {
    std::iter::successors(Some(nodes), |n| (*n > 1).then(|| n.div_ceil(FAN))).count() - 1
}

fn ensure_shrunk((round, of): (usize, usize), before: usize, after: usize) -> Result<(), StepError> {
    if after < before {
        return Ok(());
    }
    let detail = format!("round {round} of {of} did not shrink the notes: {after} words after {before}");
    Err(StepError { reason: Reason::OverTheWindow, detail })
}

/// Cuts notes into runs of about so many words, at least two notes in each but the last.
fn by_words(notes: &[Note], most: usize) -> Vec<Vec<Note>> {
    let mut groups: Vec<Vec<Note>> = vec![Vec::new()];
    let mut held = 0;
    for note in notes {
        let words = num_words_of(&note.1);
        if held + words > most && groups.last().is_some_and(|group| group.len() > 1) {
            groups.push(Vec::new());
            held = 0;
        }
        held += words;
        if let Some(group) = groups.last_mut() {
            group.push(note.clone());
        }
    }
    groups
}

/// Makes notes shorter: a text of the model's where they carry it and it is short enough, a choice among them where not.
fn shorten(work: &Work<'_>, group: &[Note], words: usize, usage: &mut Usage) -> Result<Vec<Note>, StepError> {
    if num_words(group) <= words {
        return Ok(group.to_vec());
    }
    let limit = Limit::words(words);
    let sentences: Vec<Grounded> = group.iter().map(|(_, n)| n.clone()).collect();
    let shorter = match write(work, &sentences, limit, usage)? {
        Some(written) => written,
        None => choose(&numbered(group), &work.taste, limit),
    };
    let part = |sentence: &Grounded| {
        let of = group.iter().find(|(_, n)| n.turns.iter().any(|t| sentence.turns.contains(t))).or(group.first());
        of.map_or(0, |(part, _)| *part)
    };
    Ok(shorter.into_iter().map(|s| (part(&s), s)).collect())
}

/// Asks for one text; `None` where the notes do not carry enough of it.
fn write(
    work: &Work<'_>,
    notes: &[Grounded],
    limit: Limit,
    usage: &mut Usage,
) -> Result<Option<Vec<Grounded>>, StepError> {
    let num_words = limit.words.min(limit.sentences.saturating_mul(WORDS_PER_SENTENCE));
    let prompt = texts::render(&texts::WRITE, &work.write_names(notes, num_words))?;
    let mut sampling = work.asker.sampling();
    sampling.repetition_penalty = sampling.repetition_penalty.max(1.05);
    let question = Question::new(prompt, max_tokens(num_words.div_ceil(WORDS_PER_SENTENCE)), sampling);
    let Some(Ok(answer)) = work.asker.ask(&[question], 0, 1)?.pop() else { return Ok(None) };
    *usage += answer.usage;
    let instruction = texts::render(&texts::WRITE, &work.write_names(&[], num_words))?;
    let cut = answer.finish == FinishReason::Length;
    let source = Work::note_lines(notes);
    let (kept, dropped) = work.ground.sift(&answer.text, &turns_of(notes), &source, &instruction, cut);
    let share = kept.len() as f64 / (kept.len() + dropped.len()).max(1) as f64;
    let length = kept.iter().map(num_words_of).sum::<usize>() as f64;
    // A text that runs long is shortened as notes are.
    let kept = choose(&kept.iter().enumerate().collect::<Vec<_>>(), &Taste::default(), limit);
    Ok((share >= LEAST_KEPT && length >= LEAST_LENGTH * num_words as f64 && limit.holds(&kept)).then_some(kept))
}

fn num_words(notes: &[Note]) -> usize {
    notes.iter().map(|(_, note)| num_words_of(note)).sum()
}

fn numbered(notes: &[Note]) -> Vec<(usize, &Grounded)> {
    notes.iter().map(|(part, note)| (*part, note)).collect()
}

pub fn turns_of(sentences: &[Grounded]) -> Vec<usize> {
    sentences.iter().flat_map(|s| s.turns.iter().copied()).collect::<BTreeSet<_>>().into_iter().collect()
}

/// The turns that earlier steps gave as evidence, wherever they stand in the values given.
pub fn given_turns(document: &crate::corpus::document::Document, given: &[Value]) -> BTreeSet<usize> {
    fn walk(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(map) => map.values().for_each(|v| walk(v, found)),
            Value::Array(items) => items.iter().for_each(|v| walk(v, found)),
            Value::String(text) => {
                found.insert(text.clone());
            }
            _ => {}
        }
    }
    let mut texts = BTreeSet::new();
    given.iter().for_each(|v| walk(v, &mut texts));
    let turns = document.turns.iter().enumerate();
    turns.filter(|(_, t)| texts.contains(&t.id.to_string())).map(|(i, _)| i).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(words: usize) -> Note {
        (0, Grounded { text: "word ".repeat(words), turns: vec![0], score: 1.0 })
    }

    #[test]
    fn the_rounds_are_known_beforehand() {
        assert_eq!([100, 400, 401, 1600].map(|words| rounds_of(words, 200)), [0, 0, 1, 2]);
        assert_eq!([0, 1, 2, 4, 5, 16, 17].map(levels_of), [0, 0, 1, 1, 2, 2, 3]);
    }

    #[test]
    fn a_round_that_does_not_shrink_is_an_error_that_says_so() {
        assert_eq!(ensure_shrunk((1, 3), 100, 99), Ok(()));
        let error = ensure_shrunk((2, 3), 100, 100).unwrap_err();
        assert_eq!(error.reason, Reason::OverTheWindow);
        assert!(error.detail.contains("round 2 of 3 did not shrink"), "{}", error.detail);
    }

    #[test]
    fn groups_hold_two_notes_so_that_halving_drops_one() {
        let notes: Vec<Note> = [30, 30, 30, 5, 5].map(note).to_vec();
        let sizes: Vec<usize> = by_words(&notes, 20).iter().map(Vec::len).collect();
        assert_eq!(sizes, [2, 2, 1]);
    }
}
