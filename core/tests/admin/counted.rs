//! Whether the numbers are true.

use wsguard::{Accept, Builder, ConnectionId, Decision, Handled, Inline, InlineMessage, Replies};

use super::*;

#[test]
fn what_happens_is_counted() {
    let mut server = Server::start(options(TOKENS)).unwrap();
    let handle = server.handle();
    let (mut one, status) = hello(&server, "good");
    assert_eq!((status, hello(&server, "good").1, hello(&server, "bad").1), (101, 101, 401));
    let (mut other, _) = hello(&server, "good");
    say(&mut one, "first");
    say(&mut one, "second");
    let (mut opened, mut texts, mut speaker) = (0, 0, None);
    until(&mut server, |event| {
        match event {
            Event::Open(_) => opened += 1,
            Event::Text(conn, _) => (texts, speaker) = (texts + 1, Some(*conn)),
            _ => {}
        }
        opened == 3 && texts == 2
    });
    // The second peer has left: its close may come at any time, and then it is none of everyone.
    handle.conn(speaker.unwrap()).send("mine").unwrap();
    assert_eq!(hear(&mut one), "mine");
    handle.everyone().except(speaker.unwrap()).send("all").unwrap();
    assert_eq!(hear(&mut other), "all");

    let text = page(&server, "/metrics");
    let of = |sample: &str| number(&text, sample);
    assert_eq!(of("wsguard_handshakes_total"), 4.0);
    assert_eq!(of("wsguard_handshake_duration_seconds_count"), 4.0);
    assert_eq!(of("wsguard_auth_duration_seconds_count"), 4.0);
    assert_eq!(of("wsguard_verdicts_total{code=\"auth_failed\"}"), 1.0);
    assert_eq!(of("wsguard_verdicts_total{code=\"origin_denied\"}"), 0.0);
    assert_eq!(of("wsguard_messages_received_total"), 2.0);
    assert!((2.0..=3.0).contains(&of("wsguard_messages_sent_total")));
    assert!(of("wsguard_received_bytes_total") >= 23.0 && of("wsguard_sent_bytes_total") >= 11.0);
    assert!((2.0..=3.0).contains(&of("wsguard_connections")));
    assert_eq!(of("wsguard_policy_generation"), 1.0);
    assert_eq!(of(concat!("wsguard_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}")), 1.0);
    assert!(of("wsguard_handshake_duration_seconds_sum") > 0.0);
    // A peer's name is nowhere in it.
    assert!(!text.contains("alice") && !text.contains("good"));
    let own = test_parser::parse(&handle.metrics()).unwrap();
    assert!(own.keys().eq(test_parser::parse(&text).unwrap().keys()));
}

#[test]
fn bytes_are_those_of_frames() {
    let mut server = Server::start(options(TOKENS)).unwrap();
    let mut client = TcpStream::connect(server.address()).unwrap();
    client.set_read_timeout(Some(TIMEOUT)).unwrap();
    // The first frame comes with the request.
    client.write_all(&[request("good").as_bytes(), b"\x81\x82\0\0\0\0hi"].concat()).unwrap();
    let handle = server.handle();
    until(&mut server, |event| match event {
        Event::Text(conn, _) => handle.conn(*conn).send("mine").is_ok(),
        _ => false,
    });
    assert_eq!((answered(&mut client), hear(&mut client)), (101, "mine".to_owned()));
    let counted = |sample| number(&page(&server, "/metrics"), sample);
    // It is counted behind the write, which the peer may see first.
    while counted("wsguard_sent_bytes_total") == 0.0 {
        std::thread::yield_now();
    }
    assert_eq!((counted("wsguard_received_bytes_total"), counted("wsguard_sent_bytes_total")), (8.0, 6.0));
}

struct Twice;

impl Inline for Twice {
    fn message(&self, _: ConnectionId, _: InlineMessage<'_>, replies: &mut Replies<'_>) -> Handled {
        replies.text("a");
        replies.binary(b"b");
        Handled::Done
    }
}

#[test]
fn replies_of_inline_handlers_are_messages() {
    let mut server = Builder::new().inline(Twice).start(options(r#", "auth": "none""#)).unwrap();
    let (mut client, _) = hello(&server, "");
    until(&mut server, |event| matches!(event, Event::Open(_)));
    assert!(matches!(server.next(Some(Duration::ZERO)), Next::TimedOut), "the open is let go");
    say(&mut client, "x");
    assert_eq!((hear(&mut client), hear(&mut client)), ("a".to_owned(), "b".to_owned()));
    let text = server.handle().metrics();
    assert_eq!(
        (number(&text, "wsguard_messages_received_total"), number(&text, "wsguard_messages_sent_total")),
        (1.0, 2.0)
    );
    // Nobody was asked who it is.
    assert_eq!(number(&text, "wsguard_auth_duration_seconds_count"), 0.0);
}

#[test]
fn the_applications_answers_are_timed() {
    let mut server = Server::start(options(r#", "auth": "callback""#)).unwrap();
    let handle = server.handle();
    for (decision, status) in [(Decision::Accept(Accept::default()), 101), (Decision::reject(418), 418)] {
        let mut client = TcpStream::connect(server.address()).unwrap();
        client.set_read_timeout(Some(TIMEOUT)).unwrap();
        client
            .write_all(
                b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nOrigin: https://a.example\r\n\
                  Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
            )
            .unwrap();
        let mut ticket = None;
        until(&mut server, |event| {
            if let Event::Upgrade(upgrade) = event {
                ticket = Some(upgrade.ticket);
            }
            ticket.is_some()
        });
        assert_eq!(number(&handle.metrics(), "wsguard_auth_pending"), 1.0);
        assert!(handle.answer(ticket.unwrap(), decision).unwrap());
        assert_eq!(answered(&mut client), status);
        // Lets the request go, which holds a place among those that wait.
        while matches!(server.next(Some(Duration::ZERO)), Next::Event(_)) {}
    }
    let text = handle.metrics();
    assert_eq!(number(&text, "wsguard_auth_duration_seconds_count"), 2.0);
    assert_eq!(number(&text, "wsguard_handshakes_total"), 2.0);
    assert_eq!(number(&text, "wsguard_auth_pending"), 0.0);
}

#[test]
fn a_certificate_tells_its_end_also_after_a_reload() {
    let files = std::env::temp_dir().join(format!("wsguard-metrics-{}", std::process::id()));
    std::fs::create_dir_all(&files).unwrap();
    let (cert, key) = (files.join("cert.pem"), files.join("key.pem"));
    let issue = |year: i32| {
        let pair = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        parameters.not_after = rcgen::date_time_ymd(year, 1, 1);
        std::fs::write(&cert, parameters.self_signed(&pair).unwrap().pem()).unwrap();
        std::fs::write(&key, pair.serialize_pem()).unwrap();
    };
    issue(2100);
    let tls = format!(r#", "auth": "none", "tls": {{"cert": {cert:?}, "key": {key:?}}}"#);
    let server = Server::start(options(&tls)).unwrap();
    let expiry = || number(&page(&server, "/metrics"), "wsguard_tls_certificate_expiry_seconds");
    assert_eq!(expiry(), 4_102_444_800.0);
    issue(2101);
    assert_eq!(expiry(), 4_102_444_800.0);
    server.handle().reload_tls().unwrap();
    assert_eq!(expiry(), 4_133_980_800.0);
    std::fs::remove_dir_all(&files).unwrap();
}
