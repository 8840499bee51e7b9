//! Calls that the event loop makes later.

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use crate::connection::Connection;

/// A call about a connection that the event loop makes later.
#[pyclass(frozen, module = "wsguard._wsguard")]
#[derive(Debug)]
pub(super) struct LaterCall {
    conn: Py<Connection>,
    call: fn(&Bound<'_, Connection>) -> PyResult<()>,
}

impl LaterCall {
    pub(super) fn new(conn: &Bound<'_, Connection>, call: fn(&Bound<'_, Connection>) -> PyResult<()>) -> Self {
        Self { conn: conn.clone().unbind(), call }
    }
}

#[pymethods]
impl LaterCall {
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        (self.call)(self.conn.bind(py))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.conn)
    }
}
