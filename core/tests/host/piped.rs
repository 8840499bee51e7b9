//! Connections without a socket: a pipe, of which the test is the application's end.

use std::collections::HashMap;
use std::time::Instant;

use wsguard::binding::{Adoption, Code, Error, Pipe, PipeId, Stats};

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

/// Events of a server, as an application that has pipes keeps them.
struct Application {
    server: Server,
    batch: EventBatch,
    /// What the server said, in words.
    told: Vec<String>,
    opened: Vec<ConnectionId>,
    ready: HashMap<PipeId, usize>,
    room: HashMap<PipeId, usize>,
}

impl Application {
    fn start(more: &str) -> Self {
        Self::of(start(more))
    }

    fn of(server: Server) -> Self {
        let (told, opened, ready, room) = Default::default();
        Self { server, batch: EventBatch::new(), told, opened, ready, room }
    }

    fn handle(&self) -> ServerHandle {
        self.server.handle()
    }

    fn adopt(&self, received: Vec<u8>) -> Pipe {
        self.handle().adopt_pipe(received).unwrap()
    }

    /// Takes events until `done`.
    fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(Instant::now() < deadline, "{what}: {:?}", self.told);
            if self.server.events().next(&mut self.batch, Some(Duration::from_millis(20))) == Next::Stopped {
                assert!(done(self), "{what}: stopped, {:?}", self.told);
                return;
            }
            for event in self.batch.iter() {
                match event {
                    Event::PipeReady(id) => *self.ready.entry(id).or_default() += 1,
                    Event::PipeRoom(id) => *self.room.entry(id).or_default() += 1,
                    Event::Open(open) => {
                        self.opened.push(open.conn);
                        self.told.push(format!("open {:?} {:?}", open.peer.map(|peer| peer.port()), open.adopted));
                    }
                    Event::Text(_, text) => self.told.push(text.to_owned()),
                    Event::Binary(_, bytes) => self.told.push(format!("{} bytes", bytes.len())),
                    Event::Close(close) => self.told.push(format!("close {} {}", close.code, close.clean)),
                    Event::AdoptionEnded { tag, code, status } => {
                        self.told.push(format!("ended {tag} {} {status}", code.map_or("-", Code::name)));
                    }
                    _ => {}
                }
            }
        }
    }

    fn until_told(&mut self, what: &str) {
        self.until(what, |app| app.told.iter().any(|told| told == what));
    }

    /// Takes of a pipe until `done`; returns all.
    fn take_until(&mut self, pipe: &Pipe, into: &mut Vec<u8>, done: impl Fn(&[u8], bool) -> bool) {
        self.until("bytes", |_| {
            let taken = pipe.take(into, usize::MAX);
            done(into, taken.is_ended)
        });
    }

    /// A pipe with an open connection behind it.
    fn open(&mut self) -> Pipe {
        let pipe = self.adopt(head("https://a.example"));
        let mut answer = Vec::new();
        self.take_until(&pipe, &mut answer, |bytes, _| bytes.ends_with(b"\r\n\r\n"));
        assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
        let before = self.opened.len();
        self.until("open", |app| !app.opened.is_empty() && app.opened.len() >= before);
        pipe
    }

    fn is_quiet(stats: &Stats) -> bool {
        [stats.open, stats.connections, stats.outbox_bytes, stats.pipe_bytes, stats.pending_auth, stats.refusing]
            == [0; 6]
    }

    /// Nothing is left of anybody.
    fn expect_nothing_left(&mut self) {
        let handle = self.handle();
        self.until("nothing left", |_| Self::is_quiet(&handle.stats()));
        self.batch = EventBatch::new();
        self.until("an empty inbox", |app| {
            app.batch = EventBatch::new();
            handle.stats().inbox_bytes == 0
        });
    }
}

/// A masked close frame, with the key 0.
fn close(code: u16) -> Vec<u8> {
    [&[0x88, 0x82, 0, 0, 0, 0][..], &code.to_be_bytes()].concat()
}

fn long_text(len: u16) -> Vec<u8> {
    let mut frame = [&[0x81, 0xfe][..], &len.to_be_bytes(), &[0; 4]].concat();
    frame.resize(frame.len() + usize::from(len), b'x');
    frame
}

