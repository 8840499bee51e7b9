//! JSON Web Tokens (RFC 7519), signed by another library than the one that checks them.

use aws_lc_rs::{hmac, rand::SystemRandom, signature};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};

use crate::outcome::{Failure, Outcome, fail};

/// A token that is not put together yet, so that a test may change its signature.
#[derive(Clone, Debug)]
pub struct Jwt {
    /// Header and claims, encoded.
    pub text: String,
    /// The signature over them.
    pub signature: Vec<u8>,
}

impl Jwt {
    /// Signs with `algorithm`, whatever the header says of it: `HS256`, `ES256`, `RS256`, `EdDSA`, or `none` (an empty
    /// signature). `key` is the shared secret, or the private key in PEM.
    pub fn sign(algorithm: &str, key: &str, header: &Value, claims: &Value) -> Outcome<Self> {
        let text = [header, claims].map(|part| BASE64.encode(part.to_string())).join(".");
        let signature = signature(algorithm, key, text.as_bytes())?;
        Ok(Self { text, signature })
    }

    /// As it is sent.
    pub fn encode(&self) -> String {
        format!("{}.{}", self.text, BASE64.encode(&self.signature))
    }
}

/// A token with these claims, signed with HS256.
pub fn hs256(claims: &Value, key: &str) -> Outcome<String> {
    Ok(Jwt::sign("HS256", key, &json!({"alg": "HS256", "typ": "JWT"}), claims)?.encode())
}

fn signature(algorithm: &str, key: &str, text: &[u8]) -> Outcome<Vec<u8>> {
    let rejected = |_| Failure("the JWT key was rejected".into());
    let unsigned = |_| Failure("the JWT could not be signed".into());
    let random = SystemRandom::new();
    Ok(match algorithm {
        "none" => Vec::new(),
        "HS256" => hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()), text).as_ref().to_vec(),
        "ES256" => {
            let kind = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
            let pair = signature::EcdsaKeyPair::from_pkcs8(kind, &der(key)?).map_err(rejected)?;
            pair.sign(&random, text).map_err(unsigned)?.as_ref().to_vec()
        }
        "EdDSA" => {
            let pair = signature::Ed25519KeyPair::from_pkcs8(&der(key)?).map_err(rejected)?;
            pair.sign(text).as_ref().to_vec()
        }
        "RS256" => {
            let pair = signature::RsaKeyPair::from_pkcs8(&der(key)?).map_err(rejected)?;
            let mut out = vec![0; pair.public_modulus_len()];
            pair.sign(&signature::RSA_PKCS1_SHA256, &random, text, &mut out).map_err(unsigned)?;
            out
        }
        other => return fail!("unknown JWT signature {other:?}"),
    })
}

fn der(pem: &str) -> Outcome<Vec<u8>> {
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|error| error.to_string())?;
    Ok(key.secret_der().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_are_what_was_asked_for() {
        let token = hs256(&json!({"sub": "alice"}), "k").unwrap();
        let parts: Vec<_> = token.split('.').map(|part| BASE64.decode(part).unwrap()).collect();
        assert_eq!(serde_json::from_slice::<Value>(&parts[0]).unwrap(), json!({"alg": "HS256", "typ": "JWT"}));
        assert_eq!(serde_json::from_slice::<Value>(&parts[1]).unwrap(), json!({"sub": "alice"}));
        assert_eq!(parts[2].len(), 32);
    }

    #[test]
    fn none_has_no_signature_and_unknown_is_an_error() {
        assert!(Jwt::sign("none", "", &json!({}), &json!({})).unwrap().encode().ends_with('.'));
        assert!(Jwt::sign("HS1", "", &json!({}), &json!({})).is_err());
        assert!(Jwt::sign("ES256", "no key", &json!({}), &json!({})).is_err());
    }
}
