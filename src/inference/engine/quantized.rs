//! The quantized form of a model that came in floats: made at its first load, kept as a file, and made again when its
//! source has changed. Knows one source and one file; where files are kept is decided above.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::load::LoadError;
use super::request::CancelToken;
use crate::inference::model::{GgufEntry, ModelError, ModelSource, Quantization, QuantizeError, write_quantized};
use crate::inference::tokenizer::{Exported, GgufTokenizerFields};

/// In the kept file's metadata: the digest of what it was made from.
const SOURCE_DIGEST: &str = "quarry.source.digest";
/// In the kept file's metadata: [`label`].
const QUANTIZATION: &str = "quarry.quantization";

/// What is done with weights in floats before they are loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Quantize {
    /// Those that were fetched are quantized to Q8_0; those that the user has are used as they are.
    #[default]
    Auto,
    Never,
    To(Quantization),
}

/// A quantized form that is to be kept.
#[derive(Clone, Debug)]
pub struct ToKeep<'a> {
    pub name: &'a str,
    pub source: &'a Path, // a safetensors folder
    pub digest: &'a str,  // of its files
    pub quantization: Quantization,
    pub kept: &'a Path, // the file; its folder is made if need be
    /// Ends the work, and the waiting for another process, within a few megabytes.
    pub cancel: &'a CancelToken,
}

/// What happens on the way; nothing is told where the file is there already.
#[derive(Clone, Debug, PartialEq)]
pub enum Quantizing<'a> {
    /// Another process is at it.
    Waiting,
    /// The kept file is of another source, or damaged.
    Replacing {
        fact: &'a str,
    },
    Started,
    Progress {
        bytes: u64,
        of: u64,
    },
    /// Other programs cannot read text with the file, for the tokenizer `why`; this one takes the source's own.
    WithoutTokenizer {
        why: &'a str,
    },
    /// Matrices whose rows are no whole number of blocks, and so are in a wider format.
    OtherFormat {
        tensors: usize,
        of: usize,
    },
    Done {
        bytes: u64,
        seconds: f64,
    },
}

/// As it stands in file names and in digests: another one means other weights.
pub fn label(quantization: Quantization) -> String {
    format!("{}-v{}", quantization.name(), Quantization::VERSION)
}

/// Makes sure that the kept file holds the quantized form of the source. Two processes at once make it once; one that
/// is killed leaves nothing that could be taken for a whole file.
pub fn keep_quantized(model: &ToKeep<'_>, tell: &dyn Fn(&Quantizing<'_>)) -> Result<(), LoadError> {
    if state(model) == State::Current {
        return Ok(());
    }
    let cannot = |e: io::Error| LoadError::NotKept { path: model.kept.to_owned(), error: e };
    let folder = model.kept.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(cannot)?;
    let _lock = lock(&beside(model.kept, "lock"), model.cancel, tell)?.map_err(cannot)?;
    match state(model) {
        State::Current => return Ok(()), // another process was quicker
        State::Other(fact) => tell(&Quantizing::Replacing { fact: &fact }),
        State::Missing => {}
    }
    tell(&Quantizing::Started);
    let start = Instant::now();
    // Under the lock nobody else writes it, so one name will do, and what a killed process left is written over.
    let partial = beside(model.kept, "partial");
    let made = make(model, &partial, tell).and_then(|()| put_in_place(&partial, model.kept).map_err(cannot));
    if made.is_err() {
        // The first error is the one to tell; what stays is written over by the next try.
        let _ = fs::remove_file(&partial);
    }
    made?;
    let bytes = fs::metadata(model.kept).map_err(cannot)?.len();
    tell(&Quantizing::Done { bytes, seconds: start.elapsed().as_secs_f64() });
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Current,
    Missing,
    Other(String),
}

/// Whether the kept file is whole and of this source: from its header, whose lengths the file must have.
fn state(model: &ToKeep<'_>) -> State {
    if !model.kept.exists() {
        return State::Missing;
    }
    let kept = match ModelSource::open(model.kept) {
        Ok(kept) => kept,
        Err(error) => return State::Other(error.fact),
    };
    let is = |key: &str, value: &str| kept.gguf().and_then(|g| g.text(key)) == Some(value);
    if is(SOURCE_DIGEST, model.digest) && is(QUANTIZATION, &label(model.quantization)) {
        State::Current
    } else {
        State::Other("it was made from other files".into())
    }
}

