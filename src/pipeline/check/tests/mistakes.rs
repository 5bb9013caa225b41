use super::*;
use crate::pipeline::plan::{OutputContent, OutputFormat};

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
        "`steps.s.length` must be an amount such as 200 tokens or 200 turns or 200 words, not the text `200 pages` | `length`: How long it gets."
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
        "`steps.s.given` must be a list, each an expression, not the text `steps.s` | `given`: What is known already."
    );
    assert_eq!(
        step_fault("use: summarize, long: ^3"),
        "`steps.s.long` must be a mapping with size, passes, not the number 3 | `long`: Over the window."
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
        "`steps.s.template` must be a template, or a mapping with file, not a list | `template`: The template."
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
        "`steps.s` is done per chunk and does not say of which chunks | write: over: steps.<id of a split>.chunks"
    );
    assert_eq!(
        step_fault("use: split, per: turn, foreach: ^doc.turns"),
        "`steps.s` is done both per turn and for each item of a list | one of `per` and `foreach` is meant"
    );
    assert_eq!(step_fault("use: split, when: ^steps.s"), "the step `s` uses its own value, which it has yet to make");
    assert_eq!(
        step_fault("use: split, when: ^row.x"),
        "`row` is known only in a step with `per: row` | and with a source that has `rows`"
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
        "`outputs[0]` has neither `content` nor `fields` | `content: steps.x` writes one text per document, `fields: { … }` one record, `review` one page"
    );
    assert_eq!(
        output_fault("{ path: ^\"{{ doc.stem }}.docx\", content: doc.text }"),
        "the path `{{ doc.stem }}.docx` does not say its format | end it in .md, .txt, .html, .jsonl, .csv or .parquet, or add `format`"
    );
    assert_eq!(
        output_fault("{ path: ^\"{{ doc.stem }}.csv\", content: doc.text }"),
        "`content` is written as markdown, text or html, and `{{ doc.stem }}.csv` is csv"
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
        "3:9 `params` must be a mapping, each value a mapping with type, default, help, min, max, optional, required, env, secret, not a list",
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
            profile: None,
            sets: &[],
            sources: &[],
            environment: &|_| None,
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
