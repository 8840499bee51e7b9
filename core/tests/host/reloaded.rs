//! Other options while the server runs.

use wsguard::binding::Code;

use super::*;

const BASE: &str = r#""origins": ["https://a.example"], "protocol": "raw", "threads": 2"#;

fn policy(more: &str) -> Options {
    Options::from_json(&format!("{{{BASE} {more}}}")).unwrap()
}

fn tokens(list: &[(&str, &str)]) -> String {
    let entries: Vec<String> =
        list.iter().map(|(token, user)| format!(r#"{{"token": "{token}", "user": "{user}"}}"#)).collect();
    format!(r#", "auth": {{"tokens": [{}]}}"#, entries.join(","))
}

fn come(server: &ServerHandle, path: &str, token: &str) -> TcpStream {
    let (client, socket) = accepted();
    let head = String::from_utf8(head("https://a.example")).unwrap();
    let head = head.replace("/chat", path).replace("Host: x\r\n", &format!("Host: x\r\nX-Auth-Token: {token}\r\n"));
    server.adopt(socket, head.into_bytes()).unwrap();
    client
}

fn let_in(server: &ServerHandle, path: &str, token: &str) -> TcpStream {
    let mut client = come(server, path, token);
    expect_101(&mut client);
    client
}

/// The code of the close frame that comes next.
fn close_code(client: &mut TcpStream) -> u16 {
    let (first, payload) = next_frame(client);
    assert_eq!(first, 0x88);
    u16::from_be_bytes([payload[0], payload[1]])
}

fn status(mut client: TcpStream) -> String {
    let mut answer = [0; 12];
    client.read_exact(&mut answer).unwrap();
    String::from_utf8(answer.to_vec()).unwrap().split_off(9)
}

#[test]
fn a_token_that_is_gone_takes_its_connections_with_it() {
    let first = tokens(&[("one", "alice"), ("two", "bob"), ("three", "carol")]);
    let server = Builder::new().without_listener().start(policy(&first)).unwrap();
    let handle = server.handle();
    let mut clients = ["one", "two", "three"].map(|token| let_in(&handle, "/", token));
    // Bob's stays, Alice's is gone, Carol's is somebody else's.
    let next = tokens(&[("two", "bob"), ("three", "mallory"), ("four", "dave")]);
    assert_eq!(handle.reload(policy(&next)).unwrap(), 2);
    assert_eq!((close_code(&mut clients[0]), close_code(&mut clients[2])), (1008, 1008));
    clients[1].write_all(&text("still here")).unwrap();
    assert_eq!(handle.stats().verdict(Code::SessionRevoked), 2);
    assert_eq!(status(come(&handle, "/", "one")), "401");
    let _dave = let_in(&handle, "/", "four");
    assert_eq!(handle.reload(policy(&first)).unwrap(), 3);
}

#[test]
fn open_connections_go_on_by_the_new_rules() {
    let mut server = Builder::new().without_listener().start(policy(r#", "auth": "none""#)).unwrap();
    let handle = server.handle();
    let (mut small, mut large) = (let_in(&handle, "/small", ""), let_in(&handle, "/large", ""));
    let next = r#", "auth": "none", "max_message_bytes": 4, "paths": ["/small", "/{other}"],
        "routes": {"/large": {"max_message_bytes": 100}}"#;
    handle.reload(policy(next)).unwrap();
    large.write_all(&text("more than four")).unwrap();
    small.write_all(&text("1234")).unwrap();
    let told = tell(&mut server, 4);
    assert!(told.contains(&"more than four".to_owned()) && told.contains(&"1234".to_owned()), "{told:?}");
    small.write_all(&text("12345")).unwrap();
    assert_eq!(close_code(&mut small), 1009);
    large.write_all(&text(&"x".repeat(101))).unwrap();
    assert_eq!(close_code(&mut large), 1009);
}

#[test]
fn a_path_that_is_not_served_any_more_is_over() {
    let server = Builder::new().without_listener().start(policy(r#", "auth": "none""#)).unwrap();
    let handle = server.handle();
    let mut client = let_in(&handle, "/old", "");
    handle.reload(policy(r#", "auth": "none", "paths": ["/new"]"#)).unwrap();
    assert_eq!(close_code(&mut client), 1008);
    assert_eq!(status(come(&handle, "/old", "")), "404");
    let_in(&handle, "/new", "");
}

#[test]
fn a_broadcast_reaches_whoever_speaks_its_protocol_after_a_path_has_another() {
    let with = |more: &str| {
        let json = format!(
            r#"{{"origins": ["https://a.example"], "auth": "none", "threads": 2, "events": {{"say": {{}}}} {more}}}"#
        );
        Options::from_json(&json).unwrap()
    };
    let server = Builder::new().without_listener().start(with(r#", "paths": ["/a", "/b"]"#)).unwrap();
    let handle = server.handle();
    let (mut json, mut old) = (let_in(&handle, "/a", ""), let_in(&handle, "/b", ""));
    handle.broadcast(To::Everyone, "say", "1", &[]).unwrap();
    let first = next_frame(&mut json).1;
    assert!(first.starts_with(b"{") && next_frame(&mut old).1 == first);
    handle.reload(with(r#", "paths": ["/a"], "routes": {"/b": {"protocol": "raw"}}"#)).unwrap();
    assert_eq!(close_code(&mut old), 1008, "its path has messages of another form");
    let mut raw = let_in(&handle, "/b", "");
    for _ in 0..2 {
        handle.broadcast(To::Everyone, "say", "2", &[]).unwrap();
        handle.broadcast_text(To::Everyone, "two", &[]).unwrap();
    }
    for _ in 0..2 {
        assert!(next_frame(&mut json).1.starts_with(br#"{"event":"say","data":2"#));
        assert_eq!(next_frame(&mut raw).1, b"two");
    }
    assert_eq!(rest(old), b"", "nothing behind the close frame");
}

#[test]
fn what_is_not_accepted_changes_nothing() {
    let server = Builder::new().without_listener().start(policy(&tokens(&[("one", "alice")]))).unwrap();
    let handle = server.handle();
    let mut client = let_in(&handle, "/", "one");
    for (more, option, kind) in [
        (r#", "auth": "none", "max_fragments": 0"#, "max_fragments", "invalid_option"),
        (r#", "auth": "none", "routes": {"/a": {"hosts": []}}"#, "routes./a.hosts", "invalid_option"),
        (r#", "auth": "none", "listen": "127.0.0.1:1""#, "listen", "not_reloadable"),
        (r#", "auth": "none", "tls": {"cert": "nonsense", "key": "nonsense"}"#, "tls.cert", "invalid_option"),
        ("", "auth", "missing_option"),
    ] {
        let error = handle.reload(policy(more)).unwrap_err();
        assert_eq!((error.option(), error.code()), (Some(option), kind), "{error}");
    }
    assert_eq!(status(come(&handle, "/", "two")), "401", "as before");
    client.write_all(&text("still here")).unwrap();
    assert_eq!(handle.reload(policy(&tokens(&[("one", "alice")]))).unwrap(), 2, "what failed has no number");
    client.write_all(&text("and again")).unwrap();
    assert_eq!(handle.stats().verdict(Code::SessionRevoked), 0);
    handle.stop();
    drop(server);
    assert_eq!(handle.reload(policy(r#", "auth": "none""#)).unwrap_err().code(), "stopped");
}

#[test]
fn a_draining_server_may_still_be_told_other_options() {
    let both = tokens(&[("one", "alice"), ("two", "bob")]);
    let server = Builder::new().without_listener().start(policy(&both)).unwrap();
    let handle = server.handle();
    let (mut gone, mut stays) = (let_in(&handle, "/", "one"), let_in(&handle, "/", "two"));
    // Their moments are somewhere within an hour.
    handle.drain(3_600_000, 3_600_000);
    assert_eq!(handle.reload(policy(&tokens(&[("two", "bob")]))).unwrap(), 2);
    assert_eq!(close_code(&mut gone), 1008);
    assert_eq!(status(come(&handle, "/", "two")), "503", "it drains as before");
    assert_eq!(handle.stats().verdict(Code::SessionRevoked), 1);
    handle.stop();
    assert_eq!(close_code(&mut stays), 1012);
}

#[test]
fn routes_have_users_of_their_own_and_are_told() {
    let more = format!(
        r#"{}, "routes": {{"/admin/{{name}}": {{"auth": {{"tokens": [{{"token": "root", "user": "root", "roles": ["ops"]}}]}}}}}},
            "paths": ["/chat"]"#,
        tokens(&[("one", "alice")])
    );
    let mut server = Builder::new().without_listener().start(policy(&more)).unwrap();
    let handle = server.handle();
    assert_eq!(status(come(&handle, "/admin/5", "one")), "401");
    assert_eq!(status(come(&handle, "/chat", "root")), "401");
    assert_eq!(status(come(&handle, "/admin", "root")), "404");
    let _root = let_in(&handle, "/admin/%355", "root");
    let mut batch = EventBatch::new();
    loop {
        assert_eq!(server.events().next(&mut batch, Some(Duration::from_secs(10))), Next::Events);
        let open = batch.iter().find_map(|event| match event {
            Event::Open(open) => Some(open.clone()),
            _ => None,
        });
        let Some(open) = open else { continue };
        assert_eq!((open.user.as_deref(), &*open.path), (Some("root"), "/admin/%355"));
        assert_eq!(
            (open.route.as_deref(), open.roles.iter().collect::<Vec<_>>()),
            (Some("/admin/{name}"), vec!["ops"])
        );
        assert_eq!((&*open.params[0].0, open.params[0].1.as_str()), ("name", "55"));
        break;
    }
}

#[test]
fn a_hundred_reloads_lose_nobody() {
    let mut server = Builder::new()
        .without_listener()
        .start(policy(
            r#", "auth": "none", "max_connections_per_ip": 2000, "handshakes_per_ip": null, "rate_limit": null"#,
        ))
        .unwrap();
    let handle = server.handle();
    let mut clients: Vec<TcpStream> = (0..600).map(|_| let_in(&handle, "/", "")).collect();
    for round in 0..100 {
        let more = format!(
            r#", "auth": "none", "max_connections_per_ip": 2000, "handshakes_per_ip": null, "rate_limit": null, "max_message_bytes": {}"#,
            100 + round
        );
        assert_eq!(handle.reload(policy(&more)).unwrap(), 2 + round);
    }
    for client in &mut clients {
        client.write_all(&text("here")).unwrap();
    }
    let told = tell(&mut server, 1200);
    assert_eq!(told.iter().filter(|event| *event == "here").count(), 600);
    // By the last of them: 199 bytes are the most.
    clients[0].write_all(&[&[0x81, 0xfe, 0, 200, 0, 0, 0, 0][..], &[b'x'; 200]].concat()).unwrap();
    assert_eq!(close_code(&mut clients[0]), 1009);
    drop(clients);
    handle.stop();
}

const TRIED: &str = r#", "auth": {"tokens": [{"token": "one", "user": "alice"}]}, "on_violation": "report",
    "auto_ban": {"violations": 1, "window_ms": 60000}, "max_connections_per_ip": 3"#;

/// The user of the connection that opens next, and what was reported before.
fn reported(server: &mut Server) -> (Option<String>, Vec<String>) {
    let (mut batch, mut reported) = (EventBatch::new(), Vec::new());
    loop {
        assert_eq!(server.events().next(&mut batch, Some(Duration::from_secs(10))), Next::Events);
        for event in batch.iter() {
            match event {
                Event::Violation(violation) => {
                    assert!(violation.reported && violation.detail.starts_with("only reported: "));
                    reported.push(violation.code.to_string());
                }
                Event::Open(open) => return (open.user.as_ref().map(ToString::to_string), reported),
                _ => {}
            }
        }
    }
}

#[test]
fn handshakes_are_tried_and_then_judged() {
    let tried = format!(r#"{TRIED}, "report_handshakes": true"#);
    let mut server = Builder::new().without_listener().start(policy(&tried)).unwrap();
    let handle = server.handle();
    let mut alice = let_in(&handle, "/", "one");
    assert_eq!(reported(&mut server), (Some("alice".into()), vec![]));
    let mut stranger = let_in(&handle, "/", "wrong");
    assert_eq!(reported(&mut server), (None, vec!["auth_failed".into()]));
    let (mut foreign, socket) = accepted();
    let head = String::from_utf8(head("https://evil.example")).unwrap();
    handle.adopt(socket, head.replace("Host: x\r\n", "Host: x\r\nX-Auth-Token: one\r\n").into_bytes()).unwrap();
    expect_101(&mut foreign);
    assert_eq!(reported(&mut server), (None, vec!["origin_denied".into()]));
    assert_eq!((handle.stats().verdict(Code::AuthFailed), handle.stats().verdict(Code::OriginDenied)), (1, 1));
    assert!(handle.bans().is_empty(), "what is only reported bans nobody");
    // Places are counted all the same.
    assert_eq!(status(come(&handle, "/", "one")), "429");
    handle.reload(policy(TRIED)).unwrap();
    for client in [&mut stranger, &mut foreign] {
        assert_eq!(close_code(client), 1008, "it counts from here on");
    }
    assert_eq!(handle.stats().verdict(Code::SessionRevoked), 2);
    alice.write_all(&text("still here")).unwrap();
    handle.close_all(To::Everyone, 1000, "", &[]).unwrap();
    assert_eq!(close_code(&mut alice), 1000);
}
