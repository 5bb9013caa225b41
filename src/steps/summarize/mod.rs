//! `summarize`: a text of about the length asked for, whose every sentence is carried by what was read.
//!
//! The document is read in parts, all of them. Each part gives notes; a note that its part does not carry is dropped,
//! so that what a small model makes up is not written. Read [`notes`] next, then [`compose`].

mod choose;
mod compose;
mod focus;
mod notes;
mod refine;
pub(super) mod topics;

use serde_json::{Value, json};

use super::ask::{Asker, language, language_name, render_with};
use super::options::{LAYOUT, Reader};
use super::parts::{ByModel, IDS_FROM_WINDOW, Part, coverage, pack};
use super::prompt::{Expression, Template, Templates, texts};
use super::{BuildContext, OptionFault, Port, Reason, Step, StepContext, StepError, StepKind, StepOutput};
use crate::spec::{KeySpec, ValueSpec};
use crate::steps::grounding::{Dropped, Ground, Grounded};
use choose::{Limit, Taste};

const STRATEGIES: &[&str] = &["auto", "stuff", "notes", "map-reduce", "refine", "tree"];

pub static KIND: StepKind = StepKind {
    name: "summarize",
    summary: "Writes a summary of a document, each sentence with the turns that carry it",
    guide: "Reads every turn of the document, in as many parts as it needs, and writes about `length`. A sentence is \
            kept only if the turns it is about hold its words, its names and its numbers; the others are dropped and \
            counted in the run's report. Where nothing that the model wrote about a part could be kept, the part's \
            most telling sentence is quoted instead.\n\n\
            `stuff` reads the document in one piece and fails if it does not fit; `notes` writes cited notes per part \
            and then one text from them, and keeps the notes themselves where that text is not carried by them; \
            `map-reduce` condenses the notes in rounds, each half as long as the one before; `tree` makes one text of \
            four neighbouring ones and one of four of those, up to one; `refine` takes one text through the parts in \
            order. How many rounds there are is known beforehand, and one that does not shrink is an error. `auto` is \
            `stuff` for what fits one part and `notes` for everything else.\n\n\
            `focus` says what to look at; `query` is a question, and then the summary holds what has to do with it, \
            the words that were said among it. Both find the turns they are about by their words; every turn is read \
            all the same. In a `language` other than the document's, only names and numbers can be held against it.",
    needs_model: true,
    keys: &[
        KeySpec::default(
            "strategy",
            ValueSpec::Choice(STRATEGIES),
            "auto",
            "How a document longer than one part is read",
        ),
        KeySpec::default(
            "length",
            ValueSpec::Amount { units: &["words", "sentences"] },
            "200 words",
            "How long the summary may be, at most; a short document gives a shorter one. Whole sentences are left out \
             to keep it, and the report says how many",
        ),
        LAYOUT,
        KeySpec::optional("focus", ValueSpec::Template, "What to pay attention to, in words for the model"),
        KeySpec::optional("query", ValueSpec::Template, "A question that the summary is to answer"),
        KeySpec::default(
            "cite",
            ValueSpec::Choice(&["turns", "none"]),
            "turns",
            "Whether `cited` names turns and times behind each sentence",
        ),
        KeySpec::default(
            "language",
            ValueSpec::Setting,
            "auto",
            "The language to write in, as a tag such as `de`; `auto` is the document's own",
        ),
        KeySpec::optional(
            "given",
            ValueSpec::List(&ValueSpec::Expression),
            "What is already known, such as the items of an earlier step: sentences about it come first",
        ),
        KeySpec::default("about", ValueSpec::Boolean, "false", "Also write one sentence saying what it all was about"),
        KeySpec::optional(
            "size",
            ValueSpec::Amount { units: &["tokens"] },
            "Tokens of the document read at once. Left out, it is a thirty-sixth of the window, at least 200 and at \
             most 2,400: models with a small window are small and lose the thread in long parts",
        ),
    ],
    outputs: &[
        Port { name: "text", kind: "text", help: "The summary" },
        Port { name: "cited", kind: "text", help: "The summary with its citations, as in `[T12 · 0:03:12]`" },
        Port { name: "sentences", kind: "list", help: "Each sentence as `{text, turns, at, score, quoted}`" },
        Port { name: "about", kind: "text", help: "What it was about, in one sentence; none unless asked for" },
        Port { name: "topics", kind: "list", help: "The words that most turns have in common, the commonest first" },
        Port {
            name: "sections",
            kind: "list",
            help: "What was talked about when: each stretch of turns as `{words, turns, num_turns, at, until}`",
        },
        Port { name: "coverage", kind: "number", help: "The share of the document that was read, 1 for all of it" },
        Port { name: "turns_read", kind: "number", help: "Turns that were read" },
        Port { name: "turns_total", kind: "number", help: "Turns there are" },
        Port { name: "parts", kind: "number", help: "Parts the document was read in" },
        Port {
            name: "rounds",
            kind: "number",
            help: "Rounds in which notes were made shorter, or one text was refined",
        },
        Port { name: "quoted", kind: "number", help: "Parts that are quoted because no note about them could be kept" },
        Port { name: "written", kind: "text", help: "`model` or `notes`: who joined the notes into one text" },
    ],
    example: "id: summary\nuse: summarize\nlength: 180 words\nfocus: What changed, what was settled, what is open.\ncite: turns\n",
    build,
};

