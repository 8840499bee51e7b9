//! One connection: what an application can do with it.

use std::sync::Arc;

use serde::Serialize;

use crate::driver::{ConnectionId, ServerHandle, Speaker};
use crate::error::Error;
use crate::payload::Payload;
use crate::raw_json::with_text;
use crate::sent::Sent;
use wsguard_proto::connection::Fragment;

/// The largest integer that an envelope may hold: every JSON parser has it exactly.
const MOST_ID: u64 = 1 << 53;

/// One connection: [`Handle::conn`](crate::Handle::conn).
///
/// Any thread may make these calls, and none blocks. If the connection has closed they return [`Sent::Closed`]; an error means
/// that an argument is not accepted.
#[derive(Clone, Copy, Debug)]
pub struct Conn<'h> {
    server: &'h ServerHandle,
    id: ConnectionId,
    compress: bool,
}

impl<'h> Conn<'h> {
    pub(crate) fn new(server: &'h ServerHandle, id: ConnectionId) -> Self {
        Self { server, id, compress: true }
    }

    /// The same connection, to which messages go plain although `compression` is on: what is compressed already (images), and what
    /// holds a secret beside text that somebody else has chosen, whose length would tell of it (BREACH).
    ///
    /// ```no_run
    /// use wsguard::{Conn, Error};
    ///
    /// fn send_both(conn: Conn<'_>, thumbnail: &[u8]) -> Result<(), Error> {
    ///     conn.send("a long text, compressed where the peer has agreed to it")?;
    ///     conn.plain().send(thumbnail)?;
    ///     Ok(())
    /// }
    /// ```
    #[must_use = "it is only another view of the connection"]
    pub fn plain(self) -> Self {
        Self { compress: false, ..self }
    }

