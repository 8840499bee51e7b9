//! What `await` gets from a connection: coroutines as far as Python can tell, so that `create_task` and the like take
//! them; one that is never awaited is no fault. A future is made only when something has to be waited for, and is
//! forgotten when the wait ends, however it ends.

use std::sync::Mutex;

use pyo3::exceptions::{PyBaseException, PyRuntimeError, PyStopAsyncIteration, PyStopIteration, PyTypeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;
use pyo3::{PyTraverseError, PyVisit, intern};

use crate::bell::lock;
use crate::connection::{Connection, Futures, State};
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

    #[pyo3(signature = (_value, /))]
    #[expect(clippy::unused_self, reason = "the coroutine protocol calls it on an instance")]
    fn send(&self, _value: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        Err(PyStopIteration::new_err(()))
    }

    #[pyo3(signature = (kind, value = None, _traceback = None, /))]
    #[expect(clippy::unused_self, reason = "the coroutine protocol calls it on an instance")]
    fn throw(
        &self,
        kind: &Bound<'_, PyAny>,
        value: Option<&Bound<'_, PyAny>>,
        _traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        Err(thrown(kind, value))
    }

    #[expect(clippy::unused_self, reason = "the coroutine protocol calls it on an instance")]
    fn close(&self) {}
}

/// The exception that `throw` was called with.
fn thrown(kind: &Bound<'_, PyAny>, value: Option<&Bound<'_, PyAny>>) -> PyErr {
    if kind.is_instance_of::<PyBaseException>() {
        return PyErr::from_value(kind.clone());
    }
    match (value, kind.cast::<PyType>()) {
        (Some(value), _) if value.is_instance_of::<PyBaseException>() => PyErr::from_value(value.clone()),
        (Some(value), Ok(kind)) => PyErr::from_type(kind.clone(), (value.clone().unbind(),)),
        (None, Ok(kind)) => PyErr::from_type(kind.clone(), ()),
        (_, Err(_)) => PyTypeError::new_err("exceptions must derive from BaseException"),
    }
}

/// The one that is done.
pub(crate) fn done(py: Python<'_>) -> PyResult<Py<PyAny>> {
    static DONE: PyOnceLock<Py<Done>> = PyOnceLock::new();
    Ok(DONE.get_or_try_init(py, || Py::new(py, Done))?.clone_ref(py).into_any())
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

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// Room in the outbox.
    Room,
    /// The next message, of `recv` or of `async for`.
    Message { is_iteration: bool },
    /// The end of the connection.
    End,
}

#[derive(Debug, Default)]
struct Wait {
    /// The iterator of the future that is waited for.
    iterator: Option<Py<PyAny>>,
    /// The future's place among those of the connection.
    place: Option<u64>,
    /// It has given what it was to give.
    is_over: bool,
}

/// Waits for something of a connection.
#[pyclass(frozen, module = "wsguard._wsguard")]
#[derive(Debug)]
pub(crate) struct Awaiting {
    conn: Py<Connection>,
    what: What,
    wait: Mutex<Wait>,
}

impl Awaiting {
    pub(crate) fn of(py: Python<'_>, conn: &Bound<'_, Connection>, what: What) -> PyResult<Py<PyAny>> {
        let waits = Self { conn: conn.clone().unbind(), what, wait: Mutex::default() };
        Ok(Py::new(py, waits)?.into_any())
    }

    /// What there is by now.
    fn poll(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let conn = self.conn.bind(py);
        let this = conn.get();
        let closed = |state: &State| state.closed.as_ref().map(|close| close.clone_ref(py));
        match self.what {
            What::Room => {
                let (queued, is_closed) = this.with_state(|state| (state.queued, state.closed.is_some()));
                match this.closed_error(py) {
                    Some(error) if is_closed || this.is_over() => Err(error),
                    _ if queued || !this.is_open() => Ok(None),
                    _ => Ok(Some(py.None())),
                }
            }
            What::End => Ok(this.with_state(|state| closed(state)).map(Py::<Close>::into_any)),
            What::Message { is_iteration } => {
                if let Some(message) = Work::guarded_or_none(conn, |work| work.take(conn))? {
                    return Ok(Some(message.unbind()));
                }
                match this.with_state(|state| state.is_over()) {
                    true if is_iteration => Err(PyStopAsyncIteration::new_err(())),
                    true => Err(this.closed_error(py).unwrap_or_else(|| errors::closed(py, None))),
                    false => Ok(None),
                }
            }
        }
    }

