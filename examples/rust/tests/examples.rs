#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]
//! Each example starts, serves a client, refuses another, and ends when it is told to.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use wsguard_test_support::client::{Client, PATIENCE};
use wsguard_test_support::http::Opening;
use wsguard_test_support::jwt;
use wsguard_test_support::lines::Lines;
use wsguard_test_support::wire::{Dial, Target};

/// A running example, killed when the test is over.
struct Example {
    process: Child,
    address: String,
    /// What it prints: read to the end, so that it can print.
    _said: Lines<String>,
}

impl Example {
    fn start(program: &str, secret: &str) -> Self {
        let mut command = Command::new(program);
        command.env("LISTEN", "127.0.0.1:0").env("JWT_SECRET", secret).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().unwrap();
        let said = Lines::of(process.stdout.take().unwrap(), |line| Some(line.to_owned()));
        let first = said.take(PATIENCE, |_| true).unwrap_or_else(|| panic!("{program} says nothing"));
        let address = first.strip_prefix("listening on ").unwrap().to_owned();
        Self { process, address, _said: said }
    }

    fn open(&self, opening: &Opening) -> Client {
        Client::open(&self.target(), Dial::default(), opening).unwrap_or_else(|failure| panic!("{failure}"))
    }

    fn refused(&self, opening: &Opening) -> u16 {
        let mut client = Client::over(self.target().connect(Dial::default()).unwrap());
        client.upgrade(opening).unwrap_or_else(|failure| panic!("{failure}")).status
    }

    fn target(&self) -> Target {
        Target { address: self.address.clone(), tls: None }
    }

    /// SIGTERM: clients are told with 1012, and the program ends well.
    fn end(mut self, client: &mut Client) {
        let kill = Command::new("kill").arg(self.process.id().to_string()).status().unwrap();
        assert!(kill.success());
        assert_eq!(client.closed(PATIENCE).unwrap_or_else(|failure| panic!("{failure}")).0, 1012);
        assert!(self.process.wait().unwrap().success());
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn opening(token: &str) -> Opening {
    Opening::bare()
        .header("Origin", "http://localhost:3000")
        .header("Sec-WebSocket-Protocol", &format!("bearer, {token}"))
}

fn event(client: &mut Client) -> (String, Value) {
    let message = client.event(PATIENCE).unwrap_or_else(|failure| panic!("{failure}"));
    (message["event"].as_str().unwrap().to_owned(), message["data"].clone())
}

fn emit(client: &mut Client, event: &str, data: &Value) {
    client.emit(event, data).unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn in_the_chat_the_others_of_a_room_hear_what_is_said() {
    let chat = Example::start(env!("CARGO_BIN_EXE_chat"), "");
    let [mut alice, mut bob] = ["secret-of-alice", "secret-of-bob"].map(|token| chat.open(&opening(token)));
    emit(&mut alice, "say", &json!({"text": "too early"}));
    assert_eq!(event(&mut alice), ("refused".into(), json!("join a room first")));
    for client in [&mut alice, &mut bob] {
        emit(client, "join", &json!({"room": "kitchen"}));
        assert_eq!(event(client), ("joined".into(), json!({"room": "kitchen"})));
    }
    emit(&mut bob, "say", &json!({"text": "hello"}));
    assert_eq!(event(&mut alice), ("said".into(), json!({"user": "bob", "text": "hello"})));
    assert_eq!(chat.refused(&opening("guessed")), 401);
    emit(&mut bob, "say", &json!({"text": "x".repeat(501)}));
    assert_eq!(bob.closed(PATIENCE).unwrap_or_else(|failure| panic!("{failure}")), (1008, "schema mismatch".into()));
    chat.end(&mut alice);
}

#[test]
fn a_token_lets_in_and_a_user_is_signed_out_everywhere() {
    let secret = "0123456789abcdef0123456789abcdef";
    let example = Example::start(env!("CARGO_BIN_EXE_jwt"), secret);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let token = |user: &str, expires: u64| {
        let claims = json!({"iss": "https://login.example", "aud": "chat", "sub": user, "exp": expires});
        jwt::hs256(&claims, secret).unwrap_or_else(|failure| panic!("{failure}"))
    };
    let alice = token("alice", now + 600);
    let mut first = example.open(&opening(&alice));
    // With the leeway of 30 s.
    let welcome = json!({"user": "alice", "expires_at_ms": (now + 630) * 1000});
    assert_eq!(event(&mut first), ("welcome".into(), welcome.clone()));
    let mut second = example.open(&opening(&alice));
    assert_eq!(event(&mut second), ("welcome".into(), welcome));
    assert_eq!(event(&mut first), ("signed_in_elsewhere".into(), Value::Null));
    let mut bob = example.open(&opening(&token("bob", now + 600)));
    assert_eq!(event(&mut bob).0, "welcome");
    assert_eq!(example.refused(&opening(&token("mallory", now - 600))), 401);
    emit(&mut second, "sign_out_everywhere", &Value::Null);
    for client in [&mut first, &mut second] {
        assert_eq!(client.closed(PATIENCE).unwrap_or_else(|failure| panic!("{failure}")).0, 1008);
    }
    example.end(&mut bob);
}

/// A request to axum, and the body of its answer.
fn http(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    write!(stream, "{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

#[test]
fn axum_and_websockets_share_a_port() {
    let example = Example::start(env!("CARGO_BIN_EXE_beside_axum"), "");
    assert!(http(&example.address, "GET /").contains("sign-in"));
    let token = http(&example.address, "POST /sign-in/alice");
    let opening = |token: &str| {
        let mut opening = Opening::bare().header("Origin", &format!("http://{}", example.address));
        opening.target = "/chat".into();
        opening.header("Sec-WebSocket-Protocol", &format!("bearer, {token}"))
    };
    let mut alice = example.open(&opening(&token));
    assert_eq!(example.refused(&opening("guessed")), 401);
    emit(&mut alice, "say", &json!("hello"));
    assert_eq!(event(&mut alice), ("said".into(), json!("hello")));
    assert!(http(&example.address, "GET /").contains("sign-in"), "HTTP goes on beside it");
    example.end(&mut alice);
}
