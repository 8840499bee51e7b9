//! Against an issuer on loopback: what a fetch may take and bring, and what a handshake sees of it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use wsguard_proto::auth::{JwtOptions, JwtVerifier, MAX_JWKS_BYTES};
use wsguard_proto::config::Options;
use wsguard_proto::files::NoFiles;
use wsguard_proto::verdict::Code;

use super::test_issuer::{Authority, Issuer, authority, response};
use super::*;
use crate::driver::{Builder as ServerBuilder, Event, EventBatch, Next, Server};

/// A key of the issuer's.
struct Key {
    kid: &'static str,
    pair: EcdsaKeyPair,
}

fn key(kid: &'static str) -> Key {
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
    Key { kid, pair: EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref()).unwrap() }
}

fn set(keys: &[&Key]) -> String {
    let jwk = |key: &&Key| {
        let (x, y) = key.pair.public_key().as_ref()[1..].split_at(32);
        let encode = |bytes| URL_SAFE_NO_PAD.encode(bytes);
        json!({"kty": "EC", "crv": "P-256", "kid": key.kid, "use": "sig", "alg": "ES256", "x": encode(x), "y": encode(y)})
    };
    json!({ "keys": keys.iter().map(jwk).collect::<Vec<_>>() }).to_string()
}

/// A token of `key` for alice.
fn token(key: &Key, more: &Value) -> String {
    let mut header = json!({"alg": "ES256", "kid": key.kid});
    header.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let claims = json!({"sub": "alice", "exp": Clock::unix_ms() / 1000 + 600});
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(&header), part(&claims));
    let signature = key.pair.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
}

fn jwt(url: &str, ca: Option<&Authority>) -> Value {
    json!({"algorithms": ["ES256"], "jwks_url": url, "jwks_ca": ca.map(Authority::pem)})
}

fn jwks(url: &str, ca: Option<&Authority>) -> Arc<Jwks> {
    let options: JwtOptions = serde_json::from_value(jwt(url, ca)).unwrap();
    Arc::clone(JwtVerifier::new(options, &NoFiles).unwrap().jwks().unwrap())
}

/// What one fetch brings.
fn fetch(issuer: &Issuer, ca: Option<&Authority>) -> Result<(Vec<u8>, Option<u64>), String> {
    fetch_within(issuer, ca, Duration::from_secs(60))
}

fn fetch_within(issuer: &Issuer, ca: Option<&Authority>, time: Duration) -> Result<(Vec<u8>, Option<u64>), String> {
    let jwks = jwks(&issuer.url("/jwks"), ca);
    let fetched = Client::new(&jwks).unwrap().within(time).fetch(jwks.url());
    fetched.map(|fetched| (fetched.body, fetched.max_age_s))
}

#[test]
fn a_document_comes_over_tls_and_over_loopback() {
    let ca = authority();
    for (issuer, ca) in [(Issuer::https(&ca), Some(&ca)), (Issuer::http(), None)] {
        issuer.answers(response("200 OK", "Cache-Control: public, max-age=77\r\n", "{}"));
        assert_eq!(fetch(&issuer, ca), Ok((b"{}".to_vec(), Some(77))));
        issuer
            .answers("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\n{}\r\n0\r\n\r\n");
        assert_eq!(fetch(&issuer, ca), Ok((b"{}".to_vec(), None)));
        assert_eq!(issuer.asked(), ["GET /jwks HTTP/1.1"; 2]);
    }
}

#[test]
fn a_document_has_a_size() {
    let issuer = Issuer::http();
    let largest = "x".repeat(MAX_JWKS_BYTES);
    issuer.publishes(&largest);
    assert_eq!(fetch(&issuer, None).unwrap().0.len(), MAX_JWKS_BYTES);
    let too_large = Err("the document is larger than 65536 bytes".to_owned());
    issuer.publishes(&(largest.clone() + "x"));
    assert_eq!(fetch(&issuer, None), too_large);
    // Without a length, and without an end.
    issuer.answers(format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}", largest.repeat(10)));
    assert_eq!(fetch(&issuer, None), too_large);
    issuer.answers(format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(MAX_JWKS_BYTES)));
    assert!(fetch(&issuer, None).is_err());
}

