//! A pipeline, or a verb, in plain words: what is read, done and written, with every default spelled out.
//! Reads the same tables as `check`. Returns text, prints nothing.

use super::check::Checked;
use super::eval::measures::{MEASURES, MeasureSpec};
use super::plan::{
    Grouping, OnError, OnRemoved, OutputContent, OutputFormat, OutputPlan, Per, Plan, RowsOf, SourceKind, SourcePlan,
    StepPlan,
};
use super::tables::{EVAL, MODEL, OUTPUT, RUN, SOURCE, STEP, read_keys};
use super::tree::{Node, NodeValue};
use crate::spec::{KeySpec, ValueSpec};
use crate::steps::StepKind;

/// Lines of prose are folded here.
const WIDTH: usize = 100; // characters

/// Returns a checked pipeline in plain words.
pub fn pipeline(checked: &Checked) -> String {
    let (plan, root) = (&checked.plan, &checked.root);
    let mut page = Page::default();
    let description = root.get("description").and_then(Node::as_str);
    page.line(0, &format!("{}{}", plan.name, description.map(|d| format!(": {d}")).unwrap_or_default()));

    if let Some(params) = root.get("params").filter(|p| !p.entries().is_empty()) {
        page.heading("Parameters, given with -p name=value");
        page.rows(
            2,
            params.entries().iter().map(|e| {
                let is_secret = checked.params.iter().any(|p| p.name == e.key && p.is_secret);
                let value = plan.params.get(&e.key).map(shown_json).unwrap_or_default();
                let value = if is_secret { "(secret)".to_owned() } else { value };
                let kind = e.value.get("type").and_then(Node::as_str).unwrap_or_default();
                let help = e.value.get("help").and_then(Node::as_str).map(|h| format!("; {h}")).unwrap_or_default();
                (e.key.clone(), format!("{value}  ({kind}{help})"))
            }),
        );
    }

    page.heading("Reads");
    for source in &plan.sources {
        let written = root.get("sources").and_then(|s| s.get(&source.name));
        self::source(&mut page, source, "a document each");
        page.keys(4, written.and_then(|w| w.get("read")), read_keys());
    }
    for table in &plan.tables {
        self::source(&mut page, table, "for steps with `per: row`, beside every document");
    }

    page.heading("Model");
    page.keys(2, root.get("model"), MODEL);

    page.heading("Does, for each document in this order");
    let items = match root.get("steps").map(|s| &s.value) {
        Some(NodeValue::Seq(items)) => items.as_slice(),
        _ => &[],
    };
    for ((number, step), node) in plan.steps.iter().enumerate().zip(items) {
        self::step(&mut page, number + 1, step, node, plan);
    }

    page.heading("Writes");
    if plan.outputs.is_empty() {
        page.line(2, "nothing");
    }
    for output in &plan.outputs {
        page.line(2, &format!("{}: {}, {}, {}", output.name, output.path, format_words(output.format), how(output)));
        let only = output.only.clone().map(|o| ("only where".to_owned(), o));
        let contract = output
            .contract
            .as_ref()
            .map(|c| ("contract".to_owned(), format!("{}: a record that breaks it fails its document", c.name)));
        page.rows(4, content_rows(&output.content).into_iter().chain(only).chain(contract));
    }
    removed(&mut page, plan);

    page.heading("Run");
    page.keys(2, root.get("run"), RUN);
    if let Some(eval) = &plan.eval {
        page.heading("Is measured by `quarry eval`");
        page.rows(2, eval.golden.iter().map(|g| ("against".to_owned(), g.clone())));
        let gate =
            |name: &str| eval.gates.iter().find(|g| g.measure == name).map(|g| format!("must be {}", g.condition));
        page.rows(2, eval.measures.iter().map(|m| (m.name.clone(), gate(&m.name).unwrap_or_default())));
    }
    page.text
}

