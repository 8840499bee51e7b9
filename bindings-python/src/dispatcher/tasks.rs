//! Coroutines of handlers as tasks of the event loop.

use std::sync::atomic::Ordering;

use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use super::Dispatcher;
use super::ends::INTERNAL;
use super::failures::{Outcome, is_fatal};
use super::task_done::{ReportDone, TaskDone};
use crate::awaiting::{Awaiting, Done};
use crate::connection::Connection;
use crate::handlers::HandlerKind;
use crate::lock::lock;

impl<'py> Dispatcher<'_, 'py> {
    /// Returns true if a handler returned a coroutine, which becomes a task.
    pub(crate) fn returned(&self, returned: &Bound<'py, PyAny>) -> PyResult<bool> {
        if returned.is_instance_of::<Done>() {
            return Ok(false);
        }
        if returned.is_instance_of::<Awaiting>() {
            return Ok(self.loop_hooks().is_some());
        }
        let kind = returned.get_type().name()?;
        if kind == "generator" || kind == "async_generator" {
            let message = format!("a handler is a function or a coroutine, not a {kind}, which would never run");
            return Err(PyTypeError::new_err(message));
        }
        is_coroutine(returned)
    }

    pub(super) fn start_plain(
        &self,
        kind: HandlerKind,
        coroutine: &Bound<'py, PyAny>,
        context: &Bound<'py, PyAny>,
    ) -> PyResult<()> {
        let task = self.spawn(coroutine, context)?;
        let then = ReportDone::new(self.server, self.shared, kind);
        self.watch(&task, then)?;
        self.shared.plain_tasks(kind).fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Makes a coroutine a task of the server's event loop.
    pub(crate) fn spawn(
        &self,
        coroutine: &Bound<'py, PyAny>,
        context: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let Some(hooks) = self.loop_hooks() else {
            coroutine.call_method0(intern!(self.py, "close"))?;
            let message = "the handler returned a coroutine, and this server runs without asyncio: run(\"asyncio\")";
            return Err(PyTypeError::new_err(message));
        };
        hooks.create_task.bind(self.py).call1((coroutine, context))
    }

    /// Keeps a task until it has ended, and then calls `then` with it.
    pub(crate) fn watch(&self, task: &Bound<'py, PyAny>, then: impl IntoPyObject<'py>) -> PyResult<()> {
        if let Some(hooks) = self.loop_hooks() {
            hooks.tasks.bind(self.py).add(task)?;
        }
        task.call_method1(intern!(self.py, "add_done_callback"), (then,)).map(drop)
    }

    /// How a task ended. It is not kept any longer.
    pub(crate) fn outcome(&self, task: &Bound<'py, PyAny>) -> PyResult<Outcome> {
        if let Some(hooks) = self.loop_hooks() {
            hooks.tasks.bind(self.py).discard(task)?;
        }
        if task.call_method0(intern!(self.py, "cancelled"))?.is_truthy()? {
            return Ok(Outcome::Cancelled);
        }
        let exception = task.call_method0(intern!(self.py, "exception"))?;
        Ok(if exception.is_none() { Outcome::Returned } else { Outcome::Raised(PyErr::from_value(exception)) })
    }

    /// Makes a coroutine a task. Where the interpreter can (3.12) its first step runs here.
    pub(super) fn start(
        &self,
        conn: &Bound<'py, Connection>,
        kind: HandlerKind,
        coroutine: &Bound<'py, PyAny>,
        context: &Bound<'py, PyAny>,
    ) -> PyResult<()> {
        let current = lock(&self.shared.current).take_if(|current| current.conn == conn.get().id);
        let before = conn.get().with_state(|state| {
            state.busy = Some(kind);
            std::mem::replace(&mut state.current, current)
        });
        drop(before);
        match self.begin(conn, coroutine, context) {
            Ok(Some(ended)) => self.settle(conn, &ended),
            Ok(None) => Ok(()),
            Err(error) => {
                let current = conn.get().with_state(|state| {
                    state.busy = None;
                    state.current.take()
                });
                drop(current);
                self.failed(conn, kind, error)
            }
        }
    }

    /// Creates the task of a coroutine, and returns it if it has ended already; otherwise watches it. A task factory of the
    /// application may return anything.
    fn begin(
        &self,
        conn: &Bound<'py, Connection>,
        coroutine: &Bound<'py, PyAny>,
        context: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let task = self.spawn(coroutine, context)?;
        if task.call_method0(intern!(self.py, "done"))?.is_truthy()? {
            return Ok(Some(task));
        }
        self.watch(&task, TaskDone::of_handler(conn)).map(|()| None)
    }

    /// Clears up after a task of a connection that has ended.
    pub(crate) fn settle(&self, conn: &Bound<'py, Connection>, task: &Bound<'py, PyAny>) -> PyResult<()> {
        let outcome = self.outcome(task)?;
        let (kind, current, reader, is_over) = conn.get().with_state(|state| {
            let kind = state.busy.take().unwrap_or(HandlerKind::Message);
            let reader = state.remove_reader(task.as_ptr());
            // When a coroutine of `on_open` that read messages returns, the connection is over.
            let was_read = kind == HandlerKind::Open && std::mem::take(&mut state.read_in_open);
            let is_over = was_read && (!state.is_iterated() || state.read_by_others) && state.closed.is_none();
            (kind, state.current.take(), reader, is_over)
        });
        let event = current.as_ref().map(|current| current.event.clone_ref(self.py));
        drop((current, reader));
        match outcome {
            Outcome::Returned if is_over => {
                let _ = self.handle.close(conn.get().id, 1000, "");
                Self::end(conn, Some((1000, "")));
                Ok(())
            }
            Outcome::Returned => Ok(()),
            Outcome::Cancelled => {
                let _ = self.handle.fail(conn.get().id);
                Self::end(conn, Some(INTERNAL));
                Ok(())
            }
            // The event loop has raised it already.
            Outcome::Raised(error) if is_fatal(self.py, &error) => {
                let _ = self.handle.fail(conn.get().id);
                Self::end(conn, Some(INTERNAL));
                Ok(())
            }
            Outcome::Raised(error) => self.failed_in(conn, kind, error, event),
        }
    }
}

fn is_coroutine(value: &Bound<'_, PyAny>) -> PyResult<bool> {
    static IS_COROUTINE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let is_coroutine = IS_COROUTINE.get_or_try_init(value.py(), || {
        Ok::<_, PyErr>(value.py().import("asyncio")?.getattr("iscoroutine")?.unbind())
    })?;
    is_coroutine.bind(value.py()).call1((value,))?.is_truthy()
}
