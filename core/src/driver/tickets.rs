//! Tickets: handshakes that wait for the application's answer, each answered exactly once (THREATS A4 to A6).

use std::collections::HashMap;
use std::sync::Mutex;

use tokio::sync::oneshot;

use crate::limits::lock;

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
}

/// A session the application grants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accept {
    /// The user: shares limits and can be disconnected by name. 1 to 256 bytes without control characters.
    pub user: Option<String>,
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

#[derive(Debug, Default)]
struct Waiting {
    last: u64,
    answers: HashMap<u64, oneshot::Sender<Decision>>,
    closed: bool,
}

/// The handshakes that wait.
#[derive(Debug, Default)]
pub(super) struct Tickets {
    waiting: Mutex<Waiting>,
}

impl Tickets {
    /// A new ticket; `None`: `most` wait already, or nobody is there to answer.
    pub(super) fn issue(&self, most: usize) -> Option<(TicketId, oneshot::Receiver<Decision>)> {
        let mut waiting = lock(&self.waiting);
        if waiting.closed || waiting.answers.len() >= most {
            return None;
        }
        waiting.last += 1;
        let id = waiting.last;
        let (answer, answered) = oneshot::channel();
        waiting.answers.insert(id, answer);
        Some((TicketId(id), answered))
    }

    /// Answers a ticket; `false`: it was answered, has timed out, or its peer has left.
    pub(super) fn answer(&self, ticket: TicketId, decision: Decision) -> bool {
        let answer = lock(&self.waiting).answers.remove(&ticket.0);
        answer.is_some_and(|answer| answer.send(decision).is_ok())
    }

    /// Whether the ticket's handshake still waits.
    pub(super) fn is_waiting(&self, ticket: TicketId) -> bool {
        lock(&self.waiting).answers.contains_key(&ticket.0)
    }

    /// Forgets a ticket whose handshake no longer waits.
    pub(super) fn withdraw(&self, ticket: TicketId) {
        lock(&self.waiting).answers.remove(&ticket.0);
    }

    /// The application is gone: everyone who waits, and everyone who comes, is unavailable.
    pub(super) fn close(&self) {
        let mut waiting = lock(&self.waiting);
        waiting.closed = true;
        waiting.answers.clear();
    }

    pub(super) fn len(&self) -> usize {
        lock(&self.waiting).answers.len()
    }
}
