//! A policy as it may be shown: every option with what it is, and of a secret its length alone.

use serde_json::{Map, Value, json};
use wsguard::binding::{Options, Section, Shape};

/// The members of an object of options, secrets replaced.
pub(crate) fn members(given: &Map<String, Value>, section: &'static Section) -> Map<String, Value> {
    let shown = given.iter().map(|(name, value)| {
        let shown = match section.find(name) {
            Some(option) if option.is_secret() => secret(name, value),
            Some(option) => inside(value, &option.shape),
            None => value.clone(),
        };
        (name.clone(), shown)
    });
    shown.collect()
}

fn inside(value: &Value, shape: &'static Shape) -> Value {
    match (value, shape) {
        (Value::Array(items), Shape::List { item, .. }) => {
            Value::Array(items.iter().map(|one| inside(one, item)).collect())
        }
        (Value::Object(items), Shape::Map { item, .. }) => {
            Value::Object(items.iter().map(|(name, one)| (name.clone(), inside(one, item))).collect())
        }
        (Value::Object(given), Shape::Section { section, .. } | Shape::Ways { section, .. }) => {
            Value::Object(members(given, section))
        }
        (Value::Object(given), Shape::Route(_)) => Value::Object(members(given, Options::table())),
        (other, _) => other.clone(),
    }
}

/// Whether a key is given by the path of its file.
pub(super) fn is_path(text: &str) -> bool {
    text.len() <= 512 && std::path::Path::new(text).is_file()
}

/// What is said in place of a secret.
fn secret(name: &str, value: &Value) -> Value {
    match value {
        Value::Null => Value::Null,
        Value::String(text) if text.contains("-----BEGIN") => json!(format!("[PEM, {} bytes]", text.len())),
        // Only where it is one: a key that lost its BEGIN line must not be taken for a path.
        Value::String(text) if is_path(text) => json!(text),
        Value::String(text) if name == "sha256" => json!(format!("[SHA-256, {} digits]", text.len())),
        Value::String(text) if matches!(name, "url" | "jwks_url") => json!(without_credentials(text)),
        Value::String(text) => json!(format!("[secret, {} bytes]", text.len())),
        Value::Object(keys) => json!(format!("[{} members]", keys.len())),
        Value::Array(keys) => json!(format!("[{} keys]", keys.len())),
        _ => json!("[secret]"),
    }
}

/// Scheme and hosts of a URL: neither user and password, nor a query.
fn without_credentials(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return "[a URL]".to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let authority = &rest[..end];
    let hosts = authority.rsplit_once('@').map_or(authority, |(_, hosts)| hosts);
    let path = rest[end..].split(['?', '#']).next().unwrap_or_default();
    format!("{scheme}://{hosts}{path}")
}

/// Whether a policy holds a secret itself, not only the path of one.
pub(crate) fn holds_secrets(stated: &Value) -> bool {
    let Some(given) = stated.as_object() else { return false };
    let text = |path: &str| stated.pointer(path).and_then(Value::as_str);
    let is_password = |url: &str| {
        let login = url.split_once("://").and_then(|(_, rest)| rest.rsplit_once('@')).map(|(login, _)| login);
        login.and_then(|login| login.split_once(':')).is_some_and(|(_, password)| !password.is_empty())
    };
    let routes = given.get("routes").and_then(Value::as_object).into_iter().flat_map(Map::values);
    let jwts = std::iter::once(stated).chain(routes).filter_map(|some| some.pointer("/auth/jwt"));
    let mut keys = jwts.flat_map(|jwt| ["key", "keys"].into_iter().filter_map(move |name| jwt.get(name)));
    has_secret(&Value::Object(members(given, Options::table())))
        || keys.any(is_secret_key)
        || text("/tls/key").is_some_and(|key| key.contains("-----BEGIN"))
        || text("/cluster/url").is_some_and(is_password)
}

/// Whether a key, or one of several, verifies and makes tokens alike: one of HMAC.
fn is_secret_key(key: &Value) -> bool {
    match key {
        Value::String(text) => !is_path(text) && !text.contains("-----BEGIN"),
        Value::Array(keys) => keys.iter().any(is_secret_key),
        Value::Object(jwk) if jwk.contains_key("kty") => jwk["kty"] == "oct",
        Value::Object(entry) if entry.contains_key("key") => is_secret_key(&entry["key"]),
        Value::Object(keys) => keys.values().any(is_secret_key),
        _ => false,
    }
}

