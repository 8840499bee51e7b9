//! What counts as an answer to the ordinary message: neither a greeting, nor what a server sends by itself, nor a word of its limit.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::careless::{closing, frame, let_in, pong, serve};
use super::{report, word};

fn text(words: &str) -> Vec<u8> {
    [&[0x81, words.len() as u8][..], words.as_bytes()].concat()
}

/// Lets a client in, and answers its pings, and its texts with what `answer` says to the first, the second and so on.
fn answers(stream: TcpStream, answer: impl Fn(usize) -> Vec<&'static str>) {
    replies(stream, |texts| answer(texts).into_iter().map(str::to_owned).collect());
}

/// The same with texts that differ.
fn replies(mut stream: TcpStream, answer: impl Fn(usize) -> Vec<String>) {
    if let_in(&mut stream).is_some() {
        replies_on(stream, answer);
    }
}

fn replies_on(mut stream: TcpStream, answer: impl Fn(usize) -> Vec<String>) {
    let mut texts = 0;
    while let Some((first, payload)) = frame(&mut stream) {
        let bytes = match first {
            0x89 => pong(&payload),
            0x81 => {
                texts += 1;
                answer(texts).into_iter().flat_map(|words| text(&words)).collect()
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

/// A queue or milliseconds, which are the same while nobody hurries; and a code, which is the word of a limit.
#[test]
fn a_number_that_changes_under_load_is_no_limit() {
    let queued = |texts: usize| format!(r#"{{"ok":true,"queued":{}}}"#, if texts <= 3 { 1 } else { texts % 50 });
    let careless = serve(move |stream| replies(stream, |texts| vec![queued(texts)]));
    assert_eq!(message_rate(&careless), (1, "medium".to_owned()));
    let careful =
        serve(|stream| answers(stream, |texts| vec![if texts <= 20 { r#"{"code":200}"# } else { r#"{"code":429}"# }]));
    assert_eq!(message_rate(&careful), (0, "unknown".to_owned()));
}

/// As the chat of gorilla/websocket does: what waits goes out as lines of one message.
#[test]
fn answers_that_are_joined_are_counted() {
    let joined = |texts: usize| match texts {
        1..=3 => vec!["said".to_owned()],
        _ if texts % 10 == 3 => vec!["said\n".repeat(10)],
        _ => vec![],
    };
    let url = serve(move |stream| replies(stream, joined));
    assert_eq!(message_rate(&url), (1, "medium".to_owned()));
}

/// One message in two seconds: the second of two that are compared is one too many already.
#[test]
fn a_slow_limit_is_no_answer() {
    let url = serve(|stream| {
        answers(stream, |texts| vec![if texts == 1 { "said" } else { r#"{"error":"slow mode"}"# }]);
    });
    assert_eq!(message_rate(&url), (0, "unknown".to_owned()));
}

/// Messages that carry an identifier, as those of most chats do.
#[test]
fn a_limit_may_say_so_where_each_answer_is_another_one() {
    const IDS: [&str; 4] = ["7f3a", "be-ef", "00c0", "d1ce"];
    let said = |texts: usize| format!(r#"{{"type":"said","id":"{}","at":{texts}}}"#, IDS[texts % 4]);
    let careful = serve(move |stream| {
        replies(stream, |texts| {
            if texts <= 20 { vec![said(texts)] } else { vec![format!(r#"{{"type":"error","retry_ms":{texts}}}"#)] }
        });
    });
    assert_eq!(message_rate(&careful), (0, "passed".to_owned()));
    let careless = serve(move |stream| replies(stream, |texts| vec![said(texts)]));
    assert_eq!(message_rate(&careless), (1, "medium".to_owned()));
}

/// As in chats that say who speaks: the same on one connection, and another on the next.
#[test]
fn an_answer_may_name_its_connection() {
    static COME: AtomicUsize = AtomicUsize::new(0);
    let named = |limit: usize| {
        serve(move |stream| {
            let id = COME.fetch_add(1, Ordering::Relaxed);
            replies(stream, |texts| vec![if texts <= limit { format!("Guest{id} said") } else { "slow down".into() }]);
        })
    };
    assert_eq!(message_rate(&named(usize::MAX)), (1, "medium".to_owned()));
    assert_eq!(message_rate(&named(20)), (0, "passed".to_owned()));
}

/// As where a message goes to all others.
#[test]
fn words_to_a_flood_that_has_no_answers_are_no_finding() {
    let url = serve(|stream| answers(stream, |texts| if texts <= 20 { vec![] } else { vec!["slow down"] }));
    assert_eq!(message_rate(&url), (0, "unknown".to_owned()));
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
        replies_on(stream, |_| vec![]);
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
            let _ = stream.write_all(&closing(1009));
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
