//! What came back on an open connection, and what that says about what was sent: decisions without a socket.

use std::collections::BTreeMap;

use super::frame::Frame;
use super::likeness::{Likeness, kind};
use super::text::{shown, shown_bytes};
pub(crate) use crate::wire::End;

/// How many messages of the server are kept.
const KEPT_TEXTS: usize = 8;
/// How many texts that are no answers are told apart; further ones count as one.
const KEPT_KINDS: usize = 300;

/// Everything that came on a connection since its 101.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) messages: u64,
    pub(crate) pings: u64,
    /// The server's last ping, as long as nobody has answered it.
    pub(crate) owed: Option<Vec<u8>>,
    pub(crate) pongs: u64,
    pub(crate) last_pong: Vec<u8>,
    pub(crate) texts: Vec<String>,
    /// What answers to the ordinary message have in common, where that is known.
    pub(crate) like: Vec<Likeness>,
    /// How many answers like one of these there were.
    pub(crate) alike: u64,
    /// How often each text came that differs from those by its numbers alone, as far as they are kept.
    pub(crate) variants: BTreeMap<String, u64>,
    /// How often other texts came, by their kind, and the first of each.
    pub(crate) others: BTreeMap<String, (u64, String)>,
    /// The bytes of all messages.
    pub(crate) bytes: u64,
    /// The code and the reason of the server's close frame; no code is 1005, as RFC 6455 names it.
    pub(crate) close: Option<(u16, String)>,
    pub(crate) end: Option<End>,
}

impl Seen {
    pub(crate) fn note(&mut self, frame: &Frame) {
        match frame.opcode() {
            8 => {
                let code = frame.start.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
                let reason = frame.start.get(2..).map(shown_bytes).unwrap_or_default();
                self.close.get_or_insert((code, reason));
            }
            9 => {
                self.pings += 1;
                self.owed = Some(frame.start.clone());
            }
            10 => {
                self.pongs += 1;
                self.last_pong.clone_from(&frame.start);
            }
            _ => {
                if frame.opcode() == 1 && (self.texts.len() < KEPT_TEXTS || !self.like.is_empty()) {
                    let text = String::from_utf8_lossy(&frame.start).into_owned();
                    if self.texts.len() < KEPT_TEXTS {
                        self.texts.push(text.clone());
                    }
                    self.tell_apart(text, frame.len);
                }
                self.bytes += frame.len;
                self.messages += u64::from(frame.ends_message());
            }
        }
    }

    fn tell_apart(&mut self, text: String, bytes: u64) {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        let count = self.like.iter().map(|like| like.count(&text, bytes)).max().unwrap_or_default();
        let is_room = |kept: usize| kept < KEPT_KINDS;
        if count > 0 || self.like.is_empty() {
            self.alike += count;
        } else if self.like.iter().any(|like| like.fits_but_for_numbers(&text)) {
            let text = if is_room(self.variants.len()) { text } else { String::new() };
            *self.variants.entry(text).or_default() += 1;
        } else {
            let kind = if is_room(self.others.len()) { kind(&text) } else { String::new() };
            self.others.entry(kind).or_insert((0, text)).0 += 1;
        }
    }

    /// Whether a text that is no answer may be the word of a limit.
    pub(crate) fn may_refuse(&self, text: &str) -> bool {
        self.like.iter().all(|like| like.may_refuse(text))
    }

    /// How many messages may be answers to the ordinary one.
    pub(crate) fn answers(&self) -> u64 {
        if self.like.is_empty() { self.messages } else { self.alike }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.close.is_some() || self.end.is_some()
    }

    /// Whether the server ended it of its own will, and not for want of an answer to its ping.
    pub(crate) fn is_thrown_out(&self) -> bool {
        let is_ended = self.close.is_some() || matches!(self.end, Some(End::Closed | End::Reset | End::Alert(_)));
        is_ended && !self.may_be_a_heartbeat()
    }

    /// Whether it was ended with a code that says how something came.
    pub(crate) fn fails_by_protocol(&self) -> bool {
        self.close.as_ref().is_some_and(|(code, _)| OF_THE_PROTOCOL.contains(code))
    }

    /// Whether the server took a client of Socket.IO out of its namespace: the connection below may stay.
    pub(crate) fn has_left_socket_io(&self) -> bool {
        self.texts.iter().any(|text| text.starts_with("41"))
    }

