//! Requests as scrapers, probes and vandals send them, without a socket.

use proptest::prelude::*;

use super::*;

struct Server {
    is_draining: bool,
    inbox_age: Duration,
    is_cut_off: bool,
}

impl Facts for Server {
    fn is_draining(&self) -> bool {
        self.is_draining
    }

    fn inbox_age(&self) -> Duration {
        self.inbox_age
    }

    fn is_cut_off(&self) -> bool {
        self.is_cut_off
    }

    fn metrics(&self) -> String {
        "# EOF\n".to_owned()
    }
}

const WELL: Server = Server { is_draining: false, inbox_age: Duration::ZERO, is_cut_off: false };

fn listen() -> AdminListen {
    AdminListen::parse("127.0.0.1:9464", false).unwrap()
}

fn asked(request: &str, server: &Server) -> String {
    let answer = answer(request.as_bytes(), &mut HeadScanner::default(), &listen(), server).expect("a whole request");
    String::from_utf8(answer).unwrap()
}

fn status(request: &str, server: &Server) -> (u16, String) {
    let answer = asked(request, server);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let length = head.split("Content-Length: ").nth(1).unwrap().split('\r').next().unwrap().parse::<usize>().unwrap();
    assert!(body.len() == length || request.starts_with("HEAD") && body.is_empty(), "{answer}");
    assert!(head.contains("\r\nConnection: close"), "{answer}");
    (answer[9..12].parse().unwrap(), body.to_owned())
}

