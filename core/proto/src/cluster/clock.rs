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

/// What is known of the clock of Redis.
#[derive(Default)]
pub(super) struct StoreClock(VecDeque<Sample>);

impl StoreClock {
    /// An answer to a question of `sent`, received at `received`.
    pub(super) fn note(&mut self, sent: Moment, received: Moment, store: StoreTime) {
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
