use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

use serde_json::{Value, json};

use super::super::test_keys::{ED25519, P256, RSA, SECRET, TestKey, pem, sign, with};
use super::super::{Authenticator, JwtError, JwtVerifier, Outcome};
use super::*;
use crate::files::NoFiles;

const NOW: u64 = 1_700_000_000;
const URL: &str = "https://issuer.example/jwks";

fn at(seconds: u64) -> Moment {
    Moment::from_millis(seconds * 1000)
}

fn try_verifier(more: Value) -> Result<JwtVerifier, ConfigError> {
    let options = with(&json!({"algorithms": ["ES256", "EdDSA"], "jwks_url": URL}), more);
    JwtVerifier::new(serde_json::from_value(options).unwrap(), &NoFiles)
}

fn verifier() -> JwtVerifier {
    try_verifier(json!({})).unwrap()
}

#[expect(clippy::unnecessary_wraps, reason = "what a fetch brings")]
fn set(keys: &[(&str, &TestKey)]) -> Result<Fetched, String> {
    let keys: Vec<_> = keys.iter().map(|(kid, key)| with(&key.jwk, json!({ "kid": kid }))).collect();
    Ok(Fetched { body: json!({ "keys": keys }).to_string().into_bytes(), max_age_s: None })
}

fn down() -> Result<Fetched, String> {
    Err("is down".to_owned())
}

fn token(kid: &str, key: &TestKey, header: Value) -> String {
    let algorithm = if key.public.len() == 32 { Algorithm::EdDsa } else { Algorithm::Es256 };
    let header = with(&json!({"alg": algorithm.name(), "kid": kid}), header);
    sign(&header, &json!({"sub": "alice", "exp": NOW + 60}), &key.signing, algorithm)
}

fn outcome(verifier: &JwtVerifier, kid: &str, key: &TestKey) -> Result<(), JwtError> {
    verifier.verify(&token(kid, key, json!({})), NOW).map(drop)
}

/// Fetches at `now`, because it is due.
#[track_caller]
fn fetch(jwks: &Jwks, now: Moment, fetched: Result<Fetched, String>) -> Settled {
    assert_eq!(jwks.next(now), JwksStep::Fetch);
    jwks.settle(now, fetched, 0)
}

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn poll(next: &mut NextRound, count: &Arc<Count>) -> Poll<()> {
    Pin::new(next).poll(&mut Context::from_waker(&Arc::clone(count).into()))
}

#[test]
fn options_are_checked_without_the_network() {
    let refused = |more: Value| {
        let error = try_verifier(more.clone()).map(drop).expect_err(&more.to_string());
        assert!(!error.to_string().contains("Hunter2"), "{error}");
        (error.option, error.kind.name())
    };
    for (more, option, kind) in [
        (json!({"key": SECRET}), "auth.jwt.jwks_url", "contradiction"),
        (json!({"keys": {"a": P256.pem}}), "auth.jwt.jwks_url", "contradiction"),
        (json!({"jwks_url": "http://issuer.example/"}), "auth.jwt.jwks_url", "invalid_option"),
        (json!({"jwks_url": "https://a:Hunter2@issuer.example/"}), "auth.jwt.jwks_url", "invalid_option"),
        (json!({"jwks_url": ""}), "auth.jwt.jwks_url", "invalid_option"),
        (json!({"algorithms": ["ES256", "HS256"]}), "auth.jwt.algorithms[1]", "contradiction"),
        (json!({"jwks_ca": "Hunter2"}), "auth.jwt.jwks_ca", "invalid_option"),
        (json!({"jwks_ca": P256.pem}), "auth.jwt.jwks_ca", "invalid_option"),
        (json!({"jwks_url": null, "key": P256.pem, "jwks_ca": "x"}), "auth.jwt.jwks_ca", "contradiction"),
        (json!({"jwks_url": null}), "auth.jwt.key", "missing_option"),
        (json!({"jwks_max_age_s": 0}), "auth.jwt.jwks_max_age_s", "invalid_option"),
        (json!({"jwks_stale_s": 31_536_001}), "auth.jwt.jwks_stale_s", "invalid_option"),
    ] {
        assert_eq!(refused(more.clone()), (option.to_owned(), kind), "{more}");
    }
    let plain = json!({"jwks_url": "http://127.0.0.1/", "jwks_ca": pem("CERTIFICATE", b"x")});
    assert_eq!(refused(plain), ("auth.jwt.jwks_ca".to_owned(), "contradiction"));
    let own = try_verifier(json!({"jwks_ca": pem("CERTIFICATE", b"x")})).unwrap();
    assert_eq!(own.jwks().unwrap().authorities(), Some(&[b"x".to_vec()][..]));
    assert!(verifier().jwks().unwrap().authorities().is_none());
}

