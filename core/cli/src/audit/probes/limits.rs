//! How much one peer may send: sizes, fragments, compression, connections.

use std::time::{Duration, Instant};

use super::frames::{AFTER, ruling};
use crate::audit::bomb;
use crate::audit::examiner::{Examiner, Opening, SETTLED, Unreached};
use crate::audit::frame::{RSV1, TEXT, header, masked, part};
use crate::audit::head::Ask;
use crate::audit::ruling::{Ruled, Ruling, Severity, Verdict};
use crate::audit::seen::{Bait, Content, Seen};
use crate::audit::text::bytes;
use crate::audit::visit::Visit;

pub(crate) const DECLARED: u64 = 1 << 30;
/// How much of it is sent to a server that waits: more than the largest message of `message-size`.
pub(crate) const READ: usize = 17 << 20;
/// How much of that before the time is looked at.
const PIECE: usize = 64 << 10;
pub(crate) const SIZES: [usize; 3] = [1 << 20, 4 << 20, 16 << 20];
/// What one of the frames holds where the largest message comes in fragments: less than any limit of a frame.
const FRAGMENT: usize = 32 * 1024;
pub(crate) const FRAGMENTS: usize = 20_000;
pub(crate) const INFLATED: usize = 16 << 20;
pub(crate) const BURST: usize = 100;
/// How far apart the connections of a burst are.
const BURST_APART: Duration = Duration::from_millis(20);

/// How long a server may work at 16 MiB, and at sending them back.
const LONG: Duration = Duration::from_secs(15);

pub(crate) fn declared_size(examiner: &Examiner) -> Ruled {
    let sent = "the header of a message of 1 GiB, and 16 bytes of it";
    let mut visit = examiner.visit()?;
    let grace = visit.grace(examiner.timeout);
    let declare = |visit: &mut Visit<'_>| {
        // Right to the last byte but for its length: a server that reads texts as they come finds nothing else to refuse.
        visit.send(&[header(TEXT, DECLARED), part(&[b' '; 16])].concat());
        // Whatever is sent now would be a part of that message.
        visit.answers = false;
        visit.wait(grace, |_| false);
    };
    declare(&mut visit);
    if visit.seen.is_over() {
        return Ok(ruling(examiner.judge(&visit, AFTER, &Content::Hidden), Severity::High, sent));
    }
    // Only a server that answers others meanwhile is waiting rather than busy.
    let other = examiner.visit().map_err(|early| Ruling { sent: sent.to_owned(), ..early })?;
    visit.wait(Duration::from_millis(200), |_| false);
    if visit.seen.is_over() && !visit.seen.fails_by_protocol() && ends_the_one_before(examiner)? {
        drop(other);
        visit = examiner.visit()?;
        declare(&mut visit);
    }
    if visit.seen.is_over() {
        return Ok(ruling(examiner.judge(&visit, AFTER, &Content::Hidden), Severity::High, sent));
    }
    Ok(read_of_declared(examiner, &mut visit, sent, grace))
}

/// Whether a connection ends that is open already when the same client opens another: many applications keep the newest alone.
fn ends_the_one_before(examiner: &Examiner) -> Result<bool, Ruling> {
    let mut first = examiner.visit()?;
    let _second = examiner.visit()?;
    first.wait(SETTLED, |_| false);
    Ok(first.seen.is_thrown_out())
}

/// A server may count what it reads rather than what is declared: then no peer fills its memory either.
fn read_of_declared(examiner: &Examiner, visit: &mut Visit<'_>, before: &str, grace: Duration) -> Ruling {
    let (piece, began) = (part(&vec![b' '; PIECE]), Instant::now());
    let mut taken = 0;
    // One that reads slowly, and has refused nothing until then, is not waited for.
    while taken < READ && !visit.seen.is_over() && began.elapsed() < LONG {
        visit.send(&piece);
        // A close frame that is not read before the server's reset is lost.
        visit.wait(Duration::from_millis(1), |_| false);
        taken += PIECE;
    }
    visit.wait(grace, |_| false);
    let sent = format!("{before}, then {} of it", bytes(taken as u64));
    if visit.seen.is_over() {
        return ruling(examiner.judge(visit, AFTER, &Content::Hidden), Severity::High, &sent);
    }
    let came = format!("the server waits for the rest (a ping took {} ms before it)", visit.round_trip.as_millis());
    Ruling::finding(Severity::High, sent, came)
}

/// Judges which sizes were taken, smallest first, and how it ended.
fn judge_sizes(largest: Option<usize>, end: Option<Bait>) -> Ruling {
    let sent = "messages of 1, 4 and 16 MiB, as long as they are taken";
    let taken =
        largest.map_or_else(|| "none was taken".to_owned(), |size| format!("{} were taken", bytes(size as u64)));
    match (largest, end) {
        (largest, Some(Bait::Unclear(why))) if largest.is_none_or(|size| size <= SIZES[0]) => {
            Ruling::unknown(sent, format!("{taken}; {why}"))
        }
        (largest, Some(Bait::Refused(how))) if largest.is_none_or(|size| size <= SIZES[0]) => {
            Ruling::passed(sent, format!("{taken}, then {how}"))
        }
        (_, Some(Bait::Refused(how))) => Ruling::finding(Severity::Low, sent, format!("{taken}, then {how}")),
        // So much at least.
        (_, Some(Bait::Unclear(why))) => {
            Ruling::finding(Severity::Low, sent, format!("{taken}; of more it is not known: {why}"))
        }
        (_, Some(Bait::Taken(_)) | None) => Ruling::finding(Severity::Medium, sent, taken),
    }
}

