//! One open connection as a sans-I/O state machine: bytes in, bytes out, messages out, the next deadline.
//!
//! It decides everything between the 101 and the end of the socket: frames, rate, contract, pings, timeouts, the
//! closing handshake. It never reads a clock, never touches a socket and never calls the application: messages go to
//! a [`Sink`], bytes to [`Turn::out`].
//!
//! Order of use in a turn: `handle_*` (input, deadline, drained) or a command, then [`Connection::take_ending`], then
//! [`Connection::next_deadline`].

mod closing;
mod compressed;
mod delayed;
mod extras;
mod fragments;
mod heartbeat;
mod messages;

pub use closing::{Beginning, Ending, Phase, Reply};
pub use fragments::{Behind, DataOpcode, Fragment};
pub use heartbeat::MAX_PINGS;

use std::sync::Arc;
use std::time::Duration;

use crate::bucket::Bucket;
use crate::codec::{self, BufferPool, Decoder, Opcode, Payload, Step};
use crate::config::{Policy, Protocol};
use crate::contract::{Envelope, Scratch};
use crate::deflate::{Agreed, Compressed, Deflate};
use crate::limits::RateKey;
use crate::rate::{longest_wait, restated};
use crate::roles::Roles;
use crate::time::Moment;
use crate::verdict::Code;
use closing::Closing;
use delayed::Delayed;
use extras::Extras;

/// A message that passed every rule.
#[derive(Debug)]
pub enum Message<'m> {
    /// `protocol: "raw"`: a text message.
    Text(&'m str),
    /// `protocol: "raw"`: a binary message.
    Binary(&'m [u8]),
    /// `protocol: "json"`: an envelope.
    Event {
        /// Its parts.
        envelope: &'m Envelope<'m>,
        /// The whole message.
        text: &'m str,
    },
}

/// A rule that was broken, as it is logged and reported.
#[derive(Clone, Copy, Debug)]
pub struct Report<'r> {
    /// The verdict.
    pub code: Code,
    /// The event, when the message had one; chosen by the peer: escape before logging.
    pub event: Option<&'r str>,
    /// Which rule exactly, in our words; never payload.
    pub detail: &'r str,
}

/// Where a connection's messages and reports go.
pub trait Sink {
    /// Takes a message; replies may be appended to `out` as whole frames. An error closes the connection with it.
    fn message(&mut self, message: Message<'_>, out: &mut Vec<u8>) -> Result<(), Code>;
    /// Whether the replies to the last message are not to be compressed.
    fn answers_go_plain(&self) -> bool {
        false
    }
    /// Takes a report of what ends the connection.
    fn report(&mut self, report: Report<'_>);
    /// Takes a report of a message after which the connection goes on: rules only report, or the message is answered.
    fn remark(&mut self, report: Report<'_>) {
        self.report(report);
    }
    /// Takes the answer to a ping of the application.
    fn pong(&mut self, rtt: Duration);
    /// Takes the payload of a ping of the peer.
    fn ping_frame(&mut self, _payload: &[u8]) {}
    /// Takes the payload of a pong of the peer, whether it was asked for or not.
    fn pong_frame(&mut self, _payload: &[u8]) {}
    /// Whether the application still has messages of this connection that it may answer.
    fn replies_may_come(&self) -> bool;
}

/// What one turn lends to a connection: all of it belongs to the shard.
pub struct Turn<'t> {
    /// The policy in force.
    pub policy: &'t Policy,
    /// The time of this turn.
    pub now: Moment,
    /// Bytes for the peer: the cork of this turn.
    pub out: &'t mut Vec<u8>,
    /// Buffers for what is incomplete.
    pub pool: &'t mut BufferPool,
    /// Scratch of the JSON reader.
    pub scratch: &'t mut Scratch,
    /// For compressed messages.
    pub deflate: &'t mut Deflate,
    /// Whether bytes of earlier turns still wait for the socket.
    pub congested: bool,
    /// Messages that may be handled in this turn.
    pub message_budget: usize,
    /// Where messages go.
    pub sink: &'t mut dyn Sink,
}

/// What is known of a connection when it opens.
#[derive(Debug, Default)]
pub struct Opened {
    /// The bucket it shares; `None` where `rate_limit` is off.
    pub rate_key: Option<Arc<RateKey>>,
    /// When its session ends; [`Moment::NEVER`] without an expiry.
    pub expires_at: Moment,
    /// What it may do.
    pub roles: Roles,
    /// What its handshake agreed on of permessage-deflate; `None`: nothing is compressed.
    pub deflate: Option<Agreed>,
}

/// The policy that a connection had, and the one that it has from now on.
#[derive(Debug)]
pub struct PolicyChange<'p> {
    /// Until now.
    pub before: &'p Policy,
    /// From now on.
    pub after: &'p Policy,
    /// The bucket that it shares from now on.
    pub rate_key: Option<Arc<RateKey>>,
    /// What it may do from now on.
    pub roles: Roles,
}

