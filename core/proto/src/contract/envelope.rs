//! The message envelope: `{"event": NAME, "data": ANY, "status": "ok"|"error", "id": string|integer}`.
//!
//! It decides whether a text is an envelope, and which rule it breaks when it is not. Whether the event exists and
//! whether `data` fits its schema is decided by the [`Contract`](super::Contract).

use super::EventIndex;
use super::rule::{Member, Rule};
use super::scan::{Number, Scanner, Text};
use super::text::unescape;
use core::fmt;
use std::borrow::Cow;

/// A message that keeps every rule of the envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope<'t> {
    /// The event's name, unescaped. Borrowed from the message unless it is written with escapes.
    pub event: Cow<'t, str>,
    /// The event in the contract; `None` when it is not listed there, which the caller answers with `unknown_event`.
    pub index: Option<EventIndex>,
    /// `data` as JSON text, exactly as it was received; `null` when absent.
    pub data: &'t str,
    /// `id` as JSON text: a string with its quotes, or an integer. To be echoed by a reply as it is.
    pub id: Option<&'t str>,
    /// `status`, when present.
    pub status: Option<Status>,
}

/// The outcome that a message may carry in `status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// `"ok"`.
    Ok,
    /// `"error"`.
    Error,
}

impl Status {
    /// As it stands in a message: `"ok"` or `"error"`, without the quotes.
    pub fn name(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Error => "error",
        }
    }
}

/// A message that is no envelope. Says which rule and where, and nothing of what the peer wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadEnvelope {
    /// The broken rule.
    pub rule: Rule,
    /// The byte of the message at which it was seen.
    pub at: usize,
}

impl fmt::Display for BadEnvelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.rule, self.at)
    }
}

impl std::error::Error for BadEnvelope {}

/// What the envelope's members are, as far as they have been read.
#[derive(Default)]
struct Members<'t> {
    event: Option<Text>,
    data: Option<&'t str>,
    status: Option<Status>,
    id: Option<&'t str>,
}

/// Reads a whole text as an envelope. `find` knows the events.
pub(super) fn read<'t>(
    mut scan: Scanner<'t, '_>,
    find: impl FnOnce(&str) -> Option<EventIndex>,
) -> Result<Envelope<'t>, BadEnvelope> {
    envelope(&mut scan, find).map_err(|rule| BadEnvelope { rule, at: scan.at() })
}

/// On error the scanner stands at the byte that breaks the rule.
fn envelope<'t>(
    scan: &mut Scanner<'t, '_>,
    find: impl FnOnce(&str) -> Option<EventIndex>,
) -> Result<Envelope<'t>, Rule> {
    open(scan)?;
    let mut members = Members::default();
    if scan.peek() != b'}' {
        loop {
            member(scan, &mut members)?;
            scan.skip_space();
            match scan.peek() {
                b',' => scan.advance(),
                b'}' => break,
                _ => return Err(Rule::NotJson),
            }
            scan.skip_space();
        }
    }
    let Some(event) = members.event else { return Err(Rule::MissingEvent) };
    scan.advance();
    scan.skip_space();
    if !scan.is_at_end() {
        return Err(Rule::TrailingData);
    }
    let event = unescaped(event, scan.text());
    let index = find(&event);
    Ok(Envelope { event, index, data: members.data.unwrap_or("null"), id: members.id, status: members.status })
}

/// Steps over the opening brace, to the first key.
fn open(scan: &mut Scanner<'_, '_>) -> Result<(), Rule> {
    if scan.text().starts_with('\u{feff}') {
        return Err(Rule::ByteOrderMark);
    }
    scan.skip_space();
    if scan.peek() != b'{' {
        let rule = if begins_value(scan.peek()) { Rule::NotAnObject } else { Rule::NotJson };
        return Err(rule);
    }
    scan.advance();
    scan.skip_space();
    Ok(())
}

/// Reads one key of the envelope and its value.
fn member<'t>(scan: &mut Scanner<'t, '_>, members: &mut Members<'t>) -> Result<(), Rule> {
    let key_at = scan.at();
    let key = scan.key()?;
    let Some(member) = Member::of(scan.key_bytes(key)) else {
        return scan.broken_at(key_at, Rule::UnknownKey);
    };
    let start = scan.at();
    let again = match member {
        Member::Event => members.event.replace(string(scan, member)?).is_some(),
        Member::Data => {
            scan.value()?;
            members.data.replace(since(scan, start)).is_some()
        }
        Member::Status => {
            let text = unescaped(string(scan, member)?, scan.text());
            let status = match &*text {
                "ok" => Status::Ok,
                "error" => Status::Error,
                _ => return scan.broken_at(start, Rule::UnknownStatus),
            };
            members.status.replace(status).is_some()
        }
        Member::Id => {
            match scan.peek() {
                b'-' | b'0'..=b'9' => {
                    if scan.number()? != Number::Integer {
                        return scan.broken_at(start, Rule::WrongType(member));
                    }
                }
                _ => drop(string(scan, member)?),
            }
            members.id.replace(since(scan, start)).is_some()
        }
    };
    if again {
        return scan.broken_at(key_at, Rule::DuplicateKey);
    }
    Ok(())
}

