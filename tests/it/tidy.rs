//! Holds the sources to the house of DESIGN.md. The table of rooms below is its truest diagram.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::root;

/// Each room and the rooms that it may use. Imports point down, and `corpus` and `inference` never meet.
const ROOMS: &[(&str, &[&str])] = &[
    (
        "cli",
        &["pipeline", "steps", "corpus", "embed", "engine", "sampler", "model", "kernels", "hub", "diagnostic", "ids"],
    ),
    ("pipeline", &["steps", "corpus", "engine", "sampler", "diagnostic", "ids", "spec"]),
    ("steps", &["corpus", "engine", "sampler", "diagnostic", "ids", "spec"]),
    ("corpus", &["ids", "spec"]),
    ("embed", &[]),
    ("engine", &["sampler", "grammar", "tokenizer", "model", "kernels", "ids"]),
    ("sampler", &["grammar", "ids"]),
    ("grammar", &["tokenizer", "ids"]),
    ("tokenizer", &["ids"]),
    ("model", &["kernels", "ids"]),
    ("kernels", &["ids"]),
    ("hub", &["diagnostic"]),
    ("spec", &[]),
    ("diagnostic", &[]),
    ("ids", &[]),
];

/// Words that stand in one room only: a crate with one door, or a thing that only one floor may do.
const DOORS: &[(&str, &[&str])] = &[
    ("println!", &["src/cli/"]),
    ("eprintln!", &["src/cli/"]),
    ("print!(", &["src/cli/"]),
    ("std::env::var", &["src/cli/"]),
    ("env::var", &["src/cli/"]),
    ("process::exit", &["src/cli/"]),
    ("unsafe", &["src/inference/kernels/", "src/inference/model/source.rs"]),
    ("llguidance", &["src/inference/grammar/"]),
    ("serde_saphyr", &["src/pipeline/file.rs"]),
    ("hf_hub", &["src/inference/hub/"]),
    ("tokenizers::", &["src/inference/tokenizer/", "src/inference/embed/"]),
    ("tantivy", &["src/corpus/index/"]),
    ("usearch::", &["src/corpus/index/graph.rs"]),
    ("candle_transformers", &["src/inference/embed/"]),
    ("memmap2", &["src/inference/model/source.rs"]),
    ("pdf_extract", &["src/corpus/reader/pdf/first.rs"]),
    ("pdf_oxide", &["src/corpus/reader/pdf/second.rs"]),
    ("quick_xml", &["src/corpus/reader/office/xml.rs"]),
    ("calamine", &["src/corpus/reader/office/sheets.rs"]),
    ("html5gum", &["src/corpus/reader/html.rs", "src/corpus/reader/html/"]),
    ("dom_smoothie", &["src/corpus/reader/html/main_content.rs"]),
    ("mail_parser", &["src/corpus/reader/mail.rs"]),
    ("cfb", &["src/corpus/reader/ole.rs"]),
    ("flate2", &["src/corpus/reader/archive.rs"]),
    ("parquet::", &["src/pipeline/sink/parquet.rs", "src/pipeline/sink/tables.rs"]),
    ("clap::", &["src/cli/"]),
    ("indicatif", &["src/cli/"]),
    ("base64", &["src/pipeline/sink/review.rs"]),
];

/// Words that stand nowhere.
const NOWHERE: &[&str] = &["todo!", "unimplemented!", "dbg!("];

const LINES_MAX: usize = 500;

/// Files that may be longer, and why.
const LONG: &[(&str, usize, &str)] = &[];

/// One source file, without comments.
struct Source {
    path: String,        // from the root
    module: Vec<String>, // `src/steps/extract/cues.rs`: steps, extract, cues
    lines: Vec<Line>,
    num_lines: usize,
    first: String,
}

struct Line {
    number: usize,
    code: String,
    in_tests: bool,
    is_nested: bool, // in a test module inside a file: one level deeper
}

