//! What few connections have, in a box of its own: an idle connection is no larger for it.

use std::collections::VecDeque;

use super::Connection;
use crate::time::Moment;

/// What a connection has of this kind.
#[derive(Debug, Default)]
pub(super) struct Extras {
    /// The one pong that waits while the peer does not read.
    pub(super) pong: Option<Box<[u8]>>,
    /// The application's pings under way, oldest first: payload, and when it was sent.
    pub(super) pings: VecDeque<([u8; 8], Moment)>,
}

impl Connection {
    /// Gives the memory back when there is nothing in it.
    pub(super) fn forget_idle_extras(&mut self) {
        self.extras.take_if(|extras| extras.pong.is_none() && extras.pings.is_empty());
    }
}
