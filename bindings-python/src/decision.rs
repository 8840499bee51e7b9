//! The answers that `authenticate` gives: `Accept` and `Reject`.

use std::borrow::Cow;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyInt, PyMapping, PyString, PyTuple, PyType};
use wsguard::binding::{Accept as Session, Reject as Refusal, Roles};

use crate::errors;
use crate::payload::{Payload, with_payload};
use crate::{text, whole};

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
    /// The subprotocol of the 101; `None`: the first of the option `subprotocols` that the client offers.
    #[pyo3(get)]
    subprotocol: Option<String>,
    /// What the 101 has besides its own headers.
    headers: Pairs,
}

/// Headers, as an application states them.
type Pairs = Vec<(String, String)>;

/// What an application states of a session beside its user.
struct Stated<'a, 'py> {
    data: Option<Py<PyAny>>,
    roles: Option<&'a Bound<'py, PyAny>>,
    expires_at_ms: Option<&'a Bound<'py, PyAny>>,
    expires_at: Option<&'a Bound<'py, PyAny>>,
    subprotocol: Option<&'a Bound<'py, PyString>>,
    headers: Option<&'a Bound<'py, PyAny>>,
}

impl Accept {
    /// What the core is told.
    pub(crate) fn session(&self) -> Session {
        Session {
            user: self.user.clone(),
            roles: self.roles.iter().map(str::to_owned).collect(),
            expires_at_ms: self.expires_at_ms,
            subprotocol: self.subprotocol.clone(),
            headers: self.headers.clone(),
            tag: None,
        }
    }

    fn make(py: Python<'_>, user: Option<String>, stated: Stated<'_, '_>) -> PyResult<Self> {
        let Stated { data, roles, expires_at_ms, expires_at, subprotocol, headers } = stated;
        let expires_at_ms = match (expires_at_ms, expires_at) {
            (Some(_), Some(_)) => return Err(PyValueError::new_err("give expires_at or expires_at_ms, not both")),
            (Some(ms), None) => Some(whole_ms(ms)?),
            (None, at) => at.map(unix_ms).transpose()?,
        };
        let roles = roles.map(roles_of).transpose()?.unwrap_or_default();
        let subprotocol = text::optional("subprotocol", subprotocol)?;
        let headers = headers.map(pairs_of).transpose()?.unwrap_or_default();
        Ok(Self { user, data: data.unwrap_or_else(|| py.None()), expires_at_ms, roles, subprotocol, headers })
    }
}

#[pymethods]
impl Accept {
    #[new]
    #[pyo3(signature = (user, data = None, *, roles = None, expires_at_ms = None, expires_at = None, subprotocol = None, headers = None))]
    fn new(
        user: &Bound<'_, PyAny>,
        data: Option<Py<PyAny>>,
        roles: Option<&Bound<'_, PyAny>>,
        expires_at_ms: Option<&Bound<'_, PyAny>>,
        expires_at: Option<&Bound<'_, PyAny>>,
        subprotocol: Option<&Bound<'_, PyString>>,
        headers: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let py = user.py();
        let Ok(name) = user.cast::<PyString>() else {
            let kind = user.get_type().name()?;
            let message = format!("user must be a str, not {kind}: whoever has no name is Accept.anonymous()");
            return Err(PyTypeError::new_err(message));
        };
        let name = text::utf8("user", name)?;
        if name.is_empty() || name.len() > MAX_USER_BYTES || name.chars().any(char::is_control) {
            let message = format!("user must be 1 to {MAX_USER_BYTES} bytes without control characters");
            return Err(errors::invalid(py, message));
        }
        let stated = Stated { data, roles, expires_at_ms, expires_at, subprotocol, headers };
        Self::make(py, Some(name.to_owned()), stated)
    }

