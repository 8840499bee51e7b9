//! Texts that Python hands over. A `str` may have lone surrogates, which no UTF-8 has (RFC 3629 section 3): whose argument
//! has them is told, before anything of it is done.

use pyo3::exceptions::PyUnicodeEncodeError;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::errors;

/// The UTF-8 of an argument.
pub(crate) fn utf8<'t>(name: &str, stated: &'t Bound<'_, PyString>) -> PyResult<&'t str> {
    stated.to_str().map_err(|error| named(stated.py(), name, error))
}

/// The UTF-8 of an argument that may be left out.
pub(crate) fn optional(name: &str, stated: Option<&Bound<'_, PyString>>) -> PyResult<Option<String>> {
    stated.map(|stated| utf8(name, stated).map(str::to_owned)).transpose()
}

/// What is wrong with an argument: `InvalidArgument` where it has lone surrogates, else what it was.
pub(crate) fn named(py: Python<'_>, name: &str, error: PyErr) -> PyErr {
    if error.is_instance_of::<PyUnicodeEncodeError>(py) {
        return errors::invalid(py, format!("{name} must not have lone surrogates"));
    }
    error
}
