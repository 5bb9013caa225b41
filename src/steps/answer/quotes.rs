//! What may be quoted: sentences of the passages, each with its place, and no other words.

use std::ops::Range;

use serde_json::{Value, json};

use super::evidence;
use crate::corpus::index::{Hit, Language, language_of, shared_terms};
use crate::steps::text::{sentences, squeeze};

/// A longer sentence is offered in pieces.
const LONGEST: usize = 240; // characters
/// So many are offered, those that share most with the question: the decoder chooses among what is to the point.
const MOST: usize = 24;
/// A passage that speaks for less than this share of what the best one does is about something else: a small model that
/// may quote it will, and says of a river what was asked of a game.
const LEAST_EVIDENCE: f64 = 0.5;

/// The quotes that an answer may bring.
pub struct Quotes {
    hits: Vec<Hit>,
    all: Vec<Quote>, // in the order of the passages
    best: Option<usize>,
}

struct Quote {
    hit: usize,
    range: Range<usize>, // bytes of the passage's text
    text: String,        // of that range, white space made single spaces
}

impl Quotes {
    pub fn of(question: &str, hits: &[Hit]) -> Self {
        let language = language_of(question);
        let mut all = Vec::new();
        let least = LEAST_EVIDENCE * hits.iter().map(evidence).fold(0.0, f64::max);
        for (hit, h) in hits.iter().enumerate().filter(|(_, h)| evidence(h) >= least) {
            for range in sentences(&h.passage.text).into_iter().flat_map(|r| pieces(&h.passage.text, r)) {
                let text = squeeze(&h.passage.text[range.clone()]);
                if !text.is_empty() && !all.iter().any(|q: &Quote| q.text == text) {
                    all.push(Quote { hit, range, text });
                }
            }
        }
        let score = |quote: &Quote| {
            let own = Language::of_code(&hits[quote.hit].passage.language).or(language);
            shared_terms(question, &[&quote.text], own)
        };
        let mut ranked: Vec<(f64, usize)> = all.iter().map(score).zip(0..).collect();
        // The best passages come first, so equals stay in their order.
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        ranked.truncate(MOST);
        let best = ranked.first().map(|(_, i)| *i);
        let mut chosen: Vec<usize> = ranked.into_iter().map(|(_, i)| i).collect();
        chosen.sort_unstable();
        let best = best.and_then(|b| chosen.iter().position(|c| *c == b));
        let mut next = chosen.into_iter().peekable();
        let all = all.into_iter().enumerate().filter(|(i, _)| next.next_if_eq(i).is_some()).map(|(_, q)| q).collect();
        Self { hits: hits.to_vec(), all, best }
    }

    pub fn texts(&self) -> Vec<&str> {
        self.all.iter().map(|q| q.text.as_str()).collect()
    }

    pub fn find(&self, text: &str) -> Option<usize> {
        self.all.iter().position(|q| q.text == text)
    }

    pub fn text(&self, index: usize) -> &str {
        &self.all[index].text
    }

    /// The one that shares most with the question.
    pub fn best(&self) -> Option<usize> {
        self.best
    }

    /// The whole passage that a quote is from, and its language.
    pub fn passage(&self, index: usize) -> (&str, Option<Language>) {
        let passage = &self.hits[self.all[index].hit].passage;
        (&passage.text, Language::of_code(&passage.language))
    }

    /// A quote as a citation: its words as they stand in the passage, and where.
    pub fn citation(&self, index: usize, number: usize) -> Value {
        let quote = &self.all[index];
        let passage = &self.hits[quote.hit].passage;
        json!({
            "number": number, "quote": &passage.text[quote.range.clone()], "passage": passage.id(), "file": passage.file,
            "place": passage.place(), "pages": passage.pages.map(|(a, b)| json!([a, b])),
            "at": passage.start_ms.map(crate::corpus::document::timecode),
            "start": quote.range.start, "end": quote.range.end, "text": passage.text,
            "before": &passage.text[..quote.range.start], "after": &passage.text[quote.range.end..],
        })
    }
}

/// A sentence, or its pieces where it is too long, cut between words.
fn pieces(text: &str, range: Range<usize>) -> Vec<Range<usize>> {
    if text[range.clone()].chars().count() <= LONGEST {
        return vec![range];
    }
    let mut found = Vec::new();
    let (mut start, mut length, mut space) = (range.start, 0, None);
    for (offset, c) in text[range.clone()].char_indices() {
        let at = range.start + offset;
        if c.is_whitespace() {
            space = Some(at);
        }
        length += 1;
        if length > LONGEST {
            let cut = space.filter(|s| *s > start).unwrap_or(at);
            found.push(start..cut);
            start = cut;
            length = text[cut..at].chars().count() + 1;
            space = None;
        }
    }
    found.push(start..range.end);
    found.into_iter().map(|r| trimmed(text, r)).filter(|r| !r.is_empty()).collect()
}

fn trimmed(text: &str, range: Range<usize>) -> Range<usize> {
    let part = &text[range.clone()];
    let start = range.start + part.len() - part.trim_start().len();
    start..start + part.trim().len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::index::{Found, Passage};

    #[test]
    fn a_passage_about_something_else_is_not_quoted_and_a_near_one_is() {
        let hit = |index, text: &str, covers| Hit {
            passage: Passage::given("a.md", index, text),
            score: 1.0,
            found: Found { covers, ..Found::default() },
        };
        let hits = [
            hit(0, "Marlee Matlin signed the anthem. She used American Sign Language.", 0.8),
            hit(1, "The anthem was sung by Lady Gaga.", 0.4),
            hit(2, "The river has names in each language.", 0.2),
        ];
        let quotes = Quotes::of("In which language did Marlee Matlin sign the anthem?", &hits);
        let texts = quotes.texts();
        assert_eq!(texts.len(), 3, "{texts:?}");
        assert!(texts.contains(&"She used American Sign Language."), "it shares little itself, its passage much");
        assert!(quotes.find("The river has names in each language.").is_none());
    }

    #[test]
    fn pieces_of_a_long_sentence_are_words_of_the_text() {
        let text = format!("{}end. 我{}。", "word ".repeat(120), "们".repeat(600));
        let pieces = pieces(&text, 0..text.len());
        assert!(pieces.len() > 3);
        for piece in &pieces {
            assert!(text[piece.clone()].chars().count() <= LONGEST && !text[piece.clone()].trim().is_empty());
        }
        let joined: String = pieces.iter().map(|p| squeeze(&text[p.clone()])).collect::<Vec<_>>().join("");
        assert_eq!(joined.replace(' ', ""), text.split_whitespace().collect::<String>());
    }
}
