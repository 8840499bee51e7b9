//! What is weak about the way that a policy tells who somebody is.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::entropy::weakness;
use super::facts::Facts;
use super::finding::{Finding, Severity, warn};
use super::machine::is_public;
use super::scope::Scope;
use Severity::{High, Low, Medium};

const DRAW: &str = "draw one: wsguard token make --opaque";

pub(super) fn findings(scope: &Scope<'_>, _: &Facts, found: &mut Vec<Finding>) {
    if scope.speaks_of("auth") {
        let auth = scope.value("auth");
        nobody(scope, &auth, found);
        tokens(scope, &auth, found);
        jwt(scope, &auth, found);
    }
    sources(scope, found);
}

fn nobody(scope: &Scope<'_>, auth: &Value, found: &mut Vec<Finding>) {
    if *auth != "none" {
        return;
    }
    let severity = if is_public(&scope.text("listen")) { High } else { Medium };
    let what = "everybody is let in, without a user: limits can only count by address";
    let instead =
        "\"callback\", {\"tokens\": …} or {\"jwt\": …}; where it is meant so, a route of its own for what is public";
    warn(found, severity, "no_authentication", scope.path("auth"), what, instead);
}

fn tokens(scope: &Scope<'_>, auth: &Value, found: &mut Vec<Finding>) {
    for (index, entry) in auth.get("tokens").and_then(Value::as_array).into_iter().flatten().enumerate() {
        let Some(token) = entry.get("token").and_then(Value::as_str) else { continue };
        let option = scope.path(&format!("auth.tokens[{index}].token"));
        match weakness(token) {
            Some(why) => warn(found, High, "weak_token", option, format!("the token {why}"), DRAW),
            None => {
                let what = "the token itself stands in the policy: whoever reads the file has it";
                warn(found, Low, "plain_token", option, what, "state its digest in `sha256` in place of `token`");
            }
        }
    }
}

fn jwt(scope: &Scope<'_>, auth: &Value, found: &mut Vec<Finding>) {
    let Some(jwt) = auth.get("jwt") else { return };
    let path = |name: &str| scope.path(&format!("auth.jwt.{name}"));
    for (name, secret) in secrets(jwt) {
        if let Some(why) = weakness(&secret) {
            warn(found, High, "weak_secret", path(&name), format!("the secret {why}: tokens can be forged"), DRAW);
        }
    }
    let is_missing = |name: &str| jwt.get(name).is_none_or(Value::is_null);
    if is_missing("audience") {
        let what = "tokens that the issuer made for other services are accepted here";
        warn(found, Medium, "no_audience", path("audience"), what, "state the `aud` that tokens for this server have");
    }
    if is_missing("issuer") && !is_missing("jwks_url") {
        let what = "`iss` is not looked at, though the keys are an issuer's";
        warn(found, Low, "no_issuer", path("issuer"), what, "state the `iss` of the issuer's tokens");
    }
    if jwt.get("jwks_url").and_then(Value::as_str).is_some_and(|url| url.to_ascii_lowercase().starts_with("http:")) {
        let what = "keys are fetched without TLS: it is for an issuer on this machine";
        warn(found, Low, "keys_by_http", path("jwks_url"), what, "the https URL of the issuer");
    }
    if jwt.get("leeway_s").and_then(Value::as_u64).is_some_and(|leeway| leeway > 300) {
        let what = "tokens live for more than five minutes beyond their `exp`";
        warn(found, Low, "long_leeway", path("leeway_s"), what, "leave it out: the default is 30");
    }
}

/// The HMAC secrets, by the names of their options. What is PEM is no secret, and no path is accepted for one.
fn secrets(jwt: &Value) -> Vec<(String, String)> {
    let algorithms = jwt.get("algorithms").and_then(Value::as_array).into_iter().flatten();
    if !algorithms.filter_map(Value::as_str).any(|name| name.starts_with("HS")) {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut add = |name: String, key: &Value| found.extend(secret(key).map(|secret| (name, secret)));
    if let Some(key) = jwt.get("key") {
        add("key".to_owned(), key);
    }
    match jwt.get("keys") {
        Some(Value::Array(list)) => {
            for (index, entry) in list.iter().enumerate() {
                add(format!("keys[{index}].key"), &entry["key"]);
            }
        }
        Some(Value::Object(members)) => match members.get("keys").and_then(Value::as_array) {
            Some(set) => {
                for (index, jwk) in set.iter().enumerate() {
                    add(format!("keys.keys[{index}]"), jwk);
                }
            }
            // By number: a secret may have been written for the name.
            None => {
                for (index, key) in members.values().enumerate() {
                    add(format!("keys (member {})", index + 1), key);
                }
            }
        },
        _ => {}
    }
    found
}

fn secret(key: &Value) -> Option<String> {
    match key {
        Value::String(text)
            if !text.contains("-----BEGIN")
                && std::path::Path::new(text).extension().is_none_or(|ending| ending != "pem") =>
        {
            Some(text.clone())
        }
        Value::Object(jwk) if jwk.get("kty").is_some_and(|kind| kind == "oct") => {
            let bytes = URL_SAFE_NO_PAD.decode(jwk.get("k")?.as_str()?).ok()?;
            // Bytes that are no text were not typed.
            String::from_utf8(bytes).ok()
        }
        _ => None,
    }
}

fn sources(scope: &Scope<'_>, found: &mut Vec<Finding>) {
    if !scope.speaks_of("token_sources") {
        return;
    }
    for (index, source) in scope.list("token_sources").unwrap_or_default().iter().enumerate() {
        if source.starts_with("query:") {
            let what = "tokens in URLs end up in the logs of proxies and in the history of browsers";
            let instead = "\"subprotocol\" for browsers, \"bearer\" for programs; or tokens that live for a minute and are used once";
            warn(found, Medium, "token_in_query", scope.path(&format!("token_sources[{index}]")), what, instead);
        }
    }
}
