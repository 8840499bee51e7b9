//! Whom the application has disconnected by name, for faces: an open that still waits in a batch is over all the same.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use wsguard_proto::auth::MAX_USER_BYTES;

const MAX_REVOKED: usize = 65_536;

/// The users that a face has disconnected, with the number of the last revocation of each.
///
/// A connection is over if it was [granted](super::Open::granted) before its user was disconnected, even where the application
/// learns of it later. The last 65536 users are remembered.
#[derive(Debug, Default)]
pub struct RevokedUsers {
    numbers: HashMap<Arc<str>, u64>,
    /// The same, oldest first.
    by_number: BTreeSet<(u64, Arc<str>)>,
}

impl RevokedUsers {
    /// Notes that `user` was disconnected; `number` is what
    /// [`disconnect_user`](super::ServerHandle::disconnect_user) returned, or `u64::MAX` where the server has ended.
    pub fn note(&mut self, user: &str, number: u64) {
        if user.len() > MAX_USER_BYTES {
            return;
        }
        let user: Arc<str> = user.into();
        let before = self.numbers.get(&user).copied().unwrap_or_default();
        // Of two threads the later may come first.
        if number <= before {
            return;
        }
        self.by_number.remove(&(before, Arc::clone(&user)));
        self.numbers.insert(Arc::clone(&user), number);
        self.by_number.insert((number, user));
        if self.numbers.len() > MAX_REVOKED
            && let Some((_, oldest)) = self.by_number.pop_first()
        {
            self.numbers.remove(&oldest);
        }
    }

    /// Whether `user`, who was let in at `granted`, was disconnected since.
    pub fn is_over(&self, user: &str, granted: u64) -> bool {
        self.numbers.get(user).is_some_and(|number| granted < *number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_later_number_counts_and_the_list_is_bounded() {
        let mut revoked = RevokedUsers::default();
        assert!(!revoked.is_over("alice", 0));
        revoked.note("alice", 3);
        revoked.note("bob", 4);
        revoked.note("alice", 5);
        assert!(revoked.is_over("alice", 4) && !revoked.is_over("alice", 5));
        assert!(revoked.is_over("bob", 3) && !revoked.is_over("bob", 4));
        for number in 6..6 + MAX_REVOKED as u64 {
            assert!(revoked.is_over("alice", 4) || number + 2 >= MAX_REVOKED as u64);
            revoked.note(&number.to_string(), number);
        }
        assert_eq!((revoked.by_number.len(), revoked.numbers.len()), (MAX_REVOKED, MAX_REVOKED));
        assert!(!revoked.is_over("alice", 4));
    }

    #[test]
    fn a_user_has_one_place_and_its_last_number_whatever_comes_when() {
        let mut revoked = RevokedUsers::default();
        revoked.note("alice", 2);
        for number in 3..100_000 {
            revoked.note("bob", number);
        }
        revoked.note("bob", 7);
        assert!(revoked.is_over("alice", 1) && revoked.is_over("bob", 99_998));
        revoked.note("alice", u64::MAX);
        assert!(revoked.is_over("alice", 99_999));
        assert_eq!((revoked.by_number.len(), revoked.numbers.len()), (2, 2));
    }
}
