//! An index that is asked while it is built anew answers from one commit, never from two.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::json;

use super::tries;
use crate::pipelines::Stage;
use crate::support::run;

const FILES: usize = 5;

/// Every file says of which generation it is.
fn write(stage: &Stage, generation: usize) {
    for n in 0..FILES {
        stage.write(&format!("in/{n}.md"), format!("# File {n}\n\nThe machine is of generation number{generation}.\n"));
    }
}

#[test]
fn what_is_found_while_an_index_is_built_is_of_one_generation() {
    let stage = Stage::new("", json!([]));
    write(&stage, 0);
    let build = || run(&mut stage.command(&["index", "build", "library", "in", "--quiet"])).exits(0);
    build();
    let (is_over, num_asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let mut search = stage.command(&["index", "search", "library", "machine generation", "--json"]);
                let hits = run(&mut search).exits(0).json();
                let texts: Vec<_> = hits.as_array().unwrap().iter().map(|h| h["passage"]["text"].to_string()).collect();
                let word = |text: &String| {
                    let at = text.find("number").unwrap_or_else(|| panic!("{text}"));
                    text[at..].chars().take_while(char::is_ascii_alphanumeric).collect::<String>()
                };
                let generations: BTreeSet<String> = texts.iter().map(word).collect();
                assert_eq!((texts.len(), generations.len()), (FILES, 1), "{texts:?}");
                num_asked.fetch_add(1, Ordering::Relaxed);
            }
        });
        for generation in 1..=tries(6, 100) {
            write(&stage, generation);
            build();
        }
        is_over.store(true, Ordering::Relaxed);
    });
    let num_asked = num_asked.into_inner();
    println!("asked {num_asked} times");
    assert!(num_asked > 1, "the reader never came to ask");
    run(&mut stage.command(&["index", "check", "library"])).exits(0);
}
