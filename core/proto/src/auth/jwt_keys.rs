//! The keys that JSON Web Tokens are verified with: loaded once, each bound to what it can verify.
//!
//! A key belongs to one family, and only listed algorithms of that family are ever used with it. So a token cannot
//! choose how it is verified. Nothing is fetched here: `jwks` keeps what the driver fetched.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;

use super::algorithm::{Algorithm, KeyFamily};
use super::jwk::{Jwk, Usable};
use super::verifying_key::{KeyMaterial, PEM_BEGIN, PRIVATE_KEY, VerifyingKey};
use crate::config_error::ConfigError;
use crate::files::Files;
use crate::pathlike::looks_like_a_path;
use crate::pem::{self, Block};

const PATH_AS_SECRET: &str = "names a file, or is written like the name of one; an HMAC secret is given as it is: read \
                              the file, and give what it holds";

/// The keys of one verifier.
pub(super) enum KeyRing {
    /// The option `key`: a token's `kid` is ignored.
    One(VerifyingKey),
    /// The option `keys`: a token's `kid` chooses.
    ByKid(HashMap<String, VerifyingKey>),
}

impl KeyRing {
    /// Loads `auth.jwt.key` or `auth.jwt.keys`; every algorithm of `listed` must fit a key, and every key one of them.
    pub(super) fn load(
        key: Option<&Value>,
        keys: Option<&Value>,
        listed: &[Algorithm],
        files: &dyn Files,
    ) -> Result<Self, ConfigError> {
        let ring = match (key, keys) {
            (Some(key), None) => KeyRing::One(load_key("auth.jwt.key", key, listed, files)?),
            (None, Some(keys)) => KeyRing::ByKid(load_keys(keys, listed, files)?),
            (None, None) => return Err(ConfigError::missing("auth.jwt.key", "give `key` or `keys`")),
            (Some(_), Some(_)) => {
                return Err(ConfigError::contradiction("auth.jwt.key", "give either `key` or `keys`, not both"));
            }
        };
        let is_usable = |algorithm: &Algorithm| ring.iter().any(|key| key.algorithms().any(|own| own == *algorithm));
        let unfit = listed.iter().position(|algorithm| !is_usable(algorithm));
        let Some(index) = unfit else {
            return Ok(ring);
        };
        let mut message = format!("{} fits none of the keys given", listed[index]);
        if let KeyRing::One(key) = &ring {
            message = format!("{} does not fit `key`, which is {}", listed[index], key.family);
        }
        Err(ConfigError::contradiction(format!("auth.jwt.algorithms[{index}]"), message))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &VerifyingKey> {
        let (one, many) = match self {
            KeyRing::One(key) => (Some(key), None),
            KeyRing::ByKid(keys) => (None, Some(keys.values())),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }
}

/// An entry of `keys` in its list form.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListedKey {
    kid: String,
    key: Value,
    algorithm: Option<String>,
}

fn load_keys(
    keys: &Value,
    listed: &[Algorithm],
    files: &dyn Files,
) -> Result<HashMap<String, VerifyingKey>, ConfigError> {
    let mut ring = HashMap::new();
    let mut add = |option: String, kid: String, key: VerifyingKey| {
        if kid.is_empty() {
            return Err(ConfigError::invalid(option, "needs a `kid` that is not empty"));
        }
        match ring.insert(kid, key) {
            None => Ok(()),
            Some(_) => Err(ConfigError::contradiction(option, "has the same `kid` as a key before it")),
        }
    };
    match keys {
        Value::Object(object) => match object.get("keys") {
            Some(Value::Array(set)) => {
                for (index, jwk) in set.iter().enumerate() {
                    let option = format!("auth.jwt.keys.keys[{index}]");
                    let jwk = Jwk::parse(&option, jwk)?;
                    // RFC 7517 section 5: what a set holds beyond our purpose is left out, not an error
                    if let Usable::Key(key, pinned) = jwk.load(&option)? {
                        let key = key.allowing(&option, listed, pinned)?;
                        add(option, jwk.kid.unwrap_or_default(), key)?;
                    }
                }
            }
            _ => {
                for (kid, key) in object {
                    let option = named(kid);
                    let key = require_use(&option, load_key(&option, key, listed, files)?)?;
                    add(option, kid.clone(), key)?;
                }
            }
        },
        Value::Array(list) => {
            for (index, entry) in list.iter().enumerate() {
                let option = format!("auth.jwt.keys[{index}]");
                let entry = ListedKey::deserialize(entry)
                    .map_err(|_| ConfigError::invalid(&option, "must be {\"kid\", \"key\", optional \"algorithm\"}"))?;
                let allowed = pin(&option, entry.algorithm.as_deref(), listed)?;
                let key = load_key(&format!("{option}.key"), &entry.key, &allowed, files)?;
                add(option.clone(), entry.kid, require_use(&option, key)?)?;
            }
        }
        _ => return Err(ConfigError::invalid("auth.jwt.keys", "must be an object, a list, or a JWKS")),
    }
    if ring.is_empty() {
        return Err(ConfigError::invalid("auth.jwt.keys", "must hold at least one usable key"));
    }
    Ok(ring)
}

/// The option of the key `kid`. Whoever writes `{"SECRET": "kid"}` in place of `{"kid": "SECRET"}` has a secret for a name:
/// what is as long as one, or is made of other letters than names are, is not repeated.
fn named(kid: &str) -> String {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let is_short = kid.len() < Algorithm::Hs256.shortest_secret();
    if is_short && kid.bytes().all(is_name) { format!("auth.jwt.keys.{kid}") } else { "auth.jwt.keys.*".to_owned() }
}

/// The algorithms that an entry of the list form may use.
fn pin(option: &str, algorithm: Option<&str>, listed: &[Algorithm]) -> Result<Vec<Algorithm>, ConfigError> {
    let Some(name) = algorithm else {
        return Ok(listed.to_vec());
    };
    match name.parse().ok().filter(|pinned| listed.contains(pinned)) {
        Some(pinned) => Ok(vec![pinned]),
        None => Err(ConfigError::contradiction(format!("{option}.algorithm"), "must be one of auth.jwt.algorithms")),
    }
}

fn require_use(option: &str, key: VerifyingKey) -> Result<VerifyingKey, ConfigError> {
    if key.algorithms().next().is_none() {
        let message = format!("is {}, and none of the algorithms it may use fits", key.family);
        return Err(ConfigError::contradiction(option, message));
    }
    Ok(key)
}

/// One key: a JWK, or a text that is a secret, a PEM text or the path of one.
fn load_key(option: &str, key: &Value, allowed: &[Algorithm], files: &dyn Files) -> Result<VerifyingKey, ConfigError> {
    match key {
        Value::String(text) => load_text(option, text, allowed, files)?.allowing(option, allowed, None),
        Value::Object(_) => match Jwk::parse(option, key)?.load(option)? {
            Usable::Key(key, pinned) => key.allowing(option, allowed, pinned),
            Usable::No(why) => Err(ConfigError::invalid(option, why)),
        },
        _ => Err(ConfigError::invalid(option, "must be a text (secret, PEM, or path of a PEM file) or a JWK object")),
    }
}

/// The algorithms say what a text is: a secret for HS*, a PEM text or its path for the others.
fn load_text(option: &str, text: &str, allowed: &[Algorithm], files: &dyn Files) -> Result<KeyMaterial, ConfigError> {
    let symmetric = allowed.iter().filter(|algorithm| algorithm.family() == KeyFamily::Hmac).count();
    if symmetric == allowed.len() {
        if looks_like_a_path(text, files) {
            return Err(ConfigError::invalid(option, PATH_AS_SECRET));
        }
        return KeyMaterial::hmac(option, text.as_bytes().to_vec());
    }
    if symmetric > 0 && !text.contains(PEM_BEGIN) {
        let message =
            "is a secret or a path: both HS* and other algorithms are listed; give a JWK, or an \"algorithm\"";
        return Err(ConfigError::contradiction(option, message));
    }
    load_pem(option, &pem::load(option, text, files)?)
}

fn load_pem(option: &str, blocks: &[Block]) -> Result<KeyMaterial, ConfigError> {
    let invalid = |what: &str| ConfigError::invalid(option, what);
    let [block] = blocks else {
        return Err(invalid("holds more than one PEM block; exactly one public key is accepted"));
    };
    match block.label.as_str() {
        "PUBLIC KEY" => KeyMaterial::spki(option, &block.der),
        "RSA PUBLIC KEY" => KeyMaterial::public(option, KeyFamily::Rsa, block.der.clone()),
        label if label.ends_with("PRIVATE KEY") => Err(invalid(PRIVATE_KEY)),
        "CERTIFICATE" => Err(invalid("is a certificate; take its `PUBLIC KEY` with `openssl x509 -pubkey -noout`")),
        _ => Err(invalid("must be a PEM block `PUBLIC KEY` or `RSA PUBLIC KEY`")),
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING;
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::test_keys::{self, ED25519, P256, P384, RSA, SECRET, base64url, with};
    use super::super::verifying_key::PEM_AS_SECRET;
    use super::*;
    use crate::files::Disk;

    fn load(algorithms: &[&str], options: &Value) -> Result<KeyRing, ConfigError> {
        let listed: Vec<Algorithm> = algorithms.iter().map(|name| name.parse().unwrap()).collect();
        KeyRing::load(options.get("key"), options.get("keys"), &listed, &Disk)
    }

    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "called with json!(…)")]
    fn refused(algorithms: &[&str], options: Value) -> ConfigError {
        match load(algorithms, &options) {
            Ok(_) => panic!("accepted: {algorithms:?} {options}"),
            Err(error) => error,
        }
    }

