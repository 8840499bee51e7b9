//! Whom the application reaches, and what it learns of one connection.

use std::thread;
use std::time::{Duration, Instant};

use wsguard::binding::{Code, FrameFault};

use super::*;

/// The next event that is none of a send's.
fn next_event<R>(server: &mut Server, read: impl FnOnce(Event<'_>) -> R) -> R {
    let mut batch = EventBatch::new();
    loop {
        assert_eq!(server.events().next(&mut batch, Some(Duration::from_secs(10))), Next::Events);
        if let Some(event) = batch.iter().find(|event| !matches!(event, Event::Drained(_) | Event::Violation(_))) {
            return read(event);
        }
    }
}

#[test]
fn pings_are_answered_one_by_one_and_bounded() {
    let mut server = start(r#", "threads": 1, "control_rate_limit": null"#);
    let handle = server.handle();
    let mut client = connect(&handle);
    let conn = opened(&mut server);
    assert!((0..16).all(|_| handle.ping(conn).is_ok()));
    let error = handle.ping(conn).unwrap_err();
    assert_eq!((error.code(), error.to_string().contains("at most 16 pings")), ("invalid_argument", true));
    let payloads: Vec<_> = (0..16).map(|_| next_frame(&mut client)).collect();
    assert!(payloads.iter().all(|(first, payload)| *first == 0x89 && payload.len() == 8));
    let mut distinct: Vec<_> = payloads.iter().map(|(_, payload)| payload.clone()).collect();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), 16, "nobody can know the next one");
    let pong = |payload: &[u8]| [&[0x8a, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat();
    client.write_all(&[pong(b"\0\0\0\0\0\0\0\0"), pong(b""), pong(&payloads[0].1)].concat()).unwrap();
    let (who, rtt) = next_event(&mut server, |event| match event {
        Event::Pong { conn, rtt } => (conn, rtt),
        other => panic!("{other:?}"),
    });
    assert!(who == conn && rtt > Duration::ZERO && rtt < Duration::from_secs(10));
    handle.ping(conn).unwrap();
    // Those without an answer are given back with the connection: the next one in its slot has all of them.
    drop(client);
    assert!(tell(&mut server, 1)[0].starts_with("close 1006"));
    let _client = connect(&handle);
    let next = opened(&mut server);
    assert_eq!(next.slot(), conn.slot());
    assert!((0..16).all(|_| handle.ping(next).is_ok()));
    assert_eq!(handle.ping(conn).unwrap_err().code(), "connection_closed");
}

/// Whatever was said before goes out, the 101 first, and no close frame does.
#[test]
fn a_connection_that_is_hung_up_ends_behind_what_was_said() {
    let mut server = start(r#", "threads": 1, "max_outbox_bytes": 16777216"#);
    let handle = server.handle();
    for bytes in [0, 10, 8_000_000] {
        let (mut client, socket) = accepted();
        handle.adopt(socket, head("https://a.example")).unwrap();
        let conn = next_event(&mut server, |event| match event {
            Event::Open(open) => open.conn,
            other => panic!("{other:?}"),
        });
        if bytes > 0 {
            handle.send_binary(conn, &vec![7; bytes]).unwrap();
        }
        handle.hang_up(conn).unwrap();
        expect_101(&mut client);
        let told = next_event(&mut server, |event| match event {
            Event::Close(close) => (close.conn, close.code, close.clean, close.verdict),
            other => panic!("{other:?}"),
        });
        assert_eq!(told, (conn, 1006, false, None));
        let said = rest(client);
        assert!(said.ends_with(&vec![7; bytes]) && said.len() <= bytes + 10, "{} bytes", said.len());
        assert_eq!(handle.hang_up(conn).unwrap_err().code(), "connection_closed");
    }
}

/// What is said between the two goes out together, and other servers of the thread are not concerned.
#[test]
fn a_cork_may_end_elsewhere_than_it_begins() {
    let (mut server, mut other) = (start(""), start(""));
    let (handle, others) = (server.handle(), other.handle());
    let (mut client, mut stranger) = (connect(&handle), connect(&others));
    let (conn, strange) = (opened(&mut server), opened(&mut other));
    assert!(handle.begin_cork());
    assert!(!others.begin_cork(), "one server of a thread is corked");
    handle.send_text(conn, "held").unwrap();
    others.send_text(strange, "free").unwrap();
    assert_eq!(next_frame(&mut stranger), (0x81, b"free".to_vec()));
    client.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    assert!(client.read(&mut [0]).is_err(), "it is held back");
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    handle.uncork();
    assert_eq!(next_frame(&mut client), (0x81, b"held".to_vec()));
    handle.send_text(conn, "at once").unwrap();
    assert_eq!(next_frame(&mut client), (0x81, b"at once".to_vec()));
    // A server that is dropped while it is corked leaves nothing behind that another could be taken for.
    assert!(handle.begin_cork());
    drop((server, handle));
    let mut next = start("");
    let mut client = connect(&next.handle());
    let conn = opened(&mut next);
    next.handle().send_text(conn, "sent").unwrap();
    assert_eq!(next_frame(&mut client), (0x81, b"sent".to_vec()));
}

#[test]
fn a_connection_that_is_terminated_is_told_as_broken() {
    let mut server = start("");
    let handle = server.handle();
    let client = connect(&handle);
    let conn = opened(&mut server);
    handle.send_text(conn, "last").unwrap();
    handle.terminate(conn).unwrap();
    let told = next_event(&mut server, |event| match event {
        Event::Close(close) => (close.conn, close.code, close.clean, close.verdict),
        other => panic!("{other:?}"),
    });
    assert_eq!(told, (conn, 1006, false, None));
    assert_eq!(rest(client), b"\x81\x04last", "what was said before, and no close frame");
    assert_eq!(handle.terminate(conn).unwrap_err().code(), "connection_closed");
}

#[test]
fn a_close_names_its_verdict() {
    let mut server = start("");
    let handle = server.handle();
    for (who, verdict) in [("peer", None), ("application", None), ("rule", Some(Code::BadFrame))] {
        let mut client = connect(&handle);
        let conn = opened(&mut server);
        match who {
            "peer" => client.write_all(&[0x88, 0x80, 0, 0, 0, 0]).unwrap(),
            "application" => handle.close(conn, 4000, "").unwrap(),
            _ => client.write_all(&[0x81, 0]).unwrap(),
        }
        drop(client.shutdown(std::net::Shutdown::Write));
        let told = next_event(&mut server, |event| match event {
            Event::Close(close) => (close.verdict, close.fault, close.peer_code),
            other => panic!("{other:?}"),
        });
        let fault = verdict.map(|_| FrameFault::ExpectedMask);
        assert_eq!(told, (verdict, fault, (who == "peer").then_some(1005)), "{who}");
    }
}

#[test]
fn the_peers_own_close_frame_is_told_beside_ours() {
    let mut server = start("");
    let handle = server.handle();
    let mut client = connect(&handle);
    let conn = opened(&mut server);
    handle.close(conn, 4000, "ours").unwrap();
    client.write_all(b"\x88\x88\0\0\0\0\x0f\xa1theirs").unwrap();
    let told = next_event(&mut server, |event| match event {
        Event::Close(close) => (close.code, close.reason.to_owned(), close.peer_code, close.peer_reason.to_owned()),
        other => panic!("{other:?}"),
    });
    assert_eq!(told, (4000, "ours".to_owned(), Some(4001), "theirs".to_owned()));
}

/// Waits for the shard to say that nothing waits: the peer may have it before.
fn sent_all(handle: &ServerHandle, conn: ConnectionId) {
    while handle.buffered_bytes(conn) > 0 {
        thread::yield_now();
    }
}

/// Waits until everything that was said is written.
fn wrote_all(handle: &ServerHandle, conn: ConnectionId) {
    while handle.written(conn) < handle.queued(conn) {
        thread::yield_now();
    }
}

#[test]
fn what_is_written_of_a_connection_is_told() {
    let mut server = start(r#", "threads": 1, "max_outbox_bytes": 33554432"#);
    let handle = server.handle();
    let mut client = connect(&handle);
    let conn = opened(&mut server);
    let before = handle.queued(conn);
    handle.send_text(conn, "small").unwrap();
    assert_eq!(handle.queued(conn) - before, 7);
    wrote_all(&handle, conn);
    let mut small = [0; 7];
    client.read_exact(&mut small).unwrap();
    // The first message is larger than what sockets hold: what comes behind it waits, too.
    let mut marks = Vec::new();
    for len in [16 << 20, 10, 10] {
        handle.send_binary(conn, &vec![0; len]).unwrap();
        marks.push(handle.queued(conn));
    }
    handle.send_ping(conn, b"x").unwrap();
    handle.broadcast_binary(To::Everyone, &[0; 100], &[]).unwrap();
    assert_eq!(handle.queued(conn) - marks[2], 3, "a ping counts, a broadcast does not");
    let mut first = vec![0; (16 << 20) + 10];
    assert!(handle.written(conn) < marks[0]);
    client.read_exact(&mut first).unwrap();
    wrote_all(&handle, conn);
    let mut rest = vec![0; 12 + 12 + 3 + 102];
    client.read_exact(&mut rest).unwrap();
    assert_eq!((rest[1], rest[24], rest[27]), (10, 0x89, 0x82));
    drop(client);
    let told = next_event(&mut server, |event| event.conn());
    assert_eq!(told, Some(conn));
    assert_eq!((handle.queued(conn), handle.written(conn)), (0, 0), "of a closed one nothing is told");
    let _next = connect(&handle);
    let next = opened(&mut server);
    assert_eq!((next.slot(), handle.queued(next)), (conn.slot(), handle.written(next)));
}

#[test]
fn what_waits_of_a_connection_is_counted() {
    let mut server = start(r#", "threads": 1, "max_outbox_bytes": 16777216"#);
    let handle = server.handle();
    let mut client = connect(&handle);
    let conn = opened(&mut server);
    sent_all(&handle, conn);
    let large = vec![0; 12 << 20];
    handle.send_binary(conn, &large).unwrap();
    let waits = handle.buffered_bytes(conn);
    assert!(waits > 1 << 20, "no socket takes this much at once: {waits}");
    let mut all = vec![0; large.len() + 10];
    client.read_exact(&mut all).unwrap();
    sent_all(&handle, conn);
    handle.close(conn, 1000, "").unwrap();
    assert_eq!(handle.buffered_bytes(ConnectionId::from_u64(7)), 0);
}

#[test]
fn replies_of_failure_and_requests_say_so() {
    let mut server = start("");
    let handle = server.handle();
    let mut client = connect(&handle);
    let conn = opened(&mut server);
    handle.reply_error(conn, Some("7"), "say", "{}").unwrap();
    handle.request(conn, "\"s1\"", "ask", "[]").unwrap();
    assert_eq!(next_frame(&mut client).1, br#"{"event":"say","data":{},"status":"error","id":7}"#);
    assert_eq!(next_frame(&mut client).1, br#"{"event":"ask","data":[],"id":"s1"}"#);
}

fn peers(server: &mut Server, count: usize) -> Vec<(TcpStream, ConnectionId)> {
    let handle = server.handle();
    (0..count).map(|_| (connect(&handle), opened(server))).collect()
}

/// The texts that came up to `last`.
fn texts(client: &mut TcpStream) -> Vec<String> {
    let mut seen = Vec::new();
    while seen.last().is_none_or(|text| text != "last") {
        seen.push(String::from_utf8(next_frame(client).1).unwrap());
    }
    seen
}

#[test]
fn several_rooms_reach_each_connection_once() {
    let mut server = start(r#", "threads": 3"#);
    let handle = server.handle();
    let mut peers = peers(&mut server, 6);
    for (at, (_, conn)) in peers.iter().enumerate() {
        for (room, joins) in [("even", at % 2 == 0), ("low", at < 3), ("five", at == 5)] {
            if joins {
                handle.join(*conn, room).unwrap();
            }
        }
    }
    handle.broadcast_text(To::Rooms(&["even", "low", "even", "nobody"]), "some", &[peers[2].1, peers[1].1]).unwrap();
    handle.broadcast_text(To::Rooms(&[]), "none", &[]).unwrap();
    handle.broadcast_text(To::User("nobody"), "none", &[]).unwrap();
    assert_eq!(handle.broadcast_text(To::Rooms(&["even", ""]), "none", &[]).unwrap_err().code(), "invalid_argument");
    handle.broadcast_text(To::Everyone, "last", &[]).unwrap();
    for (at, (client, _)) in peers.iter_mut().enumerate() {
        let expected = if [0, 4].contains(&at) { &["some", "last"][..] } else { &["last"] };
        assert_eq!(texts(client), expected, "{at}");
    }
}

/// Also under a cork, which holds the broadcasts back.
#[test]
fn a_broadcast_reaches_whoever_was_in_the_room_when_it_was_sent() {
    let mut server = start(r#", "threads": 2"#);
    let handle = server.handle();
    let mut peers = peers(&mut server, 3);
    let [first, second, third] = [peers[0].1, peers[1].1, peers[2].1];
    let cork = handle.cork();
    handle.join(first, "r").unwrap();
    handle.join(second, "r").unwrap();
    let mut members = handle.room_members("r");
    members.sort_unstable();
    let mut expected = vec![first, second];
    expected.sort_unstable();
    assert_eq!((members, handle.room_size("r")), (expected, 2));
    handle.broadcast_text(To::Room("r"), "one", &[]).unwrap();
    handle.leave(first, "r").unwrap();
    handle.join(third, "r").unwrap();
    handle.broadcast_text(To::Room("r"), "two", &[]).unwrap();
    handle.clear_room("r").unwrap();
    assert!(handle.room_members("r").is_empty() && handle.rooms_of(second).unwrap().is_empty());
    handle.broadcast_text(To::Room("r"), "three", &[]).unwrap();
    handle.broadcast_text(To::Everyone, "last", &[]).unwrap();
    drop(cork);
    let said: Vec<_> = peers.iter_mut().map(|(client, _)| texts(client)).collect();
    assert_eq!(said, [&["one", "last"][..], &["one", "two", "last"], &["two", "last"]]);
}

#[test]
fn a_room_is_closed_with_one_call() {
    let mut server = start(r#", "threads": 2"#);
    let handle = server.handle();
    let mut peers = peers(&mut server, 4);
    (1..4).for_each(|at| handle.join(peers[at].1, "r").unwrap());
    assert_eq!(handle.close_all(To::Room("r"), 1005, "", &[]).unwrap_err().code(), "invalid_argument");
    handle.close_all(To::Room("r"), 4001, "over", &[]).unwrap();
    for (client, _) in &mut peers[1..] {
        assert_eq!(next_frame(client), (0x88, b"\x0f\xa1over".to_vec()));
        client.write_all(&[0x88, 0x80, 0, 0, 0, 0]).unwrap();
    }
    assert_eq!(tell(&mut server, 3), ["close 4001 over"; 3]);
    assert_eq!((handle.connections(), handle.room_size("r")), (vec![peers[0].1], 0));
}

/// A face that remembers whom it has closed asks for the members, and closes those and nobody else.
#[test]
fn a_list_is_closed_and_whoever_joins_meanwhile_is_not() {
    let mut server = start(r#", "threads": 2"#);
    let handle = server.handle();
    let mut peers = peers(&mut server, 4);
    (1..3).for_each(|at| handle.join(peers[at].1, "r").unwrap());
    let members = handle.room_members("r");
    handle.join(peers[3].1, "r").unwrap();
    handle.leave(peers[1].1, "r").unwrap();
    assert_eq!(handle.close_each(&[], 1005, "").unwrap_err().code(), "invalid_argument");
    handle.close_each(&members, 4001, "over").unwrap();
    for (client, _) in &mut peers[1..3] {
        assert_eq!(next_frame(client), (0x88, b"\x0f\xa1over".to_vec()));
        client.write_all(&[0x88, 0x80, 0, 0, 0, 0]).unwrap();
    }
    assert_eq!(tell(&mut server, 2), ["close 4001 over"; 2]);
    assert_eq!((handle.connections().len(), handle.room_members("r")), (2, vec![peers[3].1]));
    handle.close_each(&members, 4001, "whoever has closed is left out").unwrap();
}

/// Whatever the application counts when it hears of a close, the connection is none of it.
#[test]
fn a_close_is_told_after_the_counters_have_fallen() {
    let mut server = start(r#", "threads": 1, "handshakes_per_ip": null"#);
    let handle = server.handle();
    for how in ["breaks", "says goodbye", "is terminated"] {
        for _ in 0..50 {
            let mut client = connect(&handle);
            let conn = opened(&mut server);
            handle.join(conn, "r").unwrap();
            match how {
                "breaks" => drop(client),
                "is terminated" => handle.terminate(conn).unwrap(),
                _ => client.write_all(&[0x88, 0x80, 0, 0, 0, 0]).unwrap(),
            }
            next_event(&mut server, |event| assert!(matches!(event, Event::Close(_)), "{event:?}"));
            // Whoever says goodbye, or ends its side, is told the end of ours behind this event: until then TCP's connection is one.
            let deadline = Instant::now() + Duration::from_secs(10);
            while how != "is terminated" && handle.stats().connections > 0 && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(1));
            }
            let stats = handle.stats();
            let left = [stats.connections, stats.open, stats.rooms, stats.room_memberships, stats.outbox_bytes];
            assert_eq!((left, handle.connections()), ([0; 5], vec![]), "{how}");
        }
    }
}

/// Its close frame waits for the application's answers to what came before, and does not go with them when the server stops.
#[test]
fn who_is_refused_is_told_why_though_the_server_stops_meanwhile() {
    let mut server = start(r#", "threads": 1"#);
    let mut client = connect(&server.handle());
    opened(&mut server);
    // A message, and a frame of an opcode that there is not.
    client.write_all(&[text("a"), vec![0x83, 0x80, 0, 0, 0, 0]].concat()).unwrap();
    let mut batch = EventBatch::new();
    while server.handle().stats().verdict(Code::BadFrame) == 0 {
        thread::yield_now();
    }
    assert_eq!(server.events().next(&mut batch, Some(Duration::from_secs(10))), Next::Events);
    server.handle().stop();
    let (first, payload) = next_frame(&mut client);
    assert_eq!((first, u16::from_be_bytes([payload[0], payload[1]])), (0x88, 1002));
}

/// Token `good` is alice's, `other` is bob's.
#[test]
fn a_user_is_reached_on_all_connections_and_nobody_else_is() {
    let json = r#"{"origins": ["https://a.example"], "protocol": "raw", "threads": 2,
        "auth": {"tokens": [{"token": "good", "user": "alice"}, {"token": "other", "user": "bob"}]}}"#;
    let mut server = Builder::new().without_listener().start(Options::from_json(json).unwrap()).unwrap();
    let handle = server.handle();
    let mut open = |token: &str| {
        let (mut client, socket) = accepted();
        let head = String::from_utf8(head("https://a.example")).unwrap();
        let head = head.replace("Upgrade: websocket", &format!("Upgrade: websocket\r\nX-Auth-Token: {token}"));
        handle.adopt(socket, head.into_bytes()).unwrap();
        expect_101(&mut client);
        (client, opened(&mut server))
    };
    let mut alices = [open("good"), open("good"), open("good")];
    let (mut bob, of_bob) = open("other");
    let mut expected = alices.iter().map(|(_, conn)| *conn).collect::<Vec<_>>();
    expected.sort_unstable();
    let mut found = handle.connections_of("alice");
    found.sort_unstable();
    assert_eq!((found, handle.connections_of("bob")), (expected, vec![of_bob]));
    handle.broadcast_text(To::User("alice"), "hers", &[alices[1].1]).unwrap();
    handle.broadcast_text(To::Everyone, "last", &[]).unwrap();
    let said: Vec<_> = alices.iter_mut().map(|(client, _)| texts(client)).collect();
    assert_eq!(said, [&["hers", "last"][..], &["last"], &["hers", "last"]]);
    assert_eq!(texts(&mut bob), ["last"]);
    drop(alices);
    tell(&mut server, 3);
    assert!(handle.connections_of("alice").is_empty());
}
