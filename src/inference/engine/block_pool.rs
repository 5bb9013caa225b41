//! Hands out KV blocks by id, shares those whose tokens are the same, and remembers freed ones for reuse.
//! Knows counts and hashes; holds no tensor, sees no text.

use std::collections::{BTreeMap, HashMap};

use crate::ids::{BlockId, TokenId};
use crate::inference::model::BLOCK_TOKENS;

/// Identifies the tokens of a full block together with everything before them.
pub type BlockHash = [u8; 32];

/// Returns the hash of each full block of `tokens`, each chained to the one before it.
pub fn block_hashes(tokens: &[TokenId]) -> Vec<BlockHash> {
    let mut parent: BlockHash = [0; 32];
    tokens
        .chunks_exact(BLOCK_TOKENS)
        .map(|block| {
            let mut hasher = blake3::Hasher::new();
            hasher.update(&parent);
            block.iter().for_each(|t| {
                hasher.update(&t.to_le_bytes());
            });
            parent = *hasher.finalize().as_bytes();
            parent
        })
        .collect()
}

/// All blocks of the cache and who uses them.
pub struct BlockPool {
    blocks: Vec<Block>,
    free: Vec<BlockId>,           // hold nothing worth keeping
    kept: BTreeMap<u64, BlockId>, // freed but computed, oldest first
    computed: HashMap<BlockHash, BlockId>,
    pending: HashMap<BlockHash, usize>, // being computed, by how many sequences
    clock: u64,
}

#[derive(Clone, Default)]
struct Block {
    users: usize,
    hash: Option<BlockHash>, // set once the block is full and computed
    freed_at: u64,
}

impl BlockPool {
    pub fn new(num_blocks: usize) -> Self {
        Self {
            blocks: vec![Block::default(); num_blocks],
            free: (0..num_blocks as u32).rev().map(BlockId).collect(),
            kept: BTreeMap::new(),
            computed: HashMap::new(),
            pending: HashMap::new(),
            clock: 0,
        }
    }

    pub fn num_blocks(&self) -> usize {
        self.blocks.len()
    }

    /// Blocks that nobody uses, whether or not they still hold something.
    pub fn num_available(&self) -> usize {
        self.free.len() + self.kept.len()
    }

    /// Takes a block for writing; the oldest kept one is forgotten when no empty one is left.
    pub fn take(&mut self) -> Option<BlockId> {
        let id = match self.free.pop() {
            Some(id) => id,
            None => {
                let (_, id) = self.kept.pop_first()?;
                if let Some(hash) = self.blocks[id.index()].hash.take() {
                    self.computed.remove(&hash);
                }
                id
            }
        };
        self.blocks[id.index()].users = 1;
        Some(id)
    }

    /// Finds the block that holds these tokens and adds a user to it.
    pub fn share(&mut self, hash: &BlockHash) -> Option<BlockId> {
        let id = *self.computed.get(hash)?;
        self.add_user(id);
        Some(id)
    }

    /// Adds a user to a block that has one already, or takes it back from those kept.
    pub fn add_user(&mut self, id: BlockId) {
        let block = &mut self.blocks[id.index()];
        if block.users == 0 {
            self.kept.remove(&block.freed_at);
        }
        block.users += 1;
    }

    /// Gives up one use of each block; those with computed tokens are kept until room is needed.
    /// Later blocks of a sequence are given up first, so that its beginning is forgotten last.
    pub fn release(&mut self, blocks: &[BlockId]) {
        for id in blocks.iter().rev() {
            let block = &mut self.blocks[id.index()];
            assert!(block.users > 0, "{id} is released twice");
            block.users -= 1;
            if block.users > 0 {
                continue;
            }
            if block.hash.is_some() {
                self.clock += 1;
                block.freed_at = self.clock;
                self.kept.insert(self.clock, *id);
            } else {
                self.free.push(*id);
            }
        }
    }

    /// Notes that a full block has been computed, so that others can share it from now on.
    pub fn mark_computed(&mut self, id: BlockId, hash: BlockHash) {
        if self.blocks[id.index()].hash.is_none() && !self.computed.contains_key(&hash) {
            self.blocks[id.index()].hash = Some(hash);
            self.computed.insert(hash, id);
        }
    }

    pub fn is_computed(&self, hash: &BlockHash) -> bool {
        self.computed.contains_key(hash)
    }

    /// Notes that a running sequence is going to compute a block with this hash.
    pub fn add_pending(&mut self, hash: BlockHash) {
        *self.pending.entry(hash).or_default() += 1;
    }

    /// Takes the note back: computed, or given up.
    pub fn remove_pending(&mut self, hash: &BlockHash) {
        if let Some(n) = self.pending.get_mut(hash) {
            *n -= 1;
            if *n == 0 {
                self.pending.remove(hash);
            }
        }
    }

    /// Whether some running sequence is about to compute it.
    pub fn is_pending(&self, hash: &BlockHash) -> bool {
        self.pending.contains_key(hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_released_block_is_found_again_until_room_is_needed() {
        let hashes = block_hashes(&(0..64).collect::<Vec<_>>());
        let mut pool = BlockPool::new(2);
        let a = pool.take().unwrap();
        pool.mark_computed(a, hashes[0]);
        pool.release(&[a]);
        assert_eq!(pool.share(&hashes[0]), Some(a));
        pool.release(&[a]);
        assert!(pool.take().is_some() && pool.take().is_some() && pool.take().is_none());
        assert_eq!(pool.share(&hashes[0]), None);
    }

    #[test]
    fn hashes_depend_on_everything_before() {
        let a = block_hashes(&[vec![1; 32], vec![7; 32]].concat());
        let b = block_hashes(&[vec![2; 32], vec![7; 32]].concat());
        assert_ne!(a[1], b[1]);
        assert_eq!(block_hashes(&[1; 63]).len(), 1);
    }
}
