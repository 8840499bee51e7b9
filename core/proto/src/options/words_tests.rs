//! Every option, with every wrong type: the error names the option, says what is accepted, and speaks no Rust.

use serde_json::{Value, json};

use super::table_tests::paths;
use super::{Options, Shape};
use crate::config::PolicySet;
use crate::config_error::{ConfigError, ConfigErrorKind};
use crate::files::Disk;

/// A policy in which every section is present.
fn whole() -> Value {
    json!({
        "origins": ["https://a.example"],
        "paths": ["/"],
        "routes": {"say": {}},
        "hosts": ["a.example"],
        "auth": {"tokens": [{"token": "good", "user": "alice", "roles": ["admin"]}]},
        "token_sources": ["bearer"],
        "subprotocols": ["chat"],
        "keep_headers": ["user-agent"],
        "keep_cookies": ["theme"],
        "events": {"say": {"cost": 1, "roles": ["admin"]}},
        "tls": {"cert": "c", "key": "k"},
        "trusted_proxies": ["10.0.0.1"],
        "deny_ips": ["10.0.0.1"],
    })
}

/// `whole()` with `value` at `path`, which may lie in a section of its own.
fn with(path: &str, value: Value) -> Value {
    let mut options = whole();
    if path == "options" {
        return value;
    }
    if path.starts_with("auth.jwt") {
        options["auth"] = json!({"jwt": {"algorithms": ["ES256"], "key": "k"}});
    }
    let mut place = &mut options;
    for part in path.replace('*', "say").split('.') {
        let (name, index) = part.split_once('[').map_or((part, None), |(name, _)| (name, Some(0)));
        place = &mut place[name];
        if let Some(index) = index {
            place = &mut place[index];
        }
    }
    *place = value;
    options
}

const FORBIDDEN: [&str; 24] = [
    "usize",
    "u64",
    "u32",
    "u16",
    "i64",
    "f64",
    "struct",
    "sequence",
    "map",
    "expected a",
    "variant",
    "unit",
    "newtype",
    "entity",
    "serde",
    "Option",
    "enum",
    "tuple",
    "bool",
    "invalid type",
    "invalid value",
    "unknown field",
    "integer",
    "floating",
];

fn refused(options: &Value) -> Option<ConfigError> {
    let from_value = Options::from_value(options).and_then(|options| PolicySet::compile(options, &Disk)).err();
    let from_text =
        Options::from_json(&options.to_string()).and_then(|options| PolicySet::compile(options, &Disk)).err();
    assert_eq!(from_value, from_text, "{options}");
    from_value
}

fn check_words(error: &ConfigError, options: &Value) {
    let shown = error.to_string();
    for word in FORBIDDEN {
        assert!(
            !shown.split(['`', '"']).step_by(2).any(|text| text.contains(word)),
            "{word} in {shown:?} of {options}"
        );
    }
    assert!(!shown.ends_with('.'), "{shown}");
}

#[test]
fn every_option_with_every_wrong_type() {
    let values = [
        json!(null),
        json!(true),
        json!(-1),
        json!(1.5),
        json!(7),
        json!(1e300),
        json!(u64::MAX),
        json!("64k"),
        json!([]),
        json!([[]]),
        json!([1]),
        json!({}),
        json!({"x y": 1}),
    ];
    for (path, shape) in paths() {
        // Any JSON may stand there, and is judged elsewhere.
        if matches!(shape, Shape::Any) {
            continue;
        }
        let mut errors = 0;
        for value in &values {
            let options = with(&path, value.clone());
            let Some(error) = refused(&options) else { continue };
            check_words(&error, &options);
            let name = path.replace("[]", "[0]").replace('*', "say");
            if error.option != name || error.kind != ConfigErrorKind::InvalidOption {
                continue;
            }
            errors += 1;
        }
        assert!(errors >= 3, "{path}: only {errors} wrong types are refused with its name");
    }
}

