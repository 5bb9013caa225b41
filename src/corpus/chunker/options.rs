//! How a document is cut: the `split` mapping of a pipeline, its keys defined once.

use serde_json::Value;

use crate::corpus::document::{Document, Format, Turn};
use crate::spec::{KeySpec, ValueSpec};

/// The fewest tokens a chunk may be limited to: a byte-level tokenizer spends up to four on one character, and a turn's
/// label needs room beside the words.
pub const MIN_SIZE: usize = 32;

/// The keys of `split:`. The defaults are those of [`ChunkOptions::default`]; a test holds them together.
pub static CHUNK_KEYS: &[KeySpec] = &[
    KeySpec::default(
        "by",
        ValueSpec::Choice(&["auto", "turns", "tokens", "paragraphs", "sentences", "headings", "pages"]),
        "auto",
        "What is kept whole where it fits. `auto` is turns in a transcript, headings where there are any, pages in a PDF, \
         and else sentences. `paragraphs` are lines. `tokens` fills each chunk up to the best break: paragraph, sentence, \
         word.",
    ),
    KeySpec::default(
        "size",
        ValueSpec::Amount { units: &["tokens"] },
        "2000 tokens",
        "The most tokens of a chunk as the model is shown it, labels and overlap included.",
    ),
    KeySpec::default(
        "overlap",
        ValueSpec::Amount { units: &["tokens", "turns", "paragraphs", "sentences", "pages"] },
        "0 tokens",
        "How much of a chunk is repeated at the beginning of the next; never more than half a chunk.",
    ),
    KeySpec::default(
        "context",
        ValueSpec::Choice(&["heading-path"]),
        "heading-path",
        "The headings that a chunk stands under are kept with it; those of a passage are searched and shown with it. There \
         is no other way.",
    ),
];

/// What is kept whole where it fits into a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChunkBy {
    Auto,
    Turns,
    Tokens,
    Paragraphs,
    Sentences,
    Headings,
    Pages,
}

/// How much of a chunk comes again in the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Overlap {
    Tokens(usize),
    /// Whole turns, paragraphs, sentences or pages, whichever the document is cut by.
    Units(usize),
}

/// How a document is cut.
#[derive(Clone, Debug)]
pub struct ChunkOptions {
    pub by: ChunkBy,
    /// Tokens of a chunk as shown. Below `MIN_SIZE` a single character, or its label, may be over it.
    pub size: usize,
    pub overlap: Overlap,
    /// All chunks about equally full, so that the last one is no stub; else each is as full as can be.
    pub even: bool,
    /// What stands before the words of a turn; part of the chunk's text and of its size.
    pub label: fn(&Turn) -> String,
}

impl Default for ChunkOptions {
    fn default() -> Self {
        Self { by: ChunkBy::Auto, size: 2000, overlap: Overlap::Tokens(0), even: false, label: turn_label }
    }
}

/// Returns the label by which a model knows a turn: `[T12] Anna: `, or `[T12] ` where nobody is named.
pub fn turn_label(turn: &Turn) -> String {
    match &turn.speaker {
        Some(name) => format!("[{}] {name}: ", turn.id),
        None => format!("[{}] ", turn.id),
    }
}

/// A mistake in the mapping: the key it is under, and the fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkFault {
    pub key: &'static str,
    pub message: String,
}

impl ChunkOptions {
    /// Reads the `split` mapping, where every key may be left out; keys it does not know are not its business
    /// (`CHUNK_KEYS` is what checks them). Returns every fault.
    pub fn parse(split: &Value) -> Result<Self, Vec<ChunkFault>> {
        let mut options = Self::default();
        let mut faults = Vec::new();
        let mut fault = |key, message| faults.push(ChunkFault { key, message });
        if let Some(value) = given(split, "by") {
            match value.as_str().and_then(parse_by) {
                Some(by) => options.by = by,
                None => fault("by", format!("`{}` is nothing to cut by", written(value))),
            }
        }
        if let Some(value) = given(split, "size") {
            match parse_amount(value) {
                Some((size, "tokens" | "")) if size >= MIN_SIZE => options.size = size,
                Some((_, "tokens" | "")) => {
                    fault("size", format!("is under {MIN_SIZE} tokens, the least a chunk can be"))
                }
                _ => fault("size", format!("`{}` is no number of tokens such as 2000 tokens", written(value))),
            }
        }
        if let Some(value) = given(split, "overlap") {
            match parse_amount(value) {
                Some((0, _)) => options.overlap = Overlap::Tokens(0),
                Some((n, "tokens" | "")) if n * 2 <= options.size => options.overlap = Overlap::Tokens(n),
                Some((_, "tokens" | "")) => {
                    fault("overlap", format!("is more than half of the chunk's {} tokens", options.size));
                }
                Some((n, unit)) if unit_fits(unit, options.by) => options.overlap = Overlap::Units(n),
                Some((_, unit)) if ["turns", "paragraphs", "sentences", "pages"].contains(&unit) => {
                    fault("overlap", format!("is in {unit}, and the document is not cut by {unit}"));
                }
                _ => fault("overlap", format!("`{}` is no amount such as 200 tokens or 2 turns", written(value))),
            }
        }
        if faults.is_empty() { Ok(options) } else { Err(faults) }
    }

