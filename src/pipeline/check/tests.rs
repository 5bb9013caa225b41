use std::collections::BTreeMap;
use std::io;

use super::*;
use crate::pipeline::plan::{MaxFailed, OnError, OutputContent, OutputFormat};
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

#[test]
fn the_smallest_file_becomes_a_plan_with_every_default() {
    let checked = plan_of(SMALLEST);
    assert_eq!(told(&checked.warnings), [""; 0]);
    let plan = checked.plan;
    assert_eq!((plan.name.as_str(), plan.folder.as_path()), ("p", Path::new("/p")));
    assert_eq!(plan.model.preference, ["granite-3.1-1b-a400m-instruct"]);
    assert_eq!(plan.sources[0].patterns, ["/p/calls/*.vtt"]);
    assert_eq!(plan.sources[0].read["merge_gap"], json!(2000));
    assert_eq!(plan.sources[0].read["max_size"], json!(50 << 20));
    let step = &plan.steps[0];
    assert_eq!((step.id.as_str(), step.kind.name, step.on_error), ("minutes", "summarize", OnError::Quarantine));
    let options = json!({
        "length": { "n": 200, "unit": "words" },
        "cite": "turns",
        "long": { "size": { "n": 2500, "unit": "tokens" }, "passes": 2 },
    });
    assert_eq!(step.resolved["options"], options);
    assert_eq!((plan.outputs[0].name.as_str(), plan.outputs[0].format), ("page", OutputFormat::Markdown));
    assert_eq!(plan.run.max_failed, MaxFailed::Share(1.0));
    assert_eq!(plan.run.document_timeout, Some(std::time::Duration::from_secs(3600)));
}

#[test]
fn twenty_mistakes_are_named_in_one_go() {
    let text = r#"version: 2
nmae: x
include: [ a.yaml ]
params:
  words: { type: integer, default: many }
  out: { type: pth, default: out }
model: { use: starter, temperature: 9 }
sources:
  calls: { files: "calls/*.vtt", read: { merge_gp: 2s } }
steps:
  - id: summary
    use: sumarize
  - id: first
    use: summarize
    length: 200
    cite: trns
    focus: "{{ params.words }}"
    given: [steps.page, steps.sumary.text]
    long: { size: 6k tokens, passes: 9 }
  - id: first
    use: split
    keep: maybe
    keep: true
    overlap: 5000 tokens
    when: steps.first.
  - id: page
    use: render
    template: |
      # {{ doc.titel }}
      {{ steps.first.txt }} {{ parms.x }}
      {{ doc.text | uper }}
  - use: retrieve
    id: found
outputs:
  - { path: "minutes.md", content: steps.page }
  - { path: "{{ doc.stem }}.jsonl", fields: { a: item.x } }
run: { on_error: ignore, max_failed: 10, deadline: "06:00" }
run: {}
"#;
    let faults = faults_of(text);
    let expected = [
        "1:10 `version` must be 1, the only one this quarry reads, not the number 2",
        "2:1 unknown key `nmae` in the file | did you mean `name`?",
        "3:1 `include` is not in this version of quarry",
        "5:36 the default of `words` must be an integer, not the text `many`",
        "6:16 `params.out.type` must be one of text, integer, number, boolean, path, glob, duration, not the text `pth` | did you mean `path`?",
        "7:37 `model.temperature` must be a number from 0 to 2, not the number 9",
        "9:42 unknown key `merge_gp` in `sources.calls.read` | did you mean `merge_gap`?",
        "12:10 there is no verb `sumarize` | did you mean `summarize`?",
        "15:13 `steps.first.length` must be an amount such as 200 tokens or 200 turns or 200 words, not the number 200 | say the unit",
        "16:11 `steps.first.cite` must be one of turns, pages, not the text `trns` | did you mean `turns`?",
        "17:12 `steps.first.focus` is plain text and is never rendered: it cannot hold a template",
        "18:13 the step `first` uses `steps.page`, which runs after it | put `page` before `first`",
        "18:25 there is no step `sumary` | did you mean `summary`?",
        "19:38 `steps.first.long.passes` must be an integer from 1 to 4, not the number 9",
        "20:9 two steps are called `first` | the first one stands at line 13",
        "22:11 `steps.first.keep` must be true or false, not the text `maybe`",
        "23:5 the key `keep` is written twice | first at line 22",
        "25:22 `steps.first.when` is no valid expression: syntax error: unexpected end of input, expected identifier or integer",
        "29:12 `doc` has no field `titel` | known fields: path, name, stem, ext, sha256, format, text, pages, headings, turns, speakers, meta",
        "30:10 `steps.first` has no field `txt` | did you mean `text`?",
        "30:32 there is nothing called `parms` here | did you mean `params`?",
        "31:21 there is no filter `uper` | did you mean `upper`?",
        "32:10 the verb `retrieve` is not in this version of quarry",
        "35:13 every document would write the same file `minutes.md` | name the document in it: {{ doc.stem }}",
        "36:17 the records of all documents go into one file: its path cannot name `doc` | `run.date` and `params` are known here",
        "36:50 `item` is known only where `explode` gives a list",
        "37:18 `run.on_error` must be one of stop, quarantine, skip, not the text `ignore`",
        "37:42 `deadline` is not in this version of quarry",
        "38:1 the key `run` is written twice | first at line 37",
    ];
    assert_eq!(faults, expected, "{faults:#?}");
}

