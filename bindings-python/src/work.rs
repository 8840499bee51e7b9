//! Runs the application's handlers: in order per connection, functions at once, coroutines as a task each.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use pyo3::exceptions::{PyException, PyKeyboardInterrupt, PyRuntimeError, PySystemExit, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use pyo3::{PyTraverseError, PyVisit};
use wsguard::binding::{ConnectionId, JsonMessage, ServerHandle};

use crate::awaiting::{self, Awaiting, Done};
use crate::bell::lock;
use crate::connection::{Connection, Reading};
use crate::ending::Inside;
use crate::errors;
use crate::handlers::{Current, Handlers, Incoming, NoData, Waiting};
use crate::kept::Kept;
use crate::records::Close;
use crate::run::{Looping, Run, in_context};
use crate::server::Server;

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

/// One stretch of work for a run on the thread that handles its events. Commands are handed over when it ends.
pub(crate) struct Work<'w, 'py> {
    pub(crate) py: Python<'py>,
    pub(crate) server: &'w Bound<'py, Server>,
    pub(crate) run: &'w Arc<Run>,
    pub(crate) handlers: &'w Handlers,
    pub(crate) handle: &'w ServerHandle,
}

/// Verdicts come as fast as peers break rules: coroutines that report them may not pile up.
const MAX_REPORTING: usize = 1024;

/// How long messages wait for a reader that is no task, once their connection has ended.
const LINGER_S: f64 = 60.0;

