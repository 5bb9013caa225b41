//! Clocks that lie, and time that passes without work.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use super::{assert_same, batch, tries};
use crate::pipelines::counts;
use crate::support::{run, skipped, start};

const SIGSTOP: i32 = 19;
const SIGCONT: i32 = 18;

/// libfaketime, where Debian, Fedora or the caller has put it.
fn faketime() -> Option<PathBuf> {
    let places = [
        std::env::var("FAKETIME_LIBRARY").unwrap_or_default(),
        "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1".into(),
        "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1".into(),
        "/usr/lib64/faketime/libfaketimeMT.so.1".into(),
    ];
    let found = places.into_iter().map(PathBuf::from).find(|p| p.is_file());
    if found.is_none() {
        skipped("setting the clock needs libfaketime");
    }
    found
}

/// Sets the clock of a command; a clock that is set leaves the monotonic one alone, and so does this.
fn at<'c>(command: &'c mut Command, library: &Path, when: &str) -> &'c mut Command {
    command.env("LD_PRELOAD", library).env("FAKETIME", when).env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
}

#[test]
fn a_clock_ten_years_off_changes_no_output_and_redoes_nothing() {
    let Some(library) = faketime() else { return };
    let whole = batch(4, 0);
    whole.run().exits(0);
    let stage = batch(4, 0);
    for (when, expected) in [("+3650d", [4, 0, 0]), ("-3650d", [0, 0, 4]), ("+0", [0, 0, 4])] {
        let report = run(at(&mut stage.runs(&["--json"]), &library, when)).exits(0).json();
        assert_eq!(counts(&report), expected, "{when}: {report}");
        assert_same(&stage, &whole.outputs(), when);
    }
    // Files from the future are files; and one that is changed under an old clock is done again.
    let future = Command::new("touch").args(["-d", "2090-01-01"]).arg(stage.path("in/001.txt")).status().unwrap();
    assert!(future.success());
    assert_eq!(counts(&stage.report(0)), [0, 0, 4]);
    let later = stage.read("in/002.txt").replace("Monday", "Tuesday");
    stage.write("in/002.txt", later);
    let report = run(at(&mut stage.runs(&["--json"]), &library, "-3650d")).exits(0).json();
    assert_eq!(counts(&report), [1, 0, 3]);
}

#[test]
fn a_clock_that_is_set_back_while_a_run_goes_on_ends_nothing_early() {
    let Some(library) = faketime() else { return };
    let whole = batch(12, 40);
    whole.run().exits(0);
    for (first, then) in [("+0", "-3650d"), ("+0", "+3650d")] {
        let stage = batch(12, 40);
        let limited =
            stage.read("p.yaml").replace("run: {", "run: { timeout: { document: 30s, step: 20s }, deadline: \"+1h\",");
        stage.write("p.yaml", limited);
        stage.write("count", first); // the file that faketime reads
        let mut command = stage.runs(&["--json"]);
        command.env("LD_PRELOAD", &library).env("FAKETIME_TIMESTAMP_FILE", stage.path("count"));
        command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        let running = start(&mut command);
        sleep(Duration::from_millis(400));
        stage.write("count", then);
        let report = running.finish().exits(0).json();
        assert_eq!(counts(&report), [12, 0, 0], "{report}");
        let took = report["seconds"]["total"].as_f64().unwrap();
        assert!((0.1..60.0).contains(&took), "{took} s by a clock that was set to {then}");
        assert_same(&stage, &whole.outputs(), then);
    }
}

#[test]
fn a_run_that_was_stopped_for_a_while_goes_on() {
    let whole = batch(20, 20);
    whole.run().exits(0);
    let stage = batch(20, 20);
    let running = stage.started();
    running.signal(SIGSTOP);
    sleep(Duration::from_secs(tries(2, 60) as u64));
    running.signal(SIGCONT);
    let ended = running.finish().exits(0);
    assert!(ended.stdout.contains("20 ok"), "{ended}");
    assert_same(&stage, &whole.outputs(), "stopped for a while");
}

#[test]
fn shards_merge_by_what_they_did_last_whatever_the_clock_said() {
    let Some(library) = faketime() else { return };
    let stage = batch(6, 0);
    let shard = |number: &str, when: &str| {
        run(at(&mut stage.runs(&["--shard", number, "--json"]), &library, when)).exits(0);
    };
    for number in ["1/2", "2/2"] {
        shard(number, "+10d");
    }
    run(&mut stage.command(&["merge", "p.yaml"])).exits(0);
    // A document is changed and done again on a machine whose clock is behind.
    let later = stage.read("in/002.txt").replace("Monday", "Tuesday");
    stage.write("in/002.txt", later);
    for number in ["1/2", "2/2"] {
        shard(number, "-10d");
    }
    run(&mut stage.command(&["merge", "p.yaml"])).exits(0);
    assert_eq!(counts(&stage.report(0)), [0, 0, 6], "what the shards did last is what stands");
    let alone = batch(6, 0);
    alone.write("in/002.txt", stage.read("in/002.txt"));
    alone.run().exits(0);
    assert_same(&stage, &alone.outputs(), "merged under a clock that went back");
}
