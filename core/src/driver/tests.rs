//! Faults of the server's own, which nothing outside can bring about: what they cost, and what they do not.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::commands::{Command, CommandBuffer};
use super::{Builder, ConnectionId, Event, EventBatch, Next, Server, To};
use wsguard_proto::config::Options;
use wsguard_proto::verdict::Code;

fn start(threads: usize) -> Server {
    let options =
        format!(r#"{{"origins": ["https://a.example"], "auth": "none", "protocol": "raw", "threads": {threads}}}"#);
    Builder::new().without_listener().start(Options::from_json(&options).unwrap()).unwrap()
}

#[test]
fn proxies_have_to_be_peers_of_what_the_server_listens_on() {
    let stated = |trusted: &str| {
        let options = r#"{"origins": ["https://a.example"], "auth": "none", "listen": "127.0.0.1:0", "trusted_proxies": [TRUSTED]}"#;
        Options::from_json(&options.replace("TRUSTED", trusted)).unwrap()
    };
    assert_eq!(Builder::new().start(stated("\"unix\"")).unwrap_err().option(), Some("trusted_proxies"));
    let listening = Builder::new().start(stated("")).unwrap();
    assert_eq!(listening.handle().reload(stated("\"unix\"")).unwrap_err().option(), Some("trusted_proxies"));
    // Whose sockets are accepted elsewhere may have proxies of either kind.
    let unbound = Builder::new().without_listener().start(stated("\"unix\"")).unwrap();
    unbound.handle().reload(stated("\"10.0.0.1\"")).unwrap();
    unbound.handle().reload(stated("\"unix\"")).unwrap();
}

/// A client's end of a connection whose 101 was read.
fn connect(server: &Server) -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let head =
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nOrigin: https://a.example\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    server.handle().adopt(listener.accept().unwrap().0, head.to_vec()).unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"));
    client
}

/// The next `count` opens and closes, and what closed.
fn opens_and_closes(server: &mut Server, count: usize) -> Vec<(ConnectionId, u16)> {
    let mut seen = Vec::new();
    let mut batch = EventBatch::new();
    while seen.len() < count {
        assert_eq!(server.events().next(&mut batch, Some(Duration::from_secs(10))), Next::Events);
        seen.extend(batch.iter().filter_map(|event| match event {
            Event::Open(open) => Some((open.conn, 0)),
            Event::Close(close) => Some((close.conn, close.code)),
            _ => None,
        }));
    }
    seen
}

#[test]
fn a_fault_in_a_turn_costs_its_connection_and_nothing_else() {
    let mut server = start(1);
    let handle = server.handle();
    let (_lost, mut kept) = (connect(&server), connect(&server));
    let [(lost, _), (other, _)] = opens_and_closes(&mut server, 2)[..] else { unreachable!() };
    handle.join(lost, "room").unwrap();
    handle.join(other, "room").unwrap();
    let before = handle.state.shards[0].slots.get(lost.slot()).unwrap();
    handle.state.shards[0].post(|buffer| {
        buffer.commands.push(Command::Fault { conn: lost });
        buffer.commands.push(Command::Fault { conn: ConnectionId::from_u64(0) });
    });
    handle.send_text(other, "after").unwrap();
    let mut frame = [0; 7];
    kept.read_exact(&mut frame).unwrap();
    assert_eq!(&frame[2..], b"after");
    assert_eq!(opens_and_closes(&mut server, 1), [(lost, 1011)]);
    assert!(!handle.is_open(lost) && before.generation() == 0);
    let stats = handle.stats();
    assert_eq!((stats.connections, stats.open, stats.room_memberships, stats.rooms), (1, 1, 1, 1));
    assert_eq!(stats.verdict(Code::Internal), 2);
    assert_eq!(handle.state.shards[0].load.get(), 1);
    // The slot is used again, by somebody else.
    let _newcomer = connect(&server);
    let (next, _) = opens_and_closes(&mut server, 1)[0];
    assert_eq!(next.slot(), lost.slot());
    assert!(handle.is_open(next) && !handle.is_open(lost));
}

