//! What is said to one connection or to many: messages of either protocol, compressed where a connection has agreed to that, or
//! plain.

use super::handle::{NEVER_FITS, Sent, ServerHandle, how_sent};
use super::ids::ConnectionId;
use super::reach::To;
use crate::error::Error;
use wsguard_proto::codec::{self, Opcode};
use wsguard_proto::config::Protocol;
use wsguard_proto::outgoing;

/// Says messages: [`ServerHandle::speaker`].
#[derive(Clone, Copy, Debug)]
pub struct Speaker<'h> {
    server: &'h ServerHandle,
    plain: bool,
}

impl<'h> Speaker<'h> {
    pub(super) fn new(server: &'h ServerHandle, compress: bool) -> Self {
        Self { server, plain: !compress }
    }

    /// Sends what `write` encodes: a frame with at least `least_bytes` in it.
    fn say(self, conn: ConnectionId, least_bytes: usize, write: impl FnOnce(&mut Vec<u8>)) -> Result<Sent, Error> {
        let slot = self.server.slot(conn)?;
        let max_outbox_bytes = slot.max_outbox_bytes();
        if least_bytes > max_outbox_bytes {
            return Err(NEVER_FITS);
        }
        let mut fits = true;
        self.server.post(conn.shard(), |commands| match commands.frames(conn, self.plain, max_outbox_bytes, write) {
            Some(bytes) => slot.post(bytes),
            None => fits = false,
        });
        if !fits {
            return Err(NEVER_FITS);
        }
        Ok(how_sent(slot))
    }

    /// Sends a text message. One that is larger than `max_outbox_bytes` could never be sent and is
    /// [`Error::InvalidArgument`]; so it is with every way to send.
    pub fn send_text(self, conn: ConnectionId, text: &str) -> Result<Sent, Error> {
        self.say(conn, text.len(), |out| codec::data_frame(out, Opcode::Text, text.as_bytes()))
    }

    /// Sends a binary message.
    pub fn send_binary(self, conn: ConnectionId, payload: &[u8]) -> Result<Sent, Error> {
        self.say(conn, payload.len(), |out| codec::data_frame(out, Opcode::Binary, payload))
    }

    /// Emits an event: `data` is JSON text, trusted to be (bindings serialise it themselves).
    pub fn emit(self, conn: ConnectionId, event: &str, data: &str) -> Result<Sent, Error> {
        self.say(conn, data.len(), |out| outgoing::push_frame(out, event, data, None))
    }

    /// Emits an event in reply to the message that carried `id` (JSON text); without an id it is a plain event.
    pub fn reply(self, conn: ConnectionId, id: Option<&str>, event: &str, data: &str) -> Result<Sent, Error> {
        self.say(conn, data.len(), |out| outgoing::push_frame(out, event, data, id))
    }

    /// As [`reply`](Self::reply) with the status `error`: what the message asked for could not be done.
    pub fn reply_error(self, conn: ConnectionId, id: Option<&str>, event: &str, data: &str) -> Result<Sent, Error> {
        self.say(conn, data.len(), |out| outgoing::push_error_frame(out, event, data, id))
    }

    /// Asks the peer: an envelope with an `id` of the application's own (JSON text: a string or an integer) and without a status,
    /// which the peer answers with a message of the same `id`.
    pub fn request(self, conn: ConnectionId, id: &str, event: &str, data: &str) -> Result<Sent, Error> {
        self.say(conn, data.len(), |out| outgoing::push_request_frame(out, event, data, id))
    }

    /// Emits an event to several; encoded once for all. `except` are left out.
    pub fn broadcast(self, to: To<'_>, event: &str, data: &str, except: &[ConnectionId]) -> Result<(), Error> {
        let write = |out: &mut Vec<u8>| outgoing::push_frame(out, event, data, None);
        self.server.broadcast_frame(to, Protocol::Json, self.plain, except, write)
    }

    /// Sends a text message to several (`raw`).
    pub fn broadcast_text(self, to: To<'_>, text: &str, except: &[ConnectionId]) -> Result<(), Error> {
        let write = |out: &mut Vec<u8>| codec::data_frame(out, Opcode::Text, text.as_bytes());
        self.server.broadcast_frame(to, Protocol::Raw, self.plain, except, write)
    }

    /// Sends a binary message to several (`raw`).
    pub fn broadcast_binary(self, to: To<'_>, payload: &[u8], except: &[ConnectionId]) -> Result<(), Error> {
        let write = |out: &mut Vec<u8>| codec::data_frame(out, Opcode::Binary, payload);
        self.server.broadcast_frame(to, Protocol::Raw, self.plain, except, write)
    }
}

/// The same where a message is compressed by the rules of its connection.
impl ServerHandle {
    /// Says messages that are compressed by the rules of their connections (`true`, as where the handle itself is asked), or that go
    /// plain: what is compressed already, or holds a secret beside what somebody else has said.
    pub fn speaker(&self, compress: bool) -> Speaker<'_> {
        Speaker::new(self, compress)
    }

    /// As [`Speaker::send_text`].
    pub fn send_text(&self, conn: ConnectionId, text: &str) -> Result<Sent, Error> {
        self.speaker(true).send_text(conn, text)
    }

    /// As [`Speaker::send_binary`].
    pub fn send_binary(&self, conn: ConnectionId, payload: &[u8]) -> Result<Sent, Error> {
        self.speaker(true).send_binary(conn, payload)
    }

    /// As [`Speaker::emit`].
    pub fn emit(&self, conn: ConnectionId, event: &str, data: &str) -> Result<Sent, Error> {
        self.speaker(true).emit(conn, event, data)
    }

    /// As [`Speaker::reply`].
    pub fn reply(&self, conn: ConnectionId, id: Option<&str>, event: &str, data: &str) -> Result<Sent, Error> {
        self.speaker(true).reply(conn, id, event, data)
    }

    /// As [`Speaker::reply_error`].
    pub fn reply_error(&self, conn: ConnectionId, id: Option<&str>, event: &str, data: &str) -> Result<Sent, Error> {
        self.speaker(true).reply_error(conn, id, event, data)
    }

    /// As [`Speaker::request`].
    pub fn request(&self, conn: ConnectionId, id: &str, event: &str, data: &str) -> Result<Sent, Error> {
        self.speaker(true).request(conn, id, event, data)
    }

    /// As [`Speaker::broadcast`].
    pub fn broadcast(&self, to: To<'_>, event: &str, data: &str, except: &[ConnectionId]) -> Result<(), Error> {
        self.speaker(true).broadcast(to, event, data, except)
    }

    /// As [`Speaker::broadcast_text`].
    pub fn broadcast_text(&self, to: To<'_>, text: &str, except: &[ConnectionId]) -> Result<(), Error> {
        self.speaker(true).broadcast_text(to, text, except)
    }

    /// As [`Speaker::broadcast_binary`].
    pub fn broadcast_binary(&self, to: To<'_>, payload: &[u8], except: &[ConnectionId]) -> Result<(), Error> {
        self.speaker(true).broadcast_binary(to, payload, except)
    }
}
