//! A JSON Web Key (RFC 7517) as a verifying key, or why it is none.

use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::verifying_key::{KeyFamily, PRIVATE_KEY, PUBLIC_KEYS, VerifyingKey};
use crate::base64;
use crate::config_error::ConfigError;

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
    Key(VerifyingKey, Option<Algorithm>),
    No(&'static str),
}

impl Jwk {
    /// The error text of serde would repeat values, so it is not passed on.
    pub(super) fn parse(option: &str, value: &Value) -> Result<Self, ConfigError> {
        Jwk::deserialize(value).map_err(|_| ConfigError::invalid(option, "is not a JSON Web Key (RFC 7517)"))
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
        let (decoding, family) = match (self.kty.as_str(), self.crv.as_deref()) {
            ("oct", _) => {
                let secret = base64::decode_url(base64url(option, "k", self.k.as_ref())?).unwrap_or_default();
                return Ok(Usable::Key(VerifyingKey::hmac(option, &secret)?, pinned));
            }
            ("RSA", _) => (
                DecodingKey::from_rsa_components(
                    base64url(option, "n", self.n.as_ref())?,
                    base64url(option, "e", self.e.as_ref())?,
                ),
                KeyFamily::Rsa,
            ),
            ("EC", Some(curve @ ("P-256" | "P-384"))) => {
                let family = if curve == "P-256" { KeyFamily::P256 } else { KeyFamily::P384 };
                (
                    DecodingKey::from_ec_components(
                        base64url(option, "x", self.x.as_ref())?,
                        base64url(option, "y", self.y.as_ref())?,
                    ),
                    family,
                )
            }
            ("OKP", Some("Ed25519")) => {
                (DecodingKey::from_ed_components(base64url(option, "x", self.x.as_ref())?), KeyFamily::Ed25519)
            }
            _ => return Ok(Usable::No("has a `kty` or `crv` that is not accepted")),
        };
        if self.d.is_some() {
            return Err(ConfigError::invalid(option, PRIVATE_KEY));
        }
        let unusable = || ConfigError::invalid(option, format!("is not a usable key; {PUBLIC_KEYS}"));
        let key = VerifyingKey::public(option, decoding.map_err(|_| unusable())?)?;
        if key.family == family { Ok(Usable::Key(key, pinned)) } else { Err(unusable()) }
    }
}

/// A member that holds bytes, or what is wrong with it.
fn base64url<'t>(option: &str, name: &str, text: Option<&'t String>) -> Result<&'t str, ConfigError> {
    let what = match text.map(String::as_str) {
        None => format!("is a JSON Web Key without `{name}`"),
        Some("") => format!("is a JSON Web Key with an empty `{name}`"),
        Some(text) if base64::decode_url(text).is_some() => return Ok(text),
        Some(text) => {
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
