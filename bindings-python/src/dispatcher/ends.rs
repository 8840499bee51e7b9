//! How a connection ends for the application.

use pyo3::prelude::*;

use super::Dispatcher;
use super::later::LaterCall;
use crate::connection::{Connection, Reading};
use crate::futures;

/// What a handler that fails, a model that refuses and the end of a session close a connection with.
pub(super) const INTERNAL: (u16, &str) = (1011, "internal error");
pub(super) const SCHEMA_MISMATCH: (u16, &str) = (1008, "schema mismatch");
pub(super) const EXPIRED: (u16, &str) = (1008, "session expired");

/// How long messages wait for a reader that is no task, after the end of their connection.
const LINGER_S: f64 = 60.0;

impl<'py> Dispatcher<'_, 'py> {
    /// Ends a connection for the application: nothing more of it reaches a handler, except its end. Its readers wake.
    pub(crate) fn end(conn: &Bound<'py, Connection>, closing: Option<(u16, &str)>) {
        let (py, this) = (conn.py(), conn.get());
        let released = this.end(closing);
        if released.reading == Reading::Resume {
            let _ = this.shared.handle.resume(this.id);
        }
        drop(released.pending);
        if released.receivers.is_empty() {
            return;
        }
        // Perhaps on another thread than the loop's.
        this.with_state(|state| state.receivers.extend(released.receivers));
        if let Some(hooks) = this.shared.loop_hooks() {
            // A closed loop has no readers any more.
            let _ = hooks.call_soon.bind(py).call1((LaterCall::new(conn, wake_readers),));
        }
    }

    /// Handles what waits for a connection, soon, on the thread that handles its events.
    pub(crate) fn advance_soon(conn: &Bound<'py, Connection>) -> PyResult<()> {
        let advance = |conn: &Bound<'_, Connection>| Dispatcher::guarded(conn, |dispatcher| dispatcher.advance(conn));
        match conn.get().shared.loop_hooks() {
            Some(hooks) if hooks.call_soon.bind(conn.py()).call1((LaterCall::new(conn, advance),)).is_ok() => Ok(()),
            // No loop, or one that is closed.
            _ => advance(conn),
        }
    }

    /// Ends a connection whose session is over, also before the core reports it.
    pub(super) fn end_with_session(conn: &Bound<'py, Connection>) {
        if conn.get().was_revoked() || conn.get().is_banned_behind_its_end() {
            Self::end(conn, None);
        } else if conn.get().has_expired() {
            Self::end(conn, Some(EXPIRED));
        }
    }

    /// Releases, a while after the end of a connection, the messages that wait for a reader who cannot be watched.
    pub(crate) fn let_linger(&self, conn: &Bound<'py, Connection>) -> PyResult<()> {
        if !conn.get().with_state(|state| state.read_by_others && state.has_pending()) {
            return Ok(());
        }
        match self.loop_hooks() {
            Some(hooks) => {
                let release = LaterCall::new(conn, |conn| {
                    Dispatcher::end(conn, None);
                    Ok(())
                });
                hooks.call_later.bind(self.py).call1((LINGER_S, release)).map(drop)
            }
            None => {
                Self::end(conn, None);
                Ok(())
            }
        }
    }
}

fn wake_readers(conn: &Bound<'_, Connection>) -> PyResult<()> {
    let receivers = conn.get().with_state(|state| std::mem::take(&mut state.receivers));
    futures::wake(conn.py(), receivers)
}