fn sources() -> Vec<Source> {
    let mut paths = Vec::new();
    rust_files(&root().join("src"), &mut paths);
    assert!(paths.len() > 50, "the sources are not where they should be");
    paths.sort();
    paths.iter().map(|path| Source::read(path)).collect()
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

impl Source {
    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).expect("a source is text");
        let from_root = path.strip_prefix(root()).expect("below the root");
        let mut module: Vec<String> = from_root
            .with_extension("")
            .components()
            .skip(1)
            .map(|c| c.as_os_str().to_string_lossy().into_owned())
            .collect();
        if module.last().is_some_and(|m| ["mod", "lib", "main"].contains(&m.as_str())) {
            module.pop();
        }
        let path = from_root.to_string_lossy().into_owned();
        let is_test_file = path.contains("/tests/") || path.ends_with("tests.rs") || path.ends_with("fakes.rs");
        let is_test_file = is_test_file || path.ends_with("_for_tests.rs");
        let mut in_tests = is_test_file;
        let mut lines = Vec::new();
        let mut before = "";
        for (i, line) in text.lines().enumerate() {
            // Unit tests stand at the end of a file.
            in_tests |= before == "#[cfg(test)]" && line.contains("mod ") && line.ends_with('{');
            before = line;
            lines.push(Line {
                number: i + 1,
                code: without_comment(line),
                in_tests,
                is_nested: in_tests && !is_test_file,
            });
        }
        let first = text.lines().next().unwrap_or_default().to_owned();
        Self { path, module, num_lines: lines.len(), lines, first }
    }

    fn room(&self) -> Option<String> {
        room_of(&self.module)
    }
}

/// Cuts a line at `//`, unless that stands in a text, as in an address.
fn without_comment(line: &str) -> String {
    let mut from = 0;
    while let Some(at) = line[from..].find("//").map(|i| i + from) {
        let quotes = line[..at].matches('"').count() - line[..at].matches("\\\"").count();
        if quotes.is_multiple_of(2) {
            return line[..at].to_owned();
        }
        from = at + 2;
    }
    line.to_owned()
}

/// `steps::extract::cues` is in `steps`, `inference::engine::core` in `engine`; `lib.rs` and `inference/mod.rs` in none.
fn room_of(module: &[String]) -> Option<String> {
    match module {
        [first, second, ..] if first == "inference" => Some(second.trim_end_matches("_tests").to_owned()),
        [first, ..] if first != "inference" => Some(first.clone()),
        _ => None,
    }
}

/// The modules that a line names with `crate::` or `super::`, as far as their rooms need them.
fn named_modules(source: &Source, line: &Line) -> Vec<Vec<String>> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    let mut found = Vec::new();
    for start in ["crate::", "super::"] {
        for (at, _) in line.code.match_indices(start) {
            let before = &line.code[..at];
            if before.ends_with(is_word) || before.ends_with("::") {
                continue; // inside a longer path, seen from its start
            }
            let mut rest = &line.code[at..];
            let mut base = Vec::new();
            if start == "super::" {
                base = source.module.clone();
                let mut up = usize::from(!line.is_nested);
                rest = &rest["super::".len()..];
                while let Some(more) = rest.strip_prefix("super::") {
                    rest = more;
                    up += 1;
                }
                base.truncate(base.len().saturating_sub(up));
            } else {
                rest = &rest["crate::".len()..];
            }
            for words in branches(rest) {
                let mut module = base.clone();
                module.extend(words);
                found.push(module);
            }
        }
    }
    found
}

/// The first two words of a path, for each branch of `{a, b::c}` at its first or second place.
fn branches(path: &str) -> Vec<Vec<String>> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let first = word(path);
    if let Some(list) = path.strip_prefix('{') {
        return list.split([',', '}']).map(|part| vec![word(part.trim())]).filter(|w| !w[0].is_empty()).collect();
    }
    let Some(rest) = path[first.len()..].strip_prefix("::") else { return vec![vec![first]] };
    if let Some(list) = rest.strip_prefix('{') {
        let heads = list.split([',', '}']).map(|part| word(part.trim())).filter(|w| !w.is_empty());
        return heads.map(|second| vec![first.clone(), second]).collect();
    }
    vec![vec![first.clone(), word(rest)]]
}

#[track_caller]
fn assert_none(faults: &BTreeSet<String>, rule: &str) {
    assert!(faults.is_empty(), "{rule}:\n{}", faults.iter().cloned().collect::<Vec<_>>().join("\n"));
}

