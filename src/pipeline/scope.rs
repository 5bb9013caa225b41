//! What a template or an expression can name at the place where it stands: `params doc steps run item`.
//! Knows the shape of these names and none of their values.

use super::params::Params;
use super::references::{self, DottedName, References};
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
    field("text", "the whole text"),
    field("pages", "a list of {number, text}"),
    field("headings", "a list of {level, title}"),
    field("turns", "a list of turns: id, speaker, times, text"),
    field("speakers", "each speaker once, in the order of their first turn"),
    Field { name: "meta", help: "what the file says of itself", is_open: true },
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

/// Filters that the house adds to the engine's own.
pub const FILTERS: &[&str] =
    &["turns", "timecode", "table", "bullets", "json", "quote", "cell", "resolve_date", "tokens", "pages", "fit"];

/// Names that steps bring themselves: the item or the part that they are at.
pub const STEP_LOCALS: &[&str] = &["item", "out", "part"];

/// Names that a step has where it is done for each of them.
const UNITS: &[&str] = &["chunk", "turn", "page"];

/// Scopes of the format for which this version has no steps yet.
const SCOPES_OF_LATER: &[&str] = &["row", "group", "corpus"];

const FUNCTIONS: &[&str] = &["range", "dict", "namespace", "abs", "similar"];

/// A step as others may name it.
pub struct KnownStep {
    pub id: String,
    /// `None` where its verb is faulty: whatever is said of its fields is then believed.
    pub kind: Option<&'static StepKind>,
    /// The name of what it is done for, where that is not once; its value is then a list.
    pub local: Option<&'static str>,
    /// Its value is an object of a shape that its author says with `schema`.
    pub is_object: bool,
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
}

pub struct Scope<'a> {
    pub steps: &'a [KnownStep],
    pub params: &'a Params,
}

/// What a source turned out to read, and what is wrong with it; places are those within the source.
#[derive(Debug, Default)]
pub struct Findings {
    pub reads: Vec<usize>, // indices of steps, each once, in the order of the text
    pub faults: Vec<(Diagnostic, Position)>,
}

impl Scope<'_> {
    pub fn check(&self, found: &References, seat: Seat) -> Findings {
        let mut findings = Findings::default();
        for name in &found.names {
            let fault = match name.path[0].as_str() {
                "params" => self.params_fault(name),
                "steps" => self.steps_fault(name, seat, &mut findings.reads),
                "doc" => self.doc_fault(name, seat),
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
        if matches!(seat, Seat::Path { .. }) {
            return Some(Diagnostic::error("the path of an output sees `doc`, `params` and `run`, not `steps`"));
        }
        let mut read = |index: usize| {
            if !reads.contains(&index) {
                reads.push(index)
            }
        };
        let visible = if let Seat::Step(at) = seat { at } else { self.steps.len() };
        let Some(id) = name.path.get(1) else {
            (0..visible).for_each(read); // `steps` as a whole: everything that has run
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
        read(index);
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
        match seat {
            Seat::Path { has_document: false } => Some(
                Diagnostic::error("the records of all documents go into one file: its path cannot name `doc`")
                    .hint("`run.date` and `params` are known here"),
            ),
            Seat::Output { .. } | Seat::Review => field_fault(name, &[DOC, DOC_AT_END]),
            Seat::Path { .. } | Seat::Step(_) => field_fault(name, &[DOC]),
        }
    }

    fn other_fault(&self, name: &DottedName, seat: Seat) -> Option<Diagnostic> {
        let first = name.path[0].as_str();
        let mut known = vec!["params", "doc", "run"];
        match seat {
            Seat::Path { .. } => {}
            Seat::Output { has_item } => {
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
        if SCOPES_OF_LATER.contains(&first) {
            let message = format!(
                "`{first}` is known only in a step with `per: {first}`, which is not in this version of quarry"
            );
            return Some(Diagnostic::error(message));
        }
        if UNITS.contains(&first) {
            return Some(Diagnostic::error(format!("`{first}` is known only in a step with `per: {first}`")));
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

/// Filters of the engine that a pipeline is likely to want; only for suggestions.
const COMMON_FILTERS: &[&str] = &[
    "upper",
    "lower",
    "title",
    "trim",
    "join",
    "length",
    "first",
    "last",
    "sort",
    "unique",
    "map",
    "select",
    "reject",
    "selectattr",
    "rejectattr",
    "groupby",
    "default",
    "replace",
    "round",
    "int",
    "float",
    "sum",
    "list",
    "reverse",
    "indent",
    "tojson",
    "items",
    "batch",
    "slice",
    "min",
    "max",
    "abs",
    "capitalize",
    "split",
    "lines",
    "string",
];

const COMMON_TESTS: &[&str] = &[
    "none",
    "defined",
    "undefined",
    "string",
    "number",
    "mapping",
    "sequence",
    "iterable",
    "even",
    "odd",
    "true",
    "false",
    "in",
    "containing",
    "startingwith",
    "endingwith",
    "eq",
    "ne",
    "lt",
    "gt",
    "le",
    "ge",
];

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
