//! One text from notes: written by the model where the notes carry what it writes, chosen from the notes where not.

use std::collections::BTreeSet;

use serde_json::Value;

use super::choose::{choose, num_words_of};
use super::notes::{Notes, WORDS_PER_SENTENCE, max_tokens, topic_only};
use super::{Grounded, Work};
use crate::inference::engine::{FinishReason, Usage};
use crate::steps::StepError;
use crate::steps::ask::Question;
use crate::steps::prompt::texts;

/// A text of the model's is kept when the notes carry at least this share of its sentences.
const LEAST_KEPT: f64 = 0.75;
/// And when it is at least this share of what was asked for, so that a stub does not replace notes.
const LEAST_LENGTH: f64 = 0.4;

pub struct Composed {
    pub sentences: Vec<Grounded>,
    pub written_by_model: bool,
    pub remark: Option<String>,
    pub usage: Usage,
}

#[derive(Default)]
pub struct About {
    pub text: Option<String>,
    pub usage: Usage,
}

/// Composes the summary. With `in_rounds`, notes are first condensed to half, and half again, until one text is left
/// to write; the number of rounds is known beforehand, and each one shrinks, whatever the model writes.
pub fn compose(work: &Work<'_>, notes: &Notes, in_rounds: bool) -> Result<Composed, StepError> {
    let given = given_turns(work);
    let mut current: Vec<(usize, Grounded)> =
        notes.kept.iter().enumerate().flat_map(|(part, kept)| kept.iter().map(move |n| (part, n.clone()))).collect();
    let mut usage = Usage::default();
    let total = |notes: &[(usize, Grounded)]| notes.iter().map(|(_, n)| num_words_of(n)).sum::<usize>();
    let fits = |notes: &[(usize, Grounded)]| total(notes) <= work.num_words + work.num_words / 10;

    if in_rounds {
        let mut rounds = (total(&current) as f64 / (2.0 * work.num_words as f64)).log2().ceil().max(0.0) as usize;
        while rounds > 0 && !fits(&current) {
            current = condense(work, &current, &given, &mut usage)?;
            rounds -= 1;
        }
    }
    if fits(&current) {
        let sentences = choose(&numbered(&current), &given, work.num_words);
        return Ok(Composed { sentences, written_by_model: false, remark: None, usage });
    }
    if !notes.are_trusted() {
        let sentences = choose(&numbered(&current), &given, work.num_words);
        return Ok(Composed { sentences, written_by_model: false, remark: None, usage });
    }
    // A text is written from the notes that matter: twice what it will hold, and no more than the window takes.
    let source = choose(&numbered(&current), &given, work.num_words * 2);
    let written = write(work, &source, work.num_words, &mut usage)?;
    let (sentences, written_by_model) = match written {
        Some(sentences) => (sentences, true),
        None => (choose(&numbered(&current), &given, work.num_words), false),
    };
    let remark = (!written_by_model).then(|| {
        "the summary is made of the notes themselves: the model's own text was not carried by them".to_owned()
    });
    Ok(Composed { sentences, written_by_model, remark, usage })
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

/// Halves notes, group by group; a group that the model does not shorten is halved by choice.
fn condense(
    work: &Work<'_>,
    notes: &[(usize, Grounded)],
    given: &BTreeSet<usize>,
    usage: &mut Usage,
) -> Result<Vec<(usize, Grounded)>, StepError> {
    let group_words = (super::part_size(work.asker.window()) / 2).max(2 * WORDS_PER_SENTENCE);
    let mut groups: Vec<Vec<(usize, Grounded)>> = vec![Vec::new()];
    let mut held = 0;
    for note in notes {
        if held + num_words_of(&note.1) > group_words && held > 0 {
            groups.push(Vec::new());
            held = 0;
        }
        held += num_words_of(&note.1);
        if let Some(group) = groups.last_mut() {
            group.push(note.clone());
        }
    }
    let mut condensed = Vec::new();
    for group in groups {
        let sentences: Vec<Grounded> = group.iter().map(|(_, n)| n.clone()).collect();
        let half = sentences.iter().map(num_words_of).sum::<usize>().div_ceil(2);
        let shorter = match write(work, &sentences, half, usage)? {
            Some(written) if written.iter().map(num_words_of).sum::<usize>() <= half + half / 4 => written,
            _ => choose(&numbered(&group), given, half),
        };
        let part = group.first().map_or(0, |(part, _)| *part);
        condensed.extend(shorter.into_iter().map(|s| (part, s)));
    }
    Ok(condensed)
}

/// Asks for one text; `None` where the notes do not carry enough of it.
fn write(
    work: &Work<'_>,
    notes: &[Grounded],
    num_words: usize,
    usage: &mut Usage,
) -> Result<Option<Vec<Grounded>>, StepError> {
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
    let kept = choose(&kept.iter().enumerate().collect::<Vec<_>>(), &BTreeSet::new(), num_words);
    Ok((share >= LEAST_KEPT && length >= LEAST_LENGTH * num_words as f64).then_some(kept))
}

fn numbered(notes: &[(usize, Grounded)]) -> Vec<(usize, &Grounded)> {
    notes.iter().map(|(part, note)| (*part, note)).collect()
}

fn turns_of(sentences: &[Grounded]) -> Vec<usize> {
    sentences.iter().flat_map(|s| s.turns.iter().copied()).collect::<BTreeSet<_>>().into_iter().collect()
}

/// The turns that earlier steps gave as evidence, wherever they stand in the values given.
fn given_turns(work: &Work<'_>) -> BTreeSet<usize> {
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
    work.given.iter().for_each(|v| walk(v, &mut texts));
    let turns = work.cx.document.turns.iter().enumerate();
    turns.filter(|(_, t)| texts.contains(&t.id.to_string())).map(|(i, _)| i).collect()
}
