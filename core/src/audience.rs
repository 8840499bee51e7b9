//! Several connections at once: rooms, a user, everyone.

use std::collections::HashSet;
use std::time::Duration;

use serde::Serialize;

use crate::driver::{self, ConnectionId, Everywhere, ServerHandle, To};
use crate::error::Error;
use crate::payload::Payload;
use crate::raw_json::with_text;
use crate::sent::Sent;

/// The members of a room ([`Handle::room`](crate::Handle::room)) or of several ([`Handle::rooms`](crate::Handle::rooms)), the
/// connections of a user ([`Handle::to_user`](crate::Handle::to_user)), or everyone
/// ([`Handle::everyone`](crate::Handle::everyone)): each connection once. Who that is is decided at the call.
///
/// A message is encoded once for all of them, and compressed once for each window size that members have agreed to. A member that
/// reads too slowly is closed alone, as `slow_consumer`.
#[derive(Clone, Debug)]
#[must_use = "an audience hears nothing until something is said to it"]
pub struct Audience<'h> {
    server: &'h ServerHandle,
    to: To<'h>,
    except: Vec<ConnectionId>,
    compress: bool,
}

impl<'h> Audience<'h> {
    pub(crate) fn new(server: &'h ServerHandle, to: To<'h>) -> Self {
        Self { server, to, except: Vec::new(), compress: true }
    }

    /// Lets the message go plain to all of them, also to those that have agreed to `compression`: see
    /// [`Conn::plain`](crate::Conn::plain).
    pub fn plain(mut self) -> Self {
        self.compress = false;
        self
    }

    /// Leaves out one connection. Call it several times to leave out several.
    pub fn except(mut self, conn: ConnectionId) -> Self {
        self.except.push(conn);
        self
    }

    /// Leaves out several connections.
    pub fn except_all(mut self, conns: impl IntoIterator<Item = ConnectionId>) -> Self {
        self.except.extend(conns);
        self
    }

    /// The connections, now, in no particular order.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] if a room's name is not 1 to 256 bytes.
    pub fn members(&self) -> Result<Vec<ConnectionId>, Error> {
        let mut members = self.server.members(self.to)?;
        if !self.except.is_empty() {
            let except: HashSet<_> = self.except.iter().collect();
            members.retain(|conn| !except.contains(conn));
        }
        Ok(members)
    }

    /// How many connections that are, now.
    ///
    /// # Errors
    ///
    /// As [`members`](Self::members).
    #[expect(clippy::len_without_is_empty, reason = "a room without members is no room")]
    pub fn len(&self) -> Result<usize, Error> {
        match self.to {
            To::Room(room) if self.except.is_empty() => match self.server.room_size(room) {
                // None: its name may be out of bounds.
                0 => Ok(self.members()?.len()),
                size => Ok(size),
            },
            _ => Ok(self.members()?.len()),
        }
    }

    /// How many connections that are on all nodes of a cluster, which are asked for at most `timeout` (a minute at most). What is left
    /// out is left out of those of this node.
    ///
    /// # Errors
    ///
    /// As [`members`](Self::members), and [`Error::Stopped`].
    pub async fn everywhere(self, timeout: Duration) -> Result<Everywhere, Error> {
        let (counted, outcome) = tokio::sync::oneshot::channel();
        self.server.count_everywhere(self.to, &self.except, timeout, move |outcome| {
            // An error here: nobody waits any more.
            let _ = counted.send(outcome);
        })?;
        outcome.await.unwrap_or(Err(Error::Stopped))
    }

    /// Takes the members out of the room, or of each of the rooms. A connection that joins at the same time may stay.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for an audience that is no room, and as [`members`](Self::members).
    pub fn clear(self) -> Result<(), Error> {
        let rooms = match &self.to {
            To::Room(room) => core::slice::from_ref(room),
            To::Rooms(rooms) => rooms,
            To::Everyone | To::User(_) => return Err(Error::InvalidArgument("only a room can be cleared")),
        };
        self.server.clear_rooms(rooms, &self.except)
    }

    /// Starts the closing handshake with each connection.
    ///
    /// # Errors
    ///
    /// As [`Conn::close`](crate::Conn::close) and [`members`](Self::members).
    pub fn close(self, code: u16, reason: &str) -> Result<Sent, Error> {
        Sent::of_command(self.server.close_all(self.to, code, reason, &self.except))
    }

    /// Emits an event (`json`).
    ///
    /// # Errors
    ///
    /// [`Error::Data`] if `data` cannot be written as JSON; [`Error::InvalidArgument`] if the message is larger than
    /// `max_outbox_bytes`, or the room's name is not 1 to 256 bytes.
    pub fn emit(self, event: &str, data: &(impl Serialize + ?Sized)) -> Result<Sent, Error> {
        with_text(data, |json| self.emit_json_text(event, json))
    }

    /// As [`emit`](Self::emit), with data that is JSON text already. The text is not checked.
    pub fn emit_json_text(self, event: &str, json: &str) -> Result<Sent, Error> {
        let outcome = self.server.speaker(self.compress).broadcast(self.to, event, json, &self.except);
        Self::said(self.server, outcome)
    }

    /// Sends a text or a binary message (`raw`).
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`], as for [`emit`](Self::emit).
    pub fn send<'p>(self, payload: impl Into<Payload<'p>>) -> Result<Sent, Error> {
        let outcome = match payload.into() {
            Payload::Text(text) => self.server.speaker(self.compress).broadcast_text(self.to, text, &self.except),
            Payload::Binary(bytes) => self.server.speaker(self.compress).broadcast_binary(self.to, bytes, &self.except),
        };
        Self::said(self.server, outcome)
    }

    fn said(server: &ServerHandle, outcome: Result<(), Error>) -> Result<Sent, Error> {
        let waits = || if server.broadcasts_wait() { driver::Sent::Queued } else { driver::Sent::Sent };
        Sent::of(outcome.map(|()| waits()))
    }
}
