#![expect(clippy::unwrap_used, clippy::panic, clippy::float_cmp, reason = "a test: its numbers are written exactly")]
//! What a running server tells of itself, over loopback: `/metrics`, `/healthz`, `/readyz`.

mod asked;
mod counted;
#[path = "../../proto/src/metrics/test_parser.rs"]
mod test_parser;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use wsguard::{Event, Next, Options, Server};

/// How long anything may take.
const TIMEOUT: Duration = Duration::from_secs(30);

fn options(more: &str) -> Options {
    let json = format!(
        r#"{{"listen": "127.0.0.1:0", "admin_listen": "127.0.0.1:0", "threads": 2, "protocol": "raw",
            "origins": ["https://a.example"] {more}}}"#
    );
    Options::from_json(&json).unwrap()
}

const TOKENS: &str = r#", "auth": {"tokens": [{"token": "good", "user": "alice"}]}"#;

/// The whole answer of the admin listener to a request.
fn asked(server: &Server, request: &str) -> String {
    let mut client = TcpStream::connect(server.admin_address().unwrap()).unwrap();
    client.set_read_timeout(Some(TIMEOUT)).unwrap();
    client.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    answer
}

/// The body of a page, which is there.
fn page(server: &Server, path: &str) -> String {
    let answer = asked(server, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    body.to_owned()
}

fn status(server: &Server, path: &str) -> u16 {
    asked(server, &format!("GET {path} HTTP/1.0\r\n\r\n"))[9..12].parse().unwrap()
}

/// A number of a text.
fn number(text: &str, sample: &str) -> f64 {
    let families = test_parser::parse(text).unwrap();
    let mut samples = families.values().flat_map(|family| &family.samples);
    samples.find(|(name, _)| name == sample).unwrap_or_else(|| panic!("no {sample} in {text}")).1
}

/// An opening handshake with this token.
fn request(token: &str) -> String {
    format!(
        "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nOrigin: https://a.example\r\n\
         X-Auth-Token: {token}\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
}

/// A peer that has sent its opening handshake with this token, and the status of the answer.
fn hello(server: &Server, token: &str) -> (TcpStream, u16) {
    let mut client = TcpStream::connect(server.address()).unwrap();
    client.set_read_timeout(Some(TIMEOUT)).unwrap();
    client.write_all(request(token).as_bytes()).unwrap();
    (client.try_clone().unwrap(), answered(&mut client))
}

/// The status of the answer to an opening handshake.
fn answered(client: &mut TcpStream) -> u16 {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()[9..12].parse().unwrap()
}

/// Sends a short text message.
fn say(client: &mut TcpStream, text: &str) {
    client.write_all(&[&[0x81, 0x80 | text.len() as u8, 0, 0, 0, 0], text.as_bytes()].concat()).unwrap();
}

/// The payload of the next frame, which is short.
fn hear(client: &mut TcpStream) -> String {
    let mut head = [0; 2];
    client.read_exact(&mut head).unwrap();
    let mut payload = vec![0; usize::from(head[1])];
    client.read_exact(&mut payload).unwrap();
    String::from_utf8_lossy(&payload).into_owned()
}

/// Takes events until `wanted` has come.
fn until(server: &mut Server, mut wanted: impl FnMut(&Event<'_>) -> bool) {
    loop {
        match server.next(Some(TIMEOUT)) {
            Next::Event(event) if wanted(&event) => return,
            Next::Event(_) => {}
            other => panic!("{other:?}"),
        }
    }
}
