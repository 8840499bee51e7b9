//! JSON Web Tokens (RFC 7519): is this token signed by one of our keys, for us, now, and whose is it.
//!
//! The signature is verified by aws-lc; which key and algorithm may be used is decided by `jwt_keys` at start, and the
//! claims are checked here, because time comes in as an argument. A token's own hints about keys (`jku`, `x5u`, `jwk`,
//! `x5c`) are never looked at.

use core::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::algorithm::Algorithm;
use super::claims::Claims;
use super::jwks::{Jwks, KeySource};
use super::jwt_error::JwtError;
use super::jwt_keys::KeyRing;
use super::verifying_key::VerifyingKey;
use super::{MAX_TOKEN_BYTES, check_user};
use crate::config_error::ConfigError;
use crate::files::Files;
use crate::options::{JwtOptions, OneOrMany};
use crate::roles::Roles;
use crate::unambiguous::{self, Reading};

/// The end of the year 9999: later expiries are refused. In milliseconds still an exact integer in every language.
const LATEST_EXPIRY_UNIX_S: u64 = 253_402_300_799;
const ALGORITHMS: &str = "accepted: HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA";

/// Whom a verified token names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtIdentity {
    /// The user claim.
    pub user: String,
    /// What the roles claim has.
    pub roles: Roles,
    /// The digest of the key that has signed it.
    pub key: [u8; 32],
    /// Its claims; `None`: they are too long to be kept.
    pub claims: Option<Claims>,
    /// When the session ends, in seconds since the Unix epoch: `exp` plus the leeway, at most the year 9999.
    pub expires_at_unix_s: u64,
}

/// Verifies tokens: `auth.jwt`, ready for use.
pub struct JwtVerifier {
    keys: KeySource,
    issuers: Option<Vec<String>>,
    audiences: Option<Vec<String>>,
    leeway_s: u64,
    user_claim: String,
    roles_claim: Option<String>,
}

impl JwtVerifier {
    /// Checks the options and loads the keys; reads key files, and nothing else.
    ///
    /// # Errors
    /// Names the option: `auth.jwt.key`, `auth.jwt.keys.KID`, `auth.jwt.algorithms[0]`. Never repeats a key.
    pub fn new(options: JwtOptions, files: &dyn Files) -> Result<Self, ConfigError> {
        let algorithms = parse_algorithms(&options.algorithms)?;
        options.check_ranges()?;
        if options.user_claim.is_empty() {
            return Err(ConfigError::invalid("auth.jwt.user_claim", "must name a claim"));
        }
        if options.roles_claim.as_ref().is_some_and(String::is_empty) {
            return Err(ConfigError::invalid("auth.jwt.roles_claim", "must name a claim"));
        }
        Ok(Self {
            keys: KeySource::load(&options, &algorithms, files)?,
            issuers: parse_list("auth.jwt.issuer", options.issuer)?,
            audiences: parse_list("auth.jwt.audience", options.audience)?,
            leeway_s: options.leeway_s,
            user_claim: options.user_claim,
            roles_claim: options.roles_claim,
        })
    }

    /// Where keys are fetched from; `None`: they are stated.
    pub fn jwks(&self) -> Option<&Arc<Jwks>> {
        self.keys.jwks()
    }

    /// Whom `token` names at `now_unix_s`, seconds since the Unix epoch. No claim is looked at before the signature is
    /// verified.
    pub fn verify(&self, token: &str, now_unix_s: u64) -> Result<JwtIdentity, JwtError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(JwtError::TooLong);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(JwtError::Malformed)?;
        let (header, claims) = message.split_once('.').ok_or(JwtError::Malformed)?;
        if claims.contains('.') {
            return Err(JwtError::Malformed);
        }
        let header = decode_object(header)?;
        check_type(&header)?;
        let signature = decode(signature)?;

        let keys = self.keys.keys().ok_or(JwtError::KeysUnavailable)?;
        let (key, algorithm) = self.choose(&keys, &header)?;
        match key.verifies(algorithm, message.as_bytes(), &signature) {
            Some(true) => {}
            Some(false) => return Err(JwtError::BadSignature),
            None => return Err(JwtError::AlgorithmNotAllowed),
        }

