//! Keys made at test time, so that no private key lies in the repository, and tokens signed with them.

use std::sync::LazyLock;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    Ed25519KeyPair, KeyPair,
};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

/// An HMAC secret of 64 bytes.
pub(super) const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A key pair in every spelling the tests need.
pub(super) struct TestKey {
    pub(super) signing: EncodingKey,
    /// The public key as a PEM text.
    pub(super) pem: String,
    /// The private key as a PEM text.
    pub(super) private_pem: String,
    pub(super) jwk: Value,
}

/// RSA keys take a moment to make, so all tests share one.
pub(super) static RSA: LazyLock<TestKey> = LazyLock::new(|| rsa(KeySize::Rsa2048));
pub(super) static P256: LazyLock<TestKey> = LazyLock::new(|| ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING, Algorithm::ES256));
pub(super) static P384: LazyLock<TestKey> = LazyLock::new(|| ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING, Algorithm::ES384));
pub(super) static ED25519: LazyLock<TestKey> = LazyLock::new(ed25519);

pub(super) fn hmac(secret: &str) -> EncodingKey {
    EncodingKey::from_secret(secret.as_bytes())
}

pub(super) fn rsa(size: KeySize) -> TestKey {
    let pair = aws_lc_rs::rsa::KeyPair::generate(size).unwrap();
    let private = AsDer::<Pkcs8V1Der>::as_der(&pair).unwrap();
    let public = AsDer::<PublicKeyX509Der>::as_der(pair.public_key()).unwrap();
    let signing = EncodingKey::from_rsa_pem(pem("PRIVATE KEY", private.as_ref()).as_bytes()).unwrap();
    test_key(signing, Algorithm::RS256, private.as_ref(), public.as_ref())
}

pub(super) fn ecdsa(curve: &'static EcdsaSigningAlgorithm, algorithm: Algorithm) -> TestKey {
    let private = EcdsaKeyPair::generate_pkcs8(curve, &SystemRandom::new()).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(curve, private.as_ref()).unwrap();
    let public = AsDer::<PublicKeyX509Der>::as_der(pair.public_key()).unwrap();
    test_key(EncodingKey::from_ec_der(private.as_ref()), algorithm, private.as_ref(), public.as_ref())
}

pub(super) fn ed25519() -> TestKey {
    let private = Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new()).unwrap();
    let pair = Ed25519KeyPair::from_pkcs8(private.as_ref()).unwrap();
    let public = AsDer::<PublicKeyX509Der>::as_der(pair.public_key()).unwrap();
    test_key(EncodingKey::from_ed_der(private.as_ref()), Algorithm::EdDSA, private.as_ref(), public.as_ref())
}

fn test_key(signing: EncodingKey, algorithm: Algorithm, private: &[u8], public: &[u8]) -> TestKey {
    let mut jwk = serde_json::to_value(Jwk::from_encoding_key(&signing, algorithm).unwrap()).unwrap();
    jwk.as_object_mut().unwrap().remove("alg");
    TestKey { signing, pem: pem("PUBLIC KEY", public), private_pem: pem("PRIVATE KEY", private), jwk }
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
pub(super) fn sign(header: &Value, claims: &Value, key: &EncodingKey, algorithm: Algorithm) -> String {
    sign_text(&header.to_string(), &claims.to_string(), key, algorithm)
}

/// A token of texts that need not be JSON.
pub(super) fn sign_text(header: &str, claims: &str, key: &EncodingKey, algorithm: Algorithm) -> String {
    let message = format!("{}.{}", base64url(header.as_bytes()), base64url(claims.as_bytes()));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), key, algorithm).unwrap();
    format!("{message}.{signature}")
}

/// A token with the usual header.
pub(super) fn token(claims: &Value, key: &EncodingKey, algorithm: Algorithm) -> String {
    sign(&json!({"typ": "JWT", "alg": format!("{algorithm:?}")}), claims, key, algorithm)
}

pub(super) fn base64url(bytes: &[u8]) -> String {
    base64(bytes, *b"-_")
}

/// A PEM text.
pub(super) fn pem(label: &str, der: &[u8]) -> String {
    let mut body = base64(der, *b"+/");
    body.push_str(&"=".repeat((4 - body.len() % 4) % 4));
    let lines: Vec<&str> = body.as_bytes().chunks(64).map(|line| str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// Base64 without padding.
fn base64(bytes: &[u8], last: [u8; 2]) -> String {
    let alphabet: Vec<u8> = [b'A'..=b'Z', b'a'..=b'z', b'0'..=b'9'].into_iter().flatten().chain(last).collect();
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group = (0..3).fold(0_u32, |group, at| group << 8 | u32::from(*chunk.get(at).unwrap_or(&0)));
        text.extend((0..=chunk.len()).map(|at| char::from(alphabet[(group >> (18 - 6 * at) & 63) as usize])));
    }
    text
}
