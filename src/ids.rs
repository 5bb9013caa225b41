//! Newtyped ids, so that a block is never taken for a sequence. Knows numbers only.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A token of the model's vocabulary.
pub type TokenId = u32;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $inner:ty, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl $name {
            /// The id as an index.
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
    };
}

id!(
    /// A block of the KV cache, holding a fixed number of consecutive positions.
    BlockId, u32, "block ");
id!(
    /// One request inside the engine, from submission to its last token.
    SequenceId, u64, "sequence ");
id!(
    /// A turn of a transcript: 1-based, in the order of the file; shown as `T12`.
    TurnId, u32, "T");