/// TLS of another library ends in the turn in which the peer does: an answer to what is read then must not be what ends it.
#[test]
fn what_was_pushed_before_an_abort_is_told_and_its_close_frame_as_well() {
    let mut app = Application::start(r#","rate_limit":null"#);
    let pipe = app.open();
    let ping = [0x89, 0x80, 0, 0, 0, 0];
    let said = [&ping[..], &long_text(60_000).repeat(20), &close(4000)].concat();
    pipe.push(&said);
    pipe.abort();
    app.until("close", |app| app.told.iter().any(|told| told.starts_with("close")));
    assert_eq!(app.told.iter().filter(|told| told.len() == 60_000).count(), 20);
    assert!(app.told.last().is_some_and(|last| last.starts_with("close 4000")), "{:?}", app.told.last());
    app.expect_nothing_left();
}

#[test]
fn a_pipe_opens_talks_and_closes_as_a_socket_does() {
    let mut app = Application::start("");
    let peer = "203.0.113.9:4321".parse().ok();
    let local = "198.51.100.1:443".parse().ok();
    let received = [&head("https://a.example")[..], &text("early")].concat();
    let adoption = Adoption { peer, local, received, tag: Some(7), is_secure: true };
    let pipe = app.handle().adopt_pipe(adoption).unwrap();
    app.until_told("early");
    assert_eq!(app.told, ["open Some(4321) Some(7)", "early"]);
    pipe.push(&text("later"));
    app.until_told("later");
    let conn = app.opened[0];
    app.handle().send_text(conn, "hi").unwrap();
    let mut taken = Vec::new();
    app.take_until(&pipe, &mut taken, |bytes, _| bytes.ends_with(b"\x81\x02hi"));
    assert!(taken.starts_with(b"HTTP/1.1 101 "));
    pipe.push(&close(1000));
    app.until_told("close 1000 true");
    let mut taken = Vec::new();
    app.take_until(&pipe, &mut taken, |_, is_ended| is_ended);
    assert_eq!(taken, [0x88, 2, 3, 232]);
    app.expect_nothing_left();
}

#[test]
fn a_refusal_is_taken_whole_and_the_tag_comes_back_with_it() {
    let mut app = Application::start("");
    let body = vec![b'x'; 300_000];
    let refused = head("https://evil.example");
    let post = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n";
    let health = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    let early = [&refused[..], &body].concat();
    for (tag, received, status, ended) in [
        (1, &refused[..], "403 ", "ended 1 origin_denied 403"),
        (2, &early[..], "403 ", "ended 2 origin_denied 403"),
        (3, &post[..], "405 ", "ended 3 method_not_allowed 405"),
        (4, &health[..], "200 ", "ended 4 - 200"),
    ] {
        let adoption = Adoption { received: received.to_vec(), tag: Some(tag), ..Adoption::default() };
        let pipe = app.handle().adopt_pipe(adoption).unwrap();
        let mut answer = Vec::new();
        app.take_until(&pipe, &mut answer, |_, is_ended| is_ended);
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{answer}");
        assert!(pipe.push(b"still more of the body"));
        app.until_told(ended);
    }
    assert_eq!(app.told.len(), 4, "{:?}", app.told);
    app.expect_nothing_left();
}

#[test]
fn a_head_comes_in_pieces_and_an_end_in_between_is_gone() {
    let mut app = Application::start("");
    let head = head("https://a.example");
    let pipe = app.adopt(Vec::new());
    head.chunks(7).for_each(|piece| assert!(pipe.push(piece)));
    let mut answer = Vec::new();
    app.take_until(&pipe, &mut answer, |bytes, _| bytes.ends_with(b"\r\n\r\n"));
    assert!(answer.starts_with(b"HTTP/1.1 101 "));
    drop(pipe);
    app.until_told("close 1006 false");
    for (tag, ends) in [(1, Pipe::end as fn(&Pipe)), (2, Pipe::abort), (3, |_| {})] {
        let adoption = Adoption { received: head[..50].to_vec(), tag: Some(tag), ..Adoption::default() };
        let pipe = app.handle().adopt_pipe(adoption).unwrap();
        pipe.push(&head[50..60]);
        ends(&pipe);
        if tag == 1 {
            app.take_until(&pipe, &mut Vec::new(), |bytes, is_ended| bytes.is_empty() && is_ended);
        }
        drop(pipe);
        app.until_told(&format!("ended {tag} - 0"));
    }
    app.expect_nothing_left();
}

#[test]
fn a_head_that_never_comes_times_out() {
    let mut app = Application::start(r#", "handshake_timeout_ms": 200"#);
    let adoption = Adoption { received: b"GET / HTTP/1.1\r\n".to_vec(), tag: Some(5), ..Adoption::default() };
    let pipe = app.handle().adopt_pipe(adoption).unwrap();
    let mut answer = Vec::new();
    app.take_until(&pipe, &mut answer, |_, is_ended| is_ended);
    assert!(answer.starts_with(b"HTTP/1.1 408 "), "{}", String::from_utf8_lossy(&answer));
    app.until_told("ended 5 handshake_timeout 408");
    app.expect_nothing_left();
}

/// RFC 6455 section 7.1.1: the peer may end its side behind its close frame, and still has its answer.
#[test]
fn a_half_close_still_brings_what_is_under_way() {
    let mut app = Application::start("");
    let pipe = app.open();
    pipe.push(&text("last"));
    pipe.end();
    app.until_told("close 1006 false");
    assert!(app.told.iter().any(|told| told == "last"));
    let mut taken = Vec::new();
    app.take_until(&pipe, &mut taken, |_, is_ended| is_ended);
    app.expect_nothing_left();
}

#[test]
fn a_peer_that_floods_waits_while_the_application_does_not_take_its_events() {
    let mut app = Application::start(
        r#", "max_inbox_bytes": 262144, "rate_limit": null, "max_message_bytes": 65536, "handshakes_per_ip": null"#,
    );
    let pipe = app.open();
    let frame = long_text(60_000);
    // Until there is no room although the shard has had time to read.
    let deadline = Instant::now() + PATIENCE;
    let mut pushed = 0;
    let mut held_up = 0;
    while held_up < 50 {
        assert!(Instant::now() < deadline, "the pipe takes without end: {pushed}");
        let waits = app.handle().stats().pipe_bytes;
        if waits > 64 * 1024 {
            held_up += 1;
            std::thread::yield_now();
            std::thread::park_timeout(Duration::from_millis(5));
            continue;
        }
        held_up = 0;
        pipe.push(&frame);
        pushed += 1;
    }
    assert!(pushed < 40, "{pushed}");
    assert!(app.handle().stats().pipe_bytes < 200_000);
    let text = "x".repeat(60_000);
    app.until("all messages", |app| app.told.iter().filter(|told| **told == text).count() == pushed);
    let id = pipe.id();
    app.until("room", |app| app.room.get(&id).is_some_and(|times| *times > 0));
    drop(pipe);
    app.until_told("close 1006 false");
    app.expect_nothing_left();
}

#[test]
fn a_peer_that_does_not_read_is_counted_and_closed() {
    let mut app = Application::start(r#", "max_outbox_bytes": 200000, "close_timeout_ms": 200"#);
    let pipe = app.open();
    let (handle, conn) = (app.handle(), app.opened[0]);
    let payload = vec![0; 60_000];
    for _ in 0..4 {
        handle.send_binary(conn, &payload).unwrap();
    }
    app.until("unsent bytes", |_| handle.stats().outbox_bytes > 100_000);
    assert!(handle.buffered_bytes(conn) > 100_000 && handle.stats().pipe_bytes == 65_536);
    let mut taken = Vec::new();
    app.take_until(&pipe, &mut taken, |bytes, _| bytes.len() == 4 * 60_004);
    app.until("drained", |_| handle.buffered_bytes(conn) == 0);
    for _ in 0..5 {
        handle.send_binary(conn, &payload).unwrap();
    }
    app.until_told("close 1008 false");
    app.take_until(&pipe, &mut taken, |_, is_ended| is_ended);
    app.expect_nothing_left();
}

#[test]
fn a_pipe_that_breaks_while_it_is_paused_is_noticed() {
    let mut app = Application::start("");
    let pipe = app.open();
    let (handle, conn) = (app.handle(), app.opened[0]);
    handle.pause(conn).unwrap();
    pipe.push(&text("unread"));
    pipe.abort();
    app.until_told("close 1006 false");
    app.expect_nothing_left();
}

#[test]
fn another_thread_may_take() {
    // It may be slow where others have the machine.
    let mut app = Application::start(r#", "close_timeout_ms": 60000"#);
    let pipe = app.open();
    let (handle, conn) = (app.handle(), app.opened[0]);
    let other = pipe.clone();
    let taker = std::thread::spawn(move || {
        let (mut taken, deadline) = (Vec::new(), Instant::now() + PATIENCE);
        let mut has_answered = false;
        while !other.take(&mut taken, 1000).is_ended {
            assert!(Instant::now() < deadline);
            if !has_answered && taken.ends_with(&[0x88, 2, 3, 232]) {
                has_answered = other.push(&close(1000));
            }
            std::thread::yield_now();
        }
        taken
    });
    let mut expected = Vec::new();
    for number in 0..2000_u32 {
        let payload = format!("{number:0100}");
        expected.extend([&[0x81, 100], payload.as_bytes()].concat());
        handle.send_text(conn, &payload).unwrap();
    }
    handle.close(conn, 1000, "").unwrap();
    expected.extend([0x88, 2, 3, 232]);
    let taken = taker.join().unwrap();
    let differs = taken.iter().zip(&expected).position(|(taken, expected)| taken != expected);
    assert!(taken == expected, "{} of {} bytes, {differs:?}", taken.len(), expected.len());
    app.until_told("close 1000 true");
    app.expect_nothing_left();
}

#[test]
fn a_drain_and_a_stop_end_pipes() {
    let mut app = Application::start(r#", "drain_close_code": 1001"#);
    let pipe = app.open();
    app.handle().drain(10_000, 0);
    let mut taken = Vec::new();
    app.take_until(&pipe, &mut taken, |bytes, _| bytes.len() >= 4);
    assert_eq!(taken[..4], [0x88, taken[1], 3, 233]);
    pipe.push(&close(1001));
    app.take_until(&pipe, &mut taken, |_, is_ended| is_ended);
    app.until("the end", |app| app.told.iter().any(|told| told.starts_with("close 1001")));

    let mut app = Application::start("");
    let (open, waits) = (app.open(), app.adopt(Vec::new()));
    let adoption = Adoption { tag: Some(9), ..Adoption::default() };
    let tagged = app.handle().adopt_pipe(adoption).unwrap();
    app.handle().stop();
    app.until_told("ended 9 - 0");
    for pipe in [open, waits, tagged] {
        app.take_until(&pipe, &mut Vec::new(), |_, is_ended| is_ended);
        assert!(pipe.push(b"x"));
    }
    app.until("the end", |app| app.told.iter().any(|told| told.starts_with("close")));
    let handle = app.handle();
    drop(app);
    assert_eq!(handle.adopt_pipe(head("https://a.example")).unwrap_err().code(), "stopped");
    assert_eq!(handle.stats().pipe_bytes, 0);
}

/// Wherever in its life a pipe ends, in whatever way, and whether its bytes are taken or not: its tag comes back once, an open is
/// followed by a close, and nothing is left.
#[test]
fn a_pipe_may_end_anywhere() {
    let mut app =
        Application::start(r#", "handshakes_per_ip": null, "max_connections_per_ip": 1000, "close_timeout_ms": 200"#);
    let head = head("https://a.example");
    let mut pieces: Vec<Vec<u8>> = head.chunks(60).map(<[u8]>::to_vec).collect();
    pieces.extend([text("one"), long_text(40_000), long_text(40_000)[..900].to_vec()]);
    let ends: [fn(Pipe); 4] = [drop, |pipe| pipe.abort(), |pipe| pipe.end(), |pipe| drop((pipe.end(), pipe.clone()))];
    let mut tags = 0..;
    for cut in 0..=pieces.len() {
        for (how, end) in ends.iter().enumerate() {
            for takes in [false, true] {
                let tag = tags.next();
                let adoption = Adoption { tag, ..Adoption::default() };
                let pipe = app.handle().adopt_pipe(adoption).unwrap();
                pieces[..cut].iter().for_each(|piece| assert!(pipe.push(piece) || cut == pieces.len() || cut > 2));
                if takes {
                    let _ = pipe.take(&mut Vec::new(), 50);
                }
                // Some of them when the shard has come to it, most before.
                if (cut + how) % 3 == 0 {
                    app.until("a moment", |app| app.handle().stats().pipe_bytes < 100_000);
                }
                end(pipe);
            }
        }
    }
    let count = tags.start as usize;
    let returned = |app: &Application, tag: usize| {
        let (open, ended) = (format!("open None Some({tag})"), format!("ended {tag} "));
        app.told.iter().filter(|told| **told == open || told.starts_with(&ended)).count()
    };
    app.until("every tag", |app| (0..count).all(|tag| returned(app, tag) > 0));
    app.expect_nothing_left();
    for tag in 0..count {
        assert_eq!(returned(&app, tag), 1, "{tag}: {:?}", app.told);
    }
    let closes = app.told.iter().filter(|told| told.starts_with("close")).count();
    assert_eq!((app.opened.len(), closes > 0), (closes, true));
}

/// No thread for each, and no memory of buffers.
#[test]
fn ten_thousand_pipes_are_no_threads() {
    let mut app = Application::start(
        r#", "threads": 2, "max_connections": 20000, "max_connections_per_ip": 20000, "handshakes_per_ip": null,
            "ping_interval_ms": 0, "idle_timeout_ms": 0, "max_connections_per_user": 20000"#,
    );
    let threads = || std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    let before = threads();
    let pipes: Vec<_> = (0..10_000).map(|_| app.adopt(head("https://a.example"))).collect();
    app.until("all open", |app| app.opened.len() == pipes.len());
    // Other tests of this binary have threads of their own.
    assert!(threads() < before + 500, "{} threads", threads());
    let mut answer = Vec::new();
    for pipe in &pipes {
        answer.clear();
        app.take_until(pipe, &mut answer, |bytes, _| bytes.ends_with(b"\r\n\r\n"));
        pipe.push(&text("x"));
    }
    app.until("all heard", |app| app.told.iter().filter(|told| *told == "x").count() == pipes.len());
    let handle = app.handle();
    handle.broadcast_text(To::Everyone, "y", &[]).unwrap();
    for pipe in &pipes {
        answer.clear();
        app.take_until(pipe, &mut answer, |bytes, _| bytes == b"\x81\x01y");
    }
    assert_eq!(handle.stats().pipe_bytes, 0);
    drop(pipes);
    app.until("all closed", |_| handle.stats().open == 0);
    app.expect_nothing_left();
}

#[test]
fn plain_text_on_a_public_address_is_refused_unless_it_is_secure() {
    let app = Application::start("");
    let (inside, outside) = ("127.0.0.1:1".parse().ok(), "203.0.113.9:1".parse().ok());
    for (peer, local, is_secure, is_taken) in [
        (None, None, false, true),
        (inside, None, false, true),
        (outside, None, false, false),
        (outside, inside, false, true),
        (outside, outside, false, false),
        (outside, outside, true, true),
    ] {
        let adoption = Adoption { peer, local, is_secure, ..Adoption::default() };
        let adopted = app.handle().adopt_pipe(adoption);
        assert_eq!(adopted.is_ok(), is_taken, "{peer:?} {local:?} {is_secure}");
        assert!(adopted.err().is_none_or(|error| error.to_string().contains("dangerously_allow_plaintext")));
    }
}

#[test]
fn a_socket_without_a_peer_is_not_adopted() {
    let app = Application::start("");
    let unconnected = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    assert!(matches!(app.handle().adopt(unconnected.into(), Vec::new()), Err(Error::ConnectionClosed)));
    #[cfg(unix)]
    {
        let unconnected = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        let adopted = app.handle().adopt_unix(unconnected.into(), Adoption::default());
        assert!(matches!(adopted, Err(Error::ConnectionClosed)));
    }
}

#[cfg(unix)]
#[test]
fn a_unix_socket_is_adopted() {
    use std::os::unix::net::UnixStream;
    let mut app = Application::start("");
    let (mut client, server) = UnixStream::pair().unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let adoption = Adoption { received: head("https://a.example"), tag: Some(3), ..Adoption::default() };
    app.handle().adopt_unix(server, adoption).unwrap();
    client.write_all(&text("hi")).unwrap();
    app.until_told("hi");
    assert_eq!(app.told, ["open None Some(3)", "hi"]);
    app.handle().close(app.opened[0], 1000, "").unwrap();
    client.write_all(&close(1000)).unwrap();
    let mut all = Vec::new();
    client.read_to_end(&mut all).unwrap();
    assert!(all.starts_with(b"HTTP/1.1 101 ") && all.ends_with(&[0x88, 2, 3, 232]));
    app.until_told("close 1000 true");
    app.expect_nothing_left();
}

#[test]
fn a_tcp_socket_knows_its_addresses_and_a_tag_of_it_comes_back_once() {
    let mut server = start("");
    let (client, socket) = accepted();
    let (peer, local) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
    let adoption = Adoption { received: head("https://a.example"), tag: Some(11), ..Adoption::default() };
    server.handle().adopt(socket, adoption).unwrap();
    let mut batch = EventBatch::new();
    assert_eq!(server.events().next(&mut batch, Some(PATIENCE)), Next::Events);
    let Some(Event::Open(open)) = batch.get(0) else { panic!("no open") };
    assert_eq!((open.peer, open.local, open.adopted), (Some(peer), Some(local), Some(11)));
    let (mut client, socket) = accepted();
    let adoption = Adoption { received: head("https://evil.example"), tag: Some(12), ..Adoption::default() };
    server.handle().adopt(socket, adoption).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    let told = tell(&mut server, 2);
    assert!(told.iter().any(|told| told.contains("tag: 12") && told.contains("403")), "{told:?}");
}
