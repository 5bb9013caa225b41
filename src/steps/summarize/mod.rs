//! `summarize`: a text of about the length asked for, whose every sentence is carried by what was read.
//!
//! The document is read in parts, all of them. Each part gives notes; a note that its part does not carry is dropped,
//! so that what a small model makes up is not written. Read [`notes`] next, then [`compose`].

mod choose;
mod compose;
mod notes;

use serde_json::{Value, json};

use super::ask::{Asker, language, language_name, render_with};
use super::options::Reader;
use super::parts::{ByModel, Part, coverage, pack};
use super::prompt::{Expression, Template, Templates, texts};
use super::{BuildContext, OptionFault, Port, Reason, Step, StepContext, StepError, StepKind, StepOutput};
use crate::spec::{KeySpec, ValueSpec};
use crate::steps::grounding::{Dropped, Ground, Grounded};

const STRATEGIES: &[&str] = &["auto", "stuff", "notes", "map-reduce", "refine", "tree"];
const LATER: &[&str] = &["refine", "tree"];

pub static KIND: StepKind = StepKind {
    name: "summarize",
    summary: "Writes a summary of a document, each sentence with the turns that carry it",
    guide: "Reads every turn of the document, in as many parts as it needs, and writes about `length`. A sentence is \
            kept only if the turns it is about hold its words, its names and its numbers; the others are dropped and \
            counted in the run's report. Where nothing that the model wrote about a part could be kept, the part's \
            most telling sentence is quoted instead.\n\n\
            `stuff` reads the document in one piece and fails if it does not fit; `notes` writes cited notes per part \
            and then one text from them, and keeps the notes themselves where that text is not carried by them; \
            `map-reduce` condenses the notes in rounds, each half as long as the one before. `auto` is `stuff` for \
            what fits one part and `notes` for everything else.",
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
            "How long the summary may be; a short document gives a shorter one",
        ),
        KeySpec::optional("focus", ValueSpec::Template, "What to pay attention to, in words for the model"),
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
        Port { name: "coverage", kind: "number", help: "The share of the document that was read, 1 for all of it" },
        Port { name: "turns_read", kind: "number", help: "Turns that were read" },
        Port { name: "turns_total", kind: "number", help: "Turns there are" },
        Port { name: "parts", kind: "number", help: "Parts the document was read in" },
        Port { name: "quoted", kind: "number", help: "Parts that are quoted because no note about them could be kept" },
        Port { name: "written", kind: "text", help: "`model` or `notes`: who joined the notes into one text" },
    ],
    example: "id: summary\nuse: summarize\nlength: 180 words\nfocus: What changed, what was settled, what is open.\ncite: turns\n",
    build,
};

const NUM_TOPICS: usize = 6;

struct Summarize {
    strategy: Strategy,
    num_words: usize,
    focus: Option<Template>,
    cite: bool,
    language: Option<String>,
    given: Vec<Expression>,
    about: bool,
    size: Option<usize>, // tokens
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Strategy {
    Auto,
    Stuff,
    Notes,
    MapReduce,
}

fn build(cx: &BuildContext<'_>) -> Result<Box<dyn Step>, Vec<OptionFault>> {
    let mut read = Reader::new(cx);
    let strategy = match read.text(&["strategy"]).unwrap_or("auto") {
        "stuff" => Strategy::Stuff,
        "notes" => Strategy::Notes,
        "map-reduce" => Strategy::MapReduce,
        later if LATER.contains(&later) => {
            let hint = "auto, stuff, notes and map-reduce are".to_owned();
            read.fault_with_hint(&["strategy"], format!("the strategy `{later}` is not in this version"), Some(hint));
            Strategy::Auto
        }
        _ => Strategy::Auto,
    };
    let (n, unit) = read.amount(&["length"]).unwrap_or((200, "words"));
    if n == 0 {
        read.fault(&["length"], "a summary of no length says nothing");
    }
    let step = Summarize {
        strategy,
        num_words: if unit == "sentences" { n * notes::WORDS_PER_SENTENCE } else { n },
        focus: read.template(&["focus"]),
        cite: read.text(&["cite"]) != Some("none"),
        language: read.text(&["language"]).filter(|l| *l != "auto").map(str::to_owned),
        given: read.expressions(&["given"]),
        about: read.flag(&["about"]),
        size: read.amount(&["size"]).map(|(n, _)| n),
    };
    read.finish(Some(Box::new(step) as Box<dyn Step>))
}

/// One document on its way through a summary: what all the stages need.
struct Work<'a> {
    cx: &'a StepContext<'a>,
    asker: Asker<'a>,
    ground: Ground,
    focus: String,
    language: &'a str, // its English name where it has to be said, else empty
    given: Vec<Value>,
    num_words: usize,
}

