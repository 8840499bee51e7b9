//! Whom the application reaches, and what it learns of one connection.

use wsguard::binding::Code;

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

#[test]
fn a_connection_that_is_terminated_is_told_as_broken() {
    let mut server = start("");
    let handle = server.handle();
    let client = connect(&handle);
    let conn = opened(&mut server);
    handle.terminate(conn).unwrap();
    let told = next_event(&mut server, |event| match event {
        Event::Close(close) => (close.conn, close.code, close.clean, close.verdict),
        other => panic!("{other:?}"),
    });
    assert_eq!(told, (conn, 1006, false, None));
    assert_eq!(rest(client), b"", "no close frame");
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
            Event::Close(close) => close.verdict,
            other => panic!("{other:?}"),
        });
        assert_eq!(told, verdict, "{who}");
    }
}

/// Waits for the shard to say that nothing waits: the peer may have it before.
fn sent_all(handle: &ServerHandle, conn: ConnectionId) {
    while handle.buffered_bytes(conn) > 0 {
        std::thread::yield_now();
    }
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
