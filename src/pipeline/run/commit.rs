//! What is done becomes lasting: pages, then the journal's line, then tables. The one place that holds the journal.

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{Job, RunError};
use crate::pipeline::inputs::Input;
use crate::pipeline::journal::{Entry, History, Journal};
use crate::pipeline::places::TargetKind;
use crate::pipeline::plan::{OnRemoved, OutputPlan};
use crate::pipeline::shown::{from_shown, shown};
use crate::pipeline::sink::{self, Filled, Table, TableError};

/// Tables are written anew this often at most while a run goes on, and never for more than a twentieth of its time.
const TABLE_PERIOD: Duration = Duration::from_secs(5);
const TABLE_SHARE: u32 = 20;

/// The journal and the tables that are built from it.
pub(super) struct Ledger {
    pub journal: Journal,
    tables: Vec<Option<Table>>, // by output; `None` for pages, and for a shard, whose tables `merge` writes
    order: Vec<String>,         // the documents, in the order of the inputs
    whole: bool,                // of what is done over all documents, not of each
    unreadable: Vec<String>,    // folders that could not be looked into: nothing is gone that may be in them
    next_write: Instant,
}

impl Ledger {
    pub fn open(job: &Job<'_>, journal: Journal, inputs: &[Input]) -> Result<Self, RunError> {
        let order = inputs.iter().map(|i| i.document.clone()).collect();
        let unreadable = inputs.iter().filter(|i| i.unreadable.is_some()).map(|i| format!("{}/", i.document)).collect();
        Self::over(job, journal, order, false, unreadable)
    }

    /// Opens that of what is done over all documents; the order is known when it has been done.
    pub fn open_whole(job: &Job<'_>, journal: Journal) -> Result<Self, RunError> {
        Self::over(job, journal, Vec::new(), true, Vec::new())
    }

    fn over(
        job: &Job<'_>,
        journal: Journal,
        order: Vec<String>,
        whole: bool,
        unreadable: Vec<String>,
    ) -> Result<Self, RunError> {
        let known: HashSet<&str> = order.iter().map(String::as_str).collect();
        let mut tables = Vec::new();
        for (output, target) in job.plan.outputs.iter().zip(&job.places.targets) {
            let (TargetKind::Table { path }, None, true) =
                (&target.kind, job.env.options.shard, output.per.is_whole() == whole)
            else {
                tables.push(None);
                continue;
            };
            let is_input = |document: &str| known.contains(document);
            let name = shown(path, &job.plan.folder);
            let header = sink::header(output);
            let table = Table::open(path, name, output.format, header, journal.histories(), &is_input);
            tables.push(Some(table.map_err(|e| RunError::NotWritable { path: e.path, source: e.source })?));
        }
        Ok(Self { journal, tables, order, whole, unreadable, next_write: Instant::now() + TABLE_PERIOD })
    }

    /// Says what it is about: which groups there are, in their order.
    pub fn set_order(&mut self, order: Vec<String>) {
        self.order = order;
    }

    /// Returns what becomes of an output of a document that is gone.
    fn on_removed(&self, job: &Job<'_>, output: &OutputPlan, document: &str) -> OnRemoved {
        if self.whole {
            return OnRemoved::Drop; // a group that is no more has nothing to be kept for
        }
        if self.unreadable.iter().any(|folder| document.starts_with(folder.as_str())) {
            return OnRemoved::Keep;
        }
        let source = self.journal.get(document).and_then(|h| h.last()).map_or("", |e| &e.source);
        let of_source = job.plan.sources.iter().find(|s| s.name == source).map(|s| s.on_removed).unwrap_or_default();
        output.on_removed.unwrap_or(of_source)
    }

