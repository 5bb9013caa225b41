//! An index brought to what its files now hold: only what has changed is read.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use rayon::prelude::*;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::passage::Passage;
use super::query::language_of;
use super::writer::ReadFile;
use super::{Embed, FileEntry, FileState, IndexError, Writer};
use crate::corpus::chunker::{ChunkOptions, TokenCounter, chunk};
use crate::corpus::document::{Document, Format};
use crate::corpus::reader::likely_language;

/// Something to be read: a file, or a text that came in a file of many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    pub name: String, // in the index
    pub content: Content,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    File(PathBuf),
    Text { title: String, text: String },
}

/// How files become passages.
pub struct How<'a> {
    /// Reads one file; the error is one line.
    pub read: &'a (dyn Fn(&std::path::Path) -> Result<Document, String> + Sync),
    pub chunk: &'a ChunkOptions,
    pub counter: &'a dyn TokenCounter,
    pub embed: Option<&'a dyn Embed>,
    /// What filters can ask for, of a document.
    pub fields: &'a (dyn Fn(&Document) -> Vec<(String, String)> + Sync),
    pub stop: &'a (dyn Fn() -> bool + Sync),
    /// Told of finished files: (done, of).
    pub progress: &'a (dyn Fn(usize, usize) + Sync),
}

/// What an update did. `added + changed + unchanged + failed` are the files there are.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct UpdateReport {
    pub added: usize,
    pub changed: usize,
    pub removed: usize,
    pub unchanged: usize,
    /// Not read, and why: `changed` and `added` do not count them.
    pub failed: Vec<(String, String)>,
    /// What the reader dropped, repaired or doubted, of every file that stands in the index.
    pub warnings: Vec<(String, String)>,
    pub read: usize,     // files that were read now
    pub passages: usize, // written now
    pub text_bytes: u64, // of the documents read
    pub stopped: bool,   // before the end; what is committed stays
}

/// Files read and cut at once, at most.
const BATCH_FILES: usize = 64;
const BATCH_BYTES: u64 = 32 << 20;
/// With an embedder, which takes a tenth of a second and more for each passage: between batches a stop is heard.
const BATCH_FILES_EMBEDDED: usize = 8;
/// What has been read is committed at the latest after so much: a crash costs no more.
const COMMIT_BYTES: u64 = 64 << 20; // of text

/// Brings an index to what its origins hold now. Files are known by the hash of their bytes: times are not looked at.
pub fn update(writer: &mut Writer, origins: &[Origin], how: &How<'_>) -> Result<UpdateReport, IndexError> {
    let mut report = UpdateReport::default();
    let wanted: BTreeSet<&str> = origins.iter().map(|o| o.name.as_str()).collect();
    let gone: Vec<String> = writer.table().files.keys().filter(|f| !wanted.contains(f.as_str())).cloned().collect();
    for file in &gone {
        writer.remove(file);
    }
    report.removed = gone.len();

    let stands: Vec<Standing> = origins.par_iter().map(|o| standing(o, writer.table().files.get(&o.name))).collect();
    let mut to_read = Vec::new();
    for (origin, stand) in origins.iter().zip(stands) {
        match stand {
            Standing::Unchanged => report.unchanged += 1,
            Standing::FailedBefore(why) => report.failed.push((origin.name.clone(), why)),
            Standing::ToRead { bytes } => to_read.push((origin, bytes)),
        }
    }
    let (mut done, mut uncommitted) = (0, 0);
    let mut batches = batches(&to_read, how).into_iter().peekable();
    let mut prepared = batches.peek().filter(|_| !(how.stop)()).map(|first| prepare_all(first, how));
    if (how.stop)() {
        prepared = None; // it may have been given up, which is no word on a file
    }
    while let Some((batch, ready)) = batches.next().zip(prepared.take()) {
        let next = batches.peek().copied();
        // The next files are parsed on all cores while these are embedded and written.
        uncommitted += std::thread::scope(|scope| {
            let reads = next.filter(|_| !(how.stop)()).map(|next| scope.spawn(|| prepare_all(next, how)));
            let put = put(writer, batch, ready, how, &mut report);
            prepared = match reads.map(std::thread::ScopedJoinHandle::join) {
                Some(Err(panic)) => std::panic::resume_unwind(panic),
                Some(Ok(ready)) => Some(ready),
                None => None,
            };
            put
        })?;
        done += batch.len();
        (how.progress)(done, to_read.len());
        if uncommitted >= COMMIT_BYTES {
            writer.commit()?;
            uncommitted = 0;
        }
        if (how.stop)() {
            break; // what was read and not written is read again; it may have been given up
        }
    }
    report.stopped = done < to_read.len();
    writer.commit()?;
    let files = writer.table().files.iter();
    report.warnings = files.flat_map(|(name, f)| f.warnings.iter().map(|w| (name.clone(), w.clone()))).collect();
    Ok(report)
}

