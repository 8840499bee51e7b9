//! JSON for C: checks outgoing JSON, reads parts of received JSON, and quotes texts.

use core::cell::Cell;
use core::ffi::c_char;
use core::mem::MaybeUninit;

use serde::de::IgnoredAny;

use crate::pointers::{self, Str, buffer, name, text};
use crate::status::Status;

/// The JSON of a message that a callback is being called with: the library has checked it, so that it can be sent again
/// without another look. Addresses only; nothing is read through them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    data: (usize, usize),
    id: (usize, usize),
}

impl Known {
    pub(crate) const NOTHING: Self = Self { data: (0, 0), id: (0, 0) };

    pub(crate) fn of(data: &str, id: Option<&str>) -> Self {
        let place = |text: &str| (text.as_ptr().addr(), text.len());
        Self { data: place(data), id: id.map_or((0, 0), place) }
    }

    /// Of texts at these addresses, of these lengths.
    pub(crate) fn at(data: (usize, usize), id: (usize, usize)) -> Self {
        Self { data, id }
    }

    fn has_data(self, data: &str) -> bool {
        self.data == (data.as_ptr().addr(), data.len()) && !data.is_empty()
    }

    fn has_id(self, id: &str) -> bool {
        self.id == (id.as_ptr().addr(), id.len()) && !id.is_empty()
    }
}

thread_local! {
    /// Of the event whose handler this thread is in.
    static HANDLED: Cell<Known> = const { Cell::new(Known::NOTHING) };
}

/// Calls a handler with a message whose JSON is known meanwhile.
pub(crate) fn knowing<R>(known: Known, call: impl FnOnce() -> R) -> R {
    let before = HANDLED.replace(known);
    let returned = call();
    HANDLED.set(before);
    returned
}

pub(crate) fn handled() -> Known {
    HANDLED.get()
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// The data of an outgoing event: JSON text, or nothing at all, which is `null`.
pub(crate) fn checked<'call>(known: Known, data: *const c_char, len: usize) -> Result<&'call str, Status> {
    let data: &str = text(data, len)?;
    if data.is_empty() {
        return Ok("null");
    }
    if known.has_data(data) || is_json(data) { Ok(data) } else { Err(Status::ErrArgument) }
}

/// The id of an outgoing event: a JSON string or an integer; `NULL` for none.
pub(crate) fn checked_id<'call>(known: Known, id: *const c_char, len: usize) -> Result<Option<&'call str>, Status> {
    let Some(id) = pointers::optional_text(id, len)? else { return Ok(None) };
    let is_integer = || {
        let digits = id.strip_prefix('-').unwrap_or(id);
        digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    let is_id = known.has_id(id) || (id.starts_with('"') && id.ends_with('"') || is_integer()) && is_json(id);
    if is_id { Ok(Some(id)) } else { Err(Status::ErrArgument) }
}

/// The name of an outgoing event.
pub(crate) fn event<'call>(event: *const c_char, len: usize) -> Result<&'call str, Status> {
    let event = name(event, len)?;
    if event.is_empty() { Err(Status::ErrArgument) } else { Ok(event) }
}

// --- reading ------------------------------------------------------------------------------------------------------

/// The part of `json` that a JSON Pointer (RFC 6901) leads to.
fn find<'json>(json: &'json str, pointer: &str) -> Result<Option<&'json str>, Status> {
    if !is_json(json) {
        return Err(Status::ErrArgument);
    }
    if pointer.is_empty() {
        return Ok(Some(json.trim_ascii()));
    }
    let Some(steps) = pointer.strip_prefix('/') else { return Err(Status::ErrArgument) };
    let mut at = json.trim_ascii();
    for step in steps.split('/') {
        let step = step.replace("~1", "/").replace("~0", "~");
        let Some(next) = member(at, &step) else { return Ok(None) };
        at = next;
    }
    Ok(Some(at))
}

/// The member `step` of an object, or the element at that index of an array. `json` is valid.
fn member<'json>(json: &'json str, step: &str) -> Option<&'json str> {
    let is_object = json.starts_with('{');
    if !is_object && !json.starts_with('[') {
        return None;
    }
    let mut rest = json[1..].trim_ascii_start();
    for index in 0.. {
        if rest.starts_with([']', '}']) {
            return None;
        }
        let is_wanted = if is_object {
            let key = &rest[..value_len(rest)];
            rest = rest[key.len()..].trim_ascii_start().strip_prefix(':')?.trim_ascii_start();
            unquoted(key).is_some_and(|key| key == step)
        } else {
            step.parse() == Ok(index) && (step == "0" || !step.starts_with(['0', '+']))
        };
        let value = &rest[..value_len(rest)];
        if is_wanted {
            return Some(value);
        }
        rest = rest[value.len()..].trim_ascii_start();
        rest = rest.strip_prefix(',').unwrap_or(rest).trim_ascii_start();
    }
    None
}

