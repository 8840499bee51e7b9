//! The bytes of messages between nodes, and of those from outside.
//!
//! Anybody with the password of Redis may send anything: what is no message is `None`, and nothing is believed that was not
//! checked. A message of a node: 1, version, node, a number that grows by one with each message of the node, kind, and what
//! belongs to the kind. A message from outside is JSON: `{"event": …, "data": …}`.

use std::sync::Arc;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::ops::{Kind, Message, NodeId, Topic};
use super::sound::Sound;
use super::topic::topic_name;
use crate::auth::check_user;
use crate::codec::CloseFrame;
use crate::outgoing;

/// The longest message that is published or heard, in bytes.
pub(super) const MAX_BYTES: usize = 32 << 20;

/// Connections in one part of an answer.
pub(super) const MAX_ANSWER: usize = 65_536;

/// The longest name of an event from outside, in bytes, as of those in a contract.
const MAX_EVENT_BYTES: usize = 128;

/// Begins each message of a node.
pub(super) const FIRST: u8 = 1;
const VERSION: u8 = 1;
const IS_PLAIN: u8 = 1;
const IS_LISTED: u8 = 2;

/// What a node says to others.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum What {
    /// For members.
    Message(Message),
    /// The sender has members of this topic from now on; on [`Topic::All`]: it is in the cluster.
    Joined,
    /// The receiver is to share this user.
    Share(Arc<str>),
    /// The log has something new.
    Look,
    /// Who is there?
    Asked { question: u64, topic: Topic },
    /// The answer, or a part of it.
    Answer { question: u64, is_last: bool, connections: Vec<u64> },
    /// The sender wants to hear itself.
    Probe,
}

/// A message of a node.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Said {
    pub(super) from: NodeId,
    pub(super) number: u64,
    pub(super) what: What,
}

/// What came on a channel.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Heard {
    Node(Said),
    Outside(Message),
}

/// The bytes of a message. With `is_listed` they name the topics they are for, otherwise they are for the one they come by.
pub(super) fn encode(from: NodeId, number: u64, what: &What, is_listed: bool) -> Vec<u8> {
    let mut out = vec![FIRST, VERSION];
    out.extend_from_slice(&from.0);
    out.extend_from_slice(&number.to_be_bytes());
    out.push(kind_of(what));
    match what {
        What::Message(message) => push_message(&mut out, message, is_listed),
        What::Joined | What::Look | What::Probe => {}
        What::Share(user) => out.extend_from_slice(user.as_bytes()),
        What::Asked { question, topic } => {
            out.extend_from_slice(&question.to_be_bytes());
            push_topic(&mut out, topic);
        }
        What::Answer { question, is_last, connections } => {
            out.extend_from_slice(&question.to_be_bytes());
            out.push(u8::from(*is_last));
            out.extend(connections.iter().flat_map(|id| id.to_be_bytes()));
        }
    }
    out
}

fn kind_of(what: &What) -> u8 {
    match what {
        What::Message(message) => match message.kind {
            Kind::Event => 1,
            Kind::Text => 2,
            Kind::Binary => 3,
            Kind::Close => 4,
            Kind::Clear => 5,
        },
        What::Joined => 6,
        What::Share(_) => 7,
        What::Look => 8,
        What::Asked { .. } => 9,
        What::Answer { .. } => 10,
        What::Probe => 11,
    }
}

fn push_message(out: &mut Vec<u8>, message: &Message, is_listed: bool) {
    let plain = if message.plain { IS_PLAIN } else { 0 };
    out.push(plain | if is_listed { IS_LISTED } else { 0 });
    if is_listed {
        out.extend_from_slice(&(message.to.len() as u16).to_be_bytes());
        message.to.iter().for_each(|topic| push_topic(out, topic));
    }
    out.extend_from_slice(&message.payload);
}

