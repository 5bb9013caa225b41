//! Files that would eat all time or memory, and machines that have little of anything.

use std::fs;
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use super::{BATCH, assert_same, batch, note, script};
use crate::pipelines::Stage;
use crate::support::{Ran, run};

/// What a refusal may take of the address space: the binary and its threads, and 200 MB.
const SPACE_KB: u64 = 600 * 1024;

/// Two seconds, and as much again for each process that shares a machine with others.
const SOON: Duration = Duration::from_secs(8);

/// The command under a shell's limit.
fn limited(command: &Command, limit: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("{limit} && exec \"$@\"")).arg("sh").arg(command.get_program());
    shell.args(command.get_args()).current_dir(command.get_current_dir().unwrap());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell
}

#[track_caller]
fn refused(stage: &Stage, pipeline: impl AsRef<[u8]>, what: &str) -> Ran {
    stage.write("p.yaml", pipeline);
    let checked = run(&mut limited(&stage.command(&["check", "p.yaml"]), &format!("ulimit -v {SPACE_KB}")));
    assert_eq!(checked.code, Some(2), "{what}: {checked}");
    assert!(checked.took < SOON, "{what}: {checked}");
    let placed = checked.stderr.contains("p.yaml:") || checked.stderr.contains("limit");
    assert!(placed && !checked.errors().is_empty(), "{what}: {checked}");
    assert!(checked.stderr.len() < 100_000, "{what}: {} bytes are told", checked.stderr.len());
    checked
}

#[test]
fn hostile_pipeline_files_are_refused_with_their_place() {
    let stage = Stage::new("", json!([]));
    let bomb = (b'b'..=b'z').fold("a: &a [x,x,x,x,x,x,x,x,x]\n".to_owned(), |text, c| {
        let (c, before) = (c as char, (c - 1) as char);
        format!("{text}{c}: &{c} [{}]\n", vec![format!("*{before}"); 9].join(","))
    });
    refused(&stage, bomb, "aliases of aliases");
    refused(&stage, "x: ".to_owned() + &"[".repeat(10_000), "10,000 lists deep");
    refused(&stage, "x: ".to_owned() + &"{a: ".repeat(10_000), "10,000 maps deep");
    refused(&stage, (0..2_000).map(|n| format!("{}k:\n", " ".repeat(n))).collect::<String>(), "2,000 levels deep");
    refused(&stage, format!("version: 1\nname: {}\n", "x".repeat(100 << 20)), "a scalar of 100 MB");
    let twice = refused(&stage, BATCH.to_owned() + "version: 1\n", "a key twice");
    assert!(twice.stderr.contains("version"), "{twice}");
    let unknown = refused(&stage, BATCH.to_owned() + "vresion: 1\n", "an unknown key");
    assert!(unknown.stderr.contains("did you mean `version`"), "{unknown}");
    refused(&stage, BATCH.to_owned() + "name: !!python/object:os.system [ls]\n", "a tag");
    refused(&stage, BATCH.to_owned() + "params: &p { <<: *p }\n", "a merge key that names itself");
    refused(&stage, b"version: 1\nname: \xff\xfe\n", "bytes that are no UTF-8");
    refused(&stage, "version: 1\nsteps:\n\t- x\n", "tabs");
}

/// Runs a template over one note. `None` where the document came through.
fn rendered(template: &str) -> (Stage, Ran) {
    let pipeline = format!(
        "version: 1\nname: batch\nsources: {{ notes: \"in/*.txt\" }}\nsteps:\n  - id: page\n    use: render\n    template: |\n{}\n\
         outputs:\n  - {{ path: \"out/{{{{ doc.stem }}}}.md\", content: steps.page }}\n",
        template.lines().map(|line| format!("      {line}\n")).collect::<String>()
    );
    let stage = Stage::new(&pipeline, script(0));
    stage.write("in/a.txt", "Nothing {{ 7*7 }} {% include 'x' %} of note.\n");
    let ended = run(&mut limited(&stage.runs(&["--json"]), &format!("ulimit -v {}", SPACE_KB + (1 << 20))));
    assert!(ended.took < SOON + SOON, "{template}: {ended}");
    assert!(!ended.stderr.contains("panicked") && ended.signal.is_none(), "{template}: {ended}");
    (stage, ended)
}

#[test]
fn templates_that_never_end_fail_the_document_and_not_the_run() {
    for template in [
        "{% for i in range(1000000000) %}x{% endfor %}",
        "{% for i in range(100000) %}{% for j in range(100000) %}x{% endfor %}{% endfor %}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{{ 'x' * 100000000000 }}",
        "{{ [0] * 1073741824 }}",
        "{{ range(10000) | map('string') | join('x' * 1000000) }}",
        "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s }}",
        "{{ doc | tojson(indent=1000000000) }}",
    ] {
        let (stage, ended) = rendered(template);
        // Refused by check, or the one document fails: never a page that is half of what was meant.
        match ended.code {
            Some(2) => assert!(!ended.errors().is_empty(), "{template}: {ended}"),
            Some(3 | 4) => {
                let report = ended.json();
                let failure = &report["documents"][0]["failure"];
                assert_eq!(failure["step"], "page", "{template}: {report}");
                assert!(!failure["detail"].as_str().unwrap().is_empty());
            }
            _ => panic!("{template}: {ended}"),
        }
        assert!(!stage.path("out/a.md").exists(), "{template}");
    }
}

