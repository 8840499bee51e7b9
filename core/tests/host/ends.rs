//! Every way to end.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::*;

#[test]
fn what_was_said_before_the_end_arrives_before_it() {
    for end in [ServerHandle::stop, |handle: &ServerHandle| handle.drain(5000, 0)] {
        let mut server = start("");
        let handle = server.handle();
        let client = connect(&handle);
        let conn = opened(&mut server);
        let cork = handle.cork();
        handle.send_text(conn, "bye").unwrap();
        end(&handle);
        drop(cork);
        assert!(rest(client).starts_with(&[0x81, 3, b'b', b'y', b'e', 0x88]));
    }
}

/// Takes events until the server has stopped.
fn run_out(server: &mut Server) {
    let mut batch = EventBatch::new();
    loop {
        match server.events().next(&mut batch, Some(Duration::from_secs(20))) {
            Next::Events => {}
            Next::Stopped => return,
            Next::Nothing => panic!("the server does not end"),
        }
    }
}

#[test]
fn every_drain_ends() {
    const MAX: u64 = u64::MAX;
    let drains: [&[(u64, u64)]; 6] = [
        &[(MAX, MAX)],
        &[(MAX, 0)],
        &[(0, 0)],
        &[(0, MAX)],
        &[(MAX, MAX), (MAX, MAX)],
        &[(3_600_000, 3_600_000), (1, MAX - 1)],
    ];
    for (number, drains) in drains.into_iter().enumerate() {
        let mut server = start("");
        let handle = server.handle();
        let clients = (0..4).map(|_| connect(&handle)).collect::<Vec<_>>();
        let threads = drains.iter().map(|&(timeout, jitter)| {
            let handle = handle.clone();
            std::thread::spawn(move || handle.drain(timeout, jitter))
        });
        // In this order only where it matters.
        threads.for_each(|thread| thread.join().unwrap());
        if number % 2 == 1 {
            handle.drain(0, 0);
            handle.stop();
            handle.drain(MAX, MAX);
        }
        run_out(&mut server);
        for client in clients {
            let said = rest(client);
            assert!(said.is_empty() || said.starts_with(&[0x88]), "{said:?}");
        }
        let stats = handle.stats();
        assert_eq!((stats.connections, stats.open, stats.inbox_bytes), (0, 0, 0));
        assert_eq!(handle.broadcast_text(To::Everyone, "x", &[]).unwrap_err().code(), "stopped");
    }
}

#[test]
fn a_drain_does_not_wait_for_an_application_that_never_stops_speaking() {
    let mut server = start(r#", "threads": 1"#);
    let handle = server.handle();
    let client = connect(&handle);
    opened(&mut server);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let _ = handle.broadcast_text(To::Room("nobody"), "x", &[]);
                }
            });
        }
        handle.drain(u64::MAX, 0);
        let mut batch = EventBatch::new();
        let next = server.events().next(&mut batch, Some(Duration::from_secs(5)));
        is_over.store(true, Ordering::Relaxed);
        assert_eq!(next, Next::Events);
        assert!(batch.iter().any(|event| matches!(event, Event::Violation(_) | Event::Close(_))));
    });
    assert!(rest(client).starts_with(&[0x88]));
}

#[test]
fn a_server_that_ends_with_its_thread_stops_cleanly() {
    thread_local! {
        static SERVER: RefCell<Option<Server>> = const { RefCell::new(None) };
    }
    let handle = std::thread::spawn(|| {
        SERVER.set(Some(start("")));
        SERVER.with_borrow(|server| {
            let handle = server.as_ref().unwrap().handle();
            handle.broadcast_text(To::Everyone, "x", &[]).unwrap();
            handle
        })
    });
    let handle = handle.join().unwrap();
    assert_eq!(handle.broadcast_text(To::Everyone, "x", &[]).unwrap_err().code(), "stopped");
}

