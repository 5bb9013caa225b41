//! Killed at any moment, a run goes on to the same bytes: nothing lost, nothing doubled, no more redone than was in flight.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::shim::Shim;
use super::{Dice, IN_FLIGHT, assert_same, assert_tidy, batch, events, is_slow, num_redone, tries};
use crate::pipelines::{Stage, counts};
use crate::support::{run, start};

const SIGHUP: i32 = 1;
const SIGINT: i32 = 2;
const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

/// Ends a run by `signal` at random moments, resumes it each time until it is done, and compares; until `wanted` runs
/// have been ended so. Returns how many were, and how many documents were begun anew.
fn ended_at_random(signal: i32, wanted: usize, num: usize) -> (usize, usize) {
    let mut dice = Dice::new();
    let seed = dice.seed;
    let logged = |stage: &Stage| stage.runs(&["--events", "events.jsonl"]);
    let whole = batch(num, 2);
    run(&mut logged(&whole)).exits(0);
    // The shortest of a few is a run on a machine that does nothing else: moments spread over it meet the work.
    let span = (0..2)
        .map(|_| {
            let again = batch(num, 2);
            run(&mut logged(&again)).exits(0).took
        })
        .min()
        .unwrap();
    let (mut ended, mut redone) = (0, 0);
    while ended < wanted {
        let stage = batch(num, 2);
        let before = ended;
        loop {
            let mut running = start(&mut logged(&stage));
            let at = Duration::from_micros(dice.below(span.as_micros() as u64));
            sleep(at);
            if !running.is_running() {
                running.finish().exits(0);
                break;
            }
            let sent = Instant::now();
            running.signal(signal);
            let left = running.finish();
            // Within a few seconds; a machine that does other things is given more.
            assert!(sent.elapsed() < Duration::from_secs(20), "seed {seed}: {left}");
            let is_ended = left.signal == Some(signal) || left.code == Some(128 + signal);
            assert!(is_ended || left.code == Some(0), "seed {seed}, {at:?}: {left}");
            ended += usize::from(is_ended);
            assert!(ended - before < 200, "seed {seed}: no progress");
        }
        let when = format!("seed {seed}, ended {} times by signal {signal}", ended - before);
        assert_same(&stage, &whole.outputs(), &when);
        assert_tidy(&stage, &when);
        assert_eq!(counts(&stage.report(0)), [0, 0, num as u64], "{when}");
        let again = num_redone(&stage);
        assert!(again <= (ended - before) * IN_FLIGHT, "{when}: {again} documents were begun anew");
        redone += again;
    }
    (ended, redone)
}

#[test]
fn killed_at_random_moments_and_resumed_nothing_is_lost_or_doubled() {
    let (kills, redone) = ended_at_random(SIGKILL, tries(8, 200), 60);
    println!("{kills} kills, {redone} documents begun anew");
    assert!(redone > 0 || kills < 50, "no kill met a document at work");
}

#[test]
fn interrupted_at_random_moments_a_run_stops_in_order_and_resumes_to_the_same_bytes() {
    for signal in [SIGINT, SIGTERM] {
        let (ended, redone) = ended_at_random(signal, tries(3, 50), 60);
        println!("signal {signal}: {ended} times, {redone} documents begun anew");
    }
    // A terminal that goes away ends it at once, as a kill does.
    ended_at_random(SIGHUP, tries(1, 10), 60);
}

/// A small batch under the shim. Returns how many things it changes on the disk.
fn num_writes(shim: &Shim, num: usize) -> (Stage, usize) {
    let whole = batch(num, 0);
    run(shim.counting(&mut whole.runs(&["--events", "events.jsonl"]), &whole)).exits(0);
    let writes = shim.count(&whole);
    (whole, writes)
}

#[test]
fn killed_at_every_write_in_turn_and_resumed_nothing_is_lost_or_doubled() {
    let Some(shim) = Shim::build() else { return };
    let num = tries(3, 6);
    let (whole, writes) = num_writes(&shim, num);
    assert!(writes > 20 * num, "{writes} writes: the shim does not see them");
    let (mut kills, mut redone, step) = (0, 0, if is_slow() { 1 } else { writes.div_ceil(12) });
    for mode in ["kill", "torn"] {
        let first = if mode == "kill" { 1 } else { step.div_ceil(2) };
        for n in (first..=writes).step_by(step) {
            let stage = batch(num, 0);
            let left = run(shim.failing(&mut stage.runs(&["--events", "events.jsonl"]), &stage, mode, n));
            let when = format!("{mode} at write {n} of {writes}");
            // Where documents are at work at once, one table more or less is written: the last may not be reached.
            let is_killed = left.signal == Some(SIGKILL);
            assert!(is_killed || (left.code == Some(0) && n + 3 > writes), "{when}: {left}");
            kills += usize::from(is_killed);
            run(&mut stage.runs(&["--events", "events.jsonl"])).exits(0);
            assert_same(&stage, &whole.outputs(), &when);
            assert_tidy(&stage, &when);
            assert_eq!(counts(&stage.report(0)), [0, 0, num as u64], "{when}");
            let again = num_redone(&stage);
            assert!(again <= IN_FLIGHT, "{when}: {again} documents were begun anew");
            redone += again;
        }
    }
    println!("{writes} writes, {kills} kills, {redone} documents begun anew");
}

#[test]
fn an_error_at_any_write_is_said_and_mended_by_running_again() {
    let Some(shim) = Shim::build() else { return };
    let num = tries(3, 6);
    let (whole, writes) = num_writes(&shim, num);
    let step = if is_slow() { 1 } else { writes.div_ceil(10) };
    let mut codes = std::collections::BTreeMap::<i32, usize>::new();
    for (mode, word) in [("eio", "Input/output error"), ("full", "No space left")] {
        for n in (1..=writes).step_by(step) {
            let stage = batch(num, 0);
            let left = run(shim.failing(&mut stage.runs(&[]), &stage, mode, n));
            let when = format!("{mode} at write {n} of {writes}");
            let code = left.code.unwrap_or_else(|| panic!("{when}: {left}"));
            *codes.entry(code).or_default() += 1;
            // 0: only the cache was hit, and said so, or nothing that mattered; 2: nothing was started; 3: one document.
            assert!([0, 2, 3, 9].contains(&code), "{when}: {left}");
            assert!(!left.stderr.contains("panicked"), "{when}: {left}");
            if [2, 9].contains(&code) {
                assert!(left.errors().len() == 1 && left.stderr.contains(word), "{when}: {left}");
                assert!(left.stderr.contains("out") || left.stderr.contains("cache"), "{when}: {left}");
            }
            stage.run().exits(0);
            assert_same(&stage, &whole.outputs(), &when);
            assert_tidy(&stage, &when);
        }
    }
    println!("exit codes: {codes:?}");
    assert!(codes.get(&9).is_some_and(|n| *n > 5), "{codes:?}");
}

#[test]
fn the_lock_of_a_run_that_was_killed_is_free_at_once() {
    let stage = batch(20, 200);
    let running = stage.started();
    stage.run().exits(5);
    running.signal(SIGKILL);
    running.finish();
    let since = Instant::now();
    let mut next = start(&mut stage.runs(&["--events", "events.jsonl", "--limit", "1"]));
    while events(&stage).is_empty() {
        assert!(next.is_running() && since.elapsed() < Duration::from_secs(20), "{}", next.finish());
        sleep(Duration::from_millis(5));
    }
    next.finish().exits(0);
}
