//! A shard without its thread: each test runs its steps itself, one after the other, and nothing happens in between.

use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::AtomicUsize;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

mod compression;

use super::*;
use crate::driver::bans::Whom;
use crate::driver::events::{Event, EventBatch};
use crate::driver::handle::{Sent, ServerHandle};
use crate::driver::inline::{Handled, Inline, InlineMessage, Replies};
use crate::driver::reach::To;
use crate::driver::socket::Socket;
use crate::driver::state::{idle, idle_with};
use crate::driver::tls::{TlsStream, server_config};
use wsguard_proto::config::{TlsOptions, TlsVersion};
use wsguard_proto::deflate::Agreed;

/// The shard of this thread, and the application's side of it.
struct Rig {
    state: Arc<ServerState>,
    handle: ServerHandle,
    runtime: tokio::runtime::Runtime,
    batch: EventBatch,
}

impl Drop for Rig {
    fn drop(&mut self) {
        remove();
    }
}

impl Rig {
    fn new(more: &str, inline: Option<Box<dyn Inline>>) -> Self {
        Self::rated(&format!("null {more}"), inline)
    }

    /// The same, with this `rate_limit`, of which each connection has buckets of its own.
    fn rated(rate_limit: &str, inline: Option<Box<dyn Inline>>) -> Self {
        let state = idle_with(&format!(r#""threads": 1, "protocol": "raw", "rate_limit": {rate_limit}"#), inline);
        install(Shard::new(Arc::clone(&state), 0));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let handle = ServerHandle { state: Arc::clone(&state) };
        Self { state, handle, runtime, batch: EventBatch::new() }
    }

    /// Both ends of a connection. The runtime does not know of the server's end whether it can be written before it runs.
    fn socket(&self) -> (TcpStream, Socket) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        server.set_nonblocking(true).unwrap();
        let _runtime = self.runtime.enter();
        (client, Socket::Tcp(tokio::net::TcpStream::from_std(server).unwrap()))
    }

    /// Opens a connection of `user`, of which `received` was read already. The application knows of it.
    fn open(&mut self, stream: Stream, user: &str, received: Vec<u8>) -> ConnectionId {
        self.open_agreed(stream, user, received, None)
    }

    /// The same, where the handshake has agreed to compression.
    fn open_agreed(&mut self, stream: Stream, user: &str, received: Vec<u8>, deflate: Option<Agreed>) -> ConnectionId {
        self.open_with(stream, user, received, Vec::new(), deflate)
    }

    /// The same, with a `head` that is not sent yet.
    fn open_with(
        &mut self,
        stream: Stream,
        user: &str,
        received: Vec<u8>,
        head: Vec<u8>,
        deflate: Option<Agreed>,
    ) -> ConnectionId {
        let (policy, now) = (&self.state.set().top, self.state.clock.now());
        let mut seat = self.state.limits.enter_server(policy).unwrap();
        seat.enter_user(user, policy, now).unwrap();
        let rate_key = policy.rate_limit.as_ref().map(|_| Arc::default());
        let params = ConnectionParams { rate_key, expires_at: Moment::NEVER, deflate, ..ConnectionParams::default() };
        let load = self.state.shards[0].load.hold_one();
        let (ip, peer, granted) = (None, None, 0);
        let generation = self.state.set().generation;
        let admitted = Admitted { generation, path: "/".into(), credential: None, is_reported: false };
        let policy = Arc::clone(policy);
        let new = NewSession {
            hs: HandshakeId::default(),
            stream,
            params,
            policy,
            admitted,
            seat,
            ip,
            peer,
            granted,
            entered: None,
            head,
            received,
            load,
        };
        let open = crate::binding::blank_open;
        with_shard(|shard| shard.adopt(new, Proof::Nothing, open));
        let opened = self.events();
        assert_eq!(opened.len(), 1);
        self.batch.get(0).unwrap().conn().unwrap()
    }

    /// The application lets its batch go and takes the next; in words.
    fn events(&mut self) -> Vec<String> {
        self.batch.release();
        self.state.take_events(0, &mut self.batch);
        let tell = |event: Event<'_>| match event {
            Event::Close(close) => format!("close {}", close.code),
            Event::Text(_, text) => format!("text of {}", text.len()),
            Event::Drained(_) => "drained".to_owned(),
            Event::Violation(violation) => violation.code.to_string(),
            other => format!("{other:?}"),
        };
        self.batch.iter().map(tell).collect()
    }

