//! JSON that every parser reads the same way: of a member given twice, some take the first and some the last.

use core::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

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

/// Reads JSON.
///
/// # Errors
/// It is none. The error tells the place and the kind, and nothing of the text.
pub(crate) fn read(text: &[u8]) -> Result<Reading, serde_json::Error> {
    let (mut path, mut twice) = (Vec::new(), None);
    let mut reader = serde_json::Deserializer::from_slice(text);
    let value = Reader { path: &mut path, twice: &mut twice }.deserialize(&mut reader)?;
    reader.end()?;
    Ok(Reading { value, twice })
}

struct Reader<'r> {
    /// Where the value stands.
    path: &'r mut Vec<Step>,
    twice: &'r mut Option<Vec<Step>>,
}

impl Reader<'_> {
    /// For a value inside, to which a step was made.
    fn inside(&mut self) -> Reader<'_> {
        Reader { path: self.path, twice: self.twice }
    }
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        loop {
            self.path.push(Step::Index(values.len()));
            let value = list.next_element_seed(self.inside())?;
            self.path.pop();
            match value {
                Some(value) => values.push(value),
                None => return Ok(Value::Array(values)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            let is_second = members.contains_key(&name);
            self.path.push(Step::Name(name));
            if is_second && self.twice.is_none() {
                *self.twice = Some(self.path.clone());
            }
            let value = map.next_value_seed(self.inside())?;
            if let Some(Step::Name(name)) = self.path.pop() {
                members.insert(name, value);
            }
        }
        Ok(Value::Object(members))
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
