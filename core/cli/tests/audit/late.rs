//! Servers whose library answers pings before the application has made up its mind: what ends the connection soon after counts.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::careless::{closing, frame, head, let_in, pong, serve, upgrade};
use super::{TOKEN, audit, report, word};

/// Answers the first ping, and then closes with this code.
pub(crate) fn thrown_out(stream: &mut TcpStream, code: u16) -> Option<()> {
    loop {
        let (first, payload) = frame(stream)?;
        if first == 0x89 {
            stream.write_all(&pong(&payload)).ok()?;
            // After the answer was read, so that it does not come together with the end.
            thread::sleep(Duration::from_millis(200));
            return stream.write_all(&closing(code)).ok();
        }
    }
}

/// Answers pings until the client leaves.
pub(crate) fn answer_pings(mut stream: TcpStream) {
    while let Some((first, payload)) = frame(&mut stream) {
        if first == 0x89 && stream.write_all(&pong(&payload)).is_err() {
            return;
        }
    }
}

/// Looks at origin and credential after the 101, and after its first pong.
fn looks_late(mut stream: TcpStream) {
    let Some(head) = head(&mut stream).filter(|_| upgrade(&mut stream).is_some()) else { return };
    if !head.contains("Origin: https://app.example\r\n") || !head.contains(TOKEN) {
        thrown_out(&mut stream, 1008);
        return;
    }
    answer_pings(stream);
}

#[test]
fn who_is_thrown_out_after_a_pong_was_not_let_in() {
    let url = serve(looks_late);
    let checks =
        ["origin-foreign", "origin-null", "origin-missing", "host-foreign", "credential-needed", "credential-wrong"];
    let only = checks.join(",");
    let arguments =
        [&url, "--origin", "https://app.example", "--cookie", "sid=env:AUDIT_TOKEN", "--only", &only, "--rate", "50"];
    let (_, report) = report(&arguments);
    for check in checks {
        assert_eq!(word(&report, check), "low", "{check}: {report}");
    }
}

/// Without the credential, every probe would look refused.
#[test]
fn who_is_thrown_out_after_a_pong_has_no_way_in() {
    let url = serve(looks_late);
    let output = audit(&[&url, "--only", "origin-foreign,ping-rate", "--rate", "50"]);
    let (out, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.code() == Some(2) && errors.contains("no way in"), "{out}{errors}");
}

/// Counts fragments where it puts messages together: its pong comes first.
fn counts_late(mut stream: TcpStream) {
    if let_in(&mut stream).is_none() {
        return;
    }
    while let Some((first, payload)) = frame(&mut stream) {
        if first == 0x01 {
            let _ = thrown_out(&mut stream, 1009);
            return;
        }
        if first == 0x89 && stream.write_all(&pong(&payload)).is_err() {
            return;
        }
    }
}

#[test]
fn a_limit_of_fragments_may_come_after_the_pong() {
    let url = serve(counts_late);
    let (code, report) = report(&[&url, "--only", "fragments", "--rate", "50"]);
    assert_eq!((code, word(&report, "fragments")), (0, "passed"), "{report}");
}

/// Lets twenty stay, and closes the others after their 101.
fn counts_connections(mut stream: TcpStream) {
    static OPEN: AtomicU32 = AtomicU32::new(0);
    if let_in(&mut stream).is_none() {
        return;
    }
    if OPEN.fetch_add(1, Ordering::Relaxed) >= 20 {
        let _ = stream.write_all(&closing(1013));
        return;
    }
    answer_pings(stream);
}

#[test]
fn a_limit_of_connections_may_come_after_the_101() {
    let url = serve(counts_connections);
    let (code, report) = report(&[&url, "--only", "connection-burst", "--rate", "50"]);
    assert_eq!((code, word(&report, "connection-burst")), (0, "passed"), "{report}");
}

/// Compares the hosts of origins alone.
fn looks_at_hosts(mut stream: TcpStream) {
    let Some(head) = head(&mut stream) else { return };
    let origin = head.lines().find_map(|line| line.strip_prefix("Origin: ")).unwrap_or_default();
    let host = origin.split("://").nth(1).unwrap_or_default().split(':').next();
    if host != Some("app.example") {
        let _ = stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
        return;
    }
    if upgrade(&mut stream).is_none() {
        return;
    }
    answer_pings(stream);
}

#[test]
fn who_compares_hosts_alone_is_found_out() {
    let url = serve(looks_at_hosts);
    let (code, report) =
        report(&[&url, "--only", "origin-lookalike", "--origin", "https://app.example", "--rate", "50"]);
    assert_eq!((code, word(&report, "origin-lookalike")), (1, "low"), "{report}");
}

