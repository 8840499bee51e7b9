//! Read-only records that handlers get: how a connection ended, and a message.

use pyo3::prelude::*;
use pyo3::types::PyString;
use wsguard::binding::Status;

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