    /// Accepts without a user: limits per user do not apply, and `disconnect_user` does not find the session.
    #[classmethod]
    #[pyo3(signature = (data = None, *, roles = None, expires_at_ms = None, expires_at = None, subprotocol = None, headers = None))]
    fn anonymous(
        class: &Bound<'_, PyType>,
        data: Option<Py<PyAny>>,
        roles: Option<&Bound<'_, PyAny>>,
        expires_at_ms: Option<&Bound<'_, PyAny>>,
        expires_at: Option<&Bound<'_, PyAny>>,
        subprotocol: Option<&Bound<'_, PyString>>,
        headers: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let stated = Stated { data, roles, expires_at_ms, expires_at, subprotocol, headers };
        Self::make(class.py(), None, stated)
    }

    /// The headers that the 101 has besides its own, as pairs of name and value.
    #[getter]
    fn headers(&self) -> Pairs {
        self.headers.clone()
    }

    /// The roles of the session.
    #[getter]
    fn roles<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.roles.iter())
    }

    fn __eq__(&self, py: Python<'_>, other: &Bound<'_, PyAny>) -> PyResult<bool> {
        let Ok(other) = other.cast::<Self>() else { return Ok(false) };
        let other = other.get();
        let same = self.user == other.user
            && self.expires_at_ms == other.expires_at_ms
            && self.roles == other.roles
            && self.subprotocol == other.subprotocol
            && self.headers == other.headers;
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

/// Headers: a mapping, or pairs of name and value.
fn pairs_of(stated: &Bound<'_, PyAny>) -> PyResult<Pairs> {
    let wrong = |_| PyTypeError::new_err("headers must be a mapping of str to str, or a list of pairs of str");
    let pairs = match stated.cast::<PyMapping>() {
        Ok(mapping) => mapping.items()?.into_any(),
        Err(_) => stated.clone(),
    };
    let pair = |pair: PyResult<Bound<'_, PyAny>>| {
        let pair = pair?;
        let (name, value): (Bound<'_, PyString>, Bound<'_, PyString>) = pair.extract().map_err(wrong)?;
        Ok((text::utf8("headers", &name)?.to_owned(), text::utf8("headers", &value)?.to_owned()))
    };
    pairs.try_iter().map_err(wrong)?.map(pair).collect()
}

/// The roles that an application names.
fn roles_of(stated: &Bound<'_, PyAny>) -> PyResult<Roles> {
    if stated.is_instance_of::<PyString>() {
        // Its letters would be the roles.
        return Err(PyTypeError::new_err("roles must be a list of str, not str"));
    }
    let role = |name: PyResult<Bound<'_, PyAny>>| Ok(text::utf8("roles", name?.cast::<PyString>()?)?.to_owned());
    let names = stated.try_iter()?.map(role).collect::<PyResult<Vec<String>>>()?;
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
    /// The headers that the answer has besides its own, as pairs of name and value.
    headers: Pairs,
    /// The body; empty: the name of the verdict.
    body: Cow<'static, [u8]>,
}

impl Reject {
    /// What the core is told.
    pub(crate) fn decision(&self) -> Refusal {
        Refusal { status: self.status, headers: self.headers.clone(), body: self.body.to_vec() }
    }
}

#[pymethods]
impl Reject {
    #[new]
    #[pyo3(signature = (status = 401, *, headers = None, body = None))]
    fn new(
        #[pyo3(from_py_with = whole::saturated)] status: i64,
        headers: Option<&Bound<'_, PyAny>>,
        body: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let Ok(status @ 300..=599) = u16::try_from(status) else {
            return Err(PyValueError::new_err(format!("status of a rejection must be 300 to 599, not {status}")));
        };
        let headers = headers.map(pairs_of).transpose()?.unwrap_or_default();
        let body = match body {
            None => Vec::new(),
            Some(body) => with_payload("body", body, |payload| match payload {
                Payload::Text(text) => text.as_bytes().to_vec(),
                Payload::Binary(bytes) => bytes.to_vec(),
            })?,
        };
        Ok(Self { status, headers, body: body.into() })
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        other.cast::<Self>().is_ok_and(|other| {
            let other = other.get();
            self.status == other.status && self.headers == other.headers && self.body == other.body
        })
    }

    fn __hash__(&self) -> u64 {
        u64::from(self.status)
    }

    fn __repr__(&self) -> String {
        format!("<Reject status={}>", self.status)
    }
}
