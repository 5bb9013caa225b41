//! How often a step is done for one document: once, for each chunk, turn or page, or for each item of a list.
//! Knows no verb. A step that is done for a chunk sees a document that holds that chunk and nothing else.

use serde_json::Value;

use crate::corpus::document::{Document, Format};
use crate::pipeline::evaluate::Scope;
use crate::pipeline::plan::{OnError, Per, RowsOf, StepPlan};
use crate::pipeline::rows::Tables;
use crate::steps::{Coverage, Reason, StepContext, StepError, StepOutput};

/// The rounds of one step on one document.
pub(super) enum Rounds {
    Once,
    /// Once, on these parts of the document alone.
    Over(Vec<Value>),
    Each {
        local: &'static str,
        items: Vec<Value>,
    },
}

impl Rounds {
    /// Returns the rounds as the expressions of the step give them. The error is one line.
    pub fn of(step: &StepPlan, document: &Document, scope: &Scope, tables: &Tables) -> Result<Self, String> {
        let rounds = &step.rounds;
        let list = |key: &str, expression: &str| match scope.evaluate(expression) {
            Ok(Value::Array(items)) => Ok(items),
            Ok(Value::Null) => Ok(Vec::new()),
            Ok(_) => Err(format!("{key}: `{expression}` gives no list")),
            Err(error) => Err(format!("{key}: {error}")),
        };
        let over = rounds.over.as_deref().map(|expression| list("over", expression)).transpose()?;
        let Some(local) = rounds.local() else { return Ok(over.map_or(Self::Once, Self::Over)) };
        let items = match (rounds.per, &rounds.foreach, over) {
            (Per::Document | Per::Group | Per::Corpus, Some(expression), _) => list("foreach", expression)?,
            (Per::Row, ..) => match &rounds.rows {
                RowsOf::Table(name) => tables.get(name).cloned().ok_or_else(|| format!("over: no rows of `{name}`"))?,
                RowsOf::Documents | RowsOf::Source(_) => Vec::new(),
            },
            (_, _, Some(items)) => items,
            (Per::Turn, _, None) => list("per", "doc.turns")?,
            (Per::Page, _, None) => list("per", "doc.pages")?,
            (Per::Chunk | Per::Document | Per::Group | Per::Corpus, _, None) => Vec::new(),
        };
        if items.is_empty() && rounds.per == Per::Page && document.pages.is_empty() {
            return Err("per: the document has no pages".into());
        }
        if items.is_empty() && rounds.per == Per::Turn && document.turns.is_empty() {
            return Err("per: the document has no turns".into());
        }
        Ok(Self::Each { local, items })
    }

    pub fn run(&self, step: &StepPlan, cx: &StepContext<'_>) -> Result<StepOutput, StepError> {
        match self {
            Self::Once => step.step.run(cx),
            Self::Over(units) => {
                let texts = units.iter().map(text_of).collect::<Result<Vec<_>, _>>()?;
                let document = part_of(cx.document, texts.join("\n\n"));
                let mut output = step.step.run(&StepContext { document: &document, ..context(cx) })?;
                output.notes.push(format!("read only what `over` gives, {} parts", units.len()));
                Ok(output)
            }
            Self::Each { local, items } => each(step, cx, local, items),
        }
    }
}

fn each(step: &StepPlan, cx: &StepContext<'_>, local: &str, items: &[Value]) -> Result<StepOutput, StepError> {
    let may_skip = matches!(step.on_error, OnError::Skip | OnError::Mark);
    let mut names = cx.names.clone();
    let mut all = StepOutput::default();
    let mut values = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        cx.cancel.check()?;
        names[local] = item.clone();
        // A row is asked of the document; a chunk, a turn or a page is all of the document that is read.
        let document = if matches!(local, "item" | "row") { None } else { Some(part_of(cx.document, text_of(item)?)) };
        let document = document.as_ref().unwrap_or(cx.document);
        let one = StepContext { document, names: &names, progress: &|_, _| {}, ..context(cx) };
        let say = |line: &str| format!("{local} {}: {line}", index + 1);
        match step.step.run(&one) {
            Ok(output) => {
                values.push(output.value);
                all.partial.extend(output.partial.iter().map(|line| say(line)));
                all.notes.extend(output.notes.iter().map(|line| say(line)));
                all.usage += output.usage;
                all.coverage = sum(all.coverage, output.coverage);
            }
            Err(error) if may_skip && !matches!(error.reason, Reason::Cancelled | Reason::TimedOut) => {
                values.push(Value::Null);
                all.partial.push(say(&error.to_string()));
            }
            Err(error) => return Err(StepError { detail: say(&error.detail), ..error }),
        }
        (cx.progress)(index + 1, items.len());
    }
    all.value = Value::Array(values);
    Ok(all)
}

fn context<'a>(cx: &StepContext<'a>) -> StepContext<'a> {
    let StepContext { document, names, generator, defaults, library, cancel, progress } = *cx;
    StepContext { document, names, generator, defaults, library, cancel, progress }
}

/// The words of a chunk, a turn or a page: text, or what has a `text`.
fn text_of(unit: &Value) -> Result<String, StepError> {
    let text = unit.as_str().or_else(|| unit.get("text")?.as_str());
    text.map(str::to_owned).ok_or_else(|| StepError {
        reason: Reason::TemplateFailed,
        detail: "what it is to read is no text and has no `text`".into(),
    })
}

/// Returns a document that holds only `text`, and otherwise is that document.
fn part_of(document: &Document, text: String) -> Document {
    let part = Document::of(Format::Text, text);
    Document { path: document.path.clone(), sha256: document.sha256.clone(), meta: document.meta.clone(), ..part }
}

/// Returns the coverage of two rounds together; those in different units are not added.
fn sum(a: Option<Coverage>, b: Option<Coverage>) -> Option<Coverage> {
    match (a, b) {
        (Some(mut a), Some(b)) if a.unit == b.unit => {
            a.read += b.read;
            a.total += b.total;
            a.unread.extend(b.unread);
            Some(a)
        }
        (a, b) => a.or(b),
    }
}