        let payload = decode(claims)?;
        let claims = object(&payload)?;
        let expires_at_unix_s = self.check_time(&claims, now_unix_s)?;
        self.check_parties(&claims)?;
        let user = match claims.get(&self.user_claim) {
            None => return Err(JwtError::UserMissing),
            Some(Value::String(user)) if check_user(user).is_ok() => user.clone(),
            Some(_) => return Err(JwtError::UserInvalid),
        };
        let roles = self.roles(&claims)?;
        Ok(JwtIdentity { user, roles, key: key.digest, claims: Claims::keep(payload), expires_at_unix_s })
    }

    /// Whether the key with this digest is one of those that tokens may be signed by. While no set can be fetched nobody knows,
    /// and an outage of the issuer revokes no session.
    pub(super) fn has_key(&self, digest: &[u8; 32]) -> bool {
        self.keys.keys().is_none_or(|keys| keys.iter().any(|key| key.digest == *digest))
    }

    /// The roles claim: a list, or one text as the `scope` of OAuth is (RFC 6749 section 3.3).
    fn roles(&self, claims: &Map<String, Value>) -> Result<Roles, JwtError> {
        let roles = match self.roles_claim.as_ref().and_then(|claim| claims.get(claim)) {
            None => return Ok(Roles::default()),
            Some(Value::String(text)) => Roles::new(text.split(' ').filter(|role| !role.is_empty())),
            Some(Value::Array(list)) => {
                let names = list.iter().map(Value::as_str).collect::<Option<Vec<_>>>().ok_or(JwtError::RolesInvalid)?;
                Roles::new(names)
            }
            Some(_) => return Err(JwtError::RolesInvalid),
        };
        roles.map_err(|_| JwtError::RolesInvalid)
    }

    /// The key and algorithm for a token with this header: the token may ask, the key decides when it verifies.
    fn choose<'k>(
        &self,
        keys: &'k KeyRing,
        header: &Map<String, Value>,
    ) -> Result<(&'k VerifyingKey, Algorithm), JwtError> {
        if header.contains_key("crit") {
            return Err(JwtError::CriticalHeader);
        }
        let name = header.get("alg").and_then(Value::as_str).ok_or(JwtError::Malformed)?;
        if name.eq_ignore_ascii_case("none") {
            return Err(JwtError::Unsigned);
        }
        // A token that no key could verify is worth no fetch.
        if self.jwks().is_some_and(|jwks| !jwks.lists(name)) {
            return Err(JwtError::AlgorithmNotAllowed);
        }
        let key = match keys {
            KeyRing::One(key) => key,
            KeyRing::ByKid(keys) => {
                let kid = header.get("kid").and_then(Value::as_str).ok_or(JwtError::KidMissing)?;
                keys.get(kid).ok_or(JwtError::KidUnknown)?
            }
        };
        Ok((key, name.parse().map_err(|_| JwtError::AlgorithmNotAllowed)?))
    }

    /// RFC 7519 sections 4.1.4 and 4.1.5; returns when the session ends. `iat` says nothing about validity.
    fn check_time(&self, claims: &Map<String, Value>, now_unix_s: u64) -> Result<u64, JwtError> {
        let exp = claims.get("exp").ok_or(JwtError::ExpMissing)?;
        let exp = unix_seconds(exp).ok_or(JwtError::ExpNotNumber)?;
        if exp > LATEST_EXPIRY_UNIX_S {
            return Err(JwtError::ExpTooFar);
        }
        let ends = exp.saturating_add(self.leeway_s);
        if now_unix_s >= ends {
            return Err(JwtError::Expired);
        }
        if let Some(nbf) = claims.get("nbf") {
            let starts = unix_seconds(nbf).ok_or(JwtError::NbfNotNumber)?;
            if starts > now_unix_s.saturating_add(self.leeway_s) {
                return Err(JwtError::NotYetValid);
            }
        }
        Ok(ends.min(LATEST_EXPIRY_UNIX_S))
    }

    fn check_parties(&self, claims: &Map<String, Value>) -> Result<(), JwtError> {
        let listed = |known: &[String], value: &Value| {
            value.as_str().is_some_and(|text| known.iter().any(|accepted| accepted == text))
        };
        if let Some(issuers) = &self.issuers
            && !claims.get("iss").is_some_and(|issuer| listed(issuers, issuer))
        {
            return Err(JwtError::WrongIssuer);
        }
        if let Some(audiences) = &self.audiences {
            let named = match claims.get("aud") {
                Some(Value::Array(names)) => names.iter().any(|name| listed(audiences, name)),
                Some(name) => listed(audiences, name),
                None => false,
            };
            if !named {
                return Err(JwtError::WrongAudience);
            }
        }
        Ok(())
    }
}

/// Shows what is accepted, never a key.
impl fmt::Debug for JwtVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.keys.keys();
        let keys = keys.iter().flat_map(|keys| keys.iter());
        let keys: Vec<_> = keys.map(|key| (key.family, key.algorithms().collect::<Vec<_>>())).collect();
        f.debug_struct("JwtVerifier")
            .field("keys", &keys)
            .field("issuers", &self.issuers)
            .field("audiences", &self.audiences)
            .field("leeway_s", &self.leeway_s)
            .field("user_claim", &self.user_claim)
            .field("roles_claim", &self.roles_claim)
            .finish()
    }
}

