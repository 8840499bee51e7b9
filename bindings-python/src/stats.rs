//! The counters, and the table of verdicts, as Python dictionaries.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};
use wsguard::binding::{Code, Severity, Stats};

/// The counters at one moment.
pub(crate) fn dict<'py>(py: Python<'py>, stats: &Stats) -> PyResult<Bound<'py, PyDict>> {
    let counters = PyDict::new(py);
    for (name, value) in [
        ("connections", stats.connections),
        ("open", stats.open),
        ("opened_total", stats.opened_total),
        ("messages_in", stats.messages_in),
        ("bytes_in", stats.bytes_in),
        ("bytes_out", stats.bytes_out),
        ("inbox_bytes", stats.inbox_bytes),
        ("outbox_bytes", stats.outbox_bytes),
        ("delayed", stats.delayed),
        ("pending_auth", stats.pending_auth),
        ("upgrades_in_inbox", stats.upgrades_in_inbox),
        ("refusing", stats.refusing),
        ("rooms", stats.rooms),
        ("room_memberships", stats.room_memberships),
    ] {
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
