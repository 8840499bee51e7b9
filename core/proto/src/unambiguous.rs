//! JSON that every parser reads the same way: of a member given twice, some take the first and some the last.

use core::fmt;
use std::collections::HashSet;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// A step from a value to one inside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// To the member of this name.
    Name(String),
    /// To an item of a list.
    Index(usize),
}

/// A text as a value, in which the last of two members counts.
pub(crate) struct Reading {
    pub(crate) value: Value,
    /// The first member that was given twice, if one was.
    pub(crate) twice: Option<Vec<Step>>,
}

/// Reads JSON. The value is read by `serde_json` itself, as another crate of the application may have it hand over numbers in a
/// form of its own (`arbitrary_precision`).
///
/// # Errors
/// It is none. The error tells the place and the kind, and nothing of the text.
pub(crate) fn read(text: &[u8]) -> Result<Reading, serde_json::Error> {
    let value = serde_json::from_slice(text)?;
    let (mut path, mut twice) = (Vec::new(), None);
    let mut reader = serde_json::Deserializer::from_slice(text);
    Names { path: &mut path, twice: &mut twice }.deserialize(&mut reader)?;
    Ok(Reading { value, twice })
}

/// Looks at the names alone.
struct Names<'r> {
    /// Where the value stands.
    path: &'r mut Vec<Step>,
    twice: &'r mut Option<Vec<Step>>,
}

impl Names<'_> {
    /// For a value inside, to which a step was made.
    fn inside(&mut self) -> Names<'_> {
        Names { path: self.path, twice: self.twice }
    }
}

impl<'de> DeserializeSeed<'de> for Names<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Names<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        for index in 0.. {
            self.path.push(Step::Index(index));
            let item = list.next_element_seed(self.inside())?;
            self.path.pop();
            if item.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let mut names = HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            let is_second = names.contains(&name);
            self.path.push(Step::Name(name));
            if is_second && self.twice.is_none() {
                *self.twice = Some(self.path.clone());
            }
            map.next_value_seed(self.inside())?;
            if let Some(Step::Name(name)) = self.path.pop() {
                names.insert(name);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn twice(text: &str) -> Option<String> {
        let step = |step: Step| match step {
            Step::Name(name) => name,
            Step::Index(index) => index.to_string(),
        };
        let reading = read(text.as_bytes()).unwrap();
        assert_eq!(reading.value, serde_json::from_str::<Value>(text).unwrap(), "{text}");
        reading.twice.map(|path| path.into_iter().map(step).collect::<Vec<_>>().join("/"))
    }

    #[test]
    fn the_first_member_that_is_given_twice_is_found() {
        for (text, found) in [
            (r#"{"a": 1, "b": [null, true, -1, 1.5, "x", {"a": 1}], "c": {"a": 1}}"#, None),
            (r#"{"a": 1, "a": 1}"#, Some("a")),
            (r#"{"a": 1, "\u0061": 1}"#, Some("a")),
            (r#"{"a": [[], {"b": {}, "c": 1, "b": {"d": 1, "d": 2}}], "a": 2}"#, Some("a/1/b")),
            (r#"[{"": 0, "": 0}]"#, Some("0/")),
        ] {
            assert_eq!(twice(text).as_deref(), found, "{text}");
        }
    }

    /// As `serde_json` hands numbers over where a crate of the application asks it for `arbitrary_precision`.
    #[test]
    fn a_number_in_the_form_of_another_crate_is_passed_over() {
        use serde::de::value::{Error, MapDeserializer};
        let number = MapDeserializer::<_, Error>::new([("$serde_json::private::Number", "1.5")].into_iter());
        let (mut path, mut twice) = (Vec::new(), None);
        let names = Names { path: &mut path, twice: &mut twice };
        assert!(names.deserialize(number).is_ok() && twice.is_none() && path.is_empty());
    }

    #[test]
    fn what_is_no_json_is_an_error_that_repeats_nothing() {
        let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
        for text in ["", "{", "[1,]", r#"{"SECRET": SECRET}"#, r#"{"a": 1e999}"#, "1 SECRET", r#""\ud800""#, &deep] {
            let error = read(text.as_bytes()).err().unwrap_or_else(|| panic!("{text}"));
            assert!(!error.to_string().contains("SECRET"), "{error}");
        }
        assert!(read(b"\"\xff\"").is_err());
    }
}
