//! How fast one peer may send: messages and pings.

use super::frames::{AFTER, ruling};
use crate::audit::examiner::{Examiner, Ordinary, SETTLED};
use crate::audit::frame::{PING, TEXT, masked};
use crate::audit::ruling::{Ruled, Ruling, Severity, Verdict};
use crate::audit::seen::{Bait, Content, Seen, bait};
use crate::audit::visit::Visit;

pub(crate) const MESSAGES: u32 = 300;
pub(crate) const PER_SECOND: u32 = 200;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::frame::Frame;

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
}