impl<'py> Work<'_, 'py> {
    /// Does `work` with the run's commands corked. `None`: nothing is handled any more, because the run, the interpreter or
    /// (in a child of `fork`) the threads are gone.
    pub(crate) fn with<T>(
        server: &Bound<'py, Server>,
        run: &Arc<Run>,
        work: impl FnOnce(&Work<'_, 'py>) -> PyResult<T>,
    ) -> PyResult<Option<T>> {
        let py = server.py();
        if run.is_forked() {
            return Ok(None);
        }
        let Some(handlers) = run.handlers() else { return Ok(None) };
        let Some(inside) = Inside::enter(py)? else { return Ok(None) };
        let handle = &run.handle;
        let cork = handle.cork();
        let done = work(&Work { py, server, run, handlers: &handlers, handle });
        drop(cork);
        drop(inside);
        done.map(Some)
    }

    /// Does `work` for a connection; a panic is a failure of its handler.
    pub(crate) fn guarded(
        conn: &Bound<'py, Connection>,
        work: impl FnOnce(&Work<'_, 'py>) -> PyResult<()>,
    ) -> PyResult<()> {
        Self::guarded_or_none(conn, |guarded| work(guarded).map(|()| None::<()>)).map(drop)
    }

    /// Does `work` for a connection; a panic is a failure of its handler.
    pub(crate) fn guarded_or_none<T>(
        conn: &Bound<'py, Connection>,
        work: impl FnOnce(&Work<'_, 'py>) -> PyResult<Option<T>>,
    ) -> PyResult<Option<T>> {
        let server = conn.get().server.bind(conn.py());
        let done = Work::with(server, &conn.get().run, |guarded| {
            catch_unwind(AssertUnwindSafe(|| work(guarded)))
                .unwrap_or_else(|_| guarded.failed(conn, Kind::Message, errors::panicked()).map(|()| None))
        })?;
        Ok(done.flatten())
    }

    /// A message came.
    #[inline]
    pub(crate) fn message(&self, conn: &Bound<'py, Connection>, message: Incoming<'_>) -> PyResult<()> {
        if conn.get().has_expired() {
            return Self::end(conn, Some(EXPIRED));
        }
        if conn.get().is_free() { self.run_now(conn, message) } else { self.keep(conn, message) }
    }

    /// Keeps a message until its turn comes, or tells whoever waits for one. It counts towards `max_inbox_bytes`, and a
    /// connection with many of them is not read (THREATS S4).
    fn keep(&self, conn: &Bound<'py, Connection>, message: Incoming<'_>) -> PyResult<()> {
        if conn.get().is_over() {
            return Ok(());
        }
        let waiting = Waiting::copy_of(message);
        let kept = Kept::new(self.handle, waiting.cost_bytes());
        let max_bytes = self.run.bounds.max_pending_bytes;
        let (reading, receivers) =
            conn.get().with_state(|state| (state.push(waiting, kept, max_bytes), std::mem::take(&mut state.receivers)));
        self.read(conn, reading);
        awaiting::wake(self.py, receivers)
    }

    fn read(&self, conn: &Bound<'py, Connection>, reading: Reading) {
        // One that has closed meanwhile needs neither.
        let _ = match reading {
            Reading::AsBefore => Ok(()),
            Reading::Pause => {
                let paused = self.handle.pause(conn.get().id);
                // Now, not behind the rest of the batch: until the core knows, it reads on.
                self.handle.flush();
                paused
            }
            Reading::Resume => self.handle.resume(conn.get().id),
        };
    }

    /// Nothing more of this connection reaches a handler, but its end; whoever waits for a message is told.
    pub(crate) fn end(conn: &Bound<'py, Connection>, closing: Option<(u16, &str)>) -> PyResult<()> {
        let (py, this) = (conn.py(), conn.get());
        let left = this.end(closing);
        if left.reading == Reading::Resume {
            let _ = this.run.handle.resume(this.id);
        }
        drop(left.pending);
        if left.receivers.is_empty() {
            return Ok(());
        }
        // Perhaps on another thread than the loop's.
        this.with_state(|state| state.receivers.extend(left.receivers));
        match this.run.looping() {
            Some(looping) => {
                let _ = looping.call_soon.bind(py).call1((conn.getattr(intern!(py, "_wake"))?,));
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Ends a connection whose session is over, whether or not the core has told of it.
    fn end_with_session(conn: &Bound<'py, Connection>) -> PyResult<()> {
        if conn.get().was_revoked() {
            return Self::end(conn, None);
        }
        if conn.get().has_expired() { Self::end(conn, Some(EXPIRED)) } else { Ok(()) }
    }

    /// Messages that wait for a reader who cannot be watched are let go a while after the end.
    pub(crate) fn let_linger(&self, conn: &Bound<'py, Connection>) -> PyResult<()> {
        if !conn.get().with_state(|state| state.read_by_others && state.has_pending()) {
            return Ok(());
        }
        match self.looping() {
            Some(looping) => {
                let let_go = conn.getattr(intern!(self.py, "_let_go"))?;
                looping.call_later.bind(self.py).call1((LINGER_S, let_go)).map(drop)
            }
            None => Self::end(conn, None),
        }
    }

    /// Calls the handler of a message.
    fn run_now(&self, conn: &Bound<'py, Connection>, message: Incoming<'_>) -> PyResult<()> {
        match message {
            Incoming::Text(text) => self.run_raw(conn, PyString::new(self.py, text).as_any()),
            Incoming::Binary(payload) => self.run_raw(conn, PyBytes::new(self.py, payload).as_any()),
            Incoming::Event(message) => self.run_event(conn, &message),
        }
    }

    fn run_raw(&self, conn: &Bound<'py, Connection>, message: &Bound<'py, PyAny>) -> PyResult<()> {
        let Some(call) = &self.handlers.message else { return Ok(()) };
        self.call(conn, Kind::Message, call, Some(message))
    }

    fn run_event(&self, conn: &Bound<'py, Connection>, message: &JsonMessage<'_>) -> PyResult<()> {
        let own = self.handlers.events.get(message.event).and_then(|spec| spec.call.as_ref());
        let Some(call) = own.or(self.handlers.message.as_ref()) else { return Ok(()) };
        let Some(data) = self.data(conn, message)? else { return Ok(()) };
        // A model runs Python, and another thread may meanwhile: closed is closed.
        if conn.get().is_over() {
            return Ok(());
        }
        let current = Current::new(self.py, self.handlers, message, &data);
        let argument = if own.is_some() { data } else { Bound::new(self.py, current.message(self.py)?)?.into_any() };
        let before = lock(&self.run.current).replace(current);
        drop(before);
        let _handled = Handled(self.run);
        self.call(conn, Kind::Message, call, Some(&argument))
    }

    /// The data of a message; `None` when its model refused it, which closes the connection.
    fn data(&self, conn: &Bound<'py, Connection>, message: &JsonMessage<'_>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self.handlers.data(self.py, message) {
            Ok(data) => Ok(Some(data)),
            Err(NoData::Refused(error)) if is_value_error(self.py, &error) => {
                let told = self.handlers.refused.bind(self.py).call1((error, message.event, conn.get().id.to_string()));
                self.or_fatal(told)?;
                let _ = self.handle.refuse(conn.get().id, message.event);
                if !self.handlers.only_reports {
                    Self::end(conn, Some((SCHEMA_MISMATCH.0, SCHEMA_MISMATCH.1)))?;
                }
                Ok(None)
            }
            Err(NoData::Refused(error) | NoData::Failed(error)) => {
                self.failed(conn, Kind::Message, error).map(|()| None)
            }
        }
    }

    /// The next message for whoever iterates; what its model refuses is passed over.
    pub(crate) fn take(&self, conn: &Bound<'py, Connection>) -> PyResult<Option<Bound<'py, PyAny>>> {
        loop {
            Self::end_with_session(conn)?;
            let Some((waiting, kept, reading)) =
                conn.get().with_state(|state| state.pop(self.run.bounds.max_pending_bytes))
            else {
                return Ok(None);
            };
            drop(kept);
            self.read(conn, reading);
            let message = match waiting.as_incoming() {
                Incoming::Text(text) => return Ok(Some(PyString::new(self.py, text).into_any())),
                Incoming::Binary(payload) => return Ok(Some(PyBytes::new(self.py, payload).into_any())),
                Incoming::Event(message) => message,
            };
            let Some(data) = self.data(conn, &message)? else { continue };
            if conn.get().is_over() {
                return Ok(None);
            }
            let current = Current::new(self.py, self.handlers, &message, &data);
            let record = current.message(self.py)?;
            let before = conn.get().with_state(|state| state.current.replace(current));
            drop(before);
            return Ok(Some(Bound::new(self.py, record)?.into_any()));
        }
    }

    /// Calls a handler of a connection, in the connection's context. An error here is one that ends more than this handler:
    /// Ctrl-C, `sys.exit()`.
    #[inline]
    pub(crate) fn call(
        &self,
        conn: &Bound<'py, Connection>,
        kind: Kind,
        call: &Py<PyAny>,
        second: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<()> {
        let context = conn.get().context(self.py)?;
        match in_context(&context, call, conn.as_any(), second) {
            Ok(returned) if returned.is_none() => Ok(()),
            Ok(returned) => match self.returned(&returned) {
                Ok(true) => self.start(conn, kind, &returned, &context),
                Ok(false) => Ok(()),
                Err(error) => self.failed(conn, kind, error),
            },
            Err(error) => self.failed(conn, kind, error),
        }
    }

    /// Calls a handler that belongs to no connection, in a context of its own; its coroutine is a task nobody waits for.
    pub(crate) fn call_plain(&self, kind: Kind, call: &Py<PyAny>, argument: &Bound<'py, PyAny>) -> PyResult<()> {
        let failed = |error| self.report(kind, error, || {});
        if self.run.reporting.load(Ordering::Relaxed) >= MAX_REPORTING {
            let message =
                format!("{MAX_REPORTING} of its coroutines have not ended: it is not called for this verdict");
            return failed(PyRuntimeError::new_err(message));
        }
        let context = self.run.new_context(self.py)?;
        match in_context(&context, call, argument, None) {
            Ok(returned) if returned.is_none() => Ok(()),
            Ok(returned) => match self.returned(&returned) {
                Ok(true) => self.start_plain(kind, &returned, &context).or_else(failed),
                Ok(false) => Ok(()),
                Err(error) => failed(error),
            },
            Err(error) => failed(error),
        }
    }

    /// Whether what a handler returned is a coroutine, to be made a task.
    pub(crate) fn returned(&self, returned: &Bound<'py, PyAny>) -> PyResult<bool> {
        if returned.is_instance_of::<Done>() {
            return Ok(false);
        }
        if returned.is_instance_of::<Awaiting>() {
            return Ok(self.looping().is_some());
        }
        let kind = returned.get_type().name()?;
        if kind == "generator" || kind == "async_generator" {
            let message = format!("a handler is a function or a coroutine, not a {kind}, which would never run");
            return Err(PyTypeError::new_err(message));
        }
        is_coroutine(returned)
    }

    fn start_plain(&self, kind: Kind, coroutine: &Bound<'py, PyAny>, context: &Bound<'py, PyAny>) -> PyResult<()> {
        let task = self.spawn(coroutine, context)?;
        let then = Settling { server: self.server.clone().unbind(), run: Arc::clone(self.run), kind };
        self.watch(&task, then)?;
        self.run.reporting.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Makes a coroutine a task of the server's event loop.
    pub(crate) fn spawn(
        &self,
        coroutine: &Bound<'py, PyAny>,
        context: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let Some(looping) = self.looping() else {
            coroutine.call_method0(intern!(self.py, "close"))?;
            let message = "the handler returned a coroutine, and this server runs without asyncio: run(\"asyncio\")";
            return Err(PyTypeError::new_err(message));
        };
        looping.create_task.bind(self.py).call1((coroutine, context))
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

    /// The outbox of a connection is empty again, unless this speaks of what was sent before.
    pub(crate) fn drained(&self, conn: &Bound<'py, Connection>) -> PyResult<()> {
        if self.handle.is_queued(conn.get().id) {
            return Ok(());
        }
        let waiters = conn.get().with_state(|state| {
            state.queued = false;
            std::mem::take(&mut state.waiters)
        });
        awaiting::wake(self.py, waiters)
    }

    /// Makes a coroutine a task. Where the interpreter can (3.12) its first step runs here.
    fn start(
        &self,
        conn: &Bound<'py, Connection>,
        kind: Kind,
        coroutine: &Bound<'py, PyAny>,
        context: &Bound<'py, PyAny>,
    ) -> PyResult<()> {
        let current = lock(&self.run.current).take_if(|current| current.conn == conn.get().id);
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

    /// The task of a coroutine, where it has ended already; else it is watched. A task factory of the application's may
    /// give anything.
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
        self.watch(&task, conn.getattr(intern!(self.py, "_settled"))?).map(|()| None)
    }

    /// A task has ended: what it left behind.
    pub(crate) fn settle(&self, conn: &Bound<'py, Connection>, task: &Bound<'py, PyAny>) -> PyResult<()> {
        let outcome = self.outcome(task)?;
        let (kind, current, reader, left) = conn.get().with_state(|state| {
            let kind = state.busy.take().unwrap_or(Kind::Message);
            let reader = state.remove_reader(task.as_ptr());
            // A coroutine that iterated speaks for the connection: when it returns, the connection is over.
            let was_read = kind == Kind::Open && std::mem::take(&mut state.read_in_open);
            let left = was_read && (!state.is_iterated() || state.read_by_others) && state.closed.is_none();
            (kind, state.current.take(), reader, left)
        });
        drop((current, reader));
        match outcome {
            Outcome::Returned if left => {
                let _ = self.handle.close(conn.get().id, 1000, "");
                Self::end(conn, Some((1000, "")))
            }
            Outcome::Returned => Ok(()),
            Outcome::Cancelled => {
                let _ = self.handle.fail(conn.get().id);
                Self::end(conn, Some(INTERNAL))
            }
            // Its loop has raised it already.
            Outcome::Raised(error) if is_fatal(self.py, &error) => {
                let _ = self.handle.fail(conn.get().id);
                Self::end(conn, Some(INTERNAL))
            }
            Outcome::Raised(error) => self.failed(conn, kind, error),
        }
    }

    /// Whatever this connection has to do next, until a coroutine runs.
    pub(crate) fn advance(&self, conn: &Bound<'py, Connection>) -> PyResult<()> {
        enum Next {
            Message(Waiting, Kept, Reading),
            Close(Option<Py<Close>>, Option<Current>),
            Nothing,
        }
        loop {
            Self::end_with_session(conn)?;
            let next = conn.get().with_state(|state| {
                if state.busy.is_some() {
                    return Next::Nothing;
                }
                let waiting = if state.is_iterated() { None } else { state.pop(self.run.bounds.max_pending_bytes) };
                match waiting {
                    Some((waiting, kept, reading)) => Next::Message(waiting, kept, reading),
                    // What a reader elsewhere has taken is handled no more.
                    None if std::mem::take(&mut state.close_due) => {
                        Next::Close(state.closed.as_ref().map(|close| close.clone_ref(self.py)), state.current.take())
                    }
                    None => Next::Nothing,
                }
            });
            match next {
                Next::Message(waiting, kept, reading) => {
                    drop(kept);
                    self.read(conn, reading);
                    self.run_now(conn, waiting.as_incoming())?;
                }
                Next::Close(close, current) => {
                    drop(current);
                    if let Some(call) = &self.handlers.close {
                        let close = close.map(|close| close.into_bound(self.py).into_any());
                        self.call(conn, Kind::Close, call, close.as_ref())?;
                    }
                }
                Next::Nothing => return Ok(()),
            }
        }
    }

    /// A handler failed: its connection closes with 1011, the exception is logged, the server lives (THREATS S5).
    pub(crate) fn failed(&self, conn: &Bound<'py, Connection>, kind: Kind, error: PyErr) -> PyResult<()> {
        let was_open = conn.get().is_open();
        let _ = self.handle.fail(conn.get().id);
        let ended = Self::end(conn, Some(INTERNAL));
        // What a handler is told of a connection that had ended under its hands is no fault.
        if was_open || !errors::is_closed(self.py, &error) {
            self.log(kind, error, Some((conn.get().id, was_open)))?;
        }
        ended
    }

    /// Logs what a handler that belongs to no connection raised, after `refuse`.
    pub(crate) fn report(&self, kind: Kind, error: PyErr, refuse: impl FnOnce()) -> PyResult<()> {
        refuse();
        self.log(kind, error, None)
    }

    /// Logs what a handler raised; what is meant for the whole program is given back.
    fn log(&self, kind: Kind, error: PyErr, conn: Option<(ConnectionId, bool)>) -> PyResult<()> {
        if is_fatal(self.py, &error) {
            return Err(error);
        }
        let (conn, closes) = conn.map_or((None, false), |(conn, closes)| (Some(conn.to_string()), closes));
        let told = self.handlers.report.bind(self.py).call1((error, kind.name(), conn, closes));
        self.or_fatal(told)
    }

    /// A log that fails is no reason to fail (THREATS S6).
    fn or_fatal(&self, told: PyResult<Bound<'py, PyAny>>) -> PyResult<()> {
        match told {
            Err(error) if is_fatal(self.py, &error) => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    pub(crate) fn looping(&self) -> Option<Arc<Looping>> {
        self.run.looping()
    }
}

/// What a handler that fails, a model that refuses and the end of a session close a connection with.
const INTERNAL: (u16, &str) = (1011, "internal error");
const SCHEMA_MISMATCH: (u16, &str) = (1008, "schema mismatch");
const EXPIRED: (u16, &str) = (1008, "session expired");

/// The message of a function is handled no more when this is dropped.
struct Handled<'r>(&'r Run);

impl Drop for Handled<'_> {
    fn drop(&mut self) {
        let current = lock(&self.0.current).take();
        drop(current);
    }
}

/// Called when a coroutine that belongs to no connection has ended.
#[pyclass(frozen, module = "wsguard._wsguard")]
#[derive(Debug)]
struct Settling {
    server: Py<Server>,
    run: Arc<Run>,
    kind: Kind,
}

#[pymethods]
impl Settling {
    fn __call__(&self, task: &Bound<'_, PyAny>) -> PyResult<()> {
        self.run.reporting.fetch_sub(1, Ordering::Relaxed);
        let server = self.server.bind(task.py());
        let settled = Work::with(server, &self.run, |work| match work.outcome(task)? {
            // What is fatal its loop has raised already.
            Outcome::Raised(error) if !is_fatal(work.py, &error) => work.report(self.kind, error, || {}),
            _ => Ok(()),
        });
        settled.map(drop)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.server)
    }
}

/// Whether an exception is none of a handler's own, but meant for the whole program.
pub(crate) fn is_fatal(py: Python<'_>, error: &PyErr) -> bool {
    !error.is_instance_of::<PyException>(py)
        && (error.is_instance_of::<PyKeyboardInterrupt>(py) || error.is_instance_of::<PySystemExit>(py))
}

/// Pydantic's `ValidationError` is a `ValueError`.
fn is_value_error(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<pyo3::exceptions::PyValueError>(py)
}

fn is_coroutine(value: &Bound<'_, PyAny>) -> PyResult<bool> {
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
