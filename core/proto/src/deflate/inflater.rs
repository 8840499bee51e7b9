//! Inflates whole messages, each by itself (RFC 7692 section 7.2.2), and no byte more than one may have.

use core::fmt;

use zlib_rs::{Inflate, InflateFlush, Status};

use crate::codec::CompressionFault;

/// The largest window: that of a client without `client_max_window_bits`.
const WINDOW_BITS: u8 = 15;
/// What a sender leaves out at the end of a message (RFC 7692 section 7.2.1): the lengths of an empty stored block.
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
/// A final empty block: a stream that takes it as one was between two blocks.
const FINAL_BLOCK: [u8; 5] = [1, 0, 0, 0xff, 0xff];
/// The room that a message is given at first.
const FIRST_ROOM: usize = 4096;

/// A block of so many bytes may bring codes of its own. To read those costs as much as many bytes of a message do, and honest
/// senders do it for some thousand bytes: a message of nothing else would cost a hundred times what an honest one does.
const BYTES_WITH_CODES: u64 = 8;
/// What such a block costs, where a smaller one costs 1.
const WORK_OF_CODES: u64 = 16;
/// Blocks with codes that any message may have, beside one for each of its frames: whoever writes often may flush often.
const FREE_BLOCKS: u64 = 256;
/// Bytes of a message for which it may have one more: zlib with the least memory begins a block after 127.
const BYTES_PER_BLOCK: u64 = 100;

/// Blocks with codes that no message is charged for: its own, what ends it, and one for so many of its bytes. Honest senders have
/// fewer: those that keep the least begin one after 2047 bytes, zlib as it comes after 16 383.
const UNCHARGED_BLOCKS: u64 = 2;
const BYTES_PER_UNCHARGED_BLOCK: u64 = 1024;
/// What a message is charged for any more work, in bytes: 512 for a block with codes. The worst of those takes about 1000 ns, a
/// small one 40, and 2 KiB of JSON some 1.4 ns a byte: no byte that is charged costs twice that.
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
pub struct Inflater {
    state: Inflate,
    /// What the blocks of the last message have cost.
    work: u64,
}

impl fmt::Debug for Inflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inflater")
    }
}

impl Default for Inflater {
    fn default() -> Self {
        Self { state: Inflate::new(false, WINDOW_BITS), work: 0 }
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

/// What a step of a message came to.
struct Fed {
    /// Bytes that were used.
    used: usize,
    /// Its final block has ended.
    has_ended: bool,
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
        let Compressed { payload: compressed, frames } = compressed;
        self.state.reset(false);
        self.work = 0;
        let mut len = 0;
        let fed = self.feed(compressed, frames, limit, room, &mut len)?;
        if fed.has_ended {
            check_behind(&compressed[fed.used..])?;
        } else {
            self.check_end()?;
        }
        Ok(&room[..len])
    }

    /// How many bytes the last message was inflated to, whatever became of it.
    pub fn inflated_bytes(&self) -> u64 {
        self.state.total_out()
    }

    /// How many blocks with codes the last message had beyond its first, whatever became of it: each costs about what a kilobyte
    /// does.
    pub fn more_blocks(&self) -> u64 {
        (self.work / WORK_OF_CODES).saturating_sub(1)
    }

    /// Bytes that the last message is to be charged for its blocks, beside those that it was inflated to.
    pub fn surcharge_bytes(&self) -> u64 {
        let free = UNCHARGED_BLOCKS + self.inflated_bytes() / BYTES_PER_UNCHARGED_BLOCK;
        self.work.saturating_sub(WORK_OF_CODES * free) * BYTES_OF_WORK
    }

    /// Inflates `input` to where it, or a final block in it, ends: block by block.
    fn feed(
        &mut self,
        input: &[u8],
        frames: u32,
        limit: usize,
        room: &mut Vec<u8>,
        len: &mut usize,
    ) -> Result<Fed, Broken> {
        let most = limit.saturating_add(1);
        let mut used = 0;
        loop {
            if *len == room.len() {
                room.resize(most.min((room.len() * 2).max(FIRST_ROOM)), 0);
            }
            let end = room.len().min(most);
            let (before_in, before_out) = (self.state.total_in(), self.state.total_out());
            let status = self.state.decompress(&input[used..], &mut room[*len..end], InflateFlush::Block);
            let (taken, made) = (self.state.total_in() - before_in, self.state.total_out() - before_out);
            used += taken as usize;
            *len += made as usize;
            if *len > limit {
                return Err(Broken::TooBig);
            }
            // Where the room was full, the block goes on.
            if *len < end {
                self.work += if taken < BYTES_WITH_CODES { 1 } else { WORK_OF_CODES };
            }
            if self.work > WORK_OF_CODES * (FREE_BLOCKS + u64::from(frames) + *len as u64 / BYTES_PER_BLOCK) {
                return Err(Broken::Corrupt(CompressionFault::TooManyBlocks));
            }
            match status {
                Ok(Status::StreamEnd) => return Ok(Fed { used, has_ended: true }),
                Ok(_) if used == input.len() && taken == 0 && made == 0 && *len < end => {
                    return Ok(Fed { used, has_ended: false });
                }
                Ok(_) => {}
                Err(_) => return Err(Broken::Corrupt(CompressionFault::Invalid)),
            }
        }
    }

    /// Whether the message ends between two blocks, as what its sender has left out says.
    fn check_end(&mut self) -> Result<(), Broken> {
        let is_ended = self.takes_as_empty(&TAIL)?;
        if is_ended || self.takes_as_empty(&FINAL_BLOCK)? {
            return Ok(());
        }
        Err(Broken::Corrupt(CompressionFault::Truncated))
    }

    /// Takes all of `bytes`, which must not become bytes of the message; whether they end its final block.
    fn takes_as_empty(&mut self, bytes: &[u8]) -> Result<bool, Broken> {
        // A stored block that was cut off could take them for its data.
        let (mut out, inflated, start) = ([0; 64], self.state.total_out(), self.state.total_in());
        let status = self.state.decompress(bytes, &mut out, InflateFlush::NoFlush);
        let is_all = (self.state.total_in() - start) as usize == bytes.len();
        match status {
            Ok(status) if is_all && self.state.total_out() == inflated => Ok(status == Status::StreamEnd),
            _ => Err(Broken::Corrupt(CompressionFault::Truncated)),
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
