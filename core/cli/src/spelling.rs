//! The names of options in a policy file: the core's `rate_limit`, or Node's `rateLimit`. A file of either is one policy.

use std::collections::HashMap;

use serde_json::{Map, Value};
use wsguard::binding::{ConfigError, Options, Section, Shape, option_names};

/// A policy with the core's names. What the application has named (an event, a route) and what is inside a schema stays.
///
/// # Errors
/// An option is stated in both spellings: one of them would be lost without a word.
pub(crate) fn in_snake_case(value: Value) -> Result<Value, ConfigError> {
    let names: HashMap<String, &'static str> = option_names().into_iter().map(|name| (camel(name), name)).collect();
    match value {
        Value::Object(given) => members(given, Options::table(), &names, ""),
        other => Ok(other),
    }
}

fn members(
    given: Map<String, Value>,
    section: &'static Section,
    names: &HashMap<String, &'static str>,
    at: &str,
) -> Result<Value, ConfigError> {
    let mut read = Map::new();
    for (key, value) in given {
        let name = names.get(&key).map_or(key.as_str(), |name| *name).to_owned();
        let at = format!("{at}{key}");
        let value = match section.find(&name) {
            Some(option) => inside(value, &option.shape, names, &at)?,
            None => value,
        };
        if read.insert(name, value).is_some() {
            return Err(ConfigError::contradiction(at, "is stated twice, in snake_case and in camelCase: drop one"));
        }
    }
    Ok(Value::Object(read))
}

fn inside(
    value: Value,
    shape: &'static Shape,
    names: &HashMap<String, &'static str>,
    at: &str,
) -> Result<Value, ConfigError> {
    Ok(match (value, shape) {
        (Value::Array(items), Shape::List { item, .. }) => {
            let items = items.into_iter().enumerate();
            let items = items.map(|(index, one)| inside(one, item, names, &format!("{at}[{index}]")));
            Value::Array(items.collect::<Result<_, _>>()?)
        }
        (Value::Object(items), Shape::Map { item, .. }) => {
            let one = |(name, one): (String, Value)| {
                let one = inside(one, item, names, &format!("{at}.{name}"))?;
                Ok((name, one))
            };
            Value::Object(items.into_iter().map(one).collect::<Result<_, ConfigError>>()?)
        }
        (Value::Object(given), Shape::Section { section, .. } | Shape::Ways { section, .. }) => {
            members(given, section, names, &format!("{at}."))?
        }
        (Value::Object(given), Shape::Route(_)) => members(given, Options::table(), names, &format!("{at}."))?,
        (other, _) => other,
    })
}

/// `rate_limit` as `rateLimit`.
fn camel(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |mut name, word| {
        let mut letters = word.chars();
        name.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        name.push_str(letters.as_str());
        name
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn both_spellings_are_one_policy() {
        let node = json!({"rateLimit": {"perSecond": 1}, "events": {"maxHeadBytes": {"schema": {"maxLength": 1}}},
            "routes": {"/a": {"maxMessageBytes": 5}},
            "auth": {"jwt": {"userClaim": "x", "keys": {"minVersion": {"maxDepth": 1}}}}});
        let ours = json!({"rate_limit": {"per_second": 1}, "events": {"maxHeadBytes": {"schema": {"maxLength": 1}}},
            "routes": {"/a": {"max_message_bytes": 5}},
            "auth": {"jwt": {"user_claim": "x", "keys": {"minVersion": {"maxDepth": 1}}}}});
        assert_eq!(in_snake_case(node).unwrap(), ours);
        assert_eq!(in_snake_case(ours.clone()).unwrap(), ours);
    }

    #[test]
    fn an_option_in_both_spellings_is_stated_twice() {
        for (given, option) in [
            (json!({"max_fragments": 1, "maxFragments": 2}), "max_fragments"),
            (
                json!({"routes": {"/a": {"rateLimit": {"per_second": 1, "perSecond": 2}}}}),
                "routes./a.rateLimit.per_second",
            ),
        ] {
            assert_eq!(in_snake_case(given).unwrap_err().option, option);
        }
    }
}
