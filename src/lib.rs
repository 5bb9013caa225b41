//! quarry mines documents with a local mixture-of-experts model, and never silently.
//!
//! This file is the map of the house. Read it from the top floor down; imports point down only, and
//! `tests/it/tidy.rs` holds the sources to that.
//!
//! ```text
//! src/main.rs            parse, call, exit
//!  └ cli/                one file per command: arguments, printing, colour, environment, exit codes
//!     └ pipeline/        file as written -> check -> plan -> run -> report; journal, cache; sink/ writes
//!        └ steps/        one file per verb; prompt/ and schema/ serve them
//!           ├ corpus/        what is read:   document/  reader/  chunker/  index/
//!           └ inference/     what thinks:    engine/  sampler  grammar/  tokenizer/  model/  kernels/  embed/  hub/
//! diagnostic  ids  spec      the ground: a message with its place; newtyped ids; what a user may write
//! ```
//!
//! Where to start reading:
//! - how a prompt becomes text: [`inference::engine`], then [`inference::model`], then [`inference::kernels`];
//! - how a document becomes a page: [`pipeline`], then [`steps`], then [`corpus`].

pub mod cli;
pub mod corpus;
pub mod diagnostic;
pub mod ids;
pub mod inference;
pub mod pipeline;
pub mod spec;
pub mod steps;

/// What the tests of every room share.
#[cfg(test)]
pub(crate) mod testing {
    use std::io::Write;

    /// Says that a test was not made, and why: past the harness, which keeps what `eprintln!` of a passing test says.
    pub fn skipped(what: &str) {
        writeln!(std::io::stderr(), "SKIPPED: {what}").expect("standard error can be written");
    }
}