/// One open connection.
#[derive(Debug)]
pub struct Connection {
    decoder: Decoder,
    rate_key: Option<Arc<RateKey>>,
    control: Bucket,
    delayed: Option<Box<Delayed>>,
    /// What was charged of the message in progress and has not leaked: a bucket of its own, at the rate of the byte bucket.
    charged: Bucket,
    last_received: Moment,
    next_ping: Moment,
    message_started: Moment,
    opened_at: Moment,
    expires_at: Moment,
    roles: Roles,
    closing: Option<Box<Closing>>,
    extras: Option<Box<Extras>>,
    /// Empty pings of ours without a pong, as far as they are counted: their answers are free.
    unanswered_pings: u8,
    /// So it is with those of the application that are not empty.
    expected_pongs: u8,
    /// Pings of the peer are the application's to answer.
    leaves_pings: bool,
    /// The window of permessage-deflate; 0: it was not agreed on.
    deflate: u8,
}

impl Connection {
    /// A connection whose 101 was sent at `now`.
    pub fn new(policy: &Policy, opened: Opened, now: Moment) -> Self {
        let next_ping = match policy.ping_interval_ms {
            0 => Moment::NEVER,
            interval => now.after_millis(interval),
        };
        Self {
            decoder: Decoder::default(),
            rate_key: opened.rate_key,
            control: Bucket::default(),
            delayed: None,
            charged: Bucket::default(),
            last_received: now,
            next_ping,
            message_started: Moment::NEVER,
            opened_at: now,
            expires_at: opened.expires_at,
            roles: opened.roles,
            closing: None,
            extras: None,
            unanswered_pings: 0,
            expected_pongs: 0,
            leaves_pings: false,
            deflate: opened.deflate.map_or(0, |agreed| agreed.server_window_bits),
        }
    }

    /// Goes on by another policy, from a reload: what was charged stays charged, and nobody who kept the rules before is closed
    /// for that. What waits was found valid when it came, and passes no later than a message may wait by the new rules.
    pub fn change_policy(&mut self, change: PolicyChange<'_>, now: Moment) {
        let PolicyChange { before, after, rate_key, roles } = change;
        let key_before = core::mem::replace(&mut self.rate_key, rate_key);
        self.roles = roles;
        if let (Some(key), Some(rules)) = (&self.rate_key, &after.rate_limit) {
            match &key_before {
                Some(before) if !Arc::ptr_eq(before, key) => key.take_over(before, rules, now),
                _ => key.change_rules(before.rate_limit.as_ref(), rules, now),
            }
        }
        if before.ping_interval_ms != after.ping_interval_ms {
            self.next_ping = match after.ping_interval_ms {
                0 => Moment::NEVER,
                interval => self.next_ping.min(now.after_millis(interval)),
            };
        }
        if let (Some(old), Some(new)) = (&before.control_rate_limit, &after.control_rate_limit)
            && old != new
        {
            self.control = restated(self.control, old, new, now);
        }
        let bytes = |policy: &Policy| policy.rate_limit.as_ref().and_then(|rules| rules.bytes);
        self.charged = match (bytes(before), bytes(after)) {
            (Some(old), Some(new)) if old != new => restated(self.charged, &old, &new, now),
            (_, Some(_)) => self.charged,
            (_, None) => Bucket::default(),
        };
        if let Some(delayed) = &mut self.delayed {
            delayed.release_by(after.rate_limit.as_ref().map_or(now, |rules| longest_wait(rules, now)));
        }
    }

