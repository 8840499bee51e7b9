//! Our own server with a good policy lets nothing through, plain and over TLS.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use serde_json::{Value, json};
use wsguard::{Event, Handle, Options, Server};
use wsguard_test_support::certs::Certs;

use super::{TOKEN, report, word};

/// A policy that states what must be stated, and leaves every limit at its default.
fn policy() -> Value {
    json!({
        "listen": "127.0.0.1:0",
        "origins": ["https://app.example"],
        "hosts": ["127.0.0.1", "127.0.0.2"],
        "auth": {"tokens": [{"token": TOKEN, "user": "alice"}]},
        "events": {"echo": {"schema": {"type": "string", "maxLength": 100}}},
        "compression": {},
    })
}

fn start(policy: &Value) -> (String, Handle) {
    let server = Server::start(Options::from_value(policy).unwrap()).unwrap();
    let (address, handle) = (server.address().to_owned(), server.handle());
    std::thread::spawn(move || {
        server.run(|event, server| {
            if let Event::Message(message) = event {
                server.reply(&message, message.event, &message.data)?;
            }
            Ok(())
        });
    });
    (address, handle)
}

const LET_IN: [&str; 8] = [
    "--origin",
    "https://app.example",
    "--token",
    "env:AUDIT_TOKEN",
    "--message",
    r#"{"event":"echo","data":"hello"}"#,
    "--patience",
    "8",
];

/// Nothing found, and nothing left open.
fn assert_clean(code: i32, report: &Value) {
    for result in report["results"].as_array().unwrap() {
        assert!(matches!(result["verdict"].as_str(), Some("passed" | "skipped")), "{result}");
    }
    assert_eq!(code, 0);
}

#[test]
fn a_good_policy_lets_nothing_through() {
    let (address, handle) = start(&policy());
    let (code, report) = report(&[&LET_IN[..], &[&format!("ws://{address}/"), "--strict"]].concat());
    handle.stop();
    assert_clean(code, &report);
    assert_eq!(word(&report, "unfinished-handshake"), "passed");
    assert_eq!(word(&report, "compression-bomb"), "passed");
}

#[test]
fn nor_does_it_over_tls() {
    let dir = tempfile::tempdir().unwrap();
    let certs = Certs::create(dir.path()).unwrap();
    let mut policy = policy();
    policy["tls"] = json!({"cert": certs.path("server.pem"), "key": certs.path("server.key")});
    let (address, handle) = start(&policy);
    let url = format!("wss://{address}/");
    let ca = certs.path("ca.pem");
    let (code, clean) = report(&[&LET_IN[..], &[&url, "--ca", &ca, "--strict"]].concat());
    assert_clean(code, &clean);
    assert_eq!(word(&clean, "unfinished-tls"), "passed");
    // Without the authority the certificate is the one finding, a small one on this machine.
    let only = ["--only", "tls-certificate,tls-versions", "--fail-on", "medium"];
    let (code, unknown) = report(&[&LET_IN[..], &[&url], &only].concat());
    assert_eq!((code, word(&unknown, "tls-certificate"), word(&unknown, "tls-versions")), (0, "low", "passed"));
    // An address that the certificate does not name.
    policy["listen"] = "127.0.0.2:0".into();
    let (address, second) = start(&policy);
    let (code, other) = report(&[&LET_IN[..], &["--ca", &ca, &format!("wss://{address}/")], &only].concat());
    assert_eq!((code, word(&other, "tls-certificate")), (1, "high"));
    second.stop();
    handle.stop();
}

#[test]
fn a_server_that_asks_clients_for_certificates_is_told_as_that() {
    let dir = tempfile::tempdir().unwrap();
    let certs = Certs::create(dir.path()).unwrap();
    let mut policy = policy();
    let ca = certs.path("ca.pem");
    policy["tls"] = json!({"cert": certs.path("server.pem"), "key": certs.path("server.key"), "client_ca": ca});
    let (address, handle) = start(&policy);
    let (code, report) =
        report(&[&LET_IN[..], &[&format!("wss://{address}/"), "--ca", &ca, "--only", "unmasked"]].concat());
    handle.stop();
    assert_eq!((code, word(&report, "unmasked")), (2, "unknown"), "{report}");
    assert!(report.to_string().contains("it asks for a certificate of the client"), "{report}");
}

/// Hands connections on to a server, but answers a `ClientHello` of TLS 1.0 and 1.1 itself, as a server that speaks them would.
fn old_tls_before(server: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let server = server.clone();
            std::thread::spawn(move || {
                // The record's header, the handshake's, and the version in the ClientHello.
                let mut start = [0; 11];
                client.read_exact(&mut start)?;
                if start[10] < 3 {
                    return client.write_all(&[22, 3, start[10], 0, 50, 2, 0, 0, 46, 3, start[10]]);
                }
                let mut server = TcpStream::connect(server)?;
                server.write_all(&start)?;
                let (mut from, mut to) = (server.try_clone()?, client.try_clone()?);
                std::thread::spawn(move || std::io::copy(&mut from, &mut to));
                std::io::copy(&mut client, &mut server).map(|_| ())
            });
        }
    });
    address.to_string()
}

#[test]
fn old_tls_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let certs = Certs::create(dir.path()).unwrap();
    let mut policy = policy();
    policy["tls"] = json!({"cert": certs.path("server.pem"), "key": certs.path("server.key")});
    let (address, handle) = start(&policy);
    let url = format!("wss://{}/", old_tls_before(address));
    let (code, report) = report(&[&LET_IN[..], &[&url, "--only", "tls-versions"]].concat());
    handle.stop();
    assert_eq!((code, word(&report, "tls-versions")), (1, "medium"), "{report}");
}

#[test]
fn who_is_not_let_in_says_so() {
    let (address, handle) = start(&policy());
    let url = format!("ws://{address}/");
    let checks = ["--only", "origin-foreign,credential-needed,utf8", "--patience", "5"];
    let (code, report) = report(&[&[url.as_str()], &checks[..]].concat());
    handle.stop();
    assert_eq!(code, 2);
    for check in ["origin-foreign", "utf8"] {
        assert_eq!(word(&report, check), "unknown", "{check}");
    }
}

#[test]
fn a_message_that_is_not_valid_leaves_its_checks_open() {
    let (address, handle) = start(&policy());
    let url = format!("ws://{address}/");
    let arguments =
        ["--origin", "https://app.example", "--token", "env:AUDIT_TOKEN", "--only", "message-rate,message-size"];
    let (code, report) = report(&[&[url.as_str()], &arguments[..]].concat());
    handle.stop();
    assert_eq!((code, word(&report, "message-rate"), word(&report, "message-size")), (0, "unknown", "passed"));
}
