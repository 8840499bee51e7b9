//! Whom `wsg_server_disconnect_user` has disconnected: who was let in before is over, whether its open was taken or not.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// So many are remembered: an open waits no longer to be taken than that many calls.
const MAX_REVOKED: usize = 65_536;

/// The number of the last revocation of each user.
#[derive(Debug, Default)]
pub(crate) struct Revoked {
    numbers: HashMap<Arc<str>, u64>,
    /// Oldest first, with those that a later one of the user has replaced.
    order: VecDeque<(Arc<str>, u64)>,
}

impl Revoked {
    pub(crate) fn note(&mut self, user: &str, number: u64) {
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
    pub(crate) fn is_over(&self, user: &str, granted: u64) -> bool {
        self.numbers.get(user).is_some_and(|number| granted < *number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_later_number_counts_and_the_list_is_bounded() {
        let mut revoked = Revoked::default();
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