    /// A future that is told when it is worth looking again.
    fn wait(&self, py: Python<'_>) -> PyResult<Wait> {
        let conn = self.conn.get();
        let looping = conn.run.looping().ok_or_else(|| errors::no_loop(py))?;
        let future = looping.create_future.bind(py).call0()?;
        let iterator = future.call_method0(intern!(py, "__await__"))?.unbind();
        let place = conn.with_state(|state| {
            let place = state.next_place();
            self.futures(state).insert(place, future.unbind());
            place
        });
        Ok(Wait { iterator: Some(iterator), place: Some(place), is_over: false })
    }

    fn futures<'s>(&self, state: &'s mut State) -> &'s mut Futures {
        match self.what {
            What::Message { .. } => &mut state.receivers,
            What::Room | What::End => &mut state.waiters,
        }
    }

    /// Nobody waits any more.
    fn forget(&self) {
        let (iterator, place) = {
            let mut wait = lock(&self.wait);
            (wait.iterator.take(), wait.place.take())
        };
        let future = place.and_then(|place| self.conn.get().with_state(|state| self.futures(state).remove(&place)));
        drop((iterator, future));
    }

    fn step(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.conn.get().checked(py)?;
        loop {
            let (iterator, is_over) = {
                let mut wait = lock(&self.wait);
                (wait.iterator.take(), wait.is_over)
            };
            if is_over && matches!(self.what, What::Message { .. }) {
                return Err(PyRuntimeError::new_err("it has given its message: call recv() again for the next"));
            }
            if let Some(iterator) = iterator {
                match iterator.bind(py).call_method0(intern!(py, "__next__")) {
                    Ok(step) => {
                        lock(&self.wait).iterator = Some(iterator);
                        return Ok(step.unbind());
                    }
                    Err(error) if error.is_instance_of::<PyStopIteration>(py) => self.forget(),
                    Err(error) => {
                        self.forget();
                        return Err(error);
                    }
                }
            }
            if let Some(value) = self.poll(py).inspect_err(|_| lock(&self.wait).is_over = true)? {
                lock(&self.wait).is_over = true;
                return Err(PyStopIteration::new_err((value,)));
            }
            let next = self.wait(py)?;
            let before = std::mem::replace(&mut *lock(&self.wait), next);
            if before.iterator.is_some() {
                return Err(PyRuntimeError::new_err("awaited twice at once"));
            }
        }
    }
}

impl Drop for Awaiting {
    fn drop(&mut self) {
        self.forget();
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
        self.step(py)
    }

    #[pyo3(signature = (value, /))]
    fn send(&self, value: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.step(value.py())
    }

    #[pyo3(signature = (kind, value = None, _traceback = None, /))]
    fn throw(
        &self,
        kind: &Bound<'_, PyAny>,
        value: Option<&Bound<'_, PyAny>>,
        _traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        self.forget();
        Err(thrown(kind, value))
    }

    fn close(&self) {
        self.forget();
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.conn)?;
        self.wait.try_lock().map_or(Ok(()), |wait| visit.call(&wait.iterator))
    }
}

/// Tells futures that it is worth looking again.
pub(crate) fn wake(py: Python<'_>, futures: Futures) -> PyResult<()> {
    for future in futures.into_values() {
        let future = future.bind(py);
        if !future.call_method0(intern!(py, "done"))?.is_truthy()? {
            future.call_method1(intern!(py, "set_result"), (py.None(),))?;
        }
    }
    Ok(())
}
