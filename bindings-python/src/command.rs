//! The command `wsguard`, behind `python -m wsguard` and the console script.

use std::ffi::OsString;

use pyo3::prelude::*;

/// Runs the command with these arguments, the first of them the program's name, and returns its exit code. The interpreter goes on
/// meanwhile; signals are those of the process, which the caller has given back to the system.
#[pyfunction]
#[pyo3(signature = (arguments, /, *, is_module))]
pub(crate) fn command(py: Python<'_>, arguments: Vec<OsString>, is_module: bool) -> u8 {
    let called = if is_module { "python -m wsguard" } else { "wsguard" };
    py.detach(|| wsguard_cli::run(called, arguments))
}
