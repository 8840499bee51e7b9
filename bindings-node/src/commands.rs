//! A tick's commands from JavaScript: one buffer of words, one of bytes, one text. `lib/outbox.js` writes them.
//!
//! The lengths of all commands are checked before the first is executed. If they do not match the buffers exactly, none is:
//! every command behind the fault would read the bytes of another one.

use std::borrow::Cow;

use serde_json::{Value, json};
use wsguard::binding::{ConnectionId, DataOpcode, Error, Fragment, Sent, ServerHandle, Speaker, To};

use crate::connections::{Connections, NO_PLACE, join_u64};
use crate::error;
use crate::text::Utf16Pieces;

// Commands: word 0 of each. `lib/records.js` reads these numbers from here.
const BINARY: u32 = 1;
const TEXT: u32 = 2;
const EMIT: u32 = 3;
const REPLY: u32 = 4;
const FAIL: u32 = 5;
const REPLY_ERROR: u32 = 6;
const REQUEST: u32 = 7;
const TEXT_BYTES: u32 = 8;
const PING: u32 = 9;
const PONG: u32 = 10;
const FRAGMENT: u32 = 11;
/// Commands from here on are for an audience, those below for a connection.
const BROADCAST: u32 = 32;
const BROADCAST_TEXT: u32 = 33;
const BROADCAST_BINARY: u32 = 34;
/// A flag of a message's command: it is not to be compressed.
const PLAIN: u32 = 1 << 16;

// Audiences of a broadcast.
const TO_EVERYONE: u32 = 1;
const TO_ROOMS: u32 = 2;
const TO_USER: u32 = 3;

/// Of a fragment's word: its opcode (RFC 6455 section 5.2), and whether it is the last of its message.
const OPCODE: u32 = 0xf;
const FIN: u32 = 1 << 7;

/// A flag of a payload's length: the payload is the large one of the call, not part of the bytes.
const LARGE: u32 = 1 << 31;
/// The size of an id: two words.
const CONN_BYTES: usize = 8;
/// In place of an event's length: the event is that of the command before.
const SAME_EVENT: u32 = u32::MAX;

/// The numbers by JavaScript's names.
pub(crate) const NUMBERS: [(&str, u32); 20] = [
    ("SEND_BINARY", BINARY),
    ("SEND_TEXT", TEXT),
    ("SEND_TEXT_BYTES", TEXT_BYTES),
    ("SEND_PING", PING),
    ("SEND_PONG", PONG),
    ("SEND_FRAGMENT", FRAGMENT),
    ("EMIT", EMIT),
    ("REPLY", REPLY),
    ("FAIL", FAIL),
    ("REPLY_ERROR", REPLY_ERROR),
    ("REQUEST", REQUEST),
    ("TO_EVERYONE", TO_EVERYONE),
    ("TO_ROOMS", TO_ROOMS),
    ("TO_USER", TO_USER),
    ("BROADCAST", BROADCAST),
    ("BROADCAST_TEXT", BROADCAST_TEXT),
    ("BROADCAST_BINARY", BROADCAST_BINARY),
    ("PLAIN", PLAIN),
    ("LARGE", LARGE),
    ("SAME_EVENT", SAME_EVENT),
];

/// The results that JavaScript must know: the connections that do not read, and errors.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    queued: Vec<Value>,
    errors: Vec<Value>,
}

impl Outcome {
    pub(crate) fn into_json(self) -> Option<String> {
        let quiet = self.queued.is_empty() && self.errors.is_empty();
        (!quiet).then(|| json!({"queued": self.queued, "errors": self.errors}).to_string())
    }

    fn note(&mut self, conn: Option<ConnectionId>, result: Result<Sent, Error>, connections: &Connections) {
        let place = || conn.map_or(NO_PLACE, |conn| connections.place(conn));
        match result {
            // A connection that has closed meanwhile is no error; its close event is on its way.
            Ok(Sent::Sent) | Err(Error::ConnectionClosed) => {}
            Ok(Sent::Queued) => {
                let place = place();
                if place != NO_PLACE && self.queued.last() != Some(&place.into()) {
                    self.queued.push(place.into());
                }
            }
            Err(error) => {
                self.errors.push(json!({"code": error.code(), "message": error::message(&error), "place": place()}));
            }
        }
    }
}