fn parse_algorithms(names: &[String]) -> Result<Vec<Algorithm>, ConfigError> {
    if names.is_empty() {
        return Err(ConfigError::missing("auth.jwt.algorithms", format!("must list at least one; {ALGORITHMS}")));
    }
    let parse = |(index, name): (usize, &String)| {
        name.parse().map_err(|_| {
            ConfigError::invalid(format!("auth.jwt.algorithms[{index}]"), format!("unknown; {ALGORITHMS}"))
        })
    };
    names.iter().enumerate().map(parse).collect()
}

fn parse_list(option: &str, texts: Option<OneOrMany>) -> Result<Option<Vec<String>>, ConfigError> {
    let list = match texts {
        None => return Ok(None),
        Some(OneOrMany::One(text)) => vec![text],
        Some(OneOrMany::Many(list)) => list,
    };
    if list.is_empty() || list.iter().any(String::is_empty) {
        return Err(ConfigError::invalid(option, "must be a text or a list of texts, none of them empty"));
    }
    Ok(Some(list))
}

/// A `typ` is not needed, but one that is there says that this is a token for access (RFC 7519 section 5.1, RFC 9068
/// section 2.1): a logout token, a security event or a proof of possession of the same issuer is none.
fn check_type(header: &Map<String, Value>) -> Result<(), JwtError> {
    let Some(kind) = header.get("typ") else { return Ok(()) };
    let kind = kind.as_str().ok_or(JwtError::WrongType)?.to_ascii_lowercase();
    match kind.strip_prefix("application/").unwrap_or(&kind) {
        "jwt" | "at+jwt" => Ok(()),
        _ => Err(JwtError::WrongType),
    }
}

/// One spelling for each value, without padding (RFC 7515 section 2).
fn decode(part: &str) -> Result<Vec<u8>, JwtError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| JwtError::Malformed)
}

fn decode_object(part: &str) -> Result<Map<String, Value>, JwtError> {
    object(&decode(part)?)
}

fn object(json: &[u8]) -> Result<Map<String, Value>, JwtError> {
    match unambiguous::read(json) {
        Ok(Reading { twice: Some(_), .. }) => Err(JwtError::GivenTwice),
        Ok(Reading { value: Value::Object(object), twice: None }) => Ok(object),
        _ => Err(JwtError::Malformed),
    }
}

