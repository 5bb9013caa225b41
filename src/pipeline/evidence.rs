//! Where the evidence of a value stands in its source: turns by their ids, quotes by their words. Reads what steps gave
//! as it is (`evidence`, `said`, `turns`, `citations`), and believes none of it: what is not in the source is said.
//! Knows no model and writes nothing.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Serialize;
use serde_json::Value;

/// Keys of an item that are evidence for its values, or say something about it, and are no values themselves.
pub const BESIDE: &[&str] = &[
    "evidence",
    "said",
    "quote",
    "quotes",
    "at",
    "quoted",
    "support",
    "min_support",
    "turn",
    "turns",
    "conflict",
    "conflicts",
];

/// A turn, a paragraph, or a passage: what a source is shown in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Block {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String, // of a turn
    #[serde(skip_serializing_if = "String::is_empty")]
    pub head: String, // who speaks, or where a passage is from
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>, // when, as `0:12:03`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page: Option<u64>,
    pub text: String,
}

/// A stretch of one block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    pub block: usize,
    pub range: Range<usize>, // bytes of its text
}

/// A text in blocks, ready for looking up.
#[derive(Clone, Debug, Default)]
pub struct Source {
    pub blocks: Vec<Block>,
    turns: BTreeMap<String, usize>,
    /// All words, one blank between two.
    squeezed: String,
    starts: Vec<usize>, // of each block, bytes of `squeezed`
}

impl Source {
    /// Returns the source of a document as templates see it under `doc`.
    pub fn of_document(doc: &Value) -> Self {
        let list = |key: &str| doc.get(key).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let turns = list("turns");
        if !turns.is_empty() {
            let block = |t: &Value| Block {
                id: text(t, "id"),
                head: text(t, "speaker"),
                at: t.get("at").and_then(Value::as_str).map(str::to_owned),
                page: None,
                text: text(t, "text"),
            };
            return Self::of_blocks(turns.iter().map(block).collect());
        }
        let pages = list("pages");
        if pages.is_empty() {
            return Self::of_blocks(paragraphs(&text(doc, "text"), None));
        }
        let of_page = |p: &Value| paragraphs(&text(p, "text"), p.get("number").and_then(Value::as_u64));
        Self::of_blocks(pages.iter().flat_map(of_page).collect())
    }

    pub fn of_blocks(blocks: Vec<Block>) -> Self {
        let mut source = Self::default();
        for (index, block) in blocks.iter().enumerate() {
            if !block.id.is_empty() {
                source.turns.entry(block.id.clone()).or_insert(index);
            }
            let mut words = block.text.split_whitespace();
            let first = words.next();
            if first.is_some() && !source.squeezed.is_empty() {
                source.squeezed.push(' ');
            }
            source.starts.push(source.squeezed.len());
            source.squeezed.push_str(first.unwrap_or_default());
            for word in words {
                source.squeezed.push(' ');
                source.squeezed.push_str(word);
            }
        }
        source.blocks = blocks;
        source
    }

    /// Returns the block of a turn.
    pub fn turn(&self, id: &str) -> Option<usize> {
        self.turns.get(id).copied()
    }

    /// Returns where these words stand, white space aside: in the blocks preferred where they stand in several. Empty
    /// where they stand nowhere, or where there are none.
    pub fn find(&self, quote: &str, preferred: &[usize]) -> Vec<Mark> {
        let words = quote.split_whitespace().collect::<Vec<_>>().join(" ");
        if words.is_empty() {
            return Vec::new();
        }
        let mut found = self.squeezed.match_indices(&words).map(|(at, _)| at);
        let first = found.next();
        let is_preferred = |at: &usize| preferred.contains(&self.block_at(*at));
        let at = first.filter(is_preferred).or_else(|| found.find(is_preferred)).or(first);
        at.map(|at| self.marks(at..at + words.len())).unwrap_or_default()
    }

    /// Returns the block of a byte of the squeezed text.
    fn block_at(&self, at: usize) -> usize {
        self.starts.partition_point(|start| *start <= at).saturating_sub(1)
    }

