//! Takes the core's batches and gives each event to its handler, on the application's thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::types::PyString;
use wsguard::binding::{
    Close as Ending, Code, ConnectionId, Decision, Event, EventBatch, Next, Open, Server as CoreServer, ViolationEvent,
};

use crate::connection::Connection;
use crate::connections::Connections;
use crate::dispatcher::{Dispatcher, is_fatal};
use crate::handlers::HandlerKind;
use crate::lock::lock;
use crate::messages::BorrowedMessage;
use crate::records::Close;
use crate::shared::{HELD_BACK_AT_MOST, Shared};
use crate::violation::Violation;
use crate::{ending, errors, fork};

/// How many events a turn on an event loop handles before others get theirs.
pub(crate) const EVENTS_PER_TURN: usize = 512;

/// How often an end without handlers polls the core.
const POLL_EVERY: Duration = Duration::from_millis(2);

/// What a turn left to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Every event was handled; the notifier wakes when there are more.
    Idle,
    /// There is more to do.
    More,
    /// The server has stopped and every event was handled.
    Stopped,
}

/// The one consumer of a server's events.
#[derive(Debug)]
pub(crate) struct Delivery {
    /// `Some` until it is dropped.
    server: Option<CoreServer>,
    forks: u64,
    batch: EventBatch,
    /// How many events of the batch were handled.
    handled: usize,
}

impl Drop for Delivery {
    fn drop(&mut self) {
        // A child of `fork` has none of its threads: waiting for them would never end.
        if self.is_forked() {
            std::mem::forget(self.server.take());
        }
    }
}

impl Delivery {
    pub(crate) fn new(server: CoreServer) -> Self {
        Self { server: Some(server), forks: fork::depth(), batch: EventBatch::new(), handled: 0 }
    }

    fn is_forked(&self) -> bool {
        self.forks != fork::depth()
    }

    /// Drains for at most `timeout`, and stops, without calling a handler. Called without the interpreter's lock.
    pub(crate) fn end(mut self, timeout: Duration) {
        if self.is_forked() {
            return;
        }
        let Some(mut server) = self.server.take() else { return };
        let handle = server.handle();
        if handle.stats().open == 0 {
            return;
        }
        let until = Instant::now() + timeout;
        handle.drain(timeout.as_millis() as u64, 0);
        while server.events().next(&mut self.batch, Some(Duration::ZERO)) != Next::Stopped && Instant::now() < until {
            std::thread::sleep(POLL_EVERY);
        }
    }

    /// Handles events, at most about `most` of them.
    pub(crate) fn turn(
        &mut self,
        server: &Bound<'_, PyAny>,
        shared: &Arc<Shared>,
        connections: &Mutex<Connections>,
        most: usize,
    ) -> PyResult<Progress> {
        let mut left = most;
        loop {
            self.handle_batch(server, shared, connections, &mut left)?;
            if self.is_forked() {
                // A handler has forked, and this is the child. A thread of the parent may hold the core's locks for ever.
                return Ok(Progress::Idle);
            }
            if self.handled < self.batch.len() {
                return Ok(Progress::More);
            }
            self.handled = 0;
            let Some(core) = &mut self.server else { return Ok(Progress::Stopped) };
            match core.events().next(&mut self.batch, Some(Duration::ZERO)) {
                Next::Events => {}
                Next::Nothing => return Ok(Progress::Idle),
                Next::Stopped => return Ok(Progress::Stopped),
            }
            if left == 0 {
                return Ok(Progress::More);
            }
        }
    }

    /// Handles the batch from where the last turn stopped. The core gets all its commands at once.
    fn handle_batch(
        &mut self,
        server: &Bound<'_, PyAny>,
        shared: &Arc<Shared>,
        connections: &Mutex<Connections>,
        left: &mut usize,
    ) -> PyResult<()> {
        if self.handled == self.batch.len() {
            return Ok(());
        }
        shared.note_handled();
        let Self { batch, handled, forks, .. } = self;
        let mut since = Instant::now();
        let handled_any = Dispatcher::with(server, shared, |dispatcher| {
            let turn = Turn { dispatcher, connections };
            while *left > 0
                && !ending::has_come()
                && *forks == fork::depth()
                && let Some(event) = batch.get(*handled)
            {
                *handled += 1;
                *left -= 1;
                // Slow handlers do not hold back what those before them have sent.
                let now = Instant::now();
                if now.duration_since(since) >= HELD_BACK_AT_MOST {
                    since = now;
                    dispatcher.handle.flush();
                }
                turn.handle(&event)?;
                if turn.begins_task(&event) {
                    *left = 0;
                }
            }
            Ok(())
        })?;
        if handled_any.is_none() {
            // No handler is left to call.
            *handled = batch.len();
        }
        Ok(())
    }
}

/// Gives events of a batch to their handlers.
struct Turn<'t, 'd, 'py> {
    dispatcher: &'t Dispatcher<'d, 'py>,
    connections: &'t Mutex<Connections>,
}

impl<'py> Turn<'_, '_, 'py> {
    // THREATS S5.
    /// Handles one event. A panic, and every exception that is not meant for the whole program, costs its connection or
    /// handshake and nothing else.
    fn handle(&self, event: &Event<'_>) -> PyResult<()> {
        let error = match catch_unwind(AssertUnwindSafe(|| self.give(event))) {
            Ok(Err(error)) if !is_fatal(self.dispatcher.py, &error) => error,
            Ok(handled) => return handled,
            Err(_) => errors::panicked(),
        };
        let kind = match event {
            Event::Upgrade(upgrade) => {
                let _ = self.dispatcher.handle.answer(upgrade.ticket, Decision::Unavailable);
                HandlerKind::Authenticate
            }
            Event::Open(_) => HandlerKind::Open,
            Event::Close(_) => HandlerKind::Close,
            Event::Violation(_) => HandlerKind::Violation,
            Event::PipeReady(_) | Event::PipeRoom(_) | Event::AdoptionEnded { .. } => HandlerKind::Adoption,
            _ => HandlerKind::Message,
        };
        match event.conn().and_then(|id| self.find(id)) {
            Some(conn) => self.dispatcher.failed(&conn, kind, error),
            None => self.dispatcher.report(kind, error),
        }
    }

