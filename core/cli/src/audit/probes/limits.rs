//! How much one peer may send: sizes, fragments, rates, compression, connections.

use std::time::{Duration, Instant};

use super::frames::{AFTER, ruling};
use crate::audit::bomb;
use crate::audit::examiner::{Examiner, Opening, Ordinary, SETTLED, Unreached};
use crate::audit::frame::{PING, RSV1, TEXT, header, masked, part};
use crate::audit::head::Ask;
use crate::audit::ruling::{Ruled, Ruling, Severity, Verdict};
use crate::audit::seen::{Bait, Content, Seen, bait};
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
pub(crate) const MESSAGES: u32 = 300;
pub(crate) const PER_SECOND: u32 = 200;
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

/// How many answers came to a flood, and how many would say that all of it was taken: 0 where none can be counted.
#[derive(Clone, Copy)]
struct Answers {
    came: u64,
    expected: u64,
}

impl Answers {
    fn are_few(self) -> bool {
        self.came * 10 < self.expected * 9
    }

    /// Whether many came where a single message has no answer: who is told to slow down is told so by most limits that leave the
    /// connection open, once for each message that they drop.
    fn may_be_words_of_a_limit(self) -> bool {
        self.expected == 0 && self.came * 10 >= u64::from(MESSAGES)
    }
}

/// What came to a flood beside the answers that are known.
#[derive(Clone, Copy, Default)]
struct Beside {
    /// Those that differ from an answer by their numbers alone.
    variants: u64,
    /// How many different ones, and how often the commonest came.
    kinds: usize,
    commonest: u64,
    /// Other texts, and how many of them are of the commonest kind that may be the word of a limit.
    others: u64,
    words: u64,
    /// The bytes of everything, and those of a single answer, where that is known.
    bytes: u64,
    bytes_of_one: u64,
}

/// What it says that few of the expected answers came.
#[derive(Debug, PartialEq, Eq)]
enum Few {
    /// The rest was held back: nothing came for it, or words of a limit.
    HeldBack,
    /// These are answers too: under load a number in them is another one each time, as that of messages that wait, or of
    /// milliseconds.
    Answers,
    /// Either, and why.
    Unclear(String),
}

impl Beside {
    fn of(seen: &Seen, bytes: u64, bytes_of_one: u64) -> Self {
        let words = seen.others.values().filter(|(_, text)| seen.may_refuse(text)).map(|(count, _)| *count);
        Self {
            variants: seen.variants.values().sum(),
            kinds: seen.variants.len(),
            commonest: seen.variants.values().max().copied().unwrap_or_default(),
            others: seen.others.values().map(|(count, _)| *count).sum(),
            words: words.max().unwrap_or_default(),
            bytes,
            bytes_of_one: seen.like.iter().map(|like| like.bytes() as u64).min().unwrap_or(bytes_of_one),
        }
    }

    fn judge(self, answers: Answers) -> Few {
        let Answers { came, expected } = answers;
        let missing = expected - came.min(expected);
        if self.variants * 10 >= missing * 9 {
            return if self.kinds > 1 && self.commonest * 4 < expected {
                Few::Answers
            } else {
                Few::Unclear("differ from those by a number alone: answers under load, or words of a limit".to_owned())
            };
        }
        let come_instead = self.others * 5 >= missing;
        if come_instead && self.words * 5 >= self.others * 4 {
            return Few::HeldBack;
        }
        if come_instead {
            return Few::Unclear(
                "are others, of several kinds: answers of another kind, or words of a limit".to_owned(),
            );
        }
        let rest = self.bytes.saturating_sub(came * self.bytes_of_one);
        let is_much = self.bytes_of_one > 0 && rest * 2 >= missing * self.bytes_of_one;
        if self.variants > came || is_much {
            return Few::Unclear("are fewer and longer, or count: one may answer many".to_owned());
        }
        Few::HeldBack
    }
}

