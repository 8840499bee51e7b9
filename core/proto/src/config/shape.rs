//! The words for options of a wrong name or type. What the parser says itself is for Rust programmers and repeats
//! values, which may be secrets: of its errors only the place and the kind of fault are used.

use serde_json::Value;

use super::accepted;
use crate::config_error::{ConfigError, ConfigErrorKind};
use crate::unambiguous::TWICE;

/// Options with names must be objects: serde would take a list for them, by position.
pub(super) fn check_objects(options: &Value) -> Result<(), ConfigError> {
    let refuse = |option: &str, value: &Value| {
        if value.is_array() { Err(wrong_type(option, "a list")) } else { Ok(()) }
    };
    refuse("options", options)?;
    for option in ["json_limits", "rate_limit", "control_rate_limit", "handshakes_per_ip", "tls", "events", "auth"] {
        refuse(option, &options[option])?;
    }
    refuse("auth.jwt", &options["auth"]["jwt"])?;
    for (index, token) in options["auth"]["tokens"].as_array().into_iter().flatten().enumerate() {
        refuse(&format!("auth.tokens[{index}]"), token)?;
    }
    for (name, event) in options["events"].as_object().into_iter().flatten() {
        refuse(&format!("events.{name}"), event)?;
    }
    Ok(())
}

/// The text is not JSON at all. The parser tells the place and the kind, and nothing of the text.
pub(super) fn syntax_error(error: &serde_json::Error) -> ConfigError {
    ConfigError::invalid("options", format!("are not valid JSON: {error}"))
}

/// The parser's error as ours.
pub(super) fn error(error: &serde_path_to_error::Error<serde_json::Error>) -> ConfigError {
    let text = error.inner().to_string();
    let path = match error.path().to_string() {
        path if path == "." => String::new(),
        path => path,
    };
    let mut quoted = text.split('`').skip(1).step_by(2);
    let name = quoted.next().unwrap_or_default();
    let at = |path: &str| if path.is_empty() { "options".to_owned() } else { path.to_owned() };
    if text.starts_with("unknown field") {
        return unknown(&path, name, &quoted.collect::<Vec<_>>());
    }
    if text.starts_with(TWICE) {
        return twice(&at(&path), &path, name);
    }
    if text.starts_with("missing field") {
        let what = accepted::words(&join(&path, name)).unwrap_or_else(|| "a value".to_owned());
        return ConfigError::invalid(at(&path), format!("needs `{name}`: {what}"));
    }
    if text.starts_with("two ways") {
        return ConfigError::contradiction(path, format!("gives more than one way; must be one of {}", accepted::AUTH));
    }
    wrong_type(&at(&path), got(&text, &path).as_deref().unwrap_or("something else"))
}

/// A name that an object has twice. It is repeated where it is surely one.
fn twice(option: &str, path: &str, name: &str) -> ConfigError {
    if looks_like_an_option(name, holds_credentials(path)) {
        return ConfigError::invalid(join(path, name), "is given twice");
    }
    ConfigError::invalid(option, "has a name twice")
}

fn wrong_type(option: &str, got: &str) -> ConfigError {
    let message = match accepted::words(option) {
        Some(words) => format!("must be {words}, got {got}"),
        None => format!("cannot be {got}"),
    };
    ConfigError::invalid(option, message)
}

fn join(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") }
}

/// What was given in place of what is accepted. Texts are never repeated; numbers only where no credential belongs.
fn got(text: &str, path: &str) -> Option<String> {
    if text.starts_with("unknown variant") {
        return Some("another string".to_owned());
    }
    let given = text.strip_prefix("invalid type: ").or_else(|| text.strip_prefix("invalid value: "));
    let Some(given) = given else { return text.starts_with("invalid length").then(|| "an empty object".to_owned()) };
    let number = given.split('`').nth(1).filter(|_| !holds_credentials(path));
    let numbered = |kind: &str| number.map_or_else(|| kind.to_owned(), str::to_owned);
    Some(match given.split([' ', ',']).next()? {
        "string" if text.starts_with("invalid value") => "another string".to_owned(),
        "string" => "a string".to_owned(),
        "integer" => numbered("a whole number"),
        "floating" => numbered("a fraction"),
        "boolean" => numbered("true or false"),
        "null" | "unit" | "Option" => "null".to_owned(),
        "map" => "an object".to_owned(),
        "sequence" => "a list".to_owned(),
        _ => return None,
    })
}

/// Whether what is below `path` may be a credential, or the name of something that was one.
fn holds_credentials(path: &str) -> bool {
    path.starts_with("auth") || path.starts_with("tls")
}

