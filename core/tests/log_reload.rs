#![expect(clippy::unwrap_used, reason = "a test")]
//! A `tracing` subscriber of the application that asks for something in the middle of a record: no reload is locked meanwhile.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{OnceLock, mpsc};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use wsguard::binding::{Builder, Options, ServerHandle};

const PATIENCE: Duration = Duration::from_secs(20);

static SERVER: OnceLock<ServerHandle> = OnceLock::new();
/// What the subscriber has asked for.
static ASKED: AtomicUsize = AtomicUsize::new(0);

struct Curious;

impl Subscriber for Curious {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        !metadata.is_span()
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn event(&self, _: &Event<'_>) {
        if let Some(server) = SERVER.get() {
            server.reload_tls().unwrap();
            ASKED.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// An issuer on loopback that answers one request with this key of P-256; its URL.
fn issuer(public_key: &[u8]) -> String {
    let (x, y) = public_key[1..].split_at(32);
    let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
    let set = json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": "a", "x": x, "y": y}]}).to_string();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/jwks", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut socket = listener.accept().unwrap().0;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            socket.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        write!(socket, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{set}", set.len()).unwrap();
    });
    url
}

#[test]
fn a_reload_is_told_when_the_next_may_come() {
    tracing::subscriber::set_global_default(Curious).unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let base = json!({
        "listen": "127.0.0.1:0", "threads": 1, "origins": ["https://a.example"], "auth": "none", "protocol": "raw",
        "tls": {"cert": cert, "key": key}
    });
    let mut signed = base.clone();
    let jwt = json!({"algorithms": ["ES256"], "jwks_url": issuer(made.signing_key.public_key_raw())});
    signed["routes"] = json!({"/signed": {"auth": {"jwt": jwt}}});
    let options = |json: &serde_json::Value| Options::from_json(&json.to_string()).unwrap();
    let server = Builder::new().start(options(&base)).unwrap();
    let handle = SERVER.get_or_init(|| server.handle());
    let (told, outcome) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bad = options(&base);
        bad.max_inbox_bytes = 0;
        // The keys of the route are fetched while the reload holds its lock.
        let reloads = [options(&base), options(&signed), bad];
        told.send(reloads.map(|options| handle.reload(options).is_ok()))
    });
    let reloaded = outcome.recv_timeout(PATIENCE).expect("a reload waits for its own record");
    assert_eq!((reloaded, ASKED.load(Ordering::Acquire) >= 4), ([true, true, false], true));
}
