//! The delayed queue: messages that wait for their bucket, in order, bounded in number and bytes.

use std::collections::VecDeque;

use super::{Connection, Message, Report, Turn};
use crate::rate::{Held, Overflow, QueuePlace};
use crate::time::Moment;
use crate::verdict::Code;

/// A message that waits. Its place in the queue of its key comes back with it, wherever it ends.
#[derive(Debug)]
struct Waiting {
    release: Moment,
    message: Kept,
    place: QueuePlace,
}

/// The payload of a message that waits, of exactly its size: a buffer of the pool may be a thousand times larger than what it
/// holds.
#[derive(Debug)]
pub(super) enum Kept {
    /// A text, also one that is an envelope.
    Text(Box<str>),
    Binary(Box<[u8]>),
}

impl Kept {
    fn of(message: &Message<'_>) -> Self {
        match *message {
            Message::Text(text) | Message::Event { text, .. } => Kept::Text(text.into()),
            Message::Binary(payload) => Kept::Binary(payload.into()),
        }
    }

    fn len(&self) -> usize {
        match self {
            Kept::Text(text) => text.len(),
            Kept::Binary(payload) => payload.len(),
        }
    }
}

/// What waits on one connection.
#[derive(Debug, Default)]
pub(super) struct Delayed {
    messages: VecDeque<Waiting>,
    bytes: usize,
}

impl Delayed {
    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    /// Payload bytes that are held.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn next_release(&self) -> Moment {
        self.messages.front().map_or(Moment::NEVER, |waiting| waiting.release)
    }

    /// Nothing waits longer than until `latest`.
    pub(super) fn release_by(&mut self, latest: Moment) {
        for waiting in &mut self.messages {
            waiting.release = waiting.release.min(latest);
            waiting.place.passes_by(latest);
        }
    }

    /// What comes now passes after that. The first one may have been put off beyond what the last one was told.
    pub(super) fn last_release(&self) -> Moment {
        self.messages.back().map_or(Moment::START, |waiting| waiting.release.max(self.next_release()))
    }
}

impl Connection {
    /// Puts an admitted message into the queue.
    pub(super) fn delay(&mut self, release: Moment, place: QueuePlace, message: &Message<'_>) {
        let delayed = self.delayed.get_or_insert_default();
        let message = Kept::of(message);
        delayed.bytes += message.len();
        delayed.messages.push_back(Waiting { release, message, place });
    }

    /// Delivers what is due at `until`.
    pub(super) fn release_delayed(&mut self, until: Moment, turn: &mut Turn<'_>) {
        while self.delivers()
            && let Some(delayed) = &mut self.delayed
            && let Some(first) = delayed.messages.front_mut()
            && first.release <= until
        {
            // Where everything is let go nothing is tried.
            if until <= turn.now
                && let Err(held) = first.place.pass(turn.policy.rate_limit.as_ref(), turn.now)
            {
                match held {
                    Held::Until(at) => first.release = at,
                    Held::Over(over) => self.overflow_late(over, turn),
                }
                continue;
            }
            let Some(waiting) = delayed.messages.pop_front() else { break };
            delayed.bytes -= waiting.message.len();
            if delayed.messages.is_empty() {
                self.delayed = None;
            }
            drop(waiting.place);
            self.expect_answer(turn.now);
            self.deliver_delayed(&waiting.message, turn);
        }
    }

    /// Messages of other nodes have taken the room that a message waits for: it has waited for as long as it may.
    fn overflow_late(&mut self, over: Overflow, turn: &mut Turn<'_>) {
        if let Some(delayed) = &mut self.delayed
            && let Some(waiting) = delayed.messages.pop_front()
        {
            delayed.bytes -= waiting.message.len();
        }
        self.delayed.take_if(|delayed| delayed.messages.is_empty());
        let Some(rules) = &turn.policy.rate_limit else { return };
        let detail = over.describe(rules);
        self.refuse(&Report { code: Code::RateLimited, event: None, detail: &detail }, turn);
    }

    /// Delivers everything that waits, in order, without waiting: the server drains. Messages of a key pass faster than its
    /// rate here, at most `queue` of them and once in a server's life.
    pub fn release_all_delayed(&mut self, turn: &mut Turn<'_>) {
        self.end_expired_session(turn);
        self.release_delayed(Moment::NEVER, turn);
        self.go_on_parting(turn);
    }
}