fn source(page: &mut Page, source: &SourcePlan, rows_are: &str) {
    let what = match &source.kind {
        SourceKind::Files => source.patterns.join(", "),
        SourceKind::Rows { file, id, columns, from_stdin } => {
            let from = if *from_stdin { "standard input".to_owned() } else { file.display().to_string() };
            let id = id.as_deref().or(columns.as_ref().and_then(|c| c.iter().find(|c| *c == "id").map(String::as_str)));
            let id = id.map_or("their number".to_owned(), |id| format!("`{id}`"));
            let columns = columns.as_ref().map(|c| format!(" with {}", c.join(", "))).unwrap_or_default();
            format!("the rows of {from}{columns}, told apart by {id}, {rows_are}")
        }
        SourceKind::Stdin { name, .. } => format!("standard input, one document called {name}"),
    };
    page.line(2, &format!("{}: {what}", source.name));
    if !source.ignore.is_empty() {
        page.line(4, &format!("but not {}", source.ignore.join(", ")));
    }
}

fn how(output: &OutputPlan) -> String {
    let of = match output.per {
        Per::Group => "group, when all documents are done",
        Per::Corpus => "run, when all documents are done",
        _ => "document",
    };
    match &output.content {
        OutputContent::Text(_) => format!("one file per {of}"),
        OutputContent::Records { explode: Some(_), .. } => "one record per item of a list, all in one file".into(),
        OutputContent::Records { .. } => format!("one record per {of}, all in one file"),
        OutputContent::Review { .. } => "one page for all documents".into(),
    }
}

/// What becomes of outputs whose document is gone, where that is not to stay.
fn removed(page: &mut Page, plan: &Plan) {
    let words = |policy: OnRemoved| match policy {
        OnRemoved::Keep => "is kept",
        OnRemoved::Drop => "is removed",
        OnRemoved::Tombstone => "leaves a mark without content",
    };
    let sources = plan.sources.iter().map(|s| (format!("of {}", s.name), s.on_removed));
    let outputs = plan.outputs.iter().filter_map(|o| Some((format!("in {}", o.name), o.on_removed?)));
    for (what, policy) in sources.filter(|(_, p)| *p != OnRemoved::Keep).chain(outputs) {
        page.line(2, &format!("what was written {what} of a document that is gone {}", words(policy)));
    }
}

fn step(page: &mut Page, number: usize, step: &StepPlan, node: &Node, plan: &Plan) {
    let model = if step.needs_model() { "; asks the model" } else { "" };
    page.line(
        2,
        &format!("{number}. {}: {} ({}{model})", step.id, step.kind.summary.trim_end_matches('.'), step.kind.name),
    );
    page.keys(5, Some(node), step.kind.keys);
    let mut rows = Vec::new();
    if let Some(when) = &step.when {
        rows.push(("only where".to_owned(), when.clone()));
    }
    match (step.rounds.per, &step.rounds.over, &step.rounds.foreach) {
        (Per::Document, _, Some(list)) => rows.push(("done for".into(), format!("each item of {list}"))),
        (Per::Document, Some(units), None) => rows.push(("reads only".into(), units.clone())),
        (Per::Document, None, None) => {}
        (Per::Row, ..) => rows.push((
            "done for".into(),
            match &step.rounds.rows {
                RowsOf::Documents => "each row".to_owned(),
                RowsOf::Source(source) => format!("each row of {source}; for other documents its value is none"),
                RowsOf::Table(table) => format!("each row of {table}, for every document"),
            },
        )),
        (per @ (Per::Group | Per::Corpus), over, list) => {
            let groups = match &plan.grouping {
                Some(Grouping::By(expression)) => format!("each group of documents with the same {expression}"),
                Some(Grouping::Of(id)) => format!("each group of steps.{id}"),
                None => "each group".into(),
            };
            let of = if per == Per::Corpus { "all documents together".to_owned() } else { groups };
            rows.push(("done for".into(), format!("{of}, when all documents are done")));
            rows.extend(over.clone().map(|o| ("reads only".to_owned(), o)));
            rows.extend(list.clone().map(|l| ("and each".to_owned(), format!("item of {l}"))));
        }
        (per, None, _) => rows.push(("done for".into(), format!("each {} of the document", per.name()))),
        (per, Some(units), _) => rows.push(("done for".into(), format!("each {} of {units}", per.name()))),
    }
    if !step.reads.is_empty() {
        rows.push(("uses".into(), step.reads.iter().map(|r| format!("steps.{r}")).collect::<Vec<_>>().join(", ")));
    }
    let on_error = match step.on_error {
        OnError::Stop => "the run ends",
        OnError::Quarantine => "the document is set aside with its reason, the run goes on",
        OnError::Skip => "its value is none, the document goes on and ends partial",
        OnError::Mark => "it is marked, the document goes on and ends partial",
    };
    let origin = if node.get("on_error").is_some() { "" } else { "  (from `run`)" };
    rows.push(("if it fails".into(), format!("{on_error}{origin}")));
    let gives: Vec<String> = step.kind.outputs.iter().map(|p| port_name(&step.id, p.name)).collect();
    rows.push(("gives".into(), gives.join(", ")));
    page.rows(5, rows);
}

