//! Notes: what each part says, in sentences that the part carries.

use std::collections::BTreeSet;

use serde_json::json;

use super::{Dropped, Grounded, Work};
use crate::inference::engine::{FinishReason, Usage};
use crate::inference::sampler::SamplingParams;
use crate::steps::ask::Question;
use crate::steps::parts::Part;
use crate::steps::prompt::texts;
use crate::steps::text::{content, count_words, sentences, without_fillers};
use crate::steps::{Coverage, StepError};

/// The length of a plain English or German sentence, for turning words into sentences and back.
pub const WORDS_PER_SENTENCE: usize = 18;
pub const MOST_SENTENCES: usize = 12;
/// Where one sentence is asked for, the second need not be written. A period alone also stands in "Mr.".
const NEXT_SENTENCE: &[&str] = &["\n", ". They", ". The", ". It", ". In", ". He", ". She", ". This"];
/// A topic of fewer words with content is not worth its sentence.
const LEAST_TOPIC: usize = 3;
/// A quote that says less than this share of what quotes say on average is a pleasantry.
const LEAST_TELLING: f64 = 0.6;
/// A part asks for no more than one sentence per this many tokens: more would have to be made up.
const TOKENS_PER_SENTENCE: usize = 200;
/// Without it a small model goes round in circles; higher, and it avoids the words of the text.
const REPETITION_PENALTY: f32 = 1.1;
const REPETITION_WINDOW: usize = 96;
/// The second try is the only place where chance plays a part; its seed is the file's.
const RETRY_TEMPERATURE: f32 = 0.4;

/// The notes of all parts.
pub struct Notes {
    pub kept: Vec<Vec<Grounded>>, // per part, in order
    pub was_read: Vec<bool>,      // per part
    pub dropped: Vec<Dropped>,
    pub usage: Usage,
    num_unwritten: usize, // parts that are quoted because nothing written about them was kept
    quotes: BTreeSet<String>,
    errors: Vec<String>,
}

impl Notes {
    pub fn new(num_parts: usize) -> Self {
        Self {
            kept: vec![Vec::new(); num_parts],
            was_read: vec![false; num_parts],
            dropped: Vec::new(),
            usage: Usage::default(),
            num_unwritten: 0,
            quotes: BTreeSet::new(),
            errors: Vec::new(),
        }
    }

    pub fn fail(&mut self, error: String) {
        self.errors.push(error);
    }

    pub fn quoted(&mut self, sentence: &str) {
        self.num_unwritten += 1;
        self.quotes.insert(sentence.to_owned());
    }

    /// Counts as quoted only what stands among these sentences.
    pub fn forget_quotes_but(&mut self, sentences: &[Grounded]) {
        self.quotes.retain(|quote| sentences.iter().any(|s| s.text == *quote));
    }

    /// Sets free sentences aside where the model could not write about most parts: what is left of them is babble that
    /// the text happens to carry. Sentences with an opening of ours only name a topic, and stay.
    fn distrust(&mut self, has_opening: &[bool]) {
        let failed = self.kept.iter().filter(|kept| kept.is_empty()).count();
        if failed * 2 <= self.kept.len() {
            return;
        }
        for (kept, has_opening) in self.kept.iter_mut().zip(has_opening) {
            if !has_opening {
                self.dropped.extend(kept.drain(..).map(|_| Dropped::NotCarried));
            }
        }
    }

    /// Quotes every part that was read and has no note of its own; the parts that hold pleasantries alone stay empty.
    fn quote(&mut self, work: &Work<'_>, parts: &[Part]) {
        let empty = (0..parts.len()).filter(|&i| self.was_read[i] && self.kept[i].is_empty());
        let found: Vec<(usize, f64, Grounded)> =
            empty.filter_map(|i| most_telling(work, &parts[i]).map(|(score, quote)| (i, score, quote))).collect();
        let mean = found.iter().map(|(_, score, _)| score).sum::<f64>() / found.len().max(1) as f64;
        for (i, _, quote) in found.into_iter().filter(|(_, score, _)| *score >= LEAST_TELLING * mean) {
            self.quotes.insert(quote.text.clone());
            self.kept[i].push(quote);
            self.num_unwritten += 1;
        }
        self.quote_answers(work, parts);
    }

