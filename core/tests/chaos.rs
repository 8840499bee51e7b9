#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]
//! Everything at once over real sockets: peers that do what they like, an application whose threads do what they like and
//! whose handler panics. Afterwards everything that was taken is given back, every id is stale, and the server has ended.
//! In plain text, over TLS, and behind a proxy that sends PROXY headers; all three at the same time.
//!
//! `WSGUARD_CHAOS_SECONDS` says how long (3), `WSGUARD_CHAOS_SEED` which (random; it is printed).

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Once, mpsc};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use wsguard::binding::{
    Accept, Adoption, Builder, ConnectionId, Decision, Event, Handled, Inline, InlineMessage, KeptInbox, Open, Options,
    Pipe, Reject, Replies, ServerHandle, TicketId, To, Upgrade, Whom,
};
use wsguard_test_support::dice::Dice;

const OPTIONS: &str = r#"{
    "listen": "127.0.0.1:0", "threads": 3, "origins": ["https://a.example"], "auth": "callback", "events": {
        "echo": {"schema": {"type": "object", "properties": {"n": {"type": "integer"}}}, "on_mismatch": "reply"},
        "dear": {"cost": 30}, "any": {}},
    "keep_headers": ["x-told"], "keep_cookies": ["theme"], "subprotocols": ["chat"],
    "rate_limit": {"per_second": 200, "burst": 60, "queue": 20, "bytes_per_second": 400000, "key": "user"},
    "handshakes_per_ip": null, "max_connections_per_ip": 60, "max_connections_per_user": 12, "max_pending_auth": 12,
    "max_inbox_bytes": 300000, "max_outbox_bytes": 60000, "max_message_bytes": 40000, "max_fragments": 20,
    "auth_timeout_ms": 300, "handshake_timeout_ms": 500, "message_timeout_ms": 400, "close_timeout_ms": 150,
    "ping_interval_ms": 100, "idle_timeout_ms": 1200 MORE}"#;

/// How peers reach the server.
#[derive(Clone)]
enum Road {
    Plain,
    /// By TLS 1.2 or 1.3.
    Tls([Arc<ClientConfig>; 2]),
    /// Through a proxy that tells who they are.
    Proxied,
}

