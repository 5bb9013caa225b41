//! What is done becomes lasting: pages, then the journal's line, then tables. The one place that holds the journal.

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{Job, RunError};
use crate::pipeline::inputs::Input;
use crate::pipeline::journal::{Entry, Journal};
use crate::pipeline::places::TargetKind;
use crate::pipeline::shown::{from_shown, shown};
use crate::pipeline::sink::{self, Filled, Table};

/// Tables are written anew this often at most while a run goes on, and never for more than a twentieth of its time.
const TABLE_PERIOD: Duration = Duration::from_secs(5);
const TABLE_SHARE: u32 = 20;

/// The journal and the tables that are built from it.
pub(super) struct Ledger {
    pub journal: Journal,
    tables: Vec<Option<Table>>, // by output; `None` for pages, and for a shard, whose tables `merge` writes
    order: Vec<String>,         // the documents, in the order of the inputs
    next_write: Instant,
}

impl Ledger {
    pub fn open(job: &Job<'_>, journal: Journal, inputs: &[Input]) -> Result<Self, RunError> {
        let known: HashSet<&str> = inputs.iter().map(|i| i.document.as_str()).collect();
        let mut tables = Vec::new();
        for (output, target) in job.plan.outputs.iter().zip(&job.places.targets) {
            let (TargetKind::Table { path }, None) = (&target.kind, job.env.options.shard) else {
                tables.push(None);
                continue;
            };
            let is_input = |document: &str| known.contains(document);
            let name = shown(path, &job.plan.folder);
            let header = sink::header(output);
            let table = Table::open(path, name, output.format, header, journal.histories(), &is_input);
            tables.push(Some(table.map_err(|e| RunError::NotWritable { path: e.path, source: e.source })?));
        }
        let order = inputs.iter().map(|i| i.document.clone()).collect();
        Ok(Self { journal, tables, order, next_write: Instant::now() + TABLE_PERIOD })
    }

    /// Returns the file names that documents have from earlier runs. A document that is gone gives its name to one
    /// that wants it; what it wrote is replaced then, and only then.
    pub fn owned_names(&self, job: &Job<'_>) -> Vec<(PathBuf, String)> {
        let names = |document: &String| {
            let history = self.journal.get(document).into_iter();
            let names = history.flat_map(|h| h.names()).map(|n| (from_shown(n, &job.plan.folder), document.clone()));
            names.collect::<Vec<_>>()
        };
        self.order.iter().flat_map(names).collect()
    }

    /// Adds a document's end to the journal, and brings the tables up to it when it is time.
    pub fn add(&mut self, job: &Job<'_>, entry: Entry) -> Result<(), RunError> {
        self.journal
            .add(entry)
            .map_err(|source| RunError::Resource { path: job.state_file("journal.jsonl"), source })?;
        if Instant::now() >= self.next_write {
            let start = Instant::now();
            self.write_tables(job)?;
            self.next_write = Instant::now() + TABLE_PERIOD.max(start.elapsed() * TABLE_SHARE);
        }
        Ok(())
    }

    fn write_tables(&mut self, job: &Job<'_>) -> Result<Vec<Option<Filled>>, RunError> {
        let order: Vec<&str> = self.order.iter().map(String::as_str).collect();
        let mut filled = Vec::new();
        for (table, target) in self.tables.iter_mut().zip(&job.places.targets) {
            filled.push(match table {
                None => None,
                Some(table) => {
                    let written = table.write(&order, self.journal.histories(), &target.parts(), &job.env.disk);
                    Some(written.map_err(|e| RunError::Resource { path: e.path, source: e.source })?)
                }
            });
        }
        Ok(filled)
    }

    /// Writes every table as the journal has it, and returns what they hold.
    pub fn finish(&mut self, job: &Job<'_>) -> Result<Vec<Option<Filled>>, RunError> {
        self.write_tables(job)
    }

    pub fn compact(&mut self) -> io::Result<()> {
        self.journal.compact()
    }

