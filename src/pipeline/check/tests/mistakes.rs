use super::*;
use crate::pipeline::plan::{OutputContent, OutputFormat};

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
  - use: dedup
    id: found
outputs:
  - { path: "minutes.md", content: steps.page }
  - { path: "{{ doc.stem }}.jsonl", fields: { a: item.x } }
run: { on_error: ignore, max_failed: 10, nice: 10 }
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
        "32:10 there is no verb `dedup` | known verbs: split, summarize, render",
        "35:13 every document would write the same file `minutes.md` | name the document in it: {{ doc.stem }}",
        "36:17 the records of all documents go into one file: its path cannot name `doc` | `run.date` and `params` are known here",
        "36:50 `item` is known only where `explode` gives a list",
        "37:18 `run.on_error` must be one of stop, quarantine, skip, mark, not the text `ignore`",
        "37:42 `nice` is not in this version of quarry",
        "38:1 the key `run` is written twice | first at line 37",
    ];
    assert_eq!(faults, expected, "{faults:#?}");
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
        "`steps.s` is done per chunk and does not say of which chunks | write: over: steps.<id of a split>.chunks"
    );
    assert_eq!(
        step_fault("use: split, per: turn, foreach: ^doc.turns"),
        "`steps.s` is done both per turn and for each item of a list | one of `per` and `foreach` is meant"
    );
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