fn port_name(id: &str, field: &str) -> String {
    if field.is_empty() { format!("steps.{id}") } else { format!("steps.{id}.{field}") }
}

fn content_rows(content: &OutputContent) -> Vec<(String, String)> {
    match content {
        OutputContent::Text(expression) => vec![("content".into(), expression.clone())],
        OutputContent::Review { steps } => {
            vec![("review of".into(), steps.iter().map(|(id, _)| format!("steps.{id}")).collect::<Vec<_>>().join(", "))]
        }
        OutputContent::Records { fields, key, explode } => {
            let explode = explode.iter().map(|e| ("for each item of".to_owned(), e.clone()));
            let key = key.iter().map(|k| ("replaces by".to_owned(), k.clone()));
            explode.chain(fields.iter().cloned()).chain(key).collect()
        }
    }
}

fn format_words(format: OutputFormat) -> &'static str {
    match format {
        OutputFormat::Markdown => "Markdown",
        OutputFormat::Text => "plain text",
        OutputFormat::Html => "HTML",
        OutputFormat::Parquet => "Parquet",
        OutputFormat::Jsonl => "JSON Lines",
        OutputFormat::Csv => "CSV",
        OutputFormat::Review => "HTML for reviewing",
    }
}

/// Returns a verb in plain words, from its table.
pub fn verb(kind: &StepKind) -> String {
    let mut page = Page::default();
    page.line(0, &format!("{}: {}", kind.name, kind.summary));
    page.paragraph(0, if kind.needs_model { "Asks the model." } else { "Needs no model." });
    if !kind.guide.trim().is_empty() {
        page.text.push('\n');
        page.paragraph(0, kind.guide.trim());
    }
    page.heading("Keys");
    page.help(2, "", kind.keys);
    page.heading("Keys of every step");
    page.help(2, "", STEP);
    page.heading("Gives");
    page.rows(2, kind.outputs.iter().map(|p| (port_name("<id>", p.name), format!("{}; {}", p.kind, p.help))));
    if !kind.example.trim().is_empty() {
        page.heading("Example");
        kind.example.trim_matches('\n').lines().for_each(|l| page.line(2, l));
    }
    page.text
}

