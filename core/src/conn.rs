//! One connection, as the application speaks to it.

use serde::Serialize;

use crate::driver::{ConnectionId, ServerHandle};
use crate::error::Error;
use crate::payload::Payload;
use crate::raw_json::with_text;
use crate::sent::Sent;

/// One connection: [`Handle::conn`](crate::Handle::conn).
///
/// Every call may come from any thread and never blocks. A connection that has closed answers [`Sent::Closed`]; an error is
/// an argument that is not accepted.
#[derive(Clone, Copy, Debug)]
pub struct Conn<'h> {
    server: &'h ServerHandle,
    id: ConnectionId,
}

impl<'h> Conn<'h> {
    pub(crate) fn new(server: &'h ServerHandle, id: ConnectionId) -> Self {
        Self { server, id }
    }

    /// Its id.
    pub fn id(self) -> ConnectionId {
        self.id
    }

    /// Whether it is open.
    pub fn is_open(self) -> bool {
        self.server.is_open(self.id)
    }

    /// Emits an event (`json`). The text of `data` is written once, into a buffer that this thread keeps.
    ///
    /// # Errors
    ///
    /// [`Error::Data`] where `data` cannot be written as JSON; [`Error::InvalidArgument`] for what is larger than
    /// `max_outbox_bytes`, and so could never be sent.
    pub fn emit(self, event: &str, data: &(impl Serialize + ?Sized)) -> Result<Sent, Error> {
        self.reply(None, event, data)
    }

    /// As [`emit`](Self::emit), with data that is JSON text already. The text is not checked.
    pub fn emit_json_text(self, event: &str, json: &str) -> Result<Sent, Error> {
        Sent::of(self.server.emit(self.id, event, json))
    }

    /// Emits an event in reply to the message that had this [`id`](crate::JsonMessage::id), now or later. Without an id it
    /// is a plain event. [`Handle::reply`](crate::Handle::reply) is shorter where the message is at hand.
    ///
    /// # Errors
    ///
    /// As [`emit`](Self::emit).
    pub fn reply(self, id: Option<&str>, event: &str, data: &(impl Serialize + ?Sized)) -> Result<Sent, Error> {
        if !self.is_open() {
            return Ok(Sent::Closed);
        }
        with_text(data, |json| Sent::of(self.server.reply(self.id, id, event, json)))
    }

    /// Sends a text or a binary message (`raw`): `send("hello")`, `send(&bytes)`.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for what is larger than `max_outbox_bytes`.
    pub fn send<'p>(self, payload: impl Into<Payload<'p>>) -> Result<Sent, Error> {
        Sent::of(match payload.into() {
            Payload::Text(text) => self.server.send_text(self.id, text),
            Payload::Binary(bytes) => self.server.send_binary(self.id, bytes),
        })
    }

    /// Puts it into a room; it leaves its rooms when it closes.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for a name that is not 1 to 256 bytes, and at 1024 rooms.
    pub fn join(self, room: &str) -> Result<Sent, Error> {
        Sent::of_command(self.server.join(self.id, room))
    }

    /// Takes it out of a room.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for a name that is not 1 to 256 bytes.
    pub fn leave(self, room: &str) -> Result<Sent, Error> {
        Sent::of_command(self.server.leave(self.id, room))
    }

    /// Starts the closing handshake.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for a code that no endpoint may send (RFC 6455 section 7.4), or a reason over 123 bytes.
    pub fn close(self, code: u16, reason: &str) -> Result<Sent, Error> {
        Sent::of_command(self.server.close(self.id, code, reason))
    }

    /// Says that the data of a message of `event` is not valid although its schema let it pass: the verdict
    /// `schema_mismatch`, counted, logged and acted upon as `on_violation` says.
    ///
    /// # Errors
    ///
    /// None yet.
    pub fn report_invalid_data(self, event: &str) -> Result<Sent, Error> {
        Sent::of_command(self.server.refuse(self.id, event))
    }

    /// Stops reading from it: its peer feels back-pressure, others do not. Messages that were read before may still arrive;
    /// writing and pings go on, and silence does not count.
    ///
    /// # Errors
    ///
    /// None yet.
    pub fn pause(self) -> Result<Sent, Error> {
        Sent::of_command(self.server.pause(self.id))
    }

    /// Reads on after [`pause`](Self::pause).
    ///
    /// # Errors
    ///
    /// None yet.
    pub fn resume(self) -> Result<Sent, Error> {
        Sent::of_command(self.server.resume(self.id))
    }
}
