//! A connection as the application sees it. Every command goes to the core; what is kept here is what Python adds: the
//! application's own data, messages that wait for their turn, and who waits for what.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::exceptions::{PyStopAsyncIteration, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyByteArray, PyBytes, PyInt, PyMemoryView, PyString};
use pyo3::{PyTraverseError, PyVisit, intern};
use wsguard::host::{ConnectionId, Error, Open, Sent, ServerHandle};

use crate::awaiting::{self, Awaiting, What};
use crate::bell::lock;
use crate::errors;
use crate::fork;
use crate::handlers::{Current, Waiting};
use crate::json_out;
use crate::records::{Close, Message};
use crate::server::Server;
use crate::work::{Kind, Work};

/// One connection. Its methods may be called from any thread; what is awaited belongs to the server's event loop.
#[pyclass(frozen, weakref, module = "wsguard")]
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) id: ConnectionId,
    pub(crate) server: Py<Server>,
    handle: ServerHandle,
    forks: u64,
    ip: Option<IpAddr>,
    user: Option<Py<PyString>>,
    path: Box<str>,
    subprotocol: Option<Box<str>>,
    /// A message may go straight to its handler: nothing earlier is unfinished.
    free: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent of each other, each said once below")]
pub(crate) struct State {
    data: Option<Py<PyAny>>,
    pub(crate) closed: Option<Py<Close>>,
    /// `on_close` was not called yet.
    pub(crate) close_due: bool,
    /// A coroutine of this connection runs: which.
    pub(crate) busy: Option<Kind>,
    /// Messages are taken by `recv` or `async for`.
    pub(crate) iterated: bool,
    /// A handler failed, or the coroutine that iterated has returned: what still comes is dropped.
    pub(crate) ended: bool,
    pending: VecDeque<Waiting>,
    pending_bytes: usize,
    /// The core does not read from it, because too much is pending.
    paused: bool,
    /// What the coroutine handles.
    pub(crate) current: Option<Current>,
    /// The peer has not read what was sent.
    pub(crate) queued: bool,
    /// Futures of whoever waits for a message.
    pub(crate) receivers: Vec<Py<PyAny>>,
    /// Futures of whoever waits for room in the outbox, or for the end.
    pub(crate) waiters: Vec<Py<PyAny>>,
}

/// What one connection may have pending before it is no longer read; it is read again from half of it on.
const MAX_PENDING_MESSAGES: usize = 64;
const MAX_PENDING_BYTES: usize = 1 << 20;

/// What is to be told to the core after messages were kept or taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    AsBefore,
    Pause,
    Resume,
}

impl State {
    pub(crate) fn push(&mut self, waiting: Waiting) -> Reading {
        self.pending_bytes += waiting.cost_bytes();
        self.pending.push_back(waiting);
        if !self.paused && (self.pending.len() >= MAX_PENDING_MESSAGES || self.pending_bytes >= MAX_PENDING_BYTES) {
            self.paused = true;
            return Reading::Pause;
        }
        Reading::AsBefore
    }

    pub(crate) fn pop(&mut self) -> Option<(Waiting, Reading)> {
        let waiting = self.pending.pop_front()?;
        self.pending_bytes -= waiting.cost_bytes();
        // One that has ended is read for the sake of its close frame.
        let few = self.pending.len() <= MAX_PENDING_MESSAGES / 2 && self.pending_bytes <= MAX_PENDING_BYTES / 2;
        if self.paused && (few || self.ended) {
            self.paused = false;
            return Some((waiting, Reading::Resume));
        }
        Some((waiting, Reading::AsBefore))
    }

    /// Whether nothing more comes for whoever iterates.
    pub(crate) fn is_over(&self) -> bool {
        self.pending.is_empty() && (self.closed.is_some() || self.ended)
    }
}

impl Connection {
    pub(crate) fn new(
        py: Python<'_>,
        open: &Open,
        server: Py<Server>,
        handle: ServerHandle,
        data: Option<Py<PyAny>>,
    ) -> Self {
        Self {
            id: open.conn,
            server,
            handle,
            forks: fork::depth(),
            ip: open.ip,
            user: open.user.as_deref().map(|user| PyString::new(py, user).unbind()),
            path: open.path.clone(),
            subprotocol: open.subprotocol.clone(),
            free: AtomicBool::new(true),
            state: Mutex::new(State { data, ..State::default() }),
        }
    }

    pub(crate) fn is_free(&self) -> bool {
        self.free.load(Ordering::Relaxed)
    }