/// A `NumericDate` in whole seconds, held at the ends of `u64`; `None` for what is not a finite number.
fn unix_seconds(value: &Value) -> Option<u64> {
    let number = value.as_number()?;
    let truncated = |seconds: f64| seconds.max(0.0) as u64;
    number.as_u64().or_else(|| number.as_f64().filter(|seconds| seconds.is_finite()).map(truncated))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::algorithm::KeyFamily;
    use super::super::test_keys::{
        ED25519, P256, P384, RSA, SECRET, SigningKey, base64url, hmac, pem, sign, sign_text, token, with,
    };
    use super::*;
    use crate::files::NoFiles;

    const NOW: u64 = 1_700_000_000;

    fn verifier(options: Value) -> JwtVerifier {
        JwtVerifier::new(serde_json::from_value(options).unwrap(), &NoFiles).unwrap()
    }

    fn hs256() -> JwtVerifier {
        verifier(json!({"algorithms": ["HS256"], "key": SECRET}))
    }

    fn claims() -> Value {
        json!({"sub": "alice", "exp": NOW + 60})
    }

    fn whom(verified: Result<JwtIdentity, JwtError>) -> Result<(String, u64), JwtError> {
        verified.map(|identity| (identity.user, identity.expires_at_unix_s))
    }

    fn refused(verifier: &JwtVerifier, token: &str) -> JwtError {
        verifier.verify(token, NOW).unwrap_err()
    }

    /// What becomes of the usual claims with these changes: the user, or why not.
    fn outcome(verifier: &JwtVerifier, changes: Value) -> Result<String, JwtError> {
        let token = token(&with(&claims(), changes), &hmac(SECRET), Algorithm::Hs256);
        verifier.verify(&token, NOW).map(|identity| identity.user)
    }

    #[test]
    fn every_algorithm_verifies_with_its_key_in_every_form() {
        let secret = json!({"kty": "oct", "k": base64url(SECRET.as_bytes())});
        let signing = hmac(SECRET);
        assert_eq!(Algorithm::ALL.len(), 12);
        for algorithm in Algorithm::ALL.iter().copied() {
            let (signing, text, jwk) = match algorithm.family() {
                KeyFamily::Hmac => (&signing, json!(SECRET), &secret),
                KeyFamily::Rsa => (&RSA.signing, json!(RSA.pem), &RSA.jwk),
                KeyFamily::P256 => (&P256.signing, json!(P256.pem), &P256.jwk),
                KeyFamily::P384 => (&P384.signing, json!(P384.pem), &P384.jwk),
                KeyFamily::Ed25519 => (&ED25519.signing, json!(ED25519.pem), &ED25519.jwk),
            };
            assert!(ALGORITHMS.contains(algorithm.name()));
            let name = algorithm.name();
            let good = token(&claims(), signing, algorithm);
            let with_kid = sign(&json!({"alg": name, "kid": "k1"}), &claims(), signing, algorithm);
            for key in [&text, jwk] {
                let one = verifier(json!({"algorithms": [name], "key": key}));
                let alice = ("alice".to_owned(), NOW + 90);
                assert_eq!(whom(one.verify(&good, NOW)), Ok(alice.clone()), "{name}");
                assert_eq!(whom(one.verify(&with_kid, NOW)), Ok(alice.clone()), "{name}: kid ignored");
                let listed = json!([{"kid": "k1", "key": key, "algorithm": name}]);
                for keys in [json!({"k1": key}), json!([{"kid": "k1", "key": key}]), listed] {
                    let many = verifier(json!({"algorithms": [name], "keys": keys}));
                    assert_eq!(whom(many.verify(&with_kid, NOW)), Ok(alice.clone()), "{name}");
                    assert_eq!(many.verify(&good, NOW), Err(JwtError::KidMissing), "{name}");
                }
            }
            let set = verifier(json!({"algorithms": [name], "keys": {"keys": [with(jwk, json!({"kid": "k1"}))]}}));
            assert!(set.verify(&with_kid, NOW).is_ok(), "{name}");
        }
    }

    #[test]
    fn pkcs1_pem_is_an_rsa_key_too() {
        let pkcs1 = pem("RSA PUBLIC KEY", &RSA.public);
        let verifier = verifier(json!({"algorithms": ["PS256"], "key": pkcs1}));
        assert!(verifier.verify(&token(&claims(), &RSA.signing, Algorithm::Ps256), NOW).is_ok());
    }

    #[test]
    fn a_verifier_is_shared_by_all_shards() {
        fn shared<T: Send + Sync + 'static>() {}
        shared::<JwtVerifier>();
    }

    #[test]
    fn the_signature_covers_every_byte() {
        let cases = [
            (Algorithm::Hs256, hmac(SECRET), json!(SECRET)),
            (Algorithm::Rs256, RSA.signing.clone(), json!(RSA.pem)),
            (Algorithm::Es256, P256.signing.clone(), json!(P256.pem)),
            (Algorithm::EdDsa, ED25519.signing.clone(), json!(ED25519.pem)),
        ];
        for (algorithm, signing, key) in cases {
            let verifier = verifier(json!({"algorithms": [algorithm.name()], "key": key}));
            let good = token(&claims(), &signing, algorithm);
            let (message, signature) = good.rsplit_once('.').unwrap();
            let (header, _) = message.split_once('.').unwrap();
            let mallory = base64url(with(&claims(), json!({"sub": "mallory"})).to_string().as_bytes());
            let mut flipped = decode(signature).unwrap();
            flipped[0] ^= 1;
            for bad in [
                format!("{header}.{mallory}.{signature}"),
                format!("{message}.{}", base64url(&flipped)),
                format!("{message}.{}", base64url(&decode(signature).unwrap()[1..])),
                format!("{message}."),
                format!("{message}.AAAA"),
            ] {
                assert_eq!(refused(&verifier, &bad), JwtError::BadSignature, "{algorithm:?}");
            }
        }
    }

    #[test]
    fn a_token_does_not_choose_its_algorithm() {
        let rs256 = verifier(json!({"algorithms": ["RS256"], "key": RSA.pem}));
        // HS/RS confusion: signed with the public key as the secret
        for secret in [RSA.pem.as_str(), RSA.pem.trim()] {
            let confused = token(&claims(), &hmac(secret), Algorithm::Hs256);
            assert_eq!(refused(&rs256, &confused), JwtError::AlgorithmNotAllowed);
        }
        // the right key with an algorithm that is not listed
        for algorithm in [Algorithm::Rs512, Algorithm::Ps256] {
            assert_eq!(refused(&rs256, &token(&claims(), &RSA.signing, algorithm)), JwtError::AlgorithmNotAllowed);
        }
        // both families listed, but each bound to its own key
        let both = verifier(json!({"algorithms": ["HS256", "RS256"], "keys": [
            {"kid": "s", "key": SECRET, "algorithm": "HS256"}, {"kid": "r", "key": RSA.pem},
        ]}));
        let signed = |kid: &str, key: &SigningKey, algorithm: Algorithm| {
            sign(&json!({"alg": algorithm.name(), "kid": kid}), &claims(), key, algorithm)
        };
        assert!(both.verify(&signed("s", &hmac(SECRET), Algorithm::Hs256), NOW).is_ok());
        assert!(both.verify(&signed("r", &RSA.signing, Algorithm::Rs256), NOW).is_ok());
        for (bad, error) in [
            (signed("r", &hmac(&RSA.pem), Algorithm::Hs256), JwtError::AlgorithmNotAllowed),
            (signed("r", &hmac(SECRET), Algorithm::Hs256), JwtError::AlgorithmNotAllowed),
            (signed("s", &RSA.signing, Algorithm::Rs256), JwtError::AlgorithmNotAllowed),
            (signed("x", &RSA.signing, Algorithm::Rs256), JwtError::KidUnknown),
            (signed("", &RSA.signing, Algorithm::Rs256), JwtError::KidUnknown),
            (signed("s", &hmac("another secret, just as long as it"), Algorithm::Hs256), JwtError::BadSignature),
        ] {
            assert_eq!(refused(&both, &bad), error, "{bad}");
        }
    }

    #[test]
    fn unsigned_and_unknown_algorithms_are_refused() {
        let verifier = hs256();
        let part = |json: Value| base64url(json.to_string().as_bytes());
        for (alg, error) in [
            (json!("none"), JwtError::Unsigned),
            (json!("None"), JwtError::Unsigned),
            (json!("nOnE"), JwtError::Unsigned),
            (json!("hs256"), JwtError::AlgorithmNotAllowed),
            (json!("HS384"), JwtError::AlgorithmNotAllowed),
            (json!("HS256 "), JwtError::AlgorithmNotAllowed),
            (json!("ES512"), JwtError::AlgorithmNotAllowed),
            (json!(""), JwtError::AlgorithmNotAllowed),
            (json!(["HS256"]), JwtError::Malformed),
            (json!(null), JwtError::Malformed),
        ] {
            let unsigned = format!("{}.{}.", part(json!({"alg": alg})), part(claims()));
            assert_eq!(refused(&verifier, &unsigned), error, "{alg}");
            let signed = sign(&json!({"alg": alg}), &claims(), &hmac(SECRET), Algorithm::Hs256);
            assert_eq!(refused(&verifier, &signed), error, "{alg}");
        }
    }

    #[test]
    fn keys_in_the_header_are_never_used() {
        let mallory = super::super::test_keys::ed25519();
        let verifier = verifier(json!({"algorithms": ["EdDSA"], "key": ED25519.pem}));
        for hint in [
            json!({"jwk": mallory.jwk}),
            json!({"jku": "https://evil.example/keys"}),
            json!({"x5u": "https://evil.example/cert"}),
            json!({"x5c": ["MIIB"]}),
            json!({"jwk": 1, "x5c": {}}),
        ] {
            let header = with(&hint, json!({"alg": "EdDSA"}));
            let forged = sign(&header, &claims(), &mallory.signing, Algorithm::EdDsa);
            assert_eq!(refused(&verifier, &forged), JwtError::BadSignature, "{hint}");
            let honest = sign(&header, &claims(), &ED25519.signing, Algorithm::EdDsa);
            assert!(verifier.verify(&honest, NOW).is_ok(), "{hint}");
        }
    }

    #[test]
    fn crit_is_refused_whatever_it_holds() {
        for crit in [r#"["exp"]"#, r#"["b64"]"#, "[]", "null", "1"] {
            let header = format!(r#"{{"alg":"HS256","crit":{crit}}}"#);
            let token = sign_text(&header, &claims().to_string(), &hmac(SECRET), Algorithm::Hs256);
            assert_eq!(refused(&hs256(), &token), JwtError::CriticalHeader, "{crit}");
        }
    }

    #[test]
    fn malformed_tokens_are_refused() {
        let verifier = hs256();
        let good = token(&claims(), &hmac(SECRET), Algorithm::Hs256);
        let long_name = "x".repeat(MAX_TOKEN_BYTES);
        let too_long = token(&with(&claims(), json!({"a": long_name})), &hmac(SECRET), Algorithm::Hs256);
        assert_eq!(refused(&verifier, &too_long), JwtError::TooLong);
        let (message, signature) = good.rsplit_once('.').unwrap();
        for bad in [
            "",
            ".",
            "..",
            "...",
            "a",
            "a.b",
            "a.b.c",
            "eyJ9.e30.AAAA",
            "é.é.é",
            message,
            &format!("{good}."),
            &format!(".{good}"),
            &format!("{good}.AAAA"),
            &format!("{good}="),
            &format!("{message}.+{}", &signature[1..]),
            &format!(" {good}"),
        ] {
            assert_eq!(refused(&verifier, bad), JwtError::Malformed, "{bad}");
        }
        for claims in ["", "[]", "null", "\"a\"", "{", "{\"exp\": NaN}", "{\"exp\": 1e999}", "{}{}", "\u{feff}{}"] {
            let token = sign_text(r#"{"alg":"HS256"}"#, claims, &hmac(SECRET), Algorithm::Hs256);
            assert_eq!(refused(&verifier, &token), JwtError::Malformed, "{claims}");
        }
        // nesting ends at the limit of serde_json, not of the stack
        let deep = format!("{}{}", "[".repeat(3000), "]".repeat(3000));
        let token = sign_text(&format!("{{\"alg\":{deep}}}"), "{}", &hmac(SECRET), Algorithm::Hs256);
        assert_eq!(refused(&verifier, &token), JwtError::Malformed);
    }

    #[test]
    fn no_truncation_of_a_good_token_is_good() {
        let good = token(&claims(), &hmac(SECRET), Algorithm::Hs256);
        for end in 0..good.len() {
            assert!(hs256().verify(&good[..end], NOW).is_err(), "{end}");
        }
    }

    #[test]
    fn exp_is_required_a_number_and_ahead() {
        for (exp, expected) in [
            (json!(null), Err(JwtError::ExpMissing)),
            (json!("1700000060"), Err(JwtError::ExpNotNumber)),
            (json!(true), Err(JwtError::ExpNotNumber)),
            (json!([NOW + 60]), Err(JwtError::ExpNotNumber)),
            (json!({}), Err(JwtError::ExpNotNumber)),
            (json!(0), Err(JwtError::Expired)),
            (json!(-1), Err(JwtError::Expired)),
            (json!(i64::MIN), Err(JwtError::Expired)),
            (json!(-1e300), Err(JwtError::Expired)),
            (json!(-0.0), Err(JwtError::Expired)),
            (json!(1e-300), Err(JwtError::Expired)),
            (json!(NOW - 31), Err(JwtError::Expired)),
            (json!(NOW - 30), Err(JwtError::Expired)),
            (json!(NOW - 29), Ok(NOW + 1)),
            (json!(NOW as f64 - 28.5), Ok(NOW + 1)),
            (json!(NOW), Ok(NOW + 30)),
            (json!(LATEST_EXPIRY_UNIX_S), Ok(LATEST_EXPIRY_UNIX_S)),
            (json!(LATEST_EXPIRY_UNIX_S + 1), Err(JwtError::ExpTooFar)),
            (json!(NOW * 1000), Err(JwtError::ExpTooFar)),
            (json!(u64::MAX), Err(JwtError::ExpTooFar)),
            (json!(i64::MAX), Err(JwtError::ExpTooFar)),
            (json!(1e19), Err(JwtError::ExpTooFar)),
            (json!(1.7e308), Err(JwtError::ExpTooFar)),
        ] {
            let token = token(&with(&claims(), json!({"exp": exp})), &hmac(SECRET), Algorithm::Hs256);
            assert_eq!(hs256().verify(&token, NOW).map(|identity| identity.expires_at_unix_s), expected, "{exp}");
            assert!(hs256().verify(&token, u64::MAX).is_err(), "{exp}: the clock at its end");
        }
        let null = sign_text(r#"{"alg":"HS256"}"#, r#"{"sub":"a","exp":null}"#, &hmac(SECRET), Algorithm::Hs256);
        assert_eq!(refused(&hs256(), &null), JwtError::ExpNotNumber);
    }

    #[test]
    fn nbf_may_be_absent_and_must_have_come() {
        for (nbf, expected) in [
            (json!("1"), Err(JwtError::NbfNotNumber)),
            (json!(false), Err(JwtError::NbfNotNumber)),
            (json!(0), Ok(())),
            (json!(-1e300), Ok(())),
            (json!(NOW), Ok(())),
            (json!(NOW + 30), Ok(())),
            (json!(NOW + 31), Err(JwtError::NotYetValid)),
            (json!(u64::MAX), Err(JwtError::NotYetValid)),
            (json!(1e300), Err(JwtError::NotYetValid)),
        ] {
            assert_eq!(outcome(&hs256(), json!({"nbf": nbf})).map(drop), expected, "{nbf}");
        }
        let null = format!(r#"{{"sub":"a","exp":{},"nbf":null}}"#, NOW + 60);
        let null = sign_text(r#"{"alg":"HS256"}"#, &null, &hmac(SECRET), Algorithm::Hs256);
        assert_eq!(refused(&hs256(), &null), JwtError::NbfNotNumber);
        assert!(outcome(&hs256(), json!({"iat": "not looked at"})).is_ok());
    }

    #[test]
    fn leeway_is_what_the_option_says() {
        let strict = verifier(json!({"algorithms": ["HS256"], "key": SECRET, "leeway_s": 0}));
        let lax = verifier(json!({"algorithms": ["HS256"], "key": SECRET, "leeway_s": 3600}));
        assert_eq!(outcome(&strict, json!({"exp": NOW})), Err(JwtError::Expired));
        assert!(outcome(&strict, json!({"exp": NOW + 1})).is_ok());
        assert_eq!(outcome(&strict, json!({"nbf": NOW + 1})), Err(JwtError::NotYetValid));
        assert!(outcome(&lax, json!({"exp": NOW - 3599, "nbf": NOW + 3600})).is_ok());
    }

    #[test]
    fn issuer_and_audience_are_checked_where_configured() {
        let both = json!({"algorithms": ["HS256"], "key": SECRET, "issuer": "us", "audience": ["chat", "feed"]});
        let verifier_of = |changes| verifier(with(&both, changes));
        let (both, any) = (verifier(both.clone()), hs256());
        for (changes, expected) in [
            (json!({"iss": "us", "aud": "chat"}), Ok(())),
            (json!({"iss": "us", "aud": "feed"}), Ok(())),
            (json!({"iss": "us", "aud": ["x", "feed"]}), Ok(())),
            (json!({"iss": "us", "aud": [1, "feed"]}), Ok(())),
            (json!({"aud": "chat"}), Err(JwtError::WrongIssuer)),
            (json!({"iss": "them", "aud": "chat"}), Err(JwtError::WrongIssuer)),
            (json!({"iss": "US", "aud": "chat"}), Err(JwtError::WrongIssuer)),
            (json!({"iss": ["us"], "aud": "chat"}), Err(JwtError::WrongIssuer)),
            (json!({"iss": 1, "aud": "chat"}), Err(JwtError::WrongIssuer)),
            (json!({"iss": "us"}), Err(JwtError::WrongAudience)),
            (json!({"iss": "us", "aud": "cha"}), Err(JwtError::WrongAudience)),
            (json!({"iss": "us", "aud": "chat feed"}), Err(JwtError::WrongAudience)),
            (json!({"iss": "us", "aud": []}), Err(JwtError::WrongAudience)),
            (json!({"iss": "us", "aud": [["chat"]]}), Err(JwtError::WrongAudience)),
            (json!({"iss": "us", "aud": {"chat": 1}}), Err(JwtError::WrongAudience)),
        ] {
            assert_eq!(outcome(&both, changes.clone()).map(drop), expected, "{changes}");
            assert!(outcome(&any, changes.clone()).is_ok(), "{changes}");
        }
        let swapped = verifier_of(json!({"issuer": ["a", "b"], "audience": "chat"}));
        assert!(outcome(&swapped, json!({"iss": "b", "aud": "chat"})).is_ok());
    }

    #[test]
    fn the_user_claim_is_a_usable_string() {
        let long = "x".repeat(257);
        for (sub, expected) in [
            (json!(null), Err(JwtError::UserMissing)),
            (json!(42), Err(JwtError::UserInvalid)),
            (json!(["alice"]), Err(JwtError::UserInvalid)),
            (json!({}), Err(JwtError::UserInvalid)),
            (json!(""), Err(JwtError::UserInvalid)),
            (json!("a\r\nb"), Err(JwtError::UserInvalid)),
            (json!("\u{0}"), Err(JwtError::UserInvalid)),
            (json!(long), Err(JwtError::UserInvalid)),
            (json!(long[1..]), Ok(long[1..].to_owned())),
            (json!("Zoë"), Ok("Zoë".to_owned())),
        ] {
            assert_eq!(outcome(&hs256(), json!({"sub": sub})), expected, "{sub}");
        }
        let email = verifier(json!({"algorithms": ["HS256"], "key": SECRET, "user_claim": "email"}));
        assert_eq!(outcome(&email, json!({"email": "a@b"})), Ok("a@b".to_owned()));
        assert_eq!(outcome(&email, json!({})), Err(JwtError::UserMissing));
    }

    #[test]
    fn roles_are_a_list_or_one_text_and_nothing_else() {
        let roles_of = |verifier: &JwtVerifier, changes: Value| {
            let token = token(&with(&claims(), changes), &hmac(SECRET), Algorithm::Hs256);
            verifier.verify(&token, NOW).map(|identity| identity.roles.iter().collect::<Vec<_>>().join(","))
        };
        let scope = verifier(json!({"algorithms": ["HS256"], "key": SECRET, "roles_claim": "scope"}));
        let many: Vec<String> = (0..65).map(|number| number.to_string()).collect();
        for (claim, expected) in [
            (json!([]), Ok("")),
            (json!(""), Ok("")),
            (json!(["admin", "ops", "admin"]), Ok("admin,ops")),
            (json!(" admin  ops "), Ok("admin,ops")),
            (json!(["a b"]), Err(JwtError::RolesInvalid)),
            (json!([""]), Err(JwtError::RolesInvalid)),
            (json!(["a", 1]), Err(JwtError::RolesInvalid)),
            (json!(["a", null]), Err(JwtError::RolesInvalid)),
            (json!("a\tb"), Err(JwtError::RolesInvalid)),
            (json!(true), Err(JwtError::RolesInvalid)),
            (json!({"admin": true}), Err(JwtError::RolesInvalid)),
            (json!(many), Err(JwtError::RolesInvalid)),
            (json!("x".repeat(65)), Err(JwtError::RolesInvalid)),
        ] {
            let expected = expected.map(str::to_owned);
            assert_eq!(roles_of(&scope, json!({"scope": claim, "roles": "root"})), expected, "{claim}");
            assert_eq!(roles_of(&hs256(), json!({"scope": claim})), Ok(String::new()), "nobody asks for them");
        }
        assert_eq!(roles_of(&scope, json!({})), Ok(String::new()));
    }

    #[test]
    fn bad_options_are_named() {
        let base = json!({"algorithms": ["HS256"], "key": SECRET});
        for (changes, option) in [
            (json!({"algorithms": []}), "auth.jwt.algorithms"),
            (json!({"algorithms": null}), "auth.jwt.algorithms"),
            (json!({"algorithms": ["HS256", "none"]}), "auth.jwt.algorithms[1]"),
            (json!({"algorithms": ["hs256"]}), "auth.jwt.algorithms[0]"),
            (json!({"algorithms": ["ES512"]}), "auth.jwt.algorithms[0]"),
            (json!({"leeway_s": 3601}), "auth.jwt.leeway_s"),
            (json!({"user_claim": ""}), "auth.jwt.user_claim"),
            (json!({"roles_claim": ""}), "auth.jwt.roles_claim"),
            (json!({"issuer": ""}), "auth.jwt.issuer"),
            (json!({"issuer": []}), "auth.jwt.issuer"),
            (json!({"audience": ["a", ""]}), "auth.jwt.audience"),
        ] {
            let options = serde_json::from_value(with(&base, changes.clone())).unwrap();
            let error = JwtVerifier::new(options, &NoFiles).unwrap_err();
            assert_eq!(error.option, option, "{changes}");
        }
        for changes in [json!({"leeway": 1}), json!({"leeway_s": -1}), json!({"leeway_s": "1"}), json!({"issuer": 1})] {
            assert!(serde_json::from_value::<JwtOptions>(with(&base, changes.clone())).is_err(), "{changes}");
        }
    }

    #[test]
    fn debug_texts_hold_no_key() {
        let options: JwtOptions =
            serde_json::from_value(json!({"algorithms": ["HS256"], "key": format!("hunter2{SECRET}")})).unwrap();
        let shown = format!("{options:?} {:?}", JwtVerifier::new(options.clone(), &NoFiles).unwrap());
        assert!(!shown.contains("hunter2") && shown.contains("HS256"), "{shown}");
        assert!(!shown.contains(format!("{:?}", b"hunter2").trim_matches(['[', ']'])), "{shown}");
    }

    #[test]
    fn a_member_given_twice_is_refused() {
        let header = r#"{"alg":"HS256"}"#;
        let exp = NOW + 60;
        for (header, claims) in [
            (header, format!(r#"{{"sub":"a","sub":"b","exp":{exp}}}"#)),
            (header, format!(r#"{{"sub":"a","exp":1,"exp":{exp}}}"#)),
            (header, format!(r#"{{"sub":"a","exp":{exp},"\u0073ub":"b"}}"#)),
            (header, format!(r#"{{"sub":"a","exp":{exp},"x":[{{"y":1,"y":1}}]}}"#)),
            (r#"{"alg":"HS256","alg":"HS256"}"#, claims().to_string()),
            (r#"{"alg":"none","alg":"HS256"}"#, claims().to_string()),
        ] {
            let token = sign_text(header, &claims, &hmac(SECRET), Algorithm::Hs256);
            assert_eq!(refused(&hs256(), &token), JwtError::GivenTwice, "{header} {claims}");
        }
    }

    #[test]
    fn tokens_of_another_type_are_refused() {
        let outcome = |typ: Value| {
            let token = sign(&json!({"alg": "HS256", "typ": typ}), &claims(), &hmac(SECRET), Algorithm::Hs256);
            hs256().verify(&token, NOW).map(drop)
        };
        for good in ["JWT", "jwt", "Jwt", "application/jwt", "at+jwt", "AT+JWT", "application/at+jwt"] {
            assert_eq!(outcome(json!(good)), Ok(()), "{good}");
        }
        for bad in [
            json!("logout+jwt"),
            json!("secevent+jwt"),
            json!("dpop+jwt"),
            json!("JWE"),
            json!(" JWT"),
            json!("text/jwt"),
            json!("application/application/jwt"),
            json!(""),
            json!(null),
            json!(1),
            json!(["JWT"]),
        ] {
            assert_eq!(outcome(bad.clone()), Err(JwtError::WrongType), "{bad}");
        }
    }

    #[test]
    fn base64url_has_one_spelling_per_value() {
        for bytes in [&b""[..], b"f", b"fo", b"foo", b"foob", &[0xff, 0xfe, 0xfd, 0xfc, 0]] {
            assert_eq!(decode(&base64url(bytes)).as_deref(), Ok(bytes));
        }
        for bad in ["Z", "Zg==", "Zh", "Zm9", "Zm9=", "Zm9vZ", "+/AA", "Zg\n", "Z g", "é"] {
            assert_eq!(decode(bad), Err(JwtError::Malformed), "{bad}");
        }
    }
}
