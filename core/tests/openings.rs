#![expect(clippy::unwrap_used, reason = "a test")]
//! Openings against a running server: what was granted and taken back before it was open, and that whoever leaves, wherever in
//! its handshake, leaves nothing behind.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use wsguard::binding::{
    Accept, Builder, Decision, Event, EventBatch, Next, Options, Reject, Server, ServerHandle, Stats, TicketId,
};
use wsguard_test_support::dice::Dice;

const PATIENCE: Duration = Duration::from_secs(20);

fn start(more: &str) -> Server {
    let json = format!(
        r#"{{"listen": "127.0.0.1:0", "origins": ["https://a.example"], "auth": "callback", "protocol": "raw",
            "handshakes_per_ip": null, "max_connections_per_ip": 10000, "max_connections_per_user": 10000 {more}}}"#
    );
    Builder::new().start(Options::from_json(&json).unwrap()).unwrap()
}

const HEAD: &str = "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nOrigin: https://a.example\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

fn connect(address: &str, sent: &[u8]) -> TcpStream {
    let mut client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(sent).unwrap();
    client
}

/// What is answered, up to the end of the head.
fn status(client: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).split(' ').nth(1).unwrap().to_owned()
}

/// Whether the server closes a connection, in whatever way.
fn is_closed(client: &mut TcpStream) -> bool {
    let mut frame = [0; 2];
    matches!(client.read(&mut frame), Ok(0)) || frame[0] == 0x88
}

fn accept(user: &str) -> Decision {
    Decision::Accept(Accept { user: Some(user.to_owned()), ..Accept::default() })
}

/// Waits until the counters are as wanted; the last ones when they do not become so.
fn settle(server: &ServerHandle, wanted: impl Fn(&Stats) -> bool) -> Result<(), Box<Stats>> {
    let deadline = Instant::now() + PATIENCE;
    while !wanted(&server.stats()) {
        if Instant::now() > deadline {
            return Err(Box::new(server.stats()));
        }
        std::thread::yield_now();
    }
    Ok(())
}