/// Reads the commands in order.
pub(crate) struct Commands<'c> {
    words: &'c [u8],
    bytes: &'c [u8],
    large: Option<&'c [u8]>,
    text: Utf16Pieces<'c>,
    event: Cow<'c, str>,
}

impl<'c> Commands<'c> {
    /// Returns `None` if the lengths in the commands do not match the buffers.
    pub(crate) fn new(words: &'c [u8], bytes: &'c [u8], large: Option<&'c [u8]>, text: &'c str) -> Option<Self> {
        let needed = Needed::of(words)?;
        let units = if text.is_ascii() { text.len() } else { text.encode_utf16().count() };
        let fits = needed.units == units as u64 && needed.bytes == bytes.len() as u64;
        let large_fits = needed.large == large.map(|payload| payload.len() as u64);
        (fits && large_fits).then(|| Self { words, bytes, large, text: Utf16Pieces::new(text), event: Cow::default() })
    }

    fn word(&mut self) -> u32 {
        take_word(&mut self.words).unwrap_or_default()
    }

    fn conn(&mut self) -> ConnectionId {
        let (low, high) = (self.word(), self.word());
        ConnectionId::from_u64(join_u64(low, high))
    }

    /// The next ids.
    fn conns(&mut self, count: u32) -> impl Iterator<Item = ConnectionId> + Clone + use<'c> {
        let (ids, rest) = self.words.split_at_checked(count as usize * CONN_BYTES).unwrap_or_default();
        self.words = rest;
        ids.as_chunks::<CONN_BYTES>().0.iter().map(|[a, b, c, d, e, f, g, h]| {
            let (low, high) = (u32::from_ne_bytes([*a, *b, *c, *d]), u32::from_ne_bytes([*e, *f, *g, *h]));
            ConnectionId::from_u64(join_u64(low, high))
        })
    }

    /// Reads an event of this length, or keeps the last one.
    fn read_event(&mut self, length: u32) {
        if length != SAME_EVENT {
            self.event = self.text.next(length);
        }
    }

    fn binary(&mut self) -> &'c [u8] {
        let length = self.word();
        if length & LARGE != 0 {
            return self.large.unwrap_or_default();
        }
        let (piece, rest) = self.bytes.split_at_checked(length as usize).unwrap_or_default();
        self.bytes = rest;
        piece
    }

    /// Executes all of them under one cork.
    pub(crate) fn carry_out(mut self, server: &ServerHandle, connections: &Connections) -> Outcome {
        let mut outcome = Outcome::default();
        let _cork = server.cork();
        while !self.words.is_empty() {
            let (operation, is_plain) = operation_in(self.word());
            let speaker = server.speaker(!is_plain);
            if operation >= BROADCAST {
                let result = self.broadcast(operation, speaker);
                outcome.note(None, result.map(|()| Sent::Sent), connections);
                continue;
            }
            let conn = self.conn();
            let result = self.send(operation, conn, server, speaker);
            outcome.note(Some(conn), result, connections);
        }
        outcome
    }

    fn send(
        &mut self,
        operation: u32,
        conn: ConnectionId,
        server: &ServerHandle,
        speaker: Speaker<'_>,
    ) -> Result<Sent, Error> {
        match operation {
            BINARY => speaker.send_binary(conn, self.binary()),
            TEXT => {
                let units = self.word();
                speaker.send_text(conn, &self.text.next(units))
            }
            // What is no UTF-8 would end the connection at the peer; each bad sequence becomes U+FFFD.
            TEXT_BYTES => speaker.send_text(conn, &String::from_utf8_lossy(self.binary())),
            FRAGMENT => {
                let kind = self.word();
                let opcode = match kind & OPCODE {
                    1 => DataOpcode::Text,
                    2 => DataOpcode::Binary,
                    _ => DataOpcode::Continuation,
                };
                server.send_fragment(conn, Fragment { opcode, fin: kind & FIN != 0 }, self.binary())
            }
            PING => server.send_ping(conn, self.binary()),
            PONG => server.send_pong(conn, self.binary()),
            EMIT => {
                let (event, data) = (self.word(), self.word());
                self.read_event(event);
                speaker.emit(conn, &self.event, &self.text.next(data))
            }
            REPLY | REPLY_ERROR | REQUEST => {
                let (id, event, data) = (self.word(), self.word(), self.word());
                // A reply to a message without an id has none.
                let id = (id > 0).then(|| self.text.next(id));
                self.read_event(event);
                let (id, data) = (id.as_deref(), self.text.next(data));
                match operation {
                    REPLY => speaker.reply(conn, id, &self.event, &data),
                    REPLY_ERROR => speaker.reply_error(conn, id, &self.event, &data),
                    _ => speaker.request(conn, id.unwrap_or_default(), &self.event, &data),
                }
            }
            FAIL => server.fail(conn).map(|()| Sent::Sent),
            _ => Err(Error::InvalidArgument("no such command")),
        }
    }

    fn broadcast(&mut self, operation: u32, speaker: Speaker<'_>) -> Result<(), Error> {
        let (audience, count) = (self.word(), self.word());
        let lengths: Vec<u32> = (0..count).map(|_| self.word()).collect();
        let except = self.word();
        let except: Vec<ConnectionId> = self.conns(except).collect();
        let names: Vec<Cow<'_, str>> = lengths.into_iter().map(|length| self.text.next(length)).collect();
        let names: Vec<&str> = names.iter().map(|name| &**name).collect();
        let to = match (audience, names.as_slice()) {
            (TO_USER, [user]) => To::User(user),
            (TO_ROOMS, [room]) => To::Room(room),
            (TO_ROOMS, rooms) => To::Rooms(rooms),
            _ => To::Everyone,
        };
        match operation {
            BROADCAST => {
                let (event, data) = (self.word(), self.word());
                self.read_event(event);
                speaker.broadcast(to, &self.event, &self.text.next(data), &except)
            }
            BROADCAST_TEXT => {
                let units = self.word();
                speaker.broadcast_text(to, &self.text.next(units), &except)
            }
            BROADCAST_BINARY => speaker.broadcast_binary(to, self.binary(), &except),
            _ => Err(Error::InvalidArgument("no such command")),
        }
    }
}