    /// Returns how many pages of an output stand after the run.
    pub fn num_pages(&self, output: &str) -> usize {
        let entries = self.order.iter().filter_map(|d| self.journal.get(d)).filter_map(|h| h.good.as_ref());
        entries.flat_map(|e| &e.pages).filter(|p| p.output == output).count()
    }

    /// Says what of the outputs is not from this pipeline's inputs as they are now.
    pub fn notes(&self, job: &Job<'_>) -> Vec<String> {
        let inputs: HashSet<&str> = self.order.iter().map(String::as_str).collect();
        let has_output = |e: &Entry| !e.pages.is_empty() || e.rows.iter().any(|r| !r.rows.is_empty());
        let gone: Vec<&str> = self
            .journal
            .histories()
            .iter()
            .filter(|(document, history)| {
                !inputs.contains(document.as_str()) && history.good.as_deref().is_some_and(has_output)
            })
            .map(|(document, _)| document.as_str())
            .collect();
        let mut notes = Vec::new();
        if !gone.is_empty() {
            notes.push(format!("{} documents are gone; their outputs are kept: {}", gone.len(), first_few(&gone)));
        }
        let tables: HashSet<&str> = self.tables.iter().flatten().map(Table::shown).collect();
        let is_old = |document: &&str| {
            let good = self.journal.get(document).and_then(|h| h.good.as_deref());
            let in_table = |e: &&Entry| e.rows.iter().any(|r| !r.rows.is_empty() && tables.contains(r.path.as_str()));
            good.filter(in_table).is_some_and(|e| *e.pipeline != *job.pipeline_hash)
        };
        let old: Vec<&str> = self.order.iter().map(String::as_str).filter(is_old).collect();
        if !old.is_empty() {
            let few = first_few(&old);
            notes.push(format!("{} documents have records made by an earlier pipeline or model: {few}", old.len()));
        }
        notes
    }

    /// Writes the list of documents that stand failed and returns its path, or `None` where there are none.
    pub fn write_quarantine(&self, job: &Job<'_>) -> Result<Option<String>, RunError> {
        // A shard's failures are a part of the list, and stay with the shard.
        let path = match (&job.plan.run.quarantine, job.env.options.shard) {
            (Some(path), None) => job.plan.folder.join(path),
            _ => job.state_file("quarantine.jsonl"),
        };
        let failed = self.order.iter().filter_map(|d| self.journal.get(d)).filter_map(|h| h.failed.as_deref());
        let lines: Vec<String> = failed.map(quarantine_line).collect();
        if lines.is_empty() && !path.exists() {
            return Ok(None);
        }
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let (disk, folder) = (&job.env.disk, path.parent().unwrap_or(&job.plan.folder));
        let written =
            disk.create_folder(folder).and_then(|()| match disk.replace(&job.places.parts(), &path, text.as_bytes()) {
                Err(e) if e.kind() == io::ErrorKind::CrossesDevices => disk.replace(folder, &path, text.as_bytes()),
                other => other,
            });
        written.map_err(|source| RunError::Resource { path: path.clone(), source })?;
        Ok((!lines.is_empty()).then(|| shown(&path, &job.plan.folder)))
    }
}

fn quarantine_line(entry: &Entry) -> String {
    let failure = entry.failure.as_ref();
    json!({
        "document": entry.document,
        "step": failure.and_then(|f| f.step.as_ref()),
        "chunk": null,
        "reason": failure.map(|f| f.reason),
        "detail": failure.map(|f| f.detail.as_str()),
        "attempts": entry.attempts,
        "first_seen": entry.first_failed,
        "input_sha256": (!entry.sha256.is_empty()).then_some(entry.sha256.as_str()),
    })
    .to_string()
}

fn first_few(names: &[&str]) -> String {
    const FEW: usize = 3;
    let dots = if names.len() > FEW { ", …" } else { "" };
    format!("{}{dots}", names[..names.len().min(FEW)].join(", "))
}
