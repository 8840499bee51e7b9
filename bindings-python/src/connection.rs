//! A connection as the application sees it. Every command goes to the core; what is kept here is what Python adds: the
//! application's own data, messages that wait for their turn, and who waits for what.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyByteArray, PyBytes, PyInt, PyMemoryView, PyString, PyType};
use pyo3::{PyTraverseError, PyVisit, intern};
use wsguard::binding::{ConnectionId, Error, Open, Sent};

use crate::auth::Granted;
use crate::awaiting::{self, Awaiting, What};
use crate::bell::lock;
use crate::errors;
use crate::handlers::{Current, Waiting};
use crate::json_out;
use crate::kept::Kept;
use crate::pending::MAX_PENDING_MESSAGES;
use crate::records::{Close, Message};
use crate::run::{Protocol, Run};
use crate::server::Server;
use crate::work::{Kind, Work};

/// One connection. Its methods may be called from any thread; what is awaited belongs to the server's event loop.
#[pyclass(frozen, weakref, module = "wsguard")]
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) id: ConnectionId,
    pub(crate) server: Py<Server>,
    pub(crate) run: Arc<Run>,
    ip: Option<IpAddr>,
    user: Option<Arc<str>>,
    path: Box<str>,
    subprotocol: Option<Box<str>>,
    /// The last revocation when it was let in.
    granted: u64,
    /// When the session ends, on the clock that the core ends it by.
    expires_at: Option<Instant>,
    /// A message may go straight to its handler: nothing earlier is unfinished.
    free: AtomicBool,
    /// The application closed it, or its handler failed: nothing more is sent, and no message reaches a handler.
    over: AtomicBool,
    /// Its end was told. The core may still wait for the peer's; nothing is sent any more.
    closed: AtomicBool,
    state: Mutex<State>,
}

/// A future of whoever waits, by the order they came in.
pub(crate) type Futures = BTreeMap<u64, Py<PyAny>>;

#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent of each other, each said once below")]
pub(crate) struct State {
    data: Option<Py<PyAny>>,
    /// The `contextvars.Context` that its handlers run in; made when it is first needed.
    context: Option<Py<PyAny>>,
    pub(crate) closed: Option<Py<Close>>,
    /// What the application closed it with.
    closing: Option<(u16, String)>,
    /// `on_close` was not called yet.
    pub(crate) close_due: bool,
    /// A coroutine of this connection runs: which.
    pub(crate) busy: Option<Kind>,
    /// The tasks that take messages by `recv` or `async for`: handlers get none until they have ended.
    readers: Vec<Py<PyAny>>,
    /// Somebody who is no task of the loop takes them: nobody can tell when that has ended.
    pub(crate) read_by_others: bool,
    /// Somebody took messages while the coroutine of `on_open` ran: the connection ends with it.
    pub(crate) read_in_open: bool,
    /// A handler failed, the application closed it, or the coroutine that iterated has returned: what comes is dropped.
    pub(crate) ended: bool,
    pending: VecDeque<(Waiting, Kept)>,
    pending_bytes: usize,
    /// The core does not read from it, because too much is pending.
    paused: bool,
    /// What the coroutine handles.
    pub(crate) current: Option<Current>,
    /// The peer has not read what was sent.
    pub(crate) queued: bool,
    /// Whoever waits for a message.
    pub(crate) receivers: Futures,
    /// Whoever waits for room in the outbox, or for the end.
    pub(crate) waiters: Futures,
    last_place: u64,
}

/// What is to be told to the core after messages were kept or taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    AsBefore,
    Pause,
    Resume,
}

/// What a connection lets go of when it is over.
#[derive(Debug)]
pub(crate) struct Left {
    pub(crate) pending: VecDeque<(Waiting, Kept)>,
    pub(crate) receivers: Futures,
    pub(crate) reading: Reading,
}

impl State {
    /// Keeps a message; `max_bytes` of them pause the connection.
    pub(crate) fn push(&mut self, waiting: Waiting, kept: Kept, max_bytes: usize) -> Reading {
        self.pending_bytes += kept.bytes();
        self.pending.push_back((waiting, kept));
        if !self.paused && (self.pending.len() >= MAX_PENDING_MESSAGES || self.pending_bytes >= max_bytes) {
            self.paused = true;
            return Reading::Pause;
        }
        Reading::AsBefore
    }

