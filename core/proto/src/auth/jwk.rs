//! A JSON Web Key (RFC 7517) as a verifying key, or why it is none.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::algorithm::{Algorithm, KeyFamily};
use super::verifying_key::{KeyMaterial, PRIVATE_KEY, PUBLIC_KEYS};
use crate::config_error::ConfigError;

/// What a point that is not compressed begins with (SEC 1 section 2.3.3).
const UNCOMPRESSED: u8 = 4;

/// The members of a JSON Web Key (RFC 7517) that are looked at. Certificates and URLs in it are not.
#[derive(Deserialize)]
pub(super) struct Jwk {
    kty: String,
    pub(super) kid: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    k: Option<String>,
    d: Option<IgnoredAny>,
}

/// A JWK as a key, with the one algorithm it names; or why it is of no use here.
pub(super) enum Usable {
    Key(KeyMaterial, Option<Algorithm>),
    No(&'static str),
}

impl Jwk {
    /// The error text of serde would repeat values, so it is not passed on.
    pub(super) fn parse(option: &str, value: &Value) -> Result<Self, ConfigError> {
        Jwk::deserialize(value).map_err(|_| ConfigError::invalid(option, "is not a JSON Web Key (RFC 7517)"))
    }

    /// Whether it holds a secret or a private key: in a set for everybody to read, its owner is anybody.
    pub(super) fn is_secret(&self) -> bool {
        self.kty == "oct" || self.k.is_some() || self.d.is_some()
    }

    pub(super) fn load(&self, option: &str) -> Result<Usable, ConfigError> {
        if self.purpose.as_deref().is_some_and(|purpose| purpose != "sig") {
            return Ok(Usable::No("is not for signatures: its `use` is not \"sig\""));
        }
        if self.key_ops.as_ref().is_some_and(|operations| !operations.iter().any(|name| name == "verify")) {
            return Ok(Usable::No("is not for signatures: its `key_ops` lack \"verify\""));
        }
        let Ok(pinned) = self.alg.as_deref().map(str::parse).transpose() else {
            return Ok(Usable::No("has an `alg` that is not accepted"));
        };
        let bytes = |name, member: &Option<String>| base64url(option, name, member.as_deref());
        let key = match (self.kty.as_str(), self.crv.as_deref()) {
            ("oct", _) => return Ok(Usable::Key(KeyMaterial::hmac(option, bytes("k", &self.k)?)?, pinned)),
            ("RSA", _) => {
                let (modulus, exponent) = (bytes("n", &self.n)?, bytes("e", &self.e)?);
                KeyMaterial::rsa(option, &modulus, &exponent)
            }
            ("EC", Some("P-256")) => point(option, KeyFamily::P256, 32, &bytes("x", &self.x)?, &bytes("y", &self.y)?),
            ("EC", Some("P-384")) => point(option, KeyFamily::P384, 48, &bytes("x", &self.x)?, &bytes("y", &self.y)?),
            ("OKP", Some("Ed25519")) => KeyMaterial::public(option, KeyFamily::Ed25519, bytes("x", &self.x)?),
            _ => return Ok(Usable::No("has a `kty` or `crv` that is not accepted")),
        };
        if self.d.is_some() {
            return Err(ConfigError::invalid(option, PRIVATE_KEY));
        }
        Ok(Usable::Key(key?, pinned))
    }
}

/// A point of a curve whose coordinates have `len` bytes (RFC 7518 section 6.2.1).
fn point(option: &str, family: KeyFamily, len: usize, x: &[u8], y: &[u8]) -> Result<KeyMaterial, ConfigError> {
    if x.len() != len || y.len() != len {
        return Err(ConfigError::invalid(option, format!("is not a usable key; {PUBLIC_KEYS}")));
    }
    KeyMaterial::public(option, family, [&[UNCOMPRESSED], x, y].concat())
}

/// A member that holds bytes, or what is wrong with it.
fn base64url(option: &str, name: &str, text: Option<&str>) -> Result<Vec<u8>, ConfigError> {
    let what = match text {
        None => format!("is a JSON Web Key without `{name}`"),
        Some("") => format!("is a JSON Web Key with an empty `{name}`"),
        Some(text) => {
            if let Ok(bytes) = URL_SAFE_NO_PAD.decode(text) {
                return Ok(bytes);
            }
            let hint = match text.trim_end_matches('=').contains(['+', '/']) {
                true => ": it is in the other alphabet, with `-` and `_` in place of `+` and `/`",
                false if text.ends_with('=') => ": leave the `=` at its end out",
                false => "",
            };
            format!("is a JSON Web Key whose `{name}` is not base64url without padding (RFC 7515 section 2){hint}")
        }
    };
    Err(ConfigError::invalid(option, what))
}
