//! How a field of each type is read from JSON, checked, and shown as JSON again.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::table::{Section, Shape};
use super::words::{At, Fault};
use crate::config_error::ConfigError;

/// A type that an option may have.
pub(super) trait Field: Sized {
    /// Whether `null` is a value of it.
    const IS_NULLABLE: bool = false;

    /// Reads it: names and types. Ranges are [`Field::check`]'s, as options may also be stated in Rust.
    fn read(value: &Value, shape: &'static Shape, at: At<'_>) -> Result<Self, ConfigError>;

    /// Whether it, and all that is inside it, is in its range.
    fn check(&self, _: &'static Shape, _: At<'_>) -> Result<(), ConfigError> {
        Ok(())
    }

    /// It as JSON.
    fn json(&self) -> String;
}

/// The shape of a member that is known to be there.
pub(super) fn shape_of(section: &Section, name: &str) -> &'static Shape {
    section.find(name).map_or(&Shape::Any, |option| &option.shape)
}

/// The members of an object of options.
pub(super) fn members<'v>(
    value: &'v Value,
    shape: &'static Shape,
    at: At<'_>,
) -> Result<&'v Map<String, Value>, ConfigError> {
    value.as_object().ok_or_else(|| at.refused(value, shape, Fault::Type))
}

/// Nothing is missing that an object makes no sense without.
pub(super) fn all_there(value: &Value, section: &Section, at: At<'_>) -> Result<(), ConfigError> {
    let is_missing = |name: &str| value.get(name).is_none();
    match section.options.iter().find(|option| option.is_required_at_once() && is_missing(option.name)) {
        Some(option) => Err(at.error(format!("needs `{}`: {}", option.name, option.shape.words(option.name)))),
        None => Ok(()),
    }
}

/// An object in the order of the table.
pub(super) fn json_object(members: &[(&str, String)]) -> String {
    let members = members.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect::<Vec<_>>();
    format!("{{{}}}", members.join(", "))
}

fn check_whole(shape: &Shape, value: u64, at: At<'_>) -> Result<(), ConfigError> {
    let is_accepted = match shape {
        Shape::Whole { least, most } => (*least..=*most).contains(&value),
        Shape::Codes(codes) => codes.contains(&value),
        _ => true,
    };
    if is_accepted { Ok(()) } else { Err(at.error(format!("must be {}, got {value}", shape.words(at.name())))) }
}

fn check_number(shape: &Shape, value: f64, at: At<'_>) -> Result<(), ConfigError> {
    match shape {
        Shape::Number { least, most, .. } if !(*least..=*most).contains(&value) => {
            Err(at.error(format!("must be a number from {least} to {most}, got {value}")))
        }
        _ => Ok(()),
    }
}

fn check_len(shape: &Shape, len: usize, at: At<'_>) -> Result<(), ConfigError> {
    match shape {
        Shape::List { most, .. } | Shape::Map { most, .. } if len > *most => {
            Err(at.error(format!("must have at most {most} entries, got {len}")))
        }
        _ => Ok(()),
    }
}

impl Field for bool {
    fn read(value: &Value, shape: &'static Shape, at: At<'_>) -> Result<Self, ConfigError> {
        value.as_bool().ok_or_else(|| at.refused(value, shape, Fault::Type))
    }

    fn json(&self) -> String {
        self.to_string()
    }
}

macro_rules! whole_numbers {
    ($($type:ty)+) => { $(
        impl Field for $type {
            fn read(value: &Value, shape: &'static Shape, at: At<'_>) -> Result<Self, ConfigError> {
                let number = value.as_u64().and_then(|number| number.try_into().ok());
                number.ok_or_else(|| at.refused(value, shape, Fault::Type))
            }

            #[allow(clippy::useless_conversion, clippy::cast_lossless, reason = "for types of several sizes")]
            fn check(&self, shape: &'static Shape, at: At<'_>) -> Result<(), ConfigError> {
                check_whole(shape, *self as u64, at)
            }

            fn json(&self) -> String {
                self.to_string()
            }
        }
    )+ };
}

whole_numbers! { u8 u16 u32 u64 usize }

impl Field for f64 {
    fn read(value: &Value, shape: &'static Shape, at: At<'_>) -> Result<Self, ConfigError> {
        value.as_f64().ok_or_else(|| at.refused(value, shape, Fault::Type))
    }

    fn check(&self, shape: &'static Shape, at: At<'_>) -> Result<(), ConfigError> {
        check_number(shape, *self, at)
    }

    fn json(&self) -> String {
        self.to_string()
    }
}

impl Field for String {
    fn read(value: &Value, shape: &'static Shape, at: At<'_>) -> Result<Self, ConfigError> {
        value.as_str().map(str::to_owned).ok_or_else(|| at.refused(value, shape, Fault::Type))
    }

    fn json(&self) -> String {
        Value::from(self.as_str()).to_string()
    }
}

impl Field for Value {
    fn read(value: &Value, _: &'static Shape, _: At<'_>) -> Result<Self, ConfigError> {
        Ok(value.clone())
    }

    fn json(&self) -> String {
        self.to_string()
    }
}

impl<T: Field> Field for Option<T> {
    const IS_NULLABLE: bool = true;

    fn read(value: &Value, shape: &'static Shape, at: At<'_>) -> Result<Self, ConfigError> {
        if value.is_null() { Ok(None) } else { T::read(value, shape, at).map(Some) }
    }

    fn check(&self, shape: &'static Shape, at: At<'_>) -> Result<(), ConfigError> {
        self.as_ref().map_or(Ok(()), |value| value.check(shape, at))
    }

    fn json(&self) -> String {
        self.as_ref().map_or_else(|| "null".to_owned(), Field::json)
    }
}

impl<T: Field> Field for Vec<T> {
    fn read(value: &Value, shape: &'static Shape, at: At<'_>) -> Result<Self, ConfigError> {
        let list = value.as_array().ok_or_else(|| at.refused(value, shape, Fault::Type))?;
        let entries = list.iter().enumerate();
        entries.map(|(index, entry)| T::read(entry, shape.item(), At::Index(&at, index))).collect()
    }

    fn check(&self, shape: &'static Shape, at: At<'_>) -> Result<(), ConfigError> {
        check_len(shape, self.len(), at)?;
        let mut entries = self.iter().enumerate();
        entries.try_for_each(|(index, entry)| entry.check(shape.item(), At::Index(&at, index)))
    }

    fn json(&self) -> String {
        format!("[{}]", self.iter().map(Field::json).collect::<Vec<_>>().join(", "))
    }
}

impl<T: Field> Field for BTreeMap<String, T> {
    fn read(value: &Value, shape: &'static Shape, at: At<'_>) -> Result<Self, ConfigError> {
        let members = value.as_object().ok_or_else(|| at.refused(value, shape, Fault::Type))?;
        let read =
            |(name, value): (&String, &Value)| Ok((name.clone(), T::read(value, shape.item(), at.name_of(name))?));
        members.iter().map(read).collect()
    }

    fn check(&self, shape: &'static Shape, at: At<'_>) -> Result<(), ConfigError> {
        check_len(shape, self.len(), at)?;
        self.iter().try_for_each(|(name, value)| value.check(shape.item(), at.name_of(name)))
    }

    fn json(&self) -> String {
        let members = self.iter().map(|(name, value)| format!("{}: {}", Value::from(name.as_str()), value.json()));
        format!("{{{}}}", members.collect::<Vec<_>>().join(", "))
    }
}
