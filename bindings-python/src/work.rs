//! Runs the application's handlers: in order per connection, functions at once, coroutines as a task each.

use std::sync::Arc;

use pyo3::call::PyCallArgs;
use pyo3::exceptions::{PyException, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use pyo3::{PyTraverseError, PyVisit};
use wsguard::host::{ConnectionId, JsonMessage, ServerHandle};

use crate::awaiting;
use crate::bell::lock;
use crate::connection::{Connection, Reading, State};
use crate::errors;
use crate::handlers::{Current, Handlers, Incoming, NoData, Waiting};
use crate::records::Close;
use crate::server::{Looping, Server};

/// What a handler is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Open,
    Message,
    Close,
    Violation,
    Authenticate,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Open => "on_open",
            Kind::Message => "message",
            Kind::Close => "on_close",
            Kind::Violation => "on_violation",
            Kind::Authenticate => "authenticate",
        }
    }
}

/// One stretch of work for a server on the thread that handles its events. Commands are handed over when it ends.
pub(crate) struct Work<'w, 'py> {
    pub(crate) py: Python<'py>,
    pub(crate) server: &'w Bound<'py, Server>,
    pub(crate) handlers: &'w Handlers,
    pub(crate) handle: &'w ServerHandle,
}

impl<'py> Work<'_, 'py> {
    /// Does `work` with the server's commands corked.
    pub(crate) fn with<T>(
        server: &Bound<'py, Server>,
        work: impl FnOnce(&Work<'_, 'py>) -> PyResult<T>,
    ) -> PyResult<T> {
        let py = server.py();
        let handle = server.get().running(py)?;
        let handlers = server.get().handlers().ok_or_else(|| errors::not_started(py))?;
        let cork = handle.cork();
        let done = work(&Work { py, server, handlers: &handlers, handle });
        drop(cork);
        done
    }

    /// A message came.
    #[inline]
    pub(crate) fn message(&self, conn: &Bound<'py, Connection>, message: Incoming<'_>) -> PyResult<()> {
        if conn.get().is_free() { self.run(conn, message) } else { self.keep(conn, message) }
    }

    /// Keeps a message until its turn comes, or tells whoever waits for one. It counts towards `max_inbox_bytes`, and a
    /// connection with many of them is not read (THREATS S4).
    fn keep(&self, conn: &Bound<'py, Connection>, message: Incoming<'_>) -> PyResult<()> {
        let waiting = Waiting::copy_of(message);
        let cost = waiting.cost_bytes();
        let kept = conn
            .get()
            .with_state(|state| (!state.ended).then(|| (state.push(waiting), std::mem::take(&mut state.receivers))));
        let Some((reading, receivers)) = kept else { return Ok(()) };
        self.handle.keep_inbox(cost);
        self.read(conn, reading);
        awaiting::wake(self.py, receivers)
    }

    /// A message no longer waits.
    fn taken(&self, conn: &Bound<'py, Connection>, waiting: &Waiting, reading: Reading) {
        self.handle.release_inbox(waiting.cost_bytes());
        self.read(conn, reading);
    }

    fn read(&self, conn: &Bound<'py, Connection>, reading: Reading) {
        // One that has closed meanwhile needs neither.
        let _ = match reading {
            Reading::AsBefore => Ok(()),
            Reading::Pause => self.handle.pause(conn.get().id),
            Reading::Resume => self.handle.resume(conn.get().id),
        };
    }

    /// Calls the handler of a message.
    fn run(&self, conn: &Bound<'py, Connection>, message: Incoming<'_>) -> PyResult<()> {
        match message {
            Incoming::Text(text) => self.run_raw(conn, PyString::new(self.py, text).into_any()),
            Incoming::Binary(payload) => self.run_raw(conn, PyBytes::new(self.py, payload).into_any()),
            Incoming::Event(message) => self.run_event(conn, &message),
        }
    }

    fn run_raw(&self, conn: &Bound<'py, Connection>, message: Bound<'py, PyAny>) -> PyResult<()> {
        let Some(call) = &self.handlers.message else { return Ok(()) };
        self.call(conn, Kind::Message, call, (conn, message))
    }

    fn run_event(&self, conn: &Bound<'py, Connection>, message: &JsonMessage<'_>) -> PyResult<()> {
        let call = self.handlers.events.get(message.event).and_then(|spec| spec.call.as_ref());
        if call.is_none() && self.handlers.message.is_none() {
            return Ok(());
        }
        let Some(data) = self.data(conn, message)? else { return Ok(()) };
        let current = Current::new(self.py, self.handlers, message, &data);
        let whole = if call.is_none() { Some(current.message(self.py)?) } else { None };
        let before = lock(&self.server.get().current).replace(current);
        drop(before);
        match (call, whole, &self.handlers.message) {
            (Some(call), ..) => self.call(conn, Kind::Message, call, (conn, data)),
            (None, Some(message), Some(call)) => self.call(conn, Kind::Message, call, (conn, message)),
            _ => Ok(()),
        }
    }

    /// The data of a message; `None` when its model refused it, which closes the connection.
    fn data(&self, conn: &Bound<'py, Connection>, message: &JsonMessage<'_>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self.handlers.data(self.py, message) {
            Ok(data) => Ok(Some(data)),
            Err(NoData::Refused(error)) if is_value_error(self.py, &error) => {
                self.handlers.refused.bind(self.py).call1((error, message.event, conn.get().id.to_string()))?;
                let _ = self.handle.refuse(conn.get().id, message.event);
                if !self.handlers.only_reports {
                    Self::end(conn);
                }
                Ok(None)
            }
            Err(NoData::Refused(error) | NoData::Failed(error)) => {
                self.failed(conn, Kind::Message, error).map(|()| None)
            }
        }
    }

    /// The next message for whoever iterates.
    pub(crate) fn take(&self, conn: &Bound<'py, Connection>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some((waiting, reading)) = conn.get().with_state(State::pop) else { return Ok(None) };
        self.taken(conn, &waiting, reading);
        match waiting.as_incoming() {
            Incoming::Text(text) => Ok(Some(PyString::new(self.py, text).into_any())),
            Incoming::Binary(payload) => Ok(Some(PyBytes::new(self.py, payload).into_any())),
            Incoming::Event(message) => {
                let Some(data) = self.data(conn, &message)? else { return Ok(None) };
                let current = Current::new(self.py, self.handlers, &message, &data);
                let record = current.message(self.py)?;
                let before = conn.get().with_state(|state| state.current.replace(current));
                drop(before);
                Ok(Some(Bound::new(self.py, record)?.into_any()))
            }
        }
    }

    /// Calls a handler of a connection. An error here is one that ends more than this handler: Ctrl-C, `sys.exit()`.
    #[inline]
    pub(crate) fn call<A: PyCallArgs<'py>>(
        &self,
        conn: &Bound<'py, Connection>,
        kind: Kind,
        call: &Py<PyAny>,
        args: A,
    ) -> PyResult<()> {
        match call.bind(self.py).call1(args) {
            Ok(returned) if returned.is_none() => Ok(()),
            Ok(returned) if is_coroutine(&returned)? => self.start(conn, kind, &returned),
            Ok(_) => Ok(()),
            Err(error) => self.failed(conn, kind, error),
        }
    }

    /// Calls a handler that belongs to no connection; its coroutine is a task nobody waits for.
    pub(crate) fn call_plain<A: PyCallArgs<'py>>(&self, kind: Kind, call: &Py<PyAny>, args: A) -> PyResult<()> {
        let failed = |error| self.report(kind, None, error, || {});
        match call.bind(self.py).call1(args) {
            Ok(returned) if returned.is_none() => Ok(()),
            Ok(returned) if is_coroutine(&returned)? => self.start_plain(kind, &returned).or_else(failed),
            Ok(_) => Ok(()),
            Err(error) => failed(error),
        }
    }

    fn start_plain(&self, kind: Kind, coroutine: &Bound<'py, PyAny>) -> PyResult<()> {
        let task = self.spawn(coroutine)?;
        self.watch(&task, Settling { server: self.server.clone().unbind(), kind })
    }

    /// Makes a coroutine a task of the server's event loop.
    pub(crate) fn spawn(&self, coroutine: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let Some(looping) = self.looping() else {
            coroutine.call_method0(intern!(self.py, "close"))?;
            return Err(PyTypeError::new_err("a coroutine needs a server that runs on asyncio"));
        };
        looping.create_task.bind(self.py).call1((coroutine,))
    }

    /// Keeps a task until it has ended, and calls `then` with it.
    pub(crate) fn watch(&self, task: &Bound<'py, PyAny>, then: impl IntoPyObject<'py>) -> PyResult<()> {
        if let Some(looping) = self.looping() {
            looping.tasks.bind(self.py).add(task)?;
        }
        task.call_method1(intern!(self.py, "add_done_callback"), (then,)).map(drop)
    }

    /// How a task has ended, which need not be kept any more.
    pub(crate) fn outcome(&self, task: &Bound<'py, PyAny>) -> PyResult<Outcome> {
        if let Some(looping) = self.looping() {
            looping.tasks.bind(self.py).discard(task)?;
        }
        if task.call_method0(intern!(self.py, "cancelled"))?.is_truthy()? {
            return Ok(Outcome::Cancelled);
        }
        let exception = task.call_method0(intern!(self.py, "exception"))?;
        Ok(if exception.is_none() { Outcome::Returned } else { Outcome::Raised(PyErr::from_value(exception)) })
    }

    /// The outbox of a connection is empty again.
    pub(crate) fn drained(&self, conn: &Bound<'py, Connection>) -> PyResult<()> {
        let waiters = conn.get().with_state(|state| {
            state.queued = false;
            std::mem::take(&mut state.waiters)
        });
        awaiting::wake(self.py, waiters)
    }

    /// Makes a coroutine a task. Where the interpreter can (3.12) its first step runs here.
    fn start(&self, conn: &Bound<'py, Connection>, kind: Kind, coroutine: &Bound<'py, PyAny>) -> PyResult<()> {
        let current = lock(&self.server.get().current).take_if(|current| current.conn == conn.get().id);
        let before = conn.get().with_state(|state| {
            state.busy = Some(kind);
            std::mem::replace(&mut state.current, current)
        });
        drop(before);
        let task = match self.spawn(coroutine) {
            Ok(task) => task,
            Err(error) => {
                conn.get().with_state(|state| state.busy = None);
                return self.failed(conn, kind, error);
            }
        };
        if task.call_method0(intern!(self.py, "done"))?.is_truthy()? {
            return self.settle(conn, &task);
        }
        self.watch(&task, conn.getattr(intern!(self.py, "_settled"))?)
    }

    /// A task has ended: what it left behind.
    pub(crate) fn settle(&self, conn: &Bound<'py, Connection>, task: &Bound<'py, PyAny>) -> PyResult<()> {
        let outcome = self.outcome(task)?;
        let (kind, current, left) = conn.get().with_state(|state| {
            let kind = state.busy.take().unwrap_or(Kind::Message);
            // A coroutine that iterated speaks for the connection: when it returns, the connection is over.
            let left = kind == Kind::Open && std::mem::take(&mut state.iterated) && state.closed.is_none();
            (kind, state.current.take(), left)
        });
        drop(current);
        match outcome {
            Outcome::Returned if left => {
                let _ = self.handle.close(conn.get().id, 1000, "");
                Self::end(conn);
                Ok(())
            }
            Outcome::Returned => Ok(()),
            Outcome::Cancelled => {
                let _ = self.handle.fail(conn.get().id);
                Self::end(conn);
                Ok(())
            }
            Outcome::Raised(error) => self.failed(conn, kind, error),
        }
    }

    /// Whatever this connection has to do next, until a coroutine runs.
    pub(crate) fn advance(&self, conn: &Bound<'py, Connection>) -> PyResult<()> {
        enum Next {
            Message(Waiting, Reading),
            Drop(Waiting, Reading),
            Close(Option<Py<Close>>),
            Nothing,
        }
        loop {
            let next = conn.get().with_state(|state| {
                if state.busy.is_some() {
                    return Next::Nothing;
                }
                let waiting = if state.iterated { None } else { state.pop() };
                match waiting {
                    Some((waiting, reading)) if state.ended => Next::Drop(waiting, reading),
                    Some((waiting, reading)) => Next::Message(waiting, reading),
                    None if std::mem::take(&mut state.close_due) => {
                        Next::Close(state.closed.as_ref().map(|close| close.clone_ref(self.py)))
                    }
                    None => Next::Nothing,
                }
            });
            match next {
                Next::Message(waiting, reading) => {
                    self.taken(conn, &waiting, reading);
                    self.run(conn, waiting.as_incoming())?;
                }
                Next::Drop(waiting, reading) => self.taken(conn, &waiting, reading),
                Next::Close(close) => {
                    if let Some(call) = &self.handlers.close {
                        self.call(conn, Kind::Close, call, (conn, close))?;
                    }
                }
                Next::Nothing => return Ok(()),
            }
        }
    }

    /// Nothing more of this connection reaches a handler, but its end.
    fn end(conn: &Bound<'py, Connection>) {
        conn.get().with_state(|state| state.ended = true);
    }

    /// A handler failed: its connection closes with 1011, the exception is logged, the server lives (THREATS S5).
    pub(crate) fn failed(&self, conn: &Bound<'py, Connection>, kind: Kind, error: PyErr) -> PyResult<()> {
        self.report(kind, Some(conn.get().id), error, || {
            let _ = self.handle.fail(conn.get().id);
            Self::end(conn);
        })
    }

    /// Logs what a handler raised and calls `refuse`; what is meant for the whole program is given back.
    pub(crate) fn report(
        &self,
        kind: Kind,
        conn: Option<ConnectionId>,
        error: PyErr,
        refuse: impl FnOnce(),
    ) -> PyResult<()> {
        refuse_or_propagate(self.py, &error).map_or(Ok(()), Err)?;
        let is_gone = conn.is_some_and(|conn| !self.handle.is_open(conn));
        if is_gone && errors::is_closed(self.py, &error) {
            return Ok(());
        }
        refuse();
        let conn = conn.map(|conn| conn.to_string());
        self.handlers.report.bind(self.py).call1((error, kind.name(), conn)).map(drop)
    }

    pub(crate) fn looping(&self) -> Option<Arc<Looping>> {
        self.server.get().looping()
    }
}