#[test]
fn an_answer_that_is_none_is_told_without_its_bytes() {
    let issuer = Issuer::http();
    for (answer, why) in [
        (response("404 Hunter2", "", "Hunter2"), Some("the issuer answered 404")),
        (response("500 Oops", "", ""), Some("the issuer answered 500")),
        (response("204 No Content", "", ""), Some("the issuer answered 204")),
        ("Hunter2 Hunter2 Hunter2\r\n\r\n".to_owned(), None),
        (String::new(), None),
        ("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nHunter2".to_owned(), None),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nHunter2\r\n".to_owned(), None),
    ] {
        issuer.answers(answer.clone());
        let error = fetch(&issuer, None).expect_err(&answer);
        assert!(!error.contains("Hunter2") && why.is_none_or(|why| why == error), "{answer:?}: {error}");
    }
    let gone = jwks(&issuer.url("/"), None);
    drop(issuer);
    assert_eq!(Client::new(&gone).unwrap().fetch(gone.url()).err().as_deref(), Some("the issuer refuses connections"));
}

#[test]
fn redirects_stay_at_the_issuer() {
    let (issuer, other) = (Issuer::http(), Issuer::http());
    other.publishes("{}");
    let to = |location: &str| response("302 Found", &format!("Location: {location}\r\n"), "");
    for location in
        [other.url("/jwks"), format!("//{}/jwks", other.address), "https://127.0.0.1/".to_owned(), String::new()]
    {
        issuer.answers(to(&location));
        let error = fetch(&issuer, None).unwrap_err();
        assert_eq!(error, "the issuer redirects to another origin, which is not followed", "{location}");
    }
    assert!(other.asked().is_empty());
    issuer.answers(to("/again"));
    let before = issuer.asked().len();
    assert_eq!(fetch(&issuer, None), Err("the issuer redirects more than 3 times".to_owned()));
    assert_eq!(
        issuer.asked()[before..],
        ["GET /jwks HTTP/1.1", "GET /again HTTP/1.1", "GET /again HTTP/1.1", "GET /again HTTP/1.1"]
    );
}

#[test]
fn an_issuer_proves_who_it_is() {
    let (ca, other) = (authority(), authority());
    let expired = |params: &mut rcgen::CertificateParams| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    };
    for (issuer, why) in [
        (Issuer::https(&other), "the issuer's certificate is of an authority that is not known here"),
        (Issuer::with_certificate(&ca, |_| {}, "issuer.example"), "the issuer's certificate is for another name"),
        (Issuer::with_certificate(&ca, expired, "127.0.0.1"), "the issuer's certificate has expired"),
    ] {
        issuer.publishes("{}");
        assert_eq!(fetch(&issuer, Some(&ca)), Err(why.to_owned()));
        assert!(issuer.asked().is_empty());
    }
    let plain = Issuer::http();
    let jwks = jwks(&format!("https://{}/", plain.address), Some(&ca));
    let client = Client::new(&jwks).unwrap().within(Duration::from_millis(500));
    assert!(client.fetch(jwks.url()).is_err() && plain.asked().is_empty());
}

#[test]
fn a_slow_issuer_has_its_time_and_no_more() {
    let issuer = Issuer::http();
    let time = Duration::from_millis(200);
    let late = Err("the issuer gave no whole answer within 200 ms".to_owned());
    issuer.holds(true);
    assert_eq!(fetch_within(&issuer, None, time), late);
    // It accepts, and does not even speak TLS.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let ca = authority();
    let jwks = jwks(&format!("https://{}/", silent.local_addr().unwrap()), Some(&ca));
    assert_eq!(Client::new(&jwks).unwrap().within(time).fetch(jwks.url()).err(), late.err());
}

#[test]
fn a_damaged_authority_is_said_before_anything_is_fetched() {
    let mut options = jwt("https://issuer.example/", None);
    options["jwks_ca"] = json!("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----");
    let options = json!({"origins": ["https://a.example"], "auth": {"jwt": options}});
    let error = Options::from_value(&options).and_then(crate::driver::compile).err().unwrap();
    assert_eq!(error.option, "auth.jwt.jwks_ca");
}

