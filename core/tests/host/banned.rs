//! Who is kept out while the server runs.

use wsguard::binding::{Code, Whom};

use super::*;

fn policy(more: &str) -> Options {
    let json = format!(
        r#"{{"origins": ["https://a.example"], "protocol": "raw", "handshakes_per_ip": null, "threads": 2,
            "auth": {{"tokens": [{{"token": "one", "user": "alice"}}, {{"token": "two", "user": "bob"}}]}} {more}}}"#
    );
    Options::from_json(&json).unwrap()
}

fn serve(more: &str) -> Server {
    Builder::new().without_listener().start(policy(more)).unwrap()
}

fn come(server: &ServerHandle, token: &str) -> TcpStream {
    let (client, socket) = accepted();
    let head = String::from_utf8(head("https://a.example")).unwrap();
    let head = head.replace("Host: x\r\n", &format!("Host: x\r\nX-Auth-Token: {token}\r\n"));
    server.adopt(socket, head.into_bytes()).unwrap();
    client
}

fn let_in(server: &ServerHandle, token: &str) -> TcpStream {
    let mut client = come(server, token);
    expect_101(&mut client);
    client
}

fn answer(server: &ServerHandle, token: &str) -> String {
    String::from_utf8(rest(come(server, token))).unwrap()
}

/// The code and the reason of the close frame that comes next.
fn closed(client: &mut TcpStream) -> (u16, String) {
    let (first, payload) = next_frame(client);
    assert_eq!(first, 0x88);
    (u16::from_be_bytes([payload[0], payload[1]]), String::from_utf8(payload[2..].to_vec()).unwrap())
}

#[test]
fn an_address_is_banned_with_all_that_is_open_and_let_in_again() {
    let server = serve("");
    let handle = server.handle();
    let mut clients = [let_in(&handle, "one"), let_in(&handle, "two")];
    handle.ban(Whom::Ip("127.0.0.0/8"), Some(3_600_000), "abuse").unwrap();
    for client in &mut clients {
        assert_eq!(closed(client), (1008, "banned".to_owned()));
    }
    let refused = answer(&handle, "one");
    assert!(refused.starts_with("HTTP/1.1 403") && refused.contains("banned"), "{refused}");
    assert!(!refused.contains("Retry-After") && !refused.contains("abuse"), "{refused}");
    let bans = handle.bans();
    assert_eq!((bans.len(), bans[0].ip.as_deref(), &*bans[0].reason), (1, Some("127.0.0.0/8"), "abuse"));
    assert!(bans[0].ends_at_ms.is_some() && !bans[0].is_automatic);
    assert!(!handle.unban(Whom::Ip("127.0.0.1")).unwrap(), "that is another subject");
    let here = Some([127, 0, 0, 1].into());
    assert!(handle.is_banned(here, None) && !handle.is_banned(Some([10, 0, 0, 1].into()), Some("alice")));
    assert!(handle.unban(Whom::Ip("127.0.0.0/8")).unwrap());
    assert!(!handle.is_banned(here, None));
    let_in(&handle, "one");
    assert_eq!(handle.stats().verdict(Code::Banned), 3);
}

#[test]
fn a_user_is_banned_and_others_are_not() {
    let mut server = serve("");
    let handle = server.handle();
    let (mut alice, mut bob) = (let_in(&handle, "one"), let_in(&handle, "two"));
    handle.ban(Whom::User("alice"), None, "").unwrap();
    assert_eq!(closed(&mut alice).0, 1008);
    bob.write_all(&text("still here")).unwrap();
    assert!(tell(&mut server, 5).contains(&"still here".to_owned()));
    assert!(answer(&handle, "one").starts_with("HTTP/1.1 403"));
    assert_eq!(handle.bans()[0].ends_at_ms, None);
    assert!(handle.is_banned(None, Some("alice")) && !handle.is_banned(None, Some("bob")));
    let_in(&handle, "two");
}

#[test]
fn what_is_no_ban_is_an_error() {
    let server = serve("");
    let handle = server.handle();
    for (whom, for_ms, reason) in [
        (Whom::Ip("nobody"), None, ""),
        (Whom::Ip("10.0.0.0/99"), None, ""),
        (Whom::User(""), None, ""),
        (Whom::User("a\nb"), None, ""),
        (Whom::Ip("10.0.0.1"), Some(0), ""),
        (Whom::Ip("10.0.0.1"), None, &*"x".repeat(257)),
    ] {
        assert_eq!(handle.ban(whom, for_ms, reason).unwrap_err().code(), "invalid_argument", "{whom:?}");
    }
    assert!(handle.bans().is_empty());
}

#[test]
fn an_address_that_goes_on_guessing_tokens_bans_itself() {
    let server = serve(r#", "auto_ban": {"violations": 5, "window_ms": 60000, "ban_ms": 3600000}"#);
    let handle = server.handle();
    let mut client = let_in(&handle, "one");
    for _ in 0..5 {
        assert!(answer(&handle, "guess").starts_with("HTTP/1.1 401"));
    }
    assert_eq!(closed(&mut client).1, "banned");
    assert!(answer(&handle, "one").starts_with("HTTP/1.1 403"));
    let bans = handle.bans();
    assert_eq!((bans[0].ip.as_deref(), bans[0].is_automatic), (Some("127.0.0.1"), true));
}

#[test]
fn a_foreign_page_cannot_ban_a_visitor() {
    let server = serve(r#", "auto_ban": {"violations": 2}"#);
    let handle = server.handle();
    for _ in 0..20 {
        let (client, socket) = accepted();
        handle.adopt(socket, head("https://evil.example")).unwrap();
        assert!(rest(client).starts_with(b"HTTP/1.1 403"));
    }
    assert_eq!((handle.bans().len(), handle.stats().verdict(Code::OriginDenied)), (0, 20));
    let_in(&handle, "one");
}

#[test]
fn denied_addresses_are_refused_and_closed_by_a_reload() {
    let server = serve("");
    let handle = server.handle();
    let mut client = let_in(&handle, "one");
    handle.reload(policy(r#", "deny_ips": ["127.0.0.1", "2001:db8::/32"]"#)).unwrap();
    assert_eq!(closed(&mut client), (1008, "banned".to_owned()));
    assert!(answer(&handle, "one").starts_with("HTTP/1.1 403"));
    handle.reload(policy("")).unwrap();
    let_in(&handle, "one");
}