/// Returns the sections of a file outside its steps, by name: what `explain model` shows.
pub fn section(name: &str) -> Option<String> {
    let table = match name {
        "model" => MODEL,
        "sources" => SOURCE,
        "read" => read_keys(),
        "outputs" => OUTPUT,
        "run" => RUN,
        "params" => super::tables::PARAM,
        "tests" => super::tables::TEST,
        "eval" => EVAL,
        _ => return None,
    };
    let mut page = Page::default();
    page.line(0, &format!("{name}:"));
    page.help(2, "", table);
    if name == "eval" {
        page.heading("Measures, each behind the name of a step and a dot");
        let row = |m: &MeasureSpec| (m.name.to_owned(), format!("{}; of {}", m.help, m.verbs.join(", ")));
        page.rows(2, MEASURES.iter().map(row));
        page.line(2, "citations.valid and citations.support are of the citations of all steps");
    }
    Some(page.text)
}

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn line(&mut self, indent: usize, line: &str) {
        self.text.push_str(&" ".repeat(if line.is_empty() { 0 } else { indent }));
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn heading(&mut self, heading: &str) {
        self.line(0, "");
        self.line(0, heading);
    }

    /// Folds each line of prose to the width.
    fn paragraph(&mut self, indent: usize, text: &str) {
        for line in text.lines() {
            let mut folded = String::new();
            for word in line.split_whitespace() {
                if !folded.is_empty() && indent + folded.chars().count() + 1 + word.chars().count() > WIDTH {
                    self.line(indent, &folded);
                    folded.clear();
                }
                if !folded.is_empty() {
                    folded.push(' ');
                }
                folded.push_str(word);
            }
            self.line(indent, &folded);
        }
    }

    /// Names in one column, values in the next.
    fn rows(&mut self, indent: usize, rows: impl IntoIterator<Item = (String, String)>) {
        let rows: Vec<_> = rows.into_iter().collect();
        let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        for (name, value) in rows {
            self.line(indent, format!("{name:width$}  {value}").trim_end());
        }
    }

    /// Every key of a table with what was written, or its default.
    fn keys(&mut self, indent: usize, node: Option<&Node>, table: &'static [KeySpec]) {
        let mut rows = Vec::new();
        key_rows("", node, table, &mut rows);
        self.rows(indent, rows);
    }

    /// Every key of a table with its type, default and help.
    fn help(&mut self, indent: usize, prefix: &str, table: &'static [KeySpec]) {
        for spec in table.iter().filter(|k| !matches!(k.value, ValueSpec::Later)) {
            let default = match spec.default {
                Some("{}") | None if spec.required => "; required".into(),
                Some("{}") | None => String::new(),
                Some(default) => format!("; by default {default}"),
            };
            self.paragraph(indent, &format!("{prefix}{}: {}{default}", spec.name, spec.value.describe()));
            self.paragraph(indent + 4, spec.help);
            if let Some(keys) = nested(&spec.value) {
                self.help(indent + 2, &format!("{prefix}{}.", spec.name), keys);
            }
        }
    }
}

fn key_rows(prefix: &str, node: Option<&Node>, table: &'static [KeySpec], rows: &mut Vec<(String, String)>) {
    for spec in table.iter().filter(|k| !matches!(k.value, ValueSpec::Later)) {
        let name = format!("{prefix}{}", spec.name);
        let written = node.and_then(|n| n.get(spec.name));
        let is_mapping = written.is_none_or(|w| matches!(w.value, NodeValue::Map(_)));
        match (nested(&spec.value), written, spec.default) {
            (Some(keys), written, default) if is_mapping && (written.is_some() || default.is_some()) => {
                key_rows(&format!("{name}."), written, keys, rows);
            }
            (_, Some(written), _) => rows.push((name, brief(written))),
            (_, None, Some(default)) => rows.push((name, format!("{default}  (default)"))),
            (_, None, None) => rows.push((name, "off  (default)".into())),
        }
    }
}

/// Returns the keys of a mapping, also where it is one of several forms.
fn nested(spec: &ValueSpec) -> Option<&'static [KeySpec]> {
    match spec {
        ValueSpec::Object(keys) => Some(keys),
        ValueSpec::OneOf(specs) => specs.iter().find_map(nested),
        _ => None,
    }
}

/// Returns a value on one line, long texts cut.
fn brief(node: &Node) -> String {
    const LONGEST: usize = 80; // characters
    let text = match &node.value {
        NodeValue::Null => "nothing".into(),
        NodeValue::Bool(b) => b.to_string(),
        NodeValue::Int(i) => i.to_string(),
        NodeValue::Float(f) => f.to_string(),
        NodeValue::Str(s) => s.split_whitespace().collect::<Vec<_>>().join(" "),
        NodeValue::Seq(items) => format!("[{}]", items.iter().map(brief).collect::<Vec<_>>().join(", ")),
        NodeValue::Map(entries) => {
            let entries: Vec<_> = entries.iter().map(|e| format!("{}: {}", e.key, brief(&e.value))).collect();
            format!("{{ {} }}", entries.join(", "))
        }
    };
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn shown_json(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Null => "none".into(),
        other => other.to_string(),
    }
}
