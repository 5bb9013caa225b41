//! What is read: a file's bytes become a [`document::Document`], a document becomes chunks.
//! Knows no model, no pipeline and no step; a chunker that counts tokens is given a [`chunker::TokenCounter`].

pub mod chunker;
pub mod document;
pub mod index;
pub mod reader;
pub mod sentences;
