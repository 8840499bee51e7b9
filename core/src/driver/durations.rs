//! How long things took: counted by a shard alone, read by anyone.

use core::time::Duration;
use std::sync::atomic::{AtomicU64, Ordering};

use super::clock::Clock;
use super::stats::add;
use wsguard_proto::metrics::{BUCKETS, Durations, bucket_of};
use wsguard_proto::time::Moment;

/// What a shard counts the time of.
#[derive(Debug, Default)]
pub(super) struct ShardDurations {
    /// From the accept of a connection to the decision on its handshake.
    pub(super) handshakes: DurationCounts,
    /// Authentication alone.
    pub(super) auths: DurationCounts,
}

/// Durations that one shard has counted.
#[derive(Debug)]
pub(super) struct DurationCounts {
    buckets: [AtomicU64; BUCKETS],
    sum_micros: AtomicU64,
}

impl Default for DurationCounts {
    fn default() -> Self {
        Self { buckets: [const { AtomicU64::new(0) }; BUCKETS], sum_micros: AtomicU64::new(0) }
    }
}

impl DurationCounts {
    /// Counts one. Only the shard's own thread calls this.
    pub(super) fn count(&self, took: Duration) {
        add(&self.buckets[bucket_of(took)], 1);
        add(&self.sum_micros, u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    /// Counts the time from now until the guard is dropped.
    pub(super) fn time(&self, clock: Clock) -> Timing<'_> {
        Timing { counts: self, clock, began: clock.now() }
    }

    /// Adds them to those of other shards.
    pub(super) fn add_to(&self, sum: &mut Durations) {
        for (bucket, sum) in self.buckets.iter().zip(&mut sum.buckets) {
            *sum = sum.wrapping_add(bucket.load(Ordering::Relaxed));
        }
        sum.sum_micros = sum.sum_micros.wrapping_add(self.sum_micros.load(Ordering::Relaxed));
    }
}

/// A duration that has begun.
#[must_use = "dropping it ends the duration"]
pub(super) struct Timing<'c> {
    counts: &'c DurationCounts,
    clock: Clock,
    began: Moment,
}

impl Drop for Timing<'_> {
    fn drop(&mut self) {
        self.counts.count(self.clock.now().since(self.began));
    }
}
