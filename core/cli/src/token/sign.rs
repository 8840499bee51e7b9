//! Signing a JSON Web Token (RFC 7515) with a key of one's own. The server verifies; only here is anything signed.

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    Ed25519KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384,
    RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use wsguard_proto::files::NoFiles;
use wsguard_proto::pem;

use crate::outcome::Failure;

/// The algorithms, as `auth.jwt.algorithms` has them.
pub(crate) const ALGORITHMS: [&str; 12] =
    ["HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"];

/// What signs.
pub(super) enum Key {
    Secret(Vec<u8>),
    Rsa(RsaKeyPair),
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Key {
    /// A secret, for HS256 and its like.
    ///
    /// # Errors
    /// It is shorter than the hash: no server accepts that (RFC 7518 section 3.2).
    pub(super) fn secret(algorithm: &str, secret: Vec<u8>) -> Result<Self, Failure> {
        let least = match algorithm {
            "HS256" => 32,
            "HS384" => 48,
            "HS512" => 64,
            other => {
                return Err(Failure::new(format!("{other} signs with a private key, not with a secret: --key-file")));
            }
        };
        if secret.len() < least {
            return Err(Failure::new(format!(
                "the secret must have at least {least} bytes for {algorithm}, got {}",
                secret.len()
            )));
        }
        Ok(Self::Secret(secret))
    }

    /// A private key as PEM text.
    ///
    /// # Errors
    /// It is none, or not one of this algorithm. Nothing of the text is repeated.
    pub(super) fn private(algorithm: &str, text: &str) -> Result<Self, Failure> {
        let blocks = pem::load("--key-file", text, &NoFiles).map_err(|error| Failure::new(error.to_string()))?;
        let block = blocks.iter().find(|block| block.label.ends_with("PRIVATE KEY"));
        let block = block.ok_or_else(|| Failure::new("--key-file: holds no private key".to_owned()))?;
        let wrong = |kind: &str| Failure::new(format!("--key-file: is no {kind} key that {algorithm} could sign with"));
        let der = block.der.as_slice();
        match &algorithm[..2] {
            "RS" | "PS" => RsaKeyPair::from_pkcs8(der)
                .or_else(|_| RsaKeyPair::from_der(der))
                .map(Self::Rsa)
                .map_err(|_| wrong("RSA")),
            "ES" => {
                let curve: &'static EcdsaSigningAlgorithm = if algorithm == "ES256" {
                    &ECDSA_P256_SHA256_FIXED_SIGNING
                } else {
                    &ECDSA_P384_SHA384_FIXED_SIGNING
                };
                let pair =
                    EcdsaKeyPair::from_pkcs8(curve, der).or_else(|_| EcdsaKeyPair::from_private_key_der(curve, der));
                pair.map(Self::Ecdsa).map_err(|_| wrong(if algorithm == "ES256" { "P-256" } else { "P-384" }))
            }
            "Ed" => Ed25519KeyPair::from_pkcs8(der).map(Self::Ed25519).map_err(|_| wrong("Ed25519")),
            _ => Err(Failure::new(format!("{algorithm} signs with a secret, not with a private key: --secret-file"))),
        }
    }

    fn sign(&self, algorithm: &str, message: &[u8]) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        match self {
            Key::Secret(secret) => {
                let hash = match algorithm {
                    "HS384" => hmac::HMAC_SHA384,
                    "HS512" => hmac::HMAC_SHA512,
                    _ => hmac::HMAC_SHA256,
                };
                Some(hmac::sign(&hmac::Key::new(hash, secret), message).as_ref().to_vec())
            }
            Key::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(rsa(algorithm), &random, message, &mut signature).ok()?;
                Some(signature)
            }
            Key::Ecdsa(pair) => Some(pair.sign(&random, message).ok()?.as_ref().to_vec()),
            Key::Ed25519(pair) => Some(pair.sign(message).as_ref().to_vec()),
        }
    }
}

fn rsa(algorithm: &str) -> &'static dyn RsaEncoding {
    match algorithm {
        "RS384" => &RSA_PKCS1_SHA384,
        "RS512" => &RSA_PKCS1_SHA512,
        "PS256" => &RSA_PSS_SHA256,
        "PS384" => &RSA_PSS_SHA384,
        "PS512" => &RSA_PSS_SHA512,
        _ => &RSA_PKCS1_SHA256,
    }
}

