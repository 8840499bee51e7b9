//! The clock of Redis, as far as a node knows it: each answer with a time says where it was between question and answer.

use std::collections::VecDeque;

use super::ops::StoreTime;
use crate::time::Moment;

/// Answers that are remembered: the one with the shortest way counts.
const SAMPLES: usize = 8;

#[derive(Clone, Copy)]
struct Sample {
    received: Moment,
    way_nanos: u64,
    store: StoreTime,
}

impl Sample {
    /// Whether a later answer, to a question of `sent`, cannot be of the same clock, however long the ways took.
    fn is_contradicted(&self, sent: Moment, received: Moment, store: StoreTime) -> bool {
        let micros = |nanos: u64| nanos / 1000;
        let passed = micros(received.since_nanos(self.received));
        // One clock in a thousand is this wrong, and 10 ms.
        let tolerance = passed / 1000 + 10_000;
        let latest = self.store.0.saturating_add(passed + micros(self.way_nanos) + tolerance);
        let before = micros(sent.since_nanos(self.received));
        let earliest = self.store.0.saturating_add(before).saturating_sub(tolerance);
        store.0 > latest || store.0 < earliest
    }
}

/// What is known of the clock of Redis.
#[derive(Default)]
pub(super) struct StoreClock(VecDeque<Sample>);

impl StoreClock {
    /// An answer to a question of `sent`, received at `received`.
    pub(super) fn note(&mut self, sent: Moment, received: Moment, store: StoreTime) {
        if self.0.back().is_some_and(|last| last.is_contradicted(sent, received, store)) {
            // It was set: what was known of it says when nothing is.
            self.forget();
        }
        if self.0.len() == SAMPLES {
            self.0.pop_front();
        }
        self.0.push_back(Sample { received, way_nanos: received.since_nanos(sent), store });
    }

    /// Another server may have another clock.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }

    fn best(&self) -> Option<Sample> {
        self.0.iter().rev().min_by_key(|sample| sample.way_nanos).copied()
    }

    /// When it was this time at Redis: not earlier than it was.
    pub(super) fn local(&self, time: StoreTime) -> Option<Moment> {
        let sample = self.best()?;
        let later = time.0.saturating_sub(sample.store.0).saturating_mul(1000);
        let earlier = sample.store.0.saturating_sub(time.0).saturating_mul(1000);
        Some(Moment::from_nanos(sample.received.after_nanos(later).as_nanos().saturating_sub(earlier)))
    }

    /// What time it was at Redis: not later than it was.
    pub(super) fn store(&self, moment: Moment) -> Option<StoreTime> {
        let sample = self.best()?;
        let ago = sample.received.since_nanos(moment).div_ceil(1000);
        let ahead = moment.since_nanos(sample.received) / 1000;
        Some(StoreTime(sample.store.0.saturating_add(ahead).saturating_sub(ago)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Redis is `offset` µs ahead; ways there and back take what they take.
        #[test]
        fn never_earlier_than_it_was(
            offset in 0u64..1_000_000_000_000, ways in prop::collection::vec((0u64..500_000, 0u64..500_000), 1..20),
            at in 0u64..100_000_000,
        ) {
            let mut clock = StoreClock::default();
            let mut now = 50_000_000;
            let mut best = u64::MAX;
            for (index, (there, back)) in ways.iter().enumerate() {
                let micros = |micros: u64| Moment::from_nanos(micros * 1000);
                clock.note(micros(now), micros(now + there + back), StoreTime(offset + now + there));
                if index + SAMPLES >= ways.len() {
                    best = best.min(there + back);
                }
                now += 1_000_000;
            }
            let local = clock.local(StoreTime(offset + at)).unwrap().as_nanos() / 1000;
            prop_assert!((at..=at + best).contains(&local), "{local} {at}");
            let store = clock.store(Moment::from_nanos(at * 1000)).unwrap().0;
            prop_assert!((offset + at).saturating_sub(best) <= store && store <= offset + at);
        }
    }

    #[test]
    fn a_clock_that_was_set_is_not_read_by_what_was_known_before() {
        const HOUR: u64 = 3_600_000_000;
        for (set_to, offset) in [(9 * HOUR, 9 * HOUR), (11 * HOUR, 11 * HOUR), (10 * HOUR, 10 * HOUR)] {
            let mut clock = StoreClock::default();
            // The best answer is an old one.
            clock.note(Moment::from_millis(1000), Moment::from_millis(1001), StoreTime(10 * HOUR + 1_000_500));
            clock.note(Moment::from_millis(2000), Moment::from_millis(2010), StoreTime(10 * HOUR + 2_005_000));
            clock.note(Moment::from_millis(4000), Moment::from_millis(4200), StoreTime(set_to + 4_100_000));
            let local = clock.local(StoreTime(offset + 4_000_000)).unwrap();
            assert!((4000..=4200).contains(&(local.as_nanos() / 1_000_000)), "{local:?}");
        }
    }

    #[test]
    fn a_broken_clock_does_not_panic() {
        let mut clock = StoreClock::default();
        assert_eq!(clock.local(StoreTime(1)), None);
        for store in [0, u64::MAX] {
            clock.forget();
            clock.note(Moment::from_millis(2), Moment::from_millis(1), StoreTime(store));
            for time in [0, 1, u64::MAX] {
                assert!(clock.local(StoreTime(time)).is_some() && clock.store(Moment::from_nanos(time)).is_some());
            }
        }
    }
}
