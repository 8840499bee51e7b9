//! Read-only records that handlers get: how a connection ended, and a message.

use pyo3::prelude::*;
use pyo3::types::PyString;
use wsguard::binding::Status;

/// How a connection ended.
#[pyclass(frozen, get_all, module = "wsguard")]
#[derive(Debug)]
pub(crate) struct Close {
    /// The close code: the server's if it closed first, else the peer's. 1005 after an empty close frame, 1006 without
    /// a closing handshake (RFC 6455 section 7.1.5).
    pub(crate) code: u16,
    /// The reason of the close frame; empty if there is none.
    pub(crate) reason: Py<PyString>,
    /// `True` if both sides sent a close frame.
    pub(crate) clean: bool,
    /// The verdict that closed it; `None` if the peer or the application did, or the connection broke.
    pub(crate) verdict: Option<&'static str>,
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
    /// The name of the event.
    event: Py<PyString>,
    /// The data: Python objects, an instance of the event's model, or `bytes` of JSON text (`raw=True`).
    data: Py<PyAny>,
    /// The id that a reply carries; `None` if the message has none.
    id: Py<PyAny>,
    /// The status that the peer sent; `None` if the message has none.
    status: Option<&'static str>,
    /// The length of the message's payload in bytes.
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