/// The length of the value that valid JSON starts with.
fn value_len(json: &str) -> usize {
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for (at, byte) in json.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => {
                quoted = !quoted;
                if !quoted && depth == 0 {
                    return at + 1;
                }
            }
            _ if quoted => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth > 0 => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            b',' | b':' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n' if depth == 0 => return at,
            _ => {}
        }
    }
    json.len()
}

fn unquoted(json: &str) -> Option<String> {
    if json.starts_with('"') { serde_json::from_str(json).ok() } else { None }
}

fn integer(json: &str) -> Option<i64> {
    /// From here on a fraction may be lost, and with it another integer.
    const INEXACT: f64 = 9_007_199_254_740_992.0;
    serde_json::from_str(json).ok().or_else(|| {
        let number: f64 = serde_json::from_str(json).ok()?;
        (number.fract() == 0.0 && number.abs() < INEXACT).then_some(number as i64)
    })
}

/// Writes `text` and a zero byte to the caller's buffer, and how long the text is; too short a one is left alone.
fn write(text: &str, to: &mut [MaybeUninit<u8>], len: &mut MaybeUninit<usize>) -> Result<Status, Status> {
    len.write(text.len());
    let bytes = text.bytes().chain([0]);
    if text.len() >= to.len() {
        return Err(Status::ErrArgument);
    }
    for (place, byte) in to.iter_mut().zip(bytes) {
        place.write(byte);
    }
    Ok(Status::Ok)
}