#[test]
fn wrong_types_are_told_in_plain_words() {
    for (path, value, message) in [
        ("max_message_bytes", json!("64k"), "must be a whole number of bytes from 1 to 1073741824, got a string"),
        ("max_message_bytes", json!(-1), "must be a whole number of bytes from 1 to 1073741824, got -1"),
        ("max_message_bytes", json!(1.5), "must be a whole number of bytes from 1 to 1073741824, got 1.5"),
        ("max_message_bytes", json!(0), "must be a whole number of bytes from 1 to 1073741824, got 0"),
        ("ping_interval_ms", json!(null), "must be a whole number of milliseconds from 0 to 315360000000, got null"),
        ("origins", json!("http://a.example"), "must be a list, e.g. [\"https://app.example.com\"], got a string"),
        ("listen", json!(8080), "must be a string: \"127.0.0.1:8080\", \"unix:/run/app.sock\" or \"fd:3\", got 8080"),
        (
            "rate_limit",
            json!(false),
            "must be an object such as {\"per_second\": 20, \"burst\": 40}, or null to disable it, got false",
        ),
        (
            "auth",
            json!(["abc"]),
            "must be \"callback\", \"none\", {\"tokens\": [{\"token\": \"…\", \"user\": \"…\"}]} or {\"jwt\": {…}}, got a list",
        ),
        ("missing_origin", json!("maybe"), "must be \"deny\" or \"allow\", got another string"),
        ("tls", json!({"cert": "c"}), "needs `key`: a string: a PEM text, or the path of a PEM file"),
        ("drain_close_code", json!(1000), "must be 1012 or 1001, got 1000"),
        ("drain_close_code", json!(70_000), "must be 1012 or 1001, got 70000"),
    ] {
        let error = refused(&with(path, value)).unwrap();
        assert_eq!((error.option.as_str(), error.message.as_str()), (path, message));
    }
}

#[test]
fn a_wrong_name_says_what_was_meant() {
    for (wrong, option, message) in [
        (json!({"origin": []}), "origin", "did you mean `origins`?"),
        (json!({"max_conections": 1}), "max_conections", "did you mean `max_connections`?"),
        (json!({"maxMessageBytes": 1}), "maxMessageBytes", "it is spelled `max_message_bytes` here"),
        (json!({"max-message-bytes": 1}), "max-message-bytes", "it is spelled `max_message_bytes` here"),
        (json!({"rate_limit": {"perSecond": 1}}), "rate_limit.perSecond", "it is spelled `per_second` here"),
        (json!({"compression_level": 1}), "compression_level", "expected one of `listen`"),
        (json!({"events": {"say": {"type": "string"}}}), "events.say.type", "put the schema under `schema`"),
        (json!({"events": {"say": {"properties": {}}}}), "events.say.properties", "put the schema under `schema`"),
        (json!({"auth": {"oauth": {}}}), "auth.oauth", "expected one of `tokens`, `jwt`"),
        (json!({"auth": {"token": []}}), "auth.token", "did you mean `tokens`?"),
        (json!({"auth": {"jwt": {"algorithm": []}}}), "auth.jwt.algorithm", "did you mean `algorithms`?"),
        (json!({"tls": {"cret": "", "key": ""}}), "tls.cret", "did you mean `cert`?"),
        (json!({"rate_limit": {"rate_limit": 1}}), "rate_limit.rate_limit", "expected one of `per_second`"),
        (json!({"events": {"events": {"events": 1}}}), "events.events.events", "expected one of `schema`, `cost`"),
    ] {
        let error = Options::from_value(&wrong).unwrap_err();
        assert_eq!((error.kind, error.option.as_str()), (ConfigErrorKind::UnknownOption, option), "{error}");
        assert!(error.message.starts_with("unknown option") && error.message.contains(message), "{error}");
    }
}