#[test]
fn keys_rotate() {
    let verifier = verifier();
    let jwks = verifier.jwks().unwrap();
    assert_eq!(outcome(&verifier, "old", &P256), Err(JwtError::KeysUnavailable));
    let first = fetch(jwks, at(0), set(&[("old", &P256)]));
    assert_eq!(first, Settled { outcome: Ok((1, LeftOut::default())), is_news: true, failures: 0 });
    assert_eq!(outcome(&verifier, "old", &P256), Ok(()));
    assert_eq!(outcome(&verifier, "new", &ED25519), Err(JwtError::KidUnknown));
    assert!(!fetch(jwks, at(600), set(&[("old", &P256)])).is_news);
    assert!(fetch(jwks, at(1200), set(&[("old", &P256), ("new", &ED25519)])).is_news);
    assert_eq!((outcome(&verifier, "old", &P256), outcome(&verifier, "new", &ED25519)), (Ok(()), Ok(())));
    fetch(jwks, at(1800), set(&[("new", &ED25519)]));
    assert_eq!(outcome(&verifier, "old", &P256), Err(JwtError::KidUnknown), "a key that is gone lets nobody in");
    // The same kid with another key.
    fetch(jwks, at(2400), set(&[("new", &P256)]));
    assert_eq!(outcome(&verifier, "new", &ED25519), Err(JwtError::AlgorithmNotAllowed));
    assert_eq!(outcome(&verifier, "new", &P256), Ok(()));
}

#[test]
fn many_who_wait_cause_one_fetch() {
    let verifier = verifier();
    let jwks = verifier.jwks().unwrap();
    let (fetcher, tasks) = (Arc::new(Count::default()), Arc::new(Count::default()));
    fetch(jwks, at(0), set(&[("old", &P256)]));
    jwks.wakes(Arc::clone(&fetcher).into());
    let mut waiting: Vec<_> = (0..1000).map(|_| jwks.ask(at(5)).unwrap()).collect();
    assert!(fetcher.0.load(Ordering::Relaxed) >= 1);
    for next in &mut waiting {
        assert!(poll(next, &tasks).is_pending() && poll(next, &tasks).is_pending());
    }
    assert_eq!(lock(&jwks.state).waiting.len(), 1000);
    // Who leaves is forgotten.
    waiting.truncate(600);
    assert_eq!(lock(&jwks.state).waiting.len(), 600);
    assert_eq!(jwks.next(at(5)), JwksStep::Fetch);
    assert!(jwks.ask(at(6)).is_some(), "who comes while it is fetched waits, too");
    jwks.settle(at(6), set(&[("new", &ED25519)]), 0);
    assert_eq!(tasks.0.load(Ordering::Relaxed), 600);
    assert!(waiting.iter_mut().all(|next| poll(next, &tasks).is_ready()));
    assert_eq!(jwks.next(at(6)), JwksStep::WaitUntil(at(606)), "one fetch was enough");
    assert_eq!(outcome(&verifier, "new", &ED25519), Ok(()));
    drop(waiting);
    assert!(lock(&jwks.state).waiting.is_empty());
    assert!(jwks.ask(at(34)).is_none() && jwks.ask(at(35)).is_some());
}