    #[test]
    fn exactly_one_of_key_and_keys() {
        assert_eq!(refused(&["HS256"], json!({})).option, "auth.jwt.key");
        assert_eq!(refused(&["HS256"], json!({"key": SECRET, "keys": {"a": SECRET}})).option, "auth.jwt.key");
    }

    #[test]
    fn a_pem_text_is_never_an_hmac_secret() {
        for text in [&RSA.pem, &RSA.private_pem, &P256.pem, &format!("\n  # my key\n{}", ED25519.pem)] {
            let oct = json!({"kty": "oct", "k": base64url(text.as_bytes())});
            for (options, option) in [
                (json!({"key": text}), "auth.jwt.key"),
                (json!({"key": oct}), "auth.jwt.key"),
                (json!({"keys": {"a": text}}), "auth.jwt.keys.a"),
                (json!({"keys": [{"kid": "a", "key": text}]}), "auth.jwt.keys[0].key"),
                (json!({"keys": {"keys": [with(&oct, json!({"kid": "a"}))]}}), "auth.jwt.keys.keys[0]"),
            ] {
                let error = refused(&["HS256", "HS512"], options);
                assert_eq!((error.option.as_str(), error.message.as_str()), (option, PEM_AS_SECRET));
            }
            let pinned = json!({"keys": [{"kid": "a", "key": text, "algorithm": "HS256"}]});
            assert_eq!(refused(&["RS256", "HS256"], pinned).message, PEM_AS_SECRET);
        }
    }

