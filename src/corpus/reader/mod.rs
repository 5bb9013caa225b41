//! Bytes of one file become a [`Document`]. The type is told by content first and by extension second, text is
//! decoded, and what is not plain text is parsed in a child process with limits (`dispatch` says by whom).
//! Knows no pipeline and no model. Read [`read`] first, then [`ReadOptions`].
//!
//! Transcripts follow one rule: times only from cues and stamps, names only from the file, never invented.
//! How cues become turns stands in `cues`, how lines of plain text do in `plain`, how turns are merged in `turns`.

mod archive;
mod budget;
mod build;
mod csv;
mod cues;
mod decode;
mod dispatch;
mod error;
mod flow;
mod html;
mod json;
mod label;
mod language;
mod mail;
mod markdown;
mod ocr;
mod office;
mod ole;
mod options;
mod pdf;
mod plain;
mod roster;
mod rows;
mod rtf;
mod sbv;
mod sniff;
mod srt;
mod time;
mod turns;
mod vtt;
mod worker;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::corpus::document::{Document, Format};

pub use error::{ReadError, ReadReason};
pub use language::{clear_language, likely_language};
pub use options::{HtmlContent, NoText, NoTimestamps, Ocr, Pages, READ_KEYS, ReadAs, ReadOptions};
pub use roster::{Person, Speakers, Unknown, roster_of};
pub use rows::{MAX_ROWS, Row, RowTable, columns_of, read_rows};
pub use worker::{Isolation, child_main};

use budget::{Around, Budget};

/// What is said of a file that is read where its password is given. Others are encrypted in ways that are not undone.
pub const WITH_PASSWORD: &str = "opens only with a password";

/// Reads one file into a document, or says in one line why it cannot be had.
///
/// The hash is of the very bytes that were parsed. Plain-text formats are parsed here, in time and memory
/// proportional to the file; everything else goes to a child process where `options.isolation` names one, and is parsed
/// in this process, without limits of time and memory, where it does not.
pub fn read(path: &Path, options: &ReadOptions) -> Result<Document, ReadError> {
    read_parts(path, options).map_err(|(reason, detail)| ReadError { reason, path: path.to_owned(), detail })
}

/// Why a file could not be read, before the file's name is put to it.
type Refusal = (ReadReason, String);

fn read_parts(path: &Path, options: &ReadOptions) -> Result<Document, Refusal> {
    let bytes = load(path, options.max_bytes)?;
    let name = path.file_name().map(|n| n.to_string_lossy().to_lowercase()).unwrap_or_default();
    let mut document = parse(&bytes, &name, options)?;
    document.path = path.to_owned();
    Ok(document)
}

/// Reads a file that is in memory already; `name` is what it is called, for its extension.
pub fn read_bytes(bytes: &[u8], name: &Path, options: &ReadOptions) -> Result<Document, ReadError> {
    let refused = |(reason, detail)| ReadError { reason, path: name.to_owned(), detail };
    if bytes.len() as u64 > options.max_bytes {
        return Err(refused(too_large(bytes.len() as u64, options.max_bytes)));
    }
    if bytes.is_empty() {
        return Err(refused((ReadReason::NoTextFound, "is empty".into())));
    }
    let file = name.file_name().map(|n| n.to_string_lossy().to_lowercase()).unwrap_or_default();
    let mut document = parse(bytes, &file, options).map_err(refused)?;
    document.path = name.to_owned();
    Ok(document)
}

fn parse(bytes: &[u8], name: &str, options: &ReadOptions) -> Result<Document, Refusal> {
    let plain = dispatch::plain_text(bytes, name, options)?;
    let mut document = match (plain, &options.isolation) {
        (Some(plain), _) => plain.parse(options)?,
        (None, Some(isolation)) => worker::parse(isolation, bytes, name, options)?,
        (None, None) => dispatch::parse(bytes, name, &Around::new(options, &Budget::new(options)))?,
    };
    if document.format == Format::Pdf {
        ocr::recognize(&mut document, bytes, options, &ocr::Programs::default())?;
    }
    if document.text.trim().is_empty() {
        return Err((ReadReason::NoTextFound, "holds nothing but white space".into()));
    }
    if options.as_ == ReadAs::Transcript && document.turns.is_empty() {
        let detail = format!("is read `as: transcript`, and its {} holds no turns", document.format.name());
        return Err((ReadReason::Unreadable, detail));
    }
    if options.no_timestamps == NoTimestamps::Error
        && !document.turns.is_empty()
        && document.turns.iter().all(|t| t.start_ms.is_none())
    {
        let detail = "is a transcript without times, and `no_timestamps` is `error`".to_owned();
        return Err((ReadReason::Unreadable, detail));
    }
    if let Some(speakers) = &options.speakers {
        roster::name_speakers(&mut document, speakers)?;
    }
    if options.pages == Pages::Drop {
        document.pages.clear();
    }
    if !document.meta.contains_key("language")
        && let Some(language) = language::hint(&document)
    {
        document.meta.insert("language".into(), language);
    }
    document.sha256 = Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
    Ok(document)
}

/// Reads the whole of a regular file, unless it is over the limit.
fn load(path: &Path, max_bytes: u64) -> Result<Vec<u8>, Refusal> {
    // Asked before the file is opened: opening a FIFO waits for its other end.
    let about = std::fs::metadata(path).map_err(refusal_of)?;
    if !about.is_file() {
        let what = if about.is_dir() { "is a folder" } else { "is no regular file" };
        return Err((ReadReason::Unreadable, what.into()));
    }
    if about.len() > max_bytes {
        return Err(too_large(about.len(), max_bytes));
    }
    let mut bytes = Vec::with_capacity(about.len() as usize);
    // One byte past the limit, so that a file that grows while it is read is seen to be over it.
    let file = File::open(path).map_err(refusal_of)?;
    file.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes).map_err(refusal_of)?;
    if bytes.len() as u64 > max_bytes {
        return Err(too_large(bytes.len() as u64, max_bytes));
    }
    if bytes.is_empty() {
        return Err((ReadReason::NoTextFound, "is empty".into()));
    }
    Ok(bytes)
}

fn refusal_of(error: io::Error) -> Refusal {
    match error.kind() {
        io::ErrorKind::NotFound => (ReadReason::Missing, "does not exist".into()),
        io::ErrorKind::PermissionDenied => (ReadReason::Permission, "may not be read".into()),
        _ => (ReadReason::ReadFailed, format!("cannot be read: {error}")),
    }
}

fn too_large(size: u64, limit: u64) -> Refusal {
    let (size, limit) = (options::size_text(size), options::size_text(limit));
    (ReadReason::TooLarge, format!("has {size}, more than the {limit} of `max_size`"))
}

#[cfg(test)]
mod tests;
