//! Tickets: handshakes that wait for the application's answer, each answered exactly once (THREATS A4 to A6).
//!
//! A ticket holds one of `max_pending_auth` permits until its handshake *and* its request are gone: what the application
//! has not let go takes memory, even when the peer has left. When all are taken, a newcomer gets the permit of an address
//! (IPv6: a /48) that holds at least two more than its own, from the one of its tickets that has waited longest: that
//! handshake is answered 503. So a few addresses whose handshakes the application cannot answer keep nobody else out.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, Weak};

use tokio::sync::oneshot;

use wsguard_proto::client_ip::AddressKey;
use wsguard_proto::lock::lock;
use wsguard_proto::revocation::Grant;

/// The ticket of one waiting handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TicketId(pub(super) u64);

impl TicketId {
    /// The ticket as a number, for languages without types.
    pub fn to_u64(self) -> u64 {
        self.0
    }

    /// A ticket from its number; one that does not wait is an error where it is answered.
    pub fn from_u64(number: u64) -> Self {
        Self(number)
    }

    /// One that no other server of this process has given out, nor probably an earlier process: counted from a random
    /// start, far below 2^53, so that every language has it exactly.
    fn fresh() -> Self {
        static NEXT: LazyLock<AtomicU64> =
            LazyLock::new(|| AtomicU64::new(RandomState::new().hash_one("ticket") & ((1 << 52) - 1)));
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// A session the application grants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accept {
    /// The user: shares limits and can be disconnected by name. 1 to 256 bytes without control characters.
    pub user: Option<String>,
    /// What it may do: events may ask for one of these. Each 1 to 64 bytes without control characters or spaces, at most 64.
    pub roles: Vec<String>,
    /// When the session ends, in milliseconds since the Unix epoch.
    pub expires_at_ms: Option<u64>,
}

/// The application's answer to a ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Upgrade.
    Accept(Accept),
    /// Refuse with this HTTP status, 300 to 599: `auth_failed`.
    Reject(u16),
    /// The application failed: 503, `auth_unavailable`.
    Unavailable,
}

/// What a handshake that waits is told.
#[derive(Debug)]
pub(super) enum Answer {
    /// The application's decision, and the grant as of when it was given.
    Decided(Decision, Grant),
    /// Its permit went to another address.
    Displaced,
}

/// Tickets of the greediest that are looked at for one that may go.
const MOST_LOOKS: usize = 64;

/// Who may share the fate of one permit: an address, an IPv6 /48, or all peers without an address.
type Holder = Option<AddressKey>;

#[derive(Debug)]
struct Waiter {
    answer: oneshot::Sender<Answer>,
    permit: Weak<Permit>,
}

#[derive(Debug, Default)]
struct Waiting {
    answers: HashMap<u64, Waiter>,
    /// The permits that are taken, by ticket.
    taken: HashMap<u64, Holder>,
    /// The same by holder, oldest first.
    holders: HashMap<Holder, BTreeSet<u64>>,
    closed: bool,
}

impl Waiting {
    fn take(&mut self, id: u64, holder: Holder) {
        self.taken.insert(id, holder);
        self.holders.entry(holder).or_default().insert(id);
    }

    fn give_back(&mut self, id: u64) {
        let Some(holder) = self.taken.remove(&id) else { return };
        if let Some(own) = self.holders.get_mut(&holder) {
            own.remove(&id);
            if own.is_empty() {
                self.holders.remove(&holder);
            }
        }
    }

    /// The ticket that has to make room for one of `holder`: the oldest of whoever holds most, if that is at least two
    /// more, whose request takes no memory any more.
    fn one_to_displace(&self, holder: Holder) -> Option<u64> {
        let own = self.holders.get(&holder).map_or(0, BTreeSet::len);
        let greediest = self.holders.values().max_by_key(|permits| permits.len())?;
        let may_go = |id: &&u64| self.answers.get(id).is_some_and(|waiter| waiter.permit.strong_count() == 1);
        if greediest.len() < own + 2 { None } else { greediest.iter().take(MOST_LOOKS).find(may_go).copied() }
    }
}

/// The handshakes that wait.
#[derive(Debug, Default)]
pub(super) struct Tickets {
    waiting: Mutex<Waiting>,
}

/// One of `max_pending_auth` permits: held by the handshake and by its request, given back by whichever is last.
pub(super) struct Permit {
    tickets: Arc<Tickets>,
    id: u64,
}

