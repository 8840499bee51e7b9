//! What a server waits for: unfinished handshakes and messages, peers that say nothing. They are held while the others run.

use std::time::{Duration, Instant};

use crate::audit::examiner::Examiner;
use crate::audit::frame::{TEXT, masked};
use crate::audit::ruling::{Ruled, Ruling, Severity};
use crate::audit::seen::{End, Seen};
use crate::wire::{Got, Wire};

/// Below this patience, a server with heartbeats at the usual 20 to 30 seconds has had no chance.
pub(crate) const HEARTBEATS: Duration = Duration::from_secs(60);

/// How often a slow client sends a byte.
const DRIP: Duration = Duration::from_secs(2);

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// The server ended it.
    After(Duration),
    /// It was still there.
    Held,
    /// The audit could not wait on, for this reason: that is no word of the server.
    Cut(&'static str),
}

const SPENT: &str = "the bytes or the seconds of the plan were spent before";

/// Sends a byte now and then, and waits for the end of the connection.
fn drip(examiner: &Examiner, wire: &mut Wire, bytes: &[u8]) -> Ended {
    let (began, mut buffer) = (Instant::now(), [0; 1024]);
    let mut letters = bytes.iter().cycle();
    while began.elapsed() < examiner.patience {
        let left = examiner.patience.saturating_sub(began.elapsed()).min(DRIP);
        match wire.read(&mut buffer, left) {
            Got::End(_) => return Ended::After(began.elapsed()),
            // An answer to half a request is the end of it, as 408 is; what else comes is read away.
            Got::Bytes(count) if buffer[..count].starts_with(b"HTTP/1.") => return Ended::After(began.elapsed()),
            Got::Bytes(_) => std::thread::sleep(Duration::from_millis(50)),
            Got::Nothing => {
                let letter = letters.next().copied().unwrap_or(b'a');
                if !examiner.purse.bytes(1) {
                    return Ended::Cut(SPENT);
                }
                match wire.write(&[letter], DRIP) {
                    Ok(()) => {}
                    Err(End::Stuck) => return Ended::Cut("the server stopped reading"),
                    Err(_) => return Ended::After(began.elapsed()),
                }
            }
        }
    }
    Ended::Held
}

fn held(ended: Ended, patience: Duration, severity: Severity, sent: &str) -> Ruling {
    match ended {
        Ended::After(after) => Ruling::passed(sent, format!("ended by the server after {:.1} s", after.as_secs_f64())),
        Ended::Held => Ruling::finding(severity, sent, format!("still held after {} s", patience.as_secs())),
        Ended::Cut(why) => Ruling::unknown(sent, why),
    }
}

/// How a wait on an open connection ended. A server that sends more than is read has ended nothing.
fn ended(seen: &Seen, after: Duration, patience: Duration) -> Ended {
    match (&seen.close, seen.end) {
        (None, Some(End::TooMuch)) => Ended::Cut("the server sent more than the audit reads"),
        (None, Some(End::Stuck)) => Ended::Cut("the server stopped reading"),
        (None, Some(End::Garbage(_))) => Ended::Cut("the server sent what no server sends"),
        (Some(_), _) | (None, Some(_)) => Ended::After(after),
        (None, None) if after < patience => Ended::Cut(SPENT),
        (None, None) => Ended::Held,
    }
}

/// An end that comes at once may be that of everybody from this address.
fn confirmed(examiner: &Examiner, ended: Ended, ruling: Ruling) -> Ruled {
    match ended {
        Ended::After(after) if after < Duration::from_secs(1) => examiner.confirmed(ruling),
        _ => Ok(ruling),
    }
}

pub(crate) fn unfinished_handshake(examiner: &Examiner) -> Ruled {
    let sent = "half a request head, and one more byte every 2 s";
    // Only where whole handshakes are answered does a half one say anything.
    examiner.way()?;
    let mut wire = examiner.dial(None).map_err(|why| Ruling::unknown(sent, why))?;
    let beginning = format!("{}Upgrade: websocket\r\nX-Wsguard-Audit: ", examiner.first_try.beginning());
    wire.write(beginning.as_bytes(), examiner.timeout).map_err(|end| Ruling::unknown(sent, end.shown()))?;
    let ended = drip(examiner, &mut wire, b"a");
    confirmed(examiner, ended, held(ended, examiner.patience, Severity::Medium, sent))
}