fn make(model: &ToKeep<'_>, to: &Path, tell: &dyn Fn(&Quantizing<'_>)) -> Result<(), LoadError> {
    let source = ModelSource::open(model.source)?;
    let text = |value: &str| GgufEntry::Text(value.into());
    let mut more = vec![
        ("general.name".to_owned(), text(model.name.rsplit('/').next().unwrap_or(model.name))),
        (SOURCE_DIGEST.to_owned(), text(model.digest)),
        (QUANTIZATION.to_owned(), text(&label(model.quantization))),
    ];
    match tokenizer(&source)? {
        Some(Exported::Fields(fields)) => more.extend(tokenizer_entries(*fields, source.config().vocabulary)),
        Some(Exported::Impossible(why)) => tell(&Quantizing::WithoutTokenizer { why: &why }),
        None => {}
    }
    let progress = |bytes, of| {
        tell(&Quantizing::Progress { bytes, of });
        model.cancel.check().is_ok()
    };
    let written = write_quantized(&source, model.quantization, more, to, &progress).map_err(|error| match error {
        QuantizeError::Source(error) => error.into(),
        QuantizeError::Stopped => LoadError::Stopped,
        QuantizeError::Write(error) => LoadError::NotKept { path: model.kept.to_owned(), error },
    })?;
    if written.in_other_format > 0 {
        tell(&Quantizing::OtherFormat { tensors: written.in_other_format, of: written.matrices });
    }
    Ok(())
}

/// What the source's `tokenizer.json` says, where it has one.
fn tokenizer(source: &ModelSource) -> Result<Option<Exported>, LoadError> {
    let path = source.path().join("tokenizer.json");
    if !path.exists() {
        return Ok(None);
    }
    let exported = GgufTokenizerFields::export(&path).map_err(|e| LoadError::Tokenizer(e.to_string()))?;
    let rows = source.config().vocabulary;
    if let Exported::Fields(fields) = &exported
        && fields.tokens.len() > rows
    {
        let fact = format!("its tokenizer has {} tokens, its weights {rows}", fields.tokens.len());
        return Err(ModelError::new(source.path(), fact).into());
    }
    Ok(Some(exported))
}

/// `tokenizer.*` as metadata, a token for every row of the embedding: llama.cpp takes no other number.
fn tokenizer_entries(mut fields: GgufTokenizerFields, rows: usize) -> Vec<(String, GgufEntry)> {
    fields.pad_to(rows);
    let mut entries = Vec::new();
    let mut put = |key: &str, value: GgufEntry| entries.push((format!("tokenizer.{key}"), value));
    put("ggml.model", GgufEntry::Text(fields.model));
    put("ggml.pre", GgufEntry::Text(fields.pre));
    put("ggml.tokens", GgufEntry::Texts(fields.tokens));
    put("ggml.token_type", GgufEntry::I32s(fields.token_types));
    put("ggml.merges", GgufEntry::Texts(fields.merges));
    let roles = [("bos", fields.bos), ("eos", fields.eos), ("unknown", fields.unk), ("padding", fields.pad)];
    for (role, id) in roles {
        if let Some(id) = id {
            put(&format!("ggml.{role}_token_id"), GgufEntry::U32(id));
        }
    }
    put("ggml.add_bos_token", GgufEntry::Bool(fields.add_bos));
    if let Some(template) = fields.chat_template {
        put("chat_template", GgufEntry::Text(template));
    }
    entries
}

/// `.NAME.suffix` in the same folder, so that a rename is enough.
fn beside(file: &Path, suffix: &str) -> PathBuf {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    file.with_file_name(format!(".{name}.{suffix}"))
}

/// Waits until this process alone may write. The lock is the system's: a process that dies lets go.
fn lock(path: &Path, cancel: &CancelToken, tell: &dyn Fn(&Quantizing<'_>)) -> Result<io::Result<File>, LoadError> {
    const LOOK_AGAIN: Duration = Duration::from_millis(100);
    let file = match File::options().create(true).append(true).open(path) {
        Ok(file) => file,
        Err(error) => return Ok(Err(error)),
    };
    let mut told = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Ok(file)),
            Err(TryLockError::WouldBlock) => {
                cancel.check().map_err(|_| LoadError::Stopped)?;
                if !told {
                    tell(&Quantizing::Waiting);
                    told = true;
                }
                thread::sleep(LOOK_AGAIN);
            }
            Err(TryLockError::Error(e)) => return Ok(Err(e)),
        }
    }
}

/// Makes a finished file visible under its name, durably where the system can.
fn put_in_place(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    #[cfg(unix)]
    File::open(to.parent().unwrap_or(Path::new(".")))?.sync_all()?;
    Ok(())
}

#[cfg(test)]
#[path = "quantized_tests.rs"]
mod tests;
