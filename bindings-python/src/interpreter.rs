//! Refuses subinterpreters: what the module keeps belongs to one interpreter, and threads of a server outlive a second.
#![expect(unsafe_code, reason = "PyO3 has no safe way to ask which interpreter runs")]

use pyo3::exceptions::PyImportError;
use pyo3::ffi;
use pyo3::prelude::*;

/// The id that Python gives the main interpreter.
const MAIN: i64 = 0;

pub(crate) fn check(_attached: Python<'_>) -> PyResult<()> {
    // SAFETY: the thread is attached to an interpreter, as `Python` proves, so there is a current one to ask.
    let id = unsafe { ffi::PyInterpreterState_GetID(ffi::PyInterpreterState_Get()) };
    if id == MAIN {
        return Ok(());
    }
    let message = "wsguard does not run in subinterpreters: import it in the main interpreter \
                   (mod_wsgi: WSGIApplicationGroup %{GLOBAL})";
    Err(PyImportError::new_err(message))
}