/// Judges a flood.
fn judge_flood(seen: &Seen, content: &Content, answers: Answers, severity: Severity, sent: &str) -> Ruling {
    let Answers { came, expected } = answers;
    match bait(seen, AFTER, content) {
        Bait::Taken(_) if answers.are_few() => {
            Ruling::passed(sent, format!("{came} of {expected} expected answers: the rest was held back"))
        }
        Bait::Taken(_) if expected > 0 => Ruling::finding(severity, sent, format!("all were taken: {came} answers")),
        Bait::Taken(how) => Ruling::finding(severity, sent, format!("the connection lives: {how}")),
        judged => ruling(judged, severity, sent),
    }
}

/// A connection that is neither ended nor answered is held back, if others are answered meanwhile.
fn unless_held_back(examiner: &Examiner, seen: &Seen, ruling: Ruling) -> Ruling {
    if ruling.verdict == Verdict::Unknown && !seen.is_over() && examiner.visit().is_ok() {
        return Ruling::passed(ruling.sent, "the connection is held back; others are answered meanwhile");
    }
    ruling
}

/// Whether hardly any of what came to a flood is an answer, since about as much comes to one who is silent. Where much more does,
/// the flood was held back.
fn is_unasked(came: u64, to_silent: u64) -> bool {
    to_silent > 0 && to_silent * 8 >= came * 7 && to_silent <= came * 2
}

/// The same, on a connection that sends nothing for as long as the flood lasted.
fn comes_unasked(examiner: &Examiner, visit: &Visit<'_>, came: u64) -> bool {
    let Ok(mut silent) = examiner.visit() else { return false };
    silent.seen.like.clone_from(&visit.seen.like);
    let (before, time) = (silent.seen.answers(), visit.age().saturating_sub(silent.age()));
    silent.wait(time, |seen| seen.answers() > before + came * 2);
    is_unasked(came, silent.seen.answers() - before)
}

pub(crate) fn message_rate(examiner: &Examiner) -> Ruled {
    let sent = format!("{MESSAGES} messages at {PER_SECOND} a second");
    // Before, since it takes some seconds: a connection that waits for it meanwhile may be ended as too silent.
    let ordinary = examiner.ordinary();
    let Ordinary { content, answers, talks, bytes: bytes_of_one, .. } = ordinary.clone();
    let mut visit = examiner.visit()?;
    let unfit = match &content {
        Content::Refused(how) => Some(format!("one message alone: {how}; give one that is valid with --message")),
        Content::Once(how) => Some(format!("one more, alone: {how}; give one that is valid twice with --message")),
        _ => ordinary.refused_again.as_ref().map(|text| {
            format!(
                "one more, {} ms later, has another answer: {text}; a slow limit, or one valid once",
                SETTLED.as_millis()
            )
        }),
    };
    if let Some(why) = unfit {
        return Ok(Ruling::unknown(sent, why));
    }
    // Those that came already do not count.
    visit.seen.like = examiner.likeness_on(&mut visit, &ordinary);
    let before = visit.seen.answers();
    let bytes = visit.seen.bytes;
    visit.seen.variants.clear();
    visit.seen.others.clear();
    visit.send_paced(&masked(TEXT, examiner.message.text().as_bytes()), MESSAGES, PER_SECOND);
    let all = before + answers * u64::from(MESSAGES);
    let missing = all.saturating_sub(visit.seen.answers());
    visit.ping_behind(AFTER, examiner.timeout, missing);
    // A slow application is given the time that an answer may take before it is said to hold something back.
    visit.wait(examiner.timeout, |seen| seen.answers() >= all);
    let mut answers = Answers { came: visit.seen.answers() - before, expected: all - before };
    let beside = Beside::of(&visit.seen, visit.seen.bytes - bytes, bytes_of_one);
    let few = (answers.are_few() && !visit.seen.is_over()).then(|| beside.judge(answers));
    let unclear = match few {
        Some(Few::Unclear(why)) => {
            let rest = beside.variants + beside.others;
            Some(format!("{} of {} expected answers; {rest} further messages {why}", answers.came, answers.expected))
        }
        Some(Few::Answers) => {
            answers.came += beside.variants;
            None
        }
        Some(Few::HeldBack) | None => words_of_a_limit(examiner, &visit, answers, talks),
    };
    let judged = match unclear {
        Some(why) => Ruling::unknown(&sent, why),
        None => {
            let answers = unless_unasked(examiner, &visit, answers);
            unless_held_back(
                examiner,
                &visit.seen,
                judge_flood(&visit.seen, &content, answers, Severity::Medium, &sent),
            )
        }
    };
    Ok(examiner.unless_silence_ends(&visit, judged))
}