fn options(jwt: &Value, more: &Value) -> Options {
    let mut options = json!({"origins": ["https://a.example"], "auth": {"jwt": jwt}, "protocol": "raw", "threads": 1,
        "handshakes_per_ip": null, "max_connections_per_user": 1000});
    options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Options::from_value(&options).unwrap()
}

fn start(issuer: &Issuer, ca: Option<&Authority>, more: &Value) -> Result<Server, Error> {
    ServerBuilder::new().without_listener().start(options(&jwt(&issuer.url("/jwks"), ca), more))
}

/// Begins a handshake with a token.
fn send(server: &Server, token: &str) -> TcpStream {
    send_to("/", server, token)
}

fn send_to(path: &str, server: &Server, token: &str) -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nOrigin: https://a.example\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    server.handle().adopt(listener.accept().unwrap().0, head.into_bytes()).unwrap();
    client
}

/// The status of the answer.
fn status(client: &mut TcpStream) -> u16 {
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    String::from_utf8(answer).unwrap()[9..12].parse().unwrap()
}

fn ask(server: &Server, key: &Key) -> u16 {
    status(&mut send(server, &token(key, &json!({}))))
}

#[test]
fn a_server_does_not_start_without_keys() {
    let ca = authority();
    let (issuer, key) = (Issuer::https(&ca), key("a"));
    for (document, why) in [
        ("<html>Hunter2</html>", "the document is not JSON"),
        ("{\"keys\": []}", "the document holds no key with a `kid` that auth.jwt.algorithms can use"),
        ("{\"Hunter2\": [", "the document is not JSON"),
    ] {
        issuer.publishes(document);
        let error = start(&issuer, Some(&ca), &json!({})).unwrap_err();
        assert_eq!((error.option(), error.code()), (Some("auth.jwt.jwks_url"), "invalid_option"));
        let origin = issuer.url("");
        assert_eq!(error.to_string(), format!("auth.jwt.jwks_url: cannot be fetched from {origin}: {why}"));
    }
    issuer.publishes(&set(&[&key]));
    assert_eq!(ask(&start(&issuer, Some(&ca), &json!({})).unwrap(), &key), 101);
    // Without its authority, by the system's: whether there are such or not.
    assert_eq!(start(&issuer, None, &json!({})).unwrap_err().option(), Some("auth.jwt.jwks_url"));
}

#[test]
fn options_are_compiled_without_the_network() {
    let issuer = Issuer::http();
    crate::driver::compile(options(&jwt(&issuer.url("/jwks"), None), &json!({}))).unwrap();
    assert!(issuer.asked().is_empty());
}

#[test]
fn a_new_key_is_fetched_when_it_is_needed() {
    let ca = authority();
    let (issuer, old, new, later) = (Issuer::https(&ca), key("old"), key("new"), key("later"));
    issuer.publishes(&set(&[&old]));
    let mut server = start(&issuer, Some(&ca), &json!({})).unwrap();
    let mut session = send(&server, &token(&old, &json!({})));
    assert_eq!(status(&mut session), 101);
    issuer.publishes(&set(&[&new]));
    assert_eq!((ask(&server, &new), issuer.asked().len()), (101, 2));
    assert_eq!(ask(&server, &old), 401, "a key that is gone lets nobody in");
    // The next one is not fetched yet: nobody can make the server ask more often.
    issuer.publishes(&set(&[&later]));
    for _ in 0..50 {
        assert_eq!(ask(&server, &later), 401);
    }
    assert_eq!((ask(&server, &new), issuer.asked().len()), (101, 2));
    // Who is in stays in.
    let mut batch = EventBatch::new();
    assert_eq!(server.events().next(&mut batch, None), Next::Events);
    let Some(Event::Open(open)) = batch.iter().find(|event| matches!(event, Event::Open(_))) else { panic!("no open") };
    server.handle().send_text(open.conn, "still here").unwrap();
    let mut frame = [0; 12];
    session.read_exact(&mut frame).unwrap();
    assert_eq!(&frame[2..], b"still here");
}

