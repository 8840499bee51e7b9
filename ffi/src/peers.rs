//! What this face remembers of each connection from its open to its close: the user, the application's pointer, and
//! whether the application has closed it. Closed is closed: from then on nothing is sent to it and no handler runs for it,
//! also for the messages that were taken together with the one at which it was closed.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use wsguard::host::{ConnectionId, ConnectionMap};

use crate::handle::Userdata;

#[derive(Debug)]
struct Peer {
    user: Option<Arc<str>>,
    pointer: Userdata,
    gone: AtomicBool,
    /// Its open was not told to a handler, so that its close is not either.
    hidden: AtomicBool,
}

/// The connections whose open was taken and whose close was not. A table by slot: no larger than the most connections that
/// were ever open together.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    /// How many are gone; 0 spares a look at the table.
    gone: AtomicUsize,
    table: RwLock<ConnectionMap<Peer>>,
}

impl Peers {
    fn read(&self) -> RwLockReadGuard<'_, ConnectionMap<Peer>> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, ConnectionMap<Peer>> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is known of `conn`, which an inline handler may know before its open was taken. One that is not known is
    /// added only where it `is_open`, which is asked under the lock: else a later connection may have its slot by now.
    fn change(&self, conn: ConnectionId, is_open: impl FnOnce() -> bool, change: impl FnOnce(&mut Peer)) {
        let mut table = self.write();
        let (gone, hidden) = (AtomicBool::new(false), AtomicBool::new(false));
        let unknown = || Peer { user: None, pointer: Userdata::NONE, gone, hidden };
        let Some(mut peer) = table.remove(conn).or_else(|| is_open().then(unknown)) else { return };
        change(&mut peer);
        table.insert(conn, peer);
    }

    /// Its open was taken.
    pub(crate) fn opened(&self, conn: ConnectionId, user: Option<&Arc<str>>) {
        self.change(conn, || true, |peer| peer.user = user.cloned());
    }

    /// The batch with its close was let go.
    pub(crate) fn forget(&self, conns: &[ConnectionId]) {
        if conns.is_empty() {
            return;
        }
        let mut table = self.write();
        for conn in conns {
            if table.remove(*conn).is_some_and(|peer| peer.gone.into_inner()) {
                self.gone.fetch_sub(1, Ordering::AcqRel);
            }
        }
    }

