//! A secret, wherever it stands among the options, is in no error and not in the policy's line.

use proptest::prelude::*;
use serde_json::{Value, json};

use wsguard_proto::config::Options;

use super::{compile, tls_error};

const MARKER: &str = "Zx9-SECRET-Q7v";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
}

/// The marker as it is, and in the forms in which a library might show it.
fn shows_marker(text: &str) -> bool {
    let bytes = MARKER.as_bytes();
    let decimal = bytes.iter().map(u8::to_string).collect::<Vec<_>>();
    let hex = hex(bytes);
    let base64 = ["Wng5LVNFQ1JF", "WuDktU0VDUkVU", "aeDktU0VDUk", "p4OS1TRUNSRV"];
    let parts = |parts: &[String], between: &str| text.contains(&parts[3..8].join(between));
    text.contains("SECRET")
        || text.to_lowercase().contains(&hex[6..16])
        || parts(&decimal, ", ")
        || parts(&decimal, " ")
        || base64.iter().any(|form| text.contains(form))
}

/// Options that use everything, without secrets.
fn options() -> Value {
    json!({
        "listen": "127.0.0.1:0",
        "unix_mode": null,
        "reuse_port": false,
        "threads": 1,
        "paths": ["/a"],
        "origins": ["https://a.example"],
        "missing_origin": "deny",
        "hosts": ["a.example"],
        "auth": {"tokens": [{"token": "good", "user": "alice"}, {"sha256": "00", "user": "bob"}]},
        "token_sources": ["bearer"],
        "subprotocols": ["chat"],
        "protocol": "json",
        "events": {"say": {"cost": 1}},
        "json_limits": {"max_depth": 3},
        "rate_limit": {"per_second": 1, "burst": 2, "key": "user"},
        "control_rate_limit": null,
        "handshakes_per_ip": {"burst": 3},
        "max_message_bytes": 100,
        "drain_close_code": 1012,
        "tls": {"cert": "c", "key": "k", "client_ca": null, "min_version": "1.2"},
        "trusted_proxies": ["10.0.0.1"],
        "on_violation": "enforce",
        "server_header": null,
    })
}

fn jwt() -> Value {
    json!({"jwt": {"algorithms": ["HS256"], "key": "k", "keys": {"kid": "k"}, "issuer": "i", "audience": ["a"],
        "leeway_s": 1, "user_claim": "sub"}})
}

fn fetched() -> Value {
    json!({"jwt": {"algorithms": ["ES256"], "jwks_url": "https://issuer.example/", "jwks_ca": "c", "jwks_max_age_s": 60,
        "jwks_stale_s": 0}})
}

fn places(value: &Value, path: &str, found: &mut Vec<String>) {
    found.push(path.to_owned());
    match value {
        Value::Object(members) => {
            members.iter().for_each(|(name, value)| places(value, &format!("{path}/{name}"), found));
        }
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(index, value)| places(value, &format!("{path}/{index}"), found));
        }
        _ => {}
    }
}

/// The marker in a value of any type.
fn forms() -> Vec<Value> {
    vec![
        json!(MARKER),
        json!([MARKER]),
        json!({ "token": MARKER }),
        json!({ MARKER: MARKER }),
        json!([{ MARKER: "alice" }]),
        json!([[MARKER, "alice"]]),
        json!(MARKER.as_bytes()),
        json!(format!("redis://:{MARKER}@host:6379")),
        json!(format!("https://user:{MARKER}@a.example")),
        json!(format!("/{MARKER}")),
        json!(format!("{MARKER}\n{MARKER}")),
        json!(format!("-----BEGIN PRIVATE KEY-----\\n{MARKER}\\n-----END PRIVATE KEY-----")),
        json!({"jwt": {"key": MARKER, "algorithms": [MARKER]}}),
        json!({"tokens": { MARKER: "alice" }}),
        json!({"tokens": [{"token": MARKER, "user": 1}]}),
        json!({"tokens": [{"token": MARKER, "sha256": MARKER, "user": "a"}]}),
        json!({"tokens": [{"token": MARKER, MARKER: "a"}]}),
    ]
}

fn check(options: &Value) {
    let outcomes = [Options::from_value(options), Options::from_json(&options.to_string())];
    for outcome in outcomes {
        let shown = match outcome.and_then(compile) {
            Err(error) => format!("{error} {error:?}"),
            Ok(policy) => format!("{policy} {:?} {:?}", policy.top.tls.as_ref().map(tls_error), policy.top.tls),
        };
        assert!(!shows_marker(&shown), "{shown}\nof {options}");
    }
}

#[test]
fn a_secret_in_any_place_is_in_no_error() {
    for auth in [options()["auth"].clone(), jwt(), json!({"jwt": {"algorithms": ["ES256"], "key": "k"}}), fetched()] {
        let mut base = options();
        base["auth"] = auth;
        let mut found = Vec::new();
        places(&base, "", &mut found);
        for place in &found {
            for form in forms() {
                // The name of an event, of a key or of a claim is no secret: the application chose it to be read.
                let named = place.starts_with("/events") && form.is_object();
                let kids = place.ends_with("/keys") || place.ends_with("/auth/jwt/keys");
                if named || kids && form.is_object() {
                    continue;
                }
                let mut options = base.clone();
                *options.pointer_mut(place).unwrap() = form;
                check(&options);
            }
        }
    }
}

#[test]
fn the_marker_would_be_found() {
    for text in [
        MARKER.to_owned(),
        format!("{:?}", MARKER.as_bytes()),
        hex(MARKER.as_bytes()).to_uppercase(),
        "Wng5LVNFQ1JFVC1RN3Y=".to_owned(),
    ] {
        assert!(shows_marker(&text), "{text}");
    }
}

proptest! {
    #[test]
    fn secrets_in_two_places_with_damage(
        first in 0..1000_usize,
        second in 0..1000_usize,
        forms_of in (0..1000_usize, 0..1000_usize),
        cut in 0..4000_usize,
    ) {
        let mut options = options();
        options["auth"] = if first % 2 == 0 { jwt() } else { options["auth"].clone() };
        for (place, form) in [(first, forms_of.0), (second, forms_of.1)] {
            let mut found = Vec::new();
            places(&options, "", &mut found);
            found.retain(|place| !place.starts_with("/events") && !place.contains("/keys"));
            let forms = forms();
            let place = found[place % found.len()].clone();
            if let Some(value) = options.pointer_mut(&place) {
                *value = forms[form % forms.len()].clone();
            }
        }
        check(&options);
        // A text that is cut off, too.
        let text = options.to_string();
        let end = (0..=cut.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        if let Err(error) = Options::from_json(&text[..end]) {
            prop_assert!(!shows_marker(&format!("{error} {error:?}")), "{error}");
        }
    }
}