/// The code of the close frame that comes next.
fn close_code(client: &mut TcpStream) -> u16 {
    let mut frame = [0; 4];
    client.read_exact(&mut frame).unwrap();
    assert_eq!(frame[0], 0x88);
    u16::from_be_bytes([frame[2], frame[3]])
}

#[test]
fn a_reload_ends_sessions_of_a_key_that_is_gone_from_the_fetched_set() {
    let (issuer, old, both, new) = (Issuer::http(), key("old"), key("both"), key("new"));
    issuer.publishes(&set(&[&old, &both]));
    let server = start(&issuer, None, &json!({})).unwrap();
    let mut clients = [&old, &both].map(|key| send(&server, &token(key, &json!({}))));
    assert!(clients.iter_mut().all(|client| status(client) == 101));
    issuer.publishes(&set(&[&both, &new]));
    assert_eq!(ask(&server, &new), 101, "this has fetched the new set");
    let same = options(&jwt(&issuer.url("/jwks"), None), &json!({}));
    assert_eq!(server.handle().reload(same).unwrap(), 2);
    assert_eq!(close_code(&mut clients[0]), 1008);
    assert_eq!(server.handle().stats().verdict(Code::SessionRevoked), 1);
    // The other one is still served: it answers a ping.
    clients[1].write_all(&[0x89, 0x80, 0, 0, 0, 0]).unwrap();
    let mut pong = [0; 2];
    clients[1].read_exact(&mut pong).unwrap();
    assert_eq!(pong, [0x8a, 0]);
    // A set that cannot be fetched refuses the reload, which changes nothing.
    let elsewhere = options(&jwt(&Issuer::http().url("/gone"), None), &json!({}));
    assert_eq!(server.handle().reload(elsewhere).unwrap_err().option(), Some("auth.jwt.jwks_url"));
    assert_eq!(ask(&server, &both), 101);
}

#[test]
fn a_route_has_keys_by_url_of_its_own() {
    let (issuer, old, new) = (Issuer::http(), key("old"), key("new"));
    issuer.publishes(&set(&[&old]));
    let with = |issuer: &Issuer| {
        let routes = json!({"/": {}, "/signed": {"auth": {"jwt": jwt(&issuer.url("/jwks"), None)}}});
        Options::from_value(
            &json!({"origins": ["https://a.example"], "protocol": "raw", "threads": 1, "routes": routes,
            "auth": {"tokens": [{"token": "good", "user": "alice"}]}, "handshakes_per_ip": null}),
        )
        .unwrap()
    };
    let server = ServerBuilder::new().without_listener().start(with(&issuer)).unwrap();
    let asks = |path, token: &str| status(&mut send_to(path, &server, token));
    let (by_old, by_new) = (token(&old, &json!({})), token(&new, &json!({})));
    assert_eq!((asks("/signed", &by_old), asks("/", &by_old), asks("/signed", "good")), (101, 401, 401));
    assert_eq!(asks("/", "good"), 101);
    issuer.publishes(&set(&[&old, &new]));
    assert_eq!((asks("/signed", &by_new), issuer.asked().len()), (101, 2));
    // Another issuer, by a reload: its keys count from then on, and sessions of the first one's are over.
    let mut session = send_to("/signed", &server, &by_old);
    assert_eq!(status(&mut session), 101);
    let other = Issuer::http();
    other.publishes(&set(&[&new]));
    assert_eq!(server.handle().reload(with(&other)).unwrap(), 2);
    assert_eq!((asks("/signed", &by_old), asks("/signed", &by_new)), (401, 101));
    assert_eq!(close_code(&mut session), 1008);
}

