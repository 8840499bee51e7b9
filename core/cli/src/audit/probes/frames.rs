//! Frames that RFC 6455 forbids: each on a connection of its own, with a ping behind it.

use crate::audit::examiner::Examiner;
use crate::audit::frame::{BINARY, PING, RSV1, TEXT, close, long_length, masked, unmasked};
use crate::audit::message::Message;
use crate::audit::ruling::{Ruled, Ruling, Severity};
use crate::audit::seen::{Bait, Content, bad_close};

/// The ping behind whatever is wrong.
pub(crate) const AFTER: &str = "wsguard-audit after";

/// Something wrong.
struct Wrong {
    what: &'static str,
    bytes: Vec<u8>,
    /// What the application sees of it, if the server takes it.
    shows: Shows,
}

enum Shows {
    /// Nothing: a server that takes it answers the ping.
    Nothing,
    /// Nothing, and a server that takes it waits for more.
    Waits,
    /// The ordinary message.
    Message,
    /// A text that an application may refuse for itself.
    Other,
}

fn wrong(what: &'static str, bytes: Vec<u8>, shows: Shows) -> Wrong {
    Wrong { what, bytes, shows }
}

/// Control frames where they will do: no application sees them.
fn unmasked_frames(_: &Message) -> Vec<Wrong> {
    vec![wrong("an unmasked ping", unmasked(PING, b"wsguard"), Shows::Nothing)]
}

fn reserved(message: &Message) -> Vec<Wrong> {
    let text = message.text().as_bytes();
    vec![
        wrong("RSV1 without an extension", masked(TEXT | RSV1, text), Shows::Message),
        wrong("RSV2 on a ping", masked(PING | 0x20, b""), Shows::Nothing),
        wrong("RSV3 on a ping", masked(PING | 0x10, b""), Shows::Nothing),
        wrong("opcode 3", masked(0x83, b"x"), Shows::Nothing),
        wrong("opcode 11", masked(0x8b, b"x"), Shows::Nothing),
    ]
}

fn control_frames(_: &Message) -> Vec<Wrong> {
    vec![
        wrong("a ping of 126 bytes", masked(PING, &[b'x'; 126]), Shows::Nothing),
        wrong("a fragmented ping", masked(PING & 0x7f, b"x"), Shows::Nothing),
    ]
}

fn lengths(message: &Message) -> Vec<Wrong> {
    let text = message.text().as_bytes();
    vec![
        wrong("a short text with its length in eight bytes", long_length(TEXT, text, false), Shows::Message),
        wrong("a length with its top bit set", long_length(BINARY, b"", true), Shows::Waits),
    ]
}

fn sequence(message: &Message) -> Vec<Wrong> {
    let text = message.text().as_bytes();
    let inside = [masked(TEXT & 0x7f, b"\"a"), masked(TEXT, text)].concat();
    vec![
        wrong("a continuation of nothing", masked(0x80, text), Shows::Message),
        wrong("a message inside another", inside, Shows::Message),
    ]
}

fn utf8(_: &Message) -> Vec<Wrong> {
    vec![
        wrong("a text with the byte FF", masked(TEXT, b"\"wsguard \xff\""), Shows::Other),
        wrong("a text with an overlong slash (C0 AF)", masked(TEXT, b"\"wsguard \xc0\xaf\""), Shows::Other),
        wrong("a text with a surrogate (ED A0 80)", masked(TEXT, b"\"wsguard \xed\xa0\x80\""), Shows::Other),
    ]
}

fn each(examiner: &Examiner, all: impl Fn(&Message) -> Vec<Wrong>, severity: Severity) -> Ruled {
    let rulings = all(&examiner.message).into_iter().map(|wrong| one(examiner, &wrong, severity));
    Ok(Ruling::worst(&rulings.map(|ruled| ruled.unwrap_or_else(|early| early)).collect::<Vec<_>>()))
}