#[test]
fn parameters_are_typed_rendered_and_checked_again() {
    let text = r#"version: 1
params:
  in: { type: glob, default: "calls/*.vtt" }
  out: { type: path, default: out }
  words: { type: integer, default: 180, min: 60, max: 600 }
  slow: { type: duration, default: 20m }
  note: { type: text, optional: true }
sources:
  calls: { files: "{{ params.in }}" }
steps:
  - { id: s, use: summarize, length: "{{ params.words }} words", when: params.note is none }
outputs:
  - { path: "{{ params.out }}/{{ doc.stem }}.md", content: steps.s.text }
run: { timeout: { document: "{{ params.slow }}" } }
"#;
    let plan = plan_of(text).plan;
    assert_eq!(plan.params, json!({"in": "calls/*.vtt", "out": "out", "words": 180, "slow": "20m", "note": null}));
    assert_eq!(plan.steps[0].resolved["options"]["length"], json!({ "n": 180, "unit": "words" }));
    assert_eq!(plan.run.document_timeout, Some(std::time::Duration::from_secs(1200)));
    assert_eq!(plan.steps[0].when.as_deref(), Some("params.note is none"));

    let given = |overrides: &[(&str, &str)]| run(text, InMemory::default(), overrides);
    let plan = given(&[("words", "100"), ("in", "x/*.srt"), ("out", "/abs")]).unwrap_or_else(|f| panic!("{f:#?}")).plan;
    assert_eq!(plan.params["words"], json!(100));
    assert_eq!(plan.sources[0].patterns, ["/p/x/*.srt"]); // of the current folder, which is /p here
    assert_eq!(plan.params["out"], json!("/abs"));

    let told_of = |overrides: &[(&str, &str)]| told(&given(overrides).err().unwrap());
    assert_eq!(told_of(&[("words", "1000")]), ["5:3 `-p words=1000` must be an integer from 60 to 600"]);
    assert_eq!(told_of(&[("slow", "soon")]), ["6:3 `-p slow=soon` must be a duration such as 20s, 3m or 1h30m"]);
    assert_eq!(told_of(&[("wrods", "1")]), [" `-p wrods=…` names no parameter of the file | did you mean `words`?"]);
    assert_eq!(told_of(&[("out", "a"), ("out", "b")]), [" `-p out=…` is given twice"]);
}

