//! Futures of the event loop on which tasks wait for something of a connection.

use std::collections::BTreeMap;

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

/// The futures of everybody who waits, in the order in which they came.
pub(crate) type Futures = BTreeMap<u64, Py<PyAny>>;

/// Resolves futures: whoever waits looks again.
pub(crate) fn wake(py: Python<'_>, futures: Futures) -> PyResult<()> {
    for future in futures.into_values() {
        let future = future.bind(py);
        if !future.call_method0(intern!(py, "done"))?.is_truthy()? {
            future.call_method1(intern!(py, "set_result"), (py.None(),))?;
        }
    }
    Ok(())
}

/// The task of the running loop; `None` outside of one.
pub(crate) fn current_task(py: Python<'_>) -> PyResult<Option<Bound<'_, PyAny>>> {
    static CURRENT_TASK: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let current = CURRENT_TASK
        .get_or_try_init(py, || Ok::<_, PyErr>(py.import("asyncio")?.getattr("current_task")?.unbind()))?
        .bind(py);
    match current.call0() {
        Ok(task) => Ok((!task.is_none()).then_some(task)),
        Err(error) if error.is_instance_of::<PyRuntimeError>(py) => Ok(None),
        Err(error) => Err(error),
    }
}
