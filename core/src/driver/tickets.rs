//! Tickets: handshakes that wait for the application's answer, each answered exactly once.
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

use super::answer::{Answer, Decision, Fault};
use crate::error::Error;
use wsguard_proto::client_ip::AddressKey;
use wsguard_proto::handshake::Offers;
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

/// Tickets of the greediest that are looked at for one that may go.
const MOST_LOOKS: usize = 64;

/// Who may share the fate of one permit: an address, an IPv6 /48, or all peers without an address.
type Holder = Option<AddressKey>;

/// A handshake that was put to the application, until it is over.
#[derive(Debug)]
struct Waiter {
    /// `None`: it has its answer, or will have none.
    answer: Option<oneshot::Sender<Answer>>,
    /// The application has refused it, and need not hear of its end.
    is_refused: bool,
    offers: Offers,
    /// The answer says who the peer is; otherwise the server itself has found that out.
    names_user: bool,
    permit: Weak<Permit>,
}

#[derive(Debug, Default)]
struct Waiting {
    waiters: HashMap<u64, Waiter>,
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
        let may_go = |id: &&u64| {
            let waiter = self.waiters.get(id);
            waiter.is_some_and(|waiter| waiter.answer.is_some() && waiter.permit.strong_count() == 1)
        };
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

    /// The handshake is over, and takes no answer any more. `true`: the application has not refused it, so that it waits to hear
    /// of it: of its open, or that there is none.
    pub(super) fn withdraw(&self) -> bool {
        // The sender goes after the lock: it may hold a grant.
        let waiter = lock(&self.permit.tickets.waiting).waiters.remove(&self.permit.id);
        waiter.is_some_and(|waiter| !waiter.is_refused)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.withdraw();
    }
}

impl Tickets {
    /// A new ticket for a client of `address`, which offers these subprotocols; `names_user`: the answer says who it is. `None`: `most` wait already, none of which has to
    /// make room, or nobody is there to answer.
    pub(super) fn issue(
        self: &Arc<Self>,
        most: usize,
        address: Option<AddressKey>,
        offers: Offers,
        names_user: bool,
    ) -> Option<(Ticket, oneshot::Receiver<Answer>)> {
        let holder = address.map(AddressKey::widest);
        let mut waiting = lock(&self.waiting);
        if waiting.closed {
            return None;
        }
        let displaced = if waiting.taken.len() < most { None } else { Some(waiting.one_to_displace(holder)?) };
        let displaced = displaced.and_then(|id| {
            waiting.give_back(id);
            waiting.waiters.get_mut(&id)?.answer.take()
        });
        let id = TicketId::fresh().0;
        waiting.take(id, holder);
        let permit = Arc::new(Permit { tickets: Arc::clone(self), id });
        let (answer, answered) = oneshot::channel();
        let waiter =
            Waiter { answer: Some(answer), is_refused: false, offers, names_user, permit: Arc::downgrade(&permit) };
        waiting.waiters.insert(id, waiter);
        drop(waiting);
        if let Some(displaced) = displaced {
            let _ = displaced.send(Answer::Displaced);
        }
        Some((Ticket { permit }, answered))
    }

    /// Answers a ticket.
    ///
    /// # Errors
    ///
    /// [`Error::TicketSettled`]: it was answered, has timed out, or its peer has left. What cannot be sent ends the handshake all
    /// the same: its peer is not left to wait for an answer that the application has given.
    pub(super) fn answer(&self, ticket: TicketId, decision: Decision, grant: Grant) -> Result<(), Error> {
        match Answer::new(decision, grant) {
            Ok(answer) => self.give(ticket, answer),
            Err(Fault::Unusable(what)) => self.give_unusable(ticket, what),
            Err(fault) => Err(fault.into_error()),
        }
    }

    fn give_unusable(&self, ticket: TicketId, what: String) -> Result<(), Error> {
        self.give(ticket, Answer::Unusable(what.clone()))?;
        Err(Error::InvalidAnswer(what))
    }

