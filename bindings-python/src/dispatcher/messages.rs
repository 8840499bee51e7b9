//! Messages to handlers: at once, or one after the other.

use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyFloat, PyString};
use wsguard::binding::{JsonMessage, ServerHandle, Status};

use super::Dispatcher;
use super::ends::{EXPIRED, SCHEMA_MISMATCH};
use crate::connection::{Connection, Pinged, Reading};
use crate::context::call_in;
use crate::futures;
use crate::handlers::{EventSpec, HandlerKind, NoData, objects};
use crate::kept::Kept;
use crate::lock::lock;
use crate::messages::{BorrowedMessage, CurrentMessage, QueuedMessage};
use crate::records::Close;
use crate::shared::Shared;

impl<'py> Dispatcher<'_, 'py> {
    /// Handles a message: now, or when its turn comes.
    #[inline]
    pub(crate) fn message(&self, conn: &Bound<'py, Connection>, message: BorrowedMessage<'_>) -> PyResult<()> {
        if conn.get().has_expired() {
            Self::end(conn, Some(EXPIRED));
            return Ok(());
        }
        if let BorrowedMessage::Event(answer) = &message
            && let (Some(id), Some(status)) = (answer.id, answer.status)
            && let Some(number) = conn.get().with_state(|state| state.call_of(id))
        {
            return self.answer_call(conn, number, answer, status);
        }
        if conn.get().is_free() { self.run_now(conn, message) } else { self.queue(conn, message) }
    }

    /// Ends a call of the application's. Nobody waits for an answer that comes too late.
    fn answer_call(
        &self,
        conn: &Bound<'py, Connection>,
        number: u64,
        answer: &JsonMessage<'_>,
        status: Status,
    ) -> PyResult<()> {
        if conn.get().is_over() || !conn.get().with_state(|state| state.calls.contains_key(&number)) {
            return Ok(());
        }
        let spec = conn.get().event(self.handlers, answer.event);
        let Some(data) = self.data(conn, answer, spec, true)? else { return Ok(()) };
        let Some(future) = conn.get().with_state(|state| state.calls.remove(&number)) else { return Ok(()) };
        futures::resolve(future.bind(self.py), (status == Status::Ok, answer.event, data))
    }

    /// Ends the oldest ping that has no answer.
    pub(crate) fn pong(&self, conn: &Bound<'py, Connection>, rtt: Duration) -> PyResult<()> {
        let Some((kind, then)) = conn.get().with_state(|state| state.pings.pop_front()) else { return Ok(()) };
        let ms = rtt.as_secs_f64() * 1000.0;
        if kind == Pinged::Future {
            return futures::resolve(then.bind(self.py), ms);
        }
        Self::end_with_session(conn);
        if conn.get().is_over() {
            return Ok(());
        }
        let context = conn.get().context(self.py)?;
        let ms = PyFloat::new(self.py, ms);
        match call_in(&context, &then, conn.as_any(), Some(ms.as_any())) {
            Ok(_) => Ok(()),
            Err(error) => self.failed(conn, HandlerKind::Pong, error),
        }
    }

    // THREATS S4.
    /// Queues a message, and wakes the readers. It counts towards `max_inbox_bytes`; a connection with many of them is not
    /// read.
    fn queue(&self, conn: &Bound<'py, Connection>, message: BorrowedMessage<'_>) -> PyResult<()> {
        if conn.get().is_over() {
            return Ok(());
        }
        let queued = QueuedMessage::copy_of(message);
        let kept = Kept::new(self.handle, queued.cost_bytes());
        let max_bytes = self.handlers.bounds.max_pending_bytes;
        let (reading, receivers) =
            conn.get().with_state(|state| (state.push(queued, kept, max_bytes), std::mem::take(&mut state.receivers)));
        self.read(conn, reading);
        futures::wake(self.py, receivers)
    }

    /// Tells the core to stop or to go on reading a connection.
    fn read(&self, conn: &Bound<'py, Connection>, reading: Reading) {
        Self::read_of(self.handle, conn, reading);
    }

    fn read_of(handle: &ServerHandle, conn: &Bound<'py, Connection>, reading: Reading) {
        // A connection that has closed meanwhile needs neither.
        let _ = match reading {
            Reading::AsBefore => Ok(()),
            Reading::Pause => {
                let paused = handle.pause(conn.get().id);
                // At once, not after the rest of the batch: until the core knows, it reads on.
                handle.flush();
                paused
            }
            Reading::Resume => handle.resume(conn.get().id),
        };
    }

    /// Calls the handler of a message.
    fn run_now(&self, conn: &Bound<'py, Connection>, message: BorrowedMessage<'_>) -> PyResult<()> {
        match message {
            BorrowedMessage::Text(text) => self.run_raw(conn, PyString::new(self.py, text).as_any()),
            BorrowedMessage::Binary(payload) => self.run_raw(conn, PyBytes::new(self.py, payload).as_any()),
            BorrowedMessage::Event(message) => self.run_event(conn, &message),
        }
    }

    fn run_raw(&self, conn: &Bound<'py, Connection>, message: &Bound<'py, PyAny>) -> PyResult<()> {
        let Some(call) = &self.handlers.message else { return Ok(()) };
        self.call(conn, HandlerKind::Message, call, Some(message))
    }

    fn run_event(&self, conn: &Bound<'py, Connection>, message: &JsonMessage<'_>) -> PyResult<()> {
        let spec = conn.get().event(self.handlers, message.event);
        let own = spec.and_then(|spec| spec.call.as_ref());
        let Some(call) = own.or(self.handlers.message.as_ref()) else { return Ok(()) };
        let Some(data) = self.data(conn, message, spec, true)? else { return Ok(()) };
        // A model runs Python, which may have closed the connection.
        if conn.get().is_over() {
            return Ok(());
        }
        let current = CurrentMessage::new(self.event_name(message.event, spec), message, &data);
        let argument = if own.is_some() { data } else { Bound::new(self.py, current.message(self.py)?)?.into_any() };
        let before = lock(&self.shared.current).replace(current);
        drop(before);
        let _handled = Handled(self.shared);
        self.call(conn, HandlerKind::Message, call, Some(&argument))
    }

    fn event_name(&self, event: &str, spec: Option<&EventSpec>) -> Py<PyString> {
        spec.map_or_else(|| PyString::new(self.py, event).unbind(), |spec| spec.name.clone_ref(self.py))
    }

    /// The data of a message; `None` when its model refused it, which closes the connection. `enters`: the model runs in the
    /// context of the connection, as handlers do; a reader's task may be in it already.
    fn data(
        &self,
        conn: &Bound<'py, Connection>,
        message: &JsonMessage<'_>,
        spec: Option<&EventSpec>,
        enters: bool,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let made = match spec {
            Some(spec) => {
                let enters = enters && spec.has_model();
                let context = if enters { Some(conn.get().context(self.py)?) } else { None };
                spec.data(self.py, message.data.as_str(), context.as_ref())
            }
            None => objects(self.py, message.data.as_str()).map_err(NoData::Failed),
        };
        match made {
            Ok(data) => Ok(Some(data)),
            Err(NoData::Refused(error)) if is_value_error(self.py, &error) => {
                let logged =
                    self.handlers.refused.bind(self.py).call1((error, message.event, conn.get().id.to_string()));
                self.or_fatal(logged)?;
                let _ = self.handle.refuse_message(conn.get().id, message.event, message.id);
                if !spec.is_some_and(|spec| spec.lives) {
                    Self::end(conn, Some(SCHEMA_MISMATCH));
                }
                Ok(None)
            }
            Err(NoData::Refused(error) | NoData::Failed(error)) => {
                let event = self.event_name(message.event, spec);
                self.failed_in(conn, HandlerKind::Message, error, Some(event)).map(|()| None)
            }
        }
    }

    /// The next message for a reader. A message that its model refuses is skipped.
    pub(crate) fn take(&self, conn: &Bound<'py, Connection>) -> PyResult<Option<Bound<'py, PyAny>>> {
        loop {
            if self.shared.is_forked() {
                return Ok(None);
            }
            Self::end_with_session(conn);
            let Some((queued, kept, reading)) =
                conn.get().with_state(|state| state.pop(self.handlers.bounds.max_pending_bytes))
            else {
                return Ok(None);
            };
            drop(kept);
            self.read(conn, reading);
            let message = match queued.borrow() {
                BorrowedMessage::Text(text) => return Ok(Some(PyString::new(self.py, text).into_any())),
                BorrowedMessage::Binary(payload) => return Ok(Some(PyBytes::new(self.py, payload).into_any())),
                BorrowedMessage::Event(message) => message,
            };
            let spec = conn.get().event(self.handlers, message.event);
            let Some(data) = self.data(conn, &message, spec, false)? else { continue };
            if conn.get().is_over() {
                return Ok(None);
            }
            let current = CurrentMessage::new(self.event_name(message.event, spec), &message, &data);
            let record = current.message(self.py)?;
            let before = conn.get().with_state(|state| state.current.replace(current));
            drop(before);
            return Ok(Some(Bound::new(self.py, record)?.into_any()));
        }
    }

    /// The next message for an application that pulls, as ASGI has it: its text or its bytes, whatever the protocol is.
    pub(crate) fn pull(conn: &Bound<'py, Connection>) -> Option<Bound<'py, PyDict>> {
        let (py, this) = (conn.py(), conn.get());
        if this.shared.is_forked() {
            return None;
        }
        Self::end_with_session(conn);
        let max_bytes = this.shared.handlers()?.bounds.max_pending_bytes;
        let (queued, kept, reading) = this.with_state(|state| state.pop(max_bytes))?;
        drop(kept);
        Self::read_of(&this.shared.handle, conn, reading);
        let (kind, message) = match queued.borrow() {
            BorrowedMessage::Text(text) => (intern!(py, "text"), PyString::new(py, text).into_any()),
            BorrowedMessage::Binary(payload) => (intern!(py, "bytes"), PyBytes::new(py, payload).into_any()),
            BorrowedMessage::Event(message) => (intern!(py, "text"), PyString::new(py, &envelope(&message)).into_any()),
        };
        let told = PyDict::new(py);
        // A new dictionary refuses nothing but for want of memory.
        told.set_item(intern!(py, "type"), intern!(py, "websocket.receive")).ok()?;
        told.set_item(kind, message).ok()?;
        Some(told)
    }

    /// Handles what waits for a connection, until a coroutine runs.
    pub(crate) fn advance(&self, conn: &Bound<'py, Connection>) -> PyResult<()> {
        enum Next {
            Message(QueuedMessage, Kept, Reading),
            Close(Option<Py<Close>>, Option<CurrentMessage>, Option<Py<PyAny>>),
            Nothing,
        }
        loop {
            if self.shared.is_forked() {
                // A handler has forked, and this is the child: what waits is the parent's to handle.
                return Ok(());
            }
            Self::end_with_session(conn);
            let next = conn.get().with_state(|state| {
                if state.busy.is_some() || state.is_telling {
                    return Next::Nothing;
                }
                let queued = if state.is_iterated() { None } else { state.pop(self.handlers.bounds.max_pending_bytes) };
                match queued {
                    Some((queued, kept, reading)) => Next::Message(queued, kept, reading),
                    // The message that another reader has taken is no longer handled.
                    None if state.close_due => {
                        // The connection's own first, then that of the server.
                        let own = state.ends.pop_front();
                        state.close_told |= own.is_none();
                        state.close_due = !state.close_told || !state.ends.is_empty();
                        let close = state.closed.as_ref().map(|close| close.clone_ref(self.py));
                        state.is_telling = true;
                        Next::Close(close, state.current.take(), own)
                    }
                    None => Next::Nothing,
                }
            });
            match next {
                Next::Message(queued, kept, reading) => {
                    drop(kept);
                    self.read(conn, reading);
                    self.run_now(conn, queued.borrow())?;
                }
                Next::Close(close, current, own) => {
                    let _telling = Telling(conn.get());
                    drop(current);
                    if let Some(call) = own.as_ref().or(self.handlers.close.as_ref()) {
                        let close = close.map(|close| close.into_bound(self.py).into_any());
                        self.call(conn, HandlerKind::Close, call, close.as_ref())?;
                    }
                }
                Next::Nothing => return Ok(()),
            }
        }
    }
}

/// The text of a message that was taken apart.
fn envelope(message: &JsonMessage<'_>) -> String {
    let event = serde_json::Value::from(message.event);
    let id = message.id.map_or_else(String::new, |id| format!(",\"id\":{id}"));
    let status = match message.status {
        None => "",
        Some(Status::Ok) => ",\"status\":\"ok\"",
        Some(Status::Error) => ",\"status\":\"error\"",
    };
    format!("{{\"event\":{event},\"data\":{}{id}{status}}}", message.data.as_str())
}

/// Ends the handling of the current message when it is dropped.
struct Handled<'r>(&'r Shared);

impl Drop for Handled<'_> {
    fn drop(&mut self) {
        let current = lock(&self.0.current).take();
        drop(current);
    }
}

/// Ends the call of a function of `on_close` when it is dropped.
struct Telling<'c>(&'c Connection);

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        self.0.with_state(|state| state.is_telling = false);
    }
}

/// Pydantic's `ValidationError` is a `ValueError`.
fn is_value_error(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyValueError>(py)
}