#[test]
fn an_error_of_a_routes_keys_names_the_route() {
    let issuer = Issuer::http();
    let with = |jwt: &Value| {
        options(
            &json!({"algorithms": ["HS256"], "key": "0".repeat(32)}),
            &json!({"routes": {"/": {}, "/admin": {"auth": {"jwt": jwt}}}}),
        )
    };
    let gone = with(&jwt(&issuer.url("/gone"), None));
    let option = Some("routes./admin.auth.jwt.jwks_url");
    assert_eq!(ServerBuilder::new().without_listener().start(gone.clone()).unwrap_err().option(), option);
    let stated = with(&json!({"algorithms": ["HS256"], "key": "1".repeat(32)}));
    let server = ServerBuilder::new().without_listener().start(stated).unwrap();
    assert_eq!(server.handle().reload(gone).unwrap_err().option(), option);
    // What can be told without the network.
    let mut no_authority = jwt("https://issuer.example/jwks", None);
    no_authority["jwks_ca"] = json!("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----");
    let error = crate::driver::compile(with(&no_authority)).unwrap_err();
    assert_eq!(error.option, "routes./admin.auth.jwt.jwks_ca");
}

#[test]
fn a_limit_changes_while_the_issuer_is_gone_and_its_keys_are_too_old() {
    let (issuer, known, unknown) = (Issuer::http(), key("known"), key("unknown"));
    issuer.publishes(&set(&[&known]));
    let with = |stale_s: u64, more: &Value| {
        let mut jwt = jwt(&issuer.url("/jwks"), None);
        jwt["jwks_stale_s"] = json!(stale_s);
        options(&jwt, more)
    };
    let (strict, changed, longer) = (
        with(0, &json!({})),
        with(0, &json!({"max_message_bytes": 7})),
        with(86_400, &json!({"max_message_bytes": 7})),
    );
    let server = ServerBuilder::new().without_listener().start(strict).unwrap();
    let mut session = send(&server, &token(&known, &json!({})));
    assert_eq!(status(&mut session), 101);
    drop(issuer);
    let _ = ask(&server, &unknown);
    while ask(&server, &known) != 503 {
        std::thread::yield_now();
    }
    assert_eq!(server.handle().reload(changed).unwrap(), 2);
    assert_eq!(ask(&server, &known), 503, "no keys, no session");
    session.write_all(&[0x89, 0x80, 0, 0, 0, 0]).unwrap();
    let mut pong = [0; 2];
    session.read_exact(&mut pong).unwrap();
    assert_eq!(pong, [0x8a, 0], "who is in stays in: nobody knows that its key is gone");
    assert_eq!(server.handle().reload(longer).unwrap(), 3);
    assert_eq!(ask(&server, &known), 101, "the last keys serve for the time that is stated now");
}

#[test]
fn many_handshakes_wait_for_one_fetch_and_keep_nobody_up() {
    let (issuer, old, new) = (Issuer::http(), key("old"), key("new"));
    issuer.publishes(&set(&[&old]));
    let server = start(&issuer, None, &json!({"handshake_timeout_ms": 60_000})).unwrap();
    issuer.holds(true);
    let fresh = token(&new, &json!({}));
    let mut waiting: Vec<_> = (0..60).map(|_| send(&server, &fresh)).collect();
    let mut forged: Vec<_> = (0..60).map(|_| send(&server, &token(&key("forged"), &json!({})))).collect();
    issuer.wait_for(2);
    // One leaves, and one says something early.
    drop(waiting.pop());
    waiting[0].write_all(&[0x81, 0x80, 0, 0, 0, 0]).unwrap();
    assert_eq!(ask(&server, &old), 101, "the only shard waits for nobody");
    issuer.publishes(&set(&[&old, &new]));
    issuer.holds(false);
    assert!(waiting.iter_mut().all(|client| status(client) == 101));
    assert!(forged.iter_mut().all(|client| status(client) == 401));
    assert_eq!(issuer.asked().len(), 2);
}

#[test]
fn a_reload_leaves_no_handshake_waiting_for_a_fetch_of_the_set_before() {
    let (issuer, old, new) = (Issuer::http(), key("old"), key("new"));
    issuer.publishes(&set(&[&old]));
    let more = json!({"handshake_timeout_ms": 60_000, "handshakes_per_ip": {"per_second": 0.001, "burst": 1}});
    let jwt = jwt(&issuer.url("/jwks"), None);
    let with = || {
        let routes = json!({"/": more});
        Options::from_value(
            &json!({"origins": ["https://a.example"], "protocol": "raw", "threads": 1, "routes": routes,
            "auth": {"jwt": jwt}, "handshakes_per_ip": null, "handshake_timeout_ms": 60_000}),
        )
        .unwrap()
    };
    let server = ServerBuilder::new().without_listener().start(with()).unwrap();
    issuer.holds(true);
    let mut waiting = send(&server, &token(&new, &json!({})));
    issuer.wait_for(2);
    assert_eq!(server.handle().reload(with()).unwrap(), 2);
    issuer.wait_for(3);
    issuer.publishes(&set(&[&old, &new]));
    issuer.holds(false);
    let began = Instant::now();
    assert_eq!(status(&mut waiting), 101, "judged three times, it is one handshake of its route");
    assert!(began.elapsed() < Duration::from_secs(30), "it does not wait for its deadline");
}

