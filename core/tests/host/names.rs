//! Rooms, and the ids of connections.

use super::*;

#[test]
fn a_room_too_many_is_an_error_and_every_room_that_was_not_is_joined() {
    let mut server = start(r#", "threads": 1"#);
    let handle = server.handle();
    let mut client = connect(&handle);
    let conn = opened(&mut server);
    let joined = (0..1100).filter(|room| handle.join(conn, &format!("r{room}")).is_ok()).count();
    assert_eq!(joined, 1024);
    handle.broadcast_text(To::Room("r1023"), "last", &[]).unwrap();
    let mut frame = [0; 6];
    client.read_exact(&mut frame).unwrap();
    assert_eq!(&frame[2..], b"last");
    let stats = handle.stats();
    assert_eq!((stats.rooms, stats.room_memberships), (1024, 1024));
    // What was left has room for another, and a room that it is in takes none.
    handle.leave(conn, "r7").unwrap();
    handle.send_text(conn, "left").unwrap();
    client.read_exact(&mut frame).unwrap();
    handle.join(conn, "r1").unwrap();
    handle.send_text(conn, "none").unwrap();
    client.read_exact(&mut frame).unwrap();
    handle.join(conn, "r7").unwrap();
    handle.join(conn, "r7").unwrap();
    assert_eq!(handle.join(conn, "another").unwrap_err().code(), "invalid_argument");
    drop(client);
    assert!(tell(&mut server, 1)[0].starts_with("close 1006"));
    let stats = handle.stats();
    assert_eq!((stats.open, stats.rooms, stats.room_memberships), (0, 0, 0));
}

#[test]
fn an_id_of_one_server_is_nobody_in_another() {
    let (mut first, mut second) = (start(""), start(""));
    let (one, two) = (first.handle(), second.handle());
    let (_a, _b) = (connect(&one), connect(&two));
    let (of_first, of_second) = (opened(&mut first), opened(&mut second));
    assert!(one.is_open(of_first) && two.is_open(of_second));
    assert!(!one.is_open(of_second) && !two.is_open(of_first));
    assert_eq!(two.send_text(of_first, "secret").unwrap_err().code(), "connection_closed");
    drop(first);
    let mut third = start("");
    let _c = connect(&third.handle());
    opened(&mut third);
    assert!(!third.handle().is_open(of_first));
}

#[test]
fn a_policy_that_was_not_compiled_here_starts_as_many_threads_as_it_may() {
    for threads in [0, 1000] {
        let mut policy = wsguard::binding::compile(options("")).unwrap();
        std::sync::Arc::get_mut(&mut policy.top).unwrap().threads = threads;
        let mut server = Builder::new().without_listener().start_policy(policy).unwrap();
        let handle = server.handle();
        let _client = connect(&handle);
        assert!(handle.is_open(opened(&mut server)));
        handle.stop();
    }
}
