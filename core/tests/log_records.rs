#![expect(clippy::unwrap_used, reason = "a test")]
//! The log as records: what one connection leaves there, from the first to the last, and what is done to a whole server. A
//! process has one log, so this is one test.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use wsguard::binding::{Builder, Event, LogLevel, LogRecord, LogValue, Options, Whom, log_to};

const PATIENCE: Duration = Duration::from_secs(20);

type Records = Arc<Mutex<Vec<LogRecord>>>;

fn options(token: &str) -> Options {
    let json = format!(
        r#"{{"listen": "127.0.0.1:0", "threads": 1, "protocol": "raw", "origins": ["https://a.example"],
            "subprotocols": ["chat.v1"], "routes": {{"/room/{{name}}": {{}}}},
            "auth": {{"tokens": [{{"token": "{token}", "user": "alice"}}]}}}}"#
    );
    Options::from_json(&json).unwrap()
}

fn connect(address: &str, token: &str) -> TcpStream {
    let mut client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!(
        "GET /room/blue HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Origin: https://a.example\r\nAuthorization: Bearer {token}\r\nSec-WebSocket-Protocol: chat.v1\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    );
    client.write_all(head.as_bytes()).unwrap();
    client
}

fn head(client: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

fn field<'r>(record: &'r LogRecord, name: &str) -> &'r LogValue {
    &record.fields.iter().find(|(known, _)| *known == name).unwrap().1
}

fn text(record: &LogRecord, name: &str) -> String {
    match field(record, name) {
        LogValue::Text(text) => text.clone(),
        other => format!("{other:?}"),
    }
}

/// Waits for a record that has these words in its text, and takes it.
fn record(records: &Records, target: &str, words: &[&str]) -> LogRecord {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut all = records.lock().unwrap();
        let found = all
            .iter()
            .position(|record| record.target == target && words.iter().all(|word| record.text.contains(word)));
        if let Some(index) = found {
            return all.remove(index);
        }
        assert!(Instant::now() < deadline, "no record of {target} with {words:?} among {all:?}");
        drop(all);
        std::thread::yield_now();
    }
}