/// The token of these claims.
///
/// # Errors
/// The key does not sign: an RSA key that is too short.
pub(super) fn token(header: &Value, claims: &Value, key: &Key, algorithm: &str) -> Result<String, Failure> {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(header), part(claims));
    let signature = key.sign(algorithm, message.as_bytes());
    let signature = signature.ok_or_else(|| Failure::new(format!("the key does not sign with {algorithm}")))?;
    Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
    use base64::engine::general_purpose::STANDARD;
    use serde_json::json;
    use wsguard::binding::{Options, compile};
    use wsguard_proto::auth::Outcome;

    use super::*;

    fn pem_text(label: &str, der: &[u8]) -> String {
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
    }

    /// A private key and its public one, as PEM.
    fn pair(algorithm: &str) -> (String, String) {
        let random = SystemRandom::new();
        let (private, public) = match &algorithm[..2] {
            "RS" | "PS" => {
                let pair = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
                let public =
                    AsDer::<PublicKeyX509Der>::as_der(aws_lc_rs::signature::KeyPair::public_key(&pair)).unwrap();
                (AsDer::<Pkcs8V1Der>::as_der(&pair).unwrap().as_ref().to_vec(), public.as_ref().to_vec())
            }
            "ES" => {
                let curve = if algorithm == "ES256" {
                    &ECDSA_P256_SHA256_FIXED_SIGNING
                } else {
                    &ECDSA_P384_SHA384_FIXED_SIGNING
                };
                let private = EcdsaKeyPair::generate_pkcs8(curve, &random).unwrap();
                let pair = EcdsaKeyPair::from_pkcs8(curve, private.as_ref()).unwrap();
                let public =
                    AsDer::<PublicKeyX509Der>::as_der(aws_lc_rs::signature::KeyPair::public_key(&pair)).unwrap();
                (private.as_ref().to_vec(), public.as_ref().to_vec())
            }
            _ => {
                let private = Ed25519KeyPair::generate_pkcs8v1(&random).unwrap();
                let pair = Ed25519KeyPair::from_pkcs8(private.as_ref()).unwrap();
                let public =
                    AsDer::<PublicKeyX509Der>::as_der(aws_lc_rs::signature::KeyPair::public_key(&pair)).unwrap();
                (private.as_ref().to_vec(), public.as_ref().to_vec())
            }
        };
        (pem_text("PRIVATE KEY", &private), pem_text("PUBLIC KEY", &public))
    }

    #[test]
    fn the_server_accepts_what_is_signed_with_every_algorithm() {
        let secret = "kX2/9sLpQ0vTz7Wb/3cYhJ4mNdRf8AeGuVo1iSxPqKwkX2/9sLpQ0vTz7Wb/3cYh";
        for algorithm in ALGORITHMS {
            let (key, given) = if algorithm.starts_with("HS") {
                (Key::secret(algorithm, secret.as_bytes().to_vec()).unwrap(), secret.to_owned())
            } else {
                let (private, public) = pair(algorithm);
                (Key::private(algorithm, &private).unwrap(), public)
            };
            let options =
                json!({"origins": ["https://a.example"], "auth": {"jwt": {"algorithms": [algorithm], "key": given}}});
            let policy = compile(Options::from_value(&options).unwrap()).unwrap();
            let claims = json!({"sub": "alice", "exp": 2000});
            let token = token(&json!({"alg": algorithm, "typ": "JWT"}), &claims, &key, algorithm).unwrap();
            let outcome = policy.top.authenticator.check(Some(&token), 1000);
            assert!(
                matches!(outcome, Outcome::Accepted(identity) if identity.user.as_deref() == Some("alice")),
                "{algorithm}"
            );
        }
    }

    #[test]
    fn a_key_of_another_kind_is_refused_without_its_text() {
        let (es256, public) = pair("ES256");
        for (algorithm, text) in
            [("RS256", &es256), ("ES384", &es256), ("EdDSA", &es256), ("ES256", &public), ("HS256", &es256)]
        {
            let error = Key::private(algorithm, text).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(!error.is_empty(), "{algorithm}");
            assert!(text.lines().nth(1).is_some_and(|line| !error.contains(&line[..16])), "{error}");
        }
        for (algorithm, bytes) in [("HS256", 31), ("HS384", 47), ("HS512", 63), ("ES256", 99)] {
            assert!(Key::secret(algorithm, vec![7; bytes]).is_err(), "{algorithm}");
        }
    }
}
