//! Reads options from JSON values, with errors that are data: which name, which kind of fault.
//!
//! What `serde_json` says instead is a text that repeats values, which may be secrets; nothing can be read out of it surely,
//! as names and values may hold whatever marks it is cut at.

use core::fmt;

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{self, Deserializer, Expected, IntoDeserializer, Unexpected, Visitor};
use serde_json::{Number, Value};

/// What is wrong with a value; where it stands is told by the path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// An object has a name that is none of these.
    UnknownName { name: String, known: &'static [&'static str] },
    /// An object lacks this name.
    Missing(&'static str),
    /// Another type than is accepted.
    Type,
    /// The right type with another value than is accepted.
    Value,
    /// An object without a name.
    Empty,
    /// An object of which one name is accepted has two.
    TwoWays,
    /// None of several forms.
    Form,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an option that is not accepted")
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Fault::Form
    }

    fn invalid_type(_: Unexpected<'_>, _: &dyn Expected) -> Self {
        Fault::Type
    }

    fn invalid_value(_: Unexpected<'_>, _: &dyn Expected) -> Self {
        Fault::Value
    }

    fn invalid_length(_: usize, _: &dyn Expected) -> Self {
        Fault::Empty
    }

    fn unknown_variant(_: &str, _: &'static [&'static str]) -> Self {
        Fault::Value
    }

    fn unknown_field(name: &str, known: &'static [&'static str]) -> Self {
        Fault::UnknownName { name: name.to_owned(), known }
    }

    fn missing_field(name: &'static str) -> Self {
        Fault::Missing(name)
    }

    fn duplicate_field(_: &'static str) -> Self {
        Fault::TwoWays
    }
}

/// A value that options are read from. Options with names must be objects: serde would take a list for them, by position.
pub(super) struct Given<'v>(pub(super) &'v Value);

impl<'de> Deserializer<'de> for Given<'de> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Number(number) => visit_number(number, visitor),
            Value::String(text) => visitor.visit_borrowed_str(text),
            Value::Array(list) => visitor.visit_seq(SeqDeserializer::new(list.iter().map(Given))),
            Value::Object(members) => {
                let members = members.iter().map(|(name, value)| (name.as_str(), Given(value)));
                visitor.visit_map(MapDeserializer::new(members))
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        if self.0.is_object() { self.deserialize_any(visitor) } else { Err(Fault::Type) }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_enum(self.0.as_str().ok_or(Fault::Type)?.into_deserializer())
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map identifier ignored_any
    }
}

impl<'de> IntoDeserializer<'de, Fault> for Given<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

fn visit_number<'de, V: Visitor<'de>>(number: &Number, visitor: V) -> Result<V::Value, Fault> {
    match (number.as_u64(), number.as_i64()) {
        (Some(number), _) => visitor.visit_u64(number),
        (None, Some(number)) => visitor.visit_i64(number),
        (None, None) => visitor.visit_f64(number.as_f64().ok_or(Fault::Value)?),
    }
}