/// The command of a word 0, and whether its message is not to be compressed.
fn operation_in(word: u32) -> (u32, bool) {
    (word & !PLAIN, word & PLAIN != 0)
}

fn take_word(words: &mut &[u8]) -> Option<u32> {
    let (word, rest) = words.split_first_chunk::<4>()?;
    *words = rest;
    Some(u32::from_ne_bytes(*word))
}

/// The sizes that a tick's commands add up to: UTF-16 units of text, bytes, and the large payload's bytes.
#[derive(Debug, Default, PartialEq, Eq)]
struct Needed {
    units: u64,
    bytes: u64,
    large: Option<u64>,
}

impl Needed {
    /// Returns `None` if the words are not commands.
    fn of(mut words: &[u8]) -> Option<Self> {
        let mut needed = Self::default();
        let mut has_event = false;
        while !words.is_empty() {
            needed.add(&mut words, &mut has_event)?;
        }
        Some(needed)
    }

    fn add(&mut self, words: &mut &[u8], has_event: &mut bool) -> Option<()> {
        let (operation, _) = operation_in(take_word(words)?);
        if operation >= BROADCAST {
            self.add_audience(words)?;
        } else {
            let _conn = (take_word(words)?, take_word(words)?);
        }
        match operation {
            FAIL => {}
            BINARY | TEXT_BYTES | PING | PONG | BROADCAST_BINARY => self.add_binary(take_word(words)?)?,
            FRAGMENT => {
                let _kind = take_word(words)?;
                self.add_binary(take_word(words)?)?;
            }
            TEXT | BROADCAST_TEXT => self.units += u64::from(take_word(words)?),
            EMIT | REPLY | REPLY_ERROR | REQUEST | BROADCAST => {
                if matches!(operation, REPLY | REPLY_ERROR | REQUEST) {
                    self.units += u64::from(take_word(words)?);
                }
                let event = take_word(words)?;
                // An event is said before it is the same.
                if event == SAME_EVENT && !*has_event {
                    return None;
                }
                *has_event = true;
                self.units += if event == SAME_EVENT { 0 } else { u64::from(event) };
                self.units += u64::from(take_word(words)?);
            }
            _ => return None,
        }
        Some(())
    }

