#![expect(clippy::unwrap_used, reason = "a test")]
//! No allocation per message at steady state: a whole server in this process under a counting allocator.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};
use wsguard::binding::{
    Builder, ConnectionId, Event, EventBatch, Handled, Inline, InlineMessage, Next, Options, Replies, Server,
};

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

struct Counting;

#[expect(unsafe_code, reason = "an allocator cannot be written without; it only counts and forwards")]
// SAFETY: every call is forwarded to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Echo;

impl Inline for Echo {
    fn message(&self, _: ConnectionId, message: InlineMessage<'_>, replies: &mut Replies<'_>) -> Handled {
        match message {
            InlineMessage::Text(text) => replies.text(text),
            InlineMessage::Binary(payload) => replies.binary(payload),
            InlineMessage::Event(event, data, id) => replies.emit(event, data, id),
        }
        Handled::Done
    }
}

fn options(more: &str) -> Options {
    let json = format!(
        r#"{{"listen": "127.0.0.1:0", "threads": 1, "origins": ["https://a.example"],
            "auth": {{"tokens": [{{"token": "good", "user": "alice"}}]}},
            "rate_limit": {{"per_second": 1e9, "burst": 1e9, "bytes_per_second": 1e12}} {more}}}"#
    );
    Options::from_json(&json).unwrap()
}

fn connect(address: &str) -> TcpStream {
    connect_with(address, "")
}

fn connect_with(address: &str, headers: &str) -> TcpStream {
    let mut client = TcpStream::connect(address).unwrap();
    client
        .write_all(
            format!(
                "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX-Auth-Token: good\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
                 Origin: https://a.example\r\n{headers}\r\n"
            )
            .as_bytes(),
        )
        .unwrap();
    let mut head = [0; 4096];
    let len = client.read(&mut head).unwrap();
    assert!(head[..len].starts_with(b"HTTP/1.1 101"));
    client
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    if payload.len() < 126 {
        out.push(0x80 | payload.len() as u8);
    } else {
        out.push(0xfe);
        out.extend_from_slice(&(payload.len() as u16).to_be_bytes());
    }
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
    out
}

/// Allocations of the whole process while `rounds` requests go out and their answers of `answer_len` bytes come back.
fn allocations(client: &mut TcpStream, request: &[u8], answer_len: usize, rounds: usize) -> usize {
    let mut answer = vec![0; answer_len];
    let mut round = || {
        client.write_all(request).unwrap();
        client.read_exact(&mut answer).unwrap();
    };
    (0..200).for_each(|_| round());
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    (0..rounds).for_each(|_| round());
    ALLOCATIONS.load(Ordering::Relaxed) - before
}

/// Messages are counted in thousands, so that a single allocation of something that happens once does not matter.
const ROUNDS: usize = 2000;

fn assert_none(what: &str, allocations: usize) {
    assert!(allocations < ROUNDS / 100, "{what}: {allocations} allocations in {ROUNDS} messages");
}

#[test]
fn echo_without_allocation() {
    inline();
    application_thread();
    typed();
    compressed();
}

/// Answered on the shard's thread: small, large, in pieces, and as JSON with a schema.
fn inline() {
    let server = Builder::new().inline(Echo).start(options(r#", "protocol": "raw""#)).unwrap();
    let mut server = Drained::new(server);
    let mut client = connect(&server.address);
    server.take_events();
    assert_none("raw 64 B", allocations(&mut client, &frame(0x82, &[7; 64]), 66, ROUNDS));
    assert_none("raw 16 KiB", allocations(&mut client, &frame(0x82, &[7; 16_384]), 16_388, ROUNDS));
    let fragments = [frame(0x01, b"frag"), frame(0x00, b"men"), frame(0x80, b"ted")].concat();
    assert_none("fragments", allocations(&mut client, &fragments, 12, ROUNDS));

    let schema = r#", "events": {"say": {"schema": {"type": "object", "properties": {"text": {"type": "string",
        "maxLength": 100}}, "required": ["text"], "additionalProperties": false}}}"#;
    let mut server = Drained::new(Builder::new().inline(Echo).start(options(schema)).unwrap());
    let mut client = connect(&server.address);
    server.take_events();
    let request = frame(0x81, br#"{"event":"say","data":{"text":"hello, world"}}"#);
    let answer = 2 + br#"{"event":"say","data":{"text":"hello, world"},"status":"ok"}"#.len();
    assert_none("json with a schema", allocations(&mut client, &request, answer, ROUNDS));
}

