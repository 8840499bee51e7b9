//! JSON text to Python objects. The core has validated the text of messages, so this only builds; other text that is not
//! JSON is a `ValueError`.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString};

/// The longest key that is remembered.
const MAX_KEPT_KEY_BYTES: usize = 32;

/// How many keys are remembered: a power of two.
const PLACES: usize = 256;

/// How deep text may be nested: far above `json_limits.max_depth`, far below the stack.
const MAX_DEPTH: usize = 1024;

/// Keys of objects as Python strings, so that messages with the same few keys share them. A key whose place is taken
/// replaces the other.
#[derive(Debug)]
pub(crate) struct Keys(Vec<Option<(Box<str>, Py<PyString>)>>);

impl Default for Keys {
    fn default() -> Self {
        Self((0..PLACES).map(|_| None).collect())
    }
}

impl Keys {
    fn get<'py>(&mut self, py: Python<'py>, key: &str) -> Bound<'py, PyString> {
        if key.len() > MAX_KEPT_KEY_BYTES {
            return PyString::new(py, key);
        }
        // FNV-1a: keys are short, and a collision costs no more than making the key.
        let hash = key.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        let place = &mut self.0[(hash ^ hash >> 16) as usize % PLACES];
        match place {
            Some((kept, string)) if **kept == *key => string.bind(py).clone(),
            _ => {
                let string = PyString::new(py, key);
                *place = Some((key.into(), string.clone().unbind()));
                string
            }
        }
    }
}

/// The Python objects of a JSON text.
pub(crate) fn objects<'py>(py: Python<'py>, text: &str, keys: &mut Keys) -> PyResult<Bound<'py, PyAny>> {
    let mut reader = Reader { py, text, at: 0, keys };
    let value = reader.value(0)?;
    reader.space();
    if reader.at == text.len() { Ok(value) } else { Err(reader.wrong()) }
}

struct Reader<'py, 't> {
    py: Python<'py>,
    text: &'t str,
    at: usize,
    keys: &'t mut Keys,
}

impl<'py> Reader<'py, '_> {
    fn wrong(&self) -> PyErr {
        PyValueError::new_err(format!("not JSON at byte {}", self.at))
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn value(&mut self, depth: usize) -> PyResult<Bound<'py, PyAny>> {
        self.space();
        match self.peek() {
            Some(b'"') => Ok(self.string(|reader, text| PyString::new(reader.py, text))?.into_any()),
            Some(b'{') if depth < MAX_DEPTH => self.object(depth + 1),
            Some(b'[') if depth < MAX_DEPTH => self.array(depth + 1),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true", PyBool::new(self.py, true).to_owned().into_any()),
            Some(b'f') => self.word("false", PyBool::new(self.py, false).to_owned().into_any()),
            Some(b'n') => self.word("null", self.py.None().into_bound(self.py)),
            _ => Err(self.wrong()),
        }
    }

    fn word(&mut self, word: &str, value: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return Err(self.wrong());
        }
        self.at += word.len();
        Ok(value)
    }

    fn object(&mut self, depth: usize) -> PyResult<Bound<'py, PyAny>> {
        let object = PyDict::new(self.py);
        self.at += 1;
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(object.into_any());
        }
        loop {
            self.space();
            if self.peek() != Some(b'"') {
                return Err(self.wrong());
            }
            let key = self.string(|reader, text| reader.keys.get(reader.py, text))?;
            self.space();
            if self.peek() != Some(b':') {
                return Err(self.wrong());
            }
            self.at += 1;
            object.set_item(key, self.value(depth)?)?;
            if !self.another(b'}')? {
                return Ok(object.into_any());
            }
        }
    }

    fn array(&mut self, depth: usize) -> PyResult<Bound<'py, PyAny>> {
        let mut values = Vec::new();
        self.at += 1;
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(PyList::empty(self.py).into_any());
        }
        loop {
            values.push(self.value(depth)?);
            if !self.another(b']')? {
                return Ok(PyList::new(self.py, values)?.into_any());
            }
        }
    }

    /// After an element: whether a comma announces another one, or `end` came.
    fn another(&mut self, end: u8) -> PyResult<bool> {
        self.space();
        let found = self.peek();
        if found != Some(b',') && found != Some(end) {
            return Err(self.wrong());
        }
        self.at += 1;
        Ok(found == Some(b','))
    }

    fn number(&mut self) -> PyResult<Bound<'py, PyAny>> {
        let start = self.at;
        let mut whole = true;
        while let Some(byte @ (b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')) = self.peek() {
            whole &= matches!(byte, b'0'..=b'9' | b'-');
            self.at += 1;
        }
        let digits = &self.text[start..self.at];
        if whole && let Ok(number) = digits.parse::<i64>() {
            return Ok(number.into_pyobject(self.py)?.into_any());
        }
        if whole {
            return self.py.get_type::<PyInt>().call1((digits,));
        }
        digits.parse().map(|number| PyFloat::new(self.py, number).into_any()).map_err(|_| self.wrong())
    }

    /// A string, given to `make` without its quotes and escapes.
    fn string<T>(&mut self, make: impl FnOnce(&mut Self, &str) -> T) -> PyResult<T> {
        let start = self.at + 1;
        let bytes = self.text.as_bytes();
        let Some(len) = bytes[start..].iter().position(|byte| matches!(byte, b'"' | b'\\')) else {
            return Err(self.wrong());
        };
        self.at = start + len;
        let text = self.text;
        if bytes[self.at] == b'"' {
            self.at += 1;
            return Ok(make(self, &text[start..start + len]));
        }
        let mut unescaped = text[start..start + len].to_owned();
        while self.peek() != Some(b'"') {
            self.escape(&mut unescaped)?;
            let rest = &text[self.at..];
            let len = rest.bytes().position(|byte| matches!(byte, b'"' | b'\\')).ok_or_else(|| self.wrong())?;
            unescaped.push_str(&rest[..len]);
            self.at += len;
        }
        self.at += 1;
        Ok(make(self, &unescaped))
    }

    /// One escape, from its backslash.
    fn escape(&mut self, out: &mut String) -> PyResult<()> {
        let letter = self.text.as_bytes().get(self.at + 1).copied();
        let plain = match letter {
            Some(byte @ (b'"' | b'\\' | b'/')) => byte as char,
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode(out),
            _ => return Err(self.wrong()),
        };
        self.at += 2;
        out.push(plain);
        Ok(())
    }

    fn unicode(&mut self, out: &mut String) -> PyResult<()> {
        let unit = |at: usize| {
            let escape = self.text.get(at..at + 6).filter(|escape| escape.starts_with("\\u"))?;
            u16::from_str_radix(&escape[2..], 16).ok()
        };
        let first = unit(self.at).ok_or_else(|| self.wrong())?;
        let pair = if first & 0xfc00 == 0xd800 { unit(self.at + 6) } else { None };
        let letter = match pair {
            Some(second) => char::decode_utf16([first, second]).next().and_then(Result::ok),
            None => char::from_u32(u32::from(first)),
        };
        out.push(letter.ok_or_else(|| self.wrong())?);
        self.at += if pair.is_some() { 12 } else { 6 };
        Ok(())
    }
}
