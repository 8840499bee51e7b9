//! When to try again what failed: later each time, and not all nodes at once.

use crate::time::Moment;

const FIRST_MS: u64 = 100;
const LAST_MS: u64 = 5000;

/// Numbers that need not be secret (`SplitMix64`).
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// After 100 ms, then twice as late each time up to 5 s; of each wait a random half is left out.
#[derive(Debug)]
pub struct Backoff {
    random: Random,
    wait_ms: u64,
    at: Moment,
}

impl Backoff {
    /// Nothing has failed yet. Nodes with another seed try again at other times.
    pub fn new(seed: u64) -> Self {
        Self { random: Random::new(seed), wait_ms: FIRST_MS, at: Moment::START }
    }

    /// It was tried in vain.
    pub fn failed(&mut self, now: Moment) {
        // What fails together counts once.
        if now >= self.at {
            let half = self.wait_ms / 2;
            self.at = now.after_millis(half + self.random.next() % (half + 1));
            self.wait_ms = (self.wait_ms * 2).min(LAST_MS);
        }
    }

    /// It went well.
    pub fn succeeded(&mut self) {
        self.wait_ms = FIRST_MS;
    }

    /// When it is tried again.
    pub fn at(&self) -> Moment {
        self.at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_differ() {
        let (mut backoff, mut now) = (Backoff::new(7), Moment::START);
        let mut wait = |backoff: &mut Backoff| {
            backoff.failed(now);
            let wait = backoff.at().since(now).as_millis() as u64;
            now = backoff.at();
            wait
        };
        for whole in [100, 200, 400, 800, 1600, 3200] {
            assert!((whole / 2..=whole).contains(&wait(&mut backoff)));
        }
        let longest: Vec<u64> = (0..100).map(|_| wait(&mut backoff)).collect();
        assert!(longest.iter().all(|wait| (LAST_MS / 2..=LAST_MS).contains(wait)));
        assert!(longest.iter().any(|wait| *wait != longest[0]));
        backoff.succeeded();
        assert!((50..=100).contains(&wait(&mut backoff)));
    }

    #[test]
    fn what_fails_together_counts_once() {
        let mut backoff = Backoff::new(7);
        let now = Moment::from_millis(1);
        backoff.failed(now);
        let at = backoff.at();
        backoff.failed(now);
        assert_eq!(backoff.at(), at);
    }
}