    fn give(&self, ticket: TicketId, answer: Answer) -> Result<(), Error> {
        let mut waiting = lock(&self.waiting);
        let waiter = waiting.waiters.get_mut(&ticket.0).ok_or(Error::TicketSettled)?;
        if let Answer::Accepted(accepted) = &answer
            && let Some(name) = &accepted.subprotocol
            && !waiter.offers.has(name)
        {
            drop(waiting);
            return self.give_unusable(ticket, NOT_OFFERED.to_owned());
        }
        if let Answer::Accepted(accepted) = &answer
            && !waiter.names_user
            && accepted.names_user()
        {
            return Err(Error::InvalidArgument(IDENTITY_STAYS));
        }
        let sender = waiter.answer.take().ok_or(Error::TicketSettled)?;
        let is_refusal = answer.is_refusal();
        // With the lock held: a handshake that ends at this moment knows whether it was answered.
        let unheard = sender.send(answer).err();
        waiter.is_refused = is_refusal && unheard.is_none();
        drop(waiting);
        if unheard.is_some() { Err(Error::TicketSettled) } else { Ok(()) }
    }

    /// Whether the ticket's handshake still waits.
    pub(super) fn is_waiting(&self, ticket: TicketId) -> bool {
        lock(&self.waiting).waiters.get(&ticket.0).is_some_and(|waiter| waiter.answer.is_some())
    }

    /// The application is gone: everyone who waits, and everyone who comes, is unavailable.
    pub(super) fn close(&self) {
        let mut waiting = lock(&self.waiting);
        waiting.closed = true;
        let answers: Vec<_> = waiting.waiters.values_mut().filter_map(|waiter| waiter.answer.take()).collect();
        drop(waiting);
        drop(answers);
    }

    /// Permits that are taken: handshakes that wait, and requests that the application has not released.
    pub(super) fn len(&self) -> usize {
        lock(&self.waiting).taken.len()
    }
}

const IDENTITY_STAYS: &str = "the server itself has found out who the peer is (Upgrade::identity): user, roles and expires_at_ms of \
     the answer must be empty";

/// Never the name: an application that chooses by the place in `Sec-WebSocket-Protocol` may have taken the token behind `bearer`.
const NOT_OFFERED: &str =
    "subprotocol is not one that the client offers, in the same case; the token behind bearer is none";

#[cfg(test)]
mod tests {
    use super::super::answer::{Accept, Reject};
    use super::*;
    use proptest::prelude::*;
    use wsguard_proto::revocation::Revocations;
    use wsguard_proto::time::Moment;

    #[expect(clippy::unnecessary_wraps, reason = "as `issue` takes it")]
    fn address(host: u8) -> Option<AddressKey> {
        Some(std::net::IpAddr::from([10, 0, 0, host]).into())
    }

    fn grant() -> Grant {
        Arc::new(Revocations::default()).grant(Moment::START)
    }

    #[test]
    fn a_permit_belongs_to_whichever_lives_longest() {
        let tickets = Arc::new(Tickets::default());
        let (ticket, _answered) = tickets.issue(1, address(1), Offers::default(), true).unwrap();
        let request = ticket.permit();
        drop(ticket);
        assert!(
            tickets.issue(1, address(2), Offers::default(), true).is_none(),
            "the request is still with the application"
        );
        drop(request);
        let (ticket, _answered) = tickets.issue(1, address(2), Offers::default(), true).unwrap();
        drop(ticket.permit());
        assert_eq!(tickets.len(), 1);
        drop(ticket);
        assert_eq!(tickets.len(), 0);
    }

    #[test]
    fn each_ticket_is_answered_once_and_no_server_has_anothers() {
        let (tickets, others) = (Arc::new(Tickets::default()), Arc::new(Tickets::default()));
        let (ticket, answered) = tickets.issue(9, address(1), Offers::default(), true).unwrap();
        let (other, _answered) = others.issue(9, address(1), Offers::default(), true).unwrap();
        assert_ne!(ticket.id(), other.id());
        let is_settled = |answered| matches!(answered, Err(Error::TicketSettled));
        assert!(is_settled(others.answer(ticket.id(), Decision::Unavailable, grant())));
        assert!(tickets.answer(ticket.id(), Decision::reject(418), grant()).is_ok());
        assert!(is_settled(tickets.answer(ticket.id(), Decision::reject(418), grant())));
        assert!(matches!(answered.blocking_recv(), Ok(Answer::Rejected(_))));
        let id = other.id();
        drop(other);
        assert!(is_settled(others.answer(id, Decision::Unavailable, grant())));
        assert!(id.to_u64() < 1 << 53);
    }

