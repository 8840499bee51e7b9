//! By what connections were let in: path, credential and proxy are mostly those of others as well, and then kept once for all of
//! them.

use std::rc::Rc;

use crate::driver::session::LetIn;

/// Newcomers that one who comes is compared with.
const MOST: usize = 8;
/// A longer path is not kept beyond its connection.
const MAX_PATH_BYTES: usize = 256;

/// What the last newcomers of a shard were let in by.
#[derive(Debug, Default)]
pub(super) struct RecentlyAdmitted {
    recent: [Option<Rc<LetIn>>; MOST],
    /// The one that the next takes the place of.
    oldest: usize,
}

impl RecentlyAdmitted {
    /// The same, kept once with whoever came lately by the same.
    pub(super) fn share(&mut self, let_in: LetIn) -> Rc<LetIn> {
        if let Some(same) = self.recent.iter().flatten().find(|recent| ***recent == let_in) {
            return Rc::clone(same);
        }
        let let_in = Rc::new(let_in);
        if let_in.admitted.path.len() <= MAX_PATH_BYTES {
            self.recent[self.oldest] = Some(Rc::clone(&let_in));
            self.oldest = (self.oldest + 1) % MOST;
        }
        let_in
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use wsguard_proto::auth::CredentialId;
    use wsguard_proto::config::Admitted;

    fn let_in(admitted: Admitted) -> LetIn {
        LetIn { admitted, proxy: None }
    }

    fn admitted(path: &str) -> Admitted {
        Admitted { generation: 1, path: path.into(), credential: None, is_reported: false }
    }

    fn by(path: &str) -> LetIn {
        let_in(admitted(path))
    }

    #[test]
    fn what_is_the_same_is_kept_once_and_nothing_else_is() {
        let mut lately = RecentlyAdmitted::default();
        let first = lately.share(by("/a"));
        assert!(Rc::ptr_eq(&first, &lately.share(by("/a"))));
        let credential = |byte| Some(CredentialId::Token([byte; 32]));
        for other in [
            admitted("/b"),
            Admitted { generation: 2, ..admitted("/a") },
            Admitted { is_reported: true, ..admitted("/a") },
            Admitted { credential: credential(1), ..admitted("/a") },
            Admitted { credential: credential(2), ..admitted("/a") },
            Admitted { credential: Some(CredentialId::Key([1; 32])), ..admitted("/a") },
        ] {
            assert_eq!(lately.share(let_in(other.clone())).admitted, other);
        }
        assert!(Rc::ptr_eq(&first, &lately.share(by("/a"))));
    }

    /// Behind a proxy each client has its own address, and all have the same peer.
    #[test]
    fn a_proxy_is_kept_once_for_its_clients() {
        let mut lately = RecentlyAdmitted::default();
        let address = |host: u8| Some(IpAddr::from([10, 0, 0, host]));
        let mut enter = |ip, peer| {
            let shared = lately.share(LetIn::new(admitted("/"), ip, peer));
            assert_eq!(shared.peer(ip), peer);
            shared
        };
        let [direct, proxied, other, local] = [(1, address(1)), (2, address(9)), (3, address(8)), (4, None)]
            .map(|(host, peer)| enter(address(host), peer));
        assert!(Rc::ptr_eq(&direct, &enter(address(5), address(5))) && Rc::ptr_eq(&direct, &enter(None, None)));
        assert!(Rc::ptr_eq(&proxied, &enter(address(6), address(9))) && Rc::ptr_eq(&local, &enter(address(7), None)));
        assert!(!Rc::ptr_eq(&proxied, &other));
    }

    #[test]
    fn what_nobody_came_by_lately_is_let_go() {
        let mut lately = RecentlyAdmitted::default();
        let first = Rc::downgrade(&lately.share(by("/first")));
        let long = Rc::downgrade(&lately.share(by(&"/long".repeat(MAX_PATH_BYTES))));
        assert_eq!((first.strong_count(), long.strong_count()), (1, 0));
        for number in 0..MOST {
            assert_eq!(first.strong_count(), 1);
            lately.share(by(&format!("/{number}")));
        }
        assert_eq!(first.strong_count(), 0);
    }
}
