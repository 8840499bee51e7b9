//! What few connections have, in a box of its own: an idle connection is no larger for it.

use std::collections::VecDeque;

use super::{Behind, Connection};
use crate::time::Moment;

/// What a connection has of this kind.
#[derive(Debug, Default)]
pub(super) struct Extras {
    /// The one pong that waits while the peer does not read.
    pub(super) pong: Option<Box<[u8]>>,
    /// The application's pings under way, oldest first: payload, and when it was sent.
    pub(super) pings: VecDeque<([u8; 8], Moment)>,
    /// While a message is sent in fragments: frames of other messages, which may not come between them.
    pub(super) behind: Option<Behind>,
}

impl Connection {
    /// Gives the memory back when there is nothing in it.
    pub(super) fn forget_idle_extras(&mut self) {
        self.extras.take_if(|extras| extras.pong.is_none() && extras.pings.is_empty() && extras.behind.is_none());
    }

    /// The peer is not answered, and not asked, any more.
    pub(super) fn end_heartbeat(&mut self) {
        if let Some(extras) = &mut self.extras {
            extras.pong = None;
            extras.pings.clear();
            self.forget_idle_extras();
        }
    }
}
