//! The column `rust` of tests/faces.toml, by what the crate does.

use std::net::TcpListener;

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

fn clustered(port: u16) -> Options {
    let json = format!(
        r#"{{"listen": "127.0.0.1:0", "origins": ["https://a.example"], "auth": "none", "protocol": "raw",
            "cluster": {{"url": "redis://:s3cret@127.0.0.1:{port}", "on_outage": "closed"}}}}"#
    );
    Options::from_json(&json).unwrap()
}

#[test]
fn an_audience_on_all_nodes_is_told_as_in_every_language() {
    let shown = format!("{:?}", wsguard::Everywhere::default());
    let mut last = 0;
    for field in row("everywhere").as_array().unwrap() {
        let at = shown.find(&format!("{}: ", field.as_str().unwrap())).unwrap();
        assert!(at > last, "{field} of {shown}");
        last = at;
    }
}

#[test]
fn a_cluster_that_is_not_there_refuses_handshakes() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server = Server::start(clustered(port)).unwrap();
    let mut peer = hello(server.address());
    let mut answer = String::new();
    let _ = peer.read_to_string(&mut answer);
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    let given = Code::ALL.iter().find(|code| server.handle().stats().verdict(**code) > 0).unwrap();
    assert_eq!(Value::from(format!("Code::{given:?}")), row("cluster_outage_verdict"));
}

#[test]
fn a_redis_that_refuses_is_an_error_of_the_option() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let redis = std::thread::spawn(move || {
        let (mut peer, _) = listener.accept().unwrap();
        let _ = peer.read(&mut [0; 1]).unwrap();
        let wrong = b"-WRONGPASS invalid username-password pair or user is disabled.\r\n".repeat(8);
        peer.write_all(&wrong).unwrap();
        let _ = peer.read_to_end(&mut Vec::new());
    });
    let refused = Server::start(clustered(port)).unwrap_err();
    redis.join().unwrap();
    assert_eq!(Value::from(refused.code()), row("cluster_refused"));
    assert_eq!(refused.option(), Some("cluster.url"));
    assert!(!format!("{refused} {refused:?}").contains("s3cret"), "{refused:?}");
}
