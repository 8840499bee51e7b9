//! The same bytes over a socket and over a pipe: what the peer receives is the same, byte for byte, and so is what is told.

use std::time::Instant;

use wsguard::binding::{Adoption, Handled, Inline, InlineMessage, Pipe, Replies};
use wsguard_test_support::dice::Dice;

use super::*;

const PATIENCE: Duration = Duration::from_secs(30);
const SESSIONS: u64 = 60;

/// Answers on the server's own thread: nothing depends on when the application comes to a message.
struct Echo;

impl Inline for Echo {
    fn message(&self, _: ConnectionId, message: InlineMessage<'_>, replies: &mut Replies<'_>) -> Handled {
        match message {
            InlineMessage::Text(text) => replies.text(text),
            InlineMessage::Binary(payload) => replies.binary(payload),
            InlineMessage::Event(..) => return Handled::Pass,
        }
        Handled::Done
    }
}

/// A masked frame, with a key of the dice.
fn frame(dice: &mut Dice, first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        len @ 0..126 => frame.push(0x80 | len as u8),
        len @ 126..65_536 => frame.extend([&[0xfe][..], &(len as u16).to_be_bytes()].concat()),
        len => frame.extend([&[0xff][..], &(len as u64).to_be_bytes()].concat()),
    }
    let key = (dice.roll(1 << 32) as u32).to_be_bytes();
    frame.extend(key);
    frame.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

/// What a peer says in one session, in pieces.
///
/// No pings: whether one is answered that stands before another one, or before what closes the connection, depends on what is read
/// at once (RFC 6455 section 5.5.3).
fn session(seed: u64) -> Vec<Vec<u8>> {
    let dice = &mut Dice::new(seed);
    let origin = if dice.roll(12) == 0 { "https://evil.example" } else { "https://a.example" };
    let (mut all, is_faulty) = (head(origin), dice.roll(3) == 0);
    for _ in 0..dice.roll(30) {
        let len = [0, 5, 125, 126, 4000, if is_faulty { 70_000 } else { 60_000 }][dice.roll(6) as usize];
        let payload = vec![b'a' + dice.roll(26) as u8; len];
        let more = match dice.roll(20) {
            0..6 => frame(dice, 0x81, &payload),
            6..11 => frame(dice, 0x82, &payload),
            11..=15 => {
                let (one, two) = payload.split_at(len / 2);
                [frame(dice, 0x01, one), frame(dice, 0x80, two)].concat()
            }
            16 => frame(dice, 0x8a, b"unasked"),
            17 if is_faulty => frame(dice, 0x81, b"\xff\xfe"),
            18 if is_faulty => frame(dice, 0xc1, b"reserved"),
            19 if is_faulty => vec![0x81, 5, b'n', b'o'],
            _ => continue,
        };
        all.extend(more);
    }
    if dice.roll(4) > 0 {
        all.extend(frame(dice, 0x88, &[&1000_u16.to_be_bytes()[..], b"bye"].concat()));
    }
    let mut pieces = Vec::new();
    let mut rest = &all[..];
    while !rest.is_empty() {
        let most = [1, 20, 3000, 100_000][dice.roll(4) as usize];
        let (piece, after) = rest.split_at((1 + dice.roll(most) as usize).min(rest.len()));
        pieces.push(piece.to_vec());
        rest = after;
    }
    pieces
}

/// What is told of a session, up to its end.
fn told(server: &mut Server, seed: u64) -> Vec<String> {
    let (mut words, mut batch, deadline) = (Vec::new(), EventBatch::new(), Instant::now() + PATIENCE);
    while !words.iter().any(|word: &String| word.starts_with("close") || word.starts_with("ended")) {
        assert!(Instant::now() < deadline, "session {seed} does not end: {words:?}");
        let _ = server.events().next(&mut batch, Some(Duration::from_millis(50)));
        words.extend(batch.iter().filter_map(|event| match event {
            Event::Open(open) => Some(format!("open {} {:?}", open.path, open.adopted)),
            Event::Close(close) => Some(format!("close {} {} {}", close.code, close.reason, close.clean)),
            Event::Violation(violation) => Some(violation.code.to_string()),
            Event::AdoptionEnded { tag, code, status } => Some(format!("ended {tag} {code:?} {status}")),
            _ => None,
        }));
    }
    words
}

fn over_tcp(server: &mut Server, pieces: &[Vec<u8>], seed: u64) -> (Vec<u8>, Vec<String>) {
    let (client, socket) = accepted();
    client.set_nodelay(true).unwrap();
    let adoption = Adoption { received: pieces[0].clone(), tag: Some(seed), ..Adoption::default() };
    server.handle().adopt(socket, adoption).unwrap();
    let mut reader = client.try_clone().unwrap();
    let all = std::thread::spawn(move || {
        let mut all = Vec::new();
        // A reset where the server has left before it read all.
        let _ = reader.read_to_end(&mut all);
        all
    });
    let mut writer = &client;
    let is_written = pieces[1..].iter().all(|piece| writer.write_all(piece).is_ok());
    if is_written {
        let _ = client.shutdown(std::net::Shutdown::Write);
    }
    (all.join().unwrap(), told(server, seed))
}

fn over_a_pipe(server: &mut Server, pieces: &[Vec<u8>], seed: u64) -> (Vec<u8>, Vec<String>) {
    let adoption = Adoption { received: pieces[0].clone(), tag: Some(seed), ..Adoption::default() };
    let pipe = server.handle().adopt_pipe(adoption).unwrap();
    let taker: Pipe = pipe.clone();
    let all = std::thread::spawn(move || {
        let (mut all, mut dice, deadline) = (Vec::new(), Dice::new(seed), Instant::now() + PATIENCE);
        loop {
            let most = dice.roll(50_000) as usize;
            if taker.take(&mut all, most).is_ended {
                return all;
            }
            assert!(Instant::now() < deadline, "session {seed} does not end");
            std::thread::yield_now();
        }
    });
    for piece in &pieces[1..] {
        pipe.push(piece);
    }
    pipe.end();
    (all.join().unwrap(), told(server, seed))
}

#[test]
fn a_pipe_is_what_a_socket_is() {
    let json = r#"{"origins": ["https://a.example"], "auth": "none", "protocol": "raw", "threads": 1, "rate_limit": null,
        "handshakes_per_ip": null, "max_message_bytes": 65536, "max_fragments": 10, "max_outbox_bytes": 16777216,
        "control_rate_limit": null, "close_timeout_ms": 2000}"#;
    let mut server = Builder::new().inline(Echo).without_listener().start(Options::from_json(json).unwrap()).unwrap();
    for seed in 0..SESSIONS {
        let pieces = session(seed);
        let socket = over_tcp(&mut server, &pieces, seed);
        let pipe = over_a_pipe(&mut server, &pieces, seed);
        assert_eq!(socket.1, pipe.1, "session {seed}");
        let differs =
            socket.0.iter().zip(&pipe.0).position(|(one, two)| one != two).unwrap_or(socket.0.len().min(pipe.0.len()));
        let rest = |bytes: &[u8]| format!("{:?}", &bytes[differs..bytes.len().min(differs + 40)]);
        assert!(
            socket.0 == pipe.0,
            "session {seed}: {} bytes and {}, from {differs}: {} and {}; {:?}",
            socket.0.len(),
            pipe.0.len(),
            rest(&socket.0),
            rest(&pipe.0),
            socket.1
        );
    }
    let stats = server.handle().stats();
    assert_eq!([stats.open, stats.connections, stats.outbox_bytes, stats.pipe_bytes], [0; 4]);
}
