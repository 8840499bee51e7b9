//! Futures of the event loop on which tasks wait for something of a connection.

use std::collections::BTreeMap;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

/// The futures of everybody who waits, in the order in which they came.
pub(crate) type Futures = BTreeMap<u64, Py<PyAny>>;

/// Resolves futures: whoever waits looks again.
pub(crate) fn wake(py: Python<'_>, futures: Futures) -> PyResult<()> {
    futures.into_values().try_for_each(|future| resolve(future.bind(py), py.None()))
}

/// Resolves a future, unless it is done: cancelled, or late.
pub(crate) fn resolve<'py>(future: &Bound<'py, PyAny>, result: impl IntoPyObject<'py>) -> PyResult<()> {
    if !future.call_method0(intern!(future.py(), "done"))?.is_truthy()? {
        future.call_method1(intern!(future.py(), "set_result"), (result,))?;
    }
    Ok(())
}

/// The loop that runs on this thread, or `None` of Python's.
pub(crate) fn running_loop(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static RUNNING_LOOP: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let running = RUNNING_LOOP
        .get_or_try_init(py, || Ok::<_, PyErr>(py.import("asyncio")?.getattr("_get_running_loop")?.unbind()))?;
    running.bind(py).call0()
}

/// The task of the loop that runs on this thread; `None` outside of one.
pub(crate) fn current_task<'py>(running: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    static CURRENT_TASK: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    if running.is_none() {
        return Ok(None);
    }
    let py = running.py();
    let current = CURRENT_TASK
        .get_or_try_init(py, || Ok::<_, PyErr>(py.import("asyncio")?.getattr("current_task")?.unbind()))?
        .bind(py);
    let task = current.call1((running,))?;
    Ok((!task.is_none()).then_some(task))
}
