//! The faults that a run has to survive, made for real: processes killed, disks filled, clocks set, links swapped.
//!
//! The everyday suite makes a few of each; `QUARRY_SLOW_TESTS=1` makes as many as the rules ask for. What needs root, a
//! C compiler or libfaketime and cannot have it is skipped aloud.

mod clocks;
mod contention;
mod damage;
mod documents;
mod edits;
mod hostile;
mod inputs;
mod kills;
mod limits;
mod merging;
mod names;
mod pages;
mod places;
mod shim;
mod snapshots;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::pipelines::Stage;
use crate::support::skipped;

/// A page, a record and some rows for each document, after two calls of the model.
pub const BATCH: &str = r#"
version: 1
name: batch
sources: { notes: "in/**/*.txt" }
steps:
  - { id: first, use: generate, prompt: "{{ doc.text }}\nFirst?", max_tokens: 4000 }
  - { id: second, use: generate, prompt: "{{ doc.text }}\n{{ steps.first }}\nSecond?", max_tokens: 4000 }
outputs:
  - { name: page, path: "out/{{ doc.stem }}.md", content: steps.second }
  - { name: all, path: out/all.jsonl, fields: { doc: doc.stem, first: steps.first }, key: doc.path }
  - { name: rows, path: out/rows.csv, explode: "[steps.first, steps.second]", fields: { doc: doc.stem, said: item } }
run: { in_flight: 2, max_failed: 100% }
"#;

/// What `BATCH` does at once.
pub const IN_FLIGHT: usize = 2;

/// `num` notes of a few lines, and a model whose answers take `delay_ms` each.
pub fn batch(num: usize, delay_ms: u64) -> Stage {
    let stage = Stage::new(BATCH, script(delay_ms));
    (0..num).for_each(|n| note(&stage, n));
    stage
}

pub fn script(delay_ms: u64) -> Value {
    json!([
        { "when": "Second?", "answer": "It was said a second time, and at more length.", "delay_ms": delay_ms },
        { "answer": "It was said, and more.", "delay_ms": delay_ms },
    ])
}

pub fn note(stage: &Stage, n: usize) {
    stage.write(&format!("in/{n:03}.txt"), format!("Note {n}.\nThe machine {n} stands still since Monday.\n"));
}

/// Whether everything is to be tried that the rules ask for.
pub fn is_slow() -> bool {
    std::env::var_os("QUARRY_SLOW_TESTS").is_some_and(|v| !v.is_empty() && v != "0")
}

/// The number of tries: few every day, all of them where there is time.
pub fn tries(few: usize, all: usize) -> usize {
    if is_slow() { all } else { few }
}

/// Numbers that differ on each run of the suite; the seed is printed with what fails.
pub struct Dice {
    pub seed: u64,
    state: u64,
}

impl Dice {
    pub fn new() -> Self {
        let named = std::env::var("QUARRY_SEED").ok().map(|s| s.parse().expect("QUARRY_SEED is a number"));
        let seed = named.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64 | 1);
        Self { seed, state: seed }
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        // xorshift64*
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        (self.state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16) % bound.max(1)
    }
}

pub fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|out| out.stdout.trim_ascii() == b"0")
}

/// A file system of its own, of a size of its own; gone when this is dropped.
pub struct Mount {
    pub path: PathBuf,
}

impl Mount {
    /// `None`, said aloud, where this user may not mount.
    pub fn tmpfs(path: &Path, size: &str) -> Option<Self> {
        std::fs::create_dir_all(path).unwrap();
        let options = format!("size={size},mode=755");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(path).output();
        if !is_root() || !mounted.is_ok_and(|out| out.status.success()) {
            skipped("a file system of one's own needs root and mount(8)");
            return None;
        }
        Some(Self { path: path.to_path_buf() })
    }

    pub fn again(&self, options: &str) {
        let options = format!("remount,{options}");
        let done = Command::new("mount").args(["-o", &options]).arg(&self.path).status().unwrap();
        assert!(done.success(), "mount -o {options} {}", self.path.display());
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}

/// The events of the runs of a stage, in their order.
pub fn events(stage: &Stage) -> Vec<Value> {
    let text = std::fs::read_to_string(stage.path("events.jsonl")).unwrap_or_default();
    // A kill may tear the last line of its run, which the next run's first is then glued to.
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// How many documents were begun more than once, over all runs of a stage.
pub fn num_redone(stage: &Stage) -> usize {
    let mut begun = std::collections::BTreeMap::<String, usize>::new();
    for event in events(stage).iter().filter(|e| e["event"] == "document-started") {
        *begun.entry(event["document"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    begun.values().map(|n| n - 1).sum()
}

/// Leaves no half-written file, and no file outside the folders that a run may write to.
#[track_caller]
pub fn assert_tidy(stage: &Stage, when: &str) {
    for parts in ["out/.quarry/parts", "out/.quarry/batch/parts"] {
        let left: Vec<_> = std::fs::read_dir(stage.path(parts)).into_iter().flatten().collect();
        assert!(left.is_empty(), "{when}: {parts} holds {left:?}");
    }
    let known = ["p.yaml", "script.json", "in", "out", "cache", "events.jsonl", "elsewhere", "count"];
    for entry in std::fs::read_dir(stage.path(".")).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        assert!(known.contains(&name.as_str()), "{when}: {name} was made");
    }
}

/// Compares outputs, and names the first file that differs.
#[track_caller]
pub fn assert_same(stage: &Stage, expected: &std::collections::BTreeMap<String, Vec<u8>>, when: &str) {
    let found = stage.outputs();
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{when}");
    for (name, bytes) in &found {
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        assert!(bytes == &expected[name], "{when}: {name}:\n{}\nexpected:\n{}", text(bytes), text(&expected[name]));
    }
}