/// A member that must be a string.
fn string(scan: &mut Scanner<'_, '_>, member: Member) -> Result<Text, Rule> {
    match scan.peek() {
        b'"' => scan.string(),
        other if begins_value(other) => Err(Rule::WrongType(member)),
        _ => Err(Rule::NotJson),
    }
}

fn begins_value(byte: u8) -> bool {
    matches!(byte, b'"' | b'{' | b'[' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n')
}

/// The text from `start` to where the scanner stands.
fn since<'t>(scan: &Scanner<'t, '_>, start: usize) -> &'t str {
    scan.text().get(start..scan.at()).unwrap_or_default()
}

fn unescaped(text: Text, message: &str) -> Cow<'_, str> {
    let raw = text.raw(message);
    if text.is_escaped() {
        let mut characters = String::with_capacity(raw.len());
        unescape(raw, &mut characters);
        Cow::Owned(characters)
    } else {
        Cow::Borrowed(raw)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{Contract, EventOptions, JsonLimits, Scratch};
    use std::collections::BTreeMap;

    fn contract() -> Contract {
        let events = ["say", "ping", "žába", "a\"b"].map(|name| (name.to_owned(), EventOptions::default()));
        Contract::compile(&BTreeMap::from(events), JsonLimits::default()).unwrap()
    }

    fn broken(text: &str) -> (Rule, usize) {
        match contract().read(text, &mut Scratch::new()) {
            Err(bad) => (bad.rule, bad.at),
            Ok(envelope) => panic!("accepted {text}: {envelope:?}"),
        }
    }

    #[test]
    fn every_member_is_found_in_any_order_and_spelling() {
        let contract = contract();
        for text in [
            r#"{"event":"say","data":[1, {"a":2}],"id":7,"status":"ok"}"#,
            "\n{ \"status\" : \"ok\" ,\t\"id\":7 ,\r\n\"data\" : [1, {\"a\":2}] , \"event\":\"say\" } ",
            r#"{"\u0065vent":"s\u0061y","d\u0061ta":[1, {"a":2}],"\u0069\u0064":7,"stat\u0075s":"\u006Fk"}"#,
        ] {
            let envelope = contract.read(text, &mut Scratch::new()).unwrap();
            assert_eq!(envelope.event, "say", "{text}");
            assert_eq!(envelope.index, contract.find("say"));
            assert!(envelope.index.is_some());
            assert_eq!(envelope.data, r#"[1, {"a":2}]"#);
            assert_eq!(envelope.id, Some("7"));
            assert_eq!(envelope.status, Some(Status::Ok));
        }
    }

    #[test]
    fn absent_members_have_their_defaults() {
        let contract = contract();
        let mut scratch = Scratch::new();
        let envelope = contract.read(r#"{"event":"say"}"#, &mut scratch).unwrap();
        assert_eq!((envelope.data, envelope.id, envelope.status), ("null", None, None));
        assert!(matches!(envelope.event, Cow::Borrowed("say")));
        let unknown = contract.read(r#"{"event":"nobody","data":null}"#, &mut scratch).unwrap();
        assert_eq!((unknown.index, unknown.data, &*unknown.event), (None, "null", "nobody"));
        let error = contract.read(r#"{"event":"","status":"error"}"#, &mut scratch).unwrap();
        assert_eq!((error.status.map(Status::name), error.index), (Some("error"), None));
    }

    #[test]
    fn names_are_compared_unescaped() {
        let contract = contract();
        for (text, name) in [
            (r#"{"event":"žába"}"#, "žába"),
            (r#"{"event":"\u017e\u00E1ba"}"#, "žába"),
            (r#"{"event":"a\"b"}"#, "a\"b"),
            (r#"{"event":"p\u0069ng"}"#, "ping"),
        ] {
            let envelope = contract.read(text, &mut Scratch::new()).unwrap();
            assert_eq!(envelope.event, name);
            assert_eq!(envelope.index.map(|index| contract.event(index).name()), Some(name));
        }
        let pair = contract.read(r#"{"event":"\uD83D\uDE00\b\f\n\r\t\/\\\u0000"}"#, &mut Scratch::new()).unwrap();
        assert_eq!(pair.event, "\u{1f600}\u{8}\u{c}\n\r\t/\\\0");
    }

    #[test]
    fn an_id_is_a_string_or_an_integer_and_echoed_as_written() {
        let contract = contract();
        for id in ["0", "-0", "-5", "9007199254740992", "-9007199254740992", r#""""#, r#""a\u0062\"""#] {
            let text = format!(r#"{{"event":"say","id":{id}}}"#);
            assert_eq!(contract.read(&text, &mut Scratch::new()).unwrap().id, Some(id));
        }
        for id in ["null", "1.0", "1e2", "true", "[1]", "{}"] {
            let text = format!(r#"{{"event":"say","id":{id}}}"#);
            assert_eq!(broken(&text), (Rule::WrongType(Member::Id), 20), "{text}");
        }
    }

    // THREATS J1.
    #[test]
    fn what_is_no_envelope_is_refused_by_the_rule_it_breaks() {
        for (text, rule, at) in [
            ("", Rule::NotJson, 0),
            (" \n", Rule::NotJson, 2),
            ("hello", Rule::NotJson, 0),
            ("{", Rule::NotJson, 1),
            ("}", Rule::NotJson, 0),
            ("\0", Rule::NotJson, 0),
            ("\u{feff}{\"event\":\"say\"}", Rule::ByteOrderMark, 0),
            ("\u{a0}{\"event\":\"say\"}", Rule::NotJson, 0),
            ("\u{c}{\"event\":\"say\"}", Rule::NotJson, 0),
            ("[]", Rule::NotAnObject, 0),
            ("null", Rule::NotAnObject, 0),
            ("true", Rule::NotAnObject, 0),
            (" 12", Rule::NotAnObject, 1),
            (r#""event""#, Rule::NotAnObject, 0),
            ("{}", Rule::MissingEvent, 1),
            (r#"{"data":1}"#, Rule::MissingEvent, 9),
            (r#"{"event":1}"#, Rule::WrongType(Member::Event), 9),
            (r#"{"event":null}"#, Rule::WrongType(Member::Event), 9),
            (r#"{"event":["say"]}"#, Rule::WrongType(Member::Event), 9),
            (r#"{"event":say}"#, Rule::NotJson, 9),
            (r#"{"event":"say","status":true}"#, Rule::WrongType(Member::Status), 24),
            (r#"{"event":"say","status":null}"#, Rule::WrongType(Member::Status), 24),
            (r#"{"event":"say","status":"OK"}"#, Rule::UnknownStatus, 24),
            (r#"{"event":"say","status":""}"#, Rule::UnknownStatus, 24),
            (r#"{"event":"say","extra":1}"#, Rule::UnknownKey, 15),
            (r#"{"Event":"say"}"#, Rule::UnknownKey, 1),
            (r#"{"":"say"}"#, Rule::UnknownKey, 1),
            (r#"{"event":"say"}{}"#, Rule::TrailingData, 15),
            (r#"{"event":"say"} x"#, Rule::TrailingData, 16),
            ("{\"event\":\"say\"}\0", Rule::TrailingData, 15),
            (r#"{"event":"say"},"#, Rule::TrailingData, 15),
            (r#"{"event":"say",}"#, Rule::NotJson, 15),
            (r#"{,"event":"say"}"#, Rule::NotJson, 1),
            (r#"{"event" "say"}"#, Rule::NotJson, 9),
            (r#"{"event":"say" "data":1}"#, Rule::NotJson, 15),
            (r#"{"event":"say","data"}"#, Rule::NotJson, 21),
            (r#"{"event":"say","data":}"#, Rule::NotJson, 22),
            (r#"{"event":"say"]"#, Rule::NotJson, 14),
            (r"{'event':'say'}", Rule::NotJson, 1),
            (r#"{event:"say"}"#, Rule::NotJson, 1),
            (r#"{"event":"say"/**/}"#, Rule::NotJson, 14),
            (r#"{"event":"say","data":1//x"#, Rule::NotJson, 23),
        ] {
            assert_eq!(broken(text), (rule, at), "{text}");
        }
    }

    // THREATS J3 and J4 in the envelope itself.
    #[test]
    fn keys_of_the_envelope_are_unique_and_harmless() {
        for (text, rule, at) in [
            (r#"{"event":"say","event":"say"}"#, Rule::DuplicateKey, 15),
            (r#"{"event":"say","\u0065vent":"say"}"#, Rule::DuplicateKey, 15),
            (r#"{"data":1,"data":1,"event":"say"}"#, Rule::DuplicateKey, 10),
            (r#"{"id":1,"event":"say","i\u0064":1}"#, Rule::DuplicateKey, 22),
            (r#"{"status":"ok","event":"say","status":"ok"}"#, Rule::DuplicateKey, 29),
            (r#"{"__proto__":{},"event":"say"}"#, Rule::ForbiddenKey, 1),
            (r#"{"event":"say","constructor":1}"#, Rule::ForbiddenKey, 15),
            (r#"{"event":"say","proto\u0074ype":1}"#, Rule::ForbiddenKey, 15),
        ] {
            assert_eq!(broken(text), (rule, at), "{text}");
        }
    }

    #[test]
    fn an_error_names_the_rule_and_nothing_of_the_message() {
        let bad = contract().read(r#"{"secret":1}"#, &mut Scratch::new()).unwrap_err();
        assert_eq!(bad.to_string(), "unknown key in the envelope at byte 1");
        assert_eq!(bad.rule.name(), "unknown_key");
        let bad = contract().read(r#"{"event":7}"#, &mut Scratch::new()).unwrap_err();
        assert_eq!(bad.to_string(), "wrong type of `event` at byte 9");
    }
}