#[test]
fn templates_reach_no_file_and_no_variable_of_the_environment() {
    for (template, secret) in [
        ("{% include '/etc/passwd' %}", "root:"),
        ("{% include '../secret.txt' %}", "hidden"),
        ("{% include 'p.yaml' %}", "use: render"),
        ("{{ env.HOME }}", "/"),
        ("{{ environ('HOME') }}", "/"),
    ] {
        let (stage, ended) = rendered(template);
        assert!([Some(2), Some(3), Some(4)].contains(&ended.code), "{template}: {ended}");
        assert!(!stage.outputs().values().any(|page| String::from_utf8_lossy(page).contains(secret)), "{template}");
    }
    let (stage, ended) = rendered("{{ doc.text }}");
    ended.exits(0);
    let page = stage.read("out/a.md");
    assert!(page.contains("{{ 7*7 }}") && page.contains("{% include 'x' %}"), "a document is no template: {page}");
}

#[test]
fn little_of_everything_is_enough_or_said() {
    let whole = batch(4, 0);
    whole.run().exits(0);
    let bare = |change: &dyn Fn(&mut Command)| {
        let stage = batch(4, 0);
        let mut command = stage.runs(&[]);
        command.env("LANG", "C").env("LC_ALL", "C").env_remove("TERM");
        change(&mut command);
        let ended = run(&mut command);
        (stage, ended)
    };
    let (stage, ended) = bare(&|_| ());
    ended.exits(0);
    assert_same(&stage, &whole.outputs(), "LANG=C");
    let (stage, ended) = bare(&|c| {
        c.env("TMPDIR", "/nonexistent");
    });
    ended.exits(0);
    assert_same(&stage, &whole.outputs(), "no folder for temporary files");
    let (stage, ended) = bare(&|c| {
        c.env_remove("HOME").env_remove("XDG_CACHE_HOME");
    });
    ended.exits(0); // the cache folder is named
    assert_same(&stage, &whole.outputs(), "no home");
    let stage = batch(4, 0);
    let few = run(&mut limited(&stage.runs(&["--jobs", "16"]), "ulimit -n 64"));
    few.exits(0);
    assert_same(&stage, &whole.outputs(), "64 descriptors");
    // With ever fewer, each place in turn is the first that can open no more; what failed so is tried again.
    for num in 5..=24 {
        let stage = batch(4, 0);
        let none = run(&mut limited(&stage.runs(&[]), &format!("ulimit -n {num}")));
        let is_said =
            [Some(0), Some(2), Some(3), Some(8), Some(9)].contains(&none.code) && !none.stderr.contains("panicked");
        assert!(is_said, "{num}: {none}");
        stage.run().exits(0);
        assert_same(&stage, &whole.outputs(), &format!("after a run that could open {num} files"));
    }
}

#[test]
fn an_option_that_would_be_ignored_is_refused() {
    let stage = Stage::new("", json!([]));
    stage.write("ids.json", "[1]");
    for arguments in
        [&["bench", "-m", "x.gguf"][..], &["model", "logits", "x.gguf", "--tokens", "ids.json", "--out", "x.npy"]]
    {
        let with = [arguments, &["--kv-cache", "kept"]].concat();
        let refused = run(&mut stage.command(&with));
        assert_eq!(refused.code, Some(2), "{refused}");
        assert!(refused.stderr.contains("--kv-cache") && !stage.path("kept").exists(), "{refused}");
    }
}

/// 200,000 files where there is time, and 3,000 every day.
#[test]
fn many_small_inputs_are_listed_soon_and_held_in_little_memory() {
    let num = super::tries(3_000, 200_000);
    let pipeline = "version: 1\nname: many\nsources: { notes: \"in/**/*.txt\" }\nsteps:\n\
         \x20 - { id: answer, use: generate, prompt: \"{{ doc.text }}\", max_tokens: 50 }\n\
         outputs:\n  - { name: all, path: out/all.jsonl, fields: { doc: doc.stem, answer: steps.answer }, key: doc.path }\n";
    let stage = Stage::new(pipeline, json!([{ "answer": "It was said." }]));
    for n in 0..num {
        if n % 1000 == 0 {
            fs::create_dir(stage.path(&format!("in/{:03}", n / 1000))).unwrap();
        }
        stage.write(&format!("in/{:03}/{n:06}.txt", n / 1000), format!("Note {n}.\n"));
    }
    let mut first = crate::support::start(&mut stage.runs(&["--quiet"]));
    let peak = first.peak_memory_while_running();
    let first = first.finish().exits(0);
    let mut again = crate::support::start(&mut stage.runs(&["--quiet"]));
    let peak_again = again.peak_memory_while_running();
    let again = again.finish().exits(0);
    let rate = num as f64 / first.took.as_secs_f64();
    println!("{num} files: {rate:.0} a second, {} MB; again {:?}, {} MB", peak >> 20, again.took, peak_again >> 20);
    assert!(peak.max(peak_again) < 500 << 20, "{peak} and {peak_again} bytes");
    assert_eq!(stage.read("out/all.jsonl").lines().count(), num);
    note(&stage, 0);
    assert!(run(&mut stage.runs(&[])).exits(0).stdout.contains("1 ok"));
}
