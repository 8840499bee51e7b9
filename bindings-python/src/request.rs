//! The opening handshake that asks the application.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict};
use wsguard::binding::UpgradeRequest;

use crate::facts;

/// An opening handshake that waits for `Accept` or `Reject`. It holds credentials: do not log it.
#[pyclass(frozen, module = "wsguard")]
pub(crate) struct Request {
    received: UpgradeRequest,
    headers: PyOnceLock<Py<PyAny>>,
    cookies: PyOnceLock<Py<PyDict>>,
}

impl Request {
    pub(crate) fn new(received: UpgradeRequest) -> Self {
        Self { received, headers: PyOnceLock::new(), cookies: PyOnceLock::new() }
    }
}

#[pymethods]
impl Request {
    /// Always `"GET"`.
    #[getter]
    fn method(&self) -> &str {
        &self.received.method
    }

    /// The path of the request target, as received.
    #[getter]
    fn path(&self) -> &str {
        &self.received.path
    }

    /// The route that the path is of, as the option `routes` has it; `None` if it is of none.
    #[getter]
    fn route(&self) -> Option<&str> {
        self.received.route.as_deref()
    }

    /// `True` if its `Origin`, `Host` or credential would be refused, were `report_handshakes` off: no cookie or header of
    /// it says who it is.
    #[getter]
    fn reported(&self) -> bool {
        self.received.reported
    }

    /// The parameters of the path, percent-decoded: `{"name": "lobby"}` for `/room/{name}` and `/room/lobby`.
    #[getter]
    fn params<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        facts::params(py, &self.received.params)
    }

    /// The query without `?`, as received; `None` if the target has no `?`.
    #[getter]
    fn query(&self) -> Option<&str> {
        self.received.query.as_deref()
    }

    /// Every header, in a mapping that ignores the case of names.
    #[getter]
    fn headers(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let made = self.headers.get_or_try_init(py, || {
            let class = facts::request_class(py, "Headers")?;
            Ok::<_, PyErr>(class.call1((self.received.headers.clone(),))?.unbind())
        })?;
        Ok(made.clone_ref(py))
    }

    /// The cookies by name; of several with one name the first.
    #[getter]
    fn cookies(&self, py: Python<'_>) -> PyResult<Py<PyDict>> {
        let made = self.cookies.get_or_try_init(py, || {
            let cookies = PyDict::new(py);
            for (name, value) in self.received.cookies() {
                if !cookies.contains(name)? {
                    cookies.set_item(name, value)?;
                }
            }
            Ok::<_, PyErr>(cookies.unbind())
        })?;
        Ok(made.clone_ref(py))
    }

    /// The client's address; `None` on a Unix socket without a proxy.
    #[getter]
    fn ip(&self) -> Option<String> {
        self.received.ip.map(|ip| ip.to_string())
    }

    /// The token that `token_sources` found, unchecked; `None` if there is none.
    #[getter]
    fn token(&self) -> Option<&str> {
        self.received.token.as_deref()
    }

    /// The client's own certificate (DER); `None` unless `tls.client_ca` asks for one.
    #[getter]
    fn peer_certificate<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.received.peer_certificate.as_ref().map(|certificate| PyBytes::new(py, certificate))
    }

    /// Without query, headers and token: they are credentials.
    fn __repr__(&self) -> String {
        format!("<Request path={:?}>", self.received.path)
    }
}
