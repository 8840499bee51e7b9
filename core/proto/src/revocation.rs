//! Which grants a call of `disconnect_user` takes back: those that were made before it, open or not.
//!
//! Between the moment a peer is let in (the application answers, a token or JWT is checked) and the moment its connection
//! is open there is no connection that could be closed. So a grant takes the number of the last revocation with it, a
//! revocation has the next number, and the later number wins: [`Grant::holds`] is asked when the connection opens, and the
//! shards close what is open with an older number. A revocation is remembered while a grant older than it is under way; a call
//! costs O(log n) of the users that are, and each of them has one place, however often it is revoked.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use crate::auth::check_user;
use crate::lock::lock;

/// Users remembered at once. Beyond it the oldest revocations are forgotten, and grants as old as those hold for nobody.
const MAX_REMEMBERED: usize = 65_536;

#[derive(Debug, Default)]
struct State {
    /// The number of the last revocation.
    last: u64,
    /// How many grants are under way, by the revocation they know of.
    under_way: BTreeMap<u64, usize>,
    /// The last revocation of each user that a grant under way does not know of.
    revoked: HashMap<Arc<str>, u64>,
    /// The same by number: however often a user is revoked, it has one place.
    order: BTreeMap<u64, Arc<str>>,
    /// Everything up to this number may have been forgotten too early.
    forgotten: u64,
}

/// The revocations of one server.
#[derive(Debug, Default)]
pub struct Revocations(Mutex<State>);

/// That somebody was let in, until the connection is open or will not be.
#[derive(Debug)]
pub struct Grant {
    revocations: Arc<Revocations>,
    number: u64,
}

impl Revocations {
    /// A grant as of now. Take it before whatever is checked, so that a revocation during the check counts.
    pub fn grant(self: &Arc<Self>) -> Grant {
        let mut state = lock(&self.0);
        let number = state.last;
        *state.under_way.entry(number).or_default() += 1;
        Grant { revocations: Arc::clone(self), number }
    }

    /// The number of the last revocation.
    pub fn last(&self) -> u64 {
        lock(&self.0).last
    }

    /// Takes back every grant of `user` made so far. Its number is for those that are open already: see [`is_older`].
    pub fn revoke(&self, user: &str) -> u64 {
        let mut state = lock(&self.0);
        state.last += 1;
        let number = state.last;
        // A text that names no user has no grant either: what is remembered is bounded in bytes, too.
        if state.under_way.is_empty() || check_user(user).is_err() {
            return number;
        }
        let user: Arc<str> = user.into();
        if let Some(before) = state.revoked.insert(Arc::clone(&user), number) {
            state.order.remove(&before);
        }
        state.order.insert(number, user);
        if state.order.len() > MAX_REMEMBERED {
            state.forgotten = state.forget_first().unwrap_or(0);
        }
        number
    }
}

impl State {
    fn forget_first(&mut self) -> Option<u64> {
        let (number, user) = self.order.pop_first()?;
        self.revoked.remove(&user);
        Some(number)
    }
}

/// Whether a connection granted at `granted` is one that the revocation `number` closes.
pub fn is_older(granted: u64, number: u64) -> bool {
    granted < number
}

impl Grant {
    /// Whether `user` was not revoked since the grant.
    pub fn holds(&self, user: &str) -> bool {
        let state = lock(&self.revocations.0);
        let revoked = state.revoked.get(user).copied().unwrap_or(0).max(state.forgotten);
        !is_older(self.number, revoked)
    }