#[test]
fn a_handshake_that_waits_at_the_end_is_refused() {
    for end in [ServerHandle::stop, |handle: &ServerHandle| handle.drain(5000, 0)] {
        let json = r#"{"origins": ["https://a.example"], "auth": "callback", "threads": 2}"#;
        let builder = Builder::new().without_listener();
        let mut server = builder.start(Options::from_json(json).unwrap()).unwrap();
        let handle = server.handle();
        let (client, socket) = accepted();
        handle.adopt(socket, head("https://a.example")).unwrap();
        let mut batch = EventBatch::new();
        assert_eq!(server.events().next(&mut batch, Some(Duration::from_secs(10))), Next::Events);
        assert!(matches!(batch.get(0), Some(Event::Upgrade(_))));
        end(&handle);
        let answer = String::from_utf8(rest(client)).unwrap();
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("draining"), "{answer:?}");
    }
}

#[test]
fn what_waits_of_a_peer_that_said_goodbye_is_delivered_by_a_drain() {
    let more =
        r#", "threads": 1, "close_timeout_ms": 60000, "rate_limit": {"per_second": 0.02, "burst": 1, "queue": 10}"#;
    let mut server = start(more);
    let handle = server.handle();
    let mut client = connect(&handle);
    let goodbye = [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8];
    client.write_all(&[text("1"), text("2"), text("3"), goodbye.to_vec()].concat()).unwrap();
    assert_eq!(tell(&mut server, 2), ["open 127.0.0.1 /chat", "1"]);
    while handle.stats().delayed < 2 {
        std::thread::yield_now();
    }
    handle.drain(60_000, 0);
    assert_eq!(tell(&mut server, 3), ["2", "3", "close 1000 "]);
    run_out(&mut server);
}

