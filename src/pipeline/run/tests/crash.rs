//! A run that dies at its n-th write, for every n, and one whose disk fails there: resumed, it writes the same bytes.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;
use crate::pipeline::disk::{Fault, Operation};
use crate::pipeline::report::Outcome;

/// Lets `n` operations through; the next one is torn, and after it nothing reaches the disk any more.
fn dies_at(n: usize) -> (Disk, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counter = count.clone();
    let gate = move |_: Operation, _: &Path| match counter.fetch_add(1, Ordering::SeqCst) {
        at if at < n => Ok(()),
        at => Err(Fault { error: io::Error::other("killed"), half_written: at == n }),
    };
    (Disk::gated(Arc::new(gate)), count)
}

fn stage() -> Stage {
    let stage = Stage::new(4);
    stage.write("sub/00.txt", "a twin\n");
    fs::write(stage.path("in/bad.txt"), b"\xff").unwrap();
    stage
}

fn uninterrupted() -> (BTreeMap<String, String>, usize) {
    let stage = stage();
    let (disk, count) = dies_at(usize::MAX);
    stage.run_on(disk).unwrap();
    (stage.outputs(), count.load(Ordering::SeqCst))
}

#[test]
fn killed_at_every_write_in_turn_and_resumed_nothing_is_lost_or_doubled() {
    let (expected, num_writes) = uninterrupted();
    assert!(num_writes > 40, "{num_writes}");
    let mut killed = 0;
    for n in 0..num_writes {
        let stage = stage();
        let dead = stage.run_on(dies_at(n).0);
        killed += usize::from(dead.is_err());
        let calls = stage.calls();
        let report = stage.run();
        assert_eq!(report.outcome, Outcome::Finished, "killed at {n}");
        assert_same(&stage.outputs(), &expected, &format!("killed at {n}"));
        assert!(stage.calls() <= calls.max(13) + 3, "killed at {n}: {} calls after {calls}", stage.calls());
        assert_eq!(stage.run().counts.skipped, 5, "killed at {n}");
        let parts = fs::read_dir(stage.path("out/.quarry/parts")).unwrap().count();
        assert_eq!(parts, 0, "killed at {n}");
    }
    assert!(killed >= num_writes - 3, "{killed} of {num_writes}");
}

#[test]
fn killed_again_and_again_it_still_gets_there() {
    let (expected, _) = uninterrupted();
    let stage = stage();
    let mut kills = 0;
    while stage.run_on(dies_at(14 + kills % 5).0).is_err() {
        kills += 1;
        assert!(kills < 100, "no progress");
    }
    assert_same(&stage.outputs(), &expected, "killed again and again");
    assert!(kills >= 2, "{kills}");
}

#[test]
fn a_disk_that_is_full_ends_the_run_with_the_path_and_space_mends_it() {
    let (expected, num_writes) = uninterrupted();
    for n in (0..num_writes).step_by(3) {
        let stage = stage();
        let (count, full) = (AtomicUsize::new(0), Arc::new(AtomicBool::new(true)));
        let is_full = full.clone();
        let gate = move |operation: Operation, _: &Path| {
            let late = count.fetch_add(1, Ordering::SeqCst) >= n;
            let writes = matches!(operation, Operation::Write | Operation::Append | Operation::CreateFolder);
            let error = || io::Error::from(io::ErrorKind::StorageFull);
            if late && writes && is_full.load(Ordering::SeqCst) {
                Err(Fault { error: error(), half_written: true })
            } else {
                Ok(())
            }
        };
        let disk = Disk::gated(Arc::new(gate));
        match stage.run_on(disk.clone()) {
            Err(RunError::Resource { path, .. }) => assert!(path.starts_with(&stage.plan.folder), "{}", path.display()),
            Err(other) => panic!("full at {n}: {other}"),
            Ok(_) => assert!(n > num_writes - 12, "full at {n}: finished"), // only syncs and renames were left
        }
        full.store(false, Ordering::SeqCst);
        stage.run_on(disk).unwrap();
        assert_same(&stage.outputs(), &expected, &format!("full at {n}"));
    }
}

#[test]
fn a_damaged_journal_is_said_and_never_believed() {
    let stage = stage();
    stage.run();
    let expected = stage.outputs();
    let journal = stage.path("out/.quarry/p/journal.jsonl");
    let whole = fs::read(&journal).unwrap();
    let step = whole.len() / 20;
    for at in (0..whole.len()).step_by(step) {
        let mut bent = whole.clone();
        bent[at] ^= 4;
        for (how, bytes) in [("bent", bent.as_slice()), ("cut", &whole[..at])] {
            fs::write(&journal, bytes).unwrap();
            let report = stage.run();
            assert_same(&stage.outputs(), &expected, &format!("{how} at {at}"));
            assert_eq!(report.counts.failed, 1, "{how} at {at}");
            let is_said = report.notes.iter().any(|n| n.contains("damaged"));
            assert!(is_said || how == "cut" || at + 1 >= whole.len(), "{how} at {at}: {:?}", report.notes);
        }
    }
}
