//! Whether a text of the server is an answer to the ordinary message: known from two that are. A decision without a socket.

use std::collections::BTreeSet;

use serde_json::Value;

use super::frame::KEPT;

/// What answers to the same message have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Likeness {
    /// They are the same text.
    Same(String),
    /// They are the same but for their numbers, and have no names in them; so long is one.
    Numbered(String, usize),
    /// They differ, as by an identifier or a time, and have the same names in them; so long is one.
    Names(BTreeSet<String>, usize),
}

impl Likeness {
    /// Of two answers, as far as they were kept; none is known where they do not even have the same names, as where those are
    /// identifiers.
    pub(crate) fn of(one: &str, other: &str) -> Option<Self> {
        if one == other {
            return Some(Self::Same(one.to_owned()));
        }
        let (names, bytes) = (names(one), one.len().min(other.len()));
        let masked = without_numbers(one);
        if names.is_empty() && masked == without_numbers(other) {
            return Some(Self::Numbered(masked, bytes));
        }
        (names == self::names(other)).then_some(Self::Names(names, bytes))
    }

    /// The same on another connection, by what answered `message` there: an answer may name the connection, or the minute. Words of a
    /// limit are not near it, and change nothing.
    pub(crate) fn on_another(&self, texts: &[String], message: &str) -> Self {
        let Self::Same(answer) = self else { return self.clone() };
        let heard = texts.iter().find(|text| *text == answer);
        let nearest = heard.or_else(|| texts.iter().find(|text| is_near(answer, text, message)));
        nearest.map_or_else(|| self.clone(), |text| Self::Same(text.clone()))
    }

    /// How long an answer is, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Same(answer) => answer.len(),
            Self::Numbered(_, bytes) | Self::Names(_, bytes) => *bytes,
        }
    }

    /// How many answers stand in a message of so many bytes, of which this is the beginning: a server that is busy may join them, and
    /// say more in one than in that to a single message.
    pub(crate) fn count(&self, text: &str, bytes: usize) -> u64 {
        let joined = match self {
            Self::Same(answer) => {
                let count = if answer.is_empty() { 0 } else { text.matches(answer.as_str()).count() };
                let between = text.len() - count * answer.len();
                let cut = if bytes > text.len() { answer.len() } else { 0 };
                if count > 1 && between <= count * 3 + cut { count * bytes / text.len() } else { 0 }
            }
            // Any line would fit.
            Self::Names(known, _) if known.is_empty() => 0,
            Self::Numbered(..) | Self::Names(..) => {
                let lines = || text.split('\n').filter(|line| !line.trim().is_empty());
                if lines().all(|line| self.fits(line)) { lines().count() } else { 0 }
            }
        };
        let is_extended = || matches!(self, Self::Same(answer) if extends(answer, text));
        if joined > 1 { joined as u64 } else { u64::from(self.fits(text) || is_extended()) }
    }

    fn fits(&self, text: &str) -> bool {
        match self {
            Self::Same(answer) => answer == text,
            Self::Numbered(answer, _) => *answer == without_numbers(text),
            // Of a long one not all names are known, and a word of a limit is short.
            Self::Names(known, _) => text.len() >= KEPT || names(text) == *known,
        }
    }

    /// Whether a text is an answer but for its numbers: under load such a one may be that of messages that wait, or of milliseconds.
    pub(crate) fn fits_but_for_numbers(&self, text: &str) -> bool {
        matches!(self, Self::Same(answer) if without_numbers(answer) == without_numbers(text))
    }

    /// Whether a text that is no answer may be the word of a limit, rather than an answer that says more than the others.
    pub(crate) fn may_refuse(&self, text: &str) -> bool {
        let Self::Names(known, _) = self else { return true };
        refuses(text) || known.is_empty() || !names(text).is_superset(known)
    }
}

/// What texts have in common that say the same of different things.
pub(crate) fn kind(text: &str) -> String {
    let names = names(text);
    if names.is_empty() { without_numbers(text) } else { names.into_iter().collect::<Vec<_>>().join(" ") }
}

