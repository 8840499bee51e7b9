//! A key, what it is, and what it can verify: each bound to one family, so that a token cannot choose how it is verified (threat
//! A2: an RSA public key is never an HMAC secret).

use core::fmt;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RsaPublicKeyComponents,
};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind};

use crate::config_error::ConfigError;

/// RSA moduli from 2048 to 8192 bits, the range signatures are accepted in.
const RSA_MODULUS_BYTES: core::ops::RangeInclusive<usize> = 256..=1024;
/// How every PEM block starts.
pub(super) const PEM_BEGIN: &str = "-----BEGIN ";

/// What a key is, and so what it can verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyFamily {
    Hmac,
    Rsa,
    P256,
    P384,
    Ed25519,
}

impl KeyFamily {
    fn fits(self, algorithm: Algorithm) -> bool {
        match self {
            KeyFamily::Hmac => algorithm.family() == AlgorithmFamily::Hmac,
            KeyFamily::Rsa => algorithm.family() == AlgorithmFamily::Rsa,
            KeyFamily::P256 => algorithm == Algorithm::ES256,
            KeyFamily::P384 => algorithm == Algorithm::ES384,
            KeyFamily::Ed25519 => algorithm == Algorithm::EdDSA,
        }
    }
}

impl fmt::Display for KeyFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KeyFamily::Hmac => "an HMAC secret",
            KeyFamily::Rsa => "an RSA public key",
            KeyFamily::P256 => "an EC P-256 public key",
            KeyFamily::P384 => "an EC P-384 public key",
            KeyFamily::Ed25519 => "an Ed25519 public key",
        })
    }
}

/// A key, what it is, and which algorithms it may be used with.
pub(super) struct VerifyingKey {
    pub(super) family: KeyFamily,
    pub(super) decoding: DecodingKey,
    pub(super) algorithms: Vec<Algorithm>,
    /// How long an HMAC secret is.
    secret_len: usize,
}

impl VerifyingKey {
    pub(super) fn hmac(option: &str, secret: &[u8]) -> Result<Self, ConfigError> {
        if secret.is_empty() {
            return Err(ConfigError::invalid(option, "must not be an empty secret"));
        }
        if secret.windows(PEM_BEGIN.len()).any(|window| window == PEM_BEGIN.as_bytes()) {
            return Err(ConfigError::invalid(option, PEM_AS_SECRET));
        }
        let decoding = DecodingKey::from_secret(secret);
        Ok(Self { family: KeyFamily::Hmac, decoding, algorithms: Vec::new(), secret_len: secret.len() })
    }

    /// Finds the family of a public key, and checks now what would otherwise refuse every token later.
    pub(super) fn public(option: &str, decoding: DecodingKey) -> Result<Self, ConfigError> {
        let family = match (decoding.family(), decoding.kind()) {
            (AlgorithmFamily::Rsa, DecodingKeyKind::SecretOrDer(der)) => is_rsa_der(der).then_some(KeyFamily::Rsa),
            (AlgorithmFamily::Rsa, DecodingKeyKind::RsaModulusExponent { n, e }) => {
                is_rsa(&RsaPublicKeyComponents { n, e }).then_some(KeyFamily::Rsa)
            }
            (AlgorithmFamily::Ec, DecodingKeyKind::SecretOrDer(point)) if point.len() == 65 => {
                ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).ok().map(|_| KeyFamily::P256)
            }
            (AlgorithmFamily::Ec, DecodingKeyKind::SecretOrDer(point)) if point.len() == 97 => {
                ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point).ok().map(|_| KeyFamily::P384)
            }
            (AlgorithmFamily::Ed, DecodingKeyKind::SecretOrDer(point)) if point.len() == 32 => {
                ParsedPublicKey::new(&ED25519, point).ok().map(|_| KeyFamily::Ed25519)
            }
            _ => None,
        };
        let family =
            family.ok_or_else(|| ConfigError::invalid(option, format!("is not a usable key; {PUBLIC_KEYS}")))?;
        Ok(Self { family, decoding, algorithms: Vec::new(), secret_len: 0 })
    }

    /// Allows those `listed` algorithms that fit this key, or only the one it is `pinned` to.
    ///
    /// A secret shorter than the hash can be found from one token, by trying (RFC 7518 section 3.2).
    pub(super) fn allowing(
        mut self,
        option: &str,
        listed: &[Algorithm],
        pinned: Option<Algorithm>,
    ) -> Result<Self, ConfigError> {
        let fits = |algorithm: &Algorithm| self.family.fits(*algorithm) && pinned.is_none_or(|pin| pin == *algorithm);
        self.algorithms = listed.iter().copied().filter(fits).collect();
        if let Some(algorithm) = self.algorithms.iter().find(|algorithm| self.secret_len < hash_len(**algorithm)) {
            let message = format!(
                "is a secret too short for {algorithm:?}, which needs at least {} random bytes, e.g. from `openssl rand \
                 -base64 64`",
                hash_len(*algorithm)
            );
            return Err(ConfigError::invalid(option, message));
        }
        Ok(self)
    }
}

/// The bytes of an algorithm's hash, where it works with a secret.
pub(super) fn hash_len(algorithm: Algorithm) -> usize {
    match algorithm {
        Algorithm::HS256 => 32,
        Algorithm::HS384 => 48,
        Algorithm::HS512 => 64,
        _ => 0,
    }
}

pub(super) const PUBLIC_KEYS: &str = "accepted: RSA of 2048 to 8192 bits, EC P-256 or P-384 (uncompressed), Ed25519";
pub(super) const PEM_AS_SECRET: &str = "is a PEM text, and not accepted as an HMAC secret: whoever has the public key could sign \
                             tokens; list the algorithm of the key, or give a random secret";
pub(super) const PRIVATE_KEY: &str =
    "holds a private key; give the public key only, tokens are verified here and not signed";

fn is_rsa_der(der: &[u8]) -> bool {
    aws_lc_rs::rsa::PublicKey::from_der(der).is_ok_and(|key| RSA_MODULUS_BYTES.contains(&key.modulus_len()))
}

fn is_rsa(key: &RsaPublicKeyComponents<&Vec<u8>>) -> bool {
    RSA_MODULUS_BYTES.contains(&key.n.len()) && key.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256).is_ok()
}
