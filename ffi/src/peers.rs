//! What this face remembers of each connection from its open to its close: the user, the application's pointer, when its
//! session ends, and whether the application has closed it. Closed is closed: from then on nothing is sent to it and no
//! handler runs for it, also for the messages that were taken together with the one at which it was closed.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Instant;

use wsguard::binding::{ConnectionId, ConnectionMap, RevokedUsers};

use crate::os::lock;
use crate::pointers::Userdata;

#[derive(Debug)]
struct Peer {
    user: Option<Arc<str>>,
    ip: Option<IpAddr>,
    /// The path of its request; `None`: not known.
    path: Option<Box<str>>,
    pointer: Userdata,
    ends: Ends,
    gone: AtomicBool,
    /// Its open was not told to a handler, so that its close is not either.
    hidden: AtomicBool,
}

/// When a session ends. The core closes it then; messages that were read before may still be in a batch.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ends {
    /// Its own end, or that of its credential if that is first.
    pub(crate) session: Option<Instant>,
    /// That of its credential, which no reload moves.
    pub(crate) credential: Option<Instant>,
}

/// What is kept, by slot: no larger than the most connections that were ever open together. Those whose close is in the batch
/// that the application has are kept beside it: the same batch may hold the open of the next connection in their slot.
#[derive(Debug, Default)]
struct Table {
    here: ConnectionMap<Peer>,
    leaving: HashMap<ConnectionId, Peer>,
}

impl Peer {
    /// One whose open was not taken yet.
    fn unknown() -> Self {
        let (gone, hidden) = (AtomicBool::new(false), AtomicBool::new(false));
        let ends = Ends::default();
        Self { user: None, ip: None, path: None, pointer: Userdata::NONE, ends, gone, hidden }
    }

    fn is_over(&self, ends_moved: bool) -> bool {
        let ends = if ends_moved { self.ends.credential } else { self.ends.session };
        ends.is_some_and(|ends| ends <= Instant::now())
    }
}

impl Table {
    /// Changes the entry of `conn`, which an inline handler may know before its open was taken. A connection without an entry
    /// gets one only if it `is_open`: otherwise a later connection may have its slot by now.
    fn change(&mut self, conn: ConnectionId, is_open: impl FnOnce() -> bool, change: impl FnOnce(&mut Peer)) {
        let Self { here, leaving } = self;
        if let Some(peer) = leaving.get_mut(&conn) {
            return change(peer);
        }
        let Some(mut peer) = here.remove(conn).or_else(|| is_open().then(Peer::unknown)) else { return };
        change(&mut peer);
        // An inline handler may know a connection before the close of the former one in its slot was taken.
        if let Some((before, peer)) = here.insert(conn, peer) {
            leaving.insert(before, peer);
        }
    }

    fn get(&self, conn: ConnectionId) -> Option<&Peer> {
        self.here.get(conn).or_else(|| self.leaving.get(&conn))
    }

    fn values(&self) -> impl Iterator<Item = &Peer> {
        self.here.values().chain(self.leaving.values())
    }
}

/// The connections whose open was taken, until the batch with their close was let go.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    /// How many are gone, and how many sessions will end: 0 spares a look at the table.
    gone: AtomicUsize,
    ending: AtomicUsize,
    /// A reload has changed how long sessions last: only the core knows when they end, but for the ends of credentials.
    ends_moved: AtomicBool,
    table: RwLock<Table>,
    /// Locked behind the table.
    revoked: Mutex<RevokedUsers>,
}

/// The part of an open that is kept.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Opened<'open> {
    pub(crate) user: Option<&'open Arc<str>>,
    pub(crate) ip: Option<IpAddr>,
    pub(crate) path: Option<&'open str>,
    /// As in the core's `Open`.
    pub(crate) granted: u64,
    pub(crate) ends: Ends,
}

