//! `refine`: one text that is taken through the document part by part, each time with what the next part adds. It never
//! grows beyond the length asked for; what the model writes counts only where the text so far or the part carries it.

use super::choose::{Taste, choose};
use super::compose::{Composed, too_long, turns_of};
use super::notes::{Notes, max_tokens, most_telling, start_sampling};
use super::{Grounded, Work};
use crate::inference::engine::{FinishReason, Usage};
use crate::steps::StepError;
use crate::steps::ask::Question;
use crate::steps::parts::Part;
use crate::steps::prompt::texts;
use crate::steps::text::similarity;

/// The text is taken over where at least this share of it is carried.
const LEAST_KEPT: f64 = 0.6;

/// Reads the parts in order, each once and, where the call failed, once more.
pub fn refine(work: &Work<'_>, parts: &[Part]) -> Result<(Notes, Composed), StepError> {
    let mut notes = Notes::new(parts.len());
    let mut text: Vec<Grounded> = Vec::new();
    let (mut kept_as_written, mut usage) = (0, Usage::default());
    let mut first_error = None;
    for (i, part) in parts.iter().enumerate() {
        let question = question(work, part, &text)?;
        let mut answer = work.asker.ask(std::slice::from_ref(&question), i, parts.len())?.pop();
        if matches!(answer, Some(Err(_))) {
            answer = work.asker.ask(&[question], i, parts.len())?.pop();
        }
        let answer = match answer {
            Some(Ok(answer)) => answer,
            Some(Err(error)) => {
                notes.fail(error.to_string());
                first_error.get_or_insert(error);
                continue;
            }
            None => continue,
        };
        usage += answer.usage;
        notes.was_read[i] = true;
        let mut about = turns_of(&text);
        about.extend(part.turns());
        about.sort_unstable();
        about.dedup();
        let source = format!("{}\n{}", Work::note_lines(&text), part.speech(work.cx.document));
        let instruction = texts::render(&texts::REFINE, &work.refine_names("", &[]))?;
        let cut = answer.finish == FinishReason::Length;
        let (kept, dropped) = work.ground.sift(&work.without_ids(&answer.text), &about, &source, &instruction, cut);
        let share = kept.len() as f64 / (kept.len() + dropped.len()).max(1) as f64;
        notes.dropped.extend(dropped);
        let adds = kept.iter().any(|s| s.turns.iter().any(|t| part.turns().contains(t)));
        let is_taken = !kept.is_empty() && share >= LEAST_KEPT && (adds || work.cx.document.turns.is_empty());
        let mut next = if is_taken {
            kept_as_written += 1;
            kept
        } else {
            // What the model wrote is not believed: the text stays, and the part is quoted beside it.
            let mut next = text.clone();
            if let Some((_, quote)) = most_telling(work, part) {
                notes.quoted(&quote.text);
                next.push(quote);
            }
            next
        };
        // A sentence of the text so far that the model left out for no new one is not lost while there is room.
        for old in text {
            if next.iter().all(|n| similarity(&n.text, &old.text) < crate::steps::grounding::SAME) {
                next.push(old);
            }
        }
        next.sort_by_key(|s| s.turns.first().copied());
        let numbered: Vec<(usize, &Grounded)> = next.iter().enumerate().collect();
        text = choose(&numbered, &work.taste, work.limit);
    }
    if let (true, Some(error)) = (notes.was_read.iter().all(|read| !read), first_error) {
        return Err(error.into());
    }
    notes.usage = usage;
    let numbered: Vec<(usize, &Grounded)> = text.iter().enumerate().collect();
    let sentences = if text.is_empty() { Vec::new() } else { choose(&numbered, &Taste::default(), work.limit) };
    notes.forget_quotes_but(&sentences);
    let read = notes.was_read.iter().filter(|read| **read).count();
    let mut remarks: Vec<String> = too_long(work, &sentences).into_iter().collect();
    if kept_as_written < read {
        let n = read - kept_as_written;
        remarks.push(format!(
            "at {n} of {read} parts the text was kept and the part quoted: what the model wrote was not carried"
        ));
    }
    let written_by_model = sentences.iter().any(|s| !notes.is_quote(&s.text));
    Ok((notes, Composed { sentences, written_by_model, rounds: parts.len(), remarks, usage: Usage::default() }))
}

fn question(work: &Work<'_>, part: &Part, text: &[Grounded]) -> Result<Question, StepError> {
    let prompt = texts::render(&texts::REFINE, &work.refine_names(&work.shown(part), text))?;
    let sentences = work.num_words.div_ceil(super::notes::WORDS_PER_SENTENCE);
    Ok(Question::new(prompt, max_tokens(sentences), start_sampling(work)))
}

impl Work<'_> {
    /// The names that the prompt for a refined text sees.
    pub(super) fn refine_names(&self, text: &str, so_far: &[Grounded]) -> serde_json::Value {
        let mut names = self.note_names(text, 0, false);
        names["notes"] = Self::note_lines(so_far).into();
        names["words"] = self.num_words.into();
        names
    }
}
