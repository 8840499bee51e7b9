//! What handlers get, made by hand: for `wsguard.testing`.

use std::net::IpAddr;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyString;
use wsguard::binding::{Code, Status, UpgradeRequest};

use crate::records::{Close, Message};
use crate::request::Request;
use crate::violation::Violation;

/// A verdict by its name.
fn verdict(name: &str) -> PyResult<Code> {
    let found = Code::ALL.iter().find(|code| code.name() == name);
    found.copied().ok_or_else(|| PyValueError::new_err(format!("there is no verdict {name:?}")))
}

#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "each is a field")]
pub(crate) fn made_request(
    path: String,
    query: Option<String>,
    headers: Vec<(String, String)>,
    ip: Option<&str>,
    token: Option<String>,
    route: Option<&str>,
    params: Vec<(String, String)>,
    peer_certificate: Option<Vec<u8>>,
) -> PyResult<Request> {
    let ip: Option<IpAddr> = match ip.map(str::parse).transpose() {
        Ok(ip) => ip,
        Err(_) => return Err(PyValueError::new_err("ip must be an address, or None")),
    };
    let params = params.into_iter().map(|(name, value)| (name.into(), value)).collect();
    Ok(Request::new(UpgradeRequest {
        method: "GET".to_owned(),
        path,
        route: route.map(Into::into),
        params,
        query,
        raw_headers: headers.iter().map(|(name, value)| (name.clone(), value.clone().into_bytes())).collect(),
        headers,
        ip,
        token,
        peer_certificate,
        reported: false,
    }))
}

#[pyfunction]
pub(crate) fn made_message(
    event: Py<PyString>,
    data: Py<PyAny>,
    id: Py<PyAny>,
    status: Option<&str>,
    size_bytes: usize,
) -> PyResult<Message> {
    let status = match status {
        None => None,
        Some("ok") => Some(Status::Ok),
        Some("error") => Some(Status::Error),
        Some(_) => return Err(PyValueError::new_err("status must be \"ok\", \"error\" or None")),
    };
    Ok(Message::new(event, data, id, status, size_bytes))
}

#[pyfunction]
pub(crate) fn made_close(code: u16, reason: Py<PyString>, clean: bool, verdict: Option<&str>) -> PyResult<Close> {
    let verdict = verdict.map(self::verdict).transpose()?.map(Code::name);
    Ok(Close { code, reason, clean, verdict })
}

#[pyfunction]
pub(crate) fn made_violation(
    code: &str,
    ip: Option<String>,
    user: Option<String>,
    conn_id: Option<String>,
    event: Option<String>,
    detail: String,
) -> PyResult<Violation> {
    Ok(Violation::made(verdict(code)?, ip, user, conn_id, event, detail))
}