fn one(examiner: &Examiner, wrong: &Wrong, severity: Severity) -> Ruled {
    let (content, answers) = match wrong.shows {
        Shows::Nothing | Shows::Waits => (Content::Hidden, 0),
        Shows::Message => examiner.content(),
        Shows::Other => (Content::Refused("an application may refuse such a text itself".to_owned()), 1),
    };
    let mut visit = examiner.visit().map_err(|early| Ruling { sent: wrong.what.to_owned(), ..early })?;
    visit.send(&wrong.bytes);
    visit.answers = !matches!(wrong.shows, Shows::Waits);
    let grace = visit.grace(examiner.timeout);
    match wrong.shows {
        Shows::Nothing | Shows::Waits => _ = visit.ping(AFTER, grace),
        Shows::Message | Shows::Other => visit.ping_behind(AFTER, grace, answers),
    }
    let judged = match (examiner.judge(&visit, AFTER, &content), &wrong.shows) {
        (Bait::Unclear(_), Shows::Waits) if !visit.seen.is_over() => {
            Bait::Taken("the server waits for the rest of it".to_owned())
        }
        (Bait::Unclear(_), Shows::Other) if visit.seen.is_thrown_out() => {
            examiner.judge(&visit, AFTER, examiner.other_text.get_or_init(|| try_other_text(examiner)))
        }
        (judged, _) => judged,
    };
    Ok(ruling(judged, severity, wrong.what))
}

/// What becomes of such a text as it should be.
fn try_other_text(examiner: &Examiner) -> Content {
    let Ok(mut visit) = examiner.visit() else {
        return Content::Refused("there was no connection to try it on".to_owned());
    };
    visit.send(&masked(TEXT, b"\"wsguard\""));
    let grace = visit.grace(examiner.timeout);
    visit.ping_behind(AFTER, grace, 1);
    visit.seen.ending().map_or(Content::Taken, Content::Refused)
}

/// As a finding of this severity, if it was taken.
pub(crate) fn ruling(judged: Bait, severity: Severity, sent: &str) -> Ruling {
    match judged {
        Bait::Taken(how) => Ruling::finding(severity, sent, how),
        Bait::Refused(how) => Ruling::passed(sent, how),
        Bait::Unclear(why) => Ruling::unknown(sent, why),
    }
}

pub(crate) fn check_unmasked(examiner: &Examiner) -> Ruled {
    each(examiner, unmasked_frames, Severity::Low)
}

pub(crate) fn check_reserved(examiner: &Examiner) -> Ruled {
    each(examiner, reserved, Severity::Low)
}

pub(crate) fn check_control_frames(examiner: &Examiner) -> Ruled {
    each(examiner, control_frames, Severity::Low)
}

pub(crate) fn check_lengths(examiner: &Examiner) -> Ruled {
    each(examiner, lengths, Severity::Low)
}

pub(crate) fn check_sequence(examiner: &Examiner) -> Ruled {
    each(examiner, sequence, Severity::Low)
}

pub(crate) fn check_utf8(examiner: &Examiner) -> Ruled {
    each(examiner, utf8, Severity::Low)
}

/// Close frames that must not be sent: the code, where there is one.
fn bad_closes() -> Vec<(&'static str, Option<u16>, Vec<u8>)> {
    let code = |what, code| (what, Some(code), close(code, b""));
    vec![
        code("close 999", 999),
        code("close 1005", 1005),
        code("close 1006", 1006),
        code("close 1015", 1015),
        code("close 65535", 65535),
        ("a close of one byte", None, masked(0x88, &[3])),
        ("a close whose reason is no UTF-8", None, close(1000, b"\xff")),
    ]
}

pub(crate) fn check_close_codes(examiner: &Examiner) -> Ruled {
    let rulings = bad_closes().into_iter().map(|(what, code, bytes)| {
        let mut visit = match examiner.visit() {
            Ok(visit) => visit,
            Err(early) => return Ruling { sent: what.to_owned(), ..early },
        };
        visit.send(&bytes);
        let grace = visit.grace(examiner.timeout);
        visit.wait(grace, |_| false);
        ruling(bad_close(&visit.seen, code), Severity::Low, what)
    });
    Ok(Ruling::worst(&rulings.collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_wrong_by_one_thing() {
        let message = Message::new(Some("hi".into()), false);
        let first = |all: Vec<Wrong>| all.into_iter().map(|wrong| (wrong.bytes[0], wrong.bytes[1])).collect::<Vec<_>>();
        assert_eq!(first(unmasked_frames(&message)), [(0x89, 7)]);
        assert_eq!(first(reserved(&message)), [(0xc1, 0x82), (0xa9, 0x80), (0x99, 0x80), (0x83, 0x81), (0x8b, 0x81)]);
        assert_eq!(first(control_frames(&message)), [(0x89, 0xfe), (0x09, 0x81)]);
        assert_eq!(first(lengths(&message)), [(0x81, 0xff), (0x82, 0xff)]);
        assert_eq!(first(sequence(&message)), [(0x80, 0x82), (0x01, 0x82)]);
        assert!(utf8(&message).iter().all(|wrong| wrong.bytes[0] == TEXT));
    }
}
