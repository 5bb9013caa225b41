//! What is found: a passage with its place in its file, and where a hit came from.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

/// A part of a document that can be found and cited.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Passage {
    pub file: String, // its name in the index: a path, most often relative
    pub index: usize, // among the passages of its file, from 0
    pub text: String,
    pub range: Range<usize>, // bytes of the document's text
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub title: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headings: Vec<String>, // outermost first
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pages: Option<(u32, u32)>, // first and last
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turns: Option<(u32, u32)>, // first and last
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_ms: Option<u64>, // of the first turn that has a time
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub language: String, // two letters; empty where it is not known
    /// What filters can ask for, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, String>,
}

impl Passage {
    /// Returns a text that stands in no file of an index, whole: nothing is known of it but what it is called.
    pub fn given(file: &str, index: usize, text: &str) -> Self {
        Self {
            file: file.into(),
            index,
            text: text.into(),
            range: 0..text.len(),
            title: String::new(),
            headings: Vec::new(),
            pages: None,
            turns: None,
            start_ms: None,
            language: String::new(),
            fields: BTreeMap::new(),
        }
    }

    /// Returns the passage's name: its file and its number there.
    pub fn id(&self) -> String {
        passage_id(&self.file, self.index)
    }

    /// Returns its place as people read it: `rules.pdf, page 4` or `call.vtt, 0:12:03` or `rules.md, Leave > Sick`.
    pub fn place(&self) -> String {
        let mut place = self.file.clone();
        match (self.pages, self.start_ms, self.headings.as_slice()) {
            (Some((first, last)), ..) if first == last => place.push_str(&format!(", page {first}")),
            (Some((first, last)), ..) => place.push_str(&format!(", pages {first}-{last}")),
            (None, Some(ms), _) => {
                place.push_str(&format!(", {}", crate::corpus::document::timecode(ms)));
            }
            (None, None, headings) if !headings.is_empty() => place.push_str(&format!(", {}", headings.join(" > "))),
            _ => {}
        }
        place
    }
}

pub(super) fn passage_id(file: &str, index: usize) -> String {
    format!("{file}#{index}")
}

/// A passage that was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hit {
    pub passage: Passage,
    /// What it was put in order by: BM25, or the sum of reciprocal ranks where vectors took part.
    pub score: f64,
    pub found: Found,
}

/// Where a hit came from: its rank from 1 and its score in each list that held it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Found {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub words: Option<(usize, f64)>, // BM25
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vectors: Option<(usize, f64)>, // cosine
    /// The share of the question's words, weighted by how rare each is, that the passage holds: 0 to 1.
    pub covers: f64,
}

impl Found {
    /// Returns it in words: `words 1 (12.3), vectors 4 (0.61)`.
    pub fn describe(&self) -> String {
        let part = |name: &str, list: Option<(usize, f64)>, digits: usize| {
            list.map(|(rank, score)| format!("{name} {rank} ({score:.digits$})"))
        };
        let lists: Vec<String> =
            [part("words", self.words, 1), part("vectors", self.vectors, 2)].into_iter().flatten().collect();
        format!("{}; covers {:.0} % of the question", lists.join(", "), self.covers * 100.0)
    }
}

/// Joins a passage with the ones after it in its file: what two of them share stands once.
pub fn join(parts: &[Passage]) -> Option<Passage> {
    let (first, rest) = parts.split_first()?;
    let mut whole = first.clone();
    for part in rest {
        let shared = if part.range.start < whole.range.end { overlap(&whole.text, &part.text) } else { 0 };
        if shared == 0 {
            whole.text.push('\n');
        }
        whole.text.push_str(&part.text[shared..]);
        whole.range.end = whole.range.end.max(part.range.end);
        whole.pages = span(whole.pages, part.pages);
        whole.turns = span(whole.turns, part.turns);
        whole.start_ms = whole.start_ms.or(part.start_ms);
    }
    Some(whole)
}

fn span(a: Option<(u32, u32)>, b: Option<(u32, u32)>) -> Option<(u32, u32)> {
    match (a, b) {
        (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
        (a, b) => a.or(b),
    }
}

/// Returns how many bytes of `b`'s beginning are `a`'s end.
fn overlap(a: &str, b: &str) -> usize {
    const LONGEST: usize = 8 << 10; // bytes; an overlap is at most half a passage
    let most = b.floor_char_boundary(a.len().min(b.len()).min(LONGEST));
    (1..=most).rev().find(|n| b.is_char_boundary(*n) && a.ends_with(&b[..*n])).unwrap_or(0)
}

#[cfg(test)]
impl Passage {
    pub fn of(file: &str, index: usize, text: &str) -> Self {
        Self { language: "en".into(), ..Self::given(file, index, text) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_passages_hold_what_they_share_once() {
        let mut a = Passage::of("f", 0, "One two three.");
        let mut b = Passage::of("f", 1, "three. Four.");
        (a.range, b.range, a.pages, b.pages) = (0..14, 8..20, Some((1, 1)), Some((2, 2)));
        let whole = join(&[a, b]).unwrap();
        assert_eq!((whole.text.as_str(), whole.range, whole.pages), ("One two three. Four.", 0..20, Some((1, 2))));
        let mut c = Passage::of("f", 1, "Next.");
        c.range = 20..25;
        assert_eq!(join(&[Passage::of("f", 0, "End"), c]).unwrap().text, "End\nNext.");
        assert_eq!(join(&[]), None);
    }

    #[test]
    fn a_place_is_a_page_a_time_or_a_heading() {
        let mut p = Passage::of("a.pdf", 0, "x");
        p.headings = vec!["A".into(), "B".into()];
        assert_eq!(p.place(), "a.pdf, A > B");
        p.start_ms = Some(723_000);
        assert_eq!(p.place(), "a.pdf, 0:12:03");
        p.pages = Some((3, 4));
        assert_eq!(p.place(), "a.pdf, pages 3-4");
    }
}