impl Step for Summarize {
    fn run(&self, cx: &StepContext<'_>) -> Result<StepOutput, StepError> {
        let own_language = language(cx);
        let wanted = self.language.as_deref().unwrap_or(&own_language);
        let focus = self.focus.as_ref().map(|f| render_with(cx, f, &[])).transpose()?.unwrap_or_default();
        let templates = Templates::new();
        let given = self.given.iter().map(|e| templates.eval(e, cx.names)).collect::<Result<Vec<_>, _>>()?;
        let work = Work {
            cx,
            asker: Asker::new(cx)?,
            ground: Ground::new(cx.document, &own_language),
            focus,
            // A model that is told to write English writes about English; only other languages are named.
            language: if matches!(wanted, "" | "en") { "" } else { language_name(wanted) },
            given,
            num_words: self.num_words,
        };
        let (parts, strategy) = self.parts(&work)?;
        if parts.is_empty() {
            return Err(StepError { reason: Reason::NoTextFound, detail: "there is nothing to summarize".into() });
        }
        let notes = notes::take(&work, &parts)?;
        let composed = compose::compose(&work, &notes, strategy == Strategy::MapReduce)?;
        let about = if self.about { compose::about(&work, &composed.sentences)? } else { compose::About::default() };

        let coverage = coverage(cx.document, &parts, &notes.was_read);
        let mut out = StepOutput { usage: notes.usage, ..StepOutput::default() };
        out.usage += composed.usage;
        out.usage += about.usage;
        out.partial = notes.failures(&coverage);
        out.notes = remarks(&notes, &composed);
        out.value = json!({
            "text": joined(cx, &composed.sentences, false),
            "cited": joined(cx, &composed.sentences, self.cite),
            "sentences": composed.sentences.iter().map(|s| sentence_value(cx, s, &notes)).collect::<Vec<_>>(),
            "about": about.text,
            "topics": work.ground.topics(cx.document, NUM_TOPICS),
            "coverage": coverage.share(),
            "turns_read": if coverage.unit == "turn" { coverage.read } else { 0 },
            "turns_total": if coverage.unit == "turn" { coverage.total } else { 0 },
            "parts": parts.len(),
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
        let empty = texts::render(&texts::NOTE, &work.note_names("", 9, false))?;
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
        let room = asker.room(&empty, notes::max_tokens(notes::MOST_SENTENCES))?;
        let size = self.size.unwrap_or_else(|| part_size(asker.window())).min(room);
        let parts = pack(document, size, 0, &count);
        let auto = if parts.len() <= 1 { Strategy::Stuff } else { Strategy::Notes };
        Ok((parts, if self.strategy == Strategy::Auto { auto } else { self.strategy }))
    }
}

/// The tokens a model reads at once when nobody says how many.
pub fn part_size(window: usize) -> usize {
    (window / 36).clamp(200, 2400)
}

impl Work<'_> {
    /// The names that the prompt for a note sees.
    fn note_names(&self, text: &str, sentences: usize, again: bool) -> Value {
        json!({
            "text": text, "sentences": sentences, "again": again, "focus": self.focus,
            "speakers": !self.cx.document.turns.is_empty(), "language_name": self.language,
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
    remarks.extend(composed.remark.clone());
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
mod tests {
    use super::*;
    use crate::inference::engine::{FinishReason, GenerateError};
    use crate::steps::fakes::{self, Fake, meeting};

    fn options(more: Value) -> Value {
        let mut options = json!({ "strategy": "auto", "length": { "n": 60, "unit": "words" }, "cite": "turns", "language": "auto", "about": false });
        options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        options
    }

    /// Sixty turns on twenty things, so that each part is about something.
    fn long() -> crate::corpus::document::Document {
        let things = ["printer", "van", "depot", "label", "cake", "banner", "hotfix", "queue", "replica", "pharmacy"];
        let turns: Vec<(String, String)> = (0..60)
            .map(|i| {
                (["Anna", "Bo"][i % 2].to_string(), format!("The {} needs repair number {i} soon.", things[i / 6]))
            })
            .collect();
        meeting(&turns.iter().map(|(s, t)| (s.as_str(), t.as_str())).collect::<Vec<_>>())
    }

    /// Repeats the first line it was shown in the third person.
    fn honest(prompt: &str) -> String {
        let line = prompt.split("---\n").nth(1).unwrap_or_default().lines().next().unwrap_or_default();
        let (speaker, words) = line.split_once(": ").unwrap_or(("Someone", line));
        format!("{speaker} said that {}", words.to_lowercase())
    }

    #[test]
    fn every_turn_is_read_and_every_sentence_cites_turns_that_exist() {
        let document = long();
        let fake = Fake::answering(honest);
        let out =
            fakes::run(&KIND, options(json!({ "size": { "n": 300, "unit": "tokens" } })), &document, &fake).unwrap();
        assert_eq!(out.value["coverage"], 1.0);
        assert_eq!(out.value["turns_read"], 60);
        assert!(out.value["parts"].as_u64().unwrap() > 5);
        let shown = fake.prompts.lock().unwrap().join("\n");
        for turn in &document.turns {
            assert!(shown.contains(document.turn_text(turn)), "{} was not shown", turn.id);
        }
        let sentences = out.value["sentences"].as_array().unwrap();
        assert!(!sentences.is_empty());
        for sentence in sentences {
            assert!(!sentence["turns"].as_array().unwrap().is_empty(), "{sentence}");
        }
        assert!(out.value["text"].as_str().unwrap().split_whitespace().count() <= 66);
        assert!(out.value["cited"].as_str().unwrap().contains("[T"));
        assert_eq!(out.partial, Vec::<String>::new());
    }

    #[test]
    fn what_a_model_makes_up_is_not_written() {
        let fake = Fake::answering(|_| "Here is a summary. Kenneth Freelance took out a loan of 5000 dollars.".into());
        let out = fakes::run(&KIND, options(json!({})), &long(), &fake).unwrap();
        let text = out.value["text"].as_str().unwrap();
        assert!(!text.contains("Kenneth") && !text.contains("summary"), "{text}");
        assert!(text.contains("repair"), "nothing was quoted instead: {text}");
        assert!(out.notes.iter().any(|n| n.contains("quoted")), "{:?}", out.notes);
    }

    #[test]
    fn a_failed_part_leaves_the_document_partial_with_its_turns_named() {
        let fake = Fake::new(|prompt, _| {
            if prompt.contains("number 31 soon") {
                return Err(GenerateError::Engine("out of blocks".into()));
            }
            Ok((honest(prompt), FinishReason::Stop))
        });
        let out =
            fakes::run(&KIND, options(json!({ "size": { "n": 300, "unit": "tokens" } })), &long(), &fake).unwrap();
        assert!(out.value["coverage"].as_f64().unwrap() < 1.0);
        assert!(out.partial[0].contains("T32") && out.partial[0].contains("out of blocks"), "{:?}", out.partial);
        assert!(out.coverage.unwrap().unread.contains(&"T32".to_string()));
    }

    #[test]
    fn when_no_part_can_be_read_the_step_fails_with_the_reason() {
        let fake = Fake::new(|_, _| Err(GenerateError::Engine("out of blocks".into())));
        let error = fakes::run(&KIND, options(json!({})), &long(), &fake).unwrap_err();
        assert_eq!(error.reason, Reason::EngineFailed);
        let fake = Fake::answering(honest);
        let nothing = fakes::run(&KIND, options(json!({})), &meeting(&[("A", " ")]), &fake).unwrap_err();
        assert_eq!(nothing.reason, Reason::NoTextFound);
    }

    #[test]
    fn stuff_refuses_what_does_not_fit_instead_of_cutting_it() {
        let fake = Fake::answering(honest).with_window(2600);
        let error = fakes::run(&KIND, options(json!({ "strategy": "stuff" })), &long(), &fake).unwrap_err();
        assert_eq!(error.reason, Reason::OverTheWindow);
        assert!(error.detail.contains("notes"), "{error}");
    }

    #[test]
    fn map_reduce_ends_however_the_model_behaves() {
        let fake = Fake::answering(honest);
        let more = json!({ "strategy": "map-reduce", "size": { "n": 300, "unit": "tokens" }, "length": { "n": 20, "unit": "words" } });
        let out = fakes::run(&KIND, options(more), &long(), &fake).unwrap();
        assert!(out.value["text"].as_str().unwrap().split_whitespace().count() <= 24);
    }

    #[test]
    fn strategies_of_a_later_version_are_refused_by_name() {
        let faults = fakes::build(&KIND, options(json!({ "strategy": "tree" }))).err().unwrap();
        assert_eq!(faults[0].path, ["strategy"]);
        assert!(faults[0].message.contains("not in this version"));
    }
}
