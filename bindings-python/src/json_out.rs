//! Python objects to JSON text, as `json.dumps` does with `allow_nan=False` and no spaces: what it takes, and what not.

use core::fmt::Write as _;
use std::cell::RefCell;

use pyo3::exceptions::{PyAttributeError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple, PyType};

use crate::text;

/// How deep objects may be nested; a circular one is deeper.
const MAX_DEPTH: usize = 256;

/// A buffer that has grown beyond this is not reused.
const MAX_KEPT_BYTES: usize = 1 << 20;

thread_local! {
    static BUFFER: RefCell<String> = const { RefCell::new(String::new()) };
}

/// JSON text that is sent as it is, for data that is serialised already.
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
            Ok(text) => text::utf8("text", text)?.to_owned(),
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

/// Calls `send` with the JSON text of `value`, the argument `name`, in a buffer that is reused.
pub(crate) fn with_text<T>(
    name: &'static str,
    value: &Bound<'_, PyAny>,
    send: impl FnOnce(&str) -> PyResult<T>,
) -> PyResult<T> {
    // Taken, not borrowed: `value` may run Python code that comes back here.
    let mut buffer = BUFFER.take();
    let sent = write(name, value, &mut buffer).and_then(|()| send(&buffer));
    if buffer.capacity() <= MAX_KEPT_BYTES {
        BUFFER.replace(buffer);
    }
    sent
}

/// Writes without snapshots first, and again with snapshots if Python has to run.
fn write(name: &'static str, value: &Bound<'_, PyAny>, buffer: &mut String) -> PyResult<()> {
    for runs_python in [false, true] {
        buffer.clear();
        match (Writer { name, out: buffer, runs_python }).push(value, 0) {
            Ok(()) => return Ok(()),
            Err(Stop::RunsPython) => {}
            Err(Stop::Raised(error)) => return Err(error),
        }
    }
    Err(PyTypeError::new_err("it changed while it was written"))
}

/// Why writing stopped.
enum Stop {
    /// An object has to be asked for its JSON. That runs Python, which may change every container.
    RunsPython,
    Raised(PyErr),
}

impl From<PyErr> for Stop {
    fn from(error: PyErr) -> Self {
        Stop::Raised(error)
    }
}

struct Writer<'b> {
    name: &'static str,
    out: &'b mut String,
    /// Objects may be asked for their JSON, which runs Python: containers are written from a snapshot.
    runs_python: bool,
}

impl Writer<'_> {
    fn push(&mut self, value: &Bound<'_, PyAny>, depth: usize) -> Result<(), Stop> {
        if depth > MAX_DEPTH {
            return Err(PyValueError::new_err(format!("nested deeper than {MAX_DEPTH}, or circular")).into());
        }
        if let Ok(text) = value.cast::<PyString>() {
            push_string(self.out, text::utf8(self.name, text)?);
        } else if value.is_none() {
            self.out.push_str("null");
        } else if let Ok(flag) = value.cast_exact::<PyBool>() {
            self.out.push_str(if flag.is_true() { "true" } else { "false" });
        } else if let Ok(number) = value.cast::<PyInt>() {
            push_integer(number, self.out)?;
        } else if let Ok(object) = value.cast::<PyDict>() {
            self.push_object(object, depth)?;
        } else if let Ok(list) = value.cast::<PyList>() {
            if self.runs_python {
                self.push_array(list.to_tuple().iter(), depth)?;
            } else {
                self.push_array(list.iter(), depth)?;
            }
        } else if let Ok(number) = value.cast::<PyFloat>() {
            push_float(number, self.out)?;
        } else if let Ok(tuple) = value.cast::<PyTuple>() {
            self.push_array(tuple.iter(), depth)?;
        } else if let Ok(json) = value.cast::<Json>() {
            self.out.push_str(&json.get().text);
        } else if self.runs_python {
            push_other(self.name, value, self.out)?;
        } else {
            return Err(Stop::RunsPython);
        }
        Ok(())
    }

    fn push_array<'py>(&mut self, values: impl Iterator<Item = Bound<'py, PyAny>>, depth: usize) -> Result<(), Stop> {
        self.out.push('[');
        for (index, value) in values.enumerate() {
            if index > 0 {
                self.out.push(',');
            }
            self.push(&value, depth + 1)?;
        }
        self.out.push(']');
        Ok(())
    }

    fn push_object(&mut self, object: &Bound<'_, PyDict>, depth: usize) -> Result<(), Stop> {
        if self.runs_python {
            // A dictionary that changes while it is iterated over is a panic of `PyO3`.
            let snapshot = object.copy()?;
            return self.push_entries(snapshot.iter(), depth);
        }
        self.push_entries(object.iter(), depth)
    }

    fn push_entries<'py>(
        &mut self,
        entries: impl Iterator<Item = (Bound<'py, PyAny>, Bound<'py, PyAny>)>,
        depth: usize,
    ) -> Result<(), Stop> {
        self.out.push('{');
        for (index, (key, value)) in entries.enumerate() {
            if index > 0 {
                self.out.push(',');
            }
            push_key(self.name, &key, self.out)?;
            self.out.push(':');
            self.push(&value, depth + 1)?;
        }
        self.out.push('}');
        Ok(())
    }
}