impl Peers {
    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// As [`Table::change`]; `is_open` is asked under the lock.
    fn change(&self, conn: ConnectionId, is_open: impl FnOnce() -> bool, change: impl FnOnce(&mut Peer)) {
        self.write().change(conn, is_open, change);
    }

    /// Its open was taken. Its user may have been disconnected before: then it is closed for the application before it was
    /// open.
    pub(crate) fn opened(&self, conn: ConnectionId, opened: Opened<'_>) {
        let Opened { user, ip, path, granted, ends } = opened;
        self.change(
            conn,
            || true,
            |peer| {
                peer.user = user.cloned();
                peer.ip = ip;
                peer.path = path.map(Box::from);
                peer.ends = ends;
                self.ending.fetch_add(usize::from(ends.session.is_some()), Ordering::AcqRel);
                if user.is_some_and(|user| lock(&self.revoked).is_over(user, granted)) {
                    self.mark(peer);
                }
            },
        );
    }

    /// Its close was taken: from here on its slot is free for the next connection. `is_cut`: what was received of it before is
    /// not handled any more.
    pub(crate) fn leaves(&self, conn: ConnectionId, is_cut: bool) {
        let Table { here, leaving } = &mut *self.write();
        if let Some(peer) = here.remove(conn) {
            let _ = is_cut && self.mark(&peer);
            leaving.insert(conn, peer);
        }
    }

    /// The batch with its close was let go.
    pub(crate) fn forget(&self, conns: &[ConnectionId]) {
        if conns.is_empty() {
            return;
        }
        let leaving = &mut self.write().leaving;
        for conn in conns {
            let Some(peer) = leaving.remove(conn) else { continue };
            self.gone.fetch_sub(usize::from(peer.gone.into_inner()), Ordering::AcqRel);
            self.ending.fetch_sub(usize::from(peer.ends.session.is_some()), Ordering::AcqRel);
        }
        leaving.shrink_to(4096);
    }

    /// From here on it is gone: `true`.
    fn mark(&self, peer: &Peer) -> bool {
        if !peer.gone.swap(true, Ordering::AcqRel) {
            self.gone.fetch_add(1, Ordering::AcqRel);
        }
        true
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
        if self.read().get(conn).is_some_and(|peer| self.mark(peer)) {
            return;
        }
        self.change(conn, is_open, |peer| _ = self.mark(peer));
    }

    /// The ends of sessions that were told are not those of the core any more, which closes them by itself. Those of
    /// credentials are.
    pub(crate) fn forget_ends(&self) {
        self.ends_moved.store(true, Ordering::Release);
    }

    /// The path of its request, if that is known.
    pub(crate) fn path(&self, conn: ConnectionId) -> Option<Box<str>> {
        self.read().get(conn).and_then(|peer| peer.path.clone())
    }

    /// Every one whose open was taken.
    pub(crate) fn close_all(&self) {
        self.read().values().for_each(|peer| _ = self.mark(peer));
    }

    /// Disconnects a user; `disconnect` answers the number of the revocation. No entry is added meanwhile: the connections that are here were
    /// accepted before, and later ones are told apart by the number. A server that has ended accepts nobody: there it closes
    /// every connection of that user.
    pub(crate) fn close_user<E>(&self, user: &str, disconnect: impl FnOnce() -> Result<u64, E>) -> Result<(), E> {
        let table = self.read();
        let mut revoked = lock(&self.revoked);
        let outcome = disconnect();
        revoked.note(user, *outcome.as_ref().unwrap_or(&u64::MAX));
        drop(revoked);
        for peer in table.values() {
            if peer.user.as_deref() == Some(user) {
                self.mark(peer);
            }
        }
        outcome.map(|_| ())
    }

    /// Somebody was banned, and the core closes who is: those are closed for the application, too.
    pub(crate) fn close_banned(&self, is_banned: impl Fn(Option<IpAddr>, Option<&str>) -> bool) {
        for peer in self.read().values() {
            let _ = is_banned(peer.ip, peer.user.as_deref()) && self.mark(peer);
        }
    }