#[test]
fn three_pages_and_nothing_else() {
    for (request, expected, body) in [
        ("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", 200, "# EOF\n"),
        ("GET /metrics HTTP/1.0\r\n\r\n", 200, "# EOF\n"),
        ("GET /metrics HTTP/1.1\r\n\r\n", 200, "# EOF\n"),
        ("GET /metrics?name[]=x HTTP/1.1\r\nHost: a.localhost\r\nHost: [::1]\r\n\r\n", 200, "# EOF\n"),
        ("GET http://127.0.0.1:9464/metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", 200, "# EOF\n"),
        ("HEAD /metrics HTTP/1.1\r\n\r\n", 200, ""),
        ("GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200, "ok"),
        ("HEAD /healthz HTTP/1.1\r\n\r\n", 200, ""),
        ("GET /readyz HTTP/1.1\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n", 200, "ok"),
        ("GET / HTTP/1.1\r\n\r\n", 404, "Not Found"),
        ("HEAD / HTTP/1.1\r\n\r\n", 404, ""),
        ("GET /metrics/ HTTP/1.1\r\n\r\n", 404, "Not Found"),
        ("GET //metrics HTTP/1.1\r\n\r\n", 404, "Not Found"),
        ("GET /%6detrics HTTP/1.1\r\n\r\n", 404, "Not Found"),
        ("GET /healthz/../metrics HTTP/1.1\r\n\r\n", 404, "Not Found"),
        ("GET http://x HTTP/1.1\r\n\r\n", 404, "Not Found"),
        ("OPTIONS * HTTP/1.1\r\n\r\n", 404, "Not Found"),
        ("POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 405, "Method Not Allowed"),
        ("get /metrics HTTP/1.1\r\n\r\n", 405, "Method Not Allowed"),
        ("DELETE /readyz HTTP/1.1\r\n\r\n", 405, "Method Not Allowed"),
        ("GET /metrics HTTP/2.0\r\n\r\n", 505, "HTTP Version Not Supported"),
        ("GET /metrics\r\n\r\n", 400, "Bad Request"),
        ("GET  /metrics HTTP/1.1\r\n\r\n", 400, "Bad Request"),
        ("GET /metrics HTTP/1.1\nHost: x\n\n", 400, "Bad Request"),
        ("GET /metrics HTTP/1.1\r\n folded\r\n\r\n", 400, "Bad Request"),
        ("\x16\x03\x01", 400, "Bad Request"),
    ] {
        assert_eq!(status(request, &WELL), (expected, body.to_owned()), "{request}");
    }
    assert!(asked("GET /metrics HTTP/1.1\r\n\r\n", &WELL).contains(&format!("\r\nContent-Type: {CONTENT_TYPE}\r\n")));
    assert!(asked("PUT /healthz HTTP/1.1\r\n\r\n", &WELL).contains("\r\nAllow: GET, HEAD\r\n"));
}

#[test]
fn a_page_of_a_hostile_name_reads_no_numbers() {
    let answered = |target: &str, host: &str| status(&format!("GET {target} HTTP/1.1\r\n{host}\r\n"), &WELL).0;
    for host in
        ["", "Host:\r\n", "Host: \r\n", "host: 127.0.0.1:9464\r\n", "HOST:\t[::1]\r\n", "X-Host: evil.example\r\n"]
    {
        assert_eq!(answered("/metrics", host), 200, "{host}");
        assert_eq!(answered("http://localhost:9464/readyz?x", host), 200, "{host}");
    }
    for host in [
        "Host: evil.example:9464\r\n",
        "hOsT: evil.example\r\n",
        "Host: localhost\r\nHost: evil.example\r\n",
        "Host: evil.example\r\nHost: localhost\r\n",
        "Host: evil@localhost\r\n",
        "Host: localhost:x\r\n",
        "Host: a b\r\n",
    ] {
        for page in ["/metrics", "/readyz", "/metrics?x", "http://localhost/metrics"] {
            assert_eq!(answered(page, host), 421, "{page} {host}");
        }
        // As the public port does.
        assert_eq!((answered("/healthz", host), answered("/", host)), (200, 404), "{host}");
    }
    for target in ["http://evil.example/metrics", "http://evil@localhost/metrics", "http:///metrics"] {
        assert_eq!(answered(target, "Host: localhost\r\n"), 421, "{target}");
    }
    assert_eq!(status("HEAD /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n", &WELL), (421, String::new()));
}

#[test]
fn what_is_not_whole_is_waited_for_and_too_much_is_refused() {
    let mut scanner = HeadScanner::default();
    let request = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for end in 0..request.len() {
        assert!(answer(&request.as_bytes()[..end], &mut scanner, &listen(), &WELL).is_none(), "{end}");
    }
    assert!(answer(request.as_bytes(), &mut scanner, &listen(), &WELL).is_some());
    let long = format!("GET /healthz HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(MAX_HEAD_BYTES));
    assert_eq!(status(&long, &WELL).0, 431);
    let many = format!("GET /healthz HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(200));
    assert_eq!(status(&many, &WELL).0, 431);
}

#[test]
fn a_server_is_ready_while_it_runs_and_is_listened_to() {
    let late = Server { inbox_age: READY_INBOX_AGE, ..WELL };
    let nearly = Server { inbox_age: READY_INBOX_AGE.saturating_sub(Duration::from_nanos(1)), ..late };
    let draining = Server { is_draining: true, ..WELL };
    let cut_off = Server { is_cut_off: true, ..WELL };
    for (page, server, expected, body) in [
        ("/healthz", &cut_off, 200, "ok"),
        ("/readyz", &cut_off, 503, "the cluster cannot be reached"),
        ("/healthz", &draining, 503, "draining"),
        ("/readyz", &draining, 503, "draining"),
        ("/metrics", &draining, 200, "# EOF\n"),
        ("/healthz", &late, 200, "ok"),
        ("/readyz", &late, 503, "the application does not take its events"),
        ("/metrics", &late, 200, "# EOF\n"),
        ("/readyz", &nearly, 200, "ok"),
    ] {
        assert_eq!(status(&format!("GET {page} HTTP/1.1\r\n\r\n"), server), (expected, body.to_owned()), "{page}");
        assert_eq!(status(&format!("HEAD {page} HTTP/1.1\r\n\r\n"), server).0, expected, "{page}");
    }
}

proptest! {
    /// Whatever comes, in whatever pieces: no panic, and no byte of it comes back.
    #[test]
    fn any_bytes_are_answered_with_our_own(
        request in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..300),
            "(GET|HEAD|PUT|x) [ -~]{0,20}(metrics|healthz|) HTTP/1.[0-9]\r\n([A-Za-z]{1,9}: [ -~]{0,9}\r\n){0,3}\r\n"
                .prop_map(String::into_bytes),
        ],
        cut in any::<usize>(),
    ) {
        let mut scanner = HeadScanner::default();
        let first = answer(&request[..cut % (request.len() + 1)], &mut scanner, &listen(), &WELL);
        let last = first.or_else(|| answer(&request, &mut scanner, &listen(), &WELL));
        if let Some(last) = last {
            let known = [200, 400, 404, 405, 414, 421, 431, 505].map(|status| format!("HTTP/1.1 {status} "));
            prop_assert!(known.iter().any(|line| last.starts_with(line.as_bytes())));
            prop_assert!(last.len() < 400);
        }
    }
}
