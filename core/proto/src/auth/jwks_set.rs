//! A JWK Set that was fetched (RFC 7517 section 5): which of its keys verify tokens here.
//!
//! What the issuer lists for other purposes is left out, as the RFC asks. What would let somebody else sign tokens, a secret or
//! a private key that is public now, is left out, too, and told apart.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use serde_json::Value;

use super::algorithm::Algorithm;
use super::jwk::{Jwk, Usable};
use super::verifying_key::VerifyingKey;
use crate::unambiguous::{self, Reading};

/// The largest set that is read, in bytes.
pub const MAX_JWKS_BYTES: usize = 65_536;
/// The most keys that a set may list: each costs time to check.
const MAX_KEYS: usize = 100;
/// The longest `kid`, in bytes.
const MAX_KID_BYTES: usize = 256;

/// The keys of a set by their `kid`, and how many of its entries are none of them.
pub(super) struct FetchedSet {
    pub(super) keys: HashMap<String, VerifyingKey>,
    pub(super) left_out: LeftOut,
}

/// The entries of a set that serve nobody here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Of another purpose or algorithm, damaged, without a `kid`, or with one that two usable keys share.
    pub other: usize,
    /// Symmetric or private keys, published for everybody to sign with.
    pub exposed: usize,
}

/// The text says what the document is not, without its subject; nothing of the document is repeated.
pub(super) fn parse(document: &[u8], listed: &[Algorithm]) -> Result<FetchedSet, &'static str> {
    if document.len() > MAX_JWKS_BYTES {
        return Err("is larger than 65536 bytes");
    }
    let set = match unambiguous::read(document) {
        Err(_) => return Err("is not JSON"),
        Ok(Reading { twice: Some(_), .. }) => return Err("has a member that is given twice"),
        Ok(Reading { value, twice: None }) => value,
    };
    let Some(entries) = set.get("keys").and_then(Value::as_array) else {
        return Err("is not a JWK Set: it has no list `keys` (RFC 7517 section 5)");
    };
    if entries.len() > MAX_KEYS {
        return Err("lists more than 100 keys");
    }
    let mut keys: HashMap<String, Option<VerifyingKey>> = HashMap::new();
    let mut left_out = LeftOut::default();
    for entry in entries {
        match load(entry, listed) {
            Entered::Key(kid, key) => match keys.entry(kid) {
                Entry::Vacant(free) => {
                    free.insert(Some(key));
                }
                // Which of two keys a token means is nobody's guess.
                Entry::Occupied(mut taken) => {
                    left_out.other += 1 + usize::from(taken.insert(None).is_some());
                }
            },
            Entered::Exposed => left_out.exposed += 1,
            Entered::Nothing => left_out.other += 1,
        }
    }
    let keys: HashMap<_, _> = keys.into_iter().filter_map(|(kid, key)| Some((kid, key?))).collect();
    if keys.is_empty() {
        return Err("holds no key with a `kid` that auth.jwt.algorithms can use");
    }
    Ok(FetchedSet { keys, left_out })
}

/// What an entry is to us.
enum Entered {
    Key(String, VerifyingKey),
    Exposed,
    Nothing,
}

