//! Archives: each member is read as the file it is, in memory, and becomes a part of one document. What is not read is
//! named with its reason.

use std::io::Cursor;

use flate2::read::MultiGzDecoder;

use super::budget::Around;
use super::build::Build;
use super::dispatch;
use super::office::{Package, member_name};
use super::turns::count;
use super::{ReadReason, Refusal};
use crate::corpus::document::{Document, Format, Part};

/// Reads the members of a ZIP archive that is no office file.
pub(super) fn zip(package: &mut Package<'_>, around: &Around<'_>) -> Result<Document, Refusal> {
    let mut members = Members::new(Format::Zip, around);
    match package.num_hidden() {
        0 => {}
        1 => members.build.warn("1 member has the name of another one and was not read"),
        n => members.build.warn(format!("{n} members have the names of others and were not read")),
    }
    for (index, name) in package.names().to_vec().into_iter().enumerate() {
        if is_file(&name) {
            let bytes = package.read_at(index, around);
            members.add(&name, bytes)?;
        }
    }
    members.finish()
}

/// Reads a TAR archive.
pub(super) fn tar(bytes: &[u8], around: &Around<'_>) -> Result<Document, Refusal> {
    let mut members = Members::new(Format::Tar, around);
    let mut archive = tar::Archive::new(Cursor::new(bytes));
    let broken =
        |error: std::io::Error| (ReadReason::Unreadable, format!("is a TAR archive that cannot be read: {error}"));
    for entry in archive.entries().map_err(broken)? {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                members.build.warn(format!("the archive is damaged ({error}); what stands behind is not read"));
                break;
            }
        };
        around.take_members(1)?;
        let name = member_name(&entry.path_bytes());
        // Links, devices and the like have no bytes of their own.
        if entry.header().entry_type().is_file() && is_file(&name) {
            let packed = entry.size();
            let bytes = around.check_claim(u64::MAX, packed).and_then(|()| around.unpack(packed, entry));
            members.add(&name, bytes)?;
        }
    }
    members.finish()
}

/// Reads what a gzip file holds: one file, which may be an archive.
pub(super) fn gzip(bytes: &[u8], name: &str, around: &Around<'_>) -> Result<Document, Refusal> {
    let inner = around.inside()?;
    let unpacked = around.unpack(bytes.len() as u64, MultiGzDecoder::new(bytes))?;
    let lower = name.to_lowercase();
    let name =
        lower.strip_suffix(".gz").map(str::to_owned).or_else(|| Some(format!("{}.tar", lower.strip_suffix(".tgz")?)));
    dispatch::parse(&unpacked, &name.unwrap_or_default(), &inner)
}

/// Folders, and what operating systems leave beside the files.
fn is_file(name: &str) -> bool {
    !name.ends_with(['/', '\\']) && !name.starts_with("__MACOSX/") && !name.ends_with(".DS_Store")
}

/// The members of one archive, read one after the other.
pub(super) struct Members<'a> {
    build: Build,
    around: Around<'a>,
    read: Vec<(String, Document)>, // the first, held back: alone, it is the document
    refused: Vec<(String, Refusal)>,
    num_read: usize,
}

impl<'a> Members<'a> {
    pub fn new(format: Format, around: &Around<'a>) -> Self {
        Self {
            build: Build::new(format, around.options),
            around: *around,
            read: Vec::new(),
            refused: Vec::new(),
            num_read: 0,
        }
    }

    /// Reads one member, or notes why it is not read. Fails where a limit of the whole file is passed.
    fn add(&mut self, name: &str, bytes: Result<Vec<u8>, Refusal>) -> Result<(), Refusal> {
        let parsed = bytes.and_then(|bytes| {
            let inner = self.around.inside()?;
            if bytes.is_empty() {
                Err((ReadReason::NoTextFound, "is empty".into()))
            } else {
                dispatch::parse(&bytes, name, &inner)
            }
        });
        match parsed {
            Ok(document) if document.text.trim().is_empty() => {
                self.refused.push((name.to_owned(), (ReadReason::NoTextFound, "holds no text".into())));
            }
            Ok(document) => {
                self.num_read += 1;
                if self.num_read == 1 {
                    self.read.push((name.to_owned(), document));
                } else {
                    self.write_first();
                    self.write(name, document);
                }
            }
            Err(refusal) if is_of_the_whole(&refusal) => return Err(refusal),
            Err(refusal) => self.refused.push((name.to_owned(), refusal)),
        }
        if self.build.is_over() { Err(self.over()) } else { Ok(()) }
    }

    fn over(&mut self) -> Refusal {
        let build = std::mem::replace(&mut self.build, Build::new(Format::Zip, self.around.options));
        build.finish().err().unwrap_or((ReadReason::TooLarge, "holds too much text".into()))
    }

    fn write_first(&mut self) {
        for (name, document) in std::mem::take(&mut self.read) {
            self.write(&name, document);
        }
    }

    fn write(&mut self, name: &str, document: Document) {
        if !document.turns.is_empty() {
            let turns = count(document.turns.len(), "turn is", "turns are");
            self.build.warn(format!("`{name}`: its {turns} text here: an archive of several files has no turns"));
        }
        if !document.pages.is_empty() {
            self.build.warn(format!("`{name}`: its pages are text here: an archive of several files has no pages"));
        }
        self.build.append(name, document);
    }

    /// Returns the document: the only member's own, where there is one and no other.
    pub fn finish(mut self) -> Result<Document, Refusal> {
        if self.num_read == 0 {
            let Some((name, (reason, detail))) = self.refused.into_iter().next() else {
                return Err((ReadReason::NoTextFound, "is an archive without files".into()));
            };
            return Err((reason, format!("holds nothing that can be read: its `{name}` {detail}")));
        }
        let refused: Vec<String> =
            self.refused.iter().map(|(name, (_, detail))| format!("`{name}` is not read: it {detail}")).collect();
        if let Some((name, mut document)) = self.read.pop() {
            let all = 0..document.text.len();
            match document.parts.is_empty() {
                true => document.parts.push(Part { name, range: all }),
                false => document.parts.iter_mut().for_each(|p| p.name = format!("{name} > {}", p.name)),
            }
            document.warnings.extend(refused);
            return Ok(document);
        }
        refused.into_iter().for_each(|warning| self.build.warn(warning));
        self.build.finish()
    }
}

/// Limits that one member passes for all: reading on would only pass them again.
fn is_of_the_whole((reason, detail): &Refusal) -> bool {
    *reason == ReadReason::TooLarge && ["`max_unpacked`", "`max_members`"].iter().any(|limit| detail.contains(limit))
}

/// Whether bytes are a TAR archive, by the mark in its first header.
pub(super) fn is_tar(bytes: &[u8]) -> bool {
    bytes.get(257..262) == Some(b"ustar")
}