    /// What it may do.
    pub fn roles(&self) -> &Roles {
        &self.roles
    }

    /// What its handshake agreed on of permessage-deflate; `None`: nothing is compressed.
    pub fn deflate(&self) -> Option<Agreed> {
        (self.deflate > 0).then_some(Agreed { server_window_bits: self.deflate })
    }

    /// When its 101 was sent.
    pub fn opened_at(&self) -> Moment {
        self.opened_at
    }

    /// Its bucket; `None` where `rate_limit` is off.
    pub fn rate_key(&self) -> Option<&Arc<RateKey>> {
        self.rate_key.as_ref()
    }

    /// Whether messages of the peer are taken: nothing has ended the connection yet.
    pub fn is_open(&self) -> bool {
        self.closing.is_none()
    }

    /// Whether frames of the application may still be sent: no close frame was.
    pub fn may_send(&self) -> bool {
        matches!(self.phase(), Phase::Open | Phase::Parting | Phase::Doomed)
    }

    /// Whether messages that were taken are still delivered.
    fn delivers(&self) -> bool {
        matches!(self.phase(), Phase::Open | Phase::Parting)
    }

    /// Messages that wait for their bucket.
    pub fn delayed_messages(&self) -> usize {
        self.delayed.as_ref().map_or(0, |delayed| delayed.len())
    }

    /// Takes bytes of the peer; returns how many were used. Fewer than all: the message budget is spent, call again.
    pub fn handle_input(&mut self, input: &mut [u8], turn: &mut Turn<'_>) -> usize {
        self.last_received = turn.now;
        // A timer may be late: an expired session is not served, and what is due goes before what comes now.
        self.end_expired_session(turn);
        self.release_delayed(turn.now, turn);
        let mut at = 0;
        let mut ended_message = false;
        let limits = self.limits(turn.policy);
        while self.is_open() {
            // An inline handler answers at once: what it says is bounded before more is asked of it.
            if turn.message_budget == 0 || turn.out.len() > turn.policy.max_outbox_bytes {
                self.note_progress(ended_message, turn.now);
                return at;
            }
            match self.decoder.next(input, &mut at, &limits, turn.pool) {
                Ok(Step::NeedMore) => {
                    self.charge_partial(turn);
                    self.note_progress(ended_message, turn.now);
                    break;
                }
                Ok(Step::Message { opcode, payload, compressed }) => {
                    ended_message = true;
                    turn.message_budget -= 1;
                    match compressed {
                        Some(frames) => {
                            let message = Compressed { payload: payload.bytes(input), frames };
                            self.handle_compressed(opcode, message, turn);
                        }
                        None => {
                            self.decoder.take_received_bytes();
                            self.handle_message(opcode, payload.bytes(input), turn);
                        }
                    }
                    payload.recycle(turn.pool);
                }
                Ok(Step::Control { opcode, payload }) => {
                    turn.message_budget -= 1;
                    self.handle_control(opcode, &payload, input, turn);
                    payload.recycle(turn.pool);
                }
                Err(violation) => self.fail(violation, turn),
            }
        }
        self.hear_out(&input[at..]);
        input.len()
    }

    fn limits(&self, policy: &Policy) -> codec::Limits {
        codec::Limits {
            max_message_bytes: policy.max_message_bytes,
            max_fragments: policy.max_fragments,
            text_only: policy.protocol == Protocol::Json && !policy.report_only(),
            deflate: self.deflate > 0,
        }
    }

    /// Starts or stops the clock of `message_timeout_ms`.
    fn note_progress(&mut self, ended_message: bool, now: Moment) {
        if !self.decoder.is_mid_message() {
            self.message_started = Moment::NEVER;
        } else if ended_message || self.message_started == Moment::NEVER {
            self.message_started = now;
        }
    }