    /// The next message; from half of `max_bytes` on the connection is read again.
    pub(crate) fn pop(&mut self, max_bytes: usize) -> Option<(Waiting, Kept, Reading)> {
        let (waiting, kept) = self.pending.pop_front()?;
        self.pending_bytes -= kept.bytes();
        let few = self.pending.len() <= MAX_PENDING_MESSAGES / 2 && self.pending_bytes <= max_bytes / 2;
        if self.paused && few {
            self.paused = false;
            return Some((waiting, kept, Reading::Resume));
        }
        Some((waiting, kept, Reading::AsBefore))
    }

    /// Messages are taken by `recv` or `async for`.
    pub(crate) fn is_iterated(&self) -> bool {
        self.read_by_others || !self.readers.is_empty()
    }

    pub(crate) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Whether nothing more comes for whoever iterates.
    pub(crate) fn is_over(&self) -> bool {
        self.pending.is_empty() && (self.closed.is_some() || self.ended)
    }

    /// A place for a future of whoever waits.
    pub(crate) fn next_place(&mut self) -> u64 {
        self.last_place += 1;
        self.last_place
    }

    /// A task reads no more; whether it did. The caller drops what is returned.
    pub(crate) fn remove_reader(&mut self, task: *mut pyo3::ffi::PyObject) -> Option<Py<PyAny>> {
        let place = self.readers.iter().position(|reader| reader.as_ptr() == task)?;
        Some(self.readers.swap_remove(place))
    }

    /// Nothing that waits is handled any more. One that is over is read, for the sake of its close frame.
    fn let_go(&mut self) -> Left {
        self.ended = true;
        self.pending_bytes = 0;
        let reading = if std::mem::take(&mut self.paused) { Reading::Resume } else { Reading::AsBefore };
        let pending = std::mem::take(&mut self.pending);
        Left { pending, receivers: std::mem::take(&mut self.receivers), reading }
    }
}

impl Connection {
    pub(crate) fn new(
        py: Python<'_>,
        open: &Open,
        server: Py<Server>,
        run: Arc<Run>,
        granted: Option<Granted>,
    ) -> Self {
        let (data, context) = granted.map(|Granted { data, context }| (data, context)).unzip();
        let data = data.filter(|data| !data.is_none(py));
        Self {
            id: open.conn,
            server,
            run,
            ip: open.ip,
            user: open.user.clone(),
            path: open.path.clone(),
            subprotocol: open.subprotocol.clone(),
            granted: open.granted,
            expires_at: open.expires_at_ms.and_then(instant),
            free: AtomicBool::new(true),
            over: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            state: Mutex::new(State { data, context, ..State::default() }),
        }
    }

    pub(crate) fn user_name(&self) -> Option<&str> {
        self.user.as_deref()
    }

    pub(crate) fn is_free(&self) -> bool {
        self.free.load(Ordering::Relaxed)
    }

    /// Whether it is over for the application.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Whether the session has ended by the clock: its messages that are here already are not handled any more.
    pub(crate) fn has_expired(&self) -> bool {
        self.expires_at.is_some_and(|at| Instant::now() >= at)
    }

    /// Whether what was read of it is not handled any more: the server was stopped, or its user was disconnected since it was
    /// let in.
    pub(crate) fn was_revoked(&self) -> bool {
        if self.run.is_dropping.load(Ordering::Acquire) {
            return true;
        }
        self.user.as_deref().is_some_and(|user| lock(&self.run.revoked).is_over(user, self.granted))
    }

