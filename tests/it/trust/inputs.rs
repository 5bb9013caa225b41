//! Inputs that change, vanish, loop, or are called what nobody should be called.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{BATCH, batch, is_root, note, script};
use crate::pipelines::{Stage, counts};
use crate::support::{run, skipped};

fn states(report: &Value) -> Vec<(String, String)> {
    let of = |d: &Value| (d["document"].as_str().unwrap().to_owned(), d["state"].as_str().unwrap().to_owned());
    report["documents"].as_array().unwrap().iter().map(of).collect()
}

#[test]
fn what_changes_between_listing_and_reading_is_told_and_its_hash_is_of_the_bytes_that_were_used() {
    let stage = batch(12, 120);
    let running = {
        // Each is read at its turn: what was read ahead of it would be the old bytes, and rightly.
        let mut command = stage.runs(&["--json", "--set", "run.read_ahead=0 bytes"]);
        let mut running = crate::support::start(&mut command);
        while stage.outputs().is_empty() {
            assert!(running.is_running());
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        running
    };
    // The last ones are still to come.
    stage.write("in/009.txt", "Another text altogether.\n");
    fs::remove_file(stage.path("in/010.txt")).unwrap();
    fs::remove_file(stage.path("in/011.txt")).unwrap();
    fs::create_dir(stage.path("in/011.txt")).unwrap();
    let report = running.finish().exits(3).json();
    let document = |n: usize| &report["documents"][n];
    assert_eq!(document(9)["state"], "ok");
    assert!(document(9)["notes"].to_string().contains("changed while the run was going on"), "{}", document(9));
    let digest: String =
        Sha256::digest("Another text altogether.\n").iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(document(9)["sha256"], json!(digest));
    assert_eq!((&document(10)["state"], &document(10)["failure"]["reason"]), (&json!("failed"), &json!("missing")));
    assert_eq!(document(11)["state"], "failed", "{}", document(11));
    // What was used is what the next run compares with.
    fs::remove_dir(stage.path("in/011.txt")).unwrap();
    assert_eq!(counts(&stage.report(0)), [0, 0, 10]);
}

#[test]
fn every_name_that_a_file_can_have_is_read_and_written() {
    let stage = Stage::new(BATCH, script(0));
    let longest = format!("{}.txt", "n".repeat(251));
    let names: [&[u8]; 15] = [
        b"bytes-\xff\xfe.txt",
        b"two\nlines.txt",
        b"quo'te\".txt",
        b"-rf.txt",
        b"$(touch made).txt",
        b"`touch made`.txt",
        b"back\\slash.txt",
        "\u{202e}txt.exe.txt".as_bytes(),
        "caf\u{e9}.txt".as_bytes(),
        "cafe\u{301}.txt".as_bytes(),
        "Caf\u{e9}.txt".as_bytes(),
        b"a b\tc.txt",
        b"{braces}[1]*?.txt",
        b"\x1b[31mred.txt",
        longest.as_bytes(),
    ];
    for (n, name) in names.iter().enumerate() {
        fs::write(stage.path("in").join(std::ffi::OsStr::from_bytes(name)), format!("Note {n}.\n")).unwrap();
    }
    let first = run(&mut stage.runs(&["--json"])).exits(0);
    let report = first.json();
    assert_eq!(counts(&report), [names.len() as u64, 0, 0], "{report}");
    assert!(!first.stderr.contains('\u{1b}'), "{first}");
    let shown: Vec<String> = states(&report).into_iter().map(|(document, _)| document).collect();
    assert!(shown.iter().any(|d| d == "in/bytes-\\xff\\xfe.txt"), "{shown:?}");
    let pages = || stage.outputs().keys().filter(|name| name.ends_with(".md")).count();
    assert_eq!(pages(), names.len(), "{:?}", stage.outputs().keys());
    let before = stage.outputs();
    let again = stage.run().exits(0);
    assert!(again.stdout.contains(&format!("{} skipped", names.len())), "{again}");
    assert!(!again.stdout.contains('\u{1b}'), "{again}");
    assert_eq!(stage.outputs(), before);
    super::assert_tidy(&stage, "hostile names");
}

#[test]
fn links_that_loop_and_files_that_are_none_are_passed_over_and_said() {
    let stage = batch(2, 0);
    symlink(stage.path("in"), stage.path("in/loop")).unwrap();
    symlink("/", stage.path("in/root")).unwrap();
    symlink("/dev/zero", stage.path("in/zero.txt")).unwrap();
    symlink("self.txt", stage.path("in/self.txt")).unwrap();
    assert!(Command::new("mkfifo").arg(stage.path("in/pipe.txt")).status().unwrap().success());
    let _socket = std::os::unix::net::UnixListener::bind(stage.path("in/socket.txt")).unwrap();
    fs::create_dir_all(stage.path("elsewhere")).unwrap();
    stage.write("elsewhere/linked.txt", "Said elsewhere.\n");
    symlink(stage.path("elsewhere/linked.txt"), stage.path("in/linked.txt")).unwrap();
    let report = run(&mut stage.runs(&["--json"])).exits(3).json();
    let expected = [("in/000.txt", "ok"), ("in/001.txt", "ok"), ("in/linked.txt", "ok"), ("in/self.txt", "failed")];
    assert_eq!(states(&report), expected.map(|(d, s)| (d.to_owned(), s.to_owned())));
    let notes = report["notes"].to_string();
    for what in ["in/loop", "in/root", "zero.txt", "pipe.txt", "socket.txt"] {
        assert!(notes.contains(what), "{what} is not told of: {notes}");
    }
}

#[test]
fn what_may_not_be_read_fails_alone_with_its_reason() {
    let stage = batch(3, 0);
    fs::create_dir(stage.path("in/closed")).unwrap();
    stage.write("in/closed/x.txt", "Nobody reads this.\n");
    let set = |name: &str, mode| fs::set_permissions(stage.path(name), fs::Permissions::from_mode(mode)).unwrap();
    set("in/001.txt", 0o000);
    set("in/closed", 0o000);
    let mut command = stage.runs(&["--json"]);
    if is_root() {
        // Root reads everything: the same as nobody, who has to own what is written.
        let binary = stage.path("elsewhere");
        fs::create_dir(&binary).unwrap();
        fs::copy(env!("CARGO_BIN_EXE_quarry"), binary.join("quarry")).unwrap();
        for name in [".", "elsewhere"] {
            set(name, 0o777);
        }
        let arguments: Vec<_> = command.get_args().map(|a| a.to_owned()).collect();
        let mut nobody = Command::new("setpriv");
        nobody.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(binary.join("quarry")).args(arguments);
        nobody.current_dir(stage.path(".")).env("QUARRY_CACHE_DIR", stage.path("cache")).env("NO_COLOR", "1");
        let mut probe = Command::new("setpriv");
        probe.args(["--reuid=65534", "--regid=65534", "--clear-groups", "test", "-r"]).arg(stage.path("p.yaml"));
        if !probe.status().is_ok_and(|s| s.success()) {
            skipped("no other user can be had here");
            return;
        }
        command = nobody;
    }
    let report = run(&mut command).exits(3).json();
    assert_eq!(counts(&report), [2, 2, 0], "{report}");
    for document in report["documents"].as_array().unwrap().iter().filter(|d| d["state"] == "failed") {
        assert_eq!(document["failure"]["reason"], "permission", "{document}");
    }
    set("in/closed", 0o755);
    set("in/001.txt", 0o644);
    let report = run(&mut command).exits(0).json();
    assert_eq!(counts(&report), [2, 0, 2], "{report}");
}

#[test]
fn the_order_in_which_files_are_made_does_not_show() {
    let (forwards, backwards) = (Stage::new(BATCH, script(0)), Stage::new(BATCH, script(0)));
    (0..8).for_each(|n| note(&forwards, n));
    (0..8).rev().for_each(|n| note(&backwards, n));
    forwards.run().exits(0);
    run(&mut backwards.runs(&["--jobs", "8"])).exits(0);
    super::assert_same(&backwards, &forwards.outputs(), "made in another order");
}
