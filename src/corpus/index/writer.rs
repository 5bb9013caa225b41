//! The one writer: passages and vectors go in, and become visible together with the next commit.

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::Path;

use tantivy::directory::MmapDirectory;
use tantivy::merge_policy::LogMergePolicy;
use tantivy::{Index, IndexWriter, TantivyDocument, TantivyError, Term};

use super::disk::open_text;
use super::layout::{Layout, Settings};
use super::passage::Passage;
use super::schema::{Fields, Payload, schema};
use super::vectors::{self, Segment};
use super::{FileEntry, FileState, FileTable, IndexError};

/// Memory of the text engine's threads together, and how many there are.
const MEMORY_BYTES: usize = 96 << 20;
const THREADS: usize = 2;
/// Segments with a larger share of removed passages are merged, and so are files of vectors.
const DEAD_MAX: f32 = 0.2;
/// More files of vectors than this are made one.
const VECTOR_FILES_MAX: usize = 8;

/// What is kept of a file that was read, beside its passages.
pub struct ReadFile {
    pub sha256: String,
    pub bytes: u64,
    pub language: String,
    pub warnings: Vec<String>,
}

/// Writes an index; there is one at a time, in all processes.
pub struct Writer {
    layout: Layout,
    _lock: File, // released with the process
    index: Index,
    inner: IndexWriter<TantivyDocument>,
    fields: Fields,
    payload: Payload,
    table: FileTable,
    rows: Vec<u64>, // of the vectors not yet written
    vectors: Vec<Vec<f32>>,
    has_changes: bool,
}

impl Writer {
    /// Opens an index for writing, making it if there is none.
    pub fn open(folder: &Path, settings: &Settings) -> Result<Self, IndexError> {
        let layout = Layout::new(folder);
        let lock = layout.lock()?;
        Self::with_lock(layout, lock, settings)
    }

    /// Removes what is there and begins anew: also the way to repair a damaged index.
    pub fn fresh(folder: &Path, settings: &Settings) -> Result<Self, IndexError> {
        let layout = Layout::new(folder);
        let lock = layout.lock()?;
        layout.clear()?;
        Self::with_lock(layout, lock, settings)
    }

    fn with_lock(layout: Layout, lock: File, settings: &Settings) -> Result<Self, IndexError> {
        layout.prepare(settings)?;
        let folder = layout.folder.clone();
        let text = |e| IndexError::text(&folder, e);
        let (index, fields, payload) = match open_text(&layout) {
            Ok((index, fields, payload, _)) => (index, fields, payload),
            Err(IndexError::Missing { .. }) => {
                let directory = MmapDirectory::open(layout.text()).map_err(|e| text(e.into()))?;
                let index = Index::open_or_create(directory, schema()).map_err(text)?;
                let fields = Fields::of(&index).ok_or_else(|| IndexError::damaged(&folder, "it lacks a field"))?;
                (index, fields, Payload::default())
            }
            Err(error) => return Err(error),
        };
        let table = match payload.files.as_str() {
            "" => FileTable::default(),
            name => FileTable::read(&layout.files(), name)?,
        };
        let inner = index.writer_with_num_threads(THREADS, MEMORY_BYTES).map_err(text)?;
        let mut policy = LogMergePolicy::default();
        policy.set_del_docs_ratio_before_merge(DEAD_MAX);
        inner.set_merge_policy(Box::new(policy));
        let (rows, vectors) = (Vec::new(), Vec::new());
        let writer =
            Self { layout, _lock: lock, index, inner, fields, payload, table, rows, vectors, has_changes: false };
        writer.tidy()?;
        Ok(writer)
    }

    /// What the index holds, changes since the last commit included.
    pub fn table(&self) -> &FileTable {
        &self.table
    }

    /// Puts a file's passages in the place of those it had. With an embedder, `vectors` has one for each.
    pub fn put(
        &mut self,
        file: &str,
        entry: ReadFile,
        passages: &[Passage],
        vectors: Vec<Vec<f32>>,
    ) -> Result<(), IndexError> {
        assert!(vectors.is_empty() || vectors.len() == passages.len(), "a vector for each passage");
        self.forget(file);
        let first_row = self.payload.next_row;
        for (row, passage) in (first_row..).zip(passages) {
            let document = self.fields.document(passage, row);
            let document = document.map_err(|e| IndexError::damaged(&self.layout.folder, e.to_string()))?;
            if let Err(error) = self.inner.add_document(document) {
                return Err(self.cause(error));
            }
        }
        self.payload.next_row += passages.len() as u64;
        if let Some(first) = vectors.first() {
            self.payload.dims = first.len();
            self.rows.extend(first_row..self.payload.next_row);
            self.vectors.extend(vectors);
        }
        let ReadFile { sha256, bytes, language, warnings } = entry;
        let (num_passages, state) = (passages.len() as u64, FileState::Indexed);
        let entry = FileEntry { sha256, bytes, language, first_row, num_passages, warnings, state };
        self.table.files.insert(file.to_owned(), entry);
        Ok(())
    }

