//! Options from Node: the object as JSON text, names in camelCase, to the core's [`Options`].

use serde_json::{Map, Value};
use wsguard::binding::{ConfigError, ConfigErrorKind, Error, Options};

use crate::names;

/// Reads options. Errors name the option as Node spells it.
pub(crate) fn parse(json: &str) -> Result<Options, Error> {
    let value = serde_json::from_str(json).map_err(|error| ConfigError::invalid("options", error.to_string()))?;
    Ok(Options::from_value(&respelled(value)?)?)
}

/// Option names become the core's, at every level but where the names are the application's own: events, their schemas,
/// the ids of keys.
fn respelled(value: Value) -> Result<Value, ConfigError> {
    Ok(match value {
        Value::Array(items) => {
            let item = |(index, item)| respelled(item).map_err(|error| within(&format!("[{index}]"), error));
            Value::Array(items.into_iter().enumerate().map(item).collect::<Result<_, _>>()?)
        }
        Value::Object(options) => Value::Object(options.into_iter().map(option).collect::<Result<_, _>>()?),
        other => other,
    })
}

fn option((key, value): (String, Value)) -> Result<(String, Value), ConfigError> {
    let spelling = names::camel(&key);
    if spelling != key && names::snake(&spelling).is_some() {
        let message = format!("unknown option; it is spelled `{spelling}` in JavaScript");
        return Err(ConfigError { kind: ConfigErrorKind::UnknownOption, option: key, message });
    }
    let value = match (key.as_str(), value) {
        ("schema" | "keys" | "key", value) => value,
        ("events", Value::Object(events)) => {
            Value::Object(respelled_inside(events).map_err(|error| within(&key, error))?)
        }
        (_, value) => respelled(value).map_err(|error| within(&key, error))?,
    };
    Ok((names::snake(&key).map_or(key, str::to_owned), value))
}

fn respelled_inside(events: Map<String, Value>) -> Result<Map<String, Value>, ConfigError> {
    let event = |(name, event): (String, Value)| match respelled(event) {
        Ok(event) => Ok((name, event)),
        Err(error) => Err(within(&name, error)),
    };
    events.into_iter().map(event).collect()
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
        assert_eq!(respelled(given).unwrap(), ours);
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
