//! `uniqueItems` in linear time whatever the items are.
//!
//! The schema compiler's own check hashes nested arrays without their brackets and objects without a key of its own, so
//! that a peer can make thousands of items that all collide. Here each item becomes one canonical text under a keyed
//! hash.

use jsonschema::{Keyword, ValidationError};
use serde_json::Value;
use std::collections::HashSet;

/// The keyword with this value.
pub(super) fn unique_items(value: &Value) -> Box<dyn for<'i> Keyword<'i>> {
    Box::new(UniqueItems { required: value.as_bool() == Some(true) })
}

struct UniqueItems {
    required: bool,
}

impl<'i> Keyword<'i> for UniqueItems {
    fn validate(&self, instance: &'i Value) -> Result<(), ValidationError<'i>> {
        let error = || ValidationError::custom("items are not unique");
        if Keyword::is_valid(self, instance) { Ok(()) } else { Err(error()) }
    }

    fn is_valid(&self, instance: &'i Value) -> bool {
        match instance {
            Value::Array(items) if self.required => {
                let mut seen = HashSet::with_capacity(items.len());
                items.iter().all(|item| seen.insert(canonical(item)))
            }
            _ => true,
        }
    }
}

/// A text that two values share exactly when JSON Schema calls them equal.
fn canonical(value: &Value) -> Vec<u8> {
    let mut text = Vec::new();
    write(value, &mut text);
    text
}

fn write(value: &Value, text: &mut Vec<u8>) {
    match value {
        Value::Null => text.push(b'n'),
        Value::Bool(value) => text.push(if *value { b't' } else { b'f' }),
        Value::Number(number) => {
            // 1, 1.0 and 1e0 are equal, as are 0 and -0: integers are within ±2^53, so f64 tells them all apart.
            let number = number.as_f64().filter(|number| *number != 0.0).unwrap_or(0.0);
            text.push(b'd');
            text.extend(number.to_bits().to_le_bytes());
        }
        Value::String(string) => write_string(string, text),
        Value::Array(items) => {
            text.push(b'[');
            for item in items {
                write(item, text);
            }
            text.push(b']');
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_unstable_by_key(|(key, _)| *key);
            text.push(b'{');
            for (key, value) in members {
                write_string(key, text);
                write(value, text);
            }
            text.push(b'}');
        }
    }
}

fn write_string(string: &str, text: &mut Vec<u8>) {
    text.push(b's');
    text.extend((string.len() as u64).to_le_bytes());
    text.extend(string.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn equal_is_what_json_schema_calls_equal() {
        let keyword = UniqueItems { required: true };
        for same in [
            json!([1, 1.0]),
            json!([0, -0.0]),
            json!([{"a": 1, "b": [2]}, {"b": [2.0], "a": 1}]),
            json!([null, null]),
            json!(["a", "b", "a"]),
        ] {
            assert!(!Keyword::is_valid(&keyword, &same), "{same}");
            assert!(Keyword::validate(&keyword, &same).is_err());
        }
        for different in [
            json!([1, true, "1", null, [1], {"1": 1}, 0, false, "", [], {}]),
            json!([[[1], 2], [1, [2]], [1, 2]]),
            json!([{"a": "b"}, {"b": "a"}]),
            json!(["ab", ["a", "b"], ["", "ab"], ["ab", ""]]),
            json!({"not": "an array"}),
        ] {
            assert!(Keyword::is_valid(&keyword, &different), "{different}");
        }
        assert!(Keyword::is_valid(&UniqueItems { required: false }, &json!([1, 1])));
    }
}