    /// Returns what a document is really cut by: what is asked for where the document has it. Turns, headings and pages
    /// that are not there give way to sentences; `Auto` never comes back.
    pub fn by_for(&self, document: &Document) -> ChunkBy {
        let (turns, headings, pages) =
            (!document.turns.is_empty(), !document.headings.is_empty(), !document.pages.is_empty());
        match self.by {
            ChunkBy::Auto | ChunkBy::Turns if turns => ChunkBy::Turns,
            ChunkBy::Auto | ChunkBy::Headings if headings => ChunkBy::Headings,
            ChunkBy::Auto if pages && document.format == Format::Pdf => ChunkBy::Pages,
            ChunkBy::Pages if pages => ChunkBy::Pages,
            ChunkBy::Tokens => ChunkBy::Tokens,
            ChunkBy::Paragraphs => ChunkBy::Paragraphs,
            _ => ChunkBy::Sentences,
        }
    }
}

fn given<'a>(split: &'a Value, key: &str) -> Option<&'a Value> {
    split.get(key).filter(|value| !value.is_null())
}

fn written(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn parse_by(word: &str) -> Option<ChunkBy> {
    Some(match word {
        "auto" => ChunkBy::Auto,
        "turns" => ChunkBy::Turns,
        "tokens" => ChunkBy::Tokens,
        "paragraphs" => ChunkBy::Paragraphs,
        "sentences" => ChunkBy::Sentences,
        "headings" => ChunkBy::Headings,
        "pages" => ChunkBy::Pages,
        _ => return None,
    })
}

fn unit_fits(unit: &str, by: ChunkBy) -> bool {
    matches!(
        (unit, by),
        ("turns" | "sentences" | "pages", ChunkBy::Auto)
            | ("turns", ChunkBy::Turns)
            | ("paragraphs", ChunkBy::Paragraphs)
            | ("sentences", ChunkBy::Sentences)
            | ("pages", ChunkBy::Pages)
    )
}

/// Reads `2500 tokens`, `6k tokens`, `2 turns`, `1 turn` or a bare number, whose unit is then empty.
fn parse_amount(value: &Value) -> Option<(usize, &str)> {
    if let Some(n) = value.as_u64() {
        return Some((usize::try_from(n).ok()?, ""));
    }
    let text = value.as_str()?.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: usize = text[..digits].parse().ok()?;
    let rest = text[digits..].trim_start();
    let (number, unit) = match rest.strip_prefix('k') {
        Some(unit) => (number.checked_mul(1000)?, unit),
        None => (number, rest),
    };
    let unit = match unit.trim() {
        "token" => "tokens",
        "turn" => "turns",
        "paragraph" => "paragraphs",
        "sentence" => "sentences",
        "page" => "pages",
        unit => unit,
    };
    (number <= 1 << 32).then_some((number, unit))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fault(split: Value) -> (&'static str, String) {
        let fault = ChunkOptions::parse(&split).unwrap_err().remove(0);
        (fault.key, fault.message)
    }

    #[test]
    fn the_defaults_of_the_key_table_are_the_defaults_of_the_options() {
        let written: serde_json::Map<String, Value> =
            CHUNK_KEYS.iter().filter_map(|k| Some((k.name.into(), k.default?.into()))).collect();
        let (parsed, default) = (ChunkOptions::parse(&written.into()).unwrap(), ChunkOptions::default());
        assert_eq!((parsed.by, parsed.size, parsed.overlap), (default.by, default.size, default.overlap));
    }

    #[test]
    fn amounts_are_read_as_they_are_written() {
        let options = ChunkOptions::parse(&json!({"by": "turns", "size": "6k tokens", "overlap": "2 turns"})).unwrap();
        assert_eq!((options.by, options.size, options.overlap), (ChunkBy::Turns, 6000, Overlap::Units(2)));
        assert_eq!(ChunkOptions::parse(&json!({"size": 300, "overlap": 0})).unwrap().size, 300);
    }

    #[test]
    fn every_fault_names_its_key() {
        assert_eq!(fault(json!({"by": "topics"})).0, "by");
        assert_eq!(fault(json!({"size": "10 tokens"})).0, "size");
        assert_eq!(fault(json!({"size": "200 words"})).0, "size");
        assert_eq!(fault(json!({"size": 100, "overlap": "60 tokens"})).0, "overlap");
        assert!(fault(json!({"by": "pages", "overlap": "2 turns"})).1.contains("not cut by turns"));
        assert_eq!(ChunkOptions::parse(&json!({"by": 1, "size": "x", "overlap": "y"})).unwrap_err().len(), 3);
    }
}