    fn handle_control(&mut self, opcode: Opcode, payload: &Payload, input: &[u8], turn: &mut Turn<'_>) {
        let payload = payload.bytes(input);
        if opcode == Opcode::Close {
            return self.handle_close(payload, turn);
        }
        self.handle_heartbeat(opcode, payload, turn);
    }

    /// The socket took everything that waited: what was held back may go.
    pub fn handle_drained(&mut self, turn: &mut Turn<'_>) {
        if let Some(payload) = self.extras.as_mut().and_then(|extras| extras.pong.take())
            && self.is_open()
        {
            codec::pong_frame(turn.out, &payload);
            self.forget_idle_extras();
        }
    }

    /// A deadline may have come: acts on every one that has.
    pub fn handle_deadline(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now;
        self.end_expired_session(turn);
        if self.closing.is_some() {
            return self.handle_closing_deadline(turn);
        }
        if self.idle_at(turn.policy) <= now {
            let detail = format!("nothing received for idle_timeout_ms ({})", turn.policy.idle_timeout_ms);
            return self.violate(&Report { code: Code::IdleTimeout, event: None, detail: &detail }, turn);
        }
        if self.message_at(turn.policy) <= now {
            let (kept, timeout) = (self.decoder.buffered_bytes(), turn.policy.message_timeout_ms);
            let detail = format!("a message, {kept} bytes so far, did not end within message_timeout_ms ({timeout})");
            return self.violate(&Report { code: Code::MessageTimeout, event: None, detail: &detail }, turn);
        }
        self.release_delayed(now, turn);
        if self.next_ping <= now && self.is_open() {
            if !turn.congested {
                turn.out.extend_from_slice(&codec::PING_FRAME);
                self.unanswered_pings = self.unanswered_pings.saturating_add(1);
            }
            self.next_ping = now.after_millis(turn.policy.ping_interval_ms);
        }
    }

    /// Nothing of an expired session is handled any more, also not what came before and waits.
    fn end_expired_session(&mut self, turn: &mut Turn<'_>) {
        if self.ends_at(turn.policy) > turn.now || !self.delivers() {
            return;
        }
        let detail = if self.expires_at <= turn.now {
            "expires_at_ms has come".to_owned()
        } else {
            format!("open for max_session_ms ({})", turn.policy.max_session_ms)
        };
        self.violate(&Report { code: Code::SessionExpired, event: None, detail: &detail }, turn);
    }

    /// When its session ends: by its credential, or because it was open for as long as it may be.
    fn ends_at(&self, policy: &Policy) -> Moment {
        match policy.max_session_ms {
            0 => self.expires_at,
            most => self.expires_at.min(self.opened_at.after_millis(most)),
        }
    }

    /// The peer was not read for reasons of ours: its silence does not count against it.
    pub fn excuse(&mut self, now: Moment) {
        self.last_received = now;
        self.excuse_message(now);
    }

    /// The rest of a message was not read for reasons of ours: the time it takes does not count against the peer.
    pub fn excuse_message(&mut self, now: Moment) {
        if self.message_started != Moment::NEVER {
            self.message_started = now;
        }
    }

    fn idle_at(&self, policy: &Policy) -> Moment {
        match policy.idle_timeout_ms {
            0 => Moment::NEVER,
            timeout => self.last_received.after_millis(timeout),
        }
    }

    fn message_at(&self, policy: &Policy) -> Moment {
        self.message_started.after_millis(policy.message_timeout_ms)
    }

    /// When [`handle_deadline`](Self::handle_deadline) is next due.
    pub fn next_deadline(&self, policy: &Policy) -> Moment {
        if let Some(closing) = &self.closing {
            let ends_at = if self.delivers() { self.ends_at(policy) } else { Moment::NEVER };
            return closing.next_deadline().min(ends_at);
        }
        let delayed = self.delayed.as_ref().map_or(Moment::NEVER, |delayed| delayed.next_release());
        self.idle_at(policy).min(self.next_ping).min(self.message_at(policy)).min(self.ends_at(policy)).min(delayed)
    }
}

#[cfg(test)]
mod tests;
