//! The delayed queue: messages that wait for their bucket, in order, bounded in number and bytes (THREATS R1, R9).

use std::collections::VecDeque;

use super::{Connection, Turn};
use crate::codec::Opcode;
use crate::time::Moment;

#[derive(Debug)]
struct Waiting {
    release: Moment,
    opcode: Opcode,
    payload: Vec<u8>,
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

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn next_release(&self) -> Moment {
        self.messages.front().map_or(Moment::NEVER, |waiting| waiting.release)
    }

    pub(super) fn last_release(&self) -> Moment {
        self.messages.back().map_or(Moment::START, |waiting| waiting.release)
    }
}

impl Connection {
    /// Puts an admitted message into the queue.
    pub(super) fn delay(&mut self, release: Moment, opcode: Opcode, payload: &[u8], turn: &mut Turn<'_>) {
        let mut kept = turn.pool.take();
        kept.extend_from_slice(payload);
        let delayed = self.delayed.get_or_insert_default();
        delayed.bytes += kept.len();
        delayed.messages.push_back(Waiting { release, opcode, payload: kept });
    }

    /// Delivers what is due at `until`.
    pub(super) fn release_delayed(&mut self, until: Moment, turn: &mut Turn<'_>) {
        while let Some(delayed) = &mut self.delayed
            && delayed.next_release() <= until
            && self.closing.is_none()
        {
            let Some(waiting) = delayed.messages.pop_front() else { break };
            delayed.bytes -= waiting.payload.len();
            if delayed.messages.is_empty() {
                self.delayed = None;
            }
            if let Some(key) = &self.rate_key {
                key.leave_queue(1);
            }
            self.deliver_delayed(waiting.opcode, &waiting.payload, turn);
            turn.pool.put(waiting.payload);
        }
    }

    /// Delivers everything that waits, in order, without waiting: the peer has said goodbye, or the server drains. It
    /// was poured into the bucket when it came, so the key's long-run rate holds.
    pub fn release_all_delayed(&mut self, turn: &mut Turn<'_>) {
        self.release_delayed(Moment::NEVER, turn);
    }

    /// Drops what waits: its connection is refused or gone.
    pub(super) fn drop_delayed(&mut self) {
        if let (Some(delayed), Some(key)) = (self.delayed.take(), &self.rate_key) {
            key.leave_queue(delayed.len() as u32);
        }
    }
}
