//! A graph beside a large file of vectors (HNSW, by usearch): finds candidates without looking at every row. It holds
//! nothing of its own: without it, or in a quarry built without the feature `usearch`, the same file is scanned.
//!
//! ```text
//! INDEX/vectors/NAME.graph      usearch's
//! INDEX/vectors/NAME.graph.b3   its blake3
//! ```
//! It is made when an update ends, after the commit, and row by row in order, so that the same rows give the same
//! graph. The hash is checked when it is opened: usearch follows the links of a file as it finds them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use usearch::{Index, IndexOptions, MetricKind, ScalarKind};

use super::IndexError;
use super::layout::write_durably;
use super::vectors::Segment;

/// Fewer rows are scanned: a scan of int8 takes 40 ms for so many, and misses none.
pub(super) const LEAST_ROWS: usize = 1_000_000;

/// Links of each row, and rows looked at while one is added or looked for. Usearch's own for the first two; more are
/// looked at in a search, for the exact scores afterwards choose among many.
const CONNECTIVITY: usize = 16;
const EXPANSION_ADD: usize = 128;
const EXPANSION_SEARCH: usize = 256;

pub(super) struct Graph {
    index: Index,
}

/// The names of the files beside a file of vectors.
pub(super) fn names_of(segment: &str) -> [String; 2] {
    [format!("{segment}.graph"), format!("{segment}.graph.b3")]
}

fn files_of(folder: &Path, segment: &str) -> [PathBuf; 2] {
    names_of(segment).map(|name| folder.join(name))
}

fn new_index(dims: usize) -> Result<Index, String> {
    let options = IndexOptions {
        dimensions: dims,
        metric: MetricKind::Cos,
        quantization: ScalarKind::I8,
        connectivity: CONNECTIVITY,
        expansion_add: EXPANSION_ADD,
        expansion_search: EXPANSION_SEARCH,
        multi: false,
    };
    Index::new(&options).map_err(|e| e.to_string())
}

/// Makes the graphs of those files of vectors that are large and have none.
pub(super) fn build_large(folder: &Path, segments: &[String]) -> Result<(), IndexError> {
    for name in segments {
        let segment = Segment::open(folder, name)?;
        if segment.num_rows() >= LEAST_ROWS {
            build(folder, &segment)?;
        }
    }
    Ok(())
}

/// Makes the graph of a file of vectors, if it has none.
pub(super) fn build(folder: &Path, segment: &Segment) -> Result<(), IndexError> {
    let [path, hash_path] = files_of(folder, segment.name());
    if path.exists() && hash_path.exists() {
        return Ok(());
    }
    let failed = |why: String| IndexError::io(&path, std::io::Error::other(why));
    let index = new_index(segment.dims()).map_err(failed)?;
    index.reserve(segment.num_rows()).map_err(|e| failed(e.to_string()))?;
    for row in 0..segment.num_rows() {
        let vector: Vec<i8> = segment.small(row).iter().map(|b| *b as i8).collect();
        index.add(row as u64, &vector).map_err(|e| failed(e.to_string()))?;
    }
    let part = folder.join(format!("{}.graph.part", segment.name()));
    let Some(name) = part.to_str() else { return Err(failed("its path is no UTF-8".into())) };
    index.save(name).map_err(|e| failed(e.to_string()))?;
    File::open(&part).and_then(|f| f.sync_all()).map_err(|e| IndexError::io(&part, e))?;
    let hash = file_hash(&part)?;
    fs::rename(&part, &path).map_err(|e| IndexError::io(&path, e))?;
    // Last: who finds a hash finds the graph it is of.
    write_durably(&hash_path, |file| std::io::Write::write_all(file, hash.as_bytes()))
}

fn file_hash(path: &Path) -> Result<String, IndexError> {
    let mut hasher = blake3::Hasher::new();
    let mut file = File::open(path).map_err(|e| IndexError::io(path, e))?;
    std::io::copy(&mut file, &mut hasher).map_err(|e| IndexError::io(path, e))?;
    Ok(hasher.finalize().to_hex().to_string())
}

impl Graph {
    /// Opens the graph of a file of vectors; `None` where it has none.
    pub fn open(folder: &Path, segment: &str, dims: usize, num_rows: usize) -> Result<Option<Self>, IndexError> {
        let [path, hash_path] = files_of(folder, segment);
        let hash = match fs::read_to_string(&hash_path) {
            Ok(hash) => hash,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(IndexError::io(&hash_path, error)),
        };
        let damaged = |fact: &str| IndexError::damaged(folder, format!("vectors/{segment}.graph {fact}"));
        if !path.exists() {
            return Err(damaged("is missing"));
        }
        if file_hash(&path)? != hash {
            return Err(damaged("is not what was written"));
        }
        let index = new_index(dims).map_err(|e| damaged(&e))?;
        let Some(name) = path.to_str() else { return Err(damaged("has a path that is no UTF-8")) };
        index.view(name).map_err(|e| damaged(&e.to_string()))?;
        if (index.dimensions(), index.size()) != (dims, num_rows) {
            return Err(damaged("is of other vectors"));
        }
        Ok(Some(Self { index }))
    }

    /// Returns rows that are near, nearest first, of those that `lets` says may be looked at.
    pub fn nearest(&self, question: &[i8], keep: usize, lets: &dyn Fn(usize) -> bool) -> Result<Vec<usize>, String> {
        let found = self.index.filtered_search(question, keep, |row| lets(row as usize));
        Ok(found.map_err(|e| e.to_string())?.keys.into_iter().map(|row| row as usize).collect())
    }
}