    fn mark(&self, peer: &Peer) {
        if !peer.gone.swap(true, Ordering::AcqRel) {
            self.gone.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// The application has closed it, or tried to when its peer had left: `outcome` is the core's. What was taken of it is
    /// not handled any more in either case.
    pub(crate) fn closed<E>(
        &self,
        conn: ConnectionId,
        outcome: Result<(), E>,
        is_open: impl FnOnce() -> bool,
    ) -> Result<(), E> {
        match &outcome {
            Ok(()) => self.close(conn, is_open),
            // Not added: its close may have been let go already.
            Err(_) => {
                let _ = self.read().get(conn).map(|peer| self.mark(peer));
            }
        }
        outcome
    }

    /// The application has closed it.
    pub(crate) fn close(&self, conn: ConnectionId, is_open: impl FnOnce() -> bool) {
        if let Some(peer) = self.read().get(conn) {
            return self.mark(peer);
        }
        self.change(conn, is_open, |peer| self.mark(peer));
    }

    /// Every one whose open was taken.
    pub(crate) fn close_all(&self) {
        self.read().values().for_each(|peer| self.mark(peer));
    }

    /// Disconnects a user. Nobody is added meanwhile: who is here was let in before, and who comes later is told apart by
    /// the core.
    pub(crate) fn close_user<E>(&self, user: &str, disconnect: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        let table = self.read();
        disconnect()?;
        for peer in table.values() {
            if peer.user.as_deref() == Some(user) {
                self.mark(peer);
            }
        }
        Ok(())
    }

    /// Whether the application has closed it.
    pub(crate) fn is_gone(&self, conn: ConnectionId) -> bool {
        self.gone.load(Ordering::Acquire) > 0
            && self.read().get(conn).is_some_and(|peer| peer.gone.load(Ordering::Acquire))
    }

    /// Its open is not told.
    pub(crate) fn hide(&self, conn: ConnectionId) {
        if let Some(peer) = self.read().get(conn) {
            peer.hidden.store(true, Ordering::Release);
        }
    }

    pub(crate) fn is_hidden(&self, conn: ConnectionId) -> bool {
        self.gone.load(Ordering::Acquire) > 0
            && self.read().get(conn).is_some_and(|peer| peer.hidden.load(Ordering::Acquire))
    }

    pub(crate) fn set_pointer(&self, conn: ConnectionId, pointer: Userdata, is_open: impl FnOnce() -> bool) {
        self.change(conn, is_open, |peer| peer.pointer = pointer);
    }

    pub(crate) fn pointer(&self, conn: ConnectionId) -> Userdata {
        self.read().get(conn).map_or(Userdata::NONE, |peer| peer.pointer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(shard: u64, generation: u64, slot: u64) -> ConnectionId {
        ConnectionId::from_u64(shard << 56 | generation << 24 | slot)
    }

    #[test]
    fn closed_is_closed_until_its_close_was_let_go() {
        let peers = Peers::default();
        let (alice, bob) = (Arc::from("alice"), Arc::from("bob"));
        let (a1, a2, b, nobody) = (id(0, 1, 0), id(1, 1, 0), id(0, 1, 1), id(0, 1, 2));
        peers.opened(a1, Some(&alice));
        peers.opened(a2, Some(&alice));
        peers.opened(b, Some(&bob));
        peers.opened(nobody, None);
        assert_eq!(peers.close_user("alice", || Err("stopped")), Err("stopped"));
        assert!(!peers.is_gone(a1));
        peers.close_user("alice", || Ok::<_, &str>(())).unwrap();
        assert_eq!([a1, a2, b, nobody].map(|conn| peers.is_gone(conn)), [true, true, false, false]);
        peers.close(nobody, || true);
        peers.close(nobody, || true);
        assert!(peers.is_gone(nobody));
        peers.hide(nobody);
        assert!(peers.is_hidden(nobody) && !peers.is_hidden(b));
        peers.forget(&[a1, a2, nobody, nobody]);
        assert_eq!(peers.read().values().count(), 1);
        assert_eq!(peers.gone.load(Ordering::Relaxed), 0);
        let again = id(0, 2, 0);
        peers.opened(again, Some(&alice));
        assert!(!peers.is_gone(again) && !peers.is_gone(a1));
    }

    #[test]
    fn whoever_has_left_already_is_closed_too_but_not_added() {
        let peers = Peers::default();
        let (known, unknown) = (id(0, 1, 0), id(0, 1, 1));
        peers.opened(known, None);
        assert_eq!(peers.closed(known, Err("closed"), || true), Err("closed"));
        assert_eq!(peers.closed(unknown, Err("closed"), || true), Err("closed"));
        assert!(peers.is_gone(known) && !peers.is_gone(unknown));
        peers.forget(&[known, unknown]);
        assert_eq!((peers.read().values().count(), peers.gone.load(Ordering::Relaxed)), (0, 0));
    }

    /// A thread that was held up between the core's answer and this table.
    #[test]
    fn whoever_comes_late_leaves_the_next_connection_of_the_slot_alone() {
        let peers = Peers::default();
        let (old, new) = (id(0, 1, 0), id(0, 2, 0));
        peers.opened(old, None);
        peers.forget(&[old]);
        peers.opened(new, Some(&Arc::from("alice")));
        peers.close(old, || false);
        peers.set_pointer(old, Userdata::NONE, || false);
        peers.close_user("alice", || Ok::<_, &str>(())).unwrap();
        assert!(peers.is_gone(new) && !peers.is_gone(old));
    }

    /// An inline handler knows a connection before its open was taken.
    #[test]
    fn what_was_said_before_the_open_was_taken_is_kept() {
        let peers = Peers::default();
        let conn = id(0, 1, 0);
        let mut data = 7;
        peers.set_pointer(conn, Userdata::new((&raw mut data).cast()), || true);
        peers.close(conn, || true);
        peers.opened(conn, Some(&Arc::from("alice")));
        assert!(peers.is_gone(conn));
        assert_eq!(peers.pointer(conn).pointer(), (&raw mut data).cast());
        peers.forget(&[conn]);
        assert!(peers.pointer(conn).pointer().is_null());
    }
}