/// Called when a coroutine that belongs to no connection has ended.
#[pyclass(frozen, module = "wsguard._wsguard")]
#[derive(Debug)]
struct Settling {
    server: Py<Server>,
    kind: Kind,
}

#[pymethods]
impl Settling {
    fn __call__(&self, task: &Bound<'_, PyAny>) -> PyResult<()> {
        let server = self.server.bind(task.py());
        Work::with(server, |work| match work.outcome(task)? {
            Outcome::Raised(error) => work.report(self.kind, None, error, || {}),
            Outcome::Returned | Outcome::Cancelled => Ok(()),
        })
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.server)
    }
}

/// The error again when it is none of a handler's own: `KeyboardInterrupt`, `SystemExit`.
fn refuse_or_propagate(py: Python<'_>, error: &PyErr) -> Option<PyErr> {
    let own = error.is_instance_of::<PyException>(py) || is_cancelled(py, error);
    (!own).then(|| error.clone_ref(py))
}

fn is_cancelled(py: Python<'_>, error: &PyErr) -> bool {
    error.get_type(py).name().is_ok_and(|name| name == "CancelledError")
}

/// Pydantic's `ValidationError` is a `ValueError`.
fn is_value_error(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<pyo3::exceptions::PyValueError>(py)
}

pub(crate) fn is_coroutine(value: &Bound<'_, PyAny>) -> PyResult<bool> {
    use pyo3::sync::PyOnceLock;
    static IS_COROUTINE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let is_coroutine = IS_COROUTINE.get_or_try_init(value.py(), || {
        Ok::<_, PyErr>(value.py().import("asyncio")?.getattr("iscoroutine")?.unbind())
    })?;
    is_coroutine.bind(value.py()).call1((value,))?.is_truthy()
}

/// How a task ended.
pub(crate) enum Outcome {
    Returned,
    Cancelled,
    Raised(PyErr),
}
