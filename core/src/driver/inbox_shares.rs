//! Who shares what part of the inbox: all connections of one user on this shard, or of one address, are one sharer
//! (`inbox` says how much that is).

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use super::state::ServerState;
use wsguard_proto::client_ip::AddressKey;
use wsguard_proto::inbox::Waiting;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Sharer {
    User(Arc<str>),
    /// An IPv4 address, or an IPv6 /48.
    Address(AddressKey),
}

/// The sharers of one shard.
#[derive(Debug)]
pub(super) struct Shares {
    state: Arc<ServerState>,
    shard: usize,
    named: RefCell<HashMap<Sharer, Weak<Share>>>,
    /// Connections that share with nobody: without a user, on a Unix socket.
    unnamed: Cell<usize>,
    /// What still waits of sharers without connections: a sharer that returns finds it.
    left: RefCell<HashMap<Sharer, Waiting>>,
    /// The last released batch when `left` was last cleaned.
    looked_at: Cell<u64>,
}

impl Shares {
    pub(super) fn new(state: Arc<ServerState>, shard: usize) -> Rc<Self> {
        let (named, unnamed, left, looked_at) = Default::default();
        Rc::new(Self { state, shard, named, unnamed, left, looked_at })
    }

    /// How many parts the inbox has: those of this shard, as often as there are shards.
    pub(super) fn parts(&self) -> usize {
        self.len() * self.state.shards.len()
    }

    fn len(&self) -> usize {
        self.named.borrow().len() + self.unnamed.get() + self.left.borrow().len()
    }

    /// The share of a connection that opens.
    pub(super) fn enter(self: &Rc<Self>, user: Option<&Arc<str>>, ip: Option<IpAddr>) -> Rc<Share> {
        self.forget_who_left();
        let sharer = match (user, ip) {
            (Some(user), _) => Sharer::User(Arc::clone(user)),
            (None, Some(ip)) => Sharer::Address(AddressKey::from(ip).widest()),
            (None, None) => {
                self.unnamed.set(self.unnamed.get() + 1);
                return Share::new(self, None, Waiting::default());
            }
        };
        let mut named = self.named.borrow_mut();
        if let Some(share) = named.get(&sharer).and_then(Weak::upgrade) {
            return share;
        }
        let waiting = self.left.borrow_mut().remove(&sharer).unwrap_or_default();
        let share = Share::new(self, Some(sharer.clone()), waiting);
        named.insert(sharer, Rc::downgrade(&share));
        share
    }

    fn released(&self) -> u64 {
        self.state.shards[self.shard].last_released()
    }

    fn forget_who_left(&self) {
        let released = self.released();
        if self.looked_at.replace(released) != released {
            self.left.borrow_mut().retain(|_, waiting| waiting.bytes(released) > 0);
        }
    }

    /// Frees memory that was kept for connections, when there are none.
    pub(super) fn shrink(&self) {
        self.forget_who_left();
        self.left.borrow_mut().shrink_to_fit();
        self.named.borrow_mut().shrink_to_fit();
    }
}

/// What waits of one sharer; each of its connections holds it.
#[derive(Debug)]
pub(super) struct Share {
    shares: Rc<Shares>,
    sharer: Option<Sharer>,
    waiting: Cell<Waiting>,
}

impl Share {
    fn new(shares: &Rc<Shares>, sharer: Option<Sharer>, waiting: Waiting) -> Rc<Self> {
        Rc::new(Self { shares: Rc::clone(shares), sharer, waiting: Cell::new(waiting) })
    }

    /// A turn has added `bytes` to `batch`.
    pub(super) fn add(&self, batch: u64, bytes: usize) {
        let mut waiting = self.waiting.get();
        waiting.add(batch, bytes, self.shares.released());
        self.waiting.set(waiting);
    }