/// A name that is not an option: what was meant, or which there are.
fn unknown(path: &str, name: &str, known: &[&str]) -> ConfigError {
    // The path of an unknown name ends in it.
    let parent = path.strip_suffix(name).unwrap_or(path).trim_end_matches('.');
    let list = known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let meant = known.iter().find(|known| **known == snake_case(name));
    let message = match (meant, nearest(name, known)) {
        (Some(meant), _) => format!("unknown option; it is spelled `{meant}` here"),
        (None, Some(near)) => format!("unknown option; did you mean `{near}`?"),
        _ if is_event(parent) && SCHEMA_WORDS.contains(&name) => {
            "unknown option; it is a word of JSON Schema: put the schema under `schema`".to_owned()
        }
        _ => format!("unknown option, expected one of {list}"),
    };
    let is_known = meant.is_some() || nearest(name, known).is_some();
    if !is_known && !looks_like_an_option(name, holds_credentials(parent)) {
        let message = format!("has a name that is no option, expected one of {list}");
        let option = if parent.is_empty() { "options" } else { parent };
        return ConfigError { kind: ConfigErrorKind::UnknownOption, option: option.to_owned(), message };
    }
    ConfigError { kind: ConfigErrorKind::UnknownOption, option: join(parent, name), message }
}

/// Whether a name may be repeated. Whoever writes `{"TOKEN": "alice"}` in place of a list of tokens has a credential for a
/// name: where credentials belong, only words in small letters are taken for names.
fn looks_like_an_option(name: &str, among_credentials: bool) -> bool {
    let may_have = |byte: u8| {
        byte.is_ascii_lowercase()
            || byte == b'_'
            || !among_credentials && (byte.is_ascii_uppercase() || b"-$".contains(&byte))
    };
    !name.is_empty() && name.len() <= if among_credentials { 24 } else { 40 } && name.bytes().all(may_have)
}

/// Whether `path` is `events.NAME`.
fn is_event(path: &str) -> bool {
    path.starts_with("events.")
}

/// Words of JSON Schema 2020-12 that a schema begins with.
const SCHEMA_WORDS: [&str; 31] = [
    "type",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "prefixItems",
    "enum",
    "const",
    "oneOf",
    "anyOf",
    "allOf",
    "not",
    "if",
    "then",
    "else",
    "minLength",
    "maxLength",
    "pattern",
    "format",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minItems",
    "maxItems",
    "uniqueItems",
    "$ref",
    "$defs",
    "$schema",
    "patternProperties",
];

/// `maxMessageBytes` and `max-message-bytes` as `max_message_bytes`.
fn snake_case(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 4);
    let mut after_small = false;
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && after_small {
            snake.push('_');
        }
        after_small = letter.is_ascii_lowercase() || letter.is_ascii_digit();
        snake.push(if letter == '-' { '_' } else { letter.to_ascii_lowercase() });
    }
    snake
}

/// The known name that differs from `name` by a slip of the keys: at most a third of its letters, and three.
fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    if name.len() > 64 {
        return None;
    }
    let given = snake_case(name);
    let distances = known.iter().map(|known| (distance(given.as_bytes(), known.as_bytes()), *known));
    let (distance, near) = distances.min()?;
    (distance <= (near.len() / 3).clamp(1, 3)).then_some(near)
}

/// Letters to insert, remove, replace or swap with their neighbour until `a` is `b`.
fn distance(a: &[u8], b: &[u8]) -> usize {
    let (mut before, mut last) = (vec![0; b.len() + 1], (0..=b.len()).collect::<Vec<_>>());
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1; b.len() + 1];
        for (j, y) in b.iter().enumerate() {
            row[j + 1] = (last[j] + usize::from(x != y)).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                row[j + 1] = row[j + 1].min(before[j - 1] + 1);
            }
        }
        before = core::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_near_by_slips_of_the_keys() {
        let known = ["origins", "max_connections", "key", "keys", "listen", "cost"];
        for (name, near) in [
            ("origin", Some("origins")),
            ("orgins", Some("origins")),
            ("max_conections", Some("max_connections")),
            ("maxConections", Some("max_connections")),
            ("lsiten", Some("listen")),
            ("kye", Some("key")),
            ("Cost", Some("cost")),
            ("password", None),
            ("", None),
            ("x", None),
        ] {
            assert_eq!(nearest(name, &known), near, "{name}");
        }
        assert_eq!(nearest(&"a".repeat(100_000), &known), None, "no work for what is no name");
    }

    #[test]
    fn names_are_spelled_with_underscores() {
        for (name, snake) in
            [("maxMessageBytes", "max_message_bytes"), ("max-fragments", "max_fragments"), ("tls", "tls")]
        {
            assert_eq!(snake_case(name), snake);
        }
    }
}
