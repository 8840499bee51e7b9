//! A compressed message: inflated no further than it may be, and judged as if it had come so.

use super::{Connection, Report, Turn};
use crate::bucket::Bucket;
use crate::codec::{Opcode, Violation};
use crate::deflate::{Broken, Compressed};
use crate::rate::Charge;
use crate::time::Moment;
use crate::verdict::Code;

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
        let most = limit.min(self.rate_room(turn));
        let charged = self.charged;
        let (mut room, before) = (turn.deflate.take_room(), turn.deflate.bytes_inflated);
        let inflated = turn.deflate.inflate(compressed, most, &mut room);
        let bytes = turn.deflate.bytes_inflated - before;
        let work = (bytes / BYTES_PER_MESSAGE).max(turn.deflate.more_blocks() * MESSAGES_PER_BLOCK);
        turn.message_budget = turn.message_budget.saturating_sub(work as usize);
        let surcharge = turn.deflate.surcharge_bytes();
        turn.deflate.surcharge = Some(surcharge);
        match inflated {
            Ok(message) => self.handle_message(opcode, message, turn),
            Err(Broken::TooBig) if most < limit => self.refuse_over_rate(most as u64 + 1, turn),
            Err(Broken::TooBig) => self.fail(Violation::TooBigInflated { limit: limit as u64 }, turn),
            Err(Broken::Corrupt(fault)) => self.fail(Violation::Compression(fault), turn),
        }
        if turn.deflate.surcharge.take().is_some() && !self.is_open() {
            self.charge_in_vain(bytes + surcharge, charged, turn);
        }
        turn.deflate.put_room(room);
    }

    /// How long a message may be, whatever else is right with it. Without this a bucket that is full but for a few bytes would let in
    /// what inflates to a thousand times as many, and that could be charged only as far as the bucket goes: whoever comes again
    /// and again would have far more inflated for him than his rate allows.
    fn rate_room(&self, turn: &Turn<'_>) -> usize {
        match (&self.rate_key, &turn.policy.rate_limit) {
            (Some(key), Some(rules)) if !turn.policy.report_only() => {
                usize::try_from(key.most_bytes(rules, &self.charged, turn.now)).unwrap_or(usize::MAX)
            }
            _ => usize::MAX,
        }
    }

    /// Refuses a message that is longer than its rate has room for, by so many bytes at least.
    #[cold]
    fn refuse_over_rate(&mut self, bytes: u64, turn: &mut Turn<'_>) {
        let (Some(key), Some(rules)) = (&self.rate_key, &turn.policy.rate_limit) else { return };
        let charge = Charge { cost: 0.0, bytes, charged: self.charged, not_before: Moment::START, held: 0 };
        let detail = key.overflow_of(rules, &charge, turn.now).describe(rules);
        self.refuse(&Report { code: Code::RateLimited, event: None, detail: &detail }, turn);
    }

    /// Charges the byte bucket for what was inflated in vain: whoever comes again with the next such message has paid for this one.
    /// As where it passes, what was charged as it came counts as far as it has not leaked: else many messages could come bit by
    /// bit within the rate, and all be inflated at one moment.
    fn charge_in_vain(&self, bytes: u64, charged: Bucket, turn: &Turn<'_>) {
        if let (Some(key), Some(rules)) = (&self.rate_key, &turn.policy.rate_limit) {
            key.charge_bytes(rules, bytes, &charged, turn.now);
        }
    }
}
