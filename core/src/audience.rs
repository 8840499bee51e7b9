//! Several connections at once: a room, or everyone.

use serde::Serialize;

use crate::driver::{self, ConnectionId, ServerHandle, To};
use crate::error::Error;
use crate::payload::Payload;
use crate::raw_json::with_text;
use crate::sent::Sent;

/// The members of a room ([`Handle::room`](crate::Handle::room)), or everyone ([`Handle::everyone`](crate::Handle::everyone)).
///
/// A message is encoded once for all of them. A member that reads too slowly is closed alone, as `slow_consumer`.
#[derive(Clone, Debug)]
#[must_use = "an audience hears nothing until something is said to it"]
pub struct Audience<'h> {
    server: &'h ServerHandle,
    to: To<'h>,
    except: Vec<ConnectionId>,
}

impl<'h> Audience<'h> {
    pub(crate) fn new(server: &'h ServerHandle, to: To<'h>) -> Self {
        Self { server, to, except: Vec::new() }
    }

    /// Leaves out one connection. Call it several times to leave out several.
    pub fn except(mut self, conn: ConnectionId) -> Self {
        self.except.push(conn);
        self
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
        let outcome = self.server.broadcast(self.to, event, json, &self.except);
        Self::said(self.server, outcome)
    }

    /// Sends a text or a binary message (`raw`).
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`], as for [`emit`](Self::emit).
    pub fn send<'p>(self, payload: impl Into<Payload<'p>>) -> Result<Sent, Error> {
        let outcome = match payload.into() {
            Payload::Text(text) => self.server.broadcast_text(self.to, text, &self.except),
            Payload::Binary(bytes) => self.server.broadcast_binary(self.to, bytes, &self.except),
        };
        Self::said(self.server, outcome)
    }

    fn said(server: &ServerHandle, outcome: Result<(), Error>) -> Result<Sent, Error> {
        let waits = || if server.broadcasts_wait() { driver::Sent::Queued } else { driver::Sent::Sent };
        Sent::of(outcome.map(|()| waits()))
    }
}