#[test]
fn the_log_tells_of_what_goes_well_by_one_id_and_of_what_is_done_to_the_server() {
    let records = Records::default();
    let kept = Arc::clone(&records);
    let hook = move |record: &LogRecord| {
        assert_eq!(std::thread::current().name(), Some("wsguard-log"));
        // What it makes us log is dropped: else this would never end.
        tracing::error!(target: "wsguard", "of the hook itself");
        kept.lock().unwrap().push(record.clone());
    };
    assert!(log_to(LogLevel::Info, hook));
    assert!(!log_to(LogLevel::Info, |_| {}), "a process has one log");

    let server = Builder::new().start(options("good")).unwrap();
    let (address, handle) = (server.address().to_owned(), server.handle());
    let (tell, opened) = mpsc::channel();
    let running = std::thread::spawn(move || {
        server.run(move |event, _| {
            if let Event::Open(open) = event {
                tell.send(open.id.to_string()).unwrap();
            }
        });
    });
    let mut client = connect(&address, "good");
    assert!(head(&mut client).starts_with("HTTP/1.1 101"));
    let id = opened.recv_timeout(PATIENCE).unwrap();
    assert_eq!(id.len(), 16);
    // A masked text "hi", then a close frame with 1000.
    client.write_all(b"\x81\x82\0\0\0\0hi\x88\x82\0\0\0\0\x03\xe8").unwrap();
    assert_eq!(client.read_to_end(&mut Vec::new()).unwrap(), 4);

    let audit = "wsguard::audit";
    let hs = format!("hs={id} ");
    let auth = record(&records, audit, &["action=auth ", &hs]);
    assert_eq!(
        (text(&auth, "auth"), text(&auth, "user"), auth.level),
        ("token".into(), "alice".into(), LogLevel::Info)
    );
    let open = record(&records, audit, &["action=open ", &hs]);
    assert_eq!((text(&open, "route"), text(&open, "subprotocol")), ("/room/{name}".into(), "chat.v1".into()));
    assert_eq!(
        (text(&open, "ip"), text(&open, "user"), text(&open, "auth")),
        ("127.0.0.1".into(), "alice".into(), "token".into())
    );
    let close = record(&records, audit, &["action=close ", &hs]);
    assert_eq!(
        (field(&close, "close_code"), field(&close, "clean")),
        (&LogValue::Unsigned(1000), &LogValue::Bool(true))
    );
    assert_eq!(
        (field(&close, "messages_in"), field(&close, "bytes_in"), field(&close, "bytes_out")),
        (&LogValue::Unsigned(1), &LogValue::Unsigned(16), &LogValue::Unsigned(4))
    );
    assert_eq!((field(&close, "messages_out"), field(&close, "verdict")), (&LogValue::Unsigned(0), &LogValue::Nothing));
    assert_eq!(text(&close, "conn"), text(&open, "conn"));
    assert!(matches!(field(&close, "duration_ms"), LogValue::Unsigned(ms) if *ms < 60_000));
    let json: serde_json::Value = serde_json::from_str(&close.to_json()).unwrap();
    assert_eq!(
        (&json["hs"], &json["verdict"], &json["clean"]),
        (&id.as_str().into(), &serde_json::Value::Null, &true.into())
    );

    // A refusal and a verdict have their ids, too.
    assert!(head(&mut connect(&address, "bad")).starts_with("HTTP/1.1 401"));
    let refused = record(&records, "wsguard::verdict", &["code=auth_failed ip=127.0.0.1 "]);
    assert_eq!(text(&refused, "hs").len(), 16);
    assert!(refused.text.contains(" suppressed=0 detail=\"unknown token"), "{}", refused.text);
    let mut client = connect(&address, "good");
    assert!(head(&mut client).starts_with("HTTP/1.1 101"));
    let hs = format!("hs={} ", opened.recv_timeout(PATIENCE).unwrap());
    client.write_all(b"\x81\x02hi").unwrap();
    assert!(client.read_to_end(&mut Vec::new()).unwrap() > 4);
    let verdict = record(&records, "wsguard::verdict", &["code=bad_frame ", &hs]);
    assert_eq!(verdict.level, LogLevel::Warn);
    let close = record(&records, audit, &["action=close ", &hs]);
    assert_eq!((text(&close, "verdict"), field(&close, "close_code")), ("bad_frame".into(), &LogValue::Unsigned(1002)));

    // What is done to the server.
    assert_eq!(handle.reload(options("better")).unwrap(), 2);
    let reload = record(&records, audit, &["action=reload "]);
    assert_eq!((field(&reload, "generation"), text(&reload, "changed")), (&LogValue::Unsigned(2), "auth".into()));
    let wrong = r#"{"origins": ["https://a.example"], "auth": "none", "threads": 3}"#;
    assert_eq!(handle.reload(Options::from_json(wrong).unwrap()).unwrap_err().code(), "not_reloadable");
    let warning = record(&records, "wsguard", &["reload refused, the policy stays as it is: "]);
    assert_eq!(warning.level, LogLevel::Warn);
    assert!(handle.metrics().contains("\nwsguard_reload_failures_total 1\n"));
    handle.ban(Whom::User("mallory"), Some(60_000), "a reason").unwrap();
    assert!(handle.unban(Whom::User("mallory")).unwrap());
    let ban = record(&records, audit, &["action=ban "]);
    assert_eq!((text(&ban, "who"), text(&ban, "reason")), ("mallory".into(), "a reason".into()));
    record(&records, audit, &["action=unban who=mallory"]);
    handle.drain(1000, 0);
    let begun = record(&records, audit, &["action=drain_begun "]);
    assert_eq!(field(&begun, "timeout_ms"), &LogValue::Unsigned(1000));
    running.join().unwrap();
    record(&records, audit, &["action=drain_ended "]);
    assert!(records.lock().unwrap().iter().all(|record| record.target.starts_with("wsguard")));
}
