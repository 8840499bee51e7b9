//! Servers that ask for a credential in the first message, and messages that are valid once.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::careless::{frame, head, serve, upgrade};
use super::{report, word};

/// How long it waits for a credential.
const PATIENT: Duration = Duration::from_secs(3);

/// Answers the control, reads without bound whatever comes, and closes who sent no credential in time.
fn waits_for_a_credential(mut stream: TcpStream) {
    let began = Instant::now();
    if head(&mut stream).and_then(|_| upgrade(&mut stream)).is_none() {
        return;
    }
    let Some((_, ping)) = frame(&mut stream) else { return };
    let _ = stream.write_all(&[&[0x8a, ping.len() as u8][..], &ping].concat());
    stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut buffer = vec![0; 1 << 20];
    while began.elapsed() < PATIENT {
        if matches!(stream.read(&mut buffer), Ok(0)) {
            return;
        }
    }
    let _ = stream.write_all(b"\x88\x02\x03\xf0");
    // What is unread at the end would make it a reset, which takes the close frame away.
    while !matches!(stream.read(&mut buffer), Ok(0)) && began.elapsed() < 2 * PATIENT {}
}

#[test]
fn an_end_that_comes_to_the_silent_too_refuses_nothing() {
    let url = serve(waits_for_a_credential);
    let (code, report) = report(&[&url, "--only", "declared-size", "--rate", "50"]);
    assert_eq!((code, word(&report, "declared-size")), (0, "unknown"), "{report}");
    assert!(report.to_string().contains("a connection that sends nothing"), "{report}");
}

/// Takes the first text of a connection, and closes at a second one, as graphql-ws does with `connection_init`.
fn takes_one(mut stream: TcpStream) {
    if head(&mut stream).and_then(|_| upgrade(&mut stream)).is_none() {
        return;
    }
    let mut is_second = false;
    while let Some((first, payload)) = frame(&mut stream) {
        let answer = match first {
            0x89 => [&[0x8a, payload.len() as u8][..], &payload].concat(),
            0x81 if is_second => b"\x88\x02\x11\x4d".to_vec(),
            0x81 => b"\x81\x03ack".to_vec(),
            _ => continue,
        };
        is_second |= first == 0x81;
        if stream.write_all(&answer).is_err() {
            return;
        }
    }
}

#[test]
fn a_message_that_is_valid_once_says_nothing_of_rates() {
    let url = serve(takes_one);
    let (code, report) = report(&[&url, "--only", "message-rate", "--rate", "50"]);
    assert_eq!((code, word(&report, "message-rate")), (0, "unknown"), "{report}");
    assert!(report.to_string().contains("valid twice"), "{report}");
}
