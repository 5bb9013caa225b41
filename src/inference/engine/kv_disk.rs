//! Keys and values of long prompts, kept on disk from one run to the next: a file for each segment of blocks, named by
//! the model and by all tokens up to the segment's end; of a prompt's last blocks, a file for each block. A file that is
//! not whole is removed and computed again.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::block_pool::{BlockHash, BlockPool};
use crate::ids::BlockId;
use crate::inference::model::{BLOCK_TOKENS, BlockBytes};

/// Bytes of all files together, of whatever model; those not used for the longest time go first.
pub const KV_DISK_BYTES_MAX: u64 = 4 << 30;
/// Prompts shorter than this are sooner computed than fetched.
pub(super) const KEPT_TOKENS_MIN: usize = 1024;
/// Blocks of one file.
pub(super) const SEGMENT_BLOCKS: usize = 8;
/// This many of a prompt's last blocks, and up to a segment more, have files of their own. A document is followed by a
/// question: in a segment that holds some of it, the end of the document would be of no use to the next question.
const SINGLE_BLOCKS_MIN: usize = SEGMENT_BLOCKS;
/// Raised when the layout of a file or of a block changes.
const FORMAT: &str = "quarry kv 2";
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

    /// Puts the blocks of a prompt that are here and not in the pool into blocks of the pool, from the first one on.
    pub fn restore(&self, hashes: &[BlockHash], pool: &mut BlockPool, model: &mut dyn BlockBytes) {
        let mut held: Vec<BlockId> = Vec::new(); // so that one block does not push out another
        for segment in hashes.chunks(SEGMENT_BLOCKS) {
            let is_full = segment.len() == SEGMENT_BLOCKS;
            if is_full && self.restore_file(segment, pool, model, &mut held) {
                continue;
            }
            if !segment.chunks(1).all(|single| self.restore_file(single, pool, model, &mut held)) {
                break;
            }
        }
        pool.release(&held);
    }

    /// Sees to it that the blocks of one file are in the pool, and held there; `false` where they cannot be had.
    fn restore_file(
        &self,
        blocks: &[BlockHash],
        pool: &mut BlockPool,
        model: &mut dyn BlockBytes,
        held: &mut Vec<BlockId>,
    ) -> bool {
        let (present, missing): (Vec<_>, Vec<_>) = (0..).zip(blocks).partition(|(_, h)| pool.is_computed(h));
        held.extend(present.iter().filter_map(|(_, hash)| pool.share(hash)));
        if missing.is_empty() {
            return true;
        }
        if missing.len() > pool.num_available() || missing.iter().any(|(_, h)| pool.is_pending(h)) {
            return false;
        }
        let Some(bytes) = self.load(blocks, model.block_bytes()) else { return false };
        missing.into_iter().all(|(at, hash)| {
            let Some(block) = pool.take() else { return false };
            let from = CHECKSUM_BYTES + at * model.block_bytes();
            model.write_block(block, &bytes[from..from + model.block_bytes()]);
            pool.mark_computed(block, *hash);
            held.push(block);
            true
        })
    }

    /// Keeps the blocks of a prompt, which are computed; those that are here become the newest.
    pub fn keep(&mut self, hashes: &[BlockHash], blocks: &[BlockId], model: &dyn BlockBytes) {
        if !self.writable {
            return;
        }
        if let Err(error) = self.write_files(hashes, blocks, model) {
            self.writable = false;
            let folder = self.folder.path.display();
            (self.folder.tell)(&format!("{folder}: keys and values are not kept any more in this run: {error}"));
        }
    }

    fn write_files(&self, hashes: &[BlockHash], blocks: &[BlockId], model: &dyn BlockBytes) -> io::Result<()> {
        let num_blocks = hashes.len().min(blocks.len());
        let in_segments = num_blocks.saturating_sub(SINGLE_BLOCKS_MIN) / SEGMENT_BLOCKS * SEGMENT_BLOCKS;
        let segments = (0..in_segments).step_by(SEGMENT_BLOCKS).map(|at| at..at + SEGMENT_BLOCKS);
        let files = segments.chain((in_segments..num_blocks).map(|at| at..at + 1));
        let bytes_of = |blocks: usize| (CHECKSUM_BYTES + blocks * model.block_bytes()) as u64;
        let mut bytes = 0;
        let files = files.take_while(|blocks| {
            bytes += bytes_of(blocks.len());
            bytes <= self.folder.bytes_max
        });
        let (mut wrote, now) = (false, SystemTime::now());
        // The beginning of a prompt is worth the most, and is the newest: said to the microsecond, for a file system's
        // own clock stands still while many files are written.
        for range in files.collect::<Vec<_>>().into_iter().rev() {
            let time = now - Duration::from_micros(range.start as u64);
            let (hashes, blocks) = (&hashes[range.clone()], &blocks[range]);
            let path = self.path(hashes);
            match File::options().write(true).open(&path) {
                Ok(file) => file.set_modified(time)?,
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    let mut bytes = vec![0; CHECKSUM_BYTES];
                    blocks.iter().for_each(|block| model.read_block(*block, &mut bytes));
                    let checksum = checksum(&bytes[CHECKSUM_BYTES..]);
                    bytes[..CHECKSUM_BYTES].copy_from_slice(&checksum);
                    let mut file = tempfile::NamedTempFile::new_in(&self.folder.path)?;
                    file.write_all(&bytes)?;
                    file.as_file().set_modified(time)?;
                    file.persist(&path).map_err(|e| e.error)?;
                    wrote = true;
                }
                Err(error) => return Err(error),
            }
        }
        if wrote { make_room(&self.folder.path, self.folder.bytes_max) } else { Ok(()) }
    }

    /// Returns the whole file of these blocks if it is here and whole.
    fn load(&self, blocks: &[BlockHash], block_bytes: usize) -> Option<Vec<u8>> {
        let path = self.path(blocks);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return None,
            Err(error) => {
                (self.folder.tell)(&format!("{}: {error}; its tokens are computed again", path.display()));
                return None;
            }
        };
        let whole = bytes.len() == CHECKSUM_BYTES + blocks.len() * block_bytes;
        if whole && bytes[..CHECKSUM_BYTES] == checksum(&bytes[CHECKSUM_BYTES..]) {
            return Some(bytes);
        }
        let removed =
            fs::remove_file(&path).map_or_else(|e| format!("cannot be removed ({e})"), |()| "is removed".into());
        (self.folder.tell)(&format!("{} is damaged and {removed}; its tokens are computed again", path.display()));
        None
    }

    fn path(&self, blocks: &[BlockHash]) -> PathBuf {
        let mut hasher = blake3::Hasher::new();
        hasher.update(format!("{FORMAT}\n{}\n{}\n", self.model, blocks.len()).as_bytes());
        // Each hash stands for everything before it.
        blocks.last().iter().for_each(|hash| {
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
