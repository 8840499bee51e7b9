#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]
//! The log on standard error as JSON: every line is one object, whatever happens. Standard error is a process's, so that the
//! server is in a child of the test.
#![cfg(feature = "stderr-log")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use serde_json::Value;
use wsguard::binding::{Builder, Event, LogFormat, Options, log_to_stderr_as};

const CHILD: &str = "WSGUARD_TEST_LOG_JSON";

#[test]
fn every_line_is_an_object() {
    if std::env::var_os(CHILD).is_some() {
        return serve();
    }
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "every_line_is_an_object", "--nocapture"])
        // What would change the form, if the environment were read.
        .envs([(CHILD, "1"), ("RUST_LOG", "trace"), ("NO_COLOR", "0")])
        .output()
        .unwrap();
    let log = String::from_utf8(child.stderr).unwrap();
    assert!(child.status.success(), "{log}");
    let records: Vec<Value> =
        log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect();
    let find = |name: &str, value: &str| {
        records.iter().find(|record| record[name] == value).unwrap_or_else(|| panic!("no {value} in {log}"))
    };
    for record in &records {
        let time = record["time"].as_str().unwrap();
        assert!(time.len() == 27 && time.ends_with('Z') && &time[10..11] == "T", "{time}");
        assert!(record["level"].is_string() && record["target"].is_string(), "{record}");
    }
    let refused = find("code", "origin_denied");
    assert_eq!((&refused["target"], &refused["level"]), (&"wsguard::verdict".into(), &"warn".into()));
    assert_eq!((&refused["suppressed"], &refused["conn"]), (&0.into(), &Value::Null));
    assert_eq!(refused["detail"], "Origin https://evil.example is not in origins");
    let close = find("action", "close");
    assert_eq!((&close["close_code"], &close["verdict"]), (&1011.into(), &"internal".into()));
    assert_eq!(close["hs"], find("action", "open")["hs"]);
    // What a handler panicked with cannot end the line.
    let panic = records.iter().find(|record| record["thread"].is_string()).unwrap();
    assert!(panic["message"].as_str().unwrap().contains("{\"code\": \"forged\"}"), "{panic}");
    assert!(!records.iter().any(|record| record["code"] == "forged"));
}

fn connect(address: &str, origin: &str) -> TcpStream {
    let mut client = TcpStream::connect(address).unwrap();
    let head = format!(
        "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nOrigin: {origin}\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    );
    client.write_all(head.as_bytes()).unwrap();
    client
}

fn serve() {
    log_to_stderr_as(LogFormat::Json);
    let json = r#"{"listen": "127.0.0.1:0", "threads": 1, "origins": ["https://a.example"], "auth": "none", "protocol": "raw",
        "close_timeout_ms": 100}"#;
    let server = Builder::new().start(Options::from_json(json).unwrap()).unwrap();
    let (address, handle) = (server.address().to_owned(), server.handle());
    let clients = std::thread::spawn(move || {
        connect(&address, "https://evil.example").read_to_end(&mut Vec::new()).unwrap();
        let mut client = connect(&address, "https://a.example");
        client.write_all(b"\x81\x82\0\0\0\0hi").unwrap();
        client.read_to_end(&mut Vec::new()).unwrap();
        handle.drain(1000, 0);
    });
    server.run(|event, _| {
        if let Event::Text(..) = event {
            panic!("\n{{\"code\": \"forged\"}}\n");
        }
    });
    clients.join().unwrap();
}
