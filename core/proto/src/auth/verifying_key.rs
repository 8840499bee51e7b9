//! A key, what it is, and what it can verify: each bound to one family, so that a token cannot choose how it is verified (an
//! RSA public key is never an HMAC secret).

use aws_lc_rs::digest;
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::hmac;
use aws_lc_rs::rsa::PublicKey as RsaPublicKey;
use aws_lc_rs::signature::{ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};

use super::algorithm::{Algorithm, KeyFamily, Scheme};
use crate::config_error::ConfigError;

/// RSA moduli, the range signatures are accepted in.
const RSA_BITS: core::ops::RangeInclusive<usize> = 2048..=8192;
/// How every PEM block starts.
pub(super) const PEM_BEGIN: &str = "-----BEGIN ";

/// A key that was read, and does not verify anything yet.
pub(super) struct KeyMaterial {
    family: KeyFamily,
    /// The secret; or a public key as aws-lc reads it: `SubjectPublicKeyInfo`, PKCS #1, or a point.
    bytes: Vec<u8>,
}

impl KeyMaterial {
    pub(super) fn hmac(option: &str, secret: Vec<u8>) -> Result<Self, ConfigError> {
        if secret.is_empty() {
            return Err(ConfigError::invalid(option, "must not be an empty secret"));
        }
        if secret.windows(PEM_BEGIN.len()).any(|window| window == PEM_BEGIN.as_bytes()) {
            return Err(ConfigError::invalid(option, PEM_AS_SECRET));
        }
        Ok(Self { family: KeyFamily::Hmac, bytes: secret })
    }

    /// A `SubjectPublicKeyInfo` (RFC 5280 section 4.1). By its length: all but RSA have one form that is accepted, with a named
    /// curve and an uncompressed point (RFC 5480 section 2, RFC 8410 section 4).
    pub(super) fn spki(option: &str, der: &[u8]) -> Result<Self, ConfigError> {
        let family = match der.len() {
            44 => KeyFamily::Ed25519,
            91 => KeyFamily::P256,
            120 => KeyFamily::P384,
            _ => KeyFamily::Rsa,
        };
        Self::public(option, family, der.to_vec())
    }

    /// The two numbers of an RSA key. They take the way of a DER text: it is there that they are checked to be a key.
    pub(super) fn rsa(option: &str, modulus: &[u8], exponent: &[u8]) -> Result<Self, ConfigError> {
        let numbers = RsaPublicKeyComponents { n: modulus, e: exponent };
        let key = numbers.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256).map_err(|_| unusable(option))?;
        Self::public(option, KeyFamily::Rsa, key.as_ref().to_vec())
    }

    /// Checks now what would otherwise refuse every token later.
    pub(super) fn public(option: &str, family: KeyFamily, bytes: Vec<u8>) -> Result<Self, ConfigError> {
        let is_usable = match family {
            KeyFamily::Hmac => false,
            KeyFamily::Rsa => rsa_bits(&bytes).is_some_and(|bits| RSA_BITS.contains(&bits)),
            KeyFamily::P256 => parse(Algorithm::Es256, &bytes).is_some(),
            KeyFamily::P384 => parse(Algorithm::Es384, &bytes).is_some(),
            KeyFamily::Ed25519 => parse(Algorithm::EdDsa, &bytes).is_some(),
        };
        if is_usable { Ok(Self { family, bytes }) } else { Err(unusable(option)) }
    }

    /// Allows those `listed` algorithms that fit this key, or only the one it is `pinned` to.
    ///
    /// A secret shorter than the hash can be found from one token, by trying (RFC 7518 section 3.2).
    pub(super) fn allowing(
        self,
        option: &str,
        listed: &[Algorithm],
        pinned: Option<Algorithm>,
    ) -> Result<VerifyingKey, ConfigError> {
        let fits =
            |algorithm: &Algorithm| self.family == algorithm.family() && pinned.is_none_or(|pin| pin == *algorithm);
        let mut verifiers = Vec::new();
        for algorithm in listed.iter().copied().filter(fits) {
            let needed = algorithm.shortest_secret();
            if self.bytes.len() < needed {
                let message = format!(
                    "is a secret too short for {algorithm}, which needs at least {needed} random bytes, e.g. from `openssl \
                     rand -base64 64`"
                );
                return Err(ConfigError::invalid(option, message));
            }
            let verifier = Verifier::new(algorithm, &self.bytes).ok_or_else(|| unusable(option))?;
            verifiers.push((algorithm, verifier));
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(digest::digest(&digest::SHA256, &self.bytes).as_ref());
        Ok(VerifyingKey { family: self.family, digest, verifiers })
    }
}

