//! Connections that another server accepted, and refusals that arrive whole.

use wsguard::binding::Server;

use super::*;

#[test]
fn an_adopted_connection_opens_and_its_early_message_arrives() {
    let mut server = start("");
    assert_eq!(server.address(), "");
    let (mut client, socket) = accepted();
    let mut received = head("https://a.example");
    // A masked text frame "hi" with the key 0, already read behind the head.
    received.extend_from_slice(&[0x81, 0x82, 0, 0, 0, 0, b'h', b'i']);
    server.handle().adopt(socket, received).unwrap();
    expect_101(&mut client);
    assert_eq!(tell(&mut server, 2), ["open 127.0.0.1 /chat", "hi"]);
}

/// All that a server says to whoever sends these pieces, up to the end of the connection.
fn answer_to(server: &Server, pieces: &[&[u8]]) -> String {
    let mut client = TcpStream::connect(server.address()).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    for piece in pieces {
        client.write_all(piece).unwrap();
    }
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_refusal_arrives_whole_whatever_else_was_sent() {
    let server = Builder::new().start(options(r#", "listen": "127.0.0.1:0", "threads": 1"#)).unwrap();
    let refused = head("https://evil.example");
    let body = vec![b'x'; 100_000];
    let early = [&refused[..], &body].concat();
    let post = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n";
    for (pieces, status) in [
        (&[&refused[..]][..], "403 "),
        (&[&refused[..40], &refused[40..]], "403 "),
        (&[&early], "403 "),
        (&[post, &body], "405 "),
        (&[b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"], "200 "),
    ] {
        let answer = answer_to(&server, pieces);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{answer}");
    }
}

#[test]
fn a_refusal_ends_a_connection_that_another_server_still_holds() {
    let server = start("");
    let (mut client, socket) = accepted();
    let _still_held = socket.try_clone().unwrap();
    server.handle().adopt(socket, head("https://evil.example")).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
}

#[test]
fn a_head_that_was_cut_is_read_on() {
    let server = start("");
    let (mut client, socket) = accepted();
    let head = head("https://a.example");
    server.handle().adopt(socket, head[..40].to_vec()).unwrap();
    client.write_all(&head[40..]).unwrap();
    expect_101(&mut client);
}

#[test]
fn a_policy_that_cannot_be_kept_on_it_is_an_error() {
    let server = start(r#", "proxy_protocol": true, "trusted_proxies": ["127.0.0.1"]"#);
    let error = server.handle().adopt(accepted().1, head("https://a.example")).unwrap_err();
    assert_eq!(error.code(), "invalid_argument");
    assert!(error.to_string().contains("proxy_protocol"), "{error}");
}