#[test]
fn an_address_that_is_denied_while_it_waits_for_keys_does_not_get_in() {
    let (issuer, old, new) = (Issuer::http(), key("old"), key("new"));
    issuer.publishes(&set(&[&old]));
    let waits = json!({"handshake_timeout_ms": 60_000});
    let server = start(&issuer, None, &waits).unwrap();
    issuer.holds(true);
    let mut waiting = send(&server, &token(&new, &json!({})));
    issuer.wait_for(2);
    let denied = json!({"handshake_timeout_ms": 60_000, "deny_ips": ["127.0.0.1"]});
    server.handle().reload(options(&jwt(&issuer.url("/jwks"), None), &denied)).unwrap();
    issuer.wait_for(3);
    issuer.publishes(&set(&[&old, &new]));
    issuer.holds(false);
    assert_eq!(status(&mut waiting), 403);
    assert_eq!(server.handle().stats().verdict(Code::Banned), 1);
}

#[test]
fn the_last_keys_serve_while_the_issuer_is_gone() {
    let (issuer, known, unknown) = (Issuer::http(), key("known"), key("unknown"));
    issuer.publishes(&set(&[&known]));
    let serving = start(&issuer, None, &json!({})).unwrap();
    let mut strict = jwt(&issuer.url("/jwks"), None);
    strict["jwks_stale_s"] = json!(0);
    let strict = ServerBuilder::new().without_listener().start(options(&strict, &json!({}))).unwrap();
    drop(issuer);
    for server in [&serving, &strict] {
        assert_eq!(ask(server, &known), 101);
    }
    assert_eq!((ask(&serving, &unknown), ask(&serving, &known)), (401, 101));
    // The failed fetch is the end of the keys here; it is carried out by another thread.
    assert!(matches!(ask(&strict, &unknown), 401 | 503));
    while ask(&strict, &known) != 503 {
        std::thread::yield_now();
    }
    assert!(strict.handle().stats().verdict(Code::AuthUnavailable) >= 1);
}

/// Also where handshakes are only reported: one that waits for a key is judged again and again, and told once.
#[test]
fn an_unknown_key_is_waited_for_where_handshakes_are_only_reported() {
    let (issuer, known, rotated, unknown) = (Issuer::http(), key("known"), key("rotated"), key("unknown"));
    issuer.publishes(&set(&[&known]));
    let trial = json!({"on_violation": "report", "report_handshakes": true});
    let server = start(&issuer, None, &trial).unwrap();
    issuer.publishes(&set(&[&known, &rotated]));
    assert_eq!((ask(&server, &rotated), server.handle().stats().verdict(Code::AuthFailed)), (101, 0));
    assert_eq!((ask(&server, &unknown), server.handle().stats().verdict(Code::AuthFailed)), (101, 1));
}

#[test]
fn an_issuer_that_hangs_costs_a_handshake_its_deadline_and_a_server_nothing() {
    let (issuer, known, unknown) = (Issuer::http(), key("known"), key("unknown"));
    issuer.publishes(&set(&[&known]));
    let server = start(&issuer, None, &json!({"handshake_timeout_ms": 300})).unwrap();
    issuer.holds(true);
    assert_eq!(ask(&server, &unknown), 503);
    assert_eq!(server.handle().stats().verdict(Code::AuthUnavailable), 1);
    let began = Instant::now();
    drop(server);
    assert!(began.elapsed() < Duration::from_secs(4), "nobody waits for the fetch");
}

