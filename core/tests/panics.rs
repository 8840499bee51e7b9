#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]
//! What the application hands over panics: its `tracing` subscriber on every record, its `Wake` on every call, its inline
//! handler. No shard dies of it, every peer is answered, everything is given back, and the end comes.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tracing::span::{Attributes, Id, Record};
use tracing::{Event as Said, Metadata, Subscriber};
use wsguard::binding::{
    Builder, ConnectionId, EventBatch, Handled, Inline, InlineMessage, Next, Options, Replies, Server, Wake,
};

/// Panics with something that panics again when it is dropped.
struct Nasty;

impl Drop for Nasty {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "and again");
    }
}

struct Angry;

static HEARD: AtomicUsize = AtomicUsize::new(0);

impl Subscriber for Angry {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("wsguard")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Said<'_>) {
        HEARD.fetch_add(1, Ordering::Relaxed);
        std::panic::panic_any(Nasty);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Broken;

impl Wake for Broken {
    fn wake(&self) {
        std::panic::panic_any(Nasty);
    }
}

impl Inline for Broken {
    fn message(&self, _: ConnectionId, message: InlineMessage<'_>, replies: &mut Replies<'_>) -> Handled {
        match message {
            InlineMessage::Text("panic") => std::panic::panic_any(Nasty),
            InlineMessage::Text(text) => replies.text(text),
            _ => return Handled::Pass,
        }
        Handled::Done
    }
}

fn connect(server: &Server) -> TcpStream {
    let mut client = TcpStream::connect(server.address()).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    client
        .write_all(
            b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nOrigin: https://a.example\r\n\
              Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nX-Forwarded-For: 192.0.2.1\r\n\
              Sec-WebSocket-Protocol: unknown\r\n\r\n",
        )
        .unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101"));
    client
}

fn say(client: &mut TcpStream, text: &str) {
    client.write_all(&[&[0x81, 0x80 | text.len() as u8, 0, 0, 0, 0], text.as_bytes()].concat()).unwrap();
}

/// The close code that comes next.
fn closed(client: &mut TcpStream) -> u16 {
    let mut head = [0; 4];
    client.read_exact(&mut head).unwrap();
    assert_eq!(head[0], 0x88);
    u16::from_be_bytes([head[2], head[3]])
}

#[test]
fn panics_of_the_application_cost_it_at_most_a_connection() {
    // A real application would see these messages; here they are expected.
    std::panic::set_hook(Box::new(|_| {}));
    tracing::subscriber::set_global_default(Angry).unwrap();
    let options = r#"{"listen": "127.0.0.1:0", "origins": ["https://a.example"], "auth": "none", "protocol": "raw", "threads": 3,
        "handshakes_per_ip": null, "close_timeout_ms": 100, "subprotocols": ["known"]}"#;
    let builder = Builder::new().inline(Broken).wake(Broken);
    let mut server = builder.start(Options::from_json(options).unwrap()).unwrap();
    let handle = server.handle();
    let mut batch = EventBatch::new();
    let mut steady = (0..6).map(|_| connect(&server)).collect::<Vec<_>>();
    for _ in 0..12 {
        let mut unmasked = connect(&server);
        unmasked.write_all(&[0x81, 1, b'x']).unwrap();
        assert_eq!(closed(&mut unmasked), 1002);
        let mut refused = TcpStream::connect(server.address()).unwrap();
        refused.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut answer = String::new();
        refused.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
        // What an inline handler panicked on; it is asked once the application is done with the opening.
        while server.events().next(&mut batch, Some(Duration::ZERO)) == Next::Events {}
        let mut panicked = connect(&server);
        while server.events().next(&mut batch, Some(Duration::ZERO)) == Next::Events {}
        say(&mut panicked, "panic");
        assert_eq!(closed(&mut panicked), 1011);
    }
    for client in &mut steady {
        say(client, "hello");
        while server.events().next(&mut batch, Some(Duration::ZERO)) == Next::Events {}
        let mut answer = [0; 7];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer[2..], b"hello");
    }
    assert!(HEARD.load(Ordering::Relaxed) > 10, "the subscriber was never asked");
    handle.drain(5000, 0);
    for client in &mut steady {
        assert_eq!(closed(client), 1012);
    }
    drop(steady);
    let began = Instant::now();
    while server.events().next(&mut batch, Some(Duration::ZERO)) != Next::Stopped {
        assert!(began.elapsed() < Duration::from_secs(20), "the server does not end");
        std::thread::yield_now();
    }
    let stats = handle.stats();
    assert_eq!((stats.connections, stats.open, stats.inbox_bytes, stats.outbox_bytes), (0, 0, 0, 0));
}