#[test]
fn a_failed_fetch_wakes_who_waits_too() {
    let verifier = verifier();
    let jwks = verifier.jwks().unwrap();
    fetch(jwks, at(0), set(&[("old", &P256)]));
    let tasks = Arc::new(Count::default());
    let mut next = jwks.ask(at(1)).unwrap();
    assert!(poll(&mut next, &tasks).is_pending());
    fetch(jwks, at(1), down());
    assert_eq!((poll(&mut next, &tasks), tasks.0.load(Ordering::Relaxed)), (Poll::Ready(()), 1));
    assert_eq!(outcome(&verifier, "old", &P256), Ok(()), "the last set serves");
}

#[test]
fn the_last_set_serves_until_it_is_too_old() {
    let verifier = try_verifier(json!({"jwks_stale_s": 100})).unwrap();
    let jwks = Arc::clone(verifier.jwks().unwrap());
    let authenticator = Authenticator::Jwt(verifier);
    let good = token("a", &P256, json!({}));
    let is_accepted = || matches!(authenticator.check(Some(&good), NOW), Outcome::Accepted(_));
    fetch(&jwks, at(0), set(&[("a", &P256)]));
    let empty = Ok(Fetched { body: b"{\"keys\": []}".to_vec(), max_age_s: None });
    let html = Ok(Fetched { body: b"<html>down</html>".to_vec(), max_age_s: None });
    for (round, bad) in [(1, down()), (2, empty), (3, html)] {
        let JwksStep::WaitUntil(due) = jwks.next(at(1)) else { panic!("no wait") };
        let settled = fetch(&jwks, due, bad);
        assert!(settled.outcome.is_err() && settled.failures == round && is_accepted(), "{settled:?}");
    }
    assert!(jwks.next(at(699)) == JwksStep::Fetch && is_accepted());
    jwks.settle(at(699), down(), 0);
    assert_eq!(jwks.next(at(700)), JwksStep::Expired);
    let unavailable = authenticator.check(Some(&good), NOW);
    assert!(matches!(unavailable, Outcome::Unavailable(why) if why.contains("jwks_url")), "{unavailable:?}");
    assert_eq!(authenticator.check(None, NOW), Outcome::Refused("no credential"));
    // A set that comes later serves again.
    let recovered = fetch(&jwks, at(800), set(&[("a", &P256)]));
    assert!(recovered.is_news && recovered.failures == 4 && is_accepted(), "{recovered:?}");
}

#[test]
fn only_a_kid_that_is_unknown_asks() {
    let verifier = verifier();
    let jwks = Arc::clone(verifier.jwks().unwrap());
    fetch(&jwks, at(0), set(&[("a", &P256)]));
    let authenticator = Authenticator::Jwt(verifier);
    let check = |token: &str| authenticator.check(Some(token), NOW);
    assert!(matches!(check(&token("b", &P256, json!({}))), Outcome::KeyUnknown(_)));
    for header in [
        json!({"alg": "none"}),
        json!({"alg": "HS256"}),
        json!({"alg": "RS256"}),
        json!({"alg": "ES999"}),
        json!({"crit": ["b64"]}),
        json!({"typ": "logout+jwt"}),
        json!({"kid": null}),
        json!({"kid": 1}),
    ] {
        assert!(matches!(check(&token("b", &P256, header.clone())), Outcome::Refused(_)), "{header}");
    }
    assert!(matches!(check(&token("a", &ED25519, json!({}))), Outcome::Refused(_)));
    // Stated keys have nobody to ask.
    let stated = serde_json::from_value(json!({"algorithms": ["ES256"], "keys": {"a": P256.pem}})).unwrap();
    let stated = Authenticator::Jwt(JwtVerifier::new(stated, &NoFiles).unwrap());
    assert!(matches!(stated.check(Some(&token("b", &P256, json!({}))), NOW), Outcome::Refused(_)));
}

#[test]
fn a_token_names_no_place_of_keys() {
    let verifier = verifier();
    fetch(verifier.jwks().unwrap(), at(0), set(&[("a", &P256)]));
    let evil = "https://evil.example/jwks";
    for header in [json!({"jku": evil}), json!({"x5u": evil}), json!({"jwk": ED25519.jwk}), json!({"x5c": ["AA=="]})] {
        assert!(verifier.verify(&token("a", &P256, header.clone()), NOW).is_ok(), "{header}");
        assert_eq!(verifier.verify(&token("evil", &ED25519, header), NOW), Err(JwtError::KidUnknown));
        assert_eq!(verifier.jwks().unwrap().url().as_str(), URL);
    }
}

