//! Messages on their way to a handler: borrowed from a batch, queued, and handled.

use pyo3::prelude::*;
use pyo3::types::PyString;
use wsguard::binding::{ConnectionId, JsonMessage, Status, vetted_json};

use crate::ending;
use crate::handlers::objects;
use crate::records::Message;

/// A message that its batch holds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum BorrowedMessage<'b> {
    Text(&'b str),
    Binary(&'b [u8]),
    Event(JsonMessage<'b>),
}

/// A message that waits until the handler of an earlier one of its connection has ended: a copy, so that its batch can go.
#[derive(Debug)]
pub(crate) enum QueuedMessage {
    Text(Box<str>),
    Binary(Box<[u8]>),
    Event {
        conn: ConnectionId,
        event: Box<str>,
        data: Box<str>,
        id: Option<Box<str>>,
        status: Option<Status>,
        bytes: usize,
        generation: u64,
    },
}

impl QueuedMessage {
    pub(crate) fn copy_of(message: BorrowedMessage<'_>) -> Self {
        match message {
            BorrowedMessage::Text(text) => Self::Text(text.into()),
            BorrowedMessage::Binary(payload) => Self::Binary(payload.into()),
            BorrowedMessage::Event(JsonMessage { conn, event, data, id, status, bytes, generation }) => Self::Event {
                conn,
                event: event.into(),
                data: data.as_str().into(),
                id: id.map(Into::into),
                status,
                bytes,
                generation,
            },
        }
    }

    pub(crate) fn borrow(&self) -> BorrowedMessage<'_> {
        match self {
            Self::Text(text) => BorrowedMessage::Text(text),
            Self::Binary(payload) => BorrowedMessage::Binary(payload),
            Self::Event { conn, event, data, id, status, bytes, generation } => BorrowedMessage::Event(JsonMessage {
                conn: *conn,
                event,
                data: vetted_json(data),
                id: id.as_deref(),
                status: *status,
                bytes: *bytes,
                generation: *generation,
            }),
        }
    }

    /// What it counts towards `max_inbox_bytes`.
    pub(crate) fn cost_bytes(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Text(text) => text.len(),
                Self::Binary(payload) => payload.len(),
                Self::Event { event, data, id, .. } => event.len() + data.len() + id.as_ref().map_or(0, |id| id.len()),
            }
    }
}

/// The message that a handler handles now: what `reply` and `Connection.message` need.
#[derive(Debug)]
pub(crate) struct CurrentMessage {
    pub(crate) conn: ConnectionId,
    pub(crate) event: Py<PyString>,
    pub(crate) data: Py<PyAny>,
    pub(crate) id: Option<Box<str>>,
    pub(crate) status: Option<Status>,
    pub(crate) bytes: usize,
    /// The thread of its handler.
    thread: u64,
}

impl CurrentMessage {
    /// Returns true if its handler runs on this thread. On another thread it would come and go at any moment.
    pub(crate) fn is_of_this_thread(&self) -> bool {
        self.thread == ending::known_ident()
    }

    pub(crate) fn new(event: Py<PyString>, message: &JsonMessage<'_>, data: &Bound<'_, PyAny>) -> Self {
        Self {
            conn: message.conn,
            event,
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

    /// The record for handlers.
    pub(crate) fn message(&self, py: Python<'_>) -> PyResult<Message> {
        let id = self.id.as_deref().map_or_else(|| Ok(py.None().into_bound(py)), |id| objects(py, id))?;
        Ok(Message::new(self.event.clone_ref(py), self.data.clone_ref(py), id.unbind(), self.status, self.bytes))
    }
}