#[test]
fn who_is_disconnected_behind_the_accept_does_not_get_in_and_who_is_accepted_behind_it_does() {
    for (is_corked, accepts_first) in [(false, true), (true, true), (false, false), (true, false)] {
        let server = start(r#", "threads": 2"#);
        let address = server.address().to_owned();
        let mut clients: Vec<_> = (0..40).map(|_| connect(&address, HEAD.as_bytes())).collect();
        let handle = server.handle();
        let stopper = handle.clone();
        let run = std::thread::spawn(move || {
            // `run` corks each batch of its own accord: another server's cork is none.
            server.run(|event, server| {
                if let Event::Upgrade(upgrade) = event {
                    let cork = is_corked.then(|| server.cork());
                    if accepts_first {
                        server.answer(upgrade.ticket, accept("alice")).unwrap();
                    }
                    server.disconnect_user("alice").unwrap();
                    if !accepts_first {
                        server.answer(upgrade.ticket, accept("alice")).unwrap();
                    }
                    drop(cork);
                }
            });
        });
        if accepts_first {
            for client in &mut clients {
                let answered = status(client);
                assert!(answered == "401" || answered == "101" && is_closed(client), "{answered}: served");
            }
            settle(&handle, |stats| stats.connections == 0 && stats.open == 0).unwrap();
        } else {
            // Each was let in behind its own call; only the calls behind that one close it.
            let answers: Vec<_> = clients.iter_mut().map(status).collect();
            assert!(answers.iter().all(|answer| answer == "101" || answer == "401"), "{answers:?}");
            assert!(answers.iter().any(|answer| answer == "101"), "{answers:?}");
            let mut last = connect(&address, HEAD.as_bytes());
            assert_eq!(status(&mut last), "101");
            settle(&handle, |stats| stats.open == 1).unwrap();
        }
        stopper.stop();
        run.join().unwrap();
    }
}

/// From another thread than the one that answers, at any moment.
#[test]
fn a_call_from_another_thread_leaves_nobody_of_before() {
    let server = start(r#", "threads": 2"#);
    let address = server.address().to_owned();
    let (handle, stopper) = (server.handle(), server.handle());
    let run = std::thread::spawn(move || {
        server.run(|event, server| {
            if let Event::Upgrade(upgrade) = event {
                let _ = server.answer(upgrade.ticket, accept("alice"));
            }
        });
    });
    for round in 0..20 {
        let clients: Vec<_> = (0..10).map(|_| connect(&address, HEAD.as_bytes())).collect();
        for _ in 0..round * 50 {
            std::hint::spin_loop();
        }
        handle.disconnect_user("alice").unwrap();
        drop(clients);
    }
    settle(&handle, |stats| stats.connections == 0 && stats.open == 0 && stats.pending_auth == 0).unwrap();
    // Everybody of before is gone; a call when all is quiet finds whoever is open, and nobody else.
    let mut before = connect(&address, HEAD.as_bytes());
    assert_eq!(status(&mut before), "101");
    handle.disconnect_user("alice").unwrap();
    let mut after = connect(&address, HEAD.as_bytes());
    assert_eq!(status(&mut after), "101");
    assert!(is_closed(&mut before));
    settle(&handle, |stats| stats.open == 1).unwrap();
    stopper.stop();
    run.join().unwrap();
}

#[test]
fn a_session_that_is_over_is_refused_before_its_101() {
    let server = start("");
    let (address, handle) = (server.address().to_owned(), server.handle());
    let run = std::thread::spawn(move || {
        server.run(|event, server| {
            if let Event::Upgrade(upgrade) = event {
                let over = Accept { user: Some("alice".to_owned()), expires_at_ms: Some(1), ..Accept::default() };
                server.answer(upgrade.ticket, Decision::Accept(over)).unwrap();
            }
            assert!(!matches!(event, Event::Open(_) | Event::Text(..)), "served");
        });
    });
    let mut client = connect(&address, &[HEAD.as_bytes(), &[0x81, 0x81, 0, 0, 0, 0, b'x']].concat());
    assert_eq!(status(&mut client), "401");
    handle.stop();
    run.join().unwrap();
}

#[test]
fn openings_that_are_abandoned_anywhere_leave_nothing_behind() {
    let mut server = start(
        r#", "threads": 2, "max_pending_auth": 8, "trusted_proxies": ["127.0.0.1"], "handshake_timeout_ms": 500"#,
    );
    let (address, handle) = (server.address().to_owned(), server.handle());
    let (said, says) = mpsc::channel();
    let hangs = Arc::new(AtomicUsize::new(0));
    let is_over = Arc::new(AtomicBool::new(false));
    let (counted, over) = (Arc::clone(&hangs), Arc::clone(&is_over));
    let application = std::thread::spawn(move || {
        let (handle, mut batch, mut dice) = (server.handle(), EventBatch::new(), Dice::new(7));
        let mut ends = HashMap::<TicketId, i32>::new();
        // A level falls before its end is told: what is told last may still be on its way when all levels are 0.
        let most = Instant::now() + Duration::from_secs(60);
        while !over.load(Ordering::Acquire) || ends.values().any(|count| *count == 0) && Instant::now() < most {
            if server.events().next(&mut batch, Some(Duration::from_millis(5))) != Next::Events {
                continue;
            }
            for event in batch.iter() {
                let upgrade = match event {
                    Event::Upgrade(upgrade) => upgrade,
                    Event::UpgradeGone(ticket) => {
                        *ends.entry(ticket).or_default() += 1;
                        continue;
                    }
                    Event::Open(open) => {
                        let ticket = open.ticket.unwrap();
                        assert_eq!(open.tag, Some(ticket.to_u64()));
                        *ends.entry(ticket).or_default() += 1;
                        continue;
                    }
                    _ => continue,
                };
                assert_eq!(ends.insert(upgrade.ticket, 0), None, "told before it asked");
                let tag = Some(upgrade.ticket.to_u64());
                let refusal = match dice.roll(6) {
                    0 => handle.answer(upgrade.ticket, Decision::reject(403)),
                    1 => handle.answer(upgrade.ticket, Decision::Unavailable),
                    2 => {
                        counted.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                    3 => {
                        let headers = vec![("Connection".to_owned(), "close".to_owned())];
                        let bad = Accept { headers, tag, ..Accept::default() };
                        let error = handle.answer(upgrade.ticket, Decision::Accept(bad)).unwrap_err();
                        assert!(matches!(error.code(), "invalid_argument" | "ticket_settled"), "{error}");
                        continue;
                    }
                    _ => {
                        let good = Accept { user: Some("alice".to_owned()), tag, ..Accept::default() };
                        let _ = handle.answer(upgrade.ticket, Decision::Accept(good));
                        continue;
                    }
                };
                // One that was taken is the end; behind a late one comes another.
                *ends.entry(upgrade.ticket).or_default() += i32::from(refusal.is_ok());
                if dice.roll(10) == 0 {
                    handle.disconnect_user("alice").unwrap();
                }
            }
        }
        said.send(ends).unwrap();
        server
    });
    let mut dice = Dice::new(42);
    let mut kept = Vec::new();
    // On a busy machine the application hardly comes to the first of them.
    for number in (0..20_000).take_while(|number| *number < 400 || hangs.load(Ordering::Relaxed) == 0) {
        let head = HEAD.replace("Host", &format!("X-Forwarded-For: 10.0.{}.1\r\nHost", dice.roll(5)));
        let sent = match dice.roll(8) {
            0 => &head[..0],
            1 => &head[..=dice.roll(head.len() as u64 - 2) as usize],
            2 => "GET /healthz HTTP/1.0\r\n\r\n",
            3 => "GET / HTTP/1.1\n\r\n",
            _ => &head[..],
        };
        let client = connect(&address, sent.as_bytes());
        match dice.roll(4) {
            0 => drop(client),
            1 => {
                let _ = client.shutdown(Shutdown::Write);
                kept.push(client);
            }
            2 => {
                let _ = socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO));
                drop(client);
            }
            _ => kept.push(client),
        }
        if number % 20 == 0 {
            kept.clear();
        }
    }
    kept.clear();
    let is_idle = |stats: &Stats| {
        (stats.connections, stats.open, stats.pending_auth, stats.outbox_bytes, stats.inbox_bytes) == (0, 0, 0, 0, 0)
    };
    settle(&handle, is_idle).unwrap();
    assert!(hangs.load(Ordering::Relaxed) > 0, "the dice never let an answer out");
    is_over.store(true, Ordering::Release);
    let ends = says.recv().unwrap();
    assert!(ends.values().all(|count| *count == 1), "each that asks has one end: {ends:?}");
    drop(application.join().unwrap());
}

/// A body that is larger than the buffer of a fresh socket arrives whole, and a 101 has what the application gave it.
#[test]
fn answers_have_the_headers_and_the_body_of_the_application() {
    let server = start(r#", "threads": 1"#);
    let (address, stopper) = (server.address().to_owned(), server.handle());
    let run = std::thread::spawn(move || {
        server.run(|event, server| {
            let Event::Upgrade(upgrade) = event else { return };
            let headers = vec![("X-A".to_owned(), "b".repeat(8000))];
            let decision = match upgrade.request.path.as_str() {
                "/large" => Decision::Reject(Reject { status: 499, headers, body: vec![b'x'; 65_536] }),
                _ => Decision::Accept(Accept { subprotocol: Some("v2".into()), headers, ..Accept::default() }),
            };
            server.answer(upgrade.ticket, decision).unwrap();
        });
    });
    let head = HEAD.replace("Host", "Sec-WebSocket-Protocol: v1, v2\r\nHost");
    let mut client = connect(&address, head.replace("GET /", "GET /large").as_bytes());
    let mut all = Vec::new();
    client.read_to_end(&mut all).unwrap();
    let (head_of, body) = all.split_at(all.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4);
    assert!(head_of.starts_with(b"HTTP/1.1 499 Refused\r\n"));
    assert_eq!((body.len(), body.iter().all(|byte| *byte == b'x')), (65_536, true));
    let mut client = connect(&address, head.as_bytes());
    let mut answer = vec![0; 8150];
    client.read_exact(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 101 ") && answer.contains("\r\nSec-WebSocket-Protocol: v2\r\nX-A: bbb"));
    stopper.stop();
    run.join().unwrap();
}

/// Whoever is only kept to be told that there is no place is told so, however slowly it asks.
#[test]
fn who_asks_slowly_where_no_place_is_left_hears_of_that() {
    let mut server = start(r#", "max_connections": 1"#);
    let address = server.address().to_owned();
    let _first = connect(&address, b"GET /");
    settle(&server.handle(), |stats| stats.connections == 1).unwrap();
    let mut slow = connect(&address, b"GET /");
    assert_eq!(status(&mut slow), "503");
    let mut batch = EventBatch::new();
    assert_eq!(server.events().next(&mut batch, Some(PATIENCE)), Next::Events);
    let Some(Event::Violation(violation)) = batch.get(0) else { panic!("no violation") };
    assert_eq!((violation.code.name(), &*violation.detail), ("server_full", "max_connections (1) are open"));
}

/// Nobody is asked about a request that came too late for its own path, and nobody is let in by one.
#[test]
fn a_request_that_is_too_late_for_its_route_is_refused() {
    for auth in [r#""callback""#, r#""none""#] {
        let routes = format!(r#", "routes": {{"/": {{}}, "/quick": {{"handshake_timeout_ms": 50, "auth": {auth}}}}}"#);
        let mut server = start(&routes);
        let address = server.address().to_owned();
        let began = Instant::now();
        let mut late = connect(&address, b"GET ");
        while began.elapsed() < Duration::from_millis(60) {
            std::thread::yield_now();
        }
        late.write_all(HEAD.replace("GET /", "/quick").as_bytes()).unwrap();
        assert_eq!(status(&mut late), "408");
        let mut batch = EventBatch::new();
        assert_eq!(server.events().next(&mut batch, Some(PATIENCE)), Next::Events);
        let Some(Event::Violation(violation)) = batch.get(0) else { panic!("not refused first of all") };
        assert_eq!(&*violation.detail, "no whole request within handshake_timeout_ms (50)");
    }
}

/// Also where the request ends exactly where a read of ours does, and nobody has looked at what is behind it.
#[test]
fn an_answer_is_not_lost_to_what_comes_behind_the_request() {
    let server = start("");
    let (address, handle) = (server.address().to_owned(), server.handle());
    let run = std::thread::spawn(move || {
        server.run(|event, server| {
            if let Event::Upgrade(upgrade) = event {
                let _ = server.answer(upgrade.ticket, Decision::reject(403));
            }
        });
    });
    let foreign = HEAD.replace("a.example", "b.example");
    for head_len in [1000, 2048, 4096] {
        for head in [HEAD, &*foreign] {
            let pad = format!("X-Pad: {}\r\n\r\n", "p".repeat(head_len - head.len() - 9));
            let head = [&head[..head.len() - 2], &*pad].concat();
            assert_eq!(head.len(), head_len);
            for behind in [1, 3000] {
                let mut client = connect(&address, &[head.as_bytes(), &vec![b'x'; behind]].concat());
                let mut answer = Vec::new();
                client.read_to_end(&mut answer).unwrap();
                assert!(answer.starts_with(b"HTTP/1.1 403 "), "{head_len} {behind}");
            }
        }
    }
    handle.stop();
    run.join().unwrap();
}