    fn run_session(conn: ConnectionId) {
        with_shard(|shard| shard.run_session(conn.slot(), conn.generation()));
    }

    /// Reloads with `paths`; returns the generation. The shard has not come to it yet.
    fn reload(&self, paths: &str) -> u64 {
        let json = format!(
            r#"{{"origins": ["https://a.example"], "auth": "none", "threads": 1, "protocol": "raw", "rate_limit": null {paths}}}"#
        );
        self.state.reload(wsguard_proto::config::Options::from_json(&json).unwrap()).unwrap()
    }

    fn messages_in(&self) -> u64 {
        self.handle.stats().messages_in
    }
}

/// A text frame of `len` bytes, masked with the key 0.
fn text(len: usize) -> Vec<u8> {
    let mut frame = vec![0x81];
    match len {
        0..126 => frame.push(0x80 | len as u8),
        _ => frame.extend([&[0xfe][..], &(len as u16).to_be_bytes()].concat()),
    }
    frame.extend([0; 4]);
    frame.resize(frame.len() + len, b'x');
    frame
}

/// Answers every message with a thousand bytes.
struct Generous(Arc<AtomicUsize>);

impl Inline for Generous {
    fn message(&self, _: ConnectionId, _: InlineMessage<'_>, replies: &mut Replies<'_>) -> Handled {
        self.0.fetch_add(1, Ordering::Relaxed);
        replies.binary(&[0; 1000]);
        Handled::Done
    }
}

