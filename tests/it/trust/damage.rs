//! Files of the state, cut, bent and added to: noticed, done again, and never believed.

use std::fs;
use std::path::Path;

use super::{Dice, assert_same, batch, tries};
use crate::pipelines::Stage;

/// Damages `path` in every way in turn, with the stage as it was before each; then a run has to give the same outputs.
fn damaged(stage: &Stage, path: &Path, is_said: impl Fn(&str, &[u8], &[u8]) -> bool) {
    let mut dice = Dice::new();
    let seed = dice.seed;
    let expected = stage.outputs();
    let whole = fs::read(path).unwrap();
    let mut cases: Vec<(String, Vec<u8>)> = vec![("emptied".into(), Vec::new())];
    for _ in 0..tries(3, 10) {
        let at = dice.below(whole.len() as u64) as usize;
        cases.push((format!("cut at {at}"), whole[..at].to_vec()));
    }
    for _ in 0..tries(6, 100) {
        let (at, bit) = (dice.below(whole.len() as u64) as usize, dice.below(8));
        let mut bent = whole.clone();
        bent[at] ^= 1 << bit;
        cases.push((format!("bit {bit} of byte {at} bent"), bent));
    }
    cases.push(("with garbage behind".into(), [&whole[..], b"\0\xff{\"sum\":\"0\"}\nmore"].concat()));
    for (how, bytes) in cases {
        let when = format!("seed {seed}: {} {how}", path.display());
        fs::write(path, &bytes).unwrap();
        let mended = stage.run().exits(0);
        assert_same(stage, &expected, &when);
        assert!(is_said(&mended.stderr, &bytes, &whole), "{when}: {mended}");
        let again = stage.run().exits(0);
        assert!(!again.stderr.contains("damaged"), "{when}: it is mended once: {again}");
        assert_same(stage, &expected, &when);
    }
}

#[test]
fn a_damaged_journal_is_noticed_and_its_documents_are_done_again() {
    let stage = batch(12, 0);
    stage.run().exits(0);
    damaged(&stage, &stage.path("out/.quarry/batch/journal.jsonl"), |stderr, bytes, whole| {
        // A cut is what a kill leaves: the documents behind it are done again, and the line that is half gone is no damage.
        whole.starts_with(bytes) && bytes.len() < whole.len() || stderr.contains("damaged")
    });
}

#[test]
fn a_damaged_answer_of_the_cache_is_asked_for_again() {
    let stage = batch(2, 0);
    stage.run().exits(0);
    let answers = crate::support::files_below(&stage.path("cache/answers"));
    let answer = stage.path("cache/answers").join(answers.keys().next().expect("an answer was kept"));
    let report = stage.path("out/.quarry/batch/journal.jsonl");
    let mut dice = Dice::new();
    let (expected, whole) = (stage.outputs(), fs::read(&answer).unwrap());
    for _ in 0..tries(4, 100) {
        let (at, bit) = (dice.below(whole.len() as u64) as usize, dice.below(8));
        let mut bent = whole.clone();
        bent[at] ^= 1 << bit;
        fs::write(&answer, &bent).unwrap();
        fs::remove_file(&report).unwrap(); // so that the answer is needed
        let mended = stage.run().exits(0);
        assert!(mended.stderr.contains("is damaged; the call is made again"), "byte {at}, bit {bit}: {mended}");
        assert_same(&stage, &expected, "an answer of the cache was damaged");
        assert_eq!(fs::read(&answer).unwrap(), whole, "it is kept anew");
    }
}

#[test]
fn an_output_that_was_changed_or_lost_comes_back() {
    let stage = batch(4, 0);
    stage.run().exits(0);
    let expected = stage.outputs();
    for name in expected.keys() {
        let path = stage.path("out").join(name);
        let bytes = expected[name].clone();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        stage.run().exits(0);
        // A table that lost the end of a row keeps what it cannot place: rows of unknown origin are nobody's to delete.
        if name.ends_with(".md") {
            assert_same(&stage, &expected, &format!("{name} was cut"));
        }
        fs::remove_file(&path).unwrap();
        stage.run().exits(0);
        assert_same(&stage, &expected, &format!("{name} was removed"));
    }
}