#[test]
fn a_parameter_without_a_value_is_told_once_and_not_where_it_is_used() {
    let text = SMALLEST
        .replace("sources:", "params: { n: { type: integer } }\nsources:")
        .replace("200 words", "\"{{ params.n }} words\"");
    assert_eq!(faults_of(&text), ["2:11 the parameter `n` has no value | give it with -p n=…"]);
    assert!(run(&text, InMemory::default(), &[("n", "5")]).is_ok());
    let both = text.replace("type: integer", "type: integer, required: true, default: 3");
    assert_eq!(faults_of(&both), ["2:56 the parameter `n` is required and has a default: one of the two is meant"]);
}

#[test]
fn every_kind_of_value_has_its_own_complaint() {
    assert_eq!(
        step_fault("use: summarize, length: ^200 pages"),
        "`steps.s.length` must be an amount such as 200 tokens or 200 turns or 200 words, not the text `200 pages`"
    );
    assert_eq!(
        step_fault("use: summarize, focus: ^2024"),
        "`steps.s.focus` must be text, not the number 2024 | put it in quotes: \"2024\""
    );
    assert_eq!(
        step_fault("use: summarize, ^focus: "),
        "`steps.s.focus` has no value; it must be text | leave the key out where it is not needed"
    );
    assert_eq!(
        step_fault("use: summarize, given: ^steps.s"),
        "`steps.s.given` must be a list, each an expression, not the text `steps.s`"
    );
    assert_eq!(
        step_fault("use: summarize, long: ^3"),
        "`steps.s.long` must be a mapping with size, passes, not the number 3"
    );
    assert_eq!(
        step_fault("use: summarize, schema: ^invoice"),
        "`steps.s.schema` names the schema `invoice`, which is not under `schemas` | there are none: write it here, or put a `schemas` section"
    );
    assert_eq!(
        step_fault("use: render, template: { file: ^no.md }"),
        "`steps.s.template.file` names the file `no.md`, which does not exist | looked for /p/no.md"
    );
    assert_eq!(
        step_fault("use: render, template: ^[a]"),
        "`steps.s.template` must be a template, or a mapping with file, not a list"
    );
    assert_eq!(
        faults_of(&SMALLEST.replace("use: summarize, length: 200 words, cite: turns", "use: render")),
        [
            "4:5 `template` is missing in `steps.minutes` | `template` is a template, or a mapping with file: The template."
        ]
    );
    assert_eq!(
        step_fault("use: split, when: ^\"{{ doc.stem }}\""),
        "`steps.s.when` is an expression, which stands without {{ }}"
    );
    assert_eq!(
        step_fault("use: split, overlap: ^9k tokens"),
        "`steps.s.overlap`: the overlap must be smaller than the size | take a tenth of it"
    );
    assert_eq!(
        step_fault("use: split, per: ^chunk"),
        "`per: chunk` is not in this version of quarry | a step is done once per document"
    );
    assert_eq!(step_fault("use: split, ^over: doc"), "`over` is not in this version of quarry");
    assert_eq!(step_fault("use: split, when: ^steps.s"), "the step `s` uses its own value, which it has yet to make");
    assert_eq!(
        step_fault("use: split, when: ^row.x"),
        "`row` is known only in a step with `per: row`, which is not in this version of quarry"
    );
    assert_eq!(step_fault("use: split, when: ^params.x"), "there is no parameter `x` | the file has no `params`");
    assert_eq!(
        step_fault("use: split, when: ^doc.stem.x"),
        "`doc.stem` has no field `x`: it is the file's name without its extension"
    );
    assert_eq!(step_fault("use: split, when: doc is ^non"), "there is no test `non` | did you mean `none`?");
    assert_eq!(step_fault("use: split, when: ^rnge(3)"), "there is no function `rnge` | did you mean `range`?");
    assert_eq!(
        step_fault("use: split, size: \"{{ ^doc.stem }} tokens\""),
        "`steps.s.size` is settled before the run and sees only `params`, not `doc.stem`"
    );
}