    /// Whether the last pong answers this ping.
    pub(crate) fn answered(&self, tag: &str) -> bool {
        self.last_pong == tag.as_bytes()
    }

    /// Whether it may have ended because nobody answered a ping: so end servers with heartbeats, by 1011 or without a word.
    fn may_be_a_heartbeat(&self) -> bool {
        self.owed.is_some() && self.close.as_ref().is_none_or(|(code, _)| *code == 1011)
    }

    /// How it ended, for people.
    pub(crate) fn ending(&self) -> Option<String> {
        match (&self.close, self.end) {
            (Some((1005, _)), _) => Some("closed without a code".to_owned()),
            (Some((code, reason)), _) if reason.is_empty() => Some(format!("closed with {code}")),
            (Some((code, reason)), _) => Some(format!("closed with {code} ({})", shown(reason))),
            (None, Some(end)) => Some(end.shown()),
            (None, None) => None,
        }
    }
}

/// Whether an end may be about what a message says, rather than how it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// The application sees nothing of it.
    Hidden,
    /// The application may count it, and sees nothing else of it.
    Counted,
    /// The same message is taken when it comes as it should.
    Taken,
    /// The same message is taken when it comes as it should, and a second one ends the connection, in this way.
    Once(String),
    /// The same message ends a connection by itself, and how.
    Refused(String),
}

/// What became of something that should not be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Bait {
    /// The server goes on as if nothing had been.
    Taken(String),
    /// It ended the connection.
    Refused(String),
    /// It cannot be told, and why.
    Unclear(String),
}

/// The codes with which an endpoint fails a connection for how something came: RFC 6455 section 7.4.1.
const OF_THE_PROTOCOL: [u16; 3] = [1002, 1007, 1009];

/// Judges what came after something wrong, with a ping behind it: whoever answers the ping, and goes on, has taken what was before
/// it. An answer alone says little: many servers answer pings before the application has read the message.
pub(crate) fn bait(seen: &Seen, tag: &str, content: &Content) -> Bait {
    let Some(ending) = seen.ending() else {
        return if seen.answered(tag) {
            Bait::Taken("the ping behind it was answered".to_owned())
        } else {
            Bait::Unclear("neither an end nor an answer to the ping behind it came in time".to_owned())
        };
    };
    match (&seen.close, seen.end, content) {
        // An application may have such a code for what it cannot read, too.
        (Some(_), _, Content::Refused(how)) if *how == ending => unclear_content(&ending, how),
        _ if seen.fails_by_protocol() => Bait::Refused(ending),
        (None, Some(End::Garbage(_) | End::TooMuch | End::Stuck), _) => Bait::Unclear(ending),
        // While a long frame is under way nobody can answer.
        _ if seen.may_be_a_heartbeat() => {
            Bait::Unclear(format!("{ending}, and a ping of the server had come to which there was no answer yet"))
        }
        // An application's own code (RFC 6455 section 7.4.2): who sends nothing that it waits for is closed for that.
        (Some((3000..=4999, _)), _, Content::Hidden) => {
            Bait::Unclear(format!("{ending}, a code of the application, which sees nothing of what was sent"))
        }
        (.., Content::Hidden | Content::Counted | Content::Taken | Content::Once(_)) => Bait::Refused(ending),
        (.., Content::Refused(how)) => unclear_content(&ending, how),
    }
}

fn unclear_content(ending: &str, how: &str) -> Bait {
    Bait::Unclear(format!(
        "{ending}, but so ends a connection that sends the same message as it should ({how}); give one that is valid with --message"
    ))
}

