//! What an author can write in an `extract` step, and the step that is built from it.

use serde_json::Value;

use super::cues::{Cues, Topic};
use super::items::Otherwise;
use super::merge::Merge;
use super::record::{RULES, Rules};
use super::verify::Verify;
use super::{Extract, field_names};
use crate::corpus::chunker::ChunkBy;
use crate::spec::{KeySpec, ValueSpec};
use crate::steps::options::{LAYOUT, Reader};
use crate::steps::{BuildContext, OptionFault, Port, Step, StepKind, schema};

/// How items of several parts become one list.
const MERGE: &[KeySpec] = &[
    KeySpec::optional(
        "same_when",
        ValueSpec::List(&ValueSpec::Text),
        "Two items are one when all of these hold: a field's name says that it is equal, `similar(field, 0.8)` that its words are alike",
    ),
    KeySpec::optional("union", ValueSpec::List(&ValueSpec::Text), "Lists that are joined"),
    KeySpec::default(
        "conflict",
        ValueSpec::Choice(&["keep-both-and-mark", "first", "last"]),
        "keep-both-and-mark",
        "What happens to fields that differ, and to decisions that are taken back",
    ),
];

pub static KIND: StepKind = StepKind {
    name: "extract",
    summary: "Finds items that fit a schema, each with the words and turns that show it",
    guide: "Give `schema` for one object per document or `many` for a list. The answer cannot break the schema: it is \
            decoded under it. `builtin:turns`, `builtin:quote`, `builtin:speaker` and `builtin:when` (short: `turns`, \
            `quote`, `speaker`, `when`) can only take turns, sentences, names and dates that the text at hand holds; \
            put them first, so that the evidence is chosen before the words. An empty list is an answer, and an error \
            is no empty list.\n\n\
            Without `candidates` every part of the document is read in full. With it, a transcript is searched for \
            sentences whose words point to an item, and the model is asked about each with the turns `around` it: \
            right for small models. What the words settle is then not asked for: the turn, the sentence, the day it \
            names, and the speaker where the words say who. What was offered and turned down is left out and counted. \
            Turns that were not shown to the model are said to be unread.\n\n\
            Every item has `at`, the time of its first evidence; beside a field of type `when` stands `<field>_date`, \
            the day it means counted from `doc.meta.date`, where that is sure. Free text that the turns read do not \
            carry is replaced by the words said, and the item's `quoted` names the field.\n\n\
            With `evidence: per-field` the answer has a quote before each value, and the decoder can only write words of \
            the text there. `evidence` beside the fields then holds for each its `quote`, where it stands (`start` and \
            `end` in `doc.text`, `page`, or `turn`, `speaker` and `at`), `p_null` and `p_value`, how likely the model \
            found nothing and something to write, and `support`, whether it finds that the quote says so; `min_support` \
            is the least of them. A field that may be left out or null needs no quote when it is; a text or a number that \
            its own quote does not hold is null (`ground`), and `withheld` beside the quote has what was \
            written.\n\n\
            Keywords of a schema that cannot be enforced while decoding are named by `check`, and answers are held \
            against them: a record that breaks them is partial, an item of a list is dropped and counted. Where parts \
            state a field differently, `conflicts` has what was not kept.",
    needs_model: true,
    keys: &[
        KeySpec::optional("schema", ValueSpec::Schema, "One object per document"),
        KeySpec::optional("many", ValueSpec::Schema, "One item of a list"),
        KeySpec::optional("instruct", ValueSpec::Template, "What to find, in words for the model"),
        LAYOUT,
        KeySpec::optional(
            "examples",
            ValueSpec::List(&ValueSpec::Any),
            "Items as they should look, or `{ text, out }`: a text and what is to be found in it",
        ),
        KeySpec::optional(
            "evidence",
            ValueSpec::Choice(&["per-field"]),
            "Before each value the words it is read from, which can only be words of the text; a field that the text does not state is null",
        ),
        KeySpec::optional(
            "fields_per_call",
            ValueSpec::Integer { min: 1, max: 100 },
            "Asks for a large `schema` in groups of so many fields, one after the other over the same text",
        ),
        KeySpec::optional(
            "repair",
            ValueSpec::Object(&[
                KeySpec::default("times", ValueSpec::Integer { min: 1, max: 3 }, "1", "How often at most"),
                KeySpec::default(
                    "show",
                    ValueSpec::Choice(&["failed-checks"]),
                    "failed-checks",
                    "What the model is shown",
                ),
            ]),
            "Asks again where `verify` or the schema fails on the one record, with what failed; kept where less fails",
        ),
        KeySpec::optional(
            "candidates",
            ValueSpec::OneOf(&[
                ValueSpec::Choice(&["tasks", "decisions", "questions"]),
                ValueSpec::List(&ValueSpec::Text),
            ]),
            "Ask only about sentences with certain words: a list that comes with the program, or your own phrases",
        ),
        KeySpec::default(
            "around",
            ValueSpec::Amount { units: &["turns"] },
            "3 turns",
            "With `candidates`: the turns before a candidate that are read with it; two come after",
        ),
        KeySpec::default(
            "long",
            ValueSpec::Object(&[
                KeySpec::default(
                    "split",
                    ValueSpec::Object(&[
                        KeySpec::default(
                            "by",
                            ValueSpec::Choice(&["turns", "paragraphs", "sentences", "headings", "pages", "tokens"]),
                            "turns",
                            "What is kept whole; `turns` is paragraphs where there are no turns",
                        ),
                        KeySpec::optional(
                            "size",
                            ValueSpec::Amount { units: &["tokens"] },
                            "Tokens of the document read at once; left out, as for `summarize`",
                        ),
                        KeySpec::optional(
                            "overlap",
                            ValueSpec::Amount { units: &["turns", "paragraphs", "sentences", "pages"] },
                            "What is read again with the next part; left out, 2 turns with `many`, else nothing",
                        ),
                        KeySpec::optional(
                            "context",
                            ValueSpec::Choice(&["heading-path"]),
                            "What stands above each part: the headings it is under",
                        ),
                    ]),
                    "{}",
                    "How a long document is cut",
                ),
                KeySpec::default(
                    "merge",
                    ValueSpec::OneOf(&[ValueSpec::Map(&ValueSpec::Choice(RULES)), ValueSpec::Object(MERGE)]),
                    "{}",
                    "How several parts become one: with `schema` a rule for each field (`*` is all others), with `many` \
                     when two items are the same",
                ),
            ]),
            "{}",
            "How a long document is read",
        ),
        KeySpec::default(
            "ground",
            ValueSpec::Object(&[
                KeySpec::default(
                    "at_least",
                    ValueSpec::Number { min: 0.0, max: 1.0 },
                    "0.5",
                    "The least share of a free text's words that the turns read must hold",
                ),
                KeySpec::default(
                    "otherwise",
                    ValueSpec::Choice(&["quote", "none", "drop"]),
                    "quote",
                    "What to do with free text they do not hold: put the words said in its place, none, or drop the item",
                ),
            ]),
            "{}",
            "Holds free text against what was said",
        ),
        KeySpec::optional(
            "verify",
            ValueSpec::List(&ValueSpec::OneOf(&[
                ValueSpec::Object(&[KeySpec::required(
                    "support",
                    ValueSpec::Number { min: 0.0, max: 1.0 },
                    "The least probability that the model says yes when asked whether the item is true of its text",
                )]),
                ValueSpec::Expression,
            ])),
            "What must hold of `item`: an item that fails is dropped and counted. With `schema` it is `out`: what fails is \
             asked for again where there is `repair`, else the record is kept, partial, and `failed` says what",
        ),
    ],
    outputs: &[Port { name: "", kind: "object", help: "The one object; with `many`, a list of them" }],
    example: "id: actions\nuse: extract\nmany: { evidence: turns, said: quote, task: string, owner: speaker?, due: when? }\ninstruct: Find the tasks that someone took on.\ncandidates: tasks\nverify: [\"item.owner is none or item.owner in doc.speakers\"]\n",
    build,
};