/// Cuts what is to be read into batches, in order.
fn batches<'a, 'o>(to_read: &'a [(&'o Origin, u64)], how: &How<'_>) -> Vec<&'a [(&'o Origin, u64)]> {
    let most = if how.embed.is_some() { BATCH_FILES_EMBEDDED } else { BATCH_FILES };
    let mut batches = Vec::new();
    let mut rest = to_read;
    while !rest.is_empty() {
        let mut sum = 0;
        let fits = rest.iter().take(most).take_while(|(_, bytes)| {
            sum += bytes;
            sum <= BATCH_BYTES
        });
        let (batch, later) = rest.split_at(fits.count().max(1));
        batches.push(batch);
        rest = later;
    }
    batches
}

fn prepare_all(batch: &[(&Origin, u64)], how: &How<'_>) -> Vec<Prepared> {
    batch.par_iter().map(|(origin, _)| prepare(origin, how)).collect()
}

enum Standing {
    Unchanged,
    FailedBefore(String),
    ToRead { bytes: u64 },
}

fn standing(origin: &Origin, entry: Option<&FileEntry>) -> Standing {
    let hashed = match &origin.content {
        Content::File(path) => file_hash(path),
        Content::Text { title, text } => Ok((text_hash(title, text), text.len() as u64)),
    };
    match (hashed, entry) {
        (Ok((sha256, _)), Some(entry)) if entry.sha256 == sha256 => match &entry.state {
            FileState::Indexed => Standing::Unchanged,
            FileState::Failed { why } => Standing::FailedBefore(why.clone()),
        },
        (Ok((_, bytes)), _) => Standing::ToRead { bytes },
        // Who cannot hash it cannot read it: the reader says why.
        (Err(_), _) => Standing::ToRead { bytes: 0 },
    }
}

fn file_hash(path: &std::path::Path) -> io::Result<(String, u64)> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("no regular file")); // opening a FIFO would wait for its other end
    }
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    let mut bytes = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            n => {
                bytes += n as u64;
                hasher.update(&buffer[..n]);
            }
        }
    }
    Ok((hex(hasher), bytes))
}

fn text_hash(title: &str, text: &str) -> String {
    hex(Sha256::new().chain_update(title.as_bytes()).chain_update([0]).chain_update(text.as_bytes()))
}