    #[test]
    fn a_file_name_is_not_an_hmac_secret() {
        for name in [
            "keys/public.pem",
            "/etc/passwd",
            "/run/secrets/jwt-hmac-signing-key-that-is-not-mounted",
            "secrets/jwt-hmac-signing-key-of-production.key",
            "./secrets/a-secret-in-a-directory-of-the-application",
            "~/secrets/a-secret-in-my-own-directory-at-home",
        ] {
            for options in [json!({"key": name}), json!({"keys": [{"kid": "a", "key": name}]})] {
                let error = refused(&["HS256"], options);
                assert!(error.message.contains("names a file") && !error.message.contains(name), "{error}");
            }
        }
        assert!(load(&["HS256"], &json!({"key": "/slashes/are/fine+in/base64/of/random/bytes=="})).is_ok());
    }

    #[test]
    fn a_secret_is_as_long_as_the_hash() {
        let oct = |len: usize| json!({"kty": "oct", "k": base64url(&[7; 64][..len])});
        for (algorithm, len) in [("HS256", 32), ("HS384", 48), ("HS512", 64)] {
            assert!(load(&[algorithm], &json!({"key": SECRET[..len]})).is_ok(), "{algorithm}");
            assert!(load(&[algorithm], &json!({"key": oct(len)})).is_ok(), "{algorithm}");
            for (options, option) in [
                (json!({"key": SECRET[..len - 1]}), "auth.jwt.key"),
                (json!({"key": oct(len - 1)}), "auth.jwt.key"),
                (json!({"keys": {"a": SECRET[..len - 1]}}), "auth.jwt.keys.a"),
                (json!({"keys": [{"kid": "a", "key": SECRET[..len - 1]}]}), "auth.jwt.keys[0].key"),
                (json!({"keys": {"keys": [with(&oct(len - 1), json!({"kid": "a"}))]}}), "auth.jwt.keys.keys[0]"),
            ] {
                let error = refused(&[algorithm], options);
                assert_eq!(error.option, option);
                assert!(error.message.contains(&format!("{algorithm}, which needs at least {len}")), "{error}");
            }
        }
        // Only the algorithms that the key may be used with count.
        let pinned =
            json!({"keys": [{"kid": "a", "key": SECRET[..32], "algorithm": "HS256"}, {"kid": "b", "key": SECRET}]});
        assert!(load(&["HS256", "HS512"], &pinned).is_ok());
        assert_eq!(refused(&["HS256", "HS512"], json!({"key": SECRET[..32]})).option, "auth.jwt.key");
    }

