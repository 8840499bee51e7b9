//! What the methods of a connection wait for.

use pyo3::exceptions::PyStopAsyncIteration;
use pyo3::intern;
use pyo3::prelude::*;

use crate::awaiting::Awaited;
use crate::connection::{Connection, State};
use crate::dispatcher::Dispatcher;
use crate::errors;
use crate::futures::Futures;
use crate::records::Close;

/// What is awaited on another loop than the server's, and what to do instead.
const ELSEWHERE_SEND: &str = "a send, whose message is on its way, is awaited on the server's event loop, and this is another: \
                              use send_nowait or emit_nowait, which need no loop";
const ELSEWHERE_END: &str = "wait_closed is awaited on the server's event loop, and this is another: \
                             asyncio.run_coroutine_threadsafe(conn.wait_closed(), loop)";
const ELSEWHERE_RECV: &str = "recv is awaited on the server's event loop, and this is another: \
                              asyncio.run_coroutine_threadsafe(conn.recv(), loop)";
const ELSEWHERE_ITERATED: &str = "async for is of the server's event loop, and this is another: \
                                  asyncio.run_coroutine_threadsafe(conn.recv(), loop)";

/// Room in the outbox.
pub(crate) static ROOM: Awaited =
    Awaited { poll: room, futures: waiters, gives_message: false, elsewhere: ELSEWHERE_SEND };

/// The end of the connection.
pub(crate) static END: Awaited =
    Awaited { poll: end, futures: waiters, gives_message: false, elsewhere: ELSEWHERE_END };

/// The next message, of `recv`.
pub(crate) static MESSAGE: Awaited =
    Awaited { poll: message, futures: receivers, gives_message: true, elsewhere: ELSEWHERE_RECV };

/// The next message, of `async for`.
pub(crate) static NEXT_MESSAGE: Awaited =
    Awaited { poll: next_message, futures: receivers, gives_message: true, elsewhere: ELSEWHERE_ITERATED };

/// The next message, of `_receive`.
pub(crate) static PULLED: Awaited =
    Awaited { poll: pulled, futures: receivers, gives_message: true, elsewhere: ELSEWHERE_RECV };

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

/// The next message as ASGI has it; at the end what the application's side (`Connection.data`) says it is.
fn pulled(conn: &Bound<'_, Connection>) -> PyResult<Option<Py<PyAny>>> {
    let (py, this) = (conn.py(), conn.get());
    let (has_pending, is_over) = this.with_state(|state| (state.has_pending(), state.is_over()));
    if has_pending && let Some(message) = Dispatcher::pull(conn) {
        return Ok(Some(message.into_any().unbind()));
    }
    // What waited may have been dropped by the end of its session.
    if !is_over && (!has_pending || !this.is_over()) {
        return Ok(None);
    }
    let end = this.kept_data(py).map(|application| application.bind(py).call_method0(intern!(py, "end_message")));
    Ok(end.transpose()?.filter(|end| !end.is_none()).map(Bound::unbind))
}
