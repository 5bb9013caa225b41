//! The keys of a pipeline file outside its verbs, each defined once: what `check` allows, `explain` tells and the
//! editor's schema holds.

use super::eval::compare::HOW;
use super::params;
use super::plan::OnRemoved;
use crate::corpus::chunker::CHUNK_KEYS;
use crate::corpus::reader::READ_KEYS;
use crate::spec::{KeySpec, ValueSpec};

const FOREVER: i64 = i64::MAX;

/// The top of the file. The sections have tables of their own; what stands here as `Any` is checked with them.
pub static ROOT: &[KeySpec] = &[
    KeySpec::required("version", ValueSpec::Any, "The version of the file format: 1."),
    KeySpec::optional("name", ValueSpec::Text, "What the pipeline is called in reports. By default the file's name."),
    KeySpec::optional("description", ValueSpec::Text, "One line for whoever meets the file."),
    KeySpec::optional(
        "include",
        ValueSpec::List(&ValueSpec::Setting),
        "Files whose `params`, `schemas`, `labels` and `step_lists` are those of this file too.",
    ),
    KeySpec::optional("params", ValueSpec::Any, "What a caller may choose with -p, by name."),
    KeySpec::optional("model", ValueSpec::Object(MODEL), "Which model answers, and how it decodes."),
    KeySpec::required("sources", ValueSpec::Any, "Which files are read, by name."),
    KeySpec::optional("indexes", ValueSpec::Any, "Passages that `retrieve` can find, by name."),
    KeySpec::optional("schemas", ValueSpec::Any, "The shapes of records that steps can name."),
    KeySpec::optional(
        "labels",
        ValueSpec::Any,
        "Sets of labels that `classify` can name, each label with its meaning.",
    ),
    KeySpec::optional("step_lists", ValueSpec::Any, "Lists of steps that `steps` can take in with `insert`, by name."),
    KeySpec::required("steps", ValueSpec::Any, "What is done with each document, in this order."),
    KeySpec::optional("outputs", ValueSpec::Any, "What is written."),
    KeySpec::optional("run", ValueSpec::Object(RUN), "What happens to failures, how long and how many at once."),
    KeySpec::optional(
        "eval",
        ValueSpec::Any,
        "What `quarry eval` measures against golden files, and how good it must be.",
    ),
    KeySpec::optional("profiles", ValueSpec::Any, "By name, what `--profile` changes in the other sections."),
    KeySpec::optional(
        "tests",
        ValueSpec::Any,
        "Documents with scripted answers and what must hold; `quarry test` runs them.",
    ),
];

pub static EVAL: &[KeySpec] = &[
    KeySpec::required(
        "golden",
        PATTERNS,
        "Files with what should come out: YAML with a document each, JSON lines or CSV with one in each line. The review \
         page saves such lines.",
    ),
    KeySpec::required(
        "measure",
        ValueSpec::List(&ValueSpec::Text),
        "What is measured, as step and measure: actions.f1, kind.accuracy, citations.support. `quarry explain eval` \
         lists them.",
    ),
    KeySpec::optional(
        "gate",
        ValueSpec::Map(&ValueSpec::Text),
        "By measure, what it must be, such as \">= 0.60\"; `quarry eval` ends with 7 where one is not, or where a golden \
         document was not run.",
    ),
    KeySpec::optional(
        "compare",
        ValueSpec::Map(&ValueSpec::Map(&ValueSpec::Choice(HOW))),
        "By step and field, when two values are the same. By default `auto`: case, white space, and ways to write numbers \
         and dates aside; `words`: from two thirds shared words on.",
    ),
    KeySpec::optional(
        "match",
        ValueSpec::Map(&ValueSpec::List(&ValueSpec::Text)),
        "By step, the fields that say which item of a list is which. By default all.",
    ),
];

pub static TEST: &[KeySpec] = &[
    KeySpec::required("name", ValueSpec::Text, "What the test is called."),
    KeySpec::optional("file", ValueSpec::File, "The document it is tried on."),
    KeySpec::optional("text", ValueSpec::Any, "The words of the document, instead of a file."),
    KeySpec::optional("row", ValueSpec::Any, "The fields of the row, where the documents are rows."),
    KeySpec::optional(
        "documents",
        ValueSpec::Any,
        "Several documents, each with `file`, `text` or `row`: what must hold is then asked over all of them.",
    ),
    KeySpec::optional("document", ValueSpec::Text, "What the document is called; how it is read goes by its ending."),
    KeySpec::optional(
        "answers",
        ValueSpec::Any,
        "The model's answers: rules `{ when, answer }`, the first that fits the prompt; or a JSON file that holds them.",
    ),
    KeySpec::required(
        "expect",
        ValueSpec::List(&ValueSpec::Expression),
        "What must hold at the end, over `doc`, `steps`, `params` and `run`; `doc.state` is the state.",
    ),
];

