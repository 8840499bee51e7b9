//! The application's handlers as they were registered, and messages on their way to them.

use std::cell::RefCell;
use std::collections::HashMap;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};
use pyo3::{PyTraverseError, PyVisit};
use wsguard::binding::{JsonMessage, Status};

use crate::ending;
use crate::json_in::{self, Keys};
use crate::records::Message;
use crate::run::Protocol;

/// One event of the `json` protocol.
#[derive(Debug)]
pub(crate) struct EventSpec {
    pub(crate) name: Py<PyString>,
    /// Who handles it; where nobody does, `on_message` or whoever iterates over the connection gets it.
    pub(crate) call: Option<Py<PyAny>>,
    /// Its data is `bytes` of JSON text.
    raw: bool,
    /// Makes a model instance of JSON text.
    validate: Option<Py<PyAny>>,
}

/// What the application registered before it started the server.
#[derive(Debug)]
pub(crate) struct Handlers {
    pub(crate) events: HashMap<Box<str>, EventSpec>,
    pub(crate) message: Option<Py<PyAny>>,
    pub(crate) open: Option<Py<PyAny>>,
    pub(crate) close: Option<Py<PyAny>>,
    pub(crate) violation: Option<Py<PyAny>>,
    pub(crate) authenticate: Option<Py<PyAny>>,
    /// `report(error, what, conn_id)`: writes the traceback of a handler that failed to the log.
    pub(crate) report: Py<PyAny>,
    /// `refused(error, what, conn_id)`: notes that a model did not accept what its schema did.
    pub(crate) refused: Py<PyAny>,
    /// `on_violation: "report"`: what a model refuses is skipped, and the connection lives.
    pub(crate) only_reports: bool,
    pub(crate) protocol: Protocol,
}

impl Handlers {
    /// From the dictionary that `wsguard._registration` makes.
    pub(crate) fn of_dict(stated: &Bound<'_, PyDict>) -> PyResult<Self> {
        let required = |name: &str| stated.as_any().get_item(name).map(Bound::unbind);
        let optional =
            |name: &str| Ok::<_, PyErr>(stated.get_item(name)?.filter(|call| !call.is_none()).map(Bound::unbind));
        let mut events = HashMap::new();
        for (name, spec) in required("events")?.bind(stated.py()).cast::<PyDict>()?.iter() {
            let name = name.cast_into::<PyString>()?;
            let (call, raw, validate) = spec.extract()?;
            let key = name.to_str()?.into();
            events.insert(key, EventSpec { name: name.unbind(), call, raw, validate });
        }
        Ok(Self {
            events,
            message: optional("message")?,
            open: optional("open")?,
            close: optional("close")?,
            violation: optional("violation")?,
            authenticate: optional("authenticate")?,
            report: required("report")?,
            refused: required("refused")?,
            only_reports: stated.as_any().get_item("only_reports")?.is_truthy()?,
            protocol: if stated.as_any().get_item("is_raw")?.is_truthy()? { Protocol::Raw } else { Protocol::Json },
        })
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        for spec in self.events.values() {
            visit.call(&spec.name)?;
            visit.call(&spec.call)?;
            visit.call(&spec.validate)?;
        }
        for call in [&self.message, &self.open, &self.close, &self.violation, &self.authenticate] {
            visit.call(call)?;
        }
        visit.call(&self.report)?;
        visit.call(&self.refused)
    }

    /// The name of an event, and its data as it was asked for. A model's refusal is the error of its own kind.
    pub(crate) fn data<'py>(&self, py: Python<'py>, message: &JsonMessage<'_>) -> Result<Bound<'py, PyAny>, NoData> {
        match self.events.get(message.event) {
            Some(EventSpec { validate: Some(validate), .. }) => {
                validate.bind(py).call1((PyString::new(py, message.data.as_str()),)).map_err(NoData::Refused)
            }
            Some(EventSpec { raw: true, .. }) => Ok(PyBytes::new(py, message.data.as_str().as_bytes()).into_any()),
            _ => objects(py, message.data.as_str()).map_err(NoData::Failed),
        }
    }

    fn name<'py>(&self, py: Python<'py>, event: &str) -> Bound<'py, PyString> {
        self.events.get(event).map_or_else(|| PyString::new(py, event), |spec| spec.name.bind(py).clone())
    }
}

