#![expect(clippy::unwrap_used, reason = "a test")]
//! Connections that another server has accepted: the same verdicts, and nothing lost of what it had read.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use wsguard::{Builder, Event, EventBatch, Next, Options, Server};

fn start(more: &str) -> Server {
    let json = format!(r#"{{"origins": ["https://a.example"], "auth": "none", "protocol": "raw" {more}}}"#);
    Builder::new().without_listener().start(Options::from_json(&json).unwrap()).unwrap()
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

#[test]
fn an_adopted_connection_opens_and_its_early_message_arrives() {
    let mut server = start("");
    assert_eq!(server.address(), "");
    let (mut client, socket) = accepted();
    let mut received = head("https://a.example");
    // A masked text frame "hi" with the key 0, already read behind the head.
    received.extend_from_slice(&[0x81, 0x82, 0, 0, 0, 0, b'h', b'i']);
    server.handle().adopt(socket, received).unwrap();
    let mut answer = [0; 12];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 101");
    let mut seen = Vec::new();
    let mut batch = EventBatch::new();
    while seen.len() < 2 {
        assert_eq!(server.events().next(&mut batch, Some(Duration::from_secs(10))), Next::Events);
        seen.extend(batch.iter().map(|event| match event {
            Event::Open(open) => format!("open {} {}", open.ip.unwrap(), open.path),
            Event::Text(_, text) => text.to_owned(),
            other => format!("{other:?}"),
        }));
    }
    assert_eq!(seen, ["open 127.0.0.1 /chat", "hi"]);
}

#[test]
fn a_foreign_origin_is_refused_on_the_connection() {
    let server = start("");
    let (mut client, socket) = accepted();
    server.handle().adopt(socket, head("https://evil.example")).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
}

#[test]
fn a_head_that_was_cut_is_read_on() {
    let server = start("");
    let (mut client, socket) = accepted();
    let head = head("https://a.example");
    server.handle().adopt(socket, head[..40].to_vec()).unwrap();
    client.write_all(&head[40..]).unwrap();
    let mut answer = [0; 12];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 101");
}

#[test]
fn a_policy_that_cannot_be_kept_on_it_is_an_error() {
    let server = start(r#", "proxy_protocol": true, "trusted_proxies": ["127.0.0.1"]"#);
    let error = server.handle().adopt(accepted().1, head("https://a.example")).unwrap_err();
    assert_eq!(error.code(), "invalid_argument");
    assert!(error.to_string().contains("proxy_protocol"), "{error}");
}
