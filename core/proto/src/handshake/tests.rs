use super::*;
use crate::config::Options;
use crate::config::PolicySet;
use crate::files::NoFiles;
use proptest::prelude::*;

fn policy(more: &str) -> PolicySet {
    let json = format!(
        r#"{{"origins": ["https://app.example.com"], "auth": {{"tokens": [{{"token": "good", "user": "alice"}}]}} {more}}}"#
    );
    PolicySet::compile(Options::from_json(&json).unwrap(), &NoFiles).unwrap()
}

const HEAD: &str = "GET /chat?x=1 HTTP/1.1\r\nHost: app.example.com\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nOrigin: https://app.example.com\r\n\
    X-Auth-Token: good\r\n\r\n";

/// The whole judgement of one head, as the driver makes it.
fn judge(set: &PolicySet, head: &[u8]) -> Result<Decision, Refusal> {
    let policy = &set.top;
    let len = HeadScanner::default().scan(head, policy.max_head_bytes)?.expect("whole head");
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let request = Request::parse(&head[..len], &mut headers)?;
    let policy = &resolve(set, &request)?.policy;
    let mut reported = Reported::default();
    vet(policy, &request, &mut reported)?;
    authenticate(policy, &request, 0, &mut reported)
}

fn status(policy: &PolicySet, head: &str) -> (u16, Code) {
    let refusal = judge(policy, head.as_bytes()).expect_err(head);
    (refusal.status, refusal.code)
}

#[test]
fn an_honest_handshake_passes() {
    let granted = judge(&policy(""), HEAD.as_bytes()).unwrap();
    assert!(matches!(granted, Decision::Granted(granted) if granted.identity.user.as_deref() == Some("alice")));
}

#[test]
fn the_accept_key_is_the_rfc_example() {
    let mut out = Vec::new();
    accepted(&mut out, &policy("").top, "dGhlIHNhbXBsZSBub25jZQ==", Some("chat"), None, ResponseHeaders::NONE);
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
    assert!(text.contains("Sec-WebSocket-Protocol: chat\r\n"));
}

