//! What a handshake has told, as Python objects.

use pyo3::prelude::*;
use pyo3::types::PyDict;
use wsguard::binding::Params;

/// A class of `wsguard._request`.
pub(crate) fn request_class<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    py.import("wsguard._request")?.getattr(name)
}

/// The parameters of a path.
pub(crate) fn params<'py>(py: Python<'py>, params: &Params) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (name, value) in params {
        dict.set_item(&**name, value)?;
    }
    Ok(dict)
}

/// Pairs of name and value.
pub(crate) fn pairs(pairs: &[(Box<str>, Box<str>)]) -> Vec<(&str, &str)> {
    pairs.iter().map(|(name, value)| (&**name, &**value)).collect()
}