pub(crate) fn unfinished_tls(examiner: &Examiner) -> Ruled {
    if examiner.tls.is_none() {
        return Ok(Ruling::skipped("the URL is ws://"));
    }
    examiner.way()?;
    let sent = "the beginning of a ClientHello, and one more byte every 2 s";
    let mut wire = examiner.dial_plain().map_err(|why| Ruling::unknown(sent, why))?;
    let hello = [22, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3];
    wire.write(&hello, examiner.timeout).map_err(|end| Ruling::unknown(sent, end.shown()))?;
    let ended = drip(examiner, &mut wire, &[0x5a]);
    confirmed(examiner, ended, held(ended, examiner.patience, Severity::Medium, sent))
}

fn too_short(examiner: &Examiner) -> Option<Ruling> {
    let why = "not waited for; --patience 60 or more does";
    (examiner.patience < HEARTBEATS).then(|| Ruling::skipped(why))
}

/// Judges a peer that was silent for the whole patience.
fn judge_silence(seen: &Seen, after: Duration, patience: Duration) -> Ruling {
    let sent = "nothing, and no answer to pings";
    let ended = ended(seen, after, patience);
    let ruling = held(ended, patience, Severity::Low, sent);
    if ended != Ended::Held {
        return ruling;
    }
    let pings = match seen.pings {
        0 => "the server sent no ping".to_owned(),
        count => format!("the server sent {count} pings, which nobody answered"),
    };
    Ruling { came: format!("{}; {pings}", ruling.came), ..ruling }
}

pub(crate) fn silent_peer(examiner: &Examiner) -> Ruled {
    if let Some(skipped) = too_short(examiner) {
        return Ok(skipped);
    }
    let mut visit = examiner.visit()?;
    visit.answers = false;
    let began = Instant::now();
    visit.wait(examiner.patience, |_| false);
    Ok(judge_silence(&visit.seen, began.elapsed(), examiner.patience))
}

pub(crate) fn unfinished_message(examiner: &Examiner) -> Ruled {
    if let Some(skipped) = too_short(examiner) {
        return Ok(skipped);
    }
    let sent = "a message that does not end, and pings while it is held";
    let mut visit = examiner.visit()?;
    let began = Instant::now();
    visit.send(&masked(TEXT & 0x7f, b" "));
    let mut answered = true;
    while began.elapsed() < examiner.patience && !visit.seen.is_over() {
        // Pings of our own show life, as the answers to the server's do.
        answered = visit.ping(&format!("wsguard-audit {}", began.elapsed().as_millis()), examiner.timeout).is_some();
        let left = examiner.patience.saturating_sub(began.elapsed()).min(Duration::from_secs(5));
        visit.wait(left, |_| false);
    }
    if !answered && !visit.seen.is_over() {
        return Ok(Ruling::unknown(sent, "the server answers no more pings"));
    }
    Ok(held(ended(&visit.seen, began.elapsed(), examiner.patience), examiner.patience, Severity::Low, sent))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::ruling::Verdict;

    #[test]
    fn silence_is_judged_by_its_end() {
        let patience = Duration::from_secs(60);
        let open = Seen { pings: 2, ..Seen::default() };
        let ruling = judge_silence(&open, patience, patience);
        assert_eq!(ruling.verdict, Verdict::Finding(Severity::Low));
        assert!(ruling.came.contains("2 pings"), "{}", ruling.came);
        let closed = Seen { close: Some((1011, String::new())), ..Seen::default() };
        assert_eq!(judge_silence(&closed, Duration::from_secs(45), patience).verdict, Verdict::Passed);
        // Neither a flood nor the end of the plan is the server's end.
        let flood = Seen { end: Some(End::TooMuch), ..Seen::default() };
        assert_eq!(judge_silence(&flood, Duration::from_secs(2), patience).verdict, Verdict::Unknown);
        assert_eq!(judge_silence(&open, Duration::from_secs(2), patience).verdict, Verdict::Unknown);
    }
}