#[test]
fn imports_point_down() {
    let rooms: BTreeSet<&str> = ROOMS.iter().map(|(room, _)| *room).collect();
    let mut faults = BTreeSet::new();
    let mut used = BTreeSet::new();
    for source in sources() {
        let Some(room) = source.room() else { continue };
        let Some((room, may_use)) = ROOMS.iter().find(|(name, _)| *name == room) else {
            faults.insert(format!("{}: the room {room} is not in the table", source.path));
            continue;
        };
        for line in &source.lines {
            for module in named_modules(&source, line) {
                let Some(other) = room_of(&module).filter(|r| rooms.contains(r.as_str()) && r != room) else {
                    continue;
                };
                if may_use.contains(&other.as_str()) {
                    used.insert((*room, other));
                } else {
                    let code = line.code.trim();
                    faults.insert(format!("{}:{}: {room} uses {other}: {code}", source.path, line.number));
                }
            }
        }
    }
    assert_none(&faults, "a room may only use those beside it in ROOMS");
    let stale: BTreeSet<String> = ROOMS
        .iter()
        .flat_map(|(room, may_use)| may_use.iter().map(move |other| (*room, other.to_string())))
        .filter(|edge| !used.contains(edge))
        .map(|(room, other)| format!("{room} -> {other}"))
        .collect();
    assert_none(&stale, "ROOMS allows what nothing uses any more");
}

#[test]
fn every_thing_has_its_one_door() {
    let mut faults = BTreeSet::new();
    for source in sources() {
        for line in source.lines.iter().filter(|l| !l.in_tests) {
            for (word, places) in DOORS {
                let is_door = places.iter().any(|place| source.path.starts_with(place));
                if !is_door && names(&line.code, word) {
                    faults.insert(format!("{}:{}: {word} belongs in {places:?}", source.path, line.number));
                }
            }
        }
    }
    assert_none(&faults, "what has one door is used behind it only");
}

/// Whether code holds a word, not as a part of a longer one.
fn names(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        let joins = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        !(joins(before)
            || word.ends_with(char::is_alphanumeric) && joins(after) && word != "env::var" && word != "std::env::var")
    })
}

#[test]
fn nothing_is_left_for_later() {
    let mut faults = BTreeSet::new();
    for source in sources() {
        for line in &source.lines {
            for word in NOWHERE.iter().filter(|word| names(&line.code, word)) {
                faults.insert(format!("{}:{}: {word}", source.path, line.number));
            }
        }
    }
    assert_none(&faults, "stubs and traces of debugging");
}

#[test]
fn files_are_of_a_size_to_read() {
    let sources = sources();
    let mut faults = BTreeSet::new();
    for source in &sources {
        let most = LONG.iter().find(|(path, ..)| *path == source.path).map_or(LINES_MAX, |(_, most, _)| *most);
        if source.num_lines > most {
            faults.insert(format!("{}: {} lines, more than {most}", source.path, source.num_lines));
        }
    }
    for (path, _, why) in LONG {
        let source = sources.iter().find(|s| s.path == *path);
        if source.is_none_or(|s| s.num_lines <= LINES_MAX) {
            faults.insert(format!("{path}: needs no exception any more ({why})"));
        }
    }
    assert_none(&faults, "long files");
}

#[test]
fn every_room_says_what_it_is_for() {
    let doors = |s: &&Source| ["/mod.rs", "src/lib.rs", "src/main.rs"].iter().any(|end| s.path.ends_with(end));
    let sources = sources();
    let silent = sources.iter().filter(doors).filter(|s| !s.first.starts_with("//! "));
    assert_none(&silent.map(|s| s.path.clone()).collect(), "a door begins with `//!`");
}

#[test]
fn the_reading_of_sources_reads_them_right() {
    assert_eq!(without_comment("let a = \"https://x\"; // says https"), "let a = \"https://x\"; ");
    let owned = |words: &[&str]| words.iter().map(|w| w.to_string()).collect::<Vec<_>>();
    assert_eq!(
        branches("inference::{engine::X, model}"),
        [owned(&["inference", "engine"]), owned(&["inference", "model"])]
    );
    assert_eq!(branches("{ids, spec::K}"), [owned(&["ids"]), owned(&["spec"])]);
    let source = |path: &[&str], code: &str| {
        let lines = vec![Line { number: 1, code: code.into(), in_tests: false, is_nested: false }];
        Source { path: "x".into(), module: owned(path), lines, num_lines: 1, first: String::new() }
    };
    let sampler = source(&["inference", "sampler"], "use super::grammar::Mask;");
    assert_eq!(named_modules(&sampler, &sampler.lines[0]), [owned(&["inference", "grammar", "Mask"])]);
    let core = source(&["inference", "engine", "core"], "super::super::model::X");
    assert_eq!(room_of(&named_modules(&core, &core.lines[0])[0]).as_deref(), Some("model"));
    assert!(
        names("unsafe { x }", "unsafe") && !names("unsafe_code", "unsafe") && names("std::env::var_os(X)", "env::var")
    );
}