fn load(entry: &Value, listed: &[Algorithm]) -> Entered {
    // Errors name this; they go no further.
    let option = "auth.jwt.jwks_url";
    let Ok(jwk) = Jwk::parse(option, entry) else { return Entered::Nothing };
    if jwk.is_secret() {
        return Entered::Exposed;
    }
    let Ok(Usable::Key(key, pinned)) = jwk.load(option) else { return Entered::Nothing };
    let Ok(key) = key.allowing(option, listed, pinned) else { return Entered::Nothing };
    match jwk.kid {
        Some(kid) if !kid.is_empty() && kid.len() <= MAX_KID_BYTES && key.algorithms().next().is_some() => {
            Entered::Key(kid, key)
        }
        _ => Entered::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::test_keys::{ED25519, P256, P384, RSA, SECRET, base64url, with};
    use super::*;

    const LISTED: [Algorithm; 4] = [Algorithm::Rs256, Algorithm::Es256, Algorithm::Es384, Algorithm::EdDsa];

    fn read(keys: &[Value]) -> Result<FetchedSet, &'static str> {
        parse(json!({ "keys": keys }).to_string().as_bytes(), &LISTED)
    }

    /// The `kid`s of a set, and what is left out of it.
    #[track_caller]
    fn kids(keys: &[Value]) -> (Vec<String>, LeftOut) {
        let set = read(keys).unwrap();
        let mut kids: Vec<_> = set.keys.into_keys().collect();
        kids.sort();
        (kids, set.left_out)
    }

    fn named(key: &Value, kid: &str) -> Value {
        with(key, json!({ "kid": kid }))
    }

    #[test]
    fn public_keys_of_every_kind_are_read() {
        let keys = [named(&RSA.jwk, "a"), named(&P256.jwk, "b"), named(&P384.jwk, "c"), named(&ED25519.jwk, "d")];
        assert_eq!(kids(&keys), (["a", "b", "c", "d"].map(str::to_owned).to_vec(), LeftOut::default()));
    }

    #[test]
    fn what_is_for_something_else_is_left_out() {
        let good = named(&P256.jwk, "good");
        let other = |changes: Value| with(&named(&P256.jwk, "other"), changes);
        for entry in [
            other(json!({"use": "enc"})),
            other(json!({"key_ops": ["sign"]})),
            other(json!({"alg": "ES512"})),
            other(json!({"alg": "RS256"})),
            other(json!({"alg": "HS256"})),
            other(json!({"kty": "EC2"})),
            other(json!({"kty": "RSA"})),
            other(json!({"crv": "P-521"})),
            other(json!({"x": "AA"})),
            other(json!({"x": null})),
            other(json!({"kid": null})),
            other(json!({"kid": ""})),
            other(json!({"kid": "x".repeat(257)})),
            other(json!({"kid": 7})),
            json!("text"),
            json!(null),
            json!({}),
        ] {
            let found = kids(&[entry.clone(), good.clone()]);
            assert_eq!(found, (vec!["good".to_owned()], LeftOut { other: 1, exposed: 0 }), "{entry}");
            assert!(read(&[entry]).is_err());
        }
        let kept = other(json!({"use": "sig", "key_ops": ["verify"], "alg": "ES256", "x5u": "https://evil.example/"}));
        assert_eq!(kids(&[kept]).0, ["other"]);
    }

    #[test]
    fn secrets_and_private_keys_are_refused() {
        let listed = [Algorithm::Hs256, Algorithm::Es256, Algorithm::Rs256];
        let secret = json!({"kty": "oct", "kid": "s", "k": base64url(SECRET.as_bytes())});
        let private = with(&named(&P256.jwk, "p"), json!({"d": base64url(&[1; 32])}));
        let keys = [secret.clone(), private.clone(), named(&P256.jwk, "good")];
        let set = parse(json!({ "keys": keys }).to_string().as_bytes(), &listed).unwrap();
        assert_eq!(set.keys.into_keys().collect::<Vec<_>>(), ["good"]);
        assert_eq!(set.left_out, LeftOut { other: 0, exposed: 2 });
        for alone in [secret, private] {
            assert!(parse(json!({"keys": [alone]}).to_string().as_bytes(), &listed).is_err());
        }
    }

    #[test]
    fn a_kid_that_two_keys_share_names_neither() {
        let (one, two) = (named(&P256.jwk, "same"), named(&RSA.jwk, "same"));
        let all = [one.clone(), named(&ED25519.jwk, "own"), two, one.clone()];
        assert_eq!(kids(&all), (vec!["own".to_owned()], LeftOut { other: 3, exposed: 0 }));
        // A key for encryption takes no name away.
        assert_eq!(kids(&[one.clone(), with(&one, json!({"use": "enc"}))]).0, ["same"]);
    }

    #[test]
    fn documents_that_are_no_set_are_refused() {
        let many: Vec<_> = (0..101).map(|at| named(&ED25519.jwk, &at.to_string())).collect();
        assert_eq!(kids(&many[..100]).0.len(), 100);
        assert_eq!(read(&many).err(), Some("lists more than 100 keys"));
        let long = format!("{}{}", json!({"keys": [named(&P256.jwk, "a")]}), " ".repeat(MAX_JWKS_BYTES));
        for (document, why) in [
            ("", "is not JSON"),
            ("<!doctype html><html></html>", "is not JSON"),
            ("{\"keys\": [", "is not JSON"),
            ("{\"keys\": []} more", "is not JSON"),
            ("[]", "is not a JWK Set: it has no list `keys` (RFC 7517 section 5)"),
            ("null", "is not a JWK Set: it has no list `keys` (RFC 7517 section 5)"),
            ("{\"keys\": {}}", "is not a JWK Set: it has no list `keys` (RFC 7517 section 5)"),
            ("{\"keys\": [], \"keys\": []}", "has a member that is given twice"),
            ("{\"keys\": []}", "holds no key with a `kid` that auth.jwt.algorithms can use"),
            (&long, "is larger than 65536 bytes"),
        ] {
            assert_eq!(parse(document.as_bytes(), &LISTED).err(), Some(why), "{document:.40}");
        }
    }

    proptest! {
        #[test]
        fn damage_never_panics(at in 0..2000_usize, byte in any::<u8>(), cut in 0..2000_usize) {
            let mut document = json!({"keys": [named(&RSA.jwk, "a"), named(&P256.jwk, "b")]}).to_string().into_bytes();
            let len = document.len();
            document[at % len] = byte;
            document.truncate(len - cut % len);
            let _ = parse(&document, &LISTED);
        }
    }
}
