//! `wsguard serve`, as a user runs it.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test")]

mod common;

use std::io::{BufRead as _, BufReader, Lines};
use std::process::{Child, ChildStdout, Stdio};

use common::Scratch;
use serde_json::{Value, json};
use wsguard_test_support::client::{Client, ORIGIN, Opening, PATIENCE};
use wsguard_test_support::wire::{Dial, Target};

const TOKEN: &str = "9f86d081884c7d659a2feaa0c55ad015";

/// A server that ends with the test.
struct Served {
    child: Child,
    /// `None`: nobody reads them.
    lines: Option<Lines<BufReader<ChildStdout>>>,
    target: Target,
}

impl Served {
    fn start(arguments: &[&str]) -> Self {
        Self::start_with(arguments, Stdio::null())
    }

    fn start_with(arguments: &[&str], input: Stdio) -> Self {
        let mut command = common::wsguard(&[&["serve", "--json"], arguments].concat());
        let mut child = command.stdin(input).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut served = Self { child, lines: Some(lines), target: Target::plain("") };
        let listens = served.line("listens");
        served.target = Target::plain(listens["address"].as_str().unwrap());
        served
    }

    /// The next line of this type.
    fn line(&mut self, kind: &str) -> Value {
        loop {
            let line: Value =
                serde_json::from_str(&self.lines.as_mut().unwrap().next().expect("the server has ended").unwrap())
                    .unwrap();
            if line["type"] == kind {
                return line;
            }
        }
    }

    fn open(&self, opening: &Opening) -> Client {
        Client::open(&self.target, Dial::default(), opening).unwrap()
    }

    fn refused(&self, opening: &Opening) -> u16 {
        Client::over(self.target.connect(Dial::default()).unwrap()).upgrade(opening).unwrap().status
    }

    fn signal(&self, name: &str) {
        let sent = std::process::Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    fn ends_with(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn policy(more: &Value) -> String {
    let mut policy = json!({
        "listen": "127.0.0.1:0",
        "origins": [ORIGIN],
        "auth": {"tokens": [{"token": TOKEN, "user": "alice"}]},
        "events": {"say": {"schema": {"type": "string"}}},
    });
    policy.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    policy.to_string()
}

#[test]
fn an_echo_that_keeps_the_policy_and_says_what_happens() {
    let scratch = Scratch::new("echo");
    let mut served = Served::start(&[&scratch.file("p.json", policy(&json!({})))]);
    let mut client = served.open(&Opening::with_token(TOKEN));
    let open = served.line("open");
    assert_eq!((&open["user"], &open["origin"]), (&json!("alice"), &json!(ORIGIN)));
    client.text(r#"{"event": "say", "data": "hello", "id": 7}"#).unwrap();
    assert_eq!(client.event(PATIENCE).unwrap(), json!({"event": "say", "data": "hello", "status": "ok", "id": 7}));
    let message = served.line("message");
    assert_eq!(
        (&message["event"], &message["data"], &message["id"]),
        (&json!("say"), &json!("\"hello\""), &json!("7"))
    );
    client.emit("say", &json!(7)).unwrap();
    assert_eq!(served.line("refused")["verdict"], "schema_mismatch");
    assert_eq!(served.line("close")["code"], 1008);
    assert_eq!(served.refused(&Opening::with_token("wrong-wrong-wrong")), 401);
    assert_eq!(served.line("refused")["verdict"], "auth_failed");
    served.signal("INT");
    served.line("ends");
    assert_eq!(served.ends_with(), Some(0));
}

#[test]
fn a_hang_up_reads_the_policy_again() {
    let scratch = Scratch::new("reload");
    let file = scratch.file("p.json", policy(&json!({})));
    let mut served = Served::start(&[&file]);
    scratch.file("p.json", "{");
    served.signal("HUP");
    assert!(served.line("error")["detail"].as_str().unwrap().contains("options"));
    scratch.file("p.json", policy(&json!({"origins": ["https://other.example"]})));
    served.signal("HUP");
    assert_eq!(served.line("reloaded")["generation"], 2);
    assert_eq!(served.refused(&Opening::with_token(TOKEN)), 403);
    served.signal("TERM");
    assert_eq!(served.ends_with(), Some(0));
}

#[test]
fn raw_messages_come_back_to_everybody_and_are_not_shown() {
    let scratch = Scratch::new("raw");
    let raw = json!({"protocol": "raw", "auth": "callback"}).as_object().unwrap().clone();
    let mut stated: Value = serde_json::from_str(&policy(&Value::Object(raw))).unwrap();
    stated.as_object_mut().unwrap().remove("events");
    let file = scratch.file("p.json", stated.to_string());
    let mut served = Served::start(&[&file, "--accept", "bob", "--broadcast", "--no-data"]);
    let (mut one, mut two) = (served.open(&Opening::with_token("")), served.open(&Opening::with_token("")));
    assert_eq!(served.line("open")["user"], "bob");
    one.text("a secret").unwrap();
    assert_eq!(
        (one.message(PATIENCE).unwrap(), two.message(PATIENCE).unwrap()),
        (b"a secret".to_vec(), b"a secret".to_vec())
    );
    let line = served.line("text");
    assert!(line["bytes"] == 8 && line.get("data").is_none(), "{line}");
    let mut refusing = Served::start(&[&file]);
    assert_eq!(refusing.refused(&Opening::with_token("")), 401);
    assert!(refusing.line("asks")["path"] == "/");
}

#[test]
fn nobody_who_reads_ends_it() {
    let scratch = Scratch::new("pipe");
    let mut served = Served::start(&[&scratch.file("p.json", policy(&json!({})))]);
    let client = served.open(&Opening::with_token(TOKEN));
    served.line("open");
    // Its own pipe is closed; the next line finds that out.
    served.lines = None;
    drop(client);
    assert_eq!(served.ends_with(), Some(0));
}

#[test]
fn what_does_not_start_is_said() {
    let scratch = Scratch::new("bad");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ran = common::run(&["serve", &scratch.file("p.json", policy(&json!({}))), "--listen", &address]);
    assert!(ran.code == Some(2) && ran.err.contains(&address) && ran.out.is_empty(), "{ran:?}");
}

/// What was on it is gone; a terminal would be waited for.
#[test]
fn standard_input_is_not_read_again() {
    let scratch = Scratch::new("stdin");
    let file = std::fs::File::open(scratch.file("p.json", policy(&json!({})))).unwrap();
    let mut served = Served::start_with(&["-"], Stdio::from(file));
    served.signal("HUP");
    assert!(served.line("error")["detail"].as_str().unwrap().contains("standard input was read at the start"));
    served.signal("TERM");
    assert_eq!(served.ends_with(), Some(0));
}