pub static PARAM: &[KeySpec] = &[
    KeySpec::required("type", ValueSpec::Choice(params::TYPES), "What values it takes."),
    KeySpec::optional("default", ValueSpec::Any, "The value where the caller gives none."),
    KeySpec::optional("help", ValueSpec::Text, "One line for the caller."),
    KeySpec::optional("min", ANY_NUMBER, "The smallest value of an integer or a number."),
    KeySpec::optional("max", ANY_NUMBER, "The largest value of an integer or a number."),
    KeySpec::default(
        "optional",
        ValueSpec::Boolean,
        "false",
        "Whether it may be left without a value: it is then none.",
    ),
    KeySpec::default("required", ValueSpec::Boolean, "false", "Whether the caller has to give it; it has no default."),
    KeySpec::optional("env", ValueSpec::Text, "The environment variable it is taken from where -p does not give it."),
    KeySpec::default("secret", ValueSpec::Boolean, "false", "Whether its value is left out of what is shown."),
];

const ANY_NUMBER: ValueSpec = ValueSpec::Number { min: f64::NEG_INFINITY, max: f64::INFINITY };

pub static MODEL: &[KeySpec] = &[
    KeySpec::default(
        "use",
        ValueSpec::OneOf(&[
            ValueSpec::Setting,
            ValueSpec::Object(PINNED),
            ValueSpec::List(&ValueSpec::OneOf(&[ValueSpec::Setting, ValueSpec::Object(PINNED)])),
        ]),
        "granite-3.1-1b-a400m-instruct",
        "The model, or several in order of preference: a name of the catalogue, a path, or `hf:owner/repo[/file]`, each \
         also as `{ path, sha256 }`. A later one is used only when an earlier one cannot be had, and that is said in every \
         output.",
    ),
    KeySpec::optional(
        "window",
        ValueSpec::Integer { min: 256, max: FOREVER },
        "Tokens, prompt and answer together. By default, and at most, the model's own.",
    ),
    KeySpec::default(
        "temperature",
        ValueSpec::Number { min: 0.0, max: 2.0 },
        "0",
        "0 always takes the likeliest token.",
    ),
    KeySpec::default(
        "top_k",
        ValueSpec::Integer { min: 0, max: 1_000_000 },
        "0",
        "Of the likeliest k tokens; 0 is off.",
    ),
    KeySpec::default(
        "top_p",
        ValueSpec::Number { min: 0.0, max: 1.0 },
        "1",
        "Of the likeliest tokens that hold this share; 1 is off.",
    ),
    KeySpec::default(
        "min_p",
        ValueSpec::Number { min: 0.0, max: 1.0 },
        "0",
        "Of tokens at least this likely beside the likeliest; 0 is off.",
    ),
    KeySpec::default(
        "repetition_penalty",
        ValueSpec::Number { min: 0.1, max: 10.0 },
        "1",
        "Above 1 makes a token less likely that was there lately; 1 is off.",
    ),
    KeySpec::default("seed", ValueSpec::Integer { min: 0, max: FOREVER }, "0", "The same seed gives the same text."),
    KeySpec::default(
        "threads",
        ValueSpec::OneOf(&[ValueSpec::Choice(&["all"]), ValueSpec::Integer { min: 1, max: 4096 }]),
        "all",
        "Processor cores in use. Never changes what comes out.",
    ),
    KeySpec::optional(
        "quantize",
        ValueSpec::Choice(&["q8_0", "q4_k", "none"]),
        "What safetensors weights are turned into at their first load, and kept as. By default q8_0 for models of the \
         hub and none for folders; GGUF files are used as they are.",
    ),
];

/// A model whose bytes are known beforehand.
pub static PINNED: &[KeySpec] = &[
    KeySpec::required(
        "path",
        ValueSpec::Setting,
        "The file or folder, relative to the pipeline, or another name of a model.",
    ),
    KeySpec::required(
        "sha256",
        ValueSpec::Setting,
        "What `quarry model lock` says of it; a model that differs is not used: exit code 8.",
    ),
];

pub static SOURCE: &[KeySpec] = &[
    KeySpec::optional("files", PATTERNS, "One glob or several; `**` stands for any folders, `{a,b}` for a choice."),
    KeySpec::optional(
        "rows",
        ValueSpec::Setting,
        "Instead of `files`, a CSV or JSON Lines file, or `-` for standard input: each row is a document with its fields \
         as `row`. Beside files, its rows are there for steps with `per: row`.",
    ),
    KeySpec::optional(
        "stdin",
        ValueSpec::Setting,
        "Instead of `files`, what comes in on standard input: one document, called so; how it is read goes by its \
         content and its ending.",
    ),
    KeySpec::optional(
        "id",
        ValueSpec::Setting,
        "The column that tells rows apart. By default `id` where there is one, else their number.",
    ),
    KeySpec::optional(
        "ignore",
        PATTERNS,
        "Globs of files that are left out; one that begins with `**/` is of any folder.",
    ),
    KeySpec::default("read", ValueSpec::Any, "{}", "How the files are read."),
    KeySpec::default(
        "on_removed",
        ON_REMOVED,
        "keep",
        "What becomes of the outputs of a document that is gone: they stay, are removed, or stay as a mark without \
         content.",
    ),
];