    fn accept(subprotocol: &str, header: &str) -> Decision {
        let subprotocol = Some(subprotocol.to_owned()).filter(|name| !name.is_empty());
        let headers = vec![("X-A".to_owned(), header.to_owned())];
        Decision::Accept(Accept { subprotocol, headers, ..Accept::default() })
    }

    #[test]
    fn an_answer_that_cannot_be_sent_ends_the_handshake_and_one_with_a_bad_argument_does_not() {
        let tickets = Arc::new(Tickets::default());
        let text = |error: Result<(), Error>| error.unwrap_err().to_string();
        for (decision, what) in [
            (accept("", "s3cret\r\nEvil: 1"), "header X-A: the value has a control character, such as CR or LF"),
            (accept("s3cret", ""), NOT_OFFERED),
            (
                Decision::Reject(Reject { status: 418, headers: Vec::new(), body: vec![0; 65_537] }),
                "body must be at most 65536 bytes, and is 65537",
            ),
        ] {
            let (ticket, answered) = tickets.issue(9, address(1), Offers::default(), true).unwrap();
            for refused in [Decision::reject(299), Decision::reject(600), Decision::accept("")] {
                let error = tickets.answer(ticket.id(), refused, grant());
                assert!(matches!(error, Err(Error::InvalidArgument(_))), "{error:?}");
            }
            assert!(tickets.is_waiting(ticket.id()));
            let error = tickets.answer(ticket.id(), decision, grant());
            assert!(matches!(error, Err(Error::InvalidAnswer(_))), "{error:?}");
            assert_eq!((error.as_ref().unwrap_err().code(), &*text(error)), ("invalid_argument", what));
            assert!(!tickets.is_waiting(ticket.id()));
            let error = tickets.answer(ticket.id(), accept("", "1"), grant());
            assert!(matches!(error, Err(Error::TicketSettled)), "{error:?}");
            assert!(matches!(answered.blocking_recv(), Ok(Answer::Unusable(why)) if why == what));
            assert!(ticket.withdraw(), "the answer was not used");
            assert!(!ticket.withdraw());
        }
    }

    #[test]
    fn a_few_addresses_keep_nobody_out() {
        let tickets = Arc::new(Tickets::default());
        let mut crowd: Vec<_> =
            (0..1024).map(|n| tickets.issue(1024, address(n as u8 % 22), Offers::default(), true).unwrap()).collect();
        let honest: Vec<_> =
            (0..40).map(|_| tickets.issue(1024, address(99), Offers::default(), true).unwrap()).collect();
        assert_eq!(tickets.len(), 1024);
        let displaced = crowd.iter_mut().filter_map(|(_, answered)| answered.try_recv().ok()).count();
        assert_eq!(displaced, honest.len());
        // Fair to everybody: whoever already has as much as the others gets no more.
        let more: Vec<_> = (0..1024).map_while(|_| tickets.issue(1024, address(99), Offers::default(), true)).collect();
        assert!(more.len() < 10, "{}", more.len());
        assert!(tickets.issue(1024, address(3), Offers::default(), true).is_none());
    }

    #[test]
    fn one_address_alone_is_told_that_it_is_full() {
        let tickets = Arc::new(Tickets::default());
        let _crowd: Vec<_> = (0..4).map(|_| tickets.issue(4, address(1), Offers::default(), true).unwrap()).collect();
        assert!(tickets.issue(4, address(1), Offers::default(), true).is_none());
        assert!(tickets.issue(4, address(2), Offers::default(), true).is_some());
    }

    #[test]
    fn a_whole_ipv6_network_is_one_holder() {
        let tickets = Arc::new(Tickets::default());
        let v6 = |n: u16| Some(std::net::IpAddr::from([0x2001, 0xdb8, 1, n, 0, 0, 0, 1]).into());
        let _crowd: Vec<_> =
            (0..8).map(|n| tickets.issue(8, v6(n * 0x100), Offers::default(), true).unwrap()).collect();
        assert!(tickets.issue(8, v6(0xffff), Offers::default(), true).is_none());
        assert!(tickets.issue(8, address(1), Offers::default(), true).is_some());
    }