#[test]
fn each_fault_has_its_status() {
    let swap = |from: &str, to: &str| {
        assert!(HEAD.contains(from), "{from}");
        HEAD.replace(from, to)
    };
    let malformed = (400, Code::HandshakeMalformed);
    let cases = [
        (swap("GET ", "POST "), (405, Code::MethodNotAllowed)),
        (swap("HTTP/1.1", "HTTP/1.0"), (505, Code::HttpVersion)),
        (swap("HTTP/1.1", "HTTP/2.0"), (505, Code::HttpVersion)),
        (swap("HTTP/1.1", "HTTX/1.1"), malformed),
        (swap("HTTP/1.1\r\n", "\r\n"), malformed),
        (swap("Host: app.example.com\r\n", ""), malformed),
        (swap("Host: app.example.com\r\n", "Host: a\r\nHost: a\r\n"), malformed),
        (swap("Host: app.example.com", "Host: a b"), malformed),
        (swap("Host: ", "Host : "), malformed),
        (swap("Upgrade: websocket", "Upgrade: h2c"), (426, Code::UpgradeRequired)),
        (swap("Connection: keep-alive, Upgrade", "Connection: keep-alive"), (426, Code::UpgradeRequired)),
        (swap("Version: 13", "Version: 8"), (426, Code::UpgradeRequired)),
        (swap("Version: 13", "Version: 13, 8"), (426, Code::UpgradeRequired)),
        (swap("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", ""), malformed),
        (swap("ZQ==", "ZQQQ"), malformed),
        (swap("ZQ==", "ZQ="), malformed),
        (swap("dGhl", "dGh!"), malformed),
        (
            swap("Sec-WebSocket-Version", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version"),
            malformed,
        ),
        (swap("Origin: https://app.example.com", "Origin: https://evil.example"), (403, Code::OriginDenied)),
        (swap("Origin: https://app.example.com\r\n", ""), (403, Code::OriginDenied)),
        (swap("Origin: ", "Origin: https://app.example.com\r\nOrigin: "), malformed),
        (swap("X-Auth-Token: good", "X-Auth-Token: bad"), (401, Code::AuthFailed)),
        (swap("X-Auth-Token: good\r\n", ""), (401, Code::AuthFailed)),
        (swap("X-Auth-Token: good", "X-Auth-Token: good\r\nX-Auth-Token: goof"), malformed),
        (swap("X-Auth-Token", "Content-Length: 5\r\nX-Auth-Token"), malformed),
        (swap("X-Auth-Token", "Content-Length: 0\r\nContent-Length: 0\r\nX-Auth-Token"), malformed),
        (swap("X-Auth-Token", "Transfer-Encoding: chunked\r\nX-Auth-Token"), malformed),
        (swap("/chat?x=1", "/chat#x"), malformed),
        (swap("/chat?x=1", "*"), malformed),
        (swap("/chat?x=1", "/a b"), malformed),
        (swap("/chat?x=1", "/a b HTTP/1.1 c"), malformed),
        (swap("/chat?x=1", "http://app.example.com:443/chat"), malformed),
        (swap("/chat?x=1", "https://app.example.com:80/chat"), malformed),
        (swap("/chat?x=1", "chat"), malformed),
        (swap("/chat?x=1", "http://evil.example/chat"), malformed),
        (swap("/chat?x=1", "ftp://app.example.com/chat"), malformed),
        (swap("/chat?x=1", "http://app.example.com?x/chat"), malformed),
        (swap("/chat?x=1", "http://app.example.com?/chat"), malformed),
        (swap("/chat?x=1", &format!("/{}", "a".repeat(8192))), (414, Code::HeadTooLarge)),
    ];
    for (head, expected) in cases {
        assert_eq!(status(&policy(""), &head), expected, "{head}");
    }
}

#[test]
fn a_request_line_that_is_too_long_is_so_however_it_is_cut() {
    for (method, rest) in [("GET", ""), ("POST", ""), ("GET", "\u{1}"), ("GET", "\r")] {
        let head = format!("{method} /healthz?{}{rest} HTTP/1.1\r\n\r\n", "a".repeat(8300));
        for piece in [1000, 8000, head.len()] {
            let mut scanner = HeadScanner::default();
            let scan = |end: usize| scanner.scan(&head.as_bytes()[..end.min(head.len())], 16_384);
            let verdict = (1..20).map(|count| count * piece).map(scan).find(|outcome| *outcome != Ok(None));
            assert_eq!(verdict.unwrap().unwrap_err().status, 414, "{method} in pieces of {piece}");
        }
    }
}

#[test]
fn honest_variants_pass() {
    let swap = |from: &str, to: &str| HEAD.replace(from, to);
    let heads = [
        swap("/chat?x=1", "http://app.example.com/chat"),
        swap("/chat?x=1", "WSS://APP.example.com"),
        swap("/chat?x=1", "http://app.example.com?x=1"),
        swap("/chat?x=1", "http://app.example.com/?x/1"),
        swap("/chat?x=1", "http://app.example.com:80/chat"),
        swap("/chat?x=1", "wss://app.example.com:443/chat"),
        swap("/chat?x=1", "https://app.example.com").replace("Host: app.example.com", "Host: app.example.com:443"),
        swap("ZQ==", "ZR=="),
        // RFC 6455 section 4.1, item 7.
        swap("dGhlIHNhbXBsZSBub25jZQ==", "AQIDBAUGBwgJCgsMDQ4PEC=="),
        swap("Upgrade: websocket", "upgrade: WebSocket"),
        swap("X-Auth-Token", "Content-Length: 00\r\nX-Auth-Token"),
        swap("X-Auth-Token: good", "X-Auth-Token: good\r\nx-auth-token: good"),
        swap("Connection: keep-alive, Upgrade", "Connection: keep-alive\r\nConnection: upgrade"),
        swap("X-Auth-Token", "Content-Length: 0\r\nX-Auth-Token"),
        swap("Origin: https://app.example.com", "Origin: HTTPS://App.Example.com:443"),
        swap("X-Auth-Token: good", "Authorization: Bearer good"),
        swap("Host: app.example.com", "Host:app.example.com:8080 "),
    ];
    for head in heads {
        judge(&policy(""), head.as_bytes()).expect(&head);
    }
}

#[test]
fn paths_and_hosts_are_allow_lists() {
    let policy = policy(r#", "paths": ["/chat"], "hosts": ["app.example.com"]"#);
    judge(&policy, HEAD.as_bytes()).unwrap();
    assert_eq!(status(&policy, &HEAD.replace("/chat", "/chat/")), (404, Code::PathNotFound));
    assert_eq!(status(&policy, &HEAD.replace("Host: app", "Host: rebound")), (421, Code::HostDenied));
}

#[test]
fn subprotocols_follow_the_servers_preference() {
    let policy = policy(r#", "subprotocols": ["v2", "v1"]"#);
    let head = HEAD.replace("Origin", "Sec-WebSocket-Protocol: v0, v1\r\nSec-WebSocket-Protocol: v2\r\nOrigin");
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let request = Request::parse(head.as_bytes(), &mut headers).unwrap();
    assert_eq!(choose_subprotocol(&policy.top, &request), Subprotocol::Chosen("v2"));
}

#[test]
fn an_offered_subprotocol_is_answered_whichever_source_gave_the_credential() {
    use Subprotocol::{Chosen, NoneKnown, NotOffered};
    let [both, alone, unlisted] = [
        r#", "subprotocols": ["v2", "v1"], "token_sources": ["cookie:sid", "header:x-auth-token", "subprotocol"]"#,
        r#", "token_sources": ["header:x-auth-token", "subprotocol"]"#,
        r#", "subprotocols": ["v1"]"#,
    ]
    .map(policy);
    let cases = [
        (&both, "bearer, good, v1", Chosen("v1")),
        (&both, "v1, v2, bearer, good", Chosen("v2")),
        (&both, "v0, bearer, good", Chosen("bearer")),
        (&both, "bearer", Chosen("bearer")),
        // The token is never answered, not even where it is the name of a subprotocol.
        (&both, "bearer, v1", Chosen("bearer")),
        (&both, "Bearer, good", NoneKnown),
        (&both, "v0", NoneKnown),
        (&both, " , ", NotOffered),
        (&alone, "bearer, good", Chosen("bearer")),
        (&unlisted, "bearer, v1", Chosen("v1")),
        (&unlisted, "bearer, good", NoneKnown),
    ];
    for (policy, offer, expected) in cases {
        let head = HEAD.replace("Origin", &format!("Sec-WebSocket-Protocol: {offer}\r\nCookie: sid=good\r\nOrigin"));
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let request = Request::parse(head.as_bytes(), &mut headers).unwrap();
        assert_eq!(choose_subprotocol(&policy.top, &request), expected, "{offer}");
    }
}

#[test]
fn health_checks_of_every_kind() {
    let check = |head: &str| {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let head = format!("{head}\r\n\r\n");
        Head::parse(head.as_bytes(), &mut headers).unwrap().health_check()
    };
    for (head, expected) in [
        ("GET /healthz HTTP/1.1\r\nHost: x", Some(HealthCheck::Get)),
        ("GET /healthz HTTP/1.1", Some(HealthCheck::Get)),
        ("GET /healthz HTTP/1.0", Some(HealthCheck::Get)),
        ("HEAD /healthz HTTP/1.0", Some(HealthCheck::Head)),
        ("HEAD /healthz/ HTTP/1.1\r\nHost: x", Some(HealthCheck::Head)),
        ("GET /healthz?from=probe HTTP/1.1\r\nHost: x", Some(HealthCheck::Get)),
        ("GET http://x/healthz HTTP/1.1\r\nHost: x", Some(HealthCheck::Get)),
        (
            "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c",
            Some(HealthCheck::Get),
        ),
        ("GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 0", Some(HealthCheck::Get)),
        ("GET /healthz HTTP/1.1\r\nHost: x\r\nUpgrade: h2c, WebSocket", None),
        ("GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 5", None),
        ("GET /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked", None),
        ("POST /healthz HTTP/1.1\r\nHost: x", None),
        ("GET /healthzz HTTP/1.1\r\nHost: x", None),
        ("GET //x/healthz HTTP/1.1\r\nHost: x", None),
        ("GET / HTTP/1.1\r\nHost: x", None),
    ] {
        assert_eq!(check(head), expected, "{head}");
    }
    for (check, draining, status, ends) in [
        (HealthCheck::Get, false, "200 OK", "\r\n\r\nok"),
        (HealthCheck::Head, false, "200 OK", "\r\n\r\n"),
        (HealthCheck::Get, true, "503 ", "\r\n\r\ndraining"),
    ] {
        let mut out = Vec::new();
        health(&mut out, &policy("").top, check, draining);
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains(status) && text.ends_with(ends), "{text}");
        assert!(text.contains(if draining { "Content-Length: 8\r\n" } else { "Content-Length: 2\r\n" }), "{text}");
    }
}

#[test]
fn a_refusal_tells_the_log_which_rule_and_the_peer_which_verdict() {
    let policy = policy(r#", "hosts": ["app.example.com"], "token_sources": ["bearer", "cookie:sid"]"#);
    let swap = |from: &str, to: &str| HEAD.replace(from, to);
    for (head, detail) in [
        (swap("Origin: https://app", "Origin: https://evil"), "Origin https://evil.example.com is not in origins"),
        (
            swap("Origin: https://app", "Origin: x\" wsguard::verdict: code=bad_frame ip=9.9.9.9 "),
            "Origin x%22%20wsguard::verdict:%20code%3dbad_frame%20ip%3d9.9.9.9%20.example.com is not in origins",
        ),
        (swap("Host: app", "Host: evil"), "Host evil.example.com is not in hosts"),
        (HEAD.to_owned(), "no credential in bearer, cookie:sid"),
        (swap("X-Auth-Token: good", "Cookie: sid=s3cret"), "unknown token from cookie:sid"),
        (
            swap("X-Auth-Token: good", "Cookie: sid=s3cret\r\nAuthorization: Bearer s3cret"),
            "unknown token from bearer (present: bearer, cookie:sid)",
        ),
    ] {
        let refusal = judge(&policy, head.as_bytes()).unwrap_err();
        assert_eq!(refusal.detail, detail);
        let mut out = Vec::new();
        refused(&mut out, &policy.top, &refusal, false);
        let body = format!("\r\n\r\n{}: {}\n", refusal.code, refusal.code.reason());
        assert!(String::from_utf8(out).unwrap().ends_with(&body), "{body}");
    }
}

#[test]
fn a_refused_origin_is_logged_without_what_may_be_a_secret() {
    let policy = policy("");
    for (origin, shown) in [
        ("https://alice:hunter2@app.example.com", "https://…app.example.com"),
        ("https://app.example.com/?token=hunter2", "https://app.example.com…"),
        ("https://app.example.com?token=hunter2", "https://app.example.com…"),
        ("https://app.example.com/hunter2", "https://app.example.com…"),
        ("https://app.example.com#token=hunter2", "https://app.example.com…"),
        ("https://app.example.com\\hunter2", "https://app.example.com…"),
        ("https://alice:hunter2/x@app.example.com", "https://……"),
        ("alice:hunter2@app.example.com", "…app.example.com"),
        ("https://app.example.com:444", "https://app.example.com:444"),
        ("null", "null"),
    ] {
        let head = HEAD.replace("https://app.example.com", origin);
        let refusal = judge(&policy, head.as_bytes()).unwrap_err();
        assert_eq!(refusal.detail, format!("Origin {shown} is not in origins"), "{origin}");
    }
}

#[test]
fn the_scanner_refuses_what_no_head_may_hold() {
    let scan = |bytes: &[u8]| HeadScanner::default().scan(bytes, 16_384);
    for bytes in
        [&b"GET / HTTP/1.1\n"[..], b"GET / HTTP/1.1\r\n folded", b"GET /\0", b"\r\nGET", b"\x16\x03\x01", b"GET /\rx"]
    {
        assert_eq!(scan(bytes).unwrap_err().code, Code::HandshakeMalformed, "{bytes:?}");
    }
    let many = format!("GET / HTTP/1.1\r\n{}", "a: b\r\n".repeat(101));
    assert_eq!(scan(many.as_bytes()).unwrap_err().status, 431);
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(100));
    assert_eq!(scan(many.as_bytes()).unwrap(), Some(many.len()));
    assert_eq!(scan(&[b'a'; 8300]).unwrap_err().status, 414);
    let long = format!("GET / HTTP/1.1\r\na: {}", "b".repeat(16_384));
    assert_eq!(scan(long.as_bytes()).unwrap_err().status, 431);
}

#[test]
fn refusals_close_and_name_their_code() {
    let mut out = Vec::new();
    let refusal = Refusal { retry_after_s: Some(3), ..Refusal::new(Code::IpFull, "full") };
    refused(&mut out, &policy(r#", "server_header": "mine""#).top, &refusal, false);
    let text = String::from_utf8(out).unwrap();
    assert!(text.starts_with("HTTP/1.1 429 Too Many Requests\r\n"));
    for part in [
        "Connection: close\r\n",
        "Retry-After: 3\r\n",
        "Server: mine\r\n",
        "Content-Length: 48\r\n",
        "\r\n\r\nip_full: too many connections from this address\n",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let mut to_head = Vec::new();
    refused(&mut to_head, &policy(r#", "server_header": "mine""#).top, &refusal, true);
    assert_eq!(to_head, text.strip_suffix("ip_full: too many connections from this address\n").unwrap().as_bytes());
}

fn listed(headers: &[(&str, &str)]) -> Vec<(String, String)> {
    headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn an_application_adds_headers_to_the_101() {
    let mut out = Vec::new();
    let headers = listed(&[("Set-Cookie", "a=1"), ("set-cookie", "b=2"), ("server", "theirs")]);
    let headers = ResponseHeaders::new(headers).unwrap();
    let policy = policy(r#", "server_header": "mine""#);
    accepted(&mut out, &policy.top, "dGhlIHNhbXBsZSBub25jZQ==", None, None, &headers);
    let text = String::from_utf8(out).unwrap();
    assert!(text.ends_with("\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\nserver: theirs\r\n\r\n"), "{text}");
    assert!(!text.contains("mine"), "{text}");
}

#[test]
fn an_application_refuses_in_its_own_words() {
    let answer = |status, headers: &[(&str, &str)], body: &str| {
        let refusal = Refusal::rejected(Rejection::new(status, listed(headers), body.into()).unwrap());
        assert_eq!(refusal.code, Code::AuthFailed);
        let mut out = Vec::new();
        refused(&mut out, &policy(r#", "server_header": "mine""#).top, &refusal, false);
        String::from_utf8(out).unwrap()
    };
    let plain = "Content-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n";
    let teapot = answer(418, &[("X-Reason", "teapot")], "short and stout");
    let expected = format!(
        "HTTP/1.1 418 I'm a Teapot\r\n{plain}Content-Length: 15\r\nConnection: close\r\nX-Reason: teapot\r\nServer: mine\r\n\r\n\
         short and stout"
    );
    assert_eq!(teapot, expected);
    let own = answer(401, &[("content-type", "application/json"), ("WWW-Authenticate", "Basic")], "{}");
    let expected = "HTTP/1.1 401 Unauthorized\r\nX-Content-Type-Options: nosniff\r\nContent-Length: 2\r\nConnection: close\r\n\
        content-type: application/json\r\nWWW-Authenticate: Basic\r\nServer: mine\r\n\r\n{}";
    assert_eq!(own, expected);
    let bare = answer(401, &[], "");
    assert!(
        bare.contains("WWW-Authenticate: Bearer\r\n") && bare.ends_with("\r\n\r\nauth_failed: authentication failed\n")
    );
    let moved = answer(302, &[("Location", "https://a.example/login")], "");
    assert!(moved.starts_with("HTTP/1.1 302 Found\r\n") && moved.contains("\r\nLocation: https://a.example/login\r\n"));
    let empty = answer(403, &[("Content-Type", "text/html")], "");
    assert!(empty.contains("Content-Length: 0\r\n") && empty.ends_with("\r\n\r\n"), "{empty}");
    let unmodified = answer(304, &[("ETag", "\"1\"")], "");
    assert_eq!(
        unmodified,
        "HTTP/1.1 304 Not Modified\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\nETag: \"1\"\r\nServer: mine\r\n\r\n"
    );
}

#[test]
fn an_application_chooses_among_what_is_offered_and_never_the_token() {
    let offers = |sources: &str, header: &str| {
        let policy = policy(&format!(r#", "token_sources": ["{sources}"]"#));
        let head = HEAD.replace("X-Auth-Token: good", header);
        let mut headers = NO_HEADERS;
        Offers::of(&policy.top, &Request::parse(head.as_bytes(), &mut headers).unwrap())
    };
    let some = offers("subprotocol", "Sec-WebSocket-Protocol: a, B,, c d\r\nSec-WebSocket-Protocol: bearer, s3cret, e");
    for name in ["a", "B", "bearer", "e"] {
        assert!(some.has(name), "{name}");
    }
    for name in ["", "b", "A", "c d", "s3cret", "a,B", ","] {
        assert!(!some.has(name), "{name}");
    }
    let plain = offers("bearer", "Sec-WebSocket-Protocol: bearer, v1");
    assert!(plain.has("v1") && plain.has("bearer"));
    assert!(!offers("bearer", "X-A: b").has(""));
    assert_eq!(format!("{plain:?}"), "Offers");
}

#[test]
fn an_open_has_what_the_policy_keeps_and_no_token() {
    let policy = policy(
        r#", "keep_headers": ["User-Agent", "x-many"], "keep_cookies": ["theme"], "token_sources": ["query:token", "bearer"]"#,
    );
    let facts = |more: &str, query: &str| {
        let head = HEAD.replace("x=1", query).replace("X-Auth-Token: good\r\n", more);
        let mut headers = NO_HEADERS;
        Facts::of(&policy.top, &Request::parse(head.as_bytes(), &mut headers).unwrap())
    };
    let pairs = |pairs: &Pairs| pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>();
    let some = facts(
        "USER-AGENT: cli/1\r\nx-many: 1\r\nX-Other: 2\r\nX-Many: 3\r\nCookie: sid=s3cret; theme=dark\r\nCookie: Theme=x\r\n",
        "a=1&%74oken=s3cret&b=&token=s3cret",
    );
    assert_eq!(pairs(&some.headers), ["user-agent=cli/1", "x-many=1", "x-many=3"]);
    assert_eq!(pairs(&some.cookies), ["theme=dark"]);
    assert_eq!(some.query.as_deref(), Some("a=1&b="));
    assert_eq!((some.origin.as_deref(), some.left_out), (Some("https://app.example.com"), false));
    assert_eq!(format!("{some:?}"), "Facts { .. }");
    let exact = facts(&format!("X-Many: {}\r\nX-Many: 1\r\nUser-Agent:\r\n", "v".repeat(8192)), "x");
    assert_eq!((exact.headers.len(), exact.left_out), (2, true), "an empty value still fits");
    assert!(facts(&format!("X-Many: {}\r\n", "v".repeat(8193)), "x").headers.is_empty());
    let crumbs = facts(&format!("Cookie: {}\r\n", "theme=;".repeat(1000)), "x");
    assert_eq!((crumbs.cookies.len(), crumbs.left_out), (128, true));
    let none = facts("", "");
    assert_eq!((none.query.as_deref(), none.headers.len(), none.cookies.len()), (Some(""), 0, 0));
}

#[test]
fn a_cookie_that_is_no_text_is_left_out_and_said() {
    let policy = policy(r#", "keep_cookies": ["theme", "lang"]"#);
    let cookie = |bytes: &[u8]| {
        let head = HEAD.replace("X-Auth-Token: good\r\n", "Cookie: *\r\n");
        let (before, after) = head.split_once('*').unwrap();
        let head = [before.as_bytes(), bytes, after.as_bytes()].concat();
        let mut headers = NO_HEADERS;
        let facts = Facts::of(&policy.top, &Request::parse(&head, &mut headers).unwrap());
        let kept: Vec<_> = facts.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        (kept, facts.left_out)
    };
    assert_eq!(cookie(b"theme=d\xffrk; lang=\"fr\""), (vec!["lang=fr".to_owned()], true));
    assert_eq!(cookie(b"other=d\xffrk; lang=fr; \xff=1"), (vec!["lang=fr".to_owned()], false));
}

proptest! {
    /// Whatever an application gives: an answer that is sent has the headers that it gave and ours, and no other.
    #[test]
    fn no_header_of_an_application_becomes_two(given in prop::collection::vec((".{0,12}", ".{0,12}"), 0..4), body in ".{0,20}") {
        let Ok(rejection) = Rejection::new(403, given.clone(), body.into_bytes()) else { return Ok(()) };
        let mut out = Vec::new();
        refused(&mut out, &policy("").top, &Refusal::rejected(rejection), false);
        let mut headers = NO_HEADERS;
        let mut response = httparse::Response::new(&mut headers);
        prop_assert!(matches!(response.parse(&out), Ok(httparse::Status::Complete(_))));
        let names: Vec<_> = response.headers.iter().map(|header| header.name).collect();
        prop_assert!(names.len() >= given.len() && names.len() <= given.len() + 4, "{:?}", names);
        prop_assert!(given.iter().all(|(name, _)| names.contains(&name.as_str())));
        prop_assert_eq!(names.iter().filter(|name| name.eq_ignore_ascii_case("content-length")).count(), 1);
    }

    #[test]
    fn any_bytes_never_panic_and_any_split_agrees(bytes in prop::collection::vec(any::<u8>(), 0..300), cut in 0usize..300) {
        let mut scanner = HeadScanner::default();
        let cut = cut.min(bytes.len());
        let split = scanner.scan(&bytes[..cut], 200).and_then(|end| match end {
            None => scanner.scan(&bytes, 200),
            found => Ok(found),
        });
        prop_assert_eq!(split.map_err(|r| r.status), HeadScanner::default().scan(&bytes, 200).map_err(|r| r.status));
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let _ = Request::parse(&bytes, &mut headers);
    }

    #[test]
    fn mutated_heads_never_panic(at in 0usize..HEAD.len(), byte: u8) {
        let mut head = HEAD.as_bytes().to_vec();
        head[at] = byte;
        if let Ok(Some(len)) = HeadScanner::default().scan(&head, 16_384) {
            let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
            if let Ok(request) = Request::parse(&head[..len], &mut headers) {
                let _ = vet(&policy("").top, &request, &mut Reported::default());
            }
        }
    }
}

/// Each header of an honest request: what its absence is answered with, and its doubling with the same value.
const HEADERS: [(&str, &str, Option<u16>, Option<u16>); 7] = [
    ("Host", "app.example.com", Some(400), Some(400)),
    ("Upgrade", "websocket", Some(426), None),
    ("Connection", "keep-alive, Upgrade", Some(426), None),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==", Some(400), Some(400)),
    ("Sec-WebSocket-Version", "13", Some(426), Some(400)),
    ("Origin", "https://app.example.com", Some(403), Some(400)),
    ("X-Auth-Token", "good", Some(401), None),
];

proptest! {
    /// Headers come in any order and case, with any space around their values and others between them.
    #[test]
    fn the_order_of_headers_is_nobodys_business(
        order in Just((0..HEADERS.len()).collect::<Vec<_>>()).prop_shuffle(),
        spelling in any::<[u8; 7]>(), fault in 0usize..20, is_twice: bool, others in 0usize..40,
    ) {
        let mut head = "GET /chat HTTP/1.1\r\n".to_owned();
        for at in order {
            let (name, value, ..) = HEADERS[at];
            let spelled = match spelling[at] % 3 {
                0 => name.to_owned(),
                1 => name.to_lowercase(),
                _ => name.to_uppercase(),
            };
            let space = ["", " ", "\t", " \t  "];
            let (before, after) = (space[usize::from(spelling[at] / 4 % 4)], space[usize::from(spelling[at] / 16 % 4)]);
            let count = if fault != at { 1 } else if is_twice { 2 } else { 0 };
            head += &format!("{spelled}:{before}{value}{after}\r\n").repeat(count);
            head += &"X-Other: value\r\n".repeat(others / HEADERS.len());
        }
        head += "\r\n";
        let expected = HEADERS.get(fault).and_then(|(_, _, absent, twice)| if is_twice { *twice } else { *absent });
        let answered = judge(&policy(""), head.as_bytes()).err().map(|refusal| refusal.status);
        prop_assert_eq!(answered, expected, "{}", head);
    }
}

const REPORTING: &str = r#", "on_violation": "report", "report_handshakes": true, "hosts": ["app.example.com"]"#;

/// What is let in although it is reported, and what is reported.
fn tried(set: &PolicySet, head: &str) -> Result<(Decision, Vec<Code>), Refusal> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let request = Request::parse(head.as_bytes(), &mut headers)?;
    let policy = &resolve(set, &request)?.policy;
    let mut reported = Reported::default();
    vet(policy, &request, &mut reported)?;
    let decision = authenticate(policy, &request, 0, &mut reported)?;
    Ok((decision, reported.iter().map(|refusal| refusal.code).collect()))
}

/// Nobody is let in under a name where a rule would have refused: a foreign page has the visitor's cookies.
#[test]
fn reporting_lets_in_without_a_user_what_origin_host_and_credentials_would_refuse() {
    let set = policy(REPORTING);
    let user = |decision: Decision| match decision {
        Decision::Granted(granted) => granted.identity.user,
        other => panic!("{other:?}"),
    };
    let (decision, reported) = tried(&set, HEAD).unwrap();
    assert_eq!((user(decision).as_deref(), reported), (Some("alice"), vec![]));
    let foreign = HEAD.replace("Origin: https://app", "Origin: https://evil");
    let cases = [
        (foreign.clone(), vec![Code::OriginDenied]),
        (HEAD.replace("Origin: ", "X-Origin: "), vec![Code::OriginDenied]),
        (HEAD.replace("Host: app", "Host: evil"), vec![Code::HostDenied]),
        (HEAD.replace("good", "bad"), vec![Code::AuthFailed]),
        (HEAD.replace("X-Auth-Token", "X"), vec![Code::AuthFailed]),
        (HEAD.replace("good", "g\u{e9}"), vec![Code::AuthFailed]),
        (HEAD.replace("good", "good\r\nX-Auth-Token: other"), vec![Code::HandshakeMalformed]),
        (
            foreign.replace("Host: app", "Host: evil").replace("good", "bad"),
            vec![Code::HostDenied, Code::OriginDenied, Code::AuthFailed],
        ),
    ];
    for (head, codes) in cases {
        let (decision, reported) = tried(&set, &head).unwrap();
        assert_eq!((user(decision), reported), (None, codes), "{head}");
        // The same is refused where it counts.
        assert!(
            tried(&policy(r#", "on_violation": "report", "hosts": ["app.example.com"]"#), &head).is_err(),
            "{head}"
        );
    }
}

#[test]
fn reporting_lets_nothing_else_in() {
    let set = policy(&format!(r#"{REPORTING}, "paths": ["/chat"]"#));
    let cases = [
        (HEAD.replace("GET /chat", "GET /other").replace("Host: app", "Host: evil"), Code::PathNotFound),
        (HEAD.replace("Upgrade: websocket", "Upgrade: h2c"), Code::UpgradeRequired),
        (HEAD.replace("dGhl", "?"), Code::HandshakeMalformed),
        (HEAD.replace("Origin: ", "Origin: https://a.example\r\nOrigin: "), Code::HandshakeMalformed),
    ];
    for (head, code) in cases {
        assert_eq!(tried(&set, &head).unwrap_err().code, code, "{head}");
    }
}

/// The application is asked as ever: its word is none of the rules that are tried.
#[test]
fn reporting_still_asks_the_application() {
    let json = format!(r#"{{"origins": ["https://app.example.com"], "auth": "callback" {REPORTING}}}"#);
    let set = PolicySet::compile(Options::from_json(&json).unwrap(), &NoFiles).unwrap();
    for (head, codes, token) in [
        (HEAD.replace("Origin: https://app", "Origin: https://evil"), vec![Code::OriginDenied], Some("good")),
        (HEAD.replace("good", "good\r\nX-Auth-Token: other"), vec![Code::HandshakeMalformed], None),
    ] {
        let (decision, reported) = tried(&set, &head).unwrap();
        let Decision::Ask { token: asked } = decision else { panic!("{decision:?}") };
        assert_eq!((asked.as_deref(), reported), (token, codes));
    }
}
