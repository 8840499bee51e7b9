//! A server that checks nothing: each check must find what it is for. It is written here, since no library is as careless.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use super::{TOKEN, report, word};

const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Listens on loopback; every connection is served by a thread, until the test ends.
pub(crate) fn serve(each: impl Fn(TcpStream) + Send + Sync + Copy + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || each(stream));
        }
    });
    format!("ws://{address}/")
}

/// Reads up to the end of the head.
pub(crate) fn head(stream: &mut TcpStream) -> Option<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}

pub(crate) fn upgrade(stream: &mut TcpStream) -> Option<()> {
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nServer: careless/1.0\r\n\
         Sec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
    );
    stream.write_all(answer.as_bytes()).ok()
}

/// Lets a client in, whatever it asks.
pub(crate) fn let_in(stream: &mut TcpStream) -> Option<()> {
    head(stream)?;
    upgrade(stream)
}

/// The pong to a ping.
pub(crate) fn pong(payload: &[u8]) -> Vec<u8> {
    [&[0x8a, payload.len() as u8][..], payload].concat()
}

/// A close frame.
pub(crate) fn closing(code: u16) -> Vec<u8> {
    [&[0x88, 2][..], &code.to_be_bytes()].concat()
}

/// A frame as it comes: its first byte and its payload. Neither the mask nor any bit is looked at.
pub(crate) fn frame(stream: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let mut start = [0; 2];
    stream.read_exact(&mut start).ok()?;
    let mut len = u64::from(start[1] & 0x7f);
    if len >= 126 {
        let mut digits = vec![0; if len == 126 { 2 } else { 8 }];
        stream.read_exact(&mut digits).ok()?;
        len = digits.iter().fold(0, |len, digit| len << 8 | u64::from(*digit));
    }
    let mut mask = [0; 4];
    if start[1] & 0x80 != 0 {
        stream.read_exact(&mut mask).ok()?;
    }
    let mut payload = Vec::new();
    stream.take(len).read_to_end(&mut payload).ok().filter(|read| *read as u64 == len)?;
    payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
    Some((start[0], payload))
}

/// Pings first, and goes on only with a client that answers, as a server with heartbeats does.
fn with_heartbeat(mut stream: TcpStream) {
    if let_in(&mut stream).is_none() || stream.write_all(b"\x89\x04beat").is_err() {
        return;
    }
    let mut waiting = Vec::new();
    loop {
        match frame(&mut stream) {
            Some((0x8a, payload)) if payload == b"beat" => break,
            Some((0x89, payload)) => waiting.push(payload),
            Some(_) => {}
            None => return,
        }
    }
    for payload in waiting {
        let answer = pong(&payload);
        if stream.write_all(&answer).is_err() {
            return;
        }
    }
    answer_all(stream);
}

#[test]
fn a_server_that_pings_gets_its_answer() {
    let url = serve(with_heartbeat);
    let (code, report) = report(&[&url, "--only", "fragments", "--rate", "50"]);
    assert_eq!((code, word(&report, "fragments")), (1, "medium"), "{report}");
}

/// Lets everybody in, answers every ping and every text, and echoes every close.
fn careless(mut stream: TcpStream) {
    if let_in(&mut stream).is_some() {
        answer_all(stream);
    }
}

fn answer_all(mut stream: TcpStream) {
    while let Some((first, payload)) = frame(&mut stream) {
        let opcode = match first & 0x0f {
            9 => 10,
            1 => 1,
            8 => 8,
            _ => continue,
        };
        let mut answer = vec![0x80 | opcode, payload.len().min(125) as u8];
        answer.extend(&payload[..payload.len().min(125)]);
        if stream.write_all(&answer).is_err() || opcode == 8 {
            return;
        }
    }
}

#[test]
fn every_check_finds_what_it_is_for() {
    let url = serve(careless);
    let (code, report) =
        report(&[&url, "--patience", "5", "--timeout", "3", "--cookie", "sid=env:AUDIT_TOKEN", "--rate", "50"]);
    assert_eq!(code, 1);
    for (check, severity) in [
        ("banner", "low"),
        ("origin-foreign", "high"),
        ("origin-null", "high"),
        ("origin-missing", "low"),
        ("host-foreign", "medium"),
        ("credential-needed", "high"),
        ("credential-wrong", "high"),
        ("head-size", "low"),
        ("head-count", "low"),
        ("head-ambiguous", "low"),
        ("unmasked", "low"),
        ("reserved", "low"),
        ("control-frames", "low"),
        ("lengths", "low"),
        ("sequence", "low"),
        ("utf8", "low"),
        ("close-codes", "low"),
        ("fragments", "medium"),
        ("declared-size", "high"),
        ("message-size", "medium"),
        ("ping-rate", "low"),
        ("message-rate", "medium"),
        ("connection-burst", "low"),
        ("unfinished-handshake", "medium"),
    ] {
        assert_eq!(word(&report, check), severity, "{check}: {report}");
    }
    assert_eq!(word(&report, "alive"), "passed");
}

/// Compares origins by their beginning, and finds credentials out after the 101.
fn half_careful(mut stream: TcpStream) {
    let Some(head) = head(&mut stream) else { return };
    if !head.contains("Origin: https://app.example") {
        let _ = stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
        return;
    }
    if upgrade(&mut stream).is_none() {
        return;
    }
    if !head.contains(TOKEN) {
        let _ = stream.write_all(&closing(4401));
        return;
    }
    while let Some((first, payload)) = frame(&mut stream) {
        if first & 0x0f == 9 && stream.write_all(&pong(&payload)).is_err() {
            return;
        }
    }
}

