//! Bytes of one file become a [`Document`]. The type is told by content first and by extension second, text is
//! decoded, and what is not plain text is parsed in a child process with limits.
//! Knows no pipeline and no model. Read [`read`] first, then [`ReadOptions`].
//!
//! Transcripts follow one rule: times only from cues and stamps, names only from the file, never invented.
//! How cues become turns stands in `cues`, how lines of plain text do in `plain`, how turns are merged in `turns`.

mod cues;
mod decode;
mod error;
mod json;
mod label;
mod language;
mod markdown;
mod options;
mod pdf;
mod plain;
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
pub use options::{NoTimestamps, READ_KEYS, ReadAs, ReadOptions};
pub use worker::{Isolation, worker_main};

/// Reads one file into a document, or says in one line why it cannot be had.
///
/// The hash is of the very bytes that were parsed. Plain-text formats are parsed here, in time and memory
/// proportional to the file; a PDF goes to a child process where `options.isolation` names one, and is parsed
/// in this process, without limits of time and memory, where it does not.
pub fn read(path: &Path, options: &ReadOptions) -> Result<Document, ReadError> {
    read_parts(path, options).map_err(|(reason, detail)| ReadError { reason, path: path.to_owned(), detail })
}

/// Why a file could not be read, before the file's name is put to it.
type Refusal = (ReadReason, String);

fn read_parts(path: &Path, options: &ReadOptions) -> Result<Document, Refusal> {
    let bytes = load(path, options.max_bytes)?;
    let ext = path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
    let mut document = match sniff::kind(&bytes)? {
        sniff::Kind::Pdf if options.as_ == ReadAs::Transcript => {
            let detail = "is a PDF, which cannot be read `as: transcript`: its lines of text carry no turns".to_owned();
            return Err((ReadReason::Unreadable, detail));
        }
        sniff::Kind::Pdf => match &options.isolation {
            Some(isolation) => worker::parse(isolation, &bytes, options)?,
            None => pdf::parse(&bytes, options)?,
        },
        sniff::Kind::Text => parse_text(&bytes, &ext, options)?,
    };
    if document.text.trim().is_empty() {
        return Err((ReadReason::NoTextFound, "holds nothing but white space".into()));
    }
    if options.no_timestamps == NoTimestamps::Error
        && !document.turns.is_empty()
        && document.turns.iter().all(|t| t.start_ms.is_none())
    {
        let detail = "is a transcript without times, and `no_timestamps` is `error`".to_owned();
        return Err((ReadReason::Unreadable, detail));
    }
    if !document.meta.contains_key("language")
        && let Some(language) = language::hint(&document)
    {
        document.meta.insert("language".into(), language);
    }
    document.path = path.to_owned();
    document.sha256 = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
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
    let too_large = |size: u64| {
        let (size, limit) = (options::size_text(size), options::size_text(max_bytes));
        (ReadReason::TooLarge, format!("has {size}, more than the {limit} of `max_size`"))
    };
    if about.len() > max_bytes {
        return Err(too_large(about.len()));
    }
    let mut bytes = Vec::with_capacity(about.len() as usize);
    // One byte past the limit, so that a file that grows while it is read is seen to be over it.
    let file = File::open(path).map_err(refusal_of)?;
    file.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes).map_err(refusal_of)?;
    if bytes.len() as u64 > max_bytes {
        return Err(too_large(bytes.len() as u64));
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
        _ => (ReadReason::Unreadable, format!("cannot be read: {error}")),
    }
}

fn parse_text(bytes: &[u8], ext: &str, options: &ReadOptions) -> Result<Document, Refusal> {
    let decode::Decoded { text, warnings } = decode::decode(bytes);
    if text.trim().is_empty() {
        return Err((ReadReason::NoTextFound, "holds nothing but white space".into()));
    }
    let format = sniff::text_format(&text, ext, options.as_);
    let mut document = match format {
        Format::Vtt => vtt::parse(&text, options)?,
        Format::Srt => srt::parse(&text, options)?,
        Format::Transcript => plain::parse(text, options)?,
        Format::Json => json::parse(text, options)?,
        Format::Markdown => markdown::parse(text),
        Format::Text | Format::Pdf => Document::of(Format::Text, text),
    };
    if format == Format::Text && options.as_ == ReadAs::Auto && matches!(ext, "html" | "htm" | "xhtml" | "xml") {
        document.warnings.push("the markup of an HTML or XML file is kept as text".into());
    }
    document.warnings.splice(0..0, warnings);
    Ok(document)
}

#[cfg(test)]
mod tests;