    /// Where a question is asked, its answer is most often said in so many words: the sentences that have to do with it
    /// most are quoted too, beside what the model wrote.
    fn quote_answers(&mut self, work: &Work<'_>, parts: &[Part]) {
        let Some(relevance) = work.taste.relevance.as_ref().filter(|_| work.taste.is_asked) else { return };
        let document = work.cx.document;
        let read = parts.iter().enumerate().filter(|(i, _)| self.was_read[*i]);
        let mut found: Vec<(f64, usize, Grounded)> = read
            .flat_map(|(i, part)| telling(work, part).into_iter().map(move |(score, quote)| (score, i, quote)))
            .map(|(score, i, quote)| (score * relevance.of(&quote.turns), i, quote))
            .filter(|(score, _, _)| *score > 0.0)
            .collect();
        found.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.2.turns.cmp(&b.2.turns)));
        found.dedup_by(|a, b| a.2 == b.2);
        // Twice what there is room for, so that there is a choice.
        let most = (2 * work.num_words).div_ceil(WORDS_PER_SENTENCE);
        for (_, i, quote) in found.into_iter().take(most) {
            if !self.kept[i].contains(&quote) {
                self.quotes.insert(quote.text.clone());
                self.kept[i].push(quote);
            }
        }
        for kept in &mut self.kept {
            kept.sort_by_key(|note| note.turns.first().copied().filter(|i| *i < document.turns.len()));
        }
    }

    /// Keeps at most `most` sentences of an answer. An answer of which most had to be dropped is not believed in the
    /// rest: what is left of babble can be carried by the text by accident.
    fn keep(&mut self, part: usize, mut kept: Vec<Grounded>, dropped: Vec<Dropped>, most: usize, opening: &str) {
        let bad = dropped.iter().filter(|d| !matches!(d, Dropped::Repeated | Dropped::CutOff)).count();
        if bad > kept.len() {
            self.dropped.extend(kept.drain(..).map(|_| Dropped::NotCarried));
        }
        if most == 1 {
            // "They also" says nothing without the sentence before it, and "spoke about training" not much.
            let written = kept.len();
            let told = |k: &Grounded| k.text.strip_prefix(opening).map_or(0, |topic| content(topic).len());
            kept.retain(|k| told(k) >= if opening.is_empty() { 1 } else { LEAST_TOPIC });
            self.dropped.extend(std::iter::repeat_n(Dropped::SaysLittle, written - kept.len()));
        }
        kept.truncate(most);
        self.dropped.extend(dropped);
        self.kept[part] = kept;
    }

    pub fn num_quoted(&self) -> usize {
        self.num_unwritten
    }

    /// Whether the model could write about most parts: one that could not is not asked to write the whole.
    pub fn are_trusted(&self) -> bool {
        self.num_unwritten * 3 <= self.was_read.len()
    }

    pub fn is_quote(&self, sentence: &str) -> bool {
        self.quotes.contains(sentence)
    }

    /// Why the document is partial: the turns or bytes that were not read, and the first error.
    pub fn failures(&self, coverage: &Coverage) -> Vec<String> {
        let Some(error) = self.errors.first() else { return Vec::new() };
        vec![format!("did not read {} {}: {error}", coverage.unit, coverage.unread.join(", "))]
    }
}

/// The most tokens that this many sentences may take.
pub fn max_tokens(sentences: usize) -> usize {
    sentences * 40 + 16
}

