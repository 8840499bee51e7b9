//! The column `rust` of tests/faces.toml, by what the crate does.

use toml::{Table, Value};
use wsguard::{Code, Drain, Sent};

use super::*;

fn row(concept: &str) -> Value {
    let table: Table = include_str!("../../../tests/faces.toml").parse().unwrap();
    let row = table[concept].as_table().unwrap();
    row.get("rust").or(row.get("fields")).unwrap_or_else(|| panic!("{concept} says nothing of Rust")).clone()
}

fn named(sent: Sent) -> Value {
    format!("Sent::{sent:?}").into()
}

#[test]
fn a_drain_waits_as_long_as_in_every_language() {
    let Drain { timeout_ms, jitter_ms } = Drain::default();
    assert_eq!(Value::from(i64::try_from(timeout_ms).unwrap()), row("drain_timeout_ms"));
    assert_eq!(Value::from(i64::try_from(jitter_ms).unwrap()), row("drain_jitter_ms"));
}

#[test]
fn a_send_says_what_became_of_it() {
    let mut server = Server::start(raw()).unwrap();
    let handle = server.handle();
    let (client, id) = connect(&mut server);
    let conn = handle.conn(id);
    // Nobody reads: the kernel's buffers fill, and then an outbox.
    let block = "x".repeat(200_000);
    let mut sent = conn.send(&block).unwrap();
    while sent == Sent::Sent {
        sent = conn.send(&block).unwrap();
    }
    assert_eq!(named(sent), row("send_waits"));
    drop(client);
    while !matches!(server.next(Some(TIMEOUT)), Next::Event(Event::Close(_))) {}
    assert_eq!(named(conn.send("late").unwrap()), row("send_to_closed"));
}

#[test]
fn the_query_and_the_reason_that_are_absent() {
    let mut server = Server::start(options(Auth::Callback)).unwrap();
    let client = hello(server.address());
    let Next::Event(Event::Upgrade(upgrade)) = server.next(Some(TIMEOUT)) else { panic!("nobody asks") };
    assert_eq!(Value::from(format!("{:?}", upgrade.request.query)), row("query_absent"));
    drop(client);

    let mut server = Server::start(raw()).unwrap();
    let (client, _) = connect(&mut server);
    drop(client);
    let Next::Event(Event::Close(close)) = server.next(Some(TIMEOUT)) else { panic!("no close") };
    assert_eq!(Value::from(close.reason), row("close_reason_absent"));
}

#[test]
fn a_policy_without_auth_is_refused_whatever_else_is_there() {
    let options = Options { auth: None, ..options(Auth::Callback) };
    assert_eq!(Value::from(Server::start(options).unwrap_err().code()), row("callback_without_auth"));
}

#[test]
fn stats_count_all_that_the_table_names() {
    let server = Server::start(raw()).unwrap();
    let stats = server.handle().stats();
    assert_eq!(Value::from("all"), row("verdict_counters"));
    assert_eq!(stats.verdicts.len(), Code::ALL.len());
    let shown = format!("{stats:?}");
    for field in row("stats").as_array().unwrap() {
        assert!(shown.contains(&format!("{}: ", field.as_str().unwrap())), "{field}");
    }
}

#[test]
fn a_violation_says_what_the_table_names() {
    let mut server = Server::start(raw()).unwrap();
    let mut stranger = TcpStream::connect(server.address()).unwrap();
    stranger.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let Next::Event(Event::Violation(violation)) = server.next(Some(TIMEOUT)) else { panic!("no violation") };
    // The code tells its close code and its status.
    assert_eq!((violation.code, violation.code.http_status()), (Code::UpgradeRequired, 426));
    let shown = format!("{violation:?} close_code: http_status: ").replace("conn: ", "conn_id: ");
    for field in row("violation_record").as_array().unwrap() {
        assert!(shown.contains(&format!("{}: ", field.as_str().unwrap())), "{field} of {shown}");
    }
}
