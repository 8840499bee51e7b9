//! Rooms, users and single connections, as a Rust application names them.

use super::*;

/// The next text of the server.
fn next_text(client: &mut TcpStream) -> String {
    let mut head = [0; 2];
    client.read_exact(&mut head).unwrap();
    let mut payload = vec![0; usize::from(head[1])];
    client.read_exact(&mut payload).unwrap();
    String::from_utf8(payload).unwrap()
}

#[test]
fn audiences_know_their_members() {
    let mut server = Server::start(options(Auth::None)).unwrap();
    let handle = server.handle();
    let (mut a, first) = connect(&mut server);
    let (mut b, second) = connect(&mut server);
    handle.conn(first).join("one").unwrap();
    handle.conn(second).join("one").unwrap();
    handle.conn(second).join("two").unwrap();
    assert_eq!(handle.conn(second).rooms().len(), 2);
    assert_eq!(handle.room("one").len().unwrap(), 2);
    assert_eq!(handle.room("one").except(first).members().unwrap(), [second]);
    assert_eq!(handle.rooms(&["one", "two"]).len().unwrap(), 2);
    assert_eq!(handle.everyone().except_all([first, second]).len().unwrap(), 0);
    assert_eq!((handle.connections().len(), handle.connections_of("alice")), (2, vec![]));
    assert_eq!(handle.room("").members().unwrap_err().code(), "invalid_argument");
    assert_eq!(handle.everyone().clear().unwrap_err().code(), "invalid_argument");
    handle.to_user("alice").emit("say", &1).unwrap();
    handle.rooms(&["one", "two"]).emit("say", &2).unwrap();
    handle.rooms(&["one", "two"]).clear().unwrap();
    assert_eq!(handle.room("one").len().unwrap() + handle.room("two").len().unwrap(), 0);
    handle.room("one").emit("say", &3).unwrap();
    handle.conn(first).reply_error(Some("7"), "say", "no").unwrap();
    handle.conn(second).request(8, "say", &()).unwrap();
    handle.everyone().close(4000, "").unwrap();
    let two = r#"{"event":"say","data":2,"status":"ok"}"#;
    assert_eq!([next_text(&mut a), next_text(&mut b)], [two, two]);
    assert_eq!(next_text(&mut a), r#"{"event":"say","data":"no","status":"error","id":7}"#);
    assert_eq!(next_text(&mut b), r#"{"event":"say","data":null,"id":8}"#);
    for client in [&mut a, &mut b] {
        let mut close = [0; 4];
        client.read_exact(&mut close).unwrap();
        assert_eq!(close, [0x88, 2, 0x0f, 0xa0]);
    }
}

/// A client reads integers up to 2^53, and so does this server: it would close whoever answers a larger one.
#[test]
fn a_request_that_nobody_could_answer_is_an_error() {
    let mut server = Server::start(options(Auth::None)).unwrap();
    let (mut client, id) = connect(&mut server);
    let handle = server.handle();
    for wrong in [(1 << 53) + 1, u64::MAX] {
        let error = handle.conn(id).request(wrong, "say", &1).unwrap_err();
        assert_eq!((error.code(), error.to_string().contains("2^53")), ("invalid_argument", true), "{error}");
    }
    handle.conn(id).request(1 << 53, "say", &1).unwrap();
    assert_eq!(next_text(&mut client), r#"{"event":"say","data":1,"id":9007199254740992}"#);
    say(&mut client, r#"{"event":"say","id":9007199254740992}"#);
    let answered = loop {
        match server.next(Some(TIMEOUT)) {
            Next::Event(Event::Message(message)) => break message.id == Some("9007199254740992"),
            Next::Event(Event::Drained(_)) => {}
            other => panic!("{other:?}"),
        }
    };
    assert!(answered);
}

#[test]
fn the_size_of_a_room_that_cannot_be_is_an_error_as_its_members_are() {
    let server = Server::start(options(Auth::None)).unwrap();
    let (handle, long) = (server.handle(), "x".repeat(257));
    for name in ["", &long] {
        assert!(handle.room(name).len().is_err() && handle.room(name).members().is_err());
    }
    assert_eq!(handle.room("nobody's").len().unwrap(), 0);
}

#[test]
fn a_closed_connection_is_a_value() {
    let mut server = Server::start(raw()).unwrap();
    let handle = server.handle();
    let (mut client, id) = connect(&mut server);
    let conn = handle.conn(id);
    assert!(!conn.ping().unwrap().is_closed());
    let mut ping = [0; 10];
    client.read_exact(&mut ping).unwrap();
    assert_eq!(ping[..2], [0x89, 8]);
    client.write_all(&[&[0x8a, 0x88, 0, 0, 0, 0], &ping[2..]].concat()).unwrap();
    loop {
        match server.next(Some(TIMEOUT)) {
            Next::Event(Event::Pong { conn, rtt }) => break assert!(conn == id && rtt < TIMEOUT),
            Next::Event(_) => {}
            _ => panic!("no pong"),
        }
    }
    assert!(!conn.terminate().unwrap().is_closed());
    loop {
        match server.next(Some(TIMEOUT)) {
            Next::Event(Event::Close(close)) => {
                break assert_eq!((close.conn, close.code, close.verdict), (id, 1006, None));
            }
            Next::Event(_) => {}
            _ => panic!("no close"),
        }
    }
    let closed = [conn.ping(), conn.terminate(), conn.request(1, "e", &()), conn.reply_error(None, "e", &())];
    assert!(closed.into_iter().all(|sent| sent.unwrap().is_closed()));
    assert_eq!((conn.buffered_bytes(), conn.rooms()), (0, vec![]));
}