    /// Whether an event has made a task ready that is to run before what comes next is told: of whoever has opened the task
    /// enters it where messages to all are sent, and of whoever has left it takes it out.
    fn begins_task(&self, event: &Event<'_>) -> bool {
        let is_inside = self.dispatcher.handlers.inside.is_some();
        match event {
            Event::Open(open) => {
                is_inside
                    || self.find(open.conn).is_some_and(|conn| conn.get().with_state(|state| state.busy.is_some()))
            }
            Event::Close(_) => is_inside,
            _ => false,
        }
    }

    fn give(&self, event: &Event<'_>) -> PyResult<()> {
        let (conn, message) = match *event {
            Event::Text(conn, text) => (conn, BorrowedMessage::Text(text)),
            Event::Binary(conn, payload) => (conn, BorrowedMessage::Binary(payload)),
            Event::Message(message) => (message.conn, BorrowedMessage::Event(message)),
            Event::Upgrade(upgrade) => return self.dispatcher.asked(upgrade),
            Event::UpgradeGone(ticket) => return self.dispatcher.gone(ticket),
            Event::Pong { conn, rtt } => {
                return self.find(conn).map_or(Ok(()), |conn| self.dispatcher.pong(&conn, rtt));
            }
            Event::Open(open) => return self.opened(open),
            Event::Close(close) => return self.closed(close),
            Event::Violation(violation) => return self.violated(violation),
            Event::Drained(conn) => return self.find(conn).map_or(Ok(()), |conn| self.dispatcher.drained(&conn)),
            // Python has no handler for any other.
            _ => return self.dispatcher.told_inside(event),
        };
        self.find(conn).map_or(Ok(()), |conn| self.dispatcher.message(&conn, message))
    }

    fn find(&self, id: ConnectionId) -> Option<Bound<'py, Connection>> {
        lock(self.connections).get(self.dispatcher.py, id)
    }

    fn opened(&self, open: &Open) -> PyResult<()> {
        let Dispatcher { py, server, shared, handlers, handle } = *self.dispatcher;
        let accept = open.ticket.and_then(|ticket| lock(&shared.accepts).take(ticket));
        if open.ticket.is_some() && accept.is_none() {
            // What it was accepted with was forgotten: it is not served without.
            let _ = handle.fail(open.conn);
            return self.dispatcher.told_inside_of_none(open, Code::Internal);
        }
        let conn = Connection::new(py, open, server.clone().unbind(), Arc::clone(shared), accept);
        let conn = Bound::new(py, conn)?;
        lock(self.connections).insert(open.conn, open.user.as_ref(), conn.clone().unbind());
        if handlers.inside.is_some() {
            conn.get().with_state(|state| state.read_by_others = true);
        }
        // Asked after the insertion: a `disconnect_user` or `ban` on another thread finds it there, or is known here. The
        // core closes it; the application gets neither its open nor its messages nor its close.
        let is_banned = conn.get().is_banned();
        if is_banned || conn.get().was_revoked() {
            let own = lock(self.connections).remove(open.conn);
            drop(own);
            let code = if is_banned { Code::Banned } else { Code::SessionRevoked };
            Dispatcher::end(&conn, Some((code.close_code(), code.reason())));
            return self.dispatcher.told_inside_of_none(open, code);
        }
        match &handlers.open {
            Some(call) => self.dispatcher.call(&conn, HandlerKind::Open, call, None),
            None => Ok(()),
        }
    }

    fn closed(&self, ending: Ending<'_>) -> PyResult<()> {
        let py = self.dispatcher.py;
        let Some(conn) = lock(self.connections).remove(ending.conn) else { return Ok(()) };
        let conn = conn.bind(py);
        let close = Close {
            code: ending.code,
            reason: PyString::new(py, ending.reason).unbind(),
            clean: ending.clean,
            verdict: ending.verdict.map(Code::name),
        };
        let close = Py::new(py, close)?;
        let is_inside = self.dispatcher.handlers.inside.is_some();
        let told = close.clone_ref(py);
        conn.get().with_state(|state| {
            state.closed = Some(close);
            state.close_due = !is_inside;
        });
        conn.get().wake_all(py)?;
        // After the end of the session, or a ban, nothing is handled any more, whatever was read before.
        if matches!(ending.verdict, Some(Code::SessionExpired | Code::SessionRevoked | Code::Banned)) {
            Dispatcher::end(conn, None);
        }
        if is_inside {
            // At once: what was read before is its application's to pull, or to leave.
            let Some(call) = &self.dispatcher.handlers.close else { return Ok(()) };
            return self.dispatcher.call(conn, HandlerKind::Close, call, Some(told.bind(py).as_any()));
        }
        self.dispatcher.advance(conn)?;
        self.dispatcher.let_linger(conn)
    }

    fn violated(&self, violation: &ViolationEvent) -> PyResult<()> {
        let Some(call) = &self.dispatcher.handlers.violation else { return Ok(()) };
        let conn = violation.conn.and_then(|conn| self.find(conn)).map(Bound::unbind);
        let violation = Bound::new(self.dispatcher.py, Violation::new(violation, conn))?;
        self.dispatcher.call_plain(HandlerKind::Violation, call, violation.as_any())
    }
}