    /// Whether the application has closed it.
    #[inline]
    pub(crate) fn is_closed(&self, conn: ConnectionId) -> bool {
        self.gone.load(Ordering::Acquire) > 0 && self.is_marked(conn)
    }

    /// Apart from [`is_closed`](Self::is_closed) as well.
    #[inline(never)]
    fn is_marked(&self, conn: ConnectionId) -> bool {
        self.read().get(conn).is_some_and(|peer| peer.gone.load(Ordering::Acquire))
    }

    /// Whether it is over for the application: closed by it, or at the end of its session.
    #[inline]
    pub(crate) fn is_gone(&self, conn: ConnectionId) -> bool {
        if self.ending.load(Ordering::Acquire) == 0 {
            return self.is_closed(conn);
        }
        self.is_closed_or_over(conn)
    }

    /// Apart from [`is_gone`](Self::is_gone), which every message asks twice: this looks at the table.
    #[inline(never)]
    fn is_closed_or_over(&self, conn: ConnectionId) -> bool {
        let ends_moved = self.ends_moved.load(Ordering::Acquire);
        self.read()
            .get(conn)
            .is_some_and(|peer| peer.gone.load(Ordering::Acquire) || peer.is_over(ends_moved) && self.mark(peer))
    }

    /// Its open is not told, and so its close is not, unless the application keeps something of it by a pointer.
    pub(crate) fn hide(&self, conn: ConnectionId) {
        if let Some(peer) = self.read().get(conn).filter(|peer| peer.pointer.pointer().is_null()) {
            peer.hidden.store(true, Ordering::Release);
        }
    }

    pub(crate) fn is_hidden(&self, conn: ConnectionId) -> bool {
        self.gone.load(Ordering::Acquire) > 0
            && self.read().get(conn).is_some_and(|peer| peer.hidden.load(Ordering::Acquire))
    }

    /// Keeps the application's pointer for a connection that is open and not closed by the application; `false`: it is
    /// neither. Both are asked under the lock. So a pointer is kept only where the close is still to be told, and
    /// [`hide`](Self::hide) cannot come between: what is refused here stays the application's to free.
    pub(crate) fn set_pointer(&self, conn: ConnectionId, pointer: Userdata, is_open: impl FnOnce() -> bool) -> bool {
        let mut is_kept = false;
        let mut keep = |peer: &mut Peer| {
            is_kept = !*peer.gone.get_mut();
            if is_kept {
                peer.pointer = pointer;
                *peer.hidden.get_mut() = false;
            }
        };
        let table = &mut *self.write();
        if !is_open() {
            return false;
        }
        table.change(conn, || true, &mut keep);
        is_kept
    }

    pub(crate) fn pointer(&self, conn: ConnectionId) -> Userdata {
        self.read().get(conn).map_or(Userdata::NONE, |peer| peer.pointer)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn of(user: &Arc<str>, granted: u64) -> Opened<'_> {
        Opened { user: Some(user), granted, ..Opened::default() }
    }

    /// The end of a session whose credential has none.
    fn session(ends: Instant) -> Ends {
        Ends { session: Some(ends), credential: None }
    }

    /// Their closes were taken, and let go.
    fn forget(peers: &Peers, conns: &[ConnectionId]) {
        for conn in conns {
            peers.leaves(*conn, false);
        }
        peers.forget(conns);
    }

