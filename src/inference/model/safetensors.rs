//! A folder of safetensors files as Hugging Face lays it out. Knows where tensors are, not what they mean.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};

use super::source::{ModelError, TensorInfo, read_json};
use crate::inference::kernels::blocks::Format;

/// Longest header accepted, in bytes; that of a model with 10,000 tensors is about 1 MB.
const HEADER_BYTES_MAX: u64 = 16 << 20;
/// Largest index file, in bytes.
const INDEX_BYTES_MAX: u64 = 64 << 20;

/// The tensors of all files of a folder.
pub struct Folder {
    tensors: HashMap<String, TensorInfo>,
}

/// Returns the weight files of a folder: those its index names, else `model.safetensors`.
pub fn files_of(folder: &Path) -> Result<Vec<PathBuf>, ModelError> {
    let index_path = folder.join("model.safetensors.index.json");
    if !index_path.exists() {
        let single = folder.join("model.safetensors");
        return if single.exists() {
            Ok(vec![single])
        } else {
            Err(ModelError::new(folder, "it holds neither model.safetensors nor model.safetensors.index.json"))
        };
    }
    let index = read_json(&index_path, INDEX_BYTES_MAX)?;
    let about = |fact: String| ModelError::new(&index_path, fact);
    let map =
        index.get("weight_map").and_then(|m| m.as_object()).ok_or_else(|| about("weight_map is missing".into()))?;
    let mut names = BTreeSet::new();
    for name in map.values() {
        let name = name.as_str().ok_or_else(|| about("a file name in weight_map is no text".into()))?;
        if name.contains(['/', '\\']) || name.starts_with('.') {
            return Err(about(format!("the file name {name:?} leaves the folder")));
        }
        names.insert(name);
    }
    Ok(names.into_iter().map(|n| folder.join(n)).collect())
}

impl Folder {
    /// Reads the headers of all files, in the order that `TensorInfo::file` counts them.
    pub fn parse<'a>(folder: &Path, files: impl Iterator<Item = (&'a Path, &'a [u8])>) -> Result<Self, ModelError> {
        let mut tensors = HashMap::new();
        for (file, (path, bytes)) in files.enumerate() {
            let about = |fact: String| ModelError::new(path, fact);
            let len = bytes.first_chunk().map(|b| u64::from_le_bytes(*b));
            match len {
                None => return Err(about(format!("it has {} bytes; a header takes 8", bytes.len()))),
                Some(n) if n > HEADER_BYTES_MAX => {
                    return Err(about(format!("the header says {n} bytes; at most {HEADER_BYTES_MAX} are accepted")));
                }
                Some(_) => {}
            }
            let (header, metadata) = SafeTensors::read_metadata(bytes)
                .map_err(|e| about(format!("the header is damaged or the file is cut off: {e}")))?;
            let data = 8 + header;
            for (name, info) in metadata.tensors() {
                let format = match info.dtype {
                    Dtype::F32 => Format::F32,
                    Dtype::F16 => Format::F16,
                    Dtype::BF16 => Format::Bf16,
                    other => return Err(about(format!("tensor {name} has the unsupported type {other:?}"))),
                };
                let (start, end) = info.data_offsets;
                let info = TensorInfo { format, shape: info.shape.clone(), bytes: data + start..data + end, file };
                if info.bytes.end > bytes.len() {
                    return Err(about(format!("tensor {name} ends after the file: it is cut off")));
                }
                if tensors.insert(name.clone(), info).is_some() {
                    return Err(about(format!("tensor {name} stands in two files")));
                }
            }
        }
        if tensors.is_empty() {
            return Err(ModelError::new(folder, "its safetensors files hold no tensors"));
        }
        Ok(Self { tensors })
    }

    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name)
    }

    pub fn tensors(&self) -> Vec<(&str, &TensorInfo)> {
        let mut all: Vec<_> = self.tensors.iter().map(|(n, t)| (n.as_str(), t)).collect();
        all.sort_by_key(|(_, t)| (t.file, t.bytes.start));
        all
    }
}
