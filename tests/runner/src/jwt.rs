//! Tokens signed right or wrong, as a scenario asks.

use aws_lc_rs::{hmac, rand::SystemRandom, signature};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::failure::{Failure, Outcome, fail};
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
        let text = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
        let mut signature = self.signature(text.as_bytes())?;
        if self.forged {
            signature.iter_mut().rev().take(4).for_each(|byte| *byte ^= 0x55);
        }
        Ok(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    fn signature(&self, text: &[u8]) -> Outcome<Vec<u8>> {
        let rejected = |_| Failure("the JWT key was rejected".into());
        let unsigned = |_| Failure("the JWT could not be signed".into());
        let random = SystemRandom::new();
        Ok(match self.sign.as_str() {
            "none" => Vec::new(),
            "HS256" => hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, self.key.as_bytes()), text).as_ref().to_vec(),
            "ES256" => {
                let kind = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
                let pair = signature::EcdsaKeyPair::from_pkcs8(kind, &self.der()?).map_err(rejected)?;
                pair.sign(&random, text).map_err(unsigned)?.as_ref().to_vec()
            }
            "EdDSA" => {
                let pair = signature::Ed25519KeyPair::from_pkcs8(&self.der()?).map_err(rejected)?;
                pair.sign(text).as_ref().to_vec()
            }
            "RS256" => {
                let pair = signature::RsaKeyPair::from_pkcs8(&self.der()?).map_err(rejected)?;
                let mut out = vec![0; pair.public_modulus_len()];
                pair.sign(&signature::RSA_PKCS1_SHA256, &random, text, &mut out).map_err(unsigned)?;
                out
            }
            other => return fail!("unknown JWT signature {other:?}"),
        })
    }

    fn der(&self) -> Outcome<Vec<u8>> {
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).map_err(|error| error.to_string())?;
        Ok(key.secret_der().to_vec())
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

    #[test]
    fn the_parts_are_what_was_asked_for() {
        let jwt: Jwt =
            toml::from_str("sign = 'HS256'\nkey = 'k'\nheader = { alg = 'none' }\nclaims = { exp = '@now+60' }")
                .unwrap();
        let token = jwt.encode().unwrap();
        let parts: Vec<_> = token.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).unwrap()).collect();
        let header: Value = serde_json::from_slice(&parts[0]).unwrap();
        let claims: Value = serde_json::from_slice(&parts[1]).unwrap();
        assert_eq!(header, json!({"alg": "none", "typ": "JWT"}));
        assert!(claims["exp"].is_i64());
        assert_eq!(parts[2].len(), 32);
    }

    #[test]
    fn none_has_no_signature() {
        let jwt: Jwt = toml::from_str("sign = 'none'\nclaims = {}").unwrap();
        assert!(jwt.encode().unwrap().ends_with('.'));
    }
}
