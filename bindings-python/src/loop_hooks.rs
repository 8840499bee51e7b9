//! The calls of the asyncio event loop that a server delivers on.

use pyo3::prelude::*;
use pyo3::types::PySet;
use pyo3::{PyTraverseError, PyVisit};

/// The calls of an event loop, made by `wsguard._on_loop`.
#[derive(Debug)]
pub(crate) struct LoopHooks {
    event_loop: Py<PyAny>,
    pub(crate) create_future: Py<PyAny>,
    /// `create_task(coroutine, context)`.
    pub(crate) create_task: Py<PyAny>,
    /// Calls `_deliver` in the loop's next iteration.
    deliver_soon: Py<PyAny>,
    /// Called once, when the server has stopped and every event was handled.
    pub(crate) stopped: Py<PyAny>,
    /// `call_later(seconds, callback)`.
    pub(crate) call_later: Py<PyAny>,
    /// `call_soon(callback)`, from any thread.
    pub(crate) call_soon: Py<PyAny>,
    /// Tasks that have not ended: a loop holds its tasks weakly.
    pub(crate) tasks: Py<PySet>,
}

/// `(loop, create_future, create_task, deliver_soon, stopped, call_later, call_soon, tasks)` of an event loop.
pub(crate) type LoopCalls = (Py<PyAny>, Py<PyAny>, Py<PyAny>, Py<PyAny>, Py<PyAny>, Py<PyAny>, Py<PyAny>, Py<PySet>);

impl LoopHooks {
    pub(crate) fn of(calls: LoopCalls) -> Self {
        let (event_loop, create_future, create_task, deliver_soon, stopped, call_later, call_soon, tasks) = calls;
        Self { event_loop, create_future, create_task, deliver_soon, stopped, call_later, call_soon, tasks }
    }

    /// Returns true if the loop that runs on this thread is another one.
    pub(crate) fn is_another(&self, running: &Bound<'_, PyAny>) -> bool {
        !running.is_none() && !running.is(&self.event_loop)
    }

    pub(crate) fn deliver_soon(&self, py: Python<'_>) {
        // A closed loop delivers to nobody.
        let _ = self.deliver_soon.bind(py).call0();
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        for call in [&self.event_loop, &self.create_future, &self.create_task, &self.deliver_soon, &self.stopped] {
            visit.call(call)?;
        }
        visit.call(&self.call_later)?;
        visit.call(&self.call_soon)?;
        visit.call(&self.tasks)
    }
}
