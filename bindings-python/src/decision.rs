//! The answers that `authenticate` gives: `Accept` and `Reject`.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyInt, PyString, PyTuple, PyType};
use wsguard::binding::Roles;

use crate::errors;

/// The longest name of a user.
const MAX_USER_BYTES: usize = 256;

/// A Unix time in seconds is larger than this today. The same number in milliseconds is January 1970, and a hundred times
/// it is 1973: no application means either.
const SECONDS_OF_NOW: u64 = 1_000_000_000;

/// Accepts a handshake: the answer of `@server.authenticate`.
#[pyclass(frozen, module = "wsguard")]
#[derive(Debug)]
pub(crate) struct Accept {
    /// The name of the user; `None` for an anonymous session.
    #[pyo3(get)]
    pub(crate) user: Option<String>,
    /// The first value of `Connection.data`.
    #[pyo3(get)]
    pub(crate) data: Py<PyAny>,
    /// The end of the session, in milliseconds since the Unix epoch; `None`: it does not end.
    #[pyo3(get)]
    pub(crate) expires_at_ms: Option<u64>,
    pub(crate) roles: Roles,
}

impl Accept {
    fn make(
        py: Python<'_>,
        user: Option<String>,
        data: Option<Py<PyAny>>,
        roles: Option<&Bound<'_, PyAny>>,
        expires_at_ms: Option<&Bound<'_, PyAny>>,
        expires_at: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let expires_at_ms = match (expires_at_ms, expires_at) {
            (Some(_), Some(_)) => return Err(PyValueError::new_err("give expires_at or expires_at_ms, not both")),
            (Some(ms), None) => Some(whole_ms(ms)?),
            (None, at) => at.map(unix_ms).transpose()?,
        };
        let roles = roles.map(roles_of).transpose()?.unwrap_or_default();
        Ok(Self { user, data: data.unwrap_or_else(|| py.None()), expires_at_ms, roles })
    }
}

#[pymethods]
impl Accept {
    #[new]
    #[pyo3(signature = (user, data = None, *, roles = None, expires_at_ms = None, expires_at = None))]
    fn new(
        user: &Bound<'_, PyAny>,
        data: Option<Py<PyAny>>,
        roles: Option<&Bound<'_, PyAny>>,
        expires_at_ms: Option<&Bound<'_, PyAny>>,
        expires_at: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let py = user.py();
        let Ok(name) = user.cast::<PyString>() else {
            let kind = user.get_type().name()?;
            let message = format!("user must be a str, not {kind}: whoever has no name is Accept.anonymous()");
            return Err(PyTypeError::new_err(message));
        };
        let name = name.to_str()?;
        if name.is_empty() || name.len() > MAX_USER_BYTES || name.chars().any(char::is_control) {
            let message = format!("user must be 1 to {MAX_USER_BYTES} bytes without control characters");
            return Err(errors::invalid(py, message));
        }
        Self::make(py, Some(name.to_owned()), data, roles, expires_at_ms, expires_at)
    }

    /// Accepts without a user: limits per user do not apply, and `disconnect_user` does not find the session.
    #[classmethod]
    #[pyo3(signature = (data = None, *, roles = None, expires_at_ms = None, expires_at = None))]
    fn anonymous(
        class: &Bound<'_, PyType>,
        data: Option<Py<PyAny>>,
        roles: Option<&Bound<'_, PyAny>>,
        expires_at_ms: Option<&Bound<'_, PyAny>>,
        expires_at: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        Self::make(class.py(), None, data, roles, expires_at_ms, expires_at)
    }

    /// The roles of the session.
    #[getter]
    fn roles<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.roles.iter())
    }

    fn __eq__(&self, py: Python<'_>, other: &Bound<'_, PyAny>) -> PyResult<bool> {
        let Ok(other) = other.cast::<Self>() else { return Ok(false) };
        let other = other.get();
        let same = self.user == other.user && self.expires_at_ms == other.expires_at_ms && self.roles == other.roles;
        Ok(same && self.data.bind(py).eq(other.data.bind(py))?)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let expires = self.expires_at_ms.map_or_else(String::new, |at| format!(" expires_at_ms={at}"));
        match &self.user {
            Some(user) => Ok(format!("<Accept user={}{expires}>", PyString::new(py, user).repr()?)),
            None => Ok(format!("<Accept anonymous{expires}>")),
        }
    }
}

/// The roles that an application names.
fn roles_of(stated: &Bound<'_, PyAny>) -> PyResult<Roles> {
    if stated.is_instance_of::<PyString>() {
        // Its letters would be the roles.
        return Err(PyTypeError::new_err("roles must be a list of str, not str"));
    }
    let names = stated.try_iter()?.map(|name| name?.extract()).collect::<PyResult<Vec<String>>>()?;
    let roles = Roles::new(names.iter().map(String::as_str));
    roles.map_err(|what| errors::invalid(stated.py(), format!("roles: {what}")))
}

/// A point in time as a whole number of milliseconds since the Unix epoch.
fn whole_ms(at: &Bound<'_, PyAny>) -> PyResult<u64> {
    if !at.is_instance_of::<PyInt>() || at.is_instance_of::<PyBool>() {
        let kind = at.get_type().name()?;
        let message = format!("expires_at_ms must be an int, not {kind}: int(time.time() * 1000) is now");
        return Err(PyTypeError::new_err(message));
    }
    let ms = at.extract().map_err(|_| errors::invalid(at.py(), "expires_at_ms must be 0 to 2**64 - 1".to_owned()))?;
    if (SECONDS_OF_NOW..SECONDS_OF_NOW * 100).contains(&ms) {
        let message = "expires_at_ms must be milliseconds, and this is a time of today in seconds: times 1000";
        return Err(errors::invalid(at.py(), message.to_owned()));
    }
    Ok(ms)
}

/// An aware `datetime`, in milliseconds since the Unix epoch.
fn unix_ms(at: &Bound<'_, PyAny>) -> PyResult<u64> {
    let py = at.py();
    let zone = at
        .getattr(intern!(py, "utcoffset"))
        .and_then(|offset| offset.call0())
        .map_err(|_| PyTypeError::new_err("expires_at must be a datetime"))?;
    if zone.is_none() {
        return Err(PyValueError::new_err("expires_at must be a datetime with a time zone"));
    }
    let seconds: f64 = at.call_method0(intern!(py, "timestamp"))?.extract()?;
    if seconds < 0.0 {
        return Err(PyValueError::new_err("expires_at must not be before 1970"));
    }
    Ok((seconds * 1000.0) as u64)
}

/// Refuses a handshake: the answer of `@server.authenticate`.
#[pyclass(frozen, get_all, module = "wsguard")]
#[derive(Debug)]
pub(crate) struct Reject {
    /// The HTTP status, 300 to 599.
    pub(crate) status: u16,
}

#[pymethods]
impl Reject {
    #[new]
    #[pyo3(signature = (status = 401))]
    fn new(status: i64) -> PyResult<Self> {
        match u16::try_from(status) {
            Ok(status @ 300..=599) => Ok(Self { status }),
            _ => Err(PyValueError::new_err(format!("status of a rejection must be 300 to 599, not {status}"))),
        }
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        other.cast::<Self>().is_ok_and(|other| other.get().status == self.status)
    }

    fn __hash__(&self) -> u64 {
        u64::from(self.status)
    }

    fn __repr__(&self) -> String {
        format!("<Reject status={}>", self.status)
    }
}