    /// In one batch: the close of one, and the open of the next in its slot.
    #[test]
    fn whoever_leaves_is_known_beside_whoever_has_its_slot() {
        let peers = Peers::default();
        let (old, new) = (id(0, 1, 0), id(0, 2, 0));
        let (alice, mut data) = (Arc::from("alice"), 7);
        peers.opened(old, of(&alice, 0));
        assert!(peers.set_pointer(old, Userdata::new((&raw mut data).cast()), || true));
        peers.leaves(old, false);
        peers.opened(new, Opened::default());
        peers.close_user("alice", || Ok::<_, &str>(1)).unwrap();
        assert!(peers.is_gone(old) && !peers.is_gone(new));
        assert_eq!(peers.pointer(old).pointer(), (&raw mut data).cast());
        assert!(peers.pointer(new).pointer().is_null());
        assert!(!peers.set_pointer(old, Userdata::NONE, || false), "its close handler finds it still");
        assert_eq!(peers.pointer(old).pointer(), (&raw mut data).cast());
        peers.forget(&[old]);
        assert_eq!((peers.read().values().count(), peers.gone.load(Ordering::Relaxed)), (1, 0));
        assert!(!peers.is_gone(old) && !peers.is_gone(new));
    }

    /// An inline handler may know a newcomer before the close of whoever had its slot was taken, and its own open.
    #[test]
    fn a_newcomer_that_is_known_early_hides_nobody() {
        let peers = Peers::default();
        let (old, new) = (id(0, 1, 0), id(0, 2, 0));
        let (alice, mut data) = (Arc::from("alice"), 7);
        peers.opened(old, of(&alice, 0));
        assert!(peers.set_pointer(new, Userdata::new((&raw mut data).cast()), || true));
        peers.close_user("alice", || Ok::<_, &str>(1)).unwrap();
        assert!(peers.is_gone(old) && !peers.is_gone(new));
        forget(&peers, &[old]);
        peers.opened(new, Opened::default());
        assert_eq!(peers.pointer(new).pointer(), (&raw mut data).cast());
        peers.hide(new);
        assert!(!peers.is_hidden(new), "its data is given back at its close");
        forget(&peers, &[new]);
        assert_eq!((peers.read().values().count(), peers.gone.load(Ordering::Relaxed)), (0, 0));
    }

    fn id(shard: u64, generation: u64, slot: u64) -> ConnectionId {
        ConnectionId::from_u64(shard << 56 | generation << 24 | slot)
    }

    #[test]
    fn closed_is_closed_until_its_close_was_let_go() {
        let peers = Peers::default();
        let (alice, bob) = (Arc::from("alice"), Arc::from("bob"));
        let (a1, a2, b, nobody) = (id(0, 1, 0), id(1, 1, 0), id(0, 1, 1), id(0, 1, 2));
        peers.opened(a1, of(&alice, 0));
        peers.opened(a2, of(&alice, 0));
        peers.opened(b, of(&bob, 0));
        peers.opened(nobody, Opened::default());
        peers.close_user("alice", || Ok::<_, &str>(1)).unwrap();
        assert_eq!([a1, a2, b, nobody].map(|conn| peers.is_gone(conn)), [true, true, false, false]);
        peers.close(nobody, || true);
        peers.close(nobody, || true);
        assert!(peers.is_gone(nobody));
        peers.hide(nobody);
        assert!(peers.is_hidden(nobody) && !peers.is_hidden(b));
        forget(&peers, &[a1, a2, nobody, nobody]);
        assert_eq!(peers.read().values().count(), 1);
        assert_eq!(peers.gone.load(Ordering::Relaxed), 0);
        let again = id(0, 2, 0);
        peers.opened(again, of(&alice, 1));
        assert!(!peers.is_gone(again) && !peers.is_gone(a1));
    }

    /// Closed before it was open; whoever was let in behind the call is not meant.
    #[test]
    fn whose_user_was_disconnected_before_the_open_was_taken_is_closed() {
        let peers = Peers::default();
        let (alice, bob) = (Arc::from("alice"), Arc::from("bob"));
        peers.close_user("alice", || Ok::<_, &str>(4)).unwrap();
        for (slot, user, granted, is_gone) in
            [(0, &alice, 3, true), (1, &alice, 4, false), (2, &bob, 3, false), (3, &alice, 0, true)]
        {
            peers.opened(id(0, 1, slot), of(user, granted));
            assert_eq!(peers.is_gone(id(0, 1, slot)), is_gone, "{user} {granted}");
        }
    }