    fn speaker(self) -> Speaker<'h> {
        self.server.speaker(self.compress)
    }

    /// Its id.
    pub fn id(self) -> ConnectionId {
        self.id
    }

    /// Returns true if it is open.
    pub fn is_open(self) -> bool {
        self.server.is_open(self.id)
    }

    /// Emits an event (`json`). `data` is written as JSON once, into a buffer that this thread keeps.
    ///
    /// # Errors
    ///
    /// [`Error::Data`] if `data` cannot be written as JSON; [`Error::InvalidArgument`] if the message is larger than
    /// `max_outbox_bytes`, and so could never be sent.
    pub fn emit(self, event: &str, data: &(impl Serialize + ?Sized)) -> Result<Sent, Error> {
        self.reply(None, event, data)
    }

    /// As [`emit`](Self::emit), with data that is JSON text already. The text is not checked.
    pub fn emit_json_text(self, event: &str, json: &str) -> Result<Sent, Error> {
        Sent::of(self.speaker().emit(self.id, event, json))
    }

    /// Emits an event in reply to the message that had this [`id`](crate::JsonMessage::id), now or later. Without an id it
    /// is a plain event. If you have the message, [`Handle::reply`](crate::Handle::reply) is shorter.
    ///
    /// # Errors
    ///
    /// As [`emit`](Self::emit).
    pub fn reply(self, id: Option<&str>, event: &str, data: &(impl Serialize + ?Sized)) -> Result<Sent, Error> {
        if !self.is_open() {
            return Ok(Sent::Closed);
        }
        with_text(data, |json| Sent::of(self.speaker().reply(self.id, id, event, json)))
    }

    /// As [`reply`](Self::reply) with the status `error`: what the message asked for could not be done.
    ///
    /// # Errors
    ///
    /// As [`emit`](Self::emit).
    pub fn reply_error(self, id: Option<&str>, event: &str, data: &(impl Serialize + ?Sized)) -> Result<Sent, Error> {
        with_text(data, |json| Sent::of(self.speaker().reply_error(self.id, id, event, json)))
    }

    /// Asks the peer: emits an event with an `id` of your own and without a status. A client answers with a message of this
    /// [`id`](crate::JsonMessage::id), as you answer with [`reply`](Self::reply); its event must be one of the contract.
    ///
    /// # Errors
    ///
    /// As [`emit`](Self::emit), and [`Error::InvalidArgument`] if the id is over 2^53: no client could answer with it.
    pub fn request(self, id: u64, event: &str, data: &(impl Serialize + ?Sized)) -> Result<Sent, Error> {
        if id > MOST_ID {
            return Err(Error::InvalidArgument("the id of a request must be at most 2^53 (9007199254740992)"));
        }
        with_text(data, |json| Sent::of(self.speaker().request(self.id, &id.to_string(), event, json)))
    }

    /// Sends a ping, and [`Event::Pong`](crate::Event::Pong) tells when the peer has answered; the close event tells that it never
    /// will. Browsers answer by themselves. The server's own keep-alive pings need none of this.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] if 16 pings of the connection have no answer.
    pub fn ping(self) -> Result<Sent, Error> {
        Sent::of(self.server.ping(self.id))
    }

    /// Sends a ping with a payload of your own, at most 125 bytes. [`Event::PongFrame`](crate::Event::PongFrame) tells its pong, if
    /// [`Handle::heed_control`](crate::Handle::heed_control) asks for that.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] if the payload is over 125 bytes.
    pub fn send_ping(self, payload: &[u8]) -> Result<Sent, Error> {
        Sent::of(self.server.send_ping(self.id, payload))
    }

    /// Sends a pong, at most 125 bytes. The server answers pings by itself, unless [`set_auto_pong`](Self::set_auto_pong) or
    /// [`Builder::auto_pong`](crate::Builder::auto_pong) leaves them to the application.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] if the payload is over 125 bytes.
    pub fn send_pong(self, payload: &[u8]) -> Result<Sent, Error> {
        Sent::of(self.server.send_pong(self.id, payload))
    }

    /// Chooses whether the server answers the pings of this peer (the default), or leaves them to the application.
    ///
    /// # Errors
    ///
    /// None yet.
    pub fn set_auto_pong(self, answers: bool) -> Result<Sent, Error> {
        Sent::of_command(self.server.set_auto_pong(self.id, answers))
    }

    /// The bytes that were sent to it and that its socket has not taken: to send less while a peer reads slowly. 0 if it is closed.
    /// A broadcast counts when the server has come to it.
    pub fn buffered_bytes(self) -> usize {
        self.server.buffered_bytes(self.id)
    }

    /// A count of the bytes that were sent to it, headers of frames included, that only grows: to learn when a message is written.
    /// A message counts as it is before compression. Broadcasts do not count. 0 if it is closed.
    ///
    /// What was sent up to now is written when [`written`](Self::written) has reached the number.
    pub fn queued(self) -> u64 {
        self.server.queued(self.id)
    }

    /// The part of [`queued`](Self::queued) that its socket has taken, at least: all of it when nothing is unsent, which
    /// [`Event::Drained`](crate::Event::Drained) tells after [`Sent::Queued`]. 0 if it is closed.
    pub fn written(self) -> u64 {
        self.server.written(self.id)
    }

    /// Sends a text or a binary message (`raw`): `send("hello")`, `send(&bytes)`.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] if the message is larger than `max_outbox_bytes`.
    pub fn send<'p>(self, payload: impl Into<Payload<'p>>) -> Result<Sent, Error> {
        Sent::of(match payload.into() {
            Payload::Text(text) => self.speaker().send_text(self.id, text),
            Payload::Binary(bytes) => self.speaker().send_binary(self.id, bytes),
        })
    }

    /// Sends a part of a message (`raw`): a text or binary fragment begins it, continuations go on, the one with `fin` ends it.
    /// Whole messages that are sent in between wait for the last fragment. The fragments of a text must be UTF-8 together; that
    /// is not checked.
    ///
    /// ```no_run
    /// use wsguard::{Conn, DataOpcode, Error, Fragment};
    ///
    /// fn send_in_parts(conn: Conn<'_>, parts: &[&[u8]]) -> Result<(), Error> {
    ///     for (n, part) in parts.iter().enumerate() {
    ///         let opcode = if n == 0 { DataOpcode::Binary } else { DataOpcode::Continuation };
    ///         conn.send_fragment(Fragment { opcode, fin: n + 1 == parts.len() }, part)?;
    ///     }
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] if the fragment does not follow what was sent before, is larger than `max_outbox_bytes`, or no
    /// route has the protocol `raw`. If threads mix their fragments, the connection is closed with 1011.
    pub fn send_fragment(self, fragment: Fragment, payload: &[u8]) -> Result<Sent, Error> {
        Sent::of(self.server.send_fragment(self.id, fragment, payload))
    }

    /// Adds the connection to a room. It leaves its rooms when it closes.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] if the name is not 1 to 256 bytes, or the connection is in 1024 other rooms.
    pub fn join(self, room: &str) -> Result<Sent, Error> {
        Sent::of_command(self.server.join(self.id, room))
    }

    /// Removes the connection from a room. What was sent to the room before still reaches it.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] if the name is not 1 to 256 bytes.
    pub fn leave(self, room: &str) -> Result<Sent, Error> {
        Sent::of_command(self.server.leave(self.id, room))
    }

    /// The names of the rooms that it is in; none if it is closed.
    pub fn rooms(self) -> Vec<Arc<str>> {
        self.server.rooms_of(self.id).unwrap_or_default()
    }

    /// Drops the socket at once, without a close frame. Messages that were sent before are written as far as the socket has room;
    /// the rest is lost. The code of the close event is 1006, or that of a close frame that was sent before.
    ///
    /// # Errors
    ///
    /// None yet.
    pub fn terminate(self) -> Result<Sent, Error> {
        Sent::of_command(self.server.terminate(self.id))
    }

    /// Starts the closing handshake.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] if an endpoint may not send the code (RFC 6455 section 7.4), or the reason is over 123 bytes.
    pub fn close(self, code: u16, reason: &str) -> Result<Sent, Error> {
        Sent::of_command(self.server.close(self.id, code, reason))
    }

    /// Reports that the data of a message of `event` is invalid although it matches the schema. The verdict is
    /// `schema_mismatch`: it is counted, logged and enforced as `on_violation` and the event's `on_mismatch` say. An error reply has
    /// no id; [`Handle::report_invalid`](crate::Handle::report_invalid) gives it the message's.
    ///
    /// # Errors
    ///
    /// None yet.
    pub fn report_invalid_data(self, event: &str) -> Result<Sent, Error> {
        Sent::of_command(self.server.refuse_message(self.id, event, None))
    }

    /// Stops reading from the connection: its peer feels back-pressure, others do not. Messages that were read before may still
    /// arrive. Writing and pings go on, and the idle timeout does not run.
    ///
    /// # Errors
    ///
    /// None yet.
    pub fn pause(self) -> Result<Sent, Error> {
        Sent::of_command(self.server.pause(self.id))
    }

    /// Reads again after [`pause`](Self::pause).
    ///
    /// # Errors
    ///
    /// None yet.
    pub fn resume(self) -> Result<Sent, Error> {
        Sent::of_command(self.server.resume(self.id))
    }
}
