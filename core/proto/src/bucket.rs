//! The leaky bucket as arithmetic on `now`: no timer, no thread, eight bytes of state.
//!
//! A bucket holds `burst` units and leaks `per_second` of them. Its whole state is the moment at which it will be
//! empty; pouring moves that moment. What does not fit is not refused here: [`Bucket::pour`] says *when* it fits, and
//! the caller decides whether it waits or is discarded.

use core::fmt;

use crate::time::Moment;

/// How fast a bucket leaks and how much it holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    nanos_per_unit: f64,
    burst_nanos: u64,
    /// As they were stated, for a log line.
    per_second: f64,
    burst: f64,
}

impl Rate {
    /// A rate of `per_second` units (over 0) with room for `burst` of them.
    pub fn new(per_second: f64, burst: f64) -> Self {
        let nanos_per_unit = 1e9 / per_second;
        Self { nanos_per_unit, burst_nanos: (burst * nanos_per_unit).ceil() as u64, per_second, burst }
    }

    /// This many times the rate, with room for as many times the burst.
    #[must_use]
    pub fn times(&self, factor: u32) -> Self {
        // A unit takes that much less time, and the room is counted in time.
        let factor = f64::from(factor);
        let (per_second, burst) = (self.per_second * factor, self.burst * factor);
        Self { nanos_per_unit: self.nanos_per_unit / factor, burst_nanos: self.burst_nanos, per_second, burst }
    }

    /// As it was stated.
    pub(crate) fn per_second(&self) -> f64 {
        self.per_second
    }

    /// How much it holds, as it was stated.
    pub(crate) fn burst(&self) -> f64 {
        self.burst
    }

    /// How much a node may at most let pass that the others do not know of yet: a quarter of what it holds, and one unit at least.
    pub(crate) fn lease(&self) -> f64 {
        (self.burst / 4.0).max(1.0)
    }

    /// The time that `amount` units take to leak. Rounded down, so that exactly `burst` units always fit.
    #[inline]
    pub(crate) fn leak_nanos(&self, amount: f64) -> u64 {
        // By way of `i64`: every message is reckoned twice, and processors have no conversion to `u64`. Three centuries are enough.
        ((amount * self.nanos_per_unit) as i64).max(0) as u64
    }

    /// How much leaks in a time.
    #[inline]
    pub(crate) fn leaked_in(&self, nanos: u64) -> f64 {
        nanos as f64 * self.per_second / 1e9
    }

    /// The time that a full bucket takes to leak.
    pub(crate) fn burst_nanos(&self) -> u64 {
        self.burst_nanos
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "per_second {}, burst {}", self.per_second, self.burst)
    }
}

/// One leaky bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    empty_at: Moment,
}

impl Bucket {
    /// When `amount` more units would fit; not later than `now` means at once. Pours nothing.
    pub fn fits_at(&self, rate: &Rate, amount: u64, now: Moment) -> Moment {
        let full = self.empty_at.max(now).after_nanos(rate.leak_nanos(amount as f64));
        Moment::from_nanos(full.as_nanos().saturating_sub(rate.burst_nanos)).max(now)
    }

    /// Pours `amount` units and returns when they pass: `now`, or later when the bucket is full.
    pub fn pour(&mut self, rate: &Rate, amount: u64, now: Moment) -> Moment {
        let passes_at = self.fits_at(rate, amount, now);
        self.empty_at = self.empty_at.max(now).after_nanos(rate.leak_nanos(amount as f64));
        passes_at
    }

    /// Pours `amount` units only when they fit at once; otherwise says when they would.
    pub fn try_pour(&mut self, rate: &Rate, amount: u64, now: Moment) -> Result<(), Moment> {
        let fits_at = self.fits_at(rate, amount, now);
        if fits_at > now {
            return Err(fits_at);
        }
        self.pour(rate, amount, now);
        Ok(())
    }

    /// When nothing is left in it.
    pub fn empty_at(&self) -> Moment {
        self.empty_at
    }

    /// A bucket that will be empty at `empty_at`.
    pub(crate) fn emptying_at(empty_at: Moment) -> Self {
        Self { empty_at }
    }

    /// Whether nothing is left in it: a table may forget it without forgiving anything.
    pub fn is_empty(&self, now: Moment) -> bool {
        self.empty_at <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn burst_passes_at_once_then_one_per_interval() {
        let rate = Rate::new(20.0, 40.0);
        let mut bucket = Bucket::default();
        let now = Moment::from_millis(1000);
        for _ in 0..40 {
            assert_eq!(bucket.pour(&rate, 1, now), now);
        }
        assert_eq!(bucket.pour(&rate, 1, now), now.after_millis(50));
        assert_eq!(bucket.pour(&rate, 1, now), now.after_millis(100));
    }

    #[test]
    fn try_pour_leaves_a_full_bucket_as_it_is() {
        let rate = Rate::new(1.0, 1.0);
        let mut bucket = Bucket::default();
        let now = Moment::from_millis(5);
        assert_eq!(bucket.try_pour(&rate, 1, now), Ok(()));
        for _ in 0..10 {
            assert_eq!(bucket.try_pour(&rate, 1, now), Err(now.after_millis(1000)));
        }
        assert_eq!(bucket.try_pour(&rate, 1, now.after_millis(1000)), Ok(()));
    }

    #[test]
    fn far_future_saturates() {
        let rate = Rate::new(0.000_001, 1.0);
        let mut bucket = Bucket::default();
        for _ in 0..100 {
            bucket.pour(&rate, u64::MAX, Moment::NEVER);
        }
        assert!(!bucket.is_empty(Moment::from_millis(1)));
    }

    proptest! {
        /// The model: a level that falls with time and rises with each unit (one message of tolerance).
        #[test]
        fn agrees_with_a_level_model(
            per_second in 0.5f64..5000.0, burst in 1u32..100,
            steps in prop::collection::vec((0u64..500_000_000, 1u64..4), 1..300),
        ) {
            let rate = Rate::new(per_second, f64::from(burst));
            let mut bucket = Bucket::default();
            let (mut level, mut now, mut last) = (0f64, Moment::from_millis(1), Moment::from_millis(1));
            for (wait, cost) in steps {
                now = now.after_nanos(wait);
                level = (level - now.since(last).as_secs_f64() * per_second).max(0.0);
                last = now;
                let fits = level + cost as f64 <= f64::from(burst);
                let margin = (level + cost as f64 - f64::from(burst)).abs();
                let got = bucket.try_pour(&rate, cost, now).is_ok();
                prop_assert!(got == fits || margin < 0.01, "level {level} cost {cost}");
                if got { level += cost as f64; }
            }
        }
    }
}
