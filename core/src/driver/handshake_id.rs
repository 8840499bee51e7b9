//! The id of one connection in the log, from its first record to its last.

use core::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Names one connection in the log (`hs=`), from the moment that it is accepted to its close, whether it is ever open or not.
///
/// It is counted from a random start, so that no two connections of a process have the same, nor probably those of the process
/// before it. It is for the log: nothing can be asked of the server by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HandshakeId(u64);

impl HandshakeId {
    /// The next.
    pub(super) fn fresh() -> Self {
        static NEXT: LazyLock<AtomicU64> = LazyLock::new(|| AtomicU64::new(RandomState::new().hash_one("handshake")));
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// The id as a number, for languages without types. It may need all 64 bits: as text it is what `Display` writes.
    pub fn to_u64(self) -> u64 {
        self.0
    }
}

/// As the log has it: 16 hexadecimal digits.
impl fmt::Display for HandshakeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_counted_and_have_one_form() {
        let (first, second) = (HandshakeId::fresh(), HandshakeId::fresh());
        assert_ne!(first, second);
        assert_eq!(HandshakeId(0x2a).to_string(), "000000000000002a");
        assert_eq!(first.to_string(), format!("{:016x}", first.to_u64()));
    }
}
