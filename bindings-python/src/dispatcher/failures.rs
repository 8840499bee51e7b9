//! How a handler's task ends, and what a handler that fails costs: its connection, and a record of the log.

use std::sync::atomic::Ordering;

use pyo3::exceptions::{PyException, PyKeyboardInterrupt, PyRuntimeError, PySystemExit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyString;
use wsguard::binding::ConnectionId;

use super::ends::INTERNAL;
use super::{Dispatcher, MAX_REPORTING};
use crate::connection::Connection;
use crate::handlers::HandlerKind;
use crate::{context, errors};

/// How a task ended.
pub(crate) enum Outcome {
    Returned,
    Cancelled,
    Raised(PyErr),
}

impl<'py> Dispatcher<'_, 'py> {
    // THREATS S5.
    /// Closes the connection of a handler that failed with 1011, and logs the exception; the server lives.
    pub(crate) fn failed(&self, conn: &Bound<'py, Connection>, kind: HandlerKind, error: PyErr) -> PyResult<()> {
        let event = conn.get().with_current(|current| current.map(|current| current.event.clone_ref(self.py)));
        self.failed_in(conn, kind, error, event)
    }

    /// As [`failed`](Self::failed), for the handler of `event`.
    pub(crate) fn failed_in(
        &self,
        conn: &Bound<'py, Connection>,
        kind: HandlerKind,
        error: PyErr,
        event: Option<Py<PyString>>,
    ) -> PyResult<()> {
        let was_open = conn.get().is_open();
        // `ConnectionClosed` is no fault of a handler whose connection ended while it ran.
        let is_fault = was_open || !errors::is_closed(self.py, &error);
        // Before the connection closes: what the hook sends still goes out.
        let told = if is_fault { self.tell(Some(conn), &error, event) } else { Ok(()) };
        let _ = self.handle.fail(conn.get().id);
        Self::end(conn, Some(INTERNAL));
        let logged = if is_fault { self.log(kind, error, Some((conn.get().id, was_open))) } else { Ok(()) };
        told.and(logged)
    }

    /// Logs what a handler that belongs to no connection raised.
    pub(crate) fn report(&self, kind: HandlerKind, error: PyErr) -> PyResult<()> {
        if kind != HandlerKind::Error {
            self.tell(None, &error, None)?;
        }
        self.log(kind, error, None)
    }

    /// Tells `on_error` what a handler raised.
    fn tell(&self, conn: Option<&Bound<'py, Connection>>, error: &PyErr, event: Option<Py<PyString>>) -> PyResult<()> {
        let Some(call) = self.handlers.error.as_ref().filter(|_| !is_fatal(self.py, error)) else { return Ok(()) };
        if self.shared.telling.load(Ordering::Relaxed) >= MAX_REPORTING {
            let message =
                format!("{MAX_REPORTING} of its coroutines have not ended: it is not called for this exception");
            return self.log(HandlerKind::Error, PyRuntimeError::new_err(message), None);
        }
        let context = match conn {
            // A copy: a reader whose model raises is in the context itself.
            Some(conn) => context::copy(&conn.get().context(self.py)?)?,
            None => self.shared.new_context(self.py)?,
        };
        let told = context.call_method1(intern!(self.py, "run"), (call, conn, error.value(self.py), event));
        let started = told.and_then(|returned| {
            let is_coroutine = self.returned(&returned)?;
            if is_coroutine { self.start_plain(HandlerKind::Error, &returned, &context) } else { Ok(()) }
        });
        started.or_else(|error| self.log(HandlerKind::Error, error, None))
    }

    /// Logs what a handler raised. An exception that is meant for the whole program comes back as the error.
    fn log(&self, kind: HandlerKind, error: PyErr, conn: Option<(ConnectionId, bool)>) -> PyResult<()> {
        if is_fatal(self.py, &error) {
            return Err(error);
        }
        let (conn, closes) = conn.map_or((None, false), |(conn, closes)| (Some(conn.to_string()), closes));
        let logged = self.handlers.report.bind(self.py).call1((error, kind.name(), conn, closes));
        self.or_fatal(logged)
    }

    // THREATS S6.
    /// Ignores a log that fails.
    pub(super) fn or_fatal(&self, logged: PyResult<Bound<'py, PyAny>>) -> PyResult<()> {
        match logged {
            Err(error) if is_fatal(self.py, &error) => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

/// Returns true if an exception is meant for the whole program: Ctrl-C, `sys.exit()`.
pub(crate) fn is_fatal(py: Python<'_>, error: &PyErr) -> bool {
    !error.is_instance_of::<PyException>(py)
        && (error.is_instance_of::<PyKeyboardInterrupt>(py) || error.is_instance_of::<PySystemExit>(py))
}