/// None can be counted where what came is none.
fn unless_unasked(examiner: &Examiner, visit: &Visit<'_>, answers: Answers) -> Answers {
    let is_none = answers.are_few() && !visit.seen.is_over() && comes_unasked(examiner, visit, answers.came);
    Answers { expected: if is_none { 0 } else { answers.expected }, ..answers }
}

/// What tells that a flood may have been held back where a single message has no answer.
fn words_of_a_limit(examiner: &Examiner, visit: &Visit<'_>, answers: Answers, talks: bool) -> Option<String> {
    let may_be = answers.may_be_words_of_a_limit() && !talks && !visit.seen.is_over();
    (may_be && !comes_unasked(examiner, visit, answers.came)).then(|| {
        format!(
            "one message has no answer, yet {} messages came to these: words of a limit, or of something else",
            answers.came
        )
    })
}

/// Judges a flood of pings: one answer for many is what RFC 6455 allows (section 5.5.3), and costs little.
fn judge_pings(seen: &Seen, sent: &str) -> Ruling {
    // That of the control is none of them.
    let pongs = seen.pongs.saturating_sub(1);
    match bait(seen, AFTER, &Content::Counted) {
        Bait::Taken(_) if pongs * 10 < u64::from(MESSAGES) * 9 => {
            Ruling::passed(sent, format!("the connection lives, and most pings were not answered; {pongs} pongs"))
        }
        Bait::Taken(how) => Ruling::finding(Severity::Low, sent, format!("the connection lives: {how}; {pongs} pongs")),
        judged => {
            let ruling = ruling(judged, Severity::Low, sent);
            Ruling { came: format!("{}; {pongs} pongs", ruling.came), ..ruling }
        }
    }
}

