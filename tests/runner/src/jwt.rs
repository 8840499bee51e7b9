//! Tokens signed right or wrong, as a scenario asks.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use serde_json::{Value, json};
use wsguard_test_support::jwt::Jwt as Signed;
use wsguard_test_support::outcome::{Outcome, fail};

use crate::matcher::literal;

/// A JSON Web Token in its parts. A claim `"@now+60"` or `"@now-60"` is seconds from now.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Jwt {
    /// `HS256`, `ES256`, `RS256`, `EdDSA`, or `none` (an empty signature): what really signs.
    sign: String,
    /// The shared secret, or the private key in PEM.
    #[serde(default)]
    key: String,
    /// The header; `alg` defaults to `sign`.
    header: Option<toml::Value>,
    claims: toml::Value,
    /// Overwrites the last bytes of the signature.
    #[serde(default)]
    forged: bool,
}

impl Jwt {
    pub(crate) fn encode(&self) -> Outcome<String> {
        let mut header = json!({"alg": self.sign, "typ": "JWT"});
        if let (Some(given), Some(header)) = (&self.header, header.as_object_mut()) {
            for (key, value) in literal(given).as_object().into_iter().flatten() {
                header.insert(key.clone(), value.clone());
            }
        }
        let claims = timed(literal(&self.claims))?;
        let mut jwt = Signed::sign(&self.sign, &self.key, &header, &claims)?;
        if self.forged {
            jwt.signature.iter_mut().rev().take(4).for_each(|byte| *byte ^= 0x55);
        }
        Ok(jwt.encode())
    }
}

/// Replaces `"@now±N"` by the seconds since 1970.
fn timed(claims: Value) -> Outcome<Value> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs().cast_signed());
    match claims {
        Value::Object(claims) => {
            claims.into_iter().map(|(key, value)| Ok((key, timed(value)?))).collect::<Outcome<_>>().map(Value::Object)
        }
        Value::String(text) => match text.strip_prefix("@now") {
            None => Ok(Value::String(text)),
            Some("") => Ok(json!(now)),
            Some(offset) => match offset.parse::<i64>() {
                Ok(offset) => Ok(json!(now + offset)),
                Err(_) => fail!("bad time {text:?}"),
            },
        },
        other => Ok(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(text: &str) -> String {
        toml::from_str::<Jwt>(text).unwrap().encode().unwrap()
    }

    #[test]
    fn the_header_is_what_was_asked_for_and_forging_changes_the_signature_alone() {
        let claims = "claims = { sub = 'alice' }";
        let asked = encoded(&format!("sign = 'HS256'\nkey = 'k'\nheader = {{ alg = 'none' }}\n{claims}"));
        let (header, claimed) = (json!({"alg": "none", "typ": "JWT"}), json!({"sub": "alice"}));
        assert_eq!(asked, Signed::sign("HS256", "k", &header, &claimed).unwrap().encode());
        let forged =
            encoded(&format!("sign = 'HS256'\nkey = 'k'\nheader = {{ alg = 'none' }}\nforged = true\n{claims}"));
        assert_ne!(asked, forged);
        assert_eq!(asked.rsplit_once('.').unwrap().0, forged.rsplit_once('.').unwrap().0);
    }

    #[test]
    fn times_are_relative_to_now() {
        let claims = |text: &str| timed(json!({"exp": text}));
        let now = claims("@now").unwrap()["exp"].as_i64().unwrap();
        assert!((now + 60..now + 70).contains(&claims("@now+60").unwrap()["exp"].as_i64().unwrap()));
        assert_eq!(claims("later").unwrap()["exp"], "later");
        assert!(claims("@now+soon").is_err());
    }
}