/// Whatever signs a name holds, no part of it is taken for something else, and it is shown harmless or not at all.
#[test]
fn names_are_no_words_of_an_error() {
    let marks =
        ["`", "``", "` `", "`,`", "\"", "\n", "\u{1b}[31m", ".", "[0]", "unknown field `", "missing field `", " "];
    for mark in marks {
        let name = format!("a{mark}SECRET{mark}`b`{mark}");
        for options in [
            json!({&name: 1}),
            json!({"tls": {&name: 1}}),
            json!({"rate_limit": {&name: 1}}),
            json!({"auth": {&name: 1}}),
            json!({"auth": {"jwt": {&name: 1}}}),
            json!({"auth": {"tokens": [{&name: 1}]}}),
            json!({"auth": {"tokens": [], &name: 1}}),
            json!({"missing_origin": {&name: 1}}),
            json!({"missing_origin": name}),
            json!({"rate_limit": {"key": name}}),
            json!({"events": {"say": {&name: 1}}}),
        ] {
            let error = Options::from_value(&options).unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains("SECRET") && !error.to_string().contains(char::is_control), "{shown}");
        }
        for text in [
            format!("{{{0}: 1, {0}: 1}}", json!(name)),
            format!(r#"{{"auth": {{"jwt": {{"keys": {{{0}: {{"a": 1, "a": 2}}}}}}}}}}"#, json!(name)),
            format!(r#"{{"auth": {{"jwt": {{"keys": {{{0}: 1, {0}: 2}}}}}}}}"#, json!(name)),
        ] {
            let error = Options::from_json(&text).unwrap_err();
            assert!(!format!("{error:?}").contains("SECRET"), "{error}");
        }
        // The name of an event is one that the application chose to be read.
        let event = Options::from_value(&json!({"events": {&name: {"cost": "1"}}})).unwrap_err();
        assert!(event.option.contains("SECRET") && !event.option.contains(char::is_control), "{event}");
        assert_eq!(event.message, "must be a number, e.g. 1, got a string");
    }
    let long = Options::from_value(&json!({"events": {"x".repeat(100_000): {"cost": "1"}}})).unwrap_err();
    assert!(long.option.starts_with("events.xxx") && long.to_string().len() < 300, "{long}");
}

/// An option is told by its place, whatever stands around it.
#[test]
fn a_member_given_twice_is_named_where_it_is_an_option() {
    for (text, told) in [
        (r#"{"threads": 1, "threads": 2}"#, "threads: is given twice"),
        (r#"{"paths": [], "hosts": [], "paths": []}"#, "paths: is given twice"),
        (r#"{"events": {"a b": {}, "a b": {}}}"#, "events: has a name twice"),
        (
            r#"{"events": {"say": {"schema": {"enum": [{}, {"x1": 1, "x1": 2}]}}}}"#,
            "events.say.schema.enum[1]: has a name twice",
        ),
        (
            r#"{"events": {"say": {"schema": {"enum": [{}, {"x": 1, "x": 2}]}}}}"#,
            "events.say.schema.enum[1].x: is given twice",
        ),
        (r#"{"auth": {"tokens": [], "tokens": []}}"#, "auth.tokens: is given twice"),
        (r#"{"auth": {"jwt": {"keys": {"K7": {"kty": 1, "kty": 2}}}}}"#, "auth.jwt.keys.*.kty: is given twice"),
    ] {
        assert_eq!(Options::from_json(text).unwrap_err().to_string(), told);
    }
}

#[test]
fn a_section_that_is_read_by_itself_shows_no_credential() {
    use super::{JwtOptions, RateLimit, TlsOptions, TokenEntry};

    let token = |value: Value| serde_json::from_value::<TokenEntry>(value).unwrap_err().to_string();
    assert_eq!(token(json!({"token": 31_337, "user": "a"})), "token: must be a string, got a whole number");
    assert_eq!(token(json!({"sha256": 3.5, "user": "a"})).rsplit(' ').next(), Some("fraction"));
    assert!(token(json!({"roles": [31_337], "token": "a", "user": "a"})).starts_with("roles[0]: "));
    let hidden = [
        token(json!(31_337)),
        token(json!({"S3cr3t-31337": "alice"})),
        serde_json::from_value::<TlsOptions>(json!({"cert": 31_337, "key": "k"})).unwrap_err().to_string(),
        serde_json::from_value::<JwtOptions>(json!({"algorithms": [31_337]})).unwrap_err().to_string(),
    ];
    for error in hidden {
        assert!(!error.contains("31337"), "{error}");
    }
    let rate = serde_json::from_value::<RateLimit>(json!({"queue": -7})).unwrap_err().to_string();
    assert!(rate.starts_with("queue: ") && rate.ends_with("got -7"), "what is no credential helps: {rate}");
}
