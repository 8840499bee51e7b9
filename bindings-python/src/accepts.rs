//! Accepted handshakes on their way to a connection: the `open` event finds here what `authenticate` gave.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use wsguard::binding::TicketId;

/// How long an accepted handshake may take to become a connection: its `open` event may wait behind others.
const OPENS_WITHIN: Duration = Duration::from_secs(120);

/// What an accepted connection starts with.
#[derive(Debug)]
pub(crate) struct PendingAccept {
    /// `Accept.data`.
    pub(crate) data: Py<PyAny>,
    /// The context that `authenticate` ran in: the connection's from here on.
    pub(crate) context: Py<PyAny>,
}

/// Accepted handshakes that are no connections yet. Some never become one: the user has too many, the peer has left. Those
/// are forgotten after [`OPENS_WITHIN`], or when there are too many.
#[derive(Debug, Default)]
pub(crate) struct PendingAccepts {
    by_ticket: HashMap<u64, PendingAccept>,
    order: VecDeque<(u64, Instant)>,
}

impl PendingAccepts {
    /// Keeps one, at most `most` in all. The caller drops what is returned.
    pub(crate) fn keep(
        &mut self,
        ticket: TicketId,
        accept: PendingAccept,
        now: Instant,
        most: usize,
    ) -> Vec<PendingAccept> {
        let mut forgotten = Vec::new();
        while let Some((oldest, since)) = self.order.front()
            && (self.order.len() >= most
                || now.duration_since(*since) > OPENS_WITHIN
                || !self.by_ticket.contains_key(oldest))
        {
            forgotten.extend(self.by_ticket.remove(oldest));
            self.order.pop_front();
        }
        forgotten.extend(self.by_ticket.insert(ticket.to_u64(), accept));
        self.order.push_back((ticket.to_u64(), now));
        forgotten
    }

    pub(crate) fn take(&mut self, ticket: TicketId) -> Option<PendingAccept> {
        self.by_ticket.remove(&ticket.to_u64())
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.by_ticket.values().try_for_each(|accept| {
            visit.call(&accept.data)?;
            visit.call(&accept.context)
        })
    }
}