/// `socket.disconnect()` of Socket.IO leaves the connection open, and its pings answered.
fn disconnects(mut stream: TcpStream) {
    if let_in(&mut stream).is_none() {
        return;
    }
    while let Some((first, payload)) = frame(&mut stream) {
        let answer = match first {
            0x81 if payload.starts_with(b"40") => b"\x81\x0b40{\"sid\":1}".to_vec(),
            0x89 => pong(&payload),
            _ => continue,
        };
        let knows = payload.windows(TOKEN.len()).any(|part| part == TOKEN.as_bytes());
        let answer = if first == 0x81 && !knows { [&answer[..], b"\x81\x0241"].concat() } else { answer };
        if stream.write_all(&answer).is_err() {
            return;
        }
    }
}

#[test]
fn who_is_disconnected_by_socket_io_was_not_let_in() {
    let url = format!("{}socket.io/", serve(disconnects));
    let arguments = [&url, "--token", "env:AUDIT_TOKEN", "--token-source", "socket.io:token", "--rate", "50"];
    let (_, report) = report(&[&arguments[..], &["--only", "credential-needed"]].concat());
    assert_eq!(word(&report, "credential-needed"), "low", "{report}");
}

/// Answers pings, and everything else with what `answer` says; none ends the connection without a word.
fn answers_texts(mut stream: TcpStream, answer: impl Fn(&[u8]) -> Option<Vec<u8>>) {
    if let_in(&mut stream).is_none() {
        return;
    }
    while let Some((first, payload)) = frame(&mut stream) {
        let Some(bytes) = (if first == 0x89 { Some(pong(&payload)) } else { answer(&payload) }) else { return };
        let _ = stream.write_all(&bytes);
    }
}

/// Ends the connection at a text that is no UTF-8, and sends others back.
fn reads_texts(stream: TcpStream) {
    let echo = |text: &[u8]| [&[0x81, text.len() as u8], text].concat();
    answers_texts(stream, |text| std::str::from_utf8(text).is_ok().then(|| echo(text)));
}

/// Ends it at any text that is no object in JSON: it may have been that.
fn reads_objects(stream: TcpStream) {
    answers_texts(stream, |text| text.starts_with(b"{").then(Vec::new));
}

#[test]
fn a_text_that_is_no_utf8_is_compared_with_one_that_is() {
    for (server, expected) in [(reads_texts as fn(TcpStream), "passed"), (reads_objects, "unknown")] {
        let (_, report) = report(&[&serve(server), "--only", "utf8", "--rate", "50"]);
        assert_eq!(word(&report, "utf8"), expected, "{report}");
    }
}

/// Reads any message whole, and refuses then what is no `ping`.
fn refuses_what_it_has_read(stream: TcpStream) {
    answers_texts(stream, |text| Some(if text == b"ping" { b"\x81\x04pong".to_vec() } else { closing(4000) }));
}

#[test]
fn what_is_refused_once_it_was_read_was_taken() {
    let url = serve(refuses_what_it_has_read);
    let (_, report) = report(&[&url, "--message", "ping", "--only", "message-size", "--rate", "50"]);
    assert_eq!(word(&report, "message-size"), "medium", "{report}");
}

/// Limits connections as a proxy does: whoever comes too often within two seconds is disconnected.
fn limits_connections(mut stream: TcpStream) {
    static COME: Mutex<Vec<Instant>> = Mutex::new(Vec::new());
    {
        let mut come = COME.lock().unwrap();
        come.retain(|at| at.elapsed() < Duration::from_secs(2));
        if come.len() >= 20 {
            return;
        }
        come.push(Instant::now());
    }
    if let_in(&mut stream).is_none() {
        return;
    }
    answer_pings(stream);
}

#[test]
fn a_limit_of_connections_is_no_death() {
    let (_, report) = report(&[&serve(limits_connections), "--only", "connection-burst,alive", "--rate", "50"]);
    assert_eq!((word(&report, "connection-burst"), word(&report, "alive")), ("passed", "passed"), "{report}");
}

/// Answers nothing to the second connection, and as it should to the others.
fn busy_once(mut stream: TcpStream) {
    static COME: AtomicU32 = AtomicU32::new(0);
    if head(&mut stream).is_none() {
        return;
    }
    if COME.fetch_add(1, Ordering::Relaxed) == 1 {
        let _ = stream.read(&mut [0]);
        return;
    }
    let _ = upgrade(&mut stream);
    answer_pings(stream);
}

#[test]
fn a_server_that_is_busy_at_the_end_is_not_dead() {
    let url = serve(busy_once);
    let (code, report) = report(&[&url, "--only", "alive", "--rate", "50", "--timeout", "1"]);
    assert_eq!((code, word(&report, "alive")), (0, "unknown"), "{report}");
}