exports! {
    /// Finds the part of a JSON text that a JSON Pointer (RFC 6901) names: `"/room"`, `"/users/0/name"`; `""` names the
    /// whole text. `*value` becomes a view into `json`: JSON text, of a string with its quotes (see `wsg_json_string`).
    /// On anything but `WSG_OK` its `data` is `NULL`.
    ///
    /// Any thread. Returns `WSG_OK`; `WSG_NOTHING` if there is no such part; `WSG_ERR_ARGUMENT` if the text is not JSON
    /// or the pointer is not one; `WSG_ERR_NULL` or `WSG_ERR_UTF8`.
    pub fn wsg_json_get(json: *const c_char, json_len: usize, pointer: *const c_char, pointer_len: usize,
        value: Option<&mut MaybeUninit<Str>>,
    ) -> Status {
        let place = pointers::out(value)?;
        place.write(Str::NONE);
        let found = find(name(json, json_len)?, text(pointer, pointer_len)?)?;
        let Some(found) = found else { return Ok(Status::Nothing) };
        place.write(Str::of(found));
        Ok(Status::Ok)
    }

    /// Writes the text of a JSON string, without quotes and escapes, to `buffer`, and a zero byte behind it. `*len`
    /// becomes the length without that byte. `json_len` bytes of buffer are always enough.
    ///
    /// Any thread. Returns `WSG_OK`; `WSG_ERR_ARGUMENT` if `json` is not a JSON string (`*len` is 0) or the buffer is
    /// too small (it needs `*len + 1` bytes); `WSG_ERR_NULL` or `WSG_ERR_UTF8`.
    pub fn wsg_json_string(json: *const c_char, json_len: usize, buffer: *mut c_char, buffer_len: usize,
        len: Option<&mut MaybeUninit<usize>>,
    ) -> Status {
        let len = pointers::out(len)?;
        len.write(0);
        let to = self::buffer(buffer, buffer_len)?;
        let said = unquoted(name(json, json_len)?).ok_or(Status::ErrArgument)?;
        write(&said, to, len)
    }

    /// Reads a JSON number that is an integer, however it is written: `5.0` and `5e0` are integers here. (`"type":
    /// "integer"` of a schema is stricter: it wants digits only, so that `5.0` comes where a schema says `"number"`.)
    ///
    /// Any thread. Returns `WSG_OK`; `WSG_ERR_ARGUMENT` if it is anything else or does not fit; `WSG_ERR_NULL` or
    /// `WSG_ERR_UTF8`. `*number` is written on `WSG_OK` only.
    pub fn wsg_json_integer(json: *const c_char, json_len: usize, number: Option<&mut MaybeUninit<i64>>) -> Status {
        let place = pointers::out(number)?;
        let json = name(json, json_len)?;
        place.write(integer(json).ok_or(Status::ErrArgument)?);
        Ok(Status::Ok)
    }

    /// Writes a text as a JSON string, with quotes and escapes, to `buffer`, and a zero byte behind it: to build
    /// `data`. `*len` becomes the length without that byte. `6 * text_len + 3` bytes of buffer are always enough.
    ///
    /// Any thread. Returns `WSG_OK`; `WSG_ERR_ARGUMENT` if the buffer is too small (it needs `*len + 1` bytes);
    /// `WSG_ERR_NULL` or `WSG_ERR_UTF8`.
    pub fn wsg_json_quote(text: *const c_char, text_len: usize, buffer: *mut c_char, buffer_len: usize,
        len: Option<&mut MaybeUninit<usize>>,
    ) -> Status {
        let len = pointers::out(len)?;
        len.write(0);
        let to = self::buffer(buffer, buffer_len)?;
        let quoted = serde_json::Value::from(self::text(text, text_len)?).to_string();
        write(&quoted, to, len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_lead_to_what_serde_finds() {
        let json = r#" {"text":"room","room":"kit\"chen","a":[1, {"b":null},[[]],"x,}"], "~/":{"":7} ,"é":"\u00e9","n":-1.5e3} "#;
        let value: serde_json::Value = serde_json::from_str(json).unwrap();
        for pointer in [
            "", "/text", "/room", "/a", "/a/0", "/a/1/b", "/a/2", "/a/2/0", "/a/3", "/a/4", "/a/00", "/a/-", "/~0~1",
            "/~0~1/", "/é", "/n", "/nothing", "/text/0", "/n/x",
        ] {
            let found =
                find(json, pointer).unwrap().map(|part| serde_json::from_str::<serde_json::Value>(part).unwrap());
            assert_eq!(found.as_ref(), value.pointer(pointer), "{pointer}");
        }
        assert_eq!(find(json, "room"), Err(Status::ErrArgument));
        assert_eq!(find("{", ""), Err(Status::ErrArgument));
        assert_eq!(find("{} {}", "/a"), Err(Status::ErrArgument));
    }

    fn data(text: &str) -> Result<&str, Status> {
        checked(Known::NOTHING, text.as_ptr().cast(), text.len())
    }

    fn id(text: &str) -> Result<Option<&str>, Status> {
        checked_id(Known::NOTHING, text.as_ptr().cast(), text.len())
    }

    #[test]
    fn an_integer_may_be_written_as_a_number() {
        for (json, number) in
            [("5", 5), ("-5.0", -5), ("1e2", 100), ("-0", 0), (" 7 ", 7), ("9223372036854775807", i64::MAX)]
        {
            assert_eq!(integer(json), Some(number), "{json}");
        }
        for json in ["1.5", "1e-1", "9223372036854775808", "9007199254740993.0", "1e400", "\"5\"", "null", "5 5", ""] {
            assert_eq!(integer(json), None, "{json}");
        }
    }

    #[test]
    fn only_json_goes_out() {
        for good in ["1", " [1] ", "{\"a\":{}}", "\"\\ud83d\\ude00\"", "null", "-0.5"] {
            assert_eq!(data(good), Ok(good));
        }
        assert_eq!(data(""), Ok("null"));
        assert_eq!(checked(Known::NOTHING, core::ptr::null(), 0), Ok("null"));
        for bad in ["}{", "1,\"event\":\"admin\"", "{", "'x'", "\"a\nb\"", "1 2", "NaN", " "] {
            assert_eq!(data(bad), Err(Status::ErrArgument), "{bad}");
        }
        for good in ["7", "-7", "\"x\"", "\"\""] {
            assert_eq!(id(good), Ok(Some(good)));
        }
        assert_eq!(checked_id(Known::NOTHING, core::ptr::null(), 0), Ok(None));
        for bad in ["", "1,\"status\":\"error\"", "1.5", "null", "{}", "\"", "\"a\",\"b\"", "-", "01", "1e3", " 7"] {
            assert_eq!(id(bad), Err(Status::ErrArgument), "{bad}");
        }
    }

    #[test]
    fn what_the_library_checked_is_not_checked_again() {
        let text = String::from("not json");
        let known = Known::of(&text, Some(&text));
        assert_eq!(checked(known, text.as_ptr().cast(), text.len()), Ok(&*text));
        assert_eq!(checked(known, text.as_ptr().cast(), 3), Err(Status::ErrArgument), "a part of it is another text");
        assert_eq!(checked_id(known, text.as_ptr().cast(), text.len()), Ok(Some(&*text)));
        assert_eq!(knowing(known, || checked(handled(), text.as_ptr().cast(), text.len())), Ok(&*text));
        assert_eq!(checked(handled(), text.as_ptr().cast(), text.len()), Err(Status::ErrArgument));
    }
}
