#![cfg(unix)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]
//! Everything at once on adopted connections: TCP, Unix sockets and pipes of the same users, an application that is consulted of
//! each of them and answers when it likes, and threads that speak in fragments, pings and broadcasts meanwhile.
//!
//! Peers check what they read frame by frame. Whoever has a pipe learns of it by events alone: one that is not told waits in vain,
//! and fails. Afterwards every tag has come back once, also of adoptions that the end of the server met, and nothing is left.
//!
//! `WSGUARD_CHAOS_SECONDS` says how long (3), `WSGUARD_CHAOS_SEED` which (random; it is printed).

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use wsguard::binding::{
    Accept, Adoption, Builder, ConnectionId, DataOpcode, Decision, Event, Fragment, Handled, Inline, InlineMessage,
    Options, Pipe, PipeId, Replies, ServerHandle, TicketId, To, Upgrade, Whom,
};
use wsguard_test_support::dice::Dice;

const OPTIONS: &str = r#"{
    "threads": 3, "origins": ["https://a.example"], "protocol": "raw", "keep_headers": ["x-told"], "subprotocols": ["chat"],
    "auth": {"tokens": [{"token": "t0", "user": "user-0"}, {"token": "t1", "user": "user-1"},
        {"token": "t2", "user": "user-2", "roles": ["r"]} MORE]},
    "rate_limit": {"per_second": 400, "burst": 100, "queue": 20, "bytes_per_second": 900000, "key": "user"},
    "control_rate_limit": {"per_second": 50, "burst": 40},
    "handshakes_per_ip": null, "max_connections_per_ip": 80, "max_connections_per_user": 20, "max_pending_auth": 20,
    "max_inbox_bytes": 300000, "max_outbox_bytes": 200000, "max_message_bytes": 40000, "max_fragments": 20,
    "auth_timeout_ms": 300, "handshake_timeout_ms": 500, "message_timeout_ms": 400, "close_timeout_ms": 150,
    "ping_interval_ms": 100, "idle_timeout_ms": 1200}"#;

/// Dice of another thread.
fn child(dice: &mut Dice) -> Dice {
    Dice::new(dice.throw())
}

/// How long anything may take that has to come.
const PATIENCE: Duration = Duration::from_secs(20);

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

// ---- what is known

#[derive(Default)]
struct Known {
    /// Adoptions that were taken and whose tag has not come back; those that came back before `adopt` had returned.
    tags: Mutex<HashSet<u64>>,
    early_tags: Mutex<HashSet<u64>>,
    ended_tags: Mutex<HashSet<u64>>,
    next_tag: AtomicU64,
    asked: Mutex<HashSet<TicketId>>,
    late: Mutex<Vec<TicketId>>,
    ids: Mutex<Vec<ConnectionId>>,
    open: Mutex<HashSet<ConnectionId>>,
    /// Those of which no message may follow.
    closing: Mutex<HashSet<ConnectionId>>,
    /// Not read until a command says so: whoever is left paused never ends.
    paused: Mutex<Vec<ConnectionId>>,
    pipes: Mutex<HashMap<PipeId, mpsc::Sender<PipeEvent>>>,
    piped: AtomicU64,
    fragments: AtomicU64,
    /// Answers have one.
    has_deadline: AtomicBool,
}

impl Known {
    fn end_tag(&self, tag: u64) {
        assert!(self.ended_tags.lock().unwrap().insert(tag), "a tag came back twice");
        if !self.tags.lock().unwrap().remove(&tag) {
            self.early_tags.lock().unwrap().insert(tag);
        }
    }

    fn tell_pipe(&self, pipe: PipeId, event: PipeEvent) {
        if let Some(told) = self.pipes.lock().unwrap().get(&pipe) {
            let _ = told.send(event);
        }
    }
}

// ---- peers

/// What is told of a pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PipeEvent {
    Ready,
    Room,
}

/// A peer's end of a connection.
#[derive(Debug)]
enum Line {
    Tcp(TcpStream),
    Unix(UnixStream),
    Pipe(PipeLine),
}

/// One that is a pipe, and knows of it what it is told.
#[derive(Debug)]
struct PipeLine {
    pipe: Pipe,
    told: mpsc::Receiver<PipeEvent>,
    /// Pushes no more until it is told that there is room.
    heeds_room: bool,
    /// Taken and not read.
    taken: Vec<u8>,
    is_ended: bool,
}

