//! What a template or an expression can name at the place where it stands: `params doc row corpus group steps run item`.
//! Knows the shape of these names and none of their values.

use std::cell::Cell;

use super::params::Params;
use super::plan::Per;
use super::references::{self, COMMON_FILTERS, COMMON_TESTS, DottedName, References};
use super::tree::{Position, quoted};
use crate::diagnostic::{Diagnostic, suggest};
use crate::steps::StepKind;

/// A name below `doc` or `run`.
pub struct Field {
    pub name: &'static str,
    pub help: &'static str,
    /// What may stand below it: nothing, or anything.
    pub is_open: bool,
}

const fn field(name: &'static str, help: &'static str) -> Field {
    Field { name, help, is_open: false }
}

pub static DOC: &[Field] = &[
    field("path", "where the file lies"),
    field("name", "the file's name, extension included"),
    field("stem", "the file's name without its extension"),
    field("ext", "the file's extension"),
    field("sha256", "the hash of the bytes that were read"),
    field("format", "text, markdown, vtt, srt, transcript or pdf"),
    field("text", "the whole text; a step that asks the model counts it with `doc.text | tokens`"),
    field("tokens", "how many tokens of the model the text has; known where a step asks the model"),
    field("pages", "a list of {number, text}"),
    field("headings", "a list of {level, title}"),
    field("turns", "a list of turns: id, speaker, times, text"),
    field("speakers", "each speaker once, in the order of their first turn"),
    Field { name: "meta", help: "what the file says of itself", is_open: true },
    field("title", "what the file says it is called, else its first heading, else none"),
    field("warnings", "what the reader dropped, repaired or doubted"),
];

/// Known only when a document's steps are done.
pub static DOC_AT_END: &[Field] = &[
    field("state", "ok, partial, abstained or failed"),
    field("remarks", "a list of why it is partial, one line each"),
    field("provenance", "a line that says which model and which file a page comes from"),
];

pub static RUN: &[Field] = &[
    field("id", "the run's id"),
    field("date", "the day on which the run began"),
    field("started", "when the run began"),
    Field { name: "model", help: "which model answers", is_open: true },
];

/// What is there for a step or an output over all documents.
pub static CORPUS: &[Field] = &[
    Field { name: "documents", help: "a list, each with `doc`, `row`, `steps` and `state`", is_open: true },
    field("count", "how many documents there are"),
    field("left_out", "the documents that have no result and are not among them"),
];

/// What is there for a group beside.
pub static GROUP: &[Field] = &[
    Field { name: "key", help: "what the group has in common", is_open: true },
    field("count", "how many items it has"),
    Field { name: "items", help: "its documents, or what the `group` step put into it", is_open: true },
];

/// Known only when the steps over all documents are done.
pub static WHOLE_AT_END: &[Field] =
    &[field("state", "ok, partial or abstained"), field("provenance", "a line that says where it comes from")];

/// Of a document, what is kept for what is done over all of them.
pub const KEPT_OF_DOC: &[&str] =
    &["path", "name", "stem", "ext", "sha256", "format", "headings", "speakers", "meta", "title", "warnings"];

/// Filters that the house adds to the engine's own.
pub const FILTERS: &[&str] =
    &["turns", "timecode", "table", "bullets", "json", "quote", "cell", "resolve_date", "tokens", "pages", "fit"];

/// Names that steps bring themselves: the item or the part that they are at.
pub const STEP_LOCALS: &[&str] = &["item", "out", "part"];

/// Names that a step has where it is done for each of them.
const UNITS: &[&str] = &["chunk", "turn", "page"];

const FUNCTIONS: &[&str] = &["range", "dict", "namespace", "abs", "similar"];

/// A step as others may name it.
pub struct KnownStep {
    pub id: String,
    /// `None` where its verb is faulty: whatever is said of its fields is then believed.
    pub kind: Option<&'static StepKind>,
    /// The name of what it is done for, where that is not once; its value is then a list.
    pub local: Option<&'static str>,
    /// Its value is an object of a shape that its author says with `schema` or `tools`.
    pub is_object: bool,
    pub per: Per,
}

