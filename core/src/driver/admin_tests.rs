//! The admin listener against clients that take their time.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::*;
use crate::driver::state::idle;
use wsguard_proto::config::Options;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

fn start(bounds: Bounds) -> Admin {
    let state = idle(r#""threads": 1, "admin_listen": "127.0.0.1:0""#);
    let bound = Bound::bind_admin(&state.set().top).unwrap().unwrap();
    Admin::start_within(bounds, bound, &state).unwrap()
}

fn connect(admin: &Admin) -> TcpStream {
    let client = TcpStream::connect(admin.address()).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client
}

/// What comes until the end; nothing where the connection was broken off.
fn rest(client: &mut TcpStream) -> String {
    let mut text = String::new();
    match client.read_to_string(&mut text) {
        Err(error) if error.kind() != io::ErrorKind::ConnectionReset => panic!("{error}"),
        _ => text,
    }
}

fn ask(mut client: TcpStream) -> String {
    client.write_all(b"GET /healthz HTTP/1.1\r\n\r\n").unwrap();
    rest(&mut client)
}

#[test]
fn whoever_has_been_there_longest_makes_room() {
    let admin = start(Bounds { connections: 2, timeout: Duration::from_secs(600) });
    let (mut first, mut second) = (connect(&admin), connect(&admin));
    // In the order of their requests they are there.
    for client in [&mut first, &mut second] {
        client.write_all(b"GET /healthz").unwrap();
    }
    assert!(ask(connect(&admin)).ends_with("\r\n\r\nok"));
    assert_eq!(rest(&mut first), "");
    second.write_all(b" HTTP/1.0\r\n\r\n").unwrap();
    assert!(rest(&mut second).ends_with("\r\n\r\nok"));
}

#[test]
fn nobody_stays_for_long() {
    let admin = start(Bounds { connections: 4, timeout: Duration::from_millis(50) });
    let mut silent = connect(&admin);
    assert_eq!(rest(&mut silent), "");
    // Answered, and does not leave.
    let mut clinging = connect(&admin);
    clinging.write_all(b"HEAD /readyz HTTP/1.1\r\n\r\n").unwrap();
    assert!(rest(&mut clinging).starts_with("HTTP/1.1 200 OK\r\n"));
    let mut byte = [b'x'];
    while clinging.write(&byte).is_ok() {}
    assert!(!clinging.read(&mut byte).is_ok_and(|len| len > 0));
}

#[test]
fn it_ends_with_its_server() {
    let admin = start(BOUNDS);
    let mut there = connect(&admin);
    let address = admin.address().to_owned();
    // As the last shard does.
    admin.state.over.notify_one();
    assert_eq!(rest(&mut there), "");
    drop(admin);
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn events_age_until_they_are_taken() {
    use crate::driver::events::EventBatch;
    use crate::driver::ids::ConnectionId;
    use crate::driver::shard_events::Look;
    use wsguard_proto::time::Moment;

    let state = idle(r#""threads": 2"#);
    let push = |shard: usize| state.write_events(shard).batch().push_drained(ConnectionId::from_u64(1));
    assert_eq!(state.oldest_event(), Moment::NEVER);
    push(1);
    let first = state.oldest_event();
    assert!(first < Moment::NEVER);
    push(1);
    push(0);
    assert_eq!(state.oldest_event(), first, "later events change nothing");
    let mut batch = EventBatch::new();
    assert_eq!(state.take_events(1, &mut batch), Look::Taken);
    let second = state.oldest_event();
    assert!(first < second && second < Moment::NEVER, "that of the other shard");
    batch.release();
    assert_eq!(state.take_events(0, &mut batch), Look::Taken);
    assert_eq!(state.oldest_event(), Moment::NEVER);
}

#[test]
fn a_name_is_looked_up_and_must_be_of_this_machine() {
    let policy = |more: &str| {
        let json = format!(r#"{{"origins": ["https://a.example"], "auth": "none", {more}}}"#);
        Options::from_json(&json).and_then(crate::driver::compile)
    };
    let bind = |listen: &str| {
        let set = policy(&format!(r#""admin_listen": "{listen}""#)).unwrap();
        Bound::bind_admin(&set.top).map(Option::unwrap)
    };
    let bound = bind("localhost:0").unwrap();
    assert!(!bound.is_public());
    let port = bound.addresses[0].rsplit_once(':').unwrap().1;
    let error = bind(&format!("localhost:{port}")).unwrap_err();
    assert_eq!((error.option(), error.code()), (Some("admin_listen"), "listen_failed"));
    assert!(error.to_string().starts_with("admin_listen: cannot listen on ") && error.errno().is_some(), "{error}");
}

#[cfg(unix)]
#[test]
fn the_socket_file_of_the_numbers_has_its_mode() {
    use std::os::unix::fs::PermissionsExt;
    let directory = std::env::temp_dir().join(format!("wsguard-admin-mode-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let (path, own) = (directory.join("admin"), directory.join("own"));
    for (listen, mode) in [("127.0.0.1:0".to_owned(), 0o600), (format!("unix:{}", own.display()), 0o666)] {
        let state = idle(&format!(
            r#""threads": 1, "listen": "{listen}", "unix_mode": "0{mode:o}", "admin_listen": "unix:{}""#,
            path.display()
        ));
        let _bound = Bound::bind_admin(&state.set().top).unwrap().unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode);
    }
    std::fs::remove_dir_all(&directory).unwrap();
}
