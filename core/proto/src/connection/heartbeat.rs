//! Pings and pongs: the application's, the peer's, those that answer, and those that nobody asked for.

use super::{Connection, Report, Turn};
use crate::codec::{self, Opcode};
use crate::verdict::Code;

/// Pings of the application without an answer, on one connection.
pub const MAX_PINGS: usize = 16;

impl Connection {
    /// Sends a ping of the application with a payload that the peer cannot know before; `false`: the connection is not open any
    /// more, or [`MAX_PINGS`] are under way.
    pub fn ping(&mut self, payload: [u8; 8], turn: &mut Turn<'_>) -> bool {
        if !self.is_open() || self.pings_under_way() == MAX_PINGS {
            return false;
        }
        codec::ping_frame(turn.out, &payload);
        self.extras.get_or_insert_default().pings.push_back((payload, turn.now));
        true
    }

    /// The application's pings without an answer.
    pub fn pings_under_way(&self) -> usize {
        self.extras.as_ref().map_or(0, |extras| extras.pings.len())
    }

    /// The application sends a ping with a payload of its own: one pong of the peer more is asked for.
    pub fn expect_pong(&mut self, payload: &[u8]) {
        let expected = if payload.is_empty() { &mut self.unanswered_pings } else { &mut self.expected_pongs };
        *expected = expected.saturating_add(1);
    }

    /// Whether pings are answered here, or left to the application.
    pub fn set_auto_pong(&mut self, answers: bool) {
        self.leaves_pings = !answers;
        if self.leaves_pings
            && let Some(extras) = &mut self.extras
        {
            extras.pong = None;
            self.forget_idle_extras();
        }
    }

    /// A ping or a pong of the peer.
    pub(super) fn handle_heartbeat(&mut self, opcode: Opcode, payload: &[u8], turn: &mut Turn<'_>) {
        let is_pong = opcode == Opcode::Pong;
        let is_free = is_pong && self.is_asked_for(payload, turn);
        if !is_free
            && let Some(rate) = &turn.policy.control_rate_limit
            && self.control.try_pour(rate, 1, turn.now).is_err()
        {
            let detail = format!("pings and pongs over control_rate_limit ({rate})");
            return self.refuse(&Report { code: Code::ControlFlood, event: None, detail: &detail }, turn);
        }
        if is_pong {
            return turn.sink.pong_frame(payload);
        }
        turn.sink.ping_frame(payload);
        if self.leaves_pings {
            return;
        }
        if turn.congested {
            self.extras.get_or_insert_default().pong = Some(payload.into());
        } else {
            codec::pong_frame(turn.out, payload);
        }
    }

    /// Whether a pong answers a ping of ours: such a one is free. Keep-alive pings are empty, those that are timed are not:
    /// neither is mistaken for the other. What the application chose as a payload is known to nobody here: as many pongs are
    /// free as it has sent pings, whatever is in them.
    ///
    /// A peer may answer the last ping alone (RFC 6455 section 5.5.3): a pong answers those before it, too, each at its own time.
    fn is_asked_for(&mut self, payload: &[u8], turn: &mut Turn<'_>) -> bool {
        if payload.is_empty() {
            return take_one(&mut self.unanswered_pings);
        }
        let pings = self.extras.as_mut().map(|extras| &mut extras.pings);
        let Some((pings, last)) = pings.and_then(|pings| {
            let last = pings.iter().position(|(own, _)| own == payload)?;
            Some((pings, last))
        }) else {
            return take_one(&mut self.expected_pongs);
        };
        for (_, sent) in pings.drain(..=last) {
            turn.sink.pong(turn.now.since(sent));
        }
        self.forget_idle_extras();
        true
    }
}

/// Takes one of so many; `false`: there is none.
fn take_one(of: &mut u8) -> bool {
    let any = *of > 0;
    *of = of.saturating_sub(1);
    any
}