/// A key with an algorithm, ready for use.
enum Verifier {
    Hmac(Box<hmac::Key>),
    Public(ParsedPublicKey),
}

impl Verifier {
    fn new(algorithm: Algorithm, key: &[u8]) -> Option<Self> {
        match algorithm.scheme() {
            Scheme::Hmac(hash) => Some(Verifier::Hmac(Box::new(hmac::Key::new(hash, key)))),
            Scheme::Public(_) => parse(algorithm, key).map(Verifier::Public),
        }
    }

    /// HMACs are compared in constant time.
    fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Verifier::Hmac(key) => hmac::verify(key, message, signature).is_ok(),
            Verifier::Public(key) => key.verify_sig(message, signature).is_ok(),
        }
    }
}

/// A key, what it is, and the algorithms it may be used with.
pub(super) struct VerifyingKey {
    pub(super) family: KeyFamily,
    /// By which it is found again after a reload.
    pub(super) digest: [u8; 32],
    verifiers: Vec<(Algorithm, Verifier)>,
}

impl VerifyingKey {
    pub(super) fn algorithms(&self) -> impl Iterator<Item = Algorithm> {
        self.verifiers.iter().map(|(algorithm, _)| *algorithm)
    }

    /// Whether the key has signed `message`; `None`: it may not be used with this algorithm.
    pub(super) fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> Option<bool> {
        let (_, verifier) = self.verifiers.iter().find(|(own, _)| *own == algorithm)?;
        Some(verifier.verifies(message, signature))
    }
}

pub(super) const PUBLIC_KEYS: &str = "accepted: RSA of 2048 to 8192 bits, EC P-256 or P-384 (uncompressed), Ed25519";
pub(super) const PEM_AS_SECRET: &str = "is a PEM text, and not accepted as an HMAC secret: whoever has the public key could sign \
                             tokens; list the algorithm of the key, or give a random secret";
pub(super) const PRIVATE_KEY: &str =
    "holds a private key; give the public key only, tokens are verified here and not signed";

fn unusable(option: &str) -> ConfigError {
    ConfigError::invalid(option, format!("is not a usable key; {PUBLIC_KEYS}"))
}

fn parse(algorithm: Algorithm, key: &[u8]) -> Option<ParsedPublicKey> {
    match algorithm.scheme() {
        Scheme::Public(scheme) => ParsedPublicKey::new(scheme, key).ok(),
        Scheme::Hmac(_) => None,
    }
}

/// How long the modulus of a sound RSA key is, given in one of its two forms (PKCS #1, or `SubjectPublicKeyInfo`) and no
/// other: a key for RSASSA-PSS alone must not verify anything else (RFC 4055 section 1.2).
fn rsa_bits(der: &[u8]) -> Option<usize> {
    let key = RsaPublicKey::from_der(der).ok()?;
    let spki: PublicKeyX509Der<'_> = key.as_der().ok()?;
    if der != key.as_ref() && der != spki.as_ref() {
        return None;
    }
    let modulus = key.modulus();
    let first = modulus.big_endian_without_leading_zero().first()?;
    Some(key.modulus_len() * 8 - first.leading_zeros() as usize)
}
