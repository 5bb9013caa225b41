//! Passages that can be found again: text in tantivy, vectors in flat files, both of one commit. The only door to
//! tantivy. Read [`Retriever`] first, then [`update::update`] and [`DiskIndex`].
//!
//! Knows no model and no pipeline: who embeds is an [`Embed`], what is read is a list of [`Origin`]s.
//!
//! Promises, each kept by a test: a killed writer leaves the last commit; a reader sees one commit and no other until
//! it opens again; there is one writer; a file is read again only when its bytes have changed; filters apply before
//! the best are taken; a damaged file is named.

mod analysis;
mod bigrams;
mod czech;

mod closeness;
mod passage;
mod query;
mod tokens;

mod disk;
mod files;
mod fuse;
#[cfg(feature = "usearch")]
mod graph;
mod layout;
mod ram;
mod schema;
mod vectors;
mod writer;

mod check;
mod error;

pub mod bootstrap;
pub mod measure;
pub mod update;

pub use analysis::Language;
pub use check::{Health, check};
pub use disk::{DiskIndex, Stats};
pub use error::IndexError;
pub use files::{FileEntry, FileState, FileTable};
pub use fuse::RRF_K;
pub use layout::{FORMAT, Settings};
pub use passage::{Found, Hit, Passage, join};
pub use query::{Filter, Query, language_of, shared_terms};
pub use ram::RamIndex;
pub use tokens::WordPieces;
pub use update::{Origin, UpdateReport, update};
pub use writer::Writer;

/// Finds passages. Two of them: [`DiskIndex`] and [`RamIndex`].
///
/// The best come first; equals come in the order of their files and of the text. Never more than `query.top` hits,
/// fewer only where no more passages share a word with the question (or, with vectors, where there are no more).
pub trait Retriever: Send + Sync {
    fn retrieve(&self, query: &Query<'_>) -> Result<Vec<Hit>, IndexError>;

    /// How many passages there are to find.
    fn num_passages(&self) -> usize;

    /// What the hits depend on: changes whenever another commit or another text could answer otherwise.
    fn digest(&self) -> String;

    /// Who embedded the passages; `None` where there are no vectors.
    fn embedder(&self) -> Option<&str>;
}

/// Turns texts into vectors of length 1. The `embed` room has one; tests bring their own.
pub trait Embed: Sync {
    /// Name and digest: vectors of different ids never meet.
    fn id(&self) -> &str;

    fn dims(&self) -> usize;

    /// Returns a vector for each passage, in order. The error is one line.
    fn passages(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, String>;

    fn question(&self, text: &str) -> Result<Vec<f32>, String>;
}

#[cfg(test)]
mod tests;