    /// Works on the state, and notes what that means for the next message. Nothing of Python may run inside.
    pub(crate) fn with_state<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = lock(&self.state);
        let result = change(&mut state);
        let idle = state.busy.is_none() && state.pending.is_empty() && !state.is_iterated();
        self.free.store(idle && !state.ended && state.closed.is_none(), Ordering::Relaxed);
        self.over.store(state.ended, Ordering::Relaxed);
        self.closed.store(state.closed.is_some(), Ordering::Relaxed);
        result
    }

    /// Nothing more of this connection reaches a handler, but its end.
    pub(crate) fn end(&self, closing: Option<(u16, &str)>) -> Left {
        self.with_state(|state| {
            if let Some((code, reason)) = closing
                && state.closing.is_none()
            {
                state.closing = Some((code, reason.to_owned()));
            }
            state.let_go()
        })
    }

    /// Tells everybody who waits for something of it to look again.
    pub(crate) fn wake_all(&self, py: Python<'_>) -> PyResult<()> {
        let (receivers, waiters) =
            self.with_state(|state| (std::mem::take(&mut state.receivers), std::mem::take(&mut state.waiters)));
        awaiting::wake(py, receivers)?;
        awaiting::wake(py, waiters)
    }

    /// The context that its handlers run in.
    pub(crate) fn context<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if let Some(context) = lock(&self.state).context.as_ref() {
            return Ok(context.bind(py).clone());
        }
        let context = self.run.new_context(py)?;
        let kept = context.clone().unbind();
        let before = self.with_state(|state| state.context.replace(kept));
        drop(before);
        Ok(context)
    }

    /// Whether the core still has it, the application has not closed it, and its session has not ended.
    pub(crate) fn is_open(&self) -> bool {
        self.takes_messages() && self.run.handle.is_open(self.id)
    }

    /// Whether it is open as far as is known here.
    fn takes_messages(&self) -> bool {
        !self.is_over() && !self.closed.load(Ordering::Relaxed) && !self.has_expired()
    }

    pub(crate) fn checked(&self, py: Python<'_>) -> PyResult<()> {
        if self.run.is_forked() { Err(errors::forked(py)) } else { Ok(()) }
    }

    /// How it ended, or is about to.
    pub(crate) fn closed_error(&self, py: Python<'_>) -> Option<PyErr> {
        let (close, closing, ended) = self.with_state(|state| {
            (state.closed.as_ref().map(|close| close.clone_ref(py)), state.closing.clone(), state.ended)
        });
        match (close, closing) {
            (Some(close), _) => Some(errors::closed(py, Some(&close))),
            (None, Some((code, reason))) => Some(errors::closing(py, code, &reason)),
            (None, None) => ended.then(|| errors::closed(py, None)),
        }
    }

    /// The outcome of a command. The connection may be closed without the application having heard of it: then the
    /// command does nothing, as if it had been given a moment earlier.
    fn outcome<T>(&self, py: Python<'_>, result: Result<T, Error>) -> PyResult<Option<T>> {
        match result {
            Ok(done) => Ok(Some(done)),
            Err(Error::ConnectionClosed | Error::Stopped) => self.closed_error(py).map_or(Ok(None), Err),
            Err(error) => Err(errors::of_core(py, &error)),
        }
    }

    /// What `await` waits for after a message was handed over.
    fn awaitable(slf: &Bound<'_, Self>, result: Result<Sent, Error>) -> PyResult<Py<PyAny>> {
        let (py, this) = (slf.py(), slf.get());
        match this.outcome(py, result)? {
            Some(Sent::Sent) => awaiting::done(py),
            Some(Sent::Queued) => {
                this.with_state(|state| state.queued = true);
                Awaiting::of(py, slf, What::Room)
            }
            None => Awaiting::of(py, slf, What::Room),
        }
    }

    fn status<'py>(&self, py: Python<'py>, result: Result<Sent, Error>) -> PyResult<&'py Bound<'py, PyString>> {
        match result {
            Ok(Sent::Sent) => Ok(intern!(py, "sent")),
            Ok(Sent::Queued) => {
                self.with_state(|state| state.queued = true);
                Ok(intern!(py, "queued"))
            }
            Err(Error::ConnectionClosed | Error::Stopped) => Ok(intern!(py, "closed")),
            Err(error) => Err(errors::of_core(py, &error)),
        }
    }

    /// Does `send`, unless the connection is over.
    fn unless_over<T>(&self, send: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        if self.takes_messages() { send() } else { Err(Error::ConnectionClosed) }
    }

    fn push(&self, message: &Bound<'_, PyAny>) -> PyResult<Result<Sent, Error>> {
        self.checked(message.py())?;
        self.run.check_protocol(message.py(), Protocol::Raw)?;
        with_payload(message, |payload| {
            self.unless_over(|| match payload {
                Payload::Text(text) => self.run.handle.send_text(self.id, text),
                Payload::Binary(payload) => self.run.handle.send_binary(self.id, payload),
            })
        })
    }

    fn push_event(&self, event: &str, data: &Bound<'_, PyAny>, id: Option<&str>) -> PyResult<Result<Sent, Error>> {
        self.checked(data.py())?;
        self.run.check_protocol(data.py(), Protocol::Json)?;
        json_out::with_text(data, |data| Ok(self.unless_over(|| self.run.handle.reply(self.id, id, event, data))))
    }

    /// Looks at the message of this connection that is handled now.
    fn with_current<T>(&self, look: impl FnOnce(Option<&Current>) -> T) -> T {
        let state = lock(&self.state);
        if state.busy.is_some() || state.current.is_some() {
            return look(state.current.as_ref());
        }
        drop(state);
        let current = lock(&self.run.current);
        look(current.as_ref().filter(|current| current.conn == self.id && current.is_of_this_thread()))
    }

    fn push_reply(
        &self,
        event: &str,
        data: &Bound<'_, PyAny>,
        id: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Result<Sent, Error>> {
        let id = match id {
            Some(id) if id.is_instance_of::<PyString>() || is_integer(id) => {
                Some(json_out::with_text(id, |text| Ok(text.into()))?)
            }
            Some(_) => return Err(PyTypeError::new_err("id must be a str or an int")),
            None => self.with_current(|current| current.and_then(|current| current.id.clone())),
        };
        self.push_event(event, data, id.as_deref())
    }

    /// Messages come to `recv` and `async for`, and no longer to handlers, until the task that asks has ended.
    fn iterate(slf: &Bound<'_, Self>) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        this.checked(py)?;
        if this.run.looping().is_none() && !this.run.is_finished() {
            return Err(errors::no_loop(py));
        }
        let task = awaiting::current_task(py)?;
        let (before, known) = this.with_state(|state| {
            state.read_in_open |= state.busy == Some(Kind::Open);
            let known = task.as_ref().map(|task| state.readers.iter().any(|reader| reader.is(task)));
            state.read_by_others |= known.is_none();
            // Whoever asks for the next message is done with the one before.
            (state.current.take_if(|_| state.busy.is_none_or(|kind| kind == Kind::Open)), known)
        });
        drop(before);
        if let (Some(task), Some(false)) = (task, known) {
            task.call_method1(intern!(py, "add_done_callback"), (slf.getattr(intern!(py, "_stopped_reading"))?,))?;
            this.with_state(|state| state.readers.push(task.unbind()));
        }
        Ok(())
    }
}