pub(crate) fn ping_rate(examiner: &Examiner) -> Ruled {
    let sent = format!("{MESSAGES} pings at {PER_SECOND} a second");
    let mut visit = examiner.visit()?;
    visit.send_paced(&masked(PING, b"wsguard-audit flood"), MESSAGES, PER_SECOND);
    visit.ping_behind(AFTER, examiner.timeout, 0);
    let judged = unless_held_back(examiner, &visit.seen, judge_pings(&visit.seen, &sent));
    Ok(examiner.unless_silence_ends(&visit, judged))
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
    use crate::audit::frame::Frame;

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
    fn a_flood_that_is_held_back_is_no_finding() {
        let pong = Frame { first: 0x8a, len: 0, start: AFTER.as_bytes().to_vec() };
        let mut seen = Seen::default();
        seen.note(&pong);
        let judge = |seen: &Seen, came, expected| {
            judge_flood(seen, &Content::Taken, Answers { came, expected }, Severity::Medium, "x").verdict
        };
        assert_eq!(judge(&seen, 300, 300), Verdict::Finding(Severity::Medium));
        assert_eq!(judge(&seen, 40, 300), Verdict::Passed);
        assert_eq!(judge(&seen, 300, 0), Verdict::Finding(Severity::Medium));
        assert_eq!(judge(&Seen::default(), 300, 300), Verdict::Unknown);
        assert_eq!(judge(&Seen { close: Some((1008, String::new())), ..Seen::default() }, 0, 300), Verdict::Passed);
    }

    #[test]
    fn few_answers_are_held_back_where_that_can_be_told() {
        let judge = |came, beside: Beside| beside.judge(Answers { came, expected: 300 });
        let is_unclear = |few| matches!(few, Few::Unclear(_));
        let nothing = Beside { bytes_of_one: 10, ..Beside::default() };
        // Nothing for the rest; a word of a limit for each, or for some.
        assert_eq!(judge(40, Beside { bytes: 400, ..nothing }), Few::HeldBack);
        assert_eq!(judge(200, Beside { bytes: 2000, ..nothing }), Few::HeldBack);
        assert_eq!(judge(200, Beside { bytes: 9000, bytes_of_one: 0, ..nothing }), Few::HeldBack);
        assert_eq!(judge(40, Beside { others: 260, words: 260, bytes: 9000, ..nothing }), Few::HeldBack);
        assert_eq!(judge(40, Beside { others: 60, words: 55, bytes: 1000, ..nothing }), Few::HeldBack);
        // Milliseconds or a queue in each; a code for the refusal; one answer for many, in words or in a number.
        assert_eq!(judge(227, Beside { variants: 73, kinds: 3, commonest: 60, ..nothing }), Few::Answers);
        assert_eq!(judge(30, Beside { variants: 270, kinds: 150, commonest: 2, ..nothing }), Few::Answers);
        assert!(is_unclear(judge(40, Beside { variants: 260, kinds: 1, commonest: 260, ..nothing })));
        assert!(is_unclear(judge(0, Beside { variants: 20, kinds: 5, commonest: 10, ..nothing })));
        assert!(is_unclear(judge(8, Beside { others: 20, words: 20, bytes: 3000, ..nothing })));
        // Answers of several kinds, and some that say more.
        assert!(is_unclear(judge(104, Beside { others: 196, words: 100, bytes: 3000, ..nothing })));
        assert!(is_unclear(judge(30, Beside { others: 270, words: 0, bytes: 3000, ..nothing })));
    }

    #[test]
    fn what_comes_to_the_silent_is_no_answer() {
        assert!(is_unasked(7, 7) && is_unasked(78, 80) && is_unasked(1, 2));
        // Answers besides, nothing at all, and a server that says no more to who sends too much.
        assert!(
            !is_unasked(41, 7) && !is_unasked(34, 0) && !is_unasked(0, 0) && !is_unasked(0, 1) && !is_unasked(3, 40)
        );
    }

    #[test]
    fn many_words_to_what_has_no_answer_may_be_those_of_a_limit() {
        let may_be = |came, expected| Answers { came, expected }.may_be_words_of_a_limit();
        assert!(may_be(280, 0) && may_be(30, 0));
        assert!(!may_be(29, 0) && !may_be(280, 300));
    }

    #[test]
    fn one_pong_for_many_pings_is_no_finding() {
        let mut seen = Seen { pongs: 300, ..Seen::default() };
        seen.note(&Frame { first: 0x8a, len: 0, start: AFTER.as_bytes().to_vec() });
        let judge = |seen: &Seen| judge_pings(seen, "x").verdict;
        assert_eq!(judge(&seen), Verdict::Finding(Severity::Low));
        assert_eq!(judge(&Seen { pongs: 15, ..seen.clone() }), Verdict::Passed);
        assert_eq!(judge(&Seen { close: Some((1008, String::new())), ..seen }), Verdict::Passed);
        assert_eq!(judge(&Seen { pongs: 200, ..Seen::default() }), Verdict::Unknown);
    }

    #[test]
    fn a_burst_without_a_refusal_is_a_finding() {
        let took = Duration::from_secs(2);
        assert_eq!(judge_burst(100, None, took).verdict, Verdict::Finding(Severity::Low));
        assert_eq!(judge_burst(50, Some("429".into()), took).verdict, Verdict::Passed);
        assert_eq!(judge_burst(0, Some("403".into()), took).verdict, Verdict::Unknown);
    }
}
