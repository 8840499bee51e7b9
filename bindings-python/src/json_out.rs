//! Python objects to JSON text, as `json.dumps` does with `allow_nan=False` and no spaces: what it takes, and what not.

use core::fmt::Write as _;
use std::cell::RefCell;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

/// Deeper than this, or circular.
const MAX_DEPTH: usize = 256;

/// A buffer that grew larger is not kept for the next message.
const MAX_KEPT_BYTES: usize = 1 << 20;

thread_local! {
    static BUFFER: RefCell<String> = const { RefCell::new(String::new()) };
}

/// JSON text that goes out as it is: for what was serialised elsewhere. Checked to be JSON when it is made.
#[pyclass(frozen, module = "wsguard")]
#[derive(Debug)]
pub(crate) struct Json {
    text: String,
}

#[pymethods]
impl Json {
    #[new]
    #[pyo3(signature = (text, /))]
    fn new(text: &Bound<'_, PyAny>) -> PyResult<Self> {
        let text = match text.cast::<PyString>() {
            Ok(text) => text.to_str()?.to_owned(),
            Err(_) => String::from_utf8(text.extract()?).map_err(|_| PyValueError::new_err("not UTF-8"))?,
        };
        serde_json::from_str::<serde::de::IgnoredAny>(&text).map_err(|error| {
            PyValueError::new_err(format!("not JSON: line {} column {}", error.line(), error.column()))
        })?;
        Ok(Self { text })
    }

    fn __str__(&self) -> &str {
        &self.text
    }
}

/// Gives the JSON text of `value` to `send`, in a buffer that is used again.
pub(crate) fn with_text<T>(value: &Bound<'_, PyAny>, send: impl FnOnce(&str) -> PyResult<T>) -> PyResult<T> {
    // Taken, not borrowed: `value` may run Python code that comes back here.
    let mut buffer = BUFFER.take();
    buffer.clear();
    let sent = push(value, &mut buffer, 0).and_then(|()| send(&buffer));
    if buffer.capacity() <= MAX_KEPT_BYTES {
        BUFFER.replace(buffer);
    }
    sent
}

fn push(value: &Bound<'_, PyAny>, out: &mut String, depth: usize) -> PyResult<()> {
    if depth > MAX_DEPTH {
        return Err(PyValueError::new_err(format!("nested deeper than {MAX_DEPTH}, or circular")));
    }
    if let Ok(text) = value.cast::<PyString>() {
        push_string(out, text.to_str()?);
    } else if value.is_none() {
        out.push_str("null");
    } else if let Ok(flag) = value.cast_exact::<PyBool>() {
        out.push_str(if flag.is_true() { "true" } else { "false" });
    } else if let Ok(number) = value.cast::<PyInt>() {
        push_integer(number, out)?;
    } else if let Ok(object) = value.cast::<PyDict>() {
        push_object(object, out, depth)?;
    } else if let Ok(list) = value.cast::<PyList>() {
        push_array(list.iter(), out, depth)?;
    } else if let Ok(number) = value.cast::<PyFloat>() {
        push_float(number, out)?;
    } else if let Ok(tuple) = value.cast::<PyTuple>() {
        push_array(tuple.iter(), out, depth)?;
    } else {
        push_other(value, out)?;
    }
    Ok(())
}

fn push_other(value: &Bound<'_, PyAny>, out: &mut String) -> PyResult<()> {
    if let Ok(json) = value.cast::<Json>() {
        out.push_str(&json.get().text);
        return Ok(());
    }
    // A Pydantic model knows its own JSON.
    if let Ok(dump) = value.getattr(intern!(value.py(), "model_dump_json"))
        && !value.is_instance_of::<pyo3::types::PyType>()
    {
        out.push_str(dump.call0()?.cast::<PyString>()?.to_str()?);
        return Ok(());
    }
    let kind = value.get_type().name()?;
    Err(PyTypeError::new_err(format!("object of type {kind} is not JSON serializable")))
}

fn push_integer(number: &Bound<'_, PyInt>, out: &mut String) -> PyResult<()> {
    match number.extract::<i64>() {
        Ok(small) => out.push_str(itoa::Buffer::new().format(small)),
        // Of `int` itself: a subclass (an enumeration) may print as something else.
        Err(_) => {
            let printed = number.py().get_type::<PyInt>().call_method1(intern!(number.py(), "__repr__"), (number,))?;
            out.push_str(printed.cast::<PyString>()?.to_str()?);
        }
    }
    Ok(())
}

fn push_float(number: &Bound<'_, PyFloat>, out: &mut String) -> PyResult<()> {
    let number = number.value();
    if !number.is_finite() {
        return Err(PyValueError::new_err("nan and infinity are not JSON"));
    }
    out.push_str(ryu::Buffer::new().format_finite(number));
    Ok(())
}

fn push_array<'py>(values: impl Iterator<Item = Bound<'py, PyAny>>, out: &mut String, depth: usize) -> PyResult<()> {
    out.push('[');
    for (index, value) in values.enumerate() {
        if index > 0 {
            out.push(',');
        }
        push(&value, out, depth + 1)?;
    }
    out.push(']');
    Ok(())
}

fn push_object(object: &Bound<'_, PyDict>, out: &mut String, depth: usize) -> PyResult<()> {
    out.push('{');
    for (index, (key, value)) in object.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        push_key(&key, out)?;
        out.push(':');
        push(&value, out, depth + 1)?;
    }
    out.push('}');
    Ok(())
}

/// Keys that are numbers, flags or `None` become strings, as with `json.dumps`.
fn push_key(key: &Bound<'_, PyAny>, out: &mut String) -> PyResult<()> {
    if let Ok(key) = key.cast::<PyString>() {
        push_string(out, key.to_str()?);
        return Ok(());
    }
    if !key.is_none() && !key.is_instance_of::<PyInt>() && !key.is_instance_of::<PyFloat>() {
        let kind = key.get_type().name()?;
        return Err(PyTypeError::new_err(format!("keys must be str, int, float, bool or None, not {kind}")));
    }
    out.push('"');
    match key.cast::<PyFloat>() {
        // As `json.dumps` spells it: a key is compared by its text.
        Ok(number) if number.value().is_finite() => out.push_str(number.repr()?.to_str()?),
        _ => push(key, out, 0)?,
    }
    out.push('"');
    Ok(())
}

fn push_string(out: &mut String, text: &str) {
    out.push('"');
    let mut start = 0;
    for (index, byte) in text.bytes().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0..0x20 => "",
            _ => continue,
        };
        out.push_str(&text[start..index]);
        start = index + 1;
        if escape.is_empty() {
            let _ = write!(out, "\\u{byte:04x}");
        } else {
            out.push_str(escape);
        }
    }
    out.push_str(&text[start..]);
    out.push('"');
}
