//! Options from Node: the object as JSON text, names in camelCase, to the core's [`Options`].

use serde_json::{Map, Value};
use wsguard::binding::{ConfigError, ConfigErrorKind, Error, Options, Section, Shape};

use crate::names;

/// Reads options: those of the core, and their JSON. Errors name the option as Node spells it.
pub(crate) fn parse(json: &str) -> Result<(Options, Value), Error> {
    parse_in(json, Spelling::default())
}

/// How the names of options may be written.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spelling {
    /// The core's own, `rate_limit`, are as good as Node's, `rateLimit`.
    pub(crate) takes_snake: bool,
}

/// The same in this spelling.
pub(crate) fn parse_in(json: &str, spelling: Spelling) -> Result<(Options, Value), Error> {
    let value = serde_json::from_str(json).map_err(|error| ConfigError::invalid("options", error.to_string()))?;
    let value = whole(value, spelling)?;
    Ok((Options::from_value(&value)?, value))
}

fn whole(value: Value, spelling: Spelling) -> Result<Value, ConfigError> {
    match value {
        Value::Object(given) => members(given, Options::table(), spelling),
        other => Ok(other),
    }
}

/// The names in a value become the core's, as far as they are names of options; what is of another type than the core's
/// table says stays as it is, and is the core's to refuse.
fn respelled(value: Value, shape: &Shape, spelling: Spelling) -> Result<Value, ConfigError> {
    Ok(match (value, shape) {
        (Value::Array(items), Shape::List { item: shape, .. }) => {
            let item =
                |(index, item)| respelled(item, shape, spelling).map_err(|error| within(&format!("[{index}]"), error));
            Value::Array(items.into_iter().enumerate().map(item).collect::<Result<_, _>>()?)
        }
        (Value::Object(items), Shape::Map { item: shape, .. }) => {
            let item = |(name, item): (String, Value)| match respelled(item, shape, spelling) {
                Ok(item) => Ok((name, item)),
                Err(error) => Err(within(&name, error)),
            };
            Value::Object(items.into_iter().map(item).collect::<Result<_, _>>()?)
        }
        (Value::Object(given), Shape::Section { section, .. } | Shape::Ways { section, .. }) => {
            members(given, section, spelling)?
        }
        (Value::Object(given), Shape::Route(_)) => members(given, Options::table(), spelling)?,
        (other, _) => other,
    })
}

fn members(given: Map<String, Value>, section: &Section, spelling: Spelling) -> Result<Value, ConfigError> {
    let mut read = Map::new();
    for member in given {
        let key = member.0.clone();
        let (name, value) = option(member, section, spelling)?;
        if read.insert(name, value).is_some() {
            return Err(ConfigError::contradiction(key, "is stated twice, in snake_case and in camelCase: drop one"));
        }
    }
    Ok(Value::Object(read))
}

fn option(
    (key, value): (String, Value),
    section: &Section,
    spelling: Spelling,
) -> Result<(String, Value), ConfigError> {
    let camel = names::camel(&key);
    if camel != key && names::snake(&camel).is_some() && !spelling.takes_snake {
        let message = format!("unknown option; it is spelled `{camel}` in JavaScript");
        return Err(ConfigError { kind: ConfigErrorKind::UnknownOption, option: key, message });
    }
    let name = names::snake(&key).unwrap_or(&key);
    let value = match section.find(name) {
        Some(option) => respelled(value, &option.shape, spelling).map_err(|error| within(&key, error))?,
        None => value,
    };
    Ok((name.to_owned(), value))
}

/// The error of something inside of `parent`.
fn within(parent: &str, error: ConfigError) -> ConfigError {
    let dot = if error.option.starts_with('[') { "" } else { "." };
    ConfigError { option: format!("{parent}{dot}{}", error.option), ..error }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_of_the_application_stay() {
        let given = json!({"rateLimit": {"perSecond": 1}, "events": {"maxHeadBytes": {"schema": {"maxLength": 1}}},
            "auth": {"jwt": {"userClaim": "x", "keys": {"minVersion": {"maxDepth": 1}}}}});
        let ours = json!({"rate_limit": {"per_second": 1}, "events": {"maxHeadBytes": {"schema": {"maxLength": 1}}},
            "auth": {"jwt": {"user_claim": "x", "keys": {"minVersion": {"maxDepth": 1}}}}});
        assert_eq!(whole(given, Spelling::default()).unwrap(), ours);
        assert_eq!(whole(ours.clone(), Spelling { takes_snake: true }).unwrap(), ours);
    }

    /// Of a file's `missing_origin` and the `missingOrigin` that was spread over it, one would be lost without a word.
    #[test]
    fn an_option_in_both_spellings_is_stated_twice() {
        for (text, option) in [
            (r#"{"missing_origin": "allow", "missingOrigin": "deny"}"#, "missing_origin"),
            (r#"{"rateLimit": {"per_second": 1, "perSecond": 2}}"#, "rateLimit.per_second"),
            (r#"{"routes": {"/a": {"max_fragments": 1, "maxFragments": 2}}}"#, "routes./a.max_fragments"),
        ] {
            let error = parse_in(text, Spelling { takes_snake: true }).unwrap_err();
            assert_eq!((error.code(), error.option()), ("contradiction", Some(option)));
        }
    }

    #[test]
    fn the_core_s_spelling_is_not_ours() {
        let error = parse(r#"{"rate_limit": null}"#).unwrap_err();
        assert_eq!((error.code(), error.option()), ("unknown_option", Some("rate_limit")));
        let error = parse(r#"{"auth": {"tokens": [{}, {"user_claim": ""}]}}"#).unwrap_err();
        assert_eq!((error.code(), error.option()), ("unknown_option", Some("auth.tokens[1].user_claim")));
        let error = parse(r#"{"rateLimit": {"per_second": 1}}"#).unwrap_err();
        assert_eq!((error.code(), error.option()), ("unknown_option", Some("rateLimit.per_second")));
        let error = parse(r#"{"events": {"a": {"Cost": 1}}}"#).unwrap_err();
        assert_eq!((error.code(), error.option()), ("unknown_option", Some("events.a.Cost")));
    }
}