    /// Returns a stretch of the squeezed text as stretches of blocks.
    fn marks(&self, range: Range<usize>) -> Vec<Mark> {
        let mut marks = Vec::new();
        for block in self.block_at(range.start)..self.blocks.len() {
            let start = self.starts[block];
            if start >= range.end {
                break;
            }
            let local = range.start.max(start) - start..range.end - start;
            marks.extend(unsqueezed(&self.blocks[block].text, local).map(|range| Mark { block, range }));
        }
        marks
    }

    /// Returns a whole block as a mark.
    pub fn whole(&self, block: usize) -> Mark {
        Mark { block, range: 0..self.blocks[block].text.len() }
    }
}

/// Returns where a stretch of a text's squeezed form stands in the text; `None` where it holds no word of it.
fn unsqueezed(text: &str, range: Range<usize>) -> Option<Range<usize>> {
    let (mut at, mut is_blank, mut found) = (0, true, None::<Range<usize>>);
    for (byte, c) in text.char_indices() {
        if at >= range.end {
            break;
        }
        if !c.is_whitespace() {
            if at >= range.start {
                found = Some(found.map_or(byte, |f| f.start)..byte + c.len_utf8());
            }
            at += c.len_utf8();
        } else if !is_blank {
            at += 1;
        }
        is_blank = c.is_whitespace() || at == 0;
    }
    found
}

/// Splits a text at its empty lines.
fn paragraphs(text: &str, page: Option<u64>) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines: Vec<&str> = Vec::new();
    for line in text.lines().chain([""]) {
        if !line.trim().is_empty() {
            lines.push(line);
        } else if !lines.is_empty() {
            blocks.push(Block { page, text: lines.join("\n"), ..Block::default() });
            lines.clear();
        }
    }
    blocks
}

/// What a value points to as its evidence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pointers {
    pub turns: Vec<String>,
    pub quotes: Vec<String>,
}

impl Pointers {
    pub fn is_empty(&self) -> bool {
        self.turns.is_empty() && self.quotes.is_empty()
    }

    /// Returns what an item's own keys point to: `evidence`, `turns`, `turn`, `said` and `quote`.
    pub fn of_item(item: &Value) -> Self {
        let mut found = Self::default();
        for key in ["evidence", "turns", "turn"] {
            match item.get(key) {
                Some(Value::Array(ids)) => found.turns.extend(ids.iter().filter_map(turn_id)),
                Some(value @ (Value::String(_) | Value::Number(_))) => match turn_id(value) {
                    Some(id) => found.turns.push(id),
                    None => found.quotes.extend(value.as_str().map(str::to_owned)),
                },
                _ => {}
            }
        }
        for key in ["said", "quote", "quotes"] {
            match item.get(key) {
                Some(Value::String(words)) => found.quotes.push(words.clone()),
                Some(Value::Array(all)) => found.quotes.extend(all.iter().filter_map(Value::as_str).map(str::to_owned)),
                _ => {}
            }
        }
        found.quotes.retain(|q| !q.trim().is_empty());
        found
    }

    /// Returns what the evidence of one field points to, where an item's `evidence` has fields; `None` where it has none.
    pub fn of_field(item: &Value, field: &str) -> Option<Self> {
        let evidence = item.get("evidence")?.as_object()?;
        Some(match evidence.get(field)? {
            Value::String(quote) => Self { quotes: vec![quote.clone()], ..Self::default() },
            other => Self::within(other),
        })
    }

    /// Returns what the evidence of a field, of the parts of one, or of a list points to.
    fn within(evidence: &Value) -> Self {
        let own = Self::of_item(evidence);
        let below: Vec<&Value> = match evidence {
            _ if !own.is_empty() => Vec::new(),
            Value::Array(all) => all.iter().collect(),
            Value::Object(map) => map.values().filter(|v| v.is_object() || v.is_array()).collect(),
            _ => Vec::new(),
        };
        below.into_iter().map(Self::within).fold(own, |mut joined, one| {
            joined.turns.extend(one.turns);
            joined.quotes.extend(one.quotes);
            joined
        })
    }