/// A server whose application takes events only when told to.
struct Drained {
    server: Server,
    address: String,
    batch: EventBatch,
}

impl Drained {
    fn new(server: Server) -> Self {
        let address = server.address().to_owned();
        Self { server, address, batch: EventBatch::new() }
    }

    /// Takes the `open` event and lets it go, so that the inline handler is next.
    fn take_events(&mut self) {
        assert_eq!(self.server.events().next(&mut self.batch, None), Next::Events);
        let nothing = self.server.events().next(&mut self.batch, Some(std::time::Duration::ZERO));
        assert_eq!(nothing, Next::Nothing);
    }
}

/// Answered by the application's thread, through batches and commands.
fn application_thread() {
    let server = Server::start(options(r#", "protocol": "raw""#)).unwrap();
    let (address, handle) = (server.address().to_owned(), server.handle());
    let application = std::thread::spawn(move || {
        server.run(|event, server| {
            if let Event::Binary(conn, payload) = event {
                let _ = server.send_binary(conn, payload);
            }
        });
    });
    let mut client = connect(&address);
    let counted = allocations(&mut client, &frame(0x82, &[7; 64]), 66, ROUNDS);
    assert_none("through the application's thread", counted);
    drop(client);
    handle.drain(1000, 0);
    application.join().unwrap();
}

/// Both ways, on the shard's thread and through the application's.
fn compressed() {
    const RULES: &str = r#", "protocol": "raw", "compression": {"threshold_bytes": 100}"#;
    const OFFER: &str = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    let text = br#"{"id":17,"text":"so that there is something to compress"}"#.repeat(40);
    // A stored block, as a client may send it (RFC 1951 section 3.2.4).
    let len = text.len() as u16;
    let stored = [&[0][..], &len.to_le_bytes(), &(!len).to_le_bytes(), &text, &[0]].concat();
    let request = frame(0xc2, &stored);

    let mut server = Drained::new(Builder::new().inline(Echo).start(options(RULES)).unwrap());
    let mut client = connect_with(&server.address, OFFER);
    server.take_events();
    let answer = compressed_answer(&mut client, &request);
    assert_none("compressed", allocations(&mut client, &request, answer, ROUNDS));

    let server = Server::start(options(RULES)).unwrap();
    let (address, handle) = (server.address().to_owned(), server.handle());
    let application = std::thread::spawn(move || {
        server.run(|event, server| {
            if let Event::Binary(conn, payload) = event {
                let _ = server.send_binary(conn, payload);
            }
        });
    });
    let mut client = connect_with(&address, OFFER);
    let answer = compressed_answer(&mut client, &request);
    assert_none("compressed, by the application", allocations(&mut client, &request, answer, ROUNDS));
    drop(client);
    handle.drain(1000, 0);
    application.join().unwrap();
}

/// How long the answer to a request is, which comes compressed.
fn compressed_answer(client: &mut TcpStream, request: &[u8]) -> usize {
    client.write_all(request).unwrap();
    let mut header = [0; 4];
    client.read_exact(&mut header).unwrap();
    let (first, rest) = match header {
        [first, 126, high, low] => (first, usize::from(u16::from_be_bytes([high, low]))),
        [first, len, ..] => (first, usize::from(len) - 2),
    };
    assert_eq!(first, 0xc2);
    client.read_exact(&mut vec![0; rest]).unwrap();
    rest + header.len()
}

#[derive(Deserialize, Serialize)]
struct Say<'m> {
    text: &'m str,
}

/// Read as a type and answered as one, by the crate's root.
fn typed() {
    let server = wsguard::Server::start(options(r#", "events": {"say": {}}"#)).unwrap();
    let (address, handle) = (server.address().to_owned(), server.handle());
    let application = std::thread::spawn(move || {
        server.run(|event, server| {
            if let Event::Message(message) = event {
                server.reply(&message, "said", &message.data::<Say>()?)?;
                server.conn(message.conn).emit("said", &message.data)?;
            }
            Ok(())
        });
    });
    let mut client = connect(&address);
    let request = frame(0x81, br#"{"event":"say","data":{"text":"hello, world"}}"#);
    let answer = 2 * (2 + br#"{"event":"said","data":{"text":"hello, world"},"status":"ok"}"#.len());
    assert_none("typed", allocations(&mut client, &request, answer, ROUNDS));
    drop(client);
    handle.drain(wsguard::Drain { timeout_ms: 1000, ..wsguard::Drain::default() });
    application.join().unwrap();
}