    #[test]
    fn a_public_key_may_come_from_the_environment() {
        for text in [
            RSA.pem.replace('\n', "\\n"),
            RSA.pem.replace('\n', " "),
            RSA.pem.replace('\n', "\r\n"),
            format!("\u{feff}{}", RSA.pem),
        ] {
            assert!(load(&["RS256"], &json!({"key": text})).is_ok(), "{text:?}");
        }
    }

    #[test]
    fn a_listed_algorithm_that_fits_no_key_is_an_error() {
        for (algorithms, key, index) in [
            (&["RS256", "ES256"][..], json!(RSA.pem), 1),
            (&["ES256"], json!(RSA.pem), 0),
            (&["HS256", "RS256"], json!(RSA.pem), 0),
            (&["ES384"], json!(P256.pem), 0),
            (&["ES256"], json!(P384.pem), 0),
            (&["ES256"], json!(ED25519.jwk), 0),
            (&["HS256"], json!(RSA.jwk), 0),
            (&["RS256", "RS512"], with(&RSA.jwk, json!({"alg": "RS256"})), 1),
        ] {
            let error = refused(algorithms, json!({"key": key}));
            assert_eq!(error.option, format!("auth.jwt.algorithms[{index}]"), "{algorithms:?}");
        }
        let error = refused(&["RS256", "ES256"], json!({"keys": {"a": RSA.pem, "b": RSA.jwk}}));
        assert_eq!(error.option, "auth.jwt.algorithms[1]");
    }

    #[test]
    fn a_named_key_that_fits_no_algorithm_is_an_error() {
        let error = refused(&["RS256"], json!({"keys": {"a": RSA.pem, "b": P256.pem}}));
        assert_eq!(error.option, "auth.jwt.keys.b");
        let error = refused(&["RS256", "ES256"], json!({"keys": [{"kid": "a", "key": RSA.pem, "algorithm": "ES256"}]}));
        assert_eq!(error.option, "auth.jwt.keys[0]");
        let error = refused(&["RS256"], json!({"keys": [{"kid": "a", "key": RSA.pem, "algorithm": "RS512"}]}));
        assert_eq!(error.option, "auth.jwt.keys[0].algorithm");
    }

    #[test]
    fn a_text_is_not_guessed_to_be_a_secret_or_a_path() {
        for options in [json!({"key": SECRET}), json!({"keys": {"a": SECRET}})] {
            assert!(refused(&["HS256", "RS256"], options).message.contains("both HS*"));
        }
    }

