//! Takes the core's batches and gives each event to its handler, on the application's thread.

use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyString;
use pyo3::{PyTraverseError, PyVisit};
use wsguard::host::{
    Close as Ending, ConnectionId, ConnectionMap, Event, EventBatch, Next, Open, Server as CoreServer, ViolationEvent,
};

use crate::awaiting;
use crate::bell::lock;
use crate::connection::Connection;
use crate::fork;
use crate::handlers::Incoming;
use crate::records::{Close, Violation};
use crate::server::Server;
use crate::work::{Kind, Work};

/// What a turn left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Every event was handled; the bell rings when there are more.
    Nothing = 0,
    /// There is more to do.
    More = 1,
    /// The server has stopped and every event was handled.
    Stopped = 2,
}

/// The one consumer of a server's events.
#[derive(Debug)]
pub(crate) struct Delivery {
    /// Always there until it is dropped.
    server: Option<CoreServer>,
    forks: u64,
    batch: EventBatch,
    /// How many events of the batch were handled.
    handled: usize,
    connections: Connections,
}

impl Drop for Delivery {
    fn drop(&mut self) {
        // In a child of `fork` its threads do not exist, and waiting for them would never end.
        if self.forks != fork::depth() {
            std::mem::forget(self.server.take());
        }
    }
}

impl Delivery {
    pub(crate) fn new(server: CoreServer) -> Self {
        Self {
            server: Some(server),
            forks: fork::depth(),
            batch: EventBatch::new(),
            handled: 0,
            connections: Connections::default(),
        }
    }

    /// Handles events, at most about `most` of them.
    pub(crate) fn turn(&mut self, server: &Bound<'_, Server>, most: usize) -> PyResult<Progress> {
        let mut left = most;
        loop {
            self.handle_batch(server, &mut left)?;
            if self.handled < self.batch.len() {
                return Ok(Progress::More);
            }
            self.handled = 0;
            let Some(core) = &mut self.server else { return Ok(Progress::Stopped) };
            match core.events().next(&mut self.batch, Some(Duration::ZERO)) {
                Next::Events => {}
                Next::Nothing => return Ok(Progress::Nothing),
                Next::Stopped => return Ok(Progress::Stopped),
            }
            if left == 0 {
                return Ok(Progress::More);
            }
        }
    }

    /// Handles the batch from where the last turn stopped. The core gets all its commands at once.
    fn handle_batch(&mut self, server: &Bound<'_, Server>, left: &mut usize) -> PyResult<()> {
        if self.handled == self.batch.len() {
            return Ok(());
        }
        let Self { batch, handled, connections, .. } = self;
        Work::with(server, |work| {
            while *left > 0
                && let Some(event) = batch.get(*handled)
            {
                *handled += 1;
                *left -= 1;
                connections.handle(work, &event)?;
            }
            Ok(())
        })
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.connections.0.values().try_for_each(|conn| visit.call(conn))
    }
}

/// The open connections.
#[derive(Debug, Default)]
struct Connections(ConnectionMap<Py<Connection>>);

impl Connections {
    #[inline]
    fn get<'py>(&self, py: Python<'py>, id: ConnectionId) -> Option<&Bound<'py, Connection>> {
        self.0.get(id).map(|conn| conn.bind(py))
    }

    fn handle(&mut self, work: &Work<'_, '_>, event: &Event<'_>) -> PyResult<()> {
        let py = work.py;
        let (conn, message) = match *event {
            Event::Text(conn, text) => (conn, Incoming::Text(text)),
            Event::Binary(conn, payload) => (conn, Incoming::Binary(payload)),
            Event::Message(message) => (message.conn, Incoming::Event(message)),
            Event::Upgrade(upgrade) => return work.asked(upgrade),
            Event::Open(open) => return self.opened(work, open),
            Event::Close(close) => return self.closed(work, close),
            Event::Violation(violation) => return self.violated(work, violation),
            Event::Drained(conn) => return self.get(py, conn).map_or(Ok(()), |conn| work.drained(conn)),
        };
        self.get(py, conn).map_or(Ok(()), |conn| work.message(conn, message))
    }

    fn opened(&mut self, work: &Work<'_, '_>, open: &Open) -> PyResult<()> {
        let py = work.py;
        let data = open.ticket.and_then(|ticket| lock(&work.server.get().granting).take(ticket));
        let conn = Connection::new(py, open, work.server.clone().unbind(), work.handle.clone(), data);
        let conn = Bound::new(py, conn)?;
        self.0.insert(open.conn, conn.clone().unbind());
        match &work.handlers.open {
            Some(call) => work.call(&conn, Kind::Open, call, (&conn,)),
            None => Ok(()),
        }
    }

    fn closed(&mut self, work: &Work<'_, '_>, ending: Ending<'_>) -> PyResult<()> {
        let py = work.py;
        let Some(conn) = self.0.remove(ending.conn) else { return Ok(()) };
        let conn = conn.bind(py);
        let close = Close { code: ending.code, reason: PyString::new(py, ending.reason).unbind(), clean: ending.clean };
        let close = Py::new(py, close)?;
        let waiters = conn.get().with_state(|state| {
            state.closed = Some(close);
            state.close_due = true;
            let mut waiters = std::mem::take(&mut state.waiters);
            waiters.append(&mut state.receivers);
            waiters
        });
        awaiting::wake(py, waiters)?;
        work.advance(conn)
    }

    fn violated(&self, work: &Work<'_, '_>, violation: &ViolationEvent) -> PyResult<()> {
        let Some(call) = &work.handlers.violation else { return Ok(()) };
        let conn = violation.conn.and_then(|conn| self.get(work.py, conn)).map(|conn| conn.clone().unbind());
        work.call_plain(Kind::Violation, call, (Violation::new(violation, conn),))
    }
}

/// Keeps a turn on an event loop short: how many events it handles before others get theirs.
pub(crate) const EVENTS_PER_TURN: usize = 512;