impl core::fmt::Debug for Permit {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("Permit").field(&self.id).finish()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        lock(&self.tickets.waiting).give_back(self.id);
    }
}

/// A ticket as its handshake holds it; dropping it withdraws the ticket.
#[derive(Debug)]
pub(super) struct Ticket {
    permit: Arc<Permit>,
}

impl Ticket {
    pub(super) fn id(&self) -> TicketId {
        TicketId(self.permit.id)
    }

    /// The permit, for the request that goes to the application.
    pub(super) fn permit(&self) -> Arc<Permit> {
        Arc::clone(&self.permit)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // The sender goes after the lock: it may hold a grant.
        let forgotten = lock(&self.permit.tickets.waiting).answers.remove(&self.permit.id);
        drop(forgotten);
    }
}

impl Tickets {
    /// A new ticket for a client of `address`; `None`: `most` wait already, none of which has to make room, or nobody is
    /// there to answer.
    pub(super) fn issue(
        self: &Arc<Self>,
        most: usize,
        address: Option<AddressKey>,
    ) -> Option<(Ticket, oneshot::Receiver<Answer>)> {
        let holder = address.map(AddressKey::widest);
        let mut waiting = lock(&self.waiting);
        if waiting.closed {
            return None;
        }
        let displaced = if waiting.taken.len() < most { None } else { Some(waiting.one_to_displace(holder)?) };
        let displaced = displaced.and_then(|id| {
            waiting.give_back(id);
            waiting.answers.remove(&id)
        });
        let id = TicketId::fresh().0;
        waiting.take(id, holder);
        let permit = Arc::new(Permit { tickets: Arc::clone(self), id });
        let (answer, answered) = oneshot::channel();
        waiting.answers.insert(id, Waiter { answer, permit: Arc::downgrade(&permit) });
        drop(waiting);
        if let Some(displaced) = displaced {
            let _ = displaced.answer.send(Answer::Displaced);
        }
        Some((Ticket { permit }, answered))
    }

    /// Answers a ticket; `false`: it was answered, has timed out, or its peer has left.
    pub(super) fn answer(&self, ticket: TicketId, decision: Decision, grant: Grant) -> bool {
        let waiter = lock(&self.waiting).answers.remove(&ticket.0);
        waiter.is_some_and(|waiter| waiter.answer.send(Answer::Decided(decision, grant)).is_ok())
    }

    /// Whether the ticket's handshake still waits.
    pub(super) fn is_waiting(&self, ticket: TicketId) -> bool {
        lock(&self.waiting).answers.contains_key(&ticket.0)
    }

    /// The application is gone: everyone who waits, and everyone who comes, is unavailable.
    pub(super) fn close(&self) {
        let mut waiting = lock(&self.waiting);
        waiting.closed = true;
        let answers = core::mem::take(&mut waiting.answers);
        drop(waiting);
        drop(answers);
    }

