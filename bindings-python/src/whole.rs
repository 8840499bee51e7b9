//! Whole numbers that an application states.

use pyo3::exceptions::PyOverflowError;
use pyo3::prelude::*;

/// An `int`. One that is too large for this is the nearest that is not, and out of any range: what checks the range says
/// so, in place of an `OverflowError` that no caller expects.
pub(crate) fn saturated(stated: &Bound<'_, PyAny>) -> PyResult<i64> {
    match stated.extract::<i64>() {
        Err(error) if error.is_instance_of::<PyOverflowError>(stated.py()) => {
            Ok(if stated.lt(0)? { i64::MIN } else { i64::MAX })
        }
        extracted => extracted,
    }
}
