//! A model's files, mapped and checked: where each tensor's bytes are. The only memory map of the house.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use super::config::ModelConfig;
use super::gguf::Gguf;
use super::safetensors::{self, Folder};
use crate::inference::kernels::blocks::Format;

/// Largest `config.json`, in bytes.
const CONFIG_BYTES_MAX: u64 = 4 << 20;
/// Longest fact told about a file; what a header calls things is part of it.
const FACT_CHARS_MAX: usize = 400;

/// A model file that cannot be used: one fact about one file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {fact}", file.display())]
pub struct ModelError {
    pub file: PathBuf,
    pub fact: String,
}

impl ModelError {
    pub fn new(file: &Path, fact: impl Into<String>) -> Self {
        let mut fact = fact.into();
        // Names in a hostile header may be as long as the file.
        if let Some((end, _)) = fact.char_indices().nth(FACT_CHARS_MAX) {
            fact.truncate(end);
            fact.push('…');
        }
        Self { file: file.to_owned(), fact }
    }
}

/// Where a tensor lies, and what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    pub format: Format,
    pub shape: Vec<usize>, // outermost dimension first
    pub bytes: Range<usize>,
    pub file: usize, // index into the model's files
}

impl TensorInfo {
    pub fn cols(&self) -> usize {
        self.shape.last().copied().unwrap_or(0)
    }

    /// The product of all dimensions but the last.
    pub fn rows(&self) -> usize {
        self.shape.split_last().map_or(0, |(_, outer)| outer.iter().product())
    }
}

/// A GGUF file or a safetensors folder, open for loading.
pub struct ModelSource {
    path: PathBuf,
    config: ModelConfig,
    pub(super) kind: Kind,
    files: Vec<(PathBuf, Mmap)>,
}

pub(super) enum Kind {
    Gguf(Gguf),
    Safetensors(Folder),
}

impl ModelSource {
    /// Opens a GGUF file, or a folder with `config.json` and safetensors files, and checks its headers.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let about = |fact: String| ModelError::new(path, fact);
        let metadata = std::fs::metadata(path).map_err(|e| about(e.to_string()))?;
        if metadata.is_dir() {
            return Self::open_folder(path);
        }
        if !metadata.is_file() {
            return Err(about("it is neither a file nor a folder".into()));
        }
        if path.extension().is_some_and(|e| e == "safetensors") {
            return Err(about("a safetensors model is named by its folder, which also holds config.json".into()));
        }
        let map = map_file(path)?;
        let gguf = Gguf::parse(&map).map_err(about)?;
        let config = ModelConfig::from_gguf(&gguf).map_err(about)?;
        Ok(Self { path: path.to_owned(), config, kind: Kind::Gguf(gguf), files: vec![(path.to_owned(), map)] })
    }

    fn open_folder(path: &Path) -> Result<Self, ModelError> {
        let config_path = path.join("config.json");
        let json = read_json(&config_path, CONFIG_BYTES_MAX)?;
        let config = ModelConfig::from_json(&json).map_err(|fact| ModelError::new(&config_path, fact))?;
        let mut files = Vec::new();
        for file in safetensors::files_of(path)? {
            let map = map_file(&file)?;
            files.push((file, map));
        }
        let folder = Folder::parse(path, files.iter().map(|(p, m)| (p.as_path(), &m[..])))?;
        Ok(Self { path: path.to_owned(), config, kind: Kind::Safetensors(folder), files })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The GGUF header, where the model is one.
    pub fn gguf(&self) -> Option<&Gguf> {
        match &self.kind {
            Kind::Gguf(gguf) => Some(gguf),
            Kind::Safetensors(_) => None,
        }
    }

    /// All tensors in the order of the file.
    pub fn tensors(&self) -> Vec<(&str, &TensorInfo)> {
        match &self.kind {
            Kind::Gguf(gguf) => gguf.tensors(),
            Kind::Safetensors(folder) => folder.tensors(),
        }
    }

    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        match &self.kind {
            Kind::Gguf(gguf) => gguf.tensor(name),
            Kind::Safetensors(folder) => folder.tensor(name),
        }
    }

    /// The bytes of a tensor of this source.
    pub fn bytes(&self, info: &TensorInfo) -> &[u8] {
        &self.files[info.file].1[info.bytes.clone()]
    }

    /// Gives back the memory of a tensor that will not be read again soon; reading it again is legal, and slower.
    pub fn release(&self, info: &TensorInfo) {
        #[cfg(unix)]
        {
            let map = &self.files[info.file].1;
            // SAFETY: the map is of a file and never written to, so pages that are dropped come back with the bytes
            // they had. Where the system refuses, the pages stay, which is only a matter of space.
            let _ = unsafe {
                map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, info.bytes.start, info.bytes.len())
            };
        }
    }

    /// The file that a tensor of this source lies in.
    pub fn file_of(&self, info: &TensorInfo) -> &Path {
        &self.files[info.file].0
    }
}

/// Reads a JSON file of at most `max` bytes.
pub(super) fn read_json(path: &Path, max: u64) -> Result<serde_json::Value, ModelError> {
    let about = |fact: String| ModelError::new(path, fact);
    let len = std::fs::metadata(path).map_err(|e| about(e.to_string()))?.len();
    if len > max {
        return Err(about(format!("it has {len} bytes; at most {max} are accepted")));
    }
    let text = std::fs::read(path).map_err(|e| about(e.to_string()))?;
    serde_json::from_slice(&text).map_err(|e| about(format!("it is not valid JSON: {e}")))
}

fn map_file(path: &Path) -> Result<Mmap, ModelError> {
    let about = |fact: String| ModelError::new(path, fact);
    let file = File::open(path).map_err(|e| about(e.to_string()))?;
    if file.metadata().map_err(|e| about(e.to_string()))?.len() == 0 {
        return Err(about("the file is empty".into()));
    }
    // SAFETY: the map is read-only and private to loading: every weight is copied into its packed form before the
    // first token, and the map is dropped then. A file that another process truncates during the seconds of loading
    // would raise SIGBUS; models are replaced by renaming, which leaves a mapped file whole.
    unsafe { Mmap::map(&file) }.map_err(|e| about(format!("it cannot be mapped: {e}")))
}