    /// Takes the pages of documents that are gone away, or their content, as their outputs say. Returns notes.
    pub fn clear_gone(&self, job: &Job<'_>) -> Result<Vec<String>, RunError> {
        let inputs: HashSet<&str> = self.order.iter().map(String::as_str).collect();
        let (mut notes, mut cleared) = (Vec::new(), 0);
        let gone = self.journal.histories().iter().filter(|(document, _)| !inputs.contains(document.as_str()));
        for (document, page) in
            gone.flat_map(|(d, h)| h.good.iter().flat_map(move |e| e.pages.iter().map(move |p| (d, p))))
        {
            let outputs = job.plan.outputs.iter().zip(&job.places.targets);
            let Some((output, target)) = outputs.into_iter().find(|(o, _)| o.name == page.output) else { continue };
            let policy = self.on_removed(job, output, document);
            let path = from_shown(&page.path, &job.plan.folder);
            let mark = sink::tombstone(output.format, document);
            let is_there = std::fs::symlink_metadata(&path).is_ok_and(|m| m.is_file());
            if policy == OnRemoved::Keep || !is_there || std::fs::read(&path).is_ok_and(|b| b == mark.as_bytes()) {
                continue;
            }
            if !sink::is_intact(page, &job.plan.folder) {
                notes.push(format!("{} is of a document that is gone, and was changed since: kept", page.path));
                continue;
            }
            let done = match policy {
                OnRemoved::Drop => job.env.disk.remove(&path),
                _ => job.env.disk.replace(&target.parts(), &path, mark.as_bytes()),
            };
            done.map_err(|source| RunError::Resource { path: path.clone(), source })?;
            cleared += 1;
        }
        if cleared > 0 {
            notes.push(format!("{cleared} pages of documents that are gone were taken out"));
        }
        Ok(notes)
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

    /// Returns the names of every entry, whether it is still among those in order or not.
    pub fn all_names(&self, job: &Job<'_>) -> Vec<(PathBuf, String)> {
        let names = |(id, history): (&String, &History)| {
            history.names().map(|n| (from_shown(n, &job.plan.folder), id.clone())).collect::<Vec<_>>()
        };
        self.journal.histories().iter().flat_map(names).collect()
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
        let mut tables = std::mem::take(&mut self.tables);
        for ((table, output), target) in tables.iter_mut().zip(&job.plan.outputs).zip(&job.places.targets) {
            let policy = |document: &str| self.on_removed(job, output, document);
            let written = table
                .as_mut()
                .map(|table| table.write(&order, self.journal.histories(), &policy, &target.parts(), &job.env.disk));
            filled.push(written.transpose());
        }
        self.tables = tables;
        filled
            .into_iter()
            .collect::<Result<_, _>>()
            .map_err(|e: TableError| RunError::Resource { path: e.path, source: e.source })
    }

    /// Writes every table as the journal has it, and returns what they hold.
    pub fn finish(&mut self, job: &Job<'_>) -> Result<Vec<Option<Filled>>, RunError> {
        self.write_tables(job)
    }

    fn failed(&self) -> impl Iterator<Item = &Entry> {
        self.order.iter().filter_map(|d| self.journal.get(d)).filter_map(|h| h.failed.as_deref())
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
                let is_kept =
                    |o: &OutputPlan| !o.per.is_whole() && self.on_removed(job, o, document) == OnRemoved::Keep;
                !inputs.contains(document.as_str())
                    && history.good.as_deref().is_some_and(has_output)
                    && job.plan.outputs.iter().any(is_kept)
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
            let in_table = |e: &&Entry| e.rows.iter().any(|r| !r.rows.is_empty() && tables.contains(&*r.path));
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
    /// What failed over all documents stands behind them.
    pub fn write_quarantine(&self, job: &Job<'_>, whole: Option<&Self>) -> Result<Option<String>, RunError> {
        // A shard's failures are a part of the list, and stay with the shard.
        let path = match (&job.plan.run.quarantine, job.env.options.shard) {
            (Some(template), None) => super::place_of(job.plan, job.env.evaluator, job.run, template)
                .map_err(|detail| RunError::Output { output: "run.quarantine".into(), detail })?,
            _ => job.state_file("quarantine.jsonl"),
        };
        let lines: Vec<String> =
            self.failed().chain(whole.into_iter().flat_map(Self::failed)).map(quarantine_line).collect();
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
        "input_sha256": (!entry.sha256.is_empty()).then_some(&entry.sha256),
    })
    .to_string()
}

pub(super) fn first_few(names: &[&str]) -> String {
    const FEW: usize = 3;
    let dots = if names.len() > FEW { ", …" } else { "" };
    format!("{}{dots}", names[..names.len().min(FEW)].join(", "))
}
