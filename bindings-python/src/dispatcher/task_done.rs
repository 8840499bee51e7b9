//! What the event loop calls when a task has ended.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use super::Dispatcher;
use super::failures::{Outcome, is_fatal};
use crate::connection::Connection;
use crate::handlers::HandlerKind;
use crate::shared::Shared;

/// Called when a task of a connection has ended.
#[pyclass(frozen, module = "wsguard._wsguard")]
#[derive(Debug)]
pub(crate) struct TaskDone {
    conn: Py<Connection>,
    /// The task only read messages; it is no coroutine of a handler.
    is_reader: bool,
}

impl TaskDone {
    /// For the coroutine of a handler.
    pub(super) fn of_handler(conn: &Bound<'_, Connection>) -> Self {
        Self { conn: conn.clone().unbind(), is_reader: false }
    }

    /// For a task that takes messages: when it has ended, handlers get them again.
    pub(crate) fn of_reader(conn: &Bound<'_, Connection>) -> Self {
        Self { conn: conn.clone().unbind(), is_reader: true }
    }
}

#[pymethods]
impl TaskDone {
    fn __call__(&self, task: &Bound<'_, PyAny>) -> PyResult<()> {
        let conn = self.conn.bind(task.py());
        if self.is_reader {
            let (reader, current) = conn.get().with_state(|state| {
                let reader = state.remove_reader(task.as_ptr());
                let is_last = !state.is_iterated() && state.busy.is_none();
                (reader, if is_last { state.current.take() } else { None })
            });
            drop((reader, current));
        }
        Dispatcher::guarded(conn, |dispatcher| {
            if !self.is_reader {
                dispatcher.settle(conn, task)?;
            }
            dispatcher.advance(conn)
        })
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.conn)
    }
}

/// Called when a coroutine of `on_violation` has ended.
#[pyclass(frozen, module = "wsguard._wsguard")]
#[derive(Debug)]
pub(super) struct ReportDone {
    server: Py<PyAny>,
    shared: Arc<Shared>,
    kind: HandlerKind,
}

impl ReportDone {
    pub(super) fn new(server: &Bound<'_, PyAny>, shared: &Arc<Shared>, kind: HandlerKind) -> Self {
        Self { server: server.clone().unbind(), shared: Arc::clone(shared), kind }
    }
}

#[pymethods]
impl ReportDone {
    fn __call__(&self, task: &Bound<'_, PyAny>) -> PyResult<()> {
        self.shared.plain_tasks(self.kind).fetch_sub(1, Ordering::Relaxed);
        let server = self.server.bind(task.py());
        let done = Dispatcher::with(server, &self.shared, |dispatcher| match dispatcher.outcome(task)? {
            // The event loop has raised a fatal one already.
            Outcome::Raised(error) if !is_fatal(dispatcher.py, &error) => dispatcher.report(self.kind, error),
            _ => Ok(()),
        });
        done.map(drop)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.server)
    }
}
