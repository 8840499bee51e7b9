//! Levels that several threads count: whoever adds to one holds a guard, which takes its part off again on drop.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A level that is the sum of what its guards hold.
#[derive(Clone, Debug, Default)]
pub(super) struct Level(Arc<AtomicUsize>);

impl Level {
    pub(super) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Adds `amount` for as long as the guard lives.
    pub(super) fn hold(&self, amount: usize) -> Held {
        self.0.fetch_add(amount, Ordering::Relaxed);
        Held { level: Arc::clone(&self.0), amount }
    }

    /// Adds one for as long as the guard lives.
    pub(super) fn hold_one(&self) -> HeldOne {
        self.0.fetch_add(1, Ordering::Relaxed);
        HeldOne(Arc::clone(&self.0))
    }

    /// Adds one for as long as the guard lives; `None`: the level is `most` already.
    pub(super) fn hold_one_of(&self, most: usize) -> Option<HeldOne> {
        let more = |level: usize| (level < most).then(|| level + 1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(HeldOne(Arc::clone(&self.0)))
    }
}

/// A part of a [`Level`].
#[derive(Debug)]
#[must_use = "dropping it takes its part off the level"]
pub(super) struct Held {
    level: Arc<AtomicUsize>,
    amount: usize,
}

impl Held {
    /// Holds another amount from now on.
    pub(super) fn set(&mut self, amount: usize) {
        match amount.checked_sub(self.amount) {
            Some(0) => return,
            Some(more) => self.level.fetch_add(more, Ordering::Relaxed),
            None => self.level.fetch_sub(self.amount - amount, Ordering::Relaxed),
        };
        self.amount = amount;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.level.fetch_sub(self.amount, Ordering::Relaxed);
    }
}

/// One of a [`Level`]: half the size of [`Held`], because every open connection has one.
#[derive(Debug)]
#[must_use = "dropping it takes one off the level"]
pub(super) struct HeldOne(Arc<AtomicUsize>);

impl Drop for HeldOne {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_the_sum_of_what_is_held() {
        let level = Level::default();
        let (mut large, one) = (level.hold(3), level.hold_one());
        for amount in [7, 7, 0, 10] {
            large.set(amount);
            assert_eq!(level.get(), amount + 1);
        }
        let last = level.hold_one_of(12).expect("one is left");
        assert!(level.hold_one_of(12).is_none());
        assert_eq!(level.get(), 12);
        drop(large);
        assert_eq!(level.get(), 2);
        drop((one, last));
        assert_eq!(level.get(), 0);
    }
}
