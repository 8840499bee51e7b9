#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]
//! The crate's root against real peers: what a Rust application writes, and what it is told.

mod awaited;
mod faces;
mod reached;
mod spoken;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use wsguard::options::{Auth, EventOptions, Protocol};
use wsguard::{ConnectionId, Event, Next, Options, Server};

/// How long anything may take.
const TIMEOUT: Duration = Duration::from_secs(20);

fn options(auth: Auth) -> Options {
    let mut options = Options::new(["https://a.example"], auth);
    options.listen = "127.0.0.1:0".into();
    options.threads = 1;
    options.events.insert("say".into(), EventOptions::default());
    options
}

fn raw() -> Options {
    Options { protocol: Protocol::Raw, events: BTreeMap::new(), ..options(Auth::None) }
}

/// A peer that has sent its opening handshake.
fn hello(address: &str) -> TcpStream {
    let mut client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(TIMEOUT)).unwrap();
    client
        .write_all(
            b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nOrigin: https://a.example\r\n\
              Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        )
        .unwrap();
    client
}

/// The status of the answer to an opening handshake.
fn status(client: &mut TcpStream) -> u16 {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()[9..12].parse().unwrap()
}

/// A peer of an open connection, and the connection's id.
fn connect(server: &mut Server) -> (TcpStream, ConnectionId) {
    let mut client = hello(server.address());
    assert_eq!(status(&mut client), 101);
    loop {
        match server.next(Some(TIMEOUT)) {
            Next::Event(Event::Open(open)) => return (client, open.conn),
            Next::Event(_) => {}
            other => panic!("{other:?}"),
        }
    }
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
    match head[0] {
        0x88 => format!("close {}", u16::from_be_bytes([payload[0], payload[1]])),
        0x82 => format!("{payload:?}"),
        _ => String::from_utf8(payload).unwrap(),
    }
}
