//! JSON text that nobody parses again, and the way from a value of the application to such text.

use core::cell::Cell;
use core::fmt;

use serde::Deserialize;
use serde::ser::{Error as _, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::error::Error;

/// Checked JSON text: the data of a message as its peer wrote it, or a text of the application.
///
/// [`parse`](Self::parse) reads it as a type. It serialises as the value that it stands for. So `emit("said", &message.data)`
/// passes the data on unchanged, and it can be a field of a larger value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawJson<'t>(&'t str);

impl<'t> RawJson<'t> {
    /// Checks a JSON text of the application.
    ///
    /// # Errors
    ///
    /// The text is not one JSON value.
    pub fn new(text: &'t str) -> Result<Self, serde_json::Error> {
        serde_json::from_str::<&RawValue>(text).map(|value| Self(value.get()))
    }

    /// Text that the contract has read already.
    pub(crate) fn vetted(text: &'t str) -> Self {
        Self(text)
    }

    /// The text.
    pub fn as_str(self) -> &'t str {
        self.0
    }

    /// Reads it as `T`, which may borrow from it.
    pub fn parse<T: Deserialize<'t>>(self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.0)
    }
}

impl fmt::Display for RawJson<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Serialize for RawJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serde_json::from_str::<&RawValue>(self.0).map_err(S::Error::custom)?.serialize(serializer)
    }
}

/// A buffer beyond this is not kept for the next message.
const KEPT_BYTES: usize = 64 << 10;

thread_local! {
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Calls `say` with `data` as JSON text. The text lies in a buffer of this thread: a message allocates nothing.
pub(crate) fn with_text<R>(
    data: &(impl Serialize + ?Sized),
    say: impl FnOnce(&str) -> Result<R, Error>,
) -> Result<R, Error> {
    // Taken, not borrowed: a `Serialize` of the application may send something itself.
    let mut buffer = BUFFER.try_with(Cell::take).unwrap_or_default();
    buffer.clear();
    serde_json::to_writer(&mut buffer, data).map_err(Error::Data)?;
    let text = core::str::from_utf8(&buffer).map_err(|error| Error::Data(serde_json::Error::custom(error)))?;
    let said = say(text);
    if buffer.capacity() <= KEPT_BYTES {
        let _ = BUFFER.try_with(|kept| kept.set(buffer));
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn text(data: &(impl Serialize + ?Sized)) -> Result<String, Error> {
        with_text(data, |text| Ok(text.to_owned()))
    }

    #[test]
    fn raw_json_is_passed_on_as_the_value_it_stands_for() {
        let raw = RawJson::new(" {\"a\" : 1.50} ").unwrap();
        assert_eq!(raw.as_str(), "{\"a\" : 1.50}");
        assert_eq!(text(&raw).unwrap(), "{\"a\" : 1.50}");
        assert_eq!(text(&BTreeMap::from([("inner", raw)])).unwrap(), r#"{"inner":{"a" : 1.50}}"#);
        assert_eq!(raw.parse::<BTreeMap<&str, f64>>().unwrap(), BTreeMap::from([("a", 1.5)]));
        assert!(RawJson::new("1 2").is_err() && RawJson::new("").is_err());
    }

    #[test]
    fn data_that_is_no_json_is_an_error_and_the_next_is_written_all_the_same() {
        let error = text(&BTreeMap::from([((1, 2), 3)])).unwrap_err();
        assert_eq!(error.code(), "invalid_argument");
        assert_eq!(error.to_string(), "data cannot be written as JSON: key must be a string");
        assert_eq!(text("next").unwrap(), "\"next\"");
    }

    #[test]
    fn a_serialize_that_sends_something_itself_does_not_mix_the_two() {
        struct Sends;
        impl Serialize for Sends {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                assert_eq!(text(&[1, 2]).unwrap(), "[1,2]");
                serializer.serialize_str("outer")
            }
        }
        assert_eq!(text(&(Sends, Sends)).unwrap(), r#"["outer","outer"]"#);
    }
}