impl PipeLine {
    fn take(&mut self, most: usize) {
        loop {
            let taken = self.pipe.take(&mut self.taken, most);
            self.is_ended |= taken.is_ended;
            if taken.is_ended || !taken.more {
                return;
            }
        }
    }

    fn push(&mut self, bytes: &[u8]) -> bool {
        let mut has_room = self.pipe.push(bytes) || !self.heeds_room;
        while !has_room && !self.is_ended {
            match self.told.recv_timeout(PATIENCE) {
                Ok(PipeEvent::Room) => has_room = true,
                Ok(PipeEvent::Ready) => self.take(usize::MAX),
                Err(error) => panic!("nobody told of room in {:?}: {error}", self.pipe),
            }
        }
        !self.is_ended
    }

    fn read(&mut self, into: &mut Vec<u8>, most: usize, patience: Duration) -> bool {
        if self.taken.is_empty() && !self.is_ended && self.told.recv_timeout(patience) == Ok(PipeEvent::Ready) {
            self.take(most);
        }
        into.append(&mut self.taken);
        !self.is_ended
    }
}

impl Line {
    fn write(&mut self, bytes: &[u8]) -> bool {
        match self {
            Line::Tcp(tcp) => tcp.write_all(bytes).is_ok(),
            Line::Unix(unix) => unix.write_all(bytes).is_ok(),
            Line::Pipe(line) => line.push(bytes),
        }
    }

    /// Reads what comes within `patience`; `false`: it has ended.
    fn read(&mut self, into: &mut Vec<u8>, most: usize, patience: Duration) -> bool {
        let mut buffer = [0; 16 * 1024];
        let read = match self {
            Line::Tcp(tcp) => {
                tcp.set_read_timeout(Some(patience)).unwrap();
                tcp.read(&mut buffer)
            }
            Line::Unix(unix) => {
                unix.set_read_timeout(Some(patience)).unwrap();
                unix.read(&mut buffer)
            }
            Line::Pipe(line) => return line.read(into, most, patience),
        };
        match read {
            Ok(len) => {
                into.extend_from_slice(&buffer[..len]);
                len > 0
            }
            Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        }
    }

    fn end(&mut self) {
        match self {
            Line::Tcp(tcp) => drop(tcp.shutdown(Shutdown::Write)),
            Line::Unix(unix) => drop(unix.shutdown(Shutdown::Write)),
            Line::Pipe(line) => line.pipe.end(),
        }
    }
}

/// What a peer reads: a head, then frames in an order that RFC 6455 allows, each message of one kind.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about what was read")]
struct Reader {
    bytes: Vec<u8>,
    has_head: bool,
    is_refused: bool,
    is_mid_message: bool,
    has_goodbye: bool,
}

impl Reader {
    fn check(&mut self) {
        if !self.has_head {
            let Some(end) = self.bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return };
            self.is_refused = !self.bytes.starts_with(b"HTTP/1.1 101 ");
            self.has_head = true;
            self.bytes.drain(..end + 4);
        }
        if self.is_refused {
            return;
        }
        let bytes = std::mem::take(&mut self.bytes);
        let mut at = 0;
        while let Some((first, payload, len)) = frame(&bytes[at..]) {
            self.check_frame(first, payload);
            at += len;
        }
        self.bytes = bytes[at..].to_vec();
    }

    fn check_frame(&mut self, first: u8, payload: &[u8]) {
        assert!(!self.has_goodbye, "a frame behind the close frame: {first:#x}");
        let (fin, opcode) = (first & 0x80 != 0, first & 0x0f);
        let (len, kinds) = (payload.len(), payload.iter().copied().collect::<HashSet<_>>());
        match opcode {
            8..=10 => {
                assert!(fin && len <= 125, "{first:#x}");
                self.has_goodbye = opcode == 8;
                return;
            }
            0 => assert!(self.is_mid_message, "a continuation of nothing"),
            1 | 2 => assert!(!self.is_mid_message, "{first:#x} between fragments: {kinds:?}"),
            _ => panic!("{first:#x}"),
        }
        let expected = if opcode == 0 || !fin { b'f' } else { *kinds.iter().next().unwrap_or(&b'w') };
        assert!(kinds.iter().all(|kind| *kind == expected), "{first:#x} {kinds:?}");
        self.is_mid_message = !fin;
    }
}

fn frame(bytes: &[u8]) -> Option<(u8, &[u8], usize)> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    let (at, len) = match second {
        126 => (4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().unwrap()))),
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().unwrap()) as usize),
        len => (2, usize::from(len)),
    };
    Some((first, bytes.get(at..at + len)?, at + len))
}

fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    match payload.len() {
        len @ 0..126 => out.push(0x80 | len as u8),
        len => out.extend([&[0xfe][..], &(len as u16).to_be_bytes()].concat()),
    }
    out.extend([0; 4]);
    out.extend(payload);
    out
}

/// One thing that a peer may send, legal more often than not.
fn bytes(dice: &mut Dice) -> Vec<u8> {
    match dice.roll(30) {
        0..16 => masked(0x82, &vec![b'm'; *dice.pick(&[0, 10, 300, 5000, 30_000])]),
        16..20 => masked(0x89, b"ping"),
        20..24 => masked(0x8a, b"pong"),
        24 => (0..60).flat_map(|_| masked(0x89, b"flood")).collect(),
        25 => [masked(0x02, b"m"), masked(0x89, b""), masked(0x80, b"m")].concat(),
        26 => masked(0x81, &[0xff]),
        27 => masked(0x88, &1000_u16.to_be_bytes()),
        28 => (0..30).flat_map(|_| masked(0x82, &[b'm'; 3000])).collect(),
        _ => {
            let count = dice.roll(40);
            dice.bytes(count)
        }
    }
}

fn request(dice: &mut Dice) -> Vec<u8> {
    let who = dice.roll(14) % 5;
    let what =
        *dice.pick(&["pass", "pass", "pass", "pass", "reject", "late", "hang", "named", "chosen", "unavailable"]);
    format!(
        "GET /{what} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nOrigin: https://a.example\r\n\
         X-Auth-Token: t{who}\r\nX-Told: user-{who}\r\nSec-WebSocket-Protocol: other, chat\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    .into_bytes()
}

/// Hands a connection over, in one of three ways; `None`: the server has stopped.
fn adopt(server: &ServerHandle, known: &Known, received: Vec<u8>, dice: &mut Dice) -> Option<Line> {
    let tag = known.next_tag.fetch_add(1, Ordering::Relaxed);
    let adoption = Adoption { received, tag: Some(tag), ..Adoption::default() };
    let adopted = match dice.roll(4) {
        0 => {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            client.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
            server.adopt(listener.accept().unwrap().0, adoption).map(|()| Line::Tcp(client))
        }
        1 => {
            let (client, socket) = UnixStream::pair().unwrap();
            client.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
            server.adopt_unix(socket, adoption).map(|()| Line::Unix(client))
        }
        _ => {
            let peer = "127.0.0.1:9".parse().ok();
            server.adopt_pipe(Adoption { peer, ..adoption }).map(|pipe| {
                let (tell, told) = mpsc::channel();
                known.pipes.lock().unwrap().insert(pipe.id(), tell.clone());
                // It may have been told before it was known.
                let _ = tell.send(PipeEvent::Ready);
                known.piped.fetch_add(1, Ordering::Relaxed);
                let (heeds_room, taken, is_ended) = (dice.one_in(2), Vec::new(), false);
                Line::Pipe(PipeLine { pipe, told, heeds_room, taken, is_ended })
            })
        }
    };
    match adopted {
        Ok(line) => {
            let mut tags = known.tags.lock().unwrap();
            if !known.early_tags.lock().unwrap().remove(&tag) {
                tags.insert(tag);
            }
            Some(line)
        }
        Err(error) => {
            assert_eq!(error.code(), "stopped");
            assert!(!known.ended_tags.lock().unwrap().contains(&tag), "an adoption that is an error has an end");
            None
        }
    }
}

/// One connection's life.
fn live(server: &ServerHandle, known: &Known, dice: &mut Dice, is_stopping: &AtomicBool) -> bool {
    let mut head = request(dice);
    let cut = if dice.one_in(3) { dice.roll(head.len() as u64) as usize } else { head.len() };
    let rest = head.split_off(cut);
    let Some(mut line) = adopt(server, known, head, dice) else { return false };
    line.write(&rest);
    let mut reader = Reader::default();
    let (reads, most) = (!dice.one_in(8), *dice.pick(&[1, 100, 5000, usize::MAX]));
    let mut is_there = true;
    for _ in 0..dice.roll(60) {
        match dice.roll(10) {
            0..4 => is_there &= line.write(&bytes(dice)),
            4 if dice.one_in(20) => line.end(),
            5 if dice.one_in(20) => is_there &= line.write(&masked(0x82, &[b'm'; 100])[..50]),
            _ if reads => {
                is_there &= line.read(&mut reader.bytes, most, Duration::from_millis(3));
                reader.check();
            }
            _ => {}
        }
        if !is_there {
            break;
        }
    }
    match (&line, dice.roll(4)) {
        (Line::Pipe(line), 0) => line.pipe.abort(),
        (_, 1) => {}
        // To the end, and by what is told alone.
        _ => {
            line.end();
            let began = Instant::now();
            while is_there && line.read(&mut reader.bytes, most, Duration::from_millis(20)) {
                reader.check();
                let stats = server.stats();
                assert!(
                    began.elapsed() < PATIENCE || is_stopping.load(Ordering::Relaxed),
                    "nobody told of the end of {line:?}: head {}, refused {}, goodbye {}, {stats:?}, paused {:?}",
                    reader.has_head,
                    reader.is_refused,
                    reader.has_goodbye,
                    known.paused.lock().unwrap(),
                );
                if is_stopping.load(Ordering::Relaxed) && began.elapsed() > Duration::from_secs(5) {
                    break;
                }
            }
            reader.check();
        }
    }
    if let Line::Pipe(line) = &line {
        known.pipes.lock().unwrap().remove(&line.pipe.id());
    }
    true
}

// ---- the application

fn decide(upgrade: &Upgrade, server: &ServerHandle, known: &Known) {
    let ticket = upgrade.ticket;
    assert!(known.asked.lock().unwrap().insert(ticket), "a ticket came twice");
    let identity = upgrade.identity.as_ref().unwrap();
    assert_eq!(identity.user.as_deref(), upgrade.request.header("x-told"));
    let refuse = |decision| {
        if server.answer(ticket, decision).is_ok() {
            assert!(known.asked.lock().unwrap().remove(&ticket), "a refusal was taken of one that is over");
        }
    };
    match &*upgrade.request.path {
        "/reject" => refuse(Decision::reject(403)),
        "/unavailable" => refuse(Decision::Unavailable),
        // Of a TCP peer that fills its window before it is answered the end never comes, and without a deadline neither does another.
        "/hang" if known.has_deadline.load(Ordering::Relaxed) => {}
        "/late" | "/hang" => known.late.lock().unwrap().push(ticket),
        "/named" => {
            for accept in [
                Accept { user: Some("user-0".to_owned()), ..Accept::default() },
                Accept { roles: vec!["r".to_owned()], ..Accept::default() },
                Accept { expires_at_ms: Some(u64::MAX), ..Accept::default() },
            ] {
                assert!(server.answer(ticket, Decision::Accept(accept)).is_err(), "an identity was widened");
            }
            let _ = server.answer(ticket, Decision::pass());
        }
        "/chosen" => {
            let accept = Accept { subprotocol: Some("other".to_owned()), tag: Some(7), ..Accept::default() };
            let _ = server.answer(ticket, Decision::Accept(accept));
            assert!(server.answer(ticket, Decision::pass()).is_err(), "a ticket was answered twice");
        }
        _ => drop(server.answer(ticket, Decision::pass())),
    }
}

fn handle(event: &Event<'_>, server: &ServerHandle, known: &Known, dice: &mut Dice) {
    match event {
        Event::Upgrade(upgrade) => decide(upgrade, server, known),
        Event::UpgradeGone(ticket) => assert!(known.asked.lock().unwrap().remove(ticket), "gone, and not asked"),
        Event::AdoptionEnded { tag, .. } => known.end_tag(*tag),
        Event::PipeReady(pipe) => known.tell_pipe(*pipe, PipeEvent::Ready),
        Event::PipeRoom(pipe) => known.tell_pipe(*pipe, PipeEvent::Room),
        Event::Open(open) => {
            assert!(known.asked.lock().unwrap().remove(&open.ticket.unwrap()), "opened, and not asked");
            known.end_tag(open.adopted.unwrap());
            let told = open.headers.first().map(|(_, value)| &**value);
            assert_eq!(open.user.as_deref(), told, "another's identity");
            assert!(open.roles.iter().count() == usize::from(told == Some("user-2")));
            let expected = if &*open.path == "/chosen" { "other" } else { "chat" };
            assert_eq!(open.subprotocol.as_deref(), Some(expected));
            assert!(known.open.lock().unwrap().insert(open.conn), "an id came twice");
            let mut ids = known.ids.lock().unwrap();
            ids.push(open.conn);
            let surplus = ids.len().saturating_sub(40);
            ids.drain(..surplus);
        }
        Event::Closing(closing) => {
            assert!(known.open.lock().unwrap().contains(&closing.conn), "begins to close, and is not open");
            assert!(known.closing.lock().unwrap().insert(closing.conn), "begins to close twice");
        }
        Event::Close(close) => {
            assert!(known.open.lock().unwrap().remove(&close.conn), "closed, and not open");
            known.closing.lock().unwrap().remove(&close.conn);
        }
        Event::Binary(conn, _) | Event::Text(conn, _) | Event::PingFrame(conn, _) | Event::PongFrame(conn, _)
            if known.closing.lock().unwrap().contains(conn) =>
        {
            panic!("a message behind the beginning of the end: {event:?}")
        }
        Event::PingFrame(conn, payload) => drop(server.send_pong(*conn, payload)),
        Event::Binary(conn, _) if dice.one_in(3) => drop(server.send_binary(*conn, &[b'w'; 50])),
        Event::Binary(..) if dice.one_in(300) => std::thread::sleep(Duration::from_millis(20)),
        _ => {}
    }
}

struct Fast;

impl Inline for Fast {
    fn message(&self, _: ConnectionId, message: InlineMessage<'_>, replies: &mut Replies<'_>) -> Handled {
        match message {
            InlineMessage::Binary(payload) if payload.len() < 1000 => {
                replies.binary(&[b'i'; 40]);
                Handled::Done
            }
            _ => Handled::Pass,
        }
    }
}

/// Anything that a thread of the application may ask for. Fragments of a connection are one thread's.
fn command(server: &ServerHandle, known: &Known, dice: &mut Dice, number: u64) {
    let ids = known.ids.lock().unwrap().clone();
    let conn = if ids.is_empty() { ConnectionId::from_u64(dice.roll(u64::MAX)) } else { *dice.pick(&ids) };
    let payload = |dice: &mut Dice, of: u8| vec![of; *dice.pick(&[0, 10, 130, 3000, 20_000, 70_000])];
    let user = format!("user-{}", dice.roll(4));
    let _ = match dice.roll(34) {
        0..8 if conn.slot() % 2 == (number % 2) as u32 => {
            known.fragments.fetch_add(1, Ordering::Relaxed);
            let _cork = dice.one_in(3).then(|| server.cork());
            let (opcode, fin) = (*dice.pick(&[DataOpcode::Binary, DataOpcode::Continuation]), dice.one_in(3));
            server.send_fragment(conn, Fragment { opcode, fin }, &payload(dice, b'f')).map(drop)
        }
        8..11 => server.send_binary(conn, &payload(dice, b'w')).map(drop),
        11 => server.broadcast_binary(To::Everyone, &payload(dice, b'b'), &[conn]),
        12 => server.broadcast_binary(To::Room("room"), &payload(dice, b'b'), &[]),
        13 => server.join(conn, "room"),
        14 => server.send_ping(conn, b"own").map(drop),
        15 => server.send_pong(conn, b"own").map(drop),
        16 => server.set_auto_pong(conn, dice.one_in(2)),
        17 => {
            server.heed_control(!dice.one_in(4));
            server.heed_closing(!dice.one_in(4));
            Ok(())
        }
        18 if dice.one_in(3) => server.close(conn, 4000, "enough"),
        19 if dice.one_in(3) => server.terminate(conn),
        20 => {
            let mut paused = known.paused.lock().unwrap();
            paused.push(conn);
            server.pause(conn)
        }
        21..23 => {
            known.paused.lock().unwrap().drain(..).for_each(|conn| drop(server.resume(conn)));
            Ok(())
        }
        23 if dice.one_in(6) => server.disconnect_user(&user).map(drop),
        24 if dice.one_in(6) => server.ban(Whom::User(&user), Some(10), "chaos"),
        25 if dice.one_in(6) => {
            let more = *dice.pick(&["", r#", {"token": "t3", "user": "user-3"}"#]);
            server.reload(Options::from_json(&OPTIONS.replace("MORE", more)).unwrap()).map(drop)
        }
        26 if dice.one_in(10) => server.fail(conn),
        27 | 28 => match known.late.lock().unwrap().pop() {
            Some(ticket) => server.answer(ticket, Decision::pass()),
            None => Ok(()),
        },
        _ => {
            let written = server.written(conn);
            let queued = server.queued(conn);
            assert!(written <= queued || !server.is_open(conn), "{written} of {queued}");
            server.ping(conn).map(drop)
        }
    };
}

fn chaos(builder: Builder, stops: bool) {
    let seed = setting("WSGUARD_CHAOS_SEED").unwrap_or_else(|| RandomState::new().hash_one(0)).max(1);
    let lasts = Duration::from_secs(setting("WSGUARD_CHAOS_SECONDS").unwrap_or(3));
    println!("WSGUARD_CHAOS_SEED={seed}");
    let mut dice = Dice::new(seed);
    let options = Options::from_json(&OPTIONS.replace("MORE", "")).unwrap();
    let server = builder.without_listener().auto_pong(false).inline(Fast).start(options).unwrap();
    let commands = server.handle();
    commands.heed_control(true);
    commands.heed_closing(true);
    let known = Arc::new(Known { has_deadline: AtomicBool::new(!stops), ..Known::default() });
    let (is_over, is_stopping) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
    let failed = Arc::new(Mutex::new(Vec::new()));
    let (ended, end) = mpsc::channel();
    let application = {
        let (known, mut dice, failed) = (Arc::clone(&known), child(&mut dice), Arc::clone(&failed));
        std::thread::spawn(move || {
            server.run(|event, server| {
                let text = format!("{event:?}");
                let handled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    handle(&event, server, &known, &mut dice);
                }));
                if handled.is_err() {
                    failed.lock().unwrap().push(text);
                }
            });
            let _ = ended.send(());
        })
    };
    let commanders: Vec<_> = (0..2)
        .map(|number| {
            let (known, is_over, commands, mut dice) =
                (Arc::clone(&known), Arc::clone(&is_over), commands.clone(), child(&mut dice));
            std::thread::spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    command(&commands, &known, &mut dice, number);
                    std::thread::sleep(Duration::from_micros(dice.roll(1500)));
                }
            })
        })
        .collect();
    let peers: Vec<_> = (0..10)
        .map(|_| {
            let (known, is_stopping, commands, mut dice) =
                (Arc::clone(&known), Arc::clone(&is_stopping), commands.clone(), child(&mut dice));
            std::thread::spawn(move || while live(&commands, &known, &mut dice, &is_stopping) {})
        })
        .collect();
    std::thread::sleep(lasts);
    is_over.store(true, Ordering::Relaxed);
    for thread in commanders {
        thread.join().unwrap();
    }
    is_stopping.store(true, Ordering::Relaxed);
    if stops {
        commands.stop();
    } else {
        commands.drain(3000, 100);
    }
    assert!(end.recv_timeout(PATIENCE).is_ok(), "the server does not end: {:?}", commands.stats());
    application.join().unwrap();
    for thread in peers {
        thread.join().unwrap();
    }
    expect_nothing_left(&commands, &known, &failed.lock().unwrap());
}