/// An object that knows its own JSON: a Pydantic model, by the aliases that its schema has as well.
fn push_other(name: &str, value: &Bound<'_, PyAny>, out: &mut String) -> PyResult<()> {
    let py = value.py();
    let kind = value.get_type().name()?;
    let dump = match value.getattr(intern!(py, "model_dump_json")) {
        Err(error) if !error.is_instance_of::<PyAttributeError>(py) => return Err(error),
        found => found.ok().filter(|_| !value.is_instance_of::<PyType>()),
    };
    let Some(dump) = dump else {
        return Err(PyTypeError::new_err(format!("object of type {kind} is not JSON serializable")));
    };
    let by_alias = PyDict::new(py);
    by_alias.set_item(intern!(py, "by_alias"), true)?;
    let text = dump.call((), Some(&by_alias))?;
    let text = text::utf8(name, text.cast::<PyString>()?)?;
    if serde_json::from_str::<serde::de::IgnoredAny>(text).is_err() {
        return Err(PyValueError::new_err(format!("model_dump_json of {kind} gave no JSON")));
    }
    out.push_str(text);
    Ok(())
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

/// As `json.dumps` spells it: a key is compared by its text, and a peer may compare or sign more than that.
fn push_float(number: &Bound<'_, PyFloat>, out: &mut String) -> PyResult<()> {
    let value = number.value();
    if !value.is_finite() {
        return Err(PyValueError::new_err("nan and infinity are not JSON"));
    }
    // Between these two spell alike; beyond them Python has exponents of its own form.
    if value == 0.0 || (1e-4..1e16).contains(&value.abs()) {
        out.push_str(ryu::Buffer::new().format_finite(value));
        return Ok(());
    }
    // Of `float` itself: a subclass may print as something else, and would run Python.
    let printed = number.py().get_type::<PyFloat>().call_method1(intern!(number.py(), "__repr__"), (number,))?;
    out.push_str(printed.cast::<PyString>()?.to_str()?);
    Ok(())
}

/// Keys that are numbers, flags or `None` become strings, as with `json.dumps`.
fn push_key(name: &str, key: &Bound<'_, PyAny>, out: &mut String) -> PyResult<()> {
    if let Ok(key) = key.cast::<PyString>() {
        push_string(out, text::utf8(name, key)?);
        return Ok(());
    }
    if !key.is_none() && !key.is_instance_of::<PyInt>() && !key.is_instance_of::<PyFloat>() {
        let kind = key.get_type().name()?;
        return Err(PyTypeError::new_err(format!("keys must be str, int, float, bool or None, not {kind}")));
    }
    out.push('"');
    match key.cast::<PyFloat>() {
        Ok(number) => push_float(number, out)?,
        Err(_) if key.is_none() => out.push_str("null"),
        Err(_) => match key.cast_exact::<PyBool>() {
            Ok(flag) => out.push_str(if flag.is_true() { "true" } else { "false" }),
            Err(_) => push_integer(key.cast::<PyInt>()?, out)?,
        },
    }
    out.push('"');
    Ok(())
}

fn push_string(out: &mut String, text: &str) {
    out.push('"');
    // Without a branch per byte: the compiler looks at many at once, and nearly every text has nothing to escape.
    let is_escaped = |byte: u8| u8::from(byte < 0x20) | u8::from(byte == b'"') | u8::from(byte == b'\\');
    if text.bytes().fold(0, |found, byte| found | is_escaped(byte)) == 0 {
        out.push_str(text);
        out.push('"');
        return;
    }
    let mut start = 0;
    for (index, byte) in text.bytes().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0x08 => "\\b",
            0x0c => "\\f",
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