#[test]
fn half_a_check_is_found_out() {
    let url = serve(half_careful);
    let checks = "origin-foreign,origin-lookalike,credential-needed,credential-wrong,credential-in-url";
    let arguments =
        [url.as_str(), "--origin", "https://app.example", "--query", "token=env:AUDIT_TOKEN", "--only", checks];
    let (code, report) = report(&[&arguments[..], &["--fail-on", "high"]].concat());
    assert_eq!(word(&report, "origin-foreign"), "passed");
    // A page of another site does not know the token.
    assert_eq!(word(&report, "origin-lookalike"), "medium");
    assert_eq!(word(&report, "credential-needed"), "low");
    assert_eq!(word(&report, "credential-wrong"), "low");
    assert_eq!(word(&report, "credential-in-url"), "low");
    assert_eq!(code, 0, "nothing is high");
}

/// How much the servers below read of one message.
const MOST: u64 = 64 * 1024;

/// Answers pings, and reads a message that is longer than it takes: as many bytes as `goes_on` says, which sees each of them.
fn reads(mut stream: TcpStream, mut goes_on: impl FnMut(u64, u8) -> Result<(), u16>) {
    if let_in(&mut stream).is_none() {
        return;
    }
    loop {
        let mut start = [0; 2];
        if stream.read_exact(&mut start).is_err() {
            return;
        }
        let (mut head, short) = ([0; 12], start[1] & 0x7f);
        let head = &mut head[..if short == 127 { 12 } else { 4 }];
        if stream.read_exact(head).is_err() {
            return;
        }
        let mask = head[head.len() - 4..].to_vec();
        let mut reader = std::io::BufReader::new(&stream);
        if start[0] == 0x89 {
            let mut payload = vec![0; usize::from(short)];
            if reader.read_exact(&mut payload).is_err() {
                return;
            }
            payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
            if (&stream).write_all(&pong(&payload)).is_err() {
                return;
            }
            continue;
        }
        for (at, (byte, key)) in (1..).zip(reader.bytes().map_while(Result::ok).zip(mask.iter().cycle())) {
            if let Err(code) = goes_on(at, byte ^ key) {
                let _ = (&stream).write_all(&closing(code));
                return;
            }
        }
        return;
    }
}

/// A limit of what is read holds as well as one of what is declared.
#[test]
fn who_counts_what_it_reads_is_not_filled() {
    let url = serve(|stream| reads(stream, |at, _| if at > MOST { Err(1009) } else { Ok(()) }));
    let (code, report) = report(&[&url, "--only", "declared-size", "--rate", "50"]);
    assert_eq!((code, word(&report, "declared-size")), (0, "passed"), "{report}");
}

/// What is sent of the message is a text: its end must not come from a look at the letters.
#[test]
fn who_looks_at_letters_alone_is_found() {
    let is_letter = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
    let url = serve(move |stream| reads(stream, |_, byte| if is_letter(byte) { Ok(()) } else { Err(1007) }));
    let (code, report) = report(&[&url, "--only", "declared-size", "--rate", "50"]);
    assert_eq!((code, word(&report, "declared-size")), (1, "high"), "{report}");
}

/// RFC 6455, section 5.5.3: the last of several pings may be the only one that is answered.
fn answers_few(mut stream: TcpStream) {
    if let_in(&mut stream).is_none() {
        return;
    }
    while let Some((first, payload)) = frame(&mut stream) {
        if first == 0x89 && payload != b"wsguard-audit flood" {
            let answer = pong(&payload);
            if stream.write_all(&answer).is_err() {
                return;
            }
        }
    }
}

#[test]
fn one_pong_for_many_pings_is_right() {
    let url = serve(answers_few);
    let (code, report) = report(&[&url, "--only", "ping-rate", "--rate", "50"]);
    assert_eq!((code, word(&report, "ping-rate")), (0, "passed"), "{report}");
}

/// Looks at the length of each frame, and never at that of the message.
fn limits_frames(mut stream: TcpStream) {
    if let_in(&mut stream).is_none() {
        return;
    }
    while let Some((first, payload)) = frame(&mut stream) {
        if payload.len() as u64 > MOST {
            let _ = stream.write_all(&closing(1009));
            // So that the close frame is not lost in a reset.
            while frame(&mut stream).is_some() {}
            return;
        }
        if first == 0x89 && stream.write_all(&pong(&payload)).is_err() {
            return;
        }
    }
}

#[test]
fn a_limit_of_the_frame_alone_is_found_out() {
    let url = serve(limits_frames);
    let (code, report) = report(&[&url, "--only", "message-size", "--rate", "50"]);
    assert_eq!((code, word(&report, "message-size")), (1, "medium"), "{report}");
}

/// Goes on with TLS 1.0 alone; to any other it says nothing and leaves.
pub(super) fn of_old_tls(mut stream: TcpStream) {
    let mut hello = [0; 11];
    if stream.read_exact(&mut hello).is_err() || hello[9..] != [3, 1] {
        return;
    }
    let mut answer = vec![22, 3, 1, 0, 49, 2, 0, 0, 45, 3, 1];
    answer.extend([0; 43]);
    let _ = stream.write_all(&answer);
}

/// No client of today gets in there, and that is what is to be said.
#[test]
fn a_server_of_old_tls_alone_is_found() {
    let url = serve(of_old_tls).replace("ws://", "wss://");
    let (code, report) = report(&[&url, "--only", "tls-versions,tls-certificate,alive", "--rate", "50"]);
    assert_eq!((code, word(&report, "tls-versions"), word(&report, "alive")), (2, "medium", "unknown"), "{report}");
}
