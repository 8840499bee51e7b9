//! The buckets of users that the nodes of a cluster share: what [`Node`](crate::cluster) asks of them.

use std::sync::Arc;

use super::Limits;
use crate::cluster::ops::{Buckets, Level};
use crate::lock::lock;
use crate::rate::{Amounts, RateKey, SharedUser};
use crate::time::Moment;

/// Scopes of a user whose buckets are made for what other nodes say of them.
const MAX_TOLD_SCOPES: usize = 64;

fn level(scope: &Arc<str>, amounts: Amounts) -> Level {
    let Amounts { units: (units, units_per_second), bytes: (bytes, bytes_per_second) } = amounts;
    Level { scope: Arc::clone(scope), units, units_per_second, bytes, bytes_per_second }
}

fn amounts(level: &Level) -> Amounts {
    Amounts { units: (level.units, level.units_per_second), bytes: (level.bytes, level.bytes_per_second) }
}

impl Limits {
    /// The keys of a user, by scope. They are looked at without the table's lock.
    fn keys_of(&self, user: &str) -> Vec<(Arc<str>, Arc<RateKey>)> {
        lock(&self.users).entries.get(user).map_or_else(Vec::new, |entry| entry.rates.clone())
    }

    /// What `of` says of each of them, where that is something.
    fn each_level(&self, user: &str, of: impl Fn(&RateKey) -> Amounts) -> Vec<Level> {
        let keys = self.keys_of(user);
        let told = keys.iter().map(|(scope, key)| level(scope, of(key)));
        told.filter(|level| !amounts(level).is_nothing()).collect()
    }
}

impl Buckets for Limits {
    fn share(&self, user: &str, is_shared: bool, now: Moment) {
        let mut users = lock(&self.users);
        let known = users.entries.get_key_value(user).map(|(name, _)| Arc::clone(name));
        if known.is_none() && !is_shared {
            return;
        }
        let name = known.unwrap_or_else(|| user.into());
        let entry = users.entry(&name, now);
        if is_shared != entry.shared.is_some() {
            entry.shared = is_shared.then(|| Arc::new(SharedUser::new(name, Arc::clone(&self.dirty))));
        }
        for (_, key) in &entry.rates {
            key.share(entry.shared.as_ref());
        }
    }

    fn levels(&self, user: &str, now: Moment) -> Vec<Level> {
        self.each_level(user, |key| key.level(now))
    }

    fn full(&self, user: &str) -> Vec<Level> {
        self.each_level(user, RateKey::full)
    }

    fn take_dirty(&self) -> Vec<Arc<str>> {
        self.dirty.take()
    }

    fn take_unreported(&self, user: &str, _now: Moment) -> Vec<Level> {
        // First: what passes from here on is noted anew.
        if let Some(shared) = lock(&self.users).entries.get(user).and_then(|entry| entry.shared.as_ref()) {
            shared.asked();
        }
        self.each_level(user, RateKey::take_unreported)
    }

    fn take_least(&self, user: &str, now: Moment) -> Vec<Level> {
        self.each_level(user, |key| key.take_least(now))
    }

    fn settle(&self, user: &str, levels: &[Level], acknowledges: bool, now: Moment) {
        for (scope, key) in self.keys_of(user) {
            let told = levels.iter().find(|level| level.scope == scope).map(amounts);
            key.settle(told.as_ref(), acknowledges, now);
        }
    }

    fn lose(&self, user: &str) {
        self.keys_of(user).iter().for_each(|(_, key)| key.lose());
    }

    fn raise(&self, user: &str, levels: &[Level], now: Moment) {
        let mut users = lock(&self.users);
        let Some(entry) = users.entries.get_mut(user) else { return };
        for level in levels {
            if entry.rates.len() < MAX_TOLD_SCOPES || entry.rates.iter().any(|(scope, _)| *scope == level.scope) {
                entry.rate(&level.scope, now).raise(&amounts(level), now);
            }
        }
    }
}

#[cfg(test)]
mod tests;
