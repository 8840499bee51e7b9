#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]
//! What only a running server shows of `host`: refusals that arrive whole, connections that another server accepted,
//! pausing one connection, events that nobody listens to, the application's own validation, what is counted and given back,
//! and every way to end.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use wsguard::{
    Accept, Builder, ConnectionId, Decision, Event, EventBatch, Handled, Inline, InlineMessage, Next, Options, Replies,
    Server, ServerHandle, Wake,
};

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
fn opened(server: &mut Server) -> ConnectionId {
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

/// Whoever is paused is excused for its silence, but not for taking nothing of what it asked for: it would hold what its messages
/// take of the inbox for ever.
#[test]
fn a_paused_peer_that_takes_nothing_is_gone() {
    let mut server = start(
        r#", "ping_interval_ms": 100, "idle_timeout_ms": 1100, "max_outbox_bytes": 67108864, "close_timeout_ms": 50"#,
    );
    let handle = server.handle();
    let _reads_nothing = connect(&handle);
    let conn = opened(&mut server);
    handle.pause(conn).unwrap();
    // More than the buffers of both sockets hold.
    handle.send_binary(conn, &vec![0; 32 << 20]).unwrap();
    assert_eq!(tell(&mut server, 2), ["idle_timeout None", "close 1011 idle timeout"]);
}

#[test]
fn a_violation_says_what_was_wrong() {
    let mut server = start(r#", "max_message_bytes": 4"#);
    let mut client = connect(&server.handle());
    client.write_all(&text("12345")).unwrap();
    let mut batch = EventBatch::new();
    let detail = loop {
        assert_eq!(server.events().next(&mut batch, Some(Duration::from_secs(10))), Next::Events);
        let told = batch.iter().find_map(|event| match event {
            Event::Violation(violation) => Some(violation.detail.to_string()),
            _ => None,
        });
        if let Some(detail) = told {
            break detail;
        }
    };
    assert_eq!(detail, "a message of 5 bytes at least is over max_message_bytes (4)");
}

#[test]
fn the_application_knows_when_a_session_ends() {
    let json = r#"{"origins": ["https://a.example"], "auth": "callback"}"#;
    let mut server = Builder::new().without_listener().start(Options::from_json(json).unwrap()).unwrap();
    let handle = server.handle();
    let (mut client, socket) = accepted();
    handle.adopt(socket, head("https://a.example")).unwrap();
    let mut batch = EventBatch::new();
    assert_eq!(server.events().next(&mut batch, Some(Duration::from_secs(10))), Next::Events);
    let Some(Event::Upgrade(upgrade)) = batch.get(0) else { panic!("no upgrade") };
    let end = 4_000_000_000_000;
    let accept = Accept { user: Some("alice".into()), expires_at_ms: Some(end) };
    handle.answer(upgrade.ticket, Decision::Accept(accept)).unwrap();
    expect_101(&mut client);
    assert_eq!(server.events().next(&mut batch, Some(Duration::from_secs(10))), Next::Events);
    assert!(matches!(batch.get(0), Some(Event::Open(open)) if open.expires_at_ms == Some(end)));
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

#[test]
fn what_is_held_of_the_inbox_is_given_back() {
    let mut server = start("");
    let handle = server.handle();
    let held = handle.hold_inbox(1000);
    let elsewhere = std::thread::spawn(move || drop(held));
    elsewhere.join().unwrap();
    assert_eq!(handle.stats().inbox_bytes, 0);
    handle.release_inbox(1000);
    assert_eq!(handle.stats().inbox_bytes, 0, "more is never given back than was kept");
    // A batch that is dropped and never handed in again.
    let _client = connect(&handle);
    opened(&mut server);
    assert_eq!(handle.stats().inbox_bytes, 0);
}

#[test]
fn what_can_never_be_sent_is_an_error_and_nothing_of_it_is_sent() {
    let mut server = start(r#", "max_outbox_bytes": 100000"#);
    let handle = server.handle();
    let mut client = connect(&handle);
    let conn = opened(&mut server);
    let large = "x".repeat(100_001);
    for refused in [
        handle.send_text(conn, &large).map(drop),
        handle.send_binary(conn, &large.as_bytes()[..99_999]).map(drop),
        handle.emit(conn, &large, "1").map(drop),
        handle.broadcast_text(None, &large, None),
        handle.broadcast(None, "e", &large, None),
    ] {
        let error = refused.unwrap_err();
        assert_eq!(error.code(), "invalid_argument");
        assert!(error.to_string().contains("max_outbox_bytes"), "{error}");
    }
    handle.send_text(conn, "small").unwrap();
    let mut frame = [0; 7];
    client.read_exact(&mut frame).unwrap();
    assert_eq!(&frame[2..], b"small");
}

#[test]
fn a_room_too_many_is_an_error_and_every_room_that_was_not_is_joined() {
    let mut server = start(r#", "threads": 1"#);
    let handle = server.handle();
    let mut client = connect(&handle);
    let conn = opened(&mut server);
    let joined = (0..1100).filter(|room| handle.join(conn, &format!("r{room}")).is_ok()).count();
    assert_eq!(joined, 1024);
    handle.broadcast_text(Some("r1023"), "last", None).unwrap();
    let mut frame = [0; 6];
    client.read_exact(&mut frame).unwrap();
    assert_eq!(&frame[2..], b"last");
    let stats = handle.stats();
    assert_eq!((stats.rooms, stats.room_memberships), (1024, 1024));
    // What was left has room for another, and a room that it is in takes none.
    handle.leave(conn, "r7").unwrap();
    handle.send_text(conn, "left").unwrap();
    client.read_exact(&mut frame).unwrap();
    handle.join(conn, "r1").unwrap();
    handle.send_text(conn, "none").unwrap();
    client.read_exact(&mut frame).unwrap();
    handle.join(conn, "r7").unwrap();
    assert_eq!(handle.join(conn, "r7").unwrap_err().code(), "invalid_argument");
    drop(client);
    assert!(tell(&mut server, 1)[0].starts_with("close 1006"));
    let stats = handle.stats();
    assert_eq!((stats.open, stats.rooms, stats.room_memberships), (0, 0, 0));
}

#[test]
fn an_id_of_one_server_is_nobody_in_another() {
    let (mut first, mut second) = (start(""), start(""));
    let (one, two) = (first.handle(), second.handle());
    let (_a, _b) = (connect(&one), connect(&two));
    let (of_first, of_second) = (opened(&mut first), opened(&mut second));
    assert!(one.is_open(of_first) && two.is_open(of_second));
    assert!(!one.is_open(of_second) && !two.is_open(of_first));
    assert_eq!(two.send_text(of_first, "secret").unwrap_err().code(), "connection_closed");
    drop(first);
    let mut third = start("");
    let _c = connect(&third.handle());
    opened(&mut third);
    assert!(!third.handle().is_open(of_first));
}

/// What is read of a connection up to its end.
fn rest(mut client: TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    let _ = client.read_to_end(&mut all);
    all
}

#[test]
fn what_was_said_before_the_end_arrives_before_it() {
    for end in [ServerHandle::stop, |handle: &ServerHandle| handle.drain(5000, 0)] {
        let mut server = start("");
        let handle = server.handle();
        let client = connect(&handle);
        let conn = opened(&mut server);
        let cork = handle.cork();
        handle.send_text(conn, "bye").unwrap();
        end(&handle);
        drop(cork);
        assert!(rest(client).starts_with(&[0x81, 3, b'b', b'y', b'e', 0x88]));
    }
}

/// Takes events until the server has stopped.
fn run_out(server: &mut Server) {
    let mut batch = EventBatch::new();
    loop {
        match server.events().next(&mut batch, Some(Duration::from_secs(20))) {
            Next::Events => {}
            Next::Stopped => return,
            Next::Nothing => panic!("the server does not end"),
        }
    }
}

#[test]
fn every_drain_ends() {
    const MAX: u64 = u64::MAX;
    let drains: [&[(u64, u64)]; 6] = [
        &[(MAX, MAX)],
        &[(MAX, 0)],
        &[(0, 0)],
        &[(0, MAX)],
        &[(MAX, MAX), (MAX, MAX)],
        &[(3_600_000, 3_600_000), (1, MAX - 1)],
    ];
    for (number, drains) in drains.into_iter().enumerate() {
        let mut server = start("");
        let handle = server.handle();
        let clients = (0..4).map(|_| connect(&handle)).collect::<Vec<_>>();
        let threads = drains.iter().map(|&(timeout, jitter)| {
            let handle = handle.clone();
            std::thread::spawn(move || handle.drain(timeout, jitter))
        });
        // In this order only where it matters.
        threads.for_each(|thread| thread.join().unwrap());
        if number % 2 == 1 {
            handle.drain(0, 0);
            handle.stop();
            handle.drain(MAX, MAX);
        }
        run_out(&mut server);
        for client in clients {
            let said = rest(client);
            assert!(said.is_empty() || said.starts_with(&[0x88]), "{said:?}");
        }
        let stats = handle.stats();
        assert_eq!((stats.connections, stats.open, stats.inbox_bytes), (0, 0, 0));
        assert_eq!(handle.broadcast_text(None, "x", None).unwrap_err().code(), "stopped");
    }
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
    let mut server = start(r#", "max_outbox_bytes": 16777216"#);
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

/// An inline handler that keeps its shard busy with a message `block` until it is told to go on.
struct Gate {
    entered: mpsc::Sender<()>,
    leave: Mutex<mpsc::Receiver<()>>,
}

impl Inline for Gate {
    fn message(&self, _: ConnectionId, message: InlineMessage<'_>, _: &mut Replies<'_>) -> Handled {
        if !matches!(message, InlineMessage::Text("block")) {
            return Handled::Pass;
        }
        self.entered.send(()).unwrap();
        self.leave.lock().unwrap().recv_timeout(Duration::from_secs(20)).unwrap();
        Handled::Done
    }
}

/// The payload of the next short frame, and its first byte.
fn next_frame(client: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut head = [0; 2];
    client.read_exact(&mut head).unwrap();
    let mut payload = vec![0; usize::from(head[1])];
    client.read_exact(&mut payload).unwrap();
    (head[0], payload)
}

#[test]
fn a_pong_that_waited_goes_to_nobody_else() {
    const PIECE: usize = 64 * 1024;
    const LAST: usize = 300 * 1024;
    let (entered, has_entered) = mpsc::channel();
    let (leave, left) = mpsc::channel();
    let gate = Gate { entered, leave: Mutex::new(left) };
    let builder = Builder::new().without_listener().inline(gate);
    let more = r#", "threads": 1, "max_outbox_bytes": 16777216, "control_rate_limit": null"#;
    let mut server = builder.start(options(more)).unwrap();
    let handle = server.handle();
    let (mut slow, mut other, mut blocker) = (connect(&handle), connect(&handle), connect(&handle));
    let mut opens = Vec::new();
    let mut batch = EventBatch::new();
    while opens.len() < 3 {
        assert_eq!(server.events().next(&mut batch, Some(Duration::from_secs(10))), Next::Events);
        opens.extend(batch.iter().filter_map(|event| event.conn()));
    }
    drop(batch);
    let (slow_id, other_id) = (opens[0], opens[1]);
    // The reader is slow: what it does not read fills the kernel's buffers, and then a little waits in the outbox.
    let mut sent = 0;
    loop {
        handle.send_text(other_id, "x").unwrap();
        assert_eq!(next_frame(&mut other), (0x81, b"x".to_vec()));
        if handle.stats().outbox_bytes > 0 {
            break;
        }
        handle.send_binary(slow_id, &vec![1; PIECE]).unwrap();
        sent += PIECE + 10;
    }
    let in_kernel = sent - handle.stats().outbox_bytes as usize;
    slow.write_all(&[0x89, 0x84, 0, 0, 0, 0, b'm', b'i', b'n', b'e']).unwrap();
    slow.write_all(&text("seen")).unwrap();
    assert_eq!(tell(&mut server, 1), ["seen"]);
    // While the shard is busy the reader reads, and the application speaks: both are there when the shard goes on.
    blocker.write_all(&text("block")).unwrap();
    has_entered.recv_timeout(Duration::from_secs(10)).unwrap();
    slow.read_exact(&mut vec![0; in_kernel]).unwrap();
    let cork = handle.cork();
    handle.send_text(other_id, "a").unwrap();
    handle.send_binary(slow_id, &vec![1; LAST]).unwrap();
    drop(cork);
    leave.send(()).unwrap();
    slow.read_exact(&mut vec![0; sent - in_kernel + LAST + 10]).unwrap();
    handle.send_text(other_id, "b").unwrap();
    assert_eq!(next_frame(&mut other), (0x81, b"a".to_vec()));
    assert_eq!(next_frame(&mut other), (0x81, b"b".to_vec()));
    assert_eq!(next_frame(&mut slow), (0x8a, b"mine".to_vec()));
}

#[test]
fn opens_that_the_application_does_not_take_are_bounded() {
    let more = r#", "threads": 1, "max_inbox_bytes": 100000, "handshakes_per_ip": null"#;
    let mut server = start(more);
    let handle = server.handle();
    let path = "p".repeat(8000);
    let head = String::from_utf8(head("https://a.example")).unwrap().replace("/chat", &format!("/{path}"));
    let ask = || {
        let (mut client, socket) = accepted();
        handle.adopt(socket, head.clone().into_bytes()).unwrap();
        let mut status = [0; 12];
        client.read_exact(&mut status).unwrap();
        String::from_utf8(status.to_vec()).unwrap()
    };
    let answers = (0..60).map(|_| ask()).collect::<Vec<_>>();
    assert_eq!(answers[0], "HTTP/1.1 101");
    assert_eq!(answers[59], "HTTP/1.1 503");
    let inbox_bytes = handle.stats().inbox_bytes;
    assert!(inbox_bytes < 150_000, "{inbox_bytes}");
    // Once they are taken there is room again.
    let mut batch = EventBatch::new();
    while server.events().next(&mut batch, Some(Duration::ZERO)) == Next::Events {}
    assert_eq!(ask(), "HTTP/1.1 101");
}

#[test]
fn a_drain_does_not_wait_for_an_application_that_never_stops_speaking() {
    let mut server = start(r#", "threads": 1"#);
    let handle = server.handle();
    let client = connect(&handle);
    opened(&mut server);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let _ = handle.broadcast_text(Some("nobody"), "x", None);
                }
            });
        }
        handle.drain(u64::MAX, 0);
        let mut batch = EventBatch::new();
        let next = server.events().next(&mut batch, Some(Duration::from_secs(5)));
        is_over.store(true, Ordering::Relaxed);
        assert_eq!(next, Next::Events);
        assert!(batch.iter().any(|event| matches!(event, Event::Violation(_) | Event::Close(_))));
    });
    assert!(rest(client).starts_with(&[0x88]));
}

#[test]
fn a_server_that_ends_with_its_thread_stops_cleanly() {
    thread_local! {
        static SERVER: RefCell<Option<Server>> = const { RefCell::new(None) };
    }
    let handle = std::thread::spawn(|| {
        SERVER.set(Some(start("")));
        SERVER.with_borrow(|server| {
            let handle = server.as_ref().unwrap().handle();
            handle.broadcast_text(None, "x", None).unwrap();
            handle
        })
    });
    let handle = handle.join().unwrap();
    assert_eq!(handle.broadcast_text(None, "x", None).unwrap_err().code(), "stopped");
}

#[test]
fn what_a_fast_reader_could_have_taken_does_not_make_it_slow() {
    let mut server = start(r#", "threads": 1, "max_outbox_bytes": 100000"#);
    let handle = server.handle();
    let mut client = connect(&handle);
    let conn = opened(&mut server);
    let large = "x".repeat(60_000);
    let cork = handle.cork();
    handle.broadcast_text(None, "first", None).unwrap();
    handle.broadcast_text(None, &large, None).unwrap();
    handle.broadcast_text(None, &large, None).unwrap();
    handle.send_text(conn, &large).unwrap();
    handle.send_text(conn, &large).unwrap();
    handle.send_text(conn, "last").unwrap();
    drop(cork);
    let mut all = vec![0; 7 + 4 * 60_004];
    client.read_exact(&mut all).unwrap();
    assert_eq!(next_frame(&mut client), (0x81, b"last".to_vec()));
}

#[test]
fn the_goodbye_of_a_connection_that_was_not_read_is_read() {
    let mut server = start(r#", "threads": 1, "close_timeout_ms": 60000"#);
    let handle = server.handle();
    let mut client = connect(&handle);
    let conn = opened(&mut server);
    handle.pause(conn).unwrap();
    handle.send_text(conn, "paused").unwrap();
    assert_eq!(next_frame(&mut client), (0x81, b"paused".to_vec()));
    client.write_all(&text("unread")).unwrap();
    // Two rounds, in one of which the shard has looked at what came.
    for round in ["1", "2"] {
        handle.send_text(conn, round).unwrap();
        assert_eq!(next_frame(&mut client), (0x81, round.as_bytes().to_vec()));
    }
    handle.close(conn, 4000, "").unwrap();
    assert_eq!(next_frame(&mut client), (0x88, vec![0x0f, 0xa0]));
    client.write_all(&[0x88, 0x82, 0, 0, 0, 0, 0x0f, 0xa0]).unwrap();
    assert_eq!(tell(&mut server, 1), ["close 4000 "]);
    assert!(rest(client).is_empty());
}

#[test]
fn a_handshake_that_waits_at_the_end_is_refused() {
    for end in [ServerHandle::stop, |handle: &ServerHandle| handle.drain(5000, 0)] {
        let json = r#"{"origins": ["https://a.example"], "auth": "callback", "threads": 2}"#;
        let builder = Builder::new().without_listener();
        let mut server = builder.start(Options::from_json(json).unwrap()).unwrap();
        let handle = server.handle();
        let (client, socket) = accepted();
        handle.adopt(socket, head("https://a.example")).unwrap();
        let mut batch = EventBatch::new();
        assert_eq!(server.events().next(&mut batch, Some(Duration::from_secs(10))), Next::Events);
        assert!(matches!(batch.get(0), Some(Event::Upgrade(_))));
        end(&handle);
        let answer = String::from_utf8(rest(client)).unwrap();
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("draining"), "{answer:?}");
    }
}