#[test]
fn templates_in_files_are_checked_and_their_mistakes_stand_in_the_file() {
    let text = r#"version: 1
sources: { a: x.txt }
steps:
  - { id: s, use: summarize }
  - { id: page, use: render, template: { file: t/page.md.j2 } }
outputs: [ { path: "{{ doc.stem }}.md", content: steps.page } ]
"#;
    let good = InMemory::default().with("t/page.md.j2", "{{ steps.s.text }}");
    let plan = run(text, good, &[]).unwrap_or_else(|f| panic!("{f:#?}")).plan;
    assert_eq!(plan.steps[1].reads, ["s"]);
    assert_eq!(plan.steps[1].resolved["files"]["t/page.md.j2"], json!("{{ steps.s.text }}"));
    let bad = InMemory::default().with("t/page.md.j2", "# x\n {{ steps.s.txt }}");
    let faults = run(text, bad, &[]).err().unwrap();
    assert_eq!(told(&faults), ["2:5 `steps.s` has no field `txt` | did you mean `text`?"]);
    assert_eq!(faults[0].place.as_ref().unwrap().file, Path::new("/p/t/page.md.j2"));
}

#[test]
fn outputs_say_what_they_are() {
    let output = "{ path: all.csv, explode: steps.minutes, fields: { x: item.x, one: 1, ok: true }, key: doc.sha256 }";
    let text = format!("{}outputs: [ {output} ]\n", &SMALLEST[..SMALLEST.find("outputs").unwrap()]);
    let records = plan_of(&text).plan.outputs.remove(0);
    let OutputContent::Records { fields, key, explode } = &records.content else { panic!() };
    assert_eq!(fields[1..], [("one".to_owned(), "1".to_owned()), ("ok".to_owned(), "true".to_owned())]);
    assert_eq!((key.as_deref(), explode.as_deref()), (Some("doc.sha256"), Some("steps.minutes")));
    assert_eq!((records.name.as_str(), records.format), ("all", OutputFormat::Csv));

    assert_eq!(
        output_fault("^{ path: a.md }"),
        "`outputs[0]` has neither `content` nor `fields` | `content: steps.x` writes one text per document, `fields: { … }` one record"
    );
    assert_eq!(
        output_fault("{ path: ^\"{{ doc.stem }}.html\", content: doc.text }"),
        "the path `{{ doc.stem }}.html` does not say its format | end it in .md, .txt, .jsonl or .csv, or add `format`"
    );
    assert_eq!(
        output_fault("{ path: ^\"{{ doc.stem }}.csv\", content: doc.text }"),
        "`content` is written as markdown or text, and `{{ doc.stem }}.csv` is csv"
    );
    assert_eq!(output_fault("{ path: a.csv, fields: ^{} }"), "`outputs[0].fields` names no field");
    assert_eq!(
        output_fault("{ path: \"{{ doc.stem }}.md\", content: doc.text, key: ^doc.stem }"),
        "`key` goes with `fields`, and `outputs[0]` has `content`"
    );
    assert_eq!(
        output_fault(
            "{ path: \"{{ doc.stem }}.md\", content: doc.text }, { path: ^\"{{ doc.stem }}.md\", content: steps.minutes }"
        ),
        "two outputs write `{{ doc.stem }}.md` | the first one stands at line 5"
    );
    assert_eq!(
        output_fault("{ path: \"{{ doc.stem }}{{ ^steps.minutes }}.md\", content: doc.text }"),
        "the path of an output sees `doc`, `params` and `run`, not `steps`"
    );
}

