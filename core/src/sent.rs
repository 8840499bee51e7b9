//! What became of a call to a connection.

use crate::driver;
use crate::error::Error;

/// What became of something that was said to a connection, to a room or to everyone.
///
/// A connection may close at any moment, so that it has closed is a value and no [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Sent {
    /// It is on its way.
    Sent,
    /// It waits, because the peer has not read what was sent before: [`Event::Drained`](crate::Event::Drained) tells when
    /// it has. To a room or to everyone: broadcasts come faster than they are carried out, and wait in memory.
    Queued,
    /// It went nowhere: the connection is closed, or the server has stopped.
    Closed,
}

impl Sent {
    /// Whether it went nowhere.
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