/// A source of rows, as far as it is known before the run.
#[derive(Clone, Debug)]
pub struct RowSource {
    pub name: String,
    pub columns: Option<Vec<String>>,
}

/// Where a template or an expression stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seat {
    /// In the step with this index.
    Step(usize),
    /// The path of an output; `doc` is known where there is one file per document.
    Path { has_document: bool },
    /// Content, a field or a condition of an output.
    Output { has_item: bool },
    /// A step or a condition of a review page.
    Review,
    /// What the documents of a group share: of each, only what is kept of it.
    Kept,
    /// The path of an output over all documents; `per` is document where one file holds the records of all.
    WholePath { per: Per },
    /// Content, a field or a condition of an output over all documents.
    Whole { per: Per, has_item: bool },
    /// What must hold of a test: with one document its own values stand beside those of all.
    Trial { over_all: bool },
}

pub struct Scope<'a> {
    pub steps: &'a [KnownStep],
    pub params: &'a Params,
    pub rows: &'a [RowSource],
    /// The rows are the documents.
    pub row_documents: bool,
    counts_tokens: Cell<bool>,
}

/// What a source turned out to read, and what is wrong with it; places are those within the source.
#[derive(Debug, Default)]
pub struct Findings {
    pub reads: Vec<usize>, // indices of steps, each once, in the order of the text
    pub faults: Vec<(Diagnostic, Position)>,
}

impl<'a> Scope<'a> {
    pub fn new(steps: &'a [KnownStep], params: &'a Params, rows: &'a [RowSource], row_documents: bool) -> Self {
        Self { steps, params, rows, row_documents, counts_tokens: Cell::new(false) }
    }

    /// Whether anything that was checked names `doc.tokens`.
    pub fn counts_tokens(&self) -> bool {
        self.counts_tokens.get()
    }
}