    #[test]
    fn memory_that_is_still_held_is_not_given_to_another() {
        let tickets = Arc::new(Tickets::default());
        let crowd: Vec<_> = (0..4).map(|_| tickets.issue(4, address(1), Offers::default(), true).unwrap()).collect();
        let held: Vec<_> = crowd.iter().map(|(ticket, _)| ticket.permit()).collect();
        assert!(
            tickets.issue(4, address(2), Offers::default(), true).is_none(),
            "the application has taken none of the requests"
        );
        drop(held);
        assert!(tickets.issue(4, address(2), Offers::default(), true).is_some());
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
                    0 | 1 => if let Some((ticket, answered)) = tickets.issue(6, address(which % 4), Offers::default(), true) {
                        requests.push(ticket.permit());
                        handshakes.push((ticket, answered));
                    },
                    2 if !handshakes.is_empty() => drop(handshakes.swap_remove(pick(handshakes.len()))),
                    3 if !requests.is_empty() => drop(requests.swap_remove(pick(requests.len()))),
                    4 if !handshakes.is_empty() => {
                        let at = pick(handshakes.len());
                        let (ticket, answered) = &mut handshakes[at];
                        let was_open = answered.try_recv().is_err();
                        let took = tickets.answer(ticket.id(), Decision::Unavailable, grant()).is_ok();
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
            prop_assert!(waiting.waiters.is_empty() && waiting.taken.is_empty() && waiting.holders.is_empty());
        }

        /// Whatever comes when: whoever is asked hears of each handshake once, of its open or that it is gone, unless it was
        /// refused by an answer that was taken.
        #[test]
        fn each_handshake_that_asks_has_one_end(steps in prop::collection::vec((0u8..12, any::<u8>()), 0..300)) {
            let tickets = Arc::new(Tickets::default());
            let (mut handshakes, mut ends) = (Vec::new(), HashMap::<u64, Vec<&str>>::new());
            let leave = |(ticket, answered): (Ticket, oneshot::Receiver<Answer>), receiver_first: bool| {
                let answered = (!receiver_first).then_some(answered);
                let is_owed = ticket.withdraw();
                drop(answered);
                is_owed.then_some((ticket.id().0, "gone"))
            };
            for (what, which) in steps {
                let at = usize::from(which) % handshakes.len().max(1);
                let told = match what {
                    0..=3 => {
                        if let Some(handshake) = tickets.issue(6, address(which % 4), Offers::default(), true) {
                            ends.insert(handshake.0.id().0, Vec::new());
                            handshakes.push(handshake);
                        }
                        None
                    }
                    11 if which == 0 => {
                        tickets.close();
                        None
                    }
                    _ if handshakes.is_empty() => None,
                    4 => leave(handshakes.swap_remove(at), which % 2 == 0),
                    5..=8 => {
                        let id = handshakes[at].0.id();
                        let (decision, refuses) = match what {
                            5 => (accept("", "1"), false),
                            6 => (Decision::reject(403), true),
                            7 => (Decision::Unavailable, true),
                            _ => (accept("never offered", "1"), false),
                        };
                        let is_taken = tickets.answer(id, decision, grant()).is_ok();
                        (is_taken && refuses).then_some((id.0, "refused"))
                    }
                    _ => match handshakes[at].1.try_recv() {
                        // One that was accepted may still be refused, by a limit.
                        Ok(Answer::Accepted(_)) if which % 3 > 0 => {
                            let (ticket, _answered) = handshakes.swap_remove(at);
                            ticket.withdraw();
                            Some((ticket.id().0, "opened"))
                        }
                        Err(oneshot::error::TryRecvError::Empty) => None,
                        _ => leave(handshakes.swap_remove(at), which % 2 == 0),
                    },
                };
                ends.extend(told.map(|(id, end)| (id, [ends[&id].as_slice(), &[end]].concat())));
            }
            for handshake in handshakes.drain(..) {
                ends.extend(leave(handshake, true).map(|(id, end)| (id, [ends[&id].as_slice(), &[end]].concat())));
            }
            prop_assert!(ends.values().all(|told| told.len() == 1), "{:?}", ends);
            prop_assert!(lock(&tickets.waiting).waiters.is_empty());
        }
    }
}
