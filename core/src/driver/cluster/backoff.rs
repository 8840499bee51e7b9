//! When to try again: longer each time, and not at the same time as other nodes.

use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, SystemTime};

const FIRST_MS: u64 = 100;
const LONGEST_MS: u64 = 5000;

/// How often it was tried in vain.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

/// A number that nobody can foresee. Not of `RandomState` alone: children of `fork` inherit its keys, and those of one parent would
/// all be the same node.
pub(super) fn dice() -> u64 {
    let mut drawn = [0; 8];
    match rustls::crypto::aws_lc_rs::default_provider().secure_random.fill(&mut drawn) {
        Ok(()) => u64::from_ne_bytes(drawn),
        Err(_) => RandomState::new().hash_one((std::process::id(), SystemTime::now())),
    }
}

impl Backoff {
    /// How long to wait now.
    pub(super) fn next(&mut self) -> Duration {
        let wait = self.wait(dice());
        self.failures = self.failures.saturating_add(1);
        wait
    }

    /// Half of it and as much as the dice say of the other half.
    fn wait(&self, dice: u64) -> Duration {
        let whole = FIRST_MS.saturating_mul(1 << self.failures.min(10)).min(LONGEST_MS);
        Duration::from_millis(whole / 2 + dice % (whole / 2 + 1))
    }

    /// It went well.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_differ() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.wait(0), Duration::from_millis(50));
        assert_eq!(backoff.wait(50), Duration::from_millis(100));
        for _ in 0..100 {
            let wait = backoff.next();
            assert!((50..=LONGEST_MS).contains(&(wait.as_millis() as u64)));
        }
        assert_eq!(backoff.wait(0), Duration::from_millis(LONGEST_MS / 2));
        backoff.reset();
        assert_eq!(backoff.wait(0), Duration::from_millis(50));
    }
}