#[test]
fn what_a_turn_leaves_unwritten_is_its_own_connections() {
    let mut server = start(1);
    let handle = server.handle();
    let (mut clients, mut opened) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        clients.push(connect(&server));
        opened.push(opens_and_closes(&mut server, 1)[0].0);
    }
    handle.state.shards[0].post(|buffer| buffer.commands.push(Command::Mutter { conn: opened[0] }));
    handle.send_text(opened[1], "else").unwrap();
    handle.send_text(opened[0], "then").unwrap();
    for (client, words) in clients.iter_mut().zip([&["mine", "then"][..], &["else"]]) {
        for word in words {
            let mut frame = [0; 6];
            client.read_exact(&mut frame).unwrap();
            assert_eq!(&frame[2..], word.as_bytes());
        }
    }
}

#[test]
fn one_fault_after_the_other_leaves_nothing_behind_for_the_next() {
    let mut server = start(1);
    let handle = server.handle();
    let _clients = (connect(&server), connect(&server));
    let opened = opens_and_closes(&mut server, 2);
    for &(conn, _) in &opened {
        handle.state.shards[0].post(|buffer| buffer.commands.push(Command::Fault { conn }));
        assert_eq!(opens_and_closes(&mut server, 1), [(conn, 1011)]);
    }
    let stats = handle.stats();
    assert_eq!((stats.connections, stats.open, stats.inbox_bytes), (0, 0, 0));
    handle.drain(5000, 0);
    while server.events().next(&mut EventBatch::new(), Some(Duration::from_secs(10))) != Next::Stopped {}
}

#[test]
fn a_shard_that_dies_ends_the_server() {
    let mut server = start(3);
    let handle = server.handle();
    let mut clients = (0..6).map(|_| connect(&server)).collect::<Vec<_>>();
    for client in &mut clients {
        client.write_all(&[0x81, 0x81, 0, 0, 0, 0, b'x']).unwrap();
    }
    let opened = opens_and_closes(&mut server, 6).into_iter().map(|(conn, _)| conn).collect::<Vec<_>>();
    let mailbox = &handle.state.shards[1];
    mailbox.lost_a_task.store(true, Ordering::Release);
    mailbox.commands_arrived.notify_one();
    let mut batch = EventBatch::new();
    let (mut closed, mut messages) = (Vec::new(), 0);
    loop {
        match server.events().next(&mut batch, Some(Duration::from_secs(10))) {
            Next::Stopped => break,
            next => assert_eq!(next, Next::Events),
        }
        for event in batch.iter() {
            match event {
                Event::Close(close) => closed.push(close.conn),
                Event::Text(..) => messages += 1,
                _ => {}
            }
        }
    }
    // Messages that were read before are delivered; how many of them that are is a matter of time.
    assert!(messages <= 6);
    closed.sort_unstable();
    let mut expected = opened.clone();
    expected.sort_unstable();
    assert_eq!(closed, expected, "the end of every connection is told");
    for conn in opened {
        assert_eq!(handle.send_text(conn, "x").unwrap_err().code(), "connection_closed");
    }
    assert_eq!(handle.broadcast_text(To::Everyone, "x", &[]).unwrap_err().code(), "stopped");
    assert_eq!(handle.disconnect_user("alice").unwrap_err().code(), "stopped");
    let stats = handle.stats();
    assert_eq!((stats.connections, stats.open, stats.inbox_bytes, stats.outbox_bytes), (0, 0, 0, 0));
    for client in &mut clients {
        // Ended, whichever shard it was on.
        let _ = client.read_to_end(&mut Vec::new()).unwrap_or_default();
    }
    // A shard that is gone takes nothing and keeps nothing.
    mailbox.post(|buffer| buffer.commands.push(Command::Stop));
    let mut taken = CommandBuffer::default();
    mailbox.take_commands(&mut taken);
    assert!(taken.commands.is_empty());
}

/// Who may not send a PROXY header is counted as whoever it is, and never has a place for as long as it likes.
#[test]
fn strangers_before_a_proxy_listener_are_counted() {
    let options = r#"{"origins": ["https://a.example"], "auth": "none", "listen": "127.0.0.1:0", "threads": 1,
        "proxy_protocol": true, "trusted_proxies": ["192.0.2.1"], "handshakes_per_ip": {"per_second": 0.001, "burst": 2}}"#;
    let server = Server::start(Options::from_json(options).unwrap()).unwrap();
    let strangers: Vec<_> = (0..5).map(|_| TcpStream::connect(server.address()).unwrap()).collect();
    for mut stranger in strangers {
        stranger.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        assert_eq!(stranger.read(&mut [0]).unwrap(), 0, "dropped without an answer");
    }
    assert_eq!(server.handle().stats().verdict(Code::IpRateLimited), 3);
}