/// Judges the answer to a close frame that must not be sent: it may not be taken for an ordinary end.
pub(crate) fn bad_close(seen: &Seen, sent: Option<u16>) -> Bait {
    match (&seen.close, seen.end) {
        (Some((code, _)), _) if sent == Some(*code) || *code == 1000 => {
            Bait::Taken(format!("{}, as if it were an ordinary end", seen.ending().unwrap_or_default()))
        }
        (Some(_), _) | (None, Some(End::Closed | End::Reset | End::Alert(_))) => {
            Bait::Refused(seen.ending().unwrap_or_default())
        }
        (None, Some(end)) => Bait::Unclear(end.shown()),
        (None, None) => Bait::Taken("the connection stayed open".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(frames: &[(u8, &[u8])]) -> Seen {
        let mut seen = Seen::default();
        for (first, payload) in frames {
            seen.note(&Frame { first: *first, len: payload.len() as u64, start: payload.to_vec() });
        }
        seen
    }

    #[test]
    fn an_answered_ping_means_taken() {
        assert!(matches!(bait(&seen(&[(0x8a, b"after")]), "after", &Content::Hidden), Bait::Taken(_)));
        assert!(matches!(bait(&seen(&[(0x8a, b"control")]), "after", &Content::Hidden), Bait::Unclear(_)));
        // The application refuses later than the library answers.
        let late = seen(&[(0x8a, b"after"), (0x88, &[0x03, 0xef])]);
        assert!(matches!(bait(&late, "after", &Content::Taken), Bait::Refused(_)));
    }

    #[test]
    fn an_end_is_a_refusal_unless_the_content_ends_it_too() {
        let refused = Content::Refused("closed with 1008".into());
        let policy = seen(&[(0x88, &[0x03, 0xf0, b'n', b'o'])]);
        assert_eq!(bait(&policy, "after", &Content::Taken), Bait::Refused("closed with 1008 (no)".into()));
        assert!(matches!(bait(&policy, "after", &refused), Bait::Unclear(_)));
        let protocol = seen(&[(0x88, &[0x03, 0xea])]);
        assert_eq!(bait(&protocol, "after", &refused), Bait::Refused("closed with 1002".into()));
        // STOMP's servers answer what they cannot read with an ERROR and, some of them, 1002.
        let also = Content::Refused("closed with 1002".into());
        assert!(matches!(bait(&protocol, "after", &also), Bait::Unclear(_)));
        let dropped = Seen { end: Some(End::Reset), ..Seen::default() };
        assert!(matches!(bait(&dropped, "after", &Content::Hidden), Bait::Refused(_)));
        // "Send your credential within a second" is no word about a frame.
        let late = seen(&[(0x88, &[0x11, 0x31])]);
        assert!(matches!(bait(&late, "after", &Content::Hidden), Bait::Unclear(_)));
        for content in [Content::Counted, Content::Taken] {
            assert!(matches!(bait(&late, "after", &content), Bait::Refused(_)), "{content:?}");
        }
        let stuck = Seen { end: Some(End::Stuck), ..Seen::default() };
        assert!(matches!(bait(&stuck, "after", &Content::Hidden), Bait::Unclear(_)));
    }

    /// A server with heartbeats ends a connection that is in the middle of a long frame.
    #[test]
    fn an_end_that_a_heartbeat_may_have_made_is_no_refusal() {
        let internal: (u8, &[u8]) = (0x88, &[0x03, 0xf3]);
        let of = |seen: &Seen| bait(seen, "after", &Content::Taken);
        assert!(matches!(of(&seen(&[(0x89, b"beat"), internal])), Bait::Unclear(_)));
        assert!(matches!(of(&Seen { end: Some(End::Reset), ..seen(&[(0x89, b"")]) }), Bait::Unclear(_)));
        assert!(matches!(of(&seen(&[(0x89, b"beat"), (0x88, &[0x03, 0xf1])])), Bait::Refused(_)));
        let answered = Seen { owed: None, ..seen(&[(0x89, b"beat"), internal]) };
        assert!(matches!(of(&answered), Bait::Refused(_)));
    }

    #[test]
    fn forbidden_codes_must_not_come_back() {
        assert!(matches!(bad_close(&seen(&[(0x88, &[0x03, 0xed])]), Some(1005)), Bait::Taken(_)));
        assert!(matches!(bad_close(&seen(&[(0x88, &[0x03, 0xe8])]), None), Bait::Taken(_)));
        assert!(matches!(bad_close(&seen(&[(0x88, &[0x03, 0xea])]), Some(1005)), Bait::Refused(_)));
        assert!(matches!(bad_close(&Seen::default(), Some(1005)), Bait::Taken(_)));
        let dropped = Seen { end: Some(End::Closed), ..Seen::default() };
        assert!(matches!(bad_close(&dropped, None), Bait::Refused(_)));
    }

    #[test]
    fn what_comes_is_counted_and_little_is_kept() {
        let seen = seen(&[(0x01, b"he"), (0x80, b"llo"), (0x89, b""), (0x82, b"x")]);
        assert_eq!((seen.messages, seen.pings, seen.texts.len()), (2, 1, 1));
        assert!(!seen.is_over() && seen.ending().is_none());
    }
}
