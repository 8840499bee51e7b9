#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]
//! What only a running server shows of `host`, by theme.

mod adopted;
mod banned;
mod consulted;
mod control;
mod ends;
mod fragments;
mod names;
mod piped;
mod reach;
mod read;
mod reloaded;
mod sent;
mod told;
mod twins;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use wsguard::binding::{Builder, ConnectionId, Event, EventBatch, Next, Options, Server, ServerHandle, To};

fn options(more: &str) -> Options {
    let json = format!(r#"{{"origins": ["https://a.example"], "auth": "none", "protocol": "raw" {more}}}"#);
    Options::from_json(&json).unwrap()
}

fn start(more: &str) -> Server {
    Builder::new().without_listener().start(options(more)).unwrap()
}

/// Both ends of a connection that some other server accepted.
fn accepted() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    (client, listener.accept().unwrap().0)
}

fn head(origin: &str) -> Vec<u8> {
    format!(
        "GET /chat HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nOrigin: {origin}\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    .into_bytes()
}

fn expect_101(client: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
}

/// A client's end of an open connection.
fn connect(server: &ServerHandle) -> TcpStream {
    connect_to("chat", server)
}

fn connect_to(path: &str, server: &ServerHandle) -> TcpStream {
    let (mut client, socket) = accepted();
    let head = String::from_utf8(head("https://a.example")).unwrap().replace("/chat", &format!("/{path}"));
    server.adopt(socket, head.into_bytes()).unwrap();
    expect_101(&mut client);
    client
}

/// A short text frame, masked with the key 0.
fn text(payload: &str) -> Vec<u8> {
    [&[0x81, 0x80 | u8::try_from(payload.len()).unwrap(), 0, 0, 0, 0], payload.as_bytes()].concat()
}

/// The next events, in words. Whether a send found bytes unsent is a matter of luck.
fn tell(server: &mut Server, count: usize) -> Vec<String> {
    let mut seen = Vec::new();
    let mut batch = EventBatch::new();
    while seen.len() < count {
        assert_eq!(server.events().next(&mut batch, Some(Duration::from_secs(10))), Next::Events);
        seen.extend(batch.iter().filter(|event| !matches!(event, Event::Drained(_))).map(|event| match event {
            Event::Open(open) => format!("open {} {}", open.ip.unwrap(), open.path),
            Event::Text(_, text) => text.to_owned(),
            Event::Close(close) => format!("close {} {}", close.code, close.reason),
            Event::Violation(violation) => format!("{} {:?}", violation.code, violation.event),
            other => format!("{other:?}"),
        }));
    }
    seen
}

/// The id of the connection that opens next.
fn opened(server: &mut Server) -> ConnectionId {
    let mut batch = EventBatch::new();
    assert_eq!(server.events().next(&mut batch, Some(Duration::from_secs(10))), Next::Events);
    batch.get(0).unwrap().conn().unwrap()
}

/// What is read of a connection up to its end.
fn rest(mut client: TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    let _ = client.read_to_end(&mut all);
    all
}

/// The payload of the next short frame, and its first byte.
fn next_frame(client: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut head = [0; 2];
    client.read_exact(&mut head).unwrap();
    let mut payload = vec![0; usize::from(head[1])];
    client.read_exact(&mut payload).unwrap();
    (head[0], payload)
}
