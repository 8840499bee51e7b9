//! When to try again what failed: later each time, and not all nodes at once.

use crate::time::Moment;

const FIRST_MS: u64 = 100;
const LAST_MS: u64 = 5000;

/// Numbers that need not be secret (`SplitMix64`).
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
pub(super) struct Backoff {
    random: Random,
    wait_ms: u64,
    at: Moment,
}

impl Backoff {
    pub(super) fn new(seed: u64) -> Self {
        Self { random: Random::new(seed), wait_ms: FIRST_MS, at: Moment::START }
    }

    pub(super) fn failed(&mut self, now: Moment) {
        // What fails together counts once.
        if now >= self.at {
            let half = self.wait_ms / 2;
            self.at = now.after_millis(half + self.random.next() % (half + 1));
            self.wait_ms = (self.wait_ms * 2).min(LAST_MS);
        }
    }

    pub(super) fn succeeded(&mut self) {
        self.wait_ms = FIRST_MS;
    }

    /// When it is tried again.
    pub(super) fn at(&self) -> Moment {
        self.at
    }
}
