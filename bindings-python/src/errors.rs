//! The core's errors as exceptions of `wsguard._errors`, where the classes are.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use wsguard::binding::{ConfigError, Error};

/// An attribute of a module, looked up once.
fn cached<'py>(
    py: Python<'py>,
    cell: &'static PyOnceLock<Py<PyAny>>,
    module: &str,
    name: &str,
) -> PyResult<&'py Bound<'py, PyAny>> {
    cell.get_or_try_init(py, || Ok(py.import(module)?.getattr(name)?.unbind())).map(|found| found.bind(py))
}

fn make(py: Python<'_>, code: &str, message: String, option: Option<&str>) -> PyErr {
    make_of_system(py, code, message, option, None)
}

fn make_of_system(py: Python<'_>, code: &str, message: String, option: Option<&str>, errno: Option<i32>) -> PyErr {
    static FROM_CORE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let made = cached(py, &FROM_CORE, "wsguard._errors", "from_core");
    match made.and_then(|make| make.call1((code, message, option, errno))) {
        Ok(exception) => PyErr::from_value(exception),
        Err(error) => error,
    }
}

/// The exception of an error of the core.
pub(crate) fn of_core(py: Python<'_>, error: &Error) -> PyErr {
    make_of_system(py, error.code(), error.to_string(), error.option(), error.errno())
}

/// `InvalidArgument`: the core, or the face, does not accept an argument.
pub(crate) fn invalid(py: Python<'_>, message: String) -> PyErr {
    make(py, "invalid_argument", message, None)
}

/// Something in native code, of wsguard or of another module, panicked. The panic's own text is on standard error.
pub(crate) fn panicked() -> PyErr {
    PyRuntimeError::new_err("a panic in native code")
}

/// `ConfigError`: the options are not a policy.
pub(crate) fn of_config(py: Python<'_>, error: ConfigError) -> PyErr {
    of_core(py, &Error::Config(error))
}

/// `UsageError`: a child of `fork` uses the server of its parent.
pub(crate) fn forked(py: Python<'_>) -> PyErr {
    let message = "the server belongs to the parent process: start one in each process, after fork";
    make(py, "forked", message.to_owned(), None)
}

/// `UsageError`: the server was not started yet.
pub(crate) fn not_started(py: Python<'_>) -> PyErr {
    make(py, "not_started", "the server was not started yet".to_owned(), None)
}

/// `UsageError`: waiting needs an event loop.
pub(crate) fn no_loop(py: Python<'_>) -> PyErr {
    make(py, "no_event_loop", "awaiting needs a server that runs on an asyncio event loop".to_owned(), None)
}

/// `UsageError`: another event loop runs than the server's.
pub(crate) fn other_loop(py: Python<'_>, message: String) -> PyErr {
    make(py, "no_event_loop", message, None)
}

/// `UsageError`: the peer of a connection owes too many answers.
pub(crate) fn too_many_calls(py: Python<'_>, most: usize) -> PyErr {
    make(
        py,
        "too_many_calls",
        format!("{most} calls of this connection are under way: await their answers first"),
        None,
    )
}

/// `ConnectionClosed`; `code` is `None` while it is not known how the connection ended.
pub(crate) fn closed(py: Python<'_>, code: Option<u16>, reason: &str) -> PyErr {
    static CLOSED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    match cached(py, &CLOSED, "wsguard._errors", "ConnectionClosed").and_then(|class| class.call1((code, reason))) {
        Ok(exception) => PyErr::from_value(exception),
        Err(error) => error,
    }
}

/// Whether an exception says no more than that the connection has closed.
pub(crate) fn is_closed(py: Python<'_>, error: &PyErr) -> bool {
    static CLOSED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    cached(py, &CLOSED, "wsguard._errors", "ConnectionClosed")
        .is_ok_and(|class| error.matches(py, class).unwrap_or(false))
}
