//! The buckets of users on one node, of one scope.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use crate::cluster::ops::{Buckets, Level};
use crate::lock::lock;
use crate::time::Moment;

pub(super) const RATE: f64 = 4.0;
pub(super) const BURST: f64 = 8.0;
pub(super) const LEASE: f64 = 2.0;

#[derive(Default)]
struct Bucket {
    level: f64,
    at: Moment,
    is_shared: bool,
    unreported: f64,
    on_its_way: f64,
    noted: f64,
    /// At least so much is in it, said and not said.
    least: [(f64, Moment); 2],
}

#[derive(Default)]
struct State {
    users: BTreeMap<Arc<str>, Bucket>,
    dirty: BTreeSet<Arc<str>>,
}

#[derive(Default)]
pub(super) struct Fake(Mutex<State>);

impl Bucket {
    fn leak(&mut self, now: Moment) -> &mut Self {
        self.level = (self.level - now.since(self.at).as_secs_f64() * RATE).max(0.0);
        self.at = self.at.max(now);
        self
    }
}

fn left((level, at): (f64, Moment), now: Moment) -> f64 {
    (level - now.since(at).as_secs_f64() * RATE).max(0.0)
}

fn told(units: f64) -> Vec<Level> {
    if units == 0.0 {
        return Vec::new();
    }
    vec![Level { scope: "".into(), units, units_per_second: RATE, bytes: 0.0, bytes_per_second: 0.0 }]
}

fn units(levels: &[Level]) -> f64 {
    levels.iter().map(|level| level.units).sum()
}

impl Fake {
    /// Whether a message passes at once.
    pub(super) fn pass(&self, user: &Arc<str>, now: Moment) -> bool {
        let State { users, dirty } = &mut *lock(&self.0);
        let bucket = users.entry(Arc::clone(user)).or_default().leak(now);
        let leased = bucket.unreported + bucket.on_its_way + bucket.noted;
        if bucket.level + 1.0 > BURST + 1e-9 || (bucket.is_shared && leased + 1.0 > LEASE) {
            return false;
        }
        bucket.level += 1.0;
        if bucket.is_shared {
            bucket.unreported += 1.0;
            dirty.insert(Arc::clone(user));
        }
        true
    }

    /// So much is in the bucket, at least.
    pub(super) fn fill_to(&self, user: &Arc<str>, level: f64, now: Moment) {
        let State { users, dirty } = &mut *lock(&self.0);
        let bucket = users.entry(Arc::clone(user)).or_default().leak(now);
        if level > bucket.level && bucket.is_shared {
            bucket.least[1] = (level, now);
            dirty.insert(Arc::clone(user));
        }
        bucket.level = bucket.level.max(level);
    }

    /// What is in the bucket.
    pub(super) fn level(&self, user: &str, now: Moment) -> f64 {
        self.with(user, |bucket| bucket.leak(now).level)
    }

    pub(super) fn is_shared(&self, user: &str) -> bool {
        lock(&self.0).users.get(user).is_some_and(|bucket| bucket.is_shared)
    }

    fn with<T: Default>(&self, user: &str, then: impl FnOnce(&mut Bucket) -> T) -> T {
        lock(&self.0).users.get_mut(user).map(then).unwrap_or_default()
    }
}

impl Buckets for Fake {
    fn share(&self, user: &str, is_shared: bool, now: Moment) {
        let State { users, dirty } = &mut *lock(&self.0);
        let bucket = users.entry(user.into()).or_default().leak(now);
        if bucket.is_shared != is_shared {
            (bucket.unreported, bucket.on_its_way, bucket.noted) = (0.0, 0.0, 0.0);
            bucket.least = <_>::default();
        }
        bucket.is_shared = is_shared;
        dirty.remove(user);
    }

    fn levels(&self, user: &str, now: Moment) -> Vec<Level> {
        self.with(user, |bucket| told(bucket.leak(now).level))
    }

    fn full(&self, _: &str) -> Vec<Level> {
        told(BURST)
    }

    fn take_dirty(&self) -> Vec<Arc<str>> {
        core::mem::take(&mut lock(&self.0).dirty).into_iter().collect()
    }

    fn take_unreported(&self, user: &str, _: Moment) -> Vec<Level> {
        self.with(user, |bucket| {
            let taken = core::mem::take(&mut bucket.unreported);
            bucket.on_its_way += taken;
            told(taken)
        })
    }

    fn take_least(&self, user: &str, now: Moment) -> Vec<Level> {
        self.with(user, |bucket| {
            let taken = core::mem::take(&mut bucket.least[1]);
            bucket.least[0] = if left(taken, now) > left(bucket.least[0], now) { taken } else { bucket.least[0] };
            told(left(taken, now))
        })
    }

    fn settle(&self, user: &str, levels: &[Level], acknowledges: bool, now: Moment) {
        self.with(user, |bucket| {
            let before = bucket.leak(now).level;
            bucket.noted += core::mem::take(&mut bucket.on_its_way);
            bucket.least[0] = <_>::default();
            bucket.level = units(levels).max(left(bucket.least[1], now)) + bucket.unreported;
            if acknowledges {
                bucket.noted = 0.0;
            } else {
                bucket.level = bucket.level.max(before);
            }
        });
    }

    fn lose(&self, user: &str) {
        let is_lost = self.with(user, |bucket| {
            bucket.unreported += core::mem::take(&mut bucket.on_its_way);
            let said = core::mem::take(&mut bucket.least[0]);
            // Whichever is more at one time is so at every time.
            bucket.least[1] = if left(said, said.1) > left(bucket.least[1], said.1) { said } else { bucket.least[1] };
            bucket.is_shared && (bucket.unreported > 0.0 || bucket.least[1].0 > 0.0)
        });
        if is_lost {
            lock(&self.0).dirty.insert(user.into());
        }
    }

    fn raise(&self, user: &str, levels: &[Level], now: Moment) {
        let State { users, .. } = &mut *lock(&self.0);
        let bucket = users.entry(user.into()).or_default().leak(now);
        bucket.level = bucket.level.max(units(levels));
    }
}