    /// The server has ended, and of alice there are messages in a batch.
    #[test]
    fn a_disconnect_that_comes_too_late_closes_all_the_same() {
        let peers = Peers::default();
        let alice = Arc::from("alice");
        peers.opened(id(0, 1, 0), of(&alice, 7));
        assert_eq!(peers.close_user("alice", || Err("stopped")), Err("stopped"));
        peers.opened(id(0, 1, 1), of(&alice, 8));
        assert!(peers.is_gone(id(0, 1, 0)) && peers.is_gone(id(0, 1, 1)));
    }

    #[test]
    fn whose_session_has_ended_is_gone_until_its_close_was_let_go() {
        let peers = Peers::default();
        let (over, lasting, endless) = (id(0, 1, 0), id(0, 1, 1), id(0, 1, 2));
        let now = Instant::now();
        peers.opened(over, Opened { ends: session(now), ..Opened::default() });
        peers.opened(lasting, Opened { ends: session(now + Duration::from_secs(3600)), ..Opened::default() });
        peers.opened(endless, Opened::default());
        assert!(!peers.is_closed(over), "nobody has asked");
        assert_eq!([over, lasting, endless].map(|conn| peers.is_gone(conn)), [true, false, false]);
        assert!(peers.is_closed(over));
        peers.hide(over);
        assert!(peers.is_hidden(over));
        forget(&peers, &[over, lasting, endless]);
        assert_eq!((peers.gone.load(Ordering::Relaxed), peers.ending.load(Ordering::Relaxed)), (0, 0));
    }

    /// A reload has made sessions longer: who was told to end now does not.
    #[test]
    fn ends_that_were_told_do_not_count_after_they_moved() {
        let peers = Peers::default();
        let conn = id(0, 1, 0);
        peers.opened(conn, Opened { ends: session(Instant::now()), ..Opened::default() });
        peers.forget_ends();
        assert!(!peers.is_gone(conn));
        peers.close(conn, || true);
        assert!(peers.is_gone(conn));
        forget(&peers, &[conn]);
        assert_eq!((peers.gone.load(Ordering::Relaxed), peers.ending.load(Ordering::Relaxed)), (0, 0));
    }

    /// A token ends when it says, however often the options are loaded again.
    #[test]
    fn ends_of_credentials_count_also_after_others_moved() {
        let peers = Peers::default();
        let (over, lasting) = (id(0, 1, 0), id(0, 1, 1));
        let (now, later) = (Instant::now(), Instant::now() + Duration::from_secs(3600));
        peers.opened(over, Opened { ends: Ends { session: Some(now), credential: Some(now) }, ..Opened::default() });
        peers.opened(
            lasting,
            Opened { ends: Ends { session: Some(now), credential: Some(later) }, ..Opened::default() },
        );
        peers.forget_ends();
        assert!(peers.is_gone(over) && !peers.is_gone(lasting));
        forget(&peers, &[over, lasting]);
        assert_eq!((peers.gone.load(Ordering::Relaxed), peers.ending.load(Ordering::Relaxed)), (0, 0));
    }

    /// Behind the messages of a batch stands the close that says what they are worth.
    #[test]
    fn whoever_was_cut_off_is_gone_before_its_close_is_handled() {
        let peers = Peers::default();
        let (left, cut) = (id(0, 1, 0), id(0, 1, 1));
        peers.opened(left, Opened::default());
        peers.opened(cut, Opened::default());
        peers.leaves(left, false);
        peers.leaves(cut, true);
        assert!(!peers.is_gone(left) && peers.is_gone(cut));
        assert!(!peers.is_hidden(cut), "its open was handled, and so its close is");
        peers.forget(&[left, cut]);
        assert_eq!((peers.read().values().count(), peers.gone.load(Ordering::Relaxed)), (0, 0));
    }

