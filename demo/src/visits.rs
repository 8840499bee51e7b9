//! Visits: every load of the page is a guest of its own, with a token for the chat and one for the attacks.
//!
//! The attacks come as another user, because that is whom the limits are kept for: an intruder who floods does not
//! spend the guest's rate.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

/// Visits that are remembered; the oldest is forgotten first.
const MAX_VISITS: usize = 1000;

/// A user and the token that proves it.
#[derive(Clone)]
pub(crate) struct Pass {
    pub(crate) user: String,
    pub(crate) token: String,
}

/// One load of the page.
#[derive(Clone)]
pub(crate) struct Visit {
    pub(crate) guest: Pass,
    pub(crate) intruder: Pass,
}

#[derive(Default)]
struct Known {
    begun: u64,
    recent: VecDeque<Visit>,
}

/// The visits that may connect.
#[derive(Default)]
pub(crate) struct Visits {
    known: Mutex<Known>,
}

impl Visits {
    /// Begins a visit; fails only where the system has no randomness.
    pub(crate) fn begin(&self) -> Result<Visit, getrandom::Error> {
        let (guest, intruder) = (token()?, token()?);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.begun += 1;
        let pass = |role, token| Pass { user: format!("{role}-{}", known.begun), token };
        let visit = Visit { guest: pass("guest", guest), intruder: pass("intruder", intruder) };
        if known.recent.len() == MAX_VISITS {
            known.recent.pop_front();
        }
        known.recent.push_back(visit.clone());
        Ok(visit)
    }

    /// Whose token it is. Every token is looked at, so that the time tells nothing about which one came close.
    pub(crate) fn user(&self, token: &str) -> Option<String> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let passes = known.recent.iter().flat_map(|visit| [&visit.guest, &visit.intruder]);
        passes.fold(None, |found, pass| if same(&pass.token, token) { Some(pass.user.clone()) } else { found })
    }
}

/// 128 random bits in hexadecimal.
fn token() -> Result<String, getrandom::Error> {
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
        let visits = Visits::default();
        let (first, second) = (visits.begin().unwrap(), visits.begin().unwrap());
        assert_eq!(visits.user(&first.guest.token).as_deref(), Some("guest-1"));
        assert_eq!(visits.user(&first.intruder.token).as_deref(), Some("intruder-1"));
        assert_eq!(visits.user(&second.guest.token).as_deref(), Some("guest-2"));
        assert_eq!(visits.user(""), None);
        assert_eq!(visits.user(&first.guest.token[1..]), None);
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_goes_first() {
        let visits = Visits::default();
        let first = visits.begin().unwrap();
        let second = visits.begin().unwrap();
        for _ in 2..=MAX_VISITS {
            visits.begin().unwrap();
        }
        assert_eq!(visits.user(&first.guest.token), None);
        assert!(visits.user(&second.guest.token).is_some());
    }
}
