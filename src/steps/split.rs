//! `split`: the document cut into chunks. No model.

use serde_json::{Value, json};

use super::grounding::Ground;
use super::options::Reader;
use super::parts::ByWords;
use super::summarize::topics;
use super::{BuildContext, OptionFault, Port, Step, StepContext, StepError, StepKind, StepOutput};
use crate::corpus::chunker::{Chunk, ChunkBy, ChunkOptions, MIN_SIZE, Overlap, TokenCounter, chunk};
use crate::corpus::document::{Document, Turn};
use crate::corpus::index::WordPieces;
use crate::spec::{KeySpec, ValueSpec};

pub static KIND: StepKind = StepKind {
    name: "split",
    summary: "Cuts a document into chunks of about equal size",
    guide: "What `by` names is kept whole where it fits, then sentences, then words; every word is in a chunk. `auto` is \
            turns in a transcript, headings where there are any, pages in a PDF, and else sentences; what is asked for \
            and not there gives way to sentences. `overlap` repeats the last of them at the beginning of the next chunk, \
            up to half of it. `topics` cuts a transcript where its words change, and chunks of one topic are then by turns. \
            `context: heading-path` puts the headings that a chunk stands under before its text. No model is loaded: \
            tokens are counted about as one would.",
    needs_model: false,
    keys: &[
        KeySpec::default(
            "by",
            ValueSpec::Choice(&["auto", "turns", "topics", "paragraphs", "sentences", "headings", "pages", "tokens"]),
            "auto",
            "What is kept whole where it fits; `tokens` fills each chunk up to the best break",
        ),
        KeySpec::default(
            "size",
            ValueSpec::Amount { units: &["words", "tokens"] },
            "400 words",
            "The most words, or tokens, of a chunk, its speakers' names included",
        ),
        KeySpec::default(
            "overlap",
            ValueSpec::Amount { units: &["turns", "paragraphs", "sentences", "pages", "words", "tokens"] },
            "0 turns",
            "What is repeated from the chunk before; any unit but words and tokens, which are those of `size`, is whatever \
             the document is cut by",
        ),
        KeySpec::default(
            "context",
            ValueSpec::Choice(&["none", "heading-path"]),
            "none",
            "What stands before the text of a chunk",
        ),
    ],
    outputs: &[Port {
        name: "chunks",
        kind: "list",
        help: "Each chunk as `{index, text, words, turns, at, pages, headings}`; `index` counts from 0",
    }],
    example: "id: chunks\nuse: split\nsize: 400 words\noverlap: 2 turns\n",
    build,
};

struct Split {
    options: ChunkOptions,
    by_topics: bool,
    in_tokens: bool, // `size`, and an overlap that is no unit
    heading_path: bool,
}

fn build(cx: &BuildContext<'_>) -> Result<Box<dyn Step>, Vec<OptionFault>> {
    let mut read = Reader::new(cx);
    let (size, unit) = read.amount(&["size"]).unwrap_or((400, "words"));
    let least = if unit == "tokens" { MIN_SIZE } else { 10 };
    if size < least {
        read.fault(
            &["size"],
            format!("a chunk of {size} {unit} is too small to hold a sentence; {least} is the least"),
        );
    }
    let by = match read.text(&["by"]) {
        Some("turns" | "topics") => ChunkBy::Turns,
        Some("paragraphs") => ChunkBy::Paragraphs,
        Some("sentences") => ChunkBy::Sentences,
        Some("headings") => ChunkBy::Headings,
        Some("pages") => ChunkBy::Pages,
        Some("tokens") => ChunkBy::Tokens,
        _ => ChunkBy::Auto,
    };
    let overlap = match read.amount(&["overlap"]) {
        Some((_, other @ ("words" | "tokens"))) if other != unit => {
            read.fault(&["overlap"], format!("is in {other}, and `size` is in {unit}"));
            Overlap::Units(0)
        }
        Some((n, "words" | "tokens")) if n * 2 > size => {
            read.fault(&["overlap"], format!("is more than half of the chunk's {size} {unit}"));
            Overlap::Units(0)
        }
        Some((n, "words" | "tokens")) => Overlap::Tokens(n),
        other => Overlap::Units(other.map_or(0, |(n, _)| n)),
    };
    let options = ChunkOptions { by, size, overlap, even: true, label };
    let heading_path = read.text(&["context"]) == Some("heading-path");
    let (by_topics, in_tokens) = (read.text(&["by"]) == Some("topics"), unit == "tokens");
    read.finish(Some(Box::new(Split { options, by_topics, in_tokens, heading_path }) as Box<dyn Step>))
}

/// `Anna: `; a chunk is for people, who do not read ids.
fn label(turn: &Turn) -> String {
    turn.speaker.as_ref().map(|speaker| format!("{speaker}: ")).unwrap_or_default()
}

impl Step for Split {
    fn run(&self, cx: &StepContext<'_>) -> Result<StepOutput, StepError> {
        let counter: &dyn TokenCounter = if self.in_tokens { &WordPieces } else { &ByWords };
        let mut chunks: Vec<Value> = Vec::new();
        for part in self.parts(cx) {
            let document = part.as_ref().unwrap_or(cx.document);
            chunks.extend(chunk(document, &self.options, counter).iter().map(|chunk| self.value(document, chunk)));
        }
        chunks.iter_mut().enumerate().for_each(|(index, chunk)| chunk["index"] = json!(index));
        Ok(StepOutput { value: json!({ "chunks": chunks }), ..StepOutput::default() })
    }
}

