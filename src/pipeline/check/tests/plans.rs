use super::*;
use crate::pipeline::plan::{MaxFailed, OnError, OutputFormat};

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
    let source = SourceText::new(std::path::Path::new("t"), "");
    let (params, files) = (Params::default(), InMemory::default());
    let around = Surroundings {
        source: &source,
        folder: Path::new("/p"),
        params: &params,
        schemas: &[],
        indexes: &[],
        files: &files,
    };
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
            profile: None,
            sets: &[],
            sources: &[],
            environment: &|_| None,
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

#[test]
fn the_source_of_an_index_is_no_document_of_the_run() {
    let with = |section: &str| SMALLEST.replace("steps:", &format!("indexes: {{ {section} }}\nsteps:"));
    let text = with("all: { from: library }").replace("sources: {", "sources: { library: \"docs/*.md\",");
    let plan = plan_of(&text).plan;
    assert_eq!(plan.sources.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["calls"]);
    let index = &plan.indexes[0];
    assert_eq!((index.name.as_str(), index.source.patterns[0].as_str()), ("all", "/p/docs/*.md"));
    assert_eq!((&index.split["size"], &index.embedder), (&json!("400 tokens"), &None));

    let told_of = |text: &str| told(&run(text, InMemory::default(), &[]).err().unwrap()).join("\n");
    let faults = told_of(&with("all: { from: cals }"));
    assert!(faults.contains("cals") && faults.contains("did you mean `calls`?"), "{faults}");
    let faults = told_of(&with("all: { from: calls, split: { size: 5 tokens } }"));
    assert!(faults.contains("indexes.all.split.size"), "{faults}");
    let faults = told_of(&with("all: { from: calls }"));
    assert!(faults.contains("every source is that of an index"), "{faults}");
}
