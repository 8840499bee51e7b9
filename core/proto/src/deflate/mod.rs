//! permessage-deflate (RFC 7692): what is agreed in the opening handshake, and what a shard lends for it to a connection's turn.
//!
//! Never with context takeover: each message is compressed by itself. So an idle connection holds neither compressor nor window,
//! one of each serves all connections of a shard, and secrets of different messages never share a window.

mod blocks;
mod deflater;
mod huffman;
mod inflater;
mod input;
mod negotiate;
mod short;
mod tables;

pub use deflater::{BUDGET_BYTES, Budget, Deflater, Pressed, WINDOW_SIZES, payload, payload_bytes};
pub use inflater::{Broken, Compressed, Inflater};
pub use negotiate::{AcceptedOffer, negotiate};

use crate::options::Compression;

/// What both sides agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// The window that our messages may refer back to, as a power of two: 9 to 15.
    pub server_window_bits: u8,
}

/// Room for an inflated message that is kept for the next one.
const KEPT_ROOM: usize = 256 * 1024;

/// What a shard lends to a turn for compressed messages. It is empty until the first one comes.
#[derive(Debug, Default)]
pub struct Deflate {
    /// Made at the first compressed message.
    pub inflater: Option<Box<Inflater>>,
    /// What may still be compressed of ours in this run.
    pub budget: Budget,
    /// Made when the first message of ours is compressed.
    pub deflater: Option<Box<Deflater>>,
    /// Compressed messages that were inflated.
    pub messages_inflated: u64,
    /// Bytes that compressed messages were inflated to, also those that were refused.
    pub bytes_inflated: u64,
    /// What the compressed message in progress is to be charged beside its bytes; `None`: there is none, or it was charged.
    pub(crate) surcharge: Option<u64>,
    /// What became of answers that a connection had to give at once.
    pub answers: Pressed,
    /// Those answers before they are compressed; empty in between.
    said: Vec<u8>,
    /// What a message is inflated into. Its bytes are written over, never made anew.
    room: Vec<u8>,
}

impl Deflate {
    /// Whether there is something in its counters, for the driver to take.
    #[must_use]
    pub fn has_counted(&self) -> bool {
        self.bytes_inflated > 0 || self.answers != Pressed::default()
    }

    /// Room for a message: give it back.
    pub(crate) fn take_room(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.room)
    }

    /// Gives room back: of a message far larger than others, no more is kept than they need.
    pub(crate) fn put_room(&mut self, mut room: Vec<u8>) {
        room.truncate(KEPT_ROOM);
        room.shrink_to(KEPT_ROOM);
        self.room = room;
    }

    /// Inflates a message into `room`, no further than `limit` and one byte.
    pub(crate) fn inflate<'r>(
        &mut self,
        compressed: Compressed<'_>,
        limit: usize,
        room: &'r mut Vec<u8>,
    ) -> Result<&'r [u8], Broken> {
        let inflater = self.inflater.get_or_insert_default();
        let inflated = inflater.inflate(compressed, limit, room);
        self.bytes_inflated += inflater.inflated_bytes();
        self.messages_inflated += u64::from(inflated.is_ok());
        inflated
    }

    /// As [`Inflater::more_blocks`].
    pub(crate) fn more_blocks(&self) -> u64 {
        self.inflater.as_ref().map_or(0, |inflater| inflater.more_blocks())
    }

    /// As [`Inflater::surcharge_bytes`].
    pub(crate) fn surcharge_bytes(&self) -> u64 {
        self.inflater.as_ref().map_or(0, |inflater| inflater.surcharge_bytes())
    }

    /// Compresses the whole frames behind `start`, as far as the rules say.
    pub(crate) fn compress_answers(&mut self, agreed: Agreed, rules: &Compression, out: &mut Vec<u8>, start: usize) {
        if out.len() - start < rules.threshold_bytes {
            return;
        }
        let mut said = core::mem::take(&mut self.said);
        said.extend_from_slice(&out[start..]);
        out.truncate(start);
        let pressed = self.push_frames(agreed, rules, &said, out);
        self.answers.messages += pressed.messages;
        self.answers.skipped += pressed.skipped;
        self.answers.saved_bytes += pressed.saved_bytes;
        said.clear();
        said.shrink_to(KEPT_ROOM);
        self.said = said;
    }
}

#[cfg(test)]
mod blocks_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod zlib_tests;