    /// Works on the state, and notes what that means for the next message. Nothing of Python may run inside.
    pub(crate) fn with_state<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = lock(&self.state);
        let result = change(&mut state);
        let idle = state.busy.is_none() && state.pending.is_empty() && !state.iterated;
        self.free.store(idle && !state.ended && state.closed.is_none(), Ordering::Relaxed);
        result
    }

    /// Whether the core still has it.
    pub(crate) fn is_open(&self) -> bool {
        self.handle.is_open(self.id)
    }

    fn checked(&self, py: Python<'_>) -> PyResult<()> {
        self.server.get().check_process(py)
    }

    /// The outcome of a command. The connection may be closed without the application having heard of it: then the
    /// command does nothing, as if it had been given a moment earlier.
    fn outcome<T>(&self, py: Python<'_>, result: Result<T, Error>) -> PyResult<Option<T>> {
        match result {
            Ok(done) => Ok(Some(done)),
            Err(Error::ConnectionClosed) => {
                match self.with_state(|state| state.closed.as_ref().map(|close| close.clone_ref(py))) {
                    Some(close) => Err(errors::closed(py, Some(&close))),
                    None => Ok(None),
                }
            }
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

    fn push(&self, message: &Bound<'_, PyAny>) -> PyResult<Result<Sent, Error>> {
        self.checked(message.py())?;
        with_payload(message, |payload| match payload {
            Payload::Text(text) => self.handle.send_text(self.id, text),
            Payload::Binary(payload) => self.handle.send_binary(self.id, payload),
        })
    }

    fn push_event(&self, event: &str, data: &Bound<'_, PyAny>, id: Option<&str>) -> PyResult<Result<Sent, Error>> {
        self.checked(data.py())?;
        json_out::with_text(data, |data| Ok(self.handle.reply(self.id, id, event, data)))
    }

    /// Looks at the message of this connection that is handled now.
    fn with_current<T>(&self, look: impl FnOnce(Option<&Current>) -> T) -> T {
        let state = lock(&self.state);
        if state.busy.is_some() {
            return look(state.current.as_ref());
        }
        drop(state);
        let current = lock(&self.server.get().current);
        look(current.as_ref().filter(|current| current.conn == self.id))
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
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Messages that nobody came to take.
        let pending_bytes = lock(&self.state).pending_bytes;
        if pending_bytes > 0 && self.forks == fork::depth() {
            self.handle.release_inbox(pending_bytes);
        }
    }
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
    fn user<'py>(&self, py: Python<'py>) -> Option<&Bound<'py, PyString>> {
        self.user.as_ref().map(|user| user.bind(py))
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

    /// How it ended; `None` while it has not.
    #[getter]
    fn closed(&self, py: Python<'_>) -> Option<Py<Close>> {
        self.with_state(|state| state.closed.as_ref().map(|close| close.clone_ref(py)))
    }

    /// The message that is handled now (`json`); `None` outside a handler.
    #[getter]
    fn message(&self, py: Python<'_>) -> PyResult<Option<Message>> {
        // Copied first: making the record runs Python.
        let current = self.with_current(|current| {
            current.map(|current| Current {
                conn: current.conn,
                event: current.event.clone_ref(py),
                data: current.data.clone_ref(py),
                id: current.id.clone(),
                status: current.status,
                bytes: current.bytes,
            })
        });
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
        self.outcome(py, self.handle.join(self.id, room)).map(drop)
    }

    /// Leaves a room.
    #[pyo3(signature = (room, /))]
    fn leave(&self, py: Python<'_>, room: &str) -> PyResult<()> {
        self.checked(py)?;
        self.outcome(py, self.handle.leave(self.id, room)).map(drop)
    }

    /// Starts the closing handshake; nothing happens when it is closed already.
    #[pyo3(signature = (code = 1000, reason = ""))]
    fn close(&self, py: Python<'_>, code: u16, reason: &str) -> PyResult<()> {
        self.checked(py)?;
        match self.handle.close(self.id, code, reason) {
            Ok(()) | Err(Error::ConnectionClosed) => Ok(()),
            Err(error) => Err(errors::of_core(py, &error)),
        }
    }

    /// Waits until it has ended; gives how.
    fn wait_closed(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Awaiting::of(slf.py(), slf, What::End)
    }

    /// Waits for the next message. From the first call on, messages go here instead of to handlers.
    fn recv(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        slf.get().checked(slf.py())?;
        slf.get().with_state(|state| state.iterated = true);
        Awaiting::of(slf.py(), slf, What::Message { over: errors::closed })
    }

    fn __aiter__(slf: PyRef<'_, Self>) -> PyResult<PyRef<'_, Self>> {
        slf.checked(slf.py())?;
        slf.with_state(|state| state.iterated = true);
        Ok(slf)
    }

    fn __anext__(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Awaiting::of(slf.py(), slf, What::Message { over: |_, _| PyStopAsyncIteration::new_err(()) })
    }

    /// A coroutine of this connection has ended (its task's callback).
    fn _settled(slf: &Bound<'_, Self>, task: &Bound<'_, PyAny>) -> PyResult<()> {
        let server = slf.get().server.bind(slf.py()).clone();
        Work::with(&server, |work| {
            work.settle(slf, task)?;
            work.advance(slf)
        })
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let user = self.user.as_ref().map_or_else(|| Ok("None".to_owned()), |user| user.bind(py).repr()?.extract())?;
        let state = if self.is_open() { "open" } else { "closed" };
        Ok(format!("<Connection {} user={user} {state}>", self.id))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.server)?;
        let Ok(state) = self.state.try_lock() else { return Ok(()) };
        visit.call(&state.data)?;
        visit.call(&state.closed)?;
        for future in state.receivers.iter().chain(&state.waiters) {
            visit.call(future)?;
        }
        state.current.as_ref().map_or(Ok(()), |current| visit.call(&current.data))
    }

    fn __clear__(&self) {
        let state = self.with_state(std::mem::take);
        drop(state);
    }
}