pub static INDEX: &[KeySpec] = &[
    KeySpec::required(
        "from",
        ValueSpec::Text,
        "The source whose files it holds; they are then no documents of the run.",
    ),
    KeySpec::default(
        "split",
        ValueSpec::Object(CHUNK_KEYS),
        "{ size: 400 tokens }",
        "How files are cut into passages. Tokens are counted without a model, about as one would.",
    ),
    KeySpec::default("text", ValueSpec::Choice(&["bm25"]), "bm25", "How passages are found by words."),
    KeySpec::optional(
        "vectors",
        ValueSpec::OneOf(&[ValueSpec::Setting, ValueSpec::Object(VECTORS)]),
        "A model that embeds, such as minilm: passages are then found by words and by vectors.",
    ),
    KeySpec::optional(
        "fields",
        ValueSpec::Map(&ValueSpec::Expression),
        "What `filter` can ask for beside what every document has: names, and expressions over `doc`. A document for \
         which one gives nothing does not have it.",
    ),
];

pub static VECTORS: &[KeySpec] = &[
    KeySpec::required("model", ValueSpec::Setting, "The model that embeds."),
    KeySpec::default(
        "when",
        ValueSpec::Choice(&["always", "available"]),
        "always",
        "Where the model cannot be had: `always` ends the run, `available` finds by words alone and says so.",
    ),
];

/// What becomes of outputs whose document is gone.
const ON_REMOVED: ValueSpec = ValueSpec::Choice(OnRemoved::WORDS);

/// A glob or a list of them: also the short form of a source.
pub const PATTERNS: ValueSpec = ValueSpec::OneOf(&[ValueSpec::Setting, ValueSpec::List(&ValueSpec::Setting)]);

/// What every step has beside the keys of its verb.
pub static STEP: &[KeySpec] = &[
    KeySpec::required("id", ValueSpec::Text, "The step's name: its value is `steps.<id>`."),
    KeySpec::required("use", ValueSpec::Text, "The verb."),
    KeySpec::default(
        "per",
        ValueSpec::Choice(&["document", "chunk", "turn", "page", "row", "group", "corpus"]),
        "document",
        "What the step is done for, once each. `group` and `corpus` wait for all documents: the values of earlier steps \
         are then lists, one for each document.",
    ),
    KeySpec::optional(
        "over",
        ValueSpec::Expression,
        "With `per`, the chunks, turns or pages it is done for, or the source whose rows; else the only texts that the \
         step reads.",
    ),
    KeySpec::optional(
        "group_by",
        ValueSpec::Expression,
        "With `per: group`, what the documents of a group share, or `steps.<id>` of a `group` over all documents. The \
         file has one grouping; it is said once.",
    ),
    KeySpec::optional(
        "foreach",
        ValueSpec::Expression,
        "A list: the step is done for each `item`, its value is a list.",
    ),
    KeySpec::optional("when", ValueSpec::Expression, "Where it is false the step is left out and its value is none."),
    KeySpec::optional("on_error", ON_ERROR, "What its failure does to the document. By default, `run.on_error`."),
];

const ON_ERROR: ValueSpec = ValueSpec::Choice(&["stop", "quarantine", "skip", "mark"]);

