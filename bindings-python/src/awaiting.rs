//! What `await` gets from a connection. A future is made only when something has to be waited for.

use std::sync::Mutex;

use pyo3::exceptions::{PyRuntimeError, PyStopIteration};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::{PyTraverseError, PyVisit, intern};

use crate::bell::lock;
use crate::connection::{Connection, State};
use crate::errors;
use crate::records::Close;
use crate::work::Work;

/// Nothing to wait for.
#[pyclass(frozen, module = "wsguard._wsguard")]
#[derive(Debug)]
pub(crate) struct Done;

#[pymethods]
impl Done {
    fn __await__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    #[expect(clippy::unused_self, reason = "the iterator protocol calls it on an instance")]
    fn __next__(&self) -> Option<Py<PyAny>> {
        None
    }
}

/// The one that is done.
pub(crate) fn done(py: Python<'_>) -> PyResult<Py<PyAny>> {
    static DONE: PyOnceLock<Py<Done>> = PyOnceLock::new();
    Ok(DONE.get_or_try_init(py, || Py::new(py, Done))?.clone_ref(py).into_any())
}

/// What is waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum What {
    /// Room in the outbox.
    Room,
    /// The next message; `over` is raised when none will come.
    Message { over: fn(Python<'_>, Option<&Py<Close>>) -> PyErr },
    /// The end of the connection.
    End,
}

/// Waits for something of a connection.
#[pyclass(frozen, module = "wsguard._wsguard")]
#[derive(Debug)]
pub(crate) struct Awaiting {
    conn: Py<Connection>,
    what: What,
    /// The iterator of the future that is waited for.
    future: Mutex<Option<Py<PyAny>>>,
}

impl Awaiting {
    pub(crate) fn of(py: Python<'_>, conn: &Bound<'_, Connection>, what: What) -> PyResult<Py<PyAny>> {
        let waits = Self { conn: conn.clone().unbind(), what, future: Mutex::default() };
        Ok(Py::new(py, waits)?.into_any())
    }

    /// What there is by now.
    fn poll(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let conn = self.conn.bind(py);
        let closed = |state: &State| state.closed.as_ref().map(|close| close.clone_ref(py));
        match self.what {
            What::Room => {
                let (queued, close) = conn.get().with_state(|state| (state.queued, closed(state)));
                match close {
                    Some(close) => Err(errors::closed(py, Some(&close))),
                    None if queued || !conn.get().is_open() => Ok(None),
                    None => Ok(Some(py.None())),
                }
            }
            What::End => Ok(conn.get().with_state(|state| closed(state)).map(Py::into_any)),
            What::Message { over } => {
                let server = conn.get().server.bind(py).clone();
                let message = Work::with(&server, |work| work.take(conn))?;
                let (is_over, close) = conn.get().with_state(|state| (state.is_over(), closed(state)));
                match message {
                    None if is_over => Err(over(py, close.as_ref())),
                    message => Ok(message.map(Bound::unbind)),
                }
            }
        }
    }

    /// A future that is told when it is worth looking again.
    fn wait(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let conn = self.conn.get();
        let looping = conn.server.get().looping().ok_or_else(|| errors::no_loop(py))?;
        let future = looping.create_future.bind(py).call0()?;
        let kept = future.clone().unbind();
        conn.with_state(|state| match self.what {
            What::Message { .. } => state.receivers.push(kept),
            What::Room | What::End => state.waiters.push(kept),
        });
        Ok(future.call_method0(intern!(py, "__await__"))?.unbind())
    }
}

#[pymethods]
impl Awaiting {
    fn __await__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        loop {
            let future = lock(&self.future).take();
            if let Some(future) = future {
                match future.bind(py).call_method0(intern!(py, "__next__")) {
                    Ok(step) => {
                        *lock(&self.future) = Some(future);
                        return Ok(step.unbind());
                    }
                    Err(error) if error.is_instance_of::<PyStopIteration>(py) => {}
                    Err(error) => return Err(error),
                }
            }
            if let Some(value) = self.poll(py)? {
                return Err(PyStopIteration::new_err((value,)));
            }
            let next = self.wait(py)?;
            if lock(&self.future).replace(next).is_some() {
                return Err(PyRuntimeError::new_err("awaited twice at once"));
            }
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.conn)?;
        self.future.try_lock().map_or(Ok(()), |future| visit.call(&*future))
    }
}

/// Tells futures that it is worth looking again.
pub(crate) fn wake(py: Python<'_>, futures: Vec<Py<PyAny>>) -> PyResult<()> {
    for future in futures {
        let future = future.bind(py);
        if !future.call_method0(intern!(py, "done"))?.is_truthy()? {
            future.call_method1(intern!(py, "set_result"), (py.None(),))?;
        }
    }
    Ok(())
}