#[test]
fn who_waits_for_keys_when_the_server_stops_is_answered() {
    let (issuer, known, unknown) = (Issuer::http(), key("known"), key("unknown"));
    issuer.publishes(&set(&[&known]));
    let server = start(&issuer, None, &json!({"handshake_timeout_ms": 60_000})).unwrap();
    issuer.holds(true);
    let mut waiting: Vec<_> = (0..60).map(|_| send(&server, &token(&unknown, &json!({})))).collect();
    issuer.wait_for(2);
    server.handle().stop();
    assert!(waiting.iter_mut().all(|client| status(client) == 503));
}

/// The deadline of the top is for a request whose path is not known yet.
#[test]
fn who_waits_for_keys_has_the_deadline_of_its_route() {
    let (issuer, known, unknown) = (Issuer::http(), key("known"), key("unknown"));
    issuer.publishes(&set(&[&known]));
    let more = json!({"handshake_timeout_ms": 200, "routes": {"/": {"handshake_timeout_ms": 1500}}});
    let mut server = start(&issuer, None, &more).unwrap();
    issuer.holds(true);
    let (mut waiting, began) = (send(&server, &token(&unknown, &json!({}))), Instant::now());
    assert_eq!(status(&mut waiting), 503);
    assert!(began.elapsed() >= Duration::from_millis(1400));
    let mut batch = EventBatch::new();
    assert_eq!(server.events().next(&mut batch, Some(Duration::from_secs(30))), Next::Events);
    let Some(Event::Violation(violation)) = batch.get(0) else { panic!("no violation") };
    let detail = "no keys of auth.jwt.jwks_url came within handshake_timeout_ms (1500)";
    assert_eq!((violation.code.name(), &*violation.detail), ("auth_unavailable", detail));
}

#[test]
fn a_token_sends_the_server_nowhere() {
    let (issuer, evil, known, forged) = (Issuer::http(), Issuer::http(), key("known"), key("forged"));
    issuer.publishes(&set(&[&known]));
    evil.publishes(&set(&[&forged]));
    let server = start(&issuer, None, &json!({})).unwrap();
    for name in ["jku", "x5u"] {
        let token = token(&forged, &json!({ name: evil.url("/jwks") }));
        assert_eq!(status(&mut send(&server, &token)), 401);
    }
    assert!(evil.asked().is_empty());
}

#[test]
fn a_reload_goes_on_with_what_was_fetched() {
    let (issuer, known) = (Issuer::http(), key("known"));
    issuer.publishes(&set(&[&known]));
    let (first, second) = (jwks(&issuer.url("/jwks"), None), jwks(&issuer.url("/jwks"), None));
    let fetchers = Fetchers::default();
    let top =
        Policy::new(options(&json!({"algorithms": ["HS256"], "key": "0".repeat(32)}), &json!({})), &NoFiles).unwrap();
    let prepare = |sets: &[&Arc<Jwks>]| fetchers.prepare(sets.iter().map(|jwks| (&top, *jwks))).map(|(them, _)| them);
    let running = |fetchers: &Fetchers| -> Vec<Arc<Jwks>> {
        lock(&fetchers.running).iter().flatten().map(|fetcher| Arc::clone(&fetcher.jwks)).collect()
    };
    fetchers.run(prepare(&[&first, &first]).unwrap());
    assert_eq!((running(&fetchers).len(), issuer.asked().len()), (1, 1));
    // What cannot be fetched changes nothing.
    let gone = jwks(&issuer.url("/jwks?gone"), None);
    issuer.publishes("");
    assert!(prepare(&[&second, &gone]).is_err());
    assert!(Arc::ptr_eq(&running(&fetchers)[0], &first));
    fetchers.run(prepare(&[&second]).unwrap());
    assert_eq!((running(&fetchers).len(), issuer.asked().len()), (1, 2));
    fetchers.stop();
    assert!(lock(&fetchers.running).is_none());
    // A reload that was under way starts nothing any more.
    issuer.publishes(&set(&[&known]));
    let late = prepare(&[&second]);
    fetchers.run(late.unwrap());
    assert!(lock(&fetchers.running).is_none() && second.is_retired());
}
