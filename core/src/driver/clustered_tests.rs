//! Several servers of this process as the nodes of one cluster: what one says, the members on the others have.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::*;
use crate::driver::bans::Whom;
use crate::driver::cluster_fake::Bus;
use crate::driver::{Builder, ConnectionId, Event, EventBatch, Next, Server};
use wsguard_proto::admin::Facts as _;
use wsguard_proto::config::Options;
use wsguard_proto::verdict::Code;

const WAIT: Duration = Duration::from_secs(10);

/// A node of the cluster `name`.
fn node_with(name: &str, protocol: &str, cluster: &str, more: &str) -> Server {
    let json = format!(
        r#"{{"origins": ["https://a.example"], "listen": "127.0.0.1:0", "threads": 1, "protocol": "{protocol}",
            "auth": {{"tokens": [{{"token": "alice", "user": "alice"}}, {{"token": "bob", "user": "bob"}}]}},
            "cluster": {{"url": "redis://127.0.0.1:1", "name": "{name}" {cluster}}} {more}}}"#
    );
    Builder::new().start(Options::from_json(&json).unwrap()).unwrap()
}

fn node(name: &str) -> Server {
    node_with(name, "raw", "", "")
}

/// A peer whose handshake was answered.
struct Peer {
    socket: TcpStream,
    answer: String,
}