const NUM_TOPICS: usize = 6;

struct Summarize {
    strategy: Strategy,
    num_words: usize, // for the model: a limit in sentences is turned into words
    limit: Limit,
    length: String, // as it was asked for
    focus: Option<Template>,
    query: Option<Template>,
    cite: bool,
    language: Option<String>,
    given: Vec<Expression>,
    about: bool,
    size: Option<usize>, // tokens
    text_last: bool,     // in prompts
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Strategy {
    Auto,
    Stuff,
    Notes,
    MapReduce,
    Refine,
    Tree,
}

fn build(cx: &BuildContext<'_>) -> Result<Box<dyn Step>, Vec<OptionFault>> {
    let mut read = Reader::new(cx);
    let strategy = match read.text(&["strategy"]).unwrap_or("auto") {
        "stuff" => Strategy::Stuff,
        "notes" => Strategy::Notes,
        "map-reduce" => Strategy::MapReduce,
        "refine" => Strategy::Refine,
        "tree" => Strategy::Tree,
        _ => Strategy::Auto,
    };
    let (n, unit) = read.amount(&["length"]).unwrap_or((200, "words"));
    if n == 0 {
        read.fault(&["length"], "a summary of no length says nothing");
    }
    let num_words = if unit == "sentences" { n.saturating_mul(notes::WORDS_PER_SENTENCE) } else { n };
    let step = Summarize {
        strategy,
        num_words,
        limit: match unit {
            "sentences" => Limit { words: usize::MAX, sentences: n },
            _ => Limit::words(n),
        },
        length: format!("{n} {unit}"),
        focus: read.template(&["focus"]),
        query: read.template(&["query"]),
        cite: read.text(&["cite"]) != Some("none"),
        language: read.text(&["language"]).filter(|l| *l != "auto").map(str::to_owned),
        given: read.expressions(&["given"]),
        about: read.flag(&["about"]),
        size: read.amount(&["size"]).map(|(n, _)| n),
        text_last: read.text_last(),
    };
    read.finish(Some(Box::new(step) as Box<dyn Step>))
}

/// One document on its way through a summary: what all the stages need.
struct Work<'a> {
    cx: &'a StepContext<'a>,
    asker: Asker<'a>,
    ground: Ground,
    focus: String,
    query: String,
    language: &'a str, // its English name where it has to be said, else empty
    given: Vec<Value>,
    num_words: usize,
    limit: Limit,
    length: &'a str,
    taste: Taste,
    text_last: bool,
}

