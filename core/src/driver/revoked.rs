//! Whom the application has disconnected by name, for faces: an open that still waits in a batch is over all the same.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use wsguard_proto::auth::MAX_USER_BYTES;

const MAX_REVOKED: usize = 65_536;

/// The users that a face has disconnected, with the number of the last revocation of each.
///
/// A connection is over if it was [granted](super::Open::granted) before its user was disconnected, even where the application
/// learns of it later. The last 65536 are remembered: an open does not wait for longer than so many calls.
#[derive(Debug, Default)]
pub struct RevokedUsers {
    numbers: HashMap<Arc<str>, u64>,
    /// Oldest first, with those that a later one of the user has replaced.
    order: VecDeque<(Arc<str>, u64)>,
}

impl RevokedUsers {
    /// Notes that `user` was disconnected; `number` is [`last_revocation`](super::ServerHandle::last_revocation) behind the call,
    /// or `u64::MAX` where the server has ended.
    pub fn note(&mut self, user: &str, number: u64) {
        if user.len() > MAX_USER_BYTES {
            return;
        }
        let user: Arc<str> = user.into();
        self.numbers.insert(Arc::clone(&user), number);
        self.order.push_back((user, number));
        if self.order.len() > MAX_REVOKED
            && let Some((oldest, number)) = self.order.pop_front()
            && self.numbers.get(&oldest) == Some(&number)
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
        assert_eq!((revoked.order.len(), revoked.numbers.len()), (MAX_REVOKED, MAX_REVOKED));
        assert!(!revoked.is_over("alice", 4));
    }
}
