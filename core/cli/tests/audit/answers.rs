//! What counts as an answer to the ordinary message: neither a greeting, nor what a server sends by itself, nor a word of its limit.

use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use super::careless::{closing, frame, let_in, pong, serve};
use super::{report, word};

fn text(words: &str) -> Vec<u8> {
    [&[0x81, words.len() as u8][..], words.as_bytes()].concat()
}

/// Lets a client in, and answers its pings, and its texts with what `answer` says to the first, the second and so on.
fn answers(mut stream: TcpStream, answer: impl Fn(usize) -> Vec<&'static str>) {
    if let_in(&mut stream).is_some() {
        answers_on(stream, answer);
    }
}

fn answers_on(mut stream: TcpStream, answer: impl Fn(usize) -> Vec<&'static str>) {
    let mut texts = 0;
    while let Some((first, payload)) = frame(&mut stream) {
        let bytes = match first {
            0x89 => pong(&payload),
            0x81 => {
                texts += 1;
                answer(texts).into_iter().flat_map(text).collect()
            }
            _ => return,
        };
        if stream.write_all(&bytes).is_err() {
            return;
        }
    }
}

/// What `message-rate` says of a server.
fn message_rate(url: &str) -> (i32, String) {
    let (code, report) = report(&[url, "--only", "message-rate", "--rate", "50", "--timeout", "3"]);
    (code, word(&report, "message-rate").to_owned())
}

#[test]
fn a_greeting_is_no_answer() {
    let url = serve(|stream| answers(stream, |texts| if texts == 1 { vec!["welcome", "said"] } else { vec!["said"] }));
    assert_eq!(message_rate(&url), (1, "medium".to_owned()));
}

/// As one to a subscription.
#[test]
fn an_answer_that_comes_once_is_not_expected_again() {
    let url = serve(|stream| answers(stream, |texts| if texts == 1 { vec!["subscribed"] } else { vec![] }));
    assert_eq!(message_rate(&url), (1, "medium".to_owned()));
}

#[test]
fn a_limit_may_say_so_and_go_on() {
    let url = serve(|stream| answers(stream, |texts| vec![if texts <= 20 { "said" } else { "slow down" }]));
    assert_eq!(message_rate(&url), (0, "passed".to_owned()));
}

/// Prices, or heartbeats of an application.
fn beat(stream: &TcpStream) {
    let Ok(mut stream) = stream.try_clone() else { return };
    thread::spawn(move || {
        while stream.write_all(&text("beat")).is_ok() {
            thread::sleep(Duration::from_millis(50));
        }
    });
}

fn beats(mut stream: TcpStream) {
    if let_in(&mut stream).is_some() {
        beat(&stream);
        answers_on(stream, |_| vec![]);
    }
}

#[test]
fn what_comes_unasked_is_no_answer() {
    assert_eq!(message_rate(&serve(beats)), (1, "medium".to_owned()));
}

/// Answers short texts, and refuses a long one some beats after the pong to what was behind it.
fn beats_and_refuses_late(mut stream: TcpStream) {
    if let_in(&mut stream).is_none() {
        return;
    }
    beat(&stream);
    let mut is_long = false;
    while let Some((first, payload)) = frame(&mut stream) {
        is_long |= payload.len() > 1000;
        let bytes = if first == 0x89 { pong(&payload) } else { text("said") };
        if (first == 0x89 || !is_long) && stream.write_all(&bytes).is_err() {
            return;
        }
        if first == 0x89 && is_long {
            thread::sleep(Duration::from_millis(300));
            let _ = stream.write_all(&closing(1008));
            // So that the close frame is not lost in a reset.
            while frame(&mut stream).is_some() {}
            return;
        }
    }
}

#[test]
fn what_comes_unasked_does_not_say_that_a_message_was_taken() {
    let url = serve(beats_and_refuses_late);
    let (code, report) = report(&[&url, "--only", "message-size", "--rate", "50"]);
    assert_eq!((code, word(&report, "message-size")), (0, "passed"), "{report}");
}
