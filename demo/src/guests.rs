//! Who may connect: every browser is a guest of its own, every attack an intruder of its own, each with a token.
//!
//! The intruders have valid tokens: what is attacked is not the door alone. Limits are kept per user, so an intruder who
//! floods does not spend the rate of a guest.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

/// Guests that are remembered; the oldest is forgotten first.
const MAX_GUESTS: usize = 1000;

/// The name of whoever is let in without one, by a policy that asks for no credential.
pub(crate) const NOBODY: &str = "nobody";

/// A user and the token that proves it.
#[derive(Clone)]
pub(crate) struct Pass {
    pub(crate) user: String,
    pub(crate) token: String,
}

/// What the application has seen of one user or peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Messages that reached the application; echoes, by which the page measures, are not counted.
    pub(crate) reached: u64,
    /// Messages that it passed on, counted once for each who got one.
    pub(crate) delivered: u64,
    /// Messages that its JSON parser gave up on.
    pub(crate) unparsed: u64,
}

#[derive(Default)]
struct Known {
    begun: HashMap<&'static str, u64>,
    passes: VecDeque<Pass>,
    tallies: HashMap<String, Tally>,
}

/// The passes that are valid.
#[derive(Default)]
pub(crate) struct Guests {
    known: Mutex<Known>,
}

impl Guests {
    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new user of `role`; fails only where the system has no randomness.
    pub(crate) fn admit(&self, role: &'static str) -> Result<Pass, getrandom::Error> {
        let token = token()?;
        let mut known = self.known();
        let number = known.begun.entry(role).or_default();
        *number += 1;
        let pass = Pass { user: format!("{role}-{number}"), token };
        if known.passes.len() == MAX_GUESTS
            && let Some(oldest) = known.passes.pop_front()
        {
            known.tallies.remove(&oldest.user);
        }
        known.passes.push_back(pass.clone());
        Ok(pass)
    }

    /// Whose token it is. Every token is looked at, so that the time tells nothing about which one came close.
    pub(crate) fn user(&self, token: &str) -> Option<String> {
        let known = self.known();
        let same = |pass: &&Pass| same(&pass.token, token);
        known.passes.iter().filter(same).fold(None, |_, pass| Some(pass.user.clone()))
    }

    /// Counts a message of `user` that reached the application and was passed on to `delivered` others.
    pub(crate) fn count(&self, user: &str, delivered: u64) {
        let mut known = self.known();
        if user != NOBODY && !known.passes.iter().any(|pass| pass.user == user) {
            return;
        }
        let tally = known.tallies.entry(user.to_owned()).or_default();
        tally.reached += 1;
        tally.delivered += delivered;
    }

    /// Forgets a user, whose token is void from here on.
    pub(crate) fn dismiss(&self, user: &str) -> Tally {
        let mut known = self.known();
        known.passes.retain(|pass| pass.user != user);
        known.tallies.remove(user).unwrap_or_default()
    }
}

/// 128 random bits in hexadecimal.
pub(crate) fn token() -> Result<String, getrandom::Error> {
    let mut random = [0; 16];
    getrandom::fill(&mut random)?;
    Ok(random.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

/// Compares without stopping at the first difference.
fn same(known: &str, given: &str) -> bool {
    let difference = known.bytes().zip(given.bytes()).fold(0, |difference, (a, b)| difference | (a ^ b));
    known.len() == given.len() && difference == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_names_its_user_and_nobody_else() {
        let guests = Guests::default();
        let (first, second) = (guests.admit("guest").unwrap(), guests.admit("guest").unwrap());
        assert_eq!(guests.user(&first.token).as_deref(), Some("guest-1"));
        assert_eq!(guests.user(&second.token).as_deref(), Some("guest-2"));
        assert_eq!(guests.admit("intruder").unwrap().user, "intruder-1");
        assert_eq!(guests.user(""), None);
        assert_eq!(guests.user(&first.token[1..]), None);
    }

    #[test]
    fn a_dismissed_user_leaves_its_tally_and_nothing_else() {
        let guests = Guests::default();
        let pass = guests.admit("intruder").unwrap();
        guests.count(&pass.user, 2);
        guests.count(&pass.user, 3);
        assert_eq!(guests.dismiss(&pass.user), Tally { reached: 2, delivered: 5, unparsed: 0 });
        assert_eq!(guests.user(&pass.token), None);
        guests.count(&pass.user, 1);
        assert_eq!(guests.dismiss(&pass.user), Tally::default());
    }

    #[test]
    fn those_without_a_name_are_counted_together() {
        let guests = Guests::default();
        guests.count(NOBODY, 1);
        guests.count(NOBODY, 2);
        assert_eq!(guests.dismiss(NOBODY), Tally { reached: 2, delivered: 3, unparsed: 0 });
        assert_eq!(guests.dismiss(NOBODY), Tally::default());
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_goes_first() {
        let guests = Guests::default();
        let first = guests.admit("guest").unwrap();
        let second = guests.admit("guest").unwrap();
        for _ in 2..=MAX_GUESTS {
            guests.admit("guest").unwrap();
        }
        assert_eq!(guests.user(&first.token), None);
        assert!(guests.user(&second.token).is_some());
    }
}