pub(crate) fn message_size(examiner: &Examiner) -> Ruled {
    let (content, answers) = examiner.content();
    let (mut largest, mut end) = (None, None);
    for size in SIZES {
        // Each on its own: a second one may be refused for what it says, and an application that waits for a credential waits some seconds.
        let mut visit = examiner.visit()?;
        let frame = masked(TEXT, &examiner.message.padded(size));
        let (most, rest) = frame.split_at(frame.len() - 1);
        let is_whole = send_most(examiner, &mut visit, most);
        visit.send(rest);
        let tag = format!("wsguard-audit {size}");
        visit.ping_behind(&tag, LONG, answers);
        match unless_read_whole(examiner.judge(&visit, &tag, &content), &visit.seen, is_whole) {
            Bait::Taken(_) => largest = Some(size),
            refused => {
                end = Some(refused);
                break;
            }
        }
    }
    let whole = judge_sizes(largest, end);
    if whole.verdict != Verdict::Passed {
        return Ok(whole);
    }
    let parts = in_fragments(examiner, &content, answers).unwrap_or_else(|early| early);
    Ok(Ruling::worst(&[whole, Ruling { sent: IN_FRAGMENTS.to_owned(), ..parts }]))
}

/// Sends all but the last of a message, and tells whether the server lets it come: a limit of its size ends the connection before.
fn send_most(examiner: &Examiner, visit: &mut Visit<'_>, most: &[u8]) -> bool {
    // Whatever is sent now would be a part of that message.
    visit.answers = false;
    visit.send(most);
    let grace = visit.grace(examiner.timeout);
    visit.wait(grace, |_| false);
    visit.answers = true;
    !visit.seen.is_over()
}

/// Who ends the connection only behind the last byte, and not by a code for how something came, has the whole message: an
/// application that refused what it says, or counted it, once it was in memory.
fn unless_read_whole(judged: Bait, seen: &Seen, is_whole: bool) -> Bait {
    match judged {
        Bait::Refused(how) if is_whole && !seen.fails_by_protocol() => Bait::Taken(format!("read whole, then {how}")),
        judged => judged,
    }
}

const IN_FRAGMENTS: &str = "16 MiB in fragments of 32 KiB";

/// The largest again, in frames that a limit of the frame alone lets through.
fn in_fragments(examiner: &Examiner, content: &Content, answers: u64) -> Ruled {
    let mut visit = examiner.visit()?;
    let message = examiner.message.padded(SIZES[2]);
    let (last, began) = (message.len().div_ceil(FRAGMENT) - 1, Instant::now());
    let mut is_whole = false;
    for (at, piece) in message.chunks(FRAGMENT).enumerate() {
        if at == last {
            is_whole = send_most(examiner, &mut visit, &[]);
        }
        let opcode = if at == 0 { TEXT & 0x0f } else { 0 };
        visit.send(&masked(if at == last { opcode | 0x80 } else { opcode }, piece));
        // Whoever refuses says so while the rest is under way, and a close frame that is not read before a reset is lost.
        visit.wait(Duration::from_millis(1), |_| false);
        if visit.seen.is_over() {
            break;
        }
        if began.elapsed() > LONG {
            return Ok(Ruling::unknown(
                IN_FRAGMENTS,
                format!("the server did not read them within {} s", LONG.as_secs()),
            ));
        }
    }
    visit.ping_behind(AFTER, LONG, answers);
    let judged = unless_read_whole(examiner.judge(&visit, AFTER, content), &visit.seen, is_whole);
    Ok(ruling(judged, Severity::Medium, IN_FRAGMENTS))
}

pub(crate) fn fragments(examiner: &Examiner) -> Ruled {
    let mut visit = examiner.visit()?;
    let mut frames = masked(TEXT & 0x7f, b" ");
    frames.extend(masked(0, b"").repeat(FRAGMENTS));
    visit.send(&frames);
    // A busy server needs its time for so many; who counts where messages are put together comes later than the library's pong.
    visit.ping_behind(AFTER, examiner.timeout, 0);
    let sent = "a message of 20000 empty fragments that does not end";
    Ok(ruling(examiner.judge(&visit, AFTER, &Content::Hidden), Severity::Medium, sent))
}

