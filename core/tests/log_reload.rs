#![expect(clippy::unwrap_used, reason = "a test")]
//! A `tracing` subscriber of the application that asks for something in the middle of a record: no reload is locked meanwhile.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{OnceLock, mpsc};
use std::time::Duration;

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

#[test]
fn a_reload_is_told_when_the_next_may_come() {
    tracing::subscriber::set_global_default(Curious).unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let json = serde_json::json!({
        "listen": "127.0.0.1:0", "threads": 1, "origins": ["https://a.example"], "auth": "none", "protocol": "raw",
        "tls": {"cert": cert, "key": key}
    });
    let options = move || Options::from_json(&json.to_string()).unwrap();
    let server = Builder::new().start(options()).unwrap();
    let handle = SERVER.get_or_init(|| server.handle());
    let (told, outcome) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bad = options();
        bad.max_connections = 1;
        told.send((handle.reload(options()).is_ok(), handle.reload(bad).is_ok()))
    });
    let (is_reloaded, _) = outcome.recv_timeout(PATIENCE).expect("a reload waits for its own record");
    assert!(is_reloaded && ASKED.load(Ordering::Acquire) >= 2);
}