    /// A thread of the text engine that has ended says only that it has; why, such as a full disk, is told to who waits
    /// for it.
    fn cause(&mut self, error: TantivyError) -> IndexError {
        let told = match &error {
            TantivyError::ErrorInThread(_) => self.inner.prepare_commit().err(),
            _ => None,
        };
        IndexError::text(&self.layout.folder, told.unwrap_or(error))
    }

    /// Notes a file that could not be read; what it had is taken out, for it is no longer true.
    pub fn put_failed(&mut self, file: &str, sha256: String, bytes: u64, why: String) {
        self.forget(file);
        let entry = FileEntry {
            sha256,
            bytes,
            language: String::new(),
            first_row: self.payload.next_row,
            num_passages: 0,
            warnings: Vec::new(),
            state: FileState::Failed { why },
        };
        self.table.files.insert(file.to_owned(), entry);
    }

    /// Takes a file out; one that is not there is no error.
    pub fn remove(&mut self, file: &str) {
        self.forget(file);
        self.table.files.remove(file);
    }

    fn forget(&mut self, file: &str) {
        self.has_changes = true;
        if self.table.files.get(file).is_some_and(|f| f.num_passages > 0) {
            self.inner.delete_term(Term::from_field_text(self.fields.file, file));
        }
    }

    /// Makes all changes visible at once, durably; without changes it does nothing.
    pub fn commit(&mut self) -> Result<(), IndexError> {
        if !self.has_changes {
            return Ok(());
        }
        let folder = self.layout.folder.clone();
        let text = |e| IndexError::text(&folder, e);
        // Files that the commit will name come first: without it nobody looks at them. No name is used twice, for an
        // older commit may still stand by it.
        self.payload.generation += 1;
        self.write_vectors()?;
        self.payload.files = self.table.write(&self.layout.files())?;
        let payload = self.payload.seal().map_err(|e| IndexError::damaged(&folder, e.to_string()))?;
        let mut prepared = self.inner.prepare_commit().map_err(text)?;
        prepared.set_payload(&payload);
        prepared.commit().map_err(text)?;
        self.has_changes = false;
        self.tidy()
    }

    /// Commits, waits for merges that have begun, and gives the lock back.
    pub fn close(mut self) -> Result<(), IndexError> {
        self.commit()?;
        let folder = self.layout.folder.clone();
        let text = |e| IndexError::text(&folder, e);
        self.inner.wait_merging_threads().map_err(text)?;
        // What merges have replaced goes with the next look of a writer; we are still the one.
        let inner: IndexWriter<TantivyDocument> = self.index.writer_with_num_threads(1, 16 << 20).map_err(text)?;
        inner.garbage_collect_files().wait().map_err(text)?;
        // Readers scan large files of vectors until they have a graph.
        #[cfg(feature = "usearch")]
        super::graph::build_large(&self.layout.vectors(), &self.payload.vectors)?;
        Ok(())
    }

    fn write_vectors(&mut self) -> Result<(), IndexError> {
        let folder = self.layout.vectors();
        if !self.rows.is_empty() {
            let name = format!("{:010}.qvec", self.payload.generation);
            vectors::write(&folder.join(&name), &self.rows, self.payload.dims, &self.vectors)?;
            self.payload.vectors.push(name);
            self.rows.clear();
            self.vectors.clear();
        }
        if self.payload.vectors.is_empty() {
            return Ok(());
        }
        let open = |name: &String| Segment::open(&folder, name);
        let segments = self.payload.vectors.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        let rows: usize = segments.iter().map(Segment::num_rows).sum();
        let living = self.table.num_passages() as usize;
        let dead = rows.saturating_sub(living) as f32 / rows.max(1) as f32;
        if segments.len() <= VECTOR_FILES_MAX && dead <= DEAD_MAX {
            return Ok(());
        }
        let held = self.table.files.values().filter(|f| f.num_passages > 0);
        let mut ranges: Vec<(u64, u64)> = held.map(|f| (f.first_row, f.first_row + f.num_passages)).collect();
        ranges.sort_unstable(); // and they never overlap
        let lives = |row: u64| {
            let after = ranges.partition_point(|(first, _)| *first <= row);
            after.checked_sub(1).is_some_and(|at| row < ranges[at].1)
        };
        let name = format!("{:010}-merged.qvec", self.payload.generation);
        vectors::merge(&folder.join(&name), &segments, &lives)?;
        self.payload.vectors = vec![name];
        Ok(())
    }

    /// Removes files that the last commit does not name: what a killed writer left, and what was replaced.
    fn tidy(&self) -> Result<(), IndexError> {
        let named: HashSet<&str> =
            self.payload.vectors.iter().map(String::as_str).chain([self.payload.files.as_str()]).collect();
        for folder in [self.layout.vectors(), self.layout.files()] {
            let io = |e| IndexError::io(&folder, e);
            for entry in fs::read_dir(&folder).map_err(io)? {
                let entry = entry.map_err(io)?;
                let file = entry.file_name().to_string_lossy().into_owned();
                // The graph of a file of vectors goes with it.
                let of = file.strip_suffix(".b3").unwrap_or(&file);
                let of = of.strip_suffix(".graph").unwrap_or(of);
                if !named.contains(of) {
                    fs::remove_file(entry.path()).map_err(|e| IndexError::io(&entry.path(), e))?;
                }
            }
        }
        Ok(())
    }
}