impl Step for Summarize {
    fn run(&self, cx: &StepContext<'_>) -> Result<StepOutput, StepError> {
        let own_language = language(cx);
        let wanted = self.language.as_deref().unwrap_or(&own_language);
        let focus = self.focus.as_ref().map(|f| render_with(cx, f, &[])).transpose()?.unwrap_or_default();
        let query = self.query.as_ref().map(|q| render_with(cx, q, &[])).transpose()?.unwrap_or_default();
        let templates = Templates::new();
        let given = self.given.iter().map(|e| templates.eval(e, cx.names)).collect::<Result<Vec<_>, _>>()?;
        let is_asked = !query.trim().is_empty();
        let taste = Taste {
            given: compose::given_turns(cx.document, &given),
            relevance: focus::Relevance::new(cx.document, if is_asked { &query } else { &focus }),
            is_asked,
        };
        let is_foreign = !own_language.is_empty() && wanted != own_language;
        let ground = Ground::new(cx.document, &own_language);
        let work = Work {
            cx,
            asker: Asker::new(cx)?,
            ground: if is_foreign { ground.across_languages() } else { ground },
            focus,
            query: query.trim().to_owned(),
            // A model that is told to write English writes about English; only other languages are named.
            language: if matches!(wanted, "" | "en") && !is_foreign { "" } else { language_name(wanted) },
            given,
            num_words: self.num_words,
            limit: self.limit,
            length: &self.length,
            taste,
            text_last: self.text_last,
        };
        let (parts, strategy) = self.parts(&work)?;
        if parts.is_empty() {
            return Err(StepError { reason: Reason::NoTextFound, detail: "there is nothing to summarize".into() });
        }
        let (notes, composed) = match strategy {
            Strategy::Refine => refine::refine(&work, &parts)?,
            _ => {
                let notes = notes::take(&work, &parts)?;
                let composed = compose::compose(&work, &notes, strategy)?;
                (notes, composed)
            }
        };
        let about = if self.about { compose::about(&work, &composed.sentences)? } else { compose::About::default() };

        let coverage = coverage(cx.document, &parts, &notes.was_read);
        let mut out = StepOutput { usage: notes.usage, ..StepOutput::default() };
        out.usage += composed.usage;
        out.usage += about.usage;
        out.partial = notes.failures(&coverage);
        if composed.sentences.is_empty() {
            out.partial.push("the summary is empty: nothing that was written about the text could be kept".into());
        }
        out.notes = remarks(&notes, &composed);
        if is_foreign {
            let fact = "only names and numbers were held against what was said";
            out.notes.push(format!("written in another language than the document ({}): {fact}", own_language));
        }
        if is_asked && work.taste.relevance.is_none() {
            out.notes.push("no turn shares a word with the query: all count alike".into());
        }
        let sections = topics::topics(cx.document, &work.ground);
        out.value = json!({
            "text": joined(cx, &composed.sentences, false),
            "cited": joined(cx, &composed.sentences, self.cite),
            "sentences": composed.sentences.iter().map(|s| sentence_value(cx, s, &notes)).collect::<Vec<_>>(),
            "about": about.text,
            "topics": work.ground.topics(cx.document, NUM_TOPICS),
            "sections": sections.iter().map(|t| topics::value(cx.document, t)).collect::<Vec<_>>(),
            "coverage": coverage.share(),
            "turns_read": if coverage.unit == "turn" { coverage.read } else { 0 },
            "turns_total": if coverage.unit == "turn" { coverage.total } else { 0 },
            "parts": parts.len(),
            "rounds": composed.rounds,
            "quoted": notes.num_quoted(),
            "written": if composed.written_by_model { "model" } else { "notes" },
        });
        out.coverage = Some(coverage);
        Ok(out)
    }
}

impl Summarize {
    /// Cuts the document, and settles what `auto` means for it.
    fn parts(&self, work: &Work<'_>) -> Result<(Vec<Part>, Strategy), StepError> {
        let asker = &work.asker;
        let mut empty = texts::render(&texts::NOTE, &work.note_names("", 9, false))?;
        if self.strategy == Strategy::Refine {
            // Beside the part stands the text so far, as long as it may become.
            empty.push_str(&texts::render(&texts::REFINE, &work.refine_names("", &[]))?);
            empty.push_str(&" word.".repeat(self.num_words));
        }
        let count = ByModel(asker.generator);
        let document = work.cx.document;
        if self.strategy == Strategy::Stuff {
            let room = asker.room(&empty, notes::max_tokens(self.num_words.div_ceil(notes::WORDS_PER_SENTENCE)))?;
            let parts = pack(document, room, 0, &count);
            if parts.len() > 1 {
                let needed: usize = parts.iter().map(|p| p.num_tokens).sum();
                let detail =
                    format!("the document has {needed} tokens and {room} fit: strategy `notes` reads it in parts");
                return Err(StepError { reason: Reason::OverTheWindow, detail });
            }
            return Ok((parts, Strategy::Stuff));
        }
        let sentences = match self.strategy {
            Strategy::Refine => self.num_words.div_ceil(notes::WORDS_PER_SENTENCE),
            _ => notes::MOST_SENTENCES,
        };
        let room = asker.room(&empty, notes::max_tokens(sentences))?;
        let size = self.size.unwrap_or_else(|| part_size(asker.window())).min(room);
        // As `extract` reads it, so that the two share the work of reading where the model is shown ids.
        let overlap = if asker.window() < IDS_FROM_WINDOW { 0 } else { OVERLAP };
        let parts = pack(document, size, overlap, &count);
        let auto = if parts.len() <= 1 { Strategy::Stuff } else { Strategy::Notes };
        Ok((parts, if self.strategy == Strategy::Auto { auto } else { self.strategy }))
    }
}