/// A thousand requests in one read may be answered with a thousand times their size.
#[test]
fn answers_of_an_inline_handler_are_bounded_before_more_is_asked_of_it() {
    let asked = Arc::new(AtomicUsize::new(0));
    let mut rig = Rig::new(r#", "max_outbox_bytes": 10000"#, Some(Box::new(Generous(Arc::clone(&asked)))));
    let (_client, socket) = rig.socket();
    let conn = rig.open(Stream::Plain(socket), "alice", text(1).repeat(1000));
    assert!(rig.events().is_empty(), "the application has let the open go");
    Rig::run_session(conn);
    assert_eq!(asked.load(Ordering::Relaxed), 10, "as many answers as exceed max_outbox_bytes");
}

/// What the shard has taken from its mailbox is in no level until it has offered it to the socket.
#[test]
fn what_a_shard_has_come_to_waits_until_it_is_written() {
    let mut rig = Rig::new(r#", "max_outbox_bytes": 100000"#, None);
    let (_client, socket) = rig.socket();
    let conn = rig.open(Stream::Plain(socket), "alice", Vec::new());
    assert_eq!(rig.handle.send_text(conn, &"x".repeat(50_000)).unwrap(), Sent::Queued);
    let slot = rig.state.shards[0].slots.get(conn.slot()).unwrap();
    slot.arrive(50_004);
    assert!(rig.handle.is_queued(conn), "an event that is on its way speaks of something else");
    assert_eq!(rig.handle.buffered_bytes(conn), 50_004);
    slot.post(50_004);
    rig.runtime.block_on(tokio::task::yield_now());
    run_commands();
    assert_eq!(rig.events(), ["drained"]);
    assert!(!rig.handle.is_queued(conn));
}

/// The outbox becomes empty while more lies in the mailbox. The application is told when that is written, too.
#[test]
fn drained_waits_for_what_has_not_come_to_the_shard() {
    let mut rig = Rig::new(r#", "max_outbox_bytes": 16777216"#, None);
    let (mut client, socket) = rig.socket();
    client.set_nonblocking(true).unwrap();
    let conn = rig.open(Stream::Plain(socket), "alice", Vec::new());
    assert!(rig.events().is_empty(), "the application has let the open go");
    let read_until = |rig: &Rig, client: &mut TcpStream, left: usize| {
        let mut sink = vec![0; 1 << 20];
        while rig.handle.buffered_bytes(conn) > left {
            while matches!(client.read(&mut sink), Ok(1..)) {}
            rig.runtime.block_on(tokio::task::yield_now());
            Rig::run_session(conn);
        }
    };
    rig.runtime.block_on(tokio::task::yield_now());
    rig.handle.send_text(conn, &"x".repeat(12_000_000)).unwrap();
    run_commands();
    assert_eq!(rig.handle.send_text(conn, &"y".repeat(1000)).unwrap(), Sent::Queued);
    read_until(&rig, &mut client, 1004);
    assert!(rig.events().is_empty() && rig.handle.is_queued(conn), "1000 bytes are in the mailbox");
    run_commands();
    read_until(&rig, &mut client, 0);
    assert_eq!((rig.events(), rig.handle.is_queued(conn)), (vec!["drained".to_owned()], false));
}

/// Frames for a connection that takes none any more: nothing of them waits, though nobody will read them.
#[test]
fn what_is_dropped_does_not_wait() {
    let mut rig = Rig::new(r#", "max_outbox_bytes": 1000"#, None);
    let (_client, socket) = rig.socket();
    let conn = rig.open(Stream::Plain(socket), "alice", Vec::new());
    rig.runtime.block_on(tokio::task::yield_now());
    rig.handle.close(conn, 1000, "").unwrap();
    assert_eq!(rig.handle.send_text(conn, &"x".repeat(900)).unwrap(), Sent::Queued);
    run_commands();
    assert!(rig.handle.is_open(conn), "its closing handshake goes on");
    assert_eq!(rig.handle.buffered_bytes(conn), 0);
    assert_eq!(rig.handle.send_text(conn, "x").unwrap(), Sent::Sent);
}

/// The 101, a message, then nothing more of the application: a peer that reads has all of it.
#[test]
fn what_was_said_before_the_socket_is_dropped_is_offered_to_it() {
    let mut rig = Rig::new(r#", "max_outbox_bytes": 16777216"#, None);
    let (mut client, socket) = rig.socket();
    let conn = rig.open_with(Stream::Plain(socket), "alice", Vec::new(), b"the 101".to_vec(), None);
    rig.runtime.block_on(tokio::task::yield_now());
    rig.handle.send_text(conn, "last").unwrap();
    rig.handle.terminate(conn).unwrap();
    run_commands();
    assert_eq!(rig.events(), ["close 1006"]);
    let mut said = Vec::new();
    client.read_to_end(&mut said).unwrap();
    assert_eq!(said, b"the 101\x81\x04last", "and no close frame");

    // Also in the turn of its opening, when nobody knows yet whether the socket has room.
    let (mut client, socket) = rig.socket();
    let conn = rig.open_with(Stream::Plain(socket), "alice", Vec::new(), b"the 101".to_vec(), None);
    assert!(rig.events().is_empty(), "the application has let the open go");
    rig.handle.send_text(conn, "last").unwrap();
    rig.handle.terminate(conn).unwrap();
    run_commands();
    assert_eq!((rig.events(), rig.handle.stats().bytes_out), (vec!["close 1006".to_owned()], 12));
    let mut said = Vec::new();
    client.read_to_end(&mut said).unwrap();
    assert_eq!(said, b"the 101\x81\x04last");

    // What the socket has no room for is not waited for.
    let (mut client, socket) = rig.socket();
    let conn = rig.open(Stream::Plain(socket), "alice", Vec::new());
    assert!(rig.events().is_empty(), "the application has let the open go");
    rig.runtime.block_on(tokio::task::yield_now());
    rig.handle.send_text(conn, &"x".repeat(16_000_000)).unwrap();
    rig.handle.terminate(conn).unwrap();
    run_commands();
    assert_eq!((rig.events(), rig.handle.stats().open), (vec!["close 1006".to_owned()], 0));
    let mut said = Vec::new();
    client.read_to_end(&mut said).unwrap();
    assert!(!said.is_empty() && said.len() < 16_000_000, "{}", said.len());
}

/// A handler holds its commands back by a cork, and may go on for long.
#[test]
fn a_user_is_disconnected_at_once_and_behind_what_was_sent_before() {
    let mut rig = Rig::new("", None);
    let (mut client, socket) = rig.socket();
    let conn = rig.open(Stream::Plain(socket), "alice", Vec::new());
    assert!(rig.events().is_empty(), "the application has let the open go");
    let handle = rig.handle.clone();
    let cork = handle.cork();
    handle.send_text(conn, "last").unwrap();
    assert!(!rig.state.shards[0].has_commands(), "it is corked");
    let number = handle.disconnect_user("alice").unwrap();
    assert!(rig.state.shards[0].has_commands());
    rig.runtime.block_on(tokio::task::yield_now());
    run_commands();
    assert_eq!((number > 0, rig.events()), (true, vec!["session_revoked".to_owned()]));
    drop(cork);
    let mut said = [0; 10];
    client.read_exact(&mut said).unwrap();
    assert_eq!((&said[..6], said[6]), (&b"\x81\x04last"[..], 0x88), "the message, then the close frame");
}

/// Two reloads in a row, and a connection that opens by the second before its shard has come to the first, which does not serve
/// its path.
#[test]
fn a_connection_does_not_go_back_to_a_set_before_its_own() {
    let mut rig = Rig::new("", None);
    assert_eq!((rig.reload(r#", "paths": ["/elsewhere"]"#), rig.reload("")), (2, 3));
    let (_client, socket) = rig.socket();
    rig.open(Stream::Plain(socket), "alice", Vec::new());
    run_commands();
    assert!(rig.events().is_empty(), "nothing has closed it");
    assert_eq!(rig.reload(r#", "paths": ["/elsewhere"]"#), 4);
    run_commands();
    assert_eq!(rig.events(), ["session_revoked"]);
}

/// A ban closes what is open at the call, also where it is lifted or over before a shard has come to it.
#[test]
fn a_ban_that_is_lifted_at_once_has_closed_what_was_open() {
    let mut rig = Rig::new("", None);
    let (_client, socket) = rig.socket();
    rig.open(Stream::Plain(socket), "alice", Vec::new());
    let (_other, socket) = rig.socket();
    let other = rig.open(Stream::Plain(socket), "bob", Vec::new());
    let handle = rig.handle.clone();
    handle.ban(Whom::User("alice"), None, "").unwrap();
    assert!(handle.unban(Whom::User("alice")).unwrap());
    run_commands();
    assert_eq!(rig.events(), ["banned"]);
    assert!(handle.is_open(other));
}

/// Who hears is decided at the call, also where that is everyone: whoever opens while the command waits is not meant.
#[test]
fn nobody_who_opens_later_is_part_of_everyone() {
    let mut rig = Rig::new("", None);
    let (mut first, socket) = rig.socket();
    let _first = rig.open(Stream::Plain(socket), "alice", Vec::new());
    let handle = rig.handle.clone();
    let cork = handle.cork();
    handle.broadcast_text(To::Everyone, "only you", &[]).unwrap();
    handle.close_all(To::Everyone, 4000, "enough", &[]).unwrap();
    let (mut later, socket) = rig.socket();
    let newcomer = rig.open(Stream::Plain(socket), "bob", Vec::new());
    drop(cork);
    handle.broadcast_text(To::Everyone, "both", &[]).unwrap();
    rig.runtime.block_on(tokio::task::yield_now());
    run_commands();
    assert!(handle.is_open(newcomer));
    let (mut to_first, mut to_later) = ([0; 12], [0; 6]);
    first.read_exact(&mut to_first).unwrap();
    later.read_exact(&mut to_later).unwrap();
    assert_eq!((&to_first[..10], to_first[10]), (&b"\x81\x08only you"[..], 0x88));
    assert_eq!(&to_later, b"\x81\x04both");
}

/// What TLS has decrypted was received, whether or not the connection had room for it.
#[test]
fn a_drain_handles_what_tls_has_decrypted_before_it() {
    let mut rig = Rig::new(r#", "max_inbox_bytes": 16384"#, None);
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()).unwrap();
    let config = server_config(&TlsOptions { cert, key, client_ca: None, min_version: TlsVersion::V1_3 }).unwrap();
    let (mut client, socket) = rig.socket();
    let peer = std::thread::spawn(move || {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = builder.with_root_certificates(roots).with_no_client_auth();
        let mut tls = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
        while tls.is_handshaking() {
            tls.complete_io(&mut client).unwrap();
        }
        (client, tls)
    });
    let tls = rig.runtime.block_on(TlsStream::accept(config, socket, async || {}, || {})).unwrap();
    let (mut client, mut tls_client) = peer.join().unwrap();
    // One record: it is decrypted whole, or not at all.
    tls_client.writer().write_all(&text(3500).repeat(4)).unwrap();
    while tls_client.wants_write() {
        tls_client.write_tls(&mut client).unwrap();
    }
    let conn = rig.open(Stream::Tls(Box::new(tls)), "alice", Vec::new());
    while rig.messages_in() == 0 {
        rig.runtime.block_on(tokio::task::yield_now());
        Rig::run_session(conn);
    }
    let before = rig.messages_in();
    assert!(before < 4, "the inbox has no room for all");
    rig.handle.drain(u64::MAX, 0);
    run_commands();
    with_shard(Shard::run_timers);
    let mut told = rig.events();
    for _ in 0..4 {
        Rig::run_session(conn);
        told.extend(rig.events());
    }
    assert_eq!(told, ["text of 3500"; 4]);
}

/// What a shard keeps for the next connections, in bytes or entries, and whether its pool has the buffer that was given back.
fn kept() -> (usize, bool) {
    with_shard(|shard| {
        let own = shard.sessions.capacity() + shard.timers.capacity() + shard.out.capacity() + shard.touched.capacity();
        let passed_on =
            shard.commands.capacity() + shard.mailbox().capacity() + shard.state.events_capacity(shard.index);
        let marked = shard.pool.buffers.take(1024);
        let is_there = marked.capacity() == 1500;
        shard.pool.buffers.put(marked);
        (own + passed_on, is_there)
    })
}

/// A minute, because the next visitor mostly comes sooner.
#[test]
fn buffers_go_when_nobody_was_there_for_a_minute() {
    let mut rig = Rig::new("", None);
    let a_minute_later = || {
        with_shard(|shard| shard.free_buffers_at = shard.free_buffers_at.min(shard.state.clock.now()));
        with_shard(Shard::run_timers);
    };
    let (client, socket) = rig.socket();
    let conn = rig.open(Stream::Plain(socket), "alice", text(60_000).repeat(3));
    assert!(rig.events().is_empty(), "the application has let the open go");
    with_shard(|shard| shard.pool.buffers.put(Vec::with_capacity(1500)));
    Rig::run_session(conn);
    rig.handle.send_text(conn, &"x".repeat(5000)).unwrap();
    run_commands();
    assert_eq!(rig.events(), ["text of 60000"; 3]);
    a_minute_later();
    assert!(kept().0 > 5000 && kept().1, "{:?}: somebody is there", kept());
    drop(client);
    while rig.handle.stats().open > 0 {
        rig.runtime.block_on(tokio::task::yield_now());
        Rig::run_session(conn);
        with_shard(Shard::run_timers);
        rig.events();
    }
    rig.events();
    rig.events();
    with_shard(Shard::run_timers);
    assert!(kept().0 > 0 && kept().1, "{:?}: not yet", kept());
    a_minute_later();
    assert_eq!(kept(), (0, false));
}

/// A thousand handshakes at once, and a neighbour: how much is done between two of its turns.
#[test]
fn a_storm_of_handshakes_leaves_everybody_a_turn() {
    install(Shard::new(idle(r#""threads": 1"#), 0));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let tasks = tokio::task::LocalSet::new();
    let done = Rc::new(Cell::new(0));
    for number in 0..1000 {
        let done = Rc::clone(&done);
        let step = async move {
            expensive_step().await;
            done.set(done.get() + 1);
        };
        let step = tasks.spawn_local(step);
        if number % 10 == 9 {
            // Whoever waits may leave.
            step.abort();
        }
    }
    let neighbour = async {
        let mut most = 0;
        while done.get() < 900 {
            let before = done.get();
            tokio::task::yield_now().await;
            most = most.max(done.get() - before);
        }
        most
    };
    let most = tasks.block_on(&runtime, neighbour);
    assert!(most <= 2 * EXPENSIVE_STEPS_PER_TURN, "{most} in a row");
    remove();
}
