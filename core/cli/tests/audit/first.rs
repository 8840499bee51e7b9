//! Servers that ask for a credential in the first message, and messages that are valid once.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU32, Ordering};

use super::careless::{closing, frame, let_in, pong, serve};
use super::late::{answer_pings, thrown_out};
use super::{report, word};

/// Closes who sent no credential: the second connection while it sends a long message, the fourth while it sends nothing. The way in
/// and the question whether it is busy come before.
fn waits_for_a_credential(mut stream: TcpStream) {
    static COME: AtomicU32 = AtomicU32::new(0);
    if let_in(&mut stream).is_none() {
        return;
    }
    match COME.fetch_add(1, Ordering::Relaxed) {
        1 => {
            let Some((_, ping)) = frame(&mut stream) else { return };
            let _ = stream.write_all(&pong(&ping));
            // Without bound as far as anybody can tell.
            let mut some = vec![0; 1 << 20];
            let _ = stream.read_exact(&mut some);
            let _ = stream.write_all(&closing(1008));
            // What is unread at the end would make it a reset, which takes the close frame away.
            let _ = stream.read_to_end(&mut some);
        }
        3 => _ = thrown_out(&mut stream, 1008),
        _ => answer_pings(stream),
    }
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
    if let_in(&mut stream).is_none() {
        return;
    }
    let mut is_second = false;
    while let Some((first, payload)) = frame(&mut stream) {
        let answer = match first {
            0x89 => pong(&payload),
            0x81 if is_second => closing(4429),
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

/// Answers no text, and closes who sent no credential: the second connection at its second text, the third while it sends nothing.
fn waits_longer_than_two_messages(mut stream: TcpStream) {
    static COME: AtomicU32 = AtomicU32::new(0);
    if let_in(&mut stream).is_none() {
        return;
    }
    match COME.fetch_add(1, Ordering::Relaxed) {
        1 => {
            let mut texts = 0;
            while let Some((first, payload)) = frame(&mut stream) {
                texts += u32::from(first == 0x81);
                let answer = match (first, texts) {
                    (_, 2) => closing(4408),
                    (0x89, _) => pong(&payload),
                    _ => continue,
                };
                if stream.write_all(&answer).is_err() {
                    return;
                }
            }
        }
        2 => _ = thrown_out(&mut stream, 4408),
        _ => answer_pings(stream),
    }
}

#[test]
fn a_second_message_is_not_refused_by_what_ends_the_silent_too() {
    let url = serve(waits_longer_than_two_messages);
    let (code, report) = report(&[&url, "--only", "message-rate", "--rate", "50"]);
    assert_eq!((code, word(&report, "message-rate")), (1, "medium"), "{report}");
}
