//! Accepted handshakes on their way to a connection: the `open` event finds here what `authenticate` gave. The core tells of each
//! that becomes none.

use std::collections::HashMap;

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use wsguard::binding::TicketId;

/// What an accepted connection starts with.
#[derive(Debug)]
pub(crate) struct PendingAccept {
    /// `Accept.data`.
    pub(crate) data: Py<PyAny>,
    /// The context that `authenticate` ran in: the connection's from here on.
    pub(crate) context: Py<PyAny>,
}

/// Accepted handshakes that are no connections yet, by ticket.
#[derive(Debug, Default)]
pub(crate) struct PendingAccepts(HashMap<u64, PendingAccept>);

impl PendingAccepts {
    pub(crate) fn keep(&mut self, ticket: TicketId, accept: PendingAccept) {
        self.0.insert(ticket.to_u64(), accept);
    }

    /// Takes one. The caller drops it.
    pub(crate) fn take(&mut self, ticket: TicketId) -> Option<PendingAccept> {
        self.0.remove(&ticket.to_u64())
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.0.values().try_for_each(|accept| {
            visit.call(&accept.data)?;
            visit.call(&accept.context)
        })
    }
}