#[test]
fn a_drain_does_not_wait_for_peers_that_never_stop_speaking() {
    let mut server = start(r#", "threads": 1, "rate_limit": null"#);
    let handle = server.handle();
    let mut client = connect(&handle);
    opened(&mut server);
    let speaker = std::thread::spawn(move || while client.write_all(&text("and")).is_ok() {});
    // An application that always has a batch which it has not let go.
    let mut batches = [EventBatch::new(), EventBatch::new()];
    assert_eq!(server.events().next(&mut batches[0], Some(Duration::from_secs(10))), Next::Events);
    handle.drain(u64::MAX, 0);
    let began = Instant::now();
    for turn in 1.. {
        if server.events().next(&mut batches[turn % 2], Some(Duration::from_millis(200))) == Next::Stopped {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(10), "the server does not end");
    }
    speaker.join().unwrap();
}

#[test]
fn a_drain_loses_nothing_that_was_read_before_it() {
    drain_behind_a_read(r#", "threads": 1, "rate_limit": null"#);
}

#[test]
fn a_drain_loses_nothing_that_was_read_and_waits_for_its_rate() {
    drain_behind_a_read(r#", "threads": 1, "rate_limit": {"per_second": 1, "burst": 1500, "queue": 1500}"#);
}

fn drain_behind_a_read(more: &str) {
    const MESSAGES: usize = 3000;
    let mut server = start(more);
    let handle = server.handle();
    let mut client = connect(&handle);
    let conn = opened(&mut server);
    // All in one read, and more than a turn handles.
    handle.pause(conn).unwrap();
    client.write_all(&text("x").repeat(MESSAGES)).unwrap();
    handle.resume(conn).unwrap();
    let mut batch = EventBatch::new();
    let (mut messages, mut drains) = (0, false);
    while server.events().next(&mut batch, Some(Duration::from_secs(20))) == Next::Events {
        messages += batch.iter().filter(|event| matches!(event, Event::Text(..))).count();
        if !core::mem::replace(&mut drains, true) {
            handle.drain(20_000, 0);
        }
    }
    assert_eq!(messages, MESSAGES);
}

#[test]
fn from_its_close_on_an_id_is_nobodys() {
    let mut server = start(r#", "close_timeout_ms": 20000"#);
    let handle = server.handle();
    let mut client = connect(&handle);
    let conn = opened(&mut server);
    // Reserved bits: our close frame goes out, and the peer's, which does not come, is waited for.
    client.write_all(&[0xc1, 0x80, 0, 0, 0, 0]).unwrap();
    let told = tell(&mut server, 2);
    assert!(told[1].starts_with("close 1002"), "{told:?}");
    assert!(!handle.is_open(conn));
    assert!(matches!(handle.send_text(conn, "late"), Err(wsguard::binding::Error::ConnectionClosed)));
}

/// Ahead of the close, behind every message, and only to those who ask for it.
#[test]
fn that_a_connection_begins_to_close_is_told_to_who_heeds_it() {
    for heeds in [false, true] {
        let mut server = start("");
        let handle = server.handle();
        handle.heed_closing(heeds);
        let mut client = connect(&handle);
        let conn = opened(&mut server);
        client.write_all(&text("last")).unwrap();
        let mut told = Vec::new();
        let mut batch = EventBatch::new();
        let mut is_over = false;
        while !is_over {
            assert_eq!(server.events().next(&mut batch, Some(Duration::from_secs(10))), Next::Events);
            for event in batch.iter() {
                assert_eq!(event.conn(), Some(conn));
                match event {
                    Event::Text(..) => {
                        told.push("text");
                        handle.close(conn, 1000, "enough").unwrap();
                    }
                    Event::Closing(_) => {
                        told.push("closing");
                        assert!(handle.is_open(conn));
                    }
                    Event::Close(close) => {
                        told.push("close");
                        assert!(close.clean && !handle.is_open(conn));
                        is_over = true;
                    }
                    other => panic!("{other:?}"),
                }
                if told.last() == Some(&if heeds { "closing" } else { "text" }) {
                    assert_eq!(next_frame(&mut client).0, 0x88);
                    client.write_all(&[0x88, 0x80, 0, 0, 0, 0]).unwrap();
                }
            }
        }
        let expected: &[_] = if heeds { &["text", "closing", "close"] } else { &["text", "close"] };
        assert_eq!(told, expected);
    }
}

#[test]
fn a_close_may_have_no_code() {
    let mut server = start("");
    let handle = server.handle();
    let client = connect(&handle);
    handle.close_without_code(opened(&mut server)).unwrap();
    assert_eq!(rest(client)[..2], [0x88, 0]);
}

#[test]
fn listening_ends_and_connections_stay() {
    let mut server = Builder::new().start(options(r#", "listen": "127.0.0.1:0""#)).unwrap();
    let (handle, address) = (server.handle(), server.address().to_owned());
    let mut client = TcpStream::connect(&address).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    client.write_all(&head("https://a.example")).unwrap();
    expect_101(&mut client);
    let conn = opened(&mut server);
    handle.stop_listening();
    drop(TcpListener::bind(&address).expect("the address is free"));
    handle.send_text(conn, "hi").unwrap();
    assert_eq!(next_frame(&mut client), (0x81, b"hi".to_vec()));
}

/// A peer that ends its side without a close frame has left, whatever it has still to read.
#[test]
fn a_peer_that_ends_its_side_is_told_at_once_although_bytes_wait_for_it() {
    let mut server = start(r#", "threads": 1, "max_outbox_bytes": 33554432, "close_timeout_ms": 60000"#);
    let handle = server.handle();
    let mut client = connect(&handle);
    let conn = opened(&mut server);
    let large = vec![7; 16 << 20];
    handle.send_binary(conn, &large).unwrap();
    assert!(handle.buffered_bytes(conn) > 1 << 20, "no socket takes this much at once");
    let began = Instant::now();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(tell(&mut server, 1), ["close 1006 "]);
    assert!(began.elapsed() < Duration::from_secs(5), "nobody waited for it to read");
    assert_eq!(handle.send_text(conn, "x").unwrap_err().code(), "connection_closed");
    // What was said before still reaches it.
    let mut all = vec![0; large.len() + 10];
    client.read_exact(&mut all).unwrap();
    assert_eq!(rest(client), b"", "and no close frame");
}
