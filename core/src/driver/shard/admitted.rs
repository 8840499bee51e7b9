//! By what connections were let in: path and credential are mostly those of others as well, and then kept once for all of them.

use std::rc::Rc;

use wsguard_proto::config::Admitted;

/// Newcomers that one who comes is compared with.
const MOST: usize = 8;
/// A longer path is not kept beyond its connection.
const MAX_PATH_BYTES: usize = 256;

/// What the last newcomers of a shard were let in by.
#[derive(Debug, Default)]
pub(super) struct RecentlyAdmitted {
    recent: [Option<Rc<Admitted>>; MOST],
    /// The one that the next takes the place of.
    oldest: usize,
}

impl RecentlyAdmitted {
    /// The same, kept once with whoever came lately by the same.
    pub(super) fn share(&mut self, admitted: Admitted) -> Rc<Admitted> {
        if let Some(same) = self.recent.iter().flatten().find(|recent| ***recent == admitted) {
            return Rc::clone(same);
        }
        let admitted = Rc::new(admitted);
        if admitted.path.len() <= MAX_PATH_BYTES {
            self.recent[self.oldest] = Some(Rc::clone(&admitted));
            self.oldest = (self.oldest + 1) % MOST;
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wsguard_proto::auth::CredentialId;

    fn admitted(path: &str) -> Admitted {
        Admitted { generation: 1, path: path.into(), credential: None, is_reported: false }
    }

    #[test]
    fn what_is_the_same_is_kept_once_and_nothing_else_is() {
        let mut lately = RecentlyAdmitted::default();
        let first = lately.share(admitted("/a"));
        assert!(Rc::ptr_eq(&first, &lately.share(admitted("/a"))));
        let credential = |byte| Some(CredentialId::Token([byte; 32]));
        for other in [
            admitted("/b"),
            Admitted { generation: 2, ..admitted("/a") },
            Admitted { is_reported: true, ..admitted("/a") },
            Admitted { credential: credential(1), ..admitted("/a") },
            Admitted { credential: credential(2), ..admitted("/a") },
            Admitted { credential: Some(CredentialId::Key([1; 32])), ..admitted("/a") },
        ] {
            assert_eq!(*lately.share(other.clone()), other);
        }
        assert!(Rc::ptr_eq(&first, &lately.share(admitted("/a"))));
    }

    #[test]
    fn what_nobody_came_by_lately_is_let_go() {
        let mut lately = RecentlyAdmitted::default();
        let first = Rc::downgrade(&lately.share(admitted("/first")));
        let long = Rc::downgrade(&lately.share(admitted(&"/long".repeat(MAX_PATH_BYTES))));
        assert_eq!((first.strong_count(), long.strong_count()), (1, 0));
        for number in 0..MOST {
            assert_eq!(first.strong_count(), 1);
            lately.share(admitted(&format!("/{number}")));
        }
        assert_eq!(first.strong_count(), 0);
    }
}