impl Peer {
    fn knock(server: &Server, user: &str) -> Self {
        let mut socket = TcpStream::connect(server.address()).unwrap();
        socket.set_read_timeout(Some(WAIT)).unwrap();
        let head = format!(
            "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nOrigin: https://a.example\r\n\
             X-Auth-Token: {user}\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        );
        socket.write_all(head.as_bytes()).unwrap();
        let mut answer = Vec::new();
        let mut byte = [0];
        while !answer.ends_with(b"\r\n\r\n") && socket.read(&mut byte).unwrap() > 0 {
            answer.push(byte[0]);
        }
        Self { socket, answer: String::from_utf8(answer).unwrap() }
    }

    /// Connects; returns the connection's id, too.
    fn open(server: &mut Server, user: &str) -> (Self, ConnectionId) {
        let peer = Self::knock(server, user);
        assert!(peer.answer.starts_with("HTTP/1.1 101"), "{}", peer.answer);
        (peer, next(server, |event| if let Event::Open(open) = event { Some(open.conn) } else { None }))
    }

    /// The first byte and the payload of the next frame.
    fn frame(&mut self) -> (u8, String) {
        let mut header = [0; 2];
        self.socket.read_exact(&mut header).unwrap();
        let mut payload = vec![0; usize::from(header[1])];
        self.socket.read_exact(&mut payload).unwrap();
        (header[0], String::from_utf8_lossy(&payload).into_owned())
    }

    fn text(&mut self) -> String {
        let (first, text) = self.frame();
        assert_eq!(first, 0x81, "{text}");
        text
    }

    /// The code and the reason of the close frame that comes next.
    fn close(&mut self) -> (u16, String) {
        let mut header = [0; 4];
        self.socket.read_exact(&mut header).unwrap();
        assert_eq!(header[0], 0x88);
        let mut reason = vec![0; usize::from(header[1]) - 2];
        self.socket.read_exact(&mut reason).unwrap();
        (u16::from_be_bytes([header[2], header[3]]), String::from_utf8(reason).unwrap())
    }
}

/// The next event that `of` wants.
fn next<R>(server: &mut Server, mut of: impl FnMut(Event<'_>) -> Option<R>) -> R {
    let mut batch = EventBatch::new();
    loop {
        assert_eq!(server.events().next(&mut batch, Some(WAIT)), Next::Events);
        if let Some(found) = batch.iter().find_map(&mut of) {
            return found;
        }
    }
}

/// Looks again and again until it is so.
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + WAIT;
    while !is_so() {
        assert!(Instant::now() < until, "{what}");
        std::thread::yield_now();
    }
}

fn topics(server: &Server) -> Vec<Topic> {
    server.handle().state.cluster.get().unwrap().cluster.topics()
}

#[test]
fn a_message_reaches_members_on_every_node_once_and_in_order() {
    let (mut one, mut two, three) = (node("order"), node("order"), node("order"));
    let bus = Bus::of("order");
    let (mut alice, of_alice) = Peer::open(&mut one, "alice");
    let (mut bob, of_bob) = Peer::open(&mut two, "bob");
    one.handle().join(of_alice, "a").unwrap();
    // Members here alone: nobody else is told.
    one.handle().broadcast_text(To::Room("a"), "here", &[]).unwrap();
    assert_eq!((alice.text(), bus.published.load(Ordering::Relaxed)), ("here".to_owned(), 0));
    two.handle().join(of_bob, "a").unwrap();
    two.handle().join(of_bob, "b").unwrap();
    assert_eq!(topics(&two), [Topic::Room("a".into()), Topic::Room("b".into()), Topic::User("bob".into())]);
    for number in 0..100 {
        let to = if number % 2 == 0 { To::Rooms(&["a", "b"]) } else { To::Everyone };
        one.handle().broadcast_text(to, &number.to_string(), &[of_alice]).unwrap();
    }
    // From a node without members, and to a user.
    three.handle().broadcast_text(To::User("bob"), "100", &[]).unwrap();
    three.handle().broadcast_binary(To::Everyone, b"101", &[]).unwrap();
    for number in 0..=100 {
        assert_eq!(bob.text(), number.to_string());
    }
    assert_eq!(bob.frame(), (0x82, "101".to_owned()));
    assert_eq!(alice.frame(), (0x82, "101".to_owned()), "it was left out before");
    drop((alice, bob));
    eventually("nobody is there", || topics(&one).is_empty() && topics(&two).is_empty());
}

#[test]
fn an_event_is_an_event_on_every_node() {
    let (mut one, two) = (node_with("events", "json", "", ""), node_with("events", "json", "", ""));
    let (mut alice, _) = Peer::open(&mut one, "alice");
    two.handle().broadcast(To::User("alice"), "said", r#"{"text":"hi"}"#, &[]).unwrap();
    assert_eq!(alice.text(), r#"{"event":"said","data":{"text":"hi"},"status":"ok"}"#);
    let broken = Message { to: vec![Topic::All], kind: Kind::Event, plain: false, payload: [0xff].into() };
    carry_out(Arc::clone(&one.handle().state), Effect::Deliver(broken));
    two.handle().broadcast(To::Everyone, "after", "1", &[]).unwrap();
    assert!(alice.text().contains("after"), "what is no UTF-8 goes to nobody");
}

#[test]
fn rooms_are_closed_and_cleared_everywhere() {
    let (mut one, mut two) = (node("rooms"), node("rooms"));
    let (mut alice, of_alice) = Peer::open(&mut one, "alice");
    let (_bob, of_bob) = Peer::open(&mut two, "bob");
    for (server, conn) in [(&one, of_alice), (&two, of_bob)] {
        server.handle().join(conn, "a").unwrap();
        server.handle().join(conn, "b").unwrap();
    }
    two.handle().clear_room("a").unwrap();
    assert_eq!([one.handle().room_size("a"), two.handle().room_size("a")], [0, 0]);
    two.handle().close_all(To::Room("b"), 4000, "bye", &[of_bob]).unwrap();
    assert_eq!(alice.close(), (4000, "bye".to_owned()));
    assert!(two.handle().is_open(of_bob));
}

#[test]
fn a_user_is_disconnected_and_banned_everywhere() {
    let (mut one, mut two) = (node("revoked"), node("revoked"));
    let (mut alice, _) = Peer::open(&mut one, "alice");
    let (mut bob, _) = Peer::open(&mut one, "bob");
    two.handle().disconnect_user("alice").unwrap();
    assert_eq!(alice.close(), (1008, "session revoked".to_owned()));
    let (mut again, _) = Peer::open(&mut one, "alice");
    two.handle().ban(Whom::User("bob"), Some(60_000), "spam").unwrap();
    assert_eq!(bob.close(), (1008, "banned".to_owned()));
    assert!(Peer::knock(&one, "bob").answer.starts_with("HTTP/1.1 403"));
    assert_eq!(one.handle().bans()[0].reason, "spam");
    assert!(one.handle().unban(Whom::User("bob")).unwrap());
    Peer::open(&mut two, "bob");
    // What was missed is not known: whoever was let in before is closed, and nobody else.
    let state = Arc::clone(&one.handle().state);
    let before = state.clock.now();
    carry_out(Arc::clone(&state), Effect::DisconnectAll { before });
    assert_eq!(again.close(), (1008, "session revoked".to_owned()));
    let (_later, conn) = Peer::open(&mut one, "alice");
    carry_out(state, Effect::Disconnect { user: "alice".into(), before });
    one.handle().send_text(conn, "still here").unwrap();
    assert!(one.handle().is_open(conn));
}

#[test]
fn a_user_has_places_on_all_nodes_together() {
    let limit = r#", "max_connections_per_user": 2"#;
    let nodes = || node_with("places", "raw", "", limit);
    let (mut one, mut two) = (nodes(), nodes());
    let bus = Bus::of("places");
    let (first, _) = Peer::open(&mut one, "alice");
    let _second = Peer::open(&mut two, "alice");
    let full = Peer::knock(&one, "alice");
    assert!(full.answer.starts_with("HTTP/1.1 429"), "{}", full.answer);
    assert_eq!(one.handle().stats().verdict(Code::UserFull), 1);
    drop(first);
    eventually("a place is free", || bus.connections_of("alice") == 1);
    let _third = Peer::open(&mut two, "alice");
    // With every connection, its place goes.
    drop(two);
    assert_eq!(bus.connections_of("alice"), 0);
    // An answer that takes too long: the handshake ends in time, and its place is given back when the answer comes.
    let mut slow = node_with("places", "raw", "", r#", "handshake_timeout_ms": 1000"#);
    bus.delay_ms.store(60_000, Ordering::Release);
    let late = Peer::knock(&slow, "alice");
    assert!(late.answer.starts_with("HTTP/1.1 503"), "{}", late.answer);
    bus.delay_ms.store(50, Ordering::Release);
    Peer::open(&mut slow, "alice");
}

#[test]
fn who_waits_for_the_cluster_when_the_server_stops_is_answered() {
    let server = node("stops");
    let bus = Bus::of("stops");
    bus.delay_ms.store(60_000, Ordering::Release);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| Peer::knock(&server, "alice").answer);
        eventually("it waits", || bus.asked.load(Ordering::Acquire) == 1);
        server.handle().stop();
        let answer = waiting.join().unwrap();
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    });
}

#[test]
fn limits_of_users_may_be_those_of_a_node() {
    let nodes = || node_with("own", "raw", r#", "user_limits": false"#, r#", "max_connections_per_user": 1"#);
    let (mut one, mut two) = (nodes(), nodes());
    let (_one, _two) = (Peer::open(&mut one, "alice"), Peer::open(&mut two, "alice"));
    assert_eq!(Bus::of("own").connections_of("alice"), 0);
}

#[test]
fn an_outage_closes_the_door_or_leaves_every_node_alone() {
    let mut closed = node_with("closed", "raw", r#", "on_outage": "closed""#, "");
    let mut local = node_with("local", "raw", "", r#", "max_connections_per_user": 1"#);
    let (mut alice, _) = Peer::open(&mut closed, "alice");
    for name in ["closed", "local"] {
        Bus::of(name).is_down.store(true, Ordering::Release);
    }
    let refused = Peer::knock(&closed, "alice");
    assert!(
        refused.answer.starts_with("HTTP/1.1 503") && refused.answer.contains("Retry-After: 1"),
        "{}",
        refused.answer
    );
    assert_eq!(closed.handle().stats().verdict(Code::ClusterUnavailable), 1);
    let mut health = TcpStream::connect(closed.address()).unwrap();
    health.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    health.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    // Whoever is there stays, and is served.
    closed.handle().broadcast_text(To::Everyone, "on", &[]).unwrap();
    assert_eq!(alice.text(), "on");
    let (_bob, _) = Peer::open(&mut local, "bob");
    assert!(Peer::knock(&local, "bob").answer.starts_with("HTTP/1.1 429"), "the whole limit holds here");
    let handle = local.handle();
    assert!(handle.state.is_cut_off());
    let metrics = handle.metrics();
    assert!(metrics.contains("\nwsguard_cluster_up 0\n"), "{metrics}");
    assert!(metrics.contains("\nwsguard_cluster_lag_seconds 0.003"), "{metrics}");
    assert!(handle.unban(Whom::User("bob")).is_ok());
    assert_eq!(handle.stats().cluster_dropped, 1);
    Bus::of("closed").is_down.store(false, Ordering::Release);
    Peer::open(&mut closed, "alice");
    assert!(!closed.handle().state.is_cut_off() && closed.handle().stats().cluster_up == 1);
}

#[test]
fn members_are_counted_on_all_nodes() {
    let (mut one, mut two) = (node("count"), node("count"));
    let (_alice, of_alice) = Peer::open(&mut one, "alice");
    let (_other, of_other) = Peer::open(&mut two, "alice");
    let (_bob, of_bob) = Peer::open(&mut two, "bob");
    one.handle().join(of_alice, "a").unwrap();
    for (conn, room) in [(of_other, "a"), (of_other, "b"), (of_bob, "b")] {
        two.handle().join(conn, room).unwrap();
    }
    let handle = one.handle();
    let count = |to: To<'_>, except: &[ConnectionId]| {
        let (tell, told) = mpsc::channel();
        handle.count_everywhere(to, except, WAIT, move |counted| tell.send(counted.unwrap()).unwrap()).unwrap();
        let counted = told.recv().unwrap();
        assert_eq!(counted.missing, 0);
        counted.connections
    };
    assert_eq!((count(To::Room("a"), &[]), count(To::Room("a"), &[of_alice])), (2, 1));
    assert_eq!(count(To::Rooms(&["a", "b"]), &[]), 3, "each once");
    assert_eq!((count(To::User("alice"), &[]), count(To::User("bob"), &[]), count(To::Everyone, &[])), (2, 1, 3));
    assert_eq!((count(To::Room("nobody"), &[]), count(To::User(""), &[])), (0, 0));
    Bus::of("count").is_down.store(true, Ordering::Release);
    let (tell, told) = mpsc::channel();
    handle.count_everywhere(To::Everyone, &[], WAIT, move |counted| tell.send(counted).unwrap()).unwrap();
    let counted = told.recv().unwrap().unwrap();
    assert_eq!((counted.connections, counted.missing), (1, 1));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let everywhere = crate::Audience::new(&handle, To::Room("a")).everywhere(WAIT);
    assert_eq!(runtime.block_on(everywhere).unwrap().connections, 1);
    drop(one);
    assert!(handle.count_everywhere(To::Everyone, &[], WAIT, |_| {}).is_err());
}

#[test]
fn the_cluster_stays_as_it_is_while_the_server_runs() {
    let one = node("reload");
    let options = |cluster: &str| {
        let json = format!(r#"{{"origins": ["https://a.example"], "auth": "none", "protocol": "raw" {cluster}}}"#);
        let mut options = Options::from_json(&json).unwrap();
        (options.listen, options.threads) = ("127.0.0.1:0".to_owned(), 1);
        options
    };
    let error = one.handle().reload(options("")).unwrap_err();
    assert_eq!((error.code(), error.option()), ("not_reloadable", Some("cluster")), "{error}");
    one.handle().reload(options(r#", "cluster": {"url": "redis://127.0.0.1:1", "name": "reload"}"#)).unwrap();
}
