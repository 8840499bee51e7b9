//! `contextvars` contexts: what one connection sets, no other sees.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

/// A copy of this thread's context.
pub(crate) fn current(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    py.import("contextvars")?.call_method0("copy_context")
}

/// A copy of `context`.
pub(crate) fn copy<'py>(context: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    context.call_method0(intern!(context.py(), "copy"))
}

/// Calls `function(first)` or `function(first, second)` in a context.
pub(crate) fn call_in<'py>(
    context: &Bound<'py, PyAny>,
    function: &Py<PyAny>,
    first: &Bound<'py, PyAny>,
    second: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    static RUN: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = context.py();
    let run = RUN.get_or_try_init(py, || {
        Ok::<_, PyErr>(py.import("contextvars")?.getattr("Context")?.getattr("run")?.unbind())
    })?;
    match second {
        Some(second) => run.bind(py).call1((context, function, first, second)),
        None => run.bind(py).call1((context, function, first)),
    }
}
