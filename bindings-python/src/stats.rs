//! The counters, and the table of verdicts, as Python dictionaries.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};
use wsguard::binding::{Code, Severity, Stats};

/// The counters at one moment.
pub(crate) fn dict<'py>(py: Python<'py>, stats: &Stats) -> PyResult<Bound<'py, PyDict>> {
    let counters = PyDict::new(py);
    for (name, value) in stats.fields() {
        counters.set_item(name, value)?;
    }
    let verdicts = PyDict::new(py);
    for code in Code::ALL {
        verdicts.set_item(code.name(), stats.verdict(*code))?;
    }
    counters.set_item("verdicts", verdicts)?;
    Ok(counters)
}

/// The core's table: `(code, http_status, close_code, reason, severity)`; 0 where a verdict has none.
#[pyfunction]
pub(crate) fn verdicts(py: Python<'_>) -> PyResult<Bound<'_, PyList>> {
    let row = |code: &Code| {
        let severity = match code.severity() {
            Severity::Notice => "notice",
            Severity::Violation => "violation",
            Severity::Fault => "fault",
        };
        (code.name(), code.http_status(), code.close_code(), code.reason(), severity).into_pyobject(py)
    };
    let rows = Code::ALL.iter().map(row).collect::<PyResult<Vec<Bound<'_, PyTuple>>>>()?;
    PyList::new(py, rows)
}