/// Why a message has no data for its handler.
#[derive(Debug)]
pub(crate) enum NoData {
    /// Its model raised.
    Refused(PyErr),
    /// It could not be made.
    Failed(PyErr),
}

/// The Python objects of a JSON text.
pub(crate) fn objects<'py>(py: Python<'py>, text: &str) -> PyResult<Bound<'py, PyAny>> {
    thread_local! {
        static KEYS: RefCell<Option<Keys>> = const { RefCell::new(None) };
    }
    // Taken, not borrowed: making objects may collect garbage, whose finalizers may come back here.
    let mut keys = KEYS.take().unwrap_or_default();
    let made = json_in::objects(py, text, &mut keys);
    KEYS.replace(Some(keys));
    made
}

/// A message in its batch.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Incoming<'b> {
    Text(&'b str),
    Binary(&'b [u8]),
    Event(JsonMessage<'b>),
}

/// A message that waits for the handler of an earlier one of its connection: a copy, so that the batch is not held.
#[derive(Debug)]
pub(crate) enum Waiting {
    Text(Box<str>),
    Binary(Box<[u8]>),
    Event {
        conn: wsguard::binding::ConnectionId,
        event: Box<str>,
        data: Box<str>,
        id: Option<Box<str>>,
        status: Option<Status>,
        bytes: usize,
    },
}

impl Waiting {
    pub(crate) fn copy_of(incoming: Incoming<'_>) -> Self {
        match incoming {
            Incoming::Text(text) => Self::Text(text.into()),
            Incoming::Binary(payload) => Self::Binary(payload.into()),
            Incoming::Event(JsonMessage { conn, event, data, id, status, bytes }) => {
                Self::Event { conn, event: event.into(), data: data.as_str().into(), id: id.map(Into::into), status, bytes }
            }
        }
    }

    pub(crate) fn as_incoming(&self) -> Incoming<'_> {
        match self {
            Self::Text(text) => Incoming::Text(text),
            Self::Binary(payload) => Incoming::Binary(payload),
            Self::Event { conn, event, data, id, status, bytes } => Incoming::Event(JsonMessage {
                conn: *conn,
                event,
                data: wsguard::binding::vetted_json(data),
                id: id.as_deref(),
                status: *status,
                bytes: *bytes,
            }),
        }
    }

    /// The memory it stands for.
    pub(crate) fn cost_bytes(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Text(text) => text.len(),
                Self::Binary(payload) => payload.len(),
                Self::Event { event, data, id, .. } => event.len() + data.len() + id.as_ref().map_or(0, |id| id.len()),
            }
    }
}

/// The message that is handled now: what `reply` needs, and `Connection.message`.
#[derive(Debug)]
pub(crate) struct Current {
    pub(crate) conn: wsguard::binding::ConnectionId,
    pub(crate) event: Py<PyString>,
    pub(crate) data: Py<PyAny>,
    pub(crate) id: Option<Box<str>>,
    pub(crate) status: Option<Status>,
    pub(crate) bytes: usize,
    /// Where its handler runs.
    thread: u64,
}

impl Current {
    /// Whether it is handled on this thread: to any other one it is a message that comes and goes.
    pub(crate) fn is_of_this_thread(&self) -> bool {
        self.thread == ending::known_ident()
    }

    pub(crate) fn new(py: Python<'_>, handlers: &Handlers, message: &JsonMessage<'_>, data: &Bound<'_, PyAny>) -> Self {
        Self {
            conn: message.conn,
            event: handlers.name(py, message.event).unbind(),
            data: data.clone().unbind(),
            id: message.id.map(Into::into),
            status: message.status,
            bytes: message.bytes,
            thread: ending::known_ident(),
        }
    }

    pub(crate) fn copy(&self, py: Python<'_>) -> Self {
        Self {
            conn: self.conn,
            event: self.event.clone_ref(py),
            data: self.data.clone_ref(py),
            id: self.id.clone(),
            status: self.status,
            bytes: self.bytes,
            thread: self.thread,
        }
    }

    /// The record that handlers see.
    pub(crate) fn message(&self, py: Python<'_>) -> PyResult<Message> {
        let id = self.id.as_deref().map_or_else(|| Ok(py.None().into_bound(py)), |id| objects(py, id))?;
        Ok(Message::new(self.event.clone_ref(py), self.data.clone_ref(py), id.unbind(), self.status, self.bytes))
    }
}
