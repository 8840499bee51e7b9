//! Who may ask, how, and for how long.

use std::io::ErrorKind;

use wsguard::{ConfigErrorKind, Drain, Error};

use super::*;

const NONE: &str = r#", "auth": "none""#;

#[test]
fn three_pages_and_nothing_else() {
    let server = Server::start(options(NONE)).unwrap();
    let text = asked(&server, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: text/html\r\n\r\n");
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(
        head.contains("\r\nContent-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"),
        "{head}"
    );
    assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())), "{head}");
    assert!(body.ends_with("\n# EOF\n"));
    assert_eq!((page(&server, "/healthz"), page(&server, "/readyz")), ("ok".to_owned(), "ok".to_owned()));
    assert_eq!((status(&server, "/"), status(&server, "/metrics/x"), status(&server, "/debug")), (404, 404, 404));
    let head = asked(&server, "HEAD /metrics HTTP/1.0\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    let posted = asked(&server, "POST /metrics HTTP/1.1\r\nContent-Length: 20000\r\n\r\n");
    assert!(posted.starts_with("HTTP/1.1 405 ") && posted.contains("\r\nAllow: GET, HEAD\r\n"), "{posted}");
    let long = asked(&server, &format!("GET /metrics HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(9000)));
    assert!(long.starts_with("HTTP/1.1 431 "), "{long}");
    // It opens no websocket, and the public port has no metrics.
    let upgrade = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    assert!(asked(&server, upgrade).starts_with("HTTP/1.1 200 OK\r\n"));
    let mut public = TcpStream::connect(server.address()).unwrap();
    public.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert_eq!(answered(&mut public), 426);
}

#[test]
fn slow_and_rude_clients_keep_nobody_out() {
    let server = Server::start(options(NONE)).unwrap();
    let mut crowd: Vec<_> = (0..100).map(|_| TcpStream::connect(server.admin_address().unwrap()).unwrap()).collect();
    for (index, client) in crowd.iter_mut().enumerate() {
        // Some say nothing, some half a request, some a whole one whose answer they never read, some garbage.
        let said: &[u8] = match index % 4 {
            0 => b"",
            1 => b"GET /metrics HTTP/1.1\r\nX: ",
            2 => b"GET /metrics HTTP/1.1\r\n\r\n",
            _ => b"\x16\x03\x01\x00\xff\r\n\r\n",
        };
        // Whoever had to make room is told so by an error.
        let _ = client.write_all(said);
    }
    for _ in 0..20 {
        assert!(page(&server, "/metrics").ends_with("# EOF\n"));
    }
    drop(crowd);
    assert_eq!(page(&server, "/readyz"), "ok");
}

#[test]
fn a_server_that_drains_is_neither_healthy_nor_ready() {
    let mut server = Server::start(options(r#", "auth": "none", "close_timeout_ms": 600000"#)).unwrap();
    let (client, _) = hello(&server, "");
    until(&mut server, |event| matches!(event, Event::Open(_)));
    // The peer never answers the close frame: the drain goes on for as long as it likes.
    server.handle().drain(Drain { timeout_ms: 600_000, jitter_ms: 0 });
    assert_eq!((status(&server, "/healthz"), status(&server, "/readyz")), (503, 503));
    assert_eq!(number(&page(&server, "/metrics"), "wsguard_verdicts_total{code=\"server_full\"}"), 0.0);
    let address = server.admin_address().unwrap().to_owned();
    drop(client);
    loop {
        match server.next(Some(TIMEOUT)) {
            Next::Stopped => break,
            Next::Event(_) => {}
            Next::TimedOut => panic!("the drain does not end"),
        }
    }
    // The server is over; its numbers can still be had from the handle.
    drop(server.handle().metrics());
    drop(server);
    assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn an_application_that_takes_no_events_is_not_ready() {
    let mut server = Server::start(options(NONE)).unwrap();
    let (_client, _) = hello(&server, "");
    let began = std::time::Instant::now();
    while status(&server, "/readyz") == 200 {
        assert!(began.elapsed() < TIMEOUT, "ready all the time");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(began.elapsed() > Duration::from_secs(4), "{:?}", began.elapsed());
    assert_eq!(status(&server, "/healthz"), 200);
    assert!(number(&page(&server, "/metrics"), "wsguard_inbox_age_seconds") >= 5.0);
    until(&mut server, |event| matches!(event, Event::Open(_)));
    assert_eq!(status(&server, "/readyz"), 200);
    assert_eq!(number(&page(&server, "/metrics"), "wsguard_inbox_age_seconds"), 0.0);
}

#[test]
fn a_public_address_is_refused_unless_it_is_asked_for() {
    let public = |more: &str| {
        let mut options = options(NONE);
        options.admin_listen = Some("0.0.0.0:0".into());
        options.dangerously_public_admin = more == "dangerously";
        Server::start(options)
    };
    match public("").unwrap_err() {
        Error::Config(error) => {
            assert_eq!((error.option.as_str(), error.kind), ("admin_listen", ConfigErrorKind::Contradiction));
            assert!(error.message.contains("`dangerously_public_admin`"), "{error}");
        }
        other => panic!("{other}"),
    }
    let server = public("dangerously").unwrap();
    let port = server.admin_address().unwrap().rsplit_once(':').unwrap().1.to_owned();
    assert!(TcpStream::connect(format!("127.0.0.1:{port}")).is_ok());
}

#[test]
fn a_page_of_a_hostile_name_reads_no_numbers() {
    let server = Server::start(options(NONE)).unwrap();
    let answered = |page: &str, host: &str| -> u16 {
        asked(&server, &format!("GET {page} HTTP/1.1\r\nHost: {host}\r\n\r\n"))[9..12].parse().unwrap()
    };
    let evil = "evil.example:9464";
    let own = server.admin_address().unwrap();
    assert_eq!((answered("/metrics", evil), answered("/readyz", evil), answered("/healthz", evil)), (421, 421, 200));
    assert_eq!(
        (answered("/metrics", own), answered("/metrics", "localhost:1"), status(&server, "/metrics")),
        (200, 200, 200)
    );
    // Who opts out of the guard of the address opts out of that of the name, from the next request on.
    server.handle().reload(Options { dangerously_public_admin: true, ..options(NONE) }).unwrap();
    assert_eq!(answered("/metrics", evil), 200);
}

#[test]
fn an_address_that_is_taken_is_told_by_its_option() {
    let server = Server::start(options(NONE)).unwrap();
    let mut second = options(NONE);
    second.admin_listen = server.admin_address().map(Into::into);
    let error = Server::start(second).unwrap_err();
    assert!(matches!(error, Error::AdminListen { .. }), "{error}");
    assert_eq!((error.option(), error.code()), (Some("admin_listen"), "listen_failed"));
    let without = Server::start(Options { admin_listen: None, ..options(NONE) }).unwrap();
    assert_eq!(without.admin_address(), None);
}

#[cfg(unix)]
#[test]
fn a_unix_socket_comes_and_goes_with_the_server() {
    use std::os::unix::net::UnixStream;
    let path = std::env::temp_dir().join(format!("wsguard-admin-{}.sock", std::process::id()));
    let mut on_a_file = options(NONE);
    on_a_file.admin_listen = Some(format!("unix:{}", path.display()));
    let server = Server::start(on_a_file).unwrap();
    assert_eq!(server.admin_address(), Some(&*format!("unix:{}", path.display())));
    let mut client = UnixStream::connect(&path).unwrap();
    client.write_all(b"GET /readyz HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("\r\n\r\nok"), "{answer}");
    drop(server);
    assert!(!path.exists());
}
