//! The record of a verdict that `on_violation` gets.

use pyo3::prelude::*;
use wsguard::binding::{Code, ViolationEvent};

use crate::connection::Connection;

/// A verdict against a peer. A flood of them is sampled; `Server.stats()` counts every one. A `match` statement takes
/// the fields in the order of `__match_args__`, which is the same in every language.
#[pyclass(frozen, get_all, module = "wsguard")]
#[derive(Debug)]
pub(crate) struct Violation {
    /// The stable name of the verdict: `"origin_denied"`.
    code: &'static str,
    /// The close code of the verdict; `None` before the 101.
    close_code: Option<u16>,
    /// The HTTP status of the verdict; `None` after the 101.
    http_status: Option<u16>,
    /// The client's address; `None` on a Unix socket without a proxy.
    ip: Option<String>,
    /// The user; `None` before authentication, and for anonymous sessions.
    user: Option<String>,
    /// The id of the connection; `None` before the 101.
    conn_id: Option<String>,
    /// The event of the message, escaped and cut to 64 characters.
    event: Option<String>,
    /// The cause, in the words of the log record: the option or header, the limit, the place in the data. At most 256
    /// characters, none of them a control character.
    detail: String,
    /// The connection; `None` before the 101, and after its end.
    conn: Option<Py<Connection>>,
}

impl Violation {
    pub(crate) fn new(violation: &ViolationEvent, conn: Option<Py<Connection>>) -> Self {
        let made = Self::made(
            violation.code,
            violation.ip.map(|ip| ip.to_string()),
            violation.user.as_deref().map(str::to_owned),
            violation.conn.map(|conn| conn.to_string()),
            violation.event.as_deref().map(str::to_owned),
            violation.detail.to_string(),
        );
        Self { conn, ..made }
    }

    /// One of no connection, or of one that has ended.
    pub(crate) fn made(
        code: Code,
        ip: Option<String>,
        user: Option<String>,
        conn_id: Option<String>,
        event: Option<String>,
        detail: String,
    ) -> Self {
        let opened = conn_id.is_some();
        let (close_code, http_status) = (code.close_code(), code.http_status());
        Self {
            code: code.name(),
            close_code: (opened && close_code > 0).then_some(close_code),
            http_status: (!opened && http_status > 0).then_some(http_status),
            ip,
            user,
            conn_id,
            event,
            detail,
            conn: None,
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
