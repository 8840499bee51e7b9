//! Pings of the application, and pongs: those that answer, and those that nobody asked for.

use std::collections::VecDeque;

use super::{Connection, Turn};
use crate::codec;
use crate::time::Moment;

/// Pings of the application without an answer, on one connection.
pub const MAX_PINGS: usize = 16;

/// What a connection has of this kind.
#[derive(Debug, Default)]
pub(super) struct Heartbeat {
    /// The one pong that waits while the peer does not read.
    pub(super) pong: Option<Box<[u8]>>,
    /// The application's pings under way, oldest first: payload, and when it was sent.
    pings: VecDeque<([u8; 8], Moment)>,
}

impl Connection {
    /// Sends a ping of the application with a payload that the peer cannot know before; `false`: the connection is not open any
    /// more, or [`MAX_PINGS`] are under way.
    pub fn ping(&mut self, payload: [u8; 8], turn: &mut Turn<'_>) -> bool {
        if !self.is_open() || self.pings_under_way() == MAX_PINGS {
            return false;
        }
        codec::ping_frame(turn.out, &payload);
        self.heartbeat.get_or_insert_default().pings.push_back((payload, turn.now));
        true
    }

    /// The application's pings without an answer.
    pub fn pings_under_way(&self) -> usize {
        self.heartbeat.as_ref().map_or(0, |heartbeat| heartbeat.pings.len())
    }

    /// Whether a pong answers a ping of ours: such a one is free. Keep-alive pings are empty, the application's are not: neither
    /// is mistaken for the other.
    ///
    /// A peer may answer the last ping alone (RFC 6455 section 5.5.3): a pong answers those before it, too, each at its own time.
    pub(super) fn is_asked_for(&mut self, payload: &[u8], turn: &mut Turn<'_>) -> bool {
        if payload.is_empty() {
            let is_asked_for = self.unanswered_pings > 0;
            self.unanswered_pings = self.unanswered_pings.saturating_sub(1);
            return is_asked_for;
        }
        let Some(heartbeat) = &mut self.heartbeat else { return false };
        let Some(last) = heartbeat.pings.iter().position(|(own, _)| own == payload) else { return false };
        for (_, sent) in heartbeat.pings.drain(..=last) {
            turn.sink.pong(turn.now.since(sent));
        }
        self.forget_idle_heartbeat();
        true
    }

    /// Gives the memory back when there is nothing in it.
    pub(super) fn forget_idle_heartbeat(&mut self) {
        self.heartbeat.take_if(|heartbeat| heartbeat.pong.is_none() && heartbeat.pings.is_empty());
    }
}