fn hex(hasher: Sha256) -> String {
    hasher.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

/// A file on its way into the index.
struct Prepared {
    sha256: String,
    bytes: u64,
    language: String,
    warnings: Vec<String>,
    passages: Result<Vec<Passage>, String>,
}

fn prepare(origin: &Origin, how: &How<'_>) -> Prepared {
    let (document, sha256, bytes) = match &origin.content {
        Content::File(path) => {
            let hash = || file_hash(path).unwrap_or_default();
            match (how.read)(path) {
                // Of the very bytes that were read, whatever became of the file since.
                Ok(document) => {
                    let (sha256, bytes) = (document.sha256.clone(), std::fs::metadata(path).map_or(0, |m| m.len()));
                    (Ok(document), sha256, bytes)
                }
                Err(why) => {
                    let (sha256, bytes) = hash();
                    (Err(why), sha256, bytes)
                }
            }
        }
        Content::Text { title, text } => {
            let mut document = Document::of(Format::Text, text.clone());
            if !title.is_empty() {
                document.meta.insert("title".into(), title.clone());
            }
            (Ok(document), text_hash(title, text), text.len() as u64)
        }
    };
    match document {
        Ok(document) => {
            let language = language(&document);
            let passages = Ok(passages(&origin.name, &document, &language, how));
            Prepared { sha256, bytes, language, warnings: document.warnings, passages }
        }
        Err(why) => Prepared { sha256, bytes, language: String::new(), warnings: Vec::new(), passages: Err(why) },
    }
}

/// The reader's word, else what the text is clearly in, else what it is most likely in: a few words tell little, and
/// a wrong guess still finds every word that has no ending.
fn language(document: &Document) -> String {
    let said = document.meta.get("language").map(|l| l.split(['-', '_']).next().unwrap_or_default().to_lowercase());
    let clear = || language_of(&document.text).map(|l| l.code().to_owned());
    said.or_else(clear).or_else(|| likely_language(&document.text).map(str::to_owned)).unwrap_or_default()
}

fn passages(name: &str, document: &Document, language: &str, how: &How<'_>) -> Vec<Passage> {
    let heading = document.headings.iter().find(|h| h.level == 1).map(|h| h.title.clone());
    let title = document.meta.get("title").cloned().or(heading).unwrap_or_default();
    let fields: std::collections::BTreeMap<String, String> = (how.fields)(document).into_iter().collect();
    let chunks = chunk(document, how.chunk, how.counter);
    let passage = |(index, c): (usize, crate::corpus::chunker::Chunk)| {
        let turns = c.turns.as_ref().map(|t| (t.start().0, t.end().0));
        let in_turns = |id: u32| turns.is_some_and(|(first, last)| (first..=last).contains(&id));
        Passage {
            file: name.to_owned(),
            index,
            start_ms: document.turns.iter().filter(|t| in_turns(t.id.0)).find_map(|t| t.start_ms),
            text: c.text,
            range: c.range,
            title: title.clone(),
            headings: c.heading_path,
            pages: c.pages,
            turns,
            language: language.to_owned(),
            fields: fields.clone(),
        }
    };
    chunks.into_iter().enumerate().map(passage).collect()
}

/// Puts a batch into the index; returns the bytes of text that it held.
fn put(
    writer: &mut Writer,
    batch: &[(&Origin, u64)],
    prepared: Vec<Prepared>,
    how: &How<'_>,
    report: &mut UpdateReport,
) -> Result<u64, IndexError> {
    let texts: Vec<String> =
        prepared.iter().filter_map(|p| p.passages.as_ref().ok()).flatten().map(embedded_text).collect();
    let vectors = match how.embed {
        Some(embed) => {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            embed.passages(&texts).map_err(IndexError::Embedding)?
        }
        None => Vec::new(),
    };
    let mut vectors = vectors.into_iter();
    let mut text_bytes = 0;
    for ((origin, _), ready) in batch.iter().zip(prepared) {
        let was_there = writer.table().files.contains_key(&origin.name);
        report.read += 1;
        match ready.passages {
            Ok(passages) => {
                let own = vectors.by_ref().take(passages.len()).collect();
                text_bytes += passages.iter().map(|p| p.text.len() as u64).sum::<u64>();
                report.passages += passages.len();
                *(if was_there { &mut report.changed } else { &mut report.added }) += 1;
                let Prepared { sha256, bytes, language, warnings, .. } = ready;
                writer.put(&origin.name, ReadFile { sha256, bytes, language, warnings }, &passages, own)?;
            }
            Err(why) => {
                report.failed.push((origin.name.clone(), why.clone()));
                writer.put_failed(&origin.name, ready.sha256, ready.bytes, why);
            }
        }
    }
    report.text_bytes += text_bytes;
    Ok(text_bytes)
}

/// What is embedded of a passage: its title and headings say what it is about, where it does not itself.
fn embedded_text(passage: &Passage) -> String {
    let mut above: Vec<&str> = Vec::new();
    for line in std::iter::once(&passage.title).chain(&passage.headings) {
        if !line.is_empty() && !passage.text.contains(line.as_str()) && !above.contains(&line.as_str()) {
            above.push(line);
        }
    }
    above.push(&passage.text);
    above.join("\n")
}
