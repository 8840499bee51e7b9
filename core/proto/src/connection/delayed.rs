//! The delayed queue: messages that wait for their bucket, in order, bounded in number and bytes.

use std::collections::VecDeque;

use super::{Connection, Message, Turn};
use crate::rate::QueuePlace;
use crate::time::Moment;

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
        }
    }

    pub(super) fn last_release(&self) -> Moment {
        self.messages.back().map_or(Moment::START, |waiting| waiting.release)
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
            && delayed.next_release() <= until
        {
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

    /// Delivers everything that waits, in order, without waiting: the server drains. Messages of a key pass faster than its
    /// rate here, at most `queue` of them and once in a server's life.
    pub fn release_all_delayed(&mut self, turn: &mut Turn<'_>) {
        self.end_expired_session(turn);
        self.release_delayed(Moment::NEVER, turn);
        self.go_on_parting(turn);
    }
}
