//! The coroutines of `authenticate` that run.
// THREATS A5.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use wsguard::binding::TicketId;

/// A cancelled coroutine may have to wait, to give a database connection back. It is cancelled again after this.
const ENDS_WITHIN: Duration = Duration::from_secs(5);

/// The tasks by ticket. At most `max_pending_auth` of them have a handshake that waits; the others were cancelled.
#[derive(Debug, Default)]
pub(crate) struct AuthTasks {
    waiting: HashMap<u64, Py<PyAny>>,
    /// Cancelled, and when, and not ended yet. They take no place of those that wait; but with `max_pending_auth` of them
    /// no new coroutine starts.
    cancelled: HashMap<u64, (Py<PyAny>, Instant)>,
    /// A check of the handshakes is scheduled.
    pub(crate) is_check_due: bool,
}

impl AuthTasks {
    pub(crate) fn insert(&mut self, ticket: TicketId, task: Py<PyAny>) {
        self.waiting.insert(ticket.to_u64(), task);
    }

    /// Removes a task that has ended. The caller drops what is returned.
    pub(crate) fn remove(&mut self, ticket: TicketId) -> Option<Py<PyAny>> {
        let ticket = ticket.to_u64();
        self.waiting.remove(&ticket).or_else(|| self.cancelled.remove(&ticket).map(|(task, _)| task))
    }

    pub(crate) fn is_full(&self, max_pending_auth: usize) -> bool {
        self.waiting.len() >= max_pending_auth
    }

    /// Returns true if another coroutine may start.
    pub(crate) fn has_room(&self, max_pending_auth: usize) -> bool {
        !self.is_full(max_pending_auth) && self.cancelled.len() < max_pending_auth
    }

    pub(crate) fn has_cancelled(&self) -> bool {
        !self.cancelled.is_empty()
    }

    /// The task of a handshake that no longer waits. From here on it counts as cancelled; the caller cancels it.
    pub(crate) fn abandon(&mut self, py: Python<'_>, ticket: TicketId, now: Instant) -> Option<Py<PyAny>> {
        let task = self.waiting.remove(&ticket.to_u64())?;
        let copy = task.clone_ref(py);
        self.cancelled.insert(ticket.to_u64(), (task, now));
        Some(copy)
    }

    /// The tasks whose handshake no longer waits: it timed out, or the peer has left. From here on they count as
    /// cancelled; the caller cancels them.
    pub(crate) fn abandoned(
        &mut self,
        py: Python<'_>,
        now: Instant,
        is_waiting: impl Fn(TicketId) -> bool,
    ) -> Vec<Py<PyAny>> {
        let Self { waiting, cancelled, .. } = self;
        let gone = waiting.extract_if(|ticket, _| !is_waiting(TicketId::from_u64(*ticket)));
        gone.map(|(ticket, task)| {
            let copy = task.clone_ref(py);
            cancelled.insert(ticket, (task, now));
            copy
        })
        .collect()
    }

    /// The tasks that were cancelled [`ENDS_WITHIN`] ago and still run: perhaps they swallowed it.
    pub(crate) fn overdue(&mut self, py: Python<'_>, now: Instant) -> Vec<Py<PyAny>> {
        let overdue = self.cancelled.values_mut().filter(|(_, since)| now.duration_since(*since) >= ENDS_WITHIN);
        overdue
            .map(|(task, since)| {
                *since = now;
                task.clone_ref(py)
            })
            .collect()
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        let cancelled = self.cancelled.values().map(|(task, _)| task);
        self.waiting.values().chain(cancelled).try_for_each(|task| visit.call(task))
    }
}
