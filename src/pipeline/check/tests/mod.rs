//! A private table of verbs and files in memory: what `check` promises, on small files.

mod mistakes;
mod plans;

use std::collections::BTreeMap;
use std::io;

use super::*;
use crate::spec::{KeySpec, ValueSpec};
use crate::steps::{BuildContext, OptionFault, Port, Step, StepContext, StepError, StepOutput};

/// Files in memory, relative to `/p`.
#[derive(Default)]
struct InMemory(BTreeMap<PathBuf, Vec<u8>>);

impl InMemory {
    fn with(mut self, name: &str, text: &str) -> Self {
        self.0.insert(Path::new("/p").join(name), text.as_bytes().to_vec());
        self
    }
}

impl Files for InMemory {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.0.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn is_file(&self, path: &Path) -> bool {
        self.0.contains_key(path)
    }

    fn any_match(&self, patterns: &[String], _: &[String]) -> bool {
        !patterns.iter().any(|p| p.contains("nowhere"))
    }
}

struct Nothing;

impl Step for Nothing {
    fn run(&self, _: &StepContext<'_>) -> Result<StepOutput, StepError> {
        Ok(StepOutput::default())
    }
}

fn build_split(context: &BuildContext<'_>) -> Result<Box<dyn Step>, Vec<OptionFault>> {
    let (size, overlap) = (&context.options["size"]["n"], &context.options["overlap"]["n"]);
    if overlap.as_i64() >= size.as_i64() {
        return Err(vec![OptionFault {
            path: vec!["overlap".into()],
            message: "the overlap must be smaller than the size".into(),
            hints: vec!["take a tenth of it".into()],
        }]);
    }
    Ok(Box::new(Nothing))
}

fn build_render(context: &BuildContext<'_>) -> Result<Box<dyn Step>, Vec<OptionFault>> {
    if let Some(file) = context.options["template"]["file"].as_str() {
        (context.read_file)(file).map_err(|message| vec![OptionFault { path: vec![], message, hints: vec![] }])?;
    }
    Ok(Box::new(Nothing))
}

fn build_any(_: &BuildContext<'_>) -> Result<Box<dyn Step>, Vec<OptionFault>> {
    Ok(Box::new(Nothing))
}

const fn port(name: &'static str, kind: &'static str) -> Port {
    Port { name, kind, help: "" }
}

const AMOUNT: ValueSpec = ValueSpec::Amount { units: &["tokens", "turns", "words"] };

static SPLIT: StepKind = StepKind {
    name: "split",
    summary: "Cuts a document into chunks",
    guide: "",
    needs_model: false,
    keys: &[
        KeySpec::default("by", ValueSpec::Choice(&["tokens", "turns"]), "tokens", "What a chunk ends at."),
        KeySpec::default("size", AMOUNT, "2500 tokens", "How long a chunk is."),
        KeySpec::default("overlap", AMOUNT, "40 tokens", "How much of it the next one repeats."),
        KeySpec::optional("keep", ValueSpec::Boolean, "Whether to."),
    ],
    outputs: &[port("", "list")],
    example: "",
    build: build_split,
};

static LONG: &[KeySpec] = &[
    KeySpec::default("size", AMOUNT, "2500 tokens", "How long a part is."),
    KeySpec::default("passes", ValueSpec::Integer { min: 1, max: 4 }, "2", "How often."),
];

static SUMMARIZE: StepKind = StepKind {
    name: "summarize",
    summary: "Writes a summary",
    guide: "",
    needs_model: true,
    keys: &[
        KeySpec::default("length", AMOUNT, "200 words", "How long it gets."),
        KeySpec::optional("focus", ValueSpec::Text, "What matters."),
        KeySpec::optional("cite", ValueSpec::Choice(&["turns", "pages"]), "What it cites."),
        KeySpec::optional("given", ValueSpec::List(&ValueSpec::Expression), "What is known already."),
        KeySpec::optional("schema", ValueSpec::Schema, "The shape."),
        KeySpec::default("long", ValueSpec::Object(LONG), "{}", "Over the window."),
    ],
    outputs: &[port("text", "text"), port("coverage", "number")],
    example: "",
    build: build_any,
};

static RENDER: StepKind = StepKind {
    name: "render",
    summary: "Fills in a template",
    guide: "",
    needs_model: false,
    keys: &[KeySpec::required(
        "template",
        ValueSpec::OneOf(&[
            ValueSpec::Template,
            ValueSpec::Object(&[KeySpec::required("file", ValueSpec::TemplateFile, "Its file.")]),
        ]),
        "The template.",
    )],
    outputs: &[port("", "text")],
    example: "",
    build: build_render,
};

static KINDS: &[&StepKind] = &[&SPLIT, &SUMMARIZE, &RENDER];

fn run(text: &str, files: InMemory, overrides: &[(&str, &str)]) -> Result<Checked, Vec<Diagnostic>> {
    let files = files.with("p.yaml", text);
    let overrides: Vec<_> = overrides.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
    check(&Request {
        file: Path::new("p.yaml"),
        kinds: KINDS,
        overrides: &overrides,
        profile: None,
        sets: &[],
        sources: &[],
        environment: &|_| None,
        model: None,
        current_folder: Path::new("/p"),
        files: &files,
    })
}

fn plan_of(text: &str) -> Checked {
    run(text, InMemory::default(), &[]).unwrap_or_else(|faults| panic!("{faults:#?}"))
}

/// Every diagnostic as `line:column message | hints`.
fn told(faults: &[Diagnostic]) -> Vec<String> {
    let line = |d: &Diagnostic| {
        let place = d.place.as_ref().map(|p| format!("{}:{}", p.line, p.column)).unwrap_or_default();
        let hints: String = d.hints.iter().map(|h| format!(" | {h}")).collect();
        format!("{place} {}{hints}", d.message)
    };
    faults.iter().map(line).collect()
}

fn faults_of(text: &str) -> Vec<String> {
    told(&run(text, InMemory::default(), &[]).err().expect("no fault was found"))
}

/// Returns the first fault of a file that holds `marked`, in which `^` stands before the place of the fault.
fn fault_at_mark(before: &str, marked: &str, after: &str) -> String {
    let column = before.chars().count() - before.rfind('\n').map_or(0, |i| i + 1) + marked.find('^').unwrap() + 1;
    let text = format!("{before}{}{after}", marked.replacen('^', "", 1));
    let faults = faults_of(&text);
    assert_eq!(faults.len(), 1, "{faults:#?}");
    let (place, message) = faults[0].split_once(' ').unwrap();
    assert_eq!(place.split_once(':').unwrap().1, column.to_string(), "{faults:?}");
    message.to_owned()
}

/// The only fault of a step with these options.
fn step_fault(marked: &str) -> String {
    let before = "version: 1\nsources: { a: x.txt }\nsteps:\n  - { id: s, ";
    fault_at_mark(before, marked, " }\noutputs: [{ path: \"{{ doc.stem }}.md\", content: steps.s }]\n")
}

/// The only fault of these outputs.
fn output_fault(marked: &str) -> String {
    let before = &SMALLEST[..SMALLEST.find("outputs").unwrap()];
    fault_at_mark(&format!("{before}outputs: [ "), marked, " ]\n")
}

const SMALLEST: &str = r#"version: 1
sources: { calls: "calls/*.vtt" }
steps:
  - { id: minutes, use: summarize, length: 200 words, cite: turns }
outputs: [ { path: "out/{{ doc.stem }}.md", content: steps.minutes } ]
"#;