fn push_topic(out: &mut Vec<u8>, topic: &Topic) {
    let (tag, name) = match topic {
        Topic::All | Topic::Node(_) => (0, ""),
        Topic::Room(room) => (1, &**room),
        Topic::User(user) => (2, &**user),
    };
    out.push(tag);
    out.extend_from_slice(&(name.len() as u16).to_be_bytes());
    out.extend_from_slice(name.as_bytes());
}

/// What came on the channel of `topic`; `None`: it is nothing that belongs there.
pub(super) fn parse(topic: &Topic, bytes: &[u8]) -> Option<Heard> {
    match bytes.first()? {
        _ if bytes.len() > MAX_BYTES => None,
        &FIRST => said(topic, &bytes[1..]).map(Heard::Node),
        b'{' | b' ' | b'\t' | b'\n' | b'\r' => outside(topic, bytes).map(Heard::Outside),
        _ => None,
    }
}

fn said(topic: &Topic, bytes: &[u8]) -> Option<Said> {
    let mut rest = Rest(bytes);
    if rest.byte()? != VERSION {
        return None;
    }
    let from = NodeId(rest.array()?);
    let number = u64::from_be_bytes(rest.array()?);
    let kind = rest.byte()?;
    let is_ours = matches!(topic, Topic::Node(_));
    let what = match kind {
        1..=5 if !is_ours => What::Message(message(topic, kind, rest)?),
        6 if !is_ours => rest.end(What::Joined)?,
        7 if is_ours => {
            let user = core::str::from_utf8(rest.0).ok().filter(|user| check_user(user).is_ok())?;
            What::Share(user.into())
        }
        8 if *topic == Topic::All => rest.end(What::Look)?,
        9 if !is_ours => {
            let question = u64::from_be_bytes(rest.array()?);
            let asked = rest.topic()?;
            (asked == *topic || *topic == Topic::All).then_some(())?;
            rest.end(What::Asked { question, topic: asked })?
        }
        10 if is_ours => answer(rest)?,
        11 if is_ours => rest.end(What::Probe)?,
        _ => return None,
    };
    Some(Said { from, number, what })
}

fn answer(mut rest: Rest<'_>) -> Option<What> {
    let question = u64::from_be_bytes(rest.array()?);
    let is_last = match rest.byte()? {
        0 => false,
        1 => true,
        _ => return None,
    };
    let (ids, left) = rest.0.as_chunks::<8>();
    if !left.is_empty() || ids.len() > MAX_ANSWER {
        return None;
    }
    let connections = ids.iter().map(|id| u64::from_be_bytes(*id)).collect();
    Some(What::Answer { question, is_last, connections })
}

fn message(topic: &Topic, kind: u8, mut rest: Rest<'_>) -> Option<Message> {
    let flags = rest.byte()?;
    if flags & !(IS_PLAIN | IS_LISTED) != 0 {
        return None;
    }
    let to = if flags & IS_LISTED == 0 { vec![topic.clone()] } else { rest.topics(topic)? };
    let payload = rest.0;
    let kind = match kind {
        1 => Kind::Event,
        2 => Kind::Text,
        3 => Kind::Binary,
        4 => Kind::Close,
        _ => Kind::Clear,
    };
    let is_sound = match kind {
        Kind::Event => is_event(payload),
        Kind::Text => simdutf8::basic::from_utf8(payload).is_ok(),
        Kind::Binary => true,
        Kind::Close => payload.len() <= 125 && CloseFrame::parse(payload).is_ok_and(|frame| frame.code.is_some()),
        Kind::Clear => payload.is_empty(),
    };
    is_sound.then(|| Message { to, kind, plain: flags & IS_PLAIN != 0, payload: payload.into() })
}

#[derive(Deserialize)]
struct Outside<'t> {
    #[serde(borrow)]
    event: std::borrow::Cow<'t, str>,
    #[serde(borrow)]
    data: &'t RawValue,
}

