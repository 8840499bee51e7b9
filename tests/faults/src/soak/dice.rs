//! Chance that can be repeated: the same seed and stream give the same throws (`SplitMix64`). Nothing here is secret.

use std::ops::Range;
use std::time::Duration;

/// One stream of throws.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    /// Streams of one seed do not depend on one another.
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        let mut dice = Self(seed ^ stream.wrapping_mul(0xd6e8_feb8_6659_fd93));
        dice.throw();
        dice
    }

    fn throw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number of `range`, which must not be empty.
    pub(crate) fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.throw() % (range.end - range.start)
    }

    /// One of some things.
    pub(crate) fn pick<'a, T>(&mut self, things: &'a [T]) -> &'a T {
        &things[self.within(0..things.len() as u64) as usize]
    }

    /// Bytes of any value.
    pub(crate) fn bytes(&mut self, count: u64) -> Vec<u8> {
        (0..count).map(|_| self.throw() as u8).collect()
    }

    /// Sleeps so many milliseconds: the pace of a peer, never a wait for something.
    pub(crate) fn pause(&mut self, range_ms: Range<u64>) {
        std::thread::sleep(Duration::from_millis(self.within(range_ms)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_its_throws_and_streams_differ() {
        let throws = |seed, stream| Dice::new(seed, stream).bytes(64);
        assert_eq!(throws(7, 1), throws(7, 1));
        assert_ne!(throws(7, 1), throws(7, 2));
        assert_ne!(throws(7, 1), throws(8, 1));
        let mut dice = Dice::new(1, 1);
        assert!((0..1000).all(|_| (3..9).contains(&dice.within(3..9))));
    }
}