/// Takes notes of every part. Fails only when no part could be read at all.
pub fn take(work: &Work<'_>, parts: &[Part]) -> Result<Notes, StepError> {
    let document = work.cx.document;
    let num_sentences: Vec<usize> = parts.iter().map(|p| num_sentences(work.num_words, parts.len(), p)).collect();
    let instruction = texts::render(&texts::NOTE, &work.note_names("", 9, false))?;
    let question = |i: usize, again: bool| -> Result<Question, StepError> {
        let sentences = if again { 1 } else { num_sentences[i] };
        let names = work.note_names(&work.shown(&parts[i]), sentences, again);
        let mut sampling = start_sampling(work);
        if again {
            sampling.temperature = sampling.temperature.max(RETRY_TEMPERATURE);
            sampling.seed = sampling.seed.wrapping_add(1);
        }
        let mut question = Question::new(texts::render(&texts::NOTE, &names)?, max_tokens(sentences), sampling);
        question.opening = opening(work, &parts[i], i, sentences)?;
        if sentences == 1 {
            question.stop = NEXT_SENTENCE.iter().map(|s| s.to_string()).collect();
        }
        Ok(question)
    };

    let mut notes = Notes::new(parts.len());
    let mut first_error = None;
    let mut settled = vec![false; parts.len()];
    let mut openings = vec![false; parts.len()];
    let mut todo: Vec<usize> = (0..parts.len()).collect();
    for again in [false, true] {
        let questions = todo.iter().map(|&i| question(i, again)).collect::<Result<Vec<_>, _>>()?;
        let done = if again { parts.len() } else { 0 };
        let answers = work.asker.ask(&questions, done, parts.len() + todo.len() * usize::from(again))?;
        for ((&i, answer), question) in todo.iter().zip(answers).zip(&questions) {
            match answer {
                Ok(answer) => {
                    notes.usage += answer.usage;
                    notes.was_read[i] = true;
                    let cut = answer.finish == FinishReason::Length;
                    let said_nothing = answer.text[question.opening.len().min(answer.text.len())..].trim().is_empty();
                    let answered = work.without_ids(&answer.text);
                    let text =
                        if question.opening.is_empty() { answered } else { topic_only(&answered, &question.opening) };
                    settled[i] = !said_nothing;
                    openings[i] = !question.opening.is_empty();
                    let about = parts[i].turns();
                    let (kept, dropped) =
                        work.ground.sift(&text, &about, &parts[i].speech(document), &instruction, cut);
                    notes.keep(i, kept, dropped, if again { 1 } else { num_sentences[i] }, &question.opening);
                }
                Err(error) => {
                    notes.errors.push(error.to_string());
                    first_error.get_or_insert(error);
                }
            }
        }
        // Asked once more where nothing was said or the call failed: a full cache may be empty by now. What a model
        // made up once it makes up again; those parts are quoted.
        todo.retain(|&i| !settled[i]);
    }
    if let (true, Some(error)) = (notes.was_read.iter().all(|read| !read), first_error) {
        return Err(error.into());
    }
    if notes.was_read.iter().all(|read| *read) {
        notes.errors.clear(); // the second try has read it after all
    }
    notes.distrust(&openings);
    notes.quote(work, parts);
    Ok(notes)
}

/// How sentences about a part are decoded.
pub(super) fn start_sampling(work: &Work<'_>) -> SamplingParams {
    let mut sampling = work.asker.sampling();
    sampling.repetition_penalty = sampling.repetition_penalty.max(REPETITION_PENALTY);
    sampling.repetition_window = sampling.repetition_window.max(REPETITION_WINDOW);
    sampling
}

/// Returns an answer that names a topic without what it goes on to claim. Small models name topics well and then add
/// agreements, reasons and numbers that nobody spoke of, in words that were spoken.
pub(super) fn topic_only(answer: &str, opening: &str) -> String {
    let (topic, rest) = answer.split_at(sentences(answer).first().map_or(answer.len(), |first| first.end));
    let after = opening.len().min(topic.len());
    let breaks =
        [", ", "; ", " which ", " but ", " because ", " where ", " while ", " and they ", " and he ", " and she "];
    let mut end = breaks.iter().filter_map(|b| topic.get(after..)?.find(b)).min().map_or(topic.len(), |at| after + at);
    // "and agreed to", "and offered": a verb in the past is a claim, "and needed parts" is lost with it.
    let mut from = after;
    while let Some(at) = topic.get(from..end).and_then(|t| t.find(" and ")).map(|at| from + at) {
        let next = topic[at + 5..].split([' ', '.']).next().unwrap_or_default();
        if next.ends_with("ed") || matches!(next, "is" | "was" | "how" | "had" | "has" | "gave" | "made" | "took") {
            end = at;
            break;
        }
        from = at + 5;
    }
    let finished = if end < topic.len() { "." } else { "" };
    format!("{}{finished}{rest}", topic[..end].trim_end())
}

