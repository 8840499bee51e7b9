//! Subset matching of JSON: what a scenario names must be there, what it does not name is free.
//!
//! Strings that begin with `@` or `~` are patterns: `@any` (present, not null), `@null`, `@absent`, `~text` (a string
//! that contains `text`).

use serde_json::Value;

/// Whether `actual` has everything `expected` names. Objects match as subsets, arrays element by element.
pub(crate) fn matches(expected: &Value, actual: Option<&Value>) -> bool {
    match (expected, actual) {
        (Value::String(pattern), actual) if pattern.starts_with(['@', '~']) => matches_pattern(pattern, actual),
        (_, None) => false,
        (Value::Object(expected), Some(Value::Object(actual))) => {
            expected.iter().all(|(key, value)| matches(value, actual.get(key)))
        }
        (Value::Array(expected), Some(Value::Array(actual))) => {
            expected.len() == actual.len()
                && expected.iter().zip(actual).all(|(expected, actual)| matches(expected, Some(actual)))
        }
        (Value::Number(expected), Some(Value::Number(actual))) => {
            expected == actual || expected.as_f64() == actual.as_f64()
        }
        (expected, Some(actual)) => expected == actual,
    }
}

fn matches_pattern(pattern: &str, actual: Option<&Value>) -> bool {
    match (pattern, actual) {
        ("@any", actual) => actual.is_some_and(|value| !value.is_null()),
        ("@null", actual) => actual == Some(&Value::Null),
        ("@absent", actual) => actual.is_none(),
        (pattern, Some(Value::String(actual))) if pattern.starts_with('~') => actual.contains(&pattern[1..]),
        (pattern, Some(Value::String(actual))) => pattern == actual,
        _ => false,
    }
}

/// A TOML value as JSON. `"@null"` stays a pattern: see [`literal`] for options, where it means null.
pub(crate) fn to_json(value: &toml::Value) -> Value {
    serde_json::to_value(value).unwrap_or(Value::Null)
}

/// A TOML value as JSON in which `"@null"` is null, for what is sent rather than matched.
pub(crate) fn literal(value: &toml::Value) -> Value {
    fn nulls(value: Value) -> Value {
        match value {
            Value::String(text) if text == "@null" => Value::Null,
            Value::Array(items) => items.into_iter().map(nulls).collect(),
            Value::Object(table) => table.into_iter().map(|(key, value)| (key, nulls(value))).collect(),
            other => other,
        }
    }
    nulls(to_json(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn subsets_match() {
        assert!(matches(&json!({"a": 1}), Some(&json!({"a": 1, "b": 2}))));
        assert!(!matches(&json!({"a": 1, "b": 2}), Some(&json!({"a": 1}))));
        assert!(matches(&json!([1, {"a": 1}]), Some(&json!([1, {"a": 1, "b": 2}]))));
        assert!(!matches(&json!([1]), Some(&json!([1, 2]))));
        assert!(matches(&json!(1), Some(&json!(1.0))));
    }

    #[test]
    fn patterns() {
        assert!(matches(&json!({"a": "@any", "b": "@absent"}), Some(&json!({"a": 0}))));
        assert!(!matches(&json!({"a": "@any"}), Some(&json!({"a": null}))));
        assert!(matches(&json!({"a": "@null"}), Some(&json!({"a": null}))));
        assert!(!matches(&json!({"a": "@null"}), Some(&json!({}))));
        assert!(matches(&json!("~ell"), Some(&json!("hello"))));
        assert!(!matches(&json!("~x"), Some(&json!("hello"))));
    }

    #[test]
    fn literals_have_nulls() {
        let value: toml::Table = toml::from_str("a = { b = ['@null', 1] }").unwrap();
        assert_eq!(literal(&toml::Value::Table(value)), json!({"a": {"b": [null, 1]}}));
    }
}
