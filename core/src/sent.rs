//! The result of a call on a connection.

use crate::driver;
use crate::error::Error;

/// The result of sending to a connection, to a room or to everyone.
///
/// A connection may close at any moment. Therefore a closed connection is a value, not an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Sent {
    /// It is on its way.
    Sent,
    /// It waits, because the peer has not read earlier messages: [`Event::Drained`](crate::Event::Drained) follows when it
    /// has. For a room or everyone: broadcasts are sent faster than the server carries them out, and wait in memory.
    Queued,
    /// It was discarded: the connection is closed, or the server has stopped.
    Closed,
}

impl Sent {
    /// Returns true if it was discarded.
    pub fn is_closed(self) -> bool {
        self == Sent::Closed
    }

    pub(crate) fn of(outcome: Result<driver::Sent, Error>) -> Result<Self, Error> {
        match outcome {
            Ok(driver::Sent::Sent) => Ok(Sent::Sent),
            Ok(driver::Sent::Queued) => Ok(Sent::Queued),
            Err(Error::ConnectionClosed | Error::Stopped) => Ok(Sent::Closed),
            Err(error) => Err(error),
        }
    }

    /// The same of a command that waits for no peer.
    pub(crate) fn of_command(outcome: Result<(), Error>) -> Result<Self, Error> {
        Self::of(outcome.map(|()| driver::Sent::Sent))
    }
}