/// Whether a client can read it: an object by the grammar of JSON, whatever the application on the other node has put in. It is
/// checked here: whoever may PUBLISH can write what looks like a node's.
fn is_event(payload: &[u8]) -> bool {
    payload.first() == Some(&b'{')
        && simdutf8::basic::from_utf8(payload).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
}

fn outside(topic: &Topic, bytes: &[u8]) -> Option<Message> {
    if matches!(topic, Topic::Node(_)) {
        return None;
    }
    let Outside { event, data } = serde_json::from_slice(bytes).ok()?;
    if event.is_empty() || event.len() > MAX_EVENT_BYTES || event.chars().any(char::is_control) {
        return None;
    }
    let Sound = serde_json::from_str(data.get()).ok()?;
    let payload = outgoing::event_text(&event, data.get());
    Some(Message { to: vec![topic.clone()], kind: Kind::Event, plain: false, payload: payload.into() })
}

/// What is left of the bytes.
struct Rest<'t>(&'t [u8]);

impl<'t> Rest<'t> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    fn byte(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn bytes(&mut self, len: usize) -> Option<&'t [u8]> {
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }

    fn topic(&mut self) -> Option<Topic> {
        let tag = self.byte()?;
        let len = u16::from_be_bytes(self.array()?);
        let name = self.bytes(len.into())?;
        match tag {
            0 => name.is_empty().then_some(Topic::All),
            1 => topic_name(name).map(Topic::Room),
            2 => topic_name(name).map(Topic::User),
            _ => None,
        }
    }

    /// A list of topics in which the one that it came by is; on [`Topic::All`] any list may come.
    fn topics(&mut self, by: &Topic) -> Option<Vec<Topic>> {
        let count = u16::from_be_bytes(self.array()?);
        let topics: Vec<_> = (0..count).map(|_| self.topic()).collect::<Option<_>>()?;
        (!topics.is_empty() && (*by == Topic::All || topics.contains(by))).then_some(topics)
    }

    fn end(&self, what: What) -> Option<What> {
        self.0.is_empty().then_some(what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FROM: NodeId = NodeId([7; 16]);

    fn heard(topic: &Topic, bytes: &[u8]) -> Option<What> {
        match parse(topic, bytes)? {
            Heard::Node(said) => Some(said.what),
            Heard::Outside(message) => Some(What::Message(message)),
        }
    }

    fn topics() -> impl Strategy<Value = Topic> {
        prop_oneof![
            Just(Topic::All),
            "[^\0]{1,20}".prop_map(|room| Topic::Room(room.into())),
            "[a-z]{1,20}".prop_map(|user| Topic::User(user.into())),
        ]
    }

    #[test]
    fn from_outside_comes_json_or_nothing() {
        let room = Topic::Room("lobby".into());
        let text = |json: &str| match heard(&room, json.as_bytes()) {
            Some(What::Message(message)) => Some(String::from_utf8(message.payload.to_vec()).unwrap()),
            _ => None,
        };
        let expected = r#"{"event":"say","data":[1, 2],"status":"ok"}"#;
        assert_eq!(text(r#"{"event":"say","data":[1, 2]}"#).as_deref(), Some(expected));
        assert!(text(r#"{"event":"say","data":{"a":[1,-1,1.5,null,true,"\ud83d\ude00"]}}"#).is_some());
        assert_eq!(text(" \n{\"data\":[1, 2],\"event\":\"say\",\"more\":1} ").as_deref(), Some(expected));
        for none in [
            "",
            "{}",
            "{",
            "[]",
            "null",
            r#"{"event":"say"}"#,
            r#"{"event":1,"data":1}"#,
            r#"{"event":"","data":1}"#,
            r#"{"event":"a\nb","data":1}"#,
            r#"{"event":"a","event":"b","data":1}"#,
            r#"{"event":"a","data":1} x"#,
            r#"{"event":"a","data":nope}"#,
            r#"{"event":"a","data":"\ud800"}"#,
            r#"{"event":"a","data":[{"\udc00":1}]}"#,
            r#"{"event":"\ud800","data":1}"#,
        ] {
            assert_eq!(text(none), None, "{none}");
        }
        assert_eq!(heard(&room, b"{\"event\":\"a\",\"data\":\"\xff\"}"), None);
        assert_eq!(heard(&Topic::Node(FROM), br#"{"event":"say","data":1}"#), None);
    }

    #[test]
    fn only_what_belongs_on_a_channel_is_heard_there() {
        let own = Topic::Node(NodeId([1; 16]));
        let room = Topic::Room("r".into());
        let message = |kind, payload: &[u8]| {
            What::Message(Message { to: vec![room.clone()], kind, plain: true, payload: payload.into() })
        };
        let asked = What::Asked { question: 1, topic: room.clone() };
        let answer = What::Answer { question: 1, is_last: true, connections: vec![1, u64::MAX] };
        for (what, all, here, to_us) in [
            (message(Kind::Text, b"x"), true, true, false),
            (message(Kind::Text, b"\xff"), false, false, false),
            (message(Kind::Event, b"\xff"), false, false, false),
            (message(Kind::Event, b"{\"event\":\"x\""), false, false, false),
            (message(Kind::Event, b"\x01\x01"), false, false, false),
            (message(Kind::Close, &1000u16.to_be_bytes()), true, true, false),
            (message(Kind::Close, &1006u16.to_be_bytes()), false, false, false),
            (message(Kind::Close, b""), false, false, false),
            (message(Kind::Clear, b""), true, true, false),
            (message(Kind::Clear, b"x"), false, false, false),
            (What::Joined, true, true, false),
            (What::Look, true, false, false),
            (asked, true, true, false),
            (answer, false, false, true),
            (What::Share("u".into()), false, false, true),
            (What::Share("\n".into()), false, false, false),
            (What::Probe, false, false, true),
        ] {
            let bytes = encode(FROM, 1, &what, true);
            for (topic, is_heard) in [(&Topic::All, all), (&room, here), (&own, to_us)] {
                let heard = heard(topic, &bytes);
                assert_eq!(heard, is_heard.then(|| what.clone()), "{what:?} on {topic:?}");
            }
        }
        // A room that is not in the list.
        let other = encode(FROM, 1, &message(Kind::Text, b"x"), true);
        assert_eq!(heard(&Topic::Room("s".into()), &other), None);
    }

    proptest! {
        #[test]
        fn what_is_said_is_heard(
            to in prop::collection::vec(topics(), 1..5), is_listed: bool, plain: bool, payload: Vec<u8>, number: u64,
        ) {
            let by = to[0].clone();
            let to = if is_listed { to } else { vec![by.clone()] };
            let what = What::Message(Message { to, kind: Kind::Binary, plain, payload: payload.into() });
            let expected = Heard::Node(Said { from: FROM, number, what: what.clone() });
            prop_assert_eq!(parse(&by, &encode(FROM, number, &what, is_listed)), Some(expected));
        }

        /// Cut, changed or random bytes are at most another message.
        #[test]
        fn no_bytes_panic(to in topics(), mut bytes: Vec<u8>, is_ours: bool, changes in prop::collection::vec((0usize..80, any::<u8>()), 0..4), cut in 0usize..80) {
            let topic = if is_ours { Topic::Node(FROM) } else { to };
            let _ = parse(&topic, &bytes);
            bytes.insert(0, 1);
            let _ = parse(&topic, &bytes);
            let message = Message { to: vec![topic.clone(), Topic::All], kind: Kind::Text, plain: false, payload: b"abc"[..].into() };
            for what in [What::Message(message), What::Answer { question: 1, is_last: false, connections: vec![1, 2] }] {
                let mut bytes = encode(FROM, 1, &what, true);
                for (at, byte) in &changes {
                    let len = bytes.len();
                    bytes[at % len] = *byte;
                }
                bytes.truncate(cut.max(1));
                let _ = parse(&topic, &bytes);
            }
        }
    }
}