fn build(cx: &BuildContext<'_>) -> Result<Box<dyn Step>, Vec<OptionFault>> {
    let mut read = Reader::new(cx);
    let schema_of = |key: &str, read: &mut Reader<'_>| match schema::from_options_for_validation(cx, key) {
        Ok(schema) => schema,
        Err(faults) => {
            for fault in faults {
                let path: Vec<&str> = fault.path.iter().map(String::as_str).collect();
                read.fault_with_hint(&path, fault.message, fault.hints.into_iter().next());
            }
            None
        }
    };
    let one = schema_of("schema", &mut read);
    let item = schema_of("many", &mut read);
    let (written_one, written_many) = (read.at(&["schema"]).is_some(), read.at(&["many"]).is_some());
    if written_one == written_many {
        let fact =
            if written_one { "both `schema` and `many` are given" } else { "neither `schema` nor `many` is given" };
        read.fault_with_hint(
            &[],
            fact,
            Some("`schema` describes one object per document, `many` one item of a list".into()),
        );
    }
    let many = item.is_some();
    let schema = item.or(one);
    if let Some(kind) = schema.as_ref().filter(|s| s.get("properties").is_none()) {
        let key = if many { "many" } else { "schema" };
        let fact = kind.get("type").and_then(Value::as_str).map_or("no fields".into(), |t| format!("type `{t}`"));
        read.fault(&[key], format!("an item is an object with fields, and this schema has {fact}"));
    }
    let topic = match read.at(&["candidates"]) {
        Some(Value::String(name)) => match name.as_str() {
            "tasks" => Some(Topic::Tasks),
            "decisions" => Some(Topic::Decisions),
            _ => Some(Topic::Questions),
        },
        Some(_) => Some(Topic::Phrases(Box::new(Cues::of_phrases(read.texts(&["candidates"]))))),
        None => None,
    };
    if topic.is_some() && !many {
        read.fault(&["candidates"], "candidates make a list of items: they go with `many`");
    }
    let fields: Vec<String> = schema.iter().flat_map(field_names).collect();
    let evidence = read.at(&["evidence"]).is_some();
    if evidence && topic.is_some() {
        read.fault(&["evidence"], "candidates bring their own evidence: the sentence they stand in");
    }
    if evidence && let Some(taken) = ["evidence", "min_support"].iter().find(|n| fields.iter().any(|f| f == *n)) {
        read.fault(&["evidence"], format!("the schema has a field `{taken}`, which is where the evidence stands"));
    }
    for key in ["fields_per_call", "repair"] {
        if many && read.at(&[key]).is_some() {
            read.fault(&[key], "goes with `schema`: items of a list are asked for whole");
        }
    }
    let (merge, rules) = if many {
        if let Some(rule) = read.at(&["long", "merge"]).and_then(Value::as_object).and_then(|m| {
            let is_rule = |(k, v): &(&String, &Value)| {
                v.as_str().is_some_and(|v| RULES.contains(&v)) && MERGE.iter().all(|spec| spec.name != k.as_str())
            };
            m.iter().find(is_rule).map(|(k, _)| k.clone())
        }) {
            read.fault(
                &["long", "merge", &rule],
                "a rule for a field goes with `schema`; items of a list are joined whole",
            );
        }
        (Merge::read(&mut read, &fields), Rules::none())
    } else {
        (Merge::default(), Rules::read(&mut read, &fields))
    };
    let verify = Verify::read(&mut read);
    let by = match read.text(&["long", "split", "by"]) {
        Some("paragraphs") => Some(ChunkBy::Paragraphs),
        Some("sentences") => Some(ChunkBy::Sentences),
        Some("headings") => Some(ChunkBy::Headings),
        Some("pages") => Some(ChunkBy::Pages),
        Some("tokens") => Some(ChunkBy::Tokens),
        _ => None,
    };
    let schema = schema.unwrap_or_default();
    let (decoded, afterwards) = schema::decodable(&schema);
    let step = Extract {
        many,
        instruct: read.template(&["instruct"]),
        examples: read.at(&["examples"]).and_then(Value::as_array).cloned().unwrap_or_default(),
        topic,
        around: read.amount(&["around"]).map_or(3, |(n, _)| n),
        size: read.amount(&["long", "split", "size"]).map(|(n, _)| n),
        overlap: read.amount(&["long", "split", "overlap"]).map(|(n, _)| n),
        by,
        with_headings: read.at(&["long", "split", "context"]).is_some(),
        merge,
        rules,
        least_carried: read.number(&["ground", "at_least"]).unwrap_or(0.5),
        otherwise: match read.text(&["ground", "otherwise"]) {
            Some("none") => Otherwise::None,
            Some("drop") => Otherwise::Drop,
            _ => Otherwise::Quote,
        },
        verify,
        evidence,
        text_last: read.text_last(),
        fields_per_call: read.count(&["fields_per_call"]),
        repairs: read.at(&["repair"]).map_or(0, |_| read.count(&["repair", "times"]).unwrap_or(1)),
        schema,
        decoded,
        afterwards,
    };
    read.finish(Some(Box::new(step) as Box<dyn Step>))
}