fn has_secret(shown: &Value) -> bool {
    match shown {
        Value::String(text) => text.starts_with("[secret, "),
        Value::Array(items) => items.iter().any(has_secret),
        Value::Object(items) => items.values().any(has_secret),
        _ => false,
    }
}

/// Every option of the top as it counts, and whether it is the default.
pub(crate) fn in_force(stated: &Map<String, Value>) -> Vec<(&'static str, Value, bool)> {
    let shown = members(stated, Options::table());
    let rows = Options::table().options.iter().filter(|option| option.name != "routes");
    let row = |option: &'static wsguard_proto::options::OptionInfo| match shown.get(option.name) {
        Some(value) => (option.name, value.clone(), false),
        None => (option.name, serde_json::from_str(&option.default_json()).unwrap_or(Value::Null), true),
    };
    rows.map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_secret_only_its_length_is_shown() {
        let policy = json!({
            "auth": {"tokens": [{"token": "hunter2hunter2", "user": "alice"}, {"sha256": "ab".repeat(32), "user": "bob"}]},
            "routes": {"/a": {"auth": {"jwt": {"algorithms": ["HS256"], "key": "0123456789", "keys": {"k": "abcabc"}, "issuer": "i"}}}},
            "cluster": {"url": "rediss://user:pa@ss@redis.example:6379/1?x=y"},
            "tls": {"cert": "-----BEGIN CERTIFICATE-----", "key": "no such file"},
            "events": {"token": {"schema": {"const": "kept"}}},
        });
        let shown = Value::Object(members(policy.as_object().unwrap(), Options::table()));
        assert_eq!(
            shown["auth"]["tokens"],
            json!([{"token": "[secret, 14 bytes]", "user": "alice"}, {"sha256": "[SHA-256, 64 digits]", "user": "bob"}])
        );
        let jwt = &shown["routes"]["/a"]["auth"]["jwt"];
        assert_eq!(
            (&jwt["key"], &jwt["keys"], &jwt["issuer"]),
            (&json!("[secret, 10 bytes]"), &json!("[1 members]"), &json!("i"))
        );
        assert_eq!(shown["cluster"]["url"], "rediss://redis.example:6379/1");
        assert_eq!(shown["tls"], json!({"cert": "[PEM, 27 bytes]", "key": "[secret, 12 bytes]"}));
        assert_eq!(shown["events"]["token"]["schema"]["const"], "kept");
        let text = shown.to_string();
        for secret in ["hunter2", "0123456789", "abcabc", "pa@ss", "no such"] {
            assert!(!text.contains(secret), "{secret}");
        }
        assert!(holds_secrets(&policy) && !holds_secrets(&json!({"auth": "none"})));
        assert!(holds_secrets(&json!({"tls": {"cert": "a.pem", "key": "-----BEGIN PRIVATE KEY-----"}})));
        let public = json!({"kty": "RSA", "n": "x", "e": "AQAB", "kid": "a"});
        let secret = json!({"kty": "oct", "k": "x"});
        for (jwt, is_secret) in [
            (json!({"keys": {"a": "0123456789abcdef"}}), true),
            (json!({"keys": [{"kid": "a", "key": "0123456789abcdef"}]}), true),
            (json!({"keys": {"keys": [public, secret]}}), true),
            (json!({"key": secret}), true),
            (json!({"keys": {"keys": [public]}}), false),
            (json!({"key": "-----BEGIN PUBLIC KEY-----"}), false),
            (json!({"jwks_url": "https://issuer.example/keys"}), false),
        ] {
            assert_eq!(holds_secrets(&json!({"auth": {"jwt": jwt}})), is_secret, "{jwt}");
            assert_eq!(holds_secrets(&json!({"routes": {"/a": {"auth": {"jwt": jwt}}}})), is_secret, "{jwt}");
        }
        let cluster = |url: &str| holds_secrets(&json!({"cluster": {"url": url}}));
        assert!(cluster("rediss://user:pass@redis.example:6379") && cluster("redis://:p@a,b"));
        assert!(!cluster("rediss://user@redis.example:6379/1?a=b:c") && !cluster("unix:/run/redis.sock"));
    }

    #[test]
    fn every_option_is_in_force_with_its_default_marked() {
        let stated = json!({"auth": "none", "max_fragments": 7});
        let rows = in_force(stated.as_object().unwrap());
        assert_eq!(rows.len(), Options::table().options.len() - 1);
        assert!(rows.contains(&("max_fragments", json!(7), false)));
        assert!(rows.contains(&("max_message_bytes", json!(65_536), true)));
    }
}