    #[test]
    fn a_ban_closes_an_address_and_a_user() {
        let peers = Peers::default();
        let (alice, bob) = (Arc::from("alice"), Arc::from("bob"));
        let (near, far) = (Some([127, 0, 0, 1].into()), Some([192, 0, 2, 1].into()));
        let conns = [0, 1, 2, 3].map(|slot| id(0, 1, slot));
        peers.opened(conns[0], Opened { ip: near, ..of(&alice, 0) });
        peers.opened(conns[1], Opened { ip: far, ..of(&alice, 0) });
        peers.opened(conns[2], Opened { ip: far, ..of(&bob, 0) });
        peers.opened(conns[3], Opened::default());
        peers.close_banned(|ip, _| ip == near);
        assert_eq!(conns.map(|conn| peers.is_gone(conn)), [true, false, false, false]);
        peers.close_banned(|_, user| user == Some("alice"));
        assert_eq!(conns.map(|conn| peers.is_gone(conn)), [true, true, false, false]);
        forget(&peers, &conns);
        assert_eq!((peers.read().values().count(), peers.gone.load(Ordering::Relaxed)), (0, 0));
    }

    #[test]
    fn whoever_has_left_already_is_closed_too_but_not_added() {
        let peers = Peers::default();
        let (known, unknown) = (id(0, 1, 0), id(0, 1, 1));
        peers.opened(known, Opened::default());
        assert_eq!(peers.closed(known, Err("closed"), || true), Err("closed"));
        assert_eq!(peers.closed(unknown, Err("closed"), || true), Err("closed"));
        assert!(peers.is_gone(known) && !peers.is_gone(unknown));
        forget(&peers, &[known, unknown]);
        assert_eq!((peers.read().values().count(), peers.gone.load(Ordering::Relaxed)), (0, 0));
    }

    /// A thread that was held up between the core's answer and this table.
    #[test]
    fn whoever_comes_late_leaves_the_next_connection_of_the_slot_alone() {
        let peers = Peers::default();
        let (old, new) = (id(0, 1, 0), id(0, 2, 0));
        peers.opened(old, Opened::default());
        forget(&peers, &[old]);
        peers.opened(new, of(&Arc::from("alice"), 0));
        peers.close(old, || false);
        assert!(!peers.set_pointer(old, Userdata::NONE, || false));
        peers.close_user("alice", || Ok::<_, &str>(1)).unwrap();
        assert!(peers.is_gone(new) && !peers.is_gone(old));
    }

    /// An inline handler knows a connection before its open was taken.
    #[test]
    fn what_was_said_before_the_open_was_taken_is_kept() {
        let peers = Peers::default();
        let conn = id(0, 1, 0);
        let mut data = 7;
        assert!(peers.set_pointer(conn, Userdata::new((&raw mut data).cast()), || true));
        peers.close(conn, || true);
        peers.opened(conn, of(&Arc::from("alice"), 0));
        assert!(peers.is_gone(conn));
        assert_eq!(peers.pointer(conn).pointer(), (&raw mut data).cast());
        forget(&peers, &[conn]);
        assert!(peers.pointer(conn).pointer().is_null());
    }
    /// One thread closes a connection and passes its stale open over, while another has looked at it before and now keeps
    /// something of it: its close would not be told, and the pointer never be given back.
    #[test]
    fn nothing_is_kept_of_a_connection_that_was_closed_meanwhile() {
        let peers = Peers::default();
        let conn = id(0, 1, 0);
        let mut data = 7;
        peers.opened(conn, Opened::default());
        let is_open_before = !peers.is_gone(conn);
        peers.close(conn, || true);
        peers.hide(conn);
        assert!(is_open_before);
        assert!(
            !peers.set_pointer(conn, Userdata::new((&raw mut data).cast()), || true),
            "refused, not kept in silence"
        );
        assert!(peers.pointer(conn).pointer().is_null() && peers.is_hidden(conn));
    }
}
