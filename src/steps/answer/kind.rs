//! The verb `answer` as an author knows it: its keys, its outputs, and how it is built.

use super::Answer;
use crate::spec::{KeySpec, ValueSpec};
use crate::steps::options::Reader;
use crate::steps::{BuildContext, OptionFault, Port, Step, StepKind};

pub static KIND: StepKind = StepKind {
    name: "answer",
    summary: "Answers a question from passages, every sentence with the words that show it, or says that it is not there",
    guide: "The model is shown the passages of `from` in its own way of showing documents, and writes sentences, each \
            after a quote: it can write no quote but the words of a passage. A sentence whose passage does not hold its \
            words or its numbers is dropped, or marked with `own_knowledge: mark`.\n\n\
            Whether there is an answer at all is decided on evidence: by how much of the question the best passage \
            covers, then by how much likelier the model finds it that the passages hold the answer than it finds it \
            without them. Where there is none the value's `state` is `abstained`, and so is the document's. The answer \
            is in the language of the question.",
    needs_model: true,
    keys: &[
        KeySpec::required("question", ValueSpec::Template, "What is asked"),
        KeySpec::required("from", ValueSpec::Expression, "What `retrieve` or `rerank` gave, or a list of texts"),
        KeySpec::default(
            "cite",
            ValueSpec::Choice(&["spans", "none"]),
            "spans",
            "`spans` has every sentence cite words of a passage; `none` writes freely and checks nothing",
        ),
        KeySpec::default(
            "refuse_when",
            ValueSpec::Object(&[
                KeySpec::default(
                    "best_score_below",
                    ValueSpec::Number { min: 0.0, max: 1.0 },
                    "0.3",
                    "The best passage covers less of the question's words, by weight, and is no nearer by vectors",
                ),
                KeySpec::default(
                    "probability_below",
                    ValueSpec::Number { min: 0.0, max: 1.0 },
                    "0.2",
                    "The model finds it less likely that the passages hold the answer",
                ),
                KeySpec::default(
                    "unsupported_sentences",
                    ValueSpec::Choice(&["drop"]),
                    "drop",
                    "What no passage supports is dropped; `own_knowledge: mark` keeps and marks it",
                ),
                KeySpec::default(
                    "nothing_left",
                    ValueSpec::Choice(&["refuse", "quote"]),
                    "refuse",
                    "What happens where no sentence is supported: `quote` gives the sentence that shares most with the question",
                ),
            ]),
            "{}",
            "When there is no answer",
        ),
        KeySpec::optional(
            "say_when_refusing",
            ValueSpec::Template,
            "The text where there is no answer. By default one in the question's language",
        ),
        KeySpec::default(
            "own_knowledge",
            ValueSpec::Choice(&["forbid", "mark"]),
            "forbid",
            "What no passage supports is dropped, or kept and marked",
        ),
    ],
    outputs: &[
        Port { name: "text", kind: "text", help: "The answer, or that there is none" },
        Port { name: "cited", kind: "text", help: "The answer with the number of a citation behind each sentence" },
        Port { name: "state", kind: "text", help: "`answered` or `abstained`" },
        Port { name: "abstained", kind: "boolean", help: "Whether there is no answer" },
        Port { name: "because", kind: "text", help: "Why there is none" },
        Port {
            name: "probability",
            kind: "number",
            help: "How likely the model finds it that the passages hold the answer; none where it was not asked",
        },
        Port { name: "best", kind: "number", help: "How much of the question the best passage covers, 0 to 1" },
        Port { name: "language", kind: "text", help: "The language of question and answer" },
        Port { name: "sentences", kind: "list", help: "Each sentence as `{text, citation, supported}`" },
        Port {
            name: "citations",
            kind: "list",
            help: "`{number, quote, file, place, pages, at, passage, start, end, text}`; the quote stands in the passage's `text` from byte `start` to `end`, between `before` and `after`",
        },
        Port { name: "places", kind: "list", help: "Where the quotes stand, each place once" },
    ],
    example: "id: reply\nuse: answer\nquestion: What is to be done?\nfrom: \"[doc.text]\"\n",
    build,
};

fn build(cx: &BuildContext<'_>) -> Result<Box<dyn Step>, Vec<OptionFault>> {
    let mut read = Reader::new(cx);
    let cite = read.text(&["cite"]) != Some("none");
    let least_score = read.number(&["refuse_when", "best_score_below"]).unwrap_or(0.3);
    let least_probability = read.number(&["refuse_when", "probability_below"]).unwrap_or(0.2);
    let quote_when_nothing_left = read.text(&["refuse_when", "nothing_left"]) == Some("quote");
    let keep_unsupported = read.text(&["own_knowledge"]) == Some("mark");
    let refusal = read.template(&["say_when_refusing"]);
    let question = read.template(&["question"]);
    let from = read.expression(&["from"]);
    let step = question.zip(from).map(|(question, from)| {
        let answer = Answer {
            from,
            question,
            cite,
            least_score,
            least_probability,
            keep_unsupported,
            quote_when_nothing_left,
            refusal,
        };
        Box::new(answer) as Box<dyn Step>
    });
    read.finish(step)
}