impl Scope<'_> {
    pub fn check(&self, found: &References, seat: Seat) -> Findings {
        let mut findings = Findings::default();
        for name in &found.names {
            let fault = match name.path[0].as_str() {
                "params" => self.params_fault(name),
                "steps" => self.steps_fault(name, seat, &mut findings.reads),
                "doc" => self.doc_fault(name, seat),
                "row" if self.has_row(seat) => self.row_fault(name),
                "corpus" if self.level(seat) != Per::Document || matches!(seat, Seat::Trial { .. }) => {
                    self.whole_fault(name, CORPUS, seat)
                }
                "group" if self.level(seat) == Per::Group => self.whole_fault(name, GROUP, seat),
                "run" => field_fault(name, &[RUN]),
                _ => self.other_fault(name, seat),
            };
            let at = Position { line: name.line, column: name.column };
            findings.faults.extend(fault.map(|f| (f, at)));
        }
        for filter in &found.filters {
            if !FILTERS.contains(&filter.name.as_str()) && !references::is_builtin_filter(&filter.name) {
                let message = format!("there is no filter {}", quoted(&filter.name));
                let known = FILTERS.iter().chain(COMMON_FILTERS).copied();
                findings.faults.push((
                    with_near(Diagnostic::error(message), &filter.name, known, "filters of the house"),
                    Position { line: filter.line, column: filter.column },
                ));
            }
        }
        let asks = matches!(seat, Seat::Step(at) if self.steps[at].kind.is_none_or(|k| k.needs_model));
        for filter in found.filters.iter().filter(|f| !asks && ["tokens", "fit"].contains(&f.name.as_str())) {
            let message = format!("`{}` counts by the model's tokens, and nothing here asks the model", filter.name);
            let at = Position { line: filter.line, column: filter.column };
            findings.faults.push((Diagnostic::error(message), at));
        }
        for test in found.tests.iter().filter(|t| !references::is_builtin_test(&t.name)) {
            let message = format!("there is no test {}", quoted(&test.name));
            let diagnostic = with_near(Diagnostic::error(message), &test.name, COMMON_TESTS.iter().copied(), "tests");
            findings.faults.push((diagnostic, Position { line: test.line, column: test.column }));
        }
        findings
    }

    fn params_fault(&self, name: &DottedName) -> Option<Diagnostic> {
        let param = name.path.get(1)?;
        self.params.mark_used(param);
        self.params.unknown(param)
    }

    fn steps_fault(&self, name: &DottedName, seat: Seat, reads: &mut Vec<usize>) -> Option<Diagnostic> {
        if matches!(seat, Seat::Path { .. } | Seat::WholePath { .. }) {
            return Some(Diagnostic::error("the path of an output sees `doc`, `params` and `run`, not `steps`"));
        }
        let level = self.level(seat);
        let mut read = |index: usize| {
            if !reads.contains(&index) {
                reads.push(index)
            }
        };
        let visible = if let Seat::Step(at) = seat { at } else { self.steps.len() };
        let Some(id) = name.path.get(1) else {
            // `steps` as a whole: everything that has run
            (0..visible).filter(|i| rank(self.steps[*i].per) <= rank(level)).for_each(read);
            return None;
        };
        let Some(index) = self.steps.iter().position(|s| s.id == *id) else {
            let message = format!("there is no step {}", quoted(id));
            let ids = self.steps.iter().map(|s| s.id.as_str());
            return Some(with_near(Diagnostic::error(message), id, ids, "steps"));
        };
        if let Seat::Step(at) = seat {
            if index == at {
                return Some(Diagnostic::error(format!(
                    "the step `{id}` uses its own value, which it has yet to make"
                )));
            }
            if index > at {
                let message = format!("the step `{}` uses `steps.{id}`, which runs after it", self.steps[at].id);
                return Some(Diagnostic::error(message).hint(format!("put `{id}` before `{}`", self.steps[at].id)));
            }
        }
        let of = self.steps[index].per;
        let is_trial = matches!(seat, Seat::Trial { .. });
        if rank(of) > rank(level) && level == Per::Document && !is_trial {
            let what = if of == Per::Corpus { "all documents" } else { "groups of documents" };
            let message = format!("`steps.{id}` is done over {what}, when all are done: one document cannot use it");
            return Some(Diagnostic::error(message).hint(format!("what uses it is written with `per: {}`", of.name())));
        }
        read(index);
        let is_list = rank(of) < rank(level) || (is_trial && of == Per::Group);
        if let Some(field) = name.path.get(2).filter(|_| is_list) {
            let unit = if of == Per::Group { "group" } else { "document" };
            let whole = format!("steps.{id}");
            let message =
                format!("`{whole}` is a list here, one value for each {unit}, and has no field {}", quoted(field));
            let hint = format!("`{whole} | map(attribute=\"{field}\")` is the list of them");
            return (!name.called).then(|| Diagnostic::error(message).hint(hint));
        }
        if let Some((local, field)) = self.steps[index].local.zip(name.path.get(2)) {
            let whole = format!("steps.{id}");
            let message =
                format!("`{whole}` is a list, one value for each {local}, and has no field {}", quoted(field));
            let hint = format!("`{whole} | map(attribute=\"{field}\")` is the list of them");
            return (!name.called).then(|| Diagnostic::error(message).hint(hint));
        }
        if self.steps[index].is_object { None } else { port_fault(name, self.steps[index].kind?) }
    }

    fn doc_fault(&self, name: &DottedName, seat: Seat) -> Option<Diagnostic> {
        if name.path.get(1).is_some_and(|field| field == "tokens") {
            if !self.steps.iter().any(|s| s.kind.is_none_or(|k| k.needs_model)) {
                let message = "`doc.tokens` counts by the model's tokens, and no step here asks the model";
                return Some(Diagnostic::error(message).hint("`doc.text | length` counts characters"));
            }
            self.counts_tokens.set(true);
        }
        match seat {
            Seat::Path { has_document: false } => Some(
                Diagnostic::error("the records of all documents go into one file: its path cannot name `doc`")
                    .hint("`run.date` and `params` are known here"),
            ),
            Seat::Output { .. } | Seat::Review | Seat::Trial { over_all: false } => {
                field_fault(name, &[DOC, DOC_AT_END])
            }
            Seat::Kept => field_fault(name, &[DOC]).or_else(|| {
                let field = name.path.get(1).filter(|f| !KEPT_OF_DOC.contains(&f.as_str()))?;
                let message = format!("`doc.{field}` is not kept for when all documents are done");
                Some(Diagnostic::error(message).hint(format!("kept of `doc`: {}", KEPT_OF_DOC.join(", "))))
            }),
            _ if self.level(seat) != Per::Document || matches!(seat, Seat::WholePath { .. }) => Some(
                Diagnostic::error("`doc` is one document, and this is done over several")
                    .hint("`corpus.documents` are they, each with its `doc` and its `steps`"),
            ),
            _ => field_fault(name, &[DOC]),
        }
    }

    /// How wide the place is that a source stands in: a document, a group of them, or all.
    fn level(&self, seat: Seat) -> Per {
        let per = match seat {
            Seat::Step(at) => self.steps[at].per,
            Seat::WholePath { per } | Seat::Whole { per, .. } => per,
            Seat::Trial { over_all: true } => Per::Corpus,
            Seat::Trial { over_all: false } => Per::Document,
            Seat::Path { .. } | Seat::Output { .. } | Seat::Review | Seat::Kept => Per::Document,
        };
        if per.is_whole() { per } else { Per::Document }
    }

    fn has_row(&self, seat: Seat) -> bool {
        match seat {
            Seat::Step(at) if self.steps[at].per == Per::Row => true,
            Seat::Path { has_document } => has_document && self.row_documents,
            Seat::WholePath { .. } => false,
            seat => self.row_documents && self.level(seat) == Per::Document,
        }
    }

    fn row_fault(&self, name: &DottedName) -> Option<Diagnostic> {
        let wanted = name.path.get(1).filter(|_| !(name.called && name.path.len() == 2))?;
        let known: Vec<&[String]> = self.rows.iter().map(|r| r.columns.as_deref()).collect::<Option<_>>()?;
        if known.iter().any(|columns| columns.contains(wanted)) {
            return None;
        }
        let columns = known.into_iter().flatten().map(String::as_str);
        Some(with_near(
            Diagnostic::error(format!("`row` has no column {}", quoted(wanted))),
            wanted,
            columns,
            "columns",
        ))
    }

    fn whole_fault(&self, name: &DottedName, fields: &'static [Field], seat: Seat) -> Option<Diagnostic> {
        if matches!(seat, Seat::Whole { .. } | Seat::Trial { .. }) {
            field_fault(name, &[fields, WHOLE_AT_END])
        } else {
            field_fault(name, &[fields])
        }
    }

    fn other_fault(&self, name: &DottedName, seat: Seat) -> Option<Diagnostic> {
        let first = name.path[0].as_str();
        let mut known = vec!["params", "run"];
        match self.level(seat) {
            Per::Group => known.extend(["corpus", "group"]),
            Per::Corpus => known.push("corpus"),
            _ => known.push("doc"),
        }
        if self.has_row(seat) {
            known.push("row");
        }
        match seat {
            Seat::Path { .. } | Seat::WholePath { .. } => {}
            Seat::Kept | Seat::Trial { .. } => known.push("steps"),
            Seat::Output { has_item } | Seat::Whole { has_item, .. } => {
                known.push("steps");
                known.extend(has_item.then_some("item"));
            }
            Seat::Review => known.extend(["steps", "min_support"]),
            Seat::Step(at) => {
                known.extend(["steps"].iter().chain(STEP_LOCALS));
                known.extend(self.steps[at].local);
            }
        }
        if known.contains(&first) {
            return None;
        }
        if name.path.len() == 1 && name.called {
            let message = format!("there is no function {}", quoted(first));
            let fault = with_near(Diagnostic::error(message), first, FUNCTIONS.iter().copied(), "functions");
            return (!FUNCTIONS.contains(&first)).then_some(fault);
        }
        if FUNCTIONS.contains(&first) {
            return None;
        }
        if first == "row" {
            let fault = Diagnostic::error("`row` is known only in a step with `per: row`");
            return Some(if self.rows.is_empty() { fault.hint("and with a source that has `rows`") } else { fault });
        }
        if ["group", "corpus"].contains(&first) {
            let message = format!("`{first}` is known only in a step or an output with `per: {first}`");
            return Some(Diagnostic::error(message));
        }
        if UNITS.contains(&first) {
            let fault = Diagnostic::error(format!("`{first}` is known only in a step with `per: {first}`"));
            return Some(fault.hint(format!("write `per: {first}` in the step, or ask of a list of {first}s")));
        }
        if first == "min_support" {
            return Some(Diagnostic::error("`min_support` is known only in the `only` of an output with `review`"));
        }
        if first == "item" {
            return Some(Diagnostic::error("`item` is known only where `explode` gives a list"));
        }
        let fault = Diagnostic::error(format!("there is nothing called {} here", quoted(first)));
        if self.steps.iter().any(|s| s.id == first) {
            return Some(fault.hint(format!("did you mean `steps.{first}`?")));
        }
        Some(with_near(fault, first, known.iter().copied(), "names"))
    }
}