/// A date of the wall clock, in milliseconds since the Unix epoch, on the clock that only goes forward; `None`: never.
fn instant(unix_ms: u64) -> Option<Instant> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Instant::now().checked_add(Duration::from_millis(unix_ms).saturating_sub(now))
}

fn is_integer(value: &Bound<'_, PyAny>) -> bool {
    value.is_instance_of::<PyInt>() && !value.is_instance_of::<PyBool>()
}

/// What is sent as it is.
pub(crate) enum Payload<'p> {
    Text(&'p str),
    Binary(&'p [u8]),
}

/// Gives the payload of `str` or of something that holds bytes to `send`.
pub(crate) fn with_payload<T>(message: &Bound<'_, PyAny>, send: impl FnOnce(Payload<'_>) -> T) -> PyResult<T> {
    if let Ok(text) = message.cast::<PyString>() {
        return Ok(send(Payload::Text(text.to_str()?)));
    }
    if let Ok(payload) = message.cast::<PyBytes>() {
        return Ok(send(Payload::Binary(payload.as_bytes())));
    }
    if message.is_instance_of::<PyByteArray>() || message.is_instance_of::<PyMemoryView>() {
        // Copied: another thread may change it meanwhile, and abi3 of 3.10 has no buffers.
        let copy = message.py().get_type::<PyBytes>().call1((message,))?;
        return Ok(send(Payload::Binary(copy.cast::<PyBytes>()?.as_bytes())));
    }
    let kind = message.get_type().name()?;
    Err(PyTypeError::new_err(format!("a message is str, bytes, bytearray or memoryview, not {kind}")))
}

#[pymethods]
impl Connection {
    /// The id, unique for the server's life; the one in the log.
    #[getter]
    fn id(&self) -> String {
        self.id.to_string()
    }

