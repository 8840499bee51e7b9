//! What is read of whom: pausing one connection, and the room that the application has for what comes.

use std::time::Instant;

use super::*;

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

/// A client of a user, on a server whose static tokens are the users' names.
fn connect_as(user: &str, server: &ServerHandle) -> TcpStream {
    let (mut client, socket) = accepted();
    let head = String::from_utf8(head("https://a.example")).unwrap();
    let head = head.replace("Host: x\r\n", &format!("Host: x\r\nX-Auth-Token: {user}\r\n"));
    server.adopt(socket, head.into_bytes()).unwrap();
    expect_101(&mut client);
    client
}

fn start_with_users(max_inbox_bytes: usize) -> Server {
    let json = format!(
        r#"{{"origins": ["https://a.example"], "protocol": "raw", "threads": 1, "rate_limit": null,
            "auth": {{"tokens": [{{"token": "alice", "user": "alice"}}, {{"token": "mallory", "user": "mallory"}}]}},
            "max_inbox_bytes": {max_inbox_bytes}}}"#
    );
    Builder::new().without_listener().start(Options::from_json(&json).unwrap()).unwrap()
}

/// Waits until a counter is as wanted.
fn settle(server: &ServerHandle, wanted: impl Fn(&wsguard::binding::Stats) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !wanted(&server.stats()) {
        assert!(Instant::now() < deadline, "{:?}", server.stats());
        std::thread::yield_now();
    }
}

/// A masked binary frame with the key 0.
fn binary(len: u16) -> Vec<u8> {
    [&[0x82, 0xfe][..], &len.to_be_bytes(), &[0; 4], &vec![7; len.into()]].concat()
}

#[test]
fn a_flood_of_messages_keeps_nobody_else_out_and_silences_nobody_else() {
    const MAX: usize = 400_000;
    let mut server = start_with_users(MAX);
    let handle = server.handle();
    let mut alice = connect_as("alice", &handle);
    // More than the inbox holds, on many connections; what is not read waits in the kernel.
    let flood = binary(10_000).repeat(10);
    let mallory = (0..20).map(|_| connect_as("mallory", &handle)).collect::<Vec<_>>();
    for mut client in &mallory {
        client.write_all(&flood).unwrap();
    }
    settle(&handle, |stats| stats.inbox_bytes >= MAX as u64 / 2);
    // The application holds whatever it takes: nothing is given back.
    alice.write_all(&text("hello")).unwrap();
    let mut held = Vec::new();
    while !held.last().is_some_and(|batch: &EventBatch| batch.iter().any(|event| matches!(event, Event::Text(..)))) {
        let mut batch = EventBatch::new();
        assert_eq!(server.events().next(&mut batch, Some(Duration::from_secs(10))), Next::Events);
        held.push(batch);
    }
    let inbox_bytes = handle.stats().inbox_bytes as usize;
    assert!(inbox_bytes < MAX * 3 / 4, "{inbox_bytes}");
    // Also where a language keeps the messages and has not let go of their batch: they count twice.
    let kept = handle.hold_inbox(inbox_bytes);
    connect_as("alice", &handle);
    drop((kept, held));
    // And in the end everything is read.
    let mut batch = EventBatch::new();
    while handle.stats().messages_in < 201 {
        assert_eq!(server.events().next(&mut batch, Some(Duration::from_secs(10))), Next::Events);
    }
}

#[test]
fn whoever_was_not_read_is_read_when_there_is_room_wherever_that_was_made() {
    let mut server = start(r#", "threads": 2, "max_inbox_bytes": 1000000"#);
    let handle = server.handle();
    let mut peers = [(); 2].map(|()| (connect(&handle), opened(&mut server)));
    assert_ne!(peers[0].1.shard(), peers[1].1.shard());
    assert_eq!(server.events().next(&mut EventBatch::new(), Some(Duration::ZERO)), Next::Nothing);
    let (some, most) = (handle.hold_inbox(400_000), handle.hold_inbox(600_000));
    for (client, conn) in &mut peers {
        client.write_all(&text("late")).unwrap();
        // Two rounds, in one of which the shard has looked at what came.
        for round in ["1", "2"] {
            handle.send_text(*conn, round).unwrap();
            assert_eq!(next_frame(client), (0x81, round.as_bytes().to_vec()));
        }
    }
    assert_eq!(handle.stats().messages_in, 0);
    drop(some);
    assert_eq!(tell(&mut server, 2), ["late", "late"]);
    drop(most);
}

#[test]
fn a_paused_peer_that_broke_off_is_noticed() {
    let mut server = start(r#", "ping_interval_ms": 0, "idle_timeout_ms": 0"#);
    let handle = server.handle();
    let mut client = connect(&handle);
    let conn = opened(&mut server);
    handle.pause(conn).unwrap();
    client.write_all(&text("unread")).unwrap();
    for round in ["1", "2"] {
        handle.send_text(conn, round).unwrap();
        assert_eq!(next_frame(&mut client), (0x81, round.as_bytes().to_vec()));
    }
    socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    assert_eq!(tell(&mut server, 1), ["close 1006 "]);
}