    fn add_audience(&mut self, words: &mut &[u8]) -> Option<()> {
        let (audience, count) = (take_word(words)?, take_word(words)?);
        let fits = match audience {
            TO_EVERYONE => count == 0,
            TO_ROOMS => count > 0,
            TO_USER => count == 1,
            _ => false,
        };
        if !fits {
            return None;
        }
        for _ in 0..count {
            self.units += u64::from(take_word(words)?);
        }
        let except = take_word(words)?;
        *words = words.split_at_checked((except as usize).checked_mul(CONN_BYTES)?)?.1;
        Some(())
    }

    /// There is one large payload at most.
    fn add_binary(&mut self, length: u32) -> Option<()> {
        if length & LARGE == 0 {
            self.bytes += u64::from(length);
            return Some(());
        }
        self.large.replace(u64::from(length & !LARGE)).is_none().then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(words: &[u32], bytes: &[u8], large: Option<&[u8]>, text: &str) -> bool {
        let words: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        Commands::new(&words, bytes, large, text).is_some()
    }

    #[test]
    fn commands_whose_lengths_are_what_is_there_are_accepted() {
        assert!(accepts(&[], &[], None, ""));
        assert!(accepts(&[TEXT, 1, 2, 3, BINARY, 1, 2, 2], b"xy", None, "a\u{1f600}"));
        assert!(accepts(&[TEXT_BYTES, 1, 2, 2, TEXT_BYTES, 1, 2, LARGE | 1], b"xy", Some(b"z"), ""));
        assert!(accepts(&[EMIT, 1, 2, 2, 4, EMIT, 1, 2, SAME_EVENT, 4, FAIL, 1, 2], &[], None, "hinullnull"));
        assert!(accepts(&[REPLY, 1, 2, 1, 2, 4], &[], None, "7hinull"));
        assert!(accepts(&[REPLY_ERROR, 1, 2, 0, 2, 4, REQUEST, 1, 2, 1, 2, 4], &[], None, "hinull7hinull"));
        assert!(accepts(&[BROADCAST, TO_ROOMS, 2, 4, 1, 0, 2, 4], &[], None, "roomrhinull"));
        assert!(accepts(&[BROADCAST, TO_USER, 1, 5, 0, 2, 4], &[], None, "alicehinull"));
        assert!(accepts(&[BROADCAST_TEXT, TO_EVERYONE, 0, 1, 7, 8, 2], &[], None, "hi"));
        assert!(accepts(&[BROADCAST_BINARY, TO_ROOMS, 1, 1, 2, 1, 2, 3, 4, LARGE | 3], &[], Some(b"xyz"), "r"));
        assert!(accepts(&[PLAIN | TEXT, 1, 2, 3, PLAIN | BROADCAST_BINARY, TO_EVERYONE, 0, 0, 2], b"xy", None, "abc"));
    }

    #[test]
    fn none_is_where_one_does_not_fit() {
        assert!(!accepts(&[TEXT, 1, 2, 4], &[], None, "abc"), "more than there is");
        assert!(!accepts(&[TEXT, 1, 2, 2], &[], None, "abc"), "less than there is");
        assert!(!accepts(&[BINARY, 1, 2, 100], b"xy", None, ""), "bytes that are not there");
        assert!(!accepts(&[BINARY, 1, 2, 1], b"xy", None, ""), "bytes that nobody speaks of");
        assert!(!accepts(&[BINARY, 1, 2, LARGE | 3], &[], Some(b"xy"), ""), "a payload that shrank");
        assert!(!accepts(&[BINARY, 1, 2, LARGE], &[], None, ""), "a payload that is gone");
        assert!(!accepts(&[BINARY, 1, 2, LARGE | 1, BINARY, 1, 2, LARGE | 1], &[], Some(b"x"), ""), "two");
        assert!(!accepts(&[TEXT, 1, 2], &[], None, ""), "half a command");
        assert!(!accepts(&[EMIT, 1, 2, SAME_EVENT, 4], &[], None, "null"), "the same as nothing");
        assert!(!accepts(&[99, 1, 2], &[], None, ""), "no command");
        assert!(!accepts(&[BROADCAST_TEXT, TO_EVERYONE, 1, 1, 0, 1], &[], None, "ab"), "a room of everybody");
        assert!(!accepts(&[BROADCAST_TEXT, TO_ROOMS, 0, 0, 2], &[], None, "ab"), "no room");
        assert!(!accepts(&[BROADCAST_TEXT, TO_USER, 2, 1, 1, 0, 0], &[], None, "ab"), "two users");
        assert!(!accepts(&[BROADCAST_TEXT, 0, 0, 0, 2], &[], None, "ab"), "stale words");
        assert!(!accepts(&[PLAIN, 1, 2, 2], &[], None, "ab"), "a flag of nothing");
        assert!(!accepts(&[BROADCAST_TEXT, TO_ROOMS, 1, 1, 2, 7, 8, 1], &[], None, "ab"), "ids that are not there");
        assert!(!accepts(&[BROADCAST_TEXT, TO_ROOMS, 1, 1, u32::MAX, 1], &[], None, "ab"), "more ids than words");
        assert!(!accepts(&[BROADCAST_TEXT, TO_ROOMS, u32::MAX, 1, 0, 1], &[], None, "ab"), "more rooms than words");
        assert!(!accepts(&[TEXT, 1, 2, u32::MAX, TEXT, 1, 2, 5], &[], None, "abcd"), "no sum wraps");
    }

    #[test]
    fn any_words_are_refused_or_read_within_bounds() {
        let mut state = 0x9e37_79b9_u32;
        let mut random = move |below: u32| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state % below
        };
        let mut accepted = 0;
        for _ in 0..50_000 {
            let words: Vec<u32> = (0..random(9))
                .map(|_| match random(8) {
                    0 => u32::MAX,
                    1 => BROADCAST + random(3),
                    2 => PLAIN | random(12),
                    _ => random(12),
                })
                .collect();
            let words: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
            let (bytes, text) = (vec![7; random(6) as usize], "x".repeat(random(12) as usize));
            let Some(mut commands) = Commands::new(&words, &bytes, None, &text) else { continue };
            accepted += 1;
            // Nothing is left over: every length was somebody's.
            while !commands.words.is_empty() {
                let (operation, _) = operation_in(commands.word());
                if operation >= BROADCAST {
                    let (_, count) = (commands.word(), commands.word());
                    for _ in 0..count {
                        let units = commands.word();
                        commands.text.next(units);
                    }
                    let except = commands.word();
                    assert_eq!(commands.conns(except).count(), except as usize);
                } else {
                    commands.conn();
                }
                match operation {
                    FAIL => {}
                    BINARY | TEXT_BYTES | PING | PONG | BROADCAST_BINARY => drop(commands.binary()),
                    FRAGMENT => {
                        commands.word();
                        commands.binary();
                    }
                    TEXT | BROADCAST_TEXT => {
                        let units = commands.word();
                        commands.text.next(units);
                    }
                    _ => {
                        if matches!(operation, REPLY | REPLY_ERROR | REQUEST) {
                            let id = commands.word();
                            commands.text.next(id);
                        }
                        let (event, data) = (commands.word(), commands.word());
                        commands.read_event(event);
                        commands.text.next(data);
                    }
                }
            }
            assert!(commands.bytes.is_empty() && commands.text.is_empty());
        }
        assert!(accepted > 50, "{accepted}");
    }
}