    /// The client's address; `None` on a Unix socket without a proxy.
    #[getter]
    fn ip(&self) -> Option<String> {
        self.ip.map(|ip| ip.to_string())
    }

    /// The user, where authentication names one.
    #[getter]
    fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// The request path.
    #[getter]
    fn path(&self) -> &str {
        &self.path
    }

    /// The subprotocol of the 101.
    #[getter]
    fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }

    /// The application's own: what `Accept(data=...)` carried, until it is set.
    #[getter]
    fn data(&self, py: Python<'_>) -> Py<PyAny> {
        let data = self.with_state(|state| state.data.as_ref().map(|data| data.clone_ref(py)));
        data.unwrap_or_else(|| py.None())
    }

    #[setter]
    fn set_data(&self, data: Py<PyAny>) {
        let before = self.with_state(|state| state.data.replace(data));
        drop(before);
    }

    /// Whether something may still be sent to it: not after `close`, a failed handler or `disconnect_user`.
    #[getter(is_open)]
    fn open_now(&self, py: Python<'_>) -> PyResult<bool> {
        self.checked(py)?;
        Ok(self.is_open())
    }

    /// How it ended; `None` while it has not.
    #[getter]
    fn closed(&self, py: Python<'_>) -> Option<Py<Close>> {
        self.with_state(|state| state.closed.as_ref().map(|close| close.clone_ref(py)))
    }

    /// The message that is handled now (`json`); `None` outside a handler.
    #[getter]
    fn message(&self, py: Python<'_>) -> PyResult<Option<Message>> {
        // Copied first: making the record runs Python.
        let current = self.with_current(|current| current.map(|current| current.copy(py)));
        current.map(|current| current.message(py)).transpose()
    }

    /// Sends a message: `str` as text, bytes as binary. It is on its way at once; awaiting waits for room.
    #[pyo3(signature = (message, /))]
    fn send(slf: &Bound<'_, Self>, message: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let result = slf.get().push(message)?;
        Self::awaitable(slf, result)
    }

    /// Sends a message; `"sent"`, `"queued"` or `"closed"`.
    #[pyo3(signature = (message, /))]
    fn send_nowait<'py>(&self, message: &Bound<'py, PyAny>) -> PyResult<&Bound<'py, PyString>> {
        let result = self.push(message)?;
        self.status(message.py(), result)
    }

    /// Emits an event (`json`).
    #[pyo3(signature = (event, data = None, /))]
    fn emit(slf: &Bound<'_, Self>, event: &str, data: Option<&Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
        let none = slf.py().None().into_bound(slf.py());
        let result = slf.get().push_event(event, data.unwrap_or(&none), None)?;
        Self::awaitable(slf, result)
    }

    /// Emits an event (`json`); `"sent"`, `"queued"` or `"closed"`.
    #[pyo3(signature = (event, data = None, /))]
    fn emit_nowait<'py>(
        &self,
        py: Python<'py>,
        event: &str,
        data: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<&Bound<'py, PyString>> {
        let none = py.None().into_bound(py);
        let result = self.push_event(event, data.unwrap_or(&none), None)?;
        self.status(py, result)
    }

    /// Emits an event in reply to the message that is handled now, or to the one of `id`.
    #[pyo3(signature = (event, data = None, /, *, id = None))]
    fn reply(
        slf: &Bound<'_, Self>,
        event: &str,
        data: Option<&Bound<'_, PyAny>>,
        id: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let none = slf.py().None().into_bound(slf.py());
        let result = slf.get().push_reply(event, data.unwrap_or(&none), id)?;
        Self::awaitable(slf, result)
    }

    /// As `reply`; `"sent"`, `"queued"` or `"closed"`.
    #[pyo3(signature = (event, data = None, /, *, id = None))]
    fn reply_nowait<'py>(
        &self,
        py: Python<'py>,
        event: &str,
        data: Option<&Bound<'py, PyAny>>,
        id: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<&Bound<'py, PyString>> {
        let none = py.None().into_bound(py);
        let result = self.push_reply(event, data.unwrap_or(&none), id)?;
        self.status(py, result)
    }

    /// Enters a room. A connection leaves its rooms when it closes.
    #[pyo3(signature = (room, /))]
    fn join(&self, py: Python<'_>, room: &str) -> PyResult<()> {
        self.checked(py)?;
        let joined = self.unless_over(|| self.run.handle.join(self.id, room));
        self.outcome(py, joined).map(drop)
    }

    /// Leaves a room.
    #[pyo3(signature = (room, /))]
    fn leave(&self, py: Python<'_>, room: &str) -> PyResult<()> {
        self.checked(py)?;
        self.outcome(py, self.run.handle.leave(self.id, room)).map(drop)
    }

    /// Starts the closing handshake; nothing happens when it is closed already.
    #[pyo3(signature = (code = None, reason = ""))]
    fn close(slf: &Bound<'_, Self>, code: Option<&Bound<'_, PyAny>>, reason: &str) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        this.checked(py)?;
        let code = match code {
            None => 1000,
            Some(code) if is_integer(code) => code.extract().unwrap_or(0),
            Some(_) => return Err(PyTypeError::new_err("code must be an int")),
        };
        match this.run.handle.close(this.id, code, reason) {
            // One that has ended for the core may have messages here.
            Ok(()) | Err(Error::ConnectionClosed | Error::Stopped) => Work::end(slf, Some((code, reason))),
            Err(error) => Err(errors::of_core(py, &error)),
        }
    }

    /// Waits until it has ended; gives how.
    fn wait_closed(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        slf.get().checked(slf.py())?;
        Awaiting::of(slf.py(), slf, What::End)
    }

    /// Waits for the next message. Until the task that calls it has ended, messages come here instead of to handlers.
    fn recv(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Self::iterate(slf)?;
        Awaiting::of(slf.py(), slf, What::Message { is_iteration: false })
    }

    fn __aiter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Self>> {
        Self::iterate(slf)?;
        Ok(slf.clone())
    }

    fn __anext__(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Self::iterate(slf)?;
        Awaiting::of(slf.py(), slf, What::Message { is_iteration: true })
    }

    /// A coroutine of this connection has ended (its task's callback).
    fn _settled(slf: &Bound<'_, Self>, task: &Bound<'_, PyAny>) -> PyResult<()> {
        Work::guarded(slf, |work| {
            work.settle(slf, task)?;
            work.advance(slf)
        })
    }

    /// A task that took messages has ended (its callback): handlers get them again.
    fn _stopped_reading(slf: &Bound<'_, Self>, task: &Bound<'_, PyAny>) -> PyResult<()> {
        let (reader, current) = slf.get().with_state(|state| {
            let reader = state.remove_reader(task.as_ptr());
            let is_last = !state.is_iterated() && state.busy.is_none();
            (reader, if is_last { state.current.take() } else { None })
        });
        drop((reader, current));
        Work::guarded(slf, |work| work.advance(slf))
    }

    /// It has ended a while ago, and nobody came to take what had waited.
    fn _let_go(slf: &Bound<'_, Self>) -> PyResult<()> {
        Work::end(slf, None)
    }

    /// Tells whoever waits for a message to look again.
    fn _wake(&self, py: Python<'_>) -> PyResult<()> {
        let receivers = self.with_state(|state| std::mem::take(&mut state.receivers));
        awaiting::wake(py, receivers)
    }

    /// `Connection[Session]`: for type checkers, which know what `data` is.
    #[classmethod]
    fn __class_getitem__<'py>(class: &Bound<'py, PyType>, data: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        class.py().import("types")?.call_method1("GenericAlias", (class, data))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let user = match &self.user {
            Some(user) => PyString::new(py, user).repr()?.extract()?,
            None => "None".to_owned(),
        };
        let state = if self.is_open() { "open" } else { "closed" };
        Ok(format!("<Connection {} user={user} {state}>", self.id))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.server)?;
        let Ok(state) = self.state.try_lock() else { return Ok(()) };
        visit.call(&state.data)?;
        visit.call(&state.context)?;
        visit.call(&state.closed)?;
        for object in state.receivers.values().chain(state.waiters.values()).chain(&state.readers) {
            visit.call(object)?;
        }
        state.current.as_ref().map_or(Ok(()), |current| visit.call(&current.data))
    }

    fn __clear__(&self) {
        // What is pending goes with it, and its bytes are given back.
        let state = self.with_state(std::mem::take);
        drop(state);
    }
}
