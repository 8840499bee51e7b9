//! What the methods of a connection return for `await`: coroutines as far as Python can tell, so that `create_task` and the
//! like take them. One that is never awaited is no fault. A future is made only when somebody has to wait, and is forgotten
//! when the wait ends, however it ends.

use std::sync::Mutex;

use pyo3::exceptions::{PyBaseException, PyRuntimeError, PyStopIteration, PyTypeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::iterator::PySendResult;
use pyo3::types::{PyIterator, PyType};
use pyo3::{PyTraverseError, PyVisit};

use crate::connection::{Connection, State};
use crate::errors;
use crate::futures::Futures;
use crate::lock::lock;

/// The awaitable of a `Connection` that has nothing to wait for.
#[pyclass(frozen, module = "wsguard._wsguard")]
#[derive(Debug)]
pub(crate) struct Done;

#[pymethods]
impl Done {
    #[new]
    fn new() -> Self {
        Self
    }

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

/// The one [`Done`] of the process.
pub(crate) fn done(py: Python<'_>) -> PyResult<Py<PyAny>> {
    static DONE: PyOnceLock<Py<Done>> = PyOnceLock::new();
    Ok(DONE.get_or_try_init(py, || Py::new(py, Done))?.clone_ref(py).into_any())
}

/// What an [`Awaiting`] waits for.
#[derive(Debug)]
pub(crate) struct Awaited {
    /// What there is by now; `None`: wait. A fault is what the wait raises.
    pub(crate) poll: fn(&Bound<'_, Connection>) -> PyResult<Option<Py<PyAny>>>,
    /// The futures of a connection that are resolved when polling again is worth it.
    pub(crate) futures: fn(&mut State) -> &mut Futures,
    /// It gives a message: a second wait needs a second call.
    pub(crate) gives_message: bool,
    /// What is awaited on another loop than the server's, and what to do instead.
    pub(crate) elsewhere: &'static str,
}

#[derive(Debug, Default)]
struct Wait {
    /// The iterator of its future.
    iterator: Option<Py<PyIterator>>,
    /// The number of its future among those of the connection.
    place: Option<u64>,
    /// It has returned its value, or raised.
    is_over: bool,
    /// It was called where another loop runs: who reads is known when the server's awaits it.
    is_unread: bool,
}

/// The awaitable of a `Connection` that has to wait. It is a coroutine for asyncio and anyio.
#[pyclass(frozen, module = "wsguard._wsguard")]
#[derive(Debug)]
pub(crate) struct Awaiting {
    conn: Py<Connection>,
    awaited: &'static Awaited,
    wait: Mutex<Wait>,
}

impl Awaiting {
    pub(crate) fn of(py: Python<'_>, conn: &Bound<'_, Connection>, awaited: &'static Awaited) -> PyResult<Py<PyAny>> {
        let waits = Self { conn: conn.clone().unbind(), awaited, wait: Mutex::default() };
        Ok(Py::new(py, waits)?.into_any())
    }

    /// One that gives a message. `is_read`: who reads is known.
    pub(crate) fn of_reader(
        conn: &Bound<'_, Connection>,
        awaited: &'static Awaited,
        is_read: bool,
    ) -> PyResult<Py<PyAny>> {
        let wait = Mutex::new(Wait { is_unread: !is_read, ..Wait::default() });
        Ok(Py::new(conn.py(), Self { conn: conn.clone().unbind(), awaited, wait })?.into_any())
    }

    /// Fails where another loop than the server's runs: futures of the one are nothing to the tasks of the other, and
    /// handlers would run on its thread.
    fn check_loop(&self, py: Python<'_>) -> PyResult<()> {
        self.conn.get().check_loop(py, || self.awaited.elsewhere.to_owned())
    }

    /// Notes a reader that was not known. Fails where another loop runs, unless there is no message any more.
    fn begin_reading(&self, py: Python<'_>) -> PyResult<()> {
        if !self.conn.get().with_state(|state| state.is_over()) {
            self.check_loop(py)?;
        }
        lock(&self.wait).is_unread = false;
        self.conn.get().with_state(|state| state.read_by_others = true);
        Ok(())
    }

    /// A new future, resolved when polling again is worth it.
    fn wait(&self, py: Python<'_>) -> PyResult<Wait> {
        let conn = self.conn.get();
        let hooks = conn.shared.loop_hooks().ok_or_else(|| errors::no_loop(py))?;
        self.check_loop(py)?;
        let future = hooks.create_future.bind(py).call0()?;
        let iterator = future.try_iter()?.unbind();
        let place = conn.with_state(|state| {
            let place = state.next_place();
            (self.awaited.futures)(state).insert(place, future.unbind());
            place
        });
        Ok(Wait { iterator: Some(iterator), place: Some(place), ..Wait::default() })
    }

    /// Forgets the future: nobody waits any more.
    fn forget(&self) {
        let (iterator, place) = {
            let mut wait = lock(&self.wait);
            (wait.iterator.take(), wait.place.take())
        };
        let remove = |place| self.conn.get().with_state(|state| (self.awaited.futures)(state).remove(&place));
        let future = place.and_then(remove);
        drop((iterator, future));
    }

    fn step(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.conn.get().checked(py)?;
        loop {
            let (iterator, is_over, is_unread) = {
                let mut wait = lock(&self.wait);
                (wait.iterator.take(), wait.is_over, wait.is_unread)
            };
            if is_over && self.awaited.gives_message {
                return Err(PyRuntimeError::new_err("it has given its message: call recv() again for the next"));
            }
            if let Some(iterator) = iterator {
                match iterator.bind(py).send(py.None().bind(py)) {
                    Ok(PySendResult::Next(step)) => {
                        lock(&self.wait).iterator = Some(iterator);
                        return Ok(step.unbind());
                    }
                    Ok(PySendResult::Return(_)) => self.forget(),
                    Err(error) => {
                        self.forget();
                        return Err(error);
                    }
                }
            }
            if is_unread {
                self.begin_reading(py)?;
            }
            let polled = (self.awaited.poll)(self.conn.bind(py));
            if let Some(value) = polled.inspect_err(|_| lock(&self.wait).is_over = true)? {
                lock(&self.wait).is_over = true;
                // Not in a tuple: as the value is none, and no exception, that is the same, and no exception is made before
                // somebody looks at it. This is the way of each message.
                return Err(PyStopIteration::new_err(value));
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