#[test]
fn a_reload_of_the_same_url_needs_no_fetch() {
    let (first, now) = (verifier(), at(10));
    let first = first.jwks().unwrap();
    let other = try_verifier(json!({"algorithms": ["EdDSA"]})).unwrap();
    let next = other.jwks().unwrap();
    assert!(!next.continue_from(first, now), "nothing was fetched yet");
    fetch(first, at(0), set(&[("a", &P256)]));
    assert!(!next.continue_from(first, now), "no key is left for these algorithms");
    fetch(first, at(600), set(&[("a", &P256), ("b", &ED25519)]));
    assert!(next.continue_from(first, at(700)));
    assert_eq!(outcome(&other, "b", &ED25519), Ok(()));
    assert_eq!(outcome(&other, "a", &P256), Err(JwtError::AlgorithmNotAllowed));
    assert_eq!(next.next(at(700)), JwksStep::WaitUntil(at(1200)));
    for elsewhere in [json!({"jwks_url": "https://issuer.example/other"}), json!({"jwks_ca": pem("CERTIFICATE", b"x")})]
    {
        let elsewhere = try_verifier(elsewhere).unwrap();
        assert!(!elsewhere.jwks().unwrap().continue_from(first, at(700)));
    }
}

#[test]
fn a_reload_goes_on_without_keys_that_have_become_too_old() {
    let first = try_verifier(json!({"jwks_stale_s": 10})).unwrap();
    let before = first.jwks().unwrap();
    fetch(before, at(0), set(&[("a", &P256)]));
    fetch(before, at(600), down());
    assert_eq!(
        (before.next(at(610)), outcome(&first, "a", &P256)),
        (JwksStep::Expired, Err(JwtError::KeysUnavailable))
    );
    let after = |stale_s: u64| {
        let verifier = try_verifier(json!({"jwks_stale_s": stale_s})).unwrap();
        assert!(verifier.jwks().unwrap().continue_from(before, at(620)), "an outage of the issuer is none of a reload");
        verifier
    };
    let (same, longer) = (after(10), after(100));
    assert_eq!(outcome(&same, "a", &P256), Err(JwtError::KeysUnavailable));
    assert_eq!(outcome(&longer, "a", &P256), Ok(()), "they serve for the time that is stated now");
    let settled = fetch(same.jwks().unwrap(), at(620), set(&[("a", &P256)]));
    assert!(settled.is_news && settled.failures == 1, "{settled:?}");
    assert_eq!(outcome(&same, "a", &P256), Ok(()));
}

#[test]
fn neither_keys_nor_the_path_are_shown() {
    let verifier = try_verifier(json!({"jwks_url": "https://issuer.example/Hunter2?key=Hunter2"})).unwrap();
    fetch(verifier.jwks().unwrap(), at(0), set(&[("a", &RSA), ("b", &P256)]));
    let shown = format!("{verifier:?} {:?}", verifier.jwks());
    assert!(shown.contains("https://issuer.example") && !shown.contains("Hunter2"), "{shown}");
}

#[test]
fn the_age_of_a_response() {
    for (values, age) in [
        (&["max-age=300"][..], Some(300)),
        (&["public, Max-Age=300, must-revalidate"], Some(300)),
        (&["public", "max-age = 5"], Some(5)),
        (&["max-age=\"60\""], Some(60)),
        (&["max-age=300, max-age=20"], Some(20)),
        (&["no-store"], Some(0)),
        (&["max-age=99999999999999999999999"], Some(u64::MAX)),
        (&["s-maxage=5, private"], None),
        (&["max-age=-1", "max-age=", "max-age", "max-age=1.5", ""], None),
        (&[], None),
    ] {
        assert_eq!(max_age(values.iter().copied()), age, "{values:?}");
    }
}