impl Road {
    /// A road by TLS, with the options of its server.
    fn tls() -> (Self, String) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let mut roots = RootCertStore::empty();
        roots.add(rustls::pki_types::CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()).unwrap();
        let configs = [&rustls::version::TLS12, &rustls::version::TLS13].map(|version| {
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
            Arc::new(builder.with_root_certificates(roots.clone()).with_no_client_auth())
        });
        (Road::Tls(configs), format!(r#", "tls": {{"cert": {cert:?}, "key": {key:?}}}"#))
    }

    fn connect(&self, address: &str, dice: &mut Dice) -> std::io::Result<Line> {
        let mut tcp = TcpStream::connect(address)?;
        tcp.set_read_timeout(Some(Duration::from_secs(2)))?;
        tcp.set_write_timeout(Some(Duration::from_millis(50)))?;
        let mut tls = None;
        match self {
            Road::Plain => {}
            Road::Proxied => tcp.write_all(&proxy_header(dice))?,
            // Whoever takes it for a server of plain text.
            Road::Tls(_) if dice.one_in(15) => {}
            Road::Tls(configs) => {
                let config = Arc::clone(dice.pick(configs));
                let mut client = ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap();
                if dice.one_in(15) {
                    let mut hello = Vec::new();
                    client.write_tls(&mut hello)?;
                    tcp.write_all(&hello[..dice.roll(hello.len() as u64) as usize])?;
                } else if !dice.one_in(15) {
                    client.complete_io(&mut tcp)?;
                }
                tls = Some(Box::new(client));
            }
        }
        tcp.set_read_timeout(Some(Duration::from_millis(20)))?;
        Ok(Line { tcp, tls })
    }
}

/// What a proxy says of its client, legal more often than not.
fn proxy_header(dice: &mut Dice) -> Vec<u8> {
    let client = [203, 0, 113, dice.roll(5) as u8];
    let version_2 = |command: u8, family: u8, rest: &[u8]| {
        [b"\r\n\r\n\0\r\nQUIT\n", &[0x20 | command, family, 0, rest.len() as u8][..], rest].concat()
    };
    let header = match dice.roll(12) {
        0 => b"PROXY UNKNOWN\r\n".to_vec(),
        1 => b"PROXY TCP4 203.0.113.1 127.0.0.1 1\r\n".to_vec(),
        2 => version_2(0, 0, b""),
        3..6 => version_2(1, 0x11, &[&client[..], &[127, 0, 0, 1], &[0, 1, 0, 2]].concat()),
        _ => format!("PROXY TCP4 203.0.113.{} 127.0.0.1 1 2\r\n", client[3]).into_bytes(),
    };
    let len = if dice.one_in(15) { dice.roll(header.len() as u64) as usize } else { header.len() };
    header[..len].to_vec()
}

/// A peer's end of a connection.
struct Line {
    tcp: TcpStream,
    tls: Option<Box<ClientConnection>>,
}

impl Read for Line {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match &mut self.tls {
            None => self.tcp.read(buffer),
            Some(tls) => rustls::Stream::new(&mut **tls, &mut self.tcp).read(buffer),
        }
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match &mut self.tls {
            None => self.tcp.write(bytes),
            Some(tls) => rustls::Stream::new(&mut **tls, &mut self.tcp).write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match &mut self.tls {
            None => Ok(()),
            Some(tls) => rustls::Stream::new(&mut **tls, &mut self.tcp).flush(),
        }
    }
}

impl Line {
    /// Ends this side, with TLS's own goodbye or without.
    fn end_writing(&mut self, dice: &mut Dice) -> std::io::Result<()> {
        if let Some(tls) = self.tls.as_mut().filter(|_| dice.one_in(2)) {
            tls.send_close_notify();
            tls.write_tls(&mut self.tcp)?;
        }
        self.tcp.shutdown(Shutdown::Write)
    }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

// ---- peers

fn frame(first: u8, payload: &[u8], is_masked: bool) -> Vec<u8> {
    let mask = if is_masked { 0x80 } else { 0 };
    let mut out = vec![first];
    match payload.len() {
        len @ 0..126 => out.push(mask | len as u8),
        len @ 126..65_536 => out.extend([&[mask | 0x7e][..], &(len as u16).to_be_bytes()].concat()),
        len => out.extend([&[mask | 0x7f][..], &(len as u64).to_be_bytes()].concat()),
    }
    if is_masked {
        out.extend([0; 4]);
    }
    out.extend(payload);
    out
}

fn message(dice: &mut Dice) -> Vec<u8> {
    let pad = "x".repeat(*dice.pick(&[0, 10, 200, 5000, 30_000]));
    let text = match dice.roll(6) {
        0 => r#"{"event":"dear"}"#.to_owned(),
        1 => r#"{"event":"echo","data":{"n":1},"id":7}"#.to_owned(),
        _ => format!(r#"{{"event":"any","data":"{pad}"}}"#),
    };
    frame(0x81, text.as_bytes(), true)
}

/// One thing that a peer may send, legal more often than not.
fn bytes(dice: &mut Dice) -> Vec<u8> {
    match dice.roll(48) {
        24.. => message(dice),
        0..12 => frame(0x81, br#"{"event":"any"}"#, true),
        12 => (0..dice.roll(80)).flat_map(|_| message(dice)).collect(),
        13 => frame(0x89, b"ping", true),
        14 => frame(0x8a, b"pong", true),
        15 => (0..60).flat_map(|_| frame(0x89, b"flood", true)).collect(),
        16 => {
            let mut all = frame(0x01, br#"{"event":"#, true);
            (0..dice.roll(25)).for_each(|_| all.extend(frame(0x00, b"", true)));
            all.extend(frame(0x80, br#""any"}"#, true));
            all
        }
        17 => frame(0x88, &1000u16.to_be_bytes(), true),
        18 => frame(0x82, b"binary", true),
        19 => frame(0x81, br#"{"event":"none"}"#, true),
        20 => frame(0x81, br#"{"event":"echo","data":1}"#, true),
        21 => frame(0x81, b"unmasked", false),
        22 => vec![0x81, 0xff, 0, 0, 0, 0, 0, 0, 0x90, 0, 0, 0, 0, 0, b'{'],
        _ => {
            let count = dice.roll(40);
            dice.bytes(count)
        }
    }
}

fn request(dice: &mut Dice) -> Vec<u8> {
    let token = match dice.roll(20) {
        0 => "late".to_owned(),
        1 => "twice".to_owned(),
        2 => "hang".to_owned(),
        3 => "reject".to_owned(),
        4 => "boom".to_owned(),
        5 => "soon over".to_owned(),
        _ => format!("user-{}", dice.roll(4)),
    };
    let origin = if dice.one_in(15) { "https://b.example" } else { "https://a.example" };
    let offers = if dice.one_in(2) { "Sec-WebSocket-Protocol: chat, other\r\nCookie: theme=dark\r\n" } else { "" };
    format!(
        "GET /{} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nOrigin: {origin}\r\nX-Auth-Token: {token}\r\nX-Told: {token}\r\n{offers}\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        "p".repeat(dice.roll(2000) as usize)
    )
    .into_bytes()
}

/// One connection's life; an error is its end.
fn live(stream: &mut Line, dice: &mut Dice) -> std::io::Result<()> {
    let head = request(dice);
    match dice.roll(12) {
        // Half a handshake, garbage, or frames right behind the request.
        0 => return stream.write_all(&head[..head.len() / 2]),
        1 => return stream.write_all(b"\x16\x03\x01 garbage\r\n\r\n"),
        2 => stream.write_all(&[head, message(dice)].concat())?,
        _ => stream.write_all(&head)?,
    }
    let reads = !dice.one_in(6);
    let mut buffer = [0; 16 * 1024];
    for _ in 0..dice.roll(40) {
        match dice.roll(10) {
            0..6 => stream.write_all(&bytes(dice))?,
            6 => {
                let all = bytes(dice);
                stream.write_all(&all[..all.len() / 2])?;
            }
            7 if dice.one_in(4) => stream.end_writing(dice)?,
            // Where there is TLS: what is none, and a record that never comes whole.
            8 if dice.one_in(20) => stream.tcp.write_all(b"GET / HTTP/1.1\r\n")?,
            9 if dice.one_in(20) => stream.tcp.write_all(&[23, 3, 3, 0x40, 0, 1, 2, 3])?,
            _ if reads => {
                if matches!(stream.read(&mut buffer), Ok(0)) {
                    return Ok(());
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Connections that another server accepted and read something of; every second is handed on as a pipe.
fn adopt(listener: &TcpListener, server: &ServerHandle, known: &Known, is_over: &AtomicBool, mut dice: Dice) {
    let (mut last, mut pumps) = (None, Vec::new());
    for tag in 0.. {
        let Ok((mut stream, _)) = listener.accept() else { break };
        let mut received = vec![0; dice.roll(600) as usize];
        let _ = stream.set_read_timeout(Some(Duration::from_millis(5)));
        let len = stream.read(&mut received).unwrap_or(0);
        received.truncate(len);
        let counts = !is_over.load(Ordering::Relaxed);
        let adoption = Adoption { received, tag: Some(tag), ..Adoption::default() };
        if counts {
            known.tags.lock().unwrap().insert(tag);
        }
        let adopted = if dice.one_in(2) {
            server.adopt_pipe(adoption).map(|pipe| {
                let dice = Dice::new(dice.throw());
                pumps.push(std::thread::spawn(move || pump(&stream, &pipe, dice)));
            })
        } else {
            // It may hold the socket, too.
            last = if dice.one_in(3) { stream.try_clone().ok() } else { last };
            server.adopt(stream, adoption)
        };
        if adopted.is_err() {
            known.tags.lock().unwrap().remove(&tag);
        }
        if adopted.is_err_and(|error| error.code() == "stopped") {
            break;
        }
    }
    for pump in pumps {
        pump.join().unwrap();
    }
}

/// Carries bytes between a socket and a pipe, not always to the end, and with more or less patience.
fn pump(mut stream: &TcpStream, pipe: &Pipe, mut dice: Dice) {
    let _ = stream.set_read_timeout(Some(Duration::from_millis(2)));
    let _ = stream.set_write_timeout(Some(Duration::from_millis(50)));
    let (heeds_room, breaks_after) = (!dice.one_in(4), if dice.one_in(3) { dice.roll(200) } else { 10_000 });
    let (mut piece, mut taken, mut has_room, mut has_ended) = (vec![0; 64 * 1024], Vec::new(), true, false);
    for _ in 0..breaks_after {
        let most = dice.roll(100_000) as usize;
        let is_ended = pipe.take(&mut taken, most).is_ended;
        if stream.write_all(&taken).is_err() {
            return pipe.abort();
        }
        taken.clear();
        if is_ended {
            return;
        }
        if has_ended {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        }
        // Nobody tells this thread of events: it asks again, and the pipe takes one piece more.
        if !has_room && heeds_room && !dice.one_in(10) {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        }
        match stream.read(&mut piece) {
            Ok(0) => {
                has_ended = true;
                pipe.end();
            }
            Ok(len) => has_room = pipe.push(&piece[..len]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return pipe.abort(),
        }
    }
}

fn peer(road: &Road, address: &str, mut dice: Dice, is_over: &AtomicBool) {
    let mut kept = Vec::new();
    while !is_over.load(Ordering::Relaxed) {
        let Ok(mut stream) = road.connect(address, &mut dice) else { continue };
        let _ = live(&mut stream, &mut dice);
        match dice.roll(4) {
            0 => socket2::SockRef::from(&stream.tcp).set_linger(Some(Duration::ZERO)).unwrap(),
            1 if kept.len() < 10 => kept.push(stream),
            _ => {}
        }
        if dice.one_in(10) {
            kept.clear();
        }
    }
}

// ---- the application

/// What became of a handshake that the application was asked about. It hears of each once more: of the open, or that it is gone;
/// never again of one that it has refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Promise {
    Kept,
    Refused,
    /// Its callback failed: it may have been refused by that, or be gone before.
    Failed,
}

#[derive(Default)]
struct Known {
    options: String,
    asked: Mutex<HashMap<TicketId, Promise>>,
    ids: Mutex<Vec<ConnectionId>>,
    all: Mutex<HashSet<ConnectionId>>,
    late: Mutex<Vec<TicketId>>,
    held: Mutex<Vec<KeptInbox>>,
    /// Those of adoptions that have not come back.
    tags: Mutex<HashSet<u64>>,
    /// Those that have.
    ended_tags: Mutex<HashSet<u64>>,
}

impl Known {
    /// A promise ends, which must be kept until now.
    fn end(&self, ticket: TicketId, how: &str) {
        let promise = self.asked.lock().unwrap().remove(&ticket);
        let may_be = match promise {
            Some(Promise::Kept) => true,
            Some(Promise::Failed) => how == "gone",
            Some(Promise::Refused) | None => false,
        };
        assert!(may_be, "a handshake that is {promise:?} is {how}");
    }

    /// A tag comes back, once.
    fn end_tag(&self, tag: u64) {
        self.tags.lock().unwrap().remove(&tag);
        assert!(self.ended_tags.lock().unwrap().insert(tag), "a tag came back twice");
    }

    fn refuse(&self, server: &ServerHandle, ticket: TicketId, decision: Decision) -> Result<(), wsguard::Error> {
        server.answer(ticket, decision)?;
        let promise = self.asked.lock().unwrap().insert(ticket, Promise::Refused);
        assert_eq!(promise, Some(Promise::Kept), "a refusal was taken of a handshake that is over");
        Ok(())
    }
}

fn accept(ticket: TicketId, user: &str, lives_ms: Option<u64>) -> Decision {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    let more = ticket.to_u64() % 4;
    Decision::Accept(Accept {
        user: Some(user.into()),
        expires_at_ms: lives_ms.map(|ms| now + ms),
        // Not every client offers it: then the answer is none.
        subprotocol: (more == 1).then(|| "other".to_owned()),
        headers: if more == 2 { vec![("X-A".to_owned(), "v".repeat(9000))] } else { Vec::new() },
        tag: Some(ticket.to_u64()),
        ..Accept::default()
    })
}

fn reject() -> Decision {
    let headers = vec![("Location".to_owned(), "https://a.example/".to_owned())];
    Decision::Reject(Reject { status: 302, headers, body: vec![b'x'; 6000] })
}

fn decide(upgrade: &Upgrade, server: &ServerHandle, known: &Known) {
    let ticket = upgrade.ticket;
    let before = known.asked.lock().unwrap().insert(ticket, Promise::Kept);
    assert_eq!(before, None, "a ticket came twice");
    let _ = match upgrade.request.header("x-auth-token").unwrap_or_default() {
        "late" => return known.late.lock().unwrap().push(ticket),
        "hang" => return,
        "boom" => {
            known.asked.lock().unwrap().insert(ticket, Promise::Failed);
            panic!("chaos: the callback fails")
        }
        "reject" => known.refuse(server, ticket, reject()),
        "soon over" => server.answer(ticket, accept(ticket, "soon", Some(50))),
        "twice" => {
            let _ = server.answer(ticket, accept(ticket, "twice", None));
            assert!(server.answer(ticket, accept(ticket, "twice", None)).is_err(), "a ticket was answered twice");
            Ok(())
        }
        user => server.answer(ticket, accept(ticket, user, None)),
    };
}

/// What an open tells is what was asked and answered.
fn check_open(open: &Open, known: &Known) {
    let ticket = open.ticket.unwrap();
    known.end(ticket, "opened");
    assert_eq!(open.tag, Some(ticket.to_u64()), "another's tag");
    let told: Vec<&str> = open.headers.iter().map(|(_, value)| &**value).collect();
    let user = open.user.as_deref().unwrap();
    assert!(told == [user] || !user.starts_with("user-"), "{user} came with {told:?}");
    assert_eq!(open.cookies.is_empty(), open.subprotocol.is_none(), "both or neither were sent");
}

fn handle(event: &Event<'_>, server: &ServerHandle, known: &Known, dice: &mut Dice) {
    match event {
        Event::Upgrade(upgrade) => decide(upgrade, server, known),
        Event::UpgradeGone(ticket) => known.end(*ticket, "gone"),
        Event::AdoptionEnded { tag, .. } => known.end_tag(*tag),
        Event::Open(open) => {
            check_open(open, known);
            let _ = open.adopted.map(|tag| known.end_tag(tag));
            assert!(known.all.lock().unwrap().insert(open.conn), "an id came twice");
            let mut ids = known.ids.lock().unwrap();
            ids.push(open.conn);
            // The last hundred are enough, most of them stale.
            let surplus = ids.len().saturating_sub(100);
            ids.drain(..surplus);
        }
        Event::Message(message) => {
            assert!(!dice.one_in(60), "chaos: the handler fails");
            if dice.one_in(200) {
                std::thread::sleep(Duration::from_millis(20));
            }
            if dice.one_in(3) {
                known.held.lock().unwrap().push(server.hold_inbox(message.bytes));
            }
            let _ = server.reply(message.conn, message.id, message.event, message.data.as_str());
        }
        _ => {}
    }
}

/// Answers some messages on the shard's thread, passes others on, and fails.
struct Fast(Mutex<Dice>);

impl Inline for Fast {
    fn message(&self, _: ConnectionId, message: InlineMessage<'_>, replies: &mut Replies<'_>) -> Handled {
        let InlineMessage::Event(event, data, id) = message else { return Handled::Pass };
        let roll = self.0.lock().unwrap().roll(100);
        match roll {
            0..40 => replies.emit(event, data, id),
            40..60 => {}
            60 => {
                replies.emit(event, data, id);
                panic!("chaos: the inline handler fails")
            }
            _ => return Handled::Pass,
        }
        Handled::Done
    }
}

/// Anything that a thread of the application may ask for.
fn command(server: &ServerHandle, known: &Known, dice: &mut Dice) {
    let ids = known.ids.lock().unwrap().clone();
    let conn = if ids.is_empty() { ConnectionId::from_u64(dice.roll(u64::MAX)) } else { *dice.pick(&ids) };
    let room = format!("room {}", dice.roll(5));
    let large = "y".repeat(*dice.pick(&[0, 10, 3000, 20_000, 70_000]));
    let data = format!("\"{large}\"");
    let _ = match dice.roll(40) {
        27.. => return say_more(server, known, dice, conn, &room),
        26 => server.reload_tls(),
        24 => {
            server.heed(dice.one_in(2), dice.one_in(2), dice.one_in(2));
            Ok(())
        }
        25 => (0..4).try_for_each(|_| server.broadcast(To::Everyone, "said", &data, &[])),
        0..4 => server.emit(conn, "said", &data).map(drop),
        4..6 => server.broadcast(To::Room(&room), "said", &data, &[conn]),
        6 => server.broadcast(To::Everyone, "said", "1", &[]),
        7..10 => server.join(conn, &room),
        10 => (0..1100).try_for_each(|n| server.join(conn, &format!("many {n}"))),
        11..13 => server.leave(conn, &room),
        13 => server.close(conn, 4000, "enough"),
        14 => server.fail(conn),
        15 => server.refuse(conn, "any"),
        16..18 => server.pause(conn),
        18..20 => server.resume(conn),
        20 if dice.one_in(4) => server.disconnect_user(&format!("user-{}", dice.roll(4))).map(drop),
        21 => match known.late.lock().unwrap().pop() {
            Some(ticket) if dice.one_in(2) => known.refuse(server, ticket, reject()),
            Some(ticket) => server.answer(ticket, accept(ticket, "late", None)),
            None => Ok(()),
        },
        22 => {
            known.held.lock().unwrap().clear();
            Ok(())
        }
        _ => {
            let _cork = server.cork();
            (0..20).try_for_each(|_| server.emit(conn, "said", "1").map(drop))
        }
    };
}

/// The rest of what it may ask for.
fn say_more(server: &ServerHandle, known: &Known, dice: &mut Dice, conn: ConnectionId, room: &str) {
    let user = format!("user-{}", dice.roll(4));
    let rooms = [room, "room 0", "nobody's", room];
    let to = *dice.pick(&[To::Room(room), To::Rooms(&rooms), To::User(&user), To::Everyone]);
    let _ = match dice.roll(13) {
        0 | 1 => (0..dice.roll(20)).try_for_each(|_| server.ping(conn).map(drop)),
        2 if dice.one_in(3) => server.terminate(conn),
        3 => server.request(conn, "12", "asked", "1").map(drop),
        4 => server.reply_error(conn, Some("7"), "said", "1").map(drop),
        5 => server.refuse_message(conn, "echo", Some("7")),
        6 if to == To::Everyone => server.close_all(To::User(&user), 4001, "no more", &[conn]),
        6 if dice.one_in(4) => server.close_all(to, 4002, "no more", &[conn]),
        7 => server.clear_room(room),
        8 => {
            let members = server.members(to).unwrap_or_default();
            let distinct: HashSet<_> = members.iter().collect();
            assert_eq!(distinct.len(), members.len(), "somebody is a member twice");
            let waits = server.buffered_bytes(conn);
            assert!(waits < 1 << 30, "{waits} bytes wait for one connection");
            server.rooms_of(conn).map(|rooms| assert!(rooms.len() <= 1024))
        }
        9 if dice.one_in(3) => server.ban(Whom::User(&user), Some(20), "chaos"),
        10 => server.unban(Whom::User(&user)).map(drop),
        11 if dice.one_in(4) => server.reload(Options::from_json(&known.options).unwrap()).map(drop),
        _ => {
            let _cork = server.cork();
            let outcome = server.join(conn, room).and_then(|()| server.broadcast(to, "said", "2", &[conn, conn]));
            outcome.and_then(|()| server.leave(conn, room))
        }
    };
}

#[test]
fn everything_that_was_taken_is_given_back() {
    chaos("plain", &Road::Plain, "");
}

#[test]
fn everything_that_was_taken_over_tls_is_given_back() {
    let (road, options) = Road::tls();
    chaos("tls", &road, &options);
}

#[test]
fn everything_that_was_taken_behind_a_proxy_is_given_back() {
    chaos("proxied", &Road::Proxied, r#", "proxy_protocol": true, "trusted_proxies": ["127.0.0.1"]"#);
}

/// Panics that are no part of the chaos.
static PANICS: AtomicUsize = AtomicUsize::new(0);

/// Lets panics that are part of the chaos be silent, and counts the others.
fn expect_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let is_ours = panic.payload_as_str().is_some_and(|text| text.starts_with("chaos: "));
            if !is_ours {
                PANICS.fetch_add(1, Ordering::Relaxed);
                before(panic);
            }
        }));
    });
}

fn chaos(name: &str, road: &Road, more: &str) {
    let seed = setting("WSGUARD_CHAOS_SEED").unwrap_or_else(|| RandomState::new().hash_one(0)).max(1);
    let lasts = Duration::from_secs(setting("WSGUARD_CHAOS_SECONDS").unwrap_or(3));
    println!("{name}: WSGUARD_CHAOS_SEED={seed}");
    expect_panics();
    let dice = |number: u64| Dice::of_stream(seed, number);
    let builder = Builder::new().inline(Fast(Mutex::new(dice(4))));
    let options = OPTIONS.replace("MORE", more);
    let server = builder.start(Options::from_json(&options).unwrap()).unwrap();
    let (address, commands) = (server.address().to_owned(), server.handle());
    let known = Arc::new(Known { options, ..Known::default() });
    let is_over = Arc::<AtomicBool>::default();
    let (ended, end) = mpsc::channel();
    let application = {
        let (known, mut dice) = (Arc::clone(&known), dice(1));
        std::thread::spawn(move || {
            server.run(|event, server| handle(&event, server, &known, &mut dice));
            let _ = ended.send(());
        })
    };
    let commanders = (2..4).map(|number| {
        let (known, is_over, commands, mut dice) =
            (Arc::clone(&known), Arc::clone(&is_over), commands.clone(), dice(number));
        std::thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                command(&commands, &known, &mut dice);
                std::thread::sleep(Duration::from_micros(dice.roll(2000)));
            }
            commands.drain(3000, dice.roll(200));
        })
    });
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    let adopting = elsewhere.local_addr().unwrap().to_string();
    let adopter = {
        let (commands, known, is_over, dice) = (commands.clone(), Arc::clone(&known), Arc::clone(&is_over), dice(5));
        std::thread::spawn(move || adopt(&elsewhere, &commands, &known, &is_over, dice))
    };
    let peers = (10..18).map(|number| {
        // Only plain connections can be another server's.
        let is_adopted = matches!(road, Road::Plain) && number % 4 == 0;
        let address = if is_adopted { adopting.clone() } else { address.clone() };
        let (road, is_over, dice) = (road.clone(), Arc::clone(&is_over), dice(number));
        std::thread::spawn(move || peer(&road, &address, dice, &is_over))
    });
    let threads = commanders.collect::<Vec<_>>().into_iter().chain(peers.collect::<Vec<_>>());
    let began = Instant::now();
    while began.elapsed() < lasts {
        std::thread::sleep(Duration::from_millis(50));
        let stats = commands.stats();
        assert!(stats.open <= stats.connections && stats.connections < 1000, "{stats:?}");
    }
    is_over.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().unwrap();
    }
    assert!(end.recv_timeout(Duration::from_secs(30)).is_ok(), "the server does not end: {:?}", commands.stats());
    application.join().unwrap();
    // One more, to be told that it is over.
    while !adopter.is_finished() {
        let _ = TcpStream::connect(&adopting);
    }
    adopter.join().unwrap();
    known.held.lock().unwrap().clear();
    let stats = commands.stats();
    println!("{name}: {} connections, {} messages, {:?}", stats.opened_total, stats.messages_in, stats.verdicts);
    assert!(stats.opened_total > 10 && stats.messages_in > 10, "nothing happened: {stats:?}");
    assert_eq!(PANICS.load(Ordering::Relaxed), 0, "something panicked that should not");
    let gauges = [
        ("connections", stats.connections),
        ("open", stats.open),
        ("inbox_bytes", stats.inbox_bytes),
        ("outbox_bytes", stats.outbox_bytes),
        ("delayed", stats.delayed),
        ("pending_auth", stats.pending_auth),
        ("upgrades_in_inbox", stats.upgrades_in_inbox),
        ("refusing", stats.refusing),
        ("rooms", stats.rooms),
        ("room_memberships", stats.room_memberships),
        ("pipe_bytes", stats.pipe_bytes),
    ];
    for (name, gauge) in gauges {
        assert_eq!(gauge, 0, "{name}: {stats:?}");
    }
    let kept = known.asked.lock().unwrap().values().filter(|promise| **promise == Promise::Kept).count();
    assert_eq!(kept, 0, "handshakes of whose end nobody was told");
    let lost = known.tags.lock().unwrap();
    assert!(lost.is_empty(), "tags that never came back: {lost:?}");
    assert!(!commands.broadcasts_wait() && commands.connections().is_empty());
    for conn in known.all.lock().unwrap().iter() {
        assert!(!commands.is_open(*conn));
        assert_eq!(commands.buffered_bytes(*conn), 0);
        assert_eq!(commands.emit(*conn, "said", "1").unwrap_err().code(), "connection_closed");
    }
    assert_eq!(commands.broadcast(To::Everyone, "said", "1", &[]).unwrap_err().code(), "stopped");
}