impl Split {
    /// Returns a document for each topic, with its turns and no others; `None` stands for the document itself.
    fn parts(&self, cx: &StepContext<'_>) -> Vec<Option<Document>> {
        let document = cx.document;
        if !self.by_topics || document.turns.is_empty() {
            return vec![None];
        }
        let ground = Ground::new(document, &super::ask::language(cx));
        let part = |topic: topics::Topic| Document {
            turns: document.turns[topic.first..=topic.last].to_vec(),
            pages: Vec::new(), // a topic is told by its turns
            ..document.clone()
        };
        topics::topics(document, &ground).into_iter().map(part).map(Some).collect()
    }

    fn value(&self, document: &Document, chunk: &Chunk) -> Value {
        let mut turns: Vec<usize> = chunk.pieces.iter().filter_map(|p| p.turn).collect();
        turns.dedup();
        let context = match self.heading_path && !chunk.heading_path.is_empty() {
            true => format!("{}\n", chunk.heading_path.join(" > ")),
            false => String::new(),
        };
        json!({
            "index": chunk.index,
            "words": chunk.text.split_whitespace().count(),
            "turns": turns.iter().map(|&i| document.turns[i].id.to_string()).collect::<Vec<_>>(),
            "at": super::moment(document, &turns),
            "pages": chunk.pages.map(|(first, last)| (first..=last).collect::<Vec<_>>()).unwrap_or_default(),
            "headings": chunk.heading_path,
            "text": context + &chunk.text,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steps::fakes::{self, Fake, meeting, plain};

    fn chunks(options: Value, document: &Document) -> Vec<Value> {
        let fake = Fake::answering(|_| String::new());
        let mut all = json!({ "by": "auto", "overlap": { "n": 0, "unit": "turns" }, "context": "none" });
        all.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        fakes::run(&KIND, all, document, &fake).unwrap().value["chunks"].as_array().unwrap().clone()
    }

    #[test]
    fn chunks_hold_every_turn_in_order() {
        let turns: Vec<(&str, &str)> = (0..30).map(|_| ("Anna", "one two three four five")).collect();
        let chunks = chunks(json!({ "size": { "n": 40, "unit": "words" } }), &meeting(&turns));
        let ids: Vec<&str> =
            chunks.iter().flat_map(|c| c["turns"].as_array().unwrap()).filter_map(Value::as_str).collect();
        assert_eq!(ids, (1..=30).map(|i| format!("T{i}")).collect::<Vec<_>>());
        assert!(chunks.iter().all(|c| c["words"].as_u64().unwrap() <= 40));
        assert_eq!(chunks[0]["at"], "0:00:00");
        assert!(chunks[0]["text"].as_str().unwrap().starts_with("Anna: one two"));
    }

    #[test]
    fn sections_carry_the_headings_they_stand_under() {
        let mut document = plain("# A\none two three.\n## B\nfour five six.\n");
        let heading =
            |level, title: &str, range| crate::corpus::document::Heading { level, title: title.into(), range };
        document.headings = vec![heading(1, "A", 0..3), heading(2, "B", 19..23)];
        let options = json!({ "size": { "n": 10, "unit": "words" }, "by": "headings", "context": "heading-path" });
        let chunks = chunks(options, &document);
        assert_eq!(chunks.len(), 2);
        assert_eq!((&chunks[1]["headings"], &chunks[1]["turns"]), (&json!(["A", "B"]), &json!([])));
        assert!(chunks[1]["text"].as_str().unwrap().starts_with("A > B\n## B"), "{}", chunks[1]);
    }

    #[test]
    fn topics_are_cut_where_the_words_change_and_their_chunks_hold_every_turn() {
        let words = ["The printer is late.", "Who looks after the printer?", "The printer costs more."];
        let others = ["The banner is torn.", "Who mends the banner?", "The banner costs more."];
        let turns: Vec<(&str, &str)> =
            (0..18).map(|i| (["Anna", "Bo"][i % 2], if i < 9 { words[i % 3] } else { others[i % 3] })).collect();
        let chunks = chunks(json!({ "by": "topics", "size": { "n": 300, "unit": "tokens" } }), &meeting(&turns));
        assert_eq!(chunks.len(), 2, "{chunks:#?}");
        assert_eq!((&chunks[1]["index"], &chunks[1]["turns"][0]), (&json!(1), &json!("T10")));
        let num_turns: usize = chunks.iter().map(|c| c["turns"].as_array().unwrap().len()).sum();
        assert_eq!(num_turns, 18);
    }

    #[test]
    fn a_size_in_tokens_is_kept_without_a_model_and_without_turns_topics_give_way() {
        let text = "internationalization of everything. ".repeat(40);
        let size = json!({ "n": 40, "unit": "tokens" });
        for by in ["tokens", "topics", "sentences"] {
            let chunks = chunks(json!({ "by": by, "size": size }), &plain(&text));
            assert!(chunks.len() > 4, "{by}: {}", chunks.len());
            for chunk in &chunks {
                assert!(WordPieces.count(chunk["text"].as_str().unwrap()) <= 40, "{by}: {chunk}");
            }
        }
        let fault = |overlap: Value| {
            fakes::build(&KIND, json!({ "size": size, "overlap": overlap })).err().unwrap()[0].message.clone()
        };
        assert_eq!(fault(json!({ "n": 5, "unit": "words" })), "is in words, and `size` is in tokens");
        assert!(fault(json!({ "n": 25, "unit": "tokens" })).contains("more than half"));
    }

    #[test]
    fn an_overlap_over_half_a_chunk_is_refused() {
        let options = json!({ "size": { "n": 40, "unit": "words" }, "overlap": { "n": 30, "unit": "words" } });
        assert_eq!(fakes::build(&KIND, options).err().unwrap()[0].path, ["overlap"]);
    }
}