/// The tokens a model reads at once when nobody says how many.
pub fn part_size(window: usize) -> usize {
    (window / 36).clamp(200, 2400)
}

/// Turns read again with the next part, as by `extract`.
const OVERLAP: usize = 2;

impl Work<'_> {
    /// A part as the model reads it.
    fn shown(&self, part: &Part) -> String {
        part.shown(self.cx.document, self.asker.window())
    }

    /// An answer without the ids that a model copied from what it was shown: citations are made from the words.
    fn without_ids(&self, answer: &str) -> String {
        let mut rest = answer;
        let mut text = String::with_capacity(answer.len());
        while let Some(at) = rest.find("[T") {
            let end = rest[at..].find(']').map(|end| at + end + 1);
            let is_id = |inside: &str| {
                inside
                    .split(',')
                    .all(|id| id.trim().strip_prefix('T').is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit())))
            };
            match end {
                Some(end) if is_id(&rest[at + 1..end - 1]) => {
                    text.push_str(rest[..at].trim_end_matches(' '));
                    // A space stays where words stood on both sides.
                    let goes_on = rest[end..].trim_start().starts_with(char::is_alphanumeric);
                    text.push_str(if goes_on && !text.is_empty() && !text.ends_with('\n') { " " } else { "" });
                    rest = rest[end..].trim_start_matches(' ');
                }
                _ => {
                    text.push_str(&rest[..at + 2]);
                    rest = &rest[at + 2..];
                }
            }
        }
        text + rest
    }

    /// The names that the prompt for a note sees.
    fn note_names(&self, text: &str, sentences: usize, again: bool) -> Value {
        json!({
            "text": text, "text_last": self.text_last, "sentences": sentences, "again": again, "focus": self.focus,
            "query": self.query, "speakers": !self.cx.document.turns.is_empty(), "language_name": self.language,
        })
    }
}

fn remarks(notes: &notes::Notes, composed: &compose::Composed) -> Vec<String> {
    let mut counts = std::collections::BTreeMap::<Dropped, usize>::new();
    for reason in &notes.dropped {
        *counts.entry(*reason).or_default() += 1;
    }
    let mut remarks: Vec<String> = counts
        .into_iter()
        .filter(|(reason, _)| !matches!(reason, Dropped::Repeated | Dropped::CutOff))
        .map(|(reason, n)| format!("left out {n} sentence{} {}", if n == 1 { "" } else { "s" }, reason.describe()))
        .collect();
    let quoted = notes.num_quoted();
    if quoted > 0 {
        let of = notes.was_read.len();
        remarks.push(format!("quoted {quoted} of {of} parts, about which the model wrote nothing that could be kept"));
    }
    remarks.extend(composed.remarks.iter().cloned());
    remarks
}

fn joined(cx: &StepContext<'_>, sentences: &[Grounded], cite: bool) -> String {
    let with_citation = |s: &Grounded| match citation(cx, &s.turns) {
        Some(citation) if cite => format!("{} {citation}", s.text),
        _ => s.text.clone(),
    };
    sentences.iter().map(with_citation).collect::<Vec<_>>().join(" ")
}

/// `[T12, T14 · 0:03:12]`; the time is that of the first turn, where one is known.
fn citation(cx: &StepContext<'_>, turns: &[usize]) -> Option<String> {
    let ids: Vec<String> = turns.iter().map(|&i| cx.document.turns[i].id.to_string()).collect();
    let time = super::moment(cx.document, turns).map(|t| format!(" · {t}")).unwrap_or_default();
    (!ids.is_empty()).then(|| format!("[{}{time}]", ids.join(", ")))
}

fn sentence_value(cx: &StepContext<'_>, sentence: &Grounded, notes: &notes::Notes) -> Value {
    json!({
        "text": sentence.text,
        "turns": sentence.turns.iter().map(|&i| cx.document.turns[i].id.to_string()).collect::<Vec<_>>(),
        "at": super::moment(cx.document, &sentence.turns),
        "score": (sentence.score * 100.0).round() / 100.0,
        "quoted": notes.is_quote(&sentence.text),
    })
}

#[cfg(test)]
mod tests;
