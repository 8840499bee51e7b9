//! What the application is told, and what wakes it.

use std::sync::mpsc;

use wsguard::binding::{Accept, Decision, Wake};

use super::*;

#[test]
fn a_violation_says_what_was_wrong() {
    let mut server = start(r#", "max_message_bytes": 4"#);
    let mut client = connect(&server.handle());
    client.write_all(&text("12345")).unwrap();
    let mut batch = EventBatch::new();
    let detail = loop {
        assert_eq!(server.events().next(&mut batch, Some(Duration::from_secs(10))), Next::Events);
        let told = batch.iter().find_map(|event| match event {
            Event::Violation(violation) => Some(violation.detail.to_string()),
            _ => None,
        });
        if let Some(detail) = told {
            break detail;
        }
    };
    assert_eq!(detail, "a message of 5 bytes at least is over max_message_bytes (4)");
}

/// Its own end, and that of the credential, which `max_session_ms` does not move.
#[test]
fn the_application_knows_when_a_session_ends() {
    let end = 4_000_000_000_000;
    assert_eq!(told_ends("", end), (Some(end), Some(end)));
    let (session, credential) = told_ends(r#", "max_session_ms": 3600000"#, end);
    assert!(session.is_some_and(|session| session < end) && credential == Some(end), "{session:?} {credential:?}");
}

fn told_ends(more: &str, end: u64) -> (Option<u64>, Option<u64>) {
    let json = format!(r#"{{"origins": ["https://a.example"], "auth": "callback"{more}}}"#);
    let mut server = Builder::new().without_listener().start(Options::from_json(&json).unwrap()).unwrap();
    let handle = server.handle();
    let (mut client, socket) = accepted();
    handle.adopt(socket, head("https://a.example")).unwrap();
    let mut batch = EventBatch::new();
    assert_eq!(server.events().next(&mut batch, Some(Duration::from_secs(10))), Next::Events);
    let Some(Event::Upgrade(upgrade)) = batch.get(0) else { panic!("no upgrade") };
    let accept = Accept { user: Some("alice".into()), expires_at_ms: Some(end), ..Accept::default() };
    handle.answer(upgrade.ticket, Decision::Accept(accept)).unwrap();
    expect_101(&mut client);
    assert_eq!(server.events().next(&mut batch, Some(Duration::from_secs(10))), Next::Events);
    let Some(Event::Open(open)) = batch.get(0) else { panic!("no open") };
    (open.expires_at_ms, open.credential_ends_at_ms)
}

#[test]
fn an_open_tells_what_the_application_may_ask_of_a_connection() {
    let more = r#", "routes": {"/room/{name}": {"keep_headers": ["User-Agent"], "keep_cookies": ["theme"]}}"#;
    let mut server = start(more);
    let (mut client, socket) = accepted();
    let own = client.local_addr().unwrap();
    let head = String::from_utf8(head("https://a.example")).unwrap();
    let (_, rest) = head.split_once(" HTTP/1.1").unwrap();
    let sent = rest.replacen("\r\n", "\r\nUser-Agent: cli/1\r\nCookie: sid=1; theme=dark\r\n", 1);
    let sent = format!("GET /room/a%20b?x=1 HTTP/1.1{sent}");
    server.handle().adopt(socket, sent.into_bytes()).unwrap();
    expect_101(&mut client);
    let mut batch = EventBatch::new();
    assert_eq!(server.events().next(&mut batch, Some(Duration::from_secs(10))), Next::Events);
    let Some(Event::Open(open)) = batch.get(0) else { panic!("no open") };
    let pairs = |pairs: &[(Box<str>, Box<str>)]| pairs.iter().map(|(a, b)| format!("{a}={b}")).collect::<Vec<_>>();
    assert_eq!(
        (pairs(&open.headers), pairs(&open.cookies)),
        (vec!["user-agent=cli/1".into()], vec!["theme=dark".into()])
    );
    assert_eq!((open.query.as_deref(), open.origin.as_deref()), (Some("x=1"), Some("https://a.example")));
    assert_eq!((open.route.as_deref(), open.params[0].1.as_str()), (Some("/room/{name}"), "a b"));
    assert_eq!((open.peer, open.port, open.tls.is_none()), (Some(own), Some(own.port()), true));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
    assert!((now - 60_000..=now).contains(&open.opened_at_ms), "{}", open.opened_at_ms);
}

#[test]
fn the_applications_own_validation_closes_with_schema_mismatch() {
    let mut server = start("");
    let handle = server.handle();
    let _client = connect(&handle);
    let conn = opened(&mut server);
    handle.refuse(conn, "say").unwrap();
    assert_eq!(tell(&mut server, 2), ["schema_mismatch Some(\"say\")", "close 1008 schema mismatch"]);
    assert_eq!(handle.stats().verdicts.iter().sum::<u64>(), 1);
}

struct Bell(mpsc::Sender<()>);

impl Wake for Bell {
    fn wake(&self) {
        let _ = self.0.send(());
    }
}

#[test]
fn an_application_that_listens_to_ends_alone_is_woken_for_the_end_alone() {
    let (rings, rung) = mpsc::channel();
    let builder = Builder::new().without_listener().wake(Bell(rings));
    let mut server = builder.start(options(r#", "threads": 1"#)).unwrap();
    let handle = server.handle();
    handle.heed(false, true, false);
    assert_eq!(server.events().next(&mut EventBatch::new(), Some(Duration::ZERO)), Next::Nothing);
    let mut client = connect(&handle);
    client.write_all(&[0x81, 0]).unwrap(); // an unmasked frame
    rung.recv_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!(tell(&mut server, 2), ["open 127.0.0.1 /chat", "close 1002 bad frame"]);
}

#[test]
fn events_that_nobody_listens_to_come_without_one_that_somebody_does() {
    let mut server = start("");
    let handle = server.handle();
    handle.heed(false, false, false);
    let mut client = connect(&handle);
    // An unmasked frame.
    client.write_all(&[0x81, 0]).unwrap();
    assert_eq!(tell(&mut server, 2), ["open 127.0.0.1 /chat", "close 1002 bad frame"]);
    assert_eq!(handle.stats().verdict(wsguard::binding::Code::BadFrame), 1);
}

/// Where message rules only report, what breaks others ends its connection all the same, and that is told however much else is.
#[test]
fn what_ended_a_connection_is_told_also_where_messages_are_only_reported() {
    let mut server =
        start(r#", "threads": 1, "on_violation": "report", "message_timeout_ms": 300, "max_inbox_bytes": 100000"#);
    let handle = server.handle();
    let mut client = connect(&handle);
    client.write_all(&text("unfinished")[..8]).unwrap();
    let _others = (0..5).map(|_| connect_to(&"p".repeat(8000), &handle)).collect::<Vec<_>>();
    let _full = handle.hold_inbox(1 << 30);
    while handle.stats().verdict(wsguard::binding::Code::MessageTimeout) == 0 {
        std::thread::yield_now();
    }
    let told = tell(&mut server, 8);
    assert_eq!(told[6..], ["message_timeout None", "close 1008 message timeout"]);
}

#[test]
fn a_flood_of_refusals_keeps_no_newcomer_out() {
    let server = start(r#", "threads": 1, "handshakes_per_ip": null, "max_inbox_bytes": 20000"#);
    let handle = server.handle();
    for _ in 0..200 {
        let (client, socket) = accepted();
        handle.adopt(socket, head("https://evil.example")).unwrap();
        assert!(rest(client).starts_with(b"HTTP/1.1 403"));
    }
    assert_eq!(handle.stats().verdict(wsguard::binding::Code::OriginDenied), 200);
    connect(&handle);
}

#[test]
fn whom_a_peer_knows_to_be_there_the_application_knows_before_it_hears_the_peer() {
    const CLIENTS: usize = 9;
    let mut server = start(r#", "threads": 3"#);
    let handle = server.handle();
    let mut clients: Vec<TcpStream> = Vec::new();
    for there in 1..=CLIENTS {
        clients.push(connect(&handle));
        for client in &mut clients {
            client.write_all(&text(&there.to_string())).unwrap();
        }
    }
    let sent = (CLIENTS * (CLIENTS + 1) / 2) as u64;
    while handle.stats().messages_in < sent {
        std::thread::yield_now();
    }
    let (mut batch, mut opened, mut heard) = (EventBatch::new(), 0, 0);
    while server.events().next(&mut batch, Some(Duration::ZERO)) == Next::Events {
        for event in batch.iter() {
            match event {
                Event::Open(_) => opened += 1,
                Event::Text(_, there) => {
                    heard += 1;
                    assert!(there.parse::<usize>().unwrap() <= opened, "{there} are there, {opened} were told");
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!((opened, heard), (CLIENTS, sent));
}

#[test]
fn whoever_handles_the_last_close_may_say_so_to_the_others() {
    let mut server = start("");
    let handle = server.handle();
    let client = connect(&handle);
    let mut batch = EventBatch::new();
    handle.stop();
    let (mut closed, mut next) = (0, Next::Nothing);
    while next != Next::Stopped {
        next = server.events().next(&mut batch, Some(Duration::from_secs(10)));
        for event in batch.iter() {
            if let Event::Close(_) = event {
                closed += 1;
                // Also when the threads have ended.
                while handle.close_elsewhere(To::Everyone, 1000, "").is_ok() {
                    std::thread::yield_now();
                }
                handle.broadcast_text(To::Room("lobby"), "left", &[]).unwrap();
                handle.close_all(To::Everyone, 1000, "", &[]).unwrap();
                assert!(handle.broadcast_text(To::Room(""), "left", &[]).is_err());
            }
        }
    }
    assert_eq!(closed, 1);
    drop(client);
    assert!(handle.broadcast_text(To::Room("lobby"), "left", &[]).is_err());
}
