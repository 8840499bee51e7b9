//! What handlers are told, beside connections and requests: plain read-only records.

use pyo3::prelude::*;
use pyo3::types::PyString;
use wsguard::binding::{Status, ViolationEvent};

use crate::connection::Connection;

/// How a connection ended.
#[pyclass(frozen, get_all, module = "wsguard")]
#[derive(Debug)]
pub(crate) struct Close {
    /// The close code: ours when we closed, else the peer's; 1005 for an empty close frame, 1006 when it broke.
    pub(crate) code: u16,
    /// The reason with it.
    pub(crate) reason: Py<PyString>,
    /// Whether both sides sent a close frame.
    pub(crate) clean: bool,
}

#[pymethods]
impl Close {
    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let clean = if self.clean { "True" } else { "False" };
        Ok(format!("<Close code={} reason={} clean={clean}>", self.code, self.reason.bind(py).repr()?))
    }
}

/// A message of the `json` protocol.
#[pyclass(frozen, get_all, module = "wsguard")]
#[derive(Debug)]
pub(crate) struct Message {
    /// The event.
    event: Py<PyString>,
    /// Its data: Python objects; the model where the event has one; `bytes` of JSON text where it was asked for.
    data: Py<PyAny>,
    /// The id a reply carries: a string, an integer or `None`.
    id: Py<PyAny>,
    /// The peer's status: `"ok"`, `"error"` or `None`.
    status: Option<&'static str>,
    /// Payload bytes of the whole message.
    size_bytes: usize,
}

impl Message {
    pub(crate) fn new(
        event: Py<PyString>,
        data: Py<PyAny>,
        id: Py<PyAny>,
        status: Option<Status>,
        size_bytes: usize,
    ) -> Self {
        let status = status.map(|status| match status {
            Status::Ok => "ok",
            Status::Error => "error",
        });
        Self { event, data, id, status, size_bytes }
    }
}

#[pymethods]
impl Message {
    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("<Message event={} size_bytes={}>", self.event.bind(py).repr()?, self.size_bytes))
    }
}

/// A verdict against a peer. A flood of them is sampled; `Server.stats()` counts every one.
#[pyclass(frozen, get_all, module = "wsguard")]
#[derive(Debug)]
pub(crate) struct Violation {
    /// The verdict's stable name: `"origin_denied"`.
    code: &'static str,
    /// The client's address.
    ip: Option<String>,
    /// The user, after authentication.
    user: Option<String>,
    /// The connection, after the 101; `None` also when it has ended.
    conn: Option<Py<Connection>>,
    /// Its id, after the 101.
    conn_id: Option<String>,
    /// The event of the message, escaped and cut to 64 characters.
    event: Option<String>,
    /// What was wrong, in the words of the log record.
    detail: String,
    /// The close code it was answered with, after the 101.
    close_code: Option<u16>,
    /// The usual HTTP status of the refusal, before the 101.
    http_status: Option<u16>,
}

impl Violation {
    pub(crate) fn new(violation: &ViolationEvent, conn: Option<Py<Connection>>) -> Self {
        let opened = violation.conn.is_some();
        let (close_code, http_status) = (violation.code.close_code(), violation.code.http_status());
        Self {
            code: violation.code.name(),
            ip: violation.ip.map(|ip| ip.to_string()),
            user: violation.user.as_deref().map(str::to_owned),
            conn,
            conn_id: violation.conn.map(|conn| conn.to_string()),
            event: violation.event.as_deref().map(str::to_owned),
            detail: violation.detail.to_string(),
            close_code: (opened && close_code > 0).then_some(close_code),
            http_status: (!opened && http_status > 0).then_some(http_status),
        }
    }
}

#[pymethods]
impl Violation {
    fn __repr__(&self) -> String {
        format!("<Violation code='{}'>", self.code)
    }
}