fn expect_nothing_left(commands: &ServerHandle, known: &Known, failed: &[String]) {
    let stats = commands.stats();
    let (piped, fragments) = (known.piped.load(Ordering::Relaxed), known.fragments.load(Ordering::Relaxed));
    println!("{} opened, {piped} pipes, {fragments} fragments, {:?}", stats.opened_total, stats.verdicts);
    assert!(failed.is_empty(), "{failed:?}");
    assert!(stats.opened_total > 10 && piped > 10 && fragments > 10, "nothing happened: {stats:?}");
    let gauges = [
        ("connections", stats.connections),
        ("open", stats.open),
        ("inbox_bytes", stats.inbox_bytes),
        ("outbox_bytes", stats.outbox_bytes),
        ("delayed", stats.delayed),
        ("pending_auth", stats.pending_auth),
        ("upgrades_in_inbox", stats.upgrades_in_inbox),
        ("refusing", stats.refusing),
        ("room_memberships", stats.room_memberships),
        ("pipe_bytes", stats.pipe_bytes),
    ];
    for (name, gauge) in gauges {
        assert_eq!(gauge, 0, "{name}: {stats:?}");
    }
    let (asked, tags, open) = (known.asked.lock().unwrap(), known.tags.lock().unwrap(), known.open.lock().unwrap());
    assert!(asked.is_empty(), "handshakes of whose end nobody was told: {asked:?}");
    assert!(tags.is_empty(), "tags that never came back: {tags:?}");
    assert!(open.is_empty(), "connections whose close nobody was told of: {open:?}");
}

#[test]
fn adopted_connections_give_everything_back_when_the_server_drains() {
    chaos(Builder::new().consult(), false);
}

#[test]
fn adopted_connections_give_everything_back_when_the_server_stops() {
    chaos(Builder::new().consult_without_deadline(), true);
}