    #[test]
    fn private_keys_certificates_and_other_pem_are_refused() {
        let two = format!("{}{}", RSA.pem, P256.pem);
        let certificate = RSA.pem.replace("PUBLIC KEY", "CERTIFICATE");
        let damaged = RSA.pem.replace("MII", "MIJ");
        let wrong_label = P256.pem.replace("PUBLIC KEY", "RSA PUBLIC KEY");
        for (text, hint) in [
            (RSA.private_pem.as_str(), "private key"),
            (&P256.private_pem, "private key"),
            (&RSA.private_pem.replace("PRIVATE", "RSA PRIVATE"), "private key"),
            (&two, "more than one"),
            (&certificate, "`PUBLIC KEY`"),
            (&damaged, "not a usable key"),
            (&RSA.pem.replace("MII", "MI"), "not base64"),
            (&RSA.private_pem.replace("PRIVATE", "ENCRYPTED PRIVATE"), "is encrypted"),
            (&wrong_label, "not a usable key"),
            ("-----BEGIN PUBLIC KEY-----", "lost its END line"),
            ("/nonexistent/key.pem", "the file /nonexistent/key.pem cannot be read: there is no such file"),
            ("hunter2", "neither PEM text nor a readable file"),
            (SECRET, "base64 without its BEGIN"),
        ] {
            let error = refused(&["RS256", "ES256"], json!({"key": text}));
            assert!(error.option == "auth.jwt.key" && error.message.contains(hint), "{hint}: {error}");
            assert!(!error.message.contains("hunter2"), "{error}");
        }
        for jwk in [with(&RSA.jwk, json!({"d": "AQAB"})), with(&P256.jwk, json!({"d": "AQAB"}))] {
            assert_eq!(refused(&["RS256", "ES256"], json!({"key": jwk})).message, PRIVATE_KEY);
        }
    }