    /// Permits that are taken: handshakes that wait, and requests that the application has not released.
    pub(super) fn len(&self) -> usize {
        lock(&self.waiting).taken.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use wsguard_proto::revocation::Revocations;

    #[expect(clippy::unnecessary_wraps, reason = "as `issue` takes it")]
    fn address(host: u8) -> Option<AddressKey> {
        Some(std::net::IpAddr::from([10, 0, 0, host]).into())
    }

    fn grant() -> Grant {
        Arc::new(Revocations::default()).grant()
    }

    #[test]
    fn a_permit_belongs_to_whichever_lives_longest() {
        let tickets = Arc::new(Tickets::default());
        let (ticket, _answered) = tickets.issue(1, address(1)).unwrap();
        let request = ticket.permit();
        drop(ticket);
        assert!(tickets.issue(1, address(2)).is_none(), "the request is still with the application");
        drop(request);
        let (ticket, _answered) = tickets.issue(1, address(2)).unwrap();
        drop(ticket.permit());
        assert_eq!(tickets.len(), 1);
        drop(ticket);
        assert_eq!(tickets.len(), 0);
    }

    #[test]
    fn each_ticket_is_answered_once_and_no_server_has_anothers() {
        let (tickets, others) = (Arc::new(Tickets::default()), Arc::new(Tickets::default()));
        let (ticket, answered) = tickets.issue(9, address(1)).unwrap();
        let (other, _answered) = others.issue(9, address(1)).unwrap();
        assert_ne!(ticket.id(), other.id());
        assert!(!others.answer(ticket.id(), Decision::Unavailable, grant()));
        assert!(tickets.answer(ticket.id(), Decision::Reject(418), grant()));
        assert!(!tickets.answer(ticket.id(), Decision::Reject(418), grant()));
        assert!(matches!(answered.blocking_recv(), Ok(Answer::Decided(Decision::Reject(418), _))));
        let id = other.id();
        drop(other);
        assert!(!others.answer(id, Decision::Unavailable, grant()));
        assert!(id.to_u64() < 1 << 53);
    }

    #[test]
    fn a_few_addresses_keep_nobody_out() {
        let tickets = Arc::new(Tickets::default());
        let mut crowd: Vec<_> = (0..1024).map(|n| tickets.issue(1024, address(n as u8 % 22)).unwrap()).collect();
        let honest: Vec<_> = (0..40).map(|_| tickets.issue(1024, address(99)).unwrap()).collect();
        assert_eq!(tickets.len(), 1024);
        let displaced = crowd.iter_mut().filter_map(|(_, answered)| answered.try_recv().ok()).count();
        assert_eq!(displaced, honest.len());
        // Fair to everybody: whoever already has as much as the others gets no more.
        let more: Vec<_> = (0..1024).map_while(|_| tickets.issue(1024, address(99))).collect();
        assert!(more.len() < 10, "{}", more.len());
        assert!(tickets.issue(1024, address(3)).is_none());
    }

    #[test]
    fn one_address_alone_is_told_that_it_is_full() {
        let tickets = Arc::new(Tickets::default());
        let _crowd: Vec<_> = (0..4).map(|_| tickets.issue(4, address(1)).unwrap()).collect();
        assert!(tickets.issue(4, address(1)).is_none());
        assert!(tickets.issue(4, address(2)).is_some());
    }

    #[test]
    fn a_whole_ipv6_network_is_one_holder() {
        let tickets = Arc::new(Tickets::default());
        let v6 = |n: u16| Some(std::net::IpAddr::from([0x2001, 0xdb8, 1, n, 0, 0, 0, 1]).into());
        let _crowd: Vec<_> = (0..8).map(|n| tickets.issue(8, v6(n * 0x100)).unwrap()).collect();
        assert!(tickets.issue(8, v6(0xffff)).is_none());
        assert!(tickets.issue(8, address(1)).is_some());
    }

    #[test]
    fn memory_that_is_still_held_is_not_given_to_another() {
        let tickets = Arc::new(Tickets::default());
        let crowd: Vec<_> = (0..4).map(|_| tickets.issue(4, address(1)).unwrap()).collect();
        let held: Vec<_> = crowd.iter().map(|(ticket, _)| ticket.permit()).collect();
        assert!(tickets.issue(4, address(2)).is_none(), "the application has taken none of the requests");
        drop(held);
        assert!(tickets.issue(4, address(2)).is_some());
    }

    proptest! {
        /// Whatever comes, is answered, leaves, is let go, in any order: at most `most` permits, and none in the end.
        #[test]
        fn places_are_bounded_and_given_back(steps in prop::collection::vec((0u8..6, any::<u8>()), 0..300)) {
            let tickets = Arc::new(Tickets::default());
            let (mut handshakes, mut requests) = (Vec::new(), Vec::new());
            for (what, which) in steps {
                let pick = |len: usize| usize::from(which) % len.max(1);
                match what {
                    0 | 1 => if let Some((ticket, answered)) = tickets.issue(6, address(which % 4)) {
                        requests.push(ticket.permit());
                        handshakes.push((ticket, answered));
                    },
                    2 if !handshakes.is_empty() => drop(handshakes.swap_remove(pick(handshakes.len()))),
                    3 if !requests.is_empty() => drop(requests.swap_remove(pick(requests.len()))),
                    4 if !handshakes.is_empty() => {
                        let at = pick(handshakes.len());
                        let (ticket, answered) = &mut handshakes[at];
                        let was_open = answered.try_recv().is_err();
                        let took = tickets.answer(ticket.id(), Decision::Unavailable, grant());
                        prop_assert!(was_open || !took, "answered twice");
                    }
                    _ => {}
                }
                prop_assert!(tickets.len() <= 6);
                prop_assert!(tickets.len() <= handshakes.len() + requests.len());
                // What is kept in memory for an application that has not looked is bounded, too.
                prop_assert!(requests.len() <= 6);
            }
            handshakes.clear();
            requests.clear();
            let waiting = lock(&tickets.waiting);
            prop_assert!(waiting.answers.is_empty() && waiting.taken.is_empty() && waiting.holders.is_empty());
        }
    }
}
