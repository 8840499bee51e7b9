//! Which grants a call of `disconnect_user` takes back: those that were made before it, open or not.
//!
//! Between the moment a peer is let in (the application answers, a token or JWT is checked) and the moment its connection
//! is open there is no connection that could be closed. So a grant and a revocation each take a number with them, and the later
//! number wins: [`Grant::holds`] is asked when the connection opens, and the shards close what is open with an older number.
//! A number is a time, in microseconds of this node's clock, so that a revocation of another node's can be told by the moment at
//! which it was made ([`Revocations::revoke_at`]); what is said here has its own order, whatever the clock says.
//!
//! A revocation is remembered while a grant older than it is under way; a call costs O(log n) of the users that are, and each of
//! them has one place, however often it is revoked.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use crate::auth::check_user;
use crate::lock::lock;
use crate::time::Moment;

/// Users remembered at once. Beyond it the oldest revocations are forgotten, and grants as old as those hold for nobody.
const MAX_REMEMBERED: usize = 65_536;

#[derive(Debug, Default)]
struct State {
    /// The highest number so far.
    last: u64,
    /// How many grants are under way, by number.
    under_way: BTreeMap<u64, usize>,
    /// The last revocation of each user that a grant under way is older than.
    revoked: HashMap<Arc<str>, u64>,
    /// The same by number: however often a user is revoked, it has one place.
    order: BTreeSet<(u64, Arc<str>)>,
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
    pub fn grant(self: &Arc<Self>, now: Moment) -> Grant {
        let mut state = lock(&self.0);
        let number = state.last.max(number_at(now));
        state.last = number;
        *state.under_way.entry(number).or_default() += 1;
        Grant { revocations: Arc::clone(self), number }
    }

    /// The highest number so far.
    pub fn last(&self) -> u64 {
        lock(&self.0).last
    }

    /// Takes back every grant of `user` made so far. Its number is for those that are open already: see [`is_older`].
    pub fn revoke(&self, user: &str, now: Moment) -> u64 {
        let mut state = lock(&self.0);
        let number = number_at(now).max(state.last + 1);
        state.last = number;
        state.remember(user, number);
        number
    }

    /// Takes back every grant of `user` made before `moment`, which is past: another node has said so then.
    pub fn revoke_at(&self, user: &str, moment: Moment, now: Moment) -> u64 {
        let number = number_at(moment.min(now));
        lock(&self.0).remember(user, number);
        number
    }

    /// Takes back every grant made before `moment`, which is past: whom other nodes have revoked until then is not known any more.
    pub fn revoke_all_at(&self, moment: Moment, now: Moment) -> u64 {
        let number = number_at(moment.min(now));
        let state = &mut *lock(&self.0);
        state.forgotten = state.forgotten.max(number);
        number
    }
}

fn number_at(moment: Moment) -> u64 {
    moment.as_nanos() / 1000
}

impl State {
    fn remember(&mut self, user: &str, number: u64) {
        // A text that names no user has no grant either: what is remembered is bounded in bytes, too.
        if self.under_way.first_key_value().is_none_or(|(oldest, _)| *oldest >= number) || check_user(user).is_err() {
            return;
        }
        let (user, before) = match self.revoked.get_key_value(user) {
            // Of two nodes the later may be heard first.
            Some((_, before)) if *before >= number => return,
            Some((user, before)) => (Arc::clone(user), Some(*before)),
            None => (user.into(), None),
        };
        if let Some(before) = before {
            self.order.remove(&(before, Arc::clone(&user)));
        }
        self.revoked.insert(Arc::clone(&user), number);
        self.order.insert((number, user));
        if self.order.len() > MAX_REMEMBERED {
            self.forgotten = self.forgotten.max(self.forget_first().unwrap_or(0));
        }
    }

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