pub(crate) fn compression_bomb(examiner: &Examiner) -> Ruled {
    let ask = Ask { deflate: true, ..examiner.way()?.clone() };
    let mut visit = examiner.visit_as(&ask)?;
    if !visit.answer.deflates() {
        return Ok(Ruling::passed("an offer of permessage-deflate", "the server does not compress"));
    }
    let packed = bomb::deflated(&examiner.message.padded(INFLATED));
    let sent = format!("{} that inflate to {}", bytes(packed.len() as u64), bytes(INFLATED as u64));
    let (content, answers) = examiner.content();
    // In two fragments: a limit of what is inflated is passed by the first.
    let (most, rest) = packed.split_at(packed.len() - 16);
    let is_whole = send_most(examiner, &mut visit, &masked((TEXT | RSV1) & 0x7f, most));
    visit.send(&masked(0x80, rest));
    visit.ping_behind(AFTER, LONG, answers);
    let judged = examiner.judge(&visit, AFTER, &content);
    let judged = match (judged, &visit.seen.close) {
        (judged, Some(_)) => unless_read_whole(judged, &visit.seen, is_whole),
        // Some libraries inflate at the end, and end the connection without a word; an application may as well.
        (Bait::Refused(how), None) if is_whole && refuses_padded(examiner, &ask, answers)? => Bait::Unclear(format!(
            "{how}, and so ends a connection that sends the same padded to {}: give a message with --message that may be padded, \
             such as JSON",
            bytes(PADDED as u64)
        )),
        (judged, _) => judged,
    };
    Ok(ruling(judged, Severity::High, &sent))
}

/// What any application has room for.
const PADDED: usize = 2048;

/// Whether the ordinary message is refused where it is only a little longer.
fn refuses_padded(examiner: &Examiner, ask: &Ask, answers: u64) -> Result<bool, Ruling> {
    let mut visit = examiner.visit_as(ask)?;
    visit.send(&masked(TEXT | RSV1, &bomb::deflated(&examiner.message.padded(PADDED))));
    visit.ping_behind(AFTER, examiner.timeout, answers);
    Ok(visit.seen.is_thrown_out())
}

/// Judges how many of a burst of handshakes were let in.
fn judge_burst(open: usize, refused: Option<String>, took: Duration) -> Ruling {
    let sent = format!("{BURST} opening handshakes in {:.1} s, all kept open", took.as_secs_f64());
    match refused {
        Some(how) if open == 0 => Ruling::unknown(sent, format!("the first was not let in: {how}")),
        Some(how) => Ruling::passed(sent, format!("{open} were let in, then {how}")),
        None => Ruling::finding(Severity::Low, sent, "all were let in"),
    }
}

pub(crate) fn connection_burst(examiner: &Examiner) -> Ruled {
    let bytes = examiner.way()?.bytes();
    let began = Instant::now();
    let mut open = Vec::new();
    while open.len() < BURST {
        let refused = match examiner.request(&bytes, Some(BURST_APART)) {
            Opening::Open(visit) => {
                open.push(visit);
                continue;
            }
            Opening::Refused(answer) => answer.shown(),
            Opening::Ended(end) => end.shown(),
            Opening::Silent => "no answer in time".to_owned(),
            Opening::Unreachable(Unreached::Spent(what)) => {
                return Ok(Ruling::unknown("a burst of opening handshakes", what));
            }
            Opening::Unreachable(why) => why.to_string(),
        };
        let _ = examiner.burst_refused.set(refused.clone());
        return Ok(judge_burst(open.len(), Some(refused), began.elapsed()));
    }
    let took = began.elapsed();
    let thrown_out = last_thrown_out(&mut open);
    let staying = open.iter().filter(|visit| !visit.seen.is_over()).count();
    Ok(judge_burst(staying, thrown_out, took))
}

/// How the last ended, if it was let in and thrown out again: a library may upgrade before the application counts. Where the first
/// ones leave alone, they were silent for too long.
fn last_thrown_out(open: &mut [Box<Visit<'_>>]) -> Option<String> {
    let (last, others) = open.split_last_mut()?;
    last.wait(SETTLED, |_| false);
    for visit in others {
        visit.wait(Duration::from_millis(1), |_| false);
    }
    last.seen.is_thrown_out().then(|| last.seen.ending()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_judged_by_the_largest() {
        let refused = || Some(Bait::Refused("closed with 1009".into()));
        assert_eq!(judge_sizes(None, refused()).verdict, Verdict::Passed);
        assert_eq!(judge_sizes(Some(1 << 20), refused()).verdict, Verdict::Passed);
        assert_eq!(judge_sizes(Some(4 << 20), refused()).verdict, Verdict::Finding(Severity::Low));
        assert_eq!(judge_sizes(Some(16 << 20), None).verdict, Verdict::Finding(Severity::Medium));
        let unclear = || Some(Bait::Unclear("slow".into()));
        assert_eq!(judge_sizes(Some(1 << 20), unclear()).verdict, Verdict::Unknown);
        assert_eq!(judge_sizes(Some(4 << 20), unclear()).verdict, Verdict::Finding(Severity::Low));
    }

    #[test]
    fn a_burst_without_a_refusal_is_a_finding() {
        let took = Duration::from_secs(2);
        assert_eq!(judge_burst(100, None, took).verdict, Verdict::Finding(Severity::Low));
        assert_eq!(judge_burst(50, Some("429".into()), took).verdict, Verdict::Passed);
        assert_eq!(judge_burst(0, Some("403".into()), took).verdict, Verdict::Unknown);
    }
}
