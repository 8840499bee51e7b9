//! Takes the core's batches and gives each event to its handler, on the application's thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::types::PyString;
use wsguard::binding::{
    Close as Ending, Code, Decision, Event, EventBatch, Next, Open, Server as CoreServer, ViolationEvent,
};

use crate::bell::lock;
use crate::connection::Connection;
use crate::handlers::Incoming;
use crate::records::{Close, Violation};
use crate::run::Run;
use crate::server::Server;
use crate::work::{Kind, Work, is_fatal};
use crate::{ending, errors, fork};

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
}

impl Drop for Delivery {
    fn drop(&mut self) {
        // In a child of `fork` its threads do not exist, and waiting for them would never end.
        if self.forks != fork::depth() {
            std::mem::forget(self.server.take());
        }
    }
}

/// How long what handlers have said waits for the other handlers of its batch, beside the one that runs.
const HELD_BACK_AT_MOST: Duration = Duration::from_millis(1);

/// How often an end without handlers looks whether it has come.
const LOOK_EVERY: Duration = Duration::from_millis(2);

impl Delivery {
    pub(crate) fn new(server: CoreServer) -> Self {
        Self { server: Some(server), forks: fork::depth(), batch: EventBatch::new(), handled: 0 }
    }

    /// Drains for at most `patience`, and stops. Nobody hears of the events. Called without the interpreter's lock.
    pub(crate) fn end(mut self, patience: Duration) {
        if self.forks != fork::depth() {
            return;
        }
        let Some(mut server) = self.server.take() else { return };
        let handle = server.handle();
        if handle.stats().open == 0 {
            return;
        }
        let until = Instant::now() + patience;
        handle.drain(patience.as_millis() as u64, 0);
        while server.events().next(&mut self.batch, Some(Duration::ZERO)) != Next::Stopped && Instant::now() < until {
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Handles events, at most about `most` of them.
    pub(crate) fn turn(&mut self, server: &Bound<'_, Server>, run: &Arc<Run>, most: usize) -> PyResult<Progress> {
        let mut left = most;
        loop {
            self.handle_batch(server, run, &mut left)?;
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
    fn handle_batch(&mut self, server: &Bound<'_, Server>, run: &Arc<Run>, left: &mut usize) -> PyResult<()> {
        if self.handled == self.batch.len() {
            return Ok(());
        }
        let Self { batch, handled, .. } = self;
        let mut since = Instant::now();
        let worked = Work::with(server, run, |work| {
            while *left > 0
                && !ending::has_come()
                && let Some(event) = batch.get(*handled)
            {
                *handled += 1;
                *left -= 1;
                handle(work, &event)?;
                // Slow handlers do not hold back what those before them have said to others.
                let now = Instant::now();
                if now.duration_since(since) >= HELD_BACK_AT_MOST {
                    since = now;
                    work.handle.flush();
                }
            }
            Ok(())
        })?;
        if worked.is_none() {
            // Nobody is left to hear of them.
            *handled = batch.len();
        }
        Ok(())
    }
}

/// Handles one event. A panic, and whatever else is not meant for the whole program, costs its connection or handshake and
/// nothing else (THREATS S5).
fn handle(work: &Work<'_, '_>, event: &Event<'_>) -> PyResult<()> {
    let error = match catch_unwind(AssertUnwindSafe(|| give(work, event))) {
        Ok(Err(error)) if !is_fatal(work.py, &error) => error,
        Ok(handled) => return handled,
        Err(_) => errors::panicked(),
    };
    match event {
        Event::Upgrade(upgrade) => {
            let _ = work.handle.answer(upgrade.ticket, Decision::Unavailable);
            work.report(Kind::Authenticate, error, || {})
        }
        event => {
            let conn = event.conn().and_then(|id| lock(&work.run.connections).get(work.py, id));
            let kind = match event {
                Event::Open(_) => Kind::Open,
                Event::Close(_) => Kind::Close,
                Event::Violation(_) => Kind::Violation,
                _ => Kind::Message,
            };
            match conn {
                Some(conn) => work.failed(&conn, kind, error),
                None => work.report(kind, error, || {}),
            }
        }
    }
}

fn give(work: &Work<'_, '_>, event: &Event<'_>) -> PyResult<()> {
    let (conn, message) = match *event {
        Event::Text(conn, text) => (conn, Incoming::Text(text)),
        Event::Binary(conn, payload) => (conn, Incoming::Binary(payload)),
        Event::Message(message) => (message.conn, Incoming::Event(message)),
        Event::Upgrade(upgrade) => return work.asked(upgrade),
        Event::Open(open) => return opened(work, open),
        Event::Close(close) => return closed(work, close),
        Event::Violation(violation) => return violated(work, violation),
        Event::Drained(conn) => return find(work, conn).map_or(Ok(()), |conn| work.drained(&conn)),
        // Nothing that Python has a handler for.
        _ => return Ok(()),
    };
    find(work, conn).map_or(Ok(()), |conn| work.message(&conn, message))
}

fn find<'py>(work: &Work<'_, 'py>, id: wsguard::binding::ConnectionId) -> Option<Bound<'py, Connection>> {
    lock(&work.run.connections).get(work.py, id)
}

fn opened(work: &Work<'_, '_>, open: &Open) -> PyResult<()> {
    let py = work.py;
    let granted = open.ticket.and_then(|ticket| lock(&work.run.granting).take(ticket));
    if open.ticket.is_some() && granted.is_none() {
        // What it was let in with was forgotten: it is not served without.
        let _ = work.handle.fail(open.conn);
        return Ok(());
    }
    let conn = Connection::new(py, open, work.server.clone().unbind(), Arc::clone(work.run), granted);
    let conn = Bound::new(py, conn)?;
    lock(&work.run.connections).insert(open.conn, open.user.as_ref(), conn.clone().unbind());
    // Asked behind the insertion: a call of `disconnect_user` on another thread finds it there, or is known here. The core
    // closes it; the application hears neither of its open nor of its messages nor of its close.
    if conn.get().was_revoked() {
        let own = lock(&work.run.connections).remove(open.conn);
        drop(own);
        return Work::end(&conn, Some((Code::SessionRevoked.close_code(), Code::SessionRevoked.reason())));
    }
    match &work.handlers.open {
        Some(call) => work.call(&conn, Kind::Open, call, None),
        None => Ok(()),
    }
}

fn closed(work: &Work<'_, '_>, ending: Ending<'_>) -> PyResult<()> {
    let py = work.py;
    let Some(conn) = lock(&work.run.connections).remove(ending.conn) else { return Ok(()) };
    let conn = conn.bind(py);
    let close = Close { code: ending.code, reason: PyString::new(py, ending.reason).unbind(), clean: ending.clean };
    let close = Py::new(py, close)?;
    conn.get().with_state(|state| {
        state.closed = Some(close);
        state.close_due = true;
    });
    conn.get().wake_all(py)?;
    // Behind the end of the session nothing is handled any more, whatever was read before.
    let is_of = |code: Code| ending.code == code.close_code() && ending.reason == code.reason();
    if is_of(Code::SessionExpired) || is_of(Code::SessionRevoked) {
        Work::end(conn, None)?;
    }
    work.advance(conn)?;
    work.let_linger(conn)
}

fn violated(work: &Work<'_, '_>, violation: &ViolationEvent) -> PyResult<()> {
    let Some(call) = &work.handlers.violation else { return Ok(()) };
    let conn = violation.conn.and_then(|conn| find(work, conn)).map(Bound::unbind);
    let violation = Bound::new(work.py, Violation::new(violation, conn))?;
    work.call_plain(Kind::Violation, call, violation.as_any())
}

/// Keeps a turn on an event loop short: how many events it handles before others get theirs.
pub(crate) const EVENTS_PER_TURN: usize = 512;