/// Whether an object says all that the answer says, in other numbers perhaps, and something more.
fn extends(answer: &str, text: &str) -> bool {
    let parsed = (serde_json::from_str(answer), serde_json::from_str(text));
    let (Ok(Value::Object(answer)), Ok(Value::Object(said))) = parsed else { return false };
    let is_kept = |(name, value): (&String, &Value)| {
        said.get(name).is_some_and(|other| other == value || (other.is_number() && value.is_number()))
    };
    said.len() > answer.len() && answer.iter().all(is_kept) && !refuses(text)
}

/// Whether words are those of a refusal, as far as English ones tell.
pub(crate) fn refuses(text: &str) -> bool {
    const WORDS: [&str; 18] = [
        "error", "limit", "slow", "too many", "too fast", "throttl", "flood", "429", "exceed", "retry", "denied",
        "refus", "reject", "spam", "block", "quota", "fail", "warn",
    ];
    let text = text.to_ascii_lowercase();
    WORDS.iter().any(|word| text.contains(word))
}

fn without_numbers(text: &str) -> String {
    text.chars().filter(|letter| !matches!(letter, '0'..='9' | '.' | '-')).collect()
}

/// Whether two texts that differ may be answers to the same message.
fn is_near(one: &str, other: &str, message: &str) -> bool {
    let names = names(one);
    if !names.is_empty() && names == self::names(other) {
        return true;
    }
    let alike = |(one, other): &(u8, u8)| one == other;
    let begin = one.bytes().zip(other.bytes()).take_while(alike).count();
    let end = one.bytes().rev().zip(other.bytes().rev()).take_while(alike).count();
    // An echo, or most of the words.
    (one.contains(message) && other.contains(message)) || (begin + end) * 2 >= one.len().max(other.len())
}

/// The names of an object in JSON, and of those in it, and the event of a packet of Socket.IO.
fn names(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let is_event =
        |before: &str| before.strip_suffix('[').is_some_and(|id| id.bytes().all(|byte| byte.is_ascii_digit()));
    let (mut rest, mut at) = (text, 0);
    while let Some(quote) = rest.find('"') {
        let begin = at + quote + 1;
        let Some(len) = string_len(&text[begin..]) else { break };
        let (before, behind) = (&text[..begin - 1], &text[begin + len + 1..]);
        if behind.trim_start().starts_with(':') || (before.len() > 1 && is_event(before)) {
            names.insert(text[begin..begin + len].to_owned());
        }
        (rest, at) = (behind, begin + len + 1);
    }
    names
}

