//! The rows of a table that is there already: read one by one, and hashed on the way. Knows no journal.

use std::fs;
use std::io::{self, BufRead, Read};

use serde_json::Value;

use super::provenance::Provenance;
use super::tables::csv_line;
use crate::pipeline::plan::OutputFormat;

/// A file that is hashed as it is read.
pub(super) struct Hashed {
    inner: fs::File,
    hasher: blake3::Hasher,
}

impl Read for Hashed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let num = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..num]);
        Ok(num)
    }
}

impl Hashed {
    pub fn new(inner: fs::File) -> Self {
        Self { inner, hasher: blake3::Hasher::new() }
    }

    /// Reads what is left, and returns the hash of all.
    pub fn finish(mut self) -> io::Result<blake3::Hash> {
        io::copy(&mut self, &mut io::sink())?;
        Ok(self.hasher.finalize())
    }
}

/// Shows `each` the rows of a file, as they are written. A table of many documents is larger than the memory that
/// it should take to read it.
pub(super) fn for_each_row(file: &mut impl Read, format: OutputFormat, each: &mut dyn FnMut(&str)) -> io::Result<()> {
    const AT_ONCE: usize = 1 << 18;
    if format == OutputFormat::Review {
        return Ok(()); // the page holds nothing of its own: corrections are saved beside it
    }
    if format != OutputFormat::Csv {
        let mut lines = io::BufReader::with_capacity(AT_ONCE, file);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line)? > 0 {
            let text = String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(&line));
            if !text.trim().is_empty() {
                each(&text);
            }
            line.clear();
        }
        return Ok(());
    }
    let mut reader =
        csv::ReaderBuilder::new().has_headers(false).flexible(true).buffer_capacity(AT_ONCE).from_reader(file);
    for record in reader.byte_records() {
        let record = record.map_err(io::Error::other)?;
        let cells = record.iter().map(|cell| String::from_utf8_lossy(cell).into_owned());
        each(&csv_line(cells).map_err(io::Error::other)?);
    }
    Ok(())
}

/// Returns the document that a row's provenance names.
pub(super) fn document_of(row: &str, format: OutputFormat) -> Option<String> {
    if format == OutputFormat::Csv {
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(row.as_bytes());
        let record = reader.records().next()?.ok()?;
        return Provenance::document_of(record.iter().next_back()?).map(str::to_owned);
    }
    let value: Value = serde_json::from_str(row).ok()?;
    let provenance = value.get("_provenance").or_else(|| value.get("provenance"))?;
    provenance.get("document")?.as_str().map(str::to_owned)
}
