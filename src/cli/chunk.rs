//! `quarry chunk`: how a file is cut, with the size and the place of each chunk.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde_json::{Map, Value, json};

use super::exit::Exit;
use super::models::{self, Downloads};
use super::options::{ModelArgs, Settings, Verbosity};
use super::read::{ReaderArgs, refused, warnings};
use super::{Failure, print};
use crate::corpus::chunker::{self, CHUNK_KEYS, Chunk, ChunkOptions, TokenCounter};
use crate::corpus::document::Document;
use crate::diagnostic::Diagnostic;
use crate::inference::engine::load_tokenizer;
use crate::inference::hub;

/// Show the chunks a file is cut into, with their sizes and places
#[derive(Args, Debug)]
pub struct ChunkArgs {
    /// The file; `-` is standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// What is kept whole where it fits: auto, turns, tokens, sentences, headings or pages
    #[arg(long, value_name = "UNIT")]
    pub by: Option<String>,
    /// The most tokens of a chunk, as `500 tokens`; words, where no model is named [default: 2000 tokens]
    #[arg(long, value_name = "AMOUNT")]
    pub size: Option<String>,
    /// How much of a chunk is repeated at the beginning of the next, as `50 tokens` or `1 turns` [default: 0 tokens]
    #[arg(long, value_name = "AMOUNT")]
    pub overlap: Option<String>,
    /// Give each chunk as JSON on a line
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub options: ReaderArgs,
}

pub fn run(args: &ChunkArgs, settings: &Settings) -> Result<Exit, Failure> {
    let options = chunk_options(args)?;
    let reading = args.options.options()?;
    let counter = counter(args.model.model.as_deref(), settings)?;
    let document = match args.options.read(&args.file, &reading) {
        Ok(document) => document,
        Err(error) => return Err(refused(&error).into()),
    };
    if settings.verbosity > Verbosity::Quiet {
        warnings(&document);
        if args.model.model.is_none() {
            print::note("note: sizes are in words; with --model they are in its tokens");
        }
    }
    for chunk in chunker::chunk(&document, &options, counter.as_ref()) {
        if args.json {
            print::json(&chunk_json(&document, &chunk))?;
        } else {
            print::result(&print::shown(&format!("{}\n{}\n", head(&document, &chunk), chunk.text)))?;
        }
    }
    Ok(Exit::Done)
}

fn chunk_options(args: &ChunkArgs) -> Result<ChunkOptions, Failure> {
    let given = [("by", &args.by), ("size", &args.size), ("overlap", &args.overlap)];
    let mut split = Map::new();
    for (key, value) in given {
        debug_assert!(CHUNK_KEYS.iter().any(|k| k.name == key));
        if let Some(value) = value {
            split.insert(key.to_owned(), value.as_str().into());
        }
    }
    ChunkOptions::parse(&Value::Object(split)).map_err(|faults| {
        let fault = faults.iter().map(|f| format!("--{} {}", f.key, f.message)).collect::<Vec<_>>().join("; ");
        Failure::from(Diagnostic::error(fault).hint("`quarry chunk --help` says what is taken"))
    })
}

/// Returns the tokenizer of the model that is named, or a counter of words.
fn counter(model: Option<&str>, settings: &Settings) -> Result<Box<dyn TokenCounter>, Failure> {
    let Some(name) = model else { return Ok(Box::new(Words)) };
    let path = match models::local_path(name) {
        Some(path) => path,
        None => {
            let files = hub::resolve(name, &models::hub_options(settings)?, &Downloads::new(settings))?;
            models::path_of(&files).to_owned()
        }
    };
    let tokenizer = load_tokenizer(&path)?;
    let tokenizer = Arc::new(tokenizer);
    let counting = Arc::clone(&tokenizer);
    Ok(Box::new(Counted {
        ends: move |text: &str| tokenizer.token_ends(text),
        count: move |text: &str| counting.encode_text(text).len(),
    }))
}

/// A tokenizer: it counts faster than it tells where tokens end.
struct Counted<E, C> {
    ends: E,
    count: C,
}

impl<E: Fn(&str) -> Vec<usize> + Sync, C: Fn(&str) -> usize + Sync> TokenCounter for Counted<E, C> {
    fn token_ends(&self, text: &str) -> Vec<usize> {
        (self.ends)(text)
    }

    fn count(&self, text: &str) -> usize {
        (self.count)(text)
    }
}

/// Counts words between blanks; a character of a script without them is a word, and so is a long run's every piece.
struct Words;

impl TokenCounter for Words {
    fn token_ends(&self, text: &str) -> Vec<usize> {
        const MAX_BYTES: usize = 24;
        let mut ends = Vec::new();
        let mut from = 0; // of the open word
        let mut has_letters = false;
        for (at, c) in text.char_indices() {
            let is_wide = c >= '\u{2E80}';
            if has_letters && (c.is_whitespace() || is_wide || at - from >= MAX_BYTES) {
                ends.push(at);
                (from, has_letters) = (at, false);
            }
            has_letters |= !c.is_whitespace();
            if is_wide {
                ends.push(at + c.len_utf8());
                (from, has_letters) = (at + c.len_utf8(), false);
            }
        }
        if from < text.len() {
            ends.push(text.len());
        }
        ends
    }
}

/// One line on a chunk: its number, its size, and where it stands.
fn head(document: &Document, chunk: &Chunk) -> String {
    let mut words = vec![format!("--- chunk {}, size {}", chunk.index, chunk.tokens)];
    if let Some(turns) = &chunk.turns {
        words.push(format!("{}-{}", turns.start(), turns.end()));
    }
    if let Some((first, last)) = chunk.pages {
        words.push(if first == last { format!("page {first}") } else { format!("pages {first}-{last}") });
    }
    if !chunk.heading_path.is_empty() {
        words.push(chunk.heading_path.join(" > "));
    }
    let (first, last) = ends(document, chunk);
    words.push(if first == last { first } else { format!("from {first} to {last}") });
    words.retain(|w| !w.is_empty());
    words.join(" | ")
}

/// Returns where the first and the last words of a chunk stand in the file; names of sheets and speakers stand nowhere.
fn ends(document: &Document, chunk: &Chunk) -> (String, String) {
    const MOST_WORDS: usize = 64; // that are looked at from each end
    let text = &document.text[chunk.range.clone()];
    let words: Vec<usize> = text
        .split_whitespace()
        .map(|word| chunk.range.start + (word.as_ptr() as usize - text.as_ptr() as usize))
        .collect();
    let place = |at: &usize| Some(document.locate(*at).to_string()).filter(|place| !place.is_empty());
    let first = words.iter().take(MOST_WORDS).find_map(place);
    let last = words.iter().rev().take(MOST_WORDS).find_map(place);
    (first.unwrap_or_default(), last.unwrap_or_default())
}

fn chunk_json(document: &Document, chunk: &Chunk) -> Value {
    let mut value = json!(chunk);
    let (first, last) = ends(document, chunk);
    value["from"] = first.into();
    value["to"] = last.into();
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_counted_in_every_script() {
        let count = |text: &str| Words.count(text);
        assert_eq!((count("two words"), count("  a  "), count("会議は"), count("")), (2, 2, 3, 0));
        assert!(count(&"x".repeat(240)) >= 10);
        let text = "ab 会c  d";
        assert!(Words.token_ends(text).iter().all(|end| text.is_char_boundary(*end)));
        assert_eq!(Words.token_ends(text).last(), Some(&text.len()));
    }
}
