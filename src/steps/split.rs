//! `split`: the document cut into chunks. No model.

use serde_json::{Value, json};

use super::options::Reader;
use super::parts::{Part, pack};
use super::{BuildContext, OptionFault, Port, Step, StepContext, StepError, StepKind, StepOutput};
use crate::corpus::document::Document;
use crate::spec::{KeySpec, ValueSpec};

pub static KIND: StepKind = StepKind {
    name: "split",
    summary: "Cuts a document into chunks of about equal size",
    guide: "Turns are kept whole where they fit, then sentences, then words; every word is in a chunk. `overlap` repeats \
            the last turns of a chunk at the beginning of the next. Sizes are in words: no model is loaded for them.",
    needs_model: false,
    keys: &[
        KeySpec::default(
            "size",
            ValueSpec::Amount { units: &["words"] },
            "400 words",
            "The most words of a chunk, its speakers' names included",
        ),
        KeySpec::default(
            "overlap",
            ValueSpec::Amount { units: &["turns"] },
            "0 turns",
            "Turns (paragraphs, where there are no turns) repeated from the chunk before, up to a quarter of a chunk",
        ),
    ],
    outputs: &[Port {
        name: "chunks",
        kind: "list",
        help: "Each chunk as `{index, text, words, turns, at}`; `index` counts from 0",
    }],
    example: "id: chunks\nuse: split\nsize: 400 words\noverlap: 2 turns\n",
    build,
};

struct Split {
    size: usize,    // words
    overlap: usize, // turns or paragraphs
}

fn build(cx: &BuildContext<'_>) -> Result<Box<dyn Step>, Vec<OptionFault>> {
    let mut read = Reader::new(cx);
    let size = read.amount(&["size"]).map_or(400, |(n, _)| n);
    if size < 10 {
        read.fault(&["size"], format!("a chunk of {size} words is too small to hold a sentence; 10 is the least"));
    }
    let overlap = read.amount(&["overlap"]).map_or(0, |(n, _)| n);
    read.finish(Some(Box::new(Split { size, overlap }) as Box<dyn Step>))
}

impl Step for Split {
    fn run(&self, cx: &StepContext<'_>) -> Result<StepOutput, StepError> {
        let count = |line: &str| line.split_whitespace().count();
        let parts = pack(cx.document, self.size, self.overlap, &count);
        let chunks: Vec<Value> = parts.iter().enumerate().map(|(i, part)| chunk(cx.document, i, part)).collect();
        Ok(StepOutput { value: json!({ "chunks": chunks }), ..StepOutput::default() })
    }
}

fn chunk(document: &Document, index: usize, part: &Part) -> Value {
    let text = part.speech(document);
    let turns = part.turns();
    json!({
        "index": index,
        "words": text.split_whitespace().count(),
        "turns": turns.iter().map(|&i| document.turns[i].id.to_string()).collect::<Vec<_>>(),
        "at": super::moment(document, &turns),
        "text": text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steps::fakes::{self, Fake, meeting};

    #[test]
    fn chunks_hold_every_turn_in_order() {
        let turns: Vec<(&str, &str)> = (0..30).map(|_| ("Anna", "one two three four five")).collect();
        let fake = Fake::answering(|_| String::new());
        let options = json!({ "size": { "n": 40, "unit": "words" }, "overlap": { "n": 0, "unit": "turns" } });
        let out = fakes::run(&KIND, options, &meeting(&turns), &fake).unwrap();
        let chunks = out.value["chunks"].as_array().unwrap();
        let ids: Vec<&str> =
            chunks.iter().flat_map(|c| c["turns"].as_array().unwrap()).filter_map(Value::as_str).collect();
        assert_eq!(ids, (1..=30).map(|i| format!("T{i}")).collect::<Vec<_>>());
        assert!(chunks.iter().all(|c| c["words"].as_u64().unwrap() <= 40));
        assert_eq!(chunks[0]["at"], "0:00:00");
    }
}