    /// The revocation that was the last when it was made.
    pub fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        let state = &mut *lock(&self.revocations.0);
        if let Some(count) = state.under_way.get_mut(&self.number) {
            *count -= 1;
            if *count == 0 {
                state.under_way.remove(&self.number);
            }
        }
        let oldest = state.under_way.first_key_value().map_or(state.last, |(number, _)| *number);
        while state.order.first_key_value().is_some_and(|(number, _)| *number <= oldest) {
            state.forget_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    #[test]
    fn the_later_call_wins() {
        let revocations = Arc::new(Revocations::default());
        let before = revocations.grant();
        let number = revocations.revoke("alice");
        assert_eq!(number, revocations.last());
        let after = revocations.grant();
        assert!(!before.holds("alice") && before.holds("bob"));
        assert!(after.holds("alice"));
        assert!(is_older(before.number(), number) && !is_older(after.number(), number));
    }

    #[test]
    fn what_no_grant_can_miss_is_forgotten() {
        let revocations = Arc::new(Revocations::default());
        revocations.revoke("nobody");
        assert!(lock(&revocations.0).order.is_empty());
        let (first, second) = (revocations.grant(), revocations.grant());
        for _ in 0..10 {
            revocations.revoke("alice");
        }
        let third = revocations.grant();
        revocations.revoke("bob");
        drop(first);
        assert_eq!(lock(&revocations.0).order.len(), 2);
        drop(second);
        assert_eq!(lock(&revocations.0).order.len(), 1);
        assert!(third.holds("alice") && !third.holds("bob"));
        drop(third);
        let state = lock(&revocations.0);
        assert!(state.order.is_empty() && state.revoked.is_empty() && state.under_way.is_empty());
    }

    #[test]
    fn whoever_is_revoked_again_and_again_has_one_place() {
        let revocations = Arc::new(Revocations::default());
        let (of_alice, of_bob) = (revocations.grant(), revocations.grant());
        for _ in 0..2 * MAX_REMEMBERED {
            revocations.revoke("alice");
        }
        revocations.revoke(&"x".repeat(1 << 20));
        assert_eq!(lock(&revocations.0).order.len(), 1);
        assert!(!of_alice.holds("alice") && of_bob.holds("bob"));
    }

    #[test]
    fn the_record_is_bounded_and_what_is_forgotten_too_early_holds_for_nobody() {
        let revocations = Arc::new(Revocations::default());
        let old = revocations.grant();
        for user in 0..=MAX_REMEMBERED {
            revocations.revoke(&user.to_string());
        }
        assert_eq!(lock(&revocations.0).order.len(), MAX_REMEMBERED);
        assert!(!old.holds("0") && !old.holds("somebody else"));
        assert!(revocations.grant().holds("0"));
    }

    /// Revocations on their way to a shard, and what is open there.
    #[derive(Default)]
    struct Shard {
        commands: VecDeque<(u64, String)>,
        /// Granted after how many calls, its grant's number, its user.
        open: Vec<(usize, u64, String)>,
    }

    impl Shard {
        fn carry_out_one(&mut self) {
            if let Some((number, user)) = self.commands.pop_front() {
                self.open.retain(|(_, granted, own)| *own != user || !is_older(*granted, number));
            }
        }
    }

    proptest! {
        /// Grants, calls, openings and shards that come to their commands late, in any order: once all is carried out,
        /// nobody is open who was let in before a call, and everybody else is.
        #[test]
        fn a_call_leaves_nobody_and_takes_nobody_else(
            steps in prop::collection::vec((0u8..6, 0u8..3, 0usize..2, 0usize..8), 0..200),
        ) {
            let revocations = Arc::new(Revocations::default());
            let mut shards = [Shard::default(), Shard::default()];
            // In the order of the calls: whom they were for.
            let mut calls: Vec<String> = Vec::new();
            let mut under_way: Vec<(usize, Grant, String)> = Vec::new();
            let mut expected: Vec<(usize, String)> = Vec::new();
            for (what, user, shard, index) in steps {
                let user = user.to_string();
                match what {
                    0 | 1 => under_way.push((calls.len(), revocations.grant(), user)),
                    2 => {
                        let number = revocations.revoke(&user);
                        for shard in &mut shards { shard.commands.push_back((number, user.clone())); }
                        calls.push(user);
                    }
                    3 if index < under_way.len() => {
                        let (at, grant, user) = under_way.swap_remove(index);
                        let revoked = calls[at..].contains(&user);
                        prop_assert_eq!(grant.holds(&user), !revoked);
                        if !revoked {
                            shards[shard].open.push((at, grant.number(), user.clone()));
                            expected.push((at, user));
                        }
                    }
                    // The peer leaves.
                    4 if index < under_way.len() => drop(under_way.swap_remove(index)),
                    _ => shards[shard].carry_out_one(),
                }
            }
            for shard in &mut shards {
                while !shard.commands.is_empty() { shard.carry_out_one(); }
            }
            expected.retain(|(at, user)| !calls[*at..].contains(user));
            let mut open: Vec<_> = shards.iter().flat_map(|shard| &shard.open).map(|(at, _, user)| (*at, user.clone())).collect();
            open.sort();
            expected.sort();
            prop_assert_eq!(open, expected);
            under_way.clear();
            prop_assert!(lock(&revocations.0).order.is_empty());
        }
    }
}