    /// Its place among the revocations: see [`is_older`].
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
        while state.order.first().is_some_and(|(number, _)| *number <= oldest) {
            state.forget_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    const NOW: Moment = Moment::from_millis(5);

    #[test]
    fn the_later_call_wins() {
        let revocations = Arc::new(Revocations::default());
        let before = revocations.grant(NOW);
        let number = revocations.revoke("alice", NOW);
        assert_eq!(number, revocations.last());
        let after = revocations.grant(NOW);
        assert!(!before.holds("alice") && before.holds("bob"));
        assert!(after.holds("alice"));
        assert!(is_older(before.number(), number) && !is_older(after.number(), number));
    }

    #[test]
    fn what_no_grant_can_miss_is_forgotten() {
        let revocations = Arc::new(Revocations::default());
        revocations.revoke("nobody", NOW);
        assert!(lock(&revocations.0).order.is_empty());
        let (first, second) = (revocations.grant(NOW), revocations.grant(NOW));
        for _ in 0..10 {
            revocations.revoke("alice", NOW);
        }
        let third = revocations.grant(NOW);
        revocations.revoke("bob", NOW);
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
        let (of_alice, of_bob) = (revocations.grant(NOW), revocations.grant(NOW));
        for _ in 0..2 * MAX_REMEMBERED {
            revocations.revoke("alice", NOW);
        }
        revocations.revoke(&"x".repeat(1 << 20), NOW);
        assert_eq!(lock(&revocations.0).order.len(), 1);
        assert!(!of_alice.holds("alice") && of_bob.holds("bob"));
    }

    #[test]
    fn the_record_is_bounded_and_what_is_forgotten_too_early_holds_for_nobody() {
        let revocations = Arc::new(Revocations::default());
        let old = revocations.grant(NOW);
        for user in 0..=MAX_REMEMBERED {
            revocations.revoke(&user.to_string(), NOW);
        }
        assert_eq!(lock(&revocations.0).order.len(), MAX_REMEMBERED);
        assert!(!old.holds("0") && !old.holds("somebody else"));
        assert!(revocations.grant(NOW).holds("0"));
    }

    /// Another node has revoked at a moment of the past: who was let in later stays.
    #[test]
    fn a_revocation_counts_from_the_moment_at_which_it_was_made() {
        let revocations = Arc::new(Revocations::default());
        let at = |millis| Moment::from_millis(millis);
        let (early, late) = (revocations.grant(at(10)), revocations.grant(at(20)));
        let number = revocations.revoke_at("alice", at(15), at(30));
        assert!(!early.holds("alice") && early.holds("bob") && late.holds("alice"));
        assert!(is_older(early.number(), number) && !is_older(late.number(), number));
        // Heard later, made earlier; and one by a clock that is ahead.
        revocations.revoke_at("alice", at(5), at(31));
        assert!(!early.holds("alice"));
        revocations.revoke_at("bob", at(1_000_000), at(32));
        assert!(!late.holds("bob") && revocations.grant(at(32)).holds("bob"));
        let all = revocations.revoke_all_at(at(15), at(40));
        assert!(!early.holds("carol") && late.holds("carol") && is_older(early.number(), all));
    }

    #[test]
    fn calls_have_an_order_also_where_the_clock_stands_still() {
        let revocations = Arc::new(Revocations::default());
        let numbers = [(); 3].map(|()| (revocations.grant(NOW).number(), revocations.revoke("alice", NOW)));
        assert!(numbers.iter().all(|(grant, call)| grant < call) && numbers.is_sorted());
        assert!(numbers.windows(2).all(|pair| pair[0].1 <= pair[1].0));
        assert!(revocations.grant(Moment::START).number() >= revocations.last());
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
            steps in prop::collection::vec((0u8..6, 0u8..3, 0usize..2, 0usize..8, 0u64..3), 0..200),
        ) {
            let revocations = Arc::new(Revocations::default());
            let mut shards = [Shard::default(), Shard::default()];
            // In the order of the calls: whom they were for.
            let mut calls: Vec<String> = Vec::new();
            let mut under_way: Vec<(usize, Grant, String)> = Vec::new();
            let mut expected: Vec<(usize, String)> = Vec::new();
            let mut now = NOW;
            for (what, user, shard, index, wait) in steps {
                now = now.after_nanos(wait * 700);
                let user = user.to_string();
                match what {
                    0 | 1 => under_way.push((calls.len(), revocations.grant(now), user)),
                    2 => {
                        let number = revocations.revoke(&user, now);
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
