#![expect(clippy::unwrap_used, reason = "a test")]
//! A `tracing` subscriber of the application that waits for the thread that takes the events: they are not locked meanwhile.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event as Said, Metadata, Subscriber};
use wsguard::binding::{Builder, Event, EventBatch, Next, Options};

const PATIENCE: Duration = Duration::from_secs(20);

/// Violations that the application has taken, and records that have waited for theirs.
static TAKEN: AtomicUsize = AtomicUsize::new(0);
static WAITED: AtomicUsize = AtomicUsize::new(0);
static CODES: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Patient;

struct CodeField(String);

impl Visit for CodeField {
    fn record_debug(&mut self, field: &Field, value: &dyn core::fmt::Debug) {
        if field.name() == "code" {
            self.0 = format!("{value:?}");
        }
    }
}

impl Subscriber for Patient {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "wsguard::verdict"
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn event(&self, event: &Said<'_>) {
        let mut code = CodeField(String::new());
        event.record(&mut code);
        CODES.lock().unwrap().push(code.0);
        let own = WAITED.load(Ordering::Acquire) + 1;
        let deadline = Instant::now() + PATIENCE;
        while TAKEN.load(Ordering::Acquire) < own {
            if Instant::now() > deadline {
                return;
            }
            std::thread::yield_now();
        }
        WAITED.store(own, Ordering::Release);
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[test]
fn a_record_is_said_when_the_events_are_not_locked() {
    tracing::subscriber::set_global_default(Patient).unwrap();
    let json = r#"{"listen": "127.0.0.1:0", "threads": 1, "origins": ["https://a.example"], "auth": "none", "protocol": "raw",
        "close_timeout_ms": 100}"#;
    let mut server = Builder::new().start(Options::from_json(json).unwrap()).unwrap();
    let address = server.address().to_owned();
    let clients = std::thread::spawn(move || {
        for (origin, sent) in [("https://evil.example", &b""[..]), ("https://a.example", b"\x81\x02hi")] {
            let mut client = TcpStream::connect(&address).unwrap();
            let head = format!(
                "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nOrigin: {origin}\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            );
            client.write_all(head.as_bytes()).unwrap();
            client.write_all(sent).unwrap();
            let _ = client.read_to_end(&mut Vec::new());
        }
    });
    let mut batch = EventBatch::new();
    let deadline = Instant::now() + 3 * PATIENCE;
    // The shard that waits in its log does not wake us: we look by ourselves.
    while WAITED.load(Ordering::Acquire) < 2 {
        assert!(Instant::now() < deadline, "a record waited in vain: {:?}", CODES.lock().unwrap());
        if server.events().next(&mut batch, Some(Duration::from_millis(1))) == Next::Events {
            let violations = batch.iter().filter(|event| matches!(event, Event::Violation(_))).count();
            TAKEN.fetch_add(violations, Ordering::AcqRel);
        }
    }
    assert_eq!(*CODES.lock().unwrap(), ["origin_denied", "bad_frame"]);
    clients.join().unwrap();
}