    /// Bytes that the application has not released.
    pub(super) fn waits(&self) -> usize {
        self.waiting.get().bytes(self.shares.released())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let shares = &self.shares;
        let Some(sharer) = self.sharer.take() else { return shares.unnamed.set(shares.unnamed.get() - 1) };
        if let Ok(mut named) = shares.named.try_borrow_mut() {
            named.remove(&sharer);
        }
        if self.waits() > 0
            && let Ok(mut left) = shares.left.try_borrow_mut()
        {
            left.insert(sharer, self.waiting.get());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    use crate::driver::events::EventBatch;
    use crate::driver::state::idle;

    fn shares() -> Rc<Shares> {
        Shares::new(idle(r#""threads": 2"#), 0)
    }

    /// The application lets a batch go.
    fn release(shares: &Shares, sequence: u64) {
        let mut batch = EventBatch::of_shard(0);
        batch.sequence = sequence;
        batch.release_to(&shares.state.inbox);
    }

    fn ip(text: &str) -> Option<IpAddr> {
        text.parse().ok()
    }

    #[test]
    fn connections_of_one_user_or_address_are_one_sharer() {
        let shares = shares();
        let (alice, bob): (Arc<str>, Arc<str>) = ("alice".into(), "bob".into());
        let of_alice = (0..9).map(|host| shares.enter(Some(&alice), ip(&format!("10.0.0.{host}")))).collect::<Vec<_>>();
        let of_address = (0..9).map(|_| shares.enter(None, ip("10.0.0.1"))).collect::<Vec<_>>();
        let of_network = (0..9).map(|net| shares.enter(None, ip(&format!("2001:db8:1:{net}::1")))).collect::<Vec<_>>();
        let unnamed = (shares.enter(None, None), shares.enter(None, None));
        let of_bob = shares.enter(Some(&bob), ip("10.0.0.1"));
        assert_eq!((shares.len(), shares.parts()), (6, 12));
        of_alice[3].add(1, 100);
        assert_eq!((of_alice[8].waits(), of_bob.waits(), of_address[0].waits()), (100, 0, 0));
        drop((of_alice, of_address, of_network, unnamed));
        // What of Alice waits is hers, also when she comes back.
        assert_eq!((shares.len(), shares.enter(Some(&alice), None).waits()), (2, 100));
        release(&shares, 1);
        assert_eq!((shares.enter(Some(&bob), None).waits(), shares.len()), (0, 1));
        drop(of_bob);
        assert_eq!(shares.len(), 0);
    }

    proptest! {
        /// Whoever comes, speaks and leaves, in any order: there are as many sharers as have connections, or left something.
        #[test]
        fn sharers_are_given_back(steps in prop::collection::vec((0u8..6, 0u8..5, any::<usize>()), 1..200)) {
            let shares = shares();
            let users: Vec<Arc<str>> = (0..4u8).map(|user| user.to_string().into()).collect();
            let mut there: Vec<(u8, Rc<Share>)> = Vec::new();
            let mut released = 0;
            for (what, who, pick) in steps {
                let at = pick % there.len().max(1);
                match what {
                    0 | 1 => there.push((who, shares.enter(users.get(usize::from(who)), None))),
                    2 if at < there.len() => drop(there.swap_remove(at)),
                    3 if at < there.len() => there[at].1.add(released + 1, 10),
                    4 => {
                        released += 1;
                        release(&shares, released);
                        shares.forget_who_left();
                    }
                    _ => {}
                }
                let users = there.iter().filter(|(who, _)| *who < 4).map(|(who, _)| who);
                let named = users.collect::<std::collections::HashSet<_>>().len();
                let unnamed = there.iter().filter(|(who, _)| *who == 4).count();
                prop_assert_eq!(shares.len(), named + unnamed + shares.left.borrow().len());
                prop_assert_eq!(shares.unnamed.get(), unnamed);
            }
            there.clear();
            release(&shares, u64::MAX);
            shares.forget_who_left();
            prop_assert_eq!(shares.len(), 0);
        }
    }
}