    /// Returns the marks of what is in the source, and what is not.
    pub fn locate(&self, source: &Source) -> (Vec<Mark>, Vec<String>) {
        let (mut marks, mut missing) = (Vec::new(), Vec::new());
        let mut blocks = Vec::new();
        for id in &self.turns {
            match source.turn(id) {
                Some(block) => blocks.push(block),
                None => missing.push(id.clone()),
            }
        }
        for quote in &self.quotes {
            let found = source.find(quote, &blocks);
            if found.is_empty() {
                missing.push(format!("“{quote}”"));
            }
            marks.extend(found);
        }
        // A turn is marked as a whole where no quote says which of its words are meant.
        let unmarked = blocks.into_iter().filter(|b| !marks.iter().any(|m| m.block == *b)).collect::<Vec<_>>();
        marks.extend(unmarked.into_iter().map(|b| source.whole(b)));
        (marks, missing)
    }
}

/// Returns the id of a turn as steps write it; a bare number is one too.
pub fn turn_id(value: &Value) -> Option<String> {
    match value {
        Value::Number(n) => n.as_u64().map(|n| format!("T{n}")),
        Value::String(id) => {
            let digits = id.strip_prefix('T').or_else(|| id.strip_prefix('t'))?;
            (!digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())).then(|| format!("T{digits}"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn meeting() -> Source {
        Source::of_document(&json!({ "turns": [
            { "id": "T1", "speaker": "Anna", "at": "0:00:01", "text": "The kiln  is\nbroken. Yes." },
            { "id": "T2", "speaker": "Bo", "at": null, "text": "Yes. I will repair it." },
        ] }))
    }

    #[test]
    fn a_quote_is_found_whatever_its_white_space_and_in_the_turn_it_names() {
        let source = meeting();
        let found = source.find("kiln is broken.", &[]);
        assert_eq!(found, [Mark { block: 0, range: 4..20 }]);
        assert_eq!(&source.blocks[0].text[found[0].range.clone()], "kiln  is\nbroken.");
        assert_eq!(source.find("Yes.", &[1])[0], Mark { block: 1, range: 0..4 });
        assert_eq!(source.find("Yes. Yes.", &[]).len(), 2, "words over two blocks are marked in both");
        assert!(source.find("kiln is fine", &[]).is_empty() && source.find(" ", &[]).is_empty());
    }

    #[test]
    fn what_a_value_points_to_is_read_in_each_of_its_forms() {
        let item = json!({ "evidence": ["T2", "T9"], "said": "I will repair it.", "task": "x" });
        let (marks, missing) = Pointers::of_item(&item).locate(&meeting());
        assert_eq!(marks, [Mark { block: 1, range: 5..22 }]);
        assert_eq!(missing, ["T9"]);
        let per_field =
            json!({ "total": 3, "evidence": { "total": { "quote": "is broken", "turn": "T1" }, "tax": null } });
        let of_total = Pointers::of_field(&per_field, "total").unwrap();
        assert_eq!(
            (of_total.turns.as_slice(), of_total.quotes.as_slice()),
            (&["T1".into()][..], &["is broken".into()][..])
        );
        assert!(Pointers::of_field(&per_field, "net").is_none() && Pointers::of_field(&item, "task").is_none());
        assert_eq!(
            Pointers::of_item(&json!({ "turns": ["T1"] })).locate(&meeting()).0,
            [Mark { block: 0, range: 0..25 }]
        );
        assert_eq!(Pointers::of_item(&json!({ "turn": 2 })).turns, ["T2"]);
    }

    #[test]
    fn pages_are_cut_into_paragraphs_and_multibyte_words_are_whole() {
        let source = Source::of_document(
            &json!({ "pages": [{ "number": 3, "text": "Größe\n\n  \nÜber 我们。\n" }], "text": "x" }),
        );
        assert_eq!(source.blocks.len(), 2);
        assert_eq!((source.blocks[1].page, source.blocks[1].text.as_str()), (Some(3), "Über 我们。"));
        let mark = &source.find("我们。", &[])[0];
        assert_eq!(&source.blocks[1].text[mark.range.clone()], "我们。");
    }
}