    #[test]
    fn keys_that_could_never_verify_are_refused_at_start() {
        let other = test_keys::ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING);
        let weak_modulus = base64url(&[0xc1; 128]);
        for jwk in [
            with(&RSA.jwk, json!({"n": weak_modulus})),
            with(&RSA.jwk, json!({"n": null})),
            with(&RSA.jwk, json!({"e": "!"})),
            with(&P256.jwk, json!({"y": other.jwk["y"]})), // not on the curve
            with(&P256.jwk, json!({"crv": "P-384"})),
            with(&P384.jwk, json!({"crv": "P-256"})),
            with(&ED25519.jwk, json!({"x": "AAAA"})),
            json!({"kty": "oct", "k": ""}),
            json!({"kty": "oct"}),
        ] {
            let error = refused(&["RS256", "ES256", "ES384", "EdDSA", "HS256"], json!({"key": jwk}));
            assert_eq!(error.option, "auth.jwt.key", "{jwk}");
        }
        assert_eq!(refused(&["HS256"], json!({"key": ""})).option, "auth.jwt.key");
    }

    #[test]
    fn public_keys_have_one_form() {
        let prefix = |hex: &str, key: &[u8]| {
            let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
            [&(0..hex.len()).step_by(2).map(byte).collect::<Vec<_>>(), key].concat()
        };
        let spki = "3059301306072a8648ce3d020106082a8648ce3d030107034200";
        let ed25519 = "302a300506032b6570032100";
        let listed = ["RS256", "PS256", "ES256", "ES384", "EdDSA"];
        let load = |label: &str, der: &[u8]| load(&listed, &json!({"keys": {"a": test_keys::pem(label, der)}}));
        let is_loaded = |label: &str, der: &[u8]| match load(label, der) {
            Ok(_) => true,
            // What loads fits no more than some of those that are listed.
            Err(error) if error.option.starts_with("auth.jwt.algorithms") => true,
            Err(error) => {
                assert!(error.message.contains("is not a usable key"), "{error}");
                false
            }
        };
        assert!(is_loaded("PUBLIC KEY", &prefix(spki, &P256.public)));
        assert!(is_loaded("PUBLIC KEY", &prefix(ed25519, &ED25519.public)));
        assert!(is_loaded("RSA PUBLIC KEY", &RSA.public));

        let compressed = [&[2 + P256.public[64] % 2][..], &P256.public[1..33]].concat();
        let spki_of_compressed = "3039301306072a8648ce3d020106082a8648ce3d030107032200";
        // id-RSASSA-PSS in place of rsaEncryption: it may verify PS*, and nothing else.
        let rsa_spki = pem::load("", &RSA.pem, &Disk).unwrap().remove(0).der;
        let oid = rsa_spki.windows(3).position(|part| part == [13, 1, 1]).unwrap() + 3;
        let pss: Vec<u8> = rsa_spki.iter().enumerate().map(|(at, byte)| if at == oid { 10 } else { *byte }).collect();
        for (label, der) in [
            ("PUBLIC KEY", P256.public.clone()),
            ("PUBLIC KEY", ED25519.public.clone()),
            ("PUBLIC KEY", compressed.clone()),
            ("PUBLIC KEY", prefix(spki_of_compressed, &compressed)),
            ("PUBLIC KEY", [&prefix(ed25519, &ED25519.public)[..], b"x"].concat()),
            ("PUBLIC KEY", [&prefix(spki, &P256.public)[..], b"x"].concat()),
            ("PUBLIC KEY", [&rsa_spki[..], b"x"].concat()),
            ("PUBLIC KEY", pss),
            ("RSA PUBLIC KEY", prefix(spki, &P256.public)),
            ("RSA PUBLIC KEY", prefix(ed25519, &ED25519.public)),
        ] {
            assert!(!is_loaded(label, &der), "{der:02x?}");
        }
    }

    /// An RSA key of `bits` that nobody has the private part of, with this exponent.
    fn rsa_of(bits: usize, exponent: &[u8]) -> Value {
        let mut modulus = vec![0xff; bits.div_ceil(8)];
        modulus[0] >>= bits.div_ceil(8) * 8 - bits;
        json!({"kty": "RSA", "n": base64url(&modulus), "e": base64url(exponent)})
    }

    #[test]
    fn rsa_keys_are_long_and_sound() {
        let is_loaded = |jwk: Value| load(&["RS256"], &json!({"key": jwk})).is_ok();
        for (bits, is_usable) in
            [(1024, false), (2040, false), (2047, false), (2048, true), (8192, true), (8193, false)]
        {
            assert_eq!(is_loaded(rsa_of(bits, &[1, 0, 1])), is_usable, "{bits}");
        }
        for exponent in [&[0][..], &[1], &[2], &[4], &[0, 1, 0, 1], &[0xff; 6]] {
            assert!(!is_loaded(rsa_of(2048, exponent)), "{exponent:?}");
        }
        assert!(is_loaded(rsa_of(2048, &[3])));
        let even = [&[0xff; 255][..], &[0xfe]].concat();
        assert!(!is_loaded(with(&RSA.jwk, json!({"n": base64url(&even)}))));
    }

    #[test]
    fn coordinates_have_the_length_of_their_curve() {
        let (x, y) = P256.public[1..].split_at(32);
        // The same 64 bytes, cut elsewhere.
        for at in [31, 33] {
            let (x, y) = P256.public[1..].split_at(at);
            let jwk = json!({"kty": "EC", "crv": "P-256", "x": base64url(x), "y": base64url(y)});
            assert!(refused(&["ES256"], json!({"key": jwk})).message.contains("is not a usable key"));
        }
        let jwk = json!({"kty": "EC", "crv": "P-256", "x": base64url(x), "y": base64url(y)});
        assert!(load(&["ES256"], &json!({"key": jwk})).is_ok());
    }

    #[test]
    fn a_json_web_key_says_which_member_is_wrong() {
        for (jwk, words) in [
            (json!({"kty": "oct"}), "without `k`"),
            (json!({"kty": "oct", "k": null}), "without `k`"),
            (json!({"kty": "oct", "k": ""}), "an empty `k`"),
            (json!({"kty": "oct", "k": "hunter2hunter2!"}), "whose `k` is not base64url"),
            (json!({"kty": "oct", "k": "aHVudGVyMg=="}), "leave the `=` at its end out"),
            (json!({"kty": "oct", "k": "aHVudGVyMg/+"}), "the other alphabet"),
            (json!({"kty": "oct", "k": "aHVudGVyMh"}), "whose `k` is not base64url"),
            (json!({"kty": "oct", "k": " aHVudGVyMg"}), "whose `k` is not base64url"),
            (with(&RSA.jwk, json!({"n": null})), "without `n`"),
            (with(&RSA.jwk, json!({"e": "!"})), "whose `e` is not base64url"),
            (with(&P256.jwk, json!({"y": ""})), "an empty `y`"),
            (with(&ED25519.jwk, json!({"x": "hunter2="})), "whose `x` is not base64url"),
            (json!({"kty": "RSA", "d": "hunter2"}), "without `n`"),
        ] {
            for (options, option) in [
                (json!({"key": jwk}), "auth.jwt.key"),
                (json!({"keys": {"a": jwk}}), "auth.jwt.keys.a"),
                (json!({"keys": {"keys": [with(&jwk, json!({"kid": "a"}))]}}), "auth.jwt.keys.keys[0]"),
            ] {
                let error = refused(&["RS256", "ES256", "EdDSA", "HS256"], options);
                assert!(error.option == option && error.message.contains(words), "{jwk}: {error}");
                assert!(!error.message.contains("hunter2") && !error.message.contains("aHVu"), "{error}");
            }
        }
    }

    #[test]
    fn pem_files_are_read() {
        let path = std::env::temp_dir().join(format!("wsguard-jwt-keys-{}", std::process::id()));
        std::fs::write(&path, P384.pem.replace('\n', "\r\n")).unwrap();
        let ring = load(&["ES384"], &json!({"key": path}));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(ring.ok().unwrap().iter().map(|key| key.family).collect::<Vec<_>>(), [KeyFamily::P384]);
    }

    #[test]
    fn a_key_set_leaves_out_what_is_not_for_us() {
        let set = json!({"keys": [
            with(&RSA.jwk, json!({"kid": "good", "use": "sig", "key_ops": ["verify"], "alg": "RS256", "x5c": ["x"]})),
            with(&RSA.jwk, json!({"kid": "enc", "use": "enc"})),
            with(&RSA.jwk, json!({"kid": "oaep", "alg": "RSA-OAEP"})),
            with(&RSA.jwk, json!({"kid": "sign", "key_ops": ["sign"]})),
            with(&P256.jwk, json!({"kid": "p521", "crv": "P-521"})),
            {"kty": "AKP", "kid": "future", "pub": "AA"},
            with(&P256.jwk, json!({"kid": "unlisted"})),
        ], "extra": 1});
        // `good` is pinned to RS256 by its `alg`
        let error = refused(&["RS256", "RS512"], json!({"keys": set}));
        assert_eq!(error.option, "auth.jwt.algorithms[1]");
        let Ok(KeyRing::ByKid(keys)) = load(&["RS256"], &json!({"keys": set})) else {
            panic!("not loaded");
        };
        let mut usable: Vec<_> =
            keys.iter().filter(|(_, key)| key.algorithms().next().is_some()).map(|(kid, _)| kid).collect();
        usable.sort();
        assert_eq!(usable, ["good"]);
        // the same keys, named one by one, are errors
        for reason in [json!({"use": "enc"}), json!({"alg": "RSA-OAEP"}), json!({"kty": "AKP"})] {
            let error = refused(&["RS256"], json!({"keys": {"a": with(&RSA.jwk, reason)}}));
            assert_eq!(error.option, "auth.jwt.keys.a");
        }
    }

    #[test]
    fn key_lists_are_checked() {
        let twice = json!([{"kid": "a", "key": SECRET}, {"kid": "a", "key": SECRET}]);
        let jwk = with(&RSA.jwk, json!({"kid": "a"}));
        for (algorithm, keys, option) in [
            ("HS256", json!({}), "auth.jwt.keys"),
            ("HS256", json!([]), "auth.jwt.keys"),
            ("HS256", json!("text"), "auth.jwt.keys"),
            ("HS256", json!({"keys": []}), "auth.jwt.keys"),
            ("HS256", twice, "auth.jwt.keys[1]"),
            ("HS256", json!([{"kid": "", "key": SECRET}]), "auth.jwt.keys[0]"),
            ("HS256", json!([{"key": SECRET}]), "auth.jwt.keys[0]"),
            ("HS256", json!([{"kid": "a", "key": SECRET, "alg": "HS256"}]), "auth.jwt.keys[0]"),
            ("HS256", json!([{"kid": "a", "key": 1}]), "auth.jwt.keys[0].key"),
            ("HS256", json!({"a": 1}), "auth.jwt.keys.a"),
            ("HS256", json!({"": SECRET}), "auth.jwt.keys."),
            ("RS256", json!({"keys": [jwk, jwk]}), "auth.jwt.keys.keys[1]"),
            ("RS256", json!({"keys": [RSA.jwk]}), "auth.jwt.keys.keys[0]"),
            ("RS256", json!({"keys": ["text"]}), "auth.jwt.keys.keys[0]"),
        ] {
            assert_eq!(refused(&[algorithm], json!({"keys": keys})).option, option, "{keys}");
        }
    }

    #[test]
    fn no_error_repeats_a_secret() {
        for keys in
            [json!({"a": {"kty": "hunter2"}}), json!({"a": {"kty": "oct", "k": ["hunter2"]}}), json!(["hunter2"])]
        {
            let error = refused(&["HS256"], json!({"keys": keys}));
            assert!(!error.message.contains("hunter2"), "{error}");
        }
        // A key where its name belongs.
        for keys in [json!({SECRET: "key-1"}), json!({"pass phrase": "key-1"}), json!({"a\nb": "key-1"})] {
            let error = refused(&["HS256"], json!({"keys": keys}));
            assert_eq!(error.option, "auth.jwt.keys.*");
        }
    }

    const MARKER: &str = "Zx9-SECRET-Q7v-of-more-than-thirty-two-bytes";

    /// Whether a part of the marker is in a text: as it is, in base64, in hexadecimal or decimal digits.
    fn shows_marker(text: &str) -> bool {
        let base64 = base64url(MARKER.as_bytes());
        let hex: Vec<_> = MARKER.bytes().map(|byte| format!("{byte:02x}")).collect();
        let decimal: Vec<_> = MARKER.bytes().map(|byte| byte.to_string()).collect();
        text.contains("SECRET")
            || base64.as_bytes().windows(8).any(|part| text.contains(str::from_utf8(part).unwrap()))
            || text.to_lowercase().contains(&hex[4..8].concat())
            || text.contains(&decimal[4..8].join(", "))
    }

    proptest! {
        /// A key of any members with any values, in any place where one may be given.
        #[test]
        fn no_error_of_a_mangled_key_repeats_it(
            members in prop::collection::vec((0..12_usize, 0..16_usize), 0..6),
            kind in 0..6_usize,
            place in 0..6_usize,
            algorithms in prop::sample::subsequence(vec!["HS256", "HS512", "RS256", "ES256", "ES384", "EdDSA"], 1..4),
        ) {
            let names = ["kty", "kid", "use", "key_ops", "alg", "crv", "n", "e", "x", "y", "k", "d"];
            let spelled = base64url(MARKER.as_bytes());
            let values = [
                json!(MARKER), json!([MARKER]), json!({MARKER: MARKER}), json!(MARKER.as_bytes()), json!(spelled),
                json!(format!("{spelled}==")), json!(format!("{spelled}\n")), json!(&spelled[1..]), json!(null),
                json!(1), json!("oct"), json!("RSA"), json!("EC"), json!("P-256"), json!("sig"), json!(["verify"]),
            ];
            let mut key = match kind {
                0 => RSA.jwk.clone(),
                1 => P256.jwk.clone(),
                2 => ED25519.jwk.clone(),
                3 => json!({"kty": "oct", "k": spelled}),
                4 => json!({}),
                _ => json!({"kty": "oct", "k": MARKER}),
            };
            for (name, value) in members {
                key[names[name]] = values[value].clone();
            }
            let text = [MARKER, spelled.as_str(), "-----BEGIN PUBLIC KEY-----Zx9-SECRET-Q7v-----END PUBLIC KEY-----"];
            let options = match place {
                0 => json!({"key": key}),
                1 => json!({"keys": {"k": key}}),
                2 => json!({"keys": [{"kid": "k", "key": key}]}),
                3 => json!({"keys": {"keys": [with(&key, json!({"kid": "k"})), key]}}),
                4 => json!({"keys": {MARKER: key}}),
                _ => json!({"key": text[kind % 3]}),
            };
            if let Err(error) = load(&algorithms, &options) {
                let shown = format!("{error} {error:?}");
                prop_assert!(!shows_marker(&shown), "{shown} of {options}");
            }
        }
    }
}
