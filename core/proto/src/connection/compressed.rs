//! A compressed message: inflated no further than it may be, and judged as if it had come so.

use super::{Connection, Turn};
use crate::codec::{Opcode, Violation};
use crate::deflate::{Broken, Compressed};

/// Inflated bytes that count for one message in the budget of a turn: a megabyte takes the whole turn of a connection, and the
/// others of its shard have theirs before the next.
const BYTES_PER_MESSAGE: u64 = 1024;
/// A block with codes of its own takes as long as so many kilobytes, however little is in it.
const MESSAGES_PER_BLOCK: u64 = 3;

impl Connection {
    // THREATS D4, D7.
    /// A whole message that is compressed, unmasked.
    pub(super) fn handle_compressed(&mut self, opcode: Opcode, compressed: Compressed<'_>, turn: &mut Turn<'_>) {
        // Before it is inflated: whose rate has no room for what came has none for what comes of it.
        self.charge_partial(turn);
        if !self.is_open() {
            return;
        }
        let limit = turn.policy.max_message_bytes;
        let (mut room, before) = (turn.deflate.take_room(), turn.deflate.bytes_inflated);
        let inflated = turn.deflate.inflate(compressed, limit, &mut room);
        let bytes = turn.deflate.bytes_inflated - before;
        let work = (bytes / BYTES_PER_MESSAGE).max(turn.deflate.more_blocks() * MESSAGES_PER_BLOCK);
        turn.message_budget = turn.message_budget.saturating_sub(work as usize);
        let surcharge = turn.deflate.surcharge_bytes();
        turn.deflate.surcharge = Some(surcharge);
        match inflated {
            Ok(message) => self.handle_message(opcode, message, turn),
            Err(Broken::TooBig) => self.fail(Violation::TooBigInflated { limit: limit as u64 }, turn),
            Err(Broken::Corrupt(fault)) => self.fail(Violation::Compression(fault), turn),
        }
        if turn.deflate.surcharge.take().is_some() && !self.is_open() {
            self.charge_in_vain((bytes + surcharge).saturating_sub(compressed.payload.len() as u64), turn);
        }
        turn.deflate.put_room(room);
    }

    /// Charges the byte bucket for what was inflated in vain: whoever comes again with the next such message has paid for this one.
    fn charge_in_vain(&self, bytes: u64, turn: &Turn<'_>) {
        if let (Some(key), Some(rules)) = (&self.rate_key, &turn.policy.rate_limit) {
            key.charge_bytes(rules, bytes, turn.now);
        }
    }
}
