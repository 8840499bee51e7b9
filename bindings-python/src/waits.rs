//! What the methods of a connection wait for.

use pyo3::exceptions::PyStopAsyncIteration;
use pyo3::prelude::*;

use crate::awaiting::Awaited;
use crate::connection::{Connection, State};
use crate::dispatcher::Dispatcher;
use crate::errors;
use crate::futures::Futures;
use crate::records::Close;

/// Room in the outbox.
pub(crate) static ROOM: Awaited = Awaited { poll: room, futures: waiters, gives_message: false };

/// The end of the connection.
pub(crate) static END: Awaited = Awaited { poll: end, futures: waiters, gives_message: false };

/// The next message, of `recv`.
pub(crate) static MESSAGE: Awaited = Awaited { poll: message, futures: receivers, gives_message: true };

/// The next message, of `async for`.
pub(crate) static NEXT_MESSAGE: Awaited = Awaited { poll: next_message, futures: receivers, gives_message: true };

/// The next message, of `_pull`.
pub(crate) static PULLED: Awaited = Awaited { poll: pulled, futures: receivers, gives_message: true };

fn waiters(state: &mut State) -> &mut Futures {
    &mut state.waiters
}

fn receivers(state: &mut State) -> &mut Futures {
    &mut state.receivers
}

fn room(conn: &Bound<'_, Connection>) -> PyResult<Option<Py<PyAny>>> {
    let (py, this) = (conn.py(), conn.get());
    let (queued, is_closed) = this.with_state(|state| (state.queued, state.closed.is_some()));
    match this.closed_error(py) {
        Some(error) if is_closed || this.is_over() => Err(error),
        _ if queued || !this.is_open() => Ok(None),
        _ => Ok(Some(py.None())),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "every poll function may fail")]
fn end(conn: &Bound<'_, Connection>) -> PyResult<Option<Py<PyAny>>> {
    let close = conn.get().with_state(|state| state.closed.as_ref().map(|close| close.clone_ref(conn.py())));
    Ok(close.map(Py::<Close>::into_any))
}

fn message(conn: &Bound<'_, Connection>) -> PyResult<Option<Py<PyAny>>> {
    next(conn, |py, conn| conn.closed_error(py).unwrap_or_else(|| errors::closed(py, None, "")))
}

fn next_message(conn: &Bound<'_, Connection>) -> PyResult<Option<Py<PyAny>>> {
    next(conn, |_, _| PyStopAsyncIteration::new_err(()))
}

/// The next message; `at_end` makes the exception for a connection that has none any more.
fn next(conn: &Bound<'_, Connection>, at_end: fn(Python<'_>, &Connection) -> PyErr) -> PyResult<Option<Py<PyAny>>> {
    if let Some(message) = Dispatcher::guarded_or_none(conn, |dispatcher| dispatcher.take(conn))? {
        return Ok(Some(message.unbind()));
    }
    if conn.get().with_state(|state| state.is_over()) { Err(at_end(conn.py(), conn.get())) } else { Ok(None) }
}

/// The next message; `None`: there is none now.
pub(crate) fn take(conn: &Bound<'_, Connection>) -> PyResult<Option<Py<PyAny>>> {
    Ok(Dispatcher::guarded_or_none(conn, |dispatcher| dispatcher.take(conn))?.map(Bound::unbind))
}

/// As [`next`]; at the end it is Python's `None`.
fn pulled(conn: &Bound<'_, Connection>) -> PyResult<Option<Py<PyAny>>> {
    let message = take(conn)?;
    let is_over = || conn.get().with_state(|state| state.is_over());
    Ok(message.or_else(|| is_over().then(|| conn.py().None())))
}
