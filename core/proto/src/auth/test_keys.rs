//! Keys made at test time, so that no private key lies in the repository, and tokens signed with them.

use std::sync::{Arc, LazyLock};

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384,
    RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
};
use aws_lc_rs::{hmac, signature::Signature};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::algorithm::{Algorithm, Scheme};

/// An HMAC secret of 64 bytes.
pub(super) const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// What signs a token.
#[derive(Clone)]
pub(super) enum SigningKey {
    Secret(Vec<u8>),
    Rsa(Arc<RsaKeyPair>),
    Ecdsa(Arc<EcdsaKeyPair>),
    Ed25519(Arc<Ed25519KeyPair>),
}

impl SigningKey {
    fn sign(&self, message: &[u8], algorithm: Algorithm) -> Vec<u8> {
        let bytes = |signature: Signature| signature.as_ref().to_vec();
        match (self, algorithm.scheme()) {
            (SigningKey::Secret(secret), Scheme::Hmac(hash)) => {
                hmac::sign(&hmac::Key::new(hash, secret), message).as_ref().to_vec()
            }
            (SigningKey::Rsa(pair), _) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(rsa_encoding(algorithm), &SystemRandom::new(), message, &mut signature).unwrap();
                signature
            }
            (SigningKey::Ecdsa(pair), _) => bytes(pair.sign(&SystemRandom::new(), message).unwrap()),
            (SigningKey::Ed25519(pair), _) => bytes(pair.sign(message)),
            (SigningKey::Secret(_), _) => panic!("{algorithm} does not sign with a secret"),
        }
    }
}

fn rsa_encoding(algorithm: Algorithm) -> &'static dyn RsaEncoding {
    match algorithm {
        Algorithm::Rs256 => &RSA_PKCS1_SHA256,
        Algorithm::Rs384 => &RSA_PKCS1_SHA384,
        Algorithm::Rs512 => &RSA_PKCS1_SHA512,
        Algorithm::Ps256 => &RSA_PSS_SHA256,
        Algorithm::Ps384 => &RSA_PSS_SHA384,
        Algorithm::Ps512 => &RSA_PSS_SHA512,
        other => panic!("{other} does not sign with an RSA key"),
    }
}

/// A key pair in every spelling the tests need.
pub(super) struct TestKey {
    pub(super) signing: SigningKey,
    /// The public key as a PEM text.
    pub(super) pem: String,
    /// The private key as a PEM text.
    pub(super) private_pem: String,
    pub(super) jwk: Value,
    /// The public key as aws-lc gives it: PKCS #1, or a point.
    pub(super) public: Vec<u8>,
}

/// RSA keys take a moment to make, so all tests share one.
pub(super) static RSA: LazyLock<TestKey> = LazyLock::new(|| rsa(KeySize::Rsa2048));
pub(super) static P256: LazyLock<TestKey> = LazyLock::new(|| ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING));
pub(super) static P384: LazyLock<TestKey> = LazyLock::new(|| ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING));
pub(super) static ED25519: LazyLock<TestKey> = LazyLock::new(ed25519);

pub(super) fn hmac(secret: &str) -> SigningKey {
    SigningKey::Secret(secret.as_bytes().to_vec())
}

pub(super) fn rsa(size: KeySize) -> TestKey {
    let pair = aws_lc_rs::rsa::KeyPair::generate(size).unwrap();
    let private = AsDer::<Pkcs8V1Der>::as_der(&pair).unwrap();
    let spki = AsDer::<PublicKeyX509Der>::as_der(pair.public_key()).unwrap();
    let modulus = base64url(pair.public_key().modulus().big_endian_without_leading_zero());
    let exponent = base64url(pair.public_key().exponent().big_endian_without_leading_zero());
    TestKey {
        pem: pem("PUBLIC KEY", spki.as_ref()),
        private_pem: pem("PRIVATE KEY", private.as_ref()),
        jwk: json!({"kty": "RSA", "n": modulus, "e": exponent}),
        public: pair.public_key().as_ref().to_vec(),
        signing: SigningKey::Rsa(Arc::new(pair)),
    }
}

pub(super) fn ecdsa(curve: &'static EcdsaSigningAlgorithm) -> TestKey {
    let private = EcdsaKeyPair::generate_pkcs8(curve, &SystemRandom::new()).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(curve, private.as_ref()).unwrap();
    let spki = AsDer::<PublicKeyX509Der>::as_der(pair.public_key()).unwrap();
    let public = pair.public_key().as_ref().to_vec();
    let (x, y) = public[1..].split_at(public.len() / 2);
    let name = if x.len() == 32 { "P-256" } else { "P-384" };
    TestKey {
        pem: pem("PUBLIC KEY", spki.as_ref()),
        private_pem: pem("PRIVATE KEY", private.as_ref()),
        jwk: json!({"kty": "EC", "crv": name, "x": base64url(x), "y": base64url(y)}),
        signing: SigningKey::Ecdsa(Arc::new(pair)),
        public,
    }
}

pub(super) fn ed25519() -> TestKey {
    let private = Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new()).unwrap();
    let pair = Ed25519KeyPair::from_pkcs8(private.as_ref()).unwrap();
    let spki = AsDer::<PublicKeyX509Der>::as_der(pair.public_key()).unwrap();
    let public = pair.public_key().as_ref().to_vec();
    TestKey {
        pem: pem("PUBLIC KEY", spki.as_ref()),
        private_pem: pem("PRIVATE KEY", private.as_ref()),
        jwk: json!({"kty": "OKP", "crv": "Ed25519", "x": base64url(&public)}),
        signing: SigningKey::Ed25519(Arc::new(pair)),
        public,
    }
}

/// `base` with the members of `changes`; `null` removes a member.
#[expect(clippy::needless_pass_by_value, reason = "called with json!(…)")]
pub(super) fn with(base: &Value, changes: Value) -> Value {
    let mut object = base.as_object().unwrap().clone();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => object.remove(name),
            value => object.insert(name.clone(), value.clone()),
        };
    }
    Value::Object(object)
}

/// A token with exactly this header and these claims.
pub(super) fn sign(header: &Value, claims: &Value, key: &SigningKey, algorithm: Algorithm) -> String {
    sign_text(&header.to_string(), &claims.to_string(), key, algorithm)
}

/// A token of texts that need not be JSON.
pub(super) fn sign_text(header: &str, claims: &str, key: &SigningKey, algorithm: Algorithm) -> String {
    let message = format!("{}.{}", base64url(header.as_bytes()), base64url(claims.as_bytes()));
    let signature = base64url(&key.sign(message.as_bytes(), algorithm));
    format!("{message}.{signature}")
}

/// A token with the usual header.
pub(super) fn token(claims: &Value, key: &SigningKey, algorithm: Algorithm) -> String {
    sign(&json!({"typ": "JWT", "alg": algorithm.name()}), claims, key, algorithm)
}

pub(super) fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A PEM text.
pub(super) fn pem(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let lines: Vec<&str> = body.as_bytes().chunks(64).map(|line| str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