/// The words that a note begins with, naming the two who say most in the part.
fn opening(work: &Work<'_>, part: &Part, index: usize, sentences: usize) -> Result<String, StepError> {
    let document = work.cx.document;
    let mut spoken: Vec<(&str, usize)> = Vec::new(); // in the order of their first turn here
    for piece in &part.pieces {
        let Some(speaker) = piece.turn.and_then(|i| document.turns[i].speaker.as_deref()) else { continue };
        match spoken.iter_mut().find(|(name, _)| *name == speaker) {
            Some((_, bytes)) => *bytes += piece.range.len(),
            None => spoken.push((speaker, piece.range.len())),
        }
    }
    while spoken.len() > 2 {
        let least = spoken.iter().map(|(_, bytes)| *bytes).min();
        let at = spoken.iter().rposition(|(_, bytes)| Some(*bytes) == least);
        at.map(|at| spoken.remove(at));
    }
    let people: Vec<&str> = spoken.into_iter().map(|(name, _)| name).collect();
    let names = json!({ "people": people, "sentences": sentences, "index": index, "language_name": work.language });
    Ok(texts::render(&texts::NOTE_OPENING, &names)?)
}

/// Sentences to ask a part for: half as many again as its share of the length, so that there is a choice.
fn num_sentences(num_words: usize, num_parts: usize, part: &Part) -> usize {
    let share = (num_words * 3).div_ceil(2 * WORDS_PER_SENTENCE * num_parts);
    share.clamp(1, (part.num_tokens / TOKENS_PER_SENTENCE).clamp(1, MOST_SENTENCES))
}

/// Returns the sentence of a part that has most to do with the rest of it, or with what is asked, as a quotation with
/// its speaker. Greetings and questions say little, so that a part made of them alone gives none.
pub(super) fn most_telling(work: &Work<'_>, part: &Part) -> Option<(f64, Grounded)> {
    let relevance = |quote: &Grounded| work.taste.relevance.as_ref().map_or(1.0, |r| 0.5 + r.of(&quote.turns));
    let weighed = telling(work, part).into_iter().map(|(score, quote)| (score * relevance(&quote), quote));
    weighed.fold(None, |best: Option<(f64, Grounded)>, (score, quote)| match best {
        Some((most, _)) if most >= score => best,
        _ => Some((score, quote)),
    })
}

/// The sentences of a part that can be quoted, each with how much it says.
fn telling(work: &Work<'_>, part: &Part) -> Vec<(f64, Grounded)> {
    const WORDS: std::ops::RangeInclusive<usize> = 7..=40;
    let document = work.cx.document;
    let mut found = Vec::new();
    for piece in &part.pieces {
        let text = &document.text[piece.range.clone()];
        for range in sentences(text) {
            let sentence = crate::steps::text::squeeze(&text[range]);
            if !WORDS.contains(&count_words(&sentence)) || sentence.ends_with(['?', '？', '؟']) {
                continue;
            }
            let score = work.ground.telling(&sentence);
            let speaker = piece.turn.and_then(|i| document.turns[i].speaker.as_deref());
            let sentence = without_fillers(&sentence);
            let text = speaker.map_or_else(|| sentence.clone(), |s| format!("{s}: “{sentence}”"));
            found.push((score, Grounded { text, turns: piece.turn.into_iter().collect(), score: 1.0 }));
        }
    }
    found
}

impl Work<'_> {
    /// Notes as the model reads them, a line each.
    pub(super) fn note_lines(sentences: &[Grounded]) -> String {
        sentences.iter().map(|s| format!("- {}", s.text)).collect::<Vec<_>>().join("\n")
    }

    /// The names that the prompts for a whole text see.
    pub(super) fn write_names(&self, sentences: &[Grounded], num_words: usize) -> serde_json::Value {
        let given = self.given.iter().filter(|g| !g.is_null()).map(|g| g.to_string()).collect::<Vec<_>>().join("\n");
        json!({
            "notes": Self::note_lines(sentences), "words": num_words, "focus": self.focus, "query": self.query, "given": given,
            "transcript": !self.cx.document.turns.is_empty(), "language_name": self.language,
            "title": self.cx.document.meta.get("title").cloned().unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_stays_and_what_is_claimed_about_it_goes() {
        let check = |answer: &str, expected: &str| assert_eq!(topic_only(answer, "Anna and Bo talked about"), expected);
        check(
            "Anna and Bo talked about the school system and agreed to sign it.",
            "Anna and Bo talked about the school system.",
        );
        check(
            "Anna and Bo talked about tickets and tills, which is odd. Then",
            "Anna and Bo talked about tickets and tills. Then",
        );
        check("Anna and Bo talked about tickets and tills.", "Anna and Bo talked about tickets and tills.");
    }
}
