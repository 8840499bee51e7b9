//! A tick's commands from JavaScript: one buffer of words, one of bytes, one text. `lib/outbox.js` writes them.

use std::borrow::Cow;

use napi::bindgen_prelude::BufferSlice;
use serde_json::{Value, json};
use wsguard::host::{ConnectionId, Error, Sent, ServerHandle};

use crate::connections::{Connections, NOBODY, whole};
use crate::error;
use crate::text::Pieces;

const BINARY: u32 = 1;
const TEXT: u32 = 2;
const EMIT: u32 = 3;
const REPLY: u32 = 4;
const FAIL: u32 = 5;
const BROADCAST: u32 = 6;
const BROADCAST_TEXT: u32 = 7;
const BROADCAST_BINARY: u32 = 8;

/// In place of a payload's length: it is the number of a large one, which lies where the application has it.
const LARGE: u32 = 1 << 31;
/// In place of an event's length: it is the event of the command before.
const SAME_EVENT: u32 = u32::MAX;

/// What JavaScript must hear of commands: which connections do not read, and what was wrong.
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
        let place = || conn.map_or(NOBODY, |conn| connections.place(conn));
        match result {
            // A connection that has closed meanwhile is no error; its close event is on its way.
            Ok(Sent::Sent) | Err(Error::ConnectionClosed) => {}
            Ok(Sent::Queued) => {
                let place = place();
                if place != NOBODY && self.queued.last() != Some(&place.into()) {
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
    large: &'c [BufferSlice<'c>],
    text: Pieces<'c>,
    event: Cow<'c, str>,
}

impl<'c> Commands<'c> {
    pub(crate) fn new(words: &'c [u8], bytes: &'c [u8], large: &'c [BufferSlice<'c>], text: &'c str) -> Self {
        Self { words, bytes, large, text: Pieces::new(text), event: Cow::default() }
    }

    fn word(&mut self) -> u32 {
        let Some((word, rest)) = self.words.split_first_chunk::<4>() else { return 0 };
        self.words = rest;
        u32::from_ne_bytes(*word)
    }

    fn conn(&mut self) -> ConnectionId {
        let (low, high) = (self.word(), self.word());
        ConnectionId::from_u64(whole(low, high))
    }

    /// Reads the event that `length` speaks of.
    fn read_event(&mut self, length: u32) {
        if length != SAME_EVENT {
            self.event = self.text.next(length);
        }
    }

    fn binary(&mut self) -> &'c [u8] {
        let length = self.word();
        if length & LARGE != 0 {
            return self.large.get((length & !LARGE) as usize).map_or(&[], |payload| &**payload);
        }
        let length = (length as usize).min(self.bytes.len());
        let (piece, rest) = self.bytes.split_at(length);
        self.bytes = rest;
        piece
    }

    /// Carries all of them out, handed over together.
    pub(crate) fn carry_out(mut self, server: &ServerHandle, connections: &Connections) -> Outcome {
        let mut outcome = Outcome::default();
        let _cork = server.cork();
        while !self.words.is_empty() {
            let operation = self.word();
            if operation >= BROADCAST {
                let result = self.broadcast(operation, server);
                outcome.note(None, result.map(|()| Sent::Sent), connections);
                continue;
            }
            let conn = self.conn();
            let result = self.send(operation, conn, server);
            outcome.note(Some(conn), result, connections);
        }
        outcome
    }

    fn send(&mut self, operation: u32, conn: ConnectionId, server: &ServerHandle) -> Result<Sent, Error> {
        match operation {
            BINARY => server.send_binary(conn, self.binary()),
            TEXT => {
                let units = self.word();
                server.send_text(conn, &self.text.next(units))
            }
            EMIT => {
                let (event, data) = (self.word(), self.word());
                self.read_event(event);
                server.emit(conn, &self.event, &self.text.next(data))
            }
            REPLY => {
                let (id, event, data) = (self.word(), self.word(), self.word());
                let id = self.text.next(id);
                self.read_event(event);
                server.reply(conn, Some(&id), &self.event, &self.text.next(data))
            }
            FAIL => server.fail(conn).map(|()| Sent::Sent),
            _ => Err(Error::InvalidArgument("no such command")),
        }
    }

    fn broadcast(&mut self, operation: u32, server: &ServerHandle) -> Result<(), Error> {
        let except = Some(self.conn()).filter(|conn| conn.to_u64() != u64::MAX);
        let (to_all, room) = (self.word() == 0, self.word());
        let room = self.text.next(room);
        let room = if to_all { None } else { Some(&*room) };
        match operation {
            BROADCAST => {
                let (event, data) = (self.word(), self.word());
                self.read_event(event);
                server.broadcast(room, &self.event, &self.text.next(data), except)
            }
            BROADCAST_TEXT => {
                let units = self.word();
                server.broadcast_text(room, &self.text.next(units), except)
            }
            BROADCAST_BINARY => server.broadcast_binary(room, self.binary(), except),
            _ => Err(Error::InvalidArgument("no such command")),
        }
    }
}