#[test]
fn sections_of_the_wrong_kind_and_missing_ones_are_told() {
    assert_eq!(faults_of(""), ["1:1 the file is empty | it needs `version`, `sources` and `steps`"]);
    assert_eq!(faults_of("- a\n")[0].split(", not ").last(), Some("a list"));
    let faults = faults_of("steps: []\nsources: {}\nparams: [a]\noutputs: x\nschemas: 1\n");
    let expected = [
        "1:1 `version` is missing in the file | `version` is a value: The version of the file format: 1.",
        "1:8 `steps` must be a list of steps, not an empty one | write: - { id: minutes, use: summarize }",
        "2:10 `sources` names no source | write: calls: \"calls/*.vtt\"",
        "3:9 `params` must be a mapping, each value a mapping with type, default, help, min, max, optional, required, not a list",
        "4:10 `outputs` must be a list, not the text `x` | write: - { path: \"out/{{ doc.stem }}.md\", content: steps.minutes }",
        "5:10 `schemas` must be a mapping of names to schemas, not the number 1",
    ];
    assert_eq!(faults, expected, "{faults:#?}");
    let missing = run("x", InMemory(BTreeMap::new()), &[]).map(|_| ()).err().map(|f| told(&f)).unwrap();
    assert_eq!(missing.len(), 1, "{missing:?}");
}

#[test]
fn ids_must_be_words_and_references_suggest_what_was_meant() {
    let text = SMALLEST.replace("id: minutes", "id: my-minutes").replace("steps.minutes", "minutes");
    let faults = faults_of(&text);
    assert_eq!(
        faults[0],
        "4:11 the step `my-minutes` cannot be named in a template | letters, digits and `_` are possible: my_minutes"
    );
    let bare = SMALLEST.replace("steps.minutes", "minutes");
    assert_eq!(faults_of(&bare), ["5:54 there is nothing called `minutes` here | did you mean `steps.minutes`?"]);
}

