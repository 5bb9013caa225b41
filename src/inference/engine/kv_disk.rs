//! Keys and values of long prompts, kept on disk from one run to the next: a file for each segment of blocks, named by
//! the model and by all tokens up to the segment's end. A file that is not whole is removed and computed again.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::block_pool::{BlockHash, BlockPool};
use crate::ids::BlockId;
use crate::inference::model::{BLOCK_TOKENS, BlockBytes};

/// Bytes of all files together, of whatever model; those not used for the longest time go first.
pub const KV_DISK_BYTES_MAX: u64 = 4 << 30;
/// Prompts shorter than this are sooner computed than fetched.
pub(super) const KEPT_TOKENS_MIN: usize = 1024;
/// Blocks of one file.
pub(super) const SEGMENT_BLOCKS: usize = 8;
/// Raised when the layout of a file or of a block changes.
const FORMAT: &str = "quarry kv 1";
const CHECKSUM_BYTES: usize = 32;

/// Where keys and values are kept between runs.
#[derive(Clone, Debug)]
pub struct KvFolder {
    pub path: PathBuf,
    pub bytes_max: u64,
    pub tell: fn(&str), // of damaged files, and of why nothing more is kept
}

/// The files of one model in a folder.
pub struct KvDisk {
    folder: KvFolder,
    model: String,
    writable: bool,
}

impl KvDisk {
    /// Opens the folder, made if it is not there. `model` tells apart everything that can change a key or a value.
    pub fn open(folder: &KvFolder, model: &str) -> io::Result<Self> {
        fs::create_dir_all(&folder.path)?;
        Ok(Self { folder: folder.clone(), model: model.to_owned(), writable: true })
    }

    /// Puts the segments of a prompt that are here and not in the pool into blocks of the pool, from the first one on.
    pub fn restore(&self, hashes: &[BlockHash], pool: &mut BlockPool, model: &mut dyn BlockBytes) {
        let mut held: Vec<BlockId> = Vec::new(); // so that one segment does not push out another
        for segment in hashes.chunks_exact(SEGMENT_BLOCKS) {
            let (present, missing): (Vec<_>, Vec<_>) = (0..).zip(segment).partition(|(_, h)| pool.is_computed(h));
            held.extend(present.iter().filter_map(|(_, hash)| pool.share(hash)));
            if missing.is_empty() {
                continue;
            }
            if missing.len() > pool.num_available() || missing.iter().any(|(_, h)| pool.is_pending(h)) {
                break;
            }
            let Some(bytes) = self.load(segment, model.block_bytes()) else { break };
            for (at, hash) in missing {
                let Some(block) = pool.take() else { break };
                let from = CHECKSUM_BYTES + at * model.block_bytes();
                model.write_block(block, &bytes[from..from + model.block_bytes()]);
                pool.mark_computed(block, *hash);
                held.push(block);
            }
        }
        pool.release(&held);
    }

    /// Keeps the full segments of a prompt, whose blocks are computed; those that are here become the newest.
    pub fn keep(&mut self, hashes: &[BlockHash], blocks: &[BlockId], model: &dyn BlockBytes) {
        if !self.writable {
            return;
        }
        if let Err(error) = self.write_segments(hashes, blocks, model) {
            self.writable = false;
            let folder = self.folder.path.display();
            (self.folder.tell)(&format!("{folder}: keys and values are not kept any more in this run: {error}"));
        }
    }

    fn write_segments(&self, hashes: &[BlockHash], blocks: &[BlockId], model: &dyn BlockBytes) -> io::Result<()> {
        let segment_bytes = (CHECKSUM_BYTES + SEGMENT_BLOCKS * model.block_bytes()) as u64;
        let most = usize::try_from(self.folder.bytes_max / segment_bytes).unwrap_or(usize::MAX);
        let segments = hashes.chunks_exact(SEGMENT_BLOCKS).zip(blocks.chunks_exact(SEGMENT_BLOCKS)).take(most);
        let mut wrote = false;
        // The last first: the beginning of a prompt is worth the most, and goes last.
        for (hashes, blocks) in segments.collect::<Vec<_>>().into_iter().rev() {
            let path = self.path(hashes);
            match File::options().write(true).open(&path) {
                Ok(file) => file.set_modified(SystemTime::now())?,
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    let mut bytes = vec![0; CHECKSUM_BYTES];
                    blocks.iter().for_each(|block| model.read_block(*block, &mut bytes));
                    let checksum = checksum(&bytes[CHECKSUM_BYTES..]);
                    bytes[..CHECKSUM_BYTES].copy_from_slice(&checksum);
                    let mut file = tempfile::NamedTempFile::new_in(&self.folder.path)?;
                    file.write_all(&bytes)?;
                    file.persist(&path).map_err(|e| e.error)?;
                    wrote = true;
                }
                Err(error) => return Err(error),
            }
        }
        if wrote { make_room(&self.folder.path, self.folder.bytes_max) } else { Ok(()) }
    }

    /// Returns the whole file of a segment if it is here and whole.
    fn load(&self, segment: &[BlockHash], block_bytes: usize) -> Option<Vec<u8>> {
        let path = self.path(segment);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return None,
            Err(error) => {
                (self.folder.tell)(&format!("{}: {error}; its tokens are computed again", path.display()));
                return None;
            }
        };
        let whole = bytes.len() == CHECKSUM_BYTES + SEGMENT_BLOCKS * block_bytes;
        if whole && bytes[..CHECKSUM_BYTES] == checksum(&bytes[CHECKSUM_BYTES..]) {
            return Some(bytes);
        }
        let removed =
            fs::remove_file(&path).map_or_else(|e| format!("cannot be removed ({e})"), |()| "is removed".into());
        (self.folder.tell)(&format!("{} is damaged and {removed}; its tokens are computed again", path.display()));
        None
    }

    fn path(&self, segment: &[BlockHash]) -> PathBuf {
        let mut hasher = blake3::Hasher::new();
        hasher.update(format!("{FORMAT}\n{}\n", self.model).as_bytes());
        // Each hash stands for everything before it.
        segment.last().iter().for_each(|hash| {
            hasher.update(*hash);
        });
        self.folder.path.join(format!("{}.kv", hasher.finalize().to_hex()))
    }
}

/// Whether a prompt of so many tokens is worth a look at the disk.
pub(super) fn is_worth_keeping(prompt_tokens: usize) -> bool {
    prompt_tokens >= KEPT_TOKENS_MIN.max(SEGMENT_BLOCKS * BLOCK_TOKENS)
}

fn checksum(body: &[u8]) -> [u8; CHECKSUM_BYTES] {
    *blake3::Hasher::new().update_rayon(body).finalize().as_bytes()
}

/// Removes the files that were not used for the longest time until the rest fit.
fn make_room(folder: &Path, bytes_max: u64) -> io::Result<()> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        match entry.metadata() {
            Ok(about) if about.is_file() => files.push((about.modified()?, about.len(), entry.path())),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {} // another process made room
            Err(error) => return Err(error),
        }
    }
    files.sort();
    let mut bytes: u64 = files.iter().map(|(_, len, _)| len).sum();
    for (_, len, path) in files {
        if bytes <= bytes_max {
            break;
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => bytes -= len,
        }
    }
    Ok(())
}