/// Documents, groups, all of them: the wider waits for the narrower.
fn rank(per: Per) -> u8 {
    match per {
        Per::Corpus => 2,
        Per::Group => 1,
        _ => 0,
    }
}

fn with_near<'a>(
    diagnostic: Diagnostic,
    word: &str,
    known: impl Iterator<Item = &'a str> + Clone,
    plural: &str,
) -> Diagnostic {
    match suggest(word, known.clone()) {
        Some(near) => diagnostic.hint(format!("did you mean `{near}`?")),
        None => {
            let all = known.take(12).collect::<Vec<_>>();
            if all.is_empty() { diagnostic } else { diagnostic.hint(format!("known {plural}: {}", all.join(", "))) }
        }
    }
}

/// What is wrong with a name below `doc` or `run`.
fn field_fault(name: &DottedName, tables: &[&'static [Field]]) -> Option<Diagnostic> {
    let (root, wanted) = (&name.path[0], name.path.get(1)?);
    let fields = tables.iter().flat_map(|t| t.iter());
    match fields.clone().find(|f| f.name == wanted) {
        Some(field) => {
            // `doc.stem.upper()` is a call on the value; anything else below a plain field is a mistake.
            let below = name.path.get(2).filter(|_| !(field.is_open || name.called && name.path.len() == 3))?;
            let message = format!("`{root}.{wanted}` has no field {}: it is {}", quoted(below), field.help);
            Some(Diagnostic::error(message))
        }
        None => {
            let message = format!("`{root}` has no field {}", quoted(wanted));
            Some(with_near(Diagnostic::error(message), wanted, fields.map(|f| f.name), "fields"))
        }
    }
}

/// What is wrong with a name below `steps.<id>`.
fn port_fault(name: &DottedName, kind: &StepKind) -> Option<Diagnostic> {
    let field = name.path.get(2)?;
    let whole = kind.outputs.iter().find(|p| p.name.is_empty());
    let is_open = whole.is_some_and(|p| p.kind == "object") || kind.outputs.is_empty();
    let is_call = name.called && name.path.len() == 3;
    if is_open || is_call || kind.outputs.iter().any(|p| p.name == field) {
        return None;
    }
    let id = &name.path[1];
    let what = whole.map(|p| format!(": it is a {}", p.kind)).unwrap_or_default();
    let message = format!("`steps.{id}` has no field {}{what}", quoted(field));
    let named = kind.outputs.iter().map(|p| p.name).filter(|n| !n.is_empty());
    Some(with_near(Diagnostic::error(message), field, named, "fields"))
}
