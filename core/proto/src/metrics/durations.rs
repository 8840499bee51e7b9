//! A histogram of durations: fixed buckets, so that those of all shards and all servers add up.

use core::time::Duration;

/// The upper bounds of the buckets, inclusive, and how they are written: the specification has one form of each number that
/// may be the value of `le`. Timeouts of 5 s, the defaults, end in a bucket of their own.
pub(super) const BOUNDS: [(Duration, &str); 14] = [
    (Duration::from_micros(500), "0.0005"),
    (Duration::from_millis(1), "0.001"),
    (Duration::from_micros(2500), "0.0025"),
    (Duration::from_millis(5), "0.005"),
    (Duration::from_millis(10), "0.01"),
    (Duration::from_millis(25), "0.025"),
    (Duration::from_millis(50), "0.05"),
    (Duration::from_millis(100), "0.1"),
    (Duration::from_millis(250), "0.25"),
    (Duration::from_millis(500), "0.5"),
    (Duration::from_secs(1), "1.0"),
    (Duration::from_millis(2500), "2.5"),
    (Duration::from_secs(5), "5.0"),
    (Duration::from_secs(10), "10.0"),
];

/// The number of buckets; the last is for what is longer than every bound.
pub const BUCKETS: usize = BOUNDS.len() + 1;

/// The bucket that a duration is counted in.
#[must_use]
pub fn bucket_of(took: Duration) -> usize {
    BOUNDS.partition_point(|(bound, _)| *bound < took)
}

/// Durations that were counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Durations {
    /// How many there were in each bucket alone.
    pub buckets: [u64; BUCKETS],
    /// All of them together, in microseconds.
    pub sum_micros: u64,
}

impl Durations {
    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().fold(0, |count, bucket| count.wrapping_add(*bucket))
    }
}
