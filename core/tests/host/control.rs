//! Pings and pongs that the application sends, hears and answers itself.

use super::*;

/// The next `count` pings, pongs and messages, in words.
fn heard(server: &mut Server, count: usize) -> Vec<String> {
    let mut heard = Vec::new();
    let mut batch = EventBatch::new();
    while heard.len() < count {
        assert_eq!(server.events().next(&mut batch, Some(Duration::from_secs(10))), Next::Events);
        heard.extend(batch.iter().filter_map(|event| match event {
            Event::PingFrame(_, payload) => Some(format!("ping {}", String::from_utf8_lossy(payload))),
            Event::PongFrame(_, payload) => Some(format!("pong {}", String::from_utf8_lossy(payload))),
            Event::Text(_, text) => Some(text.to_owned()),
            _ => None,
        }));
    }
    heard
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    [&[first, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat()
}

#[test]
fn pings_and_pongs_are_told_to_who_heeds_them() {
    let mut server = start("");
    let handle = server.handle();
    let mut client = connect(&handle);
    opened(&mut server);
    client.write_all(&[frame(0x89, b"a"), text("one")].concat()).unwrap();
    assert_eq!(heard(&mut server, 1), ["one"], "at first nobody does");
    assert_eq!(next_frame(&mut client), (0x8a, b"a".to_vec()));
    handle.heed_control(true);
    client.write_all(&[frame(0x89, b"b"), frame(0x8a, b"c"), text("two"), frame(0x89, b"")].concat()).unwrap();
    assert_eq!(heard(&mut server, 4), ["ping b", "pong c", "two", "ping "]);
    assert_eq!([next_frame(&mut client), next_frame(&mut client)], [(0x8a, b"b".to_vec()), (0x8a, Vec::new())]);
    handle.heed_control(false);
    client.write_all(&[frame(0x89, b"d"), text("three")].concat()).unwrap();
    assert_eq!(heard(&mut server, 1), ["three"]);
}

#[test]
fn the_application_pings_and_pongs_in_the_order_of_its_messages() {
    let mut server = start(r#", "control_rate_limit": {"per_second": 1, "burst": 1}"#);
    let handle = server.handle();
    handle.heed_control(true);
    let mut client = connect(&handle);
    let conn = opened(&mut server);
    {
        let _cork = handle.cork();
        handle.send_ping(conn, b"p").unwrap();
        handle.send_text(conn, "m").unwrap();
        handle.send_pong(conn, &[b'q'; 125]).unwrap();
        handle.send_ping(conn, b"").unwrap();
    }
    let frames: Vec<_> = (0..4).map(|_| next_frame(&mut client)).collect();
    let expected = [(0x89, b"p".to_vec()), (0x81, b"m".to_vec()), (0x8a, vec![b'q'; 125]), (0x89, Vec::new())];
    assert_eq!(frames, expected);
    for call in [ServerHandle::send_ping, ServerHandle::send_pong] {
        let error = call(&handle, conn, &[0; 126]).unwrap_err();
        assert_eq!((error.code(), error.to_string().contains("at most 125 bytes")), ("invalid_argument", true));
    }
    let metrics = handle.metrics();
    assert!(metrics.contains("wsguard_messages_sent_total 1\n"), "a ping is no message");
    // What was asked for is free: the burst is one.
    client.write_all(&[frame(0x8a, b"p"), frame(0x8a, b""), frame(0x8a, b"extra")].concat()).unwrap();
    assert_eq!(heard(&mut server, 3), ["pong p", "pong ", "pong extra"]);
    drop(client);
    assert!(tell(&mut server, 1)[0].starts_with("close 1006"));
    assert_eq!(handle.send_ping(conn, b"").unwrap_err().code(), "connection_closed");
    assert_eq!(handle.set_auto_pong(conn, true).unwrap_err().code(), "connection_closed");
}

#[test]
fn pings_may_be_left_to_the_application() {
    let mut server = Builder::new().without_listener().auto_pong(false).start(options("")).unwrap();
    let handle = server.handle();
    handle.heed_control(true);
    let mut client = connect(&handle);
    let conn = opened(&mut server);
    client.write_all(&frame(0x89, b"a")).unwrap();
    assert_eq!(heard(&mut server, 1), ["ping a"]);
    handle.send_pong(conn, b"mine").unwrap();
    assert_eq!(next_frame(&mut client), (0x8a, b"mine".to_vec()), "and no other");
    handle.set_auto_pong(conn, true).unwrap();
    client.write_all(&frame(0x89, b"b")).unwrap();
    assert_eq!(next_frame(&mut client), (0x8a, b"b".to_vec()));
}

/// Whoever sends pings faster than they are taken is not read before they are.
#[test]
fn pings_that_nobody_takes_fill_the_inbox_and_no_more() {
    let mut server = start(r#", "control_rate_limit": null, "max_inbox_bytes": 131072, "max_message_bytes": 16384"#);
    let handle = server.handle();
    handle.heed_control(true);
    let mut client = connect(&handle);
    let conn = opened(&mut server);
    handle.set_auto_pong(conn, false).unwrap();
    client.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let pings = frame(0x89, &[b'x'; 100]).repeat(100);
    let mut written = 0;
    // Until the sockets are full: nothing is lost, nothing more is kept.
    while let Ok(len) = client.write(&pings[written % pings.len()..]) {
        written += len;
    }
    let most = handle.stats().inbox_bytes;
    assert!(most < 400_000, "{most} bytes of events");
    let whole = written / frame(0x89, &[b'x'; 100]).len();
    let told = heard(&mut server, whole);
    assert!(told.iter().all(|ping| ping.len() == 105));
}
