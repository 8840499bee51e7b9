#![expect(clippy::unwrap_used, reason = "a test")]
//! What only a running server shows of `host`: refusals that arrive whole, connections that another server accepted,
//! pausing one connection, events that nobody listens to, and the application's own validation.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use wsguard::{Builder, Event, EventBatch, Next, Options, Server, ServerHandle, Wake};

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
    let (mut client, socket) = accepted();
    server.adopt(socket, head("https://a.example")).unwrap();
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
fn opened(server: &mut Server) -> wsguard::ConnectionId {
    let mut batch = EventBatch::new();
    assert_eq!(server.events().next(&mut batch, Some(Duration::from_secs(10))), Next::Events);
    batch.get(0).unwrap().conn().unwrap()
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
    expect_101(&mut client);
    assert_eq!(tell(&mut server, 2), ["open 127.0.0.1 /chat", "hi"]);
}

/// All that a server says to whoever sends these pieces, up to the end of the connection.
fn answer_to(server: &Server, pieces: &[&[u8]]) -> String {
    let mut client = TcpStream::connect(server.address()).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    for piece in pieces {
        client.write_all(piece).unwrap();
    }
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_refusal_arrives_whole_whatever_else_was_sent() {
    let server = Builder::new().start(options(r#", "listen": "127.0.0.1:0", "threads": 1"#)).unwrap();
    let refused = head("https://evil.example");
    let body = vec![b'x'; 100_000];
    let early = [&refused[..], &body].concat();
    let post = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n";
    for (pieces, status) in [
        (&[&refused[..]][..], "403 "),
        (&[&refused[..40], &refused[40..]], "403 "),
        (&[&early], "403 "),
        (&[post, &body], "405 "),
        (&[b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"], "200 "),
    ] {
        let answer = answer_to(&server, pieces);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{answer}");
    }
}

#[test]
fn a_refusal_ends_a_connection_that_another_server_still_holds() {
    let server = start("");
    let (mut client, socket) = accepted();
    let _still_held = socket.try_clone().unwrap();
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
    expect_101(&mut client);
}

#[test]
fn a_policy_that_cannot_be_kept_on_it_is_an_error() {
    let server = start(r#", "proxy_protocol": true, "trusted_proxies": ["127.0.0.1"]"#);
    let error = server.handle().adopt(accepted().1, head("https://a.example")).unwrap_err();
    assert_eq!(error.code(), "invalid_argument");
    assert!(error.to_string().contains("proxy_protocol"), "{error}");
}

#[test]
fn a_paused_connection_is_not_read_until_it_is_resumed() {
    let mut server = start(r#", "threads": 1"#);
    let handle = server.handle();
    let mut client = connect(&handle);
    let conn = opened(&mut server);
    handle.pause(conn).unwrap();
    handle.send_text(conn, "paused").unwrap();
    let mut frame = [0; 8];
    client.read_exact(&mut frame).unwrap();
    assert_eq!(&frame[2..], b"paused");
    client.write_all(&text("one")).unwrap();
    // Others are read: their message comes, the first one's does not.
    let mut other = connect(&handle);
    other.write_all(&text("two")).unwrap();
    assert_eq!(tell(&mut server, 2), ["open 127.0.0.1 /chat", "two"]);
    handle.resume(conn).unwrap();
    assert_eq!(tell(&mut server, 1), ["one"]);
}

#[test]
fn the_applications_own_validation_closes_with_schema_mismatch() {
    let mut server = start("");
    let handle = server.handle();
    let _client = connect(&handle);
    let conn = opened(&mut server);
    handle.refuse(conn, "say").unwrap();
    assert_eq!(tell(&mut server, 2), ["schema_mismatch Some(\"say\")", "close 1008 schema mismatch"]);
    assert_eq!(handle.stats().verdicts.iter().sum::<u64>(), 1);
}

#[test]
fn kept_messages_count_towards_the_inbox() {
    let server = start("");
    let handle = server.handle();
    handle.keep_inbox(1000);
    assert_eq!(handle.stats().inbox_bytes, 1000);
    handle.release_inbox(1000);
    assert_eq!(handle.stats().inbox_bytes, 0);
}

struct Bell(mpsc::Sender<()>);

impl Wake for Bell {
    fn wake(&self) {
        let _ = self.0.send(());
    }
}

#[test]
fn an_application_that_listens_to_ends_alone_is_woken_for_the_end_alone() {
    let (rings, rung) = mpsc::channel();
    let builder = Builder::new().without_listener().wake(Bell(rings));
    let mut server = builder.start(options(r#", "threads": 1"#)).unwrap();
    let handle = server.handle();
    handle.heed(false, true, false);
    assert_eq!(server.events().next(&mut EventBatch::new(), Some(Duration::ZERO)), Next::Nothing);
    let mut client = connect(&handle);
    client.write_all(&[0x81, 0]).unwrap(); // an unmasked frame
    rung.recv_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!(tell(&mut server, 2), ["open 127.0.0.1 /chat", "close 1002 bad frame"]);
}

#[test]
fn events_that_nobody_listens_to_come_without_one_that_somebody_does() {
    let mut server = start("");
    let handle = server.handle();
    handle.heed(false, false, false);
    let mut client = connect(&handle);
    // An unmasked frame.
    client.write_all(&[0x81, 0]).unwrap();
    assert_eq!(tell(&mut server, 2), ["open 127.0.0.1 /chat", "close 1002 bad frame"]);
    assert_eq!(handle.stats().verdict(wsguard::Code::BadFrame), 1);
}

#[test]
fn large_answers_arrive_whole_and_in_order() {
    let mut server = start("");
    let handle = server.handle();
    let mut client = connect(&handle);
    let conn = opened(&mut server);
    let large: Vec<u8> = (0..4 << 20).map(|n: u32| (n / 251) as u8).collect();
    let cork = handle.cork();
    let mut expected = Vec::new();
    for (number, len) in [10, 4 << 20, 100, 20_000, 8_192, 1].into_iter().enumerate() {
        handle.send_text(conn, &number.to_string()).unwrap();
        handle.send_binary(conn, &large[..len]).unwrap();
        expected.extend([0x81, 1, b'0' + number as u8, 0x82]);
        match len {
            0..126 => expected.push(len as u8),
            126..65_536 => expected.extend([&[126][..], &(len as u16).to_be_bytes()].concat()),
            _ => expected.extend([&[127][..], &(len as u64).to_be_bytes()].concat()),
        }
        expected.extend(&large[..len]);
    }
    drop(cork);
    let mut received = vec![0; expected.len()];
    client.read_exact(&mut received).unwrap();
    assert!(received == expected);
}