/// How long a string is, whose opening quote stands before it.
fn string_len(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    text.bytes().position(|byte| {
        let ends = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        ends
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn likeness(one: &str, other: &str) -> Likeness {
        Likeness::of(one, other).unwrap()
    }

    #[test]
    fn the_same_text_is_known_to_the_letter() {
        let said = likeness("said 1", "said 1");
        assert!(said.fits("said 1") && !said.fits("said 2") && !said.fits("slow down"));
        assert!(said.fits_but_for_numbers("said -22.5") && !said.fits_but_for_numbers("slow down 1"));
    }

    #[test]
    fn answers_are_counted_where_they_are_joined() {
        let count = |answer: &str, text: &str| likeness(answer, answer).count(text, text.len());
        assert_eq!((count("hi", "hi"), count("hi", "hi\nhi\nhi"), count("hi", "[hi, hi]")), (1, 3, 2));
        assert_eq!((count("hi", "hi\nslow down\nhi"), count("hi", "oh hi"), count("", "x")), (0, 0, 0));
        // Of a long message only the beginning is known.
        assert_eq!(likeness("hi", "hi").count(&"hi\n".repeat(30), 900), 300);
        let numbered = likeness("<ack at='12:07'/>", "<ack at='12:31'/>");
        assert!(numbered.fits("<ack at='13:00'/>") && !numbered.fits("slow down"));
        let ids = likeness(r#"{"id":1}"#, r#"{"id":2}"#);
        assert_eq!(ids.count("{\"id\":3}\n{\"id\":4}\n", 17), 2);
        assert_eq!(ids.count("{\"id\":3}\n{\"error\":4}", 19), 0);
    }

    #[test]
    fn an_answer_may_say_more_and_a_refusal_is_none() {
        let ok = likeness(r#"{"ok":true,"n":1}"#, r#"{"ok":true,"n":1}"#);
        let count = |text: &str| ok.count(text, text.len());
        assert_eq!(count(r#"{"ok":true,"n":2,"pending":7}"#), 1);
        assert_eq!(count(r#"{"ok":false,"n":1,"why":"calm down"}"#) + count(r#"{"ok":true,"n":1,"error":"x"}"#), 0);
        let ids = likeness(r#"{"id":1}"#, r#"{"id":2}"#);
        assert!(
            ids.may_refuse(r#"{"id":3,"error":"x"}"#) && ids.may_refuse(r#"{"e":3}"#) && ids.may_refuse("calm down")
        );
        assert!(!ids.may_refuse(r#"{"id":3,"pending":7}"#));
        assert_eq!(kind(r#"{"b":1,"a":"x"}"#), "a b");
        assert_eq!(kind("wait 12 s"), kind("wait 7 s"));
    }

    #[test]
    fn names_are_those_of_objects_and_of_events() {
        let of = |text| names(text).into_iter().collect::<Vec<_>>().join(" ");
        assert_eq!(of(r#"{"a" : "b", "c":{"d\"e":["f", {"g":1}]}}"#), r#"a c d\"e g"#);
        assert_eq!(of(r#"42["said",{"at":1}]"#), "at said");
        assert_eq!(of(r#"["said","hi"]"#) + &of("hi") + &of(r#""open"#) + &of(r#"{"cut":"a\"#) + &of("ü\"ü"), "cut");
    }

    #[test]
    fn answers_that_differ_by_what_they_say_are_alike() {
        let said = likeness(r#"{"type":"said","id":"7f3a","at":1}"#, r#"{"type":"said","id":"00c0","at":2.5}"#);
        assert!(said.fits(r#"{"at":null,"id":"","type":"left"}"#) && said.fits(&"long ".repeat(KEPT)));
        assert!(!said.fits(r#"{"type":"error","retry_ms":59}"#) && !said.fits("slow down"));
        let packet = likeness(r#"42["said","1"]"#, r#"42["said","2"]"#);
        assert!(packet.fits(r#"42["said","3"]"#) && !packet.fits(r#"42["blocked","1 s"]"#));
    }

    #[test]
    fn answers_on_another_connection_may_name_it() {
        let on = |one: &str, other: &str| likeness(one, one).on_another(&["hello".into(), other.into()], "hi");
        let same = |text: &str| Likeness::Same(text.into());
        assert_eq!(on("User 7: hi", "User 12: hi"), same("User 12: hi"));
        assert_eq!(on("7f3a00c0d1ce: hi", "e8be1905aa11: hi"), same("e8be1905aa11: hi"));
        assert_eq!(on("12:59 said", "13:00 said"), same("13:00 said"));
        assert_eq!(
            on(r#"{"from":7,"said":1}"#, r#"{"from":"a new one","said":1}"#),
            same(r#"{"from":"a new one","said":1}"#)
        );
        assert_eq!(on("User 7: hi", "slow down"), same("User 7: hi"));
        assert_eq!(on("hello", "hello, 8"), same("hello"));
    }

    #[test]
    fn words_without_names_are_like_any_others() {
        assert!(likeness("a1", "b2").fits("slow down") && likeness(r#"["a"]"#, r#"["a","b"]"#).fits(r#"["c"]"#));
        assert_eq!(Likeness::of(r#"{"7f3a":1}"#, r#"{"00c0":1}"#), None);
    }
}
