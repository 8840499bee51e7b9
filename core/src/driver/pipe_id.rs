//! The ids of pipes, by which events name them.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The id of a pipe, unique in the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PipeId(u64);

impl PipeId {
    /// The id as a number, for languages without types: below 2^53, so that every language has it exactly.
    pub fn to_u64(self) -> u64 {
        self.0
    }

    /// An id from its number.
    pub fn from_u64(number: u64) -> Self {
        Self(number)
    }

    /// The next.
    pub(super) fn fresh() -> Self {
        static NEXT: LazyLock<AtomicU64> =
            LazyLock::new(|| AtomicU64::new(RandomState::new().hash_one("pipe") & ((1 << 52) - 1)));
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl fmt::Display for PipeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}