pub static OUTPUT: &[KeySpec] = &[
    KeySpec::optional("name", ValueSpec::Text, "What it is called in reports. By default the name of its file."),
    KeySpec::required(
        "path",
        ValueSpec::Template,
        "Where it is written, a template over `doc`, `params` and `run`, relative to the pipeline's folder.",
    ),
    KeySpec::default(
        "per",
        ValueSpec::Choice(&["document", "group", "corpus"]),
        "document",
        "What it is written for, once each; `group` and `corpus` when all documents are done.",
    ),
    KeySpec::optional("group_by", ValueSpec::Expression, "With `per: group`, as in a step."),
    KeySpec::optional("content", ValueSpec::Expression, "The text of one file per document."),
    KeySpec::optional(
        "fields",
        ValueSpec::Map(&ValueSpec::Expression),
        "The fields of one record per document, or per item of `explode`, all in one file.",
    ),
    KeySpec::optional("key", ValueSpec::Expression, "A new record replaces the one that has the same key."),
    KeySpec::optional("explode", ValueSpec::Expression, "A list: one record for each `item`."),
    KeySpec::optional("only", ValueSpec::Expression, "Where it is false nothing is written."),
    KeySpec::optional(
        "format",
        ValueSpec::Choice(FORMATS),
        "By default what the path ends in: .md, .txt, .html, .jsonl, .csv or .parquet; `review` is always HTML. HTML from a `render` that escapes is \
         written as it is, any other text is escaped.",
    ),
    KeySpec::default(
        "write",
        ValueSpec::Choice(&["atomic-append"]),
        "atomic-append",
        "How records are added: into the journal first, then whole lines. There is no other way.",
    ),
    KeySpec::optional(
        "contract",
        ValueSpec::Schema,
        "A schema that each record must fit; a document with one that does not fails.",
    ),
    KeySpec::optional("on_removed", ON_REMOVED, "As in a source, for this output alone."),
    KeySpec::optional(
        "review",
        ValueSpec::List(&ValueSpec::Expression),
        "Steps, as `steps.x`, that one HTML page for all documents shows beside their source, to be corrected and saved \
         as a golden file. `only` then also sees `min_support`, the least support or probability; what failed is always \
         on it.",
    ),
];

/// What can be written.
pub const FORMATS: &[&str] = &["markdown", "text", "html", "jsonl", "csv", "parquet"];

pub static RUN: &[KeySpec] = &[
    KeySpec::default(
        "on_error",
        ON_ERROR,
        "quarantine",
        "What a failure does: `quarantine` sets the document aside with its reason and goes on, `skip` leaves the \
         step's value none and the document partial, `mark` too, and a `check` then keeps its value, `stop` ends the run.",
    ),
    KeySpec::default(
        "max_failed",
        ValueSpec::ShareOrCount,
        "100%",
        "More failed documents than this, as a count or a share of the inputs, abort the run.",
    ),
    KeySpec::default("timeout", ValueSpec::Object(TIMEOUT), "{}", "How long things may take."),
    KeySpec::default(
        "in_flight",
        ValueSpec::Integer { min: 1, max: 256 },
        "4",
        "Documents worked on at once; the model answers them together. Never changes what comes out.",
    ),
    KeySpec::default(
        "read_ahead",
        ValueSpec::Size,
        "64 MiB",
        "Documents are parsed on all cores before their turn, up to so much in memory at once; `0 bytes`: each in its turn.",
    ),
    KeySpec::optional(
        "quarantine",
        ValueSpec::Template,
        "A file that lists the failed documents, one JSON line each: a template over `params` and `run`.",
    ),
    KeySpec::optional("retry", ValueSpec::Object(RETRY), "Whether a step that failed is tried again, and how."),
    KeySpec::optional(
        "deadline",
        ValueSpec::Setting,
        "When the run ends, whatever is left: a time of the day such as 06:00, or +5h after its start. Exit code 6.",
    ),
    KeySpec::default("lock", ValueSpec::Object(LOCK), "{}", "What a run does while another works on the same outputs."),
    KeySpec::optional(
        "events",
        ValueSpec::Template,
        "A file that what happens is added to, one JSON line each: a template over `params` and `run`.",
    ),
    KeySpec::optional(
        "nice",
        ValueSpec::Integer { min: 0, max: 19 },
        "How much the run gives way to other programs: 19 the most. Never changes what comes out.",
    ),
];

pub static LOCK: &[KeySpec] = &[KeySpec::default(
    "wait",
    ValueSpec::Duration,
    "0s",
    "How long it waits for the other to end; after that, exit code 5.",
)];

pub static TIMEOUT: &[KeySpec] = &[
    KeySpec::default("document", ValueSpec::Duration, "1h", "One document, all its steps together."),
    KeySpec::optional(
        "step",
        ValueSpec::Duration,
        "One step on one document. By default only the document's time counts.",
    ),
];

pub static RETRY: &[KeySpec] = &[
    KeySpec::default("times", ValueSpec::Integer { min: 0, max: 10 }, "1", "How often a failed step is tried again."),
    KeySpec::default(
        "on",
        ValueSpec::List(&ValueSpec::Choice(&["invalid-output", "timeout", "engine"])),
        "[invalid-output, timeout]",
        "Failures that are worth another try: an answer that does not fit, a step's time, the engine.",
    ),
    KeySpec::default("change", ValueSpec::Object(CHANGE), "{}", "What is different the next time."),
];

pub static CHANGE: &[KeySpec] = &[KeySpec::default(
    "temperature",
    ValueSpec::Number { min: 0.0, max: 2.0 },
    "0.2",
    "The temperature, with another seed each time; at 0 the same answer would come again.",
)];

/// How a source is read: the reader's own table.
pub fn read_keys() -> &'static [KeySpec] {
    READ_KEYS
}
