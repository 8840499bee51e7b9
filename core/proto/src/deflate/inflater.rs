//! Inflates whole messages, each by itself (RFC 7692 section 7.2.2), and no byte more than one may have.

use core::fmt;

use super::blocks::{Blocks, Fault, Head, Kind, Progress};
use super::input::Input;
use crate::codec::CompressionFault;

/// The room that a message is given at first.
const FIRST_ROOM: usize = 4096;

/// What a block costs that brings codes of its own, where another costs 1. To read codes takes up to 48 000 instructions, as much as
/// 3000 bytes of a message do, and honest senders do it for some thousand bytes: a message of nothing else would cost a hundred
/// times what an honest one does.
const WORK_OF_CODES: u64 = 64;
/// Blocks with codes that any message may have, beside one for each of its frames: whoever writes often may flush often.
const FREE_BLOCKS: u64 = 256;
/// Bytes of a message for which it may have one more: zlib with the least memory begins a block after 127.
const BYTES_PER_BLOCK: u64 = 100;

/// Blocks with codes that no message is charged for: its own, what ends it, and one for so many of its bytes. Honest senders have
/// fewer: those that keep the least begin one after 2047 bytes, zlib as it comes after 16 383.
const UNCHARGED_BLOCKS: u64 = 2;
const BYTES_PER_UNCHARGED_BLOCK: u64 = 1024;
/// Wherever one with codes may be, so many others may be: they cost far less.
const OTHERS_PER_BLOCK: u64 = 16;
/// What a message is charged for any more work, in bytes: 2048 for a block with codes. The worst of those takes 48 000
/// instructions, a small one 200, and 2 KiB of JSON 16 a byte: no byte that is charged costs twice that.
const BYTES_OF_WORK: u64 = 32;

/// Why a message is not inflated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// It is longer than the limit.
    TooBig,
    /// It is no message.
    Corrupt(CompressionFault),
}

/// The inflater of a shard. Nothing of a message is left in it for the next one.
#[derive(Default)]
pub struct Inflater {
    blocks: Blocks,
    /// Blocks of the last message with codes of their own, and others.
    with_codes: u64,
    others: u64,
    /// What the last message was inflated to.
    inflated: u64,
}

impl fmt::Debug for Inflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inflater")
    }
}

/// A whole message as it came.
#[derive(Clone, Copy, Debug)]
pub struct Compressed<'m> {
    /// Its payload, fragments put together.
    pub payload: &'m [u8],
    /// The frames it came in.
    pub frames: u32,
}

impl Inflater {
    // THREATS D3, D6.
    /// Inflates a message into `room`, whose bytes are only written over, and which grows as the message does: never over
    /// `limit` and one byte. A message that is longer is given up at that byte.
    ///
    /// # Errors
    /// See [`Broken`].
    pub fn inflate<'r>(
        &mut self,
        compressed: Compressed<'_>,
        limit: usize,
        room: &'r mut Vec<u8>,
    ) -> Result<&'r [u8], Broken> {
        let (mut len, mut input) = (0, Input::new(compressed.payload));
        (self.with_codes, self.others) = (0, 0);
        let read = self.read(&mut input, compressed.frames, limit, room, &mut len);
        self.inflated = len as u64;
        read?;
        Ok(&room[..len])
    }

    /// How many bytes the last message was inflated to, whatever became of it.
    pub fn inflated_bytes(&self) -> u64 {
        self.inflated
    }

    /// How many blocks with codes the last message had beyond its first, whatever became of it: each costs about what a kilobyte
    /// does, or more.
    pub fn more_blocks(&self) -> u64 {
        self.with_codes.saturating_sub(1)
    }

    /// Bytes that the last message is to be charged for its blocks, beside those that it was inflated to.
    pub fn surcharge_bytes(&self) -> u64 {
        let free = UNCHARGED_BLOCKS + self.inflated_bytes() / BYTES_PER_UNCHARGED_BLOCK;
        let work =
            WORK_OF_CODES * self.with_codes.saturating_sub(free) + self.others.saturating_sub(OTHERS_PER_BLOCK * free);
        work * BYTES_OF_WORK
    }

    /// Inflates a message block by block.
    fn read(
        &mut self,
        input: &mut Input<'_>,
        frames: u32,
        limit: usize,
        room: &mut Vec<u8>,
        len: &mut usize,
    ) -> Result<(), Broken> {
        loop {
            let block = self.block(input, limit.saturating_add(1), room, len);
            if *len > limit {
                return Err(Broken::TooBig);
            }
            match block {
                Ok(Head { kind: Kind::Stored(_) | Kind::LeftOut | Kind::Fixed, .. }) => self.others += 1,
                Ok(Head { kind: Kind::Own, .. }) | Err(_) => self.with_codes += 1,
            }
            let blocks = self.with_codes + self.others / OTHERS_PER_BLOCK;
            if blocks > FREE_BLOCKS + u64::from(frames) + *len as u64 / BYTES_PER_BLOCK {
                return Err(Broken::Corrupt(CompressionFault::TooManyBlocks));
            }
            match block {
                Ok(Head { kind: Kind::LeftOut, .. }) => return Ok(()),
                Ok(Head { is_final: true, .. }) => return check_behind(input.rest()),
                Ok(_) => {}
                Err(Fault::Truncated) => return Err(Broken::Corrupt(CompressionFault::Truncated)),
                Err(Fault::Invalid) => return Err(Broken::Corrupt(CompressionFault::Invalid)),
            }
        }
    }

    /// Inflates a block. `len` comes to `most` if it is longer.
    fn block(
        &mut self,
        input: &mut Input<'_>,
        most: usize,
        room: &mut Vec<u8>,
        len: &mut usize,
    ) -> Result<Head, Fault> {
        let head = self.blocks.head(input)?;
        let mut kind = head.kind;
        loop {
            let end = room.len().min(most);
            match self.blocks.read(&mut kind, input, &mut room[..end], len)? {
                Progress::Ended => return Ok(head),
                Progress::Full if end < most => {
                    let more = most.min((room.len() * 2).max(FIRST_ROOM));
                    // Exactly: else the last byte of a message, which is only there to be one too many, would double it.
                    room.reserve_exact(more - room.len());
                    room.resize(more, 0);
                }
                Progress::Full => {
                    *len = most;
                    return Ok(head);
                }
            }
        }
    }
}

/// What may stand behind a final block (RFC 7692 section 7.2.3.4): nothing, or one empty block, with or without its lengths.
fn check_behind(rest: &[u8]) -> Result<(), Broken> {
    match rest {
        [] | [0] | [0, 0, 0, 0xff, 0xff] => Ok(()),
        _ => Err(Broken::Corrupt(CompressionFault::Trailing)),
    }
}