#[test]
fn what_is_allowed_and_hardly_meant_is_a_warning() {
    let text = r#"version: 1
params: { x: { type: text, default: a } }
sources: { a: nowhere/*.txt }
steps:
  - { id: s, use: summarize }
  - { id: unused, use: split }
outputs: [ { path: "{{ doc.stem }}.md", content: steps.s.text } ]
"#;
    let expected = [
        "2:11 nothing uses the parameter `x`",
        "3:15 the source `a` matches no file | looked for /p/nowhere/*.txt",
        "6:5 nothing uses `steps.unused`",
    ];
    assert_eq!(told(&plan_of(text).warnings), expected);
    let silent = &SMALLEST[..SMALLEST.find("outputs").unwrap()];
    assert_eq!(told(&plan_of(silent).warnings), ["1:1 the file has no `outputs`: nothing will be written"]);
}

#[test]
fn schemas_come_inline_short_and_from_files() {
    let text = SMALLEST
        .replace(
            "steps:",
            "schemas:\n  a: { vendor: string, total: number? }\n  b: { file: b.json }\n  c: { file: c.json }\nsteps:",
        )
        .replace("cite: turns", "schema: a");
    let files = || InMemory::default().with("b.json", r#"{"type": "object"}"#);
    let faults = told(&run(&text, files(), &[]).err().unwrap());
    assert_eq!(faults, ["6:14 `schemas.c` names the file `c.json`, but it does not exist | looked for /p/c.json"]);
    let broken = told(&run(&text, files().with("c.json", "{\n  \"a\": }"), &[]).err().unwrap());
    assert!(broken[0].contains("it is not valid JSON: expected value at line 2 column 8"), "{broken:?}");
    let plan = run(&text, files().with("c.json", "{\"x\": \"date?\"}"), &[]).unwrap_or_else(|f| panic!("{f:#?}")).plan;
    let schemas = plan.steps[0].resolved["schemas"].as_object().unwrap();
    assert_eq!(schemas.keys().collect::<Vec<_>>(), ["a"]);
    assert_eq!(schemas["a"]["required"], json!(["vendor", "total"]));
}

#[test]
fn every_default_of_every_table_fits_its_own_type() {
    use crate::pipeline::tables::{MODEL, OUTPUT, RUN, SOURCE, STEP, TIMEOUT, read_keys};
    let source = SourceText { path: "t".into(), text: String::new() };
    let (params, files) = (Params::default(), InMemory::default());
    let around =
        Surroundings { source: &source, folder: Path::new("/p"), params: &params, schemas: &[], files: &files };
    let kinds = KINDS.iter().chain(crate::steps::STEP_KINDS).map(|k| k.keys);
    let tables = [ROOT, PARAM, MODEL, SOURCE, STEP, OUTPUT, RUN, TIMEOUT, read_keys()];
    for table in tables.into_iter().chain(kinds) {
        let optional: Vec<_> = table.iter().filter(|k| !k.required).collect();
        let nothing = Node { at: Position::START, span: 0..0, value: NodeValue::Map(Vec::new()) };
        let mut shaper = Shaper::new(&around, "");
        let object = shaper.object(&nothing, &optional, &mut Vec::new()).unwrap();
        assert!(shaper.faults.is_empty(), "{:#?}", shaper.faults);
        for key in optional {
            assert_eq!(object.contains_key(key.name), key.default.is_some(), "{}", key.name);
        }
    }
}

#[test]
fn the_model_of_the_command_line_takes_the_place_of_the_files_own() {
    let text = SMALLEST.replace("steps:", "model: { use: [a, b], window: 16k, threads: 2, top_k: 40 }\nsteps:");
    let files = InMemory::default().with("p.yaml", &text);
    let with = |model| {
        let request = Request {
            file: Path::new("p.yaml"),
            kinds: KINDS,
            overrides: &[],
            model,
            current_folder: Path::new("/p"),
            files: &files,
        };
        check(&request).unwrap_or_else(|f| panic!("{f:#?}")).plan.model
    };
    assert_eq!(with(None).preference, ["a", "b"]);
    assert_eq!(with(Some("starter")).preference, ["starter"]);
    let model = with(None);
    assert_eq!((model.defaults.window, model.threads, model.defaults.sampling.top_k), (Some(16_000), Some(2), 40));
}

#[test]
fn no_damage_to_a_file_is_a_crash() {
    let text = SMALLEST
        .replace("steps:", "params: { n: { type: integer, default: 3 } }\nschemas: { a: { x: string } }\nsteps:");
    let bytes = text.as_bytes();
    let check_bytes = |bytes: &[u8]| {
        let mut files = InMemory::default();
        files.0.insert("/p/p.yaml".into(), bytes.to_vec());
        let request = Request {
            file: Path::new("p.yaml"),
            kinds: KINDS,
            overrides: &[],
            model: None,
            current_folder: Path::new("/p"),
            files: &files,
        };
        if let Err(faults) = check(&request) {
            assert!(!faults.is_empty() && faults.iter().all(|f| f.place.is_some()), "{faults:?}");
        }
    };
    for end in 0..bytes.len() {
        check_bytes(&bytes[..end]);
    }
    for at in 0..bytes.len() {
        for byte in b"{}[]:\"'|>&*-%#!\t\n \0\xff" {
            let mut damaged = bytes.to_vec();
            damaged[at] = *byte;
            check_bytes(&damaged);
        }
    }
}

#[test]
fn a_pipeline_is_explained_with_every_default() {
    let text = crate::pipeline::explain::pipeline(&plan_of(SMALLEST));
    for line in [
        "calls: /p/calls/*.vtt",
        "merge_gap      2s  (default)",
        "temperature         0  (default)",
        "1. minutes: Writes a summary (summarize; asks the model)",
        "length       200 words\n",
        "focus        off  (default)",
        "long.size    2500 tokens  (default)",
        "if it fails  the document is set aside with its reason, the run goes on  (from `run`)",
        "gives        steps.minutes.text, steps.minutes.coverage",
        "page: out/{{ doc.stem }}.md, Markdown, one file per document",
        "timeout.document  1h  (default)",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    let verb = crate::pipeline::explain::verb(&SUMMARIZE);
    assert!(
        verb.contains("length: an amount such as 200 tokens or 200 turns or 200 words; by default 200 words"),
        "{verb}"
    );
    assert!(verb.contains("    long.passes: an integer from 1 to 4; by default 2"), "{verb}");
}
