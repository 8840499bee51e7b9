//! Chance that can be repeated: the same seed gives the same throws (`SplitMix64`). Nothing here is secret.

use std::ops::Range;
use std::time::Duration;

/// One stream of throws.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// The stream of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// One of many streams of a seed, which do not depend on one another.
    #[must_use]
    pub fn of_stream(seed: u64, stream: u64) -> Self {
        let mut dice = Self(seed ^ stream.wrapping_mul(0xd6e8_feb8_6659_fd93));
        dice.throw();
        dice
    }

    /// Any number.
    pub fn throw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number less than `sides`, which must not be 0.
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.throw() % sides
    }

    /// Whether a roll of so many sides is 0.
    pub fn one_in(&mut self, sides: u64) -> bool {
        self.roll(sides) == 0
    }

    /// A number of `range`, which must not be empty.
    pub fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.roll(range.end - range.start)
    }

    /// One of some things.
    pub fn pick<'a, T>(&mut self, things: &'a [T]) -> &'a T {
        &things[self.roll(things.len() as u64) as usize]
    }

    /// Bytes of any value.
    pub fn bytes(&mut self, count: u64) -> Vec<u8> {
        (0..count).map(|_| self.throw() as u8).collect()
    }

    /// Sleeps so many milliseconds: the pace of a peer, never a wait for something.
    pub fn pause(&mut self, range_ms: Range<u64>) {
        std::thread::sleep(Duration::from_millis(self.within(range_ms)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_its_throws_and_streams_differ() {
        let throws = |seed, stream| Dice::of_stream(seed, stream).bytes(64);
        assert_eq!(throws(7, 1), throws(7, 1));
        assert_ne!(throws(7, 1), throws(7, 2));
        assert_ne!(throws(7, 1), throws(8, 1));
        let mut dice = Dice::new(1);
        assert!((0..1000).all(|_| (3..9).contains(&dice.within(3..9))));
    }
}
