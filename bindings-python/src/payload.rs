//! The payload of a message of protocol `raw`.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyMemoryView, PyString};

use crate::text;

/// What a message of protocol `raw` holds.
pub(crate) enum Payload<'p> {
    Text(&'p str),
    Binary(&'p [u8]),
}

/// Calls `send` with the payload of a `str`, or of an object that holds bytes: the argument `name`.
pub(crate) fn with_payload<T>(
    name: &str,
    message: &Bound<'_, PyAny>,
    send: impl FnOnce(Payload<'_>) -> T,
) -> PyResult<T> {
    if let Ok(text) = message.cast::<PyString>() {
        return Ok(send(Payload::Text(text::utf8(name, text)?)));
    }
    if let Ok(payload) = message.cast::<PyBytes>() {
        return Ok(send(Payload::Binary(payload.as_bytes())));
    }
    if message.is_instance_of::<PyByteArray>() || message.is_instance_of::<PyMemoryView>() {
        // Copied: another thread may change it meanwhile, and abi3 of 3.10 has no buffers.
        let copy = message.py().get_type::<PyBytes>().call1((message,))?;
        return Ok(send(Payload::Binary(copy.cast::<PyBytes>()?.as_bytes())));
    }
    let kind = message.get_type().name()?;
    Err(PyTypeError::new_err(format!("a message is str, bytes, bytearray or memoryview, not {kind}")))
}
