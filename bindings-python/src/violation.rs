//! The record of a verdict that `on_violation` gets.

use pyo3::prelude::*;
use wsguard::binding::ViolationEvent;

use crate::connection::Connection;

/// A verdict against a peer.
#[pyclass(frozen, get_all, module = "wsguard")]
#[derive(Debug)]
pub(crate) struct Violation {
    code: &'static str,
    close_code: Option<u16>,
    http_status: Option<u16>,
    ip: Option<String>,
    user: Option<String>,
    conn_id: Option<String>,
    event: Option<String>,
    detail: String,
    /// The connection; `None` also when it has ended.
    conn: Option<Py<Connection>>,
}

impl Violation {
    pub(crate) fn new(violation: &ViolationEvent, conn: Option<Py<Connection>>) -> Self {
        let opened = violation.conn.is_some();
        let (close_code, http_status) = (violation.code.close_code(), violation.code.http_status());
        Self {
            code: violation.code.name(),
            ip: violation.ip.map(|ip| ip.to_string()),
            user: violation.user.as_deref().map(str::to_owned),
            conn,
            conn_id: violation.conn.map(|conn| conn.to_string()),
            event: violation.event.as_deref().map(str::to_owned),
            detail: violation.detail.to_string(),
            close_code: (opened && close_code > 0).then_some(close_code),
            http_status: (!opened && http_status > 0).then_some(http_status),
        }
    }
}

#[pymethods]
impl Violation {
    /// The fields in the order that every face states them.
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (
        &'static str,
        &'static str,
        &'static str,
        &'static str,
        &'static str,
        &'static str,
        &'static str,
        &'static str,
    ) = ("code", "close_code", "http_status", "ip", "user", "conn_id", "event", "detail");

    fn __repr__(&self) -> String {
        format!("<Violation code='{}'>", self.code)
    }
}
